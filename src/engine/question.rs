//! Questions in the form of the testbed's judge: a cluster, its policies, its identities and flows in
//! one JSON object. For people, and for holding the engine against Cilium's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    AllowLocalhost, Decision, EnablePolicy, Engine, EngineOptions, NamedPort, Party, Prepared, Request,
    RequestDecision, Traffic,
};
use crate::flow::{Direction, IcmpFamily};
use crate::policy::read_documents;
use crate::policy::spec::{IpProtocol, Options, Path, Spec, Version, sanitise_value};

/// One line of questions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Question {
    /// The local cluster; `default` when empty.
    pub cluster: String,
    /// Options of the agent.
    pub opts: Opts,
    /// YAML of any number of documents.
    pub policies: String,
    /// Identities by a name of one's own.
    pub ids: BTreeMap<String, Id>,
    /// What is asked.
    pub flows: Vec<FlowQuestion>,
}

/// Options of the agent; what is left out is as Helm installs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Opts {
    /// `policy-default-local-cluster`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_local_cluster: Option<bool>,
    /// `enable-ipv4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<bool>,
    /// `enable-ipv6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// `enable-policy=always`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub always: bool,
    /// `allow-localhost`: `true`, `"always"`, `false` or `"policy"`.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub localhost: Value,
    /// `enable-host-firewall`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hostfw: bool,
    /// `enable-node-selector-labels`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub nodelabels: bool,
    /// `enable-extended-ip-protocols`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub extproto: bool,
    /// `enable-l7-proxy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l7: Option<bool>,
}

/// An identity, and the pod behind it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Id {
    /// Its number.
    pub id: u32,
    /// All of its labels, as Hubble prints them.
    pub labels: Vec<String>,
    /// The named ports of the pod.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub named_ports: BTreeMap<String, Port>,
}

/// A named port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Port {
    /// Its protocol; TCP when empty.
    pub proto: String,
    /// Its number.
    pub port: u16,
}

/// One connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowQuestion {
    /// Who opens it.
    pub from: String,
    /// Whom to.
    pub to: String,
    /// TCP, UDP, SCTP, ICMP, ICMPv6, or a protocol without ports.
    pub proto: String,
    /// The port, or the ICMP type.
    pub port: u16,
    /// Takes port, and protocol if that is empty, from this port of `to`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub named: String,
    /// A name that `from` asks `to` for by DNS.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dns: String,
    /// The server name of a TLS handshake.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sni: String,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// As asked.
    pub from: String,
    /// As asked.
    pub to: String,
    /// As asked, or that of the named port.
    pub proto: String,
    /// As asked, or that of the named port.
    pub port: u16,
    /// `allow`, `redirect`, `deny`, `default-deny`, `error` or `unchecked:<field>`, by `from`'s policies.
    pub egress: String,
    /// The same, by `to`'s policies.
    pub ingress: String,
    /// With `dns` or `sni`, where `from`'s policies send the connection to a proxy: `allow`, `refuse`, or
    /// `unchecked:<field>`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request: String,
    /// Why `error`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// A document that the agent would not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which one, from 0; empty documents do not count.
    pub index: usize,
    /// Why.
    pub error: String,
}

/// The answers to one question.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// Documents that do not count.
    pub refused: Vec<Refused>,
    /// One for each flow, in their order.
    pub flows: Vec<Answer>,
}

const FAILED: &str = "error";

// === impl Question ===

impl Question {
    /// Decides everything that is asked. An error says why the question cannot be used.
    pub fn answer(&self, version: Version) -> Result<Answers, String> {
        let (specs, refused) = self.specs(version)?;
        let mut parties: BTreeMap<&str, Party> = BTreeMap::new();
        for (name, id) in &self.ids {
            if id.id == 0 {
                return Err(format!("ids: {name} has no number"));
            }
            parties.insert(name, id.party().map_err(|e| format!("ids: {name}: {e}"))?);
        }
        let mut options = self.options(version)?;
        options.named_ports =
            Some(parties.values().flat_map(|p| p.named_ports.iter().flatten()).cloned().collect());
        let engine = Engine::new(specs, options);
        let mut prepared: BTreeMap<&str, Prepared<'_>> = BTreeMap::new();
        for (name, party) in &parties {
            prepared.insert(name, engine.subject(party));
        }
        let decide = |flow: &FlowQuestion| {
            let mut answer = Answer {
                from: flow.from.clone(),
                to: flow.to.clone(),
                proto: flow.proto.clone(),
                port: flow.port,
                ..Answer::default()
            };
            let side = |subject: &Prepared<'_>, peer: &Prepared<'_>, direction, traffic| {
                word(&subject.decide(peer.party(), direction, traffic))
            };
            match (self.traffic(&mut answer, &flow.named), prepared.get(&*flow.from), prepared.get(&*flow.to))
            {
                (Ok(traffic), Some(from), Some(to)) => {
                    answer.egress = side(from, to, Direction::Egress, traffic);
                    if let Some(request) = flow.request() {
                        let decision = from.decide_request(to.party(), Direction::Egress, traffic, &request);
                        answer.request = request_word(&decision);
                    }
                    answer.ingress = side(to, from, Direction::Ingress, traffic);
                }
                (Ok(_), _, _) => {
                    answer.error = format!("ids has no {:?} or no {:?}", flow.from, flow.to);
                }
                (Err(error), _, _) => answer.error = error,
            }
            if !answer.error.is_empty() {
                (answer.egress, answer.ingress) = (FAILED.to_owned(), FAILED.to_owned());
            }
            answer
        };
        Ok(Answers { refused, flows: self.flows.iter().map(decide).collect() })
    }

