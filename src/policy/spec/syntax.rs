//! Small syntaxes that the API server and the agent check: label keys and values, DNS names, port names
//! and numbers, addresses.

use std::net::IpAddr;

use ipnet::IpNet;

/// A label value: up to 63 of letters, digits, `-`, `_`, `.`, first and last a letter or digit; or empty.
pub(in crate::policy) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

/// The name part of a label key: as a value, but not empty.
pub(in crate::policy) fn is_label_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Lower-case DNS names as Kubernetes names objects; length is the caller's business.
pub(in crate::policy) fn is_subdomain(text: &str) -> bool {
    let label = |part: &str| {
        let bytes = part.as_bytes();
        let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().all(|b| edge(b) || *b == b'-')
    };
    text.split('.').all(label)
}

/// A Kubernetes label key: an optional prefix that is a DNS name, `/`, and a name. `Err` says what is
/// wrong.
pub(in crate::policy) fn check_qualified_name(text: &str) -> Result<(), &'static str> {
    let (prefix, name) = match text.split_once('/') {
        None => (None, text),
        Some((_, rest)) if rest.contains('/') => return Err("has more than one `/`"),
        Some((prefix, name)) => (Some(prefix), name),
    };
    if let Some(prefix) = prefix {
        if prefix.len() > 253 {
            return Err("has more than 253 characters before the `/`");
        }
        if !is_subdomain(prefix) {
            return Err("has a part before the `/` that is no lower-case DNS name");
        }
    }
    if name.len() > 63 {
        return Err("has a name part of more than 63 characters");
    }
    if is_label_name(name) {
        Ok(())
    } else {
        Err("must consist of letters, digits, `-`, `_`, `.`, and begin and end with a letter or digit")
    }
}

/// A port name: letters, digits and single dashes inside, at least one letter, at most 15 characters.
pub(in crate::policy) fn is_service_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= 15
        && bytes.iter().any(u8::is_ascii_alphabetic)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// A number from 0 to 65535 as Go's `ParseUint` with base 0 reads it: a leading `0` makes it octal, and
/// `0x`, `0o`, `0b` and `_` between digits are known.
pub(in crate::policy) fn parse_port(text: &str) -> Option<u16> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16, true),
        [b'0', b'o', ..] => (&lower[2..], 8, true),
        [b'0', b'b', ..] => (&lower[2..], 2, true),
        [b'0', _, ..] => (&lower[1..], 8, true),
        _ => (&lower[..], 10, false),
    };
    // An underscore stands between two digits, or between the prefix and a digit.
    let misplaced = digits.ends_with('_') || digits.contains("__") || (digits.starts_with('_') && !prefixed);
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    if misplaced || plain.starts_with(['+', '-']) {
        return None;
    }
    u16::from_str_radix(&plain, radix).ok()
}

/// A prefix as Go's `netip.ParsePrefix` reads it: no leading zeros, no zone. Host bits are cleared.
pub(in crate::policy) fn parse_prefix(text: &str) -> Option<IpNet> {
    let (address, bits) = text.rsplit_once('/')?;
    if bits.len() > 1 && !matches!(bits.as_bytes().first(), Some(b'1'..=b'9')) {
        return None;
    }
    let address: IpAddr = address.parse().ok()?;
    let bits = bits.bytes().all(|b| b.is_ascii_digit()).then(|| bits.parse::<u8>().ok())??;
    IpNet::new(address, bits).ok().map(|net| net.trunc())
}

/// The address of a prefix, host bits kept.
pub(in crate::policy) fn prefix_address(text: &str) -> Option<IpAddr> {
    text.rsplit_once('/')?.0.parse().ok()
}

/// A prefix as the API server's format `cidr` reads it: leading zeros are welcome.
pub(in crate::policy) fn is_sloppy_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let max = if address.contains(':') { 128 } else { 32 };
    let number = |text: &str, radix: u32| {
        let digits = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
        let short = text.trim_start_matches('0');
        if digits && short.len() <= 6 { u32::from_str_radix(text, radix).ok() } else { None }
    };
    let v4 = |text: &str| {
        let parts: Vec<&str> = text.split('.').collect();
        parts.len() == 4 && parts.iter().all(|part| number(part, 10).is_some_and(|n| n <= 255))
    };
    let v6 = |text: &str| {
        // Leading zeros off every group, then the strict syntax.
        let groups = text.split(':').map(|group| {
            if group.contains('.') {
                let parts = group.split('.').map(|p| if p.is_empty() { "?" } else { short(p) });
                return parts.collect::<Vec<_>>().join(".");
            }
            if group.is_empty() { String::new() } else { short(group).to_owned() }
        });
        groups.collect::<Vec<_>>().join(":").parse::<std::net::Ipv6Addr>().is_ok()
    };
    let address_ok = if max == 128 { v6(address) } else { v4(address) };
    address_ok && number(bits, 10).is_some_and(|n| n <= max)
}

/// Without leading zeros, but not empty.
fn short(digits: &str) -> &str {
    let rest = digits.trim_start_matches('0');
    if rest.is_empty() { "0" } else { rest }
}

/// Characters of a DNS name in a policy; `*` only where patterns are.
pub(in crate::policy) fn is_dns_characters(text: &str, star: bool) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.') || (star && b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("80", Some(80)),
            ("0", Some(0)),
            ("65535", Some(65535)),
            ("65536", None),
            ("0100", Some(64)),
            ("080", None),
            ("1_000", Some(1000)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("0_7", Some(7)),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("0x000000000000050", Some(80)),
            ("0x", None),
            ("00", Some(0)),
        ] {
            assert_eq!(parse_port(text), expected, "{text}");
        }
    }

    #[test]
    fn prefixes() {
        for (text, agent, server) in [
            ("10.1.2.3/8", true, true),
            ("010.0.0.0/8", false, true),
            ("10.0.0.0/08", false, true),
            ("10.0.0.0", false, false),
            ("10.0.0.0/33", false, false),
            ("fd00::/8", true, true),
            ("fe80::1%eth0/64", false, false),
            ("::ffff:10.0.0.0/104", true, true),
            ("00001::/16", false, true),
            ("10.0.0/8", false, false),
            ("10.0.0.0/+8", false, false),
            ("/8", false, false),
        ] {
            assert_eq!(parse_prefix(text).is_some(), agent, "agent {text}");
            assert_eq!(is_sloppy_cidr(text), server, "server {text}");
        }
    }

    #[test]
    fn port_names() {
        for (text, expected) in [
            ("http", true),
            ("a-b", true),
            ("a--b", false),
            ("-a", false),
            ("a-", false),
            ("8080", false),
            ("8080a", true),
            ("0x50", true),
            ("abcdefghijklmnop", false),
            ("a_b", false),
            ("", false),
        ] {
            assert_eq!(is_service_name(text), expected, "{text}");
        }
    }
}
