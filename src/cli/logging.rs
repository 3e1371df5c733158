//! The log: tracing to standard error. Standard output is for results.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, callsite};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt as form};

use super::output::say;
use super::status_line::Stderr;

/// Two lines of one kind about one thing are so far apart at least.
const APART: Duration = Duration::from_secs(60);
/// Lines of one kind within that time, whatever they are about.
const BURST: u64 = 60;
/// In the place of a thing: the kind itself.
const OF_KIND: u64 = 0;
/// Things that are told apart.
const THINGS: usize = 2_000;

/// How the log looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    /// The least important level that is shown.
    pub(super) level: Level,
    /// One JSON object a line.
    pub(super) json: bool,
}

/// Keeps a daemon's log short: of INFO and WARN, one line a minute of each kind about each thing. What was
/// left out is counted and told with the next one. With `--debug` nothing is left out.
struct Limited {
    json: bool,
    told: Mutex<HashMap<(callsite::Identifier, u64), Told>>,
}

struct Told {
    since: Instant,
    lines: u64,
    left_out: u64,
}

/// What a line is about: its words and fields, without the numbers in them.
#[derive(Default)]
struct About(DefaultHasher);

/// Starts logging. A second call changes nothing.
pub(super) fn start(log: Log) {
    // Libraries (h2, tonic, hyper) speak only when they fail; what kube has to say is in our own message,
    // and what its verifier of certificates has.
    let filter = EnvFilter::new(format!(
        "warn,kube_client=off,rustls_platform_verifier=off,cpg={}",
        log.level.as_str().to_ascii_lowercase()
    ));
    let limited =
        (log.level < Level::DEBUG).then(|| Limited { json: log.json, told: Mutex::new(HashMap::new()) });
    let base = tracing_subscriber::registry().with(filter).with(limited);
    let to_stderr = form::layer().with_writer(|| Stderr).with_target(false);
    let started = if log.json {
        base.with(to_stderr.json().flatten_event(true)).try_init()
    } else {
        let colour =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        base.with(to_stderr.with_ansi(colour)).try_init()
    };
    if let Err(e) = started {
        tracing::debug!(error = %e, "the log was started before");
    }
}

// === impl Limited ===

impl Limited {
    /// Whether a line may be written at this time, and how many like it were left out before it.
    fn admits(&self, kind: callsite::Identifier, about: u64, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |told: &Told| now.duration_since(told.since) < APART;
        if told.len() > THINGS {
            told.retain(|(_, about), told| *about == OF_KIND || fresh(told));
        }
        let thing = (kind.clone(), about.max(1));
        if let Some(told) = told.get_mut(&thing).filter(|told| fresh(told)) {
            told.left_out += 1;
            return None;
        }
        // Before the thing is remembered: a flood about many things leaves no traces but this.
        let of_kind = told.entry((kind, OF_KIND)).or_insert(Told { since: now, lines: 0, left_out: 0 });
        if !fresh(of_kind) {
            (of_kind.since, of_kind.lines) = (now, 0);
        }
        if of_kind.lines >= BURST {
            of_kind.left_out += 1;
            return None;
        }
        of_kind.lines += 1;
        let left_out = std::mem::take(&mut of_kind.left_out);
        let before = told.insert(thing, Told { since: now, lines: 1, left_out: 0 });
        Some(left_out + before.map_or(0, |before| before.left_out))
    }
}

impl<S: Subscriber> Layer<S> for Limited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if !matches!(*event.metadata().level(), Level::INFO | Level::WARN) {
            return true;
        }
        let mut about = About::default();
        event.record(&mut about);
        let Some(left_out) = self.admits(event.metadata().callsite(), about.0.finish(), Instant::now())
        else {
            return false;
        };
        if left_out > 0 {
            let words = format!("{} like the next were left out", crate::text::count(left_out, "line"));
            let line = serde_json::json!({"level": "INFO", "message": words, "left_out": left_out});
            say(&if self.json { line.to_string() } else { format!("({words})") });
        }
        true
    }
}

// === impl About ===

impl Visit for About {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = format!("{value:?}");
        if field.name() == "message" {
            // Other words are another thing, another number is not.
            text.retain(|c| !c.is_ascii_digit());
        }
        (field.name(), text).hash(&mut self.0);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        (field.name(), value).hash(&mut self.0);
    }

    fn record_u64(&mut self, _: &Field, _: u64) {}

    fn record_i64(&mut self, _: &Field, _: i64) {}

    fn record_f64(&mut self, _: &Field, _: f64) {}

    fn record_bool(&mut self, _: &Field, _: bool) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Kind;

    impl tracing::Callsite for Kind {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}

        fn metadata(&self) -> &tracing::Metadata<'_> {
            unreachable!("nobody asks")
        }
    }

    static KIND: Kind = Kind;

    #[test]
    fn one_line_a_minute_of_each_kind_about_each_thing() {
        let limited = Limited { json: false, told: Mutex::default() };
        let start = Instant::now();
        let at = |about, seconds| {
            limited.admits(callsite::Identifier(&KIND), about, start + Duration::from_secs(seconds))
        };
        assert_eq!(at(7, 0), Some(0));
        assert_eq!((at(7, 1), at(7, 59)), (None, None));
        assert_eq!(at(8, 2), Some(0));
        assert_eq!(at(7, 61), Some(2));
        assert_eq!(at(7, 62), None);
    }

    #[test]
    fn other_words_are_another_thing_and_other_numbers_are_not() {
        struct Notes(&'static Mutex<Vec<u64>>);
        impl<S: Subscriber> Layer<S> for Notes {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                let mut about = About::default();
                event.record(&mut about);
                self.0.lock().unwrap().push(about.0.finish());
            }
        }
        let about: &'static Mutex<Vec<u64>> = Box::leak(Box::default());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Notes(about)), || {
            for text in ["back after 1.5 s", "back after 20.0 s", "something else"] {
                tracing::info!("{text}");
            }
            for path in ["a1", "a2"] {
                tracing::info!(%path, rules = 3, "created");
            }
            tracing::info!(path = %"a1", rules = 4, "created");
        });
        let about = about.lock().unwrap();
        assert_eq!(about[0], about[1]);
        assert_ne!(about[0], about[2]);
        assert_ne!(about[3], about[4]);
        assert_eq!(about[3], about[5]);
    }

    #[test]
    fn a_flood_about_many_things_is_one_kind() {
        let limited = Limited { json: false, told: Mutex::default() };
        let start = Instant::now();
        let at = |about, seconds| {
            limited.admits(callsite::Identifier(&KIND), about, start + Duration::from_secs(seconds))
        };
        let passed = (1..=10_000).filter(|about| at(*about, 0).is_some()).count();
        assert_eq!(passed as u64, BURST);
        assert_eq!(at(20_000, 60), Some(10_000 - BURST));
        assert!(limited.told.lock().unwrap().len() as u64 <= BURST + 2);
    }
}
