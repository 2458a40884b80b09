//! The file: locked, caught up with, appended to, synced.
//!
//! Several processes append to one log. Each append holds a lock on the file, first takes in what others wrote since, and writes all
//! its lines at once. What a crash left of a line is cut off by the next writer, which says so in a record.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use serde::Serialize;
use time::OffsetDateTime;

use super::error::Error;
use super::line::{self, Hash, Line, Receipt};

/// How much of a file's end is looked at first when it is opened.
const WINDOW: u64 = 64 << 10;

/// The longest line that is written or read, in bytes.
pub(super) const LONGEST: usize = 1 << 20;

/// The version of the layout that is written here.
pub(super) const FORMAT: u32 = 1;

/// The kernel's id of this boot; where there is none, one of this process.
static BOOT: LazyLock<String> = LazyLock::new(|| {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let kernel = kernel.trim();
    let fits = kernel.len() == 36 && kernel.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    if fits { kernel.to_owned() } else { uuid::Uuid::new_v4().to_string() }
});

/// The first record of a log.
#[derive(Serialize)]
struct Begun<'a> {
    format: u32,
    kind: &'static str,
    log: &'a str,
}

/// What a writer says when it cut off what a crash had left.
#[derive(Serialize)]
struct Recovered {
    bytes: u64,
    kind: &'static str,
}

/// An open log.
pub(super) struct Disk {
    path: PathBuf,
    file: Option<Arc<File>>,
    /// The end of the last complete line that was seen.
    end: u64,
    /// The last record that was seen.
    last: Option<Receipt>,
}

/// The lock on the file, until it is dropped.
struct Held(Arc<File>);

impl Drop for Held {
    fn drop(&mut self) {
        // Closing the file would free the lock as well; there is nothing to do about a failure.
        drop(self.0.unlock());
    }
}

