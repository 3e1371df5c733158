//! Why each rule exists: what was seen of it, in which sessions, and whether it still stands.
//!
//! One [`Evidence`] belongs to one policy (a subject), in a format of its own (`docs/evidence.md`). Two
//! of them join in any order and any number of times with the same result, as long as no cap is hit:
//! sets are united, and a session that both know counts once. Within a session event counts add up.

mod confidence;
mod entry;
mod file;
mod session;
mod stand_in;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use confidence::{Confidence, Level, confidence};
pub use entry::{Across, Entry, Older, Seen, Standing, State, Times};
pub use file::{EvidenceError, VERSION};
pub use session::{Session, SessionId, Source, SourceKind};
pub use stand_in::stand_in;

use crate::aggregate::Tally;
use crate::policy::{Rule, Subject};

/// The most bytes that one file may have; above it samples and then the oldest rules are left out.
pub const MAX_BYTES: usize = 8 << 20;

/// Everything that is known about the rules of one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Whose policy it is.
    pub subject: Subject,
    /// The sessions that the rules name.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Each rule that was needed once, whether or not it still stands.
    pub rules: BTreeMap<Rule, Entry>,
    /// Rules that the file had no room for, at least.
    pub left_out: u64,
}

/// How much is kept of each rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Sessions told apart; of earlier ones only the sum stays.
    pub sessions: usize,
    /// Sample flows.
    pub samples: usize,
}

/// What two counts of one session make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// The greater one: both tell of the same events, one perhaps of more of them.
    Same,
    /// Their sum: the second one tells of what came after the first.
    More,
}

// === impl Evidence ===

impl Evidence {
    /// Nothing known yet.
    pub fn new(subject: Subject) -> Self {
        Self { subject, sessions: BTreeMap::new(), rules: BTreeMap::new(), left_out: 0 }
    }

    /// Takes in what a session saw of a rule.
    pub fn see(&mut self, rule: &Rule, id: SessionId, source: &Source, tally: &Tally) {
        let session = Session::new(source.clone(), Times { first: tally.first, last: tally.last });
        match self.sessions.get_mut(&id) {
            Some(known) => known.join(session),
            None => {
                self.sessions.insert(id, session);
            }
        }
        self.rules.entry(rule.clone()).or_default().see(id, tally);
    }

    /// Joins what another file says of the same subject.
    pub fn join(&mut self, other: Self, counts: Counts) {
        let Self { subject: _, sessions, rules, left_out } = other;
        for (id, session) in sessions {
            match self.sessions.get_mut(&id) {
                Some(known) => known.join(session),
                None => {
                    self.sessions.insert(id, session);
                }
            }
        }
        for (rule, entry) in rules {
            match self.rules.get_mut(&rule) {
                Some(known) => known.join(entry, counts),
                None => {
                    self.rules.insert(rule, entry);
                }
            }
        }
        self.left_out = self.left_out.max(left_out);
    }

    /// Keeps no more than this of each rule, and no session that no rule names.
    pub fn cut(&mut self, caps: Caps) {
        for entry in self.rules.values_mut() {
            entry.cut(caps);
        }
        let named: BTreeSet<SessionId> =
            self.rules.values().flat_map(|entry| entry.sessions.keys().copied()).collect();
        self.sessions.retain(|id, _| named.contains(id));
    }

    /// The session with the latest flow.
    pub fn latest(&self) -> Option<(SessionId, &Session)> {
        let latest = self.sessions.iter().max_by_key(|(id, session)| (session.times.last, **id))?;
        Some((*latest.0, latest.1))
    }
}

impl Default for Caps {
    fn default() -> Self {
        Self { sessions: 10, samples: 10 }
    }
}
