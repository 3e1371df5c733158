//! The law of the join, with the engine as judge: what a file allows after a merge is what it allowed
//! before, and what was added, and nothing else.

use std::collections::BTreeSet;

use cpg::engine::{AllowLocalhost, Decision, Engine, EngineOptions, Party, Traffic};
use cpg::flow::{Direction, IcmpFamily, Port, Protocol};
use cpg::merge::merge;
use cpg::names::{Namespace, PolicyName};
use cpg::policy::spec::{Options, Spec, SubjectSpec, Version};
use cpg::policy::validate::check;
use cpg::policy::{Allow, Entity, IcmpType, Kind, Peer, Policy, Rule, Selector, Subject, read_documents};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use crate::support::{shared, skipped, yaml_below};

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

fn specs(text: &str) -> Option<Vec<Spec>> {
    let checked = check(text, &Options::of(Version::V1_19));
    checked
        .into_iter()
        .map(|c| c.specs)
        .collect::<Option<Vec<_>>>()
        .map(|all| all.into_iter().flatten().collect())
}

/// What there is to ask: parties and traffic that the rules know, and strangers.
struct World {
    peers: Vec<Party>,
    traffic: Vec<Traffic>,
}

impl World {
    fn new() -> Self {
        let pod = |namespace: &str, app: &str| {
            let labels = [
                format!("k8s:app={app}"),
                format!("k8s:io.kubernetes.pod.namespace={namespace}"),
                "k8s:io.cilium.k8s.policy.cluster=default".to_owned(),
            ];
            Party::new(1000, labels.iter().map(String::as_str))
        };
        let mut peers = vec![pod("shop", "a"), pod("shop", "b"), pod("pay", "a"), pod("pay", "stranger")];
        for entity in ["host", "remote-node", "kube-apiserver", "ingress"] {
            peers.push(Party::new(u32::from(entity == "host"), [format!("reserved:{entity}").as_str()]));
        }
        for address in ["192.0.2.7", "192.0.2.8", "2001:db8::7"] {
            let label = if address.contains(':') { "reserved:world-ipv6" } else { "reserved:world-ipv4" };
            let mut party = Party::new(2, [label]);
            party.address = Some(address.parse().unwrap());
            peers.push(party);
        }
        let mut traffic = vec![Traffic::udp(80), Traffic::sctp(80)];
        traffic.extend([79, 80, 81, 443].map(Traffic::tcp));
        traffic.extend([8, 13].map(|kind| Traffic::Icmp { family: IcmpFamily::V4, kind }));
        Self { peers, traffic }
    }

    /// Every question that a rule allows, by number; `None` where something cannot be checked.
    fn allowed(&self, text: &str, subject: &Party) -> Option<BTreeSet<(usize, usize, Direction)>> {
        let options = EngineOptions {
            allow_localhost: AllowLocalhost::Policy,
            ipv6: true,
            ..EngineOptions::of(Version::V1_19)
        };
        let engine = Engine::new(specs(text)?, options);
        let prepared = engine.subject(subject);
        let mut allowed = BTreeSet::new();
        for (p, peer) in self.peers.iter().enumerate() {
            for (t, traffic) in self.traffic.iter().enumerate() {
                for direction in DIRECTIONS {
                    match prepared.decide(peer, direction, *traffic) {
                        Decision::Allowed { .. } => {
                            allowed.insert((p, t, direction));
                        }
                        Decision::CouldNotCheck { .. } => return None,
                        // Not enforced: the premise of the law does not hold for this direction.
                        Decision::Unselected | Decision::DefaultDeny { .. } | Decision::Denied { .. } => {}
                    }
                }
            }
        }
        Some(allowed)
    }
}

