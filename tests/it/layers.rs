//! The layout of `src/`, held by a test: who may name whom, what pure modules must not touch, and how
//! long a file may be. `src/lib.rs` draws the same picture for people.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each module of `src/`, in the order of the way, with the modules that it names. An edge that is not
/// here fails; one that is here and not used fails too, so the table stays true.
const EDGES: &[(&str, &[&str])] = &[
    ("text", &[]),
    ("names", &["text"]),
    ("flow", &["names"]),
    ("policy", &["flow", "names", "text"]),
    ("engine", &["flow", "policy", "text"]),
    ("source", &["flow", "names", "text"]),
    ("classify", &["flow", "text"]),
    ("aggregate", &["classify", "flow", "names", "policy", "text"]),
    ("screen", &["aggregate", "engine", "flow", "names", "policy", "text"]),
    ("triage", &["aggregate", "classify", "flow", "policy", "text"]),
    ("build", &["aggregate", "classify", "flow", "policy"]),
    ("merge", &["flow", "names", "policy", "text"]),
    ("evidence", &["aggregate", "flow", "names", "policy", "text"]),
    ("store", &["flow", "merge", "names", "policy", "text"]),
    ("health", &["build", "classify", "flow", "names", "text"]),
    ("kube", &["flow", "names", "policy", "screen", "source", "text"]),
    ("coverage", &["names"]),
    ("state", &["aggregate", "coverage", "flow", "names", "policy", "store", "text", "triage"]),
    ("demo", &["source"]),
    ("bootstrap", &["names", "policy"]),
    (
        "pipeline",
        &[
            "aggregate",
            "build",
            "classify",
            "coverage",
            "evidence",
            "flow",
            "health",
            "kube",
            "merge",
            "names",
            "policy",
            "screen",
            "source",
            "state",
            "store",
            "text",
            "triage",
        ],
    ),
    ("metrics", &["pipeline"]),
    (
        "cli",
        &[
            "aggregate",
            "bootstrap",
            "build",
            "classify",
            "coverage",
            "demo",
            "engine",
            "evidence",
            "flow",
            "health",
            "kube",
            "merge",
            "metrics",
            "names",
            "pipeline",
            "policy",
            "screen",
            "source",
            "state",
            "store",
            "text",
            "triage",
        ],
    ),
];

/// Modules that are functions of their arguments: no runtime, no files, no clock, no log.
const PURE: &[&str] = &[
    "text",
    "names",
    "flow",
    "policy",
    "engine",
    "classify",
    "aggregate",
    "build",
    "screen",
    "triage",
    "merge",
    "coverage",
    "health",
    "evidence",
    "bootstrap",
];

/// What a pure module must not name.
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "clap",
    "tracing",
    "tempfile",
    "std::fs",
    "std::env",
    "std::time",
    "std::net::Tcp",
    "Timestamp::now",
];

const MAX_LINES: usize = 500;

struct Source {
    path: PathBuf,
    module: String,
    is_test: bool,
    /// Without tests.
    text: String,
    whole: String,
}

/// Every file below `src/`, but for files of tests.
fn sources() -> Vec<Source> {
    let mut all = files();
    all.retain(|source| !source.is_test);
    all
}

/// Every file below `src/`.
fn files() -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut dirs = vec![src.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let relative = path.strip_prefix(&src).unwrap().to_owned();
            let is_test = relative.iter().any(|part| part == "tests" || part == "tests.rs");
            if path.extension().is_none_or(|e| e != "rs") {
                continue;
            }
            let first = relative.iter().next().unwrap().to_str().unwrap();
            let whole = std::fs::read_to_string(&path).unwrap();
            // What stands behind such a declaration is no test.
            let text = whole.replace("\n#[cfg(test)]\nmod tests;", "");
            let text = text.split("\n#[cfg(test)]").next().unwrap().to_owned();
            found.push(Source {
                module: first.trim_end_matches(".rs").to_owned(),
                path: relative,
                is_test,
                text,
                whole,
            });
        }
    }
    found
}

/// Lines of code: comments do not count as naming something.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// The modules of this crate that a file names, as `crate::x` or in a `use crate::{x, y}`.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in code(text) {
        for (at, _) in line.match_indices("crate::") {
            if line[..at].ends_with("in ") {
                continue;
            }
            let rest = &line[at + "crate::".len()..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            assert!(!name.is_empty(), "write one `use crate::module` a line: {line}");
            names.insert(name);
        }
    }
    names
}

#[test]
fn only_the_edges_of_the_table() {
    let table: BTreeMap<&str, BTreeSet<&str>> =
        EDGES.iter().map(|(from, to)| (*from, to.iter().copied().collect())).collect();
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        if ["lib", "main"].contains(&source.module.as_str()) {
            continue;
        }
        let (module, allowed) = table
            .get_key_value(source.module.as_str())
            .unwrap_or_else(|| panic!("{} is not in the table", source.path.display()));
        for name in named(&source.text) {
            if name == *module {
                continue;
            }
            assert!(allowed.contains(name.as_str()), "{} must not name {name}", source.path.display());
            used.entry(module).or_default().insert(name);
        }
    }
    for (module, allowed) in &table {
        let used: BTreeSet<&str> = used.get(module).into_iter().flatten().map(String::as_str).collect();
        assert_eq!(&used, allowed, "the table says of {module} what is not so");
    }
}

#[test]
fn no_module_names_one_below_it() {
    let place = |name: &str| EDGES.iter().position(|(module, _)| *module == name).unwrap();
    for (from, to) in EDGES {
        for name in *to {
            assert!(place(name) < place(from), "{from} names {name}, which stands below it");
        }
    }
}

#[test]
fn pure_modules_touch_nothing() {
    for source in sources().iter().filter(|s| PURE.contains(&s.module.as_str())) {
        for line in code(&source.text) {
            for word in IMPURE {
                let named = line.match_indices(word).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                        && !line[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
                });
                assert!(!named, "{} is pure and names {word}: {line}", source.path.display());
            }
        }
    }
}

#[test]
fn things_that_only_one_place_may_name() {
    let only = |word: &str, places: &[&str]| {
        for source in sources() {
            let path = source.path.display().to_string();
            if !places.iter().any(|place| path.starts_with(place)) {
                for line in code(&source.text) {
                    assert!(!line.contains(word), "{path} names {word}: {line}");
                }
            }
        }
    };
    only("proto::", &["source/", "demo/"]);
    only("serde_yaml", &["policy/yaml/", "cli/config"]);
    only("yaml_edit", &["merge/"]);
    only("clap", &["cli/args"]);
    only("tokio::spawn", &["pipeline/", "kube/", "demo/", "metrics/"]);
    only("unbounded_channel", &[]);
}

#[test]
fn files_say_what_they_are_for_and_are_short() {
    for source in files() {
        let path = source.path.display();
        assert!(source.whole.starts_with("//!"), "{path} does not begin with //!");
        let lines = source.text.lines().count();
        assert!(source.is_test || lines <= MAX_LINES, "{path} has {lines} lines; split it by ideas");
    }
}

#[test]
fn the_map_names_every_module() {
    let map = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for (module, _) in EDGES {
        assert!(map.contains(&format!("[`{module}`]")), "src/lib.rs does not show {module}");
        assert!(map.contains(&format!("pub mod {module};")), "src/lib.rs does not declare {module}");
    }
}
