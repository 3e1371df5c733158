//! What the agent is told: the options that change a decision.

use super::{Node, Service};
use crate::policy::spec::{IpProtocol, Version};

/// The options of the agents of a cluster. The default is what Helm installs, with Cilium 1.19.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// The version of Cilium.
    pub version: Version,
    /// `cluster-name`.
    pub cluster: Box<str>,
    /// `policy-default-local-cluster`: whether peers that name no cluster are those of this one.
    pub default_local_cluster: bool,
    /// `enable-policy`.
    pub mode: EnablePolicy,
    /// `allow-localhost`.
    pub allow_localhost: AllowLocalhost,
    /// `enable-host-firewall`.
    pub host_firewall: bool,
    /// `enable-ipv4`.
    pub ipv4: bool,
    /// `enable-ipv6`.
    pub ipv6: bool,
    /// The named container ports of all pods that the agent knows: up to 1.19 an egress rule looks its
    /// port names up here. `None` = not known.
    pub named_ports: Option<Vec<NamedPort>>,
    /// Every service of the cluster: what `toServices` stands for. `None` = not known.
    pub services: Option<Vec<Service>>,
    /// Nodes of the cluster: their labels, which flows do not tell. Those that are missing are not known.
    pub nodes: Vec<Node>,
}

/// `enable-policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum EnablePolicy {
    /// An endpoint is in default deny where a policy says so.
    #[default]
    Default,
    /// Every endpoint is in default deny.
    Always,
    /// Nothing is enforced.
    Never,
}

/// `allow-localhost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum AllowLocalhost {
    /// The local host reaches every local endpoint. In Kubernetes `auto` means this.
    #[default]
    Always,
    /// Only as policies say.
    Policy,
}

/// A container port with a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The name, in lower case.
    pub name: Box<str>,
    /// Its protocol.
    pub protocol: IpProtocol,
    /// Its number.
    pub port: u16,
}

// === impl EngineOptions ===

impl Default for EngineOptions {
    fn default() -> Self {
        Self::of(Version::V1_19)
    }
}

impl EngineOptions {
    /// A default installation of this version.
    pub fn of(version: Version) -> Self {
        Self {
            version,
            cluster: "default".into(),
            default_local_cluster: version >= Version::V1_19,
            mode: EnablePolicy::Default,
            allow_localhost: AllowLocalhost::Always,
            host_firewall: false,
            ipv4: true,
            ipv6: false,
            named_ports: None,
            services: None,
            nodes: Vec::new(),
        }
    }

    /// The cluster that peers are limited to by default.
    pub(super) fn default_cluster(&self) -> Option<&str> {
        self.default_local_cluster.then_some(&*self.cluster)
    }
}

// === impl NamedPort ===

impl NamedPort {
    /// The number that stands for this name, if there is one and only one.
    pub(super) fn resolve(all: &[Self], name: &str, protocol: IpProtocol) -> Option<u16> {
        let mut numbers = all.iter().filter(|p| p.protocol == protocol && *p.name == *name).map(|p| p.port);
        let first = numbers.next()?;
        numbers.all(|other| other == first).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_of_the_local_cluster_since_1_19() {
        let check = |version, expected| {
            let options = EngineOptions { cluster: "c1".into(), ..EngineOptions::of(version) };
            assert_eq!(options.default_cluster(), expected, "{version}");
        };
        check(Version::V1_18, None);
        check(Version::V1_19, Some("c1"));
        check(Version::V1_20, Some("c1"));
    }

    #[test]
    fn a_name_with_two_numbers_stands_for_none() {
        let port = |name: &str, protocol, port| NamedPort { name: name.into(), protocol, port };
        let all = [
            port("web", IpProtocol::Tcp, 80),
            port("web", IpProtocol::Tcp, 80),
            port("web", IpProtocol::Udp, 81),
            port("api", IpProtocol::Tcp, 1),
            port("api", IpProtocol::Tcp, 2),
        ];
        assert_eq!(NamedPort::resolve(&all, "web", IpProtocol::Tcp), Some(80));
        assert_eq!(NamedPort::resolve(&all, "web", IpProtocol::Udp), Some(81));
        assert_eq!(NamedPort::resolve(&all, "web", IpProtocol::Sctp), None);
        assert_eq!(NamedPort::resolve(&all, "api", IpProtocol::Tcp), None);
    }
}
