//! What is kept of all the flows that made one observation.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Smallest;
use crate::classify::Proof;
use crate::flow::{Connection, Flow};
use crate::names::{DnsName, NodeName};

/// Connections per observation that are told apart exactly.
pub const CONNECTIONS: usize = 64;
/// Node names kept per observation; the smallest by name stay.
pub const NODES: usize = 32;
/// Sample flows kept per observation.
pub const SAMPLES: usize = 10;

/// The sum of the flows of one observation. Counts add up when tallies are joined, everything else
/// is united, so the order of joins makes no difference.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// Policy-verdict events.
    pub verdict_events: u64,
    /// Drop events (and events whose kind a mask left out).
    pub drop_events: u64,
    /// Policy-verdict events of audit mode.
    pub audit_events: u64,
    /// Policy-verdict events of connections that passed.
    pub allowed_events: u64,
    /// Traces of connections that passed: several of each packet.
    pub traces: u64,
    /// Traces that are counted for the other end of their connection.
    pub traces_of_other_end: u64,
    /// The earliest flow's time, by its node's clock.
    pub first: Option<Timestamp>,
    /// The latest flow's time, by its node's clock.
    pub last: Option<Timestamp>,
    /// The nodes that reported it.
    pub nodes: BTreeSet<NodeName>,
    /// The different connections.
    pub connections: Smallest<CONNECTIONS>,
    /// For the smallest connections the earliest flow of each, by connection.
    pub samples: Vec<(Connection, Sample)>,
    /// It stood in a closed window already, known from drop events only.
    pub(super) waited: bool,
    /// It was decided that it stands; it is here again because its file could not be written.
    pub(super) stands: bool,
}

/// One flow to show as an example. The smallest by time, node and uuid stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample {
    /// When the node saw it.
    pub time: Option<Timestamp>,
    /// The node that reported it.
    pub node: NodeName,
    /// Hubble's id of the flow on that node.
    pub uuid: Box<str>,
    /// The sending pod or address.
    pub source: Box<str>,
    /// The receiving pod or address.
    pub destination: Box<str>,
}

// === impl Tally ===

impl Tally {
    /// Packets, at least: a denied packet makes a verdict event and a drop event; of what only traces told,
    /// each connection counts as one.
    pub fn packets(&self) -> u64 {
        let verdicts = self.verdict_events + self.audit_events + self.allowed_events;
        let traced = self.connections.count().min(self.traces + self.traces_of_other_end);
        verdicts.max(self.drop_events).max(traced)
    }

    /// Flows that are counted for it.
    pub fn events(&self) -> u64 {
        self.verdict_events + self.drop_events + self.audit_events + self.allowed_events + self.traces
    }

    /// Flows that told of it, also those that are counted for another observation.
    pub fn flows(&self) -> u64 {
        self.events() + self.traces_of_other_end
    }

    /// Whether some of it passed without audit mode.
    pub fn passed(&self) -> bool {
        self.allowed_events + self.traces + self.traces_of_other_end > 0
    }

    /// How sure the direction is.
    pub fn proof(&self) -> Proof {
        match self {
            _ if self.verdict_events > 0 => Proof::Verdict,
            _ if self.audit_events > 0 => Proof::Audit,
            _ if self.allowed_events > 0 => Proof::Allowed,
            _ if self.passed() => Proof::Trace,
            _ => Proof::Drop,
        }
    }

    /// What an earlier run saw of an observation that is not written yet: who made connections, and when. Its
    /// events are in that run's counters.
    pub fn carried(
        connections: impl IntoIterator<Item = u64>,
        first: Option<Timestamp>,
        last: Option<Timestamp>,
        nodes: impl IntoIterator<Item = NodeName>,
    ) -> Self {
        let mut tally = Self { first, last, stands: true, ..Self::default() };
        connections.into_iter().for_each(|hash| {
            tally.connections.insert(hash);
        });
        tally.nodes.extend(nodes);
        tally.cut_nodes();
        tally
    }

    /// Folds one flow in.
    pub(super) fn fold(&mut self, flow: &Flow, proof: Proof, connection: Option<Connection>) {
        self.fold_sampled(flow, proof, connection, SAMPLES);
    }

