//! Proves, before packs are deleted, that what else holds their blobs holds them: an index file is believed only where the packs' own tables
//! say the same. It reads tables, and changes nothing.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::{Error, Result};
use super::id::Id;
use super::known::{Known, Location};
use super::pack::{self, Entry};
use super::repository::Repository;
use super::threads::on_threads;

/// So many claims are collected before the tables are read that prove them.
const AT_ONCE: usize = 1 << 16;

/// Tables are small, and far away in a bucket: more of them are read at once than there are processors.
const THREADS: usize = 8;

impl Repository {
    /// Proves for every blob of packs that go that each pack that stays, and that the index says has it too, has it.
    ///
    /// What goes is told by its own tables, as the index may hide what it has.
    ///
    /// Errors: `Damaged`, which names the pack that stays.
    pub(super) fn prove_kept(&self, going: &HashSet<Id>) -> Result<()> {
        let view = self.view(true)?;
        let packs: Vec<(Id, u64)> =
            view.packs.iter().filter(|(id, _)| going.contains(id)).map(|(id, size)| (*id, *size)).collect();
        let (next, claims) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let locked = || claims.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = |pack: &Id| view.packs.contains_key(pack) && !going.contains(pack);
        on_threads(THREADS.min(packs.len()), || -> Result<()> {
            while let Some((id, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut found = Vec::new();
                for entry in self.entries(*id, *size, &view.everything)? {
                    view.everything.each_place(&entry.id, &mut |_, location| {
                        if stays(&location.pack) {
                            found.push(location);
                        }
                    })?;
                }
                let full = {
                    let mut claims = locked();
                    claims.append(&mut found);
                    if claims.len() < AT_ONCE { Vec::new() } else { std::mem::take(&mut *claims) }
                };
                self.prove(full, &view.packs)?;
            }
            Ok(())
        })?;
        let rest = std::mem::take(&mut *locked());
        self.prove(rest, &view.packs)
    }

    /// What a pack that goes has: by its table, or where that is damaged, by the index. One that is gone has nothing.
    fn entries(&self, id: Id, size: u64, known: &Known) -> Result<Vec<Entry>> {
        match self.table(id, size) {
            Ok(pack) => Ok(pack.entries),
            Err(error) if error.is_missing() => Ok(Vec::new()),
            Err(error) if error.is_damage() => known.entries_of(&id),
            Err(error) => Err(error),
        }
    }

    fn prove(&self, mut claims: Vec<Location>, packs: &HashMap<Id, u64>) -> Result<()> {
        claims.sort_by_key(|claim| (claim.pack, claim.entry.offset, claim.entry.id));
        claims.dedup();
        let groups: Vec<&[Location]> = claims.chunk_by(|one, other| one.pack == other.pack).collect();
        let next = AtomicUsize::new(0);
        on_threads(THREADS.min(groups.len()), || -> Result<()> {
            while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                let Some(Location { pack: id, .. }) = group.first() else { continue };
                let size = packs.get(id).copied().unwrap_or_default();
                let table: HashMap<(Id, u32), Entry> = match self.table(*id, size) {
                    Ok(pack) => pack.entries.into_iter().map(|entry| ((entry.id, entry.offset), entry)).collect(),
                    // Another prune has just taken it: what was needed of it is looked for again after the doom.
                    Err(error) if error.is_missing() => continue,
                    Err(error) => return Err(error),
                };
                let lie = |claim: &&Location| table.get(&(claim.entry.id, claim.entry.offset)) != Some(&claim.entry);
                if let Some(claim) = group.iter().find(lie) {
                    let what = format!("it does not hold the blob {} that the index says it holds", claim.entry.id);
                    return Err(Error::damaged(
                        pack::name(*id),
                        format!("{what}: nothing was deleted; repair the repository before a prune"),
                    ));
                }
            }
            Ok(())
        })
    }
}
