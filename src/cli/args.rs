//! What was typed: flags and environment as they are, nothing checked that needs more than itself.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args as Group, Parser, Subcommand, ValueEnum};

mod bootstrap;
mod capture;
mod caution;
mod config;
mod dev;
mod evidence;
mod fqdn;
mod http;
mod layered;
mod reach;
mod run;
mod stream;

pub(super) use bootstrap::{BootstrapArgs, StarterName};
pub(super) use caution::CautionArgs;
mod verdicts;
mod watch;

pub(super) use capture::{FlowKind, RecordArgs};
pub(super) use config::{ConfigArgs, ConfigCommand};
pub(super) use dev::{CaptureArgs, DecideArgs, DevArgs, DevCommand, LoadArgs};
pub(super) use evidence::{EvidenceArgs, EvidenceCommand, ExplainArgs, ExplainFormat, KeepArgs};
pub(super) use fqdn::{FqdnArgs, FqdnMode};
pub(super) use http::HttpArgs;
pub(super) use layered::{Kind, Layer, Place, Places, Setting, settings_of};
pub(super) use reach::{ClusterArgs, ClusterDedup, ReachArgs};
pub(super) use run::{GenerateArgs, ReplayArgs, RunArgs};
pub(super) use stream::StreamArgs;
pub(super) use verdicts::VerdictArgs;
pub(super) use watch::WatchArgs;

