//! `/metrics`, `/healthz` and `/readyz` of a running cpg, read by Prometheus's own parser and linter.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use cpg::demo::{DemoRelay, Step};
use serde_json::Value;

use crate::exit_codes::following;
use crate::health::{broken, now};
use crate::live::{MARKER, ONE, Running, marker, policies, rules_or_none, sends, serving, until};
use crate::support::{cpg, denied, run, skipped};
use crate::testbed::{MISSING, program};
use crate::tls::Front;

/// The address that cpg says it serves on.
pub(crate) fn served(child: &Running) -> String {
    let line = child.line("serving /metrics");
    line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// One request; gives status, head and body.
pub(crate) fn ask(address: &str, method: &str, path: &str, accept: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let accept = if accept.is_empty() { String::new() } else { format!("Accept: {accept}\r\n") };
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: cpg\r\n{accept}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let (status, _, body) = ask(address, "GET", path, "");
    (status, body)
}

/// The samples by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    text.lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

const OPEN: &str = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";

#[test]
fn the_numbers_of_a_run() {
    let lines = [now(denied()), now(denied()).drop_event(), now(broken()), marker()];
    let server = serving(DemoRelay::new([sends(&lines).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let child = following(dir.path(), &server.address, &["--debug", "--metrics-listen", "127.0.0.1:0"]);
    child.says(MARKER);
    let address = served(&child);
    until("the policy is on disk", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 1));
    until("and counted", || get(&address, "/metrics").1.contains("cpg_rules_added_total 1\n"));
    let (status, head, open) = ask(&address, "GET", "/metrics", OPEN);
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(open.ends_with("# EOF\n"), "{open}");
    let numbers = samples(&open);
    let check = |name: &str, expected: f64| assert_eq!(numbers.get(name), Some(&expected), "{name}\n{open}");
    check("cpg_flows_total{verdict=\"dropped\",class=\"policy\"}", 3.0);
    check("cpg_flows_total{verdict=\"dropped\",class=\"infrastructure\"}", 1.0);
    check("cpg_drops_total{class=\"infrastructure\",reason=\"CT_MAP_INSERTION_FAILED\"}", 1.0);
    check("cpg_flows_without_rule_total{why=\"unknown_protocol\"}", 1.0);
    check("cpg_connected", 1.0);
    check("cpg_reconnects_total", 0.0);
    check("cpg_gaps_total", 0.0);
    check("cpg_policies{outcome=\"created\"}", 1.0);
    check("cpg_write_errors_total", 0.0);
    check("cpg_writable", 1.0);
    check("cpg_ledger_entries", 0.0);
    check("cpg_cap_hits_total{table=\"ledger\"}", 0.0);
    check(&format!("cpg_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0);
    let second = jiff::Timestamp::now().as_second() as f64;
    for name in ["flow", "write"] {
        let time = numbers[&format!("cpg_last_{name}_timestamp_seconds")];
        assert!((second - time).abs() < 60.0, "{name} {time}");
    }
    // Only these paths, only reading, and a client that says nonsense harms nobody.
    assert_eq!((get(&address, "/").0, get(&address, "/metrics/").0), (404, 404));
    assert_eq!(ask(&address, "POST", "/metrics", "").0, 405);
    assert_eq!(ask(&address, "HEAD", "/metrics", "").2, "");
    TcpStream::connect(&address).unwrap().write_all(b"\x16\x03\x01 nonsense\r\n\r\n").unwrap();
    let idle: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(&address).unwrap()).collect();
    assert_eq!((get(&address, "/healthz").0, get(&address, "/readyz").0), (200, 200));
    drop(idle);
    // Prometheus's own code reads the older format, and likes the names.
    let (_, head, old) = ask(&address, "GET", "/metrics", "text/plain;version=0.0.4");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    lint(&old, numbers.len());
    child.signal("-TERM");
    child.end().code(0);
}

/// Fails where Prometheus's parser or linter finds fault; skipped without the testbed.
fn lint(text: &str, expected: usize) {
    let Some(program) = program() else { return skipped(MISSING) };
    let mut child = Command::new(program)
        .arg("metrics-lint")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && answer["problems"] == serde_json::json!([]), "{answer}\n{text}");
    assert_eq!(answer["families"]["cpg_flows_total"], "COUNTER");
    assert_eq!(answer["samples"], expected, "every sample was read");
}

#[test]
fn every_name_is_in_the_documentation() {
    let docs =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let server = serving(DemoRelay::new([sends(&[]).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let child = following(dir.path(), &server.address, &["--metrics-listen", "127.0.0.1:0"]);
    let text = get(&served(&child), "/metrics").1;
    let names: Vec<&str> =
        text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.len() > 20);
    for name in &names {
        assert!(docs.contains(&format!("`{name}")), "docs/metrics.md does not have {name}");
    }
    child.signal("-TERM");
    child.end().code(0);
}

#[test]
fn ready_means_connected_and_writable() {
    // Nobody answers yet.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let args = ["generate", "--server", &address, "--timeout", "60s", "--metrics-listen", "127.0.0.1:0"];
    let child = Running::new(cpg(dir.path()).args(args));
    let metrics = served(&child);
    assert_eq!(get(&metrics, "/healthz").0, 200);
    assert_eq!(get(&metrics, "/readyz"), (503, "there is no stream of a relay\n".into()));
    assert!(get(&metrics, "/metrics").1.contains("cpg_connected 0\n"));
    child.signal("-TERM");
    child.end().code(2);
    // The stream breaks and comes back.
    let server = serving(DemoRelay::new([sends(&[denied()]).then(Step::Hang)]));
    let front = Front::new(&server, None);
    let child = following(dir.path(), &front.address, &["--metrics-listen", "127.0.0.1:0"]);
    let metrics = served(&child);
    until("it is ready", || get(&metrics, "/readyz").0 == 200);
    front.cut();
    until("the break is seen", || get(&metrics, "/readyz").0 == 503);
    until("it is back", || get(&metrics, "/readyz").0 == 200);
    assert!(get(&metrics, "/metrics").1.contains("cpg_reconnects_total 1\n"));
    child.signal("-TERM");
    child.end().code(0);
}

#[test]
fn a_fault_in_the_metrics_ends_the_run_with_its_name() {
    let server = serving(DemoRelay::new([sends(&[denied(), marker()]).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let mut command = cpg(dir.path());
    command.args(["generate", "--debug", "--server", &server.address, "--flush-interval", "1h"]);
    command.args(["--metrics-listen", "127.0.0.1:0"]).env("CPG_DEV_PANIC", "metrics-connection");
    let child = Running::new(&mut command);
    child.says(MARKER);
    // Its connection breaks.
    let mut stream = TcpStream::connect(served(&child)).unwrap();
    let _ = stream.read(&mut [0]);
    let ran = child.end();
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("NOT DONE: the task metrics-connection panicked: injected"),
        "{}",
        ran.stderr
    );
    assert_eq!(policies(dir.path()), [ONE], "the last window is on disk");
    assert!(
        ran.stderr.contains("in task metrics-connection") && !ran.stderr.contains('\u{1b}'),
        "{}",
        ran.stderr
    );
}

#[test]
fn an_address_that_cannot_be_had_is_one_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let with = |address: &str| {
        run(
            dir.path(),
            &["generate", "--server", "127.0.0.1:1", "--timeout", "1s", "--metrics-listen", address],
        )
        .code(2)
    };
    with(&address).says("cannot listen on").says(&address);
    with("9090").says("give HOST:PORT");
    // Every address.
    with(":0").says("serving /metrics");
}
