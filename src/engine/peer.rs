//! Whether one item of a peer member means a party.

use std::net::IpAddr;

use ipnet::IpNet;

use super::fqdn::NamePattern;
use super::party::{Lookup, Party};
use super::selector::{Match, Selector};
use super::{EngineOptions, Field, premises};
use crate::flow::{Direction, Reserved};
use crate::policy::spec::{
    CLUSTER_LABEL, CidrGroup, Entity, LabelKey, Operator, PeerSpec, Requirement, Version,
};

/// A prepared [`PeerSpec`]. Equal ones are the same selector to Cilium, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PeerTest {
    /// Everything.
    All,
    /// Endpoints by labels; `fromRequires` adds to these only.
    Endpoints(Selector),
    /// Nodes by labels.
    Nodes(Selector),
    /// One reserved label. An entity is one or several of these, and of the next three.
    Reserved(Reserved),
    /// `reserved:none`, which nobody has.
    NoneLabel,
    /// The label of the local cluster.
    LocalCluster,
    /// The label of some cluster.
    AnyCluster,
    Cidr {
        net: IpNet,
        except: Vec<IpNet>,
    },
    CidrGroup {
        group: GroupTest,
        except: Vec<IpNet>,
    },
    Fqdn {
        /// The key of the label that Cilium gives to addresses of such names.
        label: Box<str>,
        pattern: Option<NamePattern>,
    },
    /// Nobody can tell without asking the cluster; the number tells such items apart.
    Open(Field, usize),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GroupTest {
    Name(Box<str>),
    Selector(Selector),
}

/// The options that a peer test asks for again and again.
#[derive(Debug, Clone, Copy)]
pub(super) struct World<'a> {
    pub(super) options: &'a EngineOptions,
    pub(super) direction: Direction,
}

// === impl PeerTest ===

impl PeerTest {
    /// The tests that an item stands for; any of them may match. `serial` is a number that no other item
    /// has.
    pub(super) fn of(
        spec: &PeerSpec,
        options: &EngineOptions,
        direction: Direction,
        serial: usize,
    ) -> Vec<Self> {
        vec![match spec {
            PeerSpec::Entity(entity) => return of_entity(*entity, options.version),
            PeerSpec::Endpoints(peer) => {
                let requirements = peer.requirements(options.default_cluster());
                match (requirements.as_slice(), options.version >= Version::V1_19) {
                    ([], _) => Self::All,
                    ([one], true) => match reserved_only(one) {
                        Some(reserved) => Self::Reserved(reserved),
                        None => Self::Endpoints(Selector::new([one])),
                    },
                    (all, _) => Self::Endpoints(Selector::new(all)),
                }
            }
            PeerSpec::Nodes(peer) => {
                Self::Nodes(Selector::new(&peer.requirements(options.default_cluster())))
            }
            PeerSpec::Cidr { net, except } => Self::Cidr { net: net.trunc(), except: except.clone() },
            PeerSpec::CidrGroup { group, except } => Self::CidrGroup {
                group: match group {
                    CidrGroup::Name(name) => GroupTest::Name(name.clone()),
                    CidrGroup::Selector(selector) => GroupTest::Selector(Selector::of(selector)),
                },
                except: except.clone(),
            },
            PeerSpec::Fqdn(fqdn) => Self::Fqdn {
                label: match (&fqdn.name, &fqdn.pattern) {
                    (Some(name), _) if !name.is_empty() => name.clone(),
                    (_, pattern) => pattern.clone().unwrap_or_default(),
                },
                pattern: NamePattern::new(fqdn, options.version),
            },
            PeerSpec::Service(service) => match premises::stands_for(service, options) {
                Some(known) => {
                    return known
                        .iter()
                        .flat_map(|spec| Self::of(spec, options, direction, serial))
                        .collect();
                }
                None => Self::Open(Field::Services, serial),
            },
            PeerSpec::Group(_) if direction == Direction::Ingress => Self::Open(Field::FromGroups, serial),
            PeerSpec::Group(_) => Self::Open(Field::ToGroups, serial),
        }]
    }

