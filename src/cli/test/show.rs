//! The report of tests: lines as they end, what failed and why at the end; or one document for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::case::{Case, Failure, Outcome, Verdict};
use crate::cli::output::{self, Format, Style};
use crate::config::printable;
use crate::error::Fault;

/// How much of what a failed test or run printed is shown: its end.
const LINES: usize = 40;

/// What is shown while tests run. A file's tests are shown together, as soon as all of them have ended.
pub struct Shown {
    style: Style,
    files: Vec<File>,
}

/// The tests of one file.
struct File {
    shown: String,
    /// The number of its first test.
    first: usize,
    lines: Vec<Line>,
    /// Whether they have been shown.
    done: bool,
}

/// A test's line.
enum Line {
    /// The name of a test that has not ended.
    Waiting(String),
    Done(String),
}

impl Shown {
    pub fn new(style: Style, cases: &[Case]) -> Self {
        let mut files: Vec<File> = Vec::new();
        for (index, case) in cases.iter().enumerate() {
            let line = Line::Waiting(case.name.clone());
            match files.last_mut().filter(|file| file.shown == case.file.shown) {
                Some(file) => file.lines.push(line),
                None => {
                    files.push(File { shown: case.file.shown.clone(), first: index, lines: vec![line], done: false })
                }
            }
        }
        Self { style, files }
    }

    /// Notes that a test has ended.
    pub fn one(&mut self, index: usize, outcome: &Outcome) -> Result<(), Fault> {
        if self.style.format != Format::Table {
            return Ok(());
        }
        let color = self.style.color;
        let Some(file) =
            self.files.iter_mut().find(|file| (file.first..file.first + file.lines.len()).contains(&index))
        else {
            return Ok(());
        };
        let Some(place) = file.lines.get_mut(index - file.first) else { return Ok(()) };
        let Line::Waiting(name) = place else { return Ok(()) };
        let (word, paint) = match &outcome.verdict {
            Verdict::Passed => ("ok  ", "32"),
            Verdict::Skipped(_) => ("skip", "33"),
            Verdict::Failed(_) => ("FAIL", "31"),
        };
        let word = if color { format!("\x1b[{paint}m{word}\x1b[0m") } else { word.to_owned() };
        let tail = match &outcome.verdict {
            Verdict::Skipped(why) => format!(": {}", printable(why)),
            _ => format!(" ({})", took(outcome.took)),
        };
        *place = Line::Done(format!("  {word}  {}{tail}\n", printable(name)));
        let mut text = format!("{}\n", printable(&file.shown));
        for line in &file.lines {
            let Line::Done(line) = line else { return Ok(()) };
            text.push_str(line);
        }
        file.done = true;
        output::write(&text, &mut std::io::stdout().lock())
    }

    /// Tells why tests failed, and how many passed.
    pub fn end(&self, cases: &[Case], outcomes: &[Option<Outcome>], whole: Duration) -> Result<(), Fault> {
        let out = &mut std::io::stdout().lock();
        let document = document(cases, outcomes, whole);
        match self.style.format {
            Format::Json => return output::print(&document, &self.style, out),
            Format::Csv => {
                let rows = document.get("tests").cloned().unwrap_or_default();
                return output::print(&rows, &self.style, out);
            }
            Format::Table => {}
        }
        let mut text = String::new();
        // Files of which a test was never run, after a stop.
        for file in self.files.iter().filter(|file| !file.done) {
            let _ = writeln!(text, "{}", printable(&file.shown));
            for line in &file.lines {
                match line {
                    Line::Done(line) => text.push_str(line),
                    Line::Waiting(name) => {
                        let _ = writeln!(text, "  not run  {}", printable(name));
                    }
                }
            }
        }
        for (case, outcome) in cases.iter().zip(outcomes) {
            if let Some(Outcome { verdict: Verdict::Failed(failure), .. }) = outcome {
                let title = format!("FAIL {}:{}: {}", case.file.shown, case.line, case.name);
                let title = printable(&title);
                let title = if self.style.color { format!("\x1b[1;31m{title}\x1b[0m") } else { title };
                let _ = writeln!(text, "\n{title}");
                text.push_str(&failed(failure, outcome.as_ref()));
            }
        }
        let count = |status: &str| document.get(status).and_then(Value::as_u64).unwrap_or_default();
        let parts: Vec<String> = ["passed", "failed", "skipped", "not_run"]
            .iter()
            .filter(|status| count(status) > 0)
            .map(|status| format!("{} {}", count(status), status.replace('_', " ")))
            .collect();
        let _ = writeln!(text, "\n{} of {} tests, on SIMULATORS, in {}", parts.join(", "), cases.len(), took(whole));
        output::write(&text, out)
    }
}

