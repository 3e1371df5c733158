//! The other end of a rule: told when its policies do not let the connection through, and written with
//! `--both-sides` only where a known policy puts it into default deny.

use std::path::Path;

use cpg::merge::{Says, written};
use cpg::policy::read_documents;
use serde_json::Value;

use crate::support::{Line, Ran, accepted, capture, denied, golden, pod, run, tree, write};

const EGRESS: &str = "shop/app=web egress to app=api TCP/80";
const INGRESS: &str = "shop/app=api ingress from app=web TCP/80";
const CLOSED: &str = "1 rule missing at the other end";

/// A hand-written policy of shop with this spec.
fn policy(dir: &Path, name: &str, spec: &str) {
    let head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n";
    let text = format!("# mine\n{head}  name: {name}\n  namespace: shop\nspec:\n{spec}");
    write(&dir.join(format!("policies/shop/{name}.yaml")), text);
}

const API: &str = "  endpointSelector:\n    matchLabels:\n      app: api\n";
const FROM_ADMIN: &str = "  ingress:\n  - fromEndpoints:\n    - matchLabels:\n        app: admin\n";

fn replay(dir: &Path, lines: &[Line], args: &[&str]) -> Ran {
    write(&dir.join("c.jsonl"), capture(lines));
    run(dir, &[&["replay", "c.jsonl", "--evidence-dir", "ev"], args].concat()).code(0)
}

/// Every rule that stands in the directory as cpg would write it, in cpg's files and in those of people.
fn policies(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for text in tree(&dir.join("policies")).into_values().filter(|text| text.contains("CiliumNetworkPolicy"))
    {
        let documents = read_documents(&text).unwrap();
        for subject in documents.iter().filter_map(|document| document.subject(None)) {
            all.extend(written(&documents, None, &subject).into_iter().filter_map(|w| match w.says {
                Says::Rule(rule) => Some(format!("{subject} {rule}")),
                Says::Other(..) => None,
            }));
        }
    }
    all.sort();
    all
}

fn explained(dir: &Path, target: &str) -> Value {
    let ran = run(dir, &["explain", target, "--evidence-dir", "ev", "--output", "json"]).code(0);
    serde_json::from_str::<Value>(&ran.stdout).unwrap()["policies"][0]["rules"].clone()
}

#[test]
fn an_end_that_no_policy_selects_is_never_put_into_default_deny() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&[][..], &["--both-sides"]] {
        let ran = replay(dir.path(), &[denied()], args);
        assert!(!ran.stderr.contains("other end"), "{}", ran.stderr);
        assert_eq!(policies(dir.path()), [EGRESS]);
    }
    // A policy of that namespace that rules the other direction does not select it in this one either.
    policy(dir.path(), "out", &format!("{API}  egress:\n  - {{}}\n"));
    replay(dir.path(), &[denied()], &["--both-sides"]);
    assert!(!policies(dir.path()).contains(&INGRESS.to_owned()));
}

#[test]
fn a_closed_end_is_told_and_written_only_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    policy(dir.path(), "api", &format!("{API}{FROM_ADMIN}"));
    let by = "in default deny by CiliumNetworkPolicy shop/api in shop/api.yaml";
    let ran =
        replay(dir.path(), &[denied()], &[]).says(CLOSED).says(INGRESS.split_once(' ').unwrap().1).says(by);
    assert!(!ran.stderr.contains("--both-sides)"));
    assert!(!policies(dir.path()).contains(&INGRESS.to_owned()));
    let told = explained(dir.path(), "shop/web");
    assert!(told[0]["other_side"]["closed"].as_str().unwrap().contains("shop/app=api"), "{told}");
    let people = std::fs::read_to_string(dir.path().join("policies/shop/api.yaml")).unwrap();

    let ran = replay(dir.path(), &[denied()], &["--both-sides"]).says("1 rule of the other end written");
    assert!(!ran.stderr.contains(CLOSED), "{}", ran.stderr);
    let now = std::fs::read_to_string(dir.path().join("policies/shop/api.yaml")).unwrap();
    assert!(now.starts_with(&people) && now.contains("app: web"), "{now}");
    accepted(&tree(&dir.path().join("policies")));
    let told = explained(dir.path(), "shop/api");
    let inferred = told.as_array().unwrap().iter().find(|r| r["inferred_from"].is_string()).unwrap();
    assert_eq!(inferred["inferred_from"], format!("shop/app=web: {}", EGRESS.split_once(' ').unwrap().1));
    assert_eq!((&inferred["packets"], &inferred["status"]), (&0.into(), &"seen".into()));
    let text = run(dir.path(), &["explain", "shop/api", "--evidence-dir", "ev"]).code(0).stdout;
    assert!(text.contains("written with --both-sides for shop/app=web"), "{text}");
    // The first end is told that the way is free now.
    assert_eq!(explained(dir.path(), "shop/web")[0]["other_side"]["closed"], Value::Null);
    // Again: nothing changes.
    let before = tree(dir.path());
    replay(dir.path(), &[denied()], &["--both-sides"]);
    let policies_only = |all: &std::collections::BTreeMap<std::path::PathBuf, String>| -> Vec<_> {
        all.iter().filter(|(p, _)| p.starts_with("policies")).map(|(p, t)| (p.clone(), t.clone())).collect()
    };
    assert_eq!(policies_only(&tree(dir.path())), policies_only(&before));
}

