//! Values of Lua as values of the wire, and back.
//!
//! What a script builds is hostile: tables nest, loop and share, so depth, count and bytes are bounded while walking. Whole numbers
//! travel as `Int`, the empty table as an empty `Map` (the parent takes it as a list where it wants one), nothing as nil. A handle is
//! known by its own type of userdata; no table can look like one.

use mlua::{Lua, Table, Value as Lv};

use super::handle::{self, HandleId};
use crate::units::Bytes;
use crate::wire::{Handle, MAX_DEPTH, MAX_FRAME, Value};

/// The largest whole number that a double holds exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// How many values one message may hold, tables and their members counted.
const MAX_COUNT: usize = 1 << 20;

/// Why a value of a script cannot leave it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ValueError {
    #[error("{path}{reason}")]
    Unfit { path: Path, reason: String },
    #[error(transparent)]
    Lua(#[from] mlua::Error),
}

/// Where in a value something was found, as a script writes it: `users[2].name: `.
#[derive(Debug, Default, Clone)]
pub(super) struct Path(String);

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "{}: ", self.0) }
    }
}

/// What to do with what has no place on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Fail and say where.
    Refuse,
    /// Put its type's name in its place: for showing a value in the REPL.
    Name,
}

/// The wire's form of a value of Lua.
pub(super) fn from_lua(value: &Lv, unfit: Unfit) -> Result<Value, ValueError> {
    Walk { unfit, path: String::new(), above: Vec::new(), count: 0, bytes: 0 }.value(value)
}

struct Walk {
    unfit: Unfit,
    path: String,
    /// The tables that we are inside of.
    above: Vec<*const std::ffi::c_void>,
    count: usize,
    bytes: usize,
}

impl Walk {
    fn value(&mut self, value: &Lv) -> Result<Value, ValueError> {
        self.count += 1;
        if self.count > MAX_COUNT {
            return Err(self.error(format!("more than {MAX_COUNT} values in one message")));
        }
        match value {
            Lv::Nil => Ok(Value::Nil),
            Lv::Boolean(flag) => Ok(Value::Bool(*flag)),
            Lv::Integer(number) => Ok(Value::Int(*number)),
            Lv::Number(number) => self.number(*number),
            Lv::String(text) => {
                let bytes = text.as_bytes();
                self.weigh(bytes.len())?;
                Ok(match std::str::from_utf8(&bytes) {
                    Ok(text) => Value::Text(text.to_owned()),
                    Err(_) => Value::Bytes(bytes.to_vec()),
                })
            }
            Lv::Table(table) => self.table(table),
            Lv::UserData(data) => match data.borrow::<HandleId>() {
                Ok(id) => Ok(Value::Handle(Box::new(Handle { id: id.id, kind: id.kind.clone(), ..Handle::default() }))),
                Err(_) => self.unfit("an object that is no handle"),
            },
            Lv::Function(_) => self.unfit("a function"),
            Lv::Thread(_) => self.unfit("a coroutine"),
            Lv::Buffer(_) => self.unfit("a buffer (take buffer.tostring of it)"),
            Lv::Error(error) => Err(ValueError::Lua((**error).clone())),
            _ => self.unfit("a value of a type that only Lua knows"),
        }
    }

    fn number(&self, number: f64) -> Result<Value, ValueError> {
        if number.fract() == 0.0 && number.abs() <= EXACT {
            return Ok(Value::Int(number as i64));
        }
        match (number.is_finite(), self.unfit) {
            (true, _) => Ok(Value::Float(number)),
            (false, Unfit::Name) => Ok(Value::Text(number.to_string())),
            (false, Unfit::Refuse) => Err(self.error(format!("{number} is not a number that can be sent"))),
        }
    }

    fn table(&mut self, table: &Table) -> Result<Value, ValueError> {
        let identity = table.to_pointer();
        if self.above.contains(&identity) {
            return self.unfit("a table that contains itself");
        }
        if self.above.len() >= MAX_DEPTH {
            return Err(self.error(format!("tables nested deeper than {MAX_DEPTH}")));
        }
        self.above.push(identity);
        let length = table.raw_len();
        let value = if length > 0 { self.list(table, length) } else { self.map(table) };
        self.above.pop();
        value
    }

