//! Which labels a policy can express at all.

use crate::flow::Label;

/// Whether a selector of every Cilium from 1.16 on can name this label: it comes from Kubernetes,
/// outlives the pod, is not one that Cilium adds itself, and key and value follow the grammar that
/// the agent checks (`pkg/policy/api/selector.go`).
pub(super) fn is_usable(label: &Label) -> bool {
    label.is_from_kubernetes()
        && !label.is_unstable()
        && !CILIUM_OWN.iter().any(|prefix| label.key.starts_with(prefix))
        && is_key(&label.key)
        && is_value(&label.value)
}

/// Labels that Cilium adds to every pod.
const CILIUM_OWN: [&str; 2] = ["io.cilium.k8s.", "io.kubernetes.pod."];

/// A qualified name. Up to Cilium 1.19 the source (`any.`) is put before the key and then counts, so
/// a key without a slash may have 59 characters of the 63, one with a slash four less in its prefix.
fn is_key(key: &str) -> bool {
    const SOURCE: usize = "any.".len();
    match key.split_once('/') {
        None => is_name(key, 63 - SOURCE),
        Some((prefix, name)) => {
            prefix.len() <= 253 - SOURCE
                && prefix.split('.').all(|part| {
                    !part.is_empty()
                        && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                        && !part.starts_with('-')
                        && !part.ends_with('-')
                })
                && is_name(name, 63)
        }
    }
}

/// A label value; empty is one.
fn is_value(value: &str) -> bool {
    value.is_empty() || is_name(value, 63)
}

/// `([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]`, not empty.
fn is_name(text: &str, limit: usize) -> bool {
    let alphanumeric = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= limit
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: bool) {
        assert_eq!(is_usable(&Label::parse(text)), expected, "{text:?}");
    }

    #[test]
    fn what_can_be_named() {
        check("k8s:app=web", true);
        check("app=web", true);
        check("k8s:app.kubernetes.io/name=web_1.2", true);
        check("k8s:node-role.kubernetes.io/worker", true);
        check("k8s:on=no", true);
        check(&format!("k8s:{}=x", "a".repeat(59)), true);
        check(&format!("k8s:{}=x", "a".repeat(60)), false);
        check(&format!("k8s:e.io/{}=x", "a".repeat(63)), true);
        check("k8s:Example.com/a=x", false);
        check("k8s:a/b/c=x", false);
        check("k8s:common:commonselector", false);
        check("k8s:=x", false);
        check("k8s:app=-x", false);
        check("k8s:app=a b", false);
        check("k8s:app=a\nb", false);
        check("k8s:app=\u{1b}[31m", false);
        check(&format!("k8s:app={}", "a".repeat(64)), false);
        check("k8s:pod-template-hash=x", false);
        check("k8s:io.cilium.k8s.policy.serviceaccount=x", false);
        check("reserved:host", false);
        check("container:app=x", false);
    }
}
