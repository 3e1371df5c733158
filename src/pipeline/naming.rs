//! Which DNS names are written, and which resolvers are believed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::aggregate::{ObservedPeer, Resolver};
use crate::flow::{Identity, Port};
use crate::names::{DnsName, Namespace};
use crate::policy::{Entity, NAMESPACE_KEY, Peer, Selector, Subject};
use crate::text::visible;

/// The port of DNS.
const DNS: u16 = 53;
/// Namespaces whose pods are believed to be the cluster's own DNS: those of kubeadm and of every managed
/// cluster, and OpenShift's. A fixed list, since which resolver was seen most would depend on what came first.
const NAMESPACES: [&str; 2] = ["kube-system", "openshift-dns"];
/// Where NodeLocal DNSCache listens on the node; agents before 1.17 call these addresses world.
const NODE_LOCAL: [Ipv4Addr; 2] = [Ipv4Addr::new(169, 254, 20, 10), Ipv4Addr::new(169, 254, 25, 10)];
/// The usual resolver of a cluster (`k8s-app` of kube-dns and of CoreDNS as kubeadm and the clouds run it).
const USUAL: [(&str, &str); 2] = [("k8s-app", "kube-dns"), (NAMESPACE_KEY, "kube-system")];
/// Refused names that are told apart.
const MOST: usize = 1_000;

/// `--fqdn`: what is written of addresses outside the cluster that names are known of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fqdn {
    /// The names, where they are known; else the address.
    #[default]
    Auto,
    /// The address.
    Off,
    /// The names; an address without one is held back.
    Only,
}

/// What of DNS goes into policies.
#[derive(Debug, Clone, Default)]
pub struct Naming {
    /// `--fqdn`
    pub fqdn: Fqdn,
    /// `--resolver`: resolvers that are meant, wherever they are.
    pub resolvers: Vec<Meant>,
}

/// A resolver as `--resolver` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    who: Who,
    /// `None`: whichever it is seen with.
    port: Option<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    Pods(Namespace, Selector),
    Address(IpAddr),
    Entity(Entity),
}

/// What came of DNS names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Names that the DNS proxy refused, by who asked, with how often.
    pub refused: BTreeMap<(String, DnsName), u64>,
    /// Refusals for which there was no room.
    pub refused_beyond: u64,
    /// Subjects of which no DNS traffic was seen, so that the resolver is a guess; with which it is.
    pub guessed: BTreeMap<Subject, String>,
    /// Subjects that got rules for names in this run: whatever else they look up is refused then.
    pub restricted: BTreeSet<Subject>,
    /// Queries that passed for names that no policy can hold.
    pub unusable: u64,
    /// The table of queries had no room: rules for resolvers lack names.
    pub cut: bool,
}

// === impl Naming ===

impl Naming {
    /// Whether a resolver is the cluster's own, or meant by the user.
    pub(super) fn accepts(&self, resolver: &Resolver) -> bool {
        self.means(resolver) || is_own(&resolver.peer)
    }

    /// Whether the user named it.
    pub(super) fn means(&self, resolver: &Resolver) -> bool {
        self.resolvers.iter().any(|meant| meant.is(resolver))
    }

    /// The resolvers that the user named, as peers of a subject in this namespace.
    pub(super) fn meant(&self, namespace: &Namespace) -> Vec<(Peer, Port)> {
        let port = |meant: &Meant| meant.port.or(Port::new(DNS));
        self.resolvers.iter().filter_map(|meant| Some((meant.peer(namespace)?, port(meant)?))).collect()
    }
}

/// The usual resolver, as a peer of a subject in this namespace.
pub(super) fn usual(namespace: &Namespace) -> Option<(Peer, Port)> {
    let own = |(key, value): &&(&str, &str)| *key != NAMESPACE_KEY || *value != namespace.as_str();
    let selector = Selector::new(USUAL.iter().filter(own).copied())?;
    Some((Peer::Endpoints(selector), Port::new(DNS)?))
}

fn is_own(peer: &ObservedPeer) -> bool {
    match peer {
        ObservedPeer::Pod(identity) => {
            identity.namespace.as_ref().is_some_and(|n| NAMESPACES.contains(&n.as_str()))
        }
        // Nodes: NodeLocal DNSCache, or CoreDNS in the host's network.
        ObservedPeer::Entity(entity) => {
            matches!(entity, Entity::Host | Entity::RemoteNode | Entity::KubeApiserver)
        }
        ObservedPeer::World(address) | ObservedPeer::Named { address, .. } => {
            NODE_LOCAL.iter().any(|own| IpAddr::V4(*own) == *address)
        }
    }
}

