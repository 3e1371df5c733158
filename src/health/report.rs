//! The document `cluster-health.json`. `docs/cluster-health.md` describes it; a field is never given
//! another meaning under the same version.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

use super::{At, Excess, Health, Noise, Place, Reason, Seen, is_broken, is_refusal, remedy};
use crate::classify::{Class, why};
use crate::flow::DropReason;
use crate::text::visible;

/// The version of the document that this cpg writes.
pub const SCHEMA_VERSION: u32 = 1;

/// What the document says of the run itself.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// When the run began.
    pub started: Timestamp,
    /// Drops before this moment are history; `None`: there is no history, as in a replay.
    pub counts_from: Option<Timestamp>,
    /// When the document was made.
    pub written: Timestamp,
    /// The run is over: nothing comes any more.
    pub finished: bool,
    /// The output directory, absolute.
    pub output_dir: String,
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    cpg_version: &'static str,
    started: Timestamp,
    counts_from: Option<Timestamp>,
    written: Timestamp,
    finished: bool,
    output_dir: &'a str,
    /// Infrastructure reasons above their threshold: what `--fail-on-infra-drops` looks at.
    exceeded: Vec<Exceeded>,
    /// Infrastructure and security.
    broken: Vec<Row<'a>>,
    /// Explicit deny, authentication, service.
    refused: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Exceeded {
    reason: String,
    drops_since_start: u64,
    threshold: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    reason: String,
    number: i32,
    class: &'static str,
    #[serde(flatten)]
    seen: Times,
    threshold: u64,
    cause: &'static str,
    remedy: &'static str,
    page: String,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    denied_by: BTreeSet<&'a str>,
    places: Vec<PlaceRow<'a>>,
    events_at_other_places: u64,
}

#[derive(Serialize)]
struct PlaceRow<'a> {
    node: &'a str,
    workload: String,
    peer: String,
    #[serde(flatten)]
    seen: Times,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    denied_by: BTreeSet<&'a str>,
}

#[derive(Serialize)]
struct Times {
    drops: u64,
    drops_since_start: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// The document as JSON text, with a newline at its end.
pub fn document(health: &Health, noise: &Noise, of: &Circumstances) -> String {
    let rows = |wanted: fn(Class) -> bool| -> Vec<Row<'_>> {
        let mut rows: Vec<_> = health.reasons().filter(|(class, _, _)| wanted(*class)).collect();
        rows.sort_by_key(|(_, _, what)| std::cmp::Reverse(what.seen.packets()));
        rows.into_iter().map(|(class, reason, what)| row(class, reason, what, noise)).collect()
    };
    let document = Document {
        schema_version: SCHEMA_VERSION,
        cpg_version: env!("CARGO_PKG_VERSION"),
        started: of.started,
        counts_from: of.counts_from,
        written: of.written,
        finished: of.finished,
        output_dir: &of.output_dir,
        exceeded: noise.exceeded(health).into_iter().map(Exceeded::from).collect(),
        broken: rows(is_broken),
        refused: rows(is_refusal),
    };
    // Texts, numbers and lists: this cannot fail.
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

fn row<'a>(class: Class, reason: DropReason, what: &'a Reason, noise: &Noise) -> Row<'a> {
    let help = remedy(class, reason);
    Row {
        reason: reason.to_string(),
        number: reason.0,
        class: class.as_str(),
        seen: Times::from(&what.seen),
        threshold: noise.of(reason),
        cause: why(class, reason),
        remedy: help.text,
        page: help.page(),
        denied_by: what.denied_by(),
        places: what.worst().into_iter().map(|(place, at)| place_row(place, at)).collect(),
        events_at_other_places: what.beyond,
    }
}

fn place_row<'a>(place: &'a Place, at: &'a At) -> PlaceRow<'a> {
    PlaceRow {
        node: place.node.as_str(),
        workload: visible(&place.workload.to_string(), 500).into_owned(),
        peer: visible(&place.peer.to_string(), 500).into_owned(),
        seen: Times::from(&at.seen),
        denied_by: at.denied_by.iter().map(|policy| &**policy).collect(),
    }
}

// === impl Times ===

impl From<&Seen> for Times {
    fn from(seen: &Seen) -> Self {
        Self {
            drops: seen.packets(),
            drops_since_start: seen.new_packets(),
            first: seen.first,
            last: seen.last,
        }
    }
}

// === impl Exceeded ===

impl From<Excess> for Exceeded {
    fn from(excess: Excess) -> Self {
        Self { reason: excess.reason.to_string(), drops_since_start: excess.drops, threshold: excess.allowed }
    }
}
