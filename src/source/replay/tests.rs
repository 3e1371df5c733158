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

/// A file of a test.
#[allow(clippy::disallowed_methods, reason = "fixtures are not what people commit")]
pub(super) fn save(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap();
}

fn gz(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn kinds(report: &Report) -> Vec<&'static str> {
    report.problems().map(|problem| problem.kind.as_str()).collect()
}

fn first_bad(report: &Report) -> u64 {
    report.inputs[0].bad.values().map(|(_, bad)| bad.line).min().unwrap_or(0)
}

/// Items, lines, bad lines, number of the first bad line (0: none), problems.
#[track_caller]
fn check(content: &[u8], expected: (usize, u64, u64, u64, &[&str])) -> Report {
    let (_file, input) = file(content);
    let (items, report) = run(&[input], 2);
    let first = first_bad(&report);
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
    check(lines(&[DROPPED, "junk", FORWARDED, "[]"], "\n").as_bytes(), (1, 3, 1, 2, &[]));
    check(b"", (0, 0, 0, 0, &["empty"]));
    check(b"\n\n \n", (0, 0, 0, 0, &["empty"]));
    check(b"junk", (0, 1, 1, 1, &[]));
    check(b"\xff\xfe{\0", (0, 0, 0, 0, &["unreadable"]));
    for (head, remedy) in [
        (&b"\x28\xb5\x2f\xfdxxxx"[..], "reading failed"),
        (b"\xfd7zXZ\0xx", "xz -d"),
        (b"BZh9xx", "bzip2 -d"),
        (b"PK\x03\x04xx", "unpack it first"),
        (b"{\0\"\0f\0", "iconv -f UTF-16"),
    ] {
        let report = check(head, (0, 0, 0, 0, &["unreadable"]));
        assert!(report.problems().next().unwrap().message.contains(remedy), "{report:?}");
    }
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
        assert_eq!(first_bad(&report), 4_001);
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
    let (count, first) = &report.inputs[0].bad[&BadKind::TooLong];
    assert_eq!((*count, first.line, &*first.reason), (1, 2, "it is longer than 64 MiB"));
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

// === shapes ===

fn flow(i: usize) -> serde_json::Value {
    serde_json::json!({
        "flow": {
            "uuid": i.to_string(), "verdict": "DROPPED",
            "source": {"labels": [r#"k8s:a=}"{\\"#, "k8s:b=]["], "pod_name": "x"}, "l4": {},
        },
        "node_name": "n",
    })
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

fn all(values: &[serde_json::Value], each: impl Fn(&serde_json::Value) -> String) -> String {
    values.iter().map(each).collect()
}

/// The same flows in every shape that is read: name and bytes.
fn shapes(flows: &[serde_json::Value]) -> Vec<(&'static str, String)> {
    use serde_json::{Value, json};

    let list = Value::Array(flows.to_vec());
    let inner = Value::Array(flows.iter().map(|flow| flow["flow"].clone()).collect());
    let escaped = |flow: &Value| json!({"log": flow.to_string()});
    let no_indent = |flow: &Value| {
        pretty(flow).lines().map(|line| format!("{}\n", line.trim_start())).collect::<String>()
    };
    let cut = |flow: &Value| {
        let text = flow.to_string();
        let (head, tail) = text.split_at(text.len() / 2);
        format!(
            "2026-01-01T00:00:00.1Z stdout P {head}\n2026-01-01T00:00:00.1Z stderr F else\n2026-01-01T00:00:00.2Z stdout F {tail}\n"
        )
    };
    vec![
        ("lines", all(flows, |f| format!("{f}\n"))),
        ("no newline at the end", all(flows, |f| format!("{f}\n")).trim_end().to_owned()),
        ("CRLF", all(flows, |f| format!("{f}\r\n"))),
        ("byte order marks", all(flows, |f| format!("\u{feff}{f}\n"))),
        ("byte order marks on one line", all(flows, |f| format!("\u{feff}{f}"))),
        ("zero bytes", format!("{}{}", "\0".repeat(100), all(flows, |f| format!("{f}\n")))),
        ("array", list.to_string()),
        ("array of lines", format!("[{}]", all(flows, |f| format!("{f},\n")).trim_end_matches(",\n"))),
        (
            "array, comma first",
            format!("[\n{}]\n", all(flows, |f| format!(",{f}\n")).trim_start_matches(',')),
        ),
        ("pretty array", pretty(&list)),
        ("pretty array, CRLF", pretty(&list).replace('\n', "\r\n")),
        ("arrays one after another", all(flows, |f| format!("[{f}]"))),
        ("pretty", all(flows, |f| pretty(f) + "\n")),
        ("pretty, nothing between", all(flows, pretty)),
        ("no indentation", all(flows, no_indent)),
        ("nothing between", all(flows, ToString::to_string)),
        ("flat", all(flows, |f| format!("{}\n", f["flow"]))),
        ("pretty flat", all(flows, |f| pretty(&f["flow"]))),
        ("wrapped", json!({"schema": "v1", "flows": inner, "next": {"flows": []}}).to_string()),
        ("pretty wrapped", pretty(&json!({"a": 1, "flows": list, "z": [{}]}))),
        (
            "extra keys",
            all(flows, |f| {
                let mut f = f.clone();
                f["cluster_name"] = json!("c");
                f["secret_key"] = json!("s");
                format!("{f}\n")
            }),
        ),
        ("CRI", all(flows, |f| format!("2026-01-01T00:00:00.1Z stdout F {f}\n"))),
        ("CRI, cut", all(flows, cut)),
        (
            "docker",
            all(flows, |f| {
                format!("{}\n", json!({"log": format!("{f}\n"), "stream": "stdout", "time": "t"}))
            }),
        ),
        ("fluent-bit", all(flows, |f| format!("{}\n", escaped(f)))),
        ("fluent-bit, an object", all(flows, |f| format!("{}\n", json!({"date": 1.5, "log": f})))),
        ("journald", all(flows, |f| format!("{}\n", json!({"MESSAGE": f.to_string(), "_PID": "1"})))),
        ("grep", all(flows, |f| format!("some-file.json:{f}\n"))),
        ("blanks and a tab", all(flows, |f| format!("\n\t {f}\n"))),
        (
            "listing around",
            format!(
                "-rw-r--r--. 1 root root 12 Mar 26 02:35 /var/x\n\n{}... (end)\n",
                all(flows, |f| format!("{f}\n"))
            ),
        ),
        (
            "mixed",
            flows
                .iter()
                .enumerate()
                .map(|(i, f)| match i % 5 {
                    0 => pretty(f) + "\n",
                    1 => format!("x {f}\n"),
                    2 => format!("[{f}]"),
                    _ => format!("{f}\n"),
                })
                .collect(),
        ),
    ]
}

/// The numbers of all flows, sorted.
fn numbers(inputs: &[Input], workers: usize) -> (Vec<usize>, Report) {
    let sinks = (0..workers).map(|_| Count::default()).collect();
    let (sinks, report) = replay(inputs, &Interest::default(), sinks, &AtomicBool::new(false));
    assert_eq!(report.failure, None);
    let items = sinks.iter().flat_map(|sink: &Count| &sink.items);
    let mut seen: Vec<usize> = items
        .map(|item| match item {
            Item::Flow(flow) => flow.uuid.parse().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect();
    seen.sort_unstable();
    (seen, report)
}

#[test]
fn every_shape_is_read_whole_whatever_its_size() {
    // Few flows, and so many that chunks end everywhere in them.
    for count in [1, 4, 9_000] {
        let flows: Vec<_> = (0..count).map(flow).collect();
        let expected: Vec<usize> = (0..count).collect();
        for (name, text) in shapes(&flows) {
            let (_file, input) = file(text.as_bytes());
            let (seen, report) = numbers(&[input], 2);
            assert!(seen == expected, "{name}: {} of {count}: {report:?}", seen.len());
            assert_eq!(kinds(&report), Vec::<&str>::new(), "{name}");
            let text = report.inputs[0].bad.get(&BadKind::Text).map_or(0, |(count, _)| *count);
            assert_eq!(report.bad_lines(), text, "{name}: {report:?}");
            assert_eq!(report.lost_lines(), 0, "{name}: {report:?}");
            assert_eq!(report.lines(), count as u64 + text, "{name}");
        }
    }
}

#[test]
fn a_value_that_breaks_off_is_one_finding_and_reading_goes_on() {
    let text = |parts: &[&str]| parts.concat();
    // Cut in a string, behind a comma, behind a colon; in a list; by hand.
    for cut in [r#"{"flow":{"verd"#, r#"{"flow":{"verdict":"DROPPED","#, r#"{"flow":"#] {
        check(text(&[DROPPED, "\n", cut, "\n", DROPPED, "\n"]).as_bytes(), (2, 3, 1, 2, &[]));
    }
    let elided = "{\n  \"flow\": {\n    \"verdict\": \"DROPPED\",\n    ...\n  },\n  \"time\": [\n    {\n    }\n  ]\n}\n";
    let report = check(text(&[DROPPED, "\n", elided, DROPPED, "\n"]).as_bytes(), (2, 3, 1, 2, &[]));
    let (_, first) = &report.inputs[0].bad[&BadKind::Broken];
    assert!(first.reason.contains("left out") && first.reason.contains("in line 5"), "{first:?}");
    check(text(&["[", DROPPED, ",\n{\"a\":...},\n", DROPPED, "]\n"]).as_bytes(), (2, 3, 1, 2, &[]));
    // The second of three pretty ones was cut.
    let whole = pretty(&flow(1)) + "\n";
    let half = &whole[..whole.len() / 2];
    check(text(&[&whole, half, "\n", &whole]).as_bytes(), (2, 3, 1, whole.lines().count() as u64 + 1, &[]));
    // Without an end, the file may still be written.
    check(text(&[&whole, half]).as_bytes(), (1, 2, 0, 0, &["partial_last_line"]));
    check(text(&["[", DROPPED, ","]).as_bytes(), (1, 1, 0, 0, &["partial_last_line"]));
    check(
        text(&["{\"flows\":[\n", DROPPED, "\n,", DROPPED]).as_bytes(),
        (2, 2, 0, 0, &["partial_last_line"]),
    );
}

#[test]
fn one_finding_for_each_kind_with_its_count() {
    let lines = [
        DROPPED,
        "{\"a\":}",
        "{\"b\":}",
        "ls: text",
        "{\"flow\":{\"verdict\":{}}}",
        "{\"x\":1}",
        "text",
        DROPPED,
    ];
    let (_file, input) = file(lines.join("\n").as_bytes());
    let (items, report) = run(&[input], 2);
    let found: Vec<_> =
        report.inputs[0].bad.iter().map(|(k, (n, first))| (k.as_str(), *n, first.line)).collect();
    assert_eq!(
        found,
        [
            ("broken JSON", 2, 2),
            ("a value of another type", 1, 5),
            ("no event of Hubble", 1, 6),
            ("text", 2, 4)
        ]
    );
    assert_eq!((items, report.lines(), report.lost_lines()), (2, 8, 4));
}

#[test]
fn zstd_frames_whole_and_damaged() {
    let text = format!("{DROPPED}\n").repeat(5_000);
    let whole = zstd::encode_all(text.as_bytes(), 3).unwrap();
    check(&whole, (5_000, 5_000, 0, 0, &[]));
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &whole, &whole].concat();
    check(&skippable, (10_000, 10_000, 0, 0, &[]));
    let (_file, input) = file(&whole[..whole.len() - 20]);
    let report = run(&[input], 1).1;
    assert_eq!(kinds(&report), ["truncated"]);
    assert!(report.is_incomplete());
    let (_file, input) = file(&[&*whole, b"no frame"].concat());
    assert_eq!(kinds(&run(&[input], 1).1), ["unreadable"]);
}

#[test]
fn one_line_of_fifty_megabytes() {
    let many: Vec<_> = (0..400_000).map(flow).collect();
    let text = serde_json::Value::Array(many).to_string();
    assert!(text.len() > 50 << 20, "{}", text.len());
    let (_file, input) = file(text.as_bytes());
    let (seen, report) = numbers(&[input], 2);
    assert!(seen.into_iter().eq(0..400_000), "{report:?}");
    assert_eq!(report.bad_lines(), 0);
}

// === the same cuts, however the bytes come ===

/// What a cutter made of an input.
type Cuts = (Vec<(u64, Vec<u8>)>, Vec<(BadKind, BadLine)>);

/// Each piece as a line number and its bytes; runs of lines one by one, blank ones left out.
fn cuts(text: &[u8], steps: &[usize]) -> Cuts {
    let mut cutter = cut::Cutter::new();
    let (mut gone, mut there) = (0, 0);
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    let mut steps = steps.iter().copied().cycle();
    loop {
        there = (there + steps.next().unwrap_or(usize::MAX).max(1)).min(text.len());
        let end = there == text.len();
        let buffer = &text[gone..there];
        cutter.advance(buffer, end);
        for piece in cutter.pieces.drain(..) {
            let (bytes, is_lines) = match piece.what {
                What::Lines(range) => (buffer[range].to_vec(), true),
                What::Value(range) => (buffer[range].to_vec(), false),
                What::Joined(bytes) => (bytes, false),
            };
            let lines: Vec<&[u8]> =
                if is_lines { bytes.split(|byte| *byte == b'\n').collect() } else { vec![&bytes] };
            for (at, line) in lines.into_iter().enumerate() {
                if !trim(line).is_empty() {
                    found.push((piece.line + at as u64, trim(line).to_vec()));
                }
            }
        }
        bad.append(&mut cutter.bad);
        gone += cutter.kept();
        cutter.rebase();
        if end {
            assert_eq!(gone, text.len());
            cutter.left_open();
            bad.append(&mut cutter.bad);
            return (found, bad);
        }
    }
}

mod any {
    use proptest::prelude::*;

    use super::*;

    /// Captures as nobody would write them: shapes, cut and put together, with noise between.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let shape = (0usize..40, 1usize..4, any::<u32>()).prop_map(|(which, count, seed)| {
            let flows: Vec<_> = (0..count).map(|i| flow(seed as usize % 1_000 + i)).collect();
            let all = shapes(&flows);
            all[which % all.len()].1.clone().into_bytes()
        });
        let cut = (shape.clone(), any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(
            |(text, a, b)| {
                let (a, b) = (a.index(text.len()), b.index(text.len()));
                text[a.min(b)..a.max(b)].to_vec()
            },
        );
        let noise = prop_oneof![
            r#"[{}\[\]",:a1 \n\\.-]{0,12}"#.prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..8),
            Just(b"\n".to_vec()),
        ];
        prop::collection::vec(prop_oneof![3 => shape, 3 => cut, 2 => noise], 0..6)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn cuts_do_not_depend_on_how_the_bytes_come(
            text in text(),
            steps in prop::collection::vec(1usize..200, 1..6),
        ) {
            prop_assert_eq!(cuts(&text, &steps), cuts(&text, &[usize::MAX]));
        }

        #[test]
        fn counts_do_not_depend_on_threads(text in text()) {
            let (_file, input) = file(&text);
            let inputs = [input];
            let (one, four) = (run(&inputs, 1), run(&inputs, 4));
            prop_assert_eq!(one.0, four.0);
            let (one, four) = (one.1, four.1);
            prop_assert_eq!(&one.inputs, &four.inputs);
            prop_assert_eq!(&one.failure, &None);
            let input = &one.inputs[0];
            let partial = input.problems.iter().any(|p| p.message.contains("its last line"));
            prop_assert_eq!(input.lines, four.inputs[0].lines);
            let items = run(&inputs, 2).0 as u64;
            prop_assert_eq!(items + input.not_of_interest + input.bad_lines() + u64::from(partial), input.lines);
        }
    }
}
