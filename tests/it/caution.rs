//! What is held back, what is pending, what was a moment's; and one stream for all policies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use cpg::demo::{DemoRelay, Script, Step};
use cpg::policy::Policy;
use serde_json::{Value, json};

use crate::live::{Running, sends, serving, until};
use crate::support::{
    Line, Ran, accepted, capture, check_rules, cpg, denied, finished, golden, identity, pod, replayed_with,
    rules, run, tree, write,
};

fn world(address: &str) -> Line {
    denied().to(identity(2, &["reserved:world"])).addresses("10.0.0.1", address).port(443)
}

fn many(n: std::ops::Range<u8>) -> Vec<Line> {
    n.map(|n| world(&format!("203.0.113.{n}"))).collect()
}

/// Another connection of the same need, so many seconds later.
fn nth(n: u64, second: u64) -> Line {
    let time = json!(format!("2026-03-01T10:00:{second:02}Z"));
    let line = denied().set("/l4/TCP/source_port", json!(40_000 + n)).set("/time", time);
    line.set("/uuid", json!(format!("0b0e6d7a-0000-4000-8000-{n:012}")))
}

fn summary(ran: &Ran) -> Value {
    let line = ran.stderr.lines().rev().find(|line| line.contains("\"summary\"")).expect("a summary");
    serde_json::from_str(line).unwrap()
}

/// Every flow of a run is in one counter.
#[track_caller]
fn adds_up(summary: &Value, flows: u64) {
    let sum =
        |key: &str| -> u64 { summary[key].as_object().unwrap().values().filter_map(Value::as_u64).sum() };
    let all = summary["needs"].as_u64().unwrap() + sum("skipped") + sum("dropped") + sum("not_dropped");
    assert_eq!((all, summary["flows"].as_u64()), (flows, Some(flows)), "{summary:#}");
}

/// The rules of all documents of one text.
#[track_caller]
fn stream_rules(text: &str) -> Vec<String> {
    let policies = Policy::all_from_canonical(text).unwrap_or_else(|| panic!("not canonical:\n{text}"));
    let all = policies
        .iter()
        .flat_map(|p| p.rules().map(|rule| format!("{} {rule}", p.subject)).collect::<Vec<_>>());
    accepted(&BTreeMap::from([(PathBuf::from("stream.yaml"), text.to_owned())]));
    all.collect()
}

#[test]
fn many_addresses_on_one_port_are_held_back_with_a_proposal() {
    let mut lines = many(0..6);
    lines.push(world("203.0.113.1").port(80));
    let (policies, ran) = replayed_with(&lines, &["--json"]);
    assert_eq!(rules(&policies), ["shop/app=web egress to 203.0.113.1/32 TCP/80"]);
    let told = summary(&ran);
    adds_up(&told, 7);
    assert_eq!((&told["needs"], &told["skipped"]["world_limit"]), (&json!(1), &json!(6)));
    let held = &told["held"][0];
    assert_eq!((&held["subject"], &held["flows"]), (&json!("shop/app=web"), &json!(6)));
    let proposal = held["proposal"].as_str().unwrap();
    assert!(proposal.contains("`toCIDRSet` with 203.0.113.0/31, "), "{proposal}");
    assert!(proposal.contains("opens 6 addresses for the 6 seen"), "{proposal}");
    // As many as the limit allows, and without one.
    let (policies, _) = replayed_with(&many(0..5), &[]);
    assert_eq!(rules(&policies).len(), 5);
    let (policies, _) = replayed_with(&many(0..9), &["--world-limit", "0"]);
    assert_eq!(rules(&policies).len(), 9);
    let ingress = many(0..3).into_iter().map(|line| {
        let from = line.0["flow"]["IP"]["destination"].as_str().unwrap().to_owned();
        let line =
            line.ingress().from(identity(2, &["reserved:world"])).to(pod("shop", "web", &["k8s:app=web"]));
        line.addresses(&from, "10.0.0.1")
    });
    let (policies, ran) = replayed_with(&ingress.collect::<Vec<_>>(), &["--world-limit", "2"]);
    assert!(policies.is_empty(), "{policies:?}");
    ran.says("ingress from 3 addresses").says("`fromEntities: [world]` on TCP/443");
}

