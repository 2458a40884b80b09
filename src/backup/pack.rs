//! A pack: blobs one after the other, a table of them at the end, named by the hash of the whole.

use sha2::{Digest, Sha256};

use super::blob::{Flags, LARGEST};
use super::error::{Error, Result};
use super::id::Id;
use super::seal::{Sealer, random};
use super::target::{Spool, Target};

const MAGIC: &[u8; 8] = b"cesopack";
const END: &[u8; 8] = b"cesopend";
pub(super) const HEADER: usize = 32;
pub(super) const TRAILER: usize = 48;
pub(super) const ENTRY: usize = 45;

/// The most entries of a pack that a reader believes in.
const MOST_ENTRIES: u32 = 1 << 20;

/// Where a blob lies in its pack, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub flags: Flags,
    pub id: Id,
    pub offset: u32,
    /// The length in the pack: compressed and sealed.
    pub stored: u32,
    /// The length of the blob itself.
    pub raw: u32,
}

impl Sealer {
    /// Whether entries fill a pack of their size, in their order and without gaps.
    pub(super) fn fills(&self, pack: &Pack) -> bool {
        let sealed = if matches!(self, Self::Plain) { 0 } else { super::seal::SEALED };
        let end = pack.entries.iter().try_fold(HEADER as u64, |at, entry| {
            (u64::from(entry.offset) == at).then_some(at + u64::from(entry.stored))
        });
        end.map(|end| end + (pack.entries.len() * ENTRY + sealed + TRAILER) as u64) == Some(pack.size)
    }
}

impl Entry {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        to.push(self.flags.0);
        to.extend_from_slice(&self.id.0);
        for number in [self.offset, self.stored, self.raw] {
            to.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Reads an entry; nothing where it cannot be one.
    pub(super) fn read(bytes: &[u8; ENTRY]) -> Option<Self> {
        let (flags, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_first_chunk::<32>()?;
        let ([offset, stored, raw], _) = rest.as_chunks::<4>().0.first_chunk::<3>().map(|chunk| (*chunk, ()))?;
        let entry = Self {
            flags: Flags::checked(*flags)?,
            id: Id(*id),
            offset: u32::from_le_bytes(offset),
            stored: u32::from_le_bytes(stored),
            raw: u32::from_le_bytes(raw),
        };
        (entry.raw as usize <= LARGEST && entry.raw > 0).then_some(entry)
    }
}

/// A pack and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    pub id: Id,
    pub size: u64,
    pub entries: Vec<Entry>,
}

/// The name of a pack's file.
pub fn name(id: Id) -> String {
    let hex = id.to_string();
    format!("data/{}/{hex}", &hex[..2])
}

/// The pack that a file's name names.
pub fn id_of(name: &str) -> Option<Id> {
    let id: Id = name.rsplit('/').next()?.parse().ok()?;
    (self::name(id) == name).then_some(id)
}

/// A pack that is being written.
pub struct PackWriter {
    spool: Spool,
    hasher: Sha256,
    header: [u8; HEADER],
    entries: Vec<Entry>,
}

impl PackWriter {
    pub fn new(target: &dyn Target) -> Result<Self> {
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        header[8] = 1;
        random(&mut header[16..])?;
        let mut writer = Self { spool: target.spool()?, hasher: Sha256::new(), header, entries: Vec::new() };
        writer.append(&header)?;
        Ok(writer)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.spool.write(bytes)
    }

    /// Appends a blob as it was shut.
    pub fn add(&mut self, flags: Flags, id: Id, raw: usize, frame: &[u8]) -> Result<()> {
        let too_large = |_| Error::Option("a pack of more than 4 GiB".to_owned());
        let entry = Entry {
            flags,
            id,
            offset: u32::try_from(self.spool.size()).map_err(too_large)?,
            stored: u32::try_from(frame.len()).map_err(too_large)?,
            raw: u32::try_from(raw).map_err(too_large)?,
        };
        self.append(frame)?;
        self.entries.push(entry);
        Ok(())
    }

    /// How large the pack is so far.
    pub fn size(&self) -> u64 {
        self.spool.size()
    }

