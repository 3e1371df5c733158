//! What is decided, and by what.

use std::fmt;
use std::sync::Arc;

use super::set::Engine;
use super::side::Side;
use crate::flow::Direction;
use crate::policy::spec::{Origin, RuleSpec};

/// What becomes of a connection on one side.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision<'e> {
    /// It is let through.
    Allowed {
        /// By what.
        by: Allowance,
        /// A proxy sees it, and may yet refuse what is inside.
        redirect: bool,
        /// Every allow rule that matches; those that redirect come first.
        rules: RuleRefs<'e>,
    },
    /// A deny rule matches. Nothing that allows can help.
    Denied {
        /// Every deny rule that matches.
        rules: RuleRefs<'e>,
    },
    /// No rule matches, and the subject is in default deny.
    DefaultDeny {
        /// The specs that put it there. Empty when it is there without any: `enable-policy=always`, or
        /// an endpoint without known labels.
        because: Origins<'e>,
    },
    /// Nothing is enforced on the subject in this direction.
    Unselected,
    /// It depends on something that only the cluster knows.
    CouldNotCheck {
        /// On what.
        field: Field,
        /// In which rule; `None` when it is the subject of a spec, or several rules together.
        rule: Option<RuleRef<'e>>,
    },
}

/// What lets a connection through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Allowance {
    /// A rule.
    Rule,
    /// `enableDefaultDeny: false` in every spec that selects the subject: what is not denied is allowed.
    NoDefaultDeny,
    /// `allow-localhost`: it comes from the local host.
    Localhost,
}

/// All rules behind a decision. They are looked up when they are asked for: most who ask want the verdict.
#[derive(Clone)]
pub struct RuleRefs<'e> {
    engine: &'e Engine,
    direction: Direction,
    side: Arc<Side>,
    /// Groups of the side, in their order.
    first: Vec<usize>,
    then: Vec<usize>,
}

/// The specs that put a subject into default deny.
#[derive(Clone)]
pub struct Origins<'e> {
    engine: &'e Engine,
    side: Arc<Side>,
}

/// A rule, and where it is from.
#[derive(Debug, Clone, Copy)]
pub struct RuleRef<'e> {
    /// The policy.
    pub origin: &'e Origin,
    /// The rule, with its path and its line.
    pub rule: &'e RuleSpec,
}

/// A field of a policy that cannot be checked from labels, addresses and names alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `serverNames`: the server name of the TLS handshake.
    ServerNames,
    /// `authentication`: whether both ends have authenticated each other.
    Authentication,
    /// `toServices`: what the service stands for.
    Services,
    /// `fromGroups`: what the cloud's API says.
    FromGroups,
    /// `toGroups`: what the cloud's API says.
    ToGroups,
    /// `fromCIDRSet` with a CIDR group: what is in the group.
    FromCidrSet,
    /// `toCIDRSet` with a CIDR group: what is in the group.
    ToCidrSet,
    /// `fromNodes`: labels of a node.
    FromNodes,
    /// `toNodes`: labels of a node.
    ToNodes,
    /// `nodeSelector`: labels of the local node.
    NodeSelector,
    /// `fromEndpoints`: labels of a node.
    FromEndpoints,
    /// `toEndpoints`: labels of a node.
    ToEndpoints,
    /// A label that flows do not tell, because it does not outlive a pod.
    Labels,
    /// `port`: the number of a named port.
    Port,
    /// `protocol`: a protocol that Hubble does not name.
    Protocol,
    /// Rules that Cilium cannot combine: the agent keeps the endpoint's earlier policy.
    Conflict,
    /// `path` of an HTTP rule: an expression that only RE2 can read.
    Path,
    /// `method` of an HTTP rule: an expression that only RE2 can read.
    Method,
    /// `host` of an HTTP rule: not known of the request, or an expression that only RE2 can read.
    Host,
    /// `headers` of an HTTP rule: not known of the request.
    Headers,
    /// `headerMatches` of an HTTP rule: not known of the request, or a Secret holds the value.
    HeaderMatches,
    /// `listener`: what a proxy of one's own lets pass.
    Listener,
    /// `rules`: another proxy gets the connection than the one that reads such requests.
    Rules,
    /// `allow-localhost`: since 1.20, what a request of the local host may be is not known.
    AllowLocalhost,
}

