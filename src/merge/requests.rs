//! The requests that an item of `toPorts` asks for, and what they are to a needed one.

use serde_json::{Map, Value, json};

use crate::names::DnsName;
use crate::policy::{HttpMatch, L7Match};

/// What may be said on the ports of an item.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said<'a> {
    /// Anything: no `rules`, or only empty ones.
    Anything,
    /// What one of these `http` rules matches.
    Http(&'a [Value]),
    /// What one of these `dns` rules matches.
    Dns(&'a [Value]),
    /// Requests of a protocol that cpg does not write, or of several.
    Other,
}

// === impl Said ===

impl<'a> Said<'a> {
    /// The agent counts L7 rules: `rules: {}` and `rules: {http: []}` are none.
    pub(super) fn on(item: &'a Map<String, Value>) -> Self {
        let rules = match item.get("rules") {
            None | Some(Value::Null) => return Self::Anything,
            Some(Value::Object(rules)) => rules,
            Some(_) => return Self::Other,
        };
        let mut said = Self::Anything;
        for (key, value) in rules {
            let next = match value {
                Value::Null => continue,
                Value::Array(list) if list.is_empty() => continue,
                Value::Array(list) if key == "http" => Self::Http(list),
                Value::Array(list) if key == "dns" => Self::Dns(list),
                _ => Self::Other,
            };
            said = if matches!(said, Self::Anything) { next } else { Self::Other };
        }
        said
    }

    /// Each request in the words of cpg; `None` where one of them says something else or more.
    pub(super) fn requests(self) -> Option<Vec<L7Match>> {
        match self {
            Self::Anything => Some(Vec::new()),
            Self::Http(list) => list.iter().map(|rule| http(rule).map(L7Match::Http)).collect(),
            Self::Dns(list) => list.iter().map(|rule| dns(rule).map(L7Match::Dns)).collect(),
            Self::Other => None,
        }
    }

    /// Whether one of these rules surely matches what is needed: an equal one, or one that leaves out what
    /// it does not mind. What else an expression or a pattern may match is not looked at here.
    pub(super) fn covers(self, need: &L7Match) -> bool {
        match (self, need) {
            (Self::Http(list), L7Match::Http(need)) => list.iter().any(|rule| {
                let says = |(key, value): (&String, &Value)| match key.as_str() {
                    "method" => value.as_str() == Some(&need.method),
                    "path" => value.as_str() == Some(&need.path),
                    _ => false,
                };
                rule.as_object().is_some_and(|rule| rule.iter().all(says))
            }),
            (Self::Dns(list), L7Match::Dns(need)) => list.iter().any(|rule| {
                dns(rule).as_ref() == Some(need)
                    || rule.get("matchPattern").and_then(Value::as_str) == Some("*")
            }),
            _ => false,
        }
    }

    /// Whether a needed request may stand in the same list.
    pub(super) fn takes(self, need: &L7Match) -> bool {
        matches!((self, need), (Self::Http(_), L7Match::Http(_)) | (Self::Dns(_), L7Match::Dns(_)))
    }
}

/// The list below `rules` that a request stands in.
pub(super) fn key(request: &L7Match) -> &'static str {
    match request {
        L7Match::Http(_) => "http",
        L7Match::Dns(_) => "dns",
    }
}

/// A request as it is written.
pub(super) fn written(request: &L7Match) -> Value {
    match request {
        L7Match::Http(HttpMatch { method, path }) => json!({ "method": method, "path": path }),
        L7Match::Dns(name) => json!({ "matchName": name.as_str() }),
    }
}

fn http(rule: &Value) -> Option<HttpMatch> {
    let rule = rule.as_object().filter(|rule| rule.len() == 2)?;
    let text = |key: &str| rule.get(key)?.as_str();
    Some(HttpMatch { method: text("method")?.into(), path: text("path")?.into() })
}

/// `matchName`, of a dns rule or of `toFQDNs`; nothing else beside it.
pub(super) fn dns(rule: &Value) -> Option<DnsName> {
    let rule = rule.as_object().filter(|rule| rule.len() == 1)?;
    DnsName::parse(rule.get("matchName")?.as_str()?).ok()
}
