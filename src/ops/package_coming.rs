//! An archive that comes once, front to back: from a server that gives no parts of it, or does not say how long it is.
//!
//! One thread goes through it and hands each file on as it comes. A manifest may stand at the end, behind the files that it is about: so
//! sums are made of all that comes, and the import is not complete before the last of them was compared. Nothing of it is held but the
//! descriptor, the manifest and a few pieces.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::package::{
    Appliance, OTHER_LENGTH, Parts, check_all_summed, check_disk, longest_stream, manifest_of, not_its_sum,
    read_manifest, small, text_of, wrong,
};
use crate::error::Fault;
use crate::ova::{self, Algorithm, Manifest, Member, Package, Summing, Walk};
use crate::web;

/// How large a piece is, and how many wait for whoever sends them on.
const PIECE: usize = 256 << 10;
const QUEUE: usize = 4;
/// How much of a disk is looked at for its head.
const HEAD: u64 = 1 << 20;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512];

/// What comes of an archive behind its descriptor.
pub(super) struct Coming {
    next: mpsc::Receiver<Result<Next, Fault>>,
    file: Arc<web::File>,
    passed: Arc<AtomicU64>,
}

enum Next {
    File(Arriving),
    Done,
}

/// A file that comes now. It can be read once.
pub(super) struct Arriving {
    pub name: String,
    pub length: u64,
    pieces: Mutex<Option<mpsc::Receiver<io::Result<Bytes>>>>,
}

impl Arriving {
    pub fn reader(&self) -> io::Result<Box<dyn Read + Send>> {
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pieces = pieces.ok_or_else(|| io::Error::other("it came once, and the server does not send it again"))?;
        Ok(Box::new(Pieces { pieces, rest: io::Cursor::new(Bytes::new()) }))
    }
}

struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: io::Cursor<Bytes>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.rest.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = io::Cursor::new(piece?),
                None => return Ok(0),
            }
        }
    }
}

impl Coming {
    /// Reads the descriptor of an archive and leaves the rest to come.
    pub(super) async fn begin(file: Arc<web::File>) -> Result<Appliance, Fault> {
        let (head, began) = oneshot::channel();
        let (out, next) = mpsc::channel(1);
        let passed = Arc::new(AtomicU64::new(0));
        let reader = Tally { from: file.stream(0, None), passed: passed.clone() };
        let own = file.clone();
        tokio::task::spawn_blocking(move || {
            let mut walk = Walk::new(io::BufReader::with_capacity(PIECE, reader));
            // What the server did is told before what it did to the archive.
            let told = |fault: Fault| own.failure().map_or(fault, Fault::from);
            let mut arrivals = match begin(&mut walk) {
                Ok((text, arrivals)) => match head.send(Ok((text, arrivals.package.clone()))) {
                    Ok(()) => arrivals,
                    Err(_) => return,
                },
                Err(fault) => return drop(head.send(Err(told(fault)))),
            };
            let last = arrivals.rest(&mut walk, &out).map(|()| Next::Done).map_err(told);
            // Whoever imports may have ended first.
            drop(out.blocking_send(last));
        });
        let ended = || {
            Fault::new("ceso.import", "an archive was left in its middle")
                .hint("this is a defect of ceso: please report it")
        };
        let (descriptor, package) = began.await.map_err(|_| ended())??;
        Ok(Appliance { descriptor, package, parts: Parts::Coming(Self { next, file, passed }) })
    }

    /// The next file; `None` once all have come and were right.
    pub(super) async fn next(&mut self) -> Result<Option<Arriving>, Fault> {
        match self.next.recv().await {
            Some(Ok(Next::File(file))) => Ok(Some(file)),
            Some(Ok(Next::Done)) => Ok(None),
            Some(Err(fault)) => Err(fault),
            None => Err(Fault::new("ceso.import", "an archive was left in its middle")
                .hint("this is a defect of ceso: please report it")),
        }
    }

