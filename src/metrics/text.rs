//! The numbers of a run as text, in the two forms that Prometheus reads: OpenMetrics 1.0 and the older
//! text format 0.0.4.
//!
//! All numbers come from one snapshot, so they fit together. Names are part of what cpg promises:
//! `docs/metrics.md` lists them.

use std::fmt::Write as _;

use crate::pipeline::{Cap, Snapshot, filter_name, lost_source_name, verdict_name};

/// Which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Text format 0.0.4.
    Prometheus,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

struct Text {
    form: Form,
    out: String,
}

/// One family after the other; the order is always the same.
pub(super) fn render(snapshot: &Snapshot, form: Form) -> String {
    use Kind::{Counter, Gauge};
    let s = snapshot;
    let c = &s.counters;
    let mut text = Text { form, out: String::with_capacity(8 * 1024) };

    text.family("cpg_build_info", "What this cpg was built from.", Gauge);
    text.sample("cpg_build_info", Gauge, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);

    text.family(
        "cpg_flows",
        "Flows that came in, by verdict and, for dropped ones, by the class of the reason.",
        Counter,
    );
    let mut classes: std::collections::BTreeMap<&str, u64> = [("policy", c.policy_drops())].into();
    for ((class, _), n) in &c.dropped {
        *classes.entry(class.as_str()).or_default() += n;
    }
    for (class, n) in classes {
        text.sample("cpg_flows", Counter, &[("verdict", "dropped"), ("class", class)], n as f64);
    }
    for (verdict, n) in &c.not_dropped {
        text.sample(
            "cpg_flows",
            Counter,
            &[("verdict", verdict_name(*verdict)), ("class", "none")],
            *n as f64,
        );
    }

    text.sample("cpg_flows", Counter, &[("verdict", "forwarded"), ("class", "dns_lookup")], c.lookups as f64);

    text.family("cpg_filtered_flows", "Flows that a filter of the user took out.", Counter);
    for (filter, n) in &c.filtered {
        text.sample("cpg_filtered_flows", Counter, &[("filter", filter_name(*filter))], *n as f64);
    }
    text.family("cpg_drops", "Dropped flows that no default deny decided, by reason.", Counter);
    for ((class, reason), n) in &c.dropped {
        let reason = reason.to_string();
        text.sample("cpg_drops", Counter, &[("class", class.as_str()), ("reason", &reason)], *n as f64);
    }
    text.family("cpg_flows_without_rule", "Flows of default deny that no rule came of, by why.", Counter);
    for (skip, n) in &c.skipped {
        text.sample("cpg_flows_without_rule", Counter, &[("why", skip.as_str())], *n as f64);
    }
    text.family("cpg_lost_events", "Events that Hubble lost, by where.", Counter);
    for (source, n) in &c.lost {
        text.sample("cpg_lost_events", Counter, &[("source", lost_source_name(*source))], *n as f64);
    }
    text.family("cpg_unknown_values", "Values inside of flows that this cpg does not know.", Counter);
    text.sample("cpg_unknown_values", Counter, &[], c.unknown.total() as f64);

    text.one("cpg_connected", "1 while there is a stream of flows.", Gauge, f64::from(u8::from(s.connected)));
    text.one("cpg_reconnects", "How often the stream was opened again.", Counter, s.reconnects as f64);
    text.one("cpg_gaps", "Times that were not watched.", Counter, s.gaps as f64);
    text.one("cpg_gap_seconds", "How long was not watched, all gaps together.", Counter, s.gap_seconds);
    text.family("cpg_nodes", "Nodes by whether their flows reach the relay, once it has said so.", Gauge);
    if let Some((connected, missing)) = s.nodes {
        text.sample("cpg_nodes", Gauge, &[("state", "connected")], connected as f64);
        text.sample("cpg_nodes", Gauge, &[("state", "unavailable")], missing as f64);
    }

    text.one("cpg_ledger_entries", "Observations that are in no file yet.", Gauge, s.ledger as f64);
    text.family("cpg_policies", "Policy files of this run, by what happened to them.", Gauge);
    let p = s.policies;
    for (outcome, n) in
        [("created", p.created), ("updated", p.updated), ("unchanged", p.unchanged), ("failed", p.failed)]
    {
        text.sample("cpg_policies", Gauge, &[("outcome", outcome)], n as f64);
    }
    text.one("cpg_rules_added", "Rules that were not there before.", Counter, s.rules_added as f64);
    text.one("cpg_write_errors", "Attempts to write that failed.", Counter, s.write_errors as f64);
    text.one(
        "cpg_writable",
        "0 after an attempt to write failed, until one succeeds.",
        Gauge,
        f64::from(u8::from(s.writable)),
    );
    text.family("cpg_cap_hits", "How often something found no room in a table, by table.", Counter);
    for cap in Cap::ALL {
        let n = c.caps.get(&cap).copied().unwrap_or(0);
        text.sample("cpg_cap_hits", Counter, &[("table", cap.as_str())], n as f64);
    }
    for (name, help, time) in [
        ("cpg_last_flow_timestamp_seconds", "When the last flow came.", s.last_flow),
        ("cpg_last_write_timestamp_seconds", "When a policy file was written the last time.", s.last_write),
        ("cpg_connected_since_timestamp_seconds", "Since when there is a stream.", s.connected_since),
    ] {
        text.family(name, help, Gauge);
        if let Some(time) = time {
            text.sample(name, Gauge, &[], time.as_millisecond() as f64 / 1000.0);
        }
    }
    if form == Form::OpenMetrics {
        text.out.push_str("# EOF\n");
    }
    text.out
}

