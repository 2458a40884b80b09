//! Index files: which blob lies where in which pack.
//!
//! They say nothing that the packs' tables do not say, and can be made again from them.

use super::error::{Error, Result};
use super::id::Id;
use super::pack::{ENTRY, Pack, read_entries};
use super::seal::Sealer;
use super::target::Target;

/// The largest index file that a reader takes. A writer ends one at 65,536 entries and the pack that reaches them, which has no more than a
/// million (47 MB) even where another wrote it.
pub(super) const LARGEST: u64 = 64 << 20;

/// The name of an index file.
pub fn name(id: Id) -> String {
    format!("index/{id}")
}

/// Writes an index file for some packs.
pub fn write(target: &dyn Target, sealer: &Sealer, packs: &[Pack]) -> Result<Id> {
    let entries: usize = packs.iter().map(|pack| pack.entries.len()).sum();
    let mut body = Vec::with_capacity(5 + packs.len() * 44 + entries * ENTRY);
    body.push(1);
    body.extend_from_slice(&(packs.len() as u32).to_le_bytes());
    for pack in packs {
        body.extend_from_slice(&pack.id.0);
        body.extend_from_slice(&pack.size.to_le_bytes());
        body.extend_from_slice(&(pack.entries.len() as u32).to_le_bytes());
        pack.entries.iter().for_each(|entry| entry.write(&mut body));
    }
    let file = sealer.seal(&[b"index"], &body)?;
    let id = Id::of(&file);
    target.put(&name(id), &file)?;
    Ok(id)
}

/// Reads an index file.
pub fn read(target: &dyn Target, sealer: &Sealer, id: Id) -> Result<Vec<Pack>> {
    let file = name(id);
    let bytes = target.get_all(&file, LARGEST)?;
    if Id::of(&bytes) != id {
        return Err(Error::damaged(file, "its bytes are not those that its name says"));
    }
    let body = sealer.open(&[b"index"], bytes, &file)?;
    decode(&body).ok_or_else(|| Error::damaged(file, "it is no index of this version"))
}

/// Parts packs into groups that one index file each can name.
pub fn parted(packs: &[Pack], entries: usize) -> Vec<&[Pack]> {
    let (mut groups, mut rest) = (Vec::new(), packs);
    while !rest.is_empty() {
        let mut sum = 0;
        // The pack that reaches the number is the last.
        let more = rest.iter().take_while(|pack| {
            let before = sum;
            sum += pack.entries.len() + 1;
            before < entries
        });
        let (group, after) = rest.split_at(more.count());
        groups.push(group);
        rest = after;
    }
    groups
}

fn decode(body: &[u8]) -> Option<Vec<Pack>> {
    let (version, rest) = body.split_first()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let mut packs = Vec::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (id, after) = rest.split_first_chunk::<32>()?;
        let (size, after) = after.split_first_chunk::<8>()?;
        let (entries, after) = after.split_first_chunk::<4>()?;
        let length = (u32::from_le_bytes(*entries) as usize).checked_mul(ENTRY)?;
        let (table, after) = after.split_at_checked(length)?;
        let size = u64::from_le_bytes(*size);
        let entries = read_entries(table)?;
        if entries.iter().any(|entry| u64::from(entry.offset) + u64::from(entry.stored) > size) {
            return None;
        }
        packs.push(Pack { id: Id(*id), size, entries });
        rest = after;
    }
    (*version == 1 && rest.is_empty()).then_some(packs)
}
