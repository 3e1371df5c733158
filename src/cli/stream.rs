//! `--stdout`: the policies that a run would write, as one stream of documents.

use std::io::{IsTerminal as _, Write as _};

use super::diff::shown;
use crate::store::Change;

/// Writes the new texts to standard output, one after the other.
pub(super) fn show(changes: &[Change]) {
    let text = joined(changes.iter().map(|change| change.new.as_str()));
    let mut out = std::io::stdout().lock();
    let safe = out.is_terminal().then(|| text.lines().map(|line| shown(line) + "\n").collect::<String>());
    // A reader that has gone is no error.
    let _ = out.write_all(safe.as_ref().unwrap_or(&text).as_bytes());
    let _ = out.flush();
}

/// Files as documents of one stream.
fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut stream = String::new();
    for text in texts {
        if !stream.is_empty() {
            if !stream.ends_with('\n') {
                stream.push('\n');
            }
            // A directive belongs to the document that follows it, so the one before must have ended.
            stream.push_str(if text.starts_with('%') { "...\n" } else { "---\n" });
        }
        stream.push_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    }
    stream
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::read_documents;

    #[test]
    fn every_document_of_every_file_once() {
        let check = |texts: &[&str], expected: usize| {
            let stream = joined(texts.iter().copied());
            assert_eq!(read_documents(&stream).unwrap().len(), expected, "{stream}");
        };
        check(&[], 0);
        check(&["a: 1\n", "b: 2", "# mine\n---\nc: 3\n---\nd: 4\n"], 4);
        check(&["\u{feff}a: 1", "\u{feff}---\nb: 2\n...\n", "%YAML 1.2\n---\nc: 3\n"], 3);
    }
}
