//! The written form, `docs/evidence.md`: JSON with one rule a line, the same evidence in the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Across, Standing, State, Times};
use super::{Entry, Evidence, MAX_BYTES, Older, Seen, Session, SessionId, Source, SourceKind};
use crate::aggregate::{CONNECTIONS, NODES, SAMPLES, Sample, Smallest};
use crate::flow::{Connection, Direction, IcmpFamily, Port, Protocol};
use crate::names::{DnsName, Namespace, NodeName};
use crate::policy::{Allow, Entity, HttpMatch, IcmpType, L7Match, Peer, Rule, Selector, Subject};
use crate::text::visible;

/// The version of the format that is written, and the only one that is read.
pub const VERSION: u64 = 1;
/// The longest text that is kept of anything inside of a flow.
const LONGEST: usize = 300;

/// The longest text that is kept of a rule or a policy in words.
const LONGEST_WORDS: usize = 1_000;

/// Why a text is no evidence that this version reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Another version of cpg wrote it.
    #[error(
        "is evidence in version {0} of the format, and this cpg reads version {VERSION}: use the cpg that wrote it, or name another directory with --evidence-dir"
    )]
    Version(u64),
    /// It is damaged, or something else.
    #[error("is no evidence that cpg wrote ({0})")]
    Damaged(String),
}

#[derive(Deserialize)]
struct Head {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u64,
    namespace: String,
    selector: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    left_out: u64,
    sessions: BTreeMap<String, SessionForm>,
    rules: Vec<RuleForm>,
}

#[derive(Serialize, Deserialize)]
struct SessionForm {
    source: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    cpg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cilium: Option<String>,
    #[serde(flatten)]
    times: TimesForm,
}

