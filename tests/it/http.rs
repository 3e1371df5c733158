//! `--l7`: rules for HTTP requests, from the flows of Cilium's proxy.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{
    Line, Ran, capture, cpg, denied, finished, pod, replayed_with, rules, run, tree, write,
};

/// A request from shop/web to shop/api that the proxy refused, at the server.
pub(crate) fn request(method: &str, url: &str) -> Line {
    denied()
        .ingress()
        .set("/drop_reason", Value::Null)
        .set("/drop_reason_desc", Value::Null)
        .set("/l4/TCP/flags", Value::Null)
        .set("/Type", json!("L7"))
        .set("/event_type", json!({"type": 129}))
        .set("/is_reply", json!(false))
        .set(
            "/l7",
            json!({"type": "REQUEST", "http": {"method": method, "url": url, "protocol": "HTTP/1.1",
            "headers": [{"key": "Authorization", "value": "Bearer hunter2"}]}}),
        )
}

fn passed(line: Line) -> Line {
    line.set("/verdict", json!("FORWARDED"))
}

fn at(path: &str) -> Line {
    request("GET", &format!("http://api.shop:80{path}"))
}

/// What each rule says, behind the words that all of them have.
#[track_caller]
fn check(lines: &[Line], args: &[&str], expected: &[&str]) -> Ran {
    let (policies, ran) = replayed_with(lines, &[&["--l7"], args].concat());
    let all = rules(&policies);
    let words = "shop/app=api ingress from app=web TCP/80";
    let said: Vec<&str> =
        all.iter().map(|rule| rule.strip_prefix(words).unwrap_or(rule).trim_start()).collect();
    assert_eq!(said, expected, "{}", ran.stderr);
    ran
}

#[test]
fn method_and_path_and_nothing_else() {
    let lines = [
        at("/v1/items?next=/x&token=hunter2"),
        passed(at("/v1/items#top")),
        passed(request("get", "http://user:hunter2@api.shop/v1/items")),
        request("POST", "/v1/items"),
        passed(at("/a%2Fb/c.d/(e)+f/")).set("/verdict", json!("REDIRECTED")),
        at(""),
    ];
    let expected = [
        r"HTTP GET /(\?.*)?",
        r"HTTP GET /a%2Fb/c\.d/\(e\)\+f/(\?.*)?",
        r"HTTP GET /v1/items(\?.*)?",
        r"HTTP POST /v1/items(\?.*)?",
    ];
    check(&lines, &[], &expected);
    let (policies, ran) = replayed_with(&lines, &["--l7", "--debug"]);
    let all: String = policies.values().map(String::as_str).collect();
    assert!(!all.contains("hunter2") && !ran.stderr.contains("hunter2"), "{all}\n{}", ran.stderr);
}

#[test]
fn both_directions_by_who_decided() {
    let out = at("/x").set("/traffic_direction", json!("EGRESS"));
    check(&[out], &[], &[r"shop/app=web egress to app=api TCP/80 HTTP GET /x(\?.*)?"]);
}

#[test]
fn answers_and_samples_are_no_needs() {
    let kind = |kind: &str| at("/x").set("/l7/type", json!(kind));
    let ran = check(
        &[kind("RESPONSE"), kind("SAMPLE"), passed(kind("RESPONSE")), passed(kind("SAMPLE"))],
        &[],
        &[],
    );
    assert!(ran.stderr.contains("reply"), "{}", ran.stderr);
    let reply = at("/x").set("/is_reply", json!(true));
    check(&[reply], &[], &[]).says("reply");
}

#[test]
fn what_no_rule_can_name() {
    let lines = [
        request("OPTIONS", "*"),
        request("G T", "/x"),
        request("", "/x"),
        request("GET", "/x\u{7f}"),
        request("GET", &format!("/{}", "x".repeat(3_000))),
    ];
    check(&lines, &[], &[]).says("http_path                                               5  ");
}

#[test]
fn without_the_flag_nothing_of_it_is_read() {
    let (policies, ran) = replayed_with(&[at("/x"), passed(at("/y"))], &[]);
    assert!(policies.is_empty());
    ran.says("l7_denied").says("--l7 writes rules");
}

#[test]
fn a_plain_need_of_the_port_takes_requests_in_and_is_never_narrowed() {
    let plain = denied().ingress();
    for lines in [vec![at("/x"), plain.clone()], vec![plain.clone(), at("/x")]] {
        check(&lines, &[], &[""]);
        let dir = tempfile::tempdir().unwrap();
        for (i, line) in lines.iter().enumerate() {
            let name = format!("{i}.jsonl");
            write(&dir.path().join(&name), capture(std::slice::from_ref(line)));
            run(dir.path(), &["replay", &name, "--l7"]).code(0);
        }
        let written = rules(&tree(&dir.path().join("policies")));
        assert_eq!(written, ["shop/app=api ingress from app=web TCP/80"]);
    }
}

