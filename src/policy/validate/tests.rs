//! What is refused and by whom: one row per check of the API server and of the agent, then input that is
//! no policy, and input that means harm.

mod input;
mod judge;
mod model;

use super::*;
use crate::policy::spec::Version;

/// `who path` of everything but information, in order.
pub(super) fn said(text: &str, options: &Options) -> Vec<String> {
    let findings = validate(text, options);
    let heard = findings.iter().filter(|f| f.refusal != Refusal::Information);
    heard.map(|f| format!("{} {}", f.refusal.as_str(), f.path)).collect()
}

pub(super) fn check(text: &str, options: &Options, expected: &[&str]) {
    let found = said(text, options);
    assert_eq!(found, expected, "{text}\n{:#?}", validate(text, options));
}

/// A CiliumNetworkPolicy with these members of `spec`.
pub(super) fn policy(spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: a, namespace: shop}}\nspec: {{{spec}}}\n"
    )
}

/// A clusterwide policy for nodes.
fn host(spec: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {{name: a}}\nspec: {{nodeSelector: {{}}, {spec}}}\n"
    )
}

/// Rows of `(members of spec, expected)` for the default version.
fn rows(rows: &[(&str, &[&str])]) {
    for (spec, expected) in rows {
        check(&policy(spec), &Options::default(), expected);
    }
}

/// Rows of `(one item of ingress, expected)`; paths are given below `spec.ingress[0]`.
fn ingress(list: &[(&str, &[&str])]) {
    below("ingress", list, &Options::default());
}

/// Rows of `(one item of egress, expected)`; paths are given below `spec.egress[0]`.
fn egress(list: &[(&str, &[&str])]) {
    below("egress", list, &Options::default());
}

fn below(direction: &str, list: &[(&str, &[&str])], options: &Options) {
    for (item, expected) in list {
        let expected: Vec<String> = expected
            .iter()
            .map(|row| {
                let who =
                    [BOTH, "API server", "agent", "warning"].into_iter().find(|who| row.starts_with(who));
                let who = who.unwrap();
                let path = row[who.len()..].trim_start();
                let dot = if path.is_empty() { "" } else { "." };
                format!("{who} spec.{direction}[0]{dot}{path}")
            })
            .collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&policy(&format!("endpointSelector: {{}}, {direction}: [{item}]")), options, &expected);
    }
}

const BOTH: &str = "API server and agent";

#[test]
fn rules() {
    rows(&[
        ("endpointSelector: {}, ingress: [{}]", &[]),
        ("endpointSelector: {}, ingress: []", &["agent spec"]),
        ("endpointSelector: {}", &[&format!("{BOTH} spec")]),
        (
            "endpointSelector: {}, enableDefaultDeny: {ingress: true}",
            &[&format!("{BOTH} spec"), "warning spec.enableDefaultDeny.ingress"],
        ),
        ("ingress: [{}]", &[&format!("{BOTH} spec")]),
        (
            "endpointSelector: {}, nodeSelector: {}, ingress: [{}]",
            &["API server spec", "agent spec.nodeSelector"],
        ),
        ("nodeSelector: {}, ingress: [{}]", &["agent spec.nodeSelector"]),
        (
            "endpointSelector: {matchLabels: {'a b': x}}, ingress: [{}]",
            &["agent spec.endpointSelector.matchLabels[\"a b\"]"],
        ),
        (
            "endpointSelector: {}, ingress: [{}], labels: [{key: a}, {value: b}]",
            &["API server spec.labels[1].key", "agent spec.labels[1]"],
        ),
        ("endpointSelector: {}, ingress: [{}], log: {value: 'a\u{200b}'}", &["API server spec.log.value"]),
        ("endpointSelector: {}, ingress: [{}], priority: 1", &["API server spec.priority"]),
    ]);
    check(&host("ingress: [{}]"), &Options::default(), &[]);
}

