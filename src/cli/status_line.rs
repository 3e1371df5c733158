//! The line at the bottom of a terminal while cpg follows, and the writer that keeps log lines out of it.
//!
//! It is shown only to people: standard error is a terminal that can erase, and the log is text. It is never
//! part of the log.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::logging::Log;
use crate::pipeline::Snapshot;
use crate::text::{count, grouped};

/// Back to the first column, and nothing in the line.
const ERASE: &str = "\r\u{1b}[2K";
/// Where the terminal does not tell its width.
const WIDTH: usize = 80;

/// What stands in the last line of the terminal; empty: nothing. One per process, like the terminal.
static SHOWN: Mutex<String> = Mutex::new(String::new());

/// Standard error, below which the status line stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stderr;

/// The status line, until it is dropped.
#[derive(Debug)]
pub(super) struct StatusLine {
    last: (Instant, u64),
}

// === impl Stderr ===

impl Write for Stderr {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let shown = shown();
        let mut stderr = io::stderr().lock();
        if shown.is_empty() {
            return stderr.write(text);
        }
        stderr.write_all(&around(&shown, text))?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

// === impl StatusLine ===

impl StatusLine {
    /// For people who look on.
    pub(super) fn new(log: Log) -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let people = io::stderr().is_terminal() && !log.json && !dumb;
        people.then(|| Self { last: (Instant::now(), 0) })
    }

    /// Shows these numbers.
    pub(super) fn show(&mut self, snapshot: &Snapshot) {
        let (now, flows) = (Instant::now(), snapshot.counters.flows());
        let seconds = now.duration_since(self.last.0).as_secs_f64();
        let rate = flows.saturating_sub(self.last.1) as f64 / seconds.max(0.001);
        self.last = (now, flows);
        let width = terminal_size::terminal_size_of(io::stderr()).map_or(WIDTH, |(width, _)| width.0.into());
        draw(words(snapshot, rate).chars().take(width.saturating_sub(1)).collect());
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        draw(String::new());
    }
}

fn shown() -> MutexGuard<'static, String> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the place of what is shown. A terminal that has gone is no error.
fn draw(line: String) {
    let mut shown = shown();
    let mut stderr = io::stderr().lock();
    let _ = write!(stderr, "{ERASE}{line}").and_then(|()| stderr.flush());
    *shown = line;
}

/// Lines of the log in the place of the status line, and that below them again.
fn around(shown: &str, text: &[u8]) -> Vec<u8> {
    [ERASE.as_bytes(), text, shown.as_bytes()].concat()
}

fn words(snapshot: &Snapshot, rate: f64) -> String {
    let c = &snapshot.counters;
    let nodes = match snapshot.nodes {
        Some((connected, 0)) => count(connected, "node"),
        Some((connected, missing)) => format!("{connected} of {} nodes", connected + missing),
        None => "nodes unknown".to_owned(),
    };
    let state = if snapshot.connected { "" } else { "NOT CONNECTED, " };
    format!(
        "{state}{} flows/s, {}, {} infra drops, {} lost, {nodes}",
        grouped(rate.round() as u64),
        count(snapshot.rules_added, "new rule"),
        grouped(c.infrastructure_drops()),
        grouped(c.lost_events()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_matters() {
        let mut snapshot = Snapshot { nodes: Some((5, 1)), rules_added: 12, ..Snapshot::default() };
        assert_eq!(
            words(&snapshot, 1499.6),
            "NOT CONNECTED, 1,500 flows/s, 12 new rules, 0 infra drops, 0 lost, 5 of 6 nodes"
        );
        snapshot.connected = true;
        snapshot.nodes = None;
        assert!(words(&snapshot, 0.0).starts_with("0 flows/s") && words(&snapshot, 0.0).ends_with("unknown"));
    }

    #[test]
    fn log_lines_stand_above_it() {
        assert_eq!(around("status", b"line\n"), b"\r\x1b[2Kline\nstatus");
    }
}
