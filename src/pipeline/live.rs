//! A live stream as feed: read until it ends, connect again, go on from where it was.
//!
//! ```text
//!  stream ─▶ came already? ─▶ fold          health, nodes, rings (beside the stream) ─▶ watch ─▶ coverage
//!     └── ended, silent ─▶ wait ─▶ connect ─▶ since = what every node was delivered up to, less the overlap
//!     └── open for long, a node that is not read ─▶ a second stream, then the first is left
//! ```
//!
//! A relay asks a node that it finds again with the request of the stream as it was made: hence streams are
//! rotated, so that no `since` gets old, and what comes twice is counted once.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_stream::StreamExt as _;

use super::feed::{FeedEnd, Shared, lock};
use super::{Backoff, Cap, Stop};
use crate::source::Item;
use crate::source::relay::{ConnectErrorKind, EndKind, Start, StreamEnd};

mod again;
mod door;
mod round;
mod seen;
mod tap;
mod watch;

pub use again::Again;
use door::Wall;
pub use door::{Answer, Asking, FlowStream, Lasting, Question, Reopen};
use round::{Next, Round};
use seen::{Known, Seen};
pub(super) use tap::Tap;
pub use watch::{GAPS, Watch};

/// A stream that lives so long without a word counts as connected too: an agent on a quiet node says
/// nothing.
const STANDS: Duration = Duration::from_secs(5);
/// At the end of a run the stream may have been gone for so long.
const FORGIVEN: Duration = Duration::from_secs(60);
/// Without a flow for so long, people want to know whether anything is there.
const QUIET: Duration = Duration::from_secs(10);
/// So long after a stream was opened every node that the relay reaches is read.
const PICKED_UP: Duration = Duration::from_secs(3);
/// How often the nodes are asked for while it is not known how far back one of them was read.
const SOON: Duration = Duration::from_secs(5);
/// The relay has so long to answer a health check.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many health checks in a row have to fail, without an item between them.
const FAILURES: u32 = 2;
/// Streams in a row that fail with a message of the same place; then it is passed over.
const STUCK: u32 = 3;

/// The bookkeeping of a run, shared by the stream and whoever tells of it.
pub type SharedWatch = Arc<Mutex<Watch>>;

/// A live stream as feed.
#[derive(Debug)]
pub struct Live<R: Reopen = Again> {
    flows: R::Flows,
    reopen: Option<R>,
    watch: SharedWatch,
    lasting: Lasting,
    /// What the stream was asked for, where that was a time.
    since: Option<Timestamp>,
    /// Nothing from before this time was asked for.
    floor: Option<Timestamp>,
    wall: Wall,
    /// Where items go as they came; then nothing is folded.
    tap: Option<Tap>,
}

/// Since when there is no stream, and why.
struct Gone {
    since: Instant,
    why: String,
}

/// How one stream came to its end.
enum Read {
    Stopped,
    Ended(StreamEnd),
    Lost,
}

/// What is kept from stream to stream.
struct Reading {
    fold: Shared,
    seen: Seen,
    gone: Option<Gone>,
    quiet: Option<Instant>,
    /// Health checks in a row that failed.
    failures: u32,
    /// A flow came on this stream that had not come before.
    news: bool,
}

/// What one turn of the loop was about.
enum Turn {
    Item(Option<Result<Item, StreamEnd>>),
    Next(Option<Result<Item, StreamEnd>>),
    Answer(Answer),
    Due,
    Stopped,
}

// === impl Live ===

impl<R: Reopen> Live<R> {
    /// The bookkeeping, to tell of while the stream is read and after it; `None` of a stream beside which
    /// nothing can be asked.
    pub fn watch(&self) -> Option<SharedWatch> {
        self.reopen.is_some().then(|| Arc::clone(&self.watch))
    }

    /// Reads these flows until they end.
    pub(super) fn over(flows: R::Flows) -> Self {
        let wall = Wall::Real;
        let watch = Arc::new(Mutex::new(Watch::new(wall.now())));
        Self {
            flows,
            reopen: None,
            watch,
            lasting: Lasting::default(),
            since: None,
            floor: None,
            wall,
            tap: None,
        }
    }

