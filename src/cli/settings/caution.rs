//! How careful a run is: what was typed, checked.

use jiff::SignedDuration;

use super::{Mistakes, duration, keep};
use crate::aggregate::CONNECTIONS;
use crate::cli::args::CautionArgs;
use crate::triage::Caution;

/// What was asked for; mistakes are told.
pub(super) fn caution(args: &CautionArgs, mistakes: &mut Mistakes) -> Caution {
    let CautionArgs { world_limit, min_connections, settle } = args;
    let most = CONNECTIONS as u64 - 1;
    if !(1..=most).contains(min_connections) {
        mistakes.push(format!("--min-connections: from 1 to {most}"));
    }
    let settle = settle.as_deref().and_then(|text| keep(duration("--settle", text), mistakes));
    Caution {
        world_limit: Some(*world_limit).filter(|limit| *limit > 0),
        min_connections: *min_connections,
        settle: settle.and_then(|settle| SignedDuration::try_from(settle).ok()).unwrap_or_default(),
    }
}
