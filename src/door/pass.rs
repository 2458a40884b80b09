//! The steps of the door, in their one order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::OnceCell;
use tracing::Instrument;

use super::acting::{Pass, to_value};
use super::bench::Bench;
use super::bind::{Binder, Use};
use super::journal::{Journal, Outcome};
use super::literals::check_literals;
use super::many::KnownHost;
use super::noting::{About, Noting};
use super::object::{Connected, Object, Objects};
use super::operation::{Effect, Operation, Touch};
use super::policy::{Policy, Reservation};
use super::record::{Record, Recording};
use super::repository::{Opened, Stored};
use super::secret::Secret;
use super::{arguments, leaving, modes::Mode, table::Table};
use crate::catalog::{Catalog, Seen};
use crate::config::{NamedSecret, SecretPurpose};
use crate::error::Fault;
use crate::esxi;
use crate::wire::Value;

/// What a run may do.
pub struct Grant {
    pub mode: Mode,
    /// What the principal was granted; without it, all that the mode allows.
    pub table: Option<Table>,
}

/// Gives connections to hosts by name; without a name, the host that the run was started for.
pub trait Hosts: Send + Sync {
    fn connect<'a>(&'a self, name: Option<&'a str>) -> BoxFuture<'a, Result<Connected, Fault>>;

    /// The secret of that name. It may block.
    fn secret(&self, name: &str) -> Result<NamedSecret, Fault> {
        Err(Fault::new("config.no_secret", format!("there is no secret named {name:?}")))
    }

    /// The secret that a person names for a parameter: `env:NAME`, `file:PATH` or `secret:NAME`.
    fn secret_parameter(&self, name: &str, _reference: &str, _purpose: SecretPurpose) -> Result<NamedSecret, Fault> {
        self.secret(name)
    }

    /// Where the repository of that name is kept. It may block.
    fn repository(&self, name: &str) -> Result<Stored, Fault> {
        Err(Fault::new("usage.unknown_repository", format!("there is no repository named {name:?}")))
    }

    /// The configured hosts, with their tags.
    fn host_names(&self) -> Vec<KnownHost> {
        Vec::new()
    }

    /// Where a repository is kept whose place a person typed out once: only the catalog asks for it. It may block.
    fn typed_out_repository(&self, place: &str) -> Result<Stored, Fault> {
        self.repository(place)
    }

    /// Whether an address may be connected to that is no host's: the one that a URL leads to. Faults: `door.network`.
    fn check_address(&self, host: &str, _address: std::net::IpAddr) -> Result<(), Fault> {
        Err(Fault::new("door.network", format!("denied: {host}: nothing is fetched here"))
            .hint("tests and checks of scripts reach no network: run the script itself"))
    }

    /// The names of all repositories that [`Hosts::repository`] knows without being told of them.
    fn repository_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// The catalog of what runs see and do; none where nothing is noted.
    fn catalog(&self) -> Option<Catalog> {
        None
    }
}

/// How far a long operation is.
#[derive(Debug, Clone, Serialize)]
pub struct Progress {
    pub call: u64,
    pub operation: &'static str,
    pub object: String,
    /// 0 to 100; `None` once the operation has ended.
    pub percent: Option<u8>,
}

/// What was stopped: everything, or what had begun before a moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stopped {
    all: bool,
    /// How often reads were dropped; a call remembers the count at its beginning.
    drops: u64,
}

impl Stopped {
    pub(super) fn stops(self, began: u64) -> bool {
        self.all || self.drops != began
    }
}

type Watcher = Arc<dyn Fn(Progress) + Send + Sync>;

/// A host that is connected, or is being connected to for all who wait for it.
type Connecting = Arc<OnceCell<Arc<Connected>>>;

