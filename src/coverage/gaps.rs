//! A bounded set of gaps, joined in any order.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{Reason, Share};
use crate::names::NodeName;

/// A time in which flows may have been that were missed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// Which node; `None`: any of them.
    pub node: Option<NodeName>,
    /// Why.
    pub reason: Reason,
    /// Its begin.
    pub from: Timestamp,
    /// Its end; not before `from`.
    pub to: Timestamp,
}

/// Gaps. Those of one node and reason that touch are one, so below the capacity a join is commutative,
/// associative and idempotent. Above it the two nearest are made one: what is said to be missed grows, and
/// never shrinks.
#[derive(Debug, Clone)]
pub struct Gaps {
    tracks: BTreeMap<Track, Vec<Span>>,
    capacity: usize,
    widened: u64,
}

type Track = (Option<NodeName>, Reason);
type Span = (Timestamp, Timestamp);

// === impl Gaps ===

impl Gaps {
    /// At most so many; not zero.
    pub fn new(capacity: usize) -> Self {
        Self { tracks: BTreeMap::new(), capacity: capacity.max(1), widened: 0 }
    }

    /// Adds one. One that ends before it begins is none.
    pub fn insert(&mut self, gap: Gap) {
        let Gap { node, reason, from, to } = gap;
        if from > to {
            return;
        }
        put(self.tracks.entry((node, reason)).or_default(), (from, to));
        while self.len() > self.capacity {
            self.widened += 1;
            self.widen();
        }
    }

    /// Adds another's.
    pub fn join(&mut self, other: &Self) {
        for gap in other.iter() {
            self.insert(gap);
        }
        self.widened += other.widened;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tracks.values().map(Vec::len).sum()
    }

    /// Whether nothing was missed.
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// How often two were made one for want of room.
    pub fn widened(&self) -> u64 {
        self.widened
    }

    /// All of them, by node, reason and time.
    pub fn iter(&self) -> impl Iterator<Item = Gap> + '_ {
        self.tracks.iter().flat_map(|((node, reason), spans)| {
            spans.iter().map(move |(from, to)| Gap {
                node: node.clone(),
                reason: *reason,
                from: *from,
                to: *to,
            })
        })
    }

    /// Whether this time of this node lies in one; `None`: of every node.
    pub fn holds(&self, node: Option<&NodeName>, time: Timestamp) -> bool {
        self.of(node).any(|(from, to)| (from..=to).contains(&time))
    }

    /// How much of this time of this node lies in none; `None`: in none of all nodes.
    pub fn share(&self, node: Option<&NodeName>, from: Timestamp, to: Timestamp) -> Share {
        let total = to.duration_since(from);
        let mut spans = Vec::new();
        for (begin, end) in self.of(node) {
            if end >= from && begin <= to {
                put(&mut spans, (begin.max(from), end.min(to)));
            }
        }
        let missed = spans
            .iter()
            .fold(SignedDuration::ZERO, |sum, (from, to)| sum.saturating_add(to.duration_since(*from)));
        Share { watched: total.saturating_sub(missed), total }
    }

    /// The spans that count for a node, those of all nodes among them.
    fn of<'a>(&'a self, node: Option<&'a NodeName>) -> impl Iterator<Item = Span> + 'a {
        let counts = move |of: &Option<NodeName>| of.is_none() || node.is_some() && of.as_ref() == node;
        self.tracks.iter().filter(move |((of, _), _)| counts(of)).flat_map(|(_, spans)| spans.iter().copied())
    }

    /// Makes two of them one: the nearest of one node and reason, else one of a node becomes one of all.
    fn widen(&mut self) {
        let mut nearest: Option<(SignedDuration, &Track, usize)> = None;
        for (key, spans) in &self.tracks {
            for (at, pair) in spans.windows(2).enumerate() {
                let between = pair[1].0.duration_since(pair[0].1);
                if nearest.as_ref().is_none_or(|(least, ..)| between < *least) {
                    nearest = Some((between, key, at));
                }
            }
        }
        if let Some((_, key, at)) = nearest {
            let key = key.clone();
            if let Some(spans) = self.tracks.get_mut(&key) {
                let (_, to) = spans.remove(at + 1);
                spans[at].1 = to;
            }
            return;
        }
        let one = self.tracks.keys().find(|(node, _)| node.is_some()).cloned();
        if let Some((node, reason)) = one
            && let Some(spans) = self.tracks.remove(&(node, reason))
        {
            let all = self.tracks.entry((None, reason)).or_default();
            for span in spans {
                put(all, span);
            }
        } else if let Some((_, spans)) = self.tracks.pop_last()
            && let Some(mut last) = self.tracks.last_entry()
        {
            // Reasons of all nodes, and more of them than there is room for: the capacity is tiny.
            for span in spans {
                put(last.get_mut(), span);
            }
        }
    }
}

/// Adds a span to sorted ones that do not touch.
pub(super) fn put(spans: &mut Vec<Span>, (mut from, mut to): Span) {
    let begin = spans.partition_point(|(_, end)| *end < from);
    let mut end = begin;
    while let Some((first, last)) = spans.get(end).filter(|(first, _)| *first <= to) {
        from = from.min(*first);
        to = to.max(*last);
        end += 1;
    }
    spans.splice(begin..end, [(from, to)]);
}

/// Equal when the same times of the same nodes are missed for the same reasons.
impl PartialEq for Gaps {
    fn eq(&self, other: &Self) -> bool {
        self.tracks == other.tracks
    }
}
