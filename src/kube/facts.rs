//! What a cluster says about itself: its identity, and Cilium's settings. Whatever may not be read is
//! unknown, and that is no error.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace as Kubernetes};
use kube::api::Api;

use super::Cluster;
use crate::names::Namespace;
use crate::text::visible;

/// Settings of Cilium's agents that matter for policies; `None` where it is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CiliumFacts {
    /// `enable-policy`: default, always or never.
    pub policy_mode: Option<String>,
    /// `policy-audit-mode`: what is denied passes, and is only reported.
    pub audit: Option<bool>,
    /// `enable-l7-proxy`: rules for DNS names and HTTP work.
    pub l7_proxy: Option<bool>,
}

/// The UID of namespace kube-system, by which a cluster is known; `None` where it may not be read.
pub async fn identity(cluster: &Cluster) -> Option<String> {
    let namespaces: Api<Kubernetes> = Api::all(cluster.client.clone());
    match namespaces.get("kube-system").await {
        Ok(namespace) => namespace.metadata.uid.map(|uid| visible(&uid, 100).into_owned()),
        Err(e) => {
            tracing::debug!(error = %super::error::chain(&e), "the cluster's identity is unknown");
            None
        }
    }
}

/// Cilium's settings, from ConfigMap cilium-config.
pub async fn cilium(cluster: &Cluster, namespace: &Namespace) -> Option<CiliumFacts> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace.as_str());
    let map = match maps.get("cilium-config").await {
        Ok(map) => map.data.unwrap_or_default(),
        Err(e) => {
            tracing::debug!(error = %super::error::chain(&e), "Cilium's settings are unknown");
            return None;
        }
    };
    let switch = |key: &str| map.get(key).map(|value| value == "true");
    Some(CiliumFacts {
        policy_mode: map.get("enable-policy").map(|mode| visible(mode, 40).into_owned()),
        audit: switch("policy-audit-mode"),
        l7_proxy: switch("enable-l7-proxy"),
    })
}

// === impl CiliumFacts ===

impl CiliumFacts {
    /// What keeps cpg or its policies from working, each with a remedy.
    pub fn warnings(&self) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if self.policy_mode.as_deref() == Some("never") {
            warnings.push(
                "Cilium enforces no policies (enable-policy: never), so it drops nothing for want of one: set it \
                 to default, for a trial together with policy-audit-mode",
            );
        }
        if self.audit == Some(true) {
            warnings.push(
                "Cilium only audits policies (policy-audit-mode: true): what it would deny is no drop and \
                 counts only with --include-audit",
            );
        }
        if self.l7_proxy == Some(false) {
            warnings.push(
                "Cilium's L7 proxy is off (enable-l7-proxy: false): rules for DNS names or HTTP, as in the \
                 starter policies, do not work. Turn it on, or leave such rules out",
            );
        }
        warnings
    }
}
