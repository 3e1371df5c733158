//! DNS names in rules: what comes of the traffic of every kind of resolver, against the golden files in
//! `tests/golden/fqdn/` (`UPDATE_GOLDEN=1` writes them anew), and that order and windows make no difference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::live::{sends, serving, until};
use crate::support::{
    self, Line, Ran, capture, check_skipped, denied, identity, pod, replayed_with, rules, run, skipped, tree,
    write,
};
use crate::testbed::{MISSING, Testbed, program};
use cpg::demo::{DemoRelay, Script, Step, from_json};

type Files = BTreeMap<PathBuf, String>;

/// A query of shop/web that the DNS proxy passed on.
fn query(name: &str, to: &Value, port: u16) -> Line {
    denied()
        .set("/verdict", json!("FORWARDED"))
        .set("/drop_reason", Value::Null)
        .set("/drop_reason_desc", Value::Null)
        .set("/Type", json!("L7"))
        .set("/event_type", json!({"type": 129}))
        .set("/is_reply", json!(false))
        .set("/l7", json!({"type": "REQUEST", "dns": {"query": format!("{name}."), "qtypes": ["A"]}}))
        .l4(json!({"UDP": {"source_port": 40000, "destination_port": port}}))
        .to(to.clone())
}

/// A query that it refused.
fn refused(name: &str, to: &Value) -> Line {
    query(name, to, 53).set("/verdict", json!("DROPPED"))
}

/// A denied connection to an address that shop/web had looked up.
fn named(address: &str, names: &[&str], port: u16) -> Line {
    world(address).set("/destination_names", json!(names)).port(port)
}

fn world(address: &str) -> Line {
    denied().to(identity(2, &["reserved:world"])).addresses("10.0.0.1", address)
}

fn kube_dns() -> Value {
    pod("kube-system", "coredns-1", &["k8s:k8s-app=kube-dns"])
}

fn coredns_chart() -> Value {
    pod("dns", "coredns-1", &["k8s:app.kubernetes.io/name=coredns", "k8s:app.kubernetes.io/instance=main"])
}

/// Replays lines, and compares the files with the golden ones of this name.
#[track_caller]
fn golden(name: &str, lines: &[Line], args: &[&str]) -> Ran {
    support::golden(&format!("fqdn/{name}"), lines, args)
}

/// Lookups of a pod with a search list, and the connection that they were for.
fn api(to: &Value, port: u16) -> Vec<Line> {
    let searched = ["api.example.com.shop.svc.cluster.local", "api.example.com.svc.cluster.local"];
    let names = searched.into_iter().chain(["api.example.com.cluster.local", "api.example.com", "db.shop"]);
    let mut lines: Vec<Line> = names.map(|name| query(name, to, port)).collect();
    lines.push(named("192.0.2.7", &["api.example.com"], 443));
    lines
}

#[test]
fn kube_dns_with_a_search_list() {
    let ran = golden("kube-dns", &api(&kube_dns(), 53), &[]);
    ran.says("DNS queries that passed")
        .says("1 created")
        .says("1 policy got rules for lookups: once applied");
}

#[test]
fn coredns_of_a_chart_in_a_namespace_of_its_own_has_to_be_named() {
    let lines = api(&coredns_chart(), 53);
    let resolver = "dns/app.kubernetes.io/name=coredns";
    golden("coredns-chart", &lines, &["--resolver", resolver]);
    let ran = golden("coredns-chart-unnamed", &lines, &[]);
    ran.says("foreign_resolver shop/app=web: looks names up at dns/app.kubernetes.io/instance=main")
        .says("--resolver dns/app.kubernetes.io/instance=main,app.kubernetes.io/name=coredns")
        .says("was not seen to ask the cluster's DNS");
}

#[test]
fn node_local_dns_as_a_pod_on_the_host_and_as_old_agents_see_it() {
    let cache = pod("kube-system", "node-local-dns-1", &["k8s:k8s-app=node-local-dns"]);
    golden("node-local-pod", &api(&cache, 53), &[]);
    golden("node-local-host", &api(&identity(1, &["reserved:host"]), 53), &[]);
    let old = identity(2, &["reserved:world"]);
    let lines: Vec<Line> = api(&old, 53)
        .into_iter()
        .map(|line| {
            let asks = line.0["flow"]["Type"] == "L7";
            if asks { line.addresses("10.0.0.1", "169.254.20.10") } else { line }
        })
        .collect();
    golden("node-local-world", &lines, &[]);
}

