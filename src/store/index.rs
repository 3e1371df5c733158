//! What stands in the directory, known by its meaning and never by its paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::StoreError;
use super::atomic::{self, Stamp, TEMP_PREFIX, TEMP_SUFFIX};
use super::output::{Output, Planned};
use crate::flow::{Direction, Port};
use crate::merge::{Refusal, Says, directions_of, written};
use crate::names::{DnsName, Namespace};
use crate::policy::{Allow, Kind, L7Match, Peer, Policy, Rule, Subject, read_documents, subject_of};

/// How deep below the root files are looked for.
const DEPTH: usize = 12;
/// Files that are larger are no policies that people edit; they are not read.
const LARGEST: u64 = 64 << 20;

/// The policies of a directory.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: BTreeMap<PathBuf, Entry>,
    /// Counts up with every change of what people wrote.
    revision: u64,
}

#[derive(Debug)]
struct Entry {
    stamp: Stamp,
    content: Content,
    /// The text, when it holds policies of any kind that are not cpg's to render anew.
    foreign: Option<Arc<str>>,
}

/// What a file holds.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// At least one CiliumNetworkPolicy.
    Policies(Vec<Found>),
    /// No CiliumNetworkPolicy.
    Other,
    /// There may be one, but it cannot be looked at: why.
    Overlooked(String),
    /// It could not be read.
    Unreadable(String),
}

/// One CiliumNetworkPolicy of a file.
#[derive(Debug, Clone)]
pub(super) struct Found {
    namespace: Option<Namespace>,
    name: Option<String>,
    /// The subjects of `spec` and of the items of `specs`, with the directions they have rules in.
    subjects: Vec<(Subject, BTreeSet<Direction>)>,
    /// What cpg wrote about DNS names, by subject.
    names: BTreeMap<Subject, NamesThere>,
}

/// What the policies of a subject that cpg wrote say about DNS names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamesThere {
    /// The names of `toFQDNs`.
    pub names: BTreeSet<DnsName>,
    /// The peers and ports of DNS rules.
    pub resolvers: BTreeSet<(Peer, Port)>,
}

// === impl Index ===

impl Index {
    /// Looks at every file whose stamp is new, and at what a dry run planned instead of the file.
    pub(super) fn refresh(&mut self, root: &Path, output: &Output) -> Result<(), StoreError> {
        let mut seen = BTreeMap::new();
        let mut old = std::mem::take(&mut self.files);
        let mut paths = Vec::new();
        let mut visit = |path: &Path| {
            if is_manifest(path) && output.planned(path).is_none() {
                paths.push(path.to_owned());
            }
        };
        match walk(root, 0, &mut visit) {
            Err(StoreError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound && matches!(output, Output::DryRun(_)) => {}
            walked => walked?,
        }
        for (path, planned) in output.all_planned() {
            let before = old.remove(path);
            let entry = match before {
                Some(entry) if entry.stamp == Stamp::of_text(&planned.new) => entry,
                before => {
                    let entry = Entry::planned(planned, home(root, path).as_ref());
                    self.changed(before.as_ref(), Some(&entry));
                    entry
                }
            };
            seen.insert(path.to_owned(), entry);
        }
        for path in paths {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if !metadata.is_file() {
                continue;
            }
            let stamp = Stamp::of(&metadata);
            let entry = match old.remove(&path) {
                Some(entry) if entry.stamp == stamp => entry,
                before => {
                    let entry = Entry::look(stamp, &path, metadata.len(), home(root, &path).as_ref());
                    self.changed(before.as_ref(), Some(&entry));
                    entry
                }
            };
            seen.insert(path, entry);
        }
        for gone in old.values() {
            self.changed(Some(gone), None);
        }
        self.files = seen;
        Ok(())
    }

    /// What people wrote, by path: every file with policies of any kind that is not cpg's to render
    /// anew. The number is another one whenever something in it is.
    pub(super) fn foreign(&self) -> (u64, impl Iterator<Item = (&Path, &Arc<str>)>) {
        let texts =
            self.files.iter().filter_map(|(path, entry)| Some((path.as_path(), entry.foreign.as_ref()?)));
        (self.revision, texts)
    }

    fn changed(&mut self, before: Option<&Entry>, after: Option<&Entry>) {
        let text = |entry: Option<&Entry>| entry.and_then(|entry| entry.foreign.clone());
        if text(before) != text(after) {
            self.revision += 1;
        }
    }

    /// Looks at one file again.
    pub(super) fn renew(&mut self, root: &Path, path: &Path, output: &Output) {
        if let Some(planned) = output.planned(path) {
            let entry = Entry::planned(planned, home(root, path).as_ref());
            let before = self.files.remove(path);
            self.changed(before.as_ref(), Some(&entry));
            self.files.insert(path.to_owned(), entry);
            return;
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                let home = home(root, path);
                let entry = Entry::look(Stamp::of(&metadata), path, metadata.len(), home.as_ref());
                let before = self.files.remove(path);
                self.changed(before.as_ref(), Some(&entry));
                self.files.insert(path.to_owned(), entry);
            }
            _ => {
                let before = self.files.remove(path);
                self.changed(before.as_ref(), None);
            }
        }
    }

