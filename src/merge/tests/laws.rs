//! What holds for every merge, tried on random policies with hostile labels.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::names::DnsName;
use crate::policy::{Entity, HttpMatch, L7Match, yaml};

/// Label values (and keys) that YAML readers take for something else than text.
const HOSTILE: [&str; 26] = [
    "no",
    "on",
    "y",
    "N",
    "true",
    "null",
    "~",
    "",
    "1e3",
    "0o17",
    "017",
    "0x1F",
    "1_000",
    "1:30",
    ".inf",
    ".nan",
    "2026-11-20",
    "=",
    "<<",
    "- a",
    "a: b",
    "#x",
    "{{x}}",
    "*a",
    "größe",
    "a\u{85}b",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(vec!["web", "api", "db"]).prop_map(str::to_owned),
        2 => select(HOSTILE.to_vec()).prop_map(str::to_owned),
        1 => "[a-zA-Z0-9._-]{0,12}",
        1 => "\\PC{0,8}",
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    let key = prop_oneof![3 => select(vec!["app", "tier"]).prop_map(str::to_owned), 1 => word()];
    vec((key, word()), 1..3).prop_filter_map("keys that disagree", Selector::new)
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        4 => selector().prop_map(Peer::Endpoints),
        1 => select(vec![Entity::Host, Entity::KubeApiserver]).prop_map(Peer::Entity),
        1 => select(vec!["192.0.2.7/32", "2001:db8::7/128", "192.0.2.8/32"]).prop_map(cidr),
    ]
}

fn allow() -> impl Strategy<Value = Allow> {
    prop_oneof![
        4 => select(vec![80, 443, 8080, 5432]).prop_map(tcp),
        1 => (1u16..9000).prop_map(tcp),
        1 => Just(udp(53)),
        1 => select(vec![3, 8, 13]).prop_map(icmp),
    ]
}

fn name() -> impl Strategy<Value = DnsName> {
    select(vec!["a.example.com", "b.example.com", "no", "1e3", "_srv.example.com"])
        .prop_map(|text| DnsName::parse(text).unwrap())
}

/// Names as peers, and requests on ports that no plain rule of these tests has.
fn asking() -> impl Strategy<Value = Rule> {
    let path = prop_oneof![select(HOSTILE.to_vec()).prop_map(str::to_owned), "/[a-z.%(?*)\\\\|\\[\\]]{0,6}"];
    let http = (prop::bool::ANY, peer(), 9000u16..9003, select(vec!["GET", "no"]), path).prop_map(
        |(inward, peer, port, method, path)| {
            let direction = if inward { Direction::Ingress } else { Direction::Egress };
            let l7 = L7Match::Http(HttpMatch { method: method.into(), path: path.into() });
            Rule { l7: Some(l7), ..Rule::plain(direction, peer, tcp(port)) }
        },
    );
    let dns = (select(vec!["dns", "cache"]), name(), select(vec![tcp(53), udp(53)]))
        .prop_map(|(app, name, allow)| Rule { l7: Some(L7Match::Dns(name)), ..egress(pods(app), allow) });
    let named = (name(), allow()).prop_map(|(name, allow)| egress(Peer::Fqdn(name), allow));
    prop_oneof![http, dns, named]
}

fn rule() -> impl Strategy<Value = Rule> {
    let plain = (prop::bool::ANY, peer(), allow()).prop_map(|(inward, peer, allow)| {
        let direction = if inward { Direction::Ingress } else { Direction::Egress };
        Rule::plain(direction, peer, allow)
    });
    prop_oneof![2 => plain, 1 => asking()]
}

fn rules(most: usize) -> impl Strategy<Value = Vec<Rule>> {
    vec(rule(), 1..most)
}

