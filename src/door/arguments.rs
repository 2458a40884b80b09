//! Arguments of a call, from what a script said to the declared struct.
//!
//! A small deserializer over [`Value`], for what serde's own would let through or not explain: lists never stand for structs, an empty
//! table is an empty list too, errors carry the path of the field and the nearest right name.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::error::{Fault, nearest};
use crate::wire::{Handle, Value};

/// The name under which a handle travels through serde; see [`super::object::Target`].
pub(super) const HANDLE: &str = "ceso::handle";

/// Reads the arguments of `operation`.
pub fn read<T: DeserializeOwned>(operation: &str, arguments: &Value) -> Result<T, Fault> {
    let empty = Value::Map(Vec::new());
    let arguments = if arguments.is_nil() { &empty } else { arguments };
    T::deserialize(Reader(arguments)).map_err(|error| {
        let mut at = operation.to_owned();
        for (index, step) in error.path.iter().rev().enumerate() {
            match step {
                Step::Field(name) if index == 0 => at.push_str(&format!(": {name}")),
                Step::Field(name) => at.push_str(&format!(".{name}")),
                Step::Item(item) => at.push_str(&format!("[{}]", item + 1)),
            }
        }
        let fault = Fault::new(error.kind, format!("{at}: {}", error.message));
        match error.hint {
            Some(hint) => fault.hint(hint),
            None => fault.hint(format!("ceso doc {operation} shows its arguments")),
        }
    })
}

#[derive(Debug)]
enum Step {
    Field(String),
    Item(usize),
}

/// An error with the way back to the field, innermost step first.
#[derive(Debug)]
struct Wrong {
    kind: &'static str,
    message: String,
    hint: Option<String>,
    path: Vec<Step>,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Self {
        Self { kind: "usage.argument", message: message.into(), hint: None, path: Vec::new() }
    }

    fn at(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            de::Unexpected::Unit | de::Unexpected::Option => "nil".to_owned(),
            de::Unexpected::Str(text) => format!("the string {:?}", text.chars().take(60).collect::<String>()),
            de::Unexpected::Signed(number) => format!("the number {number}"),
            de::Unexpected::Unsigned(number) => format!("the number {number}"),
            de::Unexpected::Float(number) => format!("the number {number}"),
            de::Unexpected::Bool(flag) => format!("the boolean {flag}"),
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a table".to_owned(),
            de::Unexpected::Bytes(_) => "a string that is not UTF-8".to_owned(),
            de::Unexpected::NewtypeStruct => "a handle".to_owned(),
            other => other.to_string(),
        };
        Self::new(format!("expected {}, found {found}", plain(expected)))
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        <Self as de::Error>::invalid_type(unexpected, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let mut wrong = Self::new(format!("there is no argument {field:?}"));
        wrong.hint = Some(match nearest(field, expected.iter().copied()).first() {
            Some(name) => format!("did you mean {name}?"),
            None if expected.is_empty() => "it takes none".to_owned(),
            None => format!("known are {}", expected.join(", ")),
        });
        wrong
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mut wrong = Self::new(format!("{variant:?} is not one of {}", expected.join(", ")));
        wrong.hint = nearest(variant, expected.iter().copied()).first().map(|name| format!("did you mean {name:?}?"));
        wrong
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("is missing").at(Step::Field(field.to_owned()))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new("is given twice").at(Step::Field(field.to_owned()))
    }
}

/// What was expected, in words that are not Rust's.
fn plain(expected: &dyn de::Expected) -> String {
    match expected.to_string().as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        other => other.to_owned(),
    }
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Value);

