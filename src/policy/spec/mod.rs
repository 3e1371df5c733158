//! The sanitised model: what is left of a policy once Cilium's agent has decoded and sanitised it.
//!
//! [`sanitise()`] does what the agent does with an object that the API server has stored: it ignores
//! fields that it does not know, decodes, refuses what `Parse` and `Sanitize` refuse, and normalises
//! the rest. Whoever decides about connections needs nothing but these types; what the API server
//! itself would refuse is the business of `policy::validate`.
//!
//! Two things are left open here, because they are settings of the agent that decides: the requirement
//! that peers belong to the local cluster (marked on the peer, see [`EndpointPeer`]), and what a CIDR
//! group, a service or a cloud group stands for.
//!
//! What one element of `ingress`, `egress`, `ingressDeny`, `egressDeny` matches is [`RuleSpec::peers`]
//! **and** [`RuleSpec::l4`]. Every element counts for default deny, also one that matches nothing.

mod decode_l4;
mod decode_l7;
mod decode_peers;
mod finding;
mod go_regexp;
mod identity_labels;
mod kubernetes;
mod l4;
mod l7;
mod label;
pub(super) mod node;
mod options;
mod peer;
pub(super) mod sanitise;
mod selector;
pub(super) mod syntax;

pub use decode_l4::icmp_type_by_name;
pub use finding::{Finding, Mark, Path, Refusal, Step};
pub(crate) use go_regexp::check as go_regexp_check;
pub use identity_labels::identity_carries;
pub use l4::{EndPort, IcmpMatch, IpProtocol, L4, PortMatch, PortRule, PortSpec, Protocols};
pub use l7::{
    DnsRule, HeaderAction, HeaderMatch, HttpRule, KafkaRule, L7, Listener, ListenerKind, SecretRef,
    TlsContext,
};
pub use label::{LabelKey, LabelSelector, Operator, Requirement};
pub use options::{Options, Version};
pub use peer::{
    CLUSTER_LABEL, CidrGroup, EndpointPeer, Entity, Fqdn, NAMESPACE_LABEL, NAMESPACE_LABELS_PREFIX,
    NamespaceAddition, NodePeer, PeerSpec, Peers, ServicePeer,
};
pub use sanitise::{sanitise, sanitise_value};
pub(super) use selector::LABEL_VALUE;
pub use selector::parse_key;

/// One rule of a policy object: its `spec`, or one item of its `specs`. A Kubernetes NetworkPolicy is
/// one of these too.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Which policy, and where in it.
    pub origin: Origin,
    /// Whose traffic it rules.
    pub subject: SubjectSpec,
    /// `ingress` and `ingressDeny`.
    pub ingress: Side,
    /// `egress` and `egressDeny`.
    pub egress: Side,
    /// `description`.
    pub description: Option<Box<str>>,
    /// `labels` of the rule: metadata only, they never decide anything.
    pub labels: Vec<Box<str>>,
    /// `log.value` (since 1.18).
    pub log: Option<Box<str>>,
}

/// Where a [`Spec`] comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Which document of the text, from 0.
    pub document: usize,
    /// Which kind of object.
    pub kind: PolicyKind,
    /// The namespace it applies to; `None` for a clusterwide policy.
    pub namespace: Option<Box<str>>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `spec`, or `specs[2]`; below `items[4]` in a list.
    pub path: Path,
    /// Line and column of that place, where the text is known.
    pub mark: Option<Mark>,
}

/// The kinds of policy that Cilium's agent reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// `cilium.io/v2` `CiliumNetworkPolicy`.
    Cnp,
    /// `cilium.io/v2` `CiliumClusterwideNetworkPolicy`.
    Ccnp,
    /// `networking.k8s.io/v1` `NetworkPolicy`.
    KubernetesNetworkPolicy,
}

/// Whose traffic a [`Spec`] rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectSpec {
    /// `endpointSelector` (and `podSelector` of Kubernetes): all endpoints but the host's, so with an
    /// empty selector also health, ingress and init endpoints. A namespaced policy's selector already
    /// holds the requirement `k8s:io.kubernetes.pod.namespace = <its namespace>`.
    Endpoints(LabelSelector),
    /// `nodeSelector`: the host endpoint, which has `reserved:host` and the labels of its Node. Ruled
    /// only where the host firewall is on.
    Nodes(LabelSelector),
}

/// One direction of a [`Spec`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Side {
    /// Whether what these rules select is in default deny in this direction. Means nothing without
    /// rules: then the spec does not select anything in this direction.
    pub default_deny: bool,
    /// Allow rules, then deny rules, each in the order of the document. The order decides nothing.
    pub rules: Vec<RuleSpec>,
}

/// One element of `ingress`, `ingressDeny`, `egress` or `egressDeny`.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSpec {
    /// `spec.ingress[1]`.
    pub path: Path,
    /// Line and column of that element, where the text is known.
    pub mark: Option<Mark>,
    /// From one of the two deny lists.
    pub deny: bool,
    /// The other ends.
    pub peers: Peers,
    /// Protocols, ports, ICMP types, layer 7.
    pub l4: L4,
    /// `authentication.mode`, as written; the agent does not check the word.
    pub authentication: Option<Box<str>>,
    /// `fromRequires` / `toRequires` (up to 1.18): every peer must meet all of these as well. Cilium adds
    /// them to the endpoint selectors of **all** rules with the same subject.
    pub requires: Vec<LabelSelector>,
}

// === impl PolicyKind ===

impl PolicyKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cnp, Self::Ccnp, Self::KubernetesNetworkPolicy];

    /// The `kind` of the object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cnp => "CiliumNetworkPolicy",
            Self::Ccnp => "CiliumClusterwideNetworkPolicy",
            Self::KubernetesNetworkPolicy => "NetworkPolicy",
        }
    }

    /// From `apiVersion` and `kind`.
    pub fn from_words(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == kind && k.api_version() == api_version)
    }

    /// The `apiVersion` of the object.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Cnp | Self::Ccnp => "cilium.io/v2",
            Self::KubernetesNetworkPolicy => "networking.k8s.io/v1",
        }
    }
}
