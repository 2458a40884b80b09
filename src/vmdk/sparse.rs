//! A sparse extent in a file, read anywhere: with compressed grains (streamOptimized) or plain ones (monolithicSparse).
//!
//! Opening it checks the whole structure once. A read looks up the grain's place anew and checks it again, so memory is the grain
//! directory alone, and a file that changed meanwhile gives an error.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::SECTOR;
use super::deflate::Inflater;
use super::descriptor::Descriptor;
use super::error::{Error, Result};
use super::header::{AT_END, ENTRIES, GrainMarker, Header, Sector, TABLE, u32_at};
use super::walk::{Input, Walk, embedded};

type Table = [u8; (TABLE * SECTOR) as usize];

pub(super) struct Sparse {
    file: File,
    header: Header,
    /// The sector of each grain table; 0 where all its grains are zeros.
    directory: Vec<u32>,
    /// The sectors of the file.
    end: u64,
}

thread_local! {
    /// What inflating needs, kept for the next grain of the thread.
    static WORK: RefCell<(Inflater, Vec<u8>, Vec<u8>)> = RefCell::new((Inflater::new(), Vec::new(), Vec::new()));
}

/// A file that is walked.
struct Walked<'f> {
    file: &'f File,
    at: u64,
    length: u64,
}

impl Input for Walked<'_> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let length = (self.length - self.at).min(bytes.len() as u64) as usize;
        let wanted = bytes.get_mut(..length).unwrap_or_default();
        self.file.read_exact_at(wanted, self.at).map_err(Error::io("read the disk"))?;
        self.at += length as u64;
        Ok(length)
    }

    fn pass(&mut self, bytes: u64) -> Result<u64> {
        let passed = bytes.min(self.length - self.at);
        self.at += passed;
        Ok(passed)
    }
}

impl Sparse {
    /// Opens an extent and checks its structure.
    pub fn open(file: File) -> Result<(Self, Option<Descriptor>)> {
        let length = file.metadata().map_err(Error::io("read the disk"))?.len();
        let mut first: Sector = [0; SECTOR as usize];
        if length < SECTOR {
            return Err(Error::damaged(0, "header", format!("the file has {length} bytes")));
        }
        file.read_exact_at(&mut first, 0).map_err(Error::io("read the disk"))?;
        let header = Header::first(&first)?;
        let mut extent = Self { file, header, directory: Vec::new(), end: length / SECTOR };
        let descriptor =
            if extent.header.is_compressed() { extent.open_stream(length)? } else { extent.open_plain()? };
        Ok((extent, descriptor))
    }

    /// The size of the part of the disk in bytes.
    pub fn size(&self) -> u64 {
        self.header.capacity * SECTOR
    }

    pub fn is_stream(&self) -> bool {
        self.header.is_compressed()
    }

    fn open_stream(&mut self, length: u64) -> Result<Option<Descriptor>> {
        let mut walk = Walk::begin(Walked { file: &self.file, at: 0, length })?;
        while let Some(found) = walk.next()? {
            walk.skip(&found)?;
        }
        let descriptor = walk.descriptor.take();
        let mut directory = self.header.directory;
        if directory == AT_END {
            // The walk has found it there: behind it are the footer with its marker, and the end of the stream.
            directory = self.end.saturating_sub(3 + self.header.directory_sectors());
        }
        self.directory = self.read_directory(directory, "grain directory")?;
        Ok(descriptor)
    }

    fn open_plain(&mut self) -> Result<Option<Descriptor>> {
        let header = &self.header;
        if header.overhead > self.end {
            let what = format!("{} sectors, and the file has {}", header.overhead, self.end);
            return Err(Error::damaged(64, "overhead", what));
        }
        let mut descriptor = None;
        if header.descriptor_size > 0 {
            let mut text = vec![0; (header.descriptor_size * SECTOR) as usize];
            self.file.read_exact_at(&mut text, header.descriptor * SECTOR).map_err(Error::io("read the disk"))?;
            descriptor = embedded(&text, header)?;
        }
        let mut directories = Vec::new();
        for (at, field, place) in header.directories() {
            if place == AT_END {
                return Err(Error::damaged(at, field, "only a stream has it at its end"));
            }
            directories.push((field, place, self.read_directory(place, field)?));
        }
        if header.directory == AT_END {
            return Err(Error::damaged(56, "grain directory", "only a stream has it at its end"));
        }
        self.check_tables(&directories)?;
        self.directory = directories.pop().map(|(_, _, directory)| directory).unwrap_or_default();
        self.check_grains(directories.first().map(|(_, _, other)| other.as_slice()))?;
        Ok(descriptor)
    }

