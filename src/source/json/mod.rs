//! One line of a capture → [`Item`]: what `hubble observe -o json` and the exporter of the agent
//! write, and what other writers make of it.
//!
//! Taken: `{"flow":{..},"node_name":..,"time":..}`; a flow without envelope (Hubble's CLI up to 0.10);
//! `node_status`, `lost_events`; `agent_event` and `debug_event` as [`Item::Other`]. Names as in the
//! proto or in camelCase, enums as names or numbers, numbers also as strings, `null` for absent;
//! unknown fields are passed over. [`read`] also takes what others make of such a line (`odd`): text
//! before it, several on one line, a list of them, the record of a log collector around it.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::decode::{self, Decoder};
use super::proto::{flow as wire, relay};
use super::unknown::UnknownKind;
use super::{Item, LostEvents, NodeStatus};
use crate::flow::{DropReason, Endpoint, Flow, IcmpFamily, L4, TcpFlags, Verdict};

mod error;
mod l7;
mod odd;
mod values;

pub use error::{BadKind, LineError};
use odd::Aggregate;
pub use odd::read;
use values::{Enum, Flag, Int, Text, Time};

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    flow: Option<LineFlow<'a>>,
    #[serde(borrow, default, alias = "lostEvents")]
    lost_events: Option<LineLost<'a>>,
    #[serde(borrow, default, alias = "nodeStatus")]
    node_status: Option<LineNodeStatus<'a>>,
    #[serde(default, alias = "agentEvent")]
    agent_event: Option<IgnoredAny>,
    #[serde(default, alias = "debugEvent")]
    debug_event: Option<IgnoredAny>,
    #[serde(borrow, default, alias = "nodeName")]
    node_name: Text<'a>,
    // These tell a flow without envelope.
    #[serde(default)]
    verdict: Option<IgnoredAny>,
    #[serde(default, rename = "IP", alias = "ip")]
    ip: Option<IgnoredAny>,
    #[serde(default)]
    l4: Option<IgnoredAny>,
    #[serde(borrow, default)]
    source: Option<&'a RawValue>,
    #[serde(borrow, default)]
    destination: Option<&'a RawValue>,
    // These wrap: what a log collector keeps of a line, and a list of flows.
    #[serde(borrow, default)]
    log: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "MESSAGE")]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    flows: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct LineFlow<'a> {
    #[serde(borrow, default)]
    time: Time<'a>,
    #[serde(borrow, default)]
    uuid: Text<'a>,
    #[serde(borrow, default)]
    verdict: Enum<'a>,
    #[serde(borrow, default, alias = "dropReason")]
    drop_reason: Enum<'a>,
    #[serde(borrow, default, rename = "IP", alias = "ip")]
    ip: Option<LineIp<'a>>,
    #[serde(default)]
    l4: Option<LineL4>,
    #[serde(borrow, default)]
    source: Option<&'a RawValue>,
    #[serde(borrow, default)]
    destination: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "nodeName")]
    node_name: Text<'a>,
    #[serde(default, alias = "eventType")]
    event_type: Option<LineEventType>,
    #[serde(borrow, default, alias = "trafficDirection")]
    traffic_direction: Enum<'a>,
    #[serde(borrow, default, alias = "dropReasonDesc")]
    drop_reason_desc: Enum<'a>,
    #[serde(default, alias = "isReply")]
    is_reply: Flag,
    /// Until 2021; false stands for unknown too.
    #[serde(default)]
    reply: Flag,
    #[serde(borrow, default, rename = "Type")]
    kind: Option<&'a RawValue>,
    #[serde(default)]
    aggregate: Option<Aggregate>,
    #[serde(borrow, default, alias = "destinationNames")]
    destination_names: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    l7: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "egressDeniedBy")]
    egress_denied_by: Option<Vec<LinePolicy<'a>>>,
    #[serde(borrow, default, alias = "ingressDeniedBy")]
    ingress_denied_by: Option<Vec<LinePolicy<'a>>>,
}

#[derive(Deserialize)]
struct LineIp<'a> {
    #[serde(borrow, default)]
    source: Text<'a>,
    #[serde(borrow, default)]
    destination: Text<'a>,
}

#[derive(Deserialize)]
struct LineL4 {
    #[serde(default, rename = "TCP", alias = "tcp")]
    tcp: Option<LineTcp>,
    #[serde(default, rename = "UDP", alias = "udp")]
    udp: Option<LinePorts>,
    #[serde(default, rename = "SCTP", alias = "sctp")]
    sctp: Option<LinePorts>,
    #[serde(default, rename = "ICMPv4", alias = "icmpv4")]
    icmpv4: Option<LineIcmp>,
    #[serde(default, rename = "ICMPv6", alias = "icmpv6")]
    icmpv6: Option<LineIcmp>,
}

