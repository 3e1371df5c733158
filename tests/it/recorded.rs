//! Captures of a real agent whose truth is known. They stand outside of the repository; where they are
//! missing these tests say so.

use std::collections::BTreeSet;

use crate::support::{rules, run, shared, skipped, tree};

/// One line of a truth file.
#[derive(Debug)]
struct Play {
    source: String,
    destination: String,
    protocol: String,
    port: String,
    direction: String,
    expected: String,
}

fn truth(text: &str) -> Vec<Play> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let field: Vec<&str> = line.split('\t').collect();
            let field = |i: usize| field.get(i).copied().unwrap_or_default().to_owned();
            Play {
                source: field(2),
                destination: field(3),
                protocol: field(4),
                port: field(5),
                direction: field(6),
                expected: field(7),
            }
        })
        .collect()
}

/// The labels that a rule selects a pod of this capture by, by the pod's name without its hash.
fn selector(pod: &str) -> &'static str {
    let cart = |instance: &str| match instance {
        "eu" => {
            "app.kubernetes.io/component=api,app.kubernetes.io/instance=cart-eu,app.kubernetes.io/name=cart"
        }
        _ => "app.kubernetes.io/component=api,app.kubernetes.io/instance=cart-us,app.kubernetes.io/name=cart",
    };
    match pod.split_once('/').unwrap().1 {
        p if p.starts_with("web-") => {
            "app.kubernetes.io/component=frontend,app.kubernetes.io/instance=shop,app.kubernetes.io/name=web"
        }
        p if p.starts_with("cart-eu-") => cart("eu"),
        p if p.starts_with("cart-us-") => cart("us"),
        p if p.starts_with("redis-") => "app=redis",
        p if p.starts_with("api-") => "app=api",
        p if p.starts_with("ledger-") => "team=payments,tier=backend",
        p if p.starts_with("report-") => "app=report",
        p if p.starts_with("coredns-") => "k8s-app=kube-dns",
        other => panic!("unknown pod {other}"),
    }
}

/// The rules that a play asks for. By address a name of DNS stands for the addresses that the capture's own
/// flows give it (`destination_names`); by name it is itself, and has to be looked up.
fn needed(play: &Play, by_name: bool) -> Vec<String> {
    let namespace = |pod: &str| pod.split_once('/').unwrap().0.to_owned();
    let subject_namespace = namespace(&play.source);
    let subject = format!("{subject_namespace}/{}", selector(&play.source));
    let allow = match play.protocol.as_str() {
        "tcp" => format!("TCP/{}", play.port),
        "udp" => format!("UDP/{}", play.port),
        "icmp" => format!("ICMP IPv4 type {}", play.port),
        "dns-udp" => "UDP/53".to_owned(),
        "dns-tcp" => "TCP/53".to_owned(),
        other => panic!("unknown protocol {other}"),
    };
    if let (true, Some(name)) = (by_name, play.destination.strip_prefix("dns:")) {
        let dns = "k8s-app=kube-dns,k8s:io.kubernetes.pod.namespace=kube-system";
        let mut rules =
            ["TCP", "UDP"].map(|p| format!("{subject} egress to {dns} {p}/53 DNS {name}")).to_vec();
        rules.push(format!("{subject} {} to fqdn:{name} {allow}", play.direction));
        return rules;
    }
    let peers: Vec<String> = match play.destination.as_str() {
        "dns:api.stripe.example" => vec!["198.51.100.10/32".into()],
        "dns:cdn.shop.example" => vec!["198.51.100.11/32".into(), "198.51.100.12/32".into()],
        "dns:db.corp.example" => vec!["198.51.100.13/32".into()],
        "dns:ftp.files.example" => vec!["203.0.113.20/32".into()],
        "dns:hooks.partner.example" => vec!["198.51.100.15/32".into()],
        pod if pod.contains('/') => match namespace(pod) {
            same if same == subject_namespace => vec![selector(pod).to_owned()],
            other => vec![format!("{},k8s:io.kubernetes.pod.namespace={other}", selector(pod))],
        },
        address => vec![format!("{address}/32")],
    };
    peers.into_iter().map(|peer| format!("{subject} {} to {peer} {allow}", play.direction)).collect()
}

#[test]
fn restart_of_an_agent_with_two_nodes() {
    let Some(shared) = shared() else { return skipped("the recorded captures are not here") };
    let recorded = shared.join("recorded");
    let plays = truth(&std::fs::read_to_string(recorded.join("restart-2nodes.truth.tsv")).unwrap());
    for (fqdn, by_name) in [("off", false), ("auto", true)] {
        let expected: BTreeSet<String> =
            plays.iter().filter(|p| p.expected == "rule").flat_map(|play| needed(play, by_name)).collect();
        let dir = tempfile::tempdir().unwrap();
        let file = recorded.join("restart-2nodes.jsonl.gz");
        let ran = run(dir.path(), &["replay", file.to_str().unwrap(), "--fqdn", fqdn]).code(0);
        let written: BTreeSet<String> = rules(&tree(&dir.path().join("policies"))).into_iter().collect();
        let missing: Vec<_> = expected.difference(&written).collect();
        let beyond: Vec<_> = written.difference(&expected).collect();
        assert!(
            missing.is_empty() && beyond.is_empty(),
            "--fqdn {fqdn}: missing {missing:#?}\nbeyond {beyond:#?}\n{}",
            ran.stderr
        );
        println!("--fqdn {fqdn}: {} plays, {} rules, missing 0, beyond 0", plays.len(), written.len());
    }
}

#[test]
fn nothing_dropped_means_nothing_written() {
    let Some(shared) = shared() else { return skipped("the recorded captures are not here") };
    for name in ["forwarded", "audit"] {
        let dir = tempfile::tempdir().unwrap();
        let file = shared.join("recorded").join(format!("{name}.jsonl.gz"));
        run(dir.path(), &["replay", file.to_str().unwrap()]).code(0);
        let written = rules(&tree(&dir.path().join("policies")));
        assert_eq!(written, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn every_capture_that_was_found_is_read_or_refused_with_a_reason() {
    let Some(shared) = shared() else { return skipped("the recorded captures are not here") };
    for entry in std::fs::read_dir(shared.join("flows")).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let ran = run(dir.path(), &["replay", path.to_str().unwrap()]);
        assert!(!ran.stderr.contains("panicked"), "{}: {}", path.display(), ran.stderr);
        assert!(
            ran.code == 0 || ran.stderr.contains("could not be read"),
            "{}: {}",
            path.display(),
            ran.stderr
        );
        for (file, text) in tree(&dir.path().join("policies")) {
            assert!(cpg::policy::Policy::from_canonical(&text).is_some(), "{}", file.display());
        }
    }
}