/// Five addresses of a port, six of another, and one that was seen twice.
#[test]
fn golden_policies() {
    let mut lines = many(1..6);
    lines.extend(many(1..7).into_iter().map(|line| line.port(8443)));
    lines.extend([denied(), denied().set("/l4/TCP/source_port", json!(40_001))]);
    golden("world-limit", &lines, &[]).says("world_limit");
    golden("min-connections", &lines, &["--min-connections", "2"]).says("pending");
}

#[test]
fn what_stands_in_the_file_counts_towards_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let replayed = |lines: &[Line]| {
        write(&dir.path().join("c.jsonl"), capture(lines));
        let ran = run(dir.path(), &["replay", "c.jsonl", "--json"]).code(0);
        (rules(&tree(&dir.path().join("policies"))).len(), summary(&ran)["held"][0]["what"].clone())
    };
    assert_eq!(replayed(&many(0..3)), (3, Value::Null));
    assert_eq!(replayed(&many(3..5)), (5, Value::Null));
    let (written, what) = replayed(&many(5..6));
    assert_eq!(written, 5);
    assert!(
        what.as_str()
            .unwrap()
            .contains("1 address outside of the cluster on TCP/443 (203.0.113.5), beside 5 in its file"),
        "{what}"
    );
    // What is there goes on being seen, and a range of people is a decision.
    assert_eq!(replayed(&many(0..5)), (5, Value::Null));
    let path = dir.path().join("policies/shop/web.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    write(&path, text.replacen("203.0.113.0/32", "203.0.113.0/24", 1));
    write(&dir.path().join("c.jsonl"), capture(&many(0..200)));
    let ran = run(dir.path(), &["replay", "c.jsonl", "--json"]).code(0);
    let told = summary(&ran);
    assert_eq!(
        (&told["skipped"]["already_allowed"], told["held"].as_array().unwrap().len()),
        (&json!(200), 0)
    );
}

#[test]
fn needs_are_pending_until_they_repeat() {
    let lines = [nth(1, 0), nth(2, 5), nth(3, 9), denied().port(81)];
    let check = |args: &[&str], written: &[&str], pending: u64| {
        let (policies, ran) = replayed_with(&lines, &[&["--json"], args].concat());
        assert_eq!(rules(&policies), written, "{args:?}");
        let told = summary(&ran);
        adds_up(&told, 4);
        assert_eq!(told["skipped"]["pending"].as_u64().unwrap_or(0), pending, "{args:?}");
        told["held"].as_array().unwrap().iter().map(|h| h["proposal"].as_str().unwrap().to_owned()).collect()
    };
    let (one, other) = ("shop/app=web egress to app=api TCP/80", "shop/app=web egress to app=api TCP/81");
    let none: Vec<String> = check(&[], &[one, other], 0);
    assert!(none.is_empty());
    let held: Vec<String> = check(&["--min-connections", "3"], &[one], 1);
    assert_eq!(held, ["seen over 1 of 3 connections; first seen 2026-03-01T10:00:00Z"]);
    check(&["--settle", "9s"], &[one], 1);
    let held: Vec<String> = check(&["--settle", "30s"], &[], 4);
    assert_eq!(held[0], "seen again after 9s and not after 30s yet; first seen 2026-03-01T10:00:00Z");
    // However it is cut into windows.
    check(
        &["--min-connections", "3", "--settle", "9s", "--flush-interval", "1ms", "--threads", "2"],
        &[one],
        1,
    );
    // What stands is never pending.
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&lines));
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let ran = run(dir.path(), &["replay", "c.jsonl", "--json", "--min-connections", "9"]).code(0);
    assert_eq!(summary(&ran)["skipped"].as_object().unwrap().len(), 0);
}

