//! `coverage.json`, which stands beside the evidence: `docs/evidence.md`.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::format::{Row, VERSION, gaps_of, rows_of, versioned};
use super::{shown, text_of};
use crate::coverage::WatchLog;
use crate::store::{StoreError, set_aside, write_private};
use crate::text::visible;

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    runs: Vec<Run>,
    gaps: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Run {
    from: Timestamp,
    to: Timestamp,
}

/// The log at this path; `None` where there is none. Fails with why it cannot be used.
pub fn load_log(path: &Path) -> Result<Option<WatchLog>, String> {
    text_of(path)?.map(|text| read_log(&text)).transpose()
}

/// Puts a log in the place of the one at this path.
pub fn save_log(path: &Path, log: &WatchLog) -> Result<(), StoreError> {
    write_private(path, &write(log))
}

/// Joins what a run watched into the log at this path, which may be missing. One that cannot be used is set aside
/// and told. Fails with why it is not written.
pub fn join_log(path: &Path, run: &WatchLog) -> Result<(), String> {
    let mut log = match load_log(path) {
        Ok(log) => log.unwrap_or_default(),
        Err(why) => {
            let aside = set_aside(path).map_err(|e| format!("{}: {why} ({e})", path.display()))?;
            tracing::warn!(
                "{} cannot be used: {}; it is {} now",
                shown(path),
                visible(&why, 300),
                shown(&aside)
            );
            WatchLog::default()
        }
    };
    log.join(run);
    save_log(path, &log).map_err(|e| e.to_string())
}

/// The text of the file.
fn write(log: &WatchLog) -> String {
    let runs = log.runs().iter().map(|(from, to)| Run { from: *from, to: *to }).collect();
    let document = Document { version: VERSION, runs, gaps: rows_of(log.gaps()) };
    // Times and texts only: nothing that JSON does not have.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

/// What a file says, or why it cannot be used.
pub fn read_log(text: &str) -> Result<WatchLog, String> {
    let document: Document = versioned(text)?;
    let mut log = WatchLog::default();
    for Run { from, to } in document.runs {
        log.run(from, to);
    }
    log.gaps_mut().join(&gaps_of(document.gaps));
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::{Gap, Reason};
    use crate::names::NodeName;

    #[test]
    fn what_is_written_reads_back_and_joins_in_any_order() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let log = |from, to| {
            let mut log = WatchLog::default();
            log.run(at(from), at(to));
            let node = Some(NodeName::lossy("west/n1"));
            log.gaps_mut().insert(Gap { node, reason: Reason::Reconnect, from: at(from), to: at(from + 1) });
            log
        };
        let (a, b) = (log(10, 20), log(30, 40));
        let (mut one, mut other) = (a.clone(), b.clone());
        one.join(&b);
        other.join(&a);
        assert_eq!(one, other);
        assert_eq!((one.runs().len(), one.gaps().len()), (2, 2));
        one.join(&other);
        assert_eq!(one, other);
        assert_eq!(read_log(&write(&one)), Ok(one));
        assert!(read_log("{\"version\":2}").unwrap_err().contains("version 2"));
        assert!(read_log("{").unwrap_err().contains("damaged"));
    }
}
