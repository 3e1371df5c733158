//! The output directory: which file holds whose policy, one writer at a time, files whole or not at
//! all. What stands in a file counts, never what it is called.

mod applied;
mod atomic;
mod capture_file;
mod cluster;
mod error;
mod evidence;
mod index;
mod kustomize;
mod lock;
mod naming;
mod output;
mod private;
mod reading;
mod single;

pub use applied::{Addition, Applied, Outcome};
pub use capture_file::{CaptureFile, Packing};
pub use cluster::{ClusterIdentity, StampError};
pub use error::StoreError;
pub use evidence::{EvidenceFiles, EvidenceText, evidence_dir};
pub use index::NamesThere;
pub use output::Change;
pub use private::{set_aside, write_private};
pub use reading::Foreign;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::flow::Direction;
use crate::merge::{self, Merged, Refusal, Stream, merge};
use crate::names::{Namespace, PolicyName};
use crate::policy::Policy;

use atomic::{Replaced, Snapshot};
use index::{Content, Index};
use lock::Lock;
use output::{Output as Sink, Planned};

/// An output directory. Cheap to keep open: nothing is held between two calls.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    output: Sink,
    index: Index,
    /// The one file that new policies go to; `None`: each to a file of its own.
    single: Option<PathBuf>,
}

// === impl Store ===

impl Store {
    /// Opens a directory, which is made when it is not there, and sweeps what a killed run left in it.
    /// `patience` is how long another cpg is waited for, here and in [`Store::apply`].
    pub fn open(root: PathBuf, patience: Duration) -> Result<Self, StoreError> {
        let root = std::path::absolute(&root).map_err(|e| StoreError::read(&root, e))?;
        let store =
            Self { root, output: Sink::Directory { patience }, index: Index::default(), single: None };
        let lock = store.lock()?;
        let swept = index::sweep(&store.root)?;
        if swept > 0 {
            tracing::info!(files = swept, "removed temporary files of an earlier run");
        }
        // Better to fail now than with the first window.
        tempfile::Builder::new()
            .prefix(atomic::TEMP_PREFIX)
            .suffix(atomic::TEMP_SUFFIX)
            .tempfile_in(&store.root)
            .map_err(|e| StoreError::write(&store.root, e))?;
        drop(lock);
        Ok(store)
    }

    /// The directory, as an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes what is needed. One result for each addition, in the same order; an error is about the
    /// directory as a whole, and then nothing was written.
    pub fn apply(&mut self, additions: &[Addition]) -> Result<Vec<Applied>, StoreError> {
        let lock = self.lock()?;
        self.look()?;
        // Where two workloads would be called the same, the smaller hash stays plain.
        let mut order: Vec<usize> = (0..additions.len()).collect();
        order.sort_by_key(|i| {
            let subject = &additions[*i].subject;
            (&subject.namespace, subject.selector.hash64())
        });
        let mut applied: Vec<(usize, Applied)> = Vec::with_capacity(additions.len());
        let (single, own): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(|i| self.goes_to_single(&additions[*i].subject));
        for i in own {
            applied.push((i, self.apply_one(&additions[i])));
        }
        applied.extend(self.apply_single(additions, &single));
        if !self.is_dry_run() {
            self.sync(applied.iter().map(|(_, applied)| applied));
        }
        drop(lock);
        applied.sort_by_key(|(i, _)| *i);
        Ok(applied.into_iter().map(|(_, applied)| applied).collect())
    }

