//! What a rule that stands in a file is to a needed one.

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::requests::{self, Said};
use super::same_peer;
use crate::flow::{Direction, IcmpFamily, Protocol};
use crate::names::Namespace;
use crate::policy::spec::icmp_type_by_name;
use crate::policy::{Allow, Entity, L7Match, Peer, Rule, Selector};

/// How a needed rule stands to what a file has. The greater one counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Nothing there concerns it.
    Apart,
    /// The same peer and port stand there with something that the needed rule would lift.
    Restricted(String),
    /// It is there.
    Covered,
    /// The same peer and port stand there with something that would hold for the needed rule too.
    Bound(String),
}

/// Peer members that say nothing when they are empty; every other one then matches nothing.
const ABSENT_WHEN_EMPTY: [&str; 3] = ["toFQDNs", "toServices", "toGroups"];

/// How a rule stands to one rule set of a document.
pub(super) fn standing(set: &Value, need: &Rule, namespace: &Namespace) -> Standing {
    let key = need.direction.as_str();
    let elements = set.get(key).and_then(Value::as_array).into_iter().flatten();
    let peer = same_peer(&need.peer, namespace);
    elements
        .filter_map(|element| Element::new(element, need.direction))
        .filter(|element| element.peers(namespace).any(|p| p.as_ref() == Some(&peer)))
        .fold(Standing::Apart, |s, element| s.max(element.standing(need)))
}

/// One item of `ingress` or `egress` that has exactly one kind of peer, in the form that Cilium takes.
pub(super) struct Element<'a> {
    /// The member that holds the peers.
    member: &'static str,
    items: &'a [Value],
    to_ports: &'a [Value],
    icmps: &'a [Value],
    authentication: bool,
    unknown: Option<&'a str>,
}

impl<'a> Element<'a> {
    pub(super) fn new(value: &'a Value, direction: Direction) -> Option<Self> {
        let map = value.as_object()?;
        let mut peers = None;
        let mut unknown = None;
        for (key, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            if let Some(member) = members(direction).into_iter().find(|m| m == key) {
                let items = value.as_array()?;
                if items.is_empty() && ABSENT_WHEN_EMPTY.contains(&member) {
                    continue;
                }
                if peers.replace((member, items.as_slice())).is_some() {
                    return None;
                }
            } else if !matches!(key.as_str(), "toPorts" | "icmps" | "authentication") {
                unknown = Some(key.as_str());
            }
        }
        let (member, items) = peers?;
        let to_ports = list(map, "toPorts")?;
        let icmps = list(map, "icmps")?;
        if !to_ports.is_empty() && !icmps.is_empty() {
            return None; // Cilium refuses the policy.
        }
        let authentication = map.get("authentication").is_some_and(|v| !v.is_null());
        Some(Self { member, items, to_ports, icmps, authentication, unknown })
    }

    /// The listed peers, each in the form of [`same_peer`]; `None` for what cpg has no word for.
    pub(super) fn peers(&self, namespace: &Namespace) -> impl Iterator<Item = Option<Peer>> {
        self.items.iter().map(move |item| {
            let peer = match self.member {
                "fromEndpoints" | "toEndpoints" => Peer::Endpoints(Selector::from_value(item)?),
                "fromEntities" | "toEntities" => Peer::Entity(Entity::from_name(item.as_str()?)?),
                "fromCIDR" | "toCIDR" => Peer::Cidr(item.as_str()?.parse::<IpNet>().ok()?),
                "fromCIDRSet" | "toCIDRSet" => Peer::Cidr(plain_cidr(item)?),
                "toFQDNs" => Peer::Fqdn(requests::dns(item)?),
                _ => return None,
            };
            Some(same_peer(&peer, namespace))
        })
    }

