//! The parent's side of a running worker: it answers calls through the door until the worker says how it ended.
//!
//! One thread reads frames. What needs no wait is answered on it; what waits for a host goes on in the asynchronous runtime, which is
//! started with the first operation that may. Faults are numbered here: exit codes and hints come from those numbers, never from a script's words.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::modules::Modules;
use super::output::Output;
use super::presence::Presence;
use super::process::{Killer, Reader, Worker, Writer};
use super::progress::Lines;
use crate::door::operation::Effect;
use crate::door::{Door, leaving};
use crate::error::Fault;
use crate::metrics;
use crate::ops;
use crate::units::Span;
use crate::wire::{FrameError, FromWorker, Known, Limits, Outcome, Raised, ScriptError, Source, ToWorker, Value};

/// How long changes that are under way may take to end once the run is over.
const GRACE: Duration = Duration::from_secs(30);

/// How many faults of a run are remembered, the newest, and how long their texts may be: a script can make ever more of them, with
/// words of its own in each.
const FAULTS: usize = 10_000;
const FAULT_TEXT: usize = 4_000;

/// What a worker said that is not a call.
#[derive(Debug)]
pub enum Said {
    /// A playbook's declaration: it waits for its parameters.
    Loaded(Value),
    /// A plain script, for `check`.
    Plain,
    Described {
        name: String,
        outcome: Result<Value, ScriptError>,
    },
    Done(Value),
    Failed(ScriptError),
}

/// Why a run ended without a result.
#[derive(Debug)]
pub enum Ended {
    /// A fault of the parent's: raised to the script and not caught, or a limit, or a worker that died.
    Fault { fault: Arc<Fault>, script: Option<Box<ScriptError>> },
    /// The script's own error.
    Script(Box<ScriptError>),
}

impl Ended {
    pub fn exit_code(&self) -> u8 {
        match self {
            Ended::Fault { fault, .. } => fault.exit_code(),
            Ended::Script(error) if error.kind.starts_with("limit.") => 124,
            // Wrong use is told as where the command line itself is wrong.
            Ended::Script(error) if error.kind == "usage.script" => 2,
            Ended::Script(_) => 1,
        }
    }
}

impl Ended {
    /// The end as one fault, for where there is no script to point into.
    pub fn into_fault(self) -> Fault {
        match self {
            Ended::Fault { fault, .. } => Arc::try_unwrap(fault).unwrap_or_else(|fault| {
                let copy = Fault::new(fault.kind().to_owned(), fault.message());
                match fault.hint_text() {
                    Some(hint) => copy.hint(hint),
                    None => copy,
                }
            }),
            Ended::Script(error) => super::process::fault_of(&error),
        }
    }
}

impl Ended {
    pub fn kind(&self) -> &str {
        match self {
            Ended::Fault { fault, .. } => fault.kind(),
            Ended::Script(error) => &error.kind,
        }
    }

    /// How a run that ends so is counted: what a script says of itself is no denial.
    pub fn outcome(&self) -> metrics::Outcome {
        match self {
            Ended::Script(error) if error.kind.starts_with("door") => metrics::Outcome::Failed,
            ended => metrics::Outcome::of_fault(ended.kind()),
        }
    }

    /// Counts the limit that ended it; one that was raised to the script is counted already.
    pub fn count(&self, mode: &'static str) {
        if !matches!(self, Ended::Fault { script: Some(_), .. }) && self.kind().starts_with("limit.") {
            metrics::limit(self.kind(), mode);
        }
    }
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Ended::Fault { fault: Arc::new(fault), script: None }
    }
}

/// A worker and all that answers it.
pub struct Session {
    worker: Option<Worker>,
    reader: Reader,
    writer: Writer,
    shared: Arc<Shared>,
    runtime: OnceLock<Runtime>,
    tasks: JoinSet<()>,
    modules: Modules,
    output: Output,
    lines: Lines,
    limits: Limits,
    calls: u64,
    names: Vec<Known>,
    /// Files that were read for the script, for errors that point into them.
    pub sources: Vec<Source>,
}

struct Shared {
    door: Arc<Door>,
    faults: Mutex<Raises>,
    under_way: AtomicU32,
    /// Whether the run has ended: nobody hears any more what becomes of the calls that are under way.
    over: AtomicBool,
    /// What came of changes since then that somebody must hear.
    late: Mutex<Vec<Fault>>,
    /// What tells others on this machine what the run is doing.
    presence: OnceLock<Presence>,
}

/// The faults that were raised to the script, by their numbers from 1.
#[derive(Default)]
struct Raises {
    newest: std::collections::VecDeque<Arc<Fault>>,
    forgotten: usize,
}

