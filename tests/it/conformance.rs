//! The engine held against Cilium's own: cases made at random, decided by both.
//!
//! The judge is the testbed's program, named by `CPG_TESTBED` (Cilium 1.19) and, if there is one, by
//! `CPG_TESTBED_120` (1.20). A difference is made as small as it can be and printed as a question that
//! either side answers: `cpg dev decide` and `testbed decide`. Put it below `tests/conformance/` once it
//! is settled; what stands there is asked first, and also without a judge.

mod case;
mod compare;
mod histogram;
mod judge;
mod policies;
mod random;
mod reduce;

use std::path::{Path, PathBuf};
use std::time::Instant;

use cpg::engine::question::Question;
use cpg::policy::spec::Version;
use serde::Deserialize;

use case::Case;
use compare::{Difference, compare};
use histogram::Histogram;
use judge::Judge;
use random::Random;

/// What a run decides unless `CPG_CONFORMANCE_VERDICTS` says otherwise.
const VERDICTS: usize = 100_000;

/// At most this many percent of the verdicts may be `unchecked`.
const UNCHECKED: usize = 5;

/// Differences that are reduced and printed; the others are only counted.
const SHOWN: usize = 5;

/// One settled question: what each version answers to its flows.
#[derive(Debug, Deserialize)]
struct Settled {
    question: Question,
    /// The versions that answer so.
    versions: Vec<String>,
    /// For each flow: egress, ingress, and what the proxy of the egress says of a request.
    answers: Vec<Vec<String>>,
}

fn settled() -> Vec<(PathBuf, Settled)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&dir).expect("tests/conformance is there") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|e| e == "json") {
            let text = std::fs::read_to_string(&path).expect("readable");
            let settled = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            all.push((path, settled));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!all.is_empty(), "{} is empty", dir.display());
    all
}

#[test]
fn settled_questions_stay_settled() {
    let mut judges = judges();
    for (path, settled) in settled() {
        for version in settled.versions.iter().map(|v| Version::parse(v).expect("a version")) {
            let ours = settled.question.answer(version);
            let theirs = judges.iter_mut().find(|j| j.version == version).map(|j| j.ask(&settled.question));
            for (who, answers) in [("cpg", Some(ours)), ("the judge", theirs)] {
                let Some(answers) = answers else { continue };
                let flows = answers.expect("an answer").flows;
                for (answer, words) in flows.iter().zip(&settled.answers) {
                    let [egress, ingress, request @ ..] = words.as_slice() else { panic!("two words") };
                    let request = request.first().map_or("", String::as_str);
                    let says = |got: &str, expected: &str| {
                        got == expected || (who != "cpg" && expected.starts_with("unchecked:"))
                    };
                    assert!(
                        says(&answer.egress, egress)
                            && says(&answer.ingress, ingress)
                            && says(&answer.request, request),
                        "{}: {who}, {version}: {answer:?}, not {egress}, {ingress} and {request:?}",
                        path.display()
                    );
                }
                assert_eq!(flows.len(), settled.answers.len(), "{}", path.display());
            }
        }
    }
}

/// The judges that the environment names.
fn judges() -> Vec<Judge> {
    let named = [("CPG_TESTBED", Version::V1_19), ("CPG_TESTBED_120", Version::V1_20)];
    let start = |(name, version)| std::env::var(name).ok().map(|binary| Judge::start(&binary, version));
    named.into_iter().filter_map(start).collect()
}

#[test]
fn the_engine_decides_as_cilium_does() {
    let mut judges = judges();
    if judges.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "CPG_TESTBED must name the judge where CI is set");
        println!("skipped: CPG_TESTBED names no judge");
        return;
    }
    let number =
        |name: &str, default| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let wanted: usize = number("CPG_CONFORMANCE_VERDICTS", VERDICTS);
    let seed = number("CPG_CONFORMANCE_SEED", 1);
    let started = Instant::now();
    let mut histogram = Histogram::default();
    let (mut verdicts, mut validations, mut unchecked, mut differences) = (0, 0, 0, 0);
    let (mut requests, mut open_requests) = (0, 0);
    let mut random = Random::new(u64::try_from(seed).expect("a seed"));
    let mut turn = 0;
    while verdicts < wanted {
        let count = judges.len();
        let judge = &mut judges[turn % count];
        turn += 1;
        let case = Case::generate(&mut random);
        let outcome = compare(&case, judge);
        for difference in &outcome.differences {
            if differences < SHOWN {
                show(&case, difference, judge);
            }
            differences += 1;
        }
        verdicts += outcome.verdicts.len();
        validations += outcome.validations;
        unchecked += outcome.unchecked.len();
        requests += outcome.requests.len();
        open_requests += outcome.requests.iter().filter(|r| r.ends_with("unchecked")).count();
        histogram.add(&case, &outcome);
    }
    histogram.print();
    println!("unchecked: {unchecked} of {verdicts}; seed {seed}, {:.0?}", started.elapsed());
    println!("requests: {requests}, unchecked: {open_requests}");
    println!("conformance: {verdicts} verdicts, {validations} validations, {differences} differences");
    assert_eq!(differences, 0, "see above");
    assert!(unchecked * 100 <= verdicts * UNCHECKED, "{unchecked} of {verdicts} could not be checked");
    if wanted >= VERDICTS {
        let rare = histogram.rare();
        assert!(rare.is_empty(), "met by less than one percent of the cases: {rare:?}");
    }
}

fn show(case: &Case, difference: &Difference, judge: &mut Judge) {
    let (case, difference) = reduce::reduce(case, difference, judge);
    println!("difference, Cilium {}: {difference:?}", judge.version);
    println!("{}", serde_json::to_string(&case.question()).expect("JSON"));
}
