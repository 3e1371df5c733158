//! Being asked to stop: by a signal, by the end of a story, by a test.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Signals so close together are one: `timeout` sends its signal to the process and then to its whole group,
/// which the process is in, so it can come twice.
const SAME: Duration = Duration::from_millis(250);

/// Asks every part of a run to come to its end. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stop(CancellationToken);

/// What the writer is at, in words: who asks too late is told what was late. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Stage(Arc<Mutex<String>>);

// === impl Stage ===

impl Stage {
    /// From here on it is at this.
    pub(super) fn is(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    /// What it is at.
    pub(super) fn now(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl Stop ===

impl Stop {
    /// Asks.
    pub fn stop(&self) {
        self.0.cancel();
    }

    /// Whether it was asked.
    pub fn is_stopped(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it is asked.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }
}

/// A [`Stop`] that SIGINT and SIGTERM ask for. The first one lets the last window through every stage;
/// the second one calls `at_once` with the signal's name, which should end the process. From here on
/// the signals are caught. With `terminal` SIGHUP and SIGQUIT ask too: its end, and its other key.
pub fn on_signals(
    terminal: bool,
    at_once: impl FnOnce(&'static str) + Send + 'static,
) -> std::io::Result<Stop> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Caught only when asked for: nohup's way of ignoring SIGHUP stays as it is.
    let more = |kind| if terminal { signal(kind).map(Some) } else { Ok(None) };
    let (mut hangup, mut quit) = (more(SignalKind::hangup())?, more(SignalKind::quit())?);
    let stop = Stop::default();
    let ours = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
                () = received(&mut hangup) => "SIGHUP",
                () = received(&mut quit) => "SIGQUIT",
            }
        };
        let name = next().await;
        tracing::info!("{name}: writing what was learned, then ending; again to end at once");
        ours.stop();
        let first = Instant::now();
        loop {
            let again = next().await;
            if first.elapsed() >= SAME {
                return at_once(again);
            }
        }
    });
    Ok(stop)
}

/// Never, for a signal that is not caught.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