    /// Reads until the run is to stop, or a stream ends for good.
    pub(super) async fn run(mut self, fold: Shared, stop: Stop) -> FeedEnd {
        let mut backoff = Backoff::default();
        let mut stuck = 0;
        let mut since = self.since;
        let vitals = lock(&fold).vitals();
        let mut reading = Reading {
            fold,
            seen: Seen::new(),
            gone: None,
            quiet: Some(Instant::now() + QUIET),
            failures: 0,
            news: false,
        };
        loop {
            let opened = Instant::now();
            self.tell(|watch, now| watch.opened(now, since));
            reading.news = false;
            vitals.connected();
            let read = self.read(&mut reading, &stop).await;
            vitals.disconnected();
            lock(&reading.fold).counters_mut().unknown.merge(self.flows.take_unknown());
            let end = match read {
                Read::Stopped => return stopped(reading.gone),
                Read::Ended(end) => end,
                Read::Lost => {
                    return FeedEnd::Lost("the stream ended without saying how".into());
                }
            };
            self.tell(|watch, now| watch.ended(now));
            let Some(reopen) =
                self.reopen.as_mut().filter(|_| self.lasting.reconnect && end.kind != EndKind::Refused)
            else {
                return FeedEnd::Stream(end);
            };
            backoff.lasted(opened.elapsed());
            // A message that ends every stream would come again for ever.
            stuck = if reading.news || end.kind != EndKind::Other { 0 } else { stuck + 1 };
            let gone = match &mut reading.gone {
                Some(gone) => gone,
                None => {
                    tracing::warn!("the stream of the relay ended ({end}); connecting again");
                    reading.gone.insert(Gone { since: Instant::now(), why: end.status.clone() })
                }
            };
            loop {
                let wait = backoff.next(random());
                tracing::debug!(wait = %humantime::format_duration(wait), "before connecting again");
                let connected = tokio::select! {
                    biased;
                    () = stop.stopped() => return stopped(Some(Gone { since: gone.since, why: gone.why.clone() })),
                    connected = async { sleep(wait).await; reopen.reconnect().await } => connected,
                };
                match connected {
                    Ok(()) => break,
                    Err(e) if e.kind == ConnectErrorKind::Refused => {
                        return FeedEnd::Stream(StreamEnd { status: e.message, kind: EndKind::Refused });
                    }
                    Err(e) => {
                        tracing::debug!(error = %e, "not connected again");
                        gone.why = e.message;
                    }
                }
            }
            let now = self.wall.now();
            since = if stuck >= STUCK {
                tracing::warn!("the same flows end every stream ({end}): they are passed over");
                stuck = 0;
                Some(now)
            } else {
                resume(&self.watch, self.floor, now)
            };
            reading.failures = 0;
            lock(&reading.fold).counters_mut().reconnects += 1;
            self.flows = reopen.open(since.map_or(self.lasting.start, Start::Since));
        }
    }

    /// Reads one stream to its end, and those that take its place meanwhile.
    async fn read(&mut self, reading: &mut Reading, stop: &Stop) -> Read {
        let lasting = self.lasting;
        let mut round: Round<R::Flows> = Round::new(Instant::now(), &lasting);
        let due: Sleep = sleep_until(round.opened);
        let mut due = std::pin::pin!(due);
        loop {
            let wake = round.wake(reading, self.reopen.is_some(), &lasting);
            if due.deadline() != wake {
                due.as_mut().reset(wake);
            }
            let turn = tokio::select! {
                biased;
                () = stop.stopped() => Turn::Stopped,
                answer = async { match &mut round.asking { Some(asking) => asking.await, None => std::future::pending().await } } => Turn::Answer(answer),
                () = due.as_mut() => Turn::Due,
                item = async { match &mut round.next { Some(next) => { room(&self.tap).await; next.flows.next().await }, None => std::future::pending().await } } => Turn::Next(item),
                item = async { room(&self.tap).await; self.flows.next().await } => Turn::Item(item),
            };
            match turn {
                Turn::Stopped => return Read::Stopped,
                Turn::Item(Some(Ok(item))) => self.item(reading, item),
                Turn::Item(Some(Err(end))) => {
                    // The one that was to take its place does so now.
                    let Some(next) = round.next.take() else { return Read::Ended(end) };
                    self.swap(reading, &mut round, next);
                }
                Turn::Item(None) => return Read::Lost,
                Turn::Next(Some(Ok(item))) => {
                    if let Some(next) = round.next.take() {
                        self.swap(reading, &mut round, next);
                    }
                    self.item(reading, item);
                }
                Turn::Next(_) => {
                    tracing::debug!("the stream that was to take over ended; the one before is read on");
                    round.next = None;
                    round.rotated = Instant::now();
                }
                Turn::Answer(answer) => {
                    round.asking = None;
                    match self.answered(reading, answer) {
                        Ok(rotate) => round.wish |= rotate,
                        Err(end) => return Read::Ended(end),
                    }
                    round.answered(Instant::now(), watch(&self.watch).is_open(), &lasting);
                }
                Turn::Due => self.due(reading, &mut round),
            }
        }
    }

    /// What is to be done without an item.
    fn due(&mut self, reading: &mut Reading, round: &mut Round<R::Flows>) {
        let now = Instant::now();
        if reading.gone.is_some() && now >= round.opened + STANDS {
            back(&mut reading.gone);
        }
        let Some(reopen) = &self.reopen else {
            reading.quiet = None;
            return;
        };
        if reading.gone.is_none() && reading.quiet.take_if(|quiet| now >= *quiet).is_some() {
            reopen.tell_quiet();
        }
        if round.asks(now) {
            let (told, patience) = (watch(&self.watch), PATIENCE.min(self.lasting.health_interval));
            let since = told.suspects(self.wall.now());
            round.asking = Some(reopen.ask(Question { patience, reach: told.is_open(), since }));
        }
        if let Some(next) = round.standing(now) {
            self.swap(reading, round, next);
        } else if round.rotates(now, &self.lasting) {
            let wall = self.wall.now();
            let since = resume(&self.watch, self.floor, wall).unwrap_or(wall);
            tracing::debug!(%since, wish = round.wish, "another stream takes over");
            round.next = Some(Next { flows: reopen.open(Start::Since(since)), opened: now, since });
        }
    }

