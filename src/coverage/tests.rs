//! Gaps join in any order, never shrink, and shares follow from them.

use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn node(number: u8) -> NodeName {
    NodeName::lossy(&format!("west/n{number}"))
}

fn gap(of: Option<u8>, reason: Reason, from: i64, to: i64) -> Gap {
    Gap { node: of.map(node), reason, from: at(from), to: at(to) }
}

fn gaps(all: &[Gap], capacity: usize) -> Gaps {
    let mut gaps = Gaps::new(capacity);
    for gap in all {
        gaps.insert(gap.clone());
    }
    gaps
}

fn any_gap() -> impl Strategy<Value = Gap> {
    let reason = prop::sample::select(Reason::ALL);
    (prop::option::of(0..4u8), reason, 0..100i64, 0..30i64)
        .prop_map(|(node, reason, from, length)| gap(node, reason, from, from + length))
}

proptest! {
    #[test]
    fn a_join_is_commutative_associative_and_idempotent(
        a in prop::collection::vec(any_gap(), 0..20),
        b in prop::collection::vec(any_gap(), 0..20),
        c in prop::collection::vec(any_gap(), 0..20),
    ) {
        let of = |all: &[Gap]| gaps(all, 1_000);
        let joined = |parts: &[&[Gap]]| {
            let mut sum = of(&[]);
            parts.iter().for_each(|part| sum.join(&of(part)));
            sum
        };
        let whole = joined(&[&a, &b, &c]);
        prop_assert_eq!(&whole, &joined(&[&c, &b, &a]));
        let mut right = of(&a);
        right.join(&joined(&[&b, &c]));
        prop_assert_eq!(&whole, &right);
        let mut twice = whole.clone();
        twice.join(&whole);
        prop_assert_eq!(&whole, &twice);
        prop_assert_eq!(whole.widened(), 0);
    }

    #[test]
    fn every_moment_of_every_gap_is_in_one_also_above_the_capacity(
        all in prop::collection::vec(any_gap(), 0..40),
        capacity in 1..12usize,
    ) {
        let (kept, exact) = (gaps(&all, capacity), gaps(&all, 1_000));
        prop_assert!(kept.len() <= capacity);
        prop_assert_eq!(kept.widened() > 0, kept != exact);
        for gap in &all {
            for second in [gap.from, gap.to] {
                prop_assert!(kept.holds(gap.node.as_ref(), second), "{gap:?} is not in {kept:?}");
            }
        }
        for number in 0..4 {
            let share = |gaps: &Gaps| gaps.share(Some(&node(number)), at(0), at(130)).watched;
            prop_assert!(share(&kept) <= share(&exact));
        }
    }
}

#[test]
fn gaps_that_touch_are_one() {
    use Reason::{NodeError, Reconnect};
    let all = gaps(
        &[
            gap(Some(1), Reconnect, 0, 10),
            gap(Some(1), Reconnect, 10, 20),
            gap(Some(1), Reconnect, 30, 40),
            gap(Some(1), NodeError, 15, 35),
            gap(Some(2), Reconnect, 5, 4),
        ],
        10,
    );
    assert_eq!(
        all.iter().collect::<Vec<_>>(),
        [gap(Some(1), Reconnect, 0, 20), gap(Some(1), Reconnect, 30, 40), gap(Some(1), NodeError, 15, 35)]
    );
    assert!(all.holds(Some(&node(1)), at(20)) && !all.holds(Some(&node(2)), at(20)));
}

#[test]
fn shares_count_each_missed_second_once() {
    use Reason::{LostRing, NodeError, Reconnect};
    let gaps = gaps(
        &[
            gap(Some(1), NodeError, 10, 20),
            gap(Some(1), LostRing, 15, 25),
            gap(None, Reconnect, 90, 200),
            gap(Some(2), NodeError, -50, 10),
        ],
        100,
    );
    let shop = Namespace::parse("shop").unwrap();
    let (one, two, three) = (node(1), node(2), node(3));
    let nodes = [(&one, at(0), vec![&shop, &shop]), (&two, at(0), vec![]), (&three, at(50), vec![&shop])];
    let coverage = Coverage::new(at(0), at(100), nodes, gaps);
    let percents: Vec<f64> = coverage.nodes.values().map(|share| share.percent()).collect();
    assert_eq!(percents, [75.0, 80.0, 80.0]);
    let shop = coverage.namespaces[&shop];
    assert_eq!((shop.watched.as_secs(), shop.total.as_secs()), (115, 150));
    assert_eq!(coverage.whole().total.as_secs(), 250);
    assert!((coverage.least() - 100.0 * 115.0 / 150.0).abs() < 1e-9);
    assert!(
        coverage.watched(&one, at(5)) && !coverage.watched(&one, at(12)) && !coverage.watched(&one, at(101))
    );

    let none = Coverage::new(at(0), at(0), [], Gaps::new(1));
    assert_eq!(none.least(), 100.0);
    let blind = Coverage::new(at(0), at(10), [], super::tests::gaps(&[gap(None, Reconnect, 0, 10)], 5));
    assert_eq!(blind.least(), 0.0);
}

#[test]
fn names_of_reasons_are_read_back() {
    for reason in Reason::ALL {
        assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
    }
    assert_eq!(Reason::from_name("else"), None);
}