    /// How many blobs the pack has so far.
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Writes the table and puts the pack under its name.
    pub fn finish(mut self, target: &dyn Target, sealer: &Sealer) -> Result<Pack> {
        let mut table = Vec::with_capacity(self.entries.len() * ENTRY);
        self.entries.iter().for_each(|entry| entry.write(&mut table));
        let table = sealer.seal(&[b"table", &self.header], &table)?;
        let mut end = table.clone();
        end.extend_from_slice(&check_of(&self.header, &table));
        end.extend_from_slice(&(table.len() as u32).to_le_bytes());
        end.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        end.extend_from_slice(END);
        self.append(&end)?;
        let id = Id(self.hasher.finalize().into());
        let size = self.spool.size();
        target.put_spool(&name(id), self.spool)?;
        Ok(Pack { id, size, entries: self.entries })
    }
}

pub(super) fn check_of(header: &[u8], table: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(header).chain_update(table).finalize().into()
}

/// Reads a pack's table from its end, without its blobs.
///
/// Errors: `Damaged` where header, table or trailer are not as they were written, or the blobs would not fill the pack.
pub fn read_table(target: &dyn Target, sealer: &Sealer, id: Id, size: u64) -> Result<Pack> {
    let file = name(id);
    let wrong = |what: &str| Error::damaged(&file, what);
    let trailer_at =
        size.checked_sub(TRAILER as u64).filter(|at| *at >= HEADER as u64).ok_or_else(|| wrong("it is too short"))?;
    // One read for the trailer and, mostly, the table.
    let guess = trailer_at.saturating_sub(48 << 10).max(HEADER as u64);
    let tail = target.get(&file, guess..size)?;
    let trailer: &[u8; TRAILER] = tail.last_chunk().ok_or_else(|| wrong("it is too short"))?;
    let (check, numbers) = trailer.split_at(32);
    if &numbers[8..] != END {
        return Err(wrong("it does not end as a pack"));
    }
    let number = |at: usize| numbers[at..].first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let (length, count) = (u64::from(number(0)), number(4));
    let table_at = trailer_at.checked_sub(length).filter(|at| *at >= HEADER as u64 && count <= MOST_ENTRIES);
    let table_at = table_at.ok_or_else(|| wrong("its table is longer than it"))?;
    let table = if table_at >= guess {
        let from = usize::try_from(table_at - guess).unwrap_or(usize::MAX);
        tail.get(from..tail.len() - TRAILER).unwrap_or_default().to_vec()
    } else {
        target.get(&file, table_at..trailer_at)?
    };
    let header = target.get(&file, 0..HEADER as u64)?;
    if header.get(..9) != Some(b"cesopack\x01".as_slice()) {
        return Err(wrong("it does not begin as a pack of this version"));
    }
    if check_of(&header, &table) != check {
        return Err(wrong("its table has other bytes"));
    }
    let table = sealer.open(&[b"table", &header], table, &file)?;
    let entries = read_entries(&table).filter(|entries| entries.len() == count as usize);
    let entries = entries.ok_or_else(|| wrong("its table has an entry that cannot be"))?;
    let end = entries
        .iter()
        .try_fold(HEADER as u64, |at, entry| (u64::from(entry.offset) == at).then_some(at + u64::from(entry.stored)));
    if end != Some(table_at) {
        return Err(wrong("its blobs do not fill it"));
    }
    Ok(Pack { id, size, entries })
}

/// A digest of entries in their order, to compare what two files say of a pack.
pub(super) fn digest(entries: &[Entry]) -> Id {
    let mut hasher = Sha256::new();
    let mut bytes = Vec::with_capacity(ENTRY);
    for entry in entries {
        bytes.clear();
        entry.write(&mut bytes);
        hasher.update(&bytes);
    }
    Id(hasher.finalize().into())
}

/// The entries of a table; nothing where one cannot be.
pub(super) fn read_entries(table: &[u8]) -> Option<Vec<Entry>> {
    let (entries, rest) = table.as_chunks::<ENTRY>();
    if !rest.is_empty() {
        return None;
    }
    entries.iter().map(Entry::read).collect()
}
