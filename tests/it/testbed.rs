//! The program against real parts: Hubble's observers behind the real Relay, Cilium's own validation.
//!
//! `CPG_TESTBED` names the program made from `tests/testbed/`; `make test` builds it where Go is there.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::live::{Running, until};
use crate::support::{Line, cpg, denied, identity, pod, rules, run, skipped, tree, write};

/// The program of the real parts, where it was built.
pub(crate) fn program() -> Option<PathBuf> {
    std::env::var_os("CPG_TESTBED").map(PathBuf::from).filter(|path| path.is_file())
}

pub(crate) const MISSING: &str =
    "the tests against real parts need the testbed: make test builds it where Go is there";

/// Real observers behind the real Relay, until it is dropped.
pub(crate) struct Testbed {
    child: Child,
    relay: String,
    control: String,
    /// The line that it printed when it was ready.
    ready: Value,
    _dir: Option<tempfile::TempDir>,
}

impl Testbed {
    pub(crate) fn up(program: &Path, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(["up", "-dir", dir.path().to_str().unwrap(), "-net", "auto"]).args(args);
        Self::started(&mut command, Some(dir))
    }

    /// One that nothing drops: it ends with this process, and a shell cleans up behind it.
    pub(crate) fn left_alone(program: &Path, args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap().keep();
        let mut command = Command::new("sh");
        command.args(["-c", "\"$@\"; rm -rf \"$0\""]).arg(&dir).arg(program);
        command.args(["up", "-dir"]).arg(&dir).args(["-net", "auto"]).args(args);
        Self::started(&mut command, None)
    }

