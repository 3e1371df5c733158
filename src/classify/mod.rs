//! What a flow means: a need of a policy, another kind of drop, or nothing to do with us.
//!
//! Pure: a flow and the run's filters in, exactly one [`Outcome`] out.

mod dns;
mod drop_class;
mod filter;
mod guard;
mod passed;
mod request;
mod skip;

pub use drop_class::{Class, why};
pub use filter::{Filters, ProtocolFilter, parse_reason};
pub use passed::{Ends, is_denied_in_audit};
pub use skip::Skip;

use crate::flow::{Direction, DropReason, EventKind, Flow, Verdict};

/// What one flow is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The first packet of a connection that default deny dropped, decided in this direction; or a request
    /// that a proxy wrote down, where the run asks for these.
    Need {
        /// As seen from the subject.
        direction: Direction,
        /// Which event says so.
        proof: Proof,
    },
    /// The first packet of a connection that passed, told by a trace: each of these ends needs it.
    Passed(Ends),
    /// Default deny dropped it, but no rule can come of it.
    Skipped(Skip),
    /// Dropped for another reason.
    Dropped(Class),
    /// A DNS query of a subject of this run that the proxy let pass.
    Lookup,
    /// Not dropped.
    NotDropped(Verdict),
    /// The user does not want to see it.
    Filtered(Filter),
}

/// How sure the direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proof {
    /// A policy-verdict event: the datapath's own word. Or the proxy's own word on a request.
    Verdict,
    /// A policy-verdict event of audit mode: it would have been dropped.
    Audit,
    /// A policy-verdict event of a connection that passed.
    Allowed,
    /// A trace of a connection that passed: both ends follow from who is a pod.
    Trace,
    /// The other end of a connection that a trace told of: the flow is counted for the first.
    OtherEnd,
    /// A drop event (or one whose kind was masked): the direction is inferred by the agent.
    Drop,
}

/// Which of the user's filters took a flow out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    /// `--namespace`
    Namespace,
    /// `--ignore-protocol`
    Protocol,
    /// `--ignore-drop-reason`
    DropReason,
}

/// What this flow is counted as.
pub fn classify(flow: &Flow, filters: &Filters) -> Outcome {
    if let Some(outcome) = request::outcome(flow, filters) {
        return outcome;
    }
    if flow.verdict != Verdict::Dropped {
        return match dns::passed(flow) && filters.interest.dns && filters.may_be_subject(flow) {
            true => Outcome::Lookup,
            false => passed::classify(flow, filters),
        };
    }
    if filters.ignore_reasons.contains(&flow.drop_reason) {
        return Outcome::Filtered(Filter::DropReason);
    }
    if filters.ignores_protocol(flow) {
        return Outcome::Filtered(Filter::Protocol);
    }
    let refused_by_proxy = flow.event == EventKind::L7 && flow.drop_reason == DropReason::NONE;
    let class = if refused_by_proxy { Class::Policy } else { Class::of_flow(flow) };
    if class != Class::Policy {
        return if filters.concerns(flow) {
            Outcome::Dropped(class)
        } else {
            Outcome::Filtered(Filter::Namespace)
        };
    }
    if !filters.may_be_subject(flow) {
        return Outcome::Filtered(Filter::Namespace);
    }
    if refused_by_proxy {
        return match dns::refused(flow) {
            None => Outcome::Skipped(Skip::L7Denied),
            Some(Err(skip)) => Outcome::Skipped(skip),
            Some(Ok(())) if !filters.include_refused => Outcome::Skipped(Skip::DnsRefused),
            // The proxy's own word, as exact as that of the datapath.
            Some(Ok(())) => Outcome::Need { direction: Direction::Egress, proof: Proof::Verdict },
        };
    }
    if let Err(skip) = guard::opens_connection(flow) {
        return Outcome::Skipped(skip);
    }
    let Some(direction) = flow.direction else {
        return Outcome::Skipped(Skip::NoDirection);
    };
    let proof = if flow.event == EventKind::PolicyVerdict { Proof::Verdict } else { Proof::Drop };
    Outcome::Need { direction, proof }
}

/// Whether the flow is the datapath's own word on a default-deny drop, whatever comes of it.
pub fn is_policy_verdict(flow: &Flow) -> bool {
    flow.verdict == Verdict::Dropped
        && flow.event == EventKind::PolicyVerdict
        && flow.drop_reason == DropReason::POLICY_DENIED
}

#[cfg(test)]
mod tests;
