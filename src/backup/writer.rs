//! Makes a backup: disks and files become blobs, and a manifest makes them visible.
//!
//! Each thread reads, hashes, looks up, compresses, encrypts and appends chunks by itself, so memory is a few chunks for each thread.

use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use super::blob::{Codec, Kind, Press};
use super::commit;
use super::doom::Dooms;
use super::error::{Error, Result};
use super::feed::{Assembly, Base, Feed, Work, store_segment};
use super::format::FORMAT;
use super::id::Id;
use super::lease::Lease;
use super::manifest::{self, Attached, Disk, Manifest, Root, SEGMENT, State};
use super::repository::Repository;
use super::spare;
use super::store::Store;
use super::threads::{on_threads, processors};
use crate::vmdk::Source;

/// How a backup is made, and what is noted with it.
#[derive(Clone)]
pub struct BackupOptions {
    /// What retention counts by: the machine.
    pub group: String,
    pub name: String,
    pub tags: Vec<String>,
    pub state: State,
    pub details: Value,
    pub parent: Option<Id>,
    /// When it was begun. Default: now.
    pub time: time::OffsetDateTime,
    pub codec: Codec,
    /// The length of a chunk in bytes. Default: the repository's.
    pub chunk_size: Option<u32>,
    /// When a pack is full. Default: 64 MiB.
    pub pack_size: u64,
    /// Default: one for each processor, and one that waits for a disk.
    pub threads: usize,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            group: String::new(),
            name: String::new(),
            tags: Vec::new(),
            state: State::Complete,
            details: Value::Null,
            parent: None,
            time: time::OffsetDateTime::now_utc(),
            codec: Codec::default(),
            chunk_size: None,
            pack_size: 64 << 20,
            threads: processors() + 1,
        }
    }
}

/// What was changed since a backup: only these ranges of a disk are read.
pub struct Since<'a> {
    pub parent: Id,
    /// The disk's name in the parent.
    pub disk: &'a str,
    pub changed: &'a [Range<u64>],
}

/// What a backup came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub id: Id,
    /// The bytes of all disks and files.
    pub size: u64,
    /// The bytes that were read and are not zero.
    pub read: u64,
    /// The bytes that were added to the repository's packs.
    pub added: u64,
    /// Chunks that a parent should have had and that were read from the source again, since the repository has lost them. The parent cannot
    /// be restored whole unless they are as they were; this backup can.
    pub read_again: u64,
}

/// A backup that is being made. Dropped without `finish`, it leaves nothing visible.
pub struct Session<'r> {
    repository: &'r Repository,
    options: BackupOptions,
    pub(super) lease: Lease<'r>,
    pub(super) store: Store<'r>,
    pub(super) dooms: Dooms,
    disks: Vec<Disk>,
    files: Vec<Attached>,
    read: AtomicU64,
    read_again: u64,
}

impl Repository {
    /// Begins a backup.
    ///
    /// Packs that an interrupted backup has left are taken up. One whose table is damaged is passed over: nothing needs it, and a check names it.
    pub fn begin(&self, options: BackupOptions) -> Result<Session<'_>> {
        let lease = Lease::take(self.target(), "backup")?;
        spare::fill(self.target(), &self.config_bytes)?;
        let view = self.view(false)?;
        let store = Store::new(self, view.known, options.pack_size);
        for (id, size) in view.unnamed {
            match self.table(id, size) {
                Ok(pack) => store.adopt(pack),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Session {
            repository: self,
            options,
            lease,
            store,
            dooms: view.dooms,
            disks: Vec::new(),
            files: Vec::new(),
            read: AtomicU64::new(0),
            read_again: 0,
        })
    }
}

/// What the threads of one disk share.
struct Job<'a, 'r> {
    session: &'a Session<'r>,
    name: &'a str,
    source: &'a dyn Source,
    root: &'a Root,
    base: Option<&'a Base<'a>>,
    shared: Mutex<(Feed<'a>, Assembly)>,
    stop: AtomicBool,
    chunks: AtomicU64,
    added: AtomicU64,
}

impl Session<'_> {
    /// Backs up a disk: all of it, or what changed `since` an earlier backup.
    ///
    /// Where the parent's disk has another size or chunk size, or cannot be read any more, all of it is read. What of the parent is not to
    /// be found in the repository is read again, and counted in the summary. A chunk whose bytes were damaged in their place is not noticed
    /// here: a check that reads data finds it.
    pub fn disk(&mut self, name: &str, source: &dyn Source, since: Option<&Since<'_>>) -> Result<Disk> {
        let chunk_size = self.options.chunk_size.unwrap_or(self.repository.config().chunk_size);
        Root::check(chunk_size, source.size())?;
        if name.is_empty() || self.disks.iter().any(|disk| disk.name == name) {
            return Err(Error::Option(format!("the backup has a disk {name:?} already, or it has no name")));
        }
        let (root, chunks, added, lost) = self.chunks_of(name, source, chunk_size, since)?;
        if lost > 0 {
            tracing::warn!(
                "{name}: {lost} chunks of its parent are lost in the repository; they were read again: check the repository"
            );
            self.read_again += lost;
        }
        let (id, _) = self.store.put(&mut Press::new(self.options.codec), Kind::Root, &root.encode())?;
        let disk = Disk { name: name.to_owned(), size: root.size, chunk_size, root: id, chunks, added };
        self.disks.push(disk.clone());
        Ok(disk)
    }