#[test]
fn secrets_are_held_and_shown_nowhere() {
    let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";
    let lines = [
        at(&format!("/reset/{jwt}")),
        at("/users/jane%40example.com/orders"),
        at("/users/192.0.2.77/orders"),
        at("/users/0b0e6d7a-0000-4000-8000-000000000001/orders"),
        at("/pay/4111111111111111"),
    ];
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&lines));
    for more in [&[][..], &["--json"], &["--debug"], &["--dry-run"], &["--l7-collapse-paths"]] {
        let out = format!("out{}", more.len() + more.first().map_or(0, |m| m.len()));
        let args = [&["replay", "c.jsonl", "--l7", "-o", &out, "--evidence-dir", "ev"], more].concat();
        let ran = run(dir.path(), &args).code(0);
        let mut all = format!("{}{}", ran.stdout, ran.stderr);
        tree(&dir.path().join(&out)).values().for_each(|text| all.push_str(text));
        tree(&dir.path().join("ev")).values().for_each(|text| all.push_str(text));
        for secret in [jwt, "jane", "192.0.2.77", "4111111111111111"] {
            assert!(!all.contains(secret), "{more:?} shows {secret}:\n{all}");
        }
    }
    let ran = check(&lines, &[], &[r"HTTP GET /users/0b0e6d7a-0000-4000-8000-000000000001/orders(\?.*)?"]);
    ran.says("held back")
        .says("path_secret shop/app=api: ingress from app=web TCP/80 HTTP GET /reset/<jwt> (1 flow); --l7-collapse-paths writes HTTP GET /reset/[^/]+(\\?.*)?")
        .says("/users/<e-mail address>/orders")
        .says("/users/<address>/orders")
        .says("/pay/<card number>");
    check(
        &lines,
        &["--l7-collapse-paths"],
        &[
            r"HTTP GET /pay/[^/]+(\?.*)?",
            r"HTTP GET /reset/[^/]+(\?.*)?",
            r"HTTP GET /users/[^/]+/orders(\?.*)?",
        ],
    )
    .says("3 rules with open places")
    .says("/users/[^/]+/orders(\\?.*)?, of which 3 paths seen");
}

/// Requests to places that vary, and the files that come of them in one run.
fn varying() -> Vec<Line> {
    let mut lines: Vec<Line> = (0..30).map(|i| at(&format!("/users/u{i}x/cart"))).collect();
    lines.extend((0..5).map(|i| at(&format!("/teams/t{i}x/board"))));
    lines.extend((0..30).map(|i| at(&format!("/items/{i}"))));
    lines.extend(["/items/new", "/items/new/form", "/about"].map(at));
    lines
}

#[test]
fn varying_places_are_opened_and_told_in_any_order() {
    let expected = [
        r"HTTP GET /about(\?.*)?",
        r"HTTP GET /items/[^/]+(\?.*)?",
        r"HTTP GET /items/new/form(\?.*)?",
        r"HTTP GET /teams/t0x/board(\?.*)?",
        r"HTTP GET /teams/t1x/board(\?.*)?",
        r"HTTP GET /teams/t2x/board(\?.*)?",
        r"HTTP GET /teams/t3x/board(\?.*)?",
        r"HTTP GET /teams/t4x/board(\?.*)?",
        r"HTTP GET /users/[^/]+/cart(\?.*)?",
    ];
    let ran = check(&varying(), &["--l7-collapse-paths"], &expected);
    ran.says("/items/[^/]+(\\?.*)?, of which 31 paths seen")
        .says("/users/[^/]+/cart(\\?.*)?, of which 30 paths seen");
    let by_kind = check(&varying(), &["--l7-collapse-paths", "--l7-collapse-above", "0"], &{
        let mut all: Vec<String> = (0..30).map(|i| format!(r"HTTP GET /users/u{i}x/cart(\?.*)?")).collect();
        all.sort();
        let users: Vec<&'static str> = all.into_iter().map(|s| &*s.leak()).collect();
        [&expected[..8], &users].concat()
    });
    by_kind.says("1 rule with open places");
    let mut backwards = varying();
    backwards.reverse();
    check(&backwards, &["--l7-collapse-paths"], &expected);
}

