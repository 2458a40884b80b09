//! The tables and their versions.
//!
//! `backups` is in the order of its lists: by machine, the newest first. Each other list has its entries in `words`: under `time`, `tag …`,
//! `state …` and `repository …`, the newest first as well, each with the machine under which the row is found. `sums` and `tags` are
//! kept with every change. What a newer format changes is brought up in [`migrate`], in the transaction in which it is first opened.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use time::OffsetDateTime;

use super::row::{Backup, Sum, decode, encode};

/// The format that this ceso writes.
pub(super) const FORMAT: u64 = 2;

/// The place of a backup in a list: the word that the list is of, the time (the newest first), id and repository.
pub(super) type Place = (&'static str, u64, &'static [u8; 32], u128);

/// Facts about the file: `format`.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// By machine.
pub(super) const BACKUPS: TableDefinition<'_, Place, &[u8]> = TableDefinition::new("backups");
/// From id and repository to machine and time.
pub(super) const IDS: TableDefinition<'_, (&[u8; 32], u128), (&str, u64)> = TableDefinition::new("ids");
/// From the word of a list to the machine.
pub(super) const WORDS: TableDefinition<'_, Place, &str> = TableDefinition::new("words");
/// By machine.
pub(super) const SUMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sums");
/// How many backups bear a tag.
pub(super) const TAGS: TableDefinition<'_, &str, u64> = TableDefinition::new("tags");
/// By name and host.
pub(super) const MACHINES: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("machines");
pub(super) const HOSTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("hosts");
/// By identity and place.
pub(super) const REPOSITORIES: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("repositories");
/// By id, the newest last.
pub(super) const RUNS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("runs");
/// By machine, the newest first.
pub(super) const DRILLS: TableDefinition<'_, (&str, u64, &[u8; 32]), &[u8]> = TableDefinition::new("drills");
/// By template, host and machine.
pub(super) const CHILDREN: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("children");

/// A time as a number that falls as time goes on, so that the newest comes first.
pub(super) fn falling(time: OffsetDateTime) -> u64 {
    let most = i128::from(i64::MAX);
    let nanos = time.unix_timestamp_nanos().clamp(-most, most) as i64;
    u64::MAX - (nanos.cast_unsigned() ^ (1 << 63))
}

/// The words of the lists that a backup stands in.
pub(super) fn words(backup: &Backup) -> Vec<String> {
    let mut words = vec!["time".to_owned(), state(backup.state.name()), repository(backup.repository)];
    words.extend(backup.tags.iter().map(|name| tag(name)));
    words.sort();
    words.dedup();
    words
}

pub(super) fn state(name: &str) -> String {
    format!("state {name}")
}

pub(super) fn tag(name: &str) -> String {
    format!("tag {name}")
}

pub(super) fn repository(id: uuid::Uuid) -> String {
    format!("repository {id}")
}

/// Why a table could not be used.
#[derive(Debug)]
pub(super) enum Trouble {
    Redb(Box<redb::Error>),
    /// Bytes that are not what they were.
    Damage(String),
    Newer(u64),
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

/// Opens every table, so that it is there, and brings those of an older format up to this one. Returns whether anything was written.
pub(super) fn prepare(change: &WriteTransaction) -> Result<bool, Trouble> {
    let found = {
        let meta = change.open_table(META)?;
        meta.get("format")?.map(|format| format.value())
    };
    match found {
        Some(FORMAT) => return Ok(false),
        Some(newer) if newer > FORMAT => return Err(Trouble::Newer(newer)),
        _ => {}
    }
    change.open_table(BACKUPS)?;
    change.open_table(IDS)?;
    change.open_table(WORDS)?;
    change.open_table(SUMS)?;
    change.open_table(TAGS)?;
    change.open_table(MACHINES)?;
    change.open_table(HOSTS)?;
    change.open_table(REPOSITORIES)?;
    change.open_table(RUNS)?;
    change.open_table(DRILLS)?;
    change.open_table(CHILDREN)?;
    if let Some(older) = found {
        migrate(change, older)?;
    }
    change.open_table(META)?.insert("format", FORMAT)?;
    Ok(true)
}

/// Brings the tables of an older format up to this one.
///
/// Format 1 had `backups` and `ids`, and found everything else by reading all rows; format 2 has `words`, `sums` and `tags`.
fn migrate(change: &WriteTransaction, from: u64) -> Result<(), Trouble> {
    if from >= 2 {
        return Ok(());
    }
    let backups = change.open_table(BACKUPS)?;
    let mut lists = Lists::open(change)?;
    for row in backups.iter()? {
        let (_, row) = row?;
        lists.add(&decode(row.value()).map_err(Trouble::Damage)?)?;
    }
    Ok(())
}

/// The tables that follow from `backups`.
pub(super) struct Lists<'t> {
    ids: redb::Table<'t, (&'static [u8; 32], u128), (&'static str, u64)>,
    words: redb::Table<'t, Place, &'static str>,
    sums: redb::Table<'t, &'static str, &'static [u8]>,
    tags: redb::Table<'t, &'static str, u64>,
}

