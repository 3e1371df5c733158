//! The reading thread of a replay: opens inputs, decompresses, and cuts chunks.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use xxhash_rust::xxh3::Xxh3Default;

use super::cut::{Cutter, Piece, What};
use super::open::{file_error, open};
use super::{Input, InputReport, Problem, ProblemKind};
use crate::text;

/// Bytes of a chunk, unless one line is longer.
pub(super) const CHUNK: usize = 1 << 20;
/// Bytes of the longest line that is read.
pub(super) const LONGEST_LINE: usize = 64 << 20;

/// Pieces of one input.
pub(super) struct Chunk {
    /// Which input.
    pub(super) input: usize,
    /// In the order of the input.
    pub(super) pieces: Vec<Piece>,
    /// What its last piece ends with.
    pub(super) end: End,
    buffer: Vec<u8>,
}

/// What the last piece of a chunk ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// More of the input.
    More,
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
    /// Set when a file that is followed was followed long enough: what was read of it still counts.
    pub(super) enough: AtomicBool,
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
struct Intake<'a> {
    reader: &'a Reader,
    input: usize,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are read.
    filled: usize,
    cutter: Cutter,
    hash: Xxh3Default,
}

/// Nobody wants chunks any more.
struct Ended;

// === impl Chunk ===

impl Chunk {
    pub(super) fn bytes<'a>(&'a self, piece: &'a Piece) -> &'a [u8] {
        match &piece.what {
            What::Lines(range) | What::Value(range) => self.buffer.get(range.clone()).unwrap_or_default(),
            What::Joined(bytes) => bytes,
        }
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
            let outcome = match open(input, &name, &self.shared) {
                Ok((source, eager)) => Intake::new(self, at).run(source, eager, input),
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

// === impl Intake ===

impl<'a> Intake<'a> {
    fn new(reader: &'a Reader, input: usize) -> Self {
        let buffer = reader.shared.buffer();
        Self { reader, input, buffer, filled: 0, cutter: Cutter::new(), hash: Xxh3Default::new() }
    }

    /// `eager` input comes from somebody who may write slowly: every read is passed on at once.
    fn run(mut self, mut source: Box<dyn Read>, eager: bool, input: &Input) -> Result<(), Ended> {
        loop {
            if self.reader.shared.ended.load(Ordering::Relaxed) {
                return Err(Ended);
            }
            match self.read(&mut *source) {
                Ok(0) => return self.finish(End::Input, matches!(input, Input::Follow(_))),
                Ok(_) => {}
                Err(error) => return self.fail(&error, input),
            }
            if eager || self.filled == self.buffer.len() {
                self.cutter.advance(&self.buffer[..self.filled], false);
                if !self.cutter.pieces.is_empty() || self.filled == self.buffer.len() {
                    self.send(End::More)?;
                }
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

    /// Sends what was cut, and makes room: what is not done with begins the next buffer.
    fn send(&mut self, end: End) -> Result<(), Ended> {
        let kept = self.cutter.kept();
        let bad = std::mem::take(&mut self.cutter.bad);
        self.reader.report(self.input, |report| {
            report.bytes += kept as u64;
            for (kind, bad) in bad {
                report.lines += 1;
                report.bad(kind, bad);
            }
        });
        self.cutter.rebase();
        let rest = self.filled - kept;
        if self.cutter.pieces.is_empty() {
            if kept > 0 {
                self.buffer.copy_within(kept..self.filled, 0);
            } else if self.filled == self.buffer.len() {
                // One byte more than the longest line, for its newline.
                let room = (self.buffer.len() * 2).min(LONGEST_LINE + 1).max(self.filled + 1);
                self.buffer.resize(room, 0);
            }
            self.filled = rest;
            return Ok(());
        }
        let mut next = self.reader.shared.buffer();
        if rest >= next.len() {
            next.resize(rest * 2, 0);
        }
        next[..rest].copy_from_slice(&self.buffer[kept..self.filled]);
        self.filled = rest;
        let buffer = std::mem::replace(&mut self.buffer, next);
        let pieces = std::mem::take(&mut self.cutter.pieces);
        // Full: the workers are behind, and reading waits for them.
        let chunk = Chunk { input: self.input, pieces, end, buffer };
        self.reader.chunks.send(chunk).map_err(|_| Ended)
    }

    /// `endless`: its end is where somebody stopped listening, and its bytes have no name.
    fn finish(mut self, end: End, endless: bool) -> Result<(), Ended> {
        self.cutter.advance(&self.buffer[..self.filled], true);
        let open = self.cutter.left_open().filter(|_| end == End::Input);
        self.send(end)?;
        let hash = if endless { 0 } else { self.hash.digest() };
        self.reader.report(self.input, |report| {
            report.hash = hash;
            if let Some(why) = open {
                report.problems.push(Problem {
                    kind: ProblemKind::PartialLastLine,
                    message: format!(
                        "{}: {why}; whoever writes the file may still be at it. What is in it was read",
                        report.name
                    ),
                });
            }
        });
        Ok(())
    }

    fn fail(self, error: &io::Error, input: &Input) -> Result<(), Ended> {
        let name = input.name();
        let (kind, why) = if matches!(input, Input::Follow(_)) {
            (ProblemKind::Unreadable, file_error(error, &name))
        } else if error.kind() == io::ErrorKind::UnexpectedEof {
            let why = "the compressed file ends in the middle; what is in it up to there was read. \
                       Copy it again, or wait until its writer has closed it";
            (ProblemKind::Truncated, why.to_owned())
        } else {
            let error = text::visible(&error.to_string(), 200).into_owned();
            let why = format!(
                "reading failed: {error}; what comes before that was read. Check the file, or copy it again"
            );
            (ProblemKind::Unreadable, why)
        };
        let problem = Problem { kind, message: format!("{name}: {why}") };
        self.reader.report(self.input, |report| report.problems.push(problem));
        self.finish(End::Failure, false)
    }
}
