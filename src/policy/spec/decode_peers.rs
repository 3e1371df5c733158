//! The peer members of a rule, from a document to who they select.

use std::net::IpAddr;

use ipnet::IpNet;

use super::decode_l4::Place;
use super::decode_l7::names;
use super::node::{At, Cx};
use super::peer::{CLUSTER_LABEL, NAMESPACE_LABEL, NAMESPACE_LABELS_PREFIX};
use super::selector::{Keys, selector};
use super::syntax::{parse_prefix, prefix_address};
use super::{
    CidrGroup, EndpointPeer, Entity, Fqdn, LabelKey, LabelSelector, NamespaceAddition, NodePeer, PeerSpec,
    Peers, Refusal, ServicePeer, Version,
};
use crate::text::visible;

/// The policy that a peer selector stands in.
#[derive(Clone, Copy)]
pub(super) struct Home<'a> {
    /// Its namespace; `None` for a clusterwide policy.
    pub(super) namespace: Option<&'a str>,
    /// The subject names `reserved:init`.
    pub(super) init: bool,
}

/// What an item of a member is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Endpoints,
    Cidr,
    CidrSet,
    Entities,
    Nodes,
    Groups,
    Services,
    Fqdns,
}

type Member = (&'static str, Item);

const INGRESS: [Member; 6] = [
    ("fromEndpoints", Item::Endpoints),
    ("fromCIDR", Item::Cidr),
    ("fromCIDRSet", Item::CidrSet),
    ("fromEntities", Item::Entities),
    ("fromNodes", Item::Nodes),
    ("fromGroups", Item::Groups),
];

const EGRESS: [Member; 8] = [
    ("toEndpoints", Item::Endpoints),
    ("toCIDR", Item::Cidr),
    ("toCIDRSet", Item::CidrSet),
    ("toEntities", Item::Entities),
    ("toNodes", Item::Nodes),
    ("toGroups", Item::Groups),
    ("toServices", Item::Services),
    ("toFQDNs", Item::Fqdns),
];

/// The peers of a rule. `layer4`: it names ports or ICMP types.
pub(super) fn peers(cx: &mut Cx<'_>, rule: &At<'_>, place: Place, home: Home<'_>, layer4: bool) -> Peers {
    let members: &[Member] = if place.ingress { &INGRESS } else { &EGRESS };
    let mut used: Vec<&str> = Vec::new();
    let mut empty = false;
    let mut out = Vec::new();
    for &(name, item) in members {
        if place.deny && item == Item::Fqdns {
            continue;
        }
        let Some(list) = rule.member(name) else { continue };
        if !cx.list(&list) {
            continue;
        }
        if list.is_empty() {
            // Three members count as absent when they are empty.
            empty |= !matches!(item, Item::Groups | Item::Services | Item::Fqdns);
            continue;
        }
        if let Some(first) = used.first() {
            cx.refuse(&list, format!("{name} cannot stand in one rule with {first}: write two rules"));
        }
        used.push(name);
        if item == Item::Nodes && !cx.options.node_selector_labels {
            cx.refuse(&list, "peers by node label need the agent's flag enable-node-selector-labels");
        }
        if item == Item::Services
            && cx.options.version < Version::V1_17
            && rule.member("toPorts").is_some_and(|p| !p.is_empty())
        {
            cx.refuse(&list, "toServices and toPorts cannot stand in one rule before 1.17");
        }
        for at in list.items() {
            out.extend(peer(cx, &at, item, home));
        }
    }
    if empty {
        return Peers::Nobody;
    }
    if !out.is_empty() {
        return Peers::Of(out);
    }
    if layer4 && used.is_empty() { Peers::Any } else { Peers::Nobody }
}

/// `fromRequires` / `toRequires`: selectors up to 1.18, must be empty since.
pub(super) fn requires(cx: &mut Cx<'_>, rule: &At<'_>, place: Place) -> Vec<LabelSelector> {
    let name = if place.ingress { "fromRequires" } else { "toRequires" };
    let Some(list) = rule.member(name) else { return Vec::new() };
    // From 1.19 on the agent knows the member as a list of strings, and does not look at it.
    if cx.options.version >= Version::V1_19 || !cx.list(&list) {
        return Vec::new();
    }
    list.items().map(|at| selector(cx, &at, Keys::Cilium)).collect()
}

fn peer(cx: &mut Cx<'_>, at: &At<'_>, item: Item, home: Home<'_>) -> Option<PeerSpec> {
    match item {
        Item::Endpoints => {
            let selector = selector(cx, at, Keys::Cilium);
            Some(PeerSpec::Endpoints(endpoint_peer(selector, home)))
        }
        Item::Nodes => {
            let selector = selector(cx, at, Keys::Cilium);
            let local_cluster = !selector.has_k8s_key(CLUSTER_LABEL);
            Some(PeerSpec::Nodes(NodePeer { selector, local_cluster }))
        }
        Item::Entities => {
            let text = cx.text(at)?;
            let entity = Entity::from_name(text).filter(|e| e.since() <= cx.options.version);
            if entity.is_none() {
                cx.refuse(at, format!("`{}` is no entity", visible(text, 40)));
            }
            entity.map(PeerSpec::Entity)
        }
        Item::Cidr => cidr(cx, at),
        Item::CidrSet => cidr_rule(cx, at),
        Item::Groups => cx.map(at).then(|| PeerSpec::Group(at.value.clone())),
        Item::Services => service(cx, at),
        Item::Fqdns => {
            if !cx.map(at) {
                return None;
            }
            let (name, pattern) = names(cx, at);
            if name.is_some() && pattern.is_some() {
                cx.refuse(at, "matchName and matchPattern cannot stand together");
            }
            Some(PeerSpec::Fqdn(Fqdn { name, pattern }))
        }
    }
}

fn endpoint_peer(selector: LabelSelector, home: Home<'_>) -> EndpointPeer {
    if selector.has_source(LabelKey::RESERVED) {
        return EndpointPeer { selector, namespace: NamespaceAddition::Nothing, local_cluster: false };
    }
    let by_namespace_label = selector.requirements.iter().any(|r| {
        matches!(&*r.key.source, LabelKey::K8S | LabelKey::ANY)
            && r.key.key.starts_with(NAMESPACE_LABELS_PREFIX)
    });
    let namespace = match home.namespace {
        _ if selector.has_k8s_key(NAMESPACE_LABEL) => NamespaceAddition::Nothing,
        None if home.init => NamespaceAddition::Nothing,
        None => NamespaceAddition::Exists,
        Some(_) if by_namespace_label => NamespaceAddition::Nothing,
        Some(name) => NamespaceAddition::Equals(name.into()),
    };
    let local_cluster = !selector.has_k8s_key(CLUSTER_LABEL);
    EndpointPeer { selector, namespace, local_cluster }
}

fn cidr(cx: &mut Cx<'_>, at: &At<'_>) -> Option<PeerSpec> {
    let text = cx.text(at)?;
    if text.is_empty() {
        cx.refuse(at, "an address must be given");
        return None;
    }
    let bare = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let net = parse_prefix(text).or_else(bare);
    if net.is_none() {
        // Go takes an address with a zone here and crashes on it later.
        let zone = if text.contains('%') { "; the agent crashes on an address with a zone" } else { "" };
        cx.refuse(at, format!("`{}` is no address or prefix{zone}", visible(text, 60)));
    }
    net.map(|net| PeerSpec::Cidr { net, except: Vec::new() })
}

fn cidr_rule(cx: &mut Cx<'_>, at: &At<'_>) -> Option<PeerSpec> {
    if !cx.map(at) {
        return None;
    }
    let text = cx.text_of(at, "cidr");
    let group = cx.text_of(at, "cidrGroupRef");
    let by_selector = cx.options.version >= Version::V1_17;
    let group_selector = at
        .member("cidrGroupSelector")
        .filter(|_| by_selector)
        .map(|at| selector(cx, &at, Keys::Source("cidrgroup")));
    let except = cx.texts(at, "except");
    // 1.16 only looked at the prefix when there was no group, and never at both.
    let count =
        usize::from(text.is_some()) + usize::from(group.is_some()) + usize::from(group_selector.is_some());
    match count {
        0 => {
            cx.refuse(at, "one of cidr, cidrGroupRef and cidrGroupSelector must be given");
            return None;
        }
        1 => {}
        _ if by_selector => {
            cx.refuse(at, "only one of cidr, cidrGroupRef and cidrGroupSelector may be given")
        }
        _ => {}
    }
    let group = group.map(CidrGroup::Name).or(group_selector.map(CidrGroup::Selector));
    if let Some(group) = group {
        // Nobody checks these; what is no prefix excludes nothing.
        let except = except.iter().filter_map(|text| parse_prefix(text)).collect();
        return Some(PeerSpec::CidrGroup { group, except });
    }
    let text = text?;
    let Some(net) = parse_prefix(&text) else {
        cx.note(
            Refusal::Agent,
            at.place("cidr"),
            format!("`{}` is no prefix (address/bits)", visible(&text, 60)),
        );
        return None;
    };
    let list = at.member("except");
    let mut nets = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let Some(text) = item.value.as_str() else { continue };
        let (Some(out), Some(address)) = (parse_prefix(text), prefix_address(text)) else {
            cx.refuse(&item, format!("`{}` is no prefix (address/bits)", visible(text, 60)));
            continue;
        };
        let wider = cx.options.version >= Version::V1_20 && out.prefix_len() < net.prefix_len();
        if wider || !net.contains(&address) {
            cx.refuse(&item, format!("{} is not inside of {net}", visible(text, 60)));
        }
        nets.push(out);
    }
    Some(PeerSpec::Cidr { net, except: nets })
}

fn service(cx: &mut Cx<'_>, at: &At<'_>) -> Option<PeerSpec> {
    if !cx.map(at) {
        return None;
    }
    let by_name = at.member("k8sService").filter(|s| cx.map(s)).map(|service| {
        let name = cx.text_of(&service, "serviceName").unwrap_or_default();
        (name, cx.text_of(&service, "namespace").unwrap_or_default())
    });
    let by_labels = at.member("k8sServiceSelector").filter(|s| cx.map(s)).map(|service| {
        // Keys are checked by 1.19 only (since 1.19.6); other versions take them as they are.
        let checked = cx.options.version == Version::V1_19;
        let keys = if checked { Keys::Cilium } else { Keys::Kubernetes("") };
        let selector = service.member("selector").map(|at| selector(cx, &at, keys)).unwrap_or_default();
        (selector, cx.text_of(&service, "namespace").unwrap_or_default())
    });
    Some(PeerSpec::Service(ServicePeer { by_name, by_labels }))
}