    /// The items of `toPorts`, or those of `icmps`.
    pub(super) fn items(&self, icmp: bool) -> &'a [Value] {
        if icmp { self.icmps } else { self.to_ports }
    }

    /// Whether something may be added to it: nothing on it holds for every port, and it does not allow
    /// every port already.
    pub(super) fn takes(&self, icmp: bool) -> bool {
        !self.authentication && self.unknown.is_none() && !self.items(icmp).is_empty()
    }

    fn standing(&self, need: &Rule) -> Standing {
        if self.to_ports.is_empty() && self.icmps.is_empty() {
            return self.of_rule().unwrap_or_else(|| of_requests(Said::Anything, Touch::Broad, need));
        }
        let icmp = matches!(need.allow, Allow::Icmp(..));
        self.items(icmp).iter().fold(Standing::Apart, |s, item| s.max(self.of_item(item, need)))
    }

    /// What holds for everything that the rule allows.
    fn of_rule(&self) -> Option<Standing> {
        if self.authentication {
            let why = "a rule for the same peer asks for `authentication`, which would hold for this one too";
            return Some(Standing::Bound(why.into()));
        }
        self.unknown.map(|key| Standing::Restricted(unknown(key)))
    }

    fn of_item(&self, item: &Value, need: &Rule) -> Standing {
        let Some(map) = item.as_object() else { return Standing::Apart };
        let list_key = if matches!(need.allow, Allow::Icmp(..)) { "fields" } else { "ports" };
        let entries = map.get(list_key).and_then(Value::as_array).into_iter().flatten();
        let touch = entries.fold(Touch::No, |t, entry| t.max(touch(entry, need.allow)));
        if touch == Touch::No {
            return Standing::Apart;
        }
        let said = Said::on(map);
        self.of_rule().or_else(|| of_members(map, list_key)).unwrap_or_else(|| of_requests(said, touch, need))
    }
}

/// What the other members of a `toPorts` or `icmps` item make of its ports.
fn of_members(item: &Map<String, Value>, list_key: &str) -> Option<Standing> {
    let mut standing = None;
    for (key, _) in item.iter().filter(|(key, value)| *key != list_key && !value.is_null()) {
        let next = match key.as_str() {
            "rules" => continue,
            "serverNames" => Standing::Bound(
                "`serverNames` stand on this port for the same peer; Cilium would ask for them here too"
                    .into(),
            ),
            "terminatingTLS" | "originatingTLS" | "listener" => Standing::Bound(format!(
                "`{key}` stands on this port for the same peer; Cilium would join it with a plain rule"
            )),
            other => Standing::Restricted(unknown(other)),
        };
        standing = standing.max(Some(next));
    }
    standing
}

/// What the requests on a port make of a need that touches it. HTTP is a union over everything that allows
/// the port; a DNS query is not: beside a dns rule, what allows more than its one port lifts nothing, so the
/// dns rule would take away what stands there.
fn of_requests(said: Said<'_>, touch: Touch, need: &Rule) -> Standing {
    match (said, &need.l7) {
        (Said::Anything, _) if touch == Touch::Maybe => Standing::Apart,
        (Said::Anything, None | Some(L7Match::Http(_))) => Standing::Covered,
        (Said::Anything, Some(L7Match::Dns(_))) if touch == Touch::Broad => Standing::Restricted(
            "a rule for the same peer allows more than this port; a dns rule beside it would narrow it to the \
             names that are listed"
                .into(),
        ),
        (Said::Anything, Some(L7Match::Dns(_))) => Standing::Apart,
        (_, None) => Standing::Restricted(
            "L7 rules restrict this port for the same peer; a plain rule beside them would lift them".into(),
        ),
        (said, Some(l7)) if said.covers(l7) && touch != Touch::Maybe => Standing::Covered,
        (said, Some(l7)) if said.takes(l7) => Standing::Apart,
        (_, Some(_)) => Standing::Bound(
            "requests of another protocol stand on this port for the same peer; Cilium takes one of the two"
                .into(),
        ),
    }
}

fn unknown(key: &str) -> String {
    let key = crate::text::visible(key, 60);
    format!("a rule for the same peer and port has a member that cpg does not know: `{key}`")
}

