//! Rules that Cilium cannot combine.
//!
//! Rules of one direction with the same peer selector, port and protocol become one entry. Where that
//! fails the agent keeps the earlier policy of the endpoint, so there is nothing that could be decided.
//!
//! Known limit: other spellings of one port (`80` with `endPort: 70`, `0120`) are ports of their own when
//! Cilium joins rules, and the same port here, since sanitised policies do not tell them apart. Only what
//! fails to combine with rules so written can be wrong.

use std::collections::HashMap;

use super::RuleRef;
use super::selector::Match;
use super::set::{Engine, Entry};
use crate::flow::Direction;
use crate::policy::spec::{
    IcmpMatch, IpProtocol, L4, L7, Listener, ListenerKind, PortMatch, PortRule, PortSpec, SecretRef,
};

/// What becomes one entry of the policy map.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key<'a> {
    test: usize,
    l4: KeyL4<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum KeyL4<'a> {
    All,
    Port(IpProtocol, &'a PortSpec),
    Icmp(IcmpMatch),
}

/// What has been joined so far.
#[derive(Debug, Clone, PartialEq)]
enum Joined<'a> {
    Deny,
    Allow(Allow<'a>),
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Allow<'a> {
    parser: Option<&'a str>,
    /// Whether it is clusterwide, its configuration and its name.
    listener: Option<(bool, &'a str, &'a str)>,
    /// 0 = not set; otherwise a smaller number takes precedence.
    priority: u16,
    authentication: Option<&'a str>,
    terminating: Option<&'a SecretRef>,
    originating: Option<&'a SecretRef>,
    sni: bool,
    l7: bool,
}

/// A rule that cannot be joined with others that select the same subject.
///
/// `entries`: those of ingress and of egress, in their order, each with whether it selects the subject.
pub(super) fn find<'e>(
    engine: &'e Engine,
    entries: [&[(usize, Match)]; 2],
    has_namespace: bool,
) -> Option<RuleRef<'e>> {
    let directions = [Direction::Ingress, Direction::Egress];
    directions.into_iter().zip(entries).find_map(|(direction, entries)| {
        in_direction(engine, direction, entries, has_namespace).map(|entry| engine.rule_ref(direction, entry))
    })
}

fn in_direction<'e>(
    engine: &'e Engine,
    direction: Direction,
    entries: &[(usize, Match)],
    has_namespace: bool,
) -> Option<&'e Entry> {
    let rules = engine.rules(direction);
    let mut all: HashMap<Key<'e>, Joined<'e>> = HashMap::new();
    let entries = entries.iter().filter(|(_, certain)| *certain == Match::Yes);
    // Nothing can go wrong where nothing but layer 4 is said.
    let narrowed =
        |entry: &Entry| entry.filter.special || engine.rule(direction, entry).authentication.is_some();
    if !entries.clone().any(|(number, _)| narrowed(&rules.entries[*number])) {
        return None;
    }
    for (number, _) in entries {
        let entry = &rules.entries[*number];
        let rule = engine.rule(direction, entry);
        let item = engine.item(direction, entry);
        let keys: Vec<KeyL4<'e>> = match &rule.l4 {
            L4::Ports(_) => {
                let each = |p: &'e PortMatch| p.protocols.list().iter().map(|one| KeyL4::Port(*one, &p.port));
                item.ports.iter().flat_map(each).collect()
            }
            L4::All => vec![KeyL4::All],
            L4::Icmp(types) => types.iter().map(|t| KeyL4::Icmp(*t)).collect(),
        };
        let of_namespace = |l: &Listener| l.kind == Some(ListenerKind::Namespaced);
        let unusable = !has_namespace && item.listener.as_ref().is_some_and(of_namespace);
        for l4 in keys {
            let new = if entry.deny {
                Joined::Deny
            } else {
                Joined::Allow(Allow::new(l4, item, rule.authentication.as_deref()))
            };
            for test in &entry.peers.0 {
                let before = all.entry(Key { test: *test, l4 }).or_insert_with(|| new.clone());
                if unusable || !before.join(&new) {
                    return Some(entry);
                }
            }
        }
    }
    None
}

// === impl Joined ===

