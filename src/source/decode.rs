//! From the wire to [`Flow`]: the one fallible door, shared by live messages and lines of captures.
//!
//! No value inside of a message makes it fail: what this version does not know is mapped to the
//! word for "unknown" and counted in [`UnknownValues`].

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use jiff::Timestamp;
use prost::Message as _;

use super::cache::Generations;
use super::proto::{flow as wire, observer, relay};
use super::unknown::{UnknownKind, UnknownValues};
use super::{Item, LostEvents, LostSource, NodeState, NodeStatus};
use crate::flow::{
    Direction, DropReason, Endpoint, EventKind, Flow, IcmpFamily, Identity, L4, L7, L7Kind, L7Record,
    TcpFlags, Verdict,
};
use crate::names::{DnsName, NodeName};
use crate::text;

/// The paths of `flow.Flow` that decoding reads: the field mask of a live stream. All of them exist
/// since Cilium 1.16. `l4` stands whole: masking members of a oneof one by one gives spurious empty
/// messages up to 1.19 (cilium#43924). Without `time` and `node_name` the relay cannot sort.
pub const FIELD_MASK: [&str; 18] = [
    "time",
    "uuid",
    "verdict",
    "drop_reason",
    "IP",
    "l4",
    "source",
    "destination",
    "Type",
    "node_name",
    "destination_names",
    "l7",
    "event_type",
    "traffic_direction",
    "drop_reason_desc",
    "is_reply",
    "egress_denied_by",
    "ingress_denied_by",
];

/// Entries of a generation of a cache: with two generations at most 2,048 endpoints are held, about 2 MB
/// of keys where an endpoint has 1 kB. A miss costs some microseconds.
const GENERATION: usize = 1_024;
/// Identities held so that equal ones are one. When they are more, a new table begins; those in use
/// live on in whatever holds them.
const IDENTITIES: usize = 16_384;
/// Characters kept of a message or a policy's name.
const LONGEST_TEXT: usize = 1_000;

/// Turns wire messages into items. Endpoints and node names repeat from flow to flow: each is decoded
/// once and found again by its bytes. One per stream or thread.
#[derive(Debug)]
pub struct Decoder {
    wire_endpoints: Generations<Option<Arc<Endpoint>>>,
    json_endpoints: Generations<Option<Arc<Endpoint>>>,
    nodes: Generations<NodeName>,
    /// The pods of a workload share one identity.
    identities: HashSet<Arc<Identity>>,
    unknown: UnknownValues,
}

