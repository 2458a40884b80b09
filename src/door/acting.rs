//! What an operation has at hand while it acts: handles to give, what the run made to note, and how far it is to tell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::bind::{made_key, vouch};
use super::datastores::file_key;
use super::object::{Connected, Fields, Given, Object};
use super::pass::{Door, Progress};
use super::repository::BoundRepository;
use super::snapshots::snapshot_key;
use crate::error::Fault;
use crate::esxi;
use crate::esxi::checked::Checked;
use crate::wire::Value;

/// What an operation has at hand while it acts.
pub struct Pass<'a> {
    pub(super) door: &'a Door,
    pub(super) call: u64,
    pub(super) operation: &'static str,
    /// How often reads had been dropped when the call came.
    pub(super) began: u64,
    pub(super) subject: Mutex<String>,
    /// Whether it made something: then what it used is used, however the call ends.
    pub(super) has_made: AtomicBool,
}

impl Pass<'_> {
    /// Gives a handle to an object, with the fields that a script may read.
    pub fn give<F: Fields>(&self, object: Object, name: &str, fields: &F) -> Result<Given<F::Kind>, Fault> {
        let fields = match to_value(self.operation, fields)? {
            Value::Map(fields) => fields,
            _ => Vec::new(),
        };
        if let Object::Document(document) = &object {
            self.door.objects.take_room(document)?;
        }
        Ok(self.door.objects.give(object, name, fields))
    }

    /// Gives a handle to a repository.
    pub fn give_repository<F: Fields>(&self, bound: &BoundRepository, fields: &F) -> Result<Given<F::Kind>, Fault> {
        self.give(bound.object(), bound.name(), fields)
    }

    /// Says something to the person who waits for the run.
    pub fn say(&self, text: &str) {
        self.door.record().say(text);
    }

    pub(super) fn operation(&self) -> &'static str {
        self.operation
    }

    /// Whether the run was stopped since the call came: a long change cleans up and ends then.
    pub fn is_stopped(&self) -> bool {
        self.door.stopped.borrow().stops(self.began)
    }

    /// The same, for an engine to ask.
    pub fn stop(&self) -> esxi::Stop {
        let (stopped, began) = (self.door.stopped.subscribe(), self.began);
        esxi::Stop(Arc::new(move || stopped.borrow().stops(began)))
    }

    /// Does a part of a change that may be dropped at any point, for what it has begun is taken away again then: streams.
    ///
    /// Faults: `script.cancelled` once the run is stopped.
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let done = self.door.until_stopped(self.began, work).await;
        done.map_err(|fault| match fault.is("script.cancelled") {
            true => {
                Fault::new("script.cancelled", format!("{}: the run was stopped in the middle of it", self.operation))
            }
            false => fault,
        })
    }

    /// Whether lists may show the object of that name.
    pub fn may_read(&self, noun: &'static str, name: &str) -> bool {
        self.may(noun, "read", name)
    }

    /// Whether the verb is allowed for what has this name and was not made by the run.
    pub fn may(&self, noun: &'static str, verb: &'static str, name: &str) -> bool {
        self.door.policy.allows(noun, verb, name, false)
    }

    /// The same, for work on another thread: as the tables are now.
    pub fn reader(&self, noun: &'static str) -> Arc<dyn Fn(&str) -> bool + Send + Sync> {
        let policy = self.door.policy.frozen();
        Arc::new(move |name| policy.allows(noun, "read", name, false))
    }

    /// Checks that what the host calls `now` is the machine that was bound as `known`, under a name that the verb is allowed for.
    ///
    /// Faults: `esxi.replaced`, `door.denied` where it was renamed; neither tells a name that the run may not read.
    pub fn same(&self, host: &Connected, known: &esxi::Vm, now: &esxi::Vm, verb: &'static str) -> Result<(), Fault> {
        if now.instance_uuid != known.instance_uuid {
            return Err(Fault::new(
                "esxi.replaced",
                format!(
                    "{:?} on {} is not the machine that it was: another was put in its place",
                    known.name, host.name
                ),
            )
            .hint("look it up again by name"));
        }
        let made = self.door.journal.has_made(&made_key(&host.name, now));
        if now.name == known.name || self.door.policy.allows("vm", verb, &now.name, made) {
            return Ok(());
        }
        Err(Fault::new(
            "door.denied",
            format!(
                "denied: vm.{verb} on {:?}: the machine was renamed meanwhile, to a name that is not allowed",
                known.name
            ),
        )
        .hint("look it up again by name"))
    }

    /// Notes a machine as made by this run, which may then destroy it. It was made under a name that was checked, so it is checked too.
    pub fn made(&self, host: &Connected, vm: esxi::Vm) -> Checked<esxi::Vm> {
        self.has_made.store(true, Ordering::Relaxed);
        self.door.journal.made(made_key(&host.name, &vm));
        self.door.journal.stands(&host.name, &vm.name);
        vouch(vm)
    }

    /// Notes a snapshot as taken by this run, of a machine that it may take them of.
    pub fn taken(&self, host: &Connected, vm: &esxi::Vm, snapshot: esxi::Snapshot) -> Checked<esxi::Snapshot> {
        self.took(host, vm, &snapshot);
        vouch(snapshot)
    }

    /// A machine that was taken in under a name that was checked. It is not of the run's making.
    pub fn registered(&self, vm: esxi::Vm) -> Checked<esxi::Vm> {
        vouch(vm)
    }

    /// Notes that a machine has another name now, which was checked. What the run made stays the run's, and is named by it.
    pub fn renamed(&self, host: &Connected, vm: &esxi::Vm, name: &str) -> Checked<esxi::Vm> {
        if self.door.journal.has_made(&made_key(&host.name, vm)) {
            self.door.journal.fell(&host.name, &vm.name);
            self.door.journal.stands(&host.name, name);
        }
        let place = vm.place.clone().map(|place| esxi::VmPlace { own_name: name.to_owned(), ..place });
        vouch(esxi::Vm { name: name.to_owned(), place, ..vm.clone() })
    }

    /// Notes a file or folder as made by this run, which may then delete it.
    pub fn made_file(&self, host: &Connected, datastore: &esxi::Datastore, path: &esxi::FilePath) {
        self.has_made.store(true, Ordering::Relaxed);
        self.door.journal.made(file_key(&host.name, &datastore.name, path));
    }

    /// Notes that a file or folder is gone: what comes there now is another's.
    pub fn unmade_file(&self, host: &Connected, datastore: &esxi::Datastore, path: &esxi::FilePath) {
        self.door.journal.unmade(&file_key(&host.name, &datastore.name, path));
    }

    /// Notes that a file has another place now. It stays the run's own where it was.
    pub fn moved_file(
        &self,
        host: &Connected,
        from: (&esxi::Datastore, &esxi::FilePath),
        to: (&esxi::Datastore, &esxi::FilePath),
    ) {
        if self.has_made_file(&host.name, &from.0.name, from.1) {
            self.made_file(host, to.0, to.1);
        }
        self.unmade_file(host, from.0, from.1);
    }

    /// Whether this run made a file, or a folder that it lies in.
    pub(super) fn has_made_file(&self, host: &str, datastore: &str, path: &esxi::FilePath) -> bool {
        let above = std::iter::successors(Some(path.clone()), |path| Some(path.parent()));
        above
            .take_while(|path| !path.is_root())
            .any(|path| self.door.journal.has_made(&file_key(host, datastore, &path)))
    }

    /// Notes a snapshot as taken by this run, which may then go back to it and remove it.
    pub fn took(&self, host: &Connected, vm: &esxi::Vm, snapshot: &esxi::Snapshot) {
        self.has_made.store(true, Ordering::Relaxed);
        self.door.journal.made(snapshot_key(&host.name, vm, snapshot));
    }

    /// Notes that a machine is gone.
    pub fn unmade(&self, host: &Connected, vm: &esxi::Vm) {
        self.door.journal.fell(&host.name, &vm.name);
    }

    /// Tells how far the operation is.
    pub fn step(&self, step: esxi::Step<'_>) {
        (self.door.watcher)(self.progress_event(Some(step.percent.unwrap_or(0))));
    }

    /// How long to wait: the asked time, or to just past the end of the run, whose own limit is then what ends the wait.
    pub fn time(&self, asked: Duration) -> Duration {
        self.door.time_left().map_or(asked, |left| asked.min(left + Duration::from_secs(1)))
    }

    pub(super) fn progress_event(&self, percent: Option<u8>) -> Progress {
        let object = self.subject.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Progress { call: self.call, operation: self.operation, object, percent }
    }

    pub(super) fn set_subject(&self, subject: String) {
        *self.subject.lock().unwrap_or_else(PoisonError::into_inner) = subject;
    }
}

/// An operation's result as a value: through the same MessagePack that the worker reads, so that handles stay handles.
pub(super) fn to_value(operation: &str, output: &impl Serialize) -> Result<Value, Fault> {
    let broken = |error: String| {
        Fault::new("ceso.result", format!("{operation}: its result cannot be told: {error}"))
            .hint("this is a defect of ceso: please report it")
    };
    let mut bytes = Vec::new();
    output
        .serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map())
        .map_err(|error| broken(error.to_string()))?;
    rmp_serde::from_slice(&bytes).map_err(|error| broken(error.to_string()))
}