#[test]
fn objects() {
    let options = Options::default();
    let object = |rest: &str| format!("apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n{rest}\n");
    let spec = "spec: {endpointSelector: {}, ingress: [{}]}";
    check(&object(spec), &options, &["API server metadata", "agent metadata.name"]);
    check(&object(&format!("metadata: {{}}\n{spec}")), &options, &[&format!("{BOTH} metadata.name")]);
    check(&object(&format!("metadata: {{name: A_b}}\n{spec}")), &options, &["API server metadata.name"]);
    check(&object("metadata: {name: a}"), &options, &["agent "]);
    check(&object("metadata: {name: a}"), &Options::of(Version::V1_20), &[&format!("{BOTH} ")]);
    check(&object("metadata: {name: a}\nspecs: []"), &options, &[]);
    check(&object("metadata: {name: a}\ndescription: x\nspecs: []"), &options, &["API server description"]);
    let bad = "specs: [{endpointSelector: {}, ingress: [{}]}, {endpointSelector: {}, ingress: []}]";
    check(&object(&format!("metadata: {{name: a}}\n{bad}")), &options, &["agent specs[1]"]);
    check(
        &object(&format!("metadata: {{name: a, labels: {{a: 1}}}}\n{spec}")),
        &options,
        &["API server metadata.labels.a"],
    );
    let clusterwide = host("ingress: [{}]").replace("{name: a}", "{name: a, namespace: b}");
    check(&clusterwide, &options, &["API server metadata.namespace"]);
}

#[test]
fn members_of_a_rule() {
    ingress(&[
        ("{fromEndpoints: [{}], fromCIDR: [1.2.3.4/32]}", &["agent fromCIDR"]),
        ("{fromCIDR: [1.2.3.4/32], fromCIDRSet: [{cidr: 1.2.3.4/32}]}", &["agent fromCIDRSet"]),
        ("{fromEndpoints: [{}], fromEntities: []}", &["warning fromEntities"]),
        ("{fromNodes: [{}]}", &["agent fromNodes"]),
        ("{fromRequires: [{}]}", &["API server fromRequires", "API server fromRequires[0]"]),
        ("{fromEntities: [foo]}", &[&format!("{BOTH} fromEntities[0]")]),
        ("{fromEntities: [World]}", &[&format!("{BOTH} fromEntities[0]")]),
        ("{fromEntities: [world-ipv4]}", &["API server fromEntities[0]"]),
        ("{fromEntities: [cluster-mesh]}", &[&format!("{BOTH} fromEntities[0]")]),
        ("{icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: '80'}]}]}", &["agent icmps"]),
        ("{icmps: [{fields: [{family: IPv5, type: 8}]}]}", &[&format!("{BOTH} icmps[0].fields[0].family")]),
        ("{icmps: [{fields: [{family: IPv4}]}]}", &[&format!("{BOTH} icmps[0].fields[0].type")]),
        ("{icmps: [{fields: [{type: ExtendedEchoReply}]}]}", &["API server icmps[0].fields[0].type"]),
        ("{icmps: [{fields: [{type: ExtendedEcho Reply}]}]}", &["agent icmps[0].fields[0].type"]),
        ("{icmps: [{fields: [{type: PacketTooBig}]}]}", &["agent icmps[0].fields[0].type"]),
        ("{icmps: [{fields: [{type: 300}]}]}", &["warning icmps"]),
        ("{icmps: [{fields: [{type: 0}]}]}", &["warning icmps"]),
        ("{icmps: [{fields: []}]}", &["warning icmps[0].fields"]),
        ("{authentication: {mode: on}}", &[&format!("{BOTH} authentication.mode")]),
        ("{authentication: {mode: other}}", &["API server authentication.mode"]),
        ("{fromEndpoints: {}}", &[&format!("{BOTH} fromEndpoints")]),
        ("{fromEndpoints: null}", &[]),
        ("{toPort: []}", &["API server toPort"]),
    ]);
    egress(&[
        ("{toEndpoints: [{}], toFQDNs: [{matchName: a}]}", &["agent toFQDNs"]),
        ("{toServices: [{k8sService: {serviceName: a}}], toEntities: [all]}", &["agent toServices"]),
        (
            "{toServices: [{k8sServiceSelector: {}}]}",
            &["API server toServices[0].k8sServiceSelector.selector"],
        ),
        (
            "{toServices: [{k8sServiceSelector: {selector: {matchLabels: {'a b': c}}}}]}",
            &["agent toServices[0].k8sServiceSelector.selector.matchLabels[\"a b\"]"],
        ),
        ("{toGroups: [{aws: {region: 1}}]}", &["API server toGroups[0].aws.region"]),
    ]);
    let deny = |list: &str| policy(&format!("endpointSelector: {{}}, {list}"));
    let options = Options::default();
    check(
        &deny("egressDeny: [{toFQDNs: [{matchName: a}]}]"),
        &options,
        &["API server spec.egressDeny[0].toFQDNs"],
    );
    check(
        &deny("ingressDeny: [{toPorts: [{rules: {http: [{}]}}]}]"),
        &options,
        &["API server spec.ingressDeny[0].toPorts[0].rules", "warning spec.ingressDeny[0].toPorts[0]"],
    );
}

