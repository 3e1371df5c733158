//! `cpg replay`: captures through the same way as a live stream.

use std::process::ExitCode;

use super::args::{Places, ReplayArgs};
use super::hold::Hold;
use super::logging::Log;
use super::{output, preflight, settings};
use crate::pipeline::{Common, Replay, Summary};

pub(super) async fn run(args: ReplayArgs, places: &Places, hold: &Hold, log: Log) -> ExitCode {
    let settings = match settings::Replay::new(args, places) {
        Ok(settings) => settings,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    let fail = settings.run.fail_on_infra_drops;
    match read(settings, hold).await {
        Ok(summary) => output::summary(&summary, fail, log),
        Err(e) => output::failed(&e),
    }
}

async fn read(settings: settings::Replay, hold: &Hold) -> anyhow::Result<Summary> {
    let settings::Replay { inputs, threads, dedup, accept_cluster, run } = settings;
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
    let keeper = run.keeper(store, Common::default(), policies.map(|policies| (policies, dedup.timeout)));
    let replay = Replay::new(inputs, run.filters.interest.clone());
    Ok(keeper.replay(replay, threads, stop).await)
}
