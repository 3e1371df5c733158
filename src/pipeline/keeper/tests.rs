//! Readers that panic and writers that hang.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_stream::Stream;

use super::*;
use crate::pipeline::{Asking, FlowStream, Question};
use crate::source::Item;
use crate::source::relay::{ConnectError, Start, StreamEnd};
use crate::source::unknown::UnknownValues;

/// Says one flow, and panics.
struct Panics(Option<Item>);

impl Stream for Panics {
    type Item = Result<Item, StreamEnd>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(self.0.take().expect("hostile \u{1b}[2J"))))
    }
}

impl FlowStream for Panics {
    fn take_unknown(&mut self) -> UnknownValues {
        UnknownValues::default()
    }
}

struct Never;

impl Reopen for Never {
    type Flows = Panics;

    async fn reconnect(&mut self) -> Result<(), ConnectError> {
        std::future::pending().await
    }

    fn open(&self, _: Start) -> Panics {
        Panics(None)
    }

    fn ask(&self, _: Question) -> Asking {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_reader_that_panics_ends_the_run_after_the_last_window() {
    let line = br#"{"flow":{"verdict":"DROPPED","drop_reason_desc":"POLICY_DENIED","event_type":{"type":5},"traffic_direction":"EGRESS","IP":{"source":"10.0.0.1","destination":"10.0.0.2"},"source":{"identity":300,"namespace":"shop","labels":["k8s:app=web","k8s:io.kubernetes.pod.namespace=shop"]},"destination":{"identity":300,"namespace":"shop","labels":["k8s:app=api","k8s:io.kubernetes.pod.namespace=shop"]},"l4":{"TCP":{"source_port":40000,"destination_port":80,"flags":{"SYN":true}}}},"node_name":"n1"}"#;
    let item = crate::source::json::read_line(line, &mut crate::source::decode::Decoder::new()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(dir.path().join("p"), Duration::from_secs(1)).unwrap();
    let keeper = Keeper::new(Arc::default(), Duration::from_secs(3600), Writer::new(store, 1000));
    let summary = keeper.follow(Live::<Never>::over(Panics(Some(item))), Stop::default()).await;
    assert!(dir.path().join("p/shop/web.yaml").is_file(), "{summary}");
    assert_eq!(summary.exit(false, false), crate::pipeline::Exit::Incomplete);
    let said = summary.to_string();
    assert!(
        said.contains("the task reader panicked: hostile \\u{1b}[2J") && !said.contains('\u{1b}'),
        "{said}"
    );
}

/// The clock is paused: it goes on when everything waits.
#[tokio::test(start_paused = true)]
async fn a_write_under_way_is_what_was_late_where_nothing_of_the_cluster_is_awaited() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::Store::open(dir.path().join("p"), Duration::from_secs(1)).unwrap();
    let mut keeper = Keeper::new(Arc::default(), Duration::from_secs(3600), Writer::new(store, 1000))
        .ending_within(Duration::from_secs(1));
    keeper.writer = None;
    keeper.writing = Some(tokio::spawn(std::future::pending()));
    keeper.stage.is("writing the policies of shop/app=web");
    let stop = Stop::default();
    stop.stop();
    let feed = tokio::spawn(async { FeedEnd::Stopped });
    let summary = keeper.keep(Vec::new(), feed, stop, Settling::Window).await;
    let late = summary.late.as_deref();
    assert_eq!(late, Some("after 1s cpg was still writing the policies of shop/app=web"));
}
