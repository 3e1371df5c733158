//! Flows that no rule may come of: drops that are no need, and everything that passed.

use super::line::{ACK, End, FIN, Odd, PSH, Packet, RST, SYN, Said, Wire};
use super::model::Kind;
use super::traffic::Traffic;
use crate::demo::need::Direction;

const POLICY: (u16, &str) = (133, "POLICY_DENIED");

/// Reasons that no policy can change: of the datapath, of the moment, of later versions, of noise, of
/// services, of security; each with its share.
const REASONS: [(u16, &str, usize); 17] = [
    (155, "CT_MAP_INSERTION_FAILED", 8),
    (158, "SERVICE_BACKEND_NOT_FOUND", 8),
    (169, "FIB_LOOKUP_FAILED", 4),
    (136, "CT_MISSING_TCP_ACK_FLAG", 3),
    (134, "INVALID_PACKET_DROPPED", 2),
    (162, "REACHED_EDT_RATE_LIMITING_DROP_HORIZON", 2),
    (203, "DROP_EP_NOT_READY", 6),
    (202, "DROP_HOST_NOT_READY", 2),
    (151, "STALE_OR_UNROUTABLE_IP", 4),
    (251, "", 3),
    (300, "", 1),
    (139, "UNSUPPORTED_L3_PROTOCOL", 2),
    (166, "UNSUPPORTED_L2_PROTOCOL", 1),
    (177, "DENIED_BY_LB_SRC_RANGE_CHECK", 4),
    (174, "IS_A_CLUSTERIP", 2),
    (171, "INVALID_IDENTITY", 2),
    (170, "ENCAPSULATION_TRAFFIC_IS_PROHIBITED", 1),
];

