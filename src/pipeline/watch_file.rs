//! What was watched, beside the evidence: so that nobody takes a time that was not watched for one in which
//! nothing was dropped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::background::Background;
use crate::coverage::{Coverage, WatchLog};
use crate::state::{read_log, write_log};
use crate::store::write_private;
use crate::text::visible;

/// Between two writes: what a run that is killed watched since then is in no file, and not claimed.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// How long the last write may take.
const LAST: Duration = Duration::from_secs(2);
/// Larger files are none of ours.
const LARGEST: u64 = 64 << 20;

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
        self.writing.begin(move || join(&path, log));
    }

    async fn collect(&mut self) {
        if let Some(Err(why)) = self.writing.collect().await {
            tracing::warn!("what was watched is not kept: {}", visible(&why, 1_000));
        }
    }
}

/// Joins a run into the file. One that cannot be read is set aside.
fn join(path: &Path, run: WatchLog) -> Result<(), String> {
    let mut log = match read(path) {
        Ok(log) => log.unwrap_or_default(),
        Err(why) => {
            let aside = path.with_extension("json.damaged");
            fs::rename(path, &aside).map_err(|e| format!("{}: {why} ({e})", path.display()))?;
            tracing::warn!("{} cannot be used: {why}; it is {} now", path.display(), aside.display());
            WatchLog::default()
        }
    };
    log.join(&run);
    write_private(path, &write_log(&log)).map_err(|e| e.to_string())
}

/// The log at this path; `None` where there is none.
pub fn read(path: &Path) -> Result<Option<WatchLog>, String> {
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > LARGEST => return Err("it is too large".to_owned()),
        Ok(_) | Err(_) => {}
    }
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    read_log(&text).map(Some)
}
