//! Faults in a random order while known flows are dropped, against real observers behind the real Relay.
//!
//! The judge is the log of what was injected: each flow has a port of its own, so its need can be found in
//! the policies. A flow that is in none must lie in a gap that the summary reports, and must have been
//! injected while something was on that the real parts cannot deliver through: an agent that is killed takes
//! its ring along, and a ring that is written over is gone. `CPG_FAULTS=60 CPG_SEED=7` runs more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use crate::kube::alone;
use crate::live::Running;
use crate::support::{capture, cpg, denied, pod, skipped, tree};
use crate::testbed::{MISSING, Testbed, program};

/// Events that the ring of each node holds: half a minute of what is injected.
const RING: usize = 1023;
/// Between two flows of a node.
const STEP: Duration = Duration::from_millis(150);

/// Every fault: an enum, and a list of each kind.
macro_rules! faults {
    ($($kind:ident: [$($fault:ident),* $(,)?],)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Fault {
            $($($fault,)*)*
        }

        $(const $kind: &[Fault] = &[$(Fault::$fault),*];)*
    };
}

faults! {
    PLAIN: [
        RelayRestart,
        RelayKill,
        RelayFreeze,
        NodeKill,
        NodeRestart,
        NodeFreeze,
        PeerGoneAndBack,
        NodeJoinsOrLeaves,
        RingOverflow,
        DiskFull,
        CpgStopped,
    ],
    // Only where cpg comes through the API server.
    KUBE: [ForwardCut, ApiServerRestart],
}

use Fault::*;

/// One flow: its node, its port, and when it was written to the node's ring.
#[derive(Debug, Clone)]
struct Injected {
    node: usize,
    port: u16,
    from: Timestamp,
    to: Timestamp,
    fault: usize,
    /// The relay knew the node then.
    known: bool,
}

/// The cluster under fault, the program that watches it, and the log.
struct Scene {
    testbed: Testbed,
    running: Running,
    /// Where the policies are, as this process sees them.
    out: PathBuf,
    /// Keeps the file system of the policies when the program has ended.
    _held: Option<File>,
    log: Vec<Injected>,
    /// Nodes that run and are not frozen.
    alive: BTreeSet<usize>,
    /// Of these, those that the relay knows.
    known: BTreeSet<usize>,
    next_port: u16,
    /// Nodes and times at which their agents did not run.
    blind: Vec<(usize, Timestamp)>,
    fault: usize,
    kube: bool,
    random: u64,
}

impl Scene {
    fn random(&mut self, below: usize) -> usize {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn proc(&self, name: &str, action: &str) {
        self.testbed.call("POST", &format!("/proc/{name}/{action}"), "");
    }

    /// One of the nodes that run and are known, but for the first, so that the relay always has one.
    fn some_node(&mut self) -> usize {
        let nodes: Vec<usize> =
            self.known.iter().copied().filter(|n| *n > 1 && self.alive.contains(n)).collect();
        nodes[self.random(nodes.len())]
    }

    /// Drops so many connections on a node.
    fn inject(&mut self, node: usize, flows: usize) {
        let ports: Vec<u16> = (0..flows).map(|i| self.next_port + u16::try_from(i).unwrap()).collect();
        self.next_port += u16::try_from(flows).unwrap();
        // Small policies: subjects of their own for each fault, and for each 50 ports.
        let lines: Vec<_> = ports
            .iter()
            .map(|port| {
                let name = format!("f{}-{}-n{node}", self.fault, port / 50);
                denied().from(pod("shop", &name, &[&format!("k8s:app={name}")])).port(*port)
            })
            .collect();
        let lines: Vec<_> = lines.into_iter().map(|l| l.set("/node_name", Value::Null)).collect();
        let from = Timestamp::now();
        self.testbed.call("POST", &format!("/node/node-{node}/inject?now=1"), &capture(&lines));
        let (to, fault) = (Timestamp::now(), self.fault);
        let known = self.known.contains(&node);
        self.log.extend(ports.into_iter().map(|port| Injected { node, port, from, to, fault, known }));
    }

    /// Drops connections on every node that can, for a while.
    fn pump(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            for node in self.alive.clone() {
                self.inject(node, 1);
            }
            std::thread::sleep(STEP);
        }
    }

