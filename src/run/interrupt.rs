//! Ctrl-C and requests to end, while a worker runs: the first asks the script to stop, the second ends its process.
//!
//! What is not a worker's is the kernel's again once the listener is dropped: the next signal ends the command as any other.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use tokio::sync::watch;

use super::process::Killer;
use crate::error::Fault;

/// How long a script of the REPL that was asked to stop may take before another Ctrl-C ends its process: longer than what it deferred.
const PATIENCE: Duration = Duration::from_secs(3);

/// Listens for signals until it is dropped.
pub struct Interrupts {
    handle: Handle,
    target: Arc<Mutex<Option<Killer>>>,
    asked: Arc<AtomicBool>,
    last: Arc<AtomicI32>,
    hurry: watch::Sender<bool>,
    terminated: Arc<AtomicBool>,
}

/// Whether nobody listens: then signals do what they do to any process. A handler that was once installed cannot be taken out
/// again, so it asks this.
static IDLE: OnceLock<Arc<AtomicBool>> = OnceLock::new();

fn idle() -> std::io::Result<&'static Arc<AtomicBool>> {
    if IDLE.get().is_none() {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_default(signal, flag.clone())?;
        }
        return Ok(IDLE.get_or_init(|| flag));
    }
    IDLE.get().ok_or_else(|| std::io::Error::other("the flag of the signals is gone"))
}

impl Interrupts {
    /// Listens on behalf of a worker. `twice` says whether a second signal ends the process at once (a run), or only where the script
    /// does not stop by itself (the REPL), where SIGTERM ends it at once, and ceso too while it waits for a person.
    pub fn listen(killer: Option<Killer>, twice: bool) -> std::io::Result<Self> {
        let idle = idle()?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        idle.store(false, Ordering::Relaxed);
        let handle = signals.handle();
        let target = Arc::new(Mutex::new(killer));
        let asked = Arc::new(AtomicBool::new(false));
        let last = Arc::new(AtomicI32::new(0));
        let hurry = watch::Sender::new(false);
        let terminated = Arc::new(AtomicBool::new(false));
        let (seen, known, named, hurried) = (asked.clone(), target.clone(), last.clone(), hurry.clone());
        let ended = terminated.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut first = Instant::now();
            for signal in signals.forever() {
                named.store(signal, Ordering::Relaxed);
                let again = seen.swap(true, Ordering::Relaxed);
                let killer = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if killer.is_none() || (again && twice) {
                    hurried.send_replace(true);
                }
                ended.fetch_or(signal == SIGTERM, Ordering::Relaxed);
                let insists = again && (twice || first.elapsed() >= PATIENCE);
                match killer {
                    // Nothing runs in the REPL: the process ends as if nobody had listened.
                    None if signal == SIGTERM && !twice => {
                        drop(signal_hook::low_level::emulate_default_handler(signal))
                    }
                    None => {}
                    Some(killer) if insists || (signal == SIGTERM && !twice) => killer.kill(stopped(signal)),
                    Some(killer) => {
                        if !again {
                            first = Instant::now();
                        }
                        killer.interrupt();
                    }
                }
            }
        })?;
        Ok(Self { handle, target, asked, last, hurry, terminated })
    }

    /// Turns to another worker.
    pub fn turn_to(&self, killer: Option<Killer>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = killer;
    }

    /// Whether the process was asked to end.
    pub fn terminated(&self) -> bool {
        self.terminated.load(Ordering::Relaxed)
    }

    /// Whether there was a signal since this was last asked.
    pub fn take(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }

    /// Becomes true when somebody does not want to wait for what is under way: at a second signal, and at the first one after
    /// the worker has ended.
    pub fn hurry(&self) -> watch::Receiver<bool> {
        self.hurry.subscribe()
    }

    /// Like [`Interrupts::hurry`], of signals from now on: what came before was for something else.
    pub fn hurry_from_now(&self) -> watch::Receiver<bool> {
        self.hurry.send_replace(false);
        self.hurry.subscribe()
    }

    /// What a run that stopped for the signal says of itself.
    pub fn fault(&self) -> Fault {
        stopped(self.last.load(Ordering::Relaxed))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(idle) = IDLE.get() {
            idle.store(true, Ordering::Relaxed);
        }
    }
}

fn stopped(signal: i32) -> Fault {
    let by = if signal == SIGTERM { "a request to end (SIGTERM)" } else { "Ctrl-C" };
    Fault::new("script.cancelled", format!("the run was stopped by {by}"))
        .hint("what it had changed is left as it is, and listed below")
}
