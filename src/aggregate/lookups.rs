//! DNS queries: whom a workload asks, for which names, and which of these the DNS proxy refused. A query
//! that passed is no need; it tells what a rule for the resolver must not break.
//!
//! Joinable in any order, like the ledger that it is a part of. Where there is no room, what is smallest
//! by subject and by name stays, which a join of any parts keeps alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Observation, ObservedPeer, Request, Tally, observation};
use crate::classify::Proof;
use crate::flow::{Direction, Flow, Identity, L7Record, Port, Protocol};
use crate::names::DnsName;
use crate::policy::Allow;

/// Names kept of one subject, asked (of each resolver) and refused.
const NAMES: usize = 1_000;
/// Resolvers kept of one subject.
const RESOLVERS: usize = 32;
/// Names kept in all, asked and refused each; about 60 MB each when full.
const ALL_NAMES: usize = 50_000;
/// Samples kept of each name: of queries one tells as much as ten.
const SAMPLES: usize = 1;

/// Who answers DNS queries, and on which port: that of the backend. A resolver listens on it by UDP and
/// by TCP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resolver {
    /// Who it is; never [`ObservedPeer::Named`].
    pub peer: ObservedPeer,
    /// The port that the query goes to.
    pub port: Port,
}

/// A query as one flow tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The pod that asks.
    pub subject: Arc<Identity>,
    /// Whom it asks.
    pub resolver: Resolver,
    /// What for; `None` where no policy can hold the name.
    pub name: Option<DnsName>,
}

/// Everything that is known of queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Lookups {
    resolvers: Kept<Resolver>,
    names: Kept<(DnsName, Resolver)>,
    refused: Kept<DnsName>,
    /// Queries that passed, for names that no policy can hold.
    unusable: u64,
}

/// Keys of each subject, the smallest ones.
#[derive(Debug, Clone, PartialEq)]
struct Kept<K> {
    subjects: BTreeMap<Arc<Identity>, BTreeMap<K, Tally>>,
    len: usize,
    each: usize,
    all: usize,
    /// Something had no room.
    cut: bool,
}

// === impl Lookup ===

impl Lookup {
    /// The query that a record of the DNS proxy tells; `None` where no policy of ours is asked, since the
    /// subject is no pod or an end is not known.
    pub fn of(flow: &Flow) -> Option<Self> {
        let L7Record::Dns { query, .. } = &flow.l7.as_deref()?.record else { return None };
        let seen = observation::observe(flow, Direction::Egress).ok()?;
        Some(Self { resolver: Resolver::of(&seen)?, subject: seen.subject, name: query.clone() })
    }
}

// === impl Resolver ===

impl Resolver {
    /// The other end of an observation, on its port.
    pub fn of(observation: &Observation) -> Option<Self> {
        let Allow::Port(Protocol::Udp | Protocol::Tcp, port) = observation.allow else { return None };
        let peer = match &observation.peer {
            ObservedPeer::Named { address, .. } => ObservedPeer::World(*address),
            other => other.clone(),
        };
        Some(Self { peer, port })
    }

    /// A query of this subject for a name, as an observation.
    pub fn asked(&self, subject: &Arc<Identity>, name: &DnsName) -> Observation {
        Observation {
            subject: Arc::clone(subject),
            direction: Direction::Egress,
            peer: self.peer.clone(),
            allow: Allow::Port(Protocol::Udp, self.port),
            request: Some(Request::Dns(name.clone())),
        }
    }
}

// === impl Lookups ===

impl Default for Lookups {
    fn default() -> Self {
        Self::with_room(NAMES, ALL_NAMES)
    }
}

impl Lookups {
    /// Room for so many names of each subject, and of all.
    fn with_room(each: usize, all: usize) -> Self {
        Self {
            resolvers: Kept::new(RESOLVERS.min(each), all),
            names: Kept::new(each, all),
            refused: Kept::new(each, all),
            unusable: 0,
        }
    }

    /// Folds in a query that passed; `false` when something had no room.
    pub fn fold(&mut self, lookup: Lookup, flow: &Flow) -> bool {
        let Lookup { subject, resolver, name } = lookup;
        let fold = |tally: &mut Tally| {
            tally.fold_sampled(flow, Proof::Verdict, flow.connection(), SAMPLES);
        };
        let room = self.resolvers.add(&subject, resolver.clone(), fold);
        match name {
            Some(name) => self.names.add(&subject, (name, resolver), fold) && room,
            None => {
                self.unusable += flow.count;
                room
            }
        }
    }

