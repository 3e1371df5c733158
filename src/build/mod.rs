//! From observations to rules: whom to select, how to name the peer.
//!
//! The result is a function of each observation by itself: labels of other workloads never matter,
//! so the order in which observations come makes no difference. Every rule knows the observations it
//! came from.

mod collapse;
mod http;
mod label;
mod secret;
mod selector;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use collapse::Collapse;
pub use http::{HeldRequest, held_request};
pub use selector::{peer_selector, subject_selector};

use crate::aggregate::{Observation, Observed, ObservedPeer, Request};
use crate::classify::Skip;
use crate::flow::{Identity, Protocol};
use crate::policy::{Allow, L7Match, Peer, Rule, Subject};

/// The rules that a set of observations asks for.
#[derive(Debug, Default)]
pub struct Built {
    /// Per subject each rule with the observations behind it.
    pub policies: BTreeMap<Subject, BTreeMap<Rule, Vec<Observed>>>,
    /// Observations that no rule can be made for, and why.
    pub skipped: Vec<(Observed, Skip)>,
}

/// Makes the rules for these observations.
pub fn build(observations: Vec<Observed>) -> Built {
    let mut built = Built::default();
    for observed in observations {
        match rules(&observed.0) {
            Ok((subject, rules)) => {
                let policy = built.policies.entry(subject).or_default();
                for rule in rules {
                    policy.entry(rule).or_default().push(observed.clone());
                }
            }
            Err(skip) => built.skipped.push((observed, skip)),
        }
    }
    built
}

/// The rules for one observation: one, but for an address with several names, and for a DNS query, which
/// is asked again by TCP where the answer is long.
pub fn rules(observation: &Observation) -> Result<(Subject, Vec<Rule>), Skip> {
    let Observation { subject, direction, peer, allow, request } = observation;
    let of = subject_of(subject)?;
    let peers = match (peer, request) {
        (ObservedPeer::Pod(identity), _) => {
            vec![Peer::Endpoints(peer_selector(identity, subject).ok_or(Skip::NoUsableLabel)?)]
        }
        (ObservedPeer::Entity(entity), _) => vec![Peer::Entity(*entity)],
        (ObservedPeer::Named { names, .. }, None | Some(Request::Http { .. })) => {
            names.iter().cloned().map(Peer::Fqdn).collect()
        }
        (ObservedPeer::World(address) | ObservedPeer::Named { address, .. }, _) => {
            vec![Peer::address(*address)]
        }
    };
    let l7 = match request {
        Some(Request::Dns(name)) => Some(L7Match::Dns(name.clone())),
        Some(Request::Http { method, path }) => Some(L7Match::Http(http::exactly(method, path)?)),
        None => None,
    };
    let allows = match (allow, &l7) {
        (Allow::Port(_, port), Some(L7Match::Dns(_))) => {
            vec![Allow::Port(Protocol::Udp, *port), Allow::Port(Protocol::Tcp, *port)]
        }
        _ => vec![*allow],
    };
    let rule = |peer: &Peer, allow| Rule { direction: *direction, peer: peer.clone(), allow, l7: l7.clone() };
    Ok((of, peers.iter().flat_map(|peer| allows.iter().map(move |allow| rule(peer, *allow))).collect()))
}

/// The first of these rules: the only one, but for an address with several names.
fn rule(observation: &Observation) -> Result<(Subject, Rule), Skip> {
    let (subject, rules) = rules(observation)?;
    let first = rules.into_iter().next().ok_or(Skip::NoUsableLabel)?;
    Ok((subject, first))
}

/// Whose policy a workload's rules go into.
pub fn subject_of(identity: &Identity) -> Result<Subject, Skip> {
    let namespace = identity.namespace.clone().ok_or(Skip::EmptyNamespace)?;
    let selector = subject_selector(identity).ok_or(Skip::NoUsableLabel)?;
    Ok(Subject { namespace, selector })
}

/// For each of these subjects the seen workloads that its selector matches although their own
/// selector is another one: they get these rules, and the default deny, without having asked.
pub fn also_selected<'a>(
    subjects: impl IntoIterator<Item = &'a Subject>,
    seen: &BTreeSet<Arc<Identity>>,
) -> Vec<(&'a Subject, Vec<Arc<Identity>>)> {
    let others = |subject: &Subject| -> Vec<Arc<Identity>> {
        seen.iter()
            .filter(|identity| identity.namespace.as_ref() == Some(&subject.namespace))
            .filter(|identity| subject.selector.matches_labels(identity))
            .filter(|identity| subject_selector(identity).as_ref() != Some(&subject.selector))
            .cloned()
            .collect()
    };
    subjects
        .into_iter()
        .map(|subject| (subject, others(subject)))
        .filter(|(_, others)| !others.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