    /// Makes the names of all new files durable.
    fn sync<'a>(&self, applied: impl Iterator<Item = &'a Applied>) {
        let written =
            applied.filter(|applied| matches!(applied.outcome, Outcome::Created | Outcome::Updated));
        let directories: BTreeSet<PathBuf> = written
            // The file is where a link leads.
            .filter_map(|applied| Some(fs::canonicalize(&applied.path).ok()?.parent()?.to_owned()))
            .collect();
        directories.iter().for_each(|directory| atomic::sync_directory(directory));
    }

    /// `None` in a dry run, which only reads.
    fn lock(&self) -> Result<Option<Lock>, StoreError> {
        let Sink::Directory { patience } = self.output else { return Ok(None) };
        make_directory(&self.root)?;
        Lock::take(&self.root, patience).map(Some)
    }

    fn look(&mut self) -> Result<(), StoreError> {
        self.index.refresh(&self.root, &self.output)
    }

    fn apply_one(&mut self, addition: &Addition) -> Applied {
        let subject = &addition.subject;
        let mut refused: Option<(PathBuf, String)> = None;
        for path in self.index.holders(subject) {
            match self.write_into(&path, None, addition) {
                Ok(Tried::Done(merged, note)) => return self.finish(addition, path, merged, note),
                Ok(Tried::Refused(why)) => {
                    refused.get_or_insert((path, why));
                }
                // Somebody changed it since it was looked at: it is no longer this subject's.
                Ok(Tried::Gone) => self.index.renew(&self.root, &path, &self.output),
                Err(e) => return Applied::failed(addition, path, e),
            }
        }
        let directory = self.root.join(subject.namespace.as_str());
        match refused {
            Some((path, why)) => self.write_beside(&path, &why, addition),
            None => self.write_new(&directory, addition),
        }
    }

    /// A file of its own, under the first name that nobody has.
    fn write_new(&mut self, directory: &Path, addition: &Addition) -> Applied {
        for workload in naming::candidates(&addition.subject.selector) {
            let path = directory.join(format!("{workload}.yaml"));
            let name = format!("cpg-{workload}");
            if self.index.has_name(&addition.subject.namespace, &name) {
                continue;
            }
            match self.occupant(&path) {
                Occupant::Nobody => return self.write_named(path, &name, addition, None),
                Occupant::Policy => {}
                Occupant::Foreign(why) => return self.write_beside(&path, &why, addition),
                Occupant::Unknown(e) => return Applied::failed(addition, path, e),
            }
        }
        self.nowhere(directory, addition)
    }

    /// A file beside one that must stay as it is.
    fn write_beside(&mut self, refused: &Path, why: &str, addition: &Addition) -> Applied {
        let directory = refused.parent().unwrap_or(&self.root).to_owned();
        let stem = refused.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        for workload in naming::beside(stem, &addition.subject.selector) {
            let path = directory.join(format!("{workload}.cpg.yaml"));
            let name = format!("cpg-{workload}-additions");
            if self.index.has_name(&addition.subject.namespace, &name) {
                continue;
            }
            match self.occupant(&path) {
                Occupant::Nobody => {
                    let note =
                        format!("{} {why}; it stays as it is, and the rules are here", refused.display());
                    return self.write_named(path, &name, addition, Some(note));
                }
                Occupant::Policy | Occupant::Foreign(_) => {}
                Occupant::Unknown(e) => return Applied::failed(addition, path, e),
            }
        }
        self.nowhere(&directory, addition)
    }

    fn write_named(
        &mut self,
        path: PathBuf,
        name: &str,
        addition: &Addition,
        note: Option<String>,
    ) -> Applied {
        let directory = path.parent().unwrap_or(&self.root);
        let made = if addition.rules.is_empty() { Ok(()) } else { self.make_below(directory) };
        match made.and_then(|()| self.write_into(&path, Some(name), addition)) {
            Ok(Tried::Done(merged, _)) => self.finish(addition, path, merged, note),
            Ok(Tried::Refused(why)) => {
                Applied::failed(addition, path.clone(), StoreError::Unwritable { path, why })
            }
            Ok(Tried::Gone) => Applied::failed(addition, path.clone(), StoreError::Changed(path)),
            Err(e) => Applied::failed(addition, path, e),
        }
    }

    fn nowhere(&self, directory: &Path, addition: &Addition) -> Applied {
        let subject = addition.subject.to_string();
        let error = StoreError::NoFreeName { subject, directory: directory.to_owned() };
        Applied::failed(addition, directory.to_owned(), error)
    }

    /// Reads, merges and replaces one file; once more when somebody else wrote it meanwhile. `name` is
    /// given for a file that is not there yet.
    fn write_into(
        &mut self,
        path: &Path,
        name: Option<&str>,
        addition: &Addition,
    ) -> Result<Tried, StoreError> {
        let is_new = name.is_some();
        let unwritable = |why: String| StoreError::Unwritable { path: path.to_owned(), why };
        let name = PolicyName::parse(name.unwrap_or("cpg")).map_err(|e| unwritable(e.to_string()))?;
        let mut additions = Policy::new(name, addition.subject.clone());
        for rule in &addition.rules {
            additions.add(rule.clone());
        }
        let target = match self.target(path)? {
            Target::File(target) => target,
            Target::Outside => return Ok(Tried::Refused(OUTSIDE.to_owned())),
        };
        let home = index::home(&self.root, path);
        for _ in 0..2 {
            let old = match atomic::read(&target) {
                Ok(old) => Some(old),
                Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(e),
            };
            let planned = match &mut self.output {
                Sink::Directory { .. } => None,
                Sink::DryRun(planned) => Some(planned),
            };
            let base = planned
                .as_ref()
                .and_then(|planned| base(planned.get(&target)?, old.as_ref(), home.as_ref(), false));
            let text = base.as_deref().or(old.as_ref().map(|old: &Snapshot| old.text.as_str()));
            if text.is_none() && !is_new {
                return Ok(Tried::Gone);
            }
            let merged = match guarded(text, home.as_ref(), &additions) {
                Ok(merged) => merged,
                Err(Refusal::NoDocument(_) | Refusal::ForeignKind(_)) => return Ok(Tried::Gone),
                Err(refusal) => return Ok(Tried::Refused(refusal.to_string())),
            };
            if let Some(planned) = planned {
                if merged.outcome != merge::Outcome::Unchanged || base.is_some() {
                    let mut wanted = planned.remove(&target).map(|known| known.wanted).unwrap_or_default();
                    wanted.push(additions);
                    planned.insert(target, Planned::new(old.as_ref(), merged.text.clone(), wanted));
                }
                return Ok(Tried::Done(merged, None));
            }
            if merged.outcome == merge::Outcome::Unchanged {
                return Ok(Tried::Done(merged, None));
            }
            if atomic::replace(&target, &merged.text, old.as_ref())? == Replaced::Done {
                let linked = old.is_some_and(|old| old.has_other_names());
                return Ok(Tried::Done(merged, linked.then(|| LINKED.to_owned())));
            }
        }
        Err(StoreError::Changed(path.to_owned()))
    }

    fn finish(
        &mut self,
        addition: &Addition,
        path: PathBuf,
        merged: Merged,
        note: Option<String>,
    ) -> Applied {
        let mut notes: Vec<String> = note.into_iter().collect();
        if merged.outcome != merge::Outcome::Unchanged {
            self.index.renew(&self.root, &path, &self.output);
            notes.extend(kustomize::unlisted(&self.root, &path));
        }
        self.applied(addition, path, merged, &notes)
    }

    /// What became of it, in a file that the index knows as it is now.
    fn applied(&self, addition: &Addition, path: PathBuf, merged: Merged, notes: &[String]) -> Applied {
        let elsewhere: BTreeSet<Direction> = self.index.directions_elsewhere(&addition.subject, &path);
        Applied {
            subject: addition.subject.clone(),
            outcome: match merged.outcome {
                merge::Outcome::Created => Outcome::Created,
                merge::Outcome::Updated => Outcome::Updated,
                merge::Outcome::Unchanged => Outcome::Unchanged,
            },
            added: merged.added,
            present: merged.present.len(),
            conflicts: merged.conflicts,
            first_in_direction: merged
                .first_in_direction
                .into_iter()
                .filter(|direction| !elsewhere.contains(direction))
                .collect(),
            note: (!notes.is_empty()).then(|| notes.join("; ")),
            path,
        }
    }

    /// The file that a path leads to.
    fn target(&self, path: &Path) -> Result<Target, StoreError> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_symlink() => {
                let target = fs::canonicalize(path).map_err(|e| StoreError::read(path, e))?;
                let root = fs::canonicalize(&self.root).map_err(|e| StoreError::read(&self.root, e))?;
                Ok(if target.starts_with(root) { Target::File(target) } else { Target::Outside })
            }
            _ => Ok(Target::File(path.to_owned())),
        }
    }

    /// Who has a path.
    fn occupant(&self, path: &Path) -> Occupant {
        if self.output.planned(path).is_some() {
            return Occupant::Policy;
        }
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Occupant::Nobody,
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Occupant::Nobody,
            Err(e) => return Occupant::Unknown(StoreError::read(path, e)),
        };
        match self.index.content(path) {
            Some(Content::Policies(_)) => Occupant::Policy,
            Some(Content::Other | Content::Overlooked(_)) => match atomic::read(path) {
                Ok(snapshot) => Occupant::Foreign(Refusal::of_foreign(&snapshot.text).to_string()),
                Err(e) => Occupant::Unknown(e),
            },
            Some(Content::Unreadable(_)) => match atomic::read(path) {
                Ok(_) => Occupant::Policy,
                Err(e) => Occupant::Unknown(e),
            },
            // A directory, a broken link, a socket: not ours to touch.
            None if metadata.is_file() => Occupant::Policy,
            None => Occupant::Foreign("is no file".to_owned()),
        }
    }

    /// Makes a directory below the root; nothing on the way to it may be a link.
    fn make_below(&self, directory: &Path) -> Result<(), StoreError> {
        let Ok(below) = directory.strip_prefix(&self.root) else { return Ok(()) };
        let mut at = self.root.clone();
        for part in below.components() {
            at.push(part);
            match fs::symlink_metadata(&at) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) if metadata.is_symlink() => return Err(StoreError::LinkedDirectory(at)),
                Ok(_) => return Err(StoreError::NotADirectory(at)),
                Err(e) if e.kind() == io::ErrorKind::NotFound && self.is_dry_run() => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir(&at).map_err(|source| StoreError::Create { path: at.clone(), source })?;
                    atomic::sync_directory(at.parent().unwrap_or(&self.root));
                }
                Err(e) => return Err(StoreError::read(&at, e)),
            }
        }
        Ok(())
    }
}

