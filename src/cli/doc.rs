//! `ceso doc [NAME]`: the reference on a terminal, one part at a time, or its schemas for programs.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use super::context::Context;
use super::output::{self, Format};
use super::reference;
use crate::config::printable;
use crate::door::operation::Selector;
use crate::door::vocabulary;
use crate::error::{Fault, nearest};
use crate::ops::reference::modules::{Function, Module};
use crate::ops::reference::page::{self, Block};
use crate::ops::reference::{Entry, Handle, REFERENCE, luau};

/// How wide lines are where no terminal says.
const WIDTH: usize = 100;

pub fn command() -> Command {
    Command::new("doc")
        .about("Show the reference of operations, handles, modules and capability tables")
        .long_about(
            "Shows the reference. Without a name it lists what there is; a name may be an operation (vm.clone), a call (host:clone, \
             esxi.connect), a method's name alone (clone), a handle or a noun (vm), a module (@ceso/fleet), a function of one \
             (fleet.map), an entry (vm.copy_from), or a topic (policy, params, errors, exit-codes, limits, metrics, config, peers).",
        )
        .arg(Arg::new("NAME").help("What to show"))
        .arg(
            Arg::new("markdown")
                .long("markdown")
                .action(ArgAction::SetTrue)
                .conflicts_with("output")
                .help("Print Markdown; without a name the whole reference"),
        )
        .arg(Format::argument())
}

