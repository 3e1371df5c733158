//! Selectors from a workload's own labels.

use super::label;
use crate::flow::Identity;
use crate::policy::{IDENTIFYING, Selector};

/// Those of the identifying labels that say *what* it is. The others (instance, component, tier) only divide what a
/// name has named: alone they match half a namespace.
const NAMING: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "name"];

/// The `endpointSelector` for a workload: all of the identifying labels that it has, when one of them
/// names it; else all of its stable labels. `None` when it has no label that a policy can use.
pub fn subject_selector(identity: &Identity) -> Option<Selector> {
    let usable: Vec<_> = identity.labels.iter().filter(|l| label::is_usable(l)).collect();
    let named = usable.iter().any(|l| NAMING.contains(&&*l.key) && !l.value.is_empty());
    Selector::new(
        usable.iter().filter(|l| !named || IDENTIFYING.contains(&&*l.key)).map(|l| (&*l.key, &*l.value)),
    )
}

/// The selector for a peer as seen from a subject: like a subject's, plus its namespace and cluster
/// where they are not the subject's (Cilium adds the policy's own). A peer without labels of its own
/// is named by its service account, unless that is `default`, which says nothing.
pub fn peer_selector(peer: &Identity, subject: &Identity) -> Option<Selector> {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    let own = subject_selector(peer);
    match (&own, peer.service_account()) {
        (Some(own), _) => labels.extend(own.iter()),
        (None, Some(account)) if account != "default" && !account.is_empty() => {
            labels.push(("k8s:io.cilium.k8s.policy.serviceaccount", account));
        }
        (None, _) => return None,
    }
    let namespace = peer.namespace.as_ref()?;
    if Some(namespace) != subject.namespace.as_ref() {
        labels.push(("k8s:io.kubernetes.pod.namespace", namespace.as_str()));
    }
    if let (Some(cluster), Some(local)) = (&peer.cluster, &subject.cluster)
        && cluster != local
    {
        labels.push(("k8s:io.cilium.k8s.policy.cluster", cluster));
    }
    Selector::new(labels)
}
