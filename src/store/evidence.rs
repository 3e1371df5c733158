//! Where the evidence of an output directory is, and its files: outside of the directory, readable by this
//! user only, each there whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::atomic::{self, Replaced};
use super::private::{self, make_private};
use super::{Store, StoreError, lock::Lock, naming};
use crate::names::Namespace;
use crate::policy::Subject;

/// Larger files are none that cpg wrote, and are not read.
const LARGEST: u64 = 64 << 20;

/// Where the evidence of an output directory is when nobody says otherwise: in this user's cache, below
/// the hash of the directory's absolute path. `None` when there is no home directory.
pub fn evidence_dir(output_root: &Path) -> Option<PathBuf> {
    let root = std::path::absolute(output_root).ok()?;
    let hash = xxhash_rust::xxh3::xxh3_64(root.as_os_str().as_encoded_bytes());
    Some(cache()?.join("cpg").join("evidence").join(format!("{hash:016x}")))
}

fn cache() -> Option<PathBuf> {
    let given = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(cache) = given("XDG_CACHE_HOME") {
        return Some(cache);
    }
    let below = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    Some(given("HOME")?.join(below))
}

/// The evidence files of one output directory: `<namespace>/<workload>-<hash>.json`, made when the first
/// one is written.
#[derive(Debug, Clone)]
pub struct EvidenceFiles {
    directory: PathBuf,
}

/// One evidence file as it was read.
#[derive(Debug)]
pub struct EvidenceText {
    /// The whole text; empty when there is no file.
    pub text: String,
    snapshot: Option<atomic::Snapshot>,
}

// === impl EvidenceFiles ===

impl EvidenceFiles {
    /// The files below this directory, which need not be there.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file for a policy: a function of its subject alone.
    pub fn path(&self, subject: &Subject) -> PathBuf {
        let stem = naming::candidates(&subject.selector).into_iter().next();
        let stem = stem.map_or_else(|| "workload".to_owned(), |name| name.as_str().to_owned());
        let hash = subject.selector.hash64();
        self.directory.join(subject.namespace.as_str()).join(format!("{stem}-{hash:016x}.json"))
    }

    /// Reads the evidence for a policy.
    pub fn read(&self, subject: &Subject) -> Result<EvidenceText, StoreError> {
        self.read_path(&self.path(subject))
    }

    /// Reads a file that [`EvidenceFiles::list`] gave.
    pub fn read_path(&self, path: &Path) -> Result<EvidenceText, StoreError> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() > LARGEST => {
                let why = io::Error::other("it is too large to be evidence that cpg wrote");
                return Err(StoreError::evidence("read", path, why));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(EvidenceText { text: String::new(), snapshot: None });
            }
            Err(e) => return Err(StoreError::evidence("read", path, e)),
        }
        match atomic::read(path) {
            Ok(mut snapshot) => {
                let text = std::mem::take(&mut snapshot.text);
                Ok(EvidenceText { text, snapshot: Some(snapshot) })
            }
            Err(StoreError::Read { source, .. }) => Err(StoreError::evidence("read", path, source)),
            Err(e) => Err(e),
        }
    }

    /// Puts a text in the place of the one that was read; the file is not touched when they are equal.
    /// Gives whether it was.
    pub fn replace(&self, subject: &Subject, old: &EvidenceText, text: &str) -> Result<bool, StoreError> {
        if old.snapshot.is_some() && old.text == text {
            return Ok(false);
        }
        let path = self.path(subject);
        let error = |e| StoreError::evidence("write", &path, e);
        make_private(path.parent().unwrap_or(&self.directory)).map_err(error)?;
        match atomic::replace_private(&path, text, old.snapshot.as_ref()) {
            Ok(Replaced::Done) => Ok(true),
            Ok(Replaced::Stale) => Err(error(io::Error::other("somebody else wrote it meanwhile"))),
            Err(StoreError::Write { source, .. }) => Err(error(source)),
            Err(e) => Err(e),
        }
    }

    /// Takes a damaged file out of the way, under another name beside it.
    pub fn set_aside(&self, subject: &Subject) -> Result<PathBuf, StoreError> {
        let path = self.path(subject);
        private::set_aside(&path).map_err(|e| StoreError::evidence("move", &path, e))
    }

    /// Every evidence file, by path; of one namespace, or of all.
    pub fn list(&self, namespace: Option<&Namespace>) -> Result<Vec<PathBuf>, StoreError> {
        let below = |directory: &Path| -> Result<Vec<PathBuf>, StoreError> {
            match fs::read_dir(directory) {
                Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(e) => Err(StoreError::evidence("read", directory, e)),
            }
        };
        let homes = match namespace {
            Some(namespace) => vec![self.directory.join(namespace.as_str())],
            None => below(&self.directory)?,
        };
        let mut files = Vec::new();
        for home in homes.iter().filter(|home| home.is_dir()) {
            let all = below(home)?;
            files.extend(all.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json")));
        }
        files.sort();
        Ok(files)
    }

    /// Does something while no other cpg writes below this directory, which is made.
    pub fn locked<T>(
        &self,
        patience: std::time::Duration,
        work: impl FnOnce() -> T,
    ) -> Result<T, StoreError> {
        make_private(&self.directory).map_err(|e| StoreError::evidence("write", &self.directory, e))?;
        let _lock = Lock::take(&self.directory, patience)?;
        Ok(work())
    }
}

// === impl Store ===

impl Store {
    /// Does something while no other cpg writes to the directory.
    pub fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Result<T, StoreError> {
        let _lock = self.lock()?;
        Ok(work(self))
    }

    /// Every subject of every policy in the directory: path below it, `metadata.name`, subject.
    pub fn subjects(&mut self) -> Result<Vec<(PathBuf, Option<String>, Subject)>, StoreError> {
        self.look()?;
        let below = |path: &Path| path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        let all = self.index.subjects();
        Ok(all.map(|(path, name, s)| (below(path), name.map(str::to_owned), s.clone())).collect())
    }

    /// A path below the directory as it is from the current directory, where that is shorter.
    pub fn shown(&self, path: &Path) -> PathBuf {
        let whole = self.root.join(path);
        let here = std::env::current_dir().ok();
        here.and_then(|here| whole.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or(whole)
    }

    /// The namespace of documents that name none, for a file below the directory.
    pub fn home(&self, path: &Path) -> Option<Namespace> {
        super::index::home(&self.root, path)
    }

    /// The files that hold a policy of this subject, as they are now: path below the directory, the
    /// namespace of documents that name none, text. Files that cannot be read are left out.
    pub fn holders(&self, subject: &Subject) -> Vec<(PathBuf, Option<Namespace>, String)> {
        let read = |path: PathBuf| {
            let text = self.text_of(&path)?;
            let below = path.strip_prefix(&self.root).unwrap_or(&path).to_owned();
            Some((below, super::index::home(&self.root, &path), text))
        };
        self.index.holders(subject).into_iter().filter_map(read).collect()
    }
}
