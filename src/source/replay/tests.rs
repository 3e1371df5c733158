//! Captures as they lie on disks: shapes, sizes, damages.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::reader::{CHUNK, LONGEST_LINE};
use super::*;

const DROPPED: &str = r#"{"flow":{"verdict":"DROPPED","uuid":"u"},"node_name":"n"}"#;
const FORWARDED: &str = r#"{"flow":{"verdict":"FORWARDED"},"node_name":"n"}"#;

#[derive(Debug, Default)]
struct Count {
    items: Vec<Item>,
    not_of_interest: u64,
}

impl Sink for Count {
    fn item(&mut self, item: Item) {
        self.items.push(item);
    }

    fn not_of_interest(&mut self, lines: u64) {
        self.not_of_interest += lines;
    }
}

fn run(inputs: &[Input], workers: usize) -> (usize, Report) {
    let sinks = (0..workers).map(|_| Count::default()).collect();
    let (sinks, report) = replay(inputs, &Interest::default(), sinks, &AtomicBool::new(false));
    assert_eq!(sinks.len(), workers);
    let items = sinks.iter().map(|sink| sink.items.len()).sum();
    let skipped: u64 = sinks.iter().map(|sink| sink.not_of_interest).sum();
    assert_eq!(skipped, report.inputs.iter().map(|input| input.not_of_interest).sum::<u64>());
    (items, report)
}

fn file(content: &[u8]) -> (tempfile::NamedTempFile, Input) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content).unwrap();
    let input = Input::File(file.path().to_owned());
    (file, input)
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn kinds(report: &Report) -> Vec<&'static str> {
    report.problems().map(|problem| problem.kind.as_str()).collect()
}

/// Items, lines, bad lines, number of the first bad line (0: none), problems.
#[track_caller]
fn check(content: &[u8], expected: (usize, u64, u64, u64, &[&str])) -> Report {
    let (_file, input) = file(content);
    let (items, report) = run(&[input], 2);
    let first = report.inputs[0].first_bad.as_ref().map_or(0, |bad| bad.line);
    let got = (items, report.lines(), report.bad_lines(), first);
    assert_eq!(got, (expected.0, expected.1, expected.2, expected.3), "{report:?}");
    assert_eq!(kinds(&report), expected.4, "{report:?}");
    assert!(report.failure.is_none() && !report.stopped);
    report
}

#[test]
fn shapes_of_lines() {
    let lines = |lines: &[&str], end: &str| lines.iter().map(|l| format!("{l}{end}")).collect::<String>();
    check(lines(&[DROPPED, FORWARDED, DROPPED], "\n").as_bytes(), (2, 3, 0, 0, &[]));
    check(lines(&[DROPPED, FORWARDED], "\r\n").as_bytes(), (1, 2, 0, 0, &[]));
    check(lines(&["", DROPPED, "  ", "", FORWARDED, ""], "\n").as_bytes(), (1, 2, 0, 0, &[]));
    check(format!("\u{feff}{DROPPED}\n").as_bytes(), (1, 1, 0, 0, &[]));
    check(format!("  {DROPPED}\t\n").as_bytes(), (1, 1, 0, 0, &[]));
    check(DROPPED.as_bytes(), (1, 1, 0, 0, &[]));
    check(lines(&[DROPPED, "junk", FORWARDED, "[]"], "\n").as_bytes(), (1, 4, 2, 2, &[]));
    check(b"", (0, 0, 0, 0, &["empty"]));
    check(b"\n\n \n", (0, 0, 0, 0, &["empty"]));
    check(b"junk", (0, 1, 1, 1, &[]));
    check(b"\xff\xfe{\0", (0, 0, 0, 0, &["unreadable"]));
    let zstd = check(b"\x28\xb5\x2f\xfdxxxx", (0, 0, 0, 0, &["unreadable"]));
    assert!(zstd.problems().next().unwrap().message.contains("decompress it first"));
}

#[test]
fn a_partial_last_line_is_a_warning() {
    let report =
        check(format!("{DROPPED}\n{}", &DROPPED[..30]).as_bytes(), (1, 2, 0, 0, &["partial_last_line"]));
    assert!(!report.is_incomplete());
    let message = report.problems().next().unwrap().to_string();
    assert!(message.contains("its last line, 2, has no end"), "{message}");
    check(format!("{DROPPED}\n{}\n", &DROPPED[..30]).as_bytes(), (1, 2, 1, 2, &[]));
}

#[test]
fn gzip_whole_and_damaged() {
    let text = format!("{DROPPED}\n").repeat(5_000);
    let whole = gz(text.as_bytes());
    check(&whole, (5_000, 5_000, 0, 0, &[]));
    check(&[whole.clone(), whole.clone()].concat(), (10_000, 10_000, 0, 0, &[]));
    check(&gz(b""), (0, 0, 0, 0, &["empty"]));

    let (_file, input) = file(&whole[..whole.len() / 2]);
    let (items, report) = run(&[input], 1);
    assert_eq!((kinds(&report), report.bad_lines()), (vec!["truncated"], 0));
    assert!(report.is_incomplete() && items > 0 && items < 5_000, "{items}");

    let (_file, input) = file(&whole[..whole.len() - 4]);
    assert_eq!(kinds(&run(&[input], 1).1), ["truncated"]);

    // The checksum at its end, and what follows it.
    let mut damaged = whole.clone();
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 0xff;
    for damaged in [damaged, [&*whole, b"no gzip member"].concat()] {
        let (_file, input) = file(&damaged);
        let report = run(&[input], 1).1;
        assert_eq!(kinds(&report), ["unreadable"]);
        assert!(report.is_incomplete() && report.lines() > 0, "{report:?}");
    }

    let (_plain, plain) = file(text.as_bytes());
    let (_packed, packed) = file(&whole);
    let report = run(&[plain, packed], 2).1;
    assert_eq!(report.inputs[0].hash, report.inputs[1].hash);
    assert_ne!(report.inputs[0].hash, 0);
    assert_eq!(report.inputs[0].bytes, text.len() as u64);
}

