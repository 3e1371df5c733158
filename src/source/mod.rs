//! Where flows come from: the stream of a relay, or captures in files.

pub mod proto;
