//! Reading: lists of backups page by page, a machine's history, and what else is known.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use serde::Serialize;
use time::OffsetDateTime;

use super::error::{Error, Result};
use super::file::Catalog;
use super::row::{Backup, Child, Drill, Host, Id, Machine, Repository, Run, State, Sum, decode};
use super::tables::{
    self, BACKUPS, CHILDREN, DRILLS, HOSTS, IDS, MACHINES, REPOSITORIES, RUNS, SUMS, TAGS, Trouble, WORDS, falling,
};

/// The most rows of one page.
pub const MOST: usize = 10_000;

/// Which backups are wanted. They come the newest first.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    pub machine: Option<String>,
    /// Begun at or after this.
    pub since: Option<OffsetDateTime>,
    /// Begun before this.
    pub until: Option<OffsetDateTime>,
    pub state: Option<State>,
    pub tag: Option<String>,
    pub repository: Option<uuid::Uuid>,
    /// The most rows of the page, 1 to [`MOST`].
    pub limit: usize,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// A page of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// Where the next page begins; none behind the last.
    pub cursor: Option<String>,
}

/// What is known of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub name: String,
    /// Where runs have seen it, the host seen last first.
    pub seen: Vec<Machine>,
    /// What its backups come to.
    pub sum: Sum,
    /// Its newest backup that holds all that it was meant to.
    pub newest: Option<Backup>,
    /// Its oldest backup.
    pub oldest: Option<Backup>,
    /// The tries whether its backups can be used, the newest first.
    pub drills: Vec<Drill>,
}

/// The place of a row in a list, as its cursor tells it.
struct Cursor {
    time: u64,
    id: [u8; 32],
    repository: u128,
}

impl Cursor {
    fn of(backup: &Backup) -> String {
        format!("{:016x}{}{:032x}", falling(backup.time), backup.id, backup.repository.as_u128())
    }

    fn read(text: &str) -> Result<Self> {
        let wrong = || Error::Cursor(text.chars().take(120).collect());
        let part =
            |from: usize, to: usize| text.get(from..to).filter(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
        if text.len() != 16 + 64 + 32 {
            return Err(wrong());
        }
        let time = part(0, 16).and_then(|part| u64::from_str_radix(part, 16).ok()).ok_or_else(wrong)?;
        let id: Id = part(16, 80).and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
        let repository = part(80, 112).and_then(|part| u128::from_str_radix(part, 16).ok()).ok_or_else(wrong)?;
        Ok(Self { time, id: id.0, repository })
    }
}

impl Wanted {
    fn fits(&self, backup: &Backup) -> bool {
        self.state.is_none_or(|state| state == backup.state)
            && self.tag.as_ref().is_none_or(|tag| backup.tags.contains(tag))
            && self.repository.is_none_or(|repository| repository == backup.repository)
    }

    /// The word of the shortest list that holds all that is wanted.
    fn word(&self) -> String {
        match (&self.tag, self.state, self.repository) {
            (Some(tag), ..) => tables::tag(tag),
            (None, Some(State::Failed), _) => tables::state(State::Failed.name()),
            (None, _, Some(repository)) => tables::repository(repository),
            _ => "time".to_owned(),
        }
    }
}

impl Catalog {
    /// A page of backups: of machines that `visible` lets be seen.
    ///
    /// Errors: `Cursor`.
    pub fn backups(&self, wanted: &Wanted, visible: &dyn Fn(&str) -> bool) -> Result<Page<Backup>> {
        let cursor = wanted.cursor.as_deref().map(Cursor::read).transpose()?;
        if wanted.machine.as_deref().is_some_and(|machine| !visible(machine)) {
            return Ok(Page { rows: Vec::new(), cursor: None });
        }
        self.read(|reading| backups(reading, wanted, cursor, visible))
    }

    /// The backups whose id begins with these digits, of all repositories.
    pub fn backup(&self, digits: &str, visible: &dyn Fn(&str) -> bool) -> Result<Vec<Backup>> {
        let widths = (digits.len() <= 64).then(|| (format!("{digits:0<64}"), format!("{digits:f<64}")));
        let Some((Ok(from), Ok(to))) = widths.map(|(from, to)| (from.parse::<Id>(), to.parse::<Id>())) else {
            return Ok(Vec::new());
        };
        self.read(|reading| {
            let (ids, rows) = (reading.open_table(IDS)?, reading.open_table(BACKUPS)?);
            let mut found = Vec::new();
            for entry in ids.range((&from.0, 0)..=(&to.0, u128::MAX))? {
                let (key, place) = entry?;
                let ((id, repository), (machine, time)) = (key.value(), place.value());
                if visible(machine) {
                    found.push(row(&rows, (machine, time, id, repository))?);
                }
                if found.len() >= MOST {
                    break;
                }
            }
            Ok(found)
        })
    }

