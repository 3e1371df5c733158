//! What an [`Interest`] means on the wire: the whitelist of a live stream and the prefilter of a
//! replay are made from one list of verdicts, so that they cannot disagree.

use memchr::memmem::Finder;

use super::proto::flow::{EventTypeFilter, FlowFilter, Verdict};
use crate::flow::{Interest, Namespaces};

/// Event types (`pkg/monitor/api/types.go`).
const DROP: i32 = 1;
const TRACE: i32 = 4;
const POLICY_VERDICT: i32 = 5;
const L7: i32 = 129;
/// Lines without a verdict that always matter.
const EVENTS: [&str; 4] = ["lost_events", "lostEvents", "node_status", "nodeStatus"];
/// Every verdict of the API.
const VERDICTS: [Verdict; 8] = [
    Verdict::Unknown,
    Verdict::Forwarded,
    Verdict::Dropped,
    Verdict::Error,
    Verdict::Audit,
    Verdict::Redirected,
    Verdict::Traced,
    Verdict::Translated,
];

/// One kind of flow that an interest wants to see.
#[derive(Debug, Clone)]
struct Kind {
    verdicts: Vec<Verdict>,
    events: Vec<i32>,
    /// Only requests of these protocols of layer 7.
    requests_of: Vec<&'static str>,
}

/// The flows that an interest wants to see: the one place that both ways are made from.
fn kinds(interest: &Interest) -> Vec<Kind> {
    // A new field of Interest has to be decided about here.
    let Interest { namespaces: _, dns, http, audit, learn } = interest;
    let kind = |verdicts: &[Verdict], events: &[i32]| Kind {
        verdicts: verdicts.to_vec(),
        events: events.to_vec(),
        requests_of: Vec::new(),
    };
    let mut kinds = vec![kind(&[Verdict::Dropped], &[DROP, POLICY_VERDICT, L7])];
    if *audit {
        kinds.push(kind(&[Verdict::Audit], &[POLICY_VERDICT]));
    }
    if *learn {
        kinds.push(kind(&[Verdict::Forwarded, Verdict::Redirected], &[TRACE, POLICY_VERDICT]));
    }
    let requests_of: Vec<_> =
        [(dns, "dns"), (http, "http")].iter().filter(|(on, _)| **on).map(|p| p.1).collect();
    if !requests_of.is_empty() {
        kinds.push(Kind { requests_of, ..kind(&[Verdict::Forwarded, Verdict::Redirected], &[L7]) });
    }
    kinds
}

