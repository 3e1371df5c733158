//! Documents as they stand in files: anything that parses, kept whole.

use serde_json::Value;

use super::yaml::{self, YamlError};
use super::{Selector, Subject};
use crate::names::Namespace;

/// The key under which Cilium puts a pod's namespace, as [`Selector`] writes it.
pub const NAMESPACE_KEY: &str = "k8s:io.kubernetes.pod.namespace";

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

    /// The namespace that the document's policy applies to: its own, or `home` when it names none.
    /// `None` when the name is no namespace, or when there is neither.
    pub fn namespace(&self, home: Option<&Namespace>) -> Option<Namespace> {
        match self.value.pointer("/metadata/namespace") {
            None | Some(Value::Null) => home.cloned(),
            Some(Value::String(text)) if text.is_empty() => home.cloned(),
            Some(Value::String(text)) => Namespace::parse(text).ok(),
            Some(_) => None,
        }
    }

    /// The pods that `spec` selects. `None` for other kinds, for a document without `spec`, and for
    /// every selector that is not equality with at least one label.
    pub fn subject(&self, home: Option<&Namespace>) -> Option<Subject> {
        if self.kind != Kind::CiliumNetworkPolicy {
            return None;
        }
        subject_of(self.value.get("spec")?, self.namespace(home)?)
    }

    /// Every rule set of the document: `spec`, then the items of `specs`.
    pub fn rule_sets(&self) -> impl Iterator<Item = &Value> {
        let specs = self.value.get("specs").and_then(Value::as_array);
        self.value.get("spec").filter(|spec| spec.is_object()).into_iter().chain(specs.into_iter().flatten())
    }
}

/// The pods that one rule set (`spec`, an item of `specs`) selects in a policy of this namespace, with
/// the policy's own namespace left out, since Cilium adds it by itself.
pub fn subject_of(spec: &Value, namespace: Namespace) -> Option<Subject> {
    if !matches!(spec.get("nodeSelector"), None | Some(Value::Null)) {
        return None;
    }
    let selector = Selector::from_value(spec.get("endpointSelector")?)?;
    let selector = match selector.get(NAMESPACE_KEY) {
        Some(own) if own == namespace.as_str() => selector.without(NAMESPACE_KEY)?,
        _ => selector,
    };
    Some(Subject { namespace, selector })
}

impl Selector {
    /// What a written selector means: `matchLabels` together with `matchExpressions` of the form `In`
    /// with one value. `None` for every other selector, so also for one that selects everything.
    pub fn from_value(value: &Value) -> Option<Self> {
        let mut labels: Vec<(&str, &str)> = Vec::new();
        for (member, value) in value.as_object()? {
            match (member.as_str(), value) {
                (_, Value::Null) => {}
                ("matchLabels", Value::Object(map)) => {
                    for (key, value) in map {
                        labels.push((key, value.as_str()?));
                    }
                }
                ("matchExpressions", Value::Array(list)) => {
                    for expression in list {
                        let text = |name: &str| expression.get(name).and_then(Value::as_str);
                        match (text("operator")?, expression.get("values")?.as_array()?.as_slice()) {
                            ("In", [one]) => labels.push((text("key")?, one.as_str()?)),
                            _ => return None,
                        }
                    }
                }
                _ => return None,
            }
        }
        Self::new(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(selector: &str, expected: Option<&[(&str, &str)]>) {
        let text = format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nspec: {{endpointSelector: {selector}}}\n"
        );
        let home = Namespace::parse("shop").unwrap();
        let subject = read_documents(&text).unwrap()[0].subject(Some(&home));
        let labels = subject.as_ref().map(|s| s.selector.iter().collect::<Vec<_>>());
        assert_eq!(labels.as_deref(), expected, "{selector}");
    }

    #[test]
    fn subjects_are_known_by_their_meaning() {
        check("{matchLabels: {app: web}}", Some(&[("app", "web")]));
        check("{matchLabels: {'k8s:app': web}, matchExpressions: null}", Some(&[("app", "web")]));
        check("{matchExpressions: [{key: 'any:app', operator: In, values: [web]}]}", Some(&[("app", "web")]));
        check("{matchLabels: {app: web, 'k8s:io.kubernetes.pod.namespace': shop}}", Some(&[("app", "web")]));
        check("{}", None);
        check("{matchLabels: {'k8s:io.kubernetes.pod.namespace': shop}}", None);
        check("{matchLabels: {app: 1}}", None);
        check("{matchLabels: {app: web}, matchExpressions: [{key: a, operator: Exists}]}", None);
        check("{matchExpressions: [{key: a, operator: In, values: [b, c]}]}", None);
        check("{matchExpressions: [{key: a, operator: NotIn, values: [b]}]}", None);
    }
}
