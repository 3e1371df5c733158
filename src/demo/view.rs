//! What one client asked to see: whitelist, times and field mask, as Hubble's agents apply them.

use prost::Message;

use crate::source::proto::flow::{Endpoint, EventTypeFilter, Flow, FlowFilter};
use crate::source::proto::observer::get_flows_response::ResponseTypes;
use crate::source::proto::observer::{GetFlowsRequest, GetFlowsResponse};

/// The part of a request that decides which flows are sent, and how much of each.
#[derive(Debug, Clone)]
pub(super) struct View {
    whitelist: Vec<FlowFilter>,
    blacklist: Vec<FlowFilter>,
    since: Option<prost_types::Timestamp>,
    until: Option<prost_types::Timestamp>,
    mask: Option<Mask>,
}

/// A field mask by top-level field; below a field only `source` and `destination` are looked into.
#[derive(Debug, Clone, Default)]
struct Mask {
    whole: Vec<String>,
    source: Vec<String>,
    destination: Vec<String>,
}

/// The mask names a field that `flow.Flow` does not have: agents refuse the whole mask then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadMask(pub(super) String);

/// What becomes of one response.
#[derive(Debug)]
pub(super) enum Seen {
    /// It is sent (masked).
    Yes(Box<GetFlowsResponse>),
    /// A filter keeps it back.
    No,
}

// === impl View ===

impl View {
    /// Reads a request. `mask` and `times` say whether the relay honours these parts of it.
    pub(super) fn new(request: &GetFlowsRequest, mask: bool, times: bool) -> Result<Self, BadMask> {
        let paths = request.field_mask.as_ref().map(|m| m.paths.as_slice()).unwrap_or_default();
        Ok(Self {
            whitelist: request.whitelist.clone(),
            blacklist: request.blacklist.clone(),
            since: request.since.filter(|_| times),
            until: request.until.filter(|_| times),
            mask: if mask && !paths.is_empty() { Some(Mask::new(paths)?) } else { None },
        })
    }

    /// Filters and masks. Node status and lost events pass every filter.
    pub(super) fn see(&self, response: &GetFlowsResponse) -> Seen {
        let Some(ResponseTypes::Flow(flow)) = &response.response_types else {
            return Seen::Yes(Box::new(response.clone()));
        };
        if !self.admits(flow) {
            return Seen::No;
        }
        let Some(mask) = &self.mask else { return Seen::Yes(Box::new(response.clone())) };
        let flow = mask.apply(flow);
        Seen::Yes(Box::new(GetFlowsResponse {
            node_name: flow.node_name.clone(), // the envelope is filled after masking
            time: flow.time,
            response_types: Some(ResponseTypes::Flow(flow)),
        }))
    }

    fn admits(&self, flow: &Flow) -> bool {
        let before = |a: Option<prost_types::Timestamp>, b: Option<prost_types::Timestamp>| match (a, b) {
            (Some(a), Some(b)) => (a.seconds, a.nanos) < (b.seconds, b.nanos),
            _ => false,
        };
        if before(flow.time, self.since) || before(self.until, flow.time) {
            return false;
        }
        (self.whitelist.is_empty() || self.whitelist.iter().any(|filter| matches(filter, flow)))
            && !self.blacklist.iter().any(|filter| matches(filter, flow))
    }
}

/// Fields of one filter are joined with AND, values of one field are alternatives.
fn matches(filter: &FlowFilter, flow: &Flow) -> bool {
    (filter.verdict.is_empty() || filter.verdict.contains(&flow.verdict))
        && (filter.event_type.is_empty() || filter.event_type.iter().any(|e| event_matches(e, flow)))
        && (filter.reply.is_empty() || filter.reply.contains(&flow.is_reply.unwrap_or_default()))
        && (filter.protocol.is_empty() || filter.protocol.iter().any(|p| protocol_matches(p, flow)))
        && pod_matches(&filter.source_pod, &flow.source)
        && pod_matches(&filter.destination_pod, &flow.destination)
}

fn event_matches(filter: &EventTypeFilter, flow: &Flow) -> bool {
    let event = flow.event_type.unwrap_or_default();
    filter.r#type == event.r#type && (!filter.match_sub_type || filter.sub_type == event.sub_type)
}

