//! Expressions of HTTP rules: RE2 in Envoy, the `regex` crate here.
//!
//! Both speak one language up to corners. Where a corner can be written in the other way it is
//! (`/items/{id}`, `[[a]`, `[a&&b]`); where it cannot, nobody here can tell what the expression means, and
//! the answer is that it could not be checked: `\Q..\E`, octal escapes, `\C`, ranges from or to `--` in a
//! class, what is too large, and what Go's `regexp`, which speaks RE2's language, refuses (Cilium asks
//! Go about `path` and `method`; a bad `host` only fails in Envoy, which then keeps its earlier policy).
//! `\d`, `\w`, `\s` and `\b` mean ASCII to RE2, so they are not decided for other text.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

use crate::policy::spec::go_regexp_check;

/// What one compiled expression, and what it remembers while it runs, may take in memory: bytes.
const SIZE: usize = 1 << 18;

/// An expression that must match the whole of a text. It is compiled when it is first asked.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    text: Box<str>,
    /// `None` inside: it cannot be read.
    compiled: OnceLock<Option<Regex>>,
}

// === impl Expression ===

impl Expression {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }

    /// Whether it matches the whole text; `None` where that cannot be told.
    pub(super) fn matches(&self, text: &str) -> Option<bool> {
        if !self.text.contains(['\\', '.', '+', '*', '?', '(', ')', '[', ']', '{', '}', '^', '$', '|']) {
            return Some(*self.text == *text);
        }
        let compiled = self.compiled.get_or_init(|| compile(&self.text)).as_ref()?;
        if !text.is_ascii() && has_ascii_class(&self.text) {
            return None;
        }
        Some(compiled.is_match(text))
    }
}

fn compile(text: &str) -> Option<Regex> {
    go_regexp_check(text).ok()?;
    let whole = format!(r"\A(?:{})\z", translate(text)?);
    RegexBuilder::new(&whole).size_limit(SIZE).dfa_size_limit(SIZE).build().ok()
}

fn has_ascii_class(text: &str) -> bool {
    text.as_bytes().windows(2).any(|two| two[0] == b'\\' && b"dDwWsSbB".contains(&two[1]))
}

/// The same expression as the `regex` crate writes it. It is one that Go takes.
fn translate(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(after, &mut out)?,
            '[' => class(after, &mut out)?,
            '{' if !is_repetition(after) => {
                out.push_str(r"\{");
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    Some(out)
}

/// What follows a backslash. Letters that only one of the two knows cannot be read.
fn escape<'a>(after: &'a str, out: &mut String) -> Option<&'a str> {
    let c = after.chars().next()?;
    if matches!(c, 'Q' | 'E' | 'C' | '0'..='9') {
        return None;
    }
    out.push('\\');
    out.push(c);
    Some(&after[c.len_utf8()..])
}

/// What follows a `[`.
fn class<'a>(after: &'a str, out: &mut String) -> Option<&'a str> {
    out.push('[');
    let mut rest = after;
    if let Some(negated) = rest.strip_prefix('^') {
        out.push('^');
        rest = negated;
    }
    // One that comes first is itself.
    if let Some(first) = rest.strip_prefix(']') {
        out.push_str(r"\]");
        rest = first;
    }
    loop {
        let c = rest.chars().next()?;
        let after = &rest[c.len_utf8()..];
        rest = match c {
            ']' => {
                out.push(']');
                return Some(after);
            }
            '\\' => escape(after, out)?,
            '[' if after.starts_with(':') => {
                let end = after.find(":]")? + 2;
                out.push('[');
                out.push_str(&after[..end]);
                &after[end..]
            }
            '-' if after.starts_with('-') => return None,
            '[' | '&' | '~' => {
                out.push('\\');
                out.push(c);
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
}

/// Whether what follows a `{` makes it a repetition: `2}`, `2,}` or `2,3}`.
fn is_repetition(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else { return false };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match inside.split_once(',') {
        Some((least, most)) => number(least) && (most.is_empty() || number(most)),
        None => number(inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expression: &str, matches: &[&str], others: &[&str]) {
        let prepared = Expression::new(expression);
        for text in matches {
            assert_eq!(prepared.matches(text), Some(true), "{expression} must match {text}");
        }
        for text in others {
            assert_eq!(prepared.matches(text), Some(false), "{expression} must not match {text}");
        }
    }

    #[track_caller]
    fn check_unreadable(expression: &str) {
        assert_eq!(Expression::new(expression).matches("a"), None, "{expression}");
    }

    #[test]
    fn the_whole_text_must_match() {
        check("GET", &["GET"], &["get", "GETS", "TARGET", ""]);
        check("GET|POST", &["GET", "POST"], &["GETPOST", "GET|POST"]);
        check("/v1/.*", &["/v1/", "/v1/a?b=c"], &["/v1", "x/v1/a", "/v1/a\n"]);
        check("/public", &["/public"], &["/public?x=1", "/public/"]);
        check("^/a$", &["/a"], &["/a\n", "/ab"]);
        check("(?i)get", &["GET", "get"], &["got"]);
    }

    #[test]
    fn what_both_mean_but_write_differently() {
        check("/items/{id}", &["/items/{id}"], &["/items/7"]);
        check("a{,2}", &["a{,2}"], &["a", "aa"]);
        check("a{2}b{1,}c{0,1}", &["aab", "aabbc"], &["ab", "aa"]);
        check("[[a]+", &["[a["], &["b"]);
        check("[a&&b~~]+", &["a&b~"], &["c"]);
        check("[]a]", &["]", "a"], &["]a"]);
        check("[^]a]", &["b"], &["]", "a"]);
        check("[[:digit:]x]+", &["1x2"], &["y"]);
        check(r"[\]\-x]+", &["]-x"], &["y"]);
        check(r"/a\.b\{c\}", &["/a.b{c}"], &["/aXb{c}"]);
        check(r"\x41\x{42}", &["AB"], &["ab"]);
    }

    #[test]
    fn what_cannot_be_read() {
        for expression in
            [r"\Qa.b\E", r"\101.", r"\C", "[a--]", "(", "a**", "a{1001}", "[z-a]", r"\u0041.", "(?x)a b"]
        {
            check_unreadable(expression);
        }
        check_unreadable(&"(a{50}){20}".repeat(40));
    }

    #[test]
    fn classes_of_ascii_are_not_decided_for_other_text() {
        assert_eq!(Expression::new(r"/\w+").matches("/\u{e9}"), None);
        assert_eq!(Expression::new(r"/\w+").matches("/e"), Some(true));
        assert_eq!(Expression::new(r"/.+").matches("/\u{e9}"), Some(true));
    }
}