/// Groups and broadcasts.
static GROUPS: [(Odd, bool, Wire); 6] = [
    (
        odd("224.0.0.251", "", r#""identity":9,"labels":["reserved:world-ipv4"]"#),
        false,
        Wire::Udp(5353, 5353),
    ),
    (
        odd("239.255.255.250", "", r#""identity":2,"labels":["reserved:world"]"#),
        false,
        Wire::Udp(49_152, 1900),
    ),
    (odd("255.255.255.255", "", r#""identity":2,"labels":["reserved:world"]"#), false, Wire::Udp(68, 67)),
    (odd("", "ff02::fb", r#""identity":10,"labels":["reserved:world-ipv6"]"#), true, Wire::Udp(5353, 5353)),
    (odd("", "ff02::1", r#""identity":10,"labels":["reserved:world-ipv6"]"#), true, Wire::Icmp(128, 0)),
    (odd("224.0.0.22", "", r#""identity":9,"labels":["reserved:world-ipv4"]"#), false, Wire::Igmp),
];

/// Ends of which nothing is known.
static UNKNOWN: [Odd; 3] = [
    odd("10.1.200.7", "fd00:10:1::c807", ""),
    odd("10.2.200.9", "fd00:10:2::c809", r#""labels":["reserved:unknown"]"#),
    odd("10.3.200.9", "fd00:10:3::c809", r#""cluster_name":"prod""#),
];

static ROUTERS: Odd = odd("", "ff02::2", r#""identity":10,"labels":["reserved:world-ipv6"]"#);

const fn odd(v4: &'static str, v6: &'static str, json: &'static str) -> Odd {
    Odd { v4, v6, json }
}

/// ICMP that answers or reports: (is IPv6, type, code).
const ANSWERS: [(bool, u8, u8); 12] = [
    (false, 0, 0),
    (false, 3, 3),
    (false, 3, 1),
    (false, 11, 0),
    (true, 129, 0),
    (true, 1, 4),
    (true, 3, 0),
    (true, 2, 0),
    (true, 134, 0),
    (true, 135, 0),
    (true, 136, 0),
    (true, 143, 0),
];

const DENIED_EGRESS: &str = r#","egress_denied_by":[{"name":"no-metadata","namespace":"shop","labels":["k8s:io.cilium.k8s.policy.name=no-metadata"],"revision":"58","kind":"CiliumNetworkPolicy"}]"#;
const DENIED_INGRESS: &str = r#","ingress_denied_by":[{"name":"quarantine","labels":["k8s:io.cilium.k8s.policy.name=quarantine"],"revision":"58","kind":"CiliumClusterwideNetworkPolicy"}]"#;
const ALLOWED_EGRESS: &str = r#","egress_allowed_by":[{"name":"base","namespace":"shop","labels":["k8s:io.cilium.k8s.policy.name=base"],"revision":"58","kind":"CiliumNetworkPolicy"}]"#;

impl Traffic {
    /// A drop of which nothing may be learnt.
    pub(super) fn quiet(&mut self) {
        match self.rng.below(100) {
            0..14 => self.reply(),
            14..24 => self.mid_stream(),
            24..34 => self.explicit_deny(),
            34..39 => self.authentication(),
            39..61 => self.broken(),
            61..67 => self.solicitation(),
            67..73 => self.group(),
            73..79 => self.node_as_subject(),
            79..84 => self.nameless_subject(),
            84..88 => self.unknown_peer(),
            88..92 => self.unresolved_peer(),
            92..97 => self.icmp_answer(),
            97..99 => self.refused_name(),
            _ => self.nameless_peer(),
        }
    }

    fn any_of(&mut self, subjects: bool) -> End {
        let from = if subjects { &self.subjects } else { &self.nameless };
        let workload = self.rng.pick(from).copied().unwrap_or(0);
        let slots = self.model.workloads[usize::from(workload)].pods.len();
        let run = self.rng.below(5000) as u32;
        End::Pod(workload, self.rng.below(slots) as u16, run)
    }

    fn pod(&mut self) -> End {
        self.any_of(true)
    }

    fn ephemeral(&mut self) -> u16 {
        32_768 + self.rng.below(28_000) as u16
    }

    fn syn(&mut self, from: End, to: End) -> Packet {
        let port = [80, 443, 8080, 5432, 9100][self.rng.below(5)];
        let v6 = self.rng.chance(20);
        Packet { from, to, v6, wire: Wire::Tcp(self.ephemeral(), port, SYN) }
    }

    fn pods(&mut self) -> Packet {
        let (from, to) = (self.pod(), self.pod());
        self.syn(from, to)
    }

    fn twice(
        &mut self,
        direction: Direction,
        packet: Packet,
        reason: (u16, &'static str),
        tail: &'static str,
    ) {
        let [verdict, drop] = self.denied(direction, &packet, reason);
        self.plan(self.now, packet, Said { tail, ..verdict }, None);
        let later = self.now + 700 + self.rng.below(20_000) as u64;
        self.plan(later, packet, drop, None);
    }

    fn either(&mut self) -> Direction {
        if self.rng.chance(50) { Direction::Egress } else { Direction::Ingress }
    }

    /// The answer of a connection that conntrack has forgotten.
    fn reply(&mut self) {
        let packet = self.pods();
        let client = self.ephemeral();
        let wire = match self.rng.below(3) {
            0 => Wire::Udp(53, client),
            1 => Wire::Tcp(8080, client, SYN | ACK),
            _ => Wire::Tcp(443, client, ACK),
        };
        let direction = self.either();
        self.twice(direction, Packet { wire, ..packet }, POLICY, "");
    }

    fn mid_stream(&mut self) {
        let packet = self.pods();
        let flags = [ACK, ACK | PSH, RST, RST | ACK, FIN | ACK][self.rng.below(5)];
        let Wire::Tcp(from, to, _) = packet.wire else { return };
        let direction = self.either();
        self.twice(direction, Packet { wire: Wire::Tcp(from, to, flags), ..packet }, POLICY, "");
    }

    fn explicit_deny(&mut self) {
        let packet = self.pods();
        let direction = self.either();
        let by = if direction == Direction::Egress { DENIED_EGRESS } else { DENIED_INGRESS };
        self.twice(direction, packet, (181, "POLICY_DENY"), by);
    }

    fn authentication(&mut self) {
        let packet = self.pods();
        self.twice(Direction::Ingress, packet, (189, "AUTH_REQUIRED"), "");
    }

    /// A drop without any policy: the drop event alone.
    fn broken(&mut self) {
        let mut at = self.rng.below(REASONS.iter().map(|(_, _, share)| share).sum());
        let mut reason = POLICY;
        for (number, name, share) in REASONS {
            reason = (number, name);
            if at < share {
                break;
            }
            at -= share;
        }
        let packet = if matches!(reason.0, 177 | 174) {
            let (from, to) = (End::Outside(self.rng.below(3) as u16), self.pod());
            Packet { v6: false, ..self.syn(from, to) }
        } else {
            self.pods()
        };
        let direction = self.either();
        let [_, drop] = self.denied(direction, &packet, reason);
        self.plan(self.now, packet, drop, None);
    }

    /// A pod asks for routers with its link-local address.
    fn solicitation(&mut self) {
        let End::Pod(workload, slot, _) = self.pod() else { return };
        if self.model.workloads[usize::from(workload)].kind == Kind::Job {
            return;
        }
        let packet = Packet {
            from: End::LinkLocal(workload, slot),
            to: End::Odd(&ROUTERS),
            v6: true,
            wire: Wire::Icmp(133, 0),
        };
        let [_, drop] = self.denied(Direction::Egress, &packet, (132, "INVALID_SOURCE_IP"));
        // the direction of such a drop event is wrong in reality too
        self.plan(self.now, packet, Said { direction: "INGRESS", ..drop }, None);
    }

    fn group(&mut self) {
        let Some((to, v6, wire)) = self.rng.pick(&GROUPS) else { return };
        let packet = Packet { from: self.pod(), to: End::Odd(to), v6: *v6, wire: *wire };
        self.twice(Direction::Egress, packet, POLICY, "");
    }

    /// The host firewall: only a clusterwide policy could allow it.
    fn node_as_subject(&mut self) {
        let (node, pod) = (self.rng.below(4) as u8, self.pod());
        let host = End::Entity(3, node);
        let direction = self.either();
        let packet = match direction {
            Direction::Egress => self.syn(host, pod),
            Direction::Ingress => self.syn(pod, host),
        };
        self.twice(direction, packet, POLICY, "");
    }

    fn nameless_subject(&mut self) {
        let (subject, pod) = (self.any_of(false), self.pod());
        let packet = self.syn(subject, pod);
        self.twice(Direction::Egress, packet, POLICY, "");
    }

    /// A peer without labels, whose service account is `default`.
    fn nameless_peer(&mut self) {
        let (peer, pod) = (self.any_of(false), self.pod());
        let End::Pod(workload, ..) = peer else { return };
        if self.model.workloads[usize::from(workload)].account == "default" {
            let packet = self.syn(peer, pod);
            self.twice(Direction::Ingress, packet, POLICY, "");
        }
    }

    fn unknown_peer(&mut self) {
        let pod = self.pod();
        let Some(unknown) = self.rng.pick(&UNKNOWN) else { return };
        let packet = self.syn(End::Odd(unknown), pod);
        self.twice(Direction::Ingress, packet, POLICY, "");
    }

    /// The world by its label, a pod by its address.
    fn unresolved_peer(&mut self) {
        let (pod, peer) = (self.pod(), self.pod());
        let End::Pod(workload, slot, _) = peer else { return };
        let packet = self.syn(pod, End::Unresolved(workload, slot));
        self.twice(Direction::Egress, packet, POLICY, "");
    }

    fn icmp_answer(&mut self) {
        let packet = self.pods();
        let Some((v6, kind, code)) = self.rng.pick(&ANSWERS).copied() else { return };
        let direction = self.either();
        self.twice(direction, Packet { v6, wire: Wire::Icmp(kind, code), ..packet }, POLICY, "");
    }

    /// The DNS proxy refuses: a drop without a reason.
    fn refused_name(&mut self) {
        let packet = self.lookup();
        let said = Said { verdict: "DROPPED", ..self.l7(&packet) };
        self.plan(self.now, packet, said, None);
    }

    fn lookup(&mut self) -> Packet {
        // the first workload is kube-dns
        Packet { from: self.pod(), to: End::Pod(0, 0, 0), v6: false, wire: Wire::Udp(self.ephemeral(), 53) }
    }

    fn passed(&self, packet: &Packet) -> Said {
        Said {
            node: self.node_of(packet.from),
            verdict: "FORWARDED",
            event: (4, 5),
            reason: (0, ""),
            direction: "",
            reply: None,
            middle: r#","trace_observation_point":"FROM_ENDPOINT""#,
            tail: "",
            dns: false,
        }
    }

    fn l7(&self, packet: &Packet) -> Said {
        Said {
            event: (129, 0),
            direction: "EGRESS",
            reply: Some(false),
            middle: "",
            dns: true,
            ..self.passed(packet)
        }
    }

    /// What passed: traces above all, allowed verdicts, what audit mode let through, names looked up.
    pub(super) fn forwarded(&mut self) {
        let packet = self.pods();
        let trace = self.passed(&packet);
        let verdict = Said { event: (5, 0), direction: "EGRESS", reply: Some(false), middle: "", ..trace };
        match self.rng.below(100) {
            0..76 => self.traced(packet, trace),
            76..84 => {
                let middle = r#","policy_match_type":2"#;
                self.plan(self.now, packet, Said { middle, tail: ALLOWED_EGRESS, ..verdict }, None);
            }
            84..88 => self.plan(self.now, packet, Said { verdict: "AUDIT", ..verdict }, None),
            88..92 => {
                let packet = self.lookup();
                let said = Said { verdict: "REDIRECTED", node: self.node_of(packet.from), ..verdict };
                self.plan(self.now, packet, said, None);
            }
            92..96 => {
                let packet = self.lookup();
                let said = self.l7(&packet);
                self.plan(self.now, packet, said, None);
            }
            _ => {
                let from = packet.from;
                let packet = Packet { to: End::Outside(0), v6: false, ..self.syn(from, from) };
                let middle = r#","trace_observation_point":"TO_STACK","trace_reason":"NEW""#;
                let said = Said { event: (4, 3), direction: "EGRESS", reply: Some(false), middle, ..trace };
                self.plan(self.now, packet, said, None);
            }
        }
    }

    /// One packet or two of a connection, at the sender and where it arrives.
    fn traced(&mut self, packet: Packet, sent: Said) {
        let flags = [SYN, ACK, ACK | PSH, FIN | ACK][self.rng.below(4)];
        let Wire::Tcp(from, to, _) = packet.wire else { return };
        let (packet, reply) = match self.rng.below(3) {
            0 => (Packet { wire: Wire::Tcp(to, from, SYN | ACK), ..packet }, true),
            _ => (Packet { wire: Wire::Tcp(from, to, flags), ..packet }, false),
        };
        self.plan(self.now, packet, sent, None);
        let arrived = Said {
            node: self.node_of(packet.to),
            event: (4, 0),
            direction: "EGRESS",
            reply: Some(reply),
            middle: r#","trace_observation_point":"TO_ENDPOINT","trace_reason":"ESTABLISHED""#,
            ..sent
        };
        let later = self.now + 60_000 + self.rng.below(200_000) as u64;
        self.plan(later, packet, arrived, None);
    }
}
