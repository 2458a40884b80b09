//! Manifests, roots and segments: which chunks a backup is made of.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Error, Result};
use super::format::{FORMAT, check_chunk_size, json, parse, read_named};
use super::id::Id;
use super::seal::Sealer;
use super::target::Target;

/// The chunks of one segment.
pub const SEGMENT: usize = 4096;

/// The largest manifest, or claim, that is read or written. The parts of attached files are most of it: 67 bytes for each, and a backup has at
/// most [`MOST_PARTS`].
pub(super) const LARGEST: u64 = 4 << 20;

/// The most parts of all attached files of a backup.
pub(super) const MOST_PARTS: usize = 32 << 10;

/// The most values in the JSON of a manifest. A value of two bytes there is one of 72 in memory.
const MOST_VALUES: usize = 64 << 10;

/// The largest disk: what VMware calls 62 TB, and some room.
const LARGEST_DISK: u64 = 1 << 47;

/// Whether a backup holds all that it was meant to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Complete,
    /// Kept for what it holds; retention never counts it.
    Failed,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub uuid: String,
    /// What retention counts by: the machine.
    pub group: String,
    pub name: String,
    /// When it was begun, by the clock of the machine that made it.
    #[serde(with = "time::serde::rfc3339")]
    pub time: time::OffsetDateTime,
    pub tags: Vec<String>,
    pub state: State,
    pub parent: Option<Id>,
    pub disks: Vec<Disk>,
    pub files: Vec<Attached>,
    /// What the caller wants to know again.
    pub details: Value,
}

/// A disk of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub name: String,
    pub size: u64,
    pub chunk_size: u32,
    pub root: Id,
    /// Chunks that are not zero, and bytes of them that this backup added after compression.
    pub chunks: u64,
    pub added: u64,
}

/// A file that goes with a backup: a machine's definition, its NVRAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub name: String,
    pub size: u64,
    pub parts: Vec<Id>,
}

/// The name of a backup's file.
pub fn name(id: Id) -> String {
    format!("manifests/{id}")
}

impl Manifest {
    /// The bytes of its file, and its id.
    pub(super) fn encode(&self, sealer: &Sealer) -> Result<(Id, Vec<u8>)> {
        let body = json(self)?;
        if body.len() as u64 + super::seal::SEALED as u64 > LARGEST || values(&body) > MOST_VALUES {
            let what = "with its tags, disks, files and details the backup is too large to be described";
            return Err(Error::Option(what.to_owned()));
        }
        let file = sealer.seal(&[b"manifest"], &body)?;
        Ok((Id::of(&file), file))
    }

    /// Reads a manifest, or a claim, which has the same bytes.
    pub(super) fn read(target: &dyn Target, sealer: &Sealer, file: &str) -> Result<Self> {
        let bytes = read_named(target, file, LARGEST)?;
        Self::decode(sealer, bytes, file, &target.place())
    }

    pub(super) fn decode(sealer: &Sealer, bytes: Vec<u8>, file: &str, place: &str) -> Result<Self> {
        let body = sealer.open(&[b"manifest"], bytes, file)?;
        if values(&body) > MOST_VALUES {
            return Err(Error::damaged(file, format!("it has more than {MOST_VALUES} values")));
        }
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = parse(&body, file)?;
        if format > FORMAT {
            return Err(Error::Newer { place: place.to_owned(), what: format!("{file} has format {format}") });
        }
        parse(&body, file)
    }

    /// The disk of a name, or the only disk.
    pub fn disk(&self, name: Option<&str>) -> Result<&Disk> {
        match (name, self.disks.as_slice()) {
            (None, [only]) => Ok(only),
            (None, disks) => Err(Error::Option(format!("the backup has {} disks; name one", disks.len()))),
            (Some(name), disks) => disks
                .iter()
                .find(|disk| disk.name == name)
                .ok_or_else(|| Error::Option(format!("the backup has no disk {name:?}"))),
        }
    }
}

/// How many values a JSON text has, or a few more: each but the first comes after one of four signs.
fn values(json: &[u8]) -> usize {
    let (mut text, mut escaped, mut found) = (false, false, 1usize);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b',' | b':' | b'[' | b'{' if !text => found += 1,
            _ => {}
        }
    }
    found
}

/// What a root blob says: how a disk is made of segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    pub chunk_size: u32,
    pub size: u64,
    pub segments: Vec<Id>,
}

