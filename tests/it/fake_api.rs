//! An API server of a few lines: one Service, some pods, port-forwards, policies with lists and watches, and
//! every way to fail.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures_util::SinkExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_stream::StreamExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::support::write;

/// How one question is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Json(Value),
    /// A status, as Kubernetes words it.
    Fail(u16, &'static str),
    /// No answer, ever.
    Hang,
}

/// What becomes of a port-forward.
#[derive(Debug, Clone)]
pub(crate) enum Forward {
    /// It leads here.
    To(SocketAddr),
    /// The node cannot reach the port in the pod.
    Complain(&'static str),
    Fail(u16),
}

/// What the API server knows.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) service: Answer,
    pub(crate) pods: Answer,
    /// By the name of the pod; a pod that is not here is not found.
    pub(crate) forwards: Vec<(&'static str, Forward)>,
    pub(crate) config: Answer,
    /// Of namespace kube-system; empty: it may not be read.
    pub(crate) uid: &'static str,
    /// The token that it wants, if any.
    pub(crate) token: Option<&'static str>,
    pub(crate) policies: Policies,
}

/// The policies of the cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies {
    /// The kinds that there are, as they stand in a path; others are not found.
    pub(crate) kinds: Vec<&'static str>,
    pub(crate) objects: Vec<Value>,
    /// What happened, with the kind. The number of an event is the version after it.
    events: Vec<(String, Value)>,
    /// Objects of one page; 0: all.
    pub(crate) page: usize,
    /// Answers that take the place of a list (`list`), of what follows its first page (`continue`) or of a
    /// watch (`watch`) of a kind, the next so many times.
    pub(crate) instead: Vec<(&'static str, &'static str, Answer, usize)>,
    /// Versions up to this one are forgotten (410).
    pub(crate) forgotten: usize,
    /// Whether it says so in the stream, not by its status.
    pub(crate) forgets_in_stream: bool,
    /// Watches end when this is another number.
    pub(crate) cut: usize,
}

pub(crate) struct FakeApi {
    pub(crate) address: String,
    pub(crate) state: Arc<Mutex<State>>,
    /// Method and path of every request.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// The same with the query.
    pub(crate) uris: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

/// A Service with this port, which leads to port `grpc` of its pods.
pub(crate) fn service(port: u16) -> Answer {
    Answer::Json(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "hubble-relay", "namespace": "kube-system"},
        "spec": {"selector": {"k8s-app": "hubble-relay"}, "ports": [{"port": port, "targetPort": "grpc"}]},
    }))
}

