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
//! **Locks.** With a lock, what a backup consists of is written with a retention; leases, claims, marks and dooms are not, for they are
//! short-lived by design. A bucket with locks keeps versions, so a deletion there hides a file, and the bytes stay until the lock ends;
//! rules of the bucket remove them then. The lock counts from the writing: packs that are in use for longer are then as any other.

mod answer;
mod pace;
#[cfg(test)]
mod tests;
mod wire;

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use self::answer::{Failure, Refusal, failure};
use self::wire::{Patience, Payload, Wire};
use super::folder::Free;
use super::{Listed, Spool, Target, checked};
use crate::backup::error::{Error, Result};
use crate::backup::place::{Access, Lock, Place};

/// The file that shows whether the server keeps files from being overwritten.
const PROBE: &str = "probe";
const PROBE_BYTES: &[u8] =
    b"ceso asks by this file whether the server keeps files from being overwritten. It may stay.\n";

/// What is only advisory or short-lived, and so never locked.
const UNLOCKED: [&str; 5] = ["claims/", "leases/", "marks/", "dooms/", PROBE];

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

struct Bucket {
    place: Place,
    prefix: String,
    store: AmazonS3,
    wire: Wire,
    lock: Option<Lock>,
    patience: Patience,
}

/// How a file in the bucket compares with what should be there.
enum Held {
    Same,
    Other,
    Nothing,
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

impl Bucket {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn path(&self, name: &str) -> Result<Key> {
        Key::parse(self.key(name)).map_err(|error| Error::Option(error.to_string()))
    }

    fn fail(&self, name: &str, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        Error::io(format!("{}: {name}", self.place), doing)
    }

    async fn greet(&self, patience: Patience) -> Result<SystemTime> {
        let mut patient = Patient::new(patience);
        let fail = || Error::io(self.place.to_string(), "ask its server");
        loop {
            match self.wire.greet().await {
                Ok(now) => return Ok(now),
                Err(Refusal::Unclear(error)) => patient.again(error).await.map_err(fail())?,
                Err(Refusal::Final(error)) => return Err(fail()(error)),
                Err(Refusal::Taken) => return Err(fail()(io::Error::other("it answers as to a write"))),
            }
        }
    }

    async fn prove(&self) -> Result<()> {
        let payload = Payload::Bytes(Bytes::from_static(PROBE_BYTES));
        let digest = Sha256::digest(PROBE_BYTES).into();
        let mut created = 0;
        let mut patient = Patient::new(self.patience);
        loop {
            match self.wire.create(&self.key(PROBE), &payload, digest, None).await {
                Err(Refusal::Taken) => return Ok(()),
                Ok(()) if created == 0 => created += 1,
                Ok(()) => {
                    return Err(Error::Option(format!(
                        "{}: the server lets a file be overwritten that must not be: it ignores If-None-Match. It cannot hold a repository that several writers share",
                        self.place
                    )));
                }
                Err(Refusal::Final(error)) if error.kind() == io::ErrorKind::Unsupported => {
                    return Err(Error::Option(format!(
                        "{}: the server cannot create a file only where there is none (If-None-Match): {error}",
                        self.place
                    )));
                }
                Err(Refusal::Final(error)) => return Err(self.fail(PROBE, "write")(error)),
                Err(Refusal::Unclear(error)) => patient.again(error).await.map_err(self.fail(PROBE, "write"))?,
            }
        }
    }

    async fn write(&self, name: &str, payload: &Payload, digest: [u8; 32]) -> Result<()> {
        let lock = self.lock.filter(|_| !UNLOCKED.iter().any(|unlocked| name.starts_with(unlocked)));
        let mut patient = Patient::new(self.patience);
        loop {
            let why = match self.wire.create(&self.key(name), payload, digest, lock).await {
                Ok(()) => return Ok(()),
                Err(Refusal::Final(error)) => return Err(self.fail(name, "write")(error)),
                Err(Refusal::Taken) => io::Error::other("another is writing it"),
                Err(Refusal::Unclear(error)) => error,
            };
            match self.holds(name, payload.size(), digest).await? {
                Held::Same => return Ok(()),
                Held::Other => return Err(Error::Exists(name.to_owned())),
                Held::Nothing => patient.again(why).await.map_err(self.fail(name, "write"))?,
            }
        }
    }

