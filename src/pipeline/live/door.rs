//! What a lasting stream asks of the other end: streams, new connections, and questions beside them.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_stream::Stream;

use crate::source::Item;
use crate::source::relay::{ConnectError, FlowTimes, NodeVitals, Start, StreamEnd};
use crate::source::unknown::UnknownValues;

/// A stream that can be read.
pub trait FlowStream: Stream<Item = Result<Item, StreamEnd>> + Unpin + Send + 'static {
    /// The values counted as unknown since the last call.
    fn take_unknown(&mut self) -> UnknownValues;

    /// The last item as it came, once, where it is kept.
    fn take_raw(&mut self) -> Option<Bytes> {
        None
    }
}

/// The relay, as a stream that lasts needs it.
pub trait Reopen: Send + 'static {
    /// What it opens.
    type Flows: FlowStream;

    /// A new connection, within a time of its own.
    fn reconnect(&mut self) -> impl Future<Output = Result<(), ConnectError>> + Send;

    /// A new stream over the connection.
    fn open(&self, start: Start) -> Self::Flows;

    /// Questions over the connection, beside the streams.
    fn ask(&self, question: Question) -> Asking;

    /// No flow has come for a while: says what is connected. Must not wait.
    fn tell_quiet(&self) {}
}

/// What is asked beside the stream; that the relay lives, always.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// How long a relay that lives may take.
    pub patience: Duration,
    /// How far back the rings reach.
    pub reach: bool,
    /// What nodes have since this time.
    pub since: Option<Timestamp>,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Why the relay does not seem to live.
    pub dead: Option<StreamEnd>,
    /// Its nodes, where it told, and when it did: other answers may have taken longer.
    pub nodes: Option<(Instant, Vec<NodeVitals>)>,
    /// It has no way to tell its nodes.
    pub no_nodes: bool,
    /// How far back the rings reach, where that was asked or the nodes were not told.
    pub oldest: Option<FlowTimes>,
    /// What was asked for with `since`, and that time.
    pub first: Option<(Timestamp, FlowTimes)>,
}

/// An answer on its way.
pub type Asking = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// How a lasting stream is kept.
#[derive(Debug, Clone, Copy)]
pub struct Lasting {
    /// Where the first stream begins, when no earlier run is gone on from.
    pub start: Start,
    /// How often the relay is asked whether it lives, and for its nodes; not zero.
    pub health_interval: Duration,
    /// How long a stream is read before another takes its place; not zero.
    pub rotate_interval: Duration,
    /// Whether to connect again when the stream ends.
    pub reconnect: bool,
}

/// The time of day, told in tests.
#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) enum Wall {
    Real,
    #[cfg(test)]
    Told(Timestamp, Instant),
}

// === impl Lasting ===

impl Default for Lasting {
    fn default() -> Self {
        Self {
            start: Start::Held,
            health_interval: Duration::from_secs(30),
            rotate_interval: Duration::from_secs(30 * 60),
            reconnect: true,
        }
    }
}

// === impl Wall ===

impl Wall {
    pub(super) fn now(self) -> Timestamp {
        match self {
            Self::Real => Timestamp::now(),
            #[cfg(test)]
            Self::Told(start, at) => start + at.elapsed(),
        }
    }
}
