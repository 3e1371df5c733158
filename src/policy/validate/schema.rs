//! The API server's checks: the structural schema of the policies as tables, and the walk through a
//! document along them.

mod tables;
mod text;

use std::collections::HashSet;

use serde_json::Value;

use self::tables::{CILIUM, KUBERNETES};
use self::text::Text;
use crate::policy::spec::node::{At, Cx, kind_of, whole};
use crate::policy::spec::syntax::{check_qualified_name, is_label_value, is_subdomain};
use crate::policy::spec::{PolicyKind, Refusal, Version};
use crate::text::visible;

/// What the schema wants at one place.
enum Node {
    /// A string.
    Text(Text),
    /// A whole number from `.0` to `.1`.
    Integer(i64, i64),
    /// True or false.
    Bool,
    /// A whole number, or a string of the form that the CRD knows for ICMP types.
    IcmpType,
    /// A whole number or any string.
    IntOrString,
    /// Anything.
    Any,
    /// A list.
    List(&'static List),
    /// A map with any keys.
    Map(&'static Node),
    /// A map with known keys.
    Shape(&'static Shape),
    /// One thing before a version, another from it on.
    Since(Version, &'static Node, &'static Node),
}

/// What the schema wants of a list.
struct List {
    item: Node,
    min: usize,
    max: usize,
    /// No item may be there twice.
    set: bool,
}

/// What the schema wants of a map with known keys.
struct Shape {
    fields: &'static [Field],
    /// Exactly one of these must be there; those that the version does not have do not count.
    one_of: &'static [&'static str],
    /// At least one of these must be there, from this version on.
    any_of: Option<(Version, &'static [&'static str])>,
}

/// A known key of a map.
struct Field {
    name: &'static str,
    node: Node,
    /// Must be there in versions from the first up to, not including, the second.
    required: Option<(Version, Option<Version>)>,
    since: Version,
    /// The first version without it.
    until: Option<Version>,
}

/// Checks an object of this kind as the API server does when kubectl sends it, which asks for unknown
/// fields to be refused.
pub(super) fn check(cx: &mut Cx<'_>, root: &At<'_>, kind: PolicyKind) {
    let table = match kind {
        PolicyKind::Cnp | PolicyKind::Ccnp => &CILIUM,
        PolicyKind::KubernetesNetworkPolicy => &KUBERNETES,
    };
    shape(cx, root, table);
    metadata(cx, root, kind);
    let empty = root.member("spec").is_none() && root.member("specs").is_none();
    if empty && cx.options.version >= Version::V1_20 && kind != PolicyKind::KubernetesNetworkPolicy {
        refuse(cx, root, "spec or specs must be given");
    }
}

fn refuse(cx: &mut Cx<'_>, at: &At<'_>, message: impl Into<String>) {
    cx.note(Refusal::ApiServer, at.path(), message);
}

fn node(cx: &mut Cx<'_>, at: &At<'_>, wanted: &'static Node) {
    match wanted {
        Node::Any => {}
        Node::Text(form) => match at.value {
            Value::String(text) => {
                if let Err(message) = form.check(text, cx.options.version) {
                    refuse(cx, at, message);
                }
            }
            other => {
                let hint = if other.is_number() || other.is_boolean() { ": quote it" } else { "" };
                refuse(cx, at, format!("must be a string, is {}{hint}", kind_of(other)));
            }
        },
        Node::Integer(min, max) => match whole(at.value) {
            Some(number) if (*min..=*max).contains(&number) => {}
            Some(number) => refuse(cx, at, format!("must be from {min} to {max}, is {number}")),
            None => refuse(cx, at, format!("must be a whole number, is {}", kind_of(at.value))),
        },
        Node::Bool if at.value.is_boolean() => {}
        Node::Bool => refuse(cx, at, format!("must be true or false, is {}", kind_of(at.value))),
        Node::IcmpType | Node::IntOrString => match at.value {
            Value::String(text) if matches!(wanted, Node::IcmpType) => {
                if let Err(message) = text::icmp_type(text) {
                    refuse(cx, at, message);
                }
            }
            Value::String(_) => {}
            other if whole(other).is_some() => {}
            other => refuse(cx, at, format!("must be a whole number or a name, is {}", kind_of(other))),
        },
        Node::List(list) => check_list(cx, at, list),
        Node::Map(value) => match at.value {
            Value::Object(_) => at.members().for_each(|(_, member)| node(cx, &member, value)),
            other => refuse(cx, at, format!("must be a map, is {}", kind_of(other))),
        },
        Node::Shape(table) => match at.value {
            Value::Object(_) => shape(cx, at, table),
            other => refuse(cx, at, format!("must be a map, is {}", kind_of(other))),
        },
        Node::Since(version, before, after) => {
            node(cx, at, if cx.options.version >= *version { after } else { before });
        }
    }
}

fn check_list(cx: &mut Cx<'_>, at: &At<'_>, list: &'static List) {
    let Value::Array(items) = at.value else {
        return refuse(cx, at, format!("must be a list, is {}", kind_of(at.value)));
    };
    if items.len() > list.max {
        let message = match list.max {
            0 => "must be empty since Cilium 1.19".to_owned(),
            max => format!("has {} items, {max} are allowed", items.len()),
        };
        refuse(cx, at, message);
    }
    if items.len() < list.min {
        refuse(cx, at, "must not be empty: leave it out");
    }
    if list.set {
        let mut seen = HashSet::new();
        for item in at.items() {
            if !seen.insert(item.value.to_string()) {
                refuse(cx, &item, "is there twice");
            }
        }
    }
    at.items().for_each(|item| node(cx, &item, &list.item));
}

fn shape(cx: &mut Cx<'_>, at: &At<'_>, table: &'static Shape) {
    let version = cx.options.version;
    let known = |name: &str| {
        table
            .fields
            .iter()
            .find(|f| f.name == name && f.since <= version && f.until.is_none_or(|v| version < v))
    };
    // A null is dropped before the check, and an unknown field is one with any value.
    for name in at.value.as_object().into_iter().flatten().map(|(name, _)| name) {
        match (known(name), at.member(name)) {
            (Some(field), Some(member)) => node(cx, &member, &field.node),
            (Some(_), None) => {}
            (None, _) => {
                cx.note(Refusal::ApiServer, at.place(name), unknown_field(name, table, version));
            }
        }
    }
    for field in table.fields {
        let now =
            field.required.is_some_and(|(from, to)| from <= version && to.is_none_or(|to| version < to));
        if now && at.member(field.name).is_none() {
            cx.note(Refusal::ApiServer, at.place(field.name), "must be given");
        }
    }
    let there = |name: &&&str| known(name).is_some() && at.member(name).is_some();
    let choice: Vec<_> = table.one_of.iter().filter(|name| known(name).is_some()).copied().collect();
    if !choice.is_empty() {
        match table.one_of.iter().filter(there).count() {
            1 => {}
            0 => refuse(cx, at, format!("one of {} must be given", choice.join(", "))),
            _ => refuse(cx, at, format!("only one of {} may be given", choice.join(", "))),
        }
    }
    if let Some((since, names)) = table.any_of
        && version >= since
        && names.iter().filter(there).count() == 0
    {
        refuse(cx, at, format!("one of {} must be given", names.join(", ")));
    }
}

/// Words for a field that is not in the schema: when it was, or what it could have meant.
fn unknown_field(name: &str, table: &Shape, version: Version) -> String {
    let shown = visible(name, 60);
    if let Some(field) = table.fields.iter().find(|field| field.name == name) {
        return match field.until {
            Some(until) if version >= until => format!("{shown} was removed in Cilium {until}"),
            _ => format!("{shown} is only known since Cilium {}", field.since),
        };
    }
    let likely = table
        .fields
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(name) || close(field.name, name))
        .map(|field| format!("; did you mean {}?", field.name))
        .unwrap_or_default();
    format!("unknown field{likely} (kubectl refuses it; sent otherwise, it is dropped without a word)")
}