    /// What is known of a machine; nothing where it was never seen and has no backup.
    pub fn machine(&self, name: &str) -> Result<Option<Known>> {
        self.read(|reading| {
            let known = known(reading, name)?;
            Ok(Some(known).filter(|known| known.sum.backups > 0 || !known.seen.is_empty()))
        })
    }

    /// A page of machines in the order of their names: those seen and those with backups. The cursor is a name.
    pub fn machines(&self, limit: usize, cursor: Option<&str>, visible: &dyn Fn(&str) -> bool) -> Result<Page<Known>> {
        let limit = limit.clamp(1, MOST);
        self.read(|reading| {
            let (sums, seen) = (reading.open_table(SUMS)?, reading.open_table(MACHINES)?);
            let mut after = cursor.map(str::to_owned);
            let mut rows: Vec<Known> = Vec::new();
            loop {
                let next = {
                    let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                    let sum = sums.range::<&str>((from, Bound::Unbounded))?.next().transpose()?;
                    let behind = after.as_ref().map(|after| format!("{after}\0"));
                    let from = behind.as_deref().map_or(Bound::Unbounded, |name| Bound::Included((name, "")));
                    let machine = seen.range::<(&str, &str)>((from, Bound::Unbounded))?.next().transpose()?;
                    let sum = sum.map(|(name, _)| name.value().to_owned());
                    let machine = machine.map(|(key, _)| key.value().0.to_owned());
                    match (sum, machine) {
                        (Some(sum), Some(machine)) => Some(sum.min(machine)),
                        (sum, machine) => sum.or(machine),
                    }
                };
                let Some(name) = next else { return Ok(Page { rows, cursor: None }) };
                if visible(&name) {
                    if rows.len() == limit {
                        let cursor = rows.last().map(|last| last.name.clone());
                        return Ok(Page { rows, cursor });
                    }
                    rows.push(known(reading, &name)?);
                }
                after = Some(name);
            }
        })
    }

    /// The hosts that were spoken with, by name.
    pub fn hosts(&self) -> Result<Vec<Host>> {
        self.read(|reading| {
            let hosts = reading.open_table(HOSTS)?;
            hosts.iter()?.map(|row| decode(row?.1.value()).map_err(Trouble::Damage)).collect()
        })
    }

    /// The host of that name, where a run has spoken with it.
    pub fn host(&self, name: &str) -> Result<Option<Host>> {
        self.read(|reading| {
            let hosts = reading.open_table(HOSTS)?;
            let row = hosts.get(name)?;
            row.map(|row| decode(row.value()).map_err(Trouble::Damage)).transpose()
        })
    }

    /// The repositories that were opened, by name, each with the number of its backups.
    pub fn repositories(&self) -> Result<Vec<(Repository, u64)>> {
        self.read(|reading| {
            let (repositories, words) = (reading.open_table(REPOSITORIES)?, reading.open_table(WORDS)?);
            let mut found = Vec::new();
            for row in repositories.iter()? {
                let repository: Repository = decode(row?.1.value()).map_err(Trouble::Damage)?;
                let word = tables::repository(repository.id);
                let count = words.range(whole(&word))?.count() as u64;
                found.push((repository, count));
            }
            found.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
            Ok(found)
        })
    }

    /// A page of runs, the newest first. The cursor is a run's id.
    pub fn runs(&self, limit: usize, cursor: Option<&str>) -> Result<Page<Run>> {
        let limit = limit.clamp(1, MOST);
        self.read(|reading| {
            let runs = reading.open_table(RUNS)?;
            let to = cursor.map_or(Bound::Unbounded, Bound::Excluded);
            let mut rows: Vec<Run> = Vec::new();
            for row in runs.range::<&str>((Bound::Unbounded, to))?.rev() {
                if rows.len() == limit {
                    let cursor = rows.last().map(|last| last.id.clone());
                    return Ok(Page { rows, cursor });
                }
                rows.push(decode(row?.1.value()).map_err(Trouble::Damage)?);
            }
            Ok(Page { rows, cursor: None })
        })
    }

