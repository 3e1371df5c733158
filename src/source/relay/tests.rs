//! The stream against a scripted server, and what happens where none is.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::Server;
use tonic::{Request, Response};

use super::*;
use crate::flow::Namespaces;
use crate::source::Item;
use crate::source::decode::FIELD_MASK;
use crate::source::proto::flow::{Flow, LostEvent};
use crate::source::proto::observer::get_flows_response::ResponseTypes;
use crate::source::proto::observer::observer_server::{Observer, ObserverServer};
use crate::source::proto::observer::{self, GetFlowsRequest, GetFlowsResponse};
use crate::source::proto::relay::NodeStatusEvent;

const SECOND: Duration = Duration::from_secs(1);

/// What the server does with one GetFlows after the other.
enum Act {
    /// Refuses at once.
    Refuse(Status),
    /// Sends these, and ends with OK.
    Send(Vec<Result<GetFlowsResponse, Status>>),
    /// Sends these, and stays open.
    Follow(Vec<GetFlowsResponse>),
}

struct Script {
    acts: Mutex<VecDeque<Act>>,
    requests: Arc<Mutex<Vec<GetFlowsRequest>>>,
    status: fn() -> Result<observer::ServerStatusResponse, Status>,
}

#[tonic::async_trait]
impl Observer for Script {
    type GetFlowsStream = std::pin::Pin<Box<dyn Stream<Item = Result<GetFlowsResponse, Status>> + Send>>;

    async fn get_flows(
        &self,
        request: Request<GetFlowsRequest>,
    ) -> Result<Response<Self::GetFlowsStream>, Status> {
        self.requests.lock().unwrap().push(request.into_inner());
        let act = self.acts.lock().unwrap().pop_front();
        match act.expect("one more GetFlows than the script has") {
            Act::Refuse(status) => Err(status),
            Act::Send(items) => Ok(Response::new(Box::pin(tokio_stream::iter(items)))),
            Act::Follow(items) => {
                let items = tokio_stream::iter(items.into_iter().map(Ok));
                Ok(Response::new(Box::pin(items.chain(tokio_stream::pending()))))
            }
        }
    }

    async fn get_nodes(
        &self,
        _: Request<observer::GetNodesRequest>,
    ) -> Result<Response<observer::GetNodesResponse>, Status> {
        let node = observer::Node {
            name: "west/n\u{1b}".to_owned(),
            state: 1,
            max_flows: 4095,
            ..Default::default()
        };
        Ok(Response::new(observer::GetNodesResponse { nodes: vec![node] }))
    }

    async fn get_namespaces(
        &self,
        _: Request<observer::GetNamespacesRequest>,
    ) -> Result<Response<observer::GetNamespacesResponse>, Status> {
        let namespace =
            |name: &str| observer::Namespace { cluster: String::new(), namespace: name.to_owned() };
        let namespaces = vec![namespace("shop"), namespace("db"), namespace("../etc")];
        Ok(Response::new(observer::GetNamespacesResponse { namespaces }))
    }

    async fn server_status(
        &self,
        _: Request<observer::ServerStatusRequest>,
    ) -> Result<Response<observer::ServerStatusResponse>, Status> {
        (self.status)().map(Response::new)
    }
}

/// A connection without TLS.
async fn connect(address: &Address, timeout: Duration) -> Result<Relay, ConnectError> {
    Connector::new(Direct::new(address.clone()), None, timeout).connect().await
}

/// A relay with this script, and the requests it got.
async fn relay(acts: Vec<Act>) -> (Relay, Arc<Mutex<Vec<GetFlowsRequest>>>) {
    relay_with(acts, || Ok(observer::ServerStatusResponse::default())).await
}

