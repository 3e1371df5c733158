//! What the API server checks of a `networking.k8s.io/v1` NetworkPolicy beyond its schema.

use ipnet::IpNet;
use serde_json::Value;

use crate::policy::spec::node::{At, Cx, whole};
use crate::policy::spec::syntax::{check_qualified_name, is_service_name};
use crate::policy::spec::{LABEL_VALUE, Refusal};
use crate::text::visible;

pub(super) fn check(cx: &mut Cx<'_>, root: &At<'_>) {
    let Some(spec) = root.member("spec") else { return };
    if let Some(pods) = spec.member("podSelector") {
        selector(cx, &pods);
    }
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        let Some(list) = spec.member(list) else { continue };
        for rule in list.items() {
            rule.member(peers).iter().flat_map(At::items).for_each(|at| peer(cx, &at));
            rule.member("ports").iter().flat_map(At::items).for_each(|at| port(cx, &at));
        }
    }
}

fn refuse(cx: &mut Cx<'_>, at: &At<'_>, message: impl Into<String>) {
    cx.note(Refusal::ApiServer, at.path(), message);
}

fn selector(cx: &mut Cx<'_>, at: &At<'_>) {
    for (key, value) in at.member("matchLabels").iter().flat_map(At::members) {
        if let Err(message) = check_qualified_name(key) {
            refuse(cx, &value, format!("label key `{}` {message}", visible(key, 80)));
        }
    }
    for expression in at.member("matchExpressions").iter().flat_map(At::items) {
        if let Some(key) = expression.member("key")
            && let Some(Err(message)) = key.value.as_str().map(check_qualified_name)
        {
            refuse(cx, &key, format!("label key {message}"));
        }
        let values = expression.member("values").filter(|values| !values.is_empty());
        match (expression.member("operator").and_then(|o| o.value.as_str()), &values) {
            (Some("In" | "NotIn"), None) => refuse(cx, &expression, "In and NotIn need values"),
            (Some("Exists" | "DoesNotExist"), Some(at)) => {
                refuse(cx, at, "Exists and DoesNotExist take no values")
            }
            _ => {}
        }
        for value in values.iter().flat_map(At::items) {
            if value.value.as_str().is_some_and(|text| !crate::policy::spec::syntax::is_label_value(text)) {
                refuse(cx, &value, format!("is no label value ({LABEL_VALUE})"));
            }
        }
    }
}

fn peer(cx: &mut Cx<'_>, at: &At<'_>) {
    let (pods, namespaces) = (at.member("podSelector"), at.member("namespaceSelector"));
    pods.iter().chain(&namespaces).for_each(|at| selector(cx, at));
    let Some(block) = at.member("ipBlock") else { return };
    if pods.is_some() || namespaces.is_some() {
        refuse(cx, &block, "ipBlock cannot stand together with selectors");
    }
    let net = |at: &At<'_>| at.value.as_str().and_then(|text| text.parse::<IpNet>().ok());
    let Some(whole) = block.member("cidr").and_then(|at| net(&at)) else { return };
    for item in block.member("except").iter().flat_map(At::items) {
        let Some(part) = net(&item) else { continue };
        if !whole.contains(&part.network()) || part.prefix_len() <= whole.prefix_len() {
            refuse(cx, &item, format!("{part} is not strictly inside of {whole}"));
        }
    }
}

fn port(cx: &mut Cx<'_>, at: &At<'_>) {
    let port = at.member("port");
    let number = port.as_ref().and_then(|port| if port.value.is_number() { whole(port.value) } else { None });
    match port.as_ref().map(|port| (port, port.value)) {
        Some((port, Value::String(text)))
            if !is_service_name(text) || text.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            refuse(
                cx,
                port,
                format!("`{}` is no port name (numbers are written without quotes)", visible(text, 40)),
            );
        }
        Some((port, Value::Number(_))) if number.is_none_or(|n| !(1..=65535).contains(&n)) => {
            refuse(cx, port, "must be from 1 to 65535");
        }
        _ => {}
    }
    if let Some(end) = at.member("endPort") {
        match (whole(end.value), number) {
            (Some(last), Some(first)) if last < first => refuse(cx, &end, "must not be below port"),
            (Some(_), None) => refuse(cx, &end, "needs a port that is a number"),
            _ => {}
        }
    }
}
