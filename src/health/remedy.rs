//! What helps against a drop, by reason, and which page of Cilium's documentation says more.

use crate::classify::Class;
use crate::flow::DropReason;

/// Where the pages stand.
const DOCS: &str = "https://docs.cilium.io/en/stable/";

/// What to do about a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remedy {
    /// One sentence.
    pub text: &'static str,
    page: &'static str,
}

// === impl Remedy ===

impl Remedy {
    /// The page that says more.
    pub fn page(&self) -> String {
        format!("{DOCS}{}", self.page)
    }
}

/// What helps against drops of this class for this reason.
pub fn remedy(class: Class, reason: DropReason) -> Remedy {
    let known = REMEDIES.binary_search_by_key(&reason.0, |(number, ..)| *number);
    match known {
        Ok(at) => {
            let (_, text, page) = REMEDIES[at];
            Remedy { text, page }
        }
        Err(_) => of_class(class),
    }
}

/// For reasons without words of their own.
fn of_class(class: Class) -> Remedy {
    let (text, page) = match class {
        Class::Infrastructure => (
            "if it goes on, look at the agent's log on that node and collect a cilium sysdump",
            "operations/troubleshooting/",
        ),
        Class::Security => {
            ("find out which pod sends this before anything is changed", "operations/troubleshooting/")
        }
        Class::ExplicitDeny => {
            ("narrow or remove the deny rule, if the traffic is wanted", "security/policy/")
        }
        Class::Authentication => (
            "check mutual authentication",
            "network/servicemesh/mutual-authentication/mutual-authentication/",
        ),
        Class::Service => ("change the Service", "network/kubernetes/kubeproxy-free/"),
        Class::Policy | Class::Transient | Class::Noise | Class::Unknown => {
            ("nothing to do", "operations/troubleshooting/")
        }
    };
    Remedy { text, page }
}

/// By number: what to do, and the page (paths as in Cilium's own `Documentation/`).
pub(super) static REMEDIES: [(i32, &str, &str); 40] = [
    (
        132,
        "find the pod: a second interface needs its addresses in Cilium, anything else is spoofing",
        "operations/troubleshooting/",
    ),
    (
        136,
        "make the MTU the same on all nodes and leave room for the tunnel's header",
        "network/concepts/routing/",
    ),
    (137, "for SCTP set sctp.enabled=true; other protocols cannot pass", "configuration/sctp/"),
    (
        140,
        "wait for the agent's upgrade to end; else restart the agent on that node",
        "operations/troubleshooting/",
    ),
    (142, "use TCP, UDP, SCTP or ICMP for what has to pass policy", "security/policy/"),
    (
        147,
        "check that all nodes use the same tunnel protocol and port, and what lies between them",
        "network/concepts/routing/",
    ),
    (
        150,
        "check that the address still belongs to a pod, and the node's routes",
        "network/concepts/routing/",
    ),
    (
        155,
        "make the table larger (bpf.ctTcpMax, bpf.ctAnyMax, bpf.mapDynamicSizeRatio), or find who opens so many connections on that node",
        "operations/troubleshooting/#handling-drop-ct-map-insertion-failed",
    ),
    (157, "switch fragment tracking on (enable-ipv4-fragment-tracking)", "network/concepts/fragmentation/"),
    (
        158,
        "give the Service a ready backend: its selector, the pods' readiness, externalTrafficPolicy",
        "network/kubernetes/kubeproxy-free/",
    ),
    (159, "take the protocol out of the Service", "network/kubernetes/kubeproxy-free/"),
    (
        160,
        "check that the node is joined and its CiliumNode has an address; restart the agent if it stays",
        "network/concepts/routing/",
    ),
    (161, "switch NAT46/64 on, or stop sending between the families", "network/kubernetes/kubeproxy-free/"),
    (
        162,
        "raise the pod's annotation kubernetes.io/egress-bandwidth, or let it send less",
        "network/kubernetes/bandwidth-manager/",
    ),
    (164, "check the node's own routes and that its agent is running", "network/concepts/routing/"),
    (
        167,
        "check whether somebody scans the node's addresses; if not, make the NAT table larger (bpf.natMax)",
        "network/concepts/masquerading/",
    ),
    (168, "exclude this traffic from masquerading (ipMasqAgent)", "network/concepts/masquerading/"),
    (
        169,
        "give the node a route to the destination; behind it, check the neighbour table",
        "network/concepts/routing/",
    ),
    (170, "find the pod: tunnel traffic from a pod is a mistake or an attack", "network/concepts/routing/"),
    (
        171,
        "check that cluster ids differ in the mesh and who can reach the nodes' tunnel port",
        "operations/troubleshooting/",
    ),
    (172, "check that the sending node is part of the cluster", "operations/troubleshooting/"),
    (
        174,
        "use a LoadBalancer, NodePort or Ingress from outside, or bpf.lbExternalClusterIP",
        "network/kubernetes/kubeproxy-free/",
    ),
    (
        175,
        "look for packet loss before the node; make the fragment table larger (bpf-fragments-map-max) if it stays",
        "network/concepts/fragmentation/",
    ),
    (176, "check the host policies of that node for ICMPv6", "security/host-firewall/"),
    (
        177,
        "add the client to the Service's loadBalancerSourceRanges, if it may connect",
        "network/kubernetes/kubeproxy-free/",
    ),
    (178, "check that Envoy and the agent's DNS proxy are running on that node", "security/policy/layer7/"),
    (179, "check that Envoy and the agent's DNS proxy are running on that node", "security/policy/layer7/"),
    (180, "take the protocol out of the L7 rule that redirects it", "security/policy/layer7/"),
    (
        181,
        "narrow or remove the deny rule, if the traffic is wanted: an allow rule does not win over it",
        "security/policy/deny/",
    ),
    (182, "let the VLAN through (bpf.vlanBypass)", "configuration/vlan-802.1q/"),
    (183, "make the VNI the same on the VTEP and in Cilium", "network/vtep/"),
    (
        189,
        "look at the SPIRE server and agents, and at the agent's log for authentication",
        "network/servicemesh/mutual-authentication/mutual-authentication/",
    ),
    (
        190,
        "check the mesh: cilium clustermesh status on both sides",
        "operations/troubleshooting_clustermesh/",
    ),
    (
        191,
        "check the mesh: cilium clustermesh status on both sides",
        "operations/troubleshooting_clustermesh/",
    ),
    (
        192,
        "give every cluster of the mesh an id of its own, from 1",
        "operations/troubleshooting_clustermesh/",
    ),
    (193, "use SNAT instead of DSR for this Service", "network/kubernetes/kubeproxy-free/"),
    (
        194,
        "check that a node matches the egressGateway selector of the policy",
        "network/egress-gateway/egress-gateway-troubleshooting/",
    ),
    (
        195,
        "check that encryption is up on both nodes, or take the range out of strict mode",
        "security/network/encryption/",
    ),
    (197, "wait until the node has joined; else restart its agent", "security/network/encryption-ipsec/"),
    (
        204,
        "give the gateway node the egress address that the policy names",
        "network/egress-gateway/egress-gateway-troubleshooting/",
    ),
];
