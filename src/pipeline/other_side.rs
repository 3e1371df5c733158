//! The other end of every rule that was needed: whether its policies let the connection through, too. Where
//! they do not, the next drop will come there, and the rule for it can be written now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::aggregate::{Observation, Observed};
use crate::build::rules;
use crate::flow::Namespaces;
use crate::policy::{Rule, Subject};
use crate::screen::{ClusterPolicy, Known, OtherSide, Source, mirror};
use crate::store::{Store, StoreError};

/// Connections whose other end is asked for; of more only the number is kept.
const MOST: usize = 20_000;

/// The rules that were needed between pods, each as its other end sees it.
#[derive(Debug)]
pub(super) struct OtherSides {
    /// By the connection as the other end sees it.
    needs: BTreeMap<Observation, (Subject, Rule)>,
    /// Rules for which there was no room.
    left_out: BTreeSet<(Subject, Rule)>,
    /// `--both-sides`: what is closed is opened, for pods of these namespaces.
    writes: Option<Namespaces>,
    /// Something was noted that was not asked for yet.
    news: bool,
}

/// A rule whose other end does not let the connection through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Whose rule it is.
    pub subject: Subject,
    /// The rule.
    pub rule: Rule,
    /// Why, safe to print.
    pub why: String,
    /// A deny rule decides it there: no allow rule can help.
    pub is_denied: bool,
}

/// What came of asking the other ends.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// By the rule that is missing there.
    pub(super) closed: BTreeMap<(Subject, Rule), Closed>,
    /// Rules whose other end lets the connection through.
    pub(super) open: BTreeSet<(Subject, Rule)>,
    /// The connections that are to be opened at the other end, as that end sees them.
    pub(super) to_write: Vec<Observation>,
}

// === impl OtherSides ===

impl OtherSides {
    pub(super) fn new() -> Self {
        Self { needs: BTreeMap::new(), left_out: BTreeSet::new(), writes: None, news: false }
    }

    /// From now on what is closed is opened too, for pods of these namespaces.
    pub(super) fn write(&mut self, namespaces: Namespaces) {
        self.writes = Some(namespaces);
    }

    /// Whether something is to be written before the end.
    pub(super) fn writes(&self) -> bool {
        self.writes.is_some() && self.news
    }

    /// How many rules there was no room for.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.len() as u64
    }

    /// Takes down a rule that is in a file now.
    pub(super) fn note(&mut self, subject: &Subject, rule: &Rule, behind: &[Observed]) {
        for mirrored in behind.iter().filter_map(|(observation, _)| mirror(observation)) {
            if self.needs.contains_key(&mirrored) {
                continue;
            }
            if self.needs.len() >= MOST {
                if self.left_out.len() < MOST {
                    self.left_out.insert((subject.clone(), rule.clone()));
                }
                continue;
            }
            self.needs.insert(mirrored, (subject.clone(), rule.clone()));
            self.news = true;
        }
    }

    /// Asks the policies of the directory as they stand, and those of the cluster that the directory has no
    /// version of.
    pub(super) fn ask(
        &mut self,
        store: &mut Store,
        cluster: Vec<Arc<ClusterPolicy>>,
    ) -> Result<Asked, StoreError> {
        let mut asked = Asked::default();
        self.news = false;
        if self.needs.is_empty() {
            return Ok(asked);
        }
        let policies = store.policies()?;
        let named: Vec<_> = policies.iter().map(|p| (p.path.display().to_string(), p)).collect();
        let sources = named.iter().map(|(name, p)| Source { name, home: p.home.as_ref(), text: &p.text });
        let mut known = Known::after_apply(sources, cluster);
        for (mirrored, (subject, rule)) in &self.needs {
            let (why, is_denied) = match known.other_side(mirrored) {
                OtherSide::Open => {
                    asked.open.insert((subject.clone(), rule.clone()));
                    continue;
                }
                OtherSide::Unknown => continue,
                OtherSide::Closed(by) => (by.join(", "), false),
                OtherSide::Denied(by) => (by, true),
            };
            let closed = Closed { subject: subject.clone(), rule: rule.clone(), why, is_denied };
            // What nothing can select cannot be told in words either.
            let Some(missing) = rule_of(mirrored) else { continue };
            let namespace = &missing.0.namespace;
            if !is_denied && self.writes.as_ref().is_some_and(|namespaces| namespaces.contains(namespace)) {
                asked.to_write.push(mirrored.clone());
            }
            asked.closed.insert(missing, closed);
        }
        // A plain port that is missing takes the requests on it in.
        let plain: BTreeSet<_> = asked.closed.keys().filter(|(_, rule)| rule.l7.is_none()).cloned().collect();
        asked.closed.retain(|(subject, rule), _| {
            let whole = Rule { l7: None, ..rule.clone() };
            rule.l7.is_none() || !plain.contains(&(subject.clone(), whole))
        });
        let still: BTreeSet<_> = asked.closed.values().map(|c| (c.subject.clone(), c.rule.clone())).collect();
        asked.open.retain(|rule| !still.contains(rule));
        Ok(asked)
    }
}

/// The rule that would allow this observation.
fn rule_of(observation: &Observation) -> Option<(Subject, Rule)> {
    let (subject, rules) = rules(observation).ok()?;
    Some((subject, rules.into_iter().next()?))
}
