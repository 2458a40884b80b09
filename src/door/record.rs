//! The record of a run: all that happens at the door goes through here, to the audit log and to the metrics.
//!
//! A change has two events. Its intent is on disk before the operation acts, its outcome before the script is answered. A change that
//! was refused, found nothing to do, or failed before anything was sent, has an outcome alone. Reads and denials are written in
//! groups, and nobody waits for them. Pure operations touch nothing: they are counted, and not written.
//!
//! Without the log nothing is changed: the intent cannot be written, so the operation does not act. What undoes goes on, and says so.
//! Reads go on too. What is still open when the run ends is closed by [`Record::end`] with an unknown outcome, so a worker
//! that is killed leaves no intent without one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value as Json;

use super::ledger::Ledger;
use super::modes::Mode;
use super::operation::Effect;
use super::telling;
use crate::audit::{self, Event, FaultNote, Kind, Log, Receipt, Sync};
use crate::error::Fault;
use crate::metrics;
use crate::redact;
use crate::wire::Value;

/// Says something to the person, on a line of standard error.
pub type Warn = Arc<dyn Fn(&str) + Send + std::marker::Sync>;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// All held already; nothing was sent.
    Unchanged,
    Failed,
    /// Nobody knows what the host did.
    Unknown,
    /// The time of the run was over before it began.
    TimedOut,
    /// Nobody waited for it any more.
    Dropped,
    /// An entry was missing, or used up.
    Denied,
}

impl Ending {
    pub const ALL: [Self; 7] =
        [Self::Done, Self::Unchanged, Self::Failed, Self::Unknown, Self::TimedOut, Self::Dropped, Self::Denied];

    /// As the log and the metrics call it: `timed_out`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::TimedOut => "timed_out",
            Self::Dropped => "dropped",
            Self::Denied => "denied",
        }
    }

    fn of(fault: &Fault, sent: bool) -> Self {
        match fault.kind() {
            _ if sent && super::pass::leaves_unknown(fault) => Self::Unknown,
            "limit.run_time" => Self::TimedOut,
            "script.cancelled" => Self::Dropped,
            _ if fault.is("door") && !sent => Self::Denied,
            _ => Self::Failed,
        }
    }
}

/// What is recorded of one run.
pub struct Record {
    ledger: Ledger,
    run: String,
    mode: Mode,
    warn: Warn,
    script: Mutex<Option<String>>,
    /// The event that begins the run, until it is written: ahead of everything else.
    begin: Mutex<Option<Event>>,
    /// Changes whose intent is written and whose outcome is not, by the number of the intent.
    open: Mutex<BTreeMap<u64, (About, Event)>>,
    /// What could not be written when it happened.
    owed: Mutex<Vec<Event>>,
    unrecorded: AtomicU64,
    warned: AtomicBool,
    calls: AtomicU64,
}

/// How a run is recorded: the log, the run's name, and who hears of a log that cannot be written.
pub struct Recording {
    pub ledger: Ledger,
    pub run: String,
    /// The SHA-256 of the script, in hex.
    pub script: Option<String>,
    /// What else there is to say at the run's begin.
    pub details: Option<Json>,
    pub warn: Warn,
}

impl Recording {
    /// Nothing is recorded.
    pub fn none() -> Self {
        Self { ledger: Ledger::none(), run: String::new(), script: None, details: None, warn: Arc::new(|_| {}) }
    }
}

/// What the end of a run's record came to.
#[derive(Debug, Default)]
pub struct Closed {
    /// The number of the last event and the head of the log's chain.
    pub receipt: Option<Receipt>,
    /// What could not be recorded.
    pub faults: Vec<Fault>,
}

impl Record {
    pub(super) fn new(recording: Recording, mode: Mode) -> Self {
        let Recording { ledger, run, script, details, warn } = recording;
        let begin = ledger.principal().map(|_| Event { details, ..Event::new(Kind::RunBegin) });
        Self {
            ledger,
            run,
            mode,
            warn,
            script: Mutex::new(script),
            begin: Mutex::new(begin),
            open: Mutex::default(),
            owed: Mutex::default(),
            unrecorded: AtomicU64::new(0),
            warned: AtomicBool::new(false),
            calls: AtomicU64::new(0),
        }
    }