    /// How much has come, and how much there is where the server says so.
    pub(super) fn far(&self) -> (u64, u64) {
        (self.passed.load(Ordering::Relaxed), self.file.length().unwrap_or_default())
    }

    /// Why a file was broken off, once whoever sent it on has failed: what comes next is that fault, where there is one.
    pub(super) async fn broken_off(&mut self) -> Option<Fault> {
        self.next.recv().await.and_then(Result::err)
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.file.stop();
    }
}

/// Counts what comes.
struct Tally<R> {
    from: R,
    passed: Arc<AtomicU64>,
}

impl<R: Read> Read for Tally<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.passed.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// What has come of an archive, and what is to be compared with it.
struct Arrivals {
    package: Package,
    manifest_name: String,
    manifest: Option<Manifest>,
    came: Vec<(String, Vec<(Algorithm, String)>)>,
    /// What came in another length than the descriptor says: the manifest must have its sum.
    doubtful: Vec<String>,
}

fn begin<R: Read>(walk: &mut Walk<R>) -> Result<(String, Arrivals), Fault> {
    let member = walk.next_member()?.ok_or_else(|| ova::Error::Form("the archive is empty".to_owned()))?;
    let bytes = small(&member.name, walk.content())?;
    let package = Package::read(&bytes)?;
    let mut sums = sums_of(&ALGORITHMS);
    sums.iter_mut().for_each(|(_, sum)| sum.update(&bytes));
    let came = vec![(member.name.clone(), done(sums))];
    let arrivals =
        Arrivals { package, manifest_name: manifest_of(&member.name), manifest: None, came, doubtful: Vec::new() };
    Ok((text_of(bytes)?, arrivals))
}

fn sums_of(algorithms: &[Algorithm]) -> Vec<(Algorithm, Summing)> {
    algorithms.iter().map(|algorithm| (*algorithm, Summing::new(*algorithm))).collect()
}

fn done(sums: Vec<(Algorithm, Summing)>) -> Vec<(Algorithm, String)> {
    sums.into_iter().map(|(algorithm, sum)| (algorithm, sum.done().sum)).collect()
}

impl Arrivals {
    fn rest<R: Read>(&mut self, walk: &mut Walk<R>, out: &mpsc::Sender<Result<Next, Fault>>) -> Result<(), Fault> {
        while let Some(member) = walk.next_member()? {
            if member.name == self.manifest_name {
                let manifest = read_manifest(small(&member.name, walk.content())?)?;
                // What has come already is compared at once: what is wrong is known sooner.
                self.came.iter().try_for_each(|(name, sums)| compare(&manifest, name, sums))?;
                self.manifest = Some(manifest);
                continue;
            }
            self.check(&member)?;
            let mut head = Vec::new();
            let named = self.package.files.iter().find(|named| named.name == member.name);
            if let Some(disk) = named.and_then(|named| self.package.disk_of(named)) {
                walk.content().take(HEAD).read_to_end(&mut head).map_err(|error| cut(&member.name, error))?;
                check_disk(&member.name, disk.capacity, head.as_slice())?;
            }
            let (queue, pieces) = mpsc::channel(QUEUE);
            if named.is_some() {
                let pieces = Mutex::new(Some(pieces));
                let arriving = Arriving { name: member.name.clone(), length: member.length, pieces };
                if out.blocking_send(Ok(Next::File(arriving))).is_err() {
                    return Ok(());
                }
            }
            self.pass(walk, &member, head, &queue)?;
        }
        self.check_end()
    }

