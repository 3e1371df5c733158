//! Places of paths that vary, opened: `--l7-collapse-paths`.
//!
//! By kind (numbers, UUIDs, hashes) each path by itself is enough. By number it takes more than `above`
//! different values at one place of paths that are the same everywhere else, of one subject, direction,
//! peer, port and method. What stands in the file counts too, and what the session saw before, so the
//! windows and the order in which paths come make no difference to a session's result. Between sessions
//! only the file is known, and a place that was opened there has no values any more that could count for
//! another place. The first segment is never opened by number: it says which API is meant.

use std::collections::{BTreeMap, BTreeSet};

use super::http::opened;
use crate::aggregate::Observed;
use crate::aggregate::Request;
use crate::classify::Skip;
use crate::flow::Direction;
use crate::policy::{Allow, HttpMatch, L7Match, PathForm, Peer, Rule, Segment, Subject};

use super::{Built, rule};

/// Paths that are remembered to count values; of more only the file and the window count.
const MOST: usize = 50_000;

/// Opens places of paths.
#[derive(Debug, Clone, Default)]
pub struct Collapse {
    /// So many values at one place are written as they are; `None`: however many.
    above: Option<usize>,
    seen: BTreeMap<Place, BTreeSet<PathForm>>,
    held: usize,
    beyond: u64,
}

/// Whose requests, to whom, by which method.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    subject: Subject,
    direction: Direction,
    peer: Peer,
    allow: Allow,
    method: Box<str>,
}

// === impl Collapse ===

impl Collapse {
    /// Opens by kind, and where more than `above` values were seen; `None`: by kind only.
    pub fn new(above: Option<usize>) -> Self {
        Self { above, ..Self::default() }
    }

    /// Paths that there was no room for: their values may count too little.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// The same with places opened. What was held for what is in its path is a rule then. `known` are the
    /// rules in a subject's files.
    pub fn open(&mut self, built: Built, mut known: impl FnMut(&Subject) -> Vec<Rule>) -> Built {
        let mut result = Built::default();
        let mut requests: BTreeMap<Place, Vec<(PathForm, Observed)>> = BTreeMap::new();
        for (observed, skip) in built.skipped {
            match place_of(&observed, skip) {
                Some((place, form)) => requests.entry(place).or_default().push((form, observed)),
                None => result.skipped.push((observed, skip)),
            }
        }
        for (subject, rules) in built.policies {
            for (rule, observed) in rules {
                let form = match &rule.l7 {
                    Some(L7Match::Http(http)) => {
                        PathForm::parse(&http.path).map(|f| (f, http.method.clone()))
                    }
                    _ => None,
                };
                let Some((form, method)) = form else {
                    result.policies.entry(subject.clone()).or_default().insert(rule, observed);
                    continue;
                };
                let form = opened(&form).unwrap_or(form);
                let Rule { direction, peer, allow, l7: _ } = rule;
                let place = Place { subject: subject.clone(), direction, peer, allow, method };
                let of_place = requests.entry(place).or_default();
                of_place.extend(observed.into_iter().map(|observed| (form.clone(), observed)));
            }
        }
        let mut files: BTreeMap<Subject, Vec<Rule>> = BTreeMap::new();
        for (place, requests) in requests {
            let file = files.entry(place.subject.clone()).or_insert_with_key(&mut known);
            let forms: BTreeSet<PathForm> = requests.iter().map(|(form, _)| form.clone()).collect();
            let open = self.closed(&place, &forms, file);
            let rules = result.policies.entry(place.subject.clone()).or_default();
            for (form, observed) in requests {
                let covering: Vec<&PathForm> = open.iter().filter(|open| open.covers(&form)).collect();
                let forms = if covering.is_empty() { vec![&form] } else { covering };
                for form in forms {
                    rules.entry(place.rule(form)).or_default().push(observed.clone());
                }
            }
        }
        result
    }

