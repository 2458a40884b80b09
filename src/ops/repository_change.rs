//! Operations that change repositories: what is kept, what is removed, what is mended.

use schemars::JsonSchema;
use serde::Deserialize;

use super::catalog_rows::row_of;
use super::repository::method;
use super::repository_rows::{ForgetResult, LeaseRow, PruneResult, RepairResult};
use crate::backup::{Keep, PruneOptions};
use crate::catalog;
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::repository::BoundRepository;
use crate::error::Fault;
use crate::units::Span;

/// Removes what no backup needs: marks it first, and deletes what was marked before the grace period.
///
/// No backup is lost by it, also beside backups that run, and an interrupted prune is taken up by the next. Backups are forgotten with
/// `repository:forget`. Errors: `backup.refused` where a backup lacks something.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// The repository.
    pub repository: Target<kind::Repository>,
    /// Tell what would be done, and do nothing. Default: false.
    #[serde(default)]
    pub dry_run: bool,
    /// Delete now, without a grace period: backups that run meanwhile may fail, and those that are there stay. Default: false.
    #[serde(default)]
    pub at_once: bool,
    /// The share of what is stored that may stay although no backup needs it, 0 to 1: less costs more copying. Default: 0.05.
    pub unused: Option<f64>,
}

impl Prune {
    fn options(&self) -> PruneOptions {
        let usual = PruneOptions::default();
        PruneOptions { unused: self.unused.unwrap_or(usual.unused), at_once: self.at_once }
    }
}

impl Operation for Prune {
    const NAME: &'static str = "repository.prune";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("prune");
    const TOUCHES: &'static [Touch] = &[touch("repository", "prune", Selector::Argument("repository"))];
    const USAGE: &'static str = "local repository = backup.repository(\"main\")\nlocal plan = repository:prune({ dry_run = true })\nprint(plan.marked, plan.deleted)\nrepository:prune()";

    type Bound = BoundRepository;
    type Output = PruneResult;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        if self.unused.is_some_and(|unused| !(0.0..=1.0).contains(&unused)) {
            return Err(Fault::new("usage.argument", "repository.prune: unused: is not a share")
                .hint("give a number from 0 to 1"));
        }
        binder.repository(&self.repository, "prune")
    }

    async fn settled(&self, bound: &BoundRepository, pass: &Pass<'_>) -> Result<Option<PruneResult>, Fault> {
        if !self.dry_run {
            return Ok(None);
        }
        let (bound, options) = (bound.clone(), self.options());
        let plan = pass.blocking(move |watch| Ok(bound.watched(watch).prune_plan(&options)?)).await?;
        Ok(Some(PruneResult::planned(&plan)))
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<PruneResult, Fault> {
        let options = self.options();
        let identity = bound.identity();
        let (result, finished) = pass
            .blocking(move |watch| {
                let repository = bound.watched(watch);
                let plan = repository.prune_plan(&options)?;
                let report = repository.prune(&plan)?;
                // Backups that were whole and only not yet visible.
                let rows = report.finished.iter().filter_map(|id| repository.backup(&id.to_string()).ok());
                let rows: Vec<_> = rows.map(|(id, manifest)| row_of(id, &manifest, identity)).collect();
                Ok((PruneResult::carried_out(&plan, &report), rows))
            })
            .await?;
        if !finished.is_empty() {
            pass.note_backups(finished).await;
        }
        Ok(result)
    }
}

/// Forgets backups that no rule keeps, for good. Their bytes go with the next prunes.
///
/// The rules count for each machine by itself. A failed backup never counts, and a period without a backup does not either. A plan
/// that would forget more than half of all backups is refused unless `yes` is set. Errors: `backup.refused`, `backup.option` where no
/// rule says what is kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    /// The repository.
    pub repository: Target<kind::Repository>,
    /// Keep the newest so many.
    #[serde(default)]
    pub keep_last: u32,
    /// Keep the newest of each of so many hours that have a backup.
    #[serde(default)]
    pub keep_hourly: u32,
    /// Keep the newest of each of so many days.
    #[serde(default)]
    pub keep_daily: u32,
    /// Keep the newest of each of so many weeks, which begin on Monday.
    #[serde(default)]
    pub keep_weekly: u32,
    /// Keep the newest of each of so many months.
    #[serde(default)]
    pub keep_monthly: u32,
    /// Keep the newest of each of so many years.
    #[serde(default)]
    pub keep_yearly: u32,
    /// Keep all that are at most so much older than the newest.
    pub keep_within: Option<Span>,
    /// Keep all that bear one of these tags.
    #[serde(default)]
    pub keep_tags: Vec<String>,
    /// Tell what would be forgotten, and do nothing. Default: false.
    #[serde(default)]
    pub dry_run: bool,
    /// Forget also more than half of all backups. Default: false.
    #[serde(default)]
    pub yes: bool,
}

