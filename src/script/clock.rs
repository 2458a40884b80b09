//! The interrupt: a script's time, and whatever else ends it from outside.
//!
//! Luau calls [`tick`] at every loop and call. Once the script is stopped it raises each time, for ever, which defeats `pcall`. It is
//! no security boundary: a host function reached through a metamethod can still run, so every call of the parent asks
//! [`Clock::check`] as well, and the parent kills what does not end.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mlua::{Lua, ffi};

use crate::units::Span;
use crate::wire::{Limits, ScriptError};

/// The chunk name of the code that is ours; its frames are in no traceback.
pub(super) const OWN: &str = "[ceso]";

/// A clock read costs more than a turn of a loop, so the time is looked at once in so many ticks.
const TICKS: u32 = 1024;

/// How long deferred functions may run after a script was cancelled.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Set by the signal that stops a chunk of the REPL or cancels a run.
static SIGNALLED: AtomicBool = AtomicBool::new(false);

pub(super) extern "C" fn on_signal(_: c_int) {
    SIGNALLED.store(true, Ordering::Relaxed);
}

/// Whether a signal came that nobody has looked at.
pub(super) fn signalled() -> bool {
    SIGNALLED.load(Ordering::Relaxed)
}

thread_local! {
    static CLOCK: Clock = const { Clock::new() };
}

/// Why a script was stopped from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    RunTime,
    CpuTime,
    Memory,
    Output,
    /// By a signal.
    Cancelled,
    /// A file that is only to be checked called an operation at its top level.
    Plain,
}

pub(super) struct Clock {
    ticks: Cell<u32>,
    /// Fast path of `stopped`.
    raising: Cell<bool>,
    deadline: Cell<Option<Instant>>,
    stopped: RefCell<Option<(Stop, ScriptError)>>,
    limits: RefCell<Option<Limits>>,
}

/// Runs `look` on this thread's clock. A worker has one VM and one thread.
pub(super) fn clock<R>(look: impl FnOnce(&Clock) -> R) -> R {
    CLOCK.with(look)
}

impl Clock {
    const fn new() -> Self {
        Self {
            ticks: Cell::new(0),
            raising: Cell::new(false),
            deadline: Cell::new(None),
            stopped: RefCell::new(None),
            limits: RefCell::new(None),
        }
    }

    /// Starts anew: nothing stopped, `time` from now.
    pub(super) fn start(&self, limits: &Limits, time: Duration) {
        self.limits.replace(Some(Limits { run_time: Span(time), ..limits.clone() }));
        self.resume(time);
        SIGNALLED.store(false, Ordering::Relaxed);
    }

    /// Lets the VM run on for `time` after a stop: for what is deferred, or for the next chunk.
    pub(super) fn resume(&self, time: Duration) {
        self.stopped.replace(None);
        self.raising.set(false);
        self.deadline.set(Instant::now().checked_add(time));
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        self.stopped.borrow().as_ref().map(|(stop, _)| *stop)
    }

    pub(super) fn stopped_error(&self) -> Option<ScriptError> {
        self.stopped.borrow().as_ref().map(|(_, error)| error.clone())
    }

    /// Whether the script must end, looking at the clock and at the signal.
    pub(super) fn check(&self, lua: &Lua) -> Result<(), ()> {
        // SAFETY: the state is used while `lua` is borrowed, on its own thread.
        let state = lua.exec_raw_lua(|raw| raw.state());
        self.look(state, true);
        if self.raising.get() { Err(()) } else { Ok(()) }
    }

    /// Stops the script for good, keeping where it is.
    pub(super) fn stop(&self, lua: &Lua, why: Stop) {
        let state = lua.exec_raw_lua(|raw| raw.state());
        self.stop_at(state, why);
    }

    fn stop_at(&self, state: *mut ffi::lua_State, why: Stop) {
        if self.raising.get() {
            return;
        }
        let (file, line, traceback) = stack(state);
        let (kind, message) = self.words(why);
        let error = ScriptError {
            kind: kind.to_owned(),
            message,
            file: file.map(String::into_boxed_str),
            line,
            traceback: traceback.map(String::into_boxed_str),
            ..ScriptError::default()
        };
        self.stopped.replace(Some((why, error)));
        self.raising.set(true);
    }

