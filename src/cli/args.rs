//! What was typed: flags and environment as they are, nothing checked that needs more than itself.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args as Group, Parser, Subcommand, ValueEnum};

mod evidence;
mod layered;
mod watch;

pub(super) use evidence::{EvidenceArgs, EvidenceCommand, ExplainArgs, ExplainFormat, KeepArgs};
pub(super) use layered::{Kind, Layer, Place, Places, Setting, settings_of};
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
    /// Play a story through the real pipeline: a relay inside of the process, a small shop behind it
    #[command(after_help = "Examples:
  cpg demo                          play it once and look at the files
  cpg demo --serve 127.0.0.1:4245   only serve, over and over; then, in another terminal:
  cpg generate --server 127.0.0.1:4245")]
    Demo(DemoArgs),
    /// Say of each rule of a policy where it stands, and because of which flows
    #[command(
        args_override_self = true,
        after_help = "Examples:
  cpg explain shop/web                           policies/shop/web.yaml
  cpg explain policies/shop/web.yaml --egress --port 53
  cpg explain shop/web --peer app=api --since 7d --json

Exit codes: 0 found; 2 not found or unreadable."
    )]
    Explain(ExplainArgs),
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
pub(super) struct GenerateArgs {
    /// Do not ask Cilium's settings and the relay's nodes at the start
    #[arg(long, env = "CPG_NO_PREFLIGHT", value_parser = FalseyValueParser::new())]
    pub(super) no_preflight: bool,
    /// Write to the output directory even if its policies are those of another cluster; it is this one's then
    #[arg(long, env = "CPG_ACCEPT_CLUSTER", value_parser = FalseyValueParser::new())]
    pub(super) accept_cluster: bool,
    /// End after so long, as on SIGTERM (default: never)
    #[arg(long, env = "CPG_DURATION", value_name = "DURATION")]
    pub(super) duration: Option<String>,
    /// Serve /metrics, /healthz and /readyz on this address, for example :9090 or 127.0.0.1:9090
    #[arg(long, env = "CPG_METRICS_LISTEN", value_name = "ADDR")]
    pub(super) metrics_listen: Option<String>,
    #[command(flatten)]
    pub(super) watch: WatchArgs,
    #[command(flatten)]
    pub(super) run: RunArgs,
    // Last, because its heading goes on.
    #[command(flatten)]
    pub(super) reach: ReachArgs,
}

/// The way to the relay. `HUBBLE_SERVER`, `HUBBLE_TLS` and so on, as the Hubble CLI knows them, count
/// where neither the flag nor the `CPG_` variable is given.
#[derive(Debug, Group)]
#[command(next_help_heading = "The way to the relay")]
pub(super) struct ReachArgs {
    /// Address of the Hubble Relay: host:port, tls://host:port or unix:///path (default: found through the
    /// kubeconfig, and reached by a port-forward that cpg makes itself)
    #[arg(long, env = "CPG_SERVER", value_name = "ADDRESS")]
    pub(super) server: Option<String>,
    /// How long connecting may take
    #[arg(long, env = "CPG_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    pub(super) timeout: String,
    /// Config file of the Hubble CLI: its server and TLS settings are used
    #[arg(long, env = "CPG_HUBBLE_CONFIG", value_name = "FILE")]
    pub(super) hubble_config: Option<PathBuf>,
    /// End when the stream ends, instead of connecting again
    #[arg(long, env = "CPG_NO_RECONNECT", value_parser = FalseyValueParser::new())]
    pub(super) no_reconnect: bool,
    /// Kubeconfig of the cluster (default: KUBECONFIG, then ~/.kube/config, then the pod's service account)
    #[arg(long, env = "CPG_KUBECONFIG", value_name = "FILE")]
    pub(super) kubeconfig: Option<std::ffi::OsString>,
    /// Context in the kubeconfig (default: the current one)
    #[arg(long, env = "CPG_CONTEXT", value_name = "NAME")]
    pub(super) context: Option<String>,
    /// Namespace of Cilium and of the relay's Service
    #[arg(long, env = "CPG_KUBE_NAMESPACE", value_name = "NAME", default_value = "kube-system")]
    pub(super) kube_namespace: String,
    /// Service of the relay
    #[arg(long, env = "CPG_RELAY_SERVICE", value_name = "NAME", default_value = "hubble-relay")]
    pub(super) relay_service: String,
    /// Port of the relay in its pod (default: where the Service leads)
    #[arg(long, env = "CPG_RELAY_PORT", value_name = "PORT")]
    pub(super) relay_port: Option<String>,
    /// Talk TLS to the relay
    #[arg(long, env = "CPG_TLS", value_name = "BOOL", value_parser = FalseyValueParser::new(),
          num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub(super) tls: bool,
    /// CAs that may have signed the relay's certificate, PEM (repeatable; default: those of the system)
    #[arg(long, env = "CPG_TLS_CA_CERT_FILES", value_name = "FILE", value_delimiter = ',')]
    pub(super) tls_ca_cert_files: Vec<PathBuf>,
    /// Certificate that cpg shows to the relay, PEM
    #[arg(long, env = "CPG_TLS_CLIENT_CERT_FILE", value_name = "FILE")]
    pub(super) tls_client_cert_file: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, env = "CPG_TLS_CLIENT_KEY_FILE", value_name = "FILE")]
    pub(super) tls_client_key_file: Option<PathBuf>,
    /// Name that must stand in the relay's certificate (default: the host of --server, and without --server
    /// instance.hubble-relay.cilium.io, as Cilium's chart makes it)
    #[arg(long, env = "CPG_TLS_SERVER_NAME", value_name = "NAME")]
    pub(super) tls_server_name: Option<String>,
    /// Do not check who answers; encryption without knowing with whom
    #[arg(long, env = "CPG_TLS_ALLOW_INSECURE", value_name = "BOOL", value_parser = FalseyValueParser::new(),
          num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub(super) tls_allow_insecure: bool,
}

