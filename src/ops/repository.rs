//! Operations that read repositories of backups: opening one, its backups, a check, what it holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::repository_rows::{BackupRow, CheckResult, RepositoryStats};
use crate::backup::{Depth, State, Stats};
use crate::config::Retention;
use crate::door::Pass;
use crate::door::bind::Binder;
use crate::door::object::{Fields, Given, Target, kind};
use crate::door::operation::{Effect, Operation, Place, Selector, Touch, touch};
use crate::door::repository::BoundRepository;
use crate::error::Fault;
use crate::units::{Bytes, Span};

pub(super) const fn method(name: &'static str) -> Place {
    Place::Method { kind: "repository", name }
}

/// Opens a repository of the configuration by its name, and gives its handle.
///
/// Its passphrase or key is read by ceso and never seen by the script. Errors: `usage.unknown_repository`, `backup.key`,
/// `backup.not_a_repository`, `backup.target`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// Its name under `repositories` in the configuration.
    pub name: String,
}

/// What a repository tells of itself.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RepositoryFields {
    /// Its own identity, a UUID: the same wherever it is copied to or found.
    pub id: String,
    /// Where it is kept.
    pub place: String,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The length of a chunk.
    pub chunk_size: Bytes,
    /// How long what no backup needs is kept after it was marked.
    pub grace: Span,
    /// The rules of the configuration about which backups are kept; nil where it has none. `repository:prune({ retention =
    /// repository.retention })` follows them.
    pub retention: Option<Retention>,
}

impl Fields for RepositoryFields {
    type Kind = kind::Repository;
}

impl RepositoryFields {
    pub(super) fn of(repository: &crate::backup::Repository, retention: Option<&Retention>) -> Self {
        let config = repository.config();
        Self {
            id: config.id.clone(),
            place: repository.target().place(),
            encrypted: config.encrypted,
            chunk_size: Bytes(u64::from(config.chunk_size)),
            grace: Span(std::time::Duration::from_secs(config.grace_seconds)),
            retention: retention.cloned(),
        }
    }
}

impl Operation for Open {
    const NAME: &'static str = "repository.open";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = Place::Function { binding: "backup", name: "repository" };
    const POSITIONAL: &'static [&'static str] = &["name"];
    const TOUCHES: &'static [Touch] = &[touch("repository", "read", Selector::Argument("name"))];
    const USAGE: &'static str =
        "local repository = backup.repository(\"main\")\nprint(repository.place, repository.encrypted)";

    type Bound = BoundRepository;
    type Output = Given<kind::Repository>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository_named(&self.name, "read").await
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let fields = RepositoryFields::of(bound.open(), bound.retention());
        pass.give_repository(&bound, &fields)
    }
}

/// Lists the backups of a repository, the newest first.
///
/// Every file that makes a backup visible is read: of a repository with many, `catalog.backups` tells the same in a moment.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backups {
    /// The repository.
    pub repository: Target<kind::Repository>,
    /// Only those of this machine: the name that retention counts by.
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
    /// The most that are given. Default: all.
    pub limit: Option<u32>,
}

/// Whether a backup holds all that it was meant to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupState {
    Complete,
    Failed,
}

impl From<BackupState> for State {
    fn from(state: BackupState) -> Self {
        match state {
            BackupState::Complete => Self::Complete,
            BackupState::Failed => Self::Failed,
        }
    }
}

impl JsonSchema for BackupState {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BackupState".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "enum": ["complete", "failed"] })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A moment: a time in RFC 3339, or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When(pub OffsetDateTime);

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        use time::format_description::well_known::Rfc3339;
        let text = text.trim();
        if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
            return Ok(Self(time));
        }
        if let Ok(time) = OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339) {
            return Ok(Self(time));
        }
        let ago = text
            .parse::<Span>()
            .ok()
            .and_then(|span| OffsetDateTime::now_utc().checked_sub(time::Duration::try_from(span.0).ok()?));
        ago.map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(60).collect();
            format!("{shown:?} is no time: write 2026-05-01, 2026-05-01T02:00:00Z, or how long ago it was, such as \"7 days\"")
        })
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for When {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "When".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }

    fn inline_schema() -> bool {
        true
    }
}

impl Operation for Backups {
    const NAME: &'static str = "repository.backups";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("backups");
    const TOUCHES: &'static [Touch] = &[touch("repository", "read", Selector::Argument("repository"))];
    const USAGE: &'static str = "local repository = backup.repository(\"main\")\nfor _, backup in repository:backups({ vm = \"web-1\", since = \"7 days\", state = \"complete\" }) do\n  print(backup.id, backup.time, backup.size)\nend";

