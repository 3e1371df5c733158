//! Where the rules of a subject stand in the documents of a file, in the words of [`Rule`] as far as
//! cpg has words for them.

use serde_json::{Map, Value};

use super::cover::Element;
use super::requests::Said;
use super::same_peer;
use crate::flow::{Direction, IcmpFamily, Port, Protocol};
use crate::names::Namespace;
use crate::policy::spec::Path;
use crate::policy::{Allow, Document, IcmpType, Kind, L7Match, Peer, Rule, Subject, subject_of};
use crate::text::visible;

/// One thing that a document says of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Which document of the file, from 0; empty documents do not count.
    pub document: usize,
    /// Where in it: the port, or the rule as a whole.
    pub path: Path,
    /// What.
    pub says: Says,
}

/// What stands in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// Exactly this, which is what cpg would write. Peers are in the form of [`meaning`].
    Rule(Rule),
    /// Something that people write and cpg does not: its direction and a few words, safe to print.
    Other(Direction, String),
}

/// A rule whose peer is in the one form of all that mean the same in this namespace, so that equal
/// meanings are equal.
pub fn meaning(rule: &Rule, namespace: &Namespace) -> Rule {
    Rule { peer: same_peer(&rule.peer, namespace), ..rule.clone() }
}

/// Everything that these documents say of a subject, in the order of the file. `home` is the namespace
/// of documents that name none.
pub fn written(documents: &[Document], home: Option<&Namespace>, subject: &Subject) -> Vec<Written> {
    let mut all = Vec::new();
    for document in documents.iter().filter(|d| d.kind == Kind::CiliumNetworkPolicy) {
        if document.namespace(home).as_ref() != Some(&subject.namespace) {
            continue;
        }
        let spec = document.value.get("spec").map(|spec| (Path::root().member("spec"), spec));
        let specs = document.value.get("specs").and_then(Value::as_array).into_iter().flatten();
        let specs = specs.enumerate().map(|(i, spec)| (Path::root().member("specs").item(i), spec));
        for (path, set) in spec.into_iter().chain(specs) {
            if subject_of(set, subject.namespace.clone()).as_ref() == Some(subject) {
                let mut places =
                    Places { document: document.index, namespace: &subject.namespace, all: &mut all };
                places.set(&path, set);
            }
        }
    }
    all
}

struct Places<'a> {
    document: usize,
    namespace: &'a Namespace,
    all: &'a mut Vec<Written>,
}

impl Places<'_> {
    fn set(&mut self, path: &Path, set: &Value) {
        for direction in [Direction::Ingress, Direction::Egress] {
            for deny in [false, true] {
                let key = format!("{}{}", direction.as_str(), if deny { "Deny" } else { "" });
                let list = path.member(&key);
                let elements = set.get(&key).and_then(Value::as_array).into_iter().flatten();
                for (i, element) in elements.enumerate() {
                    if deny || self.element(&list.item(i), element, direction).is_none() {
                        self.other(list.item(i), direction, &key, element);
                    }
                }
            }
        }
    }

    /// The parts of one rule; `None` when it is to be told as a whole.
    fn element(&mut self, path: &Path, value: &Value, direction: Direction) -> Option<()> {
        let element = Element::new(value, direction)?;
        let peers: Vec<Peer> = element.peers(self.namespace).collect::<Option<_>>()?;
        let icmp = element.takes(true);
        if peers.is_empty() || !(icmp || element.takes(false)) {
            return None;
        }
        let (items_key, entries_key) = if icmp { ("icmps", "fields") } else { ("toPorts", "ports") };
        let people = value.as_object()?.iter().filter(|(key, _)| *key != items_key);
        let people: Map<String, Value> = people.map(|(key, value)| (key.clone(), value.clone())).collect();
        let whole = |key: &str, part: &Value| {
            let mut whole = people.clone();
            whole.insert(key.to_owned(), part.clone());
            Value::Object(whole)
        };
        for (i, item) in element.items(icmp).iter().enumerate() {
            let path = path.member(items_key).item(i);
            let said = |map: &Map<String, Value>| -> Option<Vec<L7Match>> {
                let known = |key: &String| key == entries_key || (key == "rules" && !icmp);
                map.keys().all(known).then(|| Said::on(map).requests())?
            };
            let list = item.get(entries_key).and_then(Value::as_array);
            let parts = item.as_object().and_then(said).zip(list);
            let Some((requests, entries)) = parts.filter(|(_, list)| !list.is_empty()) else {
                self.other(path, direction, direction.as_str(), &whole(items_key, item));
                continue;
            };
            for (j, entry) in entries.iter().enumerate() {
                let path = path.member(entries_key).item(j);
                let allow = entry.as_object().and_then(if icmp { icmp_of } else { port_of });
                let Some(allow) = allow else {
                    self.other(path, direction, direction.as_str(), &whole(entries_key, entry));
                    continue;
                };
                let l7: Vec<Option<L7Match>> = match requests.as_slice() {
                    [] => vec![None],
                    some => some.iter().cloned().map(Some).collect(),
                };
                for (peer, l7) in peers.iter().flat_map(|peer| l7.iter().map(move |l7| (peer, l7))) {
                    let says = Says::Rule(Rule { direction, peer: peer.clone(), allow, l7: l7.clone() });
                    self.all.push(Written { document: self.document, path: path.clone(), says });
                }
            }
        }
        Some(())
    }

    fn other(&mut self, path: Path, direction: Direction, key: &str, element: &Value) {
        let words = match element.as_object() {
            Some(map) => {
                let words: Vec<String> = map.iter().map(|(key, value)| format!("{key} {value}")).collect();
                words.join(" ")
            }
            None => element.to_string(),
        };
        let words = if words.is_empty() { "from or to anybody" } else { &words };
        let words = visible(&format!("{key} {words}"), 160).into_owned();
        self.all.push(Written { document: self.document, path, says: Says::Other(direction, words) });
    }
}

