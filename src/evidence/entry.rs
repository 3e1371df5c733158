//! What is known about one rule.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Caps, Counts, SessionId};
use crate::aggregate::{CONNECTIONS, NODES, SAMPLES, Sample, Smallest, Tally, join_samples};
use crate::flow::Connection;
use crate::names::NodeName;

/// What is known about one rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// What each session saw of it.
    pub sessions: BTreeMap<SessionId, Seen>,
    /// What the sessions saw that are no longer told apart.
    pub older: Older,
    /// The different connections, of all sessions.
    pub connections: Smallest<CONNECTIONS>,
    /// The nodes that reported it; the smallest by name.
    pub nodes: BTreeSet<NodeName>,
    /// For the smallest connections the earliest flow of each, by connection.
    pub samples: Vec<(Connection, Sample)>,
    /// The first and the last time that cpg put it into a file.
    pub written: Times,
    /// Whether it stands in a file, as far as was looked.
    pub standing: Option<Standing>,
    /// It was written for this rule of the other end, not for a flow that was dropped here. Safe to print.
    pub inferred: Option<Box<str>>,
    /// What the other end's policies said of it when they were asked; `None`: they were not.
    pub across: Option<Across>,
}

/// What the other end's policies say of a rule. Of two the later one counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Across {
    /// Since when they say so (by the clock of the cpg that asked).
    pub since: Timestamp,
    /// Why they do not let it through; `None`: they do. Safe to print.
    pub closed: Option<Box<str>>,
}

/// What one session saw of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Policy-verdict events.
    pub verdict_events: u64,
    /// Drop events.
    pub drop_events: u64,
    /// Policy-verdict events of audit mode.
    pub audit_events: u64,
    /// Policy-verdict events of connections that passed.
    pub allowed_events: u64,
    /// Traces of connections that passed: several of each packet.
    pub traces: u64,
    /// When.
    pub times: Times,
}

/// The sum of sessions that are no longer told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Older {
    /// How many they were.
    pub sessions: u64,
    /// What they saw together.
    pub seen: Seen,
}

/// The first and the last time of something; unknown where no flow had a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// The first.
    pub first: Option<Timestamp>,
    /// The last.
    pub last: Option<Timestamp>,
}

/// Whether a rule stands, and since when that is known (by the clock of the cpg that looked). Of two the
/// later one counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Standing {
    /// When it was seen first.
    pub since: Timestamp,
    /// What was seen.
    pub state: State,
}

/// Whether a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// In the policy of its subject, as it would be written.
    Written,
    /// Another rule of the directory allows it: this one.
    Covered(Box<str>),
    /// Nothing in the directory allows it any more: somebody removed or narrowed it.
    Gone,
}

// === impl Entry ===

impl Entry {
    /// Takes in what a session saw.
    pub(super) fn see(&mut self, id: SessionId, tally: &Tally) {
        let times = Times { first: tally.first, last: tally.last };
        let seen = Seen {
            verdict_events: tally.verdict_events,
            drop_events: tally.drop_events,
            audit_events: tally.audit_events,
            allowed_events: tally.allowed_events,
            traces: tally.traces + tally.traces_of_other_end,
            times,
        };
        self.join(
            Self {
                sessions: BTreeMap::from([(id, seen)]),
                connections: tally.connections.clone(),
                nodes: tally.nodes.clone(),
                samples: tally.samples.clone(),
                ..Self::default()
            },
            Counts::More,
        );
    }

