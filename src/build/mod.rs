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
use crate::flow::Identity;
use crate::policy::{L7Match, Peer, Rule, Subject};

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
        match rule(&observed.0) {
            Ok((subject, rule)) => {
                built.policies.entry(subject).or_default().entry(rule).or_default().push(observed);
            }
            Err(skip) => built.skipped.push((observed, skip)),
        }
    }
    built
}

/// The one rule for one observation.
fn rule(observation: &Observation) -> Result<(Subject, Rule), Skip> {
    let Observation { subject, direction, peer, allow, request } = observation;
    let namespace = subject.namespace.clone().ok_or(Skip::EmptyNamespace)?;
    let selector = subject_selector(subject).ok_or(Skip::NoUsableLabel)?;
    let peer = match peer {
        ObservedPeer::Pod(identity) => {
            Peer::Endpoints(peer_selector(identity, subject).ok_or(Skip::NoUsableLabel)?)
        }
        ObservedPeer::Entity(entity) => Peer::Entity(*entity),
        ObservedPeer::World(address) | ObservedPeer::Named { address, .. } => Peer::address(*address),
    };
    let l7 = match request {
        Some(Request::Http { method, path }) => Some(L7Match::Http(http::exactly(method, path)?)),
        Some(Request::Dns(_)) | None => None,
    };
    Ok((Subject { namespace, selector }, Rule { direction: *direction, peer, allow: *allow, l7 }))
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
