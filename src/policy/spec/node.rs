//! Walking through a document: values that know where they are, and the place for what is wrong.

use serde_json::Value;

use super::{Options, Path, Refusal};

/// A value with the way to it. Paths become owned only for findings and rules.
#[derive(Clone, Copy)]
pub(in crate::policy) struct At<'a> {
    /// The value.
    pub(in crate::policy) value: &'a Value,
    parent: Option<&'a At<'a>>,
    step: Way<'a>,
}

#[derive(Clone, Copy)]
enum Way<'a> {
    Root(&'a Path),
    Member(&'a str),
    Item(usize),
}

/// Something wrong at a place, before it is known which document it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) struct Problem {
    pub(in crate::policy) path: Path,
    pub(in crate::policy) refusal: Refusal,
    pub(in crate::policy) message: String,
}

/// What every step of decoding needs: how to read, and where problems go.
pub(in crate::policy) struct Cx<'o> {
    pub(in crate::policy) options: &'o Options,
    pub(in crate::policy) problems: Vec<Problem>,
    /// Somebody refuses the document.
    pub(in crate::policy) refused: bool,
    /// How many problems there were beyond those that are kept.
    pub(in crate::policy) dropped: usize,
}

/// More problems than this in one document are counted, not kept.
const MAX_PROBLEMS: usize = 200;

// === impl At ===

impl<'a> At<'a> {
    /// The place that `base` leads to.
    pub(in crate::policy) fn root(value: &'a Value, base: &'a Path) -> Self {
        Self { value, parent: None, step: Way::Root(base) }
    }

    /// A member of this map; `None` when it is missing or null.
    pub(in crate::policy) fn member<'b>(&'b self, name: &'b str) -> Option<At<'b>> {
        let value = self.value.get(name).filter(|value| !value.is_null())?;
        Some(At { value, parent: Some(self), step: Way::Member(name) })
    }

    /// The place of a member that may be missing.
    pub(in crate::policy) fn place(&self, name: &str) -> Path {
        self.path().member(name)
    }

    /// The members of this map that are not null; none when it is no map.
    pub(in crate::policy) fn members<'b>(&'b self) -> impl Iterator<Item = (&'b str, At<'b>)> {
        let map = self.value.as_object().into_iter().flatten();
        map.filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (&**name, At { value, parent: Some(self), step: Way::Member(name) }))
    }

    /// The items of this list; none when it is no list.
    pub(in crate::policy) fn items<'b>(&'b self) -> impl Iterator<Item = At<'b>> {
        let list = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().enumerate().map(|(i, value)| At { value, parent: Some(self), step: Way::Item(i) })
    }

    /// Whether this is a list or map with nothing in it, or not even that.
    pub(in crate::policy) fn is_empty(&self) -> bool {
        match self.value {
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::String(text) => text.is_empty(),
            Value::Null => true,
            Value::Bool(_) | Value::Number(_) => false,
        }
    }

    /// The whole way.
    pub(in crate::policy) fn path(&self) -> Path {
        let mut path = self.parent.map(At::path).unwrap_or_default();
        match self.step {
            Way::Root(base) => base.clone(),
            Way::Member(name) => {
                path.push(super::Step::Member(name.into()));
                path
            }
            Way::Item(index) => {
                path.push(super::Step::Item(index));
                path
            }
        }
    }
}

// === impl Cx ===

impl<'o> Cx<'o> {
    pub(in crate::policy) fn new(options: &'o Options) -> Self {
        Self { options, problems: Vec::new(), refused: false, dropped: 0 }
    }

    /// Notes a problem.
    pub(in crate::policy) fn note(&mut self, refusal: Refusal, path: Path, message: impl Into<String>) {
        // Warnings must not push out the one reason for which a document is refused.
        let first_refusal = refusal.refuses() && !self.refused;
        self.refused |= refusal.refuses();
        if self.problems.len() < MAX_PROBLEMS || first_refusal {
            self.problems.push(Problem { path, refusal, message: message.into() });
        } else {
            self.dropped += 1;
        }
    }

    /// Notes that the agent refuses the document.
    pub(in crate::policy) fn refuse(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.note(Refusal::Agent, at.path(), message);
    }

    /// The map at this place; anything else is refused.
    pub(in crate::policy) fn map(&mut self, at: &At<'_>) -> bool {
        let fits = at.value.is_object() || at.value.is_null();
        if !fits {
            self.refuse(at, format!("must be a map, is {}", kind_of(at.value)));
        }
        fits
    }

    /// Whether there is a list at this place; anything else is refused.
    pub(in crate::policy) fn list(&mut self, at: &At<'_>) -> bool {
        let fits = at.value.is_array();
        if !fits {
            self.refuse(at, format!("must be a list, is {}", kind_of(at.value)));
        }
        fits
    }

    /// The text at this place; anything else is refused. A null in a list counts as empty.
    pub(in crate::policy) fn text<'a>(&mut self, at: &At<'a>) -> Option<&'a str> {
        match at.value {
            Value::String(text) => Some(text),
            Value::Null => Some(""),
            other => {
                let hint = if other.is_number() || other.is_boolean() { ": quote it" } else { "" };
                self.refuse(at, format!("must be a string, is {}{hint}", kind_of(other)));
                None
            }
        }
    }

    /// A member that is a text, when it is there and not empty.
    pub(in crate::policy) fn text_of(&mut self, at: &At<'_>, name: &str) -> Option<Box<str>> {
        let member = at.member(name)?;
        self.text(&member).filter(|text| !text.is_empty()).map(Into::into)
    }

    /// A list of texts.
    pub(in crate::policy) fn texts(&mut self, at: &At<'_>, name: &str) -> Vec<Box<str>> {
        let Some(list) = at.member(name) else { return Vec::new() };
        if !self.list(&list) {
            return Vec::new();
        }
        list.items().filter_map(|item| self.text(&item)).map(Into::into).collect()
    }

    /// A member that is a whole number of this range; anything else is refused.
    pub(in crate::policy) fn integer_of(&mut self, at: &At<'_>, name: &str, max: i64) -> Option<i64> {
        let member = at.member(name)?;
        let number = whole(member.value).filter(|n| (-max - 1..=max).contains(n));
        if number.is_none() {
            self.refuse(&member, format!("must be a whole number, is {}", kind_of(member.value)));
        }
        number
    }

    /// A member that is true or false; anything else is refused.
    pub(in crate::policy) fn bool_of(&mut self, at: &At<'_>, name: &str) -> Option<bool> {
        let member = at.member(name)?;
        let value = member.value.as_bool();
        if value.is_none() {
            self.refuse(&member, format!("must be true or false, is {}", kind_of(member.value)));
        }
        value
    }
}

/// The number, if it is a whole one; `80.0` is.
pub(in crate::policy) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let float = value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "whole, and far below 2^63")]
        Some(float as i64)
    })
}

/// What a value is, in words.
pub(in crate::policy) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty (null)",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
