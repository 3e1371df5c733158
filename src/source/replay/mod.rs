//! Captures: files and standard input, plain, gzip or zstd, read on one thread and parsed on several.
//!
//! One thread reads and decompresses, and cuts chunks of about 1 MiB: runs of lines, and single values
//! where the input is not made of lines (`cut`). They go through a bounded channel to the workers, each
//! of which has its own decoder and its own [`Sink`]. Memory is bounded by the chunks on the way (three
//! for each worker, and two), never by the input; a chunk is longer than 1 MiB only where a line or a
//! value is, up to 64 MiB.
//!
//! | module | holds |
//! |---|---|
//! | `open`, `follow` | bytes: files, standard input, a file that is still written |
//! | `reader` | the reading thread |
//! | `cut`, `scan`, `join` | where lines and values begin and end; pure, the same for any number of threads |
//! | `report` | what was read, and what could not be |

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::Item;
use super::decode::Decoder;
use super::json::{self, LineError};
use super::unknown::UnknownValues;
use super::wanted::Prefilter;
use crate::flow::Interest;
use crate::text;

mod cut;
mod follow;
mod join;
mod open;
mod reader;
mod report;
mod scan;

pub use super::json::BadKind;
use cut::{What, trim};
use reader::{Chunk, End, Reader, Shared};
pub use report::{BadLine, InputReport, Problem, ProblemKind, Report};

/// Chunks that wait, for each worker. Full: the workers are behind, and reading waits for them.
const QUEUE: usize = 2;
/// How long a worker waits for a chunk before it looks at the stop flag again.
const PATIENCE: Duration = Duration::from_millis(50);

/// Where a capture is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file, plain, gzip or zstd (told by its first bytes, not by its name).
    File(PathBuf),
    /// Standard input, likewise.
    Stdin,
    /// A plain file that somebody still writes, rotated under its path: read until the stop flag. What
    /// was read until then counts. The file may come later.
    Follow(PathBuf),
}

/// Takes what one worker reads. Each worker has its own, so nothing is shared while reading.
pub trait Sink: Send {
    /// One item. Those of one chunk come in the order of its lines; chunks come in no order.
    fn item(&mut self, item: Item);
    /// So many lines were passed over: whatever is in them cannot matter to this run.
    fn not_of_interest(&mut self, lines: u64);
}

/// What one worker found in one input.
#[derive(Debug, Clone, Default)]
struct Tally {
    lines: u64,
    not_of_interest: u64,
    bad: BTreeMap<BadKind, (u64, BadLine)>,
    partial: Option<BadLine>,
}

/// What the workers look at between chunks.
struct Control<'a> {
    shared: &'a Shared,
    /// The stop flag ends the reading, not the work on what was read.
    follows: bool,
    chunks: Mutex<Receiver<Chunk>>,
    stop: &'a AtomicBool,
    /// A worker panicked: the result has a hole, so the others need not go on.
    broken: AtomicBool,
    stopped: AtomicBool,
}

