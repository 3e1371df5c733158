//! One test for each mistake that another tool made, or that is easy to make.

use super::*;
use crate::policy::Entity;

#[test]
fn ports_go_into_the_rule_of_their_only_peer() {
    let text = document(
        "  ingress:\n  - fromEndpoints:\n    - matchLabels: {app: web} # the shop\n    toPorts:\n    - ports:\n      - port: \"80\"\n        protocol: TCP # plain\n",
    );
    let merged = merged(&text, &[ingress(pods("web"), tcp(8080)), ingress(pods("web"), tcp(80))]);
    assert_eq!(merged.text, format!("{text}      - port: \"8080\"\n        protocol: TCP\n"));
    assert_eq!(merged.added, [ingress(pods("web"), tcp(8080))]);
    assert_eq!(merged.present, [ingress(pods("web"), tcp(80))]);
    assert_eq!(merged.first_in_direction, []);
}

#[test]
fn icmp_types_are_all_kept() {
    let text = document(
        "  egress:\n  - toEntities:\n    - host\n    icmps:\n    - fields:\n      - family: IPv4\n        type: 8\n    - fields:\n      - type: 3\n",
    );
    let host = || Peer::Entity(Entity::Host);
    let rules = [
        egress(host(), icmp(8)),
        egress(host(), icmp(3)),
        egress(host(), icmp(13)),
        egress(cidr("10.0.0.1/32"), udp(53)),
    ];
    let merged = merged(&text, &rules);
    assert_eq!(merged.present.len(), 2);
    assert!(merged.text.contains("- fields:\n      - family: IPv4\n        type: 8\n      - family: IPv4\n        type: 13\n    - fields:\n      - type: 3\n  - toCIDR:\n"), "{}", merged.text);
}
