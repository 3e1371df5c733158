//! Each row of what Hubble tells of packets that were not dropped.

use super::*;
use crate::classify::tests::{flow, pod};
use crate::classify::{Class, ProtocolFilter, classify};
use crate::flow::{Direction, DropReason, IcmpFamily, Interest, L4, Namespaces, TcpFlags};
use crate::names::{Namespace, NodeName};

/// What becomes of a SYN from shop/web to pay/api that passed, as a trace tells it, after this change.
fn check_with(filters: &Filters, change: impl FnOnce(&mut Flow), expected: Outcome) {
    let mut flow = Flow {
        verdict: Verdict::Forwarded,
        event: EventKind::Trace,
        drop_reason: DropReason::NONE,
        direction: Some(Direction::Egress),
        is_reply: Some(false),
        ..flow()
    };
    change(&mut flow);
    assert_eq!(classify(&flow, filters), expected, "{flow:?}");
}

fn learning() -> Filters {
    Filters { interest: Interest { learn: true, ..Interest::default() }, ..Filters::default() }
}

fn auditing() -> Filters {
    Filters { interest: Interest { audit: true, ..Interest::default() }, ..Filters::default() }
}

fn of(namespace: &str, mut filters: Filters) -> Filters {
    filters.interest.namespaces = Namespaces::Only([Namespace::parse(namespace).unwrap()].into());
    filters
}

fn learned(change: impl FnOnce(&mut Flow), expected: Outcome) {
    check_with(&learning(), change, expected);
}

fn audited(change: impl FnOnce(&mut Flow), expected: Outcome) {
    let audit = |f: &mut Flow| {
        (f.verdict, f.event) = (Verdict::Audit, EventKind::PolicyVerdict);
        change(f);
    };
    check_with(&auditing(), audit, expected);
}

fn reserved(label: &str) -> Option<std::sync::Arc<Endpoint>> {
    Some(std::sync::Arc::new(Endpoint::new(2, "", "", "", [label])))
}

const BOTH: Outcome = Outcome::Passed(Ends { egress: true, ingress: true });
const EGRESS: Outcome = Outcome::Passed(Ends { egress: true, ingress: false });
const INGRESS: Outcome = Outcome::Passed(Ends { egress: false, ingress: true });
const PASSED: Outcome = Outcome::NotDropped(Verdict::Forwarded);

#[test]
fn nothing_that_passes_counts_unless_it_is_asked_for() {
    check_with(&Filters::default(), |_| (), PASSED);
    check_with(&auditing(), |_| (), PASSED);
    let audit = |f: &mut Flow| (f.verdict, f.event) = (Verdict::Audit, EventKind::PolicyVerdict);
    check_with(&Filters::default(), audit, Outcome::NotDropped(Verdict::Audit));
    check_with(&learning(), audit, Outcome::NotDropped(Verdict::Audit));
}

#[test]
fn a_trace_speaks_for_both_ends_whatever_its_direction() {
    for direction in [None, Some(Direction::Egress), Some(Direction::Ingress)] {
        learned(|f| f.direction = direction, BOTH);
    }
    learned(|f| f.destination = reserved("reserved:world"), EGRESS);
    learned(|f| f.source = reserved("reserved:world"), INGRESS);
    learned(|f| f.source = reserved("reserved:host"), INGRESS);
    learned(|f| f.destination = reserved("reserved:kube-apiserver"), EGRESS);
    learned(|f| (f.source, f.destination) = (reserved("reserved:host"), reserved("reserved:world")), PASSED);
}

#[test]
fn only_the_ends_of_the_runs_namespaces_count() {
    check_with(&of("shop", learning()), |_| (), EGRESS);
    check_with(&of("pay", learning()), |_| (), INGRESS);
    check_with(&of("obs", learning()), |_| (), Outcome::Filtered(Filter::Namespace));
}

#[test]
fn an_end_in_another_cluster_is_that_clusters_business() {
    let west = |f: &mut Flow| {
        f.node = NodeName::lossy("west/n1");
        let labels = |app: &str, cluster: &str| {
            [format!("k8s:app={app}"), format!("k8s:io.cilium.k8s.policy.cluster={cluster}")]
        };
        let pod = |namespace: &str, cluster: &str| {
            let labels = labels("x", cluster);
            Some(Endpoint::new(300, namespace, "x", "", labels.iter().map(String::as_str)).into())
        };
        (f.source, f.destination) = (pod("shop", "west"), pod("pay", "east"));
    };
    learned(west, EGRESS);
    learned(
        |f| {
            west(f);
            f.node = NodeName::lossy("east/n7");
        },
        INGRESS,
    );
    learned(
        |f| {
            west(f);
            f.node = NodeName::lossy("n1");
        },
        BOTH,
    );
}

