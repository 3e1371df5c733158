//! The screen step: what the policies of the directory and of the cluster decide already is left out, and
//! counted with the rule's name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Results;
use super::writer::Moved;
use crate::aggregate::{Observation, Observed};
use crate::build::rules;
use crate::classify::Skip;
use crate::kube::ClusterPolicies;
use crate::policy::spec::PolicyKind;
use crate::policy::{Policy, Rule};
use crate::screen::cluster::Here;
use crate::screen::{
    ClusterKnown, ClusterPolicy, InCluster, Known, PolicyId, Query, Ruling, Screened, Source,
};
use crate::store::Store;
use crate::text::visible;

/// What is known of existing policies, read again only when they are others.
#[derive(Debug, Default)]
pub(super) struct Screening {
    /// What people wrote in the directory, and the revision it was read at.
    here: (Option<u64>, Known),
    there: Option<There>,
}

/// What the cluster has, and the revision it was read at.
#[derive(Debug)]
struct There {
    policies: ClusterPolicies,
    revision: Option<u64>,
    known: ClusterKnown,
}

/// Policies of the directory that are cpg's to render anew, looked up once in a window.
type Rendered = BTreeMap<PolicyId, Option<Policy>>;

// === impl Screening ===

impl Screening {
    /// From now on these count too.
    pub(super) fn count_cluster(&mut self, policies: ClusterPolicies) {
        self.there = Some(There { policies, revision: None, known: ClusterKnown::default() });
    }

    /// The policies of the cluster, where they count.
    pub(super) fn of_cluster(&self) -> Vec<Arc<ClusterPolicy>> {
        self.there.as_ref().map(|there| there.policies.snapshot().1).unwrap_or_default()
    }

    /// What people wrote in the directory, as it was read for the last window.
    pub(super) fn here(&mut self) -> &mut Known {
        &mut self.here.1
    }

    /// Leaves out what is decided already. What the directory allows goes to `covered` with the rule.
    pub(super) fn screen(
        &mut self,
        store: &mut Store,
        observations: Vec<Observed>,
        results: &mut Results,
        moved: &mut Moved,
        covered: &mut Vec<(Observed, String)>,
    ) -> Vec<Observed> {
        // A directory that cannot be read is told when it is written to.
        if !self.renew_here(store) {
            return observations;
        }
        if let Some(there) = &mut self.there {
            there.renew();
        }
        let mut rendered = Rendered::new();
        let mut new = Vec::new();
        for observed in observations {
            let (observation, tally) = &observed;
            let known = &mut self.here.1;
            let here = known.judge(observation);
            let there = self.there.as_mut().map_or(InCluster::New, |there| {
                there.known.judge(observation, tally, |policy, allows| match policy {
                    _ if known.has(policy) && allows => agrees(matches!(here, Screened::Allowed(_))),
                    _ if known.has(policy) => agrees(matches!(here, Screened::Denied(_))),
                    _ => says_rendered(store, &mut rendered, policy, observation, allows),
                })
            });
            let counted = match (there, here) {
                (InCluster::Denied(rule), _) => (Skip::ExplicitDeny, rule, &mut results.denied),
                (_, Screened::Denied(rules)) => (Skip::ExplicitDeny, first(&rules), &mut results.denied),
                (InCluster::Transient(rule), _) => {
                    (Skip::TransientDespitePolicy, rule, &mut results.transient)
                }
                (InCluster::Allowed(rule), _) => {
                    (Skip::AlreadyAllowedInCluster, rule, &mut results.allowed_in_cluster)
                }
                (InCluster::New, Screened::Allowed(rules)) => {
                    (Skip::AlreadyAllowed, first(&rules), &mut results.already_allowed)
                }
                (InCluster::New, Screened::New) => {
                    new.push(observed);
                    continue;
                }
            };
            let (skip, rule, by_rule) = counted;
            moved.push((skip, tally.events()));
            *by_rule.entry(rule.clone()).or_default() += tally.flows();
            if skip == Skip::AlreadyAllowed {
                covered.push((observed, rule));
            }
        }
        new
    }

