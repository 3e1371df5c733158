//! How fast the engine decides: a set of 300 policies, and one subject.

#![allow(clippy::expect_used, reason = "a benchmark may panic")]

use std::hint::black_box;

use cpg::engine::{Engine, EngineOptions, Party, Traffic};
use cpg::flow::Direction;
use cpg::policy::read_documents;
use cpg::policy::spec::{Options, Spec, sanitise};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Whom the 300 policies select, and whom they let in.
#[derive(Clone, Copy)]
struct Shape {
    /// The subject is selected by all; otherwise they are of 10 namespaces, and it is by one in 30.
    all_select: bool,
    /// All let in the same peer, each on a port of its own; otherwise each lets in another one.
    one_peer: bool,
}

const USUAL: Shape = Shape { all_select: false, one_peer: false };

fn specs(Shape { all_select, one_peer }: Shape) -> Vec<Spec> {
    let mut text = String::new();
    for n in 0..300 {
        let namespace = if all_select { 0 } else { n % 10 };
        let app = if all_select { "{}".to_owned() } else { format!("{{matchLabels: {{app: a{}}}}}", n % 30) };
        let peer = if one_peer { 0 } else { n };
        text.push_str(&format!(
            "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: p{n}, namespace: n{namespace}}}\n\
             spec:\n  endpointSelector: {app}\n  ingress:\n  - fromEndpoints: [{{matchLabels: {{app: b{peer}}}}}]\n    \
             toPorts: [{{ports: [{{port: '{}', protocol: TCP}}, {{port: '9000', endPort: 9100, protocol: TCP}}]}}]\n  \
             - fromEntities: [remote-node, health]\n  egress:\n  \
             - toEndpoints: [{{matchLabels: {{k8s-app: kube-dns, 'k8s:io.kubernetes.pod.namespace': kube-system}}}}]\n    \
             toPorts: [{{ports: [{{port: '53', protocol: UDP}}]}}]\n  - toCIDRSet: [{{cidr: 10.0.0.0/8, except: [10.96.0.0/12]}}]\n",
            8000 + n
        ));
    }
    let documents = read_documents(&text).expect("YAML");
    let options = Options::default();
    documents.iter().flat_map(|d| sanitise(d, &options).expect("valid")).collect()
}

fn pod(number: u32, namespace: &str, app: &str) -> Party {
    let labels = [
        format!("k8s:app={app}"),
        "k8s:app.kubernetes.io/name=shop".to_owned(),
        "k8s:io.cilium.k8s.policy.cluster=default".to_owned(),
        "k8s:io.cilium.k8s.policy.serviceaccount=default".to_owned(),
        format!("k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={namespace}"),
        format!("k8s:io.kubernetes.pod.namespace={namespace}"),
    ];
    Party::new(number, labels.iter().map(String::as_str))
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("engine");
    for (name, shape) in [
        ("one in thirty selects", USUAL),
        ("all select", Shape { all_select: true, ..USUAL }),
        ("all select, one peer", Shape { all_select: true, one_peer: true }),
    ] {
        let engine = Engine::new(specs(shape), EngineOptions::default());
        let subject = engine.subject(&pod(1001, "n0", "a0"));
        let mut world = Party::new(2, ["reserved:world"]);
        world.address = "10.1.2.3".parse().ok();
        let peers =
            [pod(1002, "n0", "b0"), pod(1003, "n1", "b30"), world, Party::new(6, ["reserved:remote-node"])];
        let traffic = [Traffic::tcp(8000), Traffic::udp(53), Traffic::tcp(9050), Traffic::tcp(1)];
        let count = 2 * peers.len() * traffic.len();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("subject", name), |b| {
            b.iter(|| {
                for peer in &peers {
                    for traffic in traffic {
                        black_box(subject.decide(black_box(peer), Direction::Ingress, traffic));
                        black_box(subject.decide(black_box(peer), Direction::Egress, traffic));
                    }
                }
            });
        });
        let prepared: Vec<_> = peers.iter().map(|peer| subject.peer(peer)).collect();
        group.bench_function(BenchmarkId::new("subject and peer", name), |b| {
            b.iter(|| {
                for peer in &prepared {
                    for traffic in traffic {
                        black_box(peer.decide(Direction::Ingress, black_box(traffic)));
                        black_box(peer.decide(Direction::Egress, black_box(traffic)));
                    }
                }
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("engine, preparing");
    group.bench_function("300 policies", |b| {
        let specs = specs(USUAL);
        b.iter(|| Engine::new(black_box(specs.clone()), EngineOptions::default()));
    });
    for (name, shape) in [("one subject", USUAL), ("one subject of all", Shape { all_select: true, ..USUAL })]
    {
        group.bench_function(name, |b| {
            let engine = Engine::new(specs(shape), EngineOptions::default());
            let party = pod(1001, "n0", "a0");
            b.iter(|| black_box(engine.subject(black_box(&party))));
        });
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
