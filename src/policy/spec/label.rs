//! Label selectors as the agent holds them: requirements on labels with a source.

/// A label key with its source. The source `any` stands for every source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelKey {
    /// `any`, `k8s`, `reserved`, `cidr`, `container`, ...
    pub source: Box<str>,
    /// The rest; dots in it are ordinary characters.
    pub key: Box<str>,
}

/// A selector: all requirements must hold. Without requirements it selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    /// `matchLabels` by key (each is [`Operator::In`] with one value), then `matchExpressions`.
    pub requirements: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Which label.
    pub key: LabelKey,
    /// What must hold.
    pub operator: Operator,
}

/// What must hold for a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// The label is there, with one of these values.
    In(Vec<Box<str>>),
    /// The label is absent, or has none of these values.
    NotIn(Vec<Box<str>>),
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

// === impl LabelKey ===

impl LabelKey {
    /// The source that stands for every source.
    pub const ANY: &'static str = "any";
    /// The source of what Kubernetes says about a pod.
    pub const K8S: &'static str = "k8s";
    /// The source of Cilium's own identities.
    pub const RESERVED: &'static str = "reserved";

    /// From its parts.
    pub fn new(source: &str, key: &str) -> Self {
        Self { source: source.into(), key: key.into() }
    }

    /// A key of the source `k8s`.
    pub fn k8s(key: &str) -> Self {
        Self::new(Self::K8S, key)
    }

    /// Whether a label of this source and key is meant.
    pub fn names(&self, source: &str, key: &str) -> bool {
        *self.key == *key && (*self.source == *Self::ANY || *self.source == *source)
    }
}

impl std::fmt::Display for LabelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.source, self.key)
    }
}

// === impl LabelSelector ===

impl LabelSelector {
    /// Whether some requirement is about this key, given by the source `k8s` or `any`.
    pub fn has_k8s_key(&self, key: &str) -> bool {
        self.requirements.iter().any(|r| {
            *r.key.key == *key && (*r.key.source == *LabelKey::K8S || *r.key.source == *LabelKey::ANY)
        })
    }

    /// Whether some requirement is about a key of this source.
    pub fn has_source(&self, source: &str) -> bool {
        self.requirements.iter().any(|r| *r.key.source == *source)
    }
}

// === impl Requirement ===

impl Requirement {
    /// `key = value`.
    pub fn equals(key: LabelKey, value: &str) -> Self {
        Self { key, operator: Operator::In(vec![value.into()]) }
    }

    /// `key` exists.
    pub fn exists(key: LabelKey) -> Self {
        Self { key, operator: Operator::Exists }
    }
}