impl Shared {
    fn raise(&self, fault: Fault) -> Raised {
        let fault = leaving::fault(fault).shortened(FAULT_TEXT);
        if fault.is("limit") {
            metrics::limit(fault.kind(), self.door.policy().mode().name());
        }
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.newest.len() >= FAULTS {
            faults.newest.pop_front();
            faults.forgotten += 1;
        }
        let number = faults.forgotten + faults.newest.len() + 1;
        let raised = Raised::of(u32::try_from(number).unwrap_or_default(), &fault);
        faults.newest.push_back(Arc::new(fault));
        raised
    }

    fn fault(&self, number: u32) -> Option<Arc<Fault>> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.newest.get((number as usize).checked_sub(faults.forgotten + 1)?).cloned()
    }

    /// Keeps what a change's fault tells beyond that it was stopped, where its script is gone: what it left, until when a machine is busy.
    fn note_late(&self, operation: &str, result: &Result<Value, Fault>) {
        let Err(fault) = result else { return };
        if !self.over.load(Ordering::Relaxed) || (fault.is("script.cancelled") && fault.hint_text().is_none()) {
            return;
        }
        let hint = fault.hint_text().map(|hint| format!("; {hint}")).unwrap_or_default();
        let told = Fault::new(fault.kind().to_owned(), format!("{operation}: {}{hint}", fault.message()));
        self.late.lock().unwrap_or_else(PoisonError::into_inner).push(told.shortened(FAULT_TEXT));
    }

    /// Says which operation has begun, or that one has ended.
    fn doing(&self, operation: Option<&'static str>) {
        if let Some(presence) = self.presence.get()
            && (operation.is_some() || self.under_way.load(Ordering::Relaxed) == 0)
        {
            presence.doing(operation);
        }
    }

    fn outcome(&self, result: Result<Value, Fault>) -> Outcome {
        match result {
            Ok(value) => Outcome::Done(value),
            Err(fault) => Outcome::Failed(self.raise(fault)),
        }
    }
}

impl Session {
    /// A session with a worker that has been started.
    pub fn new(worker: Worker, reader: Reader, writer: Writer, door: Arc<Door>, means: Means) -> Self {
        let shared = Shared {
            door,
            faults: Mutex::default(),
            under_way: AtomicU32::new(0),
            over: AtomicBool::new(false),
            late: Mutex::default(),
            presence: OnceLock::new(),
        };
        Self {
            worker: Some(worker),
            reader,
            writer,
            shared: Arc::new(shared),
            runtime: OnceLock::new(),
            tasks: JoinSet::new(),
            modules: means.modules,
            output: means.output,
            lines: means.lines,
            limits: means.limits,
            calls: 0,
            names: Vec::new(),
            sources: Vec::new(),
        }
    }

    /// Has others on this machine see the run for as long as the session lasts.
    pub fn make_known(&mut self, presence: Option<Presence>) {
        if let Some(presence) = presence {
            let _already = self.shared.presence.set(presence);
        }
    }