    fn list(&mut self, table: &Table, length: usize) -> Result<Value, ValueError> {
        let mut items = Vec::with_capacity(length.min(1024));
        for index in 1..=length {
            let item: Lv = table.raw_get(index)?;
            if item.is_nil() {
                return Err(self.inside(&format!("[{index}]"), |walk| walk.error("a hole in a list".to_owned())));
            }
            let item = self.within(&format!("[{index}]"), |walk| walk.value(&item))?;
            items.push(item);
        }
        // Keys beside the list would be lost.
        let mut others = 0usize;
        let mut odd = None;
        for pair in table.clone().pairs::<Lv, Lv>() {
            let (key, _) = pair?;
            let listed = match &key {
                Lv::Integer(index) => usize::try_from(*index).is_ok_and(|index| (1..=length).contains(&index)),
                Lv::Number(index) => index.fract() == 0.0 && *index >= 1.0 && *index <= length as f64,
                _ => false,
            };
            if !listed {
                others += 1;
                odd.get_or_insert_with(|| key_words(&key));
            }
        }
        match odd {
            Some(key) if others > 0 => {
                Err(self.error(format!("a table that is both a list and has the key {key}; use one or the other")))
            }
            _ => Ok(Value::List(items)),
        }
    }

    fn map(&mut self, table: &Table) -> Result<Value, ValueError> {
        let mut entries = Vec::new();
        for pair in table.clone().pairs::<Lv, Lv>() {
            let (key, value) = pair?;
            let name = match &key {
                Lv::String(name) => match name.to_str() {
                    Ok(name) => name.to_owned(),
                    Err(_) => return Err(self.error("a key that is not UTF-8".to_owned())),
                },
                Lv::Integer(_) | Lv::Number(_) if self.unfit == Unfit::Refuse => {
                    return Err(
                        self.error(format!("a list with holes, or a key that is a number ({})", key_words(&key)))
                    );
                }
                _ if self.unfit == Unfit::Name => key_words(&key),
                _ => return Err(self.error(format!("a key that is {}; keys are strings", key_words(&key)))),
            };
            self.weigh(name.len())?;
            let value = self.within(&format!(".{name}"), |walk| walk.value(&value))?;
            entries.push((name, value));
        }
        // Lua keeps no order; one order for the same table makes results comparable.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Value::Map(entries))
    }

    fn weigh(&mut self, bytes: usize) -> Result<(), ValueError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_FRAME {
            return Err(self.error(format!("more than {} in one message", Bytes(MAX_FRAME as u64))));
        }
        Ok(())
    }

    fn within<R>(&mut self, step: &str, walk: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        self.path.push_str(step);
        let result = walk(self);
        self.path.truncate(length);
        result
    }

    fn inside(&mut self, step: &str, walk: impl FnOnce(&Self) -> ValueError) -> ValueError {
        self.within(step, |at| walk(at))
    }

    fn unfit(&self, what: &str) -> Result<Value, ValueError> {
        match self.unfit {
            Unfit::Name => Ok(Value::Text(format!("<{}>", what.trim_start_matches("a ").trim_start_matches("an ")))),
            Unfit::Refuse => Err(self.error(format!("{what} cannot be sent to the host or returned"))),
        }
    }

    fn error(&self, reason: String) -> ValueError {
        // A key may be as long as a script likes.
        let path: String = self.path.trim_start_matches('.').chars().take(200).collect();
        ValueError::Unfit { path: Path(path), reason }
    }
}

fn key_words(key: &Lv) -> String {
    match key {
        Lv::String(name) => format!("{:?}", name.to_string_lossy().chars().take(60).collect::<String>()),
        Lv::Integer(number) => number.to_string(),
        Lv::Number(number) => number.to_string(),
        other => format!("a {}", other.type_name()),
    }
}

/// Lua's form of a value of the wire.
pub(super) fn to_lua(lua: &Lua, value: Value) -> mlua::Result<Lv> {
    Ok(match value {
        Value::Nil => Lv::Nil,
        Value::Bool(flag) => Lv::Boolean(flag),
        // Luau's numbers are doubles: a larger whole number would change, so it comes as its digits.
        Value::Int(number) if number.unsigned_abs() > EXACT as u64 => {
            Lv::String(lua.create_string(number.to_string())?)
        }
        Value::Int(number) => Lv::Number(number as f64),
        Value::Float(number) => Lv::Number(number),
        Value::Text(text) => Lv::String(lua.create_string(text)?),
        Value::Bytes(bytes) => Lv::String(lua.create_string(bytes)?),
        Value::List(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.into_iter().enumerate() {
                table.raw_seti(index + 1, to_lua(lua, item)?)?;
            }
            Lv::Table(table)
        }
        Value::Map(entries) => {
            let table = lua.create_table_with_capacity(0, entries.len())?;
            for (key, item) in entries {
                table.raw_set(key, to_lua(lua, item)?)?;
            }
            Lv::Table(table)
        }
        Value::Handle(handle) => handle::to_lua(lua, *handle)?,
    })
}
