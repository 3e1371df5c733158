//! The reading thread of a replay: opens inputs, decompresses, and cuts chunks at newlines.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::bufread::MultiGzDecoder;
use memchr::{memchr, memchr_iter, memrchr};
use xxhash_rust::xxh3::Xxh3Default;

use super::{BadLine, Input, InputReport, Problem, ProblemKind};
use crate::text;

/// Bytes of a chunk, unless one line is longer.
pub(super) const CHUNK: usize = 1 << 20;
/// Bytes of the longest line that is read.
pub(super) const LONGEST_LINE: usize = 64 << 20;

/// Whole lines of one input.
pub(super) struct Chunk {
    /// Which input.
    pub(super) input: usize,
    /// The number of its first line, from 1.
    pub(super) first_line: u64,
    /// What its last line ends with.
    pub(super) end: End,
    buffer: Vec<u8>,
    len: usize,
}

/// What the last line of a chunk ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Newline,
    /// The end of the input.
    Input,
    /// A place where reading failed.
    Failure,
}

/// What the reading thread shares with the others.
#[derive(Default)]
pub(super) struct Shared {
    /// Set when nobody wants chunks any more.
    pub(super) ended: AtomicBool,
    /// What is known of each input so far.
    pub(super) inputs: Mutex<Vec<InputReport>>,
    /// Buffers to use again; never more than there are chunks on the way.
    pool: Mutex<Vec<Vec<u8>>>,
}

/// The reading thread.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) chunks: SyncSender<Chunk>,
}

/// One input while it is read.
struct Cutter<'a> {
    reader: &'a Reader,
    input: usize,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are read; in them no line is begun before the first byte.
    filled: usize,
    /// The number of the line that the buffer begins with.
    line: u64,
    hash: Xxh3Default,
}

/// Nobody wants chunks any more.
struct Ended;

// === impl Chunk ===

impl Chunk {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

// === impl Shared ===

impl Shared {
    /// Takes a chunk's buffer back.
    pub(super) fn recycle(&self, chunk: Chunk) {
        if chunk.buffer.len() == CHUNK {
            self.pool.lock().unwrap_or_else(PoisonError::into_inner).push(chunk.buffer);
        }
    }