/// What is held back for its path is not pending, so it is nowhere on disk.
#[test]
fn a_secret_of_a_pending_request_never_reaches_the_state() {
    let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    let asked = |n: u64, path: &str| {
        nth(n, 0)
            .ingress()
            .set("/verdict", json!("DROPPED"))
            .set("/event_type", json!({"type": 129}))
            .set("/drop_reason", Value::Null)
            .set("/drop_reason_desc", Value::Null)
            .set(
                "/l7",
                json!({"type": "REQUEST", "http": {"method": "GET", "url": format!("http://api{path}")}}),
            )
    };
    let dir = tempfile::tempdir().unwrap();
    let server =
        serving(DemoRelay::new([
            sends(&[asked(1, &format!("/reset/{token}")), asked(2, "/items")]).then(Step::Hang)
        ]));
    let args = ["generate", "--server", &server.address, "--flush-interval", "100ms", "--l7", "--no-history"];
    let more = ["--min-connections", "3", "--state-dir", "state"];
    let child = Running::new(cpg(dir.path()).args([&args[..], &more].concat()));
    let state = dir.path().join("state/pending.json");
    until("the other need is kept", || {
        std::fs::read_to_string(&state).is_ok_and(|text| text.contains("/items"))
    });
    child.signal("-TERM");
    let ran = child.end().code(0);
    let kept = std::fs::read_to_string(&state).unwrap();
    assert!(!kept.contains(token) && !ran.stderr.contains(token), "{kept}\n{}", ran.stderr);
    let cached = tree(&dir.path().join(".cache"));
    assert!(cached.values().all(|text| !text.contains(token)), "{cached:?}");
}

#[test]
fn what_is_pending_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state/pending.json");
    let followed = |lines: &[Line], done: &dyn Fn() -> bool| {
        let script: Script = sends(lines).then(Step::Hang);
        let server = serving(DemoRelay::new([script]));
        let args = ["--min-connections", "3", "--state-dir", "state", "--no-history", "--json"];
        let common = ["generate", "--server", &server.address, "--flush-interval", "100ms"];
        let child = Running::new(cpg(dir.path()).args([&common[..], &args].concat()));
        until("it is done", done);
        child.signal("-TERM");
        summary(&child.end().code(0))
    };
    let saved = || {
        let text = std::fs::read_to_string(&state).unwrap_or_default();
        serde_json::from_str::<Value>(&text).map_or(0, |v| v["needs"].as_array().map_or(0, Vec::len))
    };
    let told = followed(&[nth(1, 0), nth(2, 1)], &|| saved() == 1);
    adds_up(&told, 2);
    assert_eq!(told["skipped"]["pending"], 2);
    assert!(tree(&dir.path().join("policies")).is_empty());
    let told = followed(&[nth(3, 2)], &|| !tree(&dir.path().join("policies")).is_empty() && saved() == 0);
    adds_up(&told, 1);
    assert_eq!((&told["needs"], told["held"].as_array().unwrap().len()), (&json!(1), 0));
    assert_eq!(rules(&tree(&dir.path().join("policies"))), ["shop/app=web egress to app=api TCP/80"]);
    let explained = run(dir.path(), &["explain", "shop/web", "--json"]).code(0).stdout;
    assert!(explained.contains("\"connections\": 3"), "{explained}");
    // A damaged file is set aside, and the run goes on.
    write(&state, "{\"version\":1,");
    let told = followed(&[nth(4, 3).port(81)], &|| saved() == 1);
    assert_eq!(told["skipped"]["pending"], 1);
    assert!(dir.path().join("state/pending.json.damaged").is_file());
}

