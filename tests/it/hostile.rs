//! Ten thousand strings that nobody hoped for, as namespace, label, pod name and YAML scalar: what is
//! written stays below the output directory and reads back the same here and in Go, and what is said
//! leaves the terminal alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{capture, denied, pod, run, skipped, tree, write};
use crate::testbed::{MISSING, program};

/// Texts that readers of YAML take for something else, or that mean something to a shell, a path, a
/// terminal.
const PIECES: &[&str] = &[
    "no",
    "No",
    "on",
    "ON",
    "off",
    "y",
    "Y",
    "yes",
    "true",
    "True",
    "null",
    "Null",
    "nan",
    "inf",
    "1e3",
    "1E3",
    "0x1F",
    "0o17",
    "017",
    "0b1",
    "1_000",
    "1.0",
    "1.",
    "2026-01-01",
    "12",
    "0",
    "e",
    "E",
    "-",
    "_",
    ".",
    "..",
    "/",
    "../",
    "\\",
    ":",
    ": ",
    "#",
    " #",
    "\n",
    "\r",
    "\t",
    "\u{1b}[31m",
    "\u{7}",
    "\u{0}",
    "\u{85}",
    "\u{2028}",
    "\u{202e}",
    "\u{feff}",
    "'",
    "\"",
    "`",
    "$(id)",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&a",
    "*a",
    "!!str",
    "|",
    ">",
    "%",
    "@",
    "?",
    "~",
    "<<",
    "=",
    "---",
    "...",
    "{{ x }}",
    "é",
    "漢",
    "🦀",
    "CON",
    "a",
    "B",
    "z9",
    "-rf",
    " ",
];

/// The same ones each time.
fn strings(how_many: usize) -> Vec<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut all = BTreeSet::new();
    while all.len() < how_many {
        // Every other one of the letters that a label may have, so that many become rules.
        let usable = next(2) == 0;
        let pieces: Vec<&str> = PIECES
            .iter()
            .copied()
            .filter(|p| !usable || p.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)))
            .collect();
        let text: String = (0..=next(4)).map(|_| pieces[next(pieces.len())]).collect();
        all.insert(text);
    }
    all.into_iter().collect()
}

/// What Kubernetes takes as the value of a label, said once more and otherwise than in `src/`.
fn is_label_value(text: &str) -> bool {
    let ends = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric());
    ends && text.len() <= 63 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_namespace(text: &str) -> bool {
    is_label_value(text) && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The documents of these files as Go reads them.
fn in_go(program: &Path, root: &Path, files: impl Iterator<Item = PathBuf>) -> Vec<Value> {
    let output = Command::new(program).arg("json").args(files).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The values of `app` in all peers of a policy.
fn apps(policy: &Value) -> impl Iterator<Item = &str> {
    ["ingress", "egress"]
        .into_iter()
        .filter_map(|direction| policy["spec"][direction].as_array())
        .flatten()
        .filter_map(|rule| rule["toEndpoints"].as_array())
        .flatten()
        .filter_map(|peer| peer["matchLabels"]["app"].as_str())
}

#[track_caller]
fn leaves_the_terminal_alone(said: &str) {
    let bad = |c: &char| {
        (c.is_control() && *c != '\n') || matches!(*c, '\u{202e}' | '\u{2028}' | '\u{feff}' | '\u{85}')
    };
    if let Some(c) = said.chars().find(bad) {
        let line = said.lines().find(|line| line.contains(c)).unwrap_or_default();
        panic!("{c:?} reached the terminal: {line:?}");
    }
}

#[test]
fn names_and_labels_from_flows() {
    let strings = strings(10_000);
    let mut lines = Vec::new();
    for text in &strings {
        lines.push(denied().to(pod("shop", text, &[&format!("k8s:app={text}")])));
        lines.push(denied().from(pod(text, text, &["k8s:app=web"])));
    }
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&lines));
    let ran = run(dir.path(), &["replay", "c.jsonl", "--debug"]).code(0);
    leaves_the_terminal_alone(&ran.stderr);
    leaves_the_terminal_alone(&ran.stdout);

    let root = dir.path().join("policies");
    let files = tree(&root);
    let expected: BTreeSet<PathBuf> = strings
        .iter()
        .filter(|text| is_namespace(text))
        .map(|text| Path::new(text).join("web.yaml"))
        .chain([PathBuf::from("shop/web.yaml")])
        .collect();
    assert_eq!(files.keys().cloned().collect::<BTreeSet<_>>(), expected);

    let values: BTreeSet<&str> =
        strings.iter().map(String::as_str).filter(|text| is_label_value(text)).collect();
    assert!(values.len() > 2_000 && expected.len() > 100, "{} {}", values.len(), expected.len());
    let check = |documents: &[Value], reader: &str| {
        let shop = documents.iter().find(|d| d["metadata"]["namespace"] == "shop").unwrap();
        let read: BTreeSet<&str> = apps(shop).collect();
        assert_eq!(
            read.difference(&values).collect::<Vec<_>>(),
            Vec::<&&str>::new(),
            "{reader} reads what was not said"
        );
        assert_eq!(values.difference(&read).collect::<Vec<_>>(), Vec::<&&str>::new(), "{reader} misses");
        let homes: BTreeSet<PathBuf> = documents
            .iter()
            .map(|d| Path::new(d["metadata"]["namespace"].as_str().unwrap()).join("web.yaml"))
            .collect();
        assert_eq!(homes, expected, "{reader}");
    };
    let here: Vec<Value> =
        files.values().flat_map(|text| cpg::policy::yaml::read_all(text).unwrap()).collect();
    check(&here, "cpg");
    let Some(program) = program() else { return skipped(MISSING) };
    check(&in_go(&program, &root, files.into_keys()), "Go");
}

#[test]
fn every_scalar_reads_back_the_same() {
    let strings = strings(10_000);
    let mut text = String::new();
    for string in &strings {
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"v": string, (string.as_str()): 1}});
        text.push_str("---\n");
        text.push_str(&cpg::policy::yaml::write(&value).unwrap());
    }
    let check = |documents: &[Value], reader: &str| {
        assert_eq!(documents.len(), strings.len(), "{reader}");
        for (document, string) in documents.iter().zip(&strings) {
            let data = document["data"].as_object().unwrap();
            let expected = if string == "v" { json!(1) } else { json!(string) };
            assert_eq!(data["v"], expected, "{reader}");
            assert_eq!(data.get(string), Some(&json!(1)), "{reader}: {string:?}");
        }
    };
    check(&cpg::policy::yaml::read_all::<Value>(&text).unwrap(), "cpg");
    let Some(program) = program() else { return skipped(MISSING) };
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("all.yaml"), &text);
    check(&in_go(&program, dir.path(), [PathBuf::from("all.yaml")].into_iter()), "Go");
}