/// The name of a protocol of layer 4 or layer 7 (`pkg/hubble/filters/protocol.go`).
fn protocol_matches(name: &str, flow: &Flow) -> bool {
    use crate::source::proto::flow::{layer4, layer7};

    let l4 = flow.l4.as_ref().and_then(|l4| l4.protocol.as_ref());
    let l7 = flow.l7.as_ref().and_then(|l7| l7.record.as_ref());
    match name.to_ascii_lowercase().as_str() {
        "tcp" => matches!(l4, Some(layer4::Protocol::Tcp(_))),
        "udp" => matches!(l4, Some(layer4::Protocol::Udp(_))),
        "sctp" => matches!(l4, Some(layer4::Protocol::Sctp(_))),
        "dns" => matches!(l7, Some(layer7::Record::Dns(_))),
        "http" => matches!(l7, Some(layer7::Record::Http(_))),
        _ => false,
    }
}

/// `ns/prefix`, `ns/` for a whole namespace, `/prefix` for any, a bare prefix in namespace `default`.
/// Hubble compares the fields of the endpoint, not its labels.
fn pod_matches(patterns: &[String], endpoint: &[u8]) -> bool {
    if patterns.is_empty() {
        return true;
    }
    let Ok(endpoint) = Endpoint::decode(endpoint) else { return false };
    if endpoint.namespace.is_empty() && endpoint.pod_name.is_empty() {
        return false;
    }
    patterns.iter().any(|pattern| {
        let (namespace, prefix) = pattern.split_once('/').unwrap_or(("default", pattern));
        (namespace.is_empty() || namespace == endpoint.namespace) && endpoint.pod_name.starts_with(prefix)
    })
}

// === impl Mask ===

impl Mask {
    fn new(paths: &[String]) -> Result<Self, BadMask> {
        let mut mask = Self::default();
        for path in paths {
            let (top, rest) = match path.split_once('.') {
                Some((top, rest)) => (top, Some(rest)),
                None => (path.as_str(), None),
            };
            if !FLOW_FIELDS.contains(&top) {
                return Err(BadMask(path.clone()));
            }
            match (top, rest) {
                ("source" | "destination", Some(field)) if !ENDPOINT_FIELDS.contains(&field) => {
                    return Err(BadMask(path.clone()));
                }
                ("source", Some(field)) => mask.source.push(field.to_owned()),
                ("destination", Some(field)) => mask.destination.push(field.to_owned()),
                _ => mask.whole.push(top.to_owned()),
            }
        }
        Ok(mask)
    }

    fn has(&self, field: &str) -> bool {
        self.whole.iter().any(|f| f == field)
    }

    fn apply(&self, flow: &Flow) -> Flow {
        let flow = flow.clone();
        let end = |name: &str, parts: &[String], bytes: prost::bytes::Bytes| {
            if self.has(name) { bytes } else { part_of(&bytes, parts) }
        };
        Flow {
            time: flow.time.filter(|_| self.has("time")),
            uuid: pick(self.has("uuid"), flow.uuid),
            verdict: pick(self.has("verdict"), flow.verdict),
            drop_reason: pick(self.has("drop_reason"), flow.drop_reason),
            ip: flow.ip.filter(|_| self.has("IP")),
            l4: flow.l4.filter(|_| self.has("l4")),
            source: end("source", &self.source, flow.source),
            destination: end("destination", &self.destination, flow.destination),
            r#type: pick(self.has("Type"), flow.r#type),
            node_name: pick(self.has("node_name"), flow.node_name),
            destination_names: pick(self.has("destination_names"), flow.destination_names),
            l7: flow.l7.filter(|_| self.has("l7")),
            event_type: flow.event_type.filter(|_| self.has("event_type")),
            traffic_direction: pick(self.has("traffic_direction"), flow.traffic_direction),
            drop_reason_desc: pick(self.has("drop_reason_desc"), flow.drop_reason_desc),
            is_reply: flow.is_reply.filter(|_| self.has("is_reply")),
            egress_denied_by: pick(self.has("egress_denied_by"), flow.egress_denied_by),
            ingress_denied_by: pick(self.has("ingress_denied_by"), flow.ingress_denied_by),
        }
    }
}

fn pick<T: Default>(keep: bool, value: T) -> T {
    if keep { value } else { T::default() }
}

