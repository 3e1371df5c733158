//! Where needed rules go in a document that a person wrote: insertions as data, without a text.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::cover::Element;
use super::places::port_of;
use super::requests::{self, Said};
use super::{Refusal, same_peer};
use crate::flow::Direction;
use crate::names::Namespace;
use crate::policy::{Allow, Document, L7Match, MAX_FIELDS, MAX_PORTS, Peer, Policy, Rule, yaml};

/// One insertion at the end of one list below `spec`.
#[derive(Debug)]
pub(super) struct Edit {
    pub(super) direction: Direction,
    pub(super) place: Place,
    /// A YAML document in which the new items stand in a list…
    pub(super) source: String,
    /// … at the end of these keys.
    pub(super) keys: &'static [&'static str],
}

/// Which list grows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// `ingress` or `egress` itself, which may be absent, null or empty.
    Rules,
    /// `toPorts` or `icmps` of a rule.
    Items { rule: usize, icmp: bool },
    /// `ports` or `fields` of one of its items.
    Entries { rule: usize, icmp: bool, item: usize },
    /// The list of this name below `rules` of one of the items of `toPorts`.
    Requests { rule: usize, item: usize, list: &'static str },
}

/// The insertions that bring `needed` into the `spec` of a document, none of which is there yet.
pub(super) fn plan(target: &Document, needed: &[Rule], additions: &Policy) -> Result<Vec<Edit>, Refusal> {
    let mut edits = Vec::new();
    for direction in [Direction::Ingress, Direction::Egress] {
        let key = direction.as_str();
        let existing = match target.value.pointer("/spec").and_then(|spec| spec.get(key)) {
            None | Some(Value::Null) => &[],
            Some(Value::Array(list)) => list.as_slice(),
            Some(_) => {
                let wanted = needed.iter().any(|rule| rule.direction == direction);
                if wanted {
                    return Err(Refusal::NotEditable(format!("`{key}` is no list")));
                }
                continue;
            }
        };
        let mut fresh = Policy::new(additions.name.clone(), additions.subject.clone());
        let mut grown: BTreeMap<(usize, bool), Vec<Allow>> = BTreeMap::new();
        let mut asked = Asked::new();
        for rule in needed.iter().filter(|rule| rule.direction == direction) {
            if let Some(l7) = &rule.l7 {
                asked.entry((rule.peer.clone(), l7.clone())).or_default().insert(rule.allow);
                continue;
            }
            let icmp = matches!(rule.allow, Allow::Icmp(..));
            match existing.iter().position(|element| is_home(element, rule, icmp, additions)) {
                Some(index) => grown.entry((index, icmp)).or_default().push(rule.allow),
                None => {
                    fresh.add(rule.clone());
                }
            }
        }
        for ((rule, icmp), allows) in grown {
            grow(direction, rule, icmp, &existing[rule], allows, &mut edits)?;
        }
        for (rule, element) in existing.iter().enumerate() {
            grow_requests(direction, rule, element, &mut asked, &additions.subject.namespace, &mut edits)?;
        }
        for ((peer, l7), allows) in asked {
            for allow in allows {
                fresh.add(Rule { direction, peer: peer.clone(), allow, l7: Some(l7.clone()) });
            }
        }
        if !fresh.direction(direction).is_empty() {
            let source = fresh.render().map_err(|e| Refusal::NotEditable(e.to_string()))?;
            let keys: &[&str] = match direction {
                Direction::Ingress => &["spec", "ingress"],
                Direction::Egress => &["spec", "egress"],
            };
            edits.push(Edit { direction, place: Place::Rules, source, keys });
        }
    }
    Ok(edits)
}

/// Whether a written rule is for this one peer only and lists ports (or ICMP types) to which one more
/// can be added.
fn is_home(element: &Value, rule: &Rule, icmp: bool, additions: &Policy) -> bool {
    let namespace = &additions.subject.namespace;
    let Some(element) = Element::new(element, rule.direction) else { return false };
    let mut peers = element.peers(namespace);
    peers.next() == Some(Some(same_peer(&rule.peer, namespace)))
        && peers.next().is_none()
        && element.takes(icmp)
}

/// The insertions into one written rule: first into items with room, then as new items.
fn grow(
    direction: Direction,
    rule: usize,
    icmp: bool,
    element: &Value,
    allows: Vec<Allow>,
    edits: &mut Vec<Edit>,
) -> Result<(), Refusal> {
    let (items_key, entries_key, most) =
        if icmp { ("icmps", "fields", MAX_FIELDS) } else { ("toPorts", "ports", MAX_PORTS) };
    let mut rest: Vec<Value> = allows.into_iter().map(entry).collect();
    let items = element.get(items_key).and_then(Value::as_array).into_iter().flatten();
    for (item, value) in items.enumerate() {
        let entries = value.as_object().filter(|map| map.len() == 1).and_then(|map| map.get(entries_key));
        let Some(entries) = entries.and_then(Value::as_array).filter(|list| !list.is_empty()) else {
            continue;
        };
        let room = most.saturating_sub(entries.len()).min(rest.len());
        if room > 0 {
            let now: Vec<Value> = rest.drain(..room).collect();
            edits.push(Edit::new(direction, Place::Entries { rule, icmp, item }, &now)?);
        }
    }
    if !rest.is_empty() {
        let items: Vec<Value> = rest.chunks(most).map(|chunk| json!({ (entries_key): chunk })).collect();
        edits.push(Edit::new(direction, Place::Items { rule, icmp }, &items)?);
    }
    Ok(())
}

