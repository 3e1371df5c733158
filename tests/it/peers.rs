//! Mistakes that other generators of policies made, each as a test named after it: here, or where the table
//! says.
//!
//! | Mistake | Test |
//! |---|---|
//! | paths widened to a whole host; expressions not anchored, not escaped, blind to the query | `policy::http::tests`, `http::method_and_path_and_nothing_else` |
//! | values that vary opened without a word | `http::varying_places_are_opened_and_told_in_any_order` |
//! | secrets of a URL written down | `http::secrets_are_held_and_shown_nowhere` |
//! | an L7 rule that narrows a plain port | `http::a_plain_need_of_the_port_takes_requests_in_…`, `merge: requests_never_narrow_a_plain_port_…` |
//! | a merge that loses SNI, listeners, TLS; that narrows a rule without ports | `merge: what_a_person_restricted_…`, `a_rule_without_ports_is_not_narrowed` |
//! | a merge that takes names, services, groups for another peer | `merge: peers_of_other_kinds_are_never_taken_for_ours` |
//! | named ports lost | `merge: ports_are_read_as_cilium_reads_them`; flows tell numbers only, so none is written |
//! | names without a dns rule, only for 53, only by UDP, only at kube-dns | here, `fqdn::*` with golden policies for each kind of resolver |
//! | names of later windows refused | `fqdn::names_of_later_runs_…`, `names_grow_over_the_windows_of_a_stream`, `merge: names_go_into_the_list_that_stands_there` |
//! | a dns rule that narrows what people allow | `fqdn::what_people_allow_for_lookups_is_never_narrowed`, `merge: a_rule_for_a_resolver_is_never_narrowed` |
//! | the other side put into default deny uncalled | `only_the_direction_…`, `sides::an_end_that_no_policy_selects_is_never_put_into_default_deny` |
//! | only what passes is looked at | `verdicts::drops_count_in_a_learn_run_too` |
//! | traces believed, replies and doubled events learned | `verdicts::both_ends_need_…`, `replies_and_arrivals_…`, `what_is_told_several_times_counts_once` |
//! | transient denials | `caution::transient_denials_of_identities_not_spread_yet_make_no_rule` |
//! | the whole internet by its addresses, one by one | `caution::many_addresses_on_one_port_are_held_back_with_a_proposal` |
//! | two policies of one name, a file of somebody else | `src/store/tests.rs` |
//! | a policy for a cluster whose network ignores it | none can exist: what Hubble tells, Cilium enforces |

use serde_json::json;

use crate::support::{
    Line, capture, check_rules, check_skipped, denied, identity, pod, replayed, replayed_with, rules, run,
    tree, write,
};

fn reason(number: u32, name: &str) -> Line {
    denied().set("/drop_reason", json!(number)).set("/drop_reason_desc", json!(name))
}

fn world(address: &str) -> Line {
    denied().to(identity(2, &["reserved:world"])).addresses("10.0.0.1", address)
}

// Wider than the traffic.

#[test]
fn an_ipv6_peer_is_a_128_and_never_a_32() {
    check_rules(&[world("2001:db8::7")], &["shop/app=web egress to 2001:db8::7/128 TCP/80"]);
}

#[test]
fn a_workload_without_labels_never_gets_an_empty_selector() {
    check_skipped(&[denied().from(pod("shop", "x", &["k8s:pod-template-hash=abc"]))], "no_usable_label");
    check_skipped(&[denied().to(pod("shop", "x", &[]))], "no_usable_label");
}

#[test]
fn helm_instances_of_one_chart_are_told_apart() {
    let cart = |instance: &str| {
        let labels = [
            "k8s:app.kubernetes.io/name=cart".to_owned(),
            format!("k8s:app.kubernetes.io/instance={instance}"),
        ];
        pod("shop", "cart", &labels.iter().map(String::as_str).collect::<Vec<_>>())
    };
    check_rules(
        &[denied().from(cart("eu")), denied().from(cart("us")).port(81)],
        &[
            "shop/app.kubernetes.io/instance=eu,app.kubernetes.io/name=cart egress to app=api TCP/80",
            "shop/app.kubernetes.io/instance=us,app.kubernetes.io/name=cart egress to app=api TCP/81",
        ],
    );
}

