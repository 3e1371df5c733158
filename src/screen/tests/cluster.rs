//! Policies of the cluster, in all kinds, and when a drop came although one allowed it.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::*;
use crate::aggregate::Tally;
use crate::screen::cluster::{Here, is_transient};

const SEEN: &str = "2026-03-01T10:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn policy(kind: PolicyKind, namespace: &str, name: &str, spec: Value) -> Arc<ClusterPolicy> {
    let object = json!({
        "metadata": {"name": name, "namespace": namespace, "managedFields": [{}], "labels": {"a": "b"}},
        "spec": spec, "status": {"conditions": []},
    });
    let Value::Object(object) = object else { panic!() };
    Arc::new(ClusterPolicy::new(kind, object, at(SEEN)).unwrap())
}

fn cnp(name: &str, spec: Value) -> Arc<ClusterPolicy> {
    policy(PolicyKind::Cnp, "shop", name, spec)
}

#[allow(clippy::field_reassign_with_default, reason = "it has private fields")]
fn dropped(time: &str) -> Tally {
    let mut tally = Tally::default();
    tally.last = Some(at(time));
    tally
}

fn judge(policies: Vec<Arc<ClusterPolicy>>, tally: &Tally, here: Here) -> InCluster {
    let mut known = ClusterKnown::default();
    assert_eq!(known.renew(policies), []);
    known.judge(&egress(), tally, |_, _| here)
}

fn to_pay(port: &str) -> Value {
    json!({
        "toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "pay", "app": "api"}}],
        "toPorts": [{"ports": [{"port": port, "protocol": "TCP"}]}],
    })
}

fn web(direction: &str, rule: Value) -> Value {
    let mut spec = json!({"endpointSelector": {"matchLabels": {"app": "web"}}});
    spec[direction] = json!([rule]);
    spec
}

#[test]
fn every_kind_matching_wider_narrower_unrelated_denying() {
    let everyone = json!({"toEntities": ["cluster"]});
    let other = json!({"endpointSelector": {"matchLabels": {"app": "other"}}, "egress": [everyone]});
    let np = |to: Value, port: u16| {
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
               "egress": [{"to": [to], "ports": [{"port": port, "protocol": "TCP"}]}]})
    };
    let pay = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "pay"}}});
    let everywhere = json!({"namespaceSelector": {}});
    let mut cases = vec![
        (PolicyKind::KubernetesNetworkPolicy, np(everywhere.clone(), 443), "allowed"),
        (PolicyKind::KubernetesNetworkPolicy, np(everywhere, 444), "new"),
        // Which namespaces have a label is not known here.
        (PolicyKind::KubernetesNetworkPolicy, np(pay, 443), "new"),
    ];
    for kind in [PolicyKind::Cnp, PolicyKind::Ccnp] {
        cases.extend([
            (kind, web("egress", to_pay("443")), "allowed"),
            (kind, web("egress", everyone.clone()), "allowed"),
            (kind, web("egress", to_pay("444")), "new"),
            (kind, other.clone(), "new"),
            (kind, web("egressDeny", to_pay("443")), "denied"),
        ]);
    }
    for (kind, spec, expected) in cases {
        let got = match judge(vec![policy(kind, "shop", "x", spec.clone())], &dropped(SEEN), Here::Absent) {
            InCluster::New => "new",
            InCluster::Allowed(_) => "allowed",
            InCluster::Transient(_) => "transient",
            InCluster::Denied(_) => "denied",
        };
        assert_eq!(got, expected, "{kind:?} {spec}");
    }
}

#[test]
fn the_policy_is_named_with_whether_the_directory_has_it() {
    let policies = || vec![cnp("wide", web("egress", json!({"toEntities": ["all"]})))];
    let says = |here| judge(policies(), &dropped(SEEN), here);
    let rule = "CiliumNetworkPolicy shop/wide: spec.egress[0] in the cluster";
    assert_eq!(says(Here::Absent), InCluster::Allowed(format!("{rule}, not in this directory")));
    assert_eq!(says(Here::Agrees), InCluster::Allowed(rule.to_owned()));
    // The directory's version takes its place with the next apply.
    assert_eq!(says(Here::Differs), InCluster::New);
}

#[test]
fn one_policy_that_stays_is_enough_and_the_oldest_counts() {
    let older = |policy: Arc<ClusterPolicy>| {
        let seen = policy.seen - SignedDuration::from_hours(1);
        Arc::new(ClusterPolicy { seen, ..(*policy).clone() })
    };
    let wide = web("egress", json!({"toEntities": ["all"]}));
    let policies = vec![cnp("a", wide.clone()), older(cnp("b", wide))];
    let mut known = ClusterKnown::default();
    known.renew(policies);
    let mut judge = |goes: &str| {
        known.judge(&egress(), &dropped(SEEN), |id, allows| {
            assert!(allows);
            if &*id.name == goes { Here::Differs } else { Here::Absent }
        })
    };
    let told = |told: &InCluster| format!("{told:?}");
    let both = judge("");
    assert!(matches!(&both, InCluster::Transient(_)) && told(&both).contains("shop/b"), "{both:?}");
    let young = judge("b");
    assert!(matches!(&young, InCluster::Allowed(_)) && told(&young).contains("shop/a"), "{young:?}");
}

#[test]
fn a_drop_long_after_the_first_sight_is_transient() {
    let check = |dropped: Option<&str>, expected: bool| {
        assert_eq!(is_transient(at(SEEN), dropped.map(at)), expected, "{dropped:?}");
    };
    check(None, false);
    check(Some("2026-03-01T09:00:00Z"), false);
    check(Some("2026-03-01T10:01:00Z"), false);
    check(Some("2026-03-01T10:01:00.001Z"), true);
    let policies = || vec![cnp("wide", web("egress", json!({"toEntities": ["all"]})))];
    let late = judge(policies(), &dropped("2026-03-01T10:02:00Z"), Here::Absent);
    assert!(matches!(late, InCluster::Transient(_)), "{late:?}");
}

#[test]
fn what_is_kept_of_an_object() {
    let object = json!({"metadata": {"name": "x", "uid": "u"}, "spec": {}, "status": {}, "future": 1});
    let Value::Object(object) = object else { panic!() };
    let kept = ClusterPolicy::new(PolicyKind::Ccnp, object, at(SEEN)).unwrap();
    let expected = json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": "x"}, "spec": {}, "future": 1,
    });
    assert_eq!((&kept.object, &kept.id.namespace), (&expected, &None));
    assert_eq!(ClusterPolicy::new(PolicyKind::Cnp, Default::default(), at(SEEN)), None);
}

#[test]
fn only_what_is_new_is_read_and_what_is_gone_stops_counting() {
    let wide = cnp("wide", web("egress", json!({"toEntities": ["all"]})));
    // Of a version to come: nobody here knows what it means.
    let refused = cnp("refused", web("egress", json!({"toEntities": ["all"], "onlyOnMondays": true})));
    let mut known = ClusterKnown::default();
    let left_out = known.renew(vec![Arc::clone(&wide), Arc::clone(&refused)]);
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].0.to_string(), "CiliumNetworkPolicy shop/refused");
    // Told once.
    assert_eq!(known.renew(vec![wide, Arc::clone(&refused)]), []);
    let mut judge = || known.judge(&egress(), &dropped(SEEN), |_, _| Here::Absent);
    assert!(matches!(judge(), InCluster::Allowed(_)));
    known.renew(vec![refused]);
    assert_eq!(known.judge(&egress(), &dropped(SEEN), |_, _| Here::Absent), InCluster::New);
}
