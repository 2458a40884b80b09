//! Text of a script, a host or a guest, with nothing in it that a terminal obeys or a reader is deceived by.
//!
//! The one way of it: control characters (terminal sequences among them), bidirectional and all other invisible format characters
//! are written as `\u{…}`.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// The text made harmless; newlines and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && c != '\t' && is_unsafe(c))
}

/// Like [`printable`], with line breaks of any kind made visible as well: the text stays one line.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\t' && is_unsafe(c))
}

fn escape(text: &str, wanted: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&wanted) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' if wanted(c) => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if wanted(c) => {
                // Writing to a string does not fail.
                write!(out, "\\u{{{:x}}}", u32::from(c)).ok();
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || is_hidden(c)
}

/// JSON without what a terminal would obey: serde_json escapes what is below U+0020; a terminal also obeys DEL, the C1 controls and the
/// bidirectional ones. All of them can only stand inside of a JSON string.
pub fn harmless_json(text: String) -> String {
    let is_hostile = |c: char| matches!(c, '\u{7F}'..='\u{9F}') || is_hidden(c);
    if !text.contains(is_hostile) {
        return text;
    }
    let mut units = [0; 2];
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        match is_hostile(c) {
            true => safe.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}"))),
            false => safe.push(c),
        }
        safe
    })
}

/// Whether a character shows as nothing, or turns the text after it round: Unicode's Cf, Zl and Zp, and the fillers.
pub fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
        | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Text that a guest controls, or whoever has got into one: it is told escaped and cut, and its fields are marked in schema and
/// reference. It decides nothing: neither a name to look up nor a right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrusted(String);

/// The most characters of a guest's text that are told.
const LONGEST: usize = 1_000;

impl Untrusted {
    /// Takes a text as a guest said it.
    pub fn new(text: &str) -> Self {
        // Searched before it is cut: a part of a secret is not found.
        let text = super::text(text);
        let text = text.as_ref();
        let cut = text.char_indices().nth(LONGEST).map_or(text, |(at, _)| text.get(..at).unwrap_or_default());
        let mut shown = one_line(cut).replace('\t', "\\t");
        if cut.len() < text.len() {
            shown.push('…');
        }
        Self(shown)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Untrusted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl JsonSchema for Untrusted {
    fn schema_name() -> Cow<'static, str> {
        "Untrusted".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-said-by": "guest" })
    }

    fn inline_schema() -> bool {
        true
    }
}