    /// Stores a disk's chunks and segments. Returns its root, how many chunks are not zeros, the bytes that were added, and how many chunks
    /// of the parent are lost.
    fn chunks_of(
        &self,
        name: &str,
        source: &dyn Source,
        chunk_size: u32,
        since: Option<&Since<'_>>,
    ) -> Result<(Root, u64, u64, u64)> {
        let mut root = Root { chunk_size, size: source.size(), segments: Vec::new() };
        let (repository, known) = (self.repository, &self.store.known);
        let segment;
        let has = |id: &Id| known.find(id).map(|found| found.is_some());
        let (mut base, mut lost) = (None, 0);
        if let Some(since) = since {
            check_areas(since.changed)?;
            // Read anew: a parent that is visible now, after the look at the dooms, was seen by whoever made those.
            let parent = Manifest::read(repository.target(), &repository.sealer, &manifest::name(since.parent))?;
            let disk = parent.disk(Some(since.disk))?;
            if (disk.size, disk.chunk_size) == (root.size, chunk_size) {
                match repository.root(&mut Press::new(Codec::Stored), known, disk) {
                    Err(error) if error.is_damage() => {
                        known.distrust(&disk.root)?;
                        lost = root.chunks();
                    }
                    of => {
                        let of = of?;
                        let base_root = of.clone();
                        segment = move |number| {
                            let read = repository.segment(&mut Press::new(Codec::Stored), known, &of, number);
                            if read.as_ref().is_err_and(Error::is_damage) {
                                let id = usize::try_from(number).ok().and_then(|number| of.segments.get(number));
                                id.map_or(Ok(()), |id| known.distrust(id))?;
                            }
                            read
                        };
                        let lost = AtomicU64::new(0);
                        base =
                            Some(Base { root: base_root, segment: &segment, has: &has, lost, changed: since.changed });
                    }
                }
            }
        }
        let job = Job {
            session: self,
            name,
            source,
            root: &root,
            base: base.as_ref(),
            shared: Mutex::new((Feed::new(source, &root, base.as_ref()), Assembly::default())),
            stop: AtomicBool::new(false),
            chunks: AtomicU64::new(0),
            added: AtomicU64::new(0),
        };
        job.run(self.options.threads.max(1))?;
        let (chunks, added) = (job.chunks.into_inner(), job.added.into_inner());
        let (_, assembly) = job.shared.into_inner().unwrap_or_else(PoisonError::into_inner);
        let segments = assembly.segments(root.chunks().div_ceil(SEGMENT as u64));
        root.segments = segments.ok_or_else(|| Error::Lost { what: format!("a segment of {name}") })?;
        lost += base.map_or(0, |base| base.lost.into_inner());
        Ok((root, chunks, added, lost))
    }

    /// Attaches a file, at most 16 GiB; all of a backup have at most 32 GiB.
    pub fn file(&mut self, name: &str, from: &mut dyn Read) -> Result<()> {
        if name.is_empty() || self.files.iter().any(|file| file.name == name) {
            return Err(Error::Option(format!("the backup has a file {name:?} already, or it has no name")));
        }
        let mut press = Press::new(self.options.codec);
        let before: usize = self.files.iter().map(|file| file.parts.len()).sum();
        let (mut parts, mut size) = (Vec::new(), 0);
        loop {
            let mut part = Vec::new();
            let failed = |source| Error::Source { place: name.to_owned(), source };
            let length = from.take(1 << 20).read_to_end(&mut part).map_err(failed)?;
            if length == 0 {
                break;
            }
            if parts.len() >= 16 << 10 || before + parts.len() >= manifest::MOST_PARTS {
                return Err(Error::Option(format!("{name}: is too large to go along as a file")));
            }
            size += length as u64;
            parts.push(self.store.put(&mut press, Kind::File, &part)?.0);
        }
        self.read.fetch_add(size, Ordering::Relaxed);
        self.files.push(Attached { name: name.to_owned(), size, parts });
        Ok(())
    }

