//! Writing: backups as they are made and forgotten, a whole repository anew, and what runs have seen.

use std::collections::BTreeSet;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use time::OffsetDateTime;

use super::error::Result;
use super::file::Catalog;
use super::row::{Backup, Child, Drill, Host, Id, Machine, Probe, Repository, Run, Sum, decode, encode};
use super::tables::{
    self, BACKUPS, CHILDREN, DRILLS, HOSTS, Lists, MACHINES, REPOSITORIES, RUNS, Trouble, WORDS, falling,
};

/// How many runs are remembered; the audit log has them all.
const RUNS_KEPT: u64 = 10_000;

/// What a run has seen and done, noted at its end.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub run: Option<Run>,
    pub hosts: Vec<(String, String, bool)>,
    /// Name, host and instance UUID.
    pub machines: Vec<(String, String, String)>,
    pub repositories: Vec<Repository>,
    /// Host and name of machines that were destroyed, before any of the clones that the run then left.
    pub gone: Vec<(String, String)>,
    /// Template, host, machine, and whether it needs the template's disks.
    pub children: Vec<(String, String, String, bool)>,
}

impl Seen {
    pub fn is_empty(&self) -> bool {
        let Self { run, hosts, machines, repositories, gone, children } = self;
        let nothing = hosts.is_empty() && machines.is_empty() && repositories.is_empty();
        nothing && run.is_none() && gone.is_empty() && children.is_empty()
    }
}

impl Catalog {
    /// Notes backups that are visible in their repositories. One that is known already is left as it is.
    pub fn add(&self, backups: &[Backup]) -> Result<()> {
        self.write(|change| {
            let mut writing = Writing::open(change)?;
            backups.iter().try_for_each(|backup| writing.add(backup))
        })
    }

    /// Notes that backups of a repository are gone.
    pub fn remove(&self, repository: uuid::Uuid, ids: &[Id]) -> Result<()> {
        self.write(|change| Writing::open(change)?.remove(repository, ids))
    }

    /// Replaces all that is known of the backups of a repository by what was read out of it.
    pub fn replace(&self, repository: &Repository, backups: &[Backup]) -> Result<()> {
        self.write(|change| {
            note_repository(change, repository)?;
            let known = known_of(change, repository.id)?;
            let mut writing = Writing::open(change)?;
            writing.remove(repository.id, &known)?;
            backups.iter().try_for_each(|backup| writing.add(backup))
        })
    }

    /// Forgets a repository with all of its backups. They are untouched where they lie.
    pub fn forget_repository(&self, id: uuid::Uuid) -> Result<bool> {
        self.write(|change| forget(change, id))
    }

