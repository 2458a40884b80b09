//! What every declaration owes its readers, held against all of them.

use std::path::Path;

use mlua::Lua;
use mlua::chunk::Compiler;

use super::*;
use crate::door::operation::Selector;
use crate::door::vocabulary;

#[test]
fn every_operation_says_what_it_does_in_the_third_person() {
    for entry in &REFERENCE.entries {
        let (name, summary) = (entry.declared.name, &entry.summary);
        let verb = summary.split_whitespace().next().unwrap_or_default();
        assert!(verb.ends_with('s') && verb.starts_with(char::is_uppercase), "{name}: {summary}");
        assert!(summary.ends_with(['.', ':']), "{name}: {summary}");
        assert!(!entry.declared.usage.is_empty(), "{name} has no example");
    }
}

#[test]
fn every_argument_and_every_field_has_a_comment_and_a_type() {
    let arguments = REFERENCE.entries.iter().flat_map(|entry| {
        assert!(!entry.result.is_vague(), "the result of {}", entry.declared.name);
        entry.arguments.iter().map(move |field| (entry.declared.name, field))
    });
    let tables = REFERENCE.tables.values().flat_map(|table| {
        assert!(!table.doc.is_empty(), "{}", table.name);
        table.fields.iter().map(move |field| (table.name.as_str(), field))
    });
    let handles =
        REFERENCE.handles.iter().flat_map(|handle| handle.fields.iter().map(move |field| (handle.kind, field)));
    for (owner, field) in arguments.chain(tables).chain(handles) {
        assert!(!field.doc.is_empty(), "{owner}.{} has no comment", field.name);
        assert!(!field.shape.is_vague(), "{owner}.{} has no type", field.name);
    }
}

#[test]
fn every_table_that_is_named_is_declared_and_every_handle_told() {
    let shapes = REFERENCE
        .entries
        .iter()
        .flat_map(|entry| entry.arguments.iter().map(|field| &field.shape).chain([&entry.result]));
    for name in shapes.flat_map(Shape::tables) {
        assert!(REFERENCE.tables.contains_key(name), "{name}");
    }
    let told: Vec<&str> = REFERENCE.handles.iter().map(|handle| handle.kind).collect();
    for (kind, doc) in kind::ALL {
        assert!(told.contains(kind), "{kind} is no part of ops::handles()");
        assert!(!doc.trim().is_empty(), "{kind}");
    }
}

#[test]
fn positional_arguments_and_touches_name_what_is_declared() {
    for entry in &REFERENCE.entries {
        let declared = entry.declared;
        let known =
            |name: &str| declared.receiver() == Some(name) || entry.arguments.iter().any(|field| field.name == name);
        for name in declared.positional {
            assert!(known(name), "{}: {name}", declared.name);
        }
        for touch in declared.touches {
            match touch.selector {
                Selector::Argument(name) | Selector::Url(name) => assert!(known(name), "{}: {name}", declared.name),
                Selector::Given { argument, given } => {
                    assert!(known(argument) && known(given), "{}: {argument}, {given}", declared.name);
                }
                Selector::Meant { argument, given } => {
                    assert!(known(argument) && given.is_none_or(known) && known("dry_run"), "{}", declared.name);
                }
                Selector::Found | Selector::Filtered => {}
            }
        }
    }
}

#[test]
fn the_vocabulary_is_exactly_what_operations_touch() {
    let touched = |noun: &str, verb: &str| {
        super::super::all()
            .iter()
            .chain(super::super::of_commands())
            .any(|declared| declared.touches.iter().any(|touch| touch.noun == noun && touch.verb == verb))
    };
    for noun in vocabulary::NOUNS {
        for (verb, doc) in noun.verbs {
            assert!(touched(noun.name, verb), "{}.{verb} is touched by no operation", noun.name);
            assert!(!doc.is_empty());
        }
    }
    for declared in super::super::all().iter().chain(super::super::of_commands()) {
        for touch in declared.touches {
            let known = vocabulary::verbs(touch.noun).is_some_and(|mut verbs| verbs.any(|verb| verb == touch.verb));
            assert!(known, "{}: {}.{} is not in the vocabulary", declared.name, touch.noun, touch.verb);
        }
    }
}

#[test]
fn every_function_of_the_standard_library_has_types_a_text_and_an_example() {
    assert!(REFERENCE.modules.iter().any(|module| module.name == "@ceso/task"));
    for module in &REFERENCE.modules {
        assert!(!module.doc.is_empty() && !module.functions.is_empty(), "{}", module.name);
        for function in &module.functions {
            let name = format!("{}.{}", module.name, function.name);
            assert!(!function.doc.is_empty() && !function.usage.is_empty(), "{name}");
            assert!(
                function.parameters.is_empty() || function.parameters.contains(':'),
                "{name}: {}",
                function.parameters
            );
        }
    }
}

#[test]
fn every_example_is_luau() {
    let operations =
        REFERENCE.entries.iter().map(|entry| (entry.declared.name.to_owned(), entry.declared.usage.to_owned()));
    let functions = REFERENCE.modules.iter().flat_map(|module| {
        module
            .functions
            .iter()
            .map(move |function| (format!("{}.{}", module.name, function.name), function.usage.clone()))
    });
    for (name, usage) in operations.chain(functions) {
        let compiled = Compiler::new().compile(&usage).map_err(|error| error.to_string());
        let loaded = compiled.and_then(|code| Lua::new().load(code).into_function().map_err(|error| error.to_string()));
        assert!(loaded.is_ok(), "{name}: {loaded:?}\n{usage}");
    }
}

#[test]
fn the_definitions_are_those_of_the_committed_file() {
    same("lua/types/ceso.d.luau", &luau::definitions(&REFERENCE), "cargo run -- types > lua/types/ceso.d.luau");
}

#[test]
fn a_page_fits_its_width_but_for_code() {
    for entry in &REFERENCE.entries {
        let blocks: Vec<page::Block> = page::operation(&REFERENCE, entry, 1)
            .into_iter()
            .filter(|block| !matches!(block, page::Block::Code(_)))
            .collect();
        let text = page::plain(&blocks, 100);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(!text.contains('`'), "{text}");
    }
}

/// Compares with a committed file, and says how to renew it.
fn same(path: &str, made: &str, how: &str) {
    let committed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default();
    let at = committed.lines().zip(made.lines()).position(|(a, b)| a != b);
    assert!(
        committed == made,
        "{path} is not what the declarations say (first at line {}); renew it: {how}",
        at.map_or_else(|| committed.lines().count().min(made.lines().count()) + 1, |at| at + 1)
    );
}
