//! Reads one backup back as a restore would, and keeps nothing of it: the proof that it can be restored now.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::Result;
use super::manifest::Manifest;
use super::repository::Repository;
use super::threads::processors;
use super::watch::Watch;

/// What was found when a backup was read back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// The bytes of disks and files that were read and are what they were; zeros, which are not stored, do not count.
    pub read: u64,
    /// What keeps it from being restored: the disk or file, and why. Of each the first is named.
    pub problems: Vec<(String, String)>,
}

impl Repository {
    /// Reads every disk and file of a backup, each chunk verified as for a restore, and writes nothing. `watch` is told how far it is.
    ///
    /// Errors: what keeps it from being tried, such as a place that goes away; damage is a part of what was found.
    pub fn verify(&self, backup: &Manifest, watch: &Watch) -> Result<Verified> {
        let sizes = backup.disks.iter().map(|disk| disk.size).chain(backup.files.iter().map(|file| file.size));
        watch.expect(sizes.fold(0, u64::saturating_add));
        let mut found = Verified::default();
        let mut begin = 0u64;
        let mut ended = |name: &str, done: Result<()>| match done {
            Err(error) if error.is_damage() => {
                found.problems.push((name.to_owned(), error.to_string()));
                Ok(())
            }
            done => done,
        };
        let read = AtomicU64::new(0);
        for disk in &backup.disks {
            let done = self.read_disk(disk).and_then(|reader| {
                reader.each_chunk(processors(), &|at, bytes| {
                    read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    watch.reach(begin.saturating_add(at));
                    Ok(())
                })
            });
            ended(&disk.name, done)?;
            begin = begin.saturating_add(disk.size);
            watch.reach(begin);
        }
        for file in &backup.files {
            ended(&file.name, self.read_file(file, &mut Counted(&read)))?;
            begin = begin.saturating_add(file.size);
            watch.reach(begin);
        }
        found.read = read.into_inner();
        Ok(found)
    }
}

/// Counts what is written, and drops it.
struct Counted<'c>(&'c AtomicU64);

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