    /// Drops connections until the newest of every node is in a policy: the fault is over.
    fn settle(&mut self, what: Fault) {
        let start = Instant::now();
        loop {
            for node in self.known.clone() {
                self.inject(node, 1);
            }
            let last: Vec<u16> = self.log.iter().rev().take(self.known.len()).map(|i| i.port).collect();
            let until = Instant::now() + Duration::from_secs(3);
            while Instant::now() < until {
                let delivered = delivered(&self.out);
                if last.iter().all(|port| delivered.contains_key(port)) {
                    return;
                }
                std::thread::sleep(STEP);
            }
            assert!(start.elapsed() < Duration::from_secs(150), "{what:?}: flows do not arrive any more");
        }
    }

    fn inflict(&mut self, fault: Fault) {
        let second = Duration::from_secs(1);
        match fault {
            RelayRestart => self.proc("relay", "restart"),
            RelayKill => {
                self.proc("relay", "kill");
                self.pump(second);
                self.proc("relay", "start");
            }
            RelayFreeze => {
                self.proc("relay", "stop");
                self.pump(4 * second);
                self.proc("relay", "cont");
            }
            NodeKill => {
                let node = self.some_node();
                self.proc(&format!("node-{node}"), "kill");
                self.alive.remove(&node);
                self.blind.push((node, Timestamp::now()));
                self.pump(second);
                self.proc(&format!("node-{node}"), "start");
                self.alive.insert(node);
            }
            NodeRestart => {
                let node = self.some_node();
                self.proc(&format!("node-{node}"), "restart");
            }
            NodeFreeze => {
                let node = self.some_node();
                self.proc(&format!("node-{node}"), "stop");
                self.alive.remove(&node);
                self.pump(3 * second);
                self.proc(&format!("node-{node}"), "cont");
                self.alive.insert(node);
            }
            PeerGoneAndBack => {
                let node = self.some_node();
                self.leave(node);
                self.pump(2 * second);
                self.join(node);
            }
            NodeJoinsOrLeaves => {
                let last = self.alive.iter().max().copied().unwrap();
                if self.known.contains(&last) {
                    self.leave(last);
                    self.pump(2 * second);
                }
                self.join(last);
            }
            RingOverflow => {
                let node = self.some_node();
                for _ in 0..2 {
                    self.inject(node, RING + 500);
                }
                // The agent tells of losses once a second, with the next event.
                self.pump(2 * second);
            }
            DiskFull => {
                let fill = self.out.join("fill");
                // As much as fits.
                let _ = std::io::copy(&mut std::io::repeat(7), &mut File::create(&fill).unwrap());
                self.pump(2 * second);
                std::fs::remove_file(fill).unwrap();
            }
            CpgStopped => {
                self.running.signal("-STOP");
                self.pump(3 * second);
                self.running.signal("-CONT");
            }
            ForwardCut => {
                assert!(self.kube);
                self.testbed.call("POST", "/kubelet/cut", "");
            }
            ApiServerRestart => self.proc("apiserver", "restart"),
        }
    }

    fn leave(&mut self, node: usize) {
        self.testbed.call("POST", &format!("/peer/del?name=node-{node}"), "");
        self.known.remove(&node);
    }

    fn join(&mut self, node: usize) {
        let ip = self.address(node);
        self.testbed.call("POST", &format!("/peer/add?name=node-{node}&ip={ip}"), "");
        self.known.insert(node);
    }

    fn address(&self, node: usize) -> String {
        let state: Value = serde_json::from_str(&self.testbed.call("GET", "/state", "")).unwrap();
        let name = format!("node-{node}");
        let part = state["parts"].as_array().unwrap().iter().find(|p| p["name"] == name.as_str()).unwrap();
        part["listen"].as_str().unwrap().rsplit_once(':').unwrap().0.to_owned()
    }
}

/// The ports that are in policies, with how often: twice would be one rule too many.
fn delivered(out: &Path) -> BTreeMap<u16, usize> {
    let mut ports = BTreeMap::new();
    for text in tree(out).values() {
        for part in text.split("port: \"").skip(1) {
            if let Ok(port) = part.split('"').next().unwrap_or_default().parse() {
                *ports.entry(port).or_default() += 1;
            }
        }
    }
    ports
}

