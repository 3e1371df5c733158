//! The state over restarts, and files that cannot be used.

use super::*;
use crate::coverage::{Gap, Reason};
use crate::names::NodeName;

/// Where a file goes that cannot be used.
const ASIDE: &str = "watch.json.damaged";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn saved() -> Saved {
    let node = NodeName::lossy("west/n1\u{1b}");
    let mut gaps = Gaps::new(10);
    gaps.insert(Gap { node: Some(node.clone()), reason: Reason::AgentRestart, from: at(1), to: at(2) });
    gaps.insert(Gap { node: None, reason: Reason::Reconnect, from: at(5), to: at(9) });
    let marks = Marks { nodes: [(node, at(7))].into(), alive: Some(at(8)) };
    Saved { saved: at(10), marks, gaps }
}

#[allow(clippy::disallowed_methods, reason = "a damaged file")]
fn damaged(dir: &Path, text: &str) -> Found {
    fs::write(dir.join(FILE), text).unwrap();
    StateDir::open(dir, "relay").unwrap().1
}

#[test]
fn what_was_saved_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let (state, found) = StateDir::open(&path, "relay").unwrap();
    assert!(found.saved.is_none() && found.told.is_none());
    state.save(&saved()).unwrap();
    state.save(&saved()).unwrap();
    let again = StateDir::open(&path, "relay").unwrap_err();
    assert!(again.to_string().contains("--state-dir"), "{again}");
    drop(state);
    let (_state, found) = StateDir::open(&path, "relay").unwrap();
    assert_eq!(found.saved, Some(saved()));
    let names: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_file_that_cannot_be_used_is_set_aside_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let good = format::write(&saved(), "relay");
    let cases = [
        ("", "damaged"),
        (&good[..good.len() / 2], "damaged"),
        ("{\"version\": 1}", "damaged"),
        (&good.replace("\"version\": 1", "\"version\": 7"), "version 7"),
        (&good.replace("\"relay\": \"relay\"", "\"relay\": \"x\\u001b\""), "another relay (x\\u{1b})"),
        (&good.replace("2027", "9999999"), "damaged"),
    ];
    for (text, part) in cases {
        let found = damaged(dir.path(), text);
        let told = found.told.unwrap_or_else(|| panic!("{text:?} was taken"));
        assert!(found.saved.is_none() && told.contains(part) && told.contains(ASIDE), "{told}");
        assert_eq!(fs::read_to_string(dir.path().join(ASIDE)).unwrap(), text);
        assert!(!dir.path().join(FILE).exists());
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    File::create(&file).unwrap();
    let error = StateDir::open(&file.join("below"), "relay").unwrap_err();
    assert!(error.to_string().contains("file/below cannot be made"), "{error}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a damaged file")]
fn needs_that_are_pending_are_found_again_and_a_damaged_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = StateDir::open(dir.path(), "relay").unwrap();
    let (none, told) = state.pending();
    assert!(none.is_empty() && told.is_none());
    state.save_pending(&none).unwrap();
    assert!(!dir.path().join(PENDING).exists(), "nothing is pending");
    fs::write(dir.path().join(PENDING), "{\"version\":1,\"needs\":[{").unwrap();
    let (none, told) = state.pending();
    let told = told.unwrap();
    assert!(none.is_empty() && told.contains("damaged") && told.contains("pending.json.damaged"), "{told}");
    state.save_pending(&none).unwrap();
    let (none, told) = state.pending();
    assert!(none.is_empty() && told.is_none());
}
