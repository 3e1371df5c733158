//! One node: up to when its flows were delivered, and since when they may not have been.

use std::collections::VecDeque;

use hashbrown::HashSet;
use jiff::{SignedDuration, Timestamp};

use super::{OVERLAP, Stream};
use crate::coverage::Reason;
use crate::names::Namespace;

/// Seconds of which it is known what was delivered up to when.
const TRAIL: usize = 64;
const SECOND: SignedDuration = SignedDuration::from_secs(1);

#[derive(Debug)]
pub(super) struct Node {
    /// Its time counts from here.
    pub(super) first: Timestamp,
    pub(super) mark: Option<Timestamp>,
    /// What the mark was at some of our own times, the latest last.
    trail: VecDeque<(Timestamp, Timestamp)>,
    pub(super) open: Option<(Timestamp, Reason)>,
    pub(super) ring: Option<Ring>,
    /// Since when the relay has had a connection to it; `None`: it has none, or that is not known.
    pub(super) connected: Option<Timestamp>,
    /// It stood in the relay's list.
    pub(super) listed: bool,
    /// It left the list while this stream was open: the stream will not read it again.
    pub(super) left: bool,
    /// The oldest flow that this stream brought.
    pub(super) oldest: Option<Timestamp>,
    /// When the last flow came, by our clock.
    pub(super) heard: Option<Timestamp>,
    pub(super) namespaces: HashSet<Namespace>,
}

/// A gap of a node whose end is known.
pub(super) type Closed = (Reason, Timestamp, Timestamp);

#[derive(Debug, Clone, Copy)]
pub(super) struct Ring {
    pub(super) began: Timestamp,
    pub(super) full: bool,
    pub(super) seen: u64,
    /// It has grown since the time before.
    pub(super) grew: bool,
}

// === impl Node ===

impl Node {
    pub(super) fn new(first: Timestamp, open: Timestamp, reason: Reason) -> Self {
        Self {
            first,
            mark: None,
            trail: VecDeque::new(),
            open: Some((open, reason)),
            ring: None,
            connected: None,
            listed: false,
            left: false,
            oldest: None,
            heard: None,
            namespaces: HashSet::new(),
        }
    }

    /// What the mark is now.
    pub(super) fn remember(&mut self, now: Timestamp, mark: Timestamp) {
        if self.trail.back().is_none_or(|(then, _)| now.duration_since(*then) >= SECOND) {
            if self.trail.len() >= TRAIL {
                self.trail.pop_front();
            }
            self.trail.push_back((now, mark));
        }
    }

    /// What the mark was at this time of ours; `None` where that is not known.
    pub(super) fn mark_at(&self, time: Timestamp) -> Option<Timestamp> {
        self.trail.iter().rev().find(|(then, _)| *then <= time).map(|(_, mark)| *mark)
    }

    /// At `time`, by our clock, the node was read: flows up to what is given here had come by then.
    pub(super) fn upto(&self, time: Timestamp) -> Timestamp {
        let sure = time.saturating_sub(OVERLAP).unwrap_or(time);
        self.mark_at(time).map_or(sure, |mark| mark.max(sure)).max(self.first)
    }

    /// Since when this stream reads it, or will with the relay's next look at its nodes; `told`: the relay says
    /// which nodes it has.
    pub(super) fn is_read(&self, stream: &Stream, told: bool) -> Option<Timestamp> {
        match self.connected {
            Some(connected) => Some(connected.max(stream.opened)),
            // One that it calls by another name than its flows do is known by these only.
            None if told && self.listed => None,
            None => self.heard.filter(|heard| *heard >= stream.opened).map(|_| stream.opened),
        }
    }

    /// From `time` on, by our clock, it may not have been read. When it was open already, and the stream, which
    /// was asked for flows from `since` on, brought some, then what lies before these is given as a span of its own.
    #[must_use]
    pub(super) fn missing(
        &mut self,
        time: Timestamp,
        reason: Reason,
        since: Option<Timestamp>,
    ) -> Option<Closed> {
        let upto = self.upto(time);
        let (before, oldest) = (self.open, self.oldest.take());
        let Some((from, known)) = before else {
            self.open = Some((upto, reason));
            return None;
        };
        let reach = since.map_or(oldest?, |since| since.max(oldest.unwrap_or(since)));
        let from_now = upto.max(from);
        self.open = Some((from_now, reason));
        (reach > from).then_some((known, from, reach.min(from_now)))
    }
}
