//! From what a person or a script calls a repository to its open target and its secret: the settings and the engine, joined.

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{SecretSlice, SecretString};
use zeroize::Zeroize;

use crate::backup::{Access, Keys, Lock, LockMode, Place};
use crate::config::files::{self, Guard};
use crate::config::{Config, ObjectLock, RepositoryConfig};
use crate::door::repository::Stored;
use crate::error::Fault;
use crate::redact;

/// The largest passphrase or key file.
const LARGEST: usize = 1 << 20;

/// A file that a person names by hand, with what opens a repository.
#[derive(Debug, Clone)]
pub enum SecretFile {
    /// Its first line is a passphrase.
    Passphrase(PathBuf),
    /// All of its bytes are the key.
    Bytes(PathBuf),
}

impl SecretFile {
    /// Reads it. A passphrase is made known as a secret. Faults: `backup.key`.
    pub fn read(&self) -> Result<SecretSlice<u8>, Fault> {
        match self {
            Self::Bytes(file) => Ok(read(file)?.into()),
            Self::Passphrase(file) => passphrase(read(file)?, &file.display().to_string()),
        }
    }
}

/// Opens the place that a person means by a configured name, a folder or `s3://BUCKET/PREFIX`. `given` opens the repository in place of
/// what the settings say.
///
/// Faults: `usage.unknown_repository`, `usage.repository`, `config.no_secret`, `config.untrusted_file`, `backup.option`.
pub fn locate(config: &Config, text: &str, given: Option<SecretSlice<u8>>) -> Result<Stored, Fault> {
    open(config, &config.repository_or_place(text)?, given)
}

/// Opens the place of a configured name alone: all that a script may name.
///
/// Faults: as [`locate`].
pub fn locate_named(config: &Config, name: &str) -> Result<Stored, Fault> {
    open(config, &config.repository(name)?, None)
}

/// What tables and records call a repository that a person means: its name in the settings, or its place.
///
/// Faults: as [`locate`].
pub fn name_of(config: &Config, text: &str) -> Result<String, Fault> {
    let repository = config.repository_or_place(text)?;
    let place: Place = repository.entry.url.parse()?;
    Ok(match (repository.name, place) {
        (Some(name), _) => name,
        (None, Place::Folder(folder)) => std::path::absolute(&folder).unwrap_or(folder).display().to_string(),
        (None, place) => place.to_string(),
    })
}

fn open(config: &Config, repository: &RepositoryConfig, given: Option<SecretSlice<u8>>) -> Result<Stored, Fault> {
    let place: Place = repository.entry.url.parse()?;
    let access = match &place {
        Place::Folder(_) => Access::default(),
        Place::Bucket { .. } => access(config, repository)?,
    };
    let target = place.open(&access)?;
    let secret = match given {
        Some(given) => Some(given),
        None => config.repository_secret(repository)?,
    };
    let retention = config.retention(repository).cloned();
    Ok(Stored { target, secret, cache: Some(repository.cache.clone()), retention })
}

fn access(config: &Config, repository: &RepositoryConfig) -> Result<Access, Fault> {
    let entry = &repository.entry;
    let keys = config.bucket_keys(repository)?;
    let ca = entry.ca_file.as_ref().map(|path| {
        std::fs::read(path).map_err(|error| {
            Fault::new("config.unreadable", format!("{}: {error}", path.display()))
                .hint("name the PEM file of the authority by \"ca_file\", or AWS_CA_BUNDLE")
                .cause(error)
        })
    });
    let mode = match entry.object_lock {
        ObjectLock::None => None,
        ObjectLock::Governance => Some(LockMode::Governance),
        ObjectLock::Compliance => Some(LockMode::Compliance),
    };
    let days = entry.object_lock_days.map(|days| Duration::from_secs(u64::from(days) * 24 * 60 * 60));
    Ok(Access {
        endpoint: entry.endpoint.clone(),
        region: entry.region.clone(),
        path_style: entry.path_style,
        plain_http: entry.plain_http,
        ca: ca.transpose()?,
        keys: Some(Keys { id: keys.id, secret: keys.secret, token: keys.token }),
        lock: mode.zip(days).map(|(mode, time)| Lock { mode, time }),
        requests_per_second: entry.requests_per_second,
        bytes_per_second: entry.bytes_per_second.map(|bytes| bytes.0),
        spool: Some(repository.cache.join("spool")),
    })
}

/// A file that a person names by hand may be readable by others: that is the person's to know.
fn read(file: &Path) -> Result<Vec<u8>, Fault> {
    let place = file.display();
    match files::read(file, LARGEST, Guard::Any)? {
        None => Err(Fault::new("backup.key", format!("{place}: there is no such file"))
            .hint("name the file that holds the passphrase or key")),
        Some(bytes) if bytes.is_empty() => {
            Err(Fault::new("backup.key", format!("{place}: is empty")).hint("an empty key would open for anybody"))
        }
        Some(bytes) => Ok(bytes),
    }
}

/// The first line of a file, which is made known as a secret.
fn passphrase(mut bytes: Vec<u8>, place: &str) -> Result<SecretSlice<u8>, Fault> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    bytes.zeroize();
    if line.is_empty() {
        return Err(Fault::new("backup.key", format!("{place}: its first line is empty"))
            .hint("write the passphrase into the first line"));
    }
    if let Ok(text) = std::str::from_utf8(&line) {
        redact::know(&SecretString::from(text), "passphrase of a repository");
    }
    Ok(line.into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line_and_never_empty() {
        let line = |bytes: &[u8]| passphrase(bytes.to_vec(), "file").map(|line| line.expose_secret().to_vec());
        assert_eq!(line(b"open sesame\r\nnot this").unwrap(), b"open sesame");
        assert_eq!(line(b"correct horse").unwrap(), b"correct horse");
        for empty in [&b""[..], b"\n", b"\r\nsecond"] {
            assert_eq!(line(empty).unwrap_err().kind(), "backup.key");
        }
    }
}
