//! From a way to a connection that a relay answers on, within a time, or one message that says why not.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::time::{self, Instant};
use tonic::codegen::http::Uri;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tower::service_fn;

use super::probe::{Seen, listen, probe};
use super::tls::Tls;
use super::{DialError, Relay, TlsOptions, Trying, Way, Wire, chain, is_from_grpc, is_from_http, words};
use crate::source::proto::health::HealthCheckRequest;
use crate::source::proto::observer::ServerStatusRequest;

/// Between two tries of a way that may work a moment later.
const PAUSE: Duration = Duration::from_millis(500);
/// Of the time for connecting, at most so much is kept for finding out what answers that is no relay.
const FOR_PROBES: Duration = Duration::from_secs(1);

/// How long a relay that lives may take for an answer that it needs all its nodes for.
const FOR_STATUS: Duration = Duration::from_secs(1);

/// Makes connections to one relay. Clones are the same.
#[derive(Debug, Clone)]
pub struct Connector {
    way: Arc<dyn Way>,
    tls: Option<TlsOptions>,
    timeout: Duration,
}

/// Why no relay could be reached: one message for people, safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    /// What kind of failure.
    pub kind: ConnectErrorKind,
    /// What was tried, for how long, what was seen, and what to do.
    pub message: String,
}

/// Kinds of failures to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// No connection, or one that broke: name not found, refused, no route, no TLS, no answer in time.
    Unreachable,
    /// Something answers there that is no relay.
    NotARelay,
    /// A relay answers that wants a login: trying again does not help.
    Refused,
}

/// What makes the byte stream of a connection: the way and TLS, never one without the other.
#[derive(Debug, Clone)]
pub(super) struct Carrier {
    way: Arc<dyn Way>,
    tls: Option<Arc<Tls>>,
    trying: Trying,
    failure: Arc<Mutex<Option<DialError>>>,
    /// The way led to a byte stream.
    wired: Arc<AtomicBool>,
    /// A byte stream was made, with TLS if that was asked for.
    carried: Arc<AtomicBool>,
}

/// Why one try failed.
enum Failed {
    Dial(DialError),
    /// tonic failed before or after the byte stream was there.
    Channel(String),
    /// The first call got no answer of a relay.
    Call(Status),
    TimeIsUp,
}

// === impl Carrier ===

impl Carrier {
    /// A byte stream to the relay, within TLS when that was asked for.
    async fn carry(&self) -> Result<Wire, DialError> {
        let wire = self.bare().await?;
        self.wired.store(true, Ordering::Relaxed);
        let wire = match &self.tls {
            None => wire,
            Some(tls) => {
                self.trying.now(format!("the TLS handshake with {} as {}", self.way.name(), tls.name()));
                tls.over(wire).await?
            }
        };
        self.trying.now(format!("waiting for {} to answer as a relay", self.way.name()));
        self.carried.store(true, Ordering::Relaxed);
        Ok(wire)
    }

    /// A byte stream below TLS: for handshakes and for looking at what answers.
    pub(super) async fn bare(&self) -> Result<Wire, DialError> {
        self.way.dial(&self.trying).await
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_deref()
    }
}

// === impl Connector ===

impl Connector {
    /// Over this way, with TLS or not; each connection within `timeout`.
    pub fn new(way: impl Way + 'static, tls: Option<TlsOptions>, timeout: Duration) -> Self {
        Self { way: Arc::new(way), tls, timeout }
    }

    /// Where it leads, in a few words.
    pub fn name(&self) -> String {
        let tls = if self.tls.is_some() { " with TLS" } else { "" };
        format!("{}{tls}", self.way.name())
    }

    /// Whether the connection is neither encrypted nor verified, or only encrypted: a warning.
    pub fn warning(&self) -> Option<String> {
        let insecure = self.tls.as_ref().is_some_and(|tls| tls.allow_insecure);
        insecure.then(|| {
            format!(
                "--tls-allow-insecure: whoever answers at {} is believed to be the relay",
                self.way.name()
            )
        })
    }

