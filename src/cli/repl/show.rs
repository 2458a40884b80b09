//! Values as a person reads them: strings quoted, handles with name and fields, lists of rows as tables, nested tables indented.
//!
//! Everything a script or a host said is made harmless for the terminal, and what is long is cut with a word on how much is left.

use std::fmt::Write as _;

use crate::cli::output::{self, Style};
use crate::error::Fault;
use crate::run::output::one_line;
use crate::wire::{Handle, Value};

/// How many rows of a table, or items of a list, are shown.
const MOST: usize = 200;

/// How many lines of one value are shown.
const LINES: usize = 400;

/// How many characters of one string are shown.
const LONGEST: usize = 2000;

/// How deep tables are shown.
const DEPTH: usize = 8;

/// The value as text that ends with a newline; nothing for nil.
pub fn show(value: &Value, style: &Style) -> Result<String, Fault> {
    match value {
        Value::Nil => Ok(String::new()),
        Value::List(items) if is_rows(items) => rows(items, style),
        value => {
            let width = style.width.map_or(100, usize::from).clamp(20, 200);
            Ok(cut_lines(&(nested(value, 0, width) + "\n")))
        }
    }
}

/// Whether items make the rows of a table: handles of one kind, or tables whose values are mostly plain.
fn is_rows(items: &[Value]) -> bool {
    match items.first() {
        Some(Value::Handle(first)) => {
            items.iter().all(|item| matches!(item, Value::Handle(handle) if handle.kind == first.kind))
        }
        Some(Value::Map(_)) => items.iter().all(|item| matches!(item, Value::Map(entries) if !entries.is_empty())),
        _ => false,
    }
}

fn rows(items: &[Value], style: &Style) -> Result<String, Fault> {
    let shown = items.get(..MOST).unwrap_or(items);
    let json = serde_json::Value::Array(shown.iter().map(Value::to_json).collect());
    let mut bytes = Vec::new();
    output::print(&json, style, &mut bytes)?;
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if items.len() > shown.len() {
        let _ = writeln!(text, "… and {} more", items.len() - shown.len());
    }
    Ok(text)
}

fn nested(value: &Value, depth: usize, width: usize) -> String {
    let flat = flat(value, DEPTH.saturating_sub(depth), width);
    match flat {
        Some(text) if text.chars().count() + depth * 2 <= width => text,
        _ => block(value, depth, width),
    }
}

/// The value in one line; `None` where it is plainly longer than `most` characters.
fn flat(value: &Value, depth: usize, most: usize) -> Option<String> {
    let mut parts = Vec::new();
    let mut length = 0;
    let mut add = |part: Option<String>| {
        let part = part?;
        length += part.chars().count() + 2;
        parts.push(part);
        (length <= most).then_some(())
    };
    match value {
        Value::List(_) | Value::Map(_) if depth == 0 => return Some("{ … }".to_owned()),
        Value::List(items) => {
            for item in items {
                add(flat(item, depth - 1, most))?;
            }
        }
        Value::Map(entries) => {
            for (key, item) in entries {
                add(flat(item, depth - 1, most).map(|item| format!("{} = {item}", name(key))))?;
            }
        }
        Value::Handle(handle) => {
            for (key, item) in &handle.fields {
                add(flat(item, depth.saturating_sub(1), most).map(|item| format!("{} = {item}", name(key))))?;
            }
            let title = title(handle);
            return Some(if parts.is_empty() { title } else { format!("{title} {{ {} }}", parts.join(", ")) });
        }
        plain => return Some(scalar(plain)),
    }
    Some(if parts.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", parts.join(", ")) })
}

/// The value over several lines.
fn block(value: &Value, depth: usize, width: usize) -> String {
    let (head, lines, total) = match value {
        Value::List(items) => {
            let lines: Vec<String> = items.iter().take(MOST).map(|item| nested(item, depth + 1, width)).collect();
            (String::new(), lines, items.len())
        }
        Value::Map(entries) => (String::new(), fields(entries, depth, width), entries.len()),
        Value::Handle(handle) => {
            (format!("{} ", title(handle)), fields(&handle.fields, depth, width), handle.fields.len())
        }
        plain => return scalar(plain),
    };
    if depth >= DEPTH {
        return format!("{head}{{ … }}");
    }
    let indent = "  ".repeat(depth + 1);
    let mut text = format!("{head}{{\n");
    for line in &lines {
        let _ = writeln!(text, "{indent}{line},");
    }
    if total > lines.len() {
        let _ = writeln!(text, "{indent}… and {} more", total - lines.len());
    }
    text.push_str(&"  ".repeat(depth));
    text.push('}');
    text
}

fn fields(entries: &[(String, Value)], depth: usize, width: usize) -> Vec<String> {
    let field = |(key, item): &(String, Value)| format!("{} = {}", name(key), nested(item, depth + 1, width));
    entries.iter().take(MOST).map(field).collect()
}

fn title(handle: &Handle) -> String {
    format!("{} {}", one_line(&handle.kind), quoted(&handle.name))
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) if number.abs() >= 1e16 || (*number != 0.0 && number.abs() < 1e-5) => {
            format!("{number:e}")
        }
        Value::Float(number) => number.to_string(),
        // What has no place on the wire comes as its type's name.
        Value::Text(text) if text.starts_with('<') && is_type(text) => text.clone(),
        Value::Text(text) => quoted(text),
        Value::Bytes(bytes) => {
            let shown: String = bytes.iter().take(LONGEST).map(|byte| ascii(*byte)).collect();
            format!("\"{shown}\"{}", rest(bytes.len(), bytes.len().min(LONGEST), "bytes"))
        }
        Value::List(_) | Value::Map(_) | Value::Handle(_) => "{ … }".to_owned(),
    }
}

