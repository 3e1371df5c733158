//! Rules from what was not dropped: policy audit mode, learning from traffic that passes; and captures that
//! hold it all.

use std::path::Path;

use cpg::demo::{DemoRelay, Step};
use serde_json::{Value, json};

use crate::disk::in_namespace;
use crate::live::{Running, sends, serving, until};
use crate::support::{
    Line, Ran, capture, cpg, denied, golden, identity, pod, replayed_with, rules, run, skipped, tree, write,
};
use crate::testbed::{MISSING, Testbed, program};

/// The packet of `line` passed, as a trace at this observation point tells it.
fn traced(line: Line, point: i32) -> Line {
    line.set("/verdict", json!("FORWARDED"))
        .set("/drop_reason", Value::Null)
        .set("/drop_reason_desc", Value::Null)
        .set("/event_type", json!({"type": 4, "sub_type": point}))
        .set("/is_reply", json!(false))
}

/// The packet of `line` has this verdict that a policy gave.
fn decided(line: Line, verdict: &str) -> Line {
    traced(line, 0).set("/verdict", json!(verdict)).set("/event_type", json!({"type": 5}))
}

fn syn_ack(line: Line) -> Line {
    line.set("/l4/TCP/flags", json!({"SYN": true, "ACK": true}))
}

fn connection(port: u16) -> Line {
    denied().set("/l4/TCP/source_port", json!(port))
}

fn check(lines: &[Line], args: &[&str], expected: &[&str]) -> Ran {
    let (policies, ran) = replayed_with(lines, args);
    assert_eq!(rules(&policies), expected, "{}", ran.stderr);
    ran
}

/// Both ends of the connection that `denied()` tells of.
fn both_ends() -> Vec<String> {
    let (policies, _) = replayed_with(&[traced(denied(), 0)], &["--learn"]);
    rules(&policies)
}

#[test]
fn both_ends_need_what_passes_whatever_direction_the_trace_tells() {
    let both = both_ends();
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both.iter().any(|r| r.contains(" ingress from ")), "{both:?}");
    for direction in [json!("EGRESS"), json!("INGRESS"), Value::Null] {
        let (policies, _) =
            replayed_with(&[traced(denied(), 0).set("/traffic_direction", direction)], &["--learn"]);
        assert_eq!(rules(&policies), both);
    }
    check(&[traced(denied(), 0)], &[], &[]);
    let one = replayed_with(&[traced(denied(), 0)], &["--learn", "-n", "shop"]).0;
    assert!(one.keys().all(|path| path.starts_with("shop")), "{one:?}");
}

#[test]
fn golden_policies() {
    let outside =
        |line: Line| line.to(identity(2, &["reserved:world"])).addresses("10.0.0.1", "192.0.2.7").port(443);
    let udp = json!({"UDP": {"source_port": 40000, "destination_port": 53}});
    let dns = pod("kube-system", "coredns-1", &["k8s:k8s-app=kube-dns"]);
    let probe = denied().from(identity(1, &["reserved:host"])).port(8081);
    let lines = [
        traced(denied(), 0),
        decided(connection(41_000).port(8443), "FORWARDED"),
        traced(denied().to(dns).l4(udp), 0),
        traced(outside(denied()), 3),
        traced(probe, 0),
        traced(syn_ack(denied().port(9)), 0),
        denied().ingress().port(9090),
    ];
    golden("learn", &lines, &["--learn"]);
    let audit = |line: Line| decided(line, "AUDIT");
    let lines = [
        audit(denied()),
        audit(denied().ingress()),
        audit(outside(connection(42_000))),
        traced(denied().port(9), 0),
    ];
    golden("audit", &lines, &["--include-audit"]);
}

/// A generator that only reads FORWARDED never learns what is denied.
#[test]
fn drops_count_in_a_learn_run_too() {
    let world =
        |line: Line| line.to(identity(2, &["reserved:world"])).addresses("10.0.0.1", "192.0.2.7").port(443);
    let lines = [world(denied()), traced(world(denied()).port(80), 3)];
    check(
        &lines,
        &["--learn"],
        &["shop/app=web egress to 192.0.2.7/32 TCP/443", "shop/app=web egress to 192.0.2.7/32 TCP/80"],
    );
}

