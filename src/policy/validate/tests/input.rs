//! Texts that are no policies, or not only, or mean harm.

use std::time::{Duration, Instant};

use super::super::*;
use super::{check, policy, said};

const OK: &str = "endpointSelector: {}, ingress: [{}]";

#[test]
fn positions() {
    let text = "# a comment\n---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: a\nspec:\n  \
        endpointSelector: {}\n  ingress:\n  - toPorts:\n    - ports:\n      - port: \"80\"\n        protocol: TCP\n      \
        - protocol: TCP\n        port: 53\n";
    let findings = validate(text, &Options::default());
    let first = findings.first().unwrap();
    assert_eq!(first.mark, Some(Mark { line: 15, column: 9 }));
    assert_eq!(
        first.to_string(),
        "15:9: API server and agent: spec.ingress[0].toPorts[0].ports[1].port: must be a string, is a number: quote it"
    );
    assert_eq!((first.kind.as_deref(), first.name.as_deref()), (Some("CiliumNetworkPolicy"), Some("a")));
}

#[test]
fn one_broken_document_does_not_hide_the_others() {
    let bad = policy("endpointSelector: {}, ingress: []");
    let text = format!("{}---\na: [\n---\n{bad}---\nfoo: 1\nfoo: 2\n---\n{bad}", policy(OK));
    check(
        &text,
        &Options::default(),
        &["API server and agent ", "agent spec", "API server and agent ", "agent spec"],
    );
    let lines: Vec<_> =
        validate(&text, &Options::default()).iter().filter_map(|f| f.mark).map(|m| m.line).collect();
    assert_eq!(lines, [4, 6, 11, 14, 19]);
    let objects: Vec<_> =
        super::super::check(&text, &Options::default()).iter().map(|c| c.document).collect();
    assert_eq!(objects, [0, 1, 2, 3, 4]);
}

#[test]
fn lists() {
    let item = |list: &str| {
        format!(
            "{{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {{name: a}}, spec: {{endpointSelector: {{}}, ingress: [{list}]}}}}"
        )
    };
    for kind in ["apiVersion: v1\nkind: List", "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicyList"] {
        let text = format!("{kind}\nitems:\n- {}\n- {}\n", item("{}"), item(""));
        check(&text, &Options::default(), &["agent items[1].spec"]);
        let objects = super::super::check(&text, &Options::default());
        assert_eq!(objects.iter().map(|o| o.specs.is_some()).collect::<Vec<_>>(), [true, false]);
    }
}

#[test]
fn other_documents() {
    for (text, expected) in [
        (
            "kind: Service\napiVersion: v1\n",
            "information: v1 Service is no policy that Cilium reads: not checked",
        ),
        ("- op: add\n  path: /spec\n", "API server: a JSON patch, not an object: not checked"),
        ("$patch: delete\n", "API server: a patch, not an object: not checked"),
        ("replicas: 1\n", "API server: no Kubernetes object: apiVersion and kind must be given"),
        ("x: ENC[..]\nsops: {mac: x}\n", "API server: the document is encrypted with SOPS: decrypt it first"),
        (
            "apiVersion: cilium.io/v2alpha1\nkind: CiliumNetworkPolicy\n",
            "API server: CiliumNetworkPolicy is cilium.io/v2, not cilium.io/v2alpha1",
        ),
        (
            "apiVersion: networking.k8s.io/v1\nkind: CiliumNetworkPolicy\n",
            "API server: no cluster knows CiliumNetworkPolicy as networking.k8s.io/v1; it is cilium.io/v2",
        ),
    ] {
        let found: Vec<_> = validate(text, &Options::default()).iter().map(ToString::to_string).collect();
        assert_eq!(found, [format!("1:1: {expected}")]);
    }
    let template = "metadata:\n  name: {{ .Values.name }}\n  {{- if .Values.x }}\n";
    assert!(validate(template, &Options::default())[0].message.contains("template"));
    let flux = policy("endpointSelector: {matchLabels: {app: '${APP}'}}, ingress: [{}]");
    assert!(validate(&flux, &Options::default()).iter().any(|f| f.message.contains("placeholders")));
    let secret = policy(OK).replace("spec:", "sops: {mac: x}\nspec:");
    check(&secret, &Options::default(), &["API server and agent sops"]);
}

#[test]
fn bytes_that_are_no_text() {
    let options = Options::default();
    let message = |bytes: &[u8]| validate_bytes(bytes, &options)[0].message.to_string();
    assert_eq!(message(b"a: 1\nb: \xff\n"), "the file is no UTF-8 text: line 2, byte 8");
    assert!(message(&[0xff, 0xfe, b'a', 0]).contains("UTF-16"));
    assert!(validate_bytes(b"\xef\xbb\xbf", &options).is_empty());
}

#[test]
fn what_kubectl_does_not_see() {
    let options = Options::default();
    check(&format!("{}--- # second\n{}", policy(OK), policy(OK)), &options, &[]);
    check(&format!("{}...\n{}", policy(OK), policy(OK)), &options, &["warning "]);
    let inline = "--- {apiVersion: v1, kind: Service}\n";
    check(&format!("{}{inline}", policy(OK)), &options, &["warning "]);
}

/// Runs it and expects it to end soon, whatever it says.
fn soon(name: &str, text: &str) -> Vec<String> {
    let start = Instant::now();
    let found = said(text, &Options::default());
    assert!(start.elapsed() < Duration::from_secs(60), "{name} took {:?}", start.elapsed());
    found
}

#[test]
fn harm_is_bounded() {
    let refused = |name: &str, text: &str| assert_eq!(soon(name, text), ["API server and agent "], "{name}");
    refused("nested lists", &"[".repeat(200_000));
    refused("nested maps", &"a: {".repeat(100_000));
    let deep: String = (0..2000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    refused("nested blocks", &deep);
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for i in 1..10 {
        let last = format!("*a{}", i - 1);
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![last; 10].join(","));
    }
    refused("aliases", &bomb);
    refused("itself", "a: &a [*a]\n");
    refused("duplicate keys", "a: 1\na: 2\n");
    assert_eq!(soon("tab", "a:\n\tb: 1\n").len(), 1);
}

#[test]
fn large_input() {
    let many = vec![policy(OK); 1000].join("---\n");
    assert!(soon("1,000 documents", &many).is_empty());
    let rules = vec!["{toPorts: [{ports: [{port: 80}]}]}"; 100_000].join(", ");
    let found = soon("3.5 MB of mistakes", &policy(&format!("endpointSelector: {{}}, ingress: [{rules}]")));
    assert!(found.len() <= 201, "{}", found.len());
    let names = (0..200_000).map(|i| format!("n{i}")).collect::<Vec<_>>().join(", ");
    let text =
        policy(&format!("endpointSelector: {{}}, ingress: [{{toPorts: [{{serverNames: [{names}]}}]}}]"));
    soon("a long set", &text);
    let pattern = "(a|".repeat(50_000);
    soon(
        "a long pattern",
        &policy(&format!(
            "endpointSelector: {{}}, ingress: [{{toPorts: [{{rules: {{http: [{{path: '{pattern}'}}]}}}}]}}]"
        )),
    );
}
