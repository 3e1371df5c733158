//! How fast flows are taken in, beside the limits of the same data in the same run: splitting lines,
//! checking JSON syntax, decoding protobuf. Read the ratios; absolute numbers are of one machine.
//!
//! `cargo bench --profile fast` while developing, `cargo bench` for what ships.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use cpg::classify::Filters;
use cpg::demo::{capture, from_json};
use cpg::flow::Interest;
use cpg::pipeline::Fold;
use cpg::source::Item;
use cpg::source::decode::Decoder;
use cpg::source::json::read_line;
use cpg::source::proto::observer::GetFlowsResponse;
use cpg::source::replay::{Input, Sink, replay};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;

const LINES: u64 = 50_000;

/// A worker of a replay as the program has it, without the lock.
struct Worker(Fold);

impl Sink for Worker {
    fn item(&mut self, item: Item) {
        self.0.item(item);
    }

    fn not_of_interest(&mut self, lines: u64) {
        self.0.not_of_interest(lines);
    }
}

fn fold() -> Fold {
    Fold::new(Arc::new(Filters::default()))
}

fn replays(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let (mut text, mut truth) = (Vec::new(), Vec::new());
    capture::generate(1, LINES, &mut text, &mut truth).unwrap();
    let plain = dir.path().join("capture.jsonl");
    let gz = dir.path().join("capture.jsonl.gz");
    std::io::copy(&mut text.as_slice(), &mut std::fs::File::create(&plain).unwrap()).unwrap();
    let mut encoder =
        flate2::write::GzEncoder::new(std::fs::File::create(&gz).unwrap(), flate2::Compression::default());
    std::io::copy(&mut text.as_slice(), &mut encoder).unwrap();
    encoder.finish().unwrap();

    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(LINES)).sample_size(10);
    group.bench_function("limit: split lines", |b| {
        b.iter(|| black_box(memchr::memchr_iter(b'\n', &text).count()));
    });
    group.bench_function("limit: check JSON syntax", |b| {
        b.iter(|| {
            for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                black_box(serde_json::from_slice::<serde::de::IgnoredAny>(line).unwrap());
            }
        });
    });
    group.bench_function("every line into a flow", |b| {
        b.iter(|| {
            let mut decoder = Decoder::new();
            for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                black_box(read_line(line, &mut decoder).ok());
            }
        });
    });
    for (name, input, threads) in [
        ("plain, 1 thread", &plain, 1),
        ("plain, 2 threads", &plain, 2),
        ("gz, 1 thread", &gz, 1),
        ("gz, 2 threads", &gz, 2),
    ] {
        group.bench_function(format!("cpg: {name}"), |b| {
            b.iter(|| {
                let workers = (0..threads).map(|_| Worker(fold())).collect();
                let stop = AtomicBool::new(false);
                black_box(replay(&[Input::File(input.clone())], &Interest::default(), workers, &stop))
            });
        });
    }
    group.finish();
}

fn live(criterion: &mut Criterion) {
    let (mut text, mut truth) = (Vec::new(), Vec::new());
    capture::generate(1, LINES, &mut text, &mut truth).unwrap();
    let text = String::from_utf8(text).unwrap();
    // What a relay sends with cpg's whitelist: drops only.
    let dropped = text.lines().filter(|line| line.contains("\"DROPPED\""));
    let encoded: Vec<Bytes> =
        dropped.filter_map(from_json::response).map(|response| response.encode_to_vec().into()).collect();

    let mut group = criterion.benchmark_group("live");
    group.throughput(Throughput::Elements(encoded.len() as u64)).sample_size(10);
    group.bench_function("limit: decode protobuf", |b| {
        b.iter(|| {
            for bytes in &encoded {
                black_box(GetFlowsResponse::decode(bytes.clone()).unwrap());
            }
        });
    });
    group.bench_function("cpg: decode and fold", |b| {
        b.iter(|| {
            let (mut decoder, mut fold) = (Decoder::new(), fold());
            for bytes in &encoded {
                fold.item(decoder.response(GetFlowsResponse::decode(bytes.clone()).unwrap()));
            }
            black_box(fold.take())
        });
    });
    group.finish();
}

criterion_group!(benches, replays, live);
criterion_main!(benches);
