//! What labels the workloads of a capture have: every way in which people label, and some odd ones.

use super::labels::Pair;
use super::model::Kind;
use super::rng::Rng;

/// Names of workloads, the same in every namespace.
pub(super) const WORDS: [&str; 15] = [
    "api", "web", "cart", "worker", "gateway", "ledger", "indexer", "mailer", "report", "sync", "redis",
    "postgres", "importer", "exporter", "agent",
];

/// A workload before it has pods.
pub(super) struct Draft {
    pub(super) name: String,
    /// Labels of every pod.
    pub(super) labels: Vec<Pair>,
    pub(super) account: String,
    pub(super) kind: Kind,
    /// Whether half of the pods are of another version.
    pub(super) versions: bool,
    pub(super) owner: &'static str,
}

// === impl Draft ===

impl Draft {
    fn new(name: &str, labels: &[(&str, &str)]) -> Self {
        Self {
            name: name.to_owned(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            account: name.to_owned(),
            kind: Kind::Plain,
            versions: false,
            owner: "Deployment",
        }
    }

    /// With an `app` label alone.
    pub(super) fn app(name: &str) -> Self {
        Self::new(name, &[("app", name)])
    }
}

/// The cluster's resolver.
pub(super) fn kube_dns() -> Draft {
    Draft { name: "coredns".to_owned(), ..Draft::new("coredns", &[("k8s-app", "kube-dns")]) }
}

/// One workload's labels. Names are equal in all namespaces, so labels are equal in several of them;
/// within one namespace every slot has a name of its own.
pub(super) fn draft(namespace: usize, slot: usize, rng: &mut Rng) -> Draft {
    let word = WORDS[slot];
    let releases = ["eu", "us", "ap"];
    match (slot, (namespace + slot) % 5) {
        // a chart installed three times
        (0..=2, 0 | 1) => {
            let release = format!("shop-{}", releases[slot]);
            let labels = [
                ("app.kubernetes.io/name", "shop"),
                ("app.kubernetes.io/instance", &release),
                ("app.kubernetes.io/managed-by", "Helm"),
                ("app.kubernetes.io/version", "2.4.1"),
                ("helm.sh/chart", "shop-7.1.0"),
            ];
            Draft::new(&release, &labels)
        }
        (8, _) => Draft { kind: Kind::Job, ..Draft::app("report") },
        (9, 0 | 1) => {
            Draft { kind: Kind::Job, ..Draft::new("sync", &[("team", "data"), ("purpose", "nightly-sync")]) }
        }
        (9, 2) => Draft { kind: Kind::Job, ..Draft::new("sync", &[]) },
        (10, _) => Draft { owner: "StatefulSet", ..Draft::app("redis") },
        (11, _) => {
            let labels = [("application", "spilo"), ("app", "postgres"), ("cluster-name", "main")];
            Draft { kind: Kind::Roles, owner: "StatefulSet", ..Draft::new("postgres", &labels) }
        }
        (12, 0..=2) => Draft::new("importer", &[]),
        (12, _) => Draft { account: "default".to_owned(), ..Draft::new("importer", &[]) },
        (13, _) => odd(namespace),
        (3, _) => Draft { versions: true, ..Draft::new(word, &[("app", word), ("tier", "backend")]) },
        (4, _) => Draft::new(word, &[("name", word), ("component", "proxy"), ("release", "stable")]),
        (5, _) => Draft::new(word, &[("team", "payments"), ("tier", ""), ("component", "ledger")]),
        (14, _) => Draft { owner: "DaemonSet", ..Draft::new(word, &[("k8s-app", word), ("tier", "node")]) },
        _ if rng.chance(50) => {
            let labels = [
                ("app.kubernetes.io/component", "server"),
                ("app.kubernetes.io/instance", word),
                ("app.kubernetes.io/managed-by", "Helm"),
                ("app.kubernetes.io/name", word),
                ("app.kubernetes.io/part-of", "platform"),
                ("app.kubernetes.io/version", "1.9.3"),
                ("helm.sh/chart", "server-1.9.3"),
            ];
            Draft::new(word, &labels)
        }
        _ => {
            Draft { versions: rng.chance(30), ..Draft::new(word, &[("app", word), ("chart", "plain-0.1.0")]) }
        }
    }
}

/// Labels that are read wrongly when they are written carelessly, and some that no policy can name.
fn odd(namespace: usize) -> Draft {
    const LONG: &str = "this-key-has-more-than-fifty-nine-characters-and-no-slash-in-it";
    const LONG_WITH_SLASH: &str =
        "example.com/this-name-has-almost-sixty-three-characters-behind-a-slash-yes";
    let labels: &[(&str, &str)] = match namespace % 6 {
        0 => &[("enabled", "no"), ("batch", "1e3"), ("Owner", "Blue_Team.v2")],
        1 => &[("app", "no"), ("tier", "")],
        2 => &[(LONG, "x"), ("team", "Search_Core"), (LONG_WITH_SLASH, "1_000")],
        3 => &[("common:commonselector", "all"), ("stage", "on"), ("a/b/c", "two-slashes")],
        4 => &[("app", "0x1F"), ("component", "null"), ("owner", "team@example.org")],
        _ => &[("k8s-app", "Exporter_2.0"), ("tier", "12"), ("empty", "")],
    };
    Draft::new("exporter", labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_long_as_kubernetes_allows() {
        for namespace in 0..6 {
            for (key, _) in odd(namespace).labels {
                assert!(key.rsplit('/').next().unwrap().len() <= 63, "{key}");
            }
        }
        assert!(odd(2).labels.iter().any(|(key, _)| key.len() >= 60 && !key.contains('/')));
    }
}
