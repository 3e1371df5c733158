//! A rule turned back into an observation, to ask the engine whether something else allows it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::aggregate::{Observation, ObservedPeer, Request};
use crate::flow::Identity;
use crate::policy::{L7Match, NAMESPACE_KEY, PathForm, Peer, Rule, Selector, Subject};

/// The connection of pods that have the labels of the selectors and no others: what allows it allows
/// everything that the rule does, as far as selectors by equality tell.
pub fn stand_in(subject: &Subject, rule: &Rule) -> Observation {
    let own = subject.namespace.as_str();
    let peer = match &rule.peer {
        Peer::Endpoints(selector) => {
            let namespace = selector.get(NAMESPACE_KEY).unwrap_or(own);
            ObservedPeer::Pod(pod(namespace, selector))
        }
        Peer::Entity(entity) => ObservedPeer::Entity(*entity),
        Peer::Cidr(net) => ObservedPeer::World(net.addr()),
        Peer::Fqdn(name) => ObservedPeer::Named { address: ANY_ADDRESS, names: [name.clone()].into() },
    };
    let request = match &rule.l7 {
        Some(L7Match::Dns(name)) => Some(Request::Dns(name.clone())),
        // Of another expression than cpg writes nobody knows a path: then the port alone is asked about.
        Some(L7Match::Http(http)) => PathForm::parse(&http.path)
            .map(|form| Request::Http { method: http.method.clone(), path: form.example().into() }),
        None => None,
    };
    let subject = pod(own, &subject.selector);
    Observation { subject, direction: rule.direction, peer, allow: rule.allow, request }
}

/// What a name resolves to is not part of the rule: an address of the documentation (RFC 5737), which no
/// rule names but those for everywhere.
const ANY_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

fn pod(namespace: &str, selector: &Selector) -> Arc<Identity> {
    let labels: Vec<String> = selector
        .iter()
        .map(|(key, value)| {
            let source = if key.contains(':') { "" } else { "k8s:" };
            format!("{source}{key}={value}")
        })
        .collect();
    Arc::new(Identity::new(0, namespace, "", labels.iter().map(String::as_str)))
}
