//! Values and frames between the worker and its parent.
//!
//! A frame is a little-endian `u32` length and that many bytes of MessagePack with named fields. The worker is not trusted: lengths
//! and nesting are bounded before anything is kept. A handle is an extension type, so no table that a script builds can look like
//! one, and it carries an index into its own run's table of objects: a forged index names at most what the run was given anyway.

use std::fmt;
use std::io::{self, Read, Write};

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Fault;
use crate::units::Span;

/// The largest frame that is taken from a worker, 16 MiB; the parent's own may have four times as much.
pub const MAX_FRAME: usize = 16 << 20;

/// How deep a value may nest.
pub const MAX_DEPTH: usize = 64;

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
                let _level = HandleLevel::enter().ok_or_else(|| de::Error::custom("handles are nested too deep"))?;
                let handle = decode(&body).map_err(de::Error::custom)?;
                Ok(Value::Handle(Box::new(handle)))
            }
        }

        deserializer.deserialize_any(Reader)
    }
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

/// A file of a script: its name as errors show it, and its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub name: String,
    #[serde(with = "serde_bytes")]
    pub text: Vec<u8>,
}

/// What a run may use at most; every limit is settable, and named in the error that a script meets when it passes it.
pub use crate::config::Sandbox as Limits;

/// What a worker is started for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Purpose {
    /// Load the script; a playbook is announced by [`FromWorker::Loaded`] and waits for [`ToWorker::Go`], a plain script just runs.
    Run(Source),
    /// Load it as far as its declaration, with every operation refused; answers `Loaded` or `Plain`, or `Failed`.
    Check(Source),
    /// Check several files, each in an environment of its own; answers one `Described` for each, in order.
    Describe(Vec<Source>),
    /// Wait for chunks.
    Repl,
}

/// The first frame that a worker gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    pub run: String,
    pub purpose: Purpose,
    pub limits: Limits,
    /// The VM's own hardening. Off only in the tests that show that the process boundary holds alone.
    pub hardened: bool,
    /// How far the process must be locked down once the VM is up, before any script is looked at.
    pub jail: Jail,
}

/// How far a worker must be locked down (landlock, resource limits, seccomp) before it looks at a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Jail {
    /// Every part must hold; else the worker fails with `jail.incomplete` and runs nothing.
    Full,
    /// Whatever this machine gives; `Ready` says what is missing.
    Partial,
    /// None, for `--no-jail` and for tests.
    Off,
}

/// One part of the jail, and why it does not hold where it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailPart {
    /// `landlock`, `limits` or `seccomp`.
    pub name: String,
    pub missing: Option<String>,
}

/// Frames from the parent to the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    Start(Box<Start>),
    /// Run the playbook that was loaded, with these parameters, checked and complete.
    Go {
        params: Value,
    },
    /// Evaluate one chunk of the REPL, within this time; errors show it under this name.
    Chunk {
        name: String,
        source: String,
        time: Span,
    },
    /// The outcome of a call or of a `require`.
    Answer {
        call: u64,
        outcome: Outcome,
    },
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Done(Value),
    Failed(Raised),
}

/// A fault as a script sees it. `number` is the parent's: what a script makes up has none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Raised {
    pub number: u32,
    pub kind: String,
    pub message: String,
    pub hint: Option<String>,
    pub retry: bool,
}

impl Raised {
    pub fn of(number: u32, fault: &Fault) -> Self {
        Self {
            number,
            kind: fault.kind().to_owned(),
            message: fault.message().to_owned(),
            hint: fault.hint_text().map(str::to_owned),
            retry: fault.may_retry(),
        }
    }
}

/// How loud a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Frames from the worker to the parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The VM is up and the jail is closed, as far as asked for.
    Ready {
        jail: Vec<JailPart>,
    },
    /// The file returned a playbook: its table without `run`. The parent answers with `Go`.
    Loaded {
        declaration: Value,
    },
    /// The file is a plain script of statements (only for `Check`).
    Plain,
    /// One file's declaration, or why it has none (only for `Describe`).
    Described {
        name: String,
        outcome: Result<Value, ScriptError>,
    },
    Call {
        call: u64,
        operation: String,
        arguments: Value,
    },
    /// `require(name)`, asked by the module `from` (empty: the script itself): answered with [`Value::Map`] `{ name, text }`.
    Module {
        call: u64,
        name: String,
        from: String,
    },
    Print {
        text: String,
    },
    Log {
        level: Level,
        text: String,
    },
    /// `task.progress`: a label and how far it is, 0 to 1 where that is known.
    Progress {
        label: String,
        fraction: Option<f64>,
    },
    /// What the chunks so far left behind (only for the REPL), ahead of each `Done` or `Failed`.
    Names {
        globals: Vec<Known>,
    },
    Done {
        value: Value,
    },
    Failed(ScriptError),
}

/// A name that a chunk of the REPL left behind, for completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub name: String,
    pub what: What,
}

/// What kind of thing a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    Handle {
        id: u32,
        kind: String,
    },
    Function,
    Table {
        fields: Vec<Known>,
        /// The first item, where it is a list.
        item: Option<Box<What>>,
    },
    Other,
}