pub fn run(matches: &ArgMatches, context: &Context) -> Result<ExitCode, Fault> {
    let style = context.style(matches)?;
    let name = matches.get_one::<String>("NAME").map(String::as_str);
    let markdown = matches.get_flag("markdown");
    let text = match name {
        None if markdown => reference::whole(&REFERENCE),
        None if style.format == Format::Table => page::plain(&contents(), width(&style)),
        None => return context.print(matches, &rows()).map(|()| ExitCode::SUCCESS),
        Some(name) => {
            let found = find(name)?;
            match style.format {
                _ if markdown => page::markdown(&pages(&found)),
                Format::Table => page::plain(&pages(&found), width(&style)),
                Format::Json | Format::Csv => {
                    let values: Vec<Value> = found.iter().map(data).collect();
                    let value = if let [one] = values.as_slice() { one.clone() } else { json!(values) };
                    return context.print(matches, &value).map(|()| ExitCode::SUCCESS);
                }
            }
        }
    };
    output::write(&text, &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

/// What `ceso doc NAME` prints, for the REPL's `:help`.
pub fn text(name: &str, style: &output::Style) -> Result<String, Fault> {
    find(name).map(|found| page::plain(&pages(&found), width(style)))
}

fn width(style: &output::Style) -> usize {
    style.width.map_or(WIDTH, usize::from).clamp(40, 120)
}

/// What a name stands for.
enum Found {
    Operation(&'static Entry),
    Handle(&'static Handle),
    Binding(&'static str),
    Noun(&'static vocabulary::Noun),
    Module(&'static Module),
    Function(&'static Module, &'static Function),
    Policy,
    Topic(reference::Topic),
}

/// Everything that the name stands for: an operation, a call, a method, a handle and its noun, a module, a topic.
fn find(wanted: &str) -> Result<Vec<Found>, Fault> {
    let name = wanted.trim().trim_end_matches("()").trim();
    let name = &name.to_ascii_lowercase();
    let is = |entry: &&Entry| entry.declared.name == name || entry.declared.spelled() == *name;
    if let Some(entry) = REFERENCE.entries.iter().find(is) {
        return Ok(vec![Found::Operation(entry)]);
    }
    // `vm:clone` is a method of a host, and `host.clone` is written with a colon: what is meant is plain.
    let parts: Vec<&str> = name.split([':', '.']).collect();
    if let [owner, method] = parts.as_slice() {
        let known = |entry: &&Entry| {
            luau::method(entry) == *method
                && (entry.declared.receiver() == Some(owner) || entry.declared.name.split('.').next() == Some(owner))
        };
        let found: Vec<Found> = REFERENCE.entries.iter().filter(known).map(Found::Operation).collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let mut found: Vec<Found> =
        REFERENCE.handles.iter().filter(|handle| handle.kind == name).map(Found::Handle).collect();
    found.extend(REFERENCE.bindings().into_iter().filter(|binding| *binding == name).map(Found::Binding));
    let noun = |noun: &&vocabulary::Noun| {
        noun.name == name || noun.verbs.iter().any(|(verb, _)| format!("{}.{verb}", noun.name) == *name)
    };
    found.extend(vocabulary::NOUNS.iter().filter(noun).map(Found::Noun));
    for module in &REFERENCE.modules {
        if module.name == *name || module.short() == name {
            found.push(Found::Module(module));
        }
        let named = |function: &&Function| {
            [module.short(), &module.name].iter().any(|module| format!("{module}.{}", function.name) == *name)
        };
        found.extend(module.functions.iter().filter(named).map(|function| Found::Function(module, function)));
    }
    if ["policy", "capabilities", "needs", "modes", "mode"].contains(&name.as_str()) {
        found.push(Found::Policy);
    }
    found.extend(reference::topics().into_iter().filter(|topic| topic.name == name).map(Found::Topic));
    if found.is_empty() {
        let last = |entry: &&Entry| {
            luau::method(entry) == name || entry.declared.name.rsplit('.').next() == Some(name.as_str())
        };
        found.extend(REFERENCE.entries.iter().filter(last).map(Found::Operation));
        for module in &REFERENCE.modules {
            let own = module.functions.iter().filter(|function| function.name == *name);
            found.extend(own.map(|function| Found::Function(module, function)));
        }
    }
    if found.is_empty() { Err(unknown(wanted)) } else { Ok(found) }
}

fn unknown(wanted: &str) -> Fault {
    let shown: String = wanted.chars().take(80).collect();
    let fault = Fault::new("usage.name", format!("the reference has nothing named {:?}", printable(&shown)));
    let names = names();
    let near = nearest(&shown, names.iter().map(String::as_str));
    if near.is_empty() {
        fault.hint("ceso doc lists what there is")
    } else {
        fault.hint(format!("did you mean {}?", near.join(" or ")))
    }
}

/// Every name that [`find`] knows, but for methods' names alone.
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    for entry in &REFERENCE.entries {
        names.extend([entry.declared.name.to_owned(), entry.declared.spelled(), luau::method(entry).to_owned()]);
    }
    names.extend(REFERENCE.handles.iter().map(|handle| handle.kind.to_owned()));
    names.extend(REFERENCE.bindings().into_iter().map(str::to_owned));
    for noun in vocabulary::NOUNS {
        names.extend(noun.verbs.iter().map(|(verb, _)| format!("{}.{verb}", noun.name)));
    }
    for module in &REFERENCE.modules {
        names.push(module.name.clone());
        names.extend(module.functions.iter().map(|function| format!("{}.{}", module.short(), function.name)));
    }
    names.push("policy".to_owned());
    names.extend(reference::topics().iter().map(|topic| topic.name.to_owned()));
    names
}

fn pages(found: &[Found]) -> Vec<Block> {
    let page = |found: &Found| match found {
        Found::Operation(entry) => page::operation(&REFERENCE, entry, 2),
        Found::Handle(handle) => page::handle(&REFERENCE, handle, 2),
        Found::Binding(name) => page::binding(&REFERENCE, name, 2),
        Found::Noun(noun) => page::noun(&REFERENCE, noun, 2),
        Found::Module(module) => page::module(module, 2),
        Found::Function(module, function) => page::function(module, function, 2),
        Found::Policy => reference::policy(&REFERENCE, 2),
        Found::Topic(topic) => (topic.make)(2),
    };
    found.iter().flat_map(page).collect()
}

/// What `ceso doc` lists.
fn contents() -> Vec<Block> {
    let list = |rows| Block::Rows(Vec::new(), rows);
    let modules = REFERENCE.modules.iter().map(|module| vec![module.name.clone(), module.doc.clone()]).collect();
    let handles = REFERENCE.handles.iter().map(|handle| vec![handle.kind.to_owned(), handle.summary.clone()]).collect();
    let mut topics = vec![vec!["policy".to_owned(), "Capability tables, modes, every entry".to_owned()]];
    topics.extend(reference::topics().iter().map(|topic| vec![topic.name.to_owned(), topic.summary.to_owned()]));
    vec![
        Block::Heading(3, "Operations".to_owned()),
        reference::overview(&REFERENCE),
        Block::Heading(3, "Handles".to_owned()),
        list(handles),
        Block::Heading(3, "Modules".to_owned()),
        list(modules),
        Block::Heading(3, "Topics".to_owned()),
        list(topics),
        Block::Text(
            "ceso doc NAME shows one of them; with --output json it gives the schemas of an operation.".to_owned(),
        ),
    ]
}

fn rows() -> Value {
    let operations = REFERENCE.entries.iter().map(|entry| {
        json!({
            "name": entry.declared.name,
            "call": entry.declared.spelled(),
            "effect": entry.declared.effect,
            "summary": entry.summary,
        })
    });
    let functions = REFERENCE.modules.iter().flat_map(|module| {
        module.functions.iter().map(move |function| {
            json!({
                "name": format!("{}.{}", module.name, function.name),
                "call": format!("{}.{}", module.short(), function.name),
                "effect": Value::Null,
                "summary": function.doc,
            })
        })
    });
    operations.chain(functions).collect()
}

/// One part as data: an operation with the JSON Schemas of its arguments and its result.
fn data(found: &Found) -> Value {
    match found {
        Found::Operation(entry) => operation(entry),
        Found::Handle(handle) => json!({
            "handle": handle.kind,
            "summary": handle.summary,
            "fields": crate::ops::handles().iter().find(|told| told.kind == handle.kind).map(|told| told.schema().to_value()),
            "methods": REFERENCE.methods(handle.kind).map(|entry| entry.declared.name).collect::<Vec<_>>(),
        }),
        Found::Binding(name) => json!({
            "binding": name,
            "functions": REFERENCE.functions(name).map(|entry| entry.declared.name).collect::<Vec<_>>(),
        }),
        Found::Noun(noun) => {
            let verbs: serde_json::Map<String, Value> =
                noun.verbs.iter().map(|(verb, doc)| ((*verb).to_owned(), json!(doc))).collect();
            json!({ "noun": noun.name, "verbs": verbs })
        }
        Found::Module(module) => json!({
            "module": module.name,
            "summary": module.doc,
            "functions": module.functions.iter().map(function).collect::<Vec<_>>(),
        }),
        Found::Function(_, each) => function(each),
        Found::Policy => json!({ "topic": "policy", "text": page::markdown(&reference::policy(&REFERENCE, 2)) }),
        Found::Topic(topic) => json!({ "topic": topic.name, "text": page::markdown(&(topic.make)(2)) }),
    }
}

fn operation(entry: &Entry) -> Value {
    let declared = entry.declared;
    let touches: Vec<Value> = declared
        .touches
        .iter()
        .map(|touch| {
            let selector = match touch.selector {
                Selector::Argument(name) => json!({ "argument": name }),
                Selector::Given { argument, given } => json!({ "argument": argument, "given": given }),
                Selector::Meant { argument, given } => {
                    json!({ "argument": argument, "given": given, "unless": "dry_run" })
                }
                Selector::Url(argument) => json!({ "argument": argument, "given": argument }),
                Selector::Found => json!("found"),
                Selector::Filtered => json!("filtered"),
            };
            json!({ "entry": format!("{}.{}", touch.noun, touch.verb), "selector": selector })
        })
        .collect();
    json!({
        "name": declared.name,
        "call": declared.spelled(),
        "effect": declared.effect,
        "summary": entry.summary,
        "details": entry.details,
        "receiver": declared.receiver(),
        "positional": declared.positional,
        "touches": touches,
        "usage": declared.usage,
        "arguments": declared.arguments_schema().to_value(),
        "result": declared.result_schema().to_value(),
    })
}

fn function(function: &Function) -> Value {
    json!({ "name": function.name, "signature": function.signature(), "summary": function.doc, "usage": function.usage })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(name: &str) -> Vec<String> {
        let found = find(name).unwrap();
        found
            .iter()
            .filter_map(|one| match pages(std::slice::from_ref(one)).into_iter().next() {
                Some(Block::Heading(_, title)) => Some(title.replace('`', "")),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_name_is_found_in_every_spelling() {
        for name in ["vm.clone", "host:clone", "host.clone", "host:clone()", "VM.clone"] {
            assert_eq!(titles(name), ["host:clone"], "{name}");
        }
        for name in ["clone", "vm:clone"] {
            assert_eq!(titles(name), ["host:clone", "snapshot:clone"], "{name}");
        }
        assert_eq!(titles("vm"), ["vm", "Entries of vm"]);
        assert_eq!(titles("esxi"), ["esxi"]);
        assert_eq!(titles("vm.copy_from"), ["Entries of vm"]);
        assert_eq!(titles("@ceso/fleet"), titles("fleet"));
        assert_eq!(titles("fleet.map"), ["fleet.map"]);
        assert_eq!(titles("policy"), ["Capability tables"]);
        assert!(titles("list").len() >= 3, "what is ambiguous is shown whole");
        for topic in reference::topics() {
            assert!(!titles(topic.name).is_empty());
        }
    }

    #[test]
    fn every_name_that_is_offered_is_found() {
        for name in names() {
            assert!(
                find(&name)
                    .is_ok_and(|found| !pages(&found).is_empty() && found.iter().all(|one| data(one).is_object())),
                "{name}"
            );
        }
    }

    #[test]
    fn an_unknown_name_gives_the_nearest() {
        let hint =
            |name: &str| find(name).err().and_then(|fault| fault.hint_text().map(str::to_owned)).unwrap_or_default();
        assert!(hint("vm.colne").contains("vm.clone"), "{}", hint("vm.colne"));
        assert!(hint("powr_on").contains("power_on"));
        assert!(hint("zzzzzz").contains("ceso doc"));
        for name in ["", ".", ":", "@", "\u{1b}[2J", &"x".repeat(100_000)] {
            let fault = find(name).err().unwrap();
            assert!(fault.message().len() < 1000 && !fault.message().contains('\u{1b}'), "{name:.20}");
        }
    }

    #[test]
    fn programs_get_the_schemas() {
        let value = operation(REFERENCE.entries.iter().find(|entry| entry.declared.name == "vm.clone").unwrap());
        assert_eq!(value["arguments"]["required"], json!(["host", "template", "name"]));
        assert_eq!(value["result"]["x-handle"], "vm");
        assert_eq!(value["touches"][0], json!({ "entry": "vm.copy_from", "selector": { "argument": "template" } }));
    }
}
