//! A live stream as feed: read until it ends, connect again, read on.

use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_stream::{Stream, StreamExt as _};

use super::feed::{FeedEnd, Shared, lock};
use super::{Backoff, Stop};
use crate::flow::Interest;
use crate::source::Item;
use crate::source::relay::{ConnectError, ConnectErrorKind, Connector, EndKind, Flows, Relay, StreamEnd};
use crate::source::unknown::UnknownValues;

/// A stream that lives so long without a word counts as connected too: an agent on a quiet node says
/// nothing.
const STANDS: Duration = Duration::from_secs(5);
/// At the end of a run the stream may have been gone for so long.
const FORGIVEN: Duration = Duration::from_secs(60);
/// Without a flow for so long, people want to know whether anything is there.
const QUIET: Duration = Duration::from_secs(10);

/// A stream that can be read.
pub trait FlowStream: Stream<Item = Result<Item, StreamEnd>> + Unpin + Send + 'static {
    /// The values counted as unknown since the last call.
    fn take_unknown(&mut self) -> UnknownValues;
}

/// What opens a new stream, over a new connection.
pub trait Reopen: Send + 'static {
    /// What it opens.
    type Flows: FlowStream;

    /// Connects and opens, within a time of its own.
    fn reopen(&mut self) -> impl Future<Output = Result<Self::Flows, ConnectError>> + Send;

    /// No flow has come for a while: says what is connected. Must not wait.
    fn tell_quiet(&self) {}
}

/// A stream of a relay, over new connections when it ends.
#[derive(Debug)]
pub struct Again {
    connector: Connector,
    interest: Interest,
    relay: Relay,
}

/// A live stream as feed.
#[derive(Debug)]
pub struct Live<R: Reopen = Again> {
    flows: R::Flows,
    reopen: Option<R>,
}

/// Since when there is no stream, and why.
struct Gone {
    since: Instant,
    why: String,
}

/// How one stream came to its end.
enum Read {
    Stopped,
    Ended(StreamEnd),
    Lost,
}

// === impl Live ===

impl Live<Again> {
    /// Reads the flows of this relay, and over new connections of `connector` when they end.
    pub fn lasting(connector: Connector, relay: Relay, interest: Interest) -> Self {
        Self { flows: relay.flows(&interest), reopen: Some(Again { connector, interest, relay }) }
    }

    /// Reads this stream until it ends.
    pub fn once(flows: Flows) -> Self {
        Self { flows, reopen: None }
    }
}

impl<R: Reopen> Live<R> {
    /// Reads these flows, and what `reopen` opens when they end.
    pub fn over(flows: R::Flows, reopen: Option<R>) -> Self {
        Self { flows, reopen }
    }

    /// Reads until the run is to stop, or a stream ends for good.
    pub(super) async fn run(mut self, fold: Shared, stop: Stop) -> FeedEnd {
        let mut backoff = Backoff::default();
        let mut gone: Option<Gone> = None;
        let mut quiet = Some(Instant::now() + QUIET);
        let vitals = lock(&fold).vitals();
        loop {
            let opened = Instant::now();
            vitals.connected();
            let read = self.read(&fold, &stop, &mut gone, &mut quiet).await;
            vitals.disconnected();
            lock(&fold).counters_mut().unknown.merge(self.flows.take_unknown());
            let end = match read {
                Read::Stopped => return stopped(gone),
                Read::Ended(end) => end,
                Read::Lost => return FeedEnd::Lost("the stream ended without saying how".into()),
            };
            let Some(reopen) = self.reopen.as_mut().filter(|_| end.kind != EndKind::Refused) else {
                return FeedEnd::Stream(end);
            };
            backoff.lasted(opened.elapsed());
            let gone = match &mut gone {
                Some(gone) => gone,
                None => {
                    tracing::warn!(
                        "the stream of the relay ended ({end}); connecting again, flows are missed until then"
                    );
                    gone.insert(Gone { since: Instant::now(), why: end.status.clone() })
                }
            };
            self.flows = loop {
                let wait = backoff.next(random());
                tracing::debug!(wait = %humantime::format_duration(wait), "before connecting again");
                let opened = tokio::select! {
                    biased;
                    () = stop.stopped() => return stopped(Some(Gone { since: gone.since, why: gone.why.clone() })),
                    opened = async { sleep(wait).await; reopen.reopen().await } => opened,
                };
                match opened {
                    Ok(flows) => break flows,
                    Err(e) if e.kind == ConnectErrorKind::Refused => {
                        return FeedEnd::Stream(StreamEnd { status: e.message, kind: EndKind::Refused });
                    }
                    Err(e) => {
                        tracing::debug!(error = %e, "not connected again");
                        gone.why = e.message;
                    }
                }
            };
        }
    }

    /// Reads one stream to its end.
    async fn read(
        &mut self,
        fold: &Shared,
        stop: &Stop,
        gone: &mut Option<Gone>,
        quiet: &mut Option<Instant>,
    ) -> Read {
        let opened = Instant::now();
        loop {
            // What is waited for beside the stream: nothing in the long run, so that no timer is made for
            // every item.
            let beside = async {
                match (&gone, *quiet) {
                    (None, None) => std::future::pending().await,
                    (Some(_), _) => sleep_until(opened + STANDS).await,
                    (None, Some(when)) => sleep_until(when).await,
                }
            };
            let item = tokio::select! {
                biased;
                () = stop.stopped() => return Read::Stopped,
                item = self.flows.next() => Some(item),
                () = beside => None,
            };
            let Some(item) = item else {
                if gone.is_some() {
                    back(gone);
                } else if quiet.take().is_some()
                    && let Some(reopen) = &self.reopen
                {
                    reopen.tell_quiet();
                }
                continue;
            };
            match item {
                Some(Ok(item)) => {
                    back(gone);
                    if matches!(item, Item::Flow(_)) {
                        *quiet = None;
                    }
                    lock(fold).item(item);
                }
                Some(Err(end)) => return Read::Ended(end),
                None => return Read::Lost,
            }
        }
    }
}

/// The stream is there again.
fn back(gone: &mut Option<Gone>) {
    if let Some(gone) = gone.take() {
        let seconds = gone.since.elapsed().as_secs_f64();
        tracing::info!("connected again after {seconds:.1} s; what was dropped in between was not seen");
    }
}

/// Asked to stop: a short break is forgiven.
fn stopped(gone: Option<Gone>) -> FeedEnd {
    match gone {
        Some(gone) if gone.since.elapsed() > FORGIVEN => {
            FeedEnd::Gone { lasted: gone.since.elapsed(), why: gone.why }
        }
        _ => FeedEnd::Stopped,
    }
}

/// From 0 to 1; different for every call and process.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

// === impl Again ===

impl Reopen for Again {
    type Flows = Flows;

    async fn reopen(&mut self) -> Result<Flows, ConnectError> {
        self.relay = self.connector.connect().await?;
        Ok(self.relay.flows(&self.interest))
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
}

#[cfg(test)]
mod tests;
