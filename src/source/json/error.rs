//! Why a line cannot be read.

use crate::text;

/// Characters of the reason why a line cannot be read.
pub(super) const LONGEST_REASON: usize = 200;

/// Why a line cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct LineError {
    /// What is wrong.
    pub kind: BadKind,
    /// A few words, at most 200 characters, safe to print.
    pub reason: String,
    /// It is right as far as it goes, but it ends too early.
    pub unfinished: bool,
}

/// What is wrong with lines that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BadKind {
    /// JSON that breaks off, or is none.
    Broken,
    /// JSON with another type where Hubble has a text, a number or an object.
    WrongType,
    /// JSON that is no event of Hubble.
    NotAnEvent,
    /// Text without an object in it.
    Text,
    /// Bytes that are no text.
    NotUtf8,
    /// A line or value of more than 64 MiB.
    TooLong,
}

// === impl BadKind ===

impl BadKind {
    /// A few words for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "broken JSON",
            Self::WrongType => "a value of another type",
            Self::NotAnEvent => "no event of Hubble",
            Self::Text => "text",
            Self::NotUtf8 => "not UTF-8",
            Self::TooLong => "too long",
        }
    }
}

// === impl LineError ===

impl LineError {
    pub(super) fn of(kind: BadKind, reason: &str) -> Self {
        Self { kind, reason: reason.to_owned(), unfinished: false }
    }

    /// The words of serde_json, with the place.
    pub(super) fn from_json(error: &serde_json::Error) -> Self {
        let words = error.to_string();
        let words = words.rfind(" at line ").map_or(&*words, |at| &words[..at]);
        let shown = text::visible(words, LONGEST_REASON / 2);
        // What had to be written out is longer than it was.
        let shown: String = shown.chars().take(LONGEST_REASON - 30).collect();
        let kind = if error.is_data() { BadKind::WrongType } else { BadKind::Broken };
        // A value over several lines says which of them.
        let place = match error.line() {
            0 | 1 => format!("at byte {}", error.column()),
            line => format!("in its line {line}"),
        };
        Self { kind, reason: format!("{shown} {place}"), unfinished: error.is_eof() }
    }
}
