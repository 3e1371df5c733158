//! Directories that people, other tools and other runs of cpg work in at the same time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Line, Ran, capture, cpg, denied, finished, identity, pod, replayed, rules, run, skipped, tree, write,
};

/// Needs of so many workloads, `from` the first port on.
fn needs(workloads: usize, ports: std::ops::Range<u16>) -> Vec<Line> {
    ports
        .flat_map(|port| {
            (0..workloads).map(move |i| {
                denied()
                    .from(pod("shop", "w", &[&format!("k8s:app=w{i}")]))
                    .port(port)
                    .set("/l4/TCP/source_port", json!(20_000 + i))
            })
        })
        .collect()
}

fn spawn(dir: &Path, args: &[&str]) -> Child {
    cpg(dir).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(child: Child) -> Ran {
    finished(child.wait_with_output().unwrap())
}

/// A policy for `app: web` as a person writes it.
const BY_HAND: &str = "# ours, ask team web\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: web\n  namespace: shop\n\
    spec:\n  endpointSelector:\n    matchLabels:\n      app: web\n  egress:\n  - toEntities: [kube-apiserver] # leader election\n";

#[test]
fn a_file_that_sops_signed_stays_and_the_additions_go_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let signed = format!(
        "{BY_HAND}sops:\n  mac: ENC[AES256_GCM,data:x,type:str]\n  encrypted_regex: ^(data)$\n  version: 3.9.0\n"
    );
    write(&dir.path().join("policies/shop/web.yaml"), &signed);
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    run(dir.path(), &["replay", "c.jsonl"]).code(0).says("encrypted with SOPS");
    let files = tree(&dir.path().join("policies"));
    assert_eq!(files[Path::new("shop/web.yaml")], signed);
    assert!(files[Path::new("shop/web.cpg.yaml")].contains("name: cpg-web-additions"), "{files:?}");
}

#[test]
fn a_kustomization_that_does_not_list_a_new_file_is_told_with_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let kustomization = "resources:\n- api.yaml\n";
    write(&dir.path().join("policies/shop/kustomization.yaml"), kustomization);
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    run(dir.path(), &["replay", "c.jsonl"]).code(0).says("add `- web.yaml` under `resources`");
    // Nothing new: nothing to say.
    let again = run(dir.path(), &["replay", "c.jsonl"]).code(0);
    assert!(!again.stderr.contains("kustomization"), "{}", again.stderr);
    write(&dir.path().join("policies/shop/kustomization.yaml"), format!("{kustomization}- ./web.yaml\n"));
    write(&dir.path().join("c.jsonl"), capture(&[denied().port(81)]));
    let listed = run(dir.path(), &["replay", "c.jsonl"]).code(0);
    assert!(!listed.stderr.contains("kustomization"), "{}", listed.stderr);
}

#[test]
fn a_name_that_another_file_has_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    // Somebody's policy of other pods has the name that cpg would give, in a file of another name.
    let theirs = BY_HAND.replace("name: web", "name: cpg-web").replace("app: web", "app: other");
    write(&dir.path().join("policies/shop/whatever.yaml"), &theirs);
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let files = tree(&dir.path().join("policies"));
    assert_eq!(files[Path::new("shop/whatever.yaml")], theirs);
    let new: Vec<_> = files.iter().filter(|(path, _)| !path.ends_with("whatever.yaml")).collect();
    let [(path, text)] = new.as_slice() else { panic!("{files:?}") };
    assert!(path.to_str().unwrap().starts_with("shop/web-") && !text.contains("name: cpg-web\n"), "{text}");
}

/// Two k9s windows on one namespace.
#[test]
fn two_runs_on_one_directory_both_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (needs(20, 80..90), needs(20, 85..95));
    write(&dir.path().join("one.jsonl"), capture(&one));
    write(&dir.path().join("other.jsonl"), capture(&other));
    write(&dir.path().join("both.jsonl"), capture(&[one, other].concat()));
    let args = |file| ["replay", file, "-o", "out", "--flush-interval", "5ms"];
    let children = [spawn(dir.path(), &args("one.jsonl")), spawn(dir.path(), &args("other.jsonl"))];
    for child in children {
        ended(child).code(0);
    }
    run(dir.path(), &["replay", "both.jsonl", "-o", "expected"]).code(0);
    assert_eq!(tree(&dir.path().join("out")), tree(&dir.path().join("expected")));
}

