//! Cluster dedup and the roles of `deploy/rbac/` against a real API server: what it asks is what the roles
//! grant.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{following, inject, kubernetes};
use crate::fake_api::KINDS;
use crate::kube::alone;
use crate::live::{ONE, marker, rules_or_none, until};
use crate::support::{Ran, capture, denied, finished, rules, skipped, tree, write};
use crate::testbed::{MISSING, Testbed};

const TO_81: &str = "shop/app=web egress to app=api TCP/81";

fn replay(dir: &Path, kubeconfig: &str, args: &[&str]) -> Ran {
    let mut command: Command = alone(dir);
    command.args(["replay", "c.jsonl", "--kubeconfig", kubeconfig]).args(args);
    finished(command.output().unwrap())
}

/// A policy of a kind that lets shop/web reach shop/api, or denies that.
fn policy(kind: &str, direction: &str, port: Option<u16>, subject: &str) -> Value {
    if kind == "NetworkPolicy" {
        let port = port.map(|port| json!([{"port": port, "protocol": "TCP"}]));
        let mut rule = json!({"to": [{"podSelector": {"matchLabels": {"app": "api"}}}]});
        if let Some(port) = port {
            rule["ports"] = port;
        }
        return json!({"apiVersion": "networking.k8s.io/v1", "kind": kind,
                      "metadata": {"name": "p", "namespace": "shop"},
                      "spec": {"podSelector": {"matchLabels": {"app": subject}}, "policyTypes": ["Egress"],
                               "egress": [rule]}});
    }
    let mut rule =
        json!({"toEndpoints": [{"matchLabels": {"app": "api", "k8s:io.kubernetes.pod.namespace": "shop"}}]});
    if let Some(port) = port {
        rule["toPorts"] = json!([{"ports": [{"port": port.to_string(), "protocol": "TCP"}]}]);
    }
    let mut object = json!({"apiVersion": "cilium.io/v2", "kind": kind, "metadata": {"name": "p"},
                            "spec": {"endpointSelector": {"matchLabels": {"app": subject}}}});
    object["spec"][direction] = json!([rule]);
    if kind == "CiliumNetworkPolicy" {
        object["metadata"]["namespace"] = json!("shop");
    }
    object
}

#[test]
fn every_kind_of_a_real_cluster_and_what_changes_while_it_runs() {
    let Some(program) = kubernetes() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-kube", "-nodes", "1"]);
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied(), denied().port(81)]));
    for kind in ["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"] {
        let deny = "2 flows denied by";
        let mut cases = vec![
            ("narrower", policy(kind, "egress", Some(80), "web"), &[TO_81][..], "1 flow already allowed by"),
            ("wider", policy(kind, "egress", None, "web"), &[], "2 flows already allowed by"),
            ("unrelated", policy(kind, "egress", None, "other"), &[ONE, TO_81], "policies=1"),
        ];
        if kind != "NetworkPolicy" {
            cases.push(("denying", policy(kind, "egressDeny", None, "web"), &[], deny));
        }
        for (what, object, expected, says) in cases {
            testbed.call("POST", "/kube/apply", &object.to_string());
            let ran = replay(dir.path(), &testbed.named("/kubeconfig"), &["--cluster-dedup=true"]).code(0);
            assert_eq!(rules(&tree(&dir.path().join("policies"))), expected, "{kind} {what}: {}", ran.stderr);
            let ran = ran.says(says);
            if what != "unrelated" {
                ran.says(kind).says("in the cluster, not in this directory");
            }
            std::fs::remove_dir_all(dir.path().join("policies")).unwrap();
            testbed.call("DELETE", &format!("/kube/policy?kind={kind}"), "");
        }
    }

    // One is there, one comes, one goes, and the API server comes back.
    let apply = |port| {
        testbed.call(
            "POST",
            "/kube/apply",
            &policy("CiliumNetworkPolicy", "egress", Some(port), "web").to_string(),
        );
    };
    apply(82);
    let running = following(&testbed, dir.path(), "/kubeconfig", &["--debug"]);
    running.says("policies=1");
    let wait_for = |port: u16| {
        let need = format!("shop/app=web egress to app=api TCP/{port}");
        until(&need, || {
            inject(&testbed, &[denied().port(port)]);
            rules_or_none(dir.path()).is_some_and(|rules| rules.contains(&need))
        });
    };
    // Now 83 is allowed and 82 is not.
    apply(83);
    wait_for(82);
    inject(&testbed, &[denied().port(83), marker()]);
    running.says("unknown_protocol");
    testbed.call("POST", "/proc/apiserver/kill", "");
    running.says("cannot be followed since");
    testbed.call("POST", "/proc/apiserver/start", "");
    running.says("are followed again after");
    testbed.call("GET", "/following?n=1&timeout=20", "");
    testbed.call("DELETE", "/kube/policy?kind=CiliumNetworkPolicy", "");
    wait_for(84);
    running.signal("-TERM");
    let ran = running.end().code(0).says("CiliumNetworkPolicy shop/p: spec.egress[0] in the cluster");
    assert_eq!(ran.stderr.matches("cannot be followed since").count(), 1, "{}", ran.stderr);
    let written = rules(&tree(&dir.path().join("policies")));
    let expected = [82, 84].map(|port| format!("shop/app=web egress to app=api TCP/{port}"));
    assert_eq!(written, expected, "{}", ran.stderr);
}

/// A right: the verb, the resource, and the name or `*`.
type Right = (String, String, String);

fn file(role: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rbac").join(format!("{role}.yaml"))
}

