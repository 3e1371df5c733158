//! A set of policies, prepared: filters with numbered peer tests, and which specs select a subject.

use std::sync::Arc;

use hashbrown::HashMap;

use super::conflict;
use super::fqdn::NamePattern;
use super::http::HttpTest;
use super::index::ByLabel;
use super::l4::Filter;
use super::party::{Lookup, Party};
use super::peer::PeerTest;
use super::prepared::Prepared;
use super::selector::{Match, Selector};
use super::side::Side;
use super::sni::ServerName;
use super::{EnablePolicy, EngineOptions, Field, RuleRef};
use crate::flow::Direction;
use crate::policy::spec::{
    L4, L7, LabelSelector, NAMESPACE_LABEL, PeerSpec, Peers, PolicyKind, PortRule, RuleSpec, Spec,
    SubjectSpec, Version,
};

/// A set of policies, prepared once and asked many times.
#[derive(Debug, Clone)]
pub struct Engine {
    specs: Vec<Spec>,
    pub(super) options: EngineOptions,
    subjects: Vec<Subject>,
    ingress: Rules,
    egress: Rules,
    /// What stands where a rule has no `toPorts`.
    pub(super) no_item: PortRule,
}

#[derive(Debug, Clone)]
struct Subject {
    selector: Selector,
    host: bool,
}

/// The rules of one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    /// Sorted by spec.
    pub(super) entries: Vec<Entry>,
    pub(super) tests: Vec<PeerTest>,
    pub(super) by_label: ByLabel,
    /// How many classes of entries there are.
    pub(super) classes: usize,
}

/// One filter of one rule.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) spec: usize,
    pub(super) rule: usize,
    /// Entries of one class say the same.
    pub(super) class: usize,
    pub(super) deny: bool,
    pub(super) authentication: bool,
    pub(super) peers: Reach,
    pub(super) filter: Filter,
    /// Which filter of the rule.
    pub(super) item: usize,
    /// What it asks of requests; `None` where layer 4 is all.
    pub(super) inside: Option<Box<Inside>>,
}

/// What a filter asks of requests.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    pub(super) l7: Tests,
    /// Empty = any.
    pub(super) names: Box<[ServerName]>,
}

/// `rules`, prepared.
#[derive(Debug, Clone)]
pub(super) enum Tests {
    /// None, or of a protocol that is not asked about here.
    Other,
    Http(Box<[HttpTest]>),
    Dns(Box<[NamePattern]>),
}

/// Whom a rule reaches: numbers of tests in [`Rules::tests`], any of which may match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Reach(pub(super) Box<[usize]>);

// === impl Engine ===

impl Engine {
    /// Prepares the specs. Their order decides nothing: they are sorted as Cilium does.
    pub fn new(mut specs: Vec<Spec>, options: EngineOptions) -> Self {
        specs.sort_by_cached_key(resource);
        let subjects = specs.iter().map(Subject::new).collect();
        let rules = |direction| Rules::new(&specs, &options, direction);
        let (ingress, egress) = (rules(Direction::Ingress), rules(Direction::Egress));
        Self { specs, options, subjects, ingress, egress, no_item: PortRule::default() }
    }

