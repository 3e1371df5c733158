//! The policies to begin with (`policies/`), for a namespace of one's own.

use crate::names::Namespace;
use crate::policy::yaml::{self, YamlError};

/// A policy to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starter {
    /// Requests go through Cilium's proxy, and all pass.
    L7Visibility,
    /// Nothing passes that no policy allows.
    DefaultDeny,
    /// Name resolution through Cilium's DNS proxy.
    Dns,
}

/// What stands in the files where the namespace belongs.
const PLACEHOLDER: &str = "  namespace: my-namespace\n";

// === impl Starter ===

impl Starter {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::L7Visibility, Self::DefaultDeny, Self::Dns];

    /// The text in `policies/`.
    fn text(self) -> &'static str {
        match self {
            Self::L7Visibility => include_str!("../policies/l7-visibility.yaml"),
            Self::DefaultDeny => include_str!("../policies/default-deny.yaml"),
            Self::Dns => include_str!("../policies/dns.yaml"),
        }
    }

    /// One document for each of these namespaces, with the comments. A namespace like `on` or `1e3` comes
    /// in quotes.
    pub fn documents(self, namespaces: &[Namespace]) -> Result<String, YamlError> {
        let mut all = Vec::new();
        for namespace in namespaces {
            let quoted = yaml::write(&namespace.as_str())?;
            let line = format!("  namespace: {}\n", quoted.trim_end());
            all.push(self.text().replace(PLACEHOLDER, &line).replace(" Replace the namespace.", ""));
        }
        Ok(all.join("---\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::read_documents;

    #[test]
    fn a_document_for_each_namespace() {
        let names = ["shop", "on", "123", "1e3", "null", "0x1f", "a-b"].map(|n| Namespace::parse(n).unwrap());
        for starter in Starter::ALL {
            let text = starter.documents(&names).unwrap();
            let documents = read_documents(&text).unwrap();
            assert_eq!(documents.len(), names.len(), "{text}");
            for (document, name) in documents.iter().zip(&names) {
                assert_eq!(document.value["metadata"]["namespace"], name.as_str(), "{starter:?}");
            }
            assert!(text.starts_with("# ") && text.contains("\n# "), "the comments are there");
            assert!(!text.contains("my-namespace") && !text.contains("Replace the namespace"), "{text}");
        }
    }
}
