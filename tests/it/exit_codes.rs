//! The table of exit codes: 0 done, 1 infrastructure drops since the start, 2 something kept cpg from doing its
//! work.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use cpg::demo::{DemoRelay, Script, Step};

use crate::disk::in_namespace;
use crate::health::{broken, now};
use crate::live::{MARKER, Running, marker, sends, serving, until};
use crate::support::{Line, Ran, capture, cpg, denied, finished, run, write};

/// Follows a relay; a later flag wins over an earlier one.
pub(crate) fn following(dir: &Path, address: &str, args: &[&str]) -> Running {
    let common = ["generate", "--server", address, "--flush-interval", "200ms", "--no-preflight"];
    Running::new(cpg(dir).args([&common, args].concat()))
}

const FAIL: &str = "--fail-on-infra-drops";

/// Follows these flows and a marker, ends it in this way, and compares the code.
#[track_caller]
fn check(lines: &[Line], args: &[&str], code: i32) {
    let sent = [lines, &[marker()]].concat();
    let server = serving(DemoRelay::new([sends(&sent).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let child = following(dir.path(), &server.address, &[&["--debug"], args].concat());
    child.says(MARKER);
    child.signal("-TERM");
    let ran = child.end();
    assert_eq!(ran.code, code, "{args:?} {}", ran.stderr);
}

#[test]
fn what_was_dropped_decides() {
    let (old, new) = (broken(), now(broken()));
    let noise = |n: &str| ["--infra-threshold".to_owned(), format!("CT_MAP_INSERTION_FAILED={n}")];
    // No drops, policy drops.
    check(&[], &[FAIL], 0);
    check(&[now(denied())], &[FAIL], 0);
    // Infrastructure drops, with and without the flag.
    check(std::slice::from_ref(&new), &[], 0);
    check(std::slice::from_ref(&new), &[FAIL], 1);
    // Before the start; before and after it.
    check(std::slice::from_ref(&old), &[FAIL], 0);
    check(&[old.clone(), new.clone()], &[FAIL], 1);
    // Known noise.
    let of = |n| noise(n);
    let (one, two) = (of("1"), of("2"));
    // The same flow twice would count once.
    let other = new.clone().set("/uuid", "0b0e6d7a-0000-4000-8000-000000000002".into());
    check(&[old, new.clone()], &[FAIL, &one[0], &one[1]], 0);
    check(&[new.clone(), other.clone()], &[FAIL, &one[0], &one[1]], 1);
    check(&[new.clone(), other.clone()], &[FAIL, &two[0], &two[1]], 0);
    check(std::slice::from_ref(&new), &[FAIL, "--infra-threshold", "FIB_LOOKUP_FAILED=9"], 1);
    // Reasons that nobody wants to see have no say; nor have security drops.
    check(&[new], &[FAIL, "--ignore-drop-reason", "CT_MAP_INSERTION_FAILED"], 0);
    let spoofed = now(denied().drop_event()).set("/drop_reason_desc", "INVALID_SOURCE_IP".into());
    check(&[spoofed.set("/drop_reason", 132.into())], &[FAIL], 0);
}

#[test]
fn timeout_with_preserve_status_and_the_built_in_bound_give_the_same() {
    let cases = [(vec![now(denied())], 0), (vec![now(broken())], 1), (vec![broken()], 0)];
    for (lines, code) in cases {
        let server = serving(DemoRelay::new([sends(&lines).then(Step::Hang)]));
        let dir = tempfile::tempdir().unwrap();
        let by_timeout = |program: &str| {
            let mut command = std::process::Command::new("timeout");
            command.args(["--preserve-status", "2", program, "generate", "--server", &server.address, FAIL]);
            command.current_dir(dir.path()).env("XDG_CACHE_HOME", dir.path().join(".cache"));
            finished(command.output().unwrap())
        };
        let ran = by_timeout(env!("CARGO_BIN_EXE_cpg"));
        assert_eq!(ran.code, code, "{}", ran.stderr);
        let args = ["generate", "--server", &server.address, FAIL, "--duration", "1s"];
        run(dir.path(), &args).code(code).says("--duration is over");
    }
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    // As `timeout` sends it: to the process, and to the group that it is in.
    for _ in 0..5 {
        let server = serving(DemoRelay::new([sends(&[denied(), marker()]).then(Step::Hang)]));
        let dir = tempfile::tempdir().unwrap();
        let child = following(dir.path(), &server.address, &["--debug", "--flush-interval", "1h"]);
        child.says(MARKER);
        child.signals(&["-TERM", "-INT", "-TERM"]);
        child.end().code(0);
        assert_eq!(crate::live::policies(dir.path()).len(), 1);
    }
}

#[test]
fn a_stream_that_is_lost_for_good_is_two_and_outranks_one() {
    let script = || sends(&[now(broken())]).then(Step::Pause(Duration::from_millis(300)));
    for end in [Step::Cut, Step::EndOk] {
        let server = serving(DemoRelay::new([script().then(end)]));
        let dir = tempfile::tempdir().unwrap();
        following(dir.path(), &server.address, &[FAIL, "--no-reconnect"]).end().code(2).says("NOT DONE");
    }
    let refusal = Step::EndWith(tonic::Status::permission_denied("no"));
    let server = serving(DemoRelay::new([script().then(refusal)]));
    let dir = tempfile::tempdir().unwrap();
    following(dir.path(), &server.address, &[FAIL]).end().code(2).says("NOT DONE");
}

#[test]
fn a_short_outage_is_forgiven() {
    let server = serving(DemoRelay::new([
        sends(&[now(denied())]).then(Step::Cut),
        sends(&[now(denied()).port(81), marker()]).then(Step::Hang),
    ]));
    let dir = tempfile::tempdir().unwrap();
    let child = following(dir.path(), &server.address, &[FAIL, "--debug"]);
    child.says(MARKER);
    child.signal("-TERM");
    child.end().code(0).says("connected again after");
}

#[test]
fn a_relay_that_is_never_reached_is_two() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["generate", "--server", "127.0.0.1:1", "--timeout", "1s", FAIL];
    run(dir.path(), &args).code(2).says("error: no Hubble Relay");
    // The same when the time is over before the relay has answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let args = ["generate", "--server", &address, "--timeout", "30s", "--duration", "1s"];
    run(dir.path(), &args).code(2).says("stopped while connecting");
}

#[test]
fn a_replay_counts_the_whole_capture() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied(), broken()]));
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    run(dir.path(), &["replay", "c.jsonl", FAIL]).code(1).says("exit code 1");
    let noise = ["replay", "c.jsonl", FAIL, "--infra-threshold", "CT_MAP_INSERTION_FAILED=1"];
    run(dir.path(), &noise).code(0).says("known noise");
}

