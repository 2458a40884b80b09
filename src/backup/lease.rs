//! Leases: "I am at work here". They save a prune and a backup from meeting; nothing depends on them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::format::{from_hashed, json, parse, read_named, with_hash};
use super::id::Id;
use super::target::{Listed, Target, listed};

/// A lease that was not renewed for this long, by the target's time, is not living.
pub const LIVES: Duration = Duration::from_secs(30 * 60);

/// The turns that there are: nothing else below `locks` is ours to delete.
const TURNS: [&str; 1] = ["locks/keys"];

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
    ended: bool,
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
        let info = LeaseInfo::new(target, work)?;
        let name = put(target, &info)?;
        Ok(Self { target, info, current: Mutex::new((name, Instant::now())), ended: false })
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
    pub fn end(mut self) -> Result<()> {
        self.ended = true;
        let current = self.current.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.target.delete(std::slice::from_ref(&current.0))
    }
}

impl Drop for Lease<'_> {
    /// Work that failed is no more at work. A lease that cannot be deleted now ends by itself.
    fn drop(&mut self) {
        if !self.ended {
            let current = self.current.get_mut().unwrap_or_else(PoisonError::into_inner);
            drop(self.target.delete(std::slice::from_ref(&current.0)));
        }
    }
}

/// The turn that work is done in.
pub(super) struct Turn<'a> {
    target: &'a dyn Target,
    name: &'a str,
    info: &'a LeaseInfo,
    began: Instant,
}

impl Turn<'_> {
    /// Whether it is still this work's, and long enough for a next step: asked before anything is deleted.
    ///
    /// A turn is not renewed, for a name is never written twice. What is done in one is some requests and one derivation of a key, seconds
    /// where nothing is in trouble; work that was stopped or whose store hung for half of the time after which others pass it over gives up here.
    ///
    /// Errors: `Refused`.
    pub fn holds(&self) -> Result<()> {
        let late = self.began.elapsed() > LIVES / 2;
        match turn(self.target, self.name) {
            Ok(holder) if holder == *self.info && !late => Ok(()),
            Err(error) if !error.is_damage() => Err(error),
            _ => Err(Error::Refused(format!(
                "this took so long that another may have taken the turn of {}; nothing was deleted",
                self.name
            ))),
        }
    }
}

/// Does what must not be done twice at once, such as changing keys.
///
/// One that does it writes `locks/<what>`, create-only, and deletes it after. One that died is passed over: at once if it was a process of
/// this machine, else after half an hour by the target's time. So this can fail to keep two apart, if one sleeps for so long: what is done
/// under it must not lose anything then.
///
/// Errors: `Refused` where another does it.
pub(super) fn in_turn<T>(target: &dyn Target, what: &str, work: impl FnOnce(&Turn<'_>) -> Result<T>) -> Result<T> {
    let name = format!("locks/{what}");
    let info = LeaseInfo::new(target, what)?;
    let file = with_hash(&info)?;
    // Before the store can have counted any of its time.
    let began = Instant::now();
    for last in [false, true] {
        match target.put(&name, &file) {
            Err(Error::Exists(_)) if !last => {}
            Err(Error::Exists(_)) => return Err(Error::Refused(format!("another process takes the turn of {name}"))),
            Err(error) => return Err(error),
            Ok(()) => break,
        }
        let Some(found) = listed(target, "locks")?.into_iter().find(|file| file.name == name) else { continue };
        let living = target.now()?.duration_since(found.written).map_or(true, |age| age < LIVES);
        match turn(target, &name) {
            Ok(other) if living && !other.is_gone(&info) => {
                return Err(Error::Refused(format!(
                    "process {} of {} works on {what} now; if it does not, unlock the repository",
                    other.process, other.host
                )));
            }
            // It was given back just now; what has the name next is another's.
            Err(error) if error.is_missing() => {}
            Err(error) if living && !error.is_damage() => return Err(error),
            _ => target.delete(std::slice::from_ref(&name))?,
        }
    }
    let done = work(&Turn { target, name: &name, info: &info, began });
    // Where it was taken for dead, another has the turn now.
    let released = match turn(target, &name) {
        Ok(holder) if holder == info => target.delete(&[name]),
        Ok(_) => Ok(()),
        Err(error) if error.is_damage() => Ok(()),
        Err(error) => Err(error),
    };
    done.and_then(|done| released.map(|()| done))
}

fn turn(target: &dyn Target, name: &str) -> Result<LeaseInfo> {
    from_hashed(&target.get_all(name, 1 << 16)?, name)
}

impl LeaseInfo {
    fn new(target: &dyn Target, work: &str) -> Result<Self> {
        Ok(Self {
            uuid: uuid::Uuid::new_v4().to_string(),
            work: work.to_owned(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            process: std::process::id(),
            began_ms: millis(target.now()?),
        })
    }

    /// Whether its process was one of this machine and is no more. `own` is of this process.
    fn is_gone(&self, own: &Self) -> bool {
        let process = i32::try_from(self.process).ok().and_then(rustix::process::Pid::from_raw);
        let gone = |pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
        self.host == own.host && process.is_none_or(gone)
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
    let mut gone: Vec<LeaseInfo> = found.into_iter().map(|lease| lease.info).collect();
    let locks = listed(target, "locks")?;
    let now = if locks.is_empty() { SystemTime::UNIX_EPOCH } else { target.now()? };
    for lock in locks.into_iter().filter(|lock| TURNS.contains(&lock.name.as_str())) {
        let living = now.duration_since(lock.written).map_or(true, |age| age < LIVES);
        if all || !living {
            gone.extend(turn(target, &lock.name).ok());
            target.delete(&[lock.name])?;
        }
    }
    Ok(gone)
}

fn read(target: &dyn Target, file: &str) -> Result<LeaseInfo> {
    let (info, _): (LeaseInfo, String) = parse(&read_named(target, file, 1 << 16)?, file)?;
    Ok(info)
}

/// Verifies a lock, for a check.
pub(super) fn verify_lock(target: &dyn Target, file: &str) -> Result<()> {
    turn(target, file).map(drop)
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
