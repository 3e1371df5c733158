//! What the policies that exist already say about an observation.
//!
//! Asked under the premises that a drop proves: the subject is in default deny in this direction, so
//! only a rule that is named allows; the local host is let in by rules only. Documents come in as data.
//! In files that are cpg's to render anew a rule counts when `merge` finds it there; every other
//! document counts whole, here.

mod confirm;

use std::collections::BTreeMap;

pub use confirm::{Unconfirmed, confirm};

use crate::aggregate::{Observation, ObservedPeer};
use crate::engine::{AllowLocalhost, Allowance, Decision, Engine, EngineOptions, Party, RuleRefs, Traffic};
use crate::flow::Protocol;
use crate::names::Namespace;
use crate::policy::spec::{Finding, Options, Refusal, Spec, Version};
use crate::policy::validate::check;
use crate::policy::{Allow, Entity};

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

/// The policies that exist already.
#[derive(Debug, Default)]
pub struct Known {
    specs: Vec<Spec>,
    /// The name of the source of each document number in `specs`.
    sources: Vec<Box<str>>,
    /// Prepared per name of the local cluster: selectors without a cluster mean that one.
    engines: BTreeMap<Box<str>, Engine>,
}

/// What is known of an observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Screened {
    /// Nothing that exists says anything about it.
    New,
    /// A rule allows it already: this one, in this file.
    Allowed(String),
    /// A deny rule decides it, and no allow rule can help: this one, in this file.
    Denied(String),
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
                let number = known.sources.len();
                known.sources.push(source.name.into());
                let Some(specs) = checked.specs else {
                    let refused =
                        |f: &&Finding| !matches!(f.refusal, Refusal::Warning | Refusal::Information);
                    if let Some(finding) = checked.findings.iter().find(refused) {
                        let why = format!("{}: {}", finding.path, finding.message);
                        left_out.push((source.name.to_owned(), why));
                    }
                    continue;
                };
                known.specs.extend(specs.into_iter().map(|mut spec| {
                    spec.origin.document = number;
                    spec
                }));
            }
        }
        (known, left_out)
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
        let specs = &self.specs;
        let engine = self
            .engines
            .entry(cluster.into())
            .or_insert_with(|| Engine::new(specs.clone(), premises(cluster)));
        match decide(engine, observation) {
            Decision::Allowed { by: Allowance::Rule, rules, .. } => {
                Screened::Allowed(name(&self.sources, &rules))
            }
            Decision::Denied { rules } => Screened::Denied(name(&self.sources, &rules)),
            Decision::Allowed { by: Allowance::NoDefaultDeny | Allowance::Localhost, .. }
            | Decision::DefaultDeny { .. }
            | Decision::Unselected
            | Decision::CouldNotCheck { .. } => Screened::New,
        }
    }
}

/// The first of the rules that decided, with its file.
fn name(sources: &[Box<str>], rules: &RuleRefs<'_>) -> String {
    let Some(rule) = rules.first() else { return String::new() };
    let file = sources.get(rule.origin.document).map(|file| &**file).unwrap_or_default();
    format!("{rule} in {}", crate::text::visible(file, 300))
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

fn decide<'e>(engine: &'e Engine, observation: &Observation) -> Decision<'e> {
    let cluster = cluster_of(observation);
    let subject = Party::from_identity(0, &observation.subject, cluster);
    let traffic = match observation.allow {
        Allow::Port(Protocol::Tcp, port) => Traffic::tcp(port.get()),
        Allow::Port(Protocol::Udp, port) => Traffic::udp(port.get()),
        Allow::Port(Protocol::Sctp, port) => Traffic::sctp(port.get()),
        Allow::Icmp(family, kind) => Traffic::Icmp { family, kind: kind.get() },
    };
    engine.subject(&subject).decide(&peer(&observation.peer, cluster), observation.direction, traffic)
}

/// The peer as Cilium would see it. An address outside carries itself, and the labels of a dual-stack
/// cluster, which every selector for the world of a single family matches too.
fn peer(peer: &ObservedPeer, cluster: &str) -> Party {
    match peer {
        ObservedPeer::Pod(identity) => Party::from_identity(0, identity, cluster),
        ObservedPeer::World(address) => {
            let label = if address.is_ipv4() { "reserved:world-ipv4" } else { "reserved:world-ipv6" };
            let mut party = Party::new(0, [label]);
            party.address = Some(*address);
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
