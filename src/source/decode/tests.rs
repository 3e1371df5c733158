//! The door: masks, caches, messages that are no flows.

use super::*;

#[test]
fn the_mask_names_every_field_of_our_flow() {
    let proto = include_str!("../../../proto/flow/flow.proto");
    let (_, rest) = proto.split_once("message Flow {").unwrap();
    let (fields, _) = rest.split_once("\n}").unwrap();
    let names: Vec<&str> = fields
        .lines()
        .filter_map(|line| line.trim().split_once(" = "))
        .filter_map(|(left, _)| left.rsplit(' ').next())
        .collect();
    let (mut mask, mut expected) = (FIELD_MASK.to_vec(), names);
    mask.sort_unstable();
    expected.sort_unstable();
    assert_eq!(mask, expected);
}

#[test]
fn an_endpoint_is_decoded_once() {
    let wire = wire::Endpoint { identity: 300, pod_name: "web-1".to_owned(), ..Default::default() };
    let bytes = wire.encode_to_vec();
    let mut decoder = Decoder::new();
    let first = decoder.wire_endpoint(&bytes).unwrap();
    assert!(Arc::ptr_eq(&first, &decoder.wire_endpoint(&bytes).unwrap()));
    assert!(decoder.wire_endpoint(b"\xff\xff\xff").is_none());
    assert_eq!(decoder.take_unknown().total(), 1);
}

#[test]
fn other_messages() {
    let mut decoder = Decoder::new();
    let message = |types| observer::GetFlowsResponse {
        node_name: "west/n1".to_owned(),
        time: None,
        response_types: types,
    };
    use observer::get_flows_response::ResponseTypes;
    assert_eq!(decoder.response(message(None)), Item::Other);
    let lost = wire::LostEvent { source: 17, num_events_lost: 5, ..Default::default() };
    let Item::Lost(lost) = decoder.response(message(Some(ResponseTypes::LostEvents(lost)))) else {
        panic!();
    };
    assert_eq!((lost.source, lost.count, lost.node.as_str()), (LostSource::Unknown, 5, "west/n1"));
    let status = relay::NodeStatusEvent {
        state_change: 4,
        node_names: vec!["west/n1".to_owned()],
        message: "boom\n".to_owned(),
    };
    let Item::NodeStatus(status) = decoder.response(message(Some(ResponseTypes::NodeStatus(status)))) else {
        panic!();
    };
    assert_eq!((status.state, &*status.message), (NodeState::Error, "boom\\u{a}"));
    assert_eq!(decoder.take_unknown().total(), 1);
}
