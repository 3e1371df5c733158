//! One test for each mistake that another tool made, or that is easy to make.

use super::*;
use crate::names::DnsName;
use crate::policy::{Entity, HttpMatch, L7Match};

/// Merges rules into a document with these members; what is inserted, at once after the line that
/// begins `after`, is `inserted`.
fn check(members: &str, rules: &[Rule], after: &str, inserted: &str) -> Merged {
    let text = document(members);
    let merged = merged(&text, rules);
    let at = text.find(after).unwrap_or_else(|| panic!("{after:?} is not in\n{text}")) + after.len();
    assert_eq!(merged.text, format!("{}{inserted}{}", &text[..at], &text[at..]));
    merged
}

fn untouched(members: &str, rules: &[Rule]) -> Merged {
    let text = document(members);
    let merged = merged(&text, rules);
    assert_eq!(merged.text, text);
    merged
}

/// Nothing there is taken for the rule: it becomes a rule of its own.
fn apart(members: &str, rule: Rule) {
    let key = rule.direction.as_str();
    let existing = |text: &str| {
        let value = read_documents(text).unwrap().remove(0).value;
        value.pointer(&format!("/spec/{key}")).unwrap().as_array().unwrap().clone()
    };
    let text = document(members);
    let merged = merged(&text, std::slice::from_ref(&rule));
    assert_eq!(merged.added, [rule], "{members}");
    let (before, after) = (existing(&text), existing(&merged.text));
    assert_eq!(after.len(), before.len() + 1, "{}", merged.text);
    assert_eq!(after[..before.len()], before[..], "{}", merged.text);
}

const WEB_80: &str = "  ingress:
  - fromEndpoints:
    - matchLabels: {app: web} # the shop
    toPorts:
    - ports:
      - port: \"80\"
        protocol: TCP # plain
";

#[test]
fn ports_go_into_the_rule_of_their_only_peer() {
    let merged = check(
        WEB_80,
        &[ingress(pods("web"), tcp(8080)), ingress(pods("web"), tcp(80)), ingress(pods("web"), udp(80))],
        "# plain\n",
        "      - port: \"8080\"\n        protocol: TCP\n      - port: \"80\"\n        protocol: UDP\n",
    );
    assert_eq!(merged.present, [ingress(pods("web"), tcp(80))]);
    assert_eq!(merged.first_in_direction, []);
}

#[test]
fn a_direction_is_first_only_once() {
    let merged = check(
        WEB_80,
        &[egress(Peer::Entity(Entity::Host), tcp(53))],
        "# plain\n",
        "  egress:\n  - toEntities:\n    - host\n    toPorts:\n    - ports:\n      - port: \"53\"\n        protocol: TCP\n",
    );
    assert_eq!(merged.first_in_direction, [Direction::Egress]);
    let denied = merged_into_deny();
    assert_eq!(denied.first_in_direction, [], "a deny rule makes its direction enforced too");
}

fn merged_into_deny() -> Merged {
    merged(&document("  ingressDeny:\n  - fromEntities: [world]\n"), &[ingress(pods("web"), tcp(80))])
}

#[test]
fn a_rule_for_several_peers_is_never_widened() {
    apart(
        "  ingress:\n  - fromEndpoints: [{matchLabels: {app: web}}, {matchLabels: {app: api}}]\n    toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]\n",
        ingress(pods("web"), tcp(81)),
    );
    // Of two kinds, of a kind that cpg has no word for, and one that Cilium refuses.
    for members in [
        "fromEndpoints: [{matchLabels: {app: web}}], fromEntities: [host]",
        "fromEndpoints: [{matchLabels: {app: web}}], fromRequires: []",
        "fromEndpoints: [{matchLabels: {app: web}}], icmps: [{fields: [{type: 8}]}]",
        "fromEndpoints: [{matchLabels: {app: web}, matchExpressions: [{key: a, operator: Exists}]}]",
        "fromEndpoints: [{}]",
        "fromEndpoints: []",
        "fromGroups: [{aws: {region: eu}}]",
        "fromNodes: [{matchLabels: {app: web}}]",
    ] {
        let ports = "toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]";
        apart(&format!("  ingress: [{{{members}, {ports}}}]\n"), ingress(pods("web"), tcp(80)));
    }
}

