//! What stands in the output directory already decides what is written.

use crate::support::{Line, capture, denied, pod, rules, run, tree, write};

const HEAD: &str =
    "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: mine, namespace: shop}\n";

fn with(
    file: &str,
    lines: &[Line],
) -> (std::collections::BTreeMap<std::path::PathBuf, String>, crate::support::Ran) {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(lines));
    write(&dir.path().join("policies/shop/mine.yaml"), file);
    let ran = run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let mut files = tree(&dir.path().join("policies"));
    assert_eq!(
        files.remove(std::path::Path::new("shop/mine.yaml")).as_deref(),
        Some(file),
        "it stays as it is"
    );
    (files, ran)
}

#[test]
fn what_a_wider_policy_allows_is_counted_and_not_written() {
    let wide = format!("{HEAD}spec:\n  endpointSelector: {{}}\n  egress:\n  - toEntities: [cluster]\n");
    let outside =
        denied().to(crate::support::identity(2, &["reserved:world"])).addresses("10.0.0.1", "192.0.2.7");
    let (files, ran) = with(&wide, &[denied(), denied().drop_event(), outside]);
    assert_eq!(rules(&files), ["shop/app=web egress to 192.0.2.7/32 TCP/80"]);
    ran.says("already_allowed")
        .says("2 flows already allowed by CiliumNetworkPolicy shop/mine: spec.egress[0]")
        .says("mine.yaml");
}

#[test]
fn what_a_deny_rule_decides_is_named_and_not_written() {
    let deny = format!(
        "{HEAD}spec:\n  endpointSelector: {{}}\n  egressDeny:\n  - toEndpoints: [{{matchLabels: {{app: api}}}}]\n"
    );
    let (files, ran) = with(&deny, &[denied(), denied().to(pod("shop", "db", &["k8s:app=db"]))]);
    assert_eq!(rules(&files), ["shop/app=web egress to app=db TCP/80"]);
    ran.says("explicit_deny").says("1 flow denied by CiliumNetworkPolicy shop/mine: spec.egressDeny[0]");
}

#[test]
fn a_policy_that_cilium_refuses_decides_nothing() {
    let refused = format!("{HEAD}spec:\n  endpointSelector: {{}}\n  egress:\n  - toEntities: [everybody]\n");
    let (files, ran) = with(&refused, &[denied()]);
    assert_eq!(rules(&files).len(), 1);
    ran.says("a policy that Cilium refuses decides nothing");
}
