//! The header of a sparse extent, which is its footer as well, and the markers of a stream.

use super::error::{Error, Result};
use super::{LARGEST, SECTOR};

/// The bytes of a sector.
pub(super) type Sector = [u8; SECTOR as usize];

pub(super) const MAGIC: &[u8; 4] = b"KDMV";
/// Entries of a grain table. The format has room for other numbers; no writer uses them.
pub(super) const ENTRIES: u64 = 512;
/// Sectors of a grain table.
pub(super) const TABLE: u64 = ENTRIES * 4 / SECTOR;
/// The place of the grain directory in a header whose footer knows it.
pub(super) const AT_END: u64 = u64::MAX;
/// A descriptor is text of a few hundred bytes; what is larger is none.
pub(super) const LARGEST_DESCRIPTOR: u64 = 64 << 10;
/// More grain tables than any real disk: 62 TiB in grains of 64 KiB have 2,031,616.
const MOST_TABLES: u64 = 4 << 20;

const NEWLINES: u32 = 1;
const REDUNDANT: u32 = 1 << 1;
const ZEROED: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;
const KNOWN: u32 = NEWLINES | REDUNDANT | ZEROED | COMPRESSED | MARKERS;
/// What tells a file that went through a text-mode transfer.
const NEWLINE_BYTES: [u8; 4] = *b"\n \r\n";

/// A header. All places and lengths are in sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub version: u32,
    pub flags: u32,
    pub capacity: u64,
    pub grain: u64,
    pub descriptor: u64,
    pub descriptor_size: u64,
    pub redundant_directory: u64,
    pub directory: u64,
    pub overhead: u64,
    pub compression: u16,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|part| part.try_into().ok()).map_or(0, u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes)
}

impl Header {
    /// The header of a stream that is written here.
    pub fn of_stream(capacity: u64, grain: u64, descriptor_size: u64, overhead: u64) -> Self {
        Self {
            version: 3,
            flags: NEWLINES | COMPRESSED | MARKERS,
            capacity,
            grain,
            descriptor: 1,
            descriptor_size,
            redundant_directory: 0,
            directory: AT_END,
            overhead,
            compression: 1,
        }
    }

    pub fn encode(&self) -> Sector {
        let mut bytes = [0; SECTOR as usize];
        let mut put = |at: usize, part: &[u8]| {
            bytes.iter_mut().skip(at).zip(part).for_each(|(to, from)| *to = *from);
        };
        put(0, MAGIC);
        put(4, &self.version.to_le_bytes());
        put(8, &self.flags.to_le_bytes());
        put(12, &self.capacity.to_le_bytes());
        put(20, &self.grain.to_le_bytes());
        put(28, &self.descriptor.to_le_bytes());
        put(36, &self.descriptor_size.to_le_bytes());
        put(44, &(ENTRIES as u32).to_le_bytes());
        put(48, &self.redundant_directory.to_le_bytes());
        put(56, &self.directory.to_le_bytes());
        put(64, &self.overhead.to_le_bytes());
        put(73, &NEWLINE_BYTES);
        put(77, &self.compression.to_le_bytes());
        bytes
    }

    /// Reads a header that stands at the byte `at` and checks each number by itself and against the others.
    pub fn decode(bytes: &Sector, at: u64) -> Result<Self> {
        let damaged = |offset: u64, field, what: String| Err(Error::damaged(at + offset, field, what));
        if !bytes.starts_with(MAGIC) {
            return damaged(0, "magic", "it is not KDMV".to_owned());
        }
        let header = Self {
            version: u32_at(bytes, 4),
            flags: u32_at(bytes, 8),
            capacity: u64_at(bytes, 12),
            grain: u64_at(bytes, 20),
            descriptor: u64_at(bytes, 28),
            descriptor_size: u64_at(bytes, 36),
            redundant_directory: u64_at(bytes, 48),
            directory: u64_at(bytes, 56),
            overhead: u64_at(bytes, 64),
            compression: u16_at(bytes, 77),
        };
        if !(1..=3).contains(&header.version) {
            let what = format!("the sparse extent is of version {}; 1 to 3 are known", header.version);
            return Err(Error::Unsupported(what));
        }
        if header.flags & !KNOWN != 0 {
            return damaged(8, "flags", format!("{:#x} has bits that are not known", header.flags));
        }
        if header.flags & NEWLINES != 0 && bytes.get(73..77) != Some(&NEWLINE_BYTES) {
            return damaged(
                73,
                "newline check",
                "the file went through a transfer that rewrote its line ends".to_owned(),
            );
        }
        if header.capacity > LARGEST / SECTOR {
            return damaged(12, "capacity", format!("{} sectors are more than 62 TiB", header.capacity));
        }
        if !header.grain.is_power_of_two() || !(8..=2048).contains(&header.grain) {
            return damaged(
                20,
                "grain size",
                format!("{} sectors: a power of two, 8 to 2048, is wanted", header.grain),
            );
        }
        let entries = u32_at(bytes, 44);
        if u64::from(entries) != ENTRIES {
            return damaged(44, "entries of a grain table", format!("{entries}, not 512"));
        }
        if header.tables() > MOST_TABLES {
            let what = format!("{} grains need more than {MOST_TABLES} grain tables", header.grains());
            return damaged(20, "grain size", what);
        }
        match (header.flags & COMPRESSED != 0, header.compression) {
            (true, 1) | (false, 0) => {}
            (_, algorithm) => {
                return damaged(77, "compression", format!("{algorithm} with the flags {:#x}", header.flags));
            }
        }
        if header.is_compressed() != (header.flags & MARKERS != 0) {
            return damaged(
                8,
                "flags",
                "compressed grains go with markers, and markers with compressed grains".to_owned(),
            );
        }
        if header.overhead == 0 || header.overhead > u64::from(u32::MAX) {
            return damaged(64, "overhead", format!("{} sectors", header.overhead));
        }
        let end = header.descriptor.checked_add(header.descriptor_size);
        if header.descriptor_size > 0 && (header.descriptor == 0 || end.is_none_or(|end| end > header.overhead)) {
            return damaged(28, "descriptor", "it does not lie between header and overhead".to_owned());
        }
        if header.descriptor_size > LARGEST_DESCRIPTOR / SECTOR {
            return damaged(36, "descriptor size", format!("{} sectors are no descriptor", header.descriptor_size));
        }
        if bytes.get(72).is_some_and(|unclean| *unclean != 0) {
            let what = "the disk was not closed by whoever wrote to it: open and close it there first";
            return damaged(72, "unclean shutdown", what.to_owned());
        }
        Ok(header)
    }

