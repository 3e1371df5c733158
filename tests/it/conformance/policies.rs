//! Policies of every kind and form, with names and labels that collide on purpose.

use serde_json::{Map, Value, json};

use super::random::Random;

/// Everything that a document may be about.
pub(super) struct Policies<'r> {
    pub(super) random: &'r mut Random,
    pub(super) node_labels: bool,
    pub(super) extended: bool,
    pub(super) theme: Theme,
}

/// What many rules of one case have to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Theme {
    /// Nothing.
    Usual,
    /// Rules of layer 7 and the like for one port and any peer.
    Crowded,
    /// DNS rules, and others that mean port 53 too.
    Dns,
    /// Server names, and others that mean port 443 too.
    Names,
}

const NAMESPACES: [&str; 3] = ["default", "shop", "web"];
const VALUES: [&str; 6] = ["web", "db", "client", "", "default", "shop"];

/// Items of DNS rules; an empty member is an empty item.
pub(super) const DNS_RULES: &[(&str, &str)] = &[
    ("matchPattern", "*"),
    ("matchPattern", "**"),
    ("matchPattern", "*.example.com"),
    ("matchPattern", "*.example.com"),
    ("matchPattern", "**.example.com"),
    ("matchPattern", "***.example.com."),
    ("matchPattern", "*example.com"),
    ("matchPattern", "www.*.com"),
    ("matchPattern", "www.**.com"),
    ("matchPattern", "sub*.example.org"),
    ("matchPattern", "*.*.svc.cluster.local"),
    ("matchPattern", "**.cluster.local"),
    ("matchPattern", "*-*.EXAMPLE.org"),
    ("matchName", "api.example.com"),
    ("matchName", "API.Example.com."),
    ("matchName", "example.com"),
    ("matchName", "db.shop.svc.cluster.local"),
    ("", ""),
];

const SERVER_NAMES: &[&str] =
    &["a.example.com", "A.example.com", "*.example.com", "**.example.com", "x.example.org"];

#[derive(Clone, Copy)]
struct Side {
    ingress: bool,
    deny: bool,
    host: bool,
}

impl Side {
    fn name(self, name: &str) -> String {
        format!("{}{name}", if self.ingress { "from" } else { "to" })
    }
}

