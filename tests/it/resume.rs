//! Goes on where it was: over a broken stream, over a restart, and says what was missed.

use std::path::Path;
use std::time::Duration;

use cpg::demo::{DemoRelay, Script, Step, from_json};
use serde_json::{Value, json};

use crate::live::{Running, rules_or_none, sends, serving, until};
use crate::support::{Ran, capture, cpg, denied, run, skipped};
use crate::testbed::{MISSING, Testbed, program};

fn summary(ran: &Ran) -> Value {
    let line = ran.stderr.lines().rev().find(|line| line.contains("\"summary\"")).expect("a summary");
    serde_json::from_str(line).unwrap()
}

fn follow(dir: &Path, server: &str, args: &[&str]) -> Running {
    let common =
        ["generate", "--json", "--server", server, "--flush-interval", "100ms", "--health-interval", "500ms"];
    Running::new(cpg(dir).args([&common, args].concat()))
}

#[test]
fn what_comes_again_after_a_break_counts_once() {
    let (one, two) = (denied(), denied().port(81).set("/uuid", "b".into()));
    let scripts =
        [sends(std::slice::from_ref(&one)).then(Step::Cut), sends(&[one.clone(), two]).then(Step::Hang)];
    let server = serving(DemoRelay::new(scripts));
    let dir = tempfile::tempdir().unwrap();
    let child = follow(dir.path(), &server.address, &[]);
    until("both are in a file", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 2));
    child.signal("-TERM");
    let summary = summary(&child.end().code(0));
    assert_eq!([&summary["needs"], &summary["repeated"], &summary["reconnects"]], [2, 1, 1]);
    assert_eq!(summary["history"], 2, "dropped in March, before the start");
    let requests = server.relay.requests();
    let since: Vec<_> = requests.iter().map(|r| r.since.map(|t| t.seconds)).collect();
    assert_eq!(since[0], Some(0), "everything that is held");
    assert!(since[1].is_some_and(|s| s > 0), "{since:?}");
}

#[test]
fn where_the_first_stream_begins() {
    let began = |args: &[&str]| {
        let server = serving(DemoRelay::new([Script::of([]).then(Step::Hang)]));
        let dir = tempfile::tempdir().unwrap();
        let child = follow(dir.path(), &server.address, args);
        until("a stream", || !server.relay.requests().is_empty());
        child.signal("-TERM");
        child.end().code(0);
        let request = server.relay.requests().remove(0);
        (request.number, request.since.map(|t| t.seconds))
    };
    assert_eq!(began(&["--last", "20"]), (20, None));
    assert_eq!(began(&["--no-history"]), (0, None));
    assert_eq!(began(&["--since", "2026-03-01T10:00:00Z"]), (0, Some(1_772_359_200)));
    let ago = began(&["--since", "10m"]).1.unwrap();
    assert!((jiff::Timestamp::now().as_second() - 600 - ago).abs() < 30);
    let dir = tempfile::tempdir().unwrap();
    let args =
        ["generate", "--server", "127.0.0.1:1", "--last", "0", "--since", "soon", "--min-coverage", "x"];
    run(dir.path(), &args).code(2).says("--last and --since contradict").says("--min-coverage");
}

#[test]
fn a_relay_that_answers_nothing_any_more_is_left() {
    let two = from_json::response(&denied().port(81).set("/uuid", "b".into()).0.to_string()).unwrap();
    let server =
        serving(DemoRelay::new([sends(&[denied()]).then(Step::Freeze), Script::of([two]).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let child = follow(dir.path(), &server.address, &[]);
    until("both are in a file", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 2));
    child.signal("-TERM");
    child.end().code(0).says("answers nothing, not even a health check");
}

#[test]
fn too_little_watched_is_code_two() {
    // The relay knows a node that it does not reach.
    let options = cpg::demo::Options { unavailable: vec!["n9".to_owned()], ..Default::default() };
    let server = serving(DemoRelay::with([sends(&[denied()]).then(Step::Hang)], options));
    let dir = tempfile::tempdir().unwrap();
    let child = follow(dir.path(), &server.address, &["--min-coverage", "99%"]);
    until("it is in a file", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 1));
    std::thread::sleep(Duration::from_secs(1));
    child.signal("-TERM");
    let ran = child.end().code(2).says("less than --min-coverage 99%");
    let summary = summary(&ran);
    let gaps = summary["coverage"]["gaps"].as_array().unwrap();
    assert!(gaps.iter().any(|gap| gap["node"] == "n9"), "{gaps:?}");
}

#[test]
fn a_restart_goes_on_where_the_last_run_was() {
    let Some(program) = program() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-nodes", "2", "-ring", "255"]);
    let relay = testbed.named("/relay");
    let dir = tempfile::tempdir().unwrap();
    let args = ["--state-dir", "state", "--no-history"];
    let inject = |node: u8, ports: std::ops::Range<u16>| {
        let lines: Vec<_> = ports.map(|port| denied().port(port).set("/node_name", Value::Null)).collect();
        testbed.call("POST", &format!("/node/node-{node}/inject?now=1"), &capture(&lines));
    };
    let rules = || rules_or_none(dir.path()).map_or(0, |r| r.len());
    let child = follow(dir.path(), &relay, &args);
    testbed.call("GET", "/following?n=1&timeout=20", "");
    inject(1, 1..3);
    inject(2, 3..5);
    until("four needs are in a file", || rules() == 4);
    until("they are in the state", || {
        let text = std::fs::read_to_string(dir.path().join("state/watch.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&text)
            .is_ok_and(|v| v["nodes"].as_object().is_some_and(|n| n.len() == 2))
    });
    // No time for a last window.
    child.signal("-KILL");
    child.end();
    // On one node more than the ring holds.
    inject(1, 5..10);
    inject(2, 100..400);
    inject(2, 400..401);
    let child = follow(dir.path(), &relay, &args);
    until("what the rings held is in a file", || rules() > 4 + 5 + 200);
    until("how far back they reached is known", || {
        let text = std::fs::read_to_string(dir.path().join("state/watch.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&text)
            .is_ok_and(|v| v["gaps"].as_array().is_some_and(|g| !g.is_empty()))
    });
    child.signal("-TERM");
    let ran = child.end().code(0).says("going on from the last run");
    let summary = summary(&ran);
    let gaps = summary["coverage"]["gaps"].as_array().unwrap();
    let told: Vec<_> = gaps.iter().map(|gap| json!([gap["node"], gap["reason"]])).collect();
    assert_eq!(told, [json!(["node-2", "downtime"])], "{gaps:?}");
    let text = std::fs::read_to_string(dir.path().join("state/watch.json")).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&state["version"], state["gaps"].as_array().unwrap().len()), (&json!(1), 1));
}
