//! Ends of a run that come from outside.

use crate::cli::{hold, output};
use crate::pipeline::{Exit, Stop, on_signals};

/// What asks a run to stop: signals, and with `terminal` its end too. A second one ends the process at once.
pub(in crate::cli) fn stop(terminal: bool) -> anyhow::Result<Stop> {
    let stop = on_signals(terminal, |name| {
        output::say(&format!("{name} again: ending at once; the last window is not on disk"));
        at_once();
    });
    stop.map_err(|e| anyhow::Error::new(e).context("signals cannot be caught"))
}

#[allow(clippy::disallowed_methods, reason = "the second signal asks for exactly this")]
fn at_once() {
    hold::restore();
    std::process::exit(i32::from(Exit::Incomplete.code()));
}
