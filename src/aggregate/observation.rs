//! The policy-relevant part of a flow: subject, direction, peer, port or ICMP type.

use std::hash::{Hash, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

use crate::classify::Skip;
use crate::flow::{Direction, Endpoint, Flow, Identity, L4, L7Record, Port, Protocol, Reserved};
use crate::names::DnsName;
use crate::policy::{Allow, Entity, IcmpType, PathForm};

/// The longest path that a rule is written for, in bytes.
const MAX_PATH: usize = 2_048;
/// The longest method likewise; those that IANA lists have 17 at most.
const MAX_METHOD: usize = 32;

/// What would have had to be allowed, before anybody chose labels to say it by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Observation {
    /// The pod whose policy decided.
    pub subject: Arc<Identity>,
    /// As seen from the subject.
    pub direction: Direction,
    /// The other end.
    pub peer: ObservedPeer,
    /// Over what.
    pub allow: Allow,
    /// What was asked on it; `None` where the connection itself was dropped.
    pub request: Option<Request>,
}

// === impl Observation ===

impl Observation {
    /// A hash of it, the same on every machine.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = Xxh3Default::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// What was asked of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Request {
    /// An HTTP request.
    Http {
        /// In upper case: as sent, but for clients that do not keep to the standard's names.
        method: Box<str>,
        /// As it was sent, without its query.
        path: Box<str>,
    },
    /// A DNS query.
    Dns(DnsName),
}

/// The other end of a dropped connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObservedPeer {
    /// A pod, of any namespace and cluster.
    Pod(Arc<Identity>),
    /// One of Cilium's reserved identities.
    Entity(Entity),
    /// An address outside the cluster.
    World(IpAddr),
    /// An address outside the cluster that the subject had looked up.
    Named {
        /// The address.
        address: IpAddr,
        /// Every name that it was looked up by, sorted; at least one.
        names: Box<[DnsName]>,
    },
}

/// The observation that a flow of class policy makes.
pub fn observe(flow: &Flow, direction: Direction) -> Result<Observation, Skip> {
    let (source, destination) = match (flow.source.as_deref(), flow.destination.as_deref()) {
        (None, None) => return Err(Skip::NilEndpoint),
        (None, Some(_)) => return Err(Skip::NilSource),
        (Some(_), None) => return Err(Skip::NilDestination),
        (Some(source), Some(destination)) => (source, destination),
    };
    let (subject, peer, peer_address) = match direction {
        Direction::Egress => (source, destination, flow.ip.map(|(_, to)| to)),
        Direction::Ingress => (destination, source, flow.ip.map(|(from, _)| from)),
    };
    let (subject, peer, allow) = (subject_of(subject)?, peer_of(peer, peer_address)?, allow_of(&flow.l4)?);
    Ok(Observation { subject, direction, peer, allow, request: request_of(flow, allow)? })
}

/// The request that a proxy wrote down.
fn request_of(flow: &Flow, allow: Allow) -> Result<Option<Request>, Skip> {
    let Some(L7Record::Http { method, path }) = flow.l7.as_ref().map(|l7| &l7.record) else {
        return Ok(None);
    };
    // `http` rules are for TCP only.
    if !matches!(allow, Allow::Port(Protocol::Tcp, _)) {
        return Err(Skip::UnknownProtocol);
    }
    // A token of RFC 9110, section 5.6.2, without what means something to RE2; no method has that.
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#%&'-_`~".contains(&b);
    let is_method = (1..=MAX_METHOD).contains(&method.len()) && method.bytes().all(token);
    if !is_method || path.len() > MAX_PATH || PathForm::exactly(path).is_none() {
        return Err(Skip::HttpPath);
    }
    Ok(Some(Request::Http { method: method.to_ascii_uppercase().into(), path: path.clone() }))
}

impl Observation {
    /// With the names that the subject looked the peer's address up by, where it is one outside the
    /// cluster and the subject opens the connection.
    #[must_use]
    pub fn named(self, flow: &Flow) -> Self {
        match self.peer {
            ObservedPeer::World(address)
                if self.direction == Direction::Egress && !flow.destination_names.is_empty() =>
            {
                let names = flow.destination_names.clone();
                Self { peer: ObservedPeer::Named { address, names }, ..self }
            }
            _ => self,
        }
    }

    /// With the query that the DNS proxy wrote down.
    #[must_use]
    pub fn asking(self, flow: &Flow) -> Self {
        match flow.l7.as_deref().map(|l7| &l7.record) {
            Some(L7Record::Dns { query: Some(name), .. }) => {
                Self { request: Some(Request::Dns(name.clone())), ..self }
            }
            _ => self,
        }
    }
}

fn subject_of(endpoint: &Endpoint) -> Result<Arc<Identity>, Skip> {
    let identity = &endpoint.identity;
    if identity.is(Reserved::Unknown) {
        return Err(Skip::UnknownIdentity);
    }
    if identity.is_world() && endpoint.address_is_pod {
        return Err(Skip::WorldLabelOnPod);
    }
    if !identity.reserved.is_empty() {
        return Err(Skip::ReservedSubject);
    }
    pod(identity)
}