async fn relay_with(
    acts: Vec<Act>,
    status: fn() -> Result<observer::ServerStatusResponse, Status>,
) -> (Relay, Arc<Mutex<Vec<GetFlowsRequest>>>) {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let script = Script { acts: Mutex::new(acts.into()), requests: Arc::clone(&requests), status };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap().0;
    let server = Server::builder().add_service(ObserverServer::new(script));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (connect(&address, 5 * SECOND).await.unwrap(), requests)
}

/// A plain TCP server that does the same with every connection; `None`: it says nothing.
async fn tcp(answer: Option<&'static [u8]>) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            match answer {
                Some(bytes) => {
                    let mut question = [0; 64];
                    let _ = stream.read(&mut question).await;
                    let _ = stream.write_all(bytes).await;
                }
                None => silent.push(stream),
            }
        }
    });
    Address::parse(&address.to_string()).unwrap().0
}

fn response(types: ResponseTypes) -> GetFlowsResponse {
    GetFlowsResponse { node_name: "west/n1".to_owned(), time: None, response_types: Some(types) }
}

fn flow(uuid: &str) -> GetFlowsResponse {
    let flow = Flow { uuid: uuid.to_owned(), verdict: 2, drop_reason_desc: 133, ..Default::default() };
    response(ResponseTypes::Flow(flow))
}

fn node_error(message: &str) -> GetFlowsResponse {
    let (node_names, message) = (vec!["west/n1".to_owned()], message.to_owned());
    response(ResponseTypes::NodeStatus(NodeStatusEvent { state_change: 4, node_names, message }))
}

/// What a stream yields, in words.
async fn told(relay: &Relay, take: usize) -> Vec<String> {
    let stream = relay.flows(&Interest::default(), Start::Now).take(take).map(|item| match item {
        Ok(Item::Flow(flow)) => format!("flow {} {}", flow.uuid, flow.drop_reason),
        Ok(Item::Lost(lost)) => format!("lost {}", lost.count),
        Ok(Item::NodeStatus(status)) => format!("{:?} {}", status.state, status.message),
        Ok(Item::Undecodable) => "undecodable".to_owned(),
        Ok(Item::Other) => "other".to_owned(),
        Err(end) => format!("{:?} {end}", end.kind),
    });
    time::timeout(5 * SECOND, stream.collect()).await.unwrap()
}

#[tokio::test]
async fn items_come_in_order_and_the_end_is_told_once() {
    let lost = response(ResponseTypes::LostEvents(LostEvent {
        source: 3,
        num_events_lost: 9,
        ..Default::default()
    }));
    let newer = GetFlowsResponse::default();
    let items = [flow("a"), lost, newer, node_error("boom\u{1b}"), flow("b")].map(Ok).to_vec();
    let (relay, requests) = relay(vec![Act::Send(items)]).await;
    assert_eq!(
        told(&relay, 10).await,
        [
            "flow a POLICY_DENIED",
            "lost 9",
            "other",
            "Error boom\\u{1b}",
            "flow b POLICY_DENIED",
            "Ended the relay ended the stream"
        ]
    );
    let requests = requests.lock().unwrap();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert!(request.follow && request.number == 0 && request.since.is_none());
    assert_eq!(request.field_mask.as_ref().unwrap().paths, FIELD_MASK);
    assert_eq!(request.whitelist.len(), 1);
}

#[tokio::test]
async fn namespaces_become_filters() {
    let (relay, requests) = relay(vec![Act::Send(vec![])]).await;
    let namespaces = Namespaces::Only([Namespace::parse("shop").unwrap()].into());
    let mut flows = relay.flows(&Interest { namespaces, ..Interest::default() }, Start::Now);
    assert_eq!(flows.next().await.unwrap().unwrap_err().kind, EndKind::Ended);
    assert!(flows.next().await.is_none());
    assert!(flows.take_unknown().is_empty());
    assert_eq!(requests.lock().unwrap()[0].whitelist.len(), 2);
}

