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
use super::prepared::Side;
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
pub(super) fn find<'e>(engine: &'e Engine, sides: &[Side; 2], has_namespace: bool) -> Option<RuleRef<'e>> {
    let directions = [Direction::Ingress, Direction::Egress];
    directions.into_iter().zip(sides).find_map(|(direction, side)| {
        in_direction(engine, direction, side, has_namespace).map(|entry| engine.rule_ref(direction, entry))
    })
}

fn in_direction<'e>(
    engine: &'e Engine,
    direction: Direction,
    side: &Side,
    has_namespace: bool,
) -> Option<&'e Entry> {
    let rules = engine.rules(direction);
    let mut all: HashMap<Key<'e>, Joined<'e>> = HashMap::new();
    let entries = side.entries.iter().filter(|(_, certain)| *certain == Match::Yes);
    // Nothing can go wrong where nothing but layer 4 is said.
    let narrowed =
        |entry: &Entry| entry.filter.is_special() || engine.rule(direction, entry).authentication.is_some();
    if !entries.clone().any(|(number, _)| narrowed(&rules.entries[*number])) {
        return None;
    }
    for (number, _) in entries {
        let entry = &rules.entries[*number];
        let rule = engine.rule(direction, entry);
        let no_item = &engine.no_item;
        let (keys, item): (Vec<KeyL4<'e>>, &'e PortRule) = match &rule.l4 {
            L4::Ports(list) => {
                let item = &list[entry.item];
                let each = |p: &'e PortMatch| p.protocols.list().iter().map(|one| KeyL4::Port(*one, &p.port));
                (item.ports.iter().flat_map(each).collect(), item)
            }
            L4::All => (vec![KeyL4::All], no_item),
            L4::Icmp(types) => (types.iter().map(|t| KeyL4::Icmp(*t)).collect(), no_item),
        };
        let unusable = |l: &Listener| l.kind == Some(ListenerKind::Namespaced) && !has_namespace;
        let reaches = !entry.peers.0.is_empty() && !keys.is_empty();
        if reaches && item.listener.as_ref().is_some_and(unusable) {
            return Some(entry);
        }
        for l4 in keys {
            let new = if entry.deny {
                Joined::Deny
            } else {
                Joined::Allow(Allow::new(l4, item, rule.authentication.as_deref()))
            };
            for test in &entry.peers.0 {
                match all.get_mut(&Key { test: *test, l4 }) {
                    Some(before) => {
                        if !before.join(&new) {
                            return Some(entry);
                        }
                    }
                    None => drop(all.insert(Key { test: *test, l4 }, new.clone())),
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
            (before, new) if before == new => true,
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
        let parser = parser(l4, item);
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
fn parser<'a>(l4: KeyL4<'_>, item: &'a PortRule) -> Option<&'a str> {
    let tcp = matches!(l4, KeyL4::Port(IpProtocol::Tcp, _));
    let tls =
        item.terminating_tls.is_some() || item.originating_tls.is_some() || !item.server_names.is_empty();
    match &item.l7 {
        _ if item.listener.is_some() => Some("crd"),
        L7::Dns(_) => Some("dns"),
        L7::Http(_) if tcp => Some("http"),
        L7::Kafka(_) if tcp => Some("kafka"),
        L7::Proxylib { parser, .. } if tcp => Some(parser),
        _ => tls.then_some("tls"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::spec::{HttpRule, TlsContext};

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

    #[test]
    fn deny_ends_it() {
        let all = || Joined::Allow(Allow::default());
        let mut joined = all();
        assert!(joined.join(&Joined::Deny) && joined == Joined::Deny);
        assert!(joined.join(&all()) && joined == Joined::Deny);
    }
}
