//! The way to the relay through a real API server and a real port-forward, and how it breaks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::kube::{alone, refused};
use crate::live::{ONE, Running, policies, rules_or_none, until};
use crate::support::{Line, capture, denied, skipped};
use crate::testbed::{MISSING, Testbed, program};

/// The testbed with its Kubernetes half, where both were built.
fn kubernetes() -> Option<PathBuf> {
    program().filter(|program| program.with_file_name("testbed-kube").is_file())
}

/// Follows through this kubeconfig until flows would reach it.
fn following(testbed: &Testbed, dir: &Path, kubeconfig: &str, args: &[&str]) -> Running {
    let common = ["generate", "--flush-interval", "100ms", "--kubeconfig"];
    let running = Running::new(alone(dir).args(common).arg(testbed.named(kubeconfig)).args(args));
    testbed.call("GET", "/following?n=1&timeout=20", "");
    running
}

fn inject(testbed: &Testbed, lines: &[Line]) {
    testbed.call("POST", "/node/node-1/inject?now=1", &capture(lines));
}

#[track_caller]
fn one_rule(dir: &Path) {
    until("the need is in a file", || rules_or_none(dir).is_some_and(|r| r == [ONE]));
}

#[test]
fn a_kubeconfig_leads_to_the_first_file_and_a_replaced_pod_does_not_end_it() {
    let Some(program) = kubernetes() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-kube", "-nodes", "2"]);
    for kubeconfig in ["/kubeconfig", "/kubeconfig_token", "/roles/workstation/kubeconfig"] {
        let dir = tempfile::tempdir().unwrap();
        let start = Instant::now();
        let running = following(&testbed, dir.path(), kubeconfig, &[]);
        inject(&testbed, &[denied()]);
        one_rule(dir.path());
        eprintln!("{kubeconfig}: first file after {:?}", start.elapsed());
        running.signal("-TERM");
        running.end().code(0).says("Service kube-system/hubble-relay of context");
    }
    // What breaks a stream, and that it goes on after it.
    let dir = tempfile::tempdir().unwrap();
    let running = following(&testbed, dir.path(), "/kubeconfig", &["--debug", "--no-history"]);
    let mut breaks = 0;
    for (port, request) in [
        (81, "/kube/relay-pod?action=replace"),
        (82, "/kubelet/cut"),
        (83, "/proc/relay/restart"),
        (84, "/proc/kubelet/restart"),
    ] {
        testbed.call("POST", request, "");
        breaks += 1;
        running.times("connected again after", breaks);
        testbed.call("GET", "/following?n=1&timeout=20", "");
        inject(&testbed, &[denied().port(port)]);
        until(request, || rules_or_none(dir.path()).is_some_and(|r| r.len() == breaks));
    }
    running.signal("-TERM");
    let ran = running.end().code(0);
    assert_eq!(policies(dir.path()).len(), breaks, "{}", ran.stderr);
}

#[test]
fn tls_and_mtls_through_the_port_forward() {
    let Some(program) = kubernetes() else { return skipped(MISSING) };
    for mode in ["tls", "mtls"] {
        let testbed = Testbed::up(&program, &["-kube", "-nodes", "1", "-tls", mode]);
        let dir = tempfile::tempdir().unwrap();
        let ca = testbed.named("/ca");
        let mut args = vec!["--tls".to_owned(), "--tls-ca-cert-files".into(), ca];
        if mode == "mtls" {
            args.extend(["--tls-client-cert-file".into(), testbed.named("/cert")]);
            args.extend(["--tls-client-key-file".into(), testbed.named("/key")]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let running = following(&testbed, dir.path(), "/kubeconfig", &args);
        inject(&testbed, &[denied()]);
        one_rule(dir.path());
        running.signal("-TERM");
        running.end().code(0).says("with TLS");
        let command = |args: &[&str]| {
            let mut command = alone(dir.path());
            command.args(["generate", "--kubeconfig"]).arg(testbed.named("/kubeconfig")).args(args);
            command
        };
        refused(&mut command(&[]), &["speaks TLS", "give --tls"]);
        refused(&mut command(&["--tls"]), &["not signed by any CA of this system", "--tls-ca-cert-files"]);
        refused(
            &mut command(&["--tls", "--tls-ca-cert-files", args[2], "--tls-server-name", "relay.example"]),
            &["its certificate is for *.hubble-relay.cilium.io, not for relay.example"],
        );
        if mode == "mtls" {
            refused(&mut command(&args[..3]), &["demands a client certificate (mTLS)"]);
        }
    }
}

#[test]
fn what_a_real_cluster_refuses() {
    let Some(program) = kubernetes() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-kube", "-nodes", "1"]);
    let dir = tempfile::tempdir().unwrap();
    let check = |kubeconfig: &str, says: &[&str]| {
        let mut command: Command = alone(dir.path());
        command.args(["generate", "--kubeconfig"]).arg(testbed.named(kubeconfig));
        refused(&mut command, says);
    };
    check("/kubeconfig_bad_token", &["401", "Log in again"]);
    check(
        "/roles/none/kubeconfig",
        &[
            "forbids get on services in namespace kube-system",
            "User \"none\" cannot get resource \"services\"",
        ],
    );
    for (mode, says) in [
        ("500", "the API server failed (500 at get services"),
        ("429", "429 Too Many Requests"),
        ("hang", "time was up at asking context"),
        ("reset", "the API server cannot be reached"),
    ] {
        testbed.call("POST", &format!("/apiproxy?mode={mode}"), "");
        check("/kubeconfig_proxy", &[says]);
    }
    testbed.call("POST", "/apiproxy?mode=403&match=portforward", "");
    check("/kubeconfig_proxy", &["forbids get on pods/portforward", "create, from Kubernetes 1.35"]);
    testbed.call("POST", "/apiproxy?mode=hang&match=portforward", "");
    check(
        "/kubeconfig_proxy",
        &["time was up at asking", "for a port-forward to pod kube-system/hubble-relay-"],
    );
    testbed.call("POST", "/kube/relay-pod?action=unready", "");
    check("/kubeconfig", &["has no pod that is ready", "running, not ready"]);
    testbed.call("POST", "/kube/relay-pod?action=terminate", "");
    check("/kubeconfig", &["has no pod that is ready", "terminating"]);
    testbed.call("POST", "/kube/relay-pod?action=delete", "");
    check("/kubeconfig", &["has no pod that is ready: it selects no pods"]);
    testbed.call("POST", "/kube/relay-pod?action=ready", "");
    testbed.call("POST", "/proc/relay/kill", "");
    check("/kubeconfig", &["port 4245:", "refused"]);
    testbed.call("POST", "/proc/kubelet/kill", "");
    check("/kubeconfig", &["port-forward to pod hubble-relay-", "the API server failed (500", "refused"]);
    testbed.call("DELETE", "/kube/policy?kind=Service&namespace=kube-system&name=hubble-relay", "");
    check("/kubeconfig", &["has no Service hubble-relay in namespace kube-system", "cilium hubble enable"]);
    testbed.call("POST", "/proc/apiserver/kill", "");
    check("/kubeconfig", &["the API server cannot be reached", "refused"]);
}
