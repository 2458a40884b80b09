//! What operations tell of repositories and their backups.

use schemars::JsonSchema;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::backup::{
    CheckReport, ForgetPlan, Id, LeaseInfo, Manifest, PruneReport, RepairReport, RetentionPlan, State, Stats, Summary,
};
use crate::units::Bytes;

/// A time in UTC as records write it.
pub(super) fn told(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

fn ids<'a>(ids: impl IntoIterator<Item = &'a Id>) -> Vec<String> {
    ids.into_iter().map(Id::to_string).collect()
}

fn state(state: State) -> String {
    match state {
        State::Complete => "complete",
        State::Failed => "failed",
    }
    .to_owned()
}

/// A backup.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BackupRow {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// The machine that it is of; of a disk image that name which retention counts by.
    pub vm: String,
    /// Its own name.
    pub name: String,
    /// When it was begun, in UTC (RFC 3339).
    pub time: String,
    /// `complete`; `failed`: kept for what it holds; `damaged`: its own file cannot be read, so only its id is known.
    #[schemars(extend("enum" = ["complete", "failed", "damaged"]))]
    pub state: String,
    /// The sizes of its disks and files together.
    pub size: Bytes,
    /// What it added to the repository.
    pub added: Bytes,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its disks.
    pub disks: Vec<BackupDisk>,
}

/// A disk of a backup.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BackupDisk {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size: Bytes,
}

impl BackupRow {
    /// Of a backup whose file is damaged.
    pub(super) fn damaged(id: Id) -> Self {
        Self {
            id: id.to_string(),
            vm: String::new(),
            name: String::new(),
            time: String::new(),
            state: "damaged".to_owned(),
            size: Bytes(0),
            added: Bytes(0),
            tags: Vec::new(),
            disks: Vec::new(),
        }
    }

    pub(super) fn of(id: Id, manifest: &Manifest) -> Self {
        let sizes = manifest.disks.iter().map(|disk| disk.size).chain(manifest.files.iter().map(|file| file.size));
        Self {
            id: id.to_string(),
            vm: manifest.group.clone(),
            name: manifest.name.clone(),
            time: told(manifest.time),
            state: state(manifest.state),
            size: Bytes(sizes.fold(0, u64::saturating_add)),
            added: Bytes(manifest.disks.iter().fold(0, |sum, disk| disk.added.saturating_add(sum))),
            tags: manifest.tags.clone(),
            disks: manifest
                .disks
                .iter()
                .map(|disk| BackupDisk { name: disk.name.clone(), size: Bytes(disk.size) })
                .collect(),
        }
    }
}

/// What a check found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CheckResult {
    /// Whether nothing is damaged.
    pub clean: bool,
    /// What is not as it was written: the file in the repository, and what is wrong with it.
    pub problems: Vec<String>,
    /// The ids of the backups that cannot be restored whole.
    pub hurt: Vec<String>,
    /// What is no damage: unfinished files, packs that no index names yet.
    pub notes: Vec<String>,
    /// How many backups there are.
    pub backups: u64,
    /// How many packs there are.
    pub packs: u64,
    /// What was read of the packs.
    pub read: Bytes,
}

impl From<CheckReport> for CheckResult {
    fn from(report: CheckReport) -> Self {
        Self {
            clean: report.is_clean() && report.hurt.is_empty(),
            problems: report.problems.iter().map(|problem| format!("{}: {}", problem.file, problem.what)).collect(),
            hurt: ids(&report.hurt),
            notes: report.notes,
            backups: report.backups,
            packs: report.packs,
            read: Bytes(report.read),
        }
    }
}

/// What a repository holds. `logical` is `zero`, `duplicate` and `unique` together.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RepositoryStats {
    /// How many backups there are.
    pub backups: u64,
    /// How many packs there are.
    pub packs: u64,
    /// All disks and files of all backups.
    pub logical: Bytes,
    /// Of it, zeros and holes, which are not stored.
    pub zero: Bytes,
    /// Of it, what is stored once for several places.
    pub duplicate: Bytes,
    /// Of it, what is stored.
    pub unique: Bytes,
    /// `unique` as it is stored: compressed and encrypted.
    pub compressed: Bytes,
    /// All packs, with what describes them and what no backup needs any more.
    pub stored: Bytes,
}

impl From<Stats> for RepositoryStats {
    fn from(stats: Stats) -> Self {
        Self {
            backups: stats.backups,
            packs: stats.packs,
            logical: Bytes(stats.logical),
            zero: Bytes(stats.zero),
            duplicate: Bytes(stats.duplicate),
            unique: Bytes(stats.unique),
            compressed: Bytes(stats.compressed),
            stored: Bytes(stats.stored),
        }
    }
}

/// What a prune did, or would do.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct PruneResult {
    /// Whether it was only planned.
    pub dry_run: bool,
    /// The backups that no rule keeps: machine by machine, the newest first. None where no rules were given.
    pub forgotten: Vec<ForgetRow>,
    /// The backups that rules keep.
    pub kept: Vec<ForgetRow>,
    /// Why the plan is refused unless `yes` is set; nothing where it is not.
    pub doubt: Option<String>,
    /// How many packs are marked by it.
    pub marked: u64,
    /// How many packs it deletes.
    pub deleted: u64,
    /// Their size.
    pub deleted_bytes: Bytes,
    /// What was copied out of them because backups need it.
    pub copied: Bytes,
    /// How many packs were marked before, and wait.
    pub waiting: u64,
    /// How many packs would go and are kept by a lock of the bucket; a later prune deletes them.
    pub locked: u64,
    /// Backups whose last step had not been made, and which are visible now.
    pub finished: Vec<String>,
    /// Remains of backups that were not whole, and are gone.
    pub dropped: Vec<String>,
    /// How many unfinished files were removed.
    pub tidied: u64,
}

