//! A bucket of an S3 server as a target.
//!
//! **Creating.** Every write is one PUT with `If-None-Match: *`, signed over the hash of its body. A server that ignores that condition
//! would let two writers overwrite each other in silence, so the first write of a process asks for it: it creates `probe`, a file of
//! fixed bytes that stays, and must be refused where that exists. Where an answer does not come, or says that the name is taken, the
//! file is read back and compared: the same bytes are a success, whoever wrote them.
//!
//! **No multipart uploads.** A pack of about 64 MiB goes up in one request, streamed from its file: it is there whole or not at all, it
//! costs one request, and an interrupted one leaves nothing in the bucket that would have to be found and removed.
//!
//! **Locks.** With a lock, what a backup consists of is written with a retention; leases, claims, locks, marks and dooms are not, for they are
//! short-lived by design. A bucket with locks keeps versions, so a deletion there hides a file, and the bytes stay until the lock ends;
//! rules of the bucket remove them then. The lock counts from the writing: packs that are in use for longer are then as any other.

//!
//! **A server that means harm** can give what no hash names, and nothing else: it must hold up no call and fill no memory either. A list goes on
//! only where its names do, in their order; an answer has a length that it may have, and moves as fast as a slow line does.

mod answer;
mod bounds;
mod bucket;
mod pace;
#[cfg(test)]
mod tests;
mod wire;

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use self::bucket::Bucket;
use self::wire::{Patience, Payload, Wire};
use super::folder::Free;
use super::{Listed, Spool, Target, checked};
use crate::backup::error::{Error, Result};
use crate::backup::place::{Access, Place};

/// Spools that a process which ended has left are removed after this time.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// A bucket that holds a repository's files below a prefix.
pub struct S3Target {
    bucket: Arc<Bucket>,
    runtime: Option<tokio::runtime::Runtime>,
    spool: PathBuf,
    /// Whether the server was seen to answer, and to refuse to overwrite.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    answers: bool,
    refuses: bool,
}

impl S3Target {
    /// A target over a bucket. Nothing is asked of the server yet.
    ///
    /// Errors: `Option` where keys are missing, or the endpoint is none or without TLS.
    pub fn new(bucket: &str, prefix: &str, access: &Access) -> Result<Self> {
        Self::with_patience(bucket, prefix, access, Patience::default())
    }

    fn with_patience(bucket: &str, prefix: &str, access: &Access, patience: Patience) -> Result<Self> {
        let (wire, store) = Wire::new(bucket, access, patience)?;
        let place = Place::Bucket { name: bucket.to_owned(), prefix: prefix.to_owned() };
        // Requests wait most of their time; two threads encrypt what goes over the wire.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("ceso-s3")
            .enable_all()
            .build()
            .map_err(Error::io(place.to_string(), "start"))?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let bucket = Arc::new(Bucket { place, prefix, store, wire, lock: access.lock, patience });
        let spool = access.spool.clone().unwrap_or_else(|| std::env::temp_dir().join("ceso-spool"));
        Ok(Self { bucket, runtime: Some(runtime), spool, known: Mutex::default() })
    }

    /// Runs a request on the threads of this target, and waits for it. The caller may be on any thread.
    fn run<T: Send + 'static>(&self, work: impl FnOnce(Arc<Bucket>) -> BoxedWork<Result<T>>) -> Result<T> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let work = work(Arc::clone(&self.bucket));
        self.runtime()?.spawn(async move {
            let _nobody_waits = tell.send(work.await);
        });
        told.recv().map_err(|_| self.lost())?
    }

    /// As `run`, after the server was greeted once: a wrong key or an address that nobody answers at is told at once.
    fn wait<T: Send + 'static>(&self, work: impl FnOnce(Arc<Bucket>) -> BoxedWork<Result<T>>) -> Result<T> {
        drop(self.greeted()?);
        self.run(work)
    }

    fn greeted(&self) -> Result<MutexGuard<'_, Known>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.answers {
            self.run(|bucket| Box::pin(async move { bucket.greet(bucket.patience.brief()).await }))?;
            known.answers = true;
        }
        Ok(known)
    }

    fn runtime(&self) -> Result<&tokio::runtime::Runtime> {
        self.runtime.as_ref().ok_or_else(|| self.lost())
    }

    fn lost(&self) -> Error {
        Error::io(self.place(), "ask")(io::Error::other("the request ended without an answer"))
    }

    /// Writes a file, after the server was seen, once for each process, to refuse to overwrite one.
    fn write(&self, name: &str, payload: Payload, digest: [u8; 32]) -> Result<()> {
        let mut known = self.greeted()?;
        if !known.refuses {
            self.run(|bucket| Box::pin(async move { bucket.prove().await }))?;
            known.refuses = true;
        }
        drop(known);
        let name = name.to_owned();
        self.run(|bucket| Box::pin(async move { bucket.write(&name, &payload, digest).await }))
    }
}

