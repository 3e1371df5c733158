//! The vectors of the reference: one policy, and what becomes of connections with every kind of peer. And
//! the settled questions of `tests/conformance`, so that the engine's own tests hold what Cilium has
//! answered once.

use std::path::Path;

use serde::Deserialize;

use super::question::{Answer, FlowQuestion, Id, Opts, Port, Question, answer_line};
use crate::policy::spec::Version;

/// Pods client, server and dotted in namespace default, other in another namespace, remote in another
/// cluster, and one of everything else.
const IDS: &[(&str, u32, &[&str])] = &[
    ("client", 1001, &["k8s:app=client", "k8s:io.kubernetes.pod.namespace=default", CLUSTER]),
    ("server", 1002, &["k8s:app=server", "k8s:io.kubernetes.pod.namespace=default", CLUSTER]),
    ("other", 1003, &["k8s:app=client", "k8s:io.kubernetes.pod.namespace=other", CLUSTER]),
    (
        "dotted",
        1004,
        &["k8s:app.kubernetes.io/name=dotted", "k8s:io.kubernetes.pod.namespace=default", CLUSTER],
    ),
    (
        "remote",
        66_537,
        &["k8s:app=client", "k8s:io.kubernetes.pod.namespace=default", "k8s:io.cilium.k8s.policy.cluster=c2"],
    ),
    ("host", 1, &["reserved:host"]),
    ("world", 2, &["reserved:world"]),
    ("unmanaged", 3, &["reserved:unmanaged"]),
    ("health", 4, &["reserved:health"]),
    ("init", 5, &["reserved:init"]),
    ("node", 6, &["reserved:remote-node"]),
    ("apinode", 7, &["reserved:kube-apiserver", "reserved:remote-node"]),
    ("ingress", 8, &["reserved:ingress"]),
    ("apiworld", 16_777_217, &["cidr:192.0.2.1/32", "reserved:kube-apiserver", "reserved:world"]),
    ("ten", 16_777_218, &["cidr:10.0.0.0/8", "reserved:world"]),
    ("service", 16_777_219, &["cidr:10.96.0.0/12", "reserved:world"]),
];
const CLUSTER: &str = "k8s:io.cilium.k8s.policy.cluster=default";

/// Whose policy is asked for, with which options.
#[derive(Clone, Copy)]
struct Setting<'a> {
    subject: &'a str,
    egress: bool,
    opts: &'a str,
    version: Version,
}

const INGRESS: Setting<'_> =
    Setting { subject: "server", egress: false, opts: "{}", version: Version::V1_19 };
const EGRESS: Setting<'_> = Setting { egress: true, ..INGRESS };

/// Each of the wanted is a verdict and peers: `client`, or `client:UDP/53`; without layer 4 it is TCP/80.
#[track_caller]
fn check_with(setting: Setting<'_>, policies: &str, wanted: &[(&str, &str)]) {
    let (mut flows, mut verdicts) = (Vec::new(), Vec::new());
    for (verdict, peers) in wanted {
        for peer in peers.split_whitespace() {
            let (name, l4) = peer.split_once(':').unwrap_or((peer, "TCP/80"));
            let (proto, port) = l4.split_once('/').unwrap();
            let (from, to) = if setting.egress { (setting.subject, name) } else { (name, setting.subject) };
            flows.push(FlowQuestion {
                from: from.into(),
                to: to.into(),
                proto: proto.into(),
                port: port.parse().unwrap(),
                ..FlowQuestion::default()
            });
            verdicts.push((*verdict, peer));
        }
    }
    let id = |(name, number, labels): &(&str, u32, &[&str])| {
        let mut id =
            Id { id: *number, labels: labels.iter().map(|l| (*l).into()).collect(), ..Id::default() };
        if *name == "server" {
            id.named_ports.insert("web".into(), Port { proto: "TCP".into(), port: 8080 });
        }
        ((*name).to_owned(), id)
    };
    let question = Question {
        opts: serde_json::from_str::<Opts>(setting.opts).unwrap(),
        policies: policies.into(),
        ids: IDS.iter().map(id).collect(),
        flows,
        ..Question::default()
    };
    let answers = question.answer(setting.version).unwrap();
    assert_eq!(answers.refused, [], "{policies}");
    for ((verdict, peer), answer) in verdicts.iter().zip(&answers.flows) {
        let got = if setting.egress { &answer.egress } else { &answer.ingress };
        assert_eq!(got, verdict, "{peer} {}\n{policies}", answer.error);
    }
}