/// The door of one run: its tables, its objects, its account of changes.
pub struct Door {
    pub(super) policy: Policy,
    pub(super) objects: Objects,
    pub(super) journal: Journal,
    record: Record,
    pub(super) hosts: Arc<dyn Hosts>,
    pub(super) secrets: tokio::sync::Mutex<HashMap<String, Arc<Secret>>>,
    pub(super) repositories: tokio::sync::Mutex<HashMap<String, Arc<Opened>>>,
    connected: tokio::sync::Mutex<HashMap<Option<String>, Connecting>>,
    /// What the catalog is told at the run's end.
    pub(super) seen: Mutex<Seen>,
    /// Whether it was said that the catalog cannot be told: once is enough.
    pub(super) untold: AtomicBool,
    deadline: Mutex<Option<Instant>>,
    pub(super) stopped: tokio::sync::watch::Sender<Stopped>,
    pub(super) watcher: Watcher,
    passed: AtomicU64,
    simulated: AtomicBool,
    real: AtomicBool,
}

impl Door {
    /// A door whose passes are recorded nowhere but in its own account.
    pub fn new(grant: Grant, hosts: Arc<dyn Hosts>, watcher: Watcher) -> Self {
        Self::recorded(grant, hosts, watcher, Recording::none())
    }

    /// A door that records every pass.
    pub fn recorded(grant: Grant, hosts: Arc<dyn Hosts>, watcher: Watcher, recording: Recording) -> Self {
        Self {
            record: Record::new(recording, grant.mode),
            policy: Policy::new(grant.mode, grant.table),
            objects: Objects::default(),
            journal: Journal::default(),
            hosts,
            secrets: tokio::sync::Mutex::default(),
            repositories: tokio::sync::Mutex::default(),
            connected: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            untold: AtomicBool::new(false),
            deadline: Mutex::new(None),
            stopped: tokio::sync::watch::Sender::new(Stopped::default()),
            watcher,
            passed: AtomicU64::new(0),
            simulated: AtomicBool::new(false),
            real: AtomicBool::new(false),
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What is recorded of the run.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The time after which no call passes any more; the REPL sets it for each expression.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    /// Ends reads and waits that are under way; changes go on to their end.
    pub fn cancel(&self, cancelled: bool) {
        self.stopped.send_modify(|stopped| stopped.all = cancelled);
    }

    /// Ends the calls that have begun and are no change yet; those that begin later pass.
    pub fn drop_reads(&self) {
        self.stopped.send_modify(|stopped| stopped.drops += 1);
    }

    /// Has the next call without a host's name ask [`Hosts`] anew: another host was chosen. Must be called outside of the runtime.
    pub fn choose_again(&self) {
        self.connected.blocking_lock().remove(&None);
    }

    /// Gives a run the handle of a test: the one way to it.
    pub fn give_test(&self, bench: Arc<dyn Bench>, name: &str) -> Value {
        self.objects.give::<super::object::kind::Test>(Object::Test(bench), name, Vec::new()).into_value()
    }

    /// Fills in what the handles of a run's result tell.
    pub fn tell(&self, value: &mut Value) -> Result<(), Fault> {
        self.objects.tell(value)
    }

    /// How many calls have passed all checks.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Whether any host of this run is the simulator.
    pub fn simulated(&self) -> bool {
        self.simulated.load(Ordering::Relaxed)
    }

    /// Whether any host of this run is not the simulator.
    pub fn real(&self) -> bool {
        self.real.load(Ordering::Relaxed)
    }

    /// Ends the run's connections: each session is kept for the next command, or logged out.
    pub async fn disconnect(&self) -> Vec<Fault> {
        self.saw_machines();
        self.objects.clear();
        self.repositories.lock().await.clear();
        let mut faults = Vec::new();
        let cells: Vec<_> = self.connected.lock().await.drain().map(|(_, cell)| cell).collect();
        let mut connected: Vec<_> = cells.into_iter().filter_map(|cell| cell.get().cloned()).collect();
        connected.sort_by(|a, b| a.name.cmp(&b.name));
        connected.dedup_by(|a, b| Arc::ptr_eq(a, b));
        for host in connected.into_iter().filter_map(Arc::into_inner) {
            if let Err(error) = host.client.close().await {
                faults.push(Fault::from(error));
            }
        }
        faults
    }

    /// Lets one call of an operation through: checks, binds, records, acts.
    pub async fn pass<O: Operation>(&self, call: u64, given: Value) -> Result<Value, Fault> {
        use tracing::field::{Empty, debug};
        let span = tracing::info_span!("operation", name = O::NAME, call, id = Empty, outcome = Empty);
        if let Some(id) = self.record.correlation(call).filter(|_| !span.is_disabled()) {
            span.record("id", debug(format_args!("{id}")));
        }
        self.pass_in_span::<O>(call, given).instrument(span).await
    }

    async fn pass_in_span<O: Operation>(&self, call: u64, given: Value) -> Result<Value, Fault> {
        let about = About { operation: O::NAME, effect: O::EFFECT, undoes: O::UNDOES };
        let mut noting = self.record.call(call, about);
        let result = match self.record.correlation(call).filter(|_| O::EFFECT > Effect::Pure) {
            Some(id) => esxi::identified(id, self.pass_noted::<O>(call, given, &mut noting)).await,
            None => self.pass_noted::<O>(call, given, &mut noting).await,
        };
        let result = match result {
            Ok(mut value) => {
                leaving::value(&mut value);
                Ok(value)
            }
            Err(fault) => Err(leaving::fault(fault)),
        };
        let ending = noting.end(&result).await;
        tracing::Span::current().record("outcome", ending.name());
        tracing::info!(outcome = ending.name(), "an operation has ended");
        result
    }

    async fn pass_noted<O: Operation>(
        &self,
        call: u64,
        mut given: Value,
        noting: &mut Noting<'_>,
    ) -> Result<Value, Fault> {
        let began = self.stopped.borrow().drops;
        let (subject, has_made) = (Mutex::default(), AtomicBool::new(false));
        let pass = Pass { door: self, call, operation: O::NAME, began, subject, has_made };
        self.objects.vouch(&mut given)?;
        noting.arguments(&given, O::CONTENTS);
        let operation: O = arguments::read(O::NAME, &given)?;
        check_literals(&pass, O::TOUCHES, &given)?;
        self.check_time(O::NAME, began)?;
        noting.check()?;

        let binder = Binder::new(&pass, O::EFFECT, O::TOUCHES);
        let bound = self.until_stopped(began, operation.bind(&binder)).await?;
        let uses = binder.uses();
        self.passed.fetch_add(1, Ordering::Relaxed);
        let subjects = subjects(&uses);
        pass.set_subject(subjects.join(", "));
        noting.bound(&subjects, || self.allowing(&uses, O::TOUCHES), binder.host_name());
        if O::EFFECT < Effect::Change {
            let output = self.until_stopped(began, operation.act(bound, &pass)).await;
            (self.watcher)(pass.progress_event(None));
            return to_value(O::NAME, &output?);
        }
        if let Some(output) = self.until_stopped(began, operation.settled(&bound, &pass)).await? {
            self.journal.unchanged(O::NAME, O::EFFECT, subjects);
            noting.unchanged();
            return to_value(O::NAME, &output);
        }
        let reservation = self.reserve(&uses)?;
        self.check_time(O::NAME, began)?;
        if let Err(fault) = noting.intent(is_undo(O::EFFECT, &uses)).await {
            self.policy.release(reservation);
            return Err(fault);
        }
        let ticket = self.journal.intent(O::NAME, O::EFFECT, subjects);
        let result = operation.act(bound, &pass).await;
        (self.watcher)(pass.progress_event(None));
        match result {
            Ok(output) => {
                self.journal.outcome(ticket, Outcome::Done);
                to_value(O::NAME, &output)
            }
            Err(fault) if leaves_unknown(&fault) => {
                self.journal.outcome(ticket, Outcome::Unknown);
                Err(fault)
            }
            Err(fault) => {
                self.journal.outcome(ticket, Outcome::Failed);
                if !pass.has_made.load(Ordering::Relaxed) {
                    self.policy.release(reservation);
                }
                Err(fault)
            }
        }
    }

    /// The entries that allowed a call, for its record.
    fn allowing(&self, uses: &[Use], touches: &[Touch]) -> String {
        if uses.is_empty() {
            let told = touches.iter().map(|touch| self.policy.allowing(touch.noun, touch.verb, None, false));
            return told.collect::<Vec<_>>().join("; ");
        }
        let told = uses.iter().map(|used| self.policy.allowing(used.noun, used.verb, Some(&used.name), used.made));
        told.collect::<Vec<_>>().join("; ")
    }

    pub(super) async fn connect(&self, name: Option<&str>) -> Result<Arc<Connected>, Fault> {
        // The lock is not held while a host is connected to: one that does not answer holds up no other.
        let cell = self.connected.lock().await.entry(name.map(str::to_owned)).or_default().clone();
        let host = cell.get_or_try_init(|| async {
            let fresh = self.hosts.connect(name).await?;
            let seen = if fresh.simulated { &self.simulated } else { &self.real };
            seen.store(true, Ordering::Relaxed);
            let connected = self.connected.lock().await;
            if let Some(same) = connected.values().filter_map(|cell| cell.get()).find(|host| host.name == fresh.name) {
                return Ok(same.clone());
            }
            let host = Arc::new(fresh);
            self.saw_host(&host);
            Ok(host)
        });
        host.await.cloned()
    }

    fn reserve(&self, uses: &[Use]) -> Result<Reservation, Fault> {
        let mut reservation = Reservation::default();
        for entry in uses {
            if let Err(fault) = self.policy.reserve(&mut reservation, entry.noun, entry.verb, &entry.name, entry.made) {
                self.policy.release(reservation);
                return Err(fault);
            }
        }
        Ok(reservation)
    }

    fn check_time(&self, operation: &str, began: u64) -> Result<(), Fault> {
        if self.stopped.borrow().stops(began) {
            return Err(Fault::new("script.cancelled", format!("{operation}: the run was stopped")));
        }
        match self.time_left() {
            Some(left) if left.is_zero() => Err(out_of_time(operation)),
            _ => Ok(()),
        }
    }

    pub(super) fn time_left(&self) -> Option<Duration> {
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Runs what may be dropped at any point: reads, waits, lookups.
    pub(super) async fn until_stopped<T>(
        &self,
        began: u64,
        future: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            biased;
            result = future => result,
            _ = stopped.wait_for(|stopped| stopped.stops(began)) => {
                Err(Fault::new("script.cancelled", "the run was stopped while it waited"))
            }
        }
    }
}

/// The names that a change is about: the machines it touches for more than reading.
fn subjects(uses: &[Use]) -> Vec<String> {
    let main = uses.iter().filter(|entry| entry.noun == "vm" && !matches!(entry.verb, "read" | "copy_from"));
    let mut names: Vec<String> = main.map(|entry| entry.name.clone()).collect();
    names.dedup();
    if !names.is_empty() {
        return names;
    }
    // What two verbs are needed for is one object.
    let mut objects: Vec<(&str, &str)> = uses.iter().map(|entry| (entry.noun, entry.name.as_str())).collect();
    objects.dedup();
    objects.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Whether a call only removes what the run itself made.
fn is_undo(effect: Effect, uses: &[Use]) -> bool {
    effect == Effect::Destroy && !uses.is_empty() && uses.iter().all(|used| used.made || used.verb == "read")
}

/// Whether a fault says that nobody knows what the host did.
pub(super) fn leaves_unknown(fault: &Fault) -> bool {
    fault.is("esxi.waits_for_answer")
        || fault.is("esxi.connection_lost")
        || fault.is("esxi.task_forgotten")
        || fault.is("esxi.timeout")
        || fault.is("esxi.unreachable")
}

pub(super) fn out_of_time(operation: &str) -> Fault {
    Fault::new("limit.run_time", format!("{operation}: the time of the run is over"))
        .hint("raise it with --timeout, or sandbox.run_time in the configuration")
}
