//! How a failed script is told: what happened, the line with a caret, where it was called from, what to do next.

use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::config::printable;
use crate::error::Fault;
use crate::wire::{Difference, ScriptError, Source};

/// A fault as text, for standard error.
pub fn fault(fault: &Fault, verbose: bool, color: bool) -> String {
    let mut text = headline(fault.kind(), fault.message(), color);
    finish(&mut text, fault.hint_text(), fault.may_retry(), color);
    if verbose {
        text.push_str(&causes(fault));
    }
    text
}

/// What lies beneath a fault, a line for each.
pub fn causes(fault: &Fault) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(fault);
    while let Some(error) = cause {
        let _ = writeln!(text, "  cause: {}", printable(&error.to_string()));
        cause = error.source();
    }
    text
}

/// A script's failure as text: with the source line where it is known.
pub fn script(error: &ScriptError, fault: Option<&Fault>, sources: &[Source], color: bool) -> String {
    let kind = fault.map_or(error.kind.as_str(), Fault::kind);
    let message = fault.map_or(error.message.as_str(), Fault::message);
    // What was asked for cannot be meant: where the script found that out is nobody's concern.
    let misused = error.kind == "usage.script";
    let mut text = match place(error, fault.is_some() || misused, sources) {
        Some((source, line)) => snippet(kind, message, source, line, color),
        None => headline(kind, message, color),
    };
    if let Some(difference) = error.difference.as_deref() {
        text.push_str(&differing(difference, color));
    }
    if let Some(traceback) = error.traceback.as_deref().filter(|_| !misused) {
        // The standard library's own frames are of use only where the error is shown there.
        let own = error.file.as_deref().is_none_or(|file| file.starts_with("@ceso/"));
        let frames = traceback.lines().filter(|line| own || !line.starts_with("@ceso/"));
        for line in frames.skip(1).take(20) {
            let _ = writeln!(text, "  called from {}", printable(line.trim()));
        }
    }
    match fault {
        Some(fault) => finish(&mut text, fault.hint_text(), fault.may_retry(), color),
        None => finish(&mut text, error.hint.as_deref().or(advice(kind).as_deref()), false, color),
    }
    text
}

/// Where what was found differs from what was expected, line by line; nothing where each is one line, which the message has.
fn differing(difference: &Difference, color: bool) -> String {
    let (expected, found) = (&difference.expected, &difference.found);
    if !expected.contains('\n') && !found.contains('\n') && expected.len() + found.len() < 100 {
        return String::new();
    }
    let lines = similar::TextDiff::from_lines(expected.as_str(), found.as_str());
    let mut text = "  - expected  + found\n".to_owned();
    for (number, group) in lines.grouped_ops(3).iter().enumerate() {
        if number > 0 {
            text.push_str("    …\n");
        }
        for change in group.iter().flat_map(|op| lines.iter_changes(op)) {
            let (sign, paint) = match change.tag() {
                similar::ChangeTag::Delete => ('-', "\x1b[31m"),
                similar::ChangeTag::Insert => ('+', "\x1b[32m"),
                similar::ChangeTag::Equal => (' ', ""),
            };
            let line = printable(change.value().trim_end_matches('\n'));
            let _ = if color && !paint.is_empty() {
                writeln!(text, "  {paint}{sign} {line}\x1b[0m")
            } else {
                writeln!(text, "  {sign} {line}")
            };
        }
    }
    text
}

/// What to do about a limit that the worker held and said no more of.
fn advice(kind: &str) -> Option<String> {
    match kind.strip_prefix("limit.")? {
        "run_time" => Some("raise it with --timeout, or sandbox.run_time in the configuration".to_owned()),
        limit => Some(format!("raise sandbox.{limit} in the configuration, or split the work")),
    }
}

fn place<'a>(error: &ScriptError, ours: bool, sources: &'a [Source]) -> Option<(&'a Source, usize)> {
    let source = sources.iter().find(|source| Some(source.name.as_str()) == error.file.as_deref())?;
    // A command's own script is not the concern of whoever typed the command.
    if ours && source.name.starts_with("@ceso/") {
        return None;
    }
    Some((source, usize::try_from(error.line?).ok()?))
}

fn snippet(kind: &str, message: &str, source: &Source, line: usize, color: bool) -> String {
    let shown = printable_lines(&String::from_utf8_lossy(&source.text));
    let Some(start) =
        shown.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).reduce(|a, b| a + b).or(Some(0))
    else {
        return headline(kind, message, color);
    };
    let text = shown.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let span = caret(text, message);
    let title = printable(message);
    let report = [Level::ERROR.primary_title(title.as_str()).id(kind).element(
        Snippet::source(shown.as_str())
            .path(source.name.as_str())
            .annotation(AnnotationKind::Primary.span(start + span.start..start + span.end)),
    )];
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = renderer.render(&report).to_string();
    out.push('\n');
    out
}

/// What the caret points at: the word that the message quotes, where the line has it, else all of the line.
fn caret(line: &str, message: &str) -> std::ops::Range<usize> {
    let indent = line.len() - line.trim_start().len();
    let quoted = message.split(['\'', '"', '`']).skip(1).step_by(2).filter(|word| !word.is_empty());
    let found = quoted.filter_map(|word| whole(line, word)).last();
    found.unwrap_or(indent..line.trim_end().len().max(indent))
}

/// Where a word stands in a line by itself, and not as a part of another.
fn whole(line: &str, word: &str) -> Option<std::ops::Range<usize>> {
    let inner = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let bounds = |at: usize| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|text| text.chars().next());
        let cut = |inside: Option<char>, beside: Option<char>| inner(inside) && inner(beside);
        !cut(word.chars().next(), before) && !cut(word.chars().next_back(), after)
    };
    line.rmatch_indices(word).map(|(at, _)| at).find(|at| bounds(*at)).map(|at| at..at + word.len())
}

fn headline(kind: &str, message: &str, color: bool) -> String {
    let message = message.lines().map(printable).collect::<Vec<_>>().join("\n  ");
    if color { format!("\x1b[1;31merror[{kind}]\x1b[0m: {message}\n") } else { format!("error[{kind}]: {message}\n") }
}

fn finish(text: &mut String, hint: Option<&str>, retry: bool, color: bool) {
    let label = |label: &str| if color { format!("\x1b[1;36m{label}\x1b[0m") } else { label.to_owned() };
    if let Some(hint) = hint {
        let _ = writeln!(text, "  {}: {}", label("hint"), printable(hint));
    }
    if retry {
        let _ = writeln!(text, "  {}: the same call may succeed when it is tried again", label("retry"));
    }
}

fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && c.is_control() { ' ' } else { c }).collect()
}
