//! Paths of HTTP rules in the one form that cpg writes: exactly a path, or one with places at which any
//! segment may stand, each with or without a query.
//!
//! Envoy holds the expression against the whole of `:path`, query included (`HeaderMatcher` with
//! `safe_regex` is a full match), so it needs no anchors. What is escaped is what Go's `QuoteMeta`
//! escapes; RE2, Go and the `regex` crate read the result alike.

use std::fmt::{self, Write as _};

use super::HttpMatch;

/// Any one segment that is not empty. It also takes a `?`, so what stands behind it may be a query's end.
const ANY: &str = "[^/]+";
/// A query, or none.
const QUERY: &str = r"(\?.*)?";
/// What means something to RE2.
const META: &str = r"\.+*?()|[]{}^$";

/// A path as cpg writes it in a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathForm(Box<[Segment]>);

/// What stands between two slashes of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// Exactly this, as it was sent; it may be empty.
    Exactly(Box<str>),
    /// Anything but nothing.
    Any,
}

// === impl PathForm ===

impl PathForm {
    /// Exactly this path. `None` where it is none that a rule can be written for: it does not begin with
    /// `/`, or has a control character, a query or a fragment.
    pub fn exactly(path: &str) -> Option<Self> {
        let rest = path.strip_prefix('/')?;
        let wrong = |c: char| c.is_control() || c == '?' || c == '#';
        (!rest.contains(wrong)).then(|| Self(rest.split('/').map(|s| Segment::Exactly(s.into())).collect()))
    }

    /// A path of these segments; at least one.
    pub fn of(segments: impl IntoIterator<Item = Segment>) -> Option<Self> {
        let segments: Box<[Segment]> = segments.into_iter().collect();
        (!segments.is_empty()).then_some(Self(segments))
    }

    /// From a rule's expression; `None` for every expression that cpg does not write.
    pub fn parse(expression: &str) -> Option<Self> {
        let mut rest = expression.strip_suffix(QUERY)?;
        let mut segments = Vec::new();
        while let Some(after) = rest.strip_prefix('/') {
            let (segment, next) = match after.strip_prefix(ANY) {
                Some(next) if next.is_empty() || next.starts_with('/') => (Segment::Any, next),
                _ => {
                    let (text, next) = unescaped(after)?;
                    (Segment::Exactly(text.into()), next)
                }
            };
            segments.push(segment);
            rest = next;
        }
        let form = Self::of(segments)?;
        (rest.is_empty() && form.to_string() == expression).then_some(form)
    }

    /// The segments, at least one.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Whether every path of the other one is one of this.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(ours, theirs)| match (ours, theirs) {
                (Segment::Any, Segment::Any) => true,
                (Segment::Any, Segment::Exactly(text)) => !text.is_empty(),
                (ours, theirs) => ours == theirs,
            })
    }

    /// Whether any segment may stand somewhere.
    pub fn is_open(&self) -> bool {
        self.0.contains(&Segment::Any)
    }

    /// A path that it means.
    pub fn example(&self) -> String {
        self.0.iter().fold(String::new(), |mut path, segment| {
            path.push('/');
            path.push_str(match segment {
                Segment::Exactly(text) => text,
                // A segment that hardly any rule names.
                Segment::Any => "cpg-any",
            });
            path
        })
    }
}

impl fmt::Display for PathForm {
    /// The expression.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.0 {
            f.write_char('/')?;
            match segment {
                Segment::Any => f.write_str(ANY)?,
                Segment::Exactly(text) => text.chars().try_for_each(|c| match c {
                    c if META.contains(c) => write!(f, "\\{c}"),
                    c if c.is_ascii() => f.write_char(c),
                    c => write!(f, "\\x{{{:x}}}", c as u32),
                })?,
            }
        }
        f.write_str(QUERY)
    }
}

// === impl HttpMatch ===

impl HttpMatch {
    /// Whether every request of the other one is one of this, as far as both are in the form that cpg
    /// writes.
    pub fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let forms = || Some((PathForm::parse(&self.path)?, PathForm::parse(&other.path)?));
        self.method == other.method && forms().is_some_and(|(ours, theirs)| ours.covers(&theirs))
    }
}

