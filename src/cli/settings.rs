//! What is meant: checked values, with all mistakes of a command line told at once.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::args::{Args, ClusterArgs, GenerateArgs, KeepArgs, Place, Places, ReplayArgs, RunArgs};
use super::dedup::{Dedup, WayToCluster};
use super::logging::Log;
use super::reach::{Reach, reach};
use super::watching::{Watching, watching};
use crate::aggregate::SAMPLES;
use crate::classify::{Filters, ProtocolFilter, parse_reason};
use crate::evidence::{Caps, Source};
use crate::flow::{Interest, Namespaces};
use crate::health::{Noise, parse_threshold};
use crate::kube::{Access, ClusterPolicies};
use crate::names::Namespace;
use crate::pipeline::{
    Common, HealthFile, Keeper, LEDGER_CAPACITY, Recorder, Stop, WatchFile, Writer, on_signals,
};
use crate::source::replay::Input;
use crate::store::{EvidenceFiles, Store, evidence_dir};
use crate::text::visible;

/// What was watched, in the directory of the evidence.
pub(super) const COVERAGE: &str = "coverage.json";
/// How long another cpg on the same directory is waited for.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Mistakes, each a sentence.
pub(super) type Mistakes = Vec<String>;

/// Settings of generate.
#[derive(Debug)]
pub(super) struct Generate {
    pub(super) reach: Reach,
    pub(super) preflight: bool,
    pub(super) accept_cluster: bool,
    pub(super) watching: Watching,
    /// End after so long.
    pub(super) duration: Option<Duration>,
    /// Where the metrics are served.
    pub(super) metrics: Option<String>,
    pub(super) run: Run,
}

/// Settings of replay.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) inputs: Vec<Input>,
    pub(super) threads: usize,
    pub(super) dedup: Dedup,
    pub(super) accept_cluster: bool,
    pub(super) run: Run,
}

/// What generate and replay have in common.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) filters: Arc<Filters>,
    pub(super) flush_interval: Duration,
    pub(super) output: Output,
    pub(super) fail_on_infra_drops: bool,
    noise: Noise,
    health_file: Option<PathBuf>,
    shutdown_timeout: Duration,
    /// What the user should know about what was typed.
    pub(super) warnings: Vec<String>,
}

/// Where the policies go.
#[derive(Debug)]
pub(super) enum Output {
    /// To files below a directory; why they exist goes to another one, or nowhere.
    Directory { root: PathBuf, evidence: Option<(EvidenceFiles, Caps)> },
    /// Nowhere: what would change below the directory is told.
    DryRun { root: PathBuf, diff: bool, exit_code: bool },
}

/// What is to be said at the end of a run, and what its exit code is to tell.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    pub(super) fail_on_infra_drops: bool,
    pub(super) fail_on_change: bool,
    /// The directory as it was named, when changes are to be shown.
    pub(super) diff: Option<PathBuf>,
}

/// The log that was asked for.
pub(super) fn log(args: &Args) -> Result<Log, Mistakes> {
    let level = args.log.log_level.parse().map_err(|_| {
        vec![format!(
            "--log-level {:?}: one of error, warn, info, debug, trace",
            visible(&args.log.log_level, 40)
        )]
    })?;
    let level = if args.log.debug { tracing::Level::DEBUG.max(level) } else { level };
    Ok(Log { level, json: args.json() })
}

// === impl Generate ===

impl Generate {
    /// Checks everything, then tells all mistakes.
    pub(super) fn new(args: GenerateArgs, places: &Places) -> Result<Self, Mistakes> {
        let GenerateArgs { reach: way, no_preflight, accept_cluster, duration, metrics_listen, watch, run } =
            args;
        let preflight = !no_preflight;
        let mut mistakes = Vec::new();
        let watching = watching(watch, !way.no_reconnect, &mut mistakes);
        let reach = reach(way, run.cluster_dedup, places, &mut mistakes);
        let duration = duration.and_then(|text| {
            keep(within("--duration", &text, Duration::from_secs(366 * 86_400)), &mut mistakes)
        });
        let metrics = metrics_listen.and_then(|text| keep(listen_address(&text), &mut mistakes));
        if run.keep.dry_run && watching.as_ref().is_some_and(Watching::keeps) {
            mistakes.push("--state-dir is not written in a dry run: leave one of the two out".into());
        }
        let run = Run::new(run, &mut mistakes);
        match (reach, watching, run) {
            (Some(reach), Some(watching), Some(run)) if mistakes.is_empty() => {
                Ok(Self { reach, preflight, accept_cluster, watching, duration, metrics, run })
            }
            _ => Err(mistakes),
        }
    }
}