#[test]
fn peers_of_other_kinds_are_never_taken_for_ours() {
    let address = || egress(cidr("192.0.2.7/32"), tcp(443));
    let ports = "toPorts: [{ports: [{port: \"443\", protocol: TCP}]}]";
    for members in [
        "toFQDNs: [{matchName: example.com}]",
        "toCIDRSet: [{cidr: 192.0.2.7/32, except: [192.0.2.7/32]}]",
        "toCIDRSet: [{cidrGroupRef: mine}]",
        "toServices: [{k8sService: {serviceName: db}}]",
        "toGroups: [{aws: {region: eu}}]",
        "toNodes: [{}]",
        "toCIDR: [192.0.2.0/24]",
    ] {
        apart(&format!("  egress: [{{{members}, {ports}}}]\n"), address());
    }
    // These do mean the same address.
    for members in ["toCIDRSet: [{cidr: 192.0.2.7/32}]", "toCIDR: [192.0.2.7/32], toFQDNs: []"] {
        untouched(&format!("  egress: [{{{members}, {ports}}}]\n"), &[address()]);
    }
    let text = "  egress: [{toCIDR: [10.1.2.3/8], toPorts: [{ports: [{port: \"1\"}]}]}]\n";
    untouched(text, &[egress(cidr("10.0.0.0/8"), tcp(1))]);
}

#[test]
fn selectors_are_compared_by_meaning() {
    let ports = "toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]";
    for selector in [
        "matchLabels: {'k8s:app': web}",
        "matchLabels: {'any:app': web, 'k8s:io.kubernetes.pod.namespace': shop}",
        "matchExpressions: [{key: app, operator: In, values: [web]}]",
        "matchLabels: {io.kubernetes.pod.namespace: shop}, matchExpressions: [{key: app, operator: In, values: [web]}]",
    ] {
        let text = format!("  ingress: [{{fromEndpoints: [{{{selector}}}], {ports}}}]\n");
        untouched(&text, &[ingress(pods("web"), tcp(80))]);
    }
    let with = |namespace: &str| {
        Peer::Endpoints(
            Selector::new([("app", "web"), ("k8s:io.kubernetes.pod.namespace", namespace)]).unwrap(),
        )
    };
    let text = format!("  ingress: [{{fromEndpoints: [{{matchLabels: {{app: web}}}}], {ports}}}]\n");
    untouched(&text, &[ingress(with("shop"), tcp(80))]);
    apart(&text, ingress(with("db"), tcp(80)));
}

#[test]
fn a_rule_without_ports_is_not_narrowed() {
    for ports in ["", ", toPorts: []", ", toPorts: null, icmps: null"] {
        let text = format!("  ingress: [{{fromEndpoints: [{{matchLabels: {{app: web}}}}]{ports}}}]\n");
        let merged = untouched(&text, &[ingress(pods("web"), tcp(80)), ingress(pods("web"), icmp(8))]);
        assert_eq!(merged.present.len(), 2);
    }
}

