//! The relay for benchmarks: responses that were encoded once, as fast as the client reads them.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService};

use super::relay::{DemoRelay, STREAM_BUFFER, serve_service};
use crate::source::proto::observer::get_flows_response::ResponseTypes;
use crate::source::proto::observer::observer_server::ObserverServer;
use crate::source::proto::observer::{GetFlowsRequest, GetFlowsResponse};

/// What is sent: a list of responses, again and again, until `count` of them are out; in each lap with other
/// uuids, since a flow that comes twice counts once. Filters, masks and `follow` are not looked at; the stream
/// ends with OK.
#[derive(Debug, Clone)]
pub struct Load {
    encoded: Arc<[Encoding]>,
    count: u64,
    /// Responses a second; `None`: as fast as the client reads.
    rate: Option<u32>,
}

/// A response as bytes, and where the text of its uuid begins.
#[derive(Debug, Clone)]
struct Encoding {
    bytes: Bytes,
    uuid: Option<usize>,
}

type Responses = Box<dyn Iterator<Item = Result<Bytes, Status>> + Send>;

#[derive(Clone)]
struct LoadService {
    load: Load,
    relay: DemoRelay,
    rest: ObserverServer<DemoRelay>,
}

/// Requests decoded, responses passed on as the bytes they are.
#[derive(Debug, Clone, Copy, Default)]
struct Encoded;

// === impl Load ===

impl Load {
    /// `count` responses, repeating these; none if there are none to repeat.
    pub fn new(responses: &[GetFlowsResponse], count: u64) -> Self {
        let encoded: Arc<[Encoding]> = responses.iter().map(Encoding::of).collect();
        Self { count: if encoded.is_empty() { 0 } else { count }, encoded, rate: None }
    }

    /// So many of them a second.
    #[must_use]
    pub fn at_rate(self, rate: u32) -> Self {
        Self { rate: Some(rate), ..self }
    }

    /// The bytes of all responses together.
    pub fn bytes(&self) -> u64 {
        let lap: u64 = self.encoded.iter().map(|e| e.bytes.len() as u64).sum();
        let laps = self.count.checked_div(self.encoded.len() as u64).unwrap_or(0);
        let rest = usize::try_from(self.count.checked_rem(self.encoded.len() as u64).unwrap_or(0));
        let rest = self.encoded.iter().take(rest.unwrap_or(0)).map(|e| e.bytes.len() as u64).sum::<u64>();
        lap * laps + rest
    }

    fn stream(self) -> impl Iterator<Item = Result<Bytes, Status>> + Send {
        let (mut at, mut lap) = (0, 0);
        (0..self.count).map_while(move |_| {
            let next = self.encoded.get(at).map(|encoding| encoding.in_lap(lap));
            (at, lap) = if at + 1 == self.encoded.len() { (0, lap + 1) } else { (at + 1, lap) };
            next.map(Ok)
        })
    }
}

// === impl Encoding ===

impl Encoding {
    /// Digits of the lap in a uuid.
    const DIGITS: usize = 8;

    fn of(response: &GetFlowsResponse) -> Self {
        let bytes = Bytes::from(response.encode_to_vec());
        let uuid = match &response.response_types {
            Some(ResponseTypes::Flow(flow)) if flow.uuid.len() >= Self::DIGITS => {
                memchr::memmem::find(&bytes, flow.uuid.as_bytes())
            }
            _ => None,
        };
        Self { bytes, uuid }
    }

    /// The response with the number of the lap at the begin of its uuid.
    fn in_lap(&self, lap: u32) -> Bytes {
        let (Some(uuid), true) = (self.uuid, lap > 0) else { return self.bytes.clone() };
        let mut bytes = self.bytes.to_vec();
        if let Some(digits) = bytes.get_mut(uuid..uuid + Self::DIGITS) {
            digits.copy_from_slice(format!("{lap:08x}").as_bytes());
        }
        bytes.into()
    }
}

/// These responses, so many a second, a few at a time.
fn paced(mut responses: Responses, rate: u32) -> ReceiverStream<Result<Bytes, Status>> {
    const TICK: Duration = Duration::from_millis(10);
    let (out, stream) = mpsc::channel(STREAM_BUFFER);
    tokio::spawn(async move {
        let (start, mut sent) = (Instant::now(), 0u64);
        let mut tick = tokio::time::interval(TICK);
        loop {
            tick.tick().await;
            let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            while sent < due {
                let Some(response) = responses.next() else { return };
                if out.send(response).await.is_err() {
                    return;
                }
                sent += 1;
            }
        }
    });
    ReceiverStream::new(stream)
}

/// Serves `load` to every GetFlows call, and the unary calls as [`super::relay::serve`] does, until
/// `stop` is done. `relay` keeps the record.
pub async fn serve_load(
    listener: TcpListener,
    relay: DemoRelay,
    load: Load,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let service = LoadService { load, rest: ObserverServer::new(relay.clone()), relay };
    serve_service(listener, service, stop).await
}

// === impl LoadService ===

impl NamedService for LoadService {
    const NAME: &'static str = <ObserverServer<DemoRelay> as NamedService>::NAME;
}

impl Service<http::Request<tonic::body::Body>> for LoadService {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        if request.uri().path() != "/observer.Observer/GetFlows" {
            return self.rest.call(request);
        }
        let service = self.clone();
        Box::pin(async move { Ok(Grpc::new(Encoded).server_streaming(service, request).await) })
    }
}

impl ServerStreamingService<GetFlowsRequest> for LoadService {
    type Response = Bytes;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<GetFlowsRequest>) -> Self::Future {
        self.relay.record(&request.into_inner());
        let rate = self.load.rate;
        let load: Responses = Box::new(self.load.clone().stream());
        let stream: Self::ResponseStream = match rate {
            Some(rate) => Box::pin(paced(load, rate)),
            None => Box::pin(tokio_stream::iter(load)),
        };
        Box::pin(async move { Ok(tonic::Response::new(stream)) })
    }
}

// === impl Encoded ===

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = GetFlowsRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = GetFlowsRequest;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<GetFlowsRequest>, Status> {
        let request = GetFlowsRequest::decode(buf).map_err(io::Error::other)?;
        Ok(Some(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::proto::flow::Flow;

    #[test]
    fn each_lap_has_uuids_of_its_own() {
        let flow = |uuid: &str| {
            let flow = Flow { uuid: uuid.into(), node_name: "n1".into(), ..Flow::default() };
            GetFlowsResponse {
                response_types: Some(ResponseTypes::Flow(flow)),
                ..GetFlowsResponse::default()
            }
        };
        let responses = [flow("0b0e6d7a-0000-4000-8000-000000000001"), flow("short")];
        let sent: Vec<_> = Load::new(&responses, 5)
            .stream()
            .map(|bytes| GetFlowsResponse::decode(bytes.unwrap()).unwrap())
            .map(|response| match response.response_types {
                Some(ResponseTypes::Flow(flow)) => (flow.uuid, flow.node_name),
                other => panic!("{other:?}"),
            })
            .collect();
        let uuids: Vec<&str> = sent.iter().map(|(uuid, _)| uuid.as_str()).collect();
        let laps =
            ["0b0e6d7a", "00000001", "00000002"].map(|lap| format!("{lap}-0000-4000-8000-000000000001"));
        assert_eq!(uuids, [&laps[0], "short", &laps[1], "short", &laps[2]]);
        assert!(sent.iter().all(|(_, node)| node == "n1"));
    }
}
