//! What exists already, in every form that people write it in.

mod cluster;

use std::sync::Arc;

use super::*;
use crate::aggregate::Observed;
use crate::build::build;
use crate::flow::{Direction, Identity, Port, Protocol};
use crate::names::{DnsName, PolicyName};
use crate::policy::{Allow, Policy, Rule, Subject};

fn identity(namespace: &str, labels: &[&str]) -> Arc<Identity> {
    Arc::new(Identity::new(300, namespace, "", labels.iter().copied()))
}

/// shop/web → pay/api on TCP/443.
fn egress() -> Observation {
    Observation {
        subject: identity("shop", &["k8s:app=web"]),
        direction: Direction::Egress,
        peer: ObservedPeer::Pod(identity("pay", &["k8s:app=api"])),
        allow: Allow::Port(Protocol::Tcp, Port::new(443).unwrap()),
        request: None,
    }
}

fn judge(spec: &str, observation: &Observation) -> Screened {
    let text =
        format!("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: x}}\nspec: {spec}\n");
    judge_text(&text, observation)
}

fn judge_text(text: &str, observation: &Observation) -> Screened {
    let home = Namespace::parse("shop").unwrap();
    let (mut known, left_out) = Known::read([Source { name: "x.yaml", home: Some(&home), text }]);
    assert_eq!(left_out, []);
    known.judge(observation)
}

fn check(spec: &str, expected: &str) {
    let got = match judge(spec, &egress()) {
        Screened::New => "new",
        Screened::Allowed(_) => "allowed",
        Screened::Denied(_) => "denied",
    };
    assert_eq!(got, expected, "{spec}");
}

const WEB: &str = "endpointSelector: {matchLabels: {app: web}}";
const TO_PAY: &str = "toEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': pay}}]";

#[test]
fn wider_rules_and_ranges_allow() {
    check(&format!("{{{WEB}, egress: [{{{TO_PAY}}}]}}"), "allowed");
    check(&format!("{{endpointSelector: {{}}, egress: [{{{TO_PAY}}}]}}"), "allowed");
    check(&format!("{{{WEB}, egress: [{{toEntities: [cluster]}}]}}"), "allowed");
    let ports = |ports: &str| format!("{{{WEB}, egress: [{{{TO_PAY}, toPorts: [{{ports: [{ports}]}}]}}]}}");
    check(&ports("{port: '400', endPort: 500, protocol: TCP}"), "allowed");
    check(&ports("{port: '0'}"), "allowed");
    check(&ports("{port: '443', protocol: UDP}"), "new");
}

#[test]
fn what_is_about_others_says_nothing() {
    check(&format!("{{endpointSelector: {{matchLabels: {{app: other}}}}, egress: [{{{TO_PAY}}}]}}"), "new");
    check(&format!("{{{WEB}, ingress: [{{fromEntities: [all]}}]}}"), "new");
    check(&format!("{{{WEB}, egress: [{{toEndpoints: [{{matchLabels: {{app: api}}}}]}}]}}"), "new");
    check(&format!("{{{WEB}, egress: [{{}}]}}"), "new");
}

#[test]
fn only_a_named_rule_allows() {
    // Not enforced, says the policy; but the drop proves that something else enforces.
    check(
        &format!("{{{WEB}, egress: [{{toEntities: [host]}}], enableDefaultDeny: {{egress: false}}}}"),
        "new",
    );
    let from_host =
        Observation { direction: Direction::Ingress, peer: ObservedPeer::Entity(Entity::Host), ..egress() };
    assert_eq!(
        judge(&format!("{{{WEB}, ingress: [{{fromEntities: [ingress]}}]}}"), &from_host),
        Screened::New
    );
}

#[test]
fn a_deny_rule_wins_over_everything() {
    let spec = format!(
        "{{{WEB}, egress: [{{{TO_PAY}}}], egressDeny: [{{{TO_PAY}, toPorts: [{{ports: [{{port: '443'}}]}}]}}]}}"
    );
    check(&spec, "denied");
    let Screened::Denied(by) = judge(&spec, &egress()) else { panic!() };
    let by = by[0].to_string();
    assert!(by.contains("shop/x: spec.egressDeny[0]") && by.ends_with("in x.yaml"), "{by}");
}

