//! The numbers of a running cpg over HTTP, for Prometheus and for the probes of Kubernetes.
//!
//! | path | answers |
//! |---|---|
//! | `/metrics` | the numbers, as OpenMetrics or in the older text format |
//! | `/healthz` | 200 while the process serves at all |
//! | `/readyz` | 200 while there is a stream and the last attempt to write did not fail, else 503 with the reason |
//!
//! Only `GET` and `HEAD`, no TLS, no login: listen on an address that only the cluster reaches.

mod text;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::pipeline::{Vitals, ended, named};
use text::Form;

/// The task of one connection.
const CONNECTION: &str = "metrics-connection";
/// Connections at a time; a further one waits.
const CONNECTIONS: usize = 16;
/// How long a client may take for its request, and a connection may live.
const PATIENCE: Duration = Duration::from_secs(10);
const LIFE: Duration = Duration::from_secs(120);
/// After the system refused to take a connection (too many open files).
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until it is dropped. Ends by itself only when a connection's task panicked, with what to say.
pub async fn serve(listener: TcpListener, vitals: Arc<Vitals>) -> String {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = match Arc::clone(&room).acquire_owned().await {
            Ok(permit) => permit,
            Err(e) => return format!("the metrics server closed itself: {e}"),
        };
        let stream = tokio::select! {
            stream = accept(&listener) => stream,
            Some(Err(e)) = connections.join_next() => return ended(CONNECTION, e),
        };
        let vitals = Arc::clone(&vitals);
        connections.spawn(named(CONNECTION, async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let answer = answer(request.method(), request.uri().path(), accepts(&request), &vitals);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(stream), answer);
            if let Ok(Err(e)) = tokio::time::timeout(LIFE, connection).await {
                tracing::debug!(error = %e, "a connection to the metrics ended early");
            }
            drop(permit);
        }));
    }
}

async fn accept(listener: &TcpListener) -> tokio::net::TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                tracing::debug!(error = %e, "no connection to the metrics can be taken");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn accepts(request: &Request<Incoming>) -> &str {
    request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn answer(method: &Method, path: &str, accept: &str, vitals: &Vitals) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let of = |status: StatusCode, kind: &'static str, body: String| {
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
        response
    };
    if method != Method::GET && method != Method::HEAD {
        let mut response = of(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => {
            let form = Form::asked_for(accept);
            of(StatusCode::OK, form.content_type(), text::render(&vitals.snapshot(), form))
        }
        "/healthz" => of(StatusCode::OK, PLAIN, "ok\n".to_owned()),
        "/readyz" => match vitals.not_ready() {
            None => of(StatusCode::OK, PLAIN, "ok\n".to_owned()),
            Some(why) => of(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
        },
        _ => of(StatusCode::NOT_FOUND, PLAIN, "there are /metrics, /healthz and /readyz\n".to_owned()),
    }
}
