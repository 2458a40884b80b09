//! Canonical JSON (RFC 8785): made, and recognised.
//!
//! A line must be the canonical form to the byte, so that there is one line for one record. Whether it is one is asked of every line
//! of a log, so it is answered without building a tree; the crate that makes canonical JSON is what the answer is tested against.

use std::cmp::Ordering;

use serde::Serialize;
use serde_json::Value;

use super::event::MOST_EXACT;

/// How deep lists and maps may lie in each other.
const DEEPEST: usize = 100;

/// The canonical JSON of a value. Whole numbers that a double cannot hold must have been made texts ([`exact`]) before.
pub(super) fn of(value: &impl Serialize) -> Result<Vec<u8>, String> {
    // What is declared in the order of the alphabet and holds no fractions is canonical as serde writes it, and most is.
    let plain = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    if check(&plain).is_ok() {
        return Ok(plain);
    }
    let canonical = serde_jcs::to_vec(value).map_err(|error| error.to_string())?;
    check(&canonical).map_err(|wrong| wrong.to_string())?;
    Ok(canonical)
}

/// Turns whole numbers that a double cannot hold into texts: canonical JSON would round them.
pub(super) fn exact(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let fits = number.as_u64().is_some_and(|number| number <= MOST_EXACT)
                || number.as_i64().is_some_and(|number| number.unsigned_abs() <= MOST_EXACT)
                || number.is_f64();
            if !fits {
                *value = Value::String(number.to_string());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(exact),
        Value::Object(map) => map.values_mut().for_each(exact),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Why bytes are not canonical JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at byte {at})")]
pub(super) struct NotCanonical {
    pub what: &'static str,
    pub at: usize,
}

/// Checks that the bytes are the canonical form of one JSON value.
pub(super) fn check(bytes: &[u8]) -> Result<(), NotCanonical> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(NotCanonical { what: "it is not UTF-8", at: error.valid_up_to() });
    }
    let mut reader = Reader { bytes, at: 0 };
    reader.value(0)?;
    if reader.at == bytes.len() { Ok(()) } else { reader.wrong("something follows the value") }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn wrong<T>(&self, what: &'static str) -> Result<T, NotCanonical> {
        Err(NotCanonical { what, at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), NotCanonical> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            return Ok(());
        }
        self.wrong("there is no value")
    }

    fn value(&mut self, depth: usize) -> Result<(), NotCanonical> {
        if depth > DEEPEST {
            return self.wrong("it is too deep");
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.text().map(drop),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.wrong("there is no value"),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), NotCanonical> {
        self.at += 1;
        if self.take(b'}') {
            return Ok(());
        }
        let mut before: Option<&[u8]> = None;
        loop {
            let begin = self.at;
            let key = self.text()?;
            if before.is_some_and(|before| order(before, key) != Ordering::Less) {
                self.at = begin;
                return self.wrong("its keys are not in order");
            }
            before = Some(key);
            if !self.take(b':') {
                return self.wrong("a colon is missing");
            }
            self.value(depth + 1)?;
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return self.wrong("a comma is missing");
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<(), NotCanonical> {
        self.at += 1;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return self.wrong("a comma is missing");
            }
        }
    }

    /// Reads a text; what stands between its quotes, as it stands there.
    fn text(&mut self) -> Result<&'a [u8], NotCanonical> {
        if !self.take(b'"') {
            return self.wrong("a text is missing");
        }
        let begin = self.at;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(plain) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) else {
                return self.wrong("a text does not end");
            };
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => {
                    let text = self.bytes.get(begin..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => self.escape()?,
                _ => return self.wrong("a control character stands as it is"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotCanonical> {
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
                let control = match digits {
                    [b'0', b'0', high @ b'0'..=b'1', low @ (b'0'..=b'9' | b'a'..=b'f')] => {
                        let low = if low.is_ascii_digit() { low - b'0' } else { low - b'a' + 10 };
                        (high - b'0') * 16 + low
                    }
                    _ => return self.wrong("a character is escaped that need not be"),
                };
                if matches!(control, 8 | 9 | 10 | 12 | 13) {
                    return self.wrong("a character is not escaped in its short form");
                }
                6
            }
            _ => return self.wrong("a character is escaped that need not be"),
        };
        self.at += length;
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotCanonical> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length =
            rest.iter().take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')).count();
        let text = rest.get(..length).unwrap_or_default();
        let digits = text.strip_prefix(b"-").unwrap_or(text);
        let short = digits.len() <= 15 && digits.iter().all(u8::is_ascii_digit);
        let canonical = match digits {
            b"0" => text.len() == 1,
            [b'1'..=b'9', ..] if short => true,
            _ => std::str::from_utf8(text)
                .ok()
                .filter(|text| serde_json::from_str::<Value>(text).is_ok())
                .and_then(|text| text.parse::<f64>().ok())
                .and_then(|number| serde_jcs::to_vec(&number).ok())
                .is_some_and(|canonical| canonical == text),
        };
        if !canonical {
            return self.wrong("a number is not written as it should be");
        }
        self.at += length;
        Ok(())
    }
}

/// The order of two keys as they stand between their quotes: that of their UTF-16 units.
fn order(left: &[u8], right: &[u8]) -> Ordering {
    let plain = |key: &[u8]| key.iter().all(|byte| byte.is_ascii() && *byte != b'\\');
    if plain(left) && plain(right) {
        return left.cmp(right);
    }
    let units = |key: &[u8]| -> Vec<u16> {
        let quoted = [b"\"", key, b"\""].concat();
        // Both were read as texts already.
        serde_json::from_slice::<String>(&quoted).unwrap_or_default().encode_utf16().collect()
    };
    units(left).cmp(&units(right))
}
