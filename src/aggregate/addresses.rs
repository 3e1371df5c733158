//! Which addresses are pods', and under which labels each pod was seen: what tells an identity that was not
//! spread yet from one that is right.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use jiff::{SignedDuration, Timestamp};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::tally::earliest;
use crate::flow::{Endpoint, Flow, Identity, Reserved};
use crate::names::Namespace;

/// A pod whose labels become others within this time was starting, or is being relabelled; its identity is
/// spread within seconds (cilium#35993, #33581).
const SHORTLY: SignedDuration = SignedDuration::from_secs(60);
/// Labels of one address that are told apart.
const FACES: usize = 4;

/// Addresses of pods with the labels seen there. Joins in any order; above its capacity a fair sample of the
/// addresses stays.
#[derive(Debug, Clone, PartialEq)]
pub struct Addresses {
    known: HashMap<IpAddr, Vec<Face>>,
    capacity: usize,
    /// Addresses whose hash has fewer leading zero bits are left out.
    zero_bits: u32,
}

/// A pod under one set of labels at one address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Face {
    /// The hash of its namespace and name.
    pod: u64,
    identity: Arc<Identity>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

// === impl Addresses ===

impl Addresses {
    /// Room for so many addresses.
    pub fn new(capacity: usize) -> Self {
        Self { known: HashMap::new(), capacity, zero_bits: 0 }
    }

    /// Notes both ends of a flow, where Hubble knows the address as a pod's.
    pub fn note(&mut self, flow: &Flow) {
        let Some((source, destination)) = flow.ip else { return };
        for (endpoint, address) in [(&flow.source, source), (&flow.destination, destination)] {
            if let Some(endpoint) = endpoint.as_deref().filter(|endpoint| endpoint.address_is_pod) {
                self.see(endpoint, address, flow.time);
            }
        }
    }

    fn see(&mut self, endpoint: &Endpoint, address: IpAddr, time: Option<Timestamp>) {
        let namespace = endpoint.identity.namespace.as_ref().map_or("", Namespace::as_str);
        let pod = pod_hash(namespace, endpoint.pod.as_deref().unwrap_or_default());
        // Nearly every flow is of a pod that is known, under the labels that are known.
        if let Some(faces) = self.known.get_mut(&address)
            && let Some(face) = faces.iter_mut().find(|f| f.pod == pod && f.identity == endpoint.identity)
        {
            face.first = earliest(face.first, time);
            face.last = face.last.max(time);
            return;
        }
        let identity = Arc::clone(&endpoint.identity);
        self.add(address, Face { pod, identity, first: time, last: time });
    }

    fn add(&mut self, address: IpAddr, new: Face) {
        if !covers(self.zero_bits, address) {
            return;
        }
        let faces = self.known.entry(address).or_default();
        match faces.iter_mut().find(|face| face.pod == new.pod && face.identity == new.identity) {
            Some(face) => {
                face.first = earliest(face.first, new.first);
                face.last = face.last.max(new.last);
            }
            None => {
                faces.push(new);
                faces.sort_unstable();
                faces.truncate(FACES);
            }
        }
        while self.known.len() > self.capacity && self.zero_bits < 64 {
            self.zero_bits += 1;
            let zero_bits = self.zero_bits;
            self.known.retain(|address, _| covers(zero_bits, *address));
        }
    }

    /// Joins what others saw.
    pub fn join(&mut self, other: Self) {
        if other.zero_bits > self.zero_bits {
            self.zero_bits = other.zero_bits;
            let zero_bits = self.zero_bits;
            self.known.retain(|address, _| covers(zero_bits, *address));
        }
        for (address, faces) in other.known {
            faces.into_iter().for_each(|face| self.add(address, face));
        }
    }

    /// Whether Hubble showed this address as that of a pod of Cilium's.
    pub fn is_pod(&self, address: IpAddr) -> bool {
        self.known.get(&address).is_some_and(|faces| faces.iter().any(|face| !face.is_unsure()))
    }

    /// Whether this pod, `namespace/name`, was seen with labels of its own.
    pub fn is_pod_named(&self, name: &str) -> bool {
        let Some((namespace, name)) = name.split_once('/') else { return false };
        let pod = pod_hash(namespace, name);
        self.known.values().flatten().any(|face| face.pod == pod && face.identity.reserved.is_empty())
    }

    /// Whether some addresses were left out for want of room.
    pub fn is_cut(&self) -> bool {
        self.zero_bits > 0
    }

    /// Identities that pods had for a moment only: wherever one of them was seen, the same pod was seen at the
    /// same address with other labels shortly after. Each with one that came after it.
    pub fn passing(&self) -> HashMap<Arc<Identity>, Arc<Identity>> {
        let mut passed: HashMap<Arc<Identity>, Arc<Identity>> = HashMap::new();
        for faces in self.known.values().filter(|faces| faces.len() > 1) {
            for face in faces {
                if let Some(next) = face.next(faces) {
                    let known = passed.entry_ref(&face.identity).or_insert_with(|| Arc::clone(next));
                    *known = Arc::clone(next).min(Arc::clone(known));
                }
            }
        }
        if passed.is_empty() {
            return passed;
        }
        let mut stays: HashSet<&Arc<Identity>> = HashSet::new();
        for faces in self.known.values() {
            stays.extend(faces.iter().filter(|f| f.next(faces).is_none()).map(|face| &face.identity));
        }
        passed.retain(|identity, _| !stays.contains(identity));
        passed
    }
}

