//! What the sanitised types hold.

use super::super::*;
use super::policy;
use crate::flow::IcmpFamily;
use crate::policy::spec::{
    IcmpMatch, IpProtocol, L4, L7, LabelKey, NamespaceAddition, Operator, PeerSpec, Peers, PortSpec,
    Protocols, Requirement, SubjectSpec, sanitise,
};

fn specs(text: &str) -> Vec<Spec> {
    let checked = check(text, &Options::default()).into_iter().next().unwrap();
    checked.specs.unwrap_or_else(|| panic!("{:#?}", checked.findings))
}

fn one(spec: &str) -> Spec {
    specs(&policy(spec)).into_iter().next().unwrap()
}

fn ingress(rule: &str) -> crate::policy::spec::RuleSpec {
    one(&format!("endpointSelector: {{}}, ingress: [{rule}]")).ingress.rules.into_iter().next().unwrap()
}

#[test]
fn peers_that_are_absent_empty_or_there() {
    for (rule, expected) in [
        ("{}", Peers::Nobody),
        ("{toPorts: [{ports: [{port: '80'}]}]}", Peers::Any),
        ("{icmps: [{fields: [{type: 8}]}]}", Peers::Any),
        ("{toPorts: []}", Peers::Nobody),
        ("{fromEndpoints: [], toPorts: [{ports: [{port: '80'}]}]}", Peers::Nobody),
        ("{fromEndpoints: null, toPorts: [{ports: [{port: '80'}]}]}", Peers::Any),
        ("{fromGroups: [], toPorts: [{ports: [{port: '80'}]}]}", Peers::Any),
        ("{fromEndpoints: [], fromEntities: [all]}", Peers::Nobody),
    ] {
        assert_eq!(ingress(rule).peers, expected, "{rule}");
    }
}

#[test]
fn what_cilium_adds_to_a_peer() {
    let addition = |kind: &str, selector: &str| {
        let text = policy(&format!("endpointSelector: {{}}, ingress: [{{fromEndpoints: [{selector}]}}]"));
        let text = if kind == "ccnp" {
            text.replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
                .replace(", namespace: shop", "")
        } else {
            text
        };
        let rule = specs(&text).remove(0).ingress.rules.remove(0);
        let Peers::Of(items) = rule.peers else { panic!("{rule:?}") };
        let [PeerSpec::Endpoints(peer)] = items.as_slice() else { panic!("{items:?}") };
        (peer.namespace.clone(), peer.local_cluster)
    };
    let own = NamespaceAddition::Equals("shop".into());
    assert_eq!(addition("cnp", "{}"), (own.clone(), true));
    assert_eq!(addition("ccnp", "{}"), (NamespaceAddition::Exists, true));
    for key in
        ["io.kubernetes.pod.namespace", "k8s:io.kubernetes.pod.namespace", "any:io.kubernetes.pod.namespace"]
    {
        assert_eq!(
            addition("cnp", &format!("{{matchLabels: {{'{key}': a}}}}")),
            (NamespaceAddition::Nothing, true)
        );
    }
    let by_label = "{matchLabels: {'k8s:io.cilium.k8s.namespace.labels.team': blue}}";
    assert_eq!(addition("cnp", by_label), (NamespaceAddition::Nothing, true));
    assert_eq!(addition("ccnp", by_label), (NamespaceAddition::Exists, true));
    let reserved = "{matchExpressions: [{key: 'reserved:host', operator: DoesNotExist}]}";
    assert_eq!(addition("cnp", reserved), (NamespaceAddition::Nothing, false));
    let cluster = "{matchLabels: {'k8s:io.cilium.k8s.policy.cluster': c2}}";
    assert_eq!(addition("cnp", cluster), (own, false));
}