    /// Labels that everybody has whom this means: see [`Selector::needs`].
    pub(super) fn needs(&self) -> impl Iterator<Item = (&str, &[Box<str>])> {
        let selector = match self {
            Self::Endpoints(selector) | Self::Nodes(selector) => Some(selector),
            _ => None,
        };
        selector.into_iter().flat_map(Selector::needs)
    }

    pub(super) fn matches(&self, party: &Party, world: World<'_>) -> Match {
        let by_label =
            |field| if party.is_host() || party.is(Reserved::RemoteNode) { field } else { Field::Labels };
        let ingress = world.direction == Direction::Ingress;
        match self {
            Self::All => Match::Yes,
            Self::Endpoints(selector) => selector
                .matches(party, by_label(if ingress { Field::FromEndpoints } else { Field::ToEndpoints })),
            Self::Nodes(selector) => {
                selector.matches(party, if ingress { Field::FromNodes } else { Field::ToNodes })
            }
            Self::Reserved(reserved) => party.is(*reserved).into(),
            Self::NoneLabel => {
                party.labels().iter().any(|l| *l.source == *"reserved" && *l.key == *"none").into()
            }
            Self::LocalCluster => {
                (party.lookup("k8s", CLUSTER_LABEL, false) == Lookup::Found(&world.options.cluster)).into()
            }
            Self::AnyCluster => matches!(party.lookup("any", CLUSTER_LABEL, false), Lookup::Found(_)).into(),
            Self::Cidr { net, except } => {
                let inside = may_match_cidr(party, world.options) && contains(net, party, world.options);
                (inside && !is_excepted(except, party, world.options)).into()
            }
            Self::CidrGroup { group, except } => {
                let inside = in_group(group, party);
                if (!inside && !party.is_world()) || is_excepted(except, party, world.options) {
                    return Match::No;
                }
                if inside {
                    return Match::Yes;
                }
                // Addresses get the labels of a group only once the group is there.
                Match::Unknown(if ingress { Field::FromCidrSet } else { Field::ToCidrSet })
            }
            Self::Fqdn { label, pattern } => {
                let labelled = party.labels().iter().any(|l| *l.source == *"fqdn" && l.key == *label);
                let named = || {
                    let Some(pattern) = pattern else { return false };
                    party.is_world() && party.names.iter().any(|name| pattern.matches(name))
                };
                (labelled || named()).into()
            }
            Self::Open(field, _) => Match::Unknown(*field),
        }
    }
}

/// The selectors that an entity stands for.
fn of_entity(entity: Entity, version: Version) -> Vec<PeerTest> {
    const OF_CLUSTER: [Reserved; 7] = [
        Reserved::Host,
        Reserved::RemoteNode,
        Reserved::Init,
        Reserved::Ingress,
        Reserved::Health,
        Reserved::Unmanaged,
        Reserved::KubeApiserver,
    ];
    let with = |last| OF_CLUSTER.into_iter().map(PeerTest::Reserved).chain([last]).collect();
    let one = |reserved| vec![PeerTest::Reserved(reserved)];
    match entity {
        Entity::All => vec![PeerTest::All],
        Entity::None => vec![PeerTest::NoneLabel],
        Entity::World => {
            [Reserved::World, Reserved::WorldIpv4, Reserved::WorldIpv6].map(PeerTest::Reserved).into()
        }
        Entity::WorldIpv4 => one(Reserved::WorldIpv4),
        Entity::WorldIpv6 => one(Reserved::WorldIpv6),
        Entity::Host => one(Reserved::Host),
        Entity::RemoteNode => one(Reserved::RemoteNode),
        Entity::KubeApiserver => one(Reserved::KubeApiserver),
        Entity::Ingress => one(Reserved::Ingress),
        Entity::Health => one(Reserved::Health),
        Entity::Init => one(Reserved::Init),
        Entity::Unmanaged => one(Reserved::Unmanaged),
        Entity::Cluster => with(PeerTest::LocalCluster),
        Entity::ClusterMesh if version >= Version::V1_20 => with(PeerTest::AnyCluster),
        Entity::ClusterMesh => Vec::new(),
    }
}

