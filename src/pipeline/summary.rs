//! What a run did, what it could not do, and the exit code that follows.

mod health;
mod json;
mod names;
mod unwritten;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::results::Change;
use super::{Cap, Counters, FeedEnd, Learning, Results, watched};
use crate::classify::{Filter, Skip, why};
use crate::coverage::Coverage;
use crate::flow::{Identity, Namespaces, Verdict};
use crate::health::{Noise, is_broken, is_refusal};
use crate::names::Namespace;
use crate::policy::Subject;
use crate::source::LostSource;
use crate::store::Change as FileChange;
use crate::text::{count, grouped, visible};

/// Lines of one kind that a summary lists before it only counts.
const SHOWN: usize = 10;

/// A run that has ended.
#[derive(Debug)]
pub struct Summary {
    /// Where every flow ended.
    pub counters: Counters,
    /// What came of the policies.
    pub results: Results,
    /// Selectors that match other seen workloads than their own.
    pub also_selected: Vec<(Subject, Vec<Arc<Identity>>)>,
    /// Why it ended.
    pub end: FeedEnd,
    /// The last window was not on disk in time: what was still under way.
    pub late: Option<String>,
    /// Tasks that did not survive.
    pub faults: Vec<String>,
    /// How many drops of which reason are known noise.
    pub noise: Noise,
    /// The report of drops, where it is on disk.
    pub health_file: Option<PathBuf>,
    /// Why the report of drops is not where the user wanted it.
    pub health_error: Option<String>,
    /// The writer died; what it held is lost.
    pub writer_lost: bool,
    /// Observations that are in no file.
    pub waiting: u64,
    /// From the first flow waited for to the last window written.
    pub elapsed: Duration,
    /// The output directory, absolute.
    pub root: Option<PathBuf>,
    /// What a dry run would have changed in the directory; `None` when it was written.
    pub changes: Option<Vec<FileChange>>,
    /// Which namespaces the run was for.
    pub namespaces_asked: Namespaces,
    /// `--l7`: HTTP requests were asked for.
    pub http_asked: bool,
    /// What audit mode let pass counts too.
    pub audit: bool,
    /// What came of learning from traffic that passes; `None` where that was not asked for.
    pub learning: Option<Learning>,
    /// Namespaces that the relay knows, asked for when nothing matched.
    pub namespaces_of_relay: Option<BTreeSet<Namespace>>,
    /// What was watched and what was missed; `None` of captures.
    pub coverage: Option<Coverage>,
    /// `--min-coverage`, in percent.
    pub min_coverage: Option<f64>,
}

/// The exit code of a run; 2 outranks 1, and that 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: infrastructure drops were seen and `--fail-on-infra-drops` was given.
    InfrastructureDrops,
    /// 2: something kept cpg from doing its work.
    Incomplete,
    /// 3: a dry run with `--exit-code` found files that would change.
    WouldChange,
}

// === impl Exit ===

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::InfrastructureDrops => 1,
            Self::Incomplete => 2,
            Self::WouldChange => 3,
        }
    }
}

// === impl Summary ===

impl Summary {
    /// The exit code. `fail_on_change` counts in a dry run only.
    pub fn exit(&self, fail_on_infra_drops: bool, fail_on_change: bool) -> Exit {
        if !self.unfinished().is_empty() {
            Exit::Incomplete
        } else if fail_on_infra_drops && !self.noise.exceeded(&self.counters.health).is_empty() {
            Exit::InfrastructureDrops
        } else if fail_on_change && self.changes.as_ref().is_some_and(|changes| !changes.is_empty()) {
            Exit::WouldChange
        } else {
            Exit::Done
        }
    }

    /// Whether only what was dropped asks for rules.
    fn only_drops(&self) -> bool {
        !self.audit && self.learning.is_none()
    }

    /// Whether no flow asked for a rule.
    pub fn nothing_matched(&self) -> bool {
        self.counters.needs == 0 && self.results.held.is_empty()
    }

