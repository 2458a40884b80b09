//! Records on their way out, one at a time: lines of a table, of CSV, of a JSON document.
//!
//! A table that is written while it is read cannot know how wide its columns will be: they have fixed widths, and what is longer
//! pushes the rest of its line aside. What hosts and guests called things is escaped.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde_json::Value;

use crate::cli::output::{self, Format};
use crate::config::printable;
use crate::error::Fault;

/// The columns of CSV: a field of the record, or of its event.
const COLUMNS: [&str; 18] = [
    "seq",
    "ts",
    "kind",
    "run",
    "call",
    "principal",
    "mode",
    "operation",
    "effect",
    "host",
    "objects",
    "entry",
    "outcome",
    "duration_us",
    "fault",
    "message",
    "correlation",
    "hash",
];

/// Where records are written to.
pub struct Rows {
    out: BufWriter<StdoutLock<'static>>,
    format: Format,
    /// Whether each record is a JSON document of its own.
    endless: bool,
    count: u64,
    /// Whether nobody reads any more.
    closed: bool,
}

impl Rows {
    pub fn new(format: Format, endless: bool) -> Self {
        Self { out: BufWriter::new(io::stdout().lock()), format, endless, count: 0, closed: false }
    }

    /// Writes one record; whether anybody still reads.
    pub fn add(&mut self, record: &Value) -> Result<bool, Fault> {
        let first = self.count == 0;
        self.count += 1;
        let text = match self.format {
            Format::Json if self.endless => format!("{}\n", output::harmless(record.to_string())),
            Format::Json => {
                let text = output::harmless(record.to_string());
                if first { format!("[\n{text}") } else { format!(",\n{text}") }
            }
            Format::Csv => {
                let heading = if first { csv(&COLUMNS.map(str::to_owned))? } else { String::new() };
                heading + &csv(&COLUMNS.map(|column| cell(record, column)))?
            }
            Format::Table => {
                let heading = if first {
                    line(&["SEQ", "TIME", "KIND", "OPERATION", "OBJECTS", "OUTCOME", ""])
                } else {
                    String::new()
                };
                heading + &table(record)
            }
        };
        self.write(&text)
    }

    /// Writes what belongs behind the last record.
    pub fn end(mut self) -> Result<(), Fault> {
        if self.format == Format::Json && !self.endless {
            let text = if self.count == 0 { "[]\n" } else { "\n]\n" };
            self.write(text)?;
        }
        self.flush().map(drop)
    }

    /// Has everything out that was written; whether anybody still reads.
    pub fn flush(&mut self) -> Result<bool, Fault> {
        let flushed = self.out.flush();
        self.told(flushed)
    }

    fn write(&mut self, text: &str) -> Result<bool, Fault> {
        if self.closed {
            return Ok(false);
        }
        let written = self.out.write_all(text.as_bytes());
        self.told(written)
    }

    fn told(&mut self, result: io::Result<()>) -> Result<bool, Fault> {
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.closed = true,
            Err(error) => {
                return Err(Fault::new("output.failed", format!("the records could not be written: {error}"))
                    .hint("mind the space and the permissions of what the output goes to")
                    .cause(error));
            }
        }
        Ok(!self.closed)
    }
}

fn csv(cells: &[String]) -> Result<String, Fault> {
    let failed = |error: String| Fault::new("output.failed", format!("a record has no form as CSV: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells).map_err(|error| failed(error.to_string()))?;
    let bytes = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}

fn table(record: &Value) -> String {
    let text = |name: &str| cell(record, name);
    let ts: String = text("ts").chars().take(19).collect::<String>().replace('T', " ");
    let fault = text("fault");
    let rest = [text("message"), fault, text("entry")].into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let objects = [text("host"), text("objects")].into_iter().rfind(|text| !text.is_empty()).unwrap_or_default();
    line(&[&text("seq"), &ts, &text("kind"), &text("operation"), &objects, &text("outcome"), &rest])
}

fn line(cells: &[&str; 7]) -> String {
    const WIDTHS: [usize; 7] = [7, 19, 10, 20, 20, 9, 0];
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(WIDTHS) {
        let cell = printable(cell);
        line.push_str(&format!("{cell:width$}  "));
    }
    format!("{}\n", line.trim_end())
}

/// A field of the record or of its event, as text.
fn cell(record: &Value, name: &str) -> String {
    let event = record.get("event");
    let value = record.get(name).or_else(|| event.and_then(|event| event.get(name)));
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
        Some(Value::Object(map)) if name == "fault" => {
            let part = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
            format!("{}: {}", part("kind"), part("message"))
        }
        Some(other) => other.to_string(),
    }
}