/// The reserved label that a requirement is about and nothing else: to Cilium the same selector as the
/// entity.
fn reserved_only(requirement: &Requirement) -> Option<Reserved> {
    let empty = matches!(&requirement.operator, Operator::In(values) if matches!(values.as_slice(), [v] if v.is_empty()));
    let of_reserved = empty && *requirement.key.source == *LabelKey::RESERVED;
    of_reserved.then(|| Reserved::from_word(&requirement.key.key)).filter(|r| *r != Reserved::Other)
}

/// Whether prefixes can select the party at all: only outside of the cluster. Up to 1.19 the engine
/// itself goes by the `cidr` label alone, and only the world has such labels.
fn may_match_cidr(party: &Party, options: &EngineOptions) -> bool {
    party.is_world() || (party.address.is_none() && options.version < Version::V1_20)
}

/// Whether the party lies inside of a prefix. A prefix of length zero is the world of its family.
fn contains(net: &IpNet, party: &Party, options: &EngineOptions) -> bool {
    match party.address {
        Some(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => net.contains(&IpAddr::V4(v4)),
            None => net.contains(&IpAddr::V6(v6)),
        },
        Some(v4) => net.contains(&v4),
        None if net.prefix_len() == 0 => party.is(match net {
            IpNet::V4(_) if options.ipv6 => Reserved::WorldIpv4,
            IpNet::V6(_) if options.ipv4 => Reserved::WorldIpv6,
            _ => Reserved::World,
        }),
        None => party.labels().iter().any(|l| l.net.is_some_and(|inner| net.contains(&inner))),
    }
}

fn is_excepted(except: &[IpNet], party: &Party, options: &EngineOptions) -> bool {
    except.iter().any(|net| contains(net, party, options))
}

