//! A way to a relay: what yields the byte stream under each connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Address;

/// A dead peer is noticed by TCP. HTTP/2 pings stay off: a relay allows one in five minutes and ends
/// the connection after the third (grpc-go, `internal/transport/defaults.go`).
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// Bytes in both directions.
pub trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// The byte stream under one connection.
pub type Wire = Box<dyn Bytes>;

/// What [`Way::dial`] gives.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = Result<Wire, DialError>> + Send + 'a>>;

/// A way to a relay. Dialled once for every connection, so what may have changed (names, pods) is looked
/// up each time.
pub trait Way: fmt::Debug + Send + Sync {
    /// Where it leads, in a few words, safe to print.
    fn name(&self) -> String;

    /// A new byte stream; says in `trying` what it is at.
    fn dial<'a>(&'a self, trying: &'a Trying) -> Dialling<'a>;

    /// The name that the relay's certificate must have where none was given; `None`: one must be given.
    fn server_name(&self) -> Option<String>;

    /// What to check when no relay is found there: a sentence.
    fn advice(&self) -> String;

    /// What was seen on the way that may explain why no relay answers, when it is spoken to with TLS or
    /// without.
    fn note(&self, tls: bool) -> Option<String> {
        let _ = tls;
        None
    }
}

/// Why a way did not lead to a byte stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct DialError {
    /// What was seen, safe to print.
    pub what: String,
    /// What to do about it: a sentence, empty when `what` has it; `None`: what the way advises in
    /// general.
    pub remedy: Option<String>,
    /// Another try may well succeed a moment later.
    pub transient: bool,
}

/// What is being tried at this moment, for the message when time is up. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Trying(Arc<Mutex<String>>);

/// Straight to an address.
#[derive(Debug, Clone)]
pub struct Direct(Address);

// === impl DialError ===

impl DialError {
    /// One that will not go away by itself.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: None, transient: false }
    }

    /// With what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// One that may go away by itself.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }
}

// === impl Trying ===

impl Trying {
    /// Says what is tried from now on: "connecting to …".
    pub fn now(&self, what: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }
}

impl fmt::Display for Trying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Direct ===

impl Direct {
    /// To this address.
    pub fn new(address: Address) -> Self {
        Self(address)
    }
}

impl Way for Direct {
    fn name(&self) -> String {
        self.0.to_string()
    }

    fn dial<'a>(&'a self, trying: &'a Trying) -> Dialling<'a> {
        Box::pin(async move {
            trying.now(format!("connecting to {}", self.0));
            dial(&self.0).await.map_err(|e| DialError::new(e.to_string()))
        })
    }

    fn server_name(&self) -> Option<String> {
        match &self.0 {
            Address::Tcp(host, _) => Some(host.to_string()),
            Address::Unix(_) => None,
        }
    }

    fn advice(&self) -> String {
        match &self.0 {
            Address::Tcp(..) => "Check the address, or leave out --server: then cpg finds the relay through \
                                 your kubeconfig"
                .to_owned(),
            Address::Unix(_) => "Check the path, and that this user may open it".to_owned(),
        }
    }
}

/// A connection to this address.
pub async fn dial(address: &Address) -> io::Result<Wire> {
    match address {
        Address::Tcp(host, port) => {
            let tcp = TcpStream::connect((host.to_string(), *port)).await?;
            tcp.set_nodelay(true)?;
            let keepalive = TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE);
            SockRef::from(&tcp).set_tcp_keepalive(&keepalive)?;
            Ok(Box::new(tcp))
        }
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
    }
}
