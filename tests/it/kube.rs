//! The way to the relay through an API server, and every way in which it can fail.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cpg::demo::{DemoRelay, Options, Script, Step};
use serde_json::json;

use crate::fake_api::{Answer, FakeApi, Forward, State, pods, service};
use crate::live::{ONE, Running, Serving, policies, rules_or_none, sends, serving, until};
use crate::support::{Ran, cpg, denied, finished, write};
use crate::tls::{Ca, Front, NAME};

fn relay() -> Serving {
    serving(DemoRelay::new([sends(&[denied()]).then(Step::Hang)]))
}

/// The program, with no kubeconfig of this machine.
pub(crate) fn alone(dir: &Path) -> Command {
    let mut command = cpg(dir);
    command.env("HOME", dir).env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    command
}

#[track_caller]
fn follows(dir: &Path, command: &mut Command) -> Ran {
    let child = Running::new(command.args(["--flush-interval", "100ms"]));
    until("the need is in a file", || rules_or_none(dir).is_some_and(|r| r == [ONE]));
    child.signal("-TERM");
    let ran = child.end().code(0);
    assert_eq!(policies(dir), [ONE]);
    std::fs::remove_dir_all(dir.join("policies")).unwrap();
    ran
}

/// Ends with 2 and one error within the time, and says all of this.
#[track_caller]
pub(crate) fn refused(command: &mut Command, says: &[&str]) {
    let start = Instant::now();
    let ran = finished(command.args(["--timeout", "2s"]).output().unwrap()).code(2);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}: {}", start.elapsed(), ran.stderr);
    assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("error:")).count(), 1, "{}", ran.stderr);
    says.iter().fold(ran, |ran, says| ran.says(says));
}

#[test]
fn a_kubeconfig_is_enough() {
    let relay = relay();
    let api = FakeApi::new(State::well(&relay.address));
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = api.kubeconfig(dir.path(), "{}");
    let ran = follows(dir.path(), alone(dir.path()).args(["generate", "--kubeconfig"]).arg(&kubeconfig));
    ran.says("Service kube-system/hubble-relay of context test");
    // By the list in KUBECONFIG; files that are not there are passed over, as kubectl does.
    let list = std::env::join_paths([&dir.path().join("none"), &kubeconfig]).unwrap();
    follows(dir.path(), alone(dir.path()).arg("generate").env("KUBECONFIG", list));
    // By ~/.kube/config, and with what k9s gives when it has nothing.
    write(&dir.path().join(".kube/config"), std::fs::read(&kubeconfig).unwrap());
    follows(dir.path(), alone(dir.path()).args(["generate", "--context", "", "--kubeconfig", ""]));
    // A cluster that is named wins over an address in the environment.
    follows(
        dir.path(),
        alone(dir.path()).args(["generate", "--context", "test"]).env("HUBBLE_SERVER", "127.0.0.1:1"),
    );
    let asked = api.asked.lock().unwrap();
    assert!(asked.iter().all(|line| line.starts_with("GET ")), "{asked:?}");
}

#[test]
fn tls_inside_of_the_port_forward() {
    let (ca, relay) = (Ca::new("relay"), relay());
    let front = Front::new(&relay, Some(ca.signs("*.hubble-relay.cilium.io").server(None)));
    let api = FakeApi::new(State { service: service(443), ..State::well(&front.address) });
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("ca.crt"), &ca.pem);
    let kubeconfig = api.kubeconfig(dir.path(), "{}");
    let command = || {
        let mut command = alone(dir.path());
        command.arg("generate").env("KUBECONFIG", &kubeconfig);
        command
    };
    // The name is the one of Cilium's chart.
    follows(dir.path(), command().args(["--tls", "--tls-ca-cert-files", "ca.crt"])).says("with TLS");
    refused(&mut command(), &["speaks TLS", "give --tls"]);
    assert_eq!(front.first_bytes().first(), Some(&0x16), "the first one that follows() made");
    refused(
        command().args(["--tls", "--tls-ca-cert-files", "ca.crt", "--tls-server-name", "a.example"]),
        &["not for a.example", "Service kube-system/hubble-relay of context test"],
    );
    assert!(NAME.ends_with(".hubble-relay.cilium.io"));
}

#[test]
fn tls_to_a_plain_relay_through_the_port_forward_sends_nothing_in_plaintext() {
    let relay = relay();
    let front = Front::new(&relay, None);
    let api = FakeApi::new(State::well(&front.address));
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = api.kubeconfig(dir.path(), "{}");
    refused(
        alone(dir.path()).args(["generate", "--tls", "--tls-allow-insecure"]).env("KUBECONFIG", kubeconfig),
        &["does not speak TLS; nothing was sent in plaintext", "Leave out --tls"],
    );
    let first = front.first_bytes();
    assert!(!first.is_empty() && first.iter().all(|byte| *byte == 0x16), "{first:?}");
    assert!(relay.relay.requests().is_empty());
}

