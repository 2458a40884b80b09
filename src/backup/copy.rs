//! Copies backups to a second repository: only what is missing there, and each blob verified before it is written.
//!
//! The source is only read. A copy keeps its UUID, time, group, tags, state and details; a backup whose UUID is at the other place is there already. Where
//! both places name blobs alike (see `Like`), what is known there is not even read here. Elsewhere an earlier backup of the same disk that is at both places
//! says which chunk there is which here, so only what changed since is read.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::blob::{Codec, Kind, Press};
use super::commit;
use super::error::{Error, Result};
use super::feed::store_segment;
use super::id::Id;
use super::known::Location;
use super::manifest::{self, Attached, Disk, Manifest, Root};
use super::pack;
use super::reader::Blobs;
use super::repository::Repository;
use super::seal::Sealer;
use super::store::Store;
use super::target::listed;
use super::threads::{on_threads, processors};
use super::writer::BackupOptions;

/// How a copy is made.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// When a pack is full. Default: 64 MiB.
    pub pack_size: u64,
    /// Default: one for each processor.
    pub threads: usize,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { pack_size: 64 << 20, threads: processors() }
    }
}

/// A backup of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    pub id: Id,
    pub uuid: String,
    pub group: String,
    pub name: String,
    /// The bytes of its disks and files.
    pub size: u64,
}

/// Which backups a copy takes over, the oldest first; what is printed is what is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CopyPlan {
    pub copy: Vec<Planned>,
    /// Those that are at the other place already.
    pub present: Vec<Id>,
}

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CopyProgress {
    pub backups: u64,
    pub of: u64,
    /// The bytes of the disks of this backup that are at the other place.
    pub done: u64,
    pub size: u64,
}

/// A backup that was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    pub from: Id,
    /// Its id at the other place.
    pub id: Id,
    /// The bytes that were read from packs here, and those that were added to packs there.
    pub read: u64,
    pub added: u64,
}

/// A backup that could not be copied, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCopied {
    pub from: Id,
    pub why: String,
}

/// What a copy came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    pub copied: Vec<Copied>,
    pub present: Vec<Id>,
    /// Those that are damaged here, or were forgotten meanwhile. The others were copied all the same.
    pub failed: Vec<NotCopied>,
}

/// The backups of the other place by their UUIDs, as far as they were read.
#[derive(Default)]
struct There {
    seen: HashSet<String>,
    by_uuid: HashMap<String, (Id, Manifest)>,
}

impl There {
    /// Reads the manifests that are new.
    fn look(&mut self, there: &Repository) -> Result<()> {
        let files = listed(there.target(), "manifests")?;
        let names: HashSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
        self.seen.retain(|name| names.contains(name.as_str()));
        self.by_uuid.retain(|_, (id, _)| names.contains(manifest::name(*id).as_str()));
        for file in &files {
            if self.seen.contains(&file.name) {
                continue;
            }
            let manifest = match Manifest::read(there.target(), &there.sealer, &file.name) {
                Err(error) if error.is_missing() => continue,
                // What is damaged there is no copy, and a check names it.
                Err(error) if error.is_damage() => None,
                manifest => Some(manifest?),
            };
            self.seen.insert(file.name.clone());
            if let Some(manifest) = manifest {
                let id = file.name.trim_start_matches("manifests/").parse()?;
                self.by_uuid.insert(manifest.uuid.clone(), (id, manifest));
            }
        }
        Ok(())
    }
}

impl Repository {
    /// Plans which of the backups that `chosen` takes are copied to another repository.
    pub fn copy_plan(&self, there: &Self, chosen: &dyn Fn(&Id, &Manifest) -> bool) -> Result<CopyPlan> {
        if self.config().id == there.config().id {
            return Err(Error::Option("a repository cannot be copied to itself".to_owned()));
        }
        let mut known = There::default();
        known.look(there)?;
        let mut plan = CopyPlan::default();
        for (id, manifest) in self.backups()? {
            if !chosen(&id, &manifest) {
                continue;
            }
            if known.by_uuid.contains_key(&manifest.uuid) {
                plan.present.push(id);
                continue;
            }
            let size = manifest.disks.iter().map(|disk| disk.size);
            let size = size.chain(manifest.files.iter().map(|file| file.size)).sum();
            plan.copy.push(Planned { id, uuid: manifest.uuid, group: manifest.group, name: manifest.name, size });
        }
        Ok(plan)
    }

