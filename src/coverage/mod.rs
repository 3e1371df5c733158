//! What was watched, and what was missed: gaps, and the share of the time without any.
//!
//! A [`Gap`] is a time in which flows may have been that nobody will ever see. [`Gaps`] join in any order;
//! [`Coverage`] is what they leave of the time from start to end. Only what is known to be missing can be a
//! gap: that Hubble's newest event on a node is not handed out before the next one, and what an agent loses
//! without telling, is in no number here.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::names::{Namespace, NodeName};

mod gaps;
mod log;
mod reason;

pub use gaps::{Gap, Gaps};
pub use log::WatchLog;
pub use reason::Reason;

/// Of a stretch of time, how much was watched. Times of several nodes add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// The time that lies in no gap.
    pub watched: SignedDuration,
    /// All of it.
    pub total: SignedDuration,
}

/// What a run watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Coverage {
    /// From when on the run answers for what it says.
    pub from: Timestamp,
    /// Until when.
    pub to: Timestamp,
    /// Each node, from when it was known.
    pub nodes: BTreeMap<NodeName, Share>,
    /// Each namespace of which a flow was seen: the nodes that reported one, together. What a namespace has on
    /// other nodes, and namespaces without a flow, are not known.
    pub namespaces: BTreeMap<Namespace, Share>,
    /// Everything that was missed.
    pub gaps: Gaps,
}

/// Up to when each node's flows were delivered; what a later stream or run goes on from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// For each node: flows up to this time were delivered, by the node's clock.
    pub nodes: BTreeMap<NodeName, Timestamp>,
    /// The last proof that the stream lived.
    pub alive: Option<Timestamp>,
}

// === impl Share ===

impl Share {
    /// In percent; all of nothing is 100.
    pub fn percent(self) -> f64 {
        if self.total.is_zero() {
            return 100.0;
        }
        100.0 * self.watched.as_secs_f64() / self.total.as_secs_f64()
    }

    fn plus(self, other: Self) -> Self {
        Self {
            watched: self.watched.saturating_add(other.watched),
            total: self.total.saturating_add(other.total),
        }
    }
}

// === impl Coverage ===

impl Coverage {
    /// From `from` to `to`: `nodes` with the time from which each counts and the namespaces it told of.
    pub fn new<'a>(
        from: Timestamp,
        to: Timestamp,
        nodes: impl IntoIterator<Item = (&'a NodeName, Timestamp, Vec<&'a Namespace>)>,
        gaps: Gaps,
    ) -> Self {
        let to = to.max(from);
        let mut coverage = Self { from, to, nodes: BTreeMap::new(), namespaces: BTreeMap::new(), gaps };
        for (node, since, namespaces) in nodes {
            let share = coverage.gaps.share(Some(node), since.clamp(from, to), to);
            coverage.nodes.insert(node.clone(), share);
            for namespace in namespaces.into_iter().collect::<BTreeSet<_>>() {
                let known = coverage.namespaces.entry(namespace.clone()).or_default();
                *known = known.plus(share);
            }
        }
        coverage
    }

    /// All nodes together; without any, the time that no gap of all nodes takes away.
    pub fn whole(&self) -> Share {
        if self.nodes.is_empty() {
            return self.gaps.share(None, self.from, self.to);
        }
        self.nodes.values().fold(Share::default(), |sum, share| sum.plus(*share))
    }

    /// The smallest of the whole and of every namespace, in percent.
    pub fn least(&self) -> f64 {
        self.namespaces.values().map(|share| share.percent()).fold(self.whole().percent(), f64::min)
    }

    /// Whether flows of this node at this time would have been seen, as far as it is known.
    pub fn watched(&self, node: &NodeName, time: Timestamp) -> bool {
        let Some(share) = self.nodes.get(node) else { return false };
        self.to.duration_since(time) <= share.total && time <= self.to && !self.gaps.holds(Some(node), time)
    }
}

#[cfg(test)]
mod tests;