impl<'t> Lists<'t> {
    pub fn open(change: &'t WriteTransaction) -> Result<Self, Trouble> {
        Ok(Self {
            ids: change.open_table(IDS)?,
            words: change.open_table(WORDS)?,
            sums: change.open_table(SUMS)?,
            tags: change.open_table(TAGS)?,
        })
    }

    /// Where a backup lies, if it is known.
    pub fn find(&self, id: &[u8; 32], repository: u128) -> Result<Option<(String, u64)>, Trouble> {
        Ok(self.ids.get((id, repository))?.map(|place| {
            let (machine, time) = place.value();
            (machine.to_owned(), time)
        }))
    }

    /// Adds what follows from a backup that was not there.
    pub fn add(&mut self, backup: &Backup) -> Result<(), Trouble> {
        let (time, repository) = (falling(backup.time), backup.repository.as_u128());
        self.ids.insert((&backup.id.0, repository), (backup.machine.as_str(), time))?;
        for word in words(backup) {
            self.words.insert((word.as_str(), time, &backup.id.0, repository), backup.machine.as_str())?;
        }
        let mut sum = self.sum(&backup.machine)?;
        sum.add(backup);
        self.set_sum(&backup.machine, &sum)?;
        self.count(backup, 1)
    }

    /// Takes out what follows from a backup that is taken out; its machine's sum is left to [`Lists::set_sum`].
    pub fn remove(&mut self, backup: &Backup) -> Result<(), Trouble> {
        let (time, repository) = (falling(backup.time), backup.repository.as_u128());
        self.ids.remove((&backup.id.0, repository))?;
        for word in words(backup) {
            self.words.remove((word.as_str(), time, &backup.id.0, repository))?;
        }
        self.count(backup, -1)
    }

    fn sum(&self, machine: &str) -> Result<Sum, Trouble> {
        match self.sums.get(machine)? {
            Some(sum) => decode(sum.value()).map_err(Trouble::Damage),
            None => Ok(Sum::default()),
        }
    }

    /// Sets what a machine's backups come to; a machine without any has none.
    pub fn set_sum(&mut self, machine: &str, sum: &Sum) -> Result<(), Trouble> {
        if sum.backups == 0 {
            self.sums.remove(machine)?;
        } else {
            self.sums.insert(machine, encode(sum).map_err(Trouble::Damage)?.as_slice())?;
        }
        Ok(())
    }

    fn count(&mut self, backup: &Backup, by: i64) -> Result<(), Trouble> {
        let mut tags: Vec<&String> = backup.tags.iter().collect();
        tags.sort();
        tags.dedup();
        for tag in tags {
            let count = self.tags.get(tag.as_str())?.map_or(0, |count| count.value()).saturating_add_signed(by);
            if count == 0 {
                self.tags.remove(tag.as_str())?;
            } else {
                self.tags.insert(tag.as_str(), count)?;
            }
        }
        Ok(())
    }
}
