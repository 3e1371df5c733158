//! Identities that were not right yet when the packet was dropped: of an address that is a pod's, of a pod that
//! was starting.
//!
//! The agent resolves an address by a cache that follows the pods by some seconds. A rule from such a flow would
//! name an address that Cilium never matches, since it is a pod's, or labels that no pod has any more.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;

use super::Standing;
use crate::aggregate::{Addresses, Observed, ObservedPeer};
use crate::classify::Skip;
use crate::flow::{Direction, Identity};
use crate::policy::Entity;

/// Why this need is a moment's, if it is.
pub(super) fn race(
    (observation, tally): &Observed,
    addresses: &Addresses,
    passing: &HashMap<Arc<Identity>, Arc<Identity>>,
    standing: &impl Standing,
) -> Option<Skip> {
    let moment = |identity: &Arc<Identity>| {
        passing.get(identity).is_some_and(|next| !standing.are_alike(identity, next))
    };
    let peer = match &observation.peer {
        ObservedPeer::World(address) if addresses.is_pod(*address) => Some(Skip::IdentityRace),
        ObservedPeer::Entity(Entity::Init | Entity::Unmanaged) => {
            // An entity has no address; the samples of its connections have.
            let mut samples = tally.samples.iter().map(|(_, sample)| match observation.direction {
                Direction::Egress => &*sample.destination,
                Direction::Ingress => &*sample.source,
            });
            let is_pod = |text: &str| match text.parse::<IpAddr>() {
                Ok(address) => addresses.is_pod(address),
                Err(_) => addresses.is_pod_named(text),
            };
            (!tally.samples.is_empty() && samples.all(is_pod)).then_some(Skip::IdentityRace)
        }
        ObservedPeer::Pod(identity) if moment(identity) => Some(Skip::LabelsChanged),
        ObservedPeer::World(_)
        | ObservedPeer::Named { .. }
        | ObservedPeer::Entity(_)
        | ObservedPeer::Pod(_) => None,
    };
    peer.or_else(|| moment(&observation.subject).then_some(Skip::LabelsChanged))
}
