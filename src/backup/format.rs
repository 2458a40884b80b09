//! The file `config`, and the form of the files whose names are fixed: a text that ends with its own hash.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::id::Id;
use super::spare::CONFIG_COPY;
use super::target::Target;

/// The version of the format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

pub(super) const CONFIG: &str = "config";

/// The largest config that is read.
pub(super) const LARGEST_CONFIG: u64 = 1 << 20;

/// What a repository is; written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub format: u32,
    /// What a reader must know beyond the format.
    pub needs: Vec<String>,
    pub id: String,
    pub encrypted: bool,
    /// The length of a chunk in bytes, where a backup does not ask for another.
    pub chunk_size: u32,
    /// How long a pack stays marked before a prune may delete it.
    pub grace_seconds: u64,
    pub made: String,
}

/// The smallest, largest and usual chunk; each is a multiple of the smallest.
pub const SMALLEST_CHUNK: u32 = 64 << 10;
pub const LARGEST_CHUNK: u32 = 4 << 20;
pub const USUAL_CHUNK: u32 = 256 << 10;

/// Refuses a chunk size that is not 64 KiB to 4 MiB in steps of 64 KiB.
pub fn check_chunk_size(size: u32) -> Result<()> {
    if (SMALLEST_CHUNK..=LARGEST_CHUNK).contains(&size) && size.is_multiple_of(SMALLEST_CHUNK) {
        Ok(())
    } else {
        Err(Error::Option(format!("a chunk has 64 KiB to 4 MiB, in steps of 64 KiB; not {size} bytes")))
    }
}

/// A value as the text of a file whose name is fixed.
pub(super) fn with_hash<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut text = json(value)?;
    text.push(b'\n');
    let hash = Id::of(&text);
    text.extend_from_slice(format!("{hash}\n").as_bytes());
    Ok(text)
}

/// The value of a file that `with_hash` made.
pub(super) fn from_hashed<T: DeserializeOwned>(bytes: &[u8], file: &str) -> Result<T> {
    let at = bytes.len().checked_sub(65).ok_or_else(|| Error::damaged(file, "it is too short"))?;
    let (text, hash) = bytes.split_at(at);
    if hash != format!("{}\n", Id::of(text)).as_bytes() {
        return Err(Error::damaged(file, "its bytes are not those of the hash at its end"));
    }
    parse(text, file)
}

pub(super) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Option(format!("a value cannot be written as JSON: {error}")))
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], file: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::damaged(file, format!("it cannot be understood: {error}")))
}

/// Reads a file that is named by its hash, and verifies that it is.
pub(super) fn read_named(target: &dyn Target, file: &str, limit: u64) -> Result<Vec<u8>> {
    let bytes = target.get_all(file, limit)?;
    if file.rsplit('/').next() != Some(Id::of(&bytes).to_string().as_str()) {
        return Err(Error::damaged(file, "its bytes are not those that its name says"));
    }
    Ok(bytes)
}

/// What a place is that has no config: no repository, or one that lost it.
fn no_config(target: &dyn Target) -> Result<Error> {
    let lost = |file| Error::NoConfig { place: target.place(), file };
    for folder in ["manifests", "claims", "data"] {
        let mut first = None;
        target.list(folder, &mut |file| {
            first.get_or_insert(file.name);
            Ok(())
        })?;
        if let Some(file) = first {
            return Ok(lost(file));
        }
    }
    match target.get_all(CONFIG_COPY, LARGEST_CONFIG) {
        Err(Error::Missing(_)) => Ok(Error::NotARepository(target.place())),
        Err(error) if !error.is_damage() => Err(error),
        _ => Ok(lost(CONFIG_COPY.to_owned())),
    }
}

/// A config and the bytes of its file, over whose hash the keys are bound to it.
pub(super) type Found = (Config, Arc<[u8]>);

/// Reads `config`, or its copy where it is lost: a copy says nothing where `config` can be read.
///
/// Errors: `NotARepository`; `NoConfig`; `Newer` where it was made by a later version; `Damaged`.
pub(super) fn read_config(target: &dyn Target) -> Result<Found> {
    let lost = match read_one(target, CONFIG) {
        Err(error) if is_lost(&error) => error,
        other => return other,
    };
    match read_one(target, CONFIG_COPY) {
        Ok(found) => {
            tracing::warn!("{}: {lost}; {CONFIG_COPY} was read in its place: repair the repository", target.place());
            Ok(found)
        }
        Err(error) if !is_lost(&error) => Err(error),
        Err(_) if lost.is_missing() => Err(no_config(target)?),
        Err(_) => Err(lost),
    }
}

/// Whether the bytes of a file are lost: gone, damaged, or on a disk that cannot give them any more.
pub(super) fn is_lost(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.raw_os_error() == Some(libc::EIO),
        error => error.is_damage(),
    }
}

fn read_one(target: &dyn Target, file: &str) -> Result<Found> {
    let bytes = target.get_all(file, LARGEST_CONFIG)?;
    Ok((config_of(target, file, &bytes)?, bytes.into()))
}

/// The config that the bytes of a file say.
pub(super) fn config_of(target: &dyn Target, file: &str, bytes: &[u8]) -> Result<Config> {
    // The version comes first: a newer config may have fields of other types, but this one it has.
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } = from_hashed(bytes, file)?;
    let newer = |what| Error::Newer { place: target.place(), what };
    if format > FORMAT {
        return Err(newer(format!("its format is {format}, and this program reads up to {FORMAT}")));
    }
    let config: Config = from_hashed(bytes, file)?;
    if let Some(need) = config.needs.first() {
        return Err(newer(format!("it needs {need:?}, which this program does not know")));
    }
    check_chunk_size(config.chunk_size).map_err(|error| Error::damaged(file, error.to_string()))?;
    // It names a folder of this machine: the cache.
    if uuid::Uuid::parse_str(&config.id).is_err() || config.id.len() != 36 {
        return Err(Error::damaged(file, "its id is no UUID"));
    }
    Ok(config)
}

/// The time of this machine as RFC 3339, to the second.
pub(super) fn this_time() -> String {
    let now = time::OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}