// === impl Replay ===

impl Replay {
    /// Checks everything, then tells all mistakes.
    pub(super) fn new(args: ReplayArgs, places: &Places) -> Result<Self, Mistakes> {
        const MOST: usize = 64;
        let ReplayArgs { files, follow, threads, cluster, run } = args;
        let accept_cluster = cluster.accept_cluster;
        let mut mistakes = Vec::new();
        let stdin = |file: &PathBuf| file.as_os_str() == "-";
        if run.hold && files.iter().any(stdin) {
            mistakes.push("--hold waits for a key on standard input, which is a capture here (-)".into());
        }
        if files.iter().filter(|file| stdin(file)).count() > 1 {
            mistakes.push("standard input (-) can be read only once".into());
        }
        if follow && (files.len() != 1 || files.iter().any(stdin)) {
            mistakes.push(
                "--follow reads one file that is still written: name one, and replay the others without it \
                 (standard input is read until it ends anyway)"
                    .into(),
            );
        }
        if threads.is_some_and(|n| n == 0 || n > MOST) {
            mistakes.push(format!("--threads: from 1 to {MOST}"));
        }
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
        let input = |file: PathBuf| match (stdin(&file), follow) {
            (true, _) => Input::Stdin,
            (false, true) => Input::Follow(file),
            (false, false) => Input::File(file),
        };
        let inputs = files.into_iter().map(input).collect();
        let mode = run.cluster_dedup;
        let timeout = keep(duration("--timeout", &cluster.timeout), &mut mistakes);
        let way = way_to_cluster(cluster, places);
        match (Run::new(run, &mut mistakes), timeout) {
            (Some(run), Some(timeout)) if mistakes.is_empty() => {
                let dedup = Dedup { mode, way, timeout };
                Ok(Self { inputs, threads: threads.unwrap_or(cpus), dedup, accept_cluster, run })
            }
            _ => Err(mistakes),
        }
    }
}

/// A capture may be of any cluster: only one that was named for this run, by flag or `CPG_` variable, counts by
/// itself.
fn way_to_cluster(args: ClusterArgs, places: &Places) -> WayToCluster {
    // k9s gives what it does not have as an empty text.
    let kubeconfig = args.kubeconfig.filter(|path| !path.is_empty());
    let context = args.context.filter(|context| !context.is_empty());
    let named = [("kubeconfig", kubeconfig.is_some()), ("context", context.is_some())];
    let is_named = named.iter().any(|(key, given)| *given && places.of(key) >= Place::Variable);
    let access = Access { kubeconfig: kubeconfig.map(Into::into), context };
    if is_named { WayToCluster::Named(access) } else { WayToCluster::Unnamed(access) }
}

// === impl Run ===