#[derive(Deserialize)]
struct LineTcp {
    #[serde(default, alias = "sourcePort")]
    source_port: Int,
    #[serde(default, alias = "destinationPort")]
    destination_port: Int,
    #[serde(default)]
    flags: Option<LineTcpFlags>,
}

#[derive(Deserialize)]
struct LineTcpFlags {
    #[serde(default, rename = "SYN", alias = "syn")]
    syn: Flag,
    #[serde(default, rename = "ACK", alias = "ack")]
    ack: Flag,
    #[serde(default, rename = "FIN", alias = "fin")]
    fin: Flag,
    #[serde(default, rename = "RST", alias = "rst")]
    rst: Flag,
}

#[derive(Deserialize)]
struct LinePorts {
    #[serde(default, alias = "sourcePort")]
    source_port: Int,
    #[serde(default, alias = "destinationPort")]
    destination_port: Int,
}

#[derive(Deserialize)]
struct LineIcmp {
    #[serde(default, rename = "type")]
    kind: Int,
    #[serde(default)]
    code: Int,
}

#[derive(Deserialize)]
struct LineEventType {
    #[serde(default, rename = "type")]
    kind: Int,
    #[serde(default, alias = "subType")]
    sub_type: Int,
}

#[derive(Deserialize)]
struct LinePolicy<'a> {
    #[serde(borrow, default)]
    kind: Text<'a>,
    #[serde(borrow, default)]
    namespace: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
}

#[derive(Deserialize)]
struct LineEndpoint<'a> {
    #[serde(default)]
    identity: Int,
    #[serde(borrow, default)]
    namespace: Text<'a>,
    #[serde(borrow, default)]
    labels: Option<Vec<Text<'a>>>,
    #[serde(borrow, default, alias = "podName")]
    pod_name: Text<'a>,
    #[serde(borrow, default, alias = "clusterName")]
    cluster_name: Text<'a>,
}

#[derive(Deserialize)]
struct LineLost<'a> {
    #[serde(borrow, default)]
    source: Enum<'a>,
    #[serde(default, alias = "numEventsLost")]
    num_events_lost: Int,
}

#[derive(Deserialize)]
struct LineNodeStatus<'a> {
    #[serde(borrow, default, alias = "stateChange")]
    state_change: Enum<'a>,
    #[serde(borrow, default, alias = "nodeNames")]
    node_names: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    message: Text<'a>,
}

/// What is in a line that is one object.
enum Held<'a> {
    /// One event.
    Item(Item),
    /// A flow that stands for several, not all of one direction.
    Several(Box<Flow>, Aggregate),
    /// The text or object that a log collector was given.
    Wrapped(&'a RawValue),
    /// A list of flows.
    Flows(&'a RawValue),
}

/// Reads one line (without its newline) that is one event.
pub fn read_line(line: &[u8], decoder: &mut Decoder) -> Result<Item, LineError> {
    match hold(utf8(line)?, decoder)? {
        Held::Item(item) => Ok(item),
        Held::Several(..) | Held::Wrapped(_) | Held::Flows(_) => {
            Err(LineError::of(BadKind::NotAnEvent, "it wraps other lines"))
        }
    }
}

/// Checked once for the whole line: faster than text by text, and the raw texts need it.
fn utf8(line: &[u8]) -> Result<&str, LineError> {
    std::str::from_utf8(line).map_err(|error| LineError {
        kind: BadKind::NotUtf8,
        reason: format!("it is not UTF-8 at byte {}", error.valid_up_to() + 1),
        unfinished: error.error_len().is_none(),
    })
}

/// What is in a text that begins with its object.
fn hold<'a>(line: &'a str, decoder: &mut Decoder) -> Result<Held<'a>, LineError> {
    // Serde would also take an array, value by value in the order of our fields.
    if !line.trim_ascii_start().starts_with('{') {
        return Err(LineError::of(BadKind::NotAnEvent, "it is no JSON object: it does not begin with {"));
    }
    let read: Line<'_> = serde_json::from_str(line).map_err(|error| LineError::from_json(&error))?;
    if let Some(flow) = read.flow {
        return Ok(flow.read(&read.node_name.0, decoder));
    }
    if let Some(lost) = read.lost_events {
        return Ok(Held::Item(Item::Lost(lost.read(&read.node_name.0, decoder))));
    }
    if let Some(status) = read.node_status {
        return Ok(Held::Item(Item::NodeStatus(status.read(decoder))));
    }
    // The addresses of a flow are called so too, but they are texts.
    let ends = [read.source, read.destination].iter().flatten().any(|raw| raw.get().starts_with('{'));
    if ends || [read.verdict, read.ip, read.l4].iter().any(Option::is_some) {
        let flow: LineFlow<'_> = serde_json::from_str(line).map_err(|error| LineError::from_json(&error))?;
        return Ok(flow.read("", decoder));
    }
    if let Some(flows) = read.flows.filter(|raw| raw.get().starts_with('[')) {
        return Ok(Held::Flows(flows));
    }
    let wraps = |raw: &&RawValue| raw.get().starts_with(['"', '{']);
    if let Some(wrapped) = read.log.filter(wraps).or(read.message.filter(wraps)) {
        return Ok(Held::Wrapped(wrapped));
    }
    // A kind newer than this version leaves nothing but its envelope.
    if read.agent_event.is_some() || read.debug_event.is_some() || !read.node_name.0.is_empty() {
        return Ok(Held::Item(Item::Other));
    }
    Err(LineError::of(BadKind::NotAnEvent, "it is JSON, but neither a flow nor another event of Hubble"))
}

