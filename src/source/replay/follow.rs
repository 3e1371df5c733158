//! A file that somebody still writes, as one endless input: read to its end, then waited for.
//!
//! Rotation by renaming (the exporter's own, and logrotate's) is seen by another file under the path:
//! the old one is read to its end first, then what was rotated in between, then the new one. Rotation
//! by copying and truncating is seen by the file being shorter than what was read of it. It is asked
//! for changes a few times a second: the same works on every file system, network ones included.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::open::unpacked;
use super::reader::Shared;
use crate::text;

/// How long to wait before looking again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long nothing may have come from a file that was renamed before it is left: whoever writes it may
/// learn of it late.
const LINGER: Duration = Duration::from_millis(500);

/// The file that is read, and what comes after it.
pub(super) struct Follow {
    path: PathBuf,
    shared: Arc<Shared>,
    now: Option<Now>,
    /// Whole files that were rotated while another one was read.
    between: VecDeque<PathBuf>,
    packed: Option<Box<dyn Read>>,
    /// The rotated files that were there before, by their name without `.gz`.
    known: BTreeMap<String, OsString>,
    /// The last byte given away was no newline.
    in_line: bool,
    /// It was told that there is nothing to read.
    told: bool,
    /// Something could be opened once.
    begun: bool,
}

struct Now {
    file: File,
    id: (u64, u64),
    read: u64,
    /// Since when another file is under the path and nothing came from this one.
    left: Option<Instant>,
}

// === impl Follow ===

impl Follow {
    /// Follows this path until nobody wants more; the file may come later.
    pub(super) fn new(path: &Path, shared: Arc<Shared>) -> Self {
        let known = rotated(path);
        Self {
            path: path.to_owned(),
            shared,
            now: None,
            between: VecDeque::new(),
            packed: None,
            known,
            in_line: false,
            told: false,
            begun: false,
        }
    }

    fn stopped(&self) -> bool {
        self.shared.enough.load(Ordering::Relaxed) || self.shared.ended.load(Ordering::Relaxed)
    }

    fn name(&self) -> String {
        text::visible(&self.path.to_string_lossy(), 1_000).into_owned()
    }

    /// Reads what is there; `None` when nothing is.
    fn some(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if let Some(packed) = &mut self.packed {
            match packed.read(buffer) {
                Ok(read) if read > 0 => return Ok(Some(read)),
                Ok(_) => {}
                Err(error) => {
                    let error = text::visible(&error.to_string(), 200).into_owned();
                    tracing::warn!(path = %self.name(), error, "a rotated file could not be read to its end: flows are missing");
                }
            }
            self.packed = None;
            return self.line_ends(buffer);
        }
        if let Some(now) = &mut self.now {
            let read = now.file.read(buffer)?;
            if read > 0 {
                now.read += read as u64;
                now.left = None;
                return Ok(Some(read));
            }
            if now.file.metadata()?.len() < now.read {
                tracing::warn!(path = %self.name(), "the file was truncated: what was written to it just before may be missing");
                let now = self.now.as_mut().ok_or(io::ErrorKind::NotFound)?;
                now.file.seek(io::SeekFrom::Start(0))?;
                now.read = 0;
                return self.line_ends(buffer);
            }
        }
        if self.now.is_none()
            && let Some(path) = self.between.pop_front()
        {
            match open_rotated(&path) {
                Ok(packed) => self.packed = Some(packed),
                Err(error) => {
                    let error = text::visible(&error.to_string(), 200).into_owned();
                    let path = text::visible(&path.to_string_lossy(), 1_000).into_owned();
                    tracing::warn!(path, error, "a rotated file could not be opened: flows are missing");
                }
            }
            return self.some(buffer);
        }
        self.look(buffer)
    }

