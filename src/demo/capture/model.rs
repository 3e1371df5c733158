//! The cluster behind a capture: namespaces, workloads and their pods, and what is outside.

use std::fmt::Write;

use super::draft::{self, Draft, WORDS};
use super::labels::{self, Pair};
use super::rng::Rng;
use crate::demo::need::json_text;

/// Nodes of the cluster.
pub(super) const NODES: usize = 4;
/// Addresses that the pods of one CronJob take in turn.
const JOB_SLOTS: usize = 64;
/// Stands in a job's text where the number of its run goes: eight digits.
const RUN_ZERO: u32 = 29_000_000;
/// Clusters: the capture's own, and two that it is meshed with.
pub(super) const CLUSTERS: [&str; 3] = ["prod", "west", "north"];

/// Everything that can send or receive.
pub(super) struct Model {
    pub(super) workloads: Vec<Workload>,
    pub(super) outside: Vec<Outside>,
}

/// Pods that one policy is for.
pub(super) struct Workload {
    pub(super) namespace: &'static str,
    /// Index into [`CLUSTERS`].
    pub(super) cluster: usize,
    /// What selects it; empty when nothing does.
    pub(super) selector: Vec<Pair>,
    pub(super) account: String,
    pub(super) kind: Kind,
    pub(super) pods: Vec<Pod>,
}

/// What is special about a workload's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Plain,
    /// One pod at a time carries `role=master`, and this moves.
    Roles,
    /// Pods come and go: each run has a name of its own.
    Job,
}

/// A pod, or an address that a job's pods take in turn.
pub(super) struct Pod {
    /// Index of its node; nothing is local in another cluster.
    pub(super) node: usize,
    pub(super) v4: String,
    pub(super) v6: String,
    /// Its endpoint as JSON: [remote, local], and with the other role.
    json: [Vec<u8>; 4],
    /// Where the eight digits of a run stand in each of these.
    runs: [Vec<usize>; 4],
    /// Its labels without namespace and name, for drops whose address Hubble does not know.
    pub(super) labels_json: String,
    pub(super) identity: u32,
    pub(super) name: String,
}

/// An address outside of the cluster.
pub(super) struct Outside {
    pub(super) address: String,
    pub(super) v6: bool,
    shape: Shape,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Identity 2.
    World,
    /// Identities 9 and 10.
    WorldOfFamily,
    /// An identity of a prefix; its number differs from node to node.
    Prefix,
}

