//! Segments of a path that look like something nobody wants in a file: a token, a key, an address.
//!
//! Heuristics, and on the safe side: what is held back by mistake is reported, what is written by mistake
//! is in Git. Numbers and UUIDs are identifiers. What a person chose (a short password) cannot be told
//! from a word.

use std::borrow::Cow;
use std::net::IpAddr;

/// What a segment looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Secret {
    /// A JSON Web Token.
    Jwt,
    /// A key whose issuer marks it as one.
    Key,
    /// Long and random.
    Token,
    /// The value of something that is called a secret.
    Named,
    /// An e-mail address.
    Email,
    /// An address of a network card or of IP.
    Address,
    /// The number of a payment card.
    Card,
}

/// How issuers begin their keys, and how many characters follow at least.
const KEYS: [(&str, usize); 25] = [
    ("AKIA", 12),
    ("ASIA", 12),
    ("ghp_", 16),
    ("gho_", 16),
    ("ghu_", 16),
    ("ghs_", 16),
    ("ghr_", 16),
    ("github_pat_", 16),
    ("glpat-", 16),
    ("xoxa-", 8),
    ("xoxb-", 8),
    ("xoxp-", 8),
    ("xoxr-", 8),
    ("xoxs-", 8),
    ("sk_live_", 8),
    ("sk_test_", 8),
    ("rk_live_", 8),
    ("whsec_", 8),
    ("sk-", 20),
    ("AIza", 30),
    ("ya29.", 16),
    ("SG.", 20),
    ("npm_", 30),
    ("hvs.", 16),
    ("dop_v1_", 16),
];

/// Names of values that are secrets, without `_`, `-` and `.`.
const NAMES: [&str; 22] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "auth",
    "authorization",
    "authtoken",
    "bearer",
    "clientsecret",
    "credential",
    "jsessionid",
    "passwd",
    "password",
    "phpsessid",
    "pwd",
    "secret",
    "sessionid",
    "sid",
    "sig",
    "signature",
    "ticket",
    "token",
    "xapikey",
];

// === impl Secret ===

impl Secret {
    /// What the segment looks like; `None` for nothing of the kind.
    pub(super) fn of(segment: &str) -> Option<Self> {
        let text = decoded(segment);
        std::iter::once(&*text).chain(text.split(['/', ';', ',', '&', '|', ' '])).find_map(part)
    }

    /// What stands in its place wherever people read.
    pub(super) fn mask(self) -> &'static str {
        match self {
            Self::Jwt => "<jwt>",
            Self::Key => "<key>",
            Self::Token => "<token>",
            Self::Named => "<secret>",
            Self::Email => "<e-mail address>",
            Self::Address => "<address>",
            Self::Card => "<card number>",
        }
    }
}

/// Without percent-encoding, as far as it is text then.
fn decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn part(text: &str) -> Option<Secret> {
    if is_uuid(text) || is_number(text) && !is_card(text) || is_digest(text) {
        return None;
    }
    if let Some((name, value)) = text.split_once(['=', ':']) {
        let name: String =
            name.chars().filter(|c| !matches!(c, '_' | '-' | '.')).map(|c| c.to_ascii_lowercase()).collect();
        if !value.is_empty() && NAMES.contains(&name.as_str()) {
            return Some(Secret::Named);
        }
    }
    if is_jwt(text) {
        Some(Secret::Jwt)
    } else if KEYS.iter().any(|(prefix, least)| {
        text.strip_prefix(prefix).is_some_and(|key| key.len() >= *least && key.bytes().all(is_key_byte))
    }) {
        Some(Secret::Key)
    } else if is_email(text) {
        Some(Secret::Email)
    } else if is_address(text) {
        Some(Secret::Address)
    } else if is_card(text) {
        Some(Secret::Card)
    } else {
        let runs = || text.split(|c: char| !c.is_ascii_alphanumeric());
        let random = is_random(text) || runs().any(|run| is_long_hex(run) || is_random(run));
        random.then_some(Secret::Token)
    }
}

/// `8-4-4-4-12` hexadecimal digits.
pub(super) fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A hash, by itself or with the name of its function: hexadecimal digits, some of them letters.
pub(super) fn is_hash(text: &str) -> bool {
    const SHORTEST: usize = 16;
    let bare = |text: &str| {
        text.len() >= SHORTEST
            && text.bytes().all(|b| b.is_ascii_hexdigit())
            && text.bytes().any(|b| b.is_ascii_digit())
            && text.bytes().any(|b| b.is_ascii_alphabetic())
    };
    bare(text) || is_digest(text)
}

/// A hash that says so: `sha256:…`. It is made from a content, and no secret.
fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(function, hash)| {
        ["sha256", "sha384", "sha512"].contains(&function)
            && hash.len() >= 32
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

fn is_key_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=')
}

/// Base64 of `{"`, and at least one dot.
fn is_jwt(text: &str) -> bool {
    text.strip_prefix("eyJ")
        .is_some_and(|rest| rest.len() >= 10 && rest.bytes().all(is_key_byte) && rest.contains('.'))
}

fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(user, host)| {
        let host = host.trim_end_matches('.');
        !user.is_empty()
            && !user.contains(['/', ' '])
            && host.split('.').count() >= 2
            && host.split('.').all(|l| !l.is_empty() && l.chars().all(|c| c.is_alphanumeric() || c == '-'))
            && host.split('.').next_back().is_some_and(|tld| tld.chars().all(char::is_alphabetic))
    })
}

