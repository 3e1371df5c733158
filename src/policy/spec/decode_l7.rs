//! `rules`, TLS contexts and listeners, from a document to their types.

use super::decode_l4::Place;
use super::go_regexp;
use super::node::{At, Cx, kind_of};
use super::syntax::is_dns_characters;
use super::{
    DnsRule, HeaderAction, HeaderMatch, HttpRule, KafkaRule, L7, Listener, ListenerKind, Refusal, SecretRef,
    TlsContext, Version,
};
use crate::text::visible;

/// Longer DNS patterns are refused.
const MAX_DNS: usize = 255;

/// `rules` of an item of `toPorts`.
pub(super) fn l7_rules(cx: &mut Cx<'_>, at: &At<'_>, place: Place) -> L7 {
    if !cx.map(at) {
        return L7::None;
    }
    let known = cx.options.version < Version::V1_20;
    let member =
        |cx: &mut Cx<'_>, name| at.member(name).is_some_and(|list| cx.list(&list) && !list.is_empty());
    let (http, dns) = (member(cx, "http"), member(cx, "dns"));
    let kafka = known && member(cx, "kafka");
    let l7 = known && member(cx, "l7");
    let parser = if known { cx.text_of(at, "l7proto") } else { None };
    if !(http || dns || kafka || l7) {
        return parser.map_or(L7::None, |parser| L7::Proxylib { parser, rules: Vec::new() });
    }

    let host_before_1_17 = place.host && cx.options.version < Version::V1_17;
    if place.host && (place.ingress || host_before_1_17 || http || kafka) {
        cx.refuse(at, "rules for the host take no layer 7 rules (only DNS, on egress, since 1.17)");
    }
    if !cx.options.l7_proxy {
        cx.refuse(at, "layer 7 rules need the agent's flag enable-l7-proxy");
    }
    if place.ingress && dns {
        cx.refuse(at, "DNS rules are for egress only");
    }
    // A member that is there counts, even when its list is empty.
    let there = |name: &str| at.member(name).is_some();
    let kinds = [there("http"), there("dns"), known && there("kafka"), parser.is_some()];
    if kinds.iter().filter(|there| **there).count() > 1 {
        cx.refuse(at, "only one of http, dns, kafka and l7proto may stand here");
    }
    if known && there("l7") && parser.is_none() {
        cx.refuse(at, "l7 needs l7proto");
    }
    let rules = L7Lists {
        http: http_rules(cx, at),
        dns: dns_rules(cx, at),
        kafka: if known { kafka_rules(cx, at) } else { Vec::new() },
    };
    rules.into_l7(cx, at, parser)
}

struct L7Lists {
    http: Vec<HttpRule>,
    dns: Vec<DnsRule>,
    kafka: Vec<KafkaRule>,
}

impl L7Lists {
    fn into_l7(self, cx: &mut Cx<'_>, at: &At<'_>, parser: Option<Box<str>>) -> L7 {
        if !self.dns.is_empty() {
            return L7::Dns(self.dns);
        }
        if !self.http.is_empty() {
            return L7::Http(self.http);
        }
        if !self.kafka.is_empty() {
            return L7::Kafka(self.kafka);
        }
        let rules = proxylib_rules(cx, at);
        parser.map_or(L7::None, |parser| L7::Proxylib { parser, rules })
    }
}

fn http_rules(cx: &mut Cx<'_>, rules: &At<'_>) -> Vec<HttpRule> {
    let Some(list) = rules.member("http") else { return Vec::new() };
    let mut out = Vec::new();
    for at in list.items() {
        if !cx.map(&at) {
            continue;
        }
        let rule = HttpRule {
            path: regexp(cx, &at, "path"),
            method: regexp(cx, &at, "method"),
            host: cx.text_of(&at, "host"),
            headers: cx.texts(&at, "headers"),
            header_matches: header_matches(cx, &at),
        };
        out.push(rule);
    }
    out
}

fn regexp(cx: &mut Cx<'_>, at: &At<'_>, name: &str) -> Option<Box<str>> {
    let text = cx.text_of(at, name)?;
    if let Err(why) = go_regexp::check(&text) {
        cx.note(Refusal::Agent, at.place(name), format!("is no regular expression (RE2): {why}"));
    }
    Some(text)
}