    fn look(&self, state: *mut ffi::lua_State, cpu: bool) {
        if self.raising.get() {
            return;
        }
        if SIGNALLED.swap(false, Ordering::Relaxed) {
            self.stop_at(state, Stop::Cancelled);
        } else if self.deadline.get().is_some_and(|deadline| Instant::now() >= deadline) {
            self.stop_at(state, Stop::RunTime);
        } else if cpu
            && let Some(limits) = self.limits.borrow().as_ref()
            && processor_time() >= limits.cpu_time.0
        {
            self.stop_at(state, Stop::CpuTime);
        }
    }

    fn words(&self, why: Stop) -> (&'static str, String) {
        let limits = self.limits.borrow().clone().unwrap_or_default();
        match why {
            Stop::RunTime => ("limit.run_time", passed("run time", limits.run_time, "run_time")),
            Stop::CpuTime => ("limit.cpu_time", passed("processor time", limits.cpu_time, "cpu_time")),
            Stop::Memory => ("limit.memory", passed("memory", limits.memory, "memory")),
            Stop::Output => ("limit.output", passed("output", limits.output, "output")),
            Stop::Cancelled => ("script.cancelled", "the script was cancelled".to_owned()),
            Stop::Plain => ("script.error", "the file is a plain script, not a playbook".to_owned()),
        }
    }
}

/// What an error says that names a limit, its value and its setting.
pub(super) fn passed(what: &str, value: impl std::fmt::Display, setting: &str) -> String {
    format!("the script passed its limit of {what}, {value} (setting sandbox.{setting})")
}

/// Has `lua` call the clock at every loop and call.
pub(super) fn watch(lua: &Lua) {
    let state = lua.exec_raw_lua(|raw| raw.state());
    // SAFETY: the state is live; its callbacks live as long. mlua takes the interrupt out again before it closes the state.
    unsafe { (*ffi::lua_callbacks(state)).interrupt = Some(tick) };
}

/// Called by Luau at loops, calls and in pattern matching (`gc` is negative there).
unsafe extern "C-unwind" fn tick(state: *mut ffi::lua_State, gc: c_int) {
    if gc >= 0 {
        // Errors do not survive the collector's own steps.
        return;
    }
    let raise = clock(|clock| {
        let ticks = clock.ticks.get().wrapping_add(1);
        clock.ticks.set(ticks);
        if clock.raising.get() {
            return true;
        }
        if ticks.is_multiple_of(TICKS) || SIGNALLED.load(Ordering::Relaxed) {
            clock.look(state, ticks.is_multiple_of(TICKS * 16));
        }
        clock.raising.get()
    });
    if raise {
        let text = c"the script was stopped";
        // SAFETY: Luau calls an interrupt where errors may be raised and a stack slot is free; nothing here needs dropping.
        unsafe {
            ffi::lua_pushstring(state, text.as_ptr());
            ffi::lua_error(state);
        }
    }
}

/// The processor time that this process has had.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes the struct and keeps no pointer to it; on failure it stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Where the script is: file, line and the frames that are not ours.
fn stack(state: *mut ffi::lua_State) -> (Option<String>, Option<u32>, Option<String>) {
    let mut place: Option<(String, u32)> = None;
    let mut frames = Vec::new();
    for level in 0..200 {
        // SAFETY: lua_Debug is plain data that lua_getinfo fills; "sln" makes it push nothing.
        let (source, line, name) = unsafe {
            let mut about: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getinfo(state, level, c"sln".as_ptr(), &mut about) == 0 {
                break;
            }
            (text(about.short_src), u32::try_from(about.currentline).unwrap_or(0), text(about.name))
        };
        if source == OWN || source == "[C]" {
            continue;
        }
        if frames.len() < 12 {
            frames.push(if name.is_empty() {
                format!("{source}:{line}")
            } else {
                format!("{source}:{line} in {name}")
            });
        }
        // The line to show is the user's own, not the standard library's.
        if place.as_ref().is_none_or(|(file, _)| file.starts_with("@ceso/")) && !source.starts_with("@ceso/")
            || place.is_none()
        {
            place = Some((source, line));
        }
    }
    let (file, line) = place.unzip();
    (file, line, (!frames.is_empty()).then(|| frames.join("\n")))
}

/// # Safety
/// `pointer` is null or points to a string that ends with a zero and outlives the call.
unsafe fn text(pointer: *const std::ffi::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