/// Whether what a subject tried to reach is a resolver, as far as ports and labels tell: port 53 of anybody;
/// of pods that are known for it also the ports that they listen on instead.
pub(super) fn looks_like_dns(resolver: &Resolver) -> bool {
    const OTHER_PORTS: [u16; 3] = [5353, 1053, 8053];
    let known = || match &resolver.peer {
        ObservedPeer::Pod(identity) => is_dns(identity),
        _ => false,
    };
    resolver.port.get() == DNS || OTHER_PORTS.contains(&resolver.port.get()) && known()
}

fn is_dns(identity: &Identity) -> bool {
    const NAMES: [&str; 3] = ["kube-dns", "coredns", "node-local-dns"];
    let label = |key| identity.labels.kubernetes(key);
    let named =
        ["k8s-app", "app.kubernetes.io/name"].into_iter().filter_map(label).any(|v| NAMES.contains(&v));
    named
        || label("dns.operator.openshift.io/daemonset-dns").is_some()
        || identity.namespace.as_ref().is_some_and(|n| n.as_str() == "openshift-dns")
}

// === impl Meant ===

impl Meant {
    /// From `NS/key=value[,key=value][:port]`, an address or an entity, both with or without a port.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{:?}: a resolver is NAMESPACE/key=value[,key=value], an address or an entity like host, each with or without :port",
                visible(text, 200)
            )
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { who: Who::Address(address), port: None });
        }
        let (rest, port) = match text.rsplit_once(':') {
            Some((rest, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                let port = digits.parse().ok().and_then(Port::new).ok_or_else(wrong)?;
                (rest, Some(port))
            }
            _ => (text, None),
        };
        let bare = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(rest);
        let who = if let Ok(address) = bare.parse::<IpAddr>() {
            Who::Address(address)
        } else if let Some(entity) = Entity::from_name(rest) {
            Who::Entity(entity)
        } else {
            let (namespace, labels) = rest.split_once('/').ok_or_else(wrong)?;
            let namespace = Namespace::parse(namespace).map_err(|_| wrong())?;
            let labels: Option<Vec<(&str, &str)>> = labels
                .split(',')
                .map(|label| label.split_once('=').filter(|(k, v)| is_label(k, v)))
                .collect();
            Who::Pods(namespace, labels.and_then(Selector::new).ok_or_else(wrong)?)
        };
        Ok(Self { who, port })
    }

    fn is(&self, resolver: &Resolver) -> bool {
        self.port.is_none_or(|port| port == resolver.port)
            && match (&self.who, &resolver.peer) {
                (Who::Pods(namespace, selector), ObservedPeer::Pod(identity)) => {
                    identity.namespace.as_ref() == Some(namespace) && selector.matches_labels(identity)
                }
                (Who::Address(meant), ObservedPeer::World(address) | ObservedPeer::Named { address, .. }) => {
                    meant == address
                }
                (Who::Entity(meant), ObservedPeer::Entity(entity)) => meant == entity,
                _ => false,
            }
    }

    fn peer(&self, namespace: &Namespace) -> Option<Peer> {
        Some(match &self.who {
            Who::Pods(own, selector) => {
                let place = (own != namespace).then_some((NAMESPACE_KEY, own.as_str()));
                Peer::Endpoints(Selector::new(selector.iter().chain(place))?)
            }
            Who::Address(address) => Peer::address(*address),
            Who::Entity(entity) => Peer::Entity(*entity),
        })
    }
}

/// Whether a selector can hold it, as far as characters tell.
fn is_label(key: &str, value: &str) -> bool {
    let of = |text: &str, more: &[u8]| text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b));
    !key.is_empty() && of(key, b"-_./:") && value.len() <= 63 && of(value, b"-_.")
}

// === impl Names ===

