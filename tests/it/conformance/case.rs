//! One case: a cluster with its policies, identities and connections.

use std::collections::BTreeMap;

use cpg::engine::question::{FlowQuestion, Id, Opts, Port, Question};
use serde_json::{Value, json};

use super::policies::{Policies, Theme};
use super::random::Random;

/// A question whose policies are still documents.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) opts: Opts,
    pub(super) documents: Vec<Value>,
    pub(super) ids: BTreeMap<String, Id>,
    pub(super) flows: Vec<FlowQuestion>,
}

impl Case {
    pub(super) fn generate(random: &mut Random) -> Self {
        let (opts, v6) = options(random);
        let theme =
            random.weighted(&[(70, Theme::Usual), (10, Theme::Crowded), (14, Theme::Dns), (6, Theme::Names)]);
        let mut policies = Policies { node_labels: opts.nodelabels, extended: opts.extproto, theme, random };
        let count = 1 + policies.random.below(5);
        let documents = (0..count).map(|_| policies.document()).collect();
        let ids = identities(random, v6);
        let flows = flows(random, &ids, theme);
        Self { opts, documents, ids, flows }
    }

    pub(super) fn question(&self) -> Question {
        let documents: Vec<String> = self.documents.iter().map(ToString::to_string).collect();
        Question {
            opts: self.opts.clone(),
            policies: documents.join("\n---\n"),
            ids: self.ids.clone(),
            flows: self.flows.clone(),
            ..Question::default()
        }
    }
}

fn options(random: &mut Random) -> (Opts, bool) {
    let v6 = random.percent(25);
    let opts = Opts {
        default_local_cluster: random.percent(12).then_some(false),
        ipv4: (v6 && random.percent(20)).then_some(false),
        ipv6: v6.then_some(true),
        always: random.percent(8),
        localhost: if random.percent(15) { json!(false) } else { Value::Null },
        hostfw: random.percent(40),
        nodelabels: random.percent(15),
        extproto: random.percent(12),
        l7: random.percent(3).then_some(false),
    };
    (opts, v6)
}

const NAMES: [&str; 6] = ["web", "client", "db", "default", "shop", ""];

fn pod(random: &mut Random) -> Id {
    let namespace = random.of(&["default", "default", "default", "default", "shop", "shop", "web"]);
    let cluster = random.weighted(&[(84, "default"), (12, "west"), (4, "")]);
    let mut id = Id { labels: vec![format!("k8s:io.kubernetes.pod.namespace={namespace}")], ..Id::default() };
    let mut label = |text: String| id.labels.push(text);
    if !cluster.is_empty() {
        label(format!("k8s:io.cilium.k8s.policy.cluster={cluster}"));
    }
    label(format!("k8s:app={}", random.of(&NAMES)));
    if random.percent(30) {
        label(format!("k8s:tier={}", random.of(&NAMES)));
    }
    if random.percent(20) {
        label(format!("k8s:app.kubernetes.io/name={}", random.of(&NAMES)));
    }
    if random.percent(40) {
        let team = if namespace == "shop" { "blue" } else { "red" };
        label(format!("k8s:io.cilium.k8s.namespace.labels.team={team}"));
    }
    if random.percent(30) {
        label(format!("k8s:io.cilium.k8s.policy.serviceaccount={}", random.of(&["sa1", "default"])));
    }
    match random.below(60) {
        0 => label("k8s:host=".into()),
        1 => label("k8s:init=x".into()),
        2 => label("container:app=web".into()),
        3 => label("k8s:k8s.app=web".into()),
        _ => {}
    }
    let ports = [("web", "TCP", 8080), ("dns", "UDP", 53), ("api", "TCP", 443), ("ranged", "TCP", 8081)];
    for (name, proto, port) in ports {
        if random.percent(22) {
            let port = if random.percent(12) { 80 } else { port };
            let proto = if random.percent(6) { "UDP" } else { proto };
            id.named_ports.insert(name.into(), Port { proto: proto.into(), port });
        }
    }
    id
}

