//! The reference: one model of what a script can call, from which the definitions for editors and every page are made.
//!
//! It reads the declarations of the operations, the kinds of handles, the capability vocabulary and the modules of the standard
//! library. It must not hold a fact of its own that a declaration could hold.

mod families;
pub mod luau;
pub mod modules;
pub mod page;
pub mod peers;
pub mod shape;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use self::modules::Module;
use self::shape::{Field, Fields, Shape};
use super::Declared;
use crate::door::object::kind;

/// An operation, read from its declaration.
pub struct Entry {
    pub declared: &'static Declared,
    /// The first sentence of its doc comment.
    pub summary: String,
    /// The rest of its doc comment.
    pub details: String,
    /// The arguments, without the receiver of a method.
    pub arguments: Vec<Field>,
    pub result: Shape,
}

/// A kind of handle.
pub struct Handle {
    pub kind: &'static str,
    pub summary: String,
    /// What can be read of it, `name` first.
    pub fields: Vec<Field>,
}

/// Everything that a script can call or be given.
pub struct Reference {
    pub entries: Vec<Entry>,
    pub handles: Vec<Handle>,
    /// The named tables that arguments, results and fields are made of.
    pub tables: BTreeMap<String, Fields>,
    pub modules: Vec<Module>,
}

/// The reference of this ceso.
pub static REFERENCE: LazyLock<Reference> = LazyLock::new(read);

fn read() -> Reference {
    let mut arguments = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut results = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let entries: Vec<Entry> = super::with_tests()
        .iter()
        .map(|declared| {
            let schema = (declared.arguments)(&mut arguments).to_value();
            let fields = Fields::of(declared.name, &opened(&schema, arguments.definitions()));
            let schema = (declared.result)(&mut results).to_value();
            let result = Shape::of(&named(&schema, results.definitions()));
            let (summary, details) = split(&fields.doc);
            let receiver = declared.receiver();
            let arguments = fields.fields.into_iter().filter(|field| Some(field.name.as_str()) != receiver).collect();
            Entry { declared, summary, details, arguments, result }
        })
        .collect();
    let handles: Vec<Handle> = super::handles()
        .iter()
        .map(|told| {
            let schema = (told.fields)(&mut results).to_value();
            let own = Fields::of(told.kind, &opened(&schema, results.definitions()));
            let doc =
                kind::ALL.iter().find(|(name, _)| *name == told.kind).map(|(_, doc)| doc.trim()).unwrap_or_default();
            let name = Field { name: "name".into(), doc: "Its name.".into(), shape: Shape::Text, optional: false };
            let fields = std::iter::once(name).chain(own.fields).collect();
            Handle { kind: told.kind, summary: doc.to_owned(), fields }
        })
        .collect();
    let mut wanted: Vec<String> = entries
        .iter()
        .flat_map(|entry| entry.arguments.iter().map(|field| &field.shape).chain([&entry.result]))
        .chain(handles.iter().flat_map(|handle| &handle.fields).map(|field| &field.shape))
        .flat_map(Shape::tables)
        .map(str::to_owned)
        .collect();
    let mut tables = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        let known = [arguments.definitions(), results.definitions()];
        let Some((schema, definitions)) = known.into_iter().find_map(|all| Some((all.get(&name)?, all))) else {
            continue;
        };
        tables.entry(name).or_insert_with_key(|name| {
            let table = Fields::of(name, &opened(schema, definitions));
            wanted.extend(table.tables().map(str::to_owned));
            table
        });
    }
    Reference { entries, handles, tables, modules: modules::all() }
}

/// The schema of a table, without a reference at its top; a comment of its own stays.
fn opened(schema: &Value, definitions: &Map<String, Value>) -> Value {
    let mut schema = schema.clone();
    while let Some(target) = target(&schema, definitions) {
        let mut target = target.clone();
        if let (Some(doc), Value::Object(target)) = (schema.get("description"), &mut target) {
            target.insert("description".to_owned(), doc.clone());
        }
        schema = target;
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|property| *property = named(property, definitions));
    }
    schema
}

/// A schema in which only tables are left as references: a word or a number needs no name.
fn named(schema: &Value, definitions: &Map<String, Value>) -> Value {
    match (target(schema, definitions), schema) {
        (Some(target), _) if target.get("properties").is_none() => {
            let mut inner = named(target, definitions);
            if let (Some(doc), Value::Object(inner)) = (schema.get("description"), &mut inner) {
                inner.insert("description".to_owned(), doc.clone());
            }
            inner
        }
        (None, Value::Object(fields)) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), named(value, definitions))).collect())
        }
        (None, Value::Array(items)) => items.iter().map(|item| named(item, definitions)).collect(),
        _ => schema.clone(),
    }
}

/// What a reference refers to.
fn target<'a>(schema: &Value, definitions: &'a Map<String, Value>) -> Option<&'a Value> {
    definitions.get(schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")?)
}

/// The first sentence of a doc comment, and the rest.
fn split(doc: &str) -> (String, String) {
    let (first, rest) = doc.split_once("\n\n").unwrap_or((doc, ""));
    (first.to_owned(), rest.to_owned())
}

impl Entry {
    /// The arguments that may be given without a name, in order.
    pub fn positional(&self) -> impl Iterator<Item = &Field> {
        self.declared.positional.iter().filter_map(|name| self.arguments.iter().find(|field| field.name == *name))
    }
}

impl Reference {
    /// The methods of a kind of handle.
    pub fn methods(&self, kind: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.declared.receiver() == Some(kind))
    }

    /// The names of the bindings, in order.
    pub fn bindings(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        for entry in &self.entries {
            if let crate::door::operation::Place::Function { binding, .. } = entry.declared.place
                && !names.contains(&binding)
            {
                names.push(binding);
            }
        }
        names
    }

    /// The functions of a binding.
    pub fn functions(&self, binding: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| {
            matches!(entry.declared.place, crate::door::operation::Place::Function { binding: own, .. } if own == binding)
        })
    }
}

#[cfg(test)]
mod tests;
