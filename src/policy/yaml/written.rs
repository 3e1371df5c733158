//! The form in which a policy is written: the fields that cpg uses, in the order in which they stand in
//! a file. Anything else in a file makes it foreign.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::flow::{IcmpFamily, Port, Protocol};
use crate::names::{DnsName, Namespace, PolicyName};
use crate::policy::canonical::{Group, Item, MAX_FIELDS, MAX_PORTS};
use crate::policy::{Allow, Entity, HttpMatch, IcmpType, L7Match, Peer, Policy, Selector, Subject};

const VERSION: &str = "cilium.io/v2";
const KIND: &str = "CiliumNetworkPolicy";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::policy) struct File {
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
    #[serde(default, rename = "toFQDNs", skip_serializing_if = "Vec::is_empty")]
    to_fqdns: Vec<DnsItem>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    to_ports: Vec<PortRule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    icmps: Vec<IcmpRule>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortRule {
    ports: Vec<PortProtocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rules: Option<L7Rules>,
}

#[derive(Serialize, Deserialize, Default, Clone)]
#[serde(deny_unknown_fields)]
struct L7Rules {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    http: Vec<HttpItem>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dns: Vec<DnsItem>,
}

#[derive(Serialize, Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct HttpItem {
    method: String,
    path: String,
}

#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DnsItem {
    match_name: String,
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

// === impl File ===

impl From<&Policy> for File {
    fn from(policy: &Policy) -> Self {
        Self {
            api_version: VERSION.into(),
            kind: KIND.into(),
            metadata: Metadata {
                name: policy.name.as_str().into(),
                namespace: policy.subject.namespace.as_str().into(),
            },
            spec: Spec {
                endpoint_selector: LabelSelector::from(&policy.subject.selector),
                ingress: policy.ingress.grouped().into_iter().map(IngressRule::from).collect(),
                egress: policy.egress.grouped().into_iter().map(EgressRule::from).collect(),
            },
        }
    }
}