impl Policies<'_> {
    pub(super) fn document(&mut self) -> Value {
        match self.random.weighted(&[(50, 0), (27, 1), (20, 2), (3, 3)]) {
            0 => self.cnp(),
            1 => self.ccnp(),
            2 => self.network_policy(),
            _ => json!({"apiVersion": "v1", "kind": "List", "items": [self.cnp(), self.network_policy()]}),
        }
    }

    fn metadata(&mut self, namespaced: bool) -> Value {
        let mut metadata = json!({"name": self.random.of(&["a", "b", "c", "d", "e", "f"])});
        if namespaced && self.random.percent(93) {
            metadata["namespace"] = json!(self.random.of(&["default", "default", "shop", "shop", "web"]));
        }
        if self.random.below(300) == 0 {
            metadata["name"] = json!("");
        }
        metadata
    }

    fn cnp(&mut self) -> Value {
        let mut object = json!({
            "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": self.metadata(true),
        });
        self.specs(&mut object, false);
        object
    }

    fn ccnp(&mut self) -> Value {
        let mut object = json!({
            "apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy",
            "metadata": self.metadata(false),
        });
        self.specs(&mut object, true);
        object
    }

    fn specs(&mut self, object: &mut Value, clusterwide: bool) {
        let form = self.random.weighted(&[(85, 0), (9, 1), (5, 2), (1, 3)]);
        if form == 0 || form == 2 {
            object["spec"] = self.spec(clusterwide);
        }
        if form == 1 || form == 2 {
            let count = 1 + self.random.below(2);
            object["specs"] = (0..count).map(|_| self.spec(clusterwide)).collect();
        }
    }

    fn spec(&mut self, clusterwide: bool) -> Value {
        let mut spec = Map::new();
        let host = (clusterwide && self.random.percent(30)) || self.random.below(300) == 0;
        if host {
            spec.insert("nodeSelector".into(), self.node_selector());
        }
        if !host || self.random.percent(1) {
            spec.insert("endpointSelector".into(), self.subject());
        }
        if self.random.percent(25) {
            let mut edd = Map::new();
            for name in ["ingress", "egress"] {
                match self.random.below(5) {
                    0..=2 => drop(edd.insert(name.into(), json!(self.random.percent(25)))),
                    3 => drop(edd.insert(name.into(), Value::Null)),
                    _ => {}
                }
            }
            spec.insert("enableDefaultDeny".into(), Value::Object(edd));
        }
        if self.random.percent(3) {
            spec.insert("description".into(), json!("said by somebody"));
        }
        if self.random.percent(3) {
            spec.insert("labels".into(), json!([{"key": "team", "value": "blue"}]));
        }
        let lists = [("ingress", 60), ("egress", 60), ("ingressDeny", 30), ("egressDeny", 30)];
        let at_least = if self.random.percent(98) { self.random.below(4) } else { 4 };
        let themed = matches!(self.theme, Theme::Dns | Theme::Names);
        for (n, (name, often)) in lists.into_iter().enumerate() {
            let often = match name {
                "egress" if themed => 100,
                "egressDeny" if themed => 5,
                _ => often,
            };
            if !self.random.percent(often) && n != at_least {
                continue;
            }
            let side = Side { ingress: name.starts_with("in"), deny: name.ends_with("Deny"), host };
            let count =
                self.random.weighted(&[(if n == at_least { 0 } else { 7 }, 0), (50, 1), (30, 2), (13, 3)]);
            spec.insert(name.into(), (0..count).map(|_| self.rule(side)).collect());
        }
        Value::Object(spec)
    }

    fn rule(&mut self, side: Side) -> Value {
        let mut rule = Map::new();
        let themed = matches!(self.theme, Theme::Dns | Theme::Names) && !side.ingress;
        if self.random.percent(if themed { 50 } else { 75 }) {
            self.peers(side, &mut rule);
        }
        if self.random.below(300) == 0 {
            self.peers(side, &mut rule);
        }
        match self.random.weighted(&[(105, 0), (158, 1), (36, 2), (1, 3)]) {
            0 if themed && self.random.percent(75) => {
                rule.insert("toPorts".into(), self.port_rules(side));
            }
            0 => {}
            1 => drop(rule.insert("toPorts".into(), self.port_rules(side))),
            2 => drop(rule.insert("icmps".into(), self.icmps())),
            _ => {
                rule.insert("toPorts".into(), self.port_rules(side));
                rule.insert("icmps".into(), self.icmps());
            }
        }
        let text = Value::Object(rule.clone()).to_string();
        let special = ["\"rules\"", "serverNames", "TLS", "listener"].iter().any(|word| text.contains(word));
        if special && self.random.percent(if self.theme == Theme::Crowded { 90 } else { 55 }) {
            rule.retain(|name, _| name == "toPorts");
        }
        // The judge does not resolve these, and takes them for any peer: they must not meet others.
        let unresolved = ["toServices", "fromGroups", "toGroups"].iter().any(|name| rule.contains_key(*name));
        if unresolved && special {
            rule.remove("toPorts");
        }
        if !side.deny && !unresolved && self.random.percent(4) {
            let mode = self.random.of(&["required", "required", "disabled", "test-always-fail"]);
            rule.insert("authentication".into(), json!({"mode": mode}));
        }
        Value::Object(rule)
    }

    fn peers(&mut self, side: Side, rule: &mut Map<String, Value>) {
        let member = self.random.weighted(&[
            (34, "Endpoints"),
            (28, "Entities"),
            (10, "CIDR"),
            (14, "CIDRSet"),
            (8, "FQDNs"),
            (4, "Nodes"),
            (2, "Services"),
            (1, "Groups"),
        ]);
        let fits = match member {
            "FQDNs" => !side.ingress && !side.deny,
            "Services" => !side.ingress,
            "Nodes" => self.node_labels || self.random.percent(4),
            _ => true,
        };
        let name = if fits { side.name(member) } else { side.name("Entities") };
        let form = self.random.weighted(&[(91, 0), (5, 1), (4, 2)]);
        let count = self.random.weighted(&[(70, 1), (25, 2), (5, 3)]);
        let list: Vec<Value> = (0..count).map(|_| self.peer(&name)).collect();
        let value = match form {
            0 => Value::Array(list),
            1 => json!([]),
            _ => Value::Null,
        };
        rule.insert(name, value);
    }

    fn peer(&mut self, member: &str) -> Value {
        let name = member.trim_start_matches("from").trim_start_matches("to");
        match name {
            "Endpoints" => self.selector(),
            "Nodes" => self.node_selector(),
            "Entities" if self.random.percent(3) => {
                json!(self.random.of(&["World", "cluster-mesh", "cluster-mesh"]))
            }
            "Entities" => json!(self.random.of(&[
                "all",
                "all",
                "all",
                "all",
                "world",
                "world",
                "cluster",
                "cluster",
                "host",
                "init",
                "ingress",
                "unmanaged",
                "remote-node",
                "health",
                "none",
                "kube-apiserver",
                "world-ipv4",
                "world-ipv6",
            ])),
            "CIDR" if self.random.percent(2) => json!("300.0.0.0/8"),
            "CIDR" => json!(self.random.of(&[
                "10.0.0.0/8",
                "10.96.0.0/12",
                "10.1.2.3/32",
                "10.1.2.3",
                "0.0.0.0/0",
                "::/0",
                "192.0.2.0/24",
                "10.1.2.3/8",
                "2001:db8::/32",
                "0.0.0.0/1",
            ])),
            "CIDRSet" => self.cidr_rule(),
            "FQDNs" => match self.random.below(12) {
                0..=3 => json!({"matchName": "api.example.com"}),
                4..=6 => json!({"matchPattern": "*.example.com"}),
                _ if self.random.percent(2) => json!({"matchName": "a b"}),
                7 => json!({"matchPattern": "*"}),
                8 => json!({"matchName": "API.Example.com"}),
                9 => json!({}),
                _ => json!({"matchName": "other.example.com"}),
            },
            "Services" => match self.random.below(3) {
                0 => {
                    json!({"k8sServiceSelector": {"selector": {"matchLabels": {"app": "web"}}, "namespace": "shop"}})
                }
                _ => json!({"k8sService": {"serviceName": "db", "namespace": "shop"}}),
            },
            _ => json!({"aws": {"securityGroupsIds": ["sg-1"]}}),
        }
    }

    fn cidr_rule(&mut self) -> Value {
        let mut rule = match self.random.below(20) {
            _ if self.random.percent(1) => json!({"cidr": "10.1.2.3"}),
            0 => json!({"cidrGroupRef": "office"}),
            1 => json!({"cidrGroupSelector": {"matchLabels": {"team": "blue"}}}),
            2..=10 => json!({"cidr": "10.0.0.0/8"}),
            11 | 12 => json!({"cidr": "0.0.0.0/0"}),
            13 => json!({"cidr": "::/0"}),
            14 => json!({"cidr": "2001:db8::/32"}),
            15 => json!({"cidr": "10.96.0.0/12"}),
            _ => json!({"cidr": "10.1.0.0/16"}),
        };
        let ten = matches!(rule["cidr"].as_str(), Some("10.0.0.0/8" | "0.0.0.0/0") | None);
        if self.random.percent(if ten { 60 } else { 2 }) {
            let nets = ["10.96.0.0/12", "10.1.2.3/32", "10.0.0.0/9", "10.0.0.0/8", "10.1.0.0/16"];
            let count = 1 + self.random.below(2);
            rule["except"] = (0..count).map(|_| json!(self.random.of(&nets))).collect();
        } else if self.random.percent(4) {
            rule["except"] = if self.random.percent(50) { json!([]) } else { Value::Null };
        }
        rule
    }

    fn subject(&mut self) -> Value {
        match self.random.below(10) {
            0..=5 => json!({}),
            _ if self.random.percent(1) => json!({"matchLabels": {"reserved.init": ""}}),
            6 => {
                json!({"matchLabels": {self.random.of(&["app", "k8s:app", "any:app"]): self.random.of(&VALUES)}})
            }
            7 => json!({"matchLabels": {self.random.of(&[
                "reserved:init", "reserved:health", "reserved:ingress", "reserved:host", "init", "host",
            ]): ""}}),
            _ => self.selector(),
        }
    }

    fn selector(&mut self) -> Value {
        let mut selector = Map::new();
        if self.random.percent(65) {
            let count = self.random.weighted(&[(10, 0), (70, 1), (20, 2)]);
            let mut labels = Map::new();
            for _ in 0..count {
                let key = self.key();
                let value = self.value_of(key);
                // Two spellings of one key: which one Cilium takes depends on the order of a Go map.
                let meaning = |key: &str| match key {
                    "$host" | "reserved.host" => "reserved:host".to_owned(),
                    _ => key.trim_start_matches("any:").to_owned(),
                };
                if !labels.keys().any(|other| meaning(other) == meaning(key)) {
                    labels.insert(key.into(), json!(value));
                }
            }
            selector.insert("matchLabels".into(), Value::Object(labels));
        } else if self.random.percent(3) {
            selector.insert("matchLabels".into(), Value::Null);
        }
        if self.random.percent(35) {
            let count = self.random.weighted(&[(5, 0), (75, 1), (20, 2)]);
            let list: Vec<Value> = (0..count).map(|_| self.expression()).collect();
            selector.insert("matchExpressions".into(), Value::Array(list));
        }
        Value::Object(selector)
    }

    fn key(&mut self) -> &'static str {
        if self.random.percent(1) {
            return self.random.of(&["bad key", "$host", "reserved.host", "k8s:a:b"]);
        }
        self.random.weighted(&[
            (18, "app"),
            (14, "k8s:app"),
            (4, "any:app"),
            (2, "container:app"),
            (2, "k8s.app"),
            (5, "app.kubernetes.io/name"),
            (5, "tier"),
            (10, "k8s:io.kubernetes.pod.namespace"),
            (6, "io.kubernetes.pod.namespace"),
            (6, "k8s:io.cilium.k8s.policy.cluster"),
            (3, "io.cilium.k8s.policy.cluster"),
            (3, "k8s:io.cilium.k8s.policy.serviceaccount"),
            (5, "k8s:io.cilium.k8s.namespace.labels.team"),
            (2, "io.cilium.k8s.namespace.labels.team"),
            (3, "reserved:host"),
            (2, "reserved:world"),
            (2, "reserved:remote-node"),
            (2, "reserved:kube-apiserver"),
            (1, "reserved:none"),
            (1, "host"),
            (1, "init"),
            (1, "node:zone"),
            (1, "cidr:10.0.0.0/8"),
        ])
    }

    fn value_of(&mut self, key: &str) -> &'static str {
        match key {
            _ if key.contains("namespace.labels") => self.random.of(&["blue", "red"]),
            _ if key.contains("namespace") => self.random.of(&NAMESPACES),
            _ if key.contains("cluster") => self.random.of(&["default", "west"]),
            _ if key.contains("serviceaccount") => self.random.of(&["sa1", "default"]),
            _ if key.starts_with("reserved") || key.starts_with('$') || key.starts_with("cidr") => "",
            "node:zone" => self.random.of(&["a", "b"]),
            _ => self.random.of(&VALUES),
        }
    }

    fn expression(&mut self) -> Value {
        let key = self.key();
        let mut expression = json!({"key": key});
        let operator =
            self.random.weighted(&[(35, "In"), (25, "NotIn"), (25, "Exists"), (15, "DoesNotExist")]);
        expression["operator"] = json!(operator);
        if self.random.below(300) == 0 {
            expression["operator"] = json!("Gt");
        }
        if operator.ends_with("In") || self.random.below(300) == 0 {
            let count = self.random.weighted(&[(60, 1), (40, 2)]);
            expression["values"] = (0..count).map(|_| json!(self.value_of(key))).collect();
        }
        expression
    }

    fn node_selector(&mut self) -> Value {
        match self.random.below(6) {
            0..=2 => json!({}),
            3 => json!({"matchLabels": {"node-role.kubernetes.io/worker": ""}}),
            4 => {
                json!({"matchExpressions": [{"key": "reserved:kube-apiserver", "operator": "DoesNotExist"}]})
            }
            _ => json!({"matchLabels": {"node:zone": self.random.of(&["a", "b"])}}),
        }
    }

    fn port_rules(&mut self, side: Side) -> Value {
        let count = self.random.weighted(&[(4, 0), (78, 1), (18, 2)]);
        (0..count).map(|_| self.port_rule(side)).collect()
    }

    fn port_rule(&mut self, side: Side) -> Value {
        match self.theme {
            Theme::Dns if !side.ingress && !side.deny && self.random.percent(80) => {
                let rules = self.dns_rules();
                return self.themed("53", json!({"rules": {"dns": rules}}));
            }
            Theme::Names if !side.ingress && !side.deny && !side.host && self.random.percent(80) => {
                let names = self.server_names();
                return self.themed("443", json!({ "serverNames": names }));
            }
            _ => {}
        }
        let often = if self.theme == Theme::Crowded { 80 } else { 35 };
        let special = !side.deny && self.random.percent(if side.host { 1 } else { often });
        let mut rule = Map::new();
        if special {
            // On ingress, listeners and DNS rules are refused.
            let often = if side.ingress { 1 } else { 20 };
            let kind = self.random.weighted(&[
                (40, 0),
                (often, 1),
                (12, 2),
                (8, 3),
                (6, 4),
                (often / 2, 5),
                (3, 6),
                (3, 7),
                (4, 8),
            ]);
            let port = self.random.of(&["80", "80", "443", "443", "web", "8080"]);
            let mut ports = json!([{"port": port, "protocol": "TCP"}]);
            match kind {
                0 => drop(rule.insert("rules".into(), json!({"http": [{"method": "GET"}]}))),
                1 => {
                    rule.insert("rules".into(), json!({"dns": self.dns_rules()}));
                    let protocol = self.random.of(&["UDP", "ANY", "TCP"]);
                    ports = json!([{"port": "53", "protocol": protocol}]);
                }
                2 => {
                    rule.insert("serverNames".into(), self.server_names());
                    ports[0]["protocol"] = json!(self.random.of(&["TCP", "TCP", "ANY"]));
                }
                3 => drop(rule.insert("terminatingTLS".into(), json!({"secret": {"name": "cert"}}))),
                4 => drop(rule.insert("originatingTLS".into(), json!({"secret": {"name": "cert"}}))),
                5 => {
                    let kind = self.random.of(&["CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"]);
                    let listener = json!({"envoyConfig": {"kind": kind, "name": "x"}, "name": self.random.of(&["one", "two"])});
                    rule.insert("listener".into(), listener);
                }
                6 => drop(rule.insert("rules".into(), json!({"kafka": [{"topic": "orders"}]}))),
                7 => drop(rule.insert("rules".into(), json!({"l7proto": "memcache", "l7": [{"key": "x"}]}))),
                _ => drop(rule.insert("rules".into(), json!({"http": []}))),
            }
            if self.theme == Theme::Crowded {
                ports[0]["port"] = json!("80");
            }
            rule.insert("ports".into(), ports);
            return Value::Object(rule);
        }
        match self.random.below(30) {
            0 => {}
            1 => drop(rule.insert("ports".into(), json!([]))),
            _ => {
                let count = self.random.weighted(&[(65, 1), (25, 2), (10, 3)]);
                rule.insert("ports".into(), (0..count).map(|_| self.port()).collect());
            }
        }
        if self.random.percent(2) && !side.deny {
            rule.insert("rules".into(), json!({}));
        }
        Value::Object(rule)
    }

    /// An item for this port with what is asked of requests, or with nothing; or one for more ports.
    fn themed(&mut self, port: &str, mut rule: Value) -> Value {
        let protocol = if port == "53" { self.random.of(&["UDP", "UDP", "ANY", "TCP"]) } else { "TCP" };
        let mut ports = json!([{"port": port, "protocol": protocol}]);
        match self.random.below(20) {
            0..=12 => {}
            13 | 14 => rule = json!({}),
            15 => (rule, ports) = (json!({}), json!([{"port": "1", "endPort": 500, "protocol": protocol}])),
            16 => (rule, ports) = (json!({}), json!([{"port": "0", "protocol": protocol}])),
            17 => (rule, ports) = (json!({}), json!([{"port": port}])),
            18 => ports = json!([{"port": port, "protocol": protocol}, {"port": "8080", "protocol": "TCP"}]),
            _ => (rule, ports) = (json!({}), json!([{"port": "dns", "protocol": protocol}])),
        }
        rule["ports"] = ports;
        rule
    }

    fn server_names(&mut self) -> Value {
        let count = self.random.weighted(&[(75, 1), (25, 2)]);
        (0..count).map(|_| json!(self.random.of(SERVER_NAMES))).collect()
    }

    fn dns_rules(&mut self) -> Value {
        let count = self.random.weighted(&[(60, 1), (30, 2), (10, 3)]);
        (0..count).map(|_| self.dns_rule()).collect()
    }

    fn dns_rule(&mut self) -> Value {
        if self.random.percent(2) {
            return json!({"matchName": "api.example.com", "matchPattern": "sub*.example.org"});
        }
        let (member, text) = self.random.of(DNS_RULES);
        if member.is_empty() { json!({}) } else { json!({ member: text }) }
    }

    fn port(&mut self) -> Value {
        let mut port = match self.random.below(24) {
            0..=7 => json!({"port": self.random.of(&["80", "81", "443", "53", "8080"])}),
            8 | 9 => json!({"port": "80", "endPort": 90}),
            // Never on a port of layer 7: see engine::conflict about spellings of one port.
            10 => json!({"port": "81", "endPort": 70}),
            11 => json!({"port": "0"}),
            12 => json!({"port": "0", "endPort": 100}),
            13 => json!({"port": "0", "endPort": 65535}),
            14 => json!({"port": "1", "endPort": 65535}),
            15 | 16 => json!({"port": self.random.of(&["web", "dns", "api", "Web", "nobody"])}),
            17 => json!({"port": "ranged", "endPort": 8090}),
            18 => json!({"port": "0x50"}),
            19 => json!({"port": "0121"}),
            20 if self.extended => json!({"protocol": "TCP"}),
            21 if self.extended => return json!({"protocol": self.random.of(&["VRRP", "IGMP"])}),
            _ => json!({"port": "8080", "endPort": 8090}),
        };
        match self.random.weighted(&[(150, 0), (42, 1), (30, 2), (36, 3), (41, 4), (1, 5)]) {
            0 => port["protocol"] = json!("TCP"),
            1 => port["protocol"] = json!("UDP"),
            2 => port["protocol"] = json!("SCTP"),
            3 => port["protocol"] = json!("ANY"),
            4 => {}
            _ => port["protocol"] = json!(self.random.of(&["tcp", "ICMP", "VRRP"])),
        }
        if self.random.below(300) == 0 {
            port["port"] = json!(self.random.of(&["65536", "", "a-name-that-is-too-long", "80/tcp"]));
        }
        port
    }

    fn icmps(&mut self) -> Value {
        let count = 1 + self.random.below(2);
        (0..count)
            .map(|_| {
                let fields = self.random.weighted(&[(8, 0), (72, 1), (20, 2)]);
                let fields: Vec<Value> = (0..fields)
                    .map(|_| {
                        let mut field = json!({"type": match self.random.below(10) {
                            0..=2 => json!(8),
                            3 | 4 => json!(0),
                            5 => json!(128),
                            6 => json!("EchoRequest"),
                            7 => json!(300),
                            8 => json!(3),
                            _ => json!(13),
                        }});
                        match self.random.below(6) {
                            0 | 1 => field["family"] = json!("IPv4"),
                            2 | 3 => field["family"] = json!("IPv6"),
                            _ => {}
                        }
                        if self.random.below(300) == 0 {
                            field = json!({"family": "IPv4"});
                        }
                        field
                    })
                    .collect();
                json!({ "fields": fields })
            })
            .collect()
    }

    fn network_policy(&mut self) -> Value {
        let mut spec = Map::new();
        spec.insert(
            "podSelector".into(),
            match self.random.below(4) {
                0 | 1 => json!({}),
                _ => self.plain_selector(),
            },
        );
        match self.random.below(5) {
            0 => drop(spec.insert("policyTypes".into(), json!(["Ingress"]))),
            1 => drop(spec.insert("policyTypes".into(), json!(["Egress"]))),
            2 => drop(spec.insert("policyTypes".into(), json!(["Ingress", "Egress"]))),
            _ => {}
        }
        for (name, peers) in [("ingress", "from"), ("egress", "to")] {
            if self.random.percent(60) {
                let count = self.random.weighted(&[(10, 0), (65, 1), (25, 2)]);
                spec.insert(name.into(), (0..count).map(|_| self.network_rule(peers)).collect());
            }
        }
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": self.metadata(true), "spec": spec,
        })
    }

    fn network_rule(&mut self, peers: &str) -> Value {
        let mut rule = Map::new();
        if self.random.percent(70) {
            let count = self.random.weighted(&[(8, 0), (62, 1), (30, 2)]);
            let list: Vec<Value> = (0..count).map(|_| self.network_peer()).collect();
            rule.insert(peers.into(), Value::Array(list));
        }
        if self.random.percent(55) {
            let count = self.random.weighted(&[(8, 0), (62, 1), (30, 2)]);
            let list: Vec<Value> = (0..count)
                .map(|_| match self.random.below(9) {
                    0 | 1 => json!({"port": 80}),
                    2 => json!({"port": 53, "protocol": "UDP"}),
                    3 => json!({"port": "web"}),
                    4 => json!({"port": 80, "endPort": 90, "protocol": "TCP"}),
                    5 => json!({"protocol": "SCTP"}),
                    6 => json!({"protocol": "UDP"}),
                    7 => json!({"port": "dns", "protocol": "UDP"}),
                    _ => json!({"port": 8080, "protocol": "TCP"}),
                })
                .collect();
            rule.insert("ports".into(), Value::Array(list));
        }
        Value::Object(rule)
    }

    fn network_peer(&mut self) -> Value {
        match self.random.below(9) {
            0 | 1 => json!({"podSelector": self.plain_selector()}),
            2 => json!({"namespaceSelector": {}}),
            3 => json!({"namespaceSelector": {"matchLabels": {"team": self.random.of(&["blue", "red"])}}}),
            4 => {
                json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}]}})
            }
            5 => {
                json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}, "podSelector": self.plain_selector()})
            }
            6 => json!({"namespaceSelector": {}, "podSelector": {}}),
            7 => json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.96.0.0/12"]}}),
            _ => {
                json!({"ipBlock": {"cidr": self.random.of(&["0.0.0.0/0", "10.1.0.0/16", "::/0", "192.0.2.0/24"])}})
            }
        }
    }

    /// A selector of Kubernetes, where keys have no source.
    fn plain_selector(&mut self) -> Value {
        let key = self.random.of(&["app", "tier", "app.kubernetes.io/name"]);
        match self.random.below(6) {
            0 => json!({}),
            1..=3 => json!({"matchLabels": {key: self.random.of(&VALUES)}}),
            4 => json!({"matchExpressions": [{"key": key, "operator": "In", "values": ["web", "client"]}]}),
            _ => {
                json!({"matchExpressions": [{"key": key, "operator": self.random.of(&["Exists", "DoesNotExist"])}]})
            }
        }
    }
}
