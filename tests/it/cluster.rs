//! The way to the relay through a real API server and a real port-forward, and how it breaks.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::kube::{alone, refused};
use crate::live::{ONE, Running, policies, rules_or_none, until};
use crate::support::{Line, capture, denied, finished, skipped, tree, write};
use crate::testbed::{MISSING, Testbed, program};

/// The testbed with its Kubernetes half, where both were built.
pub(crate) fn kubernetes() -> Option<PathBuf> {
    program().filter(|program| program.with_file_name("testbed-kube").is_file())
}

/// Follows through this kubeconfig until flows would reach it.
pub(crate) fn following(testbed: &Testbed, dir: &Path, kubeconfig: &str, args: &[&str]) -> Running {
    let common = ["generate", "--flush-interval", "100ms", "--kubeconfig"];
    let running = Running::new(alone(dir).args(common).arg(testbed.named(kubeconfig)).args(args));
    testbed.call("GET", "/following?n=1&timeout=20", "");
    running
}

pub(crate) fn inject(testbed: &Testbed, lines: &[Line]) {
    testbed.call("POST", "/node/node-1/inject?now=1", &capture(lines));
}

/// The policy files that are there.
fn yaml_files(dir: &Path) -> Vec<PathBuf> {
    let files = tree(&dir.join("policies")).into_keys();
    files.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect()
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
        until("the first file", || !yaml_files(dir.path()).is_empty());
        eprintln!("{kubeconfig}: first file after {:?}", start.elapsed());
        one_rule(dir.path());
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
    let expired: Value =
        serde_json::from_str(&testbed.call("POST", "/kube/user?name=old&group=system:masters&expired=1", ""))
            .unwrap();
    let with = |kubeconfig: &Path| {
        let mut command = alone(dir.path());
        command.args(["generate", "--kubeconfig"]).arg(kubeconfig);
        command
    };
    refused(
        &mut with(Path::new(expired["kubeconfig"].as_str().unwrap())),
        &["401", "token or certificate in the kubeconfig has expired", "Log in again"],
    );
    // Its CA is not this system's; a kubeconfig may say that this does not matter.
    let text = std::fs::read_to_string(testbed.named("/kubeconfig")).unwrap();
    let (before, line) = text.split_once("certificate-authority-data:").unwrap();
    let after = line.split_once('\n').unwrap().1;
    let other = |line: &str| {
        let path = dir.path().join("other");
        write(&path, format!("{before}{line}\n{after}"));
        path
    };
    refused(
        &mut with(&other("disable-compression: true")),
        &["not signed by the certificate-authority that the kubeconfig has", "kubectl --context"],
    );
    let running = Running::new(&mut with(&other("insecure-skip-tls-verify: true")));
    running.says("connected; following");
    running.signal("-TERM");
    running.end().code(0);
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

/// A Role and its binding for this user, with these rules; and a kubeconfig for them.
fn with_rules(testbed: &Testbed, user: &str, rules: &[(&str, &str)]) -> String {
    let rules: String = rules
        .iter()
        .map(|(resource, verbs)| {
            format!("- {{apiGroups: [\"\"], resources: [{resource}], verbs: [{verbs}]}}\n")
        })
        .collect();
    let text = format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {user}, namespace: kube-system}}\n\
         rules:\n{rules}---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
         metadata: {{name: {user}, namespace: kube-system}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {user}}}\n\
         subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {user}}}]\n"
    );
    testbed.call("POST", "/kube/apply", &text);
    let made: Value =
        serde_json::from_str(&testbed.call("POST", &format!("/kube/user?name={user}"), "")).unwrap();
    made["kubeconfig"].as_str().unwrap().to_owned()
}

#[test]
fn without_each_verb_of_the_workstations_role() {
    let Some(program) = kubernetes() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-kube", "-nodes", "1"]);
    let dir = tempfile::tempdir().unwrap();
    let all = [("services", "get"), ("pods", "list"), ("pods/portforward", "get, create")];
    let without = |resource: &str, verbs: &str| -> Vec<(&'static str, String)> {
        let changed =
            all.iter().map(|(r, v)| (*r, if *r == resource { verbs.to_owned() } else { (*v).to_owned() }));
        changed.filter(|(_, verbs)| !verbs.is_empty()).collect()
    };
    let generate = |user: &str, rules: Vec<(&'static str, String)>| {
        let rules: Vec<(&str, &str)> = rules.iter().map(|(r, v)| (*r, v.as_str())).collect();
        let kubeconfig = with_rules(&testbed, user, &rules);
        let mut command = alone(dir.path());
        command.args(["generate", "--kubeconfig"]).arg(kubeconfig);
        command
    };
    // These three are enough; what the preflight would like to know beyond them is left out.
    let running = Running::new(&mut generate("enough", without("", "")));
    running.says("1 node connected");
    running.signal("-TERM");
    let ran = running.end().code(0);
    assert!(!ran.stderr.contains("WARN"), "{}", ran.stderr);
    let says = "Role with get on services in kube-system";
    let no = "User \"no-services\" cannot get resource \"services\"";
    refused(&mut generate("no-services", without("services", "")), &["forbids get on services", no, says]);
    let says = "Role with list on pods in kube-system";
    refused(&mut generate("no-list", without("pods", "get")), &["forbids list on pods", says]);
    for (user, verbs) in [("no-forward", ""), ("only-get", "get"), ("only-create", "create")] {
        refused(
            &mut generate(user, without("pods/portforward", verbs)),
            &[
                "port-forward to pod hubble-relay-",
                "forbids get on pods/portforward",
                "Role with get (and create, from Kubernetes 1.35) on pods/portforward in kube-system",
            ],
        );
    }
}