    /// The specs it was made from.
    pub fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// The options it was made with.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// What is enforced on one party. One that can be no local endpoint of this cluster has no policy.
    pub fn subject<'e>(&'e self, party: &Party) -> Prepared<'e> {
        let options = &self.options;
        let party = &*options.completed(party);
        let enforced = party.is_endpoint(&options.cluster)
            && options.mode != EnablePolicy::Never
            && (options.host_firewall || !party.needs_host_firewall());
        let forced = enforced && (options.mode == EnablePolicy::Always || party.is_init());
        let mut selected: Vec<(usize, Match)> = Vec::new();
        if enforced {
            let matches = self.subjects.iter().zip(&self.specs).map(|(s, spec)| s.matches(spec, party));
            selected.extend(matches.enumerate().filter(|(_, m)| *m != Match::No));
        }
        let side = |direction| self.side(direction, &selected, forced);
        let ((in_ingress, ingress), (in_egress, egress)) =
            (side(Direction::Ingress), side(Direction::Egress));
        let has_namespace = matches!(party.lookup("k8s", NAMESPACE_LABEL, false), Lookup::Found(_));
        let conflict = conflict::find(self, [&in_ingress, &in_egress], has_namespace);
        Prepared::new(self, party.clone(), [Arc::new(ingress), Arc::new(egress)], conflict)
    }

    /// What is enforced in one direction, and the entries behind it: in their order, each with whether its
    /// spec selects the subject at all.
    fn side(
        &self,
        direction: Direction,
        selected: &[(usize, Match)],
        forced: bool,
    ) -> (Vec<(usize, Match)>, Side) {
        let rules = self.rules(direction);
        let mut side = Side { forced, ..Side::default() };
        let mut all_entries = Vec::new();
        let (mut allow, mut deny) = (Vec::new(), Vec::new());
        for (spec, certain) in selected {
            let of_spec = self.side_of(*spec, direction);
            if of_spec.rules.is_empty() {
                continue;
            }
            match certain {
                Match::Unknown(field) => side.open.push((*spec, of_spec.default_deny, *field)),
                _ if of_spec.default_deny => side.default_deny.push(*spec),
                _ => side.has_others = true,
            }
            let first = rules.entries.partition_point(|e| e.spec < *spec);
            let entries = rules.entries[first..].iter().take_while(|e| e.spec == *spec).count();
            all_entries.extend((first..first + entries).map(|entry| (entry, *certain)));
            for rule in &of_spec.rules {
                let all: &mut Vec<&LabelSelector> = if rule.deny { &mut deny } else { &mut allow };
                all.extend(&rule.requires);
            }
        }
        let all =
            |selectors: &[&LabelSelector]| Selector::new(selectors.iter().flat_map(|s| &s.requirements));
        (side.requires, side.requires_deny) = (all(&allow), all(&deny));
        side.add(rules, &all_entries);
        (all_entries, side)
    }

    pub(super) fn rules(&self, direction: Direction) -> &Rules {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    pub(super) fn spec(&self, spec: usize) -> &Spec {
        &self.specs[spec]
    }

    fn side_of(&self, spec: usize, direction: Direction) -> &crate::policy::spec::Side {
        side_of(&self.specs[spec], direction)
    }

    pub(super) fn rule(&self, direction: Direction, entry: &Entry) -> &RuleSpec {
        &self.side_of(entry.spec, direction).rules[entry.rule]
    }

    /// The item of `toPorts` behind an entry.
    pub(super) fn item(&self, direction: Direction, entry: &Entry) -> &PortRule {
        match &self.rule(direction, entry).l4 {
            L4::Ports(list) => &list[entry.item],
            L4::All | L4::Icmp(_) => &self.no_item,
        }
    }

    pub(super) fn rule_ref(&self, direction: Direction, entry: &Entry) -> RuleRef<'_> {
        RuleRef { origin: &self.specs[entry.spec].origin, rule: self.rule(direction, entry) }
    }
}

/// How Cilium names the object that a spec is from: `kind/namespace/name`.
fn resource(spec: &Spec) -> String {
    let kind = match spec.origin.kind {
        PolicyKind::Ccnp => "ccnp",
        PolicyKind::Cnp => "cnp",
        PolicyKind::KubernetesNetworkPolicy => "netpol",
    };
    format!("{kind}/{}/{}", spec.origin.namespace.as_deref().unwrap_or_default(), spec.origin.name)
}

fn side_of(spec: &Spec, direction: Direction) -> &crate::policy::spec::Side {
    match direction {
        Direction::Ingress => &spec.ingress,
        Direction::Egress => &spec.egress,
    }
}

// === impl Subject ===

impl Subject {
    fn new(spec: &Spec) -> Self {
        let (selector, host) = match &spec.subject {
            SubjectSpec::Endpoints(selector) => (selector, false),
            SubjectSpec::Nodes(selector) => (selector, true),
        };
        Self { selector: Selector::of(selector), host }
    }

