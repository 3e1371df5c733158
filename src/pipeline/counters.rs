//! Where every flow, line and event ended: each in exactly one counter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::classify::{Class, Filter, Outcome, Skip};
use crate::flow::{DropReason, Flow, L7, L7Record, Verdict};
use crate::health::Health;
use crate::names::{Namespace, NodeName};
use crate::source::unknown::UnknownValues;
use crate::source::{LostSource, NodeState};

/// Namespaces remembered to tell the user what there was.
const NAMESPACES: usize = 1_000;
/// Nodes whose lost events are told apart; those of others are counted under no name.
const NODES: usize = 10_000;

/// The counters of a run, or of a part of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counters {
    /// Flows that became part of an observation. Those of observations that no rule could be made
    /// for are moved to `skipped` when that shows.
    pub needs: u64,
    /// Flows in `needs` and `skipped` that were not dropped: audit mode let them pass, or they were learned
    /// from.
    pub passed: u64,
    /// The earliest and the latest time of a flow that was read.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Flows of policy drops that no rule can come of.
    pub skipped: BTreeMap<Skip, u64>,
    /// Flows dropped for another reason.
    pub dropped: BTreeMap<(Class, DropReason), u64>,
    /// DNS queries that the proxy let pass.
    pub lookups: u64,
    /// Flows that were not dropped, and no such query.
    pub not_dropped: BTreeMap<Verdict, u64>,
    /// Flows that the user's filters took out.
    pub filtered: BTreeMap<Filter, u64>,
    /// Lines of a capture that could not matter and were not parsed.
    pub not_of_interest: u64,
    /// Events that Hubble lost, by where.
    pub lost: BTreeMap<LostSource, u64>,
    /// The same events by where and by the node that lost them.
    pub lost_by_node: BTreeMap<(LostSource, NodeName), u64>,
    /// Flows that came once more, after a reconnect or from a node that the relay found again. They are in no
    /// other counter, nor in [`Counters::flows`].
    pub repeated: u64,
    /// Flows, counted elsewhere, that were dropped before the start of the run.
    pub history: u64,
    /// Messages that could not be decoded; some may have been flows.
    pub undecodable: u64,
    /// Times that a connection was made again.
    pub reconnects: u64,
    /// Times that another stream took over, as planned or since the one before did not hear every node.
    pub rotations: u64,
    /// Node status events of the relay.
    pub node_status: BTreeMap<NodeState, u64>,
    /// Items that are no flow and not counted above.
    pub other_items: u64,
    /// Values inside of flows that this version does not know.
    pub unknown: UnknownValues,
    /// Records of HTTP requests and answers, which are counted elsewhere too.
    pub http_records: u64,
    /// Namespaces of the flows that were seen, filtered or not; at most 1,000 are kept.
    pub namespaces: BTreeSet<Namespace>,
    /// Drops that no rule helps, with their places. Shared, because it can be large and seldom changes.
    pub health: Arc<Health>,
    /// How often a table had no room, by table.
    pub caps: BTreeMap<Cap, u64>,
}

/// Tables whose room is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cap {
    /// The observations of a window.
    Ledger,
    /// The part of them that one source may have.
    Source,
    /// The places of a drop reason in the report of drops.
    HealthPlaces,
    /// The namespaces that were seen.
    Namespaces,
    /// The flows that came already: some may count twice.
    Repeated,
    /// The gaps: some that are told are longer than they were.
    Gaps,
    /// The nodes that are watched: those beyond are in no number of what was watched.
    Nodes,
    /// The needs that are pending.
    Pending,
    /// The addresses of pods: a false identity may be taken for a true one.
    Addresses,
    /// The resolvers and the names that DNS queries ask for.
    Lookups,
}

// === impl Cap ===

impl Cap {
    /// Every table.
    pub const ALL: [Self; 10] = [
        Self::Ledger,
        Self::Source,
        Self::HealthPlaces,
        Self::Namespaces,
        Self::Repeated,
        Self::Gaps,
        Self::Nodes,
        Self::Pending,
        Self::Addresses,
        Self::Lookups,
    ];

    /// The word for summaries and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Source => "source_share",
            Self::HealthPlaces => "health_places",
            Self::Namespaces => "namespaces",
            Self::Repeated => "repeated_flows",
            Self::Gaps => "gaps",
            Self::Nodes => "nodes",
            Self::Pending => "pending",
            Self::Addresses => "addresses",
            Self::Lookups => "dns_lookups",
        }
    }
}

// === impl Counters ===

impl Counters {
    /// Counts one flow, as many times as it stands for.
    pub(super) fn flow(&mut self, flow: &Flow, outcome: Outcome) {
        if let Some(time) = flow.time {
            self.span = union(self.span, Some((time, time)));
        }
        let may_be_rule = matches!(outcome, Outcome::Need { .. } | Outcome::Passed(_) | Outcome::Skipped(_));
        if may_be_rule && flow.verdict != Verdict::Dropped {
            self.passed += flow.count;
        }
        match outcome {
            Outcome::Need { .. } | Outcome::Passed(_) => self.needs += flow.count,
            Outcome::Skipped(skip) => *self.skipped.entry(skip).or_default() += flow.count,
            Outcome::Dropped(class) => {
                *self.dropped.entry((class, flow.drop_reason)).or_default() += flow.count
            }
            Outcome::Lookup => self.lookups += flow.count,
            Outcome::NotDropped(verdict) => *self.not_dropped.entry(verdict).or_default() += flow.count,
            Outcome::Filtered(filter) => *self.filtered.entry(filter).or_default() += flow.count,
        }
        let http = |l7: &L7| matches!(l7.record, L7Record::Http { .. });
        if flow.l7.as_deref().is_some_and(http) {
            self.http_records += flow.count;
        }
        for endpoint in [&flow.source, &flow.destination].into_iter().flatten() {
            if let Some(namespace) = &endpoint.identity.namespace
                && !self.namespaces.contains(namespace)
            {
                if self.namespaces.len() < NAMESPACES {
                    self.namespaces.insert(namespace.clone());
                } else {
                    self.cap(Cap::Namespaces, 1);
                }
            }
        }
    }

