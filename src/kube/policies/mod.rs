//! The policies of the cluster, of all kinds that Cilium's agent reads: listed page by page, then watched,
//! as long as somebody holds them.
//!
//! | module | holds |
//! |---|---|
//! | `follow` | one list and watch of one kind: pages, events, what broke, again |
//! | `held` | what is known of all of them together, and since when it is stale |

mod follow;
mod held;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use kube::Error;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::error::{Question, code};
use super::{Access, Cluster};
use crate::flow::Namespaces;
use crate::names::Namespace;
use crate::policy::spec::PolicyKind;
use crate::screen::ClusterPolicy;
use crate::text::visible;
use follow::Follower;
use held::{Held, Phase};

/// The file that grants what is needed here.
const ROLE: &str = "deploy/rbac/cluster-dedup.yaml";

/// The policies of a cluster, kept up to date until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct ClusterPolicies {
    shared: Arc<Shared>,
    _tasks: Arc<JoinSet<()>>,
}

/// One kind, in one namespace or all.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    kind: PolicyKind,
    /// `None`: in all, or the kind belongs to none.
    namespace: Option<Namespace>,
}

#[derive(Debug)]
struct Shared {
    held: Mutex<Held>,
    /// A phase is another one.
    changed: Notify,
    /// What is asked, in words: the cluster.
    of: String,
}

/// What was asked for and did not come.
#[derive(Debug)]
struct Failure {
    verb: &'static str,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Kube(Box<Error>),
    /// What is wrong with the answer, or that none came.
    Words(String),
}

// === impl ClusterPolicies ===

impl ClusterPolicies {
    /// Begins to list and watch the policies of these namespaces, and those of the whole cluster. When the API
    /// server no longer knows us, `access` is opened anew: somebody may have logged in again.
    pub fn follow(cluster: &Cluster, access: &Access, namespaces: &Namespaces) -> Self {
        let scopes = scopes(namespaces);
        let held = Held::new(scopes.clone());
        let shared = Shared { held: Mutex::new(held), changed: Notify::new(), of: cluster.to_string() };
        let shared = Arc::new(shared);
        let mut tasks = JoinSet::new();
        for (number, scope) in scopes.into_iter().enumerate() {
            let (client, access) = (cluster.client.clone(), access.clone());
            tasks.spawn(Follower { client, access, scope, number, shared: Arc::clone(&shared) }.run());
        }
        Self { shared, _tasks: Arc::new(tasks) }
    }

    /// Counts up with every change of what the policies say.
    pub fn revision(&self) -> u64 {
        self.shared.held().revision()
    }

    /// All of them, and the revision that this is.
    pub fn snapshot(&self) -> (u64, Vec<Arc<ClusterPolicy>>) {
        self.shared.held().snapshot()
    }

    /// Waits until every kind is known, or it is known that it never will be.
    pub async fn settled(&self) {
        self.when(|held| held.undecided().is_none().then_some(())).await;
    }

    /// Waits until every kind is known; the first that may not be read is an error, which names verb and
    /// resource.
    pub async fn complete(&self) -> Result<(), String> {
        self.when(|held| match held.refusal() {
            Some(refusal) => Some(Err(refusal)),
            None => held.undecided().is_none().then_some(Ok(())),
        })
        .await
    }

    /// What is being waited for, as verb and resource; `None` when nothing is.
    pub fn awaited(&self) -> Option<String> {
        self.shared.held().undecided()
    }

    /// What is not as it should be: what may not be read, what is stale, what found no room.
    pub fn notes(&self) -> Vec<String> {
        self.shared.held().notes()
    }

    async fn when<T>(&self, mut so: impl FnMut(&Held) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if let Some(value) = so(&self.shared.held()) {
                return value;
            }
            changed.await;
        }
    }
}

/// What is listed and watched.
fn scopes(namespaces: &Namespaces) -> Vec<Scope> {
    let mut scopes = vec![Scope { kind: PolicyKind::Ccnp, namespace: None }];
    for kind in [PolicyKind::Cnp, PolicyKind::KubernetesNetworkPolicy] {
        match namespaces {
            Namespaces::All => scopes.push(Scope { kind, namespace: None }),
            Namespaces::Only(only) => {
                scopes.extend(only.iter().map(|name| Scope { kind, namespace: Some(name.clone()) }));
            }
        }
    }
    scopes
}

// === impl Shared ===

impl Shared {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says where one scope is, and tells people when that matters.
    fn enter(&self, number: usize, phase: Phase) {
        let told = self.held().enter(number, phase, Timestamp::now());
        for line in told {
            line.tell(&self.of);
        }
        self.changed.notify_waiters();
    }
}

// === impl Scope ===

impl Scope {
    /// As RBAC calls it.
    fn resource(&self) -> &'static str {
        match self.kind {
            PolicyKind::Cnp => "ciliumnetworkpolicies",
            PolicyKind::Ccnp => "ciliumclusterwidenetworkpolicies",
            PolicyKind::KubernetesNetworkPolicy => "networkpolicies",
        }
    }

    /// Where it is asked for.
    fn path(&self) -> String {
        let namespace = self.namespace.as_ref().map(|n| format!("namespaces/{n}/")).unwrap_or_default();
        format!("/apis/{}/{namespace}{}", self.kind.api_version(), self.resource())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource())?;
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

// === impl Failure ===

impl Failure {
    fn code(&self) -> Option<u16> {
        match &self.why {
            Why::Kube(error) => code(error),
            Why::Words(_) => None,
        }
    }

    /// What was seen, with verb and resource; safe to print.
    fn words(&self, scope: &Scope) -> String {
        let verb = self.verb;
        match &self.why {
            Why::Words(words) => format!("{verb} on {scope}: {words}"),
            Why::Kube(error) if code(error) == Some(403) => {
                let says = match &**error {
                    Error::Api(status) => format!(": {}", visible(&status.message, 300)),
                    _ => String::new(),
                };
                format!("the API server forbids {verb} on {scope}{says}")
            }
            Why::Kube(error) => {
                let namespace = scope.namespace.as_ref().map(ToString::to_string).unwrap_or_default();
                let question =
                    Question { verb, resource: scope.resource(), namespace, kubectl: "kubectl".to_owned() };
                format!("{verb} on {scope}: {}", question.failed(error).what)
            }
        }
    }
}

#[cfg(test)]
mod tests;