/// What entities a flow can name, each with its labels.
pub(super) const ENTITIES: [Entity; 7] = [
    Entity {
        name: "kube-apiserver",
        json: r#""identity":7,"labels":["reserved:kube-apiserver","reserved:remote-node"]"#,
    },
    Entity {
        name: "kube-apiserver",
        json: r#""identity":1,"labels":["reserved:host","reserved:kube-apiserver"]"#,
    },
    Entity {
        name: "kube-apiserver",
        json: r#""identity":16777217,"labels":["cidr:203.0.113.10/32","reserved:kube-apiserver","reserved:world"]"#,
    },
    Entity { name: "host", json: r#""identity":1,"labels":["reserved:host"]"# },
    Entity { name: "remote-node", json: r#""identity":6,"labels":["reserved:remote-node"]"# },
    Entity { name: "ingress", json: r#""identity":8,"labels":["reserved:ingress"]"# },
    Entity { name: "health", json: r#""identity":4,"labels":["reserved:health"]"# },
];

/// One shape in which an entity appears.
pub(super) struct Entity {
    pub(super) name: &'static str,
    pub(super) json: &'static str,
}

/// The namespaces; equal names of workloads appear in many of them.
pub(super) const NAMESPACES: [&str; 20] = [
    "kube-system",
    "shop",
    "pay",
    "obs",
    "telco",
    "data",
    "auth",
    "search",
    "mail",
    "media",
    "geo",
    "risk",
    "stock",
    "crm",
    "ci",
    "edge",
    "legacy",
    "e2e-1",
    "1e3",
    "no",
];

// === impl Model ===

impl Model {
    /// Draws a cluster: 300 workloads in 20 namespaces, 24 in two other clusters, and addresses outside.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let mut addresses = [300usize; NODES];
        let mut workloads = Vec::with_capacity(324);
        for (at, namespace) in NAMESPACES.iter().enumerate() {
            for slot in 0..WORDS.len() {
                let draft =
                    if at == 0 && slot == 0 { draft::kube_dns() } else { draft::draft(at, slot, rng) };
                let number = 1000 + 37 * workloads.len() as u32;
                workloads.push(draft.build(namespace, 0, number, &mut addresses, rng));
            }
        }
        for (cluster, name) in CLUSTERS.iter().enumerate().skip(1) {
            for (slot, word) in WORDS.iter().enumerate().take(12) {
                let namespace = NAMESPACES.get(1 + slot % 4).copied().unwrap_or("shop");
                let draft = Draft::app(&format!("{name}-{word}"));
                let number = ((cluster as u32) << 16) + 1000 + 37 * workloads.len() as u32;
                workloads.push(draft.build(namespace, cluster, number, &mut addresses, rng));
            }
        }
        Self { workloads, outside: outside(rng) }
    }
}

fn outside(rng: &mut Rng) -> Vec<Outside> {
    let outside = |at: usize| {
        let v6 = at % 4 == 3;
        let nets = ["192.0.2", "198.51.100", "203.0.113"];
        let address = if v6 {
            format!("2001:db8:{:x}::{:x}", 256 + at, 1 + at)
        } else {
            format!("{}.{}", nets[at % 3], 20 + at)
        };
        let shape = match rng.below(3) {
            0 => Shape::World,
            1 => Shape::WorldOfFamily,
            _ => Shape::Prefix,
        };
        Outside { address, v6, shape }
    };
    (0..120).map(outside).collect()
}

impl Draft {
    fn build(
        self,
        namespace: &'static str,
        cluster: usize,
        number: u32,
        addresses: &mut [usize],
        rng: &mut Rng,
    ) -> Workload {
        let replicas = if self.kind == Kind::Job { JOB_SLOTS } else { 1 + rng.below(4) };
        let pods = (0..replicas)
            .map(|slot| {
                let node = rng.below(NODES);
                let address = &mut addresses[node];
                *address += 1;
                if matches!(*address % 256, 0 | 255) {
                    *address = (*address / 256 + 1) * 256 + 1;
                }
                let (high, low, net) = (*address / 256, *address % 256, cluster * 10 + node + 1);
                self.pod(
                    namespace,
                    cluster,
                    slot,
                    Place {
                        node,
                        v4: format!("10.{net}.{high}.{low}"),
                        v6: format!("fd00:10:{net}::{address:x}"),
                        identity: number,
                        id: 1 + rng.below(4000),
                        tail: rng.next(),
                    },
                )
            })
            .collect();
        let selector = labels::select(&self.labels);
        Workload { namespace, cluster, selector, account: self.account, kind: self.kind, pods }
    }

    fn pod(&self, namespace: &str, cluster: usize, slot: usize, place: Place) -> Pod {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let tail = |n: usize| -> String {
            let letter = |i: usize| LETTERS[(place.tail >> (5 * i)) as usize % LETTERS.len()] as char;
            (0..n).map(letter).collect()
        };
        let name = match (self.kind, self.owner) {
            (Kind::Job, _) => format!("{}-{RUN_ZERO}-{}", self.name, tail(5)),
            (_, "StatefulSet") => format!("{}-{slot}", self.name),
            _ => format!("{}-7d9c6f5b8c-{}", self.name, tail(5)),
        };
        let labels = |master: bool| {
            let mut labels: Vec<String> = self.labels.iter().map(label_text).collect();
            let mut add =
                |key: &str, value: &str| labels.push(label_text(&(key.to_owned(), value.to_owned())));
            if self.versions {
                add("version", if slot.is_multiple_of(2) { "v1" } else { "v2" });
            }
            match self.kind {
                Kind::Plain => {}
                Kind::Roles => {
                    add("role", if master { "master" } else { "replica" });
                    add("spilo-role", if master { "master" } else { "replica" });
                }
                Kind::Job => {
                    let run = format!("{}-{RUN_ZERO}", self.name);
                    add("batch.kubernetes.io/job-name", &run);
                    add("job-name", &run);
                    add("controller-uid", &format!("{RUN_ZERO}-5c1e-4b8f-9d53-0c2f6a1b7e90"));
                }
            }
            add("io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", namespace);
            add("io.cilium.k8s.namespace.labels.pod-security.kubernetes.io/enforce", "baseline");
            add("io.cilium.k8s.policy.cluster", CLUSTERS[cluster]);
            add("io.cilium.k8s.policy.serviceaccount", &self.account);
            add("io.kubernetes.pod.namespace", namespace);
            labels.sort();
            labels
        };
        let texts = [false, true].map(|master| json_list(&labels(master)));
        let json = [(false, 0), (true, 0), (false, 1), (true, 1)].map(|(local, role)| {
            let mut out = String::with_capacity(600);
            if local {
                let _ = write!(out, "\"ID\":{},", place.id);
            }
            let _ = write!(
                out,
                "\"identity\":{},\"cluster_name\":\"{}\",\"namespace\":\"{namespace}\",\"labels\":{},\"pod_name\":\"{name}\"",
                place.identity, CLUSTERS[cluster], texts[role],
            );
            if local {
                let kind = if self.kind == Kind::Job { "CronJob" } else { self.owner };
                let _ = write!(out, ",\"workloads\":[{{\"name\":\"{}\",\"kind\":\"{kind}\"}}]", self.name);
            }
            out.into_bytes()
        });
        let zero = RUN_ZERO.to_string();
        let runs = json.each_ref().map(|json| match self.kind {
            Kind::Job => memchr::memmem::find_iter(json, &zero).collect(),
            _ => Vec::new(),
        });
        let [labels_json, _] = texts;
        let Place { node, v4, v6, identity, .. } = place;
        Pod { node, v4, v6, json, runs, labels_json, identity, name }
    }
}

/// Where a pod runs.
struct Place {
    node: usize,
    v4: String,
    v6: String,
    identity: u32,
    id: usize,
    tail: u64,
}

fn label_text((key, value): &Pair) -> String {
    if value.is_empty() { format!("k8s:{key}") } else { format!("k8s:{key}={value}") }
}

fn json_list(texts: &[String]) -> String {
    let mut out = String::from("[");
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        json_text(&mut out, text);
    }
    out.push(']');
    out
}

// === impl Pod ===

impl Pod {
    /// Appends the members of its endpoint. `master` counts for [`Kind::Roles`], `run` for jobs.
    pub(super) fn write(&self, out: &mut Vec<u8>, local: bool, master: bool, run: u32) {
        let at = usize::from(local) + 2 * usize::from(master);
        let begin = out.len();
        out.extend_from_slice(&self.json[at]);
        let mut number = RUN_ZERO + run % 70_000_000;
        let mut digits = [0u8; 8];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        for run in &self.runs[at] {
            out[begin + run..begin + run + 8].copy_from_slice(&digits);
        }
    }
}

// === impl Outside ===

impl Outside {
    /// Appends the members of its endpoint as the node sees it.
    pub(super) fn write(&self, out: &mut Vec<u8>, node: usize) {
        let family = if self.v6 { ("world-ipv6", 10) } else { ("world-ipv4", 9) };
        match self.shape {
            Shape::World => out.extend_from_slice(br#""identity":2,"labels":["reserved:world"]"#),
            Shape::WorldOfFamily => {
                let text = format!(r#""identity":{},"labels":["reserved:{}"]"#, family.1, family.0);
                out.extend_from_slice(text.as_bytes());
            }
            Shape::Prefix => {
                let prefix = if self.v6 {
                    format!("{}/128", self.address.replace(':', "-"))
                } else {
                    format!("{}/32", self.address)
                };
                let number = 16_777_300 + node * 40 + self.address.len();
                let text =
                    format!(r#""identity":{number},"labels":["cidr:{prefix}","reserved:{}"]"#, family.0);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_workloads_of_a_namespace_share_a_selector() {
        for seed in 0..5 {
            let model = Model::draw(&mut Rng::new(seed));
            let mut seen = HashSet::new();
            for w in model.workloads.iter().filter(|w| !w.selector.is_empty()) {
                assert!(
                    seen.insert((w.cluster, w.namespace, &w.selector)),
                    "{} {:?}",
                    w.namespace,
                    w.selector
                );
            }
            assert!(seen.len() > 270, "{}", seen.len());
            let addresses: HashSet<&str> =
                model.workloads.iter().flat_map(|w| &w.pods).map(|p| p.v4.as_str()).collect();
            assert_eq!(addresses.len(), model.workloads.iter().map(|w| w.pods.len()).sum::<usize>());
        }
    }
}
