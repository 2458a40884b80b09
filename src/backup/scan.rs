//! Reads whole packs and says which of their blobs are as they were written.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::blob::{Codec, Press};
use super::check::{Indexed, Problem};
use super::error::{Error, Result};
use super::id::Id;
use super::index;
use super::known::Known;
use super::pack::{self, Entry, HEADER};
use super::repository::Repository;
use super::threads::{on_threads, processors};

/// What reading a damaged pack showed.
pub(super) struct Damage {
    pub id: Id,
    /// The blobs that can be read all the same.
    pub whole: HashSet<Id>,
    pub problems: Vec<Problem>,
    /// Its bytes are those that its name says, and something in it is sealed with a master key that the ring lacks.
    pub sealed_otherwise: bool,
}

impl Repository {
    /// Reads packs on all processors. Returns those that are damaged. One that goes meanwhile was pruned, and is passed over.
    pub(super) fn read_packs(&self, packs: &[(Id, u64)], known: &Known) -> Result<Vec<Damage>> {
        self.read_indexed_packs(packs, known, &HashMap::new())
    }

    /// The same, and what index files say of the packs is held against their tables.
    pub(super) fn read_indexed_packs(
        &self,
        packs: &[(Id, u64)],
        known: &Known,
        indexed: &HashMap<Id, Indexed>,
    ) -> Result<Vec<Damage>> {
        // The smallest last, so that no thread is long alone at the end.
        let mut packs = packs.to_vec();
        packs.sort_by_key(|(id, size)| (Reverse(*size), *id));
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || -> Result<()> {
            let mut press = Press::new(Codec::Stored);
            while let Some((id, size)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.read_pack(&mut press, *id, *size, known, indexed.get(id)) {
                    Err(Error::Missing(_)) => {}
                    other => found.lock().unwrap_or_else(PoisonError::into_inner).extend(other?),
                }
            }
            Ok(())
        };
        on_threads(processors().min(packs.len()), work)?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads a pack. Nothing where every byte is as it was written.
    fn read_pack(
        &self,
        press: &mut Press,
        id: Id,
        size: u64,
        known: &Known,
        indexed: Option<&Indexed>,
    ) -> Result<Option<Damage>> {
        let file = pack::name(id);
        let mut damage = Damage { id, whole: HashSet::new(), problems: Vec::new(), sealed_otherwise: false };
        let note = |damage: &mut Damage, error: Error| match error {
            Error::Damaged { file, what } => {
                damage.problems.push(Problem { file, what });
                Ok(())
            }
            error @ Error::UnknownMaster { .. } => {
                damage.sealed_otherwise = true;
                damage.problems.push(Problem { file: pack::name(id), what: error.to_string() });
                Ok(())
            }
            other => Err(other),
        };
        let mut lies = Vec::new();
        let entries = match self.table(id, size) {
            Ok(pack) => {
                let own = pack::digest(&pack.entries);
                let others = indexed.iter().flat_map(|indexed| &indexed.files).filter(|(_, told)| *told != own);
                lies.extend(others.map(|(file, _)| Problem {
                    file: index::name(*file),
                    what: format!("it does not say of {} what its table says: repair the repository", pack::name(id)),
                }));
                pack.entries
            }
            Err(error) => {
                note(&mut damage, error)?;
                known.entries_of(&id)?
            }
        };
        let mut hasher = Sha256::new_with_prefix(self.target().get(&file, 0..(HEADER as u64).min(size))?);
        let (mut rest, mut bytes) = (entries.as_slice(), Vec::new());
        let at_once = self.target().at_once();
        let mut end = HEADER as u64;
        while let Some(first) = rest.first() {
            let from = u64::from(first.offset);
            let near = |entry: &&Entry| {
                u64::from(entry.offset) + u64::from(entry.stored) <= from + at_once && entry.offset >= first.offset
            };
            let count = rest.iter().take_while(near).count().max(1);
            let (group, after) = rest.split_at(count);
            rest = after;
            end = group.iter().map(|entry| u64::from(entry.offset) + u64::from(entry.stored)).max().unwrap_or(from);
            if let Err(error) = self.target().get_into(&file, from..end.min(size), &mut bytes) {
                note(&mut damage, error)?;
                continue;
            }
            hasher.update(&bytes);
            for entry in group {
                let at = (entry.offset - first.offset) as usize;
                let frame = bytes.get_mut(at..at + entry.stored as usize).unwrap_or_default();
                match press.open(&self.sealer, entry.flags, entry.id, entry.raw, frame, &file) {
                    Ok(_) => drop(damage.whole.insert(entry.id)),
                    Err(error) => note(&mut damage, error)?,
                }
            }
        }
        hasher.update(self.target().get(&file, end.min(size)..size)?);
        let sound = hasher.finalize().as_slice() == id.0;
        damage.sealed_otherwise &= sound;
        if damage.problems.is_empty() && !sound {
            let what = "its bytes are not those that its name says".to_owned();
            damage.problems.push(Problem { file, what });
        }
        damage.problems.extend(lies);
        Ok((!damage.problems.is_empty()).then_some(damage))
    }
}
