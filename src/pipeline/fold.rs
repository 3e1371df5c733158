//! One worker's share of a window: items in, ledger and counters out.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashSet;
use jiff::Timestamp;

use super::{Cap, Counters, LEDGER_CAPACITY, Vitals};
use crate::aggregate::{Ledger, Lookup, Room, observe};
use crate::classify::{
    Class, Ends, Filters, Outcome, Proof, Skip, classify, is_denied_in_audit, is_policy_verdict, why,
};
use crate::flow::{Direction, DropReason, Endpoint, Flow};
use crate::health::{is_broken, is_reported, remedy};
use crate::source::{Item, NodeState};
use crate::text::visible;

/// Unhandled flows that are told apart for the debug log.
const TOLD: usize = 10_000;

/// Folds items into a ledger and counters, which the keeper takes at each tick.
#[derive(Debug)]
pub struct Fold {
    filters: Arc<Filters>,
    ledger: Ledger,
    counters: Counters,
    told: HashSet<u64>,
    common: Arc<Common>,
    /// Reasons that this fold has looked up in it already.
    sighted: BTreeSet<DropReason>,
}

/// What all folds of a run share.
#[derive(Debug, Default)]
pub struct Common {
    /// Flows before this moment are history: they make rules, but do not speak of the cluster as it is.
    /// `None`: there is no history.
    pub start: Option<Timestamp>,
    /// The numbers of the run.
    pub vitals: Arc<Vitals>,
    /// Reasons that were warned of.
    sights: Mutex<BTreeSet<DropReason>>,
}

// === impl Common ===

impl Common {
    /// Flows before `start` are history.
    pub fn since(start: Option<Timestamp>) -> Self {
        Self { start, ..Self::default() }
    }

    /// A flow without a time is none of history: better a drop too many than one that nobody heard of.
    fn is_new(&self, flow: &Flow) -> bool {
        self.start.zip(flow.time).is_none_or(|(start, time)| time >= start)
    }

    /// Whether nobody has seen this reason before.
    fn is_first(&self, reason: DropReason) -> bool {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner).insert(reason)
    }
}

// === impl Fold ===

impl Fold {
    /// An empty fold with these filters.
    pub fn new(filters: Arc<Filters>) -> Self {
        Self {
            filters,
            ledger: Ledger::new(LEDGER_CAPACITY),
            counters: Counters::default(),
            told: HashSet::new(),
            common: Arc::default(),
            sighted: BTreeSet::new(),
        }
    }

    /// One of several folds of a run.
    #[must_use]
    pub fn sharing(self, common: Arc<Common>) -> Self {
        Self { common, ..self }
    }

    /// The numbers of the run, for what a feed knows of them.
    pub fn vitals(&self) -> Arc<Vitals> {
        Arc::clone(&self.common.vitals)
    }

    /// Folds one item in.
    pub fn item(&mut self, item: Item) {
        match item {
            Item::Flow(flow) => self.flow(&flow),
            Item::Lost(lost) => {
                tracing::debug!(source = ?lost.source, events = lost.count, node = %lost.node, "Hubble lost events");
                self.counters.lost(lost.source, lost.node, lost.count);
            }
            Item::NodeStatus(status) => {
                *self.counters.node_status.entry(status.state).or_default() += 1;
                self.common.vitals.node_status(&status);
                let nodes: Vec<&str> = status.nodes.iter().take(10).map(|n| n.as_str()).collect();
                let nodes = nodes.join(", ");
                match status.state {
                    NodeState::Error | NodeState::Unavailable => {
                        tracing::warn!(nodes, message = %status.message, state = ?status.state,
                            "the relay does not reach every node: their flows are missing");
                    }
                    _ => tracing::info!(nodes, count = status.nodes.len(), state = ?status.state, "nodes"),
                }
            }
            Item::Undecodable => self.counters.undecodable += 1,
            Item::Other => self.counters.other_items += 1,
        }
    }

    /// Counts lines that were passed over unread.
    pub fn not_of_interest(&mut self, lines: u64) {
        self.counters.not_of_interest += lines;
    }

    /// Takes what was folded so far; the next window begins empty.
    pub fn take(&mut self) -> (Ledger, Counters) {
        (
            std::mem::replace(&mut self.ledger, Ledger::new(LEDGER_CAPACITY)),
            std::mem::take(&mut self.counters),
        )
    }

