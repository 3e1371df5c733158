//! The needs of a capture, drawn before its first line.

use std::collections::HashSet;

use super::labels::Pair;
use super::model::{CLUSTERS, Kind, Model, Workload};
use super::rng::Rng;
use crate::demo::need::{Allow, Direction, Need, Peer};

/// How many needs are drawn.
pub(super) const NEEDS: usize = 1500;
/// Ports that one workload needs: more than one rule of a policy can list.
const MANY_PORTS: u16 = 60;

/// A need, how its connections are made, and what was emitted of them.
pub(super) struct Wanted {
    pub(super) need: Need,
    /// Index of the subject's workload.
    pub(super) subject: usize,
    pub(super) other: Other,
    pub(super) layer: Layer,
    /// Its verdict events never reach the capture.
    pub(super) drops_only: bool,
    /// Where its source ports begin, so that needs between the same pods do not share connections.
    pub(super) first_port: u32,
    /// Connections begun; not all of them need to be emitted.
    pub(super) begun: u64,
    /// Of layers without ports of their own: which pairs of ends were emitted.
    pub(super) pairs: u64,
    /// Distinct connections emitted.
    pub(super) connections: u64,
    /// Verdict events emitted.
    pub(super) verdicts: u64,
    /// Drop events emitted.
    pub(super) drops: u64,
}

/// The other end of a need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    Workload(usize),
    /// Index into [`NAMES`].
    Entity(usize),
    Outside(usize),
}

/// The entities that needs name, and how many addresses each has as seen from one pod.
pub(super) const NAMES: [(&str, usize); 5] =
    [("kube-apiserver", 3), ("host", 1), ("remote-node", 3), ("ingress", 4), ("health", 4)];

/// What a need is about, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Tcp(u16),
    Udp(u16),
    /// From the same port that it goes to.
    UdpFixed(u16),
    Sctp(u16),
    Icmp {
        v6: bool,
        kind: u8,
    },
}

impl Layer {
    /// Whether connections differ in their ends only.
    pub(super) fn without_ports(self) -> bool {
        matches!(self, Self::UdpFixed(_) | Self::Icmp { .. })
    }
}

/// Draws needs until there are [`NEEDS`] different ones.
pub(super) fn draw(model: &Model, rng: &mut Rng) -> Vec<Wanted> {
    let subjects: Vec<usize> = indices(model, |w| w.cluster == 0 && !w.selector.is_empty());
    let steady: Vec<usize> =
        indices(model, |w| w.cluster == 0 && !w.selector.is_empty() && w.kind != Kind::Job);
    let meshed: Vec<usize> = indices(model, |w| w.cluster != 0);
    let nameless: Vec<usize> = indices(model, |w| w.selector.is_empty() && w.account != "default");
    let by_name = |namespace: &str, key: &str| {
        model
            .workloads
            .iter()
            .position(|w| w.namespace == namespace && w.selector.iter().any(|(_, v)| v == key))
    };
    let dns = by_name("kube-system", "kube-dns").unwrap_or(0);
    let hub = by_name("edge", "worker").unwrap_or(0);
    let scraper = by_name("obs", "agent").unwrap_or(0);
    let mut drawn = Drawn { model, seen: HashSet::new(), all: Vec::with_capacity(NEEDS) };

    for port in 0..MANY_PORTS {
        drawn.add(hub, Direction::Ingress, Other::Workload(scraper), Layer::Tcp(7000 + port), rng);
    }
    for (at, subject) in subjects.iter().copied().enumerate() {
        let to_dns = Other::Workload(dns);
        match at % 4 {
            0 | 1 => drawn.add(subject, Direction::Egress, to_dns, Layer::Udp(53), rng),
            2 => drawn.add(subject, Direction::Ingress, Other::Workload(scraper), Layer::Tcp(9100), rng),
            _ => drawn.add(subject, Direction::Ingress, Other::Entity(1), Layer::Tcp(8081), rng),
        }
        match at % 9 {
            0 => drawn.add(subject, Direction::Egress, to_dns, Layer::Tcp(53), rng),
            1 => drawn.add(subject, Direction::Egress, Other::Entity(0), Layer::Tcp(6443), rng),
            2 => drawn.add(subject, Direction::Egress, Other::Entity(2), Layer::Tcp(10250), rng),
            3 => drawn.add(subject, Direction::Ingress, Other::Entity(3), Layer::Tcp(8080), rng),
            4 => drawn.add(subject, Direction::Ingress, Other::Entity(2), Layer::Tcp(443), rng),
            5 => drawn.add(subject, Direction::Ingress, Other::Entity(4), Layer::Tcp(4240), rng),
            6 => drawn.add(subject, Direction::Ingress, Other::Entity(0), Layer::Tcp(9443), rng),
            _ => {}
        }
    }
    let one = |of: &[usize], rng: &mut Rng| rng.pick(of).copied().unwrap_or(0);
    for at in 0..240 {
        let outside = Other::Outside(rng.below(model.outside.len()));
        let layer = match at % 12 {
            0..8 => Layer::Tcp(tcp_port(rng)),
            8 => Layer::Udp(443),
            9 => Layer::UdpFixed(123),
            10 => Layer::Udp(33_434),
            _ => Layer::Icmp { v6: is_v6(model, outside), kind: if is_v6(model, outside) { 128 } else { 8 } },
        };
        let direction = if at % 7 == 0 { Direction::Ingress } else { Direction::Egress };
        drawn.add(one(&steady, rng), direction, outside, layer, rng);
    }
    for at in 0..50 {
        let (v6, kind) = [(false, 8), (true, 128), (false, 13), (false, 8), (true, 128)][at % 5];
        let other = Other::Workload(one(&steady, rng));
        drawn.add(one(&steady, rng), either(rng), other, Layer::Icmp { v6, kind }, rng);
    }
    for _ in 0..60 {
        let layer =
            if rng.chance(25) { Layer::Sctp(38_412) } else { Layer::Udp(8000 + rng.below(500) as u16) };
        drawn.add(one(&subjects, rng), either(rng), Other::Workload(one(&steady, rng)), layer, rng);
    }
    for _ in 0..90 {
        let port = Layer::Tcp(tcp_port(rng));
        drawn.add(one(&subjects, rng), either(rng), Other::Workload(one(&meshed, rng)), port, rng);
    }
    for _ in 0..40 {
        let port = Layer::Tcp(tcp_port(rng));
        drawn.add(one(&subjects, rng), either(rng), Other::Workload(one(&nameless, rng)), port, rng);
    }
    // the rest: workloads among themselves; the bound only guards against a model too small for them
    for _ in 0..100 * NEEDS {
        if drawn.all.len() >= NEEDS {
            break;
        }
        let port = Layer::Tcp(tcp_port(rng));
        drawn.add(one(&subjects, rng), either(rng), Other::Workload(one(&subjects, rng)), port, rng);
    }
    drawn.all
}

