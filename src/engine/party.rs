//! Either end of a connection, as policies see it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::NamedPort;
use crate::flow::{Identity, Label, LabelSource, Reserved};
use crate::policy::spec::{CLUSTER_LABEL, NAMESPACE_LABEL};

/// Either end of a connection: an identity, and what is known of the very endpoint behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Cilium's numeric identity; 0 where it is not known. 1 is the local host.
    pub number: u32,
    labels: Box<[PartyLabel]>,
    /// The named container ports of the pod; `None` = not known.
    pub named_ports: Option<Vec<NamedPort>>,
    /// Its address. Outside of the cluster, where the `cidr` labels decide without it; and of a node,
    /// whose labels may be known by it.
    pub address: Option<IpAddr>,
    /// The names by which it is known outside of the cluster, in lower case, ending in a dot. Without
    /// them the `fqdn` labels decide.
    pub names: Vec<Box<str>>,
    /// Which labels it may have beside those that are known.
    missing: Missing,
    marks: Marks,
}

/// One label of a [`Party`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartyLabel {
    pub(super) source: Box<str>,
    pub(super) key: Box<str>,
    pub(super) value: Box<str>,
    /// The prefix of a `cidr` label.
    pub(super) net: Option<IpNet>,
}

/// Which labels a party may have that are not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// None: the list is complete.
    Nothing,
    /// Those that a flow's identity leaves out, because they do not outlive a pod.
    Unstable,
    /// Those of a Kubernetes Node, which Hubble does not tell.
    OfNode,
}

/// What a label's key stands for in a party.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup<'a> {
    /// There is such a label, with this value.
    Found(&'a str),
    /// There is none.
    Absent,
    /// Nobody knows.
    Unknown,
}

/// The labels that many rules ask for, found once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Marks {
    reserved: u16,
    any_init: bool,
    any_host: bool,
    has_address_label: bool,
}

// === impl Party ===

impl Party {
    /// From its complete labels as Hubble prints them (`source:key=value`). Of two labels with one key
    /// the later one stays, as in Cilium.
    pub fn new<'a>(number: u32, labels: impl IntoIterator<Item = &'a str>) -> Self {
        Self::build(number, labels.into_iter().map(Label::parse), Missing::Nothing)
    }

    /// From a flow's identity. Labels that do not outlive a pod are not known of it: a selector that
    /// needs one cannot be checked. A pod whose cluster is not told is one of `cluster`.
    pub fn from_identity(number: u32, identity: &Identity, cluster: &str) -> Self {
        let kubernetes =
            |key: &str, value: &str| Label { source: LabelSource::K8s, key: key.into(), value: value.into() };
        let mut labels: Vec<Label> = identity.labels.iter().cloned().collect();
        let mut missing = Missing::Unstable;
        if let Some(namespace) = &identity.namespace {
            labels.push(kubernetes(NAMESPACE_LABEL, namespace.as_str()));
            labels.push(kubernetes(CLUSTER_LABEL, identity.cluster.as_deref().unwrap_or(cluster)));
        } else if let Some(cluster) = &identity.cluster {
            labels.push(kubernetes(CLUSTER_LABEL, cluster));
        }
        for word in identity.reserved.iter().filter_map(|r| reserved_word(*r)) {
            labels.push(Label { source: LabelSource::Reserved, key: word.into(), value: "".into() });
        }
        let of_node = |r: &Reserved| matches!(r, Reserved::Host | Reserved::RemoteNode);
        let told = |l: &Label| l.source == LabelSource::K8s || l.source == LabelSource::Other("node".into());
        if identity.reserved.iter().any(of_node) && !labels.iter().any(told) {
            missing = Missing::OfNode;
        }
        Self::build(number, labels, missing)
    }

    fn build(number: u32, labels: impl IntoIterator<Item = Label>, missing: Missing) -> Self {
        let mut kept: Vec<PartyLabel> = Vec::new();
        for label in labels {
            let label = PartyLabel::new(label);
            match kept.iter_mut().find(|l| l.key == label.key) {
                Some(earlier) => *earlier = label,
                None => kept.push(label),
            }
        }
        let marks = Marks::of(&kept);
        Self {
            number,
            labels: kept.into(),
            named_ports: None,
            address: None,
            names: Vec::new(),
            missing,
            marks,
        }
    }

    /// Whether it carries this reserved label.
    pub fn is(&self, reserved: Reserved) -> bool {
        self.marks.reserved & bit(reserved) != 0
    }

    /// Whether it is outside of the cluster, as its labels say.
    pub fn is_world(&self) -> bool {
        [Reserved::World, Reserved::WorldIpv4, Reserved::WorldIpv6].into_iter().any(|word| self.is(word))
    }

    /// Whether it is the local host.
    pub fn is_host(&self) -> bool {
        self.number == 1 || (self.number == 0 && self.is(Reserved::Host))
    }

    /// Whether it can be a local endpoint of an agent in this cluster; all others have no policy here.
    pub fn is_endpoint(&self, cluster: &str) -> bool {
        let endpoints = [Reserved::Health, Reserved::Ingress, Reserved::Init].map(bit);
        let others = !endpoints.into_iter().sum::<u16>();
        self.is_host()
            || (self.marks.reserved & others == 0
                && !self.marks.has_address_label
                && !matches!(self.lookup("k8s", CLUSTER_LABEL, false), Lookup::Found(other) if other != cluster))
    }

    /// Whether Cilium takes it for one without known labels. Any label of the key `init` counts.
    pub(super) fn is_init(&self) -> bool {
        self.marks.any_init
    }

    /// Whether Cilium enforces its policies only with the host firewall. Any label of the key `host`
    /// counts.
    pub(super) fn needs_host_firewall(&self) -> bool {
        self.marks.any_host || self.is_host()
    }

    /// Whether it may have labels of any key beside those that are known.
    pub(super) fn may_have_more(&self) -> bool {
        self.missing == Missing::OfNode
    }

    /// The same one with these further labels, after which none is missing.
    pub(super) fn with_labels(&self, further: impl IntoIterator<Item = Label>) -> Self {
        let mut labels = self.labels.to_vec();
        labels.extend(further.into_iter().map(PartyLabel::new));
        let marks = Marks::of(&labels);
        Self { labels: labels.into(), missing: Missing::Nothing, marks, ..self.clone() }
    }

    pub(super) fn labels(&self) -> &[PartyLabel] {
        &self.labels
    }

    /// The label of this key; the source `any` is every source. `unstable`: a flow's identity leaves
    /// such keys out.
    pub(super) fn lookup(&self, source: &str, key: &str, unstable: bool) -> Lookup<'_> {
        for label in &self.labels {
            if *label.key == *key && (source == "any" || *label.source == *source) {
                return Lookup::Found(&label.value);
            }
        }
        let unknown = match self.missing {
            Missing::Nothing => false,
            Missing::Unstable => unstable,
            Missing::OfNode => {
                source != "reserved"
                    && !key.starts_with("io.kubernetes.pod.")
                    && !key.starts_with("io.cilium.k8s.")
            }
        };
        if unknown { Lookup::Unknown } else { Lookup::Absent }
    }
}