fn is_type(text: &str) -> bool {
    matches!(text, "<function>" | "<coroutine>" | "<table that contains itself>" | "<object that is no handle>")
        || text.starts_with("<buffer ")
        || text.starts_with("<value of a type")
}

/// A key as Luau writes it: a name, or `["…"]`.
fn name(key: &str) -> String {
    let is_name = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_name { key.to_owned() } else { format!("[{}]", quoted(key)) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    let mut shown = 0;
    for c in text.chars().take(LONGEST) {
        shown += c.len_utf8();
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push_str(&one_line(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push('"');
    out + &rest(text.len(), shown, "bytes")
}

fn ascii(byte: u8) -> String {
    match byte {
        b'"' | b'\\' => format!("\\{}", byte as char),
        b' '..=b'~' => (byte as char).to_string(),
        byte => format!("\\x{byte:02x}"),
    }
}

fn rest(all: usize, shown: usize, what: &str) -> String {
    if all > shown { format!(" … and {} {what} more", all - shown) } else { String::new() }
}

fn cut_lines(text: &str) -> String {
    let count = text.lines().count();
    if count <= LINES {
        return text.to_owned();
    }
    let mut out: String = text.lines().take(LINES).flat_map(|line| [line, "\n"]).collect();
    let _ = writeln!(out, "… and {} lines more", count - LINES);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn map(entries: &[(&str, Value)]) -> Value {
        Value::Map(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    fn vm(name: &str) -> Value {
        Value::Handle(Box::new(Handle {
            id: 1,
            kind: "vm".to_owned(),
            name: name.to_owned(),
            fields: vec![("power".to_owned(), text("on")), ("cpus".to_owned(), Value::Int(2))],
        }))
    }

    fn shown(value: &Value) -> String {
        show(value, &Style { width: Some(60), ..Style::default() }).unwrap()
    }

    #[test]
    fn plain_values_read_as_luau_writes_them() {
        assert_eq!(shown(&Value::Nil), "");
        assert_eq!(shown(&Value::Int(-3)), "-3\n");
        assert_eq!(shown(&Value::Float(0.5)), "0.5\n");
        assert_eq!(shown(&Value::Float(1e300)), "1e300\n");
        assert_eq!(shown(&text("a\"b\\\n")), "\"a\\\"b\\\\\\n\"\n");
        assert_eq!(shown(&Value::Bytes(vec![b'a', 0xff, 0])), "\"a\\xff\\x00\"\n");
        assert_eq!(shown(&text("<function>")), "<function>\n");
        assert_eq!(shown(&text("<b>")), "\"<b>\"\n");
        assert_eq!(shown(&Value::List(vec![])), "{}\n");
    }

    #[test]
    fn a_handle_shows_its_name_and_fields() {
        assert_eq!(shown(&vm("web-1")), "vm \"web-1\" { power = \"on\", cpus = 2 }\n");
    }

    #[test]
    fn rows_are_a_table_and_other_tables_are_indented_where_they_are_long() {
        assert_eq!(
            shown(&Value::List(vec![vm("web-1"), vm("db")])),
            "NAME   POWER  CPUS\nweb-1  on     2\ndb     on     2\n"
        );
        assert_eq!(shown(&map(&[("a", Value::Int(1)), ("b c", text("x"))])), "{ a = 1, [\"b c\"] = \"x\" }\n");
        let long = map(&[("a", text(&"x".repeat(40))), ("b", Value::List(vec![text(&"y".repeat(50)), Value::Int(1)]))]);
        assert_eq!(
            shown(&long),
            format!("{{\n  a = \"{}\",\n  b = {{\n    \"{}\",\n    1,\n  }},\n}}\n", "x".repeat(40), "y".repeat(50))
        );
    }

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        let list = Value::List((0..10_000).map(Value::Int).collect());
        let many = shown(&list);
        assert!(many.len() < 10_000 && many.contains("and 9800 more"), "{many}");
        let rows = shown(&Value::List(vec![vm("x"); 1000]));
        assert!(rows.ends_with("… and 800 more\n"));
        let string = shown(&text(&"é".repeat(1_000_000)));
        assert!(string.len() < 10_000 && string.contains("bytes more"), "{}", string.len());
        let wide = map(&[("k", Value::List(vec![list.clone(); 100]))]);
        assert!(shown(&wide).lines().count() <= LINES + 1);
    }

    #[test]
    fn deep_and_hostile_values_stay_on_their_line() {
        let mut deep = Value::Int(1);
        for _ in 0..60 {
            deep = Value::List(vec![deep]);
        }
        assert!(shown(&deep).contains('…'));
        let evil = "\x1b[2J\r\u{9b}\u{202e}";
        for value in [text(evil), map(&[(evil, text(evil))]), vm(evil), Value::List(vec![vm(evil)])] {
            let text = shown(&value);
            assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
        }
    }
}