impl Root {
    /// Refuses a disk that no root can hold.
    pub(super) fn check(chunk_size: u32, size: u64) -> Result<()> {
        check_chunk_size(chunk_size)?;
        if size > LARGEST_DISK || segments(chunk_size, size) * 32 + 13 > super::blob::LARGEST as u64 {
            return Err(Error::Option(format!("a disk of {size} bytes in chunks of {chunk_size} is too large")));
        }
        Ok(())
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(13 + self.segments.len() * 32);
        bytes.push(1);
        bytes.extend_from_slice(&self.chunk_size.to_le_bytes());
        bytes.extend_from_slice(&self.size.to_le_bytes());
        self.segments.iter().for_each(|id| bytes.extend_from_slice(&id.0));
        bytes
    }

    /// Reads a root; nothing where it cannot be one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (chunk_size, rest) = rest.split_first_chunk::<4>()?;
        let (size, rest) = rest.split_first_chunk::<8>()?;
        let (chunk_size, size) = (u32::from_le_bytes(*chunk_size), u64::from_le_bytes(*size));
        Self::check(chunk_size, size).ok()?;
        let segments = ids(rest)?;
        (*version == 1 && segments.len() as u64 == self::segments(chunk_size, size)).then_some(Self {
            chunk_size,
            size,
            segments,
        })
    }

    /// How many chunks the disk has.
    pub fn chunks(&self) -> u64 {
        self.size.div_ceil(u64::from(self.chunk_size))
    }

    /// How many chunks a segment has.
    pub fn chunks_in(&self, segment: u64) -> usize {
        let left = self.chunks().saturating_sub(segment.saturating_mul(SEGMENT as u64));
        usize::try_from(left).map_or(SEGMENT, |left| left.min(SEGMENT))
    }

    /// How many bytes a chunk has: the last may have fewer.
    pub fn length(&self, chunk: u64) -> usize {
        let left = self.size.saturating_sub(chunk.saturating_mul(u64::from(self.chunk_size)));
        left.min(u64::from(self.chunk_size)) as usize
    }
}

fn segments(chunk_size: u32, size: u64) -> u64 {
    size.div_ceil(u64::from(chunk_size)).div_ceil(SEGMENT as u64)
}

/// The ids that bytes hold one after the other.
pub(super) fn ids(bytes: &[u8]) -> Option<Vec<Id>> {
    let (ids, rest) = bytes.as_chunks::<32>();
    rest.is_empty().then(|| ids.iter().copied().map(Id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(details: Value) -> Manifest {
        Manifest {
            format: FORMAT,
            uuid: String::new(),
            group: String::new(),
            name: "a,b:c[{\\\"".to_owned(),
            time: time::OffsetDateTime::UNIX_EPOCH,
            tags: Vec::new(),
            state: State::Complete,
            parent: None,
            disks: Vec::new(),
            files: Vec::new(),
            details,
        }
    }

    #[test]
    fn the_largest_backup_that_a_writer_makes_can_be_read_and_a_larger_one_is_refused_on_both_sides() {
        let mut whole = manifest(Value::from(vec![0; 1000]));
        let disk = |n: u64| Disk {
            name: format!("[datastore1] machine/machine_{n}.vmdk"),
            size: LARGEST_DISK,
            chunk_size: 1 << 16,
            root: Id::ZERO,
            chunks: u64::MAX,
            added: u64::MAX,
        };
        whole.disks = (0..256).map(disk).collect();
        whole.files = vec![Attached { name: "nvram".to_owned(), size: 0, parts: vec![Id::of(b""); MOST_PARTS] }];
        let (id, file) = whole.encode(&Sealer::Plain).unwrap();
        assert!(file.len() as u64 <= LARGEST);
        assert_eq!(Manifest::decode(&Sealer::Plain, file, &name(id), "").unwrap(), whole);

        let bomb = manifest(Value::from(vec![0; MOST_VALUES]));
        assert!(matches!(bomb.encode(&Sealer::Plain), Err(Error::Option(_))));
        let read = Manifest::decode(&Sealer::Plain, json(&bomb).unwrap(), "manifests/x", "");
        assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
        let large = manifest(Value::from("x".repeat(LARGEST as usize)));
        assert!(matches!(large.encode(&Sealer::Plain), Err(Error::Option(_))));
    }

    #[test]
    fn values_are_counted_outside_of_texts() {
        assert_eq!(values(br#"{"a,[{:\"": 1, "b": [0,0]}"#), 1 + 6);
        assert!(values(&json(&manifest(Value::Null)).unwrap()) < 30);
    }
}
