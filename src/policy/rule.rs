//! The smallest thing a policy can allow: one peer on one port or ICMP type, in one direction.

use std::fmt;
use std::num::NonZeroU8;

use ipnet::IpNet;
use xxhash_rust::xxh3::xxh3_64;

use super::Selector;
use crate::flow::{Direction, IcmpFamily, Port, Protocol};
use crate::names::{DnsName, Namespace};

/// The pods that a policy selects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// The policy's namespace.
    pub namespace: Namespace,
    /// Its `endpointSelector`, without the namespace that Cilium adds by itself.
    pub selector: Selector,
}

/// One element of a rule's peer list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// `fromEndpoints` / `toEndpoints`.
    Endpoints(Selector),
    /// `fromEntities` / `toEntities`.
    Entity(Entity),
    /// `fromCIDR` / `toCIDR`.
    Cidr(IpNet),
    /// `toFQDNs` with `matchName`; egress only.
    Fqdn(DnsName),
}

/// The entities that cpg writes (`pkg/policy/api/entity.go`). The wide ones (`all`, `cluster`,
/// `world`) are missing on purpose: no single flow proves a need for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// The cilium-health endpoints.
    Health,
    /// The local node and its host-network pods.
    Host,
    /// Cilium's Ingress and Gateway proxy.
    Ingress,
    /// Endpoints whose labels are not known yet.
    Init,
    /// The Kubernetes API server, wherever it runs.
    KubeApiserver,
    /// Other nodes.
    RemoteNode,
    /// Pods that Cilium does not manage.
    Unmanaged,
}

/// An ICMP type that a rule can name. Never 0, which means every type to Cilium.
pub type IcmpType = NonZeroU8;

/// What a rule lets its peer do: ports *or* ICMP, since Cilium wants them in rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Allow {
    /// One port of one protocol.
    Port(Protocol, Port),
    /// One ICMP type of one family.
    Icmp(IcmpFamily, IcmpType),
}

/// What a request on an allowed port must be: one item of `rules` of `toPorts`. Without one, the port is
/// allowed whatever is said on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum L7Match {
    /// `http`; TCP only.
    Http(HttpMatch),
    /// `dns` with `matchName`; egress only.
    Dns(DnsName),
}

/// A line of a request, as Envoy compares it: both are RE2 expressions that must match the whole value,
/// the path being `:path` with its query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpMatch {
    /// `method`.
    pub method: Box<str>,
    /// `path`.
    pub path: Box<str>,
}

/// One need of a subject, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// As seen from the subject.
    pub direction: Direction,
    /// Who the subject talks to.
    pub peer: Peer,
    /// Over what.
    pub allow: Allow,
    /// Saying what; `None`: whatever.
    pub l7: Option<L7Match>,
}

/// What a rule is known by for good: a hash of subject, direction, peer, and port or ICMP
/// type with what may be said on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

// === impl Subject ===

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.namespace)?;
        labels(&self.selector, f)
    }
}

// === impl Entity ===

impl Entity {
    const ALL: [Self; 7] = [
        Self::Health,
        Self::Host,
        Self::Ingress,
        Self::Init,
        Self::KubeApiserver,
        Self::RemoteNode,
        Self::Unmanaged,
    ];

    /// The name as in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Host => "host",
            Self::Ingress => "ingress",
            Self::Init => "init",
            Self::KubeApiserver => "kube-apiserver",
            Self::RemoteNode => "remote-node",
            Self::Unmanaged => "unmanaged",
        }
    }

    /// From its name in a policy; `None` for entities that cpg does not write.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entity| entity.as_str() == name)
    }
}

// === impl Peer ===

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoints(selector) => labels(selector, f),
            Self::Entity(entity) => f.write_str(entity.as_str()),
            Self::Cidr(net) => net.fmt(f),
            // As Cilium labels an address that it learnt by this name; so no entity can be meant.
            Self::Fqdn(name) => write!(f, "fqdn:{name}"),
        }
    }
}

// === impl Allow ===

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(protocol, port) => write!(f, "{}/{port}", protocol.as_str()),
            Self::Icmp(family, kind) => write!(f, "ICMP {} type {kind}", family.as_str()),
        }
    }
}

// === impl L7Match ===

impl fmt::Display for L7Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(HttpMatch { method, path }) => write!(f, "HTTP {method} {path}"),
            Self::Dns(name) => write!(f, "DNS {name}"),
        }
    }
}

// === impl Rule ===

impl Rule {
    /// A rule for a port or an ICMP type, whatever is said on it.
    pub fn plain(direction: Direction, peer: Peer, allow: Allow) -> Self {
        Self { direction, peer, allow, l7: None }
    }

    /// Whether this rule allows everything that the other one does: the same peer and port, and at least the
    /// same requests.
    pub fn takes_in(&self, other: &Self) -> bool {
        let same = self.direction == other.direction && self.peer == other.peer && self.allow == other.allow;
        same && match (&self.l7, &other.l7) {
            (ours, theirs) if ours == theirs => true,
            (None, Some(L7Match::Http(_))) => true,
            (Some(L7Match::Http(ours)), Some(L7Match::Http(theirs))) => ours.covers(theirs),
            _ => false,
        }
    }

    /// The rule's identity under this subject.
    pub fn id(&self, subject: &Subject) -> RuleId {
        // The display forms are unambiguous: label keys and values hold no ',', ' ' or '='; what is said
        // comes last.
        RuleId(xxh3_64(format!("{subject} {self}").as_bytes()))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        write!(f, "{} {word} {} {}", self.direction.as_str(), self.peer, self.allow)?;
        self.l7.as_ref().map_or(Ok(()), |l7| write!(f, " {l7}"))
    }
}

// === impl RuleId ===

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0 >> 16)
    }
}

fn labels(selector: &Selector, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, (key, value)) in selector.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(f, "{comma}{key}={value}")?;
    }
    Ok(())
}
