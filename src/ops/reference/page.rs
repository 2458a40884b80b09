//! Pages: text made of the model, in a form that does not know yet whether it becomes Markdown or lines on a terminal.

use super::luau::{method, type_of, type_of_field};
use super::modules::{Function, Module};
use super::shape::{Field, Fields, Shape};
use super::{Entry, Handle, Reference};
use crate::config::Mode;
use crate::door::modes;
use crate::door::operation::{Effect, Selector, Touch};
use crate::door::table::Pattern;
use crate::door::vocabulary::Noun;

/// A piece of a page.
#[derive(Debug, Clone, PartialEq)]
pub enum Block {
    Heading(usize, String),
    Text(String),
    Code(String),
    /// Rows under a header.
    Rows(Vec<&'static str>, Vec<Vec<String>>),
}

use Block::{Code, Heading, Rows, Text};

/// A page in Markdown.
pub fn markdown(blocks: &[Block]) -> String {
    let mut out = String::new();
    for block in blocks {
        match block {
            Heading(level, text) => out.push_str(&format!("{} {text}\n\n", "#".repeat(*level))),
            Text(text) => out.push_str(&format!("{text}\n\n")),
            Code(text) => out.push_str(&format!("```lua\n{}\n```\n\n", text.trim_end())),
            Rows(header, rows) => {
                out.push_str(&format!("| {} |\n|{}\n", header.join(" | "), " --- |".repeat(header.len())));
                for row in rows {
                    let cells: Vec<String> =
                        row.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
                    out.push_str(&format!("| {} |\n", cells.join(" | ")));
                }
                out.push('\n');
            }
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// A page as plain lines of at most `width` columns; code and the first columns of rows are never broken.
pub fn plain(blocks: &[Block], width: usize) -> String {
    let mut out = String::new();
    for block in blocks {
        match block {
            Heading(1 | 2, text) if !text.contains('`') => out.push_str(&format!("{}\n\n", text.to_uppercase())),
            Heading(1 | 2, text) => out.push_str(&format!("{}\n\n", bare(text))),
            Heading(_, text) => out.push_str(&format!("{}:\n", bare(text))),
            Text(text) => {
                text.split("\n\n").for_each(|part| out.push_str(&format!("{}\n", wrap(&bare(part), "", width))))
            }
            Code(text) => out.push_str(&format!("{}\n", indented(text))),
            Rows(_, rows) => lines_of(&mut out, rows, width),
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Without the backticks of Markdown, which are for a renderer.
fn bare(text: &str) -> String {
    text.replace('`', "")
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("  {line}\n")).collect()
}

fn lines_of(out: &mut String, rows: &[Vec<String>], width: usize) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| bare(cell).chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.saturating_sub(1)).map(wide).collect();
    let lead = widths.iter().map(|width| width + 2).sum::<usize>() + 2;
    // Where the first columns take too much, what is said of them goes below.
    let below = lead > width / 2;
    let indent = " ".repeat(if below { 6 } else { lead });
    for row in rows {
        let Some((last, cells)) = row.split_last() else { continue };
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, &width)| format!("{:width$}", bare(cell))).collect();
        let text = wrap(&bare(last), &indent, width);
        let glue = if below { "\n".to_owned() + &indent } else { "  ".to_owned() };
        let mut lead = cells.join("  ");
        if below {
            lead.truncate(lead.trim_end().len());
            // A type of many words is broken between them too.
            if lead.chars().count() + 2 > width {
                lead = wrap(&lead, &indent, width).trim_start().to_owned();
            }
        }
        out.push_str(format!("  {lead}{glue}{}", text.trim_start()).trim_end());
        out.push('\n');
    }
    out.push('\n');
}

/// Breaks a text between words; every line begins with `indent`.
fn wrap(text: &str, indent: &str, width: usize) -> String {
    let room = width.saturating_sub(indent.chars().count()).max(20);
    let mut out = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            out.push('\n');
            used = 0;
        }
        if used == 0 {
            out.push_str(indent);
        } else {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += length;
    }
    out.push('\n');
    out
}

/// An operation's page.
pub fn operation(reference: &Reference, entry: &Entry, level: usize) -> Vec<Block> {
    let declared = entry.declared;
    let mut page =
        vec![Heading(level, format!("`{}`", declared.spelled())), Code(signature(entry)), Text(entry.summary.clone())];
    if !entry.details.is_empty() {
        page.push(Text(entry.details.clone()));
    }
    if !entry.arguments.is_empty() {
        page.push(Heading(level + 1, "Arguments".to_owned()));
        page.push(fields(&entry.arguments, true));
    }
    let tables = tables_of(reference, entry.arguments.iter().map(|field| &field.shape));
    tables.iter().for_each(|table| page.extend(nested(table, level + 1, true)));
    match &entry.result {
        Shape::Nothing => page.push(Text("Gives nothing.".to_owned())),
        Shape::Handle(kind) => page.push(Text(format!("Gives a handle, `{kind}`: {}.", readable(reference, kind)))),
        Shape::List(inner) if matches!(&**inner, Shape::Handle(_)) => {
            let kind = type_of(inner);
            page.push(Text(format!("Gives a list of handles, `{kind}`: {}.", readable(reference, &kind))));
        }
        shape => page.push(Text(format!("Gives `{}`.", type_of(shape)))),
    }
    tables_of(reference, [&entry.result]).iter().for_each(|table| page.extend(nested(table, level + 1, false)));
    page.extend(allowed(entry, level + 1));
    if !declared.usage.is_empty() {
        page.push(Heading(level + 1, "Example".to_owned()));
        page.push(Code(declared.usage.to_owned()));
    }
    page
}

/// How it is called, on as few lines as can be read.
pub fn signature(entry: &Entry) -> String {
    let spelled = entry.declared.spelled();
    let gives = match &entry.result {
        Shape::Nothing => String::new(),
        shape => format!(" -> {}", type_of(shape)),
    };
    if entry.arguments.is_empty() {
        return format!("{spelled}(){gives}");
    }
    let positional: Vec<String> =
        entry.positional().map(|field| format!("{}: {}", field.name, type_of_field(field))).collect();
    let fields: Vec<String> =
        entry.arguments.iter().map(|field| format!("{}: {}", field.name, type_of_field(field))).collect();
    let mut lines = Vec::new();
    if !positional.is_empty() {
        lines.push(format!("{spelled}({}){gives}", positional.join(", ")));
    }
    let short = format!("{spelled}({{ {} }}){gives}", fields.join(", "));
    if short.chars().count() <= 100 {
        lines.push(short);
    } else {
        let fields: String = fields.iter().map(|field| format!("  {field},\n")).collect();
        lines.push(format!("{spelled}({{\n{fields}}}){gives}"));
    }
    lines.join("\n")
}

fn readable(reference: &Reference, kind: &str) -> String {
    let names = reference.handles.iter().filter(|handle| handle.kind == kind).flat_map(|handle| &handle.fields);
    names.map(|field| format!("`{}`", field.name)).collect::<Vec<_>>().join(", ")
}

fn fields(fields: &[Field], arguments: bool) -> Block {
    let rows = fields.iter().map(|field| {
        let mut row = vec![format!("`{}`", field.name), format!("`{}`", type_of(&field.shape))];
        row.push(match (arguments, field.optional) {
            (true, true) => "optional".to_owned(),
            (true, false) => "required".to_owned(),
            (false, true) => "or nil".to_owned(),
            (false, false) => String::new(),
        });
        row.push(field.doc.replace("\n\n", " "));
        row
    });
    Rows(if arguments { vec!["argument", "type", "", ""] } else { vec!["field", "type", "", ""] }, rows.collect())
}

fn nested(table: &Fields, level: usize, arguments: bool) -> Vec<Block> {
    vec![
        Heading(level, format!("`{}`", table.name)),
        Text(table.doc.replace("\n\n", " ")),
        fields(&table.fields, arguments),
    ]
}

/// The named tables that shapes are made of, each once, outer ones first.
fn tables_of<'a>(reference: &'a Reference, shapes: impl IntoIterator<Item = &'a Shape>) -> Vec<&'a Fields> {
    let mut names: Vec<&str> = shapes.into_iter().flat_map(Shape::tables).collect();
    let mut found: Vec<&Fields> = Vec::new();
    let mut at = 0;
    while let Some(name) = names.get(at).copied() {
        at += 1;
        if let Some(table) = reference.tables.get(name)
            && !found.iter().any(|known| known.name == table.name)
        {
            names.extend(table.tables());
            found.push(table);
        }
    }
    found
}

/// The entries that a call needs, ready to paste as `needs`, and the modes that have them.
fn allowed(entry: &Entry, level: usize) -> Vec<Block> {
    let declared = entry.declared;
    let effect = match declared.effect {
        Effect::Pure => "It computes only, and asks no host.",
        Effect::Read => "It reads, and changes nothing.",
        Effect::Change => "It changes what can be changed back.",
        Effect::Destroy => "It removes for good.",
    };
    if declared.touches.is_empty() {
        return vec![
            Heading(level, "Capabilities".to_owned()),
            Text(format!("{effect} It needs no entry, in any mode.")),
        ];
    }
    let mut nouns: Vec<(&str, Vec<String>)> = Vec::new();
    for touch in declared.touches {
        let selector = match touch.selector {
            Selector::Argument(name)
            | Selector::Given { argument: name, .. }
            | Selector::Meant { argument: name, .. }
                if declared.receiver() == Some(name) =>
            {
                "\"{name}\"".to_owned()
            }
            Selector::Argument(name) | Selector::Meant { argument: name, .. }
                if entry.arguments.iter().any(|field| field.name == name && !field.optional) =>
            {
                format!("\"{{{name}}}\"")
            }
            _ => "\"*\"".to_owned(),
        };
        let rule = format!("{} = {selector}", touch.verb);
        match nouns.iter_mut().find(|(noun, _)| *noun == touch.noun) {
            Some((_, rules)) => rules.push(rule),
            None => nouns.push((touch.noun, vec![rule])),
        }
    }
    let lines: String = nouns.iter().map(|(noun, rules)| format!("  {noun} = {{ {} }},\n", rules.join(", "))).collect();
    let modes: Vec<String> = modes::ALL
        .iter()
        .filter_map(|mode| {
            let table = modes::table(*mode);
            let patterns: Vec<&Pattern> = declared
                .touches
                .iter()
                .filter(|touch| {
                    !matches!(
                        touch.selector,
                        Selector::Given { .. } | Selector::Url(_) | Selector::Meant { given: Some(_), .. }
                    )
                })
                .map(|touch| table.of(touch.noun, touch.verb).next().and_then(|entry| entry.patterns.first()))
                .collect::<Option<_>>()?;
            let own = if patterns.contains(&&Pattern::Made) { " (only what the run itself made)" } else { "" };
            Some(format!("{}{own}", mode.name()))
        })
        .collect();
    let only = |touch: &Touch| {
        let (noun, verb) = (touch.noun, touch.verb);
        let when = match touch.selector {
            Selector::Given { given, .. } | Selector::Url(given) => format!("only with `{given}`"),
            Selector::Meant { given: None, .. } => return Some(format!(" A `dry_run` needs no `{noun}.{verb}`.")),
            Selector::Meant { given: Some(given), .. } => format!("only with `{given}`, and by no `dry_run`"),
            _ => return None,
        };
        let allows = |mode: &&Mode| modes::table(**mode).allowing(noun, verb, "", false).is_some();
        let modes: Vec<&str> = modes::ALL.iter().filter(allows).map(|mode| mode.name()).collect();
        Some(format!(" `{noun}.{verb}` is needed {when}; modes that allow it: {}.", modes.join(", ")))
    };
    let only: String = declared.touches.iter().filter_map(only).collect();
    vec![
        Heading(level, "Capabilities".to_owned()),
        Code(format!("needs = {{\n{lines}}}")),
        Text(format!("{effect} Modes that allow it: {}.{only}", modes.join(", "))),
    ]
}

/// A kind of handle: its fields and its methods.
pub fn handle(reference: &Reference, handle: &Handle, level: usize) -> Vec<Block> {
    let mut page = vec![
        Heading(level, format!("`{}`", handle.kind)),
        Text(handle.summary.clone()),
        Heading(level + 1, "Fields".to_owned()),
        fields(&handle.fields, false),
    ];
    let methods: Vec<Vec<String>> = reference.methods(handle.kind).map(line).collect();
    if !methods.is_empty() {
        page.push(Heading(level + 1, "Methods".to_owned()));
        page.push(Rows(vec!["method", "what it does"], methods));
    }
    page
}

/// A binding: its functions.
pub fn binding(reference: &Reference, name: &str, level: usize) -> Vec<Block> {
    let functions = reference.functions(name).map(line).collect();
    vec![Heading(level, format!("`{name}`")), Rows(vec!["function", "what it does"], functions)]
}

/// An operation in one line.
pub fn line(entry: &Entry) -> Vec<String> {
    vec![format!("`{}`", entry.declared.spelled()), entry.summary.clone()]
}

/// The verbs of a noun, and the operations that need each.
pub fn noun(reference: &Reference, noun: &Noun, level: usize) -> Vec<Block> {
    let rows = noun.verbs.iter().map(|(verb, doc)| {
        let users: Vec<String> = reference
            .entries
            .iter()
            .filter(|entry| entry.declared.touches.iter().any(|touch| touch.noun == noun.name && touch.verb == *verb))
            .map(|entry| format!("`{}`", method(entry)))
            .collect();
        let modes: Vec<String> = modes::ALL
            .iter()
            .filter_map(|mode| {
                let table = modes::table(*mode);
                let pattern = table.of(noun.name, verb).next()?.patterns.first()?;
                Some(if *pattern == Pattern::Made {
                    format!("{} (@made)", mode.name())
                } else {
                    mode.name().to_owned()
                })
            })
            .collect();
        vec![format!("`{}.{verb}`", noun.name), (*doc).to_owned(), modes.join(", "), users.join(", ")]
    });
    vec![
        Heading(level, format!("Entries of `{}`", noun.name)),
        Rows(vec!["entry", "what it allows", "modes", "needed by"], rows.collect()),
    ]
}

/// A module of the standard library.
pub fn module(module: &Module, level: usize) -> Vec<Block> {
    let mut page = vec![
        Heading(level, format!("`{}`", module.name)),
        Text(module.doc.clone()),
        Code(format!("local {0} = require(\"{1}\")", module.short(), module.name)),
    ];
    module.functions.iter().for_each(|each| page.extend(function(module, each, level + 1)));
    page
}

/// A function of a module.
pub fn function(module: &Module, function: &Function, level: usize) -> Vec<Block> {
    let mut page = vec![
        Heading(level, format!("`{}.{}`", module.short(), function.name)),
        Code(format!("{}.{}", module.short(), function.signature())),
        Text(function.doc.clone()),
    ];
    if !function.notes.is_empty() {
        let rows = function.notes.iter().map(|(name, note)| vec![format!("`{name}`"), note.clone()]).collect();
        page.push(Rows(vec!["argument", ""], rows));
    }
    if !function.returns.is_empty() {
        page.push(Text(format!("Gives {}", function.returns)));
    }
    if !function.usage.is_empty() {
        page.push(Code(function.usage.clone()));
    }
    page
}