impl Run {
    fn new(args: RunArgs, mistakes: &mut Mistakes) -> Option<Self> {
        let RunArgs {
            namespace,
            all_namespaces,
            output_dir,
            flush_interval,
            ignore_protocol,
            ignore_drop_reason,
            cluster_dedup: _,
            fail_on_infra_drops,
            hold: _,
            infra_threshold,
            health_file,
            shutdown_timeout,
            json: _,
            keep: kept,
        } = args;
        let before = mistakes.len();
        let mut warnings = Vec::new();
        if all_namespaces && !namespace.is_empty() {
            mistakes.push("--namespace and --all-namespaces contradict each other: give one of them".into());
        }
        let mut only = std::collections::BTreeSet::new();
        for text in &namespace {
            match Namespace::parse(text) {
                Ok(name) => {
                    if name.as_str() == "all" {
                        warnings.push(
                            "--namespace all is the one that is called all (k9s lists all of them under this \
                             name): for every namespace leave it out"
                                .to_owned(),
                        );
                    }
                    only.insert(name);
                }
                Err(e) => mistakes.push(format!("--namespace {:?} {e}", visible(text, 80))),
            }
        }
        let mut filters = Filters {
            interest: Interest {
                namespaces: if namespace.is_empty() { Namespaces::All } else { Namespaces::Only(only) },
                ..Interest::default()
            },
            ..Filters::default()
        };
        for text in &ignore_protocol {
            match ProtocolFilter::parse(text) {
                Ok(protocol) => {
                    filters.ignore_protocols.insert(protocol);
                }
                Err(e) => mistakes.push(format!("--ignore-protocol: {e}")),
            }
        }
        for text in &ignore_drop_reason {
            match parse_reason(text) {
                Ok((reason, warning)) => {
                    filters.ignore_reasons.insert(reason);
                    warnings.extend(warning.map(|w| format!("--ignore-drop-reason: {w}")));
                }
                Err(e) => mistakes.push(format!("--ignore-drop-reason: {e}")),
            }
        }
        let mut noise = Noise::default();
        for text in &infra_threshold {
            if let Some((reason, n)) =
                keep(parse_threshold(text).map_err(|e| format!("--infra-threshold: {e}")), mistakes)
            {
                noise.set(reason, n);
            }
        }
        if !noise.is_empty() && !fail_on_infra_drops {
            warnings.push(
                "--infra-threshold changes the exit code only together with --fail-on-infra-drops".into(),
            );
        }
        if let Some(path) = &health_file {
            let is_file = std::fs::metadata(path).map_or(true, |metadata| metadata.is_file());
            if path.file_name().is_none() || !is_file {
                let shown = path.display().to_string();
                mistakes.push(format!("--health-file {:?}: name a file", visible(&shown, 200)));
            }
        }
        if output_dir.as_os_str().is_empty() {
            mistakes.push("--output-dir is empty: name a directory".into());
        }
        if kept.dry_run && health_file.is_some() {
            mistakes.push("--health-file is not written in a dry run: leave one of the two out".into());
        }
        let output = output(output_dir, kept, &mut warnings, mistakes);
        let flush_interval = keep(duration("--flush-interval", &flush_interval), mistakes);
        let shutdown_timeout = keep(duration("--shutdown-timeout", &shutdown_timeout), mistakes);
        let (flush_interval, shutdown_timeout) = (flush_interval?, shutdown_timeout?);
        (mistakes.len() == before).then(|| Self {
            filters: Arc::new(filters),
            flush_interval,
            output,
            fail_on_infra_drops,
            noise,
            health_file,
            shutdown_timeout,
            warnings,
        })
    }

    /// The output directory, opened.
    pub(super) fn store(&self) -> anyhow::Result<Store> {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        Ok(match &self.output {
            Output::Directory { root, .. } => Store::open(root.clone(), LOCK_PATIENCE)?,
            Output::DryRun { root, .. } => Store::dry_run(root.clone())?,
        })
    }

    /// The run's keeper, with where its flows come from; the cluster's policies count where they are given, with
    /// how long they are waited for.
    pub(super) fn keeper(
        &self,
        store: Store,
        common: Common,
        source: Source,
        cluster: Option<(ClusterPolicies, Duration)>,
    ) -> Keeper {
        let recorder = match &self.output {
            Output::Directory { evidence: Some((files, caps)), .. } => {
                Some(Recorder::new(files.clone(), *caps, source, random(), LEDGER_CAPACITY))
            }
            Output::Directory { evidence: None, .. } | Output::DryRun { .. } => None,
        };
        let file = self.health_file(&store);
        let writer = Writer::new(store, LEDGER_CAPACITY).recording(recorder);
        let keeper = Keeper::new(Arc::clone(&self.filters), self.flush_interval, writer)
            .ending_within(self.shutdown_timeout)
            .reporting(common, self.noise.clone(), file)
            .logging(self.evidence().map(|files| WatchFile::new(files.directory().join(COVERAGE))));
        match cluster {
            Some((policies, patience)) => keeper.with_cluster(policies, patience),
            None => keeper,
        }
    }

