//! The forms of strings that the schema knows.

use crate::flow::IcmpFamily;
use crate::policy::spec::syntax::{is_dns_characters, is_label_value, is_sloppy_cidr, is_subdomain};
use crate::policy::spec::{Entity, IpProtocol, LABEL_VALUE, Version, icmp_type_by_name};
use crate::text::visible;

/// What a string must look like.
#[derive(Clone, Copy)]
pub(super) enum Text {
    /// Anything.
    Free,
    /// Not empty.
    NotEmpty,
    /// Up to 255 characters.
    Short,
    /// One of these words.
    Word(&'static [&'static str]),
    /// The words of `fromEntities` / `toEntities`.
    Entity,
    /// The words of `protocol`.
    Protocol,
    /// `port`.
    Port,
    /// An address and a prefix length.
    Cidr,
    /// A label value.
    LabelValue,
    /// `matchName`.
    Name,
    /// `matchPattern`.
    Pattern,
    /// An item of `serverNames`.
    ServerName,
    /// `cidrGroupRef`.
    GroupName,
    /// `log.value`.
    Log,
    /// A point in time.
    Time,
}

impl Text {
    pub(super) fn check(self, text: &str, version: Version) -> Result<(), String> {
        let shown = visible(text, 60);
        let need =
            |fits: bool, what: &str| if fits { Ok(()) } else { Err(format!("`{shown}` is no {what}")) };
        let length = |max: usize| {
            if text.chars().count() > max { Err(format!("is longer than {max} characters")) } else { Ok(()) }
        };
        let dns_length = || if version >= Version::V1_17 { length(255) } else { Ok(()) };
        match self {
            Self::Free => Ok(()),
            Self::NotEmpty if text.is_empty() => Err("must not be empty".into()),
            Self::NotEmpty => Ok(()),
            Self::Short => length(255),
            Self::Word(words) if words.contains(&text) => Ok(()),
            Self::Word(words) => Err(format!("`{shown}` is not one of {}", words.join(", "))),
            Self::Entity => {
                let fits =
                    |e: &Entity| e.since() <= version && !matches!(e, Entity::WorldIpv4 | Entity::WorldIpv6);
                if Entity::from_name(text).filter(fits).is_some() {
                    return Ok(());
                }
                let words: Vec<_> = Entity::ALL.into_iter().filter(fits).map(Entity::as_str).collect();
                Err(format!("`{shown}` is no entity: {}", words.join(", ")))
            }
            Self::Protocol => {
                let mut words: Vec<_> = IpProtocol::ALL
                    .into_iter()
                    .filter(|p| p.since() <= version)
                    .map(IpProtocol::as_str)
                    .collect();
                words.push("ANY");
                if words.contains(&text) {
                    return Ok(());
                }
                let upper = text.to_uppercase();
                let hint = match upper.as_str() {
                    upper if words.contains(&upper) => "; it is written in upper case",
                    "ICMP" | "ICMPV6" => "; ICMP has its own member, icmps",
                    _ => "",
                };
                Err(format!("`{shown}` is no protocol: {}{hint}", words.join(", ")))
            }
            Self::Port => need(is_port(text), "port"),
            Self::Cidr => need(is_sloppy_cidr(text), "prefix: address/bits"),
            Self::LabelValue => need(is_label_value(text), &format!("label value ({LABEL_VALUE})")),
            Self::Name => dns_length().and_then(|()| need(is_name(text, false), "DNS name")),
            Self::Pattern => dns_length().and_then(|()| need(is_name(text, true), "DNS pattern")),
            Self::ServerName if version < Version::V1_18 => Ok(()),
            Self::ServerName => {
                let star = version >= Version::V1_20;
                let rest = if star {
                    text
                } else {
                    text.strip_prefix('*').map_or(text, |t| t.strip_prefix('*').unwrap_or(t))
                };
                let rest = match rest.strip_prefix('.') {
                    Some(after) if rest.len() < text.len() => after,
                    _ => text,
                };
                length(255).and_then(|()| need(is_name(rest, star), "server name"))
            }
            Self::GroupName => length(253).and_then(|()| need(is_subdomain(text), "name of a CIDR group")),
            Self::Log => length(32).and_then(|()| need(!text.chars().any(is_other), "printable text")),
            Self::Time => {
                let fits = text.as_bytes().get(10) == Some(&b'T') && text.parse::<jiff::Timestamp>().is_ok();
                need(fits, "point in time like 2026-01-31T12:00:00Z")
            }
        }
    }
}

/// Labels with single dots between or after them.
fn is_name(text: &str, star: bool) -> bool {
    !text.is_empty() && !text.starts_with('.') && !text.contains("..") && is_dns_characters(text, star)
}

/// The pattern of the CRD is wider than it looks: whatever begins with a digit, or ends like a port name.
fn is_port(text: &str) -> bool {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return true;
    }
    let mut dash = true;
    for c in text.bytes().rev() {
        match c {
            b'-' if !dash => dash = true,
            c if c.is_ascii_alphabetic() => return true,
            c if c.is_ascii_digit() => dash = false,
            _ => return false,
        }
    }
    false
}

/// The strings that the CRD takes as an ICMP type: numbers up to 255 and names of both families, except
/// that `ExtendedEchoReply` has a space in it there, which the agent does not know.
pub(super) fn icmp_type(text: &str) -> Result<(), String> {
    let number = text.parse::<u8>().is_ok_and(|n| n.to_string() == text);
    let known = |family| icmp_type_by_name(family, text).is_some() && text != "ExtendedEchoReply";
    if number || known(IcmpFamily::V4) || known(IcmpFamily::V6) || text == "ExtendedEcho Reply" {
        return Ok(());
    }
    let hint = if text == "ExtendedEchoReply" { ": a slip in the schema; write the number" } else { "" };
    Err(format!("`{}` is no ICMP type{hint}", visible(text, 60)))
}

/// Unicode's category "Other": controls, format characters, private use.
fn is_other(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2 | 0x180E | 0x200B..=0x200F
            | 0x202A..=0x202E | 0x2060..=0x2064 | 0x2066..=0x206F | 0xE000..=0xF8FF | 0xFEFF | 0xFFF9..=0xFFFB
            | 0x110BD | 0x110CD | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0001
            | 0xE0020..=0xE007F | 0xF0000..=0x10_FFFF)
}
