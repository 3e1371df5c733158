//! Why a file is left as it is.

use crate::policy::yaml::YamlError;
use crate::policy::{Document, Kind, Subject, read_documents};

/// Why nothing can be written into a file. `Display` continues a sentence that begins with the file's
/// name: "… uses YAML anchors or aliases".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The text cannot be read.
    #[error("is not readable as YAML ({0})")]
    NotYaml(String),
    /// It holds policies, but none for these pods.
    #[error("holds no policy for {0}")]
    NoDocument(String),
    /// An anchored node stands in several places; a change to one changes all.
    #[error("uses YAML anchors, and a change to an anchored node changes every place that uses it")]
    Anchors,
    /// An alias stands for a node elsewhere.
    #[error("uses YAML aliases, and a change to an aliased node changes every place that uses it")]
    Aliases,
    /// A tag gives a node another meaning than its text.
    #[error("uses YAML tags, which cpg does not interpret")]
    Tags,
    /// A merge key (`<<`) pulls members in from elsewhere.
    #[error("uses YAML merge keys (<<)")]
    MergeKeys,
    /// A key stands twice in one mapping, and readers differ in which one counts.
    #[error("has a key twice in one mapping, and readers differ in which one counts ({0})")]
    DuplicateKeys(String),
    /// These pods are selected only by an item of `specs`.
    #[error("selects these pods only in its `specs` list; cpg inserts only into a single `spec`")]
    OnlySpecs,
    /// No CiliumNetworkPolicy in it; what stands there instead.
    #[error("holds no CiliumNetworkPolicy but {0}")]
    ForeignKind(String),
    /// It is a template that another program turns into YAML.
    #[error("is a template ({{{{ … }}}} or {{% … %}}), not a policy as it will be applied")]
    Templated,
    /// SOPS signs every value of a file it has encrypted a part of; with another value in it the file is
    /// no longer decrypted (its MAC does not fit).
    #[error("is encrypted with SOPS, which refuses a file that was changed without it")]
    Encrypted,
    /// The text has a form that could not be inserted into faithfully.
    #[error("has a form that cpg cannot insert into faithfully ({0})")]
    NotEditable(String),
}

// === impl Refusal ===

impl Refusal {
    /// Why a text that is in the way of a policy, and holds none, is left as it is.
    pub fn of_foreign(text: &str) -> Self {
        match read_documents(text) {
            Err(e) => Self::unreadable(text, &e),
            Ok(documents) => documents.into_iter().fold(
                Self::ForeignKind("no Kubernetes object".to_owned()),
                |why, document| match document.kind {
                    Kind::Other(kind) => Self::ForeignKind(crate::text::visible(&kind, 100).into_owned()),
                    Kind::CiliumNetworkPolicy | Kind::None => why,
                },
            ),
        }
    }

    pub(super) fn unreadable(text: &str, error: &YamlError) -> Self {
        let message = error.to_string();
        if is_template(text) {
            Self::Templated
        } else if message.contains("duplicate") {
            Self::DuplicateKeys(message)
        } else {
            Self::NotYaml(message)
        }
    }

    pub(super) fn without_document(documents: &[Document], subject: &Subject) -> Self {
        let mut other = None;
        for document in documents {
            match &document.kind {
                Kind::CiliumNetworkPolicy => return Self::NoDocument(subject.to_string()),
                Kind::Other(kind) => other = Some(crate::text::visible(kind, 100).into_owned()),
                Kind::None => {}
            }
        }
        Self::ForeignKind(other.unwrap_or_else(|| "no Kubernetes object".to_owned()))
    }
}

/// Whether a text has the marks of Helm, Jinja and their like. No YAML that a person writes has them
/// by chance.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}
