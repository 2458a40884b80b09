//! Which blobs a repository has, and where: the index files as sorted runs, and what this process has added.
//!
//! Memory hardly grows with the repository: 11 bits for each blob, and what is not in an index file yet.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::blob::Kind;
use super::cache::Cache;
use super::error::{Error, Result};
use super::id::Id;
use super::index;
use super::pack::{Entry, Pack};
use super::runs::{Record, Run, RunWriter, merge};
use super::seal::Sealer;
use super::target::{Target, listed};

/// More runs than this are merged when the index is loaded, and more of its own by a session.
const MOST_RUNS: usize = 8;

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    pub pack: Id,
    pub entry: Entry,
}

impl Location {
    /// The bytes of its pack that are it.
    pub fn range(&self) -> Range<u64> {
        let from = u64::from(self.entry.offset);
        from..from + u64::from(self.entry.stored)
    }
}

/// Blobs that lie no further apart in a pack are read together.
const GAP: u64 = 128 << 10;

/// Parts what is sorted by pack and offset into groups that are read at once, of at most so many bytes or of one blob. Some may lie at the
/// same place.
pub(super) fn together<T>(sorted: &[T], at_once: u64, place: impl Fn(&T) -> &Location) -> Vec<&[T]> {
    let mut groups = Vec::new();
    let mut rest = sorted;
    while let Some(first) = rest.first().map(&place) {
        let mut end = first.range().end;
        let near = |other: &&T| {
            let other = place(other);
            let range = other.range();
            let is_near = other.pack == first.pack
                && range.start <= end.saturating_add(GAP)
                && range.end <= first.range().start.saturating_add(at_once);
            if is_near {
                end = end.max(range.end);
            }
            is_near
        };
        let (group, after) = rest.split_at(1 + rest.iter().skip(1).take_while(near).count());
        groups.push(group);
        rest = after;
    }
    groups
}

/// A run, and which of its packs can be relied on.
struct Mounted {
    run: Arc<Run>,
    usable: Vec<bool>,
    /// Whether this process wrote the packs: all of them are usable.
    own: bool,
}

/// The blobs of a repository as this process knows them.
pub struct Known {
    runs: RwLock<Vec<Arc<Mounted>>>,
    /// Blobs that this process writes: without a place until their pack is there.
    fresh: Mutex<HashMap<Id, Option<Location>>>,
    /// Blobs that were found damaged in their places: they are written once more.
    distrusted: Mutex<HashSet<Id>>,
    /// Held by the thread that merges what this session has added.
    gathering: Mutex<()>,
    cache: Arc<Cache>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which packs of an index are relied on.
pub type Usable<'a> = &'a dyn Fn(&Id, u64) -> bool;

fn make_run(path: &Path, covers: Vec<Id>, packs: &[Pack]) -> Result<Run> {
    let mut records: Vec<Record> = packs
        .iter()
        .enumerate()
        .flat_map(|(number, pack)| pack.entries.iter().map(move |entry| Record { entry: *entry, pack: number as u32 }))
        .collect();
    records.sort_by_key(|record| (record.entry.id, record.pack, record.entry.offset));
    let mut writer = RunWriter::new(path, records.len() as u64)?;
    records.iter().try_for_each(|record| writer.add(record))?;
    writer.finish(covers, packs.iter().map(|pack| (pack.id, pack.size)).collect())
}

impl Known {
    /// What is in no index file yet. Runs are made in the cache.
    pub fn empty(cache: &Arc<Cache>) -> Self {
        Self::of(Vec::new(), cache)
    }

    fn of(runs: Vec<Arc<Mounted>>, cache: &Arc<Cache>) -> Self {
        Self {
            runs: RwLock::new(runs),
            fresh: Mutex::new(HashMap::new()),
            distrusted: Mutex::default(),
            gathering: Mutex::new(()),
            cache: Arc::clone(cache),
        }
    }