    pub(super) fn join(&mut self, other: Self, counts: Counts) {
        let Self { sessions, older, connections, nodes, samples, written, standing, inferred, across } =
            other;
        for (id, seen) in sessions {
            self.sessions.entry(id).or_default().join(seen, counts);
        }
        self.older.sessions = self.older.sessions.max(older.sessions);
        self.older.seen.join(older.seen, Counts::Same);
        self.connections.join(&connections);
        self.nodes.extend(nodes);
        while self.nodes.len() > NODES {
            self.nodes.pop_last();
        }
        join_samples(&mut self.samples, samples, SAMPLES);
        self.written.join(written);
        if standing > self.standing {
            self.standing = standing;
        }
        self.across = self.across.take().max(across);
        self.inferred = match (self.inferred.take(), inferred) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    pub(super) fn cut(&mut self, caps: Caps) {
        self.samples.truncate(caps.samples);
        while self.sessions.len() > caps.sessions {
            let earliest = self.sessions.iter().min_by_key(|(id, seen)| (seen.times.last, **id));
            let Some(id) = earliest.map(|(id, _)| *id) else { return };
            if let Some(seen) = self.sessions.remove(&id) {
                self.older.sessions += 1;
                self.older.seen.join(seen, Counts::More);
            }
        }
    }

    /// What all sessions saw together.
    pub fn seen(&self) -> Seen {
        let mut all = self.older.seen;
        for seen in self.sessions.values() {
            all.join(*seen, Counts::More);
        }
        all
    }

    /// Packets, at least: a denied packet makes a verdict event and a drop event; of what only traces told,
    /// each connection counts as one.
    pub fn packets(&self) -> u64 {
        let seen = self.seen();
        seen.verdicts().max(seen.drop_events).max(self.connections.count().min(seen.traces))
    }

    /// Takes down what was found when the policies were looked at. The time stays as long as what it says
    /// does.
    pub fn stands(&mut self, state: State, now: Timestamp) {
        match (&mut self.standing, state) {
            (Some(Standing { state: State::Covered(by), .. }), State::Covered(now_by)) => *by = now_by,
            (Some(known), state) if known.state == state => {}
            (standing, state) => *standing = Some(Standing { since: now, state }),
        }
    }

    /// Takes down what the other end's policies say. The time stays as long as what they say does; that they
    /// let it through is only worth telling after they did not.
    pub fn is_across(&mut self, closed: Option<&str>, now: Timestamp) {
        let known = self.across.as_ref().and_then(|across| across.closed.as_deref());
        if known != closed {
            self.across = Some(Across { since: now, closed: closed.map(Box::from) });
        }
    }

    /// Since when nothing allows it any more; `None` while something does.
    pub fn orphan_since(&self) -> Option<Timestamp> {
        self.standing.as_ref().filter(|standing| standing.state == State::Gone).map(|s| s.since)
    }
}

// === impl Seen ===

impl Seen {
    /// Policy-verdict events, whatever they said.
    pub fn verdicts(&self) -> u64 {
        self.verdict_events.saturating_add(self.audit_events).saturating_add(self.allowed_events)
    }

    /// Its events by kind, each with its word; those of passing traffic only where there are some.
    pub fn kinds(&self) -> Vec<(&'static str, u64)> {
        let passing =
            [("audited", self.audit_events), ("allowed", self.allowed_events), ("traces", self.traces)];
        let dropped = [("verdicts", self.verdict_events), ("drops", self.drop_events)];
        dropped.into_iter().chain(passing.into_iter().filter(|(_, n)| *n > 0)).collect()
    }

    fn join(&mut self, other: Self, counts: Counts) {
        let both = |a: u64, b: u64| match counts {
            Counts::Same => a.max(b),
            Counts::More => a.saturating_add(b),
        };
        self.verdict_events = both(self.verdict_events, other.verdict_events);
        self.drop_events = both(self.drop_events, other.drop_events);
        self.audit_events = both(self.audit_events, other.audit_events);
        self.allowed_events = both(self.allowed_events, other.allowed_events);
        self.traces = both(self.traces, other.traces);
        self.times.join(other.times);
    }
}

// === impl Times ===

impl Times {
    /// One moment.
    pub fn at(time: Timestamp) -> Self {
        Self { first: Some(time), last: Some(time) }
    }

    pub(super) fn join(&mut self, other: Self) {
        self.first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.last = self.last.max(other.last);
    }
}
