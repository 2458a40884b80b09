//! Downloads: streamed, taken up again where they broke off.
//!
//! What breaks off goes on by Range, where the host shows that the file is still the same. Where it cannot show it, or sends the whole
//! file again, the download begins anew: it is never put together from two files.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sha2::Digest as _;
use tokio::sync::mpsc;

use crate::esxi::checked::Checked;
use crate::esxi::endpoint::Endpoint;
use crate::esxi::error::Error;
use crate::esxi::file_path::FilePath;
use crate::esxi::host::{Host, Progress, Step};
use crate::esxi::object::Datastore;
use crate::esxi::pieces::{Broken, Form, Gathered, State, write_pieces};
use crate::esxi::transport::Tail;
use crate::units;

use super::state::{FileState, part};
use super::{Had, Landing, Sink, Sum, Transferred, local, percent};

/// How often a download that gets nowhere is tried again.
const TRIES: u32 = 5;

impl Host {
    /// Downloads a file, going on where it broke off. What this machine has of it already must say of which file it is.
    ///
    /// Errors: `esxi.file_not_found`, `esxi.file_refused` (a running machine's disk), `esxi.file_changed`, `local.file` where the sink
    /// cannot take it, `local.sum` where the whole has another sum than is wanted.
    pub async fn download(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        had: Had,
        sink: Box<dyn Landing>,
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let source = path.on(&datastore.name);
        let doing = |error: Error| error.doing(format!("download {source}"));
        let at = self.link.folder(&datastore.name, path.as_str());
        let sum = if had.bytes > 0 { had.sum } else { had.wanted.begun() };
        let mut state = State { sink, sum, at: had.bytes };
        let mut known = had.of;
        // Whoever hands over a part has just looked at the file.
        let mut is_still = known.is_some();
        let (mut resumed, mut fruitless, mut farthest) = (0, 0, 0);
        loop {
            let from = (is_still && state.at > 0 && self.abilities().resumes()).then_some(state.at);
            let ended;
            (state, ended) = self.receive(&at, &source, state, (from, Form::Any), &mut known, progress).await;
            let ended = match ended {
                Ok(()) => break,
                Err(error) if again(&error) => error,
                Err(error) => return Err(doing(error)),
            };
            fruitless = if state.at > farthest { 0 } else { fruitless + 1 };
            farthest = farthest.max(state.at);
            if fruitless >= TRIES {
                return Err(doing(ended));
            }
            tracing::info!(host = self.name(), at = state.at, "a download broke off and is taken up again: {ended}");
            self.link.label().retry("download");
            resumed += 1;
            tokio::time::sleep(Duration::from_millis(200) * 2u32.pow(fruitless.min(5))).await;
            is_still = self.is_still(datastore, path, known.as_ref(), state.at).await.map_err(doing)?;
        }
        let State { mut sink, sum, at } = state;
        let sha256 = sum.map(|sum| sum.finalize().into());
        let flushed = tokio::task::spawn_blocking(move || sink.flush()).await.map_err(|error| local(&error))?;
        flushed.map_err(|error| local(&error))?;
        had.wanted.check(&source, Transferred { bytes: at, sha256, resumed }).map_err(doing)
    }

