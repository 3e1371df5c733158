//! The Kubernetes side of the way to the relay: kubeconfig, the Service, its pod, a port-forward.
//!
//! | module | holds |
//! |---|---|
//! | [`access`] | kubeconfig or service account → a client, by the rules of kubectl |
//! | `choice` | Service → ready pod → port; nothing but functions |
//! | [`forward`] | the way to the relay: a port-forward, or inside of the cluster its Service |
//! | [`facts`] | what the cluster says about itself: identity, Cilium's settings |
//! | `proxy` | the proxy on the way to the API server, as kubectl would take it |
//! | [`policies`] | the cluster's policies, listed and watched |
//! | `error` | what went wrong, in words with a remedy |
//!
//! Nothing here writes to a cluster.

pub mod access;
mod choice;
mod error;
pub mod facts;
pub mod forward;
pub mod policies;
mod proxy;

pub use access::{Access, AccessError, Cluster};
pub use forward::{RelayService, Target};
pub use policies::ClusterPolicies;

#[cfg(test)]
mod tests;
