//! One kind of policy in one namespace or all: listed in pages, watched from there, listed again when the API
//! server has forgotten where that was.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::core::Request;
use kube::core::params::{ListParams, WatchParams};
use kube::core::watch::WatchEvent;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::StreamExt as _;

use super::held::{MOST, Phase};
use super::{Failure, Scope, Shared, Why};
use crate::kube::Access;
use crate::screen::ClusterPolicy;

/// Objects of one page.
const PAGE: u32 = 250;
/// Bytes of pages, with all that is not kept of them, after which further pages are only counted.
const READ: usize = 8 * MOST.bytes;
/// How long a page, or the beginning of a watch, may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a watch lasts, in seconds. The API server ends it then; one that is still silent a while later is
/// dead.
const WATCH: u32 = 240;
const DEAD: Duration = Duration::from_secs(WATCH as u64 + 20);
/// A round that took so long did not fail at once.
const LASTED: Duration = Duration::from_secs(5);
/// Longest pause between two tries.
const LONGEST: Duration = Duration::from_secs(30);

/// Keeps one scope up to date.
pub(super) struct Follower {
    pub(super) client: Client,
    pub(super) access: Access,
    pub(super) scope: Scope,
    pub(super) number: usize,
    pub(super) shared: Arc<Shared>,
}

/// How a watch came to its end, without fault.
enum End {
    /// It may go on where it ended.
    Closed,
    /// The API server does not remember that place (410 Gone).
    Expired,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    // Go writes an empty list as null.
    items: Option<Vec<Object>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    resource_version: Option<String>,
    r#continue: Option<String>,
}

/// A policy as it comes: whatever it holds is kept, but for its status and most of its metadata.
#[derive(Debug, Clone, Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default, rename = "status")]
    _status: IgnoredAny,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
}

// === impl Follower ===

impl Follower {
    /// Lists and watches until the task is ended, or there is nothing to be had.
    pub(super) async fn run(mut self) {
        let mut from: Option<String> = None;
        let mut tries = 0;
        loop {
            let began = Instant::now();
            match self.round(&mut from).await {
                Ok(End::Closed) => {}
                Ok(End::Expired) => from = None,
                Err(failure) => {
                    from = None;
                    if self.gives_up(&failure) {
                        return;
                    }
                    if failure.code() == Some(401)
                        && let Ok(cluster) = self.access.open().await
                    {
                        self.client = cluster.client;
                    }
                }
            }
            if began.elapsed() >= LASTED {
                tries = 0;
            }
            sleep(pause(tries, random())).await;
            tries += 1;
        }
    }

    /// Whether asking again makes no sense: it never worked, and the answer is no.
    fn gives_up(&self, failure: &Failure) -> bool {
        let words = failure.words(&self.scope);
        tracing::debug!(why = words, "the policies are not followed");
        let (phase, gives_up) = match failure.code() {
            Some(404) if !self.is_known() => (Phase::Missing, true),
            Some(403) if !self.is_known() => (Phase::Forbidden(failure.verb, words), true),
            _ => (Phase::Failing(words), false),
        };
        if gives_up {
            // What was listed and may not be watched would grow old.
            self.shared.held().replace(self.number, Vec::new(), 0);
        }
        self.shared.enter(self.number, phase);
        gives_up
    }

    fn is_known(&self) -> bool {
        self.shared.held().is_known(self.number)
    }

    /// A list, unless it is known from where to go on, and a watch until it ends.
    async fn round(&self, from: &mut Option<String>) -> Result<End, Failure> {
        let version = match from.take() {
            Some(version) => version,
            None => match self.list().await? {
                Some(version) => version,
                None => return Ok(End::Expired),
            },
        };
        self.watch(from.insert(version)).await
    }

