//! What is broken in the cluster: `cluster-health.json`, the block in the summary, the warnings.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use cpg::demo::{DemoRelay, Step};
use serde_json::{Value, json};

use crate::exit_codes::following;
use crate::live::{sends, serving, until};
use crate::support::{Line, capture, denied, identity, run, write};

/// A full connection-tracking table dropped it.
pub(crate) fn broken() -> Line {
    denied()
        .set("/drop_reason", json!(155))
        .set("/drop_reason_desc", json!("CT_MAP_INSERTION_FAILED"))
        .drop_event()
}

/// After the start of every run that is under way.
pub(crate) fn now(line: Line) -> Line {
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(600);
    line.set("/time", json!(later.to_string()))
}

/// A deny rule decided, and Hubble names it.
fn denied_by_a_rule() -> Line {
    let policy = json!([{"name": "no-api", "namespace": "shop", "kind": "CiliumNetworkPolicy"}]);
    denied()
        .set("/drop_reason", json!(181))
        .set("/drop_reason_desc", json!("POLICY_DENY"))
        .set("/egress_denied_by", policy)
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The one report below the cache directory of a test.
fn in_cache(dir: &Path) -> PathBuf {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir.join(".cache/cpg/evidence")).unwrap() {
        found.push(entry.unwrap().path().join("cluster-health.json"));
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_replay_reports_by_reason_node_workload_and_peer() {
    let spoofed =
        denied().set("/drop_reason_desc", json!("INVALID_SOURCE_IP")).set("/drop_reason", json!(132));
    let no_backend = broken()
        .set("/drop_reason", json!(158))
        .set("/drop_reason_desc", json!("SERVICE_BACKEND_NOT_FOUND"))
        .to(identity(2, &["reserved:world"]));
    let lines = [
        broken(),
        broken().set("/time", json!("2026-03-01T11:00:00Z")),
        spoofed.drop_event(),
        no_backend,
        denied_by_a_rule(),
        denied_by_a_rule().set("/egress_denied_by", Value::Null).drop_event(),
    ];
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&lines));
    let ran = run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let path = in_cache(dir.path());
    let report = read(&path);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!((&report["schema_version"], &report["finished"]), (&json!(1), &json!(true)));
    assert_eq!(report["counts_from"], Value::Null);
    assert!(report["output_dir"].as_str().unwrap().ends_with("/policies"));
    let rows = |key: &str| report[key].as_array().unwrap().clone();
    let row = |reason: &str| -> Value {
        [rows("broken"), rows("refused")].concat().into_iter().find(|row| row["reason"] == reason).unwrap()
    };
    let ct = row("CT_MAP_INSERTION_FAILED");
    assert_eq!((&ct["drops"], &ct["class"]), (&json!(2), &json!("infrastructure")));
    assert_eq!(ct["last"], "2026-03-01T11:00:00Z");
    assert_eq!(
        (&ct["places"][0]["node"], &ct["places"][0]["workload"], &ct["places"][0]["peer"]),
        (&json!("west/n1"), &json!("shop/app=web"), &json!("shop/app=api"))
    );
    for key in ["cause", "remedy", "page"] {
        assert!(ct[key].as_str().unwrap().len() > 20, "{ct}");
    }
    assert_eq!(row("SERVICE_BACKEND_NOT_FOUND")["places"][0]["peer"], "10.0.0.2");
    assert_eq!(row("INVALID_SOURCE_IP")["class"], "security");
    let deny = row("POLICY_DENY");
    assert_eq!(
        (rows("refused").len(), &deny["drops"]),
        (1, &json!(1)),
        "a verdict and its drop are one packet"
    );
    assert_eq!(deny["denied_by"], json!(["CiliumNetworkPolicy shop/no-api"]));
    assert_eq!(report["exceeded"].as_array().unwrap().len(), 2);
    ran.says("broken in the cluster: no policy helps")
        .says("CT_MAP_INSERTION_FAILED (infrastructure): 2 drops")
        .says("2 on west/n1: shop/app=web with shop/app=api")
        .says("refused by configuration: no allow rule helps")
        .says("denied by CiliumNetworkPolicy shop/no-api")
        .says(&format!("report of drops: {}", path.display()));
}

#[test]
fn each_reason_is_warned_of_once_and_the_file_is_there_while_it_runs() {
    let server = serving(DemoRelay::new([sends(&[now(broken()), now(broken()), broken()]).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reports/health.json");
    let child = following(dir.path(), &server.address, &["--health-file", "reports/health.json"]);
    until("the report is on disk", || path.is_file() && read(&path)["broken"][0]["drops"] == 3);
    assert_eq!(read(&path)["finished"], false);
    assert_eq!(read(&path)["broken"][0]["drops_since_start"], 2);
    child.signal("-TERM");
    let ran = child.end().code(0);
    assert_eq!(read(&path)["finished"], true);
    assert_eq!(ran.stderr.matches("drops that no policy helps").count(), 1, "{}", ran.stderr);
    let cached = crate::support::tree(&dir.path().join(".cache"));
    assert!(!cached.keys().any(|path| path.ends_with("cluster-health.json")), "the file has another place");
    ran.says("What helps:").says("1 of them before the start");
}

#[test]
fn a_report_that_cannot_be_kept_fails_the_run_only_where_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[broken()]));
    write(&dir.path().join(".cache"), "in the way");
    run(dir.path(), &["replay", "c.jsonl"]).code(0).says("the report of drops is not on disk");
    write(&dir.path().join("file"), "in the way");
    run(dir.path(), &["replay", "c.jsonl", "--health-file", "file/health.json"])
        .code(2)
        .says("NOT DONE: the report of drops");
    run(dir.path(), &["replay", "c.jsonl", "--health-file", "/dev/null"]).code(2).says("name a file");
}

#[test]
fn thresholds_that_make_no_sense_are_refused_together() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[broken()]));
    let thresholds = "MAP_INSERTION=3,POLICY_DENIED=1,CT_MAP_INSERTION_FAILED=x";
    let ran = run(dir.path(), &["replay", "c.jsonl", "--infra-threshold", thresholds]).code(2);
    assert_eq!(ran.stderr.matches("error: --infra-threshold").count(), 3, "{}", ran.stderr);
    ran.says("did you mean CT_MAP_INSERTION_FAILED").says("class policy").says("not a whole number");
    run(dir.path(), &["replay", "c.jsonl", "--infra-threshold", "CT_MAP_INSERTION_FAILED=1"])
        .code(0)
        .says("only together with --fail-on-infra-drops");
}
