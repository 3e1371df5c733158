//! What of DNS goes into policies.

use clap::builder::FalseyValueParser;
use clap::{Args as Group, ValueEnum};

#[derive(Debug, Group)]
pub(in crate::cli) struct FqdnArgs {
    /// Egress to the internet: auto writes DNS names where Hubble knows them, with the rule for the resolver that
    /// they need, else the address; off always the address; only holds back what has no name
    #[arg(long, env = "CPG_FQDN", value_name = "MODE", default_value = "auto", hide_possible_values = true)]
    pub(in crate::cli) fqdn: FqdnMode,
    /// A DNS server that may be written although it is not the cluster's own: NAMESPACE/key=value[,key=value], an
    /// address, or an entity like host; each may end in :PORT (repeatable)
    #[arg(long, env = "CPG_RESOLVER", value_name = "WHO")]
    pub(in crate::cli) resolver: Vec<String>,
    /// Write DNS rules for the names that Cilium's DNS proxy refused
    #[arg(long, env = "CPG_INCLUDE_REFUSED", value_parser = FalseyValueParser::new())]
    pub(in crate::cli) include_refused: bool,
}

/// `--fqdn`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum FqdnMode {
    Auto,
    Off,
    Only,
}
