//! Where the policies go, why they exist, and what is told of it at the end.

use std::path::{Component, Path, PathBuf};

use super::Mistakes;
use crate::aggregate::SAMPLES;
use crate::cli::args::{KeepArgs, StreamArgs};
use crate::evidence::Caps;
use crate::store::{EvidenceFiles, evidence_dir};
use crate::text::visible;

/// Where the policies go.
#[derive(Debug)]
pub(in crate::cli) enum Output {
    /// To files below a directory, new ones to the one file that is named; why they exist goes to another
    /// directory, or nowhere.
    Directory { root: PathBuf, single: Option<PathBuf>, evidence: Option<(EvidenceFiles, Caps)> },
    /// Nowhere: what would change below the directory is told.
    DryRun { root: PathBuf, single: Option<PathBuf>, diff: bool, exit_code: bool },
    /// To standard output, merged with what is below the directory; nothing on disk changes.
    Stream { root: PathBuf },
}

/// What is to be said at the end of a run, and what its exit code is to tell.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Ending {
    pub(in crate::cli) fail_on_infra_drops: bool,
    pub(in crate::cli) fail_on_change: bool,
    /// The directory as it was named, when changes are to be shown.
    pub(in crate::cli) diff: Option<PathBuf>,
    /// The changed policies are the result: they go to standard output.
    pub(in crate::cli) stream: bool,
}

/// What was asked for; mistakes and warnings are told.
pub(super) fn output(
    root: PathBuf,
    args: KeepArgs,
    stream: StreamArgs,
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
    let StreamArgs { single_file: single, stdout } = stream;
    let caps = caps(evidence_sessions, evidence_samples, mistakes);
    if let Some(file) = &single
        && !is_manifest_below(file)
    {
        mistakes.push(format!(
            "--single-file {:?}: name a .yaml or .yml file below the output directory (--output-dir), as all.yaml",
            visible(&file.display().to_string(), 200)
        ));
    }
    if stdout && single.is_some() {
        mistakes.push("--stdout and --single-file contradict each other: give one of them".into());
    }
    if stdout && dry_run {
        mistakes.push("--stdout and --dry-run contradict each other: both write nothing to disk, one shows policies and the other a diff".into());
    }
    if dry_run {
        return Output::DryRun { root, single, diff: !no_diff, exit_code };
    }
    for (flag, given) in [("--no-diff", no_diff), ("--exit-code", exit_code)] {
        if given {
            mistakes.push(format!("{flag} says something about --dry-run: give that too, or leave it out"));
        }
    }
    if stdout {
        return Output::Stream { root };
    }
    if no_evidence {
        return Output::Directory { root, single, evidence: None };
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
    let evidence = directory.map(|directory| (EvidenceFiles::new(directory), caps));
    Output::Directory { root, single, evidence }
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

/// Whether this names a file that is looked at as a manifest: below the directory, not hidden.
fn is_manifest_below(file: &Path) -> bool {
    let visible_part = |part: Component<'_>| match part {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
        _ => false,
    };
    file.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
        && file.components().all(visible_part)
}

fn is_below(path: &Path, root: &Path) -> bool {
    match (std::path::absolute(path), std::path::absolute(root)) {
        (Ok(path), Ok(root)) => path.starts_with(root),
        _ => false,
    }
}