#[test]
fn what_cannot_be_opened_is_told_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (_file, good) = file(format!("{DROPPED}\n").as_bytes());
    let missing = Input::File(folder.path().join("no\u{1b}such.jsonl"));
    let (items, report) = run(&[missing, Input::File(folder.path().to_owned()), good], 1);
    assert_eq!((items, kinds(&report)), (1, vec!["unreadable", "unreadable"]));
    let messages: Vec<String> = report.problems().map(ToString::to_string).collect();
    assert!(messages[0].contains("no\\u{1b}such.jsonl: there is no such file; check the path"));
    assert!(messages[1].contains("is a directory; name the files in it"), "{messages:?}");
    assert!(report.is_incomplete());
    assert_eq!(report.inputs.len(), 3);
    assert_eq!(run(&[], 1).1.lines(), 0);
    let (sinks, report) =
        replay(&[Input::Stdin; 0], &Interest::default(), Vec::<Count>::new(), &AtomicBool::new(false));
    assert!(sinks.is_empty() && report.failure.is_none());
}

#[test]
fn chunks_lose_no_line() {
    // Lines of many lengths, so that the chunks end everywhere in a line.
    let mut text = String::new();
    for i in 0..4_000 {
        text.push_str(&format!(
            "{{\"flow\":{{\"verdict\":\"DROPPED\",\"uuid\":\"{i}\",\"x\":\"{}\"}}}}\n",
            "y".repeat(i % 1_500)
        ));
    }
    text.push_str("junk\n");
    let (_file, input) = file(text.as_bytes());
    for workers in [1, 3] {
        let sinks = (0..workers).map(|_| Count::default()).collect();
        let (sinks, report) =
            replay(std::slice::from_ref(&input), &Interest::default(), sinks, &AtomicBool::new(false));
        let mut seen: Vec<usize> = sinks
            .iter()
            .flat_map(|sink: &Count| &sink.items)
            .map(|item| match item {
                Item::Flow(flow) => flow.uuid.parse().unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..4_000));
        assert_eq!(report.inputs[0].first_bad.as_ref().unwrap().line, 4_001);
    }
}

#[test]
fn long_lines() {
    let long = |bytes: usize| {
        let frame = r#"{"flow":{"verdict":"DROPPED","x":""}}"#;
        format!(r#"{{"flow":{{"verdict":"DROPPED","x":"{}"}}}}"#, "y".repeat(bytes - frame.len()))
    };
    let text = format!("{DROPPED}\n{}\n{DROPPED}\n", long(3 * CHUNK));
    check(text.as_bytes(), (3, 3, 0, 0, &[]));
    let text = format!("{}\n{}\n{DROPPED}\nx", long(LONGEST_LINE), long(LONGEST_LINE + 1));
    let report = check(text.as_bytes(), (2, 4, 2, 2, &[]));
    assert_eq!(report.inputs[0].bytes, text.len() as u64);
    assert_eq!(report.inputs[0].first_bad.as_ref().unwrap().reason, "it is longer than 64 MiB");
}

#[test]
fn a_panic_of_a_worker_surfaces() {
    struct Bomb;
    impl Sink for Bomb {
        fn item(&mut self, _: Item) {
            panic!("boom");
        }
        fn not_of_interest(&mut self, _: u64) {}
    }
    let (_file, input) = file(format!("{DROPPED}\n").repeat(200_000).as_bytes());
    let (sinks, report) = replay(&[input], &Interest::default(), vec![Bomb, Bomb], &AtomicBool::new(false));
    assert!(sinks.len() < 2);
    assert_eq!(report.failure.as_deref(), Some("a worker broke down: boom"));
    assert!(report.is_incomplete());
}

#[cfg(unix)]
#[test]
fn a_stop_does_not_wait_for_a_silent_writer() {
    // A pipe that nobody writes to: opening it for both directions keeps it open.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    if !std::process::Command::new("mkfifo").arg(&path).status().is_ok_and(|status| status.success()) {
        return;
    }
    let mut writer = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    writer.write_all(format!("{DROPPED}\n").as_bytes()).unwrap();
    let stop = AtomicBool::new(false);
    struct StopAtFirst<'a>(&'a AtomicBool);
    impl Sink for StopAtFirst<'_> {
        fn item(&mut self, _: Item) {
            self.0.store(true, Ordering::Relaxed);
        }
        fn not_of_interest(&mut self, _: u64) {}
    }
    let inputs = [Input::File(path), Input::File(Path::new("never").to_owned())];
    let (sinks, report) = replay(&inputs, &Interest::default(), vec![StopAtFirst(&stop)], &stop);
    assert_eq!(sinks.len(), 1);
    assert!(report.stopped && report.lines() == 1, "{report:?}");
    assert_eq!(kinds(&report), Vec::<&str>::new());
}
