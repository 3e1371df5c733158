//! Evidence: what it says of each rule, that it joins by its laws, and that it never stands in the way of
//! a policy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cpg::aggregate::{Ledger, Room, SAMPLES, Settling, observe};
use cpg::classify::Proof;
use cpg::evidence::{Caps, Evidence, Source, SourceKind};
use cpg::flow::{Direction, DropReason, Endpoint, EventKind, Flow, L4, TcpFlags, Verdict};
use cpg::names::NodeName;
use cpg::pipeline::{Recorder, Writer};
use cpg::store::{EvidenceFiles, Store};
use serde_json::{Value, json};

use crate::support::{Line, Ran, capture, denied, pod, run, tree, write};

const WEB: &str = "policies/shop/web.yaml";

/// A flow of its own connection: the same one when it is asked for twice.
fn nth(n: u16, port: u16) -> Line {
    let time = format!("2026-03-01T10:00:{:02}.5Z", n % 60);
    denied()
        .port(port)
        .set("/l4/TCP/source_port", json!(40_000 + n))
        .set("/uuid", json!(format!("0b0e6d7a-0000-4000-8000-{n:012}")))
        .set("/time", json!(time))
}

fn replay(dir: &Path, name: &str, lines: &[Line], args: &[&str]) -> Ran {
    write(&dir.join(name), capture(lines));
    run(dir, &[&["replay", name, "--evidence-dir", "ev"], args].concat())
}

/// The evidence files below a directory; the report of drops and what was watched stand beside them.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, String> {
    tree(dir)
        .into_iter()
        .filter(|(path, _)| !path.ends_with("cluster-health.json") && !path.ends_with("coverage.json"))
        .collect()
}

/// The one evidence file of a directory, with its text.
fn only(dir: &Path) -> (PathBuf, String) {
    let mut files = files(dir);
    let first = files.pop_first().expect("an evidence file");
    assert!(files.is_empty(), "{files:?}");
    (dir.join(first.0), first.1)
}

/// What the evidence says of each port.
fn by_port(dir: &Path) -> BTreeMap<u64, Value> {
    let value: Value = serde_json::from_str(&only(dir).1).unwrap();
    let rules = value["rules"].as_array().unwrap().iter();
    rules.map(|rule| (rule["port"].as_u64().unwrap(), rule.clone())).collect()
}

fn events(rule: &Value) -> u64 {
    let sessions = rule["sessions"].as_object().unwrap().values();
    sessions.map(|s| s["verdict_events"].as_u64().unwrap() + s["drop_events"].as_u64().unwrap()).sum()
}

#[test]
fn it_says_what_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<Line> = (0..30).map(|n| nth(n, 80)).chain([nth(1, 81)]).collect();
    replay(dir.path(), "c.jsonl", &lines, &[]).code(0);
    let (path, text) = only(&dir.path().join("ev"));
    let name = path.strip_prefix(dir.path()).unwrap().display().to_string();
    assert!(name.starts_with("ev/shop/web-") && name.ends_with(".json"), "{name}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["version"], &value["namespace"]), (&json!(1), &json!("shop")));
    assert_eq!(value["selector"], json!({"app": "web"}));
    let session = value["sessions"].as_object().unwrap().values().next().unwrap();
    assert_eq!((&session["source"], &session["name"]), (&json!("capture"), &json!("c.jsonl")));
    assert_eq!(session["cpg"], json!(env!("CARGO_PKG_VERSION")));
    let rules = by_port(&dir.path().join("ev"));
    let rule = &rules[&80];
    assert_eq!(rule["connections"].as_array().unwrap().len(), 30);
    assert_eq!(rule["samples"].as_array().unwrap().len(), SAMPLES);
    assert_eq!(rule["standing"]["state"], json!("written"));
    assert!(rule["written"]["first"].is_string());
    assert_eq!(rule["nodes"], json!(["west/n1"]));
    assert_eq!(events(rule), 30);
    assert_eq!(events(&rules[&81]), 1);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(mode(&dir.path().join("ev")), 0o700);
    }
}

