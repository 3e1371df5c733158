//! The messages of a stream, one by one: one that cannot be decoded does not end the stream for the others.

use bytes::{Buf as _, Bytes};
use prost::{DecodeError, Message as _};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

use crate::source::proto::observer::{GetFlowsRequest, GetFlowsResponse};

/// The path of the call.
pub(super) const GET_FLOWS: &str = "/observer.Observer/GetFlows";

/// One message, or why it is none; with its bytes where these were asked for.
pub(super) type Message = (Result<GetFlowsResponse, DecodeError>, Option<Bytes>);

/// Encodes as everybody does, and hands bad messages on. A stream that failed at one would be opened again
/// from before it, and fail again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lenient {
    /// Whether the bytes of each message are kept.
    pub(super) whole: bool,
}

impl Codec for Lenient {
    type Encode = GetFlowsRequest;
    type Decode = Message;
    type Encoder = <ProstCodec<GetFlowsRequest, ()> as Codec>::Encoder;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<GetFlowsRequest, ()>::default().encoder()
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Decoder for Lenient {
    type Item = Message;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Message>, Status> {
        if self.whole {
            let bytes = buf.copy_to_bytes(buf.remaining());
            return Ok(Some((GetFlowsResponse::decode(bytes.clone()), Some(bytes))));
        }
        let message = GetFlowsResponse::decode(&mut *buf);
        // What a bad message left unread belongs to nobody else.
        buf.advance(buf.remaining());
        Ok(Some((message, None)))
    }
}
