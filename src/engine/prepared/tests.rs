//! What a decision says, and what is enforced on whom.

use super::*;
use crate::engine::{EnablePolicy, EngineOptions};
use crate::policy::read_documents;
use crate::policy::spec::{Options, sanitise};

const POLICIES: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts:
    - ports: [{port: '80', protocol: TCP}]
      rules: {http: [{method: GET}]}
    - ports: [{port: '80', endPort: 90, protocol: TCP}]
  ingressDeny:
  - fromEntities: [world]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: all, namespace: shop}
spec:
  endpointSelector: {}
  enableDefaultDeny: {ingress: false}
  ingress: [{icmps: [{fields: [{type: 8}]}]}]
";

fn of_text(text: &str, options: EngineOptions) -> Engine {
    let documents = read_documents(text).unwrap();
    let specs = documents.iter().flat_map(|d| sanitise(d, &Options::default()).unwrap());
    Engine::new(specs.collect(), options)
}

fn engine() -> Engine {
    of_text(POLICIES, EngineOptions::default())
}

fn pod(app: &str) -> Party {
    let labels = ["k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=default"];
    let app = format!("k8s:app={app}");
    Party::new(1001, labels.into_iter().chain([&*app]))
}

fn paths(rules: &RuleRefs<'_>) -> Vec<String> {
    rules.list().iter().map(ToString::to_string).collect()
}

#[test]
fn a_decision_names_every_rule_behind_it() {
    let engine = engine();
    let web = engine.subject(&pod("web"));
    let decide = |peer: &Party, traffic| web.decide(peer, Direction::Ingress, traffic);
    let Decision::Allowed { by: Allowance::Rule, redirect: true, rules } =
        decide(&pod("client"), Traffic::tcp(80))
    else {
        panic!("a redirect")
    };
    let shop = "CiliumNetworkPolicy shop/web: spec";
    assert_eq!(paths(&rules), [format!("{shop}.ingress[1]"), format!("{shop}.ingress[0]")]);
    let world = Party::new(2, ["reserved:world"]);
    let Decision::Denied { rules } = decide(&world, Traffic::tcp(80)) else { panic!("denied") };
    assert_eq!(paths(&rules), [format!("{shop}.ingressDeny[0]")]);
    let Decision::DefaultDeny { because } = decide(&pod("other"), Traffic::tcp(80)) else {
        panic!("default deny")
    };
    assert_eq!(because.iter().map(|o| &*o.name).collect::<Vec<_>>(), ["web"]);
    assert_eq!(web.decide(&world, Direction::Egress, Traffic::tcp(80)), Decision::Unselected);
    assert!(web.is_default_deny(Direction::Ingress) && !web.is_default_deny(Direction::Egress));
    let other = engine.subject(&pod("other"));
    let open = other.decide(&world, Direction::Ingress, Traffic::tcp(80));
    assert!(matches!(open, Decision::Allowed { by: Allowance::NoDefaultDeny, .. }), "{open:?}");
    let host = decide(&Party::new(1, ["reserved:host"]), Traffic::tcp(80));
    assert!(matches!(host, Decision::Allowed { by: Allowance::Localhost, .. }), "{host:?}");
}

#[test]
fn only_rules_that_match_are_named() {
    let engine = engine();
    let web = engine.subject(&pod("web"));
    let named = |traffic| match web.decide(&pod("client"), Direction::Ingress, traffic) {
        Decision::Allowed { by: Allowance::Rule, redirect, rules } => {
            assert_eq!(rules.first(), rules.list().first().copied());
            (redirect, paths(&rules).iter().map(|rule| rule.rsplit_once('.').unwrap().1.to_owned()).collect())
        }
        other => panic!("{other:?}"),
    };
    let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert_eq!(named(Traffic::tcp(85)), (false, names(&["ingress[0]", "ingress[1]"])));
    assert_eq!(named(Traffic::tcp(91)), (false, names(&["ingress[0]"])));
    let ping = Traffic::Icmp { family: crate::flow::IcmpFamily::V4, kind: 8 };
    assert_eq!(named(ping), (false, names(&["ingress[0]", "ingress[0]"])));
    let nothing = engine.subject(&pod("other")).decide(&pod("x"), Direction::Ingress, Traffic::tcp(1));
    let Decision::Allowed { by: Allowance::NoDefaultDeny, rules, .. } = nothing else { panic!("allowed") };
    assert_eq!((rules.first(), rules.list()), (None, Vec::new()));
    assert_eq!(engine.specs().len(), 2);
}

