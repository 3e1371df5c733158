//! The record of the L7 proxy in a line. Headers, hosts and everything else that no rule is made of are
//! passed over. What is wrong in it makes no line unreadable: the flow stands without it.

use serde::Deserialize;

use super::values::{Enum, Text};
use super::{Decoder, UnknownKind, number, wire};
use crate::flow::{L7, L7Kind, L7Record};

#[derive(Deserialize)]
struct LineL7<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Enum<'a>,
    #[serde(borrow, default)]
    dns: Option<LineDns<'a>>,
    #[serde(borrow, default)]
    http: Option<LineHttp<'a>>,
}

#[derive(Deserialize)]
struct LineDns<'a> {
    #[serde(borrow, default)]
    query: Text<'a>,
}

#[derive(Deserialize)]
struct LineHttp<'a> {
    #[serde(borrow, default)]
    method: Text<'a>,
    #[serde(borrow, default)]
    url: Text<'a>,
}

/// A record that is no object, or has a wrong type in it, is one of which no rule is made.
pub(super) fn read(text: &str, decoder: &mut Decoder) -> L7 {
    match serde_json::from_str::<LineL7<'_>>(text) {
        Ok(l7) if text.starts_with('{') => l7.read(decoder),
        _ => {
            decoder.count_unknown(UnknownKind::L7Record, None);
            L7 { kind: L7Kind::Unknown, record: L7Record::Other }
        }
    }
}

// === impl LineL7 ===

impl LineL7<'_> {
    fn read(self, decoder: &mut Decoder) -> L7 {
        let kind = number(&self.kind, wire::L7FlowType::from_str_name, UnknownKind::L7Type, decoder);
        let record = match (self.dns, self.http) {
            (Some(dns), _) => decoder.dns(&dns.query.0),
            (None, Some(http)) => decoder.http(&http.method.0, &http.url.0),
            (None, None) => L7Record::Other,
        };
        L7 { kind: L7Kind::from_number(kind.unwrap_or(0)), record }
    }
}