/// What makes a mount namespace here, if anything does.
fn unshare() -> Option<Vec<&'static str>> {
    let works = |args: &[&str]| {
        Command::new("unshare").args(args).arg("true").output().is_ok_and(|output| output.status.success())
    };
    let ways = [vec!["--mount", "--propagation", "private"], vec!["--map-root-user", "--mount"]];
    ways.into_iter().find(|way| works(way))
}

/// Puts a service account where a pod has it and a name where its DNS has it, then runs `"$@"`.
const POD: &str = r#"
set -e
mount -t tmpfs tmpfs "$(readlink -f /var/run)"
mkdir -p /var/run/secrets/kubernetes.io
cp -r account /var/run/secrets/kubernetes.io/serviceaccount
mount --bind hosts /etc/hosts
exec "$@"
"#;

#[test]
fn in_a_pod_by_service_account_and_service() {
    let Some(program) = kubernetes() else { return skipped(MISSING) };
    let Some(unshare) = unshare() else { return skipped("a mount namespace cannot be made here") };
    let testbed = Testbed::up(&program, &["-kube", "-nodes", "1"]);
    // The Service: its port is 80, on an address of its own.
    let relay = testbed.named("/relay");
    let net = relay.rsplit_once(".10:").unwrap().0.to_owned();
    let Ok(service) = TcpListener::bind(format!("{net}.20:80")) else {
        return skipped("port 80 needs root here");
    };
    std::thread::spawn(move || {
        for mut client in service.incoming().flatten() {
            let Ok(mut server) = TcpStream::connect(&relay) else { continue };
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                to.shutdown(std::net::Shutdown::Both)
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut server, &mut client);
                client.shutdown(std::net::Shutdown::Both)
            });
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(testbed.named("/roles/in-cluster/kubeconfig")).unwrap();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(key));
        line.unwrap_or_else(|| panic!("{key} is not in\n{text}")).trim().to_owned()
    };
    let mut decoded =
        Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    decoded.stdin.take().unwrap().write_all(value("certificate-authority-data:").as_bytes()).unwrap();
    let account = dir.path().join("account");
    write(&account.join("ca.crt"), decoded.wait_with_output().unwrap().stdout);
    write(&account.join("token"), value("token:"));
    write(&account.join("namespace"), "kube-system");
    write(&dir.path().join("hosts"), format!("{net}.20 hubble-relay.kube-system.svc\n"));
    let server = value("server:");
    let (host, port) = server.strip_prefix("https://").unwrap().rsplit_once(':').unwrap();
    let inside = |args: &[&str]| {
        let plain = alone(dir.path());
        let mut command = Command::new("unshare");
        command.args(&unshare).args(["sh", "-c", POD, "sh"]).arg(plain.get_program()).args(args);
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env("KUBERNETES_SERVICE_HOST", host).env("KUBERNETES_SERVICE_PORT", port);
        command.current_dir(dir.path()).stdin(Stdio::null());
        command
    };
    let user = testbed.named("/roles/in-cluster/user");
    testbed.call("GET", &format!("/kube/audit?user={user}"), "");
    let start = Instant::now();
    let running =
        Running::new(inside(&["generate", "--flush-interval", "100ms", "-n", "shop"]).stderr(Stdio::piped()));
    running.says("connected; following");
    testbed.call("GET", "/following?n=1&timeout=20", "");
    inject(&testbed, &[denied()]);
    until("the first file", || !yaml_files(dir.path()).is_empty());
    eprintln!("in a pod: first file after {:?}", start.elapsed());
    one_rule(dir.path());
    // The relay is replaced behind its Service.
    testbed.call("POST", "/proc/relay/restart", "");
    running.says("connected again after");
    testbed.call("GET", "/following?n=1&timeout=20", "");
    inject(&testbed, &[denied().port(81)]);
    until("the second need", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 2));
    running.signal("-TERM");
    running.end().code(0).says(&format!("Service kube-system/hubble-relay of this pod's cluster ({server})"));
    // Exactly what its role allows was asked, and the policies, which it does not.
    let audit: Value =
        serde_json::from_str(&testbed.call("GET", &format!("/kube/audit?user={user}"), "")).unwrap();
    for request in audit["requests"].as_array().unwrap() {
        let uri = request["uri"].as_str().unwrap().split('?').next().unwrap();
        let expected = match uri {
            "/api/v1/namespaces/kube-system"
            | "/api/v1/namespaces/kube-system/services/hubble-relay"
            | "/api/v1/namespaces/kube-system/configmaps/cilium-config" => 200,
            // What the cluster allows already, where that may be read: not by this role.
            _ if uri.contains("policies") => 403,
            _ => panic!("{request}"),
        };
        assert_eq!(
            (request["verb"] == "get" || uri.contains("policies"), &request["code"]),
            (true, &expected.into()),
            "{request}"
        );
    }
    // An account that is gone, and a relay that is gone.
    let refused_in_pod = |says: &[&str]| {
        let ran = finished(inside(&["generate", "--timeout", "2s"]).output().unwrap()).code(2);
        says.iter().fold(ran, |ran, says| ran.says(says));
    };
    testbed.call("POST", "/proc/relay/kill", "");
    refused_in_pod(&["no Hubble Relay at Service kube-system/hubble-relay of this pod's cluster"]);
    write(&account.join("token"), "not-a-token");
    refused_in_pod(&["does not know this pod's service account (401", "Restart the pod"]);
}