    /// The files that hold a policy for a subject: those that cpg named first, then by path.
    pub(super) fn holders(&self, subject: &Subject) -> Vec<PathBuf> {
        let mut holders: Vec<(bool, &PathBuf)> = Vec::new();
        for (path, found) in self.policies() {
            if found.subjects.iter().any(|(known, _)| known == subject) {
                let ours = found.name.as_deref().is_some_and(|name| name.starts_with("cpg-"));
                holders.push((!ours, path));
            }
        }
        holders.sort();
        let mut paths: Vec<PathBuf> = holders.into_iter().map(|(_, path)| path.clone()).collect();
        let mut known = BTreeSet::new();
        paths.retain(|path| known.insert(path.clone()));
        paths
    }

    /// The directions in which files other than `path` have rules for a subject.
    pub(super) fn directions_elsewhere(&self, subject: &Subject, path: &Path) -> BTreeSet<Direction> {
        let others = self.policies().filter(|(other, _)| *other != path);
        others
            .flat_map(|(_, found)| &found.subjects)
            .filter(|(known, _)| known == subject)
            .flat_map(|(_, directions)| directions.iter().copied())
            .collect()
    }

    /// Whether a policy of this namespace has this `metadata.name`.
    pub(super) fn has_name(&self, namespace: &Namespace, name: &str) -> bool {
        self.policies().any(|(_, found)| {
            found.namespace.as_ref() == Some(namespace) && found.name.as_deref() == Some(name)
        })
    }

    /// The file that is cpg's to render anew and holds the policy of this name.
    pub(super) fn rendered(&self, namespace: &str, name: &str) -> Option<&Path> {
        let found = |found: &Found| {
            found.name.as_deref() == Some(name)
                && found.namespace.as_ref().map(Namespace::as_str) == Some(namespace)
        };
        let ours = |entry: &Entry| match &entry.content {
            Content::Policies(all) => entry.foreign.is_none() && all.iter().any(found),
            _ => false,
        };
        self.files.iter().find(|(_, entry)| ours(entry)).map(|(path, _)| path.as_path())
    }

    /// The files that are cpg's to render anew.
    pub(super) fn all_rendered(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().filter_map(|(path, entry)| match &entry.content {
            Content::Policies(_) if entry.foreign.is_none() => Some(path.as_path()),
            _ => None,
        })
    }

    /// What the policies of a subject that cpg wrote say about DNS names, also where people went on with
    /// them.
    pub(super) fn names_of(&self, subject: &Subject) -> NamesThere {
        let mut all = NamesThere::default();
        for there in self.policies().filter_map(|(_, found)| found.names.get(subject)) {
            all.names.extend(there.names.iter().cloned());
            all.resolvers.extend(there.resolvers.iter().cloned());
        }
        all
    }

    /// What a file holds, if it was looked at.
    pub(super) fn content(&self, path: &Path) -> Option<&Content> {
        self.files.get(path).map(|entry| &entry.content)
    }

    /// The files that may hold policies and could not be looked at, with the reason.
    pub(super) fn overlooked(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files.iter().filter_map(|(path, entry)| match &entry.content {
            Content::Overlooked(why) | Content::Unreadable(why) => Some((path.as_path(), why.as_str())),
            Content::Policies(_) | Content::Other => None,
        })
    }

    /// Every subject of every policy, with its file and its `metadata.name`.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (&Path, Option<&str>, &Subject)> {
        self.policies().flat_map(|(path, found)| {
            found.subjects.iter().map(move |(subject, _)| (path.as_path(), found.name.as_deref(), subject))
        })
    }

    fn policies(&self) -> impl Iterator<Item = (&PathBuf, &Found)> {
        self.files.iter().flat_map(|(path, entry)| {
            let found = match &entry.content {
                Content::Policies(found) => found.as_slice(),
                _ => &[],
            };
            found.iter().map(move |found| (path, found))
        })
    }
}

/// The namespace that the documents of a file belong to when they name none: the name of the first
/// directory below the root.
pub(super) fn home(root: &Path, path: &Path) -> Option<Namespace> {
    let below = path.strip_prefix(root).ok()?;
    let mut parts = below.components();
    let first = parts.next()?;
    parts.next()?;
    Namespace::parse(first.as_os_str().to_str()?).ok()
}

/// Removes what earlier runs left behind when they were killed.
pub(super) fn sweep(root: &Path) -> Result<usize, StoreError> {
    let mut stale = Vec::new();
    let mut collect = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(TEMP_PREFIX) && name.ends_with(TEMP_SUFFIX) {
            stale.push(path.to_owned());
        }
    };
    walk(root, 0, &mut collect)?;
    let own = root.join(".cpg");
    if own.symlink_metadata().is_ok_and(|m| m.is_dir()) {
        walk(&own, 0, &mut collect)?;
    }
    let mut swept = 0;
    for path in stale {
        match fs::remove_file(&path) {
            Ok(()) => swept += 1,
            Err(e) => tracing::warn!(path = %path.display(), error = %e, "a stale temporary file stays"),
        }
    }
    Ok(swept)
}

