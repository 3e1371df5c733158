//! `cpg capture`: what a relay gives, as it gives it, into a file for later replays.

use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;

use super::args::{Places, RecordArgs};
use super::beside::Beside;
use super::logging::Log;
use super::{output, preflight, settings};
use crate::pipeline::{CaptureSink, Captured, Common, Live, capture};
use crate::store::CaptureFile;

pub(super) async fn run(args: RecordArgs, places: &Places, log: Log) -> ExitCode {
    let settings = match settings::Record::new(args, places) {
        Ok(settings) => settings,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    match record(settings, log).await {
        Ok(captured) => {
            let exit = captured.exit();
            if log.json {
                let mut value = captured.to_json();
                if let Some(object) = value.as_object_mut() {
                    object.insert("message".into(), "summary".into());
                    object.insert("exit_code".into(), exit.code().into());
                }
                output::say(&value.to_string());
            } else {
                output::say(captured.to_string().trim_end());
            }
            ExitCode::from(exit.code())
        }
        Err(e) => output::failed(&e),
    }
}

async fn record(settings: settings::Record, log: Log) -> anyhow::Result<Captured> {
    let settings::Record { reach, watching, interest, file, force, duration, max_flows, preflight } =
        settings;
    let common = Common::since(Some(Timestamp::now()));
    let vitals = Arc::clone(&common.vitals);
    let connector = reach.connector;
    let stop = settings::stop(false)?;
    // Before anything is asked of the relay: a file that is there is a mistake in what was typed.
    let sink = match file {
        Some((path, packing)) => CaptureSink::File(CaptureFile::create(path, packing, force)?.into()),
        None => CaptureSink::Stdout,
    };
    let mut beside = Beside::new(stop.clone());
    if let Some(duration) = duration {
        beside.end_after(duration);
    }
    if let Some(warning) = connector.warning() {
        tracing::warn!("{warning}");
    }
    let relay = tokio::select! {
        biased;
        () = stop.stopped() => anyhow::bail!("stopped while connecting to {}", connector.name()),
        relay = connector.connect() => relay?,
    };
    tracing::info!(server = %connector.name(), "connected; capturing");
    let (_, watch) = watching.begin(&connector.name())?;
    if preflight {
        // Beside the stream, which does not wait for it.
        let (cluster, relay) = (reach.cluster, relay.clone());
        beside.task("preflight", async move { preflight::tell(cluster.as_ref(), &relay).await });
    }
    let live = Live::lasting(connector, relay, interest, watching.lasting, watch);
    beside.show(vitals, log);
    let (mut captured, faults) = beside.wait(capture(live, common, sink, max_flows, stop)).await;
    captured.faults.extend(faults);
    Ok(captured)
}