    /// Carries out a plan. An interrupted copy is taken up by the next: what it has written is known then.
    ///
    /// Errors: what keeps any backup from being copied, such as a place that is full. A backup that cannot be read here is in the report.
    pub fn copy(
        &self,
        there: &Self,
        plan: &CopyPlan,
        options: &CopyOptions,
        progress: &(dyn Fn(&CopyProgress) + Sync),
    ) -> Result<CopyReport> {
        let mut report = CopyReport { present: plan.present.clone(), ..CopyReport::default() };
        let mut known = There::default();
        let here = Blobs::new(self)?;
        for (number, planned) in plan.copy.iter().enumerate() {
            known.look(there)?;
            if known.by_uuid.contains_key(&planned.uuid) {
                report.present.push(planned.id);
                continue;
            }
            let copy = Copy {
                from: self,
                to: there,
                here: &here,
                threads: options.threads.max(1),
                alike: alike(&self.sealer, &there.sealer),
                read: AtomicU64::new(0),
                done: AtomicU64::new(0),
                told: &|done| {
                    let (backups, of) = (number as u64, plan.copy.len() as u64);
                    progress(&CopyProgress { backups, of, done, size: planned.size });
                },
            };
            match copy.backup(planned.id, &mut known, options) {
                Ok(copied) => report.copied.push(copied),
                Err(Trouble::Here(why)) => report.failed.push(NotCopied { from: planned.id, why: why.to_string() }),
                Err(Trouble::There(error)) => return Err(error),
            }
        }
        Ok(report)
    }
}

/// Whether two repositories give a blob the same id.
fn alike(one: &Sealer, other: &Sealer) -> bool {
    match (one, other) {
        (Sealer::Plain, Sealer::Plain) => true,
        (Sealer::Keyed(one), Sealer::Keyed(other)) => one.id_key == other.id_key,
        _ => false,
    }
}

/// Why a backup was not copied: what is damaged here hurts it alone, anything else ends the copy.
enum Trouble {
    Here(Error),
    There(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::There(error)
    }
}

fn here(error: Error) -> Trouble {
    if error.is_damage() { Trouble::Here(error) } else { Trouble::There(error) }
}

/// One backup on its way.
struct Copy<'a> {
    from: &'a Repository,
    to: &'a Repository,
    here: &'a Blobs<'a>,
    threads: usize,
    alike: bool,
    read: AtomicU64,
    done: AtomicU64,
    told: &'a (dyn Fn(u64) + Sync),
}

/// An earlier backup's disk at both places.
struct Pair {
    here: Root,
    there: Root,
}

