//! `cpg generate`: follow a relay until it ends or is asked to stop.

use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;

use super::args::{GenerateArgs, Places};
use super::beside::Beside;
use super::logging::Log;
use super::{output, preflight, settings};
use crate::pipeline::{Live, Summary, Watch};

pub(super) async fn run(args: GenerateArgs, places: &Places, log: Log) -> ExitCode {
    let settings = match settings::Generate::new(args, places) {
        Ok(settings) => settings,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    let fail = settings.run.fail_on_infra_drops;
    match follow(settings, log).await {
        Ok(summary) => output::summary(&summary, fail, log),
        Err(e) => output::failed(&e),
    }
}

async fn follow(settings: settings::Generate, log: Log) -> anyhow::Result<Summary> {
    let settings::Generate { reach, preflight, accept_cluster, duration, metrics, run } = settings;
    // What was dropped before is history.
    let watch = Watch::since(Some(Timestamp::now()));
    let vitals = Arc::clone(&watch.vitals);
    let connector = reach.connector;
    let stop = settings::stop()?;
    let mut beside = Beside::new(stop.clone());
    if let Some(duration) = duration {
        beside.end_after(duration);
    }
    let store = run.store()?;
    if let Some(warning) = connector.warning() {
        tracing::warn!("{warning}");
    }
    if let Some(address) = metrics {
        beside.serve_metrics(&address, Arc::clone(&vitals)).await?;
    }
    let relay = tokio::select! {
        biased;
        () = stop.stopped() => anyhow::bail!("stopped while connecting to {}", connector.name()),
        relay = connector.connect() => relay?,
    };
    tracing::info!(server = %connector.name(), "connected; following dropped flows");
    store.stamp(&preflight::identity(reach.cluster.as_ref(), &relay).await, accept_cluster)?;
    let keeper = run.keeper(store, watch);
    let interest = run.filters.interest.clone();
    let live = if reach.lasting {
        Live::lasting(connector, relay.clone(), interest)
    } else {
        Live::once(relay.flows(&interest))
    };
    if preflight {
        // Beside the stream, which does not wait for it.
        let (cluster, relay) = (reach.cluster, relay.clone());
        beside.task("preflight", async move { preflight::tell(cluster.as_ref(), &relay).await });
    }
    beside.show(vitals, log);
    let (mut summary, faults) = beside.wait(keeper.follow(live, stop)).await;
    summary.faults.extend(faults);
    if summary.nothing_matched() {
        summary.namespaces_of_relay = relay.namespaces().await.ok().flatten();
    }
    Ok(summary)
}
