//! The explanation for people: as wide as the terminal, in colour only there.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::super::diff::Colours;
use super::{Explained, Line, Status, latest};
use crate::aggregate::Sample;
use crate::coverage::WatchLog;
use crate::evidence::{Across, Entry, Level, State, confidence};
use crate::text::{count, grouped, visible};

/// Where nobody says how wide the terminal is.
const WIDTH: usize = 100;
/// Samples that are shown of each rule; `--output json` has all.
const SAMPLES: usize = 3;

pub(super) fn of(all: &[Explained]) -> String {
    let mut page = Page { out: String::new(), width: width(), colours: Colours::of_stdout() };
    for (i, explained) in all.iter().enumerate() {
        if i > 0 {
            page.out.push('\n');
        }
        page.policy(explained);
    }
    page.out
}

/// `COLUMNS` where it is set, else what the terminal says.
fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    columns.or_else(terminal).unwrap_or(WIDTH).clamp(40, 400)
}

struct Page {
    out: String,
    width: usize,
    colours: Colours,
}

// === impl Page ===

impl Page {
    fn policy(&mut self, explained: &Explained) {
        let head = visible(&explained.subject.to_string(), 1_000).into_owned();
        let head = self.colours.bold(&head);
        self.out += &format!("{head}\n");
        for (path, name) in &explained.files {
            let name = name.as_ref().map(|name| format!(" ({})", visible(name, 253))).unwrap_or_default();
            self.line(2, &format!("{}{name}", visible(&path.display().to_string(), 1_000)));
        }
        if explained.files.is_empty() {
            self.line(2, "no policy file selects it any more");
        }
        match latest(explained) {
            Some((id, session)) => {
                let source = &session.source;
                let cilium = source.cilium.as_deref().map(|v| format!(", {}", visible(v, 100)));
                let about = format!(
                    "latest session {id}: {source}, last flow {}, cpg {}{}",
                    time(session.times.last),
                    visible(&source.cpg, 40),
                    cilium.unwrap_or_default()
                );
                self.line(2, &about);
            }
            None => self.line(2, "no evidence: cpg wrote none of it, or kept none (--no-evidence)"),
        }
        if let Some(watched) = &explained.watched {
            self.watched(watched);
        }
        for line in &explained.lines {
            self.out.push('\n');
            self.rule(line);
        }
        if explained.filtered > 0 {
            self.out.push('\n');
            self.line(2, &format!("{} left out by the filters", count(explained.filtered as u64, "rule")));
        }
        let left_out = explained.evidence.1.left_out;
        if left_out > 0 {
            self.line(2, &format!("the evidence of {} had no room in the file", count(left_out, "rule")));
        }
    }

    /// What runs watched of the relay, so that nobody takes the rest of the time for quiet.
    fn watched(&mut self, log: &WatchLog) {
        let (Some((from, _)), Some((_, to))) = (log.runs().first(), log.runs().last()) else { return };
        let runs = count(log.runs().len() as u64, "run");
        self.line(2, &format!("the relay was watched in {runs} from {from:.0} to {to:.0}"));
        if let Some(longest) = log.gaps().iter().max_by_key(|gap| gap.to.duration_since(gap.from)) {
            let node = longest.node.as_ref().map_or("any node", |node| node.as_str());
            let about = format!(
                "{} in it, of which no flow is known: the longest {:.1} s from {:.0} on {} ({})",
                count(log.gaps().len() as u64, "gap"),
                longest.to.duration_since(longest.from).as_secs_f64(),
                longest.from,
                visible(node, 253),
                longest.reason.words()
            );
            self.line(2, &about);
        }
    }

