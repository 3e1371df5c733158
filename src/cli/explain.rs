//! `cpg explain`: each rule of a policy with where it stands and the flows that it exists because of.

mod filter;
mod find;
mod object;
mod request;
mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use jiff::Timestamp;

use super::args::{ExplainArgs, ExplainFormat};
use super::settings::COVERAGE;
use super::{evidence_command, output};
use crate::coverage::WatchLog;
use crate::evidence::{Entry, Evidence, SessionId, State, stand_in};
use crate::flow::Direction;
use crate::merge::{Says, meaning, written};
use crate::policy::spec::Path as Place;
use crate::policy::validate::marks;
use crate::policy::{Rule, Subject, read_documents, yaml};
use crate::screen::{Known, Source};
use crate::state::load_log;
use crate::store::{EvidenceFiles, Store};
use crate::text::visible;

use filter::Filter;
use find::{Found, HeldIn};

/// What is told of one policy.
struct Explained {
    subject: Subject,
    /// The files it stands in, with the policies' names.
    files: Vec<(PathBuf, Option<String>)>,
    /// Where its evidence is, and what it says; empty where there is none.
    evidence: (PathBuf, Evidence),
    /// What runs watched and missed, where that is known.
    watched: Option<Arc<WatchLog>>,
    lines: Vec<Line>,
    /// Lines that the filters left out.
    filtered: usize,
}

/// One rule, or one thing that people wrote.
struct Line {
    /// Where it stands: file and line.
    place: Option<(PathBuf, Option<u32>)>,
    says: What,
    status: Status,
    entry: Option<Entry>,
}

enum What {
    Rule(Rule),
    Other(Direction, String),
}

/// How a rule stands to what was seen.
enum Status {
    /// It stands, and was seen.
    Seen,
    /// It stands, and nothing is known of it.
    ByHand,
    /// It was seen and does not stand; this rule allows it.
    Covered(String),
    /// It was seen, and nothing allows it any more, since then as far as is known.
    Orphan(Option<Timestamp>),
}

pub(super) fn run(args: ExplainArgs) -> ExitCode {
    let filter = match Filter::new(&args, Timestamp::now()) {
        Ok(filter) => filter,
        Err(mistakes) => return output::mistakes(&mistakes),
    };
    let format = if args.json { ExplainFormat::Json } else { args.output };
    match explain(args, &filter) {
        Ok(all) => {
            match format {
                ExplainFormat::Text => output::result(text::of(&all).trim_end()),
                ExplainFormat::Json => output::result(&format!("{:#}", object::of(&all))),
                ExplainFormat::Yaml => match yaml::write(&object::of(&all)) {
                    Ok(text) => output::result(text.trim_end()),
                    Err(e) => return output::failed(&anyhow::Error::new(e)),
                },
            }
            ExitCode::SUCCESS
        }
        Err(e) => output::failed(&e),
    }
}

fn explain(args: ExplainArgs, filter: &Filter) -> anyhow::Result<Vec<Explained>> {
    let mut store = Store::dry_run(args.output_dir.clone())?;
    let files = EvidenceFiles::new(evidence_command::place(args.evidence_dir, &args.output_dir)?);
    let found = find::find(&args.target, &mut store, &files)?;
    let path = files.directory().join(COVERAGE);
    let watched = load_log(&path).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
    let mut around = Around { store, known: None, watched: watched.map(Arc::new) };
    found.into_iter().map(|found| one(found, &args.output_dir, &files, &mut around, filter)).collect()
}

/// The policies of the whole directory, read when the first rule asks for them.
struct Around {
    store: Store,
    known: Option<Known>,
    watched: Option<Arc<WatchLog>>,
}