fn is_address(text: &str) -> bool {
    let bare = text.trim_start_matches('[').split(']').next().unwrap_or(text);
    let host = bare.rsplit_once(':').map_or(bare, |(host, _)| host);
    // `::` alone is no address of anybody.
    let ip = |text: &str| text.parse::<IpAddr>().is_ok_and(|ip| !ip.is_unspecified());
    let mac = |separator: char| {
        let parts: Vec<&str> = text.split(separator).collect();
        parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    ip(bare) || host.contains('.') && ip(host) || mac(':') || mac('-')
}

/// 14 to 16 digits, perhaps in groups, that begin as cards do and have the check digit of one (Luhn).
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let only = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ' '));
    if !only || !(14..=16).contains(&digits.len()) || !(3..=6).contains(&digits[0]) {
        return false;
    }
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(i, d)| if i % 2 == 1 { doubled(*d) } else { *d }).sum();
    sum.is_multiple_of(10)
}

fn is_long_hex(run: &str) -> bool {
    const SHORTEST: usize = 32;
    run.len() >= SHORTEST && is_hash(run)
}

/// Letters of both cases and digits, or lower case and digits at greater length, that change as often as
/// words do not.
fn is_random(text: &str) -> bool {
    #[derive(PartialEq, Clone, Copy)]
    enum Kind {
        Lower,
        Upper,
        Digit,
        Other,
    }
    let kind = |b: u8| match b {
        b'a'..=b'z' => Kind::Lower,
        b'A'..=b'Z' => Kind::Upper,
        b'0'..=b'9' => Kind::Digit,
        _ => Kind::Other,
    };
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+=~".contains(&b)) {
        return false;
    }
    let kinds: Vec<Kind> = text.bytes().map(kind).collect();
    let many = |wanted: Kind| kinds.iter().filter(|k| **k == wanted).count();
    let (lower, upper, digits, others) =
        (many(Kind::Lower), many(Kind::Upper), many(Kind::Digit), many(Kind::Other));
    let changes = kinds.windows(2).filter(|two| two[0] != two[1]).count();
    let often = changes * 10 >= kinds.len() * 3;
    // Words between hyphens (the name of a pod) are none of one secret.
    let mixed = lower >= 2 && upper >= 2 && digits >= 2 && kinds.len() >= 20 && others * 12 <= kinds.len();
    let long = (lower >= 8 || upper >= 8) && digits >= 4 && kinds.len() >= 24 && others == 0;
    often && (mixed || long)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(segment: &str, expected: Option<Secret>) {
        assert_eq!(Secret::of(segment), expected, "{segment:?}");
    }

    #[test]
    fn what_is_held() {
        use Secret::*;
        // Made up; none of them is anybody's.
        check("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r", Some(Jwt));
        check("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", Some(Jwt));
        check(&format!("AKIA{}", "ABCDEFGHIJKLMNOP"), Some(Key));
        check(&format!("ghp_{}", "a1B2".repeat(9)), Some(Key));
        check(&format!("glpat-{}", "xY1z".repeat(5)), Some(Key));
        check(&format!("sk_live_{}", "4eC39Hq"), None);
        check(&format!("sk_live_{}", "4eC39HqL"), Some(Key));
        check(&format!("xoxb-{}", "12345678-abc"), Some(Key));
        check("Zm9vYmFyMTIzQmF6UXV4Nzg5", Some(Token));
        check("k7f3n2p9q8r5t1v6w4x0y2z8", Some(Token));
        check("5f4dcc3b5aa765d61d8327deb882cf99", Some(Token));
        check("file-5f4dcc3b5aa765d61d8327deb882cf99.txt", Some(Token));
        check("E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855", Some(Token));
        check("login;jsessionid=1A2B", Some(Named));
        check("token=abc", Some(Named));
        check("api_key:x", Some(Named));
        check("X-Api-Key=x", Some(Named));
        check("password%3Dhunter2", Some(Named));
        check("jane.doe@example.com", Some(Email));
        check("jane.doe%40example.com", Some(Email));
        check("mailto:jane@example.co.uk", Some(Email));
        check("192.0.2.7", Some(Address));
        check("192.0.2.7:8080", Some(Address));
        check("2001:db8::7", Some(Address));
        check("%5B2001%3Adb8%3A%3A7%5D%3A80", Some(Address));
        check("02:42:ac:11:00:02", Some(Address));
        check("4111111111111111", Some(Card));
        check("4111-1111-1111-1111", Some(Card));
        check("378282246310005", Some(Card));
    }

    #[test]
    fn what_is_written() {
        for segment in [
            "",
            "v1",
            "items",
            "12345",
            "4111111111111112",
            "1700000000000",
            "1700000000000000",
            "9007199254740993111",
            "0b0e6d7a-0000-4000-8000-000000000001",
            "0B0E6D7A-0000-4000-8000-000000000001",
            "507f1f77bcf86cd799439011",
            "a1b2c3d",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "1.2.3",
            "v1.22.0-rc1",
            "2024-01-15",
            "2024-01-15T10:00:00Z",
            "index.html",
            "app.3f2a9c.js",
            "jquery-3.7.1.min.js",
            "checkout-7d9f8b6c5d-x2x4z",
            "MyVeryLongControllerName",
            "getUserAccountDetailsV2",
            "com.example.shop.v1.CartService",
            "kube-system",
            "a-rather-long-name-of-an-article-from-2024",
            "~jane",
            "@scope",
            "name:action",
            "projects:lookup",
            "filter=name",
            "größe",
            "%E2%9C%93",
            "%2F",
            "100%",
            "::",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            check(segment, None);
        }
    }
}