#[tokio::test]
async fn a_refused_mask_is_left_out_once() {
    // A relay tells it of one of its nodes; flows of others may have come before.
    let first = Act::Follow(vec![flow("a"), node_error("rpc error: invalid fieldmask")]);
    let (over_relay, requests) = relay(vec![first, Act::Follow(vec![flow("b")])]).await;
    assert_eq!(
        told(&over_relay, 3).await,
        [
            "flow a POLICY_DENIED",
            "Error rpc error: invalid fieldmask; asking again for whole flows",
            "flow b POLICY_DENIED"
        ]
    );
    let masks: Vec<bool> = requests.lock().unwrap().iter().map(|r| r.field_mask.is_some()).collect();
    assert_eq!(masks, [true, false]);

    // An agent fails the whole stream; the second time it stands.
    let status = || Status::unknown("invalid Field Mask: no such path");
    let (relay, requests) =
        relay(vec![Act::Refuse(status()), Act::Send(vec![Err(status())]), Act::Send(vec![])]).await;
    assert_eq!(
        told(&relay, 10).await,
        [
            "Error Unknown: invalid Field Mask: no such path; asking again for whole flows",
            "Other Unknown: invalid Field Mask: no such path"
        ]
    );
    // The next stream of this connection does not try it again.
    assert_eq!(told(&relay, 10).await, ["Ended the relay ended the stream"]);
    let masks: Vec<bool> = requests.lock().unwrap().iter().map(|r| r.field_mask.is_some()).collect();
    assert_eq!(masks, [true, false, false]);
}

