//! From a document to what the agent holds of it.

use serde_json::Value;

use super::decode_l4::{Place, layer4};
use super::decode_peers::{Home, peers, requires};
use super::kubernetes;
use super::node::{At, Cx, Problem};
use super::selector::{Keys, rule_label, selector, selector_without};
use super::{
    Finding, L4, LabelKey, Options, Origin, Path, PolicyKind, Refusal, Requirement, RuleSpec, Side, Spec,
    SubjectSpec,
};
use crate::policy::Document;

/// What Cilium's agent makes of a document that the API server has stored: the rules of every policy in
/// it (a list holds several), or everything for which the agent refuses one of them. A policy with one
/// bad rule is ignored as a whole; the other policies of a list are not, see [`sanitise_value`].
/// A document of another kind holds no policies.
///
/// Lines and columns are unknown here; `policy::validate` fills them in where there is a text.
pub fn sanitise(document: &Document, options: &Options) -> Result<Vec<Spec>, Vec<Finding>> {
    let mut specs = Vec::new();
    let mut findings = Vec::new();
    for (path, object) in objects(&document.value) {
        match sanitise_value(document.index, object, &path, options) {
            Ok(found) => specs.extend(found),
            Err(wrong) => findings.extend(wrong),
        }
    }
    if findings.is_empty() { Ok(specs) } else { Err(findings) }
}

/// As [`sanitise()`], for one object at `path` of document number `index`.
pub fn sanitise_value(
    index: usize,
    object: &Value,
    path: &Path,
    options: &Options,
) -> Result<Vec<Spec>, Vec<Finding>> {
    let mut cx = Cx::new(options);
    let specs = object_specs(&mut cx, index, object, path);
    if cx.refused {
        let refused = cx.problems.into_iter().filter(|problem| problem.refusal.refuses());
        return Err(refused.map(|problem| problem.finding(index, object)).collect());
    }
    Ok(specs)
}

/// The objects of a document with their places: itself, or the items of a list, also of lists in it.
pub(in crate::policy) fn objects(value: &Value) -> Vec<(Path, &Value)> {
    let mut out = Vec::new();
    collect(value, Path::root(), &mut out);
    out
}

fn collect<'a>(value: &'a Value, path: Path, out: &mut Vec<(Path, &'a Value)>) {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    match value.get("items").and_then(Value::as_array) {
        Some(items) if kind.ends_with("List") => {
            for (i, item) in items.iter().enumerate() {
                collect(item, path.member("items").item(i), out);
            }
        }
        _ => out.push((path, value)),
    }
}

/// The kind of policy that an object says it is.
pub(in crate::policy) fn kind_of_object(object: &Value) -> Option<PolicyKind> {
    let text = |name| object.get(name).and_then(Value::as_str);
    PolicyKind::from_words(text("apiVersion")?, text("kind")?)
}

/// The rules of one object; what is wrong goes to `cx`.
pub(in crate::policy) fn object_specs(
    cx: &mut Cx<'_>,
    index: usize,
    object: &Value,
    path: &Path,
) -> Vec<Spec> {
    let Some(kind) = kind_of_object(object) else { return Vec::new() };
    let root = At::root(object, path);
    let metadata = root.member("metadata");
    let text = |cx: &mut Cx<'_>, name| metadata.as_ref().and_then(|at| cx.text_of(at, name));
    let name = text(cx, "name");
    let namespace = text(cx, "namespace");
    if name.is_none() && kind != PolicyKind::KubernetesNetworkPolicy {
        cx.note(Refusal::Agent, root.place("metadata").member("name"), "a policy must have a name");
    }
    let namespace = match kind {
        PolicyKind::Ccnp => None,
        _ => Some(namespace.unwrap_or_else(|| cx.options.namespace.clone())),
    };
    let origin = Origin {
        document: index,
        kind,
        namespace,
        name: name.unwrap_or_default(),
        path: Path::root(),
        mark: None,
    };
    if kind == PolicyKind::KubernetesNetworkPolicy {
        return kubernetes::specs(cx, &root, origin).into_iter().collect();
    }

    let (spec, specs) = (root.member("spec"), root.member("specs"));
    if spec.is_none() && specs.is_none() {
        cx.refuse(&root, "the policy is empty: it has neither spec nor specs");
    }
    let mut out = Vec::new();
    if let Some(at) = spec {
        out.extend(rule_spec(cx, &at, &origin));
    }
    if let Some(list) = specs
        && cx.list(&list)
    {
        for at in list.items() {
            out.extend(rule_spec(cx, &at, &origin));
        }
    }
    out
}

