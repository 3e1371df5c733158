//! Layer 4 of a rule, prepared, and whether a packet is meant by it.

use super::party::Party;
use super::selector::Match;
use super::{EngineOptions, Field, NamedPort};
use crate::flow::{Direction, IcmpFamily};
use crate::policy::spec::{
    EndPort, IcmpMatch, IpProtocol, L4, L7, PortMatch, PortRule, PortSpec, Protocols, Version,
};

/// What the first packet of a connection asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// A protocol that a policy can name, and the port of the receiver after service translation (0 where
    /// the protocol has none).
    Port {
        /// The protocol.
        protocol: IpProtocol,
        /// The port.
        port: u16,
    },
    /// An ICMP message.
    Icmp {
        /// ICMP or ICMPv6.
        family: IcmpFamily,
        /// Its type.
        kind: u8,
    },
    /// A protocol that Hubble does not name.
    Other,
}

/// One filter: an item of `toPorts`, all of `icmps`, or a rule without either.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Filter {
    ports: Ports,
    /// The protocols that go to a proxy.
    redirect: ProtocolSet,
    /// It asks for TLS server names.
    pub(super) sni: bool,
    /// It says more than layer 4.
    pub(super) special: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Ports {
    All,
    Some { ranges: Box<[Range]>, named: Box<[Named]> },
    Icmp(Box<[IcmpMatch]>),
}

/// Ports of some protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Range {
    protocols: ProtocolSet,
    first: u16,
    last: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Named {
    protocols: ProtocolSet,
    name: Box<str>,
    end: EndPort,
}

/// Protocols as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct ProtocolSet(u16);

/// Who can tell what a port name stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub(super) options: &'a EngineOptions,
    pub(super) direction: Direction,
    pub(super) subject: &'a Party,
    pub(super) peer: &'a Party,
}

// === impl Traffic ===

impl Traffic {
    /// TCP to this port.
    pub fn tcp(port: u16) -> Self {
        Self::Port { protocol: IpProtocol::Tcp, port }
    }

    /// UDP to this port.
    pub fn udp(port: u16) -> Self {
        Self::Port { protocol: IpProtocol::Udp, port }
    }

    /// SCTP to this port.
    pub fn sctp(port: u16) -> Self {
        Self::Port { protocol: IpProtocol::Sctp, port }
    }
}

// === impl Filter ===

impl Filter {
    /// The filters of a rule. What they match is the union.
    pub(super) fn all(l4: &L4, version: Version) -> Vec<Self> {
        let plain = |ports| Self { ports, redirect: ProtocolSet::default(), sni: false, special: false };
        match l4 {
            L4::All => vec![plain(Ports::All)],
            L4::Ports(rules) => rules.iter().map(|rule| Self::of_rule(rule, version)).collect(),
            L4::Icmp(types) => vec![plain(Ports::Icmp(types.as_slice().into()))],
        }
    }

    fn of_rule(rule: &PortRule, version: Version) -> Self {
        let (mut ranges, mut named) = (Vec::new(), Vec::new());
        for PortMatch { protocols, port } in &rule.ports {
            let protocols = ProtocolSet::of(*protocols);
            match port {
                PortSpec::All => ranges.push(Range { protocols, first: 0, last: u16::MAX }),
                // Since 1.20 port 0 is every port, whatever `endPort` says.
                PortSpec::Range { first: 0, .. } if version >= Version::V1_20 => {
                    ranges.push(Range { protocols, first: 0, last: u16::MAX });
                }
                PortSpec::Range { first, last } => {
                    ranges.push(Range { protocols, first: *first, last: *last })
                }
                PortSpec::Named { name, end } => {
                    named.push(Named { protocols, name: name.clone(), end: *end })
                }
            }
        }
        let sni = !rule.server_names.is_empty();
        let every = sni
            || rule.listener.is_some()
            || rule.terminating_tls.is_some()
            || rule.originating_tls.is_some()
            || matches!(rule.l7, L7::Dns(_));
        let redirect = match (&rule.l7, every) {
            (_, true) => ProtocolSet::ALL,
            (L7::None | L7::Dns(_), false) => ProtocolSet::default(),
            (L7::Http(_) | L7::Kafka(_) | L7::Proxylib { .. }, false) => {
                ProtocolSet::of(Protocols::One(IpProtocol::Tcp))
            }
        };
        let special = redirect != ProtocolSet::default();
        Self { ports: Ports::Some { ranges: ranges.into(), named: named.into() }, redirect, sni, special }
    }

