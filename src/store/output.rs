//! Whether an output directory is written, or only what would be written is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::atomic::{self, Snapshot, Stamp};
use super::index::Index;
use super::{Store, StoreError};
use crate::policy::Policy;

/// What becomes of new texts.
#[derive(Debug)]
pub(super) enum Output {
    /// They go to the files, under a lock that is waited for so long.
    Directory { patience: Duration },
    /// They stay in memory, by file: nothing on disk changes, and no lock is taken.
    DryRun(BTreeMap<PathBuf, Planned>),
}

/// What a dry run would have made of one file.
#[derive(Debug)]
pub(super) struct Planned {
    /// What the file looked like when `new` was made from it; `None` when there was none.
    pub(super) stamp: Option<Stamp>,
    old: Option<String>,
    pub(super) new: String,
    /// Everything that was to go into it, to be merged anew when somebody changes the file.
    pub(super) wanted: Vec<Policy>,
}

/// A file that a dry run would have written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Below the directory.
    pub path: PathBuf,
    /// Its text; `None` when it is not there.
    pub old: Option<String>,
    /// The text that it would have got.
    pub new: String,
}

// === impl Store ===

impl Store {
    /// A directory that is only read: what would be written is kept, and counts as if it were there. The
    /// directory need not be there, and is not made.
    pub fn dry_run(root: PathBuf) -> Result<Self, StoreError> {
        let root = std::path::absolute(&root).map_err(|e| StoreError::read(&root, e))?;
        if root.exists() && !root.is_dir() {
            return Err(StoreError::NotADirectory(root));
        }
        Ok(Self { root, output: Output::DryRun(BTreeMap::new()), index: Index::default(), single: None })
    }

    /// Whether nothing is written.
    pub fn is_dry_run(&self) -> bool {
        matches!(self.output, Output::DryRun(_))
    }

    /// The files that would be other ones if this were no dry run, by path, each against the file as it
    /// was when it was last looked at.
    pub fn changes(&self) -> Vec<Change> {
        let Output::DryRun(planned) = &self.output else { return Vec::new() };
        let change = |(path, planned): (&PathBuf, &Planned)| Change {
            path: path.strip_prefix(&self.root).unwrap_or(path).to_owned(),
            old: planned.old.clone(),
            new: planned.new.clone(),
        };
        planned.iter().map(change).filter(|change| change.old.as_ref() != Some(&change.new)).collect()
    }

    /// The text that a file has, or would have.
    pub(super) fn text_of(&self, path: &Path) -> Option<String> {
        match self.output.planned(path) {
            Some(planned) => Some(planned.new.clone()),
            None => atomic::read(path).ok().map(|snapshot| snapshot.text),
        }
    }
}

// === impl Output ===

impl Output {
    pub(super) fn planned(&self, path: &Path) -> Option<&Planned> {
        match self {
            Self::Directory { .. } => None,
            Self::DryRun(planned) => planned.get(path),
        }
    }

    /// What would be there, by path.
    pub(super) fn all_planned(&self) -> impl Iterator<Item = (&Path, &Planned)> {
        let all = match self {
            Self::Directory { .. } => None,
            Self::DryRun(planned) => Some(planned),
        };
        all.into_iter().flatten().map(|(path, planned)| (path.as_path(), planned))
    }
}

// === impl Planned ===

impl Planned {
    pub(super) fn new(old: Option<&Snapshot>, new: String, wanted: Vec<Policy>) -> Self {
        Self { stamp: old.map(|old| old.stamp), old: old.map(|old| old.text.clone()), new, wanted }
    }
}