    /// Everything that kept the run from doing its work, one sentence each.
    pub fn unfinished(&self) -> Vec<String> {
        let mut all = Vec::new();
        match &self.end {
            FeedEnd::Stopped => {}
            FeedEnd::Stream(end) => all.push(format!("the stream of the relay ended: {end}")),
            FeedEnd::Gone { lasted, why } => {
                let lasted = humantime::format_duration(Duration::from_secs(lasted.as_secs()));
                all.push(format!("the relay was out of reach for the last {lasted}: {why}"));
            }
            FeedEnd::Lost(why) => all.push(format!("cpg itself failed: {}", visible(why, 300))),
            FeedEnd::Captures(report) => {
                all.extend(report.problems().filter(|p| p.kind.loses_work()).map(ToString::to_string));
                all.extend(report.failure.iter().map(|why| format!("cpg itself failed: {why}")));
                if report.lost_lines() > 0 {
                    all.push(format!("{} could not be read", count(report.lost_lines(), "line")));
                }
            }
        }
        if let Some((coverage, least)) = self.coverage.as_ref().zip(self.min_coverage)
            && coverage.least() < least
        {
            all.push(format!(
                "{:.2}% of the time was watched, less than --min-coverage {least}%",
                (coverage.least() * 100.0).floor() / 100.0
            ));
        }
        if self.results.unconfirmed > 0 {
            let rules = count(self.results.unconfirmed, "rule");
            all.push(format!("{rules} would not have allowed the flows behind them and were not written: a fault of cpg, please report it"));
        }
        all.extend(self.results.directory_error.clone());
        let failed: Vec<_> = self.results.policies.values().filter(|p| p.error.is_some()).collect();
        if let Some(first) = failed.first() {
            all.push(format!(
                "{} not written: {}",
                count(failed.len() as u64, "policy file"),
                first.error.as_deref().unwrap_or_default()
            ));
        }
        all.extend(self.faults.iter().cloned());
        if let Some(late) = &self.late {
            all.push(format!("the last window was not on disk in time: {late}"));
        }
        if self.writer_lost && self.late.is_none() {
            all.push("the writer failed: what it held is lost".into());
        }
        all.extend(self.health_error.iter().map(|why| format!("the report of drops: {why}")));
        if let Some(flows) = self.counters.skipped.get(&Skip::SourceFull) {
            all.push(format!(
                "one source alone made too many different observations: {} of it not looked at (a scan? narrow the run with --namespace)",
                count(*flows, "flow")
            ));
        }
        if let Some(flows) = self.counters.skipped.get(&Skip::PendingFull) {
            let flows = count(*flows, "flow");
            all.push(format!(
                "the table of pending needs was full: {flows} not kept (narrow the run with --namespace)"
            ));
        }
        if self.results.refused > 0 || self.counters.skipped.contains_key(&Skip::LedgerFull) {
            all.push(
                "the table of observations was full: not every need was seen (narrow the run with --namespace)"
                    .into(),
            );
        }
        all
    }

