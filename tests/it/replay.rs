//! Captures through the whole way: what comes of them, and that it does not depend on how they come.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;

use crate::support::{
    Line, capture, check_rules, cpg, denied, finished, identity, pod, replayed, replayed_with, rules, run,
    tree, write,
};

#[test]
fn one_denied_connection_is_one_rule() {
    let (policies, ran) = replayed(&[denied(), denied().drop_event()]);
    assert_eq!(rules(&policies), ["shop/app=web egress to app=api TCP/80"]);
    assert_eq!(policies.keys().map(|p| p.display().to_string()).collect::<Vec<_>>(), ["shop/web.yaml"]);
    ran.says("2 flows").says("1 created, 0 updated, 0 unchanged, 0 failed; 1 rule added");
}

#[test]
fn every_kind_of_peer() {
    let ping = json!({"ICMPv4": {"type": 8}});
    let ping6 = json!({"ICMPv6": {"type": 128}});
    let world6 = denied().to(identity(10, &["reserved:world-ipv6"])).addresses("fd00::1", "2001:db8::7");
    check_rules(
        &[
            denied(),
            denied().to(pod("pay", "api", &["k8s:app=api"])).port(8443),
            denied()
                .to(pod("shop", "far", &["k8s:app=far", "k8s:io.cilium.k8s.policy.cluster=west"]))
                .from(pod("shop", "web", &["k8s:app=web", "k8s:io.cilium.k8s.policy.cluster=east"])),
            denied().to(identity(2, &["reserved:world"])).addresses("10.0.0.1", "192.0.2.7").port(443),
            world6.clone().port(443),
            world6.l4(ping6),
            denied().to(identity(7, &["reserved:kube-apiserver", "reserved:remote-node"])).port(6443),
            denied().to(identity(6, &["reserved:remote-node"])).port(10250),
            denied().l4(ping),
            denied().l4(json!({"SCTP": {"source_port": 40000, "destination_port": 38412}})),
            denied().l4(json!({"UDP": {"source_port": 40000, "destination_port": 53}})),
            denied().ingress().from(identity(8, &["reserved:ingress"])),
        ],
        &[
            "shop/app=api ingress from ingress TCP/80",
            "shop/app=web egress to 192.0.2.7/32 TCP/443",
            "shop/app=web egress to 2001:db8::7/128 ICMP IPv6 type 128",
            "shop/app=web egress to 2001:db8::7/128 TCP/443",
            "shop/app=web egress to app=api ICMP IPv4 type 8",
            "shop/app=web egress to app=api SCTP/38412",
            "shop/app=web egress to app=api TCP/80",
            "shop/app=web egress to app=api UDP/53",
            "shop/app=web egress to app=api,k8s:io.kubernetes.pod.namespace=pay TCP/8443",
            "shop/app=web egress to app=far,k8s:io.cilium.k8s.policy.cluster=west TCP/80",
            "shop/app=web egress to kube-apiserver TCP/6443",
            "shop/app=web egress to remote-node TCP/10250",
        ],
    );
}

#[test]
fn a_second_run_changes_no_byte_and_touches_no_file() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied(), denied().port(81)]));
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    let file = dir.path().join("policies/shop/web.yaml");
    let before = (std::fs::read(&file).unwrap(), std::fs::metadata(&file).unwrap().modified().unwrap());
    run(dir.path(), &["replay", "c.jsonl"])
        .code(0)
        .says("0 created, 0 updated, 1 unchanged, 0 failed; 0 rules added");
    assert_eq!(
        before,
        (std::fs::read(&file).unwrap(), std::fs::metadata(&file).unwrap().modified().unwrap())
    );
}