/// Everybody that is no pod, by name and number; those that change with the address family excepted.
const OTHERS: &[(&str, u32, &[&str])] = &[
    ("unmanaged", 3, &["reserved:unmanaged"]),
    ("health", 4, &["reserved:health"]),
    ("init", 5, &["reserved:init"]),
    ("node", 6, &["reserved:remote-node"]),
    ("apinode", 7, &["reserved:kube-apiserver", "reserved:remote-node"]),
    ("ingress", 8, &["reserved:ingress"]),
    (
        "nodea",
        33_554_433,
        &["reserved:remote-node", "node:zone=a", "k8s:io.cilium.k8s.policy.cluster=default"],
    ),
    ("nodeb", 33_554_434, &["reserved:remote-node", "node:zone=b", "k8s:io.cilium.k8s.policy.cluster=west"]),
    ("nodenet", 33_554_435, &["reserved:remote-node", "cidr:10.1.2.3/32"]),
];

/// Identities outside of the cluster, without their world label.
const OUTSIDE: &[(&str, u32, &[&str])] = &[
    ("apiworld", 16_777_217, &["cidr:192.0.2.1/32", "reserved:kube-apiserver"]),
    ("ten", 16_777_218, &["cidr:10.0.0.0/8"]),
    ("service", 16_777_219, &["cidr:10.96.0.0/12"]),
    ("one", 16_777_220, &["cidr:10.1.2.3/32"]),
    ("doc", 16_777_221, &["cidr:192.0.2.0/24"]),
    ("six", 16_777_222, &["cidr:2001-db8--0/32"]),
    ("named", 16_777_223, &["fqdn:api.example.com"]),
    ("starred", 16_777_224, &["fqdn:*.example.com", "cidr:10.1.2.3/32"]),
    ("every", 16_777_225, &["fqdn:*"]),
    ("office", 16_777_226, &["cidrgroup:io.cilium.policy.cidrgroupname/office", "cidr:10.1.0.0/16"]),
];

const HOSTS: &[&[&str]] = &[
    &["reserved:host"],
    &["reserved:host", "reserved:kube-apiserver"],
    &["reserved:host", "k8s:node-role.kubernetes.io/worker"],
    &["reserved:host", "k8s:app=web", "k8s:node-role.kubernetes.io/worker"],
];

fn identities(random: &mut Random, v6: bool) -> BTreeMap<String, Id> {
    let mut ids = BTreeMap::new();
    let pods = 3 + random.below(4);
    for n in 0..pods {
        let id = Id { id: 1001 + u32::try_from(n).expect("few"), ..pod(random) };
        ids.insert(format!("pod{n}"), id);
    }
    let labels = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
    if random.percent(75) {
        let host = random.of(HOSTS);
        ids.insert("host".into(), Id { id: 1, labels: labels(host), ..Id::default() });
    }
    for (name, number, own) in OTHERS {
        if random.percent(22) {
            ids.insert((*name).to_owned(), Id { id: *number, labels: labels(own), ..Id::default() });
        }
    }
    let world = |name: &str| match (v6, name) {
        (false, _) => "reserved:world",
        (true, "six") => "reserved:world-ipv6",
        (true, _) => "reserved:world-ipv4",
    };
    for (name, number, own) in OUTSIDE {
        if random.percent(18) {
            let mut all = labels(own);
            all.push(world(name).to_owned());
            ids.insert((*name).to_owned(), Id { id: *number, labels: all, ..Id::default() });
        }
    }
    let worlds: &[(&str, u32)] = if v6 { &[("world-ipv4", 9), ("world-ipv6", 10)] } else { &[("world", 2)] };
    for (name, number) in worlds {
        let id = Id { id: *number, labels: vec![format!("reserved:{name}")], ..Id::default() };
        ids.insert((*name).to_owned(), id);
    }
    ids
}

