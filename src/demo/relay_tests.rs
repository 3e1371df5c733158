//! The relay against a generated client.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::{DemoRelay, Load, Masks, Options, Script, Step, serve, serve_load};
use crate::source::proto::flow::{Flow, FlowFilter};
use crate::source::proto::observer::get_flows_response::ResponseTypes;
use crate::source::proto::observer::observer_client::ObserverClient;
use crate::source::proto::observer::{GetFlowsRequest, GetFlowsResponse, ServerStatusRequest};

type Client = ObserverClient<Channel>;

fn flow(verdict: i32, uuid: &str) -> GetFlowsResponse {
    let flow = Flow { verdict, uuid: uuid.into(), node_name: "n".into(), ..Flow::default() };
    GetFlowsResponse { response_types: Some(ResponseTypes::Flow(flow)), ..GetFlowsResponse::default() }
}

async fn connect(listener: &TcpListener) -> Client {
    let address = listener.local_addr().unwrap();
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    Client::new(channel)
}

async fn started(relay: &DemoRelay) -> (Client, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = connect(&listener).await;
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, relay.clone(), stop.clone().cancelled_owned()));
    (client, stop)
}

async fn rest(mut stream: Streaming<GetFlowsResponse>) -> (Vec<GetFlowsResponse>, Result<(), Status>) {
    let mut got = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(response)) => got.push(response),
            Ok(None) => return (got, Ok(())),
            Err(status) => return (got, Err(status)),
        }
    }
}

async fn ask(client: &mut Client, request: GetFlowsRequest) -> (Vec<GetFlowsResponse>, Result<(), Status>) {
    match client.get_flows(request).await {
        Ok(stream) => rest(stream.into_inner()).await,
        Err(status) => (Vec::new(), Err(status)),
    }
}

fn follow() -> GetFlowsRequest {
    GetFlowsRequest { follow: true, ..GetFlowsRequest::default() }
}

fn masked(paths: &[&str]) -> GetFlowsRequest {
    let paths = paths.iter().map(|p| (*p).to_owned()).collect();
    GetFlowsRequest { field_mask: Some(prost_types::FieldMask { paths }), ..GetFlowsRequest::default() }
}

#[tokio::test]
async fn one_script_per_stream_and_the_last_one_again() {
    let relay = DemoRelay::new([
        Script::of([flow(2, "a")]).then(Step::EndWith(Status::unavailable("gone"))),
        Script::of([flow(2, "b"), flow(2, "c")]),
    ]);
    let (mut client, _stop) = started(&relay).await;
    let (got, end) = ask(&mut client, follow()).await;
    assert_eq!((got.len(), end.unwrap_err().code()), (1, Code::Unavailable));
    for _ in 0..2 {
        let (got, end) = ask(&mut client, follow()).await;
        assert_eq!((got.len(), end.is_ok()), (2, true));
    }
    assert_eq!((relay.requests().len(), relay.flows_sent()), (3, 5));
    client.server_status(ServerStatusRequest {}).await.unwrap();
    assert_eq!(relay.status_calls(), 1);
}

#[tokio::test]
async fn the_whitelist_counts_and_a_hang_ends_without_follow() {
    let relay = DemoRelay::new([Script::of([flow(1, "a"), flow(2, "b")]).then(Step::Hang)]);
    let (mut client, _stop) = started(&relay).await;
    let whitelist = vec![FlowFilter { verdict: vec![2], ..FlowFilter::default() }];
    let (got, end) = ask(&mut client, GetFlowsRequest { whitelist, ..GetFlowsRequest::default() }).await;
    assert!(end.is_ok());
    assert_eq!(got, [flow(2, "b")]);
}

#[tokio::test]
async fn masks_are_honoured_or_refused() {
    let plain = || Script::of([flow(2, "a")]);
    let (mut client, _stop) = started(&DemoRelay::new([plain()])).await;
    let (got, _) = ask(&mut client, masked(&["verdict"])).await;
    let [GetFlowsResponse { response_types: Some(ResponseTypes::Flow(flow)), node_name, .. }] = &got[..]
    else {
        panic!("{got:?}")
    };
    assert_eq!((flow.verdict, flow.uuid.as_str(), node_name.as_str()), (2, "", ""));
    let (got, end) = ask(&mut client, masked(&["shoe_size"])).await;
    assert!(end.is_ok());
    let Some(ResponseTypes::NodeStatus(status)) = &got[1].response_types else { panic!("{got:?}") };
    assert!(status.message.contains("fieldmask") && status.state_change == 4, "{status:?}");

    let refuse = Options { masks: Masks::Refuse(Status::unknown("invalid fieldmask")), ..Options::default() };
    let (mut client, _stop) = started(&DemoRelay::with([plain(), Script::default()], refuse)).await;
    assert_eq!(ask(&mut client, masked(&["verdict"])).await.1.unwrap_err().code(), Code::Unknown);
    assert_eq!(ask(&mut client, follow()).await.0.len(), 1, "a refusal uses up no script");
}

#[tokio::test]
async fn a_cut_connection_fails_after_what_was_sent() {
    let relay =
        DemoRelay::new([Script::of([flow(2, "a")]).then(Step::Cut), Script::of([]).then(Step::EndOk)]);
    let (mut client, _stop) = started(&relay).await;
    let (got, end) = ask(&mut client, follow()).await;
    assert_eq!((got.len(), end.is_err()), (1, true));
    assert!(ask(&mut client, follow()).await.1.is_ok(), "a new connection plays the next script");
}

#[tokio::test]
async fn a_frozen_connection_answers_no_call() {
    let relay = DemoRelay::new([Script::of([flow(2, "a")]).then(Step::Freeze)]);
    let (mut client, _stop) = started(&relay).await;
    let mut stream = client.get_flows(follow()).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let call = client.server_status(ServerStatusRequest {});
    assert!(tokio::time::timeout(Duration::from_millis(100), call).await.is_err());
}

#[tokio::test]
async fn stop_ends_streams_that_would_never_end() {
    let relay = DemoRelay::new([Script::of([flow(2, "a")]).then(Step::RepeatForever)]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = connect(&listener).await;
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, relay, stop.clone().cancelled_owned()));
    let mut stream = client.get_flows(follow()).await.unwrap().into_inner();
    for _ in 0..200 {
        assert_eq!(stream.message().await.unwrap(), Some(flow(2, "a")));
    }
    stop.cancel();
    server.await.unwrap().unwrap();
    assert!(rest(stream).await.1.is_err());
}

#[tokio::test]
async fn load_repeats_its_list() {
    let list = [flow(2, "a"), flow(2, "bb"), flow(1, "c")];
    let load = Load::new(&list, 10_000);
    let relay = DemoRelay::new([]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = connect(&listener).await;
    let stop = CancellationToken::new();
    tokio::spawn(serve_load(listener, relay.clone(), load, stop.cancelled_owned()));
    let (got, end) = ask(&mut client, follow()).await;
    assert!(end.is_ok());
    assert_eq!(got.len(), 10_000);
    assert!(got.iter().zip(list.iter().cycle()).all(|(a, b)| a == b));
    client.server_status(ServerStatusRequest {}).await.unwrap();
    assert_eq!((relay.requests().len(), relay.status_calls()), (1, 1));
    assert_eq!(Load::new(&[], 5).bytes(), 0);
}
