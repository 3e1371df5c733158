//! What is written, held back, pending or a moment's, whatever the order of a window.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::aggregate::{ObservedPeer, Sample, Tally};
use crate::flow::{Connection, Endpoint, Flow, L4, Port, Protocol};
use crate::names::Namespace;
use crate::policy::{Entity, Selector};

/// Files that hold these addresses for every port, and stand for these subjects' observations.
#[derive(Default)]
struct Files {
    addresses: BTreeSet<IpNet>,
    all_stand: bool,
}

impl Standing for Files {
    fn subject(&mut self, observation: &Observation) -> Option<Subject> {
        let app = observation.subject.labels.kubernetes("app")?;
        Some(Subject { namespace: Namespace::parse("shop").ok()?, selector: Selector::new([("app", app)])? })
    }

    fn stands(&mut self, _: &Observation) -> bool {
        self.all_stand
    }

    fn ranges(&mut self, _: &Subject, _: Direction, _: Allow) -> BTreeSet<IpNet> {
        self.addresses.clone()
    }

    fn are_alike(&self, one: &Identity, other: &Identity) -> bool {
        one.labels.kubernetes("app") == other.labels.kubernetes("app")
    }
}

fn identity(labels: &[&str]) -> Arc<Identity> {
    Arc::new(Identity::new(300, "shop", "", labels.iter().copied()))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn address(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn single(n: u8) -> IpNet {
    IpNet::from(address(n))
}

fn tcp(port: u16) -> Allow {
    Allow::Port(Protocol::Tcp, Port::new(port).unwrap())
}

fn need(peer: ObservedPeer, direction: Direction, port: u16) -> Observation {
    Observation { subject: identity(&["k8s:app=web"]), direction, peer, allow: tcp(port), request: None }
}

/// One verdict for each connection, the first and the last at these times.
fn tally(connections: std::ops::Range<u64>, first: i64, last: i64) -> Tally {
    let events = connections.end - connections.start;
    let nodes = [];
    let mut tally = Tally::carried(connections, Some(at(first)), Some(at(last)), nodes);
    tally.verdict_events = events;
    tally
}

fn world(n: u8) -> Observed {
    (need(ObservedPeer::World(address(n)), Direction::Egress, 443), tally(0..1, 0, 0))
}

fn triage(world_limit: usize, min_connections: u64, settle: i64) -> Triage {
    let settle = SignedDuration::from_secs(settle);
    let caution = Caution { world_limit: Some(world_limit).filter(|l| *l > 0), min_connections, settle };
    Triage::new(caution, Pending::default())
}

fn written(sorted: &Sorted) -> Vec<u8> {
    let mut last: Vec<u8> = sorted
        .write
        .iter()
        .filter_map(|(observation, _)| match observation.peer {
            ObservedPeer::World(IpAddr::V4(address)) => Some(address.octets()[3]),
            _ => None,
        })
        .collect();
    last.sort_unstable();
    last
}

/// With limit 3: which of these addresses are written, when these stand in the file.
#[track_caller]
fn check_limit(standing: &[u8], windows: &[&[u8]], expected: &[&[u8]]) -> Triage {
    let mut triage = triage(3, 1, 0);
    let mut files = Files { addresses: standing.iter().map(|n| single(*n)).collect(), all_stand: false };
    let mut got = Vec::new();
    for window in windows {
        let sorted = triage.sort(window.iter().map(|n| world(*n)).collect(), &mut files);
        let now = written(&sorted);
        files.addresses.extend(now.iter().map(|n| single(*n)));
        assert_eq!(sorted.skipped.iter().map(|(_, n)| *n as usize).sum::<usize>() + now.len(), window.len());
        got.push(now);
    }
    assert_eq!(got, expected, "{standing:?} {windows:?}");
    triage
}

#[test]
fn a_port_with_too_many_addresses_is_held_back_as_a_whole() {
    check_limit(&[], &[&[1, 2, 3]], &[&[1, 2, 3]]);
    check_limit(&[], &[&[1, 2, 3, 4]], &[&[]]);
    // What is in the file counts, and goes on being seen.
    check_limit(&[1, 2], &[&[1, 2, 3]], &[&[1, 2, 3]]);
    check_limit(&[1, 2], &[&[1, 2, 3, 4]], &[&[1, 2]]);
    check_limit(&[1, 2, 3, 4], &[&[1, 5]], &[&[1]]);
    // Over the limit once is over it for the run.
    check_limit(&[], &[&[1, 2], &[3, 4], &[5]], &[&[1, 2], &[], &[]]);
    let triage = check_limit(&[9], &[&[1, 2, 3, 4], &[1, 5]], &[&[], &[]]);
    let crowd = triage.crowds().iter().next().unwrap();
    assert_eq!(crowd.flows, 6);
    assert_eq!(
        crowd.what(),
        "egress to 5 addresses outside of the cluster on TCP/443 (192.0.2.1, 192.0.2.2, 192.0.2.3, …), beside 1 in its file"
    );
    assert_eq!(
        crowd.proposal(),
        "names, where Hubble sees the DNS of the pods (a policy with dns rules), are written by themselves; \
         `toCIDRSet` with 192.0.2.1/32, 192.0.2.2/31, 192.0.2.4/31 on TCP/443 opens 5 addresses for the 5 seen; \
         --world-limit 0 writes each address"
    );
}

#[test]
fn a_range_in_the_file_is_a_decision() {
    let mut triage = triage(1, 1, 0);
    let mut files =
        Files { addresses: ["192.0.2.0/25".parse().unwrap(), single(200)].into(), all_stand: false };
    let sorted = triage.sort([1, 2, 3, 200].map(world).into(), &mut files);
    assert_eq!((written(&sorted), sorted.skipped), (vec![200], vec![(Skip::AlreadyAllowed, 1); 3]));
}

#[test]
fn names_other_ports_and_other_directions_have_limits_of_their_own() {
    let mut triage = triage(1, 1, 0);
    let name = crate::names::DnsName::parse("a.example").unwrap();
    let named = |n| ObservedPeer::Named { address: address(n), names: [name.clone()].into() };
    let new = [
        need(named(1), Direction::Egress, 443),
        need(named(2), Direction::Egress, 443),
        need(ObservedPeer::World(address(3)), Direction::Egress, 443),
        need(ObservedPeer::World(address(4)), Direction::Egress, 80),
        need(ObservedPeer::World(address(5)), Direction::Ingress, 443),
        need(ObservedPeer::Entity(Entity::Host), Direction::Ingress, 443),
    ];
    let new: Vec<Observed> = new.into_iter().map(|o| (o, tally(0..1, 0, 0))).collect();
    let sorted = triage.sort(new.clone(), &mut Files::default());
    assert_eq!((sorted.write, sorted.skipped), (new, vec![]));
}

#[test]
fn a_wide_spread_is_the_world_and_ingress_begins_with_it() {
    let mut triage = triage(2, 1, 0);
    let far = |a: [u8; 4], direction| need(ObservedPeer::World(IpAddr::from(a)), direction, 443);
    let mut new = Vec::new();
    for i in 0..100u8 {
        new.push((far([i.wrapping_mul(37), i, 1, 1], Direction::Egress), tally(0..1, 0, 0)));
        new.push((far([203, 0, 113, i], Direction::Ingress), tally(0..1, 0, 0)));
    }
    let sorted = triage.sort(new, &mut Files::default());
    assert_eq!((sorted.write.len(), sorted.new_crowds.len()), (0, 2));
    let [ingress, egress] = &sorted.new_crowds[..] else { panic!("two") };
    assert!(egress.proposal().contains("`toEntities: [world]` on TCP/443 opens it to every address"));
    let proposal = ingress.proposal();
    assert!(proposal.starts_with("`fromEntities: [world]` on TCP/443"), "{proposal}");
    assert!(
        proposal
            .contains("`fromCIDRSet` with 203.0.113.0/26, 203.0.113.64/26 on TCP/443 opens 128 addresses"),
        "{proposal}"
    );
    assert!(ingress.what().contains("ingress from about "), "{}", ingress.what());
}

/// With these settings: is a need written after each of these windows?
#[track_caller]
fn check_pending(
    min: u64,
    settle: i64,
    windows: &[(std::ops::Range<u64>, i64, i64)],
    expected: &[bool],
) -> Triage {
    let mut triage = triage(0, min, settle);
    let observation = need(ObservedPeer::Entity(Entity::Host), Direction::Ingress, 80);
    let mut got = Vec::new();
    for (connections, first, last) in windows {
        let mut ready = vec![(observation.clone(), tally(connections.clone(), *first, *last))];
        triage.take_up(&mut ready, false);
        let sorted = triage.sort(ready, &mut Files::default());
        assert_eq!((sorted.write.len() + triage.pending().len(), sorted.skipped.len()), (1, 0));
        got.push(!sorted.write.is_empty());
    }
    assert_eq!(got, expected, "{windows:?}");
    triage
}

#[test]
fn a_need_is_pending_until_it_was_seen_often_and_long_enough() {
    check_pending(1, 0, &[(0..1, 5, 5)], &[true]);
    check_pending(3, 0, &[(0..2, 0, 0), (1..2, 0, 0), (2..3, 0, 0)], &[false, false, true]);
    check_pending(1, 30, &[(0..5, 0, 29), (0..1, 30, 30)], &[false, true]);
    check_pending(2, 30, &[(0..1, 0, 40), (0..1, 50, 50), (7..8, 60, 60)], &[false, false, true]);
    let triage = check_pending(3, 30, &[(0..2, 0, 12)], &[false]);
    let (_, tally, events) = triage.pending().iter().next().unwrap();
    assert_eq!(events, (2, 0));
    let lacks = Lacks::of(tally, &triage.caution()).to_string();
    assert_eq!(lacks, "seen over 2 of 3 connections; seen again after 12s and not after 30s yet");
    let no_time = Lacks::of(&Tally::default(), &triage.caution()).to_string();
    assert_eq!(no_time, "seen over 0 of 3 connections; its flows have no time");
}

#[test]
fn what_stands_already_is_never_pending() {
    let mut triage = triage(0, 5, 0);
    let need = need(ObservedPeer::Entity(Entity::Host), Direction::Ingress, 80);
    let mut files = Files { all_stand: true, ..Files::default() };
    let sorted = triage.sort(vec![(need, tally(0..1, 0, 0))], &mut files);
    assert_eq!((sorted.write.len(), triage.pending().len()), (1, 0));
}

#[test]
fn what_an_earlier_run_saw_counts_when_it_is_written_and_not_before() {
    let observation = need(ObservedPeer::Entity(Entity::Host), Direction::Ingress, 80);
    let carried = Tally::carried(0..2, Some(at(0)), Some(at(1)), []);
    let pending = Pending::carried([(observation.clone(), carried, (4, 3))]);
    let caution = Caution { min_connections: 3, ..Caution::default() };
    let mut triage = Triage::new(caution, pending);
    let mut ready = Vec::new();
    triage.take_up(&mut ready, true);
    assert_eq!(ready[0].1.events(), 0);
    assert!(triage.sort(ready, &mut Files::default()).write.is_empty());
    let mut ready = vec![(observation, tally(2..3, 9, 9))];
    triage.take_up(&mut ready, false);
    let written = triage.sort(ready, &mut Files::default()).write;
    let [(_, tally)] = &written[..] else { panic!("one") };
    assert_eq!((tally.connections.count(), tally.verdict_events, tally.drop_events), (3, 5, 3));
    assert_eq!(tally.first, Some(at(0)));
}

/// Notes a pod at an address.
fn seen(triage: &mut Triage, pod: &str, labels: &[&str], number: u32, address: &str, second: i64) {
    let address: IpAddr = address.parse().unwrap();
    let flow = Flow {
        time: Some(at(second)),
        uuid: "".into(),
        node: crate::names::NodeName::default(),
        verdict: crate::flow::Verdict::Dropped,
        event: crate::flow::EventKind::PolicyVerdict,
        drop_reason: crate::flow::DropReason::POLICY_DENIED,
        direction: Some(Direction::Egress),
        is_reply: None,
        ip: Some((address, "10.9.9.9".parse().unwrap())),
        l4: L4::Absent,
        source: Some(Arc::new(Endpoint::new(number, "shop", pod, "", labels.iter().copied()))),
        destination: None,
        destination_names: [].into(),
        l7: None,
        denied_by: Vec::new(),
        count: 1,
    };
    let mut addresses = Addresses::new(100);
    addresses.note(&flow);
    triage.saw(addresses);
}

#[track_caller]
fn check_race(triage: &mut Triage, observed: Observed, expected: Option<Skip>) {
    let sorted = triage.sort(vec![observed], &mut Files::default());
    assert_eq!(sorted.skipped.first().map(|(skip, _)| *skip), expected);
    assert_eq!(sorted.write.is_empty(), expected.is_some());
}

fn sampled(entity: Entity, sources: &[&str]) -> Observed {
    let mut tally = tally(0..1, 0, 0);
    for (i, source) in sources.iter().enumerate() {
        let connection = Connection(i as u64);
        let sample = Sample {
            time: None,
            node: crate::names::NodeName::default(),
            uuid: "".into(),
            source: (*source).into(),
            destination: "shop/web-1".into(),
        };
        tally.samples.push((connection, sample));
    }
    (need(ObservedPeer::Entity(entity), Direction::Ingress, 80), tally)
}

#[test]
fn an_address_that_is_a_pods_is_no_world_and_no_init() {
    let mut triage = triage(0, 1, 0);
    check_race(&mut triage, world(7), None);
    check_race(&mut triage, sampled(Entity::Init, &["10.0.0.7"]), None);
    seen(&mut triage, "api-1", &["k8s:app=api"], 300, "192.0.2.7", 0);
    seen(&mut triage, "api-1", &["k8s:app=api"], 300, "10.0.0.7", 0);
    seen(&mut triage, "old-1", &["reserved:unmanaged"], 3, "10.0.0.8", 0);
    check_race(&mut triage, world(7), Some(Skip::IdentityRace));
    check_race(&mut triage, world(8), None);
    check_race(&mut triage, sampled(Entity::Init, &["10.0.0.7"]), Some(Skip::IdentityRace));
    check_race(&mut triage, sampled(Entity::Unmanaged, &["shop/api-1"]), Some(Skip::IdentityRace));
    // One of them is what it says.
    check_race(&mut triage, sampled(Entity::Init, &["10.0.0.7", "10.0.0.9"]), None);
    check_race(&mut triage, sampled(Entity::Unmanaged, &["shop/old-1"]), None);
    check_race(&mut triage, sampled(Entity::Unmanaged, &["10.0.0.8"]), None);
    check_race(&mut triage, sampled(Entity::Init, &[]), None);
}

#[test]
fn labels_of_a_starting_pod_are_not_written() {
    let mut triage = triage(0, 1, 0);
    let starting = ["k8s:app=starting"];
    seen(&mut triage, "api-1", &starting, 300, "10.0.0.7", 0);
    let of = |labels: &[&str]| need(ObservedPeer::Pod(identity(labels)), Direction::Egress, 80);
    check_race(&mut triage, (of(&starting), tally(0..1, 0, 0)), None);
    seen(&mut triage, "api-1", &["k8s:app=api"], 301, "10.0.0.7", 3);
    check_race(&mut triage, (of(&starting), tally(0..1, 0, 0)), Some(Skip::LabelsChanged));
    check_race(&mut triage, (of(&["k8s:app=api"]), tally(0..1, 3, 3)), None);
    // As the subject too.
    let mut subject = of(&["k8s:app=api"]);
    subject.subject = identity(&starting);
    check_race(&mut triage, (subject, tally(0..1, 0, 0)), Some(Skip::LabelsChanged));
    // Labels that no rule would name make no difference.
    seen(&mut triage, "db-1", &["k8s:app=db"], 302, "10.0.0.8", 0);
    seen(&mut triage, "db-1", &["k8s:app=db", "k8s:note=x"], 303, "10.0.0.8", 3);
    check_race(&mut triage, (of(&["k8s:app=db"]), tally(0..1, 0, 0)), None);
}

proptest! {
    #[test]
    fn the_order_within_a_window_makes_no_difference(
        all in prop::collection::btree_map(0u8..20, (0u64..4, 0i64..60), 0..20),
        standing in prop::collection::btree_set(0u8..20, 0..4),
        turn in any::<prop::sample::Index>(),
        limit in 0usize..6,
    ) {
        let new: Vec<Observed> = all
            .iter()
            .map(|(n, (connections, last))| {
                let direction = if n % 2 == 0 { Direction::Egress } else { Direction::Ingress };
                (need(ObservedPeer::World(address(*n)), direction, 443), tally(0..*connections, 0, *last))
            })
            .collect();
        let mut turned = new.clone();
        if !turned.is_empty() {
            let at = turn.index(turned.len());
            turned.rotate_left(at);
            turned.reverse();
        }
        let outcome = |new: Vec<Observed>| {
            let mut triage = triage(limit, 2, 20);
            let mut files = Files { addresses: standing.iter().map(|n| single(*n)).collect(), all_stand: false };
            let sorted = triage.sort(new, &mut files);
            let mut skipped: BTreeMap<Skip, u64> = BTreeMap::new();
            for (skip, flows) in &sorted.skipped {
                *skipped.entry(*skip).or_default() += flows;
            }
            let pending: Vec<_> = triage.pending().iter().map(|(o, t, _)| (o.clone(), t.clone())).collect();
            let crowds: Vec<_> = triage.crowds().iter().map(|c| (c.what(), c.proposal(), c.flows)).collect();
            let mut write = sorted.write;
            write.sort_by(|(a, _), (b, _)| a.cmp(b));
            (write, skipped, pending, crowds)
        };
        prop_assert_eq!(outcome(new.clone()), outcome(turned));
        // Each flow is somewhere, once.
        let flows: u64 = new.iter().map(|(_, tally)| tally.events()).sum();
        let (write, skipped, pending, _) = outcome(new);
        let there: u64 = write.iter().chain(&pending).map(|(_, tally)| tally.events()).sum();
        prop_assert_eq!(there + skipped.values().sum::<u64>(), flows);
    }

    /// However sightings are cut into windows, in whatever order: written at the end is what the union of them
    /// allows.
    #[test]
    fn windows_in_any_order_write_the_same_in_the_end(
        mut sightings in prop::collection::vec((0u64..6, 0i64..60), 1..8),
        shift in 0usize..8,
    ) {
        let run = |sightings: &[(u64, i64)]| {
            let mut triage = triage(0, 3, 30);
            let observation = need(ObservedPeer::Entity(Entity::Host), Direction::Ingress, 80);
            let mut written = false;
            for (connection, second) in sightings {
                let mut ready = vec![(observation.clone(), tally(*connection..connection + 1, *second, *second))];
                triage.take_up(&mut ready, false);
                let mut files = Files { all_stand: written, ..Files::default() };
                written |= !triage.sort(ready, &mut files).write.is_empty();
            }
            written
        };
        let first = run(&sightings);
        let shift = shift % sightings.len();
        sightings.rotate_left(shift);
        prop_assert_eq!(run(&sightings), first);
        sightings.reverse();
        prop_assert_eq!(run(&sightings), first);
    }
}
