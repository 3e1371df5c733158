//! Verdicts compared with Cilium's own code: `tests/testbed`, or what `CPG_TESTBED` names. Without it
//! these tests do nothing.

use std::path::{Path as File, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::super::*;

/// How many mutated policies are compared.
const MUTANTS: usize = 3000;

fn testbed() -> Option<PathBuf> {
    let named = std::env::var_os("CPG_TESTBED").map(PathBuf::from);
    let built = File::new(env!("CARGO_MANIFEST_DIR")).join("tests/testbed/bin/testbed");
    let found = named.or(Some(built)).filter(|path| path.is_file());
    if found.is_none() {
        println!("skipped: no testbed; build it, or name it in CPG_TESTBED");
    }
    found
}

/// What the judge says about each document of a text: whether it is accepted, and why not.
fn judge(testbed: &File, text: &str) -> Vec<(bool, String)> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policies.yaml");
    std::fs::File::create(&file)
        .and_then(|mut f| std::io::Write::write_all(&mut f, text.as_bytes()))
        .unwrap();
    let output = Command::new(testbed).arg("validate").arg(&file).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            (line["ok"] == true, format!("{} {}", line["stage"], line["error"]))
        })
        .collect()
}

#[test]
fn mutants_are_judged_alike() {
    let Some(testbed) = testbed() else { return };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let seeds = seeds();
    let mutants: Vec<String> = (0..MUTANTS).map(|_| mutant(&mut random, &seeds).to_string()).collect();
    let verdicts = judge(&testbed, &mutants.join("\n---\n"));
    let ours = check(&mutants.join("\n---\n"), &Options::default());
    assert_eq!(verdicts.len(), mutants.len());
    assert_eq!(ours.len(), mutants.len());
    let mut refused = 0;
    for ((mutant, (ok, why)), checked) in mutants.iter().zip(&verdicts).zip(&ours) {
        refused += usize::from(!ok);
        assert_eq!(*ok, checked.specs.is_some(), "judge: {why}\nours: {:#?}\n{mutant}", checked.findings);
    }
    println!("{} policies judged alike, {refused} of them refused", mutants.len());
    assert!(refused > MUTANTS / 10 && refused < MUTANTS * 9 / 10, "{refused}");
}

fn seeds() -> Vec<Value> {
    let policy = |spec: Value| {
        json!({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "a", "namespace": "shop"}, "spec": spec})
    };
    let tcp = json!([{"port": "80", "protocol": "TCP"}]);
    let subject = json!({"matchLabels": {"k8s:app": "a"}, "matchExpressions": [{"key": "b", "operator": "In", "values": ["c"]}]});
    let ingress = [
        json!({"fromEndpoints": [{"matchLabels": {"app": "a"}}, {}], "toPorts": [{"ports": tcp,
            "rules": {"http": [{"path": "/a", "method": "GET", "headerMatches": [{"name": "x"}]}]}}]}),
        json!({"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}, {"cidrGroupRef": "a"}],
            "icmps": [{"fields": [{"type": 8, "family": "IPv4"}]}]}),
        json!({"fromCIDR": ["1.2.3.0/24"], "toPorts": [{"ports": [{"port": "80", "endPort": 90}, {"port": "web"}]}]}),
        json!({"fromEntities": ["world"], "authentication": {"mode": "required"}}),
        json!({"toPorts": [{"ports": tcp, "serverNames": ["a.b"], "terminatingTLS": {"secret": {"name": "a"}}}]}),
        json!({"toPorts": [{"ports": tcp, "rules": {"kafka": [{"topic": "a", "role": "produce"}]}}]}),
    ];
    let egress = [
        json!({"toFQDNs": [{"matchName": "a.b"}, {"matchPattern": "*.c"}], "toPorts": [{"ports": tcp}]}),
        json!({"toEndpoints": [{}], "toPorts": [{"ports": [{"port": "53", "protocol": "ANY"}],
            "rules": {"dns": [{"matchPattern": "*"}]}}]}),
        json!({"toServices": [{"k8sService": {"serviceName": "a"}}, {"k8sServiceSelector": {"selector": {"matchLabels": {"a": "b"}}}}]}),
        json!({"toPorts": [{"ports": tcp, "listener": {"envoyConfig": {"kind": "CiliumEnvoyConfig", "name": "a"}, "name": "b"}}]}),
    ];
    let list = |name: &str, item: &Value| {
        let mut spec = json!({"endpointSelector": subject, "enableDefaultDeny": {"ingress": false}});
        spec[name] = json!([item]);
        policy(spec)
    };
    let mut out: Vec<Value> = ingress.iter().map(|item| list("ingress", item)).collect();
    out.extend(egress.iter().map(|item| list("egress", item)));
    out.push(list("ingressDeny", &json!({"fromEntities": ["host"], "toPorts": [{"ports": tcp}]})));
    out.push(list("egressDeny", &json!({"toCIDR": ["::/0"], "toPorts": [{"ports": tcp}]})));
    let mut host = list("egress", &egress[1]);
    host["kind"] = json!("CiliumClusterwideNetworkPolicy");
    host["metadata"] = json!({"name": "a"});
    let selector = host["spec"].as_object_mut().unwrap().remove("endpointSelector").unwrap();
    host["spec"]["nodeSelector"] = selector;
    out.push(host);
    out
}

