//! A closed window on its way to the files, and what came of every policy.

mod other_sides;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::learning::{Arrivals, Learning};
use super::other_side::OtherSides;
use super::recorder::{Need, Recorder};
use super::requests;
use super::resolvers::{Behind, Resolvers};
use super::screening::Screening;
use super::shutdown::Stage;
use super::triage::Sorting;
use super::{Naming, Results};
use crate::aggregate::{Ledger, Observed, ObservedPeer, Settling, Windows};
use crate::build::{Collapse, also_selected, build};
use crate::classify::Skip;
use crate::flow::{Identity, Namespaces};
use crate::kube::ClusterPolicies;
use crate::names::PolicyName;
use crate::policy::{Policy, Rule, Subject};
use crate::screen::{Unconfirmed, confirm};
use crate::source::replay::Report;
use crate::store::{Addition, Applied, Change as FileChange, Outcome, Store};
use crate::text::{count, visible};
use crate::triage::{Caution, Pending};

/// Identities remembered to tell which selectors match more workloads than their own.
const SEEN: usize = 20_000;

/// Flows that turned out to ask for nothing, with the reason.
pub(super) type Moved = Vec<(Skip, u64)>;

/// Settles windows, builds rules and hands them to the store.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    windows: Windows,
    results: Results,
    seen: BTreeSet<Arc<Identity>>,
    screening: Screening,
    sorting: Sorting,
    /// When each need came first, where that is told.
    arrivals: Option<Arrivals>,
    /// Resolvers and names, and the rules that come of them.
    resolvers: Resolvers,
    stage: Stage,
    /// What the other ends of its rules say.
    sides: OtherSides,
    /// Takes down why each rule exists; `None` where nobody wants to know, and in a dry run.
    recorder: Option<Recorder>,
    /// Opens places of paths, where that was asked for.
    collapse: Option<Collapse>,
}

// === impl Writer ===

impl Writer {
    /// Writes into this store.
    pub fn new(store: Store, capacity: usize) -> Self {
        Self {
            store,
            windows: Windows::new(capacity),
            results: Results::default(),
            seen: BTreeSet::new(),
            screening: Screening::default(),
            sorting: Sorting::new(Caution::default(), Pending::default()),
            arrivals: None,
            resolvers: Resolvers::default(),
            stage: Stage::default(),
            sides: OtherSides::new(),
            recorder: None,
            collapse: None,
        }
    }

    /// Takes down when each need came first.
    pub(super) fn learn(&mut self) {
        self.arrivals = Some(Arrivals::default());
    }

    /// What was learned in this time; `None` where nothing was to be.
    pub(super) fn learning(&self, watched: Option<(Timestamp, Timestamp)>) -> Option<Learning> {
        self.arrivals.as_ref().map(|arrivals| arrivals.learning(watched))
    }

    /// What these policies decide already is not written from now on.
    pub(super) fn count_cluster(&mut self, policies: ClusterPolicies) {
        self.screening.count_cluster(policies);
    }

    /// Writes the rule of the other end, too, where a known policy puts it into default deny: for pods of
    /// these namespaces.
    #[must_use]
    pub fn for_both_sides(mut self, namespaces: Namespaces) -> Self {
        self.sides.write(namespaces);
        self
    }

    /// So careful; `pending` is what an earlier run left.
    #[must_use]
    pub fn cautious(self, caution: Caution, pending: Pending) -> Self {
        Self { sorting: Sorting::new(caution, pending), ..self }
    }

    /// What of DNS goes into the files.
    #[must_use]
    pub fn naming(self, naming: Naming) -> Self {
        Self { resolvers: Resolvers::new(naming), ..self }
    }

    /// Takes down why each rule exists. Not in a dry run, which writes nothing.
    #[must_use]
    pub fn recording(self, recorder: Option<Recorder>) -> Self {
        let recorder = recorder.filter(|_| !self.store.is_dry_run());
        Self { recorder, ..self }
    }

    /// Opens places of paths.
    #[must_use]
    pub fn collapsing(self, collapse: Option<Collapse>) -> Self {
        Self { collapse, ..self }
    }

    /// The captures that everything came from were read to their end.
    pub(super) fn captured(&mut self, report: &Report) {
        if let Some(recorder) = &mut self.recorder {
            recorder.captured(report);
        }
    }

