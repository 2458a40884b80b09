//! Copies blobs out of packs that are going, as they lie: verified, neither compressed nor sealed anew.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::blob::{Codec, Kind, Press};
use super::error::{Error, Result};
use super::id::Id;
use super::known::{Known, Location, together};
use super::pack;
use super::repository::Repository;
use super::store::Store;
use super::threads::{on_threads, processors};

/// So many blobs are looked up before they are copied, in the order in which they lie.
const AT_ONCE: usize = 4096;

/// Collects what is to be copied, and copies it.
pub(super) struct Carrier<'a, 'r> {
    repository: &'a Repository,
    /// Where blobs are read from.
    from: &'a Known,
    store: &'a Store<'r>,
    wanted: Vec<Location>,
}

impl<'a, 'r> Carrier<'a, 'r> {
    pub fn new(repository: &'a Repository, from: &'a Known, store: &'a Store<'r>) -> Self {
        Self { repository, from, store, wanted: Vec::new() }
    }

    /// Takes a blob along where the store does not have it.
    ///
    /// Errors: `Lost` where no index file names it; those of [`Self::copy`].
    pub fn take(&mut self, id: &Id, kind: Kind) -> Result<()> {
        if self.store.known.find(id)?.is_some() {
            return Ok(());
        }
        let location = self.from.find(id)?.filter(|location| location.entry.flags.kind() == kind);
        let lost = || Error::Lost { what: format!("the {kind:?} {id}").to_lowercase() };
        self.wanted.push(location.ok_or_else(lost)?);
        if self.wanted.len() < AT_ONCE { Ok(()) } else { self.copy() }
    }

    /// Copies what was taken along so far.
    ///
    /// Errors: `Missing` where a pack is gone; the damage of a blob.
    pub fn copy(&mut self) -> Result<()> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.sort_by_key(|location| (location.pack, location.entry.offset));
        wanted.dedup();
        let groups = together(&wanted, self.repository.target().at_once(), |location| location);
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            let (mut press, mut bytes, mut opened) = (Press::new(Codec::Stored), Vec::new(), Vec::new());
            while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.group(group, &mut press, &mut bytes, &mut opened).inspect_err(|_| {
                    // The others need not go on.
                    next.store(groups.len(), Ordering::Relaxed);
                })?;
            }
            Ok(())
        };
        // One more than can compute: one is waiting for a disk.
        on_threads((processors() + 1).min(groups.len()), work)
    }

    fn group(&self, group: &[Location], press: &mut Press, bytes: &mut Vec<u8>, opened: &mut Vec<u8>) -> Result<()> {
        let ends = group.iter().map(|location| location.range().end);
        let (Some(first), Some(end)) = (group.first(), ends.max()) else { return Ok(()) };
        let (file, from) = (pack::name(first.pack), first.range().start);
        self.repository.target().get_into(&file, from..end, bytes)?;
        for Location { entry, .. } in group {
            let at = (u64::from(entry.offset) - from) as usize;
            let frame = bytes.get(at..at + entry.stored as usize).unwrap_or_default();
            opened.clear();
            opened.extend_from_slice(frame);
            let raw = press.open(&self.repository.sealer, entry.flags, entry.id, entry.raw, opened, &file)?.len();
            if self.store.known.take_on(&entry.id)? {
                self.store.carry(entry.flags, entry.id, raw, frame)?;
            }
        }
        Ok(())
    }
}