#[test]
fn ports() {
    let port = |port: &str| format!("{{toPorts: [{{ports: [{port}]}}]}}");
    for (item, expected) in [
        ("{port: 53}", vec![format!("{BOTH} toPorts[0].ports[0].port")]),
        ("{protocol: TCP}", vec!["agent toPorts[0].ports[0].port".into()]),
        ("{port: ''}", vec![format!("{BOTH} toPorts[0].ports[0].port")]),
        ("{port: '65536'}", vec!["agent toPorts[0].ports[0].port".into()]),
        ("{port: '080'}", vec!["agent toPorts[0].ports[0].port".into()]),
        ("{port: '0100'}", vec!["warning toPorts[0].ports[0].port".into()]),
        ("{port: abcdefghijklmnop}", vec!["agent toPorts[0].ports[0].port".into()]),
        ("{port: a--b}", vec!["agent toPorts[0].ports[0].port".into()]),
        ("{port: '80', protocol: tcp}", vec!["API server toPorts[0].ports[0].protocol".into()]),
        ("{port: '80', protocol: ICMP}", vec![format!("{BOTH} toPorts[0].ports[0].protocol")]),
        ("{port: '80', protocol: VRRP}", vec!["agent toPorts[0].ports[0].port".into()]),
        ("{port: '0', protocol: VRRP}", vec![]),
        ("{port: '80', protocol: GRE}", vec![format!("{BOTH} toPorts[0].ports[0].protocol")]),
        ("{port: '80', endPort: 70}", vec!["warning toPorts[0].ports[0].endPort".into()]),
        ("{port: '80', endPort: 70000}", vec!["API server toPorts[0].ports[0].endPort".into()]),
        ("{port: '80', endPort: '90'}", vec![format!("{BOTH} toPorts[0].ports[0].endPort")]),
    ] {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        ingress(&[(&port(item), &expected)]);
    }
    ingress(&[
        ("{toPorts: [{}]}", &["warning toPorts[0]"]),
        ("{toPorts: [{ports: []}]}", &["warning toPorts[0].ports"]),
        ("{toPorts: []}", &[]),
    ]);
    let many = vec!["{port: '80'}"; 41].join(",");
    ingress(&[(&port(&many), &[&format!("{BOTH} toPorts[0].ports")])]);
    let deny = policy(&format!("endpointSelector: {{}}, ingressDeny: [{}]", port(&many)));
    check(&deny, &Options::default(), &["agent spec.ingressDeny[0].toPorts[0].ports"]);
    let extended = Options { extended_ip_protocols: true, ..Options::default() };
    below("ingress", &[(&port("{protocol: VRRP}"), &[]), (&port("{}"), &[])], &extended);
}

