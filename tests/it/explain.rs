//! `cpg explain`: what it says, against the golden files in `tests/golden/explain/` (`UPDATE_GOLDEN=1`
//! writes them anew).

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Line, Ran, capture, cpg, denied, finished, identity, pod, run, write};

fn nth(n: u16, port: u16) -> Line {
    denied()
        .port(port)
        .set("/l4/TCP/source_port", json!(40_000 + n))
        .set("/uuid", json!(format!("0b0e6d7a-0000-4000-8000-{n:012}")))
        .set("/time", json!(format!("2026-03-01T10:{:02}:00.5Z", n % 60)))
}

/// A directory with a policy that cpg wrote of two captures and that people edited since.
fn example() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let world = |n| nth(n, 443).to(identity(2, &["reserved:world"])).addresses("10.0.0.1", "192.0.2.7");
    let many: Vec<Line> = (0..5).map(|n| nth(n, 80)).chain([nth(6, 8080), nth(7, 9090), world(8)]).collect();
    let ingress = nth(11, 9102).ingress().from(identity(1, &["reserved:host"])).to(pod(
        "shop",
        "web",
        &["k8s:app=web"],
    ));
    let replay = |name: &str, lines: &[Line]| {
        write(&dir.path().join(name), capture(lines));
        run(dir.path(), &["replay", name, "--evidence-dir", "ev"]).code(0);
    };
    replay("monday.jsonl", &many);
    replay("tuesday.jsonl", &[nth(10, 80), nth(10, 80).drop_event(), ingress.drop_event()]);
    let file = dir.path().join("policies/shop/web.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let edited = text
        .replace("      - port: \"8080\"\n        protocol: TCP\n", "")
        .replace("      - port: \"9090\"\n", "      - port: \"9000\"\n        endPort: 9100\n");
    assert_eq!(edited.lines().count() + 1, text.lines().count());
    let mine = "  # the reports
  - toFQDNs:
    - matchName: reports.example.com
  - toEndpoints:
    - matchLabels:
        app: \"db\"
    toPorts:
    - ports:
      - port: \"5432\"
        protocol: TCP
";
    write(&file, format!("{edited}{mine}"));
    dir
}

fn explain(dir: &Path, args: &[&str]) -> Ran {
    run(dir, &[&["explain", "--evidence-dir", "ev"], args].concat())
}

/// The text with what differs from run to run taken out.
fn steady(dir: &Path, text: &str) -> String {
    let whole = std::fs::canonicalize(dir).unwrap().display().to_string();
    text.replace(&whole, "DIR").replace(&dir.display().to_string(), "DIR")
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/explain").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        write(&path, text);
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, known, "UPDATE_GOLDEN=1 writes {name} anew, if this is what you meant");
}

#[test]
fn text_json_and_yaml() {
    let dir = example();
    let text = steady(dir.path(), &explain(dir.path(), &["shop/web"]).code(0).stdout);
    golden("web.txt", &text);
    let said = explain(dir.path(), &["shop/web", "--json"]).code(0).stdout;
    golden("web.json", &steady(dir.path(), &said));
    let value: Value = serde_json::from_str(&said).unwrap();
    let yaml = explain(dir.path(), &["shop/web", "--output", "yaml"]).code(0).stdout;
    let [same] = &cpg::policy::yaml::read_all::<Value>(&yaml).unwrap()[..] else { panic!("{yaml}") };
    assert_eq!(*same, value);
}

