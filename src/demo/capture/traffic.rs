//! The clock of a capture: what is emitted when, connections of needs in turn, and the tally.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::collections::BinaryHeap;
use std::io;

use jiff::Timestamp;

use super::Summary;
use super::line::{ACK, CWR, ECE, End, FIN, PSH, Packet, Pen, RST, SYN, Said, Wire};
use super::model::{ENTITIES, Kind, Model, NODES};
use super::rng::Rng;
use super::wanted::{self, Layer, NAMES, Other, Wanted};
use crate::demo::need::{Direction, Need};

/// 2026-03-01T08:00:00Z.
const START: i64 = 1_772_352_000;
/// Source ports that connections of one pair of ends take in turn: even ones for egress, odd ones for
/// ingress, so that the two never share a connection.
const PORTS: u64 = 14_116;
/// Dropped lines of 100.
const DROPPED: u64 = 35;
const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

/// A capture while it is written.
pub(super) struct Traffic {
    pub(super) model: Model,
    pub(super) rng: Rng,
    /// Nanoseconds since the start.
    pub(super) now: u64,
    /// Pods of the own cluster that a policy can select, as workloads.
    pub(super) subjects: Vec<u16>,
    /// Workloads of the own cluster that none can select.
    pub(super) nameless: Vec<u16>,
    wanted: Vec<Wanted>,
    order: Vec<u16>,
    turn: usize,
    /// What comes later: retransmits, at most seven seconds of them.
    planned: BinaryHeap<Reverse<Planned>>,
    number: u32,
    pen: Pen,
    lines: u64,
    summary: Summary,
}

/// A line that is written when its time has come.
struct Planned {
    at: u64,
    number: u32,
    packet: Packet,
    said: Said,
    tally: Option<Tally>,
}

/// What a line counts for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    need: u16,
    connection: Counts,
}

/// Whether a line is the first of a connection that has not been there before.
#[derive(Debug, Clone, Copy)]
enum Counts {
    No,
    New,
    /// New if this pair of ends has not been there.
    Pair(u8),
}

// === impl Planned ===

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Planned {}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

// === impl Traffic ===

impl Traffic {
    pub(super) fn new(seed: u64, lines: u64) -> Self {
        let mut rng = Rng::new(seed);
        let model = Model::draw(&mut rng);
        let wanted = wanted::draw(&model, &mut rng);
        let own = |named: bool| {
            let fits = |at: &u16| {
                let workload = &model.workloads[usize::from(*at)];
                workload.cluster == 0 && workload.selector.is_empty() != named
            };
            (0..model.workloads.len() as u16).filter(fits).collect()
        };
        let (subjects, nameless) = (own(true), own(false));
        let start = Timestamp::from_second(START).unwrap_or_default();
        Self {
            order: (0..wanted.len() as u16).collect(),
            turn: wanted.len(),
            wanted,
            model,
            rng,
            now: 0,
            subjects,
            nameless,
            planned: BinaryHeap::new(),
            number: 0,
            pen: Pen::new(start),
            lines,
            summary: Summary::default(),
        }
    }

    /// Writes all lines.
    pub(super) fn run(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        let nodes = [0, 1, 2, 3];
        while self.summary.lines < self.lines {
            let lines = self.summary.lines;
            if lines == 0 {
                self.pen.node_status(0, "NODE_CONNECTED", &nodes);
                self.summary.lines += 1;
            } else if lines % 5003 == 4000 {
                let source =
                    if lines.is_multiple_of(2) { "HUBBLE_RING_BUFFER" } else { "OBSERVER_EVENTS_QUEUE" };
                self.pen.lost(self.now, (lines % NODES as u64) as u8, source, 1 + lines % 97);
                self.summary.lines += 1;
            } else if self.planned.peek().is_some_and(|Reverse(next)| next.at <= self.now) {
                if let Some(Reverse(next)) = self.planned.pop() {
                    self.emit(&next);
                }
            } else {
                self.begin();
                self.now += 200_000 + self.rng.below(2_400_000) as u64;
            }
            if self.pen.written().len() >= 1 << 16 {
                self.flush(out)?;
            }
        }
        self.flush(out)
    }

    fn flush(&mut self, out: &mut impl io::Write) -> io::Result<()> {
        let written = self.pen.written();
        out.write_all(written)?;
        self.summary.bytes += written.len() as u64;
        written.clear();
        Ok(())
    }

    /// Begins whatever keeps the share of drops.
    fn begin(&mut self) {
        if self.summary.dropped * 100 >= self.summary.lines * DROPPED {
            self.forwarded();
        } else if self.rng.chance(70) {
            self.connection();
        } else {
            self.quiet();
        }
    }

