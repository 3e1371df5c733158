//! What is wrong with the policies of a text: what the API server refuses, what the agent refuses, and
//! what nobody refuses although it does not do what it seems to do.
//!
//! [`validate`] says what `kubectl apply` and then Cilium's agent would say to each document, for
//! versions 1.16 to 1.20. What they accept is accepted here and the other way round: the test suite
//! compares with Cilium's own code. Unlike them, it names everything that is wrong, not the first thing.
//!
//! Known differences: the YAML reader refuses some indentation inside of quoted texts and of `{}` and `[]`
//! that Go takes; what stands behind `...` is read, while kubectl stops there (a warning says so).
//!
//! Not covered: what depends on other objects of the cluster (services, CIDR groups, secrets, other
//! policies for the same pods), and `status`.

mod conflicts;
mod kubernetes;
mod positions;
mod schema;
mod split;
mod tabs;
mod warnings;

use std::collections::HashMap;

use serde_json::Value;

use super::spec::node::{At, Cx, Problem};
use super::spec::sanitise::{kind_of_object, object_specs, objects};
use super::spec::{Finding, Mark, Options, Path, PolicyKind, Refusal, Spec};
use super::yaml;
use crate::text::visible;

/// One object of a text: a document, or an item of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// Which document of the text, from 0; empty documents do not count.
    pub document: usize,
    /// Where in the document: the root, or `items[3]`.
    pub path: Path,
    /// What kind of policy it is; `None` when it is none.
    pub kind: Option<PolicyKind>,
    /// What there is to say about it, by place.
    pub findings: Vec<Finding>,
    /// What it means; `None` when somebody refuses it, or when it is no policy.
    pub specs: Option<Vec<Spec>>,
}

/// An object of more bytes than this does not fit into etcd.
const MAX_BYTES: usize = 1_500_000;

/// What there is to say about the documents of a text, in their order.
pub fn validate(text: &str, options: &Options) -> Vec<Finding> {
    check(text, options).into_iter().flat_map(|checked| checked.findings).collect()
}

/// The same, for bytes that may not be a text.
pub fn validate_bytes(bytes: &[u8], options: &Options) -> Vec<Finding> {
    let message = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "the file is UTF-16; write it as UTF-8".to_owned(),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => return validate(text, options),
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = before.iter().filter(|b| **b == b'\n').count() + 1;
                format!("the file is no UTF-8 text: line {line}, byte {}", error.valid_up_to())
            }
        },
    };
    vec![Problem { path: Path::root(), refusal: Refusal::Both, message }.finding(0, &Value::Null)]
}

/// Reads and checks every document of a text.
pub fn check(text: &str, options: &Options) -> Vec<Checked> {
    let mut out = Vec::new();
    let mut index = 0;
    for part in split::split(text) {
        if let Some(checked) = character(index, &part) {
            out.push(checked);
            index += 1;
            continue;
        }
        let value = match yaml::read_one::<Value>(part.text) {
            Ok(None | Some(Value::Null)) => continue,
            Ok(Some(value)) => value,
            Err(error) => {
                out.push(unreadable(index, &part, &error));
                index += 1;
                continue;
            }
        };
        let mut objects: Vec<Checked> = objects(&value)
            .into_iter()
            .map(|(path, object)| check_object(index, object, path, options))
            .collect();
        let extra = part_problems(&part);
        if let Some(first) = objects.first_mut() {
            first.findings.extend(extra.into_iter().map(|problem| problem.finding(index, &value)));
        }
        place(&mut objects, &part);
        out.append(&mut objects);
        index += 1;
    }
    out
}

/// Checks one object that was read already, or every item of a list.
pub fn check_value(value: &Value, options: &Options) -> Vec<Checked> {
    objects(value).into_iter().map(|(path, object)| check_object(0, object, path, options)).collect()
}

/// What is to say about a document as a text.
fn part_problems(part: &split::Part<'_>) -> Vec<Problem> {
    let note = |message: String| Problem { path: Path::root(), refusal: Refusal::Warning, message };
    let mut out = Vec::new();
    if part.hidden {
        out.push(note(
            "kubectl does not read this document: before it must stand `---`, and on that line at most a comment".into(),
        ));
    }
    if part.text.len() > MAX_BYTES {
        out.push(note(format!(
            "{} bytes: an object of more than 1.5 MB does not fit into etcd",
            part.text.len()
        )));
    }
    out
}

