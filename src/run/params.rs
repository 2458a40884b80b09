//! A playbook's parameters: declared with a type, checked before anything runs.
//!
//! ```lua
//! params = {
//!   name   = { type = "string", position = 1, doc = "name of the machine" },
//!   memory = { type = "size", default = "2 GiB" },
//!   tags   = { type = "list", of = "string", default = {} },
//! }
//! ```
//!
//! Types: `string`, `text`, `data`, `number`, `bool`, `size`, `duration`, `cidr`, `list` (`of` names the type of its items), `words`, `choice`
//! (`choices`), `secret` (`purpose`), `file` (`access`), `source` (a file or a URL). A parameter without a `default` is required, unless `optional = true`. Sizes and durations reach
//! the script as text with a unit, a secret or a file as a handle. Files are read for what a person types, never for what a script or a default says.

mod types;

use std::collections::BTreeMap;

use crate::error::{Fault, nearest};
use crate::wire::Value;

use self::types::names;
pub use self::types::{TYPES, Type};

/// One declared parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Param {
    pub name: String,
    pub kind: Type,
    pub doc: String,
    pub default: Option<Value>,
    pub optional: bool,
    /// Its place among the words of a command that are not flags, from 1.
    pub position: Option<usize>,
}

/// What a parameter's declaration may say.
pub const FIELDS: &[(&str, &str)] = &[
    ("type", "the type's name; required"),
    ("doc", "what it is, for `--help`"),
    ("default", "its value where none is given"),
    ("optional", "whether it may be left out without a default; then it is nil"),
    ("position", "its place among the words of a command that are not flags, from 1"),
    (
        "of",
        "the type of a list's items: any but list, words, choice, data, secret, file and source; string unless given",
    ),
    ("choices", "the words that a choice allows"),
    ("access", "what a file is for: read, or write, which makes a new one; read unless given"),
    ("purpose", "what a secret is for: password_hash, password, private_key, token or text; text unless given"),
];

impl Param {
    pub fn required(&self) -> bool {
        self.default.is_none() && !self.optional
    }
}

/// Reads the `params` of a declaration, in order of position, then name.
pub fn declared(params: &Value) -> Result<Vec<Param>, Fault> {
    let wrong = |at: String, what: String| {
        Fault::new("usage.declaration", format!("params{at}: {what}"))
            .hint("a parameter is written as  name = { type = \"string\", doc = \"…\", default = \"…\" }")
    };
    let entries = match params {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(entries) => entries,
        other => return Err(wrong(String::new(), format!("expected a table of parameters, found {}", other.shape()))),
    };
    if entries.len() > MOST {
        return Err(wrong(String::new(), format!("there are {}, and {MOST} are the most", entries.len())));
    }
    let mut declared = Vec::new();
    for (name, spec) in entries {
        declared.push(declare(name, spec).map_err(|what| wrong(format!(".{name}"), what))?);
    }
    declared
        .sort_by(|a, b| (a.position.unwrap_or(usize::MAX), &a.name).cmp(&(b.position.unwrap_or(usize::MAX), &b.name)));
    for (index, param) in declared.iter().filter(|param| param.position.is_some()).enumerate() {
        if param.position != Some(index + 1) {
            return Err(wrong(
                format!(".{}", param.name),
                format!("position: expected {}, since positions count from 1", index + 1),
            ));
        }
    }
    Ok(declared)
}

/// The most parameters, and the longest name of one: they become flags that people read.
const MOST: usize = 256;
const LONGEST_NAME: usize = 64;

