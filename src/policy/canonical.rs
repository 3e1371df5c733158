//! The one form that cpg writes a policy in: the same meaning gives the same bytes.
//!
//! A policy is, per direction, a map from peer to the set of what it may do. Rendering groups it:
//! the ports of equal peers share a rule, ports on which the same may be said share an item, peers
//! with equal ports share a rule, everything sorted, ports split at 40 (the CRD's limit). A file whose bytes are the rendering of its own meaning was
//! last written by cpg and is cpg's to render anew; any other file has been in people's hands.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::yaml::{self, YamlError};
use super::{Allow, L7Match, Peer, Rule, Subject, read_documents};
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

/// One direction: who may do what. No peer without something allowed. A port that is allowed plainly may
/// also stand with DNS queries: the proxy then sees them, and lets all pass.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(BTreeMap<Peer, BTreeSet<Permit>>);

/// A port or an ICMP type, and what must be said on it; `None`: whatever.
type Permit = (Allow, Option<L7Match>);

// === impl Policy ===

impl Policy {
    /// A policy that has no rule yet. It must not be rendered so: Cilium refuses it.
    pub fn new(name: PolicyName, subject: Subject) -> Self {
        Self { name, subject, ingress: Rules::default(), egress: Rules::default() }
    }

    /// Adds a rule; `false` when it is there already.
    pub fn add(&mut self, rule: Rule) -> bool {
        self.direction_mut(rule.direction).add(rule.peer, rule.allow, rule.l7)
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
            self.direction(direction).iter().map(move |(peer, allow, l7)| Rule {
                direction,
                peer: peer.clone(),
                allow,
                l7: l7.cloned(),
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

    /// Several policies as the documents of one text, which they stand in by [`Policy::place`].
    pub fn render_all<'a>(policies: impl IntoIterator<Item = &'a Self>) -> Result<String, YamlError> {
        let texts: Vec<String> = policies.into_iter().map(Self::render).collect::<Result<_, _>>()?;
        Ok(texts.join("---\n"))
    }

    /// The policies, at least one, that a text is the canonical rendering of: of different subjects, each in its
    /// place.
    pub fn all_from_canonical(text: &str) -> Option<Vec<Self>> {
        let documents = read_documents(text).ok()?;
        let policies = documents.iter().map(|document| Self::from_value(&document.value));
        let policies: Vec<Self> = policies.collect::<Option<_>>()?;
        let in_place = policies.windows(2).all(|pair| pair[0].place() < pair[1].place());
        let subjects: BTreeSet<&Subject> = policies.iter().map(|policy| &policy.subject).collect();
        let canonical = in_place && !policies.is_empty() && subjects.len() == policies.len();
        (canonical && Self::render_all(&policies).ok()? == text).then_some(policies)
    }

    /// What the documents of one text are sorted by: namespace and name.
    pub fn place(&self) -> (&str, &str) {
        (self.subject.namespace.as_str(), self.name.as_str())
    }

    /// The policy that a value of exactly the written form means; `None` when it has any field that
    /// cpg does not write.
    pub fn from_value(value: &Value) -> Option<Self> {
        yaml::written::policy(value)
    }
}

// === impl Rules ===

impl Rules {
    /// Adds one; `false` when it is there already. A port that is allowed plainly takes HTTP requests of
    /// the same peer in: beside it they decide nothing; so does a path with open places those that it
    /// means. DNS queries stay, since without them the proxy learns no address.
    pub fn add(&mut self, peer: Peer, allow: Allow, l7: Option<L7Match>) -> bool {
        if self.has(&peer, allow, l7.as_ref()) {
            return false;
        }
        let permits = self.0.entry(peer).or_default();
        permits.retain(|(a, known)| match (known, &l7) {
            (Some(L7Match::Http(_)), None) => *a != allow,
            (Some(L7Match::Http(known)), Some(L7Match::Http(new))) => *a != allow || !new.covers(known),
            _ => true,
        });
        permits.insert((allow, l7))
    }

    /// Whether this is there already, by itself or in something that takes it in.
    pub fn has(&self, peer: &Peer, allow: Allow, l7: Option<&L7Match>) -> bool {
        self.0.get(peer).is_some_and(|permits| {
            let plain = || permits.contains(&(allow, None));
            match l7 {
                None => plain(),
                Some(L7Match::Http(_)) if plain() => true,
                Some(L7Match::Http(wanted)) => permits.iter().any(|(a, l7)| {
                    *a == allow && matches!(l7, Some(L7Match::Http(known)) if known.covers(wanted))
                }),
                Some(l7) => permits.contains(&(allow, Some(l7.clone()))),
            }
        })
    }

    /// Each peer with each thing it may do.
    pub fn iter(&self) -> impl Iterator<Item = (&Peer, Allow, Option<&L7Match>)> {
        self.0
            .iter()
            .flat_map(|(peer, permits)| permits.iter().map(move |(allow, l7)| (peer, *allow, l7.as_ref())))
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn extend(&mut self, group: Group) {
        for peer in group.peers {
            for Item { allows, l7 } in &group.items {
                for allow in allows {
                    if l7.is_empty() {
                        self.add(peer.clone(), *allow, None);
                    }
                    for l7 in l7 {
                        self.add(peer.clone(), *allow, Some(l7.clone()));
                    }
                }
            }
        }
    }

    /// The rules as they are written: peers of one kind with equal items of ports (or of ICMP types)
    /// together, by peers, ports before ICMP.
    pub(super) fn grouped(&self) -> Vec<Group> {
        let mut groups: BTreeMap<(u8, bool, Vec<Item>), Vec<Peer>> = BTreeMap::new();
        for (peer, permits) in &self.0 {
            for icmp in [false, true] {
                let items = items(permits.iter().filter(|(a, _)| matches!(a, Allow::Icmp(..)) == icmp));
                if !items.is_empty() {
                    groups.entry((kind(peer), icmp, items)).or_default().push(peer.clone());
                }
            }
        }
        let mut groups: Vec<_> =
            groups.into_iter().map(|((_, icmp, items), peers)| (icmp, Group { peers, items })).collect();
        groups.sort_by(|(ia, a), (ib, b)| (&a.peers, ia, &a.items).cmp(&(&b.peers, ib, &b.items)));
        groups.into_iter().map(|(_, group)| group).collect()
    }
}

/// Ports on which the same may be said in one item each; those on which anything may be said first.
fn items<'a>(permits: impl Iterator<Item = &'a Permit>) -> Vec<Item> {
    let mut plain = BTreeSet::new();
    // Requests of different protocols cannot stand in one item.
    let mut said: BTreeMap<(Allow, u8), BTreeSet<L7Match>> = BTreeMap::new();
    for (allow, l7) in permits {
        match l7 {
            None => {
                plain.insert(*allow);
            }
            Some(l7) => {
                let protocol = match l7 {
                    L7Match::Http(_) => 0,
                    L7Match::Dns(_) => 1,
                };
                said.entry((*allow, protocol)).or_default().insert(l7.clone());
            }
        }
    }
    let mut by_requests: BTreeMap<BTreeSet<L7Match>, BTreeSet<Allow>> = BTreeMap::new();
    for ((allow, _), l7) in said {
        by_requests.entry(l7).or_default().insert(allow);
    }
    let plain = (!plain.is_empty()).then(|| Item { allows: plain, l7: BTreeSet::new() });
    let mut items: Vec<Item> = by_requests.into_iter().map(|(l7, allows)| Item { allows, l7 }).collect();
    items.sort_unstable();
    plain.into_iter().chain(items).collect()
}

fn kind(peer: &Peer) -> u8 {
    match peer {
        Peer::Endpoints(_) => 0,
        Peer::Entity(_) => 1,
        Peer::Cidr(_) => 2,
        Peer::Fqdn(_) => 3,
    }
}

/// Peers of one kind that may all do the same: one written rule.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) peers: Vec<Peer>,
    pub(super) items: Vec<Item>,
}

/// Ports (or ICMP types), and what may be said on each of them; empty: anything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) allows: BTreeSet<Allow>,
    pub(super) l7: BTreeSet<L7Match>,
}

