//! Reads disks back: any range, each chunk verified before a byte of it is given out; and all chunks of a disk.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::blob::{Codec, Kind, Press};
use super::error::{Error, Result};
use super::export;
use super::id::Id;
use super::known::{Known, Location, together};
use super::manifest::{Attached, Disk, Root, SEGMENT};
use super::pack;
use super::repository::Repository;
use super::threads::on_threads;

/// Segments that are kept: 128 KiB each.
const KEPT_SEGMENTS: usize = 8;

/// How often the index is read anew for one blob that was not at its place: so many prunes may follow each other meanwhile.
const MOST_LOOKS: u32 = 8;

/// A thread that reads a whole disk takes so many bytes of it at a time.
const BATCH: u64 = 4 << 20;

/// A disk of a backup, to be read anywhere by many threads.
pub struct DiskReader<'r> {
    blobs: Blobs<'r>,
    root: Root,
    cid: u32,
    segments: Mutex<VecDeque<(u64, Arc<Vec<Id>>)>>,
}

/// What is done with a chunk: its place in the disk, and its bytes.
type Each<'e> = &'e (dyn Fn(u64, &[u8]) -> Result<()> + Sync);

/// Blobs of a repository that a prune may be moving.
pub(super) struct Blobs<'r> {
    repository: &'r Repository,
    known: RwLock<Arc<Known>>,
    presses: Mutex<Vec<Press>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'r> Blobs<'r> {
    pub fn new(repository: &'r Repository) -> Result<Self> {
        let known = RwLock::new(Arc::new(repository.known()?));
        Ok(Self { repository, known, presses: Mutex::new(Vec::new()) })
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does something with blobs, and again with a fresh index where something was not at its place: a prune may have moved it.
    ///
    /// A prune names the new place before it deletes the old one, so a fresh index is wrong only where yet another prune came after it.
    pub fn with<T>(&self, job: impl Fn(&mut Press, &Known) -> Result<T>) -> Result<T> {
        let mut press = locked(&self.presses).pop().unwrap_or_else(|| Press::new(Codec::Stored));
        let mut before = self.known();
        let mut done = job(&mut press, &before);
        for _ in 0..MOST_LOOKS {
            if !matches!(done, Err(Error::Missing(_) | Error::Lost { .. })) {
                break;
            }
            let known = self.looked_again(&before)?;
            if known.is_same(&before) {
                break;
            }
            done = job(&mut press, &known);
            before = known;
        }
        locked(&self.presses).push(press);
        done
    }

    /// A later index than `before`: that of another thread, or one that is read now.
    fn looked_again(&self, before: &Arc<Known>) -> Result<Arc<Known>> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&known, before) {
            *known = Arc::new(self.repository.known()?);
        }
        Ok(Arc::clone(&known))
    }

    fn blob(&self, kind: Kind, id: &Id) -> Result<Vec<u8>> {
        self.with(|press, known| self.repository.blob(press, known, kind, id))
    }
}

impl Repository {
    /// Opens a disk of a backup for reading.
    pub fn read_disk(&self, disk: &Disk) -> Result<DiskReader<'_>> {
        let blobs = Blobs::new(self)?;
        let root = blobs.with(|press, known| self.root(press, known, disk))?;
        Ok(DiskReader { blobs, root, cid: export::cid(&disk.root), segments: Mutex::new(VecDeque::new()) })
    }

    /// Writes an attached file of a backup.
    pub fn read_file(&self, file: &Attached, to: &mut dyn Write) -> Result<()> {
        let blobs = Blobs::new(self)?;
        let mut size = 0;
        for part in &file.parts {
            let bytes = blobs.blob(Kind::File, part)?;
            size += bytes.len() as u64;
            to.write_all(&bytes).map_err(Error::io(&file.name, "write"))?;
        }
        if size == file.size {
            Ok(())
        } else {
            Err(Error::damaged(&file.name, "its parts have another length than it"))
        }
    }
}

