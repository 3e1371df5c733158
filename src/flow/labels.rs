//! Labels of an identity as Hubble prints them, and which of them outlive a pod.

use std::fmt;

/// One label: `source:key=value`, without `=` when the value is empty (`pkg/labels/labels.go`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Who set it.
    pub source: LabelSource,
    /// The key without its source.
    pub key: Box<str>,
    /// The value; empty is a value too.
    pub value: Box<str>,
}

/// Where a label comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LabelSource {
    /// `k8s:`: from the pod, its namespace, or added by Cilium for Kubernetes.
    K8s,
    /// `reserved:`: one of Cilium's reserved identities.
    Reserved,
    /// `cidr:`: the policy prefix that an address fell into.
    Cidr,
    /// `fqdn:`: the `toFQDNs` selector that an address was learnt by.
    Fqdn,
    /// No source, `any:` or `unspec:`.
    Unspecified,
    /// Any other word (`container`, `node`, `gen`, …).
    Other(Box<str>),
}

/// The labels of an identity, sorted, each once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Box<[Label]>);

/// The reserved identities of Cilium (`pkg/identity/numericidentity.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reserved {
    /// 0: nothing is known about the endpoint.
    Unknown,
    /// 1: the local node and its host-network pods.
    Host,
    /// 2: outside the cluster.
    World,
    /// 3: a pod that Cilium does not manage.
    Unmanaged,
    /// 4: the health endpoint of a node.
    Health,
    /// 5: an endpoint whose labels are not known yet.
    Init,
    /// 6: another node.
    RemoteNode,
    /// 7: the Kubernetes API server.
    KubeApiserver,
    /// 8: Cilium's own Ingress and Gateway proxy.
    Ingress,
    /// 9: outside the cluster, IPv4, in dual stack.
    WorldIpv4,
    /// 10: outside the cluster, IPv6, in dual stack.
    WorldIpv6,
    /// A reserved word this version does not know, or one of the datapath's own (11).
    Other,
}

/// `k8s:io.kubernetes.pod.namespace`.
pub(super) const NAMESPACE_KEY: &str = "io.kubernetes.pod.namespace";
/// `k8s:io.cilium.k8s.policy.cluster`.
pub(super) const CLUSTER_KEY: &str = "io.cilium.k8s.policy.cluster";

// === impl Label ===

impl Label {
    /// Parses the text form. Never fails: a text without `:` before its `=` has no source, one
    /// without `=` an empty value.
    pub fn parse(text: &str) -> Self {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let (source, key) = match name.split_once(':') {
            Some((source, key)) => (LabelSource::from_word(source), key),
            None => (LabelSource::Unspecified, name),
        };
        Self { source, key: key.into(), value: value.into() }
    }

    /// Whether a policy of the form `key: value` or `k8s:key: value` can name it.
    pub fn is_from_kubernetes(&self) -> bool {
        matches!(self.source, LabelSource::K8s | LabelSource::Unspecified)
    }

    /// Whether it belongs to one revision, run or pod, or is changed by an operator while the pod
    /// lives: a selector made from it dies with that. The lists are those of Cilium's identity
    /// filter (`pkg/labelsfilter/filter.go`) plus labels that Cilium keeps although they change.
    pub fn is_unstable(&self) -> bool {
        let key = &*self.key;
        UNSTABLE_KEYS.binary_search(&key).is_ok()
            || UNSTABLE_PREFIXES.iter().any(|prefix| key.starts_with(prefix))
            || UNSTABLE_SUFFIXES.iter().any(|suffix| key.ends_with(suffix))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source.word() {
            Some(source) => write!(f, "{source}:{}", self.key)?,
            None => f.write_str(&self.key)?,
        }
        if self.value.is_empty() { Ok(()) } else { write!(f, "={}", self.value) }
    }
}

// === impl LabelSource ===

impl LabelSource {
    fn from_word(word: &str) -> Self {
        match word {
            "k8s" => Self::K8s,
            "reserved" => Self::Reserved,
            "cidr" => Self::Cidr,
            "fqdn" => Self::Fqdn,
            "" | "any" | "unspec" => Self::Unspecified,
            other => Self::Other(other.into()),
        }
    }

    fn word(&self) -> Option<&str> {
        match self {
            Self::K8s => Some("k8s"),
            Self::Reserved => Some("reserved"),
            Self::Cidr => Some("cidr"),
            Self::Fqdn => Some("fqdn"),
            Self::Unspecified => None,
            Self::Other(word) => Some(word),
        }
    }
}

// === impl Labels ===

impl Labels {
    /// The value of the Kubernetes label with this key.
    pub fn kubernetes(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|l| l.is_from_kubernetes() && &*l.key == key).map(|l| &*l.value)
    }

    /// All labels, sorted by source and key.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter()
    }
}

impl FromIterator<Label> for Labels {
    fn from_iter<I: IntoIterator<Item = Label>>(labels: I) -> Self {
        let mut labels: Vec<Label> = labels.into_iter().collect();
        labels.sort_unstable();
        labels.dedup();
        Self(labels.into())
    }
}

// === impl Reserved ===

impl Reserved {
    /// From the word behind `reserved:`.
    pub fn from_word(word: &str) -> Self {
        match word {
            "unknown" => Self::Unknown,
            "host" => Self::Host,
            "world" => Self::World,
            "unmanaged" => Self::Unmanaged,
            "health" => Self::Health,
            "init" => Self::Init,
            "remote-node" => Self::RemoteNode,
            "kube-apiserver" => Self::KubeApiserver,
            "ingress" => Self::Ingress,
            "world-ipv4" => Self::WorldIpv4,
            "world-ipv6" => Self::WorldIpv6,
            _ => Self::Other,
        }
    }

