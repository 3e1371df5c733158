//! What a run wants to see: one value that the relay's whitelist, the replay prefilter and classify
//! are all made from, so that they cannot disagree.

use std::collections::BTreeSet;

use crate::names::Namespace;

/// What this run wants to see. Dropped flows always (verdict events, drop events, refused L7 requests);
/// of all namespaces or of some.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interest {
    /// Subjects of which namespaces get a policy.
    pub namespaces: Namespaces,
    /// DNS queries that the proxy let pass: they tell resolvers, and the names that are asked of them.
    pub dns: bool,
    /// HTTP requests that the proxy let pass.
    pub http: bool,
    /// Verdict events of policy audit mode: what would have been dropped.
    pub audit: bool,
    /// Connections that pass: traces and verdict events.
    pub learn: bool,
}

/// Which namespaces a policy may be written for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Namespaces {
    /// Every namespace that is seen.
    #[default]
    All,
    /// Only these.
    Only(BTreeSet<Namespace>),
}

// === impl Namespaces ===

impl Namespaces {
    /// Whether a subject of this namespace gets a policy.
    pub fn contains(&self, namespace: &Namespace) -> bool {
        match self {
            Self::All => true,
            Self::Only(set) => set.contains(namespace),
        }
    }
}
