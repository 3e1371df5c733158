//! Rules joined into a file, so that nothing is lost and nothing widens.
//!
//! A file whose bytes are the canonical rendering of its own meaning is rendered anew from the joined
//! policy. Any other file has been in people's hands: it is only inserted into, at node level, and
//! what comes out is read again and compared with what was meant; on any difference it is refused.
//! A refused file stays as it is, and the caller writes the additions to a file of their own.

mod cover;
mod edit;
mod places;
mod plan;
mod refusal;
mod requests;
mod stream;
mod style;
#[cfg(test)]
mod tests;

pub use places::{Says, Written, meaning, written};
pub use refusal::Refusal;
pub use stream::Stream;

use std::collections::BTreeSet;

use crate::flow::Direction;
use crate::names::Namespace;
use crate::policy::{
    Document, Kind, NAMESPACE_KEY, Peer, Policy, Rule, Selector, read_documents, subject_of,
};

use cover::Standing;

/// A text with the needed rules in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The whole text; the very bytes of the existing one when it need not change.
    pub text: String,
    /// The rules that were not there before, in canonical order.
    pub added: Vec<Rule>,
    /// The rules that were there already.
    pub present: Vec<Rule>,
    /// The rules that were not written, each with the reason: beside what a person wrote they would
    /// not mean what they say.
    pub conflicts: Vec<(Rule, String)>,
    /// The directions of `added` in which the file had no rule for this subject before: the pods it
    /// selects enter default deny there.
    pub first_in_direction: Vec<Direction>,
    /// What happened to the text.
    pub outcome: Outcome,
}

/// What a merge did to a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// There was none before.
    Created,
    /// It is another one now.
    Updated,
    /// It is the same, byte by byte.
    Unchanged,
}

/// Joins `additions` into a text. `home` is the namespace that documents without one belong to.
///
/// The name of `additions` is used only when there is no text yet.
pub fn merge(
    existing: Option<&str>,
    home: Option<&Namespace>,
    additions: &Policy,
) -> Result<Merged, Refusal> {
    let Some(text) = existing else { return create(additions) };
    if let Some(policy) = Policy::from_canonical(text) {
        return join(text, policy, additions);
    }
    let mut stream = Stream::read(Some(text));
    let merged = stream.join(home, additions, false)?;
    let text = if merged.outcome == Outcome::Unchanged { text.to_owned() } else { stream.text()? };
    Ok(Merged { text, ..merged })
}

/// A new file.
fn create(additions: &Policy) -> Result<Merged, Refusal> {
    let added: Vec<Rule> = additions.rules().collect();
    if added.is_empty() {
        return Ok(Merged::unchanged(""));
    }
    let text = additions.render().map_err(|e| Refusal::NotEditable(e.to_string()))?;
    let first_in_direction = directions(&added).into_iter().collect();
    Ok(Merged { text, added, first_in_direction, outcome: Outcome::Created, ..Merged::unchanged("") })
}

/// A file that cpg wrote and nobody touched since.
fn join(text: &str, mut policy: Policy, additions: &Policy) -> Result<Merged, Refusal> {
    let own = subject_of(
        &serde_json::json!({"endpointSelector": {"matchLabels": labels(&policy.subject.selector)}}),
        policy.subject.namespace.clone(),
    );
    if own.as_ref() != Some(&additions.subject) {
        return Err(Refusal::NoDocument(additions.subject.to_string()));
    }
    let namespace = policy.subject.namespace.clone();
    let before = directions(&policy.rules().collect::<Vec<_>>());
    let mut merged = Merged::unchanged(text);
    for rule in additions.rules() {
        let same = same_peer(&rule.peer, &namespace);
        let twins: BTreeSet<Peer> = policy
            .direction(rule.direction)
            .iter()
            .map(|(peer, ..)| peer)
            .filter(|peer| same_peer(peer, &namespace) == same)
            .cloned()
            .collect();
        let known = policy.direction(rule.direction);
        if twins.iter().any(|twin| known.has(twin, rule.allow, rule.l7.as_ref())) {
            merged.present.push(rule);
            continue;
        }
        // A peer that stands there in another spelling keeps it.
        let peer = twins.into_iter().next().unwrap_or_else(|| rule.peer.clone());
        policy.add(Rule { peer, ..rule.clone() });
        merged.added.push(rule);
    }
    if !merged.added.is_empty() {
        merged.text = policy.render().map_err(|e| Refusal::NotEditable(e.to_string()))?;
        merged.outcome = Outcome::Updated;
    }
    merged.first_in_direction = directions(&merged.added).difference(&before).copied().collect();
    Ok(merged)
}