#[test]
fn the_subject_is_in_the_policys_namespace() {
    let spec = one(
        "endpointSelector: {matchLabels: {app: a, 'k8s:io.kubernetes.pod.namespace': other}}, ingress: [{}]",
    );
    let SubjectSpec::Endpoints(selector) = &spec.subject else { panic!("{:?}", spec.subject) };
    let expected = [
        Requirement::equals(LabelKey::new("any", "app"), "a"),
        Requirement::equals(LabelKey::k8s("io.kubernetes.pod.namespace"), "shop"),
    ];
    assert_eq!(selector.requirements, expected);
    assert_eq!(spec.origin.mark, Some(Mark { line: 4, column: 1 }));
}

#[test]
fn default_deny_per_direction() {
    for (rest, ingress, egress) in [
        ("ingress: [{}]", true, false),
        ("egressDeny: [{}]", false, true),
        ("ingress: [{}], enableDefaultDeny: {ingress: false}", false, false),
        ("ingress: [{}], enableDefaultDeny: {egress: true}", true, true),
    ] {
        let spec = one(&format!("endpointSelector: {{}}, {rest}"));
        assert_eq!((spec.ingress.default_deny, spec.egress.default_deny), (ingress, egress), "{rest}");
    }
}

#[test]
fn ports_and_types() {
    let ports = |list: &str| match ingress(&format!("{{toPorts: [{{ports: [{list}]}}]}}")).l4 {
        L4::Ports(rules) => rules[0].ports.iter().map(|p| (p.protocols, p.port.clone())).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let range = |first, last| PortSpec::Range { first, last };
    assert_eq!(
        ports("{port: '80'}, {port: '0'}, {port: '0', endPort: 65535}, {port: '0', endPort: 100}"),
        [range(80, 80), PortSpec::All, PortSpec::All, range(0, 100)].map(|p| (Protocols::Any, p))
    );
    assert_eq!(
        ports("{port: '80', endPort: 70, protocol: UDP}, {port: '80', endPort: 90, protocol: UDP}"),
        [range(80, 80), range(80, 90)].map(|p| (Protocols::One(IpProtocol::Udp), p))
    );
    let named = PortSpec::Named { name: "http".into(), end: Some(90) };
    assert_eq!(ports("{port: HTTP, endPort: 90}"), [(Protocols::Any, named)]);
    let icmp =
        ingress("{icmps: [{fields: [{type: 8}, {type: EchoRequest, family: IPv6}, {type: '0'}]}, {}]}").l4;
    let (v4, v6) = (IcmpFamily::V4, IcmpFamily::V6);
    assert_eq!(icmp, L4::Icmp(vec![IcmpMatch::Type(v4, 8), IcmpMatch::Type(v6, 128), IcmpMatch::Every(v4)]));
}

#[test]
fn layer7_is_kept() {
    let l7 = |rules: &str| match ingress(&format!(
        "{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {rules}}}]}}"
    ))
    .l4
    {
        L4::Ports(mut rules) => rules.remove(0).l7,
        other => panic!("{other:?}"),
    };
    assert_eq!(l7("{http: []}"), L7::None);
    assert_eq!(l7("{l7proto: x}"), L7::Proxylib { parser: "x".into(), rules: Vec::new() });
    let L7::Http(rules) = l7("{http: [{path: /a, headers: ['A: b']}, {}]}") else { panic!() };
    assert_eq!((rules[0].path.as_deref(), rules.len()), (Some("/a"), 2));
    assert_eq!(rules[0].headers, ["A: b".into()]);
}

#[test]
fn kubernetes_network_policies() {
    let policy = |spec: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: a}}\nspec: {{podSelector: {{}}, {spec}}}\n"
        )
    };
    let sides = |spec: &str| {
        let spec = specs(&policy(spec)).remove(0);
        (spec.ingress.rules, spec.egress.rules)
    };
    // One rule that matches nothing stands for the default deny.
    let (ingress, egress) = sides("policyTypes: [Ingress, Egress]");
    assert_eq!((&ingress[0].peers, &egress[0].peers), (&Peers::Nobody, &Peers::Nobody));
    let (ingress, egress) = sides("egress: [{}]");
    assert_eq!((&ingress[0].peers, &egress[0].peers, &egress[0].l4), (&Peers::Nobody, &Peers::Any, &L4::All));
    let (ingress, egress) = sides("policyTypes: [Egress]");
    assert_eq!((ingress.len(), egress.len()), (0, 1));

    let (ingress, _) = sides(
        "ingress: [{from: [{podSelector: {matchLabels: {app: a}}}, {namespaceSelector: {}}, \
         {namespaceSelector: {matchLabels: {team: b}}}, {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], \
         ports: [{port: 80}, {port: web}, {protocol: SCTP}]}]",
    );
    let Peers::Of(peers) = &ingress[0].peers else { panic!() };
    let endpoints: Vec<_> = peers
        .iter()
        .filter_map(|peer| match peer {
            PeerSpec::Endpoints(peer) => Some((peer.selector.requirements.clone(), peer.namespace.clone())),
            _ => None,
        })
        .collect();
    let app = Requirement::equals(LabelKey::k8s("app"), "a");
    let team = Requirement::equals(LabelKey::k8s("io.cilium.k8s.namespace.labels.team"), "b");
    assert_eq!(
        endpoints,
        [
            (vec![app], NamespaceAddition::Equals("default".into())),
            (vec![], NamespaceAddition::Exists),
            (vec![team], NamespaceAddition::Nothing),
        ]
    );
    let L4::Ports(rules) = &ingress[0].l4 else { panic!() };
    let found: Vec<_> = rules[0].ports.iter().map(|p| (p.protocols, p.port.clone())).collect();
    assert_eq!(
        found,
        [
            (Protocols::One(IpProtocol::Tcp), PortSpec::Range { first: 80, last: 80 }),
            (Protocols::One(IpProtocol::Tcp), PortSpec::Named { name: "web".into(), end: None }),
            (Protocols::One(IpProtocol::Sctp), PortSpec::All),
        ]
    );

    for (spec, path) in [
        ("ingress: [{from: [{}]}]", "spec.ingress[0].from[0]"),
        ("ingress: [{ports: [{port: '80'}]}]", "spec.ingress[0].ports[0].port"),
        ("ingress: [{ports: [{port: 80, protocol: ICMP}]}]", "spec.ingress[0].ports[0].protocol"),
        ("ingress: [{ports: [{port: web, endPort: 90}]}]", "spec.ingress[0].ports[0].endPort"),
        (
            "ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]",
            "spec.ingress[0].from[0].ipBlock.except[0]",
        ),
    ] {
        let findings = validate(&policy(spec), &Options::default());
        assert!(
            findings.iter().any(|f| f.refusal.refuses() && f.path.to_string() == path),
            "{spec} {findings:#?}"
        );
    }
}

#[test]
fn sanitise_is_the_agent_alone() {
    let read = |text: &str| crate::policy::read_documents(text).unwrap().remove(0);
    // The API server drops this field and refuses that entity; the agent takes both.
    let document = read(&policy("endpointSelector: {}, ingress: [{fromEntities: [world-ipv4], foo: 1}]"));
    let specs = sanitise(&document, &Options::default()).unwrap();
    assert_eq!(specs[0].ingress.rules[0].path.to_string(), "spec.ingress[0]");
    assert!(matches!(specs[0].ingress.rules[0].peers, Peers::Of(_)));
    let document = read(&policy("endpointSelector: {}, ingress: []"));
    assert_eq!(sanitise(&document, &Options::default()).unwrap_err()[0].refusal, Refusal::Agent);
    let document = read("apiVersion: v1\nkind: Service\n");
    assert_eq!(sanitise(&document, &Options::default()), Ok(Vec::new()));
    let spec = one("endpointSelector: {matchExpressions: [{key: a, operator: DoesNotExist}]}, ingress: [{}]");
    let SubjectSpec::Endpoints(selector) = spec.subject else { panic!() };
    assert_eq!(selector.requirements[0].operator, Operator::DoesNotExist);
}
