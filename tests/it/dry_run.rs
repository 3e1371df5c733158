//! `--dry-run`: everything but the writing. Nothing on disk changes, and the diff is what a run would do.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use cpg::demo::{DemoRelay, Step, from_json};
use cpg::flow::{Direction, Port, Protocol};
use cpg::names::Namespace;
use cpg::policy::{Allow, Peer, Rule, Selector, Subject};
use cpg::store::{Addition, Store};
use serde_json::{Value, json};

use crate::live::{Running, marker, sends, serving};
use crate::support::{Line, Ran, capture, cpg, denied, finished, pod, run, tree, write};

type Listing = BTreeMap<PathBuf, (SystemTime, u64, Option<Vec<u8>>)>;

/// Everything below a directory, directories and hidden files too: time of change, mode and length, content.
fn listing(root: &Path) -> Listing {
    let mut all = Listing::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let content = metadata.is_file().then(|| std::fs::read(&path).unwrap());
        if metadata.is_dir() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(path, (metadata.modified().unwrap(), metadata.len(), content));
    }
    all
}

/// A dry run with a cache of its own below the directory, after which everything is as it was.
#[track_caller]
fn dry(dir: &Path, args: &[&str]) -> Ran {
    std::fs::create_dir_all(dir.join("cache")).unwrap();
    let before = listing(dir);
    let output = cpg(dir).env("XDG_CACHE_HOME", dir.join("cache")).args(args).arg("--dry-run").output();
    let ran = finished(output.unwrap());
    assert_eq!(listing(dir), before, "{}", ran.stderr);
    ran
}

/// Applies a diff to a copy of the policies, and gives what came of it.
fn patched(dir: &Path, diff: &str) -> BTreeMap<PathBuf, String> {
    let copy = tempfile::tempdir().unwrap();
    for (path, text) in tree(&dir.join("policies")) {
        write(&copy.path().join("policies").join(path), text);
    }
    let mut child = Command::new("git")
        .args(["apply", "-p1", "-"])
        .current_dir(copy.path())
        .env("GIT_CEILING_DIRECTORIES", copy.path().parent().unwrap())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(diff.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{diff}");
    tree(&copy.path().join("policies"))
}

fn lines() -> Vec<Line> {
    vec![denied(), denied().port(81), denied().from(pod("pay", "bill", &["k8s:app=bill"])).port(82)]
}

#[test]
fn a_new_directory_is_not_made_and_the_diff_is_what_a_run_writes() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&lines()));
    let ran = dry(dir.path(), &["replay", "c.jsonl"]).code(0);
    let ran = ran.says("dry run: nothing was written; 2 files would change").says("2 created");
    assert!(ran.stdout.starts_with("--- /dev/null\n+++ b/policies/pay/bill.yaml\n@@"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'));
    let would_be = patched(dir.path(), &ran.stdout);
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    assert_eq!(tree(&dir.path().join("policies")), would_be);
    // And then there is nothing to do.
    let ran = dry(dir.path(), &["replay", "c.jsonl", "--exit-code"]).code(0);
    assert_eq!(ran.stdout, "");
    ran.says("0 files would change");
}

#[test]
fn the_merged_result_is_compared_and_what_people_wrote_is_made_visible() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let file = dir.path().join("policies/shop/web.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    write(&file, format!("# mine\n{text}# \u{202e}evil\tx\n"));
    write(&dir.path().join("d.jsonl"), capture(&lines()));
    let ran = dry(dir.path(), &["replay", "d.jsonl"]).code(0);
    for wanted in [" # \\u{202e}evil\tx\n", "--- a/policies/shop/web.yaml\n", "+      - port: \"81\"\n"] {
        assert!(ran.stdout.contains(wanted), "{wanted:?} is not in\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("-# mine") && !ran.stdout.contains('\u{202e}'), "{}", ran.stdout);
    let ran = dry(dir.path(), &["replay", "d.jsonl", "--no-diff"]).code(0).says("2 files would change");
    assert_eq!(ran.stdout, "");
}

#[test]
fn exit_codes_two_outranks_one_outranks_three() {
    let dir = tempfile::tempdir().unwrap();
    let infra =
        denied().set("/drop_reason", json!(155)).set("/drop_reason_desc", json!("CT_MAP_INSERTION_FAILED"));
    write(&dir.path().join("c.jsonl"), capture(&[denied(), infra]));
    let replay = ["replay", "c.jsonl", "--no-diff"];
    let with = |more: &[&str]| dry(dir.path(), &[&replay, more].concat());
    with(&[]).code(0);
    with(&["--exit-code"]).code(3).says("exit code 3");
    with(&["--exit-code", "--fail-on-infra-drops"]).code(1);
    with(&["--exit-code", "--fail-on-infra-drops", "missing.jsonl"]).code(2);
    let ran = with(&["--exit-code", "--json"]).code(3);
    let summary: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&summary["dry_run"], &summary["would_change"], &summary["exit_code"]),
        (&json!(true), &json!(1), &json!(3))
    );
    write(&dir.path().join("file"), "x");
    with(&["-o", "file"]).code(2).says("is not a directory");
    run(dir.path(), &["replay", "c.jsonl", "--exit-code", "--no-diff"])
        .code(2)
        .says("--exit-code says something about --dry-run")
        .says("--no-diff says something about --dry-run");
}

#[test]
fn a_live_dry_run_tells_each_window_and_shows_one_diff_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("cache")).unwrap();
    let before = listing(dir.path());
    let mut all = sends(&[denied()]);
    for port in [81, 82] {
        all = all.then(Step::Pause(Duration::from_millis(500))).then(sends_one(&denied().port(port)));
    }
    let all = all.then(sends_one(&marker())).then(Step::Hang);
    let relay = serving(DemoRelay::new([all]));
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut command = cpg(dir.path());
    command.env("XDG_CACHE_HOME", dir.path().join("cache")).args([
        "generate",
        "--debug",
        "--server",
        &relay.address,
        "--flush-interval",
        "100ms",
        "--dry-run",
        "--exit-code",
    ]);
    let running = Running::to(&mut command, out.reopen().unwrap());
    running.says("would be created");
    running.says("would be updated");
    running.says("unknown_protocol");
    running.signal("-TERM");
    running.end().code(3);
    let diff = std::fs::read_to_string(out.path()).unwrap();
    assert_eq!((diff.matches("+++ ").count(), diff.matches("--- /dev/null").count()), (1, 1), "{diff}");
    for port in ["\"80\"", "\"81\"", "\"82\""] {
        assert_eq!(diff.matches(port).count(), 1, "{diff}");
    }
    assert_eq!(listing(dir.path()), before);
}

