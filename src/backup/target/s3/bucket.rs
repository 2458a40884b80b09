//! What is asked of a bucket, each question until it is answered: written files are read back where an answer did not come.

use std::io;
use std::ops::Range;
use std::sync::mpsc::Sender;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Key;
use object_store::{GetOptions, GetRange, GetResult, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::answer::{self, Failure, Refusal, failure};
use super::bounds::Progress;
use super::wire::{Patience, Payload, Wire};
use crate::backup::error::{Error, Result};
use crate::backup::place::{Lock, Place};
use crate::backup::target::{Listed, checked};

/// The file that shows whether the server keeps files from being overwritten.
const PROBE: &str = "probe";
const PROBE_BYTES: &[u8] =
    b"ceso asks by this file whether the server keeps files from being overwritten. It may stay.\n";

/// What is only advisory or short-lived, and so never locked.
const UNLOCKED: [&str; 6] = ["claims/", "leases/", "locks/", "marks/", "dooms/", PROBE];

/// A bucket, and the way to it.
pub(super) struct Bucket {
    pub(super) place: Place,
    pub(super) prefix: String,
    pub(super) store: AmazonS3,
    pub(super) wire: Wire,
    pub(super) lock: Option<Lock>,
    pub(super) patience: Patience,
}

/// How a file in the bucket compares with what should be there.
enum Held {
    Same,
    Other,
    Nothing,
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

    pub(super) async fn greet(&self, patience: Patience) -> Result<SystemTime> {
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

    pub(super) async fn prove(&self) -> Result<()> {
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

    pub(super) async fn write(&self, name: &str, payload: &Payload, digest: [u8; 32]) -> Result<()> {
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

    pub(super) async fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
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

    pub(super) async fn get_all(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
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
    pub(super) async fn list(&self, folder: &str, room: &Semaphore, give: &Sender<Option<Result<Listed>>>) {
        let listed = async {
            let prefix = format!("{}/", self.key(folder));
            let mut patient = Patient::new(self.patience);
            let mut token: Option<String> = None;
            let mut progress = Progress::default();
            let wrong = |what: String| self.fail(folder, "list")(io::Error::new(io::ErrorKind::InvalidData, what));
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
                    progress.counted().map_err(wrong)?;
                    let key = meta.location.as_ref();
                    // A key that is the folder itself comes without its slash.
                    if !key.starts_with(&prefix) && prefix.strip_suffix('/') != Some(key) {
                        return Err(wrong("the server gives names that were not asked for".to_owned()));
                    }
                    let name = key.strip_prefix(&self.prefix).unwrap_or_default();
                    // What was not written by a target cannot be named by one.
                    if checked(name).is_err() || !key.starts_with(&prefix) {
                        continue;
                    }
                    progress.next(name).map_err(wrong)?;
                    let listed = Listed { name: name.to_owned(), size: meta.size, written: meta.last_modified.into() };
                    let Ok(permit) = room.acquire().await else { return Ok(()) };
                    permit.forget();
                    if give.send(Some(Ok(listed))).is_err() {
                        return Ok(());
                    }
                }
                match page.page_token {
                    None => return Ok(()),
                    Some(next) => {
                        progress.page(&next).map_err(wrong)?;
                        token = Some(next);
                    }
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
    pub(super) async fn delete(&self, names: Vec<String>) -> Result<()> {
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
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, tries: 0, began: Instant::now() }
    }

    /// Waits before the next try, or gives the last error where there is none.
    pub(super) async fn again(&mut self, why: io::Error) -> io::Result<()> {
        if self.tries >= self.patience.attempts || self.began.elapsed() > self.patience.whole {
            return Err(why);
        }
        tokio::time::sleep(self.patience.pause(self.tries)).await;
        self.tries += 1;
        Ok(())
    }
}