fn cnp(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  endpointSelector: {{}}\n  {spec}\n"
    )
}

fn ccnp(selector: &str, spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: wide}}\n\
         spec:\n  {selector}: {{}}\n  {spec}\n"
    )
}

/// A CNP of namespace default with an empty subject.
#[track_caller]
fn check(spec: &str, wanted: &[(&str, &str)]) {
    check_with(INGRESS, &cnp("vector", spec), wanted);
}

fn ports(list: &str) -> String {
    format!("ingress: [{{toPorts: [{{ports: [{list}]}}]}}]")
}

/// One file of `tests/conformance`.
#[derive(Deserialize)]
struct Settled {
    question: serde_json::Value,
    versions: Vec<String>,
    /// For each flow: egress and ingress.
    answers: Vec<Vec<String>>,
}

#[test]
fn settled_questions() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let paths = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let mut asked = 0;
    for path in paths.filter(|p| p.extension().is_some_and(|e| e == "json")) {
        let settled: Settled = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let line = settled.question.to_string();
        for version in &settled.versions {
            let mut lines = answer_line(&line, Version::parse(version).unwrap());
            assert_eq!(lines.pop().unwrap(), "{}");
            let read = |line: &String| serde_json::from_str::<Answer>(line).unwrap();
            let got: Vec<_> = lines.iter().map(read).map(|a| [a.egress, a.ingress, a.request]).collect();
            let padded = |words: &Vec<String>| [0, 1, 2].map(|n| words.get(n).cloned().unwrap_or_default());
            let expected: Vec<_> = settled.answers.iter().map(padded).collect();
            assert_eq!(got, expected, "{}, {version}", path.display());
            asked += got.len();
        }
    }
    assert!(asked > 0, "{} is empty", dir.display());
}

