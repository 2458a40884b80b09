//! One call as the record of its run sees it: from its coming, over its intent, to the one event that says how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value as Json;

use super::modes::Mode;
use super::operation::Effect;
use super::record::{Open, Record, lock};
use super::telling;
use crate::audit::{self, Event, FaultNote, Kind, Receipt};
use crate::error::Fault;
use crate::metrics;
use crate::redact;
use crate::wire::Value;

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
    /// From when the intent is being written: whether nothing came of it.
    lost: Option<Arc<AtomicBool>>,
    /// Whether the operation may have sent something.
    intended: bool,
    unchanged: bool,
    ended: bool,
}

impl<'a> Noting<'a> {
    /// A call that begins now.
    pub fn new(record: &'a Record, call: u64, about: About) -> Self {
        Self {
            record,
            call,
            about,
            began: Instant::now(),
            arguments: None,
            objects: Vec::new(),
            entry: None,
            host: None,
            intent: None,
            lost: None,
            intended: false,
            unchanged: false,
            ended: false,
        }
    }

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
            let lost = Arc::<AtomicBool>::default();
            self.lost = Some(Arc::clone(&lost));
            let pledge = Pledge { open: Arc::clone(&self.record.open), about: self.about, outcome, kept: false, lost };
            let then = move |written: &Result<Receipt, audit::Error>| {
                if let Ok(receipt) = written {
                    pledge.keep(receipt.seq);
                }
            };
            written = self.record.write_then(event, then).await.map(|receipt| {
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
        let written = if self.intended {
            let (open, intent) = (Arc::clone(&self.record.open), self.intent);
            let close = move || intent.map(|intent| lock(&open).remove(&intent));
            let closed = close.clone();
            let written = self.record.write_then(event.clone(), move |written| {
                if written.is_ok() {
                    drop(closed());
                }
            });
            let written = written.await.map(drop);
            // What could not be written is owed from here on.
            drop(close());
            written
        } else {
            self.record.write(event.clone()).await
        };
        match written {
            Ok(()) => {}
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

/// What becomes of an intent, also where nobody waits for it any more: from the moment that it is written the change is open.
struct Pledge {
    open: Open,
    about: About,
    outcome: Event,
    kept: bool,
    lost: Arc<AtomicBool>,
}

impl Pledge {
    fn keep(mut self, intent: u64) {
        lock(&self.open).insert(intent, (self.about, self.outcome.clone()));
        self.kept = true;
    }
}

impl Drop for Pledge {
    fn drop(&mut self) {
        self.lost.store(!self.kept, Ordering::Relaxed);
    }
}

impl Drop for Noting<'_> {
    /// Nobody waits for the call any more. An open intent, or one that is on its way, is closed at the run's end; a read is noted.
    fn drop(&mut self) {
        let is_open = self.lost.as_ref().is_some_and(|lost| !lost.load(Ordering::Relaxed));
        if self.ended || is_open {
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
pub(super) fn count(about: About, mode: Mode, ending: Ending, began: Option<Instant>) {
    let of = metrics::Operation { name: about.operation, effect: about.effect.name(), mode: mode.name() };
    metrics::operation(of, ending.name(), began.map(|began| began.elapsed()));
}

pub(super) fn noted(fault: &Fault) -> FaultNote {
    FaultNote { kind: telling::text(fault.kind()), message: telling::text(fault.message()) }
}