fn declare(name: &str, spec: &Value) -> Result<Param, String> {
    if name.len() > LONGEST_NAME {
        return Err(format!("a parameter's name has at most {LONGEST_NAME} letters"));
    }
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !plain || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return Err("a parameter's name is a lower-case word: letters, digits, underscores".into());
    }
    let Value::Map(fields) = spec else {
        return Err(format!("expected a table such as {{ type = \"string\" }}, found {}", spec.shape()));
    };
    if let Some((field, _)) = fields.iter().find(|(field, _)| !names(FIELDS).contains(&field.as_str())) {
        let near = nearest(field, names(FIELDS));
        let hint = near
            .first()
            .map_or_else(|| format!("known are {}", names(FIELDS).join(", ")), |near| format!("did you mean {near}?"));
        return Err(format!("there is no field {field:?}; {hint}"));
    }
    let kind = match spec.get("type") {
        Some(Value::Text(kind)) => Type::parse(kind, spec)?,
        None => return Err("type: is missing; such as type = \"string\"".into()),
        Some(other) => return Err(format!("type: expected a string, found {}", other.shape())),
    };
    let doc = match spec.get("doc") {
        None => String::new(),
        Some(Value::Text(doc)) => doc.clone(),
        Some(other) => return Err(format!("doc: expected a string, found {}", other.shape())),
    };
    if matches!(kind, Type::Secret(_) | Type::File(_) | Type::Source) && spec.get("default").is_some() {
        return Err(format!("default: a {} has none: whoever runs the script names it", kind.name()));
    }
    let default = match spec.get("default") {
        None => None,
        Some(value) => Some(kind.check(value).map_err(|what| format!("default: {what}"))?),
    };
    let optional = match spec.get("optional") {
        None => false,
        Some(Value::Bool(optional)) => *optional,
        Some(other) => return Err(format!("optional: expected a boolean, found {}", other.shape())),
    };
    let position = match spec.get("position") {
        None => None,
        Some(Value::Int(position)) if *position > 0 => Some(*position as usize),
        Some(_) => return Err("position: expected a whole number from 1".into()),
    };
    Ok(Param { name: name.to_owned(), kind, doc, default, optional, position })
}

/// What was given for each parameter, still as it came.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// As people type it: `--param k=v`, a flag's value.
    pub typed: BTreeMap<String, String>,
    /// As programs give it.
    pub values: BTreeMap<String, Value>,
}

impl Given {
    /// Reads the words of `--param k=v`.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, Fault> {
        let mut given = Self::default();
        for word in words {
            let Some((name, value)) = word.split_once('=') else {
                return Err(Fault::new("usage.param", format!("--param {word}: expected NAME=VALUE"))
                    .hint("such as --param name=web-1"));
            };
            if given.typed.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(Fault::new("usage.param", format!("--param {name} is given twice"))
                    .hint("a list is one parameter with commas: --param names=a,b"));
            }
        }
        Ok(given)
    }
}

/// The parameters' values, checked and complete. All that is wrong is said at once.
pub fn resolve(declared: &[Param], given: &Given) -> Result<Value, Fault> {
    let mut wrong = Vec::new();
    let names = || declared.iter().map(|param| param.name.as_str());
    for name in given.typed.keys().chain(given.values.keys()) {
        if !names().any(|known| known == name) {
            let near = nearest(name, names());
            wrong.push(match near.first() {
                Some(near) => format!("there is no parameter {name:?}; did you mean {near}?"),
                None if declared.is_empty() => format!("there is no parameter {name:?}; this script takes none"),
                None => format!("there is no parameter {name:?}; known are {}", names().collect::<Vec<_>>().join(", ")),
            });
        }
    }
    let mut values = Vec::new();
    for param in declared {
        let result = match (given.typed.get(&param.name), given.values.get(&param.name)) {
            (Some(text), _) => param.kind.read(text),
            (None, Some(value)) => param.kind.check(value),
            (None, None) => match &param.default {
                Some(default) => Ok(default.clone()),
                None if param.optional => continue,
                None => Err(format!("is missing ({}){}", param.kind.name(), described(&param.doc))),
            },
        };
        match result {
            Ok(value) => values.push((param.name.clone(), value)),
            Err(what) => wrong.push(format!("{}: {what}", param.name)),
        }
    }
    if wrong.is_empty() {
        return Ok(Value::Map(values));
    }
    Err(Fault::new("usage.param", wrong.join("\n"))
        .hint("give a parameter as --param NAME=VALUE; ceso check FILE lists them"))
}

fn described(doc: &str) -> String {
    if doc.is_empty() { String::new() } else { format!(": {doc}") }
}

/// The parameters whose values are contents, and not names or amounts.
pub fn contents(declared: &[Param]) -> Vec<&str> {
    let contents = declared.iter().filter(|param| matches!(param.kind, Type::Content | Type::Data));
    contents.map(|param| param.name.as_str()).collect()
}

