//! Layer 4 as flows carry it: protocol, ports, TCP flags, ICMP type; and the identity of a connection.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use xxhash_rust::xxh3::xxh3_64;

/// Layer 4 of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4 {
    /// The flow has no layer 4: the packet was not parsed so far, or a mask left it out.
    Absent,
    /// A protocol that policies cannot name by port (VRRP, IGMP, or one newer than this version).
    Unknown,
    /// TCP. `flags` is `None` when a mask or a proxy left them out, which is not "no flag".
    Tcp {
        /// Port of the sender.
        source: u16,
        /// Port of the receiver.
        destination: u16,
        /// The flags of this packet.
        flags: Option<TcpFlags>,
    },
    /// UDP.
    Udp {
        /// Port of the sender.
        source: u16,
        /// Port of the receiver.
        destination: u16,
    },
    /// SCTP.
    Sctp {
        /// Port of the sender.
        source: u16,
        /// Port of the receiver.
        destination: u16,
    },
    /// ICMPv4 or ICMPv6.
    Icmp {
        /// Which of the two.
        family: IcmpFamily,
        /// The type as on the wire.
        kind: u8,
        /// The code as on the wire; policies do not look at it.
        code: u8,
    },
}

/// The TCP flags that tell a first packet from a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFlags {
    /// Opens a connection.
    pub syn: bool,
    /// Acknowledges: never set on a first packet.
    pub ack: bool,
    /// Closes one side.
    pub fin: bool,
    /// Aborts.
    pub rst: bool,
}

/// A protocol that a policy names ports of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `SCTP`.
    Sctp,
    /// `TCP`.
    Tcp,
    /// `UDP`.
    Udp,
}

/// The two families of ICMP, as `icmps[].fields[].family` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IcmpFamily {
    /// ICMP for IPv4.
    V4,
    /// ICMPv6.
    V6,
}

/// A port that a rule can name: 1 to 65535, since 0 means every port to Cilium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

/// The identity of a connection: a hash of addresses, ports and protocol that is the same on every
/// machine. ICMP has no ports: its type stands for them, so one pinging pair is one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection(pub u64);

// === impl Port ===

impl Port {
    /// `None` for 0.
    pub fn new(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Protocol ===

impl Protocol {
    /// The name as in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sctp => "SCTP",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// From the name in a policy, in any case, as Cilium's agent reads it.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sctp, Self::Tcp, Self::Udp].into_iter().find(|p| p.as_str().eq_ignore_ascii_case(name))
    }
}

// === impl IcmpFamily ===

impl IcmpFamily {
    /// The name as in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

// === impl Connection ===

impl Connection {
    /// `None` where there is nothing to tell connections apart by.
    pub fn new(source: IpAddr, destination: IpAddr, l4: &L4) -> Option<Self> {
        let (protocol, from, to) = match *l4 {
            L4::Absent | L4::Unknown => return None,
            L4::Tcp { source, destination, .. } => (6, source, destination),
            L4::Udp { source, destination } => (17, source, destination),
            L4::Sctp { source, destination } => (132, source, destination),
            L4::Icmp { family: IcmpFamily::V4, kind, .. } => (1, 0, u16::from(kind)),
            L4::Icmp { family: IcmpFamily::V6, kind, .. } => (58, 0, u16::from(kind)),
        };
        // 16 + 16 + 2 + 2 + 1 bytes; addresses as IPv6, so that both families have one form.
        let mut key = [0u8; 37];
        key[..16].copy_from_slice(&octets(source));
        key[16..32].copy_from_slice(&octets(destination));
        key[32..34].copy_from_slice(&from.to_be_bytes());
        key[34..36].copy_from_slice(&to.to_be_bytes());
        key[36] = protocol;
        Some(Self(xxh3_64(&key)))
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_its_addresses_ports_and_protocol() {
        let a: IpAddr = "10.0.0.1".parse().unwrap();
        let b: IpAddr = "10.0.0.2".parse().unwrap();
        let tcp = |source, destination| L4::Tcp { source, destination, flags: None };
        let one = Connection::new(a, b, &tcp(40000, 80)).unwrap();
        assert_eq!(Connection::new(a, b, &tcp(40000, 80)), Some(one));
        assert_ne!(Connection::new(a, b, &tcp(40001, 80)), Some(one));
        assert_ne!(Connection::new(b, a, &tcp(40000, 80)), Some(one));
        assert_ne!(Connection::new(a, b, &L4::Udp { source: 40000, destination: 80 }), Some(one));
        assert_eq!(Connection::new(a, b, &L4::Unknown), None);
        // The value is part of what is kept on disk: it must not change between releases.
        assert_eq!(one, Connection(14_604_849_100_940_308_904));
    }
}
