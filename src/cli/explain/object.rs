//! The explanation as an object, for JSON and YAML.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Explained, Line, Status, What, latest};
use crate::aggregate::Sample;
use crate::coverage::{Gap, WatchLog};
use crate::evidence::{Entry, Session, SessionId, Times, confidence};
use crate::policy::{Allow, HttpMatch, L7Match, Peer, Selector};

/// The version of this form; members may be added to it.
const VERSION: u64 = 1;

/// All policies that were asked for.
pub(super) fn of(all: &[Explained]) -> Value {
    json!({ "version": VERSION, "policies": all.iter().map(policy).collect::<Vec<_>>() })
}

fn policy(explained: &Explained) -> Value {
    let (place, evidence) = &explained.evidence;
    let files: Vec<Value> = explained
        .files
        .iter()
        .map(|(path, name)| json!({ "path": path.display().to_string(), "name": name }))
        .collect();
    json!({
        "namespace": explained.subject.namespace.as_str(),
        "selector": labels(&explained.subject.selector),
        "files": files,
        "evidence": if evidence.rules.is_empty() { Value::Null } else { place.display().to_string().into() },
        "latest_session": latest(explained).map(|(id, session)| session_of(id, session)),
        "watched": explained.watched.as_ref().map(|log| watched(log)),
        "rules": explained.lines.iter().map(|line| rule(explained, line)).collect::<Vec<_>>(),
        "filtered": explained.filtered,
        "left_out": evidence.left_out,
    })
}

fn watched(log: &WatchLog) -> Value {
    let times = |from: &Timestamp, to: &Timestamp| json!({ "from": from.to_string(), "to": to.to_string() });
    let gap = |gap: Gap| {
        json!({ "node": gap.node.as_ref().map(|node| node.as_str()), "reason": gap.reason.as_str(),
                "from": gap.from.to_string(), "to": gap.to.to_string() })
    };
    json!({
        "runs": log.runs().iter().map(|(from, to)| times(from, to)).collect::<Vec<_>>(),
        "gaps": log.gaps().iter().map(gap).collect::<Vec<_>>(),
    })
}

fn rule(explained: &Explained, line: &Line) -> Value {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| {
        map.insert(key.to_owned(), value);
    };
    let (status, by, since) = match &line.status {
        Status::Seen => ("seen", None, None),
        Status::ByHand => ("by_hand", None, None),
        Status::Covered(by) => ("covered", Some(by), None),
        Status::Orphan(since) => ("orphan", None, *since),
    };
    put("status", status.into());
    put("rule", line.words().into());
    put("direction", line.direction().as_str().into());
    if let Some((path, number)) = &line.place {
        put("file", path.display().to_string().into());
        put("line", (*number).into());
    }
    if let Some(by) = by {
        put("covered_by", by.as_str().into());
    }
    if let Some(since) = since {
        put("orphan_since", since.to_string().into());
    }
    if let What::Rule(rule) = &line.says {
        put("id", rule.id(&explained.subject).to_string().into());
        put("peer", peer(&rule.peer));
        match rule.allow {
            Allow::Port(protocol, port) => {
                put("protocol", protocol.as_str().into());
                put("port", port.get().into());
            }
            Allow::Icmp(family, kind) => {
                put("icmp", family.as_str().into());
                put("type", kind.get().into());
            }
        }
        match &rule.l7 {
            Some(L7Match::Http(HttpMatch { method, path })) => {
                put("http", json!({ "method": method, "path": path }));
            }
            Some(L7Match::Dns(name)) => put("dns", name.as_str().into()),
            None => {}
        }
    }
    if let Some(entry) = &line.entry {
        map.extend(seen(explained, entry));
    }
    Value::Object(map)
}

fn seen(explained: &Explained, entry: &Entry) -> Map<String, Value> {
    let confidence = confidence(entry);
    let all = entry.seen();
    let sessions: Vec<Value> = entry
        .sessions
        .iter()
        .map(|(id, seen)| {
            let mut session = match explained.evidence.1.sessions.get(id) {
                Some(session) => session_of(*id, session),
                None => json!({ "id": id.to_string() }),
            };
            session["verdict_events"] = seen.verdict_events.into();
            session["drop_events"] = seen.drop_events.into();
            session["audit_events"] = seen.audit_events.into();
            session["allowed_events"] = seen.allowed_events.into();
            session["traces"] = seen.traces.into();
            session["first"] = time(seen.times).0;
            session["last"] = time(seen.times).1;
            session
        })
        .collect();
    let value = json!({
        "connections": entry.connections.count(),
        "connections_exact": entry.connections.is_exact(),
        "packets": entry.packets(),
        "verdict_events": all.verdict_events,
        "drop_events": all.drop_events,
        "audit_events": all.audit_events,
        "allowed_events": all.allowed_events,
        "traces": all.traces,
        "first": time(all.times).0,
        "last": time(all.times).1,
        "nodes": entry.nodes.iter().map(|node| node.as_str()).collect::<Vec<_>>(),
        "confidence": confidence.level.as_str(),
        "confidence_reason": confidence.why,
        "sessions": sessions,
        "older_sessions": entry.older.sessions,
        "samples": entry.samples.iter().map(|(_, sample)| sample_of(sample)).collect::<Vec<_>>(),
    });
    let mut map = match value {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    if let Some(from) = &entry.inferred {
        map.insert("inferred_from".into(), Value::from(&**from));
    }
    if let Some(across) = &entry.across {
        let said = json!({ "since": across.since.to_string(), "closed": across.closed });
        map.insert("other_side".into(), said);
    }
    map
}

fn session_of(id: SessionId, session: &Session) -> Value {
    let source = &session.source;
    json!({
        "id": id.to_string(),
        "source": source.kind.as_str(),
        "name": source.name,
        "cluster": source.cluster,
        "cpg": source.cpg,
        "cilium": source.cilium,
        "first": time(session.times).0,
        "last": time(session.times).1,
    })
}

fn sample_of(sample: &Sample) -> Value {
    json!({
        "time": sample.time.map(|time| time.to_string()),
        "node": sample.node.as_str(),
        "uuid": sample.uuid,
        "source": sample.source,
        "destination": sample.destination,
    })
}

fn peer(peer: &Peer) -> Value {
    match peer {
        Peer::Endpoints(selector) => json!({ "endpoints": labels(selector) }),
        Peer::Entity(entity) => json!({ "entity": entity.as_str() }),
        Peer::Cidr(net) => json!({ "cidr": net.to_string() }),
        Peer::Fqdn(name) => json!({ "fqdn": name.as_str() }),
    }
}

fn labels(selector: &Selector) -> Value {
    Value::Object(selector.iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
}

fn time(times: Times) -> (Value, Value) {
    let text = |time: Option<jiff::Timestamp>| time.map_or(Value::Null, |time| time.to_string().into());
    (text(times.first), text(times.last))
}
