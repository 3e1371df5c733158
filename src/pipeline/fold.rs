//! One worker's share of a window: items in, ledger and counters out.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashSet;

use super::{Counters, LEDGER_CAPACITY};
use crate::aggregate::{Ledger, observe};
use crate::classify::{Class, Filters, Outcome, Skip, classify, is_policy_verdict};
use crate::flow::{Endpoint, Flow};
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
        }
    }

    /// Folds one item in.
    pub fn item(&mut self, item: Item) {
        match item {
            Item::Flow(flow) => self.flow(&flow),
            Item::Lost(lost) => {
                let known = self.counters.lost.entry(lost.source).or_default();
                *known = known.saturating_add(lost.count);
                tracing::debug!(source = ?lost.source, events = lost.count, node = %lost.node, "Hubble lost events");
            }
            Item::NodeStatus(status) => {
                *self.counters.node_status.entry(status.state).or_default() += 1;
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

    /// The counters of what is not taken yet.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn flow(&mut self, flow: &Flow) {
        if is_policy_verdict(flow)
            && let Some(connection) = flow.connection()
        {
            self.ledger.note_verdict(connection);
        }
        let outcome = match classify(flow, &self.filters) {
            Outcome::Need { direction, proof } => match observe(flow, direction) {
                Ok(observation) => {
                    let room = self.ledger.fold(observation, flow, proof);
                    if room { Outcome::Need { direction, proof } } else { Outcome::Skipped(Skip::LedgerFull) }
                }
                Err(skip) => Outcome::Skipped(skip),
            },
            other => other,
        };
        self.counters.flow(flow, outcome);
        if tracing::enabled!(tracing::Level::DEBUG) {
            self.tell(flow, outcome);
        }
    }

    /// Logs each different unhandled flow once.
    fn tell(&mut self, flow: &Flow, outcome: Outcome) {
        let (reason, why) = match outcome {
            Outcome::Skipped(skip) => (skip.as_str(), skip.advice()),
            Outcome::Dropped(Class::Noise) => return,
            Outcome::Dropped(class) => (class.as_str(), crate::classify::why(class, flow.drop_reason)),
            Outcome::Need { .. } | Outcome::NotDropped(_) | Outcome::Filtered(_) => return,
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
