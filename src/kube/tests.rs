//! Which pod and which port are chosen.

use k8s_openapi::api::core::v1::{Pod, Service};
use serde_json::{Value, json};

use super::choice::{best, selector, service_port, stands_for_tls, target_port, version, why_none};

fn service(spec: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "hubble-relay"}, "spec": spec})).unwrap()
}

/// A pod that is ready since this minute of an hour, changed by `more`.
fn pod(name: &str, minute: u32, more: Value) -> Pod {
    let mut pod = json!({
        "metadata": {"name": name},
        "spec": {"containers": [
            {"name": "other", "ports": [{"name": "metrics", "containerPort": 9966}]},
            {"name": "hubble-relay", "ports": [{"name": "grpc", "containerPort": 4245}]},
        ]},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": format!("2026-03-01T10:{minute:02}:00Z")},
        ]},
    });
    for (path, value) in more.as_object().unwrap() {
        let (parent, key) = path.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn name(pod: Option<&Pod>) -> Option<&str> {
    pod.and_then(|pod| pod.metadata.name.as_deref())
}

#[test]
fn the_pod_that_is_ready_for_longest() {
    let gone = json!({"/metadata/deletionTimestamp": "2026-03-01T10:00:00Z"});
    let not_ready = json!({"/status/conditions": [{"type": "Ready", "status": "False"}]});
    let pending = json!({"/status/phase": "Pending"});
    let pods = [
        pod("gone", 1, gone),
        pod("not-ready", 2, not_ready),
        pod("pending", 3, pending),
        pod("young", 30, json!({})),
        pod("old", 20, json!({})),
    ];
    assert_eq!(name(best(&pods, None)), Some("old"));
    assert_eq!(name(best(&pods, Some("old"))), Some("young"));
    assert_eq!(name(best(&pods[4..], Some("old"))), Some("old"));
    assert_eq!(name(best(&pods[..3], None)), None);
    assert_eq!(
        why_none(&pods[..3]),
        "gone is terminating, not-ready is running, not ready, pending is Pending"
    );
    assert_eq!(why_none(&[]), "it selects no pods");
}

#[test]
fn ports_by_number_and_by_name() {
    let check = |port: Value, expected: Result<u16, &str>| {
        let service = service(json!({"ports": [port]}));
        let got = target_port(service_port(&service).unwrap(), &pod("p", 1, json!({})));
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(got), Err(part)) => assert!(got.contains(part), "{got}"),
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    };
    check(json!({"port": 80, "targetPort": 4245}), Ok(4245));
    check(json!({"port": 80, "targetPort": "grpc"}), Ok(4245));
    check(json!({"port": 80, "targetPort": "4245"}), Err("named \"4245\""));
    check(json!({"port": 4245}), Ok(4245));
    check(json!({"port": 80, "targetPort": 0}), Ok(80));
    check(json!({"port": 80, "targetPort": "none"}), Err("pod p does not have"));
    check(json!({"port": 80, "targetPort": 70000}), Err("is no port"));
}

#[test]
fn what_a_service_says() {
    let chart = service(json!({"selector": {"k8s-app": "hubble-relay", "a": "b"}, "ports": [{"port": 443}]}));
    assert_eq!(selector(&chart).as_deref(), Some("a=b,k8s-app=hubble-relay"));
    assert_eq!(service_port(&chart).map(|p| p.port), Some(443));
    let by_hand = service(json!({"type": "ExternalName", "externalName": "relay.example"}));
    assert_eq!((selector(&by_hand), service_port(&by_hand)), (None, None));
    assert_eq!(selector(&service(json!({"selector": {}}))), None);
    assert_eq!([443, 80, 4245].map(stands_for_tls), [Some(true), Some(false), None]);
}

#[test]
fn the_version_is_the_tag_of_the_image() {
    let check = |image: &str, expected: Option<&str>| {
        let more = json!({"/spec/containers/1/image": image});
        assert_eq!(version(&pod("p", 1, more)).as_deref(), expected, "{image}");
    };
    check("quay.io/cilium/hubble-relay:v1.19.7@sha256:abc", Some("v1.19.7"));
    check("registry:5000/cilium/hubble-relay:v1.16.0", Some("v1.16.0"));
    check("registry:5000/cilium/hubble-relay@sha256:abc", None);
    check("registry:5000/cilium/hubble-relay", None);
}
