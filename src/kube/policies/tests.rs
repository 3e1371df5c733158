//! What is kept of lists and events, within the bound, and what people hear of it.

use jiff::Timestamp;
use serde_json::json;

use super::follow::pause;
use super::held::{Bound, Held, Phase, Told};
use super::{Scope, scopes};
use crate::flow::Namespaces;
use crate::names::Namespace;
use crate::policy::spec::PolicyKind;
use crate::screen::ClusterPolicy;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_770_000_000 + second).unwrap()
}

fn policy(name: &str, spec: u32, second: i64) -> ClusterPolicy {
    let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    let serde_json::Value::Object(object) = object else { panic!() };
    ClusterPolicy::new(PolicyKind::Cnp, object, at(second)).unwrap()
}

fn one() -> Vec<Scope> {
    vec![Scope { kind: PolicyKind::Cnp, namespace: None }]
}

fn sights(held: &Held) -> Vec<(String, i64)> {
    let all = held.snapshot().1;
    all.iter().map(|p| (p.id.name.to_string(), p.seen.as_second() - at(0).as_second())).collect()
}

#[test]
fn what_is_asked_for() {
    let paths = |namespaces: &Namespaces| scopes(namespaces).iter().map(Scope::path).collect::<Vec<_>>();
    let clusterwide = "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies";
    assert_eq!(
        paths(&Namespaces::All),
        [
            clusterwide,
            "/apis/cilium.io/v2/ciliumnetworkpolicies",
            "/apis/networking.k8s.io/v1/networkpolicies"
        ]
    );
    let only = ["shop", "pay"].map(|name| Namespace::parse(name).unwrap()).into();
    assert_eq!(
        paths(&Namespaces::Only(only)),
        [
            clusterwide,
            "/apis/cilium.io/v2/namespaces/pay/ciliumnetworkpolicies",
            "/apis/cilium.io/v2/namespaces/shop/ciliumnetworkpolicies",
            "/apis/networking.k8s.io/v1/namespaces/pay/networkpolicies",
            "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies",
        ]
    );
}

#[test]
fn what_says_the_same_keeps_its_first_sight_and_the_revision() {
    let mut held = Held::new(one());
    held.replace(0, vec![policy("a", 1, 0), policy("b", 1, 0)], 0);
    let first = held.revision();
    // A change of its status, and the same list again.
    held.apply(0, policy("a", 1, 5), false);
    held.replace(0, vec![policy("a", 1, 6), policy("b", 1, 6)], 0);
    assert_eq!((held.revision(), sights(&held)), (first, vec![("a".into(), 0), ("b".into(), 0)]));
    held.apply(0, policy("a", 2, 7), false);
    assert_eq!((held.revision(), sights(&held)), (first + 1, vec![("a".into(), 7), ("b".into(), 0)]));
    // Gone by an event, and gone by a list.
    held.delete(0, &policy("a", 0, 0).id);
    held.delete(0, &policy("a", 0, 0).id);
    assert_eq!((held.revision(), sights(&held)), (first + 2, vec![("b".into(), 0)]));
    held.replace(0, vec![policy("c", 1, 8)], 0);
    assert_eq!((held.revision(), sights(&held)), (first + 3, vec![("c".into(), 8)]));
}

#[test]
fn what_has_no_room_is_counted_and_told_once() {
    let mut held = Held::bound(one(), Bound { policies: 2, bytes: 10_000 });
    let told = held.replace(0, vec![policy("a", 1, 0), policy("b", 1, 0), policy("c", 1, 0)], 7);
    assert!(matches!(told, Some(Told::Warning(line)) if line.contains("more policies than cpg keeps")));
    assert_eq!(held.apply(0, policy("d", 1, 0), true), None);
    held.apply(0, policy("d", 2, 0), false);
    assert_eq!(sights(&held).len(), 2);
    let counted = |held: &Held, n: &str| {
        let notes = held.notes().join("\n");
        assert!(notes.contains(&format!("{n} policy objects of the cluster found no room")), "{notes}");
    };
    counted(&held, "9");
    held.delete(0, &policy("d", 0, 0).id);
    counted(&held, "8");
    // Room again, by count and by bytes.
    held.delete(0, &policy("a", 0, 0).id);
    held.apply(0, policy("e", 1, 0), true);
    assert_eq!(sights(&held), [("b".into(), 0), ("e".into(), 0)]);
    let mut small = Held::bound(one(), Bound { policies: 9, bytes: 200 });
    small.replace(0, vec![policy("a", 1, 0), policy("b", 1, 0)], 0);
    assert_eq!(sights(&small).len(), 1);
    small.delete(0, &policy("a", 0, 0).id);
    small.apply(0, policy("b", 1, 0), false);
    assert_eq!((sights(&small).len(), small.notes().len()), (1, 1));
}

#[test]
fn what_people_hear() {
    let mut held = Held::new(scopes(&Namespaces::All));
    let told = |told: Vec<Told>| match told.as_slice() {
        [] => String::new(),
        [Told::Info(line)] => format!("info {line}"),
        [Told::Warning(line)] => format!("warning {line}"),
        other => format!("{other:?}"),
    };
    let forbidden = || Phase::Forbidden("list", "the API server forbids list on networkpolicies".into());
    assert_eq!(told(held.enter(0, Phase::Missing, at(0))), "");
    assert_eq!(told(held.enter(2, forbidden(), at(0))), "");
    assert_eq!(held.undecided().as_deref(), Some("list on ciliumnetworkpolicies"));
    // The first failure is told once, and asking again does not hide it.
    let late = told(held.enter(1, Phase::Failing("no".into()), at(1)));
    assert!(late.starts_with("warning the cluster's policies are not known yet"), "{late}");
    assert_eq!(told(held.enter(1, Phase::Asking("list"), at(2))), "");
    assert_eq!(held.undecided().as_deref(), Some("no"));
    assert_eq!(told(held.enter(1, Phase::Failing("no".into()), at(3))), "");
    let begun = held.enter(1, Phase::Watching, at(4));
    assert_eq!(begun[0], Told::Begun(0));
    assert!(format!("{begun:?}").contains("you may not list on networkpolicies: deploy/rbac/cluster-dedup"));
    assert!(format!("{begun:?}").contains("does not have ciliumclusterwidenetworkpolicies"));
    let refusal = held.refusal().unwrap();
    assert!(refusal.contains("forbids list on networkpolicies") && refusal.contains("deploy/rbac"));
    // Stale once, for all that is, and back once.
    let stale = told(held.enter(1, Phase::Failing("gone".into()), at(10)));
    assert!(
        stale.starts_with("warning the cluster's policies cannot be followed since 2026-02-02T02:40:10Z")
    );
    assert_eq!(told(held.enter(1, Phase::Asking("list"), at(11))), "");
    assert_eq!(told(held.enter(1, Phase::Failing("still".into()), at(12))), "");
    assert!(held.notes().iter().any(|note| note.contains("02:40:10Z") && note.contains("still")));
    let back = told(held.enter(1, Phase::Watching, at(22)));
    assert_eq!(back, "info the cluster's policies are followed again after 12.0 s");
}

#[test]
fn tries_become_rarer() {
    let seconds = |tries| pause(tries, 1.0).as_secs();
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 99].map(seconds), [0, 1, 2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(pause(3, 0.0).as_secs(), 2);
}
