//! Where settings come from: flags, variables, the Hubble CLI's file, cpg's own, defaults.

use std::path::Path;
use std::process::Command;

use cpg::demo::{DemoRelay, Step};

use crate::kube::{alone, refused};
use crate::live::{ONE, Running, rules_or_none, sends, serving, until};
use crate::support::{Ran, denied, finished, write};

/// The program with its config file at `config.yaml`.
fn configured(dir: &Path) -> Command {
    let mut command = alone(dir);
    command.env("CPG_CONFIG", dir.join("config.yaml"));
    command
}

fn config(dir: &Path, args: &[&str]) -> Ran {
    finished(configured(dir).arg("config").args(args).output().unwrap())
}

#[test]
fn flag_over_cpg_over_hubble_over_files_over_default() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("config.yaml"), "timeout: 3s\nserver: own:1\ntls: true\nnamespace: [shop, pay]\n");
    write(
        &dir.path().join("hubble.yaml"),
        "server: hubble:2\ntls-server-name: from.file\ntls-allow-insecure: true\ndebug: true\ntimeout: 99s\n",
    );
    let view = |set: &[(&str, &str)]| {
        let mut command = configured(dir.path());
        command.args(["config", "view"]).envs(set.iter().copied());
        finished(command.output().unwrap()).code(0).stdout
    };
    let own = dir.path().join("config.yaml").display().to_string();
    let has = |said: &str, line: &str| assert!(said.lines().any(|l| l == line), "{line:?} is not in\n{said}");
    let said = view(&[]);
    has(&said, &format!("server: \"own:1\"  # {own}"));
    has(&said, &format!("tls: true  # {own}"));
    has(&said, &format!("namespace: [\"shop\", \"pay\"]  # {own}"));
    has(&said, "kube-namespace: \"kube-system\"  # default");
    has(&said, "tls-allow-insecure: false  # default");
    let said = view(&[("CPG_HUBBLE_CONFIG", "hubble.yaml")]);
    has(&said, "server: \"hubble:2\"  # the file of --hubble-config");
    has(&said, "tls-server-name: \"from.file\"  # the file of --hubble-config");
    has(&said, "tls-allow-insecure: false  # default");
    has(&said, &format!("timeout: \"3s\"  # {own}"));
    let all =
        [("CPG_HUBBLE_CONFIG", "hubble.yaml"), ("HUBBLE_SERVER", "variable:3"), ("HUBBLE_TLS", "false")];
    let said = view(&all);
    has(&said, "server: \"variable:3\"  # environment, HUBBLE_…");
    has(&said, "tls: false  # environment, HUBBLE_…");
    let said = view(&[&all[..], &[("CPG_SERVER", "cpg:4"), ("CPG_TLS", "true")]].concat());
    has(&said, "server: \"cpg:4\"  # environment, CPG_SERVER");
    has(&said, "tls: true  # environment, CPG_TLS");
    // A flag wins over all of them; the message names the address that counted.
    let mut command = configured(dir.path());
    command.envs(all).env("CPG_SERVER", "cpg:4").args(["generate", "--tls=false", "--server", "127.0.0.1:1"]);
    command.env_remove("CPG_HUBBLE_CONFIG");
    refused(&mut command, &["no Hubble Relay at 127.0.0.1:1 (tried for up to 2s)"]);
}