// === impl LineFlow ===

impl LineFlow<'_> {
    fn read(self, envelope_node: &str, decoder: &mut Decoder) -> Held<'static> {
        let aggregate = self.aggregate.unwrap_or_default();
        let mut flow = self.flow(envelope_node, decoder);
        if aggregate.is_one_direction() {
            aggregate.apply(&mut flow);
            return Held::Item(Item::Flow(flow));
        }
        Held::Several(Box::new(flow), aggregate)
    }

    fn flow(self, envelope_node: &str, decoder: &mut Decoder) -> Flow {
        let node = if envelope_node.is_empty() { &*self.node_name.0 } else { envelope_node };
        let policies = [self.egress_denied_by, self.ingress_denied_by];
        Flow {
            time: read_time(&self.time, decoder),
            uuid: self.uuid.0.into(),
            node: decoder.node(node),
            verdict: match number(&self.verdict, wire::Verdict::from_str_name, UnknownKind::Verdict, decoder)
            {
                Some(number) => decoder.verdict(number),
                None => Verdict::Unknown,
            },
            event: {
                let is_l7 = self.kind.is_some_and(|kind| matches!(kind.get(), "\"L7\"" | "2" | "\"2\""));
                let event = self.event_type.map_or((0, 0), |event| (event.kind.0, event.sub_type.0));
                decoder.event(event, is_l7)
            },
            drop_reason: drop_reason(&self.drop_reason_desc, &self.drop_reason, decoder),
            direction: number(
                &self.traffic_direction,
                wire::TrafficDirection::from_str_name,
                UnknownKind::Direction,
                decoder,
            )
            .and_then(|number| decoder.direction(number)),
            is_reply: self.is_reply.0.or(self.reply.0.filter(|reply| *reply)),
            count: 1,
            ip: self.ip.and_then(|ip| decoder.addresses(&ip.source.0, &ip.destination.0)),
            l4: self.l4.map_or(L4::Absent, |l4| l4.read(decoder)),
            source: self.source.and_then(|raw| decoder.json_endpoint(raw.get(), read_endpoint)),
            destination: self.destination.and_then(|raw| decoder.json_endpoint(raw.get(), read_endpoint)),
            destination_names: decoder.names(self.destination_names.iter().flatten().map(|name| &*name.0)),
            l7: self.l7.filter(|raw| raw.get() != "null").map(|raw| Box::new(l7::read(raw.get(), decoder))),
            denied_by: policies
                .iter()
                .flatten()
                .flatten()
                .map(|policy| decode::policy_name(&policy.kind.0, &policy.namespace.0, &policy.name.0))
                .collect(),
        }
    }
}

// === impl LineL4 ===

