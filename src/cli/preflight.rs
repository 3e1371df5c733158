//! What is worth knowing before the first flow: the cluster's identity, Cilium's settings, the relay's nodes.

use std::time::Duration;

use crate::kube::{Cluster, RelayService, facts};
use crate::source::relay::{Relay, Trying};
use crate::store::ClusterIdentity;

/// How long all these questions may take together.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who the cluster is, as far as it can be told.
pub(super) async fn identity(cluster: Option<&Cluster>, relay: Option<&Relay>) -> ClusterIdentity {
    let uid = async { facts::identity(cluster?).await };
    let name = async {
        let mut names = relay?.clusters().await.ok()?;
        // A relay that sees several is asked for none.
        if names.len() == 1 { names.pop_first().map(String::from) } else { None }
    };
    let asked = async { tokio::join!(uid, name) };
    let (uid, name) = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_default();
    ClusterIdentity { uid, name }
}

/// What the relay says of its version.
pub(super) async fn version(relay: &Relay) -> Option<String> {
    let status = tokio::time::timeout(PATIENCE, relay.status()).await.ok()?.ok()??;
    (!status.version.is_empty()).then_some(status.version)
}

/// Says what is there, and warns of what does not fit, with a remedy.
pub(super) async fn tell(cluster: Option<&RelayService>, relay: &Relay) {
    let told = async {
        if let Some(way) = cluster
            && let Ok(cluster) = way.cluster(&Trying::default()).await
        {
            let cilium = facts::cilium(&cluster, way.namespace()).await;
            let of = |value: Option<&str>| value.unwrap_or("unknown").to_owned();
            let facts = cilium.unwrap_or_default();
            tracing::info!(
                version = way.version().unwrap_or_else(|| "unknown".to_owned()),
                policy_mode = of(facts.policy_mode.as_deref()),
                l7_proxy = of(facts.l7_proxy.map(|on| if on { "on" } else { "off" })),
                "Cilium"
            );
            for warning in facts.warnings() {
                tracing::warn!("{warning}");
            }
        }
        match relay.status().await {
            Ok(Some(status)) => {
                tracing::info!("{status}");
                if status.connected_nodes == Some(0) {
                    tracing::warn!(
                        "the relay has no node connected, so no flow will come: check its log, and that Hubble is \
                         enabled on the agents (hubble.enabled)"
                    );
                }
                if let Some(missing) = status.unavailable_nodes.filter(|n| *n > 0) {
                    let nodes: Vec<&str> = status.unavailable.iter().map(|n| n.as_str()).collect();
                    tracing::warn!(
                        nodes = nodes.join(", "),
                        "the relay does not reach {missing} of its nodes: their flows are missing. Check Cilium's \
                         agents on them"
                    );
                }
            }
            Ok(None) => tracing::debug!("the relay has no ServerStatus"),
            Err(e) => tracing::warn!("the relay does not say how it is: {e}"),
        }
    };
    if tokio::time::timeout(PATIENCE, told).await.is_err() {
        tracing::debug!("the preflight took too long and was left");
    }
}
