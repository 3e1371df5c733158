//! Whether Go's `regexp` package compiles a pattern, which is what Cilium's agent asks of `path` and
//! `method` of HTTP rules.
//!
//! Go, RE2 (which Envoy matches with) and the `regex` crate share one language up to some corners, and
//! the corners matter here: Go and RE2 take an unescaped `{` that begins no repetition as itself
//! (`/items/{id}`), `\Q..\E`, octal escapes and `[[a]`; the crate refuses these. The crate takes nested
//! repetitions (`a**`), class operations (`[a&&b]` means something else in Go), `(?x)` and `\u00e9`; Go
//! refuses them, and repetitions above 1000. So this is Go's own grammar, without building anything:
//! linear in the length of the pattern.

/// `Err` says what is wrong.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    let mut parser = Parser { rest: pattern, stack: vec![Frame::default()] };
    parser.run().map_err(|what| what.to_string())
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("`\\` at the end")]
    TrailingBackslash,
    #[error("`\\{0}` is no escape")]
    Escape(char),
    #[error("a class `[` is not closed")]
    OpenClass,
    #[error("a class has a range or name that does not exist")]
    Range,
    #[error("a group is not closed")]
    OpenGroup,
    #[error("`)` without `(`")]
    CloseGroup,
    #[error("`{0}` has nothing to repeat")]
    NothingToRepeat(char),
    #[error("a repetition repeats a repetition")]
    NestedRepeat,
    #[error("a repetition is too large (1000 is the most, nested ones multiplied)")]
    RepeatSize,
    #[error("`(?` is followed by something that is not known")]
    GroupKind,
    #[error("a group's name is not valid")]
    GroupName,
    #[error("it is nested too deeply")]
    Depth,
    #[error("it is too large")]
    Size,
}

/// The measures of a piece that Go's limits are about.
#[derive(Clone, Copy, Default)]
struct Piece {
    height: u32,
    /// Product of nested repetitions.
    repeats: u32,
    /// Instructions.
    size: u64,
    literal: bool,
}

/// A group that is being read.
#[derive(Default)]
struct Frame {
    capture: bool,
    alternatives: Vec<Piece>,
    pieces: Vec<Piece>,
}

struct Parser<'a> {
    rest: &'a str,
    stack: Vec<Frame>,
}

const MAX_REPEAT: u32 = 1000;
const MAX_HEIGHT: u32 = 1000;
const MAX_SIZE: u64 = (128 << 20) / 40;

impl<'a> Parser<'a> {
    fn run(&mut self) -> Result<(), Fault> {
        let mut repeated = false;
        while let Some(c) = self.rest.chars().next() {
            let now_repeated = matches!(c, '*' | '+' | '?');
            let mut repeats = now_repeated;
            match c {
                '(' if self.rest.starts_with("(?") => self.special_group()?,
                '(' => {
                    self.bump(1);
                    self.open(true)?;
                }
                '|' => {
                    self.bump(1);
                    self.end_alternative();
                }
                ')' => {
                    self.bump(1);
                    self.close()?;
                }
                '[' => self.class()?,
                '*' | '+' | '?' => {
                    self.bump(1);
                    self.repeat(c, repeated, if c == '*' { 2 } else { 1 }, None)?;
                }
                '{' => match repetition(self.rest) {
                    None => self.literal(1),
                    Some((bounds, rest)) => {
                        self.rest = rest;
                        let (min, max) = bounds.ok_or(Fault::RepeatSize)?;
                        self.repeat('{', repeated, 0, Some((min, max)))?;
                        repeats = true;
                    }
                },
                '\\' => self.backslash()?,
                '^' | '$' | '.' => {
                    self.bump(1);
                    self.push(Piece { height: 1, repeats: 1, size: 1, literal: false })?;
                }
                _ => self.literal(c.len_utf8()),
            }
            repeated = repeats;
        }
        if self.stack.len() > 1 {
            return Err(Fault::OpenGroup);
        }
        self.end_alternative();
        let whole = self.stack.pop().map(|frame| union(&frame.alternatives)).unwrap_or_default();
        limits(whole)
    }