fn indices(model: &Model, wanted: impl Fn(&Workload) -> bool) -> Vec<usize> {
    model.workloads.iter().enumerate().filter(|(_, w)| wanted(w)).map(|(at, _)| at).collect()
}

fn either(rng: &mut Rng) -> Direction {
    if rng.chance(55) { Direction::Egress } else { Direction::Ingress }
}

fn tcp_port(rng: &mut Rng) -> u16 {
    const USUAL: [u16; 14] =
        [80, 443, 3306, 4222, 5432, 5672, 6379, 8080, 8443, 9000, 9092, 9200, 50_051, 61_616];
    rng.pick(&USUAL).copied().unwrap_or(80)
}

fn is_v6(model: &Model, other: Other) -> bool {
    matches!(other, Other::Outside(at) if model.outside[at].v6)
}

struct Drawn<'a> {
    model: &'a Model,
    seen: HashSet<Need>,
    all: Vec<Wanted>,
}

impl Drawn<'_> {
    /// Adds a need that has not been drawn before; nothing if it has, or if no policy could name it.
    fn add(&mut self, subject: usize, direction: Direction, other: Other, layer: Layer, rng: &mut Rng) {
        let workload = &self.model.workloads[subject];
        let job = workload.kind == Kind::Job
            || matches!(other, Other::Workload(at) if self.model.workloads[at].kind == Kind::Job);
        if other == Other::Workload(subject) || (job && layer.without_ports()) {
            return;
        }
        let Some(peer) = self.peer(workload, other) else { return };
        let need = Need {
            namespace: workload.namespace.to_owned(),
            selector: workload.selector.clone(),
            direction,
            peer,
            allow: allow(layer),
        };
        if !self.seen.insert(need.clone()) {
            return;
        }
        let drops_only = self.all.len() % 150 == 149;
        let first_port = rng.below(14_116) as u32;
        self.all.push(Wanted {
            need,
            subject,
            other,
            layer,
            drops_only,
            first_port,
            begun: 0,
            pairs: 0,
            connections: 0,
            verdicts: 0,
            drops: 0,
        });
    }

    fn peer(&self, subject: &Workload, other: Other) -> Option<Peer> {
        match other {
            Other::Entity(at) => Some(Peer::Entity(NAMES[at].0.to_owned())),
            Other::Outside(at) => {
                let outside = &self.model.outside[at];
                Some(Peer::Cidr(format!("{}/{}", outside.address, if outside.v6 { 128 } else { 32 })))
            }
            Other::Workload(at) => {
                let peer = &self.model.workloads[at];
                let cilium = |key: &str, value: &str| -> Pair { (format!("k8s:io.{key}"), value.to_owned()) };
                let mut labels = peer.selector.clone();
                if labels.is_empty() {
                    if peer.account == "default" {
                        return None;
                    }
                    labels.push(cilium("cilium.k8s.policy.serviceaccount", &peer.account));
                }
                if peer.namespace != subject.namespace {
                    labels.push(cilium("kubernetes.pod.namespace", peer.namespace));
                }
                if peer.cluster != subject.cluster {
                    labels.push(cilium("cilium.k8s.policy.cluster", CLUSTERS[peer.cluster]));
                }
                labels.sort();
                Some(Peer::Endpoints(labels))
            }
        }
    }
}

fn allow(layer: Layer) -> Allow {
    match layer {
        Layer::Tcp(port) => Allow::Port { protocol: "TCP", port },
        Layer::Udp(port) | Layer::UdpFixed(port) => Allow::Port { protocol: "UDP", port },
        Layer::Sctp(port) => Allow::Port { protocol: "SCTP", port },
        Layer::Icmp { v6, kind } => Allow::Icmp { family: if v6 { "IPv6" } else { "IPv4" }, kind },
    }
}
