//! What Hubble saw: one flow in the words of Hubble, whatever wire it came over.
//!
//! Nothing here decides anything. Live and replayed flows are the same [`Flow`]; the only door from
//! a wire to it is `source::decode` and `source::json`.

mod drop_reason;
mod endpoint;
mod event;
mod interest;
mod l4;
mod l7;
mod labels;

pub use drop_reason::DropReason;
pub use endpoint::{Endpoint, Identity};
pub use event::{Direction, EventKind, Flow, Verdict};
pub use interest::{Interest, Namespaces};
pub use l4::{Connection, IcmpFamily, L4, Port, Protocol, TcpFlags};
pub use l7::{L7, L7Kind, L7Record};
pub use labels::{Label, LabelSource, Labels, Reserved};
