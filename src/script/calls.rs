//! The worker's side of a call: what goes out, what has come back, and when no more may go.
//!
//! Owns the pipe and the numbers of the calls. It must check the clock at every call: the interrupt does not see a call that a
//! metamethod makes.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use mlua::Lua;

use super::clock::{self, Stop, clock};
use super::pipe::{Arrival, Pipe};
use crate::door::operation::Effect;
use crate::ops::Declared;
use crate::wire::{FrameError, FromWorker, Limits, Outcome, Raised, ToWorker, Value};

/// What may be called now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The top level of a file that is about to run: the first operation makes it a plain script.
    Top,
    /// The top level of a file that is only checked: the first operation ends the check.
    Checking,
    /// The top level of a file of tests: what asks a host belongs into a test.
    Tests,
    /// The top level of a file that is only described: nothing may be called.
    Describing,
    /// A script that runs.
    Running,
}

/// Why a call did not go out, or what it came back with instead of a value.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The script is stopped; the clock knows why.
    Stopped,
    /// A fault of the parent, under its number.
    Fault(Raised),
    /// A limit that the script met; the kind is ours.
    Limit { kind: &'static str, message: String },
    /// A mistake in the script.
    Misuse(String),
}

pub(super) struct Calls {
    pipe: RefCell<Pipe>,
    pub(super) limits: Limits,
    operations: &'static [Declared],
    phase: Cell<Phase>,
    called: Cell<bool>,
    next: Cell<u64>,
    count: Cell<u64>,
    written: Cell<u64>,
    under_way: RefCell<HashSet<u64>>,
    answers: RefCell<HashMap<u64, Outcome>>,
    /// Calls whose answers are there and that no one has been told of.
    arrived: RefCell<VecDeque<u64>>,
    /// Frames for the main loop that came in the middle of a script.
    others: RefCell<VecDeque<ToWorker>>,
    progress: RefCell<HashMap<String, Instant>>,
}

/// `task.progress` in a tight loop is thinned out to one in so long for the same label.
const PROGRESS: Duration = Duration::from_millis(50);

/// How many labels of progress a script may have on the screen.
const LABELS: usize = 64;

impl Calls {
    pub(super) fn new(pipe: Pipe, limits: Limits, operations: &'static [Declared]) -> Self {
        Self {
            pipe: RefCell::new(pipe),
            limits,
            operations,
            phase: Cell::new(Phase::Running),
            called: Cell::new(false),
            next: Cell::new(1),
            count: Cell::new(0),
            written: Cell::new(0),
            under_way: RefCell::default(),
            answers: RefCell::default(),
            arrived: RefCell::default(),
            others: RefCell::default(),
            progress: RefCell::default(),
        }
    }