/// The whitelist of a live stream. Filters are alternatives; so are the values of one field, while
/// the fields of a filter must all match: hence one filter for each side of each namespace.
pub(super) fn whitelist(interest: &Interest) -> Vec<FlowFilter> {
    let filters = kinds(interest).into_iter().map(|kind| FlowFilter {
        verdict: kind.verdicts.into_iter().map(i32::from).collect(),
        event_type: kind
            .events
            .into_iter()
            .map(|r#type| EventTypeFilter { r#type, ..Default::default() })
            .collect(),
        reply: if kind.requests_of.is_empty() { Vec::new() } else { vec![false] },
        protocol: kind.requests_of.into_iter().map(str::to_owned).collect(),
        ..Default::default()
    });
    match &interest.namespaces {
        Namespaces::All => filters.collect(),
        Namespaces::Only(namespaces) => filters
            .flat_map(|all| {
                namespaces.iter().flat_map(move |namespace| {
                    let pods = vec![format!("{namespace}/")];
                    [
                        FlowFilter { source_pod: pods.clone(), ..all.clone() },
                        FlowFilter { destination_pod: pods, ..all.clone() },
                    ]
                })
            })
            .collect(),
    }
}

/// Tells lines of a capture that cannot matter, without parsing them.
#[derive(Debug)]
pub(super) struct Prefilter {
    /// A line with one of these anywhere is read.
    needles: Vec<Finder<'static>>,
    key: Finder<'static>,
    /// The verdicts of flows that do not matter, in quotes.
    unwanted: Vec<String>,
    /// The verdicts of flows that matter only with a record of the L7 proxy, in quotes.
    only_l7: Vec<String>,
    l7: Finder<'static>,
}

// === impl Prefilter ===

impl Prefilter {
    pub(super) fn new(interest: &Interest) -> Self {
        let kinds = kinds(interest);
        let has = |verdict: Verdict, always: bool| {
            kinds.iter().any(|k| k.verdicts.contains(&verdict) && (!always || k.requests_of.is_empty()))
        };
        let quoted = |wanted: &dyn Fn(Verdict) -> bool| -> Vec<String> {
            let verdicts = VERDICTS.iter().filter(|verdict| wanted(**verdict));
            verdicts.map(|verdict| format!("\"{}\"", verdict.as_str_name())).collect()
        };
        let always = VERDICTS.iter().filter(|verdict| has(**verdict, true));
        Self {
            needles: always.map(|verdict| verdict.as_str_name()).chain(EVENTS).map(Finder::new).collect(),
            key: Finder::new("\"verdict\""),
            unwanted: quoted(&|verdict| !has(verdict, false)),
            only_l7: quoted(&|verdict| has(verdict, false) && !has(verdict, true)),
            l7: Finder::new("\"l7\""),
        }
    }

    /// Whether a line (trimmed) is whole, says a verdict that this run does not want, and has nothing
    /// in it that could matter all the same. Anything else has to be read, garbage above all.
    pub(super) fn cannot_matter(&self, line: &[u8]) -> bool {
        line.first() == Some(&b'{')
            && line.last() == Some(&b'}')
            && self.verdict(line).is_some_and(|value| self.is_unwanted(line, value))
            && !self.needles.iter().any(|needle| needle.find(line).is_some())
    }

    /// What stands behind the first verdict of a line. The blanks of a capture that went through jq are
    /// allowed for.
    fn verdict<'l>(&self, line: &'l [u8]) -> Option<&'l [u8]> {
        let at = self.key.find(line)?;
        let rest = line[at + self.key.needle().len()..].trim_ascii_start();
        Some(rest.strip_prefix(b":")?.trim_ascii_start())
    }

    fn is_unwanted(&self, line: &[u8], value: &[u8]) -> bool {
        let says = |verdicts: &[String]| verdicts.iter().any(|verdict| value.starts_with(verdict.as_bytes()));
        says(&self.unwanted) || says(&self.only_l7) && self.l7.find(line).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Namespace;

    #[test]
    fn lines_that_cannot_matter() {
        let prefilter = Prefilter::new(&Interest::default());
        let check = |line: &str, expected: bool| {
            assert_eq!(prefilter.cannot_matter(line.as_bytes()), expected, "{line}");
        };
        check(r#"{"flow":{"verdict":"FORWARDED"}}"#, true);
        check(r#"{ "flow": { "verdict" : "REDIRECTED" } }"#, true);
        for verdict in ["TRACED", "TRANSLATED", "AUDIT", "ERROR", "VERDICT_UNKNOWN"] {
            check(&format!(r#"{{"flow":{{"verdict":"{verdict}"}}}}"#), true);
        }
        check(r#"{"flow":{"verdict":"DROPPED"}}"#, false);
        check(r#"{"flow":{"verdict":2}}"#, false);
        check(r#"{"flow":{"verdict":1}}"#, false);
        check(r#"{"flow":{"verdict":"BRAND_NEW"}}"#, false);
        check(r#"{"flow":{"l4":{"verdict":"FORWARDED"},"verdict":"DROPPED"}}"#, false);
        check(r#"{"flow":{"uuid":"x"}}"#, false);
        check(r#"{"flow":{"verdict":2,"policy_log":["AUDIT"]}}"#, false);
        check(r#"{"log":"{\"flow\":{\"verdict\":\"FORWARDED\"}}"}"#, false);
        check(r#"{"lost_events":{},"verdict":"FORWARDED"}"#, false);
        check(r#"{"flow":{"verdict":"FORWARDED"}"#, true);
        check(r#"{"flow":{"verdict":"FORWARDED"},"#, false);
        check(r#"x {"flow":{"verdict":"FORWARDED"}}"#, false);
        check("garbage", false);
        check("", false);
    }

    #[test]
    fn lines_with_requests_matter_when_requests_do() {
        let check = |interest: &Interest, line: &str, expected: bool| {
            assert_eq!(
                Prefilter::new(interest).cannot_matter(line.as_bytes()),
                expected,
                "{interest:?} {line}"
            );
        };
        let dns = Interest { dns: true, ..Interest::default() };
        let request = r#"{"flow":{"verdict":"FORWARDED","l7":{"type":"REQUEST","dns":{}}}}"#;
        check(&Interest::default(), request, true);
        check(&dns, request, false);
        check(&dns, r#"{"flow":{"verdict":"FORWARDED"}}"#, true);
        check(&dns, r#"{"flow":{"verdict":"AUDIT","l7":{}}}"#, true);
        let learn = Interest { learn: true, ..dns };
        check(&learn, r#"{"flow":{"verdict":"FORWARDED"}}"#, false);
        check(&learn, r#"{"flow":{"verdict":"REDIRECTED"}}"#, false);
        check(&learn, r#"{"flow":{"verdict":"TRACED"}}"#, true);
        let audit = Interest { audit: true, ..Interest::default() };
        check(&audit, r#"{"flow":{"verdict":"AUDIT"}}"#, false);
    }

    #[test]
    fn a_filter_for_each_kind_of_flow() {
        let interest = Interest { dns: true, http: true, audit: true, learn: true, ..Interest::default() };
        let filters: Vec<_> = whitelist(&interest)
            .into_iter()
            .map(|f| {
                let events: Vec<i32> = f.event_type.iter().map(|e| e.r#type).collect();
                (f.verdict, events, f.protocol, f.reply)
            })
            .collect();
        let none = Vec::<String>::new;
        assert_eq!(
            filters,
            [
                (vec![2], vec![1, 5, 129], none(), vec![]),
                (vec![4], vec![5], none(), vec![]),
                (vec![1, 5], vec![4, 5], none(), vec![]),
                (vec![1, 5], vec![129], vec!["dns".to_owned(), "http".to_owned()], vec![false]),
            ]
        );
    }

    #[test]
    fn one_filter_for_each_side_of_each_namespace() {
        let all = whitelist(&Interest::default());
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].verdict, [2]);
        assert_eq!(all[0].event_type.iter().map(|e| e.r#type).collect::<Vec<_>>(), [1, 5, 129]);
        assert!(all[0].event_type.iter().all(|e| !e.match_sub_type));
        let names = ["shop", "db"].map(|name| Namespace::parse(name).unwrap());
        let some = whitelist(&Interest { namespaces: Namespaces::Only(names.into()), ..Interest::default() });
        let sides: Vec<_> =
            some.iter().map(|f| (f.source_pod.join(","), f.destination_pod.join(","))).collect();
        let expected = [("db/", ""), ("", "db/"), ("shop/", ""), ("", "shop/")];
        assert_eq!(sides, expected.map(|(s, d)| (s.to_owned(), d.to_owned())));
        assert!(some.iter().all(|f| f.verdict == [2] && f.event_type.len() == 3));
    }
}
