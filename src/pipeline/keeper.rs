//! The loop that everything hangs on: it starts the feed, closes windows, and ends the run in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::feed::{Shared, lock};
use super::writer::Moved;
use super::{Counters, FeedEnd, Fold, Keeping, Live, Reopen, Replay, SharedWatch, Stop, Summary, Writer};
use crate::aggregate::{Ledger, Settling};
use crate::classify::{Filters, Skip};
use crate::kube::ClusterPolicies;
use crate::text;

/// How long the last window may take to reach the disk after a signal: whoever sent it will not wait
/// long.
const AFTER_SIGNAL: Duration = Duration::from_secs(10);
/// How long it may take at the end of the input, when nobody is in a hurry.
const AFTER_INPUT: Duration = Duration::from_secs(600);
/// After a signal the last window waits so long for the cluster's policies.
const FOR_CLUSTER: Duration = Duration::from_secs(3);
/// Unhandled drops are told at most this often.
const NOTICE_EVERY: Duration = Duration::from_secs(60);

/// One run: folds, writer, counters.
#[derive(Debug)]
pub struct Keeper {
    filters: Arc<Filters>,
    flush_interval: Duration,
    /// `None` while a window is being written.
    writer: Option<Writer>,
    writing: Option<JoinHandle<(Writer, Moved)>>,
    cluster: Option<Cluster>,
    counters: Counters,
    notices: Notices,
    /// Where the state for the next run goes.
    keeping: Option<Arc<Mutex<Keeping>>>,
    watch: Option<SharedWatch>,
}

/// The cluster's policies, which the first window waits for.
#[derive(Debug)]
struct Cluster {
    policies: ClusterPolicies,
    patience: Duration,
    told: bool,
}

/// When to say again how many drops were not turned into rules.
#[derive(Debug, Default)]
pub struct Notices {
    last: Option<(Instant, u64)>,
}

// === impl Keeper ===

impl Keeper {
    /// A run that writes through `writer` every `flush_interval`, which is not zero.
    pub fn new(filters: Arc<Filters>, flush_interval: Duration, writer: Writer) -> Self {
        Self {
            filters,
            flush_interval,
            writer: Some(writer),
            writing: None,
            cluster: None,
            counters: Counters::default(),
            notices: Notices::default(),
            keeping: None,
            watch: None,
        }
    }

    /// What these policies allow or deny already is not written. The first window waits for them, but not
    /// longer than `patience`.
    #[must_use]
    pub fn with_cluster(mut self, policies: ClusterPolicies, patience: Duration) -> Self {
        if let Some(writer) = &mut self.writer {
            writer.count_cluster(policies.clone());
        }
        self.cluster = Some(Cluster { policies, patience, told: false });
        self
    }

    /// Keeps the state for the next run.
    #[must_use]
    pub fn keeping(mut self, keeping: Keeping) -> Self {
        self.keeping = Some(Arc::new(Mutex::new(keeping)));
        self
    }

    /// Follows a stream until it ends for good or `stop` is asked for.
    pub async fn follow<R: Reopen>(mut self, live: Live<R>, stop: Stop) -> Summary {
        self.watch = live.watch();
        let fold = Fold::new(Arc::clone(&self.filters)).started(Timestamp::now());
        let fold = Arc::new(Mutex::new(fold));
        let feed = tokio::spawn(live.run(Arc::clone(&fold), stop));
        self.keep(vec![fold], feed, Settling::Window).await
    }

    /// Reads captures with so many threads until they end or `stop` is asked for.
    pub async fn replay(self, replay: Replay, threads: usize, stop: Stop) -> Summary {
        let between = if replay.follows() { Settling::Window } else { Settling::Interim };
        let folds: Vec<Shared> =
            (0..threads.max(1)).map(|_| Arc::new(Mutex::new(Fold::new(Arc::clone(&self.filters))))).collect();
        let flag = Arc::new(AtomicBool::new(false));
        let (theirs, ours) = (folds.clone(), Arc::clone(&flag));
        let mut reading = tokio::task::spawn_blocking(move || replay.run(theirs, &ours));
        let feed = tokio::spawn(async move {
            let ended = tokio::select! {
                biased;
                ended = &mut reading => ended,
                () = stop.stopped() => {
                    flag.store(true, Ordering::Relaxed);
                    // A reader that waits for more standard input does not see the flag.
                    match tokio::time::timeout(Duration::from_secs(1), reading).await {
                        Ok(ended) => ended,
                        Err(_) => return FeedEnd::Stopped,
                    }
                }
            };
            ended.unwrap_or_else(|e| FeedEnd::Lost(format!("reading: {e}")))
        });
        self.keep(folds, feed, between).await
    }

    async fn keep(mut self, folds: Vec<Shared>, mut feed: JoinHandle<FeedEnd>, between: Settling) -> Summary {
        let started = Instant::now();
        let mut tick = tokio::time::interval_at(started + self.flush_interval, self.flush_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            tokio::select! {
                biased;
                ended = &mut feed => {
                    break ended.unwrap_or_else(|e| FeedEnd::Lost(format!("reading: {e}")));
                }
                _ = tick.tick() => {
                    self.collect_writer(false).await;
                    // Still busy: the window stays open.
                    if !self.waits_for_cluster(started) && let Some(writer) = self.writer.take() {
                        self.write(writer, &folds, between);
                    }
                    let pending = |fold: &Shared| lock(fold).counters_mut().unhandled();
                    let unhandled = self.counters.unhandled() + folds.iter().map(pending).sum::<u64>();
                    self.notices.tell(unhandled, Instant::now());
                }
            }
        };
        let signalled = match &end {
            FeedEnd::Captures(report) => report.stopped,
            end => matches!(end, FeedEnd::Stopped),
        };
        let (patience, for_cluster) =
            if signalled { (AFTER_SIGNAL, FOR_CLUSTER) } else { (AFTER_INPUT, AFTER_INPUT) };
        let last = async {
            self.wait_for_cluster(started, for_cluster).await;
            self.last_window(&folds).await;
        };
        let late = tokio::time::timeout(patience, last).await.is_err();
        self.finish(end, late, started.elapsed())
    }

