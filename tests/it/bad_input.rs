//! Everything that can be wrong from outside: one clear message, what was learned is kept, no panic.

use std::io::Write as _;

use crate::support::{capture, denied, replayed, rules, run, tree, write};

#[test]
fn a_missing_file_and_the_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    run(dir.path(), &["replay", "gone.jsonl", "c.jsonl"]).code(2).says("gone.jsonl");
    assert_eq!(rules(&tree(&dir.path().join("policies"))).len(), 1);
}

#[test]
fn a_directory_instead_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    run(dir.path(), &["replay", "d"]).code(2).says("directory");
}

#[test]
fn an_empty_capture_is_said() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("e.jsonl"), "");
    run(dir.path(), &["replay", "e.jsonl"]).code(0).says("empty");
}

#[test]
fn a_truncated_gzip_keeps_what_was_read() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<_> = (0..2000).map(|i| denied().port(1000 + i)).collect();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gz.write_all(capture(&lines).as_bytes()).unwrap();
    let mut bytes = gz.finish().unwrap();
    bytes.truncate(bytes.len() / 2);
    write(&dir.path().join("c.gz"), bytes);
    run(dir.path(), &["replay", "c.gz"]).code(2).says("truncated");
    let learned = rules(&tree(&dir.path().join("policies"))).len();
    assert!((500..1500).contains(&learned), "{learned}");
}

#[test]
fn five_hundred_bad_lines_are_one_message_with_a_count() {
    let dir = tempfile::tempdir().unwrap();
    let text = capture(&[denied()]) + &"\u{1b}[31mgarbage {\n".repeat(500) + &capture(&[denied().port(81)]);
    write(&dir.path().join("c.jsonl"), text);
    let ran =
        run(dir.path(), &["replay", "c.jsonl"]).code(2).says("500 lines could not be read").says("line 2");
    assert!(ran.stderr.lines().filter(|l| l.contains("c.jsonl")).count() <= 2, "{}", ran.stderr);
    assert!(!ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
    assert_eq!(rules(&tree(&dir.path().join("policies"))).len(), 2);
}

#[test]
fn a_partial_last_line_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = capture(&[denied(), denied().port(81)]);
    text.truncate(text.len() - 100);
    write(&dir.path().join("c.jsonl"), text);
    run(dir.path(), &["replay", "c.jsonl"]).code(0).says("partial_last_line");
}

#[test]
fn an_output_directory_that_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c.jsonl"), capture(&[denied()]));
    write(&dir.path().join("out"), "mine");
    run(dir.path(), &["replay", "c.jsonl", "-o", "out"]).code(2).says("out is not a directory");
    assert_eq!(std::fs::read_to_string(dir.path().join("out")).unwrap(), "mine");
}

#[test]
fn a_file_in_the_way_of_a_namespace() {
    let dir = tempfile::tempdir().unwrap();
    write(
        &dir.path().join("c.jsonl"),
        capture(&[denied(), denied().from(crate::support::pod("pay", "x", &["k8s:app=x"]))]),
    );
    write(&dir.path().join("policies/shop"), "mine");
    run(dir.path(), &["replay", "c.jsonl"]).code(2).says("NOT DONE: 1 policy file not written").says("shop");
    assert_eq!(rules_below(dir.path(), "pay"), 1);
    assert_eq!(std::fs::read_to_string(dir.path().join("policies/shop")).unwrap(), "mine");
}

fn rules_below(dir: &std::path::Path, namespace: &str) -> usize {
    rules(&tree(&dir.join("policies").join(namespace))).len()
}

#[test]
fn what_stands_in_the_way_of_a_policy_stays_as_it_is() {
    let others = [
        ("not yaml", "key: [unclosed\n\t- x"),
        ("not a policy", "just: data\n"),
        (
            "another kind",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: shop}\ndata: {a: b}\n",
        ),
        ("a template", "metadata:\n  name: {{ .Values.name }}\n"),
    ];
    for (what, content) in others {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("c.jsonl"), capture(&[denied()]));
        let file = dir.path().join("policies/shop/web.yaml");
        write(&file, content);
        let ran = run(dir.path(), &["replay", "c.jsonl"]).code(0);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), content, "{what}");
        let mut files = tree(&dir.path().join("policies"));
        files.remove(std::path::Path::new("shop/web.yaml"));
        assert_eq!(rules(&files), ["shop/app=web egress to app=api TCP/80"], "{what}: {}", ran.stderr);
        // And a second run finds it again.
        run(dir.path(), &["replay", "c.jsonl"]).code(0).says("1 unchanged");
    }
}

#[test]
fn hostile_names_reach_neither_paths_nor_the_terminal() {
    let evil = [
        "../../../etc",
        "..",
        "a/b",
        "a\nb",
        "\u{1b}]0;x\u{7}",
        "CON",
        "-rf",
        "$(id)",
        "a'b\"c",
        "\u{202e}txt",
    ];
    let mut lines = Vec::new();
    for text in evil {
        lines.push(denied().from(crate::support::pod(text, text, &["k8s:app=web"])));
        lines.push(denied().from(crate::support::pod("shop", text, &[&format!("k8s:app={text}")])));
        lines.push(denied().to(crate::support::pod(
            "shop",
            "x",
            &[&format!("k8s:app={text}"), "k8s:zone=a"],
        )));
        lines.push(denied().from(crate::support::pod(
            "shop",
            "x",
            &["k8s:app=web", &format!("k8s:{text}=x")],
        )));
    }
    let (policies, ran) = replayed(&lines);
    for path in policies.keys() {
        let text = path.to_str().unwrap();
        assert!(text.starts_with("shop/") && !text.contains(".."), "{text}");
        assert!(
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-./".contains(&b)),
            "{text}"
        );
    }
    assert!(!ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\u{202e}'), "{:?}", ran.stderr);
    let debug = {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("c.jsonl"), capture(&lines));
        run(dir.path(), &["replay", "c.jsonl", "--debug"]).code(0)
    };
    assert!(!debug.stderr.contains('\u{1b}') && !debug.stderr.contains('\u{202e}'), "{:?}", debug.stderr);
}

#[test]
fn an_unreachable_relay_and_an_address_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    run(dir.path(), &["generate", "--server", &free.to_string(), "--timeout", "2s"])
        .code(2)
        .says(&free.to_string());
    for address in ["relay", "relay:notaport", "http://relay:80", ""] {
        run(dir.path(), &["generate", "--server", address]).code(2).says("--server");
    }
}

#[test]
fn a_server_that_is_no_relay() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let ran = run(dir.path(), &["generate", "--server", &address, "--timeout", "3s"]).code(2).says(&address);
    assert_eq!(ran.stderr.matches("error:").count(), 1, "{}", ran.stderr);
}
