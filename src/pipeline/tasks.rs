//! Tasks with names, and what is said when one of them panics.
//!
//! A panic ends its task, not the process; whoever waits for the task ends the run in order. The message
//! of a panic can hold text from a flow, so it reaches no terminal as it is.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

use tokio::task::JoinError;

use crate::text::visible;

/// Characters of a panic's message that are shown.
const SHOWN: usize = 300;

tokio::task_local! {
    static NAME: &'static str;
}

/// Gives a task its name.
pub fn named<F: Future>(name: &'static str, task: F) -> impl Future<Output = F::Output> {
    NAME.scope(name, async move {
        injected(name);
        task.await
    })
}

/// Runs a blocking task under its name; a panic in it is told in words.
pub(super) fn guarded<T>(name: &'static str, task: impl FnOnce() -> T) -> Result<T, String> {
    let run = || {
        injected(name);
        task()
    };
    catch_unwind(AssertUnwindSafe(|| NAME.sync_scope(name, run)))
        .map_err(|payload| format!("the task {name} panicked: {}", words(&*payload)))
}

/// What became of a task that did not end by itself.
pub fn ended(name: &str, error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => format!("the task {name} panicked: {}", words(&*payload)),
        Err(_) => format!("the task {name} was cancelled"),
    }
}

/// One line for a panic, safe to print.
pub fn panic_line(info: &PanicHookInfo<'_>) -> String {
    let task = NAME.try_with(|name| *name).unwrap_or("main");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    format!("a fault of cpg in task {task} ({place}), please report it: {}", words(info.payload()))
}

/// The message of a panic, safe to print.
fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    visible(text, SHOWN).into_owned()
}

/// For tests of this program only: a debug build panics in the task that `CPG_DEV_PANIC` names.
#[cfg(debug_assertions)]
#[allow(clippy::panic, reason = "this is what was asked for")]
fn injected(name: &str) {
    if std::env::var_os("CPG_DEV_PANIC").is_some_and(|wanted| wanted == name) {
        panic!("injected \u{1b}[31m");
    }
}

#[cfg(not(debug_assertions))]
fn injected(_: &str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_with_the_tasks_name_and_safe_to_print() {
        let failed = tokio::spawn(named("reader", async { panic!("flow \u{1b}[2J") })).await.unwrap_err();
        let said = ended("reader", failed);
        assert_eq!(said, "the task reader panicked: flow \\u{1b}[2J");
        let said = guarded::<()>("writer", || panic!("{}", "x".repeat(1000))).unwrap_err();
        assert!(said.starts_with("the task writer panicked: xxx") && said.chars().count() < 400, "{said}");
    }
}
