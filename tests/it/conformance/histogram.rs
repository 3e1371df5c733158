//! How many cases met which field, form and answer.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::case::Case;
use super::compare::Outcome;

/// What has been met, in how many cases.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    cases: usize,
    met: BTreeMap<String, usize>,
    answers: BTreeMap<String, usize>,
    requests: BTreeMap<String, usize>,
    refused: BTreeMap<String, usize>,
}

/// Members whose name alone is of interest, wherever they stand.
const MEMBERS: &[&str] = &[
    "nodeSelector",
    "endpointSelector",
    "podSelector",
    "namespaceSelector",
    "ipBlock",
    "policyTypes",
    "specs",
    "ingress",
    "ingressDeny",
    "egress",
    "egressDeny",
    "enableDefaultDeny",
    "matchLabels",
    "matchExpressions",
    "fromEndpoints",
    "toEndpoints",
    "fromEntities",
    "toEntities",
    "fromCIDR",
    "toCIDR",
    "fromCIDRSet",
    "toCIDRSet",
    "toFQDNs",
    "toServices",
    "fromNodes",
    "toNodes",
    "fromGroups",
    "toGroups",
    "except",
    "cidrGroupRef",
    "icmps",
    "toPorts",
    "endPort",
    "rules",
    "http",
    "dns",
    "kafka",
    "l7proto",
    "serverNames",
    "terminatingTLS",
    "originatingTLS",
    "listener",
    "authentication",
];

/// What every run must meet, beside [`MEMBERS`].
const FORMS: &[&str] = &[
    "kind CiliumNetworkPolicy",
    "kind CiliumClusterwideNetworkPolicy",
    "kind NetworkPolicy",
    "peers empty",
    "peers null",
    "peers absent",
    "port 0",
    "port named",
    "port range",
    "protocol ANY",
    "protocol TCP",
    "protocol UDP",
    "protocol SCTP",
    "protocol absent",
    "type 0",
    "operator In",
    "operator NotIn",
    "operator Exists",
    "operator DoesNotExist",
    "source reserved",
    "source k8s",
    "source any",
    "zero prefix",
    "answer allow",
    "answer redirect",
    "answer deny",
    "answer default-deny",
    "answer error",
    "answer refused",
    "request dns allow",
    "request dns refuse",
    "request sni allow",
    "request sni refuse",
];

impl Histogram {
    pub(super) fn add(&mut self, case: &Case, outcome: &Outcome) {
        let mut met = BTreeSet::new();
        for document in &case.documents {
            walk(document, &mut met);
        }
        for reason in &outcome.refused {
            let reason = reason.split_once("Policy spec: ").map_or(&**reason, |(_, reason)| reason);
            let reason: String = reason.chars().filter(|c| !c.is_ascii_digit()).take(32).collect();
            *self.refused.entry(reason).or_default() += 1;
        }
        for verdict in &outcome.verdicts {
            *self.answers.entry(verdict.clone()).or_default() += 1;
        }
        for request in &outcome.requests {
            *self.requests.entry(request.clone()).or_default() += 1;
        }
        met.extend(outcome.requests.iter().map(|request| format!("request {request}")));
        met.extend(outcome.verdicts.iter().map(|verdict| format!("answer {verdict}")));
        met.extend(outcome.unchecked.iter().map(|field| format!("unchecked {field}")));
        if !outcome.refused.is_empty() {
            met.insert("answer refused".into());
        }
        let Value::Object(opts) = serde_json::json!(case.opts) else { unreachable!("options are a map") };
        met.extend(opts.keys().map(|name| format!("option {name}")));
        self.cases += 1;
        for name in met {
            *self.met.entry(name).or_default() += 1;
        }
    }

    /// One line for each, in percent of the cases.
    pub(super) fn print(&self) {
        println!("verdicts: {:?}", self.answers);
        println!("requests: {:?}", self.requests);
        println!("refused: {:?}", self.refused);
        println!("of {} cases, in percent:", self.cases);
        let lines: Vec<String> =
            self.met.iter().map(|(name, count)| format!("{name} {:.1}", self.percent(*count))).collect();
        for line in lines.chunks(6) {
            println!("  {}", line.join(" | "));
        }
    }

    fn percent(&self, count: usize) -> f64 {
        100.0 * count as f64 / self.cases.max(1) as f64
    }

    /// What fewer than one percent of the cases met.
    pub(super) fn rare(&self) -> Vec<String> {
        let wanted = MEMBERS.iter().chain(FORMS);
        let rare = wanted.filter(|name| self.percent(self.met.get(**name).copied().unwrap_or(0)) < 1.0);
        rare.map(|name| (*name).to_owned()).collect()
    }
}

fn walk(value: &Value, met: &mut BTreeSet<String>) {
    let mut note = |text: &str| {
        met.insert(text.to_owned());
    };
    match value {
        Value::Array(list) => list.iter().for_each(|item| walk(item, met)),
        Value::Object(map) => {
            let has_l4 = ["toPorts", "icmps", "ports"].iter().any(|name| map.contains_key(*name));
            let is_peer =
                |key: &str| (key.starts_with("from") || key.starts_with("to")) && !["toPorts"].contains(&key);
            if has_l4 && !map.keys().any(|key| is_peer(key)) && !map.contains_key("rules") {
                note("peers absent");
            }
            for (key, member) in map {
                if MEMBERS.contains(&key.as_str()) && !member.is_null() {
                    note(key);
                }
                let text = member.as_str().unwrap_or_default();
                match key.as_str() {
                    "kind" if text.ends_with("Policy") => note(&format!("kind {text}")),
                    "operator" | "protocol" => note(&format!("{key} {text}")),
                    "port" if text == "0" => note("port 0"),
                    "port" if text.starts_with(|c: char| c.is_ascii_alphabetic()) => note("port named"),
                    "port" if !map.contains_key("protocol") => note("protocol absent"),
                    "endPort" => note("port range"),
                    "type" if *member == serde_json::json!(0) => note("type 0"),
                    "cidr" if text.ends_with("/0") => note("zero prefix"),
                    "matchLabels" => {
                        for key in member.as_object().into_iter().flat_map(|labels| labels.keys()) {
                            let source = key.split_once(':').map_or("any", |(source, _)| source);
                            note(&format!("source {source}"));
                        }
                    }
                    _ if is_peer(key) && member.is_null() => note("peers null"),
                    _ if is_peer(key) && *member == serde_json::json!([]) => note("peers empty"),
                    _ if is_peer(key) && key.ends_with("Entities") => {
                        for entity in member.as_array().into_iter().flatten().filter_map(Value::as_str) {
                            note(&format!("entity {entity}"));
                        }
                    }
                    _ => {}
                }
            }
            map.values().for_each(|member| walk(member, met));
        }
        _ => {}
    }
}
