//! What each node's flows were delivered up to, and what was missed: the bookkeeping of a stream that ends,
//! begins again and rotates. Every time comes in as an argument.
//!
//! A node is watched, or *open*: flows after some moment may be missing. It becomes open when the stream ends,
//! when the relay says that it lost the node, when the agent began anew. It is watched again when it is known
//! how far back the node's ring reached at the stream that now reads it: what lies between is the gap, and
//! when the ring reached back far enough there is none.

use std::collections::BTreeMap;

use hashbrown::HashSet;
use jiff::{SignedDuration, Timestamp};

use crate::coverage::{Coverage, Gap, Gaps, Marks, Reason};
use crate::flow::{Direction, Flow};
use crate::names::NodeName;
use crate::source::relay::{FlowTimes, NodeVitals};
use crate::source::{LostEvents, LostSource, NodeState, NodeStatus};

mod node;

use node::{Node, Ring};

/// How long before the last proof of life a flow may have been dropped that was still on its way when the
/// stream ended. A relay holds flows for a second to sort them (`SortBufferDrainTimeout`), and a hundred at
/// most; the clocks of nodes differ by as much again in a cluster that keeps time; the rest is margin.
pub(super) const OVERLAP: SignedDuration = SignedDuration::from_secs(10);
/// A quiet node's newest event is handed out with its next one only. One that waits longer than this for it
/// is not asked for again.
const HIDDEN: SignedDuration = SignedDuration::from_mins(5);
/// A node that was away for longer does not make everybody's flows come again.
const AWAY: SignedDuration = SignedDuration::from_hours(1);
/// A relay tells an error up to this much later, to tell several at once (`ErrorAggregationWindow`).
const ERROR_DELAY: SignedDuration = SignedDuration::from_secs(12);
/// Hubble tells of losses once a second.
const LOST_SPAN: SignedDuration = SignedDuration::from_secs(1);
/// A reader that was too slow was so for this long at most.
const LAPPED_SPAN: SignedDuration = SignedDuration::from_secs(60);
/// A relay looks for nodes every two seconds: so long after it has a connection, a stream reads the node.
const PICKED_UP: SignedDuration = SignedDuration::from_millis(2_500);
/// The begin of a ring is told as an uptime: a later begin than this is another ring.
const BEGAN_ANEW: SignedDuration = SignedDuration::from_secs(2);
/// A flow that a stream has not delivered after this time will not come.
const DUE: SignedDuration = SignedDuration::from_secs(5);
/// Nodes that are watched one by one.
const NODES: usize = 10_000;
/// Namespaces kept of each node.
const NAMESPACES: usize = 1_000;
/// Gaps that are told apart.
pub const GAPS: usize = 10_000;

/// The bookkeeping.
#[derive(Debug)]
pub struct Watch {
    from: Timestamp,
    nodes: BTreeMap<NodeName, Node>,
    gaps: Gaps,
    stream: Option<Stream>,
    /// When the first stream was opened.
    begun: Option<Timestamp>,
    alive: Timestamp,
    /// The last time that the relay told of its nodes.
    told: Option<Timestamp>,
    /// Nodes that there was no room for.
    refused: u64,
}

#[derive(Debug)]
struct Stream {
    opened: Timestamp,
    since: Option<Timestamp>,
}

// === impl Watch ===

impl Watch {
    /// Begins to watch now.
    pub fn new(now: Timestamp) -> Self {
        Self {
            from: now,
            nodes: BTreeMap::new(),
            gaps: Gaps::new(GAPS),
            stream: None,
            begun: None,
            alive: now,
            told: None,
            refused: 0,
        }
    }

    /// Goes on from what another run left, which may have been long ago: the time between is watched as far
    /// as the nodes remember it.
    pub fn resumed(now: Timestamp, marks: &Marks) -> Self {
        let mut watch = Self::new(now);
        watch.from = marks.alive.map_or(now, |alive| alive.min(now));
        for (name, mark) in marks.nodes.iter().take(NODES) {
            let from = (*mark).min(now);
            let mut node = Node::new(watch.from, from, Reason::Downtime);
            node.mark = Some(from);
            watch.nodes.insert(name.clone(), node);
        }
        watch
    }

    /// A stream was opened; `since`: its nodes were asked for all flows from then on.
    pub fn opened(&mut self, now: Timestamp, since: Option<Timestamp>) {
        if self.stream.is_none() && self.nodes.is_empty() {
            self.from = self.from.max(now);
        }
        self.alive = now;
        self.begun.get_or_insert(now);
        self.stream = Some(Stream { opened: now, since });
        for node in self.nodes.values_mut() {
            node.left = false;
            node.oldest = None;
        }
    }