fn check_object(index: usize, object: &Value, path: Path, options: &Options) -> Checked {
    let mut cx = Cx::new(options);
    let root = At::root(object, &path);
    let kind = kind_of_object(object);
    let mut specs = None;
    match kind {
        None => other_document(&mut cx, &root),
        Some(_) if object.get("sops").is_some_and(Value::is_object) => {
            cx.note(
                Refusal::Both,
                root.place("sops"),
                "the document is encrypted with SOPS: decrypt it first",
            );
        }
        Some(kind) => {
            schema::check(&mut cx, &root, kind);
            if kind == PolicyKind::KubernetesNetworkPolicy {
                kubernetes::check(&mut cx, &root);
            }
            let found = object_specs(&mut cx, index, object, &path);
            merge(&mut cx);
            warnings::document(&mut cx, &root, kind);
            if !cx.refused {
                warnings::specs(&mut cx, &found);
                conflicts::check(&mut cx, &found);
                specs = Some(found);
            }
            placeholders(&mut cx, &root);
        }
    }
    if cx.dropped > 0 {
        let message = format!("{} more findings are left out", cx.dropped);
        cx.problems.push(Problem { path: path.clone(), refusal: Refusal::Information, message });
    }
    let findings = cx.problems.into_iter().map(|problem| problem.finding(index, object)).collect();
    Checked { document: index, path, kind, findings, specs }
}

/// Where the API server and the agent refuse the same place, one finding names both.
fn merge(cx: &mut Cx<'_>) {
    let mut first: HashMap<Path, usize> = HashMap::new();
    let mut out: Vec<Problem> = Vec::new();
    for problem in cx.problems.drain(..) {
        match first.get(&problem.path).and_then(|i| out.get_mut(*i)) {
            Some(found) if problem.refusal == Refusal::Agent && found.refusal == Refusal::ApiServer => {
                found.refusal = Refusal::Both;
            }
            Some(found) if found.refusal == Refusal::Both && problem.refusal == Refusal::Agent => {}
            _ => {
                first.insert(problem.path.clone(), out.len());
                out.push(problem);
            }
        }
    }
    cx.problems = out;
}

/// A document that is no policy.
fn other_document(cx: &mut Cx<'_>, root: &At<'_>) {
    let text = |name: &str| root.value.get(name).and_then(Value::as_str);
    let (version, kind) = (text("apiVersion"), text("kind"));
    let is_patch = |item: &Value| item.get("op").is_some() && item.get("path").is_some();
    let (refusal, message) = match (version, kind) {
        (Some(version), Some(kind)) => {
            let ours = PolicyKind::ALL.into_iter().find(|k| k.as_str() == kind);
            match ours {
                // NetworkPolicy is the name of other projects' kinds too.
                Some(ours)
                    if ours != PolicyKind::KubernetesNetworkPolicy && version.starts_with("cilium.io/") =>
                {
                    (
                        Refusal::ApiServer,
                        format!("{kind} is {}, not {}", ours.api_version(), visible(version, 60)),
                    )
                }
                Some(ours) if ours != PolicyKind::KubernetesNetworkPolicy => (
                    Refusal::ApiServer,
                    format!(
                        "no cluster knows {kind} as {}; it is {}",
                        visible(version, 60),
                        ours.api_version()
                    ),
                ),
                _ => (
                    Refusal::Information,
                    format!(
                        "{} {} is no policy that Cilium reads: not checked",
                        visible(version, 60),
                        visible(kind, 60)
                    ),
                ),
            }
        }
        _ if root.value.get("sops").is_some() => {
            (Refusal::ApiServer, "the document is encrypted with SOPS: decrypt it first".into())
        }
        _ if root.value.as_array().is_some_and(|list| list.iter().all(is_patch)) => {
            (Refusal::ApiServer, "a JSON patch, not an object: not checked".into())
        }
        _ if root.value.get("$patch").is_some() => {
            (Refusal::ApiServer, "a patch, not an object: not checked".into())
        }
        _ => (Refusal::ApiServer, "no Kubernetes object: apiVersion and kind must be given".into()),
    };
    cx.note(refusal, root.path(), message);
}

