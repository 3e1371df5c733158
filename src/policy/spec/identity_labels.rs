//! Which labels of a pod become part of its identity, with Cilium's default filter: a policy cannot see
//! the others.

use super::LabelKey;

/// What brings a label in again that an exclusion took; the longest counts.
const INCLUDED: [&str; 5] = [
    "io.kubernetes.pod.namespace",
    "io.cilium.k8s.namespace.labels",
    "app.kubernetes.io",
    "io.cilium.k8s.policy.cluster",
    "io.cilium.k8s.policy.serviceaccount",
];

/// What takes a label out when its key begins with it; the shortest counts.
const EXCLUDED: [&str; 13] = [
    "io.kubernetes",
    "kubernetes.io",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/controller-uid",
    "k8s.io",
    "pod-template-generation",
    "pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "etcd_node",
    "topology.kubernetes.io",
];

/// Whether identities carry such a label.
pub fn identity_carries(key: &LabelKey) -> bool {
    if !matches!(&*key.source, LabelKey::ANY | LabelKey::K8S) {
        return true;
    }
    let key = &*key.key;
    let starts =
        |list: &[&str]| list.iter().filter(|p| key.starts_with(**p)).map(|p| p.len()).collect::<Vec<_>>();
    let mut excluded = starts(&EXCLUDED);
    if key.starts_with("annotation") {
        excluded.push(key.len());
    }
    excluded.extend(key.rfind("beta.kubernetes.io").map(|at| at + "beta.kubernetes.io".len()));
    let included = starts(&INCLUDED).into_iter().max().unwrap_or(0);
    excluded.into_iter().min().is_none_or(|least| included > least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_and_dropped() {
        let kept = "app k8s-app app.kubernetes.io/name helm.sh/chart job-name batch.kubernetes.io/job-name \
            node-role.kubernetes.io/worker node.kubernetes.io/x networking.k8s.io/x eks.amazonaws.com/x \
            io.kubernetes.pod.namespace io.cilium.k8s.policy.cluster io.cilium.k8s.namespace.labels.team";
        let dropped = "pod-template-hash controller-revision-hash controller-uid statefulset.kubernetes.io/pod-name \
            apps.kubernetes.io/pod-index kubernetes.io/hostname topology.kubernetes.io/zone beta.kubernetes.io/os \
            failure-domain.beta.kubernetes.io/zone k8s.io/x annotation.x io.kubernetes.pod.name";
        for key in kept.split_whitespace() {
            assert!(identity_carries(&LabelKey::k8s(key)), "{key}");
        }
        for key in dropped.split_whitespace() {
            assert!(!identity_carries(&LabelKey::k8s(key)), "{key}");
            assert!(identity_carries(&LabelKey::new("node", key)), "{key}");
        }
    }
}
