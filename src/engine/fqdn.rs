//! Names and patterns of `toFQDNs` and of DNS rules, as Cilium's `matchpattern` reads them.

use crate::policy::spec::{DnsRule, Fqdn, Version};

/// A prepared `matchName` or `matchPattern`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NamePattern {
    /// Stars only: every name of letters, digits, `-` and `_`, and the root.
    Every,
    /// Stars only in a DNS rule: every query, whatever is in it.
    Anything,
    /// Label by label.
    Labels {
        /// It began with `**.` (since 1.19): at least one label more than these.
        more: bool,
        /// The labels; `*` stands for any number of letters, digits, `-` and `_`.
        labels: Box<[Box<str>]>,
    },
}

/// A name as Cilium compares it: in lower case, ending in a dot.
pub(super) fn normal(name: &str) -> Box<str> {
    let mut name = name.trim().to_ascii_lowercase();
    if !name.ends_with('.') {
        name.push('.');
    }
    name.into()
}

// === impl NamePattern ===

impl NamePattern {
    /// `None` when neither member is set: it selects nothing.
    pub(super) fn new(fqdn: &Fqdn, version: Version) -> Option<Self> {
        match (&fqdn.name, &fqdn.pattern) {
            (Some(name), _) if !name.is_empty() => Some(Self::name(name)),
            (_, Some(pattern)) if !pattern.is_empty() => Some(Self::of_pattern(pattern, version)),
            _ => None,
        }
    }

    /// What an item of `dns` lets be asked for: whatever one of these matches.
    pub(super) fn of_rule(rule: &DnsRule, version: Version) -> impl Iterator<Item = Self> {
        let given = |text: &Option<Box<str>>| text.clone().filter(|text| !text.is_empty());
        let pattern = given(&rule.pattern).map(|pattern| match Self::of_pattern(&pattern, version) {
            Self::Every => Self::Anything,
            other => other,
        });
        given(&rule.name).map(|name| Self::name(&name)).into_iter().chain(pattern)
    }

    fn name(name: &str) -> Self {
        Self::Labels { more: false, labels: split(&normal(name)) }
    }

    /// A `matchPattern`.
    pub(super) fn of_pattern(pattern: &str, version: Version) -> Self {
        let pattern = pattern.trim();
        let stars = pattern.strip_suffix('.').unwrap_or(pattern);
        if !stars.is_empty() && stars.bytes().all(|b| b == b'*') {
            return Self::Every;
        }
        let pattern = normal(pattern);
        let after_stars = pattern.trim_start_matches('*');
        let leading = pattern.len() - after_stars.len();
        match after_stars.strip_prefix('.') {
            Some(rest) if leading >= 2 && version >= Version::V1_19 => {
                Self::Labels { more: true, labels: split(rest) }
            }
            _ => Self::Labels { more: false, labels: split(&pattern) },
        }
    }

    /// Whether a name in its [`normal`] form is meant.
    pub(super) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Every => {
                let labels = |name: &str| {
                    name.split('.').all(|label| !label.is_empty() && label.bytes().all(is_name_byte))
                };
                name == "." || labels(name.strip_suffix('.').unwrap_or(name))
            }
            Self::Labels { more, labels } => {
                let parts: Vec<&str> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
                let Some(extra) = parts.len().checked_sub(labels.len()) else { return false };
                let (front, back) = parts.split_at(extra);
                (if *more { extra > 0 } else { extra == 0 })
                    && front.iter().all(|label| !label.is_empty() && label.bytes().all(is_name_byte))
                    && labels
                        .iter()
                        .zip(back)
                        .all(|(pattern, label)| glob(pattern.as_bytes(), label.as_bytes()))
            }
        }
    }
}

fn split(name: &str) -> Box<[Box<str>]> {
    name.strip_suffix('.').unwrap_or(name).split('.').map(Into::into).collect()
}

fn is_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-' || b == b'_'
}

