//! HTTP requests that a proxy wrote down: needs, when the run asks for them (`--l7`).
//!
//! What was refused is one as any drop is. What was let pass is one too: with a policy that only looks
//! (`policies/l7-visibility.yaml`) everything passes, and this is how the rules that take its place are
//! learned. Answers and samples never are: their ends are swapped, and they say nothing that the request
//! did not. The proxy knows the direction of its records exactly.

use super::{Filter, Filters, Outcome, Proof, Skip};
use crate::flow::{Flow, L7Kind, L7Record, Verdict};

/// What a record of an HTTP request or answer is counted as; `None`: as any other flow.
pub(super) fn outcome(flow: &Flow, filters: &Filters) -> Option<Outcome> {
    let l7 = flow.l7.as_deref().filter(|_| filters.interest.http)?;
    if !matches!(l7.record, L7Record::Http { .. }) {
        return None;
    }
    let passed = match flow.verdict {
        Verdict::Dropped => false,
        Verdict::Forwarded | Verdict::Redirected => true,
        _ => return None,
    };
    let is_request = l7.kind == L7Kind::Request && flow.is_reply != Some(true);
    if passed && !is_request {
        return None;
    }
    Some(if filters.ignores_protocol(flow) {
        Outcome::Filtered(Filter::Protocol)
    } else if !filters.may_be_subject(flow) {
        Outcome::Filtered(Filter::Namespace)
    } else if !is_request {
        Outcome::Skipped(Skip::Reply)
    } else {
        flow.direction.map_or(Outcome::Skipped(Skip::NoDirection), |direction| Outcome::Need {
            direction,
            proof: Proof::Verdict,
        })
    })
}
