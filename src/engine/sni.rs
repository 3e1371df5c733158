//! `serverNames`, as Envoy matches them against the name of a TLS handshake.

use super::fqdn::NamePattern;
use crate::policy::spec::Version;

/// A prepared item of `serverNames`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerName {
    /// Exactly this name, in lower case.
    Exact(Box<str>),
    /// `*.` and this: one label more.
    Below(Box<str>),
    /// `**.` and this: one label more, or several.
    FarBelow(Box<str>),
    /// Since 1.20 a pattern as those of `toFQDNs`.
    Pattern(NamePattern),
    /// Another star up to 1.19, which Envoy takes for no name at all.
    Nothing,
}

// === impl ServerName ===

impl ServerName {
    pub(super) fn new(text: &str, version: Version) -> Self {
        let lower = text.to_ascii_lowercase();
        if version >= Version::V1_20 {
            return Self::Pattern(NamePattern::of_pattern(&lower, version));
        }
        match (lower.strip_prefix("**."), lower.strip_prefix("*.")) {
            (Some(rest), _) => Self::FarBelow(rest.into()),
            (_, Some(rest)) => Self::Below(rest.into()),
            _ if lower.starts_with('*') => Self::Nothing,
            _ => Self::Exact(lower.into()),
        }
    }

    /// Whether the handshake's name is meant; a handshake without one never is.
    pub(super) fn matches(&self, name: &str) -> bool {
        if name.is_empty() {
            return false;
        }
        let name = name.to_ascii_lowercase();
        let front = |rest: &str| name.strip_suffix(rest).and_then(|front| front.strip_suffix('.'));
        match self {
            Self::Exact(exact) => **exact == *name,
            Self::Below(rest) => front(rest).is_some_and(|label| !label.is_empty() && !label.contains('.')),
            Self::FarBelow(rest) => front(rest).is_some(),
            Self::Pattern(pattern) => pattern.matches(&(name + ".")),
            Self::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, version: Version, matches: &[&str], others: &[&str]) {
        let prepared = ServerName::new(text, version);
        for name in matches {
            assert!(prepared.matches(name), "{text} must match {name} ({version})");
        }
        for name in others.iter().chain([&""]) {
            assert!(!prepared.matches(name), "{text} must not match {name} ({version})");
        }
    }

    #[test]
    fn names_and_their_wildcards() {
        for version in [Version::V1_19, Version::V1_20] {
            check(
                "A.example.com",
                version,
                &["a.example.com", "A.EXAMPLE.com"],
                &["b.a.example.com", "a.example"],
            );
            check(
                "*.example.com",
                version,
                &["a.example.com"],
                &["example.com", "a.b.example.com", "aexample.com"],
            );
            check(
                "**.example.com",
                version,
                &["a.example.com", "a.b.example.com"],
                &["example.com", "xexample.com"],
            );
        }
    }

    #[test]
    fn since_1_20_a_star_may_stand_anywhere() {
        let (old, new) = (Version::V1_19, Version::V1_20);
        check(
            "a*.example.com",
            new,
            &["a.example.com", "ab.example.com"],
            &["b.example.com", "a.b.example.com"],
        );
        check("*example.com", new, &["example.com", "xexample.com"], &["a.example.com"]);
        check("*", new, &["a", "a.b"], &[]);
        check("a.example.com.", new, &["a.example.com"], &["b.example.com"]);
        check("*example.com", old, &[], &["example.com", "xexample.com"]);
        check("*", old, &[], &["a"]);
        check("a.example.com.", old, &[], &["a.example.com"]);
    }
}