    /// The rules of every document that the agent takes. A later policy of the same kind, namespace and
    /// name replaces an earlier one.
    fn specs(&self, version: Version) -> Result<(Vec<Spec>, Vec<Refused>), String> {
        let options = Options {
            l7_proxy: self.opts.l7.unwrap_or(true),
            node_selector_labels: self.opts.nodelabels,
            extended_ip_protocols: self.opts.extproto,
            ..Options::of(version)
        };
        let (mut specs, mut refused): (Vec<Spec>, Vec<Refused>) = (Vec::new(), Vec::new());
        let mut take =
            |index: usize, object: &Value| match sanitise_value(index, object, &Path::root(), &options) {
                Ok(new) => {
                    if let Some(origin) = new.first().map(|spec| &spec.origin) {
                        let other = |s: &Spec| {
                            (s.origin.kind, &s.origin.namespace, &s.origin.name)
                                != (origin.kind, &origin.namespace, &origin.name)
                        };
                        specs.retain(other);
                    }
                    specs.extend(new);
                }
                Err(findings) => {
                    let error = findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                    refused.push(Refused { index, error });
                }
            };
        for document in read_documents(&self.policies).map_err(|e| e.to_string())? {
            match document.value.get("items").and_then(Value::as_array) {
                Some(items) => items.iter().for_each(|item| take(document.index, item)),
                None => take(document.index, &document.value),
            }
        }
        Ok((specs, refused))
    }

    fn options(&self, version: Version) -> Result<EngineOptions, String> {
        let opts = &self.opts;
        let allow_localhost = match &opts.localhost {
            Value::Null | Value::Bool(true) => AllowLocalhost::Always,
            Value::Bool(false) => AllowLocalhost::Policy,
            Value::String(word) if word == "always" => AllowLocalhost::Always,
            Value::String(word) if word == "policy" => AllowLocalhost::Policy,
            other => return Err(format!("localhost: {other} is not a bool, \"always\" or \"policy\"")),
        };
        let cluster = if self.cluster.is_empty() { "default" } else { &self.cluster };
        Ok(EngineOptions {
            cluster: cluster.into(),
            default_local_cluster: opts.default_local_cluster.unwrap_or(true),
            mode: if opts.always { EnablePolicy::Always } else { EnablePolicy::Default },
            allow_localhost,
            host_firewall: opts.hostfw,
            ipv4: opts.ipv4.unwrap_or(true),
            ipv6: opts.ipv6.unwrap_or(false),
            ..EngineOptions::of(version)
        })
    }

    fn traffic(&self, answer: &mut Answer, named: &str) -> Result<Traffic, String> {
        if !named.is_empty() {
            let port = self.ids.get(&answer.to).and_then(|id| id.named_ports.get(named));
            let port = port.ok_or_else(|| format!("{} has no port {named:?}", answer.to))?;
            answer.port = port.port;
            if answer.proto.is_empty() {
                answer.proto.clone_from(&port.proto);
            }
        }
        let family = match &*answer.proto {
            "ICMP" => IcmpFamily::V4,
            "ICMPv6" | "ICMPV6" => IcmpFamily::V6,
            name => return Ok(Traffic::Port { protocol: protocol(name)?, port: answer.port }),
        };
        let kind = u8::try_from(answer.port).map_err(|_| format!("{} is no ICMP type", answer.port))?;
        Ok(Traffic::Icmp { family, kind })
    }
}

fn protocol(name: &str) -> Result<IpProtocol, String> {
    let known = IpProtocol::ALL.into_iter().find(|p| p.as_str().eq_ignore_ascii_case(name));
    known.ok_or_else(|| format!("{name:?} is no protocol of a packet"))
}