#[test]
fn a_run_with_nothing_but_a_config_file() {
    let relay = serving(DemoRelay::new([sends(&[denied()]).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    // Where it is looked for when CPG_CONFIG does not say so.
    let file = dir.path().join("xdg/cpg/config.yaml");
    write(&file, format!("# mine\nserver: {}\nflush-interval: 100ms\n", relay.address));
    let child =
        Running::new(alone(dir.path()).arg("generate").env("XDG_CONFIG_HOME", dir.path().join("xdg")));
    until("the need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r == [ONE]));
    child.signal("-TERM");
    child.end().code(0);
    // And the Hubble CLI's, with the flag only.
    std::fs::remove_dir_all(dir.path().join("policies")).unwrap();
    write(&dir.path().join(".config/hubble/config.yaml"), format!("server: {}\n", relay.address));
    refused(alone(dir.path()).arg("generate"), &["there is no kubeconfig"]);
    let args = ["generate", "--flush-interval", "100ms", "--hubble-config", ".config/hubble/config.yaml"];
    let child = Running::new(alone(dir.path()).args(args));
    until("the need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r == [ONE]));
    child.signal("-TERM");
    child.end().code(0);
}

#[test]
fn set_get_and_reset_change_one_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yaml");
    let read = || std::fs::read_to_string(&file).unwrap();
    config(dir.path(), &["set", "namespace", "shop", "pay"]).code(0);
    config(dir.path(), &["set", "tls", "true"]).code(0);
    assert_eq!(read(), "namespace: [\"shop\", \"pay\"]\ntls: true\n");
    assert_eq!(config(dir.path(), &["get", "namespace"]).code(0).stdout, "shop\npay\n");
    write(&file, "# mine\nnamespace:\n- shop\n- pay # here\ntls: true # why\n");
    config(dir.path(), &["set", "namespace", "db"]).code(0);
    config(dir.path(), &["set", "server", "a: b"]).code(0);
    assert_eq!(read(), "# mine\nnamespace: [\"db\"]\ntls: true # why\nserver: \"a: b\"\n");
    config(dir.path(), &["reset", "tls"]).code(0);
    assert_eq!(read(), "# mine\nnamespace: [\"db\"]\nserver: \"a: b\"\n");
    for (args, says) in [
        (&["set", "nonsense", "1"][..], "unknown key \"nonsense\": cpg config view lists all keys"),
        (&["set", "tls", "maybe"], "tls is true or false"),
        (&["set", "server", "a", "b"], "takes one value"),
        (&["get", "nonsense"], "unknown key"),
        (&["reset", "nonsense"], ""),
    ] {
        let ran = config(dir.path(), args);
        if !says.is_empty() {
            ran.code(2).says(says);
        }
    }
    config(dir.path(), &["reset"]).code(0);
    assert!(!file.exists());
    config(dir.path(), &["reset"]).code(0);
}

#[test]
fn mistakes_in_files_name_file_key_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let check = |text: &str, says: &[&str]| {
        write(&dir.path().join("config.yaml"), text);
        for args in [&["generate"][..], &["config", "view"], &["replay", "none.jsonl"]] {
            let ran =
                finished(configured(dir.path()).args(args).output().unwrap()).code(2).says("config.yaml");
            says.iter().fold(ran, |ran, says| ran.says(says));
        }
    };
    check("sever: a:1\n", &["unknown key \"sever\"", "cpg config view"]);
    check("flush_interval: 5s\n", &["unknown key \"flush_interval\"", "is \"flush-interval\" meant?"]);
    check("tls: \"yes\"\n", &["key \"tls\" wants true or false"]);
    check("server: [a]\n", &["key \"server\" wants one text"]);
    check("namespace: {a: b}\n", &["key \"namespace\" wants a list of texts"]);
    check("- a\n", &["is not YAML of the form"]);
    check("a: [\n", &["is not YAML of the form"]);
    check("sever: a\ntls: 3\n", &["unknown key", "key \"tls\" wants"]);
    std::fs::remove_file(dir.path().join("config.yaml")).unwrap();
    finished(configured(dir.path()).arg("generate").output().unwrap())
        .code(2)
        .says("(CPG_CONFIG) cannot be read");
    // Values are checked like flags.
    write(&dir.path().join("config.yaml"), "timeout: soon\nserver: a\n");
    finished(configured(dir.path()).arg("generate").output().unwrap())
        .code(2)
        .says("--timeout")
        .says("--server");
    let mut command = alone(dir.path());
    command.args(["generate", "--hubble-config", "none"]);
    refused(&mut command, &["--hubble-config none cannot be read"]);
    write(&dir.path().join("hubble"), "tls: 7\n");
    let mut command = alone(dir.path());
    command.args(["generate", "--hubble-config", "hubble"]);
    refused(&mut command, &["--hubble-config hubble: key \"tls\" wants true or false"]);
}
