//! Where runs are recorded: the audit log, opened beside the start of the first run, and who has them done.
//!
//! It knows no operation; what is written into it is [`super::record`]'s.

use std::sync::{Arc, OnceLock};

use crate::audit::{self, Log, Options};
use crate::error::Fault;

/// The audit log of this process, or none. Cheap to clone.
#[derive(Clone, Default)]
pub struct Ledger(Option<Arc<Book>>);

struct Book {
    principal: String,
    options: Options,
    log: OnceLock<Result<Log, audit::Error>>,
}

impl Ledger {
    /// Nothing is recorded: for checks, help, and tests of other things.
    pub fn none() -> Self {
        Self(None)
    }

    /// Records in that log, in the name of that principal. The log is opened on a thread of its own: a run does not wait for the disk
    /// before its script is there.
    pub fn open(options: Options, principal: impl Into<String>) -> Self {
        let book = Arc::new(Book { principal: principal.into(), options, log: OnceLock::new() });
        let theirs = book.clone();
        let spawned = std::thread::Builder::new().name("audit-open".to_owned()).spawn(move || drop(theirs.log()));
        // Without a thread it is opened when it is first needed.
        drop(spawned);
        Self(Some(book))
    }

    /// Who has the runs done; nothing where nothing is recorded.
    pub fn principal(&self) -> Option<&str> {
        self.0.as_ref().map(|book| book.principal.as_str())
    }

    /// The log; nothing where nothing is recorded.
    pub(super) fn log(&self) -> Option<Result<&Log, audit::Error>> {
        self.0.as_ref().map(|book| book.log())
    }

    /// The number and head of the newest record, as a receipt is shown: `118:3fa9…`.
    pub fn receipt(&self) -> Option<String> {
        let log = self.log()?.ok()?;
        log.receipt().map(|receipt| receipt.to_string())
    }

    /// Writes what happened outside of runs, such as a change of the list of hosts. It is on disk when this returns.
    ///
    /// Faults: those of [`audit::Error`]. Must not be called on a runtime's thread.
    pub fn note(&self, mut event: audit::Event) -> Result<(), Fault> {
        let Some(log) = self.log() else { return Ok(()) };
        event.principal = self.principal().map(str::to_owned);
        super::record::redacted(&mut event);
        log.and_then(|log| log.write_blocking(event, audit::Sync::Now)).map(drop).map_err(Fault::from)
    }
}

impl Book {
    fn log(&self) -> Result<&Log, audit::Error> {
        self.log.get_or_init(|| Log::open(self.options.clone())).as_ref().map_err(Clone::clone)
    }
}
