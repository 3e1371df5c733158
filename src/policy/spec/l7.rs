//! Layer 7 of a rule, TLS contexts and listeners: kept as written, for whoever decides about requests.

use serde_json::Value;

/// `rules` of an item of `toPorts`.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum L7 {
    /// No rules, or only empty lists: plain layer 4.
    #[default]
    None,
    /// `http`, never empty: a request is allowed when one of them matches.
    Http(Vec<HttpRule>),
    /// `dns`, never empty: a query is allowed when one of them matches.
    Dns(Vec<DnsRule>),
    /// `kafka` (up to 1.19), never empty.
    Kafka(Vec<KafkaRule>),
    /// `l7proto` with `l7` (up to 1.19): the parser's name, and rules of strings, maybe none. A parser
    /// without rules still makes the agent redirect.
    Proxylib {
        /// `l7proto`.
        parser: Box<str>,
        /// `l7`.
        rules: Vec<Value>,
    },
}

/// One item of `http`: every given field must match; a missing one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HttpRule {
    /// `path`: RE2, against the whole `:path` with its query.
    pub path: Option<Box<str>>,
    /// `method`: RE2, against the whole method.
    pub method: Option<Box<str>>,
    /// `host`: RE2, against the whole `:authority`, port included. Cilium does not check its syntax.
    pub host: Option<Box<str>>,
    /// `headers`, as written: `Name`, or `Name: value`.
    pub headers: Vec<Box<str>>,
    /// `headerMatches`.
    pub header_matches: Vec<HeaderMatch>,
}

/// One item of `headerMatches`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatch {
    /// `mismatch`; without it the rule does not match when the header differs.
    pub mismatch: Option<HeaderAction>,
    /// `name`.
    pub name: Box<str>,
    /// `value`.
    pub value: Option<Box<str>>,
    /// `secret`: where the value comes from.
    pub secret: Option<SecretRef>,
}

/// What happens to a request whose header differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeaderAction {
    /// `LOG`
    Log,
    /// `ADD`
    Add,
    /// `DELETE`
    Delete,
    /// `REPLACE`
    Replace,
}

/// One item of `dns`. With both set, either may match; with neither it matches the empty name only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DnsRule {
    /// `matchName`.
    pub name: Option<Box<str>>,
    /// `matchPattern`.
    pub pattern: Option<Box<str>>,
}

/// One item of `kafka`, as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KafkaRule {
    /// `role`.
    pub role: Option<Box<str>>,
    /// `apiKey`.
    pub api_key: Option<Box<str>>,
    /// `apiVersion`.
    pub api_version: Option<Box<str>>,
    /// `clientID`.
    pub client_id: Option<Box<str>>,
    /// `topic`.
    pub topic: Option<Box<str>>,
}

/// `listener`: a proxy of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `envoyConfig.kind`; `None` when it is empty.
    pub kind: Option<ListenerKind>,
    /// `envoyConfig.name`.
    pub config: Box<str>,
    /// `name`.
    pub name: Box<str>,
    /// `priority`.
    pub priority: u16,
}

/// The kind of a listener's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerKind {
    /// `CiliumEnvoyConfig`
    Namespaced,
    /// `CiliumClusterwideEnvoyConfig`
    Clusterwide,
    /// Another word; only the API server would mind.
    Other(Box<str>),
}

/// `terminatingTLS` or `originatingTLS`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsContext {
    /// `secret`.
    pub secret: SecretRef,
    /// `trustedCA`.
    pub trusted_ca: Option<Box<str>>,
    /// `certificate`.
    pub certificate: Option<Box<str>>,
    /// `privateKey`.
    pub private_key: Option<Box<str>>,
}

/// The name of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretRef {
    /// `namespace`; empty is Cilium's own.
    pub namespace: Box<str>,
    /// `name`.
    pub name: Box<str>,
}

// === impl L7 ===

impl L7 {
    /// Whether the agent counts it as layer 7 rules when it checks what may stand together; a parser
    /// without rules does not count.
    pub fn has_rules(&self) -> bool {
        match self {
            Self::None => false,
            Self::Http(_) | Self::Dns(_) | Self::Kafka(_) => true,
            Self::Proxylib { rules, .. } => !rules.is_empty(),
        }
    }

    /// The name of the parser; `None` when there is none.
    pub fn parser(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Http(_) => Some("http"),
            Self::Dns(_) => Some("dns"),
            Self::Kafka(_) => Some("kafka"),
            Self::Proxylib { parser, .. } => Some(parser),
        }
    }
}
