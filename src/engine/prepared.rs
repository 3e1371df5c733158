//! What is enforced on one subject, and the decision itself.

use std::sync::Arc;

use super::AllowLocalhost;
use super::decision::{Allowance, Decision, Field, Origins, RuleRef, RuleRefs};
use super::l4::{Names, Traffic};
use super::party::Party;
use super::peer::World;
use super::selector::Match;
use super::set::{Engine, Entry};
use super::side::{Reached, Side};
use crate::flow::{Direction, Reserved};
use crate::policy::spec::Version;

/// What is enforced on one subject.
#[derive(Debug, Clone)]
pub struct Prepared<'e> {
    engine: &'e Engine,
    party: Party,
    ingress: Arc<Side>,
    egress: Arc<Side>,
    conflict: Option<RuleRef<'e>>,
}

/// A peer of a prepared subject, with the rules that reach it.
#[derive(Debug, Clone)]
pub struct Peer<'p> {
    subject: &'p Prepared<'p>,
    party: Party,
    ingress: Vec<Reached>,
    egress: Vec<Reached>,
}

/// The groups that matched, in their order.
#[derive(Default)]
struct Hits {
    deny: Vec<usize>,
    redirect: Vec<usize>,
    allow: Vec<usize>,
    open_deny: Option<(Field, usize)>,
    open_redirect: Option<(Field, usize)>,
    open_allow: Option<(Field, usize)>,
    /// Specs that may select the subject, and then allow this by a rule of their own.
    own: Vec<usize>,
}

// === impl Prepared ===

impl<'e> Prepared<'e> {
    pub(super) fn new(
        engine: &'e Engine,
        party: Party,
        [ingress, egress]: [Arc<Side>; 2],
        conflict: Option<RuleRef<'e>>,
    ) -> Self {
        Self { engine, party, ingress, egress, conflict }
    }

    /// The subject.
    pub fn party(&self) -> &Party {
        &self.party
    }

    /// Whether specs, or the agent's options, put the subject into default deny.
    pub fn is_default_deny(&self, direction: Direction) -> bool {
        let side = self.side(direction);
        side.forced || !side.default_deny.is_empty()
    }