/// The word for a decision.
fn word(decision: &Decision<'_>) -> String {
    match decision {
        Decision::Allowed { redirect: true, .. } => "redirect".to_owned(),
        Decision::Allowed { .. } | Decision::Unselected => "allow".to_owned(),
        Decision::Denied { .. } => "deny".to_owned(),
        Decision::DefaultDeny { .. } => "default-deny".to_owned(),
        Decision::CouldNotCheck { field, .. } => format!("unchecked:{field}"),
    }
}

/// The word for a decision about a request; none where no proxy is asked.
fn request_word(decision: &RequestDecision<'_>) -> String {
    match decision {
        RequestDecision::Connection(_) => String::new(),
        RequestDecision::Allowed { .. } => "allow".to_owned(),
        RequestDecision::Refused { .. } => "refuse".to_owned(),
        RequestDecision::CouldNotCheck { field, .. } => format!("unchecked:{field}"),
    }
}

// === impl FlowQuestion ===

impl FlowQuestion {
    fn request(&self) -> Option<Request<'_>> {
        match (&*self.dns, &*self.sni) {
            ("", "") => None,
            ("", name) => Some(Request::Tls { sni: Some(name) }),
            (name, _) => Some(Request::Dns { name }),
        }
    }
}

// === impl Id ===

impl Id {
    fn party(&self) -> Result<Party, String> {
        let mut ports = Vec::new();
        for (name, Port { proto, port }) in &self.named_ports {
            let protocol = if proto.is_empty() { IpProtocol::Tcp } else { protocol(proto)? };
            ports.push(NamedPort { name: name.to_ascii_lowercase().into(), protocol, port: *port });
        }
        let mut party = Party::new(self.id, self.labels.iter().map(String::as_str));
        party.named_ports = Some(ports);
        Ok(party)
    }
}

// === impl Answers ===

impl Answers {
    /// The lines of an answer, as the judge prints them: what was refused, one line for each flow, `{}`.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.refused.is_empty() {
            lines.push(serde_json::json!({ "refused": self.refused }).to_string());
        }
        lines.extend(self.flows.iter().map(|answer| serde_json::json!(answer).to_string()));
        lines.push("{}".to_owned());
        lines
    }
}