    /// Whether a window would come too early: what the cluster allows is not known yet.
    fn waits_for_cluster(&mut self, started: Instant) -> bool {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| !cluster.told) else { return false };
        if cluster.policies.awaited().is_none() {
            return false;
        }
        let waits = started.elapsed() < cluster.patience;
        if !waits {
            cluster.tell();
        }
        waits
    }

    /// Waits for what the cluster allows, where that is still within its time.
    async fn wait_for_cluster(&mut self, started: Instant, most: Duration) {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| !cluster.told) else { return };
        let until = (started + cluster.patience).min(Instant::now() + most);
        if tokio::time::timeout_at(until, cluster.policies.settled()).await.is_err() {
            cluster.tell();
        }
    }

    /// Writes what is there, after the write under way.
    async fn last_window(&mut self, folds: &[Shared]) {
        self.collect_writer(true).await;
        if let Some(writer) = self.writer.take() {
            self.write(writer, folds, Settling::Final);
        }
        self.collect_writer(true).await;
    }

    /// Takes every fold's window and writes it in the background.
    fn write(&mut self, mut writer: Writer, folds: &[Shared], when: Settling) {
        let keeping = self.keeping.clone();
        // Before the folds: what comes in between is told of later, and not the other way round.
        if let Some(keeping) = &keeping {
            keeping.lock().unwrap_or_else(PoisonError::into_inner).taking();
        }
        let mut ledger: Option<Ledger> = None;
        for fold in folds {
            let (part, counted) = lock(fold).take();
            self.counters.join(counted);
            match &mut ledger {
                Some(ledger) => {
                    for (_, tally) in ledger.join(part) {
                        self.counters.move_to_skipped(Skip::LedgerFull, tally.events());
                    }
                }
                None => ledger = Some(part),
            }
        }
        let ledger = ledger.unwrap_or_else(|| Ledger::new(super::LEDGER_CAPACITY));
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let moved = writer.window(ledger, when);
            if let Some(keeping) = keeping {
                let mut keeping = keeping.lock().unwrap_or_else(PoisonError::into_inner);
                keeping.written(writer.results(), when == Settling::Final);
            }
            (writer, moved)
        }));
    }

    /// Takes the writer back when it is done, or waits for it.
    async fn collect_writer(&mut self, wait: bool) {
        let Some(writing) = self.writing.take_if(|writing| wait || writing.is_finished()) else { return };
        match writing.await {
            Ok((writer, moved)) => {
                self.writer = Some(writer);
                for (skip, flows) in moved {
                    self.counters.move_to_skipped(skip, flows);
                }
            }
            Err(e) => tracing::error!(error = %e, "the writer did not survive; what it held is lost"),
        }
    }

    fn finish(self, end: FeedEnd, late: bool, elapsed: Duration) -> Summary {
        let Self { writer, counters, filters, cluster, watch, .. } = self;
        let coverage = watch.map(|shared| super::live::watch(&shared).coverage(Timestamp::now()));
        let mut results = writer.as_ref().map(|w| w.results().clone()).unwrap_or_default();
        results.cluster_notes = cluster.map(|cluster| cluster.policies.notes()).unwrap_or_default();
        let also_selected = writer.as_ref().map(Writer::also_selected).unwrap_or_default();
        Summary {
            namespaces_asked: filters.interest.namespaces.clone(),
            counters,
            waiting: writer.as_ref().map_or(0, Writer::waiting) as u64,
            writer_lost: writer.is_none(),
            root: writer.as_ref().map(|w| w.root().to_owned()),
            results,
            also_selected,
            end,
            late,
            elapsed,
            namespaces_of_relay: None,
            coverage,
            min_coverage: None,
        }
    }
}

// === impl Cluster ===

impl Cluster {
    /// Time is up: what it allows is written, like everything else.
    fn tell(&mut self) {
        self.told = true;
        if let Some(what) = self.policies.awaited() {
            tracing::warn!(
                "the cluster's policies did not become known in time ({what}): until they are, what they allow is \
                 written too"
            );
        }
    }
}

// === impl Notices ===

impl Notices {
    /// One line when the count changed, at most once a minute.
    fn tell(&mut self, unhandled: u64, now: Instant) {
        if self.is_due(unhandled, now) {
            tracing::info!(
                "{} not turned into rules so far; the summary at the end has the reasons, --debug each different one",
                text::count(unhandled, "drop")
            );
        }
    }

    /// Whether there is something new to say, and it is time.
    pub fn is_due(&mut self, unhandled: u64, now: Instant) -> bool {
        let due = match self.last {
            None => unhandled > 0,
            Some((when, count)) => unhandled != count && now.duration_since(when) >= NOTICE_EVERY,
        };
        if due {
            self.last = Some((now, unhandled));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn unhandled_drops_are_told_when_they_change_once_a_minute() {
        let mut notices = Notices::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!notices.is_due(0, at(0)));
        assert!(notices.is_due(3, at(5)));
        assert!(!notices.is_due(4, at(10)));
        assert!(notices.is_due(4, at(66)));
        assert!(!notices.is_due(4, at(200)));
    }
}
