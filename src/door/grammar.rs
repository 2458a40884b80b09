//! The written form of a capability table, version 1: from a playbook's `needs`, a grant file, and back to text.
//!
//! ```text
//! table    = { version = 1, NOUN = { VERB = rule, … }, … }
//! rule     = selector | { selector, … } | { name = selector | { selector, … }, max = COUNT }
//! selector = "NAME" | "PREFIX*" | "*" | "@made"
//! ```
//!
//! In `needs` a selector may hold a parameter in braces, which stands for its literal value: `"{name}"`.

use super::table::{Entry, Pattern, Table};
use super::{modes, modes::Mode, vocabulary};
use crate::error::{Fault, nearest};
use crate::wire::Value;

/// The version of the grammar that this ceso reads.
pub const VERSION: i64 = 1;

/// The most selectors of a table: each call is held against all of them.
const MAX_SELECTORS: usize = 4096;

/// Reads a table; `whose` names it in errors (`needs`, a grant file's path).
///
/// `parameter` gives a parameter's text for `"{name}"`; where it returns `None`, braces stay as they are (`ceso check`).
pub fn read(whose: &str, value: &Value, parameter: &dyn Fn(&str) -> Option<String>) -> Result<Table, Fault> {
    let wrong = |message: String| {
        Fault::new("usage.capability_table", format!("{whose}: {message}"))
            .hint("an entry is noun = { verb = selector }, such as vm = { read = \"*\", create = { name = \"web-*\", max = 3 } }")
    };
    let nouns = match value {
        Value::Map(nouns) => nouns,
        Value::Nil => return Ok(Table::default()),
        other => return Err(wrong(format!("a capability table is a table of nouns, not {}", other.shape()))),
    };
    let mut table = Table::default();
    let mut selectors = 0;
    for (noun, verbs) in nouns {
        if noun == "version" {
            if *verbs != Value::Int(VERSION) {
                return Err(wrong("version: this ceso reads version 1 of the grammar".to_owned())
                    .hint("write version = 1, or leave it out"));
            }
            continue;
        }
        let Some(known) = vocabulary::verbs(noun) else {
            let nouns = vocabulary::NOUNS.iter().map(|noun| noun.name);
            return Err(wrong(format!("{noun}: there is no such noun")).hint(suggest(noun, nouns)));
        };
        let known: Vec<&str> = known.collect();
        let Value::Map(verbs) = verbs else {
            return Err(wrong(format!("{noun}: expected a table of verbs, not {}", verbs.shape()))
                .hint(format!("such as {noun} = {{ {} = \"*\" }}", known.first().unwrap_or(&"read"))));
        };
        for (verb, rule) in verbs {
            if !known.contains(&verb.as_str()) {
                return Err(
                    wrong(format!("{noun}.{verb}: there is no such verb")).hint(suggest(verb, known.iter().copied()))
                );
            }
            let own = |text: &str, parameter: &dyn Fn(&str) -> Option<String>| {
                let pattern = read_selector(text, parameter)?;
                if noun == "web" { super::web::selector(pattern, text.contains('{')) } else { Ok(pattern) }
            };
            let (patterns, max) = read_rule(rule, &|text| own(text, parameter))
                .map_err(|what| wrong(format!("{noun}.{verb}: {what}")))?;
            // Reads are not counted, and a number that nobody holds to must not stand in a table.
            if max.is_some() && modes::table(Mode::Restricted).mentions(noun, verb) {
                return Err(wrong(format!("{noun}.{verb}: max: a quota counts changes, and this is none"))
                    .hint(format!("leave max out of {noun}.{verb}")));
            }
            selectors += patterns.len();
            if selectors > MAX_SELECTORS {
                return Err(
                    wrong(format!("it has more than {MAX_SELECTORS} selectors")).hint("use prefixes such as \"web-*\"")
                );
            }
            table.entries.push(Entry { noun: noun.clone(), verb: verb.clone(), patterns, max });
        }
    }
    Ok(table)
}

type Selectors<'a> = &'a dyn Fn(&str) -> Result<Pattern, String>;

fn read_rule(rule: &Value, selector: Selectors<'_>) -> Result<(Vec<Pattern>, Option<u64>), String> {
    let Value::Map(fields) = rule else { return Ok((read_selectors(rule, selector)?, None)) };
    let mut max = None;
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("name", _) => {}
            ("max", Value::Int(count)) if *count > 0 => max = Some(*count as u64),
            ("max", _) => return Err("max: expected a whole number above 0".to_owned()),
            (other, _) => return Err(format!("{other}: a rule has the fields name and max")),
        }
    }
    let name = rule.get("name").ok_or("a rule with fields needs a name, such as name = \"*\"")?;
    Ok((read_selectors(name, selector)?, max))
}

