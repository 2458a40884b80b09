//! What a repository holds, and what was saved by leaving out, by sharing and by compressing.

use serde::Serialize;

use super::blob::{Codec, Kind, Press};
use super::error::Result;
use super::id::Id;
use super::manifest::ids;
use super::repository::Repository;

/// Sizes in bytes. `logical` = `zero` + `duplicate` + `unique`, and `unique` - `compressed` was saved by compression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub backups: u64,
    pub packs: u64,
    /// All disks and files of all backups.
    pub logical: u64,
    /// Of it, chunks of zeros and holes.
    pub zero: u64,
    /// Of it, what is stored once for several places.
    pub duplicate: u64,
    /// Of it, what is stored.
    pub unique: u64,
    /// `unique` as it is stored: compressed and encrypted.
    pub compressed: u64,
    /// All packs, with segments, roots, tables, and what is not needed any more.
    pub stored: u64,
}

impl Repository {
    /// Adds up what all visible backups hold.
    pub fn stats(&self) -> Result<Stats> {
        let known = self.view(true)?.everything;
        let packs = self.packs()?;
        let mut stats = Stats { packs: packs.len() as u64, stored: packs.values().sum(), ..Stats::default() };
        let mut seen = vec![0u64; usize::try_from(known.records() / 64 + 1).unwrap_or(usize::MAX)];
        let mut press = Press::new(Codec::Stored);
        let mut raw = 0;
        let mut note = |id: &Id, stats: &mut Stats| -> Result<()> {
            let mut first = None;
            known.each_place(id, &mut |number, location| {
                first.get_or_insert((number, location));
            })?;
            let Some((number, location)) = first else { return Ok(()) };
            raw += u64::from(location.entry.raw);
            let Some(word) = seen.get_mut((number / 64) as usize) else { return Ok(()) };
            if *word >> (number % 64) & 1 == 0 {
                *word |= 1 << (number % 64);
                stats.unique += u64::from(location.entry.raw);
                stats.compressed += u64::from(location.entry.stored);
            }
            Ok(())
        };
        for (_, manifest) in self.backups()? {
            stats.backups += 1;
            for disk in &manifest.disks {
                stats.logical += disk.size;
                let root = self.root(&mut press, &known, disk)?;
                for segment in root.segments.iter().filter(|segment| **segment != Id::ZERO) {
                    let chunks = ids(&self.blob(&mut press, &known, Kind::Segment, segment)?).unwrap_or_default();
                    chunks.iter().filter(|chunk| **chunk != Id::ZERO).try_for_each(|chunk| note(chunk, &mut stats))?;
                }
            }
            for file in &manifest.files {
                stats.logical += file.size;
                file.parts.iter().try_for_each(|part| note(part, &mut stats))?;
            }
        }
        stats.zero = stats.logical.saturating_sub(raw);
        stats.duplicate = raw - stats.unique;
        Ok(stats)
    }
}