fn header_matches(cx: &mut Cx<'_>, at: &At<'_>) -> Vec<HeaderMatch> {
    let Some(list) = at.member("headerMatches") else { return Vec::new() };
    if !cx.list(&list) {
        return Vec::new();
    }
    let mut out = Vec::new();
    for item in list.items() {
        if !item.value.is_object() {
            cx.refuse(&item, format!("must be a map, is {}", kind_of(item.value)));
            continue;
        }
        let Some(name) = cx.text_of(&item, "name") else {
            cx.note(Refusal::Agent, item.place("name"), "a header needs a name");
            continue;
        };
        let mismatch = match cx.text_of(&item, "mismatch").as_deref() {
            None => None,
            Some("LOG") => Some(HeaderAction::Log),
            Some("ADD") => Some(HeaderAction::Add),
            Some("DELETE") => Some(HeaderAction::Delete),
            Some("REPLACE") => Some(HeaderAction::Replace),
            Some(other) => {
                let message =
                    format!("`{}` is no header action: LOG, ADD, DELETE or REPLACE", visible(other, 40));
                cx.note(Refusal::Agent, item.place("mismatch"), message);
                None
            }
        };
        let secret = item.member("secret").and_then(|at| secret(cx, &at));
        if secret.as_ref().is_some_and(|secret| secret.name.is_empty()) {
            cx.note(Refusal::Agent, item.place("secret"), "a secret needs a name");
        }
        out.push(HeaderMatch { mismatch, name, value: cx.text_of(&item, "value"), secret });
    }
    out
}

fn dns_rules(cx: &mut Cx<'_>, rules: &At<'_>) -> Vec<DnsRule> {
    let Some(list) = rules.member("dns") else { return Vec::new() };
    let mut out = Vec::new();
    for at in list.items() {
        if cx.map(&at) {
            let (name, pattern) = names(cx, &at);
            out.push(DnsRule { name, pattern });
        }
    }
    out
}

/// `matchName` and `matchPattern` at this place.
pub(super) fn names(cx: &mut Cx<'_>, at: &At<'_>) -> (Option<Box<str>>, Option<Box<str>>) {
    let name = cx.text_of(at, "matchName");
    if name.as_deref().is_some_and(|name| !is_dns_characters(name, false)) {
        let message = "has characters that no DNS name has (letters, digits, `-`, `_`, `.`)";
        cx.note(Refusal::Agent, at.place("matchName"), message);
    }
    let pattern = cx.text_of(at, "matchPattern");
    if let Some(pattern) = &pattern {
        if pattern.trim().len() > MAX_DNS {
            let message = format!("is longer than {MAX_DNS} characters");
            cx.note(Refusal::Agent, at.place("matchPattern"), message);
        } else if !is_dns_characters(pattern, true) {
            let message = "has characters that no DNS pattern has (letters, digits, `-`, `_`, `.`, `*`)";
            cx.note(Refusal::Agent, at.place("matchPattern"), message);
        }
    }
    (name, pattern)
}

fn kafka_rules(cx: &mut Cx<'_>, rules: &At<'_>) -> Vec<KafkaRule> {
    let Some(list) = rules.member("kafka") else { return Vec::new() };
    let mut out = Vec::new();
    for at in list.items() {
        if !cx.map(&at) {
            continue;
        }
        let rule = KafkaRule {
            role: cx.text_of(&at, "role"),
            api_key: cx.text_of(&at, "apiKey"),
            api_version: cx.text_of(&at, "apiVersion"),
            client_id: cx.text_of(&at, "clientID"),
            topic: cx.text_of(&at, "topic"),
        };
        if let Some((member, why)) = kafka_fault(&rule) {
            cx.note(Refusal::Agent, at.place(member), why);
        }
        out.push(rule);
    }
    out
}

