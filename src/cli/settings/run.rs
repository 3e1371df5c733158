//! What generate and replay have in common, and the keeper that comes of it.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::caution::caution;
use super::fqdn::naming;
use super::http::Http;
use super::output::{Output, output};
use super::verdicts::verdicts;
use super::{COVERAGE, Ending, LOCK_PATIENCE, Mistakes, duration, keep};
use crate::classify::{Filters, ProtocolFilter, parse_reason};
use crate::cli::args::RunArgs;
use crate::evidence::Source;
use crate::flow::{Interest, Namespaces};
use crate::health::{Noise, parse_threshold};
use crate::kube::ClusterPolicies;
use crate::names::Namespace;
use crate::pipeline::{Common, HealthFile, Keeper, LEDGER_CAPACITY, Naming, Recorder, WatchFile, Writer};
use crate::store::{EvidenceFiles, Store, evidence_dir};
use crate::text::visible;
use crate::triage::{Caution, Pending};

/// What generate and replay have in common.
#[derive(Debug)]
pub(in crate::cli) struct Run {
    pub(in crate::cli) filters: Arc<Filters>,
    naming: Naming,
    pub(in crate::cli) flush_interval: Duration,
    pub(in crate::cli) output: Output,
    caution: Caution,
    pub(in crate::cli) fail_on_infra_drops: bool,
    noise: Noise,
    health_file: Option<PathBuf>,
    shutdown_timeout: Duration,
    both_sides: bool,
    http: Http,
    /// What the user should know about what was typed.
    pub(in crate::cli) warnings: Vec<String>,
}

// === impl Run ===

impl Run {
    pub(super) fn new(args: RunArgs, mistakes: &mut Mistakes) -> Option<Self> {
        let RunArgs {
            namespace,
            all_namespaces,
            output_dir,
            flush_interval,
            fqdn,
            ignore_protocol,
            ignore_drop_reason,
            verdicts: asked,
            cluster_dedup: _,
            fail_on_infra_drops,
            hold: _,
            infra_threshold,
            health_file,
            shutdown_timeout,
            json: _,
            both_sides,
            http,
            caution: careful,
            stream,
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
        verdicts(&asked, &mut filters.interest);
        let naming = naming(fqdn, &mut filters, mistakes);
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
        let http = Http::new(&http, &mut warnings);
        filters.interest.http = http.wanted;
        if stream.stdout && health_file.is_some() {
            mistakes.push("--health-file is not written with --stdout: leave one of the two out".into());
        }
        let caution = caution(&careful, mistakes);
        let output = output(output_dir, kept, stream, &mut warnings, mistakes);
        let flush_interval = keep(duration("--flush-interval", &flush_interval), mistakes);
        let shutdown_timeout = keep(duration("--shutdown-timeout", &shutdown_timeout), mistakes);
        let (flush_interval, shutdown_timeout) = (flush_interval?, shutdown_timeout?);
        (mistakes.len() == before).then(|| Self {
            filters: Arc::new(filters),
            naming,
            flush_interval,
            output,
            caution,
            fail_on_infra_drops,
            noise,
            health_file,
            shutdown_timeout,
            both_sides,
            http,
            warnings,
        })
    }

    /// The output directory, opened.
    pub(in crate::cli) fn store(&self) -> anyhow::Result<Store> {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        Ok(match &self.output {
            Output::Directory { root, single, .. } => {
                Store::open(root.clone(), LOCK_PATIENCE)?.in_one_file(single.as_deref())
            }
            Output::DryRun { root, single, .. } => {
                Store::dry_run(root.clone())?.in_one_file(single.as_deref())
            }
            Output::Stream { root } => Store::dry_run(root.clone())?,
        })
    }

    /// The run's keeper, with where its flows come from and what is pending of an earlier run; the cluster's
    /// policies count where they are given, with how long they are waited for.
    pub(in crate::cli) fn keeper(
        &self,
        store: Store,
        common: Common,
        source: Source,
        pending: Pending,
        cluster: Option<(ClusterPolicies, Duration)>,
    ) -> Keeper {
        let recorder = match &self.output {
            Output::Directory { evidence: Some((files, caps)), .. } => {
                Some(Recorder::new(files.clone(), *caps, source, random(), LEDGER_CAPACITY))
            }
            Output::Directory { evidence: None, .. } | Output::DryRun { .. } | Output::Stream { .. } => None,
        };
        let file = self.health_file(&store);
        let mut writer = Writer::new(store, LEDGER_CAPACITY)
            .naming(self.naming.clone())
            .recording(recorder)
            .collapsing(self.http.collapse.clone())
            .cautious(self.caution, pending);
        if self.both_sides {
            writer = writer.for_both_sides(self.filters.interest.namespaces.clone());
        }
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
            Output::Directory { evidence: None, .. } | Output::DryRun { .. } | Output::Stream { .. } => None,
        }
    }

    /// Where the report of drops that no policy helps goes; nowhere in a dry run.
    fn health_file(&self, store: &Store) -> Option<HealthFile> {
        if let Some(path) = &self.health_file {
            return Some(HealthFile::new(path.clone(), true));
        }
        let directory = match &self.output {
            Output::DryRun { .. } | Output::Stream { .. } => return None,
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
    pub(in crate::cli) fn ending(&self) -> Ending {
        let fail_on_infra_drops = self.fail_on_infra_drops;
        match &self.output {
            Output::Directory { .. } => Ending { fail_on_infra_drops, ..Ending::default() },
            Output::DryRun { root, diff, exit_code, .. } => {
                let diff = diff.then(|| root.clone());
                Ending { fail_on_infra_drops, fail_on_change: *exit_code, diff, ..Ending::default() }
            }
            Output::Stream { .. } => Ending { fail_on_infra_drops, stream: true, ..Ending::default() },
        }
    }
}

/// Another number in every run.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