/// A single port of one protocol that cpg writes.
pub(super) fn port_of(entry: &Map<String, Value>) -> Option<Allow> {
    if entry.len() != 2 {
        return None;
    }
    let protocol = Protocol::from_name(entry.get("protocol")?.as_str()?)?;
    let text = entry.get("port")?.as_str()?;
    if text.starts_with('0') {
        return None; // Octal to the agent.
    }
    Some(Allow::Port(protocol, Port::new(text.parse().ok()?)?))
}

fn icmp_of(entry: &Map<String, Value>) -> Option<Allow> {
    let family = match entry.get("family") {
        None => IcmpFamily::V4,
        Some(family) => {
            [IcmpFamily::V4, IcmpFamily::V6].into_iter().find(|f| Some(f.as_str()) == family.as_str())?
        }
    };
    let kind = u8::try_from(entry.get("type")?.as_u64()?).ok()?;
    let known = entry.keys().all(|key| key == "family" || key == "type");
    known.then_some(Allow::Icmp(family, IcmpType::new(kind)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Selector, read_documents};

    #[test]
    fn plain_rules_by_port_and_everything_else_as_a_whole() {
        let text = "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEntities: [host, kube-apiserver]
    toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]
  - fromEndpoints: [{}]
  egress:
  - toEndpoints:
    - matchLabels: {app: api, 'k8s:io.kubernetes.pod.namespace': shop}
    icmps: [{fields: [{type: 8}]}]
  - toEndpoints: [{matchLabels: {app: api}}]
    toPorts:
    - ports: [{port: \"443\", protocol: TCP}, {port: \"80\", endPort: 90, protocol: TCP}]
    - {ports: [{port: \"81\", protocol: TCP}], rules: {http: [{}]}}
  egressDeny:
  - toEntities: [world]
";
        let subject = Subject {
            namespace: Namespace::parse("shop").unwrap(),
            selector: Selector::new([("app", "web")]).unwrap(),
        };
        let documents = read_documents(text).unwrap();
        let found: Vec<String> = written(&documents, None, &subject)
            .into_iter()
            .map(|w| match w.says {
                Says::Rule(rule) => format!("{} {rule}", w.path),
                Says::Other(_, words) => format!("{} other {words}", w.path),
            })
            .collect();
        assert_eq!(
            found,
            [
                "spec.ingress[0].toPorts[0].ports[0] ingress from host TCP/80",
                "spec.ingress[0].toPorts[0].ports[0] ingress from kube-apiserver TCP/80",
                "spec.ingress[1] other ingress fromEndpoints [{}]",
                "spec.egress[0].icmps[0].fields[0] egress to app=api ICMP IPv4 type 8",
                "spec.egress[1].toPorts[0].ports[0] egress to app=api TCP/443",
                "spec.egress[1].toPorts[0].ports[1] other egress ports {\"endPort\":90,\"port\":\"80\",\"protocol\":\"TCP\"} toEndpoints [{\"matchLabels\":{\"app\":\"api\"}}]",
                "spec.egress[1].toPorts[1] other egress toEndpoints [{\"matchLabels\":{\"app\":\"api\"}}] toPorts {\"ports\":[{\"port\":\"81\",\"protocol\":\"TCP\"}],\"rules\":{\"http\":[{}]}}",
                "spec.egressDeny[0] other egressDeny toEntities [\"world\"]",
            ]
        );
    }
}