impl<'a> Reader<'a> {
    fn wrong(self, expected: &dyn de::Expected) -> Wrong {
        let unexpected = match self.0 {
            Value::Nil => de::Unexpected::Unit,
            Value::Bool(flag) => de::Unexpected::Bool(*flag),
            Value::Int(number) => de::Unexpected::Signed(*number),
            Value::Float(number) => de::Unexpected::Float(*number),
            Value::Text(text) => de::Unexpected::Str(text),
            Value::Bytes(bytes) => de::Unexpected::Bytes(bytes),
            Value::List(_) => de::Unexpected::Seq,
            Value::Map(_) => de::Unexpected::Map,
            Value::Handle(_) => de::Unexpected::NewtypeStruct,
        };
        de::Error::invalid_type(unexpected, expected)
    }
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Nil => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Int(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Text(text) => visitor.visit_str(text),
            Value::Bytes(bytes) => visitor.visit_bytes(bytes),
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            // What takes any form may take a handle too: most visitors refuse a newtype.
            Value::Handle(handle) => {
                visitor.visit_newtype_struct(de::value::MapAccessDeserializer::new(HandleFields { handle, next: 0 }))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Nil => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A whole number may arrive as a float.
    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Int(number) => visitor.visit_i64(*number),
            Value::Float(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => visitor.visit_i64(*number as i64),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Text(text) => visitor.visit_str(text),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_string(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Map(entries) if entries.is_empty() => visitor.visit_seq(Items { items: &[], next: 0 }),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            Value::List(items) if items.is_empty() => visitor.visit_map(Entries { entries: &[], next: 0 }),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            Value::List(items) if items.is_empty() => visitor.visit_map(Entries { entries: &[], next: 0 }),
            _ => Err(self.wrong(&"a table of named fields")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        if name != HANDLE {
            return visitor.visit_newtype_struct(self);
        }
        match self.0 {
            Value::Handle(handle) => visitor.visit_map(HandleFields { handle, next: 0 }),
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.0 {
            Value::Text(text) => visitor.visit_enum(Named(text)),
            _ => Err(Wrong::new(format!("expected one of {}, found {}", variants.join(", "), self.0.shape()))),
        }
    }

    forward_to_deserialize_any! {
        bool f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_i64(visitor)
    }
}

struct Items<'a> {
    items: &'a [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        let index = self.next;
        let Some(item) = self.items.get(index) else { return Ok(None) };
        self.next += 1;
        seed.deserialize(Reader(item)).map(Some).map_err(|error| error.at(Step::Item(index)))
    }
}

struct Entries<'a> {
    entries: &'a [(String, Value)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        let Some((key, _)) = self.entries.get(self.next) else { return Ok(None) };
        let key: StrDeserializer<'_, Wrong> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        let Some((key, value)) = self.entries.get(self.next) else { return Err(Wrong::new("a value without a key")) };
        self.next += 1;
        seed.deserialize(Reader(value)).map_err(|error| error.at(Step::Field(key.clone())))
    }
}

struct HandleFields<'a> {
    handle: &'a Handle,
    next: usize,
}

impl<'de> MapAccess<'de> for HandleFields<'_> {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        let Some(key) = ["id", "kind", "name"].get(self.next) else { return Ok(None) };
        let key: StrDeserializer<'_, Wrong> = (*key).into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        self.next += 1;
        match self.next {
            1 => seed.deserialize(IntoDeserializer::<Wrong>::into_deserializer(self.handle.id)),
            2 => seed.deserialize(IntoDeserializer::<Wrong>::into_deserializer(self.handle.kind.as_str())),
            _ => seed.deserialize(IntoDeserializer::<Wrong>::into_deserializer(self.handle.name.as_str())),
        }
    }
}

struct Named<'a>(&'a str);

impl<'de> EnumAccess<'de> for Named<'_> {
    type Error = Wrong;
    type Variant = Unit;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Unit), Wrong> {
        let name: StrDeserializer<'_, Wrong> = self.0.into_deserializer();
        seed.deserialize(name).map(|value| (value, Unit))
    }
}

/// Variants are names alone: an argument with fields of its own is a struct.
struct Unit;

impl<'de> VariantAccess<'de> for Unit {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Wrong> {
        Err(Wrong::new("expected a table, found a string"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Wrong> {
        Err(Wrong::new("expected a list, found a string"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Wrong> {
        Err(Wrong::new("expected a table, found a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        size: Bytes,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        cpus: Option<u32>,
        #[serde(default)]
        disks: Vec<Inner>,
    }

    fn outer(json: serde_json::Value) -> Result<Outer, Fault> {
        read("vm.create", &Value::from_json(json))
    }

    #[test]
    fn an_empty_table_is_an_empty_list_and_nil_is_none() {
        let outer = outer(serde_json::json!({ "name": "a", "cpus": null, "disks": {} })).unwrap();
        assert_eq!(outer, Outer { name: "a".into(), cpus: None, disks: vec![] });
    }

    #[test]
    fn errors_carry_the_path_and_the_nearest_name() {
        for (json, message, hint) in [
            (serde_json::json!({ "nam": "a" }), "vm.create: there is no argument \"nam\"", "did you mean name?"),
            (serde_json::json!({ "cpus": 2 }), "vm.create: name: is missing", "ceso doc vm.create"),
            (serde_json::json!({ "name": 5 }), "vm.create: name: expected a string, found the number 5", ""),
            (serde_json::json!({ "name": "a", "cpus": -1 }), "vm.create: cpus: ", ""),
            (
                serde_json::json!({ "name": "a", "cpus": 1.5 }),
                "vm.create: cpus: expected a whole number from 0, found the number 1.5",
                "",
            ),
            (serde_json::json!({ "name": "a", "disks": [{ "size": "2 parsec" }] }), "vm.create: disks[1].size: ", ""),
            (serde_json::json!({ "name": "a", "disks": [["2 GiB"]] }), "vm.create: disks[1]: expected a table", ""),
            (serde_json::json!(["a"]), "vm.create: expected a table of named fields, found a list", ""),
        ] {
            let fault = outer(json.clone()).unwrap_err();
            assert!(fault.message().contains(message), "{json}: {fault:?}");
            assert!(fault.hint_text().unwrap().contains(hint), "{json}: {fault:?}");
            assert_eq!(fault.exit_code(), 2);
        }
    }
}