#[test]
fn the_reverse() {
    let dir = tempfile::tempdir().unwrap();
    let web =
        "  endpointSelector:\n    matchLabels:\n      app: web\n  egress:\n  - toEntities:\n    - host\n";
    policy(dir.path(), "web", web);
    replay(dir.path(), &[denied().ingress()], &[]).says(CLOSED).says("egress to app=api TCP/80");
    replay(dir.path(), &[denied().ingress()], &["--both-sides"]);
    assert!(policies(dir.path()).contains(&EGRESS.to_owned()));
}

#[test]
fn a_deny_rule_at_the_other_end_is_told_and_not_written_against() {
    let dir = tempfile::tempdir().unwrap();
    policy(
        dir.path(),
        "api",
        &format!(
            "{API}{FROM_ADMIN}  ingressDeny:\n  - fromEndpoints:\n    - matchLabels:\n        app: web\n"
        ),
    );
    let ran = replay(dir.path(), &[denied()], &["--both-sides"]).says(CLOSED);
    assert!(
        ran.stderr.contains("denied by CiliumNetworkPolicy shop/api: spec.ingressDeny[0]"),
        "{}",
        ran.stderr
    );
    assert!(!policies(dir.path()).contains(&INGRESS.to_owned()));
}

#[test]
fn an_end_outside_of_the_namespaces_asked_for_is_told_only() {
    let dir = tempfile::tempdir().unwrap();
    let line = denied().from(pod("pay", "web-1", &["k8s:app=web"]));
    policy(dir.path(), "api", &format!("{API}{FROM_ADMIN}"));
    replay(dir.path(), &[line], &["--both-sides", "-n", "pay"]).says(CLOSED);
    assert!(!policies(dir.path()).iter().any(|rule| rule.starts_with("shop/app=api ingress from app=web")));
}

/// The end that is closed by cpg's own file of the same run is opened; one that nothing closes is not.
#[test]
fn golden_policies() {
    let admin = denied().ingress().from(pod("shop", "admin", &["k8s:app=admin"]));
    let bill = denied().to(pod("pay", "bill", &["k8s:app=bill"])).port(8080);
    golden("both-sides", &[denied(), admin, bill], &["--both-sides"]);
}

/// The file that cpg writes for the other end in the same run puts it into default deny as well.
#[test]
fn whatever_comes_first_the_same_files() {
    let admin = denied().ingress().from(pod("shop", "admin", &["k8s:app=admin"]));
    let all = [denied(), admin];
    let files = |lines: &[Line], args: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        replay(dir.path(), lines, &[&["--both-sides"], args].concat());
        assert!(policies(dir.path()).contains(&INGRESS.to_owned()));
        tree(&dir.path().join("policies"))
    };
    let [a, b] = all.clone();
    let expected = files(&all, &[]);
    assert_eq!(files(&[b.clone(), a.clone()], &["--threads", "1"]), expected);
    assert_eq!(files(&[b.clone(), a.clone()], &["--flush-interval", "10ms"]), expected);
    // In two runs: the second one finds what the first one wrote.
    let dir = tempfile::tempdir().unwrap();
    replay(dir.path(), &[b], &["--both-sides"]);
    replay(dir.path(), &[a], &["--both-sides"]);
    assert_eq!(tree(&dir.path().join("policies")), expected);
    // A drop that was seen at both ends leaves nothing to tell.
    let dir = tempfile::tempdir().unwrap();
    let ran = replay(dir.path(), &[denied(), denied().ingress()], &[]);
    assert!(!ran.stderr.contains("other end"), "{}", ran.stderr);
}