#[test]
fn ports_are_read_as_cilium_reads_them() {
    let written = |port: &str| {
        format!(
            "  ingress: [{{fromEndpoints: [{{matchLabels: {{app: web}}}}], toPorts: [{{ports: [{port}]}}]}}]\n"
        )
    };
    let there = |port: &str, allow: Allow| {
        let text = document(&written(port));
        let merged = merged(&text, &[ingress(pods("web"), allow)]);
        merged.outcome == Outcome::Unchanged
    };
    for (port, allow, expected) in [
        ("{port: \"80\", protocol: TCP}", tcp(80), true),
        ("{port: \"80\", protocol: tcp}", tcp(80), true),
        ("{port: \"80\", protocol: UDP}", tcp(80), false),
        ("{port: \"80\", protocol: ANY}", udp(80), true),
        ("{port: \"80\"}", udp(80), true),
        ("{port: \"0\", protocol: TCP}", tcp(80), true),
        ("{port: \"0\", protocol: TCP}", udp(80), false),
        ("{port: \"0\", endPort: 100}", tcp(80), true),
        ("{port: \"0\", endPort: 70}", tcp(80), false),
        ("{port: \"70\", endPort: 90, protocol: TCP}", tcp(80), true),
        ("{port: \"70\", endPort: 90, protocol: TCP}", tcp(91), false),
        ("{port: \"80\", endPort: 70}", tcp(80), true),
        ("{port: \"80\", endPort: 70}", tcp(75), false),
        ("{port: \"0100\"}", tcp(64), true),
        ("{port: \"0100\"}", tcp(100), false),
        ("{port: http}", tcp(80), false),
        ("{port: \"0x50\"}", tcp(80), false),
        ("{port: 80}", tcp(80), false),
        ("{port: \"0\"}", icmp(8), false),
    ] {
        assert_eq!(there(port, allow), expected, "{port} {allow}");
    }
}

#[test]
fn icmp_types_are_all_kept() {
    let members = "  egress:\n  - toEntities: [host]\n    icmps:\n    - fields:\n      - family: IPv4\n        type: 8\n    - fields:\n      - type: 3\n";
    let host = |kind| egress(Peer::Entity(Entity::Host), icmp(kind));
    let inserted = "      - family: IPv4\n        type: 13\n";
    let merged = check(members, &[host(8), host(3), host(13)], "type: 8\n", inserted);
    assert_eq!(merged.present, [host(3), host(8)]);

    let written = |field: &str| {
        format!(
            "  ingress: [{{fromEndpoints: [{{matchLabels: {{app: web}}}}], icmps: [{{fields: [{field}]}}]}}]\n"
        )
    };
    for (field, family, kind, expected) in [
        ("{type: EchoRequest}", IcmpFamily::V4, 8, true),
        ("{family: IPv6, type: EchoRequest}", IcmpFamily::V6, 128, true),
        ("{family: IPv6, type: EchoRequest}", IcmpFamily::V4, 8, false),
        ("{type: 0}", IcmpFamily::V4, 13, true),
        ("{type: EchoReply}", IcmpFamily::V4, 13, true),
        ("{type: 0}", IcmpFamily::V6, 128, false),
        ("{type: NoSuchName}", IcmpFamily::V4, 8, false),
    ] {
        let allow = Allow::Icmp(family, IcmpType::new(kind).unwrap());
        let merged = merged_text(&written(field), ingress(pods("web"), allow));
        assert_eq!(merged.outcome == Outcome::Unchanged, expected, "{field} {allow}");
    }
}

fn merged_text(members: &str, rule: Rule) -> Merged {
    merged(&document(members), &[rule])
}

#[test]
fn what_a_person_restricted_stays_restricted() {
    let rule = || ingress(pods("web"), tcp(443));
    let item = |rest: &str| {
        format!(
            "  ingress:\n  - fromEndpoints:\n    - matchLabels: {{app: web}}\n    toPorts:\n    - ports: [{{port: \"443\", protocol: TCP}}]\n      {rest}\n"
        )
    };
    for (rest, word) in [
        ("serverNames: [example.com]", "serverNames"),
        ("listener: {name: mine, envoyConfig: {name: a}}", "listener"),
        ("terminatingTLS: {secret: {name: a}}", "terminatingTLS"),
        ("originatingTLS: {secret: {name: a}}", "originatingTLS"),
        ("rules: {http: [{method: GET}]}", "L7"),
        ("rules: {dns: [{matchPattern: '*'}]}", "L7"),
        ("somethingNew: true", "somethingNew"),
    ] {
        let merged = untouched(&item(rest), &[rule()]);
        let [(conflict, why)] = merged.conflicts.as_slice() else { panic!("{rest}: {merged:?}") };
        assert!(*conflict == rule() && why.contains(word), "{rest}: {why}");
        // Another port of the same peer is no conflict: it gets an item of its own, this one stays.
        let after = format!("{rest}\n");
        let inserted = "    - ports:\n      - port: \"80\"\n        protocol: TCP\n";
        check(&item(rest), &[ingress(pods("web"), tcp(80))], &after, inserted);
    }
    // L7 rules of none are none.
    for rest in ["rules: {}", "rules: {http: []}", "rules: null"] {
        assert_eq!(untouched(&item(rest), &[rule()]).present, [rule()]);
    }
    let authenticated =
        "  ingress:\n  - fromEndpoints: [{matchLabels: {app: web}}]\n    authentication: {mode: required}\n";
    assert!(untouched(authenticated, &[rule()]).conflicts[0].1.contains("authentication"));
    // A named port may be the one.
    let named = item("rules: {http: [{method: GET}]}").replace("\"443\"", "https");
    assert_eq!(untouched(&named, &[rule()]).conflicts.len(), 1);
}

