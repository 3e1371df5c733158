//! The stream of flows: opened, read, opened once more without the field mask, and ended.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use jiff::Timestamp;
use tokio_stream::Stream;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status, Streaming};

use super::ask::wire_time;
use super::lenient::{GET_FLOWS, Lenient};
use super::{LONGEST_MESSAGE, Relay, StreamEnd};
use crate::flow::Interest;
use crate::source::decode::{Decoder, FIELD_MASK};
use crate::source::proto::flow::FlowFilter;
use crate::source::proto::observer::GetFlowsRequest;
use crate::source::unknown::UnknownValues;
use crate::source::{Item, NodeState, NodeStatus, wanted};

/// From which point on a stream delivers, on each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From now on. A flow that is there already may come too, one per node.
    Now,
    /// Everything that the nodes still hold.
    Held,
    /// The last so many flows of the interest that each node holds; not zero.
    Last(u64),
    /// Flows from this time on, by the clock of each node.
    Since(Timestamp),
}

/// The flows of a relay, read in the task that polls it. Ends with exactly one [`StreamEnd`].
/// Dropping a pending `next()` loses nothing.
pub struct Flows {
    relay: Relay,
    whitelist: Vec<FlowFilter>,
    start: Start,
    decoder: Decoder,
    /// The request that is open has a field mask.
    masked: bool,
    /// Whole flows are asked for, and the bytes of each message are kept.
    whole: bool,
    /// Those of the last item.
    raw: Option<Bytes>,
    state: State,
}

type Reading = Streaming<super::lenient::Message>;
type Opening = Pin<Box<dyn Future<Output = Result<Reading, Status>> + Send>>;

enum State {
    /// On a quiet cluster a relay may answer only with its first message: no deadline.
    Opening(Opening),
    Reading(Box<Reading>),
    Ended,
}

// === impl Flows ===

impl Flows {
    pub(super) fn new(relay: Relay, interest: &Interest, start: Start, whole: bool) -> Self {
        let mut flows = Self {
            whitelist: wanted::whitelist(interest),
            start,
            masked: !whole && !relay.mask_refused.load(Ordering::Relaxed),
            whole,
            raw: None,
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

    /// The last item as it came, once; `None` where whole flows were not asked for.
    pub fn take_raw(&mut self) -> Option<Bytes> {
        self.raw.take()
    }

    fn open(&mut self) {
        let paths = FIELD_MASK.map(str::to_owned).to_vec();
        let (number, since) = match self.start {
            Start::Now => (0, None),
            // `number` alone never means all of them; a time does.
            Start::Held => (0, Some(Timestamp::UNIX_EPOCH)),
            Start::Last(number) => (number, None),
            Start::Since(time) => (0, Some(time)),
        };
        let request = GetFlowsRequest {
            number,
            since: since.map(wire_time),
            follow: true,
            whitelist: self.whitelist.clone(),
            field_mask: self.masked.then_some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        let (channel, codec) = (self.relay.channel.clone(), Lenient { whole: self.whole });
        self.state = State::Opening(Box::pin(async move {
            let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(LONGEST_MESSAGE);
            client.ready().await.map_err(|e| Status::from_error(e.into()))?;
            let path = PathAndQuery::from_static(GET_FLOWS);
            let response = client.server_streaming(Request::new(request), path, codec).await;
            response.map(tonic::Response::into_inner)
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
                        Some(Ok((Err(_), _))) => Ok(Item::Undecodable),
                        Some(Ok((Ok(response), raw))) => {
                            this.raw = raw;
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
