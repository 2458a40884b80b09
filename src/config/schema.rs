//! What the declaration of the settings says about a value: is the key known, is the value of the right kind?
//!
//! Works on the JSON schema that schemars derives from [`Settings`](super::settings::Settings), so that there is one declaration.
//! Must not know any setting by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::repositories;
use super::settings::Settings;
use super::values::{self, HostUrl, Trust};
use crate::error::{Fault, nearest};
use crate::units::{Bytes, Span};

/// The schema of all settings, without references.
pub static DECLARATION: LazyLock<Value> = LazyLock::new(|| {
    schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<Settings>()
        .to_value()
});

/// What a place in the declaration is.
pub enum Shape<'a> {
    /// Keys that are declared one by one.
    Section(&'a Map<String, Value>),
    /// Names that the user chooses, all of one shape.
    Named(&'a Value),
    /// One value; lists are replaced as a whole.
    Leaf(&'a Value),
}

/// Reads the shape of a piece of the declaration.
pub fn shape(schema: &Value) -> Shape<'_> {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        return Shape::Section(properties);
    }
    match schema.get("additionalProperties") {
        Some(entry) if entry.is_object() => Shape::Named(entry),
        _ => Shape::Leaf(schema),
    }
}

/// The variables that set a value, and the dotted path of each: `CESO_SECURITY_MODE` → `security.mode`.
pub fn variables() -> BTreeMap<String, String> {
    leaves().into_iter().map(|(path, _)| (format!("CESO_{}", path.to_uppercase().replace('.', "_")), path)).collect()
}

/// The declared values outside of named maps, in the order of the declaration.
pub fn leaves() -> Vec<(String, &'static Value)> {
    fn walk(schema: &'static Value, path: &str, into: &mut Vec<(String, &'static Value)>) {
        match shape(schema) {
            Shape::Section(properties) => {
                properties.iter().for_each(|(key, schema)| walk(schema, &join(path, key), into))
            }
            Shape::Leaf(schema) => into.push((path.to_owned(), schema)),
            Shape::Named(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(&DECLARATION, "", &mut found);
    found
}

/// The declaration of the value at a dotted path.
pub fn leaf(path: &str) -> Option<&'static Value> {
    leaves().into_iter().find(|(known, _)| known == path).map(|(_, schema)| schema)
}

/// Where relative paths and `~/` in a layer begin.
#[derive(Debug, Clone, Default)]
pub struct Anchor {
    /// The folder of the file that is read, or the current folder.
    pub folder: PathBuf,
    /// The user's home folder.
    pub home: Option<PathBuf>,
}

impl Anchor {
    pub fn resolve(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.folder.join(path),
        }
    }
}

/// Checks a layer against the declaration and returns it without empty sections and with absolute paths.
///
/// Faults: `config.unknown_key` (hint: the nearest key), `config.wrong_type`, `config.invalid`; each names `place` and the path.
pub fn check(layer: Map<String, Value>, place: &str, anchor: &Anchor) -> Result<Map<String, Value>, Fault> {
    Check { place, anchor }.map(layer, &DECLARATION, "")
}

struct Check<'a> {
    place: &'a str,
    anchor: &'a Anchor,
}

impl Check<'_> {
    fn map(&self, map: Map<String, Value>, schema: &Value, path: &str) -> Result<Map<String, Value>, Fault> {
        let mut checked = Map::new();
        for (key, value) in map {
            let here = join(path, &key);
            let inner = match shape(schema) {
                Shape::Section(properties) => {
                    properties.get(&key).ok_or_else(|| self.unknown(&key, properties, path))?
                }
                Shape::Named(entry) => {
                    values::check_name(&key).map_err(|why| {
                        let shown = super::printable(&here);
                        Fault::new("config.invalid", format!("{}: {shown}: {why}", self.place))
                            .hint("choose another name")
                    })?;
                    entry
                }
                Shape::Leaf(_) => schema,
            };
            if let Some(value) = self.value(value, inner, &here)? {
                checked.insert(key, value);
            }
        }
        Ok(checked)
    }

    /// An empty section (`hosts:` with nothing but comments below it) says nothing.
    fn value(&self, value: Value, schema: &Value, path: &str) -> Result<Option<Value>, Fault> {
        match (shape(schema), value) {
            (_, Value::Null) => Ok(None),
            (Shape::Leaf(schema), value) => {
                check_leaf(&value, schema).map_err(|expected| self.wrong(path, &expected, &value))?;
                Ok(Some(self.anchored(value, schema)))
            }
            (_, Value::Object(map)) => Ok(Some(Value::Object(self.map(map, schema, path)?))),
            (_, value) => Err(self.wrong(path, "a section with keys below it", &value)),
        }
    }

    fn anchored(&self, mut value: Value, schema: &Value) -> Value {
        let resolve = |text: &str| Value::String(self.anchor.resolve(Path::new(text)).to_string_lossy().into_owned());
        match (schema.get("format").and_then(Value::as_str), &value) {
            (Some("path"), Value::String(text)) => value = resolve(text),
            (Some("repository-url"), Value::String(text)) if !text.contains("://") => value = resolve(text),
            (Some("trust"), Value::Object(map)) => {
                if let Some(path) = map.get("ca_file").and_then(Value::as_str).map(resolve) {
                    value = serde_json::json!({ "ca_file": path });
                }
            }
            _ => {}
        }
        value
    }

    fn unknown(&self, key: &str, properties: &Map<String, Value>, path: &str) -> Fault {
        let shown = super::printable(&join(path, key));
        let fault = Fault::new("config.unknown_key", format!("{}: the key {shown:?} is not known", self.place));
        if key.contains("command") {
            return fault.hint("no setting of ceso names a command to run; a password comes from \"password_file\", \"password_env\" or the keyring");
        }
        if matches!(key, "access_key" | "access_key_id" | "secret_key" | "secret_access_key" | "session_token") {
            return fault.hint("keys do not stand in configuration files; use \"secret_key_file\" or \"secret_key_env\", \"access_key_file\" or \"access_key_env\", or \"profile\"");
        }
        if matches!(key, "password" | "passwd" | "pass" | "token") {
            return fault.hint("passwords do not stand in configuration files; use \"password_file\", \"password_env\" or `ceso host add --store keyring`");
        }
        match nearest(key, properties.keys().map(String::as_str)).first() {
            Some(best) => fault.hint(format!("did you mean {:?}?", join(path, best))),
            None => fault
                .hint(format!("known here: {}", properties.keys().map(String::as_str).collect::<Vec<_>>().join(", "))),
        }
    }

    fn wrong(&self, path: &str, expected: &str, found: &Value) -> Fault {
        let shown = super::printable(path);
        let found = match found {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("{value}"),
            Value::Number(number) => format!("the number {number}"),
            // An address may hold a password that does not belong there.
            Value::String(text) if text.contains('@') => "another text".to_owned(),
            Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a map".to_owned(),
        };
        Fault::new("config.wrong_type", format!("{}: {shown}: expected {expected}; found {found}", self.place))
            .hint("`ceso config init` writes an example of each setting; `ceso config show` prints what holds now")
    }
}

