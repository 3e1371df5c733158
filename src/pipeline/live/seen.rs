//! Flows that came already. A new stream begins before the end of the old one, and a relay that finds a
//! node again asks it for everything since the begin of the stream: what came twice counts once.

use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::Xxh3Default;

use crate::flow::{Endpoint, Flow};
use crate::names::NodeName;

/// Events that the ring of an agent can hold at most (`hubble.eventBufferCapacity`). A node can send again
/// only what its ring holds, so as many flows are remembered of each.
const LARGEST_RING: usize = 65_535;
/// Flows remembered of all nodes together: about 20 MB when full.
const ALL: usize = 1_000_000;

/// Flows that came already, of each node as many as its ring holds.
#[derive(Debug)]
pub(super) struct Seen {
    nodes: HashMap<NodeName, Generations>,
    kept: usize,
    capacity: usize,
}

/// When the young are as many as the ring holds, they become the old ones, and those before are forgotten.
#[derive(Debug)]
struct Generations {
    young: HashSet<u64>,
    old: HashSet<u64>,
    ring: usize,
}

/// What is known of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It came for the first time.
    New,
    /// It came for the first time; to remember it, others were forgotten that may still come again.
    NewForOthers,
    /// It came already.
    Repeated,
}

// === impl Seen ===

impl Seen {
    /// Remembers a million flows.
    pub(super) fn new() -> Self {
        Self::with(ALL)
    }

    fn with(capacity: usize) -> Self {
        Self { nodes: HashMap::new(), kept: 0, capacity }
    }

    /// The ring of this node holds so many events.
    pub(super) fn ring(&mut self, node: &NodeName, events: u64) {
        let ring = usize::try_from(events).unwrap_or(LARGEST_RING).clamp(1, LARGEST_RING);
        self.node(node).ring = ring;
    }

    /// Whether a flow came already; remembers it.
    pub(super) fn note(&mut self, flow: &Flow) -> Known {
        let key = key(flow);
        let early = self.kept >= self.capacity && self.forget();
        let node = self.node(&flow.node);
        if node.young.contains(&key) {
            return Known::Repeated;
        }
        let repeated = node.old.contains(&key);
        let mut forgotten = 0;
        if node.young.len() >= node.ring {
            forgotten = node.old.len();
            node.old = std::mem::take(&mut node.young);
        }
        node.young.insert(key);
        self.kept = self.kept + 1 - forgotten;
        match (repeated, early) {
            (true, _) => Known::Repeated,
            (false, true) => Known::NewForOthers,
            (false, false) => Known::New,
        }
    }

    /// Makes room where most is kept.
    fn forget(&mut self) -> bool {
        let Some(most) = self.nodes.values_mut().max_by_key(|node| node.young.len() + node.old.len()) else {
            return false;
        };
        let old = std::mem::take(if most.old.is_empty() { &mut most.young } else { &mut most.old });
        self.kept -= old.len();
        true
    }

    fn node(&mut self, name: &NodeName) -> &mut Generations {
        if !self.nodes.contains_key(name) {
            let new = Generations { young: HashSet::new(), old: HashSet::new(), ring: LARGEST_RING };
            self.nodes.insert(name.clone(), new);
        }
        // It is there.
        self.nodes.entry_ref(name).or_insert_with(|| Generations {
            young: HashSet::new(),
            old: HashSet::new(),
            ring: LARGEST_RING,
        })
    }
}

/// What tells one event from another: the agent's id of it, which old agents do not give, and what it says. An
/// event that is read again has both the same.
fn key(flow: &Flow) -> u64 {
    let number = |endpoint: &Option<Arc<Endpoint>>| endpoint.as_ref().map(|e| e.number);
    let mut hasher = Xxh3Default::new();
    (&flow.uuid, flow.time, flow.verdict, flow.event, flow.drop_reason.0, flow.direction).hash(&mut hasher);
    (flow.ip, flow.connection().map(|c| c.0)).hash(&mut hasher);
    // A protocol without ports makes no connection.
    std::mem::discriminant(&flow.l4).hash(&mut hasher);
    (number(&flow.source), number(&flow.destination)).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::live::tests::flow;

    #[test]
    fn a_flow_is_known_by_node_uuid_and_content() {
        let mut seen = Seen::new();
        assert_eq!(seen.note(&flow("n1", "a", 1)), Known::New);
        assert_eq!(seen.note(&flow("n2", "a", 1)), Known::New);
        assert_eq!(seen.note(&flow("n1", "b", 1)), Known::New);
        assert_eq!(seen.note(&flow("n1", "a", 1)), Known::Repeated);
    }

    #[test]
    fn without_a_uuid_everything_that_differs_counts() {
        let mut seen = Seen::new();
        let plain = flow("n1", "", 1);
        let mut other_port = plain.clone();
        other_port.l4 = crate::flow::L4::Udp { source: 1, destination: 2 };
        let mut other_event = plain.clone();
        other_event.event = crate::flow::EventKind::Drop;
        for flow in [&plain, &other_port, &other_event, &flow("n1", "", 2), &flow("n2", "", 1)] {
            assert_eq!(seen.note(flow), Known::New, "{flow:?}");
        }
        assert_eq!(seen.note(&plain), Known::Repeated);
    }

    #[test]
    fn as_many_are_remembered_as_the_ring_holds() {
        let mut seen = Seen::new();
        seen.ring(&NodeName::lossy("n1"), 8);
        let flows: Vec<Flow> = (0..1_000).map(|i| flow("n1", &i.to_string(), i)).collect();
        for (i, one) in flows.iter().enumerate() {
            assert_eq!(seen.note(one), Known::New);
            for known in &flows[(i + 1).saturating_sub(8)..=i] {
                assert_eq!(seen.note(known), Known::Repeated);
            }
        }
        assert!(seen.kept <= 17, "{}", seen.kept);
    }

    #[test]
    fn above_the_capacity_others_are_forgotten_and_that_is_told() {
        let mut seen = Seen::with(100);
        let told = (0..150).filter(|i| seen.note(&flow("n1", &i.to_string(), *i)) == Known::NewForOthers);
        assert_eq!(told.count(), 1);
        for i in 150..10_000 {
            seen.note(&flow(&format!("n{}", i % 7), &i.to_string(), i));
            assert!(seen.kept <= 100, "{}", seen.kept);
        }
    }
}