    /// What is known of a DNS query. A policy of the cluster that the directory has too is going to be
    /// replaced by the directory's version, and decides nothing here.
    pub(super) fn query(&mut self, store: &Store, observation: &Observation) -> Query {
        let here = self.here.1.query(observation);
        let Some(there) = &mut self.there else { return here };
        let known = &self.here.1;
        let stays = |ruling: &Ruling| {
            let PolicyId { kind, namespace, name } = &ruling.policy;
            let rendered = *kind == PolicyKind::Cnp
                && namespace.as_deref().is_some_and(|namespace| store.rendered(namespace, name).is_some());
            !known.has(&ruling.policy) && !rendered
        };
        let staying = |rulings: Vec<Ruling>| rulings.into_iter().filter(stays).collect::<Vec<_>>();
        match (here, there.known.query(observation)) {
            (here @ (Query::Passed(_) | Query::Denied(_)), _) => here,
            (here, Query::Passed(rules)) => of(staying(rules), Query::Passed, here),
            (here, Query::Denied(rules)) => of(staying(rules), Query::Denied, here),
            (here, Query::Open(rules)) => of(staying(rules), Query::Open, here),
            (here, Query::New) => here,
        }
    }

    /// Reads the directory again when it is another one; `false` when it cannot be read.
    fn renew_here(&mut self, store: &mut Store) -> bool {
        let Ok((revision, foreign)) = store.foreign() else { return false };
        if self.here.0 != Some(revision) {
            let sources: Vec<_> = foreign.iter().map(|f| (f.path.display().to_string(), f)).collect();
            let sources =
                sources.iter().map(|(name, f)| Source { name, home: f.home.as_ref(), text: &f.text });
            let (known, left_out) = Known::read(sources);
            for (file, why) in left_out {
                tracing::warn!(file = %visible(&file, 300), "a policy that Cilium refuses decides nothing: {why}");
            }
            self.here = (Some(revision), known);
        }
        true
    }
}

// === impl There ===

impl There {
    fn renew(&mut self) {
        if self.revision == Some(self.policies.revision()) {
            return;
        }
        let (revision, policies) = self.policies.snapshot();
        self.revision = Some(revision);
        let left_out = self.known.renew(policies);
        for (policy, why) in &left_out {
            tracing::debug!(%policy, "this policy of the cluster decides nothing here: {}", visible(why, 300));
        }
        if !left_out.is_empty() {
            tracing::info!(
                policies = left_out.len(),
                "policies of the cluster that Cilium refuses, or that this version of cpg does not understand, decide \
                 nothing here; --debug names each"
            );
        }
    }
}

/// What the directory says where it has the policy as cpg rendered it. There only the very rule counts that
/// build would write, as `merge` finds it; and nothing in it denies.
fn says_rendered(
    store: &Store,
    rendered: &mut Rendered,
    policy: &PolicyId,
    observation: &Observation,
    allows: bool,
) -> Here {
    let (PolicyKind::Cnp, Some(namespace)) = (policy.kind, &policy.namespace) else { return Here::Absent };
    let found = rendered.entry(policy.clone()).or_insert_with(|| store.rendered(namespace, &policy.name));
    let Some(found) = found else { return Here::Absent };
    let has = |rule: &Rule| found.direction(rule.direction).has(&rule.peer, rule.allow, rule.l7.as_ref());
    let built = rules(observation);
    agrees(allows && built.is_ok_and(|(subject, rules)| subject == found.subject && rules.iter().all(has)))
}

/// What these rules say, if there are any.
fn of(rules: Vec<Ruling>, say: fn(Vec<Ruling>) -> Query, otherwise: Query) -> Query {
    if rules.is_empty() { otherwise } else { say(rules) }
}

fn agrees(it_does: bool) -> Here {
    if it_does { Here::Agrees } else { Here::Differs }
}

/// The first of the rules that decided, with its file.
fn first(rules: &[Ruling]) -> String {
    rules.first().map(ToString::to_string).unwrap_or_default()
}
