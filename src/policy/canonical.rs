//! The one form that cpg writes a policy in: the same meaning gives the same bytes.
//!
//! A policy is, per direction, a map from peer to the set of what it may do. Rendering groups it:
//! the ports of equal peers share a rule, peers with equal ports share a rule, everything sorted,
//! ports split at 40 (the CRD's limit). A file whose bytes are the rendering of its own meaning was
//! last written by cpg and is cpg's to render anew; any other file has been in people's hands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::yaml::{self, YamlError};
use super::{Allow, Entity, IcmpType, Peer, Rule, Selector, Subject, read_documents};
use crate::flow::{Direction, IcmpFamily, Port, Protocol};
use crate::names::{Namespace, PolicyName};

/// The most ports that Cilium takes in one `toPorts` item.
pub const MAX_PORTS: usize = 40;
/// The most fields that Cilium takes in one `icmps` item.
pub const MAX_FIELDS: usize = 40;

/// A policy in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `metadata.name`.
    pub name: PolicyName,
    /// Which pods it selects; `metadata.namespace` is part of it.
    pub subject: Subject,
    /// What may come in.
    pub ingress: Rules,
    /// What may go out.
    pub egress: Rules,
}

/// One direction: who may do what. No peer without something allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(BTreeMap<Peer, BTreeSet<Allow>>);

// === impl Policy ===

impl Policy {
    /// A policy that has no rule yet. It must not be rendered so: Cilium refuses it.
    pub fn new(name: PolicyName, subject: Subject) -> Self {
        Self { name, subject, ingress: Rules::default(), egress: Rules::default() }
    }

    /// Adds a rule; `false` when it is there already.
    pub fn add(&mut self, rule: Rule) -> bool {
        self.direction_mut(rule.direction).add(rule.peer, rule.allow)
    }

    /// The rules of one direction.
    pub fn direction(&self, direction: Direction) -> &Rules {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    fn direction_mut(&mut self, direction: Direction) -> &mut Rules {
        match direction {
            Direction::Ingress => &mut self.ingress,
            Direction::Egress => &mut self.egress,
        }
    }

    /// Every rule, ingress first, in canonical order.
    pub fn rules(&self) -> impl Iterator<Item = Rule> {
        [Direction::Ingress, Direction::Egress].into_iter().flat_map(|direction| {
            self.direction(direction).iter().map(move |(peer, allow)| Rule {
                direction,
                peer: peer.clone(),
                allow,
            })
        })
    }

    /// The canonical bytes.
    pub fn render(&self) -> Result<String, YamlError> {
        yaml::write(&File {
            api_version: "cilium.io/v2".into(),
            kind: "CiliumNetworkPolicy".into(),
            metadata: Metadata {
                name: self.name.as_str().into(),
                namespace: self.subject.namespace.as_str().into(),
            },
            spec: Spec {
                endpoint_selector: LabelSelector::from(&self.subject.selector),
                ingress: self.ingress.grouped().into_iter().map(IngressRule::from).collect(),
                egress: self.egress.grouped().into_iter().map(EgressRule::from).collect(),
            },
        })
    }

    /// The policy that a text is the canonical rendering of; `None` for every other text, so also
    /// for one that differs by a blank.
    pub fn from_canonical(text: &str) -> Option<Self> {
        let documents = read_documents(text).ok()?;
        let [document] = documents.as_slice() else { return None };
        let policy = Self::from_value(&document.value)?;
        (policy.render().ok()?.as_str() == text).then_some(policy)
    }

    /// The policy that a value of exactly the written form means; `None` when it has any field that
    /// cpg does not write.
    pub fn from_value(value: &Value) -> Option<Self> {
        let file = File::deserialize(value).ok()?;
        if file.api_version != "cilium.io/v2" || file.kind != "CiliumNetworkPolicy" {
            return None;
        }
        let subject = Subject {
            namespace: Namespace::parse(&file.metadata.namespace).ok()?,
            selector: file.spec.endpoint_selector.selector()?,
        };
        let mut policy = Self::new(PolicyName::parse(&file.metadata.name).ok()?, subject);
        for rule in file.spec.ingress {
            policy.ingress.extend(Group::try_from(rule).ok()?);
        }
        for rule in file.spec.egress {
            policy.egress.extend(Group::try_from(rule).ok()?);
        }
        Some(policy)
    }
}

// === impl Rules ===

impl Rules {
    /// Adds one; `false` when it is there already.
    pub fn add(&mut self, peer: Peer, allow: Allow) -> bool {
        self.0.entry(peer).or_default().insert(allow)
    }

