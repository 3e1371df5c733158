//! `cpg generate`: follow a relay until it ends or is asked to stop.

use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;

use super::args::{GenerateArgs, Places};
use super::beside::Beside;
use super::hold::Hold;
use super::logging::Log;
use super::{output, preflight, settings};
use crate::evidence::{Source, SourceKind};
use crate::kube::RelayService;
use crate::pipeline::{Common, Keeping, Live, Summary};
use crate::source::relay::Trying;
use crate::text::visible;

pub(super) async fn run(args: GenerateArgs, places: &Places, hold: &Hold, log: Log) -> ExitCode {
    let settings = match settings::Generate::new(args, places) {
        Ok(settings) => settings,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    let ending = settings.run.ending();
    match follow(settings, hold, log).await {
        Ok(summary) => output::summary(&summary, &ending, log),
        Err(e) => output::failed(&e),
    }
}

async fn follow(settings: settings::Generate, hold: &Hold, log: Log) -> anyhow::Result<Summary> {
    let settings::Generate { reach, preflight, accept_cluster, watching, duration, metrics, run } = settings;
    // What was dropped before is history.
    let common = Common::since(Some(Timestamp::now()));
    let vitals = Arc::clone(&common.vitals);
    let connector = reach.connector;
    let stop = settings::stop(hold.is_on())?;
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
    let version = async { if preflight { preflight::version(&relay).await } else { None } };
    let (identity, policies, cilium) =
        tokio::join!(preflight::identity(cluster.as_ref(), Some(&relay)), policies, version);
    store.stamp(&identity, accept_cluster)?;
    // What the relay's pod says in its labels is Cilium's version; the relay itself may say only its name.
    let cilium = reach.cluster.as_ref().and_then(RelayService::version).or(cilium);
    let source = Source {
        kind: SourceKind::Relay,
        name: visible(&connector.name(), 300).into(),
        cluster: identity.name.as_deref().map(|name| visible(name, 100).into()),
        cpg: env!("CARGO_PKG_VERSION").into(),
        cilium: cilium.map(|version| visible(&version, 100).into()),
    };
    let policies = policies?;
    let (state, watch) = watching.begin(&connector.name())?;
    let live = Live::lasting(connector, relay.clone(), interest, watching.lasting, watch);
    let pending = state.as_ref().map(|(dir, _)| dir.pending()).unwrap_or_default();
    if let Some(told) = &pending.1 {
        tracing::warn!("{told}");
    }
    let mut keeper = run.keeper(store, common, source, pending.0, policies.map(|p| (p, reach.dedup.timeout)));
    if let Some(((dir, gaps), watch)) = state.zip(live.watch()) {
        keeper = keeper.keeping(Keeping::new(dir, gaps, watch));
    }
    if preflight {
        // Beside the stream, which does not wait for it.
        let (cluster, relay) = (reach.cluster, relay.clone());
        beside.task("preflight", async move { preflight::tell(cluster.as_ref(), &relay).await });
    }
    beside.show(vitals, log);
    let (mut summary, faults) = beside.wait(keeper.follow(live, stop)).await;
    summary.faults.extend(faults);
    summary.min_coverage = watching.min_coverage;
    if summary.nothing_matched() {
        summary.namespaces_of_relay = relay.namespaces().await.ok().flatten();
    }
    Ok(summary)
}