impl Disk {
    /// Opens the log, or makes it; takes in its end, and mends it where a crash left half a line.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let mut disk = Self { path: path.to_owned(), file: None, end: 0, last: None };
        let held = disk.lock()?;
        disk.begin()?;
        drop(held);
        Ok(disk)
    }

    /// The newest record that this process knows of.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        self.last
    }

    /// Appends the events, each already canonical JSON, in one write; the receipt of each.
    pub(super) fn append(&mut self, events: &[Vec<u8>]) -> Result<Vec<Receipt>, Error> {
        let held = self.lock()?;
        self.begin()?;
        let receipts = self.put(events)?;
        drop(held);
        Ok(receipts)
    }

    /// Has all that was appended on the disk when it returns.
    pub(super) fn sync(&self) -> Result<(), Error> {
        match &self.file {
            Some(file) => file.sync_data().map_err(|error| Error::unwritable(&self.path, error)),
            None => Ok(()),
        }
    }

    /// Locks the file that the path names now, and takes in what was written to it since the last time.
    fn lock(&mut self) -> Result<Held, Error> {
        loop {
            let file = match &self.file {
                Some(file) => file.clone(),
                None => {
                    let file = Arc::new(open(&self.path)?);
                    (self.end, self.last) = (0, None);
                    self.file = Some(file.clone());
                    file
                }
            };
            file.lock().map_err(|error| Error::unwritable(&self.path, error))?;
            let held = Held(file.clone());
            let own = file.metadata().map_err(|error| Error::unreadable(&self.path, error))?;
            // Another process may have moved the file away before the lock was ours.
            let same = std::fs::symlink_metadata(&self.path)
                .is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino()));
            if same {
                self.catch_up(&file, own.len())?;
                return Ok(held);
            }
            self.file = None;
        }
    }

    /// Reads what stands behind the last line that was seen.
    fn catch_up(&mut self, file: &File, length: u64) -> Result<(), Error> {
        if length < self.end {
            return Err(self.damaged(length, "it is shorter than it was: lines are missing at its end"));
        }
        if length == self.end {
            return Ok(());
        }
        let mut window = WINDOW;
        let (from, bytes) = loop {
            let from = length.saturating_sub(window).max(self.end);
            let mut bytes = vec![0; usize::try_from(length - from).unwrap_or(usize::MAX)];
            file.read_exact_at(&mut bytes, from).map_err(|error| Error::unreadable(&self.path, error))?;
            if from == self.end || bytes.iter().filter(|byte| **byte == b'\n').count() > 1 {
                break (from, bytes);
            }
            if window > 4 * LONGEST as u64 {
                return Err(self.damaged(from, "there is no line feed as far as a line can be long"));
            }
            window *= 2;
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let first =
            if from == self.end { 0 } else { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
        let mut last = if from == self.end { self.last } else { None };
        let mut at = from + first as u64;
        for text in bytes.get(first..whole).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            let line = Line::read(text.strip_suffix(b"\n").unwrap_or(text))
                .map_err(|flaw| self.damaged(at, &flaw.to_string()))?;
            if last.is_some_and(|last| (last.seq + 1, last.head) != (line.seq, line.prev)) {
                return Err(self.damaged(at, "it does not follow from the line before it"));
            }
            last = Some(Receipt { seq: line.seq, head: line.hash });
            at += text.len() as u64;
        }
        self.last = last;
        self.end = from + whole as u64;
        let torn = length - self.end;
        if torn > 0 {
            file.set_len(self.end).map_err(|error| Error::unwritable(&self.path, error))?;
            self.begin()?;
            self.put(&[canonical(&Recovered { bytes: torn, kind: "recovered" }, &self.path)?])?;
        }
        Ok(())
    }

    /// Writes the first record of a file that has none.
    fn begin(&mut self) -> Result<(), Error> {
        if self.last.is_some() {
            return Ok(());
        }
        let log = uuid::Uuid::new_v4().to_string();
        let event = canonical(&Begun { format: FORMAT, kind: "begun", log: &log }, &self.path)?;
        self.put(&[event]).map(drop)
    }

    /// Writes lines behind the last one, all or none. The lock is held.
    fn put(&mut self, events: &[Vec<u8>]) -> Result<Vec<Receipt>, Error> {
        let Some(file) = self.file.clone() else { return Err(Error::Closed { file: self.path.clone() }) };
        let ts = line::time_text(OffsetDateTime::now_utc());
        let mut bytes = Vec::with_capacity(events.iter().map(|event| event.len() + 280).sum());
        let mut receipts = Vec::with_capacity(events.len());
        let mut last = self.last.unwrap_or(Receipt { seq: 0, head: Hash::default() });
        for event in events {
            let seq = last.seq + 1;
            let head = line::write(&mut bytes, &BOOT, event, &last.head, seq, &ts);
            last = Receipt { seq, head };
            receipts.push(last);
        }
        if let Err(error) = (&*file).write_all(&bytes) {
            // What stands there of the lines is taken back; where that fails too, the next writer finds it torn.
            return Err(match file.set_len(self.end) {
                Ok(()) => Error::unwritable(&self.path, error),
                Err(also) => Error::unwritable(&self.path, format!("{error}; and it could not be taken back: {also}")),
            });
        }
        self.end += bytes.len() as u64;
        self.last = Some(last);
        Ok(receipts)
    }

    fn damaged(&self, offset: u64, reason: &str) -> Error {
        Error::Damaged { file: self.path.clone(), line: "?".to_owned(), offset, reason: reason.to_owned() }
    }
}

fn canonical(event: &impl Serialize, path: &Path) -> Result<Vec<u8>, Error> {
    line::canonical(event).map_err(|reason| Error::unwritable(path, reason))
}

/// Opens a log's file for appending, or makes it, and refuses what is no file of this user's own.
fn open(path: &Path) -> Result<File, Error> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| Error::unwritable(path, error))?;
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).custom_flags(flags).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => Error::untrusted(path, "it is a link"),
        Some(libc::EISDIR) => Error::untrusted(path, "it is a folder"),
        Some(libc::ENXIO) => Error::untrusted(path, "it is a pipe or a socket"),
        _ => Error::unwritable(path, error),
    })?;
    let metadata = file.metadata().map_err(|error: io::Error| Error::unreadable(path, error))?;
    trusted(path, &metadata)?;
    Ok(file)
}

fn trusted(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    if !metadata.is_file() {
        return Err(Error::untrusted(path, "it is no ordinary file"));
    }
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me {
        return Err(Error::untrusted(path, format!("it belongs to another user (uid {})", metadata.uid())));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Error::untrusted(path, format!("others may write it (mode {:04o})", metadata.mode() & 0o7777)));
    }
    Ok(())
}
