//! A relay inside the process, and captures whose truth is known.
//!
//! - [`relay`] speaks Hubble Relay's `Observer` service and plays scripts: for people (`cpg demo`) and,
//!   with faults in the script, as the server of tests. [`throughput`] sends as fast as the client reads.
//! - [`story`] is what happened in a small shop within four seconds, as responses of a relay, with the
//!   needs that can be read out of it.
//! - [`capture`] writes captures of any length as `hubble observe -o jsonpb` would, with their truth; [`from_json`]
//!   turns their lines into responses of a relay.
//!
//! Story and generator know what had to be allowed because they made it up, never by asking another
//! module of this crate: what they say is a second opinion. Nothing here reads a clock: start times and
//! seeds are arguments.

pub mod capture;
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