    fn bump(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn literal(&mut self, bytes: usize) {
        self.bump(bytes);
        if let Some(frame) = self.stack.last_mut() {
            // Neighbouring characters become one node in Go.
            match frame.pieces.last_mut() {
                Some(last) if last.literal => last.size += 1,
                _ => frame.pieces.push(Piece { height: 1, repeats: 1, size: 1, literal: true }),
            }
        }
    }

    fn push(&mut self, piece: Piece) -> Result<(), Fault> {
        limits(piece)?;
        if let Some(frame) = self.stack.last_mut() {
            frame.pieces.push(piece);
        }
        Ok(())
    }

    fn open(&mut self, capture: bool) -> Result<(), Fault> {
        // Deeper than this cannot pass anyway: this bounds the work.
        if self.stack.len() > 100_000 {
            return Err(Fault::Depth);
        }
        self.stack.push(Frame { capture, ..Frame::default() });
        Ok(())
    }

    fn end_alternative(&mut self) {
        if let Some(frame) = self.stack.last_mut() {
            let piece = concat(&frame.pieces);
            frame.pieces.clear();
            frame.alternatives.push(piece);
        }
    }

    fn close(&mut self) -> Result<(), Fault> {
        if self.stack.len() < 2 {
            return Err(Fault::CloseGroup);
        }
        self.end_alternative();
        let Some(frame) = self.stack.pop() else { return Err(Fault::CloseGroup) };
        let mut piece = union(&frame.alternatives);
        if frame.capture {
            piece.height += 1;
            piece.size += 2;
        }
        piece.literal = false;
        self.push(piece)
    }

    /// A repetition whose sign is already read.
    fn repeat(
        &mut self,
        sign: char,
        repeated: bool,
        extra: u64,
        bounds: Option<(u32, Option<u32>)>,
    ) -> Result<(), Fault> {
        if self.rest.starts_with('?') {
            self.bump(1);
        }
        if repeated {
            return Err(Fault::NestedRepeat);
        }
        let Some(frame) = self.stack.last_mut() else { return Err(Fault::OpenGroup) };
        let Some(mut piece) = frame.pieces.pop() else { return Err(Fault::NothingToRepeat(sign)) };
        if piece.literal && piece.size > 1 {
            // Only the last character is repeated.
            frame.pieces.push(Piece { size: piece.size - 1, ..piece });
            piece.size = 1;
        }
        piece.literal = false;
        piece.height += 1;
        match bounds {
            None => piece.size += extra,
            Some((min, max)) => {
                let times = max.unwrap_or(min);
                piece.size = match max {
                    None if min == 0 => 2 + piece.size,
                    None => 1 + u64::from(min) * piece.size,
                    Some(max) => u64::from(max) * piece.size + u64::from(max - min),
                };
                if max == Some(0) || (max.is_none() && min == 0) {
                    // `{0}` forgets what is inside; `{0,}` multiplies by nothing.
                    piece.repeats = if max == Some(0) { 1 } else { piece.repeats };
                } else {
                    piece.repeats = piece.repeats.saturating_mul(times);
                }
                if (min >= 2 || max.is_some_and(|max| max >= 2)) && piece.repeats > MAX_REPEAT {
                    return Err(Fault::RepeatSize);
                }
            }
        }
        self.push(piece)
    }

    /// `(?...`: flags, a non-capturing or a named group.
    fn special_group(&mut self) -> Result<(), Fault> {
        let text = self.rest;
        for (prefix, least) in [("(?P<", 5), ("(?<", 4)] {
            if text.starts_with(prefix) && text.len() >= least {
                let end = text.find('>').ok_or(Fault::GroupName)?;
                let name = text.get(prefix.len()..end).unwrap_or_default();
                let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if name.is_empty() || !word {
                    return Err(Fault::GroupName);
                }
                self.bump(end + 1);
                return self.open(true);
            }
        }
        self.bump(2);
        let (mut negative, mut saw) = (false, false);
        while let Some(c) = self.rest.chars().next() {
            self.bump(c.len_utf8());
            match c {
                'i' | 'm' | 's' | 'U' => saw = true,
                '-' if !negative => (negative, saw) = (true, false),
                ':' | ')' if saw || !negative => {
                    return if c == ':' { self.open(false) } else { Ok(()) };
                }
                _ => return Err(Fault::GroupKind),
            }
        }
        Err(Fault::GroupKind)
    }

    fn backslash(&mut self) -> Result<(), Fault> {
        let text = self.rest;
        match text.chars().nth(1) {
            Some('A' | 'b' | 'B' | 'z') => {
                self.bump(2);
                self.push(Piece { height: 1, repeats: 1, size: 1, literal: false })
            }
            Some('C') => Err(Fault::Escape('C')),
            Some('Q') => {
                self.bump(2);
                let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                for _ in quoted.chars() {
                    self.literal(0);
                }
                self.rest = rest;
                Ok(())
            }
            Some('p' | 'P' | 'd' | 's' | 'w' | 'D' | 'S' | 'W') => {
                self.rest = match unicode_class(text)? {
                    Some(rest) => rest,
                    None => text.get(2..).unwrap_or_default(),
                };
                self.push(Piece { height: 1, repeats: 1, size: 1, literal: false })
            }
            _ => {
                let (_, rest) = escape(text)?;
                self.rest = rest;
                self.literal(0);
                Ok(())
            }
        }
    }

    fn class(&mut self) -> Result<(), Fault> {
        let mut text = self.rest.strip_prefix('[').unwrap_or_default();
        text = text.strip_prefix('^').unwrap_or(text);
        let mut first = true;
        while first || !text.starts_with(']') {
            first = false;
            if text.starts_with("[:")
                && text.len() > 2
                && let Some(end) = text.get(2..).and_then(|inner| inner.find(":]"))
            {
                let name = text.get(2..2 + end).unwrap_or_default();
                if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
                    return Err(Fault::Range);
                }
                text = text.get(end + 4..).unwrap_or_default();
                continue;
            }
            if let Some(rest) = unicode_class(text)? {
                text = rest;
                continue;
            }
            let mut chars = text.chars();
            if chars.next() == Some('\\') && matches!(chars.next(), Some('d' | 's' | 'w' | 'D' | 'S' | 'W')) {
                text = text.get(2..).unwrap_or_default();
                continue;
            }
            let (low, rest) = class_char(text)?;
            text = rest;
            if text.len() >= 2 && text.starts_with('-') && !text.starts_with("-]") {
                let (high, rest) = class_char(text.get(1..).unwrap_or_default())?;
                if high < low {
                    return Err(Fault::Range);
                }
                text = rest;
            }
        }
        self.rest = text.get(1..).unwrap_or_default();
        self.push(Piece { height: 1, repeats: 1, size: 1, literal: false })
    }
}

