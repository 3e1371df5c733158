//! One file for every new policy, as documents of one stream.

use std::collections::BTreeSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::atomic::{self, Replaced};
use super::output::{Output as Sink, Planned};
use super::{Addition, Applied, OUTSIDE, Store, StoreError, Target, base, index, kustomize, naming};
use crate::merge::{Merged, Outcome, Refusal, Stream};
use crate::names::PolicyName;
use crate::policy::{Policy, Subject};

/// What a policy is called that stands in the file already; never written.
pub(super) const KNOWN: &str = "cpg";

/// What one pass over the file gave.
enum Pass {
    Done(Vec<(usize, Result<Merged, Refusal>)>),
    /// Somebody else wrote it meanwhile.
    Stale,
}

fn is_change(joined: &Result<Merged, Refusal>) -> bool {
    joined.as_ref().is_ok_and(|merged| merged.outcome != Outcome::Unchanged)
}

// === impl Store ===

impl Store {
    /// New policies go to this file below the directory, as documents of one stream. Those that stand elsewhere in
    /// the directory stay where they are.
    #[must_use]
    pub fn in_one_file(self, file: Option<&Path>) -> Self {
        let single = file.map(|file| self.root.join(file));
        Self { single, ..self }
    }

    /// Whether a subject's rules go to the one file.
    pub(super) fn goes_to_single(&self, subject: &Subject) -> bool {
        let Some(single) = &self.single else { return false };
        self.index.holders(subject).first().is_none_or(|holder| holder == single)
    }

    /// Writes these of the additions to the one file, at once.
    pub(super) fn apply_single(&mut self, additions: &[Addition], which: &[usize]) -> Vec<(usize, Applied)> {
        let Some(path) = self.single.clone().filter(|_| !which.is_empty()) else { return Vec::new() };
        let passed = path.parent().map_or(Ok(()), |directory| self.make_below(directory)).and_then(|()| {
            for _ in 0..2 {
                if let Pass::Done(all) = self.pass(&path, additions, which)? {
                    return Ok(all);
                }
            }
            Err(StoreError::Changed(path.clone()))
        });
        let all = match passed {
            Ok(all) => all,
            Err(e) => {
                // An error is no text that could be said twice.
                let mut errors = std::iter::once(e).chain(std::iter::repeat_with(|| self.unwritten(&path)));
                let failed =
                    |i: &usize| Some((*i, Applied::failed(&additions[*i], path.clone(), errors.next()?)));
                return which.iter().filter_map(failed).collect();
            }
        };
        self.index.renew(&self.root, &path, &self.output);
        let changed = |(_, joined): &(usize, Result<Merged, Refusal>)| is_change(joined);
        let notes: Vec<String> = all
            .iter()
            .any(changed)
            .then(|| kustomize::unlisted(&self.root, &path))
            .flatten()
            .into_iter()
            .collect();
        let finish = |(i, joined): (usize, Result<Merged, Refusal>)| {
            let applied = match joined {
                Ok(merged) => self.applied(&additions[i], path.clone(), merged, &notes),
                Err(why) => self.write_beside(&path, &why.to_string(), &additions[i]),
            };
            (i, applied)
        };
        all.into_iter().map(finish).collect()
    }

    fn unwritten(&self, path: &Path) -> StoreError {
        StoreError::Unwritable {
            path: path.to_owned(),
            why: "could not be written for another policy in it".to_owned(),
        }
    }

    fn pass(&mut self, path: &Path, additions: &[Addition], which: &[usize]) -> Result<Pass, StoreError> {
        let refused = |why: &str| {
            let each = |i: &usize| (*i, Err(Refusal::NotEditable(why.to_owned())));
            Pass::Done(which.iter().map(each).collect())
        };
        let target: PathBuf = match self.target(path)? {
            Target::File(target) => target,
            Target::Outside => return Ok(refused(OUTSIDE)),
        };
        let old = match atomic::read(&target) {
            Ok(old) => Some(old),
            Err(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let home = index::home(&self.root, path);
        let planned = self.output.planned(&target);
        let before = planned.and_then(|planned| base(planned, old.as_ref(), home.as_ref(), true));
        let text = before.as_deref().or(old.as_ref().map(|old| old.text.as_str()));
        let mut stream = Stream::read(text);
        let mut taken: BTreeSet<(String, String)> = BTreeSet::new();
        let (mut all, mut wanted) = (Vec::new(), Vec::new());
        for i in which {
            let addition = &additions[*i];
            let policy = match self.named(addition, &mut taken) {
                Ok(policy) => policy,
                Err(why) => {
                    all.push((*i, Err(why)));
                    continue;
                }
            };
            let join =
                AssertUnwindSafe(|| stream.join(home.as_ref(), &policy, policy.name.as_str() != KNOWN));
            // What a fault leaves of the text is not used.
            let Ok(joined) = catch_unwind(join) else {
                return Ok(refused("a fault of cpg, please report it"));
            };
            if joined.is_ok() {
                wanted.push(policy);
            }
            all.push((*i, joined));
        }
        let changed = |(_, joined): &(usize, Result<Merged, Refusal>)| is_change(joined);
        if !all.iter().any(changed) && before.is_none() {
            return Ok(Pass::Done(all));
        }
        let unwritable =
            |why: Refusal| StoreError::Unwritable { path: path.to_owned(), why: why.to_string() };
        let new = stream.text().map_err(unwritable)?;
        if let Sink::DryRun(planned) = &mut self.output {
            let mut earlier = planned.remove(&target).map(|known| known.wanted).unwrap_or_default();
            earlier.append(&mut wanted);
            planned.insert(target, Planned::new(old.as_ref(), new, earlier));
        } else if atomic::replace(&target, &new, old.as_ref())? == Replaced::Stale {
            return Ok(Pass::Stale);
        }
        Ok(Pass::Done(all))
    }

    /// The additions as a policy; its name is one that nobody has, where it is new.
    fn named(&self, addition: &Addition, taken: &mut BTreeSet<(String, String)>) -> Result<Policy, Refusal> {
        let Addition { subject, rules } = addition;
        let no_name = || Refusal::NotEditable(format!("no name is free for {subject}"));
        let name = if self.index.holders(subject).is_empty() {
            let namespace = subject.namespace.as_str();
            let names = naming::candidates(&subject.selector).into_iter().map(|name| format!("cpg-{name}"));
            let mut free = names.filter(|name| {
                !self.index.has_name(&subject.namespace, name)
                    && !taken.contains(&(namespace.to_owned(), name.clone()))
            });
            let name = free.next().ok_or_else(no_name)?;
            taken.insert((namespace.to_owned(), name.clone()));
            name
        } else {
            KNOWN.to_owned()
        };
        let name = PolicyName::parse(&name).map_err(|_| no_name())?;
        let mut policy = Policy::new(name, subject.clone());
        for rule in rules {
            policy.add(rule.clone());
        }
        Ok(policy)
    }
}
