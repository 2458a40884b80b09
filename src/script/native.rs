//! The functions that the prelude stands on, none of which a script can reach by itself.
//!
//! Each answers `true` and its results, or `false` and why not: an error made here would reach `pcall` as an object without readable
//! fields, so raising is left to the prelude. None may run long: what walks a string does so in linear time.

use std::rc::Rc;
use std::time::{Duration, Instant};

use include_dir::{Dir, include_dir};
use mlua::chunk::ChunkMode;
use mlua::{IntoLua, IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value as Lv};

use super::calls::{Calls, Refusal};
use super::clock::{self, Stop, clock};
use super::value::{self, Unfit, ValueError};
use super::vm::{REMOVED, is_memory};
use crate::door::operation::Place;
use crate::units::Span;
use crate::wire::{FromWorker, Level, Value};

/// The modules of the standard library.
static STANDARD: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/lua/std");

/// The names of the modules that come with ceso, as `require` takes them.
pub fn modules() -> Vec<String> {
    let files = STANDARD.files().filter_map(|file| file.path().file_stem()?.to_str());
    files.map(|name| format!("@ceso/{name}")).chain(["@ceso/task".to_owned()]).collect()
}

/// The table that the prelude is given.
pub(super) fn table(lua: &Lua, calls: &Rc<Calls>, hardened: bool) -> mlua::Result<Table> {
    let native = lua.create_table()?;
    native.raw_set("hardened", hardened)?;
    native.raw_set("globals", lua.globals())?;
    native.raw_set("removed", lua.create_sequence_from(REMOVED)?)?;
    native.raw_set("operations", operations(lua, calls)?)?;
    call_functions(lua, calls, &native)?;
    output_functions(lua, calls, &native)?;
    module_functions(lua, calls, &native)?;
    string_functions(lua, &native)?;
    time_functions(lua, &native)?;
    #[cfg(debug_assertions)]
    if !hardened {
        lua.globals().raw_set("breach", super::breach::table(lua, calls)?)?;
    }
    Ok(native)
}

fn operations(lua: &Lua, calls: &Calls) -> mlua::Result<Table> {
    let list = lua.create_table_with_capacity(calls.operations().len(), 0)?;
    for (index, declared) in calls.operations().iter().enumerate() {
        let entry = lua.create_table_with_capacity(0, 4)?;
        entry.raw_set("operation", declared.name)?;
        let name = match declared.place {
            Place::Function { binding, name } => {
                entry.raw_set("binding", binding)?;
                name
            }
            Place::Method { kind, name } => {
                entry.raw_set("kind", kind)?;
                name
            }
            Place::Command { .. } => continue,
        };
        entry.raw_set("name", name)?;
        entry.raw_set("positional", lua.create_sequence_from(declared.positional.iter().copied())?)?;
        list.raw_seti(index + 1, entry)?;
    }
    Ok(list)
}

/// `true` and what came, or `false` and the refusal as the prelude takes it.
fn answer(lua: &Lua, outcome: Result<impl IntoLuaMulti, Refusal>) -> mlua::Result<MultiValue> {
    let (ok, mut rest) = match outcome {
        Ok(values) => (true, values.into_lua_multi(lua)?),
        Err(refusal) => (false, refused(lua, refusal)?.into_lua_multi(lua)?),
    };
    rest.push_front(Lv::Boolean(ok));
    Ok(rest)
}

fn refused(lua: &Lua, refusal: Refusal) -> mlua::Result<Lv> {
    let fields = lua.create_table_with_capacity(0, 5)?;
    match refusal {
        Refusal::Stopped => return Ok(Lv::Nil),
        Refusal::Fault(raised) => {
            fields.raw_set("kind", raised.kind)?;
            fields.raw_set("message", raised.message)?;
            fields.raw_set("hint", raised.hint)?;
            fields.raw_set("retry", raised.retry)?;
            fields.raw_set("number", raised.number)?;
        }
        Refusal::Limit { kind, message } => {
            fields.raw_set("kind", kind)?;
            fields.raw_set("message", message)?;
            fields.raw_set("mark", kind)?;
        }
        Refusal::Misuse(message) => {
            fields.raw_set("kind", "script.error")?;
            fields.raw_set("message", message)?;
        }
    }
    fields.into_lua(lua)
}

