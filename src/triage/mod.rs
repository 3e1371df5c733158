//! What is written of the needs that are new: not what an identity that was not spread yet asked for, not
//! what was seen too seldom or too shortly, not one address after the other of a whole internet.
//!
//! What is left out is transient (its flows are counted, it comes again if it lasts), pending (kept until it
//! was seen often and long enough) or held back (reported with what could be written instead). Within a
//! window the order of observations makes no difference. Between windows it does for two things: an
//! address that was written before it was known as a pod's, and addresses that were written before their
//! number went over the limit.

mod pending;
mod race;
mod world;

use std::collections::BTreeSet;

use ipnet::IpNet;
use jiff::SignedDuration;

pub use pending::{Events, Lacks, Pending};
pub use world::{Crowd, Crowds};

use crate::aggregate::{Addresses, Observation, Observed};
use crate::classify::Skip;
use crate::flow::{Direction, Identity};
use crate::policy::{Allow, Subject};

/// Addresses of pods that are remembered: about 20 MB when full.
const ADDRESSES: usize = 65_536;

/// How careful a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caution {
    /// Addresses outside of the cluster that a subject may have on one port, in one direction; `None`: any
    /// number.
    pub world_limit: Option<usize>,
    /// Connections over which a need must have been seen; up to 63 can be told apart.
    pub min_connections: u64,
    /// What must lie between the first and the last sight of a need, by the clocks of the nodes.
    pub settle: SignedDuration,
}

/// What triage has to know of the files.
pub trait Standing {
    /// Whose policy it would go to; `None` when it cannot be named.
    fn subject(&mut self, observation: &Observation) -> Option<Subject>;
    /// Whether every rule that would be written for it stands already; also where none can be written.
    fn stands(&mut self, observation: &Observation) -> bool;
    /// The addresses and ranges that a subject's rules name for this.
    fn ranges(&mut self, subject: &Subject, direction: Direction, allow: Allow) -> BTreeSet<IpNet>;
    /// Whether rules would name both by the same labels.
    fn are_alike(&self, one: &Identity, other: &Identity) -> bool;
}

/// What stays from window to window.
#[derive(Debug)]
pub struct Triage {
    caution: Caution,
    addresses: Addresses,
    pending: Pending,
    crowds: Crowds,
}

/// What became of the observations of a window.
#[derive(Debug, Default)]
pub struct Sorted {
    /// These are to be written, in the order of before.
    pub write: Vec<Observed>,
    /// Flows that nothing more becomes of, by reason.
    pub skipped: Vec<(Skip, u64)>,
    /// Crowds of addresses that are held back since this window.
    pub new_crowds: Vec<Crowd>,
}

// === impl Caution ===

impl Default for Caution {
    fn default() -> Self {
        Self { world_limit: Some(5), min_connections: 1, settle: SignedDuration::ZERO }
    }
}

impl Caution {
    /// Whether a need can be pending.
    pub fn waits(&self) -> bool {
        self.min_connections > 1 || self.settle > SignedDuration::ZERO
    }
}

// === impl Triage ===

impl Triage {
    /// So careful; `pending` is what an earlier run left.
    pub fn new(caution: Caution, pending: Pending) -> Self {
        Self { caution, addresses: Addresses::new(ADDRESSES), pending, crowds: Crowds::default() }
    }

    /// How careful.
    pub fn caution(&self) -> Caution {
        self.caution
    }

    /// Remembers whose the addresses of a window were.
    pub fn saw(&mut self, addresses: Addresses) {
        self.addresses.join(addresses);
    }

    /// Joins what is pending with what was seen again of it, so that it is judged as a whole. With `all` also
    /// what was not seen again: it may stand in a file by now.
    pub fn take_up(&mut self, ready: &mut Vec<Observed>, all: bool) {
        self.pending.take_up(ready, all);
    }

    /// Decides on needs that nothing else has decided. What is pending is kept.
    pub fn sort(&mut self, new: Vec<Observed>, standing: &mut impl Standing) -> Sorted {
        let mut sorted = Sorted::default();
        let passing = self.addresses.passing();
        let mut ripe = Vec::with_capacity(new.len());
        for observed in new {
            let (observation, tally) = &observed;
            if let Some(skip) = race::race(&observed, &self.addresses, &passing, standing) {
                sorted.skipped.push((skip, tally.events()));
            } else if !Lacks::of(tally, &self.caution).is_nothing() && !standing.stands(observation) {
                if let Err(flows) = self.pending.keep(observed) {
                    sorted.skipped.push((Skip::PendingFull, flows));
                }
            } else {
                ripe.push(observed);
            }
        }
        match self.caution.world_limit {
            Some(limit) => self.crowds.sort(ripe, limit, standing, &mut sorted),
            None => sorted.write = ripe,
        }
        sorted.write.iter_mut().for_each(|observed| self.pending.credit(observed));
        self.pending.forget();
        sorted
    }

    /// What is pending.
    pub fn pending(&self) -> &Pending {
        &self.pending
    }

    /// What is held back for its number of addresses.
    pub fn crowds(&self) -> &Crowds {
        &self.crowds
    }

    /// Whether some addresses of pods are not known for want of room.
    pub fn is_cut(&self) -> bool {
        self.addresses.is_cut()
    }
}

#[cfg(test)]
mod tests;
