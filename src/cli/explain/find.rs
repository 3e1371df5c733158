//! Which policies a name or a file means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::evidence::Evidence;
use crate::names::Namespace;
use crate::policy::{IDENTIFYING, Kind, Subject, read_documents, subject_of};
use crate::store::{EvidenceFiles, Store};
use crate::text::{near, visible};

/// A policy that was meant.
pub(super) struct Found {
    pub(super) subject: Subject,
    pub(super) held: Vec<HeldIn>,
}

/// A file that a policy stands in.
pub(super) struct HeldIn {
    /// As the user would name it.
    pub(super) path: PathBuf,
    /// The namespace of documents that name none.
    pub(super) home: Option<Namespace>,
    /// `metadata.name` of the policy.
    pub(super) name: Option<String>,
    pub(super) text: String,
}

/// The policies that a target means: a file, or a namespace and a workload. An error names what is near.
pub(super) fn find(target: &str, store: &mut Store, evidence: &EvidenceFiles) -> anyhow::Result<Vec<Found>> {
    let path = Path::new(target);
    if path.is_file() {
        return in_file(path, store);
    }
    let shown = visible(target, 200).into_owned();
    let bare = target.strip_suffix(".yaml").or_else(|| target.strip_suffix(".yml")).unwrap_or(target);
    let Some((namespace, workload)) =
        bare.split_once('/').and_then(|(ns, workload)| Some((Namespace::parse(ns).ok()?, workload)))
    else {
        let near = nearest(bare, store, evidence)?;
        anyhow::bail!("{shown:?} is neither a file nor NAMESPACE/WORKLOAD{near}");
    };
    let all: Vec<_> =
        store.subjects()?.into_iter().filter(|(_, _, subject)| subject.namespace == namespace).collect();
    let known = of_evidence(evidence, Some(&namespace))?;
    let stem = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let cpg_name = format!("cpg-{workload}");
    let is_named = |path: &Path, name: Option<&str>| {
        stem(path).as_deref() == Some(workload)
            || name.is_some_and(|name| name == workload || name == cpg_name)
    };
    let by_name: BTreeSet<Subject> = all
        .iter()
        .filter(|(path, name, _)| is_named(path, name.as_deref()))
        .map(|(_, _, subject)| subject.clone())
        .collect();
    let by_label: BTreeSet<Subject> = all
        .iter()
        .map(|(_, _, subject)| subject)
        .chain(known.iter().map(|(_, subject)| subject))
        .filter(|subject| IDENTIFYING.iter().any(|key| subject.selector.get(key) == Some(workload)))
        .cloned()
        .collect();
    let in_evidence = || known.iter().filter(|(name, _)| name == workload).map(|(_, s)| s.clone()).collect();
    let subjects: BTreeSet<Subject> = [by_name, in_evidence(), by_label]
        .into_iter()
        .find(|subjects: &BTreeSet<Subject>| !subjects.is_empty())
        .unwrap_or_default();
    if subjects.is_empty() {
        let near = nearest(bare, store, evidence)?;
        let root = visible(&store.root().display().to_string(), 500).into_owned();
        anyhow::bail!("no policy {shown} in {root}, and no evidence for one{near}");
    }
    Ok(subjects.into_iter().map(|subject| held(subject, &all, store)).collect())
}

fn held(subject: Subject, all: &[(PathBuf, Option<String>, Subject)], store: &Store) -> Found {
    let name_of = |path: &Path| {
        let found = all.iter().find(|(known, _, s)| known == path && *s == subject);
        found.and_then(|(_, name, _)| name.clone())
    };
    let held = store.holders(&subject).into_iter().map(|(path, home, text)| {
        let name = name_of(&path);
        HeldIn { path: store.shown(&path), home, name, text }
    });
    Found { held: held.collect(), subject }
}

/// The policies of one file, wherever it is.
fn in_file(path: &Path, store: &Store) -> anyhow::Result<Vec<Found>> {
    let shown = visible(&path.display().to_string(), 500).into_owned();
    let text = std::fs::read_to_string(path).map_err(|e| anyhow::anyhow!("cannot read {shown}: {e}"))?;
    let home = std::path::absolute(path).ok().and_then(|path| store.home(&path));
    let documents =
        read_documents(&text).map_err(|e| anyhow::anyhow!("{shown} cannot be read as YAML: {e}"))?;
    let mut subjects: BTreeMap<Subject, Option<String>> = BTreeMap::new();
    for document in documents.iter().filter(|d| d.kind == Kind::CiliumNetworkPolicy) {
        let Some(namespace) = document.namespace(home.as_ref()) else { continue };
        for set in document.rule_sets() {
            if let Some(subject) = subject_of(set, namespace.clone()) {
                subjects.entry(subject).or_insert_with(|| document.name.clone());
            }
        }
    }
    anyhow::ensure!(
        !subjects.is_empty(),
        "{shown} has no CiliumNetworkPolicy of a known namespace that selects pods by the values of labels"
    );
    let found = |(subject, name)| {
        let held = HeldIn { path: path.to_owned(), home: home.clone(), name, text: text.clone() };
        Found { subject, held: vec![held] }
    };
    Ok(subjects.into_iter().map(found).collect())
}

/// The subjects that there is evidence for, each with the name that its file would have.
fn of_evidence(
    files: &EvidenceFiles,
    namespace: Option<&Namespace>,
) -> anyhow::Result<Vec<(String, Subject)>> {
    let mut all = Vec::new();
    for path in files.list(namespace)? {
        // What is damaged is told when it is asked for.
        let Ok(evidence) = Evidence::parse(&files.read_path(&path)?.text) else { continue };
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = stem.rsplit_once('-').map_or(stem, |(name, _)| name).to_owned();
        all.push((name, evidence.subject));
    }
    Ok(all)
}

/// `; did you mean shop/web?`, or which there are, or nothing.
fn nearest(wanted: &str, store: &mut Store, evidence: &EvidenceFiles) -> anyhow::Result<String> {
    const SHOWN: usize = 10;
    let mut names = BTreeSet::new();
    for (path, _, subject) in store.subjects()? {
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
            names.insert(format!("{}/{}", subject.namespace, visible(stem, 100)));
        }
    }
    for (name, subject) in of_evidence(evidence, None)? {
        names.insert(format!("{}/{name}", subject.namespace));
    }
    let workload = wanted.rsplit('/').next().unwrap_or(wanted);
    let mut close: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| name.rsplit('/').next() == Some(workload)).collect();
    close.extend(near(wanted, names.iter().map(String::as_str)));
    close.dedup();
    Ok(match (close.as_slice(), names.len()) {
        ([], 0) => ": there is no policy at all; is --output-dir the right one?".to_owned(),
        ([], n) => {
            let list: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
            format!("; there is {}{}", list.join(", "), if n > SHOWN { ", …" } else { "" })
        }
        (close, _) => format!("; did you mean {}?", close.join(" or ")),
    })
}
