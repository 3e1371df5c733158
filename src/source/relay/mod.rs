//! The live stream of a Hubble Relay: connect, ask, read, and say how it ended.
//!
//! ```text
//!  Way (an address, a port-forward) ─▶ Wire ─▶ TLS if asked for ─▶ Relay (one connection) ─▶ Flows (one stream)
//! ```
//!
//! A [`Connector`] makes connections, a new one for every call. [`Relay`] is one connection, [`Flows`]
//! one stream over it. Reconnecting, resuming and telling a silent relay from a quiet cluster are the
//! business of whoever reads.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::proto::health::health_client::HealthClient;
use super::proto::observer::observer_client::ObserverClient;
use super::proto::observer::{GetNamespacesRequest, ServerStatusRequest};
use crate::flow::Interest;
use crate::names::{Namespace, NodeName};
use crate::text;

mod address;
mod ask;
mod connector;
mod lenient;
mod probe;
mod stream;
mod tls;
mod way;

pub use address::{Address, AddressError, Host};
pub use ask::{FlowTimes, NodeVitals};
pub use connector::{ConnectError, ConnectErrorKind, Connector};
pub use stream::{Flows, Start};
pub use tls::{TlsError, TlsOptions};
pub use way::{Bytes, DialError, Dialling, Direct, Trying, Way, Wire, dial};

/// Longest message that is taken. A flow has about 0.5 kB, and gRPC's own limit is 4 MiB.
const LONGEST_MESSAGE: usize = 16 << 20;
/// How long a question beside the stream may take.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// A connection to a relay. Clones share it; after a break it connects again with the next call.
#[derive(Debug, Clone)]
pub struct Relay {
    client: ObserverClient<Channel>,
    health: HealthClient<Channel>,
    channel: Channel,
    /// A node does not know our field mask: later streams go without one from the start.
    mask_refused: Arc<AtomicBool>,
}

/// How a stream ended, or why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}")]
pub struct StreamEnd {
    /// The status in words, safe to print.
    pub status: String,
    /// What it means for the reader.
    pub kind: EndKind,
}

/// What the end of a stream, or the failure of a call, means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndKind {
    /// The relay ended it without an error: all its nodes ended. Worth another try.
    Ended,
    /// The connection broke or the relay is not available. Worth another try.
    Unavailable,
    /// The relay will not serve this request, now or later: InvalidArgument, Unimplemented,
    /// PermissionDenied, Unauthenticated.
    Refused,
    /// Any other status. Worth another try.
    Other,
}

/// What a relay says about itself (`observer.ServerStatusResponse`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerStatus {
    /// Its version, safe to print; empty where it does not say.
    pub version: String,
    /// Nodes whose flows it serves; `None` from an agent or an old relay.
    pub connected_nodes: Option<u32>,
    /// Nodes it cannot reach; `None` from an agent or an old relay.
    pub unavailable_nodes: Option<u32>,
    /// The names of up to ten of these.
    pub unavailable: Vec<NodeName>,
    /// Flows held now, of all nodes.
    pub num_flows: u64,
    /// Flows that can be held, of all nodes.
    pub max_flows: u64,
    /// Flows seen since the start, of all nodes.
    pub seen_flows: u64,
    /// How long the oldest node has been up.
    pub uptime: Duration,
}

// === impl Relay ===

impl Relay {
    /// Over a channel that stands already.
    fn over(channel: Channel) -> Self {
        let client = ObserverClient::new(channel.clone()).max_decoding_message_size(LONGEST_MESSAGE);
        let health = HealthClient::new(channel.clone());
        Self { client, health, channel, mask_refused: Arc::default() }
    }

    /// Follows the flows of this interest, from this point. Nothing is sent before the first poll.
    pub fn flows(&self, interest: &Interest, start: Start) -> Flows {
        Flows::new(self.clone(), interest, start, false)
    }

    /// As [`Relay::flows`], without a field mask, and with the bytes of each message.
    pub fn whole_flows(&self, interest: &Interest, start: Start) -> Flows {
        Flows::new(self.clone(), interest, start, true)
    }

    /// The namespaces with flows in the last hour, for messages; `None` where the server cannot tell.
    /// Fails after five seconds.
    pub async fn namespaces(&self) -> Result<Option<BTreeSet<Namespace>>, StreamEnd> {
        let mut client = self.client.clone();
        let response = call("GetNamespaces", client.get_namespaces(GetNamespacesRequest {})).await?;
        Ok(response.map(|response| {
            response.namespaces.iter().filter_map(|n| Namespace::parse(&n.namespace).ok()).collect()
        }))
    }