/// Reads all inputs, one after another, with as many workers as there are sinks, and gives the sinks
/// back. `stop` ends it early, at the latest after the chunks in work. A sink is missing from the
/// result only if its worker panicked; the report then has a `failure`.
pub fn replay<S: Sink>(
    inputs: &[Input],
    interest: &Interest,
    sinks: Vec<S>,
    stop: &AtomicBool,
) -> (Vec<S>, Report) {
    let shared = Arc::new(Shared::default());
    *shared.inputs.lock().unwrap_or_else(PoisonError::into_inner) =
        inputs.iter().map(|input| InputReport { name: input.name(), ..Default::default() }).collect();
    let (sender, receiver) = sync_channel(QUEUE * sinks.len().max(1));
    let control = Control {
        shared: &shared,
        follows: inputs.iter().any(|input| matches!(input, Input::Follow(_))),
        chunks: Mutex::new(receiver),
        stop,
        broken: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
    };
    let mut report = Report::default();

    // The reading thread is not scoped: where it hangs in a read of standard input, nobody waits.
    let reader = Reader { shared: Arc::clone(&shared), chunks: sender };
    let owned = inputs.to_vec();
    let reading = thread::Builder::new().name("cpg-read".to_owned()).spawn(move || reader.run(&owned));
    if let Err(error) = &reading {
        report.failure = Some(format!("no thread for reading: {error}"));
    }

    let prefilter = Prefilter::new(interest);
    let mut back = Vec::with_capacity(sinks.len());
    let mut tallies = vec![Tally::default(); inputs.len()];
    thread::scope(|scope| {
        let workers: Vec<_> = sinks
            .into_iter()
            .map(|sink| {
                let (control, shared, prefilter) = (&control, &*shared, &prefilter);
                let work = move || Worker::new(sink, inputs.len()).run(control, shared, prefilter);
                thread::Builder::new().name("cpg-parse".to_owned()).spawn_scoped(scope, work)
            })
            .collect();
        for worker in workers {
            let joined =
                worker.map_err(|error| format!("no thread for parsing: {error}")).and_then(|worker| {
                    worker.join().map_err(|panic| format!("a worker broke down: {}", panic_message(&*panic)))
                });
            match joined {
                Ok(worker) => {
                    back.push(worker.sink);
                    report.unknown.merge(worker.unknown);
                    tallies.iter_mut().zip(worker.tallies).for_each(|(all, own)| all.merge(own));
                }
                Err(failure) => report.failure = Some(failure),
            }
        }
    });

    let control_follows = control.follows;
    shared.ended.store(true, Ordering::Relaxed);
    report.stopped = control.stopped.load(Ordering::Relaxed);
    // Without a receiver a waiting send ends at once.
    drop(control.chunks);
    if let Ok(reading) = reading
        && (control_follows || !report.stopped)
        && report.failure.is_none()
        && let Err(panic) = reading.join()
    {
        report.failure = Some(format!("the reader broke down: {}", panic_message(&*panic)));
    }
    report.inputs = std::mem::take(&mut *shared.inputs.lock().unwrap_or_else(PoisonError::into_inner));
    for (input, tally) in report.inputs.iter_mut().zip(tallies) {
        tally.finish(input, report.stopped || report.failure.is_some());
    }
    (back, report)
}

// === impl Input ===

impl Input {
    /// Its path, or `standard input`; safe to print.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) | Self::Follow(path) => {
                text::visible(&path.to_string_lossy(), 1_000).into_owned()
            }
            Self::Stdin => "standard input".to_owned(),
        }
    }
}

// === impl Control ===

impl Control<'_> {
    /// The next chunk; `None` when there is none, or none is wanted any more.
    fn next(&self) -> Option<Chunk> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                self.stopped.store(true, Ordering::Relaxed);
                if !self.follows {
                    return None;
                }
                self.shared.enough.store(true, Ordering::Relaxed);
            }
            if self.broken.load(Ordering::Relaxed) {
                return None;
            }
            let chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
            match chunks.recv_timeout(PATIENCE) {
                Ok(chunk) => return Some(chunk),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

/// One worker; it is its own result.
struct Worker<S> {
    sink: S,
    decoder: Decoder,
    unknown: UnknownValues,
    tallies: Vec<Tally>,
}

/// Tells the others when its worker panics.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

// === impl Worker ===

impl<S: Sink> Worker<S> {
    fn new(sink: S, inputs: usize) -> Self {
        let tallies = vec![Tally::default(); inputs];
        Self { sink, decoder: Decoder::new(), unknown: UnknownValues::default(), tallies }
    }

    fn run(mut self, control: &Control<'_>, shared: &Shared, prefilter: &Prefilter) -> Self {
        let _alarm = Alarm(&control.broken);
        while let Some(chunk) = control.next() {
            self.chunk(&chunk, prefilter);
            shared.recycle(chunk);
        }
        self.unknown = self.decoder.take_unknown();
        self
    }

    fn chunk(&mut self, chunk: &Chunk, prefilter: &Prefilter) {
        let Some(tally) = self.tallies.get_mut(chunk.input) else { return };
        let mut work =
            Work { sink: &mut self.sink, decoder: &mut self.decoder, prefilter, tally, skipped: 0 };
        let last = chunk.pieces.len().saturating_sub(1);
        for (at, piece) in chunk.pieces.iter().enumerate() {
            let end = if at == last { chunk.end } else { End::More };
            let bytes = chunk.bytes(piece);
            match &piece.what {
                What::Lines(_) => work.lines(bytes, piece.line, end),
                What::Value(_) | What::Joined(_) => work.line(bytes, piece.line, end),
            }
        }
        work.done();
    }
}

/// A worker at one chunk.
struct Work<'a, S> {
    sink: &'a mut S,
    decoder: &'a mut Decoder,
    prefilter: &'a Prefilter,
    tally: &'a mut Tally,
    skipped: u64,
}