/// Pods that are ready or not.
pub(crate) fn pods(all: &[(&str, bool)]) -> Answer {
    let pods: Vec<Value> = all
        .iter()
        .map(|(name, ready)| {
            json!({
                "metadata": {"name": name, "namespace": "kube-system"},
                "spec": {"containers": [{"name": "r", "ports": [{"name": "grpc", "containerPort": 4245}]}]},
                "status": {"phase": "Running", "conditions": [
                    {"type": "Ready", "status": if *ready { "True" } else { "False" }},
                ]},
            })
        })
        .collect();
    Answer::Json(json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": pods}))
}

impl State {
    /// Everything is well, and the relay is here.
    pub(crate) fn well(relay: &str) -> Self {
        Self {
            service: service(80),
            pods: pods(&[("relay-1", true)]),
            forwards: vec![("relay-1", Forward::To(relay.parse().unwrap()))],
            config: Answer::Fail(404, "configmaps \"cilium-config\" not found"),
            uid: "",
            token: None,
            policies: Policies::default(),
        }
    }

    /// [`State::well`], with these policies.
    pub(crate) fn with_policies(relay: &str, objects: Vec<Value>) -> Self {
        let policies = Policies { kinds: KINDS.to_vec(), objects, ..Policies::default() };
        Self { policies, uid: "u-1", ..Self::well(relay) }
    }
}

/// Every kind of policy, as it stands in a path.
pub(crate) const KINDS: [&str; 3] =
    ["ciliumclusterwidenetworkpolicies", "ciliumnetworkpolicies", "networkpolicies"];

impl Policies {
    /// Creates an object, or takes the place of the one with its name.
    pub(crate) fn apply(&mut self, object: Value) {
        let known = self.objects.iter().position(|known| is_same(known, &object));
        let what = match known {
            Some(at) => {
                self.objects[at] = object.clone();
                "MODIFIED"
            }
            None => {
                self.objects.push(object.clone());
                "ADDED"
            }
        };
        self.happens(what, object);
    }

    pub(crate) fn delete(&mut self, object: &Value) {
        self.objects.retain(|known| !is_same(known, object));
        self.happens("DELETED", object.clone());
    }

    fn happens(&mut self, what: &str, mut object: Value) {
        object["metadata"]["resourceVersion"] = json!((self.events.len() + 1).to_string());
        self.events.push((kind_of(&object), json!({"type": what, "object": object})));
    }

    fn instead(&mut self, kind: &str, of: &str) -> Option<Answer> {
        let (.., answer, times) = self.instead.iter_mut().find(|i| i.0 == kind && i.1 == of && i.3 > 0)?;
        *times -= 1;
        Some(answer.clone())
    }

    fn list(&self, kind: &str, namespace: Option<&str>, query: &str) -> Answer {
        let at: usize = parameter(query, "continue").and_then(|text| text.parse().ok()).unwrap_or(0);
        let of_kind = |object: &&Value| {
            kind_of(object) == kind && namespace.is_none_or(|n| object["metadata"]["namespace"] == n)
        };
        let all: Vec<Value> = self.objects.iter().filter(of_kind).cloned().collect();
        let most = if self.page == 0 { usize::MAX } else { self.page };
        let page: Vec<Value> = all.iter().skip(at).take(most).cloned().collect();
        let next = at.saturating_add(most);
        let next = if next < all.len() { next.to_string() } else { String::new() };
        Answer::Json(json!({
            "apiVersion": "v1", "kind": "List", "items": page,
            "metadata": {"resourceVersion": self.events.len().to_string(), "continue": next},
        }))
    }
}

fn is_same(a: &Value, b: &Value) -> bool {
    ["/kind", "/metadata/namespace", "/metadata/name"].iter().all(|path| a.pointer(path) == b.pointer(path))
}

/// The kind of an object as it stands in a path.
fn kind_of(object: &Value) -> String {
    object["kind"].as_str().unwrap().to_lowercase().replace("policy", "policies")
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

impl FakeApi {
    pub(crate) fn new(state: State) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, asked) = (Arc::new(Mutex::new(state)), Arc::default());
        let uris = Arc::default();
        let (theirs, log) = (Arc::clone(&state), (Arc::clone(&asked), Arc::clone(&uris)));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&theirs), log.clone()));
            }
        });
        Self { address, state, asked, uris, _runtime: runtime }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// Writes a kubeconfig for it, with this YAML as its user.
    pub(crate) fn kubeconfig(&self, dir: &Path, user: &str) -> PathBuf {
        let path = dir.join("kubeconfig");
        write(
            &path,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
                 contexts:\n- name: test\n  context: {{cluster: c, user: u}}\n\
                 clusters:\n- name: c\n  cluster: {{server: \"http://{}\"}}\n\
                 users:\n- name: u\n  user: {user}\n",
                self.address
            ),
        );
        path
    }
}

type Log = Arc<Mutex<Vec<String>>>;

async fn answer(stream: TcpStream, shared: Arc<Mutex<State>>, (asked, uris): (Log, Log)) -> Option<()> {
    let mut head = vec![0; 16 << 10];
    let head = loop {
        let n = stream.peek(&mut head).await.ok().filter(|n| *n > 0)?;
        let text = String::from_utf8_lossy(&head[..n]).into_owned();
        if text.contains("\r\n\r\n") {
            break text;
        }
        tokio::task::yield_now().await;
    };
    let line: Vec<&str> = head.split(' ').take(2).collect();
    let path = line[1].split('?').next().unwrap_or_default().to_owned();
    asked.lock().unwrap().push(format!("{} {path}", line[0]));
    uris.lock().unwrap().push(line[1].to_owned());
    let state = shared.lock().unwrap().clone();
    let lower = head.to_ascii_lowercase();
    if state.token.is_some_and(|token| !lower.contains(&format!("authorization: bearer {token}\r\n"))) {
        return reply(stream, head.len(), &Answer::Fail(401, "Unauthorized")).await;
    }
    let system = "/api/v1/namespaces/kube-system";
    let reply_with = match &path {
        p if *p == format!("{system}/services/hubble-relay") => state.service,
        p if *p == format!("{system}/pods") => state.pods,
        p if *p == format!("{system}/configmaps/cilium-config") => state.config,
        p if *p == system && state.uid.is_empty() => Answer::Fail(403, "forbidden"),
        p if *p == "/api/v1/namespaces/kube-system" => Answer::Json(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "kube-system", "uid": state.uid},
        })),
        p if p.ends_with("/portforward") => {
            let pod = p.rsplit('/').nth(1).unwrap_or_default();
            match state.forwards.iter().find(|(name, _)| *name == pod) {
                None => Answer::Fail(404, "pods not found"),
                Some((_, Forward::Fail(code))) => Answer::Fail(*code, "no port-forward"),
                Some((_, forward)) => return forwarded(stream, forward.clone()).await,
            }
        }
        p if p.starts_with("/apis/") => {
            let query = line[1].split_once('?').map_or("", |(_, query)| query);
            let parts: Vec<&str> = p.split('/').collect();
            let kind = parts.last().copied().unwrap_or_default();
            let namespace = parts.iter().position(|p| *p == "namespaces").map(|at| parts[at + 1]);
            let of = match (parameter(query, "watch"), parameter(query, "continue")) {
                (Some(_), _) => "watch",
                (None, Some(_)) => "continue",
                (None, None) => "list",
            };
            let instead = shared.lock().unwrap().policies.instead(kind, of);
            match instead {
                _ if !state.policies.kinds.contains(&kind) => Answer::Fail(404, "not found"),
                Some(answer) => answer,
                None if of != "watch" => state.policies.list(kind, namespace, query),
                None => {
                    let from = parameter(query, "resourceVersion").and_then(|v| v.parse().ok());
                    return watched(stream, head.len(), &shared, kind, from.unwrap_or(0)).await;
                }
            }
        }
        _ => Answer::Fail(404, "not found"),
    };
    reply(stream, head.len(), &reply_with).await
}

