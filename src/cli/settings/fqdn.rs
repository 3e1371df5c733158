//! What of DNS goes into policies.

use super::Mistakes;
use crate::classify::Filters;
use crate::cli::args::{FqdnArgs, FqdnMode};
use crate::pipeline::{Fqdn, Meant, Naming};

/// What was asked for; the filters learn what it needs to see.
pub(super) fn naming(args: FqdnArgs, filters: &mut Filters, mistakes: &mut Mistakes) -> Naming {
    let FqdnArgs { fqdn, resolver, include_refused } = args;
    let fqdn = match fqdn {
        FqdnMode::Auto => Fqdn::Auto,
        FqdnMode::Off => Fqdn::Off,
        FqdnMode::Only => Fqdn::Only,
    };
    filters.interest.dns = fqdn != Fqdn::Off;
    filters.include_refused = include_refused;
    if fqdn == Fqdn::Off && !resolver.is_empty() {
        mistakes.push("--resolver says nothing with --fqdn off: leave one of the two out".into());
    }
    let mut resolvers = Vec::new();
    for text in &resolver {
        match Meant::parse(text) {
            Ok(meant) => resolvers.push(meant),
            Err(e) => mistakes.push(format!("--resolver {e}")),
        }
    }
    Naming { fqdn, resolvers }
}