#[test]
fn what_cannot_be_checked_counts_as_new() {
    check(&format!("{{{WEB}, egress: [{{{TO_PAY}, authentication: {{mode: required}}}}]}}"), "new");
    check(
        &format!("{{endpointSelector: {{matchLabels: {{app: web, version: v1}}}}, egress: [{{{TO_PAY}}}]}}"),
        "new",
    );
    check(
        &format!(
            "{{{WEB}, egress: [{{toServices: [{{k8sService: {{serviceName: api, namespace: pay}}}}]}}]}}"
        ),
        "new",
    );
}

#[test]
fn clusterwide_and_kubernetes_policies_count() {
    let clusterwide = "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: c}\nspec: {endpointSelector: {matchLabels: {app: web}}, egress: [{toEndpoints: [{}]}]}\n";
    assert!(matches!(judge_text(clusterwide, &egress()), Screened::Allowed(_)));
    let kubernetes = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: k, namespace: shop}\nspec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]}\n";
    assert!(matches!(judge_text(kubernetes, &egress()), Screened::Allowed(_)));
}

#[test]
fn world_by_its_address() {
    let world =
        |address: &str| Observation { peer: ObservedPeer::World(address.parse().unwrap()), ..egress() };
    let allowed = |spec: &str, address: &str| matches!(judge(spec, &world(address)), Screened::Allowed(_));
    let cidr =
        format!("{{{WEB}, egress: [{{toCIDRSet: [{{cidr: 192.0.2.0/24, except: [192.0.2.128/25]}}]}}]}}");
    assert!(allowed(&cidr, "192.0.2.7"));
    assert!(!allowed(&cidr, "192.0.2.200"));
    assert!(!allowed(&cidr, "2001:db8::1"));
    let entity = format!("{{{WEB}, egress: [{{toEntities: [world]}}]}}");
    assert!(allowed(&entity, "192.0.2.7") && allowed(&entity, "2001:db8::1"));
}

#[test]
fn what_cilium_refuses_decides_nothing_and_is_told() {
    let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: x, namespace: shop}\nspec: {endpointSelector: {}, egress: [{toEntities: [everybody]}]}\n";
    let (known, left_out) = Known::read([Source { name: "x.yaml", home: None, text }]);
    assert!(known.is_empty());
    assert_eq!(left_out.len(), 1);
}

#[test]
fn rules_are_confirmed_by_the_bytes_that_are_written() {
    let peers = [
        ObservedPeer::Pod(identity("pay", &["k8s:app=api"])),
        ObservedPeer::Pod(identity("shop", &["k8s:io.cilium.k8s.policy.serviceaccount=robot"])),
        ObservedPeer::Entity(Entity::KubeApiserver),
        ObservedPeer::Entity(Entity::Host),
        ObservedPeer::Entity(Entity::RemoteNode),
        ObservedPeer::World("192.0.2.7".parse().unwrap()),
        ObservedPeer::World("2001:db8::7".parse().unwrap()),
    ];
    for peer in peers {
        for direction in [Direction::Ingress, Direction::Egress] {
            let observation = Observation { peer: peer.clone(), direction, ..egress() };
            let built = build(vec![(observation, Default::default())]);
            let (subject, rules) = built.policies.first_key_value().unwrap();
            let mut policy = Policy::new(PolicyName::parse("x").unwrap(), subject.clone());
            rules.keys().for_each(|rule| assert!(policy.add(rule.clone())));
            assert_eq!(confirm(&policy, rules), []);
        }
    }
}

#[test]
fn a_rule_that_does_not_allow_its_observation_is_found() {
    let built = build(vec![(egress(), Default::default())]);
    let (subject, rules) = built.policies.first_key_value().unwrap();
    let mut policy = Policy::new(PolicyName::parse("x").unwrap(), subject.clone());
    for rule in rules.keys() {
        let other = Allow::Port(Protocol::Tcp, Port::new(444).unwrap());
        policy.add(crate::policy::Rule { allow: other, ..rule.clone() });
    }
    assert_eq!(confirm(&policy, rules).len(), 1);
}

