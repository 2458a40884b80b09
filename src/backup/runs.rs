//! A sorted run: the entries of some index files in a file of this machine, found by one read.
//!
//! Blocks of 83 records and a checksum; in memory the head of each block's first id and a Bloom filter. A run is made once and never changed.
//! It can be thrown away at any time. A block that is not as it was written is an error: an answer from it could lose a backup.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::blob::Flags;
use super::error::{Error, Result};
use super::id::Id;
use super::pack::Entry;

const BLOCK: usize = 4096;
/// How many blocks are read at once where all are.
const AT_ONCE: usize = 32;
const RECORD: usize = 49;
const IN_BLOCK: usize = 83;
const MAGIC: &[u8; 8] = b"cesorun1";
const END: usize = 40;

/// An entry and the pack that it lies in, by its number in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub entry: Entry,
    pub pack: u32,
}

impl Record {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.entry.id.0);
        to.push(self.entry.flags.0);
        for number in [self.pack, self.entry.offset, self.entry.stored, self.entry.raw] {
            to.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk::<32>()?;
        let (flags, rest) = rest.split_first()?;
        let [pack, offset, stored, raw] = *rest.as_chunks::<4>().0.first_chunk::<4>()?;
        let number = u32::from_le_bytes;
        let entry = Entry {
            flags: Flags::checked(*flags)?,
            id: Id(*id),
            offset: number(offset),
            stored: number(stored),
            raw: number(raw),
        };
        Some(Self { entry, pack: number(pack) })
    }
}

/// A filter that says "surely not" for 99 of 100 ids that are not in it.
struct Bloom {
    bits: Vec<u8>,
}

impl Bloom {
    const HASHES: u64 = 7;

    fn for_records(records: u64) -> Self {
        Self { bits: vec![0; usize::try_from(records * 10 / 8 + 8).unwrap_or(usize::MAX)] }
    }

    /// The places of an id: it is random itself, so two of its words do for any number of hashes.
    fn places(&self, id: &Id) -> impl Iterator<Item = (usize, u8)> + use<> {
        let [_, one, two, _] = id.words();
        let length = (self.bits.len() as u64 * 8).max(1);
        (0..Self::HASHES).map(move |n| {
            let at = one.wrapping_add(n.wrapping_mul(two | 1)) % length;
            ((at / 8) as usize, 1 << (at % 8))
        })
    }

    fn add(&mut self, id: &Id) {
        for (byte, bit) in self.places(id) {
            if let Some(byte) = self.bits.get_mut(byte) {
                *byte |= bit;
            }
        }
    }

    fn may_have(&self, id: &Id) -> bool {
        self.places(id).all(|(byte, bit)| self.bits.get(byte).is_some_and(|byte| byte & bit != 0))
    }
}

/// A run that can be asked.
pub struct Run {
    file: File,
    place: String,
    /// The index files whose entries it has.
    pub covers: Vec<Id>,
    /// Its packs with their sizes; a record names one by its place here.
    pub packs: Vec<(Id, u64)>,
    records: u64,
    heads: Vec<u64>,
    bloom: Bloom,
}

/// Writes a run from records in the order of their ids.
pub struct RunWriter {
    file: BufWriter<File>,
    place: String,
    block: Vec<u8>,
    heads: Vec<u64>,
    bloom: Bloom,
    records: u64,
}

impl RunWriter {
    /// A run in a new file, for about so many records.
    pub fn new(path: &Path, records: u64) -> Result<Self> {
        let place = path.display().to_string();
        let file = File::options().read(true).write(true).create_new(true).open(path);
        let file = BufWriter::with_capacity(1 << 16, file.map_err(Error::io(&place, "create"))?);
        let bloom = Bloom::for_records(records);
        Ok(Self { file, place, block: Vec::with_capacity(BLOCK), heads: Vec::new(), bloom, records: 0 })
    }

