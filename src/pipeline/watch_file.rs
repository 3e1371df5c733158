//! What was watched, beside the evidence: so that nobody takes a time that was not watched for one in which
//! nothing was dropped.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::background::Background;
use crate::coverage::{Coverage, WatchLog};
use crate::state::join_log;
use crate::text::visible;

/// Between two writes: what a run that is killed watched since then is in no file, and not claimed.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// How long the last write may take.
const LAST: Duration = Duration::from_secs(2);

/// Where the log of what was watched goes.
#[derive(Debug)]
pub struct WatchFile {
    path: PathBuf,
    next: Instant,
    writing: Background,
}

// === impl WatchFile ===

impl WatchFile {
    /// A log at this path, which may be there already.
    pub fn new(path: PathBuf) -> Self {
        Self { path, next: Instant::now() + EVERY, writing: Background::new("watch-file") }
    }

    /// Begins to write when it is time. Does not wait.
    pub(super) async fn tick(&mut self, coverage: impl FnOnce() -> Coverage) {
        if self.writing.is_busy() {
            return;
        }
        self.collect().await;
        if Instant::now() >= self.next {
            self.next = Instant::now() + EVERY;
            self.write(&coverage());
        }
    }

    /// Writes the last state.
    pub(super) async fn finish(mut self, coverage: &Coverage) {
        let last = async {
            self.collect().await;
            self.write(coverage);
            self.collect().await;
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("what was watched was not on disk in time");
        }
    }

    fn write(&mut self, coverage: &Coverage) {
        let (path, log) = (self.path.clone(), WatchLog::from(coverage));
        self.writing.begin(move || join_log(&path, &log));
    }

    async fn collect(&mut self) {
        if let Some(Err(why)) = self.writing.collect().await {
            tracing::warn!("what was watched is not kept: {}", visible(&why, 1_000));
        }
    }
}
