//! No rule is written before the engine has confirmed it: the document alone must allow each of the
//! observations behind it. What fails here is a fault of cpg's own.

use std::collections::BTreeMap;

use super::{Said, ask, decide, premises};
use crate::aggregate::{Observation, Observed, Request};
use crate::engine::{Allowance, Engine, RequestDecision};
use crate::policy::spec::{Options, Version, sanitise};
use crate::policy::{Policy, Rule, read_documents};

/// A rule that must not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The rule.
    pub rule: Rule,
    /// What the engine said instead, for the report of the fault.
    pub why: String,
}

/// The rules of `policy` that do not allow one of the observations behind them, judged by the bytes that
/// would be written.
pub fn confirm(policy: &Policy, behind: &BTreeMap<Rule, Vec<Observed>>) -> Vec<Unconfirmed> {
    let all = |why: String| {
        behind.keys().map(|rule| Unconfirmed { rule: rule.clone(), why: why.clone() }).collect::<Vec<_>>()
    };
    let specs = policy.render().map_err(|e| e.to_string()).and_then(|text| {
        let documents = read_documents(&text).map_err(|e| e.to_string())?;
        let [document] = documents.as_slice() else { return Err("not one document".to_owned()) };
        sanitise(document, &Options::of(Version::V1_19)).map_err(|findings| {
            findings.first().map_or_else(String::new, |f| format!("{}: {}", f.path, f.message))
        })
    });
    let specs = match specs {
        Ok(specs) => specs,
        Err(why) => return all(format!("the document would be refused: {why}")),
    };
    let mut engines: BTreeMap<Box<str>, Engine> = BTreeMap::new();
    let mut unconfirmed = Vec::new();
    for (rule, observed) in behind {
        for (observation, _) in observed {
            let cluster = super::cluster_of(observation);
            let engine = engines
                .entry(cluster.into())
                .or_insert_with(|| Engine::new(specs.clone(), premises(cluster)));
            let said = match asked(engine, observation, rule) {
                Said::Allowed(_) => continue,
                Said::Denied(rules) => format!("{rules:?}"),
                Said::Nothing(said) => said,
            };
            // What was asked may be nothing to print; the rule says it as far as it may be said.
            let connection = Observation { request: None, ..observation.clone() };
            let why = format!("it does not allow {connection:?}: {said}");
            unconfirmed.push(Unconfirmed { rule: rule.clone(), why });
            break;
        }
    }
    unconfirmed
}

/// What is said of an observation for this rule's sake. A query is asked by the protocol of the rule: it came
/// by one and may come by the other; and the proxy has to see it, or no address is learnt by its name.
fn asked<'e>(engine: &'e Engine, observation: &Observation, rule: &Rule) -> Said<'e> {
    let Some(Request::Dns(_)) = &observation.request else { return ask(engine, observation) };
    let observation = Observation { allow: rule.allow, ..observation.clone() };
    match decide(engine, &observation) {
        RequestDecision::Allowed { by: Allowance::Rule, rules } => Said::Allowed(rules),
        other => Said::Nothing(format!("{other:?}")),
    }
}
