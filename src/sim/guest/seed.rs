//! The NoCloud seed in a machine's drive, as far as a simulated guest reads it: an image of the label `cidata`, its files by their Joliet names.
//!
//! Specification: ECMA-119; the Joliet specification. Images come from clients, so every number in them is doubted.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};

use crate::sim::datastore;
use crate::sim::value::Value;
use crate::sim::vm::Vm;
use crate::sim::world::World;

const SECTOR: u64 = 2048;
/// No seed has more in one file or folder.
const LARGEST: u64 = 16 << 20;

/// The files of the first seed in a drive that is connected at power-on.
pub fn files(world: &World, vm: &Vm) -> Option<BTreeMap<String, String>> {
    let drives = vm.devices.iter().filter(|device| device.kind == "VirtualCdrom");
    let connected = drives
        .filter(|drive| drive.data("connectable").is_none_or(|data| data.boolean("startConnected") != Some(false)));
    connected
        .filter_map(|drive| drive.at("backing.fileName").and_then(Value::as_text))
        .filter_map(|file| {
            let path = datastore::open(world, file).ok()?;
            read(&mut std::fs::File::open(world.datastore.resolve(&path).ok()?).ok()?)
        })
        .next()
}

fn read(image: &mut std::fs::File) -> Option<BTreeMap<String, String>> {
    for sector in 16..32 {
        let descriptor = piece(image, sector * SECTOR, SECTOR)?;
        if descriptor.get(1..6)? != b"CD001" || descriptor.first() == Some(&255) {
            return None;
        }
        let joliet = descriptor.first() == Some(&2) && descriptor.get(88..90)? == b"%/";
        if !joliet {
            continue;
        }
        if !wide(descriptor.get(40..72)?).trim().eq_ignore_ascii_case("cidata") {
            return None;
        }
        let (at, size) = extent(descriptor.get(156..190)?)?;
        let records = piece(image, at, size)?;
        return Some(folder(image, &records));
    }
    None
}

fn folder(image: &mut std::fs::File, records: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut at = 0;
    while at < records.len() && found.len() < 64 {
        let length = usize::from(records.get(at).copied().unwrap_or_default());
        if length < 34 {
            // The rest of a sector is empty; the next record begins the next one.
            at = (at / 2048 + 1) * 2048;
            continue;
        }
        let Some(record) = records.get(at..at + length) else { break };
        at += length;
        let name = record.get(33..33 + usize::from(record.get(32).copied().unwrap_or_default())).map(wide);
        let (Some(name), Some((place, size))) = (name, extent(record)) else { continue };
        let text = piece(image, place, size).and_then(|bytes| String::from_utf8(bytes).ok());
        if let (Some(text), false) = (text, record.get(25).is_some_and(|flags| flags & 2 != 0)) {
            found.insert(name.split(';').next().unwrap_or_default().to_owned(), text);
        }
    }
    found
}

/// Where a record's content is, in bytes.
fn extent(record: &[u8]) -> Option<(u64, u64)> {
    let number = |at: usize| Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?));
    Some((u64::from(number(2)?) * SECTOR, u64::from(number(10)?)))
}

fn piece(image: &mut std::fs::File, at: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    image.seek(SeekFrom::Start(at)).ok()?;
    image.take(size.min(LARGEST)).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 == size).then_some(bytes)
}

/// UCS-2, big-endian.
fn wide(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?)));
    char::decode_utf16(units).map(|c| c.unwrap_or('?')).filter(|c| *c != '\0').collect()
}
