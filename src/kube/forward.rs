//! The way to the relay through Kubernetes: Service → ready pod → port-forward, chosen anew for every
//! connection. Inside of the cluster its Service is dialled, which needs no right to forward ports.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::choice::{best, selector, service_port, stands_for_tls, target_port, version, why_none};
use super::error::{Question, code};
use super::{Access, Cluster};
use crate::names::Namespace;
use crate::source::relay::{Address, DialError, Dialling, Trying, Way, Wire, dial};
use crate::text::visible;

/// The name in the certificate that Cilium's chart makes for the relay is `*.hubble-relay.cilium.io`.
pub const SERVER_NAME: &str = "instance.hubble-relay.cilium.io";
/// Most pods that are looked at.
const PODS: u32 = 100;

/// Which relay of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The namespace of its Service.
    pub namespace: Namespace,
    /// The name of its Service.
    pub service: String,
    /// Its port: in the pod, and inside of the cluster the one of the Service. `None`: what the Service
    /// says.
    pub port: Option<u16>,
    /// Whether TLS was asked for; decides the Service's port where that may not be read.
    pub tls: bool,
}

/// The way to the relay of a cluster. Clones share what they have learned.
#[derive(Debug, Clone)]
pub struct RelayService {
    access: Access,
    target: Target,
    seen: Arc<Mutex<Seen>>,
}

/// What was learned on the way.
#[derive(Debug, Default)]
struct Seen {
    /// Kept until the API server refuses something: then the kubeconfig is read anew.
    cluster: Option<Cluster>,
    /// The context or address of the cluster, for messages.
    of: String,
    service_port: Option<i32>,
    /// The pod that the last connection went to.
    pod: Option<String>,
    /// The version of Cilium that this pod belongs to.
    version: Option<String>,
    /// What the node said of the port in the pod: nobody listens there.
    complaint: Option<String>,
}

// === impl RelayService ===

impl RelayService {
    /// To this relay of the cluster behind `access`.
    pub fn new(access: Access, target: Target) -> Self {
        Self { access, target, seen: Arc::default() }
    }

    /// To this relay of a cluster that is open already.
    pub fn of(cluster: Cluster, target: Target) -> Self {
        let way = Self::new(Access::default(), target);
        way.remember(&cluster);
        way
    }

    /// The cluster, for other questions than the relay's pod; opened when nothing was dialled yet.
    pub async fn cluster(&self, trying: &Trying) -> Result<Cluster, DialError> {
        if let Some(cluster) = self.seen().cluster.clone() {
            return Ok(cluster);
        }
        let plugin = "reading the kubeconfig and running its credential plugin, if it has one";
        trying.now(plugin);
        let cluster = self.access.open().await.map_err(|e| DialError::new(e.0).remedy(""))?;
        self.remember(&cluster);
        Ok(cluster)
    }

    /// What the user said about the cluster.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The namespace of Cilium.
    pub fn namespace(&self) -> &Namespace {
        &self.target.namespace
    }

    /// The version of Cilium that the relay's pod belongs to, once one was reached.
    pub fn version(&self) -> Option<String> {
        self.seen().version.clone()
    }

