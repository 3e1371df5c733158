//! Cuts what was read into pieces for the workers: runs of lines as long as the input is made of them,
//! single values where it is not.
//!
//! A line that begins with `{` and ends with `}` is left as it is; whoever parses it finds out what it
//! is worth. Any other line that begins a value is followed by a [`Scanner`] over as many lines as it
//! takes, and after it lines go on. Brackets and commas between values only separate them: so an array
//! needs no memory, however long it is. Where a value breaks off, the next line that stands no deeper
//! and begins one is where reading goes on. All of this depends on the bytes alone, never on how they
//! came or on who works on them.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memmem};

use super::join::{Joined, Joins};
use super::reader::{CHUNK, LONGEST_LINE};
use super::scan::{Fault, Scanner, Step};
use super::{BadKind, BadLine};

/// A part of the input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) what: What,
    /// The number of the line that it begins in, from 1.
    pub(super) line: u64,
}

/// What a piece is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Whole lines of the chunk's buffer.
    Lines(Range<usize>),
    /// One value of the chunk's buffer, over one line or many.
    Value(Range<usize>),
    /// A line that a container runtime had cut.
    Joined(Vec<u8>),
}

#[derive(Debug)]
enum Mode {
    /// At the beginning of a line.
    Lines,
    /// In a value that begins where the cutter is.
    Value(Scanner),
    /// In a value that is too long to be kept.
    Discard(Scanner),
    /// Behind a value or a bracket, on its line.
    Behind,
    /// Behind a list that an object wraps.
    Tail(Scanner),
    /// In the rest of a line that is too long.
    Skip,
    /// Behind a value that broke, before the next line that begins one.
    Resync,
}

/// Whether something could be done with what is there.
#[derive(PartialEq, Eq)]
enum Go {
    On,
    NeedsMore,
}

/// Cuts one input.
#[derive(Debug)]
pub(super) struct Cutter {
    mode: Mode,
    /// Bytes of the buffer that are done with.
    at: usize,
    /// The number of the line at `at`.
    line: u64,
    /// Blanks before the value, or before the first one of its line.
    indent: usize,
    /// Lists that are open between values.
    open: u32,
    /// The object that wraps the list, and the lists open outside of it.
    outer: Option<(Scanner, u32)>,
    joins: Joins,
    /// Cut so far from this buffer.
    pub(super) pieces: Vec<Piece>,
    /// What no worker will see.
    pub(super) bad: Vec<(BadKind, BadLine)>,
}

// === impl Cutter ===