#[test]
fn through_a_proxy_as_kubectl_goes() {
    let relay = relay();
    let api = FakeApi::new(State::well(&relay.address));
    let proxy = Proxy::new();
    let dir = tempfile::tempdir().unwrap();
    let plain = std::fs::read_to_string(api.kubeconfig(dir.path(), "{}")).unwrap();
    let named = |proxy: &str| {
        let path = dir.path().join("through");
        write(&path, plain.replace("server:", &format!("proxy-url: \"{proxy}\", server:")));
        path
    };
    let command = |kubeconfig: &Path| {
        let mut command = alone(dir.path());
        command.arg("generate").env("KUBECONFIG", kubeconfig);
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command
    };
    // The one that the kubeconfig names counts, whatever NO_PROXY says; the port-forward takes it too.
    let through = named(&format!("http://joe:secret@{}", proxy.address));
    follows(dir.path(), command(&through).env("NO_PROXY", "*")).says("through the proxy http://127.0.0.1:");
    let asked = proxy.asked.lock().unwrap().clone();
    assert!(
        asked.len() >= 2 && asked.iter().all(|line| *line == format!("CONNECT {}", api.address)),
        "{asked:?}"
    );
    // One of the environment does not, for an address of this machine.
    let kubeconfig = dir.path().join("kubeconfig");
    follows(
        dir.path(),
        command(&kubeconfig).env("HTTPS_PROXY", "http://127.0.0.1:1").env("HTTP_PROXY", "127.0.0.1:1"),
    );
    // For another it does.
    let elsewhere = plain.replace(&api.address, "api.example.invalid:6443");
    write(&dir.path().join("elsewhere"), &elsewhere);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    refused(
        command(&dir.path().join("elsewhere")).env("http_proxy", format!("http://joe:secret@{free}")),
        &[&format!("through the proxy http://{free}"), "the API server cannot be reached", "refused"],
    );
    refused(
        command(&dir.path().join("elsewhere"))
            .env("http_proxy", free.to_string())
            .env("no_proxy", "other,.example.invalid"),
        &["(http://api.example.invalid:6443)", "dns error"],
    );
    refused(&mut command(&named("ftp://x:1")), &["its proxy-url is no address of a proxy", "socks5://"]);
}

/// An HTTP proxy that tunnels to wherever it is asked to.
struct Proxy {
    address: String,
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Proxy {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: std::sync::Arc<std::sync::Mutex<Vec<String>>> = std::sync::Arc::default();
        let noted = std::sync::Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let noted = std::sync::Arc::clone(&noted);
                std::thread::spawn(move || {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        client.read_exact(&mut byte).ok()?;
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8(head).ok()?;
                    let to = head.strip_prefix("CONNECT ")?.split(' ').next()?;
                    // joe:secret
                    assert!(
                        head.to_ascii_lowercase().contains("proxy-authorization: basic am9lonnly3jlda==\r\n"),
                        "{head}"
                    );
                    noted.lock().unwrap().push(format!("CONNECT {to}"));
                    let mut server = TcpStream::connect(to).ok()?;
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
                    let (mut from, mut back) = (client.try_clone().ok()?, server.try_clone().ok()?);
                    std::thread::spawn(move || std::io::copy(&mut from, &mut back));
                    std::io::copy(&mut server, &mut client).ok()
                });
            }
        });
        Self { address, asked }
    }
}

#[test]
fn the_port_of_the_service_is_named_when_it_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (port, tls, says) in [
        (443, false, "the Service has port 443, as for a relay with TLS: give --tls"),
        (80, true, "leave out --tls"),
    ] {
        let api = FakeApi::new(State {
            service: service(port),
            forwards: vec![("relay-1", Forward::Complain("connection refused inside of the pod"))],
            ..State::well(&free.to_string())
        });
        let kubeconfig = api.kubeconfig(dir.path(), "{}");
        let mut command = alone(dir.path());
        command.arg("generate").env("KUBECONFIG", kubeconfig);
        if tls {
            command.args(["--tls", "--tls-allow-insecure"]);
        }
        refused(&mut command, &[says, "connection refused inside of the pod"]);
    }
}