/// The wire's form of a call's arguments; an error that is the script's own becomes its refusal.
fn arguments(operation: &str, table: Table) -> mlua::Result<Result<Value, Refusal>> {
    match value::from_lua(&Lv::Table(table), Unfit::Refuse) {
        // An operation always takes named arguments, also where a name is a number in disguise.
        Ok(value) => Ok(Ok(value)),
        Err(ValueError::Unfit { path, reason }) => Ok(Err(Refusal::Misuse(format!("{operation}: {path}{reason}")))),
        Err(ValueError::Lua(error)) => Err(error),
    }
}

fn arrived(lua: &Lua, outcome: Result<Value, Refusal>) -> mlua::Result<MultiValue> {
    match outcome {
        Ok(value) => answer(lua, Ok(value::to_lua(lua, value)?)),
        Err(refusal) => answer(lua, Err::<(), _>(refusal)),
    }
}

fn call_functions(lua: &Lua, calls: &Rc<Calls>, native: &Table) -> mlua::Result<()> {
    let shared = Rc::clone(calls);
    let call = move |lua: &Lua, (operation, table): (String, Table)| {
        let outcome = arguments(&operation, table)?.and_then(|arguments| shared.call(lua, &operation, arguments));
        answer(lua, outcome)
    };
    native.raw_set("call", lua.create_function(call)?)?;
    let shared = Rc::clone(calls);
    let ask = move |lua: &Lua, (operation, table): (String, Table)| {
        let sent = arguments(&operation, table)?.and_then(|arguments| shared.call(lua, &operation, arguments));
        arrived(lua, sent.and_then(|call| shared.wait(lua, call)))
    };
    native.raw_set("ask", lua.create_function(ask)?)?;
    let shared = Rc::clone(calls);
    let wait = move |lua: &Lua, call: u64| arrived(lua, shared.wait(lua, call));
    native.raw_set("wait", lua.create_function(wait)?)?;
    let shared = Rc::clone(calls);
    let take = move |lua: &Lua, call: u64| arrived(lua, shared.take(call));
    native.raw_set("take", lua.create_function(take)?)?;
    let shared = Rc::clone(calls);
    native.raw_set("answered", lua.create_function(move |_, call: u64| Ok(shared.answered(call)))?)?;
    let shared = Rc::clone(calls);
    let pump = move |lua: &Lua, seconds: Option<f64>| {
        let time = seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
        // A stopped script is told by the next tick of the clock.
        Ok(shared.pump(lua, time).unwrap_or(None))
    };
    native.raw_set("pump", lua.create_function(pump)?)
}

fn output_functions(lua: &Lua, calls: &Rc<Calls>, native: &Table) -> mlua::Result<()> {
    let shared = Rc::clone(calls);
    let print = move |lua: &Lua, text: LuaString| {
        let outcome = shared.write(lua, text.as_bytes().len());
        if outcome.is_ok() {
            shared.tell(&FromWorker::Print { text: text.to_string_lossy() });
        }
        answer(lua, outcome)
    };
    native.raw_set("print", lua.create_function(print)?)?;
    let shared = Rc::clone(calls);
    let row = move |lua: &Lua, (row, text): (Lv, LuaString)| {
        let value = match value::from_lua(&row, Unfit::Refuse) {
            Ok(value) => value,
            Err(ValueError::Unfit { path, reason }) => {
                return answer(lua, Err::<(), _>(Refusal::Misuse(format!("task.row: {path}{reason}"))));
            }
            Err(ValueError::Lua(error)) => return Err(error),
        };
        let outcome = shared.write(lua, text.as_bytes().len());
        if outcome.is_ok() {
            shared.tell(&FromWorker::Row { value, text: text.to_string_lossy() });
        }
        answer(lua, outcome)
    };
    native.raw_set("row", lua.create_function(row)?)?;
    let shared = Rc::clone(calls);
    let log = move |lua: &Lua, (level, text): (String, LuaString)| {
        let level = match level.as_str() {
            "debug" => Level::Debug,
            "warn" => Level::Warn,
            "error" => Level::Error,
            _ => Level::Info,
        };
        let outcome = shared.write(lua, text.as_bytes().len());
        if outcome.is_ok() {
            shared.tell(&FromWorker::Log { level, text: text.to_string_lossy() });
        }
        answer(lua, outcome)
    };
    native.raw_set("log", lua.create_function(log)?)?;
    let shared = Rc::clone(calls);
    let progress = move |lua: &Lua, (label, fraction): (LuaString, Option<f64>)| {
        let stopped = clock(|clock| clock.check(lua)).map_err(|()| Refusal::Stopped);
        let label: String = label.to_string_lossy().chars().take(200).collect();
        let fraction = fraction.map(|fraction| fraction.clamp(0.0, 1.0));
        if stopped.is_ok() && shared.worth_showing(&label, fraction) {
            shared.tell(&FromWorker::Progress { label, fraction });
        }
        answer(lua, stopped)
    };
    native.raw_set("progress", lua.create_function(progress)?)
}

