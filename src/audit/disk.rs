//! The file: locked, caught up with, appended to, synced, and set aside when it is full.
//!
//! Several processes append to one log. Each append holds a lock on the file, first takes in what others wrote since, and writes all
//! its lines at once. What a crash left of a line is cut off by the next writer, which says so in a record.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use super::error::Error;
use super::key::Key;
use super::line::{self, Hash, Receipt};
use super::log::Options;
use super::medium::Medium;
use super::own::{self, Body, Header};
use super::series;
use super::tail::{self, First, Last, Tail};

/// The kernel's id of this boot; where there is none, one of this process.
static BOOT: LazyLock<String> = LazyLock::new(|| {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let kernel = kernel.trim();
    let fits = kernel.len() == 36 && kernel.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    if fits { kernel.to_owned() } else { uuid::Uuid::new_v4().to_string() }
});

const REPLACED: &str = "it was removed or replaced by another log while it was open";

/// An open log.
pub(super) struct Disk {
    path: PathBuf,
    rotate_at: u64,
    checkpoint_every: u64,
    medium: Box<dyn Medium>,
    key: Option<Arc<Key>>,
    /// The log's id.
    log: Option<String>,
    open: Option<Open>,
    /// The newest record that was seen, also when the file that it stands in was set aside.
    newest: Option<Last>,
    /// A sync that failed: what was written before may be lost, so nothing is written behind it.
    broken: Option<Error>,
}

/// The file as it was when its lock was last held.
struct Open {
    file: Arc<File>,
    tail: Tail,
    /// `None` until the first record is written.
    first: Option<First>,
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
    pub(super) fn open(options: &Options, medium: Box<dyn Medium>) -> Result<Self, Error> {
        let mut disk = Self {
            path: options.file.clone(),
            rotate_at: options.rotate_at.0,
            checkpoint_every: options.checkpoint_every.max(2),
            medium,
            key: None,
            log: None,
            open: None,
            newest: None,
            broken: None,
        };
        drop(disk.lock()?);
        Ok(disk)
    }

    /// The newest record that this process knows of.
    pub(super) fn receipt(&self) -> Option<Receipt> {
        self.newest.as_ref().map(|last| last.receipt)
    }

    /// Whether the newest record is not signed, nor followed by one that is.
    pub(super) fn is_unsigned(&self) -> bool {
        self.newest.as_ref().is_some_and(|last| !last.signed)
    }

    /// Appends the records, in one write; the receipt of each.
    pub(super) fn append(&mut self, bodies: &[Body]) -> Result<Vec<Receipt>, Error> {
        let held = self.lock()?;
        self.note_clock()?;
        let receipts = self.put(bodies)?;
        // The records are written. A file that cannot be set aside now can be at the next append, which says what is wrong.
        if self.open.as_ref().is_some_and(|open| open.tail.end >= self.rotate_at) {
            drop(self.rotate());
        }
        drop(held);
        Ok(receipts)
    }

    /// The log's id.
    pub(super) fn id(&self) -> &str {
        self.log.as_deref().unwrap_or_default()
    }

    /// Signs what is not signed yet, by this process or another.
    pub(super) fn checkpoint(&mut self) -> Result<Option<Receipt>, Error> {
        let held = self.lock()?;
        let mut receipts = Vec::new();
        if self.is_unsigned() {
            let body = self.own(own::checkpoint())?;
            receipts = self.put(&[body])?;
        }
        drop(held);
        Ok(receipts.pop())
    }