    /// A flow came, whether it came before or not.
    pub fn flow(&mut self, flow: &Flow, now: Timestamp) {
        self.alive = now;
        let Some(time) = flow.time else { return };
        let Some(node) = self.node(&flow.node, now) else { return };
        node.heard = Some(now);
        node.oldest = Some(node.oldest.map_or(time, |oldest| oldest.min(time)));
        // A clock that is ahead would put everything behind it out of reach.
        let mark =
            node.mark.map_or(time, |mark| mark.max(time)).min(now.saturating_add(OVERLAP).unwrap_or(now));
        node.mark = Some(mark);
        node.remember(now, mark);
        let (source, destination) = (flow.source.as_deref(), flow.destination.as_deref());
        let local = match flow.direction {
            Some(Direction::Egress) => [source, None],
            Some(Direction::Ingress) => [destination, None],
            None => [source, destination],
        };
        for namespace in local.into_iter().flatten().filter_map(|e| e.identity.namespace.as_ref()) {
            if !node.namespaces.contains(namespace) && node.namespaces.len() < NAMESPACES {
                node.namespaces.insert(namespace.clone());
            }
        }
    }

    /// The relay said something that is no flow, or answered a health check.
    pub fn alive(&mut self, now: Timestamp) {
        self.alive = now;
    }

    /// The relay told of its nodes within the stream.
    pub fn status(&mut self, status: &NodeStatus, now: Timestamp) {
        self.alive = now;
        let (at, reason) = match status.state {
            NodeState::Connected => {
                for name in &status.nodes {
                    if let Some(node) = self.node(name, now) {
                        node.connected.get_or_insert(now);
                    }
                }
                return;
            }
            NodeState::Unavailable => (now, Reason::NodeUnreachable),
            NodeState::Gone => (now, Reason::NodeGone),
            NodeState::Error => (now.saturating_sub(ERROR_DELAY).unwrap_or(now), Reason::NodeError),
            NodeState::Unknown => return,
        };
        for name in &status.nodes {
            self.missing(name, at, now, reason);
        }
    }

    /// From `time` on a node may not have been read.
    fn missing(&mut self, name: &NodeName, time: Timestamp, now: Timestamp, reason: Reason) {
        let since = self.since();
        let Some(node) = self.node(name, now) else { return };
        node.connected = None;
        if let Some((reason, from, to)) = node.missing(time, reason, since) {
            self.gaps.insert(Gap { node: Some(name.clone()), reason, from, to });
        }
    }

    fn since(&self) -> Option<Timestamp> {
        self.stream.as_ref().and_then(|stream| stream.since)
    }

    /// Hubble lost events.
    pub fn lost(&mut self, lost: &LostEvents, now: Timestamp) {
        self.alive = now;
        let (reason, span) = match lost.source {
            LostSource::PerfEventRingBuffer => (Reason::LostPerf, LOST_SPAN),
            LostSource::ObserverEventsQueue => (Reason::LostQueue, LOST_SPAN),
            LostSource::HubbleRingBuffer => (Reason::LostRing, LAPPED_SPAN),
            LostSource::Unknown => (Reason::LostUnknown, LOST_SPAN),
        };
        let (first, to) = lost.noticed.unwrap_or((now, now));
        let earliest = first.saturating_sub(span).unwrap_or(first);
        let known = (!lost.node.as_str().is_empty()).then(|| self.node(&lost.node, now)).flatten();
        let from = match known {
            // Flows that came before the loss was noticed were read before it.
            Some(node) if lost.source == LostSource::HubbleRingBuffer => {
                let before = node.mark_at(first.saturating_sub(2 * LOST_SPAN).unwrap_or(first));
                before.map_or(earliest, |mark| mark.max(earliest)).min(to)
            }
            _ => earliest,
        };
        let node = (!lost.node.as_str().is_empty()).then(|| lost.node.clone());
        self.gaps.insert(Gap { node, reason, from, to });
    }

    /// A message came that could not be decoded.
    pub fn undecodable(&mut self, now: Timestamp) {
        let from = self.alive.saturating_sub(OVERLAP).unwrap_or(now).max(self.from);
        self.gaps.insert(Gap { node: None, reason: Reason::Undecodable, from, to: now });
        self.alive = now;
    }

