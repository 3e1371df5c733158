//! What is decided, and by what.

use std::fmt;

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
        rules: Vec<RuleRef<'e>>,
    },
    /// A deny rule matches. Nothing that allows can help.
    Denied {
        /// Every deny rule that matches.
        rules: Vec<RuleRef<'e>>,
    },
    /// No rule matches, and the subject is in default deny.
    DefaultDeny {
        /// The specs that put it there. Empty when it is there without any: `enable-policy=always`, or
        /// an endpoint without known labels.
        because: Vec<&'e Origin>,
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
}

// === impl Decision ===

impl Decision<'_> {
    /// Whether the connection is let through.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. } | Self::Unselected)
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
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
