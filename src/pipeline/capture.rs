//! A capture: everything that a stream gives, as it came, to a file or to standard output.
//!
//! ```text
//!  Live (reconnect, resume, what came already) ─▶ tap ─▶ line ─▶ file, put in its place at the end
//! ```

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

use super::feed::lock;
use super::live::Tap;
use super::{
    Common, Counters, Exit, FeedEnd, Fold, Live, Stop, lost_source_name, tasks, verdict_name, watched,
};
use crate::classify::Filters;
use crate::coverage::Coverage;
use crate::source::whole::Whole;
use crate::store::CaptureFile;
use crate::text::{count, grouped, visible};

/// The task that reads the stream.
const READER: &str = "reader";
/// The task that writes.
const WRITER: &str = "writer";
/// After the end of the stream, what was read has so long to reach the disk.
const LAST_LINES: Duration = Duration::from_secs(60);

/// Where a capture goes.
#[derive(Debug)]
pub enum CaptureSink {
    /// A file that is put in its place at the end.
    File(Box<CaptureFile>),
    /// Standard output, line by line.
    Stdout,
}

/// A capture that has ended.
#[derive(Debug)]
pub struct Captured {
    /// What was counted of the stream; flows by their verdict, dropped ones too, are in `not_dropped`.
    pub counters: Counters,
    /// What was written, or why it was not.
    pub written: Result<Written, String>,
    /// What was watched and what was missed.
    pub coverage: Option<Coverage>,
    /// Why it ended.
    pub end: FeedEnd,
    /// What else went wrong.
    pub faults: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The file; `None` of standard output.
    pub path: Option<PathBuf>,
    /// Bytes of the file, packed, or of standard output.
    pub bytes: u64,
    /// Lines that are flows.
    pub flows: u64,
    /// Lines of the relay and of Hubble about themselves.
    pub others: u64,
    /// Lines that leave something out that this version does not know.
    pub partial: u64,
    /// Messages that no line could be made of.
    pub unwritable: u64,
}

/// Writes everything that `live` gives to `sink`, until it ends, `stop` is asked for, or there are so many flows.
pub async fn capture(
    live: Live,
    common: Common,
    sink: CaptureSink,
    most: Option<u64>,
    stop: Stop,
) -> Captured {
    let started = Instant::now();
    let (tap, messages) = Tap::new();
    let live = live.tapped(tap);
    let watch = live.watch();
    let vitals = Arc::clone(&common.vitals);
    let fold = Arc::new(Mutex::new(Fold::new(Arc::new(Filters::default())).sharing(Arc::new(common))));
    vitals.attach(std::slice::from_ref(&fold));
    let asked = stop.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let written = tasks::guarded(WRITER, || write(messages, sink, most, &asked)).and_then(|w| w);
        // Without a writer there is nothing to read for.
        if written.is_err() {
            asked.stop();
        }
        written
    });
    let read = tokio::spawn(tasks::named(READER, live.run(Arc::clone(&fold), stop.clone()))).await;
    let until = Timestamp::now();
    // The stream ended, and with it the tap: the writer comes to its end.
    let written = match tokio::time::timeout(LAST_LINES, writing).await {
        Ok(written) => written.unwrap_or_else(|e| Err(tasks::ended(WRITER, e))),
        Err(_) => Err(format!("the last lines were not on disk after {} s", LAST_LINES.as_secs())),
    };
    vitals.detach();
    let counters = std::mem::take(lock(&fold).counters_mut());
    Captured {
        counters,
        written,
        coverage: watch.map(|watch| super::live::watch(&watch).coverage(until)),
        end: read.unwrap_or_else(|e| FeedEnd::Lost(tasks::ended(READER, e))),
        faults: Vec::new(),
        elapsed: started.elapsed(),
    }
}

/// Writes until the messages end, or there are enough; then what is written is completed.
fn write(
    mut messages: Receiver<Bytes>,
    mut sink: CaptureSink,
    most: Option<u64>,
    stop: &Stop,
) -> Result<Written, String> {
    let whole = Whole::new().map_err(|e| format!("cpg itself failed: {e}"))?;
    let mut written = Written::default();
    let mut line = Vec::new();
    while let Some(raw) = messages.blocking_recv() {
        if most.is_some_and(|most| written.flows >= most) {
            continue;
        }
        line.clear();
        match whole.line(&raw, &mut line) {
            Ok(told) => {
                *if told.is_flow { &mut written.flows } else { &mut written.others } += 1;
                written.partial += u64::from(told.is_partial);
            }
            Err(e) => {
                tracing::debug!("no line of the capture from this message: {e}");
                written.unwritable += 1;
                continue;
            }
        }
        match &mut sink {
            CaptureSink::File(file) => file.write(&line).map_err(|e| nothing_kept(&e))?,
            CaptureSink::Stdout => {
                let mut stdout = std::io::stdout().lock();
                if let Err(e) = stdout.write_all(&line).and_then(|()| stdout.flush()) {
                    if e.kind() != std::io::ErrorKind::BrokenPipe {
                        return Err(format!("standard output cannot be written: {e}"));
                    }
                    // Who read it has enough.
                    stop.stop();
                    break;
                }
                written.bytes += line.len() as u64;
            }
        }
        if most.is_some_and(|most| written.flows >= most) {
            tracing::info!(flows = written.flows, "--max-flows is reached");
            stop.stop();
        }
    }
    if let CaptureSink::File(file) = sink {
        written.path = Some(file.path().to_owned());
        written.bytes = file.finish().map_err(|e| nothing_kept(&e))?;
    }
    Ok(written)
}

