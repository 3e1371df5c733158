//! `cpg replay`: captures through the same way as a live stream.

use std::process::ExitCode;

use super::args::ReplayArgs;
use super::logging::Log;
use super::{output, settings};
use crate::pipeline::{Replay, Watch};

pub(super) async fn run(args: ReplayArgs, log: Log) -> ExitCode {
    let settings = match settings::Replay::new(args) {
        Ok(settings) => settings,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    let settings::Replay { inputs, threads, run } = settings;
    let (stop, keeper) =
        match settings::stop().and_then(|stop| Ok((stop, run.keeper(run.store()?, Watch::default())))) {
            Ok(both) => both,
            Err(e) => return output::failed(&e),
        };
    let replay = Replay::new(inputs, run.filters.interest.clone());
    let summary = keeper.replay(replay, threads, stop).await;
    output::summary(&summary, run.fail_on_infra_drops, log)
}