#[test]
fn runs_over_one_directory_count_together_and_a_second_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let lines = varying();
    write(&dir.path().join("all.jsonl"), capture(&lines));
    let replay = |files: &[&str], out: &str| -> BTreeMap<PathBuf, String> {
        let args = ["--l7", "--l7-collapse-paths", "--evidence-dir", "ev", "-o", out];
        run(dir.path(), &[&["replay"], files, &args].concat()).code(0);
        tree(&dir.path().join(out))
    };
    let whole = replay(&["all.jsonl"], "whole");
    assert_eq!(replay(&["all.jsonl"], "whole"), whole);
    for (i, half) in lines.chunks(20).enumerate() {
        let name = format!("{i}.jsonl");
        write(&dir.path().join(&name), capture(half));
        replay(&[&name], "parts");
    }
    assert_eq!(tree(&dir.path().join("parts")), whole);
    let said =
        run(dir.path(), &["explain", "shop/api", "-o", "parts", "--evidence-dir", "ev", "--json"]).code(0);
    let value: Value = serde_json::from_str(&said.stdout).unwrap();
    let states: Vec<&str> = value["policies"][0]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["status"].as_str().unwrap())
        .collect();
    assert!(states.contains(&"covered") && !states.contains(&"orphan"), "{states:?}");
}

#[test]
fn what_an_http_rule_allows_is_not_written_again() {
    let policy = |rules: &str| {
        format!(
            "# mine\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: mine, namespace: shop}}\nspec:\n  \
             endpointSelector: {{matchLabels: {{app: api}}}}\n  {rules}\n"
        )
    };
    let check = |policy: &str, expected: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("c.jsonl"), capture(&[at("/v1/a"), at("/v2/b"), passed(at("/v1/c"))]));
        write(&dir.path().join("policies/shop/mine.yaml"), policy);
        let ran = run(dir.path(), &["replay", "c.jsonl", "--l7", "--dry-run"]).code(0);
        let of_line = |line: &'_ str| -> Vec<String> {
            let paths = line.split("path: ").skip(1).map(|rest| rest.split('}').next().unwrap_or(rest));
            paths.filter(|path| path.starts_with('/')).map(|path| path.trim().to_owned()).collect()
        };
        let mut added: Vec<String> = ran
            .stdout
            .lines()
            .filter(|line| line.starts_with('+') && !line.starts_with("+++"))
            .flat_map(of_line)
            .collect();
        added.sort_unstable();
        assert_eq!(added, expected, "{policy}\n{}\n{}", ran.stdout, ran.stderr);
        ran
    };
    let ports = |http: &str| {
        policy(&format!(
            "ingress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {{http: [{http}]}}}}]}}]"
        ))
    };
    check(&ports("{method: GET, path: '/v1/.*'}"), &[r"/v2/b(\?.*)?"]).says("already allowed by");
    check(&ports("{}"), &[]);
    check(
        &ports("{path: '/v1/.*', headers: ['X-Key']}"),
        &[r"/v1/a(\?.*)?", r"/v1/c(\?.*)?", r"/v2/b(\?.*)?"],
    );
    check(&policy("ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]"), &[]);
    // One that only looks allows nothing that is to stay.
    let looks = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/l7-visibility.yaml");
    let looks = std::fs::read_to_string(looks).unwrap().replace("my-namespace", "shop");
    check(&looks, &[r"/v1/a(\?.*)?", r"/v1/c(\?.*)?", r"/v2/b(\?.*)?"]);
}

#[test]
fn without_any_request_it_is_said_what_helps() {
    let (_, ran) = replayed_with(&[denied()], &["--l7", "-n", "shop"]);
    let said = "`cpg bootstrap l7-visibility -n shop`";
    assert_eq!(ran.stderr.matches(said).count(), 2, "in the log and in the summary\n{}", ran.stderr);
    let (_, ran) = replayed_with(&[denied(), at("/x")], &["--l7"]);
    assert!(!ran.stderr.contains("bootstrap"), "{}", ran.stderr);
    let (_, ran) = replayed_with(&[denied()], &["--l7-collapse-paths"]);
    ran.says("only together with --l7");
}

#[test]
fn starter_policies_for_namespaces() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    for name in ["l7-visibility", "default-deny", "dns"] {
        let ran = run(dir.path(), &["bootstrap", name, "-n", "shop", "-n", "on"]).code(0);
        assert_eq!(ran.stdout.matches("\n---\n").count() + 1, 2);
        for (i, text) in ran.stdout.split("\n---\n").enumerate() {
            all.insert(PathBuf::from(format!("{name}-{i}.yaml")), format!("{text}\n"));
        }
        write(&dir.path().join("all.yaml"), &ran.stdout);
        run(dir.path(), &["validate", "all.yaml"]).code(0);
    }
    assert!(all.values().any(|text| text.contains("namespace: \"on\"")));
    crate::support::accepted(&all);
    run(dir.path(), &["bootstrap", "dns", "-n", "Shop", "-n", "a/b"])
        .code(2)
        .says("--namespace \"Shop\" has characters")
        .says("--namespace \"a/b\" has characters");
    run(dir.path(), &["bootstrap", "dns"]).code(2).says("--namespace");
    run(dir.path(), &["bootstrap", "nothing", "-n", "shop"]).code(2).says("possible values");
}

