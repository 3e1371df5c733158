//! Rules that Cilium cannot combine.
//!
//! Rules of one direction with the same peer selector, port and protocol become one entry. Where that
//! fails the agent keeps the earlier policy of the endpoint, so there is nothing that could be decided.

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
#[derive(Debug, Default)]
struct Joined<'a> {
    denied: bool,
    parser: Option<&'a str>,
    listeners: Vec<(u16, &'a str, &'a str)>,
    authentication: Option<&'a str>,
    terminating: Option<&'a SecretRef>,
    originating: Option<&'a SecretRef>,
    sni: bool,
    l7: bool,
    failed: Option<&'a Entry>,
}

/// The priority of a listener that names none.
const LISTENER_PRIORITY: u16 = 126;

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
            for test in &entry.peers.0 {
                let joined = all.entry(Key { test: *test, l4 }).or_default();
                joined.join(entry, l4, item, rule.authentication.as_deref());
            }
        }
    }
    let mut failed: Vec<&Entry> = all.values().filter(|j| !j.denied).filter_map(Joined::failure).collect();
    failed.sort_by_key(|entry| (entry.spec, entry.rule, entry.item));
    failed.first().copied()
}

// === impl Joined ===

impl<'a> Joined<'a> {
    fn join(&mut self, entry: &'a Entry, l4: KeyL4<'a>, item: &'a PortRule, mode: Option<&'a str>) {
        if entry.deny {
            self.denied = true;
            return;
        }
        let mut fits = match (self.parser, parser(l4, item)) {
            (_, None) => true,
            (None, new) => {
                self.parser = new;
                true
            }
            (Some(old), Some(new)) if old == new => true,
            (Some("tls"), Some(new)) if !["dns", "crd"].contains(&new) => {
                self.parser = Some(new);
                true
            }
            (Some(old), Some("tls")) => !["dns", "crd"].contains(&old),
            _ => false,
        };
        if let Some(listener) = &item.listener {
            let priority = if listener.priority == 0 { LISTENER_PRIORITY } else { listener.priority };
            self.listeners.push((priority, &listener.config, &listener.name));
        }
        fits &= agree(&mut self.authentication, mode);
        fits &= agree(&mut self.terminating, item.terminating_tls.as_ref().map(|tls| &tls.secret));
        fits &= agree(&mut self.originating, item.originating_tls.as_ref().map(|tls| &tls.secret));
        self.sni |= !item.server_names.is_empty();
        self.l7 |= has_rules(&item.l7);
        if !fits || (self.sni && self.l7 && self.terminating.is_none()) || self.two_listeners() {
            self.failed = self.failed.or(Some(entry));
        }
    }

    /// Two listeners of one priority, and none of a better one.
    fn two_listeners(&self) -> bool {
        let best = self.listeners.iter().min();
        best.is_some_and(|best| self.listeners.iter().any(|l| l.0 == best.0 && l != best))
    }

    fn failure(&self) -> Option<&'a Entry> {
        self.failed
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

fn has_rules(l7: &L7) -> bool {
    match l7 {
        L7::None => false,
        L7::Http(_) | L7::Dns(_) | L7::Kafka(_) => true,
        L7::Proxylib { rules, .. } => !rules.is_empty(),
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
