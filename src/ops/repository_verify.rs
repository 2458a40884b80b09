//! A drill: one backup read back as a restore would, and what came of it noted in the catalog.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::repository::method;
use super::repository_rows::told;
use crate::backup::{Among, Id, Manifest, State, Verified};
use crate::catalog;
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::repository::BoundRepository;
use crate::error::Fault;
use crate::units::Bytes;

/// Tries whether a backup can be restored: reads all of it back, verifies every byte, and keeps nothing. The catalog notes the result as
/// a drill.
///
/// What is damaged is a part of the result and no error. A backup that is kept though it failed does not pass: it never held all
/// that it was meant to. Errors: `backup.missing` where there is no such backup; what keeps it from being tried, such as a place that goes away.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// The repository.
    pub repository: Target<kind::Repository>,
    /// The backup's id, or its first 8 or more digits; `latest` is the newest that is complete.
    pub backup: String,
    /// With `latest`: only of this machine. Default: of all, and the result tells which it was.
    pub vm: Option<String>,
    /// With `latest`: only with this tag.
    pub tag: Option<String>,
}

/// What came of a drill.
#[derive(Debug, Serialize, JsonSchema)]
pub struct VerifyResult {
    /// Whether the backup can be restored.
    pub passed: bool,
    /// The backup's id.
    pub id: String,
    /// The machine that it is of.
    pub vm: String,
    /// When it was begun, in UTC.
    pub time: String,
    /// How many disks it has.
    pub disks: u64,
    /// How many files it has beside them.
    pub files: u64,
    /// The sizes of its disks and files together.
    pub size: Bytes,
    /// What of it was read and is what it was; zeros are not stored and do not count.
    pub read: Bytes,
    /// What keeps it from being restored: the disk or file, and why.
    pub problems: Vec<String>,
}

impl VerifyResult {
    fn of(id: Id, backup: &Manifest, found: Verified) -> Self {
        let mut problems: Vec<String> =
            found.problems.into_iter().map(|(name, problem)| format!("{name}: {problem}")).collect();
        if backup.state == State::Failed {
            problems.insert(0, "the backup failed when it was made, and is kept for what it holds".to_owned());
        }
        let sizes = backup.disks.iter().map(|disk| disk.size).chain(backup.files.iter().map(|file| file.size));
        Self {
            passed: problems.is_empty(),
            id: id.to_string(),
            vm: backup.group.clone(),
            time: told(backup.time),
            disks: backup.disks.len() as u64,
            files: backup.files.len() as u64,
            size: Bytes(sizes.fold(0, u64::saturating_add)),
            read: Bytes(found.read),
            problems,
        }
    }

    fn told(&self) -> String {
        match self.problems.as_slice() {
            [] => format!("read back: {} of disks and files, of which {} are stored", self.size, self.read),
            [one] => one.clone(),
            [first, rest @ ..] => format!("{first}; and {} more", rest.len()),
        }
    }
}

impl Operation for Verify {
    const NAME: &'static str = "repository.verify";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("verify");
    const TOUCHES: &'static [Touch] = &[touch("repository", "read", Selector::Argument("repository"))];
    const USAGE: &'static str = "local repository = backup.repository(\"main\")\nlocal newest = repository:backups({ vm = \"web-1\", state = \"complete\", limit = 1 })[1]\nif newest then\n  local drill = repository:verify({ backup = newest.id })\n  assert(drill.passed, drill.problems[1])\nend";

    type Bound = BoundRepository;
    type Output = VerifyResult;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository(&self.repository, "read")
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<VerifyResult, Fault> {
        let (id, result) = pass
            .blocking(move |watch| {
                let repository = bound.watched(watch);
                let (id, backup) = repository.chosen(&self.backup, &Among { group: self.vm, tag: self.tag })?;
                let found = repository.verify(&backup, watch)?;
                Ok((id, VerifyResult::of(id, &backup, found)))
            })
            .await?;
        let drill = catalog::Drill {
            machine: result.vm.clone(),
            backup: catalog::Id(id.0),
            time: OffsetDateTime::now_utc(),
            passed: result.passed,
            details: result.told(),
        };
        pass.note_drill(drill).await;
        Ok(result)
    }
}