#[derive(Debug, Group)]
pub(super) struct ReplayArgs {
    /// Captures: what hubble observe or the exporter wrote, plain, gzip or zstd; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// FILE is still written: read on until a signal, also when it is rotated
    #[arg(long, env = "CPG_FOLLOW", value_parser = FalseyValueParser::new())]
    pub(super) follow: bool,
    /// Threads that parse (default: one per CPU, at most 8)
    #[arg(long, env = "CPG_THREADS", value_name = "N")]
    pub(super) threads: Option<usize>,
    #[command(flatten)]
    pub(super) run: RunArgs,
    // Last, because its heading goes on.
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// The cluster whose policies replay counts.
#[derive(Debug, Group)]
#[command(next_help_heading = "The cluster's policies")]
pub(super) struct ClusterArgs {
    /// Kubeconfig of the cluster (default: KUBECONFIG, then ~/.kube/config, then the pod's service account)
    #[arg(long, env = "CPG_KUBECONFIG", value_name = "FILE")]
    pub(super) kubeconfig: Option<std::ffi::OsString>,
    /// Context in the kubeconfig (default: the current one)
    #[arg(long, env = "CPG_CONTEXT", value_name = "NAME")]
    pub(super) context: Option<String>,
    /// How long reaching the cluster and listing its policies may take
    #[arg(long, env = "CPG_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    pub(super) timeout: String,
    /// Write to the output directory even if its policies are those of another cluster; it is this one's then
    #[arg(long, env = "CPG_ACCEPT_CLUSTER", value_parser = FalseyValueParser::new())]
    pub(super) accept_cluster: bool,
}

/// Whether what the cluster's policies allow already is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ClusterDedup {
    /// Where the cluster is reached through a kubeconfig or as a pod in it, and RBAC permits
    Auto,
    /// Always; that it is not possible is an error
    #[value(name = "true")]
    Always,
    /// Never
    #[value(name = "false")]
    Never,
}