fn nothing_kept(error: &dyn fmt::Display) -> String {
    format!("{error}; what was captured is not kept, and a file that was there is as it was")
}

// === impl Captured ===

impl Captured {
    /// The exit code.
    pub fn exit(&self) -> Exit {
        if self.unfinished().is_empty() { Exit::Done } else { Exit::Incomplete }
    }

    /// Everything that kept cpg from doing its work, one sentence each.
    pub fn unfinished(&self) -> Vec<String> {
        let mut all = Vec::new();
        match &self.end {
            FeedEnd::Stopped | FeedEnd::Captures(_) => {}
            FeedEnd::Stream(end) => all.push(format!("the stream of the relay ended: {end}")),
            FeedEnd::Gone { lasted, why } => {
                let lasted = humantime::format_duration(Duration::from_secs(lasted.as_secs()));
                all.push(format!("the relay was out of reach for the last {lasted}: {why}"));
            }
            FeedEnd::Lost(why) => all.push(format!("cpg itself failed: {}", visible(why, 300))),
        }
        all.extend(self.written.as_ref().err().cloned());
        if let Ok(Written { unwritable: messages @ 1.., .. }) = &self.written {
            all.push(format!("no line could be made of {}", count(*messages, "message")));
        }
        all.extend(self.faults.iter().cloned());
        all
    }

    /// The same facts as one JSON object.
    pub fn to_json(&self) -> Value {
        let c = &self.counters;
        let written = self.written.as_ref().ok();
        let by_verdict = c.not_dropped.iter().map(|(k, n)| (verdict_name(*k).to_owned(), Value::from(*n)));
        let lost = c.lost.iter().map(|(k, n)| (lost_source_name(*k).to_owned(), Value::from(*n)));
        json!({
            "file": written.and_then(|w| w.path.as_ref()).map(|path| path.display().to_string()),
            "bytes": written.map(|w| w.bytes),
            "flows": written.map(|w| w.flows),
            "other_lines": written.map(|w| w.others),
            "partial_lines": written.map(|w| w.partial),
            "unwritable": written.map(|w| w.unwritable),
            "by_verdict": by_verdict.collect::<serde_json::Map<_, _>>(),
            "lost_events": lost.collect::<serde_json::Map<_, _>>(),
            "repeated": c.repeated,
            "undecodable": c.undecodable,
            "reconnects": c.reconnects,
            "rotations": c.rotations,
            "coverage": self.coverage.as_ref().map(watched::json),
            "unfinished": self.unfinished(),
            "elapsed_seconds": self.elapsed.as_secs_f64(),
        })
    }
}

impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counters;
        let seconds = self.elapsed.as_secs_f64();
        if let Ok(written) = &self.written {
            let place = match &written.path {
                Some(path) => visible(&path.display().to_string(), 1_000).into_owned(),
                None => "standard output".to_owned(),
            };
            let (flows, bytes) = (count(written.flows, "flow"), grouped(written.bytes));
            writeln!(f, "cpg: {flows} captured in {seconds:.1} s: {place}, {bytes} bytes")?;
            if written.partial > 0 {
                let lines = count(written.partial, "line");
                writeln!(f, "  {lines} without something that this version does not know")?;
            }
        } else {
            writeln!(f, "cpg: nothing captured in {seconds:.1} s")?;
        }
        for (verdict, flows) in &c.not_dropped {
            writeln!(f, "    {:<12} {:>9}", verdict_name(*verdict), grouped(*flows))?;
        }
        for (name, n) in [
            ("came once more and were left out", c.repeated),
            ("messages that could not be decoded", c.undecodable),
            ("times connected again", c.reconnects),
        ] {
            if n > 0 {
                writeln!(f, "  {name:<49} {:>9}", grouped(n))?;
            }
        }
        for (source, n) in &c.lost {
            let (events, source) = (count(*n, "event"), lost_source_name(*source));
            writeln!(f, "  lost by Hubble: {events} ({source}): flows among them are not in the capture")?;
        }
        if let Some(coverage) = &self.coverage {
            watched::lines(coverage, f)?;
        }
        for why in self.unfinished() {
            writeln!(f, "  NOT DONE: {}", visible(&why, 1_000))?;
        }
        Ok(())
    }
}