    pub fn add(&mut self, record: &Record) -> Result<()> {
        if self.block.is_empty() {
            self.heads.push(record.entry.id.head());
        }
        record.write(&mut self.block);
        self.bloom.add(&record.entry.id);
        self.records += 1;
        if self.block.len() == IN_BLOCK * RECORD { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.block.resize(BLOCK - 4, 0);
        let check = crc32fast::hash(&self.block);
        self.block.extend_from_slice(&check.to_le_bytes());
        let written = self.file.write_all(&self.block).map_err(Error::io(&self.place, "write"));
        self.block.clear();
        written
    }

    /// Ends the run: what stays in memory of it is written behind the blocks.
    pub fn finish(mut self, covers: Vec<Id>, packs: Vec<(Id, u64)>) -> Result<Run> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        let lengths = [self.records, covers.len() as u64, packs.len() as u64, self.bloom.bits.len() as u64];
        // The filter of a large run is most of what a process holds: it is not copied once more to be written.
        let mut check = crc32fast::Hasher::new();
        let file = &mut self.file;
        let mut put = |bytes: &[u8]| {
            check.update(bytes);
            file.write_all(bytes)
        };
        let written = (self.heads.iter().try_for_each(|head| put(&head.to_le_bytes())))
            .and_then(|()| covers.iter().try_for_each(|id| put(&id.0)))
            .and_then(|()| packs.iter().try_for_each(|(id, size)| put(&id.0).and_then(|()| put(&size.to_le_bytes()))))
            .and_then(|()| put(&self.bloom.bits))
            .and_then(|()| lengths.iter().try_for_each(|length| put(&length.to_le_bytes())))
            .and_then(|()| file.write_all(&check.finalize().to_le_bytes()))
            .and_then(|()| file.write_all(&MAGIC[4..]))
            .and_then(|()| file.flush())
            .and_then(|()| {
                file.get_ref().sync_data()?;
                file.get_ref().try_clone()
            });
        let file = written.map_err(Error::io(&self.place, "write"))?;
        let Self { place, heads, bloom, records, .. } = self;
        Ok(Run { file, place, covers, packs, records, heads, bloom })
    }
}

