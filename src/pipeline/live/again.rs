//! A relay as a lasting stream needs it: connections, streams and questions.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Answer, Asking, FlowStream, Lasting, Live, Question, Reopen, Tap, Wall, Watch};
use crate::flow::Interest;
use crate::source::relay::{ConnectError, Connector, Flows, Relay, Start};
use crate::source::unknown::UnknownValues;

/// A stream of a relay, over new connections when it ends.
#[derive(Debug)]
pub struct Again {
    connector: Connector,
    interest: Interest,
    relay: Relay,
    /// Whole flows are asked for.
    whole: bool,
}

impl Live<Again> {
    /// Reads the flows of this relay, and over new connections of `connector` when they end. `watch` has what
    /// an earlier run left, if there was one.
    pub fn lasting(
        connector: Connector,
        relay: Relay,
        interest: Interest,
        lasting: Lasting,
        watch: Watch,
    ) -> Self {
        let wall = Wall::Real;
        let now = wall.now();
        let since = watch.resume(now);
        let floor = match lasting.start {
            _ if since.is_some() => None,
            Start::Held => None,
            Start::Now | Start::Last(_) => Some(now),
            Start::Since(time) => Some(time),
        };
        let start = since.map_or(lasting.start, Start::Since);
        let flows = relay.flows(&interest, start);
        let reopen = Some(Again { connector, interest, relay, whole: false });
        let watch = Arc::new(Mutex::new(watch));
        Self { flows, reopen, watch, lasting, since, floor, wall, tap: None }
    }

    /// From the start everything goes to `tap`, as it comes from the relay.
    #[must_use]
    pub(in crate::pipeline) fn tapped(mut self, tap: Tap) -> Self {
        if let Some(reopen) = &mut self.reopen {
            reopen.whole = true;
            self.flows = reopen.open(self.since.map_or(self.lasting.start, Start::Since));
        }
        self.tap = Some(tap);
        self
    }

    /// Reads this stream until it ends.
    pub fn once(flows: Flows) -> Self {
        Self::over(flows)
    }
}

impl Reopen for Again {
    type Flows = Flows;

    async fn reconnect(&mut self) -> Result<(), ConnectError> {
        self.relay = self.connector.connect().await?;
        Ok(())
    }

    fn open(&self, start: Start) -> Flows {
        if self.whole {
            return self.relay.whole_flows(&self.interest, start);
        }
        self.relay.flows(&self.interest, start)
    }

    fn ask(&self, question: Question) -> Asking {
        let (relay, interest) = (self.relay.clone(), self.interest.clone());
        Box::pin(async move {
            let mut answer = Answer::default();
            if let Err(end) = relay.alive(question.patience).await {
                answer.dead = Some(end);
                return answer;
            }
            let nodes = relay.nodes().await;
            answer.no_nodes = matches!(nodes, Ok(None));
            let failed = nodes.is_err();
            if let Err(end) = &nodes {
                tracing::debug!("the relay lives, but does not tell of its nodes: {end}");
            }
            answer.nodes = nodes.ok().flatten().map(|nodes| (Instant::now(), nodes));
            if question.reach || failed {
                answer.oldest = Some(relay.oldest().await);
            }
            if let Some(since) = question.since {
                answer.first = Some((since, relay.first_since(&interest, since).await));
            }
            answer
        })
    }

    fn tell_quiet(&self) {
        let (relay, name) = (self.relay.clone(), self.connector.name());
        // Ends with its answer, or after five seconds.
        tokio::spawn(async move {
            match relay.status().await {
                Ok(Some(status)) => {
                    tracing::info!("no dropped flow so far; connected to {name}: {status}");
                }
                Ok(None) => tracing::info!("no dropped flow so far; connected to {name}"),
                Err(e) => tracing::warn!("no dropped flow so far, and {name} does not answer: {e}"),
            }
        });
    }
}

impl FlowStream for Flows {
    fn take_unknown(&mut self) -> UnknownValues {
        Flows::take_unknown(self)
    }

    fn take_raw(&mut self) -> Option<Bytes> {
        Flows::take_raw(self)
    }
}
