//! Where flows come from: the stream of a relay, or captures in files.
//!
//! | module | holds |
//! |---|---|
//! | [`relay`] | a live stream: address, connection, request, how it ended |
//! | [`replay`] | captures: files and standard input, plain or gzip, on several threads |
//! | [`json`] | one line of a capture → [`Item`] |
//! | [`decode`] | one message of a relay → [`Item`]; the caches and checks that both ways share |
//! | `cache` | what repeats from flow to flow, by its bytes |
//! | [`unknown`] | values that this version does not know, counted |
//! | `wanted` | what an interest means on the wire: whitelist and prefilter from one list |
//! | [`proto`] | generated types; named here and in `demo` only |
//!
//! The same flow gives an equal [`Flow`] over both ways. Nothing here decides what a flow means;
//! what cannot be read is counted and told, never silently left out.

use jiff::Timestamp;

use crate::flow::Flow;
use crate::names::NodeName;

mod cache;
pub mod decode;
pub mod json;
pub mod proto;
pub mod relay;
pub mod replay;
pub mod unknown;
mod wanted;
pub mod whole;

/// What every source yields.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly every item is a flow: a box would cost one allocation each"
)]
pub enum Item {
    /// One flow.
    Flow(Flow),
    /// Hubble lost events before they got here.
    Lost(LostEvents),
    /// The relay tells which nodes it reaches.
    NodeStatus(NodeStatus),
    /// A message that is not what the API says, whatever it was: it may have been a flow.
    Undecodable,
    /// A known kind that is no flow (agent event, debug event), or a kind newer than this version.
    Other,
}

/// Events that Hubble lost (`flow.LostEvent`): flows that no one will ever see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostEvents {
    /// Where they were lost.
    pub source: LostSource,
    /// How many events; of all kinds, not only of those that were asked for.
    pub count: u64,
    /// The node that lost them; empty where Hubble does not say.
    pub node: NodeName,
    /// When the node noticed the first and the last loss (Cilium 1.19), or when it told of it; by its clock.
    pub noticed: Option<(Timestamp, Timestamp)>,
}

/// Where events were lost (`flow.LostEventSource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LostSource {
    /// Not told, or a place this version does not know.
    Unknown,
    /// Between kernel and agent: the perf ring buffer.
    PerfEventRingBuffer,
    /// In the agent: Hubble's queue was full.
    ObserverEventsQueue,
    /// In the agent: this reader was too slow for the ring.
    HubbleRingBuffer,
}

/// What a relay tells about its nodes (`relay.NodeStatusEvent`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// What happened to them.
    pub state: NodeState,
    /// Which nodes, as Hubble names them.
    pub nodes: Vec<NodeName>,
    /// What went wrong, safe to print; empty unless `state` is an error.
    pub message: Box<str>,
}

/// The state of nodes as a relay sees it (`relay.NodeState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeState {
    /// Not told, or a state this version does not know.
    Unknown,
    /// Their flows are part of the stream.
    Connected,
    /// The relay cannot reach them.
    Unavailable,
    /// They left the cluster; no relay sends this so far.
    Gone,
    /// Their part of the stream failed; the relay tries again by itself.
    Error,
}
