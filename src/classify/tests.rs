//! Flows of every kind and what each is counted as.

use std::sync::Arc;

use super::*;
use crate::flow::{Endpoint, IcmpFamily, Interest, L4, L7, L7Kind, L7Record, Namespaces, TcpFlags};
use crate::names::{DnsName, Namespace, NodeName};

pub(super) fn pod(namespace: &str, app: &str) -> Option<Arc<Endpoint>> {
    let labels = [format!("k8s:app={app}"), format!("k8s:io.kubernetes.pod.namespace={namespace}")];
    Some(Arc::new(Endpoint::new(4711, namespace, app, "", labels.iter().map(String::as_str))))
}

fn syn() -> TcpFlags {
    TcpFlags { syn: true, ..TcpFlags::default() }
}

/// A SYN from shop/web to shop/cart that egress policy denied.
pub(super) fn flow() -> Flow {
    Flow {
        time: None,
        uuid: "u".into(),
        node: NodeName::lossy("n1"),
        verdict: Verdict::Dropped,
        event: EventKind::PolicyVerdict,
        drop_reason: DropReason::POLICY_DENIED,
        direction: Some(Direction::Egress),
        is_reply: None,
        ip: Some(("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())),
        l4: L4::Tcp { source: 40000, destination: 8080, flags: Some(syn()) },
        source: pod("shop", "web"),
        destination: pod("pay", "api"),
        destination_names: [].into(),
        l7: None,
        denied_by: Vec::new(),
        count: 1,
    }
}

fn check(change: impl FnOnce(&mut Flow), expected: Outcome) {
    let mut flow = flow();
    change(&mut flow);
    assert_eq!(classify(&flow, &Filters::default()), expected, "{flow:?}");
}

const EGRESS: Outcome = Outcome::Need { direction: Direction::Egress, proof: Proof::Verdict };

#[test]
fn a_syn_that_default_deny_dropped_is_a_need() {
    check(|_| (), EGRESS);
    check(|f| f.event = EventKind::Drop, Outcome::Need { direction: Direction::Egress, proof: Proof::Drop });
    check(
        |f| f.event = EventKind::Other(0),
        Outcome::Need { direction: Direction::Egress, proof: Proof::Drop },
    );
    check(|f| f.is_reply = Some(false), EGRESS);
}

#[test]
fn replies_and_later_packets_are_not() {
    let tcp = |flags| move |f: &mut Flow| f.l4 = L4::Tcp { source: 40000, destination: 8080, flags };
    let flags = |syn, ack, fin, rst| Some(TcpFlags { syn, ack, fin, rst });
    check(tcp(flags(true, true, false, false)), Outcome::Skipped(Skip::Reply));
    check(tcp(flags(false, true, false, false)), Outcome::Skipped(Skip::MidStream));
    check(tcp(flags(false, false, false, true)), Outcome::Skipped(Skip::MidStream));
    check(tcp(flags(false, true, true, false)), Outcome::Skipped(Skip::MidStream));
    check(tcp(flags(false, false, false, false)), Outcome::Skipped(Skip::MidStream));
    check(tcp(None), Outcome::Skipped(Skip::FlagsUnknown));
    check(|f| f.is_reply = Some(true), Outcome::Skipped(Skip::Reply));
    let udp = |source, destination| move |f: &mut Flow| f.l4 = L4::Udp { source, destination };
    check(udp(53, 40000), Outcome::Skipped(Skip::Reply));
    check(udp(5353, 40000), Outcome::Skipped(Skip::Reply));
    check(udp(123, 123), EGRESS);
    check(udp(40000, 53), EGRESS);
    check(udp(40000, 41000), EGRESS);
    let sctp = |source, destination| move |f: &mut Flow| f.l4 = L4::Sctp { source, destination };
    check(sctp(38412, 40000), EGRESS);
    check(sctp(2905, 40000), Outcome::Skipped(Skip::Reply));
}

#[test]
fn icmp_requests_only() {
    let icmp = |family, kind| move |f: &mut Flow| f.l4 = L4::Icmp { family, kind, code: 0 };
    check(icmp(IcmpFamily::V4, 8), EGRESS);
    check(icmp(IcmpFamily::V6, 128), EGRESS);
    check(icmp(IcmpFamily::V4, 0), Outcome::Skipped(Skip::Reply));
    check(icmp(IcmpFamily::V4, 3), Outcome::Skipped(Skip::Reply));
    check(icmp(IcmpFamily::V4, 11), Outcome::Skipped(Skip::Reply));
    check(icmp(IcmpFamily::V6, 1), Outcome::Skipped(Skip::Reply));
    check(icmp(IcmpFamily::V6, 129), Outcome::Skipped(Skip::Reply));
    check(icmp(IcmpFamily::V6, 133), Outcome::Skipped(Skip::NeighbourDiscovery));
    check(icmp(IcmpFamily::V6, 0), Outcome::Skipped(Skip::IcmpTypeZero));
}

#[test]
fn what_no_rule_can_name() {
    check(|f| f.l4 = L4::Absent, Outcome::Skipped(Skip::NoL4));
    check(|f| f.l4 = L4::Unknown, Outcome::Skipped(Skip::UnknownProtocol));
    check(|f| f.l4 = L4::Udp { source: 1, destination: 0 }, Outcome::Skipped(Skip::NoL4));
    check(|f| f.direction = None, Outcome::Skipped(Skip::NoDirection));
    let to = |target: &'static str| {
        move |f: &mut Flow| {
            f.ip = Some(("10.0.0.1".parse().unwrap(), target.parse().unwrap()));
            f.l4 = L4::Udp { source: 40000, destination: 1900 };
        }
    };
    check(to("239.255.255.250"), Outcome::Skipped(Skip::Multicast));
    check(to("255.255.255.255"), Outcome::Skipped(Skip::Multicast));
    check(to("ff02::fb"), Outcome::Skipped(Skip::Multicast));
}

#[test]
fn other_drops_have_their_class() {
    let reason = |number| move |f: &mut Flow| f.drop_reason = DropReason(number);
    check(reason(181), Outcome::Dropped(Class::ExplicitDeny));
    check(reason(189), Outcome::Dropped(Class::Authentication));
    check(reason(177), Outcome::Dropped(Class::Service));
    check(reason(155), Outcome::Dropped(Class::Infrastructure));
    check(reason(203), Outcome::Dropped(Class::Transient));
    check(reason(251), Outcome::Dropped(Class::Unknown));
    check(reason(0), Outcome::Dropped(Class::Unknown));
    check(reason(132), Outcome::Dropped(Class::Security));
    check(
        |f| {
            f.drop_reason = DropReason(132);
            f.ip = Some(("fe80::1".parse().unwrap(), "ff02::2".parse().unwrap()));
        },
        Outcome::Dropped(Class::Noise),
    );
    check(
        |f| {
            f.event = EventKind::L7;
            f.drop_reason = DropReason::NONE;
        },
        Outcome::Skipped(Skip::L7Denied),
    );
    for verdict in [Verdict::Forwarded, Verdict::Audit, Verdict::Redirected, Verdict::Unknown] {
        check(|f| f.verdict = verdict, Outcome::NotDropped(verdict));
    }
}

fn dns(kind: L7Kind, query: Option<&str>) -> Option<Box<L7>> {
    let query = query.map(|name| DnsName::parse(name).unwrap());
    Some(Box::new(L7 { kind, record: L7Record::Dns { query } }))
}

#[test]
fn queries_that_pass_are_lookups_when_somebody_wants_them() {
    let query = |change: fn(&mut Flow)| {
        let mut flow = Flow {
            verdict: Verdict::Forwarded,
            event: EventKind::L7,
            drop_reason: DropReason::NONE,
            is_reply: Some(false),
            l7: dns(L7Kind::Request, Some("a.example")),
            ..flow()
        };
        change(&mut flow);
        flow
    };
    let wanted = Filters { interest: Interest { dns: true, ..Interest::default() }, ..Filters::default() };
    let check = |change: fn(&mut Flow), expected| {
        assert_eq!(classify(&query(change), &wanted), expected, "{:?}", query(change));
    };
    check(|_| (), Outcome::Lookup);
    check(|f| f.verdict = Verdict::Redirected, Outcome::Lookup);
    check(|f| f.l7 = dns(L7Kind::Request, None), Outcome::Lookup);
    let passed = Outcome::NotDropped(Verdict::Forwarded);
    check(|f| f.l7 = dns(L7Kind::Response, Some("a.example")), passed);
    check(|f| f.is_reply = Some(true), passed);
    check(|f| f.direction = Some(Direction::Ingress), passed);
    check(|f| f.l7 = None, passed);
    check(|f| f.verdict = Verdict::Error, Outcome::NotDropped(Verdict::Error));
    assert_eq!(classify(&query(|_| ()), &Filters::default()), passed);
    let pay = Namespaces::Only([Namespace::parse("pay").unwrap()].into());
    let pay = Filters { interest: Interest { dns: true, namespaces: pay, ..Interest::default() }, ..wanted };
    assert_eq!(classify(&query(|_| ()), &pay), passed, "the resolver's namespace is not the subject's");
}

#[test]
fn refused_names_are_needs_only_on_request() {
    let refused = |query: Option<&str>| Flow {
        event: EventKind::L7,
        drop_reason: DropReason::NONE,
        l7: dns(L7Kind::Request, query),
        ..flow()
    };
    let asked = Filters { include_refused: true, ..Filters::default() };
    let check = |flow: &Flow, filters: &Filters, expected| assert_eq!(classify(flow, filters), expected);
    check(&refused(Some("a.example")), &Filters::default(), Outcome::Skipped(Skip::DnsRefused));
    check(&refused(Some("a.example")), &asked, EGRESS);
    check(&refused(None), &asked, Outcome::Skipped(Skip::DnsNameUnusable));
    let http = L7 { kind: L7Kind::Request, record: L7Record::http("GET", "/") };
    let http = Flow { l7: Some(Box::new(http)), ..refused(None) };
    check(&http, &asked, Outcome::Skipped(Skip::L7Denied));
}

#[test]
fn filters_go_by_the_subject() {
    let only = |names: &[&str]| Filters {
        interest: Interest {
            namespaces: Namespaces::Only(names.iter().map(|n| Namespace::parse(n).unwrap()).collect()),
            ..Interest::default()
        },
        ..Filters::default()
    };
    let mut flow = flow();
    assert_eq!(classify(&flow, &only(&["shop"])), EGRESS);
    assert_eq!(classify(&flow, &only(&["pay"])), Outcome::Filtered(Filter::Namespace));
    flow.direction = Some(Direction::Ingress);
    assert_eq!(classify(&flow, &only(&["shop"])), Outcome::Filtered(Filter::Namespace));
    flow.drop_reason = DropReason(155);
    assert_eq!(classify(&flow, &only(&["pay"])), Outcome::Dropped(Class::Infrastructure));
    assert_eq!(classify(&flow, &only(&["obs"])), Outcome::Filtered(Filter::Namespace));
}

#[test]
fn filters_by_protocol_and_reason() {
    let filters = Filters {
        ignore_protocols: [ProtocolFilter::Tcp].into(),
        ignore_reasons: [DropReason(155)].into(),
        ..Filters::default()
    };
    let mut flow = flow();
    assert_eq!(classify(&flow, &filters), Outcome::Filtered(Filter::Protocol));
    flow.l4 = L4::Udp { source: 40000, destination: 53 };
    assert_eq!(classify(&flow, &filters), EGRESS);
    flow.drop_reason = DropReason(155);
    assert_eq!(classify(&flow, &filters), Outcome::Filtered(Filter::DropReason));
}
