//! What each drop reason means: one row per number, with its class and one sentence.

use std::fmt;
use std::net::IpAddr;

use crate::flow::{DropReason, Flow};

/// What kind of trouble a drop is, so what would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Default deny. The only class that a new allow rule helps.
    Policy,
    /// A deny rule of a policy decided. An allow rule cannot win.
    ExplicitDeny,
    /// A rule allows it, but authentication is missing.
    Authentication,
    /// The Service's own configuration refuses the client.
    Service,
    /// Somebody claims to be who he is not.
    Security,
    /// The cluster's network is broken or full.
    Infrastructure,
    /// Passes by itself.
    Transient,
    /// Nothing is lost, or nobody meant to send it.
    Noise,
    /// A number that this version does not know: never a rule.
    Unknown,
}

struct Row {
    number: i32,
    class: Class,
    why: &'static str,
}

// === impl Class ===

impl Class {
    /// The class of a reason by itself.
    pub fn of(reason: DropReason) -> Self {
        row(reason).map_or(Self::Unknown, |row| row.class)
    }

    /// The class of a dropped flow. Differs from the reason's where the packet tells more: a wrong
    /// source address is noise when it is link-local or the target a multicast group (the kernel's
    /// router solicitations), and security otherwise.
    pub fn of_flow(flow: &Flow) -> Self {
        const INVALID_SOURCE_IP: DropReason = DropReason(132);
        match (flow.drop_reason, flow.ip) {
            (INVALID_SOURCE_IP, Some((source, target))) if is_link_local(source) || target.is_multicast() => {
                Self::Noise
            }
            (reason, _) => Self::of(reason),
        }
    }

    /// The word that summaries use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::ExplicitDeny => "explicit_deny",
            Self::Authentication => "auth_required",
            Self::Service => "service",
            Self::Security => "security",
            Self::Infrastructure => "infrastructure",
            Self::Transient => "transient",
            Self::Noise => "noise",
            Self::Unknown => "unknown_reason",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One sentence on why packets of this class are dropped for this reason.
pub fn why(class: Class, reason: DropReason) -> &'static str {
    match row(reason) {
        Some(row) if row.class == class => row.why,
        Some(_) => "a packet that the kernel sends for itself, from or to an address that no policy is about",
        None => "a reason newer than this cpg; never made into a rule",
    }
}

