//! DNS queries: what the DNS proxy would answer to them. It asks only the rules for the very port and
//! protocol of the connection (`pkg/fqdn/dnsproxy`): a rule that is wider, without ports or with a range of
//! them, lets the connection through, but no query past the proxy.

use super::{Known, Ruling, cluster_of, decide, rulings};
use crate::aggregate::{Observation, Request};
use crate::engine::{Allowance, Decision, RequestDecision, RuleRef};
use crate::flow::Protocol;
use crate::policy::Allow;
use crate::policy::spec::{IpProtocol, L4, PortSpec, Protocols};

/// What is known of a DNS query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// No rule lets the proxy see it and pass it on.
    New,
    /// The proxy passes it on because of these rules, at least one.
    Passed(Vec<Ruling>),
    /// Deny rules decide it: these, at least one.
    Denied(Vec<Ruling>),
    /// These rules allow every query now, without a proxy; beside them a rule for names would refuse all
    /// others.
    Open(Vec<Ruling>),
}

/// Whether a rule is for the very port and protocol.
fn is_exact(rule: &RuleRef<'_>, observation: &Observation) -> bool {
    let (L4::Ports(items), Allow::Port(protocol, port)) = (&rule.rule.l4, observation.allow) else {
        return false;
    };
    let wanted = match protocol {
        Protocol::Tcp => IpProtocol::Tcp,
        Protocol::Udp => IpProtocol::Udp,
        Protocol::Sctp => IpProtocol::Sctp,
    };
    items.iter().flat_map(|item| &item.ports).any(|entry| {
        (entry.protocols == Protocols::Any || entry.protocols == Protocols::One(wanted))
            && entry.port == PortSpec::Range { first: port.get(), last: port.get() }
    })
}

// === impl Known ===

impl Known {
    /// What is known of a DNS query, asked for the sake of the addresses that the proxy learns from it.
    /// Every other observation is new.
    pub fn query(&mut self, observation: &Observation) -> Query {
        if self.is_empty() || !matches!(observation.request, Some(Request::Dns(_))) {
            return Query::New;
        }
        let (engine, sources) = self.engine(cluster_of(observation));
        let open = |rules: Vec<RuleRef<'_>>| match rules.iter().any(|rule| is_exact(rule, observation)) {
            // Plain for this very port: beside it a rule for names refuses nothing.
            true => Query::New,
            false => Query::Open(rulings(sources, rules)),
        };
        match decide(engine, observation) {
            RequestDecision::Allowed { by: Allowance::Rule, rules } => Query::Passed(rulings(sources, rules)),
            RequestDecision::Connection(Decision::Denied { rules }) => {
                Query::Denied(rulings(sources, rules.list()))
            }
            RequestDecision::Connection(Decision::Allowed { by: Allowance::Rule, rules, .. }) => {
                open(rules.list())
            }
            // It may be such a rule.
            RequestDecision::Connection(Decision::CouldNotCheck { rule: Some(rule), .. })
                if !rule.rule.deny =>
            {
                open(vec![rule])
            }
            RequestDecision::Connection(_)
            | RequestDecision::Allowed { .. }
            | RequestDecision::Refused { .. }
            | RequestDecision::CouldNotCheck { .. } => Query::New,
        }
    }
}
