//! `http` of a rule, prepared, and whether a request is meant by it.

use super::Field;
use super::re2::Expression;
use super::request::HttpRequest;
use super::selector::Match;
use crate::policy::spec::{HeaderMatch, HttpRule};

/// One item of `http`: everything that it has must match.
#[derive(Debug, Clone)]
pub(super) struct HttpTest {
    path: Option<Expression>,
    method: Option<Expression>,
    host: Option<Expression>,
    headers: Box<[HeaderTest]>,
}

/// What one item of `headers` or `headerMatches` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HeaderTest {
    name: Box<str>,
    expected: Expected,
    /// The member it is from.
    field: Field,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Present,
    Value(Box<str>),
    /// Nobody here can tell: a Secret holds the value, or Envoy's reading of it is not known.
    Unknown,
}

// === impl HttpTest ===

impl HttpTest {
    pub(super) fn new(rule: &HttpRule) -> Self {
        let expression =
            |text: &Option<Box<str>>| text.as_deref().filter(|t| !t.is_empty()).map(Expression::new);
        let headers = rule.headers.iter().map(|text| HeaderTest::of_text(text));
        Self {
            path: expression(&rule.path),
            method: expression(&rule.method),
            host: expression(&rule.host),
            headers: headers.chain(rule.header_matches.iter().filter_map(HeaderTest::of_match)).collect(),
        }
    }

    pub(super) fn matches(&self, request: &HttpRequest<'_>) -> Match {
        let ask = |test: &Option<Expression>, text: Option<&str>, field| match (test, text) {
            (None, _) => Match::Yes,
            (Some(_), None) => Match::Unknown(field),
            (Some(test), Some(text)) => test.matches(text).map_or(Match::Unknown(field), Match::from),
        };
        let mut all = ask(&self.method, Some(request.method), Field::Method)
            .and(|| ask(&self.path, Some(request.path), Field::Path))
            .and(|| ask(&self.host, request.host, Field::Host));
        for header in &self.headers {
            all = all.and(|| header.matches(request.headers));
        }
        all
    }
}

// === impl HeaderTest ===

impl HeaderTest {
    /// `Name`, or `Name: value`. Cilium splits at the first space, whatever is before it.
    fn of_text(text: &str) -> Self {
        let (name, expected) = match text.split_once(' ') {
            // Envoy takes an empty value for any.
            Some((name, "")) => (name.trim_end_matches(':'), Expected::Unknown),
            Some((name, value)) => (name.trim_end_matches(':'), Expected::Value(value.into())),
            None => (text, Expected::Present),
        };
        Self::new(name, expected, Field::Headers)
    }

    /// `None` where the request passes whether it matches or not: the header is then edited or logged.
    fn of_match(item: &HeaderMatch) -> Option<Self> {
        let expected = match (&item.secret, &item.value) {
            (Some(_), _) => Expected::Unknown,
            (None, _) if item.mismatch.is_some() => return None,
            (None, Some(value)) if !value.is_empty() => Expected::Value(value.clone()),
            (None, _) => Expected::Present,
        };
        Some(Self::new(&item.name, expected, Field::HeaderMatches))
    }

    fn new(name: &str, expected: Expected, field: Field) -> Self {
        // Names with a colon are parts of the request line to Envoy.
        let expected = if name.starts_with(':') { Expected::Unknown } else { expected };
        Self { name: name.into(), expected, field }
    }

