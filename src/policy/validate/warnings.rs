//! What nobody refuses, and what does not do what it seems to do.

use serde_json::Value;

use crate::policy::spec::node::{At, Cx, whole};
use crate::policy::spec::syntax::{parse_port, parse_prefix, prefix_address};
use crate::policy::spec::{
    IcmpMatch, L4, L7, LabelKey, ListenerKind, Operator, PeerSpec, PolicyKind, Refusal, Side, Spec,
    SubjectSpec, Version, go_regexp_check, identity_carries, parse_key,
};
use crate::text::visible;

fn warn(cx: &mut Cx<'_>, at: &At<'_>, message: impl Into<String>) {
    cx.note(Refusal::Warning, at.path(), message);
}

/// What can be seen in the document itself.
pub(super) fn document(cx: &mut Cx<'_>, root: &At<'_>, kind: PolicyKind) {
    if kind == PolicyKind::KubernetesNetworkPolicy {
        if let Some(spec) = root.member("spec") {
            kubernetes(cx, &spec);
        }
        return;
    }
    if let Some(spec) = root.member("spec") {
        rule(cx, &spec);
    }
    for spec in root.member("specs").iter().flat_map(At::items) {
        rule(cx, &spec);
    }
}

fn kubernetes(cx: &mut Cx<'_>, spec: &At<'_>) {
    let types = spec.member("policyTypes");
    let is = |word: &str| types.as_ref().is_some_and(|t| t.items().any(|item| item.value == word));
    if let Some(ingress) = spec.member("ingress").filter(|list| !list.is_empty())
        && is("Egress")
        && !is("Ingress")
    {
        warn(cx, &ingress, "policyTypes does not name Ingress, but Cilium honours these rules all the same");
    }
    for list in ["ingress", "egress"] {
        for rule in spec.member(list).iter().flat_map(At::items) {
            rule.member("ports").iter().flat_map(At::items).for_each(|port| ports(cx, &port));
        }
    }
}

fn rule(cx: &mut Cx<'_>, spec: &At<'_>) {
    for name in ["endpointSelector", "nodeSelector"] {
        if let Some(at) = spec.member(name) {
            selector(cx, &at);
        }
    }
    for (lists, direction) in [(["ingress", "ingressDeny"], "ingress"), (["egress", "egressDeny"], "egress")]
    {
        for name in lists {
            for item in spec.member(name).iter().flat_map(At::items) {
                element(cx, &item);
            }
        }
        let stated = spec.member("enableDefaultDeny");
        let stated = stated.as_ref().and_then(|edd| edd.member(direction));
        let used = lists.iter().any(|name| spec.member(name).is_some_and(|list| !list.is_empty()));
        if let Some(stated) = stated.filter(|stated| stated.value == &Value::Bool(true) && !used) {
            warn(cx, &stated, format!("does nothing: there are no {direction} rules"));
        }
    }
}

/// Members whose empty list matches nothing.
const EMPTY: [&str; 9] = [
    "fromEndpoints",
    "fromEntities",
    "fromCIDR",
    "fromCIDRSet",
    "fromNodes",
    "toEndpoints",
    "toEntities",
    "toCIDR",
    "toCIDRSet",
];

