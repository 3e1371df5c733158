//! How much a rule's evidence is worth, with the reason.

use super::Entry;

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Look at it before it is applied.
    Low,
    /// The traffic is regular as far as the flows tell.
    High,
}

/// How much, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confidence {
    /// How much.
    pub level: Level,
    /// Why, as one sentence without an end.
    pub why: String,
}

/// High: the datapath gave its verdict on it or traced that it passed, and there were at least two connections.
/// Low: there was one, or only drop events told of it, whose direction the agent infers.
pub fn confidence(entry: &Entry) -> Confidence {
    let connections = entry.connections.count();
    let about = if entry.connections.is_exact() { "" } else { "about " };
    let seen = entry.seen();
    let told = if seen.verdicts() > 0 { "policy verdicts on" } else { "traces of" };
    let (level, why) = match (seen.verdicts() + seen.traces, connections) {
        (0, _) => (Level::Low, "only drop events told of it, so its direction is inferred".to_owned()),
        (_, 0) => (Level::Low, "its flows do not tell connections apart".to_owned()),
        (_, 1) => (Level::Low, "one connection only".to_owned()),
        (_, n) => (Level::High, format!("{told} {about}{n} connections")),
    };
    Confidence { level, why }
}

// === impl Level ===

impl Level {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::High => "high",
        }
    }
}
