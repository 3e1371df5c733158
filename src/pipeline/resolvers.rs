//! Rules for resolvers: a workload that gets rules by DNS name needs its lookups to go through Cilium's DNS
//! proxy, else no address is ever learnt by a name; and then every name that it asks for must be in these
//! rules, else the proxy refuses it.
//!
//! So they hold the names of the `toFQDNs` rules, and those that were seen to pass; for each resolver that the
//! workload was seen with, and those of its file. What they become is a function of the file and of everything
//! seen so far, not of the order; only where no resolver was seen is one guessed, at the end of a capture, or
//! one window later of a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::naming::{Fqdn, Names, Naming, looks_like_dns, usual};
use super::screening::Screening;
use super::writer::Moved;
use super::{Held, HeldBack, Results};
use crate::aggregate::{
    Lookups, Observation, Observed, ObservedPeer, Request, Resolver, Settled, Settling, Tally,
};
use crate::build::{self, subject_of};
use crate::classify::Skip;
use crate::evidence::stand_in;
use crate::flow::{Direction, Identity, Port, Protocol};
use crate::names::DnsName;
use crate::policy::{Allow, L7Match, Peer, Rule, RuleId, Subject};
use crate::screen::Query;
use crate::store::{NamesThere, Store};
use crate::text::{count, visible};

/// Workloads remembered that were seen with DNS.
const WORKLOADS: usize = 20_000;

/// Rules by subject, with what is behind each.
pub(super) type Behind = BTreeMap<Subject, BTreeMap<Rule, Vec<Observed>>>;

/// What is known of DNS in a session, and which of it is in the files.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    naming: Naming,
    /// All of the session; tallies of names hold what is in no evidence yet.
    lookups: Lookups,
    /// The workloads of each subject that were seen with DNS.
    identities: BTreeMap<Subject, BTreeSet<Arc<Identity>>>,
    /// How many of them.
    workloads: usize,
    /// Rules that are in a file, or need not be.
    settled: BTreeSet<RuleId>,
    /// Subjects with something new, or with something that is not in a file yet.
    due: BTreeSet<Subject>,
    /// Subjects of which no resolver was seen one window ago.
    unseen: BTreeSet<Subject>,
    /// Needs of foreign resolvers.
    foreign: HeldBack,
}

/// A resolver of a subject, as a rule names it.
type Targets = BTreeMap<(Peer, Port), Option<(Arc<Identity>, Resolver)>>;

// === impl Resolvers ===

impl Resolvers {
    pub(super) fn new(naming: Naming) -> Self {
        Self { naming, ..Self::default() }
    }

    /// Takes in what a window knows of DNS.
    pub(super) fn learn(&mut self, settled: &mut Settled, names: &mut Names) {
        let lookups = std::mem::take(&mut settled.lookups);
        for (identity, name, tally) in lookups.refused() {
            names.refuse(in_words(identity), name, tally.events());
        }
        let mut seen: BTreeSet<Arc<Identity>> = lookups.subjects().cloned().collect();
        self.lookups.join(lookups);
        for (observation, tally) in &settled.ready {
            if observation.direction == Direction::Egress
                && observation.request.is_none()
                && let Some(resolver) = Resolver::of(observation).filter(looks_like_dns)
            {
                self.lookups.tried(&observation.subject, resolver, tally);
                seen.insert(Arc::clone(&observation.subject));
            }
        }
        for identity in seen {
            let Ok(subject) = subject_of(&identity) else { continue };
            self.due.insert(subject.clone());
            let known = self.identities.entry(subject).or_default();
            if !known.contains(&identity) && self.workloads < WORKLOADS {
                self.workloads += 1;
                known.insert(identity);
            }
        }
        names.unusable = self.lookups.unusable();
        if (self.lookups.is_cut() || self.workloads >= WORKLOADS) && !names.cut {
            tracing::warn!(
                "the table of DNS queries is full: rules for resolvers lack names (narrow the run with --namespace)"
            );
            names.cut = true;
        }
    }

    /// Holds back what is not to be written: foreign resolvers, and with `--fqdn only` what has no name.
    pub(super) fn hold(
        &mut self,
        needs: Vec<Observed>,
        results: &mut Results,
        moved: &mut Moved,
    ) -> Vec<Observed> {
        if self.naming.fqdn == Fqdn::Off {
            return needs;
        }
        let mut rest = Vec::new();
        for need in needs {
            let (observation, tally) = &need;
            match self.held(observation) {
                None => rest.push(need),
                Some(held) => {
                    moved.push((held.reason, tally.events()));
                    let back = match held.reason {
                        Skip::ForeignResolver => &mut self.foreign,
                        _ => &mut results.held,
                    };
                    back.add(held, tally.events());
                }
            }
        }
        rest
    }