// === impl Decision ===

impl Decision<'_> {
    /// Whether the connection is let through.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. } | Self::Unselected)
    }
}

// === impl RuleRefs ===

impl<'e> RuleRefs<'e> {
    pub(super) fn new(
        engine: &'e Engine,
        direction: Direction,
        side: Arc<Side>,
        first: Vec<usize>,
        then: Vec<usize>,
    ) -> Self {
        Self { engine, direction, side, first, then }
    }

    /// The rule that is named when only one is.
    pub fn first(&self) -> Option<RuleRef<'e>> {
        let group = self.first.iter().chain(&self.then).next()?;
        Some(self.refer(self.side.groups[*group].first))
    }

    /// Every rule once. Those that redirect come first; otherwise they are in the order of the policies.
    pub fn list(&self) -> Vec<RuleRef<'e>> {
        let mut all = self.rules_of(&self.first);
        let mut then = self.rules_of(&self.then);
        then.retain(|rule| !all.contains(rule));
        all.append(&mut then);
        all
    }

    fn rules_of(&self, groups: &[usize]) -> Vec<RuleRef<'e>> {
        let groups = groups.iter().map(|group| &self.side.groups[*group]);
        let mut entries: Vec<usize> =
            groups.flat_map(|g| g.others.iter().chain([&g.first])).copied().collect();
        entries.sort_unstable();
        let mut rules: Vec<RuleRef<'e>> = entries.into_iter().map(|entry| self.refer(entry)).collect();
        rules.dedup();
        rules
    }

    fn refer(&self, entry: usize) -> RuleRef<'e> {
        self.engine.rule_ref(self.direction, &self.engine.rules(self.direction).entries[entry])
    }
}

impl PartialEq for RuleRefs<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.list() == other.list()
    }
}

impl fmt::Debug for RuleRefs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list()).finish()
    }
}

// === impl Origins ===

impl<'e> Origins<'e> {
    pub(super) fn new(engine: &'e Engine, side: Arc<Side>) -> Self {
        Self { engine, side }
    }

    /// Each of them, in the order of the policies.
    pub fn iter(&self) -> impl Iterator<Item = &'e Origin> {
        self.side.default_deny.iter().map(|spec| &self.engine.spec(*spec).origin)
    }
}

impl PartialEq for Origins<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Origins<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

// === impl RuleRef ===

impl PartialEq for RuleRef<'_> {
    /// The same rule of the same set, not one that says the same.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.rule, other.rule)
    }
}

impl fmt::Display for RuleRef<'_> {
    /// `CiliumNetworkPolicy shop/web: spec.ingress[1] (line 12)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.origin.kind.as_str())?;
        if let Some(namespace) = &self.origin.namespace {
            write!(f, "{}/", crate::text::visible(namespace, 80))?;
        }
        write!(f, "{}: {}", crate::text::visible(&self.origin.name, 260), self.rule.path)?;
        match self.rule.mark {
            Some(mark) => write!(f, " (line {})", mark.line),
            None => Ok(()),
        }
    }
}

// === impl Field ===

impl Field {
    /// The word in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerNames => "serverNames",
            Self::Authentication => "authentication",
            Self::Services => "toServices",
            Self::FromGroups => "fromGroups",
            Self::ToGroups => "toGroups",
            Self::FromCidrSet => "fromCIDRSet",
            Self::ToCidrSet => "toCIDRSet",
            Self::FromNodes => "fromNodes",
            Self::ToNodes => "toNodes",
            Self::NodeSelector => "nodeSelector",
            Self::FromEndpoints => "fromEndpoints",
            Self::ToEndpoints => "toEndpoints",
            Self::Labels => "labels",
            Self::Port => "port",
            Self::Protocol => "protocol",
            Self::Conflict => "conflict",
            Self::Path => "path",
            Self::Method => "method",
            Self::Host => "host",
            Self::Headers => "headers",
            Self::HeaderMatches => "headerMatches",
            Self::Listener => "listener",
            Self::Rules => "rules",
            Self::AllowLocalhost => "allow-localhost",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
