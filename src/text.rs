//! Text from outside made safe to show: what a flow, a file or a relay says never drives a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything that a terminal or a log reader could act on written as `\u{..}`:
/// control characters (C0, C1, DEL), line and paragraph separators, bidirectional overrides and
/// zero-width characters. Cut after `limit` characters, with `…` as the sign of it.
pub fn visible(text: &str, limit: usize) -> Cow<'_, str> {
    let long = text.len() > limit && text.chars().count() > limit;
    if !long && !text.chars().any(is_active) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().min(limit * 4) + 8);
    for c in text.chars().take(limit) {
        if is_active(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        } else {
            out.push(c);
        }
    }
    if long {
        out.push('…');
    }
    Cow::Owned(out)
}

/// Whether a character does something else than to stand there.
fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// An error and its causes, each once, joined with colons. Not yet safe to print: see [`visible`].
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    append_causes(&mut words, error);
    words
}

/// The causes of an error behind words that were found for it, each once.
pub fn append_causes(words: &mut String, error: &dyn std::error::Error) {
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !words.contains(&more) {
            words.push_str(": ");
            words.push_str(&more);
        }
        source = error.source();
    }
}

/// `1 flow`, `2 flows`: a count with its noun, the plural made with `s`.
pub fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(n)) }
}

/// A number with its thousands apart: `1,234,567`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// The names that are most like a text, at most five: those that contain it, then by edit distance.
pub fn near<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut scored: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let inside = wanted.len() >= 4 && name.contains(wanted);
            let distance = if inside { 1 } else { distance(wanted, name) };
            (distance <= 2.max(name.len() / 3)).then_some((distance, name))
        })
        .collect();
    scored.sort_unstable();
    scored.dedup();
    scored.into_iter().take(5).map(|(_, name)| name).collect()
}

/// Levenshtein distance; long texts are cut, since they are no near miss of anything.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(80).collect();
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(*ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, limit: usize, expected: &str) {
        assert_eq!(visible(text, limit), expected);
    }

    #[test]
    fn active_characters_are_written_out() {
        check("plain äöü", 100, "plain äöü");
        check("a\u{1b}[31mred", 100, "a\\u{1b}[31mred");
        check("a\r\nb", 100, "a\\u{d}\\u{a}b");
        check("\u{202e}evil", 100, "\\u{202e}evil");
        check("\u{9b}2J", 100, "\\u{9b}2J");
        check("abcdef", 3, "abc…");
        check("äöü", 3, "äöü");
    }

    #[test]
    fn numbers() {
        assert_eq!(count(1, "flow"), "1 flow");
        assert_eq!(count(0, "flow"), "0 flows");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
    }
}
