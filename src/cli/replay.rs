//! `cpg replay`: captures through the same way as a live stream.

use std::process::ExitCode;

use super::args::ReplayArgs;
use super::logging::Log;
use super::{output, settings};
use crate::evidence::{Source, SourceKind};
use crate::pipeline::Replay;
use crate::source::replay::Input;
use crate::text::visible;

pub(super) async fn run(args: ReplayArgs, log: Log) -> ExitCode {
    let settings = match settings::Replay::new(args) {
        Ok(settings) => settings,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    let settings::Replay { inputs, threads, run } = settings;
    let source = source(&inputs);
    let (stop, keeper) = match settings::stop().and_then(|stop| Ok((stop, run.keeper(run.store()?, source))))
    {
        Ok(both) => both,
        Err(e) => return output::failed(&e),
    };
    let replay = Replay::new(inputs, run.filters.interest.clone());
    let summary = keeper.replay(replay, threads, stop).await;
    output::summary(&summary, &run.ending(), log)
}

/// The captures by their names, without the way to them, which is of no use on another machine.
fn source(inputs: &[Input]) -> Source {
    let mut names: Vec<String> = inputs
        .iter()
        .map(|input| match input {
            Input::Stdin => "standard input".to_owned(),
            Input::File(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
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
