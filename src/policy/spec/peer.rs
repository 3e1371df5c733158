//! The other ends of a rule.

use ipnet::IpNet;
use serde_json::Value;

use super::{LabelKey, LabelSelector, Requirement, Version};

/// The other ends of a rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Peers {
    /// No peer member is there, and the rule names ports or ICMP types: any peer at all.
    Any,
    /// Nobody: a peer member is there and empty, or the rule says nothing at all (`- {}`).
    Nobody,
    /// Whoever one of these selects. Never empty; all items come from the same member.
    Of(Vec<PeerSpec>),
}

/// One item of a peer member.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerSpec {
    /// An item of `fromEndpoints` / `toEndpoints`, or a peer of a Kubernetes NetworkPolicy.
    Endpoints(EndpointPeer),
    /// An item of `fromEntities` / `toEntities`.
    Entity(Entity),
    /// An item of `fromCIDR` / `toCIDR`, of `fromCIDRSet` / `toCIDRSet` with `cidr`, or an `ipBlock`.
    Cidr {
        /// The prefix, host bits cleared.
        net: IpNet,
        /// What is taken off it, host bits cleared. Up to 1.19 an item may be wider than `net`.
        except: Vec<IpNet>,
    },
    /// An item of `fromCIDRSet` / `toCIDRSet` that names CIDR groups.
    CidrGroup {
        /// Which groups.
        group: CidrGroup,
        /// What is taken off them, host bits cleared.
        except: Vec<IpNet>,
    },
    /// An item of `toFQDNs`.
    Fqdn(Fqdn),
    /// An item of `fromNodes` / `toNodes`: other nodes, never the local host.
    Nodes(NodePeer),
    /// An item of `toServices`. What it stands for depends on the cluster: pods of the service, or its
    /// addresses. In 1.19 a rule whose services stand for nothing, with `toPorts`, means any peer.
    Service(ServicePeer),
    /// An item of `fromGroups` / `toGroups`, as written: addresses that a cloud API knows.
    Group(Value),
}

/// Endpoints by their labels, and what Cilium adds by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPeer {
    /// The selector as written.
    pub selector: LabelSelector,
    /// What is added about the namespace.
    pub namespace: NamespaceAddition,
    /// Whether `k8s:io.cilium.k8s.policy.cluster = <local cluster>` is added where the agent has
    /// `policy-default-local-cluster` (default since 1.19).
    pub local_cluster: bool,
}

/// What Cilium adds to a peer selector about the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespaceAddition {
    /// Nothing: the selector says it itself, or names reserved labels.
    Nothing,
    /// `k8s:io.kubernetes.pod.namespace` must be this: the policy's own.
    Equals(Box<str>),
    /// `k8s:io.kubernetes.pod.namespace` must exist: any pod.
    Exists,
}

/// Nodes by their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePeer {
    /// The selector as written. `reserved:remote-node` is required as well.
    pub selector: LabelSelector,
    /// As in [`EndpointPeer::local_cluster`].
    pub local_cluster: bool,
}

/// The words of `fromEntities` / `toEntities`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// Anything, known or not.
    All,
    /// Outside of the cluster.
    World,
    /// Outside, IPv4 (dual stack). The agent knows the word, the API server refuses it.
    WorldIpv4,
    /// Outside, IPv6 (dual stack). The agent knows the word, the API server refuses it.
    WorldIpv6,
    /// This cluster: its pods, all nodes, health, ingress, init, unmanaged, kube-apiserver.
    Cluster,
    /// All connected clusters (since 1.20).
    ClusterMesh,
    /// The local node.
    Host,
    /// Endpoints without known labels.
    Init,
    /// Cilium's Ingress and Gateway proxy.
    Ingress,
    /// Pods that Cilium does not manage.
    Unmanaged,
    /// Other nodes.
    RemoteNode,
    /// The cilium-health endpoints.
    Health,
    /// Nobody.
    None,
    /// The Kubernetes API server.
    KubeApiserver,
}

