//! What the catalog holds, as its users see it. A row is kept as MessagePack with its fields' names, behind a checksum of its own.

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// The id of a backup: 32 bytes, written as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 32]);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut id = [0; 32];
        hex::decode_to_slice(text, &mut id)
            .map_err(|_| format!("{:?} is no id", text.chars().take(80).collect::<String>()))?;
        Ok(Self(id))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_bytes(&self.0) }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom);
        }
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        bytes.as_slice().try_into().map(Self).map_err(|_| serde::de::Error::custom("an id has 32 bytes"))
    }
}

/// Whether a backup holds all that it was meant to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Complete,
    Failed,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }
}

/// A backup. All of it stands in the repository too, so it can be made anew from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    pub id: Id,
    /// The repository that holds it: [`Repository::key`].
    pub repository: uuid::Uuid,
    /// The machine that it is of: what retention counts by.
    pub machine: String,
    pub name: String,
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    pub state: State,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub parent: Option<Id>,
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// The sizes of its other files together.
    #[serde(default)]
    pub files: u64,
}

/// A disk of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub name: String,
    pub size: u64,
    /// The bytes of chunks that are not zeros.
    pub used: u64,
    /// What it added to the repository.
    pub added: u64,
}

impl Backup {
    /// The sizes of its disks and files together.
    pub fn size(&self) -> u64 {
        self.disks.iter().fold(self.files, |sum, disk| sum.saturating_add(disk.size))
    }

    /// The bytes of its disks that are not zeros.
    pub fn used(&self) -> u64 {
        self.disks.iter().fold(0, |sum, disk| sum.saturating_add(disk.used))
    }

    /// What it added to the repository.
    pub fn added(&self) -> u64 {
        self.disks.iter().fold(0, |sum, disk| sum.saturating_add(disk.added))
    }
}

/// What all backups of one machine come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    pub backups: u64,
    /// Of them, those that hold all that they were meant to.
    pub complete: u64,
    /// What their disks and files hold together.
    pub size: u64,
    /// Of it, what is not zeros.
    pub used: u64,
    /// What they added to repositories.
    pub added: u64,
}

impl Sum {
    pub(super) fn add(&mut self, backup: &Backup) {
        self.backups += 1;
        self.complete += u64::from(backup.state == State::Complete);
        self.size = self.size.saturating_add(backup.size());
        self.used = self.used.saturating_add(backup.used());
        self.added = self.added.saturating_add(backup.added());
    }
}

/// A machine that a run has seen on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub name: String,
    pub host: String,
    /// Its instance UUID: what stays when it is renamed.
    pub uuid: String,
    #[serde(with = "time::serde::rfc3339")]
    pub first_seen: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen: OffsetDateTime,
}

/// A host that a run has spoken with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    pub product: String,
    pub simulated: bool,
    #[serde(with = "time::serde::rfc3339")]
    pub first_seen: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen: OffsetDateTime,
    /// What a probe has found out about it.
    #[serde(default)]
    pub probe: Option<Probe>,
    /// Machines that a probe has begun to make and that nobody has seen gone.
    #[serde(default)]
    pub probing: Vec<String>,
}

/// What a probe has found out about a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The product with its version and build: what was found holds for no other.
    pub product: String,
    /// Where the host was reached: what was found holds for no other host of the same name.
    pub address: String,
    pub api: String,
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    pub facts: Vec<Fact>,
}

/// Something that a probe has tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub name: String,
    /// Whether the host does it; `None` where that could not be found out.
    pub works: Option<bool>,
    pub seen: String,
    /// What was counted or measured: bytes a second, sessions.
    #[serde(default)]
    pub figure: Option<u64>,
}

/// A repository that was opened. One that was copied with all that is in it is two: they have one identity and two places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// What the catalog knows it by: [`Repository::key`].
    pub id: uuid::Uuid,
    /// Its own identity. Rows that were written when that was all they were known by have none.
    #[serde(default)]
    pub identity: uuid::Uuid,
    /// What it was last called: a name of the configuration, or its place.
    pub name: String,
    pub place: String,
    pub encrypted: bool,
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen: OffsetDateTime,
    /// When all of its backups were last read; never, where only some are known.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub read: Option<OffsetDateTime>,
}

impl Repository {
    /// What a repository of this identity at this place is known by.
    pub fn key(identity: uuid::Uuid, place: &str) -> uuid::Uuid {
        let digest = Sha256::new_with_prefix(identity.as_bytes()).chain_update(place.as_bytes()).finalize();
        let bytes = digest.first_chunk().copied().unwrap_or_default();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Its own identity.
    pub fn identity(&self) -> uuid::Uuid {
        if self.identity.is_nil() { self.id } else { self.identity }
    }
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id (UUID version 7): ids are in the order of the beginnings.
    pub id: String,
    /// What was run: the name of a script, or a command.
    pub what: String,
    pub mode: String,
    pub principal: String,
    #[serde(with = "time::serde::rfc3339")]
    pub began: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub ended: OffsetDateTime,
    /// `done` or `failed`.
    pub outcome: String,
    /// The kind of the fault that it failed with.
    #[serde(default)]
    pub fault: Option<String>,
    pub calls: u64,
    /// How many changes were made.
    pub changed: u64,
    #[serde(default)]
    pub hosts: Vec<String>,
    pub simulated: bool,
}

/// A try whether a backup can be used: restored, and started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    pub machine: String,
    pub backup: Id,
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    pub passed: bool,
    /// What was tried, and what was found.
    pub details: String,
}

/// A machine that was cloned from a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    pub template: String,
    pub host: String,
    pub machine: String,
    /// Whether it needs the template's disks.
    pub linked: bool,
    #[serde(with = "time::serde::rfc3339")]
    pub made: OffsetDateTime,
}

/// A row's bytes: CRC-32, then MessagePack.
pub(super) fn encode(row: &impl Serialize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; 4];
    row.serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map()).map_err(|error| error.to_string())?;
    let (sum, body) = bytes.split_at_mut(4);
    sum.copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    Ok(bytes)
}

/// Reads a row. An error says what is wrong with its bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let Some((sum, body)) = bytes.split_first_chunk::<4>() else {
        return Err("a row is cut".to_owned());
    };
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return Err("a row contradicts its checksum".to_owned());
    }
    rmp_serde::from_slice(body).map_err(|error| format!("a row cannot be read: {error}"))
}