    pub(super) fn operations(&self) -> &'static [Declared] {
        self.operations
    }

    pub(super) fn phase(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// Whether a file called an operation at its top level, which makes it a plain script.
    pub(super) fn called_at_top(&self) -> bool {
        self.called.get()
    }

    /// Sends what is no call. A parent that does not listen any more ends the worker.
    pub(super) fn tell(&self, frame: &FromWorker) {
        // Let go of the pipe before it is taken again.
        let sent = self.pipe.borrow_mut().send(frame);
        match sent {
            Ok(()) => {}
            Err(FrameError::TooLarge(..) | FrameError::TooMany(_)) => self.tell_too_large(),
            Err(_) => super::lost(),
        }
    }

    fn tell_too_large(&self) {
        let error = crate::wire::ScriptError {
            kind: "script.error".to_owned(),
            message: "the script's result is too large to be passed on".to_owned(),
            ..Default::default()
        };
        if self.pipe.borrow_mut().send(&FromWorker::Failed(error)).is_err() {
            super::lost();
        }
    }

    /// The next frame that is no answer, however long it takes.
    pub(super) fn next_frame(&self) -> ToWorker {
        loop {
            if let Some(frame) = self.others.borrow_mut().pop_front() {
                return frame;
            }
            if let Arrival::Frame(frame) = self.read(None) {
                self.sort(*frame);
            }
        }
    }

    fn read(&self, until: Option<Instant>) -> Arrival {
        match self.pipe.borrow_mut().receive(until) {
            Ok(arrival) => arrival,
            Err(_) => super::lost(),
        }
    }

    fn sort(&self, frame: ToWorker) {
        match frame {
            ToWorker::Answer { call, outcome } => {
                // An answer to a call that a stopped chunk left behind has no one to go to.
                if self.under_way.borrow_mut().remove(&call) {
                    self.answers.borrow_mut().insert(call, outcome);
                    self.arrived.borrow_mut().push_back(call);
                }
            }
            other => self.others.borrow_mut().push_back(other),
        }
    }

    /// Sends a call of an operation and gives its number.
    pub(super) fn call(&self, lua: &Lua, operation: &str, arguments: Value) -> Result<u64, Refusal> {
        self.admit(lua, operation)?;
        let operation = operation.to_owned();
        self.send(|call| FromWorker::Call { call, operation, arguments })
    }

    /// Asks for a module and waits for it.
    pub(super) fn module(&self, lua: &Lua, name: String, from: String) -> Result<Value, Refusal> {
        clock(|clock| clock.check(lua)).map_err(|()| Refusal::Stopped)?;
        // The parent keeps what it answers, so what is asked is counted.
        self.count()?;
        let call = self.send(|call| FromWorker::Module { call, name, from })?;
        self.wait(lua, call)
    }

    fn admit(&self, lua: &Lua, operation: &str) -> Result<(), Refusal> {
        clock(|clock| clock.check(lua)).map_err(|()| Refusal::Stopped)?;
        let pure = self.operations.iter().any(|known| known.name == operation && known.effect == Effect::Pure);
        match self.phase.get() {
            Phase::Describing => {
                let message = format!("{operation} cannot be called while the file is only read for its description");
                return Err(Refusal::Misuse(message));
            }
            Phase::Tests if !pure => {
                let message = format!("{operation} cannot be called at the top of a file of tests; call it in a test");
                return Err(Refusal::Misuse(message));
            }
            Phase::Checking if !pure => {
                clock(|clock| clock.stop(lua, Stop::Plain));
                return Err(Refusal::Stopped);
            }
            Phase::Top if !pure => self.called.set(true),
            _ => {}
        }
        self.count()?;
        if self.under_way.borrow().len() >= self.limits.calls_at_once as usize {
            let message = clock::passed("calls at once", self.limits.calls_at_once, "calls_at_once");
            return Err(Refusal::Limit { kind: "limit.calls_at_once", message });
        }
        Ok(())
    }

    fn count(&self) -> Result<(), Refusal> {
        let count = self.count.get() + 1;
        if count > self.limits.calls {
            let message = clock::passed("calls", self.limits.calls, "calls");
            return Err(Refusal::Limit { kind: "limit.calls", message });
        }
        self.count.set(count);
        Ok(())
    }

    fn send(&self, frame: impl FnOnce(u64) -> FromWorker) -> Result<u64, Refusal> {
        let call = self.next.get();
        self.next.set(call + 1);
        match self.pipe.borrow_mut().send(&frame(call)) {
            Ok(()) => {}
            Err(error @ (FrameError::TooLarge(..) | FrameError::TooMany(_))) => {
                return Err(Refusal::Misuse(format!("the arguments are too large: {error}")));
            }
            Err(_) => super::lost(),
        }
        self.under_way.borrow_mut().insert(call);
        Ok(call)
    }

    /// Waits for one call's answer, keeping the others that come.
    pub(super) fn wait(&self, lua: &Lua, call: u64) -> Result<Value, Refusal> {
        while !self.answered(call) {
            if !self.under_way.borrow().contains(&call) {
                return Err(Refusal::Misuse("the call was given up".to_owned()));
            }
            self.receive(lua, None)?;
        }
        self.take(call)
    }

    /// Receives at least one frame, or none by `until`, or fails when the script is stopped meanwhile.
    fn receive(&self, lua: &Lua, until: Option<Instant>) -> Result<(), Refusal> {
        let deadline = clock(clock::Clock::deadline);
        let limit = match (until, deadline) {
            (Some(until), Some(deadline)) => Some(until.min(deadline)),
            (until, deadline) => until.or(deadline),
        };
        if let Arrival::Frame(frame) = self.read(limit) {
            self.sort(*frame);
        }
        clock(|clock| clock.check(lua)).map_err(|()| Refusal::Stopped)
    }

    pub(super) fn answered(&self, call: u64) -> bool {
        self.answers.borrow().contains_key(&call)
    }

    /// What came of a call whose answer is there.
    pub(super) fn take(&self, call: u64) -> Result<Value, Refusal> {
        self.arrived.borrow_mut().retain(|arrived| *arrived != call);
        match self.answers.borrow_mut().remove(&call) {
            Some(Outcome::Done(value)) => Ok(value),
            Some(Outcome::Failed(raised)) => Err(Refusal::Fault(raised)),
            None => Err(Refusal::Misuse("the call's answer was taken before".to_owned())),
        }
    }

    /// The number of a call whose answer has come and that was not told of yet; waits for one for at most `time`.
    pub(super) fn pump(&self, lua: &Lua, time: Option<Duration>) -> Result<Option<u64>, Refusal> {
        let until = time.and_then(|time| Instant::now().checked_add(time));
        loop {
            if let Some(call) = self.arrived.borrow_mut().pop_front() {
                return Ok(Some(call));
            }
            let before = self.arrived.borrow().len();
            self.receive(lua, until)?;
            if self.arrived.borrow().len() == before && until.is_some_and(|until| Instant::now() >= until) {
                return Ok(None);
            }
        }
    }

    /// Counts calls and output from zero: each chunk of the REPL has the limits of a run.
    pub(super) fn begin_anew(&self) {
        self.count.set(0);
        self.written.set(0);
    }

    /// Gives up on what is under way: a chunk of the REPL was stopped.
    pub(super) fn forget(&self) {
        self.under_way.borrow_mut().clear();
        self.answers.borrow_mut().clear();
        self.arrived.borrow_mut().clear();
    }

    /// Counts what is printed and logged; past the limit the script is stopped.
    pub(super) fn write(&self, lua: &Lua, bytes: usize) -> Result<(), Refusal> {
        clock(|clock| clock.check(lua)).map_err(|()| Refusal::Stopped)?;
        let written = self.written.get().saturating_add(bytes as u64 + 1);
        self.written.set(written);
        if written > self.limits.output.0 {
            clock(|clock| clock.stop(lua, Stop::Output));
            return Err(Refusal::Stopped);
        }
        Ok(())
    }

    /// Whether a line of progress is worth sending: the same label is thinned out, and there are only so many at once.
    pub(super) fn worth_showing(&self, label: &str, fraction: Option<f64>) -> bool {
        let mut shown = self.progress.borrow_mut();
        let ended = fraction.is_some_and(|fraction| fraction >= 1.0);
        match shown.get(label) {
            Some(_) if ended => shown.remove(label).is_some(),
            Some(at) if at.elapsed() < PROGRESS => false,
            None if ended || shown.len() >= LABELS => false,
            _ => {
                shown.insert(label.to_owned(), Instant::now());
                true
            }
        }
    }
}

#[cfg(debug_assertions)]
impl Calls {
    /// Bytes that are no frame of ours, for [`super::breach`].
    pub(super) fn raw(&self, bytes: &[u8]) {
        if self.pipe.borrow_mut().send_bytes(bytes).is_err() {
            super::lost();
        }
    }
}