fn concat(pieces: &[Piece]) -> Piece {
    join(pieces, pieces.iter().map(|p| p.size).sum())
}

fn union(alternatives: &[Piece]) -> Piece {
    let more = alternatives.len().saturating_sub(1) as u64;
    join(alternatives, alternatives.iter().map(|p| p.size).sum::<u64>() + more)
}

fn join(pieces: &[Piece], size: u64) -> Piece {
    let height = pieces.iter().map(|p| p.height).max().unwrap_or(1);
    Piece {
        height: height + u32::from(pieces.len() > 1),
        repeats: pieces.iter().map(|p| p.repeats).max().unwrap_or(1),
        size: size.max(1),
        literal: false,
    }
}

fn limits(piece: Piece) -> Result<(), Fault> {
    if piece.height > MAX_HEIGHT {
        return Err(Fault::Depth);
    }
    if piece.size > MAX_SIZE { Err(Fault::Size) } else { Ok(()) }
}

type Bounds = Option<(u32, Option<u32>)>;

/// `{2}`, `{2,}`, `{2,3}` at the start, and what follows. `None` when it is no repetition, but plain
/// characters; no bounds when they are too large or the wrong way round.
fn repetition(text: &str) -> Option<(Bounds, &str)> {
    let (min, text) = number(text.strip_prefix('{')?)?;
    let (max, rest) = match text.strip_prefix(',') {
        None => (Some(min), text),
        Some(text) if text.starts_with('}') => (None, text),
        Some(text) => {
            let (max, rest) = number(text)?;
            (Some(max), rest)
        }
    };
    let rest = rest.strip_prefix('}')?;
    let fits = min <= MAX_REPEAT && max.is_none_or(|max| max <= MAX_REPEAT && min <= max);
    Some((fits.then_some((min, max)), rest))
}

/// A number without leading zeros.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    Some((digits.parse().unwrap_or(u32::MAX), rest))
}

/// `\pL`, `\p{Greek}` at the start, and what follows; `None` when there is something else.
fn unicode_class(text: &str) -> Result<Option<&str>, Fault> {
    let Some(inner) = text.strip_prefix("\\p").or_else(|| text.strip_prefix("\\P")) else { return Ok(None) };
    let c = inner.chars().next().ok_or(Fault::Range)?;
    let (name, rest) = if c == '{' {
        inner.get(1..).unwrap_or_default().split_once('}').ok_or(Fault::Range)?
    } else {
        inner.split_at(c.len_utf8())
    };
    let name = name.strip_prefix('^').unwrap_or(name);
    let plain: String = name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).collect();
    let plain = plain.to_ascii_lowercase();
    if CLASSES.split(' ').any(|known| known == plain) { Ok(Some(rest)) } else { Err(Fault::Range) }
}