#[test]
fn the_same_capture_counts_once_in_whatever_form_and_touches_no_file() {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<Line> = (0..20).map(|n| nth(n, 80 + n % 3)).collect();
    replay(dir.path(), "c.jsonl", &lines, &[]).code(0);
    let before = only(&dir.path().join("ev"));
    let modified = || std::fs::metadata(&before.0).unwrap().modified().unwrap();
    let stamp = modified();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(capture(&lines).as_bytes()).unwrap();
    write(&dir.path().join("again.gz"), gz.finish().unwrap());
    replay(dir.path(), "c.jsonl", &lines, &[]).code(0);
    assert_eq!((only(&dir.path().join("ev")), modified()), (before.clone(), stamp));
    // Under another name only the name of the source changes.
    run(dir.path(), &["replay", "again.gz", "--evidence-dir", "ev", "--flush-interval", "1ms"]).code(0);
    let after = only(&dir.path().join("ev")).1;
    assert_eq!(after.replace("again.gz", "c.jsonl"), before.1);
    // Named twice in one call it is warned of: only event counts know the difference.
    run(dir.path(), &["replay", "c.jsonl", "again.gz", "--evidence-dir", "ev"])
        .code(0)
        .says("again.gz has the content of another capture");
    let value: Value = serde_json::from_str(&before.1).unwrap();
    for rule in value["rules"].as_array().unwrap() {
        let twice = &by_port(&dir.path().join("ev"))[&rule["port"].as_u64().unwrap()];
        assert_eq!((&rule["connections"], &rule["samples"]), (&twice["connections"], &twice["samples"]));
        assert_eq!(rule["sessions"].as_object().unwrap().len(), twice["sessions"].as_object().unwrap().len());
    }
}

#[test]
fn halves_tell_what_the_whole_tells() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<Line> = (0..40).map(|n| nth(n, 80 + n % 3)).collect();
    let of = |name: &str, parts: &[&[Line]]| {
        let home = dir.path().join(name);
        std::fs::create_dir(&home).unwrap();
        for (i, part) in parts.iter().enumerate() {
            replay(&home, &format!("{i}.jsonl"), part, &[]).code(0);
        }
        by_port(&home.join("ev"))
    };
    let whole = of("whole", &[&lines]);
    let (first, second) = lines.split_at(17);
    let halves = of("halves", &[first, second]);
    let turned = of("turned", &[second, first]);
    for (port, rule) in &whole {
        for other in [&halves[port], &turned[port]] {
            for key in ["connections", "samples", "nodes", "id", "direction", "endpoints"] {
                assert_eq!(rule[key], other[key], "{key} of {port}");
            }
            assert_eq!(events(rule), events(other));
        }
        assert_eq!(halves[port]["sessions"], turned[port]["sessions"]);
    }
}

#[test]
fn rules_that_people_removed_or_widened_are_known_by_their_meaning() {
    let dir = tempfile::tempdir().unwrap();
    replay(dir.path(), "c.jsonl", &[nth(1, 80), nth(2, 8080), nth(3, 443)], &[]).code(0);
    let file = dir.path().join(WEB);
    let text = std::fs::read_to_string(&file).unwrap();
    let edited = text
        .replace("      - port: \"80\"\n        protocol: TCP\n", "")
        .replace("      - port: \"8080\"\n", "      - port: \"8000\"\n        endPort: 9000\n");
    assert_eq!(edited.lines().count() + 1, text.lines().count());
    write(&file, &edited);
    // What is needed now is allowed by the wider rule: the policy stays, and the evidence grows.
    let ran = replay(dir.path(), "d.jsonl", &[nth(4, 8081)], &[]).code(0);
    ran.says("already allowed by");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), edited);
    let rules = by_port(&dir.path().join("ev"));
    let state = |port: u64| rules[&port]["standing"]["state"].as_str().unwrap().to_owned();
    assert_eq!([80, 443, 8080, 8081].map(state), ["orphan", "written", "covered", "covered"]);
    assert!(rules[&8080]["standing"]["by"].as_str().unwrap().contains("shop/web.yaml"));
    assert_eq!((rules[&8081].get("written"), events(&rules[&8081])), (None, 1));
    let since = rules[&80]["standing"]["since"].clone();
    // The time is the one when it was noticed, not the last one when it was looked at.
    replay(dir.path(), "e.jsonl", &[nth(5, 8082)], &[]).code(0);
    assert_eq!(by_port(&dir.path().join("ev"))[&80]["standing"]["since"], since);
}

#[test]
fn a_rule_that_came_again_is_counted_and_named() {
    let dir = tempfile::tempdir().unwrap();
    replay(dir.path(), "c.jsonl", &[nth(1, 80), nth(2, 81)], &[]).code(0);
    let file = dir.path().join(WEB);
    let text = std::fs::read_to_string(&file).unwrap();
    write(&file, text.replace("      - port: \"81\"\n        protocol: TCP\n", "      # not this one\n"));
    let ran = replay(dir.path(), "d.jsonl", &[nth(3, 81), nth(4, 82)], &["--json"]).code(0);
    let summary: Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["written_again"], &summary["rules_added"]), (&json!(1), &json!(2)));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("# not this one") && text.contains("81"), "{text}");
    write(&file, text.replace("      - port: \"81\"\n", "      - port: \"99\"\n"));
    replay(dir.path(), "e.jsonl", &[nth(5, 81)], &[])
        .code(0)
        .says("1 rule that somebody had removed came again and were written again:")
        .says("    shop/app=web: egress to app=api TCP/81");
}