async fn reply(mut stream: TcpStream, head: usize, answer: &Answer) -> Option<()> {
    stream.read_exact(&mut vec![0; head]).await.ok()?;
    let (code, body) = match answer {
        Answer::Json(value) => (200, value.to_string()),
        Answer::Fail(code, message) => (
            *code,
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                   "message": message, "reason": "Test", "code": code})
            .to_string(),
        ),
        Answer::Hang => return std::future::pending().await,
    };
    let text = format!(
        "HTTP/1.1 {code} Test\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.ok()
}

/// Events as they happen, from a version on; the body ends with the connection.
async fn watched(
    mut stream: TcpStream,
    head: usize,
    state: &Mutex<State>,
    kind: &str,
    from: usize,
) -> Option<()> {
    let (cut, gone) = {
        let policies = &state.lock().unwrap().policies;
        let gone = from < policies.forgotten;
        (policies.cut, gone.then_some(policies.forgets_in_stream))
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                        "message": "too old resource version", "reason": "Expired", "code": 410});
    if gone == Some(false) {
        return reply(stream, head, &Answer::Fail(410, "too old resource version")).await;
    }
    stream.read_exact(&mut vec![0; head]).await.ok()?;
    let start = "HTTP/1.1 200 Test\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    stream.write_all(start.as_bytes()).await.ok()?;
    if gone.is_some() {
        return stream
            .write_all(format!("{}\n", json!({"type": "ERROR", "object": status})).as_bytes())
            .await
            .ok();
    }
    let mut next = from;
    loop {
        let events: Vec<(String, Value)> = {
            let policies = &state.lock().unwrap().policies;
            if policies.cut != cut {
                return None;
            }
            policies.events.iter().skip(next).cloned().collect()
        };
        next += events.len();
        for (_, event) in events.iter().filter(|(of, _)| of == kind) {
            stream.write_all(format!("{event}\n").as_bytes()).await.ok()?;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Frames as the kubelet sends them: a byte for the channel, data on 0, complaints on 1.
async fn forwarded(stream: TcpStream, forward: Forward) -> Option<()> {
    #[allow(clippy::result_large_err, reason = "so it wants it")]
    let protocol = |_: &Request, mut response: Response| {
        response.headers_mut().insert("Sec-WebSocket-Protocol", "v4.channel.k8s.io".parse().unwrap());
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, protocol).await.ok()?;
    for channel in [0, 1] {
        let port = 4245u16.to_le_bytes();
        socket.send(Message::binary(vec![channel, port[0], port[1]])).await.ok()?;
    }
    let relay = match forward {
        Forward::To(relay) => relay,
        Forward::Complain(text) => {
            socket.send(Message::binary([&[1], text.as_bytes()].concat())).await.ok()?;
            socket.close(None).await.ok()?;
            while let Some(Ok(_)) = socket.next().await {}
            return None;
        }
        Forward::Fail(_) => return None,
    };
    let mut relay = TcpStream::connect(relay).await.ok()?;
    let mut bytes = vec![0; 64 << 10];
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(frame))) if frame.first() == Some(&0) => {
                    relay.write_all(&frame[1..]).await.ok()?;
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            },
            n = relay.read(&mut bytes) => match n {
                Ok(n) if n > 0 => socket.send(Message::binary([&[0], &bytes[..n]].concat())).await.ok()?,
                _ => return socket.close(None).await.ok(),
            },
        }
    }
}