fn in_group(group: &GroupTest, party: &Party) -> bool {
    let mut labels = party.labels().iter().filter(|l| *l.source == *"cidrgroup");
    match group {
        GroupTest::Name(name) => labels.any(|l| {
            l.key.strip_prefix("io.cilium.policy.cidrgroupname/").is_some_and(|rest| *rest == **name)
        }),
        GroupTest::Selector(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::spec::{EndpointPeer, LabelSelector, NamespaceAddition};

    fn check(test: &PeerTest, options: &EngineOptions, party: &Party, expected: Match) {
        let world = World { options, direction: Direction::Egress };
        assert_eq!(test.matches(party, world), expected, "{test:?} {party:?}");
    }

    fn cidr(net: &str, except: &[&str]) -> PeerTest {
        PeerTest::Cidr {
            net: net.parse().unwrap(),
            except: except.iter().map(|e| e.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn prefixes_by_address_and_by_label() {
        let options = EngineOptions::default();
        let ten = cidr("10.0.0.0/8", &["10.96.0.0/12"]);
        let at = |address: &str, labels: &[&str]| {
            let mut party = Party::new(2, labels.iter().copied());
            party.address = Some(address.parse().unwrap());
            party
        };
        check(&ten, &options, &at("10.0.0.1", &["reserved:world"]), Match::Yes);
        check(&ten, &options, &at("::ffff:10.0.0.1", &["reserved:world"]), Match::Yes);
        check(&ten, &options, &at("10.97.0.1", &["reserved:world"]), Match::No);
        check(&ten, &options, &at("10.0.0.1", &["reserved:remote-node"]), Match::No);
        check(&ten, &options, &at("10.0.0.1", &["k8s:app=a"]), Match::No);
        let label = |text: &str| Party::new(16_777_217, [text, "reserved:world"]);
        check(&ten, &options, &label("cidr:10.0.0.0/8"), Match::Yes);
        check(&ten, &options, &label("cidr:10.96.0.0/12"), Match::No);
        check(&ten, &options, &label("cidr:0.0.0.0/1"), Match::No);
    }

    #[test]
    fn zero_prefixes_are_the_world_of_a_family() {
        let single = EngineOptions::default();
        let dual = EngineOptions { ipv6: true, ..EngineOptions::default() };
        let world = |word: &str| Party::new(2, [word]);
        check(&cidr("0.0.0.0/0", &[]), &single, &world("reserved:world"), Match::Yes);
        check(&cidr("::/0", &[]), &single, &world("reserved:world"), Match::No);
        check(&cidr("0.0.0.0/0", &[]), &dual, &world("reserved:world-ipv4"), Match::Yes);
        check(&cidr("0.0.0.0/0", &[]), &dual, &world("reserved:world-ipv6"), Match::No);
        check(&cidr("::/0", &[]), &dual, &world("reserved:world-ipv6"), Match::Yes);
        check(&cidr("0.0.0.0/0", &[]), &single, &world("reserved:host"), Match::No);
    }

    #[test]
    fn zero_prefixes_where_only_ipv6_is_on() {
        let options = EngineOptions { ipv4: false, ipv6: true, ..EngineOptions::default() };
        check(&cidr("::/0", &[]), &options, &Party::new(2, ["reserved:world"]), Match::Yes);
        check(&cidr("0.0.0.0/0", &[]), &options, &Party::new(2, ["reserved:world"]), Match::No);
    }

    #[test]
    fn entities_of_one_label() {
        let check = |entity: Entity, version: Version, label: &str, expected: bool| {
            let options = EngineOptions::of(version);
            let world = World { options: &options, direction: Direction::Ingress };
            let party = Party::new(1001, [label]);
            let tests = PeerTest::of(&PeerSpec::Entity(entity), &options, Direction::Ingress, 0);
            let any = tests.iter().any(|test| test.matches(&party, world) == Match::Yes);
            assert_eq!(any, expected, "{entity:?} {version} {label}");
        };
        let v1_19 = Version::V1_19;
        check(Entity::None, v1_19, "reserved:none", true);
        check(Entity::None, v1_19, "k8s:none", false);
        check(Entity::None, v1_19, "reserved:host", false);
        check(Entity::WorldIpv4, v1_19, "reserved:world-ipv4", true);
        check(Entity::WorldIpv4, v1_19, "reserved:world-ipv6", false);
        check(Entity::World, v1_19, "reserved:world-ipv6", true);
        let elsewhere = "k8s:io.cilium.k8s.policy.cluster=c2";
        check(Entity::Cluster, v1_19, elsewhere, false);
        check(Entity::Cluster, v1_19, "k8s:io.cilium.k8s.policy.cluster=default", true);
        check(Entity::ClusterMesh, Version::V1_20, elsewhere, true);
        check(Entity::ClusterMesh, Version::V1_20, "reserved:host", true);
        check(Entity::ClusterMesh, Version::V1_20, "reserved:world", false);
        check(Entity::ClusterMesh, v1_19, elsewhere, false);
    }

    /// Since 1.19 a selector of one reserved label is the entity's own selector.
    #[test]
    fn a_reserved_label_alone_is_an_entity() {
        let check = |key: &str, value: &str, version, expected: Option<Reserved>| {
            let (source, key) = key.split_once(':').unwrap();
            let requirement = Requirement::equals(LabelKey::new(source, key), value);
            let peer = EndpointPeer {
                selector: LabelSelector { requirements: vec![requirement] },
                namespace: NamespaceAddition::Nothing,
                local_cluster: false,
            };
            let options = EngineOptions::of(version);
            let tests = PeerTest::of(&PeerSpec::Endpoints(peer), &options, Direction::Ingress, 0);
            let entity = match tests.as_slice() {
                [PeerTest::Reserved(reserved)] => Some(*reserved),
                _ => None,
            };
            assert_eq!(entity, expected, "{source}:{key}={value} {version}");
        };
        check("reserved:host", "", Version::V1_19, Some(Reserved::Host));
        check("reserved:host", "", Version::V1_18, None);
        check("reserved:host", "x", Version::V1_19, None);
        check("k8s:host", "", Version::V1_19, None);
        check("reserved:no-such-word", "", Version::V1_19, None);
    }

    /// What cannot be checked is named by the member that asks for it.
    #[test]
    fn labels_that_a_node_may_have() {
        let selector = Selector::new(&[Requirement::exists(LabelKey::new("any", "zone"))]);
        let check = |labels: &[&str], direction, expected: [Match; 2]| {
            let node = crate::flow::Endpoint::new(0, "", "", "", labels.iter().copied());
            let party = Party::from_identity(0, &node.identity, "default");
            let options = EngineOptions::default();
            let world = World { options: &options, direction };
            let tests = [PeerTest::Endpoints(selector.clone()), PeerTest::Nodes(selector.clone())];
            assert_eq!(tests.map(|test| test.matches(&party, world)), expected, "{labels:?}");
        };
        for node in ["reserved:host", "reserved:remote-node"] {
            let [ingress, egress] = [
                [Field::FromEndpoints, Field::FromNodes].map(Match::Unknown),
                [Field::ToEndpoints, Field::ToNodes].map(Match::Unknown),
            ];
            check(&[node], Direction::Ingress, ingress);
            check(&[node], Direction::Egress, egress);
        }
        check(&["k8s:zone=a"], Direction::Ingress, [Match::Yes, Match::Yes]);
        check(&["k8s:app=a"], Direction::Ingress, [Match::No, Match::No]);
    }

    #[test]
    fn nodes_with_cidr_labels_differ_by_version() {
        let node = Party::new(6, ["reserved:remote-node", "cidr:10.0.0.1/32"]);
        check(&cidr("10.0.0.0/8", &[]), &EngineOptions::of(Version::V1_19), &node, Match::Yes);
        check(&cidr("10.0.0.0/8", &[]), &EngineOptions::of(Version::V1_20), &node, Match::No);
    }

    #[test]
    fn groups_are_not_known() {
        let named = PeerTest::CidrGroup {
            group: GroupTest::Name("office".into()),
            except: vec!["10.1.0.0/16".parse().unwrap()],
        };
        let options = EngineOptions::default();
        let world = |label: &str| Party::new(16_777_217, [label, "reserved:world"]);
        let open = Match::Unknown(Field::ToCidrSet);
        check(&named, &options, &world("cidr:10.2.0.0/16"), open);
        check(&named, &options, &world("cidr:10.1.2.0/24"), Match::No);
        check(&named, &options, &world("cidrgroup:io.cilium.policy.cidrgroupname/office"), Match::Yes);
        let mut pod = Party::new(1001, ["k8s:app=a"]);
        pod.address = "10.2.0.1".parse().ok();
        check(&named, &options, &pod, Match::No);
    }

    #[test]
    fn names_by_label_and_by_lookup() {
        let test = PeerTest::Fqdn {
            label: "*.example.com".into(),
            pattern: NamePattern::new(
                &crate::policy::spec::Fqdn { name: None, pattern: Some("*.example.com".into()) },
                Version::V1_19,
            ),
        };
        let options = EngineOptions::default();
        check(&test, &options, &Party::new(16_777_217, ["fqdn:*.example.com", "reserved:world"]), Match::Yes);
        check(&test, &options, &Party::new(16_777_217, ["fqdn:a.example.com", "reserved:world"]), Match::No);
        let mut seen = Party::new(2, ["reserved:world"]);
        seen.names = vec!["a.example.com.".into()];
        check(&test, &options, &seen, Match::Yes);
        let mut pod = Party::new(1001, ["k8s:app=a"]);
        pod.names = vec!["a.example.com.".into()];
        check(&test, &options, &pod, Match::No);
    }
}
