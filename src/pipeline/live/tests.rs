//! Breaks and their ends, with a clock that is told.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use super::*;
use crate::pipeline::Fold;
use crate::source::relay::ConnectErrorKind::{Refused, Unreachable};

/// What one stream does after the other.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Says something, lives so many seconds, and ends.
    Lives(u64, EndKind),
    /// Cannot be opened.
    Fails(ConnectErrorKind),
    /// Stays for ever without a word.
    Silent,
}

struct Acting {
    spoken: bool,
    life: Pin<Box<dyn Future<Output = EndKind> + Send>>,
}

struct Script {
    acts: VecDeque<Act>,
    tries: Arc<Mutex<Vec<u64>>>,
    start: Instant,
}

impl Acting {
    fn new(act: Act) -> Self {
        let life: Pin<Box<dyn Future<Output = EndKind> + Send>> = match act {
            Act::Lives(seconds, kind) => Box::pin(async move {
                sleep(Duration::from_secs(seconds)).await;
                kind
            }),
            Act::Silent | Act::Fails(_) => Box::pin(std::future::pending()),
        };
        Self { spoken: !matches!(act, Act::Lives(..)), life }
    }
}

impl Stream for Acting {
    type Item = Result<Item, StreamEnd>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !std::mem::replace(&mut self.spoken, true) {
            return Poll::Ready(Some(Ok(Item::Other)));
        }
        self.life.as_mut().poll(cx).map(|kind| Some(Err(StreamEnd { status: "over".into(), kind })))
    }
}

impl FlowStream for Acting {
    fn take_unknown(&mut self) -> UnknownValues {
        UnknownValues::default()
    }
}

impl Reopen for Script {
    type Flows = Acting;

    async fn reopen(&mut self) -> Result<Acting, ConnectError> {
        self.tries.lock().unwrap().push(self.start.elapsed().as_secs());
        match self.acts.pop_front().expect("one more try than the script has") {
            Act::Fails(kind) => Err(ConnectError { kind, message: "nobody there".into() }),
            act => Ok(Acting::new(act)),
        }
    }
}

/// Plays the acts, and asks to stop after so many seconds; gives the end and when it was tried again.
async fn played(acts: &[Act], stop_after: u64) -> (FeedEnd, Vec<u64>) {
    let (first, rest) = acts.split_first().unwrap();
    let tries = Arc::new(Mutex::new(Vec::new()));
    let script =
        Script { acts: rest.iter().copied().collect(), tries: Arc::clone(&tries), start: Instant::now() };
    let live = Live { flows: Acting::new(*first), reopen: Some(script) };
    let fold = Arc::new(Mutex::new(Fold::new(Arc::default())));
    let stop = Stop::default();
    let asks = async {
        sleep(Duration::from_secs(stop_after)).await;
        stop.stop();
        std::future::pending().await
    };
    let end = tokio::select! { end = live.run(fold, stop.clone()) => end, () = asks => unreachable!() };
    let tries = tries.lock().unwrap().clone();
    (end, tries)
}

#[tokio::test(start_paused = true)]
async fn a_break_is_over_when_the_stream_speaks_or_stands() {
    use Act::{Fails, Lives, Silent};
    let ends = [EndKind::Ended, EndKind::Unavailable, EndKind::Other];
    for kind in ends {
        let (end, tries) =
            played(&[Lives(5, kind), Fails(Unreachable), Fails(Unreachable), Lives(9000, kind)], 3600).await;
        assert!(matches!(end, FeedEnd::Stopped), "{end:?}");
        assert_eq!(tries.len(), 3);
    }
    let (end, _) = played(&[Lives(5, EndKind::Ended), Silent], 3600).await;
    assert!(matches!(end, FeedEnd::Stopped), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_break_of_more_than_a_minute_at_the_end_is_told() {
    let mut acts = vec![Act::Lives(5, EndKind::Unavailable)];
    acts.extend([Act::Fails(Unreachable); 100]);
    let (end, _) = played(&acts, 60).await;
    assert!(matches!(end, FeedEnd::Stopped), "{end:?}");
    let (end, tries) = played(&acts, 600).await;
    let FeedEnd::Gone { lasted, why } = end else { panic!("{end:?}") };
    assert_eq!((lasted.as_secs(), why.as_str()), (595, "nobody there"));
    // 1, 2, 4, … seconds apart, then a minute; a quarter more or less.
    assert!((12..=20).contains(&tries.len()), "{tries:?}");
    // Streams that end at once do not count as being there.
    let mut acts = vec![Act::Lives(5, EndKind::Unavailable)];
    acts.extend([Act::Lives(0, EndKind::Unavailable); 100]);
    let (_, tries) = played(&acts, 600).await;
    assert!(tries.len() <= 20, "{tries:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_healthy_minute_the_waits_begin_anew() {
    let mut acts = vec![Act::Lives(1, EndKind::Ended)];
    acts.extend([Act::Fails(Unreachable); 8]);
    acts.extend([Act::Lives(61, EndKind::Ended), Act::Silent]);
    let (_, tries) = played(&acts, 3600).await;
    let last = tries.len() - 1;
    assert!(tries[last] - tries[last - 1] <= 63, "{tries:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_tried_again() {
    let (end, tries) = played(&[Act::Lives(5, EndKind::Refused)], 3600).await;
    assert!(matches!(end, FeedEnd::Stream(_)) && tries.is_empty(), "{end:?}");
    let (end, tries) = played(&[Act::Lives(5, EndKind::Ended), Act::Fails(Refused)], 3600).await;
    assert!(matches!(end, FeedEnd::Stream(_)) && tries.len() == 1, "{end:?}");
}
