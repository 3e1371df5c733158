//! From flows to what would have had to be allowed: a flow is folded in when it arrives and is gone.
//!
//! Memory grows with distinct observations, never with flows. Ledgers can be joined in any order:
//! threads, files, halves and windows give the same result.

mod addresses;
mod ledger;
mod lookups;
mod observation;
mod sample;
mod tally;
mod window;

pub use addresses::Addresses;
pub use ledger::{Ledger, Room};
pub use lookups::{Lookup, Lookups, Resolver};
pub use observation::{Observation, ObservedPeer, Request, observe};
pub use sample::Smallest;
pub use tally::{CONNECTIONS, NODES, SAMPLES, Sample, Tally, join_samples};
/// An observation with the sum of its flows.
pub type Observed = (Observation, Tally);

pub use window::{Settled, Settling, Windows};