#[test]
fn component_server_alone_is_no_selector() {
    check_rules(
        &[denied().from(pod("shop", "x", &["k8s:app.kubernetes.io/component=server", "k8s:team=a"]))],
        &["shop/app.kubernetes.io/component=server,team=a egress to app=api TCP/80"],
    );
}

#[test]
fn ports_and_protocols_are_never_crossed() {
    check_rules(
        &[denied().port(443), denied().l4(json!({"UDP": {"source_port": 40000, "destination_port": 123}}))],
        &["shop/app=web egress to app=api TCP/443", "shop/app=web egress to app=api UDP/123"],
    );
}

#[test]
fn one_address_never_opens_the_world() {
    let (policies, _) = replayed(&[world("192.0.2.7")]);
    let text = policies.values().next().unwrap();
    assert!(text.contains("192.0.2.7/32") && !text.contains("world") && !text.contains("Entities"), "{text}");
}

#[test]
fn a_remote_node_does_not_bring_the_host_along() {
    check_rules(
        &[denied().to(identity(6, &["reserved:remote-node"]))],
        &["shop/app=web egress to remote-node TCP/80"],
    );
}

#[test]
fn a_private_address_is_one_address() {
    check_rules(&[world("10.200.3.4")], &["shop/app=web egress to 10.200.3.4/32 TCP/80"]);
}

#[test]
fn namespace_and_labels_are_one_selector_not_two() {
    let (policies, _) = replayed(&[denied().to(pod("pay", "api", &["k8s:app=api"]))]);
    let text = policies.values().next().unwrap();
    assert_eq!(text.matches("- matchLabels:").count(), 1, "{text}");
}

// Looks right, and blocks.

#[test]
fn equal_labels_in_two_namespaces_are_two_peers() {
    let client = |namespace: &str| denied().ingress().from(pod(namespace, "c", &["k8s:app=client"]));
    check_rules(
        &[client("a"), client("b")],
        &[
            "shop/app=api ingress from app=client,k8s:io.kubernetes.pod.namespace=a TCP/80",
            "shop/app=api ingress from app=client,k8s:io.kubernetes.pod.namespace=b TCP/80",
        ],
    );
}

#[test]
fn a_peer_of_another_cluster_keeps_its_cluster() {
    let here = "k8s:io.cilium.k8s.policy.cluster=east";
    let there = "k8s:io.cilium.k8s.policy.cluster=west";
    check_rules(
        &[denied().from(pod("shop", "w", &["k8s:app=web", here])).to(pod(
            "pay",
            "a",
            &["k8s:app=api", there],
        ))],
        &[
            "shop/app=web egress to app=api,k8s:io.cilium.k8s.policy.cluster=west,k8s:io.kubernetes.pod.namespace=pay TCP/80",
        ],
    );
}

#[test]
fn world_of_a_dual_stack_cluster_is_world() {
    let to = |number, labels: &[&str], address| {
        denied().to(identity(number, labels)).addresses("10.0.0.1", address)
    };
    check_rules(
        &[
            to(9, &["reserved:world-ipv4"], "192.0.2.1"),
            to(10, &["reserved:world-ipv6"], "2001:db8::1"),
            to(16_777_220, &["cidr:192.0.2.0/24", "reserved:world-ipv4"], "192.0.2.2"),
            to(16_777_221, &["fqdn:a.example.", "reserved:world-ipv4"], "192.0.2.3"),
        ],
        &[
            "shop/app=web egress to 192.0.2.1/32 TCP/80",
            "shop/app=web egress to 192.0.2.2/32 TCP/80",
            "shop/app=web egress to 192.0.2.3/32 TCP/80",
            "shop/app=web egress to 2001:db8::1/128 TCP/80",
        ],
    );
}