    /// Reads back what lies under a name.
    async fn holds(&self, name: &str, size: u64, digest: [u8; 32]) -> Result<Held> {
        let mut hash = Sha256::new();
        let read = self.read(
            name,
            "read back",
            GetOptions::new(),
            |found| Ok(found.meta.size == size),
            |piece| match piece {
                None => hash = Sha256::new(),
                Some(piece) => hash.update(piece),
            },
        );
        match read.await {
            Ok(true) => {}
            Ok(false) => return Ok(Held::Other),
            Err(Error::Missing(_)) => return Ok(Held::Nothing),
            Err(error) => return Err(error),
        }
        let found: [u8; 32] = hash.finalize().into();
        Ok(if found == digest { Held::Same } else { Held::Other })
    }

    /// Reads a file or a range of it. `wanted` looks at the answer before its body is taken; `piece` gets the body, and nothing where it
    /// begins anew after the connection broke. Returns what `wanted` said.
    async fn read(
        &self,
        name: &str,
        doing: &'static str,
        options: GetOptions,
        wanted: impl Fn(&GetResult) -> Result<bool>,
        mut piece: impl FnMut(Option<&[u8]>),
    ) -> Result<bool> {
        let path = self.path(name)?;
        let mut patient = Patient::new(self.patience);
        loop {
            piece(None);
            let attempt = async {
                let found = self.store.get_opts(&path, options.clone()).await.map_err(|error| failure(&error))?;
                match wanted(&found) {
                    Ok(true) => {}
                    other => return Ok(other),
                }
                let length = found.range.end - found.range.start;
                let mut came = 0;
                let mut pieces = found.into_stream();
                while let Some(next) = pieces.next().await {
                    let next = next.map_err(|error| failure(&error))?;
                    came += next.len() as u64;
                    if came > length {
                        break;
                    }
                    piece(Some(&next));
                }
                if came == length {
                    Ok(Ok(true))
                } else {
                    Err(Failure::Unclear(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the answer is not as long as it says",
                    )))
                }
            };
            match attempt.await {
                Ok(said) => return said,
                Err(Failure::Unclear(error)) => patient.again(error).await.map_err(self.fail(name, doing))?,
                Err(failure) => return Err(self.failed(name, doing, failure)),
            }
        }
    }

    fn failed(&self, name: &str, doing: &'static str, failure: Failure) -> Error {
        match failure {
            Failure::Missing => Error::Missing(name.to_owned()),
            Failure::BehindTheEnd => Error::damaged(name, "it ends before the bytes that it should have"),
            Failure::Locked => Error::Locked { place: self.place.to_string(), file: name.to_owned(), count: 1 },
            Failure::Unclear(error) | Failure::Other(error) => self.fail(name, doing)(error),
        }
    }

