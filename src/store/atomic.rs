//! Files that are there whole or not at all.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::SystemTime;

use super::StoreError;

/// What the temporary files are called, so that a later start can sweep them.
pub(super) const TEMP_PREFIX: &str = ".cpg-";
/// Their ending: no tool takes it for a manifest.
pub(super) const TEMP_SUFFIX: &str = ".tmp";

/// What a file looked like from outside: another stamp means that somebody wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
    changed: (i64, i64),
}

/// A file as it was read.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) text: String,
    pub(super) stamp: Stamp,
    metadata: Metadata,
}

/// What became of a replacement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    /// The new bytes are there.
    Done,
    /// Somebody else wrote the file since it was read; nothing was changed.
    Stale,
}

/// Reads a file together with its stamp.
pub(super) fn read(path: &Path) -> Result<Snapshot, StoreError> {
    let error = |e| StoreError::read(path, e);
    let mut file = File::open(path).map_err(error)?;
    let metadata = file.metadata().map_err(error)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(error)?;
    Ok(Snapshot { text, stamp: Stamp::of(&metadata), metadata })
}

/// Puts `text` in the place of `old` (of nothing, when that is `None`), unless the file is another one
/// by now. `path` is no link. The bytes are on disk then; the name is so after [`sync_directory`], which
/// is once for all files of a directory.
pub(super) fn replace(path: &Path, text: &str, old: Option<&Snapshot>) -> Result<Replaced, StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    write(directory, path, text, old, 0o666).map_err(|e| StoreError::write(path, e))
}

/// [`replace`] for a file that nobody else is to read.
pub(super) fn replace_private(
    path: &Path,
    text: &str,
    old: Option<&Snapshot>,
) -> Result<Replaced, StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    write(directory, path, text, old, 0o600).map_err(|e| StoreError::write(path, e))
}

fn write(
    directory: &Path,
    path: &Path,
    text: &str,
    old: Option<&Snapshot>,
    mode: u32,
) -> io::Result<Replaced> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMP_PREFIX).suffix(TEMP_SUFFIX);
    // tempfile's own mode is 0600; what is asked for here is cut by the umask.
    #[cfg(unix)]
    builder.permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = builder.tempfile_in(directory)?;
    if let Some(old) = old {
        keep(file.as_file(), &old.metadata)?;
    }
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;

    let now = match fs::metadata(path) {
        Ok(metadata) => Some(Stamp::of(&metadata)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    if now != old.map(|old| old.stamp) {
        return Ok(Replaced::Stale);
    }
    if old.is_some() {
        file.persist(path)?;
    } else if let Err(e) = file.persist_noclobber(path) {
        if e.error.kind() == io::ErrorKind::AlreadyExists {
            return Ok(Replaced::Stale);
        }
        return Err(e.error);
    }
    Ok(Replaced::Done)
}

/// The owner (where this user may give files away) and the mode of the file that is replaced.
fn keep(new: &File, old: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let mine = new.metadata()?;
        if (mine.uid(), mine.gid()) != (old.uid(), old.gid())
            && let Err(e) = fchown(new, Some(old.uid()), Some(old.gid()))
        {
            tracing::debug!(error = %e, "the owner of a replaced file was not kept");
        }
    }
    new.set_permissions(old.permissions())
}

/// Makes the name as durable as the bytes. The file is in place by now, so a file system that cannot
/// do it fails nothing.
pub(super) fn sync_directory(directory: &Path) {
    if let Err(e) = File::open(directory).and_then(|d| d.sync_all()) {
        tracing::warn!(directory = %directory.display(), error = %e, "a directory could not be synced to disk");
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Whether the file has other names (hard links): these keep the old content when it is replaced.
    pub(super) fn has_other_names(&self) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            self.metadata.nlink() > 1
        }
        #[cfg(not(unix))]
        false
    }
}

// === impl Stamp ===

impl Stamp {
    /// Of a text that is in no file: equal texts have equal stamps.
    pub(super) fn of_text(text: &str) -> Self {
        let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        Self { modified: None, length: text.len() as u64, inode: hash, changed: (0, 0) }
    }

    pub(super) fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let (inode, changed) = {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.ino(), (metadata.ctime(), metadata.ctime_nsec()))
        };
        #[cfg(not(unix))]
        let (inode, changed) = (0, (0, 0));
        Self { modified: metadata.modified().ok(), length: metadata.len(), inode, changed }
    }
}
