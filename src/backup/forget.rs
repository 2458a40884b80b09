//! Retention: which backups stay. A plan is a value, made without looking at a clock, and then carried out as it was printed.
//!
//! The times of backups are claims of the machines that made them. What counts is a backup that is complete, holds something, and is not
//! later than the repository's own clock allows: no other backup takes a place that keeps a good one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use time::OffsetDateTime;

use super::error::{Error, Result};
use super::id::Id;
use super::manifest::{self, Manifest, State};
use super::prune::{PruneOptions, PrunePlan};
use super::repository::Repository;

/// What is kept of each group. A period without a complete backup does not count.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keep {
    /// The newest so many.
    pub last: u32,
    /// The newest of each of so many hours, days, weeks (from Monday), months, years, in UTC.
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    /// All that are at most so much older than the newest that counts.
    pub within: Option<Duration>,
    /// All that bear one of these tags.
    pub tags: Vec<String>,
}

/// What happens to a backup, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    pub id: Id,
    pub group: String,
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// Whether it holds all that it was meant to.
    pub complete: bool,
    /// Whether it is good for a rule: complete, with a disk or a file, and of a time that can be.
    pub counts: bool,
    /// Why it stays; nothing where it goes.
    pub kept_for: Vec<&'static str>,
}

/// What a forget will do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ForgetPlan {
    /// All backups: groups by name, the newest first.
    pub decisions: Vec<Decision>,
}

impl ForgetPlan {
    pub fn removed(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().filter(|decision| decision.kept_for.is_empty())
    }

    /// The groups that have good backups and would have none.
    fn emptied(&self) -> Vec<&str> {
        let mut left: BTreeMap<&str, bool> = BTreeMap::new();
        for decision in self.decisions.iter().filter(|decision| decision.counts) {
            *left.entry(&decision.group).or_default() |= !decision.kept_for.is_empty();
        }
        left.into_iter().filter(|(_, kept)| !kept).map(|(group, _)| group).collect()
    }

    /// Why the plan wants to be said twice: more than half of all backups would go, or of the good ones, or the last good one of a group.
    pub fn doubt(&self) -> Option<String> {
        let many = |gone: usize, all: usize| gone as f64 / all.max(1) as f64 > MOST;
        let (gone, all) = (self.removed().count(), self.decisions.len());
        if many(gone, all) {
            return Some(format!("the plan would forget {gone} of {all} backups"));
        }
        // Others beside them do not make them fewer.
        let gone = self.removed().filter(|decision| decision.counts).count();
        let all = self.decisions.iter().filter(|decision| decision.counts).count();
        if many(gone, all) {
            return Some(format!("the plan would forget {gone} of {all} good backups"));
        }
        let emptied = self.emptied();
        let first = emptied.first()?;
        let more = if emptied.len() > 1 { format!(" and {} others", emptied.len() - 1) } else { String::new() };
        Some(format!("the plan would leave {first:?}{more} without any good backup"))
    }
}

/// Backups that go and then what only they needed, as one plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RetentionPlan {
    /// Nothing goes where there is no rule.
    pub forget: Option<ForgetPlan>,
    pub prune: PrunePlan,
}

/// The share of all backups that goes without being said twice.
const MOST: f64 = 0.5;

/// How much later than the repository's clock a backup may be: clocks that are set by hand differ by minutes. One that is later was made
/// under a wrong clock, or is a lie: it would be the newest of its group for years.
const AHEAD: Duration = Duration::from_secs(60 * 60);

/// The number of a period of a time; a larger one is later.
type Period = fn(OffsetDateTime) -> i64;

fn hour(time: OffsetDateTime) -> i64 {
    time.unix_timestamp().div_euclid(3600)
}

fn day(time: OffsetDateTime) -> i64 {
    i64::from(time.to_julian_day())
}

fn week(time: OffsetDateTime) -> i64 {
    // Julian day 0 was a Monday.
    day(time).div_euclid(7)
}

fn month(time: OffsetDateTime) -> i64 {
    i64::from(time.year()) * 12 + i64::from(u8::from(time.month()))
}

fn year(time: OffsetDateTime) -> i64 {
    i64::from(time.year())
}

/// The latest time that a backup can be of.
pub(super) fn latest(now: OffsetDateTime) -> OffsetDateTime {
    now.checked_add(AHEAD.try_into().unwrap_or_default()).unwrap_or(now)
}

fn holds(backup: &Manifest) -> bool {
    !(backup.disks.is_empty() && backup.files.is_empty())
}

pub(super) fn counts(backup: &Manifest, latest: OffsetDateTime) -> bool {
    backup.state == State::Complete && holds(backup) && backup.time <= latest
}