#[test]
fn transient_denials_of_identities_not_spread_yet_make_no_rule() {
    let known = denied().port(81);
    let check = |line: Line, reason: &str| {
        for lines in [[line.clone(), known.clone()], [known.clone(), line.clone()]] {
            let (policies, ran) = replayed_with(&lines, &[]);
            assert_eq!(rules(&policies), ["shop/app=web egress to app=api TCP/81"]);
            ran.says(reason);
        }
    };
    // The pod api is at 10.0.0.2, as the other flow shows.
    check(denied().to(identity(2, &["reserved:world"])), "identity_race");
    check(denied().to(identity(16_777_220, &["cidr:10.0.0.0/8", "reserved:world-ipv4"])), "identity_race");
    check(denied().to(identity(5, &["reserved:init"])), "identity_race");
    check(denied().to(identity(3, &["reserved:unmanaged"])), "identity_race");
    let mut starting = pod("shop", "api", &[]);
    starting["labels"] = json!(["reserved:init"]);
    starting["identity"] = json!(5);
    check(denied().to(starting), "identity_race");
    // Its labels a moment before.
    let before = denied().set("/time", json!("2026-03-01T09:59:58Z"));
    check(before.to(pod("shop", "api", &["k8s:app=starting"])), "labels_changed");
    // A minute before, it was somebody else; another pod is another pod.
    let long_before = denied().set("/time", json!("2026-03-01T09:58:58Z"));
    check_rules(
        &[long_before.to(pod("shop", "api", &["k8s:app=old"])), known.clone()],
        &["shop/app=web egress to app=api TCP/81", "shop/app=web egress to app=old TCP/80"],
    );
    // A pod that Cilium does not manage is one for good.
    let mut unmanaged = pod("shop", "legacy", &[]);
    unmanaged["labels"] = json!(["reserved:unmanaged"]);
    unmanaged["identity"] = json!(3);
    check_rules(&[denied().to(unmanaged)], &["shop/app=web egress to unmanaged TCP/80"]);
}

fn mixed() -> Vec<Line> {
    let db = || denied().from(pod("pay", "db", &["k8s:app=db"])).addresses("10.0.0.9", "10.0.0.2");
    vec![denied(), db(), denied().port(81), db().port(82), denied().ingress(), world("203.0.113.1")]
}

#[test]
fn one_file_for_all_is_the_same_in_any_order() {
    let replayed = |lines: &[Line], dir: &Path, args: &[&str]| {
        write(&dir.join("c.jsonl"), capture(lines));
        let base = ["replay", "c.jsonl", "--single-file", "all.yaml"];
        run(dir, &[&base, args].concat()).code(0);
        tree(&dir.join("policies"))
    };
    let dir = tempfile::tempdir().unwrap();
    let files = replayed(&mixed(), dir.path(), &[]);
    let [(path, text)] = files.iter().collect::<Vec<_>>()[..] else { panic!("{files:?}") };
    assert_eq!(path, Path::new("all.yaml"));
    assert_eq!(
        stream_rules(text),
        [
            "pay/app=db egress to app=api,k8s:io.kubernetes.pod.namespace=shop TCP/80",
            "pay/app=db egress to app=api,k8s:io.kubernetes.pod.namespace=shop TCP/82",
            "shop/app=api ingress from app=web TCP/80",
            "shop/app=web egress to app=api TCP/80",
            "shop/app=web egress to app=api TCP/81",
            "shop/app=web egress to 203.0.113.1/32 TCP/443",
        ]
    );
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stream/all.yaml");
    assert_eq!(*text, std::fs::read_to_string(&golden).unwrap_or_default(), "\n{text}");
    // Again, one after the other, the other way round, in small windows.
    assert_eq!(replayed(&mixed(), dir.path(), &[]), files);
    let pieces = tempfile::tempdir().unwrap();
    let mut last = BTreeMap::new();
    for line in mixed().into_iter().rev() {
        last = replayed(&[line], pieces.path(), &["--flush-interval", "1ms"]);
    }
    assert_eq!(last, files);
    // A dry run over it has nothing to change.
    run(dir.path(), &["replay", "c.jsonl", "--single-file", "all.yaml", "--dry-run", "--exit-code"]).code(0);
}

