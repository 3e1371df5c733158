//! `cpg generate`: follow a relay until it ends or is asked to stop.

use std::process::ExitCode;

use super::args::{GenerateArgs, Places};
use super::logging::Log;
use super::{output, settings};
use crate::pipeline::{Live, Summary};

pub(super) async fn run(args: GenerateArgs, places: &Places, log: Log) -> ExitCode {
    let settings = match settings::Generate::new(args, places) {
        Ok(settings) => settings,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    let fail = settings.run.fail_on_infra_drops;
    match follow(settings).await {
        Ok(summary) => output::summary(&summary, fail, log),
        Err(e) => output::failed(&e),
    }
}

async fn follow(settings: settings::Generate) -> anyhow::Result<Summary> {
    let settings::Generate { reach, run } = settings;
    let connector = reach.connector;
    let stop = settings::stop()?;
    let keeper = run.keeper()?;
    if let Some(warning) = connector.warning() {
        tracing::warn!("{warning}");
    }
    let relay = tokio::select! {
        biased;
        () = stop.stopped() => anyhow::bail!("stopped while connecting to {}", connector.name()),
        relay = connector.connect() => relay?,
    };
    tracing::info!(server = %connector.name(), "connected; following dropped flows");
    let interest = run.filters.interest.clone();
    let live = if reach.lasting {
        Live::lasting(connector, relay.clone(), interest)
    } else {
        Live::once(relay.flows(&interest))
    };
    let mut summary = keeper.follow(live, stop).await;
    if summary.nothing_matched() {
        summary.namespaces_of_relay = relay.namespaces().await.ok().flatten();
    }
    Ok(summary)
}