/// One connection makes several traces, on two nodes, and verdicts where something enforces.
#[test]
fn what_is_told_several_times_counts_once() {
    let both = both_ends();
    let trace = |point| traced(connection(40000), point);
    let lines = [
        trace(3),
        trace(0).set("/node_name", json!("n2")),
        decided(connection(40000), "FORWARDED"),
        syn_ack(trace(0)),
        traced(connection(40001), 0),
    ];
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&lines));
    let ran = run(dir.path(), &["replay", "--learn", "c.jsonl"]).code(0);
    assert_eq!(rules(&tree(&dir.path().join("policies"))), both, "{}", ran.stderr);
    ran.says("5 flows").says("4 of them in want of a rule").says("2 needs");
    let said = run(dir.path(), &["explain", "shop/web", "--json"]).code(0).stdout;
    let said: Value = serde_json::from_str(&said).unwrap();
    let text = said.to_string();
    assert!(text.contains("\"connections\":2") && text.contains("\"traces\":3"), "{said:#}");
    assert!(text.contains("\"allowed_events\":1") && text.contains("\"drop_events\":0"), "{said:#}");
    run(dir.path(), &["explain", "shop/web"]).code(0);
}

#[test]
fn replies_and_arrivals_are_no_needs() {
    let udp = |from: u16, to: u16| json!({"UDP": {"source_port": from, "destination_port": to}});
    let lines = [
        syn_ack(traced(denied(), 0)),
        traced(denied(), 0).set("/is_reply", json!(true)),
        traced(denied(), 5).set("/is_reply", Value::Null),
        traced(denied().l4(udp(53, 40000)), 4).set("/is_reply", Value::Null),
    ];
    let ran = check(&lines, &["--learn"], &[]);
    ran.says("no flow asked for a rule").says("not dropped");
}

/// A rule for the other end too would put it into default deny that nobody asked for: with -n only this
/// namespace's ends count, and a verdict speaks for one end.
#[test]
fn verdicts_speak_for_one_end() {
    let both = both_ends();
    let egress: Vec<&str> =
        both.iter().map(String::as_str).filter(|rule| rule.contains(" egress to ")).collect();
    for verdict in ["FORWARDED", "REDIRECTED"] {
        check(&[decided(denied(), verdict)], &["--learn"], &egress);
        check(&[decided(denied(), verdict)], &["--include-audit"], &[]);
    }
    check(&[decided(denied(), "AUDIT")], &["--include-audit"], &egress);
    check(&[decided(denied(), "AUDIT")], &["--learn"], &[]);
    let both_audited = [decided(denied(), "AUDIT"), decided(denied(), "AUDIT").ingress()];
    let all: Vec<&str> = both.iter().map(String::as_str).collect();
    check(&both_audited, &["--include-audit"], &all);
}

#[test]
fn audit_of_a_deny_rule_becomes_no_rule_and_is_told() {
    let by = json!([{"name": "no", "namespace": "shop", "kind": "CiliumNetworkPolicy"}]);
    let line = decided(denied(), "AUDIT").set("/egress_denied_by", by);
    check(std::slice::from_ref(&line), &["--include-audit"], &[]).says("audit_denied");
    // Without audit mode it would not reach its other end, in whatever order the two are told.
    let other = decided(denied(), "AUDIT").ingress();
    check(&[line.clone(), other.clone()], &["--include-audit"], &[]);
    check(&[other.clone(), line], &["--include-audit", "-n", "shop"], &[]);
    assert_eq!(rules(&replayed_with(&[other], &["--include-audit"]).0).len(), 1);
}

#[test]
fn it_says_whether_new_needs_were_still_arriving() {
    let at = |port: u16, minute: u32| {
        let time = json!(format!("2026-03-01T10:{minute:02}:00Z"));
        traced(connection(40000 + port).port(port), 0).set("/time", time)
    };
    let quiet = [at(80, 0), at(81, 2), at(80, 10)];
    let (_, ran) = replayed_with(&quiet, &["--learn"]);
    ran.says("4 needs in 10m").says("nothing new in the last 80% of the time");
    let (_, ran) = replayed_with(&[at(80, 0), at(80, 9), at(81, 10)], &["--learn"]);
    ran.says("new ones were still arriving: 2 in the last quarter")
        .says("blocked once the policies are applied");
    let (_, ran) = replayed_with(&quiet, &["--learn", "--json"]);
    ran.says("\"percent_without_new\":80").says("\"new_in_last_quarter\":0");
}

#[test]
fn the_first_rule_of_a_direction_is_a_warning_in_a_learn_run_too() {
    let (_, ran) = replayed_with(&[traced(denied(), 0)], &["--learn"]);
    ran.says("enters default deny when they are applied");
}

