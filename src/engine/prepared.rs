//! What is enforced on one subject, and the decision itself.

use super::AllowLocalhost;
use super::decision::{Allowance, Decision, Field, RuleRef};
use super::l4::{Names, Traffic};
use super::party::Party;
use super::peer::{PeerTest, World};
use super::selector::{Match, Selector};
use super::set::Engine;
use crate::flow::{Direction, Reserved};
use crate::policy::spec::Version;

/// What is enforced on one subject.
#[derive(Debug, Clone)]
pub struct Prepared<'e> {
    engine: &'e Engine,
    party: Party,
    ingress: Side,
    egress: Side,
    conflict: Option<RuleRef<'e>>,
}

/// One direction of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    /// Numbers in the rules of this direction, and whether their spec selects the subject at all.
    pub(super) entries: Vec<(usize, Match)>,
    /// The specs that put the subject into default deny.
    pub(super) default_deny: Vec<usize>,
    /// There are specs with rules that do not.
    pub(super) has_others: bool,
    /// Specs that may select the subject, whether they would put it into default deny, and what it
    /// depends on.
    pub(super) open: Vec<(usize, bool, Field)>,
    /// In default deny without any spec.
    pub(super) forced: bool,
    /// `fromRequires` / `toRequires` of all allow rules (up to 1.18).
    pub(super) requires: Selector,
    /// The same of all deny rules.
    pub(super) requires_deny: Selector,
}

/// A peer of a prepared subject, with the rules that reach it.
#[derive(Debug, Clone)]
pub struct Peer<'p> {
    subject: &'p Prepared<'p>,
    party: Party,
    ingress: Vec<Reached>,
    egress: Vec<Reached>,
}

/// An entry whose peers mean the peer, or may.
#[derive(Debug, Clone, Copy)]
struct Reached {
    entry: usize,
    /// Whether its spec selects the subject.
    selected: Match,
    /// Whether its peers mean the peer.
    how: Match,
}

