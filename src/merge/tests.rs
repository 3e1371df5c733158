//! Tests of the join.

use super::*;
use crate::flow::{IcmpFamily, Port, Protocol};
use crate::names::PolicyName;
use crate::policy::{Allow, IcmpType, Subject};

mod laws;
mod named;

fn shop() -> Namespace {
    Namespace::parse("shop").unwrap()
}

fn tcp(port: u16) -> Allow {
    Allow::Port(Protocol::Tcp, Port::new(port).unwrap())
}

fn udp(port: u16) -> Allow {
    Allow::Port(Protocol::Udp, Port::new(port).unwrap())
}

fn icmp(kind: u8) -> Allow {
    Allow::Icmp(IcmpFamily::V4, IcmpType::new(kind).unwrap())
}

fn pods(app: &str) -> Peer {
    Peer::Endpoints(Selector::new([("app", app)]).unwrap())
}

fn cidr(text: &str) -> Peer {
    Peer::Cidr(text.parse().unwrap())
}

fn ingress(peer: Peer, allow: Allow) -> Rule {
    Rule::plain(Direction::Ingress, peer, allow)
}

fn egress(peer: Peer, allow: Allow) -> Rule {
    Rule::plain(Direction::Egress, peer, allow)
}

/// Rules for the pods `app: cart` of namespace `shop`.
fn additions(rules: &[Rule]) -> Policy {
    let subject = Subject { namespace: shop(), selector: Selector::new([("app", "cart")]).unwrap() };
    let mut policy = Policy::new(PolicyName::parse("cpg-cart").unwrap(), subject);
    for rule in rules {
        policy.add(rule.clone());
    }
    policy
}

/// A hand-written policy for the same pods; `rest` are the members of `spec` beside the selector.
fn document(rest: &str) -> String {
    format!(
        "# mine\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: cart\n  namespace: shop\n\
         spec:\n  endpointSelector:\n    matchLabels:\n      app: cart\n{rest}"
    )
}

/// Merges, checks the laws that hold for every merge, and gives the result.
fn merged(text: &str, rules: &[Rule]) -> Merged {
    let additions = additions(rules);
    let merged = merge(Some(text), None, &additions).unwrap_or_else(|e| panic!("the file {e}\n{text}"));
    laws(text, &merged, &additions);
    merged
}

/// What holds for every merge into a text.
fn laws(text: &str, merged: &Merged, additions: &Policy) {
    let again = merge(Some(&merged.text), None, additions).unwrap();
    assert_eq!(again.outcome, Outcome::Unchanged, "{}", merged.text);
    assert_eq!(again.text, merged.text);
    assert_eq!(again.conflicts, merged.conflicts);
    assert_eq!(merged.outcome == Outcome::Unchanged, merged.text == text);
    assert_eq!(
        merged.added.len() + merged.present.len() + merged.conflicts.len(),
        additions.rules().count(),
        "each rule has one fate"
    );
}
