//! Vectors for requests. Those of HTTP and TLS are what Cilium's agent tells Envoy and what its filters
//! make of that, read and not run; those of DNS are what the conformance test holds against Cilium's proxy.

use super::*;
use crate::engine::{EnablePolicy, Engine, EngineOptions, NamedPort};
use crate::policy::read_documents;
use crate::policy::spec::{Options, sanitise};

/// A pod `web` in namespace `shop`, whose peers are `client` and `other` there, and what is outside.
struct Cluster {
    text: String,
    options: EngineOptions,
    direction: Direction,
}

fn pod(app: &str) -> Party {
    let labels = ["k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=default"];
    let app = format!("k8s:app={app}");
    Party::new(1001, labels.into_iter().chain([&*app]))
}

fn party(name: &str) -> Party {
    match name {
        "host" => Party::new(1, ["reserved:host"]),
        "world" => Party::new(2, ["reserved:world"]),
        app => pod(app),
    }
}

fn options() -> EngineOptions {
    let named = |name: &str, protocol, port| NamedPort { name: name.into(), protocol, port };
    let named_ports = vec![named("dns", IpProtocol::Udp, 53), named("dns", IpProtocol::Tcp, 53)];
    EngineOptions { named_ports: Some(named_ports), ..EngineOptions::default() }
}

impl Cluster {
    /// One policy for each of these.
    fn new(direction: Direction, specs: &[&str]) -> Self {
        let document = |(number, spec): (usize, &&str)| {
            format!(
                "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
                 metadata: {{name: p{number}, namespace: shop}}\nspec:\n  endpointSelector: {{}}\n  {spec}\n"
            )
        };
        Self { text: specs.iter().enumerate().map(document).collect(), options: options(), direction }
    }