/// What generate and replay have in common.
#[derive(Debug, Group)]
pub(super) struct RunArgs {
    /// Write policies only for pods of this namespace (repeatable)
    #[arg(short, long, env = "CPG_NAMESPACE", value_name = "NAME", value_delimiter = ',')]
    pub(super) namespace: Vec<String>,
    /// Write policies for pods of every namespace; this is what happens without -n too
    #[arg(short = 'A', long, env = "CPG_ALL_NAMESPACES", value_parser = FalseyValueParser::new())]
    pub(super) all_namespaces: bool,
    /// Where the files are: DIR/NAMESPACE/WORKLOAD.yaml
    #[arg(short, long, env = "CPG_OUTPUT_DIR", value_name = "DIR", default_value = "policies")]
    pub(super) output_dir: PathBuf,
    /// How often what was learned goes to the files
    #[arg(long, env = "CPG_FLUSH_INTERVAL", value_name = "DURATION", default_value = "5s")]
    pub(super) flush_interval: String,
    /// Leave out flows of this protocol: tcp, udp, icmpv4, icmpv6, sctp (repeatable)
    #[arg(long, env = "CPG_IGNORE_PROTOCOL", value_name = "PROTOCOL", value_delimiter = ',')]
    pub(super) ignore_protocol: Vec<String>,
    /// Leave out drops with this reason, by its name in Hubble (repeatable)
    #[arg(long, env = "CPG_IGNORE_DROP_REASON", value_name = "REASON", value_delimiter = ',')]
    pub(super) ignore_drop_reason: Vec<String>,
    /// Leave out what a policy in the cluster allows already: auto, true or false. auto: where the cluster is
    /// reached through a kubeconfig (replay: only where --kubeconfig or --context was given, as flag or CPG_
    /// variable) and RBAC permits; true: anything that prevents it is an error
    #[arg(
        long,
        env = "CPG_CLUSTER_DEDUP",
        value_name = "MODE",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub(super) cluster_dedup: ClusterDedup,
    /// Exit with 1 when infrastructure dropped a flow since the start; in a replay, anywhere in the capture
    #[arg(long, env = "CPG_FAIL_ON_INFRA_DROPS", value_parser = FalseyValueParser::new())]
    pub(super) fail_on_infra_drops: bool,
    /// Up to N infrastructure drops with this reason are known noise and do not count (repeatable)
    #[arg(long, env = "CPG_INFRA_THRESHOLD", value_name = "REASON=N", value_delimiter = ',')]
    pub(super) infra_threshold: Vec<String>,
    /// Where the report of drops that no policy helps goes (default: cluster-health.json in the user's cache
    /// directory)
    #[arg(long, env = "CPG_HEALTH_FILE", value_name = "FILE")]
    pub(super) health_file: Option<PathBuf>,
    /// How long the last window may take to reach the disk after a signal
    #[arg(long, env = "CPG_SHUTDOWN_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    pub(super) shutdown_timeout: String,
    /// At the end wait for a key, where standard input and error are a terminal: k9s clears the screen afterwards.
    /// While it runs q ends it as Ctrl-C does
    #[arg(long, env = "CPG_HOLD", value_parser = FalseyValueParser::new())]
    pub(super) hold: bool,
    /// Short for --log-format json
    #[arg(long, env = "CPG_JSON", value_parser = FalseyValueParser::new())]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) keep: KeepArgs,
}

#[derive(Debug, Group)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting, its value and where that comes from
    View,
    /// Print the value of one setting
    Get {
        /// The flag without its dashes
        key: String,
    },
    /// Write a value to the config file
    Set {
        /// The flag without its dashes
        key: String,
        /// Several where the flag can be repeated
        #[arg(required = true)]
        values: Vec<String>,
    },
    /// Take a value out of the config file, or remove the file
    Reset {
        /// The flag without its dashes
        key: Option<String>,
    },
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

#[derive(Debug, Group)]
pub(super) struct DevArgs {
    #[command(subcommand)]
    pub(super) command: DevCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DevCommand {
    /// Write a realistic capture and what has to come of it
    Capture(CaptureArgs),
    /// Serve flows as fast as the client reads, for measuring
    Load(LoadArgs),
    /// Answer questions about policies, one JSON object a line, as the testbed's judge does
    Decide(DecideArgs),
}

#[derive(Debug, Group)]
pub(super) struct DecideArgs {
    /// Version of Cilium: 1.16 to 1.20
    #[arg(long = "cilium", value_name = "VERSION", default_value = "1.19")]
    pub(super) version: String,
}

#[derive(Debug, Group)]
pub(super) struct CaptureArgs {
    /// The same seed gives the same bytes
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Lines of the capture
    #[arg(long, default_value_t = 100_000)]
    pub(super) lines: u64,
    /// The capture
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// The needs that are in it, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub(super) truth: PathBuf,
}

#[derive(Debug, Group)]
pub(super) struct LoadArgs {
    /// Where to serve
    #[arg(long, value_name = "ADDR")]
    pub(super) serve: String,
    /// Capture whose flows are sent
    #[arg(long, value_name = "FILE")]
    pub(super) capture: PathBuf,
    /// How many flows one stream gets before it ends (default: each line of the capture once)
    #[arg(long, value_name = "N")]
    pub(super) flows: Option<u64>,
    /// How many a second (default: as fast as the client reads)
    #[arg(long, value_name = "N")]
    pub(super) rate: Option<u32>,
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
            Self::Replay(_) | Self::Explain(_) => Some(None),
            _ => None,
        }
    }
}

impl Args {
    /// Whether the end of the run is to stay on the screen.
    pub(super) fn hold(&self) -> bool {
        match &self.command {
            Command::Generate(args) => args.run.hold,
            Command::Replay(args) => args.run.hold,
            Command::Demo(_)
            | Command::Validate(_)
            | Command::Explain(_)
            | Command::Evidence(_)
            | Command::Config(_)
            | Command::Dev(_) => false,
        }
    }

    /// The form of the log: `--json` of a command counts too.
    pub(super) fn json(&self) -> bool {
        let short = match &self.command {
            Command::Generate(args) => args.run.json,
            Command::Replay(args) => args.run.json,
            Command::Demo(_)
            | Command::Validate(_)
            | Command::Explain(_)
            | Command::Evidence(_)
            | Command::Config(_)
            | Command::Dev(_) => false,
        };
        short || self.log.log_format == LogFormat::Json
    }
}
