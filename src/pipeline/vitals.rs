//! The numbers of a run while it runs: for `/metrics`, the status line and the heartbeat.
//!
//! What happens seldom is set here by whoever sees it. What happens with every flow stays in the folds
//! and is added up when somebody asks, so the way of a flow pays for none of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::feed::{Shared, lock};
use super::{Counters, PolicyCounts, Results};
use crate::coverage::Gaps;
use crate::names::NodeName;
use crate::source::{NodeState, NodeStatus};

/// Nodes whose state is remembered.
const NODES: usize = 10_000;
/// How exact the time of the last flow is.
const PULSE: Duration = Duration::from_secs(1);
/// How often a line says that all is well.
const HEARTBEAT: Duration = Duration::from_secs(15 * 60);

/// The vital signs of one run, shared by everybody who sets or shows them.
#[derive(Debug, Default)]
pub struct Vitals {
    /// Locked before the folds are. So nobody who holds a fold may ask for it: what a fold tells has its own
    /// place below.
    inner: Mutex<Inner>,
    nodes: Mutex<Nodes>,
    connected: AtomicBool,
    /// The stream was opened so many times.
    opened: AtomicU64,
    gaps: AtomicU64,
    gap_millis: AtomicU64,
    /// Unix time in milliseconds; 0 until it is known.
    now: AtomicI64,
    connected_since: AtomicI64,
    last_flow: AtomicI64,
    last_write: AtomicI64,
    unwritable: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    /// What was taken from the folds.
    counters: Counters,
    folds: Vec<Shared>,
    policies: PolicyCounts,
    rules_added: u64,
    write_errors: u64,
    waiting: u64,
}

#[derive(Debug, Default)]
struct Nodes {
    /// What the relay told by itself.
    told: BTreeMap<NodeName, NodeState>,
    /// What it answered when it was asked, which is better.
    answered: Option<(u64, u64)>,
}

/// The vital signs at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Where every flow ended so far.
    pub counters: Counters,
    /// Observations that are in no file yet, those of the open window included.
    pub ledger: u64,
    /// What came of the policies.
    pub policies: PolicyCounts,
    /// Rules that were not there before.
    pub rules_added: u64,
    /// Attempts to write a file, or the directory, that failed.
    pub write_errors: u64,
    /// The last attempt to write did not fail.
    pub writable: bool,
    /// There is a stream.
    pub connected: bool,
    /// Since when there is.
    pub connected_since: Option<Timestamp>,
    /// How often the stream was opened again.
    pub reconnects: u64,
    /// Times that were not watched: how many.
    pub gaps: u64,
    /// And how long together, each node's by itself.
    pub gap_seconds: f64,
    /// Nodes whose flows are part of the stream, and nodes that the relay does not reach; `None` until
    /// it has said so.
    pub nodes: Option<(u64, u64)>,
    /// When the last flow came, by this machine's clock.
    pub last_flow: Option<Timestamp>,
    /// When a file was written the last time.
    pub last_write: Option<Timestamp>,
}

// === impl Vitals: what sets them ===

impl Vitals {
    /// A stream is there.
    pub fn connected(&self) {
        if !self.connected.swap(true, Ordering::Relaxed) {
            self.opened.fetch_add(1, Ordering::Relaxed);
            let now = Timestamp::now().as_millisecond();
            self.connected_since.store(now, Ordering::Relaxed);
            // A flow may come before the first beat of the pulse.
            self.now.store(now, Ordering::Relaxed);
            // The relay tells its nodes anew on each stream.
            *self.nodes() = Nodes::default();
        }
    }

    /// The stream is gone.
    pub fn disconnected(&self) {
        self.connected.store(false, Ordering::Relaxed);
        self.connected_since.store(0, Ordering::Relaxed);
    }

