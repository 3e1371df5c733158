//! What a dry run would change, as a unified diff on standard output.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use similar::{ChangeTag, TextDiff};

use crate::store::Change;
use crate::text::visible;

/// Lines around a change.
const CONTEXT: usize = 3;

/// The words that begin a part of the diff, and end it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Colours {
    on: bool,
}

/// Shows the changes below `root`, which is named as the user did.
pub(super) fn show(changes: &[Change], root: &Path) {
    let colours = Colours::of_stdout();
    let mut out = std::io::stdout().lock();
    for change in changes {
        // A reader that has gone is no error.
        let _ = out.write_all(unified(change, root, colours).as_bytes());
    }
    let _ = out.flush();
}

fn unified(change: &Change, root: &Path, colours: Colours) -> String {
    let name = visible(&root.join(&change.path).display().to_string(), 1_000).into_owned();
    let name = name.trim_start_matches("./");
    let old = match change.old {
        Some(_) => format!("a/{}", name.trim_start_matches('/')),
        None => "/dev/null".to_owned(),
    };
    let mut text = colours.bold(&format!("--- {old}"));
    text.push('\n');
    text += &colours.bold(&format!("+++ b/{}", name.trim_start_matches('/')));
    text.push('\n');
    let diff = TextDiff::from_lines(change.old.as_deref().unwrap_or_default(), &change.new);
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        text += &colours.cyan(&hunk.header().to_string());
        text.push('\n');
        for line in hunk.iter_changes() {
            let shown = shown(line.value());
            text += &match line.tag() {
                ChangeTag::Equal => format!(" {shown}"),
                ChangeTag::Delete => colours.red(&format!("-{shown}")),
                ChangeTag::Insert => colours.green(&format!("+{shown}")),
            };
            text.push('\n');
            if line.missing_newline() {
                text += "\\ No newline at end of file\n";
            }
        }
    }
    text
}

/// A line without its end, made visible but for tabs, and for the carriage return before the end: these
/// harm no terminal, and the diff stays one that `patch` takes.
pub(super) fn shown(line: &str) -> String {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let (line, end) = line.strip_suffix('\r').map_or((line, ""), |line| (line, "\r"));
    let parts: Vec<_> = line.split('\t').map(|part| visible(part, part.len())).collect();
    parts.join("\t") + end
}

// === impl Colours ===

impl Colours {
    /// Colours where standard output is a terminal and NO_COLOR is not set.
    pub(super) fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { on: std::io::stdout().is_terminal() && !unwanted }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(old: Option<&str>, new: &str, on: bool) -> String {
        let change = Change { path: "shop/a.yaml".into(), old: old.map(str::to_owned), new: new.to_owned() };
        unified(&change, Path::new("./policies"), Colours { on })
    }

    #[test]
    fn a_diff_that_patch_takes() {
        assert_eq!(
            diff(Some("a: 1\nb: 2\nc: 3"), "a: 1\nb: 4\nc: 3", false),
            "--- a/policies/shop/a.yaml\n+++ b/policies/shop/a.yaml\n@@ -1,3 +1,3 @@\n a: 1\n-b: 2\n+b: 4\n c: 3\n\\ No newline at end of file\n"
        );
        assert_eq!(
            diff(None, "a: 1\n", false),
            "--- /dev/null\n+++ b/policies/shop/a.yaml\n@@ -0,0 +1 @@\n+a: 1\n"
        );
    }

    #[test]
    fn what_people_wrote_drives_no_terminal() {
        let text =
            diff(Some("# \u{1b}[2J\u{202e}\tx\r\na: 1\r\n"), "# \u{1b}[2J\u{202e}\tx\r\na: 2\r\n", false);
        assert!(text.contains(" # \\u{1b}[2J\\u{202e}\tx\r\n-a: 1\r\n+a: 2\r\n"), "{text:?}");
        assert!(diff(Some("a"), "b", true).contains("\u{1b}[31m-a\u{1b}[0m"));
    }
}