/// One label against one pattern; `reached[n]`: the pattern so far can stand for the first n bytes.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for byte in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = if *byte == b'*' {
                reached[at] || (at > 0 && next[at - 1] && is_name_byte(text[at - 1]))
            } else {
                at > 0 && reached[at - 1] && text[at - 1] == *byte
            };
        }
        reached = next;
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, matches: &[&str], others: &[&str]) {
        let fqdn = Fqdn { name: None, pattern: Some(pattern.into()) };
        let prepared = NamePattern::new(&fqdn, Version::V1_19).unwrap();
        for name in matches {
            assert!(prepared.matches(&normal(name)), "{pattern} must match {name}");
        }
        for name in others {
            assert!(!prepared.matches(&normal(name)), "{pattern} must not match {name}");
        }
    }

    #[test]
    fn patterns_as_in_the_reference() {
        for all in ["*", "**", "*.", "***."] {
            check(all, &["cilium.io", "a.b.c", "."], &["a/b.io", "a..b", ".a"]);
        }
        check("*.cilium.io", &["www.cilium.io", "WWW.Cilium.IO."], &["a.b.cilium.io", "cilium.io"]);
        check("**.cilium.io", &["www.cilium.io", "a.b.cilium.io"], &["cilium.io", "xcilium.io"]);
        check("*cilium.io", &["cilium.io", "subcilium.io"], &["www.cilium.io"]);
        check("**cilium.io", &["cilium.io", "subcilium.io"], &["www.cilium.io"]);
        check("sub*.cilium.io", &["sub.cilium.io", "sub-1.cilium.io"], &["xsub.cilium.io"]);
        check("**.cilium.io", &[], &["a/b.cilium.io", ".cilium.io", "a..cilium.io"]);
        check("sub*.cilium.io", &["sub_1.cilium.io", "sub9.cilium.io"], &["sub/1.cilium.io", "sub"]);
        check("www.**.io", &["www.cilium.io"], &["www.a.b.io"]);
        check("*a*b.io", &["ab.io", "xaab.io"], &["ba.io"]);
    }

    #[test]
    fn names_are_exact() {
        let named = |name: &str| Fqdn { name: Some(name.into()), pattern: None };
        let prepared = NamePattern::new(&named("Cilium.io"), Version::V1_19).unwrap();
        assert!(prepared.matches("cilium.io.") && !prepared.matches("www.cilium.io."));
        assert_eq!(NamePattern::new(&Fqdn { name: None, pattern: None }, Version::V1_19), None);
        let old = Fqdn { name: None, pattern: Some("**.cilium.io".into()) };
        assert!(!NamePattern::new(&old, Version::V1_18).unwrap().matches("a.b.cilium.io."));
    }
    /// Name and pattern of one item count both; stars alone take anything at all.
    #[test]
    fn items_of_dns_rules() {
        let check = |name: Option<&str>, pattern: Option<&str>, matches: &[&str], others: &[&str]| {
            let rule = DnsRule { name: name.map(Into::into), pattern: pattern.map(Into::into) };
            let any =
                |text: &str| NamePattern::of_rule(&rule, Version::V1_19).any(|p| p.matches(&normal(text)));
            assert!(matches.iter().all(|name| any(name)), "{rule:?} must match {matches:?}");
            assert!(!others.iter().any(|name| any(name)), "{rule:?} must not match any of {others:?}");
        };
        check(Some("A.io"), None, &["a.io", "A.IO."], &["b.a.io", "a.iox"]);
        check(Some("a.io"), Some("*.b.io"), &["a.io", "x.b.io"], &["b.io"]);
        check(None, Some("*"), &["a.io", "a/b.io", "a..b", "."], &[]);
        check(None, Some("**.b.io"), &["x.b.io", "x.y.b.io"], &["b.io", "x/y.b.io"]);
        check(None, None, &[], &["", ".", "a.io"]);
    }
}
