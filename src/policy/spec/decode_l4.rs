//! `toPorts` and `icmps`, from a document to what they match.

use serde_json::Value;

use super::decode_l7::{l7_rules, listener, tls_context};
use super::node::{At, Cx, kind_of, whole};
use super::syntax::{is_service_name, parse_port};
use super::{IcmpMatch, IpProtocol, L4, L7, PortMatch, PortRule, PortSpec, Protocols, Refusal, Version};
use crate::flow::IcmpFamily;
use crate::text::visible;

/// More ports in one item of `toPorts` than this, and more types in one item of `icmps`, are refused.
pub(in crate::policy) const MAX_PORTS: usize = 40;

/// Where a rule stands, as far as its ports care.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// `ingress` or `ingressDeny`.
    pub(super) ingress: bool,
    /// One of the deny lists.
    pub(super) deny: bool,
    /// The subject is a node.
    pub(super) host: bool,
}

/// What a rule says about layer 4.
pub(super) fn layer4(cx: &mut Cx<'_>, rule: &At<'_>, place: Place) -> L4 {
    let to_ports = rule.member("toPorts").filter(|at| cx.list(at)).filter(|at| !at.is_empty());
    let icmps = rule.member("icmps").filter(|at| cx.list(at)).filter(|at| !at.is_empty());
    if let Some(icmps) = &icmps {
        if !cx.options.icmp_rules {
            cx.refuse(icmps, "ICMP rules need the agent's flag enable-icmp-rules");
        }
        if to_ports.is_some() {
            cx.refuse(icmps, "icmps and toPorts cannot stand in one rule: write two rules");
        }
    }
    match (to_ports, icmps) {
        (Some(ports), _) => L4::Ports(ports.items().filter_map(|item| port_rule(cx, &item, place)).collect()),
        (None, Some(icmps)) => L4::Icmp(icmps.items().flat_map(|item| icmp_rule(cx, &item)).collect()),
        (None, None) => L4::All,
    }
}

fn port_rule(cx: &mut Cx<'_>, at: &At<'_>, place: Place) -> Option<PortRule> {
    if !cx.map(at) {
        return None;
    }
    let mut rule = PortRule::default();
    if !place.deny {
        rule.l7 = at.member("rules").map_or(L7::None, |rules| l7_rules(cx, &rules, place));
        rule.server_names = cx.texts(at, "serverNames");
        rule.terminating_tls = at.member("terminatingTLS").and_then(|tls| tls_context(cx, &tls));
        rule.originating_tls = at.member("originatingTLS").and_then(|tls| tls_context(cx, &tls));
        rule.listener = at.member("listener").and_then(|l| listener(cx, &l));
    }
    let has_rules = rule.l7.has_rules();
    let dns = matches!(rule.l7, L7::Dns(_));
    if let Some(ports) = at.member("ports")
        && cx.list(&ports)
    {
        let count = ports.value.as_array().map_or(0, Vec::len);
        if count > MAX_PORTS {
            cx.refuse(
                &ports,
                format!("has {count} ports, {MAX_PORTS} are allowed: write a second item of toPorts"),
            );
        }
        for port in ports.items() {
            let Some(found) =
                port_match(cx, &port, dns || (has_rules && cx.options.version < Version::V1_17))
            else {
                continue;
            };
            if has_rules && !dns && found.protocols != Protocols::One(IpProtocol::Tcp) {
                cx.refuse(&port, "layer 7 rules need the protocol TCP (only DNS rules go with others)");
            }
            if has_rules && found.zero {
                cx.refuse(&port, "layer 7 rules cannot stand with port 0");
            }
            rule.ports.push(PortMatch { protocols: found.protocols, port: found.port });
        }
    }
    if has_rules && !rule.server_names.is_empty() && rule.terminating_tls.is_none() {
        cx.note(
            Refusal::Agent,
            at.place("serverNames"),
            "serverNames with layer 7 rules need terminatingTLS",
        );
    }
    if rule.server_names.iter().any(|name| name.is_empty()) {
        cx.note(Refusal::Agent, at.place("serverNames"), "a server name must not be empty");
    }
    if rule.listener.is_some() && (place.ingress || has_rules) {
        let why = if place.ingress { "on ingress" } else { "together with layer 7 rules" };
        cx.note(Refusal::Agent, at.place("listener"), format!("a listener is not allowed {why}"));
    }
    if dns && rule.ports.is_empty() && at.member("ports").is_none_or(|ports| ports.is_empty()) {
        cx.note(Refusal::Agent, at.place("ports"), "DNS rules need a port");
    }
    Some(rule)
}

