//! What the integration tests share: the program, directories, and captures made line by line.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

use crate::testbed::Testbed;

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command of the program, with nothing of this process's environment that could change it.
pub(crate) fn cpg(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpg"));
    command.current_dir(dir).stdin(Stdio::null());
    // Not into the cache of whoever runs the tests.
    command.env("XDG_CACHE_HOME", dir.join(".cache"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let other = ["RUST_LOG", "NO_COLOR", "COLUMNS"];
        if name.starts_with("CPG_") || name.starts_with("HUBBLE_") || other.contains(&name.as_str()) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs the program with these arguments in this directory.
pub(crate) fn run(dir: &Path, args: &[&str]) -> Ran {
    finished(cpg(dir).args(args).output().expect("the program runs"))
}

pub(crate) fn finished(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Ran {
    /// Fails with everything the program said when the code is another one.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "\n{}\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Fails when a text is not on standard error.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in\n{}", self.stderr);
        self
    }
}

/// Every file below a directory with its content, without what belongs to cpg (`.cpg/`).
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.expect("readable").path();
            if path.file_name().is_some_and(|name| name == ".cpg") {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else {
                let content = match std::fs::read(&path) {
                    Ok(content) => String::from_utf8_lossy(&content).into_owned(),
                    // Put in its place since the directory was read.
                    Err(_) if is_temporary(&path) => continue,
                    Err(e) => panic!("{}: {e}", path.display()),
                };
                files.insert(path.strip_prefix(root).expect("below").to_owned(), content);
            }
        }
    }
    files
}

/// Whether a run is about to put this file in its place.
fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with(".cpg-") && name.ends_with(".tmp")
    })
}

/// Every YAML file below a directory.
pub(crate) fn yaml_below(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            yaml_below(&path, into);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            into.push(path);
        }
    }
}

/// Writes a file of a test.
#[allow(clippy::disallowed_methods, reason = "fixtures are not what people commit")]
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, content).expect("written");
}

/// Something that a test needs is not here: in CI that is a failure, elsewhere a line.
pub(crate) fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI nothing may be skipped: {why}");
    eprintln!("skipped: {why}");
}

/// The folder with real captures, where it is.
pub(crate) fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/captures");
    path.is_dir().then_some(path)
}

/// A flow as `hubble observe -o jsonpb` writes it, to be changed by each test.
#[derive(Debug, Clone)]
pub(crate) struct Line(pub(crate) Value);

/// A pod of namespace `shop` with one label talks to another on TCP/80, and egress denies it.
pub(crate) fn denied() -> Line {
    Line(json!({
        "flow": {
            "time": "2026-03-01T10:00:00.000000001Z",
            "uuid": "0b0e6d7a-0000-4000-8000-000000000001",
            "verdict": "DROPPED",
            "drop_reason": 133,
            "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
            "l4": {"TCP": {"source_port": 40000, "destination_port": 80, "flags": {"SYN": true}}},
            "source": pod("shop", "web", &["k8s:app=web"]),
            "destination": pod("shop", "api", &["k8s:app=api"]),
            "Type": "L3_L4",
            "node_name": "west/n1",
            "event_type": {"type": 5},
            "traffic_direction": "EGRESS",
            "drop_reason_desc": "POLICY_DENIED",
            "Summary": "TCP Flags: SYN"
        },
        "node_name": "west/n1",
        "time": "2026-03-01T10:00:00.000000001Z"
    }))
}

/// An endpoint that is a pod.
pub(crate) fn pod(namespace: &str, name: &str, labels: &[&str]) -> Value {
    let mut all: Vec<String> = labels.iter().map(|l| (*l).to_owned()).collect();
    all.push(format!("k8s:io.kubernetes.pod.namespace={namespace}"));
    json!({"ID": 7, "identity": 4711, "namespace": namespace, "pod_name": name, "labels": all})
}

/// An endpoint with nothing but a number and labels.
pub(crate) fn identity(number: u32, labels: &[&str]) -> Value {
    json!({"identity": number, "labels": labels})
}

impl Line {
    /// Sets a member of the flow by its path, as in `/l4/TCP/destination_port`. `null` removes it.
    pub(crate) fn set(mut self, path: &str, value: Value) -> Self {
        let (parent, key) = path.rsplit_once('/').expect("a path");
        let parent = self.0.pointer_mut(&format!("/flow{parent}")).expect("the parent is there");
        let object = parent.as_object_mut().expect("an object");
        if value.is_null() {
            object.remove(key);
        } else {
            object.insert(key.to_owned(), value);
        }
        self
    }

    pub(crate) fn from(self, endpoint: Value) -> Self {
        self.set("/source", endpoint)
    }

    pub(crate) fn to(self, endpoint: Value) -> Self {
        self.set("/destination", endpoint)
    }

    pub(crate) fn port(self, port: u16) -> Self {
        self.set("/l4/TCP/destination_port", json!(port))
    }

    pub(crate) fn addresses(self, source: &str, destination: &str) -> Self {
        self.set("/IP/source", json!(source)).set("/IP/destination", json!(destination))
    }