    /// The names of the clusters that it has seen flows of in the last hour, at most ten; none where
    /// the server cannot tell. Fails after five seconds.
    pub async fn clusters(&self) -> Result<BTreeSet<Box<str>>, StreamEnd> {
        let mut client = self.client.clone();
        let response = call("GetNamespaces", client.get_namespaces(GetNamespacesRequest {})).await?;
        let namespaces = response.map(|response| response.namespaces).unwrap_or_default();
        let named = namespaces.iter().filter(|n| !n.cluster.is_empty());
        Ok(named.map(|n| text::visible(&n.cluster, 100).into()).take(10).collect())
    }

    /// What the relay says about itself, for messages; `None` where the server cannot tell. Fails
    /// after five seconds.
    pub async fn status(&self) -> Result<Option<ServerStatus>, StreamEnd> {
        let mut client = self.client.clone();
        let response = call("ServerStatus", client.server_status(ServerStatusRequest {})).await?;
        Ok(response.map(|status| ServerStatus {
            version: text::visible(&status.version, 100).into_owned(),
            connected_nodes: status.num_connected_nodes,
            unavailable_nodes: status.num_unavailable_nodes,
            unavailable: status.unavailable_nodes.iter().take(10).map(|name| NodeName::lossy(name)).collect(),
            num_flows: status.num_flows,
            max_flows: status.max_flows,
            seen_flows: status.seen_flows,
            uptime: Duration::from_nanos(status.uptime_ns),
        }))
    }
}

// === impl ServerStatus ===

impl ServerStatus {
    /// How far back the flows reach that are held now, at the rate since the start; `None` where that
    /// cannot be told.
    pub fn reach(&self) -> Option<Duration> {
        if self.num_flows == 0 || self.seen_flows == 0 {
            return None;
        }
        let share = self.num_flows as f64 / self.seen_flows.max(self.num_flows) as f64;
        Some(self.uptime.mul_f64(share))
    }
}

/// In a few words: "hubble-relay v1.19.4, 3 nodes connected; it remembers 4,095 flows, about 2m".
impl fmt::Display for ServerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.version.is_empty() { "a version that it does not tell" } else { &self.version };
        f.write_str(version)?;
        if let Some(nodes) = self.connected_nodes {
            write!(f, ", {} connected", text::count(nodes.into(), "node"))?;
        }
        if let Some(nodes) = self.unavailable_nodes.filter(|n| *n > 0) {
            write!(f, ", {} unavailable", text::grouped(nodes.into()))?;
        }
        let (num, max) = (text::grouped(self.num_flows), text::grouped(self.max_flows));
        write!(f, "; it remembers {num} of at most {max} flows")?;
        match self.reach() {
            Some(reach) => {
                let reach = humantime::format_duration(Duration::from_secs(reach.as_secs().max(1)));
                write!(f, ", about {reach} back")
            }
            None => Ok(()),
        }
    }
}

/// One call beside the stream; `None` where the server does not have it.
async fn call<T>(
    name: &str,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<Option<T>, StreamEnd> {
    match time::timeout(CALL_DEADLINE, call).await {
        Ok(Ok(response)) => Ok(Some(response.into_inner())),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(None),
        Ok(Err(status)) => Err(StreamEnd::from_status(&status)),
        Err(_) => Err(StreamEnd {
            status: format!("no answer to {name} within {} s", CALL_DEADLINE.as_secs()),
            kind: EndKind::Unavailable,
        }),
    }
}

// === impl StreamEnd ===

impl StreamEnd {
    fn ended() -> Self {
        Self { status: "the relay ended the stream".to_owned(), kind: EndKind::Ended }
    }

    fn from_status(status: &Status) -> Self {
        let broken = !is_from_grpc(status) && !is_from_http(status);
        let kind = match status.code() {
            _ if broken => EndKind::Unavailable,
            Code::Unavailable => EndKind::Unavailable,
            Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated => {
                EndKind::Refused
            }
            _ => EndKind::Other,
        };
        Self { status: words(status), kind }
    }
}

/// Whether a server said so; else tonic made the status from what happened to the connection.
fn is_from_grpc(status: &Status) -> bool {
    status.source().is_none()
        && !is_from_http(status)
        && !status.message().starts_with("protocol error: missing grpc-status")
}

/// Whether tonic made the status from an HTTP answer without gRPC in it.
fn is_from_http(status: &Status) -> bool {
    status.message().starts_with("grpc-status header missing")
}

/// Code and message, with what lies behind it; safe to print.
fn words(status: &Status) -> String {
    let mut words = format!("{:?}", status.code());
    if !status.message().is_empty() {
        words.push_str(": ");
        words.push_str(status.message());
    }
    text::append_causes(&mut words, status);
    text::visible(&words, 500).into_owned()
}

/// The words of an error and of its sources, each once; safe to print.
fn chain(error: &dyn Error) -> String {
    let words = text::causes(error);
    let words = words.strip_prefix("transport error: ").unwrap_or(&words);
    text::visible(words, 500).into_owned()
}

#[cfg(test)]
mod tests;
