//! Cluster dedup against an API server that lists, watches, refuses, forgets and hangs; the real one is asked
//! in `roles`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cpg::demo::{DemoRelay, Step};
use serde_json::{Value, json};

use crate::fake_api::{Answer, FakeApi, KINDS, State};
use crate::kube::alone;
use crate::live::{Running, Serving, marker, rules_or_none, sends, serving, until};
use crate::support::{Line, Ran, capture, denied, finished, rules, tree, write};

const TO_80: &str = "shop/app=web egress to app=api TCP/80";
const TO_81: &str = "shop/app=web egress to app=api TCP/81";
const WIDE: &str = "CiliumNetworkPolicy shop/wide: spec.egress[0] in the cluster";

fn cnp(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
           "metadata": {"name": name, "namespace": "shop", "managedFields": [{"manager": "x"}]},
           "spec": spec, "status": {"conditions": [{"type": "Valid", "status": "True"}]}})
}

/// From shop/web to shop/api at this port.
fn to_api(port: u16) -> Value {
    json!({"endpointSelector": {"matchLabels": {"app": "web"}},
           "egress": [{"toEndpoints": [{"matchLabels": {"app": "api"}}],
                       "toPorts": [{"ports": [{"port": port.to_string(), "protocol": "TCP"}]}]}]})
}

fn wide() -> Value {
    cnp("wide", json!({"endpointSelector": {}, "egress": [{"toEntities": ["cluster"]}]}))
}

/// A directory with a capture of these flows, and an API server with these policies.
struct Case {
    dir: tempfile::TempDir,
    api: FakeApi,
}

impl Case {
    fn new(objects: Vec<Value>, lines: &[Line]) -> Self {
        let api = FakeApi::new(State::with_policies("127.0.0.1:1", objects));
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("c.jsonl"), capture(lines));
        api.kubeconfig(dir.path(), "{}");
        Self { dir, api }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = alone(self.dir.path());
        command.args(["replay", "c.jsonl", "--kubeconfig", "kubeconfig"]).args(args);
        command
    }

    #[track_caller]
    fn replay(&self, args: &[&str]) -> Ran {
        finished(self.command(args).output().unwrap())
    }

    fn rules(&self) -> Vec<String> {
        rules(&tree(&self.dir.path().join("policies")))
    }
}