    /// Connects, and makes sure that a relay answers, all within the timeout.
    pub async fn connect(&self) -> Result<Relay, ConnectError> {
        let fallback = self.way.server_name();
        let tls = match self.tls.as_ref().map(|tls| tls.load(fallback.as_deref())).transpose() {
            Ok(tls) => tls.map(Arc::new),
            Err(e) => {
                return Err(ConnectError { kind: ConnectErrorKind::Unreachable, message: e.to_string() });
            }
        };
        let carrier = Carrier {
            way: Arc::clone(&self.way),
            tls,
            trying: Trying::default(),
            failure: Arc::default(),
            wired: Arc::default(),
            carried: Arc::default(),
        };
        let deadline = Instant::now() + self.timeout;
        let for_probes = FOR_PROBES.min(self.timeout / 4);
        let mut last = None;
        let failed = loop {
            let failed = match time::timeout_at(deadline - for_probes, once(&carrier)).await {
                Ok(Ok(relay)) => return Ok(relay),
                Ok(Err(failed)) => failed,
                Err(_) => Failed::TimeIsUp,
            };
            match failed {
                Failed::Dial(e) if e.transient && Instant::now() + PAUSE < deadline - for_probes => {
                    last = Some(e);
                    time::sleep(PAUSE).await;
                }
                Failed::TimeIsUp if last.is_some() => break last.map_or(Failed::TimeIsUp, Failed::Dial),
                failed => break failed,
            }
        };
        self.explain(failed, &carrier, for_probes).await
    }

    /// What it was that did not work; looks at what answers where that is not clear. It may turn out to
    /// be a relay after all that is slow to say so.
    async fn explain(
        &self,
        failed: Failed,
        carrier: &Carrier,
        wait: Duration,
    ) -> Result<Relay, ConnectError> {
        let status = match failed {
            Failed::Dial(e) => {
                if carrier.wired.load(Ordering::Relaxed) {
                    // TLS broke: what lies below it may have something to say.
                    listen(carrier, wait / 4).await;
                }
                return Err(self.dial_error(&e));
            }
            Failed::TimeIsUp if !carrier.carried.load(Ordering::Relaxed) => {
                return Err(self.unreachable(&format!("time was up at {}", carrier.trying)));
            }
            Failed::Channel(why) if !carrier.carried.load(Ordering::Relaxed) => {
                return Err(self.unreachable(&why));
            }
            Failed::Channel(why) => Some(Status::unavailable(why)),
            Failed::TimeIsUp => None,
            Failed::Call(status) if status.code() == Code::Unauthenticated => {
                return Err(ConnectError {
                    kind: ConnectErrorKind::Refused,
                    message: format!(
                        "the relay at {self} wants a login ({}): cpg has no token and no OIDC login, as \
                         commercial relays ask for. Reach a relay without one, with --server or --relay-service",
                        words(&status)
                    ),
                });
            }
            Failed::Call(status) => Some(status),
        };
        let seen = time::timeout(wait, probe(carrier, wait / 4)).await.unwrap_or(Seen::Silent);
        Err(match (seen, status) {
            // It asks its nodes, and one of them is slow.
            (Seen::Http2, None) => {
                return channel(carrier).await.map_err(|why| self.unreachable(&why)).map(Relay::over);
            }
            (Seen::Http2, Some(status)) if is_from_http(&status) && status.code() != Code::Unavailable => {
                self.not_a_relay(&format!("an HTTP/2 server without gRPC answers ({})", words(&status)))
            }
            (Seen::Http2 | Seen::Gone, Some(status)) => self.unreachable(&words(&status)),
            (Seen::Gone, None) => self.unreachable("no answer"),
            (Seen::Refused(e), _) => self.dial_error(&e),
            (Seen::Http1(line), _) => self.not_a_relay(&format!("an HTTP/1 server answers (\"{line}\")")),
            (Seen::Tls, _) => ConnectError {
                kind: ConnectErrorKind::NotARelay,
                message: format!(
                    "the relay at {self} speaks TLS, and TLS was not asked for: give --tls, and the relay's \
                     CA with --tls-ca-cert-files"
                ),
            },
            (Seen::Closed, _) => self.unreachable(
                "the connection is taken and closed at once, as a port-forward does whose pod is gone",
            ),
            (Seen::Silent, _) => self.not_a_relay("the connection is taken, but nothing is said"),
            (Seen::Other(line), _) => {
                self.not_a_relay(&format!("something answers that is not HTTP/2 (\"{line}\")"))
            }
        })
    }

