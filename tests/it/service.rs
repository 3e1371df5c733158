//! A run that is left alone: its log, its status line, new certificates, a directory that goes and comes back.

use std::process::Command;
use std::time::Duration;

use cpg::demo::{DemoRelay, Step};

use crate::exit_codes::following;
use crate::health::{broken, now};
use crate::live::{MARKER, ONE, Running, marker, policies, rules_or_none, sends, serving, until};
use crate::metrics::{get, served};
use crate::support::{Line, denied, finished, pod, replayed_with, run, skipped, write};
use crate::tls::{Ca, Front, NAME};

#[test]
fn certificates_are_read_again_for_each_connection() {
    let (old, new, clients) = (Ca::new("old"), Ca::new("new"), Ca::new("clients"));
    let relay = serving(DemoRelay::new([
        sends(&[denied()]).then(Step::Hang),
        sends(&[denied().port(81)]).then(Step::Hang),
    ]));
    let front = Front::new(&relay, Some(old.signs(NAME).server(Some(&clients))));
    let dir = tempfile::tempdir().unwrap();
    let put = |ca: &Ca, me: &Ca| {
        let pair = me.signs("cpg");
        write(&dir.path().join("ca.crt"), &ca.pem);
        write(&dir.path().join("me.crt"), &pair.cert);
        write(&dir.path().join("me.key"), &pair.key);
    };
    put(&old, &clients);
    let files = [
        "--tls-ca-cert-files",
        "ca.crt",
        "--tls-client-cert-file",
        "me.crt",
        "--tls-client-key-file",
        "me.key",
    ];
    let args = [&["--tls", "--tls-server-name", NAME][..], &files].concat();
    let child = following(dir.path(), &front.address, &args);
    until("the first need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 1));
    // The relay has a certificate of another CA from now on, and wants a client of another one.
    let others = Ca::new("other clients");
    put(&new, &others);
    front.serve_with(new.signs(NAME).server(Some(&others)));
    front.cut();
    until("the second need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 2));
    child.signal("-TERM");
    child.end().code(0).says("connected again after");
}

#[test]
fn a_directory_that_goes_and_comes_back_gets_what_was_learned() {
    let script = sends(&[denied()]).then(Step::Pause(Duration::from_millis(1500))).send_all(
        [denied().port(81), marker()].map(|l| cpg::demo::from_json::response(&l.0.to_string()).unwrap()),
    );
    let server = serving(DemoRelay::new([script.then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let child = following(dir.path(), &server.address, &["--metrics-listen", "127.0.0.1:0", "--debug"]);
    let metrics = served(&child);
    until("the first need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 1));
    let (here, away) = (dir.path().join("policies"), dir.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    write(&here, "in the way");
    child.says(MARKER);
    child.says("is not a directory");
    until("it is not ready", || get(&metrics, "/readyz").0 == 503);
    assert!(!get(&metrics, "/metrics").1.contains("cpg_write_errors_total 0\n"));
    std::fs::remove_file(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    until("both needs are in a file", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 2));
    until("it is ready", || get(&metrics, "/readyz").0 == 200);
    child.signal("-TERM");
    let ran = child.end().code(0).says("can be written again");
    // The directory may go between a policy and its evidence, which tells of it too.
    let told = ran.stderr.matches("; what was learned is kept and tried again").count();
    assert_eq!(told, 1, "told once: {}", ran.stderr);
}

#[test]
fn a_directory_that_stays_away_is_two() {
    let server = serving(DemoRelay::new([sends(&[denied(), marker()]).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let child = following(dir.path(), &server.address, &["--debug", "--flush-interval", "1h"]);
    child.says(MARKER);
    std::fs::remove_dir_all(dir.path().join("policies")).unwrap();
    write(&dir.path().join("policies"), "in the way");
    child.signal("-TERM");
    child.end().code(2).says("NOT DONE").says("is not a directory");
}

#[test]
fn a_file_system_that_stands_still_holds_up_only_the_writer() {
    // A loop device with a file system that is frozen: each write hangs until it is thawed.
    let lines = [denied(), marker()];
    let script = r#"
        dd if=/dev/zero of=image bs=1M count=16 status=none; mkfs.ext4 -q image; mount -o loop image out
        $CPG generate --server "$SERVER" -o out --debug --flush-interval 1h --shutdown-timeout 1s --health-file health.json 2>said &
        pid=$!
        until grep -q unknown_protocol said; do sleep 0.05; done
        fsfreeze -f out; kill -TERM $pid; set +e
        (sleep 4; fsfreeze -u out) & wait $pid; code=$?
        cat said >&2; wait; umount out; exit $code"#;
    let server = serving(DemoRelay::new([sends(&lines).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("out")).unwrap();
    let probe = "dd if=/dev/zero of=probe bs=1M count=4 status=none && mkfs.ext4 -q probe && mkdir p && mount -o loop probe p && fsfreeze -f p && fsfreeze -u p && umount p";
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-e", "-c", script]).current_dir(dir.path());
        command.env("CPG", env!("CARGO_BIN_EXE_cpg")).env("SERVER", &server.address);
        command.output()
    };
    if !unshared(probe).is_ok_and(|o| o.status.success()) {
        eprintln!("skipped: a frozen file system needs root and loop devices");
        return;
    }
    finished(unshared(script).unwrap())
        .code(2)
        .says("the last window was not on disk in time: after 1s cpg was still");
}

/// Runs it on a terminal of its own; gives what was written to it.
fn on_a_terminal(dir: &std::path::Path, args: &[&str], environment: &[(&str, &str)]) -> Option<String> {
    let found = Command::new("script").arg("--version").output();
    if !found.is_ok_and(|o| o.status.success()) {
        skipped("the status line needs a terminal: script of util-linux");
        return None;
    }
    let line = [&[env!("CARGO_BIN_EXE_cpg")], args].concat().join(" ");
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]).current_dir(dir).env("TERM", "xterm");
    command.env("XDG_CACHE_HOME", dir.join(".cache")).envs(environment.iter().copied());
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_status_line_is_for_terminals_only_and_does_not_mix_with_the_log() {
    let server = serving(DemoRelay::new([sends(&[now(denied()), now(broken())]).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let base = [
        "generate",
        "--server",
        &server.address,
        "--flush-interval",
        "2500ms",
        "--duration",
        "4s",
        "--no-preflight",
    ];
    let Some(said) = on_a_terminal(dir.path(), &base, &[]) else { return };
    assert!(said.contains("flows/s, 0 new rules, 1 infra drop"), "{said:?}");
    // A line of the log that came while it stood: erased before, there again below.
    let created = said.split("\r\n").find(|line| line.contains("created")).unwrap();
    assert!(
        created.starts_with("\r\u{1b}[2K") || created.contains("nodes unknown\r\u{1b}[2K"),
        "{created:?}"
    );
    let last = said.rsplit("cpg: 2 flows in").next().unwrap();
    assert!(!last.contains("flows/s"), "the summary stands alone: {last:?}");
    for (args, environment) in
        [(&["--log-format", "json"][..], &[][..]), (&[], &[("TERM", "dumb")]), (&[], &[("TERM", "")])]
    {
        let said =
            on_a_terminal(dir.path(), &[&base[..5], &["--duration", "2s"], args].concat(), environment)
                .unwrap();
        assert!(!said.contains("flows/s,") && !said.contains("\u{1b}[2K"), "{said:?}");
    }
    // And not in a log.
    let ran = run(dir.path(), &["generate", "--server", &server.address, "--duration", "2s"]).code(0);
    assert!(!ran.stderr.contains("flows/s") && !ran.stderr.contains('\u{1b}'), "{}", ran.stderr);
}

#[test]
fn the_log_of_a_flapping_relay_stays_short() {
    // Each stream speaks and ends at once.
    let script = || sends(&[denied()]).then(Step::EndOk);
    let server = serving(DemoRelay::new([script()]));
    let dir = tempfile::tempdir().unwrap();
    let child = following(dir.path(), &server.address, &[]);
    until("several streams", || server.relay.requests().len() >= 4);
    child.signal("-TERM");
    let ran = child.end();
    for line in ["the stream of the relay ended", "connected again after"] {
        assert!(ran.stderr.matches(line).count() <= 2, "{}", ran.stderr);
    }
    assert_eq!(policies(dir.path()), [ONE]);
}

#[test]
fn many_new_files_are_a_few_lines() {
    let lines: Vec<Line> =
        (0..300).map(|i| denied().from(pod("shop", "w", &[&format!("k8s:app=w{i}")]))).collect();
    let (files, ran) = replayed_with(&lines, &[]);
    assert_eq!(files.len(), 300);
    assert_eq!(ran.stderr.matches(" created path=").count(), 60, "{}", ran.stderr);
    let (_, ran) = replayed_with(&lines, &["--debug"]);
    assert_eq!(ran.stderr.matches(" created path=").count(), 300, "with --debug nothing is left out");
}

#[test]
fn the_built_in_bound_ends_a_run_without_a_signal() {
    let server = serving(DemoRelay::new([sends(&[denied()]).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let child: Running =
        following(dir.path(), &server.address, &["--duration", "1s", "--flush-interval", "1h"]);
    child.end().code(0).says("--duration is over");
    assert_eq!(policies(dir.path()), [ONE]);
}
