//! Capturing from a relay.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args as Group, ValueEnum};

use super::ReachArgs;

#[derive(Debug, Group)]
pub(in crate::cli) struct RecordArgs {
    /// Where the capture goes: a name that ends in .jsonl, .jsonl.gz or .jsonl.zst (or .json, .ndjson); - is standard
    /// output
    #[arg(short, long, env = "CPG_OUTPUT_FILE", value_name = "FILE")]
    pub(in crate::cli) output_file: PathBuf,
    /// Replace a file that is there
    #[arg(long, env = "CPG_FORCE", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) force: bool,
    /// Only flows from or to pods of this namespace (repeatable; default: all)
    #[arg(short, long, env = "CPG_NAMESPACE", value_name = "NAME", value_delimiter = ',')]
    pub(in crate::cli) namespace: Vec<String>,
    /// End after so long (default: on Ctrl-C or SIGTERM)
    #[arg(long, env = "CPG_DURATION", value_name = "DURATION")]
    pub(in crate::cli) duration: Option<String>,
    /// End after so many flows
    #[arg(long, env = "CPG_MAX_FLOWS", value_name = "N")]
    pub(in crate::cli) max_flows: Option<String>,
    /// Beside drops only flows of this kind (repeatable; default: every kind, so that any later replay finds what it
    /// needs)
    #[arg(long, env = "CPG_ONLY", value_name = "KIND", value_delimiter = ',')]
    pub(in crate::cli) only: Vec<FlowKind>,
    /// Begin with the last N flows that each node still holds (default: all that it holds)
    #[arg(long, env = "CPG_LAST", value_name = "N")]
    pub(in crate::cli) last: Option<String>,
    /// Begin with flows since then, as far as the nodes still hold them: 10m, or a time as 2026-03-01T10:00:00Z
    #[arg(long, env = "CPG_SINCE", value_name = "WHEN")]
    pub(in crate::cli) since: Option<String>,
    /// Begin with what happens from now on
    #[arg(long, env = "CPG_NO_HISTORY", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) no_history: bool,
    /// Do not ask Cilium's settings and the relay's nodes at the start
    #[arg(long, env = "CPG_NO_PREFLIGHT", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) no_preflight: bool,
    // Last, because its heading goes on.
    #[command(flatten)]
    pub(in crate::cli) reach: ReachArgs,
}

/// Kinds of flows that a capture may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum FlowKind {
    /// What was dropped; always captured
    Drops,
    /// What policy audit mode let pass (replay --include-audit)
    Audit,
    /// Connections that pass (replay --learn)
    Forwarded,
    /// DNS queries and HTTP requests that the L7 proxy saw
    L7,
}