impl Cutter {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::Lines,
            at: 0,
            line: 1,
            indent: 0,
            open: 0,
            outer: None,
            joins: Joins::default(),
            pieces: Vec::new(),
            bad: Vec::new(),
        }
    }

    /// Cuts what is there; `end` says that nothing follows.
    pub(super) fn advance(&mut self, bytes: &[u8], end: bool) {
        while self.at < bytes.len() {
            let go = match &mut self.mode {
                Mode::Lines => self.lines(bytes, end),
                Mode::Value(_) | Mode::Discard(_) => self.value(bytes, end),
                Mode::Behind => self.behind(bytes, end),
                Mode::Tail(scanner) => {
                    scanner.rebase();
                    match scanner.scan(&bytes[self.at..]) {
                        Step::More | Step::Wraps(_) => {
                            self.pass(bytes, bytes.len());
                            Go::NeedsMore
                        }
                        Step::End(len) => {
                            self.pass(bytes, self.at + len);
                            self.mode = Mode::Behind;
                            Go::On
                        }
                        Step::Broken(len, fault) => {
                            self.broken(bytes, len, fault);
                            Go::On
                        }
                    }
                }
                Mode::Skip => match memchr(b'\n', &bytes[self.at..]) {
                    Some(len) => {
                        self.pass(bytes, self.at + len + 1);
                        self.mode = Mode::Lines;
                        Go::On
                    }
                    None => {
                        self.at = bytes.len();
                        Go::NeedsMore
                    }
                },
                Mode::Resync => self.resync(bytes, end),
            };
            if go == Go::NeedsMore {
                return;
            }
        }
    }

    /// The first byte of the buffer that is still needed; with the next buffer it is the first.
    pub(super) fn kept(&self) -> usize {
        self.at
    }

    /// The bytes that are done with are gone.
    pub(super) fn rebase(&mut self) {
        self.at = 0;
    }

    /// What is left open at the end of the input, in words.
    pub(super) fn left_open(&mut self) -> Option<&'static str> {
        if let Some(line) = self.joins.left_over() {
            let reason = "the container runtime cut this line, and its last part is missing".to_owned();
            self.bad.push((BadKind::Broken, BadLine { line, reason }));
        }
        let open = self.open > 0 || self.outer.is_some() || matches!(self.mode, Mode::Tail(_));
        // A value without an end is told by whoever parses it.
        (open && !matches!(self.mode, Mode::Value(_))).then_some("its list has no end")
    }

    /// Passes over bytes, and counts their lines.
    fn pass(&mut self, bytes: &[u8], to: usize) {
        self.line += memchr_iter(b'\n', &bytes[self.at..to]).count() as u64;
        self.at = to;
    }

    fn push(&mut self, what: What, line: u64) {
        self.pieces.push(Piece { what, line });
    }

    /// Lines, as long as they are lines.
    fn lines(&mut self, bytes: &[u8], end: bool) -> Go {
        let (run, run_line) = (self.at, self.line);
        let flush = |cutter: &mut Self, to: usize| {
            if to > run {
                cutter.push(What::Lines(run..to), run_line);
            }
        };
        loop {
            let start = self.at;
            let (stop, next) = match memchr(b'\n', &bytes[start..]) {
                Some(len) => (start + len, start + len + 1),
                None if end => (bytes.len(), bytes.len()),
                None if bytes.len() - start >= CHUNK => (bytes.len(), bytes.len()),
                None => {
                    flush(self, start);
                    return Go::NeedsMore;
                }
            };
            if start == bytes.len() {
                flush(self, start);
                return Go::On;
            }
            let whole = end || next > stop;
            let shown = trim(&bytes[start..stop]);
            let long = stop - start >= CHUNK;
            let first = shown.first().copied();
            let plain = first == Some(b'{') && shown.last() == Some(&b'}') && whole && !long;
            if plain {
                let joined =
                    shown.starts_with(br#"{"log":""#).then(|| self.joins.docker(shown, self.line)).flatten();
                if let Some(joined) = joined {
                    flush(self, start);
                    self.take_joined(joined);
                    self.pass(bytes, next);
                    return Go::On;
                }
            } else {
                match first {
                    Some(b'{') => {
                        flush(self, start);
                        self.begin(bytes, start);
                        return Go::On;
                    }
                    Some(b'[' | b']' | b',') if separates(shown, self.outer.is_some()) => {
                        flush(self, start);
                        self.indent = blanks(&bytes[start..]);
                        self.mode = Mode::Behind;
                        return Go::On;
                    }
                    Some(_) if !whole => {
                        flush(self, start);
                        if bytes.len() - start > LONGEST_LINE {
                            self.too_long(self.line);
                            self.mode = Mode::Skip;
                            return Go::On;
                        }
                        return Go::NeedsMore;
                    }
                    Some(_) => {
                        if let Some(joined) = self.joins.cri(shown, self.line) {
                            flush(self, start);
                            self.take_joined(joined);
                            self.pass(bytes, next);
                            return Go::On;
                        }
                    }
                    // A blank line of any length is nothing.
                    None => {}
                }
            }
            self.at = next;
            self.line += u64::from(next > stop);
        }
    }

    fn take_joined(&mut self, joined: Joined) {
        match joined {
            Joined::Held => {}
            Joined::Whole { bytes, line } => self.push(What::Joined(bytes), line),
            Joined::TooLong { line } => self.too_long(line),
        }
    }

    /// A value begins on the line at `start`, behind its blanks.
    fn begin(&mut self, bytes: &[u8], start: usize) {
        self.indent = blanks(&bytes[start..]);
        self.at = start + self.indent;
        self.mode = Mode::Value(self.scanner());
    }

    /// A list that is wrapped stands in the outermost object only.
    fn scanner(&self) -> Scanner {
        if self.outer.is_some() || self.open > 0 { Scanner::whole() } else { Scanner::entering() }
    }

    fn value(&mut self, bytes: &[u8], end: bool) -> Go {
        let start = self.at;
        let (scanner, kept) = match &mut self.mode {
            Mode::Value(scanner) => (scanner, true),
            Mode::Discard(scanner) => {
                scanner.rebase();
                (scanner, false)
            }
            _ => return Go::On,
        };
        match scanner.scan(&bytes[start..]) {
            Step::More if !kept => {
                self.pass(bytes, bytes.len());
                Go::NeedsMore
            }
            Step::More if bytes.len() - start > LONGEST_LINE => {
                self.mode = Mode::Discard(scanner.clone());
                self.too_long(self.line);
                self.pass(bytes, bytes.len());
                Go::NeedsMore
            }
            Step::More if end => {
                self.unfinished(bytes);
                Go::On
            }
            Step::More => Go::NeedsMore,
            Step::End(len) => {
                if kept && len > LONGEST_LINE {
                    self.too_long(self.line);
                } else if kept {
                    self.push(What::Value(start..start + len), self.line);
                }
                self.pass(bytes, start + len);
                self.mode = Mode::Behind;
                Go::On
            }
            Step::Wraps(len) => {
                self.outer = Some((scanner.clone(), self.open));
                self.open = 1;
                self.pass(bytes, start + len);
                self.mode = Mode::Behind;
                Go::On
            }
            Step::Broken(len, fault) => {
                self.broken(bytes, len, fault);
                Go::On
            }
        }
    }

    /// The input ends inside of a value. Where another one begins behind its first line, the value was
    /// cut there; else it is the last one, and whoever parses it sees that it has no end.
    fn unfinished(&mut self, bytes: &[u8]) {
        let indent = self.indent;
        let (start, line) = (self.at, self.line);
        let later = memchr_iter(b'\n', &bytes[start..])
            .map(|len| start + len + 1)
            .find(|next| begins_again(&bytes[*next..], indent));
        match later {
            Some(next) => {
                let reason = "it has no end before the next one begins".to_owned();
                self.bad.push((BadKind::Broken, BadLine { line, reason }));
                self.pass(bytes, next);
                self.mode = Mode::Lines;
            }
            None => {
                self.push(What::Value(start..bytes.len()), line);
                self.pass(bytes, bytes.len());
            }
        }
    }

    fn broken(&mut self, bytes: &[u8], len: usize, fault: Fault) {
        let begun = &bytes[self.at..self.at + len];
        let line = self.line + memchr_iter(b'\n', begun).count() as u64;
        let place =
            if line == self.line { format!("at byte {}", len + 1) } else { format!("in line {line}") };
        let reason = format!("{} ({place})", fault.as_str());
        self.bad.push((BadKind::Broken, BadLine { line: self.line, reason }));
        self.mode = Mode::Resync;
    }

    /// Looks for the next line that begins a value; the one at the cutter is passed over.
    fn resync(&mut self, bytes: &[u8], end: bool) -> Go {
        while let Some(len) = memchr(b'\n', &bytes[self.at..]) {
            let next = self.at + len + 1;
            let whole = memchr(b'\n', &bytes[next..]).is_some() || bytes.len() - next >= CHUNK;
            if !whole && !end {
                return Go::NeedsMore;
            }
            self.pass(bytes, next);
            if begins_again(&bytes[next..], self.indent) {
                self.mode = Mode::Lines;
                return Go::On;
            }
        }
        // Only the newline matters of a line that is passed over.
        if end || bytes.len() - self.at >= CHUNK {
            self.at = bytes.len();
        }
        Go::NeedsMore
    }

    /// Between values of one line.
    fn behind(&mut self, bytes: &[u8], end: bool) -> Go {
        self.at += blanks(&bytes[self.at..]);
        let Some(&byte) = bytes.get(self.at) else { return Go::NeedsMore };
        match byte {
            b'\n' => {
                self.pass(bytes, self.at + 1);
                self.mode = Mode::Lines;
            }
            b',' => self.at += 1,
            b'[' => {
                self.open += 1;
                self.at += 1;
            }
            b']' => {
                self.open = self.open.saturating_sub(1);
                self.at += 1;
                if self.open == 0
                    && let Some((scanner, open)) = self.outer.take()
                {
                    self.open = open;
                    self.mode = Mode::Tail(scanner);
                }
            }
            b'{' => self.mode = Mode::Value(self.scanner()),
            _ => {
                let stop = match memchr(b'\n', &bytes[self.at..]) {
                    Some(len) => self.at + len,
                    None if end => bytes.len(),
                    None if bytes.len() - self.at > LONGEST_LINE => {
                        self.too_long(self.line);
                        self.mode = Mode::Skip;
                        return Go::On;
                    }
                    None => return Go::NeedsMore,
                };
                // What somebody wrote behind a flow is nothing, unless another one is in it; in a list it
                // is an element that is no flow.
                if self.open > 0 || memchr(b'{', &bytes[self.at..stop]).is_some() {
                    self.push(What::Lines(self.at..stop), self.line);
                }
                self.at = stop;
            }
        }
        Go::On
    }

    fn too_long(&mut self, line: u64) {
        let reason = format!("it is longer than {} MiB", LONGEST_LINE >> 20);
        self.bad.push((BadKind::TooLong, BadLine { line, reason }));
    }
}

