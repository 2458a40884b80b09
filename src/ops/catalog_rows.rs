//! What operations tell of the catalog, and how a backup of a repository becomes a row of it.

use schemars::JsonSchema;
use serde::Serialize;

use super::repository_rows::{BackupDisk, told};
use crate::backup;
use crate::catalog::{self, Known, Sum};
use crate::redact;
use crate::units::Bytes;

/// The catalog's row of a backup: all of it stands in the backup's own file, which whoever can write to the repository may have chosen.
/// Secrets that are known do not get into the catalog by that way.
pub(super) fn row_of(id: backup::Id, manifest: &backup::Manifest, repository: uuid::Uuid) -> catalog::Backup {
    let disks = manifest.disks.iter().map(|disk| catalog::Disk {
        name: hidden(&disk.name),
        size: disk.size,
        used: disk.chunks.saturating_mul(u64::from(disk.chunk_size)).min(disk.size),
        added: disk.added,
    });
    catalog::Backup {
        id: catalog::Id(id.0),
        repository,
        machine: hidden(&manifest.group),
        name: hidden(&manifest.name),
        time: manifest.time.to_offset(time::UtcOffset::UTC),
        state: match manifest.state {
            backup::State::Complete => catalog::State::Complete,
            backup::State::Failed => catalog::State::Failed,
        },
        tags: manifest.tags.iter().map(|tag| hidden(tag)).collect(),
        parent: manifest.parent.map(|parent| catalog::Id(parent.0)),
        disks: disks.collect(),
        files: manifest.files.iter().fold(0, |sum, file| file.size.saturating_add(sum)),
    }
}

fn hidden(text: &str) -> String {
    redact::text(text).into_owned()
}

type Repositories = [(catalog::Repository, u64)];

/// A backup as the catalog knows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogBackup {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// The machine that it is of.
    pub vm: String,
    /// When it was begun, in UTC (RFC 3339).
    pub time: String,
    /// `complete`, or `failed`: kept for what it holds.
    #[schemars(extend("enum" = ["complete", "failed"]))]
    pub state: String,
    /// The sizes of its disks and files together.
    pub size: Bytes,
    /// What it added to the repository.
    pub added: Bytes,
    /// The name of the repository that holds it, or its id.
    pub repository: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its own name.
    pub name: String,
    /// The id of the backup that it builds on.
    pub parent: Option<String>,
    /// Its disks.
    pub disks: Vec<BackupDisk>,
}

impl CatalogBackup {
    pub(super) fn of(row: catalog::Backup, repositories: &Repositories) -> Self {
        let named = repositories.iter().find(|(known, _)| known.id == row.repository);
        Self {
            id: row.id.to_string(),
            time: told(row.time),
            state: row.state.name().to_owned(),
            size: Bytes(row.size()),
            added: Bytes(row.added()),
            repository: named.map_or_else(|| row.repository.to_string(), |(known, _)| known.name.clone()),
            vm: row.machine,
            name: row.name,
            tags: row.tags,
            parent: row.parent.map(|parent| parent.to_string()),
            disks: row.disks.into_iter().map(|disk| BackupDisk { name: disk.name, size: Bytes(disk.size) }).collect(),
        }
    }
}

/// A page of backups.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogBackups {
    /// The backups, the newest first.
    pub backups: Vec<CatalogBackup>,
    /// Where the next page begins; nil behind the last.
    pub cursor: Option<String>,
}

/// A machine as the catalog knows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogMachine {
    /// Its name.
    pub name: String,
    /// The hosts that it was seen on, the one seen last first.
    pub hosts: Vec<String>,
    /// When it was last seen, in UTC; nil where only its backups are known.
    pub last_seen: Option<String>,
    /// Whether all of these hosts are simulators.
    pub simulated: bool,
    /// How many backups it has.
    pub backups: u64,
    /// How many of them hold all that they were meant to.
    pub complete: u64,
    /// What the disks and files of all its backups hold.
    pub size: Bytes,
    /// What its backups added to repositories.
    pub added: Bytes,
    /// What was saved by leaving out, by sharing and by compressing: `size` without `added`.
    pub saved: Bytes,
    /// Its newest backup that holds all that it was meant to.
    pub newest: Option<CatalogBackup>,
    /// When its oldest backup was begun.
    pub oldest: Option<String>,
    /// The last try whether one of its backups can be used: `passed` or `failed`, and when.
    pub drill: Option<String>,
}

