//! Where a JSON value ends: a scanner that knows strings, escapes and nesting, and stops where the text
//! cannot be JSON any more. It reads on where it stopped, so a value may come in pieces.
//!
//! It is no parser: numbers and words are taken for what they begin like. What it cuts out is parsed
//! like any line; what it refuses would have been refused there.

/// Nesting that is followed; serde_json stops there too.
const DEEPEST: u32 = 127;
/// Key of the list in exports that wrap all flows in one object: its elements are read one by one.
const WRAPPED: &[u8] = b"flows";

/// What came of the bytes that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The value goes on behind them.
    More,
    /// The value ends before this byte.
    End(usize),
    /// The value wraps a list of flows; its first element is looked for from this byte on.
    Wraps(usize),
    /// From this byte on it is no JSON.
    Broken(usize, Fault),
}

/// Why a text is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A newline inside of a string.
    OpenString,
    /// `...`: somebody left something out.
    LeftOut,
    /// More than 127 levels.
    TooDeep,
    /// Something else than the grammar asks for.
    Unexpected,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
    /// Inside of a number or a word.
    Word,
    /// Inside of a string.
    Text {
        key: bool,
    },
}

/// The scanner of one value.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    expect: Expect,
    /// One bit per level, the deepest is the lowest: set for an object.
    objects: u128,
    depth: u32,
    /// The byte before was a backslash inside of a string.
    escaped: bool,
    /// How far the key at depth 1 agrees with `flows`; `None` when it does not.
    wrapped: Option<usize>,
    /// Whether an object that wraps a list of flows is entered.
    enters: bool,
    /// Bytes that were looked at.
    at: usize,
}

// === impl Scanner ===

impl Scanner {
    /// A scanner at the first byte of a value; it stops where the value wraps a list of flows.
    pub(super) fn entering() -> Self {
        Self { enters: true, ..Self::whole() }
    }

    /// A scanner at the first byte of a value; whatever is in it, it goes to its end.
    pub(super) fn whole() -> Self {
        Self {
            expect: Expect::Value,
            objects: 0,
            depth: 0,
            escaped: false,
            wrapped: None,
            enters: false,
            at: 0,
        }
    }

