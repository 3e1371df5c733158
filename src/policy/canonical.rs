//! The one form that cpg writes a policy in: the same meaning gives the same bytes.
//!
//! A policy is, per direction, a map from peer to the set of what it may do. Rendering groups it:
//! the ports of equal peers share a rule, peers with equal ports share a rule, everything sorted,
//! ports split at 40 (the CRD's limit). A file whose bytes are the rendering of its own meaning was
//! last written by cpg and is cpg's to render anew; any other file has been in people's hands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::yaml::{self, YamlError};
use super::{Allow, Peer, Rule, Subject, read_documents};
use crate::flow::Direction;
use crate::names::PolicyName;

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
        yaml::write(&yaml::written::File::from(self))
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
        yaml::written::policy(value)
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

    pub(super) fn extend(&mut self, group: Group) {
        for peer in group.peers {
            self.0.entry(peer).or_default().extend(group.allows.iter().copied());
        }
    }

    /// The rules as they are written: peers of one kind with equal sets of ports (or of ICMP types)
    /// together, by peers, ports before ICMP.
    pub(super) fn grouped(&self) -> Vec<Group> {
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
pub(super) struct Group {
    pub(super) peers: Vec<Peer>,
    pub(super) allows: BTreeSet<Allow>,
}

impl Peer {
    /// A single address: /32 or /128.
    pub fn address(address: IpAddr) -> Self {
        Self::Cidr(IpNet::from(address))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entity, IcmpType, Selector};
    use super::*;
    use crate::flow::{IcmpFamily, Port, Protocol};
    use crate::names::Namespace;

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
