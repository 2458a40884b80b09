//! The one place that prints results: an aligned table for people, JSON or CSV for programs.
//!
//! Colour, borders and wrapping appear on a terminal alone. What comes from a host or a guest cannot move the cursor, colour the
//! screen or reorder a line: control and bidirectional characters are escaped in every form, in JSON as JSON has it. JSON keeps the
//! order of the fields. CSV (RFC 4180) carries values as they are otherwise: a cell that begins with `=` is a formula to a
//! spreadsheet, which is for whoever opens it there to mind.
//!
//! A reader that goes away (`| head`) ends the output without a message; nothing here panics on a closed pipe.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use clap::builder::PossibleValuesParser;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use super::short::shorten;
use crate::config::printable;
use crate::error::{Fault, nearest};
use crate::redact;
pub use crate::redact::harmless_json as harmless;

/// The form of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people; not stable.
    #[default]
    Table,
    /// One JSON document and a newline; stable.
    Json,
    /// A line of column names and one line for each row; stable.
    Csv,
}

impl Format {
    pub const NAMES: [&str; 3] = ["table", "json", "csv"];

    /// The flag `--output`, for every command that has a result.
    pub fn argument() -> clap::Arg {
        clap::Arg::new("output")
            .long("output")
            .value_name("FORM")
            .value_parser(PossibleValuesParser::new(Self::NAMES))
            .help(
                "The form of the result: a table for people, JSON or CSV for programs [default: table, or CESO_OUTPUT]",
            )
    }

    /// The form that the flag asks for, else the variable `CESO_OUTPUT`, else a table.
    ///
    /// Faults: `usage.output`.
    pub fn chosen(matches: &clap::ArgMatches, variable: Option<&str>) -> Result<Self, Fault> {
        let flag = matches.try_get_one::<String>("output").ok().flatten().map(String::as_str);
        flag.or(variable).map_or(Ok(Self::Table), str::parse)
    }
}

impl std::str::FromStr for Format {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            other => {
                let near = nearest(other, Self::NAMES);
                Err(Fault::new("usage.output", format!("{:?} is not a form of output", printable(other))).hint(
                    format!("write {}", if near.is_empty() { Self::NAMES.join(", ") } else { near.join(" or ") }),
                ))
            }
        }
    }
}

/// How a result is shown: its form, and what the stream can show.
#[derive(Debug, Clone, Default)]
pub struct Style {
    pub format: Format,
    /// Whether the stream is a terminal.
    pub terminal: bool,
    /// Whether colour is wanted (`NO_COLOR` is not set).
    pub color: bool,
    /// Columns of the terminal.
    pub width: Option<u16>,
    /// A line above a table, such as SIMULATOR; programs read it from the result itself.
    pub caption: Option<String>,
    /// The columns of a table of maps, in this order; all of them where this is empty.
    pub columns: Vec<String>,
}

impl Style {
    /// The style of this process's standard output.
    pub fn of_stdout(format: Format) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            format,
            terminal,
            color: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            width: terminal.then(terminal_size::terminal_size).flatten().map(|(width, _)| width.0),
            caption: None,
            columns: Vec::new(),
        }
    }

    /// Puts a line above tables.
    pub fn caption(mut self, caption: impl Into<String>) -> Self {
        self.caption = Some(caption.into());
        self
    }
}

/// Prints a result. A list of maps is a table with a column for each key, `name` first, the others in the order in which they
/// appear; a map is a table of two columns; a list is a line for each item; nothing prints nothing in a table or CSV, and `null` in
/// JSON. JSON keeps the order of the fields as it is.
///
/// Faults: `output.failed` where the stream cannot be written to; a closed pipe is none.
pub fn print(value: &Value, style: &Style, out: &mut dyn Write) -> Result<(), Fault> {
    let text = match style.format {
        Format::Json => json(value),
        Format::Csv => csv(value, style.terminal)?,
        Format::Table => table(value, style),
    };
    write(&text, out)
}

/// Writes a text whole, without the secrets that this process knows. A closed pipe ends quietly.
pub fn write(text: &str, out: &mut dyn Write) -> Result<(), Fault> {
    match out.write_all(redact::text(text).as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Fault::new("output.failed", format!("the result could not be written: {error}"))
            .hint("the command itself is done; mind the space and the permissions of what its output goes to")
            .cause(error)),
    }
}

fn json(value: &Value) -> String {
    let mut text = harmless(format!("{value:#}"));
    text.push('\n');
    text
}

/// A result as rows of named columns.
struct Rows<'a> {
    columns: Vec<Cow<'a, str>>,
    rows: Vec<Vec<Option<&'a Value>>>,
}