    fn buffer(&self) -> Vec<u8> {
        let used = self.pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        used.unwrap_or_else(|| vec![0; CHUNK])
    }
}

// === impl Reader ===

impl Reader {
    /// Reads the inputs one after another, until all are read or nobody wants chunks any more.
    pub(super) fn run(&self, inputs: &[Input]) {
        for (at, input) in inputs.iter().enumerate() {
            let name = input.name();
            let outcome = match open(input, &name) {
                Ok((source, eager)) => Cutter::new(self, at).run(source, eager, &name),
                Err(problem) => {
                    self.report(at, |report| report.problems.push(problem));
                    Ok(())
                }
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    fn report(&self, input: usize, change: impl FnOnce(&mut InputReport)) {
        let mut inputs = self.shared.inputs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = inputs.get_mut(input) {
            change(report);
        }
    }
}

// === impl Cutter ===

impl<'a> Cutter<'a> {
    fn new(reader: &'a Reader, input: usize) -> Self {
        let buffer = reader.shared.buffer();
        Self { reader, input, buffer, filled: 0, line: 1, hash: Xxh3Default::new() }
    }

    /// `eager` input comes from somebody who may write slowly: every read is passed on at once.
    fn run(mut self, mut source: Box<dyn Read>, eager: bool, name: &str) -> Result<(), Ended> {
        loop {
            if self.reader.shared.ended.load(Ordering::Relaxed) {
                return Err(Ended);
            }
            if self.filled == self.buffer.len() && !self.grow() {
                match self.skip_line(&mut *source) {
                    Ok(true) => continue,
                    Ok(false) => return self.finish(End::Input),
                    Err(error) => return self.fail(&error, name),
                }
            }
            let before = self.filled;
            match self.read(&mut *source) {
                Ok(0) => return self.finish(End::Input),
                Ok(_) => {}
                Err(error) => return self.fail(&error, name),
            }
            // An eager input is cut after every read: what was there before has no newline.
            let from = if eager { before } else { 0 };
            if (eager || self.filled == self.buffer.len())
                && let Some(newline) = memrchr(b'\n', &self.buffer[from..self.filled])
            {
                self.send(from + newline + 1, End::Newline)?;
            }
        }
    }

    /// One read into the free part of the buffer; 0 at the end of the input.
    fn read(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        let read = loop {
            match source.read(&mut self.buffer[self.filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let bytes = &self.buffer[self.filled..self.filled + read];
        self.hash.update(bytes);
        self.filled += read;
        Ok(read)
    }

    /// Room for a longer line; `false` when it is as long as a line may be.
    fn grow(&mut self) -> bool {
        if self.buffer.len() > LONGEST_LINE {
            return false;
        }
        // One byte more than the longest line, for its newline.
        self.buffer.resize((self.buffer.len() * 2).min(LONGEST_LINE + 1), 0);
        true
    }

    /// Passes over the rest of a line that is too long; `false` at the end of the input.
    fn skip_line(&mut self, source: &mut dyn Read) -> io::Result<bool> {
        let bad =
            BadLine { line: self.line, reason: format!("it is longer than {} MiB", LONGEST_LINE >> 20) };
        let mut bytes = self.filled as u64;
        self.buffer = self.reader.shared.buffer();
        let rest = loop {
            self.filled = 0;
            if self.reader.shared.ended.load(Ordering::Relaxed) {
                break Ok(None);
            }
            match self.read(source) {
                Ok(0) => break Ok(None),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
            if let Some(newline) = memchr(b'\n', &self.buffer[..self.filled]) {
                bytes += newline as u64 + 1;
                break Ok(Some(newline + 1));
            }
            bytes += self.filled as u64;
        };
        self.reader.report(self.input, |report| {
            report.bytes += bytes;
            report.lines += 1;
            report.bad_lines += 1;
            report.first_bad.get_or_insert(bad);
        });
        self.line += 1;
        let Some(from) = rest? else {
            self.filled = 0;
            return Ok(false);
        };
        self.buffer.copy_within(from..self.filled, 0);
        self.filled -= from;
        Ok(true)
    }

    /// Sends the first bytes of the buffer; the rest begins the next one.
    fn send(&mut self, len: usize, end: End) -> Result<(), Ended> {
        let mut next = self.reader.shared.buffer();
        let rest = self.filled - len;
        if rest >= next.len() {
            next.resize(rest * 2, 0);
        }
        next[..rest].copy_from_slice(&self.buffer[len..self.filled]);
        let buffer = std::mem::replace(&mut self.buffer, next);
        let lines = memchr_iter(b'\n', &buffer[..len]).count() as u64;
        let chunk = Chunk { input: self.input, first_line: self.line, end, buffer, len };
        self.line += lines;
        self.filled = rest;
        self.reader.report(self.input, |report| report.bytes += len as u64);
        // Full: the workers are behind, and reading waits for them.
        self.reader.chunks.send(chunk).map_err(|_| Ended)
    }

    fn finish(mut self, end: End) -> Result<(), Ended> {
        if self.filled > 0 {
            let end = if self.buffer[self.filled - 1] == b'\n' { End::Newline } else { end };
            self.send(self.filled, end)?;
        }
        let hash = self.hash.digest();
        self.reader.report(self.input, |report| report.hash = hash);
        Ok(())
    }

    fn fail(self, error: &io::Error, name: &str) -> Result<(), Ended> {
        let problem = if error.kind() == io::ErrorKind::UnexpectedEof {
            Problem {
                kind: ProblemKind::Truncated,
                message: format!(
                    "{name}: the gzip file ends in the middle; what is in it up to there was read. \
                     Copy it again, or wait until its writer has closed it"
                ),
            }
        } else {
            Problem {
                kind: ProblemKind::Unreadable,
                message: format!(
                    "{name}: reading failed: {}; what comes before that was read. Check the file, or copy it again",
                    text::visible(&error.to_string(), 200)
                ),
            }
        };
        self.reader.report(self.input, |report| report.problems.push(problem));
        self.finish(End::Failure)
    }
}

/// Opens an input and looks at its first bytes; with it comes whether it is to be read eagerly.
fn open(input: &Input, name: &str) -> Result<(Box<dyn Read>, bool), Problem> {
    let unreadable = |why: &str| Problem { kind: ProblemKind::Unreadable, message: format!("{name}: {why}") };
    let (mut source, eager): (Box<dyn Read>, bool) = match input {
        Input::Stdin => (Box::new(io::stdin().lock()), true),
        Input::File(path) => open_file(path).map_err(|error| unreadable(&file_error(&error, name)))?,
    };
    let mut head = Vec::with_capacity(4);
    (&mut source).take(4).read_to_end(&mut head).map_err(|error| {
        unreadable(&format!("reading failed: {}", text::visible(&error.to_string(), 200)))
    })?;
    match *head {
        [0x28, 0xb5, 0x2f, 0xfd] => Err(unreadable("zstd is not read yet; decompress it first (zstd -d)")),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Err(unreadable("the text is UTF-16 (PowerShell's > writes it); write it as UTF-8"))
        }
        [0x1f, 0x8b, ..] => {
            let whole = BufReader::with_capacity(CHUNK / 4, Cursor::new(head).chain(source));
            Ok((Box::new(MultiGzDecoder::new(whole)), false))
        }
        _ => Ok((Box::new(Cursor::new(head).chain(source)), eager)),
    }
}

/// What is no regular file (a pipe, a device) is read eagerly.
fn open_file(path: &Path) -> io::Result<(Box<dyn Read>, bool)> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((Box::new(File::open(path)?), !metadata.is_file()))
}

fn file_error(error: &io::Error, name: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; check the path".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "this user may not read it; change its permissions or run as its owner".to_owned()
        }
        io::ErrorKind::IsADirectory => {
            format!("this is a directory; name the files in it, for example {name}/*.jsonl")
        }
        _ => format!("it cannot be opened: {}", text::visible(&error.to_string(), 200)),
    }
}