// === impl Form ===

impl Form {
    /// The one that a client asks for.
    pub(super) fn asked_for(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") || !accept.contains("text/plain") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

// === impl Text ===

impl Text {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        let (suffix, word) = match (kind, self.form) {
            (Kind::Gauge, _) => ("", "gauge"),
            // In OpenMetrics the family has no suffix, its samples have.
            (Kind::Counter, Form::OpenMetrics) => ("", "counter"),
            (Kind::Counter, Form::Prometheus) => ("_total", "counter"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {word}");
    }

    fn sample(&mut self, name: &str, kind: Kind, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(name);
        if kind == Kind::Counter {
            self.out.push_str("_total");
        }
        for (i, (key, value)) in labels.iter().enumerate() {
            let _ = write!(self.out, "{}{key}=\"{}\"", if i == 0 { '{' } else { ',' }, escaped(value));
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }

    fn one(&mut self, name: &str, help: &str, kind: Kind, value: f64) {
        self.family(name, help, kind);
        self.sample(name, kind, &[], value);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_have_the_same_samples() {
        let snapshot = Snapshot { nodes: Some((2, 1)), reconnects: 3, ..Snapshot::default() };
        let samples = |form| -> Vec<String> {
            render(&snapshot, form).lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(samples(Form::OpenMetrics), samples(Form::Prometheus));
        let open = render(&snapshot, Form::OpenMetrics);
        assert!(open.ends_with("\n# EOF\n") && open.contains("# TYPE cpg_reconnects counter\n"), "{open}");
        assert!(
            open.contains("\ncpg_reconnects_total 3\n")
                && open.contains("cpg_nodes{state=\"connected\"} 2\n")
        );
        let old = render(&snapshot, Form::Prometheus);
        assert!(old.contains("# TYPE cpg_reconnects_total counter\n") && !old.contains("EOF"));
    }

    #[test]
    fn what_a_client_asks_for() {
        let check = |accept, form| assert_eq!(Form::asked_for(accept), form, "{accept}");
        check("", Form::OpenMetrics);
        check("*/*", Form::OpenMetrics);
        check("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2", Form::OpenMetrics);
        check("text/plain;version=0.0.4", Form::Prometheus);
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
