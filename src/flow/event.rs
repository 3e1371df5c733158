//! The flow itself: who, to whom, over what, and what the datapath said.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Connection, DropReason, Endpoint, L4, L7};
use crate::names::{DnsName, NodeName};

/// One flow of Hubble, reduced to what cpg reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// The reporting node's clock when its agent received the event; `None` in a masked export.
    pub time: Option<Timestamp>,
    /// Unique per node, the same on every re-read; empty from old agents.
    pub uuid: Box<str>,
    /// The node whose agent reported it.
    pub node: NodeName,
    /// What happened to the packet.
    pub verdict: Verdict,
    /// Which kind of event reported it.
    pub event: EventKind,
    /// Why it was dropped; [`DropReason::NONE`] on everything else and on denied L7 requests.
    pub drop_reason: DropReason,
    /// As seen from the endpoint that decided; `None` when Hubble does not say.
    pub direction: Option<Direction>,
    /// `None` means unknown (every drop), not "no".
    pub is_reply: Option<bool>,
    /// Source and destination address after service translation; `None` when not an IP packet.
    pub ip: Option<(IpAddr, IpAddr)>,
    /// Layer 4 of the packet.
    pub l4: L4,
    /// Who sent it; `None` when Hubble names nobody.
    pub source: Option<Arc<Endpoint>>,
    /// Who was to get it; `None` when Hubble names nobody.
    pub destination: Option<Arc<Endpoint>>,
    /// The DNS names of the destination's address that the source had looked up, sorted; those that a policy
    /// can hold. Only known where the DNS proxy saw the lookup.
    pub destination_names: Box<[DnsName]>,
    /// What the L7 proxy wrote down; `None` on every event of the datapath.
    pub l7: Option<Box<L7>>,
    /// `kind namespace/name` of the policies that denied it, where Hubble correlated one.
    pub denied_by: Vec<Box<str>>,
    /// How many flows it stands for: 1, but for flows that an exporter put together, which are alike in
    /// all that is still told. Their connections cannot be told apart.
    pub count: u64,
}

/// What the datapath did (`flow.Verdict`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// `VERDICT_UNKNOWN`, or a value this version does not know.
    Unknown,
    /// Passed on.
    Forwarded,
    /// Dropped.
    Dropped,
    /// An error in the proxy.
    Error,
    /// Would have been dropped, but for policy audit mode.
    Audit,
    /// Allowed and sent to the proxy.
    Redirected,
    /// Seen at a socket trace point.
    Traced,
    /// Its address was translated at the socket.
    Translated,
}

/// Which kind of event the flow was made from (`event_type.type`; `pkg/monitor/api/types.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// 1: a drop notification. Its direction is inferred and can be wrong.
    Drop,
    /// 4 at an observation point TO_*: a trace of a packet that was passed on.
    Trace,
    /// 4 at an observation point FROM_*: a trace of a packet that arrived. Nothing is decided about it yet: it
    /// may still be dropped, and its addresses are those from before service translation.
    TraceOfArrival,
    /// 5: a policy verdict. Its direction is exact.
    PolicyVerdict,
    /// 129: an access-log entry of the L7 proxy.
    L7,
    /// Anything else; 0 where a mask left the type out.
    Other(i32),
}

/// The direction of a connection as seen from the policy's subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Towards the subject.
    Ingress,
    /// Away from the subject.
    Egress,
}

// === impl Flow ===

impl Flow {
    /// The connection that the packet belongs to, when it has addresses and ports.
    pub fn connection(&self) -> Option<Connection> {
        let (source, destination) = self.ip?;
        Connection::new(source, destination, &self.l4)
    }
}

// === impl Verdict ===

impl Verdict {
    /// From the number of `flow.Verdict`; numbers of later versions are `Unknown`.
    pub fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Forwarded,
            2 => Self::Dropped,
            3 => Self::Error,
            4 => Self::Audit,
            5 => Self::Redirected,
            6 => Self::Traced,
            7 => Self::Translated,
            _ => Self::Unknown,
        }
    }

    /// From the name that protojson writes; `None` for a name this version does not know.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "VERDICT_UNKNOWN" => Self::Unknown,
            "FORWARDED" => Self::Forwarded,
            "DROPPED" => Self::Dropped,
            "ERROR" => Self::Error,
            "AUDIT" => Self::Audit,
            "REDIRECTED" => Self::Redirected,
            "TRACED" => Self::Traced,
            "TRANSLATED" => Self::Translated,
            _ => return None,
        })
    }
}

// === impl EventKind ===

impl EventKind {
    /// From `event_type`: `type` and, of a trace, `sub_type` (`pkg/monitor/api/types.go`, TraceFromLxc and so
    /// on; 0 is TO_ENDPOINT).
    pub fn from_numbers(number: i32, sub_type: i32) -> Self {
        match number {
            1 => Self::Drop,
            4 if matches!(sub_type, 5..=10 | 12) => Self::TraceOfArrival,
            4 => Self::Trace,
            5 => Self::PolicyVerdict,
            129 => Self::L7,
            other => Self::Other(other),
        }
    }
}

// === impl Direction ===

impl Direction {
    /// The direction as seen from the other end.
    pub fn opposite(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }

    /// `ingress` or `egress`, as in a policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}
