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
        p if p.starts_with("web-canary-") => {
            "app.kubernetes.io/component=frontend,app.kubernetes.io/instance=shop-canary,app.kubernetes.io/name=web"
        }
        p if p.starts_with("prometheus-") => {
            "app.kubernetes.io/component=server,app.kubernetes.io/instance=kps,app.kubernetes.io/name=prometheus"
        }
        p if p.starts_with("odd-") => "build=1e3,empty=,example.com/zone=01,on=yes,region=null",
        p if p.starts_with("node-agent-") => "k8s-app=node-agent",
        p if p.starts_with("tool-") => "team=payments,tier=tools",
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

/// The rules that one end of a play asks for; none where that end is no pod that can be named.
fn needed_by(play: &Play, direction: &str) -> Vec<String> {
    let port = || play.port.split('/').next().unwrap_or_default();
    let allow = match (play.protocol.as_str(), port()) {
        ("tcp" | "dns-tcp", port) => format!("TCP/{port}"),
        ("udp" | "dns-udp", port) => format!("UDP/{port}"),
        ("icmp", "128") => "ICMP IPv6 type 128".to_owned(),
        ("icmp", kind) => format!("ICMP IPv4 type {kind}"),
        other => panic!("unknown protocol {other:?}"),
    };
    let (subject, peer, word) = match direction {
        "egress" => (&play.source, &play.destination, "to"),
        _ => (&play.destination, &play.source, "from"),
    };
    let is_pod = |end: &str| end.contains('/');
    let bare = |end: &str| end.starts_with("pay/bare-");
    if !is_pod(subject) || bare(subject) || bare(peer) {
        return Vec::new();
    }
    let namespace = |pod: &str| pod.split_once('/').unwrap().0.to_owned();
    let addresses: &[&str] = match peer.as_str() {
        "dns:api.stripe.example" => &["198.51.100.10"],
        "dns:cdn.shop.example" => &["198.51.100.11", "198.51.100.12"],
        "dns:db.corp.example" => &["198.51.100.13"],
        "dns:evil.example" => &["198.51.100.14"],
        "dns:ftp.files.example" => &["203.0.113.20"],
        "dns:hooks.partner.example" => &["198.51.100.15"],
        _ => &[],
    };
    let peers: Vec<String> = match peer.as_str() {
        _ if !addresses.is_empty() => addresses.iter().map(|address| format!("{address}/32")).collect(),
        "host" => vec!["host".into()],
        pod if is_pod(pod) && namespace(pod) == namespace(subject) => vec![selector(pod).to_owned()],
        pod if is_pod(pod) => {
            let other = format!("k8s:io.kubernetes.pod.namespace={}", namespace(pod));
            let mut labels: Vec<&str> = selector(pod).split(',').chain([other.as_str()]).collect();
            labels.sort_unstable();
            vec![labels.join(",")]
        }
        address => {
            let address = address.strip_prefix("world:").unwrap_or(address);
            vec![format!("{address}/{}", if address.contains(':') { 128 } else { 32 })]
        }
    };
    let subject = format!("{}/{}", namespace(subject), selector(subject));
    peers.into_iter().map(|peer| format!("{subject} {direction} {word} {peer} {allow}")).collect()
}

/// The lookup in front of a play with a name, which nothing stands between without a policy.
fn lookup(play: &Play) -> Option<Play> {
    play.destination.starts_with("dns:").then(|| Play {
        source: play.source.clone(),
        destination: "kube-system/coredns-668d6bf9bc-5tq8j".into(),
        protocol: "udp".into(),
        port: "53".into(),
        direction: "-".into(),
        expected: "learn".into(),
    })
}

#[track_caller]
fn check_truth(name: &str, flag: &str, expected: &BTreeSet<String>) {
    let recorded = shared().unwrap().join("recorded");
    let dir = tempfile::tempdir().unwrap();
    let file = recorded.join(format!("{name}.jsonl.gz"));
    // The truth tells addresses.
    let ran = run(dir.path(), &["replay", flag, "--fqdn", "off", file.to_str().unwrap()]).code(0);
    let written: BTreeSet<String> = rules(&tree(&dir.path().join("policies"))).into_iter().collect();
    let missing: Vec<_> = expected.difference(&written).collect();
    let beyond: Vec<_> = written.difference(expected).collect();
    assert!(
        missing.is_empty() && beyond.is_empty(),
        "missing {missing:#?}\nbeyond {beyond:#?}\n{}",
        ran.stderr
    );
    println!("{name} {flag}: {} rules, missing 0, beyond 0", written.len());
}

#[test]
fn what_passes_before_any_policy_is_learned_whole() {
    let Some(shared) = shared() else { return skipped("the recorded captures are not here") };
    let text = std::fs::read_to_string(shared.join("recorded/forwarded.truth.tsv")).unwrap();
    let plays = truth(&text);
    let lookups = plays.iter().filter_map(lookup);
    let expected: BTreeSet<String> = plays
        .iter()
        .filter(|play| play.expected == "learn")
        .chain(&lookups.collect::<Vec<_>>())
        .flat_map(|play| [needed_by(play, "egress"), needed_by(play, "ingress")].concat())
        .collect();
    check_truth("forwarded", "--learn", &expected);
}

#[test]
fn what_audit_mode_lets_pass_is_learned_whole() {
    let Some(shared) = shared() else { return skipped("the recorded captures are not here") };
    let text = std::fs::read_to_string(shared.join("recorded/audit.truth.tsv")).unwrap();
    let plays = truth(&text);
    let expected: BTreeSet<String> = plays
        .iter()
        .filter(|play| play.expected == "rule")
        .flat_map(|play| {
            let ends = ["egress", "ingress"].into_iter().filter(|end| play.direction.contains(end));
            ends.flat_map(|end| needed_by(play, end)).collect::<Vec<_>>()
        })
        .collect();
    check_truth("audit", "--include-audit", &expected);
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