    fn matches(&self, headers: Option<&[(&str, &str)]>) -> Match {
        let Some(headers) = headers else { return Match::Unknown(self.field) };
        let mut values =
            headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&self.name)).map(|(_, value)| *value);
        match (&self.expected, values.next()) {
            (Expected::Unknown, _) => Match::Unknown(self.field),
            (_, None) => Match::No,
            (Expected::Present, Some(_)) => Match::Yes,
            (Expected::Value(expected), Some(first)) => {
                // Envoy joins those of one name.
                let whole = values.fold(first.to_owned(), |all, value| all + "," + value);
                (**expected == *whole).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::spec::{HeaderAction, SecretRef};

    fn request() -> HttpRequest<'static> {
        HttpRequest {
            method: "GET",
            path: "/v1/items?q=1",
            host: Some("shop.example:8080"),
            headers: Some(&[("x-a", "1"), ("X-B", "2"), ("x-b", "3")]),
        }
    }

    #[track_caller]
    fn check(rule: HttpRule, request: &HttpRequest<'_>, expected: Match) {
        assert_eq!(HttpTest::new(&rule).matches(request), expected, "{rule:?} {request:?}");
    }

    #[test]
    fn every_given_field_must_match() {
        let yes = request();
        check(HttpRule::default(), &yes, Match::Yes);
        check(HttpRule { path: Some("".into()), ..HttpRule::default() }, &yes, Match::Yes);
        let path = |text: &str| HttpRule { path: Some(text.into()), ..HttpRule::default() };
        check(path("/v1/.*"), &yes, Match::Yes);
        check(path("/v1/items"), &yes, Match::No);
        check(path(r"/v1/items(\?.*)?"), &yes, Match::Yes);
        check(path(r"\Q/v1\E.*"), &yes, Match::Unknown(Field::Path));
        let method = |text: &str, path: &str| HttpRule {
            method: Some(text.into()),
            path: Some(path.into()),
            ..HttpRule::default()
        };
        check(method("get", "/v1/.*"), &yes, Match::No);
        check(method("GET", "/v1/.*"), &yes, Match::Yes);
        check(method("GET", "/v2/.*"), &yes, Match::No);
        check(method("POST", r"\Q/v1\E.*"), &yes, Match::No);
    }

    #[test]
    fn the_host_is_the_authority_with_its_port() {
        let host = |text: &str| HttpRule { host: Some(text.into()), ..HttpRule::default() };
        check(host("shop[.]example"), &request(), Match::No);
        check(host("shop[.]example(:[0-9]+)?"), &request(), Match::Yes);
        check(host("("), &request(), Match::Unknown(Field::Host));
        check(host(".*"), &HttpRequest { host: None, ..request() }, Match::Unknown(Field::Host));
    }

    #[test]
    fn headers() {
        let header = |text: &str| HttpRule { headers: vec![text.into()], ..HttpRule::default() };
        check(header("X-A"), &request(), Match::Yes);
        check(header("X-C"), &request(), Match::No);
        check(header("X-A: 1"), &request(), Match::Yes);
        check(header("X-A 1"), &request(), Match::Yes);
        check(header("X-A: 2"), &request(), Match::No);
        check(header("X-A:  1"), &request(), Match::No);
        check(header("X-B: 2"), &request(), Match::No);
        check(header("X-B: 2,3"), &request(), Match::Yes);
        check(header("X-A:1"), &request(), Match::No);
        check(header("X-A: "), &request(), Match::Unknown(Field::Headers));
        check(header(":path: /"), &request(), Match::Unknown(Field::Headers));
        check(header("X-A"), &HttpRequest { headers: None, ..request() }, Match::Unknown(Field::Headers));
    }

    #[test]
    fn header_matches() {
        let with = |mismatch, value: Option<&str>, secret| HttpRule {
            header_matches: vec![HeaderMatch {
                mismatch,
                name: "x-a".into(),
                value: value.map(Into::into),
                secret,
            }],
            ..HttpRule::default()
        };
        check(with(None, Some("1"), None), &request(), Match::Yes);
        check(with(None, Some("2"), None), &request(), Match::No);
        check(with(None, None, None), &request(), Match::Yes);
        check(with(None, None, None), &HttpRequest { headers: Some(&[]), ..request() }, Match::No);
        check(with(Some(HeaderAction::Replace), Some("2"), None), &request(), Match::Yes);
        check(
            with(Some(HeaderAction::Log), None, None),
            &HttpRequest { headers: None, ..request() },
            Match::Yes,
        );
        let secret = || Some(SecretRef { namespace: "".into(), name: "s".into() });
        check(with(None, None, secret()), &request(), Match::Unknown(Field::HeaderMatches));
    }
}