#[test]
fn the_resolver_of_openshift_listens_on_5353() {
    let labels = ["k8s:dns.operator.openshift.io/daemonset-dns=default"];
    golden("openshift", &api(&pod("openshift-dns", "dns-default-1", &labels), 5353), &[]);
}

#[test]
fn a_resolver_outside_is_named_and_not_written() {
    let outside =
        |line: Line| line.to(identity(2, &["reserved:world"])).addresses("10.0.0.1", "203.0.113.53");
    let mut lines = api(&kube_dns(), 53);
    lines.push(outside(query("leak.example.org", &json!({}), 53)));
    lines.push(outside(denied().l4(json!({"UDP": {"source_port": 40000, "destination_port": 53}}))));
    golden("foreign", &lines, &[])
        .says("looks names up at 203.0.113.53 port 53, which is not the cluster's DNS (2 flows); --resolver 203.0.113.53")
        .says("asks 203.0.113.53 port 53, which is not the cluster's DNS (1 flow)");
    golden("foreign-meant", &lines, &["--resolver", "203.0.113.53"]);
    let (files, _) = replayed_with(&lines[lines.len() - 1..], &["--fqdn", "off"]);
    assert_eq!(rules(&files), ["shop/app=web egress to 203.0.113.53/32 UDP/53"]);
}

#[test]
fn refused_names_are_listed_and_written_only_on_request() {
    let mut lines = api(&kube_dns(), 53);
    lines.extend([refused("leak.example.org", &kube_dns()), refused("leak.example.org", &kube_dns())]);
    lines.push(refused("new.example.com", &kube_dns()));
    let ran = golden("kube-dns", &lines, &[]);
    ran.says("dns_refused").says("shop/app=web: leak.example.org, 2 times").says("new.example.com, once");
    golden("include-refused", &lines, &["--include-refused"]);
    // A refusal alone is enough, and nothing else is in its file.
    let alone = [refused("new.example.com", &kube_dns())];
    golden("refused-alone", &alone, &["--include-refused"]);
    check_skipped(&alone, "dns_refused");
    let (files, ran) = replayed_with(&[refused("x.example", &coredns_chart())], &["--include-refused"]);
    assert!(files.is_empty());
    ran.says("foreign_resolver");
}

#[test]
fn every_name_of_an_address_gets_a_rule_and_the_evidence_says_so() {
    let names = ["api.example.com", "cdn.example.net"];
    let lines = [query("api.example.com", &kube_dns(), 53), named("192.0.2.7", &names, 8443)];
    golden("several-names", &lines, &[]);
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&lines));
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let said = run(dir.path(), &["explain", "shop/web"]).code(0).stdout;
    assert!(said.contains("192.0.2.7 (api.example.com, cdn.example.net)"), "{said}");
    assert!(said.contains("DNS cdn.example.net"), "{said}");
}

#[test]
fn where_no_resolver_was_seen_the_namespaces_or_the_usual_one_is_taken() {
    let need = named("192.0.2.7", &["api.example.com"], 443);
    golden("guessed", std::slice::from_ref(&need), &[]).says(
        "names the usual resolver, k8s-app=kube-dns,k8s:io.kubernetes.pod.namespace=kube-system port 53",
    );
    let cache = pod("kube-system", "node-local-dns-1", &["k8s:k8s-app=node-local-dns"]);
    let others = query("db.shop", &cache, 53).from(pod("shop", "api", &["k8s:app=api"]));
    golden("guessed-of-namespace", &[need.clone(), others], &[])
        .says("names the resolver of its namespace, k8s-app=node-local-dns");
    golden("guessed-meant", &[need], &["--resolver", "host:53"]);
}

#[test]
fn dropped_dns_traffic_tells_the_resolver_too() {
    let udp = denied().to(kube_dns()).l4(json!({"UDP": {"source_port": 40000, "destination_port": 53}}));
    golden("dropped-dns", &[udp, named("192.0.2.7", &["api.example.com"], 443)], &[]);
}

