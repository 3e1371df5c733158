//! What an [`Interest`] means on the wire: the whitelist of a live stream and the prefilter of a
//! replay are made from one list of verdicts, so that they cannot disagree.

use memchr::memmem::Finder;

use super::proto::flow::{EventTypeFilter, FlowFilter, Verdict};
use crate::flow::{Interest, Namespaces};

/// Event types that carry a drop: drop notification, policy verdict, access log of the L7 proxy.
const EVENT_TYPES: [i32; 3] = [1, 5, 129];
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

/// The verdicts that an interest wants to see: the one place that both ways are made from.
fn verdicts(interest: &Interest) -> Vec<Verdict> {
    // A new field of Interest has to be decided about here.
    let Interest { namespaces: _ } = interest;
    vec![Verdict::Dropped]
}

/// The whitelist of a live stream. Filters are alternatives; so are the values of one field, while
/// the fields of a filter must all match: hence one filter for each side of each namespace.
pub(super) fn whitelist(interest: &Interest) -> Vec<FlowFilter> {
    let all = FlowFilter {
        verdict: verdicts(interest).into_iter().map(i32::from).collect(),
        event_type: EVENT_TYPES.map(|r#type| EventTypeFilter { r#type, ..Default::default() }).to_vec(),
        ..Default::default()
    };
    match &interest.namespaces {
        Namespaces::All => vec![all],
        Namespaces::Only(namespaces) => namespaces
            .iter()
            .flat_map(|namespace| {
                let pods = vec![format!("{namespace}/")];
                [
                    FlowFilter { source_pod: pods.clone(), ..all.clone() },
                    FlowFilter { destination_pod: pods, ..all.clone() },
                ]
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
}

// === impl Prefilter ===

impl Prefilter {
    pub(super) fn new(interest: &Interest) -> Self {
        let wanted = verdicts(interest);
        let names = wanted.iter().map(|verdict| verdict.as_str_name());
        Self {
            needles: names.chain(EVENTS).map(Finder::new).collect(),
            key: Finder::new("\"verdict\""),
            unwanted: VERDICTS
                .iter()
                .filter(|verdict| !wanted.contains(verdict))
                .map(|verdict| format!("\"{}\"", verdict.as_str_name()))
                .collect(),
        }
    }

    /// Whether a line (trimmed) is whole, says a verdict that this run does not want, and has nothing
    /// in it that could matter all the same. Anything else has to be read, garbage above all.
    pub(super) fn cannot_matter(&self, line: &[u8]) -> bool {
        line.first() == Some(&b'{')
            && line.last() == Some(&b'}')
            && self.says_unwanted_verdict(line)
            && !self.needles.iter().any(|needle| needle.find(line).is_some())
    }

    /// The blanks of a capture that went through jq are allowed for.
    fn says_unwanted_verdict(&self, line: &[u8]) -> bool {
        let Some(at) = self.key.find(line) else { return false };
        let rest = line[at + self.key.needle().len()..].trim_ascii_start();
        let Some(value) = rest.strip_prefix(b":") else { return false };
        let value = value.trim_ascii_start();
        self.unwanted.iter().any(|verdict| value.starts_with(verdict.as_bytes()))
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
    fn one_filter_for_each_side_of_each_namespace() {
        let all = whitelist(&Interest::default());
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].verdict, [2]);
        assert_eq!(all[0].event_type.iter().map(|e| e.r#type).collect::<Vec<_>>(), [1, 5, 129]);
        assert!(all[0].event_type.iter().all(|e| !e.match_sub_type));
        let names = ["shop", "db"].map(|name| Namespace::parse(name).unwrap());
        let some = whitelist(&Interest { namespaces: Namespaces::Only(names.into()) });
        let sides: Vec<_> =
            some.iter().map(|f| (f.source_pod.join(","), f.destination_pod.join(","))).collect();
        let expected = [("db/", ""), ("", "db/"), ("shop/", ""), ("", "shop/")];
        assert_eq!(sides, expected.map(|(s, d)| (s.to_owned(), d.to_owned())));
        assert!(some.iter().all(|f| f.verdict == [2] && f.event_type.len() == 3));
    }
}