/// Without blanks, zero bytes (a file that was truncated under its writer begins with them) and byte
/// order marks (files were put together) at both ends.
pub(super) fn trim(line: &[u8]) -> &[u8] {
    let mut rest = &line[blanks(line)..];
    while let [head @ .., b' ' | b'\t' | b'\r' | b'\n' | 0x0c | 0] = rest {
        rest = head;
    }
    rest
}

/// How many bytes of blanks there are, newlines left out.
fn blanks(bytes: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match bytes.get(at) {
            Some(b' ' | b'\t' | b'\r' | 0x0c | 0) => at += 1,
            Some(0xef) if bytes[at..].starts_with(b"\xef\xbb\xbf") => at += 3,
            _ => return at,
        }
    }
}

/// Whether a line that begins with a bracket or a comma is one between values, not text in brackets.
/// Behind a list that an object wraps, the object goes on.
fn separates(line: &[u8], wrapped: bool) -> bool {
    match line.iter().find(|byte| !matches!(byte, b'[' | b']' | b',' | b' ' | b'\t' | b'\r' | 0)) {
        None | Some(b'{') => true,
        Some(b'}' | b'"') => wrapped,
        Some(_) => false,
    }
}

/// Whether the line begins a value no deeper than `indent`, or has one behind a prefix.
fn begins_again(bytes: &[u8], indent: usize) -> bool {
    let blanks = blanks(bytes);
    match bytes.get(blanks) {
        Some(b'{' | b'[') => blanks <= indent,
        None | Some(b'\n' | b'"' | b'}' | b']' | b',' | b'.') => false,
        Some(_) => {
            let stop = memchr(b'\n', bytes).unwrap_or(bytes.len()).min(CHUNK);
            memmem::find(&bytes[..stop], b"{\"").is_some()
        }
    }
}
