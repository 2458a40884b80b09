//! Makes a finished backup visible: claim, a look at the dooms, manifest.
//!
//! The order is the argument; it stands on the design page under "Deleting".

use std::collections::HashSet;

use super::blob::{Codec, Kind, Press};
use super::carry::Carrier;
use super::doom::Dooms;
use super::error::{Error, Result};
use super::id::Id;
use super::known::Known;
use super::manifest::{self, Manifest, Root, ids};
use super::repository::{Repository, View};
use super::store::Store;

/// How often a commit copies what prunes take away before it gives up.
const MOST_TRIES: u32 = 20;

pub(super) fn claim_name(id: Id) -> String {
    format!("claims/{id}")
}

/// Makes a backup visible whose blobs are stored and flushed. `seen` are the dooms of when it began.
pub(super) fn commit(repository: &Repository, store: Store<'_>, seen: &Dooms, manifest: &Manifest) -> Result<Id> {
    let target = repository.target();
    let (id, file) = manifest.encode(&repository.sealer)?;
    // Its memory is not needed any more, and a walk may need as much.
    drop(store);
    target.put(&claim_name(id), &file)?;
    let mut safe = Safe { repository, manifest, highest: seen.highest, walk: !seen.all_done() };
    if let Err(error) = safe.wait() {
        target.delete(&[claim_name(id)])?;
        return Err(error);
    }
    target.put(&manifest::name(id), &file)?;
    // A doom of the time between was made by someone who saw the claim. This look is for a writer that was stopped here for so long that its claim
    // was taken for abandoned.
    if let Err(error) = safe.wait() {
        target.delete(&[manifest::name(id)])?;
        target.delete(&[claim_name(id)])?;
        return Err(error);
    }
    target.delete(&[claim_name(id)])?;
    Ok(id)
}

struct Safe<'a> {
    repository: &'a Repository,
    manifest: &'a Manifest,
    highest: u32,
    walk: bool,
}

impl Safe<'_> {
    /// Returns when no prune takes away what the manifest needs.
    fn wait(&mut self) -> Result<()> {
        for _ in 0..MOST_TRIES {
            if !self.walk && Dooms::read(self.repository.target())?.highest == self.highest {
                return Ok(());
            }
            let view = self.repository.view(false)?;
            self.highest = view.dooms.highest;
            save(self.repository, view, std::slice::from_ref(self.manifest)).map_err(|error| match error {
                Error::Lost { what } | Error::Missing(what) => Error::Raced(what),
                other => other,
            })?;
            self.walk = false;
        }
        Err(Error::Raced("one prune followed another".to_owned()))
    }
}

/// Copies what manifests need and what lies only in doomed packs. Returns the bytes that were copied.
///
/// Errors: `Lost` or `Missing` where something is in no pack that can be read.
pub(super) fn save(repository: &Repository, view: View, manifests: &[Manifest]) -> Result<u64> {
    // An index file may name packs that are gone, beside a place of the same blob that is not.
    let everything = view.everything.relying_on(&|id, _| view.packs.contains_key(id));
    let store = Store::new(repository, view.known, 64 << 20);
    for (id, size) in view.unnamed {
        match repository.table(id, size) {
            Ok(pack) => store.adopt(pack),
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    let mut carrier = Carrier::new(repository, &everything, &store);
    let mut walked = HashSet::new();
    for manifest in manifests {
        walk(repository, (&store.known, &everything), manifest, &mut walked, &mut |id, kind| carrier.take(id, kind))?;
    }
    carrier.copy()?;
    store.flush()?;
    Ok(store.added())
}

/// Calls `each` for every blob of a backup. Segments in `walked` were walked before and are passed over. What is not in `usable` packs is read
/// from wherever it still is.
pub(super) fn walk(
    repository: &Repository,
    (usable, everything): (&Known, &Known),
    manifest: &Manifest,
    walked: &mut HashSet<Id>,
    each: &mut dyn FnMut(&Id, Kind) -> Result<()>,
) -> Result<()> {
    let mut press = Press::new(Codec::Stored);
    let mut read = |kind, id: &Id| -> Result<Vec<u8>> {
        let read = |place: &_| repository.read_blob(&mut press, place);
        if usable.find(id)?.is_some() {
            usable.read_from_first(kind, id, read)
        } else {
            everything.read_from_any(kind, id, read)
        }
    };
    for disk in &manifest.disks {
        each(&disk.root, Kind::Root)?;
        let root = Root::decode(&read(Kind::Root, &disk.root)?);
        let root = root.ok_or_else(|| Error::damaged(format!("root {}", disk.root), "it is no root"))?;
        for segment in root.segments.iter().filter(|segment| **segment != Id::ZERO) {
            if !walked.insert(*segment) {
                continue;
            }
            each(segment, Kind::Segment)?;
            let chunks = ids(&read(Kind::Segment, segment)?);
            let chunks = chunks.ok_or_else(|| Error::damaged(format!("segment {segment}"), "it is no segment"))?;
            for chunk in chunks.iter().filter(|chunk| **chunk != Id::ZERO) {
                each(chunk, Kind::Chunk)?;
            }
        }
    }
    manifest.files.iter().flat_map(|file| &file.parts).try_for_each(|part| each(part, Kind::File))
}
