//! What else may stand on a line: text before an event, several events, a list of them, an event inside
//! of a log collector's record, a flow that stands for many.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::values::{Int, Text};
use super::{BadKind, Held, LineError, hold, utf8};
use crate::flow::{Direction, Flow};
use crate::source::Item;
use crate::source::decode::Decoder;

/// Records inside of records that are opened: a collector's, a runtime's, and one more.
const DEEPEST: u8 = 3;

/// How many flows of each direction one flow stands for (`flow.Aggregate`; set by the exporter's
/// aggregation only).
#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(super) struct Aggregate {
    #[serde(default, alias = "ingressFlowCount")]
    ingress_flow_count: Int,
    #[serde(default, alias = "egressFlowCount")]
    egress_flow_count: Int,
    #[serde(default, alias = "unknownDirectionFlowCount")]
    unknown_direction_flow_count: Int,
}

/// Reads one line (without its newline, trimmed, not empty) and gives each event in it, or why it is
/// none. Usually that is one.
pub fn read(line: &[u8], decoder: &mut Decoder, each: &mut dyn FnMut(Result<Item, LineError>)) {
    match utf8(line) {
        Ok(text) => Reader { decoder, each, depth: 0 }.text(text),
        Err(error) => each(Err(error)),
    }
}

struct Reader<'a> {
    decoder: &'a mut Decoder,
    each: &'a mut dyn FnMut(Result<Item, LineError>),
    depth: u8,
}

// === impl Reader ===

impl Reader<'_> {
    /// A text that is one object, or what else it is.
    fn text(&mut self, text: &str) {
        if text.starts_with('{') {
            match hold(text, self.decoder) {
                Ok(held) => return self.held(held),
                Err(error) if error.kind == BadKind::Broken && !error.unfinished => {}
                Err(error) => return (self.each)(Err(error)),
            }
        }
        self.values(text);
    }

    /// Objects one after another, whatever separates them; text before the first and behind the last.
    fn values(&mut self, text: &str) {
        let mut rest = text;
        let mut any = false;
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\r', '\n', '\0', '\u{feff}', ',', '[', ']']);
            if rest.is_empty() {
                return;
            }
            if !rest.starts_with('{') {
                // A line of a broken value is a part of it, not a prefix.
                let at = if rest.starts_with(['"', '}']) { None } else { rest.find("{\"") };
                match at {
                    Some(at) => rest = &rest[at..],
                    None if any && !rest.contains('{') => return,
                    None => {
                        let (kind, why) = if rest.contains('{') {
                            (BadKind::Broken, "it is text, and what begins with { in it is no JSON object")
                        } else {
                            (BadKind::Text, "it is text without a JSON object in it")
                        };
                        return (self.each)(Err(LineError::of(kind, why)));
                    }
                }
            }
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
            match values.next() {
                Some(Ok(value)) => {
                    rest = &rest[values.byte_offset()..];
                    any = true;
                    self.object(value.get());
                }
                Some(Err(error)) => return (self.each)(Err(LineError::from_json(&error))),
                None => return,
            }
        }
    }

    fn object(&mut self, text: &str) {
        match hold(text, self.decoder) {
            Ok(held) => self.held(held),
            Err(error) => (self.each)(Err(error)),
        }
    }

    fn held(&mut self, held: Held<'_>) {
        match held {
            Held::Item(item) => (self.each)(Ok(item)),
            Held::Several(flow, aggregate) => {
                for flow in aggregate.split(&flow) {
                    (self.each)(Ok(Item::Flow(flow)));
                }
            }
            Held::Wrapped(_) | Held::Flows(_) if self.depth == DEEPEST => {
                (self.each)(Err(LineError::of(
                    BadKind::NotAnEvent,
                    "a record in a record in a record in a record",
                )));
            }
            Held::Wrapped(raw) => {
                self.depth += 1;
                match serde_json::from_str::<Text<'_>>(raw.get()) {
                    Ok(text) => self.inner(&text.0),
                    Err(_) => self.object(raw.get()),
                }
                self.depth -= 1;
            }
            Held::Flows(raw) => {
                self.depth += 1;
                match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
                    Ok(flows) => flows.iter().for_each(|flow| self.object(flow.get())),
                    Err(error) => (self.each)(Err(LineError::from_json(&error))),
                }
                self.depth -= 1;
            }
        }
    }

    /// The line that a collector was given; an empty one is nothing.
    fn inner(&mut self, text: &str) {
        let text = text.trim_ascii();
        if !text.is_empty() {
            self.text(text);
        }
    }
}

// === impl Aggregate ===

impl Aggregate {
    /// Numbers of 32 bits on the wire; others are none.
    fn counts(self) -> [(Option<Direction>, u64); 3] {
        let count = |number: Int| u32::try_from(number.0).map_or(0, u64::from);
        [
            (Some(Direction::Ingress), count(self.ingress_flow_count)),
            (Some(Direction::Egress), count(self.egress_flow_count)),
            (None, count(self.unknown_direction_flow_count)),
        ]
    }

    /// Whether all flows that it counts have one direction.
    pub(super) fn is_one_direction(self) -> bool {
        self.counts().iter().filter(|(_, count)| *count > 0).count() <= 1
    }

    /// What it says about a flow, all of one direction. A mask may have left the direction out of the flow:
    /// then it is the one that was counted.
    pub(super) fn apply(self, flow: &mut Flow) {
        if let Some((direction, count)) = self.counts().into_iter().find(|(_, count)| *count > 0) {
            flow.count = count;
            flow.direction = flow.direction.or(direction);
        }
    }

    /// One flow for each direction that it counts.
    fn split(self, flow: &Flow) -> Vec<Flow> {
        let counted = self.counts().into_iter().filter(|(_, count)| *count > 0);
        counted.map(|(direction, count)| Flow { direction, count, ..flow.clone() }).collect()
    }
}
