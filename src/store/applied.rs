//! What is to be written, and what became of it.

use std::path::PathBuf;

use super::StoreError;
use crate::flow::Direction;
use crate::policy::{Rule, Subject};

/// What a workload needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// Whose policy it is.
    pub subject: Subject,
    /// What it must allow.
    pub rules: Vec<Rule>,
}

/// What became of one [`Addition`].
#[derive(Debug)]
pub struct Applied {
    /// Whose policy it is.
    pub subject: Subject,
    /// The file that holds it, or would have.
    pub path: PathBuf,
    /// What happened to that file.
    pub outcome: Outcome,
    /// The rules that were written.
    pub added: Vec<Rule>,
    /// How many rules were there already.
    pub present: usize,
    /// The rules that were not written because of what stands beside them, with the reason.
    pub conflicts: Vec<(Rule, String)>,
    /// The directions in which no file of the directory had a rule for this subject before.
    pub first_in_direction: Vec<Direction>,
    /// What people should know about where it went.
    pub note: Option<String>,
}

/// What happened to a file.
#[derive(Debug)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It was replaced.
    Updated,
    /// It has everything already, and was not touched.
    Unchanged,
    /// Nothing was written; the rules are still to be written.
    Failed(StoreError),
}

// === impl Applied ===

impl Applied {
    /// Nothing was written.
    pub(super) fn failed(addition: &Addition, path: PathBuf, error: StoreError) -> Self {
        Self {
            subject: addition.subject.clone(),
            path,
            outcome: Outcome::Failed(error),
            added: Vec::new(),
            present: 0,
            conflicts: Vec::new(),
            first_in_direction: Vec::new(),
            note: None,
        }
    }
}