#[test]
fn modes() {
    let lines = [named("192.0.2.7", &["api.example.com"], 443), world("192.0.2.8").port(443)];
    let written = |mode: &str| {
        let (files, ran) = replayed_with(&lines, &["--fqdn", mode]);
        let plain = rules(&files).into_iter().filter(|rule| !rule.contains(" DNS ")).collect::<Vec<_>>();
        (plain, ran)
    };
    let name = "shop/app=web egress to fqdn:api.example.com TCP/443";
    let address = |last| format!("shop/app=web egress to 192.0.2.{last}/32 TCP/443");
    assert_eq!(written("auto").0, [address(8), name.to_owned()]);
    assert_eq!(written("off").0, [address(7), address(8)]);
    let (only, ran) = written("only");
    assert_eq!(only, [name]);
    ran.says(
        "unnamed_world shop/app=web: egress to 192.0.2.8 TCP/443 (1 flow); --fqdn auto writes 192.0.2.8/32",
    );
}

#[test]
fn neither_order_nor_windows_nor_threads_change_a_byte() {
    let mut lines = api(&kube_dns(), 53);
    let cache = pod("kube-system", "node-local-dns-1", &["k8s:k8s-app=node-local-dns"]);
    lines.push(query("late.example.com", &cache, 53));
    lines.push(named("192.0.2.9", &["late.example.com", "api.example.com"], 80));
    lines.push(query("last.example.com", &kube_dns(), 53));
    for app in ["api", "job"] {
        let of = pod("shop", app, &[&format!("k8s:app={app}")]);
        lines.push(named("192.0.2.7", &["api.example.com"], 443).from(of.clone()));
        lines.push(query("db.shop", &kube_dns(), 53).from(of));
    }
    // One that was never seen to ask.
    lines.push(named("192.0.2.7", &["api.example.com"], 443).from(pod("pay", "bill", &["k8s:app=bill"])));
    let whole = replayed_with(&lines, &["--threads", "1"]).0;
    assert_eq!(whole.len(), 4);
    let replay = |parts: &[&[Line]], args: &[&str]| -> Files {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..parts.len()).map(|i| format!("{i}.jsonl")).collect();
        for (name, part) in names.iter().zip(parts) {
            write(&dir.path().join(name), capture(part));
        }
        let files: Vec<&str> = names.iter().map(String::as_str).collect();
        run(dir.path(), &[&["replay"], files.as_slice(), args].concat()).code(0);
        tree(&dir.path().join("policies"))
    };
    let backwards: Vec<Line> = lines.iter().rev().cloned().collect();
    assert_eq!(replay(&[&backwards], &["--threads", "2"]), whole);
    for at in 1..lines.len() {
        let (first, second) = lines.split_at(at);
        assert_eq!(replay(&[second, first], &["--flush-interval", "1ms", "--threads", "2"]), whole, "{at}");
    }
    let (_, ran) = replayed_with(&lines, &[]);
    ran.says("4 created");
}

#[test]
fn names_of_later_runs_go_into_the_same_rules_and_a_run_without_news_touches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let replay = |lines: &[Line]| {
        write(&dir.path().join("c.jsonl"), capture(lines));
        run(dir.path(), &["replay", "c.jsonl"]).code(0)
    };
    replay(&api(&kube_dns(), 53));
    let before = tree(&dir.path().join("policies"));
    replay(&api(&kube_dns(), 53)).says("0 rules added");
    assert_eq!(tree(&dir.path().join("policies")), before);
    // No need any more, only lookups: the name is let through and must stay so.
    replay(&[query("new.example.com", &kube_dns(), 53)]).says("0 created, 1 updated").says("2 rules added");
    // A need by another name, without a lookup: its resolver stands in the file.
    replay(&[named("192.0.2.9", &["b.example.com"], 443)]).says("3 rules added");
    let files = tree(&dir.path().join("policies"));
    let text = &files[Path::new("shop/web.yaml")];
    for name in ["new.example.com", "b.example.com", "db.shop"] {
        assert!(text.contains(&format!("- matchName: {name}")), "{text}");
    }
    assert_eq!(text.matches("k8s-app: kube-dns").count(), 1, "one rule:\n{text}");
    rules(&files);
    // Somebody without rules by name gets none for lookups.
    let other = query("x.example.com", &kube_dns(), 53).from(pod("shop", "api", &["k8s:app=api"]));
    replay(&[other]).says("0 created, 0 updated");
}

