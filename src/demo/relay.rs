//! Hubble Relay's `Observer` service, playing scripts.
//!
//! The first stream plays the first script, the second the second, and so on; the last script is played
//! by every further stream. So a test writes down what the relay does to each connection attempt.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::link::{Line, Link};
use super::view::{Seen, View};
use crate::source::proto::observer::get_flows_response::ResponseTypes;
use crate::source::proto::observer::observer_server::{Observer, ObserverServer};
use crate::source::proto::observer::{
    GetFlowsRequest, GetFlowsResponse, GetNamespacesRequest, GetNamespacesResponse, GetNodesRequest,
    GetNodesResponse, Namespace, Node, ServerStatusRequest, ServerStatusResponse,
};
use crate::source::proto::relay::{NodeState, NodeStatusEvent};

/// Responses that wait between a script and its client. When they are that many the script waits, so
/// a client that does not read holds up its own stream only, and nothing is lost.
pub const STREAM_BUFFER: usize = 64;

/// One thing that the relay does on a stream.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends this, if the client's filters let it pass.
    Send(Box<GetFlowsResponse>),
    /// Waits; without `follow` the script goes on at once.
    Pause(Duration),
    /// Ends the stream with OK.
    EndOk,
    /// Ends the stream with this status.
    EndWith(Status),
    /// Sends nothing more and keeps the stream open; without `follow` it ends with OK.
    Hang,
    /// The connection breaks: no trailers, no GOAWAY, as when the relay's pod is killed.
    Cut,
    /// The connection stands still for every call on it, and nobody is told: a dead port-forward.
    Freeze,
    /// Begins this script anew, for ever; without `follow` it ends with OK.
    RepeatForever,
}

/// What the relay does on one stream. After its last step the stream ends with OK.
#[derive(Debug, Clone, Default)]
pub struct Script {
    steps: Vec<Step>,
}

/// What the relay does with a request that has a field mask.
#[derive(Debug, Clone, Default)]
pub enum Masks {
    /// Applies it; a mask with an unknown field is answered as by [`Masks::RefuseByNode`].
    #[default]
    Honour,
    /// Takes no notice, as servers before the field did.
    Ignore,
    /// Ends the stream with this status. Like every refusal it uses up no script.
    Refuse(Status),
    /// Answers as a relay does whose agents refuse it: NODE_ERROR, and no flow.
    RefuseByNode,
}

/// What the relay does beside its scripts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Requests with a field mask.
    pub masks: Masks,
    /// Whether flows outside of the request's `since` and `until` are kept back. Off by default: a
    /// script says what is sent.
    pub times: bool,
    /// The nodes that count as connected, and stand in the node events of a refused mask.
    pub nodes: Vec<String>,
    /// What GetNamespaces answers, as (cluster, namespace).
    pub namespaces: Vec<(String, String)>,
    /// The nodes that it does not reach.
    pub unavailable: Vec<String>,
    /// Every call is answered with this status, as by a relay that wants a login.
    pub refuse_all: Option<Status>,
}

/// The relay: scripts, and a record of what clients asked. Clones share everything.
#[derive(Debug, Clone)]
pub struct DemoRelay {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    scripts: Vec<Script>,
    options: Options,
    /// A std mutex: held for a push or a copy, never over an await.
    requests: Mutex<Vec<GetFlowsRequest>>,
    streams: AtomicUsize,
    flows_sent: AtomicU64,
    status_calls: AtomicU64,
    started: tokio::time::Instant,
}

// === impl Script ===

impl Script {
    /// These steps.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }

    /// Sends these at once, and ends.
    pub fn of(responses: impl IntoIterator<Item = GetFlowsResponse>) -> Self {
        Self::default().send_all(responses)
    }

    /// Sends each after its delay, as [`super::story::play`] tells them, and ends.
    pub fn timed(story: impl IntoIterator<Item = (Duration, GetFlowsResponse)>) -> Self {
        story.into_iter().fold(Self::default(), |script, (delay, response)| {
            let script = if delay.is_zero() { script } else { script.then(Step::Pause(delay)) };
            script.send(response)
        })
    }

    /// With one step more.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// With one response more.
    #[must_use]
    pub fn send(self, response: GetFlowsResponse) -> Self {
        self.then(Step::Send(Box::new(response)))
    }

    /// With these responses more.
    #[must_use]
    pub fn send_all(mut self, responses: impl IntoIterator<Item = GetFlowsResponse>) -> Self {
        self.steps.extend(responses.into_iter().map(|response| Step::Send(Box::new(response))));
        self
    }
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            masks: Masks::default(),
            times: false,
            nodes: vec!["node1".to_owned()],
            namespaces: vec![("default".to_owned(), "shop".to_owned())],
            unavailable: Vec::new(),
            refuse_all: None,
        }
    }
}

// === impl DemoRelay ===

