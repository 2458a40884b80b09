//! The content of a delta disk, `NAME-delta.vmdk`: the sectors that were written since its parent was frozen.
//!
//! The form is VMware's copy-on-write disk (`COWD`), which descriptors call `VMFSSPARSE`: a header of four sectors, a directory of
//! tables of 4096 entries, grains of one sector; an entry of zero stands for "ask the parent". qemu-img reads it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::vmdk::VmdkError;

const SECTOR: u64 = 512;
const MAGIC: &[u8; 4] = b"COWD";
/// The header's sectors; the directory comes next.
const HEADER: u32 = 4;
/// Entries of a table, which takes 32 sectors.
const TABLE: u64 = 4096;
const TABLE_SECTORS: u32 = 32;

/// An open delta.
#[derive(Debug)]
pub struct Delta {
    file: File,
    sectors: u64,
    directory: Vec<u32>,
    /// Where the next grain or table goes.
    free: u32,
}

/// Sectors that lie one behind the other, on the disk as in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub sector: u64,
    pub count: u64,
    at: u64,
}

impl Delta {
    /// Makes an empty delta; the file may not be there yet. Its 32-bit numbers can tell of disks up to 2 TiB.
    pub fn create(path: &Path, capacity: u64) -> Result<(), VmdkError> {
        let sectors =
            u32::try_from(capacity.div_ceil(SECTOR)).map_err(|_| VmdkError::Format("it is too large for a delta"))?;
        let entries = u64::from(sectors).div_ceil(TABLE);
        let directory = (entries * 4).div_ceil(SECTOR);
        let free = u64::from(HEADER) + directory;
        let words = [1, 3, sectors, 1, HEADER, narrow(entries)?, narrow(free)?];
        let mut header = MAGIC.to_vec();
        words.iter().for_each(|word| header.extend_from_slice(&word.to_le_bytes()));
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.set_len(free * SECTOR)?;
        file.write_all_at(&header, 0)?;
        Ok(())
    }

    /// Opens a delta of a disk of that capacity. What its numbers point at is checked when it is read.
    pub fn open(path: &Path, capacity: u64, write: bool) -> Result<Self, VmdkError> {
        let file = OpenOptions::new().read(true).write(write).open(path)?;
        let mut header = [0; 32];
        file.read_exact_at(&mut header, 0).map_err(short)?;
        let word = |index: usize| header.get(index * 4..).and_then(first_word).unwrap_or_default();
        if header.get(..4) != Some(MAGIC) || word(1) != 1 {
            return Err(VmdkError::Format("its content is no copy-on-write disk"));
        }
        let (sectors, entries) = (u64::from(word(3)), u64::from(word(6)));
        if sectors != capacity.div_ceil(SECTOR) || word(4) != 1 || entries != sectors.div_ceil(TABLE) {
            return Err(VmdkError::Format("its content is of another size than its descriptor says"));
        }
        let mut bytes = vec![0; usize::try_from(entries * 4).unwrap_or_default()];
        file.read_exact_at(&mut bytes, u64::from(word(5)) * SECTOR).map_err(short)?;
        let directory = bytes.chunks_exact(4).filter_map(first_word).collect();
        // The next free place is the end of the file: a number in the header may lag behind after a kill.
        let free = narrow(file.metadata()?.len().div_ceil(SECTOR))?.max(word(7));
        Ok(Self { file, sectors, directory, free })
    }

