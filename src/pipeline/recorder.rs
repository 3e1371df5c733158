//! Evidence on its way to its files: what was seen of each rule is gathered here, and joined into the
//! evidence of its policy after the policy was written, under the same lock.
//!
//! Nothing here stops a policy. What could not be written is kept and tried again with the next window.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::aggregate::{Observed, Settling, Tally};
use crate::evidence::stand_in;
use crate::evidence::{Caps, Counts, Evidence, EvidenceError, SessionId, Source, SourceKind, State, Times};
use crate::merge::{Says, meaning, written};
use crate::policy::{Rule, Subject, read_documents};
use crate::screen::Known;
use crate::source::replay::Report;
use crate::store::{EvidenceFiles, Store};
use crate::text::{count, visible};

/// A live run writes the evidence of policies that got no new rule once in so many windows: their counts
/// are the only news.
const RARELY: u32 = 12;

/// What is kept of why rules exist, and where.
#[derive(Debug)]
pub struct Recorder {
    files: EvidenceFiles,
    caps: Caps,
    source: Source,
    id: SessionId,
    /// What two counts of the session make: a capture is written once as a whole.
    counts: Counts,
    pending: BTreeMap<Subject, Pending>,
    /// Rules in `pending`, and how many there may be.
    held: usize,
    capacity: usize,
    windows: u32,
}

/// What is not in a file yet of one policy.
#[derive(Debug, Default)]
struct Pending {
    rules: BTreeMap<Rule, Seen>,
    /// A rule was written, so the evidence is due.
    due: bool,
}

/// What is not in a file yet of one rule.
#[derive(Debug, Default)]
struct Seen {
    tally: Tally,
    /// It was written to the policy's file.
    added: bool,
    /// It is not to be found in the policy, but this rule allows it.
    covered: Option<String>,
}

/// What happened to a rule when it was needed.
#[derive(Debug, Clone)]
pub(super) enum Need {
    /// It was written.
    Added,
    /// It is there.
    Present,
    /// This rule of the directory allows it.
    Covered(String),
}

/// What came of the evidence.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Evidence files that were written, each time counted.
    pub written: u64,
    /// Policies whose evidence is not on disk.
    pub failed: u64,
    /// Why, the first of them; safe to print.
    pub error: Option<String>,
    /// Rules whose evidence had no room, in memory or in its file.
    pub left_out: u64,
    /// Rules that were written again although somebody had removed them, with how often.
    pub again: BTreeMap<(Subject, Rule), u64>,
}

// === impl Recorder ===

impl Recorder {
    /// A recorder for a run with this source. `random` tells its session from all others.
    pub fn new(files: EvidenceFiles, caps: Caps, source: Source, random: u64, capacity: usize) -> Self {
        Self {
            files,
            caps,
            source,
            id: SessionId(random),
            counts: Counts::More,
            pending: BTreeMap::new(),
            held: 0,
            capacity,
            windows: 0,
        }
    }

    /// The source is these captures, which were read to their end: the session is known by their content,
    /// so that they count once however often they are read.
    pub(super) fn captured(&mut self, report: &Report) {
        debug_assert_eq!(self.source.kind, SourceKind::Capture);
        let mut known = BTreeSet::new();
        for twin in report.inputs.iter().filter(|input| input.hash != 0 && !known.insert(input.hash)) {
            tracing::warn!(
                "{} has the content of another capture of this run: its events count twice",
                twin.name
            );
        }
        if let Some(id) = SessionId::of_captures(report.inputs.iter().map(|input| input.hash)) {
            self.id = id;
            self.counts = Counts::Same;
        }
    }

    /// Takes down what was seen of a rule. Gives how many rules there was no room for: one or none.
    pub(super) fn note(&mut self, subject: &Subject, rule: Rule, seen: Vec<Observed>, need: &Need) -> u64 {
        if !self.pending.contains_key(subject) {
            self.pending.insert(subject.clone(), Pending::default());
        }
        let Some(policy) = self.pending.get_mut(subject) else { return 0 };
        if !policy.rules.contains_key(&rule) {
            if self.held >= self.capacity {
                return 1;
            }
            self.held += 1;
        }
        let known = policy.rules.entry(rule).or_default();
        for (_, tally) in seen {
            known.tally.join(tally);
        }
        match need {
            Need::Added => {
                known.added = true;
                known.covered = None;
                policy.due = true;
            }
            Need::Present => known.covered = None,
            Need::Covered(by) => known.covered = Some(by.clone()),
        }
        0
    }

