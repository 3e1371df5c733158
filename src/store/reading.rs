//! What stands in the directory, for those who ask and do not write.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{NamesThere, Store, StoreError, atomic, index, make_directory};
use crate::names::Namespace;
use crate::policy::{Policy, Subject};

/// A file with policies that is in people's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Below the directory.
    pub path: PathBuf,
    /// The namespace of documents that name none.
    pub home: Option<Namespace>,
    /// The whole text.
    pub text: Arc<str>,
}

impl Store {
    /// What people wrote in the directory: the text of every file that holds policies of any kind and is
    /// not cpg's to render anew, with the namespace of its documents that name none. The number is
    /// another one whenever something in it is. Takes no lock.
    pub fn foreign(&mut self) -> Result<(u64, Vec<Foreign>), StoreError> {
        if !self.is_dry_run() {
            make_directory(&self.root)?;
        }
        self.look()?;
        let (revision, texts) = self.index.foreign();
        let foreign = |(path, text): (&Path, &Arc<str>)| Foreign {
            path: path.strip_prefix(&self.root).unwrap_or(path).to_owned(),
            home: index::home(&self.root, path),
            text: Arc::clone(text),
        };
        Ok((revision, texts.map(foreign).collect()))
    }

    /// Every policy of the directory: as [`Store::foreign`], with the files that are cpg's to render anew.
    pub fn policies(&mut self) -> Result<Vec<Foreign>, StoreError> {
        let (_, mut all) = self.foreign()?;
        for path in self.index.all_rendered() {
            let text = match self.output.planned(path) {
                Some(planned) => planned.new.as_str().into(),
                None => atomic::read(path)?.text.into(),
            };
            let below = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
            all.push(Foreign { path: below, home: index::home(&self.root, path), text });
        }
        Ok(all)
    }

    /// The policy of this name, where it stands in a file that is cpg's to render anew. As the directory was
    /// at the last call of [`Store::foreign`] or [`Store::apply`].
    pub fn rendered(&self, namespace: &str, name: &str) -> Option<Policy> {
        let path = self.index.rendered(namespace, name)?;
        let all = Policy::all_from_canonical(&atomic::read(path).ok()?.text)?;
        all.into_iter().find(|policy| policy.place() == (namespace, name))
    }

    /// What the policies of a subject that cpg wrote say about DNS names. As the directory was at the last
    /// call of [`Store::foreign`] or [`Store::apply`].
    pub fn names_of(&self, subject: &Subject) -> NamesThere {
        self.index.names_of(subject)
    }

    /// The files that may hold policies and could not be looked at when [`Store::apply`] was called last,
    /// each with the reason: what they allow is not known here.
    pub fn overlooked(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.index.overlooked()
    }
}