    /// The counters of what is not taken yet, and the number of its observations.
    pub(super) fn open(&self) -> (Counters, usize) {
        (self.counters.clone(), self.ledger.len())
    }

    /// The counters of what is not taken yet.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Counts a flow by its verdict, whatever that is, and makes nothing of it.
    pub(super) fn only_count(&mut self, flow: &Flow) {
        self.common.vitals.flow();
        self.counters.flow(flow, Outcome::NotDropped(flow.verdict));
    }

    /// Folds one flow in.
    pub(super) fn flow(&mut self, flow: &Flow) {
        self.common.vitals.flow();
        self.counters.history += if self.common.is_new(flow) { 0 } else { flow.count };
        if is_policy_verdict(flow)
            && let Some(connection) = flow.connection()
        {
            self.ledger.note_verdict(connection);
        }
        if self.filters.interest.audit
            && is_denied_in_audit(flow)
            && let Some(connection) = flow.connection()
        {
            self.ledger.note_audit_denied(connection);
        }
        let outcome = match classify(flow, &self.filters) {
            need @ Outcome::Need { direction, proof } => match self.need(flow, direction, proof) {
                Ok(()) => need,
                Err(skip) => Outcome::Skipped(skip),
            },
            Outcome::Passed(ends) => self.passed(flow, ends),
            other => other,
        };
        if matches!(outcome, Outcome::Need { .. } | Outcome::Skipped(_) | Outcome::Dropped(_)) {
            self.ledger.note_addresses(flow);
        }
        self.look_up(flow, outcome);
        self.counters.flow(flow, outcome);
        if let Outcome::Dropped(class) = outcome
            && is_reported(class)
        {
            self.report(class, flow);
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            self.tell(flow, outcome);
        }
    }

    /// Folds in the observation that a flow makes.
    fn need(&mut self, flow: &Flow, direction: Direction, proof: Proof) -> Result<(), Skip> {
        let observation = observe(flow, direction)?.asking(flow);
        let observation = if self.filters.interest.dns { observation.named(flow) } else { observation };
        let (skip, cap) = match self.ledger.fold(observation, flow, proof) {
            Room::Found => return Ok(()),
            Room::Full => (Skip::LedgerFull, Cap::Ledger),
            Room::ShareUsed => (Skip::SourceFull, Cap::Source),
        };
        self.counters.cap(cap, 1);
        Err(skip)
    }

    /// Folds in what the ends of a connection need. The flow is counted for the first of them that can have
    /// it.
    fn passed(&mut self, flow: &Flow, ends: Ends) -> Outcome {
        let mut proof = Proof::Trace;
        let mut why = None;
        let asked = [(ends.egress, Direction::Egress), (ends.ingress, Direction::Ingress)];
        for (_, direction) in asked.into_iter().filter(|(needs, _)| *needs) {
            match self.need(flow, direction, proof) {
                Ok(()) => proof = Proof::OtherEnd,
                Err(skip) => why = why.or(Some(skip)),
            }
        }
        match why {
            Some(skip) if proof == Proof::Trace => Outcome::Skipped(skip),
            _ => Outcome::Passed(ends),
        }
    }

    /// Takes down a DNS query.
    fn look_up(&mut self, flow: &Flow, outcome: Outcome) {
        if !matches!(outcome, Outcome::Lookup | Outcome::Skipped(Skip::DnsRefused)) {
            return;
        }
        let Some(lookup) = Lookup::of(flow) else { return };
        let has_room = match outcome {
            Outcome::Lookup => self.ledger.note_lookup(lookup, flow),
            _ => self.ledger.note_refused(lookup, flow),
        };
        if !has_room {
            self.counters.cap(Cap::Lookups, 1);
        }
    }

    /// Counts a drop that no rule helps at its place, and warns of a reason that nobody has seen yet.
    fn report(&mut self, class: Class, flow: &Flow) {
        let is_new = self.common.is_new(flow);
        if !Arc::make_mut(&mut self.counters.health).fold(class, flow, is_new) {
            self.counters.cap(Cap::HealthPlaces, 1);
        }
        let reason = flow.drop_reason;
        if !is_broken(class) || !self.sighted.insert(reason) || !self.common.is_first(reason) {
            return;
        }
        let help = remedy(class, reason);
        tracing::warn!(
            reason = %reason, class = class.as_str(), node = %flow.node, page = help.page(),
            "drops that no policy helps: {}. What helps: {}", why(class, reason), help.text
        );
    }