/// A flow of a connection from web to api.
fn flow(n: u16, port: u16) -> Flow {
    let pod = |name: &str| {
        let labels = [format!("k8s:app={name}"), "k8s:io.kubernetes.pod.namespace=shop".to_owned()];
        Some(Arc::new(Endpoint::new(300, "shop", name, "", labels.iter().map(String::as_str))))
    };
    Flow {
        time: Some(jiff::Timestamp::from_second(1_772_000_000 + i64::from(n)).unwrap()),
        uuid: format!("{n}").into(),
        node: NodeName::lossy("n1"),
        verdict: Verdict::Dropped,
        event: EventKind::PolicyVerdict,
        drop_reason: DropReason::POLICY_DENIED,
        direction: Some(Direction::Egress),
        is_reply: None,
        ip: Some(("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())),
        l4: L4::Tcp {
            source: 30_000 + n,
            destination: port,
            flags: Some(TcpFlags { syn: true, ..TcpFlags::default() }),
        },
        source: pod("web"),
        destination: pod("api"),
        destination_names: [].into(),
        l7: None,
        denied_by: Vec::new(),
        count: 1,
    }
}

fn ledger(flows: &[Flow]) -> Ledger {
    let mut ledger = Ledger::new(1_000);
    for flow in flows {
        assert_eq!(ledger.fold(observe(flow, Direction::Egress).unwrap(), flow, Proof::Verdict), Room::Found);
    }
    ledger
}

fn writer(dir: &Path) -> (Writer, EvidenceFiles) {
    let files = EvidenceFiles::new(dir.join("ev"));
    let source = Source {
        kind: SourceKind::Relay,
        name: "relay:4245".into(),
        cluster: None,
        cpg: "0".into(),
        cilium: None,
    };
    let recorder = Recorder::new(files.clone(), Caps::default(), source, 7, 1_000);
    let store = Store::open(dir.join("policies"), Duration::from_secs(5)).unwrap();
    (Writer::new(store, 1_000).recording(Some(recorder)), files)
}

#[test]
fn the_lines_of_a_hand_stand_through_fifty_windows_and_what_came_again_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = writer(dir.path());
    writer.window(ledger(&[flow(0, 80), flow(1, 81), flow(2, 82)]), Settling::Window);
    let file = dir.path().join(WEB);
    let text = std::fs::read_to_string(&file).unwrap();
    let mine = "  # ours, for the report
  - toEndpoints:
    - matchLabels: {app: db} # by hand
    toPorts:
    - ports:
      - {port: '5432', protocol: TCP}
";
    let edited = format!("# owned by the shop team\n{text}{mine}")
        .replace("      - port: \"81\"\n        protocol: TCP\n", "      # 81 is not wanted\n");
    write(&file, &edited);
    for n in 1..=50 {
        writer.window(ledger(&[flow(100 + n, 80), flow(200 + n, 81)]), Settling::Window);
    }
    writer.window(Ledger::new(10), Settling::Final);
    let after = std::fs::read_to_string(&file).unwrap();
    let mut rest = after.lines();
    for line in edited.lines() {
        assert!(rest.any(|l| l == line), "{line:?} was lost in\n{after}");
    }
    assert_eq!(after.matches("81").count(), 2, "{after}");
    let results = writer.results();
    let again: Vec<String> =
        results.recorded.again.iter().map(|((s, r), n)| format!("{s} {r} {n}")).collect();
    assert_eq!(again, ["shop/app=web egress to app=api TCP/81 1"]);
    assert_eq!((results.recorded.failed, results.recorded.left_out), (0, 0));
    // Every window of the session is in the evidence, also those that added nothing to the policy.
    let rules = by_port(&dir.path().join("ev"));
    assert_eq!([80, 81, 82].map(|port| events(&rules[&port])), [51, 51, 1]);
    assert_eq!(rules[&80]["sessions"].as_object().unwrap().len(), 1);
    assert_eq!(rules[&80]["connections"].as_array().unwrap().len(), 51);
    assert_eq!(rules[&80]["standing"]["state"], json!("written"));
    // Rarely where nothing but counts is new.
    assert!((4..=12).contains(&results.recorded.written), "{}", results.recorded.written);
}

#[test]
fn what_a_kill_between_policy_and_evidence_took_is_only_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<Line> = (0..20).map(|n| nth(n, 80 + n % 3)).collect();
    replay(dir.path(), "c.jsonl", &lines, &[]).code(0);
    let whole = by_port(&dir.path().join("ev"));
    let policies = tree(&dir.path().join("policies"));
    std::fs::remove_dir_all(dir.path().join("ev")).unwrap();
    replay(dir.path(), "c.jsonl", &lines, &[]).code(0);
    assert_eq!(tree(&dir.path().join("policies")), policies);
    for (port, rule) in by_port(&dir.path().join("ev")) {
        for key in ["connections", "samples", "nodes", "sessions"] {
            assert_eq!(rule[key], whole[&port][key]);
        }
    }
    // A live session loses what it had not written, and nothing else.
    let live = tempfile::tempdir().unwrap();
    let (mut first, _) = writer(live.path());
    first.window(ledger(&[flow(0, 80)]), Settling::Window);
    first.window(ledger(&[flow(1, 80)]), Settling::Window);
    drop(first);
    assert_eq!(events(&by_port(&live.path().join("ev"))[&80]), 1);
}

