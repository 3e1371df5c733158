//! The file, as JSON: `docs/state.md`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Saved;
use crate::coverage::{Gap, Gaps, Marks, Reason};
use crate::names::NodeName;

/// The version that this program writes. A file of a later one is not read.
pub(super) const VERSION: u32 = 1;
/// Gaps kept in the file.
const GAPS: usize = 10_000;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    relay: String,
    saved: Timestamp,
    alive: Option<Timestamp>,
    nodes: BTreeMap<String, Timestamp>,
    gaps: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    node: Option<String>,
    reason: String,
    from: Timestamp,
    to: Timestamp,
}

/// The text of the file.
pub(super) fn write(saved: &Saved, relay: &str) -> String {
    let document = Document {
        version: VERSION,
        relay: relay.to_owned(),
        saved: saved.saved,
        alive: saved.marks.alive,
        nodes: saved.marks.nodes.iter().map(|(node, time)| (node.to_string(), *time)).collect(),
        gaps: rows_of(&saved.gaps),
    };
    // Times and texts only: nothing that JSON does not have.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

/// What a file says, and of which relay; or why it cannot be used.
pub(super) fn read(text: &str) -> Result<(Saved, String), String> {
    let document: Document = versioned(text)?;
    let gaps = gaps_of(document.gaps);
    let nodes = document.nodes.iter().map(|(node, time)| (NodeName::lossy(node), *time)).collect();
    let marks = Marks { nodes, alive: document.alive };
    Ok((Saved { saved: document.saved, marks, gaps }, document.relay))
}

/// A document of the version that this program knows.
pub(super) fn versioned<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let version: Version = serde_json::from_str(text).map_err(|e| format!("it is damaged ({e})"))?;
    if version.version != VERSION {
        return Err(format!("it has version {}, and this cpg knows {VERSION}", version.version));
    }
    serde_json::from_str(text).map_err(|e| format!("it is damaged ({e})"))
}

pub(super) fn rows_of(gaps: &Gaps) -> Vec<Row> {
    let row = |gap: Gap| Row {
        node: gap.node.map(|node| node.to_string()),
        reason: gap.reason.as_str().to_owned(),
        from: gap.from,
        to: gap.to,
    };
    gaps.iter().map(row).collect()
}

pub(super) fn gaps_of(rows: Vec<Row>) -> Gaps {
    let mut gaps = Gaps::new(GAPS);
    for Row { node, reason, from, to } in rows {
        // A reason of a later release is still a gap.
        let reason = Reason::from_name(&reason).unwrap_or(Reason::LostUnknown);
        gaps.insert(Gap { node: node.map(|node| NodeName::lossy(&node)), reason, from, to });
    }
    gaps
}