struct Found {
    protocols: Protocols,
    port: PortSpec,
    zero: bool,
}

/// One item of `ports`. `no_range`: its layer 7 rules cannot go with a range.
fn port_match(cx: &mut Cx<'_>, at: &At<'_>, no_range: bool) -> Option<Found> {
    if !cx.map(at) {
        return None;
    }
    let protocol = match at.member("protocol") {
        Some(member) => cx.text(&member)?,
        None => "",
    };
    let text = match at.member("port") {
        Some(member) => cx.text(&member)?,
        None => "",
    };
    let end = cx.integer_of(at, "endPort", i64::from(i32::MAX)).unwrap_or(0);
    let protocols = read_protocol(cx, at, protocol)?;
    let extended = cx.options.extended_ip_protocols && cx.options.version >= Version::V1_19;
    if text.is_empty() {
        if !extended {
            cx.note(Refusal::Agent, at.place("port"), "a port must be given (`\"0\"` means all)");
        }
        return Some(Found { protocols, port: PortSpec::All, zero: false });
    }
    if is_service_name(text) {
        let end = (end > 0).then_some(cut(end));
        return Some(Found {
            protocols,
            port: PortSpec::Named { name: text.to_ascii_lowercase().into(), end },
            zero: false,
        });
    }
    // The agent compares the protocol before it brings it to upper case.
    if let Protocols::One(one) = protocols
        && !one.has_ports()
        && one.as_str() == protocol
        && text != "0"
        && cx.options.version >= Version::V1_19
    {
        cx.note(
            Refusal::Agent,
            at.place("port"),
            format!("{protocol} has no ports: leave it out, or `\"0\"`"),
        );
        return None;
    }
    let Some(first) = parse_port(text) else {
        let text = visible(text, 40);
        let message =
            format!("`{text}` is no port: a number from 0 to 65535, or a name of up to 15 characters");
        cx.note(Refusal::Agent, at.place("port"), message);
        return None;
    };
    if no_range && end > i64::from(first) {
        cx.note(Refusal::Agent, at.place("endPort"), "these layer 7 rules do not go with a port range");
    }
    Some(Found { protocols, port: PortSpec::numbers(first, cut(end)), zero: first == 0 })
}