    /// The relay told of all its nodes. Whether one is back that this stream will not read.
    pub fn vitals(&mut self, all: &[NodeVitals], now: Timestamp) -> bool {
        let before = self.told.unwrap_or(now);
        self.alive = now;
        let (mut listed, mut rotate) = (HashSet::new(), false);
        for vitals in all {
            listed.insert(&vitals.name);
            let began =
                SignedDuration::try_from(vitals.uptime).ok().and_then(|up| now.saturating_sub(up).ok());
            let began = began.unwrap_or(Timestamp::UNIX_EPOCH);
            let connected = vitals.state == NodeState::Connected;
            let Some(node) = self.node(&vitals.name, if connected { began.min(now) } else { now }) else {
                continue;
            };
            node.listed = true;
            if !connected {
                // What came was read before it was lost.
                let read = node.heard.map_or(before, |heard| heard.max(before));
                self.missing(&vitals.name, read, now, Reason::NodeUnreachable);
                continue;
            }
            let old = node.ring;
            if old.is_some_and(|old| began.duration_since(old.began) > BEGAN_ANEW) {
                self.missing(&vitals.name, before, now, Reason::AgentRestart);
            }
            let Some(node) = self.nodes.get_mut(&vitals.name) else { continue };
            node.connected.get_or_insert(now);
            node.ring = Some(Ring {
                began,
                full: vitals.num_flows >= vitals.max_flows,
                seen: vitals.seen_flows,
                grew: old.is_some_and(|old| vitals.seen_flows > old.seen),
            });
            rotate |= node.left;
        }
        let left =
            |(name, node): &(&NodeName, &mut Node)| node.listed && !node.left && !listed.contains(name);
        let mut gone = Vec::new();
        for (name, node) in self.nodes.iter_mut().filter(left) {
            node.left = true;
            gone.push(name.clone());
        }
        for name in gone {
            self.missing(&name, before, now, Reason::NodeGone);
        }
        self.told = Some(now);
        self.retire(now);
        rotate
    }

    /// A node that the relay has not known for long has left the cluster: its time ends.
    fn retire(&mut self, now: Timestamp) {
        let gaps = &mut self.gaps;
        self.nodes.retain(|name, node| {
            let Some((from, reason)) = node.open else { return true };
            let unknown = node.left || reason == Reason::Downtime && !node.listed;
            let away = unknown && node.connected.is_none() && now.duration_since(from) > AWAY;
            if away {
                let to = from.saturating_add(AWAY).unwrap_or(now);
                gaps.insert(Gap { node: Some(name.clone()), reason, from, to });
            }
            !away
        });
    }

    /// The relay lives, but does not tell of its nodes: one of them does not answer. Those that would have
    /// told how far back they reach did so here.
    pub fn partly(&mut self, answered: &FlowTimes, now: Timestamp) {
        let before = self.told.unwrap_or(now);
        let silent = |(name, node): &(&NodeName, &Node)| {
            node.listed && node.connected.is_some() && node.mark.is_some() && !answered.contains_key(*name)
        };
        let read = |node: &Node| node.heard.map_or(before, |heard| heard.max(before));
        let silent: Vec<_> =
            self.nodes.iter().filter(silent).map(|(name, node)| (name.clone(), read(node))).collect();
        for (name, read) in silent {
            self.missing(&name, read, now, Reason::NodeUnreachable);
        }
    }

    /// How far back the rings of the nodes reach now: closes what is open on those that are read again. Whether
    /// one holds more than this stream asked for, as a node may that came later.
    pub fn reached(&mut self, oldest: &FlowTimes, now: Timestamp) -> bool {
        let Some(stream) = &self.stream else { return false };
        let mut rotate = false;
        let told = self.told.is_some_and(|told| told >= stream.opened);
        for (name, node) in &mut self.nodes {
            let Some((from, reason)) = node.open else { continue };
            let read = node.is_read(stream, told);
            if node.left || read.is_none_or(|since| now.duration_since(since) < PICKED_UP) {
                continue;
            }
            let ring = match node.ring {
                Some(ring) if !ring.full && told => Some(ring.began),
                _ => oldest.get(name).copied(),
            };
            let reach = match (ring, node.oldest) {
                (Some(a), Some(b)) => a.min(b),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => continue,
            };
            if stream.since.is_some_and(|since| since > reach.max(from)) {
                node.left = true;
                rotate = true;
                continue;
            }
            // Before the time that was asked for nothing came.
            let to = stream.since.map_or(reach, |since| reach.max(since));
            if to > from {
                self.gaps.insert(Gap { node: Some(name.clone()), reason, from, to });
            }
            node.open = None;
        }
        rotate
    }

    /// Whether there is a node of which it is not known how far back it was read.
    pub fn is_open(&self) -> bool {
        let Some(stream) = &self.stream else { return false };
        let told = self.told.is_some_and(|told| told >= stream.opened);
        self.nodes.values().any(|node| node.open.is_some() && node.is_read(stream, told).is_some())
    }