impl DiskReader<'_> {
    pub fn size(&self) -> u64 {
        self.root.size
    }

    pub fn chunk_size(&self) -> u32 {
        self.root.chunk_size
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// The index as it is known now.
    pub(super) fn known(&self) -> Arc<Known> {
        self.blobs.known()
    }

    /// What VMDKs of the disk call its content.
    pub(super) fn cid(&self) -> u32 {
        self.cid
    }

    /// The ids of a segment's chunks.
    pub(super) fn ids(&self, number: u64) -> Result<Arc<Vec<Id>>> {
        if let Some((_, ids)) = locked(&self.segments).iter().find(|(kept, _)| *kept == number) {
            return Ok(Arc::clone(ids));
        }
        let blobs = &self.blobs;
        let ids = blobs.with(|press, known| blobs.repository.segment(press, known, &self.root, number))?;
        let ids = Arc::new(ids);
        let mut kept = locked(&self.segments);
        if kept.len() >= KEPT_SEGMENTS {
            kept.pop_front();
        }
        kept.push_back((number, Arc::clone(&ids)));
        Ok(ids)
    }

    /// A chunk's bytes; nothing where it is zeros.
    fn chunk(&self, id: &Id, chunk: u64) -> Result<Option<Vec<u8>>> {
        if *id == Id::ZERO {
            return Ok(None);
        }
        let bytes = self.blobs.blob(Kind::Chunk, id)?;
        if bytes.len() == self.root.length(chunk) {
            Ok(Some(bytes))
        } else {
            Err(Error::damaged(format!("chunk {id}"), "it has another length than its place in the disk"))
        }
    }

    /// Fills `bytes` from the byte `at` of the disk. By an error nothing is promised of `bytes`.
    ///
    /// Errors: `Option` where the range leaves the disk; the damage of a chunk.
    pub fn read_at(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        let end = at.checked_add(bytes.len() as u64).filter(|end| *end <= self.root.size);
        if end.is_none() {
            return Err(Error::Option(format!("the disk ends at byte {}", self.root.size)));
        }
        let size = u64::from(self.root.chunk_size);
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let chunk = at / size;
            let inside = (at % size) as usize;
            let length = (self.root.length(chunk) - inside).min(rest.len());
            let (part, after) = rest.split_at_mut(length);
            let ids = self.ids(chunk / SEGMENT as u64)?;
            let id = ids.get((chunk % SEGMENT as u64) as usize).copied().unwrap_or(Id::ZERO);
            match self.chunk(&id, chunk)? {
                None => part.fill(0),
                Some(whole) => part.copy_from_slice(&whole[inside..inside + length]),
            }
            at += length as u64;
            rest = after;
        }
        Ok(())
    }

    /// Fills `bytes` as `read_at` does, and reads chunks that are neighbours in a pack together.
    pub(super) fn read_together(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        let size = u64::from(self.root.chunk_size);
        let end = at.saturating_add(bytes.len() as u64);
        let mut wanted = Vec::new();
        for chunk in at / size..end.min(self.root.size).div_ceil(size) {
            let ids = self.ids(chunk / SEGMENT as u64)?;
            let id = ids.get((chunk % SEGMENT as u64) as usize).copied().unwrap_or(Id::ZERO);
            if id != Id::ZERO {
                wanted.push((id, chunk));
            }
        }
        bytes.fill(0);
        let to = Mutex::new(bytes);
        let mut press = locked(&self.blobs.presses).pop().unwrap_or_else(|| Press::new(Codec::Stored));
        let done = self.batch(&wanted, &mut press, &mut Vec::new(), &|place, whole| {
            let (from, skipped) = (place.saturating_sub(at) as usize, at.saturating_sub(place) as usize);
            let part = whole.get(skipped..).unwrap_or_default();
            let mut to = locked(&to);
            let to = to.get_mut(from..).unwrap_or_default();
            let length = part.len().min(to.len());
            to[..length].copy_from_slice(&part[..length]);
            Ok(())
        });
        locked(&self.blobs.presses).push(press);
        done
    }

    /// Calls `each` for all chunks that are not zeros, with their places, on several threads and in no order.
    pub fn each_chunk(&self, threads: usize, each: Each<'_>) -> Result<()> {
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let length = (BATCH / u64::from(self.root.chunk_size)).max(1);
        let in_segment = (SEGMENT as u64).div_ceil(length);
        let work = || -> Result<()> {
            let (mut press, mut bytes) = (Press::new(Codec::Stored), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let batch = next.fetch_add(1, Ordering::Relaxed);
                let number = batch / in_segment;
                match usize::try_from(number).ok().and_then(|number| self.root.segments.get(number)) {
                    None => break,
                    Some(&Id::ZERO) => {
                        next.fetch_max((number + 1) * in_segment, Ordering::Relaxed);
                        continue;
                    }
                    Some(_) => {}
                }
                let ids = self.ids(number)?;
                let from = batch % in_segment * length;
                let chunks = ids.iter().enumerate().skip(from as usize).take(length as usize);
                let wanted: Vec<(Id, u64)> = chunks
                    .filter(|(_, id)| **id != Id::ZERO)
                    .map(|(chunk, id)| (*id, number * SEGMENT as u64 + chunk as u64))
                    .collect();
                self.batch(&wanted, &mut press, &mut bytes, each)?;
            }
            Ok(())
        };
        on_threads(threads, || {
            let ended = work();
            if ended.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            ended
        })
    }

    /// Reads some chunks, those that are neighbours in a pack together. What cannot be read so is read by itself, from every place that it has.
    fn batch(&self, wanted: &[(Id, u64)], press: &mut Press, bytes: &mut Vec<u8>, each: Each<'_>) -> Result<()> {
        let (repository, known) = (self.blobs.repository, self.blobs.known());
        let alone = |id: &Id, chunk: u64| match self.chunk(id, chunk)? {
            Some(whole) => each(chunk * u64::from(self.root.chunk_size), &whole),
            None => Ok(()),
        };
        let mut found: Vec<(Location, u64)> = Vec::with_capacity(wanted.len());
        for (id, chunk) in wanted {
            match known.find(id)?.filter(|location| location.entry.flags.kind() == Kind::Chunk) {
                Some(location) => found.push((location, *chunk)),
                None => alone(id, *chunk)?,
            }
        }
        found.sort_by_key(|(location, chunk)| (location.pack, location.entry.offset, *chunk));
        for group in together(&found, repository.target().at_once(), |(location, _)| location) {
            let (Some((first, _)), Some(end)) = (group.first(), group.iter().map(|(at, _)| at.range().end).max())
            else {
                continue;
            };
            let (file, from) = (pack::name(first.pack), first.range().start);
            let read = repository.target().get_into(&file, from..end, bytes);
            for same in group.chunk_by(|one, other| one.0 == other.0) {
                let [(Location { entry, .. }, _), ..] = same else { continue };
                let at = (u64::from(entry.offset) - from) as usize;
                let frame = if read.is_ok() { bytes.get_mut(at..at + entry.stored as usize) } else { None };
                let whole = frame.and_then(|frame| {
                    press.open(&repository.sealer, entry.flags, entry.id, entry.raw, frame, &file).ok()
                });
                for (_, chunk) in same {
                    match whole {
                        Some(whole) if whole.len() == self.root.length(*chunk) => {
                            each(chunk * u64::from(self.root.chunk_size), whole)?;
                        }
                        _ => alone(&entry.id, *chunk)?,
                    }
                }
            }
        }
        Ok(())
    }
}
