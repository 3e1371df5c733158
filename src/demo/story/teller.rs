//! Turns scenes into responses: times, node names, both events of a drop, and the needs.

use std::time::Duration;

use jiff::Timestamp;
use prost::Message;

use super::cast::{Actor, Pairs, Select};
use super::{NODES, scenes};
use crate::demo::need::{Allow, Direction, Need, Peer};
use crate::source::proto::flow::{
    CiliumEventType, Endpoint, Flow, FlowType, IcmPv4, IcmPv6, Ip, IpVersion, Layer4, LostEvent,
    LostEventSource, Policy, Sctp, Tcp, TcpFlags, TrafficDirection, Udp, Verdict, layer4,
};
use crate::source::proto::observer::GetFlowsResponse;
use crate::source::proto::observer::get_flows_response::ResponseTypes;
use crate::source::proto::relay::{NodeState, NodeStatusEvent};

/// Collects what scenes tell.
pub(super) struct Teller {
    start: Timestamp,
    /// Microseconds since the start, and what is sent then.
    told: Vec<(u64, GetFlowsResponse)>,
    needs: Vec<Need>,
}

/// A packet: who to whom, in which family, and layer 4.
#[derive(Clone, Copy)]
pub(super) struct Packet {
    pub(super) from: &'static Actor,
    pub(super) to: &'static Actor,
    pub(super) v6: bool,
    pub(super) l4: L4,
}

/// Layer 4 of a packet: ports as (source, destination).
#[derive(Clone, Copy)]
pub(super) enum L4 {
    /// With SYN, ACK and PSH as given.
    Tcp(u32, u32, [bool; 3]),
    Udp(u32, u32),
    Sctp(u32, u32),
    Icmp(u32),
}

/// What Hubble said about a packet.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) kind: i32,
    pub(super) sub_kind: i32,
    pub(super) verdict: Verdict,
    pub(super) reason: u16,
    pub(super) direction: TrafficDirection,
}

/// The whole story.
pub(super) fn tell(start: Timestamp) -> Teller {
    let mut teller = Teller { start, told: Vec::new(), needs: Vec::new() };
    scenes::all(&mut teller);
    teller
}

// === impl Packet ===

impl Packet {
    /// A TCP SYN over IPv4.
    pub(super) fn syn(from: &'static Actor, to: &'static Actor, source: u32, destination: u32) -> Self {
        Self::new(from, to, L4::Tcp(source, destination, [true, false, false]))
    }

    /// Over IPv4.
    pub(super) fn new(from: &'static Actor, to: &'static Actor, l4: L4) -> Self {
        Self { from, to, v6: false, l4 }
    }

    /// Over IPv6.
    pub(super) fn v6(self) -> Self {
        Self { v6: true, ..self }
    }

    fn addresses(&self) -> (&'static str, &'static str) {
        if self.v6 { (self.from.v6, self.to.v6) } else { (self.from.v4, self.to.v4) }
    }
}

// === impl Teller ===

impl Teller {
    /// A default-deny drop that shows a need: verdict event and drop event at `ms`.
    pub(super) fn need(&mut self, ms: u64, direction: Direction, packet: Packet) {
        let (subject, peer) = match direction {
            Direction::Egress => (packet.from, packet.to),
            Direction::Ingress => (packet.to, packet.from),
        };
        if let Some(need) = need_of(subject, direction, peer, &packet) {
            self.needs.push(need);
        }
        self.drop(ms, direction, 133, packet);
    }

    /// The same packet again, 1 s and 3 s later, as TCP does when nobody answers.
    pub(super) fn retransmits(&mut self, ms: u64, direction: Direction, packet: Packet) {
        self.drop(ms + 1000, direction, 133, packet);
        self.drop(ms + 3000, direction, 133, packet);
    }

    /// A drop by policy, as it is reported: twice, microseconds apart.
    pub(super) fn drop(&mut self, ms: u64, direction: Direction, reason: u16, packet: Packet) {
        let direction = wire(direction);
        let event = Event { kind: 5, sub_kind: 0, verdict: Verdict::Dropped, reason, direction };
        self.event(ms * 1000, packet, event);
        let drop = Event { kind: 1, sub_kind: i32::from(reason), ..event };
        self.event(ms * 1000 + 17, packet, drop);
    }

    /// A drop that no policy made: the drop event alone.
    pub(super) fn broken(&mut self, ms: u64, direction: Direction, reason: u16, packet: Packet) {
        let direction = wire(direction);
        let sub_kind = i32::from(reason);
        self.event(
            ms * 1000,
            packet,
            Event { kind: 1, sub_kind, verdict: Verdict::Dropped, reason, direction },
        );
    }

