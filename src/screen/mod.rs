//! What the policies that exist already say about an observation.
//!
//! Asked under the premises that a drop proves: the subject is in default deny in this direction, so
//! only a rule that is named allows; the local host is let in by rules only. Documents come in as data.
//! In files that are cpg's to render anew a rule counts when `merge` finds it there; every other
//! document counts whole, here. Policies of the cluster count whole too, unless the directory has a
//! version of its own of them ([`cluster`]).

pub mod cluster;
mod confirm;
mod lookup;
mod other_side;
mod request;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

pub use cluster::{ClusterKnown, ClusterPolicy, InCluster};
pub use confirm::{Unconfirmed, confirm};
pub use lookup::Query;
pub use other_side::{OtherSide, mirror};

use crate::aggregate::{Observation, ObservedPeer, Request};
use crate::engine::{AllowLocalhost, Engine, EngineOptions, Party, RuleRef};
use crate::names::Namespace;
use crate::policy::Entity;
use crate::policy::spec::{Finding, Options, Origin, PolicyKind, Refusal, Spec, Version};
use crate::policy::validate::{Checked, check};
use crate::text::visible;

use request::{Said, ask, decide, without_lookers};

/// A text with policies that people wrote.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// What it is called in messages.
    pub name: &'a str,
    /// The namespace of documents that name none.
    pub home: Option<&'a Namespace>,
    /// The documents.
    pub text: &'a str,
}

/// Which policy it is, wherever it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    /// What kind of object.
    pub kind: PolicyKind,
    /// Its namespace; `None` for a clusterwide policy.
    pub namespace: Option<Box<str>>,
    /// `metadata.name`.
    pub name: Box<str>,
}

/// A rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// The policy it stands in.
    pub policy: PolicyId,
    /// Policy and rule in words, safe to print.
    pub rule: String,
    /// Where the policy stands, safe to print.
    pub source: String,
}

/// The policies that exist already.
#[derive(Debug, Default)]
pub struct Known {
    specs: Vec<Spec>,
    /// The name of the source of each document number in `specs`.
    sources: Vec<Box<str>>,
    ids: BTreeSet<PolicyId>,
    /// Prepared per name of the local cluster: selectors without a cluster mean that one.
    engines: BTreeMap<Box<str>, Engine>,
    /// The same for requests.
    engines_for_requests: BTreeMap<Box<str>, Engine>,
}

/// What is known of an observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Screened {
    /// Nothing that exists says anything about it.
    New,
    /// Rules allow it already: these, at least one.
    Allowed(Vec<Ruling>),
    /// Deny rules decide it, and no allow rule can help: these, at least one.
    Denied(Vec<Ruling>),
}

// === impl Known ===

impl Known {
    /// Reads the sources. Documents that the agent would refuse decide nothing and are left out; they come
    /// back with the reason.
    pub fn read<'a>(sources: impl IntoIterator<Item = Source<'a>>) -> (Self, Vec<(String, String)>) {
        let mut known = Self::default();
        let mut left_out = Vec::new();
        for source in sources {
            let namespace = source.home.map_or("default", Namespace::as_str);
            let options = Options { namespace: namespace.into(), ..Options::of(Version::V1_19) };
            for checked in check(source.text, &options) {
                match specs_of(checked) {
                    Ok(specs) => known.add(source.name, specs),
                    Err(Some(why)) => left_out.push((source.name.to_owned(), why)),
                    Err(None) => {}
                }
            }
        }
        (known, left_out)
    }

    /// Takes the rule sets of one policy in, which are called by this source.
    fn add(&mut self, source: &str, specs: Vec<Spec>) {
        let number = self.sources.len();
        self.sources.push(source.into());
        self.ids.extend(specs.first().map(|spec| PolicyId::of(&spec.origin)));
        self.specs.extend(specs.into_iter().map(|mut spec| {
            spec.origin.document = number;
            spec
        }));
    }

    /// Whether this policy is among them.
    pub fn has(&self, policy: &PolicyId) -> bool {
        self.ids.contains(policy)
    }

    /// Whether there is no policy.
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }

    /// What is known of this observation. An answer that depends on something that only the cluster
    /// knows counts as new: a rule too many is exactly the traffic, a rule too few blocks.
    pub fn judge(&mut self, observation: &Observation) -> Screened {
        if self.is_empty() {
            return Screened::New;
        }
        let cluster = cluster_of(observation);
        let (engine, sources) = match observation.request {
            Some(Request::Http { .. }) => self.engine_for_requests(cluster),
            Some(Request::Dns(_)) | None => self.engine(cluster),
        };
        match ask(engine, observation) {
            Said::Allowed(rules) => Screened::Allowed(rulings(sources, rules)),
            Said::Denied(rules) => Screened::Denied(rulings(sources, rules)),
            Said::Nothing(_) => Screened::New,
        }
    }

    /// All rules prepared for a local cluster of this name, and what their sources are called.
    fn engine(&mut self, cluster: &str) -> (&Engine, &[Box<str>]) {
        let specs = &self.specs;
        let engine = self
            .engines
            .entry(cluster.into())
            .or_insert_with(|| Engine::new(specs.clone(), premises(cluster)));
        (engine, &self.sources)
    }

    /// The same without what only looks on.
    fn engine_for_requests(&mut self, cluster: &str) -> (&Engine, &[Box<str>]) {
        let specs = &self.specs;
        let engine = self
            .engines_for_requests
            .entry(cluster.into())
            .or_insert_with(|| Engine::new(without_lookers(specs), premises(cluster)));
        (engine, &self.sources)
    }
}

