//! The report of drops: its document, its thresholds, its caps, and that the order makes no difference.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::flow::{L4, Verdict};

fn flow(number: i32, event: EventKind, second: i64, node: &str, app: &str, to: &str) -> Flow {
    let pod = |app: &str| {
        let labels = [format!("k8s:app={app}"), "k8s:io.kubernetes.pod.namespace=shop".to_owned()];
        Some(Arc::new(Endpoint::new(300, "shop", "p-1", "", labels.iter().map(String::as_str))))
    };
    Flow {
        time: Timestamp::from_second(second).ok(),
        uuid: "".into(),
        node: NodeName::lossy(node),
        verdict: Verdict::Dropped,
        event,
        drop_reason: DropReason(number),
        direction: Some(Direction::Egress),
        is_reply: None,
        ip: Some(("10.0.0.1".parse().unwrap(), to.parse().unwrap())),
        l4: L4::Absent,
        source: pod(app),
        destination: Some(Arc::new(Endpoint::new(2, "", "", "", ["reserved:world"]))),
        destination_names: [].into(),
        l7: None,
        denied_by: Vec::new(),
        count: 1,
    }
}

fn folded(flows: &[(Flow, bool)]) -> Health {
    let mut health = Health::default();
    for (flow, is_new) in flows {
        health.fold(Class::of(flow.drop_reason), flow, *is_new);
    }
    health
}

fn circumstances() -> Circumstances {
    let at = |second| Timestamp::from_second(second).unwrap();
    Circumstances {
        started: at(100),
        counts_from: Some(at(100)),
        written: at(200),
        finished: true,
        output_dir: "/srv/policies".into(),
    }
}

#[test]
fn every_reported_reason_has_cause_remedy_and_page() {
    assert!(remedy::REMEDIES.is_sorted_by_key(|(number, ..)| *number));
    for reason in DropReason::known() {
        let class = Class::of(reason);
        if is_reported(class) {
            let help = remedy(class, reason);
            assert!(help.text.len() > 10 && !help.text.ends_with('.'), "{reason}");
            assert!(help.page().starts_with("https://docs.cilium.io/en/stable/"), "{reason}");
        }
    }
    for (number, ..) in remedy::REMEDIES {
        assert!(is_reported(Class::of(DropReason(number))), "{number} has a remedy that nobody sees");
    }
}

#[test]
fn the_document_is_what_the_schema_says() {
    let deny = |event| {
        let mut flow = flow(181, event, 150, "n1", "web", "192.0.2.1");
        if event == EventKind::PolicyVerdict {
            flow.denied_by = vec!["CiliumNetworkPolicy shop/no-web".into()];
        }
        (flow, true)
    };
    let health = folded(&[
        (flow(155, EventKind::Drop, 50, "n1", "web", "192.0.2.1"), false),
        (flow(155, EventKind::Drop, 150, "n2", "web", "192.0.2.1"), true),
        (flow(155, EventKind::Drop, 160, "n2", "web", "192.0.2.1"), true),
        deny(EventKind::PolicyVerdict),
        deny(EventKind::Drop),
        (flow(132, EventKind::Drop, 150, "n1", "bad", "192.0.2.9"), true),
    ]);
    let mut noise = Noise::default();
    noise.set(DropReason(155), 1);
    let text = document(&health, &noise, &circumstances());
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(
        json["exceeded"],
        serde_json::json!([{"reason": "CT_MAP_INSERTION_FAILED", "drops_since_start": 2, "threshold": 1}])
    );
    let ct = &json["broken"][0];
    assert_eq!((&ct["number"], &ct["drops"], &ct["drops_since_start"]), (&155.into(), &3.into(), &2.into()));
    assert_eq!((&ct["first"], &ct["last"]), (&"1970-01-01T00:00:50Z".into(), &"1970-01-01T00:02:40Z".into()));
    assert_eq!(ct["places"][0]["node"], "n2");
    assert_eq!(ct["places"][0]["workload"], "shop/app=web");
    assert_eq!(ct["places"][0]["peer"], "192.0.2.1");
    assert!(ct["page"].as_str().unwrap().contains("ct-map-insertion-failed"));
    assert_eq!(json["broken"][1]["class"], "security");
    let refused = &json["refused"][0];
    assert_eq!((&refused["drops"], refused["places"].as_array().unwrap().len()), (&1.into(), 1));
    assert_eq!(refused["denied_by"], serde_json::json!(["CiliumNetworkPolicy shop/no-web"]));
    assert!(!text.contains('\u{1b}') && text.ends_with('\n'));
}

