//! One line of a capture, as `hubble observe -o jsonpb` writes it.

use jiff::Timestamp;

use super::model::{ENTITIES, Kind, Model, NODES};
use super::rng::Rng;

/// One end of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// A pod: workload, slot, and for jobs the run.
    Pod(u16, u16, u32),
    /// A shape of an entity, on a node.
    Entity(u8, u8),
    /// An address outside.
    Outside(u16),
    /// Nobody, or many.
    Odd(&'static Odd),
    /// A pod whose address is not its own, so that Hubble knows only its identity.
    LinkLocal(u16, u16),
    /// A pod's address, with the label of the world: its identity was not resolved.
    Unresolved(u16, u16),
}

/// An end that is no pod, no node and no host outside.
#[derive(Debug)]
pub(super) struct Odd {
    pub(super) v4: &'static str,
    pub(super) v6: &'static str,
    pub(super) json: &'static str,
}

/// Layer 4, ports as (source, destination).
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire {
    Tcp(u16, u16, u8),
    Udp(u16, u16),
    Sctp(u16, u16),
    Icmp(u8, u8),
    Igmp,
}

/// TCP flags as in the header.
pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;
pub(super) const ECE: u8 = 64;
pub(super) const CWR: u8 = 128;
const FLAGS: [(u8, &str); 7] =
    [(FIN, "FIN"), (SYN, "SYN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK"), (ECE, "ECE"), (CWR, "CWR")];

/// A packet on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet {
    pub(super) from: End,
    pub(super) to: End,
    pub(super) v6: bool,
    pub(super) wire: Wire,
}

/// What Hubble says about a packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    /// The node whose agent says it.
    pub(super) node: u8,
    pub(super) verdict: &'static str,
    /// Event type and sub type.
    pub(super) event: (u8, u16),
    /// Number and name of the drop reason; 0 for none, a name of "" for an unknown one.
    pub(super) reason: (u16, &'static str),
    /// `INGRESS`, `EGRESS` or nothing.
    pub(super) direction: &'static str,
    pub(super) reply: Option<bool>,
    /// Members between `traffic_direction` and `drop_reason_desc`, with a leading comma.
    pub(super) middle: &'static str,
    /// Members behind `Summary`, with a leading comma.
    pub(super) tail: &'static str,
    /// The L7 part, for access-log entries.
    pub(super) dns: bool,
}

/// Writes lines into a buffer.
pub(super) struct Pen {
    out: Vec<u8>,
    start: Timestamp,
    /// The second that `stamp` holds, as `YYYY-MM-DDTHH:MM:SS`.
    second: u64,
    stamp: String,
}

const SECOND: u64 = 1_000_000_000;

// === impl Pen ===

impl Pen {
    pub(super) fn new(start: Timestamp) -> Self {
        Self { out: Vec::with_capacity(1 << 17), start, second: u64::MAX, stamp: String::new() }
    }

