//! What repeats from flow to flow is decoded once: a cache that is bounded in entries and in bytes.

use hashbrown::HashMap;

/// Longer keys are not kept, so that a cache is bounded in bytes too.
const LONGEST_KEY: usize = 4_096;

/// A cache of two generations: when the young one is full it becomes the old one, and what was in the
/// old one is gone; a hit in the old one moves to the young.
#[derive(Debug)]
pub(super) struct Generations<V> {
    young: HashMap<Box<[u8]>, V>,
    old: HashMap<Box<[u8]>, V>,
    cap: usize,
}

// === impl Generations ===

impl<V: Clone> Generations<V> {
    pub(super) fn new(cap: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), cap }
    }

    pub(super) fn get(&mut self, key: &[u8]) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value.clone());
        Some(value)
    }

    pub(super) fn insert(&mut self, key: &[u8], value: V) {
        if key.len() <= LONGEST_KEY {
            self.put(key.into(), value);
        }
    }

    fn put(&mut self, key: Box<[u8]>, value: V) {
        if self.young.len() >= self.cap {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_has_two_generations() {
        let mut cache = Generations::new(2);
        cache.insert(b"a", 1);
        cache.insert(b"b", 2);
        cache.insert(b"c", 3);
        assert_eq!(cache.get(b"a"), Some(1), "a hit in the old one moves to the young one");
        cache.insert(b"d", 4);
        assert_eq!([cache.get(b"b"), cache.get(b"c"), cache.get(b"a")], [None, Some(3), Some(1)]);
        assert!(cache.young.len() <= 2 && cache.old.len() <= 2);
        cache.insert(&[0; LONGEST_KEY + 1], 5);
        assert_eq!(cache.get(&[0; LONGEST_KEY + 1]), None);
    }
}
