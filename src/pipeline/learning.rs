//! When each need was seen first: whether learning has come to an end, or new ones were still arriving.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::aggregate::Observed;
use crate::text::{count, grouped};

/// Needs whose first time is remembered; of those beyond only the last is.
const MOST: usize = 200_000;
/// Part of the time that is looked at for needs that came late.
const LATE: u32 = 4;

/// The first time of each need, by the clocks of the nodes. The same for the same flows, in whatever windows.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    firsts: HashMap<u64, Timestamp>,
    /// The last of those for which there was no room.
    beyond: Option<Timestamp>,
}

/// What came of learning from traffic that passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learning {
    /// Different needs; one that has no time is not among them.
    pub needs: u64,
    /// The time that was watched: from the first flow that was read to the last one, or to the end of the run.
    pub watched: Option<(Timestamp, Timestamp)>,
    /// When the last new need came.
    pub last_new: Option<Timestamp>,
    /// Needs that came first in the last quarter of the time.
    pub late: u64,
    /// There were more needs than are told apart.
    pub beyond: bool,
}

// === impl Arrivals ===

impl Arrivals {
    /// Takes down what stands at the end of a window.
    pub(super) fn note(&mut self, observed: &[Observed]) {
        for (observation, tally) in observed {
            let Some(first) = tally.first else { continue };
            let full = self.firsts.len() >= MOST;
            match self.firsts.get_mut(&observation.fingerprint()) {
                Some(known) => *known = first.min(*known),
                None if full => self.beyond = self.beyond.max(Some(first)),
                None => {
                    self.firsts.insert(observation.fingerprint(), first);
                }
            }
        }
    }

    /// What came of it in this time.
    pub(super) fn learning(&self, watched: Option<(Timestamp, Timestamp)>) -> Learning {
        let last_new = self.firsts.values().copied().max().max(self.beyond);
        let late_from = watched.map(|(begin, end)| {
            let quarter = Duration::try_from(end.duration_since(begin)).unwrap_or_default() / LATE;
            end.checked_sub(quarter).unwrap_or(end)
        });
        let late = self.firsts.values().filter(|first| late_from.is_some_and(|from| **first > from)).count();
        Learning {
            needs: self.firsts.len() as u64,
            watched,
            last_new,
            late: late as u64,
            beyond: self.beyond.is_some(),
        }
    }
}

// === impl Learning ===

impl Learning {
    /// How long nothing new had come when the watch ended, and which part of the time that was, in percent.
    pub fn quiet(&self) -> Option<(Duration, u64)> {
        let ((begin, end), last) = self.watched.zip(self.last_new)?;
        let quiet = Duration::try_from(end.duration_since(last)).unwrap_or_default();
        let whole = Duration::try_from(end.duration_since(begin)).unwrap_or_default();
        let percent = if whole.is_zero() { 0.0 } else { quiet.as_secs_f64() / whole.as_secs_f64() * 100.0 };
        Some((quiet, percent.floor() as u64))
    }

    /// The same facts as JSON.
    pub fn to_json(&self) -> Value {
        let quiet = self.quiet();
        json!({
            "needs": self.needs,
            "begin": self.watched.map(|(begin, _)| begin.to_string()),
            "end": self.watched.map(|(_, end)| end.to_string()),
            "last_new": self.last_new.map(|last| last.to_string()),
            "seconds_without_new": quiet.map(|(quiet, _)| quiet.as_secs_f64()),
            "percent_without_new": quiet.map(|(_, percent)| percent),
            "new_in_last_quarter": self.late,
            "complete": !self.beyond,
        })
    }
}

impl fmt::Display for Learning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.beyond { " and more" } else { "" };
        let needs = count(self.needs, "need");
        let Some((begin, end)) = self.watched else {
            return writeln!(f, "  learned from traffic that passed: {needs}{more}; the flows carry no time");
        };
        let whole = rounded(Duration::try_from(end.duration_since(begin)).unwrap_or_default());
        writeln!(f, "  learned from traffic that passed: {needs}{more} in {whole} ({begin} to {end})")?;
        let Some((quiet, percent)) = self.quiet() else { return Ok(()) };
        let (quiet, late) = (rounded(quiet), grouped(self.late));
        match self.late {
            0 => writeln!(
                f,
                "    the last new one came {quiet} before the end: nothing new in the last {percent}% of the time"
            )?,
            _ => writeln!(
                f,
                "    new ones were still arriving: {late} in the last quarter of the time, the last {quiet} before the end; watch longer"
            )?,
        }
        writeln!(
            f,
            "    what did not happen in this time is blocked once the policies are applied: nightly jobs, failovers, deployments"
        )
    }
}

/// In whole seconds, below a minute in tenths.
fn rounded(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::{Observation, ObservedPeer, Tally};
    use crate::flow::{Direction, Identity, Port, Protocol};
    use crate::policy::Allow;

    fn observed(port: u16, first: i64) -> Observed {
        let labels = ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"];
        let observation = Observation {
            subject: Identity::new(300, "shop", "", labels).into(),
            direction: Direction::Egress,
            peer: ObservedPeer::World("192.0.2.7".parse().unwrap()),
            allow: Allow::Port(Protocol::Tcp, Port::new(port).unwrap()),
            request: None,
        };
        let mut tally = Tally::default();
        (tally.traces, tally.first) = (1, Timestamp::from_second(first).ok());
        (observation, tally)
    }

    fn watched(begin: i64, end: i64) -> Option<(Timestamp, Timestamp)> {
        Timestamp::from_second(begin).ok().zip(Timestamp::from_second(end).ok())
    }

    #[test]
    fn the_same_whatever_the_windows() {
        let mut arrivals = Arrivals::default();
        arrivals.note(&[observed(80, 50), observed(443, 90)]);
        arrivals.note(&[observed(80, 10), observed(443, 95)]);
        let mut other = Arrivals::default();
        other.note(&[observed(443, 95)]);
        other.note(&[observed(80, 10), observed(80, 50), observed(443, 90)]);
        let learning = arrivals.learning(watched(0, 100));
        assert_eq!(learning, other.learning(watched(0, 100)));
        assert_eq!((learning.needs, learning.late), (2, 1));
        assert_eq!(learning.quiet(), Some((Duration::from_secs(10), 10)));
        let said = learning.to_string();
        assert!(
            said.contains("2 needs in 1m 40s") && said.contains("still arriving: 1 in the last"),
            "{said}"
        );
    }

    #[test]
    fn when_nothing_new_came_it_says_for_how_long() {
        let mut arrivals = Arrivals::default();
        arrivals.note(&[observed(80, 10), observed(443, 40)]);
        let learning = arrivals.learning(watched(0, 100));
        assert!(learning.to_string().contains("nothing new in the last 60% of the time"), "{learning}");
        assert_eq!(learning.to_json()["percent_without_new"], 60);
        assert_eq!(arrivals.learning(None).quiet(), None);
        let none = Arrivals::default().learning(watched(0, 0));
        assert!(none.to_string().contains("0 needs in 0.0 s"), "{none}");
    }
}
