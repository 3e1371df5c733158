//! The generator against its own promises.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;

fn made(seed: u64, lines: u64) -> (Vec<u8>, Vec<u8>, Summary) {
    let (mut out, mut truth) = (Vec::new(), Vec::new());
    let summary = generate(seed, lines, &mut out, &mut truth).unwrap();
    (out, truth, summary)
}

/// The lines of a part that contain this text; parsing all of them takes long without optimisation.
fn containing<'a>(part: impl Iterator<Item = &'a str>, text: &str) -> Vec<Value> {
    part.filter(|l| l.contains(text)).map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let a = made(7, 3000);
    assert_eq!(a, made(7, 3000));
    assert_ne!(a.0, made(8, 3000).0);
    assert_eq!(made(7, 0).0, b"");
}

#[test]
fn a_capture_is_what_it_says() {
    let (out, truth, summary) = made(1, 20_000);
    let flows = lines(&out);
    assert_eq!((flows.len(), summary.lines, summary.bytes), (20_000, 20_000, out.len() as u64));
    let dropped = flows.iter().filter(|l| l["flow"]["verdict"] == "DROPPED").count();
    assert_eq!(dropped as u64, summary.dropped);
    assert!((6600..7400).contains(&dropped), "{dropped}");
    let mean = out.len() / flows.len();
    assert!((1300..2000).contains(&mean), "{mean} bytes a line");

    let truth = lines(&truth);
    assert_eq!(truth.len() as u64, summary.needs);
    assert!(truth.len() > 1450, "{} needs", truth.len());
    let sum = |key: &str| truth.iter().map(|t| t[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("connections"), summary.connections);
    assert!(summary.connections >= summary.needs && summary.connections < summary.verdict_events);
    for t in &truth {
        assert!(t["connections"].as_u64().unwrap() > 0 && !t["selector"].as_object().unwrap().is_empty());
    }
}

/// What the truth counts, found again by nothing but addresses, ports and names of pods.
#[test]
fn the_truth_is_in_the_capture() {
    let (out, truth, _) = made(3, 30_000);
    let mut connections: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut verdicts, mut drops) = (0, 0);
    for line in containing(std::str::from_utf8(&out).unwrap().lines(), "POLICY_DENIED") {
        let flow = &line["flow"];
        let (ip, world) = (&flow["IP"], &flow["destination"]);
        if flow["verdict"] != "DROPPED" || flow["drop_reason_desc"] != "POLICY_DENIED" {
            continue;
        }
        let wanted_cidr =
            world["namespace"].is_null() && world["labels"].to_string().contains("reserved:world");
        let group = ["224.", "239.", "255.", "ff02"]
            .iter()
            .any(|g| ip["destination"].as_str().unwrap().starts_with(g));
        let api = world["labels"].to_string().contains("kube-apiserver");
        if flow["traffic_direction"] != "EGRESS" || !wanted_cidr || group || api {
            continue;
        }
        let tcp = &flow["l4"]["TCP"];
        if !tcp.is_null() && (tcp["flags"]["SYN"].is_null() || !tcp["flags"]["ACK"].is_null()) {
            continue;
        }
        if flow["event_type"]["type"] == 5 {
            verdicts += 1
        } else {
            drops += 1
        }
        let address = ip["destination"].as_str().unwrap().to_owned();
        let mut l4 = flow["l4"].clone();
        if !tcp.is_null() {
            l4["TCP"]["flags"] = Value::Null;
        }
        connections.entry(address).or_default().insert(format!("{} {l4}", ip["source"]));
    }
    let truth: Vec<Value> = lines(&truth)
        .into_iter()
        .filter(|t| t["direction"] == "egress" && !t["peer"]["cidr"].is_null())
        .collect();
    let sum = |key: &str| truth.iter().map(|t| t[key].as_u64().unwrap()).sum::<u64>();
    assert!(truth.len() > 100);
    assert_eq!((sum("verdict_events"), sum("drop_events")), (verdicts, drops));
    let found: usize = connections.values().map(BTreeSet::len).sum();
    assert_eq!(sum("connections"), found as u64);
    let cidrs: BTreeSet<&str> =
        truth.iter().map(|t| t["peer"]["cidr"].as_str().unwrap().split('/').next().unwrap()).collect();
    assert_eq!(cidrs, connections.keys().map(String::as_str).collect());
}

#[test]
fn a_need_appears_early_and_late() {
    let (out, ..) = made(5, 90_000);
    let all: Vec<&str> = std::str::from_utf8(&out).unwrap().lines().collect();
    for third in all.chunks(30_000) {
        let hub = containing(third.iter().copied(), r#""destination_port":70"#);
        let ports: BTreeSet<u64> = hub
            .iter()
            .filter(|l| l["flow"]["destination"]["namespace"] == "edge")
            .filter_map(|l| l["flow"]["l4"]["TCP"]["destination_port"].as_u64())
            .collect();
        assert!(ports.range(7000..7060).count() >= 55, "{}", ports.len());
    }
}

#[test]
fn it_contains_what_is_hard() {
    let (out, ..) = made(2, 40_000);
    let text = String::from_utf8(out).unwrap();
    for part in [
        r#""drop_reason":251,"#,
        r#""drop_reason_desc":251"#,
        r#""drop_reason":181"#,
        r#""drop_reason":189"#,
        r#""reserved:unknown""#,
        r#""reserved:ingress""#,
        r#""reserved:health""#,
        r#""cidr:203.0.113.10/32","reserved:kube-apiserver","reserved:world""#,
        r#""source":{},"#,
        r#""labels":["reserved:world"],"pod_name""#,
        r#""k8s:tier"]"#,
        r#""k8s:role=master""#,
        r#""SCTP":{"#,
        r#""IGMP":{"#,
        r#""ICMPv4":{}"#,
        r#""ICMPv6":{"type":128}"#,
        r#""k8s:io.cilium.k8s.policy.cluster=north""#,
        r#""k8s:common:commonselector=all""#,
        r#""num_events_lost":""#,
        r#""SYN":true,"ECE":true,"CWR":true"#,
        "report-29000",
        "fe80::",
        "cidr:2001-db8-",
    ] {
        assert!(text.contains(part), "{part}");
    }
}