impl Copy<'_> {
    fn backup(&self, id: Id, known: &mut There, options: &CopyOptions) -> Result<Copied, Trouble> {
        let manifest = Manifest::read(self.from.target(), &self.from.sealer, &manifest::name(id)).map_err(here)?;
        let session = self.to.begin(BackupOptions { pack_size: options.pack_size, ..BackupOptions::default() })?;
        // After the look at the dooms: a backup that is visible there now was seen by whoever made those.
        known.look(self.to)?;
        let base = self.base(&manifest, known)?;
        let (mut disks, mut files) = (Vec::new(), Vec::new());
        for disk in &manifest.disks {
            disks.push(self.disk(&session.store, disk, base.as_ref())?);
        }
        for file in &manifest.files {
            let ids = self.blobs(&session.store, Kind::File, &file.parts, &HashMap::new())?;
            let parts = file.parts.iter().filter_map(|part| ids.get(part).copied()).collect();
            files.push(Attached { parts, ..file.clone() });
            self.tell(file.size);
        }
        session.store.flush()?;
        session.lease.renew()?;
        // The parent's id is that of this place; where it was not copied, none is named.
        let parent = match &manifest.parent {
            None => None,
            Some(parent) => match Manifest::read(self.from.target(), &self.from.sealer, &manifest::name(*parent)) {
                Ok(parent) => known.by_uuid.get(&parent.uuid).map(|(id, _)| *id),
                Err(error) if error.is_damage() => None,
                Err(error) => return Err(error.into()),
            },
        };
        let added = session.store.added();
        let copy = Manifest { disks, files, parent, ..manifest };
        // Another copy may have been faster.
        known.look(self.to)?;
        if let Some((there, _)) = known.by_uuid.get(&copy.uuid) {
            let there = *there;
            session.lease.end()?;
            return Ok(Copied { from: id, id: there, read: self.read.load(Ordering::Relaxed), added });
        }
        let made = commit::commit(self.to, session.store, &session.dooms, &copy)?;
        session.lease.end()?;
        Ok(Copied { from: id, id: made, read: self.read.load(Ordering::Relaxed), added })
    }

    /// The newest backup of the same group that is at both places, not newer than this one if there is such.
    fn base(&self, manifest: &Manifest, known: &There) -> Result<Option<(Manifest, Manifest)>> {
        let mut best: Option<(Manifest, Manifest)> = None;
        let of_group: HashMap<&str, &Manifest> = known
            .by_uuid
            .values()
            .filter(|(_, there)| there.group == manifest.group)
            .map(|(_, there)| (there.uuid.as_str(), there))
            .collect();
        if of_group.is_empty() {
            return Ok(None);
        }
        for (_, one) in self.from.backups_and_damaged()?.0 {
            let Some(there) = of_group.get(one.uuid.as_str()) else { continue };
            if best.is_none() || one.time <= manifest.time {
                best = Some((one, (*there).clone()));
            }
        }
        Ok(best)
    }

    fn tell(&self, bytes: u64) {
        (self.told)(self.done.fetch_add(bytes, Ordering::Relaxed) + bytes);
    }

    /// The roots of a disk in the base. Where they cannot be read, or are not alike, there is no base.
    fn pair(&self, store: &Store<'_>, disk: &Disk, base: Option<&(Manifest, Manifest)>) -> Result<Option<Pair>> {
        let Some((one, other)) = base else { return Ok(None) };
        let named = |manifest: &Manifest| manifest.disks.iter().find(|found| found.name == disk.name).cloned();
        let (Some(one), Some(other)) = (named(one), named(other)) else { return Ok(None) };
        if [&one, &other].iter().any(|found| (found.size, found.chunk_size) != (disk.size, disk.chunk_size)) {
            return Ok(None);
        }
        let mut press = Press::new(Codec::Stored);
        let roots = self
            .here
            .with(|press, known| self.from.root(press, known, &one))
            .and_then(|here| Ok(Pair { here, there: self.to.root(&mut press, &store.known, &other)? }));
        match roots {
            Err(error) if error.is_damage() => Ok(None),
            pair => pair.map(Some),
        }
    }

    fn disk(&self, store: &Store<'_>, disk: &Disk, base: Option<&(Manifest, Manifest)>) -> Result<Disk, Trouble> {
        let mut press = Press::new(Codec::default());
        let pair = self.pair(store, disk, base)?;
        let root = self.here.with(|press, known| self.from.root(press, known, disk)).map_err(here)?;
        let before = store.added();
        let mut segments = Vec::with_capacity(root.segments.len());
        for (number, segment) in root.segments.iter().enumerate() {
            let there = if *segment == Id::ZERO {
                Id::ZERO
            } else {
                self.segment(store, &mut press, &root, number, pair.as_ref())?
            };
            segments.push(there);
            let length: usize = (0..root.chunks_in(number as u64))
                .map(|chunk| root.length(number as u64 * manifest::SEGMENT as u64 + chunk as u64))
                .sum();
            self.tell(length as u64);
        }
        let root = Root { segments, ..root };
        let (id, _) = store.put(&mut press, Kind::Root, &root.encode())?;
        Ok(Disk { root: id, added: store.added() - before, ..disk.clone() })
    }

    fn segment(
        &self,
        store: &Store<'_>,
        press: &mut Press,
        root: &Root,
        number: usize,
        pair: Option<&Pair>,
    ) -> Result<Id, Trouble> {
        let mut known = HashMap::new();
        // Where ids are alike, a look into the index says the same.
        if let Some(pair) = pair.filter(|_| !self.alike) {
            let one = self.here.with(|press, known| self.from.segment(press, known, &pair.here, number as u64));
            let both = one.and_then(|one| {
                let other = self.to.segment(press, &store.known, &pair.there, number as u64)?;
                Ok(one.into_iter().zip(other).filter(|(here, _)| *here != Id::ZERO).collect())
            });
            known = match both {
                Err(error) if error.is_damage() => HashMap::new(),
                both => both?,
            };
        }
        let chunks = self.here.with(|press, known| self.from.segment(press, known, root, number as u64));
        let chunks = chunks.map_err(here)?;
        let ids = self.blobs(store, Kind::Chunk, &chunks, &known)?;
        let there: Vec<Id> = chunks.iter().map(|chunk| ids.get(chunk).copied().unwrap_or(Id::ZERO)).collect();
        Ok(store_segment(store, press, &there)?)
    }

    /// Copies what is missing of some blobs, on all threads. Returns the id that each has there; zeros have none.
    fn blobs(
        &self,
        store: &Store<'_>,
        kind: Kind,
        wanted: &[Id],
        known: &HashMap<Id, Id>,
    ) -> Result<BTreeMap<Id, Id>, Trouble> {
        let mut ids = BTreeMap::new();
        let mut missing = Vec::new();
        for id in wanted.iter().filter(|id| **id != Id::ZERO) {
            // What the base has lost there since is brought back.
            let there = known.get(id).map(|there| store.known.find(there).map(|found| found.map(|_| *there)));
            if let Some(there) = there.transpose()?.flatten() {
                ids.insert(*id, there);
            } else if ids.insert(*id, *id).is_none() {
                missing.push(*id);
            }
        }
        let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(missing.len())));
        let work = || -> Result<(), Trouble> {
            while let Some(id) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let there = self.blob(store, kind, id).inspect_err(|_| {
                    // The others need not go on.
                    next.store(missing.len(), Ordering::Relaxed);
                })?;
                made.lock().unwrap_or_else(PoisonError::into_inner).push((*id, there));
            }
            Ok(())
        };
        on_threads(self.threads.min(missing.len()), work)?;
        ids.extend(made.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(ids)
    }

    /// Copies one blob where it is missing: verified here, sealed anew there, and compressed as it was.
    fn blob(&self, store: &Store<'_>, kind: Kind, id: &Id) -> Result<Id, Trouble> {
        if self.alike && store.known.find(id)?.is_some() {
            return Ok(*id);
        }
        let (Location { pack, entry }, frame, there, raw) = self
            .here
            .with(|press, known| {
                known.read_from_any(kind, id, |location| {
                    let (file, entry) = (pack::name(location.pack), location.entry);
                    let frame = self.from.target().get(&file, location.range())?;
                    let mut opened = frame.clone();
                    let bytes = press.open(&self.from.sealer, entry.flags, entry.id, entry.raw, &mut opened, &file)?;
                    Ok((*location, frame, self.to.sealer.id(kind, bytes), bytes.len()))
                })
            })
            .map_err(here)?;
        self.read.fetch_add(u64::from(entry.stored), Ordering::Relaxed);
        if store.known.take_on(&there)? {
            let frame = Press::reseal(&self.from.sealer, &self.to.sealer, &entry, there, frame, &pack::name(pack))?;
            store.carry(entry.flags, there, raw, &frame)?;
        }
        Ok(there)
    }
}

#[cfg(test)]
#[path = "tests/copying.rs"]
mod tests;