#[test]
fn a_plain_port_beside_l7_rules_counts() {
    let text = "  ingress:\n  - fromEndpoints: [{matchLabels: {app: web}}]\n    toPorts:\n    - ports: [{port: \"80\"}]\n      rules: {http: [{method: GET}]}\n    - ports: [{port: \"80\"}]\n";
    assert_eq!(untouched(text, &[ingress(pods("web"), tcp(80))]).present.len(), 1);
    // But server names hold for both.
    let text = text.replace("rules: {http: [{method: GET}]}", "serverNames: [a.example]");
    assert_eq!(untouched(&text, &[ingress(pods("web"), tcp(80))]).conflicts.len(), 1);
}

#[test]
fn at_most_forty_ports_an_item() {
    let rules: Vec<_> = (7001..=7090).map(|port| ingress(pods("web"), tcp(port))).collect();
    let merged = merged(&document(WEB_80), &rules);
    let value = read_documents(&merged.text).unwrap().remove(0).value;
    let items = value.pointer("/spec/ingress/0/toPorts").unwrap().as_array().unwrap();
    let counts: Vec<_> = items.iter().map(|item| item["ports"].as_array().unwrap().len()).collect();
    assert_eq!(counts, [40, 40, 11]);
    assert!(value.pointer("/spec/ingress/1").is_none());
}

#[test]
fn comments_stay_with_what_they_are_about() {
    let members =
        format!("{WEB_80}      # - port: \"443\"\n\n    # web ends here\n  # all ingress ends here\n");
    let inserted = "  - fromEntities:\n    - host\n    toPorts:\n    - ports:\n      - port: \"80\"\n        protocol: TCP\n";
    check(&members, &[ingress(Peer::Entity(Entity::Host), tcp(80))], "# web ends here\n", inserted);
}

#[test]
fn a_direction_without_rules_gets_its_list() {
    let rule = || ingress(pods("web"), tcp(80));
    for (before, after) in [
        ("  ingress: []\n  egress: [{}]\n", "  ingress:\n  - fromEndpoints:"),
        ("  ingress: [] # none\n  egress: [{}]\n", "  ingress: # none\n  - fromEndpoints:"),
        ("  ingress:\n  egress: [{}]\n", "  ingress:\n  - fromEndpoints:"),
        ("  ingress: ~\n", "  ingress:\n  - fromEndpoints:"),
        ("  ingress: null # later\n", "  ingress: # later\n  - fromEndpoints:"),
        ("  egress: [{}]\n", "  ingress:\n  - fromEndpoints:"),
    ] {
        let merged = merged_text(before, rule());
        assert!(merged.text.contains(after), "{before}\n{}", merged.text);
        assert_eq!(merged.first_in_direction, [Direction::Ingress]);
    }
    let additions = additions(&[rule()]);
    let refusal = merge(Some(&document("  ingress: {}\n  egress: [{}]\n")), None, &additions);
    assert!(matches!(refusal, Err(Refusal::NotEditable(_))), "{refusal:?}");
}

