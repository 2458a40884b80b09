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

use serde_json::Value as Json;

use super::ledger::Ledger;
use super::modes::Mode;
use super::noting::{About, Ending, Noting, count, noted};
use super::telling;
use crate::audit::{self, Event, Kind, Log, Receipt, Sync};
use crate::error::Fault;
use crate::redact;
use crate::wire::Value;

/// Changes by the numbers of their intents: what each is about, and the outcome that it has where nobody says another.
pub(super) type Open = Arc<Mutex<BTreeMap<u64, (About, Event)>>>;

/// Says something to the person, on a line of standard error.
pub type Warn = Arc<dyn Fn(&str) + Send + std::marker::Sync>;

/// What is recorded of one run.
pub struct Record {
    ledger: Ledger,
    run: String,
    pub(super) mode: Mode,
    pub(super) warn: Warn,
    script: Mutex<Option<String>>,
    /// The event that begins the run, until it is written: ahead of everything else.
    begin: Mutex<Option<Event>>,
    /// Changes whose intent is written and whose outcome is not, by the number of the intent.
    pub(super) open: Open,
    /// What could not be written when it happened.
    pub(super) owed: Arc<Mutex<Vec<Event>>>,
    pub(super) unrecorded: AtomicU64,
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
            open: Arc::default(),
            owed: Arc::default(),
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
        Noting::new(self, call, about)
    }

    pub(super) fn is_kept(&self) -> bool {
        self.ledger.principal().is_some()
    }

    /// Fills in what all events of the run have. What a call brings was redacted when it was told.
    pub(super) fn of_run(&self, event: Event) -> Event {
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

    /// Writes what nobody waits for.
    pub(super) async fn write(&self, event: Event) -> Result<(), audit::Error> {
        let Some(log) = self.begun().await? else { return Ok(()) };
        log.write(event, Sync::Grouped).await.map(drop)
    }

    /// Writes an event; it is on disk when this returns. `then` hears of it although the call that waits is dropped meanwhile.
    pub(super) async fn write_then(
        &self,
        event: Event,
        then: impl FnOnce(&Result<Receipt, audit::Error>) + Send + 'static,
    ) -> Result<Option<Receipt>, audit::Error> {
        let Some(log) = self.begun().await? else { return Ok(None) };
        log.write_then(event, then).await
    }

    /// The log, with the run's begin in it; none where nothing is recorded.
    async fn begun(&self) -> Result<Option<&Log>, audit::Error> {
        let Some(log) = self.ledger.log() else { return Ok(None) };
        let log = log?;
        if let Some(begin) = self.take_begin() {
            log.write(begin, Sync::Grouped).await?;
        }
        Ok(Some(log))
    }

    /// Says once that reads go on without a record.
    pub(super) fn lost_a_read(&self, error: &audit::Error) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            (self.warn)(&format!("warning: {error}; reads go on without a record, and nothing is changed"));
        }
    }

    /// Writes what is owed from before; while that cannot be written, nothing else is promised.
    pub(super) async fn settle(&self) -> Result<(), audit::Error> {
        while let Some(debt) = Debt::first(&self.owed) {
            self.write_then(debt.event.clone(), |written| {
                let mut debt = debt;
                debt.paid = written.is_ok();
            })
            .await?;
        }
        Ok(())
    }

    /// Whether the log is known to be of no use now.
    pub(super) fn failure(&self) -> Option<audit::Error> {
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
        // Calls that were dropped may have left something on its way.
        log.drain_blocking();
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

    /// The run's name, and who has it done where that is recorded.
    pub(super) fn of(&self) -> (&str, Option<&str>) {
        (&self.run, self.ledger.principal())
    }

    /// Says something to the person.
    pub(super) fn say(&self, text: &str) {
        (self.warn)(text);
    }

    /// How many calls there were, allowed or not.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

/// An owed event while it is being written: owed again, unless it was.
struct Debt {
    owed: Arc<Mutex<Vec<Event>>>,
    event: Event,
    paid: bool,
}

impl Debt {
    fn first(owed: &Arc<Mutex<Vec<Event>>>) -> Option<Self> {
        let mut events = lock(owed);
        let event = (!events.is_empty()).then(|| events.remove(0))?;
        Some(Self { owed: Arc::clone(owed), event, paid: false })
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if !self.paid {
            lock(&self.owed).insert(0, self.event.clone());
        }
    }
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

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
