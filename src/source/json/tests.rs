//! Lines as they come, and the promise that a flow is equal over both wires.

use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};

use super::error::LONGEST_REASON;
use super::*;
use crate::flow::{Direction, EventKind, L7, L7Kind, L7Record};
use crate::names::DnsName;
use crate::source::proto::observer::GetFlowsResponse;
use crate::source::proto::observer::get_flows_response::ResponseTypes;
use crate::source::{LostSource, NodeState};

#[track_caller]
fn read(line: &str) -> Item {
    read_line(line.as_bytes(), &mut Decoder::new()).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[track_caller]
fn flow(line: &str) -> Flow {
    match read(line) {
        Item::Flow(flow) => flow,
        other => panic!("no flow: {other:?}"),
    }
}

#[test]
fn an_unfinished_line_is_told_apart() {
    let whole = r#"{"flow":{"verdict":"DROPPED","uuid":"ä"}}"#;
    for cut in 1..whole.len() {
        assert!(read_line(&whole.as_bytes()[..cut], &mut Decoder::new()).unwrap_err().unfinished, "{cut}");
    }
    assert!(!read_line(b"{\"flow\":}", &mut Decoder::new()).unwrap_err().unfinished);
}

// === both wires ===

/// What a relay sends, through protobuf bytes.
fn live(flow: &wire::Flow, node: &str) -> Item {
    let response = GetFlowsResponse {
        node_name: node.to_owned(),
        time: flow.time,
        response_types: Some(ResponseTypes::Flow(flow.clone())),
    };
    let bytes = response.encode_to_vec();
    Decoder::new().response(GetFlowsResponse::decode(&*bytes).unwrap())
}

/// What protojson writes for it: zero values left out, enums by name where they have one.
fn line(flow: &wire::Flow, node: &str, camel: bool) -> String {
    let mut fields = serde_json::Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            let name = if camel { camel_case(name) } else { name.to_owned() };
            fields.insert(name, value);
        }
    };
    let text = |text: &str| (!text.is_empty()).then(|| json!(text));
    let time = flow
        .time
        .map(|t| json!(jiff::Timestamp::new(t.seconds, t.nanos).map_or("9".repeat(30), |t| t.to_string())));
    put("time", time);
    put("uuid", text(&flow.uuid));
    let verdict = wire::Verdict::try_from(flow.verdict).map(|v| json!(v.as_str_name()));
    put("verdict", (flow.verdict != 0).then(|| verdict.unwrap_or(json!(flow.verdict))));
    put("drop_reason", (flow.drop_reason != 0).then(|| json!(flow.drop_reason)));
    let reason = DropReason(flow.drop_reason_desc);
    let reason_json = reason.name().map_or(json!(flow.drop_reason_desc), |name| json!(name));
    put("drop_reason_desc", (flow.drop_reason_desc != 0).then_some(reason_json));
    let ip = flow.ip.as_ref();
    put("IP", ip.map(|ip| json!({"source": ip.source, "destination": ip.destination, "ipVersion": "IPv4"})));
    put("l4", flow.l4.as_ref().map(|l4| l4_json(l4, camel)));
    put("source", endpoint_json(&flow.source, camel));
    put("destination", endpoint_json(&flow.destination, camel));
    put("Type", Some(json!("L3_L4")));
    put("node_name", text(&flow.node_name));
    put("event_type", flow.event_type.map(|e| json!({"type": e.r#type, "sub_type": e.sub_type})));
    let direction = wire::TrafficDirection::try_from(flow.traffic_direction).map(|d| json!(d.as_str_name()));
    let direction = direction.unwrap_or(json!(flow.traffic_direction));
    put("traffic_direction", (flow.traffic_direction != 0).then_some(direction));
    put("is_reply", flow.is_reply.map(Value::from));
    for (name, policies) in
        [("egress_denied_by", &flow.egress_denied_by), ("ingress_denied_by", &flow.ingress_denied_by)]
    {
        let list: Vec<Value> = policies
            .iter()
            .map(|p| json!({"name": p.name, "namespace": p.namespace, "kind": p.kind, "revision": "6"}))
            .collect();
        put(name, (!list.is_empty()).then_some(Value::Array(list)));
    }
    put("extensions", Some(json!({"@type": "type.googleapis.com/flow.Extension", "x": [1, {"verdict": 2}]})));
    let (flow_key, node_key) = ("flow", if camel { "nodeName" } else { "node_name" });
    let mut line = serde_json::Map::new();
    line.insert(flow_key.to_owned(), Value::Object(fields));
    if !node.is_empty() {
        line.insert(node_key.to_owned(), json!(node));
    }
    // As Go's encoder writes these three.
    Value::Object(line).to_string().replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out.push_str(&part[..1].to_uppercase());
        out.push_str(&part[1..]);
    }
    out
}

fn l4_json(l4: &wire::Layer4, camel: bool) -> Value {
    use wire::layer4::Protocol;
    let (from, to) =
        if camel { ("sourcePort", "destinationPort") } else { ("source_port", "destination_port") };
    match l4.protocol.as_ref() {
        None => json!({}),
        Some(Protocol::Tcp(tcp)) => {
            let mut value = json!({from: tcp.source_port, to: tcp.destination_port});
            if let Some(f) = &tcp.flags {
                let all = [("SYN", f.syn), ("ACK", f.ack), ("FIN", f.fin), ("RST", f.rst), ("PSH", f.psh)];
                value["flags"] = all.iter().filter(|(_, set)| *set).map(|(n, _)| (*n, json!(true))).collect();
            }
            json!({"TCP": value})
        }
        Some(Protocol::Udp(udp)) => json!({"UDP": {from: udp.source_port, to: udp.destination_port}}),
        Some(Protocol::Sctp(sctp)) => json!({"SCTP": {from: sctp.source_port, to: sctp.destination_port}}),
        Some(Protocol::IcmPv4(icmp)) => json!({"ICMPv4": {"type": icmp.r#type, "code": icmp.code}}),
        Some(Protocol::IcmPv6(icmp)) => json!({"ICMPv6": {"type": icmp.r#type, "code": icmp.code}}),
        Some(Protocol::Vrrp(vrrp)) => json!({"VRRP": {"type": vrrp.r#type}}),
        Some(Protocol::Igmp(igmp)) => json!({"IGMP": {"type": igmp.r#type}}),
    }
}

fn endpoint_json(bytes: &[u8], camel: bool) -> Option<Value> {
    // Bytes that are no endpoint have no JSON form; any value that is no object stands for them.
    let Ok(e) = wire::Endpoint::decode(bytes) else { return Some(json!([1])) };
    let (pod, cluster) = if camel { ("podName", "clusterName") } else { ("pod_name", "cluster_name") };
    Some(json!({
        "ID": e.id, "identity": e.identity, "namespace": e.namespace, "labels": e.labels,
        pod: e.pod_name, cluster: e.cluster_name, "workloads": [{"name": "web", "kind": "Deployment"}],
    }))
}

#[track_caller]
fn check_both(flow: &wire::Flow, node: &str) -> Flow {
    let over_protobuf = live(flow, node);
    for camel in [false, true] {
        let line = line(flow, node, camel);
        assert_eq!(read(&line), over_protobuf, "{line}");
    }
    match over_protobuf {
        Item::Flow(flow) => flow,
        other => panic!("no flow: {other:?}"),
    }
}

fn endpoint(identity: u32, namespace: &str, pod: &str, labels: &[&str]) -> bytes::Bytes {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    let (namespace, pod_name) = (namespace.to_owned(), pod.to_owned());
    wire::Endpoint { id: 7, identity, namespace, labels, pod_name, cluster_name: String::new() }
        .encode_to_vec()
        .into()
}

fn denied() -> wire::Flow {
    wire::Flow {
        time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 }),
        uuid: "7f0c".to_owned(),
        verdict: 2,
        drop_reason: 133,
        drop_reason_desc: 133,
        ip: Some(wire::Ip {
            source: "10.0.0.1".to_owned(),
            destination: "10.0.0.2".to_owned(),
            ip_version: 1,
        }),
        l4: tcp(Some(wire::TcpFlags { syn: true, ..Default::default() })),
        source: endpoint(4711, "shop", "web-1", &["k8s:app=web", "k8s:x=<&>"]),
        destination: endpoint(2, "", "", &["reserved:world"]),
        node_name: "node-1".to_owned(),
        event_type: Some(wire::CiliumEventType { r#type: 5, sub_type: 0 }),
        traffic_direction: 2,
        ..Default::default()
    }
}

fn tcp(flags: Option<wire::TcpFlags>) -> Option<wire::Layer4> {
    l4(wire::layer4::Protocol::Tcp(wire::Tcp { source_port: 40_000, destination_port: 443, flags }))
}

fn l4(protocol: wire::layer4::Protocol) -> Option<wire::Layer4> {
    Some(wire::Layer4 { protocol: Some(protocol) })
}

#[test]
fn both_wires_give_the_same_flow() {
    use wire::layer4::Protocol;

    let flow = check_both(&denied(), "west/node-1");
    assert_eq!(flow.node.as_str(), "west/node-1");
    assert_eq!(flow.verdict, Verdict::Dropped);
    assert_eq!(flow.event, EventKind::PolicyVerdict);
    assert_eq!(flow.drop_reason, DropReason::POLICY_DENIED);
    assert_eq!(flow.direction, Some(Direction::Egress));
    assert_eq!((flow.is_reply, flow.denied_by.len()), (None, 0));
    assert_eq!(flow.time.unwrap().to_string(), "2023-11-14T22:13:20.123456789Z");
    assert!(matches!(flow.l4, L4::Tcp { destination: 443, flags: Some(TcpFlags { syn: true, .. }), .. }));
    assert_eq!(flow.source.unwrap().pod.as_deref(), Some("web-1"));
    assert!(flow.destination.unwrap().identity.is_world());

    assert_eq!(check_both(&denied(), "").node.as_str(), "node-1");
    let of = |l4| check_both(&wire::Flow { l4, ..denied() }, "n").l4;
    assert!(matches!(of(tcp(None)), L4::Tcp { flags: None, .. }));
    let no_flag = TcpFlags::default();
    assert_eq!(
        of(tcp(Some(wire::TcpFlags::default()))),
        L4::Tcp { source: 40_000, destination: 443, flags: Some(no_flag) }
    );
    let udp = wire::Udp { source_port: 1, destination_port: 53 };
    assert_eq!(of(l4(Protocol::Udp(udp))), L4::Udp { source: 1, destination: 53 });
    let sctp = wire::Sctp { source_port: 1, destination_port: 53 };
    assert_eq!(of(l4(Protocol::Sctp(sctp))), L4::Sctp { source: 1, destination: 53 });
    let icmp = wire::IcmPv4 { r#type: 8, code: 0 };
    assert_eq!(of(l4(Protocol::IcmPv4(icmp))), L4::Icmp { family: IcmpFamily::V4, kind: 8, code: 0 });
    let icmp = wire::IcmPv6 { r#type: 128, code: 1 };
    assert_eq!(of(l4(Protocol::IcmPv6(icmp))), L4::Icmp { family: IcmpFamily::V6, kind: 128, code: 1 });
    assert_eq!(of(l4(Protocol::Igmp(wire::Igmp { r#type: 1 }))), L4::Unknown);
    assert_eq!(of(l4(Protocol::Udp(wire::Udp { source_port: 70_000, destination_port: 1 }))), L4::Unknown);
    assert_eq!(of(l4(Protocol::IcmPv4(wire::IcmPv4 { r#type: 256, code: 0 }))), L4::Unknown);
    assert_eq!(of(Some(wire::Layer4 { protocol: None })), L4::Unknown);
    assert_eq!(of(None), L4::Absent);

    // Masked to almost nothing, and nothing at all.
    let masked = check_both(&wire::Flow { verdict: 2, ..Default::default() }, "");
    assert_eq!((masked.event, masked.ip, masked.source), (EventKind::Other(0), None, None));
    check_both(&wire::Flow::default(), "");

    let v6 = wire::Ip { source: "fd00::1".to_owned(), destination: "2001:db8::2".to_owned(), ip_version: 2 };
    assert!(check_both(&wire::Flow { ip: Some(v6), ..denied() }, "n").ip.unwrap().1.is_ipv6());
    let half = wire::Ip { source: "10.0.0.1".to_owned(), ..Default::default() };
    assert_eq!(check_both(&wire::Flow { ip: Some(half), ..denied() }, "n").ip, None);
    assert_eq!(check_both(&wire::Flow { ip: Some(wire::Ip::default()), ..denied() }, "n").ip, None);

    let nobody = endpoint_of(wire::Endpoint { id: 9, ..Default::default() });
    assert_eq!(check_both(&wire::Flow { source: nobody, ..denied() }, "n").source, None);
    let broken = check_both(&wire::Flow { source: vec![0xff, 0xff].into(), ..denied() }, "n");
    assert_eq!(broken.source, None);
    assert!(broken.destination.is_some());

    for is_reply in [None, Some(false), Some(true)] {
        assert_eq!(check_both(&wire::Flow { is_reply, ..denied() }, "n").is_reply, is_reply);
    }
    let policy = |kind: &str, namespace: &str, name: &str| wire::Policy {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let by = check_both(
        &wire::Flow {
            egress_denied_by: vec![
                policy("CiliumNetworkPolicy", "shop", "deny-web"),
                policy("", "", "old\u{1b}"),
            ],
            ingress_denied_by: vec![policy("CiliumClusterwideNetworkPolicy", "", "all"), policy("", "", "")],
            ..denied()
        },
        "n",
    );
    let names: Vec<_> = by.denied_by.iter().map(|name| &**name).collect();
    assert_eq!(
        names,
        [
            "CiliumNetworkPolicy shop/deny-web",
            "old\\u{1b}",
            "CiliumClusterwideNetworkPolicy all",
            "(without a name)"
        ]
    );

    // Values newer than this version.
    let newer =
        check_both(&wire::Flow { verdict: 99, traffic_direction: 9, drop_reason_desc: 250, ..denied() }, "n");
    assert_eq!((newer.verdict, newer.direction), (Verdict::Unknown, None));
    assert_eq!(newer.drop_reason, DropReason(250));
    let old = check_both(&wire::Flow { drop_reason: 181, drop_reason_desc: 0, ..denied() }, "n");
    assert_eq!(old.drop_reason, DropReason::POLICY_DENY);
    let time = |seconds, nanos| {
        check_both(&wire::Flow { time: Some(prost_types::Timestamp { seconds, nanos }), ..denied() }, "n")
            .time
    };
    assert_eq!(time(i64::MAX, 0), None);
    assert_eq!(time(-1, 500_000_000).unwrap().to_string(), "1969-12-31T23:59:59.5Z");
}

fn endpoint_of(endpoint: wire::Endpoint) -> bytes::Bytes {
    endpoint.encode_to_vec().into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn both_wires_give_the_same_flow_for_any_value(
        numbers in (-3i32..12, -3i32..300, 0u32..300, -1i32..4, -2i32..140),
        ports in (0u32..70_000, 0u32..70_000),
        which in 0u8..8,
        texts in ("[a-z.:0-9<&>\"\\\\\u{1b}ä]{0,12}", "[0-9.]{0,9}", "[0-9a-f:]{0,9}"),
        labels in proptest::collection::vec("[a-z0-9:=./<&>\"-]{0,20}", 0..4),
        identity in 0u32..12,
        is_reply in proptest::option::of(any::<bool>()),
    ) {
        use wire::layer4::Protocol;

        let (verdict, desc, reason, direction, event) = numbers;
        let (from, to) = ports;
        let protocol = match which {
            0 => Some(Protocol::Tcp(wire::Tcp { source_port: from, destination_port: to, flags: None })),
            1 => Some(Protocol::Udp(wire::Udp { source_port: from, destination_port: to })),
            2 => Some(Protocol::Sctp(wire::Sctp { source_port: from, destination_port: to })),
            3 => Some(Protocol::IcmPv4(wire::IcmPv4 { r#type: from / 200, code: to / 200 })),
            4 => Some(Protocol::IcmPv6(wire::IcmPv6 { r#type: from / 200, code: to / 200 })),
            5 => Some(Protocol::Vrrp(wire::Vrrp { r#type: from })),
            _ => None,
        };
        let flow = wire::Flow {
            verdict,
            drop_reason: reason,
            drop_reason_desc: desc,
            traffic_direction: direction,
            event_type: Some(wire::CiliumEventType { r#type: event, sub_type: 1 }),
            l4: (which < 7).then_some(wire::Layer4 { protocol }),
            ip: Some(wire::Ip { source: texts.1, destination: texts.2, ip_version: 1 }),
            source: endpoint_of(wire::Endpoint { identity, labels, pod_name: texts.0.clone(), ..Default::default() }),
            uuid: texts.0.clone(),
            is_reply,
            ..Default::default()
        };
        check_both(&flow, &texts.0);
    }
}

// === lines ===

#[test]
fn other_lines_of_hubble() {
    let lost = r#"{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"7","cpu":3},"node_name":"k/w1","time":"x"}"#;
    let node = crate::names::NodeName::lossy("k/w1");
    assert_eq!(
        read(lost),
        Item::Lost(LostEvents { source: LostSource::HubbleRingBuffer, count: 7, node, noticed: None })
    );
    let lost = r#"{"lostEvents":{"source":1,"numEventsLost":2}}"#;
    assert!(matches!(
        read(lost),
        Item::Lost(LostEvents { source: LostSource::PerfEventRingBuffer, count: 2, .. })
    ));
    let status = r#"{"node_status":{"state_change":"NODE_ERROR","node_names":["a","b"],"message":"a\u001b[2J"},"node_name":"r"}"#;
    let Item::NodeStatus(status) = read(status) else { panic!() };
    assert_eq!((status.state, status.nodes.len()), (NodeState::Error, 2));
    assert_eq!(&*status.message, "a\\u{1b}[2J");
    let status = r#"{"nodeStatus":{"stateChange":1,"nodeNames":null}}"#;
    assert!(matches!(read(status), Item::NodeStatus(NodeStatus { state: NodeState::Connected, .. })));
    assert_eq!(read(r#"{"agent_event":{"type":"AGENT_STARTED"},"node_name":"n"}"#), Item::Other);
    assert_eq!(read(r#"{"debugEvent":{"hash":12}}"#), Item::Other);
    assert_eq!(read(r#"{"brand_new_event":{},"node_name":"n"}"#), Item::Other);
}

#[test]
fn flows_as_others_write_them() {
    let flat = flow(
        r#"{"time":"2021-10-18T10:33:29.416912427Z","verdict":"DROPPED","node_name":"n1","IP":{"source":"1.1.1.1","destination":"2.2.2.2"},"ethernet":null}"#,
    );
    assert_eq!((flat.node.as_str(), flat.verdict), ("n1", Verdict::Dropped));
    assert!(flat.ip.is_some());
    let ids = flow(
        r#"{ "source": {"ID": "3726", "identity": "9578", "labels": ["k8s:a=b"], "pod_name": "x"}, "l4": null }"#,
    );
    assert_eq!((ids.source.unwrap().number, ids.l4), (9578, L4::Absent));
    let offset = flow(r#"{"flow":{"time":"2026-01-01T02:00:00+02:00","verdict":2,"l4":{"TCP":null}}}"#);
    assert_eq!(offset.time.unwrap().to_string(), "2026-01-01T00:00:00Z");
    assert_eq!((offset.verdict, offset.l4), (Verdict::Dropped, L4::Unknown));
    let parts = flow(r#"{"flow":{"time":{"seconds":"10","nanos":5},"is_reply":null,"uuid":null}}"#);
    assert_eq!((parts.time.unwrap().as_nanosecond(), parts.is_reply), (10_000_000_005, None));
    let escaped = flow(r#"{"flow":{"uuid":"a\u0026b\u003c","node_name":"\u001b"}}"#);
    assert_eq!((&*escaped.uuid, escaped.node.as_str()), ("a&b<", "\\u{1b}"));
}

#[test]
fn reasons_in_words_and_numbers() {
    let reason = |fields: &str| {
        let mut decoder = Decoder::new();
        let line = format!(r#"{{"flow":{{"verdict":"DROPPED"{fields}}}}}"#);
        let Ok(Item::Flow(flow)) = read_line(line.as_bytes(), &mut decoder) else { panic!("{line}") };
        (flow.drop_reason, decoder.take_unknown().total())
    };
    assert_eq!(reason(r#","drop_reason_desc":"POLICY_DENIED""#), (DropReason(133), 0));
    assert_eq!(reason(r#","drop_reason_desc":133"#), (DropReason(133), 0));
    assert_eq!(reason(r#","drop_reason":133"#), (DropReason(133), 0));
    assert_eq!(
        reason(r#","drop_reason_desc":"DROP_REASON_UNKNOWN","drop_reason":181"#),
        (DropReason(181), 0)
    );
    assert_eq!(reason(r#","drop_reason_desc":"BRAND_NEW","drop_reason":250"#), (DropReason(250), 1));
    assert_eq!(reason(r#","drop_reason_desc":"BRAND_NEW""#), (DropReason::UNRECOGNISED, 1));
    assert_eq!(reason(r#","drop_reason_desc":9999"#), (DropReason(9999), 1));
    assert_eq!(reason(""), (DropReason::NONE, 0));
}

#[test]
fn unknown_names_are_counted() {
    let mut decoder = Decoder::new();
    let line = r#"{"flow":{"verdict":"ALLOWED","traffic_direction":"SIDEWAYS","event_type":{"type":200},"IP":{"source":"x","destination":"y"},"time":"never","source":7}}"#;
    let Ok(Item::Flow(flow)) = read_line(line.as_bytes(), &mut decoder) else { panic!() };
    assert_eq!((flow.verdict, flow.direction, flow.event), (Verdict::Unknown, None, EventKind::Other(200)));
    assert_eq!((flow.ip, flow.time, flow.source), (None, None, None));
    let unknown = decoder.take_unknown();
    let words: Vec<String> = unknown.iter().map(|(value, _)| value.to_string()).collect();
    assert_eq!(words, ["verdict", "event type 200", "traffic direction", "endpoint", "address", "time"]);
    assert!(decoder.take_unknown().is_empty());
}

#[test]
fn a_bad_line_says_why() {
    #[track_caller]
    fn check(line: &[u8], expected: &str) {
        let reason = read_line(line, &mut Decoder::new()).unwrap_err().reason;
        assert!(reason.contains(expected), "{reason}");
        assert!(reason.chars().count() <= LONGEST_REASON && !reason.contains('\u{1b}'), "{reason}");
    }
    check(b"hello", "does not begin with {");
    check(b"{\"flow\":{\"verdict\":\"DROP", "EOF while parsing a string at byte 24");
    check(b"{\"flow\":7}", "invalid type: integer `7`");
    check(b"{\"flow\":{\"uuid\":[1]}}", "expected a text");
    check(b"[{\"flow\":{}}]", "does not begin with {");
    check(b"{}", "neither a flow");
    check(b"{\"a\":1}", "neither a flow");
    check(b"{\"flow\":\xff}", "not UTF-8 at byte 9");
    check(format!("{{\"flow\":\"{}\u{1b}\"}}", "\\u001b".repeat(300)).as_bytes(), "");
    check("[".repeat(5000).as_bytes(), "");
    check(format!("{{\"x\":{}1", "[".repeat(5000)).as_bytes(), "");
}

#[test]
fn names_and_requests_the_same_over_both_ways() {
    let flow = wire::Flow {
        verdict: 1,
        destination_names: vec!["b.example.com".to_owned(), "a.example.com.".to_owned(), "*".to_owned()],
        l7: Some(wire::Layer7 {
            r#type: wire::L7FlowType::Request.into(),
            record: Some(wire::layer7::Record::Http(wire::Http {
                method: "GET".to_owned(),
                url: "http://shop.example/v1/items?token=secret".to_owned(),
            })),
        }),
        ..Default::default()
    };
    let response = GetFlowsResponse { response_types: Some(ResponseTypes::Flow(flow)), ..Default::default() };
    let (mut live, mut replayed) = (Decoder::new(), Decoder::new());
    let line = r#"{"flow":{"verdict":"FORWARDED","source_names":["Client.example.com."],
        "destinationNames":["b.example.com","a.example.com.","*"],"l7":{"type":"REQUEST","latency_ns":"12",
        "http":{"method":"GET","url":"http://shop.example/v1/items?token=secret","headers":[{"key":"A"}]}}}}"#;
    let Item::Flow(flow) = read_line(line.replace('\n', "").as_bytes(), &mut replayed).unwrap() else {
        panic!()
    };
    assert_eq!(live.response(response), Item::Flow(flow.clone()));
    let names: Vec<&str> = flow.destination_names.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["a.example.com", "b.example.com"]);
    let http = L7Record::Http { method: "GET".into(), path: "/v1/items".into() };
    assert_eq!(flow.l7.as_deref(), Some(&L7 { kind: L7Kind::Request, record: http }));
    assert_eq!((live.take_unknown().total(), replayed.take_unknown().total()), (1, 1));
}

#[test]
fn dns_records() {
    let check = |l7: &str, expected: L7Record, unknown: u64| {
        let mut decoder = Decoder::new();
        let line = format!(r#"{{"flow":{{"verdict":"DROPPED","l7":{l7}}}}}"#);
        let Item::Flow(flow) = read_line(line.as_bytes(), &mut decoder).unwrap() else { panic!() };
        assert_eq!(flow.l7.map(|l7| l7.record), Some(expected), "{l7}");
        assert_eq!(decoder.take_unknown().total(), unknown, "{l7}");
    };
    let query = |name: &str| L7Record::Dns { query: DnsName::parse(name).ok() };
    check(
        r#"{"type":"REQUEST","dns":{"query":"API.example.com.","qtypes":["A"]}}"#,
        query("api.example.com"),
        0,
    );
    check(r#"{"type":"RESPONSE","dns":{"query":"a.b.","rcode":3,"ttl":4294967295}}"#, query("a.b"), 0);
    check(r#"{"type":"RESPONSE","dns":{"query":"a.b.","rcode":"nxdomain"}}"#, query("a.b"), 0);
    check(r#"{"type":"RESPONSE","dns":{"query":"a.b.","rcode":"BADVERS"}}"#, query("a.b"), 0);
    check(r#"{"type":1,"dns":{"query":"."}}"#, query(""), 1);
    check(r#"{"type":"NEW","kafka":{}}"#, L7Record::Other, 1);
    check(r#"{"type":"REQUEST","http":{"method":"GET","url":"/HUBBLE_REDACTED/x"}}"#, L7Record::Other, 0);
    for odd in [r#"{"dns":{"query":7}}"#, "[]", "7", r#"{"type":{}}"#, r#"{"http":"GET /"}"#] {
        check(odd, L7Record::Other, 1);
    }
}