/// Turns the dropped flows of a Cilium cluster into the CiliumNetworkPolicy files that would have
/// allowed exactly them.
#[derive(Debug, Parser)]
#[command(name = "cpg", version, max_term_width = 110, after_help = EXAMPLES, args_override_self = true)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) log: LogArgs,
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXAMPLES: &str = "Examples:
  cpg demo                                       watch it work, no cluster needed
  cpg generate -n shop                           follow the Hubble Relay of your kubeconfig's cluster
  cpg generate --server localhost:4245 -n shop   the same at an address; both write policies/shop/*.yaml
  cpg replay drops.jsonl.gz                      the same from a capture (hubble observe -o jsonpb)
  hubble observe -f -o jsonpb | cpg replay -     from a pipe

cpg never applies anything: review the files, commit them, let your GitOps apply them.
Every flag can be given as environment variable: --output-dir is CPG_OUTPUT_DIR.
Exit codes: 0 done; 1 infrastructure drops were seen (with --fail-on-infra-drops); 2 something kept cpg from doing its work;
3 files would change (with --dry-run --exit-code).";

#[derive(Debug, Group)]
pub(super) struct LogArgs {
    /// Log each different flow that became no rule, and each rule with a flow behind it
    #[arg(long, global = true, env = "CPG_DEBUG", value_parser = FalseyValueParser::new())]
    pub(super) debug: bool,
    /// error, warn, info, debug or trace
    #[arg(long, global = true, env = "CPG_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: String,
    /// Form of the log and of the summary, both on standard error
    #[arg(long, global = true, env = "CPG_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Follow a Hubble Relay and keep the policy files up to date
    #[command(
        args_override_self = true,
        after_help = "Examples:
  cpg generate                                         all namespaces, into ./policies
  cpg generate --context prod -n shop                  another cluster of the kubeconfig
  cpg generate --server relay:4245 -n shop -n pay -o gitops/policies
  cpg generate --duration 5m --fail-on-infra-drops       from cron: 0 fine, 1 broken network, 2 not done
  cpg generate --metrics-listen :9090                    as a service, with probes

Ends on Ctrl-C or SIGTERM, after the last window is on disk; a second signal ends it at once."
    )]
    Generate(Box<GenerateArgs>),
    /// Read captures (hubble observe -o jsonpb) and write the policy files for them
    #[command(
        args_override_self = true,
        after_help = "Examples:
  cpg replay drops.jsonl                     one capture, plain or gzip
  cpg replay node1.jsonl node2.jsonl.gz      several, one result
  cpg replay --context prod drops.jsonl      without what that cluster's policies allow already
  kubectl exec … -- hubble observe -o jsonpb | cpg replay -"
    )]
    Replay(Box<ReplayArgs>),
    /// Record flows from a Hubble Relay into a capture for later replays
    #[command(
        args_override_self = true,
        after_help = "Examples:
  cpg capture -n shop --duration 10m -o shop.jsonl.gz     everything that a replay can use, then
  cpg replay --learn shop.jsonl.gz                        in any mode, as often as wanted
  cpg capture --only drops -o - | cpg replay -            only what was dropped, through a pipe

The lines are those of hubble observe -o jsonpb, with whole flows; queries, users and fragments of URLs, HTTP headers
and the summary of L7 flows are left out, whatever the cluster redacts. The file appears when it is whole, also after
Ctrl-C. Exit codes: 0 captured; 2 something kept cpg from doing its work."
    )]
    Capture(Box<RecordArgs>),
    /// Play a story through the real pipeline: a relay inside of the process, a small shop behind it
    #[command(after_help = "Examples:
  cpg demo                          play it once and look at the files
  cpg demo --serve 127.0.0.1:4245   only serve, over and over; then, in another terminal:
  cpg generate --server 127.0.0.1:4245")]
    Demo(DemoArgs),
    /// Print a policy to begin with for a namespace: HTTP visibility, default deny, or DNS through the proxy
    #[command(after_help = "Examples:
  cpg bootstrap default-deny -n shop             comments say what it does; review it, commit it
  cpg bootstrap l7-visibility -n shop -n pay     so that Hubble shows HTTP requests, for --l7")]
    Bootstrap(BootstrapArgs),
    /// Say of each rule of a policy where it stands, and because of which flows
    #[command(
        args_override_self = true,
        after_help = "Examples:
  cpg explain shop/web                           policies/shop/web.yaml
  cpg explain policies/shop/web.yaml --egress --port 53
  cpg explain shop/web --peer app=api --since 7d --json

Exit codes: 0 found; 2 not found or unreadable."
    )]
    Explain(Box<ExplainArgs>),
    /// Join evidence of several machines or runs; say where it is
    Evidence(EvidenceArgs),
    /// Say what the API server and Cilium's agent would refuse in policy files, and what does nothing
    #[command(
        args_override_self = true,
        after_help = "Examples:
  cpg validate policies/                      every YAML file below a directory
  cpg validate --cilium-version 1.16 web.yaml
  kustomize build . | cpg validate --output json -

Exit codes: 0 clean; 1 refusals or warnings; 2 something could not be read."
    )]
    Validate(ValidateArgs),
    /// Show and change cpg's config file, whose keys are the flags of generate and replay
    #[command(after_help = "Examples:
  cpg config view                          every value, and where it comes from
  cpg config set namespace shop pay
  cpg config set tls true
  cpg config reset tls                     takes it out of the file; without a key the whole file goes

The file is $XDG_CONFIG_HOME/cpg/config.yaml, or what CPG_CONFIG names. A flag wins over a CPG_ variable, that
over a HUBBLE_ variable, that over the file of --hubble-config, that over this file, that over the default.")]
    Config(ConfigArgs),
    /// Tools for people who work on cpg
    #[command(hide = true)]
    Dev(DevArgs),
}

#[derive(Debug, Group)]
pub(super) struct ValidateArgs {
    /// Files, directories, or - for standard input
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// The version of Cilium that is to take them: 1.16 to 1.20
    #[arg(long, env = "CPG_CILIUM_VERSION", value_name = "VERSION", default_value = "1.19")]
    pub(super) cilium_version: String,
    /// Form of the findings on standard output
    #[arg(long, env = "CPG_OUTPUT", value_enum, default_value_t = OutputFormat::Text)]
    pub(super) output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    Text,
    Json,
}

#[derive(Debug, Group)]
pub(super) struct DemoArgs {
    /// Only serve the story on this address, over and over
    #[arg(long, env = "CPG_SERVE", value_name = "ADDR")]
    pub(super) serve: Option<String>,
    /// Where the files go (default: a new directory below the system's temporary one)
    #[arg(short, long, env = "CPG_OUTPUT_DIR", value_name = "DIR")]
    pub(super) output_dir: Option<PathBuf>,
}

/// A mistake of use, or help that was asked for.
pub(super) struct Usage {
    /// What to print.
    pub(super) text: String,
    /// It was a mistake: print it to standard error.
    pub(super) is_mistake: bool,
}

// === impl Command ===

impl Command {
    /// Whether it follows or reads flows, so that the layers below the flags count for it; and the config
    /// file of the Hubble CLI that was named.
    pub(super) fn layered(&self) -> Option<Option<&std::path::Path>> {
        match self {
            Self::Generate(args) => Some(args.reach.hubble_config.as_deref()),
            Self::Capture(args) => Some(args.reach.hubble_config.as_deref()),
            Self::Replay(_) | Self::Explain(_) => Some(None),
            _ => None,
        }
    }

    /// What the commands that learn from flows have in common.
    fn run(&self) -> Option<&RunArgs> {
        match self {
            Self::Generate(args) => Some(&args.run),
            Self::Replay(args) => Some(&args.run),
            _ => None,
        }
    }
}

// === impl Args ===

impl Args {
    /// Whether the end of the run is to stay on the screen.
    pub(super) fn hold(&self) -> bool {
        self.command.run().is_some_and(|run| run.hold)
    }

    /// The form of the log: `--json` of a command counts too.
    pub(super) fn json(&self) -> bool {
        self.command.run().is_some_and(|run| run.json) || self.log.log_format == LogFormat::Json
    }
}
