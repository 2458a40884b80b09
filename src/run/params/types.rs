//! The types of parameters: what a person may type for each, and what a script or a program may give.

use std::path::PathBuf;

use crate::config::SecretPurpose;
use crate::config::files::{self, Guard};
use crate::door::file::Access;
use crate::error::nearest;
use crate::units::{Bytes, Span};
use crate::web::Address;
use crate::wire::Value;

/// The type of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    Text,
    Number,
    Bool,
    Size,
    Duration,
    Cidr,
    List(Box<Type>),
    /// Words as they are, commas and all: what a command line is made of.
    Words,
    Choice(Vec<String>),
    /// Text that may be typed as `@PATH`.
    Content,
    /// A table out of a YAML or JSON file.
    Data,
    Secret(SecretPurpose),
    /// A file of this machine, to be read or to be made.
    File(Access),
    /// A file of this machine to be read, or what lies at a URL.
    Source,
}

/// The types of parameters.
pub const TYPES: &[(&str, &str)] = &[
    ("string", "text"),
    ("text", "text; typed as it is, or as @PATH for what that file holds (at most 1 MiB; @@ is an @)"),
    ("data", "a table; typed as the path of a YAML or JSON file that holds it"),
    (
        "secret",
        "a secret; typed as env:NAME, file:PATH or secret:NAME, it reaches the script as a handle and has no default",
    ),
    (
        "file",
        "a file of this machine; typed as its path, it reaches the script as a handle that it can send or fill and has no default",
    ),
    (
        "source",
        "a file of this machine, typed as its path, or what lies at a URL of http or https: a path reaches the script as a handle, a URL as text; it has no default",
    ),
    ("number", "a number"),
    ("bool", "true or false; typed as true, false, yes, no, on, off, 1 or 0"),
    ("size", "a size with a unit, such as \"2 GiB\"; it reaches the script as text"),
    ("duration", "a length of time with a unit, such as \"5 min\"; it reaches the script as text"),
    ("cidr", "a network, such as \"10.0.1.0/24\""),
    ("list", "a list; typed with commas"),
    ("words", "a list of words as they are, commas and all; typed once for each word, or as a JSON array"),
    ("choice", "one of `choices`"),
];

