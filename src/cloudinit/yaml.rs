//! How values become text that cloud-init reads back as the same values: JSON in the subset that YAML 1.1 shares.
//!
//! PyYAML, which cloud-init reads with, takes JSON as flow style, where every string is quoted: `no`, `1e3`, `!!python/…` or an
//! anchor stay strings. Two gaps between JSON and PyYAML are closed here. It refuses some characters unescaped (DEL, C1 controls, U+FFFE,
//! U+FFFF), and takes U+0085, U+2028 and U+2029 for line breaks, which it folds: those are escaped. And it reads a
//! surrogate pair of escapes as two broken characters, so everything else stays as it is, never escaped.

use std::io;

use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use zeroize::Zeroizing;

use super::error::Error;

/// Writes a value as indented JSON that is YAML too. The same value always gives the same text.
pub(super) fn to_text(value: &Value) -> Result<String, Error> {
    to_text_after("", value).map(|mut text| std::mem::take(&mut *text))
}

/// The same after a first line, with a line end, in memory that is wiped: a document may hold secrets.
pub(super) fn to_text_after(first: &str, value: &Value) -> Result<Zeroizing<String>, Error> {
    let unwritable = |error: serde_json::Error| Error::Unwritable(error.to_string());
    // Counted beforehand: a buffer that grows leaves copies of what it held behind.
    let mut size = Counted(0);
    let mut serializer = Serializer::with_formatter(&mut size, YamlSafe(PrettyFormatter::new()));
    serde::Serialize::serialize(value, &mut serializer).map_err(unwritable)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.0 + first.len() + 1));
    bytes.extend_from_slice(first.as_bytes());
    let mut serializer = Serializer::with_formatter(&mut *bytes, YamlSafe(PrettyFormatter::new()));
    serde::Serialize::serialize(value, &mut serializer).map_err(unwritable)?;
    if !first.is_empty() {
        bytes.push(b'\n');
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(_) => Err(Error::Unwritable("it is not text".to_owned())),
    }
}

/// A writer that only counts.
struct Counted(usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// serde_json's pretty formatter, with the characters escaped that PyYAML would not give back.
struct YamlSafe(PrettyFormatter<'static>);

fn needs_escape(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

impl Formatter for YamlSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(found) = rest.find(needs_escape) {
            let (plain, tail) = rest.split_at(found);
            writer.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(c) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn words_that_yaml_takes_for_something_else_stay_quoted() {
        let value =
            json!({ "a": "no", "b": "1e3", "c": "!!python/object:x", "d": "&anchor", "e": "*alias", "f": "\t- x: y" });
        let text = to_text(&value).unwrap();
        assert!(text.contains("\"a\": \"no\""), "{text}");
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, value);
    }

    #[test]
    fn characters_that_the_reader_would_fold_or_refuse_are_escaped() {
        let text = to_text(&json!("a\u{7f}\u{85}\u{9f}\u{2028}\u{2029}\u{feff}\u{ffff}é😀")).unwrap();
        assert_eq!(text, r#""a\u007f\u0085\u009f\u2028\u2029\ufeff\uffffé😀""#);
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_json_unchanged(text in any::<String>()) {
            let back: Value = serde_json::from_str(&to_text(&json!({ "k": &text })).unwrap()).unwrap();
            prop_assert_eq!(back, json!({ "k": text }));
        }
    }
}