/// The share of all backups that may be forgotten without asking.
const MOST: f64 = 0.5;

impl Forget {
    fn keep(&self) -> Keep {
        Keep {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            within: self.keep_within.map(|span| span.0),
            tags: self.keep_tags.clone(),
        }
    }
}

impl Operation for Forget {
    const NAME: &'static str = "repository.forget";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = method("forget");
    const TOUCHES: &'static [Touch] = &[touch("repository", "destroy", Selector::Argument("repository"))];
    const USAGE: &'static str = "local repository = backup.repository(\"main\")\nlocal plan = repository:forget({ keep_last = 7, keep_weekly = 8, dry_run = true })\nfor _, backup in plan.forgotten do\n  print(backup.vm, backup.time)\nend";

    type Bound = BoundRepository;
    type Output = ForgetResult;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository(&self.repository, "destroy")
    }

    async fn settled(&self, bound: &BoundRepository, pass: &Pass<'_>) -> Result<Option<ForgetResult>, Fault> {
        if !self.dry_run {
            return Ok(None);
        }
        let (bound, keep) = (bound.clone(), self.keep());
        let plan = pass.blocking(move |watch| Ok(bound.watched(watch).forget_plan(&keep)?)).await?;
        Ok(Some(ForgetResult::of(&plan)))
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<ForgetResult, Fault> {
        let (keep, most) = (self.keep(), if self.yes { 1.0 } else { MOST });
        let identity = bound.identity();
        let plan = pass
            .blocking(move |watch| {
                let repository = bound.watched(watch);
                let plan = repository.forget_plan(&keep)?;
                repository.forget(&plan, most)?;
                Ok(plan)
            })
            .await?;
        pass.note_forgotten(identity, plan.removed().map(|gone| catalog::Id(gone.id.0)).collect()).await;
        Ok(ForgetResult::of(&plan))
    }
}

/// Makes the index of a repository anew, saves what damaged packs still hold, and names the backups that are hurt.
///
/// It deletes nothing that can still be read. A backup that lacks something stays visible, and is whole again when a later backup of the
/// same disk brings it back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// The repository.
    pub repository: Target<kind::Repository>,
    /// Read every byte to find what is damaged. Default: false.
    #[serde(default)]
    pub read_data: bool,
}

impl Operation for Repair {
    const NAME: &'static str = "repository.repair";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("repair");
    const TOUCHES: &'static [Touch] = &[touch("repository", "prune", Selector::Argument("repository"))];
    const USAGE: &'static str =
        "local report = backup.repository(\"main\"):repair()\nprint(report.indexed, #report.hurt)";

    type Bound = BoundRepository;
    type Output = RepairResult;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository(&self.repository, "prune")
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<RepairResult, Fault> {
        pass.blocking(move |watch| Ok(RepairResult::from(bound.watched(watch).repair(self.read_data)?))).await
    }
}

/// Takes away the leases of processes that are gone, and tells whose they were. Nothing can be lost by it.
///
/// A lease says that somebody is at work; a prune waits for those that seem to live.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unlock {
    /// The repository.
    pub repository: Target<kind::Repository>,
    /// Also those that seem to live. Default: false.
    #[serde(default)]
    pub all: bool,
}

impl Operation for Unlock {
    const NAME: &'static str = "repository.unlock";
    const EFFECT: Effect = Effect::Change;
    const PLACE: Place = method("unlock");
    const TOUCHES: &'static [Touch] = &[touch("repository", "prune", Selector::Argument("repository"))];
    const USAGE: &'static str =
        "for _, lease in backup.repository(\"main\"):unlock() do\n  print(lease.machine, lease.work, lease.since)\nend";

    type Bound = BoundRepository;
    type Output = Vec<LeaseRow>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository(&self.repository, "prune")
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let removed = pass.blocking(move |watch| Ok(bound.watched(watch).unlock(self.all)?)).await?;
        Ok(removed.into_iter().map(LeaseRow::from).collect())
    }
}