/// Whether an entry of `ports` or `fields` names what is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Touch {
    No,
    /// A named port: it may be this one.
    Maybe,
    /// A range or every port, this one among them.
    Broad,
    /// This one alone.
    Yes,
}

fn touch(entry: &Value, allow: Allow) -> Touch {
    let touched = match allow {
        Allow::Port(protocol, port) => touches_port(entry, protocol, port.get()),
        Allow::Icmp(family, kind) => touches_icmp(entry, family, kind.get()).then_some(Touch::Yes),
    };
    touched.unwrap_or(Touch::No)
}

fn touches_port(entry: &Value, protocol: Protocol, port: u16) -> Option<Touch> {
    let map = entry.as_object()?;
    if map.keys().any(|key| !matches!(key.as_str(), "port" | "endPort" | "protocol")) {
        return None;
    }
    match map.get("protocol") {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if name.is_empty() || name.eq_ignore_ascii_case("ANY") => {}
        Some(Value::String(name)) if Protocol::from_name(name) == Some(protocol) => {}
        Some(_) => return None,
    }
    let text = map.get("port")?.as_str()?;
    if text.bytes().any(|b| b.is_ascii_alphabetic()) {
        return Some(Touch::Maybe);
    }
    let first = number(text)?;
    let last = match map.get("endPort") {
        None | Some(Value::Null) => 0,
        Some(value) => u16::try_from(value.as_u64()?).ok()?,
    };
    match (first, last) {
        (0, 0) => Some(Touch::Broad),
        _ if !(first..=first.max(last)).contains(&port) => None,
        _ if last > first => Some(Touch::Broad),
        _ => Some(Touch::Yes),
    }
}

/// A port as the agent parses it (`strconv.ParseUint(text, 0, 16)`): a leading zero means octal.
fn number(text: &str) -> Option<u16> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match text.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u16::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    }
}

fn touches_icmp(entry: &Value, family: IcmpFamily, kind: u8) -> bool {
    let Some(map) = entry.as_object() else { return false };
    if map.keys().any(|key| !matches!(key.as_str(), "family" | "type")) {
        return false;
    }
    let written = match map.get("family") {
        None | Some(Value::Null) => IcmpFamily::V4,
        Some(Value::String(name)) if name.is_empty() || name == "IPv4" => IcmpFamily::V4,
        Some(Value::String(name)) if name == "IPv6" => IcmpFamily::V6,
        Some(_) => return false,
    };
    let number = match map.get("type") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(name)) => icmp_type_by_name(family, name).map(u64::from),
        _ => None,
    };
    // Type 0 means every type of its family to Cilium.
    written == family && number.is_some_and(|n| n == 0 || n == u64::from(kind))
}

/// The peer members of a direction.
fn members(direction: Direction) -> Vec<&'static str> {
    match direction {
        Direction::Ingress => INGRESS_MEMBERS.to_vec(),
        Direction::Egress => EGRESS_MEMBERS.to_vec(),
    }
}

const INGRESS_MEMBERS: [&str; 7] =
    ["fromEndpoints", "fromEntities", "fromCIDR", "fromCIDRSet", "fromNodes", "fromGroups", "fromRequires"];
const EGRESS_MEMBERS: [&str; 9] = [
    "toEndpoints",
    "toEntities",
    "toCIDR",
    "toCIDRSet",
    "toNodes",
    "toGroups",
    "toServices",
    "toFQDNs",
    "toRequires",
];

/// An item of a CIDR set that is nothing but its `cidr`.
fn plain_cidr(item: &Value) -> Option<IpNet> {
    let map = item.as_object()?;
    for (key, value) in map {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if key != "cidr" && !(key == "except" && empty) {
            return None;
        }
    }
    map.get("cidr")?.as_str()?.parse().ok()
}

/// A list member; empty when it is absent or null, `None` when it is something else.
fn list<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a [Value]> {
    match map.get(key) {
        None | Some(Value::Null) => Some(&[]),
        Some(Value::Array(list)) => Some(list),
        Some(_) => None,
    }
}