    /// Closes a window: everything that stands goes to the files, then the evidence for it. Gives the
    /// flows that turned out to ask for nothing, for the counters.
    pub fn window(&mut self, ledger: Ledger, when: Settling) -> Moved {
        let mut moved = self.policies(ledger, when);
        match when {
            Settling::Final => self.other_sides(&mut moved),
            Settling::Window if self.sides.writes() => self.other_sides(&mut moved),
            Settling::Window | Settling::Interim => {}
        }
        self.resolvers.tell_foreign(&self.store, &mut self.results);
        if let Some(recorder) = &mut self.recorder {
            let now = Timestamp::now();
            recorder.flush(&mut self.store, self.screening.here(), when, now, &mut self.results.recorded);
        }
        moved
    }

    fn policies(&mut self, ledger: Ledger, when: Settling) -> Moved {
        self.stage.is("settling and building the rules of the last window");
        let mut moved = Moved::new();
        let mut settled = self.windows.close(ledger, when);
        self.resolvers.learn(&mut settled, &mut self.results.names);
        for (_, tally) in &settled.contradicted {
            let audited = tally.proof() == crate::classify::Proof::Audit;
            let skip = if audited { Skip::AuditDenied } else { Skip::DirectionContradicted };
            moved.push((skip, tally.events()));
        }
        self.refuse(&settled.refused, &mut moved);
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.note(&settled.ready);
        }
        self.remember(&settled.ready);
        self.results.by_drop_only +=
            settled.ready.iter().filter(|(_, t)| t.proof() == crate::classify::Proof::Drop).count() as u64;
        self.sorting.begin(&mut settled.ready, settled.addresses, when);
        let mut covered = Vec::new();
        let new = self.screening.screen(
            &mut self.store,
            settled.ready,
            &mut self.results,
            &mut moved,
            &mut covered,
        );
        for (observed, rule) in covered {
            self.note_covered(observed, &rule);
        }
        let new = self.resolvers.hold(new, &mut self.results, &mut moved);
        let new = self.sorting.sort(new, &self.store, when, &mut self.results, &mut moved);
        let built = requests::through(build(new), self.collapse.as_mut(), &self.store, &mut self.results);
        for ((_, tally), skip) in &built.skipped {
            moved.push((*skip, tally.events()));
        }
        let mut behind = built.policies;
        self.confirm(&mut behind, &mut moved);
        let mut lookups =
            self.resolvers.rules(&mut self.store, &mut self.screening, &behind, when, &mut self.results);
        // Queries that passed are no needs: what becomes of them moves no flow.
        self.confirm(&mut lookups, &mut Moved::new());
        let additions = additions(&behind, &lookups);
        if additions.is_empty() {
            return moved;
        }
        self.stage.is(writing(&additions, self.store.root()));
        let all = match self.store.apply(&additions) {
            Ok(all) => all,
            Err(e) => {
                // Once, not with each window that the directory stays away.
                if self.results.directory_error.is_none() {
                    tracing::warn!("{e}; what was learned is kept and tried again");
                }
                self.results.directory_error = Some(e.to_string());
                self.results.write_errors += 1;
                self.keep(behind.into_values(), &mut moved);
                self.resolvers.failed(lookups.into_keys());
                return moved;
            }
        };
        self.tell_overlooked();
        if self.results.directory_error.take().is_some() {
            tracing::info!("the output directory can be written again");
        }
        let mut begins = Vec::new();
        let mut failed: Vec<String> = Vec::new();
        for applied in all {
            if let Outcome::Failed(error) = &applied.outcome {
                self.results.write_errors += 1;
                self.keep(behind.remove(&applied.subject), &mut moved);
                if lookups.remove(&applied.subject).is_some() {
                    self.resolvers.failed([applied.subject.clone()]);
                }
                let known = self.results.policies.get(&applied.subject);
                if known.is_none_or(|known| known.error.is_none()) {
                    failed.push(error.to_string());
                }
            }
            let mut rules = behind.remove(&applied.subject).unwrap_or_default();
            if let Some(lookups) = lookups.remove(&applied.subject) {
                self.resolvers.written(&applied.subject, &lookups);
                for (rule, observed) in lookups {
                    rules.entry(rule).or_default().extend(observed);
                }
            }
            self.tell(&applied, Some(&rules));
            self.note(&applied, Some(rules));
            for direction in &applied.first_in_direction {
                begins.push(format!("{} {}", applied.subject, direction.as_str()));
            }
            self.results.take(applied);
        }
        // One line for all of them: a full disk fails every file.
        if let Some(first) = failed.first() {
            let files = count(failed.len() as u64, "policy file");
            tracing::warn!(
                "{files} not written, the first: {}; what was learned is kept",
                visible(first, 1_000)
            );
        }
        warn_of_default_deny(&begins);
        moved
    }

    /// Takes down what is behind the rules that are in a file now.
    fn note(&mut self, applied: &Applied, behind: Option<BTreeMap<Rule, Vec<Observed>>>) {
        for (rule, observed) in behind.into_iter().flatten() {
            if applied.conflicts.iter().any(|(conflicting, _)| *conflicting == rule) {
                continue;
            }
            if !matches!(applied.outcome, Outcome::Failed(_)) {
                self.sides.note(&applied.subject, &rule, &observed);
            }
            let Some(recorder) = &mut self.recorder else { continue };
            let need = if applied.added.contains(&rule) { Need::Added } else { Need::Present };
            // A lookup that is not new.
            if matches!(need, Need::Present) && observed.iter().all(|(_, tally)| tally.events() == 0) {
                continue;
            }
            self.results.recorded.left_out += recorder.note(&applied.subject, rule, observed, &need);
        }
    }

    /// Takes down what was needed and is allowed by a rule that people wrote.
    fn note_covered(&mut self, observed: Observed, by: &str) {
        let Some(recorder) = &mut self.recorder else { return };
        for (subject, rules) in build(vec![observed]).policies {
            for (rule, observed) in rules {
                let need = Need::Covered(by.to_owned());
                self.results.recorded.left_out += recorder.note(&subject, rule, observed, &need);
            }
        }
    }

    /// Takes out every rule that would not allow the observations behind it.
    fn confirm(
        &mut self,
        policies: &mut BTreeMap<Subject, BTreeMap<Rule, Vec<Observed>>>,
        moved: &mut Moved,
    ) {
        let Ok(name) = PolicyName::parse("cpg-confirm") else { return };
        for (subject, rules) in policies.iter_mut() {
            let mut policy = Policy::new(name.clone(), subject.clone());
            for rule in rules.keys() {
                policy.add(rule.clone());
            }
            for Unconfirmed { rule, why } in confirm(&policy, rules) {
                tracing::error!(%subject, %rule, why = %visible(&why, 2_000), "a rule is not written: please report this");
                let observed = rules.remove(&rule).unwrap_or_default();
                moved.extend(observed.iter().map(|(_, tally)| (Skip::Unconfirmed, tally.events())));
                self.results.unconfirmed += 1;
            }
        }
        policies.retain(|_, rules| !rules.is_empty());
    }

    /// Tells once of each file that may hold policies and could not be looked at.
    fn tell_overlooked(&mut self) {
        for (path, why) in self.store.overlooked() {
            if self.results.overlooked.get(path).map(String::as_str) != Some(why) {
                tracing::warn!(
                    "{} {why}: what it allows is not known",
                    visible(&path.display().to_string(), 300)
                );
                self.results.overlooked.insert(path.to_owned(), why.to_owned());
            }
        }
    }

    /// Takes observations back for the next window.
    fn keep(&mut self, rules: impl IntoIterator<Item = BTreeMap<Rule, Vec<Observed>>>, moved: &mut Moved) {
        // One observation can be behind several rules.
        let observations: BTreeMap<_, _> =
            rules.into_iter().flat_map(BTreeMap::into_values).flatten().collect();
        let refused = self.windows.rejoin(observations.into_iter().collect());
        self.refuse(&refused, moved);
    }

    /// The needs that are pending.
    pub(super) fn pending(&self) -> &Pending {
        self.sorting.pending()
    }

    /// Whether some addresses of pods are not known for want of room.
    pub(super) fn forgets_addresses(&self) -> bool {
        self.sorting.is_cut()
    }

    /// What it is at.
    pub(super) fn stage(&self) -> Stage {
        self.stage.clone()
    }

    /// The output directory, absolute.
    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// The files that a dry run would have changed; `None` when this is none.
    pub fn changes(&self) -> Option<Vec<FileChange>> {
        self.store.is_dry_run().then(|| self.store.changes())
    }

    /// What came of everything so far.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// Observations that are not in a file yet.
    pub fn waiting(&self) -> usize {
        self.windows.waiting() + self.sorting.pending().len()
    }

    /// Selectors of this run's policies that match other seen workloads too.
    pub fn also_selected(&self) -> Vec<(Subject, Vec<Arc<Identity>>)> {
        let subjects: Vec<&Subject> = self.results.policies.keys().collect();
        also_selected(subjects, &self.seen).into_iter().map(|(s, others)| (s.clone(), others)).collect()
    }

    /// One line for each file that changed, one at debug for each rule in it with one of the flows
    /// behind it. What is wrong with a file is told when it is new.
    fn tell(&self, applied: &Applied, behind: Option<&BTreeMap<Rule, Vec<Observed>>>) {
        let known = self.results.policies.get(&applied.subject);
        let (policy, path) = (&applied.subject, applied.path.display());
        if let Outcome::Failed(_) = &applied.outcome {
            return;
        }
        if let Some(note) = &applied.note
            && known.and_then(|k| k.note.as_ref()) != Some(note)
        {
            tracing::warn!(%policy, %path, "{note}");
        }
        for (rule, why) in &applied.conflicts {
            if !self.results.conflicts.contains_key(&(policy.clone(), rule.clone())) {
                tracing::warn!(%policy, %rule, why, "conflict: not written");
            }
        }
        if applied.added.is_empty() {
            return;
        }
        let verb = match (&applied.outcome, self.store.is_dry_run()) {
            (Outcome::Created, false) => "created",
            (Outcome::Created, true) => "would be created",
            (_, false) => "updated",
            (_, true) => "would be updated",
        };
        tracing::info!(%path, rules = applied.added.len(), "{verb}");
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        for rule in &applied.added {
            let observed = behind.and_then(|rules| rules.get(rule)).map(Vec::as_slice).unwrap_or_default();
            let connections: u64 = observed.iter().map(|(_, t)| t.connections.count()).sum();
            let packets: u64 = observed.iter().map(|(_, t)| t.packets()).sum();
            let example = observed.iter().flat_map(|(_, t)| t.samples.iter().map(|(_, s)| s)).min();
            tracing::debug!(
                %rule, id = %rule.id(policy), connections, packets,
                example = example.map(|s| format!("{} → {}", s.source, s.destination)),
                uuid = example.map(|s| &*s.uuid), node = example.map(|s| s.node.as_str()), "added"
            );
        }
    }

    fn refuse(&mut self, refused: &[Observed], moved: &mut Moved) {
        self.results.refused += refused.len() as u64;
        moved.extend(refused.iter().map(|(_, tally)| (Skip::LedgerFull, tally.events())));
    }

    fn remember(&mut self, observations: &[Observed]) {
        for (observation, _) in observations {
            if self.seen.len() >= SEEN {
                return;
            }
            self.seen.insert(Arc::clone(&observation.subject));
            if let ObservedPeer::Pod(identity) = &observation.peer {
                self.seen.insert(Arc::clone(identity));
            }
        }
    }
}

