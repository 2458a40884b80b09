//! Repairs a repository: makes its index anew from the packs, saves what damaged packs still hold, and names the backups that are hurt.
//!
//! It deletes nothing but index files that others replace, and packs whose every readable blob was copied first.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use super::blob::{Codec, Press};
use super::cache::Cache;
use super::check::{Depth, Problem};
use super::doom::{self, Dooms};
use super::error::{Error, Result};
use super::id::Id;
use super::known::{Known, Location};
use super::lease::Lease;
use super::pack::{self, Pack};
use super::prune::delete_unlocked;
use super::repository::Repository;
use super::seal::Sealer;
use super::store::{INDEX_ENTRIES, Store};
use super::target::listed;
use super::{index, keys, spare};

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// The files that were written anew from what else says the same: `config` or its copy.
    pub restored: Vec<String>,
    /// Packs that the new index names.
    pub indexed: u64,
    /// Packs that were damaged and are gone; what could be read of them lies in others.
    pub dropped: Vec<Id>,
    /// Of these the packs that a lock keeps: nothing relies on them, and a later prune deletes them.
    pub locked: u64,
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
    ///
    /// Errors: `Key` where something is sealed with a master key that the key in use lacks: it is not damaged, and nothing is dropped.
    pub fn repair(&self, read_data: bool) -> Result<RepairReport> {
        if let Sealer::Keyed(ring) = self.sealer.as_ref() {
            keys::holds_all(self.target(), ring)?;
        }
        let lease = Lease::take(self.target(), "repair")?;
        let target = self.target();
        let restored = spare::mend(target, &self.config_bytes)?;
        let mut report = RepairReport { restored, ..RepairReport::default() };
        let mut old: Vec<String> = listed(target, "index")?.into_iter().map(|file| file.name).collect();
        // What no repository named is not its own to delete.
        old.retain(|file| file.trim_start_matches("index/").parse::<Id>().is_ok());
        let known = Known::load_what_is_whole(target, &self.sealer, &self.cache)?;
        let mut packs: Vec<(Id, u64)> = self.packs()?.into_iter().collect();
        packs.sort();

        // What is read: on request all, else only the packs whose tables are damaged, for what they still hold.
        let mut damaged: Vec<(Id, HashSet<Id>)> = Vec::new();
        let mut read = |packs: &[(Id, u64)]| -> Result<HashSet<Id>> {
            let found = self.read_packs(packs, &known)?;
            if let Some(damage) = found.iter().find(|damage| damage.sealed_otherwise) {
                let what = format!(
                    "{} is encrypted with a master key that the key in use does not hold",
                    pack::name(damage.id)
                );
                return Err(Error::Key(format!("{what}: repair with the newest key; nothing was dropped")));
            }
            damaged.extend(found.into_iter().map(|damage| (damage.id, damage.whole)));
            Ok(damaged.iter().map(|(id, _)| *id).collect())
        };
        let mut bad = if read_data { read(&packs)? } else { HashSet::new() };

        // What is saved is believed to be elsewhere by the packs' own tables alone: an old index file may lie.
        let proven = Known::empty(&Arc::new(Cache::open(None)?));
        // The new index first, then what is saved, then the old index files go, then the damaged packs.
        let mut written = HashSet::new();
        let mut write = |packs: Vec<Pack>| -> Result<()> {
            let id = index::write(target, &self.sealer, &packs)?;
            written.insert(index::name(id));
            proven.absorb(id, &packs)
        };
        let mut part: Vec<Pack> = Vec::new();
        let mut entries = 0;
        let mut without_table = Vec::new();
        for (id, size) in packs.iter().filter(|(id, _)| !bad.contains(id)) {
            match self.table(*id, *size) {
                Ok(pack) => {
                    report.indexed += 1;
                    entries += pack.entries.len();
                    part.push(pack);
                }
                Err(error) if error.is_missing() => {}
                Err(Error::Damaged { .. }) => without_table.push((*id, *size)),
                Err(error) => return Err(error),
            }
            if entries >= INDEX_ENTRIES {
                write(std::mem::take(&mut part))?;
                entries = 0;
                lease.renew()?;
            }
        }
        if !part.is_empty() {
            write(part)?;
        }
        if !without_table.is_empty() {
            bad = read(&without_table)?;
        }
        let sizes: HashMap<Id, u64> = packs.into_iter().filter(|(id, _)| bad.contains(id)).collect();
        lease.renew()?;
        // Announced as by a prune, and before looking at what others have announced: a writer that relies on one of them sees it, and of a
        // prune at the same time and this at least one copies.
        let above = Dooms::read(target)?.highest;
        let number =
            if bad.is_empty() { None } else { Some(doom::announce(target, bad.iter().copied().collect(), above)?) };
        let dooms = Dooms::read(target)?;
        let kept = proven.relying_on(&|id, _| !bad.contains(id) && !dooms.packs.contains(id));
        let store = Store::new(self, kept, 64 << 20);
        let mut press = Press::new(Codec::default());
        let mut lost = HashSet::new();
        for (id, readable) in &damaged {
            // The table of a pack that is only damaged elsewhere is whole.
            let entries = match self.table(*id, sizes.get(id).copied().unwrap_or_default()) {
                Ok(pack) => pack.entries,
                Err(Error::Damaged { .. } | Error::Missing(_) | Error::UnknownMaster { .. }) => known.entries_of(id)?,
                Err(error) => return Err(error),
            };
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
        delete_unlocked(target, &old.into_iter().filter(|file| !written.contains(file)).collect::<Vec<_>>())?;
        if let Some(number) = number {
            let kept = delete_unlocked(target, &bad.iter().map(|id| pack::name(*id)).collect::<Vec<_>>())?;
            report.locked = kept.len() as u64;
            // As in a prune: what is announced and stays must stay announced.
            if kept.is_empty() {
                doom::done(target, &[number])?;
            }
            report.dropped = damaged.iter().map(|(id, _)| *id).collect();
            report.dropped.sort();
        }
        // A damaged pack that a lock keeps is there still, and so may be an index file that names it.
        let check = self.check_knowing(Depth::Structure, damaged.into_iter().collect())?;
        report.hurt = check.hurt;
        report.left = check.problems;
        lease.end()?;
        Ok(report)
    }
}