    fn check(&mut self, member: &Member) -> Result<(), Fault> {
        let Some(named) = self.package.files.iter().find(|named| named.name == member.name) else {
            return match member.length > ova::LARGEST_TEXT {
                true => Err(wrong(&member.name, "the descriptor does not name it, and it is large").into()),
                false => Ok(()),
            };
        };
        // Where no manifest has come yet, one at the end may have its sum; only a disk has another bound on its length.
        let vouched = match &self.manifest {
            Some(manifest) => manifest.of(&member.name).is_some(),
            None => self.package.disk_of(named).is_some(),
        };
        if !self.package.fits(named, member.length) {
            if !vouched {
                return Err(wrong(&member.name, OTHER_LENGTH).into());
            }
            self.doubtful.push(member.name.clone());
        }
        match self.package.disk_of(named) {
            Some(disk) if member.length > longest_stream(disk.capacity) => {
                Err(wrong(&member.name, "it is longer than a disk of its size can be").into())
            }
            _ => Ok(()),
        }
    }

    /// Hands a file on and sums it. The last piece goes only where the sum is right, or not known yet.
    fn pass<R: Read>(
        &mut self,
        walk: &mut Walk<R>,
        member: &Member,
        head: Vec<u8>,
        queue: &mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), Fault> {
        let mut sums = match self.manifest.as_ref().map(|manifest| manifest.of(&member.name)) {
            Some(Some((algorithm, _))) => sums_of(&[algorithm]),
            _ => sums_of(&ALGORITHMS),
        };
        let mut left = member.length - head.len() as u64;
        let mut piece = head;
        loop {
            if piece.is_empty() && left > 0 {
                let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE)) as u64;
                let read = walk.content().take(most).read_to_end(&mut piece).map_err(|error| cut(&member.name, error));
                if let Err(error) = read {
                    // Whoever sends it on must not take it for whole.
                    drop(queue.blocking_send(Err(io::Error::other("the archive broke off"))));
                    return Err(error.into());
                }
                left -= piece.len() as u64;
            }
            sums.iter_mut().for_each(|(_, sum)| sum.update(&piece));
            if left == 0 {
                break;
            }
            // The host may not want it; it is summed all the same.
            drop(queue.blocking_send(Ok(Bytes::from(std::mem::take(&mut piece)))));
        }
        let sums = done(sums);
        if let Some(manifest) = &self.manifest
            && let Err(fault) = compare(manifest, &member.name, &sums)
        {
            drop(queue.blocking_send(Err(io::Error::other("its sum is wrong"))));
            return Err(fault);
        }
        self.came.push((member.name.clone(), sums));
        drop(queue.blocking_send(Ok(Bytes::from(piece))));
        Ok(())
    }

    fn check_end(&self) -> Result<(), Fault> {
        let came = |name: &str| self.came.iter().any(|(own, _)| own == name);
        if let Some(missing) = self.package.files.iter().find(|named| !came(&named.name)) {
            return Err(wrong(&missing.name, "the descriptor names it, and it is missing").into());
        }
        let vouched = |name: &&String| self.manifest.as_ref().is_some_and(|manifest| manifest.of(name).is_some());
        if let Some(name) = self.doubtful.iter().find(|name| !vouched(name)) {
            return Err(wrong(name, OTHER_LENGTH).into());
        }
        let Some(manifest) = &self.manifest else { return Ok(()) };
        if let Some((name, ..)) = manifest.sums.iter().find(|(name, ..)| !came(name)) {
            return Err(ova::Error::Manifest(format!("it has a sum of {name}, which is missing")).into());
        }
        check_all_summed(manifest, self.came.iter().map(|(name, _)| name))
    }
}

fn compare(manifest: &Manifest, name: &str, sums: &[(Algorithm, String)]) -> Result<(), Fault> {
    let Some((algorithm, sum)) = manifest.of(name) else { return Ok(()) };
    match sums.iter().any(|(own, made)| *own == algorithm && made == sum) {
        true => Ok(()),
        false => Err(not_its_sum(name).into()),
    }
}

fn cut(name: &str, error: io::Error) -> ova::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => wrong(name, "the archive ends before it does"),
        _ => ova::Error::Io { doing: "read the archive", source: error },
    }
}
