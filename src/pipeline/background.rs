//! A file that is written beside everything else, so that a disk that hangs holds up nothing.

use tokio::task::{JoinHandle, spawn_blocking};

use super::tasks;

/// Writes of one file, one at a time.
#[derive(Debug)]
pub(super) struct Background {
    task: &'static str,
    writing: Option<JoinHandle<Result<(), String>>>,
}

// === impl Background ===

impl Background {
    /// Nothing is under way. The name is that of the task.
    pub(super) fn new(task: &'static str) -> Self {
        Self { task, writing: None }
    }

    /// Whether a write is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| !writing.is_finished())
    }

    /// Begins a write, and does not wait for it.
    pub(super) fn begin(&mut self, write: impl FnOnce() -> Result<(), String> + Send + 'static) {
        let task = self.task;
        self.writing = Some(spawn_blocking(move || tasks::guarded(task, write)?));
    }

    /// Waits for the write that was begun last; `None` where there is none, or it was told already.
    pub(super) async fn collect(&mut self) -> Option<Result<(), String>> {
        let writing = self.writing.take()?;
        Some(writing.await.unwrap_or_else(|e| Err(tasks::ended(self.task, e))))
    }
}