/// What the pods of shop/api say of a connection that shop/web needs.
fn other_side(spec: &str) -> &'static str {
    let text =
        format!("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: x}}\nspec: {spec}\n");
    let home = Namespace::parse("pay").unwrap();
    let mut known = Known::after_apply([Source { name: "x.yaml", home: Some(&home), text: &text }], []);
    match known.other_side(&mirror(&egress()).unwrap()) {
        OtherSide::Open => "open",
        OtherSide::Closed(by) => {
            assert_eq!(by, ["CiliumNetworkPolicy pay/x in x.yaml"]);
            "closed"
        }
        OtherSide::Denied(_) => "denied",
        OtherSide::Unknown => "unknown",
    }
}

#[test]
fn the_other_end() {
    const API: &str = "endpointSelector: {matchLabels: {app: api}}";
    let check = |spec: &str, expected: &str| assert_eq!(other_side(spec), expected, "{spec}");
    check(&format!("{{{API}, egress: [{{}}]}}"), "open");
    check("{endpointSelector: {matchLabels: {app: other}}, ingress: [{}]}", "open");
    check(&format!("{{{API}, ingress: [{{}}]}}"), "closed");
    check(&format!("{{{API}, ingress: [{{}}], enableDefaultDeny: {{ingress: false}}}}"), "open");
    check(&format!("{{{API}, ingress: [{{fromEntities: [cluster]}}]}}"), "open");
    check(&format!("{{{API}, ingress: [{{fromEndpoints: [{{matchLabels: {{app: web}}}}]}}]}}"), "closed");
    let from = "fromEndpoints: [{matchLabels: {app: web, 'k8s:io.kubernetes.pod.namespace': shop}}]";
    check(&format!("{{{API}, ingress: [{{{from}}}]}}"), "open");
    check(&format!("{{{API}, ingress: [{{{from}, toPorts: [{{ports: [{{port: '80'}}]}}]}}]}}"), "closed");
    check(&format!("{{{API}, ingress: [{{{from}}}], ingressDeny: [{{fromEntities: [all]}}]}}"), "denied");
}

/// What the other end says to a request, where its port is open for some.
#[test]
fn the_other_end_of_a_request() {
    let get = |path: &str| Request::Http { method: "GET".into(), path: path.into() };
    let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: x}\nspec:
  endpointSelector: {matchLabels: {app: api}}
  ingress: [{toPorts: [{ports: [{port: '443', protocol: TCP}], rules: {http: [{path: '/a'}]}}]}]\n";
    let home = Namespace::parse("pay").unwrap();
    let mut known = Known::after_apply([Source { name: "x.yaml", home: Some(&home), text }], []);
    let mut says = |request| known.other_side(&mirror(&Observation { request, ..egress() }).unwrap());
    assert_eq!(says(None), OtherSide::Open);
    assert_eq!(says(Some(get("/a"))), OtherSide::Open);
    let OtherSide::Closed(by) = says(Some(get("/b"))) else { panic!("it is refused") };
    assert!(by[0].contains("spec.ingress[0]"), "{by:?}");
}

#[test]
fn only_a_pod_of_the_same_cluster_has_another_end() {
    let back = mirror(&egress()).unwrap();
    assert_eq!((back.direction, mirror(&back)), (Direction::Ingress, Some(egress())));
    let world = Observation { peer: ObservedPeer::World("192.0.2.7".parse().unwrap()), ..egress() };
    assert_eq!(mirror(&world), None);
    let host = Observation { peer: ObservedPeer::Entity(Entity::Host), ..egress() };
    assert_eq!(mirror(&host), None);
    let elsewhere = Arc::new(Identity::new(300, "pay", "west", ["k8s:app=api"]));
    assert_eq!(mirror(&Observation { peer: ObservedPeer::Pod(elsewhere), ..egress() }), None);
}

/// shop/web asks kube-dns for this name.
fn lookup(name: &str) -> Observation {
    Observation {
        peer: ObservedPeer::Pod(identity("kube-system", &["k8s:k8s-app=kube-dns"])),
        allow: Allow::Port(Protocol::Udp, Port::new(53).unwrap()),
        request: Some(Request::Dns(DnsName::parse(name).unwrap())),
        ..egress()
    }
}

fn known(egress: &str) -> Known {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: x}}\nspec: {{{WEB}, {egress}}}\n"
    );
    let home = Namespace::parse("shop").unwrap();
    let (known, left_out) = Known::read([Source { name: "x.yaml", home: Some(&home), text: &text }]);
    assert_eq!(left_out, []);
    known
}

