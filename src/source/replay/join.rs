//! Lines that a container runtime cut in pieces: containerd and CRI-O after 16 KiB with the tag `P`,
//! Docker's json-file after 16 KiB without a newline in the text.

use memchr::{memchr, memmem};

use super::reader::LONGEST_LINE;

/// Bytes of a text that Docker cuts off.
const DOCKER_PART: usize = 16 * 1024;

/// What became of a line that is a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// More is to come.
    Held,
    /// It was the last part.
    Whole { bytes: Vec<u8>, line: u64 },
    /// The parts together are too long; they are forgotten.
    TooLong { line: u64 },
}

/// Parts of lines that are waited for, of standard output and standard error.
#[derive(Debug, Default)]
pub(super) struct Joins {
    parts: [Option<Part>; 2],
}

#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    line: u64,
    too_long: bool,
}

// === impl Joins ===

impl Joins {
    /// `<time> stdout P <text>`; `None` when the line is whole by itself.
    pub(super) fn cri(&mut self, line: &[u8], number: u64) -> Option<Joined> {
        if !line.first()?.is_ascii_digit() {
            return None;
        }
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (_time, stream, tag, text) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let slot = match stream {
            b"stdout" => 0,
            b"stderr" => 1,
            _ => return None,
        };
        let ends = match tag.split(|byte| *byte == b':').next()? {
            b"F" => true,
            b"P" => false,
            _ => return None,
        };
        self.part(slot, text, ends, number, |bytes| bytes)
    }

    /// `{"log":"<text>","stream":"stdout",…}`; `None` when the line is whole by itself.
    pub(super) fn docker(&mut self, line: &[u8], number: u64) -> Option<Joined> {
        let text = line.strip_prefix(br#"{"log":""#)?;
        let end = memmem::rfind(text, br#"","stream":"std"#)?;
        let slot = match text.get(end + br#"","stream":"std"#.len())? {
            b'o' => 0,
            b'e' => 1,
            _ => return None,
        };
        let text = &text[..end];
        let ends = ends_with_newline(text) || length(text) != DOCKER_PART;
        self.part(slot, text, ends, number, |bytes| [br#"{"log":""#, &*bytes, br#""}"#].concat())
    }

    /// The line of a part whose last one never came.
    pub(super) fn left_over(&mut self) -> Option<u64> {
        self.parts.iter_mut().filter_map(Option::take).map(|part| part.line).min()
    }

    fn part(
        &mut self,
        slot: usize,
        text: &[u8],
        ends: bool,
        number: u64,
        finish: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) -> Option<Joined> {
        let part = &mut self.parts[slot];
        if ends && part.is_none() {
            return None;
        }
        let held = part.get_or_insert_with(|| Part { bytes: Vec::new(), line: number, too_long: false });
        if held.too_long || held.bytes.len() + text.len() > LONGEST_LINE {
            (held.bytes, held.too_long) = (Vec::new(), true);
        } else {
            held.bytes.extend_from_slice(text);
        }
        if !ends {
            return Some(Joined::Held);
        }
        let Part { bytes, line, too_long } = part.take()?;
        Some(if too_long { Joined::TooLong { line } } else { Joined::Whole { bytes: finish(bytes), line } })
    }
}

/// Whether the text of a JSON string ends with `\n`, and not with an escaped backslash and an n.
fn ends_with_newline(text: &[u8]) -> bool {
    let Some(text) = text.strip_suffix(b"n") else { return false };
    text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Bytes of the text that a JSON string stands for.
fn length(text: &[u8]) -> usize {
    let (mut at, mut bytes) = (0, 0);
    while let Some(escape) = memchr(b'\\', &text[at..]) {
        bytes += escape;
        at += escape + 2;
        bytes += 1;
        if text.get(at - 1) == Some(&b'u') {
            let code = text.get(at..at + 4).and_then(|hex| std::str::from_utf8(hex).ok());
            let code = code.and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or_default();
            // Half of a pair is two of its four bytes.
            bytes += match code {
                0..0x80 => 0,
                0x80..0x800 | 0xd800..0xe000 => 1,
                _ => 2,
            };
            at += 4;
        }
        if at > text.len() {
            return bytes;
        }
    }
    bytes + text.len() - at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_both_streams_are_joined() {
        let mut joins = Joins::default();
        assert_eq!(joins.cri(b"2026-01-01T00:00:00Z stdout F {}", 1), None);
        assert_eq!(joins.cri(b"2026-01-01T00:00:00Z stdout P {\"a\"", 2), Some(Joined::Held));
        assert_eq!(joins.cri(b"2026-01-01T00:00:00Z stderr P x", 3), Some(Joined::Held));
        assert_eq!(joins.cri(b"2026-01-01T00:00:00Z stdout P :", 4), Some(Joined::Held));
        let whole = Joined::Whole { bytes: b"{\"a\":1}".to_vec(), line: 2 };
        assert_eq!(joins.cri(b"2026-01-01T00:00:00Z stdout F:x 1}", 5), Some(whole));
        assert_eq!(joins.left_over(), Some(3));
        assert_eq!(joins.left_over(), None);
        assert_eq!(joins.cri(b"2026 a line of text", 6), None);
    }

    #[test]
    fn docker_cuts_after_16_kib() {
        let mut joins = Joins::default();
        let line = |text: &str| format!(r#"{{"log":"{text}","stream":"stdout","time":"t"}}"#).into_bytes();
        assert_eq!(joins.docker(&line(r"short\n"), 1), None);
        // Somebody took the newline away: whole all the same.
        assert_eq!(joins.docker(&line("short"), 1), None);
        let part = format!("{}\\u003c\\\"", "y".repeat(DOCKER_PART - 2));
        assert_eq!(joins.docker(&line(&part), 2), Some(Joined::Held));
        let whole = format!(r#"{{"log":"{part}end\n"}}"#).into_bytes();
        assert_eq!(joins.docker(&line(r"end\n"), 3), Some(Joined::Whole { bytes: whole, line: 2 }));
        assert_eq!((length(b"\\u00e4"), length("ä".as_bytes()), length(b"\\")), (2, 2, 1));
        assert_eq!(length(b"\\ud83d\\ude00"), 4);
        assert!(ends_with_newline(br"\n") && !ends_with_newline(br"\\n") && ends_with_newline(br"\\\n"));
    }
}
