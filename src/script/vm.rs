//! The Luau VM, hardened: what it is built with, what is taken out of it, and the prelude on top.
//!
//! Every remedy here answers an attack that was run against the defaults: flags for native crashes and hangs, a memory limit with a
//! collector that keeps up with it, functions that load code or show addresses removed, replaced functions taken from the compiler's
//! fast path. It must not be shared between runs.

use std::rc::Rc;

use mlua::chunk::{ChunkMode, Compiler};
use mlua::state::{GcIncParams, GcMode};
use mlua::{Function, Lua, LuaOptions, MultiValue, StdLib, Table, Value as Lv};

use super::calls::Calls;
use super::clock::{self, OWN, Stop, clock};
use super::handle::Behaviour;
use super::native;
use crate::wire::{Difference, Limits, ScriptError, Source};

/// Globals that load code, reach into frames, or tell of memory.
pub(super) const REMOVED: [&str; 9] =
    ["require", "loadstring", "load", "getfenv", "setfenv", "newproxy", "collectgarbage", "gcinfo", "debug"];

/// Flags of Luau without which a script crashes or hangs its host.
const FLAGS: [&str; 3] = ["LuauTableArrayAdjustCheck", "LuauTableMoveTimeoutFix", "LuauSandboxFreezesVectorMetatable"];

/// Functions that the prelude replaces and that compiled code would otherwise reach without looking them up.
const REPLACED: [&str; 10] = [
    "tostring",
    "assert",
    "error",
    "pcall",
    "xpcall",
    "string.find",
    "string.split",
    "string.format",
    "table.sort",
    "coroutine.resume",
];

/// Memory that the runtime itself may take to report that the script took all.
const REPORTING: usize = 4 << 20;

pub(super) struct Vm {
    pub(super) lua: Lua,
    pub(super) calls: Rc<Calls>,
    room: Table,
}

impl Vm {
    /// Builds the VM of one run.
    pub(super) fn new(calls: Rc<Calls>, hardened: bool) -> mlua::Result<Self> {
        if hardened {
            for flag in FLAGS {
                Lua::set_fflag(flag, true).map_err(|()| mlua::Error::runtime(format!("Luau has no flag {flag}")))?;
            }
        }
        let lua = Lua::new_with(StdLib::ALL_SAFE, LuaOptions::new())?;
        let mut compiler = Compiler::new().set_optimization_level(1).set_debug_level(1);
        if hardened {
            // Luau has no emergency collection, so the collector must be close behind.
            lua.gc_set_mode(GcMode::Incremental(
                GcIncParams::default().goal(120).step_multiplier(1000).step_size(1024),
            ));
            compiler = compiler.set_disabled_builtins(REPLACED);
        }
        lua.set_compiler(compiler);
        let native = native::table(&lua, &calls, hardened)?;
        let prelude = lua.load(include_str!("prelude.luau")).set_name(format!("={OWN}")).set_mode(ChunkMode::Text);
        let room: Table = prelude.call(native)?;
        lua.set_app_data(Behaviour { meta: room.raw_get("handle_behaviour")?, about: room.raw_get("about")? });
        if hardened {
            lua.sandbox(true)?;
            lua.set_memory_limit(memory(&calls.limits))?;
            clock::watch(&lua);
        }
        Ok(Self { lua, calls, room })
    }

    /// The globals of one file.
    pub(super) fn environment(&self) -> mlua::Result<Table> {
        self.room.raw_get::<Function>("environment")?.call(())
    }

    /// Compiles a file.
    pub(super) fn load(&self, source: &Source, environment: &Table) -> Result<Function, ScriptError> {
        let text = self.string(&source.text)?;
        let name = chunk_name(&source.name);
        let loaded = self.protect(self.function("load")?, (text, name, environment.clone()))?;
        match loaded.into_iter().next() {
            Some(Lv::Function(function)) => Ok(function),
            _ => Err(internal("a script was loaded as no function")),
        }
    }

