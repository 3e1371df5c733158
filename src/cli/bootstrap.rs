//! `cpg bootstrap`: the policies to begin with, on standard output.

use std::process::ExitCode;

use super::args::{BootstrapArgs, StarterName};
use super::output;
use crate::bootstrap::Starter;
use crate::names::Namespace;
use crate::text::visible;

pub(super) fn run(args: &BootstrapArgs) -> ExitCode {
    let mut mistakes = Vec::new();
    let mut namespaces = Vec::new();
    for text in &args.namespace {
        match Namespace::parse(text) {
            Ok(namespace) if namespaces.contains(&namespace) => {}
            Ok(namespace) => namespaces.push(namespace),
            Err(e) => mistakes.push(format!("--namespace {:?} {e}", visible(text, 80))),
        }
    }
    if !mistakes.is_empty() {
        return output::mistakes(&mistakes);
    }
    let starter = match args.policy {
        StarterName::L7Visibility => Starter::L7Visibility,
        StarterName::DefaultDeny => Starter::DefaultDeny,
        StarterName::Dns => Starter::Dns,
    };
    match starter.documents(&namespaces) {
        Ok(text) => {
            output::result(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(e) => output::failed(&anyhow::Error::new(e)),
    }
}