    /// Reads the index files that the cache does not have, and merges them into few runs, or into one.
    ///
    /// An index file that goes while this reads was replaced by another: the list is read again.
    pub fn load(target: &dyn Target, sealer: &Sealer, cache: &Arc<Cache>, one: bool) -> Result<Self> {
        Self::load_with(target, sealer, cache, one, false)
    }

    /// The same as one run, passing over index files that are damaged: for a check or a repair, which name them.
    pub fn load_what_is_whole(target: &dyn Target, sealer: &Sealer, cache: &Arc<Cache>) -> Result<Self> {
        Self::load_with(target, sealer, cache, true, true)
    }

    fn load_with(target: &dyn Target, sealer: &Sealer, cache: &Arc<Cache>, one: bool, lenient: bool) -> Result<Self> {
        let mut tries = 0;
        loop {
            match Self::load_once(target, sealer, cache, one, lenient) {
                Err(Error::Missing(_)) if tries < 20 => tries += 1,
                other => return other,
            }
        }
    }

    fn load_once(target: &dyn Target, sealer: &Sealer, cache: &Arc<Cache>, one: bool, lenient: bool) -> Result<Self> {
        let mut names = HashSet::new();
        for file in listed(target, "index")? {
            match file.name.trim_start_matches("index/").parse::<Id>() {
                Ok(id) => drop(names.insert(id)),
                Err(_) if lenient => {}
                Err(_) => return Err(Error::damaged(&file.name, "its name is not that of an index file")),
            }
        }
        let mut runs = cache.runs(&names);
        let covered: HashSet<Id> = runs.iter().flat_map(|run| run.covers.iter().copied()).collect();
        for id in names.difference(&covered) {
            let packs = match index::read(target, sealer, *id) {
                Err(Error::Damaged { .. } | Error::UnknownMaster { .. }) if lenient => continue,
                other => other?,
            };
            runs.push(cache.make(&format!("{id}.run"), |path| make_run(path, vec![*id], &packs))?);
            if runs.len() > MOST_RUNS * 4 {
                shrink(cache, &mut runs, MOST_RUNS / 2)?;
            }
        }
        shrink(cache, &mut runs, if one { 1 } else { MOST_RUNS })?;
        let mounted = runs.into_iter().map(|run| Mounted::all(run, false));
        Ok(Self::of(mounted.map(Arc::new).collect(), cache))
    }

    /// The same, where only packs that `usable` takes count.
    pub fn relying_on(&self, usable: Usable<'_>) -> Self {
        let runs = self.mounted().into_iter().map(|mounted| {
            let usable = mounted.run.packs.iter().map(|(id, size)| usable(id, *size)).collect();
            Arc::new(Mounted { run: Arc::clone(&mounted.run), usable, own: false })
        });
        Self::of(runs.collect(), &self.cache)
    }

    /// Whether this and another are made of the same index files.
    pub fn is_same(&self, other: &Self) -> bool {
        let covers = |known: &Self| -> HashSet<Id> {
            known.mounted().iter().flat_map(|mounted| mounted.run.covers.clone()).collect()
        };
        covers(self) == covers(other)
    }

