//! Values as writers of JSON really write them: `null` for absent, enums as names or numbers, numbers
//! as strings, escaped text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A text, borrowed from the line unless it has escapes. Serde never borrows inside of
/// `Option<Cow<str>>` or `Vec<Cow<str>>`, hence this type. `null` is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Text<'a>(pub Cow<'a, str>);

/// A whole number, also as a string or as `1e3`; `null` is 0. Cut to 64 bits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Int(pub i64);

/// Yes, no, or absent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag(pub Option<bool>);

/// An enum: its name or its number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Enum<'a> {
    #[default]
    Absent,
    Number(i64),
    Name(Cow<'a, str>),
}

/// A time: RFC 3339 text, or seconds and nanoseconds as protobuf has them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Time<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Parts(i64, i64),
    /// No form of a time.
    Bad,
}

// === impl Int ===

impl Int {
    /// `None` for a negative number.
    pub(super) fn unsigned(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
}

// === impl Enum ===

impl Enum<'_> {
    /// The number, absent being 0; `None` for a name that `from_name` does not know.
    pub(super) fn number(&self, from_name: impl FnOnce(&str) -> Option<i64>) -> Option<i64> {
        match self {
            Self::Absent => Some(0),
            Self::Number(number) => Some(*number),
            Self::Name(name) => from_name(name),
        }
    }
}

// === Deserialize ===

/// What the visitors of this module share: every value is made from a text, a number, a truth value
/// or nothing.
macro_rules! value {
    ($name:ident $(<$a:lifetime>)?, $expected:literal, { $($methods:tt)* }) => {
        impl<'de $(: $a, $a)?> Deserialize<'de> for $name $(<$a>)? {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Read;

                impl<'de> Visitor<'de> for Read {
                    type Value = value!(@type $name $($a)?);

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                        Ok(Self::Value::default())
                    }

                    $($methods)*
                }

                deserializer.deserialize_any(Read)
            }
        }
    };
    (@type $name:ident $a:lifetime) => { $name<'de> };
    (@type $name:ident) => { $name };
}

value!(Text<'a>, "a text", {
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
});

value!(Int, "a whole number", {
    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Int(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        // The cast saturates; a fraction is no whole number.
        if number.fract() == 0.0 {
            Ok(Int(number as i64))
        } else {
            Err(E::custom("a fraction where a whole number stands"))
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        digits(text).map(Int).ok_or_else(|| E::custom("a text where a whole number stands"))
    }
});

value!(Flag, "true or false", {
    fn visit_bool<E: Error>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Flag(Some(flag)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map(|flag| Flag(Some(flag))).map_err(|_| E::custom("a text where true or false stands"))
    }
});

value!(Enum<'a>, "a name or a number", {
    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Enum::Number(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Enum::Number(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(digits(text).map_or(Enum::Name(Cow::Borrowed(text)), Enum::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(digits(text).map_or_else(|| Enum::Name(Cow::Owned(text.to_owned())), Enum::Number))
    }
});

value!(Time<'a>, "a time", {
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Time::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Time::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut seconds, mut nanos) = (0, 0);
        while let Some(key) = map.next_key::<Text<'_>>()? {
            match &*key.0 {
                "seconds" => seconds = map.next_value::<Int>()?.0,
                "nanos" => nanos = map.next_value::<Int>()?.0,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Time::Parts(seconds, nanos))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Time::Bad)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Time::Bad)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Time::Bad)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Time::Bad)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Time::Bad)
    }
});

/// A number in a text: only texts that begin like one are tried.
fn digits(text: &str) -> Option<i64> {
    let first = text.as_bytes().first()?;
    if !(first.is_ascii_digit() || *first == b'-') {
        return None;
    }
    text.parse().ok().or_else(|| text.parse::<u64>().ok().map(|_| i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<'a, T: Deserialize<'a> + PartialEq + fmt::Debug>(json: &'a str, expected: Option<T>) {
        assert_eq!(serde_json::from_str(json).ok(), expected, "{json}");
    }

    #[test]
    fn texts() {
        let text: Text<'_> = serde_json::from_str(r#""plain""#).unwrap();
        assert!(matches!(text.0, Cow::Borrowed("plain")));
        check(r#""a\u0026b""#, Some(Text("a&b".into())));
        check("null", Some(Text("".into())));
        check::<Text<'_>>("7", None);
    }

    #[test]
    fn numbers() {
        check("7", Some(Int(7)));
        check("-7", Some(Int(-7)));
        check("7.0", Some(Int(7)));
        check(r#""7""#, Some(Int(7)));
        check("null", Some(Int(0)));
        check("18446744073709551615", Some(Int(i64::MAX)));
        check(r#""18446744073709551615""#, Some(Int(i64::MAX)));
        check::<Int>("7.5", None);
        check::<Int>(r#""seven""#, None);
        check::<Int>("[]", None);
    }

    #[test]
    fn flags_enums_and_times() {
        check("true", Some(Flag(Some(true))));
        check(r#""false""#, Some(Flag(Some(false))));
        check("null", Some(Flag(None)));
        check("2", Some(Enum::Number(2)));
        check(r#""2""#, Some(Enum::Number(2)));
        check(r#""DROPPED""#, Some(Enum::Name("DROPPED".into())));
        check("null", Some(Enum::Absent));
        check::<Enum<'_>>("{}", None);
        check(r#""2026-01-01T00:00:00Z""#, Some(Time::Text("2026-01-01T00:00:00Z".into())));
        check(r#"{"seconds":"5","nanos":6,"x":[]}"#, Some(Time::Parts(5, 6)));
        check("5", Some(Time::Bad));
        check("[1]", Some(Time::Bad));
    }
}