fn row(reason: DropReason) -> Option<&'static Row> {
    ROWS.binary_search_by_key(&reason.0, |row| row.number).ok().map(|at| &ROWS[at])
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// By number. From the datapath's own use of each number (`bpf/lib/drop_reasons.h` and the programs
/// that return it), not from its name: several names are older than what the number means now.
static ROWS: [Row; 78] = [
    Row {
        number: 130,
        class: Class::Noise,
        why: "no longer sent by the datapath (was: wrong source MAC address)",
    },
    Row {
        number: 131,
        class: Class::Noise,
        why: "no longer sent by the datapath (was: wrong destination MAC address)",
    },
    Row {
        number: 132,
        class: Class::Security,
        why: "the pod sent with a source address that is not its own: a second interface, or spoofing",
    },
    Row { number: 133, class: Class::Policy, why: "default deny: no rule allows it" },
    Row { number: 134, class: Class::Infrastructure, why: "the packet is malformed or cut short" },
    Row {
        number: 135,
        class: Class::Infrastructure,
        why: "connection tracking cannot read the packet's header",
    },
    Row {
        number: 136,
        class: Class::Infrastructure,
        why: "the packet is larger than the MTU and must not be fragmented (the API keeps an older name for this number)",
    },
    Row {
        number: 137,
        class: Class::Infrastructure,
        why: "connection tracking does not know this L4 protocol; SCTP must be switched on in Cilium",
    },
    Row {
        number: 138,
        class: Class::Noise,
        why: "no longer sent by the datapath (was: no connection-tracking entry from this packet)",
    },
    Row {
        number: 139,
        class: Class::Noise,
        why: "not IP: an ethertype that Cilium does not handle, mostly background traffic",
    },
    Row {
        number: 140,
        class: Class::Infrastructure,
        why: "a datapath program was missing when it was called: brief while an agent upgrades, else a fault",
    },
    Row { number: 141, class: Class::Infrastructure, why: "the datapath could not rewrite the packet" },
    Row {
        number: 142,
        class: Class::Infrastructure,
        why: "policy and load balancing do not know this L4 protocol",
    },
    Row {
        number: 143,
        class: Class::Infrastructure,
        why: "an ICMPv4 code that the datapath does not handle",
    },
    Row {
        number: 144,
        class: Class::Infrastructure,
        why: "an ICMPv4 type that the datapath does not handle",
    },
    Row {
        number: 145,
        class: Class::Infrastructure,
        why: "an ICMPv6 code that the datapath does not handle",
    },
    Row {
        number: 146,
        class: Class::Infrastructure,
        why: "an ICMPv6 type that the datapath does not handle",
    },
    Row { number: 147, class: Class::Infrastructure, why: "a tunnel packet came without its metadata" },
    Row { number: 148, class: Class::Noise, why: "no longer sent by the datapath (was: tunnel options)" },
    Row { number: 149, class: Class::Noise, why: "no longer sent by the datapath (was: Geneve option)" },
    Row {
        number: 150,
        class: Class::Infrastructure,
        why: "neighbour solicitation for an address that is not on this node",
    },
    Row {
        number: 151,
        class: Class::Transient,
        why: "the destination is not known to the node: the pod has gone, or its address is not spread yet",
    },
    Row { number: 152, class: Class::Noise, why: "no longer sent by the datapath (was: no local container)" },
    Row { number: 153, class: Class::Infrastructure, why: "the L3 checksum could not be corrected" },
    Row { number: 154, class: Class::Infrastructure, why: "the L4 checksum could not be corrected" },
    Row {
        number: 155,
        class: Class::Infrastructure,
        why: "the connection-tracking table is full: new connections fail on this node",
    },
    Row {
        number: 156,
        class: Class::Infrastructure,
        why: "an IPv6 extension header that Cilium cannot read",
    },
    Row {
        number: 157,
        class: Class::Infrastructure,
        why: "a fragment without ports came while fragment tracking is off",
    },
    Row { number: 158, class: Class::Infrastructure, why: "the Service has no ready backend" },
    Row { number: 159, class: Class::Infrastructure, why: "load balancing cannot handle this L4 protocol" },
    Row {
        number: 160,
        class: Class::Infrastructure,
        why: "no tunnel endpoint is known for the destination: brief when a node joins, else a fault",
    },
    Row {
        number: 161,
        class: Class::Infrastructure,
        why: "NAT between IPv4 and IPv6 is not switched on (the API keeps an older name for this number)",
    },
    Row {
        number: 162,
        class: Class::Infrastructure,
        why: "the pod sends faster than its egress-bandwidth annotation allows",
    },
    Row {
        number: 163,
        class: Class::Infrastructure,
        why: "connection tracking returned a state that cannot be",
    },
    Row {
        number: 164,
        class: Class::Infrastructure,
        why: "the node itself cannot be reached from its datapath",
    },
    Row {
        number: 165,
        class: Class::Noise,
        why: "not known to be sent (no configuration for a policy decision)",
    },
    Row { number: 166, class: Class::Noise, why: "a link-layer header that the device does not support" },
    Row {
        number: 167,
        class: Class::Infrastructure,
        why: "no NAT state for a packet from outside: it expired, or nobody asked for it",
    },
    Row { number: 168, class: Class::Infrastructure, why: "this protocol cannot be masqueraded" },
    Row {
        number: 169,
        class: Class::Infrastructure,
        why: "the kernel has no route or neighbour for the destination",
    },
    Row {
        number: 170,
        class: Class::Security,
        why: "a pod sent tunnel traffic itself, which is reserved to the nodes",
    },
    Row {
        number: 171,
        class: Class::Security,
        why: "a packet from the tunnel claims an identity that it cannot have: spoofed, or clusters misconfigured",
    },
    Row {
        number: 172,
        class: Class::Infrastructure,
        why: "the sender of a tunnel or proxy packet could not be identified",
    },
    Row { number: 173, class: Class::Noise, why: "internal signal of the NAT code, no packet is lost" },
    Row {
        number: 174,
        class: Class::Infrastructure,
        why: "somebody outside the cluster sends to a ClusterIP, which is not reachable from there",
    },
    Row { number: 175, class: Class::Infrastructure, why: "a later fragment came without its first one" },
    Row {
        number: 176,
        class: Class::Infrastructure,
        why: "an ICMPv6 message that the node does not let through",
    },
    Row {
        number: 177,
        class: Class::Service,
        why: "the client is outside the Service's loadBalancerSourceRanges; no policy can allow it",
    },
    Row { number: 178, class: Class::Infrastructure, why: "the socket of the proxy was not found" },
    Row {
        number: 179,
        class: Class::Infrastructure,
        why: "the packet could not be handed to the proxy: brief while Envoy restarts",
    },
    Row {
        number: 180,
        class: Class::Infrastructure,
        why: "an L7 rule redirects a protocol that the proxy does not speak: change that rule",
    },
    Row {
        number: 181,
        class: Class::ExplicitDeny,
        why: "a deny rule matched; no allow rule can win over it",
    },
    Row { number: 182, class: Class::Infrastructure, why: "the VLAN is not let through by the VLAN filter" },
    Row { number: 183, class: Class::Infrastructure, why: "a VTEP sent the wrong network identifier" },
    Row { number: 184, class: Class::Infrastructure, why: "a datapath buffer could not be used" },
    Row { number: 185, class: Class::Infrastructure, why: "SRv6 has no segment for the address" },
    Row { number: 186, class: Class::Noise, why: "no longer sent by the datapath (was: SRv6 state)" },
    Row { number: 187, class: Class::Infrastructure, why: "translation from IPv4 to IPv6 failed" },
    Row { number: 188, class: Class::Infrastructure, why: "translation from IPv6 to IPv4 failed" },
    Row {
        number: 189,
        class: Class::Authentication,
        why: "a rule allows it once both sides have authenticated; if it stays, mutual authentication is broken",
    },
    Row {
        number: 190,
        class: Class::Infrastructure,
        why: "the connection-tracking table of that cluster is missing",
    },
    Row { number: 191, class: Class::Infrastructure, why: "the NAT table of that cluster is missing" },
    Row { number: 192, class: Class::Infrastructure, why: "the cluster id is not valid" },
    Row { number: 193, class: Class::Infrastructure, why: "direct server return cannot carry this protocol" },
    Row {
        number: 194,
        class: Class::Infrastructure,
        why: "an egress gateway policy applies, but no gateway node was found",
    },
    Row {
        number: 195,
        class: Class::Infrastructure,
        why: "strict encryption is on and the packet is in plain text",
    },
    Row {
        number: 196,
        class: Class::Noise,
        why: "the hop limit ran out: traceroute, or a routing loop if it stays",
    },
    Row { number: 197, class: Class::Infrastructure, why: "IPsec knows no id for the node" },
    Row {
        number: 198,
        class: Class::Transient,
        why: "replies about missing Services are sent at a limited rate",
    },
    Row { number: 199, class: Class::Noise, why: "consumed by multicast handling, no packet is lost" },
    Row { number: 200, class: Class::Noise, why: "a multicast subscription was recorded, no packet is lost" },
    Row { number: 201, class: Class::Noise, why: "copied by multicast handling, no packet is lost" },
    Row { number: 202, class: Class::Transient, why: "the node's datapath was not loaded yet" },
    Row { number: 203, class: Class::Transient, why: "the endpoint's policy program was not loaded yet" },
    Row {
        number: 204,
        class: Class::Infrastructure,
        why: "the egress gateway policy names no usable egress address",
    },
    Row { number: 205, class: Class::Noise, why: "handed to a proxy in user space, no packet is lost" },
    Row { number: 206, class: Class::Infrastructure, why: "the device to send on is not known" },
    Row {
        number: 207,
        class: Class::Noise,
        why: "a later fragment from outside came without its first one, mostly ambient traffic",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_reason_has_a_row_and_every_row_a_name() {
        assert!(ROWS.is_sorted_by_key(|row| row.number));
        for reason in DropReason::known() {
            assert_ne!(Class::of(reason), Class::Unknown, "{reason}");
        }
        for row in &ROWS {
            assert!(DropReason(row.number).name().is_some(), "{}", row.number);
            assert!(row.why.len() > 20 && !row.why.ends_with('.'), "{}", row.number);
        }
        assert_eq!(ROWS.len(), DropReason::known().count());
    }

    #[test]
    fn only_default_deny_asks_for_a_rule() {
        let policy: Vec<i32> = ROWS.iter().filter(|r| r.class == Class::Policy).map(|r| r.number).collect();
        assert_eq!(policy, [133]);
    }

    #[test]
    fn reasons_that_other_tools_take_for_policy() {
        let check = |number, class| assert_eq!(Class::of(DropReason(number)), class, "{number}");
        check(177, Class::Service);
        check(181, Class::ExplicitDeny);
        check(189, Class::Authentication);
        check(171, Class::Security);
        check(174, Class::Infrastructure);
        check(198, Class::Transient);
        check(0, Class::Unknown);
        check(208, Class::Unknown);
        check(-1, Class::Unknown);
    }
}