fn peer_of(endpoint: &Endpoint, address: Option<IpAddr>) -> Result<ObservedPeer, Skip> {
    let identity = &endpoint.identity;
    if let Some(entity) = entity_of(endpoint) {
        // A pod that Cilium does not manage is one for good, and has a name too.
        if entity == Entity::Init && endpoint.address_is_pod {
            return Err(Skip::IdentityRace);
        }
        return Ok(ObservedPeer::Entity(entity));
    }
    if identity.is_world() {
        if endpoint.address_is_pod {
            return Err(Skip::WorldLabelOnPod);
        }
        return match address {
            Some(address) if !address.is_unspecified() => Ok(ObservedPeer::World(address)),
            _ => Err(Skip::WorldNoIp),
        };
    }
    if !identity.reserved.is_empty() {
        return Err(Skip::UnknownIdentity);
    }
    pod(identity).map(ObservedPeer::Pod)
}

/// The entity of a reserved identity. An identity can have several reserved labels in any order:
/// the API server comes first wherever it runs, since a rule for its node or address would break
/// when it moves; a node that says both host and remote-node is the host where its number is 1.
fn entity_of(endpoint: &Endpoint) -> Option<Entity> {
    let identity = &endpoint.identity;
    let order = [
        (Reserved::KubeApiserver, Entity::KubeApiserver),
        (Reserved::Ingress, Entity::Ingress),
        (Reserved::Health, Entity::Health),
        (Reserved::Init, Entity::Init),
        (Reserved::Unmanaged, Entity::Unmanaged),
    ];
    if let Some((_, entity)) = order.into_iter().find(|(reserved, _)| identity.is(*reserved)) {
        return Some(entity);
    }
    match (identity.is(Reserved::Host), identity.is(Reserved::RemoteNode)) {
        (true, true) if endpoint.number != 1 => Some(Entity::RemoteNode),
        (true, _) => Some(Entity::Host),
        (false, true) => Some(Entity::RemoteNode),
        (false, false) => None,
    }
}

fn pod(identity: &Arc<Identity>) -> Result<Arc<Identity>, Skip> {
    match identity.namespace {
        Some(_) => Ok(Arc::clone(identity)),
        None if identity.namespace_invalid => Err(Skip::InvalidName),
        None => Err(Skip::EmptyNamespace),
    }
}