impl Run {
    /// Opens a run that an earlier process made. Nothing where it is not whole: it is made anew then.
    pub fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let size = file.metadata().ok()?.len();
        let mut end = [0; END];
        file.read_exact_at(&mut end, size.checked_sub(END as u64)?).ok()?;
        let (numbers, rest) = end.split_at(32);
        if rest[4..] != MAGIC[4..] {
            return None;
        }
        let mut lengths = [0; 4];
        for (length, bytes) in lengths.iter_mut().zip(numbers.as_chunks::<8>().0) {
            *length = u64::from_le_bytes(*bytes);
        }
        let [records, covers, packs, bloom] = lengths;
        let blocks = records.div_ceil(IN_BLOCK as u64);
        let at = blocks.checked_mul(BLOCK as u64)?;
        let lengths = [blocks.checked_mul(8)?, covers.checked_mul(32)?, packs.checked_mul(40)?, bloom];
        let length = lengths.iter().try_fold(0u64, |sum, part| sum.checked_add(*part))?;
        if at.checked_add(length)?.checked_add(END as u64)? != size {
            return None;
        }
        let (mut check, mut at) = (crc32fast::Hasher::new(), at);
        let mut take = |length: u64| {
            let mut bytes = vec![0; usize::try_from(length).ok()?];
            file.read_exact_at(&mut bytes, at).ok()?;
            check.update(&bytes);
            at += length;
            Some(bytes)
        };
        let [heads, covers, packs, bloom] = lengths;
        let (heads, covers, packs, bits) = (take(heads)?, take(covers)?, take(packs)?, take(bloom)?);
        check.update(numbers);
        if check.finalize().to_le_bytes() != rest[..4] {
            return None;
        }
        let pack = |bytes: &[u8; 40]| {
            let (id, size) = bytes.split_first_chunk::<32>()?;
            Some((Id(*id), u64::from_le_bytes(*size.first_chunk::<8>()?)))
        };
        Some(Self {
            file,
            place: path.display().to_string(),
            covers: covers.as_chunks::<32>().0.iter().copied().map(Id).collect(),
            packs: packs.as_chunks::<40>().0.iter().map(pack).collect::<Option<_>>()?,
            records,
            heads: heads.as_chunks::<8>().0.iter().copied().map(u64::from_le_bytes).collect(),
            bloom: Bloom { bits },
        })
    }

    /// Notes that the file was renamed.
    pub fn moved(mut self, to: &Path) -> Self {
        self.place = to.display().to_string();
        self
    }

    /// Removes the file; whoever has it open keeps it.
    pub fn discard(&self) {
        // One that stays is removed by the next process that finds its index files covered.
        drop(std::fs::remove_file(&self.place));
    }

    /// How many records it has.
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether every block is as it was written: what was in a folder for long may not be.
    pub fn is_whole(&self) -> bool {
        let mut bytes = vec![0; BLOCK * AT_ONCE];
        let mut left = self.heads.len();
        let mut at = 0;
        while left > 0 {
            let some = &mut bytes[..left.min(AT_ONCE) * BLOCK];
            if self.file.read_exact_at(some, at).is_err() || !some.as_chunks::<BLOCK>().0.iter().all(sound) {
                return false;
            }
            left -= left.min(AT_ONCE);
            at += some.len() as u64;
        }
        true
    }

    /// The records of a block, which begin with the run's record `83 × block`.
    fn block(&self, block: usize) -> Result<Vec<Record>> {
        let mut bytes = [0; BLOCK];
        let damaged = || {
            // What cannot be believed is made anew by the next process.
            let why = match std::fs::remove_file(&self.place) {
                Ok(()) => "it was removed and will be made anew: run it again",
                Err(_) => "remove it: it will be made anew",
            };
            Error::damaged(&self.place, why)
        };
        self.file.read_exact_at(&mut bytes, block as u64 * BLOCK as u64).map_err(|_| damaged())?;
        if !sound(&bytes) {
            return Err(damaged());
        }
        let content = &bytes[..BLOCK - 4];
        let left = self.records.saturating_sub(block as u64 * IN_BLOCK as u64).min(IN_BLOCK as u64) as usize;
        let records = content.as_chunks::<RECORD>().0.iter().take(left);
        records.map(|bytes| Record::read(bytes)).collect::<Option<_>>().ok_or_else(damaged)
    }

    /// Calls `each` for the records of an id, with their numbers in the run.
    pub fn find(&self, id: &Id, each: &mut dyn FnMut(u64, &Record)) -> Result<()> {
        if !self.bloom.may_have(id) {
            return Ok(());
        }
        let head = id.head();
        let first = self.heads.partition_point(|at| *at < head).saturating_sub(1);
        for (block, _) in self.heads.iter().enumerate().skip(first).take_while(|(_, at)| **at <= head) {
            for (n, record) in self.block(block)?.iter().enumerate() {
                if record.entry.id == *id {
                    each((block * IN_BLOCK + n) as u64, record);
                }
            }
        }
        Ok(())
    }

    /// Calls `each` for all records in the order of their ids, with their numbers.
    pub fn each(&self, each: &mut dyn FnMut(u64, &Record) -> Result<()>) -> Result<()> {
        for block in 0..self.heads.len() {
            for (n, record) in self.block(block)?.iter().enumerate() {
                each((block * IN_BLOCK + n) as u64, record)?;
            }
        }
        Ok(())
    }
}

/// Whether a block has the bytes of its checksum.
fn sound(block: &[u8; BLOCK]) -> bool {
    let (content, check) = block.split_at(BLOCK - 4);
    crc32fast::hash(content).to_le_bytes() == check
}