#[test]
fn what_people_allow_for_lookups_is_never_narrowed() {
    let lines = api(&kube_dns(), 53);
    let with = |egress: &str| {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("c.jsonl"), capture(&lines));
        let theirs = format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: all, namespace: shop}}\n\
             spec:\n  endpointSelector: {{}}\n  egress:\n{egress}"
        );
        write(&dir.path().join("policies/shop/all.yaml"), &theirs);
        let ran = run(dir.path(), &["replay", "c.jsonl"]).code(0);
        let files = tree(&dir.path().join("policies"));
        assert_eq!(files[Path::new("shop/all.yaml")], theirs);
        let own = rules(&[(PathBuf::from("web"), files[Path::new("shop/web.yaml")].clone())].into());
        (own.iter().filter(|rule| rule.contains(" DNS ")).count(), own.len(), ran)
    };
    let kube = "toEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': kube-system}}]";
    let ports = |port: &str, rules: &str| format!("  - {kube}\n    toPorts: [{{ports: [{port}]{rules}}}]\n");
    // Wider than the port: a rule for names beside it would refuse every other name.
    for wide in [
        format!("  - {kube}\n"),
        "  - toEntities: [cluster]\n".to_owned(),
        ports("{port: '0'}", ""),
        ports("{port: '50', endPort: 60, protocol: UDP}", ""),
    ] {
        let (dns, all, ran) = with(&wide);
        let tcp_too = if wide.contains("endPort") { 5 } else { 0 };
        assert_eq!((dns, all), (tcp_too, 1 + tcp_too), "{wide}\n{}", ran.stderr);
        ran.says("narrows_resolver shop/app=web: lookups of 5 names").says("would take the others away");
    }
    // For the port itself and plain: beside it nothing is refused, and the names are learnt.
    let (dns, _, _) = with(&ports("{port: '53', protocol: ANY}", ""));
    assert_eq!(dns, 10);
    // Every name passes already.
    let (dns, all, _) = with(&ports("{port: '53', protocol: ANY}", ", rules: {dns: [{matchPattern: '*'}]}"));
    assert_eq!((dns, all), (0, 1));
    // Some names pass.
    let (dns, _, _) = with(&ports("{port: '53'}", ", rules: {dns: [{matchPattern: '**.cluster.local'}]}"));
    assert_eq!(dns, 4);
}

#[test]
fn mistakes_in_resolvers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["replay", "x", "--resolver", "world", "--resolver", "kube-system"])
        .code(2)
        .says("--resolver \"world\": a resolver is")
        .says("--resolver \"kube-system\": a resolver is");
    run(dir.path(), &["replay", "x", "--resolver", "8.8.8.8", "--fqdn", "off"]).code(2).says("--fqdn off");
}

