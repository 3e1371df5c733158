//! The only place that edits YAML text in place: insertions, each checked to be nothing but that.

use std::str::FromStr;

use serde_json::Value;
use yaml_edit::{Sequence, SyntaxKind, YamlFile, YamlNode};

use super::Refusal;
use super::plan::{Edit, Place, Step};
use super::refusal::is_template;
use crate::policy::{Document, read_documents};

/// Inserts into document `index` of a text, reads the result and compares it with what was meant.
pub(super) fn apply(
    text: &str,
    documents: &[Document],
    index: usize,
    edits: &[Edit],
) -> Result<String, Refusal> {
    forbidden(text)?;
    let mut intended: Vec<Value> = documents.iter().map(|document| document.value.clone()).collect();
    let mut now = text.to_owned();
    for edit in edits {
        let target = intended.get_mut(index);
        target.and_then(|value| edit.apply_to(value)).ok_or_else(|| odd("its lists stand elsewhere"))?;
        let next =
            apply_one(&now, index, edit).ok_or_else(|| odd("its structure is not found in the text"))?;
        if !is_insertion(&now, &next) {
            return Err(odd("an insertion would change what stands there"));
        }
        now = next;
    }
    let read = read_documents(&now).map_err(|_| odd("the result would not be readable"))?;
    if read.len() != intended.len() || read.iter().zip(&intended).any(|(read, meant)| read.value != *meant) {
        return Err(odd("the result would mean something else"));
    }
    Ok(now)
}

fn odd(what: &str) -> Refusal {
    Refusal::NotEditable(what.to_owned())
}

/// What makes a text unfit for editing in place.
fn forbidden(text: &str) -> Result<(), Refusal> {
    if is_template(text) {
        return Err(Refusal::Templated);
    }
    for (kind, _) in yaml_edit::lex(text) {
        match kind {
            SyntaxKind::MERGE_KEY => return Err(Refusal::MergeKeys),
            SyntaxKind::ANCHOR => return Err(Refusal::Anchors),
            SyntaxKind::REFERENCE => return Err(Refusal::Aliases),
            SyntaxKind::TAG => return Err(Refusal::Tags),
            _ => {}
        }
    }
    Ok(())
}

/// One insertion. `None` when the text has not the structure that its value has, which the caller
/// refuses.
fn apply_one(text: &str, index: usize, edit: &Edit) -> Option<String> {
    let file = YamlFile::from_str(text).ok()?;
    let source = YamlFile::from_str(&edit.source).ok()?;
    let new = edit.keys.iter().try_fold(root(&source, 0)?, |at, key| at.as_mapping()?.get(*key))?;
    let new = new.as_sequence()?;

    let spec = root(&file, index)?.as_mapping()?.get_mapping("spec")?;
    if let Place::Rules = edit.place {
        let key = edit.direction.as_str();
        match spec.get_sequence(key).filter(|list| !list.is_empty()) {
            Some(list) => push_all(&list, new),
            None => spec.set(key, new),
        }
    } else {
        let mut at = YamlNode::Mapping(spec);
        for step in edit.path() {
            at = match step {
                Step::Key(key) => at.as_mapping()?.get(key)?,
                Step::Index(index) => at.as_sequence()?.get(index)?,
            };
        }
        push_all(at.as_sequence()?, new);
    }
    Some(file.to_string())
}

/// The root of document `index`, counted like `read_documents` does: empty documents do not count.
fn root(file: &YamlFile, index: usize) -> Option<YamlNode> {
    let document = file.documents().filter(|d| !is_empty(d)).nth(index)?;
    document.as_mapping().map(YamlNode::Mapping)
}

fn is_empty(document: &yaml_edit::Document) -> bool {
    document.as_mapping().is_none() && document.as_sequence().is_none() && document.as_scalar().is_none()
}

fn push_all(list: &Sequence, new: &Sequence) {
    for item in new.values() {
        list.push(item);
    }
}

/// Whether `new` is `old` with one piece of text inserted, or with one piece that says "nothing"
/// (`[]`, `null`) replaced.
fn is_insertion(old: &str, new: &str) -> bool {
    let (old_bytes, new_bytes) = (old.as_bytes(), new.as_bytes());
    let start = old_bytes.iter().zip(new_bytes).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old_bytes[start..], &new_bytes[start..]);
    let end = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let gone = old_rest[..old_rest.len() - end].trim_ascii();
    matches!(gone, b"" | b"[]" | b"[ ]" | b"]" | b"null" | b"Null" | b"NULL" | b"~")
}
