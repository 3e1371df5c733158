//! The ledger: every distinct observation with its tally. Joinable in any order.
//!
//! Who opens connections makes observations, so a scanner could take all the room for itself. Each source
//! gets a part of it at most, and the others are still learned.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::sample::Sampled;
use super::{Addresses, Lookup, Lookups, Observation, ObservedPeer, Tally};
use crate::classify::Proof;
use crate::flow::{Connection, Direction, Flow, Identity};
use crate::policy::Entity;

/// Verdicts remembered to judge observations that only drop events told; above it a fair sample.
const VERDICTS: usize = 16_384;
/// Addresses of pods remembered in one window.
const ADDRESSES: usize = 32_768;
/// One source gets this part of the room at most.
const SHARES: usize = 4;

/// Observations of one window, of one thread, of one file, or of several of these joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    pub(super) tallies: HashMap<Observation, Tally>,
    /// How many of them each source has.
    sources: HashMap<Source, usize>,
    /// Connections of policy verdicts, also of those that made no observation.
    pub(super) verdicts: Sampled,
    pub(super) addresses: Addresses,
    /// Connections that audit mode let pass although a deny rule forbids them, or that wait for authentication.
    pub(super) audit_denied: Sampled,
    /// DNS queries, which passed or were refused.
    pub(super) lookups: Lookups,
    pub(super) capacity: usize,
}

/// Whether an observation found room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It is counted.
    Found,
    /// The ledger is full.
    Full,
    /// The one who opens these connections has used up his share.
    ShareUsed,
}

/// Who opens the connections of an observation. Everything outside of the cluster is one source: an
/// address costs nothing there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Pod(Arc<Identity>),
    Entity(Entity),
    World,
}

// === impl Source ===

impl Source {
    fn of(observation: &Observation) -> Self {
        match (observation.direction, &observation.peer) {
            (Direction::Egress, _) => Self::Pod(Arc::clone(&observation.subject)),
            (Direction::Ingress, ObservedPeer::Pod(identity)) => Self::Pod(Arc::clone(identity)),
            (Direction::Ingress, ObservedPeer::Entity(entity)) => Self::Entity(*entity),
            (Direction::Ingress, ObservedPeer::World(_) | ObservedPeer::Named { .. }) => Self::World,
        }
    }
}

// === impl Ledger ===

impl Ledger {
    /// A ledger that holds at most so many observations, and a quarter of them from one source.
    pub fn new(capacity: usize) -> Self {
        Self {
            tallies: HashMap::new(),
            sources: HashMap::new(),
            verdicts: Sampled::new(VERDICTS),
            addresses: Addresses::new(ADDRESSES),
            audit_denied: Sampled::new(VERDICTS),
            lookups: Lookups::default(),
            capacity,
        }
    }

    /// Folds in a flow that made this observation. One that is new and finds no room is not counted.
    #[must_use]
    pub fn fold(&mut self, observation: Observation, flow: &Flow, proof: Proof) -> Room {
        let full = self.tallies.len() >= self.capacity;
        match self.tallies.entry(observation) {
            Entry::Vacant(_) if full => return Room::Full,
            Entry::Vacant(place) => {
                if !count(&mut self.sources, self.capacity, place.key()) {
                    return Room::ShareUsed;
                }
                place.insert(Tally::default()).fold(flow, proof, flow.connection());
            }
            Entry::Occupied(mut known) => known.get_mut().fold(flow, proof, flow.connection()),
        }
        Room::Found
    }

    /// Remembers that the datapath gave its verdict on this connection.
    pub fn note_verdict(&mut self, connection: Connection) {
        self.verdicts.insert(connection.0);
    }

    /// Remembers whose the addresses of this flow are, whether or not it makes an observation.
    pub fn note_addresses(&mut self, flow: &Flow) {
        self.addresses.note(flow);
    }

    /// Remembers that one end of this connection passed only because of audit mode, and that no allow rule
    /// helps it.
    pub fn note_audit_denied(&mut self, connection: Connection) {
        self.audit_denied.insert(connection.0);
    }

    /// Folds in a query that passed the DNS proxy; `false` when something had no room.
    pub fn note_lookup(&mut self, lookup: Lookup, flow: &Flow) -> bool {
        self.lookups.fold(lookup, flow)
    }

    /// Folds in a query that the DNS proxy refused; `false` when something had no room.
    pub fn note_refused(&mut self, lookup: Lookup, flow: &Flow) -> bool {
        self.lookups.refuse(lookup, flow)
    }

    /// Joins another ledger; gives back what did not fit.
    pub fn join(&mut self, other: Self) -> Vec<(Observation, Tally)> {
        self.verdicts.join(&other.verdicts);
        self.addresses.join(other.addresses);
        self.audit_denied.join(&other.audit_denied);
        self.lookups.join(other.lookups);
        self.take_back(other.tallies)
    }

    /// Adds observations that were taken out before; gives back what did not fit, sorted.
    pub fn take_back(
        &mut self,
        observations: impl IntoIterator<Item = (Observation, Tally)>,
    ) -> Vec<(Observation, Tally)> {
        let mut refused = Vec::new();
        for (observation, tally) in observations {
            let full = self.tallies.len() >= self.capacity;
            match self.tallies.entry(observation) {
                Entry::Occupied(mut known) => known.get_mut().join(tally),
                Entry::Vacant(place) if full => refused.push((place.into_key(), tally)),
                Entry::Vacant(place) if !count(&mut self.sources, self.capacity, place.key()) => {
                    refused.push((place.into_key(), tally));
                }
                Entry::Vacant(place) => {
                    place.insert(tally);
                }
            }
        }
        refused.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        refused
    }

    /// Puts back an observation that was in a ledger of this capacity a moment ago.
    pub(super) fn put(&mut self, observation: Observation, tally: Tally) {
        *self.sources.entry(Source::of(&observation)).or_default() += 1;
        self.tallies.insert(observation, tally);
    }

    /// All observations with their tallies, sorted.
    pub fn sorted(&self) -> Vec<(&Observation, &Tally)> {
        let mut all: Vec<_> = self.tallies.iter().collect();
        all.sort_unstable_by_key(|(observation, _)| *observation);
        all
    }

    /// How many observations it holds.
    pub fn len(&self) -> usize {
        self.tallies.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.tallies.is_empty()
    }
}

/// Counts one more observation for its source, unless that has its share.
fn count(sources: &mut HashMap<Source, usize>, capacity: usize, observation: &Observation) -> bool {
    let held = sources.entry(Source::of(observation)).or_default();
    let room = *held < capacity.div_ceil(SHARES);
    *held += usize::from(room);
    room
}
