//! The flags about evidence, and the commands that read it.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args as Group, Subcommand, ValueEnum};

/// What generate and replay do with what was learned.
#[derive(Debug, Group)]
#[command(next_help_heading = "Dry run and evidence")]
pub(in crate::cli) struct KeepArgs {
    /// Write nothing; show on standard output what would change in the files
    #[arg(long, env = "CPG_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) dry_run: bool,
    /// With --dry-run: do not show the changes, only the summary
    #[arg(long, env = "CPG_NO_DIFF", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) no_diff: bool,
    /// With --dry-run: exit with 3 when files would change
    #[arg(long, env = "CPG_EXIT_CODE", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) exit_code: bool,
    /// Where is kept why each rule exists, of this output directory only (default: in the user's cache
    /// directory, below cpg/evidence)
    #[arg(long, env = "CPG_EVIDENCE_DIR", value_name = "DIR")]
    pub(in crate::cli) evidence_dir: Option<PathBuf>,
    /// Do not keep why each rule exists
    #[arg(long, env = "CPG_NO_EVIDENCE", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) no_evidence: bool,
    /// Sessions that are told apart for each rule, from 1 to 1000
    #[arg(long, env = "CPG_EVIDENCE_SESSIONS", value_name = "N", default_value = "10")]
    pub(in crate::cli) evidence_sessions: usize,
    /// Sample flows that are kept for each rule, from 0 to 10
    #[arg(long, env = "CPG_EVIDENCE_SAMPLES", value_name = "N", default_value = "10")]
    pub(in crate::cli) evidence_samples: usize,
}

#[derive(Debug, Group)]
pub(in crate::cli) struct ExplainArgs {
    /// A policy: its namespace and workload as its file is called, or a file
    #[arg(value_name = "NS/WORKLOAD | FILE")]
    pub(in crate::cli) target: String,
    /// Where the policy files are
    #[arg(short = 'o', long, env = "CPG_OUTPUT_DIR", value_name = "DIR", default_value = "policies")]
    pub(in crate::cli) output_dir: PathBuf,
    /// Where the evidence of this output directory is (default: where generate and replay put it)
    #[arg(long, env = "CPG_EVIDENCE_DIR", value_name = "DIR")]
    pub(in crate::cli) evidence_dir: Option<PathBuf>,
    /// Only what may come in; with --egress both
    #[arg(long)]
    pub(in crate::cli) ingress: bool,
    /// Only what may go out
    #[arg(long)]
    pub(in crate::cli) egress: bool,
    /// Only this port: 53, or with its protocol 53/udp
    #[arg(long, value_name = "PORT")]
    pub(in crate::cli) port: Option<String>,
    /// Only peers that are selected by this label (repeatable: by all of them)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(in crate::cli) peer: Vec<String>,
    /// Only addresses in this range
    #[arg(long, value_name = "CIDR")]
    pub(in crate::cli) peer_cidr: Option<String>,
    /// Only this entity: host, remote-node, kube-apiserver, …
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) entity: Option<String>,
    /// Only requests with this method
    #[arg(long, value_name = "METHOD")]
    pub(in crate::cli) http_method: Option<String>,
    /// Only requests with this path: as it was observed, or as the rule writes it
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) http_path: Option<String>,
    /// Only DNS queries for this name, or for names that this pattern means (*.example.com)
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) dns_pattern: Option<String>,
    /// Only peers by this name (toFQDNs), or by names that this pattern means
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) fqdn: Option<String>,
    /// Only what was seen since then: a time, or how long ago (7d, 12h)
    #[arg(long, value_name = "TIME")]
    pub(in crate::cli) since: Option<String>,
    /// Form of the answer on standard output
    #[arg(long, env = "CPG_OUTPUT", value_enum, default_value_t = ExplainFormat::Text)]
    pub(in crate::cli) output: ExplainFormat,
    /// Short for --output json
    #[arg(long, env = "CPG_JSON", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ExplainFormat {
    Text,
    Json,
    Yaml,
}

#[derive(Debug, Group)]
pub(in crate::cli) struct EvidenceArgs {
    #[command(subcommand)]
    pub(in crate::cli) command: EvidenceCommand,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum EvidenceCommand {
    /// Join the evidence of several directories; what several of them tell of one session counts once
    Merge {
        /// Directories with evidence, as --evidence-dir names them
        #[arg(required = true, value_name = "DIR")]
        from: Vec<PathBuf>,
        /// Where the result goes; what is there already is joined too
        #[arg(short = 'o', long, value_name = "DIR")]
        output_dir: PathBuf,
        /// Sessions that are told apart for each rule, from 1 to 1000
        #[arg(long, env = "CPG_EVIDENCE_SESSIONS", value_name = "N", default_value = "10")]
        evidence_sessions: usize,
        /// Sample flows that are kept for each rule, from 0 to 10
        #[arg(long, env = "CPG_EVIDENCE_SAMPLES", value_name = "N", default_value = "10")]
        evidence_samples: usize,
    },
    /// Print where the evidence of an output directory is
    Dir {
        /// The output directory
        #[arg(short = 'o', long, env = "CPG_OUTPUT_DIR", value_name = "DIR", default_value = "policies")]
        output_dir: PathBuf,
    },
}
