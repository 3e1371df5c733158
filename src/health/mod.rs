//! What is broken in the cluster: drops that no allow rule helps, by reason, node, workload and peer.
//!
//! | module | holds |
//! |---|---|
//! | this one | the table: counts that join in any order, below its caps |
//! | `limits` | known noise, and what exceeds it |
//! | `remedy` | what to do about a reason, and the page that says more |
//! | `report` | the document `cluster-health.json`, described in `docs/cluster-health.md` |

mod limits;
mod remedy;
mod report;

pub use limits::{Excess, Noise, parse_threshold};
pub use remedy::{Remedy, remedy};
pub use report::{Circumstances, SCHEMA_VERSION, document};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use jiff::Timestamp;

use crate::build::subject_selector;
use crate::classify::Class;
use crate::flow::{Direction, DropReason, Endpoint, EventKind, Flow, Identity};
use crate::names::NodeName;
use crate::text::visible;

/// Places kept per reason, so that one reason cannot take the room of another.
pub const PLACES: usize = 500;
/// Policies kept per place.
const POLICIES: usize = 8;

/// Drops of the classes that are reported, each reason with its places. Joins in any order give the same
/// as long as no reason has more than [`PLACES`] places; totals of a reason are exact above it too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    reasons: BTreeMap<(Class, DropReason), Reason>,
}

/// One reason.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reason {
    /// All of its drops.
    pub seen: Seen,
    /// Where they were, up to [`PLACES`].
    places: HashMap<Place, At>,
    /// Drop events at places for which there was no room.
    pub beyond: u64,
}

/// Where a packet was dropped: the node, the workload whose traffic it was, and the other end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The node that dropped it.
    pub node: NodeName,
    /// The end at which it was dropped; the sender where Hubble does not say.
    pub workload: Party,
    /// The other end.
    pub peer: Party,
}

/// One end of a dropped packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Party {
    /// A pod's workload, or a reserved identity inside the cluster.
    Workload(Arc<Identity>),
    /// Somebody who is known by address only.
    Address(IpAddr),
    /// Hubble says nothing.
    Nobody,
}

/// What was seen at one place.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct At {
    /// Counts and times.
    pub seen: Seen,
    /// The policies that decided, where Hubble names them; the smallest by name are kept.
    pub denied_by: BTreeSet<Box<str>>,
}

/// Counts with the time of the earliest and of the latest, by the clocks of the nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    all: Events,
    new: Events,
    /// The earliest.
    pub first: Option<Timestamp>,
    /// The latest.
    pub last: Option<Timestamp>,
}

/// A denied packet makes a verdict event and a drop event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Events {
    verdicts: u64,
    drops: u64,
}

/// Whether drops of this class are reported here, and not only counted.
pub fn is_reported(class: Class) -> bool {
    is_broken(class) || is_refusal(class)
}

/// Something is broken, full or forged.
pub fn is_broken(class: Class) -> bool {
    matches!(class, Class::Infrastructure | Class::Security)
}

/// Somebody's configuration refuses it, other than by default deny.
pub fn is_refusal(class: Class) -> bool {
    matches!(class, Class::ExplicitDeny | Class::Authentication | Class::Service)
}

// === impl Health ===

impl Health {
    /// Counts a dropped flow of a reported class. `is_new`: it was dropped after the start. `false` when
    /// its place found no room: then only its reason counts it.
    pub fn fold(&mut self, class: Class, flow: &Flow, is_new: bool) -> bool {
        let events = match flow.event {
            EventKind::PolicyVerdict => Events { verdicts: flow.count, drops: 0 },
            _ => Events { verdicts: 0, drops: flow.count },
        };
        let new = if is_new { events } else { Events::default() };
        let seen = Seen { all: events, new, first: flow.time, last: flow.time };
        let reason = self.reasons.entry((class, flow.drop_reason)).or_default();
        reason.seen.join(&seen);
        let denied_by = flow.denied_by.iter().cloned().collect();
        reason.put(Place::of(flow), At { seen, denied_by })
    }

    /// Adds another table's counts.
    pub fn join(&mut self, other: &Self) {
        for (key, theirs) in &other.reasons {
            let ours = self.reasons.entry(*key).or_default();
            ours.seen.join(&theirs.seen);
            ours.beyond += theirs.beyond;
            // Sorted, so that which ones find room does not hang on the order of a hash map.
            for (place, at) in theirs.places() {
                ours.put(place.clone(), at.clone());
            }
        }
    }