    /// A packet that passed: at its sender, and where it arrived.
    pub(super) fn forwarded(&mut self, ms: u64, packet: Packet) {
        let event = Event {
            kind: 4,
            sub_kind: 5, // FROM_ENDPOINT
            verdict: Verdict::Forwarded,
            reason: 0,
            direction: TrafficDirection::Unknown,
        };
        self.event(ms * 1000, packet, event);
        let arrived = Event { sub_kind: 0, direction: TrafficDirection::Egress, ..event };
        self.event(ms * 1000 + 90, packet, arrived);
    }

    /// Anything else about one packet, at a microsecond.
    pub(super) fn event(&mut self, us: u64, packet: Packet, event: Event) {
        let local = match event.direction {
            TrafficDirection::Ingress => packet.to,
            _ => packet.from,
        };
        let node = if local.node == 1 { NODES[1] } else { NODES[0] };
        let (source, destination) = packet.addresses();
        let version = if packet.v6 { IpVersion::IPv6 } else { IpVersion::IPv4 };
        let denied = if event.kind == 5 && event.reason == 181 { vec![deny_policy()] } else { Vec::new() };
        let egress = event.direction == TrafficDirection::Egress;
        let (egress_denied_by, ingress_denied_by) =
            if egress { (denied, Vec::new()) } else { (Vec::new(), denied) };
        let flow = Flow {
            verdict: event.verdict.into(),
            drop_reason: event.reason.into(),
            ip: Some(Ip {
                source: source.to_owned(),
                destination: destination.to_owned(),
                ip_version: version.into(),
            }),
            l4: Some(layer4_of(packet.l4, packet.v6)),
            source: endpoint(packet.from, packet.from.node == local.node).encode_to_vec().into(),
            destination: endpoint(packet.to, packet.to.node == local.node).encode_to_vec().into(),
            r#type: if event.kind == 129 { FlowType::L7 } else { FlowType::L3L4 }.into(),
            node_name: node.to_owned(),
            event_type: Some(CiliumEventType { r#type: event.kind, sub_type: event.sub_kind }),
            traffic_direction: event.direction.into(),
            drop_reason_desc: event.reason.into(),
            is_reply: (event.verdict != Verdict::Dropped && event.sub_kind != 5).then_some(false),
            egress_denied_by,
            ingress_denied_by,
            ..Flow::default()
        };
        self.say(us, node, ResponseTypes::Flow(flow));
    }

    /// Both nodes are there.
    pub(super) fn connected(&mut self, ms: u64) {
        let names = NODES.iter().map(|n| (*n).to_owned()).collect();
        let status = NodeStatusEvent {
            state_change: NodeState::NodeConnected.into(),
            node_names: names,
            message: String::new(),
        };
        self.say(ms * 1000, "relay", ResponseTypes::NodeStatus(status));
    }

    /// Events that this reader missed.
    pub(super) fn lost(&mut self, ms: u64, number: u64) {
        let lost = LostEvent {
            source: LostEventSource::HubbleRingBuffer.into(),
            num_events_lost: number,
            ..Default::default()
        };
        self.say(ms * 1000, NODES[0], ResponseTypes::LostEvents(lost));
    }

    fn say(&mut self, us: u64, node: &str, response: ResponseTypes) {
        let response = GetFlowsResponse {
            response_types: Some(response),
            node_name: node.to_owned(),
            time: Some(at(self.start, us)),
        };
        self.told.push((us, response));
    }

    /// In the order of time, each with the delay since the one before.
    pub(super) fn play(mut self) -> Vec<(Duration, GetFlowsResponse)> {
        self.told.sort_by_key(|(us, _)| *us);
        let mut before = 0;
        let mut play = Vec::with_capacity(self.told.len());
        for (number, (us, mut response)) in self.told.into_iter().enumerate() {
            if let Some(ResponseTypes::Flow(flow)) = &mut response.response_types {
                flow.time = response.time;
                let start = self.start.as_microsecond() & 0xffff_ffff_ffff;
                flow.uuid = format!("{number:08x}-c0de-4000-8000-{start:012x}");
            }
            play.push((Duration::from_micros(us - before), response));
            before = us;
        }
        play
    }

    /// Each need once, sorted.
    pub(super) fn needs(mut self) -> Vec<Need> {
        self.needs.sort();
        self.needs.dedup();
        self.needs
    }
}

fn at(start: Timestamp, us: u64) -> prost_types::Timestamp {
    let nanos = i128::from(us) * 1000 + start.as_nanosecond();
    prost_types::Timestamp {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}

fn wire(direction: Direction) -> TrafficDirection {
    match direction {
        Direction::Ingress => TrafficDirection::Ingress,
        Direction::Egress => TrafficDirection::Egress,
    }
}

fn deny_policy() -> Policy {
    Policy { name: "no-metadata".into(), namespace: "shop".into(), kind: "CiliumNetworkPolicy".into() }
}

/// An endpoint on the wire: the ID only where the endpoint is local to the reporting node.
fn endpoint(actor: &Actor, local: bool) -> Endpoint {
    let account = match actor.select {
        Select::ServiceAccount(name) => name,
        _ => "default",
    };
    let mut labels: Vec<String> =
        actor.labels.iter().map(|(key, value)| format!("k8s:{key}={value}")).collect();
    let namespace = actor.namespace;
    match actor.select {
        Select::Entity(_, own) | Select::Address(own) | Select::Nothing(own) => {
            labels.extend(own.iter().map(|l| (*l).to_owned()));
        }
        _ => {}
    }
    if !namespace.is_empty() {
        labels.push(format!("k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={namespace}"));
        labels.push(format!("k8s:io.cilium.k8s.policy.cluster={}", actor.cluster()));
        labels.push(format!("k8s:io.cilium.k8s.policy.serviceaccount={account}"));
        labels.push(format!("k8s:io.kubernetes.pod.namespace={namespace}"));
    }
    labels.sort();
    Endpoint {
        id: if local && !namespace.is_empty() { actor.identity % 4000 + 1 } else { 0 },
        identity: actor.identity,
        namespace: namespace.to_owned(),
        labels,
        pod_name: actor.pod.to_owned(),
        cluster_name: actor.cluster().to_owned(),
    }
}

fn layer4_of(l4: L4, v6: bool) -> Layer4 {
    let protocol = match l4 {
        L4::Tcp(source_port, destination_port, [syn, ack, psh]) => layer4::Protocol::Tcp(Tcp {
            source_port,
            destination_port,
            flags: Some(TcpFlags { syn, ack, psh, ..TcpFlags::default() }),
        }),
        L4::Udp(source_port, destination_port) => {
            layer4::Protocol::Udp(Udp { source_port, destination_port })
        }
        L4::Sctp(source_port, destination_port) => {
            layer4::Protocol::Sctp(Sctp { source_port, destination_port })
        }
        L4::Icmp(kind) if v6 => layer4::Protocol::IcmPv6(IcmPv6 { r#type: kind, code: 0 }),
        L4::Icmp(kind) => layer4::Protocol::IcmPv4(IcmPv4 { r#type: kind, code: 0 }),
    };
    Layer4 { protocol: Some(protocol) }
}

fn need_of(subject: &Actor, direction: Direction, peer: &Actor, packet: &Packet) -> Option<Need> {
    let Select::Labels(selector) = subject.select else { return None };
    let namespace = || ("k8s:io.kubernetes.pod.namespace".to_owned(), peer.namespace.to_owned());
    let elsewhere = peer.namespace != subject.namespace;
    let peer = match peer.select {
        Select::Labels(labels) => {
            let mut labels = owned(labels);
            labels.extend(elsewhere.then(namespace));
            if peer.cluster() != subject.cluster() {
                labels.push(("k8s:io.cilium.k8s.policy.cluster".to_owned(), peer.cluster().to_owned()));
            }
            labels.sort();
            Peer::Endpoints(labels)
        }
        Select::ServiceAccount(name) => {
            let key = "k8s:io.cilium.k8s.policy.serviceaccount".to_owned();
            Peer::Endpoints([(key, name.to_owned())].into_iter().chain(elsewhere.then(namespace)).collect())
        }
        Select::Entity(name, _) => Peer::Entity(name.to_owned()),
        Select::Address(_) if packet.v6 => Peer::Cidr(format!("{}/128", peer.v6)),
        Select::Address(_) => Peer::Cidr(format!("{}/32", peer.v4)),
        Select::Nothing(_) => return None,
    };
    let port = |protocol, port: u32| Some(Allow::Port { protocol, port: u16::try_from(port).ok()? });
    let allow = match packet.l4 {
        L4::Tcp(_, to, _) => port("TCP", to),
        L4::Udp(_, to) => port("UDP", to),
        L4::Sctp(_, to) => port("SCTP", to),
        L4::Icmp(kind) => Some(Allow::Icmp {
            family: if packet.v6 { "IPv6" } else { "IPv4" },
            kind: u8::try_from(kind).ok()?,
        }),
    }?;
    let namespace = subject.namespace.to_owned();
    Some(Need { namespace, selector: owned(selector), direction, peer, allow })
}

fn owned(pairs: Pairs) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
