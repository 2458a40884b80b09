//! Where the files of a repository are kept: one trait, which a folder and any other place implement.
//!
//! A target knows names and bytes, and nothing of what they mean. It never overwrites. Every target passes the tests in `suite`.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::error::{Error, Result};
#[cfg(test)]
use super::id::Id;

#[cfg(test)]
pub(in crate::backup) mod faults;
mod folder;
mod nfs;
mod s3;
#[cfg(test)]
mod suite;

pub use folder::FolderTarget;
#[cfg(test)]
pub(in crate::backup) use folder::{Step, Steps};
pub use s3::S3Target;

/// A file as a list of a target shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The whole name: `data/0a/0a1b…`.
    pub name: String,
    pub size: u64,
    /// When the target wrote it, by the target's own clock: only to be compared with other times of the same target.
    pub written: SystemTime,
}

/// A place for named files that are written once, whole, and never changed.
///
/// Names are relative, of lower-case letters, digits, `.` and `-`, with `/` between folders; anything else is refused. What a call has
/// answered is durable: it survives a power cut.
pub trait Target: Send + Sync {
    /// The place, for messages.
    fn place(&self) -> String;

    /// What tells the place from every other, however it was written: of a folder its path without links, of a bucket with its server.
    fn whereabouts(&self) -> String {
        self.place()
    }

    /// Writes a new file. Where the name exists with the same bytes, an earlier answer was lost and this succeeds.
    ///
    /// Errors: `Exists` where the name has other bytes.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// A file of this machine to collect bytes in whose name is not known yet.
    fn spool(&self) -> Result<Spool>;

    /// Writes a new file from a spool, as `put` does. `spool` is used up, also by an error.
    fn put_spool(&self, name: &str, spool: Spool) -> Result<()>;

    /// A file's bytes in a range: all of them, or an error.
    ///
    /// Errors: `Missing`; `Damaged` where the file ends before the range does.
    fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// The same in a buffer, which is filled anew: for whoever reads often.
    fn get_into(&self, name: &str, range: Range<u64>, bytes: &mut Vec<u8>) -> Result<()> {
        *bytes = self.get(name, range)?;
        Ok(())
    }

    /// How many bytes of a file one request for neighbours should bring: more where each request waits for an answer. Every thread that
    /// reads holds as many.
    fn at_once(&self) -> u64 {
        4 << 20
    }

    /// A whole file of at most `limit` bytes.
    ///
    /// Errors: `Missing`; `Damaged` where it is longer.
    fn get_all(&self, name: &str, limit: u64) -> Result<Vec<u8>>;

    /// Calls `each` for the files whose names begin with `folder` and a slash, in no order. A folder that does not exist is empty.
    ///
    /// A file that appears or goes while this runs may or may not be shown; any other is shown once.
    fn list(&self, folder: &str, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()>;

    /// Deletes files; those that do not exist are no error. When it returns, all deletions are durable.
    ///
    /// Errors: `Locked` where some are kept by a lock, and all others were deleted.
    fn delete(&self, names: &[String]) -> Result<()>;

    /// For how long from its writing a file of a backup cannot be deleted, where this target writes with a lock.
    fn lock_time(&self) -> Option<Duration> {
        None
    }

    /// The target's own time.
    fn now(&self) -> Result<SystemTime>;

    /// Removes what interrupted writes have left, if it is more than a day old. Returns how many.
    fn tidy(&self) -> Result<u64>;
}

/// The system is asked to write a file out when so many bytes of it are new.
pub(super) const WRITTEN_OUT: u64 = 16 << 20;

/// Lets the system begin to write a range of a file to its disk, so that a sync has less to wait for; a length of 0 means up to the file's end.
/// It promises nothing.
pub(super) fn begin_writing_out(file: &File, at: u64, length: u64) {
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        // SAFETY: the call takes no pointers, and the descriptor is open as long as `file` is. It can fail; the sync that follows then does it all.
        let (Ok(at), Ok(length)) = (i64::try_from(at), i64::try_from(length)) else { return };
        let _only_advice = unsafe { libc::sync_file_range(file.as_raw_fd(), at, length, libc::SYNC_FILE_RANGE_WRITE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, at, length);
}

/// Bytes collected in a file of this machine; the file goes when the spool does.
pub struct Spool {
    file: File,
    path: PathBuf,
    size: u64,
    /// Up to where the system was asked to write it out.
    begun: u64,
    steps: Arc<dyn folder::Steps>,
}

impl Spool {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        use std::io::Write as _;
        self.steps
            .before(folder::Step::Write(&self.path))
            .and_then(|()| self.file.write_all(bytes))
            .map_err(Error::io(self.path.display().to_string(), "write"))?;
        self.size += bytes.len() as u64;
        if self.size - self.begun >= WRITTEN_OUT {
            begin_writing_out(&self.file, self.begun, self.size - self.begun);
            self.begun = self.size;
        }
        Ok(())
    }

    /// How many bytes were written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file's path on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // After a successful put the name is gone already; else `tidy` finds what cannot be removed now.
        let _gone_or_tidied =
            self.steps.before(folder::Step::Unlink(&self.path)).and_then(|()| std::fs::remove_file(&self.path));
    }
}

/// Refuses a name that could mean something else to a file system or a URL.
fn checked(name: &str) -> Result<&str> {
    let sound = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
    };
    if name.len() <= 200 && name.split('/').all(sound) {
        Ok(name)
    } else {
        Err(Error::Option(format!("{name:?} is not a name in a repository")))
    }
}

/// The names and sizes in a folder of a target, sorted by name.
pub(super) fn listed(target: &dyn Target, folder: &str) -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    target.list(folder, &mut |listed| {
        all.push(listed);
        Ok(())
    })?;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}
