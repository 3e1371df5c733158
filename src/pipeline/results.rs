//! What came of every policy of a run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Closed, HeldBack, Names, Opened, Recorded};
use crate::policy::{L7Match, Rule, Subject};
use crate::store::{Applied, Outcome};

/// What came of everything that was to be written.
#[derive(Debug, Clone, Default)]
pub struct Results {
    /// Per subject, its file and what happened to it.
    pub policies: BTreeMap<Subject, PolicyResult>,
    /// Rules that were not there before.
    pub rules_added: u64,
    /// Rules that were there already, counted once per window in which they were needed again.
    pub rules_present: u64,
    /// Rules that an existing rule contradicts, with the reason.
    pub conflicts: BTreeMap<(Subject, Rule), String>,
    /// Rules of the directory that allow already what was dropped, with the flows.
    pub already_allowed: BTreeMap<String, u64>,
    /// Rules of the cluster that allow by now what was dropped, with the flows.
    pub allowed_in_cluster: BTreeMap<String, u64>,
    /// Rules of the cluster that had allowed for long what was dropped, with the flows.
    pub transient: BTreeMap<String, u64>,
    /// Why not all policies of the cluster counted, one sentence each.
    pub cluster_notes: Vec<String>,
    /// Deny rules of the directory and of the cluster that decide what was dropped, with the flows.
    pub denied: BTreeMap<String, u64>,
    /// Needs that are not written by themselves.
    pub held: HeldBack,
    /// Rules for requests with places where any segment may stand, with the different paths seen.
    pub opened: Opened,
    /// Paths that there was no room for where values are counted.
    pub paths_beyond: u64,
    /// Rules that are missing at the other end of a rule of this run, with that rule.
    pub other_side: BTreeMap<(Subject, Rule), Closed>,
    /// Rules whose other end was not asked for, because there were too many.
    pub not_asked: u64,
    /// Rules that were written for a rule of the other end, with that rule.
    pub inferred: BTreeMap<(Subject, Rule), String>,
    /// What came of DNS names.
    pub names: Names,
    /// Rules that the engine did not confirm: a fault of cpg.
    pub unconfirmed: u64,
    /// Files of the directory that may hold policies and could not be looked at, with the reason.
    pub overlooked: BTreeMap<PathBuf, String>,
    /// Observations for which a table had no room.
    pub refused: u64,
    /// Observations that only drop events told and that stand.
    pub by_drop_only: u64,
    /// Attempts to write a file or the directory that failed.
    pub write_errors: u64,
    /// What came of the evidence.
    pub recorded: Recorded,
    /// Why the directory as a whole could not be written the last time; `None` when it could.
    pub directory_error: Option<String>,
}

/// What happened to one policy in this run.
#[derive(Debug, Clone)]
pub struct PolicyResult {
    /// Where it is.
    pub path: PathBuf,
    /// The strongest thing that happened to it.
    pub change: Change,
    /// Why the last attempt to write failed; `None` when it did not.
    pub error: Option<String>,
    /// Something the user should know about the file.
    pub note: Option<String>,
}

/// What happened to a file, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Not written yet.
    Pending,
    /// Everything was there.
    Unchanged,
    /// Rules were added.
    Updated,
    /// The file is new.
    Created,
}

/// How many policies ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyCounts {
    /// Files that are new.
    pub created: u64,
    /// Files that got rules.
    pub updated: u64,
    /// Files that had everything.
    pub unchanged: u64,
    /// Policies with something that is not on disk.
    pub failed: u64,
}

// === impl Results ===

impl Results {
    /// How many policies ended how.
    pub fn counts(&self) -> PolicyCounts {
        let mut counts = PolicyCounts::default();
        for policy in self.policies.values() {
            match (policy.change, &policy.error) {
                (_, Some(_)) | (Change::Pending, None) => counts.failed += 1,
                (Change::Unchanged, None) => counts.unchanged += 1,
                (Change::Updated, None) => counts.updated += 1,
                (Change::Created, None) => counts.created += 1,
            }
        }
        counts
    }

    /// What became of one policy.
    pub(super) fn take(&mut self, applied: Applied) {
        let Applied { subject, path, outcome, added, present, conflicts, first_in_direction: _, note } =
            applied;
        let (change, error) = match outcome {
            Outcome::Created => (Change::Created, None),
            Outcome::Updated => (Change::Updated, None),
            Outcome::Unchanged => (Change::Unchanged, None),
            Outcome::Failed(error) => (Change::Pending, Some(error.to_string())),
        };
        self.rules_added += added.len() as u64;
        if added.iter().any(|rule| matches!(rule.l7, Some(L7Match::Dns(_)))) {
            self.names.restricted.insert(subject.clone());
        }
        self.rules_present += present as u64;
        for (rule, why) in conflicts {
            self.conflicts.insert((subject.clone(), rule), why);
        }
        let policy = self.policies.entry(subject).or_insert_with(|| PolicyResult {
            path: path.clone(),
            change: Change::Pending,
            error: None,
            note: None,
        });
        policy.path = path;
        policy.change = policy.change.max(change);
        policy.error = error;
        policy.note = note.or_else(|| policy.note.take());
    }
}
