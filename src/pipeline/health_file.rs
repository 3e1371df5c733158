//! `cluster-health.json` while the run goes on: written when something changed, beside everything else,
//! so that a disk that hangs holds up nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::background::Background;
use crate::health::{Circumstances, Health, Noise, document};
use crate::store::write_private;
use crate::text::visible;

/// Between two writes.
const EVERY: Duration = Duration::from_secs(30);
/// How long the last write may take.
const LAST: Duration = Duration::from_secs(2);

/// Where the document goes, and what came of it.
#[derive(Debug)]
pub struct HealthFile {
    path: PathBuf,
    /// The user named the path: then a failure is work that was not done.
    asked_for: bool,
    written: Option<(Arc<Health>, Instant)>,
    writing: Background,
    error: Option<String>,
}

// === impl HealthFile ===

impl HealthFile {
    /// A document at this path.
    pub fn new(path: PathBuf, asked_for: bool) -> Self {
        Self { path, asked_for, written: None, writing: Background::new("health-file"), error: None }
    }

    /// Begins to write when there is something new and it is time. Does not wait.
    pub(super) async fn tick(&mut self, health: &Arc<Health>, noise: &Noise, of: &Circumstances) {
        if self.writing.is_busy() {
            return;
        }
        self.collect().await;
        let due = match &self.written {
            None => true,
            Some((last, when)) => {
                when.elapsed() >= EVERY
                    && (self.error.is_some() || !Arc::ptr_eq(last, health) && last != health)
            }
        };
        if due {
            self.write(health, noise, of);
        }
    }

    /// Writes the last state; gives what kept it from the disk when the user had named the file, and the
    /// path when it is there.
    pub(super) async fn finish(
        mut self,
        health: &Arc<Health>,
        noise: &Noise,
        of: &Circumstances,
    ) -> (Option<PathBuf>, Option<String>) {
        let written = tokio::time::timeout(LAST, async {
            self.collect().await;
            self.write(health, noise, of);
            self.collect().await;
        });
        if written.await.is_err() {
            self.error =
                Some(format!("{} was not on disk in time", visible(&self.path.display().to_string(), 500)));
        }
        match self.error {
            None => (Some(self.path), None),
            Some(error) if self.asked_for => (None, Some(error)),
            Some(_) => (None, None),
        }
    }

    fn write(&mut self, health: &Arc<Health>, noise: &Noise, of: &Circumstances) {
        let text = document(health, noise, of);
        let path = self.path.clone();
        self.written = Some((Arc::clone(health), Instant::now()));
        self.writing.begin(move || write_private(&path, &text).map_err(|e| e.to_string()));
    }

    async fn collect(&mut self) {
        let Some(result) = self.writing.collect().await else { return };
        match (result, &self.error) {
            (Ok(()), _) => self.error = None,
            (Err(error), known) => {
                if known.is_none() {
                    tracing::warn!(
                        "the report of drops is not on disk: {}; --health-file names another place",
                        visible(&error, 1_000)
                    );
                }
                self.error = Some(error);
            }
        }
    }
}
