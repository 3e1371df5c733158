//! When a node counts as watched, and what lies in a gap.

use std::time::Duration;

use super::*;
use crate::pipeline::live::tests::flow;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn n(name: &str) -> NodeName {
    NodeName::lossy(name)
}

fn said(state: NodeState, node: &str) -> NodeStatus {
    NodeStatus { state, nodes: vec![n(node)], message: "".into() }
}

/// A node that is up since second `began`, with a ring that is full or not.
fn vitals(node: &str, began: i64, now: i64, full: bool) -> NodeVitals {
    NodeVitals {
        name: n(node),
        state: NodeState::Connected,
        uptime: Duration::from_secs((now - began).unsigned_abs()),
        num_flows: if full { 4095 } else { 100 },
        max_flows: 4095,
        seen_flows: now.unsigned_abs() * 10,
    }
}

fn oldest(all: &[(&str, i64)]) -> FlowTimes {
    all.iter().map(|(node, second)| (n(node), at(*second))).collect()
}

/// A watch whose stream reads n1 and n2 since second 0; both are known well at second 5.
fn watching() -> Watch {
    let mut watch = Watch::new(at(0));
    watch.opened(at(0), None);
    for node in ["n1", "n2"] {
        watch.status(&said(NodeState::Connected, node), at(0));
    }
    watch.vitals(&[vitals("n1", -1_000, 5, true), vitals("n2", -1_000, 5, true)], at(5));
    watch.reached(&oldest(&[("n1", -60), ("n2", -60)]), at(5));
    watch
}

/// The gaps at this second: node, reason, from, to.
#[track_caller]
fn check(watch: &Watch, now: i64, expected: &[(&str, Reason, i64, i64)]) {
    let gaps: Vec<_> = watch.coverage(at(now)).gaps.iter().collect();
    let second = |time: Timestamp| time.as_second() - at(0).as_second();
    let told: Vec<_> = gaps
        .iter()
        .map(|g| (g.node.as_ref().map_or("", |n| n.as_str()), g.reason, second(g.from), second(g.to)))
        .collect();
    assert_eq!(told, expected);
}

#[test]
fn a_stream_that_reads_every_node_has_no_gap() {
    let mut watch = watching();
    check(&watch, 100, &[]);
    assert!(!watch.is_open());
    assert_eq!(watch.connected(), (2, 2));
    watch.flow(&flow("n1", "a", 50), at(51));
    let coverage = watch.coverage(at(100));
    assert_eq!((coverage.least(), coverage.whole().total.as_secs()), (100.0, 200));
}

#[test]
fn before_it_is_known_how_far_back_a_node_was_read_nothing_is_claimed() {
    let mut watch = Watch::new(at(0));
    watch.opened(at(0), None);
    watch.status(&said(NodeState::Connected, "n1"), at(0));
    check(&watch, 4, &[("n1", Reason::LateJoin, 0, 4)]);
    // Without a list of nodes, what the stream brings has to do.
    watch.flow(&flow("n1", "a", 2), at(3));
    watch.reached(&oldest(&[]), at(4));
    check(&watch, 10, &[("n1", Reason::LateJoin, 0, 2)]);
    let none = Watch::new(at(0));
    check(&none, 10, &[("", Reason::Reconnect, 0, 10)]);
}

#[test]
fn what_a_break_took_is_what_the_ring_does_not_hold() {
    // (oldest that the ring holds, gap)
    for (reach, gap) in [(10, None), (29, None), (35, Some((30, 35))), (45, Some((30, 45)))] {
        let mut watch = watching();
        watch.flow(&flow("n1", "a", 30), at(31));
        watch.alive(at(33));
        watch.ended(at(40));
        assert_eq!(watch.resume(at(41)), Some(at(13)), "n2 was quiet");
        watch.opened(at(42), Some(at(-10)));
        for node in ["n1", "n2"] {
            watch.status(&said(NodeState::Connected, node), at(42));
        }
        watch.vitals(&[vitals("n1", -1_000, 45, true), vitals("n2", -1_000, 45, true)], at(45));
        watch.reached(&oldest(&[("n1", reach), ("n2", 0)]), at(45));
        let expected: Vec<_> = gap.iter().map(|(from, to)| ("n1", Reason::Reconnect, *from, *to)).collect();
        check(&watch, 60, &expected);
    }
}