fn rule_spec(cx: &mut Cx<'_>, at: &At<'_>, origin: &Origin) -> Option<Spec> {
    if !at.value.is_object() {
        cx.refuse(at, "must be a map");
        return None;
    }
    let lists = ["ingress", "ingressDeny", "egress", "egressDeny"];
    let [ingress, ingress_deny, egress, egress_deny] =
        lists.map(|name| at.member(name).filter(|list| cx.list(list)).filter(|list| !list.is_empty()));
    if [&ingress, &ingress_deny, &egress, &egress_deny].iter().all(|list| list.is_none())
        && cx.options.version >= super::Version::V1_17
    {
        cx.refuse(at, "one of ingress, ingressDeny, egress and egressDeny must have an item");
    }
    let subject = subject(cx, at, origin);
    let host = matches!(subject, Some(SubjectSpec::Nodes(_)));
    let init = match &subject {
        Some(SubjectSpec::Endpoints(selector)) => {
            selector.requirements.iter().any(|r| r.key == LabelKey::new(LabelKey::RESERVED, "init"))
        }
        _ => false,
    };
    let home = Home { namespace: origin.namespace.as_deref(), init };
    let default_deny = at.member("enableDefaultDeny").filter(|edd| cx.map(edd));
    let side = |cx: &mut Cx<'_>, name: &str, allow: Option<At<'_>>, deny: Option<At<'_>>| {
        let stated = default_deny.as_ref().and_then(|edd| cx.bool_of(edd, name));
        let mut side = Side { default_deny: true, rules: Vec::new() };
        if cx.options.non_default_deny_policies {
            side.default_deny = stated.unwrap_or(allow.is_some() || deny.is_some());
        }
        for (list, deny) in [(allow, false), (deny, true)] {
            let place = Place { ingress: name == "ingress", deny, host };
            for item in list.iter().flat_map(At::items) {
                side.rules.extend(rule(cx, &item, place, home));
            }
        }
        side
    };
    let ingress = side(cx, "ingress", ingress, ingress_deny);
    let egress = side(cx, "egress", egress, egress_deny);
    let labels = at.member("labels").filter(|list| cx.list(list));
    let labels = labels.iter().flat_map(At::items).filter_map(|label| rule_label(cx, &label)).collect();
    let log = at.member("log").filter(|log| cx.map(log)).and_then(|log| cx.text_of(&log, "value"));
    Some(Spec {
        origin: Origin { path: at.path(), ..origin.clone() },
        subject: subject?,
        ingress,
        egress,
        description: cx.text_of(at, "description"),
        labels,
        log,
    })
}

fn subject(cx: &mut Cx<'_>, at: &At<'_>, origin: &Origin) -> Option<SubjectSpec> {
    match (at.member("endpointSelector"), at.member("nodeSelector")) {
        (None, None) => {
            cx.refuse(at, "endpointSelector or nodeSelector must be given");
            None
        }
        (Some(_), Some(nodes)) => {
            cx.refuse(&nodes, "endpointSelector and nodeSelector cannot stand together");
            None
        }
        (Some(endpoints), None) => {
            let own = LabelKey::k8s(super::NAMESPACE_LABEL);
            let overwritten = origin.namespace.as_ref().map(|_| &own);
            let mut found = selector_without(cx, &endpoints, Keys::Cilium, overwritten);
            if let Some(namespace) = &origin.namespace {
                found.requirements.push(Requirement::equals(own, namespace));
            }
            Some(SubjectSpec::Endpoints(found))
        }
        (None, Some(nodes)) => {
            if origin.kind == PolicyKind::Cnp {
                cx.refuse(&nodes, "nodeSelector is for CiliumClusterwideNetworkPolicy only");
            }
            Some(SubjectSpec::Nodes(selector(cx, &nodes, Keys::Cilium)))
        }
    }
}

fn rule(cx: &mut Cx<'_>, at: &At<'_>, place: Place, home: Home<'_>) -> Option<RuleSpec> {
    if !cx.map(at) {
        return None;
    }
    let l4 = layer4(cx, at, place);
    let peers = peers(cx, at, place, home, l4 != L4::All);
    let authentication = at
        .member("authentication")
        .filter(|auth| !place.deny && cx.map(auth))
        .map(|auth| cx.text_of(&auth, "mode").unwrap_or_default());
    let requires = requires(cx, at, place);
    Some(RuleSpec { path: at.path(), mark: None, deny: place.deny, peers, l4, authentication, requires })
}

// === impl Problem ===

impl Problem {
    /// With what is known about the document that it is in.
    pub(in crate::policy) fn finding(self, index: usize, object: &Value) -> Finding {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).map(Into::into);
        Finding {
            document: index,
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
            path: self.path,
            mark: None,
            refusal: self.refusal,
            message: self.message.into(),
        }
    }
}