    fn emit(&mut self, line: &Planned) {
        let skew = u64::from(line.said.node) * 40_000; // clocks of nodes differ a little
        self.pen.flow(&self.model, line.at + skew, &line.packet, &line.said, &mut self.rng);
        self.summary.lines += 1;
        self.summary.dropped += u64::from(line.said.verdict == "DROPPED");
        let Some(tally) = line.tally else { return };
        let wanted = &mut self.wanted[usize::from(tally.need)];
        if line.said.event.0 == 5 {
            wanted.verdicts += 1
        } else {
            wanted.drops += 1
        }
        match tally.connection {
            Counts::No => {}
            Counts::New => wanted.connections += 1,
            Counts::Pair(pair) => {
                let bit = 1 << (pair % 64);
                wanted.connections += u64::from(wanted.pairs & bit == 0);
                wanted.pairs |= bit;
            }
        }
    }

    /// Plans one line.
    pub(super) fn plan(&mut self, at: u64, packet: Packet, said: Said, tally: Option<Tally>) {
        self.number = self.number.wrapping_add(1);
        self.planned.push(Reverse(Planned { at, number: self.number, packet, said, tally }));
    }

    /// The node of an end that is a pod or node here; 0 for all others.
    pub(super) fn node_of(&self, end: End) -> u8 {
        match end {
            End::Pod(workload, slot, _)
            | End::LinkLocal(workload, slot)
            | End::Unresolved(workload, slot) => {
                self.model.workloads[usize::from(workload)].pods[usize::from(slot)].node as u8
            }
            End::Entity(_, node) => node,
            End::Outside(_) | End::Odd(_) => 0,
        }
    }