    /// This stream is read from now on.
    fn swap(&mut self, reading: &mut Reading, round: &mut Round<R::Flows>, next: Next<R::Flows>) {
        let Next { flows, since, .. } = next;
        round.taken_over(Instant::now(), &self.lasting);
        let mut left = std::mem::replace(&mut self.flows, flows);
        let mut fold = lock(&reading.fold);
        fold.counters_mut().unknown.merge(left.take_unknown());
        fold.counters_mut().rotations += 1;
        drop(fold);
        self.tell(|watch, now| watch.opened(now, Some(since)));
    }

    fn item(&mut self, reading: &mut Reading, item: Item) {
        back(&mut reading.gone);
        reading.failures = 0;
        let now = self.wall.now();
        let raw = self.flows.take_raw();
        match &item {
            Item::Flow(flow) => {
                reading.quiet = None;
                let known = reading.seen.note(flow);
                let mut fold = lock(&reading.fold);
                match known {
                    Known::Repeated => fold.counters_mut().repeated += 1,
                    Known::New | Known::NewForOthers => {
                        reading.news = true;
                        if known == Known::NewForOthers {
                            fold.counters_mut().cap(Cap::Repeated, 1);
                        }
                    }
                }
                match &self.tap {
                    _ if known == Known::Repeated => {}
                    Some(tap) => {
                        fold.only_count(flow);
                        tap.take(raw);
                    }
                    None => fold.flow(flow),
                }
                drop(fold);
                // After the fold: a mark never tells of a flow that is not in a ledger.
                watch(&self.watch).flow(flow, now);
                return;
            }
            Item::Lost(lost) => watch(&self.watch).lost(lost, now),
            Item::NodeStatus(status) => watch(&self.watch).status(status, now),
            Item::Undecodable => watch(&self.watch).undecodable(now),
            Item::Other => watch(&self.watch).alive(now),
        }
        if let (Some(tap), Item::Lost(_) | Item::NodeStatus(_)) = (&self.tap, &item) {
            tap.take(raw);
        }
        lock(&reading.fold).item(item);
    }

    /// What the relay answered; whether another stream should take over, or the relay is dead.
    fn answered(&self, reading: &mut Reading, answer: Answer) -> Result<bool, StreamEnd> {
        let now = self.wall.now();
        if let Some(dead) = answer.dead {
            reading.failures += 1;
            tracing::debug!(failures = reading.failures, "no health: {dead}");
            return if reading.failures >= FAILURES { Err(dead) } else { Ok(false) };
        }
        reading.failures = 0;
        let mut watch = watch(&self.watch);
        watch.alive(now);
        let mut rotate = false;
        if let Some((told, nodes)) = &answer.nodes {
            let now = now.checked_sub(told.elapsed()).unwrap_or(now);
            for node in nodes.iter().filter(|node| node.max_flows > 0) {
                reading.seen.ring(&node.name, node.max_flows);
            }
            rotate |= watch.vitals(nodes, now);
        } else if let Some(oldest) = answer.oldest.as_ref().filter(|_| !answer.no_nodes) {
            watch.partly(oldest, now);
        }
        if let Some((since, first)) = &answer.first {
            rotate |= watch.unheard(*since, first, now);
        }
        if let Some(oldest) = &answer.oldest {
            rotate |= watch.reached(oldest, now);
        }
        Ok(rotate)
    }

    fn tell(&self, what: impl FnOnce(&mut Watch, Timestamp)) {
        what(&mut watch(&self.watch), self.wall.now());
    }
}

/// The bookkeeping, also after another thread died while it held it.
pub(super) fn watch(shared: &SharedWatch) -> std::sync::MutexGuard<'_, Watch> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until whoever takes the items can take one more.
async fn room(tap: &Option<Tap>) {
    if let Some(tap) = tap {
        tap.room().await;
    }
}

/// From when on the next stream has to deliver.
fn resume(shared: &SharedWatch, floor: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let since = watch(shared).resume(now)?;
    Some(floor.map_or(since, |floor| floor.max(since)))
}

/// The stream is there again.
fn back(gone: &mut Option<Gone>) {
    if let Some(gone) = gone.take() {
        let seconds = gone.since.elapsed().as_secs_f64();
        tracing::info!("connected again after {seconds:.1} s; what Hubble remembers of it is read now");
    }
}

/// Asked to stop: a short break is forgiven.
fn stopped(gone: Option<Gone>) -> FeedEnd {
    match gone {
        Some(gone) if gone.since.elapsed() > FORGIVEN => {
            FeedEnd::Gone { lasted: gone.since.elapsed(), why: gone.why }
        }
        _ => FeedEnd::Stopped,
    }
}

/// From 0 to 1; different for every call and process.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
