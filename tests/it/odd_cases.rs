//! The odd cases of real inputs, each with its own capture: what is read, what is refused, and that
//! nothing wider or other comes of it than of the plain lines.
//!
//! | case | where |
//! |---|---|
//! | 1 to 8, 10: shapes | `every_shape_gives_the_same_policies` |
//! | 9, 12: cut, elided by hand | `a_cut_line_…`, `what_was_left_out_by_hand_…` |
//! | 11, 13: events that are no flow, numbers as text | `events_that_are_no_flow`, `numbers_as_text_…` |
//! | 14, 15, 17: hostile and strange L7 | `l7_of_every_kind_is_no_trouble` |
//! | 16: DNS over TCP | `peers::dns_over_tcp_is_not_lost_beside_udp` |
//! | 18, 19: camelCase, fields of later versions | `camel_case_…`, `fields_that_nobody_knows_yet` |
//! | 20, 21, 24: fields left out by masks and old agents | `masked_exports` |
//! | 22, 23: endpoints that name nobody | `endpoints_that_name_nobody` |
//! | 25, 26: audit, L7 denials, explicit deny | `audit_l7_and_explicit_deny_…` |
//! | 27: doubled events | `peers::doubled_events_and_retransmits_are_one_connection` |
//! | 28: world label on a pod | `aggregate::observation`: `a_world_label_on_a_pods_address_…` |
//! | 29: replies | `replies_of_2021`, `peers::replies_open_no_ephemeral_port` |
//! | 30, 31, 32: API server, nodes, world | `aggregate::observation`, `peers::every_reserved_identity_…` |
//! | 34, 39: ICMP errors, multicast | `peers::icmp_errors_…`, `peers::multicast_…` |
//! | 35: a node as subject | `peers::host_network_pods_…` |
//! | 36, 37: cluster mesh | `peers::a_peer_of_another_cluster_keeps_its_cluster`, `peers::one_flow_is_one_side` |

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::{
    Line, Ran, capture, check_rules, check_skipped, denied, identity, pod, replayed, replayed_with, rules,
    run, tree, write,
};

const RULE: &str = "shop/app=web egress to app=api TCP/80";

/// Replays these bytes; gives the policies and what was said.
#[track_caller]
fn bytes(content: impl AsRef<[u8]>, code: i32) -> (BTreeMap<PathBuf, String>, Ran) {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c"), content);
    let ran = run(dir.path(), &["replay", "c"]).code(code);
    (tree(&dir.path().join("policies")), ran)
}

#[track_caller]
fn gives(content: impl AsRef<[u8]>, code: i32, expected: &[&str]) -> Ran {
    let (policies, ran) = bytes(content, code);
    assert_eq!(rules(&policies), expected, "{}", ran.stderr);
    ran
}

// === shape ===

fn gz(text: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text).unwrap();
    gz.finish().unwrap()
}