    /// The widest open forms after these paths came.
    fn closed(&mut self, place: &Place, new: &BTreeSet<PathForm>, file: &[Rule]) -> BTreeSet<PathForm> {
        let mut facts: BTreeSet<PathForm> = file.iter().filter_map(|rule| place.form_in(rule)).collect();
        if self.above.is_some() {
            let seen = self.seen.entry(place.clone()).or_default();
            facts.extend(seen.iter().cloned());
            for form in new {
                if self.held < MOST {
                    self.held += usize::from(seen.insert(form.clone()));
                } else {
                    self.beyond += u64::from(!seen.contains(form));
                }
            }
        }
        facts.extend(new.iter().cloned());
        while let Some(above) = self.above {
            let more: Vec<PathForm> =
                by_number(&facts, above).into_iter().filter(|form| !facts.contains(form)).collect();
            if more.is_empty() {
                break;
            }
            facts.extend(more);
        }
        let open: BTreeSet<PathForm> = facts.into_iter().filter(PathForm::is_open).collect();
        let widest = |form: &&PathForm| !open.iter().any(|other| other != *form && other.covers(form));
        open.iter().filter(widest).cloned().collect()
    }
}

/// The forms with one more place open, at which there are more than `above` different values.
fn by_number(facts: &BTreeSet<PathForm>, above: usize) -> Vec<PathForm> {
    let mut values: BTreeMap<PathForm, usize> = BTreeMap::new();
    for form in facts {
        for (at, segment) in form.segments().iter().enumerate().skip(1) {
            if matches!(segment, Segment::Exactly(text) if !text.is_empty()) {
                let mut segments = form.segments().to_vec();
                segments[at] = Segment::Any;
                if let Some(open) = PathForm::of(segments) {
                    *values.entry(open).or_default() += 1;
                }
            }
        }
    }
    values.into_iter().filter(|(_, values)| *values > above).map(|(form, _)| form).collect()
}

/// Where a request belongs that is held for what is in its path.
fn place_of(observed: &Observed, skip: Skip) -> Option<(Place, PathForm)> {
    let Some(Request::Http { method, path }) =
        observed.0.request.as_ref().filter(|_| skip == Skip::PathSecret)
    else {
        return None;
    };
    let form = opened(&PathForm::exactly(path)?)?;
    let mut plain = observed.0.clone();
    plain.request = None;
    let (subject, Rule { direction, peer, allow, l7: _ }) = rule(&plain).ok()?;
    Some((Place { subject, direction, peer, allow, method: method.clone() }, form))
}

// === impl Place ===

impl Place {
    fn rule(&self, form: &PathForm) -> Rule {
        let http = HttpMatch { method: self.method.clone(), path: form.to_string().into() };
        Rule {
            direction: self.direction,
            peer: self.peer.clone(),
            allow: self.allow,
            l7: Some(L7Match::Http(http)),
        }
    }