    /// The ports, where they are numbers and nothing else decides about a protocol that has some.
    pub(super) fn numbers(&self) -> Option<&[Range]> {
        match &self.ports {
            Ports::Some { ranges, named } if named.is_empty() => Some(ranges),
            _ => None,
        }
    }

    /// Whether what it matches of this goes to a proxy.
    pub(super) fn redirects(&self, traffic: Traffic) -> bool {
        matches!(traffic, Traffic::Port { protocol, .. } if self.redirect.has(protocol))
    }

    pub(super) fn matches(&self, traffic: Traffic, names: Names<'_>) -> Match {
        match (&self.ports, traffic) {
            (Ports::All, _) => Match::Yes,
            (Ports::Icmp(types), Traffic::Icmp { family, kind }) => {
                types.iter().any(|t| t.matches(family, kind)).into()
            }
            (Ports::Some { ranges, named }, Traffic::Port { protocol, port }) => {
                if ranges.iter().any(|r| r.has(protocol, port)) {
                    return Match::Yes;
                }
                let mut found = Match::No;
                for n in named.iter().filter(|n| n.protocols.has(protocol)) {
                    found = found.or(|| names.matches(n, protocol, port));
                }
                found
            }
            (Ports::Some { ranges, .. }, Traffic::Other) => {
                // Hubble names none of the protocols without ports.
                if ranges.iter().any(|r| r.protocols.has_portless()) {
                    Match::Unknown(Field::Protocol)
                } else {
                    Match::No
                }
            }
            _ => Match::No,
        }
    }
}

// === impl Range ===

impl Range {
    pub(super) fn has(self, protocol: IpProtocol, port: u16) -> bool {
        self.protocols.has(protocol) && self.first <= port && port <= self.last
    }
}

// === impl Names ===

impl Names<'_> {
    fn matches(&self, named: &Named, protocol: IpProtocol, port: u16) -> Match {
        self.stands_for(&named.name, named.end, protocol, port)
    }

    fn stands_for(&self, name: &str, end: EndPort, protocol: IpProtocol, port: u16) -> Match {
        let by_peer = self.direction == Direction::Egress && self.options.version >= Version::V1_20;
        let known = match self.direction {
            Direction::Ingress => &self.subject.named_ports,
            Direction::Egress if by_peer => &self.peer.named_ports,
            Direction::Egress => &self.options.named_ports,
        };
        let Some(known) = known else { return Match::Unknown(Field::Port) };
        let Some(first) = NamedPort::resolve(known, name, protocol) else { return Match::No };
        // Since 1.20 a port name of an egress rule has no range.
        let last = end.filter(|_| !by_peer).map_or(first, |end| end.max(first));
        (first..=last).contains(&port).into()
    }

    /// Whether one item of `ports` means this port.
    pub(super) fn means(&self, item: &PortMatch, protocol: IpProtocol, port: u16) -> Match {
        if !item.protocols.list().contains(&protocol) {
            return Match::No;
        }
        match &item.port {
            PortSpec::All => Match::Yes,
            PortSpec::Range { first: 0, .. } if self.options.version >= Version::V1_20 => Match::Yes,
            PortSpec::Range { first, last } => (*first..=*last).contains(&port).into(),
            PortSpec::Named { name, end } => self.stands_for(name, *end, protocol, port),
        }
    }
}

// === impl ProtocolSet ===

impl ProtocolSet {
    const ALL: Self = Self(u16::MAX);

    fn of(protocols: Protocols) -> Self {
        // The list names each of them once.
        Self(protocols.list().iter().map(|p| Self::bit(*p)).sum())
    }

    fn bit(protocol: IpProtocol) -> u16 {
        1 << match protocol {
            IpProtocol::Tcp => 0,
            IpProtocol::Udp => 1,
            IpProtocol::Sctp => 2,
            IpProtocol::Vrrp => 3,
            IpProtocol::Igmp => 4,
            IpProtocol::Gre => 5,
            IpProtocol::Ipip => 6,
            IpProtocol::Ipv6 => 7,
            IpProtocol::Esp => 8,
            IpProtocol::Ah => 9,
        }
    }

    fn has(self, protocol: IpProtocol) -> bool {
        self.0 & Self::bit(protocol) != 0
    }

