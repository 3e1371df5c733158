//! The laws of joins, the written form, caps, and what a standing rule is.

use proptest::prelude::*;

use super::*;
use crate::aggregate::{SAMPLES, Sample, Smallest};
use crate::flow::{Connection, Direction, IcmpFamily, Port, Protocol};
use crate::names::{DnsName, Namespace, NodeName};
use crate::policy::{Allow, Entity, HttpMatch, IcmpType, L7Match, Peer, Selector};

fn subject() -> Subject {
    Subject {
        namespace: Namespace::parse("shop").unwrap(),
        selector: Selector::new([("app", "web"), ("tier", "a \"b\"")]).unwrap(),
    }
}

fn rule(n: u16) -> Rule {
    let tcp = Allow::Port(Protocol::Tcp, Port::new(n + 1).unwrap());
    let (peer, allow) = match n % 6 {
        0 => (Peer::Endpoints(Selector::new([("app", "api")]).unwrap()), tcp),
        1 => (Peer::Entity(Entity::KubeApiserver), tcp),
        2 => (Peer::address("2001:db8::7".parse().unwrap()), tcp),
        3 => {
            let l7 = L7Match::Http(HttpMatch { method: "GET".into(), path: r"/a\.b(\?.*)?".into() });
            return Rule { l7: Some(l7), ..Rule::plain(Direction::Ingress, Peer::Entity(Entity::Host), tcp) };
        }
        4 => {
            let name = DnsName::parse("api.example.com").unwrap();
            let l7 = (n > 4).then(|| L7Match::Dns(name.clone()));
            return Rule { l7, ..Rule::plain(Direction::Egress, Peer::Fqdn(name), tcp) };
        }
        _ => (
            Peer::address("192.0.2.7".parse().unwrap()),
            Allow::Icmp(IcmpFamily::V4, IcmpType::new(8).unwrap()),
        ),
    };
    Rule::plain(if n.is_multiple_of(2) { Direction::Egress } else { Direction::Ingress }, peer, allow)
}

