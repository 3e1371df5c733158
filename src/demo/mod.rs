//! A relay inside the process, and a story for it to play.
//!
//! - [`relay`] speaks Hubble Relay's `Observer` service and plays scripts: for people (`cpg demo`) and,
//!   with faults in the script, as the server of tests. [`throughput`] sends as fast as the client reads.
//! - [`story`] is what happened in a small shop within four seconds, as responses of a relay, with the
//!   needs that can be read out of it.
//!
//! The story knows what had to be allowed because it was made up, never by asking another module of
//! this crate: what it says is a second opinion. Nothing here reads a clock: start times are arguments.

pub mod from_json;
pub mod need;
pub mod relay;
pub mod story;
pub mod throughput;

mod link;
mod view;

#[cfg(test)]
mod relay_tests;

pub use need::{Allow, Direction, Need, Peer};
pub use relay::{DemoRelay, Masks, Options, Script, Step, serve};
pub use throughput::{Load, serve_load};