#[test]
fn files_standard_input_gzip_and_flat_flows_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<Line> = (0..40).map(|i| denied().port(8000 + i)).collect();
    let text = capture(&lines);
    let out = |name: &str| tree(&dir.path().join(name));
    write(&dir.path().join("plain.jsonl"), &text);
    run(dir.path(), &["replay", "plain.jsonl", "-o", "plain"]).code(0);

    let (first, second) = lines.split_at(17);
    write(&dir.path().join("1.jsonl"), capture(first));
    write(&dir.path().join("2.jsonl"), capture(second));
    run(dir.path(), &["replay", "2.jsonl", "1.jsonl", "-o", "two"]).code(0);

    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    write(&dir.path().join("c.gz"), gz.finish().unwrap());
    run(dir.path(), &["replay", "c.gz", "-o", "gz"]).code(0);

    let mut child = cpg(dir.path())
        .args(["replay", "-", "-o", "stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    finished(child.wait_with_output().unwrap()).code(0);

    let flat: String = lines.iter().map(|l| format!("{}\n", l.0["flow"])).collect();
    write(&dir.path().join("flat.jsonl"), flat);
    run(dir.path(), &["replay", "flat.jsonl", "-o", "flat"]).code(0);

    assert_eq!(rules(&out("plain")).len(), 40);
    for name in ["two", "gz", "stdin", "flat"] {
        assert_eq!(out(name), out("plain"), "{name}");
    }
}

#[test]
fn only_the_namespaces_that_were_asked_for_get_policies() {
    let lines = [denied(), denied().from(pod("pay", "bill", &["k8s:app=bill"]))];
    let (policies, _) = replayed_with(&lines, &["-n", "shop"]);
    assert_eq!(rules(&policies), ["shop/app=web egress to app=api TCP/80"]);
    let (policies, ran) = replayed_with(&lines, &["-n", "obs"]);
    assert!(policies.is_empty());
    ran.says("no drop in obs asked for a rule; namespaces seen: pay, shop");
    let (policies, _) = replayed_with(&lines, &["-n", "shop", "--namespace", "pay"]);
    assert_eq!(rules(&policies).len(), 2);
    let (policies, _) = replayed_with(&lines, &["-A"]);
    assert_eq!(rules(&policies).len(), 2);
}

#[test]
fn filters_by_protocol_and_reason() {
    let infra =
        denied().set("/drop_reason", json!(155)).set("/drop_reason_desc", json!("CT_MAP_INSERTION_FAILED"));
    let lines =
        [denied(), denied().l4(json!({"UDP": {"source_port": 40000, "destination_port": 53}})), infra];
    let (policies, _) = replayed_with(&lines, &["--ignore-protocol", "TCP"]);
    assert_eq!(rules(&policies), ["shop/app=web egress to app=api UDP/53"]);
    let (policies, ran) = replayed_with(&lines, &["--ignore-drop-reason", "policy_denied,Nat_Not_Needed"]);
    assert!(policies.is_empty());
    ran.says("CT_MAP_INSERTION_FAILED").says("NAT_NOT_NEEDED is noise and is not reported anyway");
}

#[test]
fn infrastructure_drops_decide_the_exit_code_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let infra =
        denied().set("/drop_reason", json!(155)).set("/drop_reason_desc", json!("CT_MAP_INSERTION_FAILED"));
    write(&dir.path().join("c.jsonl"), capture(&[denied(), infra]));
    write(&dir.path().join("clean.jsonl"), capture(&[denied()]));
    run(dir.path(), &["replay", "c.jsonl"]).code(0);
    run(dir.path(), &["replay", "c.jsonl", "--fail-on-infra-drops"]).code(1).says("exit code 1");
    run(dir.path(), &["replay", "clean.jsonl", "--fail-on-infra-drops"]).code(0);
    let ignored =
        ["replay", "c.jsonl", "--fail-on-infra-drops", "--ignore-drop-reason", "ct_map_insertion_failed"];
    run(dir.path(), &ignored).code(0);
    // Work that was lost outranks it.
    run(dir.path(), &["replay", "c.jsonl", "missing.jsonl", "--fail-on-infra-drops"]).code(2);
}

#[test]
fn flags_can_come_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    let output = cpg(dir.path())
        .args(["replay", "c.jsonl"])
        .env("CPG_OUTPUT_DIR", "elsewhere")
        .env("CPG_NAMESPACE", "shop,pay")
        .env("CPG_JSON", "true")
        .output()
        .unwrap();
    let ran = finished(output).code(0);
    assert_eq!(rules(&tree(&dir.path().join("elsewhere"))).len(), 1);
    let summary: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["rules_added"], &summary["exit_code"]), (&json!(1), &json!(0)));
    for line in ran.stderr.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
}

#[test]
fn mistakes_in_flags_are_told_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    run(
        dir.path(),
        &[
            "replay",
            "x",
            "--flush-interval",
            "0s",
            "-n",
            "Shop",
            "-A",
            "--ignore-protocol",
            "icmp",
            "--threads",
            "0",
        ],
    )
    .code(2)
    .says("--flush-interval \"0s\": must be more than zero")
    .says("--namespace \"Shop\" has characters other than")
    .says("contradict each other")
    .says("one of tcp, udp, icmpv4, icmpv6, sctp")
    .says("--threads: from 1 to 64");
    run(dir.path(), &["replay", "x", "--flush-interval=-5s"]).code(2).says("--flush-interval");
    run(dir.path(), &["replay", "x", "--ignore-drop-reason", "POLICY_DENID"])
        .code(2)
        .says("did you mean POLICY_DENIED");
    assert!(tree(dir.path()).is_empty());
}

#[test]
fn a_file_in_peoples_hands_is_only_inserted_into() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied(), denied().port(81)]));
    let mine = "# owned by the shop team
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: web   # not called by cpg
  namespace: shop
spec:
  endpointSelector:
    matchLabels: {app: web}
  egress:
    - toEndpoints:
        - matchLabels:
            app: api
      toPorts:
        - ports:
            - {port: '80', protocol: TCP} # health
";
    write(&dir.path().join("policies/shop/frontend.yaml"), mine);
    run(dir.path(), &["replay", "c.jsonl"]).code(0).says("0 created, 1 updated");
    let files = tree(&dir.path().join("policies"));
    let [(path, text)] = files.iter().collect::<Vec<_>>()[..] else { panic!("{files:?}") };
    assert_eq!(path.to_str(), Some("shop/frontend.yaml"));
    let mut rest = text.lines();
    for line in mine.lines() {
        assert!(rest.any(|l| l == line), "{line:?} was lost in\n{text}");
    }
    assert!(text.contains("\"81\"") || text.contains("'81'"), "{text}");
}
