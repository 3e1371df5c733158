//! Closing windows: which observations stand, and which wait for the verdict of their connection.
//!
//! An observation that only drop events told may have the wrong direction: the agent infers it, and
//! is wrong where the packet's source address is not the pod's. Such an observation waits one more
//! window (in a replay: to the end). When the verdict of one of its connections turns up, under the
//! same observation, the two are one; under another, the drop event was wrong.

use hashbrown::HashSet;

use super::sample::Sampled;
use super::{Addresses, Ledger, Lookups, Observation, Tally};
use crate::classify::Proof;

/// When observations that only drop events told are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settling {
    /// A window of a live stream closes: those that waited one window already.
    Window,
    /// A replay writes in between: none, since a later part of the capture may hold the verdict.
    Interim,
    /// Nothing comes any more: all.
    Final,
}

/// What stays from window to window.
#[derive(Debug)]
pub struct Windows {
    waiting: Ledger,
    /// Verdicts of the window before (live), or of everything so far (replay).
    verdicts: Option<Sampled>,
    /// Likewise the connections of which audit mode let one end pass that no allow rule helps.
    audit_denied: Option<Sampled>,
    confirmed: Confirmed,
}

/// What a closed window gives, each sorted by observation.
#[derive(Debug)]
pub struct Settled {
    /// Observations that stand.
    pub ready: Vec<(Observation, Tally)>,
    /// Observations that only drop events told, while the verdict of the same connection says
    /// something else; and those that audit mode told, while no allow rule helps their connections' other end.
    pub contradicted: Vec<(Observation, Tally)>,
    /// Observations for which there was no room.
    pub refused: Vec<(Observation, Tally)>,
    /// Whose the addresses of the window were.
    pub addresses: Addresses,
    /// The DNS queries of the window.
    pub lookups: Lookups,
}

/// Hashes of observations that stood once, in two generations, so that the memory is bounded and
/// what is seen again stays.
#[derive(Debug, Default)]
struct Confirmed {
    young: HashSet<u64>,
    old: HashSet<u64>,
    capacity: usize,
}

// === impl Windows ===

impl Windows {
    /// Windows of ledgers of this capacity.
    pub fn new(capacity: usize) -> Self {
        Self {
            waiting: Ledger::new(capacity),
            verdicts: None,
            audit_denied: None,
            confirmed: Confirmed { capacity, ..Confirmed::default() },
        }
    }

    /// How many observations wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes observations back whose files could not be written: they come again with the next
    /// window. Gives back what did not fit.
    pub fn rejoin(&mut self, observations: Vec<(Observation, Tally)>) -> Vec<(Observation, Tally)> {
        self.waiting.take_back(observations)
    }

    /// Closes a window.
    pub fn close(&mut self, mut ledger: Ledger, when: Settling) -> Settled {
        let capacity = ledger.capacity;
        let refused = ledger.join(std::mem::replace(&mut self.waiting, Ledger::new(capacity)));
        let Ledger { tallies, verdicts, audit_denied, addresses, lookups, .. } = ledger;
        let mut settled =
            Settled { ready: Vec::new(), contradicted: Vec::new(), refused, addresses, lookups };
        let before = self.verdicts.take();
        let denied_before = self.audit_denied.take();
        let denied_elsewhere = |tally: &Tally| {
            tally
                .connections
                .iter()
                .any(|hash| verdicts.contains(hash) || before.as_ref().is_some_and(|b| b.contains(hash)))
        };
        // Without audit mode the connection would end at its other end.
        let denied_at_other_end = |tally: &Tally| {
            let mut hashes = tally.connections.iter().peekable();
            hashes.peek().is_some()
                && hashes.all(|hash| {
                    audit_denied.contains(hash) || denied_before.as_ref().is_some_and(|b| b.contains(hash))
                })
        };
        for (observation, mut tally) in tallies {
            let against = match tally.proof() {
                Proof::Drop => Some(denied_elsewhere(&tally)),
                Proof::Audit if !tally.passed() => Some(denied_at_other_end(&tally)),
                _ => None,
            };
            let known = tally.stands || against.is_none() || self.confirmed.contains(&observation);
            let against = against.unwrap_or_default();
            let decided = match when {
                Settling::Interim => false,
                Settling::Window => tally.waited || against,
                Settling::Final => true,
            };
            if !known && !decided {
                tally.waited = true;
                self.waiting.put(observation, tally);
            } else if !known && against {
                settled.contradicted.push((observation, tally));
            } else {
                tally.stands = true;
                self.confirmed.insert(&observation);
                settled.ready.push((observation, tally));
            }
        }
        settled.ready.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        settled.contradicted.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self.verdicts = Some(kept(when, before, verdicts));
        self.audit_denied = Some(kept(when, denied_before, audit_denied));
        settled
    }
}

/// What is remembered of connections: of the last window (live), or of everything so far (replay).
fn kept(when: Settling, before: Option<Sampled>, now: Sampled) -> Sampled {
    match (when, before) {
        (Settling::Window, _) | (_, None) => now,
        (Settling::Interim | Settling::Final, Some(mut all)) => {
            all.join(&now);
            all
        }
    }
}

// === impl Confirmed ===

impl Confirmed {
    fn contains(&self, observation: &Observation) -> bool {
        let hash = observation.fingerprint();
        self.young.contains(&hash) || self.old.contains(&hash)
    }

    fn insert(&mut self, observation: &Observation) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(observation.fingerprint());
    }
}

#[cfg(test)]
mod tests;