impl Peer {
    /// A single address: /32 or /128.
    pub fn address(address: IpAddr) -> Self {
        Self::Cidr(IpNet::from(address))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entity, HttpMatch, IcmpType, Selector};
    use super::*;
    use crate::flow::{IcmpFamily, Port, Protocol};
    use crate::names::{DnsName, Namespace};

    fn policy(rules: &[(Direction, Peer, Allow)]) -> Policy {
        let subject = Subject {
            namespace: Namespace::parse("shop").unwrap(),
            selector: Selector::new([("app", "cart"), ("tier", "no")]).unwrap(),
        };
        let mut policy = Policy::new(PolicyName::parse("cpg-cart").unwrap(), subject);
        for (direction, peer, allow) in rules {
            assert!(policy.add(Rule::plain(*direction, peer.clone(), *allow)));
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
    fn names_and_requests_by_what_they_have_in_common() {
        use Direction::{Egress, Ingress};
        let name = |text: &str| DnsName::parse(text).unwrap();
        let udp = |port| Allow::Port(Protocol::Udp, Port::new(port).unwrap());
        let http = |method: &str, path: &str| {
            Some(L7Match::Http(HttpMatch { method: method.into(), path: path.into() }))
        };
        let mut policy = policy(&[
            (Ingress, pods("web"), tcp(9090)),
            (Egress, Peer::Fqdn(name("b.example.com")), tcp(443)),
            (Egress, Peer::Fqdn(name("a.example.com")), tcp(443)),
            (Egress, Peer::Fqdn(name("a.example.com")), tcp(80)),
        ]);
        let mut add = |direction, peer, allow, l7| assert!(policy.add(Rule { direction, peer, allow, l7 }));
        add(Ingress, pods("web"), tcp(8080), http("GET", r"/v1/items(\?.*)?"));
        add(Ingress, pods("web"), tcp(8080), http("POST", r"/v1/items(\?.*)?"));
        add(Ingress, pods("web"), tcp(8081), http("GET", "/"));
        for dns in ["a.example.com", "b.example.com"] {
            for allow in [udp(53), tcp(53)] {
                add(Egress, pods("dns"), allow, Some(L7Match::Dns(name(dns))));
            }
        }
        let text = policy.render().unwrap();
        assert_eq!(
            text.split_once("  ingress:\n").unwrap().1,
            r#"  - fromEndpoints:
    - matchLabels:
        app: web
    toPorts:
    - ports:
      - port: "9090"
        protocol: TCP
    - ports:
      - port: "8080"
        protocol: TCP
      rules:
        http:
        - method: GET
          path: /v1/items(\?.*)?
        - method: POST
          path: /v1/items(\?.*)?
    - ports:
      - port: "8081"
        protocol: TCP
      rules:
        http:
        - method: GET
          path: /
  egress:
  - toEndpoints:
    - matchLabels:
        app: dns
    toPorts:
    - ports:
      - port: "53"
        protocol: TCP
      - port: "53"
        protocol: UDP
      rules:
        dns:
        - matchName: a.example.com
        - matchName: b.example.com
  - toFQDNs:
    - matchName: a.example.com
    toPorts:
    - ports:
      - port: "80"
        protocol: TCP
      - port: "443"
        protocol: TCP
  - toFQDNs:
    - matchName: b.example.com
    toPorts:
    - ports:
      - port: "443"
        protocol: TCP
"#
        );
        assert_eq!(Policy::from_canonical(&text), Some(policy));
        let check = |other: String| assert!(Policy::from_canonical(&other).is_none(), "{other}");
        check(text.replace("a.example.com", "A.example.com"));
        check(text.replace("method: GET", "host: GET"));
        check(
            text.replace(
                "fromEndpoints:\n    - matchLabels:\n        app: web",
                "toFQDNs:\n    - matchName: a",
            ),
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
