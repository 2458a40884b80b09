//! The catalog at the door: what a run sees and does is noted in it when the run ends, backups when they are made or gone.
//!
//! It follows what happened and decides nothing: that it cannot be written is said, and changes nothing of what was done.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use super::acting::Pass;
use super::journal::Outcome;
use super::object::{Connected, Object};
use super::record::Closed;
use super::repository::BoundRepository;
use crate::catalog::{Backup, Catalog, Drill, Fact, Id, Probe, Repository, Run, Seen};
use crate::config::SIMULATOR;
use crate::error::Fault;
use crate::redact;

/// What is said where the catalog cannot be told what is in a repository now.
const IN_REPOSITORY: &str =
    "the repository is as it should be, but the catalog was not told (ceso catalog rebuild mends it)";

/// The most machines that one run notes.
const MACHINES: usize = 100_000;

impl super::Door {
    /// Notes a host that the run was connected to.
    pub(super) fn saw_host(&self, host: &Connected) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.hosts.push((host.name.clone(), host.client.about().full_name, host.simulated));
    }

    /// Notes a repository that the run has opened.
    pub(super) fn saw_repository(&self, name: &str, repository: &crate::backup::Repository) {
        if let Some(row) = repository_row(name, repository, None) {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).repositories.push(row);
        }
    }

    /// Notes the machines that the run had handles of, before these are gone.
    pub(super) fn saw_machines(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.objects.each(|object| {
            if let Object::Vm(host, vm) = object
                && seen.machines.len() < MACHINES
            {
                seen.machines.push((vm.name.clone(), host.name.clone(), vm.instance_uuid.clone()));
            }
        });
    }

    /// Ends the run's record, and notes in the catalog what it was and what it has seen. `what` is the name of its script or command.
    ///
    /// Must not be called on a runtime's thread.
    pub fn end(&self, what: &str, outcome: &str, fault: Option<&Fault>, details: serde_json::Value) -> Closed {
        let mut closed = self.record().end(outcome, fault, details);
        let Some(catalog) = self.hosts.catalog() else { return closed };
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        seen.run = self.run(what, outcome, fault, &seen);
        redacted(&mut seen);
        // Nobody waits long for a note of what is over.
        if let Err(error) = catalog.with_patience(Duration::from_secs(2)).see(&seen)
            && !self.untold.swap(true, Ordering::Relaxed)
        {
            closed.faults.push(error.into());
        }
        closed
    }

    fn run(&self, what: &str, outcome: &str, fault: Option<&Fault>, seen: &Seen) -> Option<Run> {
        let (id, principal) = self.record().of();
        let timestamp = uuid::Uuid::parse_str(id).ok()?.get_timestamp()?;
        let (seconds, nanos) = timestamp.to_unix();
        let began = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?;
        let mut hosts: Vec<String> = seen.hosts.iter().map(|(name, ..)| name.clone()).collect();
        hosts.dedup();
        let changes = self.journal.changes();
        Some(Run {
            id: id.to_owned(),
            what: what.to_owned(),
            mode: self.policy.mode().name().to_owned(),
            principal: principal.unwrap_or("unknown").to_owned(),
            began: began + Duration::from_nanos(u64::from(nanos)),
            ended: OffsetDateTime::now_utc(),
            outcome: outcome.to_owned(),
            fault: fault.map(|fault| fault.kind().to_owned()),
            calls: self.record().calls(),
            changed: changes.iter().filter(|change| change.outcome == Outcome::Done).count() as u64,
            hosts,
            simulated: self.simulated(),
        })
    }
}

