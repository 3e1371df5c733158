//! `cpg generate`: follow a relay until it ends or is asked to stop.

use std::process::ExitCode;

use super::args::{GenerateArgs, Places};
use super::hold::Hold;
use super::logging::Log;
use super::{output, preflight, settings};
use crate::pipeline::{Keeping, Live, Summary};
use crate::source::relay::Trying;

pub(super) async fn run(args: GenerateArgs, places: &Places, hold: &Hold, log: Log) -> ExitCode {
    let settings = match settings::Generate::new(args, places) {
        Ok(settings) => settings,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    let fail = settings.run.fail_on_infra_drops;
    match follow(settings, hold).await {
        Ok(summary) => output::summary(&summary, fail, log),
        Err(e) => output::failed(&e),
    }
}

async fn follow(settings: settings::Generate, hold: &Hold) -> anyhow::Result<Summary> {
    let settings::Generate { reach, preflight, accept_cluster, watching, run } = settings;
    let connector = reach.connector;
    let stop = settings::stop(hold.is_on())?;
    let store = run.store()?;
    if let Some(warning) = connector.warning() {
        tracing::warn!("{warning}");
    }
    let relay = tokio::select! {
        biased;
        () = stop.stopped() => anyhow::bail!("stopped while connecting to {}", connector.name()),
        relay = connector.connect() => relay?,
    };
    hold.keys();
    tracing::info!(server = %connector.name(), "connected; following dropped flows");
    let interest = run.filters.interest.clone();
    let counts = reach.dedup.cluster_or_none().await?;
    let cluster = match (&counts, &reach.cluster) {
        (Some(cluster), _) => Some(cluster.clone()),
        (None, Some(way)) => way.cluster(&Trying::default()).await.ok(),
        (None, None) => None,
    };
    let policies = async {
        tokio::select! {
            biased;
            // Then nothing is followed below, and there is nothing to write.
            () = stop.stopped() => Ok(None),
            policies = reach.dedup.policies(counts.as_ref(), &interest.namespaces) => policies,
        }
    };
    let (identity, policies) = tokio::join!(preflight::identity(cluster.as_ref(), Some(&relay)), policies);
    store.stamp(&identity, accept_cluster)?;
    let policies = policies?;
    let (state, watch) = watching.begin(&connector.name())?;
    let live = Live::lasting(connector, relay.clone(), interest, watching.lasting, watch);
    let mut keeper = run.keeper(store, policies.map(|policies| (policies, reach.dedup.timeout)));
    if let Some(((dir, gaps), watch)) = state.zip(live.watch()) {
        keeper = keeper.keeping(Keeping::new(dir, gaps, watch));
    }
    // Beside the stream, which does not wait for it.
    let mut following = std::pin::pin!(keeper.follow(live, stop));
    let telling = async {
        if preflight {
            preflight::tell(reach.cluster.as_ref(), &relay).await;
        }
    };
    let mut summary = tokio::select! {
        biased;
        summary = &mut following => summary,
        () = telling => following.await,
    };
    summary.min_coverage = watching.min_coverage;
    if summary.nothing_matched() {
        summary.namespaces_of_relay = relay.namespaces().await.ok().flatten();
    }
    Ok(summary)
}
