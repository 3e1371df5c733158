//! The laws of ledgers, and how windows close.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::aggregate::{ObservedPeer, Room, observe};
use crate::flow::{Direction, DropReason, Endpoint, EventKind, Flow, L4, TcpFlags, Verdict};
use crate::names::NodeName;

fn endpoint(app: u8) -> Arc<Endpoint> {
    let labels = [format!("k8s:app=a{app}"), "k8s:io.kubernetes.pod.namespace=shop".to_owned()];
    Arc::new(Endpoint::new(300, "shop", "p", "", labels.iter().map(String::as_str)))
}

fn flow(from: u8, to: u8, port: u16, source_port: u16, event: EventKind, direction: Direction) -> Flow {
    Flow {
        time: jiff::Timestamp::from_second(1_700_000_000 + i64::from(source_port)).ok(),
        uuid: format!("{source_port}").into(),
        node: NodeName::lossy(&format!("n{}", source_port % 3)),
        verdict: Verdict::Dropped,
        event,
        drop_reason: DropReason::POLICY_DENIED,
        direction: Some(direction),
        is_reply: None,
        ip: Some(([10, 0, 0, from].into(), [10, 0, 0, to].into())),
        l4: L4::Tcp {
            source: source_port,
            destination: port,
            flags: Some(TcpFlags { syn: true, ..TcpFlags::default() }),
        },
        source: Some(endpoint(from)),
        destination: Some(endpoint(to)),
        destination_names: [].into(),
        l7: None,
        denied_by: Vec::new(),
        count: 1,
    }
}

fn fold(ledger: &mut Ledger, flow: &Flow) -> bool {
    let proof = if flow.event == EventKind::PolicyVerdict { Proof::Verdict } else { Proof::Drop };
    if proof == Proof::Verdict {
        ledger.note_verdict(flow.connection().unwrap());
    }
    ledger.fold(observe(flow, flow.direction.unwrap()).unwrap(), flow, proof) == Room::Found
}

fn ledger(flows: &[Flow]) -> Ledger {
    let mut ledger = Ledger::new(1000);
    flows.iter().for_each(|f| assert!(fold(&mut ledger, f)));
    ledger
}

use Direction::{Egress, Ingress};
use EventKind::{Drop, PolicyVerdict as Word};

#[test]
fn a_doubled_event_is_one_observation_of_one_connection() {
    let mut windows = Windows::new(1000);
    let settled = windows.close(
        ledger(&[flow(1, 2, 80, 40000, Word, Egress), flow(1, 2, 80, 40000, Drop, Egress)]),
        Settling::Window,
    );
    let [(_, tally)] = settled.ready.as_slice() else { panic!("{settled:?}") };
    assert_eq!((tally.packets(), tally.events(), tally.connections.count()), (1, 2, 1));
    assert_eq!(windows.waiting(), 0);
}

#[test]
fn a_drop_alone_waits_one_window_and_then_stands() {
    let mut windows = Windows::new(1000);
    let first = windows.close(ledger(&[flow(1, 2, 80, 40000, Drop, Egress)]), Settling::Window);
    assert!(first.ready.is_empty() && windows.waiting() == 1);
    let second = windows.close(Ledger::new(1000), Settling::Window);
    assert_eq!(second.ready.len(), 1);
    assert_eq!(second.ready[0].1.proof(), Proof::Drop);
}

#[test]
fn a_drop_whose_verdict_says_another_direction_is_no_observation() {
    for when in [Settling::Window, Settling::Final] {
        let mut windows = Windows::new(1000);
        let flows = [flow(1, 2, 80, 40000, Word, Egress), flow(1, 2, 80, 40000, Drop, Ingress)];
        let settled = windows.close(ledger(&flows), when);
        assert_eq!((settled.ready.len(), settled.contradicted.len()), (1, 1));
        assert_eq!(settled.ready[0].0.direction, Egress);
    }
}

#[test]
fn the_verdict_may_come_one_window_before_or_after_its_drop() {
    let word = || ledger(&[flow(1, 2, 80, 40000, Word, Egress)]);
    let same = || ledger(&[flow(1, 2, 80, 40000, Drop, Egress)]);
    let wrong = || ledger(&[flow(1, 2, 80, 40000, Drop, Ingress)]);
    let mut windows = Windows::new(1000);
    assert_eq!(windows.close(word(), Settling::Window).ready.len(), 1);
    let after = windows.close(same(), Settling::Window);
    assert_eq!((after.ready.len(), after.contradicted.len(), windows.waiting()), (1, 0, 0));
    let mut windows = Windows::new(1000);
    windows.close(word(), Settling::Window);
    assert_eq!(windows.close(wrong(), Settling::Window).contradicted.len(), 1);
    let mut windows = Windows::new(1000);
    windows.close(wrong(), Settling::Window);
    let after = windows.close(word(), Settling::Window);
    assert_eq!((after.ready.len(), after.contradicted.len()), (1, 1));
}

#[test]
fn what_could_not_be_written_comes_again() {
    let mut windows = Windows::new(1000);
    windows.close(ledger(&[flow(1, 2, 80, 40000, Drop, Egress)]), Settling::Window);
    let settled = windows.close(Ledger::new(1000), Settling::Window);
    assert!(windows.rejoin(settled.ready).is_empty());
    assert_eq!(windows.close(Ledger::new(1000), Settling::Window).ready.len(), 1);
}