    /// Lines of captures that could not be read, by what is wrong with them.
    fn bad_lines(&self) -> Vec<(String, u64)> {
        let FeedEnd::Captures(report) = &self.end else { return Vec::new() };
        let mut bad: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, (count, _)) in report.inputs.iter().flat_map(|input| &input.bad) {
            *bad.entry(kind.as_str()).or_default() += count;
        }
        bad.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect()
    }

    fn drops(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counters;
        if !c.skipped.is_empty() {
            writeln!(f, "  no rule can come of")?;
            for (skip, n) in &c.skipped {
                writeln!(f, "    {:<47} {:>9}  {}", skip.as_str(), grouped(*n), skip.advice())?;
            }
        }
        if !c.dropped.is_empty() {
            let reported = |class| is_broken(class) || is_refusal(class);
            if c.dropped.keys().any(|(class, _)| !reported(*class)) {
                writeln!(f, "  dropped for other reasons")?;
            }
            for ((class, reason), n) in c.dropped.iter().filter(|((class, _), _)| !reported(*class)) {
                let (class, text) = (class.as_str(), why(*class, *reason));
                writeln!(f, "    {class:<14} {reason:<32} {:>9}  {text}", grouped(*n))?;
            }
        }
        for (name, n) in [
            ("DNS queries that passed", c.lookups),
            ("not dropped", c.not_dropped.values().sum::<u64>() + c.not_of_interest),
            ("left out by filters", c.filtered.values().sum()),
            ("other items", c.other_items),
            ("from before the start (counted above too)", c.history),
            ("came once more and were not counted again", c.repeated),
            ("messages that could not be decoded", c.undecodable),
            ("times connected again", c.reconnects),
            (
                "forgotten early: some flows may count twice",
                c.caps.get(&Cap::Repeated).copied().unwrap_or_default(),
            ),
        ] {
            if n > 0 {
                writeln!(f, "  {name:<49} {:>9}", grouped(n))?;
            }
        }
        for (source, n) in &c.lost {
            writeln!(
                f,
                "  lost by Hubble: {} ({}): flows among them were never seen",
                count(*n, "event"),
                lost_source_name(*source)
            )?;
        }
        if c.unknown.total() > 0 {
            let list: Vec<String> =
                c.unknown.iter().take(SHOWN).map(|(value, n)| format!("{value} × {}", grouped(n))).collect();
            writeln!(f, "  values this version does not know: {}", list.join(", "))?;
        }
        Ok(())
    }

    fn captures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FeedEnd::Captures(report) = &self.end else { return Ok(()) };
        for input in &report.inputs {
            for problem in &input.problems {
                writeln!(f, "  {}: {problem}", problem.kind.as_str())?;
            }
            for (kind, (lines, first)) in &input.bad {
                let (lines, what) = (count(*lines, "line"), kind.as_str());
                let (line, reason) = (first.line, &first.reason);
                writeln!(
                    f,
                    "  {}: {lines} could not be read ({what}), the first is line {line}: {reason}",
                    input.name
                )?;
            }
        }
        Ok(())
    }

    fn policies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.results;
        let counts = r.counts();
        if let Some(changes) = &self.changes {
            writeln!(
                f,
                "  dry run: nothing was written; {} would change. What follows is what would be",
                count(changes.len() as u64, "file")
            )?;
        }
        writeln!(
            f,
            "  policies: {} created, {} updated, {} unchanged, {} failed; {} added",
            grouped(counts.created),
            grouped(counts.updated),
            grouped(counts.unchanged),
            grouped(counts.failed),
            count(r.rules_added, "rule")
        )?;
        let written = r.policies.values().filter_map(|policy| match policy.change {
            Change::Created => Some(("created", policy)),
            Change::Updated => Some(("updated", policy)),
            Change::Pending | Change::Unchanged => None,
        });
        some(f, written, |f, (what, policy)| {
            let below = self.root.as_ref().and_then(|root| policy.path.strip_prefix(root).ok());
            let path = below.unwrap_or(&policy.path).display().to_string();
            writeln!(f, "    {what:<10} {}", visible(&path, 300))
        })?;
        if r.by_drop_only > 0 {
            writeln!(
                f,
                "  {} known from drop events only (no policy verdict came): their direction is inferred",
                count(r.by_drop_only, "need")
            )?;
        }
        some(f, r.already_allowed.iter(), |f, (rule, flows)| {
            writeln!(f, "  {} already allowed by {rule}", count(*flows, "flow"))
        })?;
        some(f, r.allowed_in_cluster.iter(), |f, (rule, flows)| {
            writeln!(f, "  {} already allowed by {rule}", count(*flows, "flow"))
        })?;
        some(f, r.transient.iter(), |f, (rule, flows)| {
            writeln!(f, "  {} dropped although allowed by {rule}", count(*flows, "flow"))
        })?;
        some(f, r.cluster_notes.iter(), |f, note| writeln!(f, "  {note}"))?;
        some(f, r.denied.iter(), |f, (rule, flows)| {
            writeln!(f, "  {} denied by {rule}", count(*flows, "flow"))
        })?;
        some(f, r.overlooked.iter(), |f, (path, why)| {
            let path = visible(&path.display().to_string(), 300).into_owned();
            writeln!(f, "  {path} {}: what it allows is not known", visible(why, 300))
        })?;
        some(f, r.conflicts.iter(), |f, ((subject, rule), why)| {
            writeln!(f, "  conflict, not written: {subject}: {rule}: {why}")
        })?;
        self.held(f)?;
        self.requests(f)?;
        self.other_side(f)?;
        self.names(f)?;
        self.evidence(f)?;
        let notes = r.policies.values().filter_map(|p| p.note.as_ref().map(|note| (p, note)));
        some(f, notes, |f, (policy, note)| {
            writeln!(f, "  {}: {note}", visible(&policy.path.display().to_string(), 300))
        })?;
        some(f, self.also_selected.iter(), |f, (subject, others)| {
            let one: Vec<String> = others
                .iter()
                .take(1)
                .flat_map(|i| i.labels.iter().map(|l| visible(&l.to_string(), 80).into_owned()))
                .collect();
            writeln!(
                f,
                "  {subject} also selects {} with other labels (for example {}): they get its rules and its default deny",
                count(others.len() as u64, "seen workload"),
                one.join(",")
            )
        })
    }

    fn evidence(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let r = &self.results.recorded;
        if !r.again.is_empty() {
            let rules = count(r.again.len() as u64, "rule");
            writeln!(f, "  {rules} that somebody had removed came again and were written again:")?;
        }
        some(f, r.again.iter(), |f, ((subject, rule), times)| {
            let often = if *times > 1 { format!(", {times} times") } else { String::new() };
            writeln!(f, "    {subject}: {rule}{often}")
        })?;
        if let Some(why) = &r.error {
            let files = count(r.failed, "policy file");
            writeln!(f, "  the evidence of {files} was not written, the first: {}", visible(why, 1_000))?;
        }
        if r.left_out > 0 {
            writeln!(f, "  the evidence of {} had no room", count(r.left_out, "rule"))?;
        }
        Ok(())
    }

    fn namespaces(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.nothing_matched() {
            return Ok(());
        }
        let known = self.namespaces_of_relay.as_ref().unwrap_or(&self.counters.namespaces);
        let list: Vec<&str> = known.iter().take(50).map(Namespace::as_str).collect();
        let seen = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
        let asked = match &self.namespaces_asked {
            Namespaces::All => String::new(),
            Namespaces::Only(set) => {
                format!(" in {}", set.iter().map(Namespace::as_str).collect::<Vec<_>>().join(", "))
            }
        };
        let what = if self.only_drops() { "drop" } else { "flow" };
        writeln!(f, "  no {what}{asked} asked for a rule; namespaces seen: {seen}")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counters;
        writeln!(
            f,
            "cpg: {} in {:.1} s, {} of them {}",
            count(c.flows(), "flow"),
            self.elapsed.as_secs_f64(),
            grouped(c.needs),
            if self.only_drops() { "dropped for want of a rule" } else { "in want of a rule" }
        )?;
        self.drops(f)?;
        self.captures(f)?;
        if let Some(coverage) = &self.coverage {
            watched::lines(coverage, f)?;
        }
        if let Some(learning) = &self.learning {
            write!(f, "{learning}")?;
        }
        self.namespaces(f)?;
        self.policies(f)?;
        self.health(f, "broken in the cluster: no policy helps", is_broken)?;
        self.health(f, "refused by configuration: no allow rule helps", is_refusal)?;
        for cap in c
            .caps
            .keys()
            .filter(|cap| matches!(cap, Cap::HealthPlaces | Cap::Namespaces | Cap::Nodes | Cap::Addresses))
        {
            writeln!(f, "  the table of {} was full: it is not complete", cap.as_str())?;
        }
        for why in self.unfinished() {
            writeln!(f, "  NOT DONE: {}", visible(&why, 1_000))?;
        }
        if let Some(path) = self.health_file.as_ref().filter(|_| !c.health.is_empty()) {
            writeln!(f, "  report of drops: {}", visible(&path.display().to_string(), 1000))?;
        }
        match &self.root {
            Some(root) => writeln!(f, "  output: {}", visible(&root.display().to_string(), 1000)),
            None => Ok(()),
        }
    }
}