#[test]
fn lists_are_indented_as_they_are_elsewhere_in_the_file() {
    let members = "  ingress:
    - fromEntities:
        - host
      toPorts:
        - ports:
            - port: \"53\"
              protocol: UDP
";
    let inserted = "    - fromEndpoints:
        - matchLabels:
            app: web
      toPorts:
        - ports:
            - port: \"80\"
              protocol: TCP
";
    let rule = ingress(pods("web"), tcp(80));
    check(members, std::slice::from_ref(&rule), "UDP\n", inserted);
    let egress_rule = Rule { direction: Direction::Egress, ..rule };
    let inserted = format!("  egress:\n{}", inserted.replace("from", "to"));
    check(members, std::slice::from_ref(&egress_rule), "UDP\n", &inserted);
    // Without an end of line, and in both directions at once.
    let text = document("  egressDeny:\n  - toEntities:\n    - world");
    let both = merged(&text, &[ingress(pods("web"), tcp(80)), egress_rule]);
    assert!(both.text.contains("\n  ingress:\n  - from") && both.text.contains("\n  egress:\n  - to"));
    assert!(both.text.ends_with("protocol: TCP"));
}

#[test]
fn other_documents_and_styles_stay() {
    let other = "kind: Other # first\n";
    let text = format!("---\n{other}---\n\n---\n{}...\n---\nlast: no\n", document(WEB_80));
    let result = merged(&text, &[ingress(pods("web"), tcp(8080))]).text;
    assert_eq!(result, text.replace("# plain\n", "# plain\n      - port: \"8080\"\n        protocol: TCP\n"));
    // Windows line ends, no end of line at the end.
    let text = document(WEB_80).trim_end().replace('\n', "\r\n");
    let result = merged(&text, &[ingress(pods("web"), tcp(8080))]).text;
    assert_eq!(result, format!("{text}\r\n      - port: \"8080\"\r\n        protocol: TCP"));
    // A mark at the beginning, a version, deep indentation.
    for head in ["\u{feff}", "%YAML 1.2\n---\n", "# x\n\n---   # y\n"] {
        let deep = WEB_80
            .replace("    - ports", "        - ports")
            .replace("      - port:", "              - port:")
            .replace("        protocol", "                protocol");
        let text = format!("{head}{}", document(&deep));
        let result = merged(&text, &[ingress(pods("web"), tcp(8080))]).text;
        let indented = "              - port: \"8080\"\n                protocol: TCP\n";
        assert_eq!(result, format!("{text}{indented}"), "{head:?}");
    }
    // One line.
    let text = "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop}, spec: {endpointSelector: {matchLabels: {app: cart}}, ingress: [{fromEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: '80'}]}]}]}} # x\n";
    let result = merged(text, &[ingress(pods("web"), tcp(8080))]).text;
    assert_eq!(result, text.replace("'80'}", "'80'}, {port: \"8080\", protocol: TCP}"));
}