#[test]
fn peers() {
    let nobody = "client other remote node apinode apiworld world health ingress";
    check("ingress: [{}]", &[("allow", "host"), ("default-deny", nobody)]);
    check(
        "ingress: [{fromEndpoints: [{}]}]",
        &[
            ("allow", "client host dotted"),
            ("default-deny", "other remote node apinode apiworld world health ingress"),
        ],
    );
    let all_pods = ccnp("endpointSelector", "ingress: [{fromEndpoints: [{}]}]");
    let denied = "remote node apinode world health ingress";
    check_with(INGRESS, &all_pods, &[("allow", "client other host"), ("default-deny", denied)]);
    check_with(
        Setting { opts: r#"{"defaultLocalCluster": false}"#, ..INGRESS },
        &all_pods,
        &[("allow", "client other host remote"), ("default-deny", "node world")],
    );
    check(
        "ingress: [{fromEntities: [cluster]}]",
        &[
            ("allow", "client other host node apinode apiworld unmanaged health init ingress"),
            ("default-deny", "remote world ten"),
        ],
    );
    check(
        "ingress: [{fromEntities: [world]}]",
        &[("allow", "world ten service apiworld host"), ("default-deny", "client other node apinode")],
    );
    check(
        "ingress: [{fromEntities: [remote-node]}]",
        &[("allow", "node apinode host"), ("default-deny", "client world")],
    );
    check(
        "ingress: [{fromEntities: [kube-apiserver]}]",
        &[("allow", "apinode apiworld host"), ("default-deny", "node")],
    );
    check_with(
        EGRESS,
        &cnp("a", "egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.96.0.0/12]}]}]"),
        &[("allow", "ten"), ("default-deny", "service client node world host")],
    );
    check_with(
        EGRESS,
        &cnp("a", "egress: [{toCIDR: [0.0.0.0/0]}]"),
        &[("allow", "world ten apiworld"), ("default-deny", "client host node apinode health ingress")],
    );
}

#[test]
fn ports_and_icmp() {
    check(
        &ports("{port: '80', protocol: TCP}"),
        &[
            ("allow", "client other world node host"),
            ("default-deny", "client:TCP/81 client:UDP/80 client:ICMP/8"),
        ],
    );
    check(
        &ports("{port: '0'}"),
        &[
            ("allow", "client:TCP/1 client:UDP/2 client:SCTP/3"),
            ("default-deny", "client:ICMP/8 client:ICMPv6/128"),
        ],
    );
    check(
        "ingress: [{icmps: [{fields: [{type: 8}]}]}]",
        &[("allow", "client:ICMP/8"), ("default-deny", "client:ICMP/13 client:ICMPv6/128 client")],
    );
    check(
        "ingress: [{icmps: [{fields: [{type: 0}]}]}]",
        &[
            ("allow", "client:ICMP/8 client:ICMP/13 client:ICMP/0"),
            ("default-deny", "client:ICMPv6/128 client"),
        ],
    );
    check(
        &ports("{port: web, protocol: TCP}"),
        &[("allow", "client:TCP/8080"), ("default-deny", "client:TCP/80")],
    );
    check_with(
        Setting { subject: "client", ..EGRESS },
        &cnp("a", "egress: [{toPorts: [{ports: [{port: web, protocol: TCP}]}]}]"),
        &[("allow", "server:TCP/8080 world:TCP/8080"), ("default-deny", "server:TCP/80")],
    );
    // Since 1.20 the name means the port of the very pod that is asked for.
    check_with(
        Setting { subject: "client", version: Version::V1_20, ..EGRESS },
        &cnp("a", "egress: [{toPorts: [{ports: [{port: web, protocol: TCP}]}]}]"),
        &[("allow", "server:TCP/8080"), ("default-deny", "world:TCP/8080")],
    );
}

#[test]
fn deny_wins() {
    check(
        "ingress: [{}, {fromEntities: [all]}]\n  ingressDeny: [{fromEndpoints: [{matchLabels: {app: client}}], \
         toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]",
        &[("allow", "client:TCP/81 client:ICMP/8 other"), ("deny", "client")],
    );
    check(
        "ingress: [{fromEndpoints: [{matchLabels: {app: client}}], \
         toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]\n  ingressDeny: [{fromEntities: [all]}]",
        &[("deny", "client host world")],
    );
    check(
        &(ports("{port: '80', endPort: 90, protocol: TCP}")
            + "\n  ingressDeny: [{toPorts: [{ports: [{port: '85', protocol: TCP}]}]}]"),
        &[
            ("allow", "client:TCP/84 client:TCP/86"),
            ("deny", "client:TCP/85"),
            ("default-deny", "client:TCP/91"),
        ],
    );
    check(
        &(ports("{port: '85', protocol: TCP}")
            + "\n  ingressDeny: [{toPorts: [{ports: [{port: '80', endPort: 90, protocol: TCP}]}]}]"),
        &[("deny", "client:TCP/85 client:TCP/80"), ("default-deny", "client:TCP/91")],
    );
}

#[test]
fn default_deny() {
    check(
        "ingressDeny: [{fromEntities: [world]}]",
        &[("allow", "host"), ("deny", "world ten"), ("default-deny", "client")],
    );
    check(
        "enableDefaultDeny: {ingress: false}\n  ingressDeny: [{fromEntities: [world]}]",
        &[("allow", "host client node"), ("deny", "world")],
    );
    let a =
        "enableDefaultDeny: {ingress: false}\n  ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]";
    let b = "ingress: [{fromEndpoints: [{matchLabels: {app.kubernetes.io/name: dotted}}]}]";
    check_with(
        INGRESS,
        &format!("{}---\n{}", cnp("a", a), cnp("b", b)),
        &[("allow", "client dotted host"), ("default-deny", "other world")],
    );
    check_with(INGRESS, " ", &[("allow", "client world node")]);
    let elsewhere = cnp("a", "ingress: [{}]").replace("namespace: default", "namespace: other");
    check_with(INGRESS, &elsewhere, &[("allow", "client world")]);
    check_with(
        Setting { opts: r#"{"localhost": false}"#, ..INGRESS },
        &cnp("a", "ingress: [{}]"),
        &[("default-deny", "client host")],
    );
    let always = Setting { opts: r#"{"always": true}"#, ..INGRESS };
    check_with(always, " ", &[("default-deny", "client world"), ("allow", "host")]);
    // From 1.20 on the host is let in by a rule that is added to others: without any, it is not.
    let always = Setting { version: Version::V1_20, ..always };
    check_with(always, " ", &[("default-deny", "client world host")]);
    let init = Setting { subject: "init", ..INGRESS };
    check_with(init, " ", &[("default-deny", "client world"), ("allow", "host")]);
}

#[test]
fn proxies() {
    check(
        "ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}]}, \
         {fromEndpoints: [{matchLabels: {app: client}}]}]",
        &[("redirect", "client dotted world"), ("allow", "client:TCP/81"), ("default-deny", "dotted:TCP/81")],
    );
    check(
        "ingress: [{toPorts: [{ports: [{port: '443', protocol: TCP}], \
         terminatingTLS: {secret: {name: cert, namespace: secrets}}, rules: {http: [{}]}}]}]",
        &[("redirect", "client:TCP/443"), ("default-deny", "client:TCP/80")],
    );
    check_with(
        EGRESS,
        &cnp(
            "a",
            "egress: [{toPorts: [{ports: [{port: '53', protocol: ANY}], rules: {dns: [{matchPattern: '*'}]}}]}]",
        ),
        &[("redirect", "client:UDP/53 world:TCP/53"), ("default-deny", "client:SCTP/54")],
    );
}

#[test]
fn hosts_and_kubernetes_policies() {
    let host = ccnp("nodeSelector", "ingress: [{fromEndpoints: [{}]}]");
    let setting = Setting { subject: "host", opts: r#"{"hostfw": true}"#, ..INGRESS };
    check_with(setting, &host, &[("allow", "client other"), ("default-deny", "node world")]);
    check_with(Setting { opts: "{}", ..setting }, &host, &[("allow", "client node world")]);
    check_with(
        INGRESS,
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: np, namespace: default}\nspec:\n  \
         podSelector: {matchLabels: {app: server}}\n  \
         ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 80}]}]\n",
        &[("allow", "client host"), ("default-deny", "client:TCP/81 client:UDP/80 other dotted world")],
    );
}

