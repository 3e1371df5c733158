//! From the labels of a party to the peer tests that may mean it.

use hashbrown::HashMap;

use super::party::Party;
use super::peer::PeerTest;

/// Tests by a label without which they mean nobody.
#[derive(Debug, Clone, Default)]
pub(super) struct ByLabel {
    /// By key, then by value.
    tests: HashMap<String, HashMap<String, Vec<usize>>>,
    /// For each test: whether it is among them.
    led_to: Vec<bool>,
}

// === impl ByLabel ===

impl ByLabel {
    /// Each test goes below the label that the fewest others ask for: that of an application rather than
    /// that of its namespace.
    pub(super) fn new(tests: &[PeerTest]) -> Self {
        let mut asking: HashMap<(&str, &str), usize> = HashMap::new();
        for (key, value) in tests.iter().flat_map(PeerTest::needs).flat_map(pairs) {
            *asking.entry((key, value)).or_default() += 1;
        }
        let mut all = Self::default();
        for (number, test) in tests.iter().enumerate() {
            let others = |need: &(&str, &[Box<str>])| pairs(*need).map(|pair| asking[&pair]).sum::<usize>();
            let rarest = test.needs().min_by_key(others);
            all.led_to.push(rarest.is_some());
            for (key, value) in rarest.into_iter().flat_map(pairs) {
                let by_value = all.tests.entry_ref(key).or_default();
                by_value.entry_ref(value).or_default().push(number);
            }
        }
        all
    }

    /// Whether [`Self::of`] finds this test where it matches; all others must be asked.
    pub(super) fn leads_to(&self, test: usize) -> bool {
        self.led_to[test]
    }

    /// Every test that may mean this party, by what is known of its labels.
    pub(super) fn of<'a>(&'a self, party: &'a Party) -> impl Iterator<Item = usize> + 'a {
        let below = |label: &super::party::PartyLabel| self.tests.get(&*label.key)?.get(&*label.value);
        party.labels().iter().filter_map(below).flatten().copied()
    }
}

fn pairs<'a>((key, values): (&'a str, &'a [Box<str>])) -> impl Iterator<Item = (&'a str, &'a str)> {
    values.iter().map(move |value| (key, &**value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::selector::Selector;
    use crate::flow::Reserved;
    use crate::policy::spec::{LabelKey, Operator, Requirement};

    fn test(requirements: &[(&str, Operator)]) -> PeerTest {
        let requirement = |(key, operator): &(&str, Operator)| {
            let (source, key) = key.split_once(':').unwrap();
            Requirement { key: LabelKey::new(source, key), operator: operator.clone() }
        };
        let all: Vec<Requirement> = requirements.iter().map(requirement).collect();
        PeerTest::Endpoints(Selector::new(&all))
    }

    fn is(values: &[&str]) -> Operator {
        Operator::In(values.iter().map(|v| Box::from(*v)).collect())
    }

    /// Which tests may mean a party with these labels.
    fn check(tests: &[PeerTest], labels: &[&str], expected: &[usize]) {
        let party = Party::new(1001, labels.iter().copied());
        let mut found: Vec<usize> = ByLabel::new(tests).of(&party).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{labels:?}");
    }

    #[test]
    fn the_rarest_label_leads() {
        let shop = || ("k8s:ns", is(&["shop"]));
        let tests = [
            test(&[shop(), ("any:app", is(&["a"]))]),
            test(&[shop(), ("any:app", is(&["b", "c"]))]),
            test(&[shop(), ("any:tier", Operator::Exists)]),
            test(&[("any:app", is(&["d"])), shop()]),
        ];
        check(&tests, &["k8s:ns=shop", "k8s:app=a"], &[0, 2]);
        check(&tests, &["k8s:ns=shop", "k8s:app=c"], &[1, 2]);
        check(&tests, &["k8s:app=b"], &[1]);
        check(&tests, &["k8s:app=d"], &[3]);
        check(&tests, &["k8s:ns=other", "k8s:tier=a"], &[]);
    }

    #[test]
    fn what_no_label_leads_to() {
        let tests = [
            test(&[("any:app", is(&["a"]))]),
            test(&[("any:app", Operator::Exists)]),
            test(&[("any:app", Operator::NotIn(vec!["a".into()]))]),
            test(&[("any:app", Operator::DoesNotExist)]),
            test(&[("any:job-name", is(&["a"]))]),
            test(&[("cidr:10.0.0.0/8", is(&[""]))]),
            PeerTest::All,
            PeerTest::Reserved(Reserved::World),
        ];
        let index = ByLabel::new(&tests);
        let led: Vec<usize> = (0..tests.len()).filter(|test| index.leads_to(*test)).collect();
        assert_eq!(led, [0]);
    }
}
