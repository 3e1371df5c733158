//! Kubernetes' own NetworkPolicy as the agent reads it.

use super::node::{At, Cx};
use super::selector::{Keys, selector, selector_without};
use super::syntax::{is_service_name, parse_port, parse_prefix};
use super::{
    CLUSTER_LABEL, EndpointPeer, IpProtocol, L4, L7, LabelKey, LabelSelector, NAMESPACE_LABEL,
    NAMESPACE_LABELS_PREFIX, NamespaceAddition, Operator, Origin, PeerSpec, Peers, PortMatch, PortRule,
    PortSpec, Protocols, Refusal, Requirement, RuleSpec, Side, Spec, SubjectSpec,
};
use crate::text::visible;

/// The one spec of a NetworkPolicy. Each rule stands for all of its peers; the agent makes one entry per
/// peer, which means the same.
pub(super) fn specs(cx: &mut Cx<'_>, root: &At<'_>, origin: Origin) -> Option<Spec> {
    let spec = root.member("spec");
    let path = root.place("spec");
    let mut subject =
        spec.as_ref().and_then(|at| at.member("podSelector").map(|s| pods(cx, &s, true))).unwrap_or_default();
    let own = LabelKey::k8s(NAMESPACE_LABEL);
    let namespace = origin.namespace.clone().unwrap_or_default();
    subject.requirements.push(Requirement::equals(own, &namespace));

    let types = spec.as_ref().map(|at| cx.texts(at, "policyTypes")).unwrap_or_default();
    let is = |word: &str| types.iter().any(|t| **t == *word);
    let mut side = |name: &str, peers: &str, forced: bool| {
        let list = spec.as_ref().and_then(|at| at.member(name)).filter(|list| cx.list(list));
        let mut rules = Vec::new();
        for at in list.iter().flat_map(At::items) {
            if cx.map(&at) {
                rules.push(rule(cx, &at, peers, &namespace));
            }
        }
        if rules.is_empty() && forced {
            // Stands for the default deny and matches nothing.
            rules.push(RuleSpec {
                path: path.clone(),
                mark: None,
                deny: false,
                peers: Peers::Nobody,
                l4: L4::All,
                authentication: None,
                requires: Vec::new(),
            });
        }
        Side { default_deny: true, rules }
    };
    let ingress = side("ingress", "from", is("Ingress") || !is("Egress"));
    let egress = side("egress", "to", is("Egress"));
    Some(Spec {
        origin: Origin { path, ..origin },
        subject: SubjectSpec::Endpoints(subject),
        ingress,
        egress,
        description: None,
        labels: Vec::new(),
        log: None,
    })
}

fn rule(cx: &mut Cx<'_>, at: &At<'_>, member: &str, namespace: &str) -> RuleSpec {
    let list = at.member(member).filter(|list| cx.list(list)).filter(|list| !list.is_empty());
    let peers = match list {
        None => Peers::Any,
        Some(list) => {
            let found: Vec<_> = list.items().filter_map(|at| peer(cx, &at, namespace)).collect();
            if found.is_empty() { Peers::Nobody } else { Peers::Of(found) }
        }
    };
    let ports = at.member("ports").filter(|list| cx.list(list)).filter(|list| !list.is_empty());
    let l4 = match ports {
        None => L4::All,
        Some(list) => L4::Ports(vec![PortRule {
            ports: list.items().filter_map(|at| port(cx, &at)).collect(),
            l7: L7::None,
            ..PortRule::default()
        }]),
    };
    RuleSpec {
        path: at.path(),
        mark: None,
        deny: false,
        peers,
        l4,
        authentication: None,
        requires: Vec::new(),
    }
}

fn peer(cx: &mut Cx<'_>, at: &At<'_>, namespace: &str) -> Option<PeerSpec> {
    if !cx.map(at) {
        return None;
    }
    if let Some(block) = at.member("ipBlock").filter(|block| cx.map(block)) {
        return ip_block(cx, &block);
    }
    let here = at.member("namespaceSelector").is_none();
    let mut found = at.member("podSelector").map(|s| pods(cx, &s, here)).unwrap_or_default();
    // An empty cluster label does not count; the agent overwrites it.
    let local_cluster = !found.requirements.iter().any(|r| {
        *r.key.key == *CLUSTER_LABEL
            && !matches!(&r.operator, Operator::In(v) if v.iter().all(|v| v.is_empty()))
    });
    let Some(namespaces) = at.member("namespaceSelector") else {
        let own = NamespaceAddition::Equals(namespace.into());
        return Some(PeerSpec::Endpoints(EndpointPeer { selector: found, namespace: own, local_cluster }));
    };
    let namespaces = selector(cx, &namespaces, Keys::Kubernetes(NAMESPACE_LABELS_PREFIX));
    let any = namespaces.requirements.is_empty();
    found.requirements.extend(namespaces.requirements);
    let namespace = if any { NamespaceAddition::Exists } else { NamespaceAddition::Nothing };
    Some(PeerSpec::Endpoints(EndpointPeer { selector: found, namespace, local_cluster }))
}

/// A pod selector; a written namespace label is overwritten by the agent where it adds one.
fn pods(cx: &mut Cx<'_>, at: &At<'_>, namespace_added: bool) -> LabelSelector {
    let own = LabelKey::k8s(NAMESPACE_LABEL);
    selector_without(cx, at, Keys::Kubernetes(""), namespace_added.then_some(&own))
}

fn ip_block(cx: &mut Cx<'_>, at: &At<'_>) -> Option<PeerSpec> {
    let text = cx.text_of(at, "cidr").unwrap_or_default();
    let except = cx.texts(at, "except");
    let Some(net) = parse_prefix(&text) else {
        let message = format!("`{}` is no prefix (address/bits)", visible(&text, 60));
        cx.note(Refusal::Agent, at.place("cidr"), message);
        return None;
    };
    Some(PeerSpec::Cidr { net, except: except.iter().filter_map(|text| parse_prefix(text)).collect() })
}

fn port(cx: &mut Cx<'_>, at: &At<'_>) -> Option<PortMatch> {
    if !cx.map(at) {
        return None;
    }
    let protocol = match cx.text_of(at, "protocol") {
        None => Protocols::One(IpProtocol::Tcp),
        Some(word) => {
            let upper = word.to_uppercase();
            let one = IpProtocol::ALL.into_iter().find(|p| p.as_str() == upper);
            match one.filter(|p| p.since() <= cx.options.version) {
                Some(one) => Protocols::One(one),
                None if upper == "ANY" => Protocols::Any,
                None => {
                    let message = format!("`{}` is no protocol", visible(&word, 40));
                    cx.note(Refusal::Agent, at.place("protocol"), message);
                    return None;
                }
            }
        }
    };
    let end = cx.integer_of(at, "endPort", i64::from(i32::MAX)).unwrap_or(0);
    let end = u16::try_from(end & 0xffff).unwrap_or(0);
    let text = match at.member("port").map(|member| member.value.clone()) {
        None => "0".to_owned(),
        Some(serde_json::Value::String(text)) => text,
        Some(value) => match super::node::whole(&value) {
            Some(number) => number.to_string(),
            None => {
                cx.note(Refusal::Agent, at.place("port"), "must be a number or a name");
                return None;
            }
        },
    };
    let port = if is_service_name(&text) {
        PortSpec::Named { name: text.into(), end: (end > 0).then_some(end) }
    } else {
        // What is no port number is port 0 to the agent: all of them.
        PortSpec::numbers(parse_port(&text).unwrap_or(0), end)
    };
    Some(PortMatch { protocols: protocol, port })
}