/// The same flows as everybody writes them; name and bytes.
fn shapes(lines: &[Line]) -> Vec<(&'static str, Vec<u8>)> {
    let each = |shape: &dyn Fn(&Value) -> String| lines.iter().map(|l| shape(&l.0)).collect::<String>();
    let pretty = |v: &Value| serde_json::to_string_pretty(v).unwrap();
    let array = Value::Array(lines.iter().map(|l| l.0.clone()).collect());
    let flat: Vec<Value> = lines.iter().map(|l| l.0["flow"].clone()).collect();
    let plain = each(&|v| format!("{v}\n"));
    let cri = each(&|v| {
        let text = v.to_string();
        let (head, tail) = text.split_at(text.len() / 3);
        format!("2026-09-15T16:20:01.1Z stdout P {head}\n2026-09-15T16:20:01.2Z stdout F {tail}\n")
    });
    let texts = vec![
        ("1 a pretty-printed array", pretty(&array)),
        ("1 an array on one line", array.to_string()),
        ("2 pretty-printed, nothing between", each(&pretty)),
        (
            "3 over several lines, not indented",
            each(&|v| pretty(v).replace("\n  ", "\n").replace("  ", "") + "\n"),
        ),
        ("4 flat", flat.iter().map(|v| format!("{v}\n")).collect()),
        ("5 wrapped", json!({"schema": "policypilot/v1", "flows": flat}).to_string()),
        ("5 wrapped, pretty", pretty(&json!({"schema": 1, "flows": flat, "total": 2}))),
        (
            "6 extra keys",
            each(&|v| {
                let mut v = v.clone();
                for key in ["cluster_name", "component_name", "tenant_id", "secret_key"] {
                    v[key] = json!("x");
                }
                format!("{v}\n")
            }),
        ),
        ("7 CRI", each(&|v| format!("2026-09-15T16:20:01.123456789Z stdout F {v}\n"))),
        ("7 CRI, cut in parts", cri),
        ("7 grep", each(&|v| format!("hubble-flows.json:{v}\n"))),
        ("7 blanks and a tab", each(&|v| format!("\n\t {v}\n"))),
        (
            "7 a listing around it",
            format!("-rw-r--r--. 1 root root 9 Mar 26 02:35 /x\n\n{plain}... (생략)\n"),
        ),
        ("8 fluent-bit", each(&|v| format!("{}\n", json!({"log": v.to_string()})))),
        (
            "8 docker",
            each(&|v| format!("{}\n", json!({"log": format!("{v}\n"), "stream": "stdout", "time": "t"}))),
        ),
        ("10 an array made by hand", format!("[\n{}\n]\n", plain.trim_end().replace('\n', ",\n"))),
        ("concatenated", each(&ToString::to_string)),
        ("CRLF", plain.replace('\n', "\r\n")),
        ("byte order marks", format!("\u{feff}{plain}\u{feff}{plain}")),
    ];
    let mut all: Vec<_> = texts.into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
    let halves = plain.split_at(plain.find('\n').unwrap() + 1);
    all.push(("gzip members", [gz(halves.0.as_bytes()), gz(halves.1.as_bytes())].concat()));
    all.push((
        "zstd frames",
        [halves.0, halves.1].map(|t| zstd::encode_all(t.as_bytes(), 1).unwrap()).concat(),
    ));
    all.push(("a gzipped pretty-printed array", gz(pretty(&array).as_bytes())));
    all
}

#[test]
fn every_shape_gives_the_same_policies() {
    let dir = tempfile::tempdir().unwrap();
    let lines = [denied(), denied().port(81), denied().ingress().from(identity(8, &["reserved:ingress"]))];
    write(&dir.path().join("plain"), capture(&lines));
    run(dir.path(), &["replay", "plain", "-o", "expected"]).code(0);
    let expected = tree(&dir.path().join("expected"));
    assert_eq!(rules(&expected).len(), 3);
    for (name, content) in shapes(&lines) {
        let file = dir.path().join("c");
        write(&file, content);
        for threads in ["1", "2", "8"] {
            let out = format!("{name}-{threads}");
            run(dir.path(), &["replay", "c", "--threads", threads, "-o", &out]).code(0);
            assert_eq!(tree(&dir.path().join(out)), expected, "{name}, {threads} threads");
        }
    }
}

#[test]
fn rotated_files_in_one_call() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("events.log"), capture(&[denied()]));
    write(&dir.path().join("events-2026-09-15T16-20-01.000.log"), capture(&[denied().port(81)]));
    write(
        &dir.path().join("events-2026-09-15T15-20-01.000.log.gz"),
        gz(capture(&[denied().port(82)]).as_bytes()),
    );
    let files = ["events.log", "events-2026-09-15T16-20-01.000.log", "events-2026-09-15T15-20-01.000.log.gz"];
    run(dir.path(), &[&["replay"], &files[..]].concat()).code(0);
    assert_eq!(rules(&tree(&dir.path().join("policies"))).len(), 3);
}

