//! Disks laid out by hand, as writers that are not ours lay them out, or would never.

use super::*;
use crate::vmdk::header::{AT_END, ENTRIES, GrainMarker, Header, Marker, TABLE};

pub fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn head(header: &Header, create_type: CreateType) -> Vec<u8> {
    let mut file = header.encode().to_vec();
    let text = Descriptor::new(create_type, header.capacity * SECTOR, "x.vmdk").text();
    file.extend(text.as_bytes());
    file.resize(21 * 512, 0);
    file
}

fn grain(file: &mut Vec<u8>, sector: u64, packed: &[u8]) {
    file.extend(GrainMarker { sector, size: packed.len() as u32 }.encode());
    file.extend(packed);
    file.resize(file.len().next_multiple_of(512), 0);
}

fn numbers(file: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| file.extend(number.to_le_bytes()));
    file.resize(file.len().next_multiple_of(512), 0);
}

/// A stream of zlib streams, each at a sector of the disk, in the order given, with its tables behind all of them.
pub fn stream(capacity: u64, grains: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut header = Header::of_stream(capacity, 128, 20, 128);
    let mut file = head(&header, CreateType::StreamOptimized);
    file.resize(128 * 512, 0);
    let mut tables = vec![[0u32; ENTRIES as usize]; header.tables() as usize];
    for (sector, packed) in grains {
        let number = (sector / 128) as usize;
        if let Some(table) = tables.get_mut(number / 512) {
            table[number % 512] = (file.len() / 512) as u32;
        }
        grain(&mut file, *sector, packed);
    }
    let mut directory = Vec::new();
    for table in &tables {
        file.extend(Marker::Table.encode(TABLE));
        directory.push((file.len() / 512) as u32);
        numbers(&mut file, table);
    }
    file.extend(Marker::Directory.encode(header.directory_sectors()));
    header.directory = (file.len() / 512) as u64;
    numbers(&mut file, &directory);
    file.extend(Marker::Footer.encode(1));
    file.extend(header.encode());
    file.extend(Marker::End.encode(0));
    file
}

/// A disk with two directories and their tables in front of the grains, as qemu-img and Workstation make it: compressed, or not.
pub fn in_front(bytes: &[u8], compressed: bool) -> Vec<u8> {
    let capacity = bytes.len() as u64 / 512;
    let tables = capacity.div_ceil(128).div_ceil(512);
    let sectors = (tables * 4).div_ceil(512);
    let (redundant, directory) = (21, 21 + sectors + tables * TABLE);
    let overhead = (directory + sectors + tables * TABLE).next_multiple_of(128);
    let header = Header {
        version: if compressed { 3 } else { 1 },
        flags: if compressed { 0x3_0003 } else { 3 },
        redundant_directory: redundant,
        directory,
        compression: compressed.into(),
        ..Header::of_stream(capacity, 128, 20, overhead)
    };
    assert_ne!(header.directory, AT_END);
    let mut entries = vec![0u32; (tables * ENTRIES) as usize];
    let mut grains = Vec::new();
    for (number, chunk) in bytes.chunks(GRAIN as usize).enumerate() {
        if chunk.iter().any(|byte| *byte != 0) {
            entries[number] = overhead as u32 + (grains.len() / 512) as u32;
            if compressed {
                grain(&mut grains, number as u64 * 128, &zlib(chunk));
            } else {
                grains.extend(chunk);
            }
        }
    }
    let kind = if compressed { CreateType::StreamOptimized } else { CreateType::MonolithicSparse };
    let mut file = head(&header, kind);
    for place in [redundant, directory] {
        let first = place + sectors;
        let places: Vec<u32> = (0..tables).map(|table| (first + table * TABLE) as u32).collect();
        numbers(&mut file, &places);
        numbers(&mut file, &entries);
    }
    file.resize((overhead * 512) as usize, 0);
    file.extend(grains);
    file
}