    /// Looks at the bytes of the value, from its first one, as far as they are there; those that an
    /// earlier call has seen are passed over.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Step {
        while let Some(&byte) = bytes.get(self.at) {
            if let Expect::Text { key } = self.expect {
                match self.text(bytes, key) {
                    Ok(()) => continue,
                    Err(step) => return step,
                }
            }
            match self.byte(byte) {
                Ok(true) if self.depth == 0 && self.expect == Expect::CommaOrEnd => {
                    self.at += 1;
                    return Step::End(self.at);
                }
                Ok(true) => {
                    self.at += 1;
                    if self.depth == 2 && self.wrapped == Some(WRAPPED.len()) && byte == b'[' {
                        self.wrapped = None;
                        // Behind the list, which the caller passes over, the object goes on.
                        (self.depth, self.expect) = (1, Expect::CommaOrEnd);
                        self.objects >>= 1;
                        return Step::Wraps(self.at);
                    }
                }
                // The end of a number or word is seen at the byte behind it.
                Ok(false) => {}
                Err(fault) => return Step::Broken(self.at, fault),
            }
        }
        Step::More
    }

    /// Forgets the bytes that were looked at: the next ones are the first of what is given then.
    pub(super) fn rebase(&mut self) {
        self.at = 0;
    }

    /// Inside of a string: to its end, or the end of the bytes.
    fn text(&mut self, bytes: &[u8], key: bool) -> Result<(), Step> {
        let from = self.at;
        loop {
            if self.escaped {
                let Some(&byte) = bytes.get(self.at) else { break };
                if byte == b'\n' {
                    return Err(Step::Broken(self.at, Fault::OpenString));
                }
                self.escaped = false;
                self.at += 1;
            }
            match memchr::memchr3(b'"', b'\\', b'\n', &bytes[self.at..]) {
                None => {
                    self.at = bytes.len();
                    break;
                }
                Some(found) => {
                    self.at += found;
                    match bytes[self.at] {
                        b'"' => {
                            self.compare_key(&bytes[from..self.at], key, true);
                            self.at += 1;
                            self.expect = if key { Expect::Colon } else { Expect::CommaOrEnd };
                            return Ok(());
                        }
                        b'\n' => return Err(Step::Broken(self.at, Fault::OpenString)),
                        _ => {
                            self.escaped = true;
                            self.at += 1;
                        }
                    }
                }
            }
        }
        self.compare_key(&bytes[from..self.at], key, false);
        Ok(())
    }

    fn compare_key(&mut self, part: &[u8], key: bool, ends: bool) {
        if !key || !self.enters || self.depth != 1 {
            return;
        }
        self.wrapped = self
            .wrapped
            .filter(|known| WRAPPED[*known..].starts_with(part))
            .map(|known| known + part.len())
            .filter(|known| !ends || *known == WRAPPED.len());
    }

    /// One byte outside of a string; `false` when it was not taken yet.
    fn byte(&mut self, byte: u8) -> Result<bool, Fault> {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0) {
            if self.expect == Expect::Word {
                self.expect = Expect::CommaOrEnd;
            }
            return Ok(true);
        }
        match (self.expect, byte) {
            (Expect::Value | Expect::ValueOrEnd, b'{') => self.open(true)?,
            (Expect::Value | Expect::ValueOrEnd, b'[') => self.open(false)?,
            (Expect::Value | Expect::ValueOrEnd, b'"') => self.expect = Expect::Text { key: false },
            (Expect::Value | Expect::ValueOrEnd, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.expect = Expect::Word;
            }
            (Expect::ValueOrEnd, b']') | (Expect::KeyOrEnd, b'}') => self.close(),
            (Expect::CommaOrEnd, b']') if !self.in_object() => self.close(),
            (Expect::CommaOrEnd, b'}') if self.in_object() => self.close(),
            (Expect::CommaOrEnd, b',') => {
                self.expect = if self.in_object() { Expect::Key } else { Expect::Value };
            }
            (Expect::Key | Expect::KeyOrEnd, b'"') => {
                self.expect = Expect::Text { key: true };
                self.wrapped = (self.enters && self.depth == 1).then_some(0);
            }
            (Expect::Colon, b':') => self.expect = Expect::Value,
            (Expect::Word, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.') => {}
            (Expect::Word, _) => {
                self.expect = Expect::CommaOrEnd;
                return Ok(false);
            }
            (_, b'.') => return Err(Fault::LeftOut),
            _ => return Err(Fault::Unexpected),
        }
        Ok(true)
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn open(&mut self, object: bool) -> Result<(), Fault> {
        if self.depth == DEEPEST {
            return Err(Fault::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        self.expect = if object { Expect::KeyOrEnd } else { Expect::ValueOrEnd };
        Ok(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
        self.expect = Expect::CommaOrEnd;
    }
}

// === impl Fault ===

impl Fault {
    /// In a few words.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::OpenString => "a string has no end on its line",
            Self::LeftOut => "\"...\" stands where something was left out; only whole flows can be read",
            Self::TooDeep => "it is nested more than 127 levels deep",
            Self::Unexpected => "it is no JSON there",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Step) {
        assert_eq!(Scanner::entering().scan(text.as_bytes()), expected, "{text}");
        // Byte by byte, as a slow writer gives it.
        let mut scanner = Scanner::entering();
        let mut last = Step::More;
        for end in 1..=text.len() {
            last = scanner.scan(&text.as_bytes()[..end]);
            if last != Step::More {
                break;
            }
        }
        assert_eq!(last, expected, "{text}, byte by byte");
    }

    #[test]
    fn ends_and_breaks() {
        check("{}", Step::End(2));
        check(r#"{"a":[1,-2.5e+3,true,null,{"b":"}\"]\\"}]} {"#, Step::End(42));
        check("[ ]x", Step::End(3));
        check("{\"a\":\n\t1\r\n}", Step::End(11));
        check(r#"{"a":1"#, Step::More);
        check("{\"a\":\"x\ny\"}", Step::Broken(7, Fault::OpenString));
        check("{\"a\":\"x\\\ny\"}", Step::Broken(8, Fault::OpenString));
        check("{\"a\":1,\n{", Step::Broken(8, Fault::Unexpected));
        check("{\"a\":1\n\"b\"", Step::Broken(7, Fault::Unexpected));
        check("{\"a\":[1}", Step::Broken(7, Fault::Unexpected));
        check("{\"a\": [...]}", Step::Broken(7, Fault::LeftOut));
        check("{\"a\": 1, ...", Step::Broken(9, Fault::LeftOut));
        check(&"[".repeat(200), Step::Broken(127, Fault::TooDeep));
    }

    #[test]
    fn a_wrapped_list_is_entered_and_the_object_goes_on_behind_it() {
        let text = r#"{"schema":{"flows":[1]},"flowsx":[2],"flows" : [{}],"next":"x"} "#;
        let mut scanner = Scanner::entering();
        let at = text.find("[{}").unwrap() + 1;
        assert_eq!(scanner.scan(text.as_bytes()), Step::Wraps(at));
        scanner.rebase();
        assert_eq!(scanner.scan(br#","next":"x"} "#), Step::End(12));
        check(r#"{"flows":{"a":1}}"#, Step::End(17));
        check(r#"[{"flows":[1]}]"#, Step::End(15));
        assert_eq!(Scanner::whole().scan(br#"{"flows":[1]}"#), Step::End(13));
    }

    proptest! {
        #[test]
        fn cuts_where_serde_json_ends(text in r#"[{}\[\]",:a1 \n\\.t-]{0,24}"#) {
            let text = format!("{{{text}");
            let mut values = serde_json::Deserializer::from_str(&text).into_iter::<serde::de::IgnoredAny>();
            if let Some(Ok(_)) = values.next() {
                let end = values.byte_offset();
                match Scanner::entering().scan(text.as_bytes()) {
                    Step::End(at) => prop_assert_eq!(at, end, "{}", text),
                    other => prop_assert!(false, "{:?} for {}", other, text),
                }
            }
        }
    }
}
