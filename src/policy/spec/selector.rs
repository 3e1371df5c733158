//! Label selectors, from a document to requirements.

use super::node::{At, Cx, kind_of};
use super::syntax::{check_qualified_name, is_label_value};
use super::{LabelKey, LabelSelector, Operator, Requirement, Version};
use crate::text::visible;

/// How the keys of a selector are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys<'a> {
    /// As in Cilium's policies: the source is part of the key.
    Cilium,
    /// Of this source always; the agent checks them.
    Source(&'a str),
    /// Kubernetes' own policies: source `k8s`, with this before the key; the agent checks nothing.
    Kubernetes(&'a str),
}

/// The selector at this place. What is wrong with it is noted; the rest of it comes back.
pub(super) fn selector(cx: &mut Cx<'_>, at: &At<'_>, keys: Keys<'_>) -> LabelSelector {
    selector_without(cx, at, keys, None)
}

/// The same, leaving out what `matchLabels` says about one key: the agent overwrites it.
pub(super) fn selector_without(
    cx: &mut Cx<'_>,
    at: &At<'_>,
    keys: Keys<'_>,
    overwritten: Option<&LabelKey>,
) -> LabelSelector {
    let mut out = LabelSelector::default();
    if !cx.map(at) {
        return out;
    }
    if let Some(labels) = at.member("matchLabels")
        && cx.map(&labels)
    {
        for (key, value) in labels.members() {
            let parsed = read_key(cx, &value, key, keys);
            let Some(text) = cx.text(&value) else { continue };
            check_value(cx, &value, text, keys);
            let Some(key) = parsed.filter(|key| Some(key) != overwritten) else { continue };
            if out.requirements.iter().any(|r| r.key == key) {
                let message =
                    format!("`{key}` is there in two spellings; the agent keeps one of them, by chance");
                cx.note(super::Refusal::Warning, value.path(), message);
            }
            out.requirements.push(Requirement::equals(key, text));
        }
    }
    if let Some(expressions) = at.member("matchExpressions")
        && cx.list(&expressions)
    {
        for expression in expressions.items() {
            if cx.map(&expression) {
                out.requirements.extend(requirement(cx, &expression, keys));
            }
        }
    }
    out
}

fn requirement(cx: &mut Cx<'_>, at: &At<'_>, keys: Keys<'_>) -> Option<Requirement> {
    let key = match at.member("key") {
        Some(member) => {
            let text = cx.text(&member)?;
            read_key(cx, &member, text, keys)
        }
        None => read_key(cx, at, "", keys),
    };
    let mut values = Vec::new();
    if let Some(list) = at.member("values")
        && cx.list(&list)
    {
        for item in list.items() {
            let Some(text) = cx.text(&item) else { continue };
            check_value(cx, &item, text, keys);
            values.push(text.into());
        }
    }
    let operator = match at.member("operator") {
        Some(member) => cx.text(&member)?,
        None => "",
    };
    let checked = !matches!(keys, Keys::Kubernetes(_));
    let operator = match operator {
        "In" | "NotIn" if values.is_empty() && checked => {
            cx.note(super::Refusal::Agent, at.place("values"), format!("{operator} needs values"));
            return None;
        }
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" | "DoesNotExist" if !values.is_empty() && checked => {
            cx.note(super::Refusal::Agent, at.place("values"), format!("{operator} takes no values"));
            return None;
        }
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            let other = visible(other, 40);
            let message = format!("`{other}` is no operator: In, NotIn, Exists or DoesNotExist");
            cx.note(super::Refusal::Agent, at.place("operator"), message);
            return None;
        }
    };
    Some(Requirement { key: key?, operator })
}

fn check_value(cx: &mut Cx<'_>, at: &At<'_>, text: &str, keys: Keys<'_>) {
    if !matches!(keys, Keys::Kubernetes(_)) && !is_label_value(text) {
        let message = format!("`{}` is no label value ({LABEL_VALUE})", visible(text, 80));
        cx.refuse(at, message);
    }
}

/// What a label value is, in words.
pub(in crate::policy) const LABEL_VALUE: &str =
    "up to 63 letters, digits, `-`, `_`, `.`, first and last a letter or digit";

fn read_key(cx: &mut Cx<'_>, at: &At<'_>, text: &str, keys: Keys<'_>) -> Option<LabelKey> {
    let parsed = match keys {
        Keys::Cilium => parse_key(text, cx.options.version),
        Keys::Source(source) => with_source(source, text, cx.options.version),
        Keys::Kubernetes(prefix) => return Some(LabelKey::k8s(&format!("{prefix}{text}"))),
    };
    parsed.map_err(|message| cx.refuse(at, format!("label key `{}` {message}", visible(text, 100)))).ok()
}

