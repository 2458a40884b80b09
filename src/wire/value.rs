//! Values: what a script and an operation can say to each other.
//!
//! A handle is an extension type of MessagePack, so no table that a script builds can look like one.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::frame::decode_part;

/// How deep a value may nest.
pub const MAX_DEPTH: usize = 64;

/// How many values a frame may hold: a byte on the wire may be a hundred in memory.
pub const MAX_VALUES: usize = 1 << 20;

/// What a handle counts as: it is told with all its fields.
const HANDLE_VALUES: usize = 8;

const HANDLE_EXTENSION: i8 = 1;

/// What a script and an operation can say to each other.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    #[default]
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A string of Lua that is not UTF-8.
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// Fields in the order in which they were declared or met.
    Map(Vec<(String, Value)>),
    Handle(Box<Handle>),
}

/// A reference to an object that the parent holds: a host, a machine, a document.
///
/// On the way to the worker it carries what a script may read of it; on the way back only `id` counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Handle {
    /// The object's place in the run's own table.
    pub id: u32,
    /// `host`, `vm`, `datastore`, `network`, `document`, …: which methods it has.
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub name: String,
    /// Readable fields: what was known when the handle was given out.
    #[serde(default)]
    pub fields: Vec<(String, Value)>,
}

impl Value {
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Nil)
    }

    /// What an error calls a value of this shape.
    pub fn shape(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::Bytes(_) => "a string that is not UTF-8",
            Value::List(_) => "a list",
            Value::Map(_) => "a table",
            Value::Handle(_) => "a handle",
        }
    }

    /// The value as JSON for people and programs: a handle becomes its readable fields with `name`, bytes become lossy text.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Nil => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Int(number) => Json::from(*number),
            Value::Float(number) => serde_json::Number::from_f64(*number).map_or(Json::Null, Json::Number),
            Value::Text(text) => Json::String(text.clone()),
            Value::Bytes(bytes) => Json::String(String::from_utf8_lossy(bytes).into_owned()),
            Value::List(items) => Json::Array(items.iter().map(Value::to_json).collect()),
            // Lua has one empty table, and an empty list is what it mostly means: so that a program finds one type, it is always that.
            Value::Map(entries) if entries.is_empty() => Json::Array(Vec::new()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
            Value::Handle(handle) => {
                let mut object = serde_json::Map::new();
                object.insert("name".to_owned(), Json::String(handle.name.clone()));
                for (key, value) in &handle.fields {
                    object.insert(key.clone(), value.to_json());
                }
                Json::Object(object)
            }
        }
    }

    /// The value of a JSON document.
    pub fn from_json(json: serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Nil,
            Json::Bool(flag) => Value::Bool(flag),
            Json::Number(number) => match number.as_i64() {
                Some(whole) => Value::Int(whole),
                None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::Text(text),
            Json::Array(items) => Value::List(items.into_iter().map(Value::from_json).collect()),
            Json::Object(entries) => {
                Value::Map(entries.into_iter().map(|(key, value)| (key, Value::from_json(value))).collect())
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        count(if matches!(self, Value::Handle(_)) { HANDLE_VALUES } else { 1 });
        match self {
            Value::Nil => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Value::Handle(handle) => {
                let body = rmp_serde::to_vec(handle).map_err(serde::ser::Error::custom)?;
                serializer.serialize_newtype_struct(
                    rmp_serde::MSGPACK_EXT_STRUCT_NAME,
                    &(HANDLE_EXTENSION, serde_bytes::Bytes::new(&body)),
                )
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Nil)
            }

            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Nil)
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
                Ok(Value::Bool(flag))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Int(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
                Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Int))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Float(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Value, E> {
                Ok(Value::Text(text))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
                Ok(Value::Bytes(bytes.to_owned()))
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Value, E> {
                Ok(Value::Bytes(bytes))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Value::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Value::Map(map))
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
                let (tag, body) = <(i8, serde_bytes::ByteBuf)>::deserialize(deserializer)?;
                if tag != HANDLE_EXTENSION {
                    return Err(de::Error::custom(format!("extension {tag} is not known")));
                }
                count(HANDLE_VALUES - 1);
                let _level = HandleLevel::enter().ok_or_else(|| de::Error::custom("handles are nested too deep"))?;
                let handle = decode_part(&body).map_err(de::Error::custom)?;
                Ok(Value::Handle(Box::new(handle)))
            }
        }

        if count(1) > MAX_VALUES {
            return Err(de::Error::custom(format!("more than {MAX_VALUES} values")));
        }
        deserializer.deserialize_any(Reader)
    }
}

thread_local! {
    /// The values of the frame that this thread is reading or writing.
    static VALUES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Begins the count of a frame.
pub(super) fn begin_count() {
    VALUES.set(0);
}

/// How many values the frame has so far.
pub(super) fn counted() -> usize {
    VALUES.get()
}

fn count(values: usize) -> usize {
    VALUES.set(VALUES.get().saturating_add(values));
    VALUES.get()
}

/// Counts handles inside handles: each body is a document of its own, so the reader's limit on depth starts anew in it.
struct HandleLevel;

impl HandleLevel {
    const MAX: u8 = 4;

    fn enter() -> Option<Self> {
        HANDLE_LEVEL.with(|level| {
            let deeper = level.get() + 1;
            (deeper <= Self::MAX).then(|| {
                level.set(deeper);
                Self
            })
        })
    }
}

impl Drop for HandleLevel {
    fn drop(&mut self) {
        HANDLE_LEVEL.with(|level| level.set(level.get() - 1));
    }
}

thread_local! {
    static HANDLE_LEVEL: std::cell::Cell<u8> = const { std::cell::Cell::new(0) };
}
