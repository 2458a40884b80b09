//! Repairs a repository: makes its index anew from the packs, saves what damaged packs still hold, and names the backups that are hurt.
//!
//! It deletes nothing but index files that others replace, and packs whose every readable blob was copied first.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;

use super::blob::{Codec, Press};
use super::check::{Depth, Problem};
use super::doom::{self, Dooms};
use super::error::{Error, Result};
use super::id::Id;
use super::index;
use super::known::{Known, Location};
use super::lease::Lease;
use super::pack::{self, Pack};
use super::repository::Repository;
use super::store::Store;
use super::target::listed;

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Packs that the new index names.
    pub indexed: u64,
    /// Packs that were damaged and are gone; what could be read of them lies in others.
    pub dropped: Vec<Id>,
    /// Blobs that were saved from them.
    pub saved: u64,
    /// Blobs that could not be read, and are in no other pack.
    pub lost: u64,
    /// Backups that cannot be restored whole. The next backup of the same disk brings lost chunks back, as far as it still has them.
    pub hurt: BTreeSet<Id>,
    /// What is damaged still, and only a person can decide about.
    pub left: Vec<Problem>,
}

impl Repository {
    /// Repairs the repository. With `read_data` every pack is read; otherwise those whose tables are whole are believed.
    ///
    /// Damaged manifests and keys are left where they are and named: no other file says what they said.
    pub fn repair(&self, read_data: bool) -> Result<RepairReport> {
        let lease = Lease::take(self.target(), "repair")?;
        let mut report = RepairReport::default();
        let target = self.target();
        let old: Vec<String> = listed(target, "index")?.into_iter().map(|file| file.name).collect();
        let known = Known::load_what_is_whole(target, &self.sealer, &self.cache)?;
        let mut packs: Vec<(Id, u64)> = self.packs()?.into_iter().collect();
        packs.sort();

        let (mut whole, mut damaged): (Vec<Pack>, Vec<(Id, HashSet<Id>)>) = (Vec::new(), Vec::new());
        for (id, size) in &packs {
            match self.table(*id, *size) {
                Ok(pack) => whole.push(pack),
                Err(error) if error.is_missing() => {}
                Err(Error::Damaged { .. }) => damaged.push((*id, HashSet::new())),
                Err(error) => return Err(error),
            }
        }
        // What is read: on request all, else only the packs that are known to be damaged, for what they still hold.
        let read: Vec<(Id, u64)> = if read_data {
            packs
        } else {
            packs.into_iter().filter(|(id, _)| damaged.iter().any(|(bad, _)| bad == id)).collect()
        };
        damaged = self.read_packs(&read, &known)?.into_iter().map(|damage| (damage.id, damage.whole)).collect();
        let bad: HashSet<Id> = damaged.iter().map(|(id, _)| *id).collect();
        let tables: Vec<Pack> = whole.iter().filter(|pack| bad.contains(&pack.id)).cloned().collect();
        whole.retain(|pack| !bad.contains(&pack.id));
        report.indexed = whole.len() as u64;

        // The new index first, then what is saved, then the old index files go, then the damaged packs.
        let mut written = HashSet::new();
        for packs in in_parts(whole) {
            written.insert(index::name(index::write(target, &self.sealer, &packs)?));
        }
        lease.renew()?;
        // Announced as by a prune, and before looking at what others have announced: a writer that relies on one of them sees it, and of a
        // prune at the same time and this at least one copies.
        let above = Dooms::read(target)?.highest;
        let number =
            if bad.is_empty() { None } else { Some(doom::announce(target, bad.iter().copied().collect(), above)?) };
        let dooms = Dooms::read(target)?;
        let fresh = Known::load_what_is_whole(target, &self.sealer, &self.cache)?;
        let fresh = fresh.relying_on(&|id, _| !bad.contains(id) && !dooms.packs.contains(id));
        let store = Store::new(self, fresh, 64 << 20);
        let mut press = Press::new(Codec::default());
        let mut lost = HashSet::new();
        for (id, readable) in &damaged {
            let table = tables.iter().find(|pack| pack.id == *id).map(|pack| pack.entries.clone());
            let entries = table.map_or_else(|| known.entries_of(id), Ok)?;
            for entry in entries {
                if !readable.contains(&entry.id) {
                    lost.insert(entry.id);
                    continue;
                }
                if store.known.find(&entry.id)?.is_none() {
                    let bytes = self.read_blob(&mut press, &Location { pack: *id, entry })?;
                    store.put(&mut press, entry.flags.kind(), &bytes)?;
                    report.saved += 1;
                }
            }
        }
        store.flush()?;
        for id in lost {
            report.lost += u64::from(store.known.find(&id)?.is_none());
        }
        target.delete(&old.into_iter().filter(|file| !written.contains(file)).collect::<Vec<_>>())?;
        if let Some(number) = number {
            target.delete(&bad.iter().map(|id| pack::name(*id)).collect::<Vec<_>>())?;
            doom::done(target, &[number])?;
            report.dropped = damaged.into_iter().map(|(id, _)| id).collect();
            report.dropped.sort();
        }
        let check = self.check(Depth::Structure)?;
        report.hurt = check.hurt;
        report.left = check.problems;
        lease.end()?;
        Ok(report)
    }
}

/// Packs in parts for one index file each.
fn in_parts(packs: Vec<Pack>) -> Vec<Vec<Pack>> {
    let mut parts: Vec<Vec<Pack>> = Vec::new();
    let mut entries = usize::MAX;
    for pack in packs {
        if entries >= 1 << 16 {
            parts.push(Vec::new());
            entries = 0;
        }
        entries += pack.entries.len();
        if let Some(part) = parts.last_mut() {
            part.push(pack);
        }
    }
    parts
}