fn part_of(endpoint: &[u8], fields: &[String]) -> prost::bytes::Bytes {
    let Ok(full) = Endpoint::decode(endpoint) else { return prost::bytes::Bytes::new() };
    let has = |field: &str| fields.iter().any(|f| f == field);
    let part = Endpoint {
        id: pick(has("ID"), full.id),
        identity: pick(has("identity"), full.identity),
        namespace: pick(has("namespace"), full.namespace),
        labels: pick(has("labels"), full.labels),
        pod_name: pick(has("pod_name"), full.pod_name),
        cluster_name: pick(has("cluster_name"), full.cluster_name),
    };
    part.encode_to_vec().into()
}

/// The top-level fields of `flow.Flow` in Cilium 1.19.
const FLOW_FIELDS: [&str; 45] = [
    "time",
    "uuid",
    "emitter",
    "verdict",
    "drop_reason",
    "auth_type",
    "ethernet",
    "IP",
    "l4",
    "tunnel",
    "source",
    "destination",
    "Type",
    "node_name",
    "node_labels",
    "source_names",
    "destination_names",
    "l7",
    "reply",
    "event_type",
    "source_service",
    "destination_service",
    "traffic_direction",
    "policy_match_type",
    "trace_observation_point",
    "trace_reason",
    "file",
    "ip_trace_id",
    "drop_reason_desc",
    "is_reply",
    "debug_capture_point",
    "interface",
    "proxy_port",
    "trace_context",
    "sock_xlate_point",
    "socket_cookie",
    "cgroup_id",
    "Summary",
    "extensions",
    "egress_allowed_by",
    "ingress_allowed_by",
    "egress_denied_by",
    "ingress_denied_by",
    "policy_log",
    "aggregate",
];

/// The fields of `flow.Endpoint`.
const ENDPOINT_FIELDS: [&str; 7] =
    ["ID", "identity", "cluster_name", "namespace", "labels", "pod_name", "workloads"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::proto::flow::CiliumEventType;

    fn flow() -> Flow {
        let web = Endpoint {
            namespace: "shop".into(),
            pod_name: "web-1".into(),
            labels: vec!["k8s:app=web".into()],
            ..Endpoint::default()
        };
        Flow {
            uuid: "u".into(),
            verdict: 2,
            node_name: "n".into(),
            source: web.encode_to_vec().into(),
            event_type: Some(CiliumEventType { r#type: 1, sub_type: 133 }),
            ..Flow::default()
        }
    }

    fn check(filter: FlowFilter, expected: bool) {
        assert_eq!(matches(&filter, &flow()), expected, "{filter:?}");
    }

    #[test]
    fn filters() {
        let event = |r#type, match_sub_type, sub_type| FlowFilter {
            event_type: vec![EventTypeFilter { r#type, match_sub_type, sub_type }],
            ..FlowFilter::default()
        };
        check(FlowFilter::default(), true);
        check(FlowFilter { verdict: vec![1], ..FlowFilter::default() }, false);
        check(FlowFilter { verdict: vec![1, 2], ..FlowFilter::default() }, true);
        check(event(1, false, 0), true);
        check(event(1, true, 181), false);
        check(event(1, true, 133), true);
        check(event(5, false, 0), false);
        for (pattern, expected) in [
            ("shop/", true),
            ("shop/web", true),
            ("shop/cart", false),
            ("sho/", false),
            ("/web", true),
            ("web", false),
        ] {
            check(FlowFilter { source_pod: vec![pattern.into()], ..FlowFilter::default() }, expected);
            check(FlowFilter { destination_pod: vec![pattern.into()], ..FlowFilter::default() }, false);
        }
    }

    #[test]
    fn masks() {
        let paths = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        let mask = Mask::new(&paths(&["verdict", "source.labels"])).unwrap();
        let masked = mask.apply(&flow());
        assert_eq!((masked.verdict, masked.uuid.as_str(), masked.node_name.as_str()), (2, "", ""));
        let source = Endpoint::decode(masked.source).unwrap();
        assert_eq!((source.labels.len(), source.pod_name.as_str()), (1, ""));
        assert_eq!(Mask::new(&paths(&["verdict", "new_field"])).unwrap_err(), BadMask("new_field".into()));
        assert!(Mask::new(&paths(&["source.shoe_size"])).is_err());
    }
}