    fn mounted(&self) -> Vec<Arc<Mounted>> {
        self.runs.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The packs that index files name, with their sizes.
    pub fn packs(&self) -> Vec<(Id, u64)> {
        let mut packs: Vec<(Id, u64)> = self.mounted().iter().flat_map(|mounted| mounted.run.packs.clone()).collect();
        packs.sort();
        packs.dedup();
        packs
    }

    #[cfg(test)]
    pub fn runs(&self) -> usize {
        self.mounted().len()
    }

    /// How many records all runs have: the numbers that `each_place` gives are below.
    pub fn records(&self) -> u64 {
        self.mounted().iter().map(|mounted| mounted.run.len()).sum()
    }

    /// Where a blob lies, in a pack that can be relied on.
    pub fn find(&self, id: &Id) -> Result<Option<Location>> {
        if let Some(Some(location)) = locked(&self.fresh).get(id) {
            return Ok(Some(*location));
        }
        let mut found = None;
        self.each_place(id, &mut |_, location| {
            found.get_or_insert(location);
        })?;
        Ok(found)
    }

    /// Calls `each` for all usable places of a blob in index files, with the number of the record.
    pub fn each_place(&self, id: &Id, each: &mut dyn FnMut(u64, Location)) -> Result<()> {
        let mut base = 0;
        for mounted in self.mounted() {
            mounted.run.find(id, &mut |number, record| {
                if let Some(location) = mounted.usable(record) {
                    each(base + number, location);
                }
            })?;
            base += mounted.run.len();
        }
        Ok(())
    }

    /// Reads a blob from the first of its places that has it whole.
    ///
    /// Errors: `Lost` where no index file names it; `Missing` where a pack is gone that one names, as after a prune; the damage of a blob.
    pub fn read_from_any<T>(&self, kind: Kind, id: &Id, read: impl FnMut(&Location) -> Result<T>) -> Result<T> {
        self.read_from(kind, id, Error::is_damage, read)
    }

    /// Reads a blob from the first of its places whose pack is there.
    ///
    /// Errors: as [`Self::read_from_any`], and the damage of a blob also where it is whole elsewhere. Whoever decides which places of a
    /// blob are needed must not overlook that one of them is no good.
    pub fn read_from_first<T>(&self, kind: Kind, id: &Id, read: impl FnMut(&Location) -> Result<T>) -> Result<T> {
        self.read_from(kind, id, Error::is_missing, read)
    }

    fn read_from<T>(
        &self,
        kind: Kind,
        id: &Id,
        passes: fn(&Error) -> bool,
        mut read: impl FnMut(&Location) -> Result<T>,
    ) -> Result<T> {
        let of_kind = |location: &Location| location.entry.flags.kind() == kind;
        let Some(first) = self.find(id)?.filter(of_kind) else {
            return Err(Error::Lost { what: format!("the {kind:?} {id}").to_lowercase() });
        };
        let mut told = match read(&first) {
            Err(error) if passes(&error) => error,
            other => return other,
        };
        let mut others = Vec::new();
        self.each_place(id, &mut |_, location| others.push(location))?;
        for location in others.iter().filter(|location| of_kind(location) && **location != first) {
            match read(location) {
                // A pack that is gone says most: another look at the index may find what was in it.
                Err(error) if passes(&error) && told.is_missing() => drop(error),
                Err(error) if passes(&error) => told = error,
                other => return other,
            }
        }
        Err(told)
    }

    /// The entries of a pack by the index files, in the order of their offsets.
    pub fn entries_of(&self, pack: &Id) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.each(&mut |_, location| {
            if location.pack == *pack {
                entries.push(location.entry);
            }
            Ok(())
        })?;
        entries.sort_by_key(|entry| entry.offset);
        entries.dedup();
        Ok(entries)
    }

    /// Calls `each` for all usable records of index files, with their numbers.
    pub fn each(&self, each: &mut dyn FnMut(u64, Location) -> Result<()>) -> Result<()> {
        let mut base = 0;
        for mounted in self.mounted() {
            mounted.run.each(&mut |number, record| {
                mounted.usable(record).map_or(Ok(()), |location| each(base + number, location))
            })?;
            base += mounted.run.len();
        }
        Ok(())
    }

    /// Takes on a blob that is not known yet: true where the caller is the one to write it.
    pub fn take_on(&self, id: &Id) -> Result<bool> {
        if locked(&self.fresh).contains_key(id) {
            return Ok(false);
        }
        let mut known = false;
        self.each_place(id, &mut |_, _| known = true)?;
        let known = known && !locked(&self.distrusted).contains(id);
        Ok(!known && locked(&self.fresh).insert(*id, None).is_none())
    }

