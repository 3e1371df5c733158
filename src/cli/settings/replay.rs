//! Settings of replay.

use std::path::PathBuf;

use super::{Mistakes, Run, duration, keep};
use crate::cli::args::{ClusterArgs, Place, Places, ReplayArgs};
use crate::cli::dedup::{Dedup, WayToCluster};
use crate::source::replay::Input;

/// Settings of replay.
#[derive(Debug)]
pub(in crate::cli) struct Replay {
    pub(in crate::cli) inputs: Vec<Input>,
    pub(in crate::cli) threads: usize,
    pub(in crate::cli) dedup: Dedup,
    pub(in crate::cli) accept_cluster: bool,
    pub(in crate::cli) run: Run,
}

// === impl Replay ===

impl Replay {
    /// Checks everything, then tells all mistakes.
    pub(in crate::cli) fn new(args: ReplayArgs, places: &Places) -> Result<Self, Mistakes> {
        const MOST: usize = 64;
        let ReplayArgs { files, follow, threads, cluster, run } = args;
        let accept_cluster = cluster.accept_cluster;
        let mut mistakes = Vec::new();
        let stdin = |file: &PathBuf| file.as_os_str() == "-";
        if run.hold && files.iter().any(stdin) {
            mistakes.push("--hold waits for a key on standard input, which is a capture here (-)".into());
        }
        if files.iter().filter(|file| stdin(file)).count() > 1 {
            mistakes.push("standard input (-) can be read only once".into());
        }
        if follow && (files.len() != 1 || files.iter().any(stdin)) {
            mistakes.push(
                "--follow reads one file that is still written: name one, and replay the others without it \
                 (standard input is read until it ends anyway)"
                    .into(),
            );
        }
        if threads.is_some_and(|n| n == 0 || n > MOST) {
            mistakes.push(format!("--threads: from 1 to {MOST}"));
        }
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
        let input = |file: PathBuf| match (stdin(&file), follow) {
            (true, _) => Input::Stdin,
            (false, true) => Input::Follow(file),
            (false, false) => Input::File(file),
        };
        let inputs = files.into_iter().map(input).collect();
        let mode = run.cluster_dedup;
        let timeout = keep(duration("--timeout", &cluster.timeout), &mut mistakes);
        let way = way_to_cluster(cluster, places);
        match (Run::new(run, &mut mistakes), timeout) {
            (Some(run), Some(timeout)) if mistakes.is_empty() => {
                let dedup = Dedup { mode, way, timeout };
                Ok(Self { inputs, threads: threads.unwrap_or(cpus), dedup, accept_cluster, run })
            }
            _ => Err(mistakes),
        }
    }
}

/// A capture may be of any cluster: only one that was named for this run, by flag or `CPG_` variable, counts by
/// itself.
fn way_to_cluster(args: ClusterArgs, places: &Places) -> WayToCluster {
    let kube = args.kube.given();
    let is_named = kube.named().any(|key| places.of(key) >= Place::Variable);
    let access = kube.access();
    if is_named { WayToCluster::Named(access) } else { WayToCluster::Unnamed(access) }
}
