//! Settings of capture.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::value::within;
use super::{Mistakes, keep};
use crate::cli::args::{ClusterDedup, FlowKind, Places, RecordArgs, WatchArgs};
use crate::cli::reach::{Reach, reach};
use crate::cli::watching::{Watching, watching};
use crate::flow::{Interest, Namespaces};
use crate::names::Namespace;
use crate::store::Packing;
use crate::text::visible;

/// Settings of capture.
#[derive(Debug)]
pub(in crate::cli) struct Record {
    pub(in crate::cli) reach: Reach,
    pub(in crate::cli) watching: Watching,
    pub(in crate::cli) interest: Interest,
    /// The file and how it is packed; `None`: standard output.
    pub(in crate::cli) file: Option<(PathBuf, Packing)>,
    pub(in crate::cli) force: bool,
    pub(in crate::cli) duration: Option<Duration>,
    pub(in crate::cli) max_flows: Option<u64>,
    pub(in crate::cli) preflight: bool,
}

// === impl Record ===

impl Record {
    /// Checks everything, then tells all mistakes.
    pub(in crate::cli) fn new(args: RecordArgs, places: &Places) -> Result<Self, Mistakes> {
        let RecordArgs {
            output_file,
            force,
            namespace,
            duration,
            max_flows,
            only,
            last,
            since,
            no_history,
            no_preflight,
            reach: way,
        } = args;
        let mut mistakes = Vec::new();
        let watch = WatchArgs {
            last,
            since,
            no_history,
            state_dir: None,
            min_coverage: None,
            health_interval: "30s".into(),
            rotate_interval: "30m".into(),
        };
        let watching = watching(watch, !way.no_reconnect, &mut mistakes);
        let reach = reach(way, ClusterDedup::Never, places, &mut mistakes);
        let mut names = BTreeSet::new();
        for text in &namespace {
            let name = Namespace::parse(text).map_err(|e| format!("--namespace {:?} {e}", visible(text, 80)));
            names.extend(keep(name, &mut mistakes));
        }
        let namespaces = if namespace.is_empty() { Namespaces::All } else { Namespaces::Only(names) };
        let wants = |kind| only.is_empty() || only.contains(&kind);
        let interest = Interest {
            namespaces,
            dns: wants(FlowKind::L7),
            http: wants(FlowKind::L7),
            audit: wants(FlowKind::Audit),
            learn: wants(FlowKind::Forwarded),
        };
        let file = match output_file.as_os_str() == "-" {
            true => None,
            false => Packing::of(&output_file).map(|packing| (output_file.clone(), packing)).or_else(|| {
                let shown = output_file.display().to_string();
                mistakes.push(format!(
                    "--output-file {:?}: the ending says the form: .jsonl, .jsonl.gz or .jsonl.zst",
                    visible(&shown, 200)
                ));
                None
            }),
        };
        let duration = duration.and_then(|text| {
            keep(within("--duration", &text, Duration::from_secs(366 * 86_400)), &mut mistakes)
        });
        let max_flows = max_flows.and_then(|text| {
            let number = text.trim().parse::<u64>().ok().filter(|number| *number > 0);
            let mistake = || format!("--max-flows {:?}: a number of flows, as 100000", visible(&text, 40));
            keep(number.ok_or_else(mistake), &mut mistakes)
        });
        match (reach, watching) {
            (Some(reach), Some(watching)) if mistakes.is_empty() => Ok(Self {
                reach,
                watching,
                interest,
                file,
                force,
                duration,
                max_flows,
                preflight: !no_preflight,
            }),
            _ => Err(mistakes),
        }
    }
}