    /// Writes what is due. `known` are the policies that people wrote in the directory.
    pub(super) fn flush(
        &mut self,
        store: &mut Store,
        known: &mut Known,
        when: Settling,
        now: Timestamp,
        recorded: &mut Recorded,
    ) {
        let all = match when {
            // The session of a capture is known at its end.
            Settling::Interim => return,
            Settling::Final => true,
            Settling::Window => {
                self.windows += 1;
                self.windows.is_multiple_of(RARELY)
            }
        };
        let due: Vec<Subject> =
            self.pending.iter().filter(|(_, p)| all || p.due).map(|(subject, _)| subject.clone()).collect();
        if due.is_empty() {
            return;
        }
        let mut failed = 0;
        let mut first = None;
        let worked = store.locked(|store| {
            for subject in due {
                let Some(pending) = self.pending.remove(&subject) else { continue };
                match self.join(store, known, &subject, &pending, now, recorded) {
                    Ok(()) => self.held = self.held.saturating_sub(pending.rules.len()),
                    Err(why) => {
                        failed += 1;
                        first.get_or_insert(why);
                        self.pending.insert(subject, pending);
                    }
                }
            }
        });
        if let Err(e) = worked {
            failed = self.pending.len() as u64;
            first = Some(e.to_string());
        }
        if let Some(why) = &first
            && recorded.error.is_none()
        {
            tracing::warn!(
                "the evidence of {} is not written, the first: {}; the policies are, and it is tried again",
                count(failed, "policy file"),
                visible(why, 1_000)
            );
        }
        recorded.failed = failed;
        recorded.error = first;
    }

    /// Joins what is pending of one policy into its file.
    fn join(
        &self,
        store: &Store,
        known: &mut Known,
        subject: &Subject,
        pending: &Pending,
        now: Timestamp,
        recorded: &mut Recorded,
    ) -> Result<(), String> {
        let mut old = self.files.read(subject).map_err(|e| e.to_string())?;
        let mut evidence = match Evidence::parse(&old.text) {
            _ if old.text.is_empty() => Evidence::new(subject.clone()),
            Ok(evidence) if evidence.subject == *subject => evidence,
            Ok(_) | Err(EvidenceError::Damaged(_)) => {
                let aside = self.files.set_aside(subject).map_err(|e| e.to_string())?;
                let aside = visible(&aside.display().to_string(), 500).into_owned();
                tracing::warn!("a damaged evidence file is now {aside}, and a new one begins");
                old = self.files.read(subject).map_err(|e| e.to_string())?;
                Evidence::new(subject.clone())
            }
            Err(e @ EvidenceError::Version(_)) => {
                return Err(format!("{} {e}", self.files.path(subject).display()));
            }
        };
        let again: Vec<&Rule> = pending
            .rules
            .iter()
            .filter(|(_, seen)| seen.added)
            .map(|(rule, _)| rule)
            .filter(|rule| evidence.rules.get(rule).is_some_and(|entry| entry.written.first.is_some()))
            .collect();
        let mut fresh = Evidence::new(subject.clone());
        for (rule, seen) in &pending.rules {
            fresh.see(rule, self.id, &self.source, &seen.tally);
            if seen.added
                && let Some(entry) = fresh.rules.get_mut(rule)
            {
                entry.written = Times::at(now);
            }
        }
        evidence.join(fresh, self.counts);
        stand(&mut evidence, store, known, pending, now);
        evidence.cut(self.caps);
        let (text, left_out) = evidence.render();
        if self.files.replace(subject, &old, &text).map_err(|e| e.to_string())? {
            recorded.written += 1;
        }
        recorded.left_out += left_out;
        for rule in again {
            tracing::warn!(policy = %subject, %rule, "somebody removed this rule, and it was needed and is written again");
            *recorded.again.entry((subject.clone(), rule.clone())).or_default() += 1;
        }
        Ok(())
    }
}

/// Looks at which rules stand in the policy's files, and which are allowed by something else.
fn stand(evidence: &mut Evidence, store: &Store, known: &mut Known, pending: &Pending, now: Timestamp) {
    let subject = evidence.subject.clone();
    let mut there: Option<BTreeSet<Rule>> = None;
    for (rule, entry) in &mut evidence.rules {
        let seen = pending.rules.get(rule);
        if let Some(Seen { covered: None, .. }) = seen {
            entry.stands(State::Written, now);
            continue;
        }
        let there = there.get_or_insert_with(|| rules_there(store, &subject));
        let state = if there.contains(&meaning(rule, &subject.namespace)) {
            State::Written
        } else if let Some(by) = seen.and_then(|seen| seen.covered.as_deref()) {
            State::Covered(by.into())
        } else {
            match known.judge(&stand_in(&subject, rule)).allowed_by() {
                Some(by) => State::Covered(by.into()),
                None => State::Gone,
            }
        };
        entry.stands(state, now);
    }
}

/// The rules that stand in the files of a subject as cpg would write them.
fn rules_there(store: &Store, subject: &Subject) -> BTreeSet<Rule> {
    let mut rules = BTreeSet::new();
    for (_, home, text) in store.holders(subject) {
        let Ok(documents) = read_documents(&text) else { continue };
        rules.extend(written(&documents, home.as_ref(), subject).into_iter().filter_map(|w| match w.says {
            Says::Rule(rule) => Some(rule),
            Says::Other(..) => None,
        }));
    }
    rules
}
