//! What is learned from packets that were not dropped: what audit mode let pass, and connections that pass
//! before anything enforces a policy.
//!
//! Without a policy there are no verdict events at all: only traces, whose direction means nothing (always
//! EGRESS at TO_ENDPOINT). So a trace speaks for both ends, and who is a pod says which of them count. A
//! trace of a packet's arrival (FROM_*) is no proof that it passed: the packet of a spoofed address has one too.

use super::{Filter, Filters, Outcome, Proof, Skip, guard};
use crate::flow::{Endpoint, EventKind, Flow, Reserved, Verdict};

/// The ends of a connection that need it to be allowed; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The source's egress.
    pub egress: bool,
    /// The destination's ingress.
    pub ingress: bool,
}

/// What a flow that was not dropped is counted as.
pub(super) fn classify(flow: &Flow, filters: &Filters) -> Outcome {
    let wanted = match flow.verdict {
        // Audit mode knows one kind of event; a mask may have left its number out.
        Verdict::Audit if matches!(flow.event, EventKind::PolicyVerdict | EventKind::Other(0)) => {
            filters.interest.audit.then_some(Proof::Audit)
        }
        Verdict::Forwarded | Verdict::Redirected if filters.interest.learn => match flow.event {
            EventKind::PolicyVerdict => Some(Proof::Allowed),
            EventKind::Trace => Some(Proof::Trace),
            _ => None,
        },
        _ => None,
    };
    let Some(proof) = wanted else { return Outcome::NotDropped(flow.verdict) };
    if filters.ignores_protocol(flow) {
        return Outcome::Filtered(Filter::Protocol);
    }
    if proof == Proof::Trace {
        return trace(flow, filters);
    }
    if !filters.may_be_subject(flow) {
        return Outcome::Filtered(Filter::Namespace);
    }
    if is_denied_in_audit(flow) {
        return Outcome::Skipped(Skip::AuditDenied);
    }
    if let Some(other) = opens(flow) {
        return other;
    }
    match flow.direction {
        Some(direction) => Outcome::Need { direction, proof },
        None => Outcome::Skipped(Skip::NoDirection),
    }
}

/// Whether audit mode let pass what a deny rule forbids, or what an allow rule wants authenticated: both name the
/// policy (1.20), which what no rule allows does not.
pub fn is_denied_in_audit(flow: &Flow) -> bool {
    flow.verdict == Verdict::Audit && !flow.denied_by.is_empty()
}

fn trace(flow: &Flow, filters: &Filters) -> Outcome {
    // What nobody described is told as such when an observation is to be made of it.
    let may_be_pod = |endpoint: Option<&Endpoint>| {
        endpoint.is_none_or(|e| e.identity.reserved.is_empty() || e.identity.is(Reserved::Unknown))
    };
    let elsewhere = |endpoint: Option<&Endpoint>| endpoint.is_some_and(|e| is_elsewhere(flow, e));
    let needs = |endpoint: Option<&Endpoint>| may_be_pod(endpoint) && !elsewhere(endpoint);
    let (source, destination) = (flow.source.as_deref(), flow.destination.as_deref());
    let pods = Ends { egress: needs(source), ingress: needs(destination) };
    if !pods.egress && !pods.ingress {
        return Outcome::NotDropped(flow.verdict);
    }
    let ends = Ends {
        egress: pods.egress && filters.holds(source),
        ingress: pods.ingress && filters.holds(destination),
    };
    if !ends.egress && !ends.ingress {
        return Outcome::Filtered(Filter::Namespace);
    }
    opens(flow).unwrap_or(Outcome::Passed(ends))
}

/// Whether the end belongs to another cluster than the node that told of it, as far as both say: its policies
/// are that cluster's.
fn is_elsewhere(flow: &Flow, endpoint: &Endpoint) -> bool {
    let here = flow.node.as_str().split_once('/').map(|(cluster, _)| cluster);
    here.zip(endpoint.identity.cluster.as_deref()).is_some_and(|(here, theirs)| here != theirs)
}

/// What becomes of a packet that opens no connection. That a later packet or a reply passes is no news; what
/// would open one, and cannot be said in a rule, is.
fn opens(flow: &Flow) -> Option<Outcome> {
    match guard::opens_connection(flow) {
        Ok(()) => None,
        Err(Skip::Reply | Skip::MidStream) => Some(Outcome::NotDropped(flow.verdict)),
        Err(skip) => Some(Outcome::Skipped(skip)),
    }
}

#[cfg(test)]
mod tests;