/// `cidrGroupRef` or `cidrGroupSelector`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CidrGroup {
    /// By name; a group that does not exist selects nobody.
    Name(Box<str>),
    /// By the labels of the group object; keys have the source `cidrgroup`.
    Selector(LabelSelector),
}

/// An item of `toFQDNs`, as written. One of the two is set; with neither, it selects nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fqdn {
    /// `matchName`.
    pub name: Option<Box<str>>,
    /// `matchPattern`.
    pub pattern: Option<Box<str>>,
}

/// An item of `toServices`. With both members set, both count as separate items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePeer {
    /// `k8sService`: name and namespace; an empty namespace is any.
    pub by_name: Option<(Box<str>, Box<str>)>,
    /// `k8sServiceSelector`: labels of the service and its namespace; an empty namespace is any.
    pub by_labels: Option<(LabelSelector, Box<str>)>,
}

// === impl EndpointPeer ===

impl EndpointPeer {
    /// Every requirement, with what Cilium adds. `local_cluster` is the name of the local cluster where
    /// the agent has `policy-default-local-cluster`, else `None`.
    pub fn requirements(&self, local_cluster: Option<&str>) -> Vec<Requirement> {
        let mut all = self.selector.requirements.clone();
        let namespace = || LabelKey::k8s(NAMESPACE_LABEL);
        match &self.namespace {
            NamespaceAddition::Nothing => {}
            NamespaceAddition::Equals(name) => all.push(Requirement::equals(namespace(), name)),
            NamespaceAddition::Exists => all.push(Requirement::exists(namespace())),
        }
        all.extend(cluster(self.local_cluster, local_cluster));
        all
    }
}

// === impl NodePeer ===

impl NodePeer {
    /// As [`EndpointPeer::requirements`].
    pub fn requirements(&self, local_cluster: Option<&str>) -> Vec<Requirement> {
        let mut all = self.selector.requirements.clone();
        all.push(Requirement::exists(LabelKey::new(LabelKey::RESERVED, "remote-node")));
        all.extend(cluster(self.local_cluster, local_cluster));
        all
    }
}

fn cluster(wanted: bool, name: Option<&str>) -> Option<Requirement> {
    name.filter(|_| wanted).map(|name| Requirement::equals(LabelKey::k8s(CLUSTER_LABEL), name))
}

/// The label that holds a pod's namespace (source `k8s`).
pub const NAMESPACE_LABEL: &str = "io.kubernetes.pod.namespace";

/// The label that holds a pod's cluster (source `k8s`).
pub const CLUSTER_LABEL: &str = "io.cilium.k8s.policy.cluster";

/// What labels of a pod's namespace begin with (source `k8s`).
pub const NAMESPACE_LABELS_PREFIX: &str = "io.cilium.k8s.namespace.labels.";

// === impl Entity ===

impl Entity {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::All,
        Self::World,
        Self::WorldIpv4,
        Self::WorldIpv6,
        Self::Cluster,
        Self::ClusterMesh,
        Self::Host,
        Self::Init,
        Self::Ingress,
        Self::Unmanaged,
        Self::RemoteNode,
        Self::Health,
        Self::None,
        Self::KubeApiserver,
    ];

    /// The word as in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::World => "world",
            Self::WorldIpv4 => "world-ipv4",
            Self::WorldIpv6 => "world-ipv6",
            Self::Cluster => "cluster",
            Self::ClusterMesh => "cluster-mesh",
            Self::Host => "host",
            Self::Init => "init",
            Self::Ingress => "ingress",
            Self::Unmanaged => "unmanaged",
            Self::RemoteNode => "remote-node",
            Self::Health => "health",
            Self::None => "none",
            Self::KubeApiserver => "kube-apiserver",
        }
    }

    /// The first version whose agent knows it.
    pub fn since(self) -> Version {
        if self == Self::ClusterMesh { Version::V1_20 } else { Version::V1_16 }
    }

    /// From its word, which is read exactly.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entity| entity.as_str() == name)
    }
}
