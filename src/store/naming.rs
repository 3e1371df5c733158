//! What a workload's file is called: a function of its selector alone.

use crate::names::WorkloadName;
use crate::policy::{IDENTIFYING, Selector};

/// The longest name without hash digits.
const LONGEST: usize = 50;

/// Names that tools which read a directory of manifests, or a file system, take for something else.
const SPECIAL: [&str; 15] = [
    "kustomization",
    "chart",
    "values",
    "requirements",
    "fleet",
    "helmfile",
    "skaffold",
    "devspace",
    "gotk-components",
    "gotk-sync",
    "con",
    "prn",
    "aux",
    "nul",
    "config",
];

/// The names that a new file may get, the first one that is free: plain where the selector allows it,
/// else with eight and with sixteen hex digits of its hash.
pub(super) fn candidates(selector: &Selector) -> Vec<WorkloadName> {
    let (stem, exact) = stem(selector);
    let hash = format!("{:016x}", selector.hash64());
    let plain = exact.then(|| stem.clone());
    plain.into_iter().chain(hashed(&stem, &hash)).filter_map(|name| WorkloadName::parse(&name).ok()).collect()
}

/// The names that a file beside a refused one may get, `None` for a stem that is no safe name.
pub(super) fn beside(stem: &str, selector: &Selector) -> Vec<WorkloadName> {
    let hash = format!("{:016x}", selector.hash64());
    let stem = stem.strip_suffix(".cpg").unwrap_or(stem);
    if stem.len() > LONGEST + 10 || WorkloadName::parse(stem).is_err() {
        return candidates(selector);
    }
    let plain = Some(stem.to_owned());
    plain.into_iter().chain(hashed(stem, &hash)).filter_map(|name| WorkloadName::parse(&name).ok()).collect()
}

fn hashed(stem: &str, hash: &str) -> [String; 2] {
    [format!("{stem}-{}", &hash[..8]), format!("{stem}-{hash}")]
}

/// The values joined, and whether they could be taken as they are.
fn stem(selector: &Selector) -> (String, bool) {
    let rank = |key: &str| IDENTIFYING.iter().position(|first| *first == key).unwrap_or(IDENTIFYING.len());
    let mut labels: Vec<_> = selector.iter().collect();
    labels.sort_by_key(|(key, _)| (rank(key), *key));

    let mut exact = true;
    let mut parts: Vec<String> = Vec::new();
    for (_, value) in labels {
        let part = safe(value);
        exact &= part == value;
        if !part.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    }
    let mut stem = parts.join(".");
    if stem.is_empty() {
        return ("workload".to_owned(), false);
    }
    if stem.len() > LONGEST {
        // All ASCII, so every byte is a boundary.
        stem.truncate(LONGEST);
        stem.truncate(stem.trim_end_matches(['-', '.']).len());
        exact = false;
    }
    // `x.cpg.yaml` is what the additions to `x.yaml` are called.
    let special = SPECIAL.contains(&stem.split('.').next().unwrap_or_default()) || stem.ends_with(".cpg");
    (stem, exact && !special)
}

/// A value with every character that a DNS label has not replaced by `-`.
fn safe(value: &str) -> String {
    let lower = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | '-') => c,
        _ => '-',
    };
    value.chars().map(lower).collect::<String>().trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(labels: &[(&str, &str)], expected: &str) {
        let selector = Selector::new(labels.iter().copied()).unwrap();
        let hash = format!("{:08x}", selector.hash64() >> 32);
        let first = candidates(&selector).remove(0);
        assert_eq!(first.as_str(), expected.replace('#', &hash), "{labels:?}");
    }

    #[test]
    fn a_name_is_the_values_of_the_selector() {
        check(&[("app", "cart")], "cart");
        check(&[("tier", "db"), ("app", "cart")], "cart.db");
        check(&[("zone", "b"), ("alpha", "a"), ("tier", "db")], "db.a.b");
        check(
            &[("app.kubernetes.io/instance", "eu"), ("app.kubernetes.io/name", "cart"), ("app", "cart")],
            "cart.eu",
        );
        check(&[("app", "cart"), ("tier", "")], "cart");
        check(&[("app", "")], "workload-#");
        check(&[("app", "Cart_v1.2")], "cart-v1-2-#");
        check(&[("app", "_")], "workload-#");
        check(&[("app", "../../etc/passwd")], "etc-passwd-#");
        check(&[("app", "-a-")], "a-#");
        check(&[("app", "größe")], "gr--e-#");
        check(&[("app", "a\nb")], "a-b-#");
        check(&[("app", "kustomization")], "kustomization-#");
        check(&[("app", "nul"), ("tier", "x")], "nul.x-#");
        check(&[("app", "cart"), ("tier", "cpg")], "cart.cpg-#");
        check(&[("app", "1e3")], "1e3");
        check(&[("app", &"a".repeat(50))], &"a".repeat(50));
        check(&[("app", &"a".repeat(51))], &format!("{}-#", "a".repeat(50)));
        let long = format!("{}-b", "a".repeat(49));
        check(&[("app", &long)], &format!("{}-#", "a".repeat(49)));
        check(&[("k8s:io.cilium.k8s.policy.serviceaccount", "runner")], "runner");
    }

    #[test]
    fn every_candidate_is_another_safe_name() {
        for value in ["cart", "Cart", "", "config", &"x".repeat(63)] {
            let all = candidates(&Selector::new([("app", value)]).unwrap());
            assert!(all.len() >= 2 && all.iter().all(|name| name.as_str().len() <= 70));
            assert!(all.iter().enumerate().all(|(i, name)| !all[..i].contains(name)));
        }
    }

    #[test]
    fn additions_are_called_after_the_file_beside_them() {
        let selector = Selector::new([("app", "cart")]).unwrap();
        assert_eq!(beside("mine", &selector)[0].as_str(), "mine");
        assert_eq!(beside("mine.cpg", &selector)[0].as_str(), "mine");
        assert_eq!(beside("Mine File", &selector)[0].as_str(), "cart");
    }
}
