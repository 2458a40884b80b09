//! Change maps (CBT): for each block of a disk the number of the span of time in which it was last written.
//!
//! A map is `NAME-ctk.vmdk` beside a disk and all its deltas. A snapshot ends a span: its disks' `changeId` is `UUID/SPAN`, and what
//! changed since it is each block whose number is larger. A block that was written again is of its last span alone, so for an older
//! snapshot a map tells of more than changed, and never of less. Where a disk's content comes from elsewhere (a revert), the map begins anew
//! under another UUID.
//!
//! The bytes: `SIMCTK1\n`, the UUID's 16, the present span, then a number for each block of 64 KiB; numbers are little-endian, 32 bits.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

const MAGIC: &[u8; 8] = b"SIMCTK1\n";
const HEADER: u64 = 28;
/// What is told apart.
pub const BLOCK: u64 = 64 << 10;

/// The map of a disk.
#[derive(Debug)]
pub struct Map {
    file: File,
    uuid: Uuid,
    span: u32,
}

/// Where the map of a disk lies: its deltas share it.
pub fn beside(descriptor: &Path) -> PathBuf {
    let stem = descriptor.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let numbered = |(_, number): &(&str, &str)| number.len() == 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    let stem = stem.rsplit_once('-').filter(numbered).map_or(stem, |(stem, _)| stem);
    descriptor.with_file_name(format!("{stem}-ctk.vmdk"))
}

impl Map {
    /// Begins the map of a disk, anew where there was one.
    pub fn begin(descriptor: &Path) -> io::Result<Self> {
        let at = beside(descriptor);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(at)?;
        let map = Self { file, uuid: Uuid::new_v4(), span: 1 };
        map.file.write_all_at(MAGIC, 0)?;
        map.file.write_all_at(map.uuid.as_bytes(), 8)?;
        map.file.write_all_at(&map.span.to_le_bytes(), 24)?;
        Ok(map)
    }

    /// The map of a disk, where it has one.
    pub fn open(descriptor: &Path) -> io::Result<Option<Self>> {
        let file = match OpenOptions::new().read(true).write(true).open(beside(descriptor)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let (mut magic, mut uuid, mut span) = ([0; 8], [0; 16], [0; 4]);
        file.read_exact_at(&mut magic, 0)?;
        file.read_exact_at(&mut uuid, 8)?;
        file.read_exact_at(&mut span, 24)?;
        if magic != *MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no change map"));
        }
        Ok(Some(Self { file, uuid: Uuid::from_bytes(uuid), span: u32::from_le_bytes(span) }))
    }

    /// Takes the map of a disk away.
    pub fn remove(descriptor: &Path) -> io::Result<()> {
        match std::fs::remove_file(beside(descriptor)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The `changeId` of now.
    pub fn id(&self) -> String {
        format!("{}/{}", self.uuid, self.span)
    }

    /// Ends the present span.
    pub fn advance(&mut self) -> io::Result<()> {
        self.span = self.span.saturating_add(1);
        self.file.write_all_at(&self.span.to_le_bytes(), 24)
    }

    /// Notes a write.
    pub fn note(&self, offset: u64, length: u64) -> io::Result<()> {
        if length == 0 {
            return Ok(());
        }
        let (first, last) = (offset / BLOCK, (offset + length - 1) / BLOCK);
        let count = usize::try_from(last - first + 1).map_err(io::Error::other)?;
        self.file.write_all_at(&self.span.to_le_bytes().repeat(count), HEADER + first * 4)
    }

    /// The areas that were written in the spans after that of a `changeId`; `None` where it is not one of this map's.
    pub fn since(&self, id: &str, capacity: u64) -> io::Result<Option<Vec<(u64, u64)>>> {
        let Some((uuid, span)) = id.split_once('/') else { return Ok(None) };
        let span = span.parse::<u32>().ok().filter(|span| *span <= self.span);
        let (true, Some(span)) = (Uuid::try_parse(uuid).is_ok_and(|uuid| uuid == self.uuid), span) else {
            return Ok(None);
        };
        let mut areas = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        let (mut block, mut at) = (0, HEADER);
        loop {
            let read = self.file.read_at(&mut buffer, at)?;
            let whole = buffer.get(..read - read % 4).unwrap_or_default();
            if whole.is_empty() {
                return Ok(Some(areas));
            }
            for number in whole.chunks_exact(4) {
                if number.first_chunk::<4>().is_some_and(|number| u32::from_le_bytes(*number) > span) {
                    add(&mut areas, block * BLOCK, BLOCK, capacity);
                }
                block += 1;
            }
            at += whole.len() as u64;
        }
    }
}

/// Adds an area behind others, joined to the last where they touch, and no longer than the disk.
pub fn add(areas: &mut Vec<(u64, u64)>, start: u64, length: u64, capacity: u64) {
    let end = (start + length).min(capacity);
    match areas.last_mut() {
        _ if start >= end => {}
        Some((first, count)) if *first + *count >= start => *count = (end - *first).max(*count),
        _ => areas.push((start, end - start)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_tells_what_was_written_since_and_knows_no_other_maps_ids() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("a-000001.vmdk");
        assert_eq!(beside(&disk), folder.path().join("a-ctk.vmdk"));
        let mut map = Map::begin(&disk).unwrap();
        let first = map.id();
        map.advance().unwrap();
        map.note(BLOCK - 1, 2).unwrap();
        let second = map.id();
        map.advance().unwrap();
        map.note(10 * BLOCK, 512).unwrap();
        let map = Map::open(&folder.path().join("a.vmdk")).unwrap().unwrap();
        let capacity = 10 * BLOCK + 100;
        assert_eq!(map.since(&first, capacity).unwrap().unwrap(), [(0, 2 * BLOCK), (10 * BLOCK, 100)]);
        assert_eq!(map.since(&second, capacity).unwrap().unwrap(), [(10 * BLOCK, 100)]);
        assert!(map.since(&map.id(), capacity).unwrap().unwrap().is_empty());
        let anew = Map::begin(&disk).unwrap();
        for wrong in [first.as_str(), "", "*", "x/1", &format!("{}/9", anew.id().split('/').next().unwrap())] {
            assert!(anew.since(wrong, capacity).unwrap().is_none(), "{wrong}");
        }
        Map::remove(&disk).unwrap();
        assert!(Map::open(&disk).unwrap().is_none());
    }
}
