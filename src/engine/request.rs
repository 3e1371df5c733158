//! What is inside of a connection that goes to a proxy: would the proxy let it pass?
//!
//! - **HTTP** is Envoy's to decide: the union of all allow rules that mean peer and port, however broadly.
//!   One without HTTP rules lets every request pass.
//! - **DNS** is the agent's own proxy: only rules for that very port and protocol count, so that a broader
//!   plain rule lifts nothing.
//! - **TLS** server names are Envoy's: rules with one peer selector and one port are joined, and then all
//!   ask for a name; what is not joined is a union.
//!
//! The DNS part is held against Cilium's proxy by the conformance test. For the other two there are tables
//! in the tests, written from what the agent sends to Envoy and from Cilium's filters for it
//! (`cilium/network_policy.cc` of `cilium/proxy`); no Envoy was run.
//!
//! Known limits, both Cilium's own slips when it joins lists of one selector and port: a list with one item
//! twice can swallow another list of the same length, and a list of three items can be overwritten by that of
//! another subject. Here both lists count.

use super::conflict;
use super::decision::{Allowance, Decision, Field, RuleRef};
use super::l4::{Names, Traffic};
use super::party::Party;
use super::peer::World;
use super::prepared::{Peer, Prepared};
use super::selector::Match;
use super::set::{Entry, Tests};
use super::side::Reached;
use super::{AllowLocalhost, fqdn};
use crate::flow::Direction;
use crate::policy::spec::{IpProtocol, PortMatch, PortRule, PortSpec, Version};

/// What is asked of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// An HTTP request.
    Http(HttpRequest<'a>),
    /// A DNS query for a name, in any case and with or without the last dot. Its type decides nothing.
    Dns {
        /// The name.
        name: &'a str,
    },
    /// A TLS handshake.
    Tls {
        /// The server name; `None` where the client sends none.
        sni: Option<&'a str>,
    },
}

/// An HTTP request as Envoy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpRequest<'a> {
    /// The method; its case matters.
    pub method: &'a str,
    /// `:path`: with the query, percent-encoded as sent.
    pub path: &'a str,
    /// `:authority`: with the port, if the client sent one. `None` = not known.
    pub host: Option<&'a str>,
    /// All headers by name and value; `None` = not known.
    pub headers: Option<&'a [(&'a str, &'a str)]>,
}

/// What becomes of a request on one side.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestDecision<'e> {
    /// No proxy is asked: what becomes of the connection becomes of the request.
    Connection(Decision<'e>),
    /// The proxy lets it pass.
    Allowed {
        /// By what.
        by: Allowance,
        /// The rules that let it pass, in the order of the policies; empty where it is no rule.
        rules: Vec<RuleRef<'e>>,
    },
    /// The proxy refuses it.
    Refused {
        /// The rules that were asked: none lets it pass.
        asked: Vec<RuleRef<'e>>,
    },
    /// It depends on something that is not known here.
    CouldNotCheck {
        /// On what.
        field: Field,
        /// In which rule; `None` when it is no single one.
        rule: Option<RuleRef<'e>>,
    },
}

/// A request, and the allow rules that mean its connection or may.
struct Asked<'p, 'e> {
    subject: &'p Prepared<'e>,
    peer: &'p Party,
    direction: Direction,
    protocol: IpProtocol,
    port: u16,
    /// In the order of the policies.
    candidates: Vec<Candidate<'e>>,
}

/// One of these rules.
struct Candidate<'e> {
    entry: &'e Entry,
    item: &'e PortRule,
    /// Whether it means the connection.
    how: Match,
}

/// Rules that the agent has joined: one peer selector, one port.
#[derive(Default)]
struct Joined<'e> {
    test: usize,
    port: Option<&'e PortSpec>,
    asks: bool,
    names_it: bool,
    http: bool,
    terminated: bool,
}

// === impl RequestDecision ===

impl RequestDecision<'_> {
    /// Whether the request is let through.
    pub fn is_allowed(&self) -> bool {
        match self {
            Self::Connection(decision) => decision.is_allowed(),
            Self::Allowed { .. } => true,
            Self::Refused { .. } | Self::CouldNotCheck { .. } => false,
        }
    }
}

