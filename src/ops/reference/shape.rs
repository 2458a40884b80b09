//! The shape of a value, read from its JSON Schema: what every text about arguments and results is made from.
//!
//! Knows the few forms that the declarations use (schemars over serde types, `x-handle`, `format` bytes and duration). A form that it
//! does not know becomes [`Shape::Any`], which a test forbids: a declaration must never lose its types in silence.

use serde_json::{Map, Value};

/// What a value may be.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// `nil`.
    Nothing,
    /// Declared as a value of any form: a playbook's parameter, or its result.
    Free,
    Any,
    /// A table of whatever there is to tell.
    Open,
    Text,
    Number,
    Whole,
    Flag,
    /// A size with a unit; where `number` holds, a number of bytes too.
    Size {
        number: bool,
    },
    /// A time with a unit; where `number` holds, a number of seconds too.
    Duration {
        number: bool,
    },
    /// One of these words.
    Word(Vec<String>),
    List(Box<Shape>),
    Map(Box<Shape>),
    /// A table whose fields are declared under this name.
    Table(String),
    /// A handle of this kind.
    Handle(String),
    Either(Vec<Shape>),
}

/// A field of a table, or an argument.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: String,
    pub doc: String,
    pub shape: Shape,
    /// Whether it may be left out, or be nil.
    pub optional: bool,
}

/// A named table: its doc comment and its fields, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Fields {
    pub name: String,
    pub doc: String,
    pub fields: Vec<Field>,
}

impl Shape {
    /// Reads a schema. References are taken as names of tables.
    pub fn of(schema: &Value) -> Self {
        let (shape, optional) = Self::split(schema);
        if optional { Self::Either(vec![shape, Self::Nothing]) } else { shape }
    }

    /// Reads a schema, and whether it allows nil besides.
    fn split(schema: &Value) -> (Self, bool) {
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        if let Some(kind) = text("x-handle") {
            return (Self::Handle(kind.to_owned()), false);
        }
        if schema.get("x-open").is_some() {
            return (Self::Open, false);
        }
        if schema.get("x-any").is_some() {
            return (Self::Free, false);
        }
        if let Some(name) = text("$ref").and_then(|reference| reference.strip_prefix("#/$defs/")) {
            return (Self::Table(name.to_owned()), false);
        }
        if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)).and_then(Value::as_array) {
            return Self::either(choices);
        }
        let kinds = kinds(schema);
        let optional = kinds.contains(&"null");
        let kinds: Vec<&str> = kinds.into_iter().filter(|kind| *kind != "null").collect();
        if let Some(words) = words(schema) {
            return (Self::Word(words), optional);
        }
        let number = kinds.contains(&"number");
        let shape = match (kinds.as_slice(), text("format")) {
            (_, Some("bytes")) => Self::Size { number },
            (_, Some("duration")) => Self::Duration { number },
            ([], _) if optional => Self::Nothing,
            (["string"], _) => Self::Text,
            (["integer"], _) => Self::Whole,
            (["number"], _) => Self::Number,
            (["boolean"], _) => Self::Flag,
            (["array"], _) => Self::List(Box::new(schema.get("items").map_or(Self::Any, Self::of))),
            (["object"], _) => match schema.get("additionalProperties") {
                Some(inner) if inner.is_object() => Self::Map(Box::new(Self::of(inner))),
                _ => Self::Any,
            },
            _ => Self::Any,
        };
        (shape, optional && shape_is_something(schema))
    }

    fn either(choices: &[Value]) -> (Self, bool) {
        let mut shapes = Vec::new();
        let mut words = Vec::new();
        let mut optional = false;
        for choice in choices {
            match Self::split(choice) {
                (Self::Nothing, _) => optional = true,
                (Self::Word(more), nil) => {
                    words.extend(more);
                    optional |= nil;
                }
                (Self::Either(more), nil) => {
                    shapes.extend(more);
                    optional |= nil;
                }
                (shape, nil) => {
                    shapes.push(shape);
                    optional |= nil;
                }
            }
        }
        if !words.is_empty() {
            shapes.push(Self::Word(words));
        }
        match (shapes.pop(), shapes.is_empty()) {
            (None, _) => (Self::Nothing, false),
            (Some(only), true) => (only, optional),
            (Some(last), false) => {
                shapes.push(last);
                (Self::Either(shapes), optional)
            }
        }
    }

    /// The names of the tables in it.
    pub fn tables(&self) -> Vec<&str> {
        match self {
            Self::Table(name) => vec![name],
            Self::List(inner) | Self::Map(inner) => inner.tables(),
            Self::Either(shapes) => shapes.iter().flat_map(Self::tables).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether any part of it is of no known form.
    pub fn is_vague(&self) -> bool {
        match self {
            Self::Any => true,
            Self::List(inner) | Self::Map(inner) => inner.is_vague(),
            Self::Either(shapes) => shapes.iter().any(Self::is_vague),
            _ => false,
        }
    }
}

impl Fields {
    /// Reads the schema of a table with declared fields.
    pub fn of(name: &str, schema: &Value) -> Self {
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let fields = properties.iter().map(|(name, schema)| {
            let (shape, nil) = Shape::split(schema);
            let optional = nil || !required.contains(&name.as_str());
            let mut doc = description(schema);
            if schema.get("x-said-by").and_then(Value::as_str) == Some("guest") {
                doc.push_str(" Said by the guest.");
            }
            Field { name: name.clone(), doc, shape, optional }
        });
        Self { name: name.to_owned(), doc: description(schema), fields: fields.collect() }
    }

    /// The names of the tables that its fields are made of.
    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().flat_map(|field| field.shape.tables())
    }
}