/// The policy that a value of exactly this form means.
pub(in crate::policy) fn policy(value: &Value) -> Option<Policy> {
    let file = File::deserialize(value).ok()?;
    if file.api_version != VERSION || file.kind != KIND {
        return None;
    }
    let subject = Subject {
        namespace: Namespace::parse(&file.metadata.namespace).ok()?,
        selector: file.spec.endpoint_selector.selector()?,
    };
    let mut policy = Policy::new(PolicyName::parse(&file.metadata.name).ok()?, subject);
    for rule in file.spec.ingress {
        policy.ingress.extend(Group::try_from(rule).ok()?);
    }
    for rule in file.spec.egress {
        policy.egress.extend(Group::try_from(rule).ok()?);
    }
    Some(policy)
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

/// The lists of a written rule, whatever its direction calls them.
#[derive(Default)]
struct Lists {
    endpoints: Vec<LabelSelector>,
    entities: Vec<String>,
    cidr: Vec<String>,
    fqdns: Vec<DnsItem>,
    to_ports: Vec<PortRule>,
    icmps: Vec<IcmpRule>,
}

impl From<Group> for Lists {
    fn from(group: Group) -> Self {
        let mut lists = Self::default();
        for peer in &group.peers {
            match peer {
                Peer::Endpoints(selector) => lists.endpoints.push(selector.into()),
                Peer::Entity(entity) => lists.entities.push(entity.as_str().into()),
                Peer::Cidr(net) => lists.cidr.push(net.to_string()),
                Peer::Fqdn(name) => lists.fqdns.push(name.into()),
            }
        }
        for Item { allows, l7 } in group.items {
            let mut ports = Vec::new();
            let mut fields = Vec::new();
            for allow in allows {
                match allow {
                    Allow::Port(protocol, port) => {
                        ports.push(PortProtocol {
                            port: port.to_string(),
                            protocol: protocol.as_str().into(),
                        });
                    }
                    Allow::Icmp(family, kind) => {
                        fields.push(IcmpField { family: family.as_str().into(), kind: kind.get() });
                    }
                }
            }
            let rules = L7Rules::of(&l7);
            while !ports.is_empty() {
                let rest = ports.split_off(ports.len().min(MAX_PORTS));
                lists.to_ports.push(PortRule { ports, rules: rules.clone() });
                ports = rest;
            }
            while !fields.is_empty() {
                let rest = fields.split_off(fields.len().min(MAX_FIELDS));
                lists.icmps.push(IcmpRule { fields });
                fields = rest;
            }
        }
        lists
    }
}

// === impl L7Rules ===

impl L7Rules {
    fn of(l7: &BTreeSet<L7Match>) -> Option<Self> {
        let mut rules = Self::default();
        for item in l7 {
            match item {
                L7Match::Http(HttpMatch { method, path }) => {
                    rules.http.push(HttpItem { method: (&**method).into(), path: (&**path).into() });
                }
                L7Match::Dns(name) => rules.dns.push(name.into()),
            }
        }
        (!l7.is_empty()).then_some(rules)
    }

    /// What may be said; never empty.
    fn requests(self) -> Result<BTreeSet<L7Match>, Foreign> {
        let mut l7 = BTreeSet::new();
        for HttpItem { method, path } in self.http {
            l7.insert(L7Match::Http(HttpMatch { method: method.into(), path: path.into() }));
        }
        for item in self.dns {
            l7.insert(L7Match::Dns(item.name()?));
        }
        if l7.is_empty() { Err(Foreign) } else { Ok(l7) }
    }
}

// === impl DnsItem ===

impl From<&DnsName> for DnsItem {
    fn from(name: &DnsName) -> Self {
        Self { match_name: name.as_str().into() }
    }
}

impl DnsItem {
    fn name(self) -> Result<DnsName, Foreign> {
        DnsName::parse(&self.match_name).map_err(|_| Foreign)
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
        for name in lists.fqdns {
            peers.push(Peer::Fqdn(name.name()?));
        }
        let mut items = Vec::new();
        for rule in lists.to_ports {
            let mut allows = BTreeSet::new();
            for port in rule.ports {
                let number = port.port.parse().ok().and_then(Port::new).ok_or(Foreign)?;
                allows.insert(Allow::Port(Protocol::from_name(&port.protocol).ok_or(Foreign)?, number));
            }
            let l7 = rule.rules.map_or_else(|| Ok(BTreeSet::new()), L7Rules::requests)?;
            items.push(Item { allows, l7 });
        }
        for rule in lists.icmps {
            let mut allows = BTreeSet::new();
            for field in rule.fields {
                let family = match field.family.as_str() {
                    "IPv4" => IcmpFamily::V4,
                    "IPv6" => IcmpFamily::V6,
                    _ => return Err(Foreign),
                };
                allows.insert(Allow::Icmp(family, IcmpType::new(field.kind).ok_or(Foreign)?));
            }
            items.push(Item { allows, l7: BTreeSet::new() });
        }
        let nothing = items.iter().all(|item| item.allows.is_empty());
        if peers.is_empty() || nothing { Err(Foreign) } else { Ok(Self { peers, items }) }
    }
}

impl From<Group> for IngressRule {
    fn from(group: Group) -> Self {
        // A name is never a peer of this direction.
        let Lists { endpoints, entities, cidr, fqdns: _, to_ports, icmps } = group.into();
        Self { from_endpoints: endpoints, from_entities: entities, from_cidr: cidr, to_ports, icmps }
    }
}

impl From<Group> for EgressRule {
    fn from(group: Group) -> Self {
        let Lists { endpoints, entities, cidr, fqdns, to_ports, icmps } = group.into();
        Self {
            to_endpoints: endpoints,
            to_entities: entities,
            to_cidr: cidr,
            to_fqdns: fqdns,
            to_ports,
            icmps,
        }
    }
}

impl TryFrom<IngressRule> for Group {
    type Error = Foreign;

    fn try_from(rule: IngressRule) -> Result<Self, Foreign> {
        let IngressRule { from_endpoints, from_entities, from_cidr, to_ports, icmps } = rule;
        Lists {
            endpoints: from_endpoints,
            entities: from_entities,
            cidr: from_cidr,
            fqdns: Vec::new(),
            to_ports,
            icmps,
        }
        .try_into()
    }
}

impl TryFrom<EgressRule> for Group {
    type Error = Foreign;

    fn try_from(rule: EgressRule) -> Result<Self, Foreign> {
        let EgressRule { to_endpoints, to_entities, to_cidr, to_fqdns, to_ports, icmps } = rule;
        Lists {
            endpoints: to_endpoints,
            entities: to_entities,
            cidr: to_cidr,
            fqdns: to_fqdns,
            to_ports,
            icmps,
        }
        .try_into()
    }
}
