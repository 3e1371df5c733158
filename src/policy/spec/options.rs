//! What decides how a policy is read: the version of Cilium and a few flags of the agent.

use std::fmt;

/// A minor version of Cilium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 1.16
    V1_16,
    /// 1.17
    V1_17,
    /// 1.18
    V1_18,
    /// 1.19
    V1_19,
    /// 1.20
    V1_20,
}

/// How policies are to be read. The default is a default installation of 1.19.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The version of Cilium.
    pub version: Version,
    /// The namespace of namespaced policies that name none; Cilium takes `default`.
    pub namespace: Box<str>,
    /// `enable-l7-proxy`.
    pub l7_proxy: bool,
    /// `enable-icmp-rules`.
    pub icmp_rules: bool,
    /// `enable-node-selector-labels`: whether `fromNodes` and `toNodes` may be used.
    pub node_selector_labels: bool,
    /// `enable-extended-ip-protocols` (since 1.19): VRRP and IGMP, and ports that are left out.
    pub extended_ip_protocols: bool,
    /// `enable-non-default-deny-policies`: whether `enableDefaultDeny: false` means anything.
    pub non_default_deny_policies: bool,
}

// === impl Version ===

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] = [Self::V1_16, Self::V1_17, Self::V1_18, Self::V1_19, Self::V1_20];

    /// `1.19`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_16 => "1.16",
            Self::V1_17 => "1.17",
            Self::V1_18 => "1.18",
            Self::V1_19 => "1.19",
            Self::V1_20 => "1.20",
        }
    }

    /// From `1.19`, `v1.19` or `1.19.7`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        Self::ALL.into_iter().find(|v| {
            text.strip_prefix(v.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '+']))
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            version: Version::V1_19,
            namespace: "default".into(),
            l7_proxy: true,
            icmp_rules: true,
            node_selector_labels: false,
            extended_ip_protocols: false,
            non_default_deny_policies: true,
        }
    }
}

impl Options {
    /// A default installation of this version.
    pub fn of(version: Version) -> Self {
        Self { version, ..Self::default() }
    }
}
