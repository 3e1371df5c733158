//! The ledger: every distinct observation with its tally. Joinable in any order.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::sample::Sampled;
use super::{Observation, Tally};
use crate::classify::Proof;
use crate::flow::{Connection, Flow};

/// Verdicts remembered to judge observations that only drop events told; above it a fair sample.
const VERDICTS: usize = 16_384;

/// Observations of one window, of one thread, of one file, or of several of these joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    pub(super) tallies: HashMap<Observation, Tally>,
    /// Connections of policy verdicts, also of those that made no observation.
    pub(super) verdicts: Sampled,
    pub(super) capacity: usize,
}

// === impl Ledger ===

impl Ledger {
    /// A ledger that holds at most so many observations.
    pub fn new(capacity: usize) -> Self {
        Self { tallies: HashMap::new(), verdicts: Sampled::new(VERDICTS), capacity }
    }

    /// Folds in a flow that made this observation; `false` when the ledger is full and the
    /// observation is new: then it was not counted.
    #[must_use]
    pub fn fold(&mut self, observation: Observation, flow: &Flow, proof: Proof) -> bool {
        let full = self.tallies.len() >= self.capacity;
        match self.tallies.entry(observation) {
            Entry::Vacant(_) if full => return false,
            entry => entry.or_default().fold(flow, proof, flow.connection()),
        }
        true
    }

    /// Remembers that the datapath gave its verdict on this connection.
    pub fn note_verdict(&mut self, connection: Connection) {
        self.verdicts.insert(connection.0);
    }

    /// Joins another ledger; gives back what did not fit.
    pub fn join(&mut self, other: Self) -> Vec<(Observation, Tally)> {
        self.verdicts.join(&other.verdicts);
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
                Entry::Vacant(place) => {
                    place.insert(tally);
                }
            }
        }
        refused.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        refused
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
