//! What can go wrong with a directory; every message names the path and what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What went wrong in the output directory.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something else stands where a directory is needed.
    #[error("{} is not a directory: move it away or choose another output directory", .0.display())]
    NotADirectory(PathBuf),
    /// A linked directory, whose content belongs to another place.
    #[error("{} is a link to another directory, and cpg writes through no linked directory: put a directory there or name its target as the output directory", .0.display())]
    LinkedDirectory(PathBuf),
    /// The directory cannot be made.
    #[error("cannot create the directory {}: {source}; create it, or let this user write above it", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {}: {source}; {}", path.display(), remedy(source))]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing can be written there. Nothing was changed.
    #[error("cannot write {}: {source}; {}", path.display(), remedy(source))]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A capture cannot be written. What was in its place is as it was.
    #[error("cannot write the capture {}: {source}", path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory with evidence cannot be read or written. Nothing was changed.
    #[error("cannot {verb} the evidence {}: {source}; name another place with --evidence-dir, or do without it with --no-evidence", path.display())]
    Evidence {
        /// What was tried: `read`, `write`, `move`.
        verb: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another cpg holds the directory. Nothing was changed.
    #[error("{} is locked by another cpg since {} s: end it, or wait for it", path.display(), waited.as_secs())]
    Busy {
        /// The output directory.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Somebody else wrote the file each time that cpg was about to. Nothing was changed.
    #[error("{} was changed by someone else twice while cpg was about to write it: it will be tried again with the next window", .0.display())]
    Changed(PathBuf),
    /// Every name for the workload belongs to somebody else.
    #[error("every file name for {subject} in {} is taken by something else: rename one of these files", directory.display())]
    NoFreeName {
        /// Whose policy it would be.
        subject: String,
        /// Where.
        directory: PathBuf,
    },
    /// The policy could not be put into words. A bug.
    #[error("the policy for {} cannot be written ({why}): please report this", path.display())]
    Unwritable {
        /// Where it would have stood.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

// === impl StoreError ===

impl StoreError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(super) fn evidence(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Evidence { verb, path: path.to_owned(), source }
    }

    pub(super) fn capture(path: &Path, source: io::Error) -> Self {
        Self::Capture { path: path.to_owned(), source }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "give this user the right to it, or choose another output directory"
        }
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only: choose another output directory",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room: the rules are kept and tried again"
        }
        io::ErrorKind::NotFound => "it was removed meanwhile",
        io::ErrorKind::InvalidData => "it is not text in UTF-8",
        _ => "the rules are kept and tried again",
    }
}