#[test]
fn queries_are_judged_as_the_dns_proxy_does() {
    let check = |egress: &str, judged: &str, queried: &str| {
        let mut known = known(egress);
        let got = match known.judge(&lookup("a.example.com")) {
            Screened::New => "new",
            Screened::Allowed(_) => "allowed",
            Screened::Denied(_) => "denied",
        };
        let query = match known.query(&lookup("a.example.com")) {
            Query::New => "new",
            Query::Passed(_) => "passed",
            Query::Denied(_) => "denied",
            Query::Open(_) => "open",
        };
        assert_eq!((got, query), (judged, queried), "{egress}");
    };
    let system = "toEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': kube-system}}]";
    let to = |ports: &str| format!("egress: [{{{system}, toPorts: [{ports}]}}]");
    let dns = |rules: &str| to(&format!("{{ports: [{{port: '53'}}], rules: {{dns: [{rules}]}}}}"));
    check("egress: [{toEntities: [host]}]", "new", "new");
    check(&dns("{matchPattern: '*'}"), "allowed", "passed");
    check(&dns("{matchName: A.example.com}"), "allowed", "passed");
    check(&dns("{matchPattern: '*.example.com'}"), "allowed", "passed");
    check(&dns("{matchName: b.example.com}"), "new", "new");
    // Plain: allowed, but no name is learnt of it. Only the wide ones would be narrowed.
    check(&to("{ports: [{port: '53'}]}"), "allowed", "new");
    check(&to("{ports: [{port: '53', protocol: UDP}]}"), "allowed", "new");
    check(&format!("egress: [{{{system}}}]"), "allowed", "open");
    check("egress: [{toEntities: [cluster]}]", "allowed", "open");
    check("egress: [{toEntities: [all], toPorts: [{ports: [{port: '0'}]}]}]", "allowed", "open");
    check(&to("{ports: [{port: '50', endPort: 60}]}"), "allowed", "open");
    // A wide rule does not lift what a rule for the port restricts.
    let both = format!(
        "egress: [{{{system}}}, {{{system}, toPorts: [{{ports: [{{port: '53'}}], rules: {{dns: [{{matchName: b.example.com}}]}}}}]}}]"
    );
    check(&both, "new", "new");
    check(&format!("egressDeny: [{{{system}}}], {}", dns("{matchPattern: '*'}")), "denied", "denied");
    // What cannot be checked may be a wide rule.
    let service = "egress: [{toServices: [{k8sService: {serviceName: kube-dns, namespace: kube-system}}]}]";
    check(service, "new", "open");
    assert_eq!(known(service).query(&egress()), Query::New, "not a query");
}

#[test]
fn a_rule_for_a_name_is_confirmed_by_the_document_alone() {
    let rules = |observation: &Observation| build(vec![(observation.clone(), Default::default())]).policies;
    let confirmed = |behind: &BTreeMap<Subject, BTreeMap<Rule, Vec<Observed>>>,
                     change: fn(&mut Observation)| {
        let (subject, rules) = behind.iter().next().unwrap();
        let mut policy = Policy::new(PolicyName::parse("cpg-x").unwrap(), subject.clone());
        let mut behind = BTreeMap::new();
        for (rule, observed) in rules {
            policy.add(rule.clone());
            let mut observed = observed.clone();
            observed.iter_mut().for_each(|(observation, _)| change(observation));
            behind.insert(rule.clone(), observed);
        }
        confirm(&policy, &behind).len()
    };
    let asked = rules(&lookup("a.example.com"));
    assert_eq!(confirmed(&asked, |_| ()), 0);
    let other =
        |o: &mut Observation| o.request = Some(Request::Dns(DnsName::parse("b.example.com").unwrap()));
    assert_eq!(confirmed(&asked, other), 2);
    let address = "192.0.2.7".parse().unwrap();
    let named = |names: &[&str]| ObservedPeer::Named {
        address,
        names: names.iter().map(|name| DnsName::parse(name).unwrap()).collect(),
    };
    let by_name = rules(&Observation { peer: named(&["a.example.com", "b.example.com"]), ..egress() });
    assert_eq!(by_name.values().map(BTreeMap::len).sum::<usize>(), 2);
    assert_eq!(confirmed(&by_name, |_| ()), 0);
    let unnamed = |o: &mut Observation| o.peer = ObservedPeer::World("192.0.2.7".parse().unwrap());
    assert_eq!(confirmed(&by_name, unnamed), 2);
}