#[test]
fn layer7() {
    let tcp = "ports: [{port: '80', protocol: TCP}]";
    let rule = |rest: &str| format!("{{toPorts: [{{{tcp}, {rest}}}]}}");
    ingress(&[
        (&rule("rules: {http: [{path: '/items/{id}', method: 'GET|POST'}]}"), &[]),
        (
            &rule("rules: {http: [{path: '(', method: 'a**'}]}"),
            &["agent toPorts[0].rules.http[0].path", "agent toPorts[0].rules.http[0].method"],
        ),
        (&rule("rules: {http: [{host: '('}]}"), &["warning toPorts[0].rules.http[0].host"]),
        (&rule("rules: {}"), &["API server toPorts[0].rules"]),
        (&rule("rules: {http: [], dns: []}"), &["API server toPorts[0].rules"]),
        (&rule("rules: {http: [{}], kafka: [{}]}"), &[&format!("{BOTH} toPorts[0].rules")]),
        (&rule("rules: {l7: [{a: b}]}"), &[&format!("{BOTH} toPorts[0].rules")]),
        (
            &rule("rules: {kafka: [{role: produce, apiKey: fetch}]}"),
            &["agent toPorts[0].rules.kafka[0].role"],
        ),
        (&rule("rules: {dns: [{matchName: a}]}"), &["agent toPorts[0].rules"]),
        ("{toPorts: [{ports: [{port: '80'}], rules: {http: [{}]}}]}", &["agent toPorts[0].ports[0]"]),
        (
            "{toPorts: [{ports: [{port: '0', protocol: TCP}], rules: {http: [{}]}}]}",
            &["agent toPorts[0].ports[0]"],
        ),
        ("{toPorts: [{ports: [{port: http, protocol: TCP}], rules: {http: [{}]}}]}", &[]),
        (
            &rule("rules: {http: [{headerMatches: [{value: a}]}]}"),
            &[&format!("{BOTH} toPorts[0].rules.http[0].headerMatches[0].name")],
        ),
        (
            &rule("rules: {http: [{headerMatches: [{name: a, mismatch: X}]}]}"),
            &[&format!("{BOTH} toPorts[0].rules.http[0].headerMatches[0].mismatch")],
        ),
        (&rule("serverNames: [a.b], rules: {http: [{}]}"), &["agent toPorts[0].serverNames"]),
        (&rule("serverNames: []"), &["API server toPorts[0].serverNames"]),
        (&rule("serverNames: [a.b, a.b]"), &["API server toPorts[0].serverNames[1]"]),
        (&rule("serverNames: ['*.a.b', '**.a', 'a.*.b']"), &["API server toPorts[0].serverNames[2]"]),
        (&rule("listener: {envoyConfig: {name: a}, name: b}"), &["agent toPorts[0].listener"]),
        (&rule("terminatingTLS: {certificate: a}"), &[&format!("{BOTH} toPorts[0].terminatingTLS.secret")]),
    ]);
    let dns =
        |ports: &str| format!("{{toPorts: [{{ports: [{ports}], rules: {{dns: [{{matchPattern: '*'}}]}}}}]}}");
    egress(&[
        (&dns("{port: '5353', protocol: ANY}"), &[]),
        (&dns("{port: '53', endPort: 54}"), &["agent toPorts[0].ports[0].endPort"]),
        (&dns(""), &["agent toPorts[0].ports", "warning toPorts[0].ports"]),
        (
            &rule("listener: {envoyConfig: {name: a}, name: b, priority: 101}"),
            &["API server toPorts[0].listener.priority"],
        ),
    ]);
    let off = Options { l7_proxy: false, ..Options::default() };
    below("ingress", &[(&rule("rules: {http: [{}]}"), &["agent toPorts[0].rules"])], &off);
    let options = Options::default();
    let http = rule("rules: {http: [{}]}");
    check(&host(&format!("ingress: [{http}]")), &options, &["agent spec.ingress[0].toPorts[0].rules"]);
    check(&host(&format!("egress: [{http}]")), &options, &["agent spec.egress[0].toPorts[0].rules"]);
    check(&host(&format!("egress: [{}]", dns("{port: '53'}"))), &options, &[]);
    check(
        &host(&format!("egress: [{}]", dns("{port: '53'}"))),
        &Options::of(Version::V1_16),
        &["agent spec.egress[0].toPorts[0].rules"],
    );
}