    /// Has a blob written once more where someone puts it, since it is no good in its place, and all that lies in the same pack.
    pub fn distrust(&self, id: &Id) -> Result<()> {
        if locked(&self.distrusted).contains(id) {
            return Ok(());
        }
        let mut packs = HashSet::new();
        self.each_place(id, &mut |_, location| packs.extend([location.pack]))?;
        let mut there = vec![*id];
        for pack in &packs {
            there.extend(self.entries_of(pack)?.into_iter().map(|entry| entry.id));
        }
        locked(&self.distrusted).extend(there);
        Ok(())
    }

    /// Notes the places of the blobs of a pack that is there now.
    pub fn landed(&self, pack: &Pack) {
        let mut fresh = locked(&self.fresh);
        for entry in &pack.entries {
            fresh.insert(entry.id, Some(Location { pack: pack.id, entry: *entry }));
        }
    }

    /// Moves the blobs of an index file that was just written from memory into a run.
    pub fn absorb(&self, index: Id, packs: &[Pack]) -> Result<()> {
        let run = self.cache.make(&format!("{index}.run"), |path| make_run(path, vec![index], packs))?;
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        runs.push(Arc::new(Mounted::all(run, true)));
        drop(runs);
        let mut fresh = locked(&self.fresh);
        packs.iter().flat_map(|pack| &pack.entries).for_each(|entry| {
            fresh.remove(&entry.id);
        });
        // What a burst has taken is given back.
        if fresh.capacity() > 4 * fresh.len() + 1024 {
            fresh.shrink_to_fit();
        }
        drop(fresh);
        self.gather()
    }

    /// Merges what this session has added, where that became many runs: each look-up asks all of them.
    fn gather(&self) -> Result<()> {
        // Another thread that does it already does it for this one as well.
        let Ok(_turn) = self.gathering.try_lock() else { return Ok(()) };
        let mut parts: Vec<Arc<Mounted>> = self.mounted().into_iter().filter(|mounted| mounted.own).collect();
        if parts.len() <= MOST_RUNS {
            return Ok(());
        }
        parts.sort_by_key(|mounted| std::cmp::Reverse(mounted.run.len()));
        let parts = parts.split_off(MOST_RUNS / 4);
        let merged = merged(&self.cache, &parts.iter().map(|mounted| mounted.run.as_ref()).collect::<Vec<_>>())?;
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|mounted| !parts.iter().any(|part| Arc::ptr_eq(part, mounted)));
        runs.push(Arc::new(Mounted::all(merged, true)));
        Ok(())
    }
}

impl Mounted {
    fn all(run: Run, own: bool) -> Self {
        Self { usable: vec![true; run.packs.len()], run: Arc::new(run), own }
    }

    fn usable(&self, record: &Record) -> Option<Location> {
        let number = record.pack as usize;
        let (pack, _) = self.run.packs.get(number)?;
        self.usable.get(number)?.then_some(Location { pack: *pack, entry: record.entry })
    }
}

/// Merges the smallest runs until there are at most so many.
fn shrink(cache: &Cache, runs: &mut Vec<Run>, most: usize) -> Result<()> {
    if runs.len() <= most {
        return Ok(());
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.len()));
    // Half of them stay apart, so that the next merge comes only after as many new ones.
    let parts = runs.split_off(most / 2);
    runs.push(merged(cache, &parts.iter().collect::<Vec<_>>())?);
    Ok(())
}

/// Several runs as one, which takes their place.
fn merged(cache: &Cache, parts: &[&Run]) -> Result<Run> {
    let mut covers: Vec<Id> = parts.iter().flat_map(|run| run.covers.iter().copied()).collect();
    covers.sort();
    let name = Id::of(&covers.iter().flat_map(|id| id.0).collect::<Vec<_>>());
    let merged = cache.make(&format!("{name}.run"), |path| merge(path, parts))?;
    parts.iter().for_each(|run| run.discard());
    Ok(merged)
}
