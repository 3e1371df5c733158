//! The flags of `cpg bootstrap`.

use clap::{Args as Group, ValueEnum};

#[derive(Debug, Group)]
pub(in crate::cli) struct BootstrapArgs {
    /// Which policy
    #[arg(value_enum, value_name = "POLICY")]
    pub(in crate::cli) policy: StarterName,
    /// For this namespace (repeatable: one document for each)
    #[arg(short, long, env = "CPG_NAMESPACE", value_name = "NAME", value_delimiter = ',', required = true)]
    pub(in crate::cli) namespace: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum StarterName {
    /// Requests on ports 80 and 8080 go through Cilium's proxy, and all pass
    L7Visibility,
    /// Nothing passes that no policy allows, in both directions
    DefaultDeny,
    /// Name resolution through Cilium's DNS proxy
    Dns,
}