/// The Role or ClusterRole of a file.
fn role(name: &str) -> Value {
    let text = std::fs::read_to_string(file(name)).unwrap();
    let mut documents =
        cpg::policy::read_documents(&text).unwrap().into_iter().map(|document| document.value);
    documents.find(|value| value.get("rules").is_some()).unwrap()
}

fn granted(role: &Value) -> BTreeSet<Right> {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let names = list(&rule["resourceNames"]);
        let names = if names.is_empty() { vec!["*".to_owned()] } else { names };
        for resource in list(&rule["resources"]) {
            for verb in list(&rule["verbs"]) {
                rights.extend(names.iter().map(|name| (verb.clone(), resource.clone(), name.clone())));
            }
        }
    }
    rights
}

/// What a user asked since the last look, all of it answered well, as rights.
fn used(testbed: &Testbed, user: &str) -> BTreeSet<Right> {
    let answer = testbed.call("GET", &format!("/kube/audit?user={user}"), "");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let mut rights = BTreeSet::new();
    for request in answer["requests"].as_array().unwrap() {
        let code = request["code"].as_u64().unwrap();
        assert!(code < 400, "{request}");
        let path = request["uri"].as_str().unwrap().split('?').next().unwrap();
        let parts: Vec<&str> = path.split('/').skip_while(|part| !part.starts_with('v')).skip(1).collect();
        let (resource, name) = match parts.as_slice() {
            ["namespaces", name] => ("namespaces".to_owned(), *name),
            ["namespaces", _, resource, _, sub] => (format!("{resource}/{sub}"), "*"),
            ["namespaces", _, resource, name] => ((*resource).to_owned(), *name),
            ["namespaces", _, resource] | [resource] => ((*resource).to_owned(), "*"),
            _ => panic!("{request}"),
        };
        let verb = request["verb"].as_str().unwrap().to_owned();
        rights.insert((verb, resource, name.to_owned()));
    }
    rights
}

#[test]
fn the_roles_grant_what_is_used_and_nothing_else() {
    let Some(program) = kubernetes() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-kube", "-nodes", "1"]);
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    let kubeconfig = |role: &str| testbed.named(&format!("/roles/{role}/kubeconfig"));
    let dedup = granted(&role("cluster-dedup"));
    replay(dir.path(), &kubeconfig("cluster-dedup"), &["--cluster-dedup=true"]).code(0);
    assert_eq!(used(&testbed, "cluster-dedup"), dedup);
    // In some namespaces the same verbs.
    replay(dir.path(), &kubeconfig("cluster-dedup"), &["--cluster-dedup=true", "-n", "shop", "-n", "pay"])
        .code(0);
    assert_eq!(used(&testbed, "cluster-dedup"), dedup);

    let mut workstation = granted(&role("workstation"));
    // Part of the same request: asked for beside `get` from Kubernetes 1.35 on.
    assert!(workstation.remove(&("create".into(), "pods/portforward".into(), "*".into())));
    for (user, args, rights) in [
        ("workstation", &["--cluster-dedup=false"][..], workstation.clone()),
        ("workstation-cluster-dedup", &[], workstation.union(&dedup).cloned().collect()),
    ] {
        let config = format!("/roles/{user}/kubeconfig");
        let running = following(&testbed, dir.path(), &config, args);
        running.says("1 node connected");
        if args.is_empty() {
            running.says("policies=0");
        }
        running.signal("-TERM");
        running.end().code(0);
        assert_eq!(used(&testbed, user), rights, "{user}");
    }
    // Without the second role one line says what is missing.
    let running = following(&testbed, dir.path(), "/roles/workstation/kubeconfig", &[]);
    running.says("you may not list on ciliumclusterwidenetworkpolicies, list on ciliumnetworkpolicies, list on networkpolicies: deploy/rbac/cluster-dedup.yaml grants it");
    running.signal("-TERM");
    let ran = running.end().code(0);
    assert!(!ran.stderr.contains("policies="), "{}", ran.stderr);
}

#[test]
fn without_each_verb_it_is_named() {
    let Some(program) = kubernetes() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-kube", "-nodes", "1"]);
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    let all = role("cluster-dedup");
    let mut tried = BTreeSet::new();
    for (verb, resource, name) in granted(&all) {
        tried.insert(resource.clone());
        let user = format!("without-{verb}-{resource}");
        let made = testbed.call("POST", &format!("/kube/user?name={user}"), "");
        let made: Value = serde_json::from_str(&made).unwrap();
        let mut rules = Vec::new();
        for (has_verb, has, has_name) in granted(&all) {
            if (&has_verb, &has, &has_name) == (&verb, &resource, &name) {
                continue;
            }
            let group = match has.as_str() {
                "namespaces" => "",
                "networkpolicies" => "networking.k8s.io",
                _ => "cilium.io",
            };
            let mut rule = json!({"apiGroups": [group], "resources": [has], "verbs": [has_verb]});
            if has_name != "*" {
                rule["resourceNames"] = json!([has_name]);
            }
            rules.push(rule);
        }
        let less = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                          "metadata": {"name": user}, "rules": rules});
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
        testbed.call("POST", "/kube/apply", &format!("{less}\n---\n{binding}\n"));
        let kubeconfig = made["kubeconfig"].as_str().unwrap();
        let ran = replay(dir.path(), kubeconfig, &["--cluster-dedup=true"]);
        if resource == "namespaces" {
            ran.code(0);
            continue;
        }
        ran.code(2)
            .says(&format!("the API server forbids {verb} on {resource}: "))
            .says("cluster-dedup.yaml grants it");
        replay(dir.path(), kubeconfig, &[]).code(0).says(&format!("you may not {verb} on {resource}: "));
    }
    assert!(KINDS.iter().all(|kind| tried.contains(*kind)) && tried.len() == 4, "{tried:?}");
}