    fn table(&self, number: usize) -> Result<Option<Vec<u32>>, VmdkError> {
        let at = self.directory.get(number).copied().unwrap_or_default();
        if at == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(TABLE * 4).unwrap_or_default()];
        self.file.read_exact_at(&mut bytes, u64::from(at) * SECTOR).map_err(short)?;
        Ok(Some(bytes.chunks_exact(4).filter_map(first_word).collect()))
    }

    /// All that was written, in the order of the disk.
    pub fn runs(&self) -> Result<Vec<Run>, VmdkError> {
        let mut runs: Vec<Run> = Vec::new();
        for number in 0..self.directory.len() {
            let Some(table) = self.table(number)? else { continue };
            for (index, at) in (0..).zip(table) {
                let (sector, at) = (number as u64 * TABLE + index, u64::from(at));
                if at == 0 || sector >= self.sectors {
                    continue;
                }
                match runs.last_mut() {
                    Some(last) if last.sector + last.count == sector && last.at + last.count == at => last.count += 1,
                    _ => runs.push(Run { sector, count: 1, at }),
                }
            }
        }
        Ok(runs)
    }

    /// Reads a run's bytes from `skip` sectors on, as many as fit.
    pub fn read_run(&self, run: Run, skip: u64, buffer: &mut [u8]) -> Result<(), VmdkError> {
        self.file.read_exact_at(buffer, (run.at + skip) * SECTOR).map_err(short)
    }

    /// Reads one sector; tells whether it was ever written here.
    pub fn read(&self, sector: u64, buffer: &mut [u8; 512]) -> Result<bool, VmdkError> {
        let number = usize::try_from(sector / TABLE).unwrap_or(usize::MAX);
        let at = match self.directory.get(number).copied().unwrap_or_default() {
            0 => 0,
            table => {
                let mut entry = [0; 4];
                self.file.read_exact_at(&mut entry, u64::from(table) * SECTOR + (sector % TABLE) * 4).map_err(short)?;
                u32::from_le_bytes(entry)
            }
        };
        if at == 0 {
            return Ok(false);
        }
        self.file.read_exact_at(buffer, u64::from(at) * SECTOR).map_err(short)?;
        Ok(true)
    }

    /// Writes one sector.
    pub fn write(&mut self, sector: u64, bytes: &[u8; 512]) -> Result<(), VmdkError> {
        let number = usize::try_from(sector / TABLE).unwrap_or(usize::MAX);
        let table = match self.directory.get(number).copied() {
            None => return Err(VmdkError::Format("a write lies behind the end of the disk")),
            Some(0) => {
                let table = self.take(TABLE_SECTORS)?;
                self.file.set_len(u64::from(self.free) * SECTOR)?;
                let place = u64::from(HEADER) * SECTOR + number as u64 * 4;
                self.file.write_all_at(&table.to_le_bytes(), place)?;
                if let Some(entry) = self.directory.get_mut(number) {
                    *entry = table;
                }
                table
            }
            Some(table) => table,
        };
        let place = u64::from(table) * SECTOR + (sector % TABLE) * 4;
        let mut entry = [0; 4];
        self.file.read_exact_at(&mut entry, place).map_err(short)?;
        let known = u32::from_le_bytes(entry);
        if known != 0 {
            return Ok(self.file.write_all_at(bytes, u64::from(known) * SECTOR)?);
        }
        let at = self.take(1)?;
        // The content first: an entry never points at what was not written.
        self.file.write_all_at(bytes, u64::from(at) * SECTOR)?;
        self.file.write_all_at(&at.to_le_bytes(), place)?;
        Ok(())
    }

    /// Takes free sectors at the end of the file.
    fn take(&mut self, sectors: u32) -> Result<u32, VmdkError> {
        let at = self.free;
        self.free = at.checked_add(sectors).ok_or(VmdkError::Format("the delta has no room left"))?;
        self.file.write_all_at(&self.free.to_le_bytes(), 28)?;
        Ok(at)
    }
}

fn first_word(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|word| u32::from_le_bytes(*word))
}

fn narrow(number: u64) -> Result<u32, VmdkError> {
    u32::try_from(number).map_err(|_| VmdkError::Format("it is too large for a delta"))
}

/// A file that ends before what it points at is damaged, and not merely unreadable.
fn short(error: io::Error) -> VmdkError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => VmdkError::Format("its content is cut off"),
        _ => VmdkError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a-delta.vmdk");
        let capacity = 1 << 30;
        Delta::create(&path, capacity).unwrap();
        let mut delta = Delta::open(&path, capacity, true).unwrap();
        assert!(delta.runs().unwrap().is_empty());
        for sector in [0, 1, 2, 4095, 4096, (capacity / 512) - 1] {
            delta.write(sector, &[sector as u8 | 1; 512]).unwrap();
        }
        delta.write(1, &[9; 512]).unwrap();
        assert!(delta.write(capacity / 512 + 4096, &[1; 512]).is_err());
        let delta = Delta::open(&path, capacity, false).unwrap();
        let mut sector = [0; 512];
        assert!(delta.read(1, &mut sector).unwrap() && sector == [9; 512]);
        assert!(!delta.read(3, &mut sector).unwrap());
        let runs: Vec<(u64, u64)> = delta.runs().unwrap().iter().map(|run| (run.sector, run.count)).collect();
        assert_eq!(runs, [(0, 3), (4095, 1), (4096, 1), (capacity / 512 - 1, 1)]);
    }

    #[test]
    fn a_damaged_delta_is_refused_and_never_read_beyond_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a-delta.vmdk");
        Delta::create(&path, 1 << 20).unwrap();
        assert!(matches!(Delta::open(&path, 2 << 20, false), Err(VmdkError::Format(_))));
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 3, 31, 2048] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(Delta::open(&path, 1 << 20, false), Err(VmdkError::Format(_))), "{cut}");
        }
        let mut wild = whole.clone();
        wild[2048..2052].copy_from_slice(&u32::MAX.to_le_bytes());
        std::fs::write(&path, &wild).unwrap();
        let delta = Delta::open(&path, 1 << 20, false).unwrap();
        assert!(matches!(delta.runs(), Err(VmdkError::Format(_))));
        assert!(matches!(delta.read(0, &mut [0; 512]), Err(VmdkError::Format(_))));
    }
}