    /// A playbook's function and its declaration, where a file's result is one.
    pub(super) fn playbook(&self, result: &Lv) -> Result<Option<(Function, Lv)>, ScriptError> {
        let parts = self.protect(self.function("playbook")?, result.clone())?;
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next()) {
            (Some(Lv::Function(run)), Some(declaration)) => Ok(Some((run, declaration))),
            _ => Ok(None),
        }
    }

    /// The runner of a file's tests and its declaration.
    pub(super) fn suite(&self, result: &Lv) -> Result<(Function, Lv), ScriptError> {
        let parts = self.protect(self.function("suite")?, result.clone())?;
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next()) {
            (Some(Lv::Function(run)), Some(declaration)) => Ok((run, declaration)),
            _ => Err(internal("the file's tests could not be read")),
        }
    }

    /// Runs what was deferred.
    pub(super) fn finish(&self) -> Result<(), ScriptError> {
        self.protect(self.function("finish")?, ()).map(drop)
    }

    /// Forgets the tasks of a chunk that was stopped.
    pub(super) fn forget(&self) -> Result<(), ScriptError> {
        self.calls.forget();
        self.protect(self.function("forget")?, ()).map(drop)
    }

    /// Calls a function of a script and tells how it failed, if it did.
    pub(super) fn protect(
        &self,
        function: Function,
        arguments: impl mlua::IntoLuaMulti,
    ) -> Result<MultiValue, ScriptError> {
        let arguments = arguments.into_lua_multi(&self.lua).map_err(|error| self.broken(&error))?;
        let mut all = MultiValue::with_capacity(arguments.len() + 1);
        all.push_back(Lv::Function(function));
        all.extend(arguments);
        let outcome = self.function("protect")?.call::<MultiValue>(all);
        if let Some(stopped) = clock(clock::Clock::stopped_error) {
            return Err(stopped);
        }
        let mut results = outcome.map_err(|error| self.broken(&error))?;
        match (results.pop_front(), results.front()) {
            (Some(Lv::Boolean(true)), _) => Ok(results),
            (_, Some(Lv::Table(report))) => {
                Err(self.relaxed(|| error_of(report)).unwrap_or_else(|error| self.broken(&error)))
            }
            _ => Err(internal("a script ended in an unknown way")),
        }
    }

    /// Does the runtime's own work with a little more memory than the script may have.
    pub(super) fn relaxed<R>(&self, work: impl FnOnce() -> R) -> R {
        let limit = self.lua.set_memory_limit(0).unwrap_or(0);
        if limit > 0 {
            let raised = self.lua.set_memory_limit(limit.saturating_add(REPORTING));
            debug_assert!(raised.is_ok(), "the VM has its own allocator");
        }
        let result = work();
        if limit > 0 {
            let lowered = self.lua.set_memory_limit(limit);
            debug_assert!(lowered.is_ok(), "the VM has its own allocator");
        }
        result
    }

    fn function(&self, name: &str) -> Result<Function, ScriptError> {
        self.room.raw_get(name).map_err(|error| self.broken(&error))
    }

    fn string(&self, text: &[u8]) -> Result<mlua::LuaString, ScriptError> {
        self.lua.create_string(text).map_err(|error| self.broken(&error))
    }

    /// An error that came past the prelude: the memory was full, or something of ours is wrong.
    pub(super) fn broken(&self, error: &mlua::Error) -> ScriptError {
        if is_memory(error) {
            clock(|clock| clock.stop(&self.lua, Stop::Memory));
        }
        if let Some(stopped) = clock(clock::Clock::stopped_error) {
            return stopped;
        }
        internal(&error.to_string())
    }
}

fn internal(message: &str) -> ScriptError {
    ScriptError { kind: "script.error".to_owned(), message: message.to_owned(), ..ScriptError::default() }
}

fn memory(limits: &Limits) -> usize {
    usize::try_from(limits.memory.0).unwrap_or(usize::MAX).max(1 << 20)
}

/// Whether the memory limit is at the bottom of an error.
pub(super) fn is_memory(error: &mlua::Error) -> bool {
    match error {
        mlua::Error::MemoryError(_) => true,
        mlua::Error::CallbackError { cause, .. } => is_memory(cause),
        mlua::Error::WithContext { cause, .. } => is_memory(cause),
        _ => false,
    }
}

/// A file's name as chunks carry it: one line, no more than Luau shows.
fn chunk_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect();
    // Our own frames are left out of tracebacks by their name; no file may hide under it.
    if name == OWN || name == "[C]" { format!("./{name}") } else { name }
}

fn error_of(report: &Table) -> mlua::Result<ScriptError> {
    let text = |key: &str, most: usize| -> mlua::Result<Option<String>> {
        let value: Option<mlua::LuaString> = report.raw_get(key)?;
        Ok(value.map(|value| value.to_string_lossy().chars().take(most).collect()))
    };
    Ok(ScriptError {
        fault: report.raw_get("number")?,
        kind: text("kind", 100)?.unwrap_or_default(),
        message: text("message", 8192)?.unwrap_or_default(),
        hint: text("hint", 2048)?.map(String::into_boxed_str),
        file: text("file", 512)?.map(String::into_boxed_str),
        line: report.raw_get("line")?,
        traceback: text("traceback", 8192)?.map(String::into_boxed_str),
        difference: match (text("expected", 32_768)?, text("actual", 32_768)?) {
            (Some(expected), Some(found)) => Some(Box::new(Difference { expected, found })),
            _ => None,
        },
    })
}