#[test]
fn refused_files() {
    let refusal =
        |text: &str| merge(Some(text), None, &additions(&[ingress(pods("web"), tcp(8080))])).unwrap_err();
    let text = document(WEB_80);
    assert!(matches!(refusal("a: [\n"), Refusal::NotYaml(_)));
    assert!(matches!(refusal(""), Refusal::ForeignKind(_)));
    assert!(matches!(refusal("kind: Pod\napiVersion: v1\n"), Refusal::ForeignKind(kind) if kind == "v1 Pod"));
    assert!(matches!(refusal(&text.replace("cart\n", "other\n")), Refusal::NoDocument(_)));
    assert!(matches!(refusal(&text.replace("namespace: shop", "namespace: db")), Refusal::NoDocument(_)));
    assert!(matches!(refusal(&text.replace("  namespace: shop\n", "")), Refusal::NoDocument(_)));
    assert_eq!(refusal(&text.replace("- port", "- &p port")), Refusal::Anchors);
    assert_eq!(refusal(&text.replace("metadata:", "x: &a {b: 1}\ny: {<<: *a}\nmetadata:")), Refusal::Anchors);
    assert_eq!(refusal(&text.replace("\"80\"", "!!str 80")), Refusal::Tags);
    assert!(matches!(refusal(&text.replace("# mine", "kind: Again")), Refusal::DuplicateKeys(_)));
    assert_eq!(refusal(&text.replace("# mine", "# {{ if .Values.cart }}")), Refusal::Templated);
    assert_eq!(refusal("{{- if .Values.x }}\na: b\n{{ end }}\n"), Refusal::Templated);
    let specs = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {namespace: shop}\nspecs:\n- endpointSelector: {matchLabels: {app: cart}}\n  egress: [{}]\n";
    assert_eq!(refusal(specs), Refusal::OnlySpecs);
    assert_eq!(refusal(&format!("{text}sops: {{mac: 'ENC[x]', version: 3.9.0}}\n")), Refusal::Encrypted);
    // What is there needs no edit, so nothing is refused.
    let there = merge(Some(&text.replace("- port", "- &p port")), None, &additions(&[]));
    assert_eq!(there.unwrap().outcome, Outcome::Unchanged);
    for refusal in [refusal(specs), refusal("a: [\n"), refusal("{{ x }}: y: z")] {
        assert!(refusal.to_string().starts_with(['i', 'h', 's', 'u']), "{refusal}");
    }
}

#[test]
fn the_namespace_of_the_directory_counts_where_none_is_written() {
    let text = document(WEB_80).replace("  namespace: shop\n", "");
    let merged = merge(Some(&text), Some(&shop()), &additions(&[ingress(pods("web"), tcp(80))])).unwrap();
    assert_eq!((merged.outcome, merged.present.len()), (Outcome::Unchanged, 1));
}

fn dns(peer: Peer, allow: Allow, name: &str) -> Rule {
    Rule { l7: Some(L7Match::Dns(DnsName::parse(name).unwrap())), ..egress(peer, allow) }
}

fn http(peer: Peer, port: u16, method: &str, path: &str) -> Rule {
    let l7 = L7Match::Http(HttpMatch { method: method.into(), path: path.into() });
    Rule { l7: Some(l7), ..ingress(peer, tcp(port)) }
}

fn fqdn(name: &str) -> Peer {
    Peer::Fqdn(DnsName::parse(name).unwrap())
}

fn resolver(item: &str) -> String {
    format!("  egress:\n  - toEndpoints:\n    - matchLabels: {{app: dns}}\n    toPorts:\n    - {item}\n")
}

/// The names of later windows were refused where the rule for the resolver stopped growing.
#[test]
fn names_go_into_the_list_that_stands_there() {
    let members = "  egress:
  - toEndpoints:
    - matchLabels: {app: dns}
    toPorts:
    - ports:
      - port: \"53\"
        protocol: UDP
      - port: \"53\"
        protocol: TCP
      rules:
        dns:
        - matchName: a.example.com # the API
  - toFQDNs: [{matchName: a.example.com}]
    toPorts:
    - ports:
      - port: \"443\"
        protocol: TCP
";
    let both = |name: &str| [dns(pods("dns"), udp(53), name), dns(pods("dns"), tcp(53), name)];
    let merged =
        check(members, &both("b.example.com"), "# the API\n", "        - matchName: b.example.com\n");
    assert_eq!(merged.added.len(), 2);
    let merged = untouched(members, &both("A.example.com."));
    assert_eq!(merged.present.len(), 2);
    untouched(members, &[egress(fqdn("a.example.com"), tcp(443))]);
    check(
        members,
        &[egress(fqdn("a.example.com"), tcp(80))],
        "        protocol: TCP\n      rules:\n        dns:\n        - matchName: a.example.com # the API\n  - toFQDNs: [{matchName: a.example.com}]\n    toPorts:\n    - ports:\n      - port: \"443\"\n        protocol: TCP\n",
        "      - port: \"80\"\n        protocol: TCP\n",
    );
    // On one of the ports only: not in a list that stands for both.
    apart(members, dns(pods("dns"), udp(53), "b.example.com"));
    apart(members, egress(fqdn("b.example.com"), tcp(443)));
}

