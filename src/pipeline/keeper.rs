//! The loop that everything hangs on: it starts the feed, closes windows, and ends the run in order.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::cluster::Cluster;
use super::feed::{Shared, lock};
use super::shutdown::Stage;
use super::writer::Moved;
use super::{
    Cap, Common, Counters, FeedEnd, Fold, HealthFile, Keeping, Live, Notices, Reopen, Replay, SharedWatch,
    Stop, Summary, Vitals, WatchFile, Writer, tasks,
};
use crate::aggregate::{Ledger, Settling};
use crate::classify::{Filters, Skip};
use crate::health::{Circumstances, Noise};
use crate::kube::ClusterPolicies;
use crate::source::replay::Report;
use crate::text::visible;

/// How long the last window may take to reach the disk after a signal: whoever sent it will not wait
/// long.
pub const AFTER_SIGNAL: Duration = Duration::from_secs(10);
/// How long it may take at the end of the input, when nobody is in a hurry.
const AFTER_INPUT: Duration = Duration::from_secs(600);
/// After a signal the last window waits so long for the cluster's policies.
const FOR_CLUSTER: Duration = Duration::from_secs(3);
/// The task that reads flows.
const READER: &str = "reader";
/// The task that writes windows.
const WRITER: &str = "writer";

/// One run: folds, writer, counters.
#[derive(Debug)]
pub struct Keeper {
    filters: Arc<Filters>,
    flush_interval: Duration,
    root: PathBuf,
    /// `None` while a window is being written.
    writer: Option<Writer>,
    writing: Option<JoinHandle<(Writer, Result<Moved, String>)>>,
    stage: Stage,
    /// What the first window waits for.
    cluster: Option<Cluster>,
    counters: Counters,
    notices: Notices,
    /// Where the state for the next run goes.
    keeping: Option<Arc<Mutex<Keeping>>>,
    watch: Option<SharedWatch>,
    common: Arc<Common>,
    after_signal: Duration,
    noise: Noise,
    health_file: Option<HealthFile>,
    /// Where what was watched goes.
    watch_file: Option<WatchFile>,
    /// Tasks that did not survive.
    faults: Vec<String>,
}

// === impl Keeper ===

impl Keeper {
    /// A run that writes through `writer` every `flush_interval`, which is not zero.
    pub fn new(filters: Arc<Filters>, flush_interval: Duration, mut writer: Writer) -> Self {
        if filters.interest.learn {
            writer.learn();
        }
        Self {
            filters,
            flush_interval,
            root: writer.root().to_owned(),
            stage: writer.stage(),
            writer: Some(writer),
            writing: None,
            cluster: None,
            counters: Counters::default(),
            notices: Notices::default(),
            keeping: None,
            watch: None,
            common: Arc::default(),
            after_signal: AFTER_SIGNAL,
            noise: Noise::default(),
            health_file: None,
            watch_file: None,
            faults: Vec::new(),
        }
    }

    /// What these policies allow or deny already is not written. The first window waits for them, but not
    /// longer than `patience`.
    #[must_use]
    pub fn with_cluster(mut self, policies: ClusterPolicies, patience: Duration) -> Self {
        if let Some(writer) = &mut self.writer {
            writer.count_cluster(policies.clone());
        }
        self.cluster = Some(Cluster::new(policies, patience));
        self
    }

    /// Keeps the state for the next run.
    #[must_use]
    pub fn keeping(mut self, keeping: Keeping) -> Self {
        self.keeping = Some(Arc::new(Mutex::new(keeping)));
        self
    }

    /// After a signal the last window may take so long.
    #[must_use]
    pub fn ending_within(self, after_signal: Duration) -> Self {
        Self { after_signal, ..self }
    }

    /// What was watched goes to this file.
    #[must_use]
    pub fn logging(self, file: Option<WatchFile>) -> Self {
        Self { watch_file: file, ..self }
    }

    /// `common` says which drops are history, those of `noise` do not count, and all of them go to `file`.
    #[must_use]
    pub fn reporting(self, common: Common, noise: Noise, file: Option<HealthFile>) -> Self {
        Self { common: Arc::new(common), noise, health_file: file, ..self }
    }

