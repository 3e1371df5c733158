//! What fills the folds: a relay's stream (`live`), or the workers of a replay.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Fold;
use crate::flow::Interest;
use crate::source::Item;
use crate::source::relay::StreamEnd;
use crate::source::replay::{Input, Report, Sink, replay};

/// A fold that the feed and the keeper share. Held for one item, or for the swap of a ledger.
pub(super) type Shared = Arc<Mutex<Fold>>;

/// Why the feed ended.
#[derive(Debug)]
pub enum FeedEnd {
    /// It was asked to.
    Stopped,
    /// The stream ended for good: the relay will not serve it, or nobody wanted to connect again.
    Stream(StreamEnd),
    /// It was asked to, and had not had a stream for a while.
    Gone {
        /// For how long.
        lasted: Duration,
        /// What the last try to connect again said, safe to print.
        why: String,
    },
    /// All captures were read.
    Captures(Report),
    /// A fault of cpg's own: the task that reads did not survive.
    Lost(String),
}

/// Captures as feed.
#[derive(Debug)]
pub struct Replay {
    inputs: Vec<Input>,
    interest: Interest,
}

/// One worker's door to its fold.
struct Worker(Shared);

// === impl Replay ===

impl Replay {
    /// Reads these captures; `interest` lets lines that cannot matter be passed over.
    pub fn new(inputs: Vec<Input>, interest: Interest) -> Self {
        Self { inputs, interest }
    }

    /// Whether it follows a file that is still written: it goes on until it is stopped, like a stream.
    pub(super) fn follows(&self) -> bool {
        self.inputs.iter().any(|input| matches!(input, Input::Follow(_)))
    }

    /// Reads with one thread per fold, until the inputs end or the run is to stop. Blocks.
    pub(super) fn run(self, folds: Vec<Shared>, stop: &AtomicBool) -> FeedEnd {
        let sinks = folds.iter().map(|fold| Worker(Arc::clone(fold))).collect();
        let (_, mut report) = replay::<Worker>(&self.inputs, &self.interest, sinks, stop);
        if let Some(fold) = folds.first() {
            lock(fold).counters_mut().unknown.merge(std::mem::take(&mut report.unknown));
        }
        // What was followed until the stop is all that was asked for.
        if stop.load(Ordering::Relaxed) && !self.follows() {
            FeedEnd::Stopped
        } else {
            FeedEnd::Captures(report)
        }
    }
}

// === impl Worker ===

impl Sink for Worker {
    fn item(&mut self, item: Item) {
        lock(&self.0).item(item);
    }

    fn not_of_interest(&mut self, lines: u64) {
        lock(&self.0).not_of_interest(lines);
    }
}

/// The fold, also after another thread died while it held it: counters and ledger are whole after
/// every single item.
pub(super) fn lock(fold: &Shared) -> MutexGuard<'_, Fold> {
    fold.lock().unwrap_or_else(PoisonError::into_inner)
}
