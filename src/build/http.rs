//! What is written for an HTTP request: its method and its path, and nothing else of it.

use super::secret::{Secret, is_hash, is_number, is_uuid};
use crate::aggregate::{Observation, Request};
use crate::classify::Skip;
use crate::policy::{HttpMatch, PathForm, Rule, Segment, Subject};

/// A request that is held back for what is in its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRequest {
    /// Whose need it is.
    pub subject: Subject,
    /// The connection that it was made on.
    pub rule: Rule,
    /// Its method.
    pub method: Box<str>,
    /// Its path, with nothing in it that is not to be written. Not yet safe to print: see
    /// [`crate::text::visible`].
    pub masked: String,
    /// What could be written: the open form.
    pub proposed: Option<HttpMatch>,
}

/// The request of an observation that is held back, in words that may be told.
pub fn held_request(observation: &Observation) -> Option<HeldRequest> {
    let Some(Request::Http { method, path }) = &observation.request else { return None };
    let plain = Observation { request: None, ..observation.clone() };
    let (subject, rule) = super::rule(&plain).ok()?;
    let proposed = proposed(method, path);
    Some(HeldRequest { subject, rule, method: method.clone(), masked: masked(path), proposed })
}

/// Exactly this request. [`Skip::PathSecret`] where the path has something that is not to be written.
pub(super) fn exactly(method: &str, path: &str) -> Result<HttpMatch, Skip> {
    let form = PathForm::exactly(path).ok_or(Skip::HttpPath)?;
    if form.segments().iter().any(|segment| secret(segment).is_some()) {
        return Err(Skip::PathSecret);
    }
    Ok(HttpMatch { method: method.into(), path: form.to_string().into() })
}

/// The path with every place open at which something stands that varies by its kind: numbers, UUIDs,
/// hashes, and what would not be written. `None` where nothing does.
pub(super) fn opened(form: &PathForm) -> Option<PathForm> {
    let open = |segment: &Segment| match segment {
        Segment::Exactly(text) if varies(text) || Secret::of(text).is_some() => Segment::Any,
        other => other.clone(),
    };
    let opened = PathForm::of(form.segments().iter().map(open))?;
    (opened != *form).then_some(opened)
}

/// The path with no secret in it.
fn masked(path: &str) -> String {
    let shown = |text: &str| Secret::of(text).map_or_else(|| text.to_owned(), |s| s.mask().to_owned());
    path.split('/').map(shown).collect::<Vec<_>>().join("/")
}

fn proposed(method: &str, path: &str) -> Option<HttpMatch> {
    let form = opened(&PathForm::exactly(path)?)?;
    Some(HttpMatch { method: method.into(), path: form.to_string().into() })
}

fn varies(text: &str) -> bool {
    is_number(text) || is_uuid(text) || is_hash(text)
}

fn secret(segment: &Segment) -> Option<Secret> {
    match segment {
        Segment::Exactly(text) => Secret::of(text),
        Segment::Any => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_held_and_never_shown() {
        let token = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.";
        let path = format!("/reset/{token}/jane%40example.com/x");
        assert_eq!(exactly("GET", &path), Err(Skip::PathSecret));
        assert_eq!(masked(&path), "/reset/<jwt>/<e-mail address>/x");
        let proposed = proposed("GET", &path).unwrap();
        assert_eq!(&*proposed.path, r"/reset/[^/]+/[^/]+/x(\?.*)?");
        assert_eq!(exactly("GET", "*"), Err(Skip::HttpPath));
    }

    #[test]
    fn places_that_vary_by_their_kind() {
        let check = |path: &str, expected: Option<&str>| {
            let got = opened(&PathForm::exactly(path).unwrap()).map(|form| form.to_string());
            assert_eq!(got.as_deref(), expected, "{path}");
        };
        check("/items/42", Some(r"/items/[^/]+(\?.*)?"));
        check("/items/42/", Some(r"/items/[^/]+/(\?.*)?"));
        check("/users/0b0e6d7a-0000-4000-8000-000000000001/x", Some(r"/users/[^/]+/x(\?.*)?"));
        check("/o/507f1f77bcf86cd799439011/7", Some(r"/o/[^/]+/[^/]+(\?.*)?"));
        check("/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb924", Some(r"/blobs/[^/]+(\?.*)?"));
        check("/v1/items", None);
        check("/items/abc", None);
        check("/", None);
        check("/feed/", None);
    }
}
