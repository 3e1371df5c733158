//! The program against a relay that plays scripts, with faults in them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cpg::demo::{DemoRelay, Masks, Options, Script, Step, from_json, serve, story};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::demo::in_words;
use crate::support::{Line, Ran, cpg, denied, pod, rules, tree};

/// A relay in this process, until it is dropped.
pub(crate) struct Serving {
    pub(crate) relay: DemoRelay,
    pub(crate) address: String,
    /// Ends the relay when it goes.
    _runtime: Runtime,
}

pub(crate) fn serving(relay: DemoRelay) -> Serving {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(serve(listener, relay.clone(), std::future::pending()));
    Serving { relay, address, _runtime: runtime }
}

/// A script that sends these flows.
pub(crate) fn sends(lines: &[Line]) -> Script {
    Script::of(lines.iter().map(|line| from_json::response(&line.0.to_string()).expect("a flow")))
}

impl Serving {
    /// Follows this relay; a later flag wins over an earlier one.
    pub(crate) fn generate(&self, dir: &Path, args: &[&str]) -> Running {
        let common = ["generate", "--debug", "--server", &self.address, "--flush-interval", "200ms"];
        Running::new(cpg(dir).args([&common, args].concat()))
    }
}

/// The program while it runs, with what it said so far.
pub(crate) struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Running {
    pub(crate) fn new(command: &mut Command) -> Self {
        Self::to(command, Stdio::null())
    }

    /// With its standard output in a file.
    pub(crate) fn to(command: &mut Command, stdout: impl Into<Stdio>) -> Self {
        let mut child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let (into, from) = (Arc::clone(&said), BufReader::new(child.stderr.take().unwrap()));
        let reader = std::thread::spawn(move || {
            for line in from.lines().map_while(Result::ok) {
                *into.lock().unwrap() += &(line + "\n");
            }
        });
        Self { child, said, reader }
    }

    /// Waits until it has said this.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        until(text, || self.said.lock().unwrap().contains(text));
    }

    /// Waits until it has said this so many times.
    #[track_caller]
    pub(crate) fn times(&self, text: &str, times: usize) {
        until(text, || self.said.lock().unwrap().matches(text).count() >= times);
    }

    /// Waits for the first line with this text.
    #[track_caller]
    pub(crate) fn line(&self, text: &str) -> String {
        self.says(text);
        let said = self.said.lock().unwrap();
        said.lines().find(|line| line.contains(text)).unwrap().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// All of them at once, from one shell.
    pub(crate) fn signals(&self, names: &[&str]) {
        let pid = self.child.id();
        let script: Vec<String> = names.iter().map(|name| format!("kill {name} {pid}")).collect();
        assert!(Command::new("sh").args(["-c", &script.join("; ")]).status().unwrap().success());
    }

    pub(crate) fn end(mut self) -> Ran {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        self.reader.join().unwrap();
        Ran { code, stdout: String::new(), stderr: self.said.lock().unwrap().clone() }
    }
}

/// A flow that becomes no rule and is logged as such: when it was seen, those before it were folded in.
pub(crate) fn marker() -> Line {
    denied().l4(serde_json::json!({"VRRP": {"type": 1}}))
}

/// What the log says of the marker.
pub(crate) const MARKER: &str = "unknown_protocol";

/// Waits until something is so; fails after half a minute.
#[track_caller]
pub(crate) fn until(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn policies(dir: &Path) -> Vec<String> {
    rules(&tree(&dir.join("policies")))
}

pub(crate) const ONE: &str = "shop/app=web egress to app=api TCP/80";

#[test]
fn a_story_over_the_wire_becomes_its_needs() {
    let start = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    let script = Script::of(story::play(start).into_iter().map(|(_, response)| response)).then(Step::Hang);
    let server = serving(DemoRelay::new([script]));
    let dir = tempfile::tempdir().unwrap();
    let child = server.generate(dir.path(), &[]);
    let needs: Vec<String> = {
        let mut needs: Vec<String> = story::needs().iter().map(in_words).collect();
        needs.sort();
        needs
    };
    until("every need is in a file", || {
        rules_or_none(dir.path()).is_some_and(|rules| rules.len() >= needs.len())
    });
    child.signal("-TERM");
    child.end().code(0).says("SIGTERM: writing what was learned");
    assert_eq!(policies(dir.path()), needs);
}

/// The rules that are on disk at this moment; files are whole at any time.
pub(crate) fn rules_or_none(dir: &Path) -> Option<Vec<String>> {
    let files = tree(&dir.join("policies"));
    Some(rules(
        &files.into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "yaml")).collect(),
    ))
}