fn read_selectors(value: &Value, selector: Selectors<'_>) -> Result<Vec<Pattern>, String> {
    match value {
        Value::Text(text) => Ok(vec![selector(text)?]),
        Value::List(items) if !items.is_empty() => items
            .iter()
            .map(|item| match item {
                Value::Text(text) => selector(text),
                other => Err(format!("expected a selector, found {}", other.shape())),
            })
            .collect(),
        Value::Bool(true) => Err("expected a selector; write \"*\" for all".to_owned()),
        other => Err(format!("expected a selector such as \"web-*\" or \"*\", found {}", other.shape())),
    }
}

/// A parameter's value is a literal: a `*` that it holds selects nothing but a name with a star in it.
fn read_selector(text: &str, parameter: &dyn Fn(&str) -> Option<String>) -> Result<Pattern, String> {
    let parts = braces(text)?;
    if parts.iter().all(|part| matches!(part, Part::Text(_))) {
        return Pattern::parse(text).ok_or_else(|| {
            format!("{text:?} is not a selector: a name, a prefix that ends in one *, \"*\" or \"@made\"")
        });
    }
    let mut literal = String::new();
    for (index, part) in parts.iter().enumerate() {
        match part {
            Part::Parameter(name) => match parameter(name) {
                Some(value) => literal.push_str(&value),
                None => literal.push_str(&format!("{{{name}}}")),
            },
            Part::Text(text) => match text.strip_suffix('*') {
                // With an empty parameter a prefix would be no prefix at all, but everything.
                Some(rest)
                    if index + 1 == parts.len() && !rest.contains('*') && literal.is_empty() && rest.is_empty() =>
                {
                    return Err(format!("{text:?} after an empty parameter would select everything"));
                }
                Some(rest) if index + 1 == parts.len() && !rest.contains('*') => {
                    return Ok(Pattern::Prefix(literal + rest));
                }
                None if !text.contains('*') => literal.push_str(text),
                _ => return Err(format!("{text:?}: a * may stand at the end only")),
            },
        }
    }
    if literal.is_empty() {
        return Err(format!("{text:?} is empty with these parameters, and would select nothing"));
    }
    Ok(Pattern::Exact(literal))
}

enum Part<'a> {
    Text(&'a str),
    Parameter(&'a str),
}

fn braces(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let (name, after) = after.split_once('}').ok_or_else(|| format!("{text:?}: a brace is not closed"))?;
        parts.push(Part::Parameter(name));
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Ok(parts)
}

/// The parameters that a table's selectors name, for `ceso check`.
pub fn parameters(value: &Value) -> Vec<String> {
    match value {
        Value::Text(text) => braces(text)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|part| match part {
                Part::Parameter(name) => Some(name.to_owned()),
                Part::Text(_) => None,
            })
            .collect(),
        Value::List(items) => items.iter().flat_map(parameters).collect(),
        Value::Map(entries) => entries.iter().flat_map(|(_, value)| parameters(value)).collect(),
        _ => Vec::new(),
    }
}

/// The table as Luau, ready to paste as `needs`.
pub fn write(table: &Table) -> String {
    write_with(table, &selector)
}

/// The table as its playbook wrote it, with parameters in braces.
pub fn write_as_written(table: &Table) -> String {
    write_with(table, &|pattern| Some(quote(&pattern.to_string())))
}

fn write_with(table: &Table, selector: &dyn Fn(&Pattern) -> Option<String>) -> String {
    let mut out = String::from("needs = {\n");
    for noun in vocabulary::NOUNS {
        let entries: Vec<&Entry> = table.entries.iter().filter(|entry| entry.noun == noun.name).collect();
        let verbs: Vec<String> =
            entries.iter().filter_map(|entry| Some(format!("{} = {}", entry.verb, rule(entry, selector)?))).collect();
        if !verbs.is_empty() {
            out.push_str(&format!("  {} = {{ {} }},\n", noun.name, verbs.join(", ")));
        }
        for entry in entries {
            for pattern in entry.patterns.iter().filter(|pattern| selector(pattern).is_none()) {
                let name = quote(&pattern.to_string());
                out.push_str(&format!("  -- {} on {name}: no entry can allow such a name alone\n", entry.name()));
            }
        }
    }
    out.push_str("},\n");
    out
}