const TEXTS: [&str; 96] = [
    "",
    "a",
    "0",
    "80",
    "65535",
    "65536",
    "0100",
    "080",
    "1_000",
    "0x50",
    "HTTP",
    "a--b",
    "-a",
    "abcdefghijklmnop",
    "1.5",
    "a.b",
    "a..b",
    ".a",
    "*",
    "**.a",
    "*.a",
    "A_b",
    "a b",
    "10.0.0.0/8",
    "10.1.2.3/8",
    "010.0.0.0/8",
    "10.0.0.1",
    "1.2.3.4/08",
    "11.0.0.0/8",
    "10.0.0.0/4",
    "::/0",
    "fe80::1%e/64",
    "::ffff:1.2.3.4/100",
    "1:2:3:4:5:6:7::/64",
    "TCP",
    "tcp",
    "UDP",
    "ANY",
    "ICMP",
    "VRRP",
    "GRE",
    "In",
    "in",
    "NotIn",
    "Exists",
    "DoesNotExist",
    "IPv4",
    "IPv6",
    "world",
    "world-ipv4",
    "cluster",
    "host",
    "all",
    "none",
    "cluster-mesh",
    "required",
    "EchoReply",
    "EchoRequest",
    "ExtendedEchoReply",
    "255",
    "256",
    "GET|POST",
    "(",
    "[",
    "[[a]",
    "a**",
    "a{2}{3}",
    "/{id}",
    "\\Qx",
    "\\1",
    "\\12",
    "\\p{Greek}",
    "(?i)a",
    "(?x)a",
    "a{1001}",
    "(a|b)*?",
    "[a-\\d]",
    "[\\d-z]",
    "(?P<n>a)",
    "(?<n>a)(?<n>b)",
    "\\x{41}",
    "\\u0041",
    "any:app",
    "k8s:app",
    "k8s.app",
    "reserved:host",
    "reserved.host",
    "$host",
    "a:b:c",
    "x:",
    ":x",
    "a/b",
    "A/b",
    "a/b/c",
    "a=b",
    "_a",
];

/// One policy, changed in one to three places.
fn mutant(random: &mut Random, seeds: &[Value]) -> Value {
    let mut policy = random.pick(seeds).clone();
    for _ in 0..=random.below(3) {
        let spec = &mut policy["spec"];
        let mut places = Vec::new();
        pointers(spec, String::new(), &mut places);
        let place: String = random.pick(&places).clone();
        let other = {
            let donor = &random.pick(seeds)["spec"];
            let mut places = Vec::new();
            pointers(donor, String::new(), &mut places);
            donor.pointer(random.pick::<String>(&places)).cloned().unwrap_or_default()
        };
        let Some(value) = spec.pointer_mut(&place) else { continue };
        change(random, value, other);
    }
    policy
}

fn change(random: &mut Random, value: &mut Value, other: Value) {
    let text = *random.pick(&TEXTS);
    match value {
        Value::Array(list) => match random.below(5) {
            0 => list.clear(),
            1 => list.extend(list.first().cloned()),
            2 => drop(list.pop()),
            3 => list.push(other),
            _ => list.extend(vec![list.first().cloned().unwrap_or_default(); 40]),
        },
        Value::Object(map) => {
            let key = map.keys().nth(random.below(map.len().max(1))).cloned().unwrap_or_default();
            match random.below(4) {
                0 => drop(map.remove(&key)),
                1 => {
                    let value = map.remove(&key).unwrap_or_default();
                    drop(map.insert(text.to_owned(), value));
                }
                2 => {
                    if let Value::Object(more) = other {
                        map.extend(more);
                    }
                }
                _ => drop(map.insert(key, Value::Null)),
            }
        }
        _ if random.below(4) > 0 => *value = json!(text),
        _ => {
            *value = [json!(0), json!(80), json!(70_000), json!(-1), json!(true), json!(null), other]
                [random.below(7)]
            .clone()
        }
    }
}

fn pointers(value: &Value, at: String, out: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, v)| pointers(v, format!("{at}/{i}"), out))
        }
        Value::Object(map) => map.iter().for_each(|(k, v)| pointers(v, format!("{at}/{}", escaped(k)), out)),
        _ => {}
    }
    out.push(at);
}

/// The same numbers on every machine (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}