#[test]
fn evidence_that_cannot_be_written_stops_no_policy_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("ev"), "in the way");
    let ran = replay(dir.path(), "c.jsonl", &[nth(1, 80)], &[]).code(0);
    ran.says("1 created").says("the evidence of 1 policy file was not written").says("--no-evidence");
    assert_eq!(tree(&dir.path().join("policies")).len(), 1);

    let live = tempfile::tempdir().unwrap();
    write(&live.path().join("ev"), "in the way");
    let (mut writer, _) = writer(live.path());
    writer.window(ledger(&[flow(0, 80)]), Settling::Window);
    writer.window(ledger(&[flow(1, 80)]), Settling::Window);
    assert_eq!(writer.results().recorded.failed, 1);
    std::fs::remove_file(live.path().join("ev")).unwrap();
    writer.window(ledger(&[flow(2, 80)]), Settling::Window);
    assert_eq!((writer.results().recorded.failed, &writer.results().recorded.error), (0, &None));
    assert_eq!(events(&by_port(&live.path().join("ev"))[&80]), 3);
}

#[test]
fn a_damaged_file_is_set_aside_and_a_newer_one_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    replay(dir.path(), "c.jsonl", &[nth(1, 80)], &[]).code(0);
    let (path, text) = only(&dir.path().join("ev"));
    write(&path, &text[..text.len() / 2]);
    replay(dir.path(), "c.jsonl", &[nth(1, 80)], &[]).code(0).says("damaged evidence");
    assert_eq!(std::fs::read_to_string(&path).unwrap().matches("\"id\"").count(), 1);
    let aside = path.with_extension("json.damaged");
    assert_eq!(std::fs::read_to_string(&aside).unwrap(), text[..text.len() / 2]);
    std::fs::remove_file(aside).unwrap();
    let newer = "{\"version\":2}\n";
    write(&path, newer);
    replay(dir.path(), "c.jsonl", &[nth(1, 80)], &[]).code(0).says("version 2 of the format");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn where_it_is_and_that_it_can_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[nth(1, 80)]));
    let cache = dir.path().join("cache");
    let with_cache = |args: &[&str]| {
        let output = crate::support::cpg(dir.path()).env("XDG_CACHE_HOME", &cache).args(args).output();
        crate::support::finished(output.unwrap()).code(0)
    };
    with_cache(&["replay", "c.jsonl", "--no-evidence", "-o", "none"]);
    assert!(files(&cache).is_empty());
    with_cache(&["replay", "c.jsonl"]);
    let said = with_cache(&["evidence", "dir"]).stdout;
    let directory = PathBuf::from(said.trim());
    let root = std::fs::canonicalize(dir.path()).unwrap().join("policies");
    let hash = xxhash_rust::xxh3::xxh3_64(root.as_os_str().as_encoded_bytes());
    assert_eq!(directory, cache.join("cpg/evidence").join(format!("{hash:016x}")));
    assert_eq!(files(&directory).len(), 1);
    assert!(!tree(&root).keys().any(|path| path.extension().is_some_and(|e| e == "json")));
    run(dir.path(), &["replay", "c.jsonl", "--evidence-dir", "policies/ev"])
        .code(2)
        .says("inside of the output directory");
    run(dir.path(), &["replay", "c.jsonl", "--evidence-samples", "11", "--evidence-sessions", "0"])
        .code(2)
        .says("--evidence-samples: from 0 to 10")
        .says("--evidence-sessions: from 1 to 1000");
    replay(dir.path(), "c.jsonl", &[nth(1, 80)], &["--evidence-samples", "0"]).code(0);
    assert_eq!(by_port(&dir.path().join("ev"))[&80]["samples"], json!([]));
}