impl<'a> Joined<'a> {
    /// Joins one more rule; whether it can be. The order matters, so it is Cilium's.
    fn join(&mut self, new: &Self) -> bool {
        match (&mut *self, new) {
            (Self::Deny, _) => true,
            (Self::Allow(_), Self::Deny) => {
                *self = Self::Deny;
                true
            }
            (Self::Allow(before), Self::Allow(new)) => before.join(new),
        }
    }
}

// === impl Allow ===

impl<'a> Allow<'a> {
    fn new(l4: KeyL4<'_>, item: &'a PortRule, authentication: Option<&'a str>) -> Self {
        let parser = parser(matches!(l4, KeyL4::Port(IpProtocol::Tcp, _)), item);
        let listener = item.listener.as_ref();
        Self {
            parser,
            listener: listener.map(|l| (l.kind == Some(ListenerKind::Clusterwide), &*l.config, &*l.name)),
            priority: match listener {
                Some(l) if l.priority != 0 => l.priority,
                _ => default_priority(parser),
            },
            authentication,
            terminating: item.terminating_tls.as_ref().map(|tls| &tls.secret),
            originating: item.originating_tls.as_ref().map(|tls| &tls.secret),
            sni: !item.server_names.is_empty(),
            l7: item.l7.has_rules(),
        }
    }

    fn join(&mut self, new: &Self) -> bool {
        let Some(parser) = joined_parser(self.parser, new.parser) else { return false };
        if parser != self.parser {
            (self.parser, self.priority) = (parser, new.priority);
        }
        if !self.join_listener(new)
            || !agree(&mut self.authentication, new.authentication)
            || !agree(&mut self.terminating, new.terminating)
            || !agree(&mut self.originating, new.originating)
        {
            return false;
        }
        self.sni |= new.sni;
        if self.sni && self.l7 && self.terminating.is_none() {
            return false;
        }
        self.l7 |= new.l7;
        true
    }

    fn join_listener(&mut self, new: &Self) -> bool {
        // 0 wraps to the lowest precedence.
        let (mine, other) = (self.priority.wrapping_sub(1), new.priority.wrapping_sub(1));
        if new.listener.is_none() || (new.listener == self.listener && mine == other) || mine < other {
            return true;
        }
        if self.listener.is_none() || other < mine {
            (self.listener, self.priority) = (new.listener, new.priority);
            return true;
        }
        false
    }
}

/// The parser of both; `None` where there is none.
fn joined_parser<'a>(a: Option<&'a str>, b: Option<&'a str>) -> Option<Option<&'a str>> {
    let promotes = |from: Option<&str>, to: Option<&str>| match from {
        None => true,
        Some("tls") => !matches!(to, None | Some("dns" | "crd")),
        Some(_) => false,
    };
    match (a, b) {
        (a, b) if a == b => Some(a),
        (a, b) if promotes(a, b) => Some(b),
        (a, b) if promotes(b, a) => Some(a),
        _ => None,
    }
}

/// What Cilium gives a redirect that names no priority.
fn default_priority(parser: Option<&str>) -> u16 {
    match parser {
        None => 0,
        Some("http") => 101,
        Some("kafka") => 106,
        Some("tls") => 116,
        Some("dns") => 121,
        Some("crd") => 126,
        Some(_) => 111,
    }
}

/// Takes over what is new; whether it says the same as before.
fn agree<T: PartialEq + Copy>(before: &mut Option<T>, new: Option<T>) -> bool {
    match (*before, new) {
        (_, None) => true,
        (None, new) => {
            *before = new;
            true
        }
        (Some(old), Some(new)) => old == new,
    }
}

/// The word of Cilium's parser for an item.
fn parser(tcp: bool, item: &PortRule) -> Option<&str> {
    let tls =
        item.terminating_tls.is_some() || item.originating_tls.is_some() || !item.server_names.is_empty();
    match &item.l7 {
        _ if item.listener.is_some() => Some("crd"),
        L7::Dns(_) => Some("dns"),
        // Sanitising has refused them where they do not stand on TCP.
        L7::Http(_) => Some("http"),
        L7::Kafka(_) => Some("kafka"),
        L7::Proxylib { parser, .. } if tcp => Some(parser),
        L7::Proxylib { .. } | L7::None => tls.then_some("tls"),
    }
}