    fn dial_error(&self, error: &DialError) -> ConnectError {
        let remedy = error.remedy.clone().unwrap_or_else(|| self.way.advice());
        let remedy = if remedy.is_empty() { remedy } else { format!(". {remedy}") };
        ConnectError {
            kind: ConnectErrorKind::Unreachable,
            message: format!("no Hubble Relay at {self}: {}{}{remedy}", error.what, self.note()),
        }
    }

    fn unreachable(&self, why: &str) -> ConnectError {
        ConnectError {
            kind: ConnectErrorKind::Unreachable,
            message: format!("no Hubble Relay at {self}: {why}{}. {}", self.note(), self.way.advice()),
        }
    }

    fn not_a_relay(&self, why: &str) -> ConnectError {
        ConnectError {
            kind: ConnectErrorKind::NotARelay,
            message: format!(
                "no Hubble Relay at {self}: {why}{}. Check host and port: the Service is called \
                 hubble-relay, its port is 80 or, with TLS, 443, and 4245 in the pod",
                self.note()
            ),
        }
    }

    /// What was seen on the way.
    fn note(&self) -> String {
        self.way.note(self.tls.is_some()).map(|note| format!("; {note}")).unwrap_or_default()
    }
}

impl fmt::Display for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (tried for up to {})", self.name(), humantime::format_duration(self.timeout))
    }
}

/// One try: the byte stream, HTTP/2, and one call that proves a relay.
async fn once(carrier: &Carrier) -> Result<Relay, Failed> {
    carrier.wired.store(false, Ordering::Relaxed);
    carrier.carried.store(false, Ordering::Relaxed);
    let channel = channel(carrier).await.map_err(|why| {
        let failure = carrier.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Failed::Channel(why), Failed::Dial)
    })?;
    let relay = Relay::over(channel);
    // An HTTP/2 client is content before the server has said a word. These calls prove a relay; what it
    // answers does not matter, unless it asks for a login. ServerStatus waits for every node, so a node that
    // is frozen must not keep us from a relay that lives.
    match relay.health.clone().check(HealthCheckRequest::default()).await {
        Err(status) if !is_from_grpc(&status) => return Err(Failed::Call(status)),
        Ok(_) | Err(_) => {}
    }
    let status = relay.client.clone();
    let status = async move { status.clone().server_status(ServerStatusRequest {}).await };
    match time::timeout(FOR_STATUS, status).await {
        Ok(Err(status)) if status.code() == Code::Unauthenticated => Err(Failed::Call(status)),
        Ok(Err(status)) if !is_from_grpc(&status) => Err(Failed::Call(status)),
        Ok(Ok(_) | Err(_)) | Err(_) => Ok(relay),
    }
}

/// A channel over the carrier. TLS is the carrier's: what tonic gets is a byte stream, so no setting of
/// tonic can send plaintext where TLS was asked for. The URI is what requests say of themselves.
async fn channel(carrier: &Carrier) -> Result<tonic::transport::Channel, String> {
    let (scheme, host) = match &carrier.tls {
        Some(tls) => ("https", tls.name()),
        None => ("http", carrier.way.server_name().unwrap_or_else(|| "localhost".to_owned())),
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let origin: Uri = format!("{scheme}://{host}").parse().map_err(|e| format!("{host:?}: {e}"))?;
    let carrier = carrier.clone();
    Endpoint::from_static("http://relay")
        .origin(origin)
        .user_agent(concat!("cpg/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| chain(&error))?
        .connect_with_connector(service_fn(move |_: Uri| {
            let carrier = carrier.clone();
            async move {
                let wire = carrier.carry().await.inspect_err(|e| {
                    *carrier.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e.clone());
                })?;
                Ok::<_, DialError>(TokioIo::new(wire))
            }
        }))
        .await
        .map_err(|error| chain(&error))
}