    fn held(&self, observation: &Observation) -> Option<Held> {
        if observation.direction != Direction::Egress {
            return None;
        }
        let address = match &observation.peer {
            ObservedPeer::World(address) | ObservedPeer::Named { address, .. } => Some(*address),
            ObservedPeer::Pod(_) | ObservedPeer::Entity(_) => None,
        };
        // What goes to a pod or a node is no leak; a name that was asked there may be.
        let asks = |resolver: &Resolver| {
            matches!(observation.request, Some(Request::Dns(_)))
                || address.is_some() && looks_like_dns(resolver)
        };
        let who = || in_words(&observation.subject);
        match (Resolver::of(observation).filter(asks), address) {
            (Some(resolver), _) if self.naming.means(&resolver) => None,
            (Some(resolver), _) if !self.naming.accepts(&resolver) => {
                let (whom, flag) = resolver_in_words(&resolver);
                let port = resolver.port;
                Some(Held {
                    reason: Skip::ForeignResolver,
                    who: who(),
                    what: format!("asks {whom} port {port}, which is not the cluster's DNS"),
                    proposal: format!(
                        "--resolver {flag} writes it, and whoever answers there is told what is asked for"
                    ),
                })
            }
            (_, Some(address))
                if self.naming.fqdn == Fqdn::Only && matches!(observation.peer, ObservedPeer::World(_)) =>
            {
                Some(Held {
                    reason: Skip::UnnamedWorld,
                    who: who(),
                    what: format!("egress to {address} {}", observation.allow),
                    proposal: format!("--fqdn auto writes {}", Peer::address(address)),
                })
            }
            _ => None,
        }
    }

    /// The rules for resolvers that are to be in the files now and are not known to be. `behind` is what else
    /// is going to be written.
    pub(super) fn rules(
        &mut self,
        store: &mut Store,
        screening: &mut Screening,
        behind: &Behind,
        when: Settling,
        results: &mut Results,
    ) -> Behind {
        let mut all = Behind::new();
        if self.naming.fqdn == Fqdn::Off {
            return all;
        }
        let named = |rules: &BTreeMap<Rule, Vec<Observed>>| {
            rules.keys().any(|rule| matches!(rule.peer, Peer::Fqdn(_)))
        };
        self.due.extend(behind.iter().filter(|(_, rules)| named(rules)).map(|(subject, _)| subject.clone()));
        if when == Settling::Final {
            self.due.extend(std::mem::take(&mut self.unseen));
        }
        for subject in std::mem::take(&mut self.due) {
            let there = store.names_of(&subject);
            let names = self.names(&subject, &there, behind.get(&subject));
            if names.is_empty() {
                continue;
            }
            let seen = self.seen(&subject);
            if !seen.is_empty() {
                results.names.guessed.remove(&subject);
            }
            let mut targets: Targets = there.resolvers.into_iter().map(|known| (known, None)).collect();
            targets.extend(seen);
            if targets.is_empty() {
                let waited = self.unseen.remove(&subject);
                match when {
                    Settling::Final => {}
                    Settling::Window if waited => {}
                    Settling::Window | Settling::Interim => {
                        // The next window looks again; a resolver may be seen by then.
                        self.unseen.insert(subject.clone());
                        continue;
                    }
                }
                targets = self.guess(&subject, behind.get(&subject), &mut results.names);
            } else {
                self.unseen.remove(&subject);
            }
            let rules = self.of_subject(&subject, &names, &targets, store, screening, results);
            if !rules.is_empty() {
                all.insert(subject, rules);
            }
        }
        if when == Settling::Window {
            self.due.extend(self.unseen.iter().cloned());
        }
        all
    }

