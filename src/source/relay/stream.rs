//! The stream of flows: opened, read, opened once more without the field mask, and ended.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::{Relay, StreamEnd};
use crate::flow::Interest;
use crate::source::decode::{Decoder, FIELD_MASK};
use crate::source::proto::flow::FlowFilter;
use crate::source::proto::observer::{GetFlowsRequest, GetFlowsResponse};
use crate::source::unknown::UnknownValues;
use crate::source::{Item, NodeState, NodeStatus, wanted};

/// The flows of a relay, read in the task that polls it. Ends with exactly one [`StreamEnd`].
/// Dropping a pending `next()` loses nothing.
pub struct Flows {
    relay: Relay,
    whitelist: Vec<FlowFilter>,
    decoder: Decoder,
    /// The request that is open has a field mask.
    masked: bool,
    state: State,
}

type Opening = Pin<Box<dyn Future<Output = Result<Streaming<GetFlowsResponse>, Status>> + Send>>;

enum State {
    /// On a quiet cluster a relay may answer only with its first message: no deadline.
    Opening(Opening),
    Reading(Box<Streaming<GetFlowsResponse>>),
    Ended,
}

// === impl Flows ===

impl Flows {
    pub(super) fn new(relay: Relay, interest: &Interest) -> Self {
        let mut flows = Self {
            whitelist: wanted::whitelist(interest),
            masked: !relay.mask_refused.load(Ordering::Relaxed),
            decoder: Decoder::new(),
            state: State::Ended,
            relay,
        };
        flows.open();
        flows
    }

    /// The values counted as unknown since the last call.
    pub fn take_unknown(&mut self) -> UnknownValues {
        self.decoder.take_unknown()
    }

    fn open(&mut self) {
        let paths = FIELD_MASK.map(str::to_owned).to_vec();
        let request = GetFlowsRequest {
            number: 0,
            follow: true,
            whitelist: self.whitelist.clone(),
            field_mask: self.masked.then_some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        let mut client = self.relay.client.clone();
        self.state = State::Opening(Box::pin(async move {
            client.get_flows(request).await.map(tonic::Response::into_inner)
        }));
    }

    /// Opens the stream once more without the mask when that is what the message is about.
    fn reopened(&mut self, message: &str) -> bool {
        if !self.masked || !mentions_mask(message) {
            return false;
        }
        self.masked = false;
        self.relay.mask_refused.store(true, Ordering::Relaxed);
        self.open();
        true
    }

    /// What a status makes of the stream.
    fn ended(&mut self, status: &Status) -> Result<Item, StreamEnd> {
        let end = StreamEnd::from_status(status);
        if self.reopened(status.message()) {
            return Ok(Item::NodeStatus(NodeStatus {
                state: NodeState::Error,
                nodes: Vec::new(),
                message: unmasked(&end.status),
            }));
        }
        self.state = State::Ended;
        Err(end)
    }
}

impl Stream for Flows {
    type Item = Result<Item, StreamEnd>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Opening(opening) => match ready!(opening.as_mut().poll(cx)) {
                    Ok(stream) => this.state = State::Reading(Box::new(stream)),
                    Err(status) => return Poll::Ready(Some(this.ended(&status))),
                },
                State::Reading(stream) => {
                    return Poll::Ready(Some(match ready!(Pin::new(&mut **stream).poll_next(cx)) {
                        Some(Ok(response)) => {
                            let mut item = this.decoder.response(response);
                            if let Item::NodeStatus(NodeStatus { state: NodeState::Error, message, .. }) =
                                &mut item
                                && this.reopened(message)
                            {
                                *message = unmasked(message);
                            }
                            Ok(item)
                        }
                        Some(Err(status)) => this.ended(&status),
                        None => {
                            this.state = State::Ended;
                            Err(StreamEnd::ended())
                        }
                    }));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Opening(_) => "opening",
            State::Reading(_) => "reading",
            State::Ended => "ended",
        };
        f.debug_struct("Flows").field("masked", &self.masked).field("state", &state).finish_non_exhaustive()
    }
}

/// Agents say "invalid fieldmask" (`pkg/hubble/observer/local_observer.go`).
fn mentions_mask(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["fieldmask", "field mask", "field_mask"].iter().any(|words| message.contains(words))
}

fn unmasked(message: &str) -> Box<str> {
    format!("{message}; asking again for whole flows").into()
}