impl Names {
    /// Counts a name that the DNS proxy refused.
    pub(super) fn refuse(&mut self, who: String, name: &DnsName, queries: u64) {
        let key = (who, name.clone());
        if self.refused.len() >= MOST && !self.refused.contains_key(&key) {
            self.refused_beyond += queries;
        } else {
            *self.refused.entry(key).or_default() += queries;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn pod(namespace: &str, labels: &[&str], port: u16) -> Resolver {
        let identity = Identity::new(300, namespace, "", labels.iter().copied());
        Resolver { peer: ObservedPeer::Pod(Arc::new(identity)), port: Port::new(port).unwrap() }
    }

    fn world(address: &str) -> Resolver {
        Resolver { peer: ObservedPeer::World(address.parse().unwrap()), port: Port::new(53).unwrap() }
    }

    #[test]
    fn whose_resolver_is_the_clusters_own() {
        let entity = |entity| Resolver { peer: ObservedPeer::Entity(entity), port: Port::new(53).unwrap() };
        let naming = Naming::default();
        for own in [
            pod("kube-system", &["k8s:k8s-app=kube-dns"], 53),
            pod("openshift-dns", &["k8s:dns.operator.openshift.io/daemonset-dns=default"], 5353),
            entity(Entity::Host),
            entity(Entity::RemoteNode),
            world("169.254.20.10"),
        ] {
            assert!(naming.accepts(&own), "{own:?}");
        }
        for foreign in [
            pod("dns", &["k8s:app.kubernetes.io/name=coredns"], 53),
            entity(Entity::Unmanaged),
            world("8.8.8.8"),
            world("169.254.169.254"),
            world("2001:4860:4860::8888"),
        ] {
            assert!(!naming.accepts(&foreign), "{foreign:?}");
        }
    }

    #[test]
    fn resolvers_as_the_user_names_them() {
        let check = |text: &str, is: &[Resolver], is_not: &[Resolver], peer: &str| {
            let meant = Meant::parse(text).unwrap();
            assert!(is.iter().all(|r| meant.is(r)), "{text} is one of {is:?}");
            assert!(!is_not.iter().any(|r| meant.is(r)), "{text} is none of {is_not:?}");
            let peer_there = meant.peer(&Namespace::parse("shop").unwrap()).unwrap();
            assert_eq!(peer_there.to_string(), peer, "{text}");
        };
        let chart = |port| pod("dns", &["k8s:app.kubernetes.io/name=coredns", "k8s:x=y"], port);
        let other = pod("dns", &["k8s:app=coredns"], 53);
        let peer = "app.kubernetes.io/name=coredns,k8s:io.kubernetes.pod.namespace=dns";
        check(
            "dns/app.kubernetes.io/name=coredns",
            &[chart(53), chart(1053)],
            &[other, world("8.8.8.8")],
            peer,
        );
        let longer = format!("{peer},x=y");
        check("dns/app.kubernetes.io/name=coredns,x=y:1053", &[chart(1053)], &[chart(53)], &longer);
        check("8.8.8.8", &[world("8.8.8.8")], &[world("8.8.4.4")], "8.8.8.8/32");
        check("8.8.8.8:5353", &[], &[world("8.8.8.8")], "8.8.8.8/32");
        check("2001:db8::53", &[world("2001:db8::53")], &[], "2001:db8::53/128");
        check("[2001:db8::53]:53", &[world("2001:db8::53")], &[], "2001:db8::53/128");
        check("unmanaged", &[], &[world("8.8.8.8")], "unmanaged");
        check("shop/app=dns", &[pod("shop", &["k8s:app=dns"], 53)], &[], "app=dns");
        for wrong in [
            "",
            "dns",
            "world",
            "dns/",
            "dns/x",
            "Dns/a=b",
            "8.8.8.8:0",
            "8.8.8.8:x",
            "dns/a=b:99999",
            "dns/a=b c",
            "\u{1b}[m",
        ] {
            let why = Meant::parse(wrong).unwrap_err();
            assert!(!why.contains('\u{1b}'), "{why}");
        }
    }

    #[test]
    fn what_looks_like_dns() {
        let check =
            |resolver: Resolver, expected| assert_eq!(looks_like_dns(&resolver), expected, "{resolver:?}");
        check(pod("shop", &["k8s:app=x"], 53), true);
        check(pod("shop", &["k8s:app=x"], 5353), false);
        check(pod("openshift-dns", &["k8s:x=y"], 5353), true);
        check(pod("dns", &["k8s:app.kubernetes.io/name=coredns"], 1053), true);
        check(pod("dns", &["k8s:app.kubernetes.io/name=coredns"], 9153), false);
        check(world("8.8.8.8"), true);
    }

    #[test]
    fn the_usual_resolver_needs_no_namespace_in_its_own() {
        let check = |namespace: &str, expected: &str| {
            let (peer, port) = usual(&Namespace::parse(namespace).unwrap()).unwrap();
            assert_eq!((peer.to_string().as_str(), port.get()), (expected, 53));
        };
        check("shop", "k8s-app=kube-dns,k8s:io.kubernetes.pod.namespace=kube-system");
        check("kube-system", "k8s-app=kube-dns");
    }

    #[test]
    fn refused_names_beyond_the_room_are_counted() {
        let mut names = Names::default();
        for i in 0..MOST + 3 {
            names.refuse("shop/app=web".into(), &DnsName::parse(&format!("n{i}.example")).unwrap(), 2);
        }
        names.refuse("shop/app=web".into(), &DnsName::parse("n0.example").unwrap(), 1);
        assert_eq!((names.refused.len(), names.refused_beyond), (MOST, 6));
    }
}