// === impl PartyLabel ===

impl PartyLabel {
    fn new(label: Label) -> Self {
        let source: Box<str> = match label.source {
            LabelSource::K8s => "k8s".into(),
            LabelSource::Reserved => "reserved".into(),
            LabelSource::Cidr => "cidr".into(),
            LabelSource::Fqdn => "fqdn".into(),
            LabelSource::Unspecified => "unspec".into(),
            LabelSource::Other(word) => word,
        };
        let net = (*source == *"cidr").then(|| prefix_of_key(&label.key)).flatten();
        Self { source, key: label.key, value: label.value, net }
    }
}

/// The prefix of a `cidr` label's key, which has `-` for `:`.
pub(super) fn prefix_of_key(key: &str) -> Option<IpNet> {
    key.replace('-', ":").parse::<IpNet>().ok().map(|net| net.trunc())
}

// === impl Marks ===

impl Marks {
    fn of(labels: &[PartyLabel]) -> Self {
        let mut marks = Self::default();
        for label in labels {
            match &*label.source {
                "reserved" => marks.reserved |= bit(Reserved::from_word(&label.key)),
                "cidr" | "fqdn" | "cidrgroup" => marks.has_address_label = true,
                _ => {}
            }
            marks.any_init |= *label.key == *"init";
            marks.any_host |= *label.key == *"host";
        }
        marks
    }
}

fn bit(reserved: Reserved) -> u16 {
    1 << match reserved {
        Reserved::Unknown => 0,
        Reserved::Host => 1,
        Reserved::World => 2,
        Reserved::Unmanaged => 3,
        Reserved::Health => 4,
        Reserved::Init => 5,
        Reserved::RemoteNode => 6,
        Reserved::KubeApiserver => 7,
        Reserved::Ingress => 8,
        Reserved::WorldIpv4 => 9,
        Reserved::WorldIpv6 => 10,
        Reserved::Other => 11,
    }
}

