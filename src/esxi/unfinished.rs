//! What a client has begun on its host and not brought to an end, so that nothing is forgotten where its caller goes away in the middle.
//!
//! A thing is noted before it is begun, and struck out once whoever began it has heard its end, whatever it is. What is noted still when the
//! client itself ends has nobody any more: its run was stopped, or its time is over. A lease is aborted then, and with it goes the machine of
//! an import, for nobody but this client can have it; of files that the host may be at work on, only the names are told. All of that
//! takes [`CLEAN_UP`] at most.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use crate::units::Span;

use super::error::Error;
use super::host::Host;
use super::link::patient;
use super::moref::MoRef;
use super::property::Query;
use super::soap::{Call, Method};

/// How long it may take to end what nobody holds any more.
const CLEAN_UP: Duration = Duration::from_secs(8);
/// The pause between two looks at a lease that does not end at once.
const PAUSE: Duration = Duration::from_millis(250);
/// How often a lease is looked at that does not end.
const LOOKS: usize = 20;

/// Something under way.
#[derive(Debug, Clone)]
pub(super) enum Begun {
    Lease(HeldLease),
    /// Something half made, as whoever looks for it finds it.
    Made(String),
}

/// A lease that may hold a machine.
#[derive(Debug, Clone)]
pub(super) struct HeldLease {
    /// Not known before the host has answered.
    pub moref: Option<MoRef>,
    /// The machine: `the machine "web-1"`.
    pub machine: String,
    /// The machine that an import has made.
    pub made: Option<MoRef>,
    pub imports: bool,
    /// How long it lasts without anybody.
    pub timeout: Duration,
}

impl HeldLease {
    /// What nobody can end any more.
    fn told(&self) -> String {
        match (self.imports, &self.moref) {
            (true, None) => format!("perhaps {}, which the host removes when its lease runs out", self.machine),
            (true, Some(_)) => format!("{}, which the host removes when its lease runs out", self.machine),
            (false, _) => still_held(&self.machine, self.timeout),
        }
    }
}

/// Which machine is busy, and until when.
pub(super) fn still_held(machine: &str, within: Duration) -> String {
    format!("{machine} may be busy until its lease ends by itself, within {} at the latest", Span(within))
}

/// All that is under way.
#[derive(Debug, Default)]
pub(super) struct Unfinished(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    last: u64,
    entries: Vec<(u64, Begun)>,
}

/// A note of something under way, which stays when this is dropped.
#[derive(Debug)]
pub(super) struct Noted<'a> {
    book: &'a Unfinished,
    number: u64,
}

impl Unfinished {
    pub(super) fn note(&self, begun: Begun) -> Noted<'_> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.last += 1;
        let number = book.last;
        book.entries.push((number, begun));
        Noted { book: self, number }
    }

    fn take(&self) -> Vec<Begun> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut book.entries).into_iter().map(|(_, begun)| begun).collect()
    }
}

impl Noted<'_> {
    /// Notes what has become known of a lease.
    pub(super) fn learn(&self, learned: impl FnOnce(&mut HeldLease)) {
        let mut book = self.book.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, Begun::Lease(lease))) = book.entries.iter_mut().find(|(number, _)| *number == self.number) {
            learned(lease);
        }
    }

    /// Strikes it out: it has ended, or is told.
    pub(super) fn ended(&self) {
        let mut book = self.book.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.entries.retain(|(number, _)| *number != self.number);
    }
}

impl Host {
    /// Ends what nobody holds any more. Errors: `esxi.left_behind` with what could not be ended.
    pub(super) async fn end_unfinished(&self) -> Result<(), Error> {
        let ends = self.unfinished.take().into_iter().map(async |begun| match begun {
            Begun::Made(what) => Some(what),
            Begun::Lease(lease) => match tokio::time::timeout(CLEAN_UP, patient(self.end_lease(&lease))).await {
                Ok(left) => left,
                Err(_) => Some(lease.told()),
            },
        });
        let left: Vec<String> = join_all(ends).await.into_iter().flatten().collect();
        match left.is_empty() {
            true => Ok(()),
            false => Err(Error::Unfinished { host: self.name().to_owned(), left }),
        }
    }

    /// Ends one lease; what is left of it.
    async fn end_lease(&self, lease: &HeldLease) -> Option<String> {
        let Some(moref) = &lease.moref else { return Some(lease.told()) };
        if let Err(failure) = self.abort_lease(moref).await {
            tracing::warn!(host = self.name(), "a lease that nobody holds was not aborted: {failure}");
            return Some(lease.told());
        }
        match &lease.made {
            Some(made) => self.remove_import(made).await,
            None => None,
        }
    }

    /// Aborts a lease, whatever state it is in; after a lost answer the lease itself says what became of it.
    pub(super) async fn abort_lease(&self, lease: &MoRef) -> Result<(), Error> {
        let mut looks = LOOKS;
        loop {
            let Err(error) = self.link.call(&Call::new(lease, Method::LeaseAbort)).await else { return Ok(()) };
            let ended = ["ManagedObjectNotFound", "Timedout"].iter().any(|fault| error.is(fault));
            let unclear = error.outcome_unknown() || error.is("InvalidState");
            looks -= 1;
            if ended || !unclear || looks == 0 {
                return if ended { Ok(()) } else { Err(error) };
            }
            let state = self.link.retrieve(&Query::object(lease, "HttpNfcLease", &["state"])).await?;
            let state = state.iter().find_map(|object| object.text("state"));
            // One that is being prepared is aborted once it is ready.
            if !matches!(state.map(str::trim), Some("initializing" | "ready")) {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// An error that can tell besides which machine a lease still holds.
pub trait StillHeld: From<Error> {
    fn still_held(self, host: &str, machine: &str, within: Duration) -> Self;
}

impl StillHeld for Error {
    fn still_held(self, host: &str, machine: &str, within: Duration) -> Self {
        Error::StillHeld { host: host.to_owned(), held: still_held(machine, within), source: Box::new(self) }
    }
}

impl StillHeld for crate::error::Fault {
    fn still_held(self, host: &str, machine: &str, within: Duration) -> Self {
        let told = format!("on host {host} {}", still_held(machine, within));
        let hint = self.hint_text().map_or_else(|| told.clone(), |hint| format!("{hint}; {told}"));
        self.hint(hint)
    }
}
