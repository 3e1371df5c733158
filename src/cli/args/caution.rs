//! How careful a run is with what it writes.

use clap::Args as Group;

/// What must be true of a need before it is written.
#[derive(Debug, Group)]
#[command(next_help_heading = "Caution")]
pub(in crate::cli) struct CautionArgs {
    /// Hold back a port of a workload on which more than N addresses outside of the cluster were seen that have no
    /// name, and say what could be written instead; 0: no limit
    #[arg(long, env = "CPG_WORLD_LIMIT", value_name = "N", default_value = "5")]
    pub(in crate::cli) world_limit: usize,
    /// Write only what was seen over at least N different connections, from 1 to 63
    #[arg(long, env = "CPG_MIN_CONNECTIONS", value_name = "N", default_value = "1")]
    pub(in crate::cli) min_connections: u64,
    /// Write only what was seen again after so long (default: at once)
    #[arg(long, env = "CPG_SETTLE", value_name = "DURATION")]
    pub(in crate::cli) settle: Option<String>,
}