// === impl Work ===

impl<S: Sink> Work<'_, S> {
    fn lines(&mut self, bytes: &[u8], first: u64, end: End) {
        let (mut start, mut number) = (0, first);
        while start < bytes.len() {
            let newline = memchr::memchr(b'\n', &bytes[start..]).map(|at| start + at);
            let line = &bytes[start..newline.unwrap_or(bytes.len())];
            self.line(line, number, if newline.is_some() { End::More } else { end });
            number += 1;
            start = newline.map_or(bytes.len(), |at| at + 1);
        }
    }

    fn line(&mut self, line: &[u8], number: u64, end: End) {
        let line = trim(line);
        if line.is_empty() {
            return;
        }
        if self.prefilter.cannot_matter(line) {
            self.skipped += 1;
            return;
        }
        let (sink, tally) = (&mut *self.sink, &mut *self.tally);
        json::read(line, self.decoder, &mut |read| {
            tally.lines += 1;
            match read {
                Ok(item) => sink.item(item),
                Err(error) => tally.bad(number, error, end),
            }
        });
    }

    fn done(self) {
        if self.skipped > 0 {
            self.tally.lines += self.skipped;
            self.tally.not_of_interest += self.skipped;
            self.sink.not_of_interest(self.skipped);
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Where reading failed, that is told already: the line that it cut is no further finding.
    fn bad(&mut self, line: u64, error: LineError, end: End) {
        let bad = BadLine { line, reason: error.reason };
        match (error.unfinished, end) {
            (true, End::Failure) => {}
            (true, End::Input) => self.partial = Some(bad),
            _ => {
                let (count, first) = self.bad.entry(error.kind).or_insert_with(|| (0, bad.clone()));
                *count += 1;
                if bad.line < first.line {
                    *first = bad;
                }
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.lines += other.lines;
        self.not_of_interest += other.not_of_interest;
        for (kind, (count, bad)) in other.bad {
            let (so_far, first) = self.bad.entry(kind).or_insert_with(|| (0, bad.clone()));
            *so_far += count;
            if bad.line < first.line {
                *first = bad;
            }
        }
        self.partial = self.partial.take().or(other.partial);
    }

    /// Adds what the workers found to what the reader knows.
    fn finish(self, input: &mut InputReport, cut_short: bool) {
        input.lines += self.lines;
        input.not_of_interest += self.not_of_interest;
        for (kind, (count, first)) in self.bad {
            input.bads(kind, count, first);
        }
        if let Some(BadLine { line, reason }) = self.partial {
            let message = format!(
                "{}: its last line, {line}, has no end ({reason}); whoever writes the file may still be at it. \
                 The other lines were read",
                input.name
            );
            input.problems.push(Problem { kind: ProblemKind::PartialLastLine, message });
        }
        if input.lines == 0 && input.problems.is_empty() && !cut_short {
            let message = format!("{}: there is no line in it", input.name);
            input.problems.push(Problem { kind: ProblemKind::Empty, message });
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a word");
    text::visible(words, 200).into_owned()
}

#[cfg(test)]
mod tests;
