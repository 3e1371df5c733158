//! The live stream of a Hubble Relay: connect, ask, read, and say how it ended.
//!
//! [`Relay`] is one connection, [`Flows`] one stream over it. Reconnecting, resuming and telling a
//! silent relay from a quiet cluster are the business of whoever reads.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::time;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::proto::observer::observer_client::ObserverClient;
use super::proto::observer::{GetNamespacesRequest, ServerStatusRequest};
use crate::flow::Interest;
use crate::names::{Namespace, NodeName};
use crate::text;

mod address;
mod probe;
mod stream;

pub use address::{Address, AddressError};
use probe::Seen;
pub use stream::Flows;

/// Longest message that is taken. A flow has about 0.5 kB, and gRPC's own limit is 4 MiB.
const LONGEST_MESSAGE: usize = 16 << 20;
/// A dead peer is noticed by TCP. HTTP/2 pings stay off: a relay allows one in five minutes and ends
/// the connection after the third (grpc-go, `internal/transport/defaults.go`).
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a question beside the stream may take.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// How long each look at a server that is no relay may take.
const PROBE: Duration = Duration::from_secs(1);

/// A connection to a relay. Clones share it; after a break it connects again with the next call.
#[derive(Debug, Clone)]
pub struct Relay {
    address: Address,
    client: ObserverClient<Channel>,
    /// A node does not know our field mask: later streams go without one from the start.
    mask_refused: Arc<AtomicBool>,
}

/// Why no relay could be reached: one sentence for people, safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    /// What kind of failure.
    pub kind: ConnectErrorKind,
    /// What was tried, for how long, what was seen, and what to try.
    pub message: String,
}

/// Kinds of failures to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// No connection, or one that broke: name not found, refused, no route, no answer in time.
    Unreachable,
    /// Something answers there that is no relay, or one that this version cannot talk to.
    NotARelay,
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
    /// Connects, and makes sure that a gRPC server answers, all within `timeout` (and up to four
    /// seconds more to find out what answers there if it is none).
    pub async fn connect(address: &Address, timeout: Duration) -> Result<Self, ConnectError> {
        let start = Instant::now();
        let attempt = Attempt { address, timeout };
        let endpoint = Endpoint::from_shared(address.uri())
            .and_then(|endpoint| endpoint.user_agent(concat!("cpg/", env!("CARGO_PKG_VERSION"))))
            .map_err(|error| attempt.unreachable(&chain(&error)))?
            .connect_timeout(timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Some(TCP_KEEPALIVE));
        let channel = match time::timeout(timeout, endpoint.connect()).await {
            Err(_) => return Err(attempt.unreachable("no answer")),
            Ok(Err(error)) => return Err(attempt.unreachable(&chain(&error))),
            Ok(Ok(channel)) => channel,
        };
        let relay = Self::over(channel, address);
        // An HTTP/2 client is content before the server has said a word. This call proves it; what it
        // answers does not matter.
        let left = timeout.saturating_sub(start.elapsed());
        let status =
            match time::timeout(left, relay.client.clone().server_status(ServerStatusRequest {})).await {
                Ok(Ok(_)) => return Ok(relay),
                Ok(Err(status)) if is_from_grpc(&status) => return Ok(relay),
                Ok(Err(status)) => Some(status),
                Err(_) => None,
            };
        match (probe::probe(address, PROBE.min(timeout)).await, status) {
            // It asks its nodes, and one of them is slow.
            (Seen::Http2, None) => Ok(relay),
            (Seen::Http2, Some(status)) if is_from_http(&status) && status.code() != Code::Unavailable => {
                Err(attempt
                    .not_a_relay(&format!("an HTTP/2 server without gRPC answers ({})", words(&status))))
            }
            (Seen::Http2 | Seen::Gone, Some(status)) => Err(attempt.unreachable(&words(&status))),
            (Seen::Gone, None) => Err(attempt.unreachable("no answer")),
            (Seen::Http1(line), _) => {
                Err(attempt.not_a_relay(&format!("an HTTP/1 server answers (\"{line}\")")))
            }
            (Seen::Tls, _) => Err(ConnectError {
                kind: ConnectErrorKind::NotARelay,
                message: format!(
                    "{address} speaks TLS, which comes with a later version: a relay without TLS is needed \
                     (by default its service has port 80 then, with TLS 443)"
                ),
            }),
            (Seen::Closed, _) => Err(attempt.unreachable(
                "the connection is taken and closed at once, as a port-forward does whose pod is gone",
            )),
            (Seen::Silent, _) => Err(attempt.not_a_relay("the connection is taken, but nothing is said")),
            (Seen::Other(line), _) => {
                Err(attempt.not_a_relay(&format!("something answers that is not HTTP/2 (\"{line}\")")))
            }
        }
    }

    /// Over a channel that exists already.
    fn over(channel: Channel, address: &Address) -> Self {
        let client = ObserverClient::new(channel).max_decoding_message_size(LONGEST_MESSAGE);
        Self { address: address.clone(), client, mask_refused: Arc::default() }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Follows the flows of this interest from now on. Nothing is sent before the first poll.
    pub fn flows(&self, interest: &Interest) -> Flows {
        Flows::new(self.clone(), interest)
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
    append_sources(&mut words, status);
    text::visible(&words, 500).into_owned()
}

/// The words of an error and of its sources, each once; safe to print.
fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    append_sources(&mut words, error);
    let words = words.strip_prefix("transport error: ").unwrap_or(&words);
    text::visible(words, 500).into_owned()
}

fn append_sources(words: &mut String, error: &dyn Error) {
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        source = error.source();
    }
}

/// What is tried, for the messages about its failure.
struct Attempt<'a> {
    address: &'a Address,
    timeout: Duration,
}

// === impl Attempt ===

impl Attempt<'_> {
    fn unreachable(&self, why: &str) -> ConnectError {
        ConnectError {
            kind: ConnectErrorKind::Unreachable,
            message: format!(
                "no Hubble Relay at {self}: {why}. Check the address, and that the port-forward runs \
                 (kubectl -n kube-system port-forward service/hubble-relay 4245:80)"
            ),
        }
    }

    fn not_a_relay(&self, why: &str) -> ConnectError {
        ConnectError {
            kind: ConnectErrorKind::NotARelay,
            message: format!(
                "no Hubble Relay at {self}: {why}. Check host and port: the service is called hubble-relay, \
                 its port is 80, and 4245 in the pod"
            ),
        }
    }
}

impl fmt::Display for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (tried for {})", self.address, humantime::format_duration(self.timeout))
    }
}

#[cfg(test)]
mod tests;
