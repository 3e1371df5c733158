//! Many addresses outside of the cluster on one port: a list of them is no policy that lasts.
//!
//! A name would say what is meant, or a range; either is for people to decide. So a port with more addresses
//! than the limit is held back as a whole, for half of such a list serves nobody. What stands in the file
//! already counts, as far as it is single addresses; a range is a decision that somebody took.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use xxhash_rust::xxh3::xxh3_64;

use super::{Sorted, Standing};
use crate::aggregate::{Observed, ObservedPeer, Smallest};
use crate::classify::Skip;
use crate::flow::Direction;
use crate::policy::{Allow, Subject};
use crate::text::grouped;

/// Crowds that are remembered; those beyond are one.
const MOST: usize = 5_000;
/// Ranges that are told apart in a crowd.
const RANGES: usize = 64;
/// Addresses that are named as examples.
const EXAMPLES: usize = 3;
/// Ranges that are wider than these say no more than the world.
const WIDEST: (u8, u8) = (8, 16);

type Key = (Subject, Direction, Allow);

/// What is known of the addresses of a key in one window.
struct Stands {
    single: BTreeSet<IpNet>,
    /// cpg writes none, so people did.
    ranges: BTreeSet<IpNet>,
    new: BTreeSet<IpAddr>,
}

/// What is held back.
#[derive(Debug, Default)]
pub struct Crowds {
    known: BTreeMap<Key, Crowd>,
    /// Those for which there was no room, and their flows.
    others: u64,
}

/// The addresses of one subject on one port in one direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Crowd {
    /// Whose they are.
    pub subject: Subject,
    /// Who begins: ingress, the addresses.
    pub direction: Direction,
    /// On what.
    pub allow: Allow,
    /// Flows that were held back.
    pub flows: u64,
    limit: usize,
    addresses: Smallest<64>,
    examples: BTreeSet<IpAddr>,
    /// Sorted, none in another.
    ranges: Vec<IpNet>,
    /// Addresses that stand in the file.
    standing: usize,
}

// === impl Crowds ===

impl Crowds {
    /// Holds back what is above the limit; the rest is to be written, in the order of before.
    pub(super) fn sort(
        &mut self,
        observations: Vec<Observed>,
        limit: usize,
        standing: &mut impl Standing,
        sorted: &mut Sorted,
    ) {
        // A key for each, and for each key the addresses that stand and those that are new.
        let mut keyed = Vec::with_capacity(observations.len());
        let mut known: BTreeMap<Key, Stands> = BTreeMap::new();
        for observed in observations {
            let (observation, tally) = &observed;
            let subject = match observation.peer {
                ObservedPeer::World(address) => standing.subject(observation).map(|s| (s, address)),
                _ => None,
            };
            let Some((subject, address)) = subject else {
                keyed.push((observed, None));
                continue;
            };
            let key = (subject, observation.direction, observation.allow);
            let there = known.entry(key.clone()).or_insert_with_key(|(subject, direction, allow)| {
                let (single, ranges) =
                    standing.ranges(subject, *direction, *allow).into_iter().partition(|r| host_bits(r) == 0);
                Stands { single, ranges, new: BTreeSet::new() }
            });
            if there.ranges.iter().any(|range| range.contains(&address)) {
                sorted.skipped.push((Skip::AlreadyAllowed, tally.events()));
            } else if there.single.contains(&IpNet::from(address)) {
                keyed.push((observed, None));
            } else {
                there.new.insert(address);
                keyed.push((observed, Some((key, address))));
            }
        }
        let exceeded = |crowds: &Self, key: &Key| {
            crowds.known.contains_key(key)
                || known.get(key).is_some_and(|there| there.single.len() + there.new.len() > limit)
        };
        let mut begun = BTreeSet::new();
        for (observed, key) in keyed {
            let Some((key, address)) = key.filter(|(key, _)| exceeded(self, key)) else {
                sorted.write.push(observed);
                continue;
            };
            let flows = observed.1.events();
            sorted.skipped.push((Skip::WorldLimit, flows));
            if !self.known.contains_key(&key) {
                if self.known.len() >= MOST {
                    self.others += flows;
                    continue;
                }
                begun.insert(key.clone());
            }
            let there = known.get(&key).map_or(0, |there| there.single.len());
            let crowd = self.known.entry(key).or_insert_with_key(|key| Crowd::new(key.clone(), limit));
            crowd.standing = there;
            crowd.add(address, flows);
        }
        sorted.new_crowds = begun.iter().filter_map(|key| self.known.get(key)).cloned().collect();
    }

    /// Each crowd, by subject.
    pub fn iter(&self) -> impl Iterator<Item = &Crowd> {
        self.known.values()
    }

    /// Flows of those for which there was no room.
    pub fn others(&self) -> u64 {
        self.others
    }
}

// === impl Crowd ===

impl Crowd {
    fn new((subject, direction, allow): Key, limit: usize) -> Self {
        Self {
            subject,
            direction,
            allow,
            flows: 0,
            limit,
            addresses: Smallest::default(),
            examples: BTreeSet::new(),
            ranges: Vec::new(),
            standing: 0,
        }
    }

