//! What is meant: checked values, with all mistakes of a command line told at once.

use std::time::Duration;

use super::args::Args;
use super::logging::Log;
use crate::text::visible;

mod capture;
mod caution;
mod fqdn;
mod generate;
mod http;
mod output;
mod replay;
mod run;
mod stop;
mod value;
mod verdicts;

pub(super) use capture::Record;
pub(super) use generate::Generate;
pub(super) use output::{Ending, caps};
pub(super) use replay::Replay;
pub(super) use run::Run;
pub(super) use stop::stop;
pub(super) use value::{duration, keep};

/// What was watched, in the directory of the evidence.
pub(super) const COVERAGE: &str = "coverage.json";
/// How long another cpg on the same directory is waited for.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Mistakes, each a sentence.
pub(super) type Mistakes = Vec<String>;

/// The log that was asked for.
pub(super) fn log(args: &Args) -> Result<Log, Mistakes> {
    let level = args.log.log_level.parse().map_err(|_| {
        vec![format!(
            "--log-level {:?}: one of error, warn, info, debug, trace",
            visible(&args.log.log_level, 40)
        )]
    })?;
    let level = if args.log.debug { tracing::Level::DEBUG.max(level) } else { level };
    Ok(Log { level, json: args.json() })
}
