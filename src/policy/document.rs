//! Documents as they stand in files: anything that parses, kept whole.

use serde_json::Value;

use super::yaml::{self, YamlError};

/// One YAML document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Which document of the file, from 0; empty documents do not count.
    pub index: usize,
    /// What it is.
    pub kind: Kind,
    /// `metadata.namespace`, as written.
    pub namespace: Option<String>,
    /// `metadata.name`, as written.
    pub name: Option<String>,
    /// The whole document.
    pub value: Value,
}

/// What a document says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// `cilium.io/v2` `CiliumNetworkPolicy`.
    CiliumNetworkPolicy,
    /// Another kind, or another version; the words as written (`apiVersion kind`).
    Other(String),
    /// No Kubernetes object at all.
    None,
}

/// Reads all documents of a file.
pub fn read_documents(text: &str) -> Result<Vec<Document>, YamlError> {
    let values: Vec<Value> = yaml::read_all(text)?;
    Ok(values.into_iter().enumerate().map(|(index, value)| Document::new(index, value)).collect())
}

// === impl Document ===

impl Document {
    fn new(index: usize, value: Value) -> Self {
        let text = |path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let kind = match (text("/apiVersion"), text("/kind")) {
            (Some(version), Some(kind)) if version == "cilium.io/v2" && kind == "CiliumNetworkPolicy" => {
                Kind::CiliumNetworkPolicy
            }
            (Some(version), Some(kind)) => Kind::Other(format!("{version} {kind}")),
            _ => Kind::None,
        };
        Self { index, kind, namespace: text("/metadata/namespace"), name: text("/metadata/name"), value }
    }
}
