//! When people are told again how many drops became no rule.

use std::time::Duration;

use tokio::time::Instant;

use super::requests;
use crate::flow::Interest;
use crate::text;

/// Unhandled drops are told at most this often.
const EVERY: Duration = Duration::from_secs(60);

/// When to say again how many drops were not turned into rules.
#[derive(Debug, Default)]
pub struct Notices {
    last: Option<(Instant, u64)>,
    /// It was told that no proxy wrote anything down.
    no_requests: bool,
}

// === impl Notices ===

impl Notices {
    /// One line when the count changed, at most once a minute.
    pub(super) fn tell(&mut self, unhandled: u64, now: Instant) {
        if self.is_due(unhandled, now) {
            tracing::info!(
                "{} not turned into rules so far; the summary at the end has the reasons, --debug each different one",
                text::count(unhandled, "drop")
            );
        }
    }

    /// Once, when requests are asked for and none came for so long, or until the end.
    pub(super) fn tell_requests(&mut self, interest: &Interest, records: u64, since: Option<Duration>) {
        let late = since.is_none_or(|since| since >= EVERY);
        if interest.http && records == 0 && late && !self.no_requests {
            self.no_requests = true;
            tracing::warn!("{}", requests::no_requests(&interest.namespaces));
        }
    }

    /// Whether there is something new to say, and it is time.
    pub fn is_due(&mut self, unhandled: u64, now: Instant) -> bool {
        let due = match self.last {
            None => unhandled > 0,
            Some((when, count)) => unhandled != count && now.duration_since(when) >= EVERY,
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