fn kafka_fault(rule: &KafkaRule) -> Option<(&'static str, &'static str)> {
    let lower = |text: &Option<Box<str>>| text.as_deref().map(str::to_ascii_lowercase);
    if rule.role.is_some() && rule.api_key.is_some() {
        return Some(("role", "role and apiKey cannot stand together"));
    }
    if lower(&rule.api_key).is_some_and(|key| !KAFKA_KEYS.contains(&key.as_str())) {
        return Some(("apiKey", "is no Kafka API key"));
    }
    if lower(&rule.role).is_some_and(|role| role != "produce" && role != "consume") {
        return Some(("role", "must be produce or consume"));
    }
    if rule.api_version.as_deref().is_some_and(|version| {
        let digits = version.strip_prefix(['+', '-']).unwrap_or(version);
        !digits.bytes().all(|b| b.is_ascii_digit())
            || version.parse::<i16>().is_ok_and(|n| n < 0)
            || version.parse::<i16>().is_err()
    }) {
        return Some(("apiVersion", "must be a number from 0 to 32767"));
    }
    let topic = rule.topic.as_deref().unwrap_or("a");
    if topic.len() > MAX_DNS {
        return Some(("topic", "is longer than 255 characters"));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'\\' | b'.' | b'_' | b'-');
    (!topic.bytes().all(fits)).then_some(("topic", "has characters that no Kafka topic has"))
}

const KAFKA_KEYS: [&str; 34] = [
    "produce",
    "fetch",
    "offsets",
    "metadata",
    "leaderandisr",
    "stopreplica",
    "updatemetadata",
    "controlledshutdown",
    "offsetcommit",
    "offsetfetch",
    "findcoordinator",
    "joingroup",
    "heartbeat",
    "leavegroup",
    "syncgroup",
    "describegroups",
    "listgroups",
    "saslhandshake",
    "apiversions",
    "createtopics",
    "deletetopics",
    "deleterecords",
    "initproducerid",
    "offsetforleaderepoch",
    "addpartitionstotxn",
    "addoffsetstotxn",
    "endtxn",
    "writetxnmarkers",
    "txnoffsetcommit",
    "describeacls",
    "createacls",
    "deleteacls",
    "describeconfigs",
    "alterconfigs",
];

fn proxylib_rules(cx: &mut Cx<'_>, rules: &At<'_>) -> Vec<serde_json::Value> {
    let Some(list) = rules.member("l7") else { return Vec::new() };
    let mut out = Vec::new();
    for at in list.items() {
        if !cx.map(&at) {
            continue;
        }
        for (key, value) in at.members() {
            let _ = cx.text(&value);
            if key.is_empty() {
                cx.refuse(&at, "a key must not be empty");
            }
        }
        out.push(at.value.clone());
    }
    out
}

/// `listener`.
pub(super) fn listener(cx: &mut Cx<'_>, at: &At<'_>) -> Option<Listener> {
    if !cx.map(at) {
        return None;
    }
    let config = at.member("envoyConfig").filter(|config| cx.map(config));
    let (kind, config) = match &config {
        None => (None, None),
        Some(config) => (cx.text_of(config, "kind"), cx.text_of(config, "name")),
    };
    let kind = kind.map(|kind| match &*kind {
        "CiliumEnvoyConfig" => ListenerKind::Namespaced,
        "CiliumClusterwideEnvoyConfig" => ListenerKind::Clusterwide,
        _ => ListenerKind::Other(kind),
    });
    let priority = cx.integer_of(at, "priority", i64::from(u16::MAX)).unwrap_or(0);
    let priority = u16::try_from(priority).unwrap_or_else(|_| {
        cx.note(Refusal::Agent, at.place("priority"), "must be a number from 1 to 100");
        0
    });
    let name = cx.text_of(at, "name").unwrap_or_default();
    Some(Listener { kind, config: config.unwrap_or_default(), name, priority })
}

/// `terminatingTLS` or `originatingTLS`.
pub(super) fn tls_context(cx: &mut Cx<'_>, at: &At<'_>) -> Option<TlsContext> {
    if !cx.map(at) {
        return None;
    }
    let Some(secret_at) = at.member("secret") else {
        cx.note(Refusal::Agent, at.place("secret"), "a secret must be given; the agent crashes without");
        return None;
    };
    Some(TlsContext {
        secret: secret(cx, &secret_at)?,
        trusted_ca: cx.text_of(at, "trustedCA"),
        certificate: cx.text_of(at, "certificate"),
        private_key: cx.text_of(at, "privateKey"),
    })
}

fn secret(cx: &mut Cx<'_>, at: &At<'_>) -> Option<SecretRef> {
    cx.map(at).then(|| SecretRef {
        namespace: cx.text_of(at, "namespace").unwrap_or_default(),
        name: cx.text_of(at, "name").unwrap_or_default(),
    })
}