    fn started(command: &mut Command, dir: Option<tempfile::TempDir>) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self { child, relay: text("relay"), control: text("control"), ready, _dir: dir }
    }

    /// One request to the control channel; gives the body of the answer.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> String {
        let host = self.control.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        write!(
            stream,
            // Of version 1.0, whose answers come in one piece.
            "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200"), "{method} {path}: {answer}");
        body.to_owned()
    }

    /// A file or address that it named: `/kubeconfig`, `/roles/none/kubeconfig`.
    pub(crate) fn named(&self, pointer: &str) -> String {
        self.ready
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{}", self.ready))
            .to_owned()
    }

    /// Follows the relay in this directory, until flows would reach it.
    pub(crate) fn generate(&self, dir: &Path, args: &[&str]) -> Running {
        let common = ["generate", "--server", &self.relay, "--flush-interval", "200ms"];
        let running = Running::new(cpg(dir).args([&common, args].concat()));
        self.call("GET", "/following?n=1&timeout=20", "");
        running
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        // It ends when its standard input closes.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What Cilium's own code says of these files; fails when it refuses one.
#[track_caller]
fn validated(program: &Path, files: &[PathBuf]) -> usize {
    let output = Command::new(program).arg("validate").args(files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let refused: Vec<&str> = said.lines().filter(|line| !line.contains("\"ok\":true")).collect();
    assert!(
        output.status.success() && refused.is_empty(),
        "{refused:#?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines().count()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    tree(dir).keys().map(|path| dir.join(path)).collect()
}

#[test]
fn raw_events_of_the_datapath_become_policies() {
    let Some(program) = program() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-nodes", "2"]);
    let endpoint = |id: u32, ip: &str, namespace: &str, app: &str| {
        json!({"id": id, "identity": 1000 + id, "ip": ip, "namespace": namespace, "pod": format!("{app}-1"),
               "labels": [format!("k8s:app={app}"), format!("k8s:io.kubernetes.pod.namespace={namespace}"),
                          "k8s:io.cilium.k8s.policy.cluster=default"]})
    };
    let endpoints = json!([
        endpoint(11, "10.0.0.1", "shop", "web"),
        endpoint(12, "10.0.0.2", "shop", "api"),
        endpoint(13, "10.0.0.3", "pay", "bill"),
        endpoint(14, "fd00::1", "shop", "six"),
    ]);
    testbed.call("POST", "/endpoints", &endpoints.to_string());
    let dir = tempfile::tempdir().unwrap();
    let running = testbed.generate(dir.path(), &[]);
    let denied = |extra: Value| {
        let mut packet = json!({"kind": "denied", "direction": "egress", "src": "10.0.0.1", "dst": "10.0.0.2",
                                "sport": 40000, "dport": 80});
        packet.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        packet.to_string()
    };
    let packets = [
        denied(json!({})),
        denied(json!({"sport": 40001})),
        denied(json!({"direction": "ingress", "src": "10.0.0.3", "dst": "10.0.0.2"})),
        denied(json!({"dst": "10.0.0.3", "protocol": "udp", "dport": 53})),
        denied(json!({"protocol": "sctp", "dport": 38412})),
        denied(json!({"protocol": "icmp", "icmp_type": 8})),
        denied(json!({"dst": "192.0.2.7", "dport": 443})),
        denied(json!({"src": "fd00::1", "dst": "2001:db8::7", "dport": 443})),
        denied(json!({"src": "fd00::1", "dst": "2001:db8::7", "protocol": "icmpv6", "icmp_type": 128})),
        // None of these may become a rule.
        denied(json!({"flags": "SYN,ACK", "sport": 80, "dport": 40000})),
        denied(json!({"flags": "ACK", "dport": 81})),
        denied(json!({"reason": "CT_MAP_INSERTION_FAILED", "kind": "drop", "dport": 82})),
        denied(json!({"reason": "POLICY_DENY", "dport": 83})),
        denied(json!({"action": "audit", "kind": "verdict", "dport": 84})),
    ];
    for (i, packet) in packets.iter().enumerate() {
        testbed.call("POST", &format!("/node/node-{}/packet", 1 + i % 2), packet);
    }
    let expected = [
        "shop/app=api ingress from app=bill,k8s:io.kubernetes.pod.namespace=pay TCP/80",
        "shop/app=six egress to 2001:db8::7/128 ICMP IPv6 type 128",
        "shop/app=six egress to 2001:db8::7/128 TCP/443",
        "shop/app=web egress to 192.0.2.7/32 TCP/443",
        "shop/app=web egress to app=api ICMP IPv4 type 8",
        "shop/app=web egress to app=api SCTP/38412",
        "shop/app=web egress to app=api TCP/80",
        "shop/app=web egress to app=bill,k8s:io.kubernetes.pod.namespace=pay UDP/53",
    ];
    let written = || rules(&tree(&dir.path().join("policies")));
    until("every need is in a file", || written().len() >= expected.len());
    running.signal("-TERM");
    let ran = running.end().code(0);
    assert_eq!(written(), expected, "{}", ran.stderr);
    ran.says("CT_MAP_INSERTION_FAILED").says("explicit_deny").says("mid_stream").says("reply");
    assert_eq!(validated(&program, &files_below(&dir.path().join("policies"))), 3);
}

#[test]
fn the_same_flows_over_the_real_relay_and_from_a_file_give_the_same_bytes() {
    let Some(program) = program() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-nodes", "3"]);
    let lines: Vec<Line> = (0..600u16)
        .flat_map(|i| {
            let line = match i % 5 {
                0 => denied().from(pod("shop", "web", &["k8s:app=web"])),
                1 => denied().ingress().from(pod("pay", "bill", &["k8s:app=bill"])),
                2 => denied()
                    .to(identity(2, &["reserved:world"]))
                    .addresses("10.0.0.1", &format!("192.0.2.{}", i % 250)),
                3 => denied().to(identity(7, &["reserved:kube-apiserver", "reserved:remote-node"])),
                _ => denied().to(pod("obs", "prom", &["k8s:app.kubernetes.io/name=prom"])),
            };
            let line = line.port(1 + i % 97).set("/l4/TCP/source_port", json!(33000 + i));
            [line.clone(), line.drop_event()]
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let capture = crate::support::capture(&lines);
    write(&dir.path().join("c.jsonl"), &capture);
    run(dir.path(), &["replay", "c.jsonl", "-o", "replayed"]).code(0);
    let replayed = tree(&dir.path().join("replayed"));
    let running = testbed.generate(dir.path(), &["-o", "live"]);
    let all: Vec<&str> = capture.lines().collect();
    for (node, part) in (1..=3).zip(all.chunks(all.len() / 3)) {
        testbed.call("POST", &format!("/node/node-{node}/inject?now=1"), &part.join("\n"));
    }
    until("the files are the same", || tree(&dir.path().join("live")) == replayed);
    running.signal("-TERM");
    running.end().code(0);
    assert_eq!(tree(&dir.path().join("live")), replayed);
    validated(&program, &files_below(&dir.path().join("live")));
}

#[test]
fn a_real_relay_that_goes_is_an_end_with_code_two() {
    let Some(program) = program() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-nodes", "1"]);
    let dir = tempfile::tempdir().unwrap();
    let running = testbed.generate(dir.path(), &["--flush-interval", "1h", "--debug", "--no-reconnect"]);
    testbed.call(
        "POST",
        "/node/node-1/inject?now=1",
        &crate::support::capture(&[denied(), crate::live::marker()]),
    );
    running.says("unknown_protocol");
    testbed.call("POST", "/proc/relay/kill", "");
    running.end().code(2).says("NOT DONE: the stream of the relay ended");
    assert_eq!(rules(&tree(&dir.path().join("policies"))).len(), 1);
}

#[test]
fn cilium_takes_the_policies_of_the_demo_and_the_starter_policies() {
    let Some(program) = program() else { return skipped(MISSING) };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = files_below(&root.join("tests/golden/demo"));
    files.extend(files_below(&root.join("policies")));
    assert!(validated(&program, &files) >= 12);
}

#[test]
fn a_real_api_server_takes_every_policy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = tree(&root.join("tests/golden/demo"));
    all.extend(
        tree(&root.join("policies"))
            .into_iter()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "yaml")),
    );
    all.extend(
        crate::captures::whole().iter().map(|(path, text)| (Path::new("whole").join(path), text.clone())),
    );
    assert!(all.len() >= 276 + 12, "{}", all.len());
    if !crate::support::accepted(&all) {
        skipped(MISSING);
    }
}

#[test]
fn cilium_takes_every_policy_of_the_generated_capture() {
    let Some(program) = program() else { return skipped(MISSING) };
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in crate::captures::whole() {
        write(&dir.path().join(path), text);
    }
    assert_eq!(validated(&program, &files_below(dir.path())), crate::captures::whole().len());
}

#[test]
fn requests_over_the_real_relay_and_from_a_file_give_the_same_bytes() {
    let Some(program) = program() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-nodes", "2"]);
    let lines: Vec<Line> = (0..200u16)
        .map(|i| {
            let url = match i % 4 {
                0 => format!("http://api.shop/v1/items/{i}?x={i}"),
                1 => "http://api.shop/v1/items".to_owned(),
                2 => format!("http://api.shop/users/u{i}x/cart"),
                _ => "http://api.shop/a%2Fb.c".to_owned(),
            };
            let line = crate::http::request(if i % 3 == 0 { "POST" } else { "GET" }, &url);
            let verdict = ["DROPPED", "FORWARDED", "REDIRECTED"][usize::from(i) % 3];
            let line = line.set("/verdict", json!(verdict)).set("/l4/TCP/source_port", json!(33_000 + i));
            // An answer, which is no need, and comes through no filter.
            if i % 10 == 9 {
                line.set("/l7/type", json!("RESPONSE")).set("/is_reply", json!(true))
            } else {
                line
            }
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let capture = crate::support::capture(&lines);
    write(&dir.path().join("c.jsonl"), &capture);
    let args = ["--l7", "--l7-collapse-paths", "-n", "shop"];
    run(dir.path(), &[&["replay", "c.jsonl", "-o", "replayed"], &args[..]].concat()).code(0);
    let replayed = tree(&dir.path().join("replayed"));
    assert!(rules(&replayed).len() >= 5, "{replayed:?}");
    let running = testbed.generate(dir.path(), &[&["-o", "live"], &args[..]].concat());
    let all: Vec<&str> = capture.lines().collect();
    for (node, part) in (1..=2).zip(all.chunks(all.len() / 2)) {
        testbed.call("POST", &format!("/node/node-{node}/inject?now=1"), &part.join("\n"));
    }
    until("the files are the same", || tree(&dir.path().join("live")) == replayed);
    running.signal("-TERM");
    running.end().code(0);
    assert_eq!(tree(&dir.path().join("live")), replayed);
    validated(&program, &files_below(&dir.path().join("live")));
}