#[test]
fn policies_that_stand_elsewhere_stay_there_and_peoples_documents_too() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let mine = "# ours\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n";
    write(&dir.path().join("policies/all.yml"), mine);
    write(&dir.path().join("c.jsonl"), capture(&mixed()));
    run(dir.path(), &["replay", "c.jsonl", "--single-file", "all.yml"]).code(0);
    let files = tree(&dir.path().join("policies"));
    let names: Vec<_> = files.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(names, ["all.yml", "shop/web.yaml"]);
    assert!(files[Path::new("shop/web.yaml")].contains("\"81\""));
    let added = files[Path::new("all.yml")].strip_prefix(&format!("{mine}---\n")).unwrap();
    assert_eq!(added.matches("kind: CiliumNetworkPolicy").count(), 2, "{added}");
    // Nothing is changed that need not be; what cannot be added to stays.
    run(dir.path(), &["replay", "c.jsonl", "--single-file", "all.yml"]).code(0).says("0 updated");
    write(&dir.path().join("policies/other.yml"), "a: [\n");
    write(&dir.path().join("c.jsonl"), capture(&[denied().ingress().to(pod("new", "n", &["k8s:app=n"]))]));
    run(dir.path(), &["replay", "c.jsonl", "--single-file", "other.yml"]).code(0).says("other.yml");
    assert!(tree(&dir.path().join("policies")).contains_key(Path::new("other.cpg.yaml")));
}

#[test]
fn the_stream_on_standard_output_is_what_the_files_would_be() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&mixed()));
    let output =
        cpg(dir.path()).args(["replay", "c.jsonl", "--stdout"]).stdout(Stdio::piped()).output().unwrap();
    let ran = finished(output).code(0);
    assert!(tree(&dir.path().join("policies")).is_empty() && !dir.path().join(".cache").exists());
    assert_eq!(stream_rules(&ran.stdout).len(), 6);
    run(dir.path(), &["replay", "c.jsonl", "--single-file", "all.yaml"]).code(0);
    assert_eq!(tree(&dir.path().join("policies"))[Path::new("all.yaml")], ran.stdout);
    // Merged with what is there; what need not change is not in it.
    let again = run(dir.path(), &["replay", "c.jsonl", "--stdout"]).code(0);
    assert_eq!(again.stdout, "");
    write(&dir.path().join("c.jsonl"), capture(&[denied().port(99)]));
    let more = run(dir.path(), &["replay", "c.jsonl", "--stdout"]).code(0);
    assert_eq!(stream_rules(&more.stdout).len(), 7);
}

#[test]
fn mistakes_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let args = "replay x --stdout --dry-run --single-file ../a.yaml --min-connections 64 --settle 0s --health-file h --exit-code";
    run(dir.path(), &args.split(' ').collect::<Vec<_>>())
        .code(2)
        .says("--stdout and --dry-run contradict")
        .says("--stdout and --single-file contradict")
        .says("--single-file \"../a.yaml\": name a .yaml")
        .says("--min-connections: from 1 to 63")
        .says("--settle \"0s\": must be more than zero")
        .says("--health-file is not written with --stdout");
    for file in ["all.json", ".hidden.yaml", "/abs.yaml", "a/../b.yaml"] {
        run(dir.path(), &["replay", "x", "--single-file", file]).code(2).says("--single-file");
    }
    let args = ["generate", "--server", "127.0.0.1:1", "--stdout", "--state-dir", "s"];
    run(dir.path(), &args).code(2).says("--state-dir is not written with --stdout");
    assert!(tree(dir.path()).is_empty());
}