#[test]
fn a_cut_line_is_told_and_the_others_are_read() {
    let lines = capture(&[denied()]);
    gives(format!("{}\n{lines}", &lines[..300]), 2, &[RULE])
        .says("1 line could not be read (broken JSON)")
        .says("line 1:");
    gives(format!("{lines}{}", &lines[..300]), 0, &[RULE]).says("partial_last_line");
    let zstd = zstd::encode_all(lines.repeat(50).as_bytes(), 1).unwrap();
    let ran = bytes(&zstd[..zstd.len() - 9], 2).1;
    ran.says("truncated: c: the compressed file ends in the middle");
}

#[test]
fn what_was_left_out_by_hand_is_one_finding_with_its_line() {
    let elided = "{\n  \"flow\": {\n    \"verdict\": \"DROPPED\",\n    \"source\": {\n      \"labels\": [...],\n      ...\n    }\n  }\n}\n";
    let ran = gives(format!("{}{elided}", capture(&[denied()])), 2, &[RULE]);
    ran.says("1 line could not be read (broken JSON), the first is line 2")
        .says("\"...\" stands where something was left out")
        .says("in line 6");
}

#[test]
fn utf_16_is_refused_with_a_remedy() {
    let text: Vec<u8> = capture(&[denied()]).encode_utf16().flat_map(u16::to_le_bytes).collect();
    gives([&[0xff, 0xfe], &*text].concat(), 2, &[]).says("UTF-16").says("iconv -f UTF-16 -t UTF-8");
    gives(text, 2, &[]).says("UTF-16");
}