impl CatalogMachine {
    pub(super) fn of(known: Known, repositories: &Repositories, hosts: &[catalog::Host]) -> Self {
        let Known { name, seen, sum, newest, oldest, drills } = known;
        let Sum { backups, complete, size, added, .. } = sum;
        let simulated = |host: &str| hosts.iter().any(|known| known.name == host && known.simulated);
        Self {
            last_seen: seen.first().map(|machine| told(machine.last_seen)),
            simulated: !seen.is_empty() && seen.iter().all(|machine| simulated(&machine.host)),
            hosts: seen.into_iter().map(|machine| machine.host).collect(),
            name,
            backups,
            complete,
            size: Bytes(size),
            added: Bytes(added),
            saved: Bytes(size.saturating_sub(added)),
            newest: newest.map(|row| CatalogBackup::of(row, repositories)),
            oldest: oldest.map(|row| told(row.time)),
            drill: drills
                .first()
                .map(|drill| format!("{} {}", if drill.passed { "passed" } else { "failed" }, told(drill.time))),
        }
    }
}

/// A page of machines.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogMachines {
    /// The machines, by name.
    pub machines: Vec<CatalogMachine>,
    /// Where the next page begins; nil behind the last.
    pub cursor: Option<String>,
}

/// A run that has ended.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RunRow {
    /// Its id, as messages and the audit log name it.
    pub id: String,
    /// The script or the command.
    pub what: String,
    /// When it began, in UTC.
    pub began: String,
    /// When it ended.
    pub ended: String,
    /// `done` or `failed`.
    pub outcome: String,
    /// The kind of the fault that it failed with.
    pub fault: Option<String>,
    /// Its mode.
    pub mode: String,
    /// Who had it done.
    pub principal: String,
    /// How many calls it made.
    pub calls: u64,
    /// How many changes it made.
    pub changed: u64,
    /// The hosts that it spoke with.
    pub hosts: Vec<String>,
    /// Whether one of them was a simulator.
    pub simulated: bool,
}

impl From<catalog::Run> for RunRow {
    fn from(run: catalog::Run) -> Self {
        let catalog::Run { id, what, mode, principal, began, ended, outcome, fault, calls, changed, hosts, simulated } =
            run;
        let (began, ended) = (told(began), told(ended));
        Self { id, what, began, ended, outcome, fault, mode, principal, calls, changed, hosts, simulated }
    }
}

/// A page of runs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogRuns {
    /// The runs, the newest first.
    pub runs: Vec<RunRow>,
    /// Where the next page begins; nil behind the last.
    pub cursor: Option<String>,
}

/// A host that runs have spoken with.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogHost {
    /// Its name.
    pub name: String,
    /// Its product with its version.
    pub product: String,
    /// Whether it is a simulator.
    pub simulated: bool,
    /// When it was first spoken with, in UTC.
    pub first_seen: String,
    /// When it was last spoken with.
    pub last_seen: String,
    /// When it was last probed; nil where it never was.
    pub probed: Option<String>,
    /// Whether it has another build than when it was probed: what was found is not used then.
    pub stale: bool,
}

impl From<catalog::Host> for CatalogHost {
    fn from(host: catalog::Host) -> Self {
        let catalog::Host { name, product, simulated, first_seen, last_seen, probe, probing: _ } = host;
        let stale = probe.as_ref().is_some_and(|probe| probe.product != product);
        let probed = probe.map(|probe| told(probe.time));
        Self { name, product, simulated, first_seen: told(first_seen), last_seen: told(last_seen), probed, stale }
    }
}

/// A host as the catalog knows it, with what a probe has found out about it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogHostProbe {
    /// Its name.
    pub name: String,
    /// Its product with its version and build, when it was last spoken with.
    pub product: String,
    /// Whether it is a simulator.
    pub simulated: bool,
    /// When it was last spoken with, in UTC.
    pub last_seen: String,
    /// When it was probed, in UTC; nil where it never was.
    pub probed: Option<String>,
    /// The build that was probed.
    pub probed_product: Option<String>,
    /// Whether it has another build now: what was found is not used then. `ceso host probe` finds it out anew.
    pub stale: bool,
    /// What was tried, in its order.
    pub facts: Vec<Fact>,
    /// Machines of probes that have not ended: they are under way, or were killed.
    pub left: Vec<String>,
}