fn at(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn source(name: &str) -> Source {
    Source {
        kind: SourceKind::Capture,
        name: name.into(),
        cluster: Some("west".into()),
        cpg: "0.1.0".into(),
        cilium: None,
    }
}

fn sample(n: u64) -> (Connection, Sample) {
    let sample = Sample {
        time: Some(at(n as i64)),
        node: NodeName::lossy("n1"),
        uuid: format!("u{n}").into(),
        source: "shop/web-1".into(),
        destination: "shop/\"api\"".into(),
    };
    (Connection(n % 7), sample)
}

prop_compose! {
    fn entry()(
        sessions in prop::collection::btree_map(0..6u64, (0..50u64, 0..50u64, 0..100i64), 1..5),
        connections in prop::collection::vec(any::<u64>(), 0..80),
        samples in prop::collection::btree_map(0..7u64, 0..60u64, 0..7),
        written in proptest::option::of(0..100i64),
        standing in proptest::option::of((0..100i64, 0..3u8)),
        older in 0..3u64,
        inferred in proptest::option::of(0..3u8),
        across in proptest::option::of((0..100i64, proptest::option::of(0..3u8))),
    ) -> Entry {
        let mut set = Smallest::default();
        for hash in connections {
            set.insert(hash);
        }
        let seen = |(verdict_events, drop_events, time): (u64, u64, i64)| Seen {
            verdict_events,
            drop_events,
            times: Times::at(at(time)),
            ..Seen::default()
        };
        Entry {
            sessions: sessions.into_iter().map(|(id, of)| (SessionId(id), seen(of))).collect(),
            older: Older { sessions: older, seen: Seen { verdict_events: older * 3, ..Seen::default() } },
            connections: set,
            nodes: [NodeName::lossy("n1")].into(),
            samples: samples.into_iter().map(|(c, n)| (Connection(c), sample(n).1)).collect(),
            written: written.map(|s| Times::at(at(s))).unwrap_or_default(),
            standing: standing.map(|(since, state)| Standing {
                since: at(since),
                state: match state {
                    0 => State::Written,
                    1 => State::Covered("another".into()),
                    _ => State::Gone,
                },
            }),
            inferred: inferred.map(|n| format!("rule {n}").into()),
            across: across.map(|(since, closed)| Across {
                since: at(since),
                closed: closed.map(|n| format!("policy {n}").into()),
            }),
        }
    }
}

prop_compose! {
    fn evidence()(rules in prop::collection::btree_map(0..12u16, entry(), 0..6), left_out in 0..3u64) -> Evidence {
        let mut evidence = Evidence::new(subject());
        for (n, entry) in rules {
            for id in entry.sessions.keys() {
                let name = format!("capture {}", id.0 % 3);
                evidence.sessions.insert(*id, Session::new(source(&name), Times::at(at(n.into()))));
            }
            evidence.rules.insert(rule(n), entry);
        }
        evidence.left_out = left_out;
        evidence
    }
}

fn joined(a: &Evidence, b: &Evidence) -> Evidence {
    let mut all = a.clone();
    all.join(b.clone(), Counts::Same);
    all
}

proptest! {
    #[test]
    fn joins_commute_and_associate_and_change_nothing_twice(a in evidence(), b in evidence(), c in evidence()) {
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        let ab = joined(&a, &b);
        prop_assert_eq!(&joined(&ab, &b), &ab);
        prop_assert_eq!(&joined(&a, &a), &a);
    }

    #[test]
    fn what_is_written_is_what_is_read(evidence in evidence()) {
        let mut evidence = evidence;
        let (text, left_out) = evidence.render();
        prop_assert_eq!(left_out, 0);
        let mut read = Evidence::parse(&text).unwrap();
        prop_assert_eq!(read.render().0, text);
        prop_assert_eq!(read, evidence);
    }

    #[test]
    fn halves_in_one_session_are_the_whole(
        flows in prop::collection::vec((0..4u16, 0..200u64, any::<bool>()), 0..60), cut in 0..60usize
    ) {
        let see = |flows: &[(u16, u64, bool)]| {
            let mut evidence = Evidence::new(subject());
            for (n, connection, verdict) in flows {
                let mut tally = Tally::default();
                tally.verdict_events = u64::from(*verdict);
                tally.drop_events = u64::from(!*verdict);
                tally.connections.insert(*connection);
                tally.samples.push((Connection(*connection), sample(*connection).1));
                (tally.first, tally.last) = (Some(at(*connection as i64)), Some(at(*connection as i64)));
                evidence.see(&rule(*n), SessionId(1), &source("c"), &tally);
            }
            evidence
        };
        let (first, second) = flows.split_at(cut.min(flows.len()));
        let mut halves = see(second);
        halves.join(see(first), Counts::More);
        prop_assert_eq!(halves, see(&flows));
    }
}

#[test]
fn a_session_that_two_files_know_counts_once() {
    let mut tally = Tally::default();
    tally.verdict_events = 5;
    tally.connections.insert(1);
    let mut once = Evidence::new(subject());
    once.see(&rule(0), SessionId(7), &source("drops.jsonl"), &tally);
    let renamed = {
        let mut other = Evidence::new(subject());
        other.see(&rule(0), SessionId(7), &source("copy.jsonl"), &tally);
        other
    };
    let both = joined(&once, &renamed);
    assert_eq!(both.rules[&rule(0)].seen().verdict_events, 5);
    assert_eq!(&*both.sessions[&SessionId(7)].source.name, "drops.jsonl");
    let mut another = Evidence::new(subject());
    another.see(&rule(0), SessionId(8), &source("drops.jsonl"), &tally);
    let both = joined(&once, &another);
    assert_eq!(both.rules[&rule(0)].seen().verdict_events, 10);
    assert_eq!(both.rules[&rule(0)].connections.count(), 1);
}

#[test]
fn caps_keep_the_latest_sessions_and_the_sum_of_the_others() {
    let mut evidence = Evidence::new(subject());
    for n in 0..15u64 {
        let mut tally = Tally::default();
        tally.drop_events = 2;
        tally.last = Some(at(n as i64));
        tally.samples = (0..SAMPLES as u64).map(sample).take(7).collect();
        evidence.see(&rule(0), SessionId(n), &source("c"), &tally);
    }
    evidence.cut(Caps { sessions: 10, samples: 3 });
    let entry = &evidence.rules[&rule(0)];
    assert_eq!(entry.sessions.keys().map(|id| id.0).collect::<Vec<_>>(), (5..15).collect::<Vec<_>>());
    assert_eq!((entry.older.sessions, entry.seen().drop_events, entry.samples.len()), (5, 30, 3));
    assert_eq!(evidence.sessions.len(), 10);
}

#[test]
fn a_file_that_would_be_too_large_loses_samples_and_then_the_oldest_rules() {
    let mut evidence = Evidence::new(subject());
    let mut tally = Tally::default();
    for n in 0..64u64 {
        tally.connections.insert(n);
        tally.samples.push((Connection(n), sample(n).1));
    }
    for n in 0..12_000u16 {
        tally.last = Some(at(n.into()));
        let allow = Allow::Port(Protocol::Tcp, Port::new(n + 1).unwrap());
        let rule = Rule::plain(Direction::Egress, Peer::Entity(Entity::Host), allow);
        evidence.see(&rule, SessionId(1), &source("c"), &tally);
    }
    let (text, left_out) = evidence.render();
    assert!(text.len() <= MAX_BYTES && text.len() > MAX_BYTES / 2, "{}", text.len());
    assert_eq!(left_out + evidence.rules.len() as u64, 12_000);
    assert!(left_out > 0 && evidence.left_out == left_out);
    assert!(evidence.rules.values().all(|entry| entry.samples.is_empty()));
    let first = evidence.rules.values().map(|entry| entry.seen().times.last).min();
    assert_eq!(first, Some(Some(at(left_out as i64))));
    assert_eq!(Evidence::parse(&text).unwrap(), evidence);
}

#[test]
fn other_texts_are_no_evidence() {
    let damaged = |text: &str| matches!(Evidence::parse(text), Err(EvidenceError::Damaged(_)));
    assert!(damaged("") && damaged("{}") && damaged("{\"version\":1}") && damaged("\u{1b}[2J"));
    assert_eq!(Evidence::parse("{\"version\":2,\"x\":[]}"), Err(EvidenceError::Version(2)));
    let mut evidence = Evidence::new(subject());
    evidence.see(&rule(0), SessionId(1), &source("c"), &Tally::default());
    let text = evidence.render().0;
    assert!(!damaged(&text));
    assert!(damaged(&text.replace("\"port\":1", "\"port\":0")));
    assert!(damaged(&text.replace("egress", "sideways")));
    assert!(damaged(&text[..text.len() / 2]));
}

#[test]
fn a_state_keeps_its_time_as_long_as_it_lasts() {
    let mut entry = Entry::default();
    entry.stands(State::Written, at(1));
    entry.stands(State::Written, at(2));
    assert_eq!(entry.standing, Some(Standing { since: at(1), state: State::Written }));
    entry.stands(State::Gone, at(3));
    entry.stands(State::Gone, at(4));
    assert_eq!(entry.orphan_since(), Some(at(3)));
    entry.stands(State::Covered("line 1".into()), at(5));
    entry.stands(State::Covered("line 2".into()), at(6));
    assert_eq!(entry.standing, Some(Standing { since: at(5), state: State::Covered("line 2".into()) }));
    assert_eq!(entry.orphan_since(), None);
}

#[test]
fn captures_are_known_by_what_is_in_them() {
    let id = |hashes: &[u64]| SessionId::of_captures(hashes.iter().copied());
    assert_eq!((id(&[]), id(&[0]), id(&[7])), (None, None, Some(SessionId(7))));
    assert_eq!(id(&[1, 2]), id(&[2, 1]));
    assert_eq!(id(&[2, 2, 1, 0]), id(&[1, 2]));
    assert_ne!(id(&[1, 2]), id(&[1]));
}

#[test]
fn confidence_says_why() {
    let with = |verdicts: u64, drops: u64, connections: u64| {
        let mut tally = Tally::default();
        (tally.verdict_events, tally.drop_events) = (verdicts, drops);
        (0..connections).for_each(|n| {
            tally.connections.insert(n);
        });
        let mut entry = Entry::default();
        entry.see(SessionId(1), &tally);
        let confidence = confidence(&entry);
        (confidence.level, confidence.why)
    };
    assert_eq!(with(3, 3, 2), (Level::High, "policy verdicts on 2 connections".into()));
    assert_eq!(with(3, 3, 1), (Level::Low, "one connection only".into()));
    assert_eq!(with(0, 9, 5).0, Level::Low);
    assert_eq!(with(1, 0, 0).0, Level::Low);
}