    /// Whether nothing was reported.
    pub fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// All reasons, by class and number.
    pub fn reasons(&self) -> impl Iterator<Item = (Class, DropReason, &Reason)> {
        self.reasons.iter().map(|((class, reason), what)| (*class, *reason, what))
    }

    /// Drop events whose place found no room.
    pub fn beyond(&self) -> u64 {
        self.reasons.values().map(|reason| reason.beyond).sum()
    }
}

// === impl Reason ===

impl Reason {
    /// The places, sorted by name.
    pub fn places(&self) -> Vec<(&Place, &At)> {
        let mut all: Vec<_> = self.places.iter().collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        all
    }

    /// The places with the most drops first.
    pub fn worst(&self) -> Vec<(&Place, &At)> {
        let mut all = self.places();
        all.sort_by_key(|(_, at)| std::cmp::Reverse(at.seen.packets()));
        all
    }

    /// The policies that decided, of all places.
    pub fn denied_by(&self) -> BTreeSet<&str> {
        self.places.values().flat_map(|at| at.denied_by.iter().map(|policy| &**policy)).collect()
    }

    fn put(&mut self, place: Place, at: At) -> bool {
        let full = self.places.len() >= PLACES;
        match self.places.entry(place) {
            Entry::Vacant(_) if full => {
                self.beyond += at.seen.all.verdicts + at.seen.all.drops;
                return false;
            }
            entry => entry.or_default().join(at),
        }
        true
    }
}

// === impl At ===

impl At {
    fn join(&mut self, other: Self) {
        self.seen.join(&other.seen);
        self.denied_by.extend(other.denied_by);
        while self.denied_by.len() > POLICIES {
            self.denied_by.pop_last();
        }
    }
}

// === impl Seen ===

impl Seen {
    /// Packets that were dropped, at least.
    pub fn packets(&self) -> u64 {
        self.all.packets()
    }

    /// Those of them that were dropped after the start.
    pub fn new_packets(&self) -> u64 {
        self.new.packets()
    }

    fn join(&mut self, other: &Self) {
        self.all.join(other.all);
        self.new.join(other.new);
        self.first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.last = self.last.max(other.last);
    }
}

// === impl Events ===

impl Events {
    fn packets(self) -> u64 {
        self.verdicts.max(self.drops)
    }

    fn join(&mut self, other: Self) {
        self.verdicts += other.verdicts;
        self.drops += other.drops;
    }
}

// === impl Place ===

impl Place {
    fn of(flow: &Flow) -> Self {
        let source = Party::of(flow.source.as_deref(), flow.ip.map(|(from, _)| from));
        let destination = Party::of(flow.destination.as_deref(), flow.ip.map(|(_, to)| to));
        let (workload, peer) = match flow.direction {
            Some(Direction::Ingress) => (destination, source),
            // Without a direction the pod is the one to look at, where only one end is a pod.
            None if !source.is_pod() && destination.is_pod() => (destination, source),
            Some(Direction::Egress) | None => (source, destination),
        };
        Self { node: flow.node.clone(), workload, peer }
    }
}

// === impl Party ===

impl Party {
    fn of(endpoint: Option<&Endpoint>, address: Option<IpAddr>) -> Self {
        let by_address = || address.map_or(Self::Nobody, Self::Address);
        let Some(endpoint) = endpoint else { return by_address() };
        let identity = &endpoint.identity;
        let says_nothing = identity.namespace.is_none() && identity.reserved.is_empty();
        if says_nothing || identity.is_world() && !endpoint.address_is_pod {
            by_address()
        } else {
            Self::Workload(Arc::clone(identity))
        }
    }

    fn is_pod(&self) -> bool {
        matches!(self, Self::Workload(identity) if identity.namespace.is_some())
    }
}

/// As policies name it: `shop/app=web`, `reserved:host`, an address. Safe to print.
impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = match self {
            Self::Workload(identity) => identity,
            Self::Address(address) => return write!(f, "{address}"),
            Self::Nobody => return f.write_str("unknown"),
        };
        let Some(namespace) = &identity.namespace else {
            let labels: Vec<String> =
                identity.reserved.iter().map(|r| format!("reserved:{}", r.word())).collect();
            return f.write_str(&labels.join(","));
        };
        match subject_selector(identity) {
            Some(selector) => {
                let labels: Vec<String> =
                    selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "{namespace}/{}", labels.join(","))
            }
            None => match identity.service_account() {
                Some(account) => write!(f, "{namespace}/serviceaccount={}", visible(account, 100)),
                None => write!(f, "{namespace}/(no usable label)"),
            },
        }
    }
}

#[cfg(test)]
mod tests;
