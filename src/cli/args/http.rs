//! The flags about HTTP requests.

use clap::Args as Group;
use clap::builder::FalseyValueParser;

/// What generate and replay make of HTTP requests.
#[derive(Debug, Group)]
#[command(next_help_heading = "HTTP")]
pub(in crate::cli) struct HttpArgs {
    /// Write rules for HTTP requests, by method and path, where Cilium's proxy sees them: those that it refused,
    /// and those that it let pass
    #[arg(long, env = "CPG_L7", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) l7: bool,
    /// Write [^/]+ for segments of a path that vary: numbers, UUIDs, hashes, what looks like a secret, and where
    /// many values were seen; the summary says what that opens
    #[arg(long, env = "CPG_L7_COLLAPSE_PATHS", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) l7_collapse_paths: bool,
    /// With --l7-collapse-paths: more different values than this at one place are many; 0: never
    #[arg(long, env = "CPG_L7_COLLAPSE_ABOVE", value_name = "N", default_value = "20")]
    pub(in crate::cli) l7_collapse_above: usize,
}