/// A file that has been in people's hands.
fn insert(
    text: &str,
    documents: &[Document],
    home: Option<&Namespace>,
    additions: &Policy,
) -> Result<Merged, Refusal> {
    let subject = &additions.subject;
    let mut sets = Vec::new();
    let mut target = None;
    for document in documents.iter().filter(|d| d.kind == Kind::CiliumNetworkPolicy) {
        if document.namespace(home).as_ref() != Some(&subject.namespace) {
            continue;
        }
        let equal =
            |set: &&serde_json::Value| subject_of(set, subject.namespace.clone()).as_ref() == Some(subject);
        sets.extend(document.rule_sets().filter(equal));
        if target.is_none() && document.subject(home).as_ref() == Some(subject) {
            target = Some(document);
        }
    }
    if sets.is_empty() {
        return Err(Refusal::without_document(documents, subject));
    }
    let mut merged = Merged::unchanged(text);
    for rule in additions.rules() {
        match sets
            .iter()
            .fold(Standing::Apart, |s, set| s.max(cover::standing(set, &rule, &subject.namespace)))
        {
            Standing::Apart => merged.added.push(rule),
            Standing::Covered => merged.present.push(rule),
            Standing::Restricted(why) | Standing::Bound(why) => merged.conflicts.push((rule, why)),
        }
    }
    if merged.added.is_empty() {
        return Ok(merged);
    }
    if documents.iter().any(|document| document.value.get("sops").is_some_and(serde_json::Value::is_object)) {
        return Err(Refusal::Encrypted);
    }
    let Some(target) = target else { return Err(Refusal::OnlySpecs) };
    let edits = plan::plan(target, &merged.added, additions)?;
    merged.text = edit::apply(text, documents, target.index, &edits)?;
    merged.outcome = Outcome::Updated;
    let before: BTreeSet<Direction> = sets.iter().flat_map(|set| directions_of(set)).collect();
    merged.first_in_direction = directions(&merged.added).difference(&before).copied().collect();
    Ok(merged)
}

/// The directions in which a rule set (`spec`, an item of `specs`) has rules, allowing or denying: those
/// in which the pods it selects are in default deny, unless it says otherwise.
pub fn directions_of(set: &serde_json::Value) -> BTreeSet<Direction> {
    let filled =
        |key: &str| set.get(key).and_then(serde_json::Value::as_array).is_some_and(|l| !l.is_empty());
    let mut directions = BTreeSet::new();
    if filled("ingress") || filled("ingressDeny") {
        directions.insert(Direction::Ingress);
    }
    if filled("egress") || filled("egressDeny") {
        directions.insert(Direction::Egress);
    }
    directions
}

fn directions(rules: &[Rule]) -> BTreeSet<Direction> {
    rules.iter().map(|rule| rule.direction).collect()
}

fn labels(selector: &Selector) -> serde_json::Map<String, serde_json::Value> {
    selector.iter().map(|(key, value)| (key.to_owned(), value.into())).collect()
}

/// A peer without the namespace that Cilium would add by itself, and with host bits masked: two peers
/// that mean the same are equal then.
fn same_peer(peer: &Peer, namespace: &Namespace) -> Peer {
    match peer {
        Peer::Endpoints(selector) if selector.get(NAMESPACE_KEY) == Some(namespace.as_str()) => {
            // With a label of the namespace, or a reserved one, Cilium adds no namespace.
            let added = selector.iter().all(|(key, _)| {
                !key.starts_with("k8s:io.cilium.k8s.namespace.labels.") && !key.starts_with("reserved:")
            });
            match selector.without(NAMESPACE_KEY) {
                Some(shorter) if added => Peer::Endpoints(shorter),
                _ => peer.clone(),
            }
        }
        Peer::Endpoints(_) | Peer::Entity(_) | Peer::Fqdn(_) => peer.clone(),
        Peer::Cidr(net) => Peer::Cidr(net.trunc()),
    }
}

// === impl Merged ===

impl Merged {
    fn unchanged(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            added: Vec::new(),
            present: Vec::new(),
            conflicts: Vec::new(),
            first_in_direction: Vec::new(),
            outcome: Outcome::Unchanged,
        }
    }
}
