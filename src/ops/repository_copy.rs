//! Copies backups of one repository to another: a second place.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::repository::{BackupState, When, method};
use crate::backup::{CopyOptions, CopyPlan, CopyReport, Id, Manifest, Repository, State};
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::repository::BoundRepository;
use crate::error::Fault;
use crate::units::Bytes;

/// Copies backups to a second repository: what it lacks of them, each piece verified. The first is only read.
///
/// A copy keeps time, machine, tags and state, and its own id there. What was interrupted is taken up by the next copy. A backup that is
/// damaged here is named in `failed`, and the others are copied all the same. Two repositories of which one was made like the other
/// (`ceso repository init --like`) are compared without reading what is stored.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The repository that is copied.
    pub repository: Target<kind::Repository>,
    /// The repository that gets the copies.
    pub to: Target<kind::Repository>,
    /// Only these backups: their ids, or the first 8 or more digits. Default: all.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Only those of this machine.
    pub vm: Option<String>,
    /// Only those begun at or after this time (RFC 3339), or this long ago ("7 days").
    pub since: Option<When>,
    /// Only those begun before this time, or longer ago.
    pub before: Option<When>,
    /// Only those in this state.
    #[schemars(extend("enum" = ["complete", "failed", null]))]
    pub state: Option<BackupState>,
    /// Only those with this tag.
    pub tag: Option<String>,
    /// Tell what would be copied, and do nothing. Default: false.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was copied, or would be.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct CopyResult {
    /// Whether it was only planned.
    pub dry_run: bool,
    /// The backups, the oldest first.
    pub copied: Vec<CopiedRow>,
    /// The ids of those that were there already.
    pub present: Vec<String>,
    /// Those that could not be copied, and why.
    pub failed: Vec<String>,
}

/// A backup that was copied.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CopiedRow {
    /// Its id where it was copied from.
    pub from: String,
    /// Its id at the other place; nothing where it was only planned.
    pub id: Option<String>,
    /// What was read of packs for it.
    pub read: Bytes,
    /// What it added there.
    pub added: Bytes,
}

impl CopyResult {
    fn planned(plan: &CopyPlan) -> Self {
        let row = |id: &Id| CopiedRow { from: id.to_string(), id: None, read: Bytes(0), added: Bytes(0) };
        Self {
            dry_run: true,
            copied: plan.copy.iter().map(|planned| row(&planned.id)).collect(),
            present: plan.present.iter().map(Id::to_string).collect(),
            failed: Vec::new(),
        }
    }

    fn carried_out(report: CopyReport) -> Self {
        let row = |copied: &crate::backup::Copied| CopiedRow {
            from: copied.from.to_string(),
            id: Some(copied.id.to_string()),
            read: Bytes(copied.read),
            added: Bytes(copied.added),
        };
        Self {
            dry_run: false,
            copied: report.copied.iter().map(row).collect(),
            present: report.present.iter().map(Id::to_string).collect(),
            failed: report.failed.iter().map(|failed| format!("{}: {}", failed.from, failed.why)).collect(),
        }
    }
}

/// Which backups are copied.
struct Wanted {
    ids: Vec<String>,
    vm: Option<String>,
    since: Option<When>,
    before: Option<When>,
    state: Option<State>,
    tag: Option<String>,
}

impl Wanted {
    fn plan(&self, from: &Repository, to: &Repository) -> Result<CopyPlan, Fault> {
        let ids: Vec<Id> = self.ids.iter().map(|id| Ok(from.backup(id)?.0)).collect::<Result<_, Fault>>()?;
        let chosen = |id: &Id, backup: &Manifest| {
            (ids.is_empty() || ids.contains(id))
                && self.vm.as_ref().is_none_or(|vm| *vm == backup.group)
                && self.since.is_none_or(|since| backup.time >= since.0)
                && self.before.is_none_or(|before| backup.time < before.0)
                && self.state.is_none_or(|state| backup.state == state)
                && self.tag.as_ref().is_none_or(|tag| backup.tags.contains(tag))
        };
        Ok(from.copy_plan(to, &chosen)?)
    }
}

impl Copy {
    fn wanted(&self) -> Wanted {
        Wanted {
            ids: self.ids.clone(),
            vm: self.vm.clone(),
            since: self.since,
            before: self.before,
            state: self.state.map(State::from),
            tag: self.tag.clone(),
        }
    }
}

impl Operation for Copy {
    const NAME: &'static str = "repository.copy";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("copy");
    const TOUCHES: &'static [Touch] = &[
        touch("repository", "copy_from", Selector::Argument("repository")),
        touch("repository", "read", Selector::Argument("to")),
        touch("repository", "write", Selector::Meant { argument: "to", given: None }),
    ];
    const USAGE: &'static str = "local second = backup.repository(\"second\")\nlocal report = backup.repository(\"main\"):copy({ to = second, since = \"7 days\" })\nprint(#report.copied, #report.failed)";

    type Bound = (BoundRepository, BoundRepository);
    type Output = CopyResult;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        let (from, to) = (binder.repository(&self.repository, "copy_from")?, binder.repository(&self.to, "read")?);
        Ok((from, if self.dry_run { to } else { binder.repository(&self.to, "write")? }))
    }

    async fn settled(&self, (from, to): &Self::Bound, pass: &Pass<'_>) -> Result<Option<CopyResult>, Fault> {
        if !self.dry_run {
            return Ok(None);
        }
        let (from, to, wanted) = (from.clone(), to.clone(), self.wanted());
        let plan = pass.blocking(move |watch| wanted.plan(&from.watched(watch), &to.watched(watch))).await?;
        Ok(Some(CopyResult::planned(&plan)))
    }

    async fn act(self, (from, to): Self::Bound, pass: &Pass<'_>) -> Result<CopyResult, Fault> {
        pass.blocking(move |watch| {
            let (from, to) = (from.watched(watch), to.watched(watch));
            let plan = self.wanted().plan(&from, &to)?;
            let before: Vec<u64> = plan
                .copy
                .iter()
                .scan(0, |sum: &mut u64, planned| {
                    let start = *sum;
                    *sum = sum.saturating_add(planned.size);
                    Some(start)
                })
                .collect();
            watch.expect(plan.copy.iter().fold(0, |sum, planned| planned.size.saturating_add(sum)));
            let told = |at: &crate::backup::CopyProgress| {
                let start = usize::try_from(at.backups).ok().and_then(|number| before.get(number));
                watch.reach(start.copied().unwrap_or_default().saturating_add(at.done));
            };
            Ok(CopyResult::carried_out(from.copy(&to, &plan, &CopyOptions::default(), &told)?))
        })
        .await
    }
}
