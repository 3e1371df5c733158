//! What runs watched, one after the other.

use jiff::Timestamp;

use super::gaps::put;
use super::{Coverage, Gaps};

/// Runs that are kept. Above that the oldest is forgotten: what is said to be watched shrinks.
const RUNS: usize = 1_000;
/// Gaps that are kept.
const GAPS: usize = 10_000;

/// The times that runs watched, and what they missed meanwhile. Joins in any order, and a run counts once.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchLog {
    /// Begin and end, sorted; those that touch are one.
    runs: Vec<(Timestamp, Timestamp)>,
    gaps: Gaps,
}

// === impl WatchLog ===

impl WatchLog {
    /// Adds a run.
    pub fn run(&mut self, from: Timestamp, to: Timestamp) {
        if from > to {
            return;
        }
        put(&mut self.runs, (from, to));
        let beyond = self.runs.len().saturating_sub(RUNS);
        self.runs.drain(..beyond);
    }

    /// Adds another's.
    pub fn join(&mut self, other: &Self) {
        other.runs.iter().for_each(|(from, to)| self.run(*from, *to));
        self.gaps.join(&other.gaps);
    }

    /// Begin and end of each run.
    pub fn runs(&self) -> &[(Timestamp, Timestamp)] {
        &self.runs
    }

    /// What was missed.
    pub fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// What was missed, to add to.
    pub fn gaps_mut(&mut self) -> &mut Gaps {
        &mut self.gaps
    }
}

impl Default for WatchLog {
    fn default() -> Self {
        Self { runs: Vec::new(), gaps: Gaps::new(GAPS) }
    }
}

impl From<&Coverage> for WatchLog {
    fn from(coverage: &Coverage) -> Self {
        let mut log = Self::default();
        log.run(coverage.from, coverage.to);
        log.gaps.join(&coverage.gaps);
        log
    }
}
