//! What a replay tells beside its items: per input what was read, and what could not be.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use crate::source::json::BadKind;
use crate::source::unknown::UnknownValues;

/// What became of a replay. Every line of every input is in exactly one place: an item given to a
/// sink, a line that does not matter (`Sink::not_of_interest`), a bad line, or the partial last line.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One per input, in the order they were named.
    pub inputs: Vec<InputReport>,
    /// Values inside of readable lines that this version does not know.
    pub unknown: UnknownValues,
    /// The stop flag ended it before the inputs were read to their end.
    pub stopped: bool,
    /// A bug: a worker did not survive its input, so its share of the items is lost. Safe to print.
    pub failure: Option<String>,
}

/// What became of one input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InputReport {
    /// Its path, or `standard input`; safe to print.
    pub name: String,
    /// Bytes read, after decompression.
    pub bytes: u64,
    /// xxh3 of these bytes: the same capture has the same number, compressed or not. 0 where nothing
    /// could be read, the stop flag came before the end, or a file was followed.
    pub hash: u64,
    /// Lines read, blank ones left out; a value over several lines counts as one, each flow of a list
    /// that stands on one line as one of its own.
    pub lines: u64,
    /// Lines that no parser was needed for: they cannot matter to this run.
    pub not_of_interest: u64,
    /// Lines that could not be read, by what is wrong with them: how many, and the first of them.
    pub bad: BTreeMap<BadKind, (u64, BadLine)>,
    /// What is wrong with the input as a whole.
    pub problems: Vec<Problem>,
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number in the input, from 1, blank lines counted.
    pub line: u64,
    /// Why, in a few words, safe to print.
    pub reason: String,
}

/// Something wrong with an input as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of problem.
    pub kind: ProblemKind,
    /// One sentence for people, naming the input and what to do; safe to print.
    pub message: String,
}

/// Kinds of problems with an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemKind {
    /// It could not be opened, or reading or decompressing failed; what was read before counts.
    Unreadable,
    /// The compressed file ends in the middle; what was read before counts.
    Truncated,
    /// The last line of a plain file has no newline and cannot be read, or its list has no end: whoever
    /// writes the file may still be at it.
    PartialLastLine,
    /// There is no line in it.
    Empty,
}

// === impl InputReport ===

impl InputReport {
    /// Lines that could not be read.
    pub fn bad_lines(&self) -> u64 {
        self.bad.values().map(|(count, _)| count).sum()
    }

    /// Bad lines that may have been flows. Text between flows (the log of who wrote them, a listing) is
    /// not among them, unless nothing else is in the input.
    pub fn lost_lines(&self) -> u64 {
        let text = self.bad.get(&BadKind::Text).map_or(0, |(count, _)| *count);
        let all = self.bad_lines();
        if text == self.lines { all } else { all - text }
    }

    /// Counts a bad line; the first one of its kind is kept.
    pub(super) fn bad(&mut self, kind: BadKind, bad: BadLine) {
        self.bads(kind, 1, bad);
    }

    /// Counts bad lines of which this is the first.
    pub(super) fn bads(&mut self, kind: BadKind, count: u64, first: BadLine) {
        match self.bad.entry(kind) {
            Entry::Vacant(place) => drop(place.insert((count, first))),
            Entry::Occupied(mut known) => {
                let (so_far, known) = known.get_mut();
                *so_far += count;
                if first.line < known.line {
                    *known = first;
                }
            }
        }
    }
}

// === impl Report ===

impl Report {
    /// Lines of all inputs, blank ones left out.
    pub fn lines(&self) -> u64 {
        self.inputs.iter().map(|input| input.lines).sum()
    }

    /// Bad lines of all inputs.
    pub fn bad_lines(&self) -> u64 {
        self.inputs.iter().map(InputReport::bad_lines).sum()
    }

    /// Bad lines of all inputs that may have been flows.
    pub fn lost_lines(&self) -> u64 {
        self.inputs.iter().map(InputReport::lost_lines).sum()
    }

    /// All problems of all inputs.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.inputs.iter().flat_map(|input| &input.problems)
    }

    /// Whether something that was asked for was not read: an input unreadable or truncated, or a
    /// worker lost. Bad lines, a partial last line and an empty input are not among it.
    pub fn is_incomplete(&self) -> bool {
        self.failure.is_some() || self.problems().any(|problem| problem.kind.loses_work())
    }
}

// === impl ProblemKind ===

impl ProblemKind {
    /// Whether a part of the input is missing from the result.
    pub fn loses_work(self) -> bool {
        match self {
            Self::Unreadable | Self::Truncated => true,
            Self::PartialLastLine | Self::Empty => false,
        }
    }

    /// One word for logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Truncated => "truncated",
            Self::PartialLastLine => "partial_last_line",
            Self::Empty => "empty",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