    /// The names that a subject's lookups are to be allowed for, with what is behind each; none where it has
    /// no rule by name.
    fn names(
        &self,
        subject: &Subject,
        there: &NamesThere,
        behind: Option<&BTreeMap<Rule, Vec<Observed>>>,
    ) -> BTreeMap<DnsName, Tally> {
        let mut names: BTreeMap<DnsName, Tally> =
            there.names.iter().map(|name| (name.clone(), Tally::default())).collect();
        for (rule, observed) in behind.into_iter().flatten() {
            if let Peer::Fqdn(name) = &rule.peer {
                let known = names.entry(name.clone()).or_default();
                observed.iter().for_each(|(_, tally)| known.join(tally.clone()));
            }
        }
        if names.is_empty() {
            return names;
        }
        for identity in self.identities.get(subject).into_iter().flatten() {
            let asked = self.lookups.names(identity);
            for (name, _, tally) in asked.filter(|(_, resolver, _)| self.naming.accepts(resolver)) {
                names.entry(name.clone()).or_default().join(tally.clone());
            }
        }
        names
    }

    /// The resolvers that the workloads of a subject were seen with, as far as somebody vouches for them.
    fn seen(&self, subject: &Subject) -> Targets {
        let workloads = self.identities.get(subject).into_iter().flatten();
        workloads.flat_map(|identity| self.seen_by(identity)).collect()
    }

    /// The resolvers that a workload was seen with, but for those that nobody vouches for.
    fn seen_by(&self, identity: &Arc<Identity>) -> Targets {
        let target = |resolver: &Resolver| {
            let peer = peer(identity, resolver)?;
            Some(((peer, resolver.port), Some((Arc::clone(identity), resolver.clone()))))
        };
        let seen = self.lookups.resolvers(identity).map(|(resolver, _)| resolver);
        seen.filter(|resolver| self.naming.accepts(resolver)).filter_map(target).collect()
    }

    /// Whom a subject may ask of which no DNS traffic was seen: whom the user names, else whom other workloads
    /// of its namespace ask, else the usual one.
    fn guess(
        &self,
        subject: &Subject,
        behind: Option<&BTreeMap<Rule, Vec<Observed>>>,
        names: &mut Names,
    ) -> Targets {
        let mut targets: Targets =
            self.naming.meant(&subject.namespace).into_iter().map(|target| (target, None)).collect();
        if !targets.is_empty() {
            return targets;
        }
        for (other, identities) in &self.identities {
            if other.namespace == subject.namespace {
                identities.iter().for_each(|identity| targets.extend(self.seen_by(identity)));
            }
        }
        // It is this subject that is going to ask.
        let mut needs = behind.into_iter().flat_map(BTreeMap::values).flatten();
        let own = needs.next().map(|(observation, _)| Arc::clone(&observation.subject));
        for target in targets.values_mut() {
            *target = own.clone().zip(target.take().map(|(_, resolver)| resolver));
        }
        let of_others = !targets.is_empty();
        if !of_others {
            targets.extend(usual(&subject.namespace).map(|target| (target, None)));
        }
        let who: Vec<String> = targets.keys().map(|(peer, port)| format!("{peer} port {port}")).collect();
        let whose = if of_others { "the resolver of its namespace" } else { "the usual resolver" };
        let guess = format!("{whose}, {}", who.join(" and "));
        if names.guessed.insert(subject.clone(), guess.clone()).as_ref() != Some(&guess) {
            tracing::warn!(policy = %subject, "it was not seen to ask the cluster's DNS: its rule for lookups names {guess}; --resolver names another");
        }
        targets
    }

    fn of_subject(
        &self,
        subject: &Subject,
        names: &BTreeMap<DnsName, Tally>,
        targets: &Targets,
        store: &Store,
        screening: &mut Screening,
        results: &mut Results,
    ) -> BTreeMap<Rule, Vec<Observed>> {
        let mut rules = BTreeMap::new();
        for ((peer, port), seen) in targets {
            // By what is in the way, which names it keeps out.
            let mut kept_out: BTreeMap<String, BTreeSet<&DnsName>> = BTreeMap::new();
            for (name, tally) in names {
                for protocol in [Protocol::Udp, Protocol::Tcp] {
                    let rule = Rule {
                        direction: Direction::Egress,
                        peer: peer.clone(),
                        allow: Allow::Port(protocol, *port),
                        l7: Some(L7Match::Dns(name.clone())),
                    };
                    if tally.events() == 0 && self.settled.contains(&rule.id(subject)) {
                        continue;
                    }
                    let observation = match seen {
                        Some((identity, resolver)) => {
                            Observation { allow: rule.allow, ..resolver.asked(identity, name) }
                        }
                        None => stand_in(subject, &rule),
                    };
                    match screening.query(store, &observation) {
                        Query::New => {
                            rules.insert(rule, vec![(observation, tally.clone())]);
                        }
                        Query::Passed(_) => {}
                        Query::Denied(by) => {
                            let by = by.first().map(ToString::to_string).unwrap_or_default();
                            let why = format!("{by} denies it");
                            kept_out.entry(why).or_default().insert(name);
                        }
                        Query::Open(by) => {
                            let by = by.first().map(ToString::to_string).unwrap_or_default();
                            let why = format!(
                                "{by} allows every lookup, and rules for names beside it would take the others away"
                            );
                            kept_out.entry(why).or_default().insert(name);
                        }
                    }
                }
            }
            for (why, names) in kept_out {
                let shown: Vec<&str> = names.iter().take(3).map(|name| name.as_str()).collect();
                let held = Held {
                    reason: Skip::NarrowsResolver,
                    who: subject.to_string(),
                    what: format!(
                        "lookups of {} ({}) at {peer} port {port} through the DNS proxy: {}",
                        count(names.len() as u64, "name"),
                        shown.join(", "),
                        visible(&why, 600)
                    ),
                    proposal: format!(
                        "until that rule allows port {port} itself with `dns` rules, Cilium learns no address by these names"
                    ),
                };
                if !results.held.iter().any(|(known, _)| *known == held) {
                    tracing::warn!(policy = %subject, "a rule for lookups is not written: {}", held.what);
                    results.held.add(held, 0);
                }
            }
        }
        rules
    }

