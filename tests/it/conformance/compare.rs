//! What both sides say to one case, and what of it differs.

use cpg::engine::Party;
use cpg::engine::question::{Answer, Answers, Id};
use serde_json::Value;

use super::case::Case;
use super::judge::Judge;

/// One thing about which both sides do not agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// One side takes this document, the other one does not.
    Refused { document: usize, judge: Option<String>, cpg: Option<String> },
    /// One side of one connection.
    Verdict { flow: usize, egress: bool, judge: String, cpg: String },
    /// What is inside of one connection.
    Request { flow: usize, judge: String, cpg: String },
    /// One of the two could not use the question at all.
    Question { judge: Option<String>, cpg: Option<String> },
}

/// What a case gave.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) differences: Vec<Difference>,
    /// What the judge said, of sides that have a policy.
    pub(super) verdicts: Vec<String>,
    pub(super) unchecked: Vec<String>,
    /// What the judge said of requests: the word, and what was asked about.
    pub(super) requests: Vec<String>,
    pub(super) validations: usize,
    /// Why the judge refused documents.
    pub(super) refused: Vec<String>,
}

/// How often a question is asked anew on which the judge panicked.
const RETRIES: usize = 30;

/// Sends the case to the judge and decides it meanwhile.
pub(super) fn compare(case: &Case, judge: &mut Judge) -> Outcome {
    let question = case.question();
    judge.send(&question);
    let ours = question.answer(judge.version);
    let mut theirs = judge.receive();
    // 1.19 has rules on which it panics now and then, by the order of a Go map: a plain rule that selects
    // the host next to one of layer 7 on the same port. What it says otherwise counts.
    for _ in 0..RETRIES {
        let panicked = |a: &Answers| a.flows.iter().any(|f| f.error.contains("panic:"));
        if !theirs.as_ref().is_ok_and(panicked) {
            break;
        }
        theirs = judge.ask(&question);
    }
    let mut outcome = Outcome::default();
    let (ours, theirs) = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (ours, theirs) => {
            let both = ours.is_err() && theirs.is_err();
            let difference = Difference::Question { judge: theirs.err(), cpg: ours.err() };
            outcome.differences.extend((!both).then_some(difference));
            return outcome;
        }
    };
    outcome.validations = case.documents.len();
    for document in 0..case.documents.len() {
        let reason = |a: &Answers| a.refused.iter().find(|r| r.index == document).map(|r| r.error.clone());
        let (judge, cpg) = (reason(&theirs), reason(&ours));
        outcome.refused.extend(judge.clone());
        if judge.is_some() != cpg.is_some() {
            outcome.differences.push(Difference::Refused { document, judge, cpg });
        }
    }
    if !outcome.differences.is_empty() {
        return outcome;
    }
    let cluster = "default";
    let has_policy = |name: &str| {
        let id: &Id = &case.ids[name];
        let party = Party::new(id.id, id.labels.iter().map(String::as_str));
        party.is_endpoint(cluster) && (case.opts.hostfw || id.id != 1)
    };
    for (flow, (theirs, ours)) in theirs.flows.iter().zip(&ours.flows).enumerate() {
        let sides = [
            (true, &theirs.egress, &ours.egress, &theirs.from),
            (false, &theirs.ingress, &ours.ingress, &theirs.to),
        ];
        for (egress, judge, cpg, subject) in sides {
            if !agree(judge, cpg, case) {
                let failed = if judge == "error" { &*theirs.error } else { "" };
                let judge = format!("{judge} {failed}").trim().to_owned();
                let cpg = format!("{cpg} {}", ours.error).trim().to_owned();
                outcome.differences.push(Difference::Verdict { flow, egress, judge, cpg });
            }
            if has_policy(subject) {
                outcome.verdicts.push(judge.clone());
                outcome.unchecked.extend(cpg.strip_prefix("unchecked:").map(str::to_owned));
            }
        }
    }
    for (flow, (theirs, ours)) in theirs.flows.iter().zip(&ours.flows).enumerate() {
        let kind = if case.flows[flow].dns.is_empty() { "sni" } else { "dns" };
        if !agree_inside(&theirs.request, ours, case) {
            let (judge, cpg) = (theirs.request.clone(), ours.request.clone());
            outcome.differences.push(Difference::Request { flow, judge, cpg });
        }
        if !theirs.request.is_empty() {
            let unchecked = if ours.request.starts_with("unchecked:") { " unchecked" } else { "" };
            outcome.requests.push(format!("{kind} {}{unchecked}", theirs.request));
        }
    }
    outcome
}

/// What a proxy answers. `proxy`: the judge does not know which one it is, or what it does; whoever asks
/// cpg is told so as well, or gets what holds for the proxy that is meant to answer.
fn agree_inside(judge: &str, cpg: &Answer, case: &Case) -> bool {
    match (judge, &*cpg.request) {
        ("proxy", _) => true,
        // What cannot be checked of the connection is not asked further, but for server names.
        (_, "") if cpg.egress.starts_with("unchecked:") => true,
        (judge, cpg) if cpg.starts_with("unchecked:") => {
            ["allow", "refuse"].contains(&judge) && agree(judge, cpg, case)
        }
        (judge, cpg) => judge == cpg,
    }
}

/// The same verdict; or one that cannot be checked, with a reason that is there, and for which what the
/// judge says is possible.
fn agree(judge: &str, cpg: &str, case: &Case) -> bool {
    let Some(field) = cpg.strip_prefix("unchecked:") else { return judge == cpg };
    match field {
        "conflict" => judge == "error",
        "serverNames" => judge == "redirect" && names(case, "serverNames"),
        "authentication" => ["allow", "redirect"].contains(&judge) && names(case, "authentication"),
        "toServices" | "fromGroups" | "toGroups" => names(case, field),
        "fromCIDRSet" | "toCIDRSet" => {
            names(case, field) && (names(case, "cidrGroupRef") || names(case, "cidrGroupSelector"))
        }
        _ => false,
    }
}

/// Whether some document has this member, with something in it.
fn names(case: &Case, member: &str) -> bool {
    fn within(value: &Value, member: &str) -> bool {
        match value {
            Value::Object(map) => {
                map.iter().any(|(key, value)| (key == member && !value.is_null()) || within(value, member))
            }
            Value::Array(list) => list.iter().any(|value| within(value, member)),
            _ => false,
        }
    }
    case.documents.iter().any(|document| within(document, member))
}