/// How a script failed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ScriptError {
    /// The number of the parent's fault that was raised and not caught, where it was one.
    pub fault: Option<u32>,
    /// `script.syntax`, `script.error`, `limit.run_time`, `limit.memory`, …; never a kind that a script made up.
    pub kind: String,
    pub message: String,
    /// What a script gave as hint, for `script.error` with a table; shown as the script's words.
    pub hint: Option<Box<str>>,
    /// The file and line where it happened.
    pub file: Option<String>,
    pub line: Option<u32>,
    pub traceback: Option<Box<str>>,
}

/// Why a frame was not read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the other side closed the pipe")]
    Closed,
    #[error("a frame of {0} bytes, more than the limit of {1}")]
    TooLarge(usize, usize),
    #[error("a frame that is not understood: {0}")]
    Malformed(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes one frame with one write call: the parent's side.
pub fn write_frame(out: &mut impl Write, frame: &impl Serialize) -> Result<(), FrameError> {
    out.write_all(&encode_frame(frame, 4 * MAX_FRAME)?)?;
    Ok(out.flush()?)
}

/// The bytes of one frame, its length in front, if it has at most `limit` bytes.
pub fn encode_frame(frame: &impl Serialize, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    frame
        .serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())
        .map_err(|error| FrameError::Malformed(error.to_string()))?;
    let length = bytes.len() - 4;
    if length > limit {
        return Err(FrameError::TooLarge(length, limit));
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// The frame at the start of `buffer` and how many bytes it took, or `None` where it has not arrived whole.
pub fn decode_frame<T: for<'de> Deserialize<'de>>(
    buffer: &[u8],
    limit: usize,
) -> Result<Option<(T, usize)>, FrameError> {
    let Some((head, rest)) = buffer.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > limit {
        return Err(FrameError::TooLarge(length, limit));
    }
    match rest.get(..length) {
        Some(body) => Ok(Some((decode(body)?, 4 + length))),
        None => Ok(None),
    }
}

/// Reads one frame of at most `limit` bytes.
pub fn read_frame<T: for<'de> Deserialize<'de>>(input: &mut impl Read, limit: usize) -> Result<T, FrameError> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(FrameError::Closed),
        result => result?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > limit {
        return Err(FrameError::TooLarge(length, limit));
    }
    let mut bytes = Vec::with_capacity(length.min(1 << 20));
    input.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Err(FrameError::Closed);
    }
    decode(&bytes)
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, FrameError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    // A value of MAX_DEPTH lies inside the frame's own levels.
    reader.set_max_depth(MAX_DEPTH + 16);
    T::deserialize(&mut reader).map_err(|error| FrameError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through<T: Serialize + for<'de> Deserialize<'de>>(frame: &T) -> T {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, frame).unwrap();
        read_frame(&mut bytes.as_slice(), MAX_FRAME).unwrap()
    }

    #[test]
    fn frames_arrive_as_they_were_sent() {
        let handle = Handle {
            id: 7,
            kind: "vm".into(),
            name: "web-1".into(),
            fields: vec![("power".into(), Value::Text("on".into()))],
        };
        let value = Value::Map(vec![
            ("b".into(), Value::List(vec![Value::Nil, Value::Bool(true), Value::Int(-3), Value::Float(0.5)])),
            ("a".into(), Value::Bytes(vec![0xff, 0])),
            ("vm".into(), Value::Handle(Box::new(handle))),
        ]);
        let call = FromWorker::Call { call: 1, operation: "vm.info".into(), arguments: value.clone() };
        assert_eq!(through(&call), call);
        let answer = ToWorker::Answer { call: 1, outcome: Outcome::Done(value) };
        assert_eq!(through(&answer), answer);
        let start = ToWorker::Start(Box::new(Start {
            run: "r".into(),
            purpose: Purpose::Run(Source { name: "x".into(), text: b"return 1".to_vec() }),
            limits: Limits::default(),
            hardened: true,
            jail: Jail::Full,
        }));
        assert_eq!(through(&start), start);
    }

    #[test]
    fn a_table_never_reads_as_a_handle() {
        let fake = Value::Map(vec![("id".into(), Value::Int(1)), ("kind".into(), Value::Text("vm".into()))]);
        assert_eq!(through(&fake), fake);
    }

    #[test]
    fn handles_nested_in_handles_cannot_exhaust_the_stack() {
        let mut value = Value::Nil;
        for _ in 0..5 {
            value = Value::Handle(Box::new(Handle { fields: vec![("x".into(), value)], ..Handle::default() }));
        }
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &value).unwrap();
        assert!(matches!(read_frame::<Value>(&mut bytes.as_slice(), MAX_FRAME), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn hostile_frames_are_refused() {
        let read = |bytes: &[u8]| read_frame::<Value>(&mut &bytes[..], 1000);
        assert!(matches!(read(&[]), Err(FrameError::Closed)));
        assert!(matches!(read(&[9, 0, 0, 0, 1]), Err(FrameError::Closed)));
        assert!(matches!(read(&[0xff, 0xff, 0xff, 0xff]), Err(FrameError::TooLarge(..))));
        let mut deep = vec![200, 0, 0, 0];
        deep.extend([0x91; 200]);
        assert!(matches!(read(&deep), Err(FrameError::Malformed(_))));
        assert!(matches!(read(&[2, 0, 0, 0, 0xdd, 0xff]), Err(FrameError::Malformed(_))));
        assert!(matches!(read(&[5, 0, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xff]), Err(FrameError::Malformed(_))));
        assert!(matches!(read(&[3, 0, 0, 0, 0xd4, 9, 0]), Err(FrameError::Malformed(_))));
    }
}
