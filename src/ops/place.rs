//! From what a person or a script calls a repository to its open target and its secret: the settings and the engine, joined.

use std::time::Duration;

use secrecy::SecretSlice;

use crate::backup::{Access, Keys, Lock, LockMode, Place};
use crate::config::{Config, ObjectLock, RepositoryConfig};
use crate::door::repository::Stored;
use crate::error::Fault;

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
    Ok(Stored { target, secret, cache: Some(repository.cache.clone()) })
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