// === impl Prepared ===

impl<'e> Prepared<'e> {
    /// Decides about a request on a connection whose first packet is `traffic`, to (egress) or from
    /// (ingress) the peer.
    pub fn decide_request(
        &self,
        peer: &Party,
        direction: Direction,
        traffic: Traffic,
        request: &Request<'_>,
    ) -> RequestDecision<'e> {
        let peer = &*self.engine().options.completed(peer);
        let reached = self.reached(direction, peer);
        self.request(peer, direction, traffic, &reached, request)
    }

    fn request(
        &self,
        peer: &Party,
        direction: Direction,
        traffic: Traffic,
        reached: &[Reached],
        request: &Request<'_>,
    ) -> RequestDecision<'e> {
        let with_names = !matches!(request, Request::Tls { .. });
        let decision = self.decide_reached(peer, direction, traffic, reached, with_names);
        let (Decision::Allowed { redirect: true, .. }, Traffic::Port { protocol, port }) =
            (&decision, traffic)
        else {
            return RequestDecision::Connection(decision);
        };
        let candidates = self.candidates(peer, direction, traffic, reached);
        let asked = Asked { subject: self, peer, direction, protocol, port, candidates };
        match request {
            Request::Http(request) => asked.http(request),
            Request::Dns { name } => asked.dns(&fqdn::normal(name)),
            Request::Tls { sni } => asked.tls(sni.unwrap_or_default()),
        }
    }

    fn candidates(
        &self,
        peer: &Party,
        direction: Direction,
        traffic: Traffic,
        reached: &[Reached],
    ) -> Vec<Candidate<'e>> {
        let mut all = Vec::new();
        self.each_hit(direction, peer, traffic, reached, |group, entry, how, _| {
            let how = group.selected.and(|| how);
            if !entry.deny && how != Match::No {
                let engine = self.engine();
                for number in group.others.iter().chain([&group.first]) {
                    let entry = &engine.rules(direction).entries[*number];
                    all.push((*number, Candidate { entry, item: engine.item(direction, entry), how }));
                }
            }
        });
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, candidate)| candidate).collect()
    }
}

// === impl Peer ===

impl<'p> Peer<'p> {
    /// As [`Prepared::decide_request`].
    pub fn decide_request(
        &self,
        direction: Direction,
        traffic: Traffic,
        request: &Request<'_>,
    ) -> RequestDecision<'p> {
        let (subject, party, reached) = self.parts(direction);
        subject.request(party, direction, traffic, reached, request)
    }
}

// === impl Asked ===