#[test]
fn two_directories_join_in_any_order_and_twice() {
    let dir = tempfile::tempdir().unwrap();
    let part = |name: &str, lines: &[Line]| {
        let home = dir.path().join(name);
        std::fs::create_dir(&home).unwrap();
        replay(&home, "c.jsonl", lines, &[]).code(0);
    };
    let web: Vec<Line> = (0..10).map(|n| nth(n, 80)).collect();
    let more: Vec<Line> = (5..15).map(|n| nth(n, 80)).collect();
    let pay = [nth(1, 81), nth(2, 82).from(pod("pay", "bill", &["k8s:app=bill"]))];
    part("a", &web);
    part("b", &more);
    part("c", &pay);
    let merge = |from: &[&str], to: &str| {
        let from: Vec<String> = from.iter().map(|name| format!("{name}/ev")).collect();
        let args: Vec<&str> = from.iter().map(String::as_str).collect();
        run(dir.path(), &[&["evidence", "merge", "-o", to], args.as_slice()].concat()).code(0);
        tree(&dir.path().join(to))
    };
    // `written` and `standing` tell of the clock of each run: the later standing counts.
    let all = merge(&["a", "b", "c"], "abc");
    assert_eq!(all.len(), 2);
    assert_eq!(merge(&["c", "b", "a"], "cba"), all);
    assert_eq!(merge(&["b"], "abc"), all);
    assert_eq!(merge(&["a", "a", "b", "c", "b"], "twice"), all);
    let of = |text: &str| Evidence::parse(text).unwrap();
    let text = all.iter().find(|(path, _)| path.starts_with("shop")).unwrap().1;
    let joined = of(text);
    let (_, entry) = joined.rules.iter().find(|(rule, _)| rule.to_string().ends_with("TCP/80")).unwrap();
    assert_eq!((entry.connections.count(), entry.seen().verdict_events), (15, 20));

    write(&dir.path().join("d/ev/shop/x.json"), "{\"version\":3}");
    run(dir.path(), &["evidence", "merge", "a/ev", "d/ev", "-o", "abc"]).code(2).says("version 3");
    assert_eq!(tree(&dir.path().join("abc")), all);
    run(dir.path(), &["evidence", "merge", "nowhere", "-o", "abc"]).code(2).says("nowhere is no directory");
}

#[test]
fn what_was_watched_stands_beside_it() {
    use crate::live::{MARKER, marker, sends, serving};
    let script = || sends(&[denied(), marker()]).then(cpg::demo::Step::Hang);
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let server = serving(cpg::demo::DemoRelay::new([script()]));
        let child = server.generate(dir.path(), &["--evidence-dir", "ev"]);
        child.says(MARKER);
        child.signal("-TERM");
        child.end().code(0);
    }
    let text = std::fs::read_to_string(dir.path().join("ev/coverage.json")).unwrap();
    let log = cpg::state::read_log(&text).unwrap();
    assert_eq!(log.runs().len(), 2, "{text}");
    // Nothing is known yet of how far back its only node was read: that is a gap, and said.
    assert!(!log.gaps().is_empty(), "{text}");
    let explain = ["explain", "shop/web", "--evidence-dir", "ev"];
    let said = run(dir.path(), &explain).code(0).stdout;
    assert!(
        said.contains("the relay was watched in 2 runs from") && said.contains("of which no flow is known"),
        "{said}"
    );
    let json: Value =
        serde_json::from_str(&run(dir.path(), &[&explain[..], &["--json"]].concat()).code(0).stdout).unwrap();
    assert_eq!(json["policies"][0]["watched"]["runs"].as_array().unwrap().len(), 2);
    // A capture says nothing about what was watched; a damaged file is set aside by the next run.
    write(&dir.path().join("ev/coverage.json"), "{");
    replay(dir.path(), "c.jsonl", &[nth(1, 80)], &[]).code(0);
    assert_eq!(std::fs::read_to_string(dir.path().join("ev/coverage.json")).unwrap(), "{");
    run(dir.path(), &explain).code(2).says("coverage.json");
    let server = serving(cpg::demo::DemoRelay::new([script()]));
    let child = server.generate(dir.path(), &["--evidence-dir", "ev"]);
    child.says(MARKER);
    child.signal("-TERM");
    child.end().code(0).says("coverage.json.damaged");
    run(dir.path(), &explain).code(0);
}
