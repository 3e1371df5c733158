//! Which lines of an explanation are wanted.

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::super::args::ExplainArgs;
use super::super::settings::Mistakes;
use super::request::Said;
use super::{Line, What};
use crate::flow::{Direction, Port, Protocol};
use crate::policy::{Allow, Entity, Peer, Selector};
use crate::text::visible;

/// What the user asked to see; everything must hold.
#[derive(Debug)]
pub(super) struct Filter {
    direction: Option<Direction>,
    port: Option<(Port, Option<Protocol>)>,
    peer: Option<Selector>,
    cidr: Option<IpNet>,
    entity: Option<Entity>,
    since: Option<Timestamp>,
    said: Said,
}

// === impl Filter ===

impl Filter {
    pub(super) fn new(args: &ExplainArgs, now: Timestamp) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let mut wrong = |flag: &str, text: &str, wants: &str| {
            mistakes.push(format!("{flag} {:?}: {wants}", visible(text, 80)));
        };
        let port = args.port.as_deref().and_then(|text| {
            let port = port(text);
            if port.is_none() {
                wrong("--port", text, "a port like 53, or with its protocol 53/udp");
            }
            port
        });
        let labels: Vec<(&str, &str)> =
            args.peer.iter().map(|text| text.split_once('=').unwrap_or((text, ""))).collect();
        for text in args.peer.iter().filter(|text| !text.contains('=')) {
            wrong("--peer", text, "a label like app=web");
        }
        let peer = Selector::new(labels);
        if peer.is_none() && !args.peer.is_empty() {
            wrong("--peer", &args.peer.join(" "), "these labels contradict each other");
        }
        let cidr = args.peer_cidr.as_deref().and_then(|text| {
            let cidr =
                text.parse().ok().or_else(|| Some(IpNet::from(text.parse::<std::net::IpAddr>().ok()?)));
            if cidr.is_none() {
                wrong("--peer-cidr", text, "an address or a range like 192.0.2.0/24");
            }
            cidr
        });
        let entity = args.entity.as_deref().and_then(|text| {
            let entity = Entity::from_name(text);
            if entity.is_none() {
                wrong(
                    "--entity",
                    text,
                    "one of health, host, ingress, init, kube-apiserver, remote-node, unmanaged",
                );
            }
            entity
        });
        let since = args.since.as_deref().and_then(|text| {
            let since = time(text, now);
            if since.is_none() {
                wrong("--since", text, "a time like 2026-03-01T10:00:00Z, or how long ago like 7d");
            }
            since
        });
        let direction = match (args.ingress, args.egress) {
            (true, false) => Some(Direction::Ingress),
            (false, true) => Some(Direction::Egress),
            _ => None,
        };
        let said = Said::new(args, &mut mistakes);
        let filter = Self { direction, port, peer, cidr, entity, since, said };
        if mistakes.is_empty() { Ok(filter) } else { Err(mistakes) }
    }

    /// Whether a line is wanted. What people wrote in words that cpg has not can only be told apart by its
    /// direction.
    pub(super) fn wants(&self, line: &Line) -> bool {
        if self.direction.is_some_and(|direction| direction != line.direction()) {
            return false;
        }
        if let Some(since) = self.since {
            let last = line.entry.as_ref().and_then(|entry| entry.seen().times.last);
            if last.is_none_or(|last| last < since) {
                return false;
            }
        }
        let What::Rule(rule) = &line.says else {
            return self.port.is_none()
                && self.peer.is_none()
                && self.cidr.is_none()
                && self.entity.is_none()
                && self.said.is_empty();
        };
        let port = self.port.is_none_or(|(port, protocol)| match rule.allow {
            Allow::Port(known, number) => number == port && protocol.is_none_or(|p| p == known),
            Allow::Icmp(..) => false,
        });
        let peer = self.peer.as_ref().is_none_or(|wanted| match &rule.peer {
            Peer::Endpoints(selector) => wanted.contains(selector),
            Peer::Entity(_) | Peer::Cidr(_) | Peer::Fqdn(_) => false,
        });
        let cidr = self.cidr.is_none_or(|wanted| match &rule.peer {
            Peer::Cidr(net) => wanted.contains(net),
            Peer::Endpoints(_) | Peer::Entity(_) | Peer::Fqdn(_) => false,
        });
        let entity = self.entity.is_none_or(|wanted| rule.peer == Peer::Entity(wanted));
        port && peer && cidr && entity && self.said.wants(rule)
    }
}

fn port(text: &str) -> Option<(Port, Option<Protocol>)> {
    let (number, protocol) = match text.split_once('/') {
        Some((number, name)) => (number, Some(Protocol::from_name(&name.to_ascii_uppercase())?)),
        None => (text, None),
    };
    Some((Port::new(number.parse().ok()?)?, protocol))
}

fn time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let ago = SignedDuration::try_from(humantime::parse_duration(text).ok()?).ok()?;
    now.checked_sub(ago).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ports() {
        let now: Timestamp = "2026-03-08T10:00:00Z".parse().unwrap();
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(time(text, now), expected.map(|t| t.parse().unwrap()), "{text}");
        };
        check("7d", Some("2026-03-01T10:00:00Z"));
        check("2026-03-01T10:00:00Z", Some("2026-03-01T10:00:00Z"));
        check("2026-03-01T12:00:00+02:00", Some("2026-03-01T10:00:00Z"));
        check("soon", None);
        check("999999999y", None);
        assert_eq!(port("53/udp"), Some((Port::new(53).unwrap(), Some(Protocol::Udp))));
        assert_eq!(port("53"), Some((Port::new(53).unwrap(), None)));
        assert_eq!((port("0"), port("x"), port("53/icmp")), (None, None, None));
    }
}
