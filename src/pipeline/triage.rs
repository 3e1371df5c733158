//! The triage step: what is new goes on to be written, or is counted and told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ipnet::IpNet;

use super::writer::Moved;
use super::{Held, Results};
use crate::aggregate::{Addresses, Observation, Observed, Settling};
use crate::build::{peer_selector, rules, subject_of};
use crate::classify::Skip;
use crate::flow::{Direction, Identity};
use crate::merge::{Says, meaning, written};
use crate::policy::{Allow, Document, Peer, Rule, Subject, read_documents};
use crate::store::Store;
use crate::text::visible;
use crate::triage::{Caution, Crowd, Lacks, Pending, Sorted, Standing, Triage};

/// Triage, with what it has to know of the files.
#[derive(Debug)]
pub(super) struct Sorting {
    triage: Triage,
    /// A window was sorted: what an earlier run left was judged anew.
    begun: bool,
}

/// What stands in the directory, looked up once in a window where somebody asks.
struct Files<'a> {
    store: &'a Store,
    rules: BTreeMap<Subject, BTreeSet<Rule>>,
    /// A file may hold the policies of many.
    documents: BTreeMap<PathBuf, Vec<Document>>,
}

// === impl Sorting ===

impl Sorting {
    pub(super) fn new(caution: Caution, pending: Pending) -> Self {
        Self { triage: Triage::new(caution, pending), begun: false }
    }

    /// Remembers whose the addresses of a window were, and joins what is pending with what was seen again.
    pub(super) fn begin(&mut self, ready: &mut Vec<Observed>, addresses: Addresses, when: Settling) {
        self.triage.saw(addresses);
        let all = when == Settling::Final || !std::mem::replace(&mut self.begun, true);
        self.triage.take_up(ready, all);
    }

    /// Gives what is to be written.
    pub(super) fn sort(
        &mut self,
        new: Vec<Observed>,
        store: &Store,
        when: Settling,
        results: &mut Results,
        moved: &mut Moved,
    ) -> Vec<Observed> {
        let mut files = Files { store, rules: BTreeMap::new(), documents: BTreeMap::new() };
        let Sorted { write, skipped, new_crowds } = self.triage.sort(new, &mut files);
        moved.extend(skipped);
        for crowd in new_crowds {
            tracing::warn!(policy = %crowd.subject, "held back: {}; {}", crowd.what(), crowd.proposal());
        }
        if when == Settling::Final {
            self.tell(results, moved);
        }
        write
    }

    /// At the end: what stays unwritten. Until then the flows of what is pending are those of needs.
    fn tell(&self, results: &mut Results, moved: &mut Moved) {
        let crowds = self.triage.crowds();
        for crowd in crowds.iter() {
            results.held.add(held(crowd), crowd.flows);
        }
        results.held.add_others(crowds.others());
        for (observation, tally, _) in self.triage.pending().iter() {
            let (who, what) = words(observation);
            let lacks = Lacks::of(tally, &self.triage.caution()).to_string();
            let proposal = match tally.first {
                Some(first) => format!("{lacks}; first seen {first:.0}"),
                None => lacks,
            };
            results.held.add(Held { reason: Skip::Pending, who, what, proposal }, tally.events());
            moved.push((Skip::Pending, tally.events()));
        }
    }

    /// What is pending.
    pub(super) fn pending(&self) -> &Pending {
        self.triage.pending()
    }

    /// Whether some addresses of pods are not known for want of room.
    pub(super) fn is_cut(&self) -> bool {
        self.triage.is_cut()
    }
}

fn held(crowd: &Crowd) -> Held {
    Held {
        reason: Skip::WorldLimit,
        who: crowd.subject.to_string(),
        what: crowd.what(),
        proposal: crowd.proposal(),
    }
}

/// Who needs what, safe to print.
fn words(observation: &Observation) -> (String, String) {
    match rules(observation) {
        Ok((subject, rules)) => {
            let rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
            (visible(&subject.to_string(), 300).into_owned(), visible(&rules.join(" and "), 300).into_owned())
        }
        Err(_) => (String::new(), observation.allow.to_string()),
    }
}

// === impl Files ===

impl Files<'_> {
    fn rules(&mut self, subject: &Subject) -> &BTreeSet<Rule> {
        let (store, documents) = (self.store, &mut self.documents);
        self.rules.entry(subject.clone()).or_insert_with_key(|subject| {
            let mut rules = BTreeSet::new();
            for (path, home, text) in store.holders(subject) {
                let documents =
                    documents.entry(path).or_insert_with(|| read_documents(&text).unwrap_or_default());
                let says = written(documents, home.as_ref(), subject).into_iter().map(|written| written.says);
                rules.extend(says.filter_map(|says| match says {
                    Says::Rule(rule) => Some(rule),
                    Says::Other(..) => None,
                }));
            }
            rules
        })
    }
}

impl Standing for Files<'_> {
    fn subject(&mut self, observation: &Observation) -> Option<Subject> {
        subject_of(&observation.subject).ok()
    }

    fn stands(&mut self, observation: &Observation) -> bool {
        // Why no rule can be made is told by build, and nothing to wait for.
        let Ok((subject, rules)) = rules(observation) else { return true };
        let there = self.rules(&subject);
        rules.iter().all(|rule| there.contains(&meaning(rule, &subject.namespace)))
    }

    fn ranges(&mut self, subject: &Subject, direction: Direction, allow: Allow) -> BTreeSet<IpNet> {
        let range = |rule: &Rule| match &rule.peer {
            Peer::Cidr(net) => Some(*net),
            _ => None,
        };
        let there = self.rules(subject).iter().filter(|rule| rule.l7.is_none());
        there.filter(|rule| rule.direction == direction && rule.allow == allow).filter_map(range).collect()
    }

    fn are_alike(&self, one: &Identity, other: &Identity) -> bool {
        peer_selector(one, one) == peer_selector(other, other)
    }
}
