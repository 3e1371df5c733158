//! Needs that are held back: not written by themselves, each with what would be written and what that opens.

use std::collections::BTreeMap;

use crate::classify::Skip;

/// Things held back that are told apart; of more only the flows are counted.
const MOST: usize = 1_000;

/// One thing that is held back. All texts are safe to print.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// Why.
    pub reason: Skip,
    /// The subject, in words.
    pub who: String,
    /// What it needs.
    pub what: String,
    /// What could be written for it, and what that would open.
    pub proposal: String,
}

/// Everything that is held back, with the flows behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldBack {
    known: BTreeMap<Held, u64>,
    others: u64,
}

// === impl HeldBack ===

impl HeldBack {
    /// Holds something back that these flows asked for.
    pub fn add(&mut self, held: Held, flows: u64) {
        if self.known.len() >= MOST && !self.known.contains_key(&held) {
            self.others += flows;
        } else {
            *self.known.entry(held).or_default() += flows;
        }
    }

    /// Counts flows of things for which there was no room elsewhere.
    pub fn add_others(&mut self, flows: u64) {
        self.others += flows;
    }

    /// Forgets what was held back for this reason: it is told anew, or has been let go.
    pub fn clear(&mut self, reason: Skip) {
        self.known.retain(|held, _| held.reason != reason);
    }

    /// Whether nothing is held back.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty() && self.others == 0
    }

    /// Each with its flows, by reason.
    pub fn iter(&self) -> impl Iterator<Item = (&Held, u64)> {
        self.known.iter().map(|(held, flows)| (held, *flows))
    }

    /// The flows of those for which there was no room.
    pub fn others(&self) -> u64 {
        self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(reason: Skip, what: usize) -> Held {
        Held { reason, who: "shop/web".into(), what: what.to_string(), proposal: String::new() }
    }

    #[test]
    fn each_once_and_no_more_than_there_is_room_for() {
        let mut back = HeldBack::default();
        for what in 0..MOST + 5 {
            back.add(held(Skip::WorldNoIp, what), 2);
        }
        back.add(held(Skip::WorldNoIp, 0), 3);
        assert_eq!((back.iter().count(), back.others()), (MOST, 10));
        assert_eq!(back.iter().find(|(h, _)| h.what == "0").map(|(_, flows)| flows), Some(5));
        back.clear(Skip::NoL4);
        assert_eq!(back.iter().count(), MOST);
        back.clear(Skip::WorldNoIp);
        assert_eq!(back.iter().count(), 0);
    }
}