/// A character of a class, and what follows.
fn class_char(text: &str) -> Result<(u32, &str), Fault> {
    let c = text.chars().next().ok_or(Fault::OpenClass)?;
    if c == '\\' { escape(text) } else { Ok((c.into(), text.get(c.len_utf8()..).unwrap_or_default())) }
}

/// An escape of one character, and what follows.
fn escape(text: &str) -> Result<(u32, &str), Fault> {
    let text = text.get(1..).unwrap_or_default();
    let c = text.chars().next().ok_or(Fault::TrailingBackslash)?;
    let rest = text.get(c.len_utf8()..).unwrap_or_default();
    let octal = |c: char| c.is_digit(8);
    match c {
        '1'..='7' if !rest.starts_with(octal) => Err(Fault::Escape(c)),
        '0'..='7' => {
            let more = rest.chars().take(2).take_while(|c| octal(*c)).count();
            let (digits, rest) = rest.split_at(more);
            let value = u32::from_str_radix(&format!("{c}{digits}"), 8).unwrap_or(0);
            Ok((value, rest))
        }
        'x' => hexadecimal(rest).ok_or(Fault::Escape('x')),
        'a' => Ok((7, rest)),
        'f' => Ok((12, rest)),
        'n' => Ok((10, rest)),
        'r' => Ok((13, rest)),
        't' => Ok((9, rest)),
        'v' => Ok((11, rest)),
        _ if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok((c.into(), rest)),
        _ => Err(Fault::Escape(c)),
    }
}

/// `7F` or `{10FFFF}`, and what follows.
fn hexadecimal(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = match text.strip_prefix('{') {
        Some(inner) => inner.split_once('}')?,
        None => text.split_at_checked(2)?,
    };
    let hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let significant = digits.trim_start_matches('0');
    let value = match significant.len() {
        _ if !hex => return None,
        0 => 0,
        1..=6 => u32::from_str_radix(significant, 16).ok()?,
        _ => return None,
    };
    (value <= 0x0010_ffff).then_some((value, rest))
}

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// Unicode categories and scripts, without `_`, `-`, spaces and capitals, as Go 1.25 reads their names (it
/// no longer finds scripts of two words).
const CLASSES: &str = "adlam ahom any arabic armenian ascii assigned avestan balinese bamum batak bengali bhaiksuki \
    bopomofo brahmi braille buginese buhid c carian casedletter cc cf chakma cham cherokee chorasmian \
    closepunctuation cn cntrl co combiningmark common connectorpunctuation control coptic cs cuneiform \
    currencysymbol cypriot cyrillic dashpunctuation decimalnumber deseret devanagari digit dogra \
    duployan elbasan elymaic enclosingmark ethiopic finalpunctuation format georgian glagolitic gothic \
    grantha greek gujarati gurmukhi han hangul hanunoo hatran hebrew hiragana inherited \
    initialpunctuation javanese kaithi kannada katakana kawi kharoshthi khmer khojki khudawadi l lao \
    latin lc lepcha letter letternumber limbu lineseparator lisu ll lm lo lowercaseletter lt lu lycian \
    lydian m mahajani makasar malayalam mandaic manichaean marchen mark mathsymbol mc me medefaidrin \
    miao mn modi modifierletter modifiersymbol mongolian mro multani myanmar n nabataean nandinagari nd \
    newa nko nl no nonspacingmark number nushu ogham openpunctuation oriya osage osmanya other \
    otherletter othernumber otherpunctuation othersymbol p palmyrene paragraphseparator pc pd pe pf \
    phoenician pi po privateuse ps punct punctuation rejang runic s samaritan saurashtra sc separator \
    sharada shavian siddham sinhala sk sm so sogdian soyombo spaceseparator spacingmark sundanese \
    surrogate symbol syriac tagalog tagbanwa takri tamil tangsa tangut telugu thaana thai tibetan \
    tifinagh tirhuta titlecaseletter toto ugaritic unassigned uppercaseletter vai vithkuqi wancho yezidi \
    yi z zl zp zs";

#[cfg(test)]
mod tests;