    /// Sends one frame to the worker.
    pub fn send(&mut self, frame: &ToWorker) -> Result<(), Ended> {
        match self.writer.send(frame) {
            Ok(()) => Ok(()),
            Err(fault) if fault.is("script.lost") => Err(self.died()),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Answers the worker until it says something that is not a call.
    pub fn until_said(&mut self) -> Result<Said, Ended> {
        loop {
            let frame = match self.reader.read() {
                Ok(frame) => frame,
                Err(FrameError::Closed) => return Err(self.died()),
                Err(error) => {
                    if let Some(worker) = &self.worker {
                        worker.kill(misbehaved(&error));
                    }
                    return Err(self.died());
                }
            };
            match frame {
                FromWorker::Ready { .. } => {}
                FromWorker::Call { call, operation, arguments } => self.call(call, &operation, arguments)?,
                FromWorker::Module { call, name, from } => self.module(call, &name, &from)?,
                FromWorker::Print { text } => self.output.print(&text).or_else(|fault| self.stop(fault))?,
                FromWorker::Row { mut value, text } => {
                    self.shared.door.tell(&mut value)?;
                    leaving::value(&mut value);
                    self.output.row(&value.to_json(), &text).or_else(|fault| self.stop(fault))?;
                }
                FromWorker::Log { level, text } => self.output.log(level, &text).or_else(|fault| self.stop(fault))?,
                FromWorker::Progress { label, fraction } => self.lines.script(&label, fraction),
                FromWorker::Loaded { declaration } => return Ok(Said::Loaded(declaration)),
                FromWorker::Plain => return Ok(Said::Plain),
                FromWorker::Described { name, outcome } => return Ok(Said::Described { name, outcome }),
                FromWorker::Names { globals } => self.names = globals,
                FromWorker::Done { mut value } => {
                    self.shared.door.tell(&mut value)?;
                    leaving::value(&mut value);
                    return Ok(Said::Done(value));
                }
                FromWorker::Failed(error) => return Ok(Said::Failed(error)),
            }
        }
    }

    /// What a script's failure means: the fault that it did not catch, or its own error.
    pub fn ended(&self, error: ScriptError) -> Ended {
        match error.fault.and_then(|number| self.shared.fault(number)) {
            Some(fault) => Ended::Fault { fault, script: Some(Box::new(error)) },
            None => Ended::Script(Box::new(error)),
        }
    }

    /// Ends the run: no call begins any more, reads are dropped, changes that are under way may end within their grace.
    pub fn finish(self) -> Vec<Fault> {
        let (_patient, hurry) = watch::channel(false);
        self.finish_unless(hurry)
    }

    /// Like [`Session::finish`], but waits no longer when `hurry` becomes true: what is under way then has an unknown outcome.
    pub fn finish_unless(mut self, hurry: watch::Receiver<bool>) -> Vec<Fault> {
        self.end(hurry)
    }

    /// Like [`Session::finish_unless`], for who still holds the session; it answers nothing any more.
    pub fn end(&mut self, mut hurry: watch::Receiver<bool>) -> Vec<Fault> {
        if let Some(worker) = self.worker.take()
            && metrics::is_enabled()
        {
            // What it used is known once it is gone; without anybody who counts it, nobody waits.
            worker.kill_and_wait();
        }
        self.lines.clear();
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.door.cancel(true);
        let Some(runtime) = self.runtime.take() else { return Vec::new() };
        let tasks = &mut self.tasks;
        let pending =
            self.shared.door.journal().changes().iter().any(|c| c.outcome == crate::door::journal::Outcome::Begun);
        if pending {
            self.output.note("ceso: waiting for changes that are under way on the host to end\n");
        }
        let faults = runtime.block_on(async {
            let drained = async { while tasks.join_next().await.is_some() {} };
            let hurried = async {
                if hurry.wait_for(|hurry| *hurry).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            let ended = tokio::select! {
                ended = tokio::time::timeout(GRACE, drained) => ended.is_ok(),
                () = hurried => false,
            };
            if !ended {
                tasks.abort_all();
                while tasks.join_next().await.is_some() {}
            }
            self.shared.door.journal().close();
            self.shared.door.disconnect().await
        });
        runtime.shutdown_timeout(Duration::from_millis(200));
        let mut late = std::mem::take(&mut *self.shared.late.lock().unwrap_or_else(PoisonError::into_inner));
        late.extend(faults);
        late
    }

    fn call(&mut self, call: u64, operation: &str, arguments: Value) -> Result<(), Ended> {
        self.count()?;
        let refused = if self.shared.under_way.load(Ordering::Relaxed) >= self.limits.calls_at_once {
            Some(limit("calls_at_once", u64::from(self.limits.calls_at_once), "calls at once"))
        } else {
            None
        };
        let declared = match (refused, ops::find(operation)) {
            (Some(fault), _) => return self.answer(call, Err(fault)),
            (None, Some(declared)) => declared,
            (None, None) => {
                let fault = Fault::new("usage.operation", format!("there is no operation {operation:?}"));
                return self.answer(call, Err(fault));
            }
        };
        let shared = self.shared.clone();
        let mut pass = async move { declared.call(&shared.door, call, arguments).await }.boxed();
        if declared.effect == Effect::Pure {
            let result = pass.now_or_never().unwrap_or_else(|| {
                Err(Fault::new("ceso.waited", format!("{operation} is declared pure, but it waits"))
                    .hint("this is a defect of ceso: please report it"))
            });
            return self.answer(call, result);
        }
        let handle = self.runtime()?.handle().clone();
        self.shared.doing(Some(declared.name));
        // What needs no wait (a refusal, a host that is connected) is answered here: waking another thread costs more than that.
        let at_once = {
            let _entered = handle.enter();
            pass.as_mut().now_or_never()
        };
        match at_once {
            Some(result) => {
                self.shared.doing(None);
                self.answer(call, result)
            }
            None => {
                let change = (declared.effect >= Effect::Change).then_some(declared.name);
                self.answer_later(call, change, pass, &handle);
                Ok(())
            }
        }
    }

    fn answer_later(
        &mut self,
        call: u64,
        change: Option<&'static str>,
        pass: BoxFuture<'static, Result<Value, Fault>>,
        handle: &Handle,
    ) {
        let (shared, writer) = (self.shared.clone(), self.writer.clone());
        while self.tasks.try_join_next().is_some() {}
        shared.under_way.fetch_add(1, Ordering::Relaxed);
        let answer = async move {
            let result = pass.await;
            shared.under_way.fetch_sub(1, Ordering::Relaxed);
            shared.doing(None);
            if let Some(change) = change {
                shared.note_late(change, &result);
            }
            // A worker that is gone needs no answer; its end is noticed by the reader.
            let _gone = writer.send(&ToWorker::Answer { call, outcome: shared.outcome(result) });
        };
        self.tasks.spawn_on(answer, handle);
    }

    /// Counts what the worker asks. It keeps to the limit itself; one that does not is broken, and would fill our memory.
    fn count(&mut self) -> Result<(), Ended> {
        self.calls += 1;
        if self.calls > self.limits.calls {
            return self.stop(limit("calls", self.limits.calls, "calls of operations"));
        }
        Ok(())
    }

    fn module(&mut self, call: u64, name: &str, from: &str) -> Result<(), Ended> {
        self.count()?;
        let result = self.modules.find(name, from).map(|module| {
            // A module may be asked for again and again; one copy is enough for errors to point into.
            if !self.sources.iter().any(|known| known.name == module.name) {
                self.sources.push(Source { name: module.name.clone(), text: module.text.clone() });
            }
            module.into_value()
        });
        self.answer(call, result)
    }

    fn answer(&mut self, call: u64, result: Result<Value, Fault>) -> Result<(), Ended> {
        let outcome = self.shared.outcome(result);
        self.send(&ToWorker::Answer { call, outcome })
    }

    fn runtime(&mut self) -> Result<&Runtime, Ended> {
        if self.runtime.get().is_none() {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(
                |error| Fault::new("ceso.runtime", format!("no thread can be started: {error}")).cause(error),
            )?;
            let _first = self.runtime.set(runtime);
        }
        self.runtime.get().ok_or_else(|| Fault::new("ceso.runtime", "the asynchronous runtime is gone").into())
    }

    /// Ends a worker that goes beyond a limit which the parent holds.
    fn stop(&mut self, fault: Fault) -> Result<(), Ended> {
        if let Some(worker) = &self.worker {
            worker.kill(fault);
        }
        Err(self.died())
    }

    /// Why the worker is gone, from how its process ended.
    fn died(&mut self) -> Ended {
        let fault = self.worker.take().and_then(|worker| worker.ended().fault);
        fault.unwrap_or_else(|| Fault::new("script.lost", "the script's process ended without a word")).into()
    }

    /// Begins the time of an expression or of the run: after it no call passes the door.
    pub fn begin(&self, time: Duration) {
        self.shared.door.set_deadline(Instant::now().checked_add(time));
    }

    /// Gives one expression of the REPL its time, and the limits of a run.
    pub fn arm(&mut self, time: Duration) {
        self.begin(time);
        self.calls = 0;
        self.output.begin_anew();
        if let Some(worker) = &self.worker {
            worker.arm(time);
        }
    }

    /// Takes the time back: the expression has ended.
    pub fn disarm(&self) {
        self.shared.door.set_deadline(None);
        if let Some(worker) = &self.worker {
            worker.disarm();
        }
    }

    /// Ends the reads and waits that an expression left behind; changes go on to their end.
    pub fn drop_reads(&self) {
        self.shared.door.drop_reads();
    }

    /// What the expressions of the REPL left behind, as the worker tells it.
    pub fn names(&self) -> &[Known] {
        &self.names
    }

    /// Has the door let one call of the person's own through, such as a list of names to complete, while no expression runs.
    pub fn ask(&mut self, operation: &str, arguments: Value, time: Duration) -> Result<Value, Fault> {
        let declared = ops::find(operation)
            .ok_or_else(|| Fault::new("usage.operation", format!("there is no operation {operation:?}")))?;
        let door = self.shared.door.clone();
        let runtime = self.runtime().map_err(Ended::into_fault)?;
        door.set_deadline(Instant::now().checked_add(time));
        let answer = runtime.block_on(async { tokio::time::timeout(time, declared.call(&door, 0, arguments)).await });
        door.set_deadline(None);
        answer.unwrap_or_else(|late| {
            Err(Fault::new("limit.run_time", format!("{operation}: no answer within {}", Span(time))).cause(late))
        })
    }

    /// Whether the worker still lives.
    pub fn is_alive(&self) -> bool {
        self.worker.is_some()
    }

    /// A handle with which a signal can stop the script.
    pub fn killer(&self) -> Option<Killer> {
        self.worker.as_ref().map(Worker::killer)
    }
}

/// What a session works with.
pub struct Means {
    pub modules: Modules,
    pub output: Output,
    pub lines: Lines,
    pub limits: Limits,
}

fn misbehaved(error: &FrameError) -> Fault {
    Fault::new("script.lost", format!("the script's process spoke out of turn: {error}"))
        .shortened(FAULT_TEXT)
        .hint("a script cannot do this by itself: please report it")
}

fn limit(setting: &str, value: u64, what: &str) -> Fault {
    Fault::new(format!("limit.{setting}"), format!("the run has made {value} {what}, as many as it may"))
        .hint(format!("raise sandbox.{setting} in the configuration, or split the work"))
}
