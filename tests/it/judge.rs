//! The policies of the generated capture judged by Cilium's own engine: every need is allowed, and
//! nothing that no need asks for, also between strangers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::captures::{generated, whole};
use crate::support::skipped;
use crate::testbed::{MISSING, program};

const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const CLUSTER: &str = "io.cilium.k8s.policy.cluster";

/// An identity of the capture.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    /// As Hubble prints them.
    labels: Vec<String>,
}

impl Id {
    fn value(&self, key: &str) -> Option<&str> {
        self.labels.iter().find_map(|label| {
            let (name, value) = label.split_once('=').unwrap_or((label, ""));
            (name.strip_prefix("k8s:")? == key).then_some(value)
        })
    }

    fn is_pod_of(&self, cluster: &str) -> bool {
        self.value(NAMESPACE).is_some() && self.value(CLUSTER) == Some(cluster)
    }

    /// Whether a selector of the truth means it, seen from a policy of this namespace and cluster.
    fn is_meant(&self, selector: &Value, namespace: &str, cluster: &str) -> bool {
        let own = |key: &str, default: &str| -> bool {
            let wanted = selector.get(format!("k8s:{key}")).and_then(Value::as_str).unwrap_or(default);
            self.value(key) == Some(wanted)
        };
        own(NAMESPACE, namespace)
            && own(CLUSTER, cluster)
            && selector
                .as_object()
                .unwrap()
                .iter()
                .all(|(key, value)| self.value(key.strip_prefix("k8s:").unwrap_or(key)) == value.as_str())
    }
}

/// What a flow of a question is about.
type Traffic = (String, u16);

fn traffic(need: &Value) -> Traffic {
    match need["port"].get("icmp") {
        Some(icmp) => {
            let name = if icmp["family"] == "IPv4" { "ICMP" } else { "ICMPv6" };
            (name.to_owned(), icmp["type"].as_u64().unwrap() as u16)
        }
        None => {
            let port = &need["port"];
            (port["protocol"].as_str().unwrap().to_owned(), port["port"].as_u64().unwrap() as u16)
        }
    }
}

/// The identities of the capture without labels that change from run to run, and every address and
/// entity of the truth, with strangers of each kind.
fn identities(needs: &[Value]) -> Vec<Id> {
    let unstable = ["job-name", "controller-uid", "pod-template-hash", "version", "chart", "role", "run"];
    let mut ids = BTreeSet::new();
    for line in generated().text.lines().filter(|line| line.contains("\"POLICY_DENIED\"")) {
        let line: Value = serde_json::from_str(line).unwrap();
        for side in ["source", "destination"] {
            let Some(labels) = line["flow"][side]["labels"].as_array() else { continue };
            let labels: Vec<String> = labels
                .iter()
                .filter_map(Value::as_str)
                .filter(|l| !unstable.iter().any(|word| l.split('=').next().unwrap().contains(word)))
                .map(str::to_owned)
                .collect();
            let id = Id { labels };
            if id.value(NAMESPACE).is_some() && id.value(CLUSTER).is_some() {
                ids.insert(id);
            }
        }
    }
    let world = |net: &str| {
        let label = if net.contains(':') {
            let dashes = net.replace(':', "-");
            let padded = if dashes.starts_with('-') { format!("0{dashes}") } else { dashes };
            [format!("cidr:{}", padded.replace("-/", "-0/")), "reserved:world-ipv6".to_owned()]
        } else {
            [format!("cidr:{net}"), "reserved:world-ipv4".to_owned()]
        };
        Id { labels: label.to_vec() }
    };
    ids.extend(needs.iter().filter_map(|need| need["peer"]["cidr"].as_str()).map(world));
    ids.extend(["198.18.0.1/32", "2001:db8:ffff::1/128"].map(world));
    for entity in ["host", "remote-node", "kube-apiserver", "ingress", "health", "init", "unmanaged"] {
        ids.insert(Id { labels: vec![format!("reserved:{entity}")] });
    }
    let stranger = |namespace: &str| Id {
        labels: vec![
            "k8s:app=stranger".to_owned(),
            format!("k8s:{CLUSTER}={}", local_cluster()),
            format!("k8s:{NAMESPACE}={namespace}"),
        ],
    };
    ids.extend(["nowhere", "shop"].map(stranger));
    ids.into_iter().collect()
}

/// The cluster whose policies these are: that of the subjects.
fn local_cluster() -> String {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for line in generated().text.lines().take(2_000) {
        for part in line.split(&format!("k8s:{CLUSTER}=")).skip(1) {
            *seen.entry(part.split('"').next().unwrap().to_owned()).or_default() += 1;
        }
    }
    seen.into_iter().max_by_key(|(_, n)| *n).unwrap().0
}