#[test]
fn the_same_in_any_order_and_twice() {
    let lines: Vec<Line> = (0..60u16)
        .flat_map(|i| {
            let line = connection(33000 + i).port(1 + i % 7);
            [
                traced(line.clone(), 3),
                decided(line.clone(), "FORWARDED"),
                syn_ack(traced(line.clone(), 0)),
                line,
            ]
        })
        .collect();
    let mut back = lines.clone();
    back.reverse();
    let (forth, _) = replayed_with(&lines, &["--learn", "--threads", "1"]);
    let (back, _) = replayed_with(&back, &["--learn", "--threads", "4"]);
    assert_eq!(forth, back);
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&lines));
    for _ in 0..2 {
        run(dir.path(), &["replay", "--learn", "c.jsonl"]).code(0);
        assert_eq!(tree(&dir.path().join("policies")), forth);
    }
}

// Capture.

/// Everything that a mode can use: drops, traces, verdicts, requests with secrets in them.
fn everything() -> Vec<Line> {
    let mut lines: Vec<Line> = (0..40u16)
        .flat_map(|i| {
            let line = connection(33000 + i).port(1 + i % 7);
            [
                line.clone(),
                line.drop_event(),
                traced(connection(34000 + i).port(90), 0),
                decided(connection(35000 + i).port(91), "AUDIT"),
            ]
        })
        .collect();
    let request = traced(connection(36000), 0)
        .set("/event_type", json!({"type": 129}))
        .set("/Type", json!("L7"))
        .set(
            "/l7",
            json!({"type": "REQUEST", "http": {"method": "GET", "protocol": "HTTP/1.1",
             "url": "http://bob:s3cret@api/v1?token=s3cret",
             "headers": [{"key": "Authorization", "value": "s3cret"}]}}),
        )
        .set("/Summary", json!("HTTP/1.1 GET http://api/v1?token=s3cret"));
    lines.push(request);
    lines.iter_mut().enumerate().map(|(i, line)| line.clone().set("/uuid", json!(format!("u{i}")))).collect()
}

fn capturing(dir: &Path, server: &str, args: &[&str]) -> Running {
    Running::new(cpg(dir).args([&["capture", "--server", server, "--no-preflight"], args].concat()))
}

fn text_of(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    let mut text = String::new();
    match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => {
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*bytes), &mut text).unwrap();
        }
        Some("zst") => text = String::from_utf8(zstd::decode_all(&*bytes).unwrap()).unwrap(),
        _ => text = String::from_utf8(bytes).unwrap(),
    }
    text
}

#[test]
fn a_capture_over_the_real_relay_gives_the_same_bytes_as_the_live_run() {
    let Some(program) = program() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-nodes", "2"]);
    let relay = testbed.named("/relay");
    let lines = everything();
    let flows = lines.len().to_string();
    let dir = tempfile::tempdir().unwrap();
    let modes: [(&str, &[&str]); 4] = [
        ("drops", &[]),
        ("audit", &["--include-audit"]),
        ("learn", &["--learn"]),
        ("both", &["--learn", "--include-audit"]),
    ];
    let live: Vec<Running> = modes
        .iter()
        .map(|(name, args)| {
            let out = format!("live-{name}");
            let common = ["generate", "--server", &relay, "--flush-interval", "200ms", "-o", &out];
            Running::new(cpg(dir.path()).args([&common, *args].concat()))
        })
        .collect();
    let captures = ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]
        .map(|name| (name, capturing(dir.path(), &relay, &["-o", name, "--max-flows", &flows])));
    testbed.call("GET", "/following?n=7&timeout=30", "");
    let text = capture(&lines);
    let all: Vec<&str> = text.lines().collect();
    for (node, part) in (1..=2).zip(all.chunks(all.len().div_ceil(2))) {
        testbed.call("POST", &format!("/node/node-{node}/inject?now=1"), &part.join("\n"));
    }
    for (name, running) in captures {
        running.end().code(0).says(&format!("{flows} flows captured")).says(name);
        let text = text_of(&dir.path().join(name));
        assert!(!text.contains("s3cret") && text.contains("http://api/v1\""), "{text}");
        assert!(text.contains("\"node_status\"") && text.contains("\"node_name\":"), "{text}");
    }
    for ((mode, args), running) in modes.iter().zip(live) {
        let replayed = dir.path().join(format!("replayed-{mode}"));
        for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
            let out = replayed.to_str().unwrap();
            run(dir.path(), &[&["replay", name, "-o", out], *args].concat()).code(0);
        }
        assert!(!tree(&replayed).is_empty());
        let live = dir.path().join(format!("live-{mode}"));
        until("the live run has written the same", || tree(&live) == tree(&replayed));
        running.signal("-TERM");
        running.end().code(0);
        assert_eq!(tree(&live), tree(&replayed), "{mode}");
    }
}

