//! Captures of any length, as `hubble observe -o jsonpb` would have written them, with their truth.
//!
//! The generator draws a cluster and about 1,500 needs from the seed, then emits flows: connections of
//! these needs in turn, so that each need appears early, in the middle and late, among everything that
//! must teach nothing. The truth is written at the end, from what was really emitted. It knows which
//! labels select a workload by a reading of its own, and asks no other module.

mod draft;
mod labels;
mod line;
mod model;
mod quiet;
mod rng;
mod traffic;
mod wanted;

#[cfg(test)]
mod tests;

use std::io;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Lines of the capture.
    pub lines: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Lines with verdict DROPPED.
    pub dropped: u64,
    /// Lines of the truth.
    pub needs: u64,
    /// Distinct connections of all needs.
    pub connections: u64,
    /// Verdict events that belong to a need.
    pub verdict_events: u64,
    /// Drop events that belong to a need.
    pub drop_events: u64,
}

/// Writes a capture of so many lines, and its truth: one JSON object per need, sorted. The same seed
/// and number of lines give the same bytes. Memory does not grow with the number of lines.
pub fn generate(
    seed: u64,
    lines: u64,
    out: &mut impl io::Write,
    truth: &mut impl io::Write,
) -> io::Result<Summary> {
    let mut traffic = traffic::Traffic::new(seed, lines);
    traffic.run(out)?;
    traffic.truth(truth)
}
