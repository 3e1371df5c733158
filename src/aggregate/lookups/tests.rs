//! The laws of lookups: parts join in any order, with room and without.

use proptest::prelude::*;

use super::*;
use crate::flow::{DropReason, Endpoint, EventKind, L4, L7, L7Kind, Verdict};
use crate::names::NodeName;

fn query(app: u8, name: u8, resolver: u8, source_port: u16) -> Flow {
    let pod = |labels: &[&str]| Some(Arc::new(Endpoint::new(300, "shop", "p", "", labels.iter().copied())));
    Flow {
        time: jiff::Timestamp::from_second(1_700_000_000 + i64::from(source_port)).ok(),
        uuid: format!("{source_port}").into(),
        node: NodeName::lossy(&format!("n{}", source_port % 3)),
        verdict: Verdict::Forwarded,
        event: EventKind::L7,
        drop_reason: DropReason::NONE,
        direction: Some(Direction::Egress),
        is_reply: Some(false),
        ip: Some(([10, 0, 0, app].into(), [10, 0, 1, resolver].into())),
        l4: L4::Udp { source: source_port, destination: 53 },
        source: pod(&[&format!("k8s:app=a{app}")]),
        destination: pod(&[&format!("k8s:k8s-app=dns{resolver}")]),
        destination_names: [].into(),
        l7: Some(Box::new(L7 {
            kind: L7Kind::Request,
            record: L7Record::Dns { query: DnsName::parse(&format!("n{name}.example")).ok() },
        })),
        denied_by: Vec::new(),
        count: 1,
    }
}

fn lookups(flows: &[(Flow, bool)], each: usize, all: usize) -> Lookups {
    let mut lookups = Lookups::with_room(each, all);
    for (flow, passed) in flows {
        let lookup = Lookup::of(flow).unwrap();
        if *passed {
            lookups.fold(lookup, flow)
        } else {
            lookups.refuse(lookup, flow)
        };
    }
    lookups
}

fn joined(mut a: Lookups, b: &Lookups) -> Lookups {
    a.join(b.clone());
    a
}

#[test]
fn what_a_query_tells() {
    let flow = query(1, 2, 3, 40_000);
    let lookup = Lookup::of(&flow).unwrap();
    assert_eq!(lookup.name, DnsName::parse("n2.example.").ok());
    assert_eq!(lookup.resolver.port, Port::new(53).unwrap());
    let ObservedPeer::Pod(resolver) = &lookup.resolver.peer else { panic!("{lookup:?}") };
    assert_eq!(resolver.labels.kubernetes("k8s-app"), Some("dns3"));
    let host = Endpoint::new(1, "", "", "", ["reserved:host"]);
    assert_eq!(Lookup::of(&Flow { source: Some(Arc::new(host)), ..flow.clone() }), None);
    assert_eq!(Lookup::of(&Flow { l7: None, ..flow.clone() }), None);
    let odd = L7 { kind: L7Kind::Request, record: L7Record::Dns { query: None } };
    let odd = Flow { l7: Some(Box::new(odd)), ..flow };
    let lookups = lookups(&[(odd, true)], 10, 10);
    assert_eq!((lookups.unusable(), lookups.names.len, lookups.resolvers.len), (1, 0, 1));
}

#[test]
fn what_is_told_is_still_known() {
    let mut lookups = lookups(&[(query(1, 2, 3, 40_000), true), (query(1, 2, 3, 40_001), true)], 10, 10);
    let subject = Arc::clone(lookups.subjects().next().unwrap());
    let events =
        |lookups: &Lookups| lookups.names(&subject).map(|(_, _, tally)| tally.events()).collect::<Vec<_>>();
    assert_eq!(events(&lookups), [2]);
    let name = DnsName::parse("n2.example").unwrap();
    lookups.told(&subject, &name);
    assert_eq!(events(&lookups), [0]);
    assert!(!lookups.is_empty() && Lookups::default().is_empty());
}

#[test]
fn the_smallest_stay_and_it_is_said_that_others_did_not() {
    let flows: Vec<_> =
        (0..9).rev().map(|name| (query(1, name, 0, 40_000 + u16::from(name)), true)).collect();
    let names = |lookups: &Lookups| {
        let subject = Arc::clone(lookups.subjects().next().unwrap());
        lookups.names(&subject).map(|(name, ..)| name.to_string()).collect::<Vec<_>>()
    };
    let few = lookups(&flows, 3, 10);
    assert_eq!(names(&few), ["n0.example", "n1.example", "n2.example"]);
    assert!(few.is_cut() && !lookups(&flows, 9, 9).is_cut());
    assert_eq!(names(&lookups(&flows, 9, 2)), ["n0.example", "n1.example"]);
}

proptest! {
    #[test]
    fn parts_join_in_any_order(
        flows in prop::collection::vec((0u8..4, 0u8..9, 0u8..3, 40_000u16..40_006, any::<bool>()), 0..50),
        at in 0usize..50,
        room in prop::sample::select(vec![(100, 1_000), (3, 1_000), (100, 5), (3, 5)]),
    ) {
        let flows: Vec<(Flow, bool)> =
            flows.into_iter().map(|(a, n, r, p, passed)| (query(a, n, r, p), passed)).collect();
        let of = |flows: &[(Flow, bool)]| lookups(flows, room.0, room.1);
        let (first, second) = flows.split_at(at.min(flows.len()));
        let (whole, a, b) = (of(&flows), of(first), of(second));
        prop_assert_eq!(&joined(a.clone(), &b), &whole);
        prop_assert_eq!(&joined(b.clone(), &a), &whole);
        let (c, d) = second.split_at(second.len() / 2);
        prop_assert_eq!(&joined(a, &joined(of(c), &of(d))), &whole);
        let backwards: Vec<_> = flows.iter().cloned().rev().collect();
        prop_assert_eq!(&of(&backwards), &whole);
    }
}
