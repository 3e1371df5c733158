//! The user's filters: which namespaces, protocols and drop reasons a run leaves out.

use std::collections::BTreeSet;

use super::Class;
use crate::flow::{Direction, DropReason, Endpoint, Flow, IcmpFamily, Interest, L4, Namespaces};

/// What a run leaves out.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// What the run wants to see at all.
    pub interest: Interest,
    /// `--ignore-protocol`
    pub ignore_protocols: BTreeSet<ProtocolFilter>,
    /// `--ignore-drop-reason`
    pub ignore_reasons: BTreeSet<DropReason>,
    /// `--include-refused`: names that the DNS proxy refused are needs.
    pub include_refused: bool,
}

/// A protocol as `--ignore-protocol` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolFilter {
    /// `tcp`
    Tcp,
    /// `udp`
    Udp,
    /// `icmpv4`
    Icmpv4,
    /// `icmpv6`
    Icmpv6,
    /// `sctp`
    Sctp,
}

// === impl Filters ===

impl Filters {
    /// Whether the flow's protocol is one to leave out.
    pub(super) fn ignores_protocol(&self, flow: &Flow) -> bool {
        let protocol = match flow.l4 {
            L4::Absent | L4::Unknown => return false,
            L4::Tcp { .. } => ProtocolFilter::Tcp,
            L4::Udp { .. } => ProtocolFilter::Udp,
            L4::Sctp { .. } => ProtocolFilter::Sctp,
            L4::Icmp { family: IcmpFamily::V4, .. } => ProtocolFilter::Icmpv4,
            L4::Icmp { family: IcmpFamily::V6, .. } => ProtocolFilter::Icmpv6,
        };
        self.ignore_protocols.contains(&protocol)
    }

    /// Whether a policy may be written for the flow's subject. Without a direction either end may be
    /// it.
    pub(super) fn may_be_subject(&self, flow: &Flow) -> bool {
        match flow.direction {
            None => self.concerns(flow),
            Some(Direction::Egress) => self.holds(flow.source.as_deref()),
            Some(Direction::Ingress) => self.holds(flow.destination.as_deref()),
        }
    }

    /// Whether one of the ends is in a namespace of the run.
    pub(super) fn concerns(&self, flow: &Flow) -> bool {
        self.holds(flow.source.as_deref()) || self.holds(flow.destination.as_deref())
    }

    pub(super) fn holds(&self, endpoint: Option<&Endpoint>) -> bool {
        match &self.interest.namespaces {
            Namespaces::All => true,
            only @ Namespaces::Only(_) => {
                endpoint.and_then(|e| e.identity.namespace.as_ref()).is_some_and(|n| only.contains(n))
            }
        }
    }
}

// === impl ProtocolFilter ===

impl ProtocolFilter {
    /// The names that the flag takes.
    pub const ALL: [(&'static str, Self); 5] = [
        ("tcp", Self::Tcp),
        ("udp", Self::Udp),
        ("icmpv4", Self::Icmpv4),
        ("icmpv6", Self::Icmpv6),
        ("sctp", Self::Sctp),
    ];

    /// From its name, in any case; the error lists the names.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, p)| p).ok_or_else(
            || {
                let names: Vec<&str> = Self::ALL.iter().map(|(name, _)| *name).collect();
                format!("unknown protocol {:?}; one of {}", crate::text::visible(text, 40), names.join(", "))
            },
        )
    }
}

/// A drop reason from its name in any case; the error lists the names that are near. A reason whose
/// drops are noise comes with a warning: nothing is reported for it anyway.
pub fn parse_reason(text: &str) -> Result<(DropReason, Option<String>), String> {
    let Some(reason) = DropReason::from_name(text.trim()) else {
        let shown = crate::text::visible(text, 60);
        let names: Vec<&str> = DropReason::known().filter_map(|reason| reason.name()).collect();
        let near = crate::text::near(&text.trim().to_ascii_uppercase(), names);
        return Err(match near.is_empty() {
            true => format!(
                "unknown drop reason {shown:?}; the names are those of Hubble's DropReason, for example POLICY_DENIED"
            ),
            false => format!("unknown drop reason {shown:?}; did you mean {}?", near.join(", ")),
        });
    };
    let warning = (Class::of(reason) == Class::Noise).then(|| {
        format!("drop reason {reason} is noise and is not reported anyway: ignoring it changes nothing")
    });
    Ok((reason, warning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_of_drop_reasons() {
        assert_eq!(parse_reason("policy_denied").unwrap().0, DropReason::POLICY_DENIED);
        let error = parse_reason("POLICY_DENID").unwrap_err();
        assert!(error.contains("POLICY_DENIED"), "{error}");
        let error = parse_reason("MAP_INSERTION").unwrap_err();
        assert!(error.contains("CT_MAP_INSERTION_FAILED"), "{error}");
        assert!(parse_reason("\u{1b}[31m").unwrap_err().contains("u{1b}"));
        assert!(parse_reason("NAT_NOT_NEEDED").unwrap().1.is_some());
        assert!(parse_reason("CT_MAP_INSERTION_FAILED").unwrap().1.is_none());
    }

    #[test]
    fn protocols() {
        assert_eq!(ProtocolFilter::parse("ICMPv6"), Ok(ProtocolFilter::Icmpv6));
        assert!(ProtocolFilter::parse("icmp").unwrap_err().contains("icmpv4, icmpv6"));
    }
}