impl<'e> Asked<'_, 'e> {
    fn http(&self, request: &HttpRequest<'_>) -> RequestDecision<'e> {
        if let Err(open) = self.goes_to(&["http", "tls"]) {
            return open;
        }
        self.weigh(self.candidates.iter(), |candidate| {
            match candidate.tests() {
                // These count for a listener of their own only.
                _ if candidate.item.listener.is_some() => Match::Unknown(Field::Listener),
                Some(Tests::Http(tests)) => {
                    tests.iter().fold(Match::No, |any, test| any.or(|| test.matches(request)))
                }
                // Joined with a listener's rule it counts there.
                _ if self.has_listener() => Match::Unknown(Field::Listener),
                _ => Match::Yes,
            }
        })
    }

    fn dns(&self, name: &str) -> RequestDecision<'e> {
        if let Err(open) = self.goes_to(&["dns"]) {
            return open;
        }
        // Rules of one port make one list in the proxy: the number, or the name that stands for it.
        let mut lists: Vec<&PortSpec> = Vec::new();
        for candidate in self.candidates.iter().filter(|c| matches!(c.tests(), Some(Tests::Dns(_)))) {
            lists.extend(self.ports(candidate).filter(|spec| !lists.contains(spec)).collect::<Vec<_>>());
        }
        let [list] = lists.as_slice() else {
            return RequestDecision::CouldNotCheck { field: Field::Port, rule: None };
        };
        let of_list = self.candidates.iter().filter(|c| self.ports(c).any(|spec| spec == *list));
        self.weigh(of_list, |candidate| match candidate.tests() {
            Some(Tests::Dns(patterns)) => patterns.iter().any(|pattern| pattern.matches(name)).into(),
            _ => Match::Yes,
        })
    }

    /// Concludes from what each of these rules says to the request.
    fn weigh<'c>(
        &self,
        candidates: impl Iterator<Item = &'c Candidate<'e>>,
        says: impl Fn(&Candidate<'e>) -> Match,
    ) -> RequestDecision<'e>
    where
        'e: 'c,
    {
        let (mut allowing, mut asked, mut open) = (Vec::new(), Vec::new(), None);
        for candidate in candidates {
            match candidate.how.and(|| says(candidate)) {
                Match::Yes => allowing.push(self.refer(candidate)),
                Match::No => asked.push(self.refer(candidate)),
                Match::Unknown(field) => open = open.or(Some((field, self.refer(candidate)))),
            }
        }
        self.conclude(allowing, asked, open)
    }

    fn tls(&self, name: &str) -> RequestDecision<'e> {
        if let Err(open) = self.goes_to(&["http", "tls"]) {
            return open;
        }
        if self.protocol != IpProtocol::Tcp {
            return RequestDecision::CouldNotCheck { field: Field::ServerNames, rule: None };
        }
        let certain = |c: &&Candidate<'_>| c.how == Match::Yes && c.item.listener.is_none();
        let mut joined: Vec<Joined<'e>> = Vec::new();
        for candidate in self.candidates.iter().filter(certain) {
            for key in self.keys(candidate) {
                let at = joined.iter().position(|j| (j.test, j.port) == key).unwrap_or_else(|| {
                    joined.push(Joined { test: key.0, port: key.1, ..Joined::default() });
                    joined.len() - 1
                });
                let one = &mut joined[at];
                one.asks |= candidate.asks_for_names();
                one.names_it |= candidate.names(name);
                one.http |= matches!(candidate.tests(), Some(Tests::Http(_)));
                one.terminated |= candidate.item.terminating_tls.is_some();
            }
        }
        if joined.iter().any(|j| j.http && !j.terminated) {
            // Envoy would read the handshake as a request.
            return RequestDecision::CouldNotCheck { field: Field::Rules, rule: None };
        }
        let lets_pass = |j: &&Joined<'_>| !j.asks || j.names_it;
        let (mut allowing, mut asked) = (Vec::new(), Vec::new());
        for candidate in self.candidates.iter().filter(certain) {
            let counts = |j: &&Joined<'_>| self.keys(candidate).any(|key| key == (j.test, j.port));
            if joined.iter().filter(counts).any(|j| lets_pass(&j))
                && (candidate.names(name) || !candidate.asks_for_names())
            {
                allowing.push(self.refer(candidate));
            } else if candidate.asks_for_names() {
                asked.push(self.refer(candidate));
            }
        }
        let uncertain = self.candidates.iter().find(|c| !certain(c));
        // One more rule can make a list longer or ask where nobody asked; it takes no name off.
        let by_name = joined.iter().any(|j| j.names_it);
        if let Some(candidate) = uncertain.filter(|_| !by_name) {
            let field = match candidate.how {
                Match::Unknown(field) => field,
                _ => Field::Listener,
            };
            return self.open(field, candidate);
        }
        self.conclude(allowing, asked, None)
    }

    /// What of these holds, or what lets every request pass.
    fn conclude(
        &self,
        allowing: Vec<RuleRef<'e>>,
        mut asked: Vec<RuleRef<'e>>,
        open: Option<(Field, RuleRef<'e>)>,
    ) -> RequestDecision<'e> {
        if !allowing.is_empty() {
            let mut rules = allowing;
            rules.dedup();
            return RequestDecision::Allowed { by: Allowance::Rule, rules };
        }
        match (self.lifted(), open) {
            (Some(Ok(by)), _) => RequestDecision::Allowed { by, rules: Vec::new() },
            (_, Some((field, rule))) => RequestDecision::CouldNotCheck { field, rule: Some(rule) },
            (Some(Err(field)), None) => RequestDecision::CouldNotCheck { field, rule: None },
            (None, None) => {
                asked.dedup();
                RequestDecision::Refused { asked }
            }
        }
    }

    /// What lets every request pass, whatever the rules say. An error where that depends on something.
    fn lifted(&self) -> Option<Result<Allowance, Field>> {
        let options = &self.subject.engine().options;
        if !self.subject.is_default_deny(self.direction) {
            // Each list of rules gets one more that takes everything.
            return Some(match self.subject.maybe_denying(self.direction) {
                Some(field) => Err(field),
                None => Ok(Allowance::NoDefaultDeny),
            });
        }
        let localhost = self.direction == Direction::Ingress
            && self.peer.is_host()
            && options.allow_localhost == AllowLocalhost::Always
            && !self.subject.party().is_host();
        match localhost {
            true if options.version >= Version::V1_20 => Some(Err(Field::AllowLocalhost)),
            true => Some(Ok(Allowance::Localhost)),
            false => None,
        }
    }

    /// Whether a proxy of one of these words gets the connection, and none of another kind may.
    fn goes_to(&self, words: &[&str]) -> Result<(), RequestDecision<'e>> {
        let proxies = self.candidates.iter().filter_map(|candidate| {
            let (word, place) = conflict::proxy(self.protocol, candidate.item)?;
            Some((word, place, candidate))
        });
        let first = proxies.clone().filter(|p| p.2.how == Match::Yes).min_by_key(|p| p.1).map(|p| p.1);
        for (word, place, candidate) in proxies {
            // Without a name of its own a proxy is told from others by the port alone.
            let own = word == "crd";
            let ahead = first.is_none_or(|first| place <= first);
            if words.contains(&word) || (own && !ahead) {
                continue;
            }
            let field = match candidate.how {
                Match::Unknown(field) => field,
                _ if own => Field::Listener,
                _ => Field::Rules,
            };
            return Err(self.open(field, candidate));
        }
        Ok(())
    }

    /// The items of `ports` that mean the port.
    fn ports<'c>(&'c self, candidate: &'c Candidate<'e>) -> impl Iterator<Item = &'e PortSpec> + 'c {
        let options = &self.subject.engine().options;
        let (subject, peer) = (self.subject.party(), self.peer);
        let names = Names { options, direction: self.direction, subject, peer };
        let means = move |item: &&PortMatch| names.means(item, self.protocol, self.port) != Match::No;
        candidate.item.ports.iter().filter(means).map(|item| &item.port)
    }

    /// What a rule is joined by: each selector that means the peer, with each of its ports.
    fn keys<'c>(
        &'c self,
        candidate: &'c Candidate<'e>,
    ) -> impl Iterator<Item = (usize, Option<&'e PortSpec>)> + 'c {
        let engine = self.subject.engine();
        let tests = &engine.rules(self.direction).tests;
        let world = World { options: &engine.options, direction: self.direction };
        let means = move |test: &&usize| tests[**test].matches(self.peer, world) == Match::Yes;
        let every = candidate.item.ports.is_empty().then_some(None);
        candidate
            .entry
            .peers
            .0
            .iter()
            .filter(means)
            .flat_map(move |test| self.ports(candidate).map(Some).chain(every).map(|port| (*test, port)))
    }

    fn has_listener(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.item.listener.is_some())
    }

    fn refer(&self, candidate: &Candidate<'e>) -> RuleRef<'e> {
        self.subject.engine().rule_ref(self.direction, candidate.entry)
    }

    fn open(&self, field: Field, candidate: &Candidate<'e>) -> RequestDecision<'e> {
        RequestDecision::CouldNotCheck { field, rule: Some(self.refer(candidate)) }
    }
}

// === impl Candidate ===

impl<'e> Candidate<'e> {
    fn tests(&self) -> Option<&'e Tests> {
        self.entry.inside.as_ref().map(|inside| &inside.l7)
    }

    fn asks_for_names(&self) -> bool {
        !self.item.server_names.is_empty()
    }

    fn names(&self, name: &str) -> bool {
        self.entry.inside.iter().flat_map(|inside| &inside.names).any(|one| one.matches(name))
    }
}

#[cfg(test)]
mod tests;