#[test]
fn a_full_ledger_says_so() {
    let mut ledger = Ledger::new(1);
    assert!(fold(&mut ledger, &flow(1, 2, 80, 40000, Word, Egress)));
    assert!(fold(&mut ledger, &flow(1, 2, 80, 40001, Word, Egress)));
    assert!(!fold(&mut ledger, &flow(1, 2, 81, 40000, Word, Egress)));
}

#[test]
fn one_source_cannot_use_up_the_ledger() {
    let mut ledger = Ledger::new(100);
    // A pod that tries every port of every other pod, and pods that are scanned from there.
    let scan = |i: u16| {
        flow(1, 2 + (i % 5) as u8, 1000 + i, 40000, Word, if i.is_multiple_of(2) { Egress } else { Ingress })
    };
    let taken = (0..1000).filter(|i| fold(&mut ledger, &scan(*i))).count();
    assert_eq!((taken, ledger.len()), (25, 25));
    // What it has is still counted, and the others are still learned.
    assert!(fold(&mut ledger, &scan(0)));
    for other in 10..40 {
        assert!(fold(&mut ledger, &flow(other, 2, 80, 40000, Word, Egress)), "{other}");
    }
    // Joined with another one that the same source filled, it has no more than its share.
    let mut second = Ledger::new(100);
    assert_eq!((500..600).filter(|i| fold(&mut second, &scan(*i))).count(), 25);
    assert_eq!((ledger.join(second).len(), ledger.len()), (25, 55));
    // What waits for a window counts as well.
    let mut windows = Windows::new(100);
    let mut told = Ledger::new(100);
    let dropped = |i: u16| flow(1, 2, 5000 + i, 40000, Drop, Egress);
    assert_eq!((0..30).filter(|i| fold(&mut told, &dropped(*i))).count(), 25);
    windows.close(told, Settling::Interim);
    let settled = windows.close(ledger, Settling::Final);
    assert_eq!(settled.refused.len(), 25);
}

#[test]
fn everything_outside_is_one_source() {
    let mut ledger = Ledger::new(100);
    let from = |i: u16| {
        let mut flow = flow(1, 2, 80, 40000, Word, Ingress);
        flow.source = Some(Arc::new(Endpoint::new(2, "", "", "", ["reserved:world"])));
        flow.ip = Some((std::net::Ipv4Addr::from(0xc000_0200 + u32::from(i)).into(), [10, 0, 0, 2].into()));
        flow
    };
    assert_eq!((0..1000).filter(|i| fold(&mut ledger, &from(*i))).count(), 25);
}

fn flows() -> impl Strategy<Value = Vec<Flow>> {
    let event = prop_oneof![Just(Word), Just(Drop)];
    let direction = prop_oneof![Just(Egress), Just(Ingress)];
    let one = (1u8..4, 4u8..7, 80u16..82, 40000u16..40008, event, direction);
    prop::collection::vec(one.prop_map(|(f, t, p, s, e, d)| flow(f, t, p, s, e, d)), 0..40)
}

/// Everything but the event counts.
fn sets(ledger: &Ledger) -> Vec<(Observation, Tally)> {
    ledger
        .sorted()
        .into_iter()
        .map(|(o, t)| (o.clone(), Tally { verdict_events: 0, drop_events: 0, ..t.clone() }))
        .collect()
}

proptest! {
    #[test]
    fn ledgers_join_in_any_order(a in flows(), b in flows(), c in flows()) {
        let all = ledger(&[a.clone(), b.clone(), c.clone()].concat());
        let mut left = ledger(&a);
        left.join(ledger(&b));
        left.join(ledger(&c));
        let mut right = ledger(&c);
        let mut inner = ledger(&b);
        inner.join(ledger(&a));
        right.join(inner);
        prop_assert_eq!(&left, &all);
        prop_assert_eq!(&right, &all);
        // Idempotent, apart from the event counts.
        let mut twice = all.clone();
        twice.join(all.clone());
        prop_assert_eq!(sets(&twice), sets(&all));
    }

    #[test]
    fn a_replay_gives_the_same_however_it_is_cut(all in flows(), cuts in prop::collection::vec(0usize..40, 0..4)) {
        let whole = Windows::new(1000).close(ledger(&all), Settling::Final);
        let mut windows = Windows::new(1000);
        let mut ready = std::collections::BTreeSet::new();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(all.len())).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts {
            let settled = windows.close(ledger(&all[from..cut]), Settling::Interim);
            ready.extend(settled.ready.into_iter().map(|(o, _)| o));
            from = cut;
        }
        let settled = windows.close(ledger(&all[from..]), Settling::Final);
        ready.extend(settled.ready.into_iter().map(|(o, _)| o));
        let expected: std::collections::BTreeSet<_> = whole.ready.into_iter().map(|(o, _)| o).collect();
        prop_assert_eq!(ready, expected);
        prop_assert!(matches!(whole.contradicted.first().map(|(o, _)| &o.peer), None | Some(ObservedPeer::Pod(_))));
    }
}
