//! Four seconds in a small shop: what its relay would have sent, and what can be learnt from it.
//!
//! Every scene that shows a need writes it down in the same breath, with labels that were chosen by
//! hand in `cast`; scenes that must not teach anything write nothing down.

mod cast;
mod scenes;
mod teller;

use std::time::Duration;

use jiff::Timestamp;

use super::need::Need;
use super::relay::{Script, Step};
use crate::source::proto::observer::GetFlowsResponse;

/// The namespaces of the story, for GetNamespaces: (cluster, namespace).
pub const NAMESPACES: [(&str, &str); 6] = [
    ("east", "kube-system"),
    ("east", "obs"),
    ("east", "pay"),
    ("east", "shop"),
    ("east", "telco"),
    ("west", "shop"),
];

/// The nodes of the story, as Hubble names them.
pub const NODES: [&str; 2] = ["east/node1", "east/node2"];

/// The story as a relay would send it: each response with the time since the one before, its own times
/// counted from `start`.
pub fn play(start: Timestamp) -> Vec<(Duration, GetFlowsResponse)> {
    teller::tell(start).play()
}

/// What has to be allowed after the story, each need once, sorted.
pub fn needs() -> Vec<Need> {
    teller::tell(Timestamp::UNIX_EPOCH).needs()
}

/// The story at its own pace, and then silence on an open stream, as in a shop where nothing more is
/// dropped.
pub fn script(start: Timestamp) -> Script {
    Script::timed(play(start)).then(Step::Hang)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;

    use super::*;
    use crate::demo::need::{Allow, Direction, Peer};
    use crate::source::proto::flow::{Endpoint, Flow};
    use crate::source::proto::observer::get_flows_response::ResponseTypes;

    fn flows() -> Vec<Flow> {
        let flow = |(_, response): (Duration, GetFlowsResponse)| match response.response_types {
            Some(ResponseTypes::Flow(flow)) => Some(flow),
            _ => None,
        };
        play(Timestamp::UNIX_EPOCH).into_iter().filter_map(flow).collect()
    }

    #[test]
    fn it_is_as_long_as_it_says() {
        let story = play("2026-01-02T03:04:05Z".parse().unwrap());
        assert!((150..=250).contains(&story.len()), "{} responses", story.len());
        let total: Duration = story.iter().map(|(delay, _)| *delay).sum();
        assert!((3.5..4.5).contains(&total.as_secs_f64()), "{total:?}");
        assert_eq!(play("2026-01-02T03:04:05Z".parse().unwrap()), story, "deterministic");
        let uuids: BTreeSet<String> = flows().into_iter().map(|f| f.uuid).collect();
        assert_eq!(uuids.len(), flows().len());
    }

    #[test]
    fn every_policy_drop_is_told_twice() {
        let of_type = |kind| {
            let wanted = move |f: &Flow| {
                f.verdict == 2 && f.drop_reason_desc == 133 && f.event_type.unwrap().r#type == kind
            };
            flows().into_iter().filter(wanted).count()
        };
        assert!(of_type(5) > 50);
        assert_eq!(of_type(5), of_type(1));
    }

    #[test]
    fn it_shows_what_it_should() {
        let reasons: BTreeSet<i32> = flows().iter().map(|f| f.drop_reason_desc).collect();
        for reason in [0, 132, 133, 155, 158, 171, 177, 181, 189, 203, 251] {
            assert!(reasons.contains(&reason), "{reason}");
        }
        let verdicts: BTreeSet<i32> = flows().iter().map(|f| f.verdict).collect();
        assert!([1, 2, 4].iter().all(|v| verdicts.contains(v)));
        for flow in flows() {
            for end in [flow.source, flow.destination] {
                Endpoint::decode(end).unwrap();
            }
        }
    }

    #[test]
    fn needs_are_what_the_scenes_say() {
        let needs = needs();
        assert!(needs.is_sorted() && needs.len() > 25, "{}", needs.len());
        let web_to_cart = needs.iter().filter(|n| {
            n.namespace == "shop"
                && n.selector.contains(&("app.kubernetes.io/name".into(), "web".into()))
                && n.direction == Direction::Egress
                && n.allow == Allow::Port { protocol: "TCP", port: 8080 }
        });
        assert_eq!(web_to_cart.count(), 1, "two replicas are one need");
        let peer = |peer: Peer| needs.iter().any(|n| n.peer == peer);
        assert!(peer(Peer::Entity("kube-apiserver".into())));
        assert!(peer(Peer::Cidr("2001:db8:100::7/128".into())));
        assert!(peer(Peer::Endpoints(vec![
            ("app".into(), "inventory".into()),
            ("k8s:io.cilium.k8s.policy.cluster".into(), "west".into()),
        ])));
        assert!(needs.iter().all(|n| !n.selector.is_empty()));
    }
}
