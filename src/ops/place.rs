//! From what a person or a script calls a repository to its open target and its secret: the settings and the engine, joined.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretSlice;

use crate::backup::target::Target;
use crate::backup::{Access, Keys, Lock, LockMode, Place};
use crate::config::{Config, ObjectLock, RepositoryConfig};
use crate::error::Fault;

/// A repository's place, open. Nothing was read from it yet.
pub struct Located {
    /// Its name in the settings, where it has one.
    pub name: Option<String>,
    /// The place as it is written: a folder, or `s3://BUCKET/PREFIX`. It holds no secret.
    pub place: Place,
    pub target: Arc<dyn Target>,
    /// What the settings open it with; `None` where they name no password and no key file.
    pub secret: Option<SecretSlice<u8>>,
    /// The folder for [`crate::backup::Repository::open`]'s `cache`.
    pub cache: PathBuf,
}

/// Opens the place that a person means by a configured name, a folder or `s3://BUCKET/PREFIX`.
///
/// Faults: `usage.unknown_repository`, `usage.repository`, `config.no_secret`, `config.untrusted_file`, `backup.option`.
pub fn locate(config: &Config, text: &str) -> Result<Located, Fault> {
    open(config, &config.repository_or_place(text)?)
}

/// Opens the place of a configured name alone: all that a script may name.
///
/// Faults: as [`locate`].
pub fn locate_named(config: &Config, name: &str) -> Result<Located, Fault> {
    open(config, &config.repository(name)?)
}

fn open(config: &Config, repository: &RepositoryConfig) -> Result<Located, Fault> {
    let place: Place = repository.entry.url.parse()?;
    let access = match &place {
        Place::Folder(_) => Access::default(),
        Place::Bucket { .. } => access(config, repository)?,
    };
    let target = place.open(&access)?;
    let secret = config.repository_secret(repository)?;
    Ok(Located { name: repository.name.clone(), place, target, secret, cache: repository.cache.clone() })
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