    fn evidence(&self) -> Option<&EvidenceFiles> {
        match &self.output {
            Output::Directory { evidence: Some((files, _)), .. } => Some(files),
            Output::Directory { evidence: None, .. } | Output::DryRun { .. } => None,
        }
    }

    /// Where the report of drops that no policy helps goes; nowhere in a dry run.
    fn health_file(&self, store: &Store) -> Option<HealthFile> {
        if let Some(path) = &self.health_file {
            return Some(HealthFile::new(path.clone(), true));
        }
        let directory = match &self.output {
            Output::DryRun { .. } => return None,
            Output::Directory { evidence: Some((files, _)), .. } => Some(files.directory().to_owned()),
            Output::Directory { evidence: None, .. } => evidence_dir(store.root()),
        };
        if directory.is_none() {
            tracing::warn!(
                "neither XDG_CACHE_HOME nor HOME is set: the report of drops is not kept; --health-file names a place"
            );
        }
        directory.map(|directory| HealthFile::new(directory.join("cluster-health.json"), false))
    }

    /// What is to be said at the end.
    pub(super) fn ending(&self) -> Ending {
        let fail_on_infra_drops = self.fail_on_infra_drops;
        match &self.output {
            Output::Directory { .. } => Ending { fail_on_infra_drops, ..Ending::default() },
            Output::DryRun { root, diff, exit_code } => {
                Ending { fail_on_infra_drops, fail_on_change: *exit_code, diff: diff.then(|| root.clone()) }
            }
        }
    }
}

fn output(root: PathBuf, args: KeepArgs, warnings: &mut Vec<String>, mistakes: &mut Mistakes) -> Output {
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
pub(super) fn caps(sessions: usize, samples: usize, mistakes: &mut Mistakes) -> Caps {
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

/// Another number in every run.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What asks a run to stop: signals, and with `terminal` its end too. A second one ends the process at once.
pub(super) fn stop(terminal: bool) -> anyhow::Result<Stop> {
    let stop = on_signals(terminal, |name| {
        super::output::say(&format!("{name} again: ending at once; the last window is not on disk"));
        at_once();
    });
    stop.map_err(|e| anyhow::Error::new(e).context("signals cannot be caught"))
}

#[allow(clippy::disallowed_methods, reason = "the second signal asks for exactly this")]
fn at_once() {
    super::hold::restore();
    std::process::exit(i32::from(crate::pipeline::Exit::Incomplete.code()));
}

/// A duration that is not zero; the error names the flag.
pub(super) fn duration(flag: &str, text: &str) -> Result<Duration, String> {
    within(flag, text, Duration::from_secs(86_400))
}

fn within(flag: &str, text: &str, most: Duration) -> Result<Duration, String> {
    let shown = visible(text, 40);
    match humantime::parse_duration(text.trim()) {
        Ok(duration) if duration.is_zero() => Err(format!("{flag} {shown:?}: must be more than zero")),
        Ok(duration) if duration > most => {
            let most = if most.as_secs() > 86_400 { "a year" } else { "a day" };
            Err(format!("{flag} {shown:?}: must be {most} at most"))
        }
        Ok(duration) => Ok(duration),
        Err(e) => Err(format!("{flag} {shown:?}: not a duration like 5s, 1m30s or 500ms ({e})")),
    }
}

/// `HOST:PORT`, or `:PORT` for every address of this machine.
fn listen_address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    match port {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!(
            "--metrics-listen {:?}: give HOST:PORT, or :PORT for every address of this machine",
            visible(text, 100)
        )),
    }
}

pub(super) fn keep<T>(result: Result<T, String>, mistakes: &mut Mistakes) -> Option<T> {
    result.map_err(|mistake| mistakes.push(mistake)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration("--x", text).ok().map(|d| d.as_millis() as u64), expected, "{text:?}");
        };
        check("5s", Some(5000));
        check("1m30s", Some(90_000));
        check("0s", None);
        check("0", None);
        check("-5s", None);
        check("5", None);
        check("", None);
        check("30d", None);
    }
}
