//! A session: one run of cpg, or one capture however often it was read.

use std::fmt;

use super::Times;
use crate::text::visible;

/// What a session is known by: of a capture the hash of its content, else a random number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Where its flows came from.
    pub source: Source,
    /// The first and the last of its flows that a rule of this policy came of.
    pub times: Times,
}

/// Where flows came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// A stream or a file.
    pub kind: SourceKind,
    /// The relay's address, or the captures' names.
    pub name: Box<str>,
    /// The cluster, where it is known.
    pub cluster: Option<Box<str>>,
    /// The version of cpg that wrote it down.
    pub cpg: Box<str>,
    /// What the relay says of its version, where it was asked.
    pub cilium: Option<Box<str>>,
}

/// Kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// A stream from Hubble Relay.
    Relay,
    /// One capture, or several that were read together.
    Capture,
}

// === impl SessionId ===

impl SessionId {
    /// Of captures that were read together, from the hashes of their content: their order and their
    /// names do not matter, nor that one of them was named twice.
    pub fn of_captures(hashes: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut hashes: Vec<u64> = hashes.into_iter().filter(|hash| *hash != 0).collect();
        hashes.sort_unstable();
        hashes.dedup();
        match hashes.as_slice() {
            [] => None,
            [one] => Some(Self(*one)),
            several => {
                let bytes: Vec<u8> = several.iter().flat_map(|hash| hash.to_le_bytes()).collect();
                Some(Self(xxhash_rust::xxh3::xxh3_64(&bytes)))
            }
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() != 16 {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

// === impl Session ===

impl Session {
    pub(super) fn new(source: Source, times: Times) -> Self {
        Self { source, times }
    }

    /// Where two tell the source in other words (a capture that was renamed), the greater one stays.
    pub(super) fn join(&mut self, other: Self) {
        if other.source > self.source {
            self.source = other.source;
        }
        self.times.join(other.times);
    }
}

// === impl SourceKind ===

impl SourceKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Capture => "capture",
        }
    }

    pub(super) fn from_word(word: &str) -> Option<Self> {
        [Self::Relay, Self::Capture].into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for Source {
    /// `capture drops.jsonl` or `relay localhost:4245 (cluster west)`, safe to print.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), visible(&self.name, 300))?;
        match &self.cluster {
            Some(cluster) => write!(f, " (cluster {})", visible(cluster, 100)),
            None => Ok(()),
        }
    }
}
