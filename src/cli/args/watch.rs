//! How a relay is watched for long.

use std::path::PathBuf;

use clap::Args as Group;
use clap::builder::FalseyValueParser;

/// Where the first stream begins, and how the watch is kept.
#[derive(Debug, Group)]
#[command(next_help_heading = "The watch")]
pub(in crate::cli) struct WatchArgs {
    /// Begin with the last N drops (and DNS lookups) that each node still holds (default: all that it holds)
    #[arg(long, env = "CPG_LAST", value_name = "N")]
    pub(in crate::cli) last: Option<String>,
    /// Begin with drops since then, as far as the nodes still hold them: 10m, or a time as 2026-03-01T10:00:00Z
    #[arg(long, env = "CPG_SINCE", value_name = "WHEN")]
    pub(in crate::cli) since: Option<String>,
    /// Begin with what is dropped from now on
    #[arg(long, env = "CPG_NO_HISTORY", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) no_history: bool,
    /// Keep here up to when each node was watched and what was missed, and go on from there after a restart
    #[arg(long, env = "CPG_STATE_DIR", value_name = "DIR")]
    pub(in crate::cli) state_dir: Option<PathBuf>,
    /// Exit with 2 when less of the time was watched, as 95%: of all nodes together, or of the nodes of one
    /// namespace
    #[arg(long, env = "CPG_MIN_COVERAGE", value_name = "PERCENT")]
    pub(in crate::cli) min_coverage: Option<String>,
    /// How often the relay is asked whether it lives and which nodes it has
    #[arg(long, env = "CPG_HEALTH_INTERVAL", value_name = "DURATION", default_value = "30s")]
    pub(in crate::cli) health_interval: String,
    /// How long one stream is read before another takes over, without a gap
    #[arg(long, env = "CPG_ROTATE_INTERVAL", value_name = "DURATION", default_value = "30m")]
    pub(in crate::cli) rotate_interval: String,
}