    /// Each peer with each thing it may do.
    pub fn iter(&self) -> impl Iterator<Item = (&Peer, Allow)> {
        self.0.iter().flat_map(|(peer, allows)| allows.iter().map(move |allow| (peer, *allow)))
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn extend(&mut self, group: Group) {
        for peer in group.peers {
            self.0.entry(peer).or_default().extend(group.allows.iter().copied());
        }
    }

    /// The rules as they are written: peers of one kind with equal sets of ports (or of ICMP types)
    /// together, by peers, ports before ICMP.
    fn grouped(&self) -> Vec<Group> {
        let mut groups: BTreeMap<(u8, bool, BTreeSet<Allow>), Vec<Peer>> = BTreeMap::new();
        for (peer, allows) in &self.0 {
            for icmp in [false, true] {
                let part: BTreeSet<Allow> =
                    allows.iter().copied().filter(|a| matches!(a, Allow::Icmp(..)) == icmp).collect();
                if !part.is_empty() {
                    groups.entry((kind(peer), icmp, part)).or_default().push(peer.clone());
                }
            }
        }
        let mut groups: Vec<_> =
            groups.into_iter().map(|((_, icmp, allows), peers)| (icmp, Group { peers, allows })).collect();
        groups.sort_by(|(ia, a), (ib, b)| (&a.peers, ia, &a.allows).cmp(&(&b.peers, ib, &b.allows)));
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

fn kind(peer: &Peer) -> u8 {
    match peer {
        Peer::Endpoints(_) => 0,
        Peer::Entity(_) => 1,
        Peer::Cidr(_) => 2,
    }
}

/// Peers of one kind that may all do the same: one written rule.
#[derive(Debug)]
struct Group {
    peers: Vec<Peer>,
    allows: BTreeSet<Allow>,
}

// The written form. Fields in the order in which they are written.

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    namespace: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    endpoint_selector: LabelSelector,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ingress: Vec<IngressRule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    egress: Vec<EgressRule>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LabelSelector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IngressRule {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    from_endpoints: Vec<LabelSelector>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    from_entities: Vec<String>,
    #[serde(default, rename = "fromCIDR", skip_serializing_if = "Vec::is_empty")]
    from_cidr: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    to_ports: Vec<PortRule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    icmps: Vec<IcmpRule>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EgressRule {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    to_endpoints: Vec<LabelSelector>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    to_entities: Vec<String>,
    #[serde(default, rename = "toCIDR", skip_serializing_if = "Vec::is_empty")]
    to_cidr: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    to_ports: Vec<PortRule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    icmps: Vec<IcmpRule>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortRule {
    ports: Vec<PortProtocol>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortProtocol {
    port: String,
    protocol: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IcmpRule {
    fields: Vec<IcmpField>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IcmpField {
    family: String,
    #[serde(rename = "type")]
    kind: u8,
}

// === impl LabelSelector ===

impl From<&Selector> for LabelSelector {
    fn from(selector: &Selector) -> Self {
        Self { match_labels: selector.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect() }
    }
}

impl LabelSelector {
    fn selector(self) -> Option<Selector> {
        Selector::new(self.match_labels)
    }
}

/// The five lists of a written rule, whatever its direction calls them.
struct Lists {
    endpoints: Vec<LabelSelector>,
    entities: Vec<String>,
    cidr: Vec<String>,
    to_ports: Vec<PortRule>,
    icmps: Vec<IcmpRule>,
}

impl From<Group> for Lists {
    fn from(group: Group) -> Self {
        let mut lists = Self {
            endpoints: Vec::new(),
            entities: Vec::new(),
            cidr: Vec::new(),
            to_ports: Vec::new(),
            icmps: Vec::new(),
        };
        for peer in &group.peers {
            match peer {
                Peer::Endpoints(selector) => lists.endpoints.push(selector.into()),
                Peer::Entity(entity) => lists.entities.push(entity.as_str().into()),
                Peer::Cidr(net) => lists.cidr.push(net.to_string()),
            }
        }
        let mut ports = Vec::new();
        let mut fields = Vec::new();
        for allow in group.allows {
            match allow {
                Allow::Port(protocol, port) => {
                    ports.push(PortProtocol { port: port.to_string(), protocol: protocol.as_str().into() });
                }
                Allow::Icmp(family, kind) => {
                    fields.push(IcmpField { family: family.as_str().into(), kind: kind.get() });
                }
            }
        }
        while !ports.is_empty() {
            let rest = ports.split_off(ports.len().min(MAX_PORTS));
            lists.to_ports.push(PortRule { ports });
            ports = rest;
        }
        while !fields.is_empty() {
            let rest = fields.split_off(fields.len().min(MAX_FIELDS));
            lists.icmps.push(IcmpRule { fields });
            fields = rest;
        }
        lists
    }
}

/// A rule that has a form cpg does not write.
struct Foreign;

impl TryFrom<Lists> for Group {
    type Error = Foreign;

    fn try_from(lists: Lists) -> Result<Self, Foreign> {
        let mut peers = Vec::new();
        for selector in lists.endpoints {
            peers.push(Peer::Endpoints(selector.selector().ok_or(Foreign)?));
        }
        for name in lists.entities {
            peers.push(Peer::Entity(Entity::from_name(&name).ok_or(Foreign)?));
        }
        for net in lists.cidr {
            peers.push(Peer::Cidr(net.parse::<IpNet>().map_err(|_| Foreign)?));
        }
        let mut allows = BTreeSet::new();
        for port in lists.to_ports.into_iter().flat_map(|rule| rule.ports) {
            let number = port.port.parse().ok().and_then(Port::new).ok_or(Foreign)?;
            allows.insert(Allow::Port(Protocol::from_name(&port.protocol).ok_or(Foreign)?, number));
        }
        for field in lists.icmps.into_iter().flat_map(|rule| rule.fields) {
            let family = match field.family.as_str() {
                "IPv4" => IcmpFamily::V4,
                "IPv6" => IcmpFamily::V6,
                _ => return Err(Foreign),
            };
            allows.insert(Allow::Icmp(family, IcmpType::new(field.kind).ok_or(Foreign)?));
        }
        if peers.is_empty() || allows.is_empty() { Err(Foreign) } else { Ok(Self { peers, allows }) }
    }
}

impl From<Group> for IngressRule {
    fn from(group: Group) -> Self {
        let Lists { endpoints, entities, cidr, to_ports, icmps } = group.into();
        Self { from_endpoints: endpoints, from_entities: entities, from_cidr: cidr, to_ports, icmps }
    }
}

impl From<Group> for EgressRule {
    fn from(group: Group) -> Self {
        let Lists { endpoints, entities, cidr, to_ports, icmps } = group.into();
        Self { to_endpoints: endpoints, to_entities: entities, to_cidr: cidr, to_ports, icmps }
    }
}

impl TryFrom<IngressRule> for Group {
    type Error = Foreign;

    fn try_from(rule: IngressRule) -> Result<Self, Foreign> {
        let IngressRule { from_endpoints, from_entities, from_cidr, to_ports, icmps } = rule;
        Lists { endpoints: from_endpoints, entities: from_entities, cidr: from_cidr, to_ports, icmps }
            .try_into()
    }
}

impl TryFrom<EgressRule> for Group {
    type Error = Foreign;

    fn try_from(rule: EgressRule) -> Result<Self, Foreign> {
        let EgressRule { to_endpoints, to_entities, to_cidr, to_ports, icmps } = rule;
        Lists { endpoints: to_endpoints, entities: to_entities, cidr: to_cidr, to_ports, icmps }.try_into()
    }
}

impl Peer {
    /// A single address: /32 or /128.
    pub fn address(address: IpAddr) -> Self {
        Self::Cidr(IpNet::from(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[(Direction, Peer, Allow)]) -> Policy {
        let subject = Subject {
            namespace: Namespace::parse("shop").unwrap(),
            selector: Selector::new([("app", "cart"), ("tier", "no")]).unwrap(),
        };
        let mut policy = Policy::new(PolicyName::parse("cpg-cart").unwrap(), subject);
        for (direction, peer, allow) in rules {
            assert!(policy.add(Rule { direction: *direction, peer: peer.clone(), allow: *allow }));
        }
        policy
    }

    fn tcp(port: u16) -> Allow {
        Allow::Port(Protocol::Tcp, Port::new(port).unwrap())
    }

    fn pods(app: &str) -> Peer {
        Peer::Endpoints(Selector::new([("app", app)]).unwrap())
    }

    #[test]
    fn equal_ports_share_a_rule_and_icmp_stands_alone() {
        use Direction::{Egress, Ingress};
        let ping = Allow::Icmp(IcmpFamily::V4, IcmpType::new(8).unwrap());
        let text = policy(&[
            (Ingress, pods("web"), tcp(8080)),
            (Ingress, pods("api"), tcp(8080)),
            (Ingress, pods("api"), ping),
            (Egress, Peer::address("192.0.2.7".parse().unwrap()), tcp(443)),
            (Egress, Peer::address("2001:db8::7".parse().unwrap()), tcp(443)),
            (Egress, Peer::Entity(Entity::KubeApiserver), tcp(6443)),
        ])
        .render()
        .unwrap();
        assert_eq!(
            text,
            "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: cpg-cart
  namespace: shop
spec:
  endpointSelector:
    matchLabels:
      app: cart
      tier: \"no\"
  ingress:
  - fromEndpoints:
    - matchLabels:
        app: api
    icmps:
    - fields:
      - family: IPv4
        type: 8
  - fromEndpoints:
    - matchLabels:
        app: api
    - matchLabels:
        app: web
    toPorts:
    - ports:
      - port: \"8080\"
        protocol: TCP
  egress:
  - toEntities:
    - kube-apiserver
    toPorts:
    - ports:
      - port: \"6443\"
        protocol: TCP
  - toCIDR:
    - 192.0.2.7/32
    - 2001:db8::7/128
    toPorts:
    - ports:
      - port: \"443\"
        protocol: TCP
"
        );
    }

    #[test]
    fn ports_are_split_at_forty() {
        let rules: Vec<_> = (7001..=7085).map(|p| (Direction::Ingress, pods("a"), tcp(p))).collect();
        let text = policy(&rules).render().unwrap();
        assert_eq!(text.matches("- ports:").count(), 3);
        assert_eq!(Policy::from_canonical(&text), Some(policy(&rules)));
    }

    #[test]
    fn only_exact_bytes_are_canonical() {
        let text = policy(&[(Direction::Egress, pods("db"), tcp(5432))]).render().unwrap();
        assert!(Policy::from_canonical(&text).is_some());
        let check = |other: String| assert!(Policy::from_canonical(&other).is_none(), "{other}");
        check(text.replace("spec:", "spec: # mine"));
        check(text.replace("  name:", "  labels: {a: b}\n  name:"));
        check(format!("---\n{text}"));
        check(format!("{text}---\n{text}"));
        check(text.replace("\"5432\"", "'5432'"));
        check(text.replace("\"5432\"", "\"05432\""));
        check(text.replace("toEndpoints", "fromEndpoints"));
    }
}
