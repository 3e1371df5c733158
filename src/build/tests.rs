//! Selectors and rules from labels as they come.

use super::*;
use crate::aggregate::Tally;
use crate::flow::{Direction, Port, Protocol};
use crate::names::DnsName;
use crate::policy::{Allow, Entity};

fn identity(namespace: &str, cluster: &str, labels: &[&str]) -> Arc<Identity> {
    Arc::new(Identity::new(300, namespace, cluster, labels.iter().copied()))
}

fn check(labels: &[&str], expected: Option<&str>) {
    let got = subject_selector(&identity("shop", "", labels)).map(|s| text(&s));
    assert_eq!(got.as_deref(), expected, "{labels:?}");
}

fn text(selector: &crate::policy::Selector) -> String {
    selector.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

fn check_peer(peer: &Arc<Identity>, subject: &Arc<Identity>, expected: Option<&str>) {
    assert_eq!(peer_selector(peer, subject).map(|s| text(&s)).as_deref(), expected);
}

#[test]
fn all_identifying_labels_that_are_there() {
    check(
        &[
            "k8s:app.kubernetes.io/name=cart",
            "k8s:app.kubernetes.io/instance=cart-eu",
            "k8s:app.kubernetes.io/component=api",
            "k8s:app.kubernetes.io/managed-by=Helm",
            "k8s:helm.sh/chart=cart-1.2.3",
            "k8s:io.cilium.k8s.policy.serviceaccount=cart",
        ],
        Some(
            "app.kubernetes.io/component=api,app.kubernetes.io/instance=cart-eu,app.kubernetes.io/name=cart",
        ),
    );
    check(&["k8s:app=web", "k8s:tier=front", "k8s:team=a"], Some("app=web,tier=front"));
    check(&["k8s:k8s-app=kube-dns", "k8s:pod-template-hash=1"], Some("k8s-app=kube-dns"));
}

#[test]
fn without_a_naming_label_all_stable_ones() {
    check(&["k8s:team=pay", "k8s:tier=data", "k8s:role=primary"], Some("team=pay,tier=data"));
    check(&["k8s:app.kubernetes.io/instance=x", "k8s:zone=a"], Some("app.kubernetes.io/instance=x,zone=a"));
    check(&["k8s:app", "k8s:zone=a"], Some("app=,zone=a"));
}

#[test]
fn an_empty_selector_is_never_made() {
    check(&[], None);
    check(&["k8s:pod-template-hash=abc", "k8s:controller-uid=1"], None);
    check(&["k8s:io.cilium.k8s.policy.serviceaccount=x"], None);
    check(&["reserved:host"], None);
}

#[test]
fn peers_by_namespace_and_cluster() {
    let subject = identity("shop", "east", &["k8s:app=web"]);
    check_peer(&identity("shop", "east", &["k8s:app=api"]), &subject, Some("app=api"));
    check_peer(
        &identity("pay", "east", &["k8s:app=api"]),
        &subject,
        Some("app=api,k8s:io.kubernetes.pod.namespace=pay"),
    );
    check_peer(
        &identity("shop", "west", &["k8s:app=api"]),
        &subject,
        Some("app=api,k8s:io.cilium.k8s.policy.cluster=west"),
    );
    check_peer(
        &identity("pay", "west", &["k8s:app=api"]),
        &subject,
        Some("app=api,k8s:io.cilium.k8s.policy.cluster=west,k8s:io.kubernetes.pod.namespace=pay"),
    );
    check_peer(&identity("shop", "", &["k8s:app=api"]), &subject, Some("app=api"));
}

#[test]
fn a_peer_without_labels_is_its_service_account() {
    let subject = identity("shop", "", &["k8s:app=web"]);
    let account = |name: &str| {
        identity("pay", "", &[format!("k8s:io.cilium.k8s.policy.serviceaccount={name}").as_str()])
    };
    check_peer(
        &account("robot"),
        &subject,
        Some("k8s:io.cilium.k8s.policy.serviceaccount=robot,k8s:io.kubernetes.pod.namespace=pay"),
    );
    check_peer(&account("default"), &subject, None);
}

#[test]
fn peers_of_equal_labels_in_two_namespaces_are_two_rules() {
    let subject = identity("shop", "", &["k8s:app=web"]);
    let observe = |namespace: &str| {
        let observation = Observation {
            subject: Arc::clone(&subject),
            direction: Direction::Ingress,
            peer: ObservedPeer::Pod(identity(namespace, "", &["k8s:app=client"])),
            allow: Allow::Port(Protocol::Tcp, Port::new(80).unwrap()),
            request: None,
        };
        (observation, Tally::default())
    };
    let built = build(vec![observe("a"), observe("b"), observe("shop")]);
    assert_eq!(built.policies.values().map(BTreeMap::len).sum::<usize>(), 3);
}

#[test]
fn world_is_one_address_of_its_family() {
    let rule_to = |address: &str| {
        let observation = Observation {
            subject: identity("shop", "", &["k8s:app=web"]),
            direction: Direction::Egress,
            peer: ObservedPeer::World(address.parse().unwrap()),
            allow: Allow::Port(Protocol::Tcp, Port::new(443).unwrap()),
            request: None,
        };
        rules(&observation).unwrap().1[0].to_string()
    };
    assert_eq!(rule_to("192.0.2.7"), "egress to 192.0.2.7/32 TCP/443");
    assert_eq!(rule_to("2001:db8::7"), "egress to 2001:db8::7/128 TCP/443");
}

#[test]
fn names_and_queries() {
    let name = |text: &str| DnsName::parse(text).unwrap();
    let check = |peer: ObservedPeer, request, expected: &[&str]| {
        let allow = Allow::Port(Protocol::Udp, Port::new(53).unwrap());
        let subject = identity("shop", "", &["k8s:app=web"]);
        let observation = Observation { subject, direction: Direction::Egress, peer, allow, request };
        let rules: Vec<String> = rules(&observation).unwrap().1.iter().map(ToString::to_string).collect();
        assert_eq!(rules, expected);
    };
    let named = || ObservedPeer::Named {
        address: "192.0.2.7".parse().unwrap(),
        names: [name("a.example"), name("b.example")].into(),
    };
    check(named(), None, &["egress to fqdn:a.example UDP/53", "egress to fqdn:b.example UDP/53"]);
    let query = || Some(Request::Dns(name("x.example")));
    let by_both = |peer: &str| ["UDP", "TCP"].map(|p| format!("egress to {peer} {p}/53 DNS x.example"));
    let of = |peer: &str| by_both(peer).to_vec();
    check(named(), query(), &of("192.0.2.7/32").iter().map(String::as_str).collect::<Vec<_>>());
    let host = of("host");
    check(ObservedPeer::Entity(Entity::Host), query(), &host.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn other_workloads_that_a_selector_also_matches_are_told() {
    let seen: BTreeSet<_> = [
        identity("shop", "", &["k8s:app=web"]),
        identity("shop", "", &["k8s:app=web", "k8s:tier=canary"]),
        identity("pay", "", &["k8s:app=web", "k8s:tier=canary"]),
    ]
    .into();
    let built = build(vec![(
        Observation {
            subject: identity("shop", "", &["k8s:app=web"]),
            direction: Direction::Ingress,
            peer: ObservedPeer::Entity(Entity::Ingress),
            allow: Allow::Port(Protocol::Tcp, Port::new(80).unwrap()),
            request: None,
        },
        Tally::default(),
    )]);
    let found = also_selected(built.policies.keys(), &seen);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1.len(), 1);
}