    /// From when on to ask for flows of nodes that have some, and of which none came lately; `None`: of no node.
    pub fn suspects(&self, now: Timestamp) -> Option<Timestamp> {
        // Long enough ago for a flow to be due, however often the relay is asked.
        let since = self.told?.min(now.saturating_sub(2 * DUE).unwrap_or(now));
        let silent = |node: &Node| {
            node.ring.is_some_and(|ring| ring.grew) && node.heard.is_none_or(|heard| heard < since)
        };
        self.nodes.values().any(silent).then_some(since)
    }

    /// What nodes have since that time. Whether one has a flow that should have come and did not.
    pub fn unheard(&mut self, since: Timestamp, first: &FlowTimes, now: Timestamp) -> bool {
        let mut rotate = false;
        for (name, time) in first {
            let Some(node) = self.nodes.get_mut(name) else { continue };
            let silent =
                node.heard.is_none_or(|heard| heard < since) && node.mark.is_none_or(|mark| mark < *time);
            if silent && now.duration_since(*time) > DUE {
                let from = node.mark.unwrap_or(node.first).min(*time);
                node.open.get_or_insert((from, Reason::Unheard));
                // Only another stream reads it.
                node.left = true;
                rotate = true;
            }
        }
        rotate
    }

    /// The stream ended.
    pub fn ended(&mut self, now: Timestamp) {
        let alive = self.alive.min(now);
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        for name in names {
            // One that was away before is away for that reason still.
            let away = self.nodes.get(&name).is_none_or(|node| node.open.is_some() && node.oldest.is_none());
            if !away {
                self.missing(&name, alive, now, Reason::Reconnect);
            }
        }
        for node in self.nodes.values_mut() {
            node.connected = None;
            node.left = false;
        }
        self.stream = None;
    }

    /// From when on the next stream has to deliver; `None` when there was none before.
    pub fn resume(&self, now: Timestamp) -> Option<Timestamp> {
        let quiet = self.alive.saturating_sub(HIDDEN).unwrap_or(self.alive).max(self.from);
        let away = |from: Timestamp| now.duration_since(from) > AWAY;
        let nodes = self.nodes.values().filter_map(|node| match node.open {
            Some((from, reason)) if reason != Reason::Downtime && node.connected.is_none() && away(from) => {
                None
            }
            Some((from, _)) => Some(from),
            None => Some(node.mark.map_or(quiet, |mark| mark.max(quiet))),
        });
        let first = nodes.min().unwrap_or(quiet);
        (!self.nodes.is_empty()).then(|| first.saturating_sub(OVERLAP).unwrap_or(first))
    }

    /// Up to when each node's flows were delivered.
    pub fn marks(&self) -> Marks {
        let upto = |node: &Node| node.open.map_or_else(|| node.upto(self.alive), |(from, _)| from);
        Marks {
            nodes: self.nodes.iter().map(|(name, node)| (name.clone(), upto(node))).collect(),
            alive: Some(self.alive),
        }
    }

    /// What was watched until now, with what is still open as gaps.
    pub fn coverage(&self, now: Timestamp) -> Coverage {
        let mut gaps = self.gaps.clone();
        for (name, node) in &self.nodes {
            if let Some((from, reason)) = node.open {
                gaps.insert(Gap { node: Some(name.clone()), reason, from, to: now.max(from) });
            }
        }
        if self.stream.is_none() && self.nodes.is_empty() {
            gaps.insert(Gap {
                node: None,
                reason: Reason::Reconnect,
                from: self.from,
                to: now.max(self.from),
            });
        }
        let nodes =
            self.nodes.iter().map(|(name, node)| (name, node.first, node.namespaces.iter().collect()));
        Coverage::new(self.from, now, nodes, gaps)
    }

    /// Nodes that the relay has a connection to, and all that are known.
    pub fn connected(&self) -> (usize, usize) {
        (self.nodes.values().filter(|node| node.connected.is_some()).count(), self.nodes.len())
    }

    /// What was missed for sure so far, without what is still open.
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// How often a node was not watched because there was no room for it in the table.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// A node, known from `begin` on when it is new.
    fn node(&mut self, name: &NodeName, begin: Timestamp) -> Option<&mut Node> {
        if name.as_str().is_empty() {
            return None;
        }
        if !self.nodes.contains_key(name) {
            if self.nodes.len() >= NODES {
                self.refused += 1;
                return None;
            }
            // Those of the first stream were there from the start.
            let at_start = self.begun.is_none_or(|begun| begin.duration_since(begun) < OVERLAP);
            let first = if at_start { self.from } else { begin.max(self.from) };
            self.nodes.insert(name.clone(), Node::new(first, first, Reason::LateJoin));
        }
        self.nodes.get_mut(name)
    }
}

#[cfg(test)]
mod tests;
