//! Watches work on a repository from outside: how far it is, and the wish that it end.
//!
//! Work that is told to stop ends at its next read or write of the target or the source with an error; like every interruption it leaves
//! a valid repository, and nothing half-made becomes visible. It must not decide when to stop.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::error::{Error, Result};
use super::repository::Repository;
use super::target::{Listed, Spool, Target};
use crate::vmdk::Source;

/// One piece of work, as the one who waits for it sees it.
#[derive(Debug, Default)]
pub struct Watch {
    stop: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
}

impl Watch {
    /// Has the work end at its next step.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the work was told to stop.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says how many bytes there are to do. Until then nobody knows how far the work is.
    pub fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Says that all before this byte is done.
    pub fn reach(&self, byte: u64) {
        self.done.fetch_max(byte, Ordering::Relaxed);
    }

    /// How far the work is, 0 to 100; `None` where nobody knows.
    pub fn percent(&self) -> Option<u8> {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        (total > 0).then(|| (u128::from(done.min(total)) * 100 / u128::from(total)) as u8)
    }

    fn check(&self) -> Result<()> {
        if self.is_stopped() { Err(Error::Stopped) } else { Ok(()) }
    }
}

impl Repository {
    /// The same repository, whose every read and write ends once the watch says so.
    pub fn watched(&self, watch: &Arc<Watch>) -> Self {
        self.with_target(Arc::new(Watched { target: self.target.clone(), watch: watch.clone() }))
    }
}

/// A target under a watch.
struct Watched {
    target: Arc<dyn Target>,
    watch: Arc<Watch>,
}

impl Target for Watched {
    fn place(&self) -> String {
        self.target.place()
    }

    fn whereabouts(&self) -> String {
        self.target.whereabouts()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.watch.check()?;
        self.target.put(name, bytes)
    }

    fn spool(&self) -> Result<Spool> {
        self.watch.check()?;
        self.target.spool()
    }

    fn put_spool(&self, name: &str, spool: Spool) -> Result<()> {
        self.watch.check()?;
        self.target.put_spool(name, spool)
    }

    fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.watch.check()?;
        self.target.get(name, range)
    }

    fn get_into(&self, name: &str, range: Range<u64>, bytes: &mut Vec<u8>) -> Result<()> {
        self.watch.check()?;
        self.target.get_into(name, range, bytes)
    }

    fn at_once(&self) -> u64 {
        self.target.at_once()
    }

    fn get_all(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        self.watch.check()?;
        self.target.get_all(name, limit)
    }

    fn list(&self, folder: &str, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        self.watch.check()?;
        self.target.list(folder, &mut |listed| {
            self.watch.check()?;
            each(listed)
        })
    }

    fn delete(&self, names: &[String]) -> Result<()> {
        // Whoever stops still takes its own lease away, and gives its turn back.
        if !names.iter().all(|name| name.starts_with("leases/") || name.starts_with("locks/")) {
            self.watch.check()?;
        }
        self.target.delete(names)
    }

    fn lock_time(&self) -> Option<Duration> {
        self.target.lock_time()
    }

    fn now(&self) -> Result<SystemTime> {
        self.watch.check()?;
        self.target.now()
    }

    fn tidy(&self) -> Result<u64> {
        self.watch.check()?;
        self.target.tidy()
    }
}

/// A source under a watch: how far it was read is how far the work is.
pub struct WatchedSource<'a> {
    source: &'a dyn Source,
    watch: &'a Watch,
}

impl<'a> WatchedSource<'a> {
    pub fn new(source: &'a dyn Source, watch: &'a Watch) -> Self {
        watch.expect(source.size());
        Self { source, watch }
    }
}

impl Source for WatchedSource<'_> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.watch.check().map_err(io::Error::other)?;
        self.source.read_at(at, bytes)?;
        self.watch.reach(at.saturating_add(bytes.len() as u64));
        Ok(())
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        self.watch.check().map_err(io::Error::other)?;
        self.source.next_data(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::FolderTarget;
    use super::super::{BackupOptions, InitOptions};
    use super::*;

    /// Bytes that tell the watch to stop once half of them were read.
    struct Halting<'a>(Vec<u8>, &'a Watch);

    impl Source for Halting<'_> {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
            if at >= self.size() / 2 {
                self.1.stop();
            }
            bytes.copy_from_slice(&self.0[at as usize..][..bytes.len()]);
            Ok(())
        }
    }

    #[test]
    fn a_backup_that_is_told_to_stop_ends_leaves_nothing_visible_and_no_lease() {
        let folder = tempfile::tempdir().unwrap();
        let target = Arc::new(FolderTarget::new(folder.path().join("r")));
        let repository = Repository::init(target, &InitOptions::default(), None).unwrap();
        let watch = Arc::new(Watch::default());
        let watched = repository.watched(&watch);
        let bytes: Vec<u8> = (0..8u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let source = Halting(bytes, &watch);
        let mut session = watched.begin(BackupOptions { threads: 1, ..BackupOptions::default() }).unwrap();
        assert_eq!(watch.percent(), None);
        session.disk("disk", &WatchedSource::new(&source, &watch), None).unwrap_err();
        drop(session);
        assert!(watch.percent().is_some_and(|percent| (40..60).contains(&percent)), "{:?}", watch.percent());
        assert!(matches!(watched.stats(), Err(Error::Stopped)));
        assert!(repository.backups().unwrap().is_empty());
        assert!(repository.unlock(true).unwrap().is_empty(), "a lease was left");
        assert!(repository.check(super::super::Depth::ReadData).unwrap().is_clean());
    }
}
