//! The k9s plugin as k9s runs it, and `--hold`: a terminal, keys, and the signals that come with it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cpg::demo::{DemoRelay, Step};
use serde_json::Value;

use crate::cluster::{following, inject, kubernetes};
use crate::live::{ONE, Running, policies, rules_or_none, sends, serving, until};
use crate::support::{capture, cpg, denied, run, skipped, write};
use crate::testbed::{MISSING, Testbed};

/// A pseudo-terminal with a shell script in it, made by `script` of util-linux.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<String>>,
}

/// Runs `"$@"` as k9s runs a plugin: in its own process group, on its own terminal; on SIGINT it kills
/// what it runs (`exec.CommandContext`, whose context the signal ends). Then says how it ended, and
/// whether the terminal is as it was.
const LIKE_K9S: &str = r#"
before=$(stty -g)
trap 'echo "<killed>"; kill -KILL $child' INT
"$@" </dev/tty &
child=$!
echo $child >pid
wait $child
code=$?
[ "$(stty -g)" = "$before" ] && mode=restored || mode=changed
echo "<code $code, mode $mode>"
"#;

impl Terminal {
    /// The program in this directory, under something like k9s; `None` where `script` is missing.
    fn new(dir: &Path, command: &Command) -> Option<Self> {
        Self::with(dir, LIKE_K9S, command)
    }

    fn with(dir: &Path, shell: &str, command: &Command) -> Option<Self> {
        let there = Command::new("script").arg("--version").output().is_ok_and(|o| o.status.success());
        if !there {
            skipped("script of util-linux is not here");
            return None;
        }
        write(&dir.join("run.sh"), shell);
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap().replace('\'', r"'\''"));
        let line: Vec<String> =
            [command.get_program()].into_iter().chain(command.get_args()).map(quoted).collect();
        let mut script = Command::new("script");
        script.current_dir(dir).args(["-qefc", &format!("sh run.sh {}", line.join(" ")), "/dev/null"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (into, mut from) = (Arc::clone(&screen), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n) = from.read(&mut bytes) {
                if n == 0 {
                    break;
                }
                *into.lock().unwrap() += &String::from_utf8_lossy(&bytes[..n]);
            }
        });
        let keys = child.stdin.take().unwrap();
        Some(Self { child, keys, screen })
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    #[track_caller]
    fn shows(&self, text: &str) {
        let start = Instant::now();
        while !self.screen().contains(text) {
            assert!(start.elapsed() < Duration::from_secs(30), "never {text:?} on\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Sends a signal to the program itself.
    fn signal(&self, dir: &Path, name: &str) {
        let pid = std::fs::read_to_string(dir.join("pid")).unwrap();
        assert!(Command::new("kill").args([name, pid.trim()]).status().unwrap().success());
    }

    /// It has not ended, and does not within a moment.
    #[track_caller]
    fn holds(&self) {
        self.shows(HELD);
        std::thread::sleep(Duration::from_millis(200));
        assert!(!self.screen().contains("<code"), "{}", self.screen());
    }

    /// It ends with this code and leaves the terminal as it was.
    #[track_caller]
    fn ends(mut self, code: i32) -> String {
        self.shows("<code ");
        self.shows("mode ");
        let screen = self.screen();
        assert!(screen.contains(&format!("<code {code}, mode restored>")), "{screen}");
        drop(self.keys);
        self.child.wait().unwrap();
        screen
    }
}

const HELD: &str = "press any key to end";

/// A capture with one need, and one drop by infrastructure.
fn captured(dir: &Path) -> Command {
    let infra =
        denied().set("/drop_reason", 155.into()).set("/drop_reason_desc", "CT_MAP_INSERTION_FAILED".into());
    write(&dir.join("c.jsonl"), capture(&[denied(), infra]));
    let mut command = cpg(dir);
    command.args(["replay", "c.jsonl", "--hold"]);
    command
}

#[test]
fn hold_waits_for_one_key_without_enter() {
    for key in ["x", "\r", " ", "\u{3}", "\u{1b}[A"] {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut terminal) = Terminal::new(dir.path(), &captured(dir.path())) else { return };
        terminal.holds();
        terminal.press(key);
        let screen = terminal.ends(0);
        let root = std::fs::canonicalize(dir.path().join("policies")).unwrap();
        let (summary, rest) = screen.split_once(&format!("output: {}", root.display())).unwrap();
        assert!(summary.contains("1 created") && summary.contains("created    shop/web.yaml"), "{screen}");
        assert!(rest.contains(HELD), "{screen}");
        assert_eq!(policies(dir.path()), [ONE]);
    }
}

#[test]
fn hold_without_a_person_ends_at_once() {
    // No terminal at all.
    let dir = tempfile::tempdir().unwrap();
    let command = captured(dir.path());
    let ran = run(dir.path(), &["replay", "c.jsonl", "--hold"]).code(0);
    assert!(!ran.stderr.contains(HELD), "{}", ran.stderr);
    let both = run(dir.path(), &["replay", "-", "--hold"]).code(2);
    both.says("--hold waits for a key on standard input, which is a capture here");
    // In the background of a terminal, where touching it would stop the program.
    let background = "set -m\n\"$@\" </dev/tty &\nwait $!\necho \"<code $?, mode restored>\"\n";
    let Some(terminal) = Terminal::with(dir.path(), background, &command) else { return };
    assert!(!terminal.ends(0).contains(HELD));
    // Messages that go to a file are not lost.
    let redirected = "\"$@\" 2>said\necho \"<code $?, mode restored>\"\n";
    let terminal = Terminal::with(dir.path(), redirected, &command).unwrap();
    terminal.ends(0);
    assert!(!std::fs::read_to_string(dir.path().join("said")).unwrap().contains(HELD));
}

#[test]
fn a_signal_ends_the_wait_with_the_exit_code_of_the_run() {
    for name in ["-INT", "-TERM", "-HUP", "-QUIT"] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = captured(dir.path());
        command.arg("--fail-on-infra-drops");
        let Some(terminal) = Terminal::new(dir.path(), &command) else { return };
        terminal.holds();
        terminal.signal(dir.path(), name);
        let screen = terminal.ends(1);
        assert!(!screen.contains("ending at once"), "{screen}");
    }
}

#[test]
fn what_failed_is_held_too() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut refused = cpg(dir.path());
    refused.args(["generate", "--hold", "--server", &free, "--timeout", "2s"]);
    let mut mistaken = cpg(dir.path());
    mistaken.args(["generate", "--hold", "-n", "../x"]);
    let mut config = cpg(dir.path());
    write(&dir.path().join("config.yaml"), "no-such-key: 1\n");
    config.args(["generate", "--hold"]).env("CPG_CONFIG", dir.path().join("config.yaml"));
    for (command, says) in [(refused, "refused"), (mistaken, "../x"), (config, "no-such-key")] {
        let Some(mut terminal) = Terminal::new(dir.path(), &command) else { return };
        terminal.holds();
        assert!(terminal.screen().contains(says), "{}", terminal.screen());
        terminal.press("x");
        terminal.ends(2);
    }
}