/// The word of a reserved label that a flow's identity stands for.
fn reserved_word(reserved: Reserved) -> Option<&'static str> {
    Some(match reserved {
        Reserved::Host => "host",
        Reserved::World => "world",
        Reserved::Unmanaged => "unmanaged",
        Reserved::Health => "health",
        Reserved::Init => "init",
        Reserved::RemoteNode => "remote-node",
        Reserved::KubeApiserver => "kube-apiserver",
        Reserved::Ingress => "ingress",
        Reserved::WorldIpv4 => "world-ipv4",
        Reserved::WorldIpv6 => "world-ipv6",
        Reserved::Unknown | Reserved::Other => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Endpoint;

    fn check(party: &Party, source: &str, key: &str, expected: Lookup<'_>) {
        let unstable = Label::parse(&format!("k8s:{key}")).is_unstable();
        assert_eq!(party.lookup(source, key, unstable), expected, "{source}:{key}");
    }

    #[test]
    fn complete_labels_leave_nothing_open() {
        let pod = Party::new(1001, ["k8s:app=web", "k8s:role", "k8s:x=1", "node:x=2"]);
        check(&pod, "any", "app", Lookup::Found("web"));
        check(&pod, "k8s", "role", Lookup::Found(""));
        check(&pod, "container", "app", Lookup::Absent);
        check(&pod, "any", "job-name", Lookup::Absent);
        check(&pod, "any", "x", Lookup::Found("2"));
        check(&pod, "k8s", "x", Lookup::Absent);
    }

    #[test]
    fn a_flow_does_not_tell_everything() {
        let e = Endpoint::new(1001, "shop", "web-1", "", ["k8s:app=web", "k8s:job-name=x"]);
        let pod = Party::from_identity(1001, &e.identity, "default");
        check(&pod, "any", "app", Lookup::Found("web"));
        check(&pod, "k8s", NAMESPACE_LABEL, Lookup::Found("shop"));
        check(&pod, "k8s", CLUSTER_LABEL, Lookup::Found("default"));
        check(&pod, "any", "job-name", Lookup::Unknown);
        check(&pod, "any", "tier", Lookup::Absent);
        let host = Endpoint::new(1, "", "", "", ["reserved:host"]);
        let host = Party::from_identity(1, &host.identity, "default");
        check(&host, "any", "node-role.kubernetes.io/worker", Lookup::Unknown);
        check(&host, "k8s", NAMESPACE_LABEL, Lookup::Absent);
        check(&host, "reserved", "remote-node", Lookup::Absent);
        let api = Endpoint::new(7, "", "", "", []);
        assert!(Party::from_identity(7, &api.identity, "default").is(Reserved::KubeApiserver));
    }

    /// Hubble tells the labels of a Node only where its identity has them.
    #[test]
    fn labels_of_nodes() {
        let seen = |labels: &[&str]| {
            let node = Endpoint::new(6, "", "", "", labels.iter().copied());
            Party::from_identity(6, &node.identity, "default")
        };
        for bare in
            [&["reserved:remote-node"][..], &["reserved:host"], &["reserved:host", "reserved:kube-apiserver"]]
        {
            let node = seen(bare);
            assert!(node.may_have_more());
            check(&node, "any", "zone", Lookup::Unknown);
            check(&node, "node", "zone", Lookup::Unknown);
            check(&node, "k8s", CLUSTER_LABEL, Lookup::Absent);
            check(&node, "reserved", "ingress", Lookup::Absent);
        }
        for known in [&["reserved:remote-node", "node:zone=a"][..], &["reserved:host", "k8s:zone=a"]] {
            let node = seen(known);
            assert!(!node.may_have_more());
            check(&node, "any", "zone", Lookup::Found("a"));
            check(&node, "any", "rack", Lookup::Absent);
        }
        assert!(!seen(&["reserved:world"]).may_have_more() && !seen(&["k8s:app=a"]).may_have_more());
    }

    #[test]
    fn who_is_the_host_and_who_the_world() {
        let check = |number, label: &str, host: bool, world: bool| {
            let party = Party::new(number, [label]);
            assert_eq!((party.is_host(), party.is_world()), (host, world), "{number} {label}");
        };
        check(1, "reserved:host", true, false);
        check(1, "reserved:kube-apiserver", true, false);
        check(0, "reserved:host", true, false);
        // The host of another node, as seen there.
        check(6, "reserved:host", false, false);
        check(0, "reserved:remote-node", false, false);
        check(2, "reserved:world", false, true);
        check(9, "reserved:world-ipv4", false, true);
        check(10, "reserved:world-ipv6", false, true);
        check(1001, "k8s:world", false, false);
        assert!(Party::new(1, ["reserved:kube-apiserver"]).needs_host_firewall());
    }

    #[test]
    fn who_has_policies_here() {
        let is = |number, labels: &[&str]| Party::new(number, labels.iter().copied()).is_endpoint("default");
        assert!(is(1001, &["k8s:app=a", "k8s:io.cilium.k8s.policy.cluster=default"]));
        assert!(!is(1001, &["k8s:app=a", "k8s:io.cilium.k8s.policy.cluster=west"]));
        assert!(is(1, &["reserved:host", "reserved:kube-apiserver"]));
        assert!(is(4, &["reserved:health"]) && is(5, &["reserved:init"]) && is(8, &["reserved:ingress"]));
        assert!(!is(2, &["reserved:world"]) && !is(6, &["reserved:remote-node"]));
        assert!(!is(3, &["reserved:unmanaged"]) && !is(16_777_217, &["fqdn:a.b"]));
    }

    #[test]
    fn prefixes_in_labels() {
        assert_eq!(prefix_of_key("10.0.0.0/8"), "10.0.0.0/8".parse().ok());
        assert_eq!(prefix_of_key("2001-db8--0/32"), "2001:db8::/32".parse().ok());
        assert_eq!(prefix_of_key("0--1/128"), "::1/128".parse().ok());
        assert_eq!(prefix_of_key("nonsense"), None);
    }
}