fn flows(random: &mut Random, ids: &BTreeMap<String, Id>, theme: Theme) -> Vec<FlowQuestion> {
    let names: Vec<&String> = ids.keys().collect();
    let subjects: Vec<&String> = names
        .iter()
        .filter(|n| n.starts_with("pod") || ["host", "health", "init", "ingress"].contains(&n.as_str()))
        .copied()
        .collect();
    (0..40)
        .map(|_| {
            let subject = random.of(&subjects).clone();
            let peer = random.of(&names).clone();
            let themed = matches!(theme, Theme::Dns | Theme::Names) && random.percent(75);
            let (from, to) = if themed || random.percent(50) { (subject, peer) } else { (peer, subject) };
            if themed {
                let flow = FlowQuestion { from, to, ..FlowQuestion::default() };
                return match theme {
                    Theme::Names => FlowQuestion {
                        proto: "TCP".into(),
                        port: 443,
                        sni: random.of(SERVER_NAMES).to_owned(),
                        ..flow
                    },
                    _ => FlowQuestion {
                        proto: random.of(&["UDP", "UDP", "TCP"]).to_owned(),
                        port: 53,
                        dns: random.of(QUERIES).to_owned(),
                        ..flow
                    },
                };
            }
            let named: Vec<&String> = ids[&to].named_ports.keys().collect();
            if !named.is_empty() && random.percent(12) {
                let named = random.of(&named).clone();
                return FlowQuestion { from, to, named, ..FlowQuestion::default() };
            }
            let (proto, port) = match random.below(100) {
                0..=34 => ("TCP", random.of(&[80, 443])),
                35..=59 => ("TCP", random.of(&[80, 81, 85, 90, 91, 443, 53, 8080, 8080, 8085, 1, 65535])),
                60..=75 => ("UDP", random.of(&[53, 53, 80, 85, 443, 8080])),
                76..=82 => ("SCTP", random.of(&[80, 53, 8085])),
                83..=91 => ("ICMP", random.of(&[8, 8, 0, 3, 13])),
                92..=96 => ("ICMPv6", random.of(&[128, 128, 0, 3, 8])),
                _ => (random.of(&["VRRP", "IGMP"]), 0),
            };
            let (dns, sni) = match (proto, port) {
                ("UDP" | "TCP", 53) => (random.of(QUERIES).to_owned(), String::new()),
                ("TCP" | "UDP", 443) => (String::new(), random.of(SERVER_NAMES).to_owned()),
                ("TCP", 80) if random.percent(50) => (random.of(QUERIES).to_owned(), String::new()),
                ("TCP", 80 | 8080) => (String::new(), random.of(SERVER_NAMES).to_owned()),
                _ => (String::new(), String::new()),
            };
            FlowQuestion { from, to, proto: proto.into(), port, dns, sni, ..FlowQuestion::default() }
        })
        .collect()
}

/// Names that are asked for: those of [`policies::DNS_RULES`], their neighbours, and what is no name.
///
/// [`policies::DNS_RULES`]: super::policies::DNS_RULES
const QUERIES: &[&str] = &[
    "api.example.com",
    "API.example.com.",
    "xapi.example.com",
    "a.api.example.com",
    "example.com",
    "www.example.com",
    "a.www.example.com",
    "example.com.shop.svc.cluster.local",
    "db.shop.svc.cluster.local.",
    "db.shop.svc.cluster.localx",
    "_sip._tcp.example.com",
    "sub.example.org",
    "sub-1.example.org",
    "xsub.example.org",
    "a-b.example.org",
    "",
    ".",
    "com",
    "a..example.com",
    ".example.com",
    "a/b.example.com",
    "xn--bcher-kva.example.com",
];

const SERVER_NAMES: &[&str] = &[
    "a.example.com",
    "A.Example.com",
    "b.a.example.com",
    "c.b.a.example.com",
    "example.com",
    "xa.example.com",
    "a.example.org",
];