/// A key of a Cilium policy with its source, as this version reads and checks it.
pub fn parse_key(text: &str, version: Version) -> Result<LabelKey, String> {
    if version >= Version::V1_20 {
        return parse_key_1_20(text, LabelKey::ANY);
    }
    let (source, rest) = match text.split_once(':') {
        _ if text.starts_with('$') => (LabelKey::RESERVED, &text[1..]),
        Some((source, rest)) => (source, rest),
        None => match text.strip_prefix("reserved.") {
            Some(rest) => (LabelKey::RESERVED, rest),
            None => ("", text),
        },
    };
    let source = if source.is_empty() { LabelKey::ANY } else { source };
    let rest = rest.split_once('=').map_or(rest, |(before, _)| before);
    extended(source, rest)
}

/// A key in a place where the source is fixed (CIDR groups).
fn with_source(source: &str, text: &str, version: Version) -> Result<LabelKey, String> {
    if version < Version::V1_20 {
        return extended(source, text);
    }
    if let Some(rest) = text.strip_prefix('$') {
        return parse_key_1_20(&format!("{}:{rest}", LabelKey::RESERVED), source);
    }
    // Here 1.20 puts the source in first and checks then, so that an empty source is no fault.
    parse_key_1_20(text.strip_prefix(':').filter(|rest| !rest.contains(':')).unwrap_or(text), source)
}

/// Up to 1.19 the agent writes `source.key`, checks that as one name, and later takes it apart at the
/// first dot.
fn extended(source: &str, rest: &str) -> Result<LabelKey, String> {
    let joined = format!("{source}.{rest}");
    check_qualified_name(&joined).map_err(|message| {
        let long = joined.len() > 63 && !joined.contains('/');
        let hint = if long { " (`source.key` counts, so 59 for a key without source)" } else { "" };
        format!("{message}{hint}")
    })?;
    let (source, key) = joined.split_once('.').unwrap_or((source, rest));
    Ok(LabelKey::new(source, key))
}

fn parse_key_1_20(text: &str, default: &str) -> Result<LabelKey, String> {
    let (source, key) = match text.split_once(':') {
        None => (default, text),
        Some((_, rest)) if rest.contains(':') => return Err("has more than one `:`".into()),
        Some((source, key)) => (source, key),
    };
    if source.is_empty() || !source.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err("has a source that is not made of letters and digits".into());
    }
    check_qualified_name(key)?;
    Ok(LabelKey::new(source, key))
}

/// The text of a rule's label: `source:key=value`; `None` when it is neither that nor a map with a key.
pub(super) fn rule_label(cx: &mut Cx<'_>, at: &At<'_>) -> Option<Box<str>> {
    if let Some(text) = at.value.as_str() {
        if text.is_empty() {
            cx.refuse(at, "a label must not be empty");
        }
        return Some(text.into());
    }
    if !at.value.is_object() {
        cx.refuse(at, format!("must be a map with a key, is {}", kind_of(at.value)));
        return None;
    }
    let (source, value) = (cx.text_of(at, "source"), cx.text_of(at, "value"));
    let Some(key) = cx.text_of(at, "key") else {
        cx.refuse(at, "a label needs a key");
        return None;
    };
    let source = source.as_deref().map(|s| format!("{s}:")).unwrap_or_default();
    let value = value.as_deref().map(|v| format!("={v}")).unwrap_or_default();
    Some(format!("{source}{key}{value}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, old: Option<(&str, &str)>, new: Option<(&str, &str)>) {
        for (version, expected) in [(Version::V1_19, old), (Version::V1_20, new)] {
            let key = parse_key(text, version).ok();
            let expected = expected.map(|(source, key)| LabelKey::new(source, key));
            assert_eq!(key, expected, "{text} {version}");
        }
    }

    #[test]
    fn keys_and_sources() {
        let same =
            |text: &str, source: &str, key: &str| check(text, Some((source, key)), Some((source, key)));
        same("app", "any", "app");
        same("any:app", "any", "app");
        same("k8s:app", "k8s", "app");
        same("k8s.app", "any", "k8s.app");
        same("app.kubernetes.io/name", "any", "app.kubernetes.io/name");
        same("reserved:host", "reserved", "host");
        same("container:app", "container", "app");
        check("$host", Some(("reserved", "host")), None);
        check("reserved.host", Some(("reserved", "host")), Some(("any", "reserved.host")));
        check("a=b", Some(("any", "a")), None);
        check("_foo", Some(("any", "_foo")), None);
        check(":app", Some(("any", "app")), None);
        for bad in ["", "k8s:", "a b", "a/b/c", "Example.com/a", "k8s:a:b"] {
            check(bad, None, None);
        }
        let key = "a".repeat(59);
        same(&key, "any", &key);
        let key = "a".repeat(60);
        check(&key, None, Some(("any", &key)));
        let key = format!("example.com/{}", "a".repeat(63));
        same(&key, "any", &key);
    }
}