fn rows(items: &[Value]) -> Rows<'_> {
    if !items.iter().all(Value::is_object) {
        return Rows { columns: vec!["value".into()], rows: items.iter().map(|item| vec![Some(item)]).collect() };
    }
    let mut columns: Vec<&str> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for key in items.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if seen.insert(key.as_str()) {
            columns.push(key);
        }
    }
    name_first(&mut columns);
    let rows = items.iter().map(|item| columns.iter().map(|column| item.get(*column)).collect()).collect();
    Rows { columns: columns.into_iter().map(Cow::Borrowed).collect(), rows }
}

/// The rows with these columns alone; what is no map has none of them.
fn chosen<'a>(items: &'a [Value], columns: &'a [String]) -> Rows<'a> {
    let rows = items.iter().map(|item| columns.iter().map(|column| item.get(column)).collect()).collect();
    Rows { columns: columns.iter().map(|column| Cow::Borrowed(column.as_str())).collect(), rows }
}

/// A script's tables have no order, so their fields come by alphabet; a person looks for the name first.
fn name_first(columns: &mut Vec<&str>) {
    if let Some(at) = columns.iter().position(|column| *column == "name") {
        let name = columns.remove(at);
        columns.insert(0, name);
    }
}

fn csv(value: &Value, terminal: bool) -> Result<String, Fault> {
    let items = match value {
        Value::Null => return Ok(String::new()),
        Value::Array(items) => items.as_slice(),
        other => std::slice::from_ref(other),
    };
    let rows = rows(items);
    let failed = |error: String| Fault::new("output.failed", format!("the result has no form as CSV: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    // A line's end and a tab are part of a value; what moves a cursor is never meant, wherever the file is shown later.
    let cell = |text: String| if terminal { printable_cell(&text) } else { redact::printable(&text).into_owned() };
    if !rows.columns.is_empty() {
        writer
            .write_record(rows.columns.iter().map(|column| cell(column.to_string())))
            .map_err(|error| failed(error.to_string()))?;
    }
    for row in rows.rows.iter().filter(|row| !row.is_empty()) {
        let cells = row.iter().map(|value| cell(value.map_or_else(String::new, plain)));
        writer.write_record(cells).map_err(|error| failed(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}

fn table(value: &Value, style: &Style) -> String {
    let mut text = match &style.caption {
        Some(caption) if style.color => format!("\x1b[1;33m{}\x1b[0m\n", printable_cell(caption)),
        Some(caption) => format!("{}\n", printable_cell(caption)),
        None => String::new(),
    };
    match value {
        Value::Null => {}
        Value::Array(items) if items.is_empty() => text.push_str("(none)\n"),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let mut items = items.clone();
            shorten(&mut items);
            let rows = if style.columns.is_empty() { rows(&items) } else { chosen(&items, &style.columns) };
            let header = rows.columns.iter().map(|column| column.to_uppercase().replace('_', " ")).collect();
            let cells = |row: &Vec<Option<&Value>>| {
                rows.columns.iter().zip(row).map(|(column, value)| marked(column, shown(*value))).collect()
            };
            text.push_str(&grid(Some(header), rows.rows.iter().map(cells).collect(), style));
        }
        Value::Array(items) => items.iter().for_each(|item| text.push_str(&format!("{}\n", shown(Some(item))))),
        Value::Object(map) => {
            let mut map = map.clone();
            map.values_mut().filter_map(Value::as_array_mut).for_each(|items| shorten(items));
            let mut keys: Vec<&str> = map.keys().map(String::as_str).collect();
            name_first(&mut keys);
            let rows =
                keys.iter().map(|key| vec![printable_cell(key), marked(key, paragraph(map.get(*key)))]).collect();
            text.push_str(&grid(None, rows, style));
        }
        other => text.push_str(&format!("{}\n", shown(Some(other)))),
    }
    text
}

fn grid(header: Option<Vec<String>>, rows: Vec<Vec<String>>, style: &Style) -> String {
    let mut table = Table::new();
    let has_header = header.is_some();
    if let Some(header) = header {
        table.set_header(header.iter().map(|name| printable_cell(name)).collect::<Vec<_>>());
    }
    table.add_rows(rows);
    if !style.terminal {
        table.load_style(presets::NOTHING);
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        return table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    }
    table.load_style(presets::UTF8_FULL_CONDENSED);
    if let Some(width) = style.width {
        table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
    }
    let mut in_header = has_header && style.color;
    let mut text = String::new();
    for (at, line) in table.lines().enumerate() {
        in_header &= at == 0 || line.starts_with('│');
        if in_header && at > 0 {
            text.push_str(&format!("\x1b[1m{line}\x1b[0m\n"));
        } else {
            text.push_str(&format!("{line}\n"));
        }
    }
    text
}

/// A cell of what a guest says stands in quotes: it is told, and not vouched for. Such fields begin with `guest_`.
fn marked(key: &str, cell: String) -> String {
    if key.starts_with("guest_") && cell != "-" { format!("“{cell}”") } else { cell }
}

/// A cell for a person: "-" where there is nothing.
fn shown(value: Option<&Value>) -> String {
    match printable_cell(&value.map(told).unwrap_or_default()) {
        text if text.is_empty() => "-".to_owned(),
        text => text,
    }
}

/// A cell that may have several lines: one for each line of a text, and one for each item of a list of structures.
fn paragraph(value: Option<&Value>) -> String {
    let lines: Vec<String> = match value {
        Some(Value::Array(items)) if items.iter().any(|item| item.is_array() || item.is_object()) => {
            items.iter().map(|item| shown(Some(item))).collect()
        }
        Some(Value::String(text)) if text.trim_end().contains('\n') => text.trim_end().lines().map(printable).collect(),
        other => vec![shown(other)],
    };
    lines.join("\n")
}

/// A value in words for a person: yes and no; a structure by its name or label, and its other fields in brackets.
fn told(value: &Value) -> String {
    match value {
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::Array(items) => {
            let separator = if items.iter().any(Value::is_object) { "; " } else { ", " };
            items.iter().map(told).collect::<Vec<_>>().join(separator)
        }
        Value::Object(fields) => {
            let title = ["name", "label"].into_iter().find(|key| fields.get(*key).is_some_and(Value::is_string));
            let rest = fields.iter().filter(|(key, _)| Some(key.as_str()) != title);
            let rest = rest.map(|(key, value)| (key, told(value))).filter(|(_, value)| !value.is_empty());
            let rest: Vec<String> = rest.map(|(key, value)| format!("{key} {value}")).collect();
            match (title.and_then(|title| fields.get(title)).and_then(Value::as_str), rest.is_empty()) {
                (Some(name), true) => name.to_owned(),
                (Some(name), false) => format!("{name} ({})", rest.join(", ")),
                (None, _) => rest.join(", "),
            }
        }
        other => plain(other),
    }
}

/// A value as one text: a list of plain values with commas, deeper structures as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            items.iter().map(plain).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn printable_cell(text: &str) -> String {
    printable(text.trim_end_matches(['\n', '\r']))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn show(value: &Value, style: &Style) -> String {
        let mut out = Vec::new();
        print(value, style, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn plain_style(format: Format) -> Style {
        Style { format, ..Style::default() }
    }

    fn machines() -> Value {
        json!([{ "name": "web-1", "power": "on", "ip": null }, { "name": "db", "power": "off", "disks": [1, 2] }])
    }

    #[test]
    fn a_list_of_maps_is_an_aligned_table_without_borders_in_a_pipe() {
        assert_eq!(
            show(&machines(), &plain_style(Format::Table)),
            "NAME   POWER  IP  DISKS\nweb-1  on     -   -\ndb     off    -   1, 2\n"
        );
    }

    #[test]
    fn a_terminal_gets_borders_and_colour_and_its_width() {
        let style = Style { terminal: true, color: true, width: Some(30), ..plain_style(Format::Table) };
        let text = show(&machines(), &style.clone().caption("SIMULATOR"));
        assert!(text.starts_with("\x1b[1;33mSIMULATOR\x1b[0m\n┌"), "{text}");
        assert!(text.contains("\x1b[1m│ NAME"), "{text}");
        assert!(
            text.lines().skip(1).all(|line| line.replace("\x1b[1m", "").replace("\x1b[0m", "").chars().count() <= 30),
            "{text}"
        );
        let bare = show(&machines(), &Style { color: false, ..style });
        assert!(!bare.contains('\x1b'));
    }

    #[test]
    fn a_table_has_the_columns_that_were_chosen_and_json_and_csv_have_all() {
        let style = Style { columns: vec!["power".into(), "name".into(), "gone".into()], ..Style::default() };
        assert_eq!(show(&machines(), &style), "POWER  NAME   GONE\non     web-1  -\noff    db     -\n");
        assert_eq!(show(&json!([5, { "name": "x" }]), &style), "POWER  NAME  GONE\n-      -     -\n-      x     -\n");
        assert_eq!(show(&json!({ "name": "x" }), &style), "name  x\n");
        let all = |format| show(&machines(), &Style { format, ..style.clone() });
        assert!(all(Format::Json).contains("\"disks\""));
        assert!(all(Format::Csv).starts_with("name,power,ip,disks"), "{}", all(Format::Csv));
    }

    #[test]
    fn json_keeps_the_order_of_fields() {
        let text = show(&machines(), &plain_style(Format::Json));
        assert!(text.find("name") < text.find("power") && text.ends_with("]\n"));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), machines());
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let rows = json!([{ "a": "x,\"y\"\nz", "b": 1 }, { "a": "=1+1", "c": { "k": true } }]);
        assert_eq!(
            show(&rows, &plain_style(Format::Csv)),
            "a,b,c\n\"x,\"\"y\"\"\nz\",1,\n=1+1,,\"{\"\"k\"\":true}\"\n"
        );
        assert_eq!(show(&json!(["a", "b"]), &plain_style(Format::Csv)), "value\na\nb\n");
        assert_eq!(show(&json!([]), &plain_style(Format::Csv)), "");
        assert_eq!(show(&Value::Null, &plain_style(Format::Csv)), "");
    }

    #[test]
    fn text_of_a_guest_cannot_reach_the_terminal() {
        let evil = "a\x1b]0;owned\x07\x1b[2J\r\n\u{9b}31m\u{202e}b\u{7f}\u{0}";
        let value = json!([{ evil: evil }, { "k": [evil] }]);
        for format in [Format::Table, Format::Json, Format::Csv] {
            let text = show(&value, &Style { terminal: true, width: Some(200), format, ..Style::default() });
            let bad: Vec<char> =
                text.chars().filter(|c| (c.is_control() && *c != '\n') || redact::is_hidden(*c)).collect();
            assert!(bad.is_empty(), "{format:?} {bad:?}");
        }
        let text = show(&value, &plain_style(Format::Json));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value, "and JSON loses nothing");
    }

    #[test]
    fn a_closed_pipe_ends_quietly_and_a_full_disk_does_not() {
        struct Broken(io::ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(print(&machines(), &plain_style(Format::Json), &mut Broken(io::ErrorKind::BrokenPipe)).is_ok());
        let fault =
            print(&machines(), &plain_style(Format::Json), &mut Broken(io::ErrorKind::StorageFull)).unwrap_err();
        assert_eq!(fault.kind(), "output.failed");
    }

    #[test]
    fn the_name_comes_first_in_what_people_read_and_in_csv() {
        let rows = json!([{ "ip": "10.0.0.1", "name": "a" }, { "alias": "b", "name": "c" }]);
        assert_eq!(
            show(&rows, &plain_style(Format::Table)),
            "NAME  IP        ALIAS\na     10.0.0.1  -\nc     -         b\n"
        );
        assert!(show(&rows, &plain_style(Format::Csv)).starts_with("name,ip,alias\na,10.0.0.1,\n"));
        assert!(show(&rows[0], &plain_style(Format::Table)).starts_with("name  a\n"));
        assert!(show(&rows[0], &plain_style(Format::Json)).contains("\"ip\": \"10.0.0.1\",\n  \"name\""));
    }

    #[test]
    fn structures_are_told_in_words() {
        let value = json!({
            "disks": [{ "label": "disk 1", "size": "2 GiB", "thin": true }, { "label": "disk 2", "size": "1 GiB", "thin": false }],
            "flags": [true, false], "none": {}, "text": "a\nb\x1b[2J\n", "map": { "a": null, "b": { "c": 1 } },
        });
        assert_eq!(
            show(&value, &plain_style(Format::Table)),
            "disks  disk 1 (size 2 GiB, thin yes)\n       disk 2 (size 1 GiB, thin no)\n\
             flags  yes, no\nnone   -\ntext   a\n       b\\u{1b}[2J\nmap    b c 1\n"
        );
        assert_eq!(
            show(&json!([value]), &plain_style(Format::Table)).lines().count(),
            2,
            "a row of a table stays one line"
        );
    }

    #[test]
    fn odd_shapes_print_something() {
        for value in
            [json!([]), json!({}), json!([{}, {}]), json!([[1], [2]]), json!([{ "a": 1 }, 2]), json!("x"), json!(1.5)]
        {
            for format in [Format::Table, Format::Json, Format::Csv] {
                show(&value, &plain_style(format));
                show(&value, &Style { terminal: true, width: Some(1), format, ..Style::default() });
            }
        }
    }

    #[test]
    fn a_form_is_named_or_refused_with_the_nearest() {
        assert_eq!("csv".parse::<Format>().unwrap(), Format::Csv);
        assert!("jsn".parse::<Format>().unwrap_err().hint_text().unwrap().contains("json"));
    }
}
