//! `replay --follow`: a file that an exporter still writes, through everything that rotates it.

use std::io::Write as _;
use std::path::Path;

use crate::live::{Running, policies, until};
use crate::support::{capture, cpg, denied, run, write};

/// Follows a file in this directory.
fn follow(dir: &Path, file: &str) -> Running {
    Running::new(cpg(dir).args([
        "replay",
        "--follow",
        file,
        "--flush-interval",
        "50ms",
        "--log-level",
        "debug",
    ]))
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// One flow, to this port.
fn to(port: u16) -> String {
    capture(&[denied().port(port)])
}

#[track_caller]
fn until_known(dir: &Path, ports: &[u16]) {
    let expected: Vec<String> =
        ports.iter().map(|port| format!("shop/app=web egress to app=api TCP/{port}")).collect();
    until(&format!("rules for {ports:?}"), || policies(dir) == expected);
}

#[test]
fn lines_are_taken_as_they_come_and_a_half_one_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.log");
    let running = follow(dir.path(), "events.log");
    running.says("there is no such file yet; waiting for it");
    append(&file, &to(81));
    until_known(dir.path(), &[81]);
    let line = to(82);
    let (head, tail) = line.split_at(line.len() / 2);
    append(&file, &to(83));
    append(&file, head);
    until_known(dir.path(), &[81, 83]);
    append(&file, tail);
    until_known(dir.path(), &[81, 82, 83]);
    // What has no end when it is stopped is a warning.
    append(&file, head);
    running.signal("-TERM");
    let ran = running.end().code(0).says("3 flows");
    assert!(!ran.stderr.contains("could not be read"), "{}", ran.stderr);
}

#[test]
fn rotation_by_renaming_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.log");
    let rotated = |name: &str| dir.path().join(format!("events-2026-09-15T{name}.log"));
    append(&rotated("10-00-00.000"), &to(70));
    append(&file, &to(81));
    let running = follow(dir.path(), "events.log");
    until_known(dir.path(), &[81]);
    // Written to just before the name was taken away, and by somebody who has it open still after that.
    let mut late = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    std::fs::rename(&file, rotated("11-00-00.000")).unwrap();
    late.write_all(to(82).as_bytes()).unwrap();
    until_known(dir.path(), &[81, 82]);
    late.write_all(to(84).as_bytes()).unwrap();
    append(&file, &to(83));
    until_known(dir.path(), &[81, 82, 83, 84]);
    // Twice before anybody looks, and the first of them is compressed already. The old file ends in the
    // middle of a line.
    append(&file, &to(85)[..100]);
    std::fs::rename(&file, dir.path().join("old")).unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(to(90).as_bytes()).unwrap();
    write(&rotated("12-00-00.000"), "");
    write(&dir.path().join("events-2026-09-15T13-00-00.000.log.gz"), gz.finish().unwrap());
    append(&rotated("14-00-00.000"), &to(86));
    append(&file, &to(87));
    until_known(dir.path(), &[81, 82, 83, 84, 86, 87, 90]);
    running.signal("-INT");
    // The half line is told; the file that was there before is not read.
    running.end().code(2).says("7 flows").says("1 line could not be read");
}

#[test]
fn rotation_by_truncating_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.log");
    append(&file, &(to(81) + &to(82)));
    let running = follow(dir.path(), "events.log");
    until_known(dir.path(), &[81, 82]);
    std::fs::OpenOptions::new().write(true).truncate(true).open(&file).unwrap();
    running.says("the file was truncated");
    append(&file, &to(83));
    until_known(dir.path(), &[81, 82, 83]);
    running.signal("-TERM");
    running.end().code(0).says("3 flows");
}

#[test]
fn only_one_plain_file_can_be_followed() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a"), to(81));
    for files in [&["a", "a"][..], &["-"]] {
        run(dir.path(), &[&["replay", "--follow"], files].concat()).code(2).says("--follow reads one file");
    }
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(to(81).as_bytes()).unwrap();
    write(&dir.path().join("c"), gz.finish().unwrap());
    run(dir.path(), &["replay", "--follow", "c"])
        .code(2)
        .says("it is compressed; --follow reads a plain file");
    run(dir.path(), &["replay", "--follow", "."]).code(2).says("this is a directory");
}