/// Answers one line; one that cannot be used is answered with `{"error": ...}`.
pub fn answer_line(line: &str, version: Version) -> Vec<String> {
    let parsed = serde_json::from_str::<Question>(line).map_err(|e| e.to_string());
    match parsed.and_then(|question| question.answer(version)) {
        Ok(answers) => answers.lines(),
        Err(error) => vec![serde_json::json!({ "error": error }).to_string(), "{}".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_the_judge_prints_them() {
        let policies = "{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: a}, spec: {}}";
        let question = serde_json::json!({
            "policies": policies,
            "ids": {"a": {"id": 1001, "labels": ["k8s:x=y"]}, "b": {"id": 2, "labels": ["reserved:world"]}},
            "flows": [{"from": "b", "to": "a", "proto": "UDP", "port": 53}, {"from": "b", "to": "nobody", "proto": "UDP"}],
        });
        let lines = answer_line(&question.to_string(), Version::V1_19);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].starts_with(r#"{"refused":[{"error":"#), "{}", lines[0]);
        let answers = lines[1..3].iter().map(|l| serde_json::from_str::<Answer>(l).unwrap());
        let words: Vec<_> = answers.map(|a| (a.egress, a.ingress, a.error.is_empty())).collect();
        assert_eq!(words[0], ("allow".into(), "allow".into(), true));
        assert_eq!(words[1], ("error".into(), "error".into(), false));
        assert_eq!(lines[3], "{}");
        assert!(answer_line("nonsense", Version::V1_19)[0].starts_with(r#"{"error":"#));
    }

    /// An answer says what was asked, and a named port's number.
    #[test]
    fn answers_repeat_the_question() {
        let question: Question = serde_json::from_value(serde_json::json!({
            "ids": {
                "a": {"id": 1001, "labels": ["k8s:x=y"], "namedPorts": {"web": {"proto": "SCTP", "port": 8080}}},
                "b": {"id": 2, "labels": ["reserved:world"]},
            },
        }))
        .unwrap();
        let check = |flow: [&str; 3], port, named: &str, expected: Result<(&str, u16), &str>| {
            let [from, to, proto] = flow.map(str::to_owned);
            let flow = FlowQuestion { from, to, proto, port, named: named.into(), ..FlowQuestion::default() };
            let flows = vec![flow.clone()];
            let answers = Question { flows, ..question.clone() }.answer(Version::V1_19).unwrap();
            let [answer] = answers.flows.as_slice() else { panic!("one answer") };
            assert_eq!((&answer.from, &answer.to), (&flow.from, &flow.to));
            match expected {
                Ok(expected) => assert_eq!((&*answer.proto, answer.port), expected, "{answer:?}"),
                Err(why) => assert!(answer.error.contains(why) && answer.ingress == "error", "{answer:?}"),
            }
        };
        check(["b", "a", "UDP"], 53, "", Ok(("UDP", 53)));
        check(["b", "a", ""], 0, "web", Ok(("SCTP", 8080)));
        check(["b", "a", "TCP"], 0, "web", Ok(("TCP", 8080)));
        check(["b", "a", ""], 0, "api", Err("a has no port \"api\""));
        check(["b", "a", "ICMP"], 300, "", Err("300 is no ICMP type"));
        check(["b", "a", "HTTP"], 80, "", Err("\"HTTP\" is no protocol"));
        check(["b", "c", "TCP"], 80, "", Err("no \"c\""));
        let nobody = BTreeMap::from([("a".to_owned(), Id::default())]);
        assert!(Question { ids: nobody, ..question.clone() }.answer(Version::V1_19).is_err());
    }

    #[test]
    fn options_of_the_agent() {
        let check = |opts: Value, cluster: &str, expected: Option<EngineOptions>| {
            let opts: Opts = serde_json::from_value(opts).unwrap();
            let question = Question { opts, cluster: cluster.into(), ..Question::default() };
            assert_eq!(question.options(Version::V1_20).ok(), expected, "{:?}", question.opts);
        };
        let usual = || EngineOptions::of(Version::V1_20);
        let with = |change: fn(&mut EngineOptions)| {
            let mut options = usual();
            change(&mut options);
            Some(options)
        };
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        check(json("{}"), "", Some(usual()));
        check(json("{}"), "c1", with(|o| o.cluster = "c1".into()));
        check(json(r#"{"localhost": true}"#), "", Some(usual()));
        check(json(r#"{"localhost": "always"}"#), "", Some(usual()));
        check(json(r#"{"localhost": "policy"}"#), "", with(|o| o.allow_localhost = AllowLocalhost::Policy));
        check(json(r#"{"localhost": false}"#), "", with(|o| o.allow_localhost = AllowLocalhost::Policy));
        check(json(r#"{"localhost": "never"}"#), "", None);
        check(json(r#"{"defaultLocalCluster": false}"#), "", with(|o| o.default_local_cluster = false));
        check(json(r#"{"always": true}"#), "", with(|o| o.mode = EnablePolicy::Always));
        check(json(r#"{"hostfw": true}"#), "", with(|o| o.host_firewall = true));
        check(json(r#"{"ipv4": false, "ipv6": true}"#), "", with(|o| (o.ipv4, o.ipv6) = (false, true)));
    }

    /// Each option makes the agent take a document that it refuses without, or the other way round.
    #[test]
    fn options_that_refuse_documents() {
        let check = |opts: &str, rule: &str, taken: bool| {
            let question = Question {
                opts: serde_json::from_str(opts).unwrap(),
                policies: format!(
                    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: a}}\n\
                     spec: {{endpointSelector: {{}}, egress: [{{{rule}}}]}}\n"
                ),
                ..Question::default()
            };
            let (specs, refused) = question.specs(Version::V1_19).unwrap();
            assert_eq!(
                (specs.len(), refused.len()),
                if taken { (1, 0) } else { (0, 1) },
                "{opts} {refused:?}"
            );
        };
        let nodes = "toNodes: [{}]";
        check("{}", nodes, false);
        check(r#"{"nodelabels": true}"#, nodes, true);
        let vrrp = "toPorts: [{ports: [{protocol: VRRP}]}]";
        check("{}", vrrp, false);
        check(r#"{"extproto": true}"#, vrrp, true);
        let http = "toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]";
        check("{}", http, true);
        check(r#"{"l7": false}"#, http, false);
    }

    #[test]
    fn a_later_policy_of_one_name_replaces_the_earlier_one() {
        let policy = |rules: &str| {
            format!(
                "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: a, namespace: shop}}\n\
                 spec: {{endpointSelector: {{}}, ingress: {rules}}}\n"
            )
        };
        let question = Question {
            policies: format!("{}---\n{}", policy("[{fromEntities: [all]}]"), policy("[{}]")),
            ..Question::default()
        };
        let (specs, refused) = question.specs(Version::V1_19).unwrap();
        assert_eq!((specs.len(), refused.len()), (1, 0));
        assert_eq!(specs[0].origin.document, 1);
    }
}