    /// What a numeric identity says by itself, for endpoints that come without labels: the reserved
    /// numbers, and the scopes in the top eight bits (1: CIDR, so the world; 2: a remote node).
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Unknown,
            1 => Self::Host,
            2 => Self::World,
            3 => Self::Unmanaged,
            4 => Self::Health,
            5 => Self::Init,
            6 => Self::RemoteNode,
            7 => Self::KubeApiserver,
            8 => Self::Ingress,
            9 => Self::WorldIpv4,
            10 => Self::WorldIpv6,
            11 => Self::Other,
            _ => match number >> 24 {
                1 => Self::World,
                2 => Self::RemoteNode,
                _ => return None,
            },
        })
    }

    /// The word behind `reserved:`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Host => "host",
            Self::World => "world",
            Self::Unmanaged => "unmanaged",
            Self::Health => "health",
            Self::Init => "init",
            Self::RemoteNode => "remote-node",
            Self::KubeApiserver => "kube-apiserver",
            Self::Ingress => "ingress",
            Self::WorldIpv4 => "world-ipv4",
            Self::WorldIpv6 => "world-ipv6",
            Self::Other => "other",
        }
    }

    /// Whether it stands for addresses outside the cluster.
    pub fn is_world(self) -> bool {
        matches!(self, Self::World | Self::WorldIpv4 | Self::WorldIpv6)
    }
}

/// Labels of one revision, one run or one pod, and labels that an operator moves from pod to pod
/// while they live. Sorted.
const UNSTABLE_KEYS: [&str; 49] = [
    "agent-id",
    "app.kubernetes.io/version",
    "apps.kubernetes.io/pod-index",
    "argo-rollouts.argoproj.io/role",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/pod-name",
    "chart",
    "cnpg.io/instanceName",
    "cnpg.io/instanceRole",
    "cnpg.io/podRole",
    "cnpg.io/pvcRole",
    "controller-revision-hash",
    "controller-uid",
    "controller.devfile.io/devworkspace_id",
    "date",
    "elasticsearch.k8s.elastic.co/config-hash",
    "git-commit",
    "git-sha",
    "helm.sh/chart",
    "helm.sh/revision",
    "jenkins/label-digest",
    "job-name",
    "kubedb.com/role",
    "leader",
    "pipeline.jenkins.io/build-number",
    "pod-name",
    "pod-template-generation",
    "pod-template-hash",
    "postgres-operator.crunchydata.com/instance",
    "postgres-operator.crunchydata.com/role",
    "redis-role",
    "redisfailovers-role",
    "redisfailovers.databases.spotahome.com/role",
    "role",
    "rollouts-pod-template-hash",
    "run-id",
    "serving.knative.dev/revision",
    "serving.knative.dev/revisionUID",
    "spark-app-selector",
    "spark-exec-id",
    "spilo-role",
    "statefulset.kubernetes.io/pod-name",
    "tags.datadoghq.com/version",
    "tekton.dev/taskRunUID",
    "vault-active",
    "vault-sealed",
    "version",
];

/// Families of labels that a platform writes for itself.
const UNSTABLE_PREFIXES: [&str; 9] = [
    "actions.github.com/",
    "controller-uid",
    "dask.org/",
    "heritage",
    "security.istio.io/",
    "tekton.dev/",
    "vault-version",
    "workflows.argoproj.io/",
    "workload.user.cattle.io/",
];

/// Keys that say by their ending that they belong to one revision.
const UNSTABLE_SUFFIXES: [&str; 7] =
    ["-template-hash", "/config-hash", "/pod-name", "/pod-index", "/checksum", "-checksum", "/revision-hash"];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, source: LabelSource, key: &str, value: &str) {
        let label = Label::parse(text);
        assert_eq!((&label.source, &*label.key, &*label.value), (&source, key, value), "{text}");
    }

    #[test]
    fn text_form() {
        check("k8s:app=web", LabelSource::K8s, "app", "web");
        check("k8s:node-role.kubernetes.io/worker", LabelSource::K8s, "node-role.kubernetes.io/worker", "");
        check("reserved:world", LabelSource::Reserved, "world", "");
        check("cidr:2001-db8--1/128", LabelSource::Cidr, "2001-db8--1/128", "");
        check("app=a:b", LabelSource::Unspecified, "app", "a:b");
        check("any:app=web", LabelSource::Unspecified, "app", "web");
        check("k8s:common:commonselector", LabelSource::K8s, "common:commonselector", "");
        check("gen:x=y", LabelSource::Other("gen".into()), "x", "y");
        check("k8s:a=b=c", LabelSource::K8s, "a", "b=c");
        check("", LabelSource::Unspecified, "", "");
    }

    #[test]
    fn unstable_labels() {
        assert!(UNSTABLE_KEYS.is_sorted());
        let unstable = |key: &str| Label::parse(&format!("k8s:{key}=x")).is_unstable();
        for key in ["job-name", "pod-template-hash", "role", "helm.sh/chart", "es.example/config-hash"] {
            assert!(unstable(key), "{key}");
        }
        for key in ["app", "app.kubernetes.io/name", "tier", "component", "release", "team"] {
            assert!(!unstable(key), "{key}");
        }
    }

    #[test]
    fn numbers_of_identities() {
        assert_eq!(Reserved::from_number(7), Some(Reserved::KubeApiserver));
        assert_eq!(Reserved::from_number(16_777_217), Some(Reserved::World));
        assert_eq!(Reserved::from_number(33_554_433), Some(Reserved::RemoteNode));
        assert_eq!(Reserved::from_number(20_407), None);
        assert_eq!(Reserved::from_number((3 << 16) | 300), None);
    }
}