#[test]
fn noise_is_known_noise_only_up_to_its_number() {
    let drop = |second, is_new| (flow(155, EventKind::Drop, second, "n1", "web", "192.0.2.1"), is_new);
    let health = folded(&[drop(1, false), drop(2, true), drop(3, true)]);
    let mut noise = Noise::default();
    assert_eq!(noise.exceeded(&health), [Excess { reason: DropReason(155), drops: 2, allowed: 0 }]);
    noise.set(DropReason(155), 2);
    assert_eq!(noise.exceeded(&health), []);
    noise.set(DropReason(155), 1);
    assert_eq!(noise.exceeded(&health).len(), 1);
    // History alone is none, and security drops have no say in it.
    assert_eq!(Noise::default().exceeded(&folded(&[drop(1, false)])), []);
    let spoofed = (flow(132, EventKind::Drop, 2, "n1", "web", "192.0.2.1"), true);
    assert_eq!(Noise::default().exceeded(&folded(&[spoofed])), []);
}

#[test]
fn thresholds_are_told_what_is_wrong() {
    assert_eq!(parse_threshold("ct_map_insertion_failed=10"), Ok((DropReason(155), 10)));
    assert_eq!(parse_threshold("SERVICE_BACKEND_NOT_FOUND = 0"), Ok((DropReason(158), 0)));
    let check = |text: &str, says: &str| {
        let error = parse_threshold(text).unwrap_err();
        assert!(error.contains(says), "{text}: {error}");
    };
    check("MAP_INSERTION=3", "did you mean CT_MAP_INSERTION_FAILED");
    check("POLICY_DENIED=3", "of class policy");
    check("CT_MAP_INSERTION_FAILED", "REASON=N");
    check("CT_MAP_INSERTION_FAILED=-1", "not a whole number");
    check("CT_MAP_INSERTION_FAILED=\u{1b}[2J", "u{1b}");
}

#[test]
fn one_reason_cannot_take_the_room_of_another() {
    let mut health = Health::default();
    let mut refused = 0;
    for i in 0..(PLACES as u32 + 100) {
        let to = std::net::Ipv4Addr::from(0xc000_0200 + i).to_string();
        let room = health.fold(
            Class::Infrastructure,
            &flow(158, EventKind::Drop, i64::from(i), "n1", "web", &to),
            true,
        );
        refused += u64::from(!room);
    }
    assert!(health.fold(
        Class::Infrastructure,
        &flow(155, EventKind::Drop, 1, "n1", "web", "192.0.2.1"),
        true
    ));
    assert_eq!((refused, health.beyond()), (100, 100));
    let (_, _, backend) = health.reasons().find(|(_, reason, _)| reason.0 == 158).unwrap();
    assert_eq!(backend.seen.packets(), PLACES as u64 + 100, "the total counts all");
}

#[test]
fn parties_are_named_as_policies_name_them() {
    let named =
        |endpoint: Endpoint, address: &str| Party::of(Some(&endpoint), address.parse().ok()).to_string();
    let of = |labels: &[&str]| Endpoint::new(300, "shop", "p", "", labels.iter().copied());
    assert_eq!(named(of(&["k8s:app=web"]), "10.0.0.1"), "shop/app=web");
    assert_eq!(named(of(&["k8s:app=\u{1b}[31m"]), "10.0.0.1"), "shop/(no usable label)");
    assert_eq!(named(Endpoint::new(1, "", "", "", ["reserved:host"]), "10.0.0.1"), "reserved:host");
    assert_eq!(named(Endpoint::new(2, "", "", "", ["reserved:world"]), "192.0.2.1"), "192.0.2.1");
    assert_eq!(Party::of(None, None).to_string(), "unknown");
}

fn any_flow() -> impl Strategy<Value = (Flow, bool)> {
    (0..3usize, any::<bool>(), 0..100i64, 0..3u8, any::<bool>()).prop_map(
        |(reason, verdict, second, node, new)| {
            let event = if verdict { EventKind::PolicyVerdict } else { EventKind::Drop };
            (flow([155, 158, 181][reason], event, second, &format!("n{node}"), "web", "192.0.2.1"), new)
        },
    )
}

proptest! {
    #[test]
    fn the_order_makes_no_difference(flows in prop::collection::vec(any_flow(), 0..40), at in 0..40usize) {
        let all = folded(&flows);
        let (a, b) = flows.split_at(at.min(flows.len()));
        let (mut ab, mut ba) = (folded(a), folded(b));
        ab.join(&folded(b));
        ba.join(&folded(a));
        prop_assert_eq!(&ab, &all);
        prop_assert_eq!(&ba, &all);
    }
}