#[test]
fn a_signal_flushes_the_last_window() {
    for name in ["-TERM", "-INT"] {
        let server =
            serving(DemoRelay::new([sends(&[denied(), denied().drop_event(), marker()]).then(Step::Hang)]));
        let dir = tempfile::tempdir().unwrap();
        let child = server.generate(dir.path(), &["--flush-interval", "1h"]);
        child.says(MARKER);
        child.signal(name);
        child.end().code(0).says("1 created");
        assert_eq!(policies(dir.path()), [ONE]);
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let server = serving(DemoRelay::new([sends(&[denied(), marker()]).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let child = server.generate(dir.path(), &["--flush-interval", "1h"]);
    child.says(MARKER);
    // Another cpg that holds the directory keeps the last window waiting.
    let held = std::fs::File::open(dir.path().join("policies")).unwrap();
    held.lock().unwrap();
    let start = Instant::now();
    child.signal("-TERM");
    child.says("SIGTERM: writing what was learned");
    // Two signals within a moment are one.
    until("it ends at once", || {
        child.signal("-TERM");
        child.said.lock().unwrap().contains("again: ending at once")
    });
    child.end().code(2);
    assert!(start.elapsed() < Duration::from_secs(4), "it waited for the lock");
}

#[test]
fn a_closed_stream_is_not_success_but_what_was_learned_is_kept() {
    let ends = [
        ("ended", Step::EndOk),
        ("status", Step::EndWith(tonic::Status::unavailable("going away"))),
        ("cut", Step::Cut),
    ];
    for (what, step) in ends {
        let server = serving(DemoRelay::new([sends(&[denied()])
            .then(Step::Pause(Duration::from_millis(300)))
            .then(step)]));
        let dir = tempfile::tempdir().unwrap();
        let child = server.generate(dir.path(), &["--flush-interval", "1h", "--no-reconnect"]);
        child.end().code(2).says("NOT DONE: the stream of the relay ended");
        assert_eq!(policies(dir.path()), [ONE], "{what}");
    }
}

#[test]
fn a_relay_that_refuses_the_field_mask_is_asked_without() {
    let refusals = [
        Masks::Refuse(tonic::Status::unknown("invalid fieldmask")),
        Masks::RefuseByNode,
        Masks::Ignore,
        Masks::Honour,
    ];
    for masks in refusals {
        let asks_twice = matches!(masks, Masks::Refuse(_) | Masks::RefuseByNode);
        let options = Options { masks, ..Options::default() };
        let server =
            serving(DemoRelay::with([sends(&[denied(), denied().drop_event()]).then(Step::Hang)], options));
        let dir = tempfile::tempdir().unwrap();
        let child = server.generate(dir.path(), &[]);
        until("the need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r == [ONE]));
        child.signal("-TERM");
        child.end().code(0);
        let requests = server.relay.requests();
        assert!(requests[0].field_mask.is_some());
        assert_eq!(requests.len(), if asks_twice { 2 } else { 1 });
        assert!(requests.get(1).is_none_or(|r| r.field_mask.is_none()));
    }
}

#[test]
fn the_whitelist_and_the_filter_are_of_one_mind() {
    let lines =
        [denied(), denied().from(pod("pay", "bill", &["k8s:app=bill"])).to(pod("pay", "x", &["k8s:app=x"]))];
    let server = serving(DemoRelay::new([sends(&lines).then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    let child = server.generate(dir.path(), &["-n", "shop"]);
    until("the need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r == [ONE]));
    child.signal("-TERM");
    child.end().code(0).says("cpg: 1 flow in");
    assert_eq!(server.relay.flows_sent(), 1, "the relay keeps back what nobody asked for");
    let request = &server.relay.requests()[0];
    assert!(request.follow && request.number == 0 && request.since.is_some());
    let kinds: Vec<_> =
        request.whitelist.iter().map(|f| (f.verdict.as_slice(), f.event_type.len(), &f.protocol)).collect();
    let (drops, queries) = ((&[2][..], 3, &vec![]), (&[1, 5][..], 1, &vec!["dns".to_owned()]));
    assert_eq!(kinds, [drops, drops, queries, queries], "drops and DNS queries, of either side");
    let child = server.generate(dir.path(), &["-n", "shop", "--fqdn", "off"]);
    until("another stream", || server.relay.requests().len() > 1);
    child.signal("-TERM");
    child.end().code(0);
    assert!(server.relay.requests()[1].whitelist.iter().all(|f| f.verdict == [2]));
}

#[test]
fn when_nothing_matches_the_relay_is_asked_for_its_namespaces() {
    let options = Options {
        namespaces: vec![("west".into(), "obs".into()), ("west".into(), "pay".into())],
        ..Options::default()
    };
    let server = serving(DemoRelay::with([Script::default().then(Step::Hang)], options));
    let dir = tempfile::tempdir().unwrap();
    let child = server.generate(dir.path(), &["-n", "shop"]);
    until("the stream is open", || !server.relay.requests().is_empty());
    child.signal("-TERM");
    child.end().code(0).says("no drop in shop asked for a rule; namespaces seen: obs, pay");
}

#[test]
fn infrastructure_drops_decide_the_exit_code_after_a_signal_too() {
    let infra = crate::health::now(crate::health::broken());
    let server = serving(DemoRelay::new([sends(&[denied(), infra]).then(Step::Hang)]));
    for (args, code) in [(&["--fail-on-infra-drops"][..], 1), (&[], 0)] {
        let dir = tempfile::tempdir().unwrap();
        let child = server.generate(dir.path(), args);
        until("the need is in a file", || rules_or_none(dir.path()).is_some_and(|r| r == [ONE]));
        child.signal("-TERM");
        child.end().code(code).says("CT_MAP_INSERTION_FAILED");
    }
}

#[test]
fn while_the_directory_is_locked_the_window_stays_open() {
    let server = serving(DemoRelay::new([sends(&[denied()])
        .then(Step::Pause(Duration::from_millis(600)))
        .send_all([denied().port(81), marker()].map(|l| from_json::response(&l.0.to_string()).unwrap()))
        .then(Step::Hang)]));
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("policies")).unwrap();
    let child = server.generate(dir.path(), &[]);
    until("the stream is open", || !server.relay.requests().is_empty());
    let held = std::fs::File::open(dir.path().join("policies")).unwrap();
    held.lock().unwrap();
    child.says(MARKER);
    drop(held);
    until("both needs are in a file", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 2));
    child.signal("-TERM");
    child.end().code(0).says("0 failed");
}

#[test]
fn demo_serve_can_be_followed_by_hand() {
    let dir = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = Running::new(cpg(dir.path()).args(["demo", "--serve", &free]));
    server.says("in another terminal");
    let child =
        Running::new(cpg(dir.path()).args(["generate", "--server", &free, "--flush-interval", "200ms"]));
    until("a file", || rules_or_none(dir.path()).is_some_and(|r| r.len() > 3));
    child.signal("-TERM");
    child.end().code(0);
    server.signal("-TERM");
    server.end().code(0);
}

#[test]
fn after_every_end_the_stream_goes_on() {
    let two = denied().port(81);
    let ends = [
        Step::EndOk,
        Step::EndWith(tonic::Status::unavailable("going away")),
        Step::EndWith(tonic::Status::unknown("?")),
        Step::Cut,
    ];
    for end in ends {
        let server = serving(DemoRelay::new([
            sends(&[denied()]).then(end),
            sends(std::slice::from_ref(&two)).then(Step::Hang),
        ]));
        let dir = tempfile::tempdir().unwrap();
        let child = server.generate(dir.path(), &[]);
        until("both needs are in a file", || rules_or_none(dir.path()).is_some_and(|r| r.len() == 2));
        child.signal("-TERM");
        let ran = child.end().code(0).says("the stream of the relay ended").says("connected again after");
        for once in ["the stream of the relay ended", "connected again after"] {
            assert_eq!(ran.stderr.matches(once).count(), 1, "{}", ran.stderr);
        }
        assert_eq!(server.relay.requests().len(), 2);
    }
}

#[test]
fn what_will_never_be_served_is_not_asked_for_again() {
    for status in [
        tonic::Status::invalid_argument("no"),
        tonic::Status::unimplemented("no"),
        tonic::Status::permission_denied("no"),
        tonic::Status::unauthenticated("no"),
    ] {
        let server = serving(DemoRelay::new([sends(&[denied()]).then(Step::EndWith(status))]));
        let dir = tempfile::tempdir().unwrap();
        server.generate(dir.path(), &[]).end().code(2).says("NOT DONE: the stream of the relay ended");
        assert_eq!((policies(dir.path()), server.relay.requests().len()), (vec![ONE.to_owned()], 1));
    }
}