    fn form_in(&self, rule: &Rule) -> Option<PathForm> {
        let Some(L7Match::Http(http)) = &rule.l7 else { return None };
        let same = rule.direction == self.direction
            && rule.peer == self.peer
            && rule.allow == self.allow
            && http.method == self.method;
        PathForm::parse(&http.path).filter(|_| same)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::aggregate::{Observation, ObservedPeer, Tally};
    use crate::build::build;
    use crate::flow::{Identity, Port, Protocol};
    use crate::names::PolicyName;
    use crate::policy::{Entity, Policy};

    fn request(path: &str) -> Observed {
        let observation = Observation {
            subject: Arc::new(Identity::new(300, "shop", "", ["k8s:app=web"])),
            direction: Direction::Ingress,
            peer: ObservedPeer::Entity(Entity::Ingress),
            allow: Allow::Port(Protocol::Tcp, Port::new(80).unwrap()),
            request: Some(Request::Http { method: "GET".into(), path: path.into() }),
        };
        (observation, Tally::default())
    }

    /// What is in the file after these windows.
    fn written(collapse: &mut Collapse, file: &[Rule], windows: &[&[&str]]) -> Vec<String> {
        let rules = file_after(collapse, file, windows);
        let path = |rule: &Rule| match &rule.l7 {
            Some(L7Match::Http(http)) => http.path.trim_end_matches(r"(\?.*)?").to_owned(),
            other => panic!("{other:?}"),
        };
        let mut paths: Vec<String> = rules.iter().map(path).collect();
        paths.sort();
        paths
    }

    fn file_after(collapse: &mut Collapse, file: &[Rule], windows: &[&[&str]]) -> Vec<Rule> {
        let subject = build(vec![request("/")]).policies.into_keys().next().unwrap();
        let mut policy = Policy::new(PolicyName::parse("cpg-web").unwrap(), subject);
        file.iter().for_each(|rule| assert!(policy.add(rule.clone())));
        for window in windows {
            let built = build(window.iter().map(|path| request(path)).collect());
            let built = collapse.open(built, |_| policy.rules().collect());
            assert!(built.skipped.is_empty());
            for rule in built.policies.into_values().flat_map(BTreeMap::into_keys) {
                policy.add(rule);
            }
        }
        policy.rules().collect()
    }

    fn check(above: Option<usize>, paths: &[&str], expected: &[&str]) {
        assert_eq!(written(&mut Collapse::new(above), &[], &[paths]), expected, "{paths:?}");
    }

    #[test]
    fn by_kind_and_by_number() {
        check(None, &["/i/1", "/i/2", "/i/new"], &["/i/[^/]+"]);
        check(None, &["/i/1/x", "/i/2/x", "/i/new/x"], &["/i/[^/]+/x"]);
        check(None, &["/i/1/x", "/i/2/y", "/i/new/z"], &["/i/[^/]+/x", "/i/[^/]+/y", "/i/new/z"]);
        check(None, &["/u/a", "/u/b", "/u/c"], &["/u/a", "/u/b", "/u/c"]);
        check(Some(2), &["/u/a", "/u/b"], &["/u/a", "/u/b"]);
        check(Some(2), &["/u/a", "/u/b", "/u/c"], &["/u/[^/]+"]);
        check(Some(2), &["/u/a/x", "/u/b/x", "/u/c/y"], &["/u/a/x", "/u/b/x", "/u/c/y"]);
        check(Some(2), &["/a", "/b", "/c", "/d"], &["/a", "/b", "/c", "/d"]);
        check(Some(2), &["/u/", "/u/a", "/u/b", "/u/c"], &["/u/", "/u/[^/]+"]);
        check(
            Some(1),
            &["/u/a/o/1x", "/u/a/o/2x", "/u/b/o/1x", "/u/b/o/2x", "/u/c/o/3x"],
            &["/u/[^/]+/o/[^/]+"],
        );
        let jwt = "/r/eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.";
        check(None, &[jwt, "/r/plain"], &["/r/[^/]+"]);
    }

    #[test]
    fn the_file_counts_too() {
        let first = file_after(&mut Collapse::new(Some(2)), &[], &[&["/u/a", "/u/b"]]);
        assert_eq!(first.len(), 2);
        assert_eq!(written(&mut Collapse::new(Some(2)), &first, &[&["/u/c"]]), ["/u/[^/]+"]);
        let open = file_after(&mut Collapse::new(Some(2)), &[], &[&["/u/a", "/u/b", "/u/c"]]);
        assert_eq!(written(&mut Collapse::new(Some(2)), &open, &[&["/u/d"]]), ["/u/[^/]+"]);
    }

    proptest! {
        #[test]
        fn windows_and_order_make_no_difference(
            paths in prop::collection::vec("/[uv]/[a-c]/[x-z]", 1..20),
            above in 0usize..4,
            cut in 0usize..20,
            seed in any::<u64>(),
        ) {
            let all: Vec<&str> = paths.iter().map(String::as_str).collect();
            let whole = written(&mut Collapse::new(Some(above)), &[], &[&all]);
            let mut mixed = all.clone();
            mixed.sort_by_key(|path| xxhash_rust::xxh3::xxh3_64_with_seed(path.as_bytes(), seed));
            let (one, two) = mixed.split_at(cut.min(mixed.len()));
            let parts = written(&mut Collapse::new(Some(above)), &[], &[one, two]);
            prop_assert_eq!(&parts, &whole);
            let again = written(&mut Collapse::new(Some(above)), &[], &[&all, &mixed]);
            prop_assert_eq!(&again, &whole);
        }
    }
}