    fn add(&mut self, address: IpAddr, flows: u64) {
        self.flows += flows;
        self.addresses.insert(match address {
            IpAddr::V4(address) => xxh3_64(&address.octets()),
            IpAddr::V6(address) => xxh3_64(&address.octets()),
        });
        self.examples.insert(address);
        while self.examples.len() > EXAMPLES {
            self.examples.pop_last();
        }
        if self.ranges.iter().any(|range| range.contains(&address)) {
            return;
        }
        let range = IpNet::from(address);
        let at = self.ranges.partition_point(|known| *known < range);
        self.ranges.insert(at, range);
        narrow(&mut self.ranges, RANGES);
    }

    /// What is needed, in words that are safe to print.
    pub fn what(&self) -> String {
        let way = if self.direction == Direction::Ingress { "ingress from" } else { "egress to" };
        let examples: Vec<String> = self.examples.iter().map(ToString::to_string).collect();
        let more = if self.addresses.count() > examples.len() as u64 { ", …" } else { "" };
        let standing = match self.standing {
            0 => String::new(),
            n => format!(", beside {} in its file", grouped(n as u64)),
        };
        let number = self.number();
        format!(
            "{way} {number} outside of the cluster on {} ({}{more}){standing}",
            self.allow,
            examples.join(", ")
        )
    }

    /// What could be written instead, and what it opens.
    pub fn proposal(&self) -> String {
        let ingress = self.direction == Direction::Ingress;
        let (entities, cidrs) =
            if ingress { ("fromEntities", "fromCIDRSet") } else { ("toEntities", "toCIDRSet") };
        let world = format!(
            "`{entities}: [world]` on {} opens it to every address outside of the cluster, where {} seen",
            self.allow,
            if self.addresses.count() == 1 { "1 was".to_owned() } else { format!("{} were", self.seen()) },
        );
        let mut ways = Vec::new();
        if !ingress {
            ways.push("names, where Hubble sees the DNS of the pods (a policy with dns rules), are written by themselves".to_owned());
        }
        let ranges = self.few_ranges();
        let wide = |range: &IpNet| match range {
            IpNet::V4(range) => range.prefix_len() < WIDEST.0,
            IpNet::V6(range) => range.prefix_len() < WIDEST.1,
        };
        if ranges.iter().any(wide) {
            ways.push(world);
        } else {
            let list: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            let by_range = format!(
                "`{cidrs}` with {} on {} opens {} for the {} seen",
                list.join(", "),
                self.allow,
                opened(&ranges),
                self.seen()
            );
            if ingress {
                ways.extend([world, by_range]);
            } else {
                ways.push(by_range);
            }
        }
        ways.push("--world-limit 0 writes each address".to_owned());
        ways.join("; ")
    }

    /// How many addresses were seen.
    fn seen(&self) -> String {
        let about = if self.addresses.is_exact() { "" } else { "about " };
        format!("{about}{}", grouped(self.addresses.count()))
    }

    fn number(&self) -> String {
        let word = if self.addresses.count() == 1 { "address" } else { "addresses" };
        format!("{} {word}", self.seen())
    }

    fn few_ranges(&self) -> Vec<IpNet> {
        let mut ranges = self.ranges.clone();
        let families = usize::from(ranges.iter().any(|r| matches!(r, IpNet::V4(_))))
            + usize::from(ranges.iter().any(|r| matches!(r, IpNet::V6(_))));
        narrow(&mut ranges, self.limit.clamp(families.max(1), 5));
        ranges
    }
}

/// Joins neighbours to their smallest common range until no more than so many are left, or one of each
/// family. Those that open the least first.
fn narrow(ranges: &mut Vec<IpNet>, most: usize) {
    while ranges.len() > most {
        let joined =
            ranges.windows(2).enumerate().filter_map(|(i, pair)| Some((i, common(pair[0], pair[1])?)));
        let smallest = joined.min_by_key(|(i, range)| (host_bits(range), *i));
        let Some((i, range)) = smallest else { return };
        ranges.retain(|known| !range.contains(known));
        ranges.insert(i.min(ranges.len()), range);
        ranges.sort_unstable();
    }
}

/// The smallest range that holds both; `None` for two families.
fn common(a: IpNet, b: IpNet) -> Option<IpNet> {
    let least = a.prefix_len().min(b.prefix_len());
    match (a, b) {
        (IpNet::V4(a), IpNet::V4(b)) => {
            let same = (a.addr().to_bits() ^ b.addr().to_bits()).leading_zeros() as u8;
            Ipv4Net::new(a.addr(), same.min(least)).ok().map(|net| IpNet::V4(net.trunc()))
        }
        (IpNet::V6(a), IpNet::V6(b)) => {
            let same = (a.addr().to_bits() ^ b.addr().to_bits()).leading_zeros() as u8;
            Ipv6Net::new(a.addr(), same.min(least)).ok().map(|net| IpNet::V6(net.trunc()))
        }
        _ => None,
    }
}

fn host_bits(range: &IpNet) -> u8 {
    range.max_prefix_len() - range.prefix_len()
}

/// How many addresses these are: `512 addresses`, or as a power of two.
fn opened(ranges: &[IpNet]) -> String {
    let largest = ranges.iter().map(host_bits).max().unwrap_or_default();
    if largest >= 40 {
        return format!("more than 2^{largest} addresses");
    }
    let all: u64 = ranges.iter().map(|range| 1u64 << host_bits(range)).sum();
    if all == 1 { "1 address".to_owned() } else { format!("{} addresses", grouped(all)) }
}
