//! The way of the data, joined: source → classify → aggregate → build → merge → store.
//!
//! ```text
//!  feed (relay stream, or workers of a replay)          keeper (one loop)              writer
//!  item ─▶ Fold: classify ─▶ observe ─▶ ledger ──tick──▶ takes the ledgers ─▶ settle ─▶ build ─▶ store
//! ```
//!
//! The feed only ever folds, under a lock that the keeper takes for the moment of swapping a ledger:
//! nothing blocks the stream. While the writer is busy the window stays open; the first one waits for the
//! cluster's policies, where these count. What could not be
//! written comes again with the next window.

mod background;
mod backoff;
mod capture;
mod cluster;
mod counters;
mod feed;
mod fold;
mod health_file;
mod held;
mod keeper;
mod keeping;
mod learning;
mod live;
mod naming;
mod notices;
mod other_side;
mod recorder;
mod requests;
mod resolvers;
mod results;
mod screening;
mod shutdown;
mod summary;
mod tasks;
mod triage;
mod vitals;
mod watch_file;
mod watched;
mod writer;

pub use backoff::Backoff;
pub use capture::{CaptureSink, Captured, Written, capture};
pub use counters::{Cap, Counters};
pub use feed::{FeedEnd, Replay};
pub use fold::{Common, Fold};
pub use health_file::HealthFile;
pub use held::{Held, HeldBack};
pub use keeper::{AFTER_SIGNAL, Keeper};
pub use keeping::Keeping;
pub use learning::Learning;
pub use live::{
    Again, Answer, Asking, FlowStream, GAPS, Lasting, Live, Question, Reopen, SharedWatch, Watch,
};
pub use naming::{Fqdn, Meant, Names, Naming};
pub use notices::Notices;
pub use other_side::Closed;
pub use recorder::{Recorded, Recorder};
pub use requests::{Opened, PATHS};
pub use results::{PolicyCounts, Results};
pub use shutdown::{Stop, on_signals};
pub use summary::{Exit, Summary, filter_name, lost_source_name, verdict_name};
pub use tasks::{ended, named, panic_line};
pub use vitals::{Snapshot, Vitals};
pub use watch_file::WatchFile;
pub use writer::Writer;

/// Distinct observations that one window holds: about 100 MB when full, and up to 600 MB when each of them
/// was seen over ten connections or more.
pub const LEDGER_CAPACITY: usize = 200_000;