impl PruneResult {
    /// What comes of a plan; without a report it was not carried out.
    pub(super) fn of(plan: &RetentionPlan, report: Option<&PruneReport>) -> Self {
        let ForgetResult { forgotten, kept, doubt } = plan.forget.as_ref().map(ForgetResult::of).unwrap_or_default();
        let plan = &plan.prune;
        let planned = Self {
            dry_run: true,
            forgotten,
            kept,
            doubt,
            marked: plan.mark.len() as u64,
            deleted: plan.delete.len() as u64,
            deleted_bytes: Bytes(plan.delete.iter().fold(0, |sum, pack| pack.size.saturating_add(sum))),
            copied: Bytes(plan.delete.iter().fold(0, |sum, pack| pack.needed.saturating_add(sum))),
            waiting: plan.waiting.len() as u64,
            locked: plan.locked.len() as u64,
            ..Self::default()
        };
        let Some(report) = report else { return planned };
        Self {
            dry_run: false,
            marked: report.marked,
            deleted: report.deleted,
            deleted_bytes: Bytes(report.deleted_bytes),
            copied: Bytes(report.copied_bytes),
            locked: report.locked,
            finished: ids(&report.finished),
            dropped: ids(&report.dropped),
            tidied: report.tidied,
            ..planned
        }
    }
}

/// What was forgotten and what stays, or would.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct ForgetResult {
    /// The backups that no rule keeps: machine by machine, the newest first.
    pub forgotten: Vec<ForgetRow>,
    /// The backups that stay.
    pub kept: Vec<ForgetRow>,
    /// Why the plan is refused unless `yes` is set; nothing where it is not.
    pub doubt: Option<String>,
}

/// A backup as a plan of retention sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ForgetRow {
    /// Its id.
    pub id: String,
    /// The machine that it is of.
    pub vm: String,
    /// When it was begun, in UTC.
    pub time: String,
    /// The rules that keep it.
    pub kept_for: Vec<String>,
}

impl ForgetResult {
    pub(super) fn of(plan: &ForgetPlan) -> Self {
        let (kept, forgotten) = plan
            .decisions
            .iter()
            .map(|decision| ForgetRow {
                id: decision.id.to_string(),
                vm: decision.group.clone(),
                time: told(decision.time),
                kept_for: decision.kept_for.iter().map(|rule| (*rule).to_owned()).collect(),
            })
            .partition(|row: &ForgetRow| !row.kept_for.is_empty());
        Self { forgotten, kept, doubt: plan.doubt() }
    }
}

/// What a repair did.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RepairResult {
    /// The files that were written anew from what else says the same: `config` or its copy.
    pub restored: Vec<String>,
    /// How many packs the new index names.
    pub indexed: u64,
    /// Packs that were damaged and are gone; what could be read of them lies in others.
    pub dropped: Vec<String>,
    /// How many of these a lock of the bucket keeps for now: nothing relies on them, and a later prune deletes them.
    pub locked: u64,
    /// How many blobs were saved from them.
    pub saved: u64,
    /// How many blobs could not be read, and are nowhere else.
    pub lost: u64,
    /// The ids of the backups that cannot be restored whole.
    pub hurt: Vec<String>,
    /// What is damaged still, and only a person can decide about.
    pub left: Vec<String>,
}

impl From<RepairReport> for RepairResult {
    fn from(report: RepairReport) -> Self {
        Self {
            restored: report.restored,
            indexed: report.indexed,
            dropped: ids(&report.dropped),
            locked: report.locked,
            saved: report.saved,
            lost: report.lost,
            hurt: ids(&report.hurt),
            left: report.left.iter().map(|problem| format!("{}: {}", problem.file, problem.what)).collect(),
        }
    }
}

/// A lease that was taken away.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LeaseRow {
    /// What was being done: `backup`, `prune`, `repair`.
    pub work: String,
    /// The machine that did it.
    pub machine: String,
    /// Its process.
    pub process: u32,
    /// When it began, by the repository's clock, in UTC.
    pub since: String,
}

impl From<LeaseInfo> for LeaseRow {
    fn from(lease: LeaseInfo) -> Self {
        let seconds = i64::try_from(lease.began_ms / 1000).unwrap_or(0);
        let since = OffsetDateTime::from_unix_timestamp(seconds).map(told).unwrap_or_default();
        Self { work: lease.work, machine: lease.host, process: lease.process, since }
    }
}

/// A backup that was made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BackupMade {
    /// Its id.
    pub id: String,
    /// The sizes of its disks and files together.
    pub size: Bytes,
    /// What was read and is not zeros.
    pub read: Bytes,
    /// What was added to the repository.
    pub added: Bytes,
    /// How many chunks a parent should have had and were read again, since the repository has lost them: check it.
    pub read_again: u64,
}

impl From<Summary> for BackupMade {
    fn from(made: Summary) -> Self {
        Self {
            id: made.id.to_string(),
            size: Bytes(made.size),
            read: Bytes(made.read),
            added: Bytes(made.added),
            read_again: made.read_again,
        }
    }
}
