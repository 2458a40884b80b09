//! Operations that change repositories: what is kept, what is removed, what is mended.

use schemars::JsonSchema;
use serde::Deserialize;

use super::catalog_rows::row_of;
use super::repository::method;
use super::repository_rows::{ForgetResult, LeaseRow, PruneResult, RepairResult};
use crate::backup::{ForgetPlan, Keep, PruneOptions, RetentionPlan};
use crate::catalog;
use crate::config::Retention;
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::object::{Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::repository::BoundRepository;
use crate::error::Fault;

/// The rules as the engine takes them.
fn keep(rules: &Retention) -> Keep {
    let Retention {
        keep_last,
        keep_hourly,
        keep_daily,
        keep_weekly,
        keep_monthly,
        keep_yearly,
        keep_within,
        keep_tags,
    } = rules;
    Keep {
        last: keep_last.unwrap_or(0),
        hourly: keep_hourly.unwrap_or(0),
        daily: keep_daily.unwrap_or(0),
        weekly: keep_weekly.unwrap_or(0),
        monthly: keep_monthly.unwrap_or(0),
        yearly: keep_yearly.unwrap_or(0),
        within: keep_within.map(|span| span.0),
        tags: keep_tags.clone(),
    }
}

/// Carries out a plan of what goes, and has the catalog know of it.
async fn forgotten(plan: &ForgetPlan, meant: bool, bound: &BoundRepository, pass: &Pass<'_>) -> Result<(), Fault> {
    let (theirs, repository) = (plan.clone(), bound.clone());
    pass.blocking(move |watch| Ok(repository.watched(watch).forget(&theirs, meant)?)).await?;
    pass.note_forgotten(bound.identity(), plan.removed().map(|gone| catalog::Id(gone.id.0)).collect()).await;
    Ok(())
}

/// Removes what no backup needs: marks it first, and deletes what was marked before the grace period. With `retention`, the backups that no
/// rule keeps are forgotten before.
///
/// No backup that stays is lost by it, also beside backups that run, and an interrupted prune is taken up by the next. The rules count for
/// each machine by itself; a failed backup never counts, and a period without a backup does not either. Without `retention` no backup
/// goes, whatever the configuration says: its rules are `repository.retention`. A plan that would forget more than half of all
/// backups, or the last good one of a machine, is refused unless `yes` is set. Errors: `backup.refused`, also where a backup lacks
/// something; `backup.option` where `retention` has no rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prune {
    /// The repository.
    pub repository: Target<kind::Repository>,
    /// Which backups stay; the others are forgotten for good. Default: all stay.
    pub retention: Option<Retention>,
    /// Tell what would be done, and do nothing: this takes no more than reading does. Default: false.
    #[serde(default)]
    pub dry_run: bool,
    /// Delete now, without a grace period: backups that run meanwhile may fail, and those that are there stay. Default: false.
    #[serde(default)]
    pub at_once: bool,
    /// The share of what is stored that may stay although no backup needs it, 0 to 1: less costs more copying. Default: 0.05.
    pub unused: Option<f64>,
    /// Forget also more than half of all backups, and the last good one of a machine. Default: false.
    #[serde(default)]
    pub yes: bool,
}

impl Prune {
    async fn plan(&self, bound: &BoundRepository, pass: &Pass<'_>) -> Result<RetentionPlan, Fault> {
        let usual = PruneOptions::default();
        let options = PruneOptions { unused: self.unused.unwrap_or(usual.unused), at_once: self.at_once, ..usual };
        let (bound, keep) = (bound.clone(), self.retention.as_ref().map(keep));
        pass.blocking(move |watch| Ok(bound.watched(watch).retention_plan(keep.as_ref(), &options)?)).await
    }
}