    async fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let ends = |size: u64| Error::damaged(name, format!("it ends at byte {size}, before {}", range.end));
        if range.start >= range.end {
            let path = self.path(name)?;
            let meta = self.store.head(&path).await.map_err(|error| self.failed(name, "read", failure(&error)))?;
            return if range.start == range.end && range.end <= meta.size {
                Ok(Vec::new())
            } else {
                Err(ends(meta.size))
            };
        }
        // Servers count in 63 bits.
        let asked = range.start..range.end.min(i64::MAX as u64);
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(asked)));
        let mut bytes = Vec::new();
        let wanted = |found: &GetResult| if found.range == range { Ok(true) } else { Err(ends(found.meta.size)) };
        self.read(name, "read", options, wanted, |piece| gather(&mut bytes, piece)).await?;
        Ok(bytes)
    }

    async fn get_all(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let wanted = |found: &GetResult| {
            if found.meta.size > limit {
                return Err(Error::damaged(name, format!("it is longer than {limit} bytes")));
            }
            Ok(true)
        };
        self.read(name, "read", GetOptions::new(), wanted, |piece| gather(&mut bytes, piece)).await?;
        Ok(bytes)
    }

    /// Gives each file of a folder, an error, or nothing at the end. A list that breaks off says nothing at its end.
    async fn list(&self, folder: &str, room: &Semaphore, give: &Sender<Option<Result<Listed>>>) {
        let listed = async {
            let prefix = format!("{}/", self.key(folder));
            let mut patient = Patient::new(self.patience);
            let mut token: Option<String> = None;
            loop {
                let options = PaginatedListOptions { page_token: token.clone(), ..PaginatedListOptions::default() };
                let page = match self.store.list_paginated(Some(&prefix), options).await {
                    Ok(page) => page,
                    Err(error) => {
                        match failure(&error) {
                            Failure::Unclear(error) => patient.again(error).await.map_err(self.fail(folder, "list"))?,
                            Failure::Other(error) => return Err(self.fail(folder, "list")(error)),
                            _ => return Err(self.fail(folder, "list")(io::Error::other(answer::last_cause(&error)))),
                        }
                        continue;
                    }
                };
                for meta in page.result.objects {
                    let name = meta.location.as_ref().strip_prefix(&self.prefix).unwrap_or_default();
                    // What was not written by a target cannot be named by one.
                    if checked(name).is_err() || !meta.location.as_ref().starts_with(&prefix) {
                        continue;
                    }
                    let listed = Listed { name: name.to_owned(), size: meta.size, written: meta.last_modified.into() };
                    let Ok(permit) = room.acquire().await else { return Ok(()) };
                    permit.forget();
                    if give.send(Some(Ok(listed))).is_err() {
                        return Ok(());
                    }
                }
                match page.page_token {
                    None => return Ok(()),
                    Some(next) if token.as_ref() == Some(&next) => {
                        return Err(self.fail(folder, "list")(io::Error::other(
                            "the server gives the same page for ever",
                        )));
                    }
                    next => token = next,
                }
                patient = Patient::new(self.patience);
            }
        };
        let last = match listed.await {
            Ok(()) => None,
            Err(error) => Some(Err(error)),
        };
        let _nobody_waits = give.send(last);
    }

    /// Deletes all that can be deleted: one file that cannot go must not keep the others.
    async fn delete(&self, names: Vec<String>) -> Result<()> {
        let mut left = names;
        let mut patient = Patient::new(self.patience);
        let mut locked: Vec<String> = Vec::new();
        let mut failed = None;
        while !left.is_empty() {
            let keys = left.iter().map(|name| self.path(name)).collect::<Result<Vec<_>>>()?;
            let results = self.store.delete_stream(futures_util::stream::iter(keys.into_iter().map(Ok)).boxed());
            let results: Vec<_> = results.collect().await;
            let mut again = None;
            let mut unclear = Vec::new();
            let answered = results.len() == left.len();
            for (at, name) in left.into_iter().enumerate() {
                // A request that failed as a whole gives one error for all of its names: they are deleted once more.
                let result = if answered { results.get(at) } else { results.iter().find(|result| result.is_err()) };
                let Some(Err(error)) = result else { continue };
                match failure(error) {
                    Failure::Missing => {}
                    Failure::Locked => locked.push(name),
                    Failure::Unclear(error) => {
                        again = Some(error);
                        unclear.push(name);
                    }
                    other => failed = failed.or_else(|| Some(self.failed(&name, "delete", other))),
                }
            }
            if let Some(error) = again {
                patient.again(error).await.map_err(self.fail(unclear.first().map_or("", String::as_str), "delete"))?;
            }
            left = unclear;
        }
        match (failed, locked.first()) {
            (Some(failed), _) => Err(failed),
            (None, Some(file)) => {
                Err(Error::Locked { place: self.place.to_string(), file: file.clone(), count: locked.len() })
            }
            (None, None) => Ok(()),
        }
    }
}

fn gather(bytes: &mut Vec<u8>, piece: Option<&[u8]>) {
    match piece {
        None => bytes.clear(),
        Some(piece) => bytes.extend_from_slice(piece),
    }
}

/// Counts how often something was asked again.
struct Patient {
    patience: Patience,
    tries: u32,
    began: Instant,
}

impl Patient {
    fn new(patience: Patience) -> Self {
        Self { patience, tries: 0, began: Instant::now() }
    }

    /// Waits before the next try, or gives the last error where there is none.
    async fn again(&mut self, why: io::Error) -> io::Result<()> {
        if self.tries >= self.patience.attempts || self.began.elapsed() > self.patience.whole {
            return Err(why);
        }
        tokio::time::sleep(self.patience.pause(self.tries)).await;
        self.tries += 1;
        Ok(())
    }
}

impl Target for S3Target {
    fn place(&self) -> String {
        self.bucket.place.to_string()
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