/// A doc comment as paragraphs: lines within one are joined.
pub fn description(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split("\n\n")
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn kinds(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn words(schema: &Value) -> Option<Vec<String>> {
    if let Some(word) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![word.to_owned()]);
    }
    let words = schema.get("enum")?.as_array()?;
    Some(words.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn shape_is_something(schema: &Value) -> bool {
    kinds(schema).iter().any(|kind| *kind != "null")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_option_keeps_its_type() {
        for (schema, expected) in [
            (json!({ "type": ["string", "null"] }), Shape::Text),
            (json!({ "type": ["integer", "null"], "format": "uint32" }), Shape::Whole),
            (json!({ "type": ["string", "number", "null"], "format": "bytes" }), Shape::Size { number: true }),
            (
                json!({ "type": ["string", "null"], "enum": ["a", "b", null] }),
                Shape::Word(vec!["a".into(), "b".into()]),
            ),
            (json!({ "anyOf": [{ "$ref": "#/$defs/Nic" }, { "type": "null" }] }), Shape::Table("Nic".into())),
        ] {
            let fields = Fields::of("T", &json!({ "properties": { "x": schema }, "required": ["x"] }));
            assert_eq!((&fields.fields[0].shape, fields.fields[0].optional), (&expected, true), "{schema}");
        }
    }

    #[test]
    fn choices_lists_and_maps_are_told_apart() {
        let choice = json!({ "oneOf": [{ "const": "on", "description": "runs" }, { "const": "off" }] });
        assert_eq!(Shape::of(&choice), Shape::Word(vec!["on".into(), "off".into()]));
        let either = json!({ "anyOf": [{ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] }, { "type": "null" }] });
        let list = Shape::List(Box::new(Shape::Text));
        assert_eq!(Shape::split(&either), (Shape::Either(vec![Shape::Text, list]), true));
        let map = json!({ "type": "object", "additionalProperties": { "type": "boolean" } });
        assert_eq!(Shape::of(&map), Shape::Map(Box::new(Shape::Flag)));
        assert_eq!(Shape::of(&json!({ "type": "null" })), Shape::Nothing);
        assert!(Shape::of(&json!({ "type": "array", "items": {} })).is_vague());
    }
}