/// Why a test failed, with what it and its runs printed.
pub fn failed(failure: &Failure, outcome: Option<&Outcome>) -> String {
    let mut text = failure.text.clone();
    let Some(outcome) = outcome else { return text };
    if !outcome.output.is_empty() {
        text.push_str("  the test printed:\n");
        text.push_str(&tail(&outcome.output));
    }
    for run in &outcome.runs {
        if run.output.is_empty() && run.error.is_none() {
            continue;
        }
        let what = if run.error.is_some() { "failed" } else { "went well" };
        let _ = writeln!(text, "  {} {what}:", printable(&run.file));
        text.push_str(&tail(&run.output));
        text.push_str(&tail(run.error.as_deref().unwrap_or_default()));
    }
    text
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let left_out = lines.len().saturating_sub(LINES);
    let mut out = String::new();
    if left_out > 0 {
        let _ = writeln!(out, "    … {left_out} lines before");
    }
    for line in lines.iter().skip(left_out) {
        let _ = writeln!(out, "    {line}");
    }
    out
}

/// The results as one document.
fn document(cases: &[Case], outcomes: &[Option<Outcome>], whole: Duration) -> Value {
    let mut counts = [0u64; 4];
    let tests: Vec<Value> = cases
        .iter()
        .zip(outcomes)
        .map(|(case, outcome)| {
            let (status, which) = match outcome.as_ref().map(|outcome| &outcome.verdict) {
                Some(Verdict::Passed) => ("passed", 0),
                Some(Verdict::Failed(_)) => ("failed", 1),
                Some(Verdict::Skipped(_)) => ("skipped", 2),
                None => ("not_run", 3),
            };
            if let Some(count) = counts.get_mut(which) {
                *count += 1;
            }
            let mut row = json!({
                "name": case.name, "file": case.file.shown, "line": case.line, "status": status, "simulator": true,
                "seconds": outcome.as_ref().map(|outcome| seconds(outcome.took)),
            });
            match outcome.as_ref().map(|outcome| (&outcome.verdict, outcome)) {
                Some((Verdict::Failed(failure), outcome)) => {
                    row["kind"] = failure.kind.clone().into();
                    row["message"] = failure.message.clone().into();
                    row["at"] = match (&failure.file, failure.line) {
                        (Some(file), Some(line)) => format!("{file}:{line}").into(),
                        _ => Value::Null,
                    };
                    row["text"] = failed(failure, Some(outcome)).into();
                }
                Some((Verdict::Skipped(why), _)) => row["message"] = why.clone().into(),
                _ => {}
            }
            row
        })
        .collect();
    let [passed, failed, skipped, not_run] = counts;
    json!({
        "simulator": true, "passed": passed, "failed": failed, "skipped": skipped, "not_run": not_run,
        "seconds": seconds(whole), "tests": tests,
    })
}

/// The names of the tests.
pub fn list(cases: &[Case]) -> Value {
    let row = |case: &Case| {
        let mut row = json!({ "name": case.name, "file": case.file.shown, "line": case.line });
        if let Some(why) = case.broken.as_deref() {
            row["problem"] = why.lines().next().unwrap_or_default().into();
        }
        if let Some(why) = case.skipped() {
            row["skip"] = why.into();
        }
        row
    };
    cases.iter().map(row).collect()
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e4).round() / 1e4
}

fn took(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..10_000 => format!("{ms} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}