    /// What the host's log knows a call by: the run and the number of the call.
    pub(super) fn correlation(&self, call: u64) -> Option<String> {
        (!self.run.is_empty()).then(|| format!("{}-{call}", self.run))
    }

    /// Says which script runs from now on, by its SHA-256 in hex: each chunk of the REPL is one.
    pub fn set_script(&self, script: String) {
        *lock(&self.script) = Some(script);
    }

    /// Adds the parameters to what is said at the run's begin; they are known only once the script was looked at.
    pub fn set_parameters(&self, params: &Value, contents: &[&str]) {
        if let Some(begin) = lock(&self.begin).as_mut() {
            begin.arguments = telling::arguments(params, contents);
        }
    }

    /// A call has come: from here it is timed.
    pub(super) fn call(&self, call: u64, about: About) -> Noting<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Noting {
            record: self,
            call,
            about,
            began: Instant::now(),
            arguments: None,
            objects: Vec::new(),
            entry: None,
            host: None,
            intent: None,
            intended: false,
            unchanged: false,
            ended: false,
        }
    }

    fn is_kept(&self) -> bool {
        self.ledger.principal().is_some()
    }

    /// Fills in what all events of the run have. What a call brings was redacted when it was told.
    fn of_run(&self, event: Event) -> Event {
        Event {
            run: Some(self.run.clone()),
            principal: self.ledger.principal().map(str::to_owned),
            mode: Some(self.mode.name().to_owned()),
            script: lock(&self.script).clone(),
            ..event
        }
    }

    fn take_begin(&self) -> Option<Event> {
        let begin = lock(&self.begin).take();
        begin.map(|mut event| {
            redacted(&mut event);
            self.of_run(event)
        })
    }

    async fn write(&self, event: Event, sync: Sync) -> Result<Option<Receipt>, audit::Error> {
        let Some(log) = self.ledger.log() else { return Ok(None) };
        let log = log?;
        if let Some(begin) = self.take_begin() {
            log.write(begin, Sync::Grouped).await?;
        }
        log.write(event, sync).await
    }

    /// Says once that reads go on without a record.
    fn lost_a_read(&self, error: &audit::Error) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            (self.warn)(&format!("warning: {error}; reads go on without a record, and nothing is changed"));
        }
    }

    /// Writes what is owed from before; while that cannot be written, nothing else is promised.
    async fn settle(&self) -> Result<(), audit::Error> {
        loop {
            let Some(event) = lock(&self.owed).first().cloned() else { return Ok(()) };
            self.write(event, Sync::Now).await?;
            lock(&self.owed).remove(0);
        }
    }

    /// Whether the log is known to be of no use now.
    fn failure(&self) -> Option<audit::Error> {
        self.ledger.log()?.err()
    }

    /// Ends the record of the run: what is open gets an unknown outcome, and the log a last event, which is on disk when this returns.
    ///
    /// `outcome` is a word for how the run ended, `details` what else there is to say. Must not be called on a runtime's thread.
    pub fn end(&self, outcome: &str, fault: Option<&Fault>, details: Json) -> Closed {
        let mut closed = Closed::default();
        let Some(log) = self.ledger.log() else { return closed };
        let result = log.and_then(|log| self.end_in(log, outcome, fault, details));
        match result {
            Ok(receipt) => closed.receipt = receipt,
            Err(error) => closed.faults.push(Fault::from(error)),
        }
        match self.unrecorded.load(Ordering::Relaxed) {
            0 => {}
            count => closed.faults.push(unrecorded(count)),
        }
        closed
    }

    fn end_in(
        &self,
        log: &Log,
        outcome: &str,
        fault: Option<&Fault>,
        details: Json,
    ) -> Result<Option<Receipt>, audit::Error> {
        if let Some(begin) = self.take_begin() {
            log.write_blocking(begin, Sync::Grouped)?;
        }
        let mut events = std::mem::take(&mut *lock(&self.owed));
        for (intent, (about, event)) in std::mem::take(&mut *lock(&self.open)) {
            count(about, self.mode, Ending::Unknown, None);
            events.push(Event { intent: Some(intent), outcome: Some(Ending::Unknown.name().to_owned()), ..event });
        }
        for event in events {
            log.write_blocking(event, Sync::Grouped)?;
        }
        let mut end = Event {
            outcome: Some(outcome.to_owned()),
            fault: fault.map(noted),
            details: Some(details),
            ..Event::new(Kind::RunEnd)
        };
        redacted(&mut end);
        let receipt = log.write_blocking(self.of_run(end), Sync::Now)?;
        self.unrecorded.store(0, Ordering::Relaxed);
        Ok(receipt)
    }

    /// How many calls there were, allowed or not.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// What an operation's declaration says of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub operation: &'static str,
    pub effect: Effect,
    /// Whether it undoes: then it goes on without a record.
    pub undoes: bool,
}

