//! How the relay is watched: what was typed, checked.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::args::WatchArgs;
use super::settings::{Mistakes, duration, keep};
use crate::coverage::Gaps;
use crate::pipeline::{Lasting, Watch};
use crate::source::relay::Start;
use crate::state::{StateDir, StateError};
use crate::text::visible;

/// How the relay is watched.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) lasting: Lasting,
    state_dir: Option<PathBuf>,
    /// In percent.
    pub(super) min_coverage: Option<f64>,
}

/// What was asked for, or every mistake in it.
pub(super) fn watching(args: WatchArgs, reconnect: bool, mistakes: &mut Mistakes) -> Option<Watching> {
    let before = mistakes.len();
    let WatchArgs { last, since, no_history, state_dir, min_coverage, health_interval, rotate_interval } =
        args;
    let given = [("--last", last.is_some()), ("--since", since.is_some()), ("--no-history", no_history)];
    let given: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect();
    if given.len() > 1 {
        mistakes.push(format!("{} contradict each other: give one of them", given.join(" and ")));
    }
    let start = match (last, since, no_history) {
        (Some(last), ..) => keep(last_of(&last), mistakes),
        (None, Some(since), _) => keep(since_of(&since, Timestamp::now()), mistakes),
        (None, None, true) => Some(Start::Now),
        (None, None, false) => Some(Start::Held),
    };
    let health_interval = keep(duration("--health-interval", &health_interval), mistakes);
    let rotate_interval = keep(duration("--rotate-interval", &rotate_interval), mistakes);
    let min_coverage = keep(min_coverage.as_deref().map(percent).transpose(), mistakes)?;
    if state_dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
        mistakes.push("--state-dir is empty: name a directory".into());
    }
    let (start, health_interval, rotate_interval) = (start?, health_interval?, rotate_interval?);
    let lasting = Lasting { start, health_interval, rotate_interval, reconnect };
    (mistakes.len() == before).then_some(Watching { lasting, state_dir, min_coverage })
}

fn last_of(text: &str) -> Result<Start, String> {
    match text.trim().parse::<u64>() {
        Ok(0) => Err("--last 0: give --no-history for none".to_owned()),
        Ok(number) => Ok(Start::Last(number)),
        Err(_) => Err(format!("--last {:?}: a number of drops, as 1000", visible(text, 40))),
    }
}

fn since_of(text: &str, now: Timestamp) -> Result<Start, String> {
    let text = text.trim();
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Start::Since(time));
    }
    let back = humantime::parse_duration(text).ok().filter(|back| *back > Duration::ZERO);
    match back.and_then(|back| now.checked_sub(back).ok()) {
        Some(time) => Ok(Start::Since(time)),
        None => Err(format!(
            "--since {:?}: a duration like 10m, or a time like 2026-03-01T10:00:00Z",
            visible(text, 60)
        )),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end().parse::<f64>().ok();
    number
        .filter(|percent| (0.0..=100.0).contains(percent))
        .ok_or_else(|| format!("--min-coverage {:?}: from 0% to 100%, as 95%", visible(text, 40)))
}

impl Watching {
    /// Whether something is kept for the next run.
    pub(super) fn keeps(&self) -> bool {
        self.state_dir.is_some()
    }

    /// The state directory, when there is one, and the watch that goes on from it or begins now.
    pub(super) fn begin(&self, relay: &str) -> Result<(Option<(StateDir, Gaps)>, Watch), StateError> {
        let now = Timestamp::now();
        let Some(path) = &self.state_dir else { return Ok((None, Watch::new(now))) };
        let (dir, found) = StateDir::open(path, relay)?;
        if let Some(told) = found.told {
            tracing::warn!("{told}");
        }
        let (watch, gaps) = match found.saved {
            Some(saved) => {
                tracing::info!(since = %saved.marks.alive.unwrap_or(saved.saved), "going on from the last run");
                (Watch::resumed(now, &saved.marks), saved.gaps)
            }
            None => (Watch::new(now), Gaps::new(crate::pipeline::GAPS)),
        };
        Ok((Some((dir, gaps)), watch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let since = |seconds| Some(Start::Since(Timestamp::from_second(seconds).unwrap()));
        assert_eq!(since_of("10m", now).ok(), since(999_400));
        assert_eq!(since_of("1970-01-02T00:00:00Z", now).ok(), since(86_400));
        assert_eq!(since_of("1970-01-02T00:00:00+01:00", now).ok(), since(82_800));
        for bad in ["", "0s", "yesterday", "10", "-5m", "9999999y", "2026-13-01T00:00:00Z"] {
            assert!(since_of(bad, now).unwrap_err().contains("--since"), "{bad}");
        }
        assert_eq!(last_of("1000"), Ok(Start::Last(1000)));
        for bad in ["0", "-1", "x", ""] {
            assert!(last_of(bad).unwrap_err().contains("--last"), "{bad}");
        }
    }

    #[test]
    fn percents() {
        for (text, expected) in [("95%", 95.0), ("95", 95.0), (" 99.9 %", 99.9), ("0%", 0.0), ("100%", 100.0)]
        {
            assert_eq!(percent(text), Ok(expected));
        }
        for bad in ["", "%", "101%", "-1", "NaN", "inf"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }
}
