//! Records of the DNS proxy: queries that passed, and those that it refused.

use super::Skip;
use crate::flow::{Direction, EventKind, Flow, L7Kind, L7Record, Verdict};

/// Whether it is a query that passed. Answers tell nothing that the query did not.
pub(super) fn passed(flow: &Flow) -> bool {
    matches!(flow.verdict, Verdict::Forwarded | Verdict::Redirected) && query(flow).is_some()
}

/// A query that was refused, and whether a rule could name it; `None` for every other record.
pub(super) fn refused(flow: &Flow) -> Option<Result<(), Skip>> {
    query(flow).map(|has_name| if has_name { Ok(()) } else { Err(Skip::DnsNameUnusable) })
}

/// Whether a query has a name that a policy can hold; `None` where it is no query.
fn query(flow: &Flow) -> Option<bool> {
    let l7 = flow.l7.as_deref().filter(|l7| matches!(l7.kind, L7Kind::Request | L7Kind::Unknown))?;
    let L7Record::Dns { query, .. } = &l7.record else { return None };
    let is_query = flow.event == EventKind::L7
        && flow.is_reply != Some(true)
        && flow.direction == Some(Direction::Egress);
    is_query.then_some(query.is_some())
}