/// What is needed of each policy.
fn additions(behind: &Behind, lookups: &Behind) -> Vec<Addition> {
    let mut all: BTreeMap<&Subject, BTreeSet<&Rule>> = BTreeMap::new();
    for (subject, rules) in behind.iter().chain(lookups) {
        all.entry(subject).or_default().extend(rules.keys());
    }
    let addition = |(subject, rules): (&Subject, BTreeSet<&Rule>)| Addition {
        subject: subject.clone(),
        rules: rules.into_iter().cloned().collect(),
    };
    all.into_iter().map(addition).collect()
}

/// What is being written, in words.
fn writing(additions: &[Addition], root: &Path) -> String {
    const SHOWN: usize = 5;
    let subjects: Vec<String> = additions.iter().take(SHOWN).map(|a| a.subject.to_string()).collect();
    let more = match additions.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let root = visible(&root.display().to_string(), 500).into_owned();
    format!("writing the policies of {}{more} to {root}", subjects.join(", "))
}

/// The first rule of a direction puts every pod that the selector matches into default deny.
fn warn_of_default_deny(begins: &[String]) {
    const SHOWN: usize = 5;
    if begins.is_empty() {
        return;
    }
    let more = match begins.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    tracing::warn!(
        "these files are the first here to enforce their direction: every pod that they select, seen or not, enters default deny when they are applied: {}{more}",
        begins[..begins.len().min(SHOWN)].join("; ")
    );
}