#[test]
fn every_reserved_identity_has_its_entity() {
    let from = |number, label: &str| denied().ingress().from(identity(number, &[label]));
    check_rules(
        &[
            from(8, "reserved:ingress"),
            from(4, "reserved:health"),
            from(3, "reserved:unmanaged"),
            from(5, "reserved:init"),
            from(1, "reserved:host"),
        ],
        &[
            "shop/app=api ingress from health TCP/80",
            "shop/app=api ingress from host TCP/80",
            "shop/app=api ingress from ingress TCP/80",
            "shop/app=api ingress from init TCP/80",
            "shop/app=api ingress from unmanaged TCP/80",
        ],
    );
}

#[test]
fn the_address_of_a_pod_or_a_node_never_becomes_a_cidr() {
    let mut raced = pod("shop", "details-1", &[]);
    raced["labels"] = json!(["reserved:world"]);
    raced["identity"] = json!(2);
    check_skipped(&[denied().to(raced)], "world_label_on_pod");
    check_rules(
        &[denied().to(identity(33_554_440, &["reserved:remote-node", "cidr:10.1.0.9/32"]))],
        &["shop/app=web egress to remote-node TCP/80"],
    );
}

#[test]
fn the_api_server_is_never_an_address() {
    let api = |number, labels: &[&str]| denied().to(identity(number, labels)).port(6443);
    check_rules(
        &[
            api(7, &["reserved:remote-node", "reserved:kube-apiserver"]),
            api(1, &["reserved:host", "reserved:kube-apiserver"]),
            api(16_777_217, &["reserved:world", "cidr:192.0.2.1/32", "reserved:kube-apiserver"]),
        ],
        &["shop/app=web egress to kube-apiserver TCP/6443"],
    );
}

/// A connection to an address that shop/web had looked up at this resolver, and the lookup.
fn looked_up(resolver: &serde_json::Value, port: u16) -> [Line; 2] {
    let asked = denied()
        .to(resolver.clone())
        .l4(json!({"UDP": {"source_port": 40000, "destination_port": port}}))
        .set("/verdict", json!("FORWARDED"))
        .set("/drop_reason", json!(null))
        .set("/drop_reason_desc", json!(null))
        .set("/Type", json!("L7"))
        .set("/event_type", json!({"type": 129}))
        .set("/l7", json!({"type": "REQUEST", "dns": {"query": "api.example.com."}}));
    [asked, world("192.0.2.7").port(443).set("/destination_names", json!(["api.example.com"]))]
}

fn resolver_rules(port: u16, peer: &str) -> [String; 2] {
    ["TCP", "UDP"].map(|p| format!("shop/app=web egress to {peer} {p}/{port} DNS api.example.com"))
}

const API_BY_NAME: &str = "shop/app=web egress to fqdn:api.example.com TCP/443";

#[test]
fn a_name_is_allowed_on_its_data_ports_and_not_only_on_53() {
    let dns = pod("kube-system", "coredns", &["k8s:k8s-app=kube-dns"]);
    let (policies, _) = replayed(&looked_up(&dns, 53));
    let rules = rules(&policies);
    assert!(rules.contains(&API_BY_NAME.to_owned()), "{rules:?}");
    assert!(!rules.iter().any(|rule| rule.contains("fqdn:") && rule.contains("/53")), "{rules:?}");
}

#[test]
fn names_come_with_dns_rules_of_the_resolver_that_was_seen_by_udp_and_tcp() {
    let check = |resolver: serde_json::Value, port, peer: &str| {
        let (policies, _) = replayed(&looked_up(&resolver, port));
        let mut expected = resolver_rules(port, peer).to_vec();
        expected.push(API_BY_NAME.to_owned());
        expected.sort();
        assert_eq!(rules(&policies), expected);
    };
    let system = "k8s:io.kubernetes.pod.namespace=kube-system";
    check(pod("kube-system", "c", &["k8s:k8s-app=coredns"]), 53, &format!("k8s-app=coredns,{system}"));
    check(identity(1, &["reserved:host"]), 53, "host");
    let openshift = "k8s:dns.operator.openshift.io/daemonset-dns=default";
    check(
        pod("openshift-dns", "d", &[openshift]),
        5353,
        "dns.operator.openshift.io/daemonset-dns=default,k8s:io.kubernetes.pod.namespace=openshift-dns",
    );
}

