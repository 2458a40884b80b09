//! A folder that differs from a plain one in a few calls: a test says which, everything else goes through.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::{FolderTarget, Result, Target};
use crate::backup::target::{Listed, Spool};

/// What a test alters.
pub trait Alter: Send + Sync {
    fn inner(&self) -> &FolderTarget;

    /// Comes before a part of a file is read.
    fn reading(&self, _name: &str) {}

    fn delete(&self, names: &[String]) -> Result<()> {
        self.inner().delete(names)
    }

    fn lock_time(&self) -> Option<Duration> {
        self.inner().lock_time()
    }
}

/// The folder, altered.
pub struct Altered<A>(pub A);

impl<A: Alter> Target for Altered<A> {
    fn place(&self) -> String {
        self.0.inner().place()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.0.inner().put(name, bytes)
    }

    fn spool(&self) -> Result<Spool> {
        self.0.inner().spool()
    }

    fn put_spool(&self, name: &str, spool: Spool) -> Result<()> {
        self.0.inner().put_spool(name, spool)
    }

    fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.0.reading(name);
        self.0.inner().get(name, range)
    }

    fn get_all(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        self.0.inner().get_all(name, limit)
    }

    fn list(&self, folder: &str, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        self.0.inner().list(folder, each)
    }

    fn delete(&self, names: &[String]) -> Result<()> {
        self.0.delete(names)
    }

    fn lock_time(&self) -> Option<Duration> {
        self.0.lock_time()
    }

    fn now(&self) -> Result<SystemTime> {
        self.0.inner().now()
    }

    fn tidy(&self) -> Result<u64> {
        self.0.inner().tidy()
    }
}
