//! Whole messages of a relay as lines of a capture, as `hubble observe -o jsonpb` writes them: every field that
//! Cilium 1.19 knows, whether cpg reads it or not.
//!
//! What may hold secrets is left out, whatever the cluster does: query, fragment and user of a URL, all HTTP
//! headers, the keys of Kafka, and the summary of an L7 flow, which repeats the URL.

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions, Value};

/// The descriptors, made from `proto/whole`.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/whole.bin"));
/// The message of a stream.
const RESPONSE: &str = "observer.GetFlowsResponse";

/// Makes lines of messages.
#[derive(Debug, Clone)]
pub struct Whole {
    response: MessageDescriptor,
    options: SerializeOptions,
}

/// What a line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// It is a flow, not a word of the relay or of Hubble.
    pub is_flow: bool,
    /// The message had something that this version does not know and that the line does not hold.
    pub is_partial: bool,
}

/// Why no line can be made of a message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WholeError(String);

// === impl Whole ===

impl Whole {
    /// Fails only when the program itself is broken.
    pub fn new() -> Result<Self, WholeError> {
        let pool = DescriptorPool::decode(DESCRIPTORS).map_err(|e| WholeError(e.to_string()))?;
        let response = pool.get_message_by_name(RESPONSE);
        let response = response.ok_or_else(|| WholeError(format!("no descriptor of {RESPONSE}")))?;
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .stringify_64_bit_integers(true)
            .skip_default_fields(true);
        Ok(Self { response, options })
    }

    /// Adds the line of one message, with its end of line. On an error nothing is added.
    pub fn line(&self, raw: &[u8], into: &mut Vec<u8>) -> Result<Line, WholeError> {
        let begin = into.len();
        let error = |e: &dyn std::fmt::Display| WholeError(crate::text::visible(&e.to_string(), 300).into());
        let mut message = DynamicMessage::decode(self.response.clone(), raw).map_err(|e| error(&e))?;
        let mut line = Line { is_flow: false, is_partial: message.unknown_fields().next().is_some() };
        if message.has_field_by_name("flow")
            && let Some(Value::Message(flow)) = message.get_field_by_name_mut("flow")
        {
            line.is_flow = true;
            line.is_partial |= flow.unknown_fields().next().is_some() || flow.has_field_by_name("extensions");
            without_secrets(flow);
        }
        let mut serializer = serde_json::Serializer::new(&mut *into);
        if let Err(e) = message.serialize_with_options(&mut serializer, &self.options) {
            into.truncate(begin);
            return Err(error(&e));
        }
        into.push(b'\n');
        Ok(line)
    }
}

/// Takes out of a flow what may be a secret, and extensions, whose types nobody here knows.
fn without_secrets(flow: &mut DynamicMessage) {
    flow.clear_field_by_name("extensions");
    if !flow.has_field_by_name("l7") {
        return;
    }
    flow.clear_field_by_name("Summary");
    let Some(Value::Message(l7)) = flow.get_field_by_name_mut("l7") else { return };
    if l7.has_field_by_name("http")
        && let Some(Value::Message(http)) = l7.get_field_by_name_mut("http")
    {
        http.clear_field_by_name("headers");
        if let Some(Value::String(url)) = http.get_field_by_name_mut("url") {
            *url = plain_url(url);
        }
    }
    if l7.has_field_by_name("kafka")
        && let Some(Value::Message(kafka)) = l7.get_field_by_name_mut("kafka")
    {
        kafka.clear_field_by_name("api_key");
    }
}