    fn ingress(rules: &[&str]) -> Self {
        let specs: Vec<String> = rules.iter().map(|rule| format!("ingress: [{{{rule}}}]")).collect();
        Self::new(Direction::Ingress, &specs.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn egress(rules: &[&str]) -> Self {
        let specs: Vec<String> = rules.iter().map(|rule| format!("egress: [{{{rule}}}]")).collect();
        Self::new(Direction::Egress, &specs.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn engine(&self) -> Engine {
        let documents = read_documents(&self.text).unwrap();
        let options = Options::of(self.options.version);
        let specs = documents.iter().flat_map(|d| sanitise(d, &options).unwrap());
        Engine::new(specs.collect(), self.options.clone())
    }

    /// `allow p0`: allowed by the rules of these policies; `refuse p0 p1`: these were asked;
    /// `unchecked:<field> p0`; `connection allow|deny|default-deny|unchecked:<field>`.
    #[track_caller]
    fn check(&self, peer: &str, traffic: Traffic, request: Request<'_>, expected: &str) {
        let engine = self.engine();
        let (subject, peer) = (engine.subject(&pod("web")), party(peer));
        let decision = subject.decide_request(&peer, self.direction, traffic, &request);
        let prepared = subject.peer(&peer);
        assert_eq!(decision, prepared.decide_request(self.direction, traffic, &request), "{}", self.text);
        let names = |rules: &[RuleRef<'_>]| -> String {
            rules.iter().map(|rule| format!(" {}", rule.origin.name)).collect()
        };
        let got: String = match &decision {
            RequestDecision::Connection(decision) => match decision {
                Decision::Allowed { .. } | Decision::Unselected => "connection allow".into(),
                Decision::Denied { .. } => "connection deny".into(),
                Decision::DefaultDeny { .. } => "connection default-deny".into(),
                Decision::CouldNotCheck { field, .. } => format!("connection unchecked:{field}"),
            },
            RequestDecision::Allowed { by: Allowance::Rule, rules } => {
                format!("allow{}", names(rules))
            }
            RequestDecision::Allowed { by, rules } => format!("allow {by:?}{}", names(rules)),
            RequestDecision::Refused { asked } => format!("refuse{}", names(asked)),
            RequestDecision::CouldNotCheck { field, rule } => {
                format!("unchecked:{field}{}", names(rule.as_slice()))
            }
        };
        assert_eq!(got, expected, "{}{peer:?} {traffic:?} {request:?}", self.text);
        assert_eq!(decision.is_allowed(), got.starts_with("allow") || got == "connection allow");
    }
}

fn http<'a>(method: &'a str, path: &'a str) -> Request<'a> {
    Request::Http(HttpRequest { method, path, host: Some("web.shop"), headers: Some(&[]) })
}

fn dns(name: &str) -> Request<'_> {
    Request::Dns { name }
}

fn tls(name: &str) -> Request<'_> {
    Request::Tls { sni: Some(name) }
}

const CLIENT: &str = "fromEndpoints: [{matchLabels: {app: client}}]";
const GET: &str = "rules: {http: [{method: GET}]}";

fn ports(port: &str, protocol: &str, more: &str) -> String {
    format!("toPorts: [{{ports: [{{port: '{port}', protocol: {protocol}}}], {more}}}]")
}

/// What an HTTP rule on TCP/80 makes of a request by the pod `client`, alone and beside another rule.
#[track_caller]
fn check_beside(other: &str, method: &str, expected: &str) {
    let get = format!("{CLIENT}, {}", ports("80", "TCP", GET));
    Cluster::ingress(&[&get, other]).check("client", Traffic::tcp(80), http(method, "/"), expected);
}

#[test]
fn http_is_a_union_over_every_rule_that_means_peer_and_port() {
    let get = format!("{CLIENT}, {}", ports("80", "TCP", GET));
    let alone = Cluster::ingress(&[&get]);
    alone.check("client", Traffic::tcp(80), http("GET", "/"), "allow p0");
    alone.check("client", Traffic::tcp(80), http("POST", "/"), "refuse p0");
    alone.check("client", Traffic::tcp(80), http("get", "/"), "refuse p0");
    alone.check("other", Traffic::tcp(80), http("GET", "/"), "connection default-deny");
    alone.check("client", Traffic::tcp(81), http("GET", "/"), "connection default-deny");
    // Rules of several policies add up.
    let post = ports("80", "TCP", "rules: {http: [{method: POST}]}");
    check_beside(&format!("{CLIENT}, {post}"), "POST", "allow p1");
    check_beside(&format!("{CLIENT}, {post}"), "GET", "allow p0");
    check_beside(&format!("{CLIENT}, {post}"), "PUT", "refuse p0 p1");
    check_beside(&post, "POST", "allow p1");
    let every = ports("80", "TCP", "rules: {http: [{}]}");
    check_beside(&format!("{CLIENT}, {every}"), "PUT", "allow p1");
    check_beside(&format!("{CLIENT}, {every}"), "GET", "allow p0 p1");
}

/// A rule without HTTP rules lets every request pass, however broadly it means peer and port.
#[test]
fn a_plain_rule_lifts_http_rules() {
    for other in [
        format!("{CLIENT}, {}", ports("80", "TCP", "rules: {}")),
        format!("{CLIENT}, {}", ports("80", "ANY", "")),
        format!("{CLIENT}, {}", ports("1", "TCP", "").replace("protocol", "endPort: 100, protocol")),
        format!("{CLIENT}, {}", ports("0", "TCP", "")),
        ports("80", "TCP", ""),
        CLIENT.to_owned(),
        "fromEntities: [all]".to_owned(),
    ] {
        check_beside(&other, "PUT", "allow p1");
    }
    for other in [
        format!("{CLIENT}, {}", ports("81", "TCP", "")),
        format!("{CLIENT}, {}", ports("80", "UDP", "")),
        "fromEntities: [world]".to_owned(),
        format!("{CLIENT}, icmps: [{{fields: [{{type: 8}}]}}]"),
    ] {
        check_beside(&other, "PUT", "refuse p0");
    }
    // Where no rule with HTTP rules means the port, no proxy is asked.
    let plain = Cluster::ingress(&[CLIENT]);
    plain.check("client", Traffic::tcp(80), http("PUT", "/"), "connection allow");
    // A rule for ports of layer 7 only means TCP to the proxy.
    let get = format!("{CLIENT}, {}", ports("80", "TCP", GET));
    let deny = Cluster::new(
        Direction::Ingress,
        &[&format!("ingress: [{{{get}}}]"), &format!("ingressDeny: [{{{CLIENT}}}]")],
    );
    deny.check("client", Traffic::tcp(80), http("GET", "/"), "connection deny");
}

#[test]
fn paths_with_queries_hosts_and_headers() {
    let rules = "rules: {http: [{path: '/v1/items'}, {path: '/v2/.*', method: 'GET|HEAD'}, {path: '/h', host: 'web[.]shop'}, \
                 {path: '/x', headers: ['X-A: 1']}]}";
    let cluster = Cluster::ingress(&[&format!("{CLIENT}, {}", ports("80", "TCP", rules))]);
    let check = |request, expected| cluster.check("client", Traffic::tcp(80), request, expected);
    check(http("GET", "/v1/items"), "allow p0");
    check(http("GET", "/v1/items?q=1"), "refuse p0");
    check(http("GET", "/v1/items/"), "refuse p0");
    check(http("GET", "//v1/items"), "refuse p0");
    check(http("GET", "/v2/a%2Fb?x#y"), "allow p0");
    check(http("POST", "/v2/a"), "refuse p0");
    check(http("GET", "/h"), "allow p0");
    check(http("GET", "/x"), "refuse p0");
    let with = |host, headers: Option<&'static [(&str, &str)]>, path| {
        Request::Http(HttpRequest { method: "GET", path, host, headers })
    };
    check(with(Some("web.shop:80"), None, "/h"), "refuse p0");
    check(with(None, None, "/h"), "unchecked:host p0");
    check(with(None, Some(&[("x-a", "1")]), "/x"), "allow p0");
    check(with(None, None, "/x"), "unchecked:headers p0");
    check(with(None, None, "/v1/items"), "allow p0");
}

/// Without default deny, and to the local host up to 1.19, rules of requests refuse nothing.
#[test]
fn what_lets_every_request_pass() {
    let get = format!("ingress: [{{{}}}]", ports("80", "TCP", GET));
    let open = format!("enableDefaultDeny: {{ingress: false}}\n  {get}");
    let check = |specs: &[&str], options: EngineOptions, peer: &str, expected: &str| {
        let cluster = Cluster { options, ..Cluster::new(Direction::Ingress, specs) };
        cluster.check(peer, Traffic::tcp(80), http("PUT", "/"), expected);
    };
    let usual = EngineOptions::default;
    check(&[&open], usual(), "client", "allow NoDefaultDeny");
    check(&[&open, "ingress: [{}]"], usual(), "client", "refuse p0");
    let always = EngineOptions { mode: EnablePolicy::Always, ..usual() };
    check(&[&open], always, "client", "refuse p0");
    check(&[&get], usual(), "host", "allow Localhost");
    check(&[&get], usual(), "client", "refuse p0");
    let policy = EngineOptions { allow_localhost: AllowLocalhost::Policy, ..usual() };
    check(&[&get], policy, "host", "refuse p0");
    check(&[&get], EngineOptions::of(Version::V1_20), "host", "unchecked:allow-localhost");
}

#[test]
fn who_else_may_get_the_connection() {
    let get = ports("80", "TCP", GET);
    let check = |rules: &[&str], request, expected: &str| {
        Cluster::egress(rules).check("world", Traffic::tcp(80), request, expected);
    };
    let listener = |priority: u16| {
        let config = "envoyConfig: {kind: CiliumClusterwideEnvoyConfig, name: x}";
        let listener = format!("listener: {{{config}, name: one, priority: {priority}}}");
        format!("toEntities: [world], {}", ports("80", "TCP", &listener))
    };
    check(&[&get, &listener(1)], http("GET", "/"), "unchecked:listener p1");
    check(&[&get, &listener(0)], http("GET", "/"), "allow p0");
    check(&[&get, &listener(0)], http("PUT", "/"), "unchecked:listener p1");
    let kafka = format!("toEntities: [world], {}", ports("80", "TCP", "rules: {kafka: [{topic: a}]}"));
    check(&[&get, &kafka], http("GET", "/"), "unchecked:rules p1");
    let names = format!("toEntities: [world], {}", ports("80", "TCP", "rules: {dns: [{matchPattern: '*'}]}"));
    check(&[&names], http("GET", "/"), "unchecked:rules p0");
    check(&[&get], dns("a.io"), "unchecked:rules p0");
    check(&[&get], tls("a.io"), "unchecked:rules");
    let terminated = ports("80", "TCP", "terminatingTLS: {secret: {name: c}}");
    check(&[&get, &terminated], tls("a.io"), "allow p0 p1");
    let required = format!("{get}, authentication: {{mode: required}}");
    check(&[&required], http("GET", "/"), "connection unchecked:authentication");
}

/// Only rules of the same single port and protocol count, unlike for HTTP.
#[test]
fn dns_asks_the_rules_of_the_very_port() {
    let client = "toEndpoints: [{matchLabels: {app: client}}]";
    let names = |list: &str| format!("rules: {{dns: [{list}]}}");
    let local = names("{matchPattern: '*.local'}");
    let first = format!("{client}, {}", ports("53", "ANY", &local));
    let alone = Cluster::egress(&[&first]);
    alone.check("client", Traffic::udp(53), dns("a.local"), "allow p0");
    alone.check("client", Traffic::udp(53), dns("A.LOCAL."), "allow p0");
    alone.check("client", Traffic::udp(53), dns("a.b.local"), "refuse p0");
    alone.check("client", Traffic::tcp(53), dns("a.local"), "allow p0");
    alone.check("other", Traffic::udp(53), dns("a.local"), "connection default-deny");
    let check = |other: &str, traffic, name, expected: &str| {
        Cluster::egress(&[&first, other]).check("client", traffic, dns(name), expected);
    };
    let udp = Traffic::udp(53);
    check(&format!("{client}, {}", ports("53", "UDP", "")), udp, "x.io", "allow p1");
    check(&ports("53", "ANY", ""), udp, "x.io", "allow p1");
    check(&ports("53", "UDP", &names("{matchName: x.io}")), udp, "x.io", "allow p1");
    check(&ports("53", "UDP", &names("{matchName: x.io}")), udp, "y.io", "refuse p0 p1");
    check(&ports("53", "TCP", ""), udp, "x.io", "refuse p0");
    check(&ports("53", "TCP", ""), Traffic::tcp(53), "x.io", "allow p1");
    for broader in [
        client.to_owned(),
        "toEntities: [all]".to_owned(),
        ports("0", "UDP", ""),
        ports("1", "UDP", "").replace("protocol", "endPort: 100, protocol"),
    ] {
        check(&broader, udp, "x.io", "refuse p0");
    }
    // A name for the port makes a list of its own.
    check(&ports("dns", "UDP", ""), udp, "x.io", "refuse p0");
    check(&ports("dns", "UDP", &names("{matchName: x.io}")), udp, "x.io", "unchecked:port");
    let named =
        Cluster::egress(&[&format!("{client}, {}", ports("dns", "UDP", &local)), &ports("53", "UDP", "")]);
    named.check("client", udp, dns("a.local"), "allow p0");
    named.check("client", udp, dns("x.io"), "refuse p0");
    let open = format!("enableDefaultDeny: {{egress: false}}\n  egress: [{{{first}}}]");
    Cluster::new(Direction::Egress, &[&open]).check("client", udp, dns("x.io"), "allow NoDefaultDeny");
}

#[test]
fn dns_patterns_name_by_name() {
    let check = |items: &str, version: Version, allowed: &[&str], refused: &[&str]| {
        let rule = ports("53", "UDP", &format!("rules: {{dns: [{items}]}}"));
        let options = EngineOptions { version, ..options() };
        let cluster = Cluster { options, ..Cluster::egress(&[&rule]) };
        for (names, expected) in [(allowed, "allow p0"), (refused, "refuse p0")] {
            names.iter().for_each(|name| cluster.check("world", Traffic::udp(53), dns(name), expected));
        }
    };
    let (old, new) = (Version::V1_18, Version::V1_19);
    check(
        "{matchName: API.example.com}",
        new,
        &["api.example.com", "api.EXAMPLE.com."],
        &["example.com", "x.api.example.com"],
    );
    check("{matchPattern: '*'}", new, &["a", "a.b", ".", "a/b", "a..b"], &[]);
    check("{matchPattern: '*.b.io'}", new, &["a.b.io"], &["b.io", "x.a.b.io", "ab.io"]);
    check("{matchPattern: '**.b.io'}", new, &["a.b.io", "x.a.b.io"], &["b.io", "ab.io"]);
    check("{matchPattern: '**.b.io'}", old, &["a.b.io"], &["x.a.b.io", "b.io"]);
    check("{matchName: a.io}, {matchPattern: 's*.b.io'}", new, &["a.io", "s.b.io", "sx.b.io"], &["xs.b.io"]);
}

#[test]
fn server_names() {
    let world = "toEntities: [world]";
    let names = |list: &str| format!("serverNames: [{list}]");
    let first = format!("{world}, {}", ports("443", "TCP", &names("a.io, '*.b.io'")));
    let check = |others: &[&str], name, expected: &str| {
        let rules: Vec<&str> = [&*first].into_iter().chain(others.iter().copied()).collect();
        Cluster::egress(&rules).check("world", Traffic::tcp(443), tls(name), expected);
    };
    check(&[], "a.io", "allow p0");
    check(&[], "A.io", "allow p0");
    check(&[], "x.b.io", "allow p0");
    check(&[], "b.io", "refuse p0");
    check(&[], "", "refuse p0");
    let none = Cluster::egress(&[&first]);
    none.check("world", Traffic::tcp(443), Request::Tls { sni: None }, "refuse p0");
    none.check("world", Traffic::tcp(443), http("GET", "/"), "connection unchecked:serverNames");
    none.check("world", Traffic::tcp(80), tls("a.io"), "connection default-deny");
    // Joined: the same selector and port. Then all ask for a name.
    let plain = format!("{world}, {}", ports("443", "TCP", ""));
    check(&[&plain], "x.io", "refuse p0");
    check(&[&format!("{world}, {}", ports("443", "TCP", &names("x.io")))], "x.io", "allow p1");
    check(&[&plain], "a.io", "allow p0 p1");
    // Not joined: another selector, or another port that means this one too.
    check(&[&ports("443", "TCP", "")], "x.io", "allow p1");
    check(&["toEntities: [all]"], "x.io", "allow p1");
    check(&[world], "x.io", "allow p1");
    check(&[&format!("{world}, {}", ports("0", "TCP", ""))], "x.io", "allow p1");
    let range = ports("400", "TCP", "").replace("protocol", "endPort: 500, protocol");
    check(&[&format!("{world}, {range}")], "x.io", "allow p1");
    check(&[&format!("{world}, {}", ports("444", "TCP", ""))], "x.io", "refuse p0");
    let terminated = "terminatingTLS: {secret: {name: c}}, rules: {http: [{method: GET}]}";
    check(&[&ports("443", "TCP", terminated)], "x.io", "allow p1");
    let any = Cluster::egress(&[&ports("443", "ANY", &names("a.io"))]);
    any.check("world", Traffic::udp(443), tls("a.io"), "unchecked:serverNames");
    let open = format!("enableDefaultDeny: {{egress: false}}\n  egress: [{{{first}}}]");
    Cluster::new(Direction::Egress, &[&open]).check(
        "world",
        Traffic::tcp(443),
        tls("x.io"),
        "allow NoDefaultDeny",
    );
}

/// A policy of which it is not known whether it selects the subject counts where it could change the answer.
#[test]
fn rules_that_may_count() {
    let spec = |name: &str, job: &str, rules: &str| {
        format!(
            "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  endpointSelector: {{matchLabels: {{{job}}}}}\n  {rules}\n"
        )
    };
    let flow = crate::flow::Endpoint::new(1001, "shop", "p", "", ["k8s:app=web"]);
    let subject = Party::from_identity(1001, &flow.identity, "default");
    let check = |certain: &str, uncertain: &str, direction, traffic, request: Request<'_>, expected: &str| {
        let text = spec("a", "app: web", certain) + &spec("b", "job-name: x", uncertain);
        let engine = Cluster { text: text.clone(), ..Cluster::ingress(&[]) }.engine();
        let decision = engine.subject(&subject).decide_request(&party("world"), direction, traffic, &request);
        let got = match decision {
            RequestDecision::Allowed { rules, .. } => format!("allow {}", rules.len()),
            RequestDecision::Refused { .. } => "refuse".to_owned(),
            RequestDecision::CouldNotCheck { field, .. } => field.to_string(),
            RequestDecision::Connection(other) => format!("{other:?}"),
        };
        assert_eq!(got, expected, "{text}");
    };
    let of = |more: &str| format!("ingress: [{{{}}}]", ports("80", "TCP", more));
    let in80 = |certain: &str, uncertain: &str, method, expected| {
        check(
            &of(certain),
            &of(uncertain),
            Direction::Ingress,
            Traffic::tcp(80),
            http(method, "/"),
            expected,
        );
    };
    in80(GET, "", "GET", "allow 1");
    in80(GET, "", "PUT", "labels");
    in80(GET, "rules: {http: [{method: PUT}]}", "PUT", "labels");
    in80(GET, "rules: {http: [{method: PUT}]}", "HEAD", "refuse");
    let names = |list: &str, of: &str| format!("egress: [{{{of}{}}}]", ports("443", "TCP", list));
    let out = |certain: &str, uncertain: &str, name, expected| {
        check(certain, uncertain, Direction::Egress, Traffic::tcp(443), tls(name), expected);
    };
    let asks = names("serverNames: [a.io]", "");
    out(&asks, &names("", ""), "a.io", "allow 1");
    out(&asks, &names("serverNames: [b.io]", ""), "b.io", "labels");
    out(&asks, &names("", "toEntities: [world], "), "x.io", "labels");
    let query = |list: &str| format!("egress: [{{{}}}]", ports("53", "UDP", list));
    let asked = |certain: &str, uncertain: &str, name, expected| {
        check(&query(certain), &query(uncertain), Direction::Egress, Traffic::udp(53), dns(name), expected);
    };
    let local = "rules: {dns: [{matchPattern: '*.local'}]}";
    asked(local, "", "a.local", "allow 1");
    asked(local, "", "x.io", "labels");
    asked(local, local, "x.io", "refuse");
}