// === impl Screened ===

impl Screened {
    /// The first of the rules that allow it already.
    pub fn allowed_by(&self) -> Option<String> {
        match self {
            Self::Allowed(rules) => rules.first().map(ToString::to_string),
            Self::New | Self::Denied(_) => None,
        }
    }
}

// === impl PolicyId ===

impl PolicyId {
    fn of(origin: &Origin) -> Self {
        Self { kind: origin.kind, namespace: origin.namespace.clone(), name: origin.name.clone() }
    }
}

impl fmt::Display for PolicyId {
    /// `CiliumNetworkPolicy shop/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.as_str())?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{}/", visible(namespace, 80))?;
        }
        f.write_str(&visible(&self.name, 260))
    }
}

// === impl Ruling ===

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.rule, self.source)
    }
}

/// The rules of one object, or why the agent would refuse it; `None`: it is no policy.
fn specs_of(checked: Checked) -> Result<Vec<Spec>, Option<String>> {
    let Checked { specs, findings, .. } = checked;
    specs.ok_or_else(|| {
        let refused = |f: &&Finding| !matches!(f.refusal, Refusal::Warning | Refusal::Information);
        findings.iter().find(refused).map(|finding| format!("{}: {}", finding.path, finding.message))
    })
}

/// The rules that decided, with where they stand.
fn rulings(sources: &[Box<str>], rules: Vec<RuleRef<'_>>) -> Vec<Ruling> {
    let ruling = |rule: RuleRef<'_>| Ruling {
        policy: PolicyId::of(rule.origin),
        rule: rule.to_string(),
        source: visible(sources.get(rule.origin.document).map_or("", |source| source), 300).into_owned(),
    };
    rules.into_iter().map(ruling).collect()
}

/// The name of the subject's own cluster; `default` where the agent does not say.
fn cluster_of(observation: &Observation) -> &str {
    observation.subject.cluster.as_deref().unwrap_or("default")
}

/// What a drop by default deny proves, and what holds on every cluster: both address families may be on.
fn premises(cluster: &str) -> EngineOptions {
    EngineOptions {
        cluster: cluster.into(),
        allow_localhost: AllowLocalhost::Policy,
        ipv6: true,
        ..EngineOptions::of(Version::V1_19)
    }
}

/// An address outside carries itself, and the labels of a dual-stack cluster, which every selector for the
/// world of a single family matches too.
fn outside(address: IpAddr) -> Party {
    let label = if address.is_ipv4() { "reserved:world-ipv4" } else { "reserved:world-ipv6" };
    let mut party = Party::new(0, [label]);
    party.address = Some(address);
    party
}

/// The peer as Cilium would see it once the agent has learnt the names of its address.
fn peer(peer: &ObservedPeer, cluster: &str) -> Party {
    match peer {
        ObservedPeer::Pod(identity) => Party::from_identity(0, identity, cluster),
        ObservedPeer::World(address) => outside(*address),
        ObservedPeer::Named { address, names } => {
            let mut party = outside(*address);
            party.names = names.iter().map(|name| format!("{name}.").into()).collect();
            party
        }
        ObservedPeer::Entity(entity) => {
            let number = if *entity == Entity::Host { 1 } else { 0 };
            let label = format!("reserved:{}", entity.as_str());
            Party::new(number, [label.as_str()])
        }
    }
}

#[cfg(test)]
mod tests;