/// Plans what stays of some backups.
///
/// A failed backup never counts and goes, unless it bears a kept tag or is newer than the group's newest that counts. One that is complete and
/// has neither disks nor files never counts either, and goes. One that is more than an hour later than `now` stays and does not count, as long as it is that.
pub fn plan(backups: &[(Id, Manifest)], keep: &Keep, now: OffsetDateTime) -> ForgetPlan {
    let latest = latest(now);
    let mut groups: BTreeMap<&str, Vec<&(Id, Manifest)>> = BTreeMap::new();
    for backup in backups {
        groups.entry(&backup.1.group).or_default().push(backup);
    }
    let mut decisions = Vec::with_capacity(backups.len());
    for (group, mut backups) in groups {
        backups.sort_by(|(one_id, one), (other_id, other)| other.time.cmp(&one.time).then(one_id.cmp(other_id)));
        let newest = backups.iter().find(|(_, backup)| counts(backup, latest)).map(|(_, backup)| backup.time);
        let rules: [(&'static str, u32, Option<Period>); 6] = [
            ("last", keep.last, None),
            ("hourly", keep.hourly, Some(hour)),
            ("daily", keep.daily, Some(day)),
            ("weekly", keep.weekly, Some(week)),
            ("monthly", keep.monthly, Some(month)),
            ("yearly", keep.yearly, Some(year)),
        ];
        let mut seen: [(u32, BTreeSet<i64>); 6] = Default::default();
        for (id, backup) in backups {
            let mut kept_for = Vec::new();
            // A time that UTC cannot tell is ahead of every clock.
            let time = backup.time.checked_to_offset(time::UtcOffset::UTC).unwrap_or(backup.time);
            if counts(backup, latest) {
                for ((name, most, period), (count, periods)) in rules.iter().zip(&mut seen) {
                    let first = period.is_none_or(|period| periods.insert(period(time)));
                    if first && *count < *most {
                        *count += 1;
                        kept_for.push(*name);
                    }
                }
                if let (Some(within), Some(newest)) = (keep.within, newest)
                    && (newest - backup.time).unsigned_abs() <= within
                {
                    kept_for.push("within");
                }
            } else if backup.time > latest {
                if holds(backup) {
                    kept_for.push("ahead of the repository's clock");
                }
            } else if backup.state == State::Failed && newest.is_none_or(|newest| backup.time > newest) {
                kept_for.push("the newest, failed");
            }
            if backup.tags.iter().any(|tag| keep.tags.contains(tag)) {
                kept_for.push("tag");
            }
            decisions.push(Decision {
                id: *id,
                group: group.to_owned(),
                time: backup.time,
                complete: backup.state == State::Complete,
                counts: counts(backup, latest),
                kept_for,
            });
        }
    }
    ForgetPlan { decisions }
}

impl Repository {
    /// Plans what stays of the repository's backups.
    ///
    /// Errors: `Option` where there is no rule.
    pub fn forget_plan(&self, keep: &Keep) -> Result<ForgetPlan> {
        if *keep == Keep::default() {
            return Err(Error::Option("no rule says what is kept".to_owned()));
        }
        Ok(plan(&self.backups()?, keep, self.time()?))
    }

    /// Plans to forget these backups, by their ids or the first eight or more digits of them, also those whose own files are damaged.
    ///
    /// Errors: `Missing`; `Option` where an id names several.
    pub fn forget_plan_of(&self, ids: &[String]) -> Result<ForgetPlan> {
        let ids: BTreeSet<Id> = ids.iter().map(|id| self.backup_id(id)).collect::<Result<_>>()?;
        let (backups, damaged) = self.backups_and_damaged()?;
        let latest = latest(self.time()?);
        let readable = backups.into_iter().map(|(id, backup)| Decision {
            id,
            counts: counts(&backup, latest),
            group: backup.group,
            time: backup.time,
            complete: backup.state == State::Complete,
            kept_for: if ids.contains(&id) { Vec::new() } else { vec!["not named"] },
        });
        let mut decisions: Vec<Decision> = readable.collect();
        let unreadable = damaged.into_iter().filter(|(id, _)| ids.contains(id));
        decisions.extend(unreadable.map(|(id, _)| Decision {
            id,
            group: String::new(),
            time: OffsetDateTime::UNIX_EPOCH,
            complete: false,
            counts: false,
            kept_for: Vec::new(),
        }));
        if let Some(id) = ids.iter().find(|id| decisions.iter().all(|decision| decision.id != **id)) {
            return Err(Error::Missing(format!("the backup {id}")));
        }
        Ok(ForgetPlan { decisions })
    }

    /// The time by the repository's own clock. By one that tells no time, every backup is ahead, and stays.
    pub(super) fn time(&self) -> Result<OffsetDateTime> {
        let now = self.target().now()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).ok().and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok());
        Ok(now.unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// Carries out a plan. Returns how many backups were forgotten; their bytes go with the next prunes.
    ///
    /// Errors: `Refused` where more than half of all backups would go, or the last good one of a group, and that is not said to be meant;
    /// nothing was done then.
    pub fn forget(&self, plan: &ForgetPlan, meant: bool) -> Result<u64> {
        if let Some(doubt) = plan.doubt().filter(|_| !meant) {
            return Err(Error::Refused(doubt));
        }
        let names: Vec<String> = plan.removed().map(|decision| manifest::name(decision.id)).collect();
        self.target().delete(&names)?;
        Ok(names.len() as u64)
    }

    /// Plans which backups go, where there are rules, and a prune as it is without them.
    ///
    /// Errors: those of [`Repository::forget_plan`] and [`Repository::prune_plan`].
    pub fn retention_plan(&self, keep: Option<&Keep>, options: &PruneOptions) -> Result<RetentionPlan> {
        let forget = keep.map(|keep| self.forget_plan(keep)).transpose()?;
        let without = forget.iter().flat_map(ForgetPlan::removed).map(|decision| decision.id).collect();
        let prune = self.prune_plan(&PruneOptions { without, ..options.clone() })?;
        Ok(RetentionPlan { forget, prune })
    }
}

#[cfg(test)]
#[path = "tests/retention.rs"]
mod tests;
