//! The policies of the cluster, and what they say about a drop.
//!
//! A drop by default deny proves that nothing allowed it when it happened. A policy of the cluster that
//! allows it now was applied after it; or it had been there for long, and then the datapath was behind.
//!
//! What the output directory has too is going to replace the cluster's version: such a policy decides
//! only what the directory's version decides as well, else a rule would be missing after the apply.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::{Known, PolicyId, Query, Ruling, Screened, specs_of};
use crate::aggregate::{Observation, Tally};
use crate::policy::spec::{Options, PolicyKind, Spec, Version};
use crate::policy::validate::check_value;

/// So long after our first sight of a policy its agents may still be at work, and clocks may differ.
const REALIZED: SignedDuration = SignedDuration::from_mins(1);

/// A policy as the cluster has it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterPolicy {
    /// Which one.
    pub id: PolicyId,
    /// When it was first seen with this content, by our clock.
    pub seen: Timestamp,
    /// The object without `status`, and with name and namespace only of its metadata.
    pub object: Value,
}

/// The policies of the cluster, prepared.
#[derive(Debug, Default)]
pub struct ClusterKnown {
    policies: BTreeMap<PolicyId, Read>,
    known: Known,
}

/// One policy, and what Cilium makes of it.
#[derive(Debug, Clone)]
struct Read {
    policy: Arc<ClusterPolicy>,
    specs: Result<Vec<Spec>, Option<String>>,
}

/// What the output directory says of an observation, in its own version of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    /// It does not have that policy.
    Absent,
    /// Its version decides the same.
    Agrees,
    /// Its version does not.
    Differs,
}

/// What the cluster's policies say of an observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InCluster {
    /// Nothing that will stay says anything about it.
    New,
    /// This rule allows it by now.
    Allowed(String),
    /// This rule had allowed it long before it was dropped.
    Transient(String),
    /// This deny rule decides it.
    Denied(String),
}

// === impl ClusterPolicy ===

impl ClusterPolicy {
    /// A policy of this kind, as a list or a watch gave it; `None` when it has no name.
    pub fn new(kind: PolicyKind, mut object: Map<String, Value>, seen: Timestamp) -> Option<Self> {
        let metadata = object.remove("metadata")?;
        let text = |name: &str| metadata.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let name: Box<str> = text("name")?.into();
        let namespace = (kind != PolicyKind::Ccnp).then(|| text("namespace").unwrap_or("default").into());
        let id = PolicyId { kind, namespace, name };
        let mut kept = Map::new();
        kept.insert("name".into(), Value::from(&*id.name));
        if let Some(namespace) = &id.namespace {
            kept.insert("namespace".into(), Value::from(&**namespace));
        }
        object.remove("status");
        object.insert("metadata".into(), Value::Object(kept));
        // The items of a list do not say what they are.
        object.insert("apiVersion".into(), kind.api_version().into());
        object.insert("kind".into(), kind.as_str().into());
        Some(Self { id, seen, object: Value::Object(object) })
    }
}

// === impl ClusterKnown ===

impl ClusterKnown {
    /// Takes the place of what was known; reads only what is not known yet. Gives what the agent would
    /// refuse among that, with the reason: it decides nothing.
    pub fn renew(&mut self, policies: Vec<Arc<ClusterPolicy>>) -> Vec<(PolicyId, String)> {
        let mut left_out = Vec::new();
        let mut before = std::mem::take(&mut self.policies);
        let mut known = Known::default();
        for policy in policies {
            let read = match before.remove(&policy.id) {
                Some(read) if Arc::ptr_eq(&read.policy, &policy) => read,
                _ => {
                    let read = Read::of(policy);
                    if let Err(Some(why)) = &read.specs {
                        left_out.push((read.policy.id.clone(), why.clone()));
                    }
                    read
                }
            };
            if let Ok(specs) = &read.specs {
                known.add("the cluster", specs.clone());
            }
            self.policies.insert(read.policy.id.clone(), read);
        }
        self.known = known;
        left_out
    }

    /// What is known of a DNS query, as [`Known::query`].
    pub fn query(&mut self, observation: &Observation) -> Query {
        self.known.query(observation)
    }

    /// What is known of this observation. `here` says what the output directory makes of it in its own
    /// version of a policy that allows it (`true`) or denies it.
    pub fn judge(
        &mut self,
        observation: &Observation,
        tally: &Tally,
        mut here: impl FnMut(&PolicyId, bool) -> Here,
    ) -> InCluster {
        let (rulings, allows) = match self.known.judge(observation) {
            Screened::New => return InCluster::New,
            Screened::Allowed(rulings) => (rulings, true),
            Screened::Denied(rulings) => (rulings, false),
        };
        let mut asked: BTreeMap<PolicyId, Here> = BTreeMap::new();
        // Of the rules that stay, the one that has been there for longest.
        let mut oldest: Option<(Timestamp, Ruling, Here)> = None;
        for ruling in rulings {
            let said = *asked.entry(ruling.policy.clone()).or_insert_with(|| here(&ruling.policy, allows));
            let Some(read) = self.policies.get(&ruling.policy).filter(|_| said != Here::Differs) else {
                continue;
            };
            if oldest.as_ref().is_none_or(|(seen, ..)| read.policy.seen < *seen) {
                oldest = Some((read.policy.seen, ruling, said));
            }
        }
        let Some((seen, ruling, said)) = oldest else { return InCluster::New };
        let absent = if said == Here::Absent { ", not in this directory" } else { "" };
        let rule = format!("{ruling}{absent}");
        match allows {
            false => InCluster::Denied(rule),
            true if !tally.passed() && is_transient(seen, tally.last) => InCluster::Transient(rule),
            true => InCluster::Allowed(rule),
        }
    }
}

/// Whether a drop at this time, by its node's clock, came although the allowing policy had been seen long
/// before.
pub fn is_transient(seen: Timestamp, dropped: Option<Timestamp>) -> bool {
    dropped.is_some_and(|dropped| dropped.duration_since(seen) > REALIZED)
}

// === impl Read ===

impl Read {
    fn of(policy: Arc<ClusterPolicy>) -> Self {
        let checked = check_value(&policy.object, &Options::of(Version::V1_19));
        let specs = checked.into_iter().next().map_or(Err(None), specs_of);
        Self { policy, specs }
    }
}