    /// Folds in a query that the proxy refused; `false` when something had no room.
    pub fn refuse(&mut self, lookup: Lookup, flow: &Flow) -> bool {
        let Some(name) = lookup.name else { return true };
        self.refused.add(&lookup.subject, name, |tally| {
            tally.fold_sampled(flow, Proof::Verdict, flow.connection(), SAMPLES);
        })
    }

    /// A subject tried to reach this resolver: that much is known without a query.
    pub fn tried(&mut self, subject: &Arc<Identity>, resolver: Resolver, tally: &Tally) {
        self.resolvers.add(subject, resolver, |known| known.join_sampled(tally.clone(), SAMPLES));
    }

    /// Joins another part.
    pub fn join(&mut self, other: Self) {
        let Self { resolvers, names, refused, unusable } = other;
        self.resolvers.join(resolvers);
        self.names.join(names);
        self.refused.join(refused);
        self.unusable += unusable;
    }

    /// The subjects that asked, tried to ask, or were refused.
    pub fn subjects(&self) -> impl Iterator<Item = &Arc<Identity>> {
        self.resolvers.subjects.keys().chain(self.names.subjects.keys())
    }

    /// The resolvers of a subject, with the queries and the tries.
    pub fn resolvers(&self, subject: &Arc<Identity>) -> impl Iterator<Item = (&Resolver, &Tally)> {
        self.resolvers.subjects.get(subject).into_iter().flatten()
    }

    /// The names that a subject asked for and was let through with, and whom it asked.
    pub fn names(&self, subject: &Arc<Identity>) -> impl Iterator<Item = (&DnsName, &Resolver, &Tally)> {
        let all = self.names.subjects.get(subject).into_iter().flatten();
        all.map(|((name, resolver), tally)| (name, resolver, tally))
    }

    /// The names that the proxy refused.
    pub fn refused(&self) -> impl Iterator<Item = (&Arc<Identity>, &DnsName, &Tally)> {
        let all = self.refused.subjects.iter();
        all.flat_map(|(subject, names)| names.iter().map(move |(name, tally)| (subject, name, tally)))
    }

    /// Forgets how often and when this subject asked for this name, but not that it did: it is told.
    pub fn told(&mut self, subject: &Arc<Identity>, name: &DnsName) {
        for ((known, _), tally) in self.names.subjects.get_mut(subject).into_iter().flatten() {
            if known == name {
                *tally = Tally::default();
            }
        }
    }

    /// Queries that passed, for names that no policy can hold.
    pub fn unusable(&self) -> u64 {
        self.unusable
    }

    /// Whether something had no room.
    pub fn is_cut(&self) -> bool {
        self.resolvers.cut || self.names.cut || self.refused.cut
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::with_room(self.names.each, self.names.all)
    }
}

// === impl Kept ===

impl<K: Ord> Kept<K> {
    fn new(each: usize, all: usize) -> Self {
        Self { subjects: BTreeMap::new(), len: 0, each, all, cut: false }
    }

    /// Adds to the tally of a key; `false` when that or another one has no room any more.
    fn add(&mut self, subject: &Arc<Identity>, key: K, fold: impl FnOnce(&mut Tally)) -> bool {
        if !self.subjects.contains_key(subject) {
            self.subjects.insert(Arc::clone(subject), BTreeMap::new());
        }
        let Some(keys) = self.subjects.get_mut(subject) else { return false };
        let before = keys.len();
        fold(keys.entry(key).or_default());
        let mut fits = true;
        if keys.len() > self.each {
            keys.pop_last();
            fits = false;
        }
        self.len += keys.len() - before;
        if self.len > self.all {
            self.pop();
            fits = false;
        }
        self.cut |= !fits;
        fits
    }

    /// Takes the last key of the last subject out.
    fn pop(&mut self) {
        let Some(mut last) = self.subjects.last_entry() else { return };
        last.get_mut().pop_last();
        if last.get().is_empty() {
            last.remove();
        }
        self.len -= 1;
    }

    fn join(&mut self, other: Self) {
        self.cut |= other.cut;
        for (subject, keys) in other.subjects {
            for (key, tally) in keys {
                self.add(&subject, key, |known| known.join_sampled(tally, SAMPLES));
            }
        }
    }
}

#[cfg(test)]
mod tests;
