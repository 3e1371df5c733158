//! The demo: the story played through the whole way, against what the story says has to come of it and
//! against the golden files in `tests/golden/demo/` (`UPDATE_GOLDEN=1` writes them anew).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cpg::demo::{Allow, Need, Peer, story};

use crate::support::{rules, run, tree, write};

/// A need of a story or a capture in the words of [`rules`].
pub(crate) fn in_words(need: &Need) -> String {
    let labels = |labels: &[(String, String)]| {
        let mut words: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        words.sort();
        words.join(",")
    };
    let way = match need.direction.as_str() {
        "ingress" => "ingress from",
        _ => "egress to",
    };
    let peer = match &need.peer {
        Peer::Endpoints(of) => labels(of),
        Peer::Entity(name) => name.clone(),
        Peer::Cidr(net) => net.clone(),
    };
    let allow = match &need.allow {
        Allow::Port { protocol, port } => format!("{protocol}/{port}"),
        Allow::Icmp { family, kind } => format!("ICMP {family} type {kind}"),
    };
    format!("{}/{} {way} {peer} {allow}", need.namespace, labels(&need.selector))
}

#[test]
fn the_story_becomes_exactly_its_needs() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(dir.path(), &["demo", "-o", "out"]).code(0);
    let policies = tree(&dir.path().join("out"));
    let written: BTreeSet<String> = rules(&policies).into_iter().collect();
    let needed: BTreeSet<String> = story::needs().iter().map(in_words).collect();
    assert_eq!(written, needed, "{}", ran.stderr);
    assert!(ran.stdout.contains("shop/web.shop.frontend.yaml"), "{}", ran.stdout);
    let ran = ran
        .says("explicit_deny")
        .says("auth_required")
        .says("CT_MAP_INSERTION_FAILED")
        .says("lost by Hubble: 7 events (HUBBLE_RING_BUFFER)")
        .says("drop reason 251")
        .says("reserved_subject")
        .says("0 failed");
    golden(&policies, &ran.stderr);
}

/// Compares with the golden files, which are what a user of the demo sees.
fn golden(policies: &BTreeMap<PathBuf, String>, said: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/demo");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(&root);
        for (path, text) in policies {
            write(&root.join(path), text);
        }
    }
    assert_eq!(policies, &tree(&root), "UPDATE_GOLDEN=1 writes them anew, if this is what you meant\n{said}");
}

#[test]
fn the_readme_shows_a_policy_as_the_demo_writes_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let policy = std::fs::read_to_string(root.join("tests/golden/demo/shop/cart.shop.api.yaml")).unwrap();
    assert!(
        readme.contains(&format!("```yaml\n{policy}```")),
        "README.md shows another policy than the demo writes"
    );
}
