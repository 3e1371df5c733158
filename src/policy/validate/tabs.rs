//! Tabs in indentation: Go refuses them, while the parser here takes most of them. Both are right in
//! their way; what matters is what kubectl does.

use granit_parser::{Event, Parser, ScalarStyle, StructureStyle};

/// The byte at which a tab stands where Go wants spaces.
pub(super) fn find(text: &str) -> Option<usize> {
    let tabs = leading(text);
    if tabs.is_empty() {
        return None;
    }
    let pieces = pieces(text)?;
    let misplaced = tabs.into_iter().find(|tab| {
        let next = pieces.partition_point(|piece| piece.start <= tab.at);
        let Some(before) = next.checked_sub(1).and_then(|i| pieces.get(i)) else { return true };
        if tab.at < before.end {
            return false;
        }
        // White space behind a plain text belongs to it as far as it is indented deeper.
        let blank = text.get(before.end..tab.at).is_some_and(|gap| gap.trim().is_empty());
        !(blank && before.plain.is_some_and(|indent| tab.column > indent))
    });
    misplaced.map(|tab| tab.at)
}

struct Tab {
    at: usize,
    column: usize,
}

/// The first tab of each line that has only spaces, tabs and indicators before it.
fn leading(text: &str) -> Vec<Tab> {
    let mut out = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let bytes = line.as_bytes();
        let indicator = |i: usize| matches!(bytes.get(i + 1), Some(b' ' | b'\t'));
        let prefix = bytes.iter().enumerate().take_while(|(i, b)| match b {
            b' ' | b'\t' => true,
            b'-' | b'?' => indicator(*i),
            _ => false,
        });
        let tab = prefix.into_iter().find(|(_, b)| **b == b'\t').map(|(i, _)| i);
        out.extend(tab.map(|column| Tab { at: start + column, column }));
        start += line.len();
    }
    out
}

/// A text or a flow collection: tabs are free in it.
struct Piece {
    start: usize,
    end: usize,
    /// Of a plain text, the indentation of the map or list around it.
    plain: Option<usize>,
}

/// All of them in order; `None` when the text cannot be read.
fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut out = Vec::new();
    let mut blocks: Vec<usize> = Vec::new();
    let mut flow: Vec<usize> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        let (start, end) = (span.start.byte_offset()?, span.end.byte_offset()?);
        match event {
            Event::Scalar(_, style, ..) if flow.is_empty() => {
                let plain = (style == ScalarStyle::Plain).then(|| blocks.last().copied().unwrap_or(0));
                out.push(Piece { start, end, plain });
            }
            Event::SequenceStart(style, ..) | Event::MappingStart(style, ..) => {
                if style == StructureStyle::Flow || !flow.is_empty() {
                    flow.push(start);
                } else {
                    blocks.push(span.start.col());
                }
            }
            Event::SequenceEnd | Event::MappingEnd => match flow.pop() {
                Some(start) if flow.is_empty() => out.push(Piece { start, end, plain: None }),
                Some(_) => {}
                None => drop(blocks.pop()),
            },
            _ => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn as_go_reads_them() {
        // Each was given to kubectl's reader.
        for text in [
            "a: x\n \ty\n",
            "a:\tb\n",
            "a: 1\n  \t\nb: 2\n",
            "a: 'x\n \ty'\n",
            "a: 1 \t# c\n",
            "a: \t\n  b: 1\n",
            "a: >\n  x\n  \ty\n",
            "a: {\n\tb: 1}\n",
        ] {
            assert_eq!(find(text), None, "{text:?}");
        }
        for text in [
            "a:\n  b: 1\n\t\n  c: 2\n",
            "a:\n- \tx\n",
            "a:\n \t- b\n",
            "a:\n  b: 1\n\t# comment\n  c: 1\n",
            "a:\n \tb: 1\n",
            "a:\n-\tb: 1\n",
            "a:\n  \t b: 1\n",
            "? \ta\n: b\n",
            "a: &x\n \tb: 1\n",
            "a: [1,\n\t2]\n \t\nb: 1\n",
            "\t\na: 1\n",
            " \t# c\na: 1\n",
            "a: 1\n\t",
        ] {
            assert!(find(text).is_some(), "{text:?}");
        }
    }
}