    /// The same with so many samples at most.
    pub(super) fn fold_sampled(
        &mut self,
        flow: &Flow,
        proof: Proof,
        connection: Option<Connection>,
        samples: usize,
    ) {
        match proof {
            Proof::Verdict => self.verdict_events += flow.count,
            Proof::Drop => self.drop_events += flow.count,
            Proof::Audit => self.audit_events += flow.count,
            Proof::Allowed => self.allowed_events += flow.count,
            Proof::Trace => self.traces += flow.count,
            Proof::OtherEnd => self.traces_of_other_end += flow.count,
        }
        self.first = earliest(self.first, flow.time);
        self.last = self.last.max(flow.time);
        if !self.nodes.contains(&flow.node) {
            self.nodes.insert(flow.node.clone());
            self.cut_nodes();
        }
        if let Some(connection) = connection {
            self.connections.insert(connection.0);
            self.sample(connection, flow, samples);
        }
    }

    /// Joins another tally of the same observation.
    pub fn join(&mut self, other: Self) {
        self.join_sampled(other, SAMPLES);
    }

    /// The same with so many samples at most.
    pub(super) fn join_sampled(&mut self, other: Self, most: usize) {
        let Self {
            verdict_events,
            drop_events,
            audit_events,
            allowed_events,
            traces,
            traces_of_other_end,
            first,
            last,
            nodes,
            connections,
            samples,
            waited,
            stands,
        } = other;
        self.verdict_events += verdict_events;
        self.drop_events += drop_events;
        self.audit_events += audit_events;
        self.allowed_events += allowed_events;
        self.traces += traces;
        self.traces_of_other_end += traces_of_other_end;
        self.first = earliest(self.first, first);
        self.last = self.last.max(last);
        self.nodes.extend(nodes);
        self.cut_nodes();
        self.connections.join(&connections);
        join_samples(&mut self.samples, samples, most);
        self.waited |= waited;
        self.stands |= stands;
    }

    /// Keeps the flow as a sample where its connection is among the smallest; builds the texts only
    /// then.
    fn sample(&mut self, connection: Connection, flow: &Flow, most: usize) {
        match self.samples.binary_search_by_key(&connection, |(known, _)| *known) {
            Ok(at) => {
                let known = &mut self.samples[at].1;
                if (flow.time, &flow.node, &flow.uuid) < (known.time, &known.node, &known.uuid) {
                    *known = Sample::of(flow);
                }
            }
            Err(at) if at < most => {
                self.samples.insert(at, (connection, Sample::of(flow)));
                self.samples.truncate(most);
            }
            Err(_) => {}
        }
    }

    fn cut_nodes(&mut self) {
        while self.nodes.len() > NODES {
            self.nodes.pop_last();
        }
    }
}

/// Joins samples, each the earliest flow of its connection, sorted by connection; those of the smallest so
/// many connections stay.
pub fn join_samples(
    known: &mut Vec<(Connection, Sample)>,
    others: impl IntoIterator<Item = (Connection, Sample)>,
    most: usize,
) {
    for (connection, sample) in others {
        match known.binary_search_by_key(&connection, |(known, _)| *known) {
            Ok(at) if known[at].1 <= sample => {}
            Ok(at) => known[at].1 = sample,
            Err(at) => known.insert(at, (connection, sample)),
        }
    }
    known.truncate(most);
}

// === impl Sample ===

impl Sample {
    fn of(flow: &Flow) -> Self {
        let name = |endpoint: Option<&crate::flow::Endpoint>, address: Option<std::net::IpAddr>| {
            let pod = endpoint.and_then(|e| e.pod.as_deref().map(|pod| (pod, &e.identity.namespace)));
            match (pod, address) {
                (Some((pod, Some(namespace))), _) => {
                    format!("{namespace}/{}", crate::text::visible(pod, 253)).into()
                }
                (_, Some(address)) => address.to_string().into(),
                _ => "?".into(),
            }
        };
        Self {
            time: flow.time,
            node: flow.node.clone(),
            uuid: crate::text::visible(&flow.uuid, 64).into(),
            source: name(flow.source.as_deref(), flow.ip.map(|(from, _)| from)),
            destination: called(
                name(flow.destination.as_deref(), flow.ip.map(|(_, to)| to)),
                &flow.destination_names,
            ),
        }
    }
}

/// What it is called by, with the names that it was looked up by: an address can have several.
fn called(what: Box<str>, names: &[DnsName]) -> Box<str> {
    const SHOWN: usize = 4;
    if names.is_empty() {
        return what;
    }
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names: Vec<&str> = names.iter().take(SHOWN).map(DnsName::as_str).collect();
    format!("{what} ({}{more})", names.join(", ")).into()
}

/// The earlier of two times, where one may be unknown.
pub(super) fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