/// The text that stands before the next `/`, without escapes, and what follows.
fn unescaped(expression: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut rest = expression;
    while let Some(c) = rest.chars().next().filter(|c| *c != '/') {
        rest = &rest[c.len_utf8()..];
        if c != '\\' {
            text.push(c);
            continue;
        }
        let escaped = rest.chars().next()?;
        rest = &rest[escaped.len_utf8()..];
        if escaped == 'x' {
            let (hex, after) = rest.strip_prefix('{')?.split_once('}')?;
            text.push(char::from_u32(u32::from_str_radix(hex, 16).ok()?)?);
            rest = after;
        } else {
            text.push(escaped);
        }
    }
    Some((text, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    fn check(path: &str, expected: &str) {
        let form = PathForm::exactly(path).unwrap();
        assert_eq!(form.to_string(), expected);
        assert_eq!(PathForm::parse(expected), Some(form.clone()));
        assert_eq!(form.example(), path);
    }

    #[test]
    fn paths_and_their_expressions() {
        check("/", r"/(\?.*)?");
        check("/v1/items", r"/v1/items(\?.*)?");
        check("/v1/items/", r"/v1/items/(\?.*)?");
        check("/a//b", r"/a//b(\?.*)?");
        check("//twice", r"//twice(\?.*)?");
        check("/a%2Fb.c+d", r"/a%2Fb\.c\+d(\?.*)?");
        check(r"/a\b[c]{1}|(d)^$*", r"/a\\b\[c\]\{1\}\|\(d\)\^\$\*(\?.*)?");
        check("/größe", r"/gr\x{f6}\x{df}e(\?.*)?");
        check("/[^/]+", r"/\[\^/\]\+(\?.*)?");
    }

    #[test]
    fn what_is_no_path() {
        for path in ["", "*", "a/b", "http://x/y", "/a\nb", "/a\u{85}", "/a?b", "/a#b"] {
            assert_eq!(PathForm::exactly(path), None, "{path:?}");
        }
    }

    #[test]
    fn expressions_that_cpg_does_not_write() {
        for other in [
            "",
            "/",
            r"(\?.*)?",
            "/a.b(\\?.*)?",
            "/.*",
            r"^/a(\?.*)?",
            r"/a(/b)?(\?.*)?",
            r"/\a(\?.*)?",
            r"/a\-b(\?.*)?",
            r"/\x{61}(\?.*)?",
            r"/\x{F6}(\?.*)?",
            r"/[^/]+x(\?.*)?",
            r"/ö(\?.*)?",
        ] {
            assert_eq!(PathForm::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_an_open_place_takes_in() {
        let form = |text: &str| PathForm::parse(&format!(r"{text}(\?.*)?")).unwrap();
        let check = |ours: &str, theirs: &str, expected: bool| {
            assert_eq!(form(ours).covers(&form(theirs)), expected, "{ours} {theirs}");
        };
        check("/a/[^/]+", "/a/b", true);
        check("/a/[^/]+", "/a/[^/]+", true);
        check("/a/[^/]+", "/a/", false);
        check("/a/[^/]+", "/a/b/c", false);
        check("/a/b", "/a/[^/]+", false);
        check("/[^/]+/b", "/a/[^/]+", false);
        check("/[^/]+/[^/]+", "/a/[^/]+", true);
        let http = |method: &str, path: &str| HttpMatch { method: method.into(), path: path.into() };
        assert!(http("GET", "/.*").covers(&http("GET", "/.*")));
        assert!(!http("GET", "/.*").covers(&http("GET", r"/a(\?.*)?")));
        assert!(http("GET", r"/[^/]+(\?.*)?").covers(&http("GET", r"/a(\?.*)?")));
        assert!(!http("PUT", r"/[^/]+(\?.*)?").covers(&http("GET", r"/a(\?.*)?")));
    }

    /// A full match, as Envoy asks for. The crate differs from RE2 in nothing that such an expression has:
    /// no classes but `[^/]`, no flags, `.` without line ends in both, escapes of punctuation and `\x{..}`.
    fn full(expression: &str) -> Regex {
        Regex::new(&format!(r"\A(?:{expression})\z")).unwrap()
    }

    /// Paths with everything that means something somewhere.
    fn paths() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            prop::sample::select(
                &[
                    ".", "+", "*", "|", "$", "^", "(", ")", "[", "]", "{", "}", "{2}", "\\", "\\d", "\\Q",
                    "%2F", "%2f", "%20", "%", "//", "/", "-", "~", "é", "日本", "[^/]+", ".*", "(-i)", "&",
                    ";", "=", ":", "@", "\"", "'", " ", "!", ",",
                ][..]
            )
            .prop_map(str::to_owned),
            "[a-zA-Z0-9]{1,4}",
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    /// The paths that differ by one step.
    fn neighbours(path: &str) -> Vec<String> {
        let chars: Vec<char> = path.chars().collect();
        let mut near = vec![format!("{path}/"), format!("{path}x"), format!("x{path}"), format!("/x{path}")];
        for at in 0..chars.len() {
            let with =
                |c: &[char]| -> String { chars[..at].iter().chain(c).chain(&chars[at + 1..]).collect() };
            let c = chars[at];
            near.push(with(&[]));
            near.push(with(&[c, c]));
            near.push(with(&[c, '/']));
            near.push(with(&[if c == 'q' { 'r' } else { 'q' }]));
            near.extend(c.to_uppercase().chain(c.to_lowercase()).filter(|o| *o != c).map(|o| with(&[o])));
        }
        near.push(path.replace("%2F", "%2f"));
        near.push(path.replace("%2f", "%2F"));
        near.push(path.replace("%2F", "/"));
        near.retain(|other| other != path);
        near
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn an_expression_means_its_path_and_no_neighbour(path in paths(), query in "[a-z=&/?%.]{0,8}") {
            let form = PathForm::exactly(&path).unwrap();
            let expression = form.to_string();
            prop_assert_eq!(PathForm::parse(&expression), Some(form));
            prop_assert!(crate::policy::spec::go_regexp_check(&expression).is_ok());
            prop_assert!(expression.is_ascii());
            let full = full(&expression);
            prop_assert!(full.is_match(&path));
            let with_query = format!("{path}?{query}");
            prop_assert!(full.is_match(&with_query), "{}", with_query);
            for other in neighbours(&path) {
                prop_assert!(!full.is_match(&other), "{} matches {}", expression, other);
            }
        }

        #[test]
        fn what_covers_matches_what_is_covered(path in paths(), at in 0usize..8) {
            let exact = PathForm::exactly(&path).unwrap();
            let mut segments = exact.segments().to_vec();
            let at = at % segments.len();
            segments[at] = Segment::Any;
            let open = PathForm::of(segments).unwrap();
            prop_assert_eq!(PathForm::parse(&open.to_string()), Some(open.clone()));
            let matches = full(&open.to_string()).is_match(&path);
            prop_assert_eq!(open.covers(&exact), matches);
            prop_assert!(full(&open.to_string()).is_match(&open.example()));
        }
    }
}
