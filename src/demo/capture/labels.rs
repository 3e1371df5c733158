//! Which labels select a workload: the generator's own reading of the rule, written down once more so
//! that it can disagree with the code it tests.

/// A label's key and value.
pub(super) type Pair = (String, String);

/// Labels that say who a workload is; they are enough when one of the first four is there.
const NAMING: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "name"];
const DETAIL: [&str; 4] = ["app.kubernetes.io/instance", "app.kubernetes.io/component", "component", "tier"];

/// Labels of one revision or run, and labels that move while a pod lives: of those that the generator
/// gives to its pods.
const UNSTABLE: [&str; 11] = [
    "job-name",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "batch.kubernetes.io/controller-uid",
    "pod-template-hash",
    "helm.sh/chart",
    "app.kubernetes.io/version",
    "version",
    "role",
    "spilo-role",
    "chart",
];

/// The labels that select pods with these labels, sorted; empty when there are none.
pub(super) fn select(labels: &[Pair]) -> Vec<Pair> {
    let usable = |(key, value): &&Pair| !UNSTABLE.contains(&key.as_str()) && expressible(key, value);
    let all: Vec<&Pair> = labels.iter().filter(usable).collect();
    let named = all.iter().any(|(key, _)| NAMING.contains(&key.as_str()));
    let wanted =
        |(key, _): &&&Pair| !named || NAMING.contains(&key.as_str()) || DETAIL.contains(&key.as_str());
    let mut selector: Vec<Pair> = all.iter().filter(wanted).map(|pair| (*pair).clone()).collect();
    selector.sort();
    selector
}

/// Whether a policy can name it: the key's grammar, 59 characters where no slash is in it (Cilium puts
/// four in front), and the value's.
fn expressible(key: &str, value: &str) -> bool {
    let (name, most) = match key.split_once('/') {
        Some((prefix, name)) => {
            let label =
                |l: &str| word(l) && l.bytes().all(|b| b.is_ascii_lowercase() || b"0123456789-".contains(&b));
            if prefix.is_empty() || prefix.len() > 253 || !prefix.split('.').all(label) {
                return false;
            }
            (name, 63)
        }
        None => (key, 59),
    };
    word(name) && name.len() <= most && (value.is_empty() || (word(value) && value.len() <= 63))
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]`, not empty.
fn word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(labels: &[(&str, &str)], expected: &[&str]) {
        let labels: Vec<Pair> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let keys: Vec<String> = select(&labels).into_iter().map(|(k, _)| k).collect();
        assert_eq!(keys, expected, "{labels:?}");
    }

    #[test]
    fn selectors() {
        check(&[("app", "a"), ("team", "x"), ("tier", "t")], &["app", "tier"]);
        check(&[("tier", "t"), ("team", "x"), ("role", "master")], &["team", "tier"]);
        check(&[("job-name", "j-1"), ("controller-uid", "u")], &[]);
        let long = "k".repeat(60);
        check(&[(&long, "a"), ("team", "x"), ("a:b", "c"), ("a/b/c", "d"), ("o", "a@b")], &["team"]);
        check(
            &[(&format!("example.com/{long}"), ""), ("x", "No_1.e3")],
            &[&format!("example.com/{long}"), "x"],
        );
    }
}