/// A URL without user, query and fragment.
fn plain_url(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = &url[..end];
    let Some(at) = url.find("://").map(|at| at + 3) else { return url.to_owned() };
    let (scheme, rest) = url.split_at(at);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}{host}{path}")
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::{Value as Json, json};

    use super::*;

    /// A message as the relay sends it, from its JSON.
    fn wire(json: &Json) -> Vec<u8> {
        let whole = Whole::new().unwrap();
        DynamicMessage::deserialize(whole.response.clone(), json).unwrap().encode_to_vec()
    }

    fn line(raw: &[u8]) -> (Json, Line) {
        let mut into = b"before".to_vec();
        let line = Whole::new().unwrap().line(raw, &mut into).unwrap();
        assert_eq!(into.last(), Some(&b'\n'));
        (serde_json::from_slice(&into[6..]).unwrap(), line)
    }

    #[test]
    fn every_line_of_a_real_capture_comes_out_as_it_went_in() {
        let flow = json!({"flow": {"time": "2026-03-01T10:00:00.123456789Z", "uuid": "u", "emitter": {"name": "Hubble"},
            "verdict": "DROPPED", "drop_reason": 133, "drop_reason_desc": "POLICY_DENIED", "is_reply": false,
            "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
            "l4": {"TCP": {"source_port": 40000, "destination_port": 80, "flags": {"SYN": true}}},
            "source": {"ID": 7, "identity": 300, "namespace": "shop", "labels": ["k8s:app=web"], "pod_name": "web-1",
                       "workloads": [{"name": "web", "kind": "Deployment"}]},
            "Type": "L3_L4", "event_type": {"type": 4, "sub_type": 5}, "trace_observation_point": "FROM_ENDPOINT",
            "traffic_direction": "EGRESS", "socket_cookie": "18446744073709551615", "node_labels": ["a=b"],
            "ingress_denied_by": [{"name": "p", "namespace": "pay", "revision": "3", "kind": "CiliumNetworkPolicy"}],
            "Summary": "TCP Flags: SYN"}, "node_name": "west/n1", "time": "2026-03-01T10:00:00.123456789Z"});
        let lost = json!({"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "5"}, "node_name": "n1"});
        let status =
            json!({"node_status": {"state_change": "NODE_ERROR", "node_names": ["n1"], "message": "x"}});
        for (value, is_flow) in [(flow, true), (lost, false), (status, false)] {
            assert_eq!(line(&wire(&value)), (value, Line { is_flow, is_partial: false }));
        }
    }

    #[test]
    fn secrets_stay_out() {
        let record = |url: &str| {
            json!({"flow": {"Summary": format!("HTTP/1.1 GET {url}"), "l7": {"type": "REQUEST", "http": {"method": "GET",
                "url": url, "protocol": "HTTP/1.1", "headers": [{"key": "Authorization", "value": "Bearer t0k"}]}}}})
        };
        for (url, kept) in [
            ("http://bob:t0k@api/v1/a?token=t0k#t0k", "http://api/v1/a"),
            ("http://api", "http://api"),
            ("/v1/a?x=t0k", "/v1/a"),
            ("http://t0k@api:80/a@b", "http://api:80/a@b"),
            ("", ""),
        ] {
            let (value, _) = line(&wire(&record(url)));
            assert_eq!(value["flow"]["l7"]["http"]["url"].as_str().unwrap_or_default(), kept);
            assert!(!value.to_string().contains("t0k"), "{value}");
            assert_eq!(value["flow"]["l7"]["http"]["method"], "GET");
        }
    }

    #[test]
    fn what_is_newer_is_told_and_what_is_broken_refused() {
        // Field 4000 of the flow, a number; verdict 99.
        let flow = [0x80, 0xfa, 0x01, 0x01, 0x10, 99];
        let raw = [&[0x0a, flow.len() as u8], &flow[..]].concat();
        let (value, told) = line(&raw);
        assert_eq!(
            (value, told),
            (json!({"flow": {"verdict": 99}}), Line { is_flow: true, is_partial: true })
        );
        let mut into = b"before".to_vec();
        assert!(Whole::new().unwrap().line(&[0x0a, 0x05, 0x01], &mut into).is_err());
        assert_eq!(into, b"before");
    }
}