impl DemoRelay {
    /// A relay that plays these scripts, one per stream, the last one for every further stream.
    /// Without any script every stream ends with OK at once.
    pub fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self::with(scripts, Options::default())
    }

    /// [`DemoRelay::new`] with options.
    pub fn with(scripts: impl IntoIterator<Item = Script>, options: Options) -> Self {
        Self {
            shared: Arc::new(Shared {
                scripts: scripts.into_iter().collect(),
                options,
                requests: Mutex::default(),
                streams: AtomicUsize::new(0),
                flows_sent: AtomicU64::new(0),
                status_calls: AtomicU64::new(0),
                started: tokio::time::Instant::now(),
            }),
        }
    }

    /// Every GetFlows request so far, refused ones too.
    pub fn requests(&self) -> Vec<GetFlowsRequest> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many calls of ServerStatus were answered.
    pub fn status_calls(&self) -> u64 {
        self.shared.status_calls.load(Ordering::Relaxed)
    }

    /// How many flows were handed to streams; a filter's refusals do not count.
    pub fn flows_sent(&self) -> u64 {
        self.shared.flows_sent.load(Ordering::Relaxed)
    }

    pub(super) fn record(&self, request: &GetFlowsRequest) {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    }

    fn refuse(&self) -> Result<(), Status> {
        self.shared.options.refuse_all.clone().map_or(Ok(()), Err)
    }

    fn next_script(&self) -> Script {
        let number = self.shared.streams.fetch_add(1, Ordering::Relaxed);
        self.shared.scripts.get(number).or(self.shared.scripts.last()).cloned().unwrap_or_default()
    }

    /// Two node events as a relay sends them whose agents refuse a mask; then silence, or the end.
    fn refusal(&self) -> Script {
        let node = |state: NodeState, message: &str| GetFlowsResponse {
            response_types: Some(ResponseTypes::NodeStatus(NodeStatusEvent {
                state_change: state.into(),
                node_names: self.shared.options.nodes.clone(),
                message: message.to_owned(),
            })),
            ..GetFlowsResponse::default()
        };
        Script::of([
            node(NodeState::NodeConnected, ""),
            node(NodeState::NodeError, "rpc error: code = Unknown desc = invalid fieldmask"),
        ])
        .then(Step::Hang)
    }

    /// The script that answers this request, and the view through which it is played.
    fn answer(&self, request: &GetFlowsRequest) -> Result<(Script, View), Status> {
        let options = &self.shared.options;
        let asked = request.field_mask.as_ref().is_some_and(|mask| !mask.paths.is_empty());
        let whole = |_| Status::internal("a request without a mask cannot have a bad one");
        match &options.masks {
            Masks::Refuse(status) if asked => return Err(status.clone()),
            Masks::RefuseByNode if asked => {
                return Ok((self.refusal(), View::new(request, false, false).map_err(whole)?));
            }
            _ => {}
        }
        match View::new(request, matches!(options.masks, Masks::Honour), options.times) {
            Ok(view) => Ok((self.next_script(), view)),
            Err(_) => Ok((self.refusal(), View::new(request, false, false).map_err(whole)?)),
        }
    }
}

#[tonic::async_trait]
impl Observer for DemoRelay {
    type GetFlowsStream = Pin<Box<dyn Stream<Item = Result<GetFlowsResponse, Status>> + Send>>;