#[test]
fn two_thousand_files() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&needs(2_000, 80..81)));
    let start = Instant::now();
    run(dir.path(), &["replay", "c.jsonl"]).code(0).says("2,000 created");
    let first = start.elapsed();
    let root = dir.path().join("policies");
    let changed = |root: &Path| -> BTreeMap<PathBuf, std::time::SystemTime> {
        tree(root)
            .into_keys()
            .map(|p| (p.clone(), root.join(p).metadata().unwrap().modified().unwrap()))
            .collect()
    };
    let before = changed(&root);
    assert_eq!(before.len(), 2_000);
    let start = Instant::now();
    run(dir.path(), &["replay", "c.jsonl"]).code(0).says("2,000 unchanged");
    println!("2,000 files: written in {first:?}, read and found complete in {:?}", start.elapsed());
    assert_eq!(changed(&root), before);
}

fn git(dir: &Path, args: &[&str]) -> bool {
    let mut git = Command::new("git");
    git.current_dir(dir)
        .args(["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "core.fsync=none"])
        .args(args);
    git.output().is_ok_and(|output| output.status.success())
}

/// Branches come and go under a run that writes all the time.
#[test]
fn a_directory_that_git_is_checking_out() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("policies");
    std::fs::create_dir(&root).unwrap();
    if !git(&root, &["init", "-q", "-b", "main"]) {
        return skipped("git is not here");
    }
    // One branch has nothing; the other one has files of people and of cpg.
    assert!(
        git(&root, &["commit", "-q", "--allow-empty", "-m", "empty"])
            && git(&root, &["checkout", "-q", "-b", "full"])
    );
    for i in 0..10 {
        let text =
            BY_HAND.replace("name: web", &format!("name: w{i}")).replace("app: web", &format!("app: w{i}"));
        write(&root.join(format!("shop/hand-{i}.yaml")), text);
    }
    assert!(git(&root, &["add", "."]) && git(&root, &["commit", "-q", "-m", "full"]));

    let lines = needs(20, 80..110);
    write(&dir.path().join("c.jsonl"), capture(&lines));
    let mut child = cpg(dir.path())
        .args(["replay", "-", "--flush-interval", "5ms"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut checkouts = 0;
    for part in lines.chunks(20) {
        use std::io::Write as _;
        stdin.write_all(capture(part).as_bytes()).unwrap();
        for branch in ["main", "full"] {
            checkouts += usize::from(git(&root, &["checkout", "-q", "-f", branch]));
        }
    }
    drop(stdin);
    let ran = ended(child);
    // A file may have changed twice under its hands in the last window; then it says so.
    assert!(ran.code == 0 || (ran.code == 2 && ran.stderr.contains("changed by someone")), "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked") && checkouts > 50, "{checkouts}\n{}", ran.stderr);

    // Whatever the checkouts took away, the next run brings back beside what people wrote.
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let files = tree(&root);
    let files: BTreeMap<_, _> = files.into_iter().filter(|(path, _)| !path.starts_with(".git")).collect();
    for i in 0..10 {
        let text = &files[&PathBuf::from(format!("shop/hand-{i}.yaml"))];
        assert!(text.starts_with("# ours, ask team web\n") && text.contains("# leader election"), "{text}");
    }
    let ports: usize = files.values().map(|text| text.matches("- port: ").count()).sum();
    assert_eq!(ports, lines.len(), "every need is in a file, once");
    assert!(!files.keys().any(|path| path.to_string_lossy().ends_with(".tmp")));
}

/// Label values that YAML 1.1 readers take for something else.
#[test]
fn labels_that_look_like_something_else() {
    let values = ["no", "on", "1e3", "0x10", "null", "1.5", "2026-01-01", "0777", "1_000", "Y"];
    let lines: Vec<Line> =
        values.iter().map(|v| denied().from(pod("shop", "x", &[&format!("k8s:app={v}")]))).collect();
    let (policies, _) = replayed(&lines);
    let mut expected: Vec<String> =
        values.iter().map(|v| format!("shop/app={v} egress to app=api TCP/80")).collect();
    expected.sort();
    assert_eq!(rules(&policies), expected);
    for text in policies.values() {
        assert!(text.contains("app: \"") || text.contains("app: '"), "quoted for Go:\n{text}");
    }
}

/// While one of two peers is the world.
#[test]
fn a_slow_disk_stops_nothing() {
    let Some(shim) =
        shim("int fsync(int fd) { usleep(20000); return 0; }\nint fdatasync(int fd) { return fsync(fd); }")
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut lines = needs(20, 80..84);
    lines.push(denied().to(identity(2, &["reserved:world"])).addresses("10.0.0.1", "192.0.2.7"));
    write(&dir.path().join("c.jsonl"), capture(&lines));
    let ran = finished(
        cpg(dir.path())
            .args(["replay", "c.jsonl", "--flush-interval", "5ms"])
            .env("LD_PRELOAD", shim.library())
            .output()
            .unwrap(),
    );
    ran.code(0);
    run(dir.path(), &["replay", "c.jsonl", "-o", "expected"]).code(0);
    assert_eq!(tree(&dir.path().join("policies")), tree(&dir.path().join("expected")));
}

/// A disk that does not keep what it took: nothing of it is believed.
#[test]
fn a_file_that_cannot_be_synced_is_not_put_in_place() {
    // The third file fails, and those after it.
    let Some(shim) = shim(
        "static int n; int fsync(int fd) { struct stat s; fstat(fd, &s); if (!S_ISREG(s.st_mode)) return 0; if (++n > 2) { errno = EIO; return -1; } return 0; }",
    ) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("policies/shop/w0.yaml"), BY_HAND.replace("app: web", "app: w0"));
    write(&dir.path().join("c.jsonl"), capture(&needs(10, 80..81)));
    let before = tree(&dir.path().join("policies"));
    let ran = finished(
        cpg(dir.path()).args(["replay", "c.jsonl"]).env("LD_PRELOAD", shim.library()).output().unwrap(),
    );
    let ran = ran.code(2).says("Input/output error").says("8 policy files not written");
    let after = tree(&dir.path().join("policies"));
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let whole = tree(&dir.path().join("policies"));
    for (path, text) in &after {
        assert!(
            before.get(path) == Some(text) || whole.get(path) == Some(text),
            "{}\n{text}",
            path.display()
        );
        assert!(whole.contains_key(path), "{} was left behind: {}", path.display(), ran.stderr);
    }
    let written = after.iter().filter(|(path, text)| before.get(*path) != Some(text)).count();
    assert_eq!((written, whole.len()), (2, 10), "{}", ran.stderr);
}

/// A library that stands before the C library.
struct Shim(tempfile::TempDir);

impl Shim {
    fn library(&self) -> PathBuf {
        self.0.path().join("shim.so")
    }
}

/// `None` where nothing can be put before the C library.
fn shim(code: &str) -> Option<Shim> {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("shim.c");
    write(&source, format!("#include <errno.h>\n#include <sys/stat.h>\n#include <unistd.h>\n{code}\n"));
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(dir.path().join("shim.so"))
        .arg(&source)
        .output();
    if !cfg!(target_os = "linux") || !made.is_ok_and(|made| made.status.success()) {
        skipped("a disk that fails needs Linux and a C compiler (cc)");
        return None;
    }
    Some(Shim(dir))
}

/// A run that is killed at any moment leaves every file whole.
#[test]
fn killed_at_two_hundred_moments() {
    let dir = tempfile::tempdir().unwrap();
    let lines = needs(40, 80..100);
    write(&dir.path().join("c.jsonl"), capture(&lines));
    run(dir.path(), &["replay", "c.jsonl", "-o", "expected"]).code(0);
    let expected = tree(&dir.path().join("expected"));
    let whole: BTreeMap<PathBuf, Vec<String>> =
        expected.iter().map(|(p, t)| (p.clone(), rules(&BTreeMap::from([(p.clone(), t.clone())])))).collect();

    let start = Instant::now();
    run(dir.path(), &["replay", "c.jsonl", "-o", "timed", "--flush-interval", "5ms"]).code(0);
    let takes = start.elapsed();
    let hand = BY_HAND.replace("app: web", "app: w3");
    let mut state = 88_172_645_463_325_252_u64;
    let (mut killed, mut partly) = (0, 0);
    for round in 0..200 {
        let out = dir.path().join("out");
        // Every other one goes on where a killed one left off.
        if round % 2 == 0 {
            let _ = std::fs::remove_dir_all(&out);
            write(&out.join("shop/hand.yaml"), &hand);
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let moment = takes.mul_f64((state % 1_000) as f64 / 1_200.0);
        let mut child = spawn(dir.path(), &["replay", "c.jsonl", "-o", "out", "--flush-interval", "5ms"]);
        let start = Instant::now();
        while start.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        for (path, text) in tree(&out) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with(".cpg-") && name.ends_with(".tmp") {
                continue;
            }
            if name == "hand.yaml" {
                assert!(
                    text.starts_with("# ours, ask team web\n") && text.contains("# leader election\n"),
                    "{text}"
                );
                cpg::policy::read_documents(&text).unwrap();
                continue;
            }
            let got = rules(&BTreeMap::from([(path.clone(), text.clone())]));
            assert!(got.iter().all(|rule| whole[&path].contains(rule)), "{}\n{text}", path.display());
            partly += usize::from(got.len() < whole[&path].len());
        }
    }
    assert!(killed > 100, "killed {killed} times");
    println!("killed {killed} times of 200; {partly} files seen with a part of their rules, none broken");
    // What a killed run left is swept, and nothing is missing after one that is not killed.
    let _ = std::fs::remove_file(dir.path().join("out/shop/hand.yaml"));
    run(dir.path(), &["replay", "c.jsonl", "-o", "out"]).code(0);
    assert_eq!(tree(&dir.path().join("out")), expected);
}
