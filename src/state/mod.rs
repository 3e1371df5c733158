//! Up to when each node was watched, what was missed, and which needs are pending, kept over restarts: in
//! `--state-dir`.
//!
//! `docs/state.md` has the formats. A file is there whole or not at all; one that cannot be read is set
//! aside and told, since a run that begins anew is better than none. The log of what was watched, which stands
//! beside the evidence, is here too.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::coverage::{Gaps, Marks};
use crate::store::{StoreError, set_aside, write_private};
use crate::text::visible;
use crate::triage::Pending;

mod format;
mod log;
mod pending;

pub use log::{join_log, load_log, read_log, save_log};

/// What the file is called.
const FILE: &str = "watch.json";
/// What the file of pending needs is called.
const PENDING: &str = "pending.json";
/// Held while a run uses the directory.
const LOCK: &str = "watch.lock";
/// A file that is larger is none of ours.
const LARGEST: u64 = 64 << 20;

/// A state directory, held by this run until it is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    relay: String,
    _lock: File,
}

/// What a run leaves for the next one.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// When it was written, by this machine's clock.
    pub saved: Timestamp,
    /// Up to when each node was watched.
    pub marks: Marks,
    /// What was missed so far, by this run and those before it.
    pub gaps: Gaps,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// What the last run left; `None`: nothing that can be used.
    pub saved: Option<Saved>,
    /// What the user should know about it: a sentence.
    pub told: Option<String>,
}

/// Why the state cannot be kept: one sentence with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another run holds it.
    #[error("the state directory {0} is in use by another cpg: give each its own --state-dir")]
    InUse(String),
    /// The file system refuses.
    #[error("the state directory {path} cannot be {what}: {source}")]
    Io {
        /// The directory or file, safe to print.
        path: String,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The file is not written. Nothing was changed.
    #[error("the state is not kept: {}", visible(&.0.to_string(), 1_000))]
    Write(StoreError),
}

// === impl StateDir ===

impl StateDir {
    /// Opens a directory, which is made where it is missing, for the watch of this relay, as it is named to
    /// people. Fails when another run holds it.
    pub fn open(path: &Path, relay: &str) -> Result<(Self, Found), StateError> {
        fs::create_dir_all(path).map_err(|e| error(path, "made", e))?;
        let file = path.join(LOCK);
        let lock = File::create(&file).map_err(|e| error(&file, "written", e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(StateError::InUse(shown(path))),
            // A file system without locks: two runs are the user's business then.
            Err(fs::TryLockError::Error(e)) => tracing::debug!(error = %e, "no lock on the state directory"),
        }
        let dir = Self { path: path.to_owned(), relay: relay.to_owned(), _lock: lock };
        let found = dir.find();
        Ok((dir, found))
    }

    /// Writes what the next run needs.
    pub fn save(&self, saved: &Saved) -> Result<(), StateError> {
        let text = format::write(saved, &self.relay);
        write_private(&self.path.join(FILE), &text).map_err(StateError::Write)
    }

    /// Writes the needs that are pending; none need no file.
    pub fn save_pending(&self, pending: &Pending) -> Result<(), StateError> {
        let path = self.path.join(PENDING);
        if pending.is_empty() && !path.exists() {
            return Ok(());
        }
        write_private(&path, &pending::write(pending)).map_err(StateError::Write)
    }

    /// The needs that were pending at the end of the last run, and what the user should know about their file.
    pub fn pending(&self) -> (Pending, Option<String>) {
        let path = self.path.join(PENDING);
        let found = text_of(&path).and_then(|text| text.map(|text| pending::read(&text)).transpose());
        match found {
            Ok(pending) => (pending.unwrap_or_default(), None),
            Err(why) => {
                (Pending::default(), Some(aside(&path, &why, "The counting of what is pending begins anew")))
            }
        }
    }

    fn find(&self) -> Found {
        let path = self.path.join(FILE);
        let text = match text_of(&path) {
            Ok(None) => return Found { saved: None, told: None },
            Ok(Some(text)) => Ok(text),
            Err(why) => Err(why),
        };
        match text.and_then(|text| format::read(&text)) {
            Ok((saved, relay)) if relay == self.relay => Found { saved: Some(saved), told: None },
            Ok((_, relay)) => lost(&path, &format!("it is of another relay ({})", visible(&relay, 200))),
            Err(why) => lost(&path, &why),
        }
    }
}

fn lost(path: &Path, why: &str) -> Found {
    let told = aside(path, why, "The watch begins anew: what was missed before is not known");
    Found { saved: None, told: Some(told) }
}

/// Out of the way, but not gone; what to tell.
fn aside(path: &Path, why: &str, then: &str) -> String {
    let became = match set_aside(path) {
        Ok(aside) => format!("it is {} now", shown(&aside)),
        Err(e) => format!("it could not be set aside ({e}) and will be overwritten"),
    };
    format!("{} cannot be used: {}; {became}. {then}", shown(path), visible(why, 300))
}

/// A file's whole text; `None` where there is none.
fn text_of(path: &Path) -> Result<Option<String>, String> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Ok(metadata) if metadata.len() > LARGEST => Err("it is too large".to_owned()),
        Ok(_) | Err(_) => fs::read_to_string(path).map(Some).map_err(|e| e.to_string()),
    }
}

fn error(path: &Path, what: &'static str, source: io::Error) -> StateError {
    StateError::Io { path: shown(path), what, source }
}

fn shown(path: &Path) -> String {
    visible(&path.display().to_string(), 300).into_owned()
}

#[cfg(test)]
mod tests;
