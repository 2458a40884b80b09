//! Which backup a person means: one by its id, or the latest.

use super::error::{Error, Result};
use super::forget::{counts, latest};
use super::id::Id;
use super::manifest::Manifest;
use super::repository::Repository;

/// The word for the newest backup that is good for a rule of retention.
const LATEST: &str = "latest";

/// Which backups the latest is looked for among.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Among {
    /// Only those of this machine.
    pub group: Option<String>,
    /// Only those with this tag.
    pub tag: Option<String>,
}

impl Among {
    fn has(&self, backup: &Manifest) -> bool {
        self.group.as_ref().is_none_or(|group| *group == backup.group)
            && self.tag.as_ref().is_none_or(|tag| backup.tags.contains(tag))
    }
}

impl std::fmt::Display for Among {
    /// " of web-1 with the tag monthly", or nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(group) = &self.group {
            write!(f, " of {group:?}")?;
        }
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, " with the tag {tag:?}"))
    }
}

impl Repository {
    /// The backup of an id, or of the first eight or more digits of one; by `latest` the newest that is complete, holds something, and is not
    /// later than the repository's own clock allows. Of several machines it is the newest of all.
    ///
    /// Errors: `Missing`; `Option` where the id is none, names several, or is that of a backup that is not among those.
    pub fn chosen(&self, text: &str, among: &Among) -> Result<(Id, Manifest)> {
        if text != LATEST {
            let (id, backup) = self.backup(text)?;
            if among.has(&backup) {
                return Ok((id, backup));
            }
            return Err(Error::Option(format!("the backup {} of {:?} is none{among}", id.short(), backup.group)));
        }
        let (backups, damaged) = self.backups_and_damaged()?;
        if let Some((id, _)) = damaged.first() {
            let place = self.target().place();
            tracing::warn!(
                "{place}: of {} backups, such as {}, it is not known how new they are: their files are damaged",
                damaged.len(),
                id.short()
            );
        }
        let until = latest(self.time()?);
        let newest = backups.into_iter().rev().find(|(_, backup)| counts(backup, until) && among.has(backup));
        newest.ok_or_else(|| Error::Missing(format!("a complete backup{among}")))
    }
}

#[cfg(test)]
mod tests {
    use time::{Duration, OffsetDateTime};

    use super::super::tests::{CHUNK, Form, TestDisk, init, options, place};
    use super::super::{BackupOptions, State};
    use super::*;
    use crate::backup::target::FolderTarget;

    #[test]
    fn the_latest_is_complete_holds_something_and_is_of_a_time_that_can_be() {
        let (_folder, path) = place();
        let repository = init(std::sync::Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
        let now = OffsetDateTime::now_utc();
        let made = |group: &str, hours_ago: i64, state: State, tag: &str, disks: usize| {
            let time = now - Duration::hours(hours_ago);
            let tags = vec![tag.to_owned()];
            let options = BackupOptions { group: group.to_owned(), time, state, tags, ..options() };
            let mut session = repository.begin(options).unwrap();
            for disk in 0..disks {
                session.disk(&format!("disk-{disk}"), &TestDisk::new(CHUNK as u64, [(0, 7)]), None).unwrap();
            }
            session.finish().unwrap().id
        };
        let missing = repository.chosen("latest", &Among::default()).unwrap_err();
        assert!(missing.is_missing(), "{missing}");
        let old = made("web-1", 9, State::Complete, "monthly", 1);
        let web = made("web-1", 5, State::Complete, "daily", 1);
        let other = made("db-1", 3, State::Complete, "daily", 1);
        made("web-1", 2, State::Failed, "daily", 1);
        made("web-1", 1, State::Complete, "daily", 0);
        made("web-1", -100, State::Complete, "daily", 1);
        let latest = |group: Option<&str>, tag: Option<&str>| {
            let among = Among { group: group.map(str::to_owned), tag: tag.map(str::to_owned) };
            repository.chosen("latest", &among).map(|(id, _)| id)
        };
        assert_eq!(latest(None, None).unwrap(), other);
        assert_eq!(latest(Some("web-1"), None).unwrap(), web);
        assert_eq!(latest(Some("web-1"), Some("monthly")).unwrap(), old);
        assert_eq!(latest(None, Some("monthly")).unwrap(), old);
        let none = latest(Some("db-1"), Some("monthly")).unwrap_err();
        assert!(none.is_missing() && none.to_string().contains("db-1"), "{none}");
        // An id is that backup, or an error: no filter makes it another.
        let of_db = Among { group: Some("db-1".to_owned()), tag: None };
        assert_eq!(repository.chosen(&other.short(), &of_db).unwrap().0, other);
        assert!(matches!(repository.chosen(&web.short(), &of_db), Err(Error::Option(_))));
        // A file that cannot be read hides no other.
        std::fs::write(path.join(format!("manifests/{other}")), b"nonsense").unwrap();
        assert_eq!(latest(None, None).unwrap(), web);
    }
}