    /// The numbers of the run, while it runs.
    pub fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.common.vitals)
    }

    fn fold(&self) -> Shared {
        let fold = Fold::new(Arc::clone(&self.filters)).sharing(Arc::clone(&self.common));
        Arc::new(Mutex::new(fold))
    }

    /// Follows a stream until it ends for good or `stop` is asked for.
    pub async fn follow<R: Reopen>(mut self, live: Live<R>, stop: Stop) -> Summary {
        self.watch = live.watch();
        let fold = self.fold();
        let feed = tokio::spawn(tasks::named(READER, live.run(Arc::clone(&fold), stop.clone())));
        self.keep(vec![fold], feed, stop, Settling::Window).await
    }

    /// Reads captures with so many threads until they end or `stop` is asked for.
    pub async fn replay(self, replay: Replay, threads: usize, stop: Stop) -> Summary {
        let between = if replay.follows() { Settling::Window } else { Settling::Interim };
        let folds: Vec<Shared> = (0..threads.max(1)).map(|_| self.fold()).collect();
        let flag = Arc::new(AtomicBool::new(false));
        let (theirs, ours, asked) = (folds.clone(), Arc::clone(&flag), stop.clone());
        let mut reading = tokio::task::spawn_blocking(move || {
            tasks::guarded(READER, || replay.run(theirs, &ours)).unwrap_or_else(FeedEnd::Lost)
        });
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
            ended.unwrap_or_else(|e| FeedEnd::Lost(tasks::ended(READER, e)))
        });
        self.keep(folds, feed, asked, between).await
    }

    async fn keep(
        mut self,
        folds: Vec<Shared>,
        mut feed: JoinHandle<FeedEnd>,
        stop: Stop,
        between: Settling,
    ) -> Summary {
        let (started, clock) = (Instant::now(), Timestamp::now());
        self.common.vitals.attach(&folds);
        let mut tick = tokio::time::interval_at(started + self.flush_interval, self.flush_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut end = loop {
            tokio::select! {
                biased;
                ended = &mut feed => {
                    break Some(ended.unwrap_or_else(|e| FeedEnd::Lost(tasks::ended(READER, e))));
                }
                () = self.collect_writer(), if self.writing.is_some() => {
                    if !self.faults.is_empty() {
                        stop.stop();
                        break None;
                    }
                }
                _ = tick.tick() => {
                    // Still busy: the window stays open.
                    if !self.cluster.as_mut().is_some_and(|cluster| cluster.delays(started))
                        && let Some(writer) = self.writer.take() {
                        self.write(writer, &folds, between);
                    }
                    if let Some(watch) = &self.watch {
                        let watch = super::live::watch(watch);
                        self.common.vitals.set_gaps(watch.gaps());
                        self.counters.cap_is_at(Cap::Gaps, watch.gaps().widened());
                        self.counters.cap_is_at(Cap::Nodes, watch.refused());
                        let (connected, known) = watch.connected();
                        self.common.vitals.set_nodes(connected as u64, (known - connected) as u64);
                    }
                    let pending = |fold: &Shared| lock(fold).counters_mut().unhandled();
                    let unhandled = self.counters.unhandled() + folds.iter().map(pending).sum::<u64>();
                    self.notices.tell(unhandled, Instant::now());
                    let records = folds.iter().map(|fold| lock(fold).counters_mut().http_records).sum::<u64>();
                    let records = self.counters.http_records + records;
                    self.notices.tell_requests(&self.filters.interest, records, Some(started.elapsed()));
                    if let (Some(file), Some(watch)) = (&mut self.watch_file, &self.watch) {
                        file.tick(|| super::live::watch(watch).coverage(Timestamp::now())).await;
                    }
                    if let Some(file) = &mut self.health_file {
                        let of = circumstances(&self.common, &self.root, clock, false);
                        file.tick(&self.counters.health, &self.noise, &of).await;
                    }
                }
            }
        };
        // What comes later, as the last writes, is no time that was to be watched.
        let until = Timestamp::now();
        let (after_signal, stage) = (self.after_signal, self.stage.clone());
        let asked = stop.clone();
        let last = async {
            if end.is_none() {
                self.stage.is("waiting for the reader to end");
                end = Some(feed.await.unwrap_or_else(|e| FeedEnd::Lost(tasks::ended(READER, e))));
            }
            if let Some(cluster) = &mut self.cluster {
                let most = if asked.is_stopped() { FOR_CLUSTER } else { AFTER_INPUT };
                cluster.wait(started, most, &self.stage).await;
            }
            if let Some(FeedEnd::Captures(report)) = &end {
                self.captured(report).await;
            }
            self.last_window(&folds).await;
        };
        let late = tokio::select! {
            biased;
            () = last => None,
            // The end of the input leaves more time, until somebody is in a hurry.
            () = async { stop.stopped().await; tokio::time::sleep(after_signal).await } => {
                Some((after_signal, stage.now()))
            }
            () = tokio::time::sleep(AFTER_INPUT) => Some((AFTER_INPUT, stage.now())),
        };
        self.notices.tell_requests(&self.filters.interest, self.counters.http_records, None);
        self.finish(end.unwrap_or(FeedEnd::Stopped), late, started.elapsed(), (clock, until)).await
    }

    /// What came from captures is known by their content now.
    async fn captured(&mut self, report: &Report) {
        let wait = tokio::time::timeout(AFTER_INPUT, self.collect_writer());
        if wait.await.is_ok()
            && let Some(writer) = &mut self.writer
        {
            writer.captured(report);
        }
    }

    /// Writes what is there, after the write under way.
    async fn last_window(&mut self, folds: &[Shared]) {
        self.collect_writer().await;
        if let Some(writer) = self.writer.take() {
            self.write(writer, folds, Settling::Final);
        }
        self.collect_writer().await;
    }

    /// Takes every fold's window and writes it in the background.
    fn write(&mut self, mut writer: Writer, folds: &[Shared], when: Settling) {
        let keeping = self.keeping.clone();
        // Before the folds: what comes in between is told of later, and not the other way round.
        if let Some(keeping) = &keeping {
            keeping.lock().unwrap_or_else(PoisonError::into_inner).taking();
        }
        let mut ledger: Option<Ledger> = None;
        let vitals = self.vitals();
        vitals.exchange(|| {
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
            self.counters.clone()
        });
        let ledger = ledger.unwrap_or_else(|| Ledger::new(super::LEDGER_CAPACITY));
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let moved = tasks::guarded(WRITER, || writer.window(ledger, when));
            if let (Some(keeping), Ok(_)) = (keeping, &moved) {
                let mut keeping = keeping.lock().unwrap_or_else(PoisonError::into_inner);
                keeping.written(writer.results(), writer.pending(), when == Settling::Final);
            }
            (writer, moved)
        }));
    }

    /// Waits for the writer and takes it back.
    async fn collect_writer(&mut self) {
        // It stays here while it is waited for: who stops waiting must not take it for gone.
        let Some(writing) = self.writing.as_mut() else { return };
        let done = writing.await;
        self.writing = None;
        match done {
            Ok((writer, moved)) => {
                self.tell_vitals(&writer, moved.is_err());
                self.counters.cap_is_at(Cap::Addresses, u64::from(writer.forgets_addresses()));
                self.writer = Some(writer);
                match moved {
                    Ok(moved) => {
                        for (skip, flows) in moved {
                            self.counters.move_to_skipped(skip, flows);
                        }
                    }
                    Err(fault) => self.fault(format!("{fault}; the window that it held is lost")),
                }
            }
            Err(e) => self.fault(tasks::ended(WRITER, e)),
        }
    }

    fn tell_vitals(&self, writer: &Writer, panicked: bool) {
        let results = writer.results();
        let failed = panicked
            || results.directory_error.is_some()
            || results.policies.values().any(|policy| policy.error.is_some());
        self.common.vitals.wrote(results, writer.waiting(), failed);
    }

    fn fault(&mut self, what: String) {
        tracing::error!("{what}; the run ends");
        self.faults.push(what);
    }

    async fn finish(
        self,
        end: FeedEnd,
        late: Option<(Duration, String)>,
        elapsed: Duration,
        (clock, until): (Timestamp, Timestamp),
    ) -> Summary {
        let Self {
            root,
            writer,
            mut counters,
            filters,
            cluster,
            watch,
            common,
            noise,
            health_file,
            watch_file,
            faults,
            ..
        } = self;
        let coverage = watch.map(|shared| {
            let watch = super::live::watch(&shared);
            counters.cap_is_at(Cap::Gaps, watch.gaps().widened());
            counters.cap_is_at(Cap::Nodes, watch.refused());
            watch.coverage(until)
        });
        let mut results = writer.as_ref().map(|w| w.results().clone()).unwrap_or_default();
        let changes = writer.as_ref().and_then(Writer::changes);
        results.cluster_notes = cluster.map(|cluster| cluster.notes()).unwrap_or_default();
        common.vitals.detach();
        let of = circumstances(&common, &root, clock, true);
        if let (Some(file), Some(coverage)) = (watch_file, &coverage) {
            file.finish(coverage).await;
        }
        let (health_file, health_error) = match health_file {
            Some(file) => file.finish(&counters.health, &noise, &of).await,
            None => (None, None),
        };
        let span =
            counters.span.map(|(begin, end)| (begin, if coverage.is_some() { until.max(end) } else { end }));
        let learning = writer.as_ref().and_then(|writer| writer.learning(span));
        let also_selected = writer.as_ref().map(Writer::also_selected).unwrap_or_default();
        Summary {
            namespaces_asked: filters.interest.namespaces.clone(),
            http_asked: filters.interest.http,
            audit: filters.interest.audit,
            learning,
            counters,
            waiting: writer.as_ref().map_or(0, Writer::waiting) as u64,
            writer_lost: writer.is_none(),
            root: Some(root),
            changes,
            results,
            also_selected,
            end,
            late: late.map(|(waited, stage)| {
                format!("after {} cpg was still {stage}", humantime::format_duration(waited))
            }),
            faults,
            noise,
            health_file,
            health_error,
            elapsed,
            namespaces_of_relay: None,
            coverage,
            min_coverage: None,
        }
    }
}

/// What the report of drops says of the run.
fn circumstances(common: &Common, root: &Path, started: Timestamp, finished: bool) -> Circumstances {
    Circumstances {
        started,
        counts_from: common.start,
        written: Timestamp::now(),
        finished,
        output_dir: visible(&root.display().to_string(), 4_096).into_owned(),
    }
}

#[cfg(test)]
mod tests;