    /// Has all that was appended on the disk when it returns.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        let Some(open) = &self.open else { return Ok(()) };
        if let Err(error) = self.medium.sync(&open.file) {
            let error = Error::unwritable(&self.path, format!("what was written did not reach the disk: {error}"));
            self.broken = Some(error.clone());
            return Err(error);
        }
        Ok(())
    }

    /// Locks the file that the path names now, takes in what was written to it since the last time, and makes it ready for a record.
    fn lock(&mut self) -> Result<Held, Error> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        loop {
            let file = match &self.open {
                Some(open) => open.file.clone(),
                None => {
                    let file = Arc::new(open(&self.path)?);
                    self.open = Some(Open { file: file.clone(), tail: Tail::default(), first: None });
                    file
                }
            };
            file.lock().map_err(|error| Error::unwritable(&self.path, error))?;
            let held = Held(file.clone());
            let own = file.metadata().map_err(|error| Error::unreadable(&self.path, error))?;
            // Another process may have set the file aside before the lock was ours.
            let same = std::fs::symlink_metadata(&self.path)
                .is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino()));
            if same {
                self.catch_up(own.len())?;
            }
            if same && !self.newest.as_ref().is_some_and(|last| last.rotated) {
                return Ok(held);
            }
            if same {
                // Its last record says that the log goes on in another file, but whoever wrote it did not come to making one.
                self.follow()?;
            }
            self.open = None;
        }
    }

    /// Reads what stands behind the last line that was seen. The lock is held.
    fn catch_up(&mut self, length: u64) -> Result<(), Error> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if length == open.tail.end && open.first.is_some() {
            return Ok(());
        }
        if open.first.is_none() {
            open.first = tail::first(&open.file, &self.path)?;
            let key = match &self.key {
                Some(key) => key.clone(),
                None => Arc::new(Key::beside(&self.path, open.first.is_some() || !aside(&self.path)?.is_empty())?),
            };
            if let Some(first) = &open.first {
                if !first.is_of(key.public()) {
                    return Err(Error::key(&self.path.with_extension("key"), "the log was begun with another key"));
                }
                if self.log.as_ref().is_some_and(|log| *log != first.header.log) {
                    return Err(Error::damaged(&self.path, 0, REPLACED.to_owned()));
                }
                self.log = Some(first.header.log.clone());
            }
            self.key = Some(key);
        }
        open.tail = tail::read(&open.file, &self.path, &open.tail, length)?;
        if open.tail.last.is_some() {
            self.newest = open.tail.last.clone();
        }
        let torn = open.tail.torn;
        let unsigned = std::mem::take(&mut open.tail.unsigned);
        if torn > 0 {
            let cut = self.medium.cut(&open.file, open.tail.end);
            cut.map_err(|error| Error::unwritable(&self.path, error))?;
            open.tail.torn = 0;
        }
        if open.first.is_none() {
            self.begin()?;
        }
        if torn > 0 {
            let body = self.own(own::recovered(torn))?;
            self.put(&[body])?;
        }
        if unsigned > 0 {
            // The next signature would cover them as if they had been written with the key: it must not do so unsaid.
            let body = self.own(own::unsigned(unsigned))?;
            self.put(&[body])?;
        }
        Ok(())
    }

    /// Writes the first record of a file that has none. Where files of the log were set aside, it goes on from the last of them.
    fn begin(&mut self) -> Result<(), Error> {
        let Some(key) = self.key.clone() else { return Ok(()) };
        let header = match aside(&self.path)?.last() {
            None if self.log.is_some() => return Err(Error::damaged(&self.path, 0, REPLACED.to_owned())),
            None => Header::begun(self.checkpoint_every, key.public()),
            Some((_, path)) => {
                let file = File::open(path).map_err(|error| Error::unreadable(path, error))?;
                let length = file.metadata().map_err(|error| Error::unreadable(path, error))?.len();
                let first = tail::first(&file, path)?.ok_or_else(|| Error::format(path, "it is empty"))?;
                if !first.is_of(key.public()) {
                    return Err(Error::key(&self.path.with_extension("key"), "the log was begun with another key"));
                }
                self.newest = tail::read(&file, path, &Tail::default(), length)?.last;
                first.header.next(self.checkpoint_every, name(path))
            }
        };
        let body = self.own(header.body())?;
        let receipts = self.put(&[body])?;
        let seq = receipts.first().map_or(1, |receipt| receipt.seq);
        self.log = Some(header.log.clone());
        if let Some(open) = &mut self.open {
            open.first = Some(First::new(header, seq));
        }
        self.sync()?;
        self.medium.sync_folder(folder(&self.path)).map_err(|error| Error::unwritable(&self.path, error))
    }

    /// Says in a record that the clock went back.
    fn note_clock(&mut self) -> Result<(), Error> {
        let now = line::time_text(self.medium.now());
        match &self.newest {
            // The form is of one length, so its order is that of time.
            Some(last) if now < last.ts => {
                let body = self.own(own::clock(&last.ts))?;
                self.put(&[body]).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Writes lines behind the last one, all or none, and checkpoints between them where one is due. The lock is held.
    fn put(&mut self, bodies: &[Body]) -> Result<Vec<Receipt>, Error> {
        let (Some(open), Some(key)) = (&mut self.open, &self.key) else {
            return Err(Error::Closed { file: self.path.clone() });
        };
        let every = open.first.as_ref().map_or(self.checkpoint_every, |first| first.header.checkpoint_every);
        let ts = line::time_text(self.medium.now());
        let mut bytes = Vec::with_capacity(bodies.iter().map(|body| body.bytes().len() + 320).sum());
        let mut receipts = Vec::with_capacity(bodies.len());
        let mut last = self.newest.as_ref().map_or(Receipt { seq: 0, head: Hash::default() }, |last| last.receipt);
        let mut add = |body: &Body, last: &mut Receipt| {
            let seq = last.seq + 1;
            let head = line::write(&mut bytes, key, &BOOT, body, &last.head, seq, &ts);
            *last = Receipt { seq, head };
        };
        for body in bodies {
            if (last.seq + 1).is_multiple_of(every) && matches!(body, Body::Plain(_)) {
                let checkpoint = own::checkpoint().map_err(|reason| Error::unwritable(&self.path, reason))?;
                add(&checkpoint, &mut last);
            }
            add(body, &mut last);
            receipts.push(last);
        }
        let Some(body) = bodies.last() else { return Ok(receipts) };
        if let Err(error) = self.medium.append(&open.file, &bytes) {
            // What stands there of the lines is taken back; where that fails too, the next writer finds it torn.
            return Err(match self.medium.cut(&open.file, open.tail.end) {
                Ok(()) => Error::unwritable(&self.path, error),
                Err(also) => Error::unwritable(&self.path, format!("{error}; and it could not be taken back: {also}")),
            });
        }
        let signed = matches!(body, Body::Signed(_));
        let last = Last { receipt: last, ts, signed, rotated: false };
        open.tail = Tail {
            end: open.tail.end + bytes.len() as u64,
            last: Some(last.clone()),
            torn: 0,
            checkpoint: open.tail.checkpoint.take(),
            unsigned: 0,
        };
        self.newest = Some(last);
        Ok(receipts)
    }

    /// Ends a file that is full, and has the log go on in a new one. The lock is held.
    fn rotate(&mut self) -> Result<(), Error> {
        let body = self.own(own::rotated())?;
        self.put(&[body])?;
        if let Some(last) = &mut self.newest {
            last.rotated = true;
        }
        self.sync()?;
        self.follow()?;
        self.open = None;
        Ok(())
    }

    /// Makes the file that follows one whose last record says so. The old one gets its second name before the new one takes its first,
    /// so that there is a log at every moment. The lock on the old one is held.
    fn follow(&mut self) -> Result<(), Error> {
        let (Some(open), Some(key), Some(last)) = (&self.open, &self.key, &self.newest) else { return Ok(()) };
        let Some(First { header, seq, .. }) = &open.first else { return Ok(()) };
        let failed = |error: io::Error| Error::unwritable(&self.path, error);
        let aside = series::aside(&self.path, *seq);
        let next = header.next(self.checkpoint_every, name(&aside));
        let body = next.body().map_err(|reason| Error::unwritable(&self.path, reason))?;
        let mut bytes = Vec::new();
        let (seq, ts) = (last.receipt.seq + 1, line::time_text(self.medium.now()));
        line::write(&mut bytes, key, &BOOT, &body, &last.receipt.head, seq, &ts);
        let new = self.path.with_file_name(format!(".{}.new", name(&self.path)));
        let file = self.medium.create(&new).map_err(failed)?;
        self.medium.append(&file, &bytes).and_then(|()| self.medium.sync(&file)).map_err(failed)?;
        match self.medium.link(&self.path, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let id = |path: &Path| std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()));
                if id(&self.path).map_err(failed)? != id(&aside).map_err(failed)? {
                    return Err(Error::damaged(
                        &aside,
                        0,
                        "it is in the place of a file that is to be set aside".to_owned(),
                    ));
                }
            }
            // There are file systems without second names. Should the machine stop now, the next writer finds no log and goes on from
            // the newest file that was set aside.
            Err(_) => self.medium.rename(&self.path, &aside).map_err(failed)?,
        }
        self.medium.rename(&new, &self.path).map_err(failed)?;
        self.medium.sync_folder(folder(&self.path)).map_err(failed)
    }

    fn own(&self, body: Result<Body, String>) -> Result<Body, Error> {
        body.map_err(|reason| Error::unwritable(&self.path, reason))
    }
}

fn aside(log: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    series::set_aside(log).map_err(|error| Error::unreadable(log, error))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens a log's file for appending, or makes it, and refuses what is no file of this user's own.
fn open(path: &Path) -> Result<File, Error> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder(path));
    made.map_err(|error| Error::unwritable(path, error))?;
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
