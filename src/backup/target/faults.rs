//! Targets that fail, for tests: a folder that loses power before its Nth step, and one whose answers are lost, cut or refused.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::{FolderTarget, Listed, Spool, Step, Steps, Target};
use crate::backup::error::{Error, Result};

/// Counts the steps of a folder and refuses all from the Nth on. Then what was not synced can be undone, as a power cut may.
pub struct Power {
    left: AtomicU64,
    steps: AtomicU64,
    /// What a power cut may undo: for each folder, names that appeared, and names that went with the place of a copy.
    unsynced: Mutex<BTreeMap<PathBuf, Vec<Change>>>,
    copies: tempfile::TempDir,
    synced: Mutex<std::collections::BTreeSet<PathBuf>>,
}

enum Change {
    Appeared(PathBuf),
    Went(PathBuf, PathBuf),
}

impl Power {
    /// Power for so many steps.
    pub fn for_steps(steps: u64) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU64::new(steps),
            steps: AtomicU64::new(0),
            unsynced: Mutex::default(),
            copies: tempfile::tempdir().unwrap(),
            synced: Mutex::default(),
        })
    }

    pub fn target(self: &Arc<Self>, root: &Path) -> Arc<dyn Target> {
        Arc::new(FolderTarget::with_steps(root, Arc::clone(self) as Arc<dyn Steps>))
    }

    /// How many steps were made.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    /// Undoes what no sync of a folder has made durable.
    pub fn undo_unsynced(&self) {
        for (_, changes) in std::mem::take(&mut *self.unsynced.lock().unwrap()) {
            for change in changes.into_iter().rev() {
                match change {
                    Change::Appeared(path) => drop(std::fs::remove_file(path)),
                    Change::Went(path, copy) => drop(std::fs::rename(copy, path)),
                }
            }
        }
    }
}

impl Steps for Power {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            return Err(io::Error::other("the power is off"));
        }
        let number = self.steps.fetch_add(1, Ordering::SeqCst);
        let mut unsynced = self.unsynced.lock().unwrap();
        let mut note = |path: &Path, change| {
            unsynced.entry(path.parent().unwrap().to_path_buf()).or_default().push(change);
        };
        match step {
            Step::Sync(path) => {
                self.synced.lock().unwrap().insert(path.to_path_buf());
            }
            Step::Write(path) => {
                self.synced.lock().unwrap().remove(path);
            }
            Step::Link(from, to) => {
                assert!(self.synced.lock().unwrap().contains(from), "{} was named before it was synced", to.display());
                if !to.exists() {
                    note(to, Change::Appeared(to.to_path_buf()));
                }
            }
            Step::Unlink(path) if !path.parent().unwrap().ends_with("temporary") && path.exists() => {
                let copy = self.copies.path().join(number.to_string());
                std::fs::copy(path, &copy).unwrap();
                note(path, Change::Went(path.to_path_buf(), copy));
            }
            Step::SyncFolder(folder) => {
                unsynced.remove(folder);
            }
            _ => {}
        }
        Ok(())
    }
}

/// What happens at a call of a `Faulty` target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and nothing is done.
    Refused,
    /// The call is done, and its answer does not arrive.
    LostAnswer,
    /// The disk is full.
    Full,
}

/// A target that has a fault at one call of those that change something, and a short read at one of those that read.
pub struct Faulty {
    pub inner: Arc<dyn Target>,
    pub fault: Fault,
    pub at: u64,
    pub short_read_at: u64,
    calls: AtomicU64,
    reads: AtomicU64,
}

impl Faulty {
    pub fn new(inner: Arc<dyn Target>, fault: Fault, at: u64, short_read_at: u64) -> Self {
        Self { inner, fault, at, short_read_at, calls: AtomicU64::new(0), reads: AtomicU64::new(0) }
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    fn change<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let fault = (self.calls.fetch_add(1, Ordering::SeqCst) == self.at).then_some(self.fault);
        let told = |kind| Err(Error::io(self.place(), "write")(io::Error::from(kind)));
        match fault {
            None => call(),
            Some(Fault::Refused) => told(io::ErrorKind::ConnectionRefused),
            Some(Fault::Full) => told(io::ErrorKind::StorageFull),
            Some(Fault::LostAnswer) => call().and_then(|_| told(io::ErrorKind::TimedOut)),
        }
    }

    fn read(&self, bytes: Result<Vec<u8>>) -> Result<Vec<u8>> {
        let mut bytes = bytes?;
        if self.reads.fetch_add(1, Ordering::SeqCst) == self.short_read_at {
            bytes.truncate(bytes.len() / 2);
        }
        Ok(bytes)
    }
}

impl Target for Faulty {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.change(|| self.inner.put(name, bytes))
    }

    fn spool(&self) -> Result<Spool> {
        self.inner.spool()
    }

    fn put_spool(&self, name: &str, spool: Spool) -> Result<()> {
        self.change(|| self.inner.put_spool(name, spool))
    }

    fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.read(self.inner.get(name, range))
    }

    fn at_once(&self) -> u64 {
        self.inner.at_once()
    }

    fn get_all(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        self.read(self.inner.get_all(name, limit))
    }

    fn list(&self, folder: &str, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        self.inner.list(folder, each)
    }

    fn delete(&self, names: &[String]) -> Result<()> {
        self.change(|| self.inner.delete(names))
    }

    fn now(&self) -> Result<SystemTime> {
        self.inner.now()
    }

    fn tidy(&self) -> Result<u64> {
        self.inner.tidy()
    }
}