impl Operation for Prune {
    const NAME: &'static str = "repository.prune";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = method("prune");
    const TOUCHES: &'static [Touch] = &[
        touch("repository", "read", Selector::Argument("repository")),
        touch("repository", "prune", Selector::Meant { argument: "repository", given: None }),
        touch("repository", "destroy", Selector::Meant { argument: "repository", given: Some("retention") }),
    ];
    const USAGE: &'static str = "local repository = backup.repository(\"main\")\nlocal rules: any = repository.retention or { keep_daily = 14, keep_weekly = 8 }\nlocal plan = repository:prune({ retention = rules, dry_run = true })\nprint(#plan.forgotten, #plan.kept, plan.marked, plan.deleted)\nif not plan.doubt then\n  repository:prune({ retention = rules })\nend";

    type Bound = BoundRepository;
    type Output = PruneResult;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        if self.unused.is_some_and(|unused| !(0.0..=1.0).contains(&unused)) {
            return Err(Fault::new("usage.argument", "repository.prune: unused: is not a share")
                .hint("give a number from 0 to 1"));
        }
        let bound = binder.repository(&self.repository, "read")?;
        if self.dry_run {
            return Ok(bound);
        }
        if self.retention.is_some() {
            binder.repository(&self.repository, "destroy")?;
        }
        binder.repository(&self.repository, "prune")
    }

    async fn settled(&self, bound: &BoundRepository, pass: &Pass<'_>) -> Result<Option<PruneResult>, Fault> {
        if !self.dry_run {
            return Ok(None);
        }
        let plan = self.plan(bound, pass).await?;
        Ok(Some(PruneResult::of(&plan, None)))
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<PruneResult, Fault> {
        let identity = bound.identity();
        let RetentionPlan { forget, prune } = self.plan(&bound, pass).await?;
        if let Some(plan) = &forget {
            forgotten(plan, self.yes, &bound, pass).await?;
        }
        let (plan, report, finished) = pass
            .blocking(move |watch| {
                let repository = bound.watched(watch);
                let report = repository.prune(&prune)?;
                // Backups that were whole and only not yet visible.
                let rows = report.finished.iter().filter_map(|id| repository.backup(&id.to_string()).ok());
                let rows: Vec<_> = rows.map(|(id, manifest)| row_of(id, &manifest, identity)).collect();
                Ok((RetentionPlan { forget, prune }, report, rows))
            })
            .await?;
        if !finished.is_empty() {
            pass.note_backups(finished).await;
        }
        Ok(PruneResult::of(&plan, Some(&report)))
    }
}

/// Forgets backups for good: those that no rule keeps, or those that are named. Their bytes go with the next prunes; `repository:prune`
/// does both.
///
/// The rules count for each machine by itself. A failed backup never counts, and a period without a backup does not either. A plan
/// that would forget more than half of all backups, or the last good one of a machine, is refused unless `yes` is set. Errors:
/// `backup.refused`, `backup.option` where no rule says what is kept, `backup.missing`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    /// The repository.
    pub repository: Target<kind::Repository>,
    /// Which backups stay. Needed where no `ids` are given.
    pub retention: Option<Retention>,
    /// The backups that go, by their ids or the first 8 or more digits of them: also one whose own file is damaged.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Tell what would be forgotten, and do nothing: this takes no more than reading does. Default: false.
    #[serde(default)]
    pub dry_run: bool,
    /// Forget also more than half of all backups, and the last good one of a machine. Default: false.
    #[serde(default)]
    pub yes: bool,
}

impl Forget {
    async fn plan(&self, bound: &BoundRepository, pass: &Pass<'_>) -> Result<ForgetPlan, Fault> {
        let (bound, keep, ids) = (bound.clone(), self.retention.as_ref().map(keep), self.ids.clone());
        pass.blocking(move |watch| {
            let repository = bound.watched(watch);
            Ok(match keep {
                Some(keep) => repository.forget_plan(&keep)?,
                None => repository.forget_plan_of(&ids)?,
            })
        })
        .await
    }
}

impl Operation for Forget {
    const NAME: &'static str = "repository.forget";
    const EFFECT: Effect = Effect::Destroy;
    const PLACE: Place = method("forget");
    const TOUCHES: &'static [Touch] = &[
        touch("repository", "read", Selector::Argument("repository")),
        touch("repository", "destroy", Selector::Meant { argument: "repository", given: None }),
    ];
    const USAGE: &'static str = "local repository = backup.repository(\"main\")\nlocal plan = repository:forget({ retention = { keep_last = 7, keep_weekly = 8 }, dry_run = true })\nfor _, backup in plan.forgotten do\n  print(backup.vm, backup.time)\nend";

    type Bound = BoundRepository;
    type Output = ForgetResult;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        if self.retention.is_some() != self.ids.is_empty() {
            return Err(Fault::new("usage.argument", "repository.forget: takes either retention or ids")
                .hint("retention says what stays, ids say what goes"));
        }
        let bound = binder.repository(&self.repository, "read")?;
        if self.dry_run { Ok(bound) } else { binder.repository(&self.repository, "destroy") }
    }

    async fn settled(&self, bound: &BoundRepository, pass: &Pass<'_>) -> Result<Option<ForgetResult>, Fault> {
        if !self.dry_run {
            return Ok(None);
        }
        Ok(Some(ForgetResult::of(&self.plan(bound, pass).await?)))
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<ForgetResult, Fault> {
        let plan = self.plan(&bound, pass).await?;
        forgotten(&plan, self.yes, &bound, pass).await?;
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