    /// What was not watched so far.
    pub(super) fn set_gaps(&self, gaps: &Gaps) {
        let lasted: Duration = gaps.iter().map(|gap| gap.to.duration_since(gap.from).unsigned_abs()).sum();
        self.gaps.store(gaps.len() as u64, Ordering::Relaxed);
        self.gap_millis.store(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What the relay answers when it is asked for its nodes. That it has none says nothing before it was
    /// asked.
    pub fn set_nodes(&self, connected: u64, unavailable: u64) {
        let mut nodes = self.nodes();
        if connected > 0 || nodes.answered.is_some() {
            nodes.answered = Some((connected, unavailable));
        }
    }

    /// What the relay tells about its nodes by itself.
    pub(super) fn node_status(&self, status: &NodeStatus) {
        let told = &mut self.nodes().told;
        for node in &status.nodes {
            if told.len() < NODES || told.contains_key(node) {
                told.insert(node.clone(), status.state);
            }
        }
    }

    /// A flow came.
    pub(super) fn flow(&self) {
        self.last_flow.store(self.now.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// From here on these folds count too.
    pub(super) fn attach(&self, folds: &[Shared]) {
        self.lock().folds = folds.to_vec();
    }

    /// Lets go of the folds.
    pub(super) fn detach(&self) {
        self.lock().folds.clear();
    }

    /// Takes what `take` takes from the folds and puts the sum in its place, so that nobody sees a count
    /// go down in between.
    pub(super) fn exchange(&self, take: impl FnOnce() -> Counters) {
        let mut inner = self.lock();
        inner.counters = take();
    }

    /// A window went to the files, or did not.
    pub(super) fn wrote(&self, results: &Results, waiting: usize, failed: bool) {
        let mut inner = self.lock();
        let wrote = results.rules_added > inner.rules_added;
        inner.policies = results.counts();
        inner.rules_added = results.rules_added;
        inner.write_errors = results.write_errors;
        inner.waiting = waiting as u64;
        drop(inner);
        self.unwritable.store(failed, Ordering::Relaxed);
        if wrote {
            self.last_write.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
        }
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Vitals: what shows them ===

impl Vitals {
    /// Everything at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        let mut counters = inner.counters.clone();
        let mut ledger = inner.waiting;
        for fold in &inner.folds {
            let (open, entries) = lock(fold).open();
            counters.join(open);
            ledger += entries as u64;
        }
        let time = |millis: &AtomicI64| match millis.load(Ordering::Relaxed) {
            0 => None,
            millis => Timestamp::from_millisecond(millis).ok(),
        };
        Snapshot {
            counters,
            ledger,
            policies: inner.policies,
            rules_added: inner.rules_added,
            write_errors: inner.write_errors,
            writable: !self.unwritable.load(Ordering::Relaxed),
            connected: self.connected.load(Ordering::Relaxed),
            connected_since: time(&self.connected_since),
            reconnects: self.opened.load(Ordering::Relaxed).saturating_sub(1),
            gaps: self.gaps.load(Ordering::Relaxed),
            gap_seconds: Duration::from_millis(self.gap_millis.load(Ordering::Relaxed)).as_secs_f64(),
            nodes: self.nodes().counts(),
            last_flow: time(&self.last_flow),
            last_write: time(&self.last_write),
        }
    }

    /// Why flows cannot come in or files cannot go out; `None` when they can.
    pub fn not_ready(&self) -> Option<&'static str> {
        if !self.connected.load(Ordering::Relaxed) {
            Some("there is no stream of a relay")
        } else if self.unwritable.load(Ordering::Relaxed) {
            Some("the last attempt to write to the output directory failed")
        } else {
            None
        }
    }

    /// Keeps the clock of the last flow, calls `each` once a second, and says every fifteen minutes how
    /// the run is. Never ends.
    pub async fn pulse(&self, mut each: impl FnMut(&Self)) {
        let mut heartbeat = tokio::time::Instant::now() + HEARTBEAT;
        let mut second = tokio::time::interval(PULSE);
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            self.now.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
            each(self);
            if tokio::time::Instant::now() >= heartbeat {
                heartbeat += HEARTBEAT;
                self.snapshot().tell();
            }
        }
    }
}

// === impl Nodes ===

impl Nodes {
    /// Connected, and not reached.
    fn counts(&self) -> Option<(u64, u64)> {
        let told = (!self.told.is_empty()).then(|| {
            let of = |state| self.told.values().filter(|s| **s == state).count() as u64;
            let connected = of(NodeState::Connected);
            (connected, self.told.len() as u64 - connected - of(NodeState::Gone))
        });
        self.answered.or(told)
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// The heartbeat.
    fn tell(&self) {
        let since = match self.connected_since {
            Some(since) => format!("connected since {since:.0}"),
            None => "not connected".to_owned(),
        };
        tracing::info!(
            flows = self.counters.flows(),
            rules = self.rules_added,
            files = self.policies.created + self.policies.updated,
            lost = self.counters.lost_events(),
            infrastructure_drops = self.counters.infrastructure_drops(),
            "still following; {since}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reconnect_is_the_second_time() {
        let vitals = Vitals::default();
        assert!(vitals.not_ready().is_some());
        vitals.connected();
        vitals.connected();
        assert_eq!((vitals.snapshot().reconnects, vitals.not_ready()), (0, None));
        vitals.flow();
        assert!(vitals.snapshot().last_flow.is_some(), "before the first beat of the pulse");
        vitals.disconnected();
        assert!(vitals.not_ready().is_some() && vitals.snapshot().connected_since.is_none());
        vitals.connected();
        assert_eq!(vitals.snapshot().reconnects, 1);
    }

    #[test]
    fn nodes_are_those_of_this_stream() {
        let vitals = Vitals::default();
        vitals.connected();
        assert_eq!(vitals.snapshot().nodes, None);
        let status = |state, names: &[&str]| NodeStatus {
            state,
            nodes: names.iter().map(|name| NodeName::lossy(name)).collect(),
            message: "".into(),
        };
        vitals.node_status(&status(NodeState::Connected, &["a", "b"]));
        vitals.node_status(&status(NodeState::Unavailable, &["c"]));
        assert_eq!(vitals.snapshot().nodes, Some((2, 1)));
        vitals.node_status(&status(NodeState::Error, &["a"]));
        assert_eq!(vitals.snapshot().nodes, Some((1, 2)));
        vitals.set_nodes(5, 0);
        assert_eq!(vitals.snapshot().nodes, Some((5, 0)));
        vitals.disconnected();
        vitals.connected();
        assert_eq!(vitals.snapshot().nodes, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pulse_beats_each_second() {
        let vitals = Vitals::default();
        let mut beats = 0;
        let pulse = vitals.pulse(|_| beats += 1);
        let _ = tokio::time::timeout(Duration::from_millis(10_500), pulse).await;
        assert_eq!(beats, 11);
    }
}
