//! `cpg validate` as people and CI run it.

use serde_json::Value;

use crate::support::{run, write};

const GOOD: &str = "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: api}}]
    toPorts: [{ports: [{port: \"80\", protocol: TCP}]}]
";

#[test]
fn clean_refused_and_unreadable_have_codes_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("p/good.yaml"), GOOD);
    run(dir.path(), &["validate", "p"]).code(0).says("1 file for Cilium 1.19: 0 refusals, 0 warnings");
    write(&dir.path().join("p/bad.yaml"), GOOD.replace("\"80\"", "80"));
    let ran = run(dir.path(), &["validate", "p"]).code(1);
    assert!(
        ran.stdout.contains("p/bad.yaml:8:")
            && ran.stdout.contains("spec.ingress[0].toPorts[0].ports[0].port"),
        "{}",
        ran.stdout
    );
    run(dir.path(), &["validate", "p", "gone.yaml"]).code(2).says("gone.yaml cannot be read");
    run(dir.path(), &["validate", "p", "--cilium-version", "1.2"]).code(2).says("one of 1.16, 1.17");
}

#[test]
fn findings_are_one_json_object_a_line() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("bad.yaml"), GOOD.replace("app: web", "\"bad key!\": web"));
    let ran = run(dir.path(), &["validate", "--output", "json", "bad.yaml"]).code(1);
    let findings: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(findings.iter().any(|f| f["refused_by"] == "agent" && f["line"] == 5), "{findings:#?}");
}

#[test]
fn one_broken_document_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "{GOOD}---\nkey: [unclosed\n---\n{{{{ .Values.x }}}}: a\n---\n{}",
        GOOD.replace("TCP", "tcp")
    );
    write(&dir.path().join("many.yaml"), text);
    let ran = run(dir.path(), &["validate", "many.yaml"]).code(1);
    assert!(ran.stdout.contains("protocol"), "{}", ran.stdout);
    let hostile = "apiVersion: cilium.io/v2\nkind: \"\\e[31m\"\nmetadata: {name: \"\\e]0;x\\a\"}\n";
    write(&dir.path().join("hostile.yaml"), hostile);
    let ran = run(dir.path(), &["validate", "hostile.yaml"]);
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{:?}", ran.stdout);
}