    /// What is said about a drop by policy, twice for one packet.
    pub(super) fn denied(
        &self,
        direction: Direction,
        packet: &Packet,
        reason: (u16, &'static str),
    ) -> [Said; 2] {
        let (local, direction) = match direction {
            Direction::Egress => (packet.from, "EGRESS"),
            Direction::Ingress => (packet.to, "INGRESS"),
        };
        let verdict = Said {
            node: self.node_of(local),
            verdict: "DROPPED",
            event: (5, 0),
            reason,
            direction,
            reply: None,
            middle: "",
            tail: "",
            dns: false,
        };
        let middle = r#","file":{"name":"bpf_lxc.c","line":1663}"#;
        [verdict, Said { event: (1, reason.0), middle, ..verdict }]
    }

    /// One connection of a need, with its retransmits.
    fn connection(&mut self) {
        if self.turn >= self.order.len() {
            self.rng.shuffle(&mut self.order);
            self.turn = 0;
        }
        // some needs are far more frequent than others
        let hot = self.rng.chance(10);
        let need = if hot { self.rng.below(50.min(self.wanted.len())) as u16 } else { self.order[self.turn] };
        self.turn += usize::from(!hot);
        let Some((packet, mut counts)) = self.next_of(need) else { return };
        let wanted = &self.wanted[usize::from(need)];
        let (drops_only, direction, layer) = (wanted.drops_only, wanted.need.direction, wanted.layer);
        let said = self.denied(direction, &packet, (133, "POLICY_DENIED"));
        // now and then one of the two events does not arrive
        let missing = if drops_only { 1 } else { self.rng.below(60) };
        let again: &[u64] = match (layer, self.rng.below(8)) {
            (Layer::Tcp(_), 0) => &[1, 3, 7],
            (Layer::Tcp(_), 1) => &[1],
            (Layer::Udp(_) | Layer::UdpFixed(_), 0) => &[5],
            (Layer::Icmp { .. }, 0) => &[1, 2],
            _ => &[],
        };
        for seconds in std::iter::once(&0).chain(again) {
            let at = self.now + seconds * SECOND + self.rng.below(30_000) as u64;
            let [verdict, drop] = said;
            if missing != 1 {
                self.plan(at, packet, verdict, Some(Tally { need, connection: counts }));
                counts = Counts::No;
            }
            if missing != 0 {
                let later = at + 700 + self.rng.below(20_000) as u64;
                self.plan(later, packet, drop, Some(Tally { need, connection: counts }));
                counts = Counts::No;
            }
        }
        if matches!(layer, Layer::Tcp(_)) && missing != 1 && self.rng.chance(4) {
            self.middle(packet, direction);
        }
    }

    /// Later packets of a connection whose rule went away: they teach nothing.
    fn middle(&mut self, packet: Packet, direction: Direction) {
        let Wire::Tcp(from, to, _) = packet.wire else { return };
        let flags = [ACK, ACK | PSH, RST, RST | ACK, FIN | ACK][self.rng.below(5)];
        let packet = Packet { wire: Wire::Tcp(from, to, flags), ..packet };
        for (at, said) in [0, 900].into_iter().zip(self.denied(direction, &packet, (133, "POLICY_DENIED"))) {
            self.plan(self.now + 40 * MILLI + at, packet, said, None);
        }
    }

    /// The next packet that opens a connection of this need.
    fn next_of(&mut self, need: u16) -> Option<(Packet, Counts)> {
        let wanted = self.wanted.get_mut(usize::from(need))?;
        let begun = wanted.begun;
        wanted.begun += 1;
        let subject = &self.model.workloads[wanted.subject];
        let others = match wanted.other {
            Other::Workload(at) => self.model.workloads[at].pods.len(),
            Other::Entity(at) => NAMES[at].1,
            Other::Outside(_) => 1,
        };
        let pairs = (subject.pods.len() * others) as u64;
        let (pair, lap) = (begun % pairs, begun / pairs);
        let (mine, theirs) = (pair as usize % subject.pods.len(), pair as usize / subject.pods.len());
        let pod = &subject.pods[mine];
        let run =
            |kind: Kind, slot: usize| if kind == Kind::Job { (lap * 64) as u32 + slot as u32 } else { 0 };
        let own = End::Pod(wanted.subject as u16, mine as u16, run(subject.kind, mine));
        let mut families = (true, true);
        let other = match wanted.other {
            Other::Workload(at) => {
                End::Pod(at as u16, theirs as u16, run(self.model.workloads[at].kind, theirs))
            }
            Other::Outside(at) => {
                families = (!self.model.outside[at].v6, self.model.outside[at].v6);
                End::Outside(at as u16)
            }
            Other::Entity(at) => {
                let name = NAMES[at].0;
                let shape = ENTITIES.iter().position(|e| e.name == name)?;
                let shape = if at == 0 { shape + theirs } else { shape };
                families.1 = shape != 2; // the API server outside has one address
                let node = match name {
                    "remote-node" => (pod.node + 1 + theirs) % NODES,
                    "ingress" | "health" => theirs,
                    _ => pod.node,
                };
                End::Entity(shape as u8, node as u8)
            }
        };
        let v6 = match (wanted.layer, families) {
            (Layer::Icmp { v6, .. }, _) => v6,
            (_, (true, true)) => self.rng.chance(20),
            (_, (_, only_v6)) => only_v6,
        };
        let port = (u64::from(wanted.first_port) + lap) % PORTS * 2;
        let port = 32_768 + port as u16 + u16::from(wanted.need.direction == Direction::Ingress);
        let flags = if self.rng.chance(5) { SYN | ECE | CWR } else { SYN };
        let wire = match wanted.layer {
            Layer::Tcp(to) => Wire::Tcp(port, to, flags),
            Layer::Udp(to) => Wire::Udp(port, to),
            Layer::UdpFixed(to) => Wire::Udp(to, to),
            Layer::Sctp(to) => Wire::Sctp(port, to),
            Layer::Icmp { kind, .. } => Wire::Icmp(kind, 0),
        };
        let counts = match wanted.layer.without_ports() {
            true => Counts::Pair(pair as u8),
            false if lap < PORTS => Counts::New,
            false => Counts::No, // the ports begin anew
        };
        let (from, to) = match wanted.need.direction {
            Direction::Egress => (own, other),
            Direction::Ingress => (other, own),
        };
        Some((Packet { from, to, v6, wire }, counts))
    }

    /// Writes what was really emitted.
    pub(super) fn truth(mut self, out: &mut impl io::Write) -> io::Result<Summary> {
        let emitted = |w: &&Wanted| w.verdicts + w.drops > 0;
        let sorted: BTreeMap<&Need, &Wanted> =
            self.wanted.iter().filter(emitted).map(|w| (&w.need, w)).collect();
        for (need, wanted) in &sorted {
            writeln!(
                out,
                "{{{},\"connections\":{},\"verdict_events\":{},\"drop_events\":{}}}",
                need.json_members(),
                wanted.connections,
                wanted.verdicts,
                wanted.drops
            )?;
            self.summary.needs += 1;
            self.summary.connections += wanted.connections;
            self.summary.verdict_events += wanted.verdicts;
            self.summary.drop_events += wanted.drops;
        }
        Ok(self.summary)
    }
}