/// The program on a small file system of its own, where that is allowed.
fn start(dir: &Path, args: &[String], kube: bool) -> (Running, PathBuf, Option<File>) {
    let policies = dir.join("policies");
    std::fs::create_dir(&policies).unwrap();
    let can = Command::new("unshare").args(["--mount", "true"]).output();
    let plain = if kube { alone(dir) } else { cpg(dir) };
    if !can.is_ok_and(|o| o.status.success()) {
        let mut command = plain;
        return (Running::new(command.args(args)), policies, None);
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs -o size=24m none policies && exec \"$@\"", "sh"]);
    command.arg(plain.get_program()).args(args).current_dir(dir);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let running = Running::new(&mut command);
    running.says("connected; following");
    let seen = format!("/proc/{}/root{}", running.pid(), policies.display());
    let held = File::open(seen).unwrap();
    let out = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    (running, out, Some(held))
}

fn run(kube: bool, faults: &[Fault], random: u64) {
    let program = program().unwrap();
    let (nodes, ring) = (4, RING.to_string());
    let mut up = vec!["-nodes", "4", "-ring", &ring];
    up.extend(kube.then_some("-kube"));
    let testbed = Testbed::up(&program, &up);
    // The last node joins late.
    testbed.call("POST", &format!("/peer/del?name=node-{nodes}"), "");
    let dir = tempfile::tempdir().unwrap();
    let mut args: Vec<String> =
        ["generate", "--json", "--flush-interval", "200ms", "--health-interval", "1s"]
            .map(str::to_owned)
            .to_vec();
    args.extend(["--rotate-interval", "20s", "--timeout", "3s", "--no-preflight"].map(str::to_owned));
    match kube {
        true => args.extend(["--kubeconfig".to_owned(), testbed.named("/kubeconfig")]),
        false => args.extend(["--server".to_owned(), testbed.named("/relay")]),
    }
    let (running, out, held) = start(dir.path(), &args, kube);
    testbed.call("GET", "/connected?n=3&timeout=20", "");
    let disk = held.is_some();
    let mut scene = Scene {
        testbed,
        running,
        out,
        _held: held,
        log: Vec::new(),
        alive: (1..=nodes).collect(),
        known: (1..nodes).collect(),
        next_port: 1,
        blind: Vec::new(),
        fault: 0,
        kube,
        random,
    };
    let mut table: Vec<(Fault, f64)> = Vec::new();
    scene.alive.remove(&nodes);
    scene.settle(faults[0]);
    scene.alive.insert(nodes);
    for (number, fault) in faults.iter().enumerate() {
        if *fault == DiskFull && !disk {
            skipped("a full disk needs root (unshare --mount)");
            continue;
        }
        let start = Instant::now();
        scene.fault = number + 1;
        scene.pump(STEP);
        scene.inflict(*fault);
        scene.settle(*fault);
        table.push((*fault, start.elapsed().as_secs_f64()));
        println!("{:>3} {fault:?} {:.1} s", number + 1, start.elapsed().as_secs_f64());
    }
    // A node that never joined is in no log that counts.
    let joined = scene.known.contains(&nodes);
    // The newest flows may be under way when the program is told to end.
    scene.fault = 0;
    scene.settle(faults[0]);
    scene.pump(Duration::from_secs(4));
    scene.settle(faults[0]);
    scene.running.signal("-TERM");
    let Scene { running, log, out, blind, _held, .. } = scene;
    let ran = running.end().code(0);
    judge(&table, &log, &blind, &out, &ran.stderr, |i| joined || i.node != nodes);
}

