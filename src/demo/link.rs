//! A TCP connection that can be cut or frozen in the middle, as pods and port-forwards do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// The handle by which a script reaches the connection that its stream runs on.
#[derive(Debug, Clone)]
pub(super) struct Link {
    cut: CancellationToken,
    frozen: Arc<AtomicBool>,
}

/// The connection itself.
pub(super) struct Line {
    tcp: TcpStream,
    link: Link,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

// === impl Link ===

impl Link {
    /// The connection fails at once for both sides: no GOAWAY, no trailers.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// From now on nothing is read or written, and nobody is told.
    pub(super) fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }
}

// === impl Line ===

impl Line {
    /// Wraps a connection; it is cut when `all` is cancelled.
    pub(super) fn new(tcp: TcpStream, all: &CancellationToken) -> Self {
        let _ = tcp.set_nodelay(true); // only latency is lost
        let link = Link { cut: all.child_token(), frozen: Arc::default() };
        Self { tcp, cut: Box::pin(link.cut.clone().cancelled_owned()), link }
    }

    /// `Ready` when the connection has been cut, `Pending` when it must stand still.
    fn fault(&mut self, cx: &mut Context<'_>) -> Option<Poll<io::Error>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Some(Poll::Ready(io::ErrorKind::ConnectionReset.into()));
        }
        self.link.frozen.load(Ordering::Relaxed).then_some(Poll::Pending)
    }
}

impl Connected for Line {
    type ConnectInfo = Link;

    fn connect_info(&self) -> Link {
        self.link.clone()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.fault(cx) {
            Some(fault) => fault.map(Err),
            None => Pin::new(&mut self.tcp).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.fault(cx) {
            Some(fault) => fault.map(Err),
            None => Pin::new(&mut self.tcp).poll_write(cx, data),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.fault(cx) {
            Some(fault) => fault.map(Err),
            None => Pin::new(&mut self.tcp).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