#[test]
fn of_a_relay_that_froze_the_time_since_its_last_sign_of_life_counts() {
    let mut watch = watching();
    watch.flow(&flow("n1", "a", 30), at(30));
    // It is noticed a minute later.
    watch.ended(at(90));
    watch.opened(at(95), Some(at(0)));
    watch.status(&said(NodeState::Connected, "n1"), at(95));
    watch.vitals(&[vitals("n1", -1_000, 98, true)], at(98));
    watch.reached(&oldest(&[("n1", 80)]), at(98));
    // n2 did not come back.
    check(&watch, 100, &[("n1", Reason::Reconnect, 30, 80), ("n2", Reason::Reconnect, 20, 100)]);
}

#[test]
fn of_an_agent_that_began_anew_everything_before_is_gone() {
    let mut watch = watching();
    watch.flow(&flow("n1", "a", 30), at(30));
    // Killed at 40, back at 50; its first flows come before the relay's word of the error.
    watch.flow(&flow("n1", "b", 52), at(52));
    watch.status(&said(NodeState::Error, "n1"), at(51));
    watch.vitals(&[vitals("n1", 50, 55, false), vitals("n2", -1_000, 55, true)], at(55));
    watch.reached(&oldest(&[("n1", 52)]), at(58));
    check(&watch, 60, &[("n1", Reason::NodeError, 30, 50)]);

    // Without a word of the relay.
    let mut watch = watching();
    watch.flow(&flow("n1", "a", 3), at(3));
    watch.vitals(&[vitals("n1", 30, 35, false), vitals("n2", -1_000, 35, true)], at(35));
    watch.reached(&oldest(&[]), at(38));
    check(&watch, 60, &[("n1", Reason::AgentRestart, 3, 30)]);
}

#[test]
fn what_happens_to_a_node_that_is_open_already_is_a_gap_of_its_own() {
    // Killed at 40, before anybody knew how far back the new stream had read it.
    let mut watch = watching();
    watch.flow(&flow("n1", "a", 30), at(30));
    watch.ended(at(31));
    watch.opened(at(35), Some(at(20)));
    watch.status(&said(NodeState::Connected, "n1"), at(35));
    watch.flow(&flow("n1", "a", 30), at(36));
    watch.flow(&flow("n1", "b", 38), at(38));
    watch.vitals(&[NodeVitals { state: NodeState::Error, ..vitals("n1", 0, 1, true) }], at(42));
    watch.vitals(&[vitals("n1", 45, 47, false)], at(47));
    watch.flow(&flow("n1", "c", 46), at(47));
    watch.reached(&oldest(&[("n1", 46)]), at(50));
    let gaps: Vec<_> = watch.gaps().iter().map(|g| (g.reason, g.from, g.to)).collect();
    assert_eq!(gaps, [(Reason::NodeUnreachable, at(38), at(45))]);
}

#[test]
fn a_node_that_left_and_came_back_needs_another_stream() {
    let mut watch = watching();
    let both = |now| [vitals("n1", -1_000, now, true), vitals("n2", -1_000, now, true)];
    watch.flow(&flow("n1", "a", 20), at(20));
    assert!(!watch.vitals(&both(30), at(30)));
    assert!(!watch.vitals(&both(40)[1..], at(40)));
    check(&watch, 45, &[("n1", Reason::NodeGone, 20, 45)]);
    assert!(watch.vitals(&both(50), at(50)), "it is back, and this stream will not read it");
    watch.reached(&oldest(&[("n1", 0), ("n2", 0)]), at(55));
    check(&watch, 55, &[("n1", Reason::NodeGone, 20, 55)]);
    let since = watch.resume(at(56)).unwrap();
    assert!(since <= at(10), "{since}");
    watch.opened(at(56), Some(since));
    watch.reached(&oldest(&[("n1", 0), ("n2", 0)]), at(60));
    check(&watch, 60, &[]);
}

#[test]
fn a_node_that_stays_away_ends_and_does_not_hold_up_the_others() {
    let mut watch = watching();
    watch.flow(&flow("n2", "a", 8_000), at(8_000));
    watch.vitals(&[vitals("n2", -1_000, 8_001, true)], at(8_001));
    watch.vitals(&[vitals("n2", -1_000, 12_000, true)], at(12_000));
    assert_eq!(watch.coverage(at(12_001)).nodes.len(), 1);
    let gaps = watch.gaps().iter().collect::<Vec<_>>();
    assert_eq!(
        (gaps.len(), gaps[0].reason, gaps[0].to.duration_since(gaps[0].from)),
        (1, Reason::NodeGone, AWAY)
    );
    assert!(watch.resume(at(12_001)).unwrap() >= at(11_000));
}