#[test]
fn explain_by_request() {
    let dir = tempfile::tempdir().unwrap();
    let lines =
        [at("/v1/items/1"), at("/v1/items/2"), request("POST", "/v1/items"), denied().ingress().port(81)];
    write(&dir.path().join("c.jsonl"), capture(&lines));
    let args = ["replay", "c.jsonl", "--l7", "--l7-collapse-paths", "--evidence-dir", "ev"];
    run(dir.path(), &args).code(0);
    let explain =
        |args: &[&str]| run(dir.path(), &[&["explain", "shop/api", "--evidence-dir", "ev"], args].concat());
    let found = |args: &[&str]| -> Vec<String> {
        let value: Value =
            serde_json::from_str(&explain(&[&["--json"], args].concat()).code(0).stdout).unwrap();
        let rules = value["policies"][0]["rules"].as_array().unwrap();
        rules.iter().map(|rule| rule["rule"].as_str().unwrap().replace("ingress from app=web ", "")).collect()
    };
    let items = r"TCP/80 HTTP GET /v1/items/[^/]+(\?.*)?";
    let post = r"TCP/80 HTTP POST /v1/items(\?.*)?";
    assert_eq!(found(&["--http-method", "get"]), [items]);
    assert_eq!(found(&["--http-method", "POST"]), [post]);
    assert_eq!(found(&["--http-path", "/v1/items/7?x=1"]), [items]);
    assert_eq!(found(&["--http-path", r"/v1/items/[^/]+(\?.*)?"]), [items]);
    assert_eq!(found(&["--http-path", "/v1/items"]), [post]);
    assert!(found(&["--dns-pattern", "*"]).is_empty() && found(&["--fqdn", "*.example.com"]).is_empty());
    explain(&["--http-path", "items", "--http-method", "G T", "--fqdn", "a b", "--dns-pattern", ""])
        .code(2)
        .says("--http-path \"items\": a path like")
        .says("--http-method \"G T\": a method like GET")
        .says("--fqdn \"a b\": a name like")
        .says("--dns-pattern \"\": a name like");
    let text = explain(&["--http-method", "GET"]).code(0).stdout;
    assert!(text.contains(&format!("ingress from app=web {items}")), "{text}");
    assert!(text.contains("2 rules left out by the filters"), "{text}");
}

/// The fixture of the project's own, and the policies that have to come of it.
#[test]
fn golden_policies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/http");
    let dir = tempfile::tempdir().unwrap();
    let egress = |line: Line| line.set("/traffic_direction", json!("EGRESS"));
    let mut lines = vec![
        at("/v1/items?page=2"),
        passed(request("POST", "http://api.shop/v1/items")),
        passed(at("/v1/items/a%2Fb/größe")),
        egress(request("PUT", "http://bill.pay:8080/v1/bills"))
            .to(pod("pay", "bill", &["k8s:app=bill"]))
            .port(8080),
        egress(at("/v1/items")),
        at("/reset/eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
        at("/plain-too").port(9090),
        denied().ingress().port(9090),
    ];
    lines.extend((0..4).map(|i| at(&format!("/v1/orders/{i}/lines"))));
    let text = capture(&lines);
    let fixture = root.join("requests.jsonl");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        write(&fixture, &text);
    }
    assert_eq!(std::fs::read_to_string(&fixture).unwrap_or_default(), text, "UPDATE_GOLDEN=1 writes it anew");
    for (name, more) in [("exact", &[][..]), ("collapsed", &["--l7-collapse-paths"])] {
        let out = dir.path().join(name);
        let args = ["replay", fixture.to_str().unwrap(), "--l7", "-o", out.to_str().unwrap()];
        finished(cpg(dir.path()).args([&args, more].concat()).output().unwrap()).code(0);
        let written = tree(&out);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            written.iter().for_each(|(path, text)| write(&root.join(name).join(path), text));
        }
        assert_eq!(
            written,
            tree(&root.join(name)),
            "UPDATE_GOLDEN=1 writes {name} anew, if this is what you meant"
        );
        // By the engine, Cilium's Parse and the API server.
        assert_eq!(rules(&written).len(), if more.is_empty() { 10 } else { 8 });
    }
}