/// Writes several runs as one. A blob that two of them name at the same place is written once.
pub fn merge(path: &Path, runs: &[&Run]) -> Result<Run> {
    let mut packs: Vec<(Id, u64)> = runs.iter().flat_map(|run| run.packs.iter().copied()).collect();
    packs.sort();
    packs.dedup();
    let number = |run: &Run, record: &Record| -> Result<Record> {
        let pack = run.packs.get(record.pack as usize).and_then(|pack| packs.binary_search(pack).ok());
        let pack = pack.ok_or_else(|| Error::damaged(&run.place, "a record names a pack that it does not have"))?;
        Ok(Record { pack: pack as u32, ..*record })
    };
    let mut writer = RunWriter::new(path, runs.iter().map(|run| run.records).sum())?;
    let mut heads: Vec<(usize, std::vec::IntoIter<Record>, Option<Record>)> = Vec::new();
    for run in runs {
        let mut records = if run.heads.is_empty() { Vec::new() } else { run.block(0)? }.into_iter();
        let first = records.next().map(|record| number(run, &record)).transpose()?;
        heads.push((0, records, first));
    }
    let key = |record: &Record| (record.entry.id, record.pack, record.entry.offset);
    let mut last = None;
    while let Some((at, record)) = heads
        .iter()
        .enumerate()
        .filter_map(|(at, (_, _, head))| Some((at, (*head)?)))
        .min_by_key(|(_, record)| key(record))
    {
        if last != Some(key(&record)) {
            writer.add(&record)?;
            last = Some(key(&record));
        }
        let (Some(run), Some((block, records, head))) = (runs.get(at), heads.get_mut(at)) else { break };
        let mut next = records.next();
        if next.is_none() && *block + 1 < run.heads.len() {
            *block += 1;
            *records = run.block(*block)?.into_iter();
            next = records.next();
        }
        *head = next.map(|record| number(run, &record)).transpose()?;
    }
    let mut covers: Vec<Id> = runs.iter().flat_map(|run| run.covers.iter().copied()).collect();
    covers.sort();
    covers.dedup();
    writer.finish(covers, packs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(seed: u32, count: u32) -> Vec<Record> {
        let mut records: Vec<Record> = (0..count)
            .map(|n| {
                let id = Id::of(&[seed.to_le_bytes(), n.to_le_bytes()].concat());
                let entry = Entry { flags: Flags(16), id, offset: n, stored: n + 1, raw: n + 2 };
                Record { entry, pack: n % 3 }
            })
            .collect();
        records.sort_by_key(|record| record.entry.id);
        records
    }

    fn packs(seed: u8) -> Vec<(Id, u64)> {
        (0..3).map(|n| (Id([seed + n; 32]), u64::from(n))).collect()
    }

    fn run(path: &Path, seed: u32, count: u32) -> Run {
        let mut writer = RunWriter::new(path, u64::from(count)).unwrap();
        records(seed, count).iter().for_each(|record| writer.add(record).unwrap());
        writer.finish(vec![Id([9; 32])], packs(seed as u8)).unwrap()
    }

    fn found(run: &Run, id: &Id) -> Vec<Record> {
        let mut found = Vec::new();
        run.find(id, &mut |_, record| found.push(*record)).unwrap();
        found
    }

    #[test]
    fn every_record_is_found_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for count in [0, 1, 82, 83, 84, 1000] {
            let path = folder.path().join(count.to_string());
            run(&path, 1, count);
            let run = Run::open(&path).unwrap();
            assert_eq!(run.len(), u64::from(count));
            for record in records(1, count) {
                assert_eq!(found(&run, &record.entry.id), [record]);
            }
            assert!(records(2, 500).iter().all(|record| found(&run, &record.entry.id).is_empty()));
        }
    }

    #[test]
    fn a_merged_run_has_what_its_parts_have_once() {
        let folder = tempfile::tempdir().unwrap();
        let parts: Vec<Run> = [(1, 300), (4, 200), (1, 300)]
            .iter()
            .enumerate()
            .map(|(n, (seed, count))| run(&folder.path().join(n.to_string()), *seed, *count))
            .collect();
        let merged = merge(&folder.path().join("merged"), &parts.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(merged.len(), 500);
        for (seed, count) in [(1, 300), (4, 200)] {
            for record in records(seed, count) {
                let found = found(&merged, &record.entry.id);
                assert_eq!(found.len(), 1);
                assert_eq!(merged.packs[found[0].pack as usize], packs(seed as u8)[record.pack as usize]);
            }
        }
    }

    #[test]
    fn a_damaged_run_gives_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        run(&path, 1, 200);
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            std::fs::write(&path, &flipped).unwrap();
            let Some(run) = Run::open(&path) else { continue };
            for record in records(1, 200) {
                let mut found = Vec::new();
                if run.find(&record.entry.id, &mut |_, record| found.push(*record)).is_ok() {
                    assert_eq!(found, [record], "byte {at}");
                }
            }
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(Run::open(&path).is_none());
    }
}