/// The agent keeps the lower 16 bits.
fn cut(end: i64) -> u16 {
    let [low, high, ..] = end.to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn read_protocol(cx: &mut Cx<'_>, at: &At<'_>, text: &str) -> Option<Protocols> {
    let found = match text.to_uppercase().as_str() {
        "" | "ANY" => Some(Protocols::Any),
        upper => {
            let one = IpProtocol::ALL.into_iter().find(|p| p.as_str() == upper);
            one.filter(|p| p.since() <= cx.options.version).map(Protocols::One)
        }
    };
    if found.is_none() {
        let hint =
            if text.to_uppercase().starts_with("ICMP") { " (ICMP has its own member, icmps)" } else { "" };
        let words: Vec<_> =
            IpProtocol::ALL.iter().filter(|p| p.since() <= cx.options.version).map(|p| p.as_str()).collect();
        let message = format!("`{}` is no protocol: {} or ANY{hint}", visible(text, 40), words.join(", "));
        cx.note(Refusal::Agent, at.place("protocol"), message);
    }
    found
}

fn icmp_rule(cx: &mut Cx<'_>, at: &At<'_>) -> Vec<IcmpMatch> {
    if !cx.map(at) {
        return Vec::new();
    }
    let Some(fields) = at.member("fields").filter(|fields| cx.list(fields)) else { return Vec::new() };
    let count = fields.value.as_array().map_or(0, Vec::len);
    if count > MAX_PORTS {
        cx.refuse(
            &fields,
            format!("has {count} types, {MAX_PORTS} are allowed: write a second item of icmps"),
        );
    }
    fields.items().filter_map(|field| icmp_field(cx, &field)).collect()
}

fn icmp_field(cx: &mut Cx<'_>, at: &At<'_>) -> Option<IcmpMatch> {
    if !cx.map(at) {
        return None;
    }
    let family = match cx.text_of(at, "family").as_deref() {
        None | Some("IPv4") => IcmpFamily::V4,
        Some("IPv6") => IcmpFamily::V6,
        Some(other) => {
            let message = format!("`{}` is no family: IPv4 or IPv6", visible(other, 40));
            cx.note(Refusal::Agent, at.place("family"), message);
            return None;
        }
    };
    let Some(kind) = at.member("type") else {
        cx.note(
            Refusal::Agent,
            at.place("type"),
            "an ICMP type must be given; the agent crashes on one without",
        );
        return None;
    };
    let number = match kind.value {
        Value::String(text) => match icmp_type_by_name(family, text) {
            Some(number) => i64::from(number),
            None => match text.parse::<i32>().ok().filter(|n| *n != 0 || text == "0") {
                Some(number) => i64::from(number),
                None => {
                    let message = format!("`{}` is no ICMP type of {}", visible(text, 60), family.as_str());
                    cx.refuse(&kind, message);
                    return None;
                }
            },
        },
        value => match whole(value).filter(|n| i32::try_from(*n).is_ok()) {
            Some(number) => number,
            None => {
                cx.refuse(&kind, format!("must be a number or a name, is {}", kind_of(value)));
                return None;
            }
        },
    };
    Some(match u16::try_from(number) {
        // What is no number from 0 to 65535 to the agent becomes 0 when negative, else 65535.
        Ok(0) => IcmpMatch::Every(family),
        Ok(number) => IcmpMatch::Type(family, number),
        Err(_) if number < 0 => IcmpMatch::Every(family),
        Err(_) => IcmpMatch::Type(family, u16::MAX),
    })
}

/// The number behind a name of an ICMP type that the agent knows (`pkg/policy/api/icmp.go`).
pub fn icmp_type_by_name(family: IcmpFamily, name: &str) -> Option<u8> {
    let table: &[(&str, u8)] = match family {
        IcmpFamily::V4 => &ICMP_V4,
        IcmpFamily::V6 => &ICMP_V6,
    };
    table.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

const ICMP_V4: [(&str, u8); 14] = [
    ("EchoReply", 0),
    ("DestinationUnreachable", 3),
    ("Redirect", 5),
    ("Echo", 8),
    ("EchoRequest", 8),
    ("RouterAdvertisement", 9),
    ("RouterSelection", 10),
    ("TimeExceeded", 11),
    ("ParameterProblem", 12),
    ("Timestamp", 13),
    ("TimestampReply", 14),
    ("Photuris", 40),
    ("ExtendedEchoRequest", 42),
    ("ExtendedEchoReply", 43),
];

const ICMP_V6: [(&str, u8); 27] = [
    ("DestinationUnreachable", 1),
    ("PacketTooBig", 2),
    ("TimeExceeded", 3),
    ("ParameterProblem", 4),
    ("EchoRequest", 128),
    ("EchoReply", 129),
    ("MulticastListenerQuery", 130),
    ("MulticastListenerReport", 131),
    ("MulticastListenerDone", 132),
    ("RouterSolicitation", 133),
    ("RouterAdvertisement", 134),
    ("NeighborSolicitation", 135),
    ("NeighborAdvertisement", 136),
    ("RedirectMessage", 137),
    ("RouterRenumbering", 138),
    ("ICMPNodeInformationQuery", 139),
    ("ICMPNodeInformationResponse", 140),
    ("InverseNeighborDiscoverySolicitation", 141),
    ("InverseNeighborDiscoveryAdvertisement", 142),
    ("HomeAgentAddressDiscoveryRequest", 144),
    ("HomeAgentAddressDiscoveryReply", 145),
    ("MobilePrefixSolicitation", 146),
    ("MobilePrefixAdvertisement", 147),
    ("DuplicateAddressRequestCodeSuffix", 157),
    ("DuplicateAddressConfirmationCodeSuffix", 158),
    ("ExtendedEchoRequest", 160),
    ("ExtendedEchoReply", 161),
];