    /// The machines that were cloned from a template, or from any.
    pub fn children(&self, template: Option<&str>, visible: &dyn Fn(&str) -> bool) -> Result<Vec<Child>> {
        self.read(|reading| {
            let children = reading.open_table(CHILDREN)?;
            let behind = template.map(|template| format!("{template}\0"));
            let range: (Bound<(&str, &str, &str)>, _) = match (template, &behind) {
                (Some(template), Some(behind)) => {
                    (Bound::Included((template, "", "")), Bound::Excluded((behind.as_str(), "", "")))
                }
                _ => (Bound::Unbounded, Bound::Unbounded),
            };
            let mut found = Vec::new();
            for row in children.range::<(&str, &str, &str)>(range)? {
                let child: Child = decode(row?.1.value()).map_err(Trouble::Damage)?;
                if visible(&child.machine) && visible(&child.template) {
                    found.push(child);
                }
            }
            Ok(found)
        })
    }

    /// The tries whether backups can be used, of a machine or of all, the newest first.
    pub fn drills(&self, machine: Option<&str>, visible: &dyn Fn(&str) -> bool) -> Result<Vec<Drill>> {
        self.read(|reading| {
            let mut found = match machine {
                Some(machine) => drills(reading, machine)?,
                None => {
                    let drills = reading.open_table(DRILLS)?;
                    let all: Result<Vec<Drill>, Trouble> =
                        drills.iter()?.map(|row| decode(row?.1.value()).map_err(Trouble::Damage)).collect();
                    all?
                }
            };
            found.retain(|drill| visible(&drill.machine));
            found.sort_by_key(|drill| std::cmp::Reverse(drill.time));
            Ok(found)
        })
    }

    /// All tags, each with the number of backups that bear it.
    pub fn tags(&self) -> Result<Vec<(String, u64)>> {
        self.read(|reading| {
            let tags = reading.open_table(TAGS)?;
            let rows = tags.iter()?.map(|row| {
                let (tag, count) = row?;
                Ok((tag.value().to_owned(), count.value()))
            });
            rows.collect()
        })
    }

    /// How many backups are known.
    pub fn count(&self) -> Result<u64> {
        self.read(|reading| Ok(reading.open_table(BACKUPS)?.len()?))
    }

    /// Writes all that follows from the repositories, one JSON object a line, in an order that is always the same: what two catalogs
    /// of the same repositories agree in byte by byte.
    pub fn export(&self, line: &mut dyn FnMut(&str)) -> Result<()> {
        #[derive(Serialize)]
        struct Summed<'a> {
            machine: &'a str,
            #[serde(flatten)]
            sum: Sum,
        }
        let mut tell = |row: &dyn Fn() -> serde_json::Result<String>| -> Result<(), Trouble> {
            line(&row().map_err(|error| Trouble::Damage(error.to_string()))?);
            Ok(())
        };
        self.read(|reading| {
            for row in reading.open_table(BACKUPS)?.iter()? {
                let backup: Backup = decode(row?.1.value()).map_err(Trouble::Damage)?;
                tell(&|| serde_json::to_string(&backup))?;
            }
            for row in reading.open_table(SUMS)?.iter()? {
                let (machine, sum) = row?;
                let summed = Summed { machine: machine.value(), sum: decode(sum.value()).map_err(Trouble::Damage)? };
                tell(&|| serde_json::to_string(&summed))?;
            }
            for row in reading.open_table(WORDS)?.iter()? {
                let (key, machine) = row?;
                let (word, time, id, repository) = key.value();
                tell(&|| serde_json::to_string(&(word, time, Id(*id), repository.to_string(), machine.value())))?;
            }
            for row in reading.open_table(TAGS)?.iter()? {
                let (tag, count) = row?;
                tell(&|| serde_json::to_string(&(tag.value(), count.value())))?;
            }
            Ok(())
        })
    }
}

type Spot<'a> = (&'a str, u64, &'a [u8; 32], u128);

fn whole(word: &str) -> (Bound<Spot<'_>>, Bound<Spot<'_>>) {
    (Bound::Included((word, 0, &[0; 32], 0)), Bound::Included((word, u64::MAX, &[255; 32], u128::MAX)))
}

fn row(rows: &impl ReadableTable<tables::Place, &'static [u8]>, place: Spot<'_>) -> Result<Backup, Trouble> {
    let row = rows.get(place)?.ok_or_else(|| Trouble::Damage(format!("the backup {} is not there", Id(*place.2))))?;
    let backup: Backup = decode(row.value()).map_err(Trouble::Damage)?;
    let at = (backup.machine.as_str(), falling(backup.time), &backup.id.0, backup.repository.as_u128());
    if at == place { Ok(backup) } else { Err(Trouble::Damage(format!("the backup {} is not at its place", backup.id))) }
}