#[test]
fn ctrl_c_under_k9s_does_not_lose_the_last_window() {
    let server = serving(DemoRelay::new([sends(&[denied(), crate::live::marker()]).then(Step::Hang)]));
    let command = |dir: &Path, hold: &[&str]| {
        let mut command = cpg(dir);
        command
            .args(["generate", "--debug", "--flush-interval", "1h", "--server", &server.address])
            .args(hold);
        command
    };
    // Without --hold k9s gets the signal, and kills.
    let dir = tempfile::tempdir().unwrap();
    let Some(mut terminal) = Terminal::new(dir.path(), &command(dir.path(), &[])) else { return };
    terminal.shows("unknown_protocol");
    terminal.press("\u{3}");
    terminal.shows("<killed>");
    // wait was interrupted by the trap: 130.
    assert!(terminal.ends(130).contains("<killed>"));
    assert_eq!(policies(dir.path()), [""; 0]);
    // With it, and with q, the window is on disk.
    for key in ["\u{3}", "q"] {
        let dir = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::new(dir.path(), &command(dir.path(), &["--hold"])).unwrap();
        terminal.shows("q or Ctrl-C ends the run");
        terminal.shows("unknown_protocol");
        terminal.press(key);
        terminal.holds();
        assert_eq!(policies(dir.path()), [ONE]);
        terminal.press("x");
        assert!(!terminal.ends(0).contains("<killed>"));
    }
    // Other keys end nothing; a second one of these ends at once, and gives the terminal back.
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::new(dir.path(), &command(dir.path(), &["--hold"])).unwrap();
    terminal.shows("unknown_protocol");
    let held = std::fs::File::open(dir.path().join("policies")).unwrap();
    held.lock().unwrap();
    terminal.press("xyz");
    terminal.press("q");
    terminal.shows("SIGINT: writing what was learned");
    // Two within a moment are one, as when a key is held down.
    let start = Instant::now();
    while !terminal.screen().contains("again: ending at once") {
        assert!(start.elapsed() < Duration::from_secs(4), "{}", terminal.screen());
        terminal.press("\u{3}");
        std::thread::sleep(Duration::from_millis(100));
    }
    terminal.ends(2);
    // So does a signal from outside, and the end of the terminal.
    for name in ["-TERM", "-HUP", "-QUIT"] {
        let dir = tempfile::tempdir().unwrap();
        let mut terminal = Terminal::new(dir.path(), &command(dir.path(), &["--hold"])).unwrap();
        terminal.shows("unknown_protocol");
        terminal.signal(dir.path(), name);
        terminal.holds();
        assert_eq!(policies(dir.path()), [ONE], "{name}");
        terminal.press("x");
        terminal.ends(0);
    }
}