#[test]
fn the_namespace_of_the_resolver_is_in_its_rule() {
    let dns = pod("kube-system", "coredns", &["k8s:k8s-app=kube-dns"]);
    let (policies, _) = replayed(&looked_up(&dns, 53));
    let text = policies.values().next().unwrap();
    assert!(text.contains("\"k8s:io.kubernetes.pod.namespace\": kube-system"), "{text}");
}

#[test]
fn a_name_opens_only_itself_whatever_shares_its_address() {
    let dns = pod("kube-system", "coredns", &["k8s:k8s-app=kube-dns"]);
    let (policies, _) = replayed(&looked_up(&dns, 53));
    let text = policies.values().next().unwrap();
    assert!(!text.contains("matchPattern") && !text.contains("192.0.2.7"), "{text}");
}

#[test]
fn dns_over_tcp_is_not_lost_beside_udp() {
    let dns = pod("kube-system", "coredns", &["k8s:k8s-app=kube-dns"]);
    let udp = denied().to(dns.clone()).l4(json!({"UDP": {"source_port": 40000, "destination_port": 53}}));
    let (policies, _) = replayed(&[udp, denied().to(dns).port(53)]);
    assert_eq!(rules(&policies).len(), 2);
}

#[test]
fn only_the_direction_that_was_denied_is_written() {
    let (policies, _) = replayed(&[denied()]);
    let text = policies.values().next().unwrap();
    assert!(!text.contains("ingress"), "{text}");
    assert_eq!(policies.len(), 1, "the other end gets no policy from this flow");
}

#[test]
fn an_empty_direction_is_never_written() {
    for (_, text) in replayed(&[denied(), denied().ingress()]).0 {
        assert!(!text.contains("[]") && !text.contains("{}") && !text.contains("null"), "{text}");
    }
}

#[test]
fn drops_that_no_allow_rule_helps_make_none() {
    check_skipped(&[reason(181, "POLICY_DENY")], "explicit_deny");
    check_skipped(&[reason(189, "AUTH_REQUIRED")], "auth_required");
    check_skipped(&[reason(177, "DENIED_BY_LB_SRC_RANGE_CHECK")], "service");
    check_skipped(&[reason(155, "CT_MAP_INSERTION_FAILED")], "infrastructure");
}

#[test]
fn a_reason_newer_than_cpg_makes_no_rule() {
    check_skipped(&[reason(251, "BRAND_NEW_REASON")], "unknown_reason");
    check_skipped(
        &[denied().set("/drop_reason", json!(null)).set("/drop_reason_desc", json!("BRAND_NEW"))],
        "unknown_reason",
    );
}

#[test]
fn the_port_of_the_backend_counts_not_that_of_the_service() {
    let line = denied().port(8080).set("/destination_service", json!({"name": "api", "namespace": "shop"}));
    check_rules(&[line], &["shop/app=web egress to app=api TCP/8080"]);
}

#[test]
fn labels_that_die_with_the_pod_are_in_no_selector() {
    let job = pod(
        "shop",
        "report-1",
        &[
            "k8s:app=report",
            "k8s:job-name=report-1",
            "k8s:batch.kubernetes.io/controller-uid=7",
            "k8s:version=2",
        ],
    );
    check_rules(&[denied().from(job)], &["shop/app=report egress to app=api TCP/80"]);
}