    fn read_directory(&self, place: u64, field: &'static str) -> Result<Vec<u32>> {
        let mut bytes = vec![0; (self.header.tables() * 4) as usize];
        let cut = |_| Error::damaged(place * SECTOR, field, "it lies outside of the file");
        self.file.read_exact_at(&mut bytes, place * SECTOR).map_err(cut)?;
        Ok((0..self.header.tables() as usize).map(|table| u32_at(&bytes, table * 4)).collect())
    }

    /// No table may lie outside of the overhead, or on anything else.
    fn check_tables(&self, directories: &[(&'static str, u64, Vec<u32>)]) -> Result<()> {
        let header = &self.header;
        // Sector, sectors. All lie within the overhead, whose end is a sector of 32 bits.
        let mut taken: Vec<(u32, u32)> = vec![(0, 1)];
        let mut take = |place: u64, sectors: u64| {
            if sectors > 0 {
                taken.push((place as u32, sectors as u32));
            }
        };
        take(header.descriptor, header.descriptor_size);
        for (field, place, tables) in directories {
            take(*place, header.directory_sectors());
            for (number, table) in (0u64..).zip(tables).filter(|(_, table)| **table != 0) {
                let table = u64::from(*table);
                if table + TABLE > header.overhead {
                    let what = format!("table {number} at sector {table} does not lie within the overhead");
                    return Err(Error::damaged(place * SECTOR + number * 4, field, what));
                }
                take(table, TABLE);
            }
        }
        taken.sort_unstable();
        for pair in taken.windows(2) {
            if let [(first, sectors), (second, _)] = pair
                && u64::from(*first) + u64::from(*sectors) > u64::from(*second)
            {
                let what = format!("two of the header, the descriptor, directories and tables lie on sector {second}");
                return Err(Error::damaged(u64::from(*second) * SECTOR, "grain directory", what));
            }
        }
        Ok(())
    }

    /// No grain may lie outside of the file or on another; the redundant tables must say the same.
    fn check_grains(&self, other: Option<&[u32]>) -> Result<()> {
        let header = &self.header;
        let mut taken = vec![0u64; (self.end / header.grain).div_ceil(64) as usize + 1];
        for table in 0..header.tables() {
            let place = self.directory.get(table as usize).copied().unwrap_or(0);
            let bytes = self.table(place)?;
            if let Some(other) = other {
                let second = other.get(table as usize).copied().unwrap_or(0);
                let same = self.table(second)? == bytes;
                if !same {
                    let what = format!("table {table} is not that of the redundant directory, at sector {second}");
                    return Err(Error::damaged(u64::from(place) * SECTOR, "grain table", what));
                }
            }
            for slot in 0..ENTRIES {
                let Some(grain) = header.place(u32_at(&bytes, slot as usize * 4)) else { continue };
                let own = u64::from(place) * SECTOR + slot * 4;
                let wrong = |what: &str| Err(Error::damaged(own, "grain table", format!("sector {grain} {what}")));
                self.check_place(table * ENTRIES + slot, grain, own)?;
                let cell = u64::from(grain) / header.grain;
                let bit = 1 << (cell % 64);
                match taken.get_mut((cell / 64) as usize) {
                    Some(taken) if *taken & bit == 0 => *taken |= bit,
                    _ => return wrong("is the place of two grains"),
                }
            }
        }
        Ok(())
    }

    /// Whether a grain can be where a table's entry, at the byte `own`, says that it is.
    fn check_place(&self, grain: u64, place: u32, own: u64) -> Result<()> {
        let header = &self.header;
        let sectors = if header.is_compressed() { 1 } else { (header.bytes_of(grain) as u64).div_ceil(SECTOR) };
        let place = u64::from(place);
        let what = if grain >= header.grains() {
            "is given for a grain behind the disk"
        } else if place < header.overhead {
            "lies in the overhead"
        } else if place + sectors > self.end {
            "lies outside of the file"
        } else if !header.is_compressed() && place % header.grain != 0 {
            "is no place for a grain: it is not a multiple of its size"
        } else {
            return Ok(());
        };
        Err(Error::damaged(own, "grain table", format!("sector {place} {what}")))
    }

    fn table(&self, place: u32) -> Result<Table> {
        let mut bytes = [0; (TABLE * SECTOR) as usize];
        if place != 0 {
            self.file.read_exact_at(&mut bytes, u64::from(place) * SECTOR).map_err(Error::io("read the disk"))?;
        }
        Ok(bytes)
    }

    /// The sector of a grain.
    fn place(&self, grain: u64) -> Result<Option<u32>> {
        let table = self.directory.get((grain / ENTRIES) as usize).copied().unwrap_or(0);
        if table == 0 {
            return Ok(None);
        }
        let mut entry = [0; 4];
        let own = u64::from(table) * SECTOR + grain % ENTRIES * 4;
        self.file.read_exact_at(&mut entry, own).map_err(Error::io("read the disk"))?;
        let Some(place) = self.header.place(u32::from_le_bytes(entry)) else { return Ok(None) };
        self.check_place(grain, place, own)?;
        Ok(Some(place))
    }

    /// Fills `bytes` from the byte `at` of the extent.
    pub fn read_at(&self, mut at: u64, mut bytes: &mut [u8]) -> Result<()> {
        let grain_bytes = self.header.grain_bytes() as u64;
        while !bytes.is_empty() {
            let (grain, inside) = (at / grain_bytes, (at % grain_bytes) as usize);
            let length = bytes.len().min(grain_bytes as usize - inside);
            let (part, rest) = bytes.split_at_mut(length);
            match self.place(grain)? {
                None => part.fill(0),
                Some(place) if self.is_stream() => self.inflate(grain, place, inside, part)?,
                Some(place) => {
                    let from = u64::from(place) * SECTOR + inside as u64;
                    self.file.read_exact_at(part, from).map_err(Error::io("read the disk"))?;
                }
            }
            at += length as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn inflate(&self, grain: u64, place: u32, inside: usize, part: &mut [u8]) -> Result<()> {
        let at = u64::from(place) * SECTOR;
        let mut marker = [0; GrainMarker::BYTES];
        self.file.read_exact_at(&mut marker, at).map_err(Error::io("read the disk"))?;
        let marker = GrainMarker::decode(&marker);
        if marker.sector != grain * self.header.grain || at / SECTOR + marker.sectors() > self.end {
            let what = format!("it is of sector {} and {} bytes long: not what was there", marker.sector, marker.size);
            return Err(Error::damaged(at, "grain", what));
        }
        if marker.size as usize > self.header.grain_bytes() * 2 {
            return Err(Error::damaged(at, "grain size", format!("{} bytes for one grain", marker.size)));
        }
        WORK.with_borrow_mut(|(inflater, packed, whole)| {
            packed.resize(marker.size as usize, 0);
            whole.resize(self.header.grain_bytes(), 0);
            let from = at + GrainMarker::BYTES as u64;
            self.file.read_exact_at(packed, from).map_err(Error::io("read the disk"))?;
            inflater.inflate(at, packed, whole, self.header.bytes_of(grain))?;
            match whole.get(inside..inside + part.len()) {
                Some(wanted) => part.copy_from_slice(wanted),
                None => return Err(Error::damaged(at, "grain", "it is too short")),
            }
            Ok(())
        })
    }

    /// The first range at or behind `at` whose grains are kept.
    pub fn next_data(&self, at: u64) -> Result<Option<Range<u64>>> {
        let bytes_of_grain = self.header.grain_bytes() as u64;
        let mut grain = at / bytes_of_grain;
        let mut first = None;
        'tables: while grain < self.header.grains() {
            let table = grain / ENTRIES;
            let place = self.directory.get(table as usize).copied().unwrap_or(0);
            if place == 0 {
                if first.is_some() {
                    break;
                }
                grain = (table + 1) * ENTRIES;
                continue;
            }
            let entries = self.table(place)?;
            while grain < self.header.grains().min((table + 1) * ENTRIES) {
                let kept = self.header.place(u32_at(&entries, (grain % ENTRIES) as usize * 4)).is_some();
                match first {
                    None if kept => first = Some(grain),
                    Some(_) if !kept => break 'tables,
                    _ => {}
                }
                grain += 1;
            }
            // One table's data at a time is enough.
            if first.is_some() {
                break;
            }
        }
        let end = (grain * bytes_of_grain).min(self.size());
        Ok(first.map(|first| (first * bytes_of_grain).max(at)..end))
    }
}

/// Turns an error of reading into one of files.
pub(super) fn as_io<T>(result: Result<T>) -> io::Result<T> {
    result.map_err(io::Error::from)
}