    async fn get_flows(
        &self,
        request: Request<GetFlowsRequest>,
    ) -> Result<Response<Self::GetFlowsStream>, Status> {
        self.refuse()?;
        let link = request.extensions().get::<Link>().cloned();
        let request = request.into_inner();
        if request.first {
            // How far back it reaches: a relay of scripts holds nothing.
            return Ok(Response::new(Box::pin(tokio_stream::empty())));
        }
        self.record(&request);
        let (script, view) = self.answer(&request)?;
        let (out, stream) = mpsc::channel(STREAM_BUFFER);
        let player = Player { out, view, follow: request.follow, link, relay: self.clone() };
        tokio::spawn(player.play(script));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn get_nodes(
        &self,
        _request: Request<GetNodesRequest>,
    ) -> Result<Response<GetNodesResponse>, Status> {
        self.refuse()?;
        let node = |name: &String, state: NodeState| Node {
            name: name.clone(),
            version: "v1.19.4".to_owned(),
            state: state.into(),
            uptime_ns: u64::try_from(self.shared.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
            max_flows: 4095,
            ..Node::default()
        };
        let Options { nodes, unavailable, .. } = &self.shared.options;
        let connected = nodes.iter().map(|name| node(name, NodeState::NodeConnected));
        let unavailable = unavailable.iter().map(|name| node(name, NodeState::NodeUnavailable));
        Ok(Response::new(GetNodesResponse { nodes: connected.chain(unavailable).collect() }))
    }

    async fn get_namespaces(
        &self,
        _request: Request<GetNamespacesRequest>,
    ) -> Result<Response<GetNamespacesResponse>, Status> {
        self.refuse()?;
        let namespaces = &self.shared.options.namespaces;
        let named = |(cluster, namespace): &(String, String)| Namespace {
            cluster: cluster.clone(),
            namespace: namespace.clone(),
        };
        Ok(Response::new(GetNamespacesResponse { namespaces: namespaces.iter().map(named).collect() }))
    }

    async fn server_status(
        &self,
        _request: Request<ServerStatusRequest>,
    ) -> Result<Response<ServerStatusResponse>, Status> {
        self.refuse()?;
        self.shared.status_calls.fetch_add(1, Ordering::Relaxed);
        let nodes = u32::try_from(self.shared.options.nodes.len()).unwrap_or(u32::MAX);
        Ok(Response::new(ServerStatusResponse {
            num_flows: self.flows_sent().min(4095),
            max_flows: 4095 * u64::from(nodes),
            seen_flows: self.flows_sent(),
            uptime_ns: 1_000_000_000,
            num_connected_nodes: Some(nodes),
            num_unavailable_nodes: u32::try_from(self.shared.options.unavailable.len()).ok(),
            unavailable_nodes: self.shared.options.unavailable.clone(),
            version: "hubble-relay v1.19.4 (cpg demo)".to_owned(),
        }))
    }
}

/// One stream: a script on its way to one client.
struct Player {
    out: mpsc::Sender<Result<GetFlowsResponse, Status>>,
    view: View,
    follow: bool,
    link: Option<Link>,
    relay: DemoRelay,
}

/// How a script goes on after a step.
enum Next {
    Step,
    Anew,
    End,
}

// === impl Player ===

impl Player {
    /// Ends when the script ends or the client has gone.
    async fn play(self, script: Script) {
        let mut at = 0;
        while let Some(step) = script.steps.get(at) {
            at = match self.step(step).await {
                Next::Step => at + 1,
                Next::Anew => {
                    tokio::task::yield_now().await; // a script without any await must not keep the thread
                    0
                }
                Next::End => return,
            };
        }
    }

    async fn step(&self, step: &Step) -> Next {
        match step {
            Step::Send(response) => match self.view.see(response) {
                Seen::Yes(response) => {
                    if matches!(response.response_types, Some(ResponseTypes::Flow(_))) {
                        self.relay.shared.flows_sent.fetch_add(1, Ordering::Relaxed);
                    }
                    if self.out.send(Ok(*response)).await.is_ok() { Next::Step } else { Next::End }
                }
                Seen::No if self.out.is_closed() => Next::End,
                Seen::No => Next::Step,
            },
            Step::Pause(_) if !self.follow => Next::Step,
            Step::Pause(time) => {
                tokio::select! {
                    () = tokio::time::sleep(*time) => Next::Step,
                    () = self.out.closed() => Next::End,
                }
            }
            Step::EndOk => Next::End,
            Step::EndWith(status) => {
                let _ = self.out.send(Err(status.clone())).await; // the client has gone: the same end
                Next::End
            }
            Step::Hang => {
                if self.follow {
                    self.out.closed().await;
                }
                Next::End
            }
            Step::Cut => self.fault(Link::cut).await,
            Step::Freeze => self.fault(Link::freeze).await,
            Step::RepeatForever if self.follow => Next::Anew,
            Step::RepeatForever => Next::End,
        }
    }

    async fn fault(&self, fault: impl Fn(&Link)) -> Next {
        self.drained().await;
        if let Some(link) = &self.link {
            fault(link);
        }
        self.out.closed().await;
        Next::End
    }

    /// Waits until the client's side has taken what was sent, so that a fault hits after it.
    async fn drained(&self) {
        while self.out.capacity() < STREAM_BUFFER && !self.out.is_closed() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // from tonic's buffer to the socket
    }
}

/// Serves the relay on this listener until `stop` is done; then every connection is cut, as Hubble
/// Relay does when it ends.
pub async fn serve(
    listener: TcpListener,
    relay: DemoRelay,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    serve_service(listener, ObserverServer::new(relay), stop).await
}

/// [`serve`] for any service on the `Observer` path.
pub(super) async fn serve_service<S>(
    listener: TcpListener,
    service: S,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    S: tonic::codegen::Service<
            tonic::codegen::http::Request<tonic::body::Body>,
            Response = tonic::codegen::http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let all = CancellationToken::new();
    let cut_all = all.clone();
    let lines = TcpListenerStream::new(listener).map(move |tcp| tcp.map(|tcp| Line::new(tcp, &all)));
    let stop = async move {
        stop.await;
        cut_all.cancel();
    };
    tonic::transport::Server::builder().add_service(service).serve_with_incoming_shutdown(lines, stop).await
}