/// Command and arguments of the plugin, with variables put in as k9s does it
/// (`internal/view/env.go`: `$NAME`, `$!NAME` and `${NAME}`; words and dashes; booleans in one form).
fn plugin(env: &[(&str, &str)]) -> (String, Vec<String>) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/k9s/plugin.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let all: BTreeMap<String, BTreeMap<String, BTreeMap<String, Value>>> =
        serde_yaml::from_str(&text).unwrap();
    let plugins = &all["plugins"];
    assert_eq!((all.len(), plugins.len()), (1, 1));
    let plugin = plugins.values().next().unwrap();
    // The keys that its schema has; it refuses the whole file without the first four.
    let known =
        ["shortCut", "description", "scopes", "command", "args", "confirm", "dangerous", "background"];
    assert_eq!(plugin.len(), known.len());
    for key in known {
        assert!(plugin.contains_key(key), "{key}");
    }
    assert_eq!(plugin["shortCut"], "Shift-G");
    assert_eq!(plugin["scopes"], serde_json::json!(["namespaces"]));
    // In the background there is neither a screen nor an end.
    assert_eq!((&plugin["background"], &plugin["dangerous"]), (&Value::Bool(false), &Value::Bool(false)));
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    let substituted = |arg: &Value| {
        let arg = arg.as_str().unwrap();
        let Some(key) = arg.strip_prefix('$') else {
            assert!(!arg.contains('$'), "{arg}");
            return arg.to_owned();
        };
        let value = env.get(key).unwrap_or_else(|| panic!("k9s has no variable {key}"));
        (*value).to_owned()
    };
    let args = plugin["args"].as_array().unwrap().iter().map(substituted).collect();
    (plugin["command"].as_str().unwrap().to_owned(), args)
}

#[test]
fn the_plugin_runs_as_k9s_runs_it() {
    let Some(program) = kubernetes() else { return skipped(MISSING) };
    let testbed = Testbed::up(&program, &["-kube", "-nodes", "1"]);
    let kubeconfig = testbed.named("/roles/workstation/kubeconfig");
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let context = text.lines().find_map(|line| line.trim().strip_prefix("current-context: ")).unwrap();
    // k9s has the kubeconfig of its flag or of KUBECONFIG, and an empty text when it takes the default.
    for (variable, home) in [(kubeconfig.as_str(), false), ("", true)] {
        let dir = tempfile::tempdir().unwrap();
        let env = [
            ("NAME", "shop"),
            ("NAMESPACE", "-"),
            ("CONTEXT", context),
            ("CLUSTER", "c"),
            ("USER", "u"),
            ("GROUPS", ""),
            ("KUBECONFIG", variable),
        ];
        let (command, args) = plugin(&env);
        assert_eq!(command, "cpg");
        if home {
            write(&dir.path().join(".kube/config"), &text);
        }
        let mut line = crate::kube::alone(dir.path());
        line.args(&args).env("CPG_FLUSH_INTERVAL", "1h").env("CPG_DEBUG", "true");
        let Some(mut terminal) = Terminal::new(dir.path(), &line) else { return };
        testbed.call("GET", "/following?n=1&timeout=20", "");
        inject(&testbed, &[denied(), crate::live::marker()]);
        terminal.shows("unknown_protocol");
        terminal.press("\u{3}");
        terminal.holds();
        assert_eq!(policies(dir.path()), [ONE]);
        terminal.press("\r");
        let screen = terminal.ends(0);
        let root = std::fs::canonicalize(dir.path().join("policies")).unwrap();
        assert!(screen.contains(&format!("output: {}", root.display())), "{screen}");
        assert!(screen.contains("created    shop/web.yaml") && !screen.contains("<killed>"), "{screen}");
    }
    // Without a terminal the same line ends with its summary.
    let dir = tempfile::tempdir().unwrap();
    let (_, args) = plugin(&[("NAME", "shop"), ("CONTEXT", context), ("KUBECONFIG", &kubeconfig)]);
    let mut line = crate::kube::alone(dir.path());
    let running = Running::new(line.args(&args).args(["--flush-interval", "100ms"]));
    testbed.call("GET", "/following?n=1&timeout=20", "");
    inject(&testbed, &[denied()]);
    until("the need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r == [ONE]));
    running.signal("-TERM");
    let ran = running.end().code(0).says("1 created");
    assert!(!ran.stderr.contains(HELD), "{}", ran.stderr);
    // The row of all namespaces in k9s is called so.
    let running = following(&testbed, dir.path(), "/kubeconfig", &["-n", "all"]);
    running.signal("-TERM");
    running.end().code(0).says("--namespace all is the one that is called all");
}
