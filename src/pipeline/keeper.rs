//! The loop that everything hangs on: it starts the feed, closes windows, and ends the run in order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::feed::{Shared, lock};
use super::writer::Moved;
use super::{Counters, FeedEnd, Fold, Live, Reopen, Replay, Stop, Summary, Writer};
use crate::aggregate::{Ledger, Settling};
use crate::classify::{Filters, Skip};
use crate::source::replay::Report;
use crate::text;

/// How long the last window may take to reach the disk after a signal: whoever sent it will not wait
/// long.
const AFTER_SIGNAL: Duration = Duration::from_secs(10);
/// How long it may take at the end of the input, when nobody is in a hurry.
const AFTER_INPUT: Duration = Duration::from_secs(600);
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
    counters: Counters,
    notices: Notices,
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
            counters: Counters::default(),
            notices: Notices::default(),
        }
    }

    /// Follows a stream until it ends for good or `stop` is asked for.
    pub async fn follow<R: Reopen>(self, live: Live<R>, stop: Stop) -> Summary {
        let fold = Arc::new(Mutex::new(Fold::new(Arc::clone(&self.filters))));
        let feed = tokio::spawn(live.run(Arc::clone(&fold), stop));
        self.keep(vec![fold], feed, Settling::Window).await
    }

    /// Reads captures with so many threads until they end or `stop` is asked for.
    pub async fn replay(self, replay: Replay, threads: usize, stop: Stop) -> Summary {
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
        self.keep(folds, feed, Settling::Interim).await
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
                    if let Some(writer) = self.writer.take() {
                        self.write(writer, &folds, between);
                    }
                    let pending = |fold: &Shared| lock(fold).counters_mut().unhandled();
                    let unhandled = self.counters.unhandled() + folds.iter().map(pending).sum::<u64>();
                    self.notices.tell(unhandled, Instant::now());
                }
            }
        };
        if let FeedEnd::Captures(report) = &end {
            self.captured(report).await;
        }
        let patience = if matches!(end, FeedEnd::Stopped) { AFTER_SIGNAL } else { AFTER_INPUT };
        let late = tokio::time::timeout(patience, self.last_window(&folds)).await.is_err();
        self.finish(end, late, started.elapsed())
    }

    /// What came from captures is known by their content now.
    async fn captured(&mut self, report: &Report) {
        let wait = tokio::time::timeout(AFTER_INPUT, self.collect_writer(true));
        if wait.await.is_ok()
            && let Some(writer) = &mut self.writer
        {
            writer.captured(report);
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
        let Self { writer, counters, filters, .. } = self;
        let also_selected = writer.as_ref().map(Writer::also_selected).unwrap_or_default();
        Summary {
            namespaces_asked: filters.interest.namespaces.clone(),
            counters,
            waiting: writer.as_ref().map_or(0, Writer::waiting) as u64,
            writer_lost: writer.is_none(),
            root: writer.as_ref().map(|w| w.root().to_owned()),
            changes: writer.as_ref().and_then(Writer::changes),
            results: writer.map(|w| w.results().clone()).unwrap_or_default(),
            also_selected,
            end,
            late,
            elapsed,
            namespaces_of_relay: None,
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
