//! Questions beside the stream: does the relay live, which nodes has it, how far back do their rings reach.
//!
//! What a relay passes on to its agents (ServerStatus, GetNodes, a short GetFlows) waits for the slowest of
//! them: no answer to these says nothing about the relay. Only the health check is the relay's own.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time;
use tokio_stream::StreamExt as _;
use tonic::Code;

use super::{CALL_DEADLINE, Relay, StreamEnd, call, is_from_grpc};
use crate::flow::Interest;
use crate::names::NodeName;
use crate::source::proto::health::HealthCheckRequest;
use crate::source::proto::observer::get_flows_response::ResponseTypes;
use crate::source::proto::observer::{GetFlowsRequest, GetNodesRequest};
use crate::source::{NodeState, wanted};

/// Nodes of one answer that are looked at.
const NODES: usize = 10_000;

/// What a relay says of one of its nodes (`observer.Node`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeVitals {
    /// Its name, as in flows.
    pub name: NodeName,
    /// Whether the relay has a connection to it.
    pub state: NodeState,
    /// How long its observer runs.
    pub uptime: Duration,
    /// Events that its ring holds.
    pub num_flows: u64,
    /// Events that its ring can hold.
    pub max_flows: u64,
    /// Flows that it has seen since its start.
    pub seen_flows: u64,
}

/// For some nodes, the time of one flow of each.
pub type FlowTimes = BTreeMap<NodeName, Timestamp>;

impl Relay {
    /// Whether the relay itself answers, within `patience`, whatever it says: a relay that is frozen or out of
    /// reach does not. It does not ask its nodes for this.
    pub async fn alive(&self, patience: Duration) -> Result<(), StreamEnd> {
        let mut health = self.health.clone();
        match time::timeout(patience, health.check(HealthCheckRequest::default())).await {
            Ok(Ok(_)) => Ok(()),
            // One without this service, or one that serves nobody at the moment, lives.
            Ok(Err(status)) if is_from_grpc(&status) && status.code() != Code::Unavailable => Ok(()),
            Ok(Err(status)) => Err(StreamEnd::from_status(&status)),
            Err(_) => Err(StreamEnd::silent(patience)),
        }
    }

    /// Its nodes; `None` where the server has none to tell of (an agent). Fails after five seconds, also
    /// when a single node is frozen.
    pub async fn nodes(&self) -> Result<Option<Vec<NodeVitals>>, StreamEnd> {
        let mut client = self.client.clone();
        let response = call("GetNodes", client.get_nodes(GetNodesRequest {})).await?;
        let state = |number: i32| match number {
            1 => NodeState::Connected,
            2 => NodeState::Unavailable,
            3 => NodeState::Gone,
            4 => NodeState::Error,
            _ => NodeState::Unknown,
        };
        Ok(response.map(|response| {
            let nodes = response.nodes.iter().take(NODES);
            nodes
                .map(|node| NodeVitals {
                    name: NodeName::lossy(&node.name),
                    state: state(node.state),
                    uptime: Duration::from_nanos(node.uptime_ns),
                    num_flows: node.num_flows,
                    max_flows: node.max_flows,
                    seen_flows: node.seen_flows,
                })
                .collect()
        }))
    }

    /// For each node the time of the oldest flow, of any kind, that its ring holds. Nodes that do not answer
    /// within five seconds, or hold none, are left out.
    pub async fn oldest(&self) -> FlowTimes {
        self.one_of_each(GetFlowsRequest { number: 1, first: true, ..Default::default() }).await
    }

    /// For each node the time of the oldest flow of this interest at or after `since`, as [`Relay::oldest`].
    pub async fn first_since(&self, interest: &Interest, since: Timestamp) -> FlowTimes {
        let since = Some(wire_time(since));
        let whitelist = wanted::whitelist(interest);
        self.one_of_each(GetFlowsRequest { number: 1, since, whitelist, ..Default::default() }).await
    }

    async fn one_of_each(&self, mut request: GetFlowsRequest) -> FlowTimes {
        if !self.mask_refused.load(std::sync::atomic::Ordering::Relaxed) {
            let paths = vec!["time".to_owned(), "node_name".to_owned()];
            request.field_mask = Some(prost_types::FieldMask { paths });
        }
        let mut times = FlowTimes::new();
        let mut client = self.client.clone();
        let asked = async {
            let Ok(response) = client.get_flows(request).await else { return };
            let mut stream = response.into_inner();
            while let Some(Ok(response)) = stream.next().await {
                if let Some(ResponseTypes::Flow(flow)) = response.response_types
                    && let Some(time) = flow.time
                    && let Ok(time) = Timestamp::new(time.seconds, time.nanos)
                    && times.len() < NODES
                {
                    let node =
                        if response.node_name.is_empty() { &flow.node_name } else { &response.node_name };
                    let known = times.entry(NodeName::lossy(node)).or_insert(time);
                    *known = time.min(*known);
                }
            }
        };
        // A node that is frozen keeps the others' answers from ending, not from coming.
        let _ = time::timeout(CALL_DEADLINE, asked).await;
        times
    }
}

/// A time as the wire has it.
pub(super) fn wire_time(time: Timestamp) -> prost_types::Timestamp {
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
    }
    prost_types::Timestamp { seconds, nanos }
}

impl StreamEnd {
    /// Nothing was answered, not even that the relay lives.
    fn silent(patience: Duration) -> Self {
        Self {
            status: format!(
                "it takes connections but answers nothing, not even a health check within {}",
                humantime::format_duration(patience)
            ),
            kind: super::EndKind::Unavailable,
        }
    }
}
