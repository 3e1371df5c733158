//! What is enforced on one subject, and the decision itself.

use std::sync::Arc;

use super::AllowLocalhost;
use super::decision::{Allowance, Decision, Field, Origins, RuleRef, RuleRefs};
use super::l4::{Names, Traffic};
use super::party::Party;
use super::peer::World;
use super::selector::Match;
use super::set::{Engine, Entry};
use super::side::{Group, Reached, Side};
use crate::flow::{Direction, Reserved};
use crate::policy::spec::Version;

/// What is enforced on one subject.
#[derive(Debug, Clone)]
pub struct Prepared<'e> {
    engine: &'e Engine,
    party: Party,
    ingress: Arc<Side>,
    egress: Arc<Side>,
    conflict: Option<RuleRef<'e>>,
}

/// A peer of a prepared subject, with the rules that reach it.
#[derive(Debug, Clone)]
pub struct Peer<'p> {
    subject: &'p Prepared<'p>,
    party: Party,
    ingress: Vec<Reached>,
    egress: Vec<Reached>,
}

/// The groups that matched, in their order.
#[derive(Default)]
struct Hits {
    deny: Vec<usize>,
    redirect: Vec<usize>,
    allow: Vec<usize>,
    open_deny: Option<(Field, usize)>,
    open_redirect: Option<(Field, usize)>,
    open_allow: Option<(Field, usize)>,
    /// Specs that may select the subject, and then allow this by a rule of their own.
    own: Vec<usize>,
}

// === impl Prepared ===

impl<'e> Prepared<'e> {
    pub(super) fn new(
        engine: &'e Engine,
        party: Party,
        [ingress, egress]: [Arc<Side>; 2],
        conflict: Option<RuleRef<'e>>,
    ) -> Self {
        Self { engine, party, ingress, egress, conflict }
    }

    /// The subject.
    pub fn party(&self) -> &Party {
        &self.party
    }

    /// Whether specs, or the agent's options, put the subject into default deny.
    pub fn is_default_deny(&self, direction: Direction) -> bool {
        let side = self.side(direction);
        side.forced || !side.default_deny.is_empty()
    }