/// The word of the parser to which an item sends a protocol, and its place: of several the one with the
/// smallest number gets the connection.
pub(super) fn proxy(protocol: IpProtocol, item: &PortRule) -> Option<(&str, u16)> {
    let parser = parser(protocol == IpProtocol::Tcp, item)?;
    let own = item.listener.as_ref().map(|listener| listener.priority).filter(|own| *own != 0);
    Some((parser, own.unwrap_or_else(|| default_priority(Some(parser)))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Decision, EngineOptions, Field, Party, Traffic};
    use crate::policy::spec::{HttpRule, Options, TlsContext, sanitise};

    fn http() -> PortRule {
        PortRule { l7: L7::Http(vec![HttpRule::default()]), ..PortRule::default() }
    }

    fn names() -> PortRule {
        PortRule { server_names: vec!["a.example".into()], ..PortRule::default() }
    }

    fn listener(name: &str, priority: u16) -> PortRule {
        let kind = Some(ListenerKind::Clusterwide);
        let listener = Listener { kind, config: "x".into(), name: name.into(), priority };
        PortRule { listener: Some(listener), ..PortRule::default() }
    }

    /// Whether the rules can be joined, in this order, on TCP/80.
    #[track_caller]
    fn check(rules: &[PortRule], fit: bool) {
        let port = PortSpec::Range { first: 80, last: 80 };
        let mut all = rules.iter().map(|r| Allow::new(KeyL4::Port(IpProtocol::Tcp, &port), r, None));
        let mut joined = all.next().unwrap();
        assert_eq!(all.all(|new| joined.join(&new)), fit, "{rules:?}");
    }

    #[test]
    fn what_can_be_joined() {
        let plain = PortRule::default;
        let dns = || PortRule { l7: L7::Dns(vec![crate::policy::spec::DnsRule::default()]), ..plain() };
        check(&[http(), plain(), http()], true);
        check(&[http(), dns()], false);
        check(&[names(), dns()], false);
        check(&[listener("a", 0), plain()], true);
        check(&[listener("a", 0), http()], false);
        check(&[listener("a", 0), listener("b", 0)], false);
        check(&[listener("a", 1), listener("b", 2), listener("b", 3)], true);
        check(&[listener("b", 2), listener("a", 1)], true);
    }

    #[test]
    fn server_names_and_requests_by_their_order() {
        check(&[names(), http()], true);
        check(&[http(), names()], false);
        let terminated = PortRule { terminating_tls: Some(TlsContext::default()), ..http() };
        check(&[terminated, names()], true);
    }

    /// Cilium's order of proxies on one entry: the smaller number goes first.
    #[test]
    fn parsers_and_their_priorities() {
        let port = PortSpec::Range { first: 80, last: 80 };
        let check = |item: &PortRule, protocol, expected: (Option<&str>, u16)| {
            let allow = Allow::new(KeyL4::Port(protocol, &port), item, None);
            assert_eq!((allow.parser, allow.priority), expected, "{item:?} {protocol:?}");
        };
        let with = |l7| PortRule { l7, ..PortRule::default() };
        let proxylib = with(L7::Proxylib { parser: "r2d2".into(), rules: Vec::new() });
        let tls = Some(TlsContext::default());
        let (tcp, udp) = (IpProtocol::Tcp, IpProtocol::Udp);
        check(&PortRule::default(), tcp, (None, 0));
        check(&http(), tcp, (Some("http"), 101));
        check(&with(L7::Kafka(Vec::new())), tcp, (Some("kafka"), 106));
        check(&proxylib, tcp, (Some("r2d2"), 111));
        check(&proxylib, udp, (None, 0));
        check(&names(), tcp, (Some("tls"), 116));
        check(&PortRule { terminating_tls: tls.clone(), ..PortRule::default() }, udp, (Some("tls"), 116));
        check(&PortRule { originating_tls: tls, ..PortRule::default() }, tcp, (Some("tls"), 116));
        check(&with(L7::Dns(Vec::new())), udp, (Some("dns"), 121));
        check(&listener("a", 0), tcp, (Some("crd"), 126));
        check(&listener("a", 7), tcp, (Some("crd"), 7));
    }

    const CLUSTERWIDE: &str = "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\n";

    /// The rule that cannot be joined, of clusterwide policies with these specs; `None` = all can.
    #[track_caller]
    fn check_specs(specs: &[&str], subject: &Party, expected: Option<&str>) {
        let document = |(number, spec): (usize, &&str)| {
            let all = if spec.contains("endpointSelector") { "" } else { "endpointSelector: {}\n  " };
            format!("{CLUSTERWIDE}metadata: {{name: p{number}}}\nspec:\n  {all}{spec}\n---\n")
        };
        let text: String = specs.iter().enumerate().map(document).collect();
        let expected = expected.map(|path| format!("CiliumClusterwideNetworkPolicy {path}"));
        check_text(&text, subject, expected.as_deref());
    }

    /// The same of any documents.
    #[track_caller]
    fn check_text(text: &str, subject: &Party, expected: Option<&str>) {
        let documents = crate::policy::read_documents(text).unwrap();
        let specs = documents.iter().flat_map(|d| sanitise(d, &Options::default()).unwrap()).collect();
        let engine = Engine::new(specs, EngineOptions::default());
        let world = Party::new(2, ["reserved:world"]);
        let decision = engine.subject(subject).decide(&world, Direction::Egress, Traffic::Other);
        let found = match &decision {
            Decision::CouldNotCheck { field: Field::Conflict, rule: Some(rule) } => Some(rule.to_string()),
            _ => None,
        };
        // Without the line.
        let found = found.as_deref().and_then(|rule| rule.split(" (line").next());
        assert_eq!(found, expected, "{text}\n{decision:?}");
    }

    fn pod() -> Party {
        Party::new(1001, ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"])
    }

    fn item(protocol: &str, port: u16, more: &str) -> String {
        format!("toPorts: [{{ports: [{{port: '{port}', protocol: {protocol}}}], {more}}}]")
    }

    /// Of one clusterwide policy: `first` and then `second`.
    #[track_caller]
    fn check_rules(first: &str, second: &str, fit: bool) {
        let spec = format!("egress: [{{{first}}}, {{{second}}}]");
        check_specs(&[&spec], &pod(), (!fit).then_some("p0: spec.egress[1]"));
    }

    const HTTP: &str = "rules: {http: [{}]}";
    const DNS: &str = "rules: {dns: [{matchPattern: '*'}]}";

    #[test]
    fn only_the_same_peer_port_and_protocol_must_fit() {
        let host = |l4: &str| format!("toEntities: [host], {l4}");
        let http = host(&item("TCP", 80, HTTP));
        check_rules(&http, &host(&item("TCP", 80, DNS)), false);
        check_rules(&http, &host(&item("ANY", 80, DNS)), false);
        check_rules(&http, &host(&item("UDP", 80, DNS)), true);
        check_rules(&http, &host(&item("TCP", 81, DNS)), true);
        check_rules(&http, &format!("toEntities: [health], {}", item("TCP", 80, DNS)), true);
        check_rules(&http, &format!("toEntities: [health, host], {}", item("TCP", 80, DNS)), false);
        check_rules(&http, &format!("toEntities: [], {}", item("TCP", 80, DNS)), true);
    }

    #[test]
    fn modes_of_authentication_must_be_the_same() {
        let rule =
            |l4: &str, mode: &str| format!("toEntities: [host], {l4} authentication: {{mode: {mode}}}");
        let icmp = |kind: u8| format!("icmps: [{{fields: [{{type: {kind}}}]}}],");
        check_rules(&rule("", "required"), &rule("", "disabled"), false);
        check_rules(&rule("", "required"), &rule("", "required"), true);
        check_rules(&rule("", "required"), "toEntities: [host]", true);
        check_rules("toEntities: [host]", &rule("", "required"), true);
        check_rules(&rule(&icmp(8), "required"), &rule(&icmp(8), "disabled"), false);
        check_rules(&rule(&icmp(8), "required"), &rule(&icmp(13), "disabled"), true);
        check_rules(&rule(&icmp(8), "required"), &rule("", "disabled"), true);
        let three = "egress: [{toEntities: [host]}, {toEntities: [host], authentication: {mode: required}}, \
                     {toEntities: [host], authentication: {mode: disabled}}]";
        check_specs(&[three], &pod(), Some("p0: spec.egress[2]"));
    }

    #[test]
    fn secrets_of_tls_must_be_the_same() {
        for member in ["terminatingTLS", "originatingTLS"] {
            let rule = |secret: &str| {
                let tls = format!("{member}: {{secret: {{name: {secret}, namespace: x}}}}");
                format!("toEntities: [host], {}", item("TCP", 443, &tls))
            };
            check_rules(&rule("a"), &rule("b"), false);
            check_rules(&rule("a"), &rule("a"), true);
            check_rules(&rule("a"), &format!("toEntities: [host], {}", item("TCP", 443, "")), true);
        }
    }

    #[test]
    fn a_deny_rule_joins_whatever_follows() {
        let http = format!("egress: [{{toEntities: [host], {}}}]", item("TCP", 80, HTTP));
        let dns = http.replace(HTTP, DNS);
        let deny = format!("egressDeny: [{{toEntities: [host], {}}}]", item("TCP", 80, ""));
        check_specs(&[&http, &dns], &pod(), Some("p1: spec.egress[0]"));
        check_specs(&[&deny, &http, &dns], &pod(), None);
        check_specs(&[&http, &deny, &dns], &pod(), None);
        check_specs(&[&http, &dns, &deny], &pod(), Some("p1: spec.egress[0]"));
    }

    /// The one that comes later by kind, namespace and name is named, whatever the order of the documents.
    #[test]
    fn policies_are_joined_in_the_order_of_their_names() {
        let rules = |l7: &str| format!("egress: [{{toEntities: [host], {}}}]", item("TCP", 80, l7));
        let cnp = |name: &str, spec: &str| {
            format!(
                "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec:\n  endpointSelector: {{}}\n  {spec}\n---\n"
            )
        };
        let ccnp = format!(
            "{CLUSTERWIDE}metadata: {{name: z}}\nspec:\n  endpointSelector: {{}}\n  {}\n---\n",
            rules(DNS)
        );
        let (a, b) = (cnp("a", &rules(HTTP)), cnp("b", &rules(DNS)));
        check_text(&format!("{a}{b}"), &pod(), Some("CiliumNetworkPolicy shop/b: spec.egress[0]"));
        check_text(&format!("{b}{a}"), &pod(), Some("CiliumNetworkPolicy shop/b: spec.egress[0]"));
        check_text(&format!("{a}{ccnp}"), &pod(), Some("CiliumNetworkPolicy shop/a: spec.egress[0]"));
    }

    #[test]
    fn listeners_of_a_namespace_need_one() {
        let listener = |kind: &str, peers: &str| {
            let listener = format!("listener: {{envoyConfig: {{kind: {kind}, name: x}}, name: one}}");
            format!("egress: [{{toEntities: {peers}, {}}}]", item("TCP", 80, &listener))
        };
        let health = Party::new(4, ["reserved:health"]);
        let of_namespace = listener("CiliumEnvoyConfig", "[host]");
        check_specs(&[&of_namespace], &health, Some("p0: spec.egress[0]"));
        check_specs(&[&of_namespace], &pod(), None);
        check_specs(&[&listener("CiliumClusterwideEnvoyConfig", "[host]")], &health, None);
        check_specs(&[&listener("CiliumEnvoyConfig", "[]")], &health, None);
    }

    #[test]
    fn a_policy_that_may_not_select_the_subject_breaks_nothing() {
        let rule = |l7: &str| format!("egress: [{{toEntities: [host], {}}}]", item("TCP", 80, l7));
        let (http, dns) = (rule(HTTP), rule(DNS));
        let of_job = format!("endpointSelector: {{matchLabels: {{job-name: x}}}}\n  {dns}");
        let job = Party::new(1001, ["k8s:job-name=x", "k8s:io.kubernetes.pod.namespace=shop"]);
        check_specs(&[&http, &of_job], &job, Some("p1: spec.egress[0]"));
        let flow = crate::flow::Endpoint::new(1001, "shop", "p", "", ["k8s:job-name=x"]);
        check_specs(&[&http, &of_job], &Party::from_identity(1001, &flow.identity, "default"), None);
    }

    #[test]
    fn deny_ends_it() {
        let all = || Joined::Allow(Allow::default());
        let mut joined = all();
        assert!(joined.join(&Joined::Deny) && joined == Joined::Deny);
        assert!(joined.join(&all()) && joined == Joined::Deny);
    }
}