/// One call that is under way, as the record sees it.
pub(super) struct Noting<'a> {
    record: &'a Record,
    call: u64,
    about: About,
    began: Instant,
    arguments: Option<Json>,
    objects: Vec<String>,
    entry: Option<String>,
    host: Option<String>,
    /// The number of the intent, once it is written.
    intent: Option<u64>,
    /// Whether the operation may have sent something.
    intended: bool,
    unchanged: bool,
    ended: bool,
}

impl Noting<'_> {
    /// Takes the arguments, without contents and secrets.
    pub fn arguments(&mut self, given: &Value, contents: &[&str]) {
        if self.is_written() {
            self.arguments = telling::arguments(given, contents);
        }
    }

    /// Names what the call is about, and the entries that allowed it.
    pub fn bound(&mut self, objects: &[String], entry: impl FnOnce() -> String, host: Option<String>) {
        if self.is_written() {
            self.objects = objects.iter().map(|name| telling::text(name)).collect();
            self.entry = Some(entry()).filter(|entry| !entry.is_empty()).map(|entry| redact::text(&entry).into_owned());
            self.host = host.map(|host| telling::text(&host));
        }
    }

    fn is_written(&self) -> bool {
        self.about.effect > Effect::Pure && self.record.is_kept()
    }

    /// Refuses a change ahead of everything else where it is known already that the log cannot be written.
    pub fn check(&self) -> Result<(), Fault> {
        match self.record.failure() {
            // What removes something may undo: that is known once it is bound.
            Some(error) if self.about.effect == Effect::Change && !self.about.undoes => Err(self.refusal(error)),
            _ => Ok(()),
        }
    }

    /// Writes the intent; it is on disk when this returns. `undo`: the call undoes what the run itself made, and goes on without.
    ///
    /// Faults: `audit.…`, where it cannot be written; then nothing may be sent.
    pub async fn intent(&mut self, undo: bool) -> Result<(), Fault> {
        let mut written = self.record.settle().await;
        let outcome = self.event(Kind::Outcome);
        if written.is_ok() && self.is_written() {
            let event = Event { kind: Kind::Intent, ..outcome.clone() };
            written = self.record.write(event, Sync::Now).await.map(|receipt| {
                self.intent = receipt.map(|receipt| receipt.seq);
            });
        }
        match written {
            Ok(()) => {}
            Err(error) if undo || self.about.undoes => {
                (self.record.warn)(&format!(
                    "warning: {error}; {} undoes, and goes on without a record",
                    self.about.operation
                ));
            }
            Err(error) => return Err(self.refusal(error)),
        }
        self.intended = true;
        if let Some(intent) = self.intent {
            lock(&self.record.open).insert(intent, (self.about, outcome));
        }
        Ok(())
    }

    fn refusal(&self, error: audit::Error) -> Fault {
        let message = format!("{}: nothing was changed: {error}", self.about.operation);
        let told = Fault::from(error);
        let fault = Fault::new(told.kind().to_owned(), message);
        match told.hint_text() {
            Some(hint) => fault.hint(hint).cause(told),
            None => fault.cause(told),
        }
    }

    /// All held already: nothing is sent.
    pub fn unchanged(&mut self) {
        self.unchanged = true;
    }

    /// Writes how the call ended. An outcome that cannot be written changes nothing of what was done: it is said, and owed.
    pub async fn end(mut self, result: &Result<Value, Fault>) -> Ending {
        self.ended = true;
        let ending = match result {
            Ok(_) if self.unchanged => Ending::Unchanged,
            Ok(_) => Ending::Done,
            Err(fault) => Ending::of(fault, self.intended),
        };
        count(self.about, self.record.mode, ending, Some(self.began));
        if !self.is_written() {
            return ending;
        }
        let kind = match ending {
            Ending::Denied => Kind::Denied,
            _ if self.about.effect < Effect::Change => Kind::Read,
            _ => Kind::Outcome,
        };
        let mut event = self.event(kind);
        event.duration = Some(self.began.elapsed());
        event.outcome = Some(ending.name().to_owned());
        match result {
            Ok(value) => event.result = telling::result(value),
            Err(fault) => {
                event.fault = Some(noted(fault));
                if let Some(entry) = fault.missing_entry() {
                    event.entry = Some(telling::text(entry));
                }
            }
        }
        event.intent = self.intent;
        if self.intent.is_some() {
            // The intent has them.
            event.arguments = None;
        }
        let sync = if self.intended { Sync::Now } else { Sync::Grouped };
        let written = self.record.write(event.clone(), sync).await;
        if let Some(intent) = self.intent {
            lock(&self.record.open).remove(&intent);
        }
        match written {
            Ok(_) => {}
            Err(error) if self.intended => {
                self.record.unrecorded.fetch_add(1, Ordering::Relaxed);
                (self.record.warn)(&format!(
                    "WARNING: {} {} is {} on the host, but that could not be recorded: {error}; nothing more is changed until it is",
                    self.about.operation,
                    self.objects.join(", "),
                    ending.name()
                ));
                lock(&self.record.owed).push(event);
            }
            Err(error) => self.record.lost_a_read(&error),
        }
        ending
    }

    fn event(&self, kind: Kind) -> Event {
        self.record.of_run(Event {
            call: Some(self.call),
            correlation: self.record.correlation(self.call),
            operation: Some(self.about.operation.to_owned()),
            effect: Some(self.about.effect.name().to_owned()),
            arguments: self.arguments.clone(),
            objects: self.objects.clone(),
            entry: self.entry.clone(),
            host: self.host.clone(),
            ..Event::new(kind)
        })
    }
}