    /// Takes in all pages; gives from where to watch, or `None` when the pages were no longer there.
    async fn list(&self) -> Result<Option<String>, Failure> {
        self.shared.enter(self.number, Phase::Asking("list"));
        let mut policies: Vec<ClusterPolicy> = Vec::new();
        let (mut read, mut more) = (0, 0);
        let mut token = None;
        let version = loop {
            let params =
                ListParams { limit: Some(PAGE), continue_token: token.take(), ..ListParams::default() };
            let request = Request::new(self.scope.path()).list(&params);
            let request = request.map_err(|e| Failure::words_of("list", e.to_string()))?;
            let text = match timeout(PATIENCE, self.client.request_text(request)).await {
                Err(_) => return Err(Failure::silent("list")),
                Ok(Err(e)) if super::code(&e) == Some(410) => return Ok(None),
                Ok(text) => text.map_err(|e| Failure { verb: "list", why: Why::Kube(Box::new(e)) })?,
            };
            let page: Page = serde_json::from_str(&text)
                .map_err(|e| Failure::words_of("list", format!("the answer is no list: {e}")))?;
            let now = Timestamp::now();
            let objects = page.items.unwrap_or_default().into_iter();
            read += text.len();
            // What has no room is only counted.
            if policies.len() < MOST.policies && read <= READ {
                policies.extend(objects.filter_map(|object| object.policy(&self.scope, now)));
            } else {
                more += objects.len() as u64;
            }
            token = page.metadata.r#continue.filter(|token| !token.is_empty());
            if token.is_none() {
                break page.metadata.resource_version.unwrap_or_default();
            }
        };
        let told = self.shared.held().replace(self.number, policies, more);
        if let Some(told) = told {
            told.tell("");
        }
        Ok(Some(version))
    }

    /// Takes in what changes from a version on, and moves that on.
    async fn watch(&self, version: &mut String) -> Result<End, Failure> {
        self.shared.enter(self.number, Phase::Asking("watch"));
        let failed = |e| Failure { verb: "watch", why: Why::Kube(Box::new(e)) };
        let params = WatchParams { timeout: Some(WATCH), bookmarks: true, ..WatchParams::default() };
        let request = Request::new(self.scope.path()).watch(&params, version);
        let request = request.map_err(|e| Failure::words_of("watch", e.to_string()))?;
        let events = match timeout(PATIENCE, self.client.request_events::<Object>(request)).await {
            Err(_) => return Err(Failure::silent("watch")),
            Ok(Err(e)) if super::code(&e) == Some(410) => return Ok(End::Expired),
            Ok(events) => events.map_err(failed)?,
        };
        let mut events = pin!(events);
        self.shared.enter(self.number, Phase::Watching);
        loop {
            let event = match timeout(DEAD, events.next()).await {
                // A connection that died without a word.
                Err(_) | Ok(None) => return Ok(End::Closed),
                Ok(Some(Ok(event))) => event,
                // Broken on the way: whether it is more than that shows at the next try.
                Ok(Some(Err(kube::Error::ReadEvents(_)))) => return Ok(End::Closed),
                Ok(Some(Err(e))) => return Err(failed(e)),
            };
            match event {
                WatchEvent::Added(object) => self.applied(object, true, version),
                WatchEvent::Modified(object) => self.applied(object, false, version),
                WatchEvent::Deleted(object) => {
                    object.version(version);
                    if let Some(policy) = object.policy(&self.scope, Timestamp::now()) {
                        self.shared.held().delete(self.number, &policy.id);
                    }
                }
                WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) if status.code == 410 => return Ok(End::Expired),
                WatchEvent::Error(status) => return Err(failed(kube::Error::Api(status))),
            }
        }
    }

    fn applied(&self, object: Object, is_new: bool, version: &mut String) {
        object.version(version);
        if let Some(policy) = object.policy(&self.scope, Timestamp::now()) {
            let told = self.shared.held().apply(self.number, policy, is_new);
            if let Some(told) = told {
                told.tell("");
            }
        }
    }
}

/// Nothing after the first round, then a second, two, four …, so that not all come back at the same moment.
pub(super) fn pause(tries: u32, random: f64) -> Duration {
    match tries {
        0 => Duration::ZERO,
        _ => Duration::from_secs(1 << (tries - 1).min(5)).min(LONGEST).mul_f64(0.5 + random / 2.0),
    }
}

/// From 0 to 1; different for every call and process.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

// === impl Failure ===

impl Failure {
    fn silent(verb: &'static str) -> Self {
        Self::words_of(verb, format!("no answer within {}", humantime::format_duration(PATIENCE)))
    }

    fn words_of(verb: &'static str, words: String) -> Self {
        Self { verb, why: Why::Words(crate::text::visible(&words, 300).into_owned()) }
    }
}

// === impl Object ===

impl Object {
    fn policy(self, scope: &Scope, now: Timestamp) -> Option<ClusterPolicy> {
        let mut object = self.rest;
        let Metadata { name, namespace, .. } = self.metadata;
        object.insert("metadata".to_owned(), json!({ "name": name, "namespace": namespace }));
        ClusterPolicy::new(scope.kind, object, now)
    }

    fn version(&self, version: &mut String) {
        if let Some(newer) = &self.metadata.resource_version {
            version.clone_from(newer);
        }
    }
}
