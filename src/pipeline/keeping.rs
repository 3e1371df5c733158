//! The state for the next run, saved when what it tells of is on disk.

use jiff::Timestamp;

use super::Results;
use super::live::{SharedWatch, watch};
use super::results::{Change, PolicyResult};
use crate::coverage::{Gaps, Marks};
use crate::state::{Saved, StateDir};
use crate::triage::Pending;

/// Where the state of a run goes.
#[derive(Debug)]
pub struct Keeping {
    dir: StateDir,
    /// What was missed by the runs before.
    before: Gaps,
    watch: SharedWatch,
    /// What the windows that were taken hold: the last one, and the one before.
    taken: [Option<Marks>; 2],
    saved: Option<Marks>,
    /// The pending needs that are on disk, by their revision.
    pending: Option<u64>,
    failed: bool,
}

// === impl Keeping ===

impl Keeping {
    /// In this directory, after these gaps.
    pub fn new(dir: StateDir, before: Gaps, watch: SharedWatch) -> Self {
        Self { dir, before, watch, taken: [None, None], saved: None, pending: None, failed: false }
    }

    /// A window is about to be taken: everything up to these marks is in it or in those before.
    pub(super) fn taking(&mut self) {
        let marks = watch(&self.watch).marks();
        self.taken.rotate_right(1);
        self.taken[0] = Some(marks);
    }

    /// The window was written. An observation may wait for one window more, so the marks are those of the
    /// window before, but at the end.
    pub(super) fn written(&mut self, results: &Results, pending: &Pending, last: bool) {
        let unwritten = |policy: &PolicyResult| policy.error.is_some() || policy.change == Change::Pending;
        if results.directory_error.is_some() || results.policies.values().any(unwritten) {
            return;
        }
        let Some(marks) = self.taken[usize::from(!last)].clone() else { return };
        if self.saved.as_ref() == Some(&marks) && self.pending == Some(pending.revision()) {
            return;
        }
        let mut gaps = self.before.clone();
        gaps.join(watch(&self.watch).gaps());
        // Before the marks, which say that everything up to them is in a file.
        let kept =
            if self.pending == Some(pending.revision()) { Ok(()) } else { self.dir.save_pending(pending) };
        let saved = Saved { saved: Timestamp::now(), marks: marks.clone(), gaps };
        match kept.and_then(|()| self.dir.save(&saved)) {
            Ok(()) => {
                self.saved = Some(marks);
                self.pending = Some(pending.revision());
                if std::mem::take(&mut self.failed) {
                    tracing::info!("the state can be written again");
                }
            }
            Err(e) => {
                // Once, not with each window.
                if !std::mem::replace(&mut self.failed, true) {
                    tracing::warn!("{e}; a restart would go on from where it was written last");
                }
            }
        }
    }
}
