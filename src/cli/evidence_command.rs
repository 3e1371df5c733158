//! `cpg evidence`: evidence of several directories joined, and where it is.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::args::{EvidenceArgs, EvidenceCommand};
use super::{output, settings};
use crate::evidence::{Caps, Counts, Evidence};
use crate::state::{load_log, save_log};
use crate::store::{EvidenceFiles, evidence_dir};
use crate::text::{count, visible};

pub(super) fn run(args: EvidenceArgs) -> ExitCode {
    match args.command {
        EvidenceCommand::Merge { from, output_dir, evidence_sessions, evidence_samples } => {
            let mut mistakes = Vec::new();
            let caps = settings::caps(evidence_sessions, evidence_samples, &mut mistakes);
            if !mistakes.is_empty() {
                return output::mistakes(&mistakes);
            }
            merge(&from, output_dir, caps).unwrap_or_else(|e| output::failed(&e))
        }
        EvidenceCommand::Dir { output_dir } => match place(None, &output_dir) {
            Ok(directory) => {
                output::result(&directory.display().to_string());
                ExitCode::SUCCESS
            }
            Err(e) => output::failed(&e),
        },
    }
}

/// Where the evidence of an output directory is: where it was named, or where cpg puts it by itself.
pub(super) fn place(named: Option<PathBuf>, output_dir: &Path) -> anyhow::Result<PathBuf> {
    named
        .or_else(|| evidence_dir(output_dir))
        .context("neither XDG_CACHE_HOME nor HOME says where the evidence is: name it with --evidence-dir")
}

/// What a merge did.
#[derive(Debug, Default)]
struct Done {
    read: u64,
    written: u64,
    unreadable: u64,
    left_out: u64,
}

fn merge(from: &[PathBuf], to: PathBuf, caps: Caps) -> anyhow::Result<ExitCode> {
    for directory in from {
        anyhow::ensure!(
            directory.is_dir(),
            "{} is no directory: name directories with evidence, as cpg evidence dir prints them",
            directory.display()
        );
    }
    let to = EvidenceFiles::new(to);
    let done = to.locked(settings::LOCK_PATIENCE, || {
        let mut done = Done::default();
        for directory in from {
            let files = EvidenceFiles::new(directory.clone());
            for path in files.list(None)? {
                done.read += 1;
                if let Err(e) = join(&files, &path, &to, caps, &mut done) {
                    done.unreadable += 1;
                    output::say(&format!("error: {}", visible(&format!("{e:#}"), 2_000)));
                }
            }
        }
        if let Err(e) = join_watched(from, to.directory()) {
            done.unreadable += 1;
            output::say(&format!("error: {}", visible(&format!("{e:#}"), 2_000)));
        }
        anyhow::Ok(done)
    })??;
    output::say(&format!(
        "cpg: the evidence of {} joined into {}: {} changed, {} unreadable",
        count(done.read, "policy"),
        visible(&to.directory().display().to_string(), 1_000),
        count(done.written, "file"),
        count(done.unreadable, "file"),
    ));
    if done.left_out > 0 {
        output::say(&format!("  the evidence of {} had no room", count(done.left_out, "rule")));
    }
    Ok(if done.unreadable + done.left_out > 0 { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// Joins what was watched.
fn join_watched(from: &[PathBuf], to: &Path) -> anyhow::Result<()> {
    let read = |directory: &Path| {
        let path = directory.join(settings::COVERAGE);
        load_log(&path).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))
    };
    let before = read(to)?;
    let mut log = before.clone().unwrap_or_default();
    for directory in from {
        if let Some(other) = read(directory)? {
            log.join(&other);
        }
    }
    if log != before.unwrap_or_default() {
        save_log(&to.join(settings::COVERAGE), &log)?;
    }
    Ok(())
}

/// Joins one file into the one of its policy.
fn join(
    files: &EvidenceFiles,
    path: &Path,
    to: &EvidenceFiles,
    caps: Caps,
    done: &mut Done,
) -> anyhow::Result<()> {
    let text = files.read_path(path)?.text;
    let evidence = Evidence::parse(&text).map_err(|e| anyhow::anyhow!("{} {e}", path.display()))?;
    let subject = evidence.subject.clone();
    let old = to.read(&subject)?;
    let mut joined = if old.text.is_empty() {
        Evidence::new(subject.clone())
    } else {
        Evidence::parse(&old.text).map_err(|e| anyhow::anyhow!("{} {e}", to.path(&subject).display()))?
    };
    joined.join(evidence, Counts::Same);
    joined.cut(caps);
    let (text, left_out) = joined.render();
    done.left_out += left_out;
    if to.replace(&subject, &old, &text)? {
        done.written += 1;
    }
    Ok(())
}