#[test]
fn a_place_is_a_line_of_the_file() {
    let dir = example();
    let said = explain(dir.path(), &["policies/shop/web.yaml", "--json"]).code(0).stdout;
    let value: Value = serde_json::from_str(&said).unwrap();
    let text = std::fs::read_to_string(dir.path().join("policies/shop/web.yaml")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut checked = 0;
    for rule in value["policies"][0]["rules"].as_array().unwrap() {
        let Some(line) = rule["line"].as_u64() else { continue };
        if let Some(port) = rule["port"].as_u64() {
            let line = lines[line as usize - 1];
            assert!(line.contains(&format!("\"{port}\"")), "{line:?} of {rule}");
            checked += 1;
        }
    }
    assert_eq!(checked, 4);
}

#[test]
fn filters() {
    let dir = example();
    let rules = |args: &[&str]| -> Vec<String> {
        let said = explain(dir.path(), &[&["shop/web", "--json"], args].concat()).code(0).stdout;
        let value: Value = serde_json::from_str(&said).unwrap();
        let policy = &value["policies"][0];
        let rules = policy["rules"].as_array().unwrap();
        assert_eq!(rules.len() as u64 + policy["filtered"].as_u64().unwrap(), 8);
        rules.iter().map(|rule| rule["rule"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(rules(&[]).len(), 8);
    assert_eq!(rules(&["--ingress"]), ["ingress from host TCP/9102"]);
    assert_eq!(rules(&["--ingress", "--egress"]).len(), 8);
    assert_eq!(rules(&["--egress"]).len(), 7);
    assert_eq!(rules(&["--port", "443"]), ["egress to 192.0.2.7/32 TCP/443"]);
    assert_eq!(rules(&["--port", "443/udp"]), Vec::<String>::new());
    assert_eq!(rules(&["--peer", "app=db"]), ["egress to app=db TCP/5432"]);
    assert_eq!(rules(&["--peer-cidr", "192.0.2.0/24"]), ["egress to 192.0.2.7/32 TCP/443"]);
    assert_eq!(rules(&["--entity", "host"]), ["ingress from host TCP/9102"]);
    assert_eq!(rules(&["--since", "2026-03-01T10:09:30Z"]).len(), 2);
    assert_eq!(rules(&["--since", "2026-03-01T10:09:30Z", "--egress"]), ["egress to app=api TCP/80"]);
    explain(dir.path(), &["shop/web", "--port", "x", "--since", "soon", "--entity", "moon", "--peer", "a"])
        .code(2)
        .says("--port \"x\"")
        .says("--since \"soon\"")
        .says("--entity \"moon\"")
        .says("--peer \"a\"");
}

#[test]
fn what_is_not_there_has_near_names() {
    let dir = example();
    explain(dir.path(), &["shop/wbe"]).code(2).says("no policy shop/wbe").says("did you mean shop/web?");
    explain(dir.path(), &["web"]).code(2).says("did you mean shop/web?");
    explain(dir.path(), &["shpo/web"]).code(2).says("did you mean shop/web?");
    explain(dir.path(), &["pay/ledger-archive"]).code(2).says("there is shop/web");
    explain(dir.path(), &["x/\u{1b}[2J"]).code(2).says("x/\\u{1b}[2J");
    explain(dir.path(), &["shop/web", "-o", "elsewhere", "--evidence-dir", "nowhere"])
        .code(2)
        .says("no policy at all");
    assert!(!dir.path().join("elsewhere").exists() && !dir.path().join("nowhere").exists());
    // By its name in the cluster, by its file with the ending, by a label.
    for name in ["shop/cpg-web", "shop/web.yaml"] {
        explain(dir.path(), &[name]).code(0);
    }
    std::fs::rename(dir.path().join("policies/shop/web.yaml"), dir.path().join("policies/shop/a.yaml"))
        .unwrap();
    explain(dir.path(), &["shop/web"]).code(0);
    std::fs::remove_dir_all(dir.path().join("policies")).unwrap();
    let said = explain(dir.path(), &["shop/web"]).code(0).stdout;
    assert!(said.contains("no policy file selects it any more"), "{said}");
}

#[test]
fn without_evidence_everything_is_by_hand() {
    let dir = example();
    let said = explain(dir.path(), &["shop/web", "--evidence-dir", "none"]).code(0).stdout;
    assert!(said.contains("no evidence") && said.matches("written by hand").count() == 6, "{said}");
    let (path, text) = crate::evidence::files(&dir.path().join("ev")).pop_first().unwrap();
    write(&dir.path().join("ev").join(path), &text[..text.len() / 2]);
    explain(dir.path(), &["shop/web"]).code(2).says("is no evidence that cpg wrote");
}

#[test]
fn as_wide_as_the_terminal_and_without_colour_elsewhere() {
    let dir = example();
    let wide = |columns: &str| {
        let args = ["explain", "shop/web", "--evidence-dir", "ev"];
        finished(cpg(dir.path()).env("COLUMNS", columns).args(args).output().unwrap()).code(0).stdout
    };
    assert!(!wide("60").contains('\u{1b}'));
    // The rules themselves are not wrapped: people search for them.
    let wrapped = |line: &&str| line.starts_with("    ") && !line.contains("0b0e6d7a");
    let longest = |text: &str| text.lines().filter(wrapped).map(|line| line.chars().count()).max().unwrap();
    assert!(longest(&wide("60")) <= 60, "{}", wide("60"));
    assert!(wide("60").lines().count() > wide("300").lines().count());
    assert!(longest(&wide("60")) < longest(&wide("300")));
}

#[test]
fn hostile_text_is_made_visible() {
    let dir = tempfile::tempdir().unwrap();
    let hostile =
        denied().set("/source/pod_name", json!("web\u{1b}[2J\u{202e}")).set("/uuid", json!("\u{9b}x"));
    write(&dir.path().join("a\u{1b}[31mb.jsonl"), capture(&[hostile]));
    run(dir.path(), &["replay", "a\u{1b}[31mb.jsonl", "--evidence-dir", "ev"]).code(0);
    let file = dir.path().join("policies/shop/web.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    write(&file, format!("{text}  - toFQDNs:\n    - matchName: \"a\\e[2J\"\n"));
    for form in ["text", "json", "yaml"] {
        let said = explain(dir.path(), &["shop/web", "--output", form]).code(0).stdout;
        let active = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
        assert_eq!(said.chars().find(active), None, "{said:?}");
        assert!(said.contains("u{1b}"), "{said}");
    }
}