#[test]
fn selectors() {
    let expression = |rest: &str| format!("{{fromEndpoints: [{{matchExpressions: [{{{rest}}}]}}]}}");
    let at = "fromEndpoints[0].matchExpressions[0]";
    ingress(&[
        (&expression("key: a, operator: In, values: [b]"), &[]),
        (&expression("key: a, operator: In"), &[&format!("agent {at}.values")]),
        (&expression("key: a, operator: Exists, values: [b]"), &[&format!("agent {at}.values")]),
        (&expression("key: a, operator: in, values: [b]"), &[&format!("{BOTH} {at}.operator")]),
        (&expression("key: a, operator: NotIn, values: ['b c']"), &[&format!("agent {at}.values[0]")]),
        (&expression("operator: Exists"), &[&format!("API server {at}.key"), &format!("agent {at}")]),
        (
            "{fromEndpoints: [{matchLabels: {a: 'b c'}}]}",
            &[&format!("{BOTH} fromEndpoints[0].matchLabels.a")],
        ),
        ("{fromEndpoints: [{matchLabels: {a: true}}]}", &[&format!("{BOTH} fromEndpoints[0].matchLabels.a")]),
        ("{fromEndpoints: [{matchLabels: {a: [b]}}]}", &[&format!("{BOTH} fromEndpoints[0].matchLabels.a")]),
        (
            "{fromEndpoints: [{matchLabels: {app: a, 'any:app': a}}]}",
            &["warning fromEndpoints[0].matchLabels.app"],
        ),
        (
            "{fromEndpoints: [{matchLabels: {pod-template-hash: a}}]}",
            &["warning fromEndpoints[0].matchLabels[\"pod-template-hash\"]"],
        ),
        (
            "{fromEndpoints: [{matchLabels: {'reserved:world': ''}}]}",
            &["warning fromEndpoints[0].matchLabels[\"reserved:world\"]"],
        ),
    ]);
    let key = "a".repeat(60);
    let long = format!("{{fromEndpoints: [{{matchLabels: {{{key}: b}}}}]}}");
    ingress(&[(&long, &[&format!("agent fromEndpoints[0].matchLabels.{key}")])]);
    below("ingress", &[(&long, &[])], &Options::of(Version::V1_20));
    rows(&[(
        "endpointSelector: {matchLabels: {io.kubernetes.pod.namespace: other}}, ingress: [{}]",
        &["warning spec.endpointSelector"],
    )]);
}

#[test]
fn addresses() {
    egress(&[
        ("{toCIDR: [10.0.0.0/8, '::/0']}", &[]),
        ("{toCIDR: [10.0.0.1]}", &["API server toCIDR[0]"]),
        ("{toCIDR: ['']}", &[&format!("{BOTH} toCIDR[0]")]),
        ("{toCIDR: [010.0.0.0/8]}", &["agent toCIDR[0]"]),
        ("{toCIDR: ['fe80::1%eth0']}", &[&format!("{BOTH} toCIDR[0]")]),
        ("{toCIDR: [10.1.2.3/8]}", &["warning toCIDR[0]"]),
        ("{toCIDRSet: [{cidr: 1.1.1.1}]}", &[&format!("{BOTH} toCIDRSet[0].cidr")]),
        ("{toCIDRSet: [{except: [1.1.1.1/32]}]}", &[&format!("{BOTH} toCIDRSet[0]")]),
        ("{toCIDRSet: [{cidr: 1.1.1.1/32, cidrGroupRef: a}]}", &[&format!("{BOTH} toCIDRSet[0]")]),
        ("{toCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}", &["agent toCIDRSet[0].except[0]"]),
        ("{toCIDRSet: [{cidr: 10.0.0.0/24, except: [10.0.0.0/8]}]}", &["warning toCIDRSet[0].except[0]"]),
        ("{toCIDRSet: [{cidrGroupRef: A}]}", &["API server toCIDRSet[0].cidrGroupRef"]),
        (
            "{toCIDRSet: [{cidrGroupSelector: {matchLabels: {'k8s:a': b}}}]}",
            &["agent toCIDRSet[0].cidrGroupSelector.matchLabels[\"k8s:a\"]"],
        ),
    ]);
    below(
        "egress",
        &[(
            "{toCIDRSet: [{cidr: 10.0.0.0/24, except: [10.0.0.0/8]}]}",
            &["agent toCIDRSet[0].except[0]", "warning toCIDRSet[0].except[0]"],
        )],
        &Options::of(Version::V1_20),
    );
}

