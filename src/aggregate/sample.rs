//! Bounded sets that can be joined: both keep the smallest of what they saw, so the order in which
//! things came, and through how many hands, makes no difference.

/// The `N` smallest of the hashes that were put in, sorted: exact below `N`, a fair sample above.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Smallest<const N: usize>(Vec<u64>);

/// Hashes below a threshold that sinks by halves as the set fills: a sample of the same part of the
/// hash space, whatever came when. Membership can only be asked for hashes below the threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sampled {
    hashes: hashbrown::HashSet<u64>,
    capacity: usize,
    /// Hashes with more than this many leading zero bits less than asked for are left out.
    zero_bits: u32,
}

// === impl Smallest ===

impl<const N: usize> Smallest<N> {
    /// Puts one hash in; says whether it is among the smallest.
    pub fn insert(&mut self, hash: u64) -> bool {
        if self.0.len() >= N && self.0.last().is_some_and(|largest| hash > *largest) {
            return false;
        }
        if let Err(place) = self.0.binary_search(&hash) {
            self.0.insert(place, hash);
            self.0.truncate(N);
        }
        true
    }

    /// Puts all of another set in.
    pub fn join(&mut self, other: &Self) {
        for hash in &other.0 {
            self.insert(*hash);
        }
    }

    /// How many different hashes were put in: exact below `N`, then an estimate from how densely the
    /// smallest lie (standard error about `1/sqrt(N)`).
    pub fn count(&self) -> u64 {
        match self.0.last() {
            Some(largest) if !self.is_exact() => {
                let density = (self.0.len() - 1) as f64 / (*largest as f64 / u64::MAX as f64);
                density.round().max(self.0.len() as f64) as u64
            }
            _ => self.0.len() as u64,
        }
    }

    /// Whether `count` is exact.
    pub fn is_exact(&self) -> bool {
        self.0.len() < N
    }

    /// The hashes, smallest first.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }
}

// === impl Sampled ===

impl Sampled {
    pub(super) fn new(capacity: usize) -> Self {
        Self { hashes: hashbrown::HashSet::new(), capacity, zero_bits: 0 }
    }

    pub(super) fn insert(&mut self, hash: u64) {
        if !self.covers(hash) || !self.hashes.insert(hash) {
            return;
        }
        while self.hashes.len() > self.capacity && self.zero_bits < 64 {
            self.zero_bits += 1;
            let zero_bits = self.zero_bits;
            self.hashes.retain(|hash| hash.leading_zeros() >= zero_bits);
        }
    }

    pub(super) fn join(&mut self, other: &Self) {
        if other.zero_bits > self.zero_bits {
            self.zero_bits = other.zero_bits;
            let zero_bits = self.zero_bits;
            self.hashes.retain(|hash| hash.leading_zeros() >= zero_bits);
        }
        for hash in &other.hashes {
            self.insert(*hash);
        }
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        self.hashes.contains(&hash)
    }

    /// Whether the answer of `contains` means anything for this hash.
    fn covers(&self, hash: u64) -> bool {
        hash.leading_zeros() >= self.zero_bits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(hashes: &[u64]) -> Smallest<4> {
        let mut set = Smallest::default();
        for hash in hashes {
            set.insert(*hash);
        }
        set
    }

    #[test]
    fn exact_below_the_limit_and_near_above() {
        assert_eq!((set(&[1, 2, 2, 3]).count(), set(&[1, 2, 3]).is_exact()), (3, true));
        let mut many = Smallest::<64>::default();
        for i in 0..10_000u64 {
            many.insert(xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes()));
        }
        assert!(!many.is_exact());
        assert!((7_000..13_000).contains(&many.count()), "{}", many.count());
    }

    proptest! {
        #[test]
        fn a_join_is_the_set_of_everything(a in prop::collection::vec(any::<u64>(), 0..20),
                                           b in prop::collection::vec(any::<u64>(), 0..20)) {
            let all = set(&[a.clone(), b.clone()].concat());
            let (mut ab, mut ba) = (set(&a), set(&b));
            ab.join(&set(&b));
            ba.join(&set(&a));
            prop_assert_eq!(&ab, &all);
            prop_assert_eq!(&ba, &all);
            ab.join(&set(&a));
            prop_assert_eq!(&ab, &all);
        }

        #[test]
        fn sampled_sets_join_likewise(a in prop::collection::vec(any::<u64>(), 0..60),
                                      b in prop::collection::vec(any::<u64>(), 0..60)) {
            let of = |hashes: &[u64]| {
                let mut set = Sampled::new(8);
                hashes.iter().for_each(|h| set.insert(*h));
                set
            };
            let all = of(&[a.clone(), b.clone()].concat());
            let (mut ab, mut ba) = (of(&a), of(&b));
            ab.join(&of(&b));
            ba.join(&of(&a));
            prop_assert_eq!(&ab, &all);
            prop_assert_eq!(&ba, &all);
            prop_assert!(all.hashes.len() <= 8);
        }
    }
}
