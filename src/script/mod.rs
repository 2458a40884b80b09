//! Inside the worker: one hardened Luau VM, its bindings and its jail. It holds nothing; it asks the parent through a pipe.
//!
//! A worker is this same binary, told apart by its first argument. It has one thread and no async runtime: that makes the jail
//! sound (landlock binds the calling thread) and leaves coroutines to scripts. It must not import a client of any kind.

#[cfg(debug_assertions)]
mod breach;
mod calls;
mod clock;
mod handle;
pub mod jail;
pub mod lexer;
mod locals;
mod names;
mod native;
mod pipe;
mod purpose;
#[cfg(test)]
mod tests;
mod value;
mod vm;

use std::os::fd::{FromRawFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::FileType;

use crate::ops;
use crate::wire::{FromWorker, Jail, Limits, Purpose, ScriptError, Start, ToWorker};
use calls::Calls;
use pipe::{Arrival, Pipe};
use vm::Vm;

pub use native::modules as standard_modules;

/// The first argument of a process that is a worker.
pub const ARGUMENT: &str = "__worker";

/// How a worker ends itself when its parent is gone or its VM cannot be built, and when it panics.
pub const EXIT_LOST: i32 = 70;

/// Runs this process as a worker: takes one `Start` from descriptor 0, serves it, and ends. Called before anything else is set up.
pub fn main() -> ! {
    // Someone who types the argument by hand has a terminal there, which must stay as it is.
    let stdin = std::io::stdin();
    let socket =
        rustix::fs::fstat(&stdin).is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::Socket);
    if !socket {
        exit(EXIT_LOST);
    }
    detach();
    // SAFETY: descriptor 0 is the socket that the parent gave this process; nothing else has taken it.
    let pipe = unsafe { OwnedFd::from_raw_fd(0) };
    match Pipe::new(pipe) {
        Ok(pipe) => serve(pipe),
        Err(_) => lost(),
    }
}

/// Leaves the parent's session, ends when the parent's spawning thread does, and holds no descriptor but the first three.
fn detach() {
    // A panic must neither unwind into Luau nor be caught by a script.
    std::panic::set_hook(Box::new(|_| exit(EXIT_LOST)));
    // SAFETY: plain system calls on this process alone, before it has a second thread or another open file.
    unsafe {
        libc::setsid();
        #[cfg(target_os = "linux")]
        {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::prctl(libc::PR_SET_DUMPABLE, 0);
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
        }
        // Rust's handlers, which look for an overflow of the stack, make calls that the jail does not know.
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
        // Without SA_RESTART, so that waiting for the parent is interrupted.
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = clock::on_signal as *const () as usize;
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
    }
}

/// Ends the process at once: no handlers, no destructors, nothing that the jail would refuse.
fn exit(code: i32) -> ! {
    // SAFETY: _exit does not return.
    unsafe { libc::_exit(code) }
}

/// The parent is gone, or speaks another language: there is no one to tell.
fn lost() -> ! {
    exit(EXIT_LOST)
}

/// Nothing is dropped at the end: closing a descriptor is no call that the jail knows.
fn serve(mut pipe: Pipe) -> ! {
    let start = match pipe.receive(None) {
        Ok(Arrival::Frame(frame)) => match *frame {
            ToWorker::Start(start) => *start,
            _ => lost(),
        },
        _ => lost(),
    };
    let Start { purpose, limits, hardened, jail: wanted, .. } = start;
    jail::prepare();
    let operations = if matches!(purpose, Purpose::Tests(_)) { ops::with_tests() } else { ops::all() };
    let calls = Rc::new(Calls::new(pipe, limits.clone(), operations));
    let vm = match Vm::new(Rc::clone(&calls), hardened) {
        Ok(vm) => vm,
        Err(error) => {
            let message = format!("the script's VM could not be made: {error}");
            calls.tell(&FromWorker::Failed(ScriptError {
                kind: "script.error".to_owned(),
                message,
                ..Default::default()
            }));
            exit(0)
        }
    };
    let parts = if wanted == Jail::Off { Vec::new() } else { jail::close(&limits, spare(&limits)) };
    let closed = wanted != Jail::Full || jail::is_full(&parts);
    let missing = jail::missing(&parts);
    calls.tell(&FromWorker::Ready { jail: parts });
    if !closed {
        let error = ScriptError {
            kind: "jail.incomplete".to_owned(),
            message: format!("the script's process could not be locked down: {missing}"),
            ..Default::default()
        };
        calls.tell(&FromWorker::Failed(error));
        exit(0)
    }
    match purpose {
        Purpose::Run(source) => purpose::run(&vm, &source, hardened),
        Purpose::Check(source) => purpose::check(&vm, &source, hardened),
        Purpose::Describe(sources) => purpose::describe(&vm, &sources, hardened),
        Purpose::Tests(source) => purpose::tests(&vm, &source, hardened),
        Purpose::Repl => purpose::repl(&vm, hardened),
    }
    exit(0)
}

/// What the process may map beyond what it has: the VM, the frames in both directions, the compiler at work.
fn spare(limits: &Limits) -> u64 {
    limits.memory.0.saturating_mul(2).saturating_add(192 << 20)
}
