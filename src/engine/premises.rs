//! What only the cluster knows and somebody has looked up: services and the labels of nodes.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;

use super::selector::{Match, Selector};
use super::{EngineOptions, Field, Party};
use crate::flow::{Label, LabelSource, Reserved};
use crate::policy::spec::{
    CLUSTER_LABEL, EndpointPeer, LabelKey, LabelSelector, NAMESPACE_LABEL, NamespaceAddition, PeerSpec,
    Requirement, ServicePeer, Version, identity_carries,
};

/// Labels of an object in the cluster: keys and values.
type Labels = Vec<(Box<str>, Box<str>)>;

/// A Kubernetes Service, as `toServices` finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its own labels.
    pub labels: Labels,
    /// What it stands for.
    pub backends: Backends,
}

/// What a service stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backends {
    /// It has a selector: pods of its namespace with all of these labels. Never empty.
    Pods(Labels),
    /// It has none: the addresses of its endpoints. Only those outside of the cluster can match.
    Addresses(Vec<IpAddr>),
}

/// A Kubernetes Node, found by its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// By these a [`Party`] is known to be this node.
    pub addresses: Vec<IpAddr>,
    /// All of its labels. Those that Cilium leaves out of identities by default (`labels`) do not count;
    /// where the agents have a filter of their own, give only what passes it.
    pub labels: Labels,
}

/// The first identity of a node that has its labels (`enable-node-selector-labels`).
const FIRST_NODE_IDENTITY: u32 = 2 << 24;

/// The peers that an item of `toServices` stands for; `None` where that is not known.
pub(super) fn stands_for(item: &ServicePeer, options: &EngineOptions) -> Option<Vec<PeerSpec>> {
    let services = options.services.as_deref()?;
    let chosen: Vec<&Service> = match (&item.by_labels, &item.by_name) {
        (Some((selector, namespace)), None) => {
            let keys = selector.requirements.iter().map(|requirement| &*requirement.key.key);
            if misread(keys, options.version) {
                return None;
            }
            let selector = Selector::of(selector);
            let fits = |s: &&Service| s.is_in(namespace) && s.has(&selector);
            services.iter().filter(fits).collect()
        }
        (None, Some((name, namespace))) => {
            services.iter().filter(|s| s.is_in(namespace) && *s.name == **name).collect()
        }
        // The API server stores no such thing.
        (Some(_), Some(_)) | (None, None) => return None,
    };
    let mut peers = Vec::new();
    for service in chosen {
        match &service.backends {
            Backends::Pods(labels) => {
                if misread(labels.iter().map(|(key, _)| &**key), options.version) {
                    return None;
                }
                peers.push(service.pods(labels));
            }
            Backends::Addresses(all) => peers.extend(
                all.iter().map(|address| PeerSpec::Cidr { net: IpNet::from(*address), except: Vec::new() }),
            ),
        }
    }
    Some(peers)
}

/// Before 1.19.6 Cilium took what stands before the first dot of such a key for its source.
fn misread<'a>(mut keys: impl Iterator<Item = &'a str>, version: Version) -> bool {
    version < Version::V1_20 && keys.any(|key| key.contains('.'))
}

fn kubernetes(key: &str, value: &str) -> Label {
    Label { source: LabelSource::K8s, key: key.into(), value: value.into() }
}

// === impl Service ===

impl Service {
    fn is_in(&self, namespace: &str) -> bool {
        namespace.is_empty() || *self.namespace == *namespace
    }

    fn has(&self, selector: &Selector) -> bool {
        let labels = self.labels.iter().map(|(key, value)| kubernetes(key, value));
        let object = Party::new(0, []).with_labels(labels);
        selector.matches(&object, Field::Services) == Match::Yes
    }

    /// What Cilium puts in its place before the policy is parsed.
    fn pods(&self, labels: &Labels) -> PeerSpec {
        let all = labels.iter().map(|(key, value)| (&**key, &**value));
        let all = all.chain([(NAMESPACE_LABEL, &*self.namespace)]);
        let requirements = all.map(|(key, value)| Requirement::equals(LabelKey::k8s(key), value)).collect();
        let selector = LabelSelector { requirements };
        let local_cluster = !selector.has_k8s_key(CLUSTER_LABEL);
        PeerSpec::Endpoints(EndpointPeer { selector, namespace: NamespaceAddition::Nothing, local_cluster })
    }
}

// === impl EngineOptions ===