    fn has_portless(self) -> bool {
        self.0 >> 3 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::spec::{Listener, TlsContext};

    fn rule(protocols: Protocols, port: PortSpec) -> L4 {
        L4::Ports(vec![PortRule { ports: vec![PortMatch { protocols, port }], ..PortRule::default() }])
    }

    fn check(l4: &L4, traffic: Traffic, expected: Match) {
        let options = EngineOptions::default();
        let mut subject = Party::new(1001, ["k8s:app=a"]);
        subject.named_ports =
            Some(vec![NamedPort { name: "web".into(), protocol: IpProtocol::Tcp, port: 8080 }]);
        let peer = Party::new(1002, ["k8s:app=b"]);
        let names =
            Names { options: &options, direction: Direction::Ingress, subject: &subject, peer: &peer };
        let mut any = Match::No;
        for filter in Filter::all(l4, Version::V1_19) {
            any = any.or(|| filter.matches(traffic, names));
        }
        assert_eq!(any, expected, "{l4:?} {traffic:?}");
    }

    #[test]
    fn ports_and_protocols() {
        use Match::{No, Yes};
        let icmp = |family, kind| Traffic::Icmp { family, kind };
        let ping = icmp(IcmpFamily::V4, 8);
        check(&L4::All, Traffic::Other, Yes);
        check(&L4::All, ping, Yes);
        let any = rule(Protocols::Any, PortSpec::All);
        check(&any, Traffic::udp(53), Yes);
        check(&any, Traffic::sctp(0), Yes);
        check(&any, ping, No);
        check(&any, Traffic::Other, No);
        let range = rule(Protocols::One(IpProtocol::Tcp), PortSpec::Range { first: 80, last: 90 });
        check(&range, Traffic::tcp(80), Yes);
        check(&range, Traffic::tcp(90), Yes);
        check(&range, Traffic::tcp(91), No);
        check(&range, Traffic::udp(85), No);
        let vrrp = rule(Protocols::One(IpProtocol::Vrrp), PortSpec::All);
        check(&vrrp, Traffic::Other, Match::Unknown(Field::Protocol));
        check(&vrrp, Traffic::Port { protocol: IpProtocol::Vrrp, port: 0 }, Yes);
        let eight = L4::Icmp(vec![IcmpMatch::Type(IcmpFamily::V4, 8)]);
        check(&eight, ping, Yes);
        check(&eight, icmp(IcmpFamily::V6, 8), No);
        check(&eight, Traffic::tcp(8), No);
        check(&L4::Icmp(vec![IcmpMatch::Every(IcmpFamily::V4)]), icmp(IcmpFamily::V4, 13), Yes);
        check(&L4::Icmp(Vec::new()), ping, No);
        check(&L4::Ports(vec![PortRule::default()]), Traffic::tcp(80), No);
    }

    #[test]
    fn named_ports() {
        let web = |end| rule(Protocols::Any, PortSpec::Named { name: "web".into(), end });
        check(&web(None), Traffic::tcp(8080), Match::Yes);
        check(&web(None), Traffic::udp(8080), Match::No);
        check(&web(Some(8090)), Traffic::tcp(8085), Match::Yes);
        check(&web(Some(80)), Traffic::tcp(8080), Match::Yes);
        let api = rule(Protocols::Any, PortSpec::Named { name: "api".into(), end: None });
        check(&api, Traffic::tcp(8080), Match::No);
    }

    #[test]
    fn who_goes_to_a_proxy() {
        let with = |rule: PortRule| Filter::of_rule(&rule, Version::V1_19);
        let http = with(PortRule { l7: L7::Http(Vec::new()), ..PortRule::default() });
        assert!(http.redirects(Traffic::tcp(80)) && !http.redirects(Traffic::udp(80)));
        let sni = with(PortRule { server_names: vec!["a.b".into()], ..PortRule::default() });
        assert!(sni.sni && sni.redirects(Traffic::udp(443)));
        assert!(!with(PortRule::default()).redirects(Traffic::tcp(80)));
        let tls = || Some(TlsContext::default());
        let (config, name) = ("x".into(), "one".into());
        let every_protocol = [
            PortRule {
                listener: Some(Listener { kind: None, config, name, priority: 0 }),
                ..PortRule::default()
            },
            PortRule { terminating_tls: tls(), ..PortRule::default() },
            PortRule { originating_tls: tls(), ..PortRule::default() },
            PortRule { l7: L7::Dns(Vec::new()), ..PortRule::default() },
        ];
        for rule in every_protocol {
            assert!(with(rule.clone()).redirects(Traffic::udp(53)), "{rule:?}");
        }
    }
}