    /// Reads the header that a file begins with: directories that it names lie in front of the grains.
    pub fn first(bytes: &Sector) -> Result<Self> {
        let header = Self::decode(bytes, 0)?;
        for (offset, field, place) in header.directories() {
            let end = place.checked_add(header.directory_sectors());
            if place == 0 || end.is_none_or(|end| end > header.overhead) {
                let what = format!("sector {place} does not lie between header and overhead");
                return Err(Error::damaged(offset, field, what));
            }
        }
        Ok(header)
    }

    /// The directories that lie in front of the grains, with the places of their fields.
    pub fn directories(&self) -> Vec<(u64, &'static str, u64)> {
        let mut found = Vec::new();
        if self.flags & REDUNDANT != 0 {
            found.push((48, "redundant grain directory", self.redundant_directory));
        }
        if self.directory != AT_END {
            found.push((56, "grain directory", self.directory));
        }
        found
    }

    pub fn is_compressed(&self) -> bool {
        self.flags & COMPRESSED != 0
    }

    pub fn grain_bytes(&self) -> usize {
        (self.grain * SECTOR) as usize
    }

    pub fn grains(&self) -> u64 {
        self.capacity.div_ceil(self.grain)
    }

    pub fn tables(&self) -> u64 {
        self.grains().div_ceil(ENTRIES)
    }

    pub fn directory_sectors(&self) -> u64 {
        (self.tables() * 4).div_ceil(SECTOR)
    }

    /// How many of a grain's bytes lie within the capacity.
    pub fn bytes_of(&self, grain: u64) -> usize {
        (self.capacity.saturating_sub(grain * self.grain).min(self.grain) * SECTOR) as usize
    }

    /// The sector where a table's entry says that a grain lies; none where it says zeros.
    pub fn place(&self, entry: u32) -> Option<u32> {
        match entry {
            0 => None,
            1 if self.flags & ZEROED != 0 => None,
            place => Some(place),
        }
    }
}

/// What stands between the grains of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    End,
    Table,
    Directory,
    Footer,
}

impl Marker {
    /// The marker's sector, for `sectors` that follow it.
    pub fn encode(self, sectors: u64) -> Sector {
        let mut bytes = [0; SECTOR as usize];
        let kind: u32 = match self {
            Self::End => 0,
            Self::Table => 1,
            Self::Directory => 2,
            Self::Footer => 3,
        };
        bytes.iter_mut().zip(sectors.to_le_bytes()).for_each(|(to, from)| *to = from);
        bytes.iter_mut().skip(12).zip(kind.to_le_bytes()).for_each(|(to, from)| *to = from);
        bytes
    }
}

/// The first twelve bytes of a grain, or of a marker: then the size is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrainMarker {
    /// The grain's first sector on the disk; of a marker the sectors that follow.
    pub sector: u64,
    /// The bytes of the zlib stream.
    pub size: u32,
}

impl GrainMarker {
    pub const BYTES: usize = 12;

    pub fn decode(bytes: &[u8]) -> Self {
        Self { sector: u64_at(bytes, 0), size: u32_at(bytes, 8) }
    }

    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let parts = self.sector.to_le_bytes().into_iter().chain(self.size.to_le_bytes());
        bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        bytes
    }

    /// The sectors that the grain takes in the file, its marker included.
    pub fn sectors(self) -> u64 {
        (u64::from(self.size) + Self::BYTES as u64).div_ceil(SECTOR)
    }
}