/// Why a link out of the directory is left alone.
const OUTSIDE: &str = "is a link to a file outside the output directory, which other places may share";

/// What becomes of the other names of a file: a snapshot made with `cp -al` wants just this, others may
/// not expect it.
const LINKED: &str = "had other names (hard links), which keep what it said before";

/// What one try at a file gave.
enum Tried {
    /// With what people should know about it.
    Done(Merged, Option<String>),
    Refused(String),
    Gone,
}

enum Target {
    File(PathBuf),
    Outside,
}

enum Occupant {
    Nobody,
    /// A policy for somebody else.
    Policy,
    /// Something that is no policy, and why.
    Foreign(String),
    Unknown(StoreError),
}

fn make_directory(root: &Path) -> Result<(), StoreError> {
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(StoreError::NotADirectory(root.to_owned())),
        Err(_) => fs::create_dir_all(root).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                StoreError::NotADirectory(root.to_owned())
            }
            _ => StoreError::Create { path: root.to_owned(), source },
        }),
    }
}

/// The text that a dry run would find in a file: what it planned, or that merged anew where somebody
/// changed the file since. `None` when the file itself is to be taken.
fn base(planned: &Planned, now: Option<&Snapshot>, home: Option<&Namespace>, in_one: bool) -> Option<String> {
    if planned.stamp == now.map(|now| now.stamp) {
        return Some(planned.new.clone());
    }
    if in_one {
        let mut stream = Stream::read(now.map(|now| now.text.as_str()));
        for wanted in &planned.wanted {
            stream.join(home, wanted, wanted.name.as_str() != single::KNOWN).ok()?;
        }
        return stream.text().ok();
    }
    let mut text = now.map(|now| now.text.clone());
    for wanted in &planned.wanted {
        text = Some(guarded(text.as_deref(), home, wanted).ok()?.text);
    }
    text
}

/// [`merge()`], where a fault in reading or editing YAML refuses one file instead of ending the run.
fn guarded(text: Option<&str>, home: Option<&Namespace>, additions: &Policy) -> Result<Merged, Refusal> {
    std::panic::catch_unwind(|| merge(text, home, additions))
        .unwrap_or_else(|_| Err(Refusal::NotEditable("a fault of cpg, please report it".to_owned())))
}

#[cfg(test)]
mod tests;
