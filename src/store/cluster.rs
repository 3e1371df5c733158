//! One directory, one cluster: whose flows made these policies.

use std::path::PathBuf;

use super::{Store, StoreError, atomic};

/// Where it stands, below the directory. No ending of YAML or JSON: no tool for GitOps applies it.
const FILE: [&str; 2] = [".cpg", "cluster"];
const HEAD: &str = "# The cluster whose flows made the policies in this directory. Written by cpg.\n";
const UID: &str = "kube-system-uid";
const NAME: &str = "relay-cluster";

/// Who a cluster is, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterIdentity {
    /// The UID of namespace kube-system.
    pub uid: Option<String>,
    /// What the relay calls it.
    pub name: Option<String>,
}

/// Why a directory does not take policies of a cluster.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// It has those of another one.
    #[error(
        "{root} has the policies of another cluster ({there}, and this is {here}): name another directory with \
         --output-dir, or say with --accept-cluster that it shall be this one's from now on"
    )]
    Other {
        /// The directory.
        root: String,
        /// Whose it is.
        there: String,
        /// Whose flows were to come.
        here: String,
    },
    /// It cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl Store ===

impl Store {
    /// Makes the directory this cluster's, as far as both are known; refuses another's, unless `accept`.
    /// A dry run only refuses.
    pub fn stamp(&self, here: &ClusterIdentity, accept: bool) -> Result<(), StampError> {
        let _lock = self.lock()?;
        let path: PathBuf = FILE.iter().fold(self.root.clone(), |path, part| path.join(part));
        let snapshot = if path.exists() { Some(atomic::read(&path)?) } else { None };
        let there = snapshot.as_ref().map(|s| ClusterIdentity::parse(&s.text)).unwrap_or_default();
        if !accept && let Some((there, here)) = there.differs(here) {
            let root = crate::text::visible(&self.root.display().to_string(), 1000).into_owned();
            return Err(StampError::Other { root, there, here });
        }
        let merged = if accept && there.differs(here).is_some() {
            here.clone()
        } else {
            ClusterIdentity {
                uid: here.uid.clone().or_else(|| there.uid.clone()),
                name: here.name.clone().or_else(|| there.name.clone()),
            }
        };
        if merged == there || self.is_dry_run() {
            return Ok(());
        }
        let dir = path.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(dir).map_err(|e| StoreError::write(dir, e))?;
        atomic::replace(&path, &merged.text(), snapshot.as_ref())?;
        atomic::sync_directory(dir);
        Ok(())
    }
}

// === impl ClusterIdentity ===

impl ClusterIdentity {
    /// What differs, as (there, here). Only kind is compared with kind; where both have a UID, it decides.
    fn differs(&self, here: &Self) -> Option<(String, String)> {
        let kinds = [(UID, &self.uid, &here.uid), (NAME, &self.name, &here.name)];
        let (kind, there, here) = kinds
            .into_iter()
            .find_map(|(kind, there, here)| Some((kind, there.as_ref()?, here.as_ref()?)))?;
        (there != here).then(|| (format!("{kind} {there}"), format!("{kind} {here}")))
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))?;
            Some(crate::text::visible(value.trim(), 200).into_owned())
        };
        Self { uid: value(UID), name: value(NAME) }
    }

    fn text(&self) -> String {
        let line = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{key}: {value}\n")).unwrap_or_default()
        };
        format!("{HEAD}{}{}", line(UID, &self.uid), line(NAME, &self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_compared_with_kind() {
        let of = |uid: &str, name: &str| {
            let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            ClusterIdentity { uid: known(uid), name: known(name) }
        };
        let check = |there: ClusterIdentity, here: ClusterIdentity, same: bool| {
            assert_eq!(there.differs(&here).is_none(), same, "{there:?} {here:?}");
            assert_eq!(ClusterIdentity::parse(&there.text()), there);
        };
        check(of("", ""), of("a", "west"), true);
        check(of("a", ""), of("", "west"), true);
        check(of("a", ""), of("a", "west"), true);
        check(of("a", ""), of("b", ""), false);
        check(of("", "west"), of("b", "west"), true);
        check(of("", "west"), of("", "east"), false);
        // Renamed.
        check(of("a", "west"), of("a", "east"), true);
        check(of("a", "west"), of("b", "west"), false);
    }

    #[test]
    fn a_directory_belongs_to_one_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("p"), std::time::Duration::from_secs(1)).unwrap();
        let west = ClusterIdentity { uid: None, name: Some("west".into()) };
        let full = ClusterIdentity { uid: Some("u-1".into()), ..west.clone() };
        let east = ClusterIdentity { uid: None, name: Some("east".into()) };
        store.stamp(&ClusterIdentity::default(), false).unwrap();
        assert!(!dir.path().join("p/.cpg").exists());
        store.stamp(&west, false).unwrap();
        store.stamp(&full, false).unwrap();
        let file = dir.path().join("p/.cpg/cluster");
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, format!("{HEAD}kube-system-uid: u-1\nrelay-cluster: west\n"));
        let refused = store.stamp(&east, false).unwrap_err().to_string();
        for part in ["relay-cluster west, and this is relay-cluster east", "--output-dir", "--accept-cluster"]
        {
            assert!(refused.contains(part), "{refused}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        store.stamp(&east, true).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{HEAD}relay-cluster: east\n"));
    }
}
