//! Texts with an escaping undone, and where each byte came from.

use memchr::{memchr, memchr2};

/// A text that was read through an escaping.
pub(super) struct View {
    pub bytes: Vec<u8>,
    /// Where each byte began in the text that it was read from, and behind the last one that text's length.
    from: Vec<u32>,
}

impl View {
    fn with_room(length: usize) -> Self {
        Self { bytes: Vec::with_capacity(length), from: Vec::with_capacity(length + 1) }
    }

    fn push(&mut self, byte: u8, from: usize) {
        self.bytes.push(byte);
        self.from.push(from as u32);
    }

    fn push_char(&mut self, code: u32, from: usize) {
        let mut buffer = [0; 4];
        let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        for byte in c.encode_utf8(&mut buffer).bytes() {
            self.push(byte, from);
        }
    }

    /// Where a range of the view lies in what it was read from.
    pub fn source(&self, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let at = |index: usize| self.from.get(index).copied().unwrap_or_default() as usize;
        let start = at(range.start);
        // All bytes of one escape came from its beginning: its end is where the next one begins.
        let last = at(range.end.saturating_sub(1));
        let mut next = self.from.get(range.end..).unwrap_or_default().iter().map(|from| *from as usize);
        let end = next.find(|from| *from > last);
        start..end.unwrap_or_else(|| self.from.last().map_or(0, |from| *from as usize))
    }
}

/// One way to read a text; `None` where that is the text itself.
type Reading = fn(&[u8]) -> Option<View>;

/// Every view in which the text reads differently; `blanks` says whether a `+` may stand for one.
pub(super) fn of(text: &[u8], blanks: bool) -> impl Iterator<Item = View> + '_ {
    // Positions are kept in 32 bits; no text of ceso's comes near.
    let fits = u32::try_from(text.len()).is_ok();
    let views: [(bool, Reading); 5] =
        [(true, percent), (blanks, plus), (true, backslash), (true, entities), (true, joined)];
    views.into_iter().filter(move |(wanted, _)| fits && *wanted).filter_map(|(_, view)| view(text))
}

fn read(text: &[u8], mut escape: impl FnMut(&[u8], usize, &mut View) -> Option<usize>) -> Option<View> {
    let mut view = View::with_room(text.len());
    let (mut at, mut changed) = (0, false);
    while let Some(byte) = text.get(at) {
        match escape(text.get(at..).unwrap_or_default(), at, &mut view) {
            Some(length) => {
                at += length.max(1);
                changed = true;
            }
            None => {
                view.push(*byte, at);
                at += 1;
            }
        }
    }
    view.from.push(text.len() as u32);
    changed.then_some(view)
}

/// `%70` in URLs.
fn percent(text: &[u8]) -> Option<View> {
    memchr(b'%', text)?;
    read(text, percent_escape)
}

/// `%70` and `+` in forms.
fn plus(text: &[u8]) -> Option<View> {
    memchr(b'+', text)?;
    read(text, |rest, at, view| {
        if rest.first() == Some(&b'+') {
            view.push(b' ', at);
            return Some(1);
        }
        percent_escape(rest, at, view)
    })
}

fn percent_escape(rest: &[u8], at: usize, view: &mut View) -> Option<usize> {
    let digits = rest.strip_prefix(b"%")?.get(..2)?;
    view.push(u8::try_from(number(digits, 16)?).ok()?, at);
    Some(3)
}

/// What follows a backslash in JSON, Lua, YAML, shells and Rust's `Debug`.
fn backslash(text: &[u8]) -> Option<View> {
    memchr(b'\\', text)?;
    read(text, |rest, at, view| {
        let escape = rest.strip_prefix(b"\\")?;
        let simple = match escape.first()? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'x' => {
                view.push(u8::try_from(number(escape.get(1..3)?, 16)?).ok()?, at);
                return Some(4);
            }
            b'u' => return unicode(escape, at, view),
            first if first.is_ascii_digit() => {
                let digits = escape.iter().take(3).take_while(|digit| digit.is_ascii_digit()).count();
                view.push(u8::try_from(number(escape.get(..digits)?, 10)?).ok()?, at);
                return Some(1 + digits);
            }
            first if first.is_ascii_alphabetic() || !first.is_ascii() => return None,
            other => *other,
        };
        view.push(simple, at);
        Some(2)
    })
}

/// `\u0070`, a pair of surrogates, `\u{70}`.
fn unicode(escape: &[u8], at: usize, view: &mut View) -> Option<usize> {
    if escape.get(1) == Some(&b'{') {
        let inner = escape.get(2..)?;
        let length = inner.iter().take(8).position(|byte| *byte == b'}')?;
        view.push_char(number(inner.get(..length)?, 16)?, at);
        return Some(length + 4);
    }
    let first = number(escape.get(1..5)?, 16)?;
    let second = escape.get(5..11).and_then(|next| number(next.strip_prefix(b"\\u")?, 16));
    if let (0xd800..=0xdbff, Some(second @ 0xdc00..=0xdfff)) = (first, second) {
        view.push_char(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), at);
        return Some(12);
    }
    view.push_char(first, at);
    Some(6)
}

/// `&amp;`, `&#112;`, `&#x70;` in XML and HTML.
fn entities(text: &[u8]) -> Option<View> {
    memchr(b'&', text)?;
    read(text, |rest, at, view| {
        let inner = rest.strip_prefix(b"&")?;
        let length = inner.iter().take(12).position(|byte| *byte == b';')?;
        let name = inner.get(..length)?;
        let code = match name {
            b"amp" => u32::from(b'&'),
            b"lt" => u32::from(b'<'),
            b"gt" => u32::from(b'>'),
            b"quot" => u32::from(b'"'),
            b"apos" => u32::from(b'\''),
            _ => match name.strip_prefix(b"#")? {
                [b'x' | b'X', digits @ ..] => number(digits, 16)?,
                digits => number(digits, 10)?,
            },
        };
        view.push_char(code, at);
        Some(length + 2)
    })
}

/// Lines put together again, without what they were indented with: base64 and long words are wrapped.
fn joined(text: &[u8]) -> Option<View> {
    memchr2(b'\n', b'\r', text)?;
    read(text, |rest, _, _| {
        let breaks = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        if breaks == 0 {
            return None;
        }
        let indent = rest.iter().skip(breaks).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        Some(breaks + indent)
    })
}

/// Digits as a number; nothing where one is no digit.
fn number(digits: &[u8], base: u32) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(|digit| char::from(*digit).is_digit(base)) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, base).ok()
}