/// A hint for values that something is to fill in before the policy is applied.
fn placeholders(cx: &mut Cx<'_>, root: &At<'_>) {
    if cx.refused
        && let Some(what) = placeholder(root.value)
    {
        let message = format!("has placeholders like `{}`: fill them in before checking", visible(&what, 40));
        cx.note(Refusal::Information, root.path(), message);
    }
}

/// The first text with a placeholder in it. Documents are not deep: the reader refuses those.
fn placeholder(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (text.contains("${") || text.contains("{{")).then(|| text.clone()),
        Value::Array(list) => list.iter().find_map(placeholder),
        Value::Object(map) => map.values().find_map(placeholder),
        _ => None,
    }
}

/// Characters that Go refuses in YAML, or at their place in it.
fn character(index: usize, part: &split::Part<'_>) -> Option<Checked> {
    let fits = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    let (at, what) = match part.text.char_indices().find(|(_, c)| !fits(*c)) {
        Some((at, c)) => (at, format!("the character U+{:04X} may not stand there", u32::from(c))),
        None => (tabs::find(part.text)?, "a tab stands where indentation wants spaces".into()),
    };
    let before = part.text.get(..at).unwrap_or_default();
    let (lines, line) = (before.matches('\n').count(), before.rsplit('\n').next().unwrap_or_default());
    let number = |n: usize| u32::try_from(n + 1).unwrap_or(u32::MAX);
    let mark = Mark { line: part.lines + number(lines), column: number(line.chars().count()) };
    Some(refused(index, Some(mark), format!("cannot be read as YAML: {what}")))
}

fn refused(index: usize, mark: Option<Mark>, message: String) -> Checked {
    let problem = Problem { path: Path::root(), refusal: Refusal::Both, message };
    let finding = Finding { mark, ..problem.finding(index, &Value::Null) };
    Checked { document: index, path: Path::root(), kind: None, findings: vec![finding], specs: None }
}

fn unreadable(index: usize, part: &split::Part<'_>, error: &yaml::YamlError) -> Checked {
    let template = part.text.contains("{{");
    let hint = if template { "; it looks like a template: render it first" } else { "" };
    let error_text = error.to_string();
    // The place is in the finding; the parser counts from the start of this document.
    let place = error_text.strip_prefix("error: line ").and_then(|rest| rest.split_once(": "));
    let what = place.map_or(error_text.as_str(), |(_, what)| what);
    let message = format!("cannot be read as YAML: {what}{hint}");
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let mark = error
        .place()
        .map(|(line, column)| Mark { line: number(line).saturating_add(part.lines), column: number(column) });
    refused(index, mark, message)
}

/// For each document (from 0; empty ones do not count) and path the line and column where it is, or where
/// the nearest thing above it is that is there; `None` for a document that the text does not have.
pub fn marks(text: &str, places: &[(usize, &Path)]) -> Vec<Option<Mark>> {
    let mut found = vec![None; places.len()];
    for (document, part) in split::split(text).iter().enumerate() {
        let wanted: Vec<usize> = (0..places.len()).filter(|i| places[*i].0 == document).collect();
        if wanted.is_empty() {
            continue;
        }
        let paths: Vec<&Path> = wanted.iter().map(|i| places[*i].1).collect();
        for (i, mark) in wanted.into_iter().zip(positions::locate(part.text, part.lines, &paths)) {
            found[i] = mark;
        }
    }
    found
}

/// Fills in lines and columns.
fn place(objects: &mut [Checked], part: &split::Part<'_>) {
    let mut wanted: Vec<(Path, &mut Option<Mark>)> = Vec::new();
    for object in objects {
        wanted.extend(object.findings.iter_mut().map(|f| (f.path.clone(), &mut f.mark)));
        for spec in object.specs.iter_mut().flatten() {
            wanted.push((spec.origin.path.clone(), &mut spec.origin.mark));
            let rules = spec.ingress.rules.iter_mut().chain(&mut spec.egress.rules);
            wanted.extend(rules.map(|rule| (rule.path.clone(), &mut rule.mark)));
        }
    }
    if wanted.is_empty() {
        return;
    }
    let paths: Vec<&Path> = wanted.iter().map(|(path, _)| path).collect();
    let marks = positions::locate(part.text, part.lines, &paths);
    for ((_, slot), mark) in wanted.into_iter().zip(marks) {
        *slot = mark;
    }
}

#[cfg(test)]
mod tests;
