//! cpg: dropped Hubble flows in, CiliumNetworkPolicy files out.
//!
//! cpg listens to Hubble Relay (or reads captures), reduces every dropped flow on arrival to what would
//! have had to be allowed, and keeps one CiliumNetworkPolicy file per workload that allows exactly
//! this, merged into what people wrote by hand. It never applies anything.
//!
//! The map, in the order in which data takes its way. A module may name what stands above it, never
//! what stands below; `tests/it/layers.rs` holds the exact table.
//!
//! ```text
//!                          the cluster's policies (kube) ─┐
//!  Hubble Relay ─┐                                        ▼
//!  capture file ─┼▶ source ─▶ classify ─▶ aggregate ─▶ screen ─▶ triage ─▶ build ─▶ merge ─▶ store ─▶ policies/<namespace>/<workload>.yaml
//!  demo relay  ──┘     │          │                       │                                     │
//!                      │          │                       └─────────────────────────────────────┴─▶ evidence: why each rule exists, for cpg explain
//!                      │          └─▶ health: drops that no rule helps, cluster-health.json
//!                      └─▶ coverage: what was watched and what was missed, coverage.json and --state-dir
//!
//!  every stage ─▶ counters ─▶ summary, exit code
//! ```
//!
//! | module | holds | pure |
//! |---|---|---|
//! | [`text`], [`names`] | text that is safe on a terminal; names that are safe in a path | yes |
//! | [`flow`] | what Hubble saw, whatever wire it came over | yes |
//! | [`policy`] | rules, documents, what Cilium makes of them and says to them, the canonical form that is written | yes |
//! | [`engine`] | what Cilium's agent would decide about a connection, and because of which rules | yes |
//! | [`source`] | a relay's stream and captures, decoded through one door | no |
//! | [`classify`] | what a flow means: a need, another kind of drop, nothing; the user's filters | yes |
//! | [`aggregate`] | observations, tallies, ledgers that join in any order, windows | yes |
//! | [`screen`] | what existing policies say about an observation; nothing unconfirmed is written | yes |
//! | [`triage`] | of what is new: written, pending, held back, or of a moment only | yes |
//! | [`build`] | observations → rules: selectors, peers, names, ports, requests | yes |
//! | [`merge`] | rules joined into an existing file, at node level | yes |
//! | [`evidence`] | why each rule exists: what was seen of it, and whether it still stands | yes |
//! | [`store`] | the output directory: index, names, lock, atomic files | no |
//! | [`health`] | what is broken in the cluster: drops by reason and place, remedies, `cluster-health.json` | yes |
//! | [`kube`] | kubeconfig; the way to the relay: Service, pod, port-forward; the cluster's policies | no |
//! | [`coverage`] | gaps: what was not watched, and why; the share of the time that was | yes |
//! | [`state`] | up to when each node was watched, and what is pending, kept over restarts | no |
//! | [`demo`] | a relay inside the process that plays a story; captures with their truth | no |
//! | [`bootstrap`] | the policies to begin with, for a namespace | yes |
//! | [`pipeline`] | the stages joined; counters, windows, shutdown, summary | no |
//! | [`metrics`] | the numbers of a running cpg over HTTP, and whether it is ready | no |
//! | [`cli`] | the command line, one file per command | no |

pub mod text;

pub mod names;

pub mod flow;

pub mod policy;

pub mod engine;

pub mod source;

pub mod classify;

pub mod aggregate;

pub mod screen;

pub mod triage;

pub mod build;

pub mod merge;

pub mod evidence;

pub mod store;

pub mod health;

pub mod kube;

pub mod coverage;

pub mod state;

pub mod demo;

pub mod bootstrap;

pub mod pipeline;

pub mod metrics;

pub mod cli;