#[test]
fn a_rule_for_a_resolver_is_never_narrowed() {
    let need = || dns(pods("dns"), udp(53), "a.example.com");
    for item in [
        "{ports: [{port: \"53\", protocol: ANY}], rules: {dns: [{matchPattern: \"*\"}]}}",
        "{ports: [{port: \"53\", protocol: UDP}], rules: {dns: [{matchName: A.example.com}]}}",
    ] {
        assert_eq!(untouched(&resolver(item), &[need()]).present.len(), 1, "{item}");
    }
    for item in [
        "{ports: [{port: \"0\", protocol: UDP}]}",
        "{ports: [{port: \"50\", endPort: 60, protocol: UDP}]}",
        "{ports: [{port: \"53\", protocol: UDP}], rules: {l7proto: x}}",
        "{ports: [{port: \"53\", protocol: UDP}], rules: {http: [{}]}}",
    ] {
        assert_eq!(untouched(&resolver(item), &[need()]).conflicts.len(), 1, "{item}");
    }
    let whole = "  egress: [{toEndpoints: [{matchLabels: {app: dns}}]}]\n";
    assert_eq!(untouched(whole, &[need()]).conflicts.len(), 1);
    // A plain rule for the same port still lets every name pass.
    apart(&resolver("{ports: [{port: \"53\", protocol: UDP}]}"), need());
    apart(
        &resolver("{ports: [{port: \"53\", protocol: ANY}], rules: {dns: [{matchPattern: \"*.com\"}]}}"),
        need(),
    );
}

#[test]
fn requests_never_narrow_a_plain_port_and_stand_beside_each_other() {
    let get = || http(pods("web"), 80, "GET", "/a");
    let web = |item: &str| {
        format!(
            "  ingress:\n  - fromEndpoints: [{{matchLabels: {{app: web}}}}]\n    toPorts:\n    - {item}\n"
        )
    };
    for item in [
        "{ports: [{port: \"80\"}]}",
        "{ports: [{port: \"1\", endPort: 100}]}",
        "{ports: [{port: \"80\", protocol: TCP}], rules: {http: []}}",
        "{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{}]}}",
        "{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{method: GET}]}}",
        "{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{path: /a, method: GET}]}}",
    ] {
        assert_eq!(untouched(&web(item), &[get()]).present.len(), 1, "{item}");
    }
    untouched("  ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}]\n", &[get()]);
    apart(&web("{ports: [{port: \"80\", protocol: ANY}], rules: {http: [{method: GET, path: /b}]}}"), get());
    apart(&web("{ports: [{port: \"80\"}], rules: {http: [{method: GET, path: /a, host: x}]}}"), get());
    check(
        "  ingress:\n  - fromEndpoints: [{matchLabels: {app: web}}]\n    toPorts:\n    - ports: [{port: \"80\", protocol: TCP}]\n      rules:\n        http:\n        - path: /b\n",
        &[get()],
        "        - path: /b\n",
        "        - method: GET\n          path: /a\n",
    );
    let kafka = "{ports: [{port: \"80\", protocol: TCP}], rules: {kafka: [{topic: x}]}}";
    assert_eq!(untouched(&web(kafka), &[get()]).conflicts.len(), 1);
    let names = "{ports: [{port: \"80\", protocol: TCP}], serverNames: [a.b]}";
    assert_eq!(untouched(&web(names), &[get()]).conflicts.len(), 1);
    // The other way round it would lift what people asked for.
    let written = web("{ports: [{port: \"80\", protocol: TCP}], rules: {http: [{method: GET, path: /a}]}}");
    assert_eq!(untouched(&written, &[ingress(pods("web"), tcp(80))]).conflicts.len(), 1);
}