fn backups(
    reading: &ReadTransaction,
    wanted: &Wanted,
    cursor: Option<Cursor>,
    visible: &dyn Fn(&str) -> bool,
) -> Result<Page<Backup>, Trouble> {
    let limit = wanted.limit.clamp(1, MOST);
    let list = wanted.machine.clone().unwrap_or_else(|| wanted.word());
    let list = list.as_str();
    let until = match wanted.until.map(|until| falling(until).checked_add(1)) {
        // Nothing was begun before the beginning of time.
        Some(None) => return Ok(Page { rows: Vec::new(), cursor: None }),
        Some(Some(from)) => from,
        None => 0,
    };
    let start = match &cursor {
        Some(at) if at.time >= until => Bound::Excluded((list, at.time, &at.id, at.repository)),
        _ => Bound::Included((list, until, &[0; 32], 0)),
    };
    let end = Bound::Included((list, wanted.since.map_or(u64::MAX, falling), &[255; 32], u128::MAX));
    // A cursor behind the end of what is wanted has nothing behind it.
    if cursor.as_ref().is_some_and(|at| wanted.since.is_some_and(|since| at.time > falling(since)))
        || wanted.since.is_some_and(|since| falling(since) < until)
    {
        return Ok(Page { rows: Vec::new(), cursor: None });
    }
    let rows = reading.open_table(BACKUPS)?;
    let mut page: Vec<Backup> = Vec::new();
    let mut take = |backup: Backup| {
        if !wanted.fits(&backup) || !visible(&backup.machine) {
            return None;
        }
        if page.len() == limit {
            return Some(Page { cursor: page.last().map(Cursor::of), rows: std::mem::take(&mut page) });
        }
        page.push(backup);
        None
    };
    if wanted.machine.is_some() {
        for entry in rows.range::<Spot<'_>>((start, end))? {
            if let Some(full) = take(decode(entry?.1.value()).map_err(Trouble::Damage)?) {
                return Ok(full);
            }
        }
    } else {
        for entry in reading.open_table(WORDS)?.range::<Spot<'_>>((start, end))? {
            let (key, machine) = entry?;
            let (_, time, id, repository) = key.value();
            if !visible(machine.value()) {
                continue;
            }
            if let Some(full) = take(row(&rows, (machine.value(), time, id, repository))?) {
                return Ok(full);
            }
        }
    }
    Ok(Page { rows: page, cursor: None })
}

fn drills(reading: &ReadTransaction, machine: &str) -> Result<Vec<Drill>, Trouble> {
    let drills = reading.open_table(DRILLS)?;
    let range = (machine, 0, &[0; 32])..=(machine, u64::MAX, &[255; 32]);
    drills.range::<(&str, u64, &[u8; 32])>(range)?.map(|row| decode(row?.1.value()).map_err(Trouble::Damage)).collect()
}

fn known(reading: &ReadTransaction, name: &str) -> Result<Known, Trouble> {
    let behind = format!("{name}\0");
    let mut seen: Vec<Machine> = Vec::new();
    for row in reading.open_table(MACHINES)?.range::<(&str, &str)>((name, "")..(behind.as_str(), ""))? {
        seen.push(decode(row?.1.value()).map_err(Trouble::Damage)?);
    }
    seen.sort_by_key(|machine| std::cmp::Reverse(machine.last_seen));
    let sum = match reading.open_table(SUMS)?.get(name)? {
        Some(sum) => decode(sum.value()).map_err(Trouble::Damage)?,
        None => Sum::default(),
    };
    let (mut newest, mut oldest) = (None, None);
    if sum.backups > 0 {
        let backups = reading.open_table(BACKUPS)?;
        for row in backups.range::<Spot<'_>>(whole(name))? {
            let backup: Backup = decode(row?.1.value()).map_err(Trouble::Damage)?;
            if backup.state == State::Complete {
                newest = Some(backup);
                break;
            }
        }
        if let Some(row) = backups.range::<Spot<'_>>(whole(name))?.next_back() {
            oldest = Some(decode(row?.1.value()).map_err(Trouble::Damage)?);
        }
    }
    Ok(Known { name: name.to_owned(), seen, sum, newest, oldest, drills: drills(reading, name)? })
}