    /// Logs each different unhandled flow once.
    fn tell(&mut self, flow: &Flow, outcome: Outcome) {
        let (reason, why) = match outcome {
            Outcome::Skipped(skip) => (skip.as_str(), skip.advice()),
            Outcome::Dropped(Class::Noise) => return,
            Outcome::Dropped(class) => (class.as_str(), why(class, flow.drop_reason)),
            Outcome::Need { .. }
            | Outcome::Passed(_)
            | Outcome::Lookup
            | Outcome::NotDropped(_)
            | Outcome::Filtered(_) => return,
        };
        let mut hasher = DefaultHasher::new();
        let (source, destination) = (side(flow.source.as_deref()), side(flow.destination.as_deref()));
        let port = match flow.l4 {
            crate::flow::L4::Tcp { destination, .. }
            | crate::flow::L4::Udp { destination, .. }
            | crate::flow::L4::Sctp { destination, .. } => u32::from(destination),
            crate::flow::L4::Icmp { kind, .. } => u32::from(kind) | 0x1_0000,
            crate::flow::L4::Absent | crate::flow::L4::Unknown => 0x2_0000,
        };
        (reason, flow.drop_reason, &source, &destination, port).hash(&mut hasher);
        if self.told.len() < TOLD && self.told.insert(hasher.finish()) {
            tracing::debug!(
                reason, why, source, destination, l4 = ?flow.l4, drop_reason = %flow.drop_reason,
                direction = flow.direction.map_or("unknown", |d| d.as_str()),
                denied_by = ?flow.denied_by, node = %flow.node, "no rule from this flow"
            );
        }
    }
}

/// An endpoint in a few words.
fn side(endpoint: Option<&Endpoint>) -> String {
    let Some(endpoint) = endpoint else { return "nobody".to_owned() };
    match (&endpoint.identity.namespace, &endpoint.pod) {
        (Some(namespace), Some(pod)) => format!("{namespace}/{}", visible(pod, 100)),
        _ => {
            let labels: Vec<String> = endpoint
                .identity
                .labels
                .iter()
                .take(4)
                .map(|l| visible(&l.to_string(), 100).into_owned())
                .collect();
            if labels.is_empty() { format!("identity {}", endpoint.number) } else { labels.join(",") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::decode::Decoder;
    use crate::source::json::read_line;

    fn denied(app: &str, port: u32, decoder: &mut Decoder) -> Item {
        let pod = |app: &str| {
            format!(
                r#"{{"identity":300,"namespace":"shop","labels":["k8s:app={app}","k8s:io.kubernetes.pod.namespace=shop"]}}"#
            )
        };
        let line = format!(
            r#"{{"flow":{{"verdict":"DROPPED","drop_reason_desc":"POLICY_DENIED","event_type":{{"type":5}},"traffic_direction":"EGRESS",
            "IP":{{"source":"10.0.0.1","destination":"10.0.0.2"}},"source":{},"destination":{},
            "l4":{{"TCP":{{"source_port":40000,"destination_port":{},"flags":{{"SYN":true}}}}}}}},"node_name":"n1"}}"#,
            pod(app),
            pod(&format!("t{}", port / 60_000)),
            1 + port % 60_000
        );
        read_line(line.replace('\n', "").as_bytes(), decoder).unwrap()
    }

    #[test]
    fn a_scanner_takes_its_share_and_the_others_are_still_learned() {
        let share = LEDGER_CAPACITY / 4;
        let (mut fold, mut decoder) = (Fold::new(Arc::default()), Decoder::new());
        for port in 0..share as u32 + 100 {
            fold.item(denied("scan", port, &mut decoder));
        }
        fold.item(denied("web", 80, &mut decoder));
        let (ledger, counters) = fold.take();
        assert_eq!(ledger.len(), share + 1);
        assert_eq!(counters.skipped.get(&Skip::SourceFull), Some(&100));
        assert_eq!(counters.caps.get(&Cap::Source), Some(&100));
        assert_eq!(counters.needs as usize, share + 1);
    }
}