#[test]
fn raw_verdicts_of_the_datapath_are_learned_from() {
    let Some(program) = program() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-nodes", "1"]);
    let endpoint = |id: u32, ip: &str, app: &str| {
        json!({"id": id, "identity": 1000 + id, "ip": ip, "namespace": "shop", "pod": format!("{app}-1"),
               "labels": [format!("k8s:app={app}"), "k8s:io.kubernetes.pod.namespace=shop"]})
    };
    let endpoints = json!([endpoint(11, "10.0.0.1", "web"), endpoint(12, "10.0.0.2", "api")]);
    testbed.call("POST", "/endpoints", &endpoints.to_string());
    let dir = tempfile::tempdir().unwrap();
    let relay = testbed.named("/relay");
    let running = Running::new(cpg(dir.path()).args([
        "generate",
        "--server",
        &relay,
        "--flush-interval",
        "200ms",
        "--learn",
        "--include-audit",
    ]));
    testbed.call("GET", "/following?n=1&timeout=20", "");
    for (port, action, direction) in [
        (80, "allow", "egress"),
        (81, "redirect", "egress"),
        (82, "audit", "ingress"),
        (83, "deny", "ingress"),
    ] {
        let packet = json!({"kind": "verdict", "action": action, "direction": direction, "src": "10.0.0.1",
                            "dst": "10.0.0.2", "sport": 40000, "dport": port, "proxy_port": 9000});
        testbed.call("POST", "/node/node-1/packet", &packet.to_string());
    }
    let expected = [
        "shop/app=api ingress from app=web TCP/82",
        "shop/app=api ingress from app=web TCP/83",
        "shop/app=web egress to app=api TCP/80",
        "shop/app=web egress to app=api TCP/81",
    ];
    let written = || rules(&tree(&dir.path().join("policies")));
    until("every need is in a file", || written().len() >= expected.len());
    running.signal("-TERM");
    let ran = running.end().code(0).says("learned from traffic that passed: 4 needs");
    assert_eq!(written(), expected, "{}", ran.stderr);
}

#[test]
fn a_capture_on_a_full_disk_keeps_nothing_and_says_so() {
    let server = serving(DemoRelay::new([sends(&everything()).then(Step::Hang)]));
    let script = format!(
        "mount -t tmpfs -o size=16k,mode=755 none out
        set +e; $CPG capture --server {} --duration 3s --no-preflight -o out/a.jsonl; code=$?; set -e
        echo \"left $(ls -A out | wc -l)\"
        exit $code",
        server.address
    );
    let Some(ran) = in_namespace(&[], &script) else { return };
    let ran = ran.code(2).says("No space left on device").says("a.jsonl");
    assert_eq!(ran.stdout.trim(), "left 0", "{}", ran.stderr);
}

#[test]
fn a_signal_completes_the_capture() {
    let server = serving(DemoRelay::new([sends(&everything()).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let running = capturing(dir.path(), &server.address, &["-o", "a.jsonl.gz"]);
    running.says("connected; capturing");
    until("the flows are read", || server.relay.flows_sent() >= everything().len() as u64);
    assert!(!dir.path().join("a.jsonl.gz").exists());
    running.signal("-TERM");
    running.end().code(0).says("captured");
    assert!(text_of(&dir.path().join("a.jsonl.gz")).ends_with("}\n"));
}

#[test]
fn a_file_that_is_there_is_left_alone_unless_force_is_given() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.jsonl"), "theirs");
    let ran = run(dir.path(), &["capture", "--server", "127.0.0.1:1", "-o", "a.jsonl"]).code(2);
    ran.says("a file is there already").says("--force");
    let ran = run(dir.path(), &["capture", "--server", "127.0.0.1:1", "-o", "a.jsonl", "--force"]).code(2);
    assert!(!ran.stderr.contains("--force"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(dir.path().join("a.jsonl")).unwrap(), "theirs");
    assert_eq!(tree(dir.path()).len(), 1, "nothing half is left");
    run(dir.path(), &["capture", "--server", "127.0.0.1:1", "-o", "a.txt"]).code(2).says(".jsonl.zst");
}
