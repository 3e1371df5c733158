//! The other end of a rule: a connection passes only when the egress side of one end and the ingress side of
//! the other let it through, and a drop shows only the side that dropped.

use std::sync::Arc;

use super::{ClusterPolicy, Known, Source, cluster_of, decide, specs_of};
use crate::aggregate::{Observation, ObservedPeer, Request};
use crate::engine::{Decision, RequestDecision};
use crate::policy::spec::{Options, Version};
use crate::policy::validate::check_value;
use crate::text::visible;

/// What the other end's policies say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OtherSide {
    /// They let it through, or no known policy selects that end in that direction.
    Open,
    /// These policies put it into default deny, and none of their rules allows it; of a request, these are
    /// the rules that refuse it. Safe to print; never empty.
    Closed(Vec<String>),
    /// This deny rule decides it: no allow rule can help.
    Denied(String),
    /// Only the cluster can tell.
    Unknown,
}

/// The same connection as the other end sees it: `None` where that end is no pod of the same cluster, so
/// nothing that cpg writes could select it. A DNS query is not repeated, since no ingress rule can say one.
pub fn mirror(observation: &Observation) -> Option<Observation> {
    let Observation { subject, direction, peer, allow, request } = observation;
    let ObservedPeer::Pod(other) = peer else { return None };
    if other.cluster != subject.cluster {
        return None;
    }
    Some(Observation {
        subject: Arc::clone(other),
        direction: direction.opposite(),
        peer: ObservedPeer::Pod(Arc::clone(subject)),
        allow: *allow,
        request: match request {
            Some(Request::Dns(_)) | None => None,
            request @ Some(Request::Http { .. }) => request.clone(),
        },
    })
}

// === impl Known ===

impl Known {
    /// Everything that will stand after the directory is applied: its policies, and those of the cluster
    /// that it has no version of.
    pub fn after_apply<'a>(
        directory: impl IntoIterator<Item = Source<'a>>,
        cluster: impl IntoIterator<Item = Arc<ClusterPolicy>>,
    ) -> Self {
        let (mut known, _) = Self::read(directory);
        for policy in cluster {
            if known.has(&policy.id) {
                continue;
            }
            let checked = check_value(&policy.object, &Options::of(Version::V1_19));
            if let Some(Ok(specs)) = checked.into_iter().next().map(specs_of) {
                known.add("the cluster", specs);
            }
        }
        known
    }

    /// What these policies say of a connection of which no drop proves anything, as its subject sees it.
    pub fn other_side(&mut self, mirrored: &Observation) -> OtherSide {
        if self.is_empty() {
            return OtherSide::Open;
        }
        let (engine, sources) = self.engine(cluster_of(mirrored));
        let decision = match decide(engine, mirrored) {
            RequestDecision::Connection(decision) => decision,
            RequestDecision::Allowed { .. } => return OtherSide::Open,
            RequestDecision::Refused { asked } => {
                let rules: Vec<String> = asked.into_iter().map(|rule| rule.to_string()).collect();
                return if rules.is_empty() { OtherSide::Unknown } else { OtherSide::Closed(rules) };
            }
            RequestDecision::CouldNotCheck { .. } => return OtherSide::Unknown,
        };
        match decision {
            Decision::Allowed { .. } | Decision::Unselected => OtherSide::Open,
            Decision::Denied { rules } => {
                let first = rules.list().into_iter().next().map(|rule| rule.to_string());
                first.map_or(OtherSide::Unknown, OtherSide::Denied)
            }
            Decision::DefaultDeny { because } => {
                let mut policies: Vec<String> = because
                    .iter()
                    .map(|origin| {
                        let source = sources.get(origin.document).map_or("", |source| source);
                        format!("{} in {}", super::PolicyId::of(origin), visible(source, 300))
                    })
                    .collect();
                policies.sort();
                policies.dedup();
                if policies.is_empty() { OtherSide::Unknown } else { OtherSide::Closed(policies) }
            }
            Decision::CouldNotCheck { .. } => OtherSide::Unknown,
        }
    }
}