fn element(cx: &mut Cx<'_>, at: &At<'_>) {
    for name in EMPTY.iter().chain(&["toNodes"]) {
        if let Some(list) = at.member(name).filter(|list| list.value.is_array() && list.is_empty()) {
            warn(cx, &list, "an empty list matches nothing; the whole rule does then");
        }
    }
    for name in ["fromEndpoints", "toEndpoints"] {
        at.member(name).iter().flat_map(At::items).for_each(|item| selector(cx, &item));
    }
    for name in ["fromCIDR", "toCIDR"] {
        at.member(name).iter().flat_map(At::items).for_each(|item| host_bits(cx, &item));
    }
    for name in ["fromCIDRSet", "toCIDRSet"] {
        at.member(name).iter().flat_map(At::items).for_each(|item| cidr_rule(cx, &item));
    }
    let ports_given = at.member("toPorts").filter(|list| !list.is_empty());
    if let Some(services) = at.member("toServices").filter(|list| !list.is_empty())
        && ports_given.is_some()
        && cx.options.version >= Version::V1_19
    {
        let message =
            "when the services stand for nothing, this rule allows its ports to any peer (Cilium 1.19)";
        warn(cx, &services, message);
    }
    for rule in ports_given.iter().flat_map(At::items) {
        let list = rule.member("ports");
        if list.as_ref().is_none_or(At::is_empty) {
            warn(cx, list.as_ref().unwrap_or(&rule), "without ports this matches nothing");
        }
        list.iter().flat_map(At::items).for_each(|port| ports(cx, &port));
        if let Some(rules) = rule.member("rules") {
            for http in rules.member("http").iter().flat_map(At::items) {
                hosts(cx, &http);
            }
        }
    }
    for icmp in at.member("icmps").iter().flat_map(At::items) {
        let fields = icmp.member("fields");
        if fields.as_ref().is_none_or(At::is_empty) {
            warn(cx, fields.as_ref().unwrap_or(&icmp), "without fields this matches nothing");
        }
    }
}

fn hosts(cx: &mut Cx<'_>, http: &At<'_>) {
    if let Some(host) = http.member("host")
        && let Some(text) = host.value.as_str()
        && let Err(why) = go_regexp_check(text)
    {
        warn(
            cx,
            &host,
            format!("is no regular expression ({why}): Cilium does not check it, Envoy refuses it"),
        );
    }
}

fn ports(cx: &mut Cx<'_>, at: &At<'_>) {
    let Some(port) = at.member("port") else { return };
    let text = match port.value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let Some(number) = parse_port(&text) else { return };
    if text != number.to_string() {
        warn(cx, &port, format!("Cilium reads `{}` as port {number}", visible(&text, 20)));
    }
    if let Some(end) = at.member("endPort")
        && let Some(last) = whole(end.value).filter(|last| *last > 0 && *last < i64::from(number))
    {
        warn(cx, &end, format!("{last} is below the port: it does not count, only port {number} matches"));
    }
}

fn host_bits(cx: &mut Cx<'_>, at: &At<'_>) {
    let Some(text) = at.value.as_str() else { return };
    if let (Some(net), Some(address)) = (parse_prefix(text), prefix_address(text))
        && net.network() != address
    {
        warn(cx, at, format!("the address does not begin the prefix: Cilium reads {net}"));
    }
}

fn cidr_rule(cx: &mut Cx<'_>, at: &At<'_>) {
    let Some(cidr) = at.member("cidr") else { return };
    host_bits(cx, &cidr);
    let Some(net) = cidr.value.as_str().and_then(parse_prefix) else { return };
    for item in at.member("except").iter().flat_map(At::items) {
        let part = item.value.as_str().and_then(parse_prefix);
        if part.is_some_and(|part| part.prefix_len() <= net.prefix_len() && part.contains(&net)) {
            warn(cx, &item, format!("takes off all of {net}: nothing is left to match"));
        }
    }
}

/// A selector on labels that no identity carries, or that not every identity of its kind carries.
fn selector(cx: &mut Cx<'_>, at: &At<'_>) {
    let mut label = |at: &At<'_>, text: &str, negative: bool| {
        let Ok(key) = parse_key(text, cx.options.version) else { return };
        if *key.source == *LabelKey::RESERVED && *key.key == *"world" && !negative {
            let message = "with IPv4 and IPv6, what is outside has reserved:world-ipv4 or -ipv6 instead: use the entity world";
            warn(cx, at, message);
        } else if !identity_carries(&key) {
            let shown = visible(&key.key, 80);
            let effect = if negative { "so this is always true" } else { "so this selects nothing" };
            warn(
                cx,
                at,
                format!("Cilium's default filter keeps the label {shown} out of identities, {effect}"),
            );
        }
    };
    for (key, value) in at.member("matchLabels").iter().flat_map(At::members) {
        label(&value, key, false);
    }
    for expression in at.member("matchExpressions").iter().flat_map(At::items) {
        let operator = expression.member("operator").and_then(|o| o.value.as_str()).unwrap_or_default();
        if let Some(key) = expression.member("key")
            && let Some(text) = key.value.as_str()
        {
            label(&key, text, matches!(operator, "NotIn" | "DoesNotExist"));
        }
    }
}