/// Whether two names differ by one character that is missing or added, or one is the other's start.
fn close(known: &str, written: &str) -> bool {
    let (long, short) = if known.len() >= written.len() { (known, written) } else { (written, known) };
    if long.starts_with(short) && short.len() >= 4 {
        return true;
    }
    let same = long.chars().zip(short.chars()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    let (l, s): (Vec<char>, Vec<char>) = (long.chars().collect(), short.chars().collect());
    l.len() == s.len() + 1 && l.get(same + 1..) == s.get(same..)
}

/// `metadata`, beyond its types.
fn metadata(cx: &mut Cx<'_>, root: &At<'_>, kind: PolicyKind) {
    let Some(at) = root.member("metadata").filter(|at| at.value.is_object()) else { return };
    let mut name = |member: &str, missing: &str| match at.member(member).and_then(|m| m.value.as_str()) {
        None | Some("") => {
            if !missing.is_empty() {
                cx.note(Refusal::ApiServer, at.place(member), missing);
            }
        }
        Some(text) => {
            // A generated name may end in a dash, since more follows.
            let whole = if member == "generateName" { text.strip_suffix('-').unwrap_or(text) } else { text };
            if text.len() > 253 || !is_subdomain(whole) {
                let message =
                    format!("`{}` is no lower-case DNS name of up to 253 characters", visible(text, 60));
                cx.note(Refusal::ApiServer, at.place(member), message);
            }
        }
    };
    name("name", "a name must be given");
    name("generateName", "");
    if let Some(namespace) = at.member("namespace")
        && let Some(text) = namespace.value.as_str().filter(|text| !text.is_empty())
    {
        if kind == PolicyKind::Ccnp {
            refuse(cx, &namespace, "a clusterwide policy has no namespace");
        } else if text.len() > 63 || text.contains('.') || !is_subdomain(text) {
            refuse(cx, &namespace, format!("`{}` is no namespace", visible(text, 60)));
        }
    }
    for (member, values) in [("labels", true), ("annotations", false)] {
        let Some(map) = at.member(member) else { continue };
        for (key, value) in map.members() {
            let lower = if values { key.to_owned() } else { key.to_lowercase() };
            if let Err(message) = check_qualified_name(&lower) {
                refuse(cx, &value, format!("the key `{}` {message}", visible(key, 80)));
            }
            if values && value.value.as_str().is_some_and(|text| !is_label_value(text)) {
                refuse(cx, &value, format!("is no label value ({})", crate::policy::spec::LABEL_VALUE));
            }
        }
    }
    for owner in at.member("ownerReferences").iter().flat_map(At::items) {
        for member in ["apiVersion", "kind", "name", "uid"] {
            if owner.member(member).is_none_or(|m| m.is_empty()) {
                cx.note(Refusal::ApiServer, owner.place(member), "must be given");
            }
        }
    }
}
