//! Label selectors of the one form that cpg writes: equality with every given label.

use std::collections::BTreeMap;
use std::collections::btree_map;

use xxhash_rust::xxh3::Xxh3Default;

use crate::flow::Identity;

/// `matchLabels` that are never empty: an empty selector selects every pod, and cpg never means that.
///
/// Keys are in canonical form: Cilium's own labels with the source `k8s:`, the user's without one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(BTreeMap<Box<str>, Box<str>>);

/// The labels that identify a workload by convention, in the order in which their values name its file.
pub const IDENTIFYING: [&str; 8] = [
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "app",
    "k8s-app",
    "name",
    "component",
    "tier",
];

/// Key prefixes of the labels that Cilium adds itself.
const CILIUM_PREFIXES: [&str; 2] = ["io.cilium.k8s.", "io.kubernetes.pod."];

// === impl Selector ===

impl Selector {
    /// From keys and values; keys are brought into canonical form. `None` when there is no label, or
    /// when two keys that mean the same label disagree.
    pub fn new<K: AsRef<str>, V: AsRef<str>>(labels: impl IntoIterator<Item = (K, V)>) -> Option<Self> {
        let mut map = BTreeMap::new();
        for (key, value) in labels {
            let value: Box<str> = value.as_ref().into();
            match map.entry(canonical_key(key.as_ref())) {
                btree_map::Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                btree_map::Entry::Occupied(entry) if *entry.get() == value => {}
                btree_map::Entry::Occupied(_) => return None,
            }
        }
        (!map.is_empty()).then_some(Self(map))
    }

    /// Keys and values, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value that a canonical key must have.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| &**value)
    }

    /// The same selector without one key; `None` when nothing would be left.
    pub fn without(&self, key: &str) -> Option<Self> {
        Self::new(self.iter().filter(|(k, _)| *k != key))
    }

    /// Whether the labels of an identity meet it. Namespace and cluster keys are not looked at: the
    /// caller knows them.
    pub fn matches_labels(&self, identity: &Identity) -> bool {
        self.iter().all(|(key, value)| {
            let key = key.strip_prefix("k8s:").unwrap_or(key);
            identity.labels.kubernetes(key) == Some(value)
        })
    }

    /// Whether everything that `other` selects is selected by this one too.
    pub fn contains(&self, other: &Self) -> bool {
        self.iter().all(|(key, value)| other.get(key) == Some(value))
    }

    /// A hash that is the same on every machine.
    pub fn hash64(&self) -> u64 {
        let mut hasher = Xxh3Default::new();
        for (key, value) in self.iter() {
            // Lengths keep `a`+`bc` and `ab`+`c` apart.
            for part in [key, value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        hasher.digest()
    }
}

/// A key as cpg writes it. `app`, `any:app` and `k8s:app` name the same label of a pod; other sources
/// stay as they are.
fn canonical_key(key: &str) -> Box<str> {
    let bare = key.strip_prefix("k8s:").or_else(|| key.strip_prefix("any:")).unwrap_or(key);
    if bare.contains(':') {
        return key.into();
    }
    if CILIUM_PREFIXES.iter().any(|prefix| bare.starts_with(prefix)) {
        return format!("k8s:{bare}").into();
    }
    bare.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)], expected: Option<&[(&str, &str)]>) {
        let selector = Selector::new(pairs.iter().copied());
        assert_eq!(selector.as_ref().map(|s| s.iter().collect::<Vec<_>>()).as_deref(), expected);
    }

    #[test]
    fn keys_become_canonical() {
        check(&[], None);
        check(&[("k8s:app", "web")], Some(&[("app", "web")]));
        check(&[("any:app", "web"), ("app", "web")], Some(&[("app", "web")]));
        check(&[("any:app", "web"), ("app", "api")], None);
        check(&[("io.kubernetes.pod.namespace", "db")], Some(&[("k8s:io.kubernetes.pod.namespace", "db")]));
        check(&[("container:app", "x")], Some(&[("container:app", "x")]));
    }

    #[test]
    fn fewer_labels_select_more() {
        let wide = Selector::new([("app", "web")]).unwrap();
        let narrow = Selector::new([("app", "web"), ("tier", "front")]).unwrap();
        assert!(wide.contains(&narrow) && !narrow.contains(&wide));
        assert_ne!(wide.hash64(), narrow.hash64());
        assert_eq!(narrow.without("tier"), Some(wide));
    }
}