fn module_functions(lua: &Lua, calls: &Rc<Calls>, native: &Table) -> mlua::Result<()> {
    let shared = Rc::clone(calls);
    let module = move |lua: &Lua, (name, from): (LuaString, String)| {
        let wanted = name.to_string_lossy();
        let found = shared.module(lua, wanted.clone(), from).and_then(|value| {
            let text = match value.get("text") {
                Some(Value::Bytes(text)) => Some(text.clone()),
                Some(Value::Text(text)) => Some(text.clone().into_bytes()),
                _ => None,
            };
            match (value.get("name").and_then(Value::as_text), text) {
                (Some(name), Some(text)) => Ok((name.to_owned(), text)),
                _ => Err(Refusal::Misuse(format!("the module {wanted} came without its text"))),
            }
        });
        match found {
            Ok((name, text)) => answer(lua, Ok((name, lua.create_string(text)?))),
            Err(refusal) => answer(lua, Err::<(), _>(refusal)),
        }
    };
    native.raw_set("module", lua.create_function(module)?)?;
    let embedded = |lua: &Lua, name: String| match name.strip_prefix("@ceso/") {
        Some(name) => match STANDARD.get_file(format!("{name}.luau")) {
            Some(file) => lua.create_string(file.contents()).map(Some),
            None => Ok(None),
        },
        None => Ok(None),
    };
    native.raw_set("embedded", lua.create_function(embedded)?)?;
    let names = |lua: &Lua, ()| lua.create_sequence_from(modules());
    native.raw_set("embedded_names", lua.create_function(names)?)?;
    let limits = calls.limits.clone();
    let load = move |lua: &Lua, (text, name, environment): (LuaString, String, Table)| {
        if text.as_bytes().len() as u64 > limits.source.0 {
            let message = format!(
                "{name} has {}: {}",
                crate::units::Bytes(text.as_bytes().len() as u64),
                clock::passed("source", limits.source, "source")
            );
            let refusal: Result<(), _> = Err(Refusal::Limit { kind: "limit.source", message });
            return answer(lua, refusal);
        }
        compile(lua, &text, &name, environment)
    };
    native.raw_set("load", lua.create_function(load)?)?;
    let seal = |_: &Lua, environment: Table| {
        // Lets compiled code look up what is behind the environment once; a script that changes its globals loses that by itself.
        environment.set_safeenv(true);
        Ok(environment)
    };
    native.raw_set("seal", lua.create_function(seal)?)
}

/// `true` and the function, or `false`, the message and the line. Text only: bytecode is code without checks.
fn compile(lua: &Lua, text: &LuaString, name: &str, environment: Table) -> mlua::Result<MultiValue> {
    let bytes = text.as_bytes().to_vec();
    let chunk = lua.load(bytes).set_name(format!("={name}")).set_mode(ChunkMode::Text).set_environment(environment);
    match chunk.into_function() {
        // Luau takes a NUL for the end of the text: what stands behind it would be left out in silence.
        Ok(_) if text.as_bytes().contains(&0) => {
            let before = text.as_bytes().iter().take_while(|byte| **byte != 0).filter(|byte| **byte == b'\n').count();
            let line = before + 1;
            let message = "a NUL character, which ends the text for Luau; write it as \"\\0\" in a string";
            (false, message, u32::try_from(line).ok()).into_lua_multi(lua)
        }
        Ok(function) => (true, function).into_lua_multi(lua),
        Err(mlua::Error::SyntaxError { message, .. }) => {
            let rest = message.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')).unwrap_or(&message);
            let (line, message) = match rest.split_once(": ") {
                Some((line, message)) if line.parse::<u32>().is_ok() => (line.parse::<u32>().ok(), message),
                _ => (None, rest),
            };
            (false, message.to_owned(), line).into_lua_multi(lua)
        }
        Err(error) => Err(error),
    }
}