#[test]
fn what_cannot_be_checked_and_what_outweighs_it() {
    let sni = "toPorts: [{ports: [{port: '443', protocol: TCP}], serverNames: [a.example]}]";
    let to_all = "toEntities: [all]";
    let egress = |rules: &str| cnp("a", rules);
    let https = [("unchecked:serverNames", "world:TCP/443"), ("default-deny", "world:TCP/80")];
    check_with(EGRESS, &egress(&format!("egress: [{{{to_all}, {sni}}}]")), &https);
    // A rule with the same selector is joined with it; one with another selector lifts it.
    check_with(
        EGRESS,
        &egress(&format!("egress: [{{{to_all}, {sni}}}, {{toEntities: [all]}}]")),
        &[("unchecked:serverNames", "world:TCP/443"), ("allow", "world:TCP/80")],
    );
    check_with(
        EGRESS,
        &egress(&format!("egress: [{{{to_all}, {sni}}}, {{toEntities: [world]}}]")),
        &[("redirect", "world:TCP/443"), ("unchecked:serverNames", "client:TCP/443")],
    );
    check_with(
        EGRESS,
        &egress(&format!("egress: [{{{to_all}, {sni}}}]\n  egressDeny: [{{toEntities: [world]}}]")),
        &[("deny", "world:TCP/443")],
    );
    let service = "{toServices: [{k8sService: {serviceName: db}}], toPorts: [{ports: [{port: '80'}]}]}";
    check_with(
        EGRESS,
        &egress(&format!("egress: [{service}]")),
        &[("unchecked:toServices", "client world"), ("default-deny", "client:TCP/81")],
    );
    check_with(
        EGRESS,
        &egress(&format!("egress: [{service}, {{toEntities: [all]}}]")),
        &[("allow", "client")],
    );
    check_with(
        EGRESS,
        &egress(&format!("enableDefaultDeny: {{egress: false}}\n  egress: [{service}]")),
        &[("allow", "client")],
    );
    check(
        "ingress: [{fromEndpoints: [{}], authentication: {mode: required}}]",
        &[("unchecked:authentication", "client"), ("default-deny", "world")],
    );
    check(
        "ingress: [{fromCIDRSet: [{cidrGroupRef: office}]}]",
        &[("unchecked:fromCIDRSet", "world ten"), ("default-deny", "client node")],
    );
}