fn allow_of(l4: &L4) -> Result<Allow, Skip> {
    let port = |protocol, number| Port::new(number).map(|port| Allow::Port(protocol, port)).ok_or(Skip::NoL4);
    match *l4 {
        L4::Absent => Err(Skip::NoL4),
        L4::Unknown => Err(Skip::UnknownProtocol),
        L4::Tcp { destination, .. } => port(Protocol::Tcp, destination),
        L4::Udp { destination, .. } => port(Protocol::Udp, destination),
        L4::Sctp { destination, .. } => port(Protocol::Sctp, destination),
        L4::Icmp { family, kind, .. } => {
            IcmpType::new(kind).map(|kind| Allow::Icmp(family, kind)).ok_or(Skip::IcmpTypeZero)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{DropReason, EventKind, TcpFlags, Verdict};
    use crate::names::NodeName;

    const POD: [&str; 2] = ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"];

    fn check(peer: Option<Endpoint>, address: &str, expected: Result<ObservedPeer, Skip>) {
        let got = observe(&some_flow(peer, address), Direction::Egress).map(|o| o.peer);
        assert_eq!(got, expected);
    }

    fn some_flow(peer: Option<Endpoint>, address: &str) -> Flow {
        Flow {
            time: None,
            uuid: "".into(),
            node: NodeName::default(),
            verdict: Verdict::Dropped,
            event: EventKind::PolicyVerdict,
            drop_reason: DropReason::POLICY_DENIED,
            direction: Some(Direction::Egress),
            is_reply: None,
            ip: Some(("10.0.0.1".parse().unwrap(), address.parse().unwrap())),
            l4: L4::Tcp {
                source: 40000,
                destination: 443,
                flags: Some(TcpFlags { syn: true, ..TcpFlags::default() }),
            },
            source: Some(Arc::new(Endpoint::new(300, "shop", "web-1", "", POD))),
            destination: peer.map(Arc::new),
            destination_names: [].into(),
            l7: None,
            denied_by: Vec::new(),
            count: 1,
        }
    }

    fn reserved(number: u32, labels: &[&str]) -> Option<Endpoint> {
        Some(Endpoint::new(number, "", "", "", labels.iter().copied()))
    }

    fn world(address: &str) -> Result<ObservedPeer, Skip> {
        Ok(ObservedPeer::World(address.parse().unwrap()))
    }

    #[test]
    fn the_api_server_comes_first_in_every_shape() {
        let api = Ok(ObservedPeer::Entity(Entity::KubeApiserver));
        check(reserved(7, &["reserved:kube-apiserver", "reserved:remote-node"]), "10.0.0.9", api.clone());
        check(reserved(1, &["reserved:host", "reserved:kube-apiserver"]), "10.0.0.9", api.clone());
        check(
            reserved(16_777_217, &["cidr:192.0.2.1/32", "reserved:kube-apiserver", "reserved:world"]),
            "192.0.2.1",
            api,
        );
    }

    #[test]
    fn a_pod_whose_labels_are_not_known_yet_is_no_entity() {
        let at = |number, label| Some(Endpoint::new(number, "shop", "api-1", "", [label]));
        check(at(5, "reserved:init"), "10.0.0.2", Err(Skip::IdentityRace));
        check(at(3, "reserved:unmanaged"), "10.0.0.2", Ok(ObservedPeer::Entity(Entity::Unmanaged)));
    }

    #[test]
    fn entities_exactly_as_seen() {
        let entity = |e| Ok(ObservedPeer::Entity(e));
        check(reserved(1, &["reserved:host"]), "10.0.0.9", entity(Entity::Host));
        check(reserved(6, &["reserved:remote-node"]), "10.0.0.9", entity(Entity::RemoteNode));
        check(
            reserved(6, &["reserved:host", "reserved:remote-node"]),
            "10.0.0.9",
            entity(Entity::RemoteNode),
        );
        check(reserved(33_554_433, &["reserved:remote-node"]), "10.0.0.9", entity(Entity::RemoteNode));
        check(reserved(8, &["reserved:ingress"]), "10.0.0.9", entity(Entity::Ingress));
        check(reserved(4, &[]), "10.0.0.9", entity(Entity::Health));
        check(reserved(5, &["reserved:init"]), "10.0.0.9", entity(Entity::Init));
        check(reserved(3, &["reserved:unmanaged"]), "10.0.0.9", entity(Entity::Unmanaged));
    }

    #[test]
    fn world_in_every_shape_is_the_address() {
        check(reserved(2, &["reserved:world"]), "192.0.2.7", world("192.0.2.7"));
        check(reserved(9, &["reserved:world-ipv4"]), "192.0.2.7", world("192.0.2.7"));
        check(reserved(10, &["reserved:world-ipv6"]), "2001:db8::7", world("2001:db8::7"));
        let cidr = ["cidr:192.0.2.0/24", "reserved:world-ipv4"];
        check(reserved(16_777_300, &cidr), "192.0.2.7", world("192.0.2.7"));
        check(reserved(16_777_301, &["cidr:192.0.2.0/24"]), "192.0.2.7", world("192.0.2.7"));
        check(reserved(2, &["reserved:world"]), "0.0.0.0", Err(Skip::WorldNoIp));
    }

    #[test]
    fn names_are_of_addresses_outside_that_the_subject_opens_connections_to() {
        let name = |text: &str| DnsName::parse(text).unwrap();
        let check = |peer: ObservedPeer, direction, names: &[&str], expected: ObservedPeer| {
            let flow = Flow {
                destination_names: names.iter().map(|n| name(n)).collect(),
                ..some_flow(None, "192.0.2.7")
            };
            let subject = Arc::new(Identity::new(300, "shop", "", POD));
            let allow = Allow::Port(Protocol::Tcp, Port::new(443).unwrap());
            let seen = Observation { subject, direction, peer, allow, request: None };
            assert_eq!(seen.named(&flow).peer, expected);
        };
        use Direction::{Egress, Ingress};
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        let world = || ObservedPeer::World(address);
        let named = ObservedPeer::Named { address, names: [name("a.example"), name("b.example")].into() };
        check(world(), Egress, &["a.example", "b.example"], named);
        check(world(), Egress, &[], world());
        check(world(), Ingress, &["a.example"], world());
        let api = || ObservedPeer::Entity(Entity::KubeApiserver);
        check(api(), Egress, &["api.example"], api());
    }

    #[test]
    fn a_world_label_on_a_pods_address_is_not_believed() {
        let peer = Endpoint::new(2, "shop", "details-1", "", ["reserved:world"]);
        check(Some(peer), "10.0.0.7", Err(Skip::WorldLabelOnPod));
    }

    #[test]
    fn what_nobody_can_name() {
        check(None, "10.0.0.7", Err(Skip::NilDestination));
        check(reserved(0, &[]), "10.0.0.7", Err(Skip::UnknownIdentity));
        check(reserved(11, &[]), "10.0.0.7", Err(Skip::UnknownIdentity));
        check(reserved(300, &["k8s:app=x"]), "10.0.0.7", Err(Skip::EmptyNamespace));
        let hostile = Endpoint::new(300, "../..", "x", "", ["k8s:app=x"]);
        check(Some(hostile), "10.0.0.7", Err(Skip::InvalidName));
    }

    #[test]
    fn a_reserved_subject_is_not_guessed() {
        let host = Endpoint::new(1, "", "", "", ["reserved:host"]);
        assert_eq!(subject_of(&host), Err(Skip::ReservedSubject));
        let raced = Endpoint::new(2, "shop", "web-1", "", ["reserved:world"]);
        assert_eq!(subject_of(&raced), Err(Skip::WorldLabelOnPod));
    }
}