/// What can be seen in the rules that the agent makes of it.
pub(super) fn specs(cx: &mut Cx<'_>, specs: &[Spec]) {
    let rules = || specs.iter().flat_map(|spec| spec.ingress.rules.iter().chain(&spec.egress.rules));
    let port_rules = |l4: &L4| match l4 {
        L4::Ports(rules) => rules.clone(),
        L4::All | L4::Icmp(_) => Vec::new(),
    };
    let dns = rules().any(|rule| port_rules(&rule.l4).iter().any(|p| matches!(p.l7, L7::Dns(_))));
    for rule in rules() {
        let has_names = matches!(&rule.peers, crate::policy::spec::Peers::Of(peers)
            if peers.iter().any(|peer| matches!(peer, PeerSpec::Fqdn(_))));
        if has_names && !dns {
            let message = "names are only known from DNS answers that pass a rule with `rules: dns`, and this document has none";
            cx.note(Refusal::Warning, rule.path.member("toFQDNs"), message);
        }
        if let L4::Icmp(fields) = &rule.l4 {
            for field in fields {
                let message = match field {
                    IcmpMatch::Every(family) => {
                        format!("type 0 means every ICMP type of {} to Cilium", family.as_str())
                    }
                    IcmpMatch::Type(_, number) if *number > 255 => {
                        "an ICMP type above 255 never matches".into()
                    }
                    IcmpMatch::Type(..) => continue,
                };
                cx.note(Refusal::Warning, rule.path.member("icmps"), message);
            }
        }
    }
    for spec in specs {
        subject(cx, spec);
        if spec.origin.kind == PolicyKind::Ccnp {
            for rule in spec.egress.rules.iter().chain(&spec.ingress.rules) {
                let listeners = port_rules(&rule.l4).into_iter().filter_map(|p| p.listener);
                if listeners.into_iter().any(|l| l.kind == Some(ListenerKind::Namespaced)) {
                    let message = "a clusterwide policy cannot use a listener of a CiliumEnvoyConfig: its endpoints keep their old policy";
                    cx.note(Refusal::Warning, rule.path.member("toPorts"), message);
                }
            }
        }
        default_deny(cx, spec, "ingress", &spec.ingress);
        default_deny(cx, spec, "egress", &spec.egress);
    }
}

fn default_deny(cx: &mut Cx<'_>, spec: &Spec, direction: &str, side: &Side) {
    if let Some(first) = side.rules.first().filter(|_| side.default_deny) {
        let what = match &spec.subject {
            SubjectSpec::Endpoints(_) => "endpoints",
            SubjectSpec::Nodes(_) => "nodes",
        };
        let message =
            format!("the {what} that this policy selects are in default deny for {direction} from here on");
        cx.note(Refusal::Information, first.path.clone(), message);
    }
}

/// A namespaced policy only selects in its own namespace.
fn subject(cx: &mut Cx<'_>, spec: &Spec) {
    let (Some(namespace), SubjectSpec::Endpoints(selector)) = (&spec.origin.namespace, &spec.subject) else {
        return;
    };
    let contradicts = selector.requirements.iter().any(|r| {
        matches!(&*r.key.source, LabelKey::ANY | LabelKey::K8S)
            && *r.key.key == *crate::policy::spec::NAMESPACE_LABEL
            && match &r.operator {
                Operator::In(values) => !values.contains(namespace),
                Operator::NotIn(values) => values.contains(namespace),
                Operator::DoesNotExist => true,
                Operator::Exists => false,
            }
    });
    if contradicts {
        let name = match spec.origin.kind {
            PolicyKind::KubernetesNetworkPolicy => "podSelector",
            PolicyKind::Cnp | PolicyKind::Ccnp => "endpointSelector",
        };
        let message = format!("selects nothing: a policy only applies in its own namespace, {namespace}");
        cx.note(Refusal::Warning, spec.origin.path.member(name), message);
    }
}
