//! Protocols, ports and ICMP types of a rule.

use super::{L7, Listener, TlsContext, Version};
use crate::flow::IcmpFamily;

/// What a rule says about layer 4.
#[derive(Debug, Clone, PartialEq)]
pub enum L4 {
    /// Neither ports nor ICMP types: every protocol and port.
    All,
    /// `toPorts`, never empty. Whatever one of the items matches; an item without ports matches nothing.
    Ports(Vec<PortRule>),
    /// `icmps`, one list out of all items. Empty when all of them have empty `fields`: matches nothing.
    Icmp(Vec<IcmpMatch>),
}

/// One item of `toPorts`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PortRule {
    /// `ports`: whatever one of them matches; nothing when empty.
    pub ports: Vec<PortMatch>,
    /// `rules`.
    pub l7: L7,
    /// `serverNames`: the TLS server names that may be asked for; empty = any.
    pub server_names: Vec<Box<str>>,
    /// `listener`.
    pub listener: Option<Listener>,
    /// `terminatingTLS`.
    pub terminating_tls: Option<TlsContext>,
    /// `originatingTLS`.
    pub originating_tls: Option<TlsContext>,
}

/// One item of `ports`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortMatch {
    /// Which protocols.
    pub protocols: Protocols,
    /// Which ports of these.
    pub port: PortSpec,
}

/// The protocols of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocols {
    /// `ANY`, or none given: TCP, UDP and SCTP, nothing else.
    Any,
    /// This one.
    One(IpProtocol),
}

/// A protocol that `protocol` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpProtocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
    /// VRRP, without ports (since 1.19)
    Vrrp,
    /// IGMP, without ports (since 1.19)
    Igmp,
    /// GRE, without ports (since 1.20)
    Gre,
    /// IP in IP, without ports (since 1.20)
    Ipip,
    /// IPv6 in IP, without ports (since 1.20)
    Ipv6,
    /// ESP, without ports (since 1.20)
    Esp,
    /// AH, without ports (since 1.20)
    Ah,
}

/// The ports of a [`PortMatch`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortSpec {
    /// All: port 0, or no port where that may be left out, or a protocol without ports.
    All,
    /// From `first` to `last`, both included; equal for a single port.
    Range {
        /// The lowest.
        first: u16,
        /// The highest; never below `first`.
        last: u16,
    },
    /// A named container port, in lower case.
    Named {
        /// The name.
        name: Box<str>,
        /// With `endPort`, from the number that the name stands for up to this one, if that is higher.
        end: EndPort,
    },
}

/// `endPort` of a named port.
pub type EndPort = Option<u16>;

/// One field of `icmps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IcmpMatch {
    /// Type 0, which means every type of the family to Cilium.
    Every(IcmpFamily),
    /// One type. Above 255 it is accepted and never matches.
    Type(IcmpFamily, u16),
}

// === impl PortSpec ===

impl PortSpec {
    /// From a port and an `endPort` as the agent understands them: 0 is every port, an end that is not
    /// above the port does not count.
    pub(super) fn numbers(first: u16, end: u16) -> Self {
        match (first, end) {
            (0, 0 | u16::MAX) => Self::All,
            (first, end) => Self::Range { first, last: end.max(first) },
        }
    }
}

// === impl Protocols ===

impl Protocols {
    /// One by one.
    pub fn list(self) -> &'static [IpProtocol] {
        use IpProtocol as P;
        match self {
            Self::Any => &[P::Tcp, P::Udp, P::Sctp],
            Self::One(P::Tcp) => &[P::Tcp],
            Self::One(P::Udp) => &[P::Udp],
            Self::One(P::Sctp) => &[P::Sctp],
            Self::One(P::Vrrp) => &[P::Vrrp],
            Self::One(P::Igmp) => &[P::Igmp],
            Self::One(P::Gre) => &[P::Gre],
            Self::One(P::Ipip) => &[P::Ipip],
            Self::One(P::Ipv6) => &[P::Ipv6],
            Self::One(P::Esp) => &[P::Esp],
            Self::One(P::Ah) => &[P::Ah],
        }
    }
}

// === impl IpProtocol ===

impl IpProtocol {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Tcp,
        Self::Udp,
        Self::Sctp,
        Self::Vrrp,
        Self::Igmp,
        Self::Gre,
        Self::Ipip,
        Self::Ipv6,
        Self::Esp,
        Self::Ah,
    ];

    /// The name as in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Vrrp => "VRRP",
            Self::Igmp => "IGMP",
            Self::Gre => "GRE",
            Self::Ipip => "IPIP",
            Self::Ipv6 => "IPV6",
            Self::Esp => "ESP",
            Self::Ah => "AH",
        }
    }

    /// The first version whose agent knows it.
    pub fn since(self) -> Version {
        match self {
            Self::Tcp | Self::Udp | Self::Sctp => Version::V1_16,
            Self::Vrrp | Self::Igmp => Version::V1_19,
            Self::Gre | Self::Ipip | Self::Ipv6 | Self::Esp | Self::Ah => Version::V1_20,
        }
    }

    /// Whether it has ports.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Sctp)
    }
}

impl IcmpMatch {
    /// Whether a packet of this family and type is meant.
    pub fn matches(self, family: IcmpFamily, kind: u8) -> bool {
        match self {
            Self::Every(f) => f == family,
            Self::Type(f, t) => f == family && t == u16::from(kind),
        }
    }
}
