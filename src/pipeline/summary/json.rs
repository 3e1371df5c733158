//! The summary as one JSON object.

use serde_json::{Value, json};

use super::{Summary, filter_name, lost_source_name, verdict_name};
use crate::pipeline::{Learning, watched};

impl Summary {
    /// The same facts as one JSON object.
    pub fn to_json(&self) -> Value {
        let c = &self.counters;
        let counts = self.results.counts();
        let map =
            |rows: Vec<(String, u64)>| Value::Object(rows.into_iter().map(|(k, n)| (k, n.into())).collect());
        let mut all = json!({
            "flows": c.flows(),
            "needs": c.needs,
            "passed": c.passed,
            "learning": self.learning.as_ref().map(Learning::to_json),
            "skipped": map(c.skipped.iter().map(|(k, n)| (k.to_string(), *n)).collect()),
            "dropped": map(c.dropped.iter().map(|((class, r), n)| (format!("{class}:{r}"), *n)).collect()),
            "dns": self.names_json(),
            "not_dropped": map(c.not_dropped.iter().map(|(k, n)| (verdict_name(*k).into(), *n)).collect()),
            "filtered": map(c.filtered.iter().map(|(k, n)| (filter_name(*k).into(), *n)).collect()),
            "not_of_interest": c.not_of_interest,
            "lost_events": map(c.lost.iter().map(|(k, n)| (lost_source_name(*k).into(), *n)).collect()),
            "repeated": c.repeated,
            "history": c.history,
            "undecodable": c.undecodable,
            "reconnects": c.reconnects,
            "rotations": c.rotations,
            "coverage": self.coverage.as_ref().map(watched::json),
            "unreadable_lines": map(self.bad_lines()),
            "unknown_values": map(c.unknown.iter().map(|(k, n)| (k.to_string(), n)).collect()),
            "policies": {
                "created": counts.created, "updated": counts.updated,
                "unchanged": counts.unchanged, "failed": counts.failed,
            },
            "rules_added": self.results.rules_added,
            "already_allowed": map(self.results.already_allowed.iter().map(|(k, n)| (k.clone(), *n)).collect()),
            "already_allowed_in_cluster": map(self.results.allowed_in_cluster.iter().map(|(k, n)| (k.clone(), *n)).collect()),
            "transient_despite_policy": map(self.results.transient.iter().map(|(k, n)| (k.clone(), *n)).collect()),
            "cluster_notes": self.results.cluster_notes,
            "denied_by": map(self.results.denied.iter().map(|(k, n)| (k.clone(), *n)).collect()),
            "conflicts": self.results.conflicts.len(),
            "dry_run": self.changes.is_some(),
            "would_change": self.changes.as_ref().map(Vec::len),
            "written_again": self.results.recorded.again.len(),
            "evidence": {
                "written": self.results.recorded.written, "failed": self.results.recorded.failed,
                "left_out": self.results.recorded.left_out,
            },
            "unfinished": self.unfinished(),
            "infrastructure": self.noise.exceeded(&self.counters.health).iter().map(|e| json!({
                "reason": e.reason.to_string(), "drops": e.drops, "threshold": e.allowed,
            })).collect::<Vec<_>>(),
            "caps": map(c.caps.iter().map(|(cap, n)| (cap.as_str().into(), *n)).collect()),
            "health_file": self.health_file.as_ref().map(|p| p.display().to_string()),
            "elapsed_seconds": self.elapsed.as_secs_f64(),
            "output": self.root.as_ref().map(|r| r.display().to_string()),
        });
        // One macro takes so many members and no more.
        if let (Value::Object(all), Value::Object(more)) = (&mut all, self.unwritten()) {
            all.extend(more);
        }
        all
    }

    /// What is held back or opened, what the other ends say, what came of requests.
    fn unwritten(&self) -> Value {
        let c = &self.counters;
        json!({
            "held": self.results.held.iter().map(|(held, flows)| json!({
                "reason": held.reason.as_str(), "subject": held.who, "what": held.what,
                "proposal": held.proposal, "flows": flows,
            })).collect::<Vec<_>>(),
            "other_side": self.results.other_side.iter().map(|((subject, rule), closed)| json!({
                "subject": subject.to_string(), "rule": rule.to_string(), "why": closed.why,
                "denied": closed.is_denied,
                "needed_by": { "subject": closed.subject.to_string(), "rule": closed.rule.to_string() },
            })).collect::<Vec<_>>(),
            "inferred": self.results.inferred.iter().map(|((subject, rule), from)| json!({
                "subject": subject.to_string(), "rule": rule.to_string(), "for": from,
            })).collect::<Vec<_>>(),
            "opened_paths": self.results.opened.iter().map(|((subject, rule), paths)| json!({
                "subject": subject.to_string(), "rule": rule.to_string(), "paths_seen": paths.count(),
            })).collect::<Vec<_>>(),
            "paths_not_remembered": self.results.paths_beyond,
            "http_records": c.http_records,
        })
    }
}