    /// Makes the backup durable and visible. When this returns, it can be restored.
    ///
    /// Errors: `Raced` where a prune has deleted what it needed; nothing is visible then.
    pub fn finish(self) -> Result<Summary> {
        self.store.flush()?;
        let size = self.disks.iter().map(|disk| disk.size).chain(self.files.iter().map(|file| file.size)).sum();
        let manifest = Manifest {
            format: FORMAT,
            uuid: uuid::Uuid::new_v4().to_string(),
            group: self.options.group,
            name: self.options.name,
            time: self.options.time,
            tags: self.options.tags,
            state: self.options.state,
            parent: self.options.parent,
            disks: self.disks,
            files: self.files,
            details: self.options.details,
        };
        let added = self.store.added();
        let id = commit::commit(self.repository, self.store, &self.dooms, &manifest)?;
        self.lease.end()?;
        Ok(Summary { id, size, read: self.read.into_inner(), added, read_again: self.read_again })
    }
}

fn check_areas(areas: &[Range<u64>]) -> Result<()> {
    let whole = areas.iter().all(|area| area.start <= area.end);
    if whole && areas.windows(2).all(|pair| pair[0].end <= pair[1].start) {
        Ok(())
    } else {
        Err(Error::Option("the changed areas are not in order, or overlap".to_owned()))
    }
}

impl Job<'_, '_> {
    fn run(&self, threads: usize) -> Result<()> {
        on_threads(threads, || {
            let ended = self.work();
            if ended.is_err() {
                self.stop.store(true, Ordering::Relaxed);
            }
            ended
        })
    }

    fn work(&self) -> Result<()> {
        let store = &self.session.store;
        let mut press = Press::new(self.session.options.codec);
        let mut buffer = vec![0; self.root.chunk_size as usize];
        while !self.stop.load(Ordering::Relaxed) {
            let work = {
                let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                let (feed, assembly) = &mut *shared;
                feed.next(assembly)?
            };
            let (segment, id) = match work {
                None => break,
                Some(Work::Same(segment, id)) => (segment, self.same(segment, id, &mut press, &mut buffer)?),
                Some(Work::Segment(segment, ids)) => (segment, store_segment(store, &mut press, &ids)?),
                Some(Work::Chunk(chunk)) => {
                    let id = self.chunk(chunk, &mut press, &mut buffer)?;
                    let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                    let Some((segment, ids)) = shared.1.set(chunk, id) else { continue };
                    drop(shared);
                    self.session.lease.renew()?;
                    (segment, store_segment(store, &mut press, &ids)?)
                }
            };
            self.shared.lock().unwrap_or_else(PoisonError::into_inner).1.finish(segment, id);
        }
        Ok(())
    }

    /// A segment in which nothing changed: that of the base, or one made anew where the base has not all of it any more.
    fn same(&self, segment: u64, id: Id, press: &mut Press, buffer: &mut [u8]) -> Result<Id> {
        let length = self.root.chunks_in(segment);
        let Some(base) = self.base.filter(|_| id != Id::ZERO) else { return Ok(id) };
        let left = base.left(segment, &vec![false; length])?;
        if left.iter().all(Option::is_some) {
            return Ok(id);
        }
        let mut ids = Vec::with_capacity(length);
        for (at, left) in left.into_iter().enumerate() {
            ids.push(match left {
                Some(id) => id,
                None => self.chunk(segment * SEGMENT as u64 + at as u64, press, buffer)?,
            });
            self.session.lease.renew()?;
        }
        store_segment(&self.session.store, press, &ids)
    }

    fn chunk(&self, chunk: u64, press: &mut Press, buffer: &mut [u8]) -> Result<Id> {
        let length = self.root.length(chunk).min(buffer.len());
        let bytes = &mut buffer[..length];
        self.source
            .read_at(chunk * u64::from(self.root.chunk_size), bytes)
            .map_err(|source| Error::Source { place: self.name.to_owned(), source })?;
        if all_zero(bytes) {
            return Ok(Id::ZERO);
        }
        let (id, added) = self.session.store.put(press, Kind::Chunk, bytes)?;
        self.chunks.fetch_add(1, Ordering::Relaxed);
        self.added.fetch_add(added, Ordering::Relaxed);
        self.session.read.fetch_add(length as u64, Ordering::Relaxed);
        Ok(id)
    }
}

/// Whether bytes are zeros, by comparing memory with memory.
pub(super) fn all_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    bytes.chunks(ZEROS.len()).all(|part| part == &ZEROS[..part.len()])
}
