//! `cpg replay`: captures through the same way as a live stream.

use std::process::ExitCode;

use super::args::{Places, ReplayArgs};
use super::hold::Hold;
use super::logging::Log;
use super::{output, preflight, settings};
use crate::evidence::{Source, SourceKind};
use crate::pipeline::{Common, Replay, Summary};
use crate::source::replay::Input;
use crate::text::visible;
use crate::triage::Pending;

pub(super) async fn run(args: ReplayArgs, places: &Places, hold: &Hold, log: Log) -> ExitCode {
    let settings = match settings::Replay::new(args, places) {
        Ok(settings) => settings,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    let ending = settings.run.ending();
    match read(settings, hold).await {
        Ok(summary) => output::summary(&summary, &ending, log),
        Err(e) => output::failed(&e),
    }
}

async fn read(settings: settings::Replay, hold: &Hold) -> anyhow::Result<Summary> {
    let settings::Replay { inputs, threads, dedup, accept_cluster, run } = settings;
    let source = source(&inputs);
    let stop = settings::stop(hold.is_on())?;
    let store = run.store()?;
    hold.keys();
    let begun = async {
        // A cluster that was named and cannot be asked is a mistake in what was typed.
        let Some(cluster) = dedup.cluster().await? else { return anyhow::Ok(None) };
        let identity = preflight::identity(Some(&cluster), None);
        let policies = dedup.policies(Some(&cluster), &run.filters.interest.namespaces);
        let (identity, policies) = tokio::join!(identity, policies);
        // A capture does not say whose it is; the policies that count are those of this cluster.
        store.stamp(&identity, accept_cluster)?;
        policies
    };
    let policies = tokio::select! {
        biased;
        () = stop.stopped() => anyhow::bail!("stopped while asking for the cluster's policies"),
        begun = begun => begun?,
    };
    let keeper = run.keeper(
        store,
        Common::default(),
        source,
        Pending::default(),
        policies.map(|p| (p, dedup.timeout)),
    );
    let replay = Replay::new(inputs, run.filters.interest.clone());
    Ok(keeper.replay(replay, threads, stop).await)
}

/// The captures by their names, without the way to them, which is of no use on another machine.
fn source(inputs: &[Input]) -> Source {
    let mut names: Vec<String> = inputs
        .iter()
        .map(|input| match input {
            Input::Stdin => "standard input".to_owned(),
            Input::File(path) | Input::Follow(path) => {
                path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
            }
        })
        .collect();
    names.sort();
    Source {
        kind: SourceKind::Capture,
        name: visible(&names.join(", "), 300).into(),
        cluster: None,
        cpg: env!("CARGO_PKG_VERSION").into(),
        cilium: None,
    }
}