#[test]
fn what_the_cluster_allows_is_counted_by_name_and_not_written() {
    let case =
        Case::new(vec![cnp("narrow", to_api(80))], &[denied(), denied().drop_event(), denied().port(81)]);
    let says = "2 flows already allowed by CiliumNetworkPolicy shop/narrow: spec.egress[0] in the cluster, not in this directory";
    case.replay(&[]).code(0).says("already_allowed_in_cluster").says(says);
    assert_eq!(case.rules(), [TO_81]);
    // The directory is this cluster's from now on.
    let stamp = std::fs::read_to_string(case.dir.path().join("policies/.cpg/cluster")).unwrap();
    assert!(stamp.contains("kube-system-uid: u-1"), "{stamp}");
    let json = case.replay(&["--json"]).code(0);
    assert!(json.stderr.contains(r#""already_allowed_in_cluster":{"CiliumNetworkPolicy shop/narrow"#));
    case.api.change(|s| s.uid = "u-2");
    case.replay(&[])
        .code(2)
        .says("kube-system-uid u-1, and this is kube-system-uid u-2")
        .says("--accept-cluster");
    case.replay(&["--accept-cluster"]).code(0);
    // Without, the cluster is not asked for anything.
    case.api.asked.lock().unwrap().clear();
    case.replay(&["--cluster-dedup=false"]).code(0);
    let own = ["replay", "c.jsonl"];
    finished(alone(case.dir.path()).args(own).env("KUBECONFIG", "kubeconfig").output().unwrap()).code(0);
    write(&case.dir.path().join("config.yaml"), "cluster-dedup: false\n");
    finished(case.command(&[]).env("CPG_CONFIG", "config.yaml").output().unwrap()).code(0);
    assert!(case.api.asked.lock().unwrap().is_empty());
    assert_eq!(case.rules(), [TO_80, TO_81]);
    // Only when it is asked for.
    let mut command = alone(case.dir.path());
    command.args(own).args(["--cluster-dedup", "true", "-o", "other"]).env("KUBECONFIG", "kubeconfig");
    finished(command.output().unwrap()).code(0).says("shop/narrow");
}

#[test]
fn a_drop_after_a_policy_was_there_is_transient() {
    let late = denied().set("/time", json!("2126-03-01T10:00:00Z"));
    let case = Case::new(vec![wide()], &[late]);
    case.replay(&[])
        .code(0)
        .says("transient_despite_policy")
        .says(&format!("1 flow dropped although allowed by {WIDE}"));
    assert_eq!(case.rules(), [] as [&str; 0]);
}

#[test]
fn a_deny_rule_of_the_cluster_is_named() {
    let deny =
        json!({"endpointSelector": {}, "egressDeny": [{"toEndpoints": [{"matchLabels": {"app": "api"}}]}]});
    let case = Case::new(vec![cnp("no", deny), wide()], &[denied()]);
    case.replay(&[])
        .code(0)
        .says("explicit_deny")
        .says("1 flow denied by CiliumNetworkPolicy shop/no: spec.egressDeny[0] in the cluster");
    assert_eq!(case.rules(), [] as [&str; 0]);
}

#[test]
fn what_the_directory_has_too_counts_as_the_directory_has_it() {
    let lines = [denied(), denied().port(81)];
    let case = Case::new(vec![], &lines[..1]);
    case.replay(&[]).code(0);
    assert_eq!(case.rules(), [TO_80]);
    let file = case.dir.path().join("policies/shop/web.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    // cpg's own policy, applied by GitOps: nothing is written, nothing is lost.
    let applied = || cnp("cpg-web", to_api(80));
    case.api.change(|s| s.policies.objects = vec![applied()]);
    let ran = case
        .replay(&[])
        .code(0)
        .says("1 flow already allowed by CiliumNetworkPolicy shop/cpg-web: spec.egress[0] in the cluster\n");
    assert!(!ran.stderr.contains("not in this directory"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    // The cluster's version allows more than the directory's, which is going to take its place.
    write(&case.dir.path().join("c.jsonl"), capture(&lines));
    case.api.change(|s| {
        s.policies.objects =
            vec![cnp("cpg-web", json!({"endpointSelector": {}, "egress": [{"toEntities": ["all"]}]}))]
    });
    case.replay(&[]).code(0);
    assert_eq!(case.rules(), [TO_80, TO_81]);
    // The same with a file that people wrote.
    std::fs::remove_file(&file).unwrap();
    let mine = cnp("wide", to_api(80));
    write(&case.dir.path().join("policies/shop/mine.yaml"), mine.to_string());
    case.api.change(|s| s.policies.objects = vec![wide()]);
    let ran = case.replay(&[]).code(0).says("shop/wide: spec.egress[0] in the cluster\n");
    assert!(!ran.stderr.contains("not in this directory"), "{}", ran.stderr);
    let mut files = tree(&case.dir.path().join("policies"));
    files.retain(|path, _| path.ends_with("mine.yaml"));
    assert_eq!(files.len(), 1);
    assert!(tree(&case.dir.path().join("policies")).values().any(|text| text.contains("\"81\"")));
}

#[test]
fn lists_come_in_pages_and_only_of_the_namespaces_asked_for() {
    let mut objects: Vec<Value> = (0..4).map(|i| cnp(&format!("p{i}"), to_api(9000 + i))).collect();
    objects.push(cnp("last", to_api(80)));
    let case = Case::new(objects, &[denied()]);
    case.api.change(|s| s.policies.page = 2);
    case.replay(&["-n", "shop", "-n", "pay"]).code(0).says("shop/last");
    let uris = case.api.uris.lock().unwrap().clone();
    let path = "/apis/cilium.io/v2/namespaces/shop/ciliumnetworkpolicies?";
    let pages: Vec<&String> =
        uris.iter().filter(|uri| uri.starts_with(path) && !uri.contains("watch")).collect();
    assert_eq!(pages.len(), 3, "{uris:?}");
    assert!(
        pages.iter().all(|uri| uri.contains("limit=250")) && pages[2].contains("continue=4"),
        "{pages:?}"
    );
    for wanted in ["/v2/ciliumclusterwidenetworkpolicies?", "/v1/namespaces/pay/networkpolicies?"] {
        assert!(uris.iter().any(|uri| uri.contains(wanted)), "{uris:?}");
    }
    assert!(!uris.iter().any(|uri| uri.starts_with("/apis/cilium.io/v2/ciliumnetworkpolicies")), "{uris:?}");
    // Pages that are no longer there: the list begins again.
    case.api.change(|s| s.policies.instead = vec![(KINDS[1], "continue", Answer::Fail(410, "expired"), 1)]);
    case.replay(&["--cluster-dedup=true"]).code(0).says("shop/last");
}

#[test]
fn every_verb_and_resource_that_is_refused_is_named() {
    for (at, kind) in KINDS.into_iter().enumerate() {
        for verb in ["list", "watch"] {
            let case = Case::new(vec![wide()], &[denied()]);
            let no = Answer::Fail(403, "User \"joe\" cannot do this");
            case.api.change(|s| s.policies.instead = vec![(kind, verb, no, usize::MAX)]);
            case.replay(&["--cluster-dedup=true"])
                .code(2)
                .says(&format!("the API server forbids {verb} on {kind}: User \"joe\" cannot do this"))
                .says("deploy/rbac/cluster-dedup.yaml grants it");
            assert!(case.rules().is_empty());
            // What may be read counts all the same.
            let ran =
                case.replay(&[]).code(0).says(&format!("because you may not {verb} on {kind}: deploy/rbac/"));
            assert_eq!(ran.stderr.contains(WIDE), at != 1, "{kind} {verb}: {}", ran.stderr);
            assert!(!ran.stderr.contains("WARN  the cluster"), "{}", ran.stderr);
        }
    }
}

#[test]
fn a_kind_that_the_cluster_does_not_have_is_left_out() {
    let case = Case::new(vec![wide()], &[denied()]);
    case.api.change(|s| s.policies.kinds.retain(|kind| *kind != KINDS[0]));
    for mode in ["--cluster-dedup=auto", "--cluster-dedup=true"] {
        case.replay(&[mode])
            .code(0)
            .says(WIDE)
            .says("the cluster does not have ciliumclusterwidenetworkpolicies: left out");
    }
}

#[test]
fn an_api_server_that_does_not_answer() {
    for (answer, seen) in [
        (Answer::Hang, "list on networkpolicies"),
        (Answer::Fail(500, "boom"), "500 at list networkpolicies"),
    ] {
        let case = Case::new(vec![wide()], &[denied()]);
        case.api.change(|s| s.policies.instead = vec![(KINDS[2], "list", answer, usize::MAX)]);
        let start = Instant::now();
        case.replay(&["--timeout", "1s", "--cluster-dedup=true"])
            .code(2)
            .says(seen)
            .says("within 1s")
            .says("--cluster-dedup=false");
        assert!(start.elapsed() < Duration::from_secs(3));
        // What came counts; the rest is written, and that is said.
        case.replay(&["--timeout", "1s"]).code(0).says(WIDE).says("did not become known in time").says(seen);
    }
    let mut case = Case::new(vec![wide()], &[denied()]);
    case.api.address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    case.api.kubeconfig(case.dir.path(), "{}");
    case.replay(&["--timeout", "1s", "--cluster-dedup=true"])
        .code(2)
        .says("list on cilium")
        .says("cannot be reached");
    case.replay(&["--timeout", "1s"]).code(0).says("cannot be reached");
    assert_eq!(case.rules(), [TO_80]);
    // Something that was typed and is wrong is no reason to go on without.
    case.replay(&["--context", "none"]).code(2).says("has no context \"none\"");
    case.replay(&["--kubeconfig", "nowhere"]).code(2).says("nowhere does not exist");
    case.replay(&["--cluster-dedup=maybe"]).code(2).says("--cluster-dedup");
}

/// A relay that sends these flows and then nothing.
fn relay(lines: &[Line]) -> Serving {
    serving(DemoRelay::new([sends(lines).then(Step::Hang)]))
}

fn following(dir: &Path, args: &[&str]) -> Running {
    let common = ["generate", "--debug", "--kubeconfig", "kubeconfig", "--flush-interval", "100ms"];
    Running::new(alone(dir).args(common).args(args))
}

#[test]
fn the_first_window_waits_for_the_list_but_not_the_stream() {
    let relay = relay(&[denied(), denied().port(81), marker()]);
    let api = FakeApi::new(State::with_policies(&relay.address, vec![cnp("narrow", to_api(80))]));
    let dir = tempfile::tempdir().unwrap();
    api.kubeconfig(dir.path(), "{}");
    api.change(|s| s.policies.instead = vec![(KINDS[1], "list", Answer::Fail(503, "soon"), 1)]);
    let child = following(dir.path(), &[]);
    child.says("unknown_protocol");
    until("the other need is in a file", || rules_or_none(dir.path()).is_some_and(|r| !r.is_empty()));
    child.signal("-TERM");
    child.end().code(0).says("already_allowed_in_cluster").says("policies=1");
    assert_eq!(rules(&tree(&dir.path().join("policies"))), [TO_81]);
    // Nor after its time.
    std::fs::remove_dir_all(dir.path().join("policies")).unwrap();
    api.change(|s| s.policies.instead = vec![(KINDS[1], "list", Answer::Hang, 1)]);
    let child = following(dir.path(), &["--timeout", "2s"]);
    child.says("unknown_protocol");
    until("both needs are in a file", || rules_or_none(dir.path()).is_some_and(|r| r == [TO_80, TO_81]));
    child.signal("-TERM");
    child.end().code(0).says("did not become known in time");
}

#[test]
fn what_changes_while_it_runs() {
    let flow = |line: Line| cpg::demo::from_json::response(&line.0.to_string()).unwrap();
    let api = FakeApi::new(State::with_policies("127.0.0.1:1", vec![cnp("first", to_api(80))]));
    let dir = tempfile::tempdir().unwrap();
    api.kubeconfig(dir.path(), "{}");
    let (gone, new) = (cnp("first", to_api(80)), cnp("second", to_api(81)));
    // Each round breaks the watch in another way, changes the policies meanwhile, and then sends flows.
    for (round, forgets) in [None, Some(false), Some(true)].into_iter().enumerate() {
        let mut script = sends(&[denied().port(83)]);
        for n in 0..12 {
            // The same flow twice would count once.
            let again = denied().set("/uuid", format!("0b0e6d7a-0000-4000-8000-{n:012}").into());
            script = script.then(Step::Pause(Duration::from_millis(500))).send_all([flow(again)]);
        }
        let script = script.send_all([flow(denied().port(81)), flow(marker())]).then(Step::Hang);
        let relay = serving(DemoRelay::new([script]));
        api.change(|s| {
            *s = State::with_policies(&relay.address, vec![gone.clone()]);
        });
        let out = format!("out{round}");
        let child = following(dir.path(), &["-o", &out]);
        child.says("policies=1");
        api.change(|s| {
            if let Some(in_stream) = forgets {
                s.policies.forgets_in_stream = in_stream;
                s.policies.cut += 1;
                s.policies.forgotten = 1;
            }
            s.policies.delete(&gone);
            s.policies.apply(new.clone());
        });
        let path = dir.path().join(&out);
        until("the need that is no longer allowed is in a file", || {
            rules(&tree(&path)).contains(&TO_80.to_owned())
        });
        child.says("unknown_protocol");
        child.signal("-TERM");
        child.end().code(0).says("shop/second: spec.egress[0] in the cluster, not in this directory");
        assert_eq!(rules(&tree(&path)), [TO_80, "shop/app=web egress to app=api TCP/83"], "{forgets:?}");
    }
}

#[test]
fn an_api_server_that_goes_and_comes_back() {
    let relay = relay(&[denied().port(83), marker()]);
    let api = FakeApi::new(State::with_policies(&relay.address, vec![wide()]));
    let dir = tempfile::tempdir().unwrap();
    api.kubeconfig(dir.path(), "{}");
    let child = following(dir.path(), &[]);
    child.says("policies=1");
    api.change(|s| {
        s.policies.cut += 1;
        let no = |kind, verb| (kind, verb, Answer::Fail(500, "down"), 2);
        s.policies.instead =
            KINDS.into_iter().flat_map(|kind| [no(kind, "watch"), no(kind, "list")]).collect();
    });
    child.says("the cluster's policies cannot be followed since 20");
    child.says("the cluster's policies are followed again after");
    child.signal("-TERM");
    let ran = child.end().code(0).says(WIDE);
    for once in ["cannot be followed since", "followed again after"] {
        assert_eq!(ran.stderr.matches(once).count(), 1, "{}", ran.stderr);
    }
}

#[test]
fn a_relay_by_its_address_and_a_cluster_beside_it() {
    let relay = relay(&[denied(), marker()]);
    let api = FakeApi::new(State::with_policies("127.0.0.1:1", vec![wide()]));
    let dir = tempfile::tempdir().unwrap();
    api.kubeconfig(dir.path(), "{}");
    let at = ["--server", relay.address.as_str()];
    let ends = |args: &[&str], environment: &[(&str, &str)], last: &str| {
        let mut command = alone(dir.path());
        command.args(["generate", "--debug", "--flush-interval", "100ms"]).args(at).args(args);
        let child = Running::new(command.envs(environment.iter().copied()));
        child.says(last);
        child.signal("-TERM");
        child.end().code(0)
    };
    // Nobody named a cluster.
    ends(&[], &[("KUBECONFIG", "kubeconfig")], "created").says("no cluster was named");
    assert!(api.asked.lock().unwrap().is_empty());
    std::fs::remove_dir_all(dir.path().join("policies")).unwrap();
    ends(&[], &[("CPG_KUBECONFIG", "kubeconfig")], "unknown_protocol").says(WIDE);
    ends(&["--cluster-dedup=true"], &[("KUBECONFIG", "kubeconfig")], "unknown_protocol").says(WIDE);
    ends(&["--cluster-dedup=true", "--context", "test"], &[("KUBECONFIG", "kubeconfig")], "unknown_protocol")
        .says(WIDE);
    // In auto a cluster that cannot be asked is a line.
    ends(&[], &[("CPG_CONTEXT", "none"), ("KUBECONFIG", "kubeconfig")], "created")
        .says("do not count: --cluster-dedup: KUBECONFIG kubeconfig has no context");
    assert_eq!(rules(&tree(&dir.path().join("policies"))), [TO_80]);
}

#[test]
fn a_token_that_expires_while_it_runs_is_read_anew() {
    let relay = relay(&[denied(), marker()]);
    let api =
        FakeApi::new(State { token: Some("old"), ..State::with_policies(&relay.address, vec![wide()]) });
    let dir = tempfile::tempdir().unwrap();
    api.kubeconfig(dir.path(), "{token: old}");
    let child = following(dir.path(), &[]);
    child.says("policies=1");
    api.change(|s| {
        s.token = Some("new");
        s.policies.cut += 1;
    });
    child.says("cannot be followed since");
    api.kubeconfig(dir.path(), "{token: new}");
    child.says("are followed again after");
    child.signal("-TERM");
    child.end().code(0).says("401 Unauthorized").says(WIDE);
}

#[test]
fn the_other_end_by_the_policies_of_the_cluster() {
    let closed = json!({"endpointSelector": {"matchLabels": {"app": "api"}}, "ingress": [{}]});
    let case = Case::new(vec![cnp("closed", closed)], &[denied()]);
    let by = "in default deny by CiliumNetworkPolicy shop/closed in the cluster";
    case.replay(&[]).code(0).says("1 rule missing at the other end").says(by);
    assert_eq!(case.rules(), [TO_80]);
    case.replay(&["--both-sides"]).code(0).says("1 rule of the other end written");
    assert_eq!(case.rules(), ["shop/app=api ingress from app=web TCP/80", TO_80]);
}