    /// Whether a file is still what was known of it when so much of it had come: only then may a download go on behind that.
    async fn is_still(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        known: Option<&FileState>,
        came: u64,
    ) -> Result<bool, Error> {
        let Some(known) = known.filter(|_| came > 0) else { return Ok(false) };
        match self.file_state(datastore, path).await {
            Ok(now) => match known.is_still(&now) {
                Some(false) => Err(self.changed_since(&path.on(&datastore.name))),
                still => Ok(still.is_some()),
            },
            // The next attempt meets the same, or comes through.
            Err(error) if again(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn changed_since(&self, source: &str) -> Error {
        let reason = format!("{source} has changed since the download began");
        Error::FileChanged { host: self.name().to_owned(), reason }
    }

    /// Reads a small file whole. Errors: as of a download; `esxi.invalid_argument` where it is larger than `limit`.
    pub async fn read_small(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        self.read_whole(datastore, path.as_str(), limit).await
    }

    /// The same by a path on the datastore, for this room.
    pub(in crate::esxi) async fn read_whole(
        &self,
        datastore: &Datastore,
        path: &str,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let source = format!("[{}] {path}", datastore.name);
        let read = async {
            let at = self.link.folder(&datastore.name, path);
            let mut response = self.link.fetch(reqwest::Method::GET, &at, None).await?;
            match response.status().as_u16() {
                200 => {}
                status => return Err(self.refused(status, &source)),
            }
            let mut read = Vec::new();
            while let Some(chunk) = self.next_piece(&mut response).await? {
                if (read.len() + chunk.len()) as u64 > limit {
                    let hint = Some("download it to a file instead".to_owned());
                    let reason = format!("it is larger than {}", units::Bytes(limit));
                    return Err(Error::Invalid { reason, hint });
                }
                read.extend_from_slice(&chunk);
            }
            Ok(read)
        };
        read.await.map_err(|error: Error| error.doing(format!("read {source}")))
    }

    /// Asks for a file from a byte on, where `rest` is known to stand: whether that comes, and what was seen. Whatever is known of the
    /// host, it is asked.
    pub async fn try_range(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        at: u64,
        rest: &[u8],
    ) -> Result<(bool, String), Error> {
        let file = self.link.folder(&datastore.name, path.as_str());
        let tail = Tail { from: at, unless_changed: None };
        let mut response = self.link.fetch(reqwest::Method::GET, &file, Some(tail)).await?;
        let status = response.status().as_u16();
        if status != 206 {
            return Ok((false, format!("HTTP {status} to a Range")));
        }
        let first = part(&response).map(|(first, _)| first);
        if first != Some(at) {
            return Ok((false, format!("HTTP 206 with another part than was asked for: it begins at {first:?}")));
        }
        let mut left = rest;
        loop {
            let chunk = match self.next_piece(&mut response).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(Error::Lost { reason, .. }) => return Ok((false, format!("HTTP 206, cut off: {reason}"))),
                Err(error) => return Err(error),
            };
            match left.strip_prefix(chunk.as_ref()) {
                Some(behind) => left = behind,
                None => return Ok((false, "HTTP 206 with other bytes than stand there".to_owned())),
            }
        }
        match left.len() {
            0 => Ok((true, "HTTP 206 with what stands there".to_owned())),
            missing => Ok((false, format!("HTTP 206 with {missing} bytes too few"))),
        }
    }

    /// Streams out what an endpoint gives, from its beginning to its end, once: what a lease packs cannot be taken up again.
    ///
    /// Errors: `esxi.bad_answer` where it is not of that form.
    pub(in crate::esxi) async fn stream_out(
        &self,
        at: &Endpoint,
        source: &str,
        (form, wanted): (Form, Sum),
        sink: Sink,
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let state = State { sink: Box::new(Once(sink)), sum: wanted.begun(), at: 0 };
        let (state, ended) = self.receive(at, source, state, (None, form), &mut None, progress).await;
        ended?;
        let sha256 = state.sum.map(|sum| sum.finalize().into());
        wanted.check(source, Transferred { bytes: state.at, sha256, resumed: 0 })
    }

    /// One attempt of a download, from a byte on or as a whole. What has come stays, whatever happens, until the whole comes anew.
    async fn receive(
        &self,
        at: &Endpoint,
        source: &str,
        state: State,
        (from, form): (Option<u64>, Form),
        known: &mut Option<FileState>,
        progress: Progress<'_>,
    ) -> (State, Result<(), Error>) {
        let unless_changed = known.as_ref().and_then(FileState::condition);
        let tail = from.map(|from| Tail { from, unless_changed });
        let mut response = match self.link.fetch(reqwest::Method::GET, at, tail).await {
            Ok(response) => response,
            Err(error) => return (state, Err(error)),
        };
        let status = response.status().as_u16();
        let (seen, part) = (FileState::of(&response), part(&response));
        let anew = match (status, from) {
            // All of it comes, asked for or not.
            (200, _) => state.at > 0,
            (206, Some(at)) if part.is_some_and(|(first, _)| first == at) => false,
            // All that there is has come already.
            (416, Some(at)) if seen.length == Some(at) => return (state, Ok(())),
            (206 | 416, _) => {
                let reason = format!("another part of {source} than was asked for");
                return (state, Err(Error::BadAnswer { host: self.name().to_owned(), reason }));
            }
            (status, _) => return (state, Err(self.refused(status, source))),
        };
        if known.as_ref().is_some_and(|known| known.differs(&seen)) {
            return (state, Err(self.changed_since(source)));
        }
        let total = seen.length;
        known.get_or_insert(seen);
        let passed = Arc::new(AtomicU64::new(if anew { 0 } else { state.at }));
        let (queue, writing) = write_pieces(state, anew, form, passed.clone());
        let mut ended = self.fill(&mut response, &queue, &passed, total, progress).await;
        drop(queue);
        let (state, written) = match writing.await {
            Ok(written) => written,
            Err(error) => return (State { sink: Box::new(io::sink()), sum: None, at: 0 }, Err(local(&error))),
        };
        match written {
            Ok(()) => {}
            Err(Broken::Local(error)) => ended = Err(local(&error)),
            // What was cut off is no whole disk either: why it was cut off says more.
            Err(Broken::Form(error)) if ended.is_ok() => {
                let reason = format!("what it sends as {source} is no whole streamOptimized disk: {error}");
                ended = Err(Error::BadAnswer { host: self.name().to_owned(), reason });
            }
            Err(Broken::Form(_)) => {}
        }
        if ended.is_ok() && total.is_some_and(|total| total != state.at) {
            let reason = format!("{source} was cut off after {} bytes", state.at);
            ended = Err(Error::Lost { host: self.name().to_owned(), reason });
        }
        (state, ended)
    }

    /// Puts the body of an answer into a queue, piece by piece.
    pub(in crate::esxi) async fn fill(
        &self,
        response: &mut reqwest::Response,
        queue: &mpsc::Sender<Bytes>,
        passed: &AtomicU64,
        total: Option<u64>,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let (mut told, mut gathered) = (None, Gathered::default());
        let ended = loop {
            let chunk = match self.next_piece(response).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            let Some(piece) = gathered.take(&chunk) else { continue };
            // The socket's own buffer is free again before anything waits.
            drop(chunk);
            // The thread has ended early: it says why.
            if queue.send(piece).await.is_err() {
                return Ok(());
            }
            let percent = total.and_then(|total| percent(passed.load(Ordering::Relaxed), total));
            if percent != told {
                progress(Step { what: "download", percent });
                told = percent;
            }
        };
        // What has come stays, however it ended; a thread that has ended early says why.
        if let Some(rest) = gathered.rest() {
            drop(queue.send(rest).await);
        }
        ended
    }
}

/// What is streamed once has no second beginning.
struct Once(Sink);

impl Write for Once {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.0.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Landing for Once {
    fn begin_anew(&mut self) -> io::Result<()> {
        Err(io::Error::other("what is streamed cannot begin anew"))
    }
}

/// Whether a download may simply go on.
fn again(error: &Error) -> bool {
    matches!(error.root(), Error::Lost { .. } | Error::Timeout { .. } | Error::Unreachable { .. } | Error::Busy { .. })
}