    /// Notes what a run has seen and done.
    pub fn see(&self, seen: &Seen) -> Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        let now = OffsetDateTime::now_utc();
        self.write(|change| {
            let mut hosts = change.open_table(HOSTS)?;
            for (name, product, simulated) in &seen.hosts {
                let host = noted_host(&hosts, name, product, *simulated, now)?;
                hosts.insert(name.as_str(), encoded(&host)?.as_slice())?;
            }
            for (name, machine) in &seen.gone {
                let known: Option<Host> = stored(hosts.get(name.as_str())?)?;
                if let Some(mut host) = known.filter(|host| host.probing.contains(machine)) {
                    host.probing.retain(|probing| probing != machine);
                    hosts.insert(name.as_str(), encoded(&host)?.as_slice())?;
                }
            }
            let mut machines = change.open_table(MACHINES)?;
            for (name, host, uuid) in &seen.machines {
                let key = (name.as_str(), host.as_str());
                // A machine of that name that is another one is seen for the first time.
                let before: Option<Machine> = stored(machines.get(key)?)?;
                let before = before.filter(|before| before.uuid == *uuid);
                let machine = Machine {
                    name: name.clone(),
                    host: host.clone(),
                    uuid: uuid.clone(),
                    first_seen: before.map_or(now, |before| before.first_seen),
                    last_seen: now,
                };
                machines.insert(key, encoded(&machine)?.as_slice())?;
            }
            let mut children = change.open_table(CHILDREN)?;
            // A machine has one parent: what it was before it was destroyed, or made anew, is over.
            let made = seen.children.iter().map(|(_, host, machine, _)| (host.as_str(), machine.as_str()));
            let gone = seen.gone.iter().map(|(host, machine)| (host.as_str(), machine.as_str()));
            let over: BTreeSet<(&str, &str)> = made.chain(gone).collect();
            if !over.is_empty() {
                children.retain(|(_, host, machine), _| !over.contains(&(host, machine)))?;
            }
            for (template, host, machine, linked) in &seen.children {
                let (template, host, machine) = (template.clone(), host.clone(), machine.clone());
                let child = Child { template, host, machine, linked: *linked, made: now };
                let key = (child.template.as_str(), child.host.as_str(), child.machine.as_str());
                children.insert(key, encoded(&child)?.as_slice())?;
            }
            seen.repositories.iter().try_for_each(|repository| note_repository(change, repository))?;
            if let Some(run) = &seen.run {
                let mut runs = change.open_table(RUNS)?;
                runs.insert(run.id.as_str(), encoded(run)?.as_slice())?;
                while runs.len()? > RUNS_KEPT {
                    runs.pop_first()?;
                }
            }
            Ok(())
        })
    }

    /// Notes that a probe is about to make machines on a host, before it does.
    pub fn probing(&self, host: (&str, &str, bool), machines: &[String]) -> Result<()> {
        self.change_host(host, |host| {
            host.probing.retain(|known| !machines.contains(known));
            host.probing.extend_from_slice(machines);
        })
    }

    /// Notes what a probe has found out about a host, in place of what was known, and that these of its machines are gone.
    pub fn probed(&self, host: (&str, &str, bool), probe: Option<&Probe>, gone: &[String]) -> Result<()> {
        self.change_host(host, |host| {
            host.probe = probe.cloned().or_else(|| host.probe.take());
            host.probing.retain(|known| !gone.contains(known));
        })
    }

    /// Forgets what was found out about a host: another may have its name.
    pub fn forget_probe(&self, name: &str) -> Result<()> {
        if !self.is_there() {
            return Ok(());
        }
        self.write(|change| {
            let mut hosts = change.open_table(HOSTS)?;
            let known: Option<Host> = stored(hosts.get(name)?)?;
            if let Some(host) = known {
                let host = Host { probe: None, probing: Vec::new(), ..host };
                hosts.insert(name, encoded(&host)?.as_slice())?;
            }
            Ok(())
        })
    }

    fn change_host(&self, (name, product, simulated): (&str, &str, bool), edit: impl Fn(&mut Host)) -> Result<()> {
        self.write(|change| {
            let mut hosts = change.open_table(HOSTS)?;
            let mut host = noted_host(&hosts, name, product, simulated, OffsetDateTime::now_utc())?;
            edit(&mut host);
            hosts.insert(name, encoded(&host)?.as_slice())?;
            Ok(())
        })
    }

    /// Notes a try whether a backup can be used.
    pub fn drill(&self, drill: &Drill) -> Result<()> {
        self.write(|change| {
            let key = (drill.machine.as_str(), falling(drill.time), &drill.backup.0);
            change.open_table(DRILLS)?.insert(key, encoded(drill)?.as_slice())?;
            Ok(())
        })
    }
}

/// The tables of backups, open for writing.
struct Writing<'t> {
    backups: redb::Table<'t, tables::Place, &'static [u8]>,
    lists: Lists<'t>,
}

impl<'t> Writing<'t> {
    fn open(change: &'t WriteTransaction) -> Result<Self, Trouble> {
        Ok(Self { backups: change.open_table(BACKUPS)?, lists: Lists::open(change)? })
    }

    fn add(&mut self, backup: &Backup) -> Result<(), Trouble> {
        if self.lists.find(&backup.id.0, backup.repository.as_u128())?.is_some() {
            return Ok(());
        }
        let place = (backup.machine.as_str(), falling(backup.time), &backup.id.0, backup.repository.as_u128());
        self.backups.insert(place, encoded(backup)?.as_slice())?;
        self.lists.add(backup)
    }

    /// Has what is known of a repository's backups be of another.
    fn hand_over(&mut self, ids: &[Id], from: uuid::Uuid, to: uuid::Uuid) -> Result<(), Trouble> {
        let mut rows: Vec<Backup> = Vec::with_capacity(ids.len());
        for id in ids {
            let Some((machine, time)) = self.lists.find(&id.0, from.as_u128())? else { continue };
            let row = self.backups.get((machine.as_str(), time, &id.0, from.as_u128()))?;
            rows.extend(stored::<Backup>(row)?);
        }
        self.remove(from, ids)?;
        rows.into_iter().try_for_each(|row| self.add(&Backup { repository: to, ..row }))
    }