/// Puts a handle in the place of each secret and each file that was named; `handle` gives it.
pub fn hand_over(
    declared: &[Param],
    values: &mut Value,
    mut handle: impl FnMut(&str, &str, &Type) -> Result<Value, Fault>,
) -> Result<(), Fault> {
    let Value::Map(entries) = values else { return Ok(()) };
    for (name, value) in entries {
        let kind = declared.iter().find(|param| param.name == *name).map(|param| &param.kind);
        let named = matches!(kind, Some(Type::Secret(_) | Type::File(_) | Type::Source));
        if let (Some(kind), Value::Text(reference)) = (kind.filter(|_| named), &value) {
            *value = handle(name, reference, kind)?;
        }
    }
    Ok(())
}

/// A parameter as the literal of a selector: `"{name}"` in `needs`.
pub fn as_literal(values: &Value, name: &str) -> Option<String> {
    match values.get(name)? {
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn params(json: serde_json::Value) -> Result<Vec<Param>, Fault> {
        declared(&Value::from_json(json))
    }

    #[test]
    fn values_are_checked_by_type_before_anything_runs() {
        let declared = params(json!({
            "s": { "type": "string" }, "n": { "type": "number", "default": 1 }, "b": { "type": "bool", "default": false },
            "z": { "type": "size", "default": "2 GiB" }, "d": { "type": "duration", "default": 90 },
            "c": { "type": "cidr", "default": "10.0.0.0/24" }, "l": { "type": "list", "of": "number", "default": {} },
            "o": { "type": "choice", "choices": ["on", "off"], "default": "on" }, "x": { "type": "string", "optional": true },
            "w": { "type": "words", "default": {} },
        }))
        .unwrap();
        let resolve_words = |words: &[&str]| resolve(&declared, &Given::from_words(words.iter().copied()).unwrap());
        let values = resolve_words(&["s=a=b", "l=1, 2,3", "z=512 MiB"]).unwrap();
        assert_eq!(values.get("s"), Some(&Value::Text("a=b".into())));
        assert_eq!(values.get("l"), Some(&Value::List(vec![Value::Int(1), Value::Int(2), Value::Int(3)])));
        assert_eq!(values.get("x"), None);
        for (typed, words) in [("w=a,b", vec!["a,b"]), (r#"w=["-c","a,b"]"#, vec!["-c", "a,b"]), ("w=[1]", vec!["[1]"])]
        {
            let values = resolve_words(&["s=a", typed]).unwrap();
            let words = words.into_iter().map(|word| Value::Text(word.into())).collect();
            assert_eq!(values.get("w"), Some(&Value::List(words)));
        }
        for (words, expected) in [
            (&["n=2"][..], "s: is missing"),
            (&["s=a", "n=two"], "n: \"two\" is not a number"),
            (&["s=a", "b=maybe"], "b: \"maybe\" is neither"),
            (&["s=a", "z=many"], "z: \"many\" is not a size"),
            (&["s=a", "c=10.0.0.0/33"], "c: "),
            (&["s=a", "l=1,x"], "l: \"x\" is not a number"),
            (&["s=a", "o=onn"], "did you mean \"on\"?"),
            (&["s=a", "nn=1"], "there is no parameter \"nn\"; did you mean n?"),
        ] {
            let fault = resolve_words(words).unwrap_err();
            assert!(fault.message().contains(expected), "{words:?}: {fault:?}");
        }
    }

    #[test]
    fn a_wrong_declaration_names_its_place() {
        for (json, expected) in [
            (json!({ "Name": { "type": "string" } }), "params.Name: "),
            (json!({ "a": "string" }), "params.a: expected a table"),
            (json!({ "a": {} }), "params.a: type: is missing"),
            (json!({ "a": { "type": "strng" } }), "did you mean string?"),
            (json!({ "a": { "type": "string", "defualt": 1 } }), "did you mean default?"),
            (json!({ "a": { "type": "number", "default": "x" } }), "params.a: default: "),
            (json!({ "a": { "type": "choice" } }), "params.a: choices: "),
            (json!({ "a": { "type": "string", "position": 2 } }), "params.a: position: expected 1"),
            (json!(["a"]), "params: expected a table"),
        ] {
            let fault = params(json.clone()).unwrap_err();
            assert!(fault.message().contains(expected), "{json}: {fault:?}");
        }
    }
}