    fn remember(&self, cluster: &Cluster) {
        let mut seen = self.seen();
        seen.of = format!(" of {cluster}");
        seen.cluster = Some(cluster.clone());
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kubectl(&self) -> String {
        let seen = self.seen();
        match &seen.cluster {
            Some(cluster) if !cluster.context.is_empty() => format!("kubectl --context {}", cluster.context),
            _ => "kubectl".to_owned(),
        }
    }

    fn question(&self, verb: &'static str, resource: &'static str) -> Question {
        let (namespace, kubectl) = (self.target.namespace.to_string(), self.kubectl());
        Question { verb, resource, namespace, kubectl }
    }

    async fn connect(&self, trying: &Trying) -> Result<Wire, DialError> {
        let cluster = self.cluster(trying).await?;
        let dialled = if cluster.inside {
            self.to_service(&cluster, trying).await
        } else {
            self.to_pod(&cluster, trying).await
        };
        if dialled.is_err() {
            self.seen().cluster = None;
        }
        dialled
    }

    /// The Service; `None` when it may not be read.
    async fn service(&self, cluster: &Cluster, trying: &Trying) -> Result<Option<Service>, DialError> {
        let Target { namespace, service, .. } = &self.target;
        trying.now(format!("asking {cluster} for Service {namespace}/{service}"));
        let services: Api<Service> = Api::namespaced(cluster.client.clone(), namespace.as_str());
        let found = match services.get_opt(service).await {
            Err(e) if code(&e) == Some(403) && cluster.inside => return Ok(None),
            Err(e) if code(&e) == Some(404) => None,
            found => found.map_err(|e| self.question("get", "services").failed(&e))?,
        };
        let found = found.ok_or_else(|| {
            DialError::new(format!("{cluster} has no Service {service} in namespace {namespace}")).remedy(
                "Is Hubble Relay enabled (cilium hubble enable)? If it is elsewhere or called otherwise, give \
                 --kube-namespace and --relay-service",
            )
        })?;
        self.seen().service_port = service_port(&found).map(|port| port.port);
        Ok(Some(found))
    }

    async fn to_pod(&self, cluster: &Cluster, trying: &Trying) -> Result<Wire, DialError> {
        let Target { namespace, service: name, .. } = &self.target;
        let service = self.service(cluster, trying).await?.unwrap_or_default();
        let no_use = |what: String| {
            DialError::new(format!("Service {namespace}/{name}: {what}"))
                .remedy("Give another one with --relay-service, or the relay's address with --server")
        };
        let selector = selector(&service).ok_or_else(|| no_use("it selects no pods".to_owned()))?;
        let port = service_port(&service).ok_or_else(|| no_use("it has no port".to_owned()))?;
        trying.now(format!("asking {cluster} for the pods of Service {namespace}/{name}"));
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace.as_str());
        let list = pods.list(&ListParams::default().labels(&selector).limit(PODS)).await;
        let list = list.map_err(|e| self.question("list", "pods").failed(&e))?.items;
        // Where the last connection went may be where it broke.
        let last = self.seen().pod.clone();
        let pod = best(&list, last.as_deref()).ok_or_else(|| {
            DialError::new(format!(
                "Service {namespace}/{name} has no pod that is ready: {}",
                visible(&why_none(&list), 300)
            ))
            .remedy(format!("Check with {} -n {namespace} describe pods -l {selector}", self.kubectl()))
            .transient()
        })?;
        let port = match self.target.port {
            Some(port) => port,
            None => target_port(port, pod).map_err(no_use)?,
        };
        let cilium = version(pod).map(|version| visible(&version, 60).into_owned());
        let pod = pod.metadata.name.clone().unwrap_or_default();
        let shown = visible(&pod, 253).into_owned();
        trying.now(format!("asking {cluster} for a port-forward to pod {namespace}/{shown}, port {port}"));
        {
            let mut seen = self.seen();
            (seen.pod, seen.version) = (Some(pod.clone()), cilium);
        }
        let mut forward = match pods.portforward(&pod, &[port]).await {
            Ok(forward) => forward,
            Err(e) => {
                let mut error = self.question("get", "pods/portforward").failed(&e);
                error.what = format!("port-forward to pod {shown}, port {port}: {}", error.what);
                // Deleted since it was chosen: the next choice is another one.
                error.transient |= code(&e) == Some(404);
                return Err(error);
            }
        };
        let Some(stream) = forward.take_stream(port) else {
            return Err(DialError::new(format!("port-forward to pod {shown}: no stream for port {port}")));
        };
        let complaint = forward.take_error(port);
        let complaint: Complaint = Box::pin(async move {
            let complaint = complaint?.await?;
            Some(format!("pod {shown}, port {port}: {}", visible(complaint.trim(), 300)))
        });
        tracing::debug!(pod, port, "port-forward");
        Ok(Box::new(Forwarded {
            stream,
            answered: false,
            complaint: Some(complaint),
            seen: Arc::clone(&self.seen),
        }))
    }

    async fn to_service(&self, cluster: &Cluster, trying: &Trying) -> Result<Wire, DialError> {
        let Target { namespace, service: name, port, tls } = &self.target;
        let service = self.service(cluster, trying).await?;
        let said = service.as_ref().and_then(service_port).map(|port| port.port);
        let said = said.and_then(|port| u16::try_from(port).ok());
        let port = port.or(said).unwrap_or(if *tls { 443 } else { 80 });
        let (address, _) = Address::parse(&format!("{name}.{namespace}.svc:{port}"))
            .map_err(|e| DialError::new(e.to_string()))?;
        trying.now(format!("connecting to {address}"));
        dial(&address).await.map_err(|e| {
            DialError::new(format!("{address}: {e}")).remedy(
                "Check that policies let this pod reach the relay, or give the relay's address with --server",
            )
        })
    }
}

impl Way for RelayService {
    fn name(&self) -> String {
        format!("Service {}/{}{}", self.target.namespace, self.target.service, self.seen().of)
    }

    fn dial<'a>(&'a self, trying: &'a Trying) -> Dialling<'a> {
        Box::pin(self.connect(trying))
    }

    fn server_name(&self) -> Option<String> {
        Some(SERVER_NAME.to_owned())
    }

    fn advice(&self) -> String {
        format!(
            "Check with {} -n {} get services,pods, or give the relay's address with --server",
            self.kubectl(),
            self.target.namespace
        )
    }

    fn note(&self, tls: bool) -> Option<String> {
        let seen = self.seen();
        let port = seen.service_port;
        let hint = port.and_then(stands_for_tls).filter(|speaks| *speaks != tls).map(|speaks| {
            let (port, what) = (port.unwrap_or_default(), if speaks { "with TLS" } else { "without TLS" });
            let todo = if speaks { "give --tls" } else { "leave out --tls" };
            format!("the Service has port {port}, as for a relay {what}: {todo}")
        });
        let notes: Vec<String> = seen.complaint.clone().into_iter().chain(hint).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// What the node has to say of the port, if it has.
type Complaint = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// A port-forward, which says what the node complained of when it ends.
struct Forwarded {
    stream: DuplexStream,
    /// Known before the stream ends, if there is one.
    complaint: Option<Complaint>,
    /// The pod has said something: an older complaint is settled.
    answered: bool,
    seen: Arc<Mutex<Seen>>,
}

impl AsyncRead for Forwarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            if !std::mem::replace(&mut self.answered, true) {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).complaint = None;
            }
        } else if buf.remaining() > 0 {
            let complaint = self.complaint.as_mut().map(|complaint| complaint.as_mut().poll(cx));
            if let Some(Poll::Ready(complaint)) = complaint {
                self.complaint = None;
                if let Some(complaint) = complaint {
                    let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.complaint = Some(complaint.clone());
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, complaint)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarded").finish_non_exhaustive()
    }
}
