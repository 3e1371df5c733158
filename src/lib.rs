//! cpg: dropped Hubble flows in, CiliumNetworkPolicy files out.
//!
//! The map, in the order in which data takes its way; a module may name what stands above it.
//!
//! | module | holds |
//! |---|---|
//! | [`names`], [`text`] | names that are safe in a path; text that is safe on a terminal |
//! | [`flow`] | what Hubble saw |
//! | [`policy`] | rules, documents, what Cilium makes of them and says to them, and the canonical form that is written |
//! | [`source`] | the wire: generated types |

pub mod aggregate;
pub mod build;
pub mod classify;
pub mod flow;
pub mod names;
pub mod policy;
pub mod source;
pub mod text;