    /// Decides about the first packet of a connection, whose peer is the other end.
    pub fn decide(&self, peer: &Party, direction: Direction, traffic: Traffic) -> Decision<'e> {
        let hits = match self.conflict {
            Some(_) => Hits::default(),
            None => self.hits(direction, peer, traffic, &self.reached(direction, peer)),
        };
        self.conclude(direction, peer, hits)
    }

    /// Prepares one peer for many questions.
    pub fn peer(&self, party: &Party) -> Peer<'_> {
        let reached = |direction| self.reached(direction, party);
        let (ingress, egress) = (reached(Direction::Ingress), reached(Direction::Egress));
        Peer { subject: self, party: party.clone(), ingress, egress }
    }

    fn side(&self, direction: Direction) -> &Arc<Side> {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    fn reached(&self, direction: Direction, party: &Party) -> Vec<Reached> {
        let world = World { options: &self.engine.options, direction };
        self.side(direction).reached(self.engine.rules(direction), party, world)
    }

    /// The entry that stands for a group.
    fn entry(&self, direction: Direction, group: usize) -> &'e Entry {
        &self.engine.rules(direction).entries[self.side(direction).groups[group].first]
    }

    fn hits(&self, direction: Direction, peer: &Party, traffic: Traffic, reached: &[Reached]) -> Hits {
        let side = self.side(direction);
        let names = Names { options: &self.engine.options, direction, subject: &self.party, peer };
        let mut hits = Hits::default();
        for Reached { group: number, how } in reached.iter().copied() {
            if side.excludes(number, traffic) {
                continue;
            }
            let (entry, selected) = (self.entry(direction, number), side.groups[number].selected);
            let how = entry.filter.matches(traffic, names).and(|| how);
            let redirect = entry.filter.redirects(traffic);
            if selected != Match::Yes && how == Match::Yes && !entry.deny {
                hits.own.push(entry.spec);
            }
            let how = selected.and(|| how);
            match how {
                Match::No => {}
                Match::Yes if entry.deny => hits.deny.push(number),
                Match::Yes if redirect => hits.redirect.push(number),
                Match::Yes => hits.allow.push(number),
                Match::Unknown(field) if entry.deny => {
                    hits.open_deny = hits.open_deny.or(Some((field, number)))
                }
                Match::Unknown(field) if redirect => {
                    hits.open_redirect = hits.open_redirect.or(Some((field, number)));
                }
                Match::Unknown(field) => hits.open_allow = hits.open_allow.or(Some((field, number))),
            }
        }
        hits
    }

    /// From what matched to the decision. What cannot be checked counts only where it could change it.
    fn conclude(&self, direction: Direction, peer: &Party, hits: Hits) -> Decision<'e> {
        let refer = |group: usize| self.engine.rule_ref(direction, self.entry(direction, group));
        let open = |(field, group)| Decision::CouldNotCheck { field, rule: Some(refer(group)) };
        if let Some(rule) = self.conflict {
            return Decision::CouldNotCheck { field: Field::Conflict, rule: Some(rule) };
        }
        if !hits.deny.is_empty() {
            return Decision::Denied { rules: self.refs(direction, hits.deny, Vec::new()) };
        }
        if let Some(deny) = hits.open_deny {
            return open(deny);
        }
        let redirect = !hits.redirect.is_empty();
        if redirect || !hits.allow.is_empty() {
            if let (false, Some(other)) = (redirect, hits.open_redirect) {
                return open(other);
            }
            if let Some(unlifted) = self.narrowed(direction, peer, &hits) {
                return open(unlifted);
            }
            let rules = self.refs(direction, hits.redirect, hits.allow);
            return Decision::Allowed { by: Allowance::Rule, redirect, rules };
        }
        let otherwise = self.unmatched(direction, peer, &hits.own);
        match hits.open_redirect.or(hits.open_allow) {
            Some(other) if hits.open_redirect.is_some() || !otherwise.is_allowed() => open(other),
            _ => otherwise,
        }
    }

    /// What holds when no rule matches. `own`: see [`Hits::own`].
    fn unmatched(&self, direction: Direction, peer: &Party, own: &[usize]) -> Decision<'e> {
        let side = self.side(direction);
        let options = &self.engine.options;
        let selected = side.has_others || !side.default_deny.is_empty();
        let maybe_denying =
            side.open.iter().find(|(spec, default_deny, _)| *default_deny && !own.contains(spec));
        let host = match options.version {
            Version::V1_20 => peer.is(Reserved::Host) && selected,
            _ => peer.is_host(),
        };
        let localhost = host
            && direction == Direction::Ingress
            && options.allow_localhost == AllowLocalhost::Always
            && !self.party.is_host();
        let rules = || self.refs(direction, Vec::new(), Vec::new());
        let allowed = |by| Decision::Allowed { by, redirect: false, rules: rules() };
        if !self.is_default_deny(direction) {
            return match maybe_denying {
                Some((_, _, field)) if !localhost => Decision::CouldNotCheck { field: *field, rule: None },
                _ if selected => allowed(Allowance::NoDefaultDeny),
                _ => Decision::Unselected,
            };
        }
        if localhost {
            return allowed(Allowance::Localhost);
        }
        Decision::DefaultDeny { because: Origins::new(self.engine, Arc::clone(side)) }
    }

    /// What narrows a matching rule beyond layer 4, if no other rule lifts it.
    ///
    /// Authentication holds for every entry below the one that asks for it. Server names are asked for
    /// unless a rule with another peer selector lets the same packet through: rules with one selector
    /// and port are joined, and then ask for the name, all of them.
    fn narrowed(&self, direction: Direction, peer: &Party, hits: &Hits) -> Option<(Field, usize)> {
        let rules = self.engine.rules(direction);
        let entry = |group: usize| self.entry(direction, group);
        let all = || hits.redirect.iter().chain(&hits.allow).copied();
        if let Some(group) = all().find(|n| entry(*n).authentication) {
            return Some((Field::Authentication, group));
        }
        let asking = all().find(|n| entry(*n).filter.sni)?;
        let world = World { options: &self.engine.options, direction };
        let by = |group: usize| {
            entry(group).peers.0.iter().filter(move |t| rules.tests[**t].matches(peer, world) == Match::Yes)
        };
        let asked: Vec<&usize> = all().filter(|n| entry(*n).filter.sni).flat_map(by).collect();
        let lifted = all().filter(|n| !entry(*n).filter.sni).flat_map(by).any(|test| !asked.contains(&test));
        if lifted { None } else { Some((Field::ServerNames, asking)) }
    }

    fn refs(&self, direction: Direction, first: Vec<usize>, then: Vec<usize>) -> RuleRefs<'e> {
        RuleRefs::new(self.engine, direction, Arc::clone(self.side(direction)), first, then)
    }
}

// === impl Peer ===