    fn rule(&mut self, line: &Line) {
        let words = self.colours.cyan(&line.words());
        // Not wrapped: it is what people search for and copy.
        self.out += &format!("  {words}\n");
        let place = match &line.place {
            Some((path, number)) => {
                let number = number.map(|n| format!(":{n}")).unwrap_or_default();
                format!("{}{number}", visible(&path.display().to_string(), 1_000))
            }
            None => "in no file".to_owned(),
        };
        match &line.status {
            Status::Seen => self.line(4, &place),
            Status::ByHand => self.line(4, &format!("{place}: written by hand, no flow is known for it")),
            Status::Covered(by) => {
                self.line(4, &format!("{place}: allowed by {}", visible(by, 500)));
            }
            Status::Orphan(since) => {
                let since = match since {
                    Some(since) => format!(", noticed {}", time(Some(*since))),
                    None if matches!(line.noted(), Some(State::Written)) => {
                        ", not noticed by a run yet".to_owned()
                    }
                    None => String::new(),
                };
                let written = line.entry.as_ref().is_some_and(|entry| entry.written.first.is_some());
                let what = if written {
                    "somebody removed or narrowed it"
                } else {
                    "what allowed it is gone, and cpg never wrote it"
                };
                let text = format!("{place}: {what}{since}");
                let text = self.colours.yellow(&text);
                self.line(4, &text);
            }
        }
        if let Some(entry) = &line.entry {
            self.seen(entry);
        }
    }

    fn seen(&mut self, entry: &Entry) {
        if let Some(from) = &entry.inferred {
            self.line(4, &format!("written with --both-sides for {}", visible(from, 1_000)));
        }
        if let Some(Across { since, closed: Some(closed) }) = &entry.across {
            let text = format!("the next drop will come at the other end: {}", visible(closed, 1_000));
            let text = self.colours.yellow(&format!("{text}, noticed {since:.0}"));
            self.line(4, &text);
        }
        if entry.sessions.is_empty() && entry.older.sessions == 0 {
            self.line(4, "no flow was dropped here");
            return;
        }
        let all = entry.seen();
        let kinds: Vec<String> =
            all.kinds().iter().map(|(word, n)| format!("{word} {}", grouped(*n))).collect();
        let about = if entry.connections.is_exact() { "" } else { "about " };
        let connections = count(entry.connections.count(), "connection");
        let sessions = entry.sessions.len() as u64 + entry.older.sessions;
        self.line(
            4,
            &format!(
                "{about}{connections}, {} ({}) in {}, {} to {}",
                count(entry.packets(), "packet"),
                kinds.join(", "),
                count(sessions, "session"),
                time(all.times.first),
                time(all.times.last)
            ),
        );
        let confidence = confidence(entry);
        let word = confidence.level.as_str();
        let word = if confidence.level == Level::High {
            self.colours.green(word)
        } else {
            self.colours.yellow(word)
        };
        self.line(4, &format!("confidence {word}: {}", confidence.why));
        let mut samples: Vec<&Sample> = entry.samples.iter().map(|(_, sample)| sample).collect();
        samples.sort();
        for sample in samples.iter().take(SAMPLES) {
            let text = format!(
                "{}  {} → {}  on {}  {}",
                time(sample.time),
                visible(&sample.source, 300),
                visible(&sample.destination, 300),
                visible(sample.node.as_str(), 253),
                visible(&sample.uuid, 64)
            );
            self.line(6, &text);
        }
        if samples.len() > SAMPLES {
            self.line(6, &format!("… and {} more with --output json", samples.len() - SAMPLES));
        }
    }

    /// A line, broken between words where it is too wide; what follows is indented further.
    fn line(&mut self, indent: usize, text: &str) {
        let mut column = 0;
        for word in text.split(' ') {
            let wide = width_of(word);
            if column == 0 {
                let _ = write!(self.out, "{:indent$}{word}", "");
                column = indent + wide;
            } else if column + 1 + wide > self.width {
                let deeper = indent + 2;
                self.out.truncate(self.out.trim_end_matches(' ').len());
                let _ = write!(self.out, "\n{:deeper$}{word}", "");
                column = deeper + wide;
            } else {
                self.out.push(' ');
                self.out += word;
                column += 1 + wide;
            }
        }
        self.out.push('\n');
    }
}

/// Characters that show: colours do not.
fn width_of(word: &str) -> usize {
    let mut wide = 0;
    let mut inside = false;
    for c in word.chars() {
        match c {
            '\u{1b}' => inside = true,
            'm' if inside => inside = false,
            _ if inside => {}
            _ => wide += 1,
        }
    }
    wide
}

fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "an unknown time".to_owned(), |time| format!("{time:.0}"))
}