#[test]
fn no_kubeconfig_or_a_bad_one() {
    let dir = tempfile::tempdir().unwrap();
    let api = FakeApi::new(State::well("127.0.0.1:1"));
    let kubeconfig = api.kubeconfig(dir.path(), "{}");
    let command = || {
        let mut command = alone(dir.path());
        command.arg("generate");
        command
    };
    refused(&mut command(), &["there is no kubeconfig", "KUBECONFIG", "--server"]);
    refused(command().args(["--kubeconfig", "none"]), &["--kubeconfig none does not exist"]);
    refused(command().env("KUBECONFIG", "none:nowhere"), &["KUBECONFIG none:nowhere does not exist"]);
    refused(
        command().args(["--context", "prod", "--kubeconfig"]).arg(&kubeconfig),
        &["has no context \"prod\"", "it has test", "--context"],
    );
    write(&dir.path().join("bad"), "apiVersion: v1\nclusters: 7\n");
    refused(command().args(["--kubeconfig", "bad"]), &["--kubeconfig bad cannot be used"]);
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    let folder =
        ["--kubeconfig folder cannot be used: failed to read kubeconfig from folder: Is a directory"];
    refused(command().args(["--kubeconfig", "folder"]), &folder);
    let good = std::fs::read_to_string(&kubeconfig).unwrap();
    for (what, from, to, says) in [
        ("cluster", "cluster: c,", "cluster: gone,", "failed to load the cluster of context: gone"),
        ("ca", "{server:", "{certificate-authority: /no/such/ca, server:", "failed to read file /no/such/ca"),
        ("key", "user: {}", "user: {client-certificate-data: aGk=, client-key-data: aGk=}", "cannot be used"),
    ] {
        assert!(good.contains(from), "{good}");
        write(&dir.path().join(what), good.replace(from, to).replace("http://", "https://"));
        refused(
            command().args(["--kubeconfig", what]),
            &[says, "kubectl must work with the same kubeconfig"],
        );
    }
    // In a pod, but without the files of a service account.
    let mut pod = command();
    pod.envs([("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("KUBERNETES_SERVICE_PORT", "443")]);
    refused(&mut pod, &["this pod has no service account that can be used", "automountServiceAccountToken"]);
    // Before anything is asked of a cluster.
    write(&dir.path().join("file"), "");
    for output in ["file", "file/below"] {
        refused(
            command().args(["-o", output, "--kubeconfig"]).arg(&kubeconfig),
            &[&format!("{output} is not a directory"), "choose another output directory"],
        );
    }
    let mut nowhere = command();
    nowhere.args(["-o", "/proc/nowhere", "--kubeconfig"]).arg(&kubeconfig).args(["--timeout", "2s"]);
    let ran = finished(nowhere.output().unwrap()).code(2).says("cannot create the directory /proc/nowhere");
    assert_eq!(ran.stderr.matches("os error").count(), 1, "{}", ran.stderr);
    write(&dir.path().join("empty"), "");
    refused(command().args(["--kubeconfig", "empty"]), &["has no current context", "--context"]);
    refused(
        command().args(["--server", "127.0.0.1:1", "--context", "test"]),
        &["--server and --context contradict each other"],
    );
    refused(command().args(["--relay-port", "70000"]), &["--relay-port \"70000\""]);
    refused(command().args(["--kube-namespace", "../x"]), &["--kube-namespace \"../x\""]);
    assert!(api.asked.lock().unwrap().is_empty());
}

#[test]
fn what_the_api_server_refuses() {
    let relay = relay();
    let api = FakeApi::new(State::well(&relay.address));
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = api.kubeconfig(dir.path(), "{}");
    let check = |change: &dyn Fn(&mut State), says: &[&str]| {
        api.change(|state| *state = State::well(&relay.address));
        api.change(|state| change(state));
        let context = format!("context test (http://{})", api.address);
        let says = [&[context.as_str(), "(tried for up to 2s)"][..], says].concat();
        refused(alone(dir.path()).arg("generate").env("KUBECONFIG", &kubeconfig), &says);
    };
    check(&|s| s.token = Some("good"), &["401", "expired", "Log in again: kubectl --context test"]);
    let no = "User \"joe\" cannot do this";
    check(
        &|s| s.service = Answer::Fail(403, no),
        &["forbids get on services in namespace kube-system", no, "Role with get on services"],
    );
    check(&|s| s.pods = Answer::Fail(403, no), &["forbids list on pods in namespace kube-system", no]);
    check(
        &|s| s.forwards = vec![("relay-1", Forward::Fail(403))],
        &["forbids get on pods/portforward", "Role with get (and create, from Kubernetes 1.35)", "relay-1"],
    );
    check(
        &|s| s.service = Answer::Fail(404, "none"),
        &["has no Service hubble-relay in namespace kube-system", "cilium hubble enable", "--relay-service"],
    );
    check(&|s| s.pods = pods(&[]), &["has no pod that is ready: it selects no pods"]);
    check(
        &|s| s.pods = pods(&[("relay-1", false)]),
        &["relay-1 is running, not ready", "describe pods -l k8s-app=hubble-relay"],
    );
    check(&|s| s.forwards.clear(), &["port-forward to pod relay-1, port 4245", "does not find it"]);
    check(
        &|s| s.forwards = vec![("relay-1", Forward::Complain("dial tcp: connection refused"))],
        &["pod relay-1, port 4245: dial tcp: connection refused"],
    );
    check(&|s| s.service = Answer::Fail(500, "boom"), &["failed (500 at get services: boom)"]);
    check(&|s| s.pods = Answer::Fail(429, "slow down"), &["overloaded (429 Too Many Requests: slow down)"]);
    check(
        &|s| s.service = Answer::Fail(403, "User \"system:anonymous\" cannot get resource"),
        &["took the request for an anonymous one", "Check the context's user"],
    );
    check(
        &|s| s.service = Answer::Fail(400, "Client sent an HTTP request to an HTTPS server."),
        &["HTTPS server. The cluster's server in the kubeconfig must begin with https://"],
    );
    check(&|s| s.service = Answer::Hang, &["time was up at asking", "for Service kube-system/hubble-relay"]);
    check(&|s| s.pods = Answer::Hang, &["time was up at asking", "for the pods of Service"]);
}

#[test]
fn an_api_server_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut api = FakeApi::new(State::well("127.0.0.1:1"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    api.address = free.to_string();
    let kubeconfig = api.kubeconfig(dir.path(), "{}");
    refused(
        alone(dir.path()).arg("generate").env("KUBECONFIG", kubeconfig),
        &["the API server cannot be reached", "refused", &free.to_string()],
    );
}

#[test]
fn a_pod_that_goes_between_choice_and_forward() {
    let relay = relay();
    let api = FakeApi::new(State {
        pods: pods(&[("gone", true), ("relay-1", true)]),
        ..State::well(&relay.address)
    });
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = api.kubeconfig(dir.path(), "{}");
    follows(dir.path(), alone(dir.path()).arg("generate").env("KUBECONFIG", kubeconfig));
    let asked = api.asked.lock().unwrap();
    assert!(asked.iter().any(|line| line.ends_with("/pods/gone/portforward")), "{asked:?}");
}

#[test]
fn credential_plugins() {
    let relay = relay();
    let api = FakeApi::new(State { token: Some("t0ken"), ..State::well(&relay.address) });
    let dir = tempfile::tempdir().unwrap();
    let plugin = |script: &str| {
        format!(
            "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Never, \
             args: [\"-c\", {}]}}}}",
            serde_json::to_string(script).unwrap()
        )
    };
    let credential = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t0ken"}}"#;
    let good = api.kubeconfig(dir.path(), &plugin(&format!("echo '{credential}'")));
    follows(dir.path(), alone(dir.path()).arg("generate").env("KUBECONFIG", good));
    let fails = api.kubeconfig(dir.path(), &plugin("echo 'session is over' >&2; exit 3"));
    refused(
        alone(dir.path()).arg("generate").env("KUBECONFIG", fails),
        &["credential plugin sh failed (exit status: 3): session is over", "Log in again"],
    );
    let of = |exec: &str| api.kubeconfig(dir.path(), exec);
    let missing = of("{exec: {apiVersion: client.authentication.k8s.io/v1, command: no-such-plugin, \
                      interactiveMode: Never, installHint: \"brew install it\"}}");
    let check = |kubeconfig, says: &[&str]| {
        refused(alone(dir.path()).arg("generate").env("KUBECONFIG", kubeconfig), says);
    };
    check(missing, &["credential plugin no-such-plugin cannot be started", "(brew install it)"]);
    check(of(&plugin("echo hello {")), &["plugin sh printed what is no ExecCredential", "Log in again"]);
    check(of(&plugin("true")), &["plugin sh printed an ExecCredential without a status"]);
    check(of(&plugin("exit 3")), &["plugin sh failed (exit status: 3): it said nothing"]);
    check(of("{tokenFile: /no/such/token}"), &["its token file /no/such/token cannot be read"]);
    let hangs = api.kubeconfig(dir.path(), &plugin("sleep 20"));
    refused(
        alone(dir.path()).arg("generate").env("KUBECONFIG", hangs),
        &["time was up at reading the kubeconfig and running its credential plugin"],
    );
}

#[test]
fn the_preflight_warns_of_what_does_not_fit() {
    // Without a flow there is no warning of the writer's.
    let relay = serving(DemoRelay::new([Script::default().then(Step::Hang)]));
    let config =
        |data| Answer::Json(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": data}));
    let api = FakeApi::new(State::well(&relay.address));
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = api.kubeconfig(dir.path(), "{}");
    // Waits for the last thing that the preflight says.
    let said = |args: &[&str], last: &str| {
        let child = Running::new(alone(dir.path()).arg("generate").args(args).env("KUBECONFIG", &kubeconfig));
        child.says(last);
        child.signal("-TERM");
        child.end().code(0).stderr
    };
    let relay_says = "1 node connected";
    let text = said(&[], relay_says);
    assert!(text.contains("policy_mode=\"unknown\"") && !text.contains("WARN"), "{text}");
    api.change(|s| {
        s.config = config(json!({
            "enable-policy": "never", "policy-audit-mode": "true", "enable-l7-proxy": "false"
        }));
    });
    let text = said(&[], relay_says);
    for part in ["enable-policy: never", "policy-audit-mode: true", "enable-l7-proxy: false"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(text.matches("WARN").count(), 3, "{text}");
    api.change(|s| {
        s.config = config(json!({
            "enable-policy": "default", "policy-audit-mode": "false", "enable-l7-proxy": "true"
        }));
    });
    let text = said(&[], relay_says);
    assert!(text.contains("policy_mode=\"default\"") && !text.contains("WARN"), "{text}");
    api.asked.lock().unwrap().clear();
    let text = said(&["--no-preflight"], "connected; following");
    assert!(!text.contains(relay_says), "{text}");
    assert!(api.asked.lock().unwrap().iter().all(|line| !line.contains("configmaps")));
}

#[test]
fn nodes_that_the_relay_does_not_reach_are_named() {
    let options =
        Options { unavailable: vec!["west/n9".to_owned()], nodes: Vec::new(), ..Options::default() };
    let relay = serving(DemoRelay::with([sends(&[denied()]).then(Step::Hang)], options));
    let dir = tempfile::tempdir().unwrap();
    let child = Running::new(alone(dir.path()).args(["generate", "--server", &relay.address]));
    child.says("does not reach 1 of its nodes");
    child.signal("-TERM");
    child.end().code(0).says("west/n9").says("the relay has no node connected");
}

#[test]
fn one_directory_one_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let of = |cluster: &str| {
        let options =
            Options { namespaces: vec![(cluster.to_owned(), "shop".to_owned())], ..Options::default() };
        serving(DemoRelay::with([sends(&[denied()]).then(Step::Hang)], options))
    };
    let (west, east) = (of("west"), of("east"));
    let stamp = || std::fs::read_to_string(dir.path().join("policies/.cpg/cluster")).unwrap();
    // Not with `follows`, which empties the directory.
    let runs = |command: &mut Command| {
        let child = Running::new(command.args(["--flush-interval", "100ms"]));
        child.says("connected; following");
        until("the need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r == [ONE]));
        child.signal("-TERM");
        child.end().code(0)
    };
    let at = |relay: &Serving, args: &[&str]| {
        let mut command = alone(dir.path());
        command.args(["generate", "--server", &relay.address]).args(args);
        command
    };
    runs(&mut at(&west, &[]));
    assert!(stamp().contains("relay-cluster: west"));
    runs(&mut at(&west, &[]));
    let says = ["relay-cluster west, and this is relay-cluster east", "--output-dir", "--accept-cluster"];
    refused(&mut at(&east, &[]), &says);
    assert!(stamp().contains("relay-cluster: west"));
    // By the UID of kube-system, when that may be read; then the relay's name does not matter.
    let api = FakeApi::new(State { uid: "u-1", ..State::well(&west.address) });
    let kubeconfig = api.kubeconfig(dir.path(), "{}");
    let through = || {
        let mut command = alone(dir.path());
        command.arg("generate").env("KUBECONFIG", &kubeconfig);
        command
    };
    runs(&mut through());
    assert!(stamp().contains("kube-system-uid: u-1\nrelay-cluster: west"));
    api.change(|s| s.uid = "u-2");
    refused(&mut through(), &["kube-system-uid u-1, and this is kube-system-uid u-2"]);
    runs(through().arg("--accept-cluster"));
    assert!(stamp().contains("kube-system-uid: u-2"));
    let tree: Vec<_> = std::fs::read_dir(dir.path().join("policies/.cpg")).unwrap().collect();
    assert_eq!(tree.len(), 1);
}
