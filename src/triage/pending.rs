//! Needs that were not seen often or long enough yet.

use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;

use super::Caution;
use crate::aggregate::{Observation, Observed, Tally};
use crate::text::count;

/// Needs that are kept: up to 60 MB when each was seen over ten connections or more.
const MOST: usize = 20_000;

/// What is kept until it was seen again. A need is in here or under way through the stages, never both.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    needs: BTreeMap<Observation, Tally>,
    /// Verdict and drop events that earlier runs saw of a need that is not written yet: they are in the
    /// counters of those runs, and are evidence when it is written.
    earlier: BTreeMap<Observation, Events>,
    revision: u64,
}

/// Policy-verdict events and drop events.
pub type Events = (u64, u64);

/// What a need lacks to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lacks {
    /// Connections over which it was seen and must be seen, where these are too few.
    pub connections: Option<(u64, u64)>,
    /// What lies between its first and last sight and what must, where this is too short. The first is `None`
    /// where its flows have no time.
    pub settle: Option<(Option<SignedDuration>, SignedDuration)>,
}

// === impl Pending ===

impl Pending {
    /// What an earlier run left, with the events that it saw; what there is no room for is left out, from the
    /// end.
    pub fn carried(needs: impl IntoIterator<Item = (Observation, Tally, Events)>) -> Self {
        let mut pending = Self::default();
        for (observation, tally, events) in needs {
            pending.earlier.insert(observation.clone(), events);
            pending.put(observation, tally);
            if pending.needs.len() > MOST {
                pending.needs.pop_last();
                pending.earlier.pop_last();
            }
        }
        pending
    }

    /// Takes out what was seen again and joins it; with `all` the rest too.
    pub(super) fn take_up(&mut self, ready: &mut Vec<Observed>, all: bool) {
        if self.needs.is_empty() {
            return;
        }
        for (observation, tally) in ready.iter_mut() {
            if let Some(before) = self.needs.remove(observation) {
                tally.join(before);
                self.revision += 1;
            }
        }
        if all {
            ready.extend(std::mem::take(&mut self.needs));
            ready.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            self.revision += 1;
        }
    }

    /// Keeps one; gives its flows back when there is no room.
    pub(super) fn keep(&mut self, (observation, tally): Observed) -> Result<(), u64> {
        if self.needs.len() >= MOST && !self.needs.contains_key(&observation) {
            self.earlier.remove(&observation);
            return Err(tally.events());
        }
        self.put(observation, tally);
        Ok(())
    }

    fn put(&mut self, observation: Observation, tally: Tally) {
        self.needs.entry(observation).or_default().join(tally);
        self.revision += 1;
    }

    /// Adds what earlier runs saw to a need that is written.
    pub(super) fn credit(&mut self, (observation, tally): &mut Observed) {
        if let Some((verdicts, drops)) = self.earlier.remove(observation) {
            tally.verdict_events += verdicts;
            tally.drop_events += drops;
        }
    }

    /// Forgets what earlier runs saw of needs that are kept no more.
    pub(super) fn forget(&mut self) {
        let needs = &self.needs;
        self.earlier.retain(|observation, _| needs.contains_key(observation));
    }

    /// Each need, sorted, with the events that this run and those before it saw.
    pub fn iter(&self) -> impl Iterator<Item = (&Observation, &Tally, Events)> {
        self.needs.iter().map(|(observation, tally)| {
            let (verdicts, drops) = self.earlier.get(observation).copied().unwrap_or_default();
            (observation, tally, (verdicts + tally.verdict_events, drops + tally.drop_events))
        })
    }

    /// Another number whenever something in it may be other.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.needs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.needs.is_empty()
    }
}

// === impl Lacks ===

impl Lacks {
    /// What a need with this tally lacks.
    pub fn of(tally: &Tally, caution: &Caution) -> Self {
        let seen = tally.connections.count();
        let connections = (seen < caution.min_connections).then_some((seen, caution.min_connections));
        let lasted = tally.first.zip(tally.last).map(|(first, last)| last.duration_since(first));
        let settled = caution.settle == SignedDuration::ZERO || lasted.is_some_and(|l| l >= caution.settle);
        Self { connections, settle: (!settled).then_some((lasted, caution.settle)) }
    }

    /// Whether it can be written.
    pub fn is_nothing(&self) -> bool {
        self.connections.is_none() && self.settle.is_none()
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some((seen, wanted)) = self.connections {
            parts.push(format!("seen over {seen} of {}", count(wanted, "connection")));
        }
        match self.settle {
            Some((Some(lasted), settle)) => {
                parts.push(format!("seen again after {lasted:#} and not after {settle:#} yet"));
            }
            Some((None, _)) => parts.push("its flows have no time".to_owned()),
            None => {}
        }
        f.write_str(&parts.join("; "))
    }
}
