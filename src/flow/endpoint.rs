//! One end of a flow, and the identity behind it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use super::labels::{CLUSTER_KEY, NAMESPACE_KEY};
use super::{Label, LabelSource, Labels, Reserved};
use crate::names::Namespace;

/// One end of a flow as Hubble describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Cilium's numeric identity; 0 where it is unknown or masked. Numbers from 1 << 24 differ from
    /// node to node.
    pub number: u32,
    /// What policies can select it by.
    pub identity: Arc<Identity>,
    /// The pod's name; only known where Hubble found the address.
    pub pod: Option<Box<str>>,
    /// Hubble knows this address to be a pod (it filled `namespace` or `pod_name`), whatever the
    /// labels say.
    pub address_is_pod: bool,
}

/// What a policy can tell workloads apart by: namespace, cluster and labels that outlive a pod.
/// Two pods of one workload have one identity. Equality is by content; the hash is precomputed.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `None` for everything that is no pod.
    pub namespace: Option<Namespace>,
    /// The endpoint names a namespace that no cluster can have: never used in a path or a policy.
    pub namespace_invalid: bool,
    /// The cluster's name; `None` where the agent does not say.
    pub cluster: Option<Box<str>>,
    /// The labels that are neither unstable nor told above.
    pub labels: Labels,
    /// Its reserved labels, sorted; from the number where there are no labels.
    pub reserved: Box<[Reserved]>,
    fingerprint: u64,
}

// === impl Endpoint ===

impl Endpoint {
    /// From the fields of `flow.Endpoint`. Empty texts mean "not known".
    pub fn new<'a>(
        number: u32,
        namespace: &str,
        pod: &str,
        cluster: &str,
        labels: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self {
            number,
            identity: Arc::new(Identity::new(number, namespace, cluster, labels)),
            pod: (!pod.is_empty()).then(|| pod.into()),
            address_is_pod: !pod.is_empty() || !namespace.is_empty(),
        }
    }
}

// === impl Identity ===

impl Identity {
    /// From the fields of `flow.Endpoint`: the namespace falls back to its label, which is there
    /// even when the address was not found.
    pub fn new<'a>(
        number: u32,
        namespace: &str,
        cluster: &str,
        labels: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let all: Labels = labels.into_iter().map(Label::parse).collect();
        let namespace =
            if namespace.is_empty() { all.kubernetes(NAMESPACE_KEY).unwrap_or("") } else { namespace };
        let cluster = all.kubernetes(CLUSTER_KEY).unwrap_or(cluster);
        let parsed = Namespace::parse(namespace);
        let mut reserved: Vec<Reserved> = all
            .iter()
            .filter(|l| l.source == LabelSource::Reserved)
            .map(|l| Reserved::from_word(&l.key))
            .collect();
        if all.iter().next().is_none() && namespace.is_empty() {
            reserved.extend(Reserved::from_number(number));
        }
        let is_address = |l: &Label| matches!(l.source, LabelSource::Cidr | LabelSource::Fqdn);
        if reserved.is_empty() && namespace.is_empty() && all.iter().any(is_address) {
            reserved.push(Reserved::World);
        }
        reserved.sort_unstable();
        reserved.dedup();
        let told = |l: &Label| l.is_from_kubernetes() && [NAMESPACE_KEY, CLUSTER_KEY].contains(&&*l.key);
        let mut identity = Self {
            namespace_invalid: !namespace.is_empty() && parsed.is_err(),
            namespace: parsed.ok(),
            cluster: (!cluster.is_empty()).then(|| cluster.into()),
            labels: all.iter().filter(|l| !l.is_unstable() && !told(l)).cloned().collect(),
            reserved: reserved.into(),
            fingerprint: 0,
        };
        let mut hasher = Xxh3Default::new();
        identity.content().hash(&mut hasher);
        identity.fingerprint = hasher.finish();
        identity
    }

    /// Whether it carries this reserved label.
    pub fn is(&self, reserved: Reserved) -> bool {
        self.reserved.contains(&reserved)
    }

    /// Whether it stands for something outside the cluster.
    pub fn is_world(&self) -> bool {
        self.reserved.iter().any(|r| r.is_world())
    }

    /// The pod's service account, where Cilium tells it.
    pub fn service_account(&self) -> Option<&str> {
        self.labels.kubernetes("io.cilium.k8s.policy.serviceaccount")
    }

    #[allow(clippy::type_complexity, reason = "one tuple that equality, order and hash all use")]
    fn content(&self) -> (&Option<Namespace>, bool, &Option<Box<str>>, &[Reserved], &Labels) {
        (&self.namespace, self.namespace_invalid, &self.cluster, &self.reserved, &self.labels)
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.content() == other.content()
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fingerprint);
    }
}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.content().cmp(&other.content())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pods_of_a_workload_have_one_identity() {
        let labels = |hash: &str| {
            vec![
                "k8s:app=web".to_owned(),
                format!("k8s:pod-template-hash={hash}"),
                "k8s:io.kubernetes.pod.namespace=shop".to_owned(),
                "k8s:io.cilium.k8s.policy.cluster=west".to_owned(),
            ]
        };
        let pod = |name: &str, hash: &str| {
            Endpoint::new(4711, "shop", name, "", labels(hash).iter().map(String::as_str))
        };
        let (a, b) = (pod("web-1", "x"), pod("web-2", "y"));
        assert_eq!(a.identity, b.identity);
        assert_ne!(a, b);
        assert_eq!(a.identity.cluster.as_deref(), Some("west"));
        assert_eq!(a.identity.labels.iter().map(ToString::to_string).collect::<Vec<_>>(), ["k8s:app=web"]);
    }

    #[test]
    fn the_namespace_comes_from_the_label_when_the_address_is_unknown() {
        let e = Endpoint::new(300, "", "", "", ["k8s:io.kubernetes.pod.namespace=shop", "k8s:app=a"]);
        assert_eq!(e.identity.namespace, Namespace::parse("shop").ok());
        assert!(!e.address_is_pod);
        let hostile = Endpoint::new(300, "../../etc", "x", "", []);
        assert!(hostile.identity.namespace.is_none() && hostile.identity.namespace_invalid);
    }

    #[test]
    fn reserved_by_label_set_or_by_number() {
        let api = Endpoint::new(16_777_217, "", "", "", ["reserved:world", "reserved:kube-apiserver"]);
        assert!(api.identity.is(Reserved::KubeApiserver) && api.identity.is_world());
        assert!(Endpoint::new(6, "", "", "", []).identity.is(Reserved::RemoteNode));
        assert!(Endpoint::new(0, "", "", "", []).identity.is(Reserved::Unknown));
        assert!(Endpoint::new(0, "shop", "p", "", ["k8s:app=a"]).identity.reserved.is_empty());
    }
}
