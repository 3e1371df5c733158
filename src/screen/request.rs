//! What policies say of an observation: of its connection, and of the request that was made on it.

use super::{cluster_of, peer};
use crate::aggregate::{Observation, Request};
use crate::engine::{
    Allowance, Decision, Engine, HttpRequest, Party, Request as Asked, RequestDecision, RuleRef, Traffic,
};
use crate::flow::Protocol;
use crate::policy::Allow;
use crate::policy::spec::Spec;

/// What they say.
#[derive(Debug)]
pub(super) enum Said<'e> {
    /// Rules that are named allow it: these.
    Allowed(Vec<RuleRef<'e>>),
    /// Deny rules decide it: these.
    Denied(Vec<RuleRef<'e>>),
    /// Something else, in words for the report of a fault.
    Nothing(String),
}

/// Decides about the observation.
pub(super) fn ask<'e>(engine: &'e Engine, observation: &Observation) -> Said<'e> {
    match decide(engine, observation) {
        RequestDecision::Connection(decision) => of_connection(decision),
        RequestDecision::Allowed { by: Allowance::Rule, rules } => Said::Allowed(rules),
        other => Said::Nothing(format!("{other:?}")),
    }
}

/// What becomes of the observation: of its request, where it has one.
pub(super) fn decide<'e>(engine: &'e Engine, observation: &Observation) -> RequestDecision<'e> {
    let asked = match &observation.request {
        None => return RequestDecision::Connection(of_packet(engine, observation)),
        // Nothing of host and headers is known, so rules that ask for them allow nothing here.
        Some(Request::Http { method, path }) => {
            Asked::Http(HttpRequest { method, path, host: None, headers: None })
        }
        Some(Request::Dns(name)) => Asked::Dns { name: name.as_str() },
    };
    let cluster = cluster_of(observation);
    let subject = Party::from_identity(0, &observation.subject, cluster);
    let peer = peer(&observation.peer, cluster);
    let (direction, traffic) = (observation.direction, traffic(observation.allow));
    engine.subject(&subject).decide_request(&peer, direction, traffic, &asked)
}

/// What becomes of the connection alone.
fn of_packet<'e>(engine: &'e Engine, observation: &Observation) -> Decision<'e> {
    let cluster = cluster_of(observation);
    let subject = Party::from_identity(0, &observation.subject, cluster);
    let peer = peer(&observation.peer, cluster);
    engine.subject(&subject).decide(&peer, observation.direction, traffic(observation.allow))
}

/// The policies that count for a request: without the allow rules of those that only look, in the
/// direction in which they put nothing into default deny. The rules that are to take their place would not
/// be learned otherwise, and they restrict nothing.
pub(super) fn without_lookers(specs: &[Spec]) -> Vec<Spec> {
    let mut specs = specs.to_vec();
    for side in specs.iter_mut().flat_map(|spec| [&mut spec.ingress, &mut spec.egress]) {
        if !side.default_deny {
            side.rules.retain(|rule| rule.deny);
        }
    }
    specs
}

fn of_connection(decision: Decision<'_>) -> Said<'_> {
    match decision {
        Decision::Allowed { by: Allowance::Rule, rules, .. } => Said::Allowed(rules.list()),
        Decision::Denied { rules } => Said::Denied(rules.list()),
        other => Said::Nothing(format!("{other:?}")),
    }
}

fn traffic(allow: Allow) -> Traffic {
    match allow {
        Allow::Port(Protocol::Tcp, port) => Traffic::tcp(port.get()),
        Allow::Port(Protocol::Udp, port) => Traffic::udp(port.get()),
        Allow::Port(Protocol::Sctp, port) => Traffic::sctp(port.get()),
        Allow::Icmp(family, kind) => Traffic::Icmp { family, kind: kind.get() },
    }
}