#[test]
fn names() {
    let dns = "{toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchPattern: '*'}]}}]}";
    let fqdn = |item: &str| format!("{{toFQDNs: [{item}]}}, {dns}");
    egress(&[
        ("{toFQDNs: [{matchName: a.b}]}", &["warning toFQDNs"]),
        (&fqdn("{matchName: a.b}"), &[]),
        (&fqdn("{matchName: a, matchPattern: b}"), &[&format!("{BOTH} toFQDNs[0]")]),
        (&fqdn("{}"), &["API server toFQDNs[0]"]),
        (&fqdn("{matchName: 'a b'}"), &[&format!("{BOTH} toFQDNs[0].matchName")]),
        (&fqdn("{matchName: '*.a'}"), &[&format!("{BOTH} toFQDNs[0].matchName")]),
        (&fqdn("{matchPattern: a..b}"), &["API server toFQDNs[0].matchPattern"]),
        (
            &fqdn(&format!("{{matchPattern: {}}}", "a".repeat(256))),
            &[&format!("{BOTH} toFQDNs[0].matchPattern")],
        ),
    ]);
}

#[test]
fn versions() {
    let port = |rest: &str| policy(&format!("endpointSelector: {{}}, ingress: [{{{rest}}}]"));
    let rows: [(&str, Version, &[&str]); 9] = [
        ("fromRequires: [{matchLabels: {a: b}}]", Version::V1_18, &[]),
        (
            "toPorts: [{ports: [{protocol: TCP}]}]",
            Version::V1_18,
            &["API server and agent spec.ingress[0].toPorts[0].ports[0].port"],
        ),
        (
            "toPorts: [{ports: [{port: '0', protocol: IGMP}]}]",
            Version::V1_18,
            &["API server and agent spec.ingress[0].toPorts[0].ports[0].protocol"],
        ),
        ("toPorts: [{ports: [{port: '0', protocol: GRE}]}]", Version::V1_20, &[]),
        (
            "toPorts: [{ports: [{port: '1', protocol: TCP}], rules: {kafka: [{}]}}]",
            Version::V1_20,
            &[
                "API server spec.ingress[0].toPorts[0].rules.kafka",
                "API server spec.ingress[0].toPorts[0].rules",
            ],
        ),
        ("fromEntities: [cluster-mesh]", Version::V1_20, &[]),
        ("toPorts: [{ports: [{port: '1'}], serverNames: ['a.*.b']}]", Version::V1_20, &[]),
        ("toPorts: [{ports: [{port: '1'}], serverNames: []}]", Version::V1_17, &[]),
        (
            "fromCIDRSet: [{cidrGroupSelector: {}}]",
            Version::V1_16,
            &[
                "API server spec.ingress[0].fromCIDRSet[0].cidrGroupSelector",
                "API server and agent spec.ingress[0].fromCIDRSet[0]",
            ],
        ),
    ];
    for (rest, version, expected) in rows {
        check(&port(rest), &Options::of(version), expected);
    }
}

#[test]
fn rules_that_cannot_be_combined() {
    let tcp = "ports: [{port: '80', protocol: TCP}]";
    let two = |a: &str, b: &str| policy(&format!("endpointSelector: {{}}, ingress: [{a}, {b}]"));
    let rule =
        |peer: &str, rest: &str| format!("{{fromEndpoints: [{{matchLabels: {{app: {peer}}}}}], {rest}}}");
    let http = format!("toPorts: [{{{tcp}, rules: {{http: [{{}}]}}}}]");
    let kafka = format!("toPorts: [{{{tcp}, rules: {{kafka: [{{}}]}}}}]");
    let sni = format!("toPorts: [{{{tcp}, serverNames: [a.b]}}]");
    let plain = format!("toPorts: [{{{tcp}}}]");
    let options = Options::default();
    let conflict = ["warning spec.ingress[1].toPorts[0]"];
    check(&two(&rule("a", &http), &rule("a", &kafka)), &options, &conflict);
    check(&two(&rule("a", &http), &rule("b", &kafka)), &options, &[]);
    check(&two(&rule("a", &http), &rule("a", &plain)), &options, &[]);
    check(&two(&rule("a", &http), &rule("a", &sni)), &options, &conflict);
    let auth = |mode: &str| format!("authentication: {{mode: {mode}}}, {plain}");
    check(&two(&rule("a", &auth("required")), &rule("a", &auth("disabled"))), &options, &conflict);
}