#[test]
fn a_truncated_replay_is_two_and_outranks_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let lines: Vec<Line> = (0..2_000).map(|i| broken().set("/uuid", format!("{i}").into())).collect();
    encoder.write_all(capture(&lines).as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    write(&dir.path().join("c.jsonl.gz"), &whole[..whole.len() / 2]);
    run(dir.path(), &["replay", "c.jsonl.gz", FAIL]).code(2).says("NOT DONE").says("CT_MAP_INSERTION_FAILED");
}

#[test]
fn a_disk_that_is_full_at_the_end_is_two_and_outranks_one() {
    let lines: Vec<Line> = crate::disk::many().into_iter().chain([broken()]).collect();
    let script = format!("mount -t tmpfs -o size=64k,mode=755 none out; $CPG replay c.jsonl -o out {FAIL}");
    let Some(ran): Option<Ran> = in_namespace(&lines, &script) else { return };
    ran.code(2).says("No space left on device").says("CT_MAP_INSERTION_FAILED");
}

#[test]
fn a_fault_in_a_task_ends_the_run_in_order_with_its_name() {
    let script = || sends(&[now(denied()), marker()]).then(Step::Hang);
    for task in ["reader", "writer", "pulse", "health-file"] {
        let server = serving(DemoRelay::new([script()]));
        let dir = tempfile::tempdir().unwrap();
        let mut command = cpg(dir.path());
        command.args([
            "generate",
            "--server",
            &server.address,
            "--flush-interval",
            "200ms",
            "--no-preflight",
        ]);
        command.args(["--health-file", "health.json"]).env("CPG_DEV_PANIC", task);
        let child = Running::new(&mut command);
        if task == "health-file" {
            // It keeps only the report from the disk.
            until("the policy is on disk", || {
                crate::live::rules_or_none(dir.path()).is_some_and(|r| r.len() == 1)
            });
            child.signal("-TERM");
        }
        let ran = child.end();
        assert_eq!(ran.code, 2, "{task}: {}", ran.stderr);
        let said = format!("the task {task} panicked: injected \\u{{1b}}[31m");
        assert!(ran.stderr.contains(&said), "{task}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("in task {task} (src/")), "{task}: {}", ran.stderr);
        assert!(!ran.stderr.contains('\u{1b}'), "{task}: {:?}", ran.stderr);
    }
}

#[test]
fn the_last_window_names_who_is_late() {
    let server = serving(DemoRelay::new([sends(&[denied(), marker()]).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let args = ["--debug", "--flush-interval", "1h", "--shutdown-timeout", "500ms"];
    let child = following(dir.path(), &server.address, &args);
    child.says(MARKER);
    // Another cpg that holds the directory.
    let held = std::fs::File::open(dir.path().join("policies")).unwrap();
    held.lock().unwrap();
    let start = std::time::Instant::now();
    child.signal("-TERM");
    let ran = child.end().code(2);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    ran.says("NOT DONE: the last window was not on disk in time: after 500ms cpg was still writing the policies of shop/app=web to");
}

#[test]
fn no_flow_and_an_empty_script_are_done() {
    let server = serving(DemoRelay::new([Script::default().then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let args = ["generate", "--server", &server.address, FAIL, "--duration", "500ms"];
    run(dir.path(), &args).code(0);
}
