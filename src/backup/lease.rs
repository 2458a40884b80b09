//! Leases: "I am at work here". They save a prune and a backup from meeting; nothing depends on them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::format::{json, parse, read_named};
use super::id::Id;
use super::target::{Listed, Target, listed};

/// A lease that was not renewed for this long, by the target's time, is not living.
pub const LIVES: Duration = Duration::from_secs(30 * 60);

/// How often a lease is renewed.
const RENEWED: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfo {
    pub uuid: String,
    /// What is done: `backup`, `prune`.
    pub work: String,
    pub host: String,
    pub process: u32,
    /// When it began, in milliseconds since 1970 by the target's time.
    pub began_ms: u64,
}

/// A lease of this process; it is deleted when the work ends.
pub struct Lease<'a> {
    target: &'a dyn Target,
    info: LeaseInfo,
    current: Mutex<(String, Instant)>,
}

/// A time of a target as milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn put(target: &dyn Target, info: &LeaseInfo) -> Result<String> {
    // The bytes differ each time, so a renewal has a name of its own.
    let file = json(&(info, uuid::Uuid::new_v4().to_string()))?;
    let name = format!("leases/{}", Id::of(&file));
    target.put(&name, &file)?;
    Ok(name)
}

impl<'a> Lease<'a> {
    pub fn take(target: &'a dyn Target, work: &str) -> Result<Self> {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let info = LeaseInfo {
            uuid: uuid::Uuid::new_v4().to_string(),
            work: work.to_owned(),
            host,
            process: std::process::id(),
            began_ms: millis(target.now()?),
        };
        let name = put(target, &info)?;
        Ok(Self { target, info, current: Mutex::new((name, Instant::now())) })
    }

    /// Renews it where it is time to.
    pub fn renew(&self) -> Result<()> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1.elapsed() < RENEWED {
            return Ok(());
        }
        let name = put(self.target, &self.info)?;
        let old = std::mem::replace(&mut *current, (name, Instant::now()));
        self.target.delete(&[old.0])
    }

    /// Ends it.
    pub fn end(self) -> Result<()> {
        let current = self.current.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.target.delete(&[current.0])
    }
}

/// A lease as a list shows it.
#[derive(Debug, Clone)]
pub struct Found {
    pub file: Listed,
    pub info: LeaseInfo,
    pub living: bool,
}

/// All leases. One that goes meanwhile is passed over.
pub fn list(target: &dyn Target) -> Result<Vec<Found>> {
    let files = listed(target, "leases")?;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let now = target.now()?;
    let mut found = Vec::new();
    for file in files {
        let info = match read(target, &file.name) {
            Err(error) if error.is_missing() => continue,
            // What cannot be read says nothing, and nothing depends on it; a check names it.
            Err(error) if error.is_damage() => continue,
            other => other?,
        };
        // A file from the future of its own store: the store's clock was set back. It is taken for living.
        let living = now.duration_since(file.written).map_or(true, |age| age < LIVES);
        found.push(Found { file, info, living });
    }
    Ok(found)
}

/// Deletes leases: those that do not live, or all. Nothing is lost by it, whatever their owners are doing.
pub fn unlock(target: &dyn Target, all: bool) -> Result<Vec<LeaseInfo>> {
    let mut found = list(target)?;
    found.retain(|lease| all || !lease.living);
    target.delete(&found.iter().map(|lease| lease.file.name.clone()).collect::<Vec<_>>())?;
    Ok(found.into_iter().map(|lease| lease.info).collect())
}

fn read(target: &dyn Target, file: &str) -> Result<LeaseInfo> {
    let (info, _): (LeaseInfo, String) = parse(&read_named(target, file, 1 << 16)?, file)?;
    Ok(info)
}

/// Verifies a lease, for a check.
pub(super) fn verify(target: &dyn Target, file: &str) -> Result<()> {
    read(target, file).map(drop)
}

/// A lease that says that it began so long ago.
#[cfg(test)]
pub(super) fn tests_lease(target: &dyn Target, ago: Duration) -> Lease<'_> {
    let mut lease = Lease::take(target, "backup").unwrap();
    lease.info.began_ms -= ago.as_millis() as u64;
    let name = put(target, &lease.info).unwrap();
    let old = std::mem::replace(&mut *lease.current.get_mut().unwrap(), (name, Instant::now()));
    target.delete(&[old.0]).unwrap();
    lease
}
