//! The way of the data, joined: source → classify → aggregate → build → merge → store.
//!
//! ```text
//!  feed (relay stream, or workers of a replay)          keeper (one loop)              writer
//!  item ─▶ Fold: classify ─▶ observe ─▶ ledger ──tick──▶ takes the ledgers ─▶ settle ─▶ build ─▶ store
//! ```
//!
//! The feed only ever folds, under a lock that the keeper takes for the moment of swapping a ledger:
//! nothing blocks the stream. While the writer is busy the window stays open. What could not be
//! written comes again with the next window.

mod backoff;
mod counters;
mod feed;
mod fold;
mod keeper;
mod live;
mod recorder;
mod shutdown;
mod summary;
mod writer;

pub use backoff::Backoff;
pub use counters::Counters;
pub use feed::{FeedEnd, Replay};
pub use fold::Fold;
pub use keeper::{Keeper, Notices};
pub use live::{Again, FlowStream, Live, Reopen};
pub use recorder::{Recorded, Recorder};
pub use shutdown::{Stop, on_signals};
pub use summary::{Exit, Summary};
pub use writer::{PolicyCounts, Results, Writer};

/// Distinct observations that one window holds: about 100 MB when full, and up to 600 MB when each of them
/// was seen over ten connections or more.
pub const LEDGER_CAPACITY: usize = 200_000;