fn sends_one(line: &Line) -> Step {
    Step::Send(Box::new(from_json::response(&line.0.to_string()).unwrap()))
}

#[test]
fn what_is_edited_during_a_dry_run_is_merged_anew() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("policies");
    let need = |port: u16| Addition {
        subject: Subject {
            namespace: Namespace::parse("shop").unwrap(),
            selector: Selector::new([("app", "web")]).unwrap(),
        },
        rules: vec![Rule::plain(
            Direction::Egress,
            Peer::Endpoints(Selector::new([("app", "api")]).unwrap()),
            Allow::Port(Protocol::Tcp, Port::new(port).unwrap()),
        )],
    };
    let mut real = Store::open(root.clone(), Duration::from_secs(1)).unwrap();
    real.apply(&[need(80)]).unwrap();
    let mut store = Store::dry_run(root.clone()).unwrap();
    store.apply(&[need(81)]).unwrap();
    assert_eq!(store.changes().len(), 1);
    let file = root.join("shop/web.yaml");
    let mine = format!("# mine\n{}", std::fs::read_to_string(&file).unwrap());
    write(&file, &mine);
    store.apply(&[need(82)]).unwrap();
    let [change] = &store.changes()[..] else { panic!("{:?}", store.changes()) };
    assert_eq!(change.old.as_deref(), Some(mine.as_str()));
    for wanted in ["# mine", "\"80\"", "\"81\"", "\"82\""] {
        assert!(change.new.contains(wanted), "{wanted} is not in\n{}", change.new);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), mine);
    // Somebody writes all of it by hand: nothing would change any more.
    write(&file, &change.new);
    store.apply(&[need(82)]).unwrap();
    assert_eq!(store.changes(), []);
}
