//! One direction of what is enforced on a subject: rules that are alike, joined, and whom they mean.

use std::ops::Range;

use super::Field;
use super::l4::{self, Traffic};
use super::party::Party;
use super::peer::{PeerTest, World};
use super::selector::{Match, Selector};
use super::set::Rules;

/// What is enforced in one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    /// In the order of their first entries.
    pub(super) groups: Vec<Group>,
    /// The specs that put the subject into default deny.
    pub(super) default_deny: Vec<usize>,
    /// There are specs with rules that do not.
    pub(super) has_others: bool,
    /// Specs that may select the subject, whether they would put it into default deny, and what it
    /// depends on.
    pub(super) open: Vec<(usize, bool, Field)>,
    /// In default deny without any spec.
    pub(super) forced: bool,
    /// `fromRequires` / `toRequires` of all allow rules (up to 1.18).
    pub(super) requires: Selector,
    /// The same of all deny rules.
    pub(super) requires_deny: Selector,
    /// Each test with the part of `reach` that is its own, in the order of their numbers.
    pub(super) tests: Vec<(usize, Range<usize>)>,
    /// Groups.
    pub(super) reach: Vec<usize>,
    /// Those of `tests` that no label leads to.
    pub(super) rest: Vec<usize>,
    /// The port numbers of the groups, side by side: most rules that reach a peer fail here.
    pub(super) numbers: Vec<l4::Range>,
}

/// Entries that say the same.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Stands for all of them.
    pub(super) first: usize,
    /// Those that follow.
    pub(super) others: Vec<usize>,
    /// Whether their spec selects the subject at all.
    pub(super) selected: Match,
    deny: bool,
    /// The part of the side's `numbers` that is its own, if they alone decide: see [`Filter::numbers`].
    ///
    /// [`Filter::numbers`]: l4::Filter::numbers
    numbers: Option<Range<usize>>,
}

/// A group whose peers mean a party, or may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    pub(super) group: usize,
    pub(super) how: Match,
}

// === impl Side ===

impl Side {
    /// Takes the entries that select the subject, or may, in their order.
    pub(super) fn add(&mut self, rules: &Rules, entries: &[(usize, Match)]) {
        // The group of each class.
        let mut known: Vec<Option<usize>> = vec![None; rules.classes];
        let mut reach: Vec<(usize, usize)> = Vec::new();
        for (number, selected) in entries {
            let entry = &rules.entries[*number];
            let new = self.groups.len();
            // What may not count at all must not hide among what does.
            let group = if *selected == Match::Yes { *known[entry.class].get_or_insert(new) } else { new };
            if let Some(group) = self.groups.get_mut(group) {
                group.others.push(*number);
                continue;
            }
            let numbers = entry.filter.numbers().map(|numbers| {
                self.numbers.extend(numbers);
                self.numbers.len() - numbers.len()..self.numbers.len()
            });
            let (selected, deny) = (*selected, entry.deny);
            self.groups.push(Group { first: *number, others: Vec::new(), selected, deny, numbers });
            reach.extend(entry.peers.0.iter().map(|test| (*test, group)));
        }
        reach.sort_unstable();
        reach.dedup();
        for same in reach.chunk_by(|a, b| a.0 == b.0) {
            let (test, first) = (same[0].0, self.reach.len());
            if !rules.by_label.leads_to(test) {
                self.rest.push(self.tests.len());
            }
            self.reach.extend(same.iter().map(|(_, group)| *group));
            self.tests.push((test, first..self.reach.len()));
        }
    }

    /// Whether a group's port numbers alone tell that this is not meant.
    pub(super) fn excludes(&self, group: usize, traffic: Traffic) -> bool {
        match (&self.groups[group].numbers, traffic) {
            (Some(own), Traffic::Port { protocol, port }) => {
                !self.numbers[own.clone()].iter().any(|range| range.has(protocol, port))
            }
            _ => false,
        }
    }

    /// The groups that mean a party, or may, in their order.
    pub(super) fn reached(&self, rules: &Rules, party: &Party, world: World<'_>) -> Vec<Reached> {
        let mut all = Vec::new();
        if party.may_have_more() {
            (0..self.tests.len()).for_each(|at| self.ask(at, rules, party, world, &mut all));
        } else {
            self.rest.iter().for_each(|at| self.ask(*at, rules, party, world, &mut all));
            for test in rules.by_label.of(party) {
                if let Ok(at) = self.tests.binary_search_by_key(&test, |(test, _)| *test) {
                    self.ask(at, rules, party, world, &mut all);
                }
            }
        }
        all.sort_by_key(|reached| reached.group);
        all.dedup_by(|later, earlier| {
            let same = later.group == earlier.group;
            if same {
                earlier.how = earlier.how.or(|| later.how);
            }
            same
        });
        all
    }

    /// What one test says, for all groups that ask it.
    fn ask(&self, at: usize, rules: &Rules, party: &Party, world: World<'_>, all: &mut Vec<Reached>) {
        let (number, own) = &self.tests[at];
        let test = &rules.tests[*number];
        let says = test.matches(party, world);
        if says == Match::No {
            return;
        }
        let narrowed = |requires: &Selector| match test {
            PeerTest::Endpoints(_) => says.and(|| requires.matches(party, Field::Labels)),
            _ => says,
        };
        let (allow, deny) = (narrowed(&self.requires), narrowed(&self.requires_deny));
        let how = |group: &usize| if self.groups[*group].deny { deny } else { allow };
        let reached = self.reach[own.clone()].iter().map(|group| Reached { group: *group, how: how(group) });
        all.extend(reached.filter(|reached| reached.how != Match::No));
    }
}