/// Several items of one member, several labels of one peer: the rule is one.
#[test]
fn a_rule_that_means_a_peer_twice_is_named_once() {
    let text = POLICIES.replace("{app: client}", "{}").replace("[world]", "[remote-node, kube-apiserver]");
    let engine = of_text(&text, EngineOptions::default());
    let api = Party::new(7, ["reserved:kube-apiserver", "reserved:remote-node"]);
    let web = engine.subject(&pod("web"));
    let Decision::Denied { rules } = web.decide(&api, Direction::Ingress, Traffic::tcp(80)) else {
        panic!("denied")
    };
    assert_eq!(rules.list().len(), 1);
}

/// `fromRequires` (up to 1.18) adds to the endpoint selectors of all allow rules of a subject, or of all
/// deny rules, and to nothing else.
#[test]
fn what_is_required_of_peers() {
    let text = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
  - fromEntities: [health]
  - fromRequires: [{matchLabels: {tier: front}}]
  ingressDeny:
  - fromEndpoints: [{matchLabels: {app: bad}}]
";
    let options = Options::of(Version::V1_18);
    let specs = sanitise(&read_documents(text).unwrap()[0], &options).unwrap();
    let engine = Engine::new(specs, EngineOptions::of(Version::V1_18));
    let web = engine.subject(&pod("web"));
    let check = |labels: &[&str], allowed: bool, denied: bool| {
        let namespace = "k8s:io.kubernetes.pod.namespace=shop";
        let peer = Party::new(1002, labels.iter().copied().chain([namespace]));
        let decision = web.decide(&peer, Direction::Ingress, Traffic::tcp(80));
        let got = (decision.is_allowed(), matches!(decision, Decision::Denied { .. }));
        assert_eq!(got, (allowed, denied), "{labels:?} {decision:?}");
    };
    check(&["k8s:app=client"], false, false);
    check(&["k8s:app=client", "k8s:tier=front"], true, false);
    check(&["k8s:tier=front"], false, false);
    check(&["reserved:health"], true, false);
    check(&["k8s:app=bad"], false, true);
}

#[test]
fn where_nothing_is_enforced() {
    let check = |options: EngineOptions, subject: &Party, expected: bool| {
        let engine = of_text(POLICIES, options);
        let decision =
            engine.subject(subject).decide(&pod("x"), Direction::Egress, Traffic::tcp(80)).is_allowed();
        assert_eq!(decision, expected, "{subject:?}");
    };
    let mode = |mode| EngineOptions { mode, ..EngineOptions::default() };
    check(mode(EnablePolicy::Always), &pod("web"), false);
    check(mode(EnablePolicy::Always), &Party::new(2, ["reserved:world"]), true);
    check(mode(EnablePolicy::Default), &pod("web"), true);
    check(mode(EnablePolicy::Never), &Party::new(5, ["reserved:init"]), true);
    check(mode(EnablePolicy::Default), &Party::new(5, ["reserved:init"]), false);
    check(mode(EnablePolicy::Always), &Party::new(1, ["reserved:host"]), true);
    let firewall = EngineOptions { host_firewall: true, ..mode(EnablePolicy::Always) };
    check(firewall.clone(), &Party::new(1, ["reserved:host"]), false);
    assert_eq!(of_text(POLICIES, firewall.clone()).options(), &firewall);
}

#[test]
fn a_prepared_peer_decides_the_same() {
    let engine = engine();
    let web = engine.subject(&pod("web"));
    let peers = [pod("client"), pod("other"), Party::new(2, ["reserved:world"])];
    for peer in &peers {
        let prepared = web.peer(peer);
        for traffic in [Traffic::tcp(80), Traffic::tcp(85), Traffic::udp(1), Traffic::Other] {
            for direction in [Direction::Ingress, Direction::Egress] {
                assert_eq!(prepared.decide(direction, traffic), web.decide(peer, direction, traffic));
            }
        }
    }
}

#[test]
fn decisions_differ_by_what_is_behind_them() {
    let engine = engine();
    let ask = |subject: &str, peer: &str, port| {
        engine.subject(&pod(subject)).decide(&pod(peer), Direction::Ingress, Traffic::tcp(port))
    };
    assert_eq!(ask("web", "client", 85), ask("web", "client", 90));
    assert_ne!(ask("web", "client", 85), ask("web", "client", 91));
    assert_eq!(ask("web", "x", 85), ask("web", "y", 1));
    let always = EngineOptions { mode: EnablePolicy::Always, ..EngineOptions::default() };
    let always = of_text(POLICIES, always);
    let forced = always.subject(&pod("none")).decide(&pod("x"), Direction::Ingress, Traffic::tcp(1));
    assert!(!forced.is_allowed() && forced != ask("web", "x", 1), "{forced:?}");
    for (decision, name) in [(ask("web", "client", 85), "Path"), (ask("web", "x", 85), "Origin")] {
        assert!(format!("{decision:?}").contains(name), "{decision:?}");
    }
}

