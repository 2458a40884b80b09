//! The catalog's file: opened for one piece of work and closed after it, by one process at a time.
//!
//! A lock beside the file (`catalog.lock`) gives the turns, and says who has the turn; the kernel takes it from a process that dies.
//! redb's commits are whole or not there, so a process that is killed at any time leaves what was before. A file that is damaged is set
//! aside under a name with the time, and the next work begins with an empty one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Builder, Database, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, StorageError,
    WriteTransaction,
};
use rustix::fs::{FlockOperation, flock};

use super::error::{Error, Result};
use super::tables::{FORMAT, META, Trouble, prepare};

/// The memory that pages are kept in while the file is open.
const CACHE: usize = 16 << 20;

/// How long a process waits for its turn unless it is told otherwise.
const PATIENCE: Duration = Duration::from_secs(5);

/// The catalog of a user. Cheap to make: nothing is opened until it is asked.
#[derive(Debug, Clone)]
pub struct Catalog {
    path: PathBuf,
    patience: Duration,
}

impl Catalog {
    /// The catalog in that file, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), patience: PATIENCE }
    }

    /// The same, with another bound on the wait for its turn.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Whether there is a file.
    pub fn is_there(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn io(&self, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        let place = self.place();
        move |source| Error::Io { place, doing, source }
    }

    /// Reads. A catalog that is not there is an empty one.
    pub(super) fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, Trouble>) -> Result<T> {
        if !self.is_there() {
            let database = Builder::new().create_with_backend(InMemoryBackend::new());
            return self.guarded(None, || {
                let database = database?;
                fill(&database)?;
                work(&database.begin_read()?)
            });
        }
        let turn = match self.turn() {
            // Where nothing can be written, nobody writes either.
            Err(Error::Io { source, .. }) if is_read_only(&source) => None,
            turn => Some(turn?),
        };
        self.guarded(turn.as_ref(), || {
            match Builder::new().set_cache_size(CACHE).open_read_only(&self.path) {
                Ok(database) if is_current(&database)? => return work(&database.begin_read()?),
                Ok(_) | Err(DatabaseError::RepairAborted) => {}
                Err(error) => return Err(error.into()),
            }
            // Of an older format, or left by a process that was killed: it is brought up first.
            let database = self.open()?;
            fill(&database)?;
            work(&database.begin_read()?)
        })
    }

    /// Writes, all or nothing: when this returns it is on disk.
    pub(super) fn write<T>(&self, work: impl FnOnce(&WriteTransaction) -> Result<T, Trouble>) -> Result<T> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(self.io("make the folder of"))?;
        }
        let turn = self.turn()?;
        self.guarded(Some(&turn), || {
            self.refuse_newer()?;
            let database = self.open()?;
            let mut change = database.begin_write()?;
            change.set_quick_repair(true);
            prepare(&change)?;
            let done = work(&change)?;
            change.commit()?;
            Ok(done)
        })
    }

    /// Looks at the format before the file is opened for writing, which alone would change it.
    fn refuse_newer(&self) -> Result<(), Trouble> {
        if !self.is_there() {
            return Ok(());
        }
        match Builder::new().set_cache_size(CACHE).open_read_only(&self.path) {
            Ok(database) => is_current(&database).map(drop),
            Err(DatabaseError::RepairAborted) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file; where there is none, it is made under another name first, so that it is never there by half.
    fn open(&self) -> Result<Database, Trouble> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE);
        if !self.is_there() {
            let new = self.path.with_extension("new");
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(&new).map_err(StorageError::Io)?;
            let made = builder.create_with_backend(FileBackend::new(file)?)?;
            fill(&made)?;
            made.close()?;
            fs::rename(&new, &self.path).map_err(StorageError::Io)?;
        }
        Ok(builder.open(&self.path)?)
    }

    /// Does work that a damaged file may make fail in any way, and sets such a file aside.
    fn guarded<T>(&self, turn: Option<&Turn>, work: impl FnOnce() -> Result<T, Trouble>) -> Result<T> {
        // redb trusts its pages: bytes that were changed behind its back can end in a panic.
        let trouble = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(trouble)) => trouble,
            Err(_) => Trouble::Damage("its pages contradict each other".to_owned()),
        };
        let what = match trouble {
            Trouble::Newer(format) => return Err(Error::Newer { place: self.place(), format }),
            Trouble::Damage(what) => what,
            Trouble::Redb(error) => match *error {
                redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                    let holder = "a process that does not wait for its turn".to_owned();
                    return Err(Error::Busy { place: self.place(), holder, waited: Duration::ZERO });
                }
                redb::Error::Io(source)
                    if !matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
                {
                    return Err(self.io("be used")(source));
                }
                error => error.to_string(),
            },
        };
        let aside = turn.and_then(|_| self.set_aside());
        Err(Error::Damaged { place: self.place(), what, aside })
    }

    /// Renames the file, which is not lost, to a name that is free. `None` where it cannot be.
    fn set_aside(&self) -> Option<PathBuf> {
        let now = time::OffsetDateTime::now_utc();
        let form = time::macros::format_description!("[year][month][day]T[hour][minute][second]Z");
        let time = now.format(form).ok()?;
        let name = self.path.file_name()?.to_string_lossy().into_owned();
        let free = (0..100).map(|number| match number {
            0 => self.path.with_file_name(format!("{name}.damaged-{time}")),
            number => self.path.with_file_name(format!("{name}.damaged-{time}-{number}")),
        });
        let to = free.into_iter().find(|path| path.symlink_metadata().is_err())?;
        fs::rename(&self.path, &to).ok()?;
        Some(to)
    }

    /// Waits for this process's turn.
    ///
    /// Errors: `Busy`, naming who has the turn.
    fn turn(&self) -> Result<Turn> {
        let path = self.path.with_extension("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(|source| Error::Io {
            place: path.display().to_string(),
            doing: "be opened",
            source,
        })?;
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Turn::take(file, &path),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => {
                    return Err(Error::Io {
                        place: path.display().to_string(),
                        doing: "be locked",
                        source: error.into(),
                    });
                }
            }
            let waited = began.elapsed();
            if waited >= self.patience {
                return Err(Error::Busy { place: self.place(), holder: holder(&path), waited: self.patience });
            }
            std::thread::sleep(pause.min(self.patience - waited));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// The turn of this process; it ends when this is dropped.
struct Turn {
    _locked: File,
}

impl Turn {
    fn take(mut file: File, path: &Path) -> Result<Self> {
        let command: Vec<String> = std::env::args().take(4).map(|word| word.chars().take(60).collect()).collect();
        let text = format!("process {} ({})\n", std::process::id(), command.join(" "));
        // A full disk must not keep anybody from reading: then only the name of who has the turn is missing.
        let _unnamed = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
        tracing::trace!(path = %path.display(), "the turn of the catalog is taken");
        Ok(Self { _locked: file })
    }
}

/// Who has the turn, as the lock says.
fn holder(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(512).read_to_string(&mut text));
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    if read.is_err() || line.is_empty() { "another process".to_owned() } else { line }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

fn is_current(database: &ReadOnlyDatabase) -> Result<bool, Trouble> {
    let meta = match database.begin_read()?.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    match meta.get("format")?.map(|format| format.value()) {
        Some(format) if format > FORMAT => Err(Trouble::Newer(format)),
        format => Ok(format == Some(FORMAT)),
    }
}

/// Makes sure that every table is there, in this format.
fn fill(database: &Database) -> Result<(), Trouble> {
    let mut change = database.begin_write()?;
    change.set_quick_repair(true);
    if prepare(&change)? { Ok(change.commit()?) } else { Ok(change.abort()?) }
}
