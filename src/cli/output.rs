//! What people and scripts read at the end: summary, mistakes, exit codes.

use std::io::Write as _;
use std::process::ExitCode;

use super::args::Usage;
use super::diff;
use super::logging::Log;
use super::settings::Ending;
use super::status_line::Stderr;
use super::stream;
use crate::pipeline::{Exit, Summary};
use crate::text::{causes, visible};

/// A mistake of use, or help that was asked for.
pub(super) fn usage(usage: &Usage) -> ExitCode {
    if usage.is_mistake {
        say(usage.text.trim_end());
        return incomplete();
    }
    result(usage.text.trim_end());
    ExitCode::SUCCESS
}

/// All mistakes in the settings at once.
pub(super) fn mistakes(mistakes: &[String]) -> ExitCode {
    for mistake in mistakes {
        say(&format!("error: {mistake}"));
    }
    say("see --help");
    incomplete()
}

/// The one error that ended the program.
pub(super) fn failed(error: &anyhow::Error) -> ExitCode {
    say(&format!("error: {}", visible(&causes(error.as_ref()), 2_000)));
    incomplete()
}

/// The summary of a run on standard error, after what a dry run would change on standard output; its
/// exit code.
pub(super) fn summary(summary: &Summary, ending: &Ending, log: Log) -> ExitCode {
    let exit = summary.exit(ending.fail_on_infra_drops, ending.fail_on_change);
    if let (Some(changes), Some(root)) = (&summary.changes, &ending.diff) {
        diff::show(changes, root);
    }
    if let Some(changes) = summary.changes.as_ref().filter(|_| ending.stream) {
        stream::show(changes);
    }
    if log.json {
        let mut value = summary.to_json();
        if let Some(object) = value.as_object_mut() {
            object.insert("message".into(), "summary".into());
            object.insert("exit_code".into(), exit.code().into());
        }
        say(&value.to_string());
    } else {
        say(summary.to_string().trim_end());
        match exit {
            Exit::InfrastructureDrops => {
                let noise = if summary.noise.is_empty() { "" } else { ", more than the known noise" };
                say(&format!(
                    "  exit code 1: infrastructure drops were seen{noise}, and --fail-on-infra-drops was given"
                ));
            }
            Exit::WouldChange => say("  exit code 3: files would change and --exit-code was given"),
            Exit::Done | Exit::Incomplete => {}
        }
    }
    ExitCode::from(exit.code())
}

/// Writes a result to standard output; a reader that has gone is no error.
pub(super) fn result(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes to standard error, whatever the log level is.
pub(super) fn say(text: &str) {
    let _ = Stderr.write_all(format!("{text}\n").as_bytes());
}

fn incomplete() -> ExitCode {
    ExitCode::from(Exit::Incomplete.code())
}
