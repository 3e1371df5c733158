//! The lock on an output directory: on the directory itself, so that it leaves nothing behind.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::StoreError;

/// How long to sleep between two tries.
const STEP: Duration = Duration::from_millis(20);

/// Holds the directory until it is dropped, also when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _directory: File,
}

// === impl Lock ===

impl Lock {
    /// Takes the lock, waiting for it up to `patience`.
    pub(super) fn take(root: &Path, patience: Duration) -> Result<Self, StoreError> {
        let directory = File::open(root).map_err(|e| StoreError::read(root, e))?;
        let begin = Instant::now();
        loop {
            match directory.try_lock() {
                Ok(()) => return Ok(Self { _directory: directory }),
                Err(TryLockError::WouldBlock) if begin.elapsed() < patience => std::thread::sleep(STEP),
                Err(TryLockError::WouldBlock) => {
                    return Err(StoreError::Busy { path: root.to_owned(), waited: begin.elapsed() });
                }
                Err(TryLockError::Error(e)) => return Err(StoreError::write(root, e)),
            }
        }
    }
}
