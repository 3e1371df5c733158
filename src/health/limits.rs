//! Known noise: how many drops of a reason an operator has got used to.

use std::collections::BTreeMap;

use super::Health;
use crate::classify::{Class, parse_reason};
use crate::flow::DropReason;
use crate::text::visible;

/// Per reason, so many infrastructure drops since the start do not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Noise(BTreeMap<DropReason, u64>);

/// A reason with more infrastructure drops since the start than are known noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excess {
    /// The reason.
    pub reason: DropReason,
    /// Its drops since the start.
    pub drops: u64,
    /// How many of them would have been noise.
    pub allowed: u64,
}

/// `REASON=N` as `--infra-threshold` takes it; the error is a sentence with the names that are near.
pub fn parse_threshold(text: &str) -> Result<(DropReason, u64), String> {
    let shown = visible(text, 80);
    let Some((name, number)) = text.split_once('=') else {
        return Err(format!("{shown:?}: give it as REASON=N, for example CT_MAP_INSERTION_FAILED=10"));
    };
    let (reason, _) = parse_reason(name)?;
    let class = Class::of(reason);
    if class != Class::Infrastructure {
        return Err(format!(
            "{reason} is of class {class}: only infrastructure drops change the exit code, so only they have a threshold"
        ));
    }
    match number.trim().parse() {
        Ok(number) => Ok((reason, number)),
        Err(_) => Err(format!("{shown:?}: {:?} is not a whole number from 0", visible(number, 40))),
    }
}

// === impl Noise ===

impl Noise {
    /// Sets how many drops of a reason are noise; the last word counts.
    pub fn set(&mut self, reason: DropReason, allowed: u64) {
        self.0.insert(reason, allowed);
    }

    /// How many drops of a reason are noise.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// Whether nothing is noise.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The infrastructure reasons that exceed it, by number.
    pub fn exceeded(&self, health: &Health) -> Vec<Excess> {
        health
            .reasons()
            .filter(|(class, _, _)| *class == Class::Infrastructure)
            .map(|(_, reason, what)| Excess {
                reason,
                drops: what.seen.new_packets(),
                allowed: self.of(reason),
            })
            .filter(|excess| excess.drops > excess.allowed)
            .collect()
    }
}
