//! Ctrl-C and requests to end, while a worker runs: the first asks the script to stop, the second ends its process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::process::Killer;
use crate::error::Fault;

/// Listens for signals until it is dropped.
pub struct Interrupts {
    handle: Handle,
    target: Arc<Mutex<Option<Killer>>>,
    asked: Arc<AtomicBool>,
}

impl Interrupts {
    /// Listens on behalf of a worker. `twice` says whether a second signal ends the process (a run), or not (the REPL).
    pub fn listen(killer: Option<Killer>, twice: bool) -> std::io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let target = Arc::new(Mutex::new(killer));
        let asked = Arc::new(AtomicBool::new(false));
        let (seen, known) = (asked.clone(), target.clone());
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                let again = seen.swap(true, Ordering::Relaxed);
                let Some(killer) = known.lock().unwrap_or_else(PoisonError::into_inner).clone() else { continue };
                if (again && twice) || signal == SIGTERM {
                    killer.kill(stopped());
                } else {
                    killer.interrupt();
                }
            }
        })?;
        Ok(Self { handle, target, asked })
    }

    /// Turns to another worker.
    pub fn turn_to(&self, killer: Option<Killer>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = killer;
    }

    /// Whether there was a signal since this was last asked.
    pub fn take(&self) -> bool {
        self.asked.swap(false, Ordering::Relaxed)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.handle.close();
    }
}

fn stopped() -> Fault {
    Fault::new("script.cancelled", "the run was stopped by a signal")
        .hint("what it had changed is left as it is, and listed below")
}