    fn remove(&mut self, repository: uuid::Uuid, ids: &[Id]) -> Result<(), Trouble> {
        let mut machines = BTreeSet::new();
        for id in ids {
            let Some((machine, time)) = self.lists.find(&id.0, repository.as_u128())? else { continue };
            let row = stored::<Backup>(self.backups.remove((machine.as_str(), time, &id.0, repository.as_u128()))?)?;
            let row = row.ok_or_else(|| Trouble::Damage(format!("the backup {id} is not there")))?;
            self.lists.remove(&row)?;
            machines.insert(machine);
        }
        for machine in machines {
            let (from, to) = ((machine.as_str(), 0, &[0; 32], 0), (machine.as_str(), u64::MAX, &[255; 32], u128::MAX));
            let mut sum = Sum::default();
            for row in self.backups.range::<(&str, u64, &[u8; 32], u128)>(from..=to)? {
                sum.add(&decode(row?.1.value()).map_err(Trouble::Damage)?);
            }
            self.lists.set_sum(&machine, &sum)?;
        }
        Ok(())
    }
}

/// The row of a host that is spoken with now; what was found out about it before stays.
fn noted_host(
    hosts: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
    product: &str,
    simulated: bool,
    now: OffsetDateTime,
) -> Result<Host, Trouble> {
    let before: Option<Host> = stored(hosts.get(name)?)?;
    let (first_seen, probe, probing) = match before {
        Some(before) => (before.first_seen, before.probe, before.probing),
        None => (now, None, Vec::new()),
    };
    let (name, product) = (name.to_owned(), product.to_owned());
    Ok(Host { name, product, simulated, first_seen, last_seen: now, probe, probing })
}

/// The ids of the backups of a repository.
fn known_of(change: &WriteTransaction, repository: uuid::Uuid) -> Result<Vec<Id>, Trouble> {
    let word = tables::repository(repository);
    let words = change.open_table(WORDS)?;
    let range = (word.as_str(), 0, &[0; 32], 0)..=(word.as_str(), u64::MAX, &[255; 32], u128::MAX);
    words.range::<(&str, u64, &[u8; 32], u128)>(range)?.map(|entry| Ok(Id(*entry?.0.value().2))).collect()
}

fn forget(change: &WriteTransaction, id: uuid::Uuid) -> Result<bool, Trouble> {
    let known = known_of(change, id)?;
    Writing::open(change)?.remove(id, &known)?;
    Ok(change.open_table(REPOSITORIES)?.remove(id.as_u128())?.is_some())
}

/// Notes a repository at its place. One that was read whole once stays so, whoever opens it later.
///
/// What was known under its name and identity elsewhere is it, moved: a name means one place. What was known at its place under another
/// identity is no more. Two of one identity and different names stay two: one is a copy of the other.
fn note_repository(change: &WriteTransaction, repository: &Repository) -> Result<(), Trouble> {
    let others: Vec<Repository> = {
        let repositories = change.open_table(REPOSITORIES)?;
        let all = repositories.iter()?.map(|row| decode::<Repository>(row?.1.value()).map_err(Trouble::Damage));
        all.collect::<Result<_, Trouble>>()?
    };
    let mut read = repository.read;
    for other in others {
        let same = other.identity() == repository.identity();
        if other.id == repository.id {
            read = read.max(other.read);
        } else if same && other.name == repository.name {
            let known = known_of(change, other.id)?;
            Writing::open(change)?.hand_over(&known, other.id, repository.id)?;
            read = read.max(other.read);
            forget(change, other.id)?;
        } else if !same && other.place == repository.place {
            forget(change, other.id)?;
        }
    }
    let mut repositories = change.open_table(REPOSITORIES)?;
    let repository = Repository { read, ..repository.clone() };
    repositories.insert(repository.id.as_u128(), encoded(&repository)?.as_slice())?;
    Ok(())
}

fn encoded(row: &impl serde::Serialize) -> Result<Vec<u8>, Trouble> {
    encode(row).map_err(Trouble::Damage)
}

fn stored<T: serde::de::DeserializeOwned>(
    row: Option<redb::AccessGuard<'_, &'static [u8]>>,
) -> Result<Option<T>, Trouble> {
    row.map(|row| decode(row.value()).map_err(Trouble::Damage)).transpose()
}