/// A canonical text as a person may have left it: comments, blank lines, other line ends.
fn handled(text: &str, marks: &[u8], crlf: bool, trim: bool) -> String {
    let mut out = String::from("# mine\n");
    for (i, line) in text.lines().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        match marks[i % marks.len()] {
            0 => out.push_str(&format!("{indent}# why\n{line}\n")),
            1 => out.push_str(&format!("{line}\n\n")),
            2 => out.push_str(&format!("{line}\n      # {i}\n")),
            3 if !line.ends_with(['"', '\'']) => out.push_str(&format!("{line} # {i}\n")),
            _ => out.push_str(&format!("{line}\n")),
        }
    }
    if crlf {
        out = out.replace('\n', "\r\n");
    }
    if trim { out.trim_end().to_owned() } else { out }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn canonical_files_do_not_show_the_order(rules in rules(24), cut in 0usize..24) {
        let all = additions(&rules);
        let whole = merge(None, None, &all).unwrap();
        prop_assert_eq!(&whole.text, &all.render().unwrap());
        prop_assert!(read_documents(&whole.text).is_ok_and(|d| Policy::from_value(&d[0].value).as_ref() == Some(&all)));
        prop_assert!(Policy::from_canonical(&whole.text).is_some_and(|policy| policy == all));

        let (first, second) = rules.split_at(cut.min(rules.len() - 1).max(1).min(rules.len()));
        let mut backwards = None;
        for part in [second, first] {
            if !part.is_empty() {
                backwards = Some(merge(backwards.as_deref(), None, &additions(part)).unwrap().text);
            }
        }
        prop_assert_eq!(backwards.as_ref(), Some(&whole.text));
        laws(&whole.text, &merge(Some(&whole.text), None, &all).unwrap(), &all);
    }

    #[test]
    fn a_file_of_people_only_grows(
        old in rules(12),
        new in rules(12),
        marks in vec(0u8..12, 1..9),
        crlf in prop::bool::ANY,
        trim in prop::bool::ANY,
    ) {
        let before = additions(&old);
        let text = handled(&before.render().unwrap(), &marks, crlf, trim);
        prop_assume!(read_documents(&text).is_ok_and(|d| Policy::from_value(&d[0].value).as_ref() == Some(&before)));
        let needed = additions(&new);
        let merged = match merge(Some(&text), None, &needed) {
            Ok(merged) => merged,
            // `{{x}}` and the like in a label: refused, loudly.
            Err(refusal) => {
                prop_assert_eq!(refusal, Refusal::Templated);
                return Ok(());
            }
        };
        laws(&text, &merged, &needed);
        prop_assert!(merged.conflicts.is_empty());

        let mut lines = merged.text.lines();
        for line in text.lines() {
            prop_assert!(lines.any(|l| l == line), "{line:?} is lost in\n{}", merged.text);
        }
        // Both meanings, and nothing else: read by other code than the one that wrote.
        let document = read_documents(&merged.text).unwrap().remove(0);
        let mut both: Vec<Rule> = old.iter().chain(&new).cloned().collect();
        both.sort();
        both.dedup();
        let meant = Policy::from_value(&document.value).unwrap();
        prop_assert_eq!(meant.rules().collect::<std::collections::BTreeSet<_>>(), both.into_iter().collect());
        if crlf {
            prop_assert_eq!(merged.text.matches('\n').count(), merged.text.matches("\r\n").count());
        }
    }

    #[test]
    fn hostile_labels_come_back(key in word(), value in word()) {
        let Some(selector) = Selector::new([(&key, &value)]) else { return Ok(()) };
        let policy = additions(&[ingress(Peer::Endpoints(selector), tcp(80))]);
        let text = policy.render().unwrap();
        prop_assert_eq!(Policy::from_canonical(&text), Some(policy));
        let values: Vec<serde_json::Value> = yaml::read_all(&text).unwrap();
        let labels = values[0].pointer("/spec/ingress/0/fromEndpoints/0/matchLabels").unwrap();
        prop_assert!(labels.as_object().unwrap().values().all(|v| v.as_str() == Some(&value)));
    }
}