/// The selector as Luau; `None` for a name that would be read as a pattern or a parameter.
pub fn selector(pattern: &Pattern) -> Option<String> {
    let text = pattern.to_string();
    let reads_otherwise = text.contains('{') || Pattern::parse(&text).as_ref() != Some(pattern);
    (!reads_otherwise).then(|| quote(&text))
}

fn rule(entry: &Entry, selector: &dyn Fn(&Pattern) -> Option<String>) -> Option<String> {
    let patterns: Vec<String> = entry.patterns.iter().filter_map(selector).collect();
    let name = match patterns.as_slice() {
        [] => return None,
        [one] => one.clone(),
        many => format!("{{ {} }}", many.join(", ")),
    };
    Some(match entry.max {
        Some(max) => format!("{{ name = {name}, max = {max} }}"),
        None => name,
    })
}

/// A Luau string literal.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() || crate::redact::is_hidden(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn suggest<'a>(wanted: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(wanted, known.clone()).first() {
        Some(name) => format!("did you mean {name}?"),
        None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(json: serde_json::Value) -> Result<Table, Fault> {
        read("needs", &Value::from_json(json), &|name| (name == "name").then(|| "web-*".to_owned()))
    }

    #[test]
    fn the_forms_of_a_rule_are_read() {
        let table = table(serde_json::json!({
            "version": 1,
            "vm": { "read": "*", "create": { "name": "web-*", "max": 3 }, "power": ["a", "b-*"], "destroy": "@made" },
        }))
        .unwrap();
        assert!(table.allowing("vm", "create", "web-1", false).is_some());
        assert_eq!(table.of("vm", "create").next().unwrap().max, Some(3));
        assert!(table.allowing("vm", "power", "b-7", false).is_some());
        assert!(table.allowing("vm", "destroy", "b-7", false).is_none());
    }

    #[test]
    fn a_parameter_in_a_selector_is_a_literal() {
        let table = table(serde_json::json!({ "vm": { "create": "{name}", "power": "x-{name}-*" } })).unwrap();
        assert!(table.allowing("vm", "create", "web-*", false).is_some());
        assert!(table.allowing("vm", "create", "web-1", false).is_none());
        assert!(table.allowing("vm", "power", "x-web-*-2", false).is_some());
        assert!(table.allowing("vm", "power", "x-web-1-2", false).is_none());
    }

    #[test]
    fn an_empty_parameter_never_makes_a_prefix_of_everything() {
        let read = |selector: &str| {
            read("needs", &Value::from_json(serde_json::json!({ "vm": { "power": selector } })), &|_| {
                Some(String::new())
            })
        };
        for selector in ["{name}*", "{name}{name}*", "{name}"] {
            assert!(read(selector).is_err(), "{selector}");
        }
        assert!(read("x{name}*").unwrap().allowing("vm", "power", "y", false).is_none());
    }

    #[test]
    fn a_quota_on_a_read_and_a_table_without_an_end_are_refused() {
        let max = serde_json::json!({ "vm": { "read": { "name": "*", "max": 3 } } });
        assert!(table(max).unwrap_err().message().contains("max"));
        let names: Vec<String> = (0..5000).map(|n| format!("web-{n}")).collect();
        assert!(table(serde_json::json!({ "vm": { "power": names } })).unwrap_err().message().contains("selectors"));
    }

    #[test]
    fn errors_name_the_place_and_the_nearest_word() {
        for (json, place, hint) in [
            (serde_json::json!({ "vmm": {} }), "vmm", Some("vm")),
            (serde_json::json!({ "vm": { "reed": "*" } }), "vm.reed", Some("read")),
            (serde_json::json!({ "vm": { "read": true } }), "vm.read", None),
            (serde_json::json!({ "vm": { "read": "a*b" } }), "vm.read", None),
            (serde_json::json!({ "vm": { "read": "{name" } }), "vm.read", None),
            (serde_json::json!({ "vm": { "read": {} } }), "vm.read", None),
            (serde_json::json!({ "vm": { "create": { "name": "a", "max": 0 } } }), "vm.create", None),
            (serde_json::json!({ "version": 2 }), "version", None),
            (serde_json::json!([1]), "needs", None),
        ] {
            let fault = table(json.clone()).unwrap_err();
            assert!(fault.message().contains(place), "{json}: {fault:?}");
            if let Some(hint) = hint {
                assert!(fault.hint_text().unwrap().contains(hint), "{json}: {fault:?}");
            }
        }
    }
}