    pub(crate) fn ingress(self) -> Self {
        self.set("/traffic_direction", json!("INGRESS"))
    }

    pub(crate) fn l4(self, l4: Value) -> Self {
        self.set("/l4", l4)
    }

    /// The drop event that comes with the verdict event.
    pub(crate) fn drop_event(self) -> Self {
        self.set("/event_type", json!({"type": 1, "sub_type": 133}))
    }
}

/// The lines as a capture.
pub(crate) fn capture(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("{}\n", line.0)).collect()
}

/// Replays these lines in a new directory; gives the policies and what was said.
#[track_caller]
pub(crate) fn replayed(lines: &[Line]) -> (BTreeMap<PathBuf, String>, Ran) {
    replayed_with(lines, &[])
}

/// [`replayed`] with further arguments.
#[track_caller]
pub(crate) fn replayed_with(lines: &[Line], args: &[&str]) -> (BTreeMap<PathBuf, String>, Ran) {
    let dir = tempfile::tempdir().expect("a directory");
    write(&dir.path().join("capture.jsonl"), capture(lines));
    let ran = run(dir.path(), &[&["replay", "capture.jsonl"], args].concat()).code(0);
    (tree(&dir.path().join("policies")), ran)
}

/// The rules of all policies in a few words, sorted: `shop/app=web egress to app=api TCP/80`.
pub(crate) fn rules(policies: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let mut rules = Vec::new();
    let whole = policies.iter().filter(|(path, _)| !is_temporary(path));
    let whole: BTreeMap<PathBuf, String> = whole.map(|(path, text)| (path.clone(), text.clone())).collect();
    for (path, text) in &whole {
        let policy = cpg::policy::Policy::from_canonical(text)
            .unwrap_or_else(|| panic!("{} is not canonical:\n{text}", path.display()));
        for rule in policy.rules() {
            rules.push(format!("{} {rule}", policy.subject));
        }
    }
    accepted(&whole);
    rules.sort();
    rules
}

/// An API server for all tests of this process, and what it took already.
type Taken = Mutex<(Testbed, HashSet<String>)>;

/// Creates these policies on a real API server with strict field validation, and passes them through
/// Cilium's `Parse`; fails when one is refused. Every policy that a test looks at with [`rules`] comes
/// here. `false` where the testbed was not built.
#[track_caller]
pub(crate) fn accepted(policies: &BTreeMap<PathBuf, String>) -> bool {
    static SHARED: OnceLock<Option<Taken>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let program = crate::cluster::kubernetes()?;
        Some(Mutex::new((Testbed::left_alone(&program, &["-kube", "-nodes", "1"]), HashSet::new())))
    });
    let Some(shared) = shared else { return false };
    // One at a time: tests write policies of the same name.
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let (testbed, taken) = &mut *shared;
    let new: Vec<&String> = policies.values().filter(|text| !taken.contains(*text)).collect();
    if new.is_empty() {
        return true;
    }
    let body: String = new.iter().map(|text| format!("---\n{text}\n")).collect();
    let answer = |path: &str| -> Value { serde_json::from_str(&testbed.call("POST", path, &body)).unwrap() };
    // Either fails with the answer when one document is refused.
    let created = answer("/kube/apply?namespaces=1")["objects"].as_array().unwrap().len();
    let parsed = answer("/validate");
    let parsed = parsed["documents"].as_array().unwrap();
    let refused: Vec<&Value> =
        parsed.iter().filter(|line| line["ok"] != true || line["stage"] == "skipped").collect();
    assert!(refused.is_empty(), "{refused:#?}\n{body}");
    assert_eq!(created, parsed.len());
    taken.extend(new.into_iter().cloned());
    eprintln!("API server and Cilium took {created} documents, {} different files so far", taken.len());
    true
}

/// Replays lines, and compares the files with those of `tests/golden/<name>`; the API server and Cilium take
/// them.
#[track_caller]
pub(crate) fn golden(name: &str, lines: &[Line], args: &[&str]) -> Ran {
    let (files, ran) = replayed_with(lines, args);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        files.iter().for_each(|(path, text)| write(&root.join(path), text));
    }
    assert_eq!(files, tree(&root), "{name}: UPDATE_GOLDEN=1 writes it anew\n{}", ran.stderr);
    assert!(!rules(&files).is_empty());
    ran
}

/// Replays lines and compares the rules that came of them.
#[track_caller]
pub(crate) fn check_rules(lines: &[Line], expected: &[&str]) {
    let (policies, ran) = replayed(lines);
    assert_eq!(rules(&policies), expected, "{}", ran.stderr);
}

/// Replays lines of which no rule may come, and expects them under this reason.
#[track_caller]
pub(crate) fn check_skipped(lines: &[Line], reason: &str) {
    let (policies, ran) = replayed(lines);
    assert_eq!(rules(&policies), Vec::<String>::new(), "{}", ran.stderr);
    ran.says(reason);
}