#[test]
fn the_selector_does_not_depend_on_which_pod_came_first() {
    let replica = |hash: &str, order: bool| {
        let mut labels = ["k8s:app=web".to_owned(), format!("k8s:pod-template-hash={hash}")];
        if order {
            labels.reverse();
        }
        denied().from(pod("shop", hash, &labels.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    let one = replayed(&[replica("a", true), replica("b", false)]).0;
    let other = replayed(&[replica("b", true), replica("a", false)]).0;
    assert_eq!(one, other);
    assert_eq!(rules(&one).len(), 1);
}

#[test]
fn the_protocol_stands_with_each_port() {
    let (policies, _) = replayed(&[denied()]);
    assert!(policies.values().next().unwrap().contains("- port: \"80\"\n        protocol: TCP\n"));
}

#[test]
fn more_than_forty_ports_are_split() {
    let lines: Vec<Line> = (1..=95).map(|p| denied().port(p)).collect();
    let (policies, _) = replayed(&lines);
    let text = policies.values().next().unwrap();
    assert_eq!(text.matches("- ports:").count(), 3);
    assert_eq!(rules(&policies).len(), 95);
}

#[test]
fn tcp_and_udp_of_one_port_are_two_rules() {
    check_rules(
        &[denied().port(53), denied().l4(json!({"UDP": {"source_port": 40000, "destination_port": 53}}))],
        &["shop/app=web egress to app=api TCP/53", "shop/app=web egress to app=api UDP/53"],
    );
}

#[test]
fn icmp_types_of_later_runs_are_added() {
    let dir = tempfile::tempdir().unwrap();
    for kind in [8, 13, 42] {
        let line = denied().l4(json!({"ICMPv4": {"type": kind}}));
        write(&dir.path().join("c.jsonl"), capture(&[line]));
        run(dir.path(), &["replay", "c.jsonl"]).code(0);
    }
    assert_eq!(rules(&tree(&dir.path().join("policies"))).len(), 3);
}

// Rules that nobody needs.

#[test]
fn replies_open_no_ephemeral_port() {
    check_skipped(&[denied().set("/is_reply", json!(true))], "reply");
    let syn_ack =
        json!({"TCP": {"source_port": 80, "destination_port": 40000, "flags": {"SYN": true, "ACK": true}}});
    check_skipped(&[denied().l4(syn_ack)], "reply");
    check_skipped(&[denied().l4(json!({"UDP": {"source_port": 53, "destination_port": 40000}}))], "reply");
    let later =
        json!({"TCP": {"source_port": 40000, "destination_port": 80, "flags": {"ACK": true, "PSH": true}}});
    check_skipped(&[denied().l4(later)], "mid_stream");
}

#[test]
fn masked_flags_are_not_taken_for_a_first_packet() {
    check_skipped(&[denied().set("/l4/TCP/flags", json!(null))], "flags_unknown");
}

#[test]
fn one_flow_is_one_side() {
    check_rules(&[denied().ingress()], &["shop/app=api ingress from app=web TCP/80"]);
}

#[test]
fn doubled_events_and_retransmits_are_one_connection() {
    let again = |time: &str| denied().set("/time", json!(time));
    let (policies, ran) = {
        let dir = tempfile::tempdir().unwrap();
        let lines =
            [denied(), denied().drop_event(), again("2026-03-01T10:00:01Z"), again("2026-03-01T10:00:03Z")];
        write(&dir.path().join("c.jsonl"), capture(&lines));
        let ran = run(dir.path(), &["replay", "c.jsonl", "--debug"]).code(0);
        (tree(&dir.path().join("policies")), ran)
    };
    assert_eq!(rules(&policies).len(), 1);
    ran.says("connections=1").says("packets=3");
}

#[test]
fn a_drop_event_with_the_wrong_direction_is_not_believed() {
    let spoofed = denied().from(identity(2, &["reserved:world"])).addresses("192.0.2.9", "10.0.0.2");
    let mut pretended = spoofed.clone().ingress().drop_event();
    pretended.0["flow"]["source"] =
        json!({"identity": 4711, "labels": ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"]});
    let (policies, ran) = replayed(&[spoofed, pretended.clone()]);
    assert!(policies.is_empty(), "{policies:?}");
    ran.says("direction_contradicted");
    // Without the verdict there is nothing that speaks against it.
    check_rules(&[pretended], &["shop/app=api ingress from app=web TCP/80"]);
}

#[test]
fn identities_not_known_yet_make_no_rule() {
    check_skipped(&[denied().to(identity(0, &["reserved:unknown"]))], "unknown_identity");
    check_skipped(&[denied().to(identity(0, &[]))], "nil_destination");
    check_skipped(&[denied().from(identity(5, &["reserved:init"]))], "reserved_subject");
}

#[test]
fn icmp_errors_are_consequences_not_needs() {
    check_skipped(&[denied().l4(json!({"ICMPv4": {"type": 3, "code": 4}}))], "reply");
    check_skipped(&[denied().l4(json!({"ICMPv6": {"type": 1}}))], "reply");
}

#[test]
fn multicast_and_router_solicitations_are_not_policy() {
    let udp = json!({"UDP": {"source_port": 40000, "destination_port": 1900}});
    check_skipped(&[world("239.255.255.250").l4(udp)], "multicast");
    check_skipped(
        &[world("ff02::2").addresses("fe80::1", "ff02::2").l4(json!({"ICMPv6": {"type": 133}}))],
        "neighbour_discovery",
    );
}

#[test]
fn the_namespace_filter_does_not_leak_to_the_other_end() {
    let lines = [denied().to(pod("pay", "api", &["k8s:app=api"])).ingress(), denied()];
    let (policies, _) = replayed_with(&lines, &["-n", "shop"]);
    assert_eq!(rules(&policies), ["shop/app=web egress to app=api TCP/80"]);
}

// The program around it.

#[test]
fn lost_events_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let lost =
        json!({"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "7"}, "node_name": "n1"});
    write(&dir.path().join("c.jsonl"), format!("{}{lost}\n", capture(&[denied()])));
    run(dir.path(), &["replay", "c.jsonl"]).code(0).says("lost by Hubble: 7 events (HUBBLE_RING_BUFFER)");
}

#[test]
fn a_file_with_only_specs_is_no_panic_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    let specs = "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
specs:
- endpointSelector: {matchLabels: {app: web}}
  egress: [{toEntities: [kube-apiserver]}]
";
    write(&dir.path().join("policies/shop/web.yaml"), specs);
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let files = tree(&dir.path().join("policies"));
    assert_eq!(files[std::path::Path::new("shop/web.yaml")], specs);
    assert!(files.contains_key(std::path::Path::new("shop/web.cpg.yaml")), "{:?}", files.keys());
}

#[test]
fn two_workloads_never_share_a_file_or_a_name() {
    let lines = [
        denied().from(pod("shop", "a", &["k8s:app=web"])),
        denied().from(pod("shop", "b", &["k8s:k8s-app=web"])),
        denied().from(pod("shop", "c", &["k8s:app=Web"])),
        denied().from(pod("shop", "d", &["k8s:app=w_b"])),
        denied().from(pod("pay", "e", &["k8s:app=web"])),
    ];
    let (policies, _) = replayed(&lines);
    assert_eq!(policies.len(), 5);
    let mut names: Vec<String> = policies
        .values()
        .map(|text| text.lines().filter(|l| l.starts_with("  name")).collect::<Vec<_>>().join(" "))
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 5);
}

#[test]
fn flows_without_a_direction_are_not_guessed() {
    check_skipped(&[denied().set("/traffic_direction", json!(null))], "no_direction");
}

#[test]
fn host_network_pods_are_no_panic_and_no_policy() {
    check_skipped(&[denied().from(identity(1, &["reserved:host"]))], "reserved_subject");
    check_skipped(&[denied().ingress().to(identity(6, &["reserved:remote-node"]))], "reserved_subject");
}

#[test]
fn no_status_is_ever_written() {
    for text in replayed(&[denied()]).0.values() {
        assert!(!text.contains("status"), "{text}");
    }
}
