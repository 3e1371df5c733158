//! Where the policies go, why they exist, and what is told of it at the end.

use std::path::{Path, PathBuf};

use super::Mistakes;
use crate::aggregate::SAMPLES;
use crate::cli::args::KeepArgs;
use crate::evidence::Caps;
use crate::store::{EvidenceFiles, evidence_dir};
use crate::text::visible;

/// Where the policies go.
#[derive(Debug)]
pub(in crate::cli) enum Output {
    /// To files below a directory; why they exist goes to another one, or nowhere.
    Directory { root: PathBuf, evidence: Option<(EvidenceFiles, Caps)> },
    /// Nowhere: what would change below the directory is told.
    DryRun { root: PathBuf, diff: bool, exit_code: bool },
}

/// What is to be said at the end of a run, and what its exit code is to tell.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Ending {
    pub(in crate::cli) fail_on_infra_drops: bool,
    pub(in crate::cli) fail_on_change: bool,
    /// The directory as it was named, when changes are to be shown.
    pub(in crate::cli) diff: Option<PathBuf>,
}

/// What was asked for; mistakes and warnings are told.
pub(super) fn output(
    root: PathBuf,
    args: KeepArgs,
    warnings: &mut Vec<String>,
    mistakes: &mut Mistakes,
) -> Output {
    let KeepArgs {
        dry_run,
        no_diff,
        exit_code,
        evidence_dir: named,
        no_evidence,
        evidence_sessions,
        evidence_samples,
    } = args;
    let caps = caps(evidence_sessions, evidence_samples, mistakes);
    if dry_run {
        return Output::DryRun { root, diff: !no_diff, exit_code };
    }
    for (flag, given) in [("--no-diff", no_diff), ("--exit-code", exit_code)] {
        if given {
            mistakes.push(format!("{flag} says something about --dry-run: give that too, or leave it out"));
        }
    }
    if no_evidence {
        return Output::Directory { root, evidence: None };
    }
    if let Some(named) = &named
        && is_below(named, &root)
    {
        mistakes.push(format!(
            "--evidence-dir {:?} is inside of the output directory, where tools take its files for manifests: name one outside",
            visible(&named.display().to_string(), 300)
        ));
    }
    let directory = named.or_else(|| evidence_dir(&root));
    if directory.is_none() {
        warnings.push("why each rule exists is not kept: neither XDG_CACHE_HOME nor HOME says where; name a place with --evidence-dir".into());
    }
    Output::Directory { root, evidence: directory.map(|directory| (EvidenceFiles::new(directory), caps)) }
}

/// How much evidence is kept of each rule.
pub(in crate::cli) fn caps(sessions: usize, samples: usize, mistakes: &mut Mistakes) -> Caps {
    if !(1..=1000).contains(&sessions) {
        mistakes.push("--evidence-sessions: from 1 to 1000".into());
    }
    if samples > SAMPLES {
        mistakes.push(format!("--evidence-samples: from 0 to {SAMPLES}"));
    }
    Caps { sessions, samples }
}

fn is_below(path: &Path, root: &Path) -> bool {
    match (std::path::absolute(path), std::path::absolute(root)) {
        (Ok(path), Ok(root)) => path.starts_with(root),
        _ => false,
    }
}
