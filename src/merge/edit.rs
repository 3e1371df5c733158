//! The only place that edits YAML text in place: insertions, each checked to be nothing but that.

use std::str::FromStr;

use serde_json::Value;
use yaml_edit::{Sequence, SyntaxKind, YamlFile, YamlNode};

use super::plan::{Edit, Place, Step};
use super::refusal::is_template;
use super::{Refusal, style};
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
    let indented = style::indents_lists(text);
    // Without it the last line would be a special case; it goes again at the end.
    let missing = match (text.ends_with('\n'), text.contains("\r\n")) {
        (true, _) => "",
        (false, true) => "\r\n",
        (false, false) => "\n",
    };
    let mut now = format!("{text}{missing}");
    for edit in edits {
        let target = intended.get_mut(index).ok_or_else(|| odd("a document is gone"))?;
        let list = target.get("spec").and_then(|spec| spec.get(edit.direction.as_str()));
        let is_first = list.and_then(Value::as_array).is_none_or(Vec::is_empty);
        edit.apply_to(target).ok_or_else(|| odd("its lists stand elsewhere"))?;
        let next = apply_one(&now, index, edit, indented);
        let next = next.ok_or_else(|| odd("its structure is not found in the text"))?;
        let settled = inserted(&now, &next, is_first, indented);
        now = settled.ok_or_else(|| odd("an insertion would change what stands there"))?;
    }
    if let Some(without) = now.strip_suffix(missing) {
        now.truncate(without.len());
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
fn apply_one(text: &str, index: usize, edit: &Edit, indented: bool) -> Option<String> {
    let file = YamlFile::from_str(text).ok()?;
    let source = if indented { style::with_indented_lists(&edit.source) } else { edit.source.clone() };
    let source = YamlFile::from_str(&source).ok()?;
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

/// `new`, if it is `old` with one piece of text inserted; where that is the first rule of a direction,
/// the word for "nothing" (`[]`, `null`, blanks) may have gone for it.
fn inserted(old: &str, new: &str, is_first: bool, indented: bool) -> Option<String> {
    let level = is_first && !indented;
    if let Some(settled) = settled(old, new, level) {
        return Some(settled);
    }
    if !is_first {
        return None;
    }
    let start = common_prefix(old, new);
    let rest = old[start..].trim_start_matches(' ');
    ["[]", "[ ]", "]", "null", "Null", "NULL", "~", ""].iter().find_map(|word| {
        let rest = rest.strip_prefix(word)?;
        let tries = [rest, rest.trim_start_matches(' ')];
        tries.iter().find_map(|rest| settled(&format!("{}{rest}", &old[..start]), new, level))
    })
}

/// `new` with its one insertion moved behind the comments that belong to what stands before it: those
/// that are indented deeper than what was inserted; with `level`, its list at the column of its key.
/// `None` when it is not one insertion into `old`.
fn settled(old: &str, new: &str, level: bool) -> Option<String> {
    let length = new.len().checked_sub(old.len())?;
    let mut start = common_prefix(old, new);
    if !new.is_char_boundary(start + length) || new[start + length..] != old[start..] {
        return None;
    }
    // `ab|ab|c` is also `|ab|abc`: the piece as whole lines, if it can be had.
    let bytes = new.as_bytes();
    while length > 0
        && start > 0
        && bytes[start - 1] != b'\n'
        && bytes[start - 1] == bytes[start + length - 1]
    {
        start -= 1;
    }
    if !(new.is_char_boundary(start) && new.is_char_boundary(start + length)) {
        return None;
    }
    let piece = &new[start..start + length];
    if !piece.ends_with('\n') || !(start == 0 || bytes[start - 1] == b'\n') {
        return Some(new.to_owned());
    }
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let rest = &old[start..];
    let mut at = 0;
    let mut behind = 0;
    for line in rest.split_inclusive('\n') {
        at += line.len();
        let is_comment = line.trim_start().starts_with('#');
        if is_comment && indent(line) > indent(piece) && line.ends_with('\n') {
            behind = at;
        } else if !line.trim().is_empty() {
            break;
        }
    }
    let levelled = level.then(|| style::with_level_list(piece));
    let piece = levelled.as_deref().unwrap_or(piece);
    Some(format!("{}{}{piece}{}", &old[..start], &rest[..behind], &rest[behind..]))
}

/// The length of the text that both begin with.
fn common_prefix(a: &str, b: &str) -> usize {
    let mut length = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    while !(a.is_char_boundary(length) && b.is_char_boundary(length)) {
        length -= 1;
    }
    length
}