// === impl Decoder ===

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// With empty caches.
    pub fn new() -> Self {
        Self {
            wire_endpoints: Generations::new(GENERATION),
            json_endpoints: Generations::new(GENERATION),
            nodes: Generations::new(GENERATION),
            identities: HashSet::new(),
            unknown: UnknownValues::default(),
        }
    }

    /// The values counted as unknown since the last call.
    pub fn take_unknown(&mut self) -> UnknownValues {
        std::mem::take(&mut self.unknown)
    }

    /// One message of a relay's stream.
    pub fn response(&mut self, response: observer::GetFlowsResponse) -> Item {
        use observer::get_flows_response::ResponseTypes;

        // The time of the envelope is the time of the flow.
        let observer::GetFlowsResponse { node_name, time, response_types } = response;
        match response_types {
            Some(ResponseTypes::Flow(flow)) => Item::Flow(self.flow(flow, &node_name)),
            Some(ResponseTypes::LostEvents(lost)) => Item::Lost(LostEvents {
                source: self.lost_source(i64::from(lost.source)),
                count: lost.num_events_lost,
                node: self.node(&node_name),
                noticed: self.noticed(lost.first.or(time), lost.last.or(time)),
            }),
            Some(ResponseTypes::NodeStatus(status)) => {
                let relay::NodeStatusEvent { state_change, node_names, message } = status;
                Item::NodeStatus(NodeStatus {
                    state: self.node_state(i64::from(state_change)),
                    nodes: node_names.iter().map(|name| self.node(name)).collect(),
                    message: safe(&message),
                })
            }
            None => Item::Other,
        }
    }

    fn noticed(
        &mut self,
        first: Option<prost_types::Timestamp>,
        last: Option<prost_types::Timestamp>,
    ) -> Option<(Timestamp, Timestamp)> {
        let first = first.and_then(|t| self.time(t.seconds, i64::from(t.nanos)))?;
        let last = last.and_then(|t| self.time(t.seconds, i64::from(t.nanos)))?;
        Some((first.min(last), last))
    }

    fn flow(&mut self, flow: wire::Flow, envelope_node: &str) -> Flow {
        let wire::Flow {
            time,
            uuid,
            verdict,
            drop_reason,
            ip,
            l4,
            source,
            destination,
            r#type: kind,
            node_name,
            destination_names,
            l7,
            event_type,
            traffic_direction,
            drop_reason_desc,
            is_reply,
            egress_denied_by,
            ingress_denied_by,
        } = flow;
        let reason = if drop_reason_desc == 0 { i64::from(drop_reason) } else { i64::from(drop_reason_desc) };
        Flow {
            time: time.and_then(|time| self.time(time.seconds, i64::from(time.nanos))),
            uuid: uuid.into(),
            node: self.node(if envelope_node.is_empty() { &node_name } else { envelope_node }),
            verdict: self.verdict(i64::from(verdict)),
            event: self.event(
                event_type.map_or((0, 0), |event| (i64::from(event.r#type), i64::from(event.sub_type))),
                kind == i32::from(wire::FlowType::L7),
            ),
            drop_reason: self.drop_reason(reason),
            direction: self.direction(i64::from(traffic_direction)),
            is_reply,
            count: 1,
            ip: ip.and_then(|ip| self.addresses(&ip.source, &ip.destination)),
            l4: l4.map_or(L4::Absent, |l4| self.l4(l4)),
            source: self.wire_endpoint(&source),
            destination: self.wire_endpoint(&destination),
            destination_names: self.names(destination_names.iter().map(String::as_str)),
            l7: l7.map(|l7| Box::new(self.l7(l7))),
            denied_by: egress_denied_by
                .iter()
                .chain(&ingress_denied_by)
                .map(|policy| policy_name(&policy.kind, &policy.namespace, &policy.name))
                .collect(),
        }
    }

    fn l4(&mut self, l4: wire::Layer4) -> L4 {
        use wire::layer4::Protocol;

        match l4.protocol {
            Some(Protocol::Tcp(tcp)) => {
                let flags = tcp.flags.map(|f| TcpFlags { syn: f.syn, ack: f.ack, fin: f.fin, rst: f.rst });
                self.ports(
                    u64::from(tcp.source_port),
                    u64::from(tcp.destination_port),
                    |source, destination| L4::Tcp { source, destination, flags },
                )
            }
            Some(Protocol::Udp(udp)) => self.ports(
                u64::from(udp.source_port),
                u64::from(udp.destination_port),
                |source, destination| L4::Udp { source, destination },
            ),
            Some(Protocol::Sctp(sctp)) => self.ports(
                u64::from(sctp.source_port),
                u64::from(sctp.destination_port),
                |source, destination| L4::Sctp { source, destination },
            ),
            Some(Protocol::IcmPv4(icmp)) => {
                self.icmp(IcmpFamily::V4, u64::from(icmp.r#type), u64::from(icmp.code))
            }
            Some(Protocol::IcmPv6(icmp)) => {
                self.icmp(IcmpFamily::V6, u64::from(icmp.r#type), u64::from(icmp.code))
            }
            Some(Protocol::Vrrp(_) | Protocol::Igmp(_)) | None => L4::Unknown,
        }
    }

    fn l7(&mut self, l7: wire::Layer7) -> L7 {
        use wire::layer7::Record;

        let record = match l7.record {
            Some(Record::Dns(dns)) => self.dns(&dns.query),
            Some(Record::Http(http)) => self.http(&http.method, &http.url),
            None => L7Record::Other,
        };
        L7 { kind: L7Kind::from_number(i64::from(l7.r#type)), record }
    }

    /// The DNS names that a policy can hold, sorted, each once.
    pub(super) fn names<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Box<[DnsName]> {
        let mut known: Vec<DnsName> = names.filter_map(|name| self.name(name)).collect();
        known.sort_unstable();
        known.dedup();
        known.into()
    }

    fn name(&mut self, name: &str) -> Option<DnsName> {
        let parsed = DnsName::parse(name).ok();
        if parsed.is_none() {
            self.unknown.count(UnknownKind::DnsName, None);
        }
        parsed
    }

    pub(super) fn dns(&mut self, query: &str) -> L7Record {
        L7Record::Dns { query: self.name(query) }
    }

    pub(super) fn http(&mut self, method: &str, url: &str) -> L7Record {
        match L7Record::http(method, url) {
            L7Record::Http { path, .. } if path.contains(REDACTED) => L7Record::Other,
            record => record,
        }
    }

    /// An endpoint from protobuf bytes; `None` where it names nobody or is no endpoint.
    fn wire_endpoint(&mut self, bytes: &[u8]) -> Option<Arc<Endpoint>> {
        if bytes.is_empty() {
            return None;
        }
        if let Some(known) = self.wire_endpoints.get(bytes) {
            return known;
        }
        let Ok(wire) = wire::Endpoint::decode(bytes) else {
            self.unknown.count(UnknownKind::Endpoint, None);
            return None;
        };
        let wire::Endpoint { id: _, identity, namespace, labels, pod_name, cluster_name } = wire;
        let labels = labels.iter().map(String::as_str);
        let endpoint = self.share(endpoint(identity, &namespace, &pod_name, &cluster_name, labels));
        self.wire_endpoints.insert(bytes, endpoint.clone());
        endpoint
    }

    /// An endpoint from its JSON text, read by `read` when it is not known yet.
    pub(super) fn json_endpoint(
        &mut self,
        text: &str,
        read: impl FnOnce(&str) -> Result<Option<Endpoint>, ()>,
    ) -> Option<Arc<Endpoint>> {
        if let Some(known) = self.json_endpoints.get(text.as_bytes()) {
            return known;
        }
        let Ok(endpoint) = read(text) else {
            self.unknown.count(UnknownKind::Endpoint, None);
            return None;
        };
        let endpoint = self.share(endpoint);
        self.json_endpoints.insert(text.as_bytes(), endpoint.clone());
        endpoint
    }

    /// The endpoint with the one identity of its workload.
    fn share(&mut self, endpoint: Option<Endpoint>) -> Option<Arc<Endpoint>> {
        let mut endpoint = endpoint?;
        match self.identities.get(&endpoint.identity) {
            Some(known) => endpoint.identity = Arc::clone(known),
            None => {
                if self.identities.len() >= IDENTITIES {
                    self.identities = HashSet::new();
                }
                self.identities.insert(Arc::clone(&endpoint.identity));
            }
        }
        Some(Arc::new(endpoint))
    }

    /// A node's name, made safe once.
    pub(super) fn node(&mut self, name: &str) -> NodeName {
        if let Some(known) = self.nodes.get(name.as_bytes()) {
            return known;
        }
        let node = NodeName::lossy(name);
        self.nodes.insert(name.as_bytes(), node.clone());
        node
    }

    /// Counts a value that is not known; `None` where it came in words.
    pub(super) fn count_unknown(&mut self, kind: UnknownKind, number: Option<i64>) {
        self.unknown.count(kind, number);
    }

    pub(super) fn verdict(&mut self, number: i64) -> Verdict {
        let verdict = i32::try_from(number).map_or(Verdict::Unknown, Verdict::from_number);
        if verdict == Verdict::Unknown && number != 0 {
            self.unknown.count(UnknownKind::Verdict, Some(number));
        }
        verdict
    }

    /// 0 to 7, 129 and 130 are those of `pkg/monitor/api/types.go`.
    ///
    /// Where a mask left the type out, a record of the L7 proxy (`Type`) is still known as one: it is no
    /// drop of the datapath, whatever its verdict.
    pub(super) fn event(&mut self, (number, sub_type): (i64, i64), is_l7: bool) -> EventKind {
        if number == 0 && is_l7 {
            return EventKind::L7;
        }
        if !matches!(number, 0..=7 | 129 | 130) {
            self.unknown.count(UnknownKind::EventType, Some(number));
        }
        EventKind::from_numbers(clamped(number), clamped(sub_type))
    }

    pub(super) fn direction(&mut self, number: i64) -> Option<Direction> {
        match number {
            0 => None,
            1 => Some(Direction::Ingress),
            2 => Some(Direction::Egress),
            _ => {
                self.unknown.count(UnknownKind::Direction, Some(number));
                None
            }
        }
    }

    pub(super) fn drop_reason(&mut self, number: i64) -> DropReason {
        let reason = DropReason(clamped(number));
        if reason != DropReason::NONE && reason.name().is_none() {
            self.unknown.count(UnknownKind::DropReason, Some(number));
        }
        reason
    }

    pub(super) fn lost_source(&mut self, number: i64) -> LostSource {
        match number {
            0 => LostSource::Unknown,
            1 => LostSource::PerfEventRingBuffer,
            2 => LostSource::ObserverEventsQueue,
            3 => LostSource::HubbleRingBuffer,
            _ => {
                self.unknown.count(UnknownKind::LostSource, Some(number));
                LostSource::Unknown
            }
        }
    }

    pub(super) fn node_state(&mut self, number: i64) -> NodeState {
        match number {
            0 => NodeState::Unknown,
            1 => NodeState::Connected,
            2 => NodeState::Unavailable,
            3 => NodeState::Gone,
            4 => NodeState::Error,
            _ => {
                self.unknown.count(UnknownKind::NodeState, Some(number));
                NodeState::Unknown
            }
        }
    }

    /// Seconds since 1970 and nanoseconds upwards from there.
    pub(super) fn time(&mut self, seconds: i64, nanos: i64) -> Option<Timestamp> {
        let time = i32::try_from(nanos)
            .ok()
            .filter(|nanos| (0..1_000_000_000).contains(nanos))
            .and_then(|nanos| Timestamp::new(seconds, nanos).ok());
        if time.is_none() {
            self.unknown.count(UnknownKind::Time, None);
        }
        time
    }

    /// Both or none: one address alone says nothing about a connection.
    pub(super) fn addresses(&mut self, source: &str, destination: &str) -> Option<(IpAddr, IpAddr)> {
        if source.is_empty() && destination.is_empty() {
            return None;
        }
        let addresses = source.parse().ok().zip(destination.parse().ok());
        if addresses.is_none() {
            self.unknown.count(UnknownKind::Address, None);
        }
        addresses
    }

    pub(super) fn ports(&mut self, source: u64, destination: u64, l4: impl FnOnce(u16, u16) -> L4) -> L4 {
        match (u16::try_from(source), u16::try_from(destination)) {
            (Ok(source), Ok(destination)) => l4(source, destination),
            _ => {
                self.unknown.count(UnknownKind::Layer4, None);
                L4::Unknown
            }
        }
    }

    pub(super) fn icmp(&mut self, family: IcmpFamily, kind: u64, code: u64) -> L4 {
        match (u8::try_from(kind), u8::try_from(code)) {
            (Ok(kind), Ok(code)) => L4::Icmp { family, kind, code },
            _ => {
                self.unknown.count(UnknownKind::Layer4, None);
                L4::Unknown
            }
        }
    }
}

/// What Hubble writes in place of a value that it was told to hide.
const REDACTED: &str = "HUBBLE_REDACTED";

/// An endpoint from its fields; `None` where they name nobody, or a label was hidden: what is left would
/// select others too. An empty message and a missing one are
/// the same on our wire.
pub(super) fn endpoint<'a>(
    number: u32,
    namespace: &str,
    pod: &str,
    cluster: &str,
    labels: impl IntoIterator<Item = &'a str>,
) -> Option<Endpoint> {
    let labels: Vec<&str> = labels.into_iter().collect();
    if labels.iter().any(|label| label.contains(REDACTED)) {
        return None;
    }
    let mut labels = labels.into_iter().peekable();
    let nobody = number == 0
        && namespace.is_empty()
        && pod.is_empty()
        && cluster.is_empty()
        && labels.peek().is_none();
    (!nobody).then(|| Endpoint::new(number, namespace, pod, cluster, labels))
}

/// `kind namespace/name` of a policy, without the parts that Hubble does not tell.
pub(super) fn policy_name(kind: &str, namespace: &str, name: &str) -> Box<str> {
    // Policies from files have none; that something denied it is known all the same.
    let name = if name.is_empty() { "(without a name)" } else { name };
    let mut out = String::with_capacity(kind.len() + namespace.len() + name.len() + 2);
    for (part, joint) in [(kind, ' '), (namespace, '/')] {
        if !part.is_empty() {
            out.push_str(part);
            out.push(joint);
        }
    }
    out.push_str(name);
    safe(&out)
}

/// Free text from outside, safe to print.
pub(super) fn safe(text: &str) -> Box<str> {
    text::visible(text, LONGEST_TEXT).into()
}

/// Numbers of the wire are 32 bits wide; those of JSON may not be.
fn clamped(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests;