#[test]
fn names_grow_over_the_windows_of_a_stream() {
    let own = |(i, line): (usize, Line)| line.set("/uuid", json!(format!("flow-{i}")));
    let lines: Vec<Line> = api(&kube_dns(), 53).into_iter().enumerate().map(own).collect();
    let (first, rest) = lines.split_at(lines.len() - 1);
    let (early, late) = first.split_at(2);
    // The need comes between its lookups. Whatever windows they fall into, the file is the same.
    let pause = || Step::Pause(std::time::Duration::from_millis(300));
    let more = |script: Script, lines: &[Line]| {
        let flows = lines.iter().map(|line| from_json::response(&line.0.to_string()).unwrap());
        flows.fold(script.then(pause()), Script::send)
    };
    let script = more(more(sends(early), rest), late).then(Step::Hang);
    let server = serving(DemoRelay::new([script]));
    let dir = tempfile::tempdir().unwrap();
    let child = server.generate(dir.path(), &[]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fqdn/kube-dns");
    let policies = || -> Files { tree(&dir.path().join("policies")) };
    child.times("updated", 1);
    until("every name is in the file", || {
        policies().values().any(|text| text.matches("matchName").count() == 6)
    });
    child.signal("-TERM");
    child.end().code(0);
    assert_eq!(policies(), tree(&root));
}

#[test]
fn the_real_relay_gives_the_same_files_as_a_capture() {
    let Some(program) = program() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-nodes", "2"]);
    let mut lines = api(&kube_dns(), 53);
    lines.push(refused("leak.example.org", &kube_dns()));
    lines.push(named("192.0.2.7", &["api.example.com", "cdn.example.net"], 8443));
    let other = pod("shop", "api", &["k8s:app=api"]);
    lines.push(query("x.example.com", &identity(1, &["reserved:host"]), 53).from(other.clone()));
    lines.push(named("2001:db8::7", &["x.example.com"], 443).addresses("fd00::1", "2001:db8::7").from(other));
    let dir = tempfile::tempdir().unwrap();
    let text = capture(&lines);
    write(&dir.path().join("c.jsonl"), &text);
    run(dir.path(), &["replay", "c.jsonl", "-o", "replayed"]).code(0);
    let replayed = tree(&dir.path().join("replayed"));
    assert_eq!(rules(&replayed).len(), 18);
    let running = testbed.generate(dir.path(), &["-o", "live"]);
    let all: Vec<&str> = text.lines().collect();
    for (node, part) in (1..=2).zip(all.chunks(all.len().div_ceil(2))) {
        testbed.call("POST", &format!("/node/node-{node}/inject?now=1"), &part.join("\n"));
    }
    until("the files are the same", || tree(&dir.path().join("live")) == replayed);
    running.signal("-TERM");
    running.end().code(0).says("shop/app=web: leak.example.org, once");
    assert_eq!(tree(&dir.path().join("live")), replayed);
}

/// Cilium's own code for names: each item matches the name that was seen, however it is asked for, and
/// nothing that is near to it.
#[test]
fn every_item_means_exactly_the_names_that_were_seen() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    let Some(program) = program() else { return skipped(MISSING) };
    let names =
        ["api.example.com", "_dmarc.my-shop.example", "x", "db.shop", "xn--bcher-kva.example", "a.b.c.d.e"];
    let mut lines: Vec<Line> = names.iter().map(|name| query(name, &kube_dns(), 53)).collect();
    lines.push(named("192.0.2.7", &names, 443));
    let (files, _) = replayed_with(&lines, &[]);
    assert_eq!(rules(&files).len(), 3 * names.len());
    let policy = cpg::policy::Policy::from_canonical(files.values().next().unwrap()).unwrap();
    let items = policy.rules().filter_map(|rule| match (rule.peer, rule.l7) {
        (cpg::policy::Peer::Fqdn(name), _) => Some((name, "fqdn")),
        (_, Some(cpg::policy::L7Match::Dns(name))) => Some((name, "dns")),
        _ => None,
    });
    let mut asked = Vec::new();
    for (item, of) in items {
        let item = item.as_str();
        let near = [
            format!("x{item}"),
            format!("x.{item}"),
            format!("{item}x"),
            format!("{item}.x"),
            item.replacen('.', "x", 1) + if item.contains('.') { "" } else { "y" },
            item.replacen('.', "..", 1) + if item.contains('.') { "" } else { "." } + "z",
        ];
        let others = names.iter().map(|name| (*name).to_owned()).filter(|name| name != item);
        let same = [item.to_owned(), item.to_ascii_uppercase(), format!("{item}.")];
        let wanted =
            same.into_iter().map(|q| (q, true)).chain(near.into_iter().chain(others).map(|q| (q, false)));
        for (query, expected) in wanted {
            asked.push((json!({"name": item, "query": query, "of": of}), expected));
        }
    }
    let mut child = Command::new(program)
        .arg("dns-match")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input: String = asked.iter().map(|(question, _)| format!("{question}\n")).collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // A program without this command ends before it has read all.
    let _ = writer.join().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    if !output.status.success() {
        return skipped("the testbed is older than dns-match: make test builds it");
    }
    let answers: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), asked.len());
    for (answer, (question, expected)) in answers.iter().zip(&asked) {
        assert_eq!(*answer, json!(expected), "{question}");
    }
    println!("{} questions about {} items", asked.len(), 3 * names.len());
}