    /// These rules are in a file: what is behind them is told.
    pub(super) fn written(&mut self, subject: &Subject, rules: &BTreeMap<Rule, Vec<Observed>>) {
        for rule in rules.keys() {
            self.settled.insert(rule.id(subject));
            let Some(L7Match::Dns(name)) = &rule.l7 else { continue };
            for identity in self.identities.get(subject).into_iter().flatten() {
                self.lookups.told(identity, name);
            }
        }
    }

    /// These rules are in no file yet: the next window tries again.
    pub(super) fn failed(&mut self, subjects: impl IntoIterator<Item = Subject>) {
        self.due.extend(subjects);
    }

    /// Tells anew which foreign resolvers were seen: of needs, and of lookups by workloads with rules by name.
    pub(super) fn tell_foreign(&self, store: &Store, results: &mut Results) {
        results.held.clear(Skip::ForeignResolver);
        for (held, flows) in self.foreign.iter() {
            results.held.add(held.clone(), flows);
        }
        for (subject, identities) in &self.identities {
            let mut foreign: BTreeMap<&Resolver, u64> = BTreeMap::new();
            for (resolver, tally) in identities.iter().flat_map(|identity| self.lookups.resolvers(identity)) {
                if !self.naming.accepts(resolver) {
                    *foreign.entry(resolver).or_default() += tally.events();
                }
            }
            if foreign.is_empty() || store.names_of(subject).names.is_empty() {
                continue;
            }
            for (resolver, flows) in foreign {
                let (who, flag) = resolver_in_words(resolver);
                let held = Held {
                    reason: Skip::ForeignResolver,
                    who: subject.to_string(),
                    what: format!(
                        "looks names up at {who} port {}, which is not the cluster's DNS",
                        resolver.port
                    ),
                    proposal: format!("--resolver {flag} writes a rule for it"),
                };
                results.held.add(held, flows);
            }
        }
    }
}

/// A resolver as a rule of this subject names it.
fn peer(identity: &Arc<Identity>, resolver: &Resolver) -> Option<Peer> {
    let observation = Observation {
        subject: Arc::clone(identity),
        direction: Direction::Egress,
        peer: resolver.peer.clone(),
        allow: Allow::Port(Protocol::Udp, resolver.port),
        request: None,
    };
    let (_, rules) = build::rules(&observation).ok()?;
    rules.into_iter().next().map(|rule| rule.peer)
}

/// A resolver, and what `--resolver` calls it.
fn resolver_in_words(resolver: &Resolver) -> (String, String) {
    match &resolver.peer {
        ObservedPeer::Pod(identity) => match subject_of(identity) {
            Ok(subject) => (subject.to_string(), subject.to_string()),
            Err(_) => ("a pod without usable labels".to_owned(), "NAMESPACE/key=value".to_owned()),
        },
        ObservedPeer::Entity(entity) => (entity.as_str().to_owned(), entity.as_str().to_owned()),
        ObservedPeer::World(address) | ObservedPeer::Named { address, .. } => {
            (address.to_string(), address.to_string())
        }
    }
}

fn in_words(identity: &Identity) -> String {
    subject_of(identity).map_or_else(|_| "a workload without usable labels".to_owned(), |s| s.to_string())
}
