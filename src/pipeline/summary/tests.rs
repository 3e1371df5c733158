//! Which exit code follows from what.

use super::*;

fn summary(end: FeedEnd) -> Summary {
    Summary {
        audit: false,
        learning: None,
        counters: Counters::default(),
        results: Results::default(),
        also_selected: Vec::new(),
        end,
        late: None,
        faults: Vec::new(),
        noise: Noise::default(),
        health_file: None,
        health_error: None,
        writer_lost: false,
        waiting: 0,
        elapsed: Duration::from_secs(1),
        root: None,
        changes: None,
        namespaces_asked: Namespaces::All,
        http_asked: false,
        namespaces_of_relay: None,
        coverage: None,
        min_coverage: None,
    }
}

#[test]
fn two_outranks_one_outranks_zero() {
    let mut s = summary(FeedEnd::Stopped);
    assert_eq!(s.exit(true, true), Exit::Done);
    let drop = crate::source::json::read_line(
        br#"{"flow":{"verdict":"DROPPED","drop_reason_desc":155},"node_name":"n1"}"#,
        &mut crate::source::decode::Decoder::new(),
    );
    let Ok(crate::source::Item::Flow(drop)) = drop else { panic!("{drop:?}") };
    Arc::make_mut(&mut s.counters.health).fold(crate::classify::Class::Infrastructure, &drop, true);
    assert_eq!(s.exit(false, true), Exit::Done);
    assert_eq!(s.exit(true, true), Exit::InfrastructureDrops);
    s.changes = Some(vec![FileChange { path: "a".into(), old: None, new: "b".into() }]);
    assert_eq!(s.exit(true, true), Exit::InfrastructureDrops);
    s.noise.set(drop.drop_reason, 1);
    assert_eq!((s.exit(true, false), s.exit(true, true)), (Exit::Done, Exit::WouldChange));
    s.noise.set(drop.drop_reason, 0);
    s.late = Some("writing".into());
    assert_eq!(s.exit(true, true), Exit::Incomplete);
    assert_eq!(s.exit(true, true).code(), 2);
}

#[test]
fn a_closed_stream_is_not_success() {
    let end = crate::source::relay::StreamEnd {
        status: "the relay ended the stream".into(),
        kind: crate::source::relay::EndKind::Ended,
    };
    assert_eq!(summary(FeedEnd::Stream(end)).exit(false, true), Exit::Incomplete);
}