/// A spoofed SYN has a FROM_ENDPOINT trace too, and is dropped after it.
#[test]
fn that_a_packet_arrived_is_no_proof_that_it_passed() {
    for (sub_type, counts) in [
        (0, true),
        (1, true),
        (2, true),
        (3, true),
        (4, true),
        (11, true),
        (13, true),
        (5, false),
        (6, false),
        (7, false),
        (8, false),
        (9, false),
        (10, false),
        (12, false),
    ] {
        let expected = if counts { BOTH } else { PASSED };
        learned(|f| (f.event, f.is_reply) = (EventKind::from_numbers(4, sub_type), None), expected);
    }
    for event in [EventKind::L7, EventKind::Drop, EventKind::Other(7), EventKind::Other(0)] {
        learned(|f| f.event = event, PASSED);
    }
}

#[test]
fn replies_and_later_packets_are_no_news() {
    let tcp = |syn, ack, reply| {
        move |f: &mut Flow| {
            f.is_reply = reply;
            let flags = Some(TcpFlags { syn, ack, ..TcpFlags::default() });
            f.l4 = L4::Tcp { source: 40000, destination: 8080, flags };
        }
    };
    learned(tcp(true, false, Some(true)), PASSED);
    learned(tcp(true, true, None), PASSED);
    learned(tcp(true, true, Some(false)), PASSED);
    learned(tcp(false, true, Some(false)), PASSED);
    learned(tcp(true, false, None), BOTH);
    let udp = |source, destination, reply| {
        move |f: &mut Flow| (f.l4, f.is_reply) = (L4::Udp { source, destination }, reply)
    };
    learned(udp(40000, 53, None), BOTH);
    learned(udp(53, 40000, None), PASSED);
    learned(udp(40000, 53, Some(true)), PASSED);
    let sctp = |source, destination| move |f: &mut Flow| f.l4 = L4::Sctp { source, destination };
    learned(sctp(40000, 2905), BOTH);
    learned(sctp(2905, 40000), PASSED);
    let icmp = |family, kind| move |f: &mut Flow| f.l4 = L4::Icmp { family, kind, code: 0 };
    learned(icmp(IcmpFamily::V4, 8), BOTH);
    learned(icmp(IcmpFamily::V6, 128), BOTH);
    learned(icmp(IcmpFamily::V4, 0), PASSED);
    learned(icmp(IcmpFamily::V4, 3), PASSED);
    learned(icmp(IcmpFamily::V6, 129), PASSED);
}

#[test]
fn what_opens_a_connection_and_cannot_be_said_in_a_rule_is_told() {
    learned(|f| f.l4 = L4::Unknown, Outcome::Skipped(Skip::UnknownProtocol));
    learned(
        |f| f.l4 = L4::Tcp { source: 40000, destination: 80, flags: None },
        Outcome::Skipped(Skip::FlagsUnknown),
    );
    learned(
        |f| f.l4 = L4::Icmp { family: IcmpFamily::V6, kind: 133, code: 0 },
        Outcome::Skipped(Skip::NeighbourDiscovery),
    );
}

#[test]
fn a_verdict_speaks_for_one_end_in_its_direction() {
    for verdict in [Verdict::Forwarded, Verdict::Redirected] {
        for direction in [Direction::Egress, Direction::Ingress] {
            learned(
                |f| (f.verdict, f.event, f.direction) = (verdict, EventKind::PolicyVerdict, Some(direction)),
                Outcome::Need { direction, proof: Proof::Allowed },
            );
        }
    }
    let ingress =
        |f: &mut Flow| (f.event, f.direction) = (EventKind::PolicyVerdict, Some(Direction::Ingress));
    check_with(&of("shop", learning()), ingress, Outcome::Filtered(Filter::Namespace));
}

#[test]
fn audit_is_as_a_drop() {
    let need = |direction| Outcome::Need { direction, proof: Proof::Audit };
    audited(|_| (), need(Direction::Egress));
    audited(|f| f.direction = Some(Direction::Ingress), need(Direction::Ingress));
    audited(|f| f.event = EventKind::Other(0), need(Direction::Egress));
    audited(|f| f.direction = None, Outcome::Skipped(Skip::NoDirection));
    audited(|f| f.is_reply = Some(true), Outcome::NotDropped(Verdict::Audit));
    audited(|f| f.event = EventKind::Trace, Outcome::NotDropped(Verdict::Audit));
}

/// Both name a policy (1.20): a deny rule, or an allow rule that wants the peer authenticated.
#[test]
fn audit_of_a_deny_rule_is_no_need() {
    audited(|f| f.denied_by = vec!["CiliumNetworkPolicy pay/no".into()], Outcome::Skipped(Skip::AuditDenied));
}

#[test]
fn drops_count_as_always_and_filters_too() {
    learned(|f| *f = flow(), Outcome::Need { direction: Direction::Egress, proof: Proof::Verdict });
    learned(|f| (*f = flow(), f.drop_reason = DropReason(181)).1, Outcome::Dropped(Class::ExplicitDeny));
    let filters = Filters { ignore_protocols: [ProtocolFilter::Tcp].into(), ..learning() };
    check_with(&filters, |_| (), Outcome::Filtered(Filter::Protocol));
    check_with(&learning(), |f| f.destination = pod("pay", "other"), BOTH);
}
