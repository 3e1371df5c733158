//! A text cut into its YAML documents, so that one that cannot be read does not hide the others.

/// One document of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'a> {
    /// Its text, without the separators.
    pub(super) text: &'a str,
    /// How many lines stand before it.
    pub(super) lines: u32,
    /// Before it stands `...`, or a separator with more than a comment behind `---`: kubectl does not
    /// read it.
    pub(super) hidden: bool,
}

/// The documents that hold anything but comments and directives.
pub(super) fn split(text: &str) -> Vec<Part<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts = Vec::new();
    let (mut start, mut lines, mut hidden) = (0, 0, false);
    let mut position = 0;
    let mut number: u32 = 0;
    for line in text.split_inclusive('\n') {
        let end = position + line.len();
        number += 1;
        let rest = ["---", "..."].iter().find_map(|mark| line.strip_prefix(mark));
        if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])) {
            let before = text.get(start..position).unwrap_or_default();
            if has_content(before) {
                parts.push(Part { text: before, lines, hidden });
            }
            let comment = rest.trim_start().starts_with('#');
            // What stands behind `--- ` belongs to the next document, a comment included.
            let inline = !rest.trim().is_empty() && line.starts_with("---");
            // kubectl stops at `...` and reads on behind the next `---`.
            hidden = (inline && !comment) || line.starts_with("...");
            if inline && !comment {
                // Keep the columns: the document begins with the separator's line.
                (start, lines) = (position, number - 1);
            } else {
                (start, lines) = (end, number);
            }
        }
        position = end;
    }
    let last = text.get(start..).unwrap_or_default();
    if has_content(last) {
        parts.push(Part { text: last, lines, hidden });
    }
    if let Some(first) = parts.first_mut() {
        // Nothing stands before the first one that kubectl could take it for a part of.
        first.hidden = false;
    }
    parts
}

/// Whether there is more than comments, blank lines and directives.
fn has_content(text: &str) -> bool {
    text.lines().any(|line| {
        let inner = line.trim();
        !inner.is_empty() && !inner.starts_with('#') && !line.starts_with('%')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, u32, bool)]) {
        let found: Vec<_> = split(text).iter().map(|p| (p.text.trim(), p.lines, p.hidden)).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn documents() {
        check("", &[]);
        check("---\n---\n# only a comment\n", &[]);
        check("a: 1", &[("a: 1", 0, false)]);
        check("a: 1\n---\nb: 2\n", &[("a: 1", 0, false), ("b: 2", 2, false)]);
        check("a: 1\r\n---\r\nb: 2\r\n", &[("a: 1", 0, false), ("b: 2", 2, false)]);
        check("---\na: 1\n...\n---\n\n# c\n---\nb: 2", &[("a: 1", 1, false), ("b: 2", 7, false)]);
        check("a: 1\n--- # x\nb: 2\n", &[("a: 1", 0, false), ("b: 2", 2, false)]);
        check("a: 1\n--- {b: 2}\n", &[("a: 1", 0, false), ("--- {b: 2}", 1, true)]);
        check("%YAML 1.2\n---\na: 1\n", &[("a: 1", 2, false)]);
        check("a: |\n  ---\n  x\n----\n", &[("a: |\n  ---\n  x\n----", 0, false)]);
        check("\u{feff}a: 1\n", &[("a: 1", 0, false)]);
    }
}
