//! Values inside of readable messages that this version does not know: mapped, and counted here.

use std::collections::BTreeMap;
use std::fmt;

/// Distinct values that are told apart; further ones are only counted.
const CAP: usize = 64;

/// What kind of value was not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnknownKind {
    /// `flow.Verdict`; the flow has the verdict `Unknown`.
    Verdict,
    /// `event_type.type`; the number is kept.
    EventType,
    /// `flow.TrafficDirection`; the flow has no direction.
    Direction,
    /// `flow.DropReason`; the number is kept.
    DropReason,
    /// `flow.LostEventSource`.
    LostSource,
    /// `relay.NodeState`.
    NodeState,
    /// `source` or `destination` is no endpoint; the flow has none.
    Endpoint,
    /// `IP` has a text that is no address; the flow has none.
    Address,
    /// A port or an ICMP type out of its range; layer 4 is unknown.
    Layer4,
    /// A DNS name that no policy can hold; it is left out.
    DnsName,
    /// `flow.L7FlowType`; what the record is of is not known.
    L7Type,
    /// `l7` is no record; no rule is made of it.
    L7Record,
    /// A time out of range or in a form that is none; the flow has none.
    Time,
}

/// One value that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownValue {
    /// What it should have been.
    pub kind: UnknownKind,
    /// Its number; `None` where it is no number.
    pub number: Option<i64>,
}

/// How often which value was not known: 64 values are told apart, all are counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnknownValues {
    counts: BTreeMap<UnknownValue, u64>,
    others: u64,
}

// === impl UnknownKind ===

impl UnknownKind {
    /// The words for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::EventType => "event type",
            Self::Direction => "traffic direction",
            Self::DropReason => "drop reason",
            Self::LostSource => "source of lost events",
            Self::NodeState => "node state",
            Self::Endpoint => "endpoint",
            Self::Address => "address",
            Self::Layer4 => "port or ICMP type",
            Self::DnsName => "DNS name",
            Self::L7Type => "kind of L7 record",
            Self::L7Record => "L7 record",
            Self::Time => "time",
        }
    }
}

// === impl UnknownValue ===

impl fmt::Display for UnknownValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        self.number.map_or(Ok(()), |number| write!(f, " {number}"))
    }
}

// === impl UnknownValues ===

impl UnknownValues {
    /// Counts one value.
    pub fn count(&mut self, kind: UnknownKind, number: Option<i64>) {
        self.add(UnknownValue { kind, number }, 1);
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: Self) {
        self.others += other.others;
        for (value, count) in other.counts {
            self.add(value, count);
        }
    }

    /// The values told apart, with how often they came.
    pub fn iter(&self) -> impl Iterator<Item = (UnknownValue, u64)> {
        self.counts.iter().map(|(value, count)| (*value, *count))
    }

    /// How often further values came, beyond those told apart.
    pub fn others(&self) -> u64 {
        self.others
    }

    /// How often a value was not known, of whatever kind.
    pub fn total(&self) -> u64 {
        self.counts.values().sum::<u64>() + self.others
    }

    /// Whether everything was known.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    fn add(&mut self, value: UnknownValue, count: u64) {
        if let Some(known) = self.counts.get_mut(&value) {
            *known += count;
        } else if self.counts.len() < CAP {
            self.counts.insert(value, count);
        } else {
            self.others += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_bounded_but_complete() {
        let mut values = UnknownValues::default();
        for number in 0..100 {
            values.count(UnknownKind::DropReason, Some(number));
        }
        values.count(UnknownKind::DropReason, Some(3));
        assert_eq!((values.iter().count(), values.others(), values.total()), (CAP, 36, 101));
        let mut sum = values.clone();
        sum.merge(values);
        assert_eq!(sum.total(), 202);
        assert_eq!(sum.iter().next().unwrap().0.to_string(), "drop reason 0");
    }
}
