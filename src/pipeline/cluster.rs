//! How long a window waits for the cluster's policies.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::shutdown::Stage;
use crate::kube::ClusterPolicies;

/// The cluster's policies, which the first window waits for.
#[derive(Debug)]
pub(super) struct Cluster {
    policies: ClusterPolicies,
    patience: Duration,
    /// Time was up, and people know it.
    told: bool,
}

// === impl Cluster ===

impl Cluster {
    /// These policies, which are waited for so long from the start of the run.
    pub(super) fn new(policies: ClusterPolicies, patience: Duration) -> Self {
        Self { policies, patience, told: false }
    }

    /// Whether a window would come too early: what the cluster allows is not known yet.
    pub(super) fn delays(&mut self, started: Instant) -> bool {
        if self.told || self.policies.awaited().is_none() {
            return false;
        }
        let waits = started.elapsed() < self.patience;
        if !waits {
            self.tell();
        }
        waits
    }

    /// Waits for what the cluster allows, where that is still within its time, and `most` from now on.
    pub(super) async fn wait(&mut self, started: Instant, most: Duration, stage: &Stage) {
        // Else the stage is that of a write under way.
        if self.told || self.policies.awaited().is_none() {
            return;
        }
        stage.is("waiting for the cluster's policies");
        let until = (started + self.patience).min(Instant::now() + most);
        if timeout_at(until, self.policies.settled()).await.is_err() {
            self.tell();
        }
    }

    /// What is not as it should be, one sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        self.policies.notes()
    }

    /// Time is up: what it allows is written, like everything else.
    fn tell(&mut self) {
        self.told = true;
        if let Some(what) = self.policies.awaited() {
            tracing::warn!(
                "the cluster's policies did not become known in time ({what}): until they are, what they allow is \
                 written too"
            );
        }
    }
}
