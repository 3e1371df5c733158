//! Names that come from outside and end up in paths, policies and messages: parsed once, safe after.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::text;

/// Why a text is not a name. `Display` says what is wrong, without repeating the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// The text is longer than Kubernetes allows; the number is the limit in bytes.
    #[error("is longer than {0} characters")]
    TooLong(usize),
    /// A character that the name's grammar does not have.
    #[error("has characters other than lower-case letters, digits and '-' (or begins or ends with '-')")]
    BadCharacter,
    /// Something that a policy cannot say of a DNS name.
    #[error("is no DNS name that a policy can hold: letters, digits, '-', '_', and dots between them")]
    NotDns,
}

/// A Kubernetes namespace: an RFC 1123 label of at most 63 bytes, so it is also one safe path part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

/// The `metadata.name` of a policy: an RFC 1123 subdomain of at most 253 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(Arc<str>);

/// What a workload's file is called, without its ending: an RFC 1123 subdomain, so it is one safe
/// path part that needs no escaping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadName(Arc<str>);

/// The node that reported a flow as Hubble names it (`cluster/node`, or `node` in a cluster called
/// `default`). Free text: only made safe to print, never a path part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeName(Arc<str>);

/// A DNS name that a policy can hold as `matchName`: lower-case, without the dot at its end, 253 bytes
/// at most (`pkg/policy/api/fqdn.go` and the pattern of the CRD).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Arc<str>);

// === impl Namespace ===

impl Namespace {
    /// Parses an RFC 1123 label.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > 63 {
            return Err(NameError::TooLong(63));
        }
        label(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl PolicyName ===

impl PolicyName {
    /// Parses an RFC 1123 subdomain.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        subdomain(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl WorkloadName ===

impl WorkloadName {
    /// Parses an RFC 1123 subdomain.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        subdomain(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl NodeName ===

impl NodeName {
    /// Takes the name as it came; control characters are made visible, length is cut at 253.
    pub fn lossy(text: &str) -> Self {
        Self(Arc::from(text::visible(text, 253).as_ref()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl DnsName ===

impl DnsName {
    /// Parses a name in any case, with or without the dot of the root at its end.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() > 253 {
            return Err(NameError::TooLong(253));
        }
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if !name.split('.').all(|label| !label.is_empty() && label.bytes().all(known)) {
            return Err(NameError::NotDns);
        }
        Ok(Self(Arc::from(name.to_ascii_lowercase())))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! name_traits {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )*};
}
name_traits!(Namespace, PolicyName, WorkloadName, NodeName, DnsName);

/// An RFC 1123 label without its length rule: `[a-z0-9]([-a-z0-9]*[a-z0-9])?`.
fn label(text: &str) -> Result<(), NameError> {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err(NameError::Empty);
    };
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    if *first == b'-' || *last == b'-' || !bytes.iter().all(inner) {
        return Err(NameError::BadCharacter);
    }
    Ok(())
}

/// An RFC 1123 subdomain: labels joined with dots, 253 bytes in all.
fn subdomain(text: &str) -> Result<(), NameError> {
    if text.len() > 253 {
        return Err(NameError::TooLong(253));
    }
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    text.split('.').try_for_each(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, namespace: bool, policy: bool) {
        assert_eq!(Namespace::parse(text).is_ok(), namespace, "namespace {text:?}");
        assert_eq!(PolicyName::parse(text).is_ok(), policy, "policy {text:?}");
    }

    #[test]
    fn grammar() {
        check("shop", true, true);
        check("a", true, true);
        check("kube-system", true, true);
        check("1e3", true, true);
        check("a.b", false, true);
        check("", false, false);
        check("..", false, false);
        check("../etc", false, false);
        check("a/b", false, false);
        check("-a", false, false);
        check("a-", false, false);
        check("Shop", false, false);
        check("a\nb", false, false);
        check("a\u{1b}[31m", false, false);
        check(&"a".repeat(63), true, true);
        check(&"a".repeat(64), false, true);
        check(&"a".repeat(254), false, false);
    }

    #[test]
    fn dns_names() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(DnsName::parse(text).ok().as_ref().map(DnsName::as_str), expected, "{text:?}");
        };
        check("API.Example.com.", Some("api.example.com"));
        check("_dmarc.example.com", Some("_dmarc.example.com"));
        check("localhost", Some("localhost"));
        for bad in ["", ".", "..", "a..b", ".a", "*.example.com", "a b", "a/b", "müller.de", "a\nb"] {
            check(bad, None);
        }
        check(&"a".repeat(253), Some(&"a".repeat(253)));
        check(&"a".repeat(254), None);
    }

    #[test]
    fn node_names_are_only_made_visible() {
        assert_eq!(NodeName::lossy("west/node-1").as_str(), "west/node-1");
        assert_eq!(NodeName::lossy("a\u{1b}[2J").as_str(), "a\\u{1b}[2J");
    }
}
