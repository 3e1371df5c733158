//! cpg: dropped Hubble flows in, CiliumNetworkPolicy files out.
//!
//! The map, in the order in which data takes its way; a module may name what stands above it.
//!
//! | module | holds |
//! |---|---|
//! | [`names`], [`text`] | names that are safe in a path; text that is safe on a terminal |
//! | [`flow`] | what Hubble saw |
//! | [`policy`] | rules, documents, and the canonical form that is written |
//! | [`source`] | the wire: generated types |
//! | [`merge`] | rules joined into a file, so that nothing is lost and nothing widens |
//! | [`store`] | the output directory: index, lock, atomic files |

pub mod flow;
pub mod merge;
pub mod names;
pub mod policy;
pub mod source;
pub mod store;
pub mod text;