/// Prints the table, and fails when a flow was lost without a word or the counts are wrong.
#[track_caller]
fn judge(
    table: &[(Fault, f64)],
    log: &[Injected],
    blind: &[(usize, Timestamp)],
    out: &Path,
    said: &str,
    counts: impl Fn(&Injected) -> bool,
) {
    let summary = said.lines().rev().find(|line| line.contains("\"summary\"")).expect("a summary");
    let summary: Value = serde_json::from_str(summary).unwrap();
    let gaps: Vec<_> = summary["coverage"]["gaps"].as_array().unwrap().clone();
    let missed = |node: usize, from: Timestamp, to: Timestamp| {
        let node = format!("node-{node}");
        gaps.iter().any(|gap| {
            let time = |key: &str| gap[key].as_str().unwrap().parse::<Timestamp>().unwrap();
            gap["node"].as_str().is_none_or(|n| n == node) && time("from") <= to && from <= time("to")
        })
    };
    let in_gap = |flow: &Injected| missed(flow.node, flow.from, flow.to);
    let ports = delivered(out);
    println!(
        "{:<20} {:>7} {:>9} {:>10} {:>7} {:>14}",
        "fault", "seconds", "injected", "delivered", "in gap", "lost silently"
    );
    let mut wrong = Vec::new();
    let mut sum = [0; 4];
    for (number, (fault, seconds)) in table.iter().enumerate() {
        let of_this: Vec<_> = log.iter().filter(|i| i.fault == number + 1 && counts(i)).collect();
        let missing: Vec<_> = of_this.iter().filter(|i| !ports.contains_key(&i.port)).collect();
        let silent: Vec<_> = missing.iter().filter(|i| !in_gap(i)).collect();
        let row = [of_this.len(), of_this.len() - missing.len(), missing.len() - silent.len(), silent.len()];
        println!(
            "{:<20} {seconds:>7.1} {:>9} {:>10} {:>7} {:>14}",
            format!("{fault:?}"),
            row[0],
            row[1],
            row[2],
            row[3]
        );
        row.iter().zip(&mut sum).for_each(|(n, sum)| *sum += n);
        if let Some(first) = silent.first() {
            wrong.push(format!("{fault:?} (number {}): lost silently: {first:?}", number + 1));
        }
        // What the real parts can deliver has to be there. A node that the relay does not know is none of them:
        // what it had is read when it joins, unless it is killed before.
        let due = missing.iter().find(|i| i.known);
        if let (false, Some(due)) = (matches!(fault, RingOverflow | NodeKill | NodeRestart), due) {
            wrong.push(format!("{fault:?} (number {}): not delivered: {due:?}", number + 1));
        }
    }
    println!(
        "{:<20} {:>7.1} {:>9} {:>10} {:>7} {:>14}",
        "all",
        table.iter().map(|t| t.1).sum::<f64>(),
        sum[0],
        sum[1],
        sum[2],
        sum[3]
    );
    for key in ["needs", "repeated", "reconnects", "rotations", "history"] {
        println!("{key}: {}", summary[key]);
    }
    println!(
        "lost events: {}; gaps: {}; watched: {}",
        summary["lost_events"],
        gaps.len(),
        summary["coverage"]["whole"]["percent"]
    );
    for gap in &gaps {
        println!("  {gap}");
    }
    for (node, time) in blind.iter().filter(|(node, time)| !missed(*node, *time, *time)) {
        wrong.push(format!("node-{node} did not run at {time}, and that is in no gap"));
    }
    let twice: Vec<_> = ports.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "in two rules: {twice:?}");
    assert_eq!(summary["needs"].as_u64().unwrap(), ports.len() as u64, "each flow counts once\n{said}");
    assert_eq!(summary["flows"], summary["needs"], "{summary}");
    let warned: Vec<&str> = said.lines().filter(|line| line.contains("\"WARN\"")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{warned:#?}");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// So many, each kind before one comes again.
fn shuffled(kinds: &[Fault], count: usize, seed: u64) -> Vec<Fault> {
    let mut random = seed;
    let mut all = Vec::new();
    while all.len() < count {
        let mut round = kinds.to_vec();
        while !round.is_empty() && all.len() < count {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            all.push(round.remove(usize::try_from(random >> 33).unwrap() % round.len()));
        }
    }
    all
}

#[test]
fn after_every_fault_each_flow_is_in_a_policy_or_in_a_gap() {
    if program().is_none() {
        return skipped(MISSING);
    }
    // Some kinds only, to look into them: CPG_FAULT=RelayKill,NodeKill.
    let only = std::env::var("CPG_FAULT").unwrap_or_default();
    let kinds: Vec<Fault> =
        PLAIN.iter().copied().filter(|f| only.is_empty() || only.contains(&format!("{f:?}"))).collect();
    let (faults, seed) = (number("CPG_FAULTS", kinds.len() as u64), number("CPG_SEED", 1));
    println!("{faults} faults, CPG_SEED={seed}");
    run(false, &shuffled(&kinds, usize::try_from(faults).unwrap(), seed), seed);
}

#[test]
fn the_same_through_a_port_forward() {
    if program().is_none() {
        return skipped(MISSING);
    }
    let seed = number("CPG_SEED", 1);
    let kinds = [KUBE, &[RelayKill]].concat();
    run(true, &shuffled(&kinds, kinds.len(), seed), seed);
}
