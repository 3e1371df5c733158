//! HTTP requests on their way to rules: what is held back for what is in its path, what is opened by
//! `--l7-collapse-paths`, and what to do when no proxy wrote anything down.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::xxh3_64;

use super::{Held, Results};
use crate::aggregate::{Request, Smallest};
use crate::build::{Built, Collapse, held_request};
use crate::classify::Skip;
use crate::flow::Namespaces;
use crate::merge::{Says, written};
use crate::policy::{L7Match, PathForm, Policy, Rule, Subject, read_documents};
use crate::store::Store;
use crate::text::visible;

/// Different paths of a rule that are told apart exactly.
pub const PATHS: usize = 64;

/// The different paths that were seen of each rule with open places.
pub type Opened = BTreeMap<(Subject, Rule), Smallest<PATHS>>;

/// Opens places where that was asked for, and holds back what is not to be written down.
pub(super) fn through(
    built: Built,
    collapse: Option<&mut Collapse>,
    store: &Store,
    results: &mut Results,
) -> Built {
    let built = match collapse {
        Some(collapse) => {
            let built = collapse.open(built, |subject| rules_there(store, subject).into_iter().collect());
            results.paths_beyond = collapse.beyond();
            built
        }
        None => built,
    };
    for ((observation, tally), _) in built.skipped.iter().filter(|(_, skip)| *skip == Skip::PathSecret) {
        let Some(held) = held_request(observation) else { continue };
        let what = format!("{} HTTP {} {}", held.rule, held.method, held.masked);
        let proposal = match held.proposed {
            Some(http) => format!(
                "--l7-collapse-paths writes {}, which opens every value of the open segments",
                L7Match::Http(http)
            ),
            None => "write a rule for it by hand".to_owned(),
        };
        let held = Held {
            reason: Skip::PathSecret,
            who: visible(&held.subject.to_string(), 1_000).into_owned(),
            what: visible(&what, 2_500).into_owned(),
            proposal: visible(&proposal, 2_500).into_owned(),
        };
        results.held.add(held, tally.events());
    }
    for (subject, rules) in &built.policies {
        for (rule, observed) in rules {
            if !is_open(rule) {
                continue;
            }
            let paths = results.opened.entry((subject.clone(), rule.clone())).or_default();
            for (observation, _) in observed {
                if let Some(Request::Http { path, .. }) = &observation.request {
                    paths.insert(xxh3_64(path.as_bytes()));
                }
            }
        }
    }
    built
}

/// The rules that stand in the files of a subject as cpg would write them.
pub(super) fn rules_there(store: &Store, subject: &Subject) -> BTreeSet<Rule> {
    let mut rules = BTreeSet::new();
    for (_, home, text) in store.holders(subject) {
        if let Some(policy) = Policy::from_canonical(&text) {
            rules.extend(policy.rules().map(|rule| crate::merge::meaning(&rule, &subject.namespace)));
            continue;
        }
        let Ok(documents) = read_documents(&text) else { continue };
        rules.extend(written(&documents, home.as_ref(), subject).into_iter().filter_map(|w| match w.says {
            Says::Rule(rule) => Some(rule),
            Says::Other(..) => None,
        }));
    }
    rules
}

/// What helps when `--l7` was given and no proxy wrote down any request.
pub(super) fn no_requests(namespaces: &Namespaces) -> String {
    let names = match namespaces {
        Namespaces::All => "NAMESPACE".to_owned(),
        Namespaces::Only(set) => {
            set.iter().map(|namespace| namespace.as_str()).collect::<Vec<_>>().join(" -n ")
        }
    };
    format!(
        "--l7 saw no HTTP request: Hubble tells of requests only where a policy sends the port to Cilium's proxy; \
         `cpg bootstrap l7-visibility -n {names}` prints one that does and lets every request pass"
    )
}

fn is_open(rule: &Rule) -> bool {
    match &rule.l7 {
        Some(L7Match::Http(http)) => PathForm::parse(&http.path).is_some_and(|form| form.is_open()),
        Some(L7Match::Dns(_)) | None => false,
    }
}
