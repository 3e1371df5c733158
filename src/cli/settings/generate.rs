//! Settings of generate.

use std::time::Duration;

use super::value::{listen_address, within};
use super::{Mistakes, Run, keep};
use crate::cli::args::{GenerateArgs, Places};
use crate::cli::reach::{Reach, reach};
use crate::cli::watching::{Watching, watching};

/// Settings of generate.
#[derive(Debug)]
pub(in crate::cli) struct Generate {
    pub(in crate::cli) reach: Reach,
    pub(in crate::cli) preflight: bool,
    pub(in crate::cli) accept_cluster: bool,
    pub(in crate::cli) watching: Watching,
    /// End after so long.
    pub(in crate::cli) duration: Option<Duration>,
    /// Where the metrics are served.
    pub(in crate::cli) metrics: Option<String>,
    pub(in crate::cli) run: Run,
}

// === impl Generate ===

impl Generate {
    /// Checks everything, then tells all mistakes.
    pub(in crate::cli) fn new(args: GenerateArgs, places: &Places) -> Result<Self, Mistakes> {
        let GenerateArgs { reach: way, no_preflight, accept_cluster, duration, metrics_listen, watch, run } =
            args;
        let preflight = !no_preflight;
        let mut mistakes = Vec::new();
        let watching = watching(watch, !way.no_reconnect, &mut mistakes);
        let reach = reach(way, run.cluster_dedup, places, &mut mistakes);
        let duration = duration.and_then(|text| {
            keep(within("--duration", &text, Duration::from_secs(366 * 86_400)), &mut mistakes)
        });
        let metrics = metrics_listen.and_then(|text| keep(listen_address(&text), &mut mistakes));
        if run.keep.dry_run && watching.as_ref().is_some_and(Watching::keeps) {
            mistakes.push("--state-dir is not written in a dry run: leave one of the two out".into());
        }
        if run.stream.stdout && watching.as_ref().is_some_and(Watching::keeps) {
            mistakes.push("--state-dir is not written with --stdout: leave one of the two out".into());
        }
        let run = Run::new(run, &mut mistakes);
        match (reach, watching, run) {
            (Some(reach), Some(watching), Some(run)) if mistakes.is_empty() => {
                Ok(Self { reach, preflight, accept_cluster, watching, duration, metrics, run })
            }
            _ => Err(mistakes),
        }
    }
}