pub(super) fn names(table: &[(&'static str, &'static str)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}

impl Type {
    /// The type's name in a declaration.
    pub fn name(&self) -> &'static str {
        match self {
            Type::Text => "string",
            Type::Number => "number",
            Type::Bool => "bool",
            Type::Size => "size",
            Type::Duration => "duration",
            Type::Cidr => "cidr",
            Type::List(_) => "list",
            Type::Words => "words",
            Type::Choice(_) => "choice",
            Type::Content => "text",
            Type::Data => "data",
            Type::Secret(_) => "secret",
            Type::File(_) => "file",
            Type::Source => "source",
        }
    }

    /// Whether its value may stand in a selector.
    pub fn is_literal(&self) -> bool {
        !matches!(self, Type::Secret(_) | Type::File(_) | Type::Data)
    }

    /// Reads what a person typed. A list is separated by commas.
    pub fn read(&self, text: &str) -> Result<Value, String> {
        let number = || text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
        match self {
            Type::Text => Ok(Value::Text(text.to_owned())),
            Type::Number => match number() {
                Some(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => Ok(Value::Int(number as i64)),
                Some(number) => Ok(Value::Float(number)),
                None => Err(format!("{text:?} is not a number")),
            },
            Type::Bool => match text {
                "true" | "yes" | "on" | "1" => Ok(Value::Bool(true)),
                "false" | "no" | "off" | "0" => Ok(Value::Bool(false)),
                _ => Err(format!("{text:?} is neither true nor false")),
            },
            Type::Size => text.parse::<Bytes>().map(|_| Value::Text(text.trim().to_owned())).map_err(|e| e.to_string()),
            Type::Duration => {
                text.parse::<Span>().map(|_| Value::Text(text.trim().to_owned())).map_err(|e| e.to_string())
            }
            Type::Cidr => text
                .parse::<ipnet::IpNet>()
                .map(|net| Value::Text(net.to_string()))
                .map_err(|_| format!("{text:?} is not a network in CIDR form, such as \"10.0.1.0/24\"")),
            Type::Choice(choices) => {
                if choices.iter().any(|choice| choice == text) {
                    return Ok(Value::Text(text.to_owned()));
                }
                let near = nearest(text, choices.iter().map(String::as_str));
                let hint = near.first().map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
                Err(format!("{text:?} is not one of {}{hint}", choices.join(", ")))
            }
            Type::List(of) => {
                if text.is_empty() {
                    return Ok(Value::List(Vec::new()));
                }
                text.split(',').map(|item| of.read(item.trim())).collect::<Result<_, _>>().map(Value::List)
            }
            Type::Words => {
                let words = serde_json::from_str(text).unwrap_or_else(|_| vec![text.to_owned()]);
                Ok(Value::List(words.into_iter().map(Value::Text).collect()))
            }
            Type::Content => match text.strip_prefix('@') {
                Some(rest) if rest.starts_with('@') => Ok(Value::Text(rest.to_owned())),
                Some(path) => file(path).map(Value::Text),
                None => Ok(Value::Text(text.to_owned())),
            },
            Type::Data => {
                let table = crate::config::table(file(text)?.as_bytes(), text);
                table.map(|table| Value::from_json(table.into())).map_err(|fault| fault.message().to_owned())
            }
            Type::File(_) | Type::Source if text.is_empty() => Err("a file is given as its path".to_owned()),
            Type::Source if Address::is_meant(text) => match Address::parse(text) {
                Ok(_) => Ok(Value::Text(text.to_owned())),
                Err(error) => Err(error.to_string()),
            },
            // The door opens it, for this script alone.
            Type::File(_) | Type::Source => Ok(Value::Text(expanded(text).display().to_string())),
            // What it names is read by the door, for this script alone; what it says is not repeated, for it may be the secret itself.
            Type::Secret(_) => match text.split_once(':') {
                Some(("env" | "file" | "secret", named)) if !named.is_empty() => Ok(Value::Text(text.to_owned())),
                _ => Err("a secret is named, never written out: env:NAME, file:PATH or secret:NAME".to_owned()),
            },
        }
    }

    /// Checks a value that a script or a program gave.
    pub fn check(&self, value: &Value) -> Result<Value, String> {
        match (self, value) {
            (Type::Number, Value::Int(_) | Value::Float(_)) | (Type::Bool, Value::Bool(_)) => Ok(value.clone()),
            (Type::Size | Type::Duration, Value::Int(number)) => self.read(&number.to_string()),
            (Type::Size | Type::Duration, Value::Float(number)) => self.read(&number.to_string()),
            (Type::List(of), Value::List(items)) => {
                items.iter().map(|item| of.check(item)).collect::<Result<_, _>>().map(Value::List)
            }
            (Type::Words, Value::List(items)) => {
                items.iter().map(|item| Type::Text.check(item)).collect::<Result<_, _>>().map(Value::List)
            }
            (Type::List(_) | Type::Words, Value::Map(entries)) if entries.is_empty() => Ok(Value::List(Vec::new())),
            (Type::Text | Type::Size | Type::Duration | Type::Cidr | Type::Choice(_), Value::Text(text)) => {
                self.read(text)
            }
            // A script's or a program's text is text: it has no file read.
            (Type::Content, Value::Text(text)) => Ok(Value::Text(text.clone())),
            (Type::Data, Value::Map(_)) => Ok(value.clone()),
            (Type::Secret(_), Value::Text(text)) if text.starts_with("secret:") => self.read(text),
            (Type::Secret(_), _) => Err("a secret is given as secret:NAME".to_owned()),
            (Type::Source, Value::Text(text)) if Address::is_meant(text) => self.read(text),
            (Type::File(_) | Type::Source, _) => {
                Err("a file is named by the person who types the command, and nobody else".to_owned())
            }
            (_, other) => Err(format!("expected a {}, found {}", self.name(), other.shape())),
        }
    }

    pub(super) fn parse(name: &str, spec: &Value) -> Result<Self, String> {
        Ok(match name {
            "string" => Type::Text,
            "number" => Type::Number,
            "bool" => Type::Bool,
            "size" => Type::Size,
            "duration" => Type::Duration,
            "cidr" => Type::Cidr,
            "list" => match spec.get("of") {
                None => Type::List(Box::new(Type::Text)),
                Some(Value::Text(of))
                    if !matches!(of.as_str(), "list" | "words" | "choice" | "data" | "secret" | "file" | "source") =>
                {
                    Type::List(Box::new(Type::parse(of, &Value::Nil)?))
                }
                Some(_) => {
                    return Err(
                        "of: names the type of the items: string, text, number, bool, size, duration or cidr".into()
                    );
                }
            },
            "choice" => {
                let wrong = "choices: a choice needs a list of strings, such as choices = { \"on\", \"off\" }";
                let Some(Value::List(choices)) = spec.get("choices") else { return Err(wrong.into()) };
                let choices: Option<Vec<String>> =
                    choices.iter().map(|choice| choice.as_text().map(str::to_owned)).collect();
                Type::Choice(choices.filter(|choices| !choices.is_empty()).ok_or(wrong)?)
            }
            "words" => Type::Words,
            "text" => Type::Content,
            "data" => Type::Data,
            "secret" => Type::Secret(purpose(spec)?),
            "file" => Type::File(access(spec)?),
            "source" => Type::Source,
            other => {
                let near = nearest(other, names(TYPES));
                let known = near.first().map_or_else(
                    || format!("known are {}", names(TYPES).join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                return Err(format!("type: there is no type {other:?}; {known}"));
            }
        })
    }
}

fn purpose(spec: &Value) -> Result<SecretPurpose, String> {
    let names = SecretPurpose::ALL.map(SecretPurpose::as_str);
    match spec.get("purpose") {
        None => Ok(SecretPurpose::Text),
        Some(Value::Text(text)) => SecretPurpose::ALL
            .into_iter()
            .find(|purpose| purpose.as_str() == text)
            .ok_or_else(|| format!("purpose: {text:?} is not one of {}", names.join(", "))),
        Some(other) => Err(format!("purpose: expected a string, found {}", other.shape())),
    }
}

fn access(spec: &Value) -> Result<Access, String> {
    match spec.get("access") {
        None => Ok(Access::Read),
        Some(Value::Text(text)) if text == "read" => Ok(Access::Read),
        Some(Value::Text(text)) if text == "write" => Ok(Access::Write),
        Some(_) => Err("access: is read or write".to_owned()),
    }
}

/// The largest file that a parameter names.
const LARGEST_FILE: usize = 1 << 20;

/// A path as a person types it: what a shell left of `~` stands for their own folder.
fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// Reads a file that a person names: ordinary, bounded, UTF-8.
fn file(path: &str) -> Result<String, String> {
    match files::read(&expanded(path), LARGEST_FILE, Guard::Any) {
        Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8 text")),
        Ok(None) => Err(format!("there is no file {path}")),
        Err(fault) => Err(fault.message().to_owned()),
    }
}