#[test]
fn a_node_that_is_frozen_is_open_until_it_answers() {
    let mut watch = watching();
    for node in ["n1", "n2"] {
        watch.flow(&flow(node, "a", 20), at(20));
    }
    watch.partly(&oldest(&[("n2", 0)]), at(40));
    check(&watch, 41, &[("n1", Reason::NodeUnreachable, 20, 41)]);
    watch.vitals(&[vitals("n1", -1_000, 50, true), vitals("n2", -1_000, 50, true)], at(50));
    watch.reached(&oldest(&[("n1", 0), ("n2", 0)]), at(53));
    check(&watch, 60, &[]);
}

#[test]
fn lost_events_are_gaps_since_the_last_flow_that_was_read_before() {
    let mut watch = watching();
    watch.flow(&flow("n1", "a", 30), at(30));
    let lost = |source, node: &str, noticed| LostEvents { source, count: 5, node: n(node), noticed };
    let ring = LostSource::HubbleRingBuffer;
    watch.flow(&flow("n1", "b", 41), at(41));
    watch.lost(&lost(ring, "n1", Some((at(40), at(41)))), at(42));
    watch.lost(&lost(ring, "n2", Some((at(90), at(91)))), at(92));
    watch.lost(&lost(LostSource::PerfEventRingBuffer, "n2", Some((at(95), at(95)))), at(96));
    watch.lost(&lost(LostSource::ObserverEventsQueue, "", None), at(98));
    check(
        &watch,
        99,
        &[
            ("", Reason::LostQueue, 97, 98),
            ("n1", Reason::LostRing, 30, 41),
            ("n2", Reason::LostPerf, 94, 95),
            ("n2", Reason::LostRing, 30, 91),
        ],
    );
}

#[test]
fn a_later_run_goes_on_and_the_time_between_is_a_gap_as_far_as_the_ring_forgot() {
    let mut watch = watching();
    watch.flow(&flow("n1", "a", 30), at(30));
    watch.alive(at(32));
    let marks = watch.marks();
    assert_eq!(marks.nodes[&n("n1")], at(30));
    assert_eq!(marks.nodes[&n("n2")], at(22));

    let mut later = Watch::resumed(at(500), &marks);
    assert_eq!(later.resume(at(500)), Some(at(12)));
    later.opened(at(501), Some(at(12)));
    later.status(&said(NodeState::Connected, "n1"), at(501));
    later.status(&said(NodeState::Connected, "n2"), at(501));
    later.vitals(&[vitals("n1", -1_000, 504, true), vitals("n2", -1_000, 504, true)], at(504));
    later.reached(&oldest(&[("n1", 10), ("n2", 400)]), at(505));
    check(&later, 532, &[("n2", Reason::Downtime, 22, 400)]);
    let coverage = later.coverage(at(532));
    assert_eq!((coverage.from, coverage.nodes[&n("n2")].percent()), (at(32), 100.0 * 132.0 / 500.0));
}

#[test]
fn a_node_that_comes_later_with_more_than_was_asked_for_needs_another_stream() {
    let mut watch = watching();
    watch.opened(at(100), Some(at(80)));
    let three = |now| {
        [vitals("n1", -1_000, now, true), vitals("n2", -1_000, now, true), vitals("n3", -5, now, false)]
    };
    watch.vitals(&three(110), at(110));
    assert!(watch.reached(&oldest(&[]), at(120)), "its ring began with the run");
    let since = watch.resume(at(121)).unwrap();
    assert!(since <= at(0), "{since}");
    watch.opened(at(121), Some(since));
    watch.vitals(&three(125), at(125));
    assert!(!watch.reached(&oldest(&[]), at(125)));
    check(&watch, 130, &[]);
}

#[test]
fn a_clock_that_is_ahead_does_not_put_flows_out_of_reach() {
    let mut watch = watching();
    watch.flow(&flow("n1", "a", 9_000), at(20));
    watch.ended(at(21));
    assert!(watch.resume(at(22)).unwrap() <= at(20));
}