    /// Decides about the first packet of a connection, whose peer is the other end.
    pub fn decide(&self, peer: &Party, direction: Direction, traffic: Traffic) -> Decision<'e> {
        let peer = &*self.engine.options.completed(peer);
        let hits = match self.conflict {
            Some(_) => Hits::default(),
            None => self.hits(direction, peer, traffic, &self.reached(direction, peer)),
        };
        self.conclude(direction, peer, hits, true)
    }

    /// The same, of what reaches the peer. `with_names`: server names count.
    pub(super) fn decide_reached(
        &self,
        peer: &Party,
        direction: Direction,
        traffic: Traffic,
        reached: &[Reached],
        with_names: bool,
    ) -> Decision<'e> {
        self.conclude(direction, peer, self.hits(direction, peer, traffic, reached), with_names)
    }

    /// Prepares one peer for many questions.
    pub fn peer(&self, party: &Party) -> Peer<'_> {
        let party = self.engine.options.completed(party).into_owned();
        let reached = |direction| self.reached(direction, &party);
        let (ingress, egress) = (reached(Direction::Ingress), reached(Direction::Egress));
        Peer { subject: self, party, ingress, egress }
    }

    pub(super) fn engine(&self) -> &'e Engine {
        self.engine
    }

    fn side(&self, direction: Direction) -> &Arc<Side> {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    pub(super) fn reached(&self, direction: Direction, party: &Party) -> Vec<Reached> {
        let world = World { options: &self.engine.options, direction };
        self.side(direction).reached(self.engine.rules(direction), party, world)
    }

    /// What a spec depends on that may select the subject and put it into default deny.
    pub(super) fn maybe_denying(&self, direction: Direction) -> Option<Field> {
        self.side(direction)
            .open
            .iter()
            .find(|(_, default_deny, _)| *default_deny)
            .map(|(_, _, field)| *field)
    }

    /// The entry that stands for a group.
    fn entry(&self, direction: Direction, group: usize) -> &'e Entry {
        &self.engine.rules(direction).entries[self.side(direction).groups[group].first]
    }

    /// Calls `take` with each group that means the packet or may, in their order: the group, the entry that
    /// stands for it, whether it means it, and its number.
    #[inline]
    pub(super) fn each_hit(
        &self,
        direction: Direction,
        peer: &Party,
        traffic: Traffic,
        reached: &[Reached],
        mut take: impl FnMut(&Group, &'e Entry, Match, usize),
    ) {
        let side = self.side(direction);
        let names = Names { options: &self.engine.options, direction, subject: &self.party, peer };
        for Reached { group: number, how } in reached.iter().copied() {
            if side.excludes(number, traffic) {
                continue;
            }
            let (entry, group) = (self.entry(direction, number), &side.groups[number]);
            let how = entry.filter.matches(traffic, names).and(|| how);
            take(group, entry, how, number);
        }
    }

    fn hits(&self, direction: Direction, peer: &Party, traffic: Traffic, reached: &[Reached]) -> Hits {
        let mut hits = Hits::default();
        self.each_hit(direction, peer, traffic, reached, |group, entry, how, number| {
            let redirect = entry.filter.redirects(traffic);
            if group.selected != Match::Yes && how == Match::Yes && !entry.deny {
                hits.own.push(entry.spec);
            }
            match group.selected.and(|| how) {
                Match::No => {}
                Match::Yes if entry.deny => hits.deny.push(number),
                Match::Yes if redirect => hits.redirect.push(number),
                Match::Yes => hits.allow.push(number),
                Match::Unknown(field) if entry.deny => {
                    hits.open_deny = hits.open_deny.or(Some((field, number)))
                }
                Match::Unknown(field) if redirect => {
                    hits.open_redirect = hits.open_redirect.or(Some((field, number)));
                }
                Match::Unknown(field) => hits.open_allow = hits.open_allow.or(Some((field, number))),
            }
        });
        hits
    }

    /// From what matched to the decision. What cannot be checked counts only where it could change it.
    fn conclude(&self, direction: Direction, peer: &Party, hits: Hits, with_names: bool) -> Decision<'e> {
        let refer = |group: usize| self.engine.rule_ref(direction, self.entry(direction, group));
        let open = |(field, group)| Decision::CouldNotCheck { field, rule: Some(refer(group)) };
        if let Some(rule) = self.conflict {
            return Decision::CouldNotCheck { field: Field::Conflict, rule: Some(rule) };
        }
        if !hits.deny.is_empty() {
            return Decision::Denied { rules: self.refs(direction, hits.deny, Vec::new()) };
        }
        if let Some(deny) = hits.open_deny {
            return open(deny);
        }
        let redirect = !hits.redirect.is_empty();
        if redirect || !hits.allow.is_empty() {
            if let (false, Some(other)) = (redirect, hits.open_redirect) {
                return open(other);
            }
            if let Some(unlifted) = self.narrowed(direction, peer, &hits, with_names) {
                return open(unlifted);
            }
            let rules = self.refs(direction, hits.redirect, hits.allow);
            return Decision::Allowed { by: Allowance::Rule, redirect, rules };
        }
        let otherwise = self.unmatched(direction, peer, &hits.own);
        match hits.open_redirect.or(hits.open_allow) {
            Some(other) if hits.open_redirect.is_some() || !otherwise.is_allowed() => open(other),
            _ => otherwise,
        }
    }

    /// What holds when no rule matches. `own`: see [`Hits::own`].
    fn unmatched(&self, direction: Direction, peer: &Party, own: &[usize]) -> Decision<'e> {
        let side = self.side(direction);
        let options = &self.engine.options;
        let selected = side.has_others || !side.default_deny.is_empty();
        let maybe_denying =
            side.open.iter().find(|(spec, default_deny, _)| *default_deny && !own.contains(spec));
        let host = match options.version {
            Version::V1_20 => peer.is(Reserved::Host) && selected,
            _ => peer.is_host(),
        };
        let localhost = host
            && direction == Direction::Ingress
            && options.allow_localhost == AllowLocalhost::Always
            && !self.party.is_host();
        let rules = || self.refs(direction, Vec::new(), Vec::new());
        let allowed = |by| Decision::Allowed { by, redirect: false, rules: rules() };
        if !self.is_default_deny(direction) {
            return match maybe_denying {
                Some((_, _, field)) if !localhost => Decision::CouldNotCheck { field: *field, rule: None },
                _ if selected => allowed(Allowance::NoDefaultDeny),
                _ => Decision::Unselected,
            };
        }
        if localhost {
            return allowed(Allowance::Localhost);
        }
        Decision::DefaultDeny { because: Origins::new(self.engine, Arc::clone(side)) }
    }

    /// What narrows a matching rule beyond layer 4, if no other rule lifts it.
    ///
    /// Authentication holds for every entry below the one that asks for it. Server names are asked for
    /// unless a rule with another peer selector lets the same packet through: rules with one selector
    /// and port are joined, and then ask for the name, all of them.
    fn narrowed(
        &self,
        direction: Direction,
        peer: &Party,
        hits: &Hits,
        with_names: bool,
    ) -> Option<(Field, usize)> {
        let rules = self.engine.rules(direction);
        let entry = |group: usize| self.entry(direction, group);
        let all = || hits.redirect.iter().chain(&hits.allow).copied();
        if let Some(group) = all().find(|n| entry(*n).authentication) {
            return Some((Field::Authentication, group));
        }
        let asking = all().find(|n| with_names && entry(*n).filter.sni)?;
        let world = World { options: &self.engine.options, direction };
        let by = |group: usize| {
            entry(group).peers.0.iter().filter(move |t| rules.tests[**t].matches(peer, world) == Match::Yes)
        };
        let asked: Vec<&usize> = all().filter(|n| entry(*n).filter.sni).flat_map(by).collect();
        let lifted = all().filter(|n| !entry(*n).filter.sni).flat_map(by).any(|test| !asked.contains(&test));
        if lifted { None } else { Some((Field::ServerNames, asking)) }
    }

    fn refs(&self, direction: Direction, first: Vec<usize>, then: Vec<usize>) -> RuleRefs<'e> {
        RuleRefs::new(self.engine, direction, Arc::clone(self.side(direction)), first, then)
    }
}

// === impl Peer ===

impl<'p> Peer<'p> {
    /// As [`Prepared::decide`].
    pub fn decide(&self, direction: Direction, traffic: Traffic) -> Decision<'p> {
        let (subject, party, reached) = self.parts(direction);
        subject.decide_reached(party, direction, traffic, reached, true)
    }

    pub(super) fn parts(&self, direction: Direction) -> (&'p Prepared<'p>, &Party, &[Reached]) {
        let reached = match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        };
        (self.subject, &self.party, reached)
    }
}

#[cfg(test)]
mod tests;