impl Pass<'_> {
    /// Whether what is told of no single machine may be seen: who may read all of the catalog may.
    pub fn may_read_all(&self, noun: &'static str) -> bool {
        self.may_read(noun, "*")
    }

    /// Asks the catalog, on a thread that may block.
    ///
    /// Faults: `catalog.…`; `catalog.none` where this run has no catalog.
    pub async fn catalog<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Catalog) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let Some(catalog) = self.door.hosts.catalog() else {
            return Err(Fault::new("catalog.none", "this run has no catalog")
                .hint("tests of playbooks have none: they see their own simulator alone"));
        };
        self.blocking(move |_| ask(&catalog)).await
    }

    /// Notes backups that are visible in their repository. Where that fails it is said, and the backups are there all the same.
    pub async fn note_backups(&self, backups: Vec<Backup>) {
        self.told(IN_REPOSITORY, move |catalog| catalog.add(&backups).map_err(Fault::from)).await;
    }

    /// Notes a repository.
    pub async fn note_repository(&self, repository: Repository) {
        let seen = Seen { repositories: vec![repository], ..Seen::default() };
        self.told(IN_REPOSITORY, move |catalog| catalog.see(&seen).map_err(Fault::from)).await;
    }

    /// Notes that backups of a repository are gone; said where it fails.
    pub async fn note_forgotten(&self, repository: uuid::Uuid, ids: Vec<Id>) {
        self.told(IN_REPOSITORY, move |catalog| catalog.remove(repository, &ids).map_err(Fault::from)).await;
    }

    /// Has the catalog told of what is done; what is in the way of that is said, once in a run.
    async fn told(&self, done: &str, note: impl FnOnce(&Catalog) -> Result<(), Fault> + Send + 'static) {
        let Some(catalog) = self.door.hosts.catalog() else { return };
        let noted = tokio::task::spawn_blocking(move || note(&catalog)).await;
        let fault = match noted {
            Ok(Ok(())) => return,
            Ok(Err(fault)) => fault.to_string(),
            Err(error) => error.to_string(),
        };
        if !self.door.untold.swap(true, Ordering::Relaxed) {
            self.door.record().say(&format!("warning: {done}: {fault}"));
        }
    }

    /// Notes a machine that was cloned from a template; `linked` where it needs the template's disks.
    pub fn note_child(&self, host: &Arc<Connected>, template: &str, machine: &str, linked: bool) {
        let mut seen = self.door.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.children.push((template.to_owned(), host.name.clone(), machine.to_owned(), linked));
    }

    /// Notes that a machine is gone: it is no template's child any more.
    pub fn note_gone(&self, host: &Arc<Connected>, machine: &str) {
        let mut seen = self.door.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.children.retain(|(_, on, name, _)| on != &host.name || name != machine);
        seen.gone.push((host.name.clone(), machine.to_owned()));
    }

    /// Notes, before a probe makes them, the machines that it is to remove again: where it is killed, the next run names them.
    pub async fn note_probing(&self, host: &Connected, machines: Vec<String>) {
        let host = noted(host);
        self.told("a probe begins, but the catalog was not told of its machines", move |catalog| {
            Ok(catalog.probing(host.told(), &machines)?)
        })
        .await;
    }

    /// Notes what a probe has found out about a host, and that these of its machines are gone; said where it fails.
    pub async fn note_probed(&self, host: &Connected, facts: Option<Vec<Fact>>, gone: Vec<String>) {
        let (api, address) = (host.client.api_version(), address(&host.name, &host.client.url()));
        let host = noted(host);
        let probe = facts.map(|mut facts| {
            facts.iter_mut().for_each(|fact| redact::in_place(&mut fact.seen));
            Probe { product: host.product.clone(), address, api, time: OffsetDateTime::now_utc(), facts }
        });
        self.told("the probe's result is told, but the catalog was not", move |catalog| {
            Ok(catalog.probed(host.told(), probe.as_ref(), &gone)?)
        })
        .await;
    }

    /// Notes a try whether a backup can be used; said where it fails.
    pub async fn note_drill(&self, mut drill: Drill) {
        redact::in_place(&mut drill.details);
        redact::in_place(&mut drill.machine);
        self.told("the drill was made, but the catalog was not told", move |catalog| {
            catalog.drill(&drill).map_err(Fault::from)
        })
        .await;
    }

    /// What the catalog notes of a repository whose every backup was read now.
    pub fn read_whole(&self, bound: &BoundRepository) -> Option<Repository> {
        repository_row(bound.name(), bound.open(), Some(OffsetDateTime::now_utc()))
    }
}

/// A host as its row names it.
struct Noted {
    name: String,
    product: String,
    simulated: bool,
}

impl Noted {
    fn told(&self) -> (&str, &str, bool) {
        (&self.name, &self.product, self.simulated)
    }
}

fn noted(host: &Connected) -> Noted {
    let product = redact::text(&host.client.about().full_name).into_owned();
    Noted { name: host.name.clone(), product, simulated: host.simulated }
}

/// What a probe's result is bound to beside the build: the host's address. The simulator in this process has another one each time.
pub fn address(name: &str, url: &str) -> String {
    if name == SIMULATOR { SIMULATOR.to_owned() } else { url.to_owned() }
}

/// Takes known secrets out of every text: a host chooses what it and its machines are called.
fn redacted(seen: &mut Seen) {
    let Seen { run, hosts, machines, repositories, gone, children } = seen;
    let hosts = hosts.iter_mut().flat_map(|(name, product, _)| [name, product]);
    let machines = machines.iter_mut().flat_map(|(name, host, uuid)| [name, host, uuid]);
    let children = children.iter_mut().flat_map(|(template, host, machine, _)| [template, host, machine]);
    let gone = gone.iter_mut().flat_map(|(host, machine)| [host, machine]);
    let repositories = repositories.iter_mut().flat_map(|known| [&mut known.name, &mut known.place]);
    hosts.chain(machines).chain(children).chain(gone).chain(repositories).for_each(redact::in_place);
    if let Some(run) = run {
        redact::in_place(&mut run.what);
        run.hosts.iter_mut().for_each(redact::in_place);
    }
}

/// What the catalog knows of a repository; `read` is when all of its backups were.
pub fn repository_row(
    name: &str,
    repository: &crate::backup::Repository,
    read: Option<OffsetDateTime>,
) -> Option<Repository> {
    let config = repository.config();
    let identity = uuid::Uuid::parse_str(&config.id).ok()?;
    Some(Repository {
        id: Repository::key(identity, repository.whereabouts()),
        identity,
        name: redact::text(name).into_owned(),
        place: redact::text(repository.whereabouts()).into_owned(),
        encrypted: config.encrypted,
        last_seen: OffsetDateTime::now_utc(),
        read,
    })
}