#[tokio::test]
async fn a_status_says_whether_to_try_again() {
    async fn check(status: Status, expected: &str) {
        let (at_once, _) = relay(vec![Act::Refuse(status.clone())]).await;
        assert_eq!(told(&at_once, 10).await, [expected]);
        let (later, _) = relay(vec![Act::Send(vec![Ok(flow("a")), Err(status)])]).await;
        assert_eq!(told(&later, 10).await, ["flow a POLICY_DENIED", expected]);
    }
    check(Status::invalid_argument("first\nwith follow"), "Refused InvalidArgument: first\\u{a}with follow")
        .await;
    check(Status::unimplemented(""), "Refused Unimplemented").await;
    check(Status::permission_denied("no"), "Refused PermissionDenied: no").await;
    check(Status::unauthenticated("who"), "Refused Unauthenticated: who").await;
    check(Status::unavailable("later"), "Unavailable Unavailable: later").await;
    check(Status::unknown("?"), "Other Unknown: ?").await;
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_stream() {
    let huge = flow(&"x".repeat(LONGEST_MESSAGE + 1));
    let (relay, _) = relay(vec![Act::Send(vec![Ok(huge)])]).await;
    let told = told(&relay, 10).await;
    assert!(told.len() == 1 && told[0].starts_with("Other OutOfRange"), "{told:?}");
}

#[tokio::test]
async fn questions_beside_the_stream() {
    let (asked, _) = relay_with(vec![], || {
        Ok(observer::ServerStatusResponse {
            version: "hubble-relay v1.19".to_owned(),
            num_connected_nodes: Some(3),
            unavailable_nodes: vec!["n\u{1b}".to_owned()],
            uptime_ns: 1_500_000_000,
            ..Default::default()
        })
    })
    .await;
    let status = asked.status().await.unwrap().unwrap();
    assert_eq!((status.version.as_str(), status.connected_nodes), ("hubble-relay v1.19", Some(3)));
    assert_eq!((status.unavailable[0].as_str(), status.uptime), ("n\\u{1b}", Duration::from_millis(1_500)));
    let namespaces = asked.namespaces().await.unwrap().unwrap();
    assert_eq!(namespaces.iter().map(Namespace::as_str).collect::<Vec<_>>(), ["db", "shop"]);

    // Whatever it answers, it speaks gRPC.
    let (without, _) = relay_with(vec![], || Err(Status::unimplemented("no"))).await;
    assert_eq!(without.status().await, Ok(None));
    let (down, _) = relay_with(vec![], || Err(Status::unavailable("no peers"))).await;
    assert_eq!(down.status().await.unwrap_err().kind, EndKind::Unavailable);
}

#[track_caller]
fn assert_told(error: &ConnectError, kind: ConnectErrorKind, parts: &[&str]) {
    assert_eq!(error.kind, kind, "{error}");
    for part in parts {
        assert!(error.message.contains(part), "{part:?} in {error}");
    }
}

#[tokio::test]
async fn where_no_relay_is() {
    use ConnectErrorKind::{NotARelay, Unreachable};

    let wait = Duration::from_millis(300);
    // A port that nobody has: bound, asked for its number, and given back.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let free = Address::parse(&SocketAddr::to_string(&free)).unwrap().0;
    let error = connect(&free, wait).await.unwrap_err();
    assert_told(
        &error,
        Unreachable,
        &[&free.to_string(), "(tried for up to 300ms)", "refused", "leave out --server"],
    );
    let unknown = Address::parse("no-such-host.invalid:4245").unwrap().0;
    let error = connect(&unknown, 5 * SECOND).await.unwrap_err();
    assert_told(&error, Unreachable, &["no-such-host.invalid:4245 (tried for up to 5s)"]);

    let web = tcp(Some(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")).await;
    let error = connect(&web, wait).await.unwrap_err();
    assert_told(&error, NotARelay, &[&web.to_string(), "HTTP/1.1 400 Bad Request", "Check host and port"]);
    let tls = tcp(Some(b"\x15\x03\x03\x00\x02\x02\x46")).await;
    let error = connect(&tls, wait).await.unwrap_err();
    assert_told(&error, NotARelay, &["speaks TLS", "give --tls"]);
    let closing = tcp(Some(b"")).await;
    let error = connect(&closing, wait).await.unwrap_err();
    assert_told(&error, Unreachable, &["closed at once", "port-forward"]);
    let ssh = tcp(Some(b"SSH-2.0-OpenSSH_9.6\r\n")).await;
    let error = connect(&ssh, wait).await.unwrap_err();
    assert_told(&error, NotARelay, &["not HTTP/2 (\"SSH-2.0-OpenSSH_9.6\")"]);
    let start = Instant::now();
    let silent = tcp(None).await;
    let error = connect(&silent, wait).await.unwrap_err();
    assert_told(&error, NotARelay, &["(tried for up to 300ms)", "nothing is said"]);
    assert!(start.elapsed() < 5 * SECOND);
}

#[tokio::test]
async fn a_stream_that_breaks_is_unavailable() {
    // A server whose task is ended with the stream open.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::parse(&listener.local_addr().unwrap().to_string()).unwrap().0;
    let script = Script {
        acts: Mutex::new([Act::Follow(vec![flow("a")])].into()),
        requests: Arc::default(),
        status: || Ok(observer::ServerStatusResponse::default()),
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runtime = std::thread::spawn(move || {
        // Its own runtime, so that dropping it closes the sockets, as a killed relay does.
        let listener = listener.into_std().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let server = Server::builder().add_service(ObserverServer::new(script));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await
        });
        let _ = runtime.block_on(stopped);
        runtime.shutdown_timeout(SECOND);
    });
    let relay = connect(&address, 5 * SECOND).await.unwrap();
    let mut flows = relay.flows(&Interest::default(), Start::Now);
    assert!(matches!(flows.next().await, Some(Ok(Item::Flow(_)))));
    stop.send(()).unwrap();
    let end = time::timeout(5 * SECOND, flows.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(end.kind, EndKind::Unavailable, "{end}");
    assert!(flows.next().await.is_none());
    runtime.join().unwrap();
    let end = relay.status().await.unwrap_err();
    assert_eq!(end.kind, EndKind::Unavailable, "{end}");
}