/// Requests that are needed, and the ports on which.
type Asked = BTreeMap<(Peer, L7Match), BTreeSet<Allow>>;

/// The insertions into the lists of requests of one written rule: where it is for this one peer only, and
/// the request is needed on every port of the item. What found its place is taken out of `asked`.
fn grow_requests(
    direction: Direction,
    rule: usize,
    element: &Value,
    asked: &mut Asked,
    namespace: &Namespace,
    edits: &mut Vec<Edit>,
) -> Result<(), Refusal> {
    let Some(element) = Element::new(element, direction) else { return Ok(()) };
    let mut peers = element.peers(namespace);
    let (Some(Some(peer)), None) = (peers.next(), peers.next()) else { return Ok(()) };
    if !element.takes(false) {
        return Ok(());
    }
    for (item, value) in element.items(false).iter().enumerate() {
        let Some(map) = value.as_object().filter(|map| map.len() == 2 && map.contains_key("rules")) else {
            continue;
        };
        let ports: Option<BTreeSet<Allow>> = map
            .get("ports")
            .and_then(Value::as_array)
            .and_then(|ports| ports.iter().map(|port| port_of(port.as_object()?)).collect());
        let Some(ports) = ports.filter(|ports| !ports.is_empty()) else { continue };
        let said = Said::on(map);
        let mut new = Vec::new();
        let mut list = "";
        for ((needed, l7), allows) in asked.iter_mut() {
            if same_peer(needed, namespace) == peer && said.takes(l7) && ports.is_subset(allows) {
                list = requests::key(l7);
                new.push(requests::written(l7));
                allows.retain(|allow| !ports.contains(allow));
            }
        }
        if !new.is_empty() {
            edits.push(Edit::new(direction, Place::Requests { rule, item, list }, &new)?);
        }
    }
    asked.retain(|_, allows| !allows.is_empty());
    Ok(())
}

fn entry(allow: Allow) -> Value {
    match allow {
        Allow::Port(protocol, port) => json!({"port": port.to_string(), "protocol": protocol.as_str()}),
        Allow::Icmp(family, kind) => json!({"family": family.as_str(), "type": kind.get()}),
    }
}

// === impl Edit ===

impl Edit {
    fn new(direction: Direction, place: Place, items: &[Value]) -> Result<Self, Refusal> {
        let source =
            yaml::write(&json!({ "items": items })).map_err(|e| Refusal::NotEditable(e.to_string()))?;
        Ok(Self { direction, place, source, keys: &["items"] })
    }

    /// The keys and indices below `spec` that lead to the list.
    pub(super) fn path(&self) -> Vec<Step> {
        let mut path = vec![Step::Key(self.direction.as_str())];
        let items = |icmp| if icmp { "icmps" } else { "toPorts" };
        match self.place {
            Place::Rules => {}
            Place::Items { rule, icmp } => path.extend([Step::Index(rule), Step::Key(items(icmp))]),
            Place::Entries { rule, icmp, item } => path.extend([
                Step::Index(rule),
                Step::Key(items(icmp)),
                Step::Index(item),
                Step::Key(if icmp { "fields" } else { "ports" }),
            ]),
            Place::Requests { rule, item, list } => path.extend([
                Step::Index(rule),
                Step::Key("toPorts"),
                Step::Index(item),
                Step::Key("rules"),
                Step::Key(list),
            ]),
        }
        path
    }

    /// Does to a value what is meant to be done to the text.
    pub(super) fn apply_to(&self, document: &mut Value) -> Option<()> {
        let mut new = yaml::read_all::<Value>(&self.source).ok()?.into_iter().next()?;
        for key in self.keys {
            new = new.get_mut(*key)?.take();
        }
        let mut at = document.get_mut("spec")?;
        for step in self.path() {
            at = match step {
                Step::Key(key) => at.as_object_mut()?.entry(key).or_insert(Value::Null),
                Step::Index(index) => at.get_mut(index)?,
            };
        }
        if at.is_null() {
            *at = Value::Array(Vec::new());
        }
        at.as_array_mut()?.append(new.as_array_mut()?);
        Some(())
    }
}

/// One step of a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Key(&'static str),
    Index(usize),
}
