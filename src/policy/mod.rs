//! CiliumNetworkPolicy: the words of a rule, documents as they stand in files, and the one canonical
//! form that cpg writes.

mod canonical;
mod document;
mod http;
mod rule;
mod selector;
pub mod spec;
pub mod validate;
pub mod yaml;

pub use canonical::{MAX_FIELDS, MAX_PORTS, Policy, Rules};
pub use document::{Document, Kind, NAMESPACE_KEY, read_documents, subject_of};
pub use http::{PathForm, Segment};
pub use rule::{Allow, Entity, HttpMatch, IcmpType, L7Match, Peer, Rule, RuleId, Subject};
pub use selector::{IDENTIFYING, Selector};