fn subject() -> Subject {
    Subject {
        namespace: Namespace::parse("shop").unwrap(),
        selector: Selector::new([("app", "web")]).unwrap(),
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    let endpoints = |labels: &[(&str, &str)]| Peer::Endpoints(Selector::new(labels.iter().copied()).unwrap());
    let peers = vec![
        endpoints(&[("app", "a")]),
        endpoints(&[("app", "b")]),
        endpoints(&[("app", "a"), ("k8s:io.kubernetes.pod.namespace", "pay")]),
        Peer::Entity(Entity::Host),
        Peer::Entity(Entity::RemoteNode),
        Peer::Entity(Entity::KubeApiserver),
        Peer::address("192.0.2.7".parse().unwrap()),
        Peer::address("2001:db8::7".parse().unwrap()),
    ];
    let port = |protocol, port| Allow::Port(protocol, Port::new(port).unwrap());
    let allows = vec![
        port(Protocol::Tcp, 80),
        port(Protocol::Tcp, 81),
        port(Protocol::Udp, 80),
        port(Protocol::Sctp, 80),
        Allow::Icmp(IcmpFamily::V4, IcmpType::new(8).unwrap()),
    ];
    (prop::sample::select(DIRECTIONS.to_vec()), prop::sample::select(peers), prop::sample::select(allows))
        .prop_map(|(direction, peer, allow)| Rule::plain(direction, peer, allow))
}

fn policy(subject: &Subject, rules: &[Rule]) -> Policy {
    let mut policy = Policy::new(PolicyName::parse("cpg-web").unwrap(), subject.clone());
    for rule in rules {
        policy.add(rule.clone());
    }
    policy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_merge_allows_what_both_allow_and_nothing_else(
        a in prop::collection::vec(rule(), 1..12),
        b in prop::collection::vec(rule(), 1..12),
        edited in any::<bool>(),
    ) {
        let world = World::new();
        let who = Party::new(1, ["k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop", "k8s:io.cilium.k8s.policy.cluster=default"]);
        let (a, b) = (policy(&subject(), &a), policy(&subject(), &b));
        let before = a.render().unwrap() + if edited { "# mine\n" } else { "" };
        let merged = merge(Some(&before), None, &b).unwrap();
        prop_assert!(merged.conflicts.is_empty());
        let (one, other) = (world.allowed(&before, &who).unwrap(), world.allowed(&b.render().unwrap(), &who).unwrap());
        let both: BTreeSet<_> = one.union(&other).copied().collect();
        prop_assert_eq!(world.allowed(&merged.text, &who).unwrap(), both);
        // In either order, and again.
        let again = merge(Some(&merged.text), None, &b).unwrap();
        prop_assert_eq!(&again.text, &merged.text);
        if !edited {
            let turned = merge(Some(&b.render().unwrap()), None, &a).unwrap();
            prop_assert_eq!(turned.text, merged.text);
        }
    }
}

/// The party that a subject selector of equalities means.
fn party(spec: &Spec) -> Option<Party> {
    let SubjectSpec::Endpoints(selector) = &spec.subject else { return None };
    let mut labels = vec!["k8s:io.cilium.k8s.policy.cluster=default".to_owned()];
    for requirement in &selector.requirements {
        let cpg::policy::spec::Operator::In(values) = &requirement.operator else { return None };
        labels.push(format!("k8s:{}={}", requirement.key.key, values.first()?));
    }
    Some(Party::new(1, labels.iter().map(String::as_str)))
}

#[test]
fn the_law_holds_for_every_policy_that_was_found() {
    let Some(shared) = shared() else { return skipped("the policies of public repositories are not here") };
    let mut files = Vec::new();
    yaml_below(&shared.join("policies"), &mut files);
    files.sort();
    let world = World::new();
    let (mut judged, mut unchecked, mut conflicts) = (0, 0, 0);
    for (number, file) in files.iter().enumerate() {
        let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        let Ok(documents) = read_documents(&text) else { continue };
        let [document] = documents.as_slice() else { continue };
        let home = Namespace::parse("shop").ok();
        let (Kind::CiliumNetworkPolicy, Some(subject)) = (&document.kind, document.subject(home.as_ref()))
        else {
            continue;
        };
        let Some(before) = specs_in(&text, &subject.namespace) else { continue };
        let [spec] = before.as_slice() else { continue };
        let (Some(who), false) = (party(spec), has_deny(spec)) else { continue };
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for _ in 0..number % 3 + 1 {
            let rules = prop::collection::vec(rule(), 1..6).new_tree(&mut runner).unwrap().current();
            // Only directions that the file enforces: the law's premise.
            let enforced = |r: &Rule| match r.direction {
                Direction::Ingress => !spec.ingress.rules.is_empty() && spec.ingress.default_deny,
                Direction::Egress => !spec.egress.rules.is_empty() && spec.egress.default_deny,
            };
            let rules: Vec<Rule> = rules.into_iter().filter(enforced).collect();
            if rules.is_empty() {
                continue;
            }
            let added = policy(&subject, &rules);
            let Ok(merged) = merge(Some(&text), home.as_ref(), &added) else { continue };
            conflicts += merged.conflicts.len();
            assert_eq!(lost(&text, &merged.text), None, "{}\n{}", file.display(), merged.text);
            let written: Vec<Rule> = merged.added.iter().chain(&merged.present).cloned().collect();
            if written.is_empty() {
                continue;
            }
            let ask = |text: &str| world.allowed(&namespaced(text, &subject.namespace), &who);
            let alone = ask(&policy(&subject, &written).render().unwrap()).unwrap();
            let (Some(one), Some(after)) = (ask(&text), ask(&merged.text)) else {
                unchecked += 1;
                continue;
            };
            let both: BTreeSet<_> = one.union(&alone).copied().collect();
            assert_eq!(after, both, "{}\n{}", file.display(), merged.text);
            judged += 1;
        }
    }
    println!("{judged} merges judged, {unchecked} depend on the cluster, {conflicts} conflicts");
    assert!(judged > 200, "{judged}");
}

/// The first word of a text that is not in the other one in the same order: comments, fields and their
/// order all show in it. Brackets may come and go, where a list in flow style gets an item of its own line.
fn lost(before: &str, after: &str) -> Option<String> {
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| c.is_whitespace() || "[]{},".contains(c))
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let after = words(after);
    let mut rest = after.iter();
    words(before).into_iter().find(|word| !rest.any(|other| other == word))
}

fn has_deny(spec: &Spec) -> bool {
    spec.ingress.rules.iter().chain(&spec.egress.rules).any(|rule| rule.deny)
}

/// The specs of a text whose documents belong to this namespace when they name none.
fn specs_in(text: &str, namespace: &Namespace) -> Option<Vec<Spec>> {
    let options = Options { namespace: namespace.as_str().into(), ..Options::of(Version::V1_19) };
    let checked = check(text, &options);
    checked
        .into_iter()
        .map(|c| c.specs)
        .collect::<Option<Vec<_>>>()
        .map(|all| all.into_iter().flatten().collect())
}

/// The text with the namespace that its document belongs to, for readers that do not know the directory.
fn namespaced(text: &str, namespace: &Namespace) -> String {
    match read_documents(text) {
        Ok(documents) if documents.iter().any(|d| d.namespace.is_none()) => {
            let mut value = documents[0].value.clone();
            value["metadata"]["namespace"] = namespace.as_str().into();
            cpg::policy::yaml::write(&value).unwrap()
        }
        _ => text.to_owned(),
    }
}