    type Bound = BoundRepository;
    type Output = Vec<BackupRow>;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository(&self.repository, "read")
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<Self::Output, Fault> {
        let state = self.state.map(State::from);
        pass.blocking(move |watch| {
            let (mut found, mut damaged) = bound.watched(watch).backups_and_damaged()?;
            // What is damaged does not say what it was, so only who asks for all sees it.
            if self.vm.is_some()
                || self.since.is_some()
                || self.before.is_some()
                || state.is_some()
                || self.tag.is_some()
            {
                damaged.clear();
            }
            found.retain(|(_, backup)| {
                self.vm.as_ref().is_none_or(|vm| *vm == backup.group)
                    && self.since.is_none_or(|since| backup.time >= since.0)
                    && self.before.is_none_or(|before| backup.time < before.0)
                    && state.is_none_or(|state| backup.state == state)
                    && self.tag.as_ref().is_none_or(|tag| backup.tags.contains(tag))
            });
            let most = self.limit.map_or(usize::MAX, |limit| limit as usize);
            let damaged = damaged.into_iter().map(|(id, _)| BackupRow::damaged(id));
            let readable = found.into_iter().rev().map(|(id, manifest)| BackupRow::of(id, &manifest));
            Ok(damaged.chain(readable).take(most).collect())
        })
        .await
    }
}

/// Checks that every backup of a repository can be restored. Nothing is changed.
///
/// What is damaged is a part of the result and no error: `clean` tells whether there is anything. Errors: what keeps the check from being
/// made, such as a place that goes away.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The repository.
    pub repository: Target<kind::Repository>,
    /// Also read and verify every byte. Default: false.
    #[serde(default)]
    pub read_data: bool,
    /// Read and verify one part of so many: `1/7` on the first day of a week, `2/7` on the second.
    pub subset: Option<String>,
}

impl Check {
    fn depth(&self) -> Result<Depth, Fault> {
        let Some(text) = &self.subset else {
            return Ok(if self.read_data { Depth::ReadData } else { Depth::Structure });
        };
        let parts = text.split_once('/').and_then(|(part, of)| Some((part.parse().ok()?, of.parse().ok()?)));
        match parts.filter(|(part, of)| (1..=*of).contains(part)) {
            Some((part, of)) => Ok(Depth::Subset { part, of }),
            None => {
                let shown: String = text.chars().take(40).collect();
                Err(Fault::new("usage.argument", format!("repository.check: subset: {shown:?} is no part of a number"))
                    .hint("write a part and a number of parts: \"1/7\""))
            }
        }
    }
}

impl Operation for Check {
    const NAME: &'static str = "repository.check";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("check");
    const TOUCHES: &'static [Touch] = &[touch("repository", "read", Selector::Argument("repository"))];
    const USAGE: &'static str = "local report = backup.repository(\"main\"):check({ read_data = true })\nassert(report.clean, report.problems[1])\nprint(report.backups, report.read)";

    type Bound = (BoundRepository, Depth);
    type Output = CheckResult;

    async fn bind(&self, binder: &Binder<'_>) -> Result<Self::Bound, Fault> {
        Ok((binder.repository(&self.repository, "read")?, self.depth()?))
    }

    async fn act(self, (bound, depth): Self::Bound, pass: &Pass<'_>) -> Result<CheckResult, Fault> {
        pass.blocking(move |watch| Ok(CheckResult::from(bound.watched(watch).check(depth)?))).await
    }
}

/// Adds up what a repository holds, and what was saved by leaving out zeros, by sharing and by compressing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetStats {
    /// The repository.
    pub repository: Target<kind::Repository>,
}

impl Operation for GetStats {
    const NAME: &'static str = "repository.stats";
    const EFFECT: Effect = Effect::Read;
    const PLACE: Place = method("stats");
    const TOUCHES: &'static [Touch] = &[touch("repository", "read", Selector::Argument("repository"))];
    const USAGE: &'static str =
        "local stats = backup.repository(\"main\"):stats()\nprint(stats.backups, stats.logical, stats.stored)";

    type Bound = BoundRepository;
    type Output = RepositoryStats;

    async fn bind(&self, binder: &Binder<'_>) -> Result<BoundRepository, Fault> {
        binder.repository(&self.repository, "read")
    }

    async fn act(self, bound: BoundRepository, pass: &Pass<'_>) -> Result<RepositoryStats, Fault> {
        let stats: Stats = pass.blocking(move |watch| Ok(bound.watched(watch).stats()?)).await?;
        Ok(RepositoryStats::from(stats))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_a_day_or_how_long_ago() {
        let at = |text: &str| text.parse::<When>().map(|when| when.0.unix_timestamp());
        assert_eq!(at("1970-01-02"), Ok(86_400));
        assert_eq!(at("1970-01-01T01:00:00+01:00"), Ok(0));
        let ago = OffsetDateTime::now_utc().unix_timestamp() - at("7 days").unwrap();
        assert!((604_800..604_900).contains(&ago), "{ago}");
        for wrong in ["", "yesterday", "2026-13-01", "-1 day", "99999999999 years", &"9".repeat(400)] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }
}