/// Something that a probe has tried.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Fact {
    /// What it is: `ranges`, `upload`, `download`, `copies`, `thin_copies`, `untold_copies`, `tracked_changes`, `allocated_areas`,
    /// `unchanged_areas`, `written_areas`, `written_allocated`, `snapshot_export`, `linked_clones`, `parents_survive`, `sessions`.
    pub name: String,
    /// Whether the host does it; nil where that could not be found out.
    pub works: Option<bool>,
    /// What was counted or measured: bytes a second, sessions.
    pub figure: Option<u64>,
    /// What was seen.
    pub seen: String,
}

impl From<catalog::Fact> for Fact {
    fn from(fact: catalog::Fact) -> Self {
        let catalog::Fact { name, works, seen, figure } = fact;
        Self { name, works, figure, seen }
    }
}

impl From<catalog::Host> for CatalogHostProbe {
    fn from(host: catalog::Host) -> Self {
        let catalog::Host { name, product, simulated, last_seen, probe, probing: left, .. } = host;
        let known = Self {
            stale: probe.as_ref().is_some_and(|probe| probe.product != product),
            name,
            product,
            simulated,
            last_seen: told(last_seen),
            probed: None,
            probed_product: None,
            facts: Vec::new(),
            left,
        };
        match probe {
            None => known,
            Some(probe) => Self {
                probed: Some(told(probe.time)),
                probed_product: Some(probe.product),
                facts: probe.facts.into_iter().map(Fact::from).collect(),
                ..known
            },
        }
    }
}

/// A repository that was opened.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogRepository {
    /// What it was last called.
    pub name: String,
    /// How many of its backups are known.
    pub backups: u64,
    /// When all of its backups were last read, in UTC; nil where only some are known.
    pub read: Option<String>,
    /// When it was last opened.
    pub last_seen: String,
    /// Where it is kept.
    pub place: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Its own identity: a copy with all that is in it, at another place, has the same.
    pub id: String,
}

impl From<(catalog::Repository, u64)> for CatalogRepository {
    fn from((known, backups): (catalog::Repository, u64)) -> Self {
        let id = known.identity();
        let catalog::Repository { name, place, encrypted, last_seen, read, .. } = known;
        Self { name, backups, read: read.map(told), last_seen: told(last_seen), place, encrypted, id: id.to_string() }
    }
}

/// A tag of backups.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogTag {
    /// The tag.
    pub tag: String,
    /// How many backups bear it.
    pub backups: u64,
}

impl From<(String, u64)> for CatalogTag {
    fn from((tag, backups): (String, u64)) -> Self {
        Self { tag, backups }
    }
}

/// A machine that was cloned from a template.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogChild {
    /// The machine's name.
    pub name: String,
    /// The host that it is on.
    pub host: String,
    /// The template.
    pub template: String,
    /// Whether it needs the template's disks.
    pub linked: bool,
    /// When it was made, in UTC.
    pub made: String,
}

impl From<catalog::Child> for CatalogChild {
    fn from(child: catalog::Child) -> Self {
        let catalog::Child { template, host, machine, linked, made } = child;
        Self { name: machine, host, template, linked, made: told(made) }
    }
}

/// A try whether a backup can be used.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CatalogDrill {
    /// The machine that the backup is of.
    pub vm: String,
    /// The backup's id.
    pub backup: String,
    /// When it was tried, in UTC.
    pub time: String,
    /// Whether it can be used.
    pub passed: bool,
    /// What was tried, and what was found.
    pub details: String,
}

impl From<catalog::Drill> for CatalogDrill {
    fn from(drill: catalog::Drill) -> Self {
        let catalog::Drill { machine, backup, time, passed, details } = drill;
        Self { vm: machine, backup: backup.to_string(), time: told(time), passed, details }
    }
}

/// A repository whose backups were read.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Rebuilt {
    /// Its name.
    pub name: String,
    /// How many backups it has.
    pub backups: u64,
    /// Why it could not be read; then what was known of it stays.
    pub problem: Option<String>,
}