/// What matched.
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
        [ingress, egress]: [Side; 2],
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
        let side = self.side(direction);
        let hits = if self.conflict.is_some() {
            Hits::default()
        } else {
            let reached = side.entries.iter().filter_map(|(number, selected)| {
                let how = self.reaches(side, direction, *number, peer, &mut None);
                (how != Match::No).then_some(Reached { entry: *number, selected: *selected, how })
            });
            self.hits(direction, peer, traffic, reached)
        };
        self.conclude(direction, peer, hits)
    }

    /// Prepares one peer for many questions.
    pub fn peer(&self, party: &Party) -> Peer<'_> {
        let reached = |direction: Direction| {
            let side = self.side(direction);
            let mut known = Some(vec![None; self.engine.rules(direction).tests.len()]);
            let reach = |(number, selected): &(usize, Match)| {
                let how = self.reaches(side, direction, *number, party, &mut known);
                (how != Match::No).then_some(Reached { entry: *number, selected: *selected, how })
            };
            side.entries.iter().filter_map(reach).collect()
        };
        let (ingress, egress) = (reached(Direction::Ingress), reached(Direction::Egress));
        Peer { subject: self, party: party.clone(), ingress, egress }
    }

    pub(super) fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Whether an entry's peers mean this party. `known` remembers what each test said.
    fn reaches(
        &self,
        side: &Side,
        direction: Direction,
        number: usize,
        party: &Party,
        known: &mut Option<Vec<Option<Match>>>,
    ) -> Match {
        let rules = self.engine.rules(direction);
        let entry = &rules.entries[number];
        let requires = if entry.deny { &side.requires_deny } else { &side.requires };
        let world = World { options: &self.engine.options, direction };
        let mut any = Match::No;
        for number in &entry.peers.0 {
            let test = &rules.tests[*number];
            let mut says = match known.as_mut().map(|k| &mut k[*number]) {
                Some(Some(before)) => *before,
                Some(slot) => *slot.insert(test.matches(party, world)),
                None => test.matches(party, world),
            };
            if matches!(test, PeerTest::Endpoints(_)) && !requires.is_wildcard() {
                says = says.and(|| requires.matches(party, Field::Labels));
            }
            any = any.or(|| says);
            if any == Match::Yes {
                break;
            }
        }
        any
    }

    fn hits(
        &self,
        direction: Direction,
        peer: &Party,
        traffic: Traffic,
        reached: impl Iterator<Item = Reached>,
    ) -> Hits {
        let rules = self.engine.rules(direction);
        let names = Names { options: &self.engine.options, direction, subject: &self.party, peer };
        let mut hits = Hits::default();
        for Reached { entry: number, selected, how } in reached {
            let entry = &rules.entries[number];
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
        let side = self.side(direction);
        let rules = self.engine.rules(direction);
        let refer = |number: usize| self.engine.rule_ref(direction, &rules.entries[number]);
        let open = |(field, number)| Decision::CouldNotCheck { field, rule: Some(refer(number)) };
        if let Some(rule) = self.conflict {
            return Decision::CouldNotCheck { field: Field::Conflict, rule: Some(rule) };
        }
        if !hits.deny.is_empty() {
            return Decision::Denied { rules: self.refs(direction, &hits.deny, &[]) };
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
            let rules = self.refs(direction, &hits.redirect, &hits.allow);
            return Decision::Allowed { by: Allowance::Rule, redirect, rules };
        }
        let otherwise = self.unmatched(side, direction, peer, &hits.own);
        match hits.open_redirect.or(hits.open_allow) {
            Some(other) if hits.open_redirect.is_some() || !otherwise.is_allowed() => open(other),
            _ => otherwise,
        }
    }

    /// What holds when no rule matches. `own`: see [`Hits::own`].
    fn unmatched(&self, side: &Side, direction: Direction, peer: &Party, own: &[usize]) -> Decision<'e> {
        let options = &self.engine.options;
        let selected = side.has_others || !side.default_deny.is_empty();
        let denying = side.forced || !side.default_deny.is_empty();
        let maybe_denying =
            side.open.iter().find(|(spec, default_deny, _)| *default_deny && !own.contains(spec));
        let host = match options.version {
            Version::V1_20 => peer.is(Reserved::Host) && selected,
            _ => peer.number == 1 || peer.is_host(),
        };
        let localhost = host
            && direction == Direction::Ingress
            && options.allow_localhost == AllowLocalhost::Always
            && !self.party.is_host();
        let allowed = |by| Decision::Allowed { by, redirect: false, rules: Vec::new() };
        if !denying {
            return match maybe_denying {
                Some((_, _, field)) if !localhost => Decision::CouldNotCheck { field: *field, rule: None },
                _ if selected => allowed(Allowance::NoDefaultDeny),
                _ => Decision::Unselected,
            };
        }
        if localhost {
            return allowed(Allowance::Localhost);
        }
        let because = side.default_deny.iter().map(|spec| &self.engine.spec(*spec).origin).collect();
        Decision::DefaultDeny { because }
    }

    /// What narrows a matching rule beyond layer 4, if no other rule lifts it.
    ///
    /// Authentication holds for every entry below the one that asks for it. Server names are asked for
    /// unless a rule with another peer selector lets the same packet through: rules with one selector
    /// and port are joined, and then ask for the name, all of them.
    fn narrowed(&self, direction: Direction, peer: &Party, hits: &Hits) -> Option<(Field, usize)> {
        let rules = self.engine.rules(direction);
        let entry = |number: usize| &rules.entries[number];
        let all = || hits.redirect.iter().chain(&hits.allow).copied();
        if let Some(number) = all().find(|n| entry(*n).authentication) {
            return Some((Field::Authentication, number));
        }
        let asking = all().find(|n| entry(*n).filter.sni)?;
        let world = World { options: &self.engine.options, direction };
        let by = |number: usize| {
            entry(number).peers.0.iter().filter(move |t| rules.tests[**t].matches(peer, world) == Match::Yes)
        };
        let asked: Vec<&usize> = all().filter(|n| entry(*n).filter.sni).flat_map(by).collect();
        let lifted = all().filter(|n| !entry(*n).filter.sni).flat_map(by).any(|test| !asked.contains(&test));
        if lifted { None } else { Some((Field::ServerNames, asking)) }
    }

    /// The rules of some entries, each once. Both lists are in the order of the rules.
    fn refs(&self, direction: Direction, first: &[usize], then: &[usize]) -> Vec<RuleRef<'e>> {
        let entries = &self.engine.rules(direction).entries;
        let refer = |number: &usize| self.engine.rule_ref(direction, &entries[*number]);
        let mut all: Vec<RuleRef<'e>> = Vec::with_capacity(first.len() + then.len());
        all.extend(first.iter().map(refer));
        all.dedup();
        let redirecting = all.len();
        for rule in then.iter().map(refer) {
            if all.last() != Some(&rule) && !all[..redirecting].contains(&rule) {
                all.push(rule);
            }
        }
        all
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
        let hits = self.subject.hits(direction, &self.party, traffic, reached.iter().copied());
        self.subject.conclude(direction, &self.party, hits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineOptions;
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

    fn engine() -> Engine {
        let documents = read_documents(POLICIES).unwrap();
        let specs = documents.iter().flat_map(|d| sanitise(d, &Options::default()).unwrap());
        Engine::new(specs.collect(), EngineOptions::default())
    }

    fn pod(app: &str) -> Party {
        let labels = ["k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=default"];
        let app = format!("k8s:app={app}");
        Party::new(1001, labels.into_iter().chain([&*app]))
    }

    fn paths(rules: &[RuleRef<'_>]) -> Vec<String> {
        rules.iter().map(ToString::to_string).collect()
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
