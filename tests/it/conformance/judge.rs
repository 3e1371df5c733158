//! Cilium's own engine, running.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use cpg::engine::question::{Answer, Answers, Question, Refused};
use cpg::policy::spec::Version;
use serde_json::Value;

/// A running judge.
pub(super) struct Judge {
    pub(super) version: Version,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Judge {
    pub(super) fn start(binary: &str, version: Version) -> Self {
        let mut child = Command::new(binary)
            .arg("decide")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{binary} cannot be started: {e}"));
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self { version, child, input, output }
    }

    pub(super) fn send(&mut self, question: &Question) {
        let line = serde_json::to_string(question).expect("a question is JSON");
        writeln!(self.input, "{line}").and_then(|()| self.input.flush()).expect("the judge reads");
    }

    pub(super) fn receive(&mut self) -> Result<Answers, String> {
        let (mut answers, mut failed) = (Answers::default(), None);
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).expect("the judge writes"), 0, "the judge has ended");
            let value: Value = serde_json::from_str(&line).expect("the judge writes JSON");
            let object = value.as_object().expect("the judge writes objects");
            if object.is_empty() {
                break;
            }
            if let Some(refused) = object.get("refused") {
                answers.refused = serde_json::from_value::<Vec<Refused>>(refused.clone()).expect("refused");
            } else if object.contains_key("from") {
                answers.flows.push(serde_json::from_value::<Answer>(value).expect("an answer"));
            } else {
                failed = Some(line);
            }
        }
        match failed {
            Some(line) => Err(line),
            None => Ok(answers),
        }
    }

    pub(super) fn ask(&mut self, question: &Question) -> Result<Answers, String> {
        self.send(question);
        self.receive()
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