fn string_functions(lua: &Lua, native: &Table) -> mlua::Result<()> {
    let find = |_: &Lua, (text, wanted, init): (LuaString, LuaString, f64)| {
        let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
        // Two results, or nil alone.
        Ok(find(&text, &wanted, init).map_or((None, None), |(first, last)| (Some(first), Some(last))))
    };
    native.raw_set("find", lua.create_function(find)?)?;
    let split = |lua: &Lua, (text, by): (LuaString, LuaString)| {
        let (text, by) = (text.as_bytes(), by.as_bytes());
        let parts = lua.create_table()?;
        let mut start = 0;
        let mut count = 0;
        for at in memchr::memmem::find_iter(&text, &*by) {
            count += 1;
            parts.raw_seti(count, lua.create_string(text.get(start..at).unwrap_or_default())?)?;
            start = at + by.len();
        }
        parts.raw_seti(count + 1, lua.create_string(text.get(start..).unwrap_or_default())?)?;
        Ok(parts)
    };
    native.raw_set("split", lua.create_function(split)?)?;
    let nearest = |_: &Lua, (wanted, names): (LuaString, Vec<String>)| {
        let wanted: String = wanted.to_string_lossy().chars().take(100).collect();
        let near = crate::error::nearest(&wanted, names.iter().map(String::as_str));
        Ok((!near.is_empty()).then(|| near.join(", ")))
    };
    native.raw_set("nearest", lua.create_function(nearest)?)?;
    // An error of this side, which a script must see as text and not as an object.
    let foreign = |lua: &Lua, problem: Lv| match problem {
        Lv::Error(error) => {
            if is_memory(&error) {
                clock(|clock| clock.stop(lua, Stop::Memory));
            }
            lua.create_string(innermost(&error)).map(Lv::String)
        }
        other => Ok(other),
    };
    native.raw_set("foreign", lua.create_function(foreign)?)?;
    let exhausted = |lua: &Lua, ()| {
        clock(|clock| clock.stop(lua, Stop::Memory));
        Ok(())
    };
    native.raw_set("exhausted", lua.create_function(exhausted)?)
}

/// Where `wanted` is in `text`, as string.find counts: from 1, the end included; `init` may count from the end.
fn find(text: &[u8], wanted: &[u8], init: f64) -> Option<(usize, usize)> {
    let length = text.len() as f64;
    let first = if init < 0.0 { (length + init + 1.0).max(1.0) } else { init.max(1.0) };
    if first > length + 1.0 {
        return None;
    }
    let skipped = first as usize - 1;
    let at = memchr::memmem::find(text.get(skipped..)?, wanted)? + skipped;
    Some((at + 1, at + wanted.len()))
}

fn innermost(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } => innermost(cause),
        other => other.to_string(),
    }
}

fn time_functions(lua: &Lua, native: &Table) -> mlua::Result<()> {
    let start = Instant::now();
    native.raw_set("now", lua.create_function(move |_, ()| Ok(start.elapsed().as_secs_f64()))?)?;
    let seconds = |lua: &Lua, time: Lv| {
        let span = match &time {
            Lv::String(text) => text.to_string_lossy().parse::<Span>().map_err(|error| error.to_string()),
            Lv::Number(number) => {
                Duration::try_from_secs_f64(*number).map(Span).map_err(|_| format!("{number} is no number of seconds"))
            }
            Lv::Integer(number) => u64::try_from(*number)
                .map(|number| Span(Duration::from_secs(number)))
                .map_err(|_| format!("{number} is no number of seconds")),
            other => {
                Err(format!("a time is written as \"2 s\" or as a number of seconds, not as a {}", other.type_name()))
            }
        };
        answer(lua, span.map(|span| span.0.as_secs_f64()).map_err(Refusal::Misuse))
    };
    native.raw_set("seconds", lua.create_function(seconds)?)
}
