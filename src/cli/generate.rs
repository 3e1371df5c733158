//! `cpg generate`: follow a relay until it ends or is asked to stop.

use std::process::ExitCode;

use super::args::{GenerateArgs, Places};
use super::logging::Log;
use super::{output, preflight, settings};
use crate::evidence::{Source, SourceKind};
use crate::kube::RelayService;
use crate::pipeline::{Live, Summary};
use crate::text::visible;

pub(super) async fn run(args: GenerateArgs, places: &Places, log: Log) -> ExitCode {
    let settings = match settings::Generate::new(args, places) {
        Ok(settings) => settings,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    let ending = settings.run.ending();
    match follow(settings).await {
        Ok(summary) => output::summary(&summary, &ending, log),
        Err(e) => output::failed(&e),
    }
}

async fn follow(settings: settings::Generate) -> anyhow::Result<Summary> {
    let settings::Generate { reach, preflight, accept_cluster, run } = settings;
    let connector = reach.connector;
    let stop = settings::stop()?;
    let store = run.store()?;
    if let Some(warning) = connector.warning() {
        tracing::warn!("{warning}");
    }
    let relay = tokio::select! {
        biased;
        () = stop.stopped() => anyhow::bail!("stopped while connecting to {}", connector.name()),
        relay = connector.connect() => relay?,
    };
    tracing::info!(server = %connector.name(), "connected; following dropped flows");
    let asking = async { if preflight { preflight::version(&relay).await } else { None } };
    let (identity, cilium) = tokio::join!(preflight::identity(reach.cluster.as_ref(), &relay), asking);
    // What the relay's pod says in its labels is Cilium's version; the relay itself may say only its name.
    let cilium = reach.cluster.as_ref().and_then(RelayService::version).or(cilium);
    store.stamp(&identity, accept_cluster)?;
    let source = Source {
        kind: SourceKind::Relay,
        name: visible(&connector.name(), 300).into(),
        cluster: identity.name.as_deref().map(|name| visible(name, 100).into()),
        cpg: env!("CARGO_PKG_VERSION").into(),
        cilium: cilium.map(|version| visible(&version, 100).into()),
    };
    let keeper = run.keeper(store, source);
    let interest = run.filters.interest.clone();
    let live = if reach.lasting {
        Live::lasting(connector, relay.clone(), interest)
    } else {
        Live::once(relay.flows(&interest))
    };
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
    if summary.nothing_matched() {
        summary.namespaces_of_relay = relay.namespaces().await.ok().flatten();
    }
    Ok(summary)
}
