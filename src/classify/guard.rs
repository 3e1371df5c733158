//! Only the first packet of a connection speaks for a need. A reply that lost its connection-tracking
//! entry looks like a new flow from the server's port to the client's; a rule for it would open
//! ephemeral ports.

use super::Skip;
use crate::flow::{Flow, IcmpFamily, L4};

/// Ports from here on are taken for ephemeral: Linux draws from 32768 to 60999, others from 49152.
const EPHEMERAL: u16 = 32_768;

/// Whether the packet opens a connection, as far as the flow tells.
pub(super) fn opens_connection(flow: &Flow) -> Result<(), Skip> {
    if flow.is_reply == Some(true) {
        return Err(Skip::Reply);
    }
    if flow.ip.is_some_and(|(_, target)| match target {
        std::net::IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        std::net::IpAddr::V6(v6) => v6.is_multicast(),
    }) && !matches!(flow.l4, L4::Icmp { .. })
    {
        return Err(Skip::Multicast);
    }
    match flow.l4 {
        L4::Absent => Err(Skip::NoL4),
        L4::Unknown => Err(Skip::UnknownProtocol),
        L4::Tcp { destination: 0, .. } | L4::Udp { destination: 0, .. } | L4::Sctp { destination: 0, .. } => {
            Err(Skip::NoL4)
        }
        L4::Tcp { flags: None, .. } => Err(Skip::FlagsUnknown),
        L4::Tcp { flags: Some(flags), .. } => match (flags.syn, flags.ack) {
            (true, false) if !flags.rst && !flags.fin => Ok(()),
            (true, true) => Err(Skip::Reply),
            _ => Err(Skip::MidStream),
        },
        L4::Udp { source, destination } | L4::Sctp { source, destination } => {
            if destination >= EPHEMERAL && source < EPHEMERAL { Err(Skip::Reply) } else { Ok(()) }
        }
        L4::Icmp { family, kind, .. } => icmp(flow, family, kind),
    }
}

/// Requests pass, answers and errors do not, nor what the kernel sends for itself (RFC 792, 4443,
/// 4861, 3810).
fn icmp(flow: &Flow, family: IcmpFamily, kind: u8) -> Result<(), Skip> {
    match (family, kind) {
        // Router advertisement and solicitation; multicast listeners, neighbour and router discovery.
        (IcmpFamily::V4, 9 | 10) | (IcmpFamily::V6, 130..=137 | 141..=143 | 148..=149 | 151..=153) => {
            Err(Skip::NeighbourDiscovery)
        }
        // Echo and timestamp and other replies; errors about an earlier packet.
        (IcmpFamily::V4, 0 | 3 | 4 | 5 | 11 | 12 | 14 | 16 | 18 | 43)
        | (IcmpFamily::V6, 1..=4 | 129 | 140 | 161) => Err(Skip::Reply),
        (_, 0) => Err(Skip::IcmpTypeZero),
        _ if flow.ip.is_some_and(|(_, target)| target.is_multicast()) => Err(Skip::Multicast),
        _ => Ok(()),
    }
}