// === impl Face ===

impl Face {
    /// Pods that Cilium does not manage have an address and a name too, for good.
    fn is_unsure(&self) -> bool {
        [Reserved::Init, Reserved::Unmanaged].into_iter().any(|reserved| self.identity.is(reserved))
    }

    /// The labels that the same pod had shortly after.
    fn next<'a>(&self, others: &'a [Self]) -> Option<&'a Arc<Identity>> {
        let (first, last) = (self.first?, self.last?);
        if !self.identity.reserved.is_empty() {
            return None;
        }
        let after = |other: &&Self| {
            other.pod == self.pod
                && other.identity.reserved.is_empty()
                && other.first.is_some_and(|began| began > last && began.duration_since(first) <= SHORTLY)
        };
        others.iter().filter(after).min_by_key(|other| (other.first, &other.identity)).map(|o| &o.identity)
    }
}

fn pod_hash(namespace: &str, name: &str) -> u64 {
    let mut hasher = Xxh3Default::new();
    [namespace, "/", name].into_iter().for_each(|part| hasher.update(part.as_bytes()));
    hasher.digest()
}

fn covers(zero_bits: u32, address: IpAddr) -> bool {
    zero_bits == 0 || {
        let hash = match address {
            IpAddr::V4(address) => xxh3_64(&address.octets()),
            IpAddr::V6(address) => xxh3_64(&address.octets()),
        };
        hash.leading_zeros() >= zero_bits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pod(name: &str, app: &str) -> Endpoint {
        let labels = [format!("k8s:app={app}"), "k8s:io.kubernetes.pod.namespace=shop".to_owned()];
        Endpoint::new(300, "shop", name, "", labels.iter().map(String::as_str))
    }

    fn address(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn seen(all: &[(u8, &str, &str, i64)], capacity: usize) -> Addresses {
        let mut addresses = Addresses::new(capacity);
        for (n, name, app, second) in all {
            addresses.see(&pod(name, app), address(*n), Timestamp::from_second(*second).ok());
        }
        addresses
    }

    /// The labels `app` that passed, with those that came after.
    #[track_caller]
    fn check(all: &[(u8, &str, &str, i64)], expected: &[(&str, &str)]) {
        let app = |identity: &Identity| identity.labels.kubernetes("app").unwrap().to_owned();
        let passing = seen(all, 100).passing();
        let mut got: Vec<_> = passing.iter().map(|(before, after)| (app(before), app(after))).collect();
        got.sort();
        let got: Vec<_> = got.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(got, expected, "{all:?}");
    }

    #[test]
    fn labels_of_a_starting_pod_pass() {
        check(&[(1, "web-1", "starting", 0), (1, "web-1", "web", 5)], &[("starting", "web")]);
        check(&[(1, "web-1", "web", 5), (1, "web-1", "starting", 0)], &[("starting", "web")]);
        // At the same moment nobody can say which came first.
        check(&[(1, "web-1", "a", 5), (1, "web-1", "b", 5)], &[]);
        // Long enough to be what it was.
        check(&[(1, "web-1", "old", 0), (1, "web-1", "new", 61)], &[]);
        // Another pod got the address.
        check(&[(1, "web-1", "web", 0), (1, "api-1", "api", 5)], &[]);
        // Another pod keeps these labels.
        check(&[(1, "web-1", "a", 0), (1, "web-1", "b", 5), (2, "web-2", "a", 5)], &[]);
        // Back and forth.
        check(&[(1, "web-1", "a", 0), (1, "web-1", "b", 5), (1, "web-1", "a", 9)], &[]);
    }

    #[test]
    fn the_room_is_bounded_and_what_stays_does_not_depend_on_the_order() {
        let all: Vec<_> = (0..200).map(|n| (n, "p", "a", 0)).collect();
        let back: Vec<_> = all.iter().rev().copied().collect();
        let (one, other) = (seen(&all, 50), seen(&back, 50));
        assert!(one.is_cut() && one.known.len() <= 50 && !one.known.is_empty());
        assert_eq!(one, other);
    }

    proptest! {
        #[test]
        fn joins_in_any_order(all in prop::collection::vec((0u8..12, 0usize..2, 0usize..3, 0i64..90), 0..40),
                              at in 0usize..40) {
            let names = ["web-1", "web-2"];
            let apps = ["a", "b", "c"];
            let all: Vec<_> = all.iter().map(|(n, p, a, t)| (*n, names[*p], apps[*a], *t)).collect();
            let (first, second) = all.split_at(at.min(all.len()));
            // Room for every face: what is cut away depends on nothing but the addresses.
            prop_assume!(seen(&all, 6).known.values().all(|faces| faces.len() < FACES));
            let whole = seen(&all, 6);
            let (mut ab, mut ba) = (seen(first, 6), seen(second, 6));
            ab.join(seen(second, 6));
            ba.join(seen(first, 6));
            prop_assert_eq!(&ab, &whole);
            prop_assert_eq!(&ba, &whole);
            ab.join(seen(first, 6));
            prop_assert_eq!(&ab, &whole);
        }
    }
}