impl EngineOptions {
    /// A party with the labels of its Node, where they are known.
    pub(super) fn completed<'p>(&self, party: &'p Party) -> Cow<'p, Party> {
        if self.nodes.is_empty() || !party.may_have_more() {
            return Cow::Borrowed(party);
        }
        let is = |node: &&Node| party.address.is_some_and(|address| node.addresses.contains(&address));
        let Some(node) = self.nodes.iter().find(is) else { return Cow::Borrowed(party) };
        let told = node.labels.iter();
        if party.is_host() {
            let counting = told.filter(|(key, _)| identity_carries(&LabelKey::k8s(key)));
            return Cow::Owned(party.with_labels(counting.map(|(key, value)| kubernetes(key, value))));
        }
        if !party.is(Reserved::RemoteNode) || party.number == 0 {
            return Cow::Borrowed(party);
        }
        // Nodes have identities of their own only where their labels count.
        if party.number < FIRST_NODE_IDENTITY {
            return Cow::Owned(party.with_labels([]));
        }
        let of_node = |(key, value): &(Box<str>, Box<str>)| Label {
            source: LabelSource::Other("node".into()),
            key: key.clone(),
            value: value.clone(),
        };
        let cluster = kubernetes(CLUSTER_LABEL, &self.cluster);
        Cow::Owned(party.with_labels(told.map(of_node).chain([cluster])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Decision, Engine, Traffic};
    use crate::flow::{Direction, Endpoint};
    use crate::policy::read_documents;
    use crate::policy::spec::{Options, sanitise};

    fn labels(all: &[(&str, &str)]) -> Labels {
        all.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    fn service(namespace: &str, name: &str, own: &[(&str, &str)], backends: Backends) -> Service {
        Service { namespace: namespace.into(), name: name.into(), labels: labels(own), backends }
    }

    fn options() -> EngineOptions {
        let addresses = |all: &[&str]| Backends::Addresses(all.iter().map(|a| a.parse().unwrap()).collect());
        let services = vec![
            service("db", "main", &[("tier", "data")], Backends::Pods(labels(&[("app", "pg")]))),
            service("shop", "main", &[], Backends::Pods(labels(&[("app", "cart")]))),
            service("shop", "bank", &[("tier", "data")], addresses(&["192.0.2.1", "2001:db8::1"])),
            service("shop", "dotted", &[], Backends::Pods(labels(&[("app.kubernetes.io/name", "x")]))),
        ];
        EngineOptions { services: Some(services), ..EngineOptions::default() }
    }

    fn word(decision: &Decision<'_>) -> String {
        match decision {
            Decision::CouldNotCheck { field, .. } => field.to_string(),
            Decision::Denied { .. } => "deny".to_owned(),
            decision => if decision.is_allowed() { "allow" } else { "no" }.to_owned(),
        }
    }

    fn engine(kind: &str, spec: &str, options: EngineOptions) -> Engine {
        let namespace = if kind == "CiliumNetworkPolicy" { ", namespace: shop" } else { "" };
        let text = format!(
            "apiVersion: cilium.io/v2\nkind: {kind}\nmetadata: {{name: a{namespace}}}\nspec: {{{spec}}}\n"
        );
        let of = Options { node_selector_labels: true, ..Options::of(options.version) };
        Engine::new(sanitise(&read_documents(&text).unwrap()[0], &of).unwrap(), options)
    }

    fn pod(namespace: &str, labels: &[&str]) -> Party {
        let namespace = format!("k8s:io.kubernetes.pod.namespace={namespace}");
        let own = [&*namespace, "k8s:io.cilium.k8s.policy.cluster=default"];
        Party::new(1001, own.into_iter().chain(labels.iter().copied()))
    }

    #[track_caller]
    fn check(rule: &str, options: EngineOptions, peer: &Party, expected: &str) {
        let lists =
            if rule.starts_with("egressDeny") { rule.to_owned() } else { format!("egress: [{{{rule}}}]") };
        let engine = engine("CiliumNetworkPolicy", &format!("endpointSelector: {{}}, {lists}"), options);
        let decision =
            engine.subject(&pod("shop", &["k8s:app=web"])).decide(peer, Direction::Egress, Traffic::tcp(80));
        assert_eq!(word(&decision), expected, "{rule} {peer:?}");
    }

    #[test]
    fn what_services_stand_for() {
        let at = |address: &str| {
            let mut party = Party::new(2, ["reserved:world"]);
            party.address = address.parse().ok();
            party
        };
        let named = |name: &str, namespace: &str| {
            format!("toServices: [{{k8sService: {{serviceName: {name}, namespace: '{namespace}'}}}}]")
        };
        let (pg, cart) = (pod("db", &["k8s:app=pg"]), pod("shop", &["k8s:app=cart"]));
        check(&named("main", "db"), options(), &pg, "allow");
        check(&named("main", "db"), options(), &cart, "no");
        check(&named("main", "db"), options(), &pod("shop", &["k8s:app=pg"]), "no");
        check(&named("main", ""), options(), &cart, "allow");
        check(&named("bank", "shop"), options(), &at("192.0.2.1"), "allow");
        check(&named("bank", "shop"), options(), &at("2001:db8::1"), "allow");
        check(&named("bank", "shop"), options(), &at("192.0.2.2"), "no");
        let mut inside = cart.clone();
        inside.address = "192.0.2.1".parse().ok();
        check(&named("bank", "shop"), options(), &inside, "no");
        let data = "toServices: [{k8sServiceSelector: {selector: {matchLabels: {tier: data}}}}]";
        check(data, options(), &pg, "allow");
        check(data, options(), &at("192.0.2.1"), "allow");
        check(data, options(), &cart, "no");
        let elsewhere = Party::new(
            1002,
            ["k8s:io.kubernetes.pod.namespace=db", "k8s:io.cilium.k8s.policy.cluster=c2", "k8s:app=pg"],
        );
        check(&named("main", "db"), options(), &elsewhere, "no");
    }

    #[test]
    fn where_services_stay_unknown() {
        let pg = pod("db", &["k8s:app=pg"]);
        let main = "toServices: [{k8sService: {serviceName: main, namespace: db}}]";
        let none = "toServices: [{k8sService: {serviceName: none, namespace: db}}]";
        let ports = "toPorts: [{ports: [{port: '80', protocol: TCP}]}]";
        check(main, EngineOptions::default(), &pg, "toServices");
        check(none, options(), &pg, "no");
        check(&format!("{none}, {ports}"), options(), &pg, "toServices");
        check(&format!("{main}, {ports}"), options(), &pg, "allow");
        check(&format!("egressDeny: [{{{main}}}]"), options(), &pg, "toServices");
        let dotted = "toServices: [{k8sService: {serviceName: dotted, namespace: shop}}]";
        let x = pod("shop", &["k8s:app.kubernetes.io/name=x"]);
        check(dotted, options(), &x, "toServices");
        let new = EngineOptions { services: options().services, ..EngineOptions::of(Version::V1_20) };
        check(dotted, new, &x, "allow");
    }

    fn with_nodes() -> EngineOptions {
        let labels = labels(&[
            ("pool", "fast"),
            ("kubernetes.io/hostname", "n1"),
            ("topology.kubernetes.io/zone", "a"),
        ]);
        let nodes = vec![Node { addresses: vec!["10.0.0.1".parse().unwrap()], labels }];
        EngineOptions { nodes, host_firewall: true, ..EngineOptions::default() }
    }

    fn node(number: u32, label: &str, address: &str) -> Party {
        let seen = Endpoint::new(number, "", "", "", [label]);
        let mut party = Party::from_identity(number, &seen.identity, "default");
        party.address = address.parse().ok();
        party
    }

    #[test]
    fn which_policies_select_a_node() {
        let check = |key: &str, options: EngineOptions, address: &str, expected: &str| {
            let spec =
                format!("nodeSelector: {{matchLabels: {{{key}}}}}, ingress: [{{fromEntities: [health]}}]");
            let engine = engine("CiliumClusterwideNetworkPolicy", &spec, options);
            let host = engine.subject(&node(1, "reserved:host", address));
            let world = Party::new(2, ["reserved:world"]);
            let decision = host.decide(&world, Direction::Ingress, Traffic::tcp(80));
            assert_eq!(word(&decision), expected, "{key} {address}");
        };
        check("pool: fast", with_nodes(), "10.0.0.1", "no");
        check("pool: slow", with_nodes(), "10.0.0.1", "allow");
        check("pool: fast", with_nodes(), "10.0.0.2", "nodeSelector");
        check("pool: fast", EngineOptions { nodes: Vec::new(), ..with_nodes() }, "10.0.0.1", "nodeSelector");
        check("kubernetes.io/hostname: n1", with_nodes(), "10.0.0.1", "allow");
        check("topology.kubernetes.io/zone: a", with_nodes(), "10.0.0.1", "allow");
    }

    #[test]
    fn which_nodes_a_rule_means() {
        let check = |rule: &str, peer: &Party, expected: &str| {
            let spec = format!("endpointSelector: {{}}, egress: [{{{rule}}}]");
            let engine = engine("CiliumNetworkPolicy", &spec, with_nodes());
            let web = engine.subject(&pod("shop", &["k8s:app=web"]));
            let decision = web.decide(peer, Direction::Egress, Traffic::tcp(80));
            assert_eq!(word(&decision), expected, "{rule} {peer:?}");
            assert_eq!(decision, web.peer(peer).decide(Direction::Egress, Traffic::tcp(80)));
        };
        let fast = "toNodes: [{matchLabels: {'node:pool': fast}}]";
        let remote = |number, address: &str| node(number, "reserved:remote-node", address);
        check(fast, &remote(FIRST_NODE_IDENTITY + 1, "10.0.0.1"), "allow");
        check(
            "toNodes: [{matchLabels: {'node:pool': slow}}]",
            &remote(FIRST_NODE_IDENTITY + 1, "10.0.0.1"),
            "no",
        );
        check(fast, &remote(6, "10.0.0.1"), "no");
        // A flow that tells no label of a node's cluster is one of a node without labels.
        check(fast, &remote(FIRST_NODE_IDENTITY + 1, "10.0.0.2"), "no");
        check(fast, &remote(0, "10.0.0.1"), "no");
        check("toNodes: [{}]", &remote(FIRST_NODE_IDENTITY + 1, "10.0.0.1"), "allow");
    }
}