impl LineL4 {
    fn read(self, decoder: &mut Decoder) -> L4 {
        let ports = |ports: &LinePorts| (ports.source_port, ports.destination_port);
        if let Some(tcp) = self.tcp {
            let set = |flag: Flag| flag.0.unwrap_or(false);
            let flags = tcp.flags.map(|f| TcpFlags {
                syn: set(f.syn),
                ack: set(f.ack),
                fin: set(f.fin),
                rst: set(f.rst),
            });
            let (source, destination) = (tcp.source_port, tcp.destination_port);
            return decoder.ports(unsigned(source), unsigned(destination), |source, destination| L4::Tcp {
                source,
                destination,
                flags,
            });
        }
        if let Some((source, destination)) = self.udp.as_ref().map(ports) {
            return decoder.ports(unsigned(source), unsigned(destination), |source, destination| L4::Udp {
                source,
                destination,
            });
        }
        if let Some((source, destination)) = self.sctp.as_ref().map(ports) {
            return decoder.ports(unsigned(source), unsigned(destination), |source, destination| L4::Sctp {
                source,
                destination,
            });
        }
        for (family, icmp) in [(IcmpFamily::V4, self.icmpv4), (IcmpFamily::V6, self.icmpv6)] {
            if let Some(icmp) = icmp {
                return decoder.icmp(family, unsigned(icmp.kind), unsigned(icmp.code));
            }
        }
        L4::Unknown
    }
}

// === impl LineLost ===

impl LineLost<'_> {
    fn read(self, node: &str, decoder: &mut Decoder) -> LostEvents {
        let source =
            number(&self.source, wire::LostEventSource::from_str_name, UnknownKind::LostSource, decoder);
        LostEvents {
            source: decoder.lost_source(source.unwrap_or(0)),
            count: unsigned(self.num_events_lost),
            node: decoder.node(node),
            noticed: None,
        }
    }
}

// === impl LineNodeStatus ===

impl LineNodeStatus<'_> {
    fn read(self, decoder: &mut Decoder) -> NodeStatus {
        let state =
            number(&self.state_change, relay::NodeState::from_str_name, UnknownKind::NodeState, decoder);
        NodeStatus {
            state: decoder.node_state(state.unwrap_or(0)),
            nodes: self.node_names.iter().flatten().map(|name| decoder.node(&name.0)).collect(),
            message: decode::safe(&self.message.0),
        }
    }
}

/// A negative number is as far out of range as the largest one.
fn unsigned(number: Int) -> u64 {
    number.unsigned().unwrap_or(u64::MAX)
}

/// The number of an enum; a name that the proto does not have is counted, and `None`.
fn number<E: Into<i32>>(
    value: &Enum<'_>,
    from_name: impl FnOnce(&str) -> Option<E>,
    kind: UnknownKind,
    decoder: &mut Decoder,
) -> Option<i64> {
    let number = value.number(|name| from_name(name).map(|known| i64::from(known.into())));
    if number.is_none() {
        decoder.count_unknown(kind, None);
    }
    number
}

/// `drop_reason_desc`, or the deprecated `drop_reason` where it says nothing: a reason newer than this
/// version is known by its number then.
fn drop_reason(desc: &Enum<'_>, deprecated: &Enum<'_>, decoder: &mut Decoder) -> DropReason {
    let from_name = |name: &str| match name {
        "DROP_REASON_UNKNOWN" => Some(0),
        _ => DropReason::from_name(name).map(|reason| i64::from(reason.0)),
    };
    match (desc.number(from_name), deprecated.number(from_name)) {
        (Some(number), _) | (_, Some(number)) if number != 0 => decoder.drop_reason(number),
        (Some(_), Some(_)) => DropReason::NONE,
        _ => {
            decoder.count_unknown(UnknownKind::DropReason, None);
            DropReason::UNRECOGNISED
        }
    }
}

fn read_time(time: &Time<'_>, decoder: &mut Decoder) -> Option<Timestamp> {
    match time {
        Time::Absent => None,
        Time::Parts(seconds, nanos) => decoder.time(*seconds, *nanos),
        Time::Text(text) => {
            let time = text.parse().ok();
            if time.is_none() {
                decoder.count_unknown(UnknownKind::Time, None);
            }
            time
        }
        Time::Bad => {
            decoder.count_unknown(UnknownKind::Time, None);
            None
        }
    }
}

/// An endpoint that is no object, or has a wrong type in it, is an error; the caller counts it.
fn read_endpoint(text: &str) -> Result<Option<Endpoint>, ()> {
    if !text.starts_with('{') {
        return Err(());
    }
    let read: LineEndpoint<'_> = serde_json::from_str(text).map_err(|_| ())?;
    let number = u32::try_from(read.identity.0).map_err(|_| ())?;
    let labels = read.labels.iter().flatten().map(|label| &*label.0);
    Ok(decode::endpoint(number, &read.namespace.0, &read.pod_name.0, &read.cluster_name.0, labels))
}

#[cfg(test)]
mod tests;
