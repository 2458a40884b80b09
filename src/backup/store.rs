//! Puts blobs into packs, and packs into index files: what a backup, a prune and a repair write with.
//!
//! Many threads put at once. Each compresses and seals by itself; the one that fills a pack syncs it, while the others go on with the next.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::blob::{Flags, Kind, Press};
use super::error::Result;
use super::id::Id;
use super::index;
use super::known::Known;
use super::pack::{Pack, PackWriter};
use super::repository::Repository;

/// An index file is written when so many entries wait for one.
pub(super) const INDEX_ENTRIES: usize = 1 << 16;

pub(super) struct Store<'r> {
    repository: &'r Repository,
    pub known: Known,
    pack_size: u64,
    /// The open packs: of chunks and files, and of segments and roots.
    open: [Mutex<Option<PackWriter>>; 2],
    /// Packs that are there and that no index file names yet.
    waiting: Mutex<Vec<Pack>>,
    added: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'r> Store<'r> {
    pub fn new(repository: &'r Repository, known: Known, pack_size: u64) -> Self {
        Self {
            repository,
            known,
            // Offsets have 32 bits.
            pack_size: pack_size.clamp(1, 1 << 30),
            open: [Mutex::new(None), Mutex::new(None)],
            waiting: Mutex::new(Vec::new()),
            added: AtomicU64::new(0),
        }
    }

    /// Puts a blob where it is not known. Returns its id and the bytes that it added.
    pub fn put(&self, press: &mut Press, kind: Kind, bytes: &[u8]) -> Result<(Id, u64)> {
        let id = self.repository.sealer.id(kind, bytes);
        if !self.known.take_on(&id)? {
            return Ok((id, 0));
        }
        let (flags, frame) = press.shut(&self.repository.sealer, kind, id, bytes)?;
        let added = frame.len() as u64;
        self.append(flags, id, bytes.len(), frame)?;
        self.added.fetch_add(added, Ordering::Relaxed);
        Ok((id, added))
    }

    /// Puts a blob that was taken on and shut by the caller.
    pub fn carry(&self, flags: Flags, id: Id, raw: usize, frame: &[u8]) -> Result<()> {
        self.append(flags, id, raw, frame)?;
        self.added.fetch_add(frame.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn append(&self, flags: Flags, id: Id, raw: usize, frame: &[u8]) -> Result<()> {
        let [chunks, others] = &self.open;
        let open = if matches!(flags.kind(), Kind::Chunk | Kind::File) { chunks } else { others };
        let full = {
            let mut open = locked(open);
            let mut pack = match open.take() {
                Some(pack) => pack,
                None => PackWriter::new(self.repository.target())?,
            };
            pack.add(flags, id, raw, frame)?;
            if pack.size() < self.pack_size && pack.entries() < INDEX_ENTRIES {
                *open = Some(pack);
                return Ok(());
            }
            pack
        };
        self.close(full)
    }

    fn close(&self, pack: PackWriter) -> Result<()> {
        let pack = pack.finish(self.repository.target(), &self.repository.sealer)?;
        self.adopt(pack);
        let packs = {
            let mut waiting = locked(&self.waiting);
            if waiting.iter().map(|pack| pack.entries.len()).sum::<usize>() < INDEX_ENTRIES {
                return Ok(());
            }
            std::mem::take(&mut *waiting)
        };
        self.index(&packs)
    }

    /// Takes up a pack that is there and that no index names.
    pub fn adopt(&self, pack: Pack) {
        self.known.landed(&pack);
        locked(&self.waiting).push(pack);
    }

    fn index(&self, packs: &[Pack]) -> Result<()> {
        // Packs that were taken up may be many: all of a repository that has lost its index.
        for packs in index::parted(packs, INDEX_ENTRIES) {
            let id = index::write(self.repository.target(), &self.repository.sealer, packs)?;
            self.known.absorb(id, packs)?;
        }
        Ok(())
    }

    /// Makes all that was put durable and found by others.
    pub fn flush(&self) -> Result<()> {
        for open in &self.open {
            let pack = locked(open).take();
            pack.map_or(Ok(()), |pack| self.close(pack))?;
        }
        let packs = std::mem::take(&mut *locked(&self.waiting));
        self.index(&packs)
    }

    /// The bytes that were added to packs so far.
    pub fn added(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }
}