    fn matches(&self, spec: &Spec, party: &Party) -> Match {
        if self.host != party.is_host() {
            return Match::No;
        }
        if let Some(namespace) = &spec.origin.namespace
            && party.lookup("k8s", NAMESPACE_LABEL, false) != Lookup::Found(namespace)
        {
            return Match::No;
        }
        self.selector.matches(party, if self.host { Field::NodeSelector } else { Field::Labels })
    }
}

// === impl Rules ===

impl Rules {
    fn new(specs: &[Spec], options: &EngineOptions, direction: Direction) -> Self {
        let mut all = Self::default();
        let mut classes = HashMap::new();
        for (spec_number, spec) in specs.iter().enumerate() {
            for (rule_number, rule) in side_of(spec, direction).rules.iter().enumerate() {
                let peers = all.reach(rule, options, direction);
                for (item, filter) in Filter::all(&rule.l4, options.version).into_iter().enumerate() {
                    let authentication =
                        rule.authentication.as_deref().is_some_and(|mode| mode != "disabled");
                    let new = classes.len();
                    let says = (peers.clone(), filter.clone(), rule.deny, authentication);
                    all.entries.push(Entry {
                        spec: spec_number,
                        rule: rule_number,
                        class: *classes.entry(says).or_insert(new),
                        deny: rule.deny,
                        authentication,
                        peers: peers.clone(),
                        filter,
                        item,
                        inside: Inside::of(&rule.l4, item, options.version),
                    });
                }
            }
        }
        all.by_label = ByLabel::new(&all.tests);
        all.classes = classes.len();
        all
    }

    fn reach(&mut self, rule: &RuleSpec, options: &EngineOptions, direction: Direction) -> Reach {
        Reach(match &rule.peers {
            Peers::Nobody => Box::default(),
            Peers::Any => [self.number(PeerTest::All)].into(),
            Peers::Of(list) => {
                let mut numbers = Vec::new();
                for spec in list {
                    let serial = self.tests.len();
                    let mut tests = PeerTest::of(spec, options, direction, serial);
                    // Cilium resolves those of allow rules only; and a rule whose services stand for
                    // nothing means any peer on its ports, at least to the engine alone.
                    if matches!(spec, PeerSpec::Service(_))
                        && (rule.deny || (tests.is_empty() && rule.l4 != L4::All))
                    {
                        tests = vec![PeerTest::Open(Field::Services, serial)];
                    }
                    numbers.extend(tests.into_iter().map(|t| self.number(t)));
                }
                // One selector that selects everything stands for the whole list, to Cilium as well.
                match numbers.iter().find(|number| self.tests[**number] == PeerTest::All) {
                    Some(all) => [*all].into(),
                    None => numbers.into(),
                }
            }
        })
    }

    /// The number of a test; equal ones share it.
    fn number(&mut self, test: PeerTest) -> usize {
        self.tests.iter().position(|t| *t == test).unwrap_or_else(|| {
            self.tests.push(test);
            self.tests.len() - 1
        })
    }
}

// === impl Inside ===

impl Inside {
    fn of(l4: &L4, item: usize, version: Version) -> Option<Box<Self>> {
        let L4::Ports(list) = l4 else { return None };
        let item = list.get(item)?;
        let l7 = match &item.l7 {
            L7::Http(rules) => Tests::Http(rules.iter().map(HttpTest::new).collect()),
            L7::Dns(rules) => {
                Tests::Dns(rules.iter().flat_map(|rule| NamePattern::of_rule(rule, version)).collect())
            }
            L7::None | L7::Kafka(_) | L7::Proxylib { .. } => Tests::Other,
        };
        if matches!(l7, Tests::Other) && item.server_names.is_empty() {
            return None;
        }
        let names = item.server_names.iter().map(|name| ServerName::new(name, version)).collect();
        Some(Box::new(Self { l7, names }))
    }
}
