//! What Cilium's agent decides about a connection at layers 3 and 4.
//!
//! The only place with policy semantics. An [`Engine`] is prepared once from sanitised policies and
//! asked about one side of a connection at a time: is it allowed by the policies of its subject? Both
//! sides must allow it. The answer names the rules behind it, and where something outside of the
//! policies would decide (services, cloud groups, TLS server names, ...) it says so instead of guessing.
//! A second question asks about what is inside of a connection that goes to a proxy ([`Request`]): an
//! HTTP request, a DNS query, the server name of a TLS handshake.
//!
//! The decision is that of Cilium's policy map, computed rule by rule: deny over redirect over allow,
//! then default deny, `enableDefaultDeny` and `allow-localhost`. `tests/it/conformance.rs` holds it
//! against Cilium's own engine, and DNS queries against Cilium's own DNS proxy. HTTP requests and server
//! names are Envoy's to decide, and no Envoy was run: see `request`.

mod conflict;
mod decision;
mod fqdn;
mod http;
mod index;
mod l4;
mod options;
mod party;
mod peer;
mod premises;
mod prepared;
pub mod question;
mod re2;
mod request;
mod selector;
mod set;
mod side;
mod sni;

pub use decision::{Allowance, Decision, Field, Origins, RuleRef, RuleRefs};
pub use l4::Traffic;
pub use options::{AllowLocalhost, EnablePolicy, EngineOptions, NamedPort};
pub use party::Party;
pub use premises::{Backends, Node, Service};
pub use prepared::{Peer, Prepared};
pub use request::{HttpRequest, Request, RequestDecision};
pub use set::Engine;

#[cfg(test)]
mod tests;
