//! When the loop over one stream has something to do without an item: ask the relay, let another stream take
//! over, tell that nothing comes.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Asking, Lasting, PICKED_UP, Reading, SOON, STANDS};

/// One stream while it is read, and what goes on beside it.
pub(super) struct Round<F> {
    pub(super) opened: Instant,
    /// When a stream took over the last time, or was to.
    pub(super) rotated: Instant,
    /// Another stream should take over soon.
    pub(super) wish: bool,
    /// When the relay is to be asked.
    poll_at: Instant,
    pub(super) asking: Option<Asking>,
    pub(super) next: Option<Next<F>>,
}

/// A stream that is to take over: with its first item, or when it stands.
pub(super) struct Next<F> {
    pub(super) flows: F,
    pub(super) opened: Instant,
    /// What it was asked for.
    pub(super) since: Timestamp,
}

// === impl Round ===

impl<F> Round<F> {
    /// A stream was opened.
    pub(super) fn new(now: Instant, lasting: &Lasting) -> Self {
        let poll_at = now + PICKED_UP.min(lasting.health_interval);
        Self { opened: now, rotated: now, wish: false, poll_at, asking: None, next: None }
    }

    /// Another stream took over; a question that is under way goes on.
    pub(super) fn taken_over(&mut self, now: Instant, lasting: &Lasting) {
        *self = Self { asking: self.asking.take(), ..Self::new(now, lasting) };
    }

    /// The relay answered; `is_open`: of some node it is not known yet how far back it was read.
    pub(super) fn answered(&mut self, now: Instant, is_open: bool, lasting: &Lasting) {
        let pause = if is_open { SOON } else { lasting.health_interval };
        self.poll_at = now + pause.min(lasting.health_interval);
    }

    /// Whether it is time to ask the relay.
    pub(super) fn asks(&self, now: Instant) -> bool {
        self.asking.is_none() && now >= self.poll_at
    }

    /// The stream that takes over because it stands: it says nothing, as on a cluster that is quiet.
    pub(super) fn standing(&mut self, now: Instant) -> Option<Next<F>> {
        self.next.take_if(|next| now >= next.opened + STANDS)
    }

    /// Whether it is time for another stream.
    pub(super) fn rotates(&self, now: Instant, lasting: &Lasting) -> bool {
        self.next.is_none() && now >= self.rotate_at(lasting)
    }

    /// When there is something to do; `has_beside`: there is a relay to ask and to open streams of.
    pub(super) fn wake(&self, reading: &Reading, has_beside: bool, lasting: &Lasting) -> Instant {
        let mut wake = self.opened + Duration::from_secs(365 * 86_400);
        if reading.gone.is_some() {
            wake = wake.min(self.opened + STANDS);
        }
        if let Some(quiet) = reading.quiet {
            wake = wake.min(if reading.gone.is_some() { quiet.max(self.opened + STANDS) } else { quiet });
        }
        if has_beside {
            if self.asking.is_none() {
                wake = wake.min(self.poll_at);
            }
            let over = self.next.as_ref().map(|next| next.opened + STANDS);
            wake = wake.min(over.unwrap_or_else(|| self.rotate_at(lasting)));
        }
        wake
    }

    fn rotate_at(&self, lasting: &Lasting) -> Instant {
        let planned = self.opened.max(self.rotated) + lasting.rotate_interval;
        // A node that comes and goes does not make a new stream each time.
        if self.wish { planned.min(self.rotated + lasting.health_interval) } else { planned }
    }
}
