//! A difference made as small as it can be.

use serde_json::Value;

use super::case::Case;
use super::compare::{Difference, compare};
use super::judge::Judge;

/// How often both sides may be asked.
const BUDGET: usize = 600;

/// The smallest case found that still shows a difference of this kind.
pub(super) fn reduce(case: &Case, found: &Difference, judge: &mut Judge) -> (Case, Difference) {
    let mut best = (case.clone(), found.clone());
    if let Difference::Verdict { flow, .. } | Difference::Request { flow, .. } = found {
        let alone = Case { flows: vec![case.flows[*flow].clone()], ..case.clone() };
        try_case(alone, judge, &mut best);
    }
    let mut left = BUDGET;
    loop {
        let before = best.0.clone();
        for candidate in Candidates::of(&before) {
            if left == 0 {
                return best;
            }
            left -= 1;
            if try_case(candidate, judge, &mut best) {
                break;
            }
        }
        if size(&best.0) == size(&before) {
            return best;
        }
    }
}

fn size(case: &Case) -> usize {
    let question = case.question();
    serde_json::to_string(&question).map_or(0, |text| text.len())
}

fn try_case(case: Case, judge: &mut Judge, best: &mut (Case, Difference)) -> bool {
    let same = |d: &&Difference| match (&best.1, d) {
        (
            Difference::Verdict { egress, judge, cpg, .. },
            Difference::Verdict { egress: e, judge: j, cpg: c, .. },
        ) => egress == e && start(judge) == start(j) && cpg == c,
        (Difference::Request { judge, cpg, .. }, Difference::Request { judge: j, cpg: c, .. }) => {
            judge == j && cpg == c
        }
        (a, b) => std::mem::discriminant(a) == std::mem::discriminant(*b),
    };
    let Some(difference) = compare(&case, judge).differences.iter().find(same).cloned() else { return false };
    *best = (case, difference);
    true
}

/// What tells one error from another.
fn start(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Cases with one thing less.
struct Candidates;

impl Candidates {
    fn of(case: &Case) -> Vec<Case> {
        let mut all = Vec::new();
        for n in 0..case.documents.len() {
            let mut less = case.clone();
            less.documents.remove(n);
            all.push(less);
        }
        for name in case.ids.keys() {
            if case.flows.iter().all(|f| f.from != *name && f.to != *name) {
                let mut less = case.clone();
                less.ids.remove(name);
                all.push(less);
            }
        }
        for (n, document) in case.documents.iter().enumerate() {
            for smaller in smaller(document) {
                let mut less = case.clone();
                less.documents[n] = smaller;
                all.push(less);
            }
        }
        let defaults = serde_json::json!(cpg::engine::question::Opts::default());
        if serde_json::json!(case.opts) != defaults {
            let Value::Object(opts) = serde_json::json!(case.opts) else { return all };
            for name in opts.keys() {
                let mut opts = opts.clone();
                opts.remove(name);
                let opts = serde_json::from_value(Value::Object(opts)).expect("fewer options");
                all.push(Case { opts, ..case.clone() });
            }
        }
        for (name, id) in &case.ids {
            for n in 0..id.labels.len() {
                let mut less = case.clone();
                less.ids.get_mut(name).expect("there").labels.remove(n);
                all.push(less);
            }
            for port in id.named_ports.keys() {
                let mut less = case.clone();
                less.ids.get_mut(name).expect("there").named_ports.remove(port);
                all.push(less);
            }
        }
        for n in 0..case.flows.len() {
            let mut less = case.clone();
            less.flows.remove(n);
            all.push(less);
        }
        all
    }
}

/// A value with one member or item less, the largest ones first.
fn smaller(value: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    match value {
        Value::Object(map) => {
            for key in map.keys().filter(|key| !["apiVersion", "kind", "metadata"].contains(&key.as_str())) {
                let mut less = map.clone();
                less.remove(key);
                all.push(Value::Object(less));
            }
            for (key, member) in map {
                for member in smaller(member) {
                    let mut less = map.clone();
                    less.insert(key.clone(), member);
                    all.push(Value::Object(less));
                }
            }
        }
        Value::Array(list) => {
            for n in 0..list.len() {
                let mut less = list.clone();
                less.remove(n);
                all.push(Value::Array(less));
            }
            for (n, item) in list.iter().enumerate() {
                for item in smaller(item) {
                    let mut less = list.clone();
                    less[n] = item;
                    all.push(Value::Array(less));
                }
            }
        }
        _ => {}
    }
    all
}