#[test]
fn events_that_are_no_flow() {
    let others = "{\"lost_events\":{\"source\":\"HUBBLE_RING_BUFFER\",\"num_events_lost\":\"3\",\"cpu\":1,\"first\":\"x\",\"last\":\"y\"},\"node_name\":\"n\",\"time\":\"2025-09-28T08:25:44Z\"}
{\"node_status\":{\"state_change\":\"NODE_CONNECTED\",\"node_names\":[\"a\"]},\"node_name\":\"n\"}
{\"debug_event\":{\"type\":\"DBG_X\",\"hash\":4711,\"arg1\":1,\"arg2\":2,\"arg3\":3},\"node_name\":\"n\"}
{\"agent_event\":{\"type\":\"AGENT_STARTED\"},\"node_name\":\"n\"}
";
    let ran = gives(format!("{others}{}", capture(&[denied()])), 0, &[RULE]);
    ran.says("lost by Hubble: 3 events (HUBBLE_RING_BUFFER)").says("other items");
}

// === types ===

#[test]
fn numbers_as_text_and_enums_as_numbers() {
    let line = denied()
        .set("/verdict", json!(2))
        .set("/drop_reason_desc", json!(133))
        .set("/traffic_direction", json!("2"))
        .set("/source/ID", json!("3726"))
        .set("/source/identity", json!("9578"))
        .set("/l4/TCP/destination_port", json!("80"))
        .set("/event_type/type", json!("5"));
    gives(capture(&[line]), 0, &[RULE]);
}

#[test]
fn camel_case_and_lower_case() {
    let text = capture(&[denied()])
        .replace("drop_reason_desc", "dropReasonDesc")
        .replace("drop_reason", "dropReason")
        .replace("node_name", "nodeName")
        .replace("event_type", "eventType")
        .replace("traffic_direction", "trafficDirection")
        .replace("source_port", "sourcePort")
        .replace("destination_port", "destinationPort")
        .replace("pod_name", "podName")
        .replace("\"IP\"", "\"ip\"");
    gives(text, 0, &[RULE]);
}

#[test]
fn fields_that_nobody_knows_yet() {
    let line = denied()
        .set("/ip_trace_id", json!({"trace_id": "1", "ip_option_type": 136}))
        .set("/emitter", json!({"name": "Hubble", "version": "1.20.1"}))
        .set("/file", json!({"name": "bpf_lxc.c", "line": 1361}))
        .set("/tunnel", json!({"protocol": "VXLAN", "IP": {}, "l4": {}}))
        .set("/node_labels", json!(["a=b", "node-role.kubernetes.io/control-plane="]))
        .set("/policy_log", json!([""]))
        .set("/source_node_labels", json!({}))
        .set("/IP/encrypted", json!(true))
        .set("/brand_new", json!([1, {"verdict": "FORWARDED"}]))
        .set("/extensions", json!({"@type": "type.googleapis.com/x.Y"}));
    gives(capture(&[line]), 0, &[RULE]);
}

#[test]
fn l7_of_every_kind_is_no_trouble() {
    let l7 = |l7: Value| {
        denied()
            .set("/event_type", json!({"type": 129}))
            .set("/drop_reason", Value::Null)
            .set("/drop_reason_desc", Value::Null)
            .set("/Type", json!("L7"))
            .set("/l7", l7)
    };
    let ran = gives(
        capture(&[
            denied(),
            l7(json!({"dns": {"query": "x.", "ttl": 4_294_967_295u32, "rcode": 3}})),
            l7(json!({"dns": {"query": "x.", "rcode": "NOERROR", "qtypes": ["A"]}})),
            l7(json!({"kafka": {"api_key": "fetch", "topic": "\u{1b}[31m\r"}, "latency_ns": "10246020"})),
            l7(
                json!({"http": {"url": "http: //u:HUBBLE_REDACTED@x:80/a?b=c", "headers": [{"key": ":scheme"}]}}),
            ),
            l7(json!({"http": {"Url": 7}})),
        ]),
        0,
        &[RULE],
    );
    assert!(!ran.stderr.contains('\u{1b}'));
    ran.says("l7_denied");
}

#[test]
fn a_record_of_the_proxy_is_known_without_its_event_type() {
    // A mask left event_type out; the proxy's refusal must not pass for a drop of the datapath.
    let line = denied()
        .set("/event_type", Value::Null)
        .set("/drop_reason", Value::Null)
        .set("/drop_reason_desc", Value::Null);
    for kind in [json!("L7"), json!(2)] {
        check_skipped(&[line.clone().set("/Type", kind)], "l7_denied");
    }
    let (_, ran) = replayed(&[line]);
    assert!(!ran.stderr.contains("l7_denied"), "{}", ran.stderr);
}

#[test]
fn hidden_values_reach_no_rule() {
    let hidden = pod("shop", "api", &["k8s:app=HUBBLE_REDACTED", "k8s:name=api"]);
    let (policies, ran) = replayed(&[denied().to(hidden.clone()), denied().from(hidden), denied().port(81)]);
    assert_eq!(rules(&policies), ["shop/app=web egress to app=api TCP/81"]);
    assert!(policies.values().all(|text| !text.contains("REDACTED")), "{policies:?}");
    ran.says("nil_destination").says("nil_source");
}

// === missing fields ===

#[test]
fn masked_exports() {
    // As the exporter writes with a narrow fieldMask: no event_type, Type, uuid, is_reply, cluster.
    let masked = ["/event_type", "/Type", "/uuid", "/Summary", "/drop_reason"];
    let line = masked.iter().fold(denied(), |line, path| line.set(path, Value::Null));
    check_rules(std::slice::from_ref(&line), &[RULE]);
    check_skipped(&[line.clone().set("/traffic_direction", Value::Null)], "no_direction");
    check_skipped(&[line.set("/l4/TCP/flags", Value::Null)], "flags_unknown");
}

#[test]
fn endpoints_that_name_nobody() {
    let router = denied()
        .from(json!({}))
        .to(json!({}))
        .set("/drop_reason", Value::Null)
        .set("/drop_reason_desc", json!("INVALID_SOURCE_IP"))
        .l4(json!({"ICMPv6": {"type": 133}}));
    let (policies, ran) = replayed(&[router]);
    assert!(policies.is_empty());
    ran.says("INVALID_SOURCE_IP");
    // Named, but without labels: nothing to select it by.
    let bare = json!({"namespace": "default", "pod_name": "xwing"});
    check_skipped(&[denied().from(bare.clone())], "no_usable_label");
    check_skipped(&[denied().to(bare)], "no_usable_label");
    // A remote pod: no ID, no workloads, and a rule all the same.
    let mut remote = pod("shop", "api", &["k8s:app=api"]);
    remote.as_object_mut().unwrap().remove("ID");
    check_rules(&[denied().to(remote)], &[RULE]);
}

#[test]
fn audit_l7_and_explicit_deny_make_no_rule() {
    let audit = denied()
        .set("/verdict", json!("AUDIT"))
        .set("/drop_reason", Value::Null)
        .set("/drop_reason_desc", Value::Null);
    let (policies, ran) = replayed(&[audit]);
    assert!(policies.is_empty());
    ran.says("not dropped");
    let deny = denied().set("/drop_reason", json!(181)).set("/drop_reason_desc", json!("POLICY_DENY")).set(
        "/egress_denied_by",
        json!([{"name": "d", "namespace": "shop", "kind": "CiliumNetworkPolicy", "revision": "6"}]),
    );
    let (policies, ran) = replayed(&[deny]);
    assert!(policies.is_empty());
    ran.says("POLICY_DENY ");
    // Since 1.20 a default-deny drop may name policies, too.
    check_rules(
        &[denied().set("/egress_denied_by", json!([])).set("/ingress_allowed_by", json!([{"name": "x"}]))],
        &[RULE],
    );
}

#[test]
fn replies_of_2021() {
    check_skipped(&[denied().set("/reply", json!(true))], "reply");
    // false was never written for "no": it is unknown.
    check_rules(&[denied().set("/reply", json!(false))], &[RULE]);
    check_rules(&[denied().set("/reply", json!(true)).set("/is_reply", json!(false))], &[RULE]);
}

// === aggregated exports ===

#[test]
fn an_aggregated_flow_counts_as_many_as_it_says() {
    let of = |ingress: u32, egress: u32, unknown: u32| json!({"ingress_flow_count": ingress, "egress_flow_count": egress, "unknown_direction_flow_count": unknown});
    let (policies, ran) = replayed(&[denied().set("/aggregate", of(0, 41, 0)), denied()]);
    assert_eq!(rules(&policies), [RULE]);
    ran.says("42 flows").says("42 of them dropped for want of a rule");
    // The tally counts packets as told; connections cannot be told apart.
    let (_, ran) = replayed_with(&[denied().set("/aggregate", of(0, 41, 0)), denied()], &["--debug"]);
    ran.says("packets=42").says("connections=1 ");
    // A mask left the direction out: the counts say it, each direction for itself.
    let masked = denied().set("/traffic_direction", Value::Null);
    check_rules(&[masked.clone().set("/aggregate", of(0, 5, 0))], &[RULE]);
    let (policies, ran) = replayed(&[masked.clone().set("/aggregate", of(2, 3, 4))]);
    assert_eq!(rules(&policies), ["shop/app=api ingress from app=web TCP/80", RULE]);
    ran.says("9 flows").says("5 of them dropped for want of a rule").says("no_direction");
    // Not counted at all is one.
    let (_, ran) = replayed(&[denied().set("/aggregate", json!({}))]);
    ran.says("1 flow ");
    let hostile = json!({"egressFlowCount": -1, "ingress_flow_count": "18446744073709551615"});
    let (_, ran) = replayed(&[denied().set("/aggregate", hostile)]);
    ran.says("1 flow ");
}
