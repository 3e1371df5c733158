//! Cluster dedup: whether the cluster's policies count, how the cluster is reached, and what it means when that
//! fails.

use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::time::{Instant, timeout, timeout_at};

use super::args::ClusterDedup;
use crate::flow::Namespaces;
use crate::kube::{Access, Cluster, ClusterPolicies, RelayService};
use crate::source::relay::Trying;

/// What was asked for, checked.
#[derive(Debug)]
pub(super) struct Dedup {
    pub(super) mode: ClusterDedup,
    pub(super) way: WayToCluster,
    /// How long reaching the cluster and listing its policies may take.
    pub(super) timeout: Duration,
}

/// How the cluster is reached.
#[derive(Debug, Clone)]
pub(super) enum WayToCluster {
    /// It is the one that the relay is reached through.
    Relay(Box<RelayService>),
    /// It was named for this.
    Named(Access),
    /// Nobody named one: it is the one of the kubeconfig where it must be one.
    Unnamed(Access),
}

// === impl Dedup ===

impl Dedup {
    /// The cluster whose policies count; `None` when none do. Runs a credential plugin where there is one.
    pub(super) async fn cluster(&self) -> anyhow::Result<Option<Cluster>> {
        let access = match (&self.way, self.mode) {
            (_, ClusterDedup::Never) => return Ok(None),
            (WayToCluster::Unnamed(_), ClusterDedup::Auto) => {
                tracing::debug!(
                    "the cluster's policies do not count: no cluster was named (--kubeconfig, --context)"
                );
                return Ok(None);
            }
            (WayToCluster::Relay(way), _) => {
                let trying = Trying::default();
                let opened = timeout(self.timeout, way.cluster(&trying)).await;
                let opened = opened.map_err(|_| self.late("reading the kubeconfig"))?;
                return opened.map(Some).map_err(|e| anyhow!("--cluster-dedup: {}", e.what));
            }
            (WayToCluster::Named(access) | WayToCluster::Unnamed(access), _) => access,
        };
        let opened = timeout(self.timeout, access.open()).await;
        let opened = opened.map_err(|_| self.late("reading the kubeconfig"))?;
        opened.map(Some).map_err(|e| anyhow!("--cluster-dedup: {e}"))
    }

    /// The same, but where it is only nice to have, a line says why there is none.
    pub(super) async fn cluster_or_none(&self) -> anyhow::Result<Option<Cluster>> {
        match self.cluster().await {
            Err(e) if self.mode == ClusterDedup::Auto => {
                tracing::info!("the cluster's policies do not count: {e:#}");
                Ok(None)
            }
            cluster => cluster,
        }
    }

    /// Begins to list and watch; with `true` waits until all of it is known.
    pub(super) async fn policies(
        &self,
        cluster: Option<&Cluster>,
        namespaces: &Namespaces,
    ) -> anyhow::Result<Option<ClusterPolicies>> {
        let Some(cluster) = cluster else { return Ok(None) };
        let until = Instant::now() + self.timeout;
        let policies = ClusterPolicies::follow(cluster, self.access(), namespaces);
        if self.mode == ClusterDedup::Always {
            match timeout_at(until, policies.complete()).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => bail!("--cluster-dedup=true: {cluster}: {why}"),
                Err(_) => {
                    let what = policies.awaited().unwrap_or_default();
                    return Err(self.late(&format!("{cluster}: {what}")));
                }
            }
        }
        Ok(Some(policies))
    }

    fn access(&self) -> &Access {
        match &self.way {
            WayToCluster::Relay(way) => way.access(),
            WayToCluster::Named(access) | WayToCluster::Unnamed(access) => access,
        }
    }

    fn late(&self, what: &str) -> anyhow::Error {
        let timeout = humantime::format_duration(self.timeout);
        anyhow!(
            "--cluster-dedup: the cluster's policies did not become known within {timeout}: time was up at {what}. \
             Give more time with --timeout, or leave them out with --cluster-dedup=false"
        )
    }
}
