//! Which verdicts ask for rules beside DROPPED.

use clap::Args as Group;
use clap::builder::FalseyValueParser;

/// Which verdicts ask for rules beside DROPPED.
#[derive(Debug, Group)]
pub(in crate::cli) struct VerdictArgs {
    /// What Cilium's policy audit mode let pass (verdict AUDIT) asks for rules as if it had been dropped
    #[arg(long, env = "CPG_INCLUDE_AUDIT", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) include_audit: bool,
    /// Connections that pass ask for rules too, for both ends, so that policies are there before default deny is on.
    /// What does not happen in this time is blocked by them
    #[arg(long, env = "CPG_LEARN", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) learn: bool,
}