/// Two policies of namespace shop, the second one for a job that the flow does not tell. The subject
/// may be it or not.
#[track_caller]
fn check_uncertain(certain: &str, uncertain: &str, peer: &Party, expected: &str) {
    let policy = |(name, job, spec): (&str, &str, &str)| {
        format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec:\n  endpointSelector: {{matchLabels: {{{job}}}}}\n  {spec}\n---\n"
        )
    };
    let policies = [("a", "app: web", certain), ("b", "job-name: x", uncertain)];
    let text: String = policies.into_iter().filter(|p| !p.2.is_empty()).map(policy).collect();
    let engine = of_text(&text, EngineOptions::default());
    let flow = crate::flow::Endpoint::new(1001, "shop", "p", "", ["k8s:app=web"]);
    let subject = engine.subject(&Party::from_identity(1001, &flow.identity, "default"));
    let got = match subject.decide(peer, Direction::Ingress, Traffic::tcp(80)) {
        Decision::Allowed { by, redirect, .. } => {
            format!("{by:?}{}", if redirect { " redirect" } else { "" })
        }
        Decision::Denied { .. } => "Denied".to_owned(),
        Decision::DefaultDeny { .. } => "DefaultDeny".to_owned(),
        Decision::Unselected => "Unselected".to_owned(),
        Decision::CouldNotCheck { field, rule } => match rule {
            Some(rule) => format!("{field} {}", rule.origin.name),
            None => field.to_string(),
        },
    };
    assert_eq!(got, expected, "{text}");
}

#[test]
fn a_policy_that_may_select_counts_where_it_could_change_the_verdict() {
    let client = "fromEndpoints: [{matchLabels: {app: client}}]";
    let port = "toPorts: [{ports: [{port: '80', protocol: TCP}]";
    let (allow, deny) = (format!("ingress: [{{{client}}}]"), format!("ingressDeny: [{{{client}}}]"));
    let http = format!("ingress: [{{{client}, {port}, rules: {{http: [{{}}]}}}}]}}]");
    let other = "ingress: [{fromEntities: [health]}]";
    let open = |rules: &str| format!("enableDefaultDeny: {{ingress: false}}\n  {rules}");
    let (peer, host) = (pod("client"), Party::new(1, ["reserved:host"]));
    let check =
        |certain: &str, uncertain: &str, expected| check_uncertain(certain, uncertain, &peer, expected);
    check(&allow, &deny, "labels b");
    check(&deny, &deny, "Denied");
    check(&deny, &allow, "Denied");
    check(&allow, &http, "labels b");
    check(&http, &allow, "Rule redirect");
    check(&http, &http, "Rule redirect");
    check(&allow, other, "Rule");
    check(other, &allow, "labels b");
    check(other, other, "DefaultDeny");
    check(other, &http, "labels b");
    check(&open(other), &allow, "NoDefaultDeny");
    check(&open(other), &http, "labels b");
    check(&open(other), other, "labels");
    check(&open(other), &open(other), "NoDefaultDeny");
    check("", &allow, "Unselected");
    check("", other, "labels");
    check("", &open(other), "Unselected");
    check("", &deny, "labels b");
    check_uncertain("", other, &host, "Unselected");
    check_uncertain(&open(other), other, &host, "NoDefaultDeny");
    check_uncertain(other, &allow, &host, "Localhost");
}

#[test]
fn labels_that_a_flow_does_not_tell() {
    let text = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: job, namespace: shop}
spec:
  endpointSelector: {matchLabels: {job-name: x}}
  ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]
";
    let engine = of_text(text, EngineOptions::default());
    let flow = crate::flow::Endpoint::new(1001, "shop", "p", "", ["k8s:app=web", "k8s:job-name=y"]);
    let subject = engine.subject(&Party::from_identity(1001, &flow.identity, "default"));
    let decide = |peer: &str| subject.decide(&pod(peer), Direction::Ingress, Traffic::tcp(80));
    assert_eq!(decide("other"), Decision::CouldNotCheck { field: Field::Labels, rule: None });
    assert!(decide("client").is_allowed(), "allowed whether it is selected or not");
}
