//! Captures: files and standard input, plain or gzip, read on one thread and parsed on several.
//!
//! One thread reads and decompresses, and cuts chunks of about 1 MiB at newlines. They go through a
//! bounded channel to the workers, each of which has its own decoder and its own [`Sink`]. Memory is
//! bounded by the chunks on the way (three for each worker, and two), never by the input; a chunk is
//! longer than 1 MiB only where a line is, up to 64 MiB.
//!
//! Read are JSON Lines; blank lines, CRLF and a byte order mark do not matter.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::Item;
use super::decode::Decoder;
use super::json;
use super::unknown::UnknownValues;
use super::wanted::Prefilter;
use crate::flow::Interest;
use crate::text;

mod reader;
mod report;

use reader::{Chunk, End, Reader, Shared};
pub use report::{BadLine, InputReport, Problem, ProblemKind, Report};

/// Chunks that wait, for each worker. Full: the workers are behind, and reading waits for them.
const QUEUE: usize = 2;
/// How long a worker waits for a chunk before it looks at the stop flag again.
const PATIENCE: Duration = Duration::from_millis(50);

/// Where a capture is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file, plain or gzip (told by its first bytes, not by its name).
    File(PathBuf),
    /// Standard input, plain or gzip.
    Stdin,
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
    bad_lines: u64,
    first_bad: Option<BadLine>,
    partial: Option<BadLine>,
}

/// What the workers look at between chunks.
struct Control<'a> {
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

    shared.ended.store(true, Ordering::Relaxed);
    report.stopped = control.stopped.load(Ordering::Relaxed);
    // Without a receiver a waiting send ends at once.
    drop(control.chunks);
    if let Ok(reading) = reading
        && !report.stopped
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
            Self::File(path) => text::visible(&path.to_string_lossy(), 1_000).into_owned(),
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
                return None;
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
        let mut bytes = chunk.bytes();
        if chunk.first_line == 1 {
            bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        }
        let (mut start, mut number) = (0, chunk.first_line);
        let mut skipped = 0;
        while start < bytes.len() {
            let newline = memchr::memchr(b'\n', &bytes[start..]).map(|at| start + at);
            let line = bytes[start..newline.unwrap_or(bytes.len())].trim_ascii();
            if line.is_empty() {
                // A blank line is no line.
            } else if prefilter.cannot_matter(line) {
                skipped += 1;
            } else {
                tally.lines += 1;
                match json::read_line(line, &mut self.decoder) {
                    Ok(item) => self.sink.item(item),
                    Err(error) => {
                        let unfinished = newline.is_none() && error.unfinished;
                        tally.bad(BadLine { line: number, reason: error.reason }, unfinished, chunk.end);
                    }
                }
            }
            number += 1;
            start = newline.map_or(bytes.len(), |at| at + 1);
        }
        if skipped > 0 {
            tally.lines += skipped;
            tally.not_of_interest += skipped;
            self.sink.not_of_interest(skipped);
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Where reading failed, that is told already: the line that it cut is no further finding.
    fn bad(&mut self, bad: BadLine, unfinished: bool, end: End) {
        match (unfinished, end) {
            (true, End::Failure) => {}
            (true, End::Input) => self.partial = Some(bad),
            _ => {
                self.bad_lines += 1;
                self.first_bad = first(self.first_bad.take(), Some(bad));
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.lines += other.lines;
        self.not_of_interest += other.not_of_interest;
        self.bad_lines += other.bad_lines;
        self.first_bad = first(self.first_bad.take(), other.first_bad);
        self.partial = self.partial.take().or(other.partial);
    }

    /// Adds what the workers found to what the reader knows.
    fn finish(self, input: &mut InputReport, cut_short: bool) {
        input.lines += self.lines;
        input.not_of_interest += self.not_of_interest;
        input.bad_lines += self.bad_lines;
        input.first_bad = first(input.first_bad.take(), self.first_bad);
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

/// The bad line that comes first in the input.
fn first(a: Option<BadLine>, b: Option<BadLine>) -> Option<BadLine> {
    a.into_iter().chain(b).min_by_key(|bad| bad.line)
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
