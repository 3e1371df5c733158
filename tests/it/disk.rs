//! Output directories on file systems that are full or read-only: a small tmpfs in a mount namespace of its
//! own, which needs root.

use std::process::Command;

use crate::support::{Line, Ran, capture, denied, finished, pod, skipped, write};

/// Runs a script in a mount namespace of its own, with `$CPG` and the capture in `c.jsonl`; `None` where
/// that is not allowed.
pub(crate) fn in_namespace(lines: &[Line], script: &str) -> Option<Ran> {
    let probe = Command::new("unshare").args(["--mount", "true"]).output();
    if !probe.is_ok_and(|o| o.status.success()) {
        skipped("full and read-only file systems need root (unshare --mount)");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(lines));
    std::fs::create_dir(dir.path().join("out")).unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-e", "-c", script])
        .current_dir(dir.path())
        .env("CPG", env!("CARGO_BIN_EXE_cpg"))
        .env("XDG_CACHE_HOME", dir.path().join(".cache"))
        .output()
        .unwrap();
    Some(finished(output))
}

pub(crate) fn many() -> Vec<Line> {
    (0..200).map(|i| denied().from(pod("shop", "w", &[&format!("k8s:app=w{i}")]))).collect()
}

#[test]
fn a_full_file_system_loses_no_file_and_says_so() {
    let script = "mount -t tmpfs -o size=64k,mode=755 none out
        set +e; $CPG replay c.jsonl -o out 2>said; code=$?; set -e
        cat said >&2
        echo \"left $(find out -name '.cpg-*' | wc -l) files $(find out -name '*.yaml' | wc -l) empty $(find out -name '*.yaml' -empty | wc -l)\"
        exit $code";
    let Some(ran) = in_namespace(&many(), script) else { return };
    let ran = ran.code(2).says("No space left on device").says("NOT DONE");
    assert!(ran.stdout.contains("left 0 files") && ran.stdout.contains("empty 0"), "{}", ran.stdout);
    let files: usize = ran.stdout.split("files ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((1..200).contains(&files), "{}", ran.stdout);
    assert!(ran.stderr.lines().count() < 40, "one message and a count, not one a file:\n{}", ran.stderr);
}

#[test]
fn what_did_not_fit_is_written_when_there_is_room_again() {
    let script = "mount -t tmpfs -o size=64k,mode=755 none out
        mkfifo pipe; (cat c.jsonl; sleep 1; mount -o remount,size=4m out; sleep 1) > pipe &
        $CPG replay - -o out --flush-interval 200ms < pipe
        find out -name '*.yaml' | wc -l";
    let Some(ran) = in_namespace(&many(), script) else { return };
    let ran = ran.code(0);
    assert_eq!(ran.stdout.trim(), "200", "{}", ran.stderr);
}

#[test]
fn a_read_only_directory_is_one_clear_error() {
    let script = "mount -t tmpfs -o ro none out
        $CPG replay c.jsonl -o out";
    let Some(ran) = in_namespace(&many(), script) else { return };
    let ran = ran.code(2).says("out");
    assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
}