impl<'p> Peer<'p> {
    /// As [`Prepared::decide`].
    pub fn decide(&self, direction: Direction, traffic: Traffic) -> Decision<'p> {
        let reached = match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        };
        let hits = self.subject.hits(direction, &self.party, traffic, reached);
        self.subject.conclude(direction, &self.party, hits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{EnablePolicy, EngineOptions};
    use crate::policy::read_documents;
    use crate::policy::spec::{Options, sanitise};

    const POLICIES: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
  - fromEndpoints: [{matchLabels: {app: client}}]
    toPorts:
    - ports: [{port: '80', protocol: TCP}]
      rules: {http: [{method: GET}]}
    - ports: [{port: '80', endPort: 90, protocol: TCP}]
  ingressDeny:
  - fromEntities: [world]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: all, namespace: shop}
spec:
  endpointSelector: {}
  enableDefaultDeny: {ingress: false}
  ingress: [{icmps: [{fields: [{type: 8}]}]}]
";

    fn of_text(text: &str, options: EngineOptions) -> Engine {
        let documents = read_documents(text).unwrap();
        let specs = documents.iter().flat_map(|d| sanitise(d, &Options::default()).unwrap());
        Engine::new(specs.collect(), options)
    }

    fn engine() -> Engine {
        of_text(POLICIES, EngineOptions::default())
    }

    fn pod(app: &str) -> Party {
        let labels = ["k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=default"];
        let app = format!("k8s:app={app}");
        Party::new(1001, labels.into_iter().chain([&*app]))
    }

    fn paths(rules: &RuleRefs<'_>) -> Vec<String> {
        rules.list().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_decision_names_every_rule_behind_it() {
        let engine = engine();
        let web = engine.subject(&pod("web"));
        let decide = |peer: &Party, traffic| web.decide(peer, Direction::Ingress, traffic);
        let Decision::Allowed { by: Allowance::Rule, redirect: true, rules } =
            decide(&pod("client"), Traffic::tcp(80))
        else {
            panic!("a redirect")
        };
        let shop = "CiliumNetworkPolicy shop/web: spec";
        assert_eq!(paths(&rules), [format!("{shop}.ingress[1]"), format!("{shop}.ingress[0]")]);
        let world = Party::new(2, ["reserved:world"]);
        let Decision::Denied { rules } = decide(&world, Traffic::tcp(80)) else { panic!("denied") };
        assert_eq!(paths(&rules), [format!("{shop}.ingressDeny[0]")]);
        let Decision::DefaultDeny { because } = decide(&pod("other"), Traffic::tcp(80)) else {
            panic!("default deny")
        };
        assert_eq!(because.iter().map(|o| &*o.name).collect::<Vec<_>>(), ["web"]);
        assert_eq!(web.decide(&world, Direction::Egress, Traffic::tcp(80)), Decision::Unselected);
        assert!(web.is_default_deny(Direction::Ingress) && !web.is_default_deny(Direction::Egress));
        let other = engine.subject(&pod("other"));
        let open = other.decide(&world, Direction::Ingress, Traffic::tcp(80));
        assert!(matches!(open, Decision::Allowed { by: Allowance::NoDefaultDeny, .. }), "{open:?}");
        let host = decide(&Party::new(1, ["reserved:host"]), Traffic::tcp(80));
        assert!(matches!(host, Decision::Allowed { by: Allowance::Localhost, .. }), "{host:?}");
    }

    #[test]
    fn only_rules_that_match_are_named() {
        let engine = engine();
        let web = engine.subject(&pod("web"));
        let named = |traffic| match web.decide(&pod("client"), Direction::Ingress, traffic) {
            Decision::Allowed { by: Allowance::Rule, redirect, rules } => {
                assert_eq!(rules.first(), rules.list().first().copied());
                (
                    redirect,
                    paths(&rules).iter().map(|rule| rule.rsplit_once('.').unwrap().1.to_owned()).collect(),
                )
            }
            other => panic!("{other:?}"),
        };
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(named(Traffic::tcp(85)), (false, names(&["ingress[0]", "ingress[1]"])));
        assert_eq!(named(Traffic::tcp(91)), (false, names(&["ingress[0]"])));
        let ping = Traffic::Icmp { family: crate::flow::IcmpFamily::V4, kind: 8 };
        assert_eq!(named(ping), (false, names(&["ingress[0]", "ingress[0]"])));
        let nothing = engine.subject(&pod("other")).decide(&pod("x"), Direction::Ingress, Traffic::tcp(1));
        let Decision::Allowed { by: Allowance::NoDefaultDeny, rules, .. } = nothing else {
            panic!("allowed")
        };
        assert_eq!((rules.first(), rules.list()), (None, Vec::new()));
        assert_eq!(engine.specs().len(), 2);
    }

    /// Several items of one member, several labels of one peer: the rule is one.
    #[test]
    fn a_rule_that_means_a_peer_twice_is_named_once() {
        let text =
            POLICIES.replace("{app: client}", "{}").replace("[world]", "[remote-node, kube-apiserver]");
        let engine = of_text(&text, EngineOptions::default());
        let api = Party::new(7, ["reserved:kube-apiserver", "reserved:remote-node"]);
        let web = engine.subject(&pod("web"));
        let Decision::Denied { rules } = web.decide(&api, Direction::Ingress, Traffic::tcp(80)) else {
            panic!("denied")
        };
        assert_eq!(rules.list().len(), 1);
    }

    /// `fromRequires` (up to 1.18) adds to the endpoint selectors of all allow rules of a subject, or of all
    /// deny rules, and to nothing else.
    #[test]
    fn what_is_required_of_peers() {
        let text = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {}
  ingress:
  - fromEndpoints: [{matchLabels: {app: client}}]
  - fromEntities: [health]
  - fromRequires: [{matchLabels: {tier: front}}]
  ingressDeny:
  - fromEndpoints: [{matchLabels: {app: bad}}]
";
        let options = Options::of(Version::V1_18);
        let specs = sanitise(&read_documents(text).unwrap()[0], &options).unwrap();
        let engine = Engine::new(specs, EngineOptions::of(Version::V1_18));
        let web = engine.subject(&pod("web"));
        let check = |labels: &[&str], allowed: bool, denied: bool| {
            let namespace = "k8s:io.kubernetes.pod.namespace=shop";
            let peer = Party::new(1002, labels.iter().copied().chain([namespace]));
            let decision = web.decide(&peer, Direction::Ingress, Traffic::tcp(80));
            let got = (decision.is_allowed(), matches!(decision, Decision::Denied { .. }));
            assert_eq!(got, (allowed, denied), "{labels:?} {decision:?}");
        };
        check(&["k8s:app=client"], false, false);
        check(&["k8s:app=client", "k8s:tier=front"], true, false);
        check(&["k8s:tier=front"], false, false);
        check(&["reserved:health"], true, false);
        check(&["k8s:app=bad"], false, true);
    }

    #[test]
    fn where_nothing_is_enforced() {
        let check = |options: EngineOptions, subject: &Party, expected: bool| {
            let engine = of_text(POLICIES, options);
            let decision =
                engine.subject(subject).decide(&pod("x"), Direction::Egress, Traffic::tcp(80)).is_allowed();
            assert_eq!(decision, expected, "{subject:?}");
        };
        let mode = |mode| EngineOptions { mode, ..EngineOptions::default() };
        check(mode(EnablePolicy::Always), &pod("web"), false);
        check(mode(EnablePolicy::Always), &Party::new(2, ["reserved:world"]), true);
        check(mode(EnablePolicy::Default), &pod("web"), true);
        check(mode(EnablePolicy::Never), &Party::new(5, ["reserved:init"]), true);
        check(mode(EnablePolicy::Default), &Party::new(5, ["reserved:init"]), false);
        check(mode(EnablePolicy::Always), &Party::new(1, ["reserved:host"]), true);
        let firewall = EngineOptions { host_firewall: true, ..mode(EnablePolicy::Always) };
        check(firewall.clone(), &Party::new(1, ["reserved:host"]), false);
        assert_eq!(of_text(POLICIES, firewall.clone()).options(), &firewall);
    }

    #[test]
    fn a_prepared_peer_decides_the_same() {
        let engine = engine();
        let web = engine.subject(&pod("web"));
        let peers = [pod("client"), pod("other"), Party::new(2, ["reserved:world"])];
        for peer in &peers {
            let prepared = web.peer(peer);
            for traffic in [Traffic::tcp(80), Traffic::tcp(85), Traffic::udp(1), Traffic::Other] {
                for direction in [Direction::Ingress, Direction::Egress] {
                    assert_eq!(prepared.decide(direction, traffic), web.decide(peer, direction, traffic));
                }
            }
        }
    }

    #[test]
    fn decisions_differ_by_what_is_behind_them() {
        let engine = engine();
        let ask = |subject: &str, peer: &str, port| {
            engine.subject(&pod(subject)).decide(&pod(peer), Direction::Ingress, Traffic::tcp(port))
        };
        assert_eq!(ask("web", "client", 85), ask("web", "client", 90));
        assert_ne!(ask("web", "client", 85), ask("web", "client", 91));
        assert_eq!(ask("web", "x", 85), ask("web", "y", 1));
        let always = EngineOptions { mode: EnablePolicy::Always, ..EngineOptions::default() };
        let always = of_text(POLICIES, always);
        let forced = always.subject(&pod("none")).decide(&pod("x"), Direction::Ingress, Traffic::tcp(1));
        assert!(!forced.is_allowed() && forced != ask("web", "x", 1), "{forced:?}");
        for (decision, name) in [(ask("web", "client", 85), "Path"), (ask("web", "x", 85), "Origin")] {
            assert!(format!("{decision:?}").contains(name), "{decision:?}");
        }
    }

    /// Two policies of namespace shop, the second one for a job that the flow does not tell. The subject
    /// may be it or not.
    #[track_caller]
    fn check_uncertain(certain: &str, uncertain: &str, peer: &Party, expected: &str) {
        let policy = |(name, job, spec): (&str, &str, &str)| {
            format!(
                "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec:\n  endpointSelector: {{matchLabels: {{{job}}}}}\n  {spec}\n---\n"
            )
        };
        let policies = [("a", "app: web", certain), ("b", "job-name: x", uncertain)];
        let text: String = policies.into_iter().filter(|p| !p.2.is_empty()).map(policy).collect();
        let engine = of_text(&text, EngineOptions::default());
        let flow = crate::flow::Endpoint::new(1001, "shop", "p", "", ["k8s:app=web"]);
        let subject = engine.subject(&Party::from_identity(1001, &flow.identity, "default"));
        let got = match subject.decide(peer, Direction::Ingress, Traffic::tcp(80)) {
            Decision::Allowed { by, redirect, .. } => {
                format!("{by:?}{}", if redirect { " redirect" } else { "" })
            }
            Decision::Denied { .. } => "Denied".to_owned(),
            Decision::DefaultDeny { .. } => "DefaultDeny".to_owned(),
            Decision::Unselected => "Unselected".to_owned(),
            Decision::CouldNotCheck { field, rule } => match rule {
                Some(rule) => format!("{field} {}", rule.origin.name),
                None => field.to_string(),
            },
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn a_policy_that_may_select_counts_where_it_could_change_the_verdict() {
        let client = "fromEndpoints: [{matchLabels: {app: client}}]";
        let port = "toPorts: [{ports: [{port: '80', protocol: TCP}]";
        let (allow, deny) = (format!("ingress: [{{{client}}}]"), format!("ingressDeny: [{{{client}}}]"));
        let http = format!("ingress: [{{{client}, {port}, rules: {{http: [{{}}]}}}}]}}]");
        let other = "ingress: [{fromEntities: [health]}]";
        let open = |rules: &str| format!("enableDefaultDeny: {{ingress: false}}\n  {rules}");
        let (peer, host) = (pod("client"), Party::new(1, ["reserved:host"]));
        let check =
            |certain: &str, uncertain: &str, expected| check_uncertain(certain, uncertain, &peer, expected);
        check(&allow, &deny, "labels b");
        check(&deny, &deny, "Denied");
        check(&deny, &allow, "Denied");
        check(&allow, &http, "labels b");
        check(&http, &allow, "Rule redirect");
        check(&http, &http, "Rule redirect");
        check(&allow, other, "Rule");
        check(other, &allow, "labels b");
        check(other, other, "DefaultDeny");
        check(other, &http, "labels b");
        check(&open(other), &allow, "NoDefaultDeny");
        check(&open(other), &http, "labels b");
        check(&open(other), other, "labels");
        check(&open(other), &open(other), "NoDefaultDeny");
        check("", &allow, "Unselected");
        check("", other, "labels");
        check("", &open(other), "Unselected");
        check("", &deny, "labels b");
        check_uncertain("", other, &host, "Unselected");
        check_uncertain(&open(other), other, &host, "NoDefaultDeny");
        check_uncertain(other, &allow, &host, "Localhost");
    }

    #[test]
    fn labels_that_a_flow_does_not_tell() {
        let text = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: job, namespace: shop}
spec:
  endpointSelector: {matchLabels: {job-name: x}}
  ingress: [{fromEndpoints: [{matchLabels: {app: client}}]}]
";
        let documents = read_documents(text).unwrap();
        let engine =
            Engine::new(sanitise(&documents[0], &Options::default()).unwrap(), EngineOptions::default());
        let flow = crate::flow::Endpoint::new(1001, "shop", "p", "", ["k8s:app=web", "k8s:job-name=y"]);
        let subject = engine.subject(&Party::from_identity(1001, &flow.identity, "default"));
        let decide = |peer: &str| subject.decide(&pod(peer), Direction::Ingress, Traffic::tcp(80));
        assert_eq!(decide("other"), Decision::CouldNotCheck { field: Field::Labels, rule: None });
        assert!(decide("client").is_allowed(), "allowed whether it is selected or not");
    }
}
