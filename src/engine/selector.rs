//! Label selectors, prepared, and answers that may be "nobody knows".

use ipnet::IpNet;

use super::Field;
use super::party::{Lookup, Party, prefix_of_key};
use crate::flow::{Label, LabelSource};
use crate::policy::spec::{LabelSelector, Operator, Requirement};

/// Whether something matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// It does not.
    No,
    /// It depends on what this field means in the cluster.
    Unknown(Field),
    /// It does.
    Yes,
}

/// Requirements that must all hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Selector(Box<[Prepared]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Prepared {
    source: Box<str>,
    key: Box<str>,
    operator: Operator,
    /// A flow's identity leaves this key out.
    unstable: bool,
    /// The prefix of a key of the source `cidr`, which matches by containment.
    net: Option<IpNet>,
}

// === impl Match ===

impl Match {
    pub(super) fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::No => Self::No,
            Self::Yes => other(),
            Self::Unknown(_) => match other() {
                Self::No => Self::No,
                _ => self,
            },
        }
    }

    pub(super) fn or(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Yes => Self::Yes,
            Self::No => other(),
            Self::Unknown(_) => match other() {
                Self::Yes => Self::Yes,
                _ => self,
            },
        }
    }
}

impl From<bool> for Match {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

// === impl Selector ===

impl Selector {
    pub(super) fn new<'a>(requirements: impl IntoIterator<Item = &'a Requirement>) -> Self {
        Self(requirements.into_iter().map(Prepared::new).collect())
    }

    pub(super) fn of(selector: &LabelSelector) -> Self {
        Self::new(&selector.requirements)
    }

    /// Labels that everything has that it selects: a key, and the values one of which it is. Only keys
    /// that flows tell.
    pub(super) fn needs(&self) -> impl Iterator<Item = (&str, &[Box<str>])> {
        self.0.iter().filter(|one| !one.unstable && one.net.is_none()).filter_map(|one| match &one.operator {
            Operator::In(values) => Some((&*one.key, &**values)),
            _ => None,
        })
    }

    /// `field`: what cannot be checked where a label is not known.
    pub(super) fn matches(&self, party: &Party, field: Field) -> Match {
        let mut all = Match::Yes;
        for requirement in &self.0 {
            all = all.and(|| requirement.matches(party, field));
            if all == Match::No {
                break;
            }
        }
        all
    }
}

// === impl Prepared ===

impl Prepared {
    fn new(requirement: &Requirement) -> Self {
        let key = &requirement.key;
        let label = Label { source: LabelSource::K8s, key: key.key.clone(), value: "".into() };
        Self {
            source: key.source.clone(),
            key: key.key.clone(),
            operator: requirement.operator.clone(),
            unstable: label.is_unstable(),
            net: (*key.source == *"cidr").then(|| prefix_of_key(&key.key)).flatten(),
        }
    }

    fn matches(&self, party: &Party, field: Field) -> Match {
        let found = match &self.net {
            Some(net) if party.labels().iter().any(|l| l.net.is_some_and(|inner| net.contains(&inner))) => {
                Lookup::Found("")
            }
            Some(_) => Lookup::Absent,
            None => party.lookup(&self.source, &self.key, self.unstable),
        };
        let value = match found {
            Lookup::Found(value) => Some(value),
            Lookup::Absent => None,
            Lookup::Unknown => return Match::Unknown(field),
        };
        let among = |values: &[Box<str>]| value.is_some_and(|value| values.iter().any(|v| **v == *value));
        Match::from(match &self.operator {
            Operator::In(values) => among(values),
            Operator::NotIn(values) => !among(values),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Endpoint;
    use crate::policy::spec::LabelKey;

    const OPEN: Match = Match::Unknown(Field::Labels);

    fn check(key: &str, operator: Operator, expected: [Match; 2]) {
        let (source, key) = key.split_once(':').unwrap();
        let selector = Selector::new([&Requirement { key: LabelKey::new(source, key), operator }]);
        let labels = ["k8s:app=web", "k8s:job-name=x", "cidr:10.1.0.0/16"];
        let whole = Party::new(1001, labels);
        let flow = Endpoint::new(1001, "shop", "p", "", labels);
        let seen = Party::from_identity(1001, &flow.identity, "default");
        assert_eq!([&whole, &seen].map(|p| selector.matches(p, Field::Labels)), expected, "{selector:?}");
    }

    #[test]
    fn operators() {
        use Match::{No, Yes};
        use Operator::{DoesNotExist, Exists, In, NotIn};
        let values = |list: &[&str]| list.iter().map(|v| Box::from(*v)).collect::<Vec<Box<str>>>();
        check("any:app", In(values(&["web", "x"])), [Yes, Yes]);
        check("k8s:app", In(values(&["x"])), [No, No]);
        check("container:app", Exists, [No, No]);
        check("any:app", NotIn(values(&["web"])), [No, No]);
        check("any:tier", NotIn(values(&["web"])), [Yes, Yes]);
        check("any:tier", DoesNotExist, [Yes, Yes]);
        check("any:job-name", Exists, [Yes, OPEN]);
        check("any:job-name", In(values(&["x"])), [Yes, OPEN]);
        check("cidr:10.0.0.0/8", Exists, [Yes, Yes]);
        check("cidr:10.1.1.0/24", Exists, [No, No]);
    }

    #[test]
    fn what_is_known_outweighs_what_is_not() {
        assert_eq!(OPEN.and(|| Match::No), Match::No);
        assert_eq!(OPEN.and(|| Match::Yes), OPEN);
        assert_eq!(OPEN.or(|| Match::Yes), Match::Yes);
        assert_eq!(OPEN.or(|| Match::No), OPEN);
        assert_eq!(Match::Yes.and(|| OPEN), OPEN);
    }
}
