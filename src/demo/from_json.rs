//! Lines of a capture as the responses of a relay, so that the same flows can come over both ways.

use bytes::Bytes;
use prost::Message as _;
use prost_types::Timestamp;
use serde_json::Value;

use crate::source::proto::flow::{
    CiliumEventType, Dns, Endpoint, Flow, FlowType, Http, IcmPv4, IcmPv6, Ip, IpVersion, L7FlowType, Layer4,
    Layer7, LostEvent, LostEventSource, Sctp, Tcp, TcpFlags, TrafficDirection, Udp, Verdict, layer4, layer7,
};
use crate::source::proto::observer::GetFlowsResponse;
use crate::source::proto::observer::get_flows_response::ResponseTypes;
use crate::source::proto::relay::{NodeState, NodeStatusEvent};

/// The response that a line of [`super::capture`] stands for (names as protojson writes them);
/// `None` for a line that is none of flow, node status and lost events.
pub fn response(line: &str) -> Option<GetFlowsResponse> {
    let value: Value = serde_json::from_str(line).ok()?;
    let kind = if let Some(flow) = value.get("flow") {
        ResponseTypes::Flow(flow_of(flow))
    } else if let Some(status) = value.get("node_status") {
        ResponseTypes::NodeStatus(NodeStatusEvent {
            state_change: NodeState::from_str_name(&text(status, "state_change")).unwrap_or_default().into(),
            node_names: texts(status, "node_names"),
            message: text(status, "message"),
        })
    } else {
        let lost = value.get("lost_events")?;
        ResponseTypes::LostEvents(LostEvent {
            source: LostEventSource::from_str_name(&text(lost, "source")).unwrap_or_default().into(),
            num_events_lost: text(lost, "num_events_lost").parse().unwrap_or_default(),
            ..LostEvent::default()
        })
    };
    Some(GetFlowsResponse {
        response_types: Some(kind),
        node_name: text(&value, "node_name"),
        time: time(&value),
    })
}

fn flow_of(flow: &Value) -> Flow {
    let event = flow.get("event_type");
    let event_number = |key| event.map(|e| number(e, key)).unwrap_or_default();
    Flow {
        time: time(flow),
        uuid: text(flow, "uuid"),
        verdict: Verdict::from_str_name(&text(flow, "verdict")).unwrap_or_default().into(),
        drop_reason: number(flow, "drop_reason") as u32,
        drop_reason_desc: number(flow, "drop_reason") as i32,
        ip: flow.get("IP").map(|ip| Ip {
            source: text(ip, "source"),
            destination: text(ip, "destination"),
            ip_version: IpVersion::from_str_name(&text(ip, "ipVersion")).unwrap_or_default().into(),
        }),
        l4: flow.get("l4").map(layer4_of),
        source: flow.get("source").map(endpoint).unwrap_or_default(),
        destination: flow.get("destination").map(endpoint).unwrap_or_default(),
        node_name: text(flow, "node_name"),
        event_type: event.map(|_| CiliumEventType {
            r#type: event_number("type") as i32,
            sub_type: event_number("sub_type") as i32,
        }),
        traffic_direction: TrafficDirection::from_str_name(&text(flow, "traffic_direction"))
            .unwrap_or_default()
            .into(),
        is_reply: flow.get("is_reply").and_then(Value::as_bool),
        destination_names: texts(flow, "destination_names"),
        r#type: FlowType::from_str_name(&text(flow, "Type")).unwrap_or_default().into(),
        l7: flow.get("l7").map(layer7_of),
        ..Flow::default()
    }
}

fn layer4_of(l4: &Value) -> Layer4 {
    let ports = |l4: &Value| (number(l4, "source_port") as u32, number(l4, "destination_port") as u32);
    let flag = |flags: &Value, name: &str| flags.get(name).and_then(Value::as_bool).unwrap_or_default();
    let kinds = |l4: &Value| (number(l4, "type") as u32, number(l4, "code") as u32);
    let protocol = if let Some(tcp) = l4.get("TCP") {
        let (source_port, destination_port) = ports(tcp);
        let flags = tcp.get("flags").map(|f| TcpFlags {
            syn: flag(f, "SYN"),
            ack: flag(f, "ACK"),
            fin: flag(f, "FIN"),
            rst: flag(f, "RST"),
            psh: flag(f, "PSH"),
            ..TcpFlags::default()
        });
        Some(layer4::Protocol::Tcp(Tcp { source_port, destination_port, flags }))
    } else if let Some(udp) = l4.get("UDP") {
        let (source_port, destination_port) = ports(udp);
        Some(layer4::Protocol::Udp(Udp { source_port, destination_port }))
    } else if let Some(sctp) = l4.get("SCTP") {
        let (source_port, destination_port) = ports(sctp);
        Some(layer4::Protocol::Sctp(Sctp { source_port, destination_port }))
    } else if let Some(icmp) = l4.get("ICMPv4") {
        let (r#type, code) = kinds(icmp);
        Some(layer4::Protocol::IcmPv4(IcmPv4 { r#type, code }))
    } else {
        l4.get("ICMPv6").map(|icmp| {
            let (r#type, code) = kinds(icmp);
            layer4::Protocol::IcmPv6(IcmPv6 { r#type, code })
        })
    };
    Layer4 { protocol }
}

fn layer7_of(l7: &Value) -> Layer7 {
    let record = if let Some(dns) = l7.get("dns") {
        Some(layer7::Record::Dns(Dns { query: text(dns, "query") }))
    } else {
        l7.get("http")
            .map(|http| layer7::Record::Http(Http { method: text(http, "method"), url: text(http, "url") }))
    };
    Layer7 { r#type: L7FlowType::from_str_name(&text(l7, "type")).unwrap_or_default().into(), record }
}

fn endpoint(value: &Value) -> Bytes {
    let endpoint = Endpoint {
        id: number(value, "ID") as u32,
        identity: number(value, "identity") as u32,
        namespace: text(value, "namespace"),
        labels: texts(value, "labels"),
        pod_name: text(value, "pod_name"),
        cluster_name: text(value, "cluster_name"),
    };
    endpoint.encode_to_vec().into()
}

fn time(value: &Value) -> Option<Timestamp> {
    text(value, "time").parse().ok()
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    let list = value.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}
