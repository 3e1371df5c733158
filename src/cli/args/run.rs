//! The commands that learn from flows, and what they have in common.

use std::path::PathBuf;

use clap::Args as Group;
use clap::builder::FalseyValueParser;

use super::{
    CautionArgs, ClusterArgs, ClusterDedup, FqdnArgs, HttpArgs, KeepArgs, ReachArgs, StreamArgs, VerdictArgs,
    WatchArgs,
};

#[derive(Debug, Group)]
pub(in crate::cli) struct GenerateArgs {
    /// Do not ask Cilium's settings and the relay's nodes at the start
    #[arg(long, env = "CPG_NO_PREFLIGHT", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) no_preflight: bool,
    /// Write to the output directory even if its policies are those of another cluster; it is this one's then
    #[arg(long, env = "CPG_ACCEPT_CLUSTER", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) accept_cluster: bool,
    /// End after so long, as on SIGTERM (default: never)
    #[arg(long, env = "CPG_DURATION", value_name = "DURATION")]
    pub(in crate::cli) duration: Option<String>,
    /// Serve /metrics, /healthz and /readyz on this address, for example :9090 or 127.0.0.1:9090
    #[arg(long, env = "CPG_METRICS_LISTEN", value_name = "ADDR")]
    pub(in crate::cli) metrics_listen: Option<String>,
    // Its first flags have no heading; those of the others go on.
    #[command(flatten)]
    pub(in crate::cli) run: RunArgs,
    #[command(flatten)]
    pub(in crate::cli) watch: WatchArgs,
    // Last, because its heading goes on.
    #[command(flatten)]
    pub(in crate::cli) reach: ReachArgs,
}

#[derive(Debug, Group)]
pub(in crate::cli) struct ReplayArgs {
    /// Captures: what hubble observe or the exporter wrote, plain, gzip or zstd; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(in crate::cli) files: Vec<PathBuf>,
    /// FILE is still written: read on until a signal, also when it is rotated
    #[arg(long, env = "CPG_FOLLOW", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) follow: bool,
    /// Threads that parse (default: one per CPU, at most 8)
    #[arg(long, env = "CPG_THREADS", value_name = "N")]
    pub(in crate::cli) threads: Option<usize>,
    #[command(flatten)]
    pub(in crate::cli) run: RunArgs,
    // Last, because its heading goes on.
    #[command(flatten)]
    pub(in crate::cli) cluster: ClusterArgs,
}

/// What generate and replay have in common.
#[derive(Debug, Group)]
pub(in crate::cli) struct RunArgs {
    /// Write policies only for pods of this namespace (repeatable)
    #[arg(short, long, env = "CPG_NAMESPACE", value_name = "NAME", value_delimiter = ',')]
    pub(in crate::cli) namespace: Vec<String>,
    /// Write policies for pods of every namespace; this is what happens without -n too
    #[arg(short = 'A', long, env = "CPG_ALL_NAMESPACES", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) all_namespaces: bool,
    /// Where the files are: DIR/NAMESPACE/WORKLOAD.yaml
    #[arg(short, long, env = "CPG_OUTPUT_DIR", value_name = "DIR", default_value = "policies")]
    pub(in crate::cli) output_dir: PathBuf,
    /// How often what was learned goes to the files
    #[arg(long, env = "CPG_FLUSH_INTERVAL", value_name = "DURATION", default_value = "5s")]
    pub(in crate::cli) flush_interval: String,
    #[command(flatten)]
    pub(in crate::cli) fqdn: FqdnArgs,
    /// Leave out flows of this protocol: tcp, udp, icmpv4, icmpv6, sctp (repeatable)
    #[arg(long, env = "CPG_IGNORE_PROTOCOL", value_name = "PROTOCOL", value_delimiter = ',')]
    pub(in crate::cli) ignore_protocol: Vec<String>,
    /// Leave out drops with this reason, by its name in Hubble (repeatable)
    #[arg(long, env = "CPG_IGNORE_DROP_REASON", value_name = "REASON", value_delimiter = ',')]
    pub(in crate::cli) ignore_drop_reason: Vec<String>,
    #[command(flatten)]
    pub(in crate::cli) verdicts: VerdictArgs,
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
    pub(in crate::cli) cluster_dedup: ClusterDedup,
    /// Exit with 1 when infrastructure dropped a flow since the start; in a replay, anywhere in the capture
    #[arg(long, env = "CPG_FAIL_ON_INFRA_DROPS", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) fail_on_infra_drops: bool,
    /// Up to N infrastructure drops with this reason are known noise and do not count (repeatable)
    #[arg(long, env = "CPG_INFRA_THRESHOLD", value_name = "REASON=N", value_delimiter = ',')]
    pub(in crate::cli) infra_threshold: Vec<String>,
    /// Where the report of drops that no policy helps goes (default: cluster-health.json in the user's cache
    /// directory)
    #[arg(long, env = "CPG_HEALTH_FILE", value_name = "FILE")]
    pub(in crate::cli) health_file: Option<PathBuf>,
    /// How long the last window may take to reach the disk after a signal
    #[arg(long, env = "CPG_SHUTDOWN_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    pub(in crate::cli) shutdown_timeout: String,
    /// At the end wait for a key, where standard input and error are a terminal: k9s clears the screen afterwards.
    /// While it runs q ends it as Ctrl-C does
    #[arg(long, env = "CPG_HOLD", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) hold: bool,
    /// Short for --log-format json
    #[arg(long, env = "CPG_JSON", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) json: bool,
    /// Where the other end of a needed connection is in default deny by a known policy that does not allow it, write
    /// that rule too, before it is dropped there
    #[arg(long, env = "CPG_BOTH_SIDES", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) both_sides: bool,
    #[command(flatten)]
    pub(in crate::cli) http: HttpArgs,
    #[command(flatten)]
    pub(in crate::cli) caution: CautionArgs,
    #[command(flatten)]
    pub(in crate::cli) stream: StreamArgs,
    #[command(flatten)]
    pub(in crate::cli) keep: KeepArgs,
}