type BoxedWork<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

impl Drop for S3Target {
    fn drop(&mut self) {
        // A runtime that waits for its threads would end a caller that is on one of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Target for S3Target {
    fn place(&self) -> String {
        self.bucket.place.to_string()
    }

    fn whereabouts(&self) -> String {
        format!("{} at {}", self.bucket.place, self.bucket.wire.server())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        checked(name)?;
        self.write(name, Payload::Bytes(Bytes::copy_from_slice(bytes)), Sha256::digest(bytes).into())
    }

    fn spool(&self) -> Result<Spool> {
        make_private(&self.spool).map_err(Error::io(self.spool.display().to_string(), "make the folder"))?;
        let path = self.spool.join(uuid::Uuid::new_v4().to_string());
        let file = create_private(&path).map_err(Error::io(path.display().to_string(), "create"))?;
        Ok(Spool { file, path, size: 0, begun: 0, steps: Arc::new(Free) })
    }

    fn put_spool(&self, name: &str, spool: Spool) -> Result<()> {
        checked(name)?;
        let failed = || Error::io(spool.path.display().to_string(), "read");
        let mut hash = Sha256::new();
        let read =
            std::fs::File::open(&spool.path).and_then(|mut file| io::copy(&mut file, &mut hash)).map_err(failed())?;
        if read != spool.size {
            return Err(failed()(io::Error::other("it was changed by another")));
        }
        let payload = Payload::File { path: spool.path.clone(), size: spool.size };
        self.write(name, payload, hash.finalize().into())
    }

    fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let name = checked(name)?.to_owned();
        self.wait(|bucket| Box::pin(async move { bucket.get(&name, range).await }))
    }

    fn get_all(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let name = checked(name)?.to_owned();
        self.wait(|bucket| Box::pin(async move { bucket.get_all(&name, limit).await }))
    }

    fn list(&self, folder: &str, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let folder = checked(folder)?.to_owned();
        let (give, take) = std::sync::mpsc::channel();
        // A page waits while another is worked on, and no more: the channel itself never blocks a thread of the runtime.
        let room = Arc::new(tokio::sync::Semaphore::new(2000));
        let (bucket, taken) = (Arc::clone(&self.bucket), Arc::clone(&room));
        drop(self.greeted()?);
        self.runtime()?.spawn(async move { bucket.list(&folder, &taken, &give).await });
        let ended = loop {
            match take.recv() {
                Ok(Some(listed)) => match listed.and_then(&mut *each) {
                    Ok(()) => room.add_permits(1),
                    Err(error) => break Err(error),
                },
                Ok(None) => break Ok(()),
                Err(_) => break Err(self.lost()),
            }
        };
        room.close();
        ended
    }

    fn delete(&self, names: &[String]) -> Result<()> {
        names.iter().try_for_each(|name| checked(name).map(drop))?;
        if names.is_empty() {
            return Ok(());
        }
        let names = names.to_vec();
        self.wait(|bucket| Box::pin(async move { bucket.delete(names).await }))
    }

    fn lock_time(&self) -> Option<Duration> {
        self.bucket.lock.map(|lock| lock.time)
    }

    fn now(&self) -> Result<SystemTime> {
        self.wait(|bucket| Box::pin(async move { bucket.greet(bucket.patience).await }))
    }

    fn tidy(&self) -> Result<u64> {
        let failed = |doing| Error::io(self.spool.display().to_string(), doing);
        let entries = match std::fs::read_dir(&self.spool) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(failed("list"))?,
        };
        let mut removed = 0;
        for entry in entries {
            let entry = entry.map_err(failed("list"))?;
            // Files of this machine alone, so this machine's clock tells their age.
            let old = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|written| SystemTime::now().duration_since(written).is_ok_and(|age| age > LEFT_BEHIND));
            let ours = entry.file_name().to_str().is_some_and(|name| uuid::Uuid::try_parse(name).is_ok());
            if old && ours {
                std::fs::remove_file(entry.path()).map_err(failed("tidy"))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Packs of a repository that is not encrypted are nobody else's to read.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder)
}

fn create_private(path: &Path) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
}