/// Every file (and link to one) below a directory, in no order; hidden and linked directories are left
/// out. A directory that cannot be read fails only at the top.
fn walk(directory: &Path, depth: usize, visit: &mut dyn FnMut(&Path)) -> Result<(), StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if depth == 0 => return Err(StoreError::read(directory, e)),
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                tracing::warn!(directory = %directory.display(), error = %e, "a directory is not looked at");
            }
            return Ok(());
        }
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if !kind.is_dir() {
            visit(&path);
        } else if !is_hidden(&path) {
            if depth < DEPTH {
                walk(&path, depth + 1, visit)?;
            } else {
                tracing::warn!(directory = %path.display(), "a directory is too deep to be looked at");
            }
        }
    }
    Ok(())
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_manifest(path: &Path) -> bool {
    !is_hidden(path) && path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
}

// === impl Entry ===

impl Entry {
    fn look(stamp: Stamp, path: &Path, length: u64, home: Option<&Namespace>) -> Self {
        let without = |content| Self { stamp, content, foreign: None };
        if length > LARGEST {
            return without(Content::Overlooked("is too large to be looked at".to_owned()));
        }
        let text = match atomic::read(path) {
            Ok(snapshot) => snapshot.text,
            Err(e) => return without(Content::Unreadable(e.to_string())),
        };
        Self::of(stamp, &text, home)
    }

    fn planned(planned: &Planned, home: Option<&Namespace>) -> Self {
        Self::of(Stamp::of_text(&planned.new), &planned.new, home)
    }

    fn of(stamp: Stamp, text: &str, home: Option<&Namespace>) -> Self {
        let without = |content| Self { stamp, content, foreign: None };
        // Parsing is the dear part of looking, and most YAML files of a repository are no policies.
        if !text.contains("NetworkPolicy") {
            return without(Content::Other);
        }
        if let Some(policies) = Policy::all_from_canonical(text) {
            return without(Content::Policies(policies.iter().map(Found::canonical).collect()));
        }
        Self { stamp, content: content(text, home), foreign: Some(text.into()) }
    }
}

impl Found {
    fn canonical(policy: &Policy) -> Self {
        let directions = policy.rules().map(|rule| rule.direction).collect();
        let own =
            Value::Object(policy.subject.selector.iter().map(|(k, v)| (k.to_owned(), v.into())).collect());
        let spec = serde_json::json!({ "endpointSelector": { "matchLabels": own } });
        let namespace = policy.subject.namespace.clone();
        let subject = subject_of(&spec, namespace.clone()).unwrap_or_else(|| policy.subject.clone());
        Self {
            namespace: Some(namespace),
            name: Some(policy.name.as_str().to_owned()),
            names: [(subject.clone(), NamesThere::of(policy.rules()))].into(),
            subjects: vec![(subject, directions)],
        }
    }
}

// === impl NamesThere ===

impl NamesThere {
    fn of(rules: impl Iterator<Item = Rule>) -> Self {
        let mut there = Self::default();
        for rule in rules {
            match (rule.peer, rule.allow, rule.l7) {
                (Peer::Fqdn(name), ..) => {
                    there.names.insert(name);
                }
                (peer, Allow::Port(_, port), Some(L7Match::Dns(_))) => {
                    there.resolvers.insert((peer, port));
                }
                _ => {}
            }
        }
        there
    }
}

fn content(text: &str, home: Option<&Namespace>) -> Content {
    // Parsing is the dear part of looking, and most YAML files of a repository are no policies.
    if !text.contains("CiliumNetworkPolicy") {
        return Content::Other;
    }
    let documents = match read_documents(text) {
        Ok(documents) => documents,
        Err(_) => return Content::Overlooked(Refusal::of_foreign(text).to_string()),
    };
    let mut policies = Vec::new();
    for document in documents.iter().filter(|document| document.kind == Kind::CiliumNetworkPolicy) {
        let namespace = document.namespace(home);
        let mut subjects = Vec::new();
        for set in document.rule_sets() {
            if let Some(subject) = namespace.clone().and_then(|namespace| subject_of(set, namespace)) {
                subjects.push((subject, directions_of(set)));
            }
        }
        let ours = document.name.as_deref().is_some_and(|name| name.starts_with("cpg-"));
        let rules = |subject: &Subject| {
            written(std::slice::from_ref(document), home, subject).into_iter().filter_map(|w| match w.says {
                Says::Rule(rule) => Some(rule),
                Says::Other(..) => None,
            })
        };
        let names = subjects.iter().filter(|_| ours).map(|(s, _)| (s.clone(), NamesThere::of(rules(s))));
        policies.push(Found { namespace, name: document.name.clone(), names: names.collect(), subjects });
    }
    if policies.is_empty() { Content::Other } else { Content::Policies(policies) }
}