    /// At the end of what is there: looks for another file under the path.
    fn look(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let under = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.now.is_none() && !std::mem::replace(&mut self.told, true) {
                    tracing::info!(path = %self.name(), "there is no such file yet; waiting for it");
                }
                return Ok(None);
            }
            Err(error) => return self.later(error),
        };
        match &mut self.now {
            Some(now) if now.id == id(&under) => Ok(None),
            Some(now) => {
                if now.left.get_or_insert_with(Instant::now).elapsed() < LINGER {
                    return Ok(None);
                }
                let old = now.id;
                self.now = None;
                self.rotated_between(old);
                tracing::debug!(path = %self.name(), between = self.between.len(), "the file was rotated");
                self.line_ends(buffer)
            }
            None => match self.open(&under) {
                Ok(now) => {
                    self.now = Some(now);
                    self.begun = true;
                    self.some(buffer)
                }
                // Renamed just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => self.later(error),
            },
        }
    }

    /// What cannot be opened at the beginning is a mistake; later it may come right again, and a run that
    /// lasts days does not end over it.
    fn later(&mut self, error: io::Error) -> io::Result<Option<usize>> {
        if !self.begun {
            return Err(error);
        }
        if !std::mem::replace(&mut self.told, true) {
            let error = text::visible(&error.to_string(), 200).into_owned();
            tracing::warn!(path = %self.name(), error, "the new file cannot be opened; trying on");
        }
        Ok(None)
    }

    fn open(&self, metadata: &Metadata) -> io::Result<Now> {
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Err(io::Error::other(
                "it is a pipe or a device, which is read to its end without --follow",
            ));
        }
        let mut file = File::open(&self.path)?;
        let mut head = Vec::new();
        (&mut file).take(4).read_to_end(&mut head)?;
        if matches!(*head, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
            return Err(io::Error::other(
                "it is compressed; --follow reads a plain file that somebody writes",
            ));
        }
        file.seek(io::SeekFrom::Start(0))?;
        let id = id(&file.metadata()?);
        Ok(Now { file, id, read: 0, left: None })
    }

    /// Files that were rotated away before anybody looked: those that are new beside the path, without
    /// the one that was read. Their names carry the time of rotation, so they sort.
    fn rotated_between(&mut self, old: (u64, u64)) {
        let there = rotated(&self.path);
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let new = there.iter().filter(|(name, _)| !self.known.contains_key(*name));
        let mut new: Vec<PathBuf> = new.map(|(_, name)| folder.join(name)).collect();
        let ours =
            new.iter().position(|path| std::fs::metadata(path).is_ok_and(|metadata| id(&metadata) == old));
        // Where it is compressed already, it is the first.
        if !new.is_empty() {
            new.remove(ours.unwrap_or(0));
        }
        self.between.extend(new);
        self.known = there;
    }

    /// A new file begins on a new line.
    fn line_ends(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match buffer.first_mut() {
            Some(first) if self.in_line => {
                *first = b'\n';
                Ok(Some(1))
            }
            _ => self.some(buffer),
        }
    }
}

impl Read for Follow {
    /// Ends only when nobody wants more.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.stopped() {
                return Ok(0);
            }
            if let Some(read) = self.some(buffer)? {
                self.in_line = buffer.get(read.wrapping_sub(1)).is_some_and(|byte| *byte != b'\n');
                return Ok(read);
            }
            thread::sleep(AGAIN);
        }
    }
}

/// A rotated file, which may have been compressed since it was seen.
fn open_rotated(path: &Path) -> io::Result<Box<dyn Read>> {
    let file = File::open(path).or_else(|error| {
        let mut packed = path.as_os_str().to_owned();
        packed.push(".gz");
        File::open(packed).map_err(|_| error)
    })?;
    unpacked(file)
}

/// Which file it is.
fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The files beside `events.log` that are called `events-….log` or `events-….log.gz`, as the exporter
/// rotates.
fn rotated(path: &Path) -> BTreeMap<String, OsString> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let ending = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let text = name.to_string_lossy().into_owned();
        let plain = text.strip_suffix(".gz").unwrap_or(&text);
        let time = plain.strip_prefix(&stem).and_then(|rest| rest.strip_prefix('-'));
        let time = time.and_then(|rest| rest.strip_suffix(&ending));
        if time.is_some_and(|time| time.starts_with(|c: char| c.is_ascii_digit())) {
            // While it is being compressed there are both; the plain one is whole.
            if plain == text || !found.contains_key(plain) {
                found.insert(plain.to_owned(), name);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_that_are_gone_or_compressed_by_now_stop_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gz, b"packed").unwrap();
        crate::source::replay::tests::save(&at("events-2.log.gz"), &gz.finish().unwrap());
        crate::source::replay::tests::save(&at("events.log"), b"plain\n");
        let shared = Arc::new(Shared::default());
        let mut follow = Follow::new(&at("events.log"), Arc::clone(&shared));
        assert_eq!(follow.known.keys().collect::<Vec<_>>(), ["events-2.log"]);
        follow.between = [at("events-1.log"), at("events-2.log")].into();
        let mut got = Vec::new();
        let mut buffer = [0; 64];
        while !got.ends_with(b"plain\n") {
            let read = follow.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(got, b"packed\nplain\n");
        // What cannot be looked at any more is waited for.
        follow.path = at("events.log/x");
        assert_eq!(follow.look(&mut buffer).unwrap(), None);
        shared.enough.store(true, Ordering::Relaxed);
        assert_eq!(follow.read(&mut buffer).unwrap(), 0);
    }
}