    /// Counts events that Hubble lost.
    pub(super) fn lost(&mut self, source: LostSource, node: NodeName, events: u64) {
        let known = self.lost.entry(source).or_default();
        *known = known.saturating_add(events);
        self.add_lost(source, node, events);
    }

    fn add_lost(&mut self, source: LostSource, node: NodeName, events: u64) {
        let full =
            self.lost_by_node.len() >= NODES && !self.lost_by_node.contains_key(&(source, node.clone()));
        let node = if full { NodeName::default() } else { node };
        let known = self.lost_by_node.entry((source, node)).or_default();
        *known = known.saturating_add(events);
    }

    /// A table that counts by itself had no room so many times until now.
    pub(super) fn cap_is_at(&mut self, cap: Cap, times: u64) {
        if times > 0 {
            self.caps.insert(cap, times);
        }
    }

    /// Counts that a table had no room.
    pub(super) fn cap(&mut self, cap: Cap, times: u64) {
        *self.caps.entry(cap).or_default() += times;
    }

    /// Moves flows from `needs` to a reason: it showed later that nothing can come of them.
    pub(super) fn move_to_skipped(&mut self, skip: Skip, flows: u64) {
        if flows == 0 {
            return;
        }
        self.needs = self.needs.saturating_sub(flows);
        *self.skipped.entry(skip).or_default() += flows;
        match skip {
            Skip::LedgerFull => self.cap(Cap::Ledger, flows),
            Skip::PendingFull => self.cap(Cap::Pending, flows),
            _ => {}
        }
    }

    /// Adds another part's counters.
    pub fn join(&mut self, other: Self) {
        let Self {
            needs,
            passed,
            span,
            skipped,
            dropped,
            lookups,
            not_dropped,
            filtered,
            not_of_interest,
            lost,
            lost_by_node,
            repeated,
            history,
            undecodable,
            reconnects,
            rotations,
            node_status,
            other_items,
            unknown,
            http_records,
            namespaces,
            health,
            caps,
        } = other;
        self.needs += needs;
        self.http_records += http_records;
        self.passed += passed;
        self.span = union(self.span, span);
        add(&mut self.skipped, skipped);
        add(&mut self.dropped, dropped);
        self.lookups += lookups;
        add(&mut self.not_dropped, not_dropped);
        add(&mut self.filtered, filtered);
        self.not_of_interest += not_of_interest;
        add(&mut self.lost, lost);
        for ((source, node), events) in lost_by_node {
            self.add_lost(source, node, events);
        }
        self.repeated += repeated;
        self.history += history;
        self.undecodable += undecodable;
        self.reconnects += reconnects;
        self.rotations += rotations;
        add(&mut self.node_status, node_status);
        self.other_items += other_items;
        self.unknown.merge(unknown);
        add(&mut self.caps, caps);
        if !health.is_empty() {
            let before = self.health.beyond() + health.beyond();
            let ours = Arc::make_mut(&mut self.health);
            ours.join(&health);
            let refused = ours.beyond() - before;
            if refused > 0 {
                self.cap(Cap::HealthPlaces, refused);
            }
        }
        self.namespaces.extend(namespaces);
        while self.namespaces.len() > NAMESPACES {
            self.namespaces.pop_last();
        }
    }

    /// All flows: the sum of every place where one can end.
    pub fn flows(&self) -> u64 {
        self.needs
            + sum(&self.skipped)
            + sum(&self.dropped)
            + self.lookups
            + sum(&self.not_dropped)
            + sum(&self.filtered)
            + self.not_of_interest
    }

    /// Drops that infrastructure caused.
    pub fn infrastructure_drops(&self) -> u64 {
        self.class(Class::Infrastructure)
    }

    /// Events that Hubble lost, wherever.
    pub fn lost_events(&self) -> u64 {
        sum(&self.lost)
    }

    /// Flows that default deny dropped, whatever became of them. Never goes down.
    pub fn policy_drops(&self) -> u64 {
        self.needs + sum(&self.skipped) - self.passed
    }

    /// Drops of one class.
    pub fn class(&self, class: Class) -> u64 {
        self.dropped.iter().filter(|((c, _), _)| *c == class).map(|(_, n)| n).sum()
    }

    /// Drops that no rule came of and that nobody asked to ignore.
    pub fn unhandled(&self) -> u64 {
        sum(&self.skipped) + sum(&self.dropped) - self.class(Class::Noise)
    }
}

fn union(
    a: Option<(Timestamp, Timestamp)>,
    b: Option<(Timestamp, Timestamp)>,
) -> Option<(Timestamp, Timestamp)> {
    match (a, b) {
        (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
        (a, b) => a.or(b),
    }
}

fn add<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        let known = into.entry(key).or_default();
        *known = known.saturating_add(count);
    }
}

fn sum<K>(map: &BTreeMap<K, u64>) -> u64 {
    map.values().sum()
}