#[derive(Serialize, Deserialize, Default)]
struct TimesForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct RuleForm {
    /// For people and other tools: computed anew from the rest when it is read.
    id: String,
    direction: String,
    #[serde(flatten)]
    peer: PeerForm,
    #[serde(flatten)]
    allow: AllowForm,
    #[serde(flatten)]
    l7: L7Form,
    #[serde(default, skip_serializing_if = "is_unwritten")]
    written: TimesForm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    standing: Option<StandingForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inferred_from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other_side: Option<AcrossForm>,
    sessions: BTreeMap<String, SeenForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    older: Option<OlderForm>,
    connections: Vec<String>,
    nodes: BTreeSet<String>,
    samples: Vec<SampleForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PeerForm {
    Endpoints(BTreeMap<String, String>),
    Entity(String),
    Cidr(String),
    Fqdn(String),
}

/// What must be said; nothing where anything may be.
#[derive(Serialize, Deserialize, Default)]
struct L7Form {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct HttpForm {
    method: String,
    path: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum AllowForm {
    Port { protocol: String, port: u16 },
    Icmp { icmp: String, r#type: u8 },
}

#[derive(Serialize, Deserialize)]
struct StandingForm {
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    since: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct AcrossForm {
    since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SeenForm {
    verdict_events: u64,
    drop_events: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    audit_events: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    allowed_events: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    traces: u64,
    #[serde(flatten)]
    times: TimesForm,
}

#[derive(Serialize, Deserialize)]
struct OlderForm {
    sessions: u64,
    #[serde(flatten)]
    seen: SeenForm,
}

#[derive(Serialize, Deserialize)]
struct SampleForm {
    connection: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<Timestamp>,
    node: String,
    uuid: String,
    source: String,
    destination: String,
}

impl Evidence {
    /// The text of its file, of [`MAX_BYTES`] at most: samples are left out first, then the rules that
    /// were seen longest ago. What was left out is left out of the evidence too; gives how many rules.
    pub fn render(&mut self) -> (String, u64) {
        let mut left_out = 0;
        for samples in [SAMPLES, 1, 0] {
            self.rules.values_mut().for_each(|entry| entry.samples.truncate(samples));
            let text = self.text();
            if text.len() <= MAX_BYTES {
                return (text, left_out);
            }
        }
        let mut by_age: Vec<_> = self.rules.iter().map(|(r, e)| (e.seen().times.last, r.clone())).collect();
        by_age.sort();
        let mut by_age = by_age.into_iter();
        loop {
            let text = self.text();
            if text.len() <= MAX_BYTES || self.rules.is_empty() {
                return (text, left_out);
            }
            // In a few strides, not one by one.
            let excess = (text.len() - MAX_BYTES) * self.rules.len() / text.len() + 1;
            for (_, rule) in by_age.by_ref().take(excess) {
                self.rules.remove(&rule);
                self.left_out += 1;
                left_out += 1;
            }
        }
    }

    fn text(&self) -> String {
        let subject = &self.subject;
        let head = File {
            version: VERSION,
            namespace: subject.namespace.as_str().to_owned(),
            selector: labels(&subject.selector),
            left_out: self.left_out,
            sessions: self.sessions.iter().map(|(id, s)| (id.to_string(), SessionForm::of(s))).collect(),
            rules: Vec::new(),
        };
        // Maps with keys of text and plain values: this cannot fail.
        let mut text = serde_json::to_string(&head).unwrap_or_default();
        text.truncate(text.trim_end_matches("]}").len());
        for (i, (rule, entry)) in self.rules.iter().enumerate() {
            text.push_str(if i == 0 { "\n" } else { ",\n" });
            text.push_str(&serde_json::to_string(&RuleForm::of(subject, rule, entry)).unwrap_or_default());
        }
        text.push_str("\n]}\n");
        text
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, EvidenceError> {
        let damaged =
            |e: serde_json::Error| EvidenceError::Damaged(visible(&e.to_string(), 200).into_owned());
        let head: Head = serde_json::from_str(text).map_err(damaged)?;
        if head.version != VERSION {
            return Err(EvidenceError::Version(head.version));
        }
        let file: File = serde_json::from_str(text).map_err(damaged)?;
        file.evidence().ok_or_else(|| EvidenceError::Damaged("a value is of no known kind".into()))
    }
}

// === impl File ===

impl File {
    fn evidence(self) -> Option<Evidence> {
        let subject = Subject {
            namespace: Namespace::parse(&self.namespace).ok()?,
            selector: Selector::new(&self.selector)?,
        };
        let mut evidence = Evidence::new(subject);
        evidence.left_out = self.left_out;
        for (id, form) in self.sessions {
            evidence.sessions.insert(SessionId::parse(&id)?, form.session()?);
        }
        for form in self.rules {
            let (rule, entry) = form.entry()?;
            evidence.rules.insert(rule, entry);
        }
        Some(evidence)
    }
}

// === impl RuleForm ===

impl RuleForm {
    fn of(subject: &Subject, rule: &Rule, entry: &Entry) -> Self {
        let peer = match &rule.peer {
            Peer::Endpoints(selector) => PeerForm::Endpoints(labels(selector)),
            Peer::Entity(entity) => PeerForm::Entity(entity.as_str().to_owned()),
            Peer::Cidr(net) => PeerForm::Cidr(net.to_string()),
            Peer::Fqdn(name) => PeerForm::Fqdn(name.to_string()),
        };
        let allow = match rule.allow {
            Allow::Port(protocol, port) => {
                AllowForm::Port { protocol: protocol.as_str().to_owned(), port: port.get() }
            }
            Allow::Icmp(family, kind) => {
                AllowForm::Icmp { icmp: family.as_str().to_owned(), r#type: kind.get() }
            }
        };
        let older = &entry.older;
        Self {
            id: rule.id(subject).to_string(),
            direction: rule.direction.as_str().to_owned(),
            peer,
            allow,
            l7: L7Form::of(rule.l7.as_ref()),
            written: TimesForm::of(entry.written),
            standing: entry.standing.as_ref().map(StandingForm::of),
            inferred_from: entry.inferred.as_deref().map(str::to_owned),
            other_side: entry.across.as_ref().map(|across| AcrossForm {
                since: across.since,
                closed: across.closed.as_deref().map(str::to_owned),
            }),
            sessions: entry.sessions.iter().map(|(id, seen)| (id.to_string(), SeenForm::of(*seen))).collect(),
            older: (older.sessions > 0)
                .then(|| OlderForm { sessions: older.sessions, seen: SeenForm::of(older.seen) }),
            connections: entry.connections.iter().map(|hash| format!("{hash:016x}")).collect(),
            nodes: entry.nodes.iter().map(|node| node.as_str().to_owned()).collect(),
            samples: entry.samples.iter().map(SampleForm::of).collect(),
        }
    }

    fn entry(self) -> Option<(Rule, Entry)> {
        let direction = [Direction::Ingress, Direction::Egress]
            .into_iter()
            .find(|direction| direction.as_str() == self.direction)?;
        let peer = match self.peer {
            PeerForm::Endpoints(labels) => Peer::Endpoints(Selector::new(&labels)?),
            PeerForm::Entity(name) => Peer::Entity(Entity::from_name(&name)?),
            PeerForm::Cidr(net) => Peer::Cidr(net.parse::<IpNet>().ok()?),
            PeerForm::Fqdn(name) => Peer::Fqdn(DnsName::parse(&name).ok()?),
        };
        let allow = match self.allow {
            AllowForm::Port { protocol, port } => {
                Allow::Port(Protocol::from_name(&protocol)?, Port::new(port)?)
            }
            AllowForm::Icmp { icmp, r#type } => {
                let family =
                    [IcmpFamily::V4, IcmpFamily::V6].into_iter().find(|family| family.as_str() == icmp)?;
                Allow::Icmp(family, IcmpType::new(r#type)?)
            }
        };
        let mut connections = Smallest::<CONNECTIONS>::default();
        for hash in &self.connections {
            connections.insert(u64::from_str_radix(hash, 16).ok()?);
        }
        let mut samples: Vec<(Connection, Sample)> = Vec::new();
        for form in self.samples {
            samples.push(form.sample()?);
        }
        samples.sort();
        samples.dedup_by_key(|(connection, _)| *connection);
        samples.truncate(SAMPLES);
        let mut sessions = BTreeMap::new();
        for (id, form) in self.sessions {
            sessions.insert(SessionId::parse(&id)?, form.seen());
        }
        let entry = Entry {
            sessions,
            older: self
                .older
                .map(|older| Older { sessions: older.sessions, seen: older.seen.seen() })
                .unwrap_or_default(),
            connections,
            nodes: self.nodes.iter().map(|node| NodeName::lossy(node)).take(NODES).collect(),
            samples,
            written: self.written.times(),
            standing: match self.standing {
                Some(form) => Some(form.standing()?),
                None => None,
            },
            inferred: self.inferred_from.as_deref().map(|text| visible(text, LONGEST_WORDS).into()),
            across: self.other_side.map(|form| Across {
                since: form.since,
                closed: form.closed.as_deref().map(|text| visible(text, LONGEST_WORDS).into()),
            }),
        };
        Some((Rule { direction, peer, allow, l7: self.l7.l7()? }, entry))
    }
}

// === the smaller forms ===

impl SessionForm {
    fn of(session: &Session) -> Self {
        let Source { kind, name, cluster, cpg, cilium } = &session.source;
        Self {
            source: kind.as_str().to_owned(),
            name: name.to_string(),
            cluster: cluster.as_ref().map(|text| text.to_string()),
            cpg: cpg.to_string(),
            cilium: cilium.as_ref().map(|text| text.to_string()),
            times: TimesForm::of(session.times),
        }
    }

    fn session(self) -> Option<Session> {
        let source = Source {
            kind: SourceKind::from_word(&self.source)?,
            name: short(&self.name),
            cluster: self.cluster.as_deref().map(short),
            cpg: short(&self.cpg),
            cilium: self.cilium.as_deref().map(short),
        };
        Some(Session::new(source, self.times.times()))
    }
}

impl L7Form {
    fn of(l7: Option<&L7Match>) -> Self {
        match l7 {
            None => Self::default(),
            Some(L7Match::Http(HttpMatch { method, path })) => {
                let http = HttpForm { method: method.to_string(), path: path.to_string() };
                Self { http: Some(http), dns: None }
            }
            Some(L7Match::Dns(name)) => Self { http: None, dns: Some(name.to_string()) },
        }
    }

    /// `None`: both, which no rule is, or a name that is none.
    fn l7(self) -> Option<Option<L7Match>> {
        Some(match (self.http, self.dns) {
            (None, None) => None,
            (Some(HttpForm { method, path }), None) => {
                Some(L7Match::Http(HttpMatch { method: method.into(), path: path.into() }))
            }
            (None, Some(name)) => Some(L7Match::Dns(DnsName::parse(&name).ok()?)),
            (Some(_), Some(_)) => return None,
        })
    }
}

impl SeenForm {
    fn of(seen: Seen) -> Self {
        let Seen { verdict_events, drop_events, audit_events, allowed_events, traces, times } = seen;
        let times = TimesForm::of(times);
        Self { verdict_events, drop_events, audit_events, allowed_events, traces, times }
    }

    fn seen(self) -> Seen {
        let Self { verdict_events, drop_events, audit_events, allowed_events, traces, times } = self;
        Seen { verdict_events, drop_events, audit_events, allowed_events, traces, times: times.times() }
    }
}

impl TimesForm {
    fn of(times: Times) -> Self {
        Self { first: times.first, last: times.last }
    }

    fn times(self) -> Times {
        Times { first: self.first, last: self.last }
    }
}

impl StandingForm {
    fn of(standing: &Standing) -> Self {
        let (state, by) = match &standing.state {
            State::Written => ("written", None),
            State::Covered(by) => ("covered", Some(by.to_string())),
            State::Gone => ("orphan", None),
        };
        Self { state: state.to_owned(), by, since: standing.since }
    }

    fn standing(self) -> Option<Standing> {
        let state = match self.state.as_str() {
            "written" => State::Written,
            "covered" => State::Covered(short(&self.by.unwrap_or_default())),
            "orphan" => State::Gone,
            _ => return None,
        };
        Some(Standing { since: self.since, state })
    }
}

impl SampleForm {
    fn of((connection, sample): &(Connection, Sample)) -> Self {
        Self {
            connection: format!("{:016x}", connection.0),
            time: sample.time,
            node: sample.node.as_str().to_owned(),
            uuid: sample.uuid.to_string(),
            source: sample.source.to_string(),
            destination: sample.destination.to_string(),
        }
    }

    fn sample(self) -> Option<(Connection, Sample)> {
        let sample = Sample {
            time: self.time,
            node: NodeName::lossy(&self.node),
            uuid: short(&self.uuid),
            source: short(&self.source),
            destination: short(&self.destination),
        };
        Some((Connection(u64::from_str_radix(&self.connection, 16).ok()?), sample))
    }
}

fn labels(selector: &Selector) -> BTreeMap<String, String> {
    selector.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn short(text: &str) -> Box<str> {
    visible(text, LONGEST).into()
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_unwritten(times: &TimesForm) -> bool {
    times.first.is_none() && times.last.is_none()
}