/// Checks one value against its declaration. The error says what was expected.
pub fn check_leaf(value: &Value, schema: &Value) -> Result<(), String> {
    if let Some(allowed) = choices(schema) {
        return match value.as_str() {
            Some(text) if allowed.contains(&text) => Ok(()),
            Some(text) => Err(match nearest(text, allowed.iter().copied()).first() {
                Some(best) => format!("one of {} (did you mean {best:?}?)", allowed.join(", ")),
                None => format!("one of {}", allowed.join(", ")),
            }),
            None => Err(format!("one of {}", allowed.join(", "))),
        };
    }
    match schema.get("format").and_then(Value::as_str) {
        Some("bytes") => return reads::<Bytes>(value, "a size such as \"64 MiB\""),
        Some("duration") => return reads::<Span>(value, "a duration such as \"10 min\""),
        Some("host-url") => return reads_text::<HostUrl>(value),
        Some("repository-url") => {
            let text = value.as_str().filter(|text| !text.is_empty()).ok_or("a text (write numbers in quotes)")?;
            return repositories::check_url(text);
        }
        Some("cidr") => return reads::<ipnet::IpNet>(value, "a network such as \"10.0.0.0/8\""),
        Some("ip") => return reads::<std::net::IpAddr>(value, "an address such as \"127.0.0.1\""),
        Some("trust") => {
            return reads::<Trust>(
                value,
                "\"system\", \"fingerprint: AB:CD:…\" (64 digits, SHA-256) or \"ca_file: PATH\"",
            );
        }
        _ => {}
    }
    match kind(schema) {
        "string" if value.is_string() => match value.as_str().unwrap_or_default() {
            text if text.contains(['\0', '\n', '\r']) => Err("a text of one line".to_owned()),
            "" => Err("a text that is not empty".to_owned()),
            _ => Ok(()),
        },
        "string" => Err("a text (write numbers in quotes)".to_owned()),
        "boolean" if value.is_boolean() => Ok(()),
        "boolean" => Err("true or false".to_owned()),
        "integer" => {
            let low = schema.get("minimum").and_then(Value::as_f64).map_or(0, |n| n as u64);
            let high = schema.get("maximum").and_then(Value::as_f64).map_or(u64::from(u32::MAX), |n| n as u64);
            match value.as_u64() {
                Some(number) if (low..=high).contains(&number) => Ok(()),
                _ => Err(format!("a whole number from {low} to {high}")),
            }
        }
        "array" => {
            let items = value.as_array().ok_or("a list (\"- …\" on a line of its own for each)")?;
            let Some(schema) = schema.get("items") else { return Ok(()) };
            items
                .iter()
                .try_for_each(|item| check_leaf(item, schema).map_err(|why| format!("a list of which each is {why}")))
        }
        _ => Ok(()),
    }
}

/// Turns the text of a variable or a flag into a value of the declared kind; a list is written with commas.
pub fn from_text(text: &str, schema: &Value) -> Value {
    let text = text.trim();
    match kind(schema) {
        "boolean" => text.parse().map_or_else(|_| Value::String(text.to_owned()), Value::Bool),
        "integer" => text.parse::<u64>().map_or_else(|_| Value::String(text.to_owned()), Value::from),
        "array" => text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect(),
        _ => Value::String(text.to_owned()),
    }
}

/// The texts that a choice allows, where the declaration is one.
pub fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(list) = schema.get("enum") {
        return list.as_array()?.iter().map(Value::as_str).collect();
    }
    schema.get("oneOf")?.as_array()?.iter().map(|one| one.get("const").and_then(Value::as_str)).collect()
}

fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default()
        }
        _ => "",
    }
}

fn reads<T: DeserializeOwned>(value: &Value, expected: &str) -> Result<(), String> {
    serde_json::from_value::<T>(value.clone()).map(drop).map_err(|_| expected.to_owned())
}

fn reads_text<T: std::str::FromStr<Err = String>>(value: &Value) -> Result<(), String> {
    let text = value.as_str().ok_or("a text (write numbers in quotes)")?;
    text.parse::<T>().map(drop).map_err(|why| format!("an address of a host: {why}"))
}

/// Joins a dotted path.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