/// Numbers as an agent would give them.
fn number(id: &Id, place: usize) -> u64 {
    match id.labels.iter().find_map(|l| l.strip_prefix("reserved:")) {
        Some(word) if word.starts_with("world") => (1 << 24) + place as u64,
        Some("host") => 1,
        Some("health") => 4,
        Some("init") => 5,
        Some("remote-node") => 6,
        Some("kube-apiserver") => 7,
        Some("ingress") => 8,
        Some("unmanaged") => 3,
        _ => 1_000 + place as u64,
    }
}

#[test]
fn ciliums_engine_allows_every_need_and_nothing_else() {
    let Some(program) = program() else { return skipped(MISSING) };
    let needs = &generated().needs;
    let cluster = local_cluster();
    let ids = identities(needs);
    let policies: String = whole().values().map(|text| format!("---\n{text}")).collect();
    let mut names = serde_json::Map::new();
    for (place, id) in ids.iter().enumerate() {
        names.insert(format!("i{place}"), json!({"id": number(id, place), "labels": id.labels}));
    }
    // Which needs are about whom, by the labels alone.
    let subjects: Vec<Vec<&Value>> = ids
        .iter()
        .map(|id| {
            let about = |need: &&Value| {
                let namespace = need["namespace"].as_str().unwrap();
                id.is_pod_of(&cluster) && id.is_meant(&need["selector"], namespace, &cluster)
            };
            needs.iter().filter(about).collect()
        })
        .collect();
    let allowed = |subject: usize, peer: usize, direction: &str, what: &Traffic| {
        subjects[subject].iter().filter(|need| need["direction"] == direction && traffic(need) == *what).any(
            |need| {
                let namespace = need["namespace"].as_str().unwrap();
                let wanted = &need["peer"];
                if let Some(labels) = wanted.get("endpoints") {
                    ids[peer].is_meant(labels, namespace, &cluster)
                } else if let Some(entity) = wanted["entity"].as_str() {
                    ids[peer].labels.contains(&format!("reserved:{entity}"))
                } else {
                    let net = wanted["cidr"].as_str().unwrap();
                    let dashes = format!("cidr:{}", net.replace(':', "-"));
                    ids[peer].labels.iter().any(|l| *l == format!("cidr:{net}") || *l == dashes)
                }
            },
        )
    };

    let mut child =
        Command::new(&program).arg("decide").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut flows = Vec::new();
    for from in 0..ids.len() {
        for to in 0..ids.len() {
            // Every need, and one pair in seven of all the others.
            let sampled = (from * 31 + to) % 7 == 0;
            let both = subjects[from].iter().filter(|n| n["direction"] == "egress");
            let both = both.chain(subjects[to].iter().filter(|n| n["direction"] == "ingress"));
            let mut about: BTreeSet<Traffic> = both.map(|need| traffic(need)).collect();
            about.retain(|what| {
                sampled || allowed(from, to, "egress", what) || allowed(to, from, "ingress", what)
            });
            if sampled && (ids[from].is_pod_of(&cluster) || ids[to].is_pod_of(&cluster)) {
                about.insert(("TCP".to_owned(), 9));
            }
            flows.extend(about.into_iter().map(|what| (from, to, what)));
        }
    }
    let question = json!({
        "cluster": cluster,
        "opts": {"ipv4": true, "ipv6": true, "localhost": false},
        "policies": policies,
        "ids": names,
        "flows": flows.iter().map(|(from, to, (protocol, port))| {
            json!({"from": format!("i{from}"), "to": format!("i{to}"), "proto": protocol, "port": port})
        }).collect::<Vec<_>>(),
    });
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || writeln!(input, "{question}").unwrap());
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut met, mut wrong) = (0u64, Vec::new());
    for (from, to, what) in &flows {
        let answer: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert!(answer.get("refused").is_none() && answer.get("error").is_none(), "{answer}");
        for (subject, peer, side) in [(*from, *to, "egress"), (*to, *from, "ingress")] {
            if !ids[subject].is_pod_of(&cluster) {
                continue;
            }
            // A subject without any rule in this direction is not in default deny by these policies.
            let ruled = subjects[subject].iter().any(|need| need["direction"] == side);
            let expected =
                if !ruled || allowed(subject, peer, side, what) { "allow" } else { "default-deny" };
            met += u64::from(ruled && expected == "allow");
            if answer[side] != expected {
                wrong.push(format!(
                    "{:?} {side} {:?} {what:?}: {} and not {expected}",
                    ids[subject], ids[peer], answer[side]
                ));
            }
        }
    }
    writer.join().unwrap();
    child.wait().unwrap();
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), flows.len(), &wrong[..wrong.len().min(5)]);
    assert!(met >= needs.len() as u64, "{met}");
    println!(
        "{} identities, {} flows, {met} allowed, {} needs, beyond 0",
        ids.len(),
        flows.len(),
        needs.len()
    );
}