/// The first few of a list, and how many more there are.
fn some<T>(
    f: &mut fmt::Formatter<'_>,
    all: impl Iterator<Item = T>,
    mut line: impl FnMut(&mut fmt::Formatter<'_>, T) -> fmt::Result,
) -> fmt::Result {
    let mut more = 0;
    for (i, one) in all.enumerate() {
        if i < SHOWN {
            line(f, one)?;
        } else {
            more += 1;
        }
    }
    if more > 0 { writeln!(f, "  … and {more} more like this") } else { Ok(()) }
}

/// The word for a verdict.
pub fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unknown => "unknown",
        Verdict::Forwarded => "forwarded",
        Verdict::Dropped => "dropped",
        Verdict::Error => "error",
        Verdict::Audit => "audit",
        Verdict::Redirected => "redirected",
        Verdict::Traced => "traced",
        Verdict::Translated => "translated",
    }
}

/// The word for a filter.
pub fn filter_name(filter: Filter) -> &'static str {
    match filter {
        Filter::Namespace => "namespace",
        Filter::Protocol => "protocol",
        Filter::DropReason => "drop_reason",
    }
}

/// The word for a place where events are lost.
pub fn lost_source_name(source: LostSource) -> &'static str {
    match source {
        LostSource::Unknown => "unknown place",
        LostSource::PerfEventRingBuffer => "PERF_EVENT_RING_BUFFER",
        LostSource::ObserverEventsQueue => "OBSERVER_EVENTS_QUEUE",
        LostSource::HubbleRingBuffer => "HUBBLE_RING_BUFFER",
    }
}

#[cfg(test)]
mod tests;
