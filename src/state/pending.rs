//! `pending.json`: needs that were not seen often or long enough yet, in `--state-dir`; `docs/state.md`.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::format::{VERSION, versioned};
use crate::aggregate::{Observation, ObservedPeer, Request, Tally};
use crate::flow::{Direction, IcmpFamily, Identity, Port, Protocol};
use crate::names::{DnsName, NodeName};
use crate::policy::{Allow, Entity, IcmpType};
use crate::triage::{Events, Pending};

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    needs: Vec<Need>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Need {
    subject: Pod,
    direction: Way,
    peer: Peer,
    allow: Allowed,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    request: Option<Asked>,
    connections: Vec<u64>,
    verdict_events: u64,
    drop_events: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    nodes: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pod {
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    cluster: String,
    labels: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    Ingress,
    Egress,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Peer {
    Pod(Pod),
    Entity(String),
    World(IpAddr),
    Named { address: IpAddr, names: Vec<String> },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Allowed {
    Port { protocol: String, port: u16 },
    Icmp { family: String, kind: u8 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Asked {
    Http { method: String, path: String },
    Dns(String),
}

/// The text of the file.
pub(super) fn write(pending: &Pending) -> String {
    let document = Document { version: VERSION, needs: pending.iter().map(Need::of).collect() };
    // Numbers and texts only: nothing that JSON does not have.
    serde_json::to_string(&document).unwrap_or_default() + "\n"
}

/// What a file says, or why it cannot be used.
pub(super) fn read(text: &str) -> Result<Pending, String> {
    let document: Document = versioned(text)?;
    let needs: Option<Vec<_>> = document.needs.into_iter().map(Need::read).collect();
    needs.map(Pending::carried).ok_or_else(|| "it is damaged (a need that nobody can have)".to_owned())
}

// === impl Need ===

impl Need {
    fn of((observation, tally, (verdict_events, drop_events)): (&Observation, &Tally, Events)) -> Self {
        let Observation { subject, direction, peer, allow, request } = observation;
        Self {
            subject: Pod::of(subject),
            direction: match direction {
                Direction::Ingress => Way::Ingress,
                Direction::Egress => Way::Egress,
            },
            peer: match peer {
                ObservedPeer::Pod(identity) => Peer::Pod(Pod::of(identity)),
                ObservedPeer::Entity(entity) => Peer::Entity(entity.as_str().to_owned()),
                ObservedPeer::World(address) => Peer::World(*address),
                ObservedPeer::Named { address, names } => {
                    Peer::Named { address: *address, names: names.iter().map(ToString::to_string).collect() }
                }
            },
            allow: match allow {
                Allow::Port(protocol, port) => {
                    Allowed::Port { protocol: protocol.as_str().to_owned(), port: port.get() }
                }
                Allow::Icmp(family, kind) => {
                    Allowed::Icmp { family: family.as_str().to_owned(), kind: kind.get() }
                }
            },
            request: request.as_ref().map(|request| match request {
                Request::Http { method, path } => {
                    Asked::Http { method: method.to_string(), path: path.to_string() }
                }
                Request::Dns(name) => Asked::Dns(name.to_string()),
            }),
            connections: tally.connections.iter().collect(),
            verdict_events,
            drop_events,
            first: tally.first,
            last: tally.last,
            nodes: tally.nodes.iter().map(ToString::to_string).collect(),
        }
    }

    /// `None` for what no flow can have made.
    fn read(self) -> Option<(Observation, Tally, Events)> {
        let name = |text: &String| DnsName::parse(text).ok();
        let observation = Observation {
            subject: self.subject.read()?,
            direction: match self.direction {
                Way::Ingress => Direction::Ingress,
                Way::Egress => Direction::Egress,
            },
            peer: match self.peer {
                Peer::Pod(pod) => ObservedPeer::Pod(pod.read()?),
                Peer::Entity(entity) => ObservedPeer::Entity(Entity::from_name(&entity)?),
                Peer::World(address) => ObservedPeer::World(address),
                Peer::Named { address, names } => {
                    let names: Box<[DnsName]> = names.iter().map(name).collect::<Option<_>>()?;
                    (!names.is_empty()).then_some(ObservedPeer::Named { address, names })?
                }
            },
            allow: match self.allow {
                Allowed::Port { protocol, port } => {
                    Allow::Port(Protocol::from_name(&protocol)?, Port::new(port)?)
                }
                Allowed::Icmp { family, kind } => {
                    let family =
                        [IcmpFamily::V4, IcmpFamily::V6].into_iter().find(|f| f.as_str() == family)?;
                    Allow::Icmp(family, IcmpType::new(kind)?)
                }
            },
            request: match self.request {
                None => None,
                Some(Asked::Http { method, path }) => {
                    Some(Request::Http { method: method.into(), path: path.into() })
                }
                Some(Asked::Dns(dns)) => Some(Request::Dns(name(&dns)?)),
            },
        };
        let nodes = self.nodes.iter().map(|node| NodeName::lossy(node));
        let tally = Tally::carried(self.connections, self.first, self.last, nodes);
        Some((observation, tally, (self.verdict_events, self.drop_events)))
    }
}

// === impl Pod ===

impl Pod {
    fn of(identity: &Identity) -> Self {
        Self {
            namespace: identity.namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
            cluster: identity.cluster.as_deref().unwrap_or_default().to_owned(),
            labels: identity.labels.iter().map(ToString::to_string).collect(),
        }
    }

    fn read(self) -> Option<Arc<Identity>> {
        let labels = self.labels.iter().map(String::as_str);
        let identity = Identity::new(0, &self.namespace, &self.cluster, labels);
        identity.namespace.is_some().then(|| Arc::new(identity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(app: &str, cluster: &str) -> Arc<Identity> {
        let labels = [format!("k8s:app={app}"), "any:empty".to_owned(), "k8s:team/x=a b=c".to_owned()];
        Arc::new(Identity::new(7, "shop", cluster, labels.iter().map(String::as_str)))
    }

    fn needs() -> Vec<(Observation, Tally, Events)> {
        let at = |second| Timestamp::from_second(second).ok();
        let dns = |text: &str| DnsName::parse(text).unwrap();
        let tcp = Allow::Port(Protocol::Tcp, Port::new(443).unwrap());
        let ping = Allow::Icmp(IcmpFamily::V6, IcmpType::new(128).unwrap());
        let address: IpAddr = "2001:db8::7".parse().unwrap();
        let named = ObservedPeer::Named { address, names: [dns("a.example"), dns("b.example")].into() };
        let http = Request::Http { method: "GET".into(), path: "/a b\u{1b}".into() };
        let peers = [
            (Direction::Ingress, ObservedPeer::Pod(identity("api", "west")), tcp, None),
            (Direction::Ingress, ObservedPeer::Pod(identity("api", "")), tcp, Some(http)),
            (Direction::Egress, ObservedPeer::Entity(Entity::KubeApiserver), ping, None),
            (Direction::Egress, ObservedPeer::World(address), tcp, Some(Request::Dns(dns("x.example")))),
            (Direction::Egress, named, tcp, None),
        ];
        let need = |(direction, peer, allow, request)| {
            let subject = identity("web", "");
            let tally = Tally::carried([1, u64::MAX], at(5), at(9), [NodeName::lossy("west/n1")]);
            (Observation { subject, direction, peer, allow, request }, tally, (3, 4))
        };
        peers.into_iter().map(need).collect()
    }

    #[test]
    fn every_kind_of_need_reads_back() {
        let pending = Pending::carried(needs());
        let text = write(&pending);
        let again = read(&text).unwrap();
        assert_eq!(pending.len(), 5);
        assert!(again.iter().eq(pending.iter()), "{text}");
        assert_eq!(write(&again), text);
    }

    #[test]
    fn what_no_flow_can_have_made_is_refused() {
        let text = write(&Pending::carried(needs()));
        let check = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            assert!(read(&text.replace(from, to)).unwrap_err().contains("damaged"), "{to}");
        };
        check("\"shop\"", "\"../etc\"");
        check("\"kube-apiserver\"", "\"world\"");
        check("\"port\":443", "\"port\":0");
        check("\"kind\":128", "\"kind\":0");
        check("\"a.example\"", "\"*\"");
        check("\"version\":1", "\"version\":\"1\"");
    }
}