    /// What has been written and not been taken away.
    pub(super) fn written(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    fn hex(&mut self, bits: u64, digits: u32) {
        for at in (0..digits).rev() {
            self.out.push(b"0123456789abcdef"[(bits >> (4 * at)) as usize & 15]);
        }
    }

    /// Nanoseconds since the start, as protojson writes a time: 0, 3, 6 or 9 digits.
    fn time(&mut self, at: u64) {
        if at / SECOND != self.second {
            self.second = at / SECOND;
            let now = self.start.as_second().saturating_add_unsigned(self.second);
            let now = Timestamp::from_second(now).unwrap_or(self.start);
            self.stamp = now.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        }
        self.out.extend_from_slice(self.stamp.as_bytes());
        let (nanos, digits) = match at % SECOND {
            0 => (0, 0),
            n if n % 1_000_000 == 0 => (n / 1_000_000, 3),
            n if n % 1000 == 0 => (n / 1000, 6),
            n => (n, 9),
        };
        if digits > 0 {
            let from = self.out.len();
            self.number(nanos + 10u64.pow(digits)); // the leading 1 becomes the dot
            self.out[from] = b'.';
        }
        self.out.push(b'Z');
    }

    fn mac(&mut self, bits: u64) {
        for at in 0..6u32 {
            if at > 0 {
                self.out.push(b':');
            }
            let byte = bits >> (8 * at) & 0xff;
            self.hex(if at == 0 { byte & 0xfc | 2 } else { byte }, 2);
        }
    }

    fn node(&mut self, node: u8) {
        self.text("prod/node-");
        self.number(u64::from(node) + 1);
    }

    /// A flow.
    pub(super) fn flow(&mut self, model: &Model, at: u64, packet: &Packet, said: &Said, rng: &mut Rng) {
        self.text("{\"flow\":{\"time\":\"");
        let begin = self.out.len();
        self.time(at);
        let stamp = begin..self.out.len();
        let (a, b) = (rng.next(), rng.next());
        self.text("\",\"uuid\":\"");
        for (bits, digits) in
            [(a, 8), (a >> 32, 4), (0x4000 | a >> 48 & 0xfff, 4), (0x8000 | b >> 48 & 0x3fff, 4)]
        {
            self.hex(bits, digits);
            self.out.push(b'-');
        }
        self.hex(b, 12);
        self.text("\",\"emitter\":{\"name\":\"Hubble\"},\"verdict\":\"");
        self.text(said.verdict);
        self.out.push(b'"');
        if said.reason.0 != 0 {
            self.text(",\"drop_reason\":");
            self.number(said.reason.0.into());
        }
        if !said.dns {
            self.text(",\"ethernet\":{\"source\":\"");
            self.mac(a);
            self.text("\",\"destination\":\"");
            self.mac(b);
            self.text("\"}");
        }
        self.text(",\"IP\":{\"source\":\"");
        self.address(model, packet.from, packet.v6);
        self.text("\",\"destination\":\"");
        self.address(model, packet.to, packet.v6);
        self.text(if packet.v6 { "\",\"ipVersion\":\"IPv6\"}" } else { "\",\"ipVersion\":\"IPv4\"}" });
        self.wire(packet);
        self.text(",\"source\":{");
        self.end(model, packet.from, said.node, at);
        self.text("},\"destination\":{");
        self.end(model, packet.to, said.node, at);
        self.text(if said.dns {
            "},\"Type\":\"L7\",\"node_name\":\""
        } else {
            "},\"Type\":\"L3_L4\",\"node_name\":\""
        });
        self.node(said.node);
        self.out.push(b'"');
        if said.dns {
            self.text(r#","l7":{"type":"REQUEST","dns":{"query":"api.shop.example.","observation_source":"proxy","qtypes":["A"]}}"#);
        }
        self.text(",\"event_type\":{\"type\":");
        self.number(said.event.0.into());
        if said.event.1 != 0 {
            self.text(",\"sub_type\":");
            self.number(said.event.1.into());
        }
        self.out.push(b'}');
        if !said.direction.is_empty() {
            self.text(",\"traffic_direction\":\"");
            self.text(said.direction);
            self.out.push(b'"');
        }
        self.text(said.middle);
        match said.reason {
            (0, _) => {}
            (number, "") => {
                self.text(",\"drop_reason_desc\":"); // protojson writes a value without a name as a number
                self.number(number.into());
            }
            (_, name) => {
                self.text(",\"drop_reason_desc\":\"");
                self.text(name);
                self.out.push(b'"');
            }
        }
        match said.reply {
            None => {}
            Some(true) => self.text(",\"is_reply\":true"),
            Some(false) => self.text(",\"is_reply\":false"),
        }
        self.text(",\"Summary\":\"");
        self.summary(packet, said.dns);
        self.out.push(b'"');
        self.text(said.tail);
        self.text("},\"node_name\":\"");
        self.node(said.node);
        self.text("\",\"time\":\"");
        self.out.extend_from_within(stamp);
        self.text("\"}\n");
    }

    /// What the relay tells about its nodes.
    pub(super) fn node_status(&mut self, at: u64, state: &str, nodes: &[u8]) {
        self.text("{\"node_status\":{\"state_change\":\"");
        self.text(state);
        self.text("\",\"node_names\":[");
        for (i, node) in nodes.iter().enumerate() {
            self.text(if i > 0 { ",\"" } else { "\"" });
            self.node(*node);
            self.out.push(b'"');
        }
        self.text("]},\"node_name\":\"hubble-relay-6f9b\",\"time\":\"");
        self.time(at);
        self.text("\"}\n");
    }

    /// Events that were lost at a node: 64-bit numbers are strings.
    pub(super) fn lost(&mut self, at: u64, node: u8, source: &str, number: u64) {
        self.text("{\"lost_events\":{\"source\":\"");
        self.text(source);
        self.text("\",\"num_events_lost\":\"");
        self.number(number);
        self.text("\"},\"node_name\":\"");
        self.node(node);
        self.text("\",\"time\":\"");
        self.time(at);
        self.text("\"}\n");
    }

    fn wire(&mut self, packet: &Packet) {
        let (name, source, destination) = match packet.wire {
            Wire::Tcp(source, destination, _) => ("TCP", source, destination),
            Wire::Udp(source, destination) => ("UDP", source, destination),
            Wire::Sctp(source, destination) => ("SCTP", source, destination),
            Wire::Igmp => return self.text(",\"l4\":{\"IGMP\":{\"type\":22}}"),
            Wire::Icmp(kind, code) => {
                self.text(if packet.v6 { ",\"l4\":{\"ICMPv6\":{" } else { ",\"l4\":{\"ICMPv4\":{" });
                if kind != 0 {
                    self.text("\"type\":"); // zero values are left out
                    self.number(kind.into());
                }
                if code != 0 {
                    self.text(if kind == 0 { "\"code\":" } else { ",\"code\":" });
                    self.number(code.into());
                }
                return self.text("}}");
            }
        };
        self.text(",\"l4\":{\"");
        self.text(name);
        self.text("\":{\"source_port\":");
        self.number(source.into());
        self.text(",\"destination_port\":");
        self.number(destination.into());
        if let Wire::Tcp(_, _, flags) = packet.wire {
            self.text(",\"flags\":{");
            let mut first = true;
            for (_, name) in FLAGS.iter().filter(|(bit, _)| flags & bit != 0) {
                self.text(if first { "\"" } else { ",\"" });
                self.text(name);
                self.text("\":true");
                first = false;
            }
            self.out.push(b'}');
        }
        self.text("}}");
    }

    fn summary(&mut self, packet: &Packet, dns: bool) {
        match packet.wire {
            _ if dns => self.text("DNS Query api.shop.example. A"),
            Wire::Tcp(_, _, flags) => {
                self.text("TCP Flags: ");
                let mut first = true;
                for (_, name) in FLAGS.iter().filter(|(bit, _)| flags & bit != 0) {
                    if !first {
                        self.text(", ");
                    }
                    self.text(name);
                    first = false;
                }
            }
            Wire::Udp(..) => self.text("UDP"),
            Wire::Sctp(..) => self.text("SCTP"),
            Wire::Icmp(..) => self.text(if packet.v6 { "ICMPv6" } else { "ICMPv4" }),
            Wire::Igmp => self.text("IGMP"),
        }
    }

    fn end(&mut self, model: &Model, end: End, node: u8, at: u64) {
        match end {
            End::Pod(workload, slot, run) => {
                let workload = &model.workloads[usize::from(workload)];
                let slot = usize::from(slot);
                let pod = &workload.pods[slot];
                let local = workload.cluster == 0 && pod.node == usize::from(node);
                let turn = (at / (5 * SECOND)) as usize % workload.pods.len().max(1);
                let master = workload.kind == Kind::Roles && turn == slot;
                pod.write(&mut self.out, local, master, run);
            }
            End::Entity(shape, _) => self.text(ENTITIES[usize::from(shape)].json),
            End::Outside(at) => model.outside[usize::from(at)].write(&mut self.out, node.into()),
            End::Odd(odd) => self.text(odd.json),
            End::LinkLocal(workload, slot) => {
                let pod = &model.workloads[usize::from(workload)].pods[usize::from(slot)];
                self.text("\"identity\":");
                self.number(pod.identity.into());
                self.text(",\"cluster_name\":\"prod\",\"labels\":");
                self.text(&pod.labels_json);
            }
            End::Unresolved(workload, slot) => {
                let workload = &model.workloads[usize::from(workload)];
                self.text("\"identity\":2,\"namespace\":\"");
                self.text(workload.namespace);
                self.text("\",\"labels\":[\"reserved:world\"],\"pod_name\":\"");
                self.text(&workload.pods[usize::from(slot)].name);
                self.out.push(b'"');
            }
        }
    }

    fn address(&mut self, model: &Model, end: End, v6: bool) {
        match end {
            End::Pod(workload, slot, _) | End::Unresolved(workload, slot) => {
                let pod = &model.workloads[usize::from(workload)].pods[usize::from(slot)];
                self.text(if v6 { &pod.v6 } else { &pod.v4 });
            }
            End::Outside(at) => self.text(&model.outside[usize::from(at)].address),
            End::Odd(odd) => self.text(if v6 { odd.v6 } else { odd.v4 }),
            End::LinkLocal(workload, slot) => {
                self.text("fe80::b80b:16ff:fe");
                self.hex(u64::from(workload & 0xff) | 0x10, 2);
                self.out.push(b':');
                self.hex(u64::from(slot) + 0x59d0, 4);
            }
            End::Entity(shape, node) => {
                let node = usize::from(node) % NODES;
                let (v4, v6_text) = match shape {
                    0 => return self.text(if v6 { "fd00:10::101" } else { "10.0.1.101" }),
                    2 => return self.text("203.0.113.10"),
                    5 => (99, "fd00:10:0:99::"),
                    6 => (98, "fd00:10:0:98::"),
                    _ => (11 + node, "fd00:10::"),
                };
                if v6 {
                    self.text(v6_text);
                    self.number(node as u64 + 11);
                } else if shape >= 5 {
                    self.text("10.");
                    self.number(node as u64 + 1);
                    self.text(".0.");
                    self.number(v4 as u64);
                } else {
                    self.text("10.0.0.");
                    self.number(v4 as u64);
                }
            }
        }
    }
}
