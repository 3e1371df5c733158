//! The examples in `deploy/cron/`, each run as it stands.

use std::path::{Path, PathBuf};
use std::process::Command;

use cpg::demo::{DemoRelay, Step};
use serde_json::Value;

use crate::health::{broken, now};
use crate::live::{ONE, Serving, sends, serving};
use crate::support::{Line, Ran, denied, finished, rules, skipped, tree};
use crate::testbed::{MISSING, Testbed, program};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/cron").join(name)
}

fn relay(lines: &[Line]) -> Serving {
    serving(DemoRelay::new([sends(lines).then(Step::Hang)]))
}

/// A clean environment in which `cpg` is found.
fn clean(command: &mut Command, dir: &Path) {
    let built = Path::new(env!("CARGO_BIN_EXE_cpg")).parent().unwrap().display().to_string();
    command
        .env_clear()
        .env("PATH", format!("{built}:/usr/local/bin:/usr/bin:/bin"))
        .env("HOME", dir)
        .current_dir(dir);
}

fn nightly(dir: &Path, server: &str) -> Ran {
    let mut command = Command::new(deploy("cpg-nightly.sh"));
    clean(&mut command, dir);
    finished(
        command
            .env("CPG_SERVER", server)
            .env("CPG_DURATION", "1s")
            .env("CPG_TIMEOUT", "1s")
            .output()
            .unwrap(),
    )
}

#[test]
fn the_shell_example_tells_the_codes_apart() {
    let dir = tempfile::tempdir().unwrap();
    let well = relay(&[now(denied())]);
    let ran = nightly(dir.path(), &well.address).code(0);
    assert_eq!(ran.stdout, "", "cron mails nothing");
    assert_eq!(rules(&tree(&dir.path().join("cpg/policies"))), [ONE]);
    let ran = nightly(dir.path(), &relay(&[now(broken())]).address).code(1);
    assert!(
        ran.stdout.contains("CT_MAP_INSERTION_FAILED") && ran.stdout.contains("up to date"),
        "{}",
        ran.stdout
    );
    assert!(dir.path().join("cpg/cluster-health.json").is_file());
    let ran = nightly(dir.path(), "127.0.0.1:1").code(2);
    assert!(ran.stdout.contains("error: no Hubble Relay at 127.0.0.1:1"), "{}", ran.stdout);
}

#[test]
fn the_shell_example_on_the_real_relay() {
    let Some(program) = program() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-nodes", "1"]);
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(deploy("cpg-nightly.sh"));
    clean(&mut command, dir.path());
    let relay = testbed.named("/relay");
    let running = command.env("CPG_SERVER", relay).env("CPG_DURATION", "8s").spawn().unwrap();
    testbed.call("GET", "/following?n=1&timeout=20", "");
    let lines = crate::support::capture(&[denied(), broken()]);
    testbed.call("POST", "/node/node-1/inject?now=1", &lines);
    let ran = finished(running.wait_with_output().unwrap()).code(1);
    assert_eq!(rules(&tree(&dir.path().join("cpg/policies"))), [ONE], "{}", ran.stderr);
}

/// The lines of one key of a unit.
fn settings<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn the_units_exec_start_is_run_as_it_stands() {
    let unit = std::fs::read_to_string(deploy("cpg.service")).unwrap();
    let line = settings(&unit, "ExecStart")[0];
    for (lines, code) in [(vec![now(denied())], 0), (vec![now(broken())], 1)] {
        let relay = relay(&lines);
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().display().to_string();
        std::fs::create_dir(dir.path().join("cpg")).unwrap();
        let words: Vec<String> = line.split(' ').map(|word| word.replace("%S", &state)).collect();
        let mut command = Command::new(&words[0]);
        clean(&mut command, dir.path());
        // No home, as with DynamicUser.
        command.args(&words[1..]).env_remove("HOME");
        for setting in settings(&unit, "Environment") {
            let (name, value) = setting.split_once('=').unwrap();
            command.env(name, value);
        }
        // As in /etc/cpg/cpg.env, which comes after.
        command.env("CPG_SERVER", &relay.address).env("CPG_DURATION", "1s");
        let ran = finished(command.output().unwrap()).code(code);
        let summary: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(summary["exit_code"], code, "{}", ran.stderr);
        assert!(dir.path().join("cpg/cluster-health.json").is_file());
    }
}

#[test]
fn systemd_takes_the_units() {
    let found = Command::new("systemd-analyze").arg("--version").output();
    if !found.is_ok_and(|o| o.status.success()) {
        return skipped("the units are verified where systemd-analyze is there");
    }
    let dir = tempfile::tempdir().unwrap();
    // Without the program installed, ExecStart cannot be verified by name.
    let unit = std::fs::read_to_string(deploy("cpg.service")).unwrap();
    let program = env!("CARGO_BIN_EXE_cpg");
    crate::support::write(
        &dir.path().join("cpg.service"),
        unit.replace("ExecStart=cpg ", &format!("ExecStart={program} ")),
    );
    std::fs::copy(deploy("cpg.timer"), dir.path().join("cpg.timer")).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "cpg.service", "cpg.timer"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let about_ours: Vec<&str> = said.lines().filter(|line| line.contains("cpg.")).collect();
    assert!(about_ours.is_empty(), "{said}");
    for schedule in settings(&std::fs::read_to_string(deploy("cpg.timer")).unwrap(), "OnCalendar") {
        let output = Command::new("systemd-analyze").args(["calendar", schedule]).output().unwrap();
        assert!(output.status.success(), "{schedule}");
    }
}

#[test]
fn a_real_api_server_takes_the_cron_job() {
    let Some(program) = program().filter(|p| p.with_file_name("testbed-kube").is_file()) else {
        return skipped(MISSING);
    };
    let testbed = Testbed::up(&program, &["-kube", "-nodes", "1"]);
    let text = std::fs::read_to_string(deploy("cronjob.yaml")).unwrap();
    let answer = testbed.call("POST", "/kube/apply?dry_run=1", &text);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let objects = answer["objects"].as_array().unwrap();
    assert_eq!(objects.len(), 2, "{answer}");
    assert!(objects.iter().all(|object| object["ok"] == true), "{answer}");
    // And cpg takes its arguments.
    let args: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.contains("args:"))
        .skip(1)
        .take_while(|line| line.trim_start().starts_with(['-', '#']))
        .filter_map(|line| line.trim_start().strip_prefix("- "))
        .collect();
    assert!(args.len() > 6, "{args:?}");
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpg"));
    clean(&mut command, dir.path());
    let args = args.iter().map(|arg| arg.replace("/var/lib/cpg", "data"));
    let ran =
        finished(command.args(args).args(["--server", "127.0.0.1:1", "--timeout", "1s"]).output().unwrap());
    ran.code(2).says("no Hubble Relay at 127.0.0.1:1");
}