fn one(
    found: Found,
    output_dir: &Path,
    files: &EvidenceFiles,
    around: &mut Around,
    filter: &Filter,
) -> anyhow::Result<Explained> {
    let Found { subject, held } = found;
    let place = files.path(&subject);
    let text = files.read(&subject)?.text;
    let evidence = if text.is_empty() {
        Evidence::new(subject.clone())
    } else {
        Evidence::parse(&text).map_err(|e| anyhow::anyhow!("{} {e}", place.display()))?
    };
    let mut unseen: BTreeMap<Rule, (&Rule, &Entry)> = evidence
        .rules
        .iter()
        .map(|(rule, entry)| (meaning(rule, &subject.namespace), (rule, entry)))
        .collect();
    let mut lines = Vec::new();
    let mut named = Vec::new();
    for HeldIn { path, home, name, text } in &held {
        named.push((path.clone(), name.clone()));
        let documents = read_documents(text)
            .map_err(|e| anyhow::anyhow!("{} cannot be read as YAML: {e}", path.display()))?;
        let all = written(&documents, home.as_ref(), &subject);
        let places: Vec<(usize, &Place)> = all.iter().map(|w| (w.document, &w.path)).collect();
        let marks = marks(text, &places);
        for (w, mark) in all.iter().zip(marks) {
            let place = Some((path.clone(), mark.map(|mark| mark.line)));
            let (says, known) = match &w.says {
                Says::Rule(rule) => {
                    let known = unseen.remove(rule);
                    (What::Rule(known.map_or(rule, |(rule, _)| rule).clone()), known)
                }
                Says::Other(direction, words) => (What::Other(*direction, words.clone()), None),
            };
            let entry = known.map(|(_, entry)| entry.clone());
            let status = if entry.is_some() { Status::Seen } else { Status::ByHand };
            lines.push(Line { place, says, status, entry });
        }
    }
    for (rule, entry) in unseen.into_values() {
        let status = match around.judge(output_dir, &subject, rule)? {
            Some(by) => Status::Covered(by),
            None => Status::Orphan(entry.orphan_since()),
        };
        let says = What::Rule(rule.clone());
        lines.push(Line { place: None, says, status, entry: Some(entry.clone()) });
    }
    let all = lines.len();
    lines.retain(|line| filter.wants(line));
    let filtered = all - lines.len();
    let watched = around.watched.clone();
    Ok(Explained { subject, files: named, evidence: (place, evidence), watched, lines, filtered })
}

// === impl Around ===

impl Around {
    /// The rule of the directory that allows this one.
    fn judge(&mut self, output_dir: &Path, subject: &Subject, rule: &Rule) -> anyhow::Result<Option<String>> {
        if self.known.is_none() {
            self.known = Some(self.read(output_dir)?);
        }
        let known = self.known.get_or_insert_default();
        Ok(known.judge(&stand_in(subject, rule)).allowed_by())
    }

    fn read(&mut self, output_dir: &Path) -> anyhow::Result<Known> {
        let mut texts: BTreeMap<PathBuf, String> = BTreeMap::new();
        for foreign in self.store.foreign()?.1 {
            texts.insert(foreign.path, foreign.text.to_string());
        }
        for (path, ..) in self.store.subjects()? {
            // What was removed meanwhile allows nothing.
            if let Ok(text) = std::fs::read_to_string(output_dir.join(&path)) {
                texts.entry(path).or_insert(text);
            }
        }
        let sources: Vec<_> = texts
            .iter()
            .map(|(path, text)| {
                (path.display().to_string(), self.store.home(&self.store.root().join(path)), text)
            })
            .collect();
        let sources = sources.iter().map(|(name, home, text)| Source { name, home: home.as_ref(), text });
        Ok(Known::read(sources).0)
    }
}

// === impl Line ===

impl Line {
    fn direction(&self) -> Direction {
        match &self.says {
            What::Rule(rule) => rule.direction,
            What::Other(direction, _) => *direction,
        }
    }

    /// The rule in a few words, safe to print.
    fn words(&self) -> String {
        match &self.says {
            What::Rule(rule) => visible(&rule.to_string(), 1_000).into_owned(),
            What::Other(_, words) => words.clone(),
        }
    }

    /// What the evidence itself took down, where that is another thing than what is there now.
    fn noted(&self) -> Option<&State> {
        Some(&self.entry.as_ref()?.standing.as_ref()?.state)
    }
}

/// The latest session of those that a policy's rules name.
fn latest(explained: &Explained) -> Option<(SessionId, &crate::evidence::Session)> {
    explained.evidence.1.latest()
}