impl Drop for Noting<'_> {
    /// Nobody waits for the call any more. An open intent is closed at the run's end, a read is noted.
    fn drop(&mut self) {
        if self.ended || self.intent.is_some() {
            return;
        }
        count(self.about, self.record.mode, Ending::Dropped, Some(self.began));
        if self.is_written() {
            let kind = if self.about.effect < Effect::Change { Kind::Read } else { Kind::Outcome };
            let mut event = self.event(kind);
            event.duration = Some(self.began.elapsed());
            event.outcome = Some(Ending::Dropped.name().to_owned());
            lock(&self.record.owed).push(event);
        }
    }
}

/// Counts a call that has ended: the one place where the metrics of operations hang.
fn count(about: About, mode: Mode, ending: Ending, began: Option<Instant>) {
    let of = metrics::Operation { name: about.operation, effect: about.effect.name(), mode: mode.name() };
    metrics::operation(of, ending.name(), began.map(|began| began.elapsed()));
}

fn noted(fault: &Fault) -> FaultNote {
    FaultNote { kind: telling::text(fault.kind()), message: telling::text(fault.message()) }
}

fn unrecorded(count: u64) -> Fault {
    let what = if count == 1 { "a change was" } else { "changes were" };
    Fault::new("audit.unrecorded", format!("{what} made whose outcome is not in the audit log ({count})")).hint(
        "the log has the intent, and the lines above say what was done; mind the space and the permissions of the log",
    )
}

/// Takes known secrets out of every text of an event.
pub(super) fn redacted(event: &mut Event) {
    let texts = [
        &mut event.correlation,
        &mut event.entry,
        &mut event.host,
        &mut event.message,
        &mut event.operation,
        &mut event.principal,
    ];
    texts.into_iter().flatten().for_each(redact::in_place);
    event.objects.iter_mut().for_each(redact::in_place);
    for value in [&mut event.arguments, &mut event.details, &mut event.result].into_iter().flatten() {
        redact::json(value);
    }
    if let Some(fault) = &mut event.fault {
        redact::in_place(&mut fault.kind);
        redact::in_place(&mut fault.message);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
