//! Files over HTTP between a host's datastore and this machine: streamed, summed on the way, taken up again where they broke off.
//!
//! A file is never held in memory: pieces go through a short queue between the socket and a thread that reads or writes and sums.
//! An upload goes to a name of its own and is moved to its place, where nothing may be yet; what broke off is taken away. A download
//! that breaks off goes on by Range; a host that answers without it sends the beginning again, which is compared by its sum.
//! Specification: a host's `/folder`; RFC 9110, Range.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use url::Url;

use crate::units::{self, Span};

use super::checked::Checked;
use super::error::Error;
use super::file_path::FilePath;
use super::host::{Host, Progress, Step};
use super::object::Datastore;
use super::pieces::{Broken, Identity, State, read_pieces, write_pieces};

/// How often a download that gets nowhere is tried again.
const TRIES: u32 = 5;

/// What went over the wire, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    pub bytes: u64,
    pub sha256: [u8; 32],
    /// How often it was taken up again.
    pub resumed: u32,
}

/// What is uploaded: so many bytes, read anew for each attempt.
pub struct Content<'a> {
    pub length: u64,
    pub open: &'a (dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync),
}

/// Where a download goes; a download that is taken up again goes on in the same.
pub type Sink = Box<dyn Write + Send>;

/// The part of a download that this machine has already, from the beginning.
#[derive(Clone, Default)]
pub struct Had {
    pub bytes: u64,
    pub sum: Sha256,
}

impl Host {
    /// Uploads a file to where nothing is yet: under another name first, which is then moved to its own.
    ///
    /// Errors: `esxi.file_already_exists`, `esxi.no_disk_space` before anything is sent where that is known, `local.file` where the
    /// content cannot be read. After an error nothing is left, or the error names it.
    pub async fn upload(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        content: Content<'_>,
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let target = path.on(&datastore.name);
        let sent = async {
            if self.length_of(datastore, path).await?.is_some() {
                return Err(self.file_exists(&target));
            }
            self.check_space(datastore, content.length).await?;
            let beside = path.beside(&format!(".ceso-{}.part", uuid::Uuid::new_v4().simple()))?;
            let sent = match self.put_file(datastore, &beside, &content, progress).await {
                Ok(sent) => self.check_arrived(datastore, &beside, sent).await,
                Err(error) => Err(error),
            };
            let sent = match sent {
                Ok(sent) => sent,
                Err(error) => {
                    let error = self.missing_space(datastore, content.length, error).await;
                    return Err(self.take_away(datastore, &beside, error).await);
                }
            };
            match self.move_plain(&beside.on(&datastore.name), &target).await {
                Ok(()) => Ok(sent),
                // The answer was lost: what the host did is looked for before anything else is done.
                Err(error) if error.outcome_unknown() => match self.length_of(datastore, path).await {
                    Ok(Some(length)) if length == sent.bytes => Ok(sent),
                    _ => Err(self.take_away(datastore, &beside, error).await),
                },
                Err(error) => Err(self.take_away(datastore, &beside, error).await),
            }
        };
        sent.await.map_err(|error: Error| error.doing(format!("upload {target}")))
    }

    /// Downloads a file, going on where it broke off. The sink comes back, whole.
    ///
    /// Errors: `esxi.file_not_found`, `esxi.file_refused` (a running machine's disk), `local.file` where the sink cannot take it.
    pub async fn download(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        had: Had,
        sink: Sink,
        progress: Progress<'_>,
    ) -> Result<(Transferred, Sink), Error> {
        let source = path.on(&datastore.name);
        let url = self.link.folder_url(&datastore.name, path.as_str());
        let mut state = State { sink, sum: had.sum, at: had.bytes };
        let begun = had.bytes > 0;
        let (mut resumed, mut fruitless, mut known) = (0, 0, None);
        let got = loop {
            let before = state.at;
            let ended;
            (state, ended) = self.receive(&url, &source, state, begun || resumed > 0, &mut known, progress).await;
            match ended {
                Ok(()) => break Ok(()),
                Err(error) if !again(&error) => break Err(error),
                Err(error) => {
                    fruitless = if state.at > before { 0 } else { fruitless + 1 };
                    if fruitless >= TRIES {
                        break Err(error);
                    }
                    tracing::info!(
                        host = self.name(),
                        at = state.at,
                        "a download broke off and is taken up again: {error}"
                    );
                    self.link.label().retry("download");
                    resumed += 1;
                    tokio::time::sleep(Duration::from_millis(200) * 2u32.pow(fruitless.min(5))).await;
                }
            }
        };
        let State { mut sink, sum, at } = state;
        let flushed = match got {
            Ok(()) => tokio::task::spawn_blocking(move || sink.flush().map(|()| sink)).await.map_err(|e| local(&e)),
            Err(error) => return Err(error.doing(format!("download {source}"))),
        };
        let sink = flushed.and_then(|flushed| flushed.map_err(|error| local(&error)))?;
        Ok((Transferred { bytes: at, sha256: sum.finalize().into(), resumed }, sink))
    }

    /// Reads a small file whole. Errors: as of a download; `esxi.invalid_argument` where it is larger than `limit`.
    pub async fn read_small(
        &self,
        datastore: &Checked<Datastore>,
        path: &FilePath,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let source = path.on(&datastore.name);
        let read = async {
            let url = self.link.folder_url(&datastore.name, path.as_str());
            let mut response = self.link.fetch(reqwest::Method::GET, &url, None).await?;
            match response.status().as_u16() {
                200 => {}
                status => return Err(self.refused(status, &source)),
            }
            let mut read = Vec::new();
            let patience = self.link.options.timeouts.request;
            loop {
                let chunk = match tokio::time::timeout(patience, response.chunk()).await {
                    Ok(Ok(Some(chunk))) => chunk,
                    Ok(Ok(None)) => return Ok(read),
                    Ok(Err(error)) => {
                        let reason = super::transport::last_reason(&error);
                        return Err(Error::Lost { host: self.name().to_owned(), reason });
                    }
                    Err(_) => return Err(Error::Timeout { host: self.name().to_owned(), after: Span(patience) }),
                };
                self.link.count_received(chunk.len());
                if (read.len() + chunk.len()) as u64 > limit {
                    let hint = Some("download it to a file instead".to_owned());
                    let reason = format!("it is larger than {}", units::Bytes(limit));
                    return Err(Error::Invalid { reason, hint });
                }
                read.extend_from_slice(&chunk);
            }
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
        let url = self.link.folder_url(&datastore.name, path.as_str());
        let mut response = self.link.fetch(reqwest::Method::GET, &url, Some(at)).await?;
        let status = response.status().as_u16();
        if status != 206 {
            return Ok((false, format!("HTTP {status} to a Range")));
        }
        let first = Identity::of(&response).first;
        if first != Some(at) {
            return Ok((false, format!("HTTP 206 with another part than was asked for: it begins at {first:?}")));
        }
        let patience = self.link.options.timeouts.request;
        let mut left = rest;
        loop {
            let chunk = match tokio::time::timeout(patience, response.chunk()).await {
                Ok(Ok(chunk)) => chunk,
                Ok(Err(error)) => {
                    return Ok((false, format!("HTTP 206, cut off: {}", super::transport::last_reason(&error))));
                }
                Err(_) => return Err(Error::Timeout { host: self.name().to_owned(), after: Span(patience) }),
            };
            let Some(chunk) = chunk else { break };
            self.link.count_received(chunk.len());
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

    /// How long a file is; `None` where there is none.
    pub(super) async fn length_of(&self, datastore: &Datastore, path: &FilePath) -> Result<Option<u64>, Error> {
        let url = self.link.folder_url(&datastore.name, path.as_str());
        let response = self.link.fetch(reqwest::Method::HEAD, &url, None).await?;
        let length = response.headers().get(reqwest::header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()).and_then(|length| length.parse().ok());
        match response.status().as_u16() {
            200 | 206 => length.map(Some).ok_or_else(|| Error::BadAnswer {
                host: self.name().to_owned(),
                reason: format!("the length of {} is not told", path.on(&datastore.name)),
            }),
            404 => Ok(None),
            status => Err(self.refused(status, &path.on(&datastore.name))),
        }
    }

    async fn put_file(
        &self,
        datastore: &Datastore,
        path: &FilePath,
        content: &Content<'_>,
        progress: Progress<'_>,
    ) -> Result<Transferred, Error> {
        let url = self.link.folder_url(&datastore.name, path.as_str());
        let status = |status: u16| self.refused(status, &path.on(&datastore.name));
        match self.put(&url, "PUT folder", content, "upload", progress, &status).await {
            // A host that refuses a session, or is full, may say so and close before it has read what is sent: looking at the file
            // renews the session. The name is this upload's own, so sending it again does no harm.
            Err(error @ Error::Lost { .. }) => {
                tracing::info!(host = self.name(), "an upload broke off and is made anew: {error}");
                self.link.label().retry("upload");
                self.length_of(datastore, path).await?;
                let sent = self.put(&url, "PUT folder", content, "upload", progress, &status).await?;
                Ok(Transferred { resumed: 1, ..sent })
            }
            sent => sent,
        }
    }

    /// Sends content to a URL of this host, and takes any status of success.
    pub(super) async fn put(
        &self,
        url: &Url,
        label: &'static str,
        content: &Content<'_>,
        what: &str,
        progress: Progress<'_>,
        refused: &(dyn Fn(u16) -> Error + Send + Sync),
    ) -> Result<Transferred, Error> {
        for last in [false, true] {
            let generation = self.link.epoch();
            let reader = (content.open)().map_err(|error| local(&error))?;
            let passed = Arc::new(AtomicU64::new(0));
            let (pieces, summing) = read_pieces(reader, content.length, passed.clone());
            let sending = self.link.send_file(url, label, Some(content.length), reqwest::Body::wrap_stream(pieces));
            let status = self.watched(sending, &passed, content.length, what, progress).await;
            let summed = summing.await.map_err(|error| local(&error));
            let status = match (status, summed) {
                // What could not be read here is why the request broke off.
                (Err(_), Ok(Err(error))) => return Err(local(&error)),
                (status, _) if matches!(status, Ok(401)) && !last => {
                    self.link.renew(generation).await?;
                    continue;
                }
                (Ok(200..=204), Ok(Ok(sha256))) => {
                    return Ok(Transferred { bytes: content.length, sha256, resumed: 0 });
                }
                (Ok(200..=204), Ok(Err(error))) => return Err(local(&error)),
                (Ok(status), _) => status,
                (Err(error), _) => return Err(error),
            };
            return Err(refused(status));
        }
        Err(Error::BadAnswer { host: self.name().to_owned(), reason: "no session for an upload".to_owned() })
    }

    /// Waits for an upload as long as it gets on.
    async fn watched<T>(
        &self,
        sending: impl Future<Output = Result<T, Error>>,
        passed: &AtomicU64,
        length: u64,
        what: &str,
        progress: Progress<'_>,
    ) -> Result<T, Error> {
        tokio::pin!(sending);
        let patience = self.link.options.timeouts.request;
        let tick = Duration::from_millis(500).min(patience);
        let (mut seen, mut still) = (0, Duration::ZERO);
        loop {
            tokio::select! {
                sent = &mut sending => return sent,
                () = tokio::time::sleep(tick) => {}
            }
            let now = passed.load(Ordering::Relaxed);
            still = if now == seen { still + tick } else { Duration::ZERO };
            seen = now;
            progress(Step { what, percent: percent(now, length) });
            if still >= patience {
                return Err(Error::Timeout { host: self.name().to_owned(), after: Span(patience) });
            }
        }
    }

    /// Streams out what a URL of this host gives, from its beginning to its end, once: what a lease packs cannot be taken up again.
    pub(super) async fn stream_out(
        &self,
        url: &Url,
        source: &str,
        sink: Sink,
        progress: Progress<'_>,
    ) -> Result<(Transferred, Sink), Error> {
        let state = State { sink, sum: Sha256::new(), at: 0 };
        let (state, ended) = self.receive(url, source, state, false, &mut None, progress).await;
        ended?;
        Ok((Transferred { bytes: state.at, sha256: state.sum.finalize().into(), resumed: 0 }, state.sink))
    }

    /// One attempt of a download. What has come stays, whatever happens.
    async fn receive(
        &self,
        url: &Url,
        source: &str,
        state: State,
        go_on: bool,
        known: &mut Option<Identity>,
        progress: Progress<'_>,
    ) -> (State, Result<(), Error>) {
        let from = (go_on && state.at > 0 && self.abilities().resumes()).then_some(state.at);
        let mut response = match self.link.fetch(reqwest::Method::GET, url, from).await {
            Ok(response) => response,
            Err(error) => return (state, Err(error)),
        };
        let status = response.status().as_u16();
        let identity = Identity::of(&response);
        let skip = match (status, from) {
            (200, Some(at)) => at,
            (200, None) => 0,
            (206, Some(at)) if identity.first == Some(at) => 0,
            // All that there is has come already.
            (416, Some(at)) if identity.total == Some(at) => return (state, Ok(())),
            (206 | 416, _) => {
                let reason = format!("another part of {source} than was asked for");
                return (state, Err(Error::BadAnswer { host: self.name().to_owned(), reason }));
            }
            (status, _) => return (state, Err(self.refused(status, source))),
        };
        let changed = known.as_ref().is_some_and(|known| known.differs(&identity));
        if changed || identity.total.is_some_and(|total| total < state.at) {
            let reason = format!("{source} has changed since the download began");
            return (state, Err(Error::FileChanged { host: self.name().to_owned(), reason }));
        }
        let total = identity.total;
        *known = Some(identity);
        let passed = Arc::new(AtomicU64::new(state.at));
        let (queue, writing) = write_pieces(state, skip, passed.clone());
        let mut ended = self.fill(&mut response, &queue, &passed, total, progress).await;
        drop(queue);
        let (state, written) = match writing.await {
            Ok(written) => written,
            Err(error) => return (State { sink: Box::new(io::sink()), sum: Sha256::new(), at: 0 }, Err(local(&error))),
        };
        match written {
            Ok(()) => {}
            Err(Broken::Local(error)) => ended = Err(local(&error)),
            Err(Broken::Other) => {
                let reason = format!("{source} does not begin any more as what has come of it");
                ended = Err(Error::FileChanged { host: self.name().to_owned(), reason });
            }
        }
        if ended.is_ok() && total.is_some_and(|total| total != state.at) {
            let reason = format!("{source} was cut off after {} bytes", state.at);
            ended = Err(Error::Lost { host: self.name().to_owned(), reason });
        }
        (state, ended)
    }

    /// Puts the body of an answer into a queue, piece by piece.
    pub(super) async fn fill(
        &self,
        response: &mut reqwest::Response,
        queue: &mpsc::Sender<Bytes>,
        passed: &AtomicU64,
        total: Option<u64>,
        progress: Progress<'_>,
    ) -> Result<(), Error> {
        let patience = self.link.options.timeouts.request;
        let host = || self.name().to_owned();
        let mut told = None;
        loop {
            let chunk = match tokio::time::timeout(patience, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => {
                    return Err(Error::Lost { host: host(), reason: super::transport::last_reason(&error) });
                }
                Err(_) => return Err(Error::Timeout { host: host(), after: Span(patience) }),
            };
            self.link.count_received(chunk.len());
            // The thread has ended early: it says why.
            if queue.send(chunk).await.is_err() {
                return Ok(());
            }
            let percent = total.and_then(|total| percent(passed.load(Ordering::Relaxed), total));
            if percent != told {
                progress(Step { what: "download", percent });
                told = percent;
            }
        }
    }

    async fn check_arrived(
        &self,
        datastore: &Datastore,
        path: &FilePath,
        sent: Transferred,
    ) -> Result<Transferred, Error> {
        match self.length_of(datastore, path).await? {
            Some(length) if length == sent.bytes => Ok(sent),
            length => Err(Error::BadAnswer {
                host: self.name().to_owned(),
                reason: format!("{} bytes were sent, and {} arrived", sent.bytes, length.unwrap_or_default()),
            }),
        }
    }

    /// Takes away what an upload has left; the error names it where that fails.
    async fn take_away(&self, datastore: &Datastore, path: &FilePath, error: Error) -> Error {
        let file = path.on(&datastore.name);
        match self.delete_file(&file).await {
            Ok(()) => error,
            Err(failure) if failure.is("FileNotFound") => error,
            Err(failure) => Error::LeftBehind {
                host: self.name().to_owned(),
                left: vec![format!("perhaps {file} ({failure})")],
                source: Box::new(error),
            },
        }
    }

    /// Refuses what does not fit, before anything is sent.
    pub(super) async fn check_space(&self, datastore: &Datastore, needed: u64) -> Result<(), Error> {
        match self.free_space(datastore).await? {
            Some(free) if needed > free => Err(self.no_space(datastore, needed, free)),
            _ => Ok(()),
        }
    }

    /// Says how much was missing where the host only says that there was too little.
    pub(super) async fn missing_space(&self, datastore: &Datastore, needed: u64, error: Error) -> Error {
        let full = error.is("NoDiskSpace") || matches!(error.root(), Error::Transfer { status: 507, .. });
        if !full {
            return error;
        }
        match self.free_space(datastore).await {
            Ok(Some(free)) if needed > free => error.because(self.no_space(datastore, needed, free)),
            _ => error,
        }
    }

    /// How much is missing for what needs that much, or at `most` that much; `None` where there is room for it.
    pub async fn lacking(&self, datastore: &Checked<Datastore>, needed: u64, most: bool) -> Option<Error> {
        match self.free_space(datastore).await {
            Ok(Some(free)) if needed > free => {
                let (host, datastore) = (self.name().to_owned(), datastore.name.clone());
                let (needed, free) = (units::Bytes(needed), units::Bytes(free));
                Some(Error::NoSpace { host, datastore, needed, free, most })
            }
            Ok(_) => None,
            Err(error) => {
                tracing::debug!(host = self.name(), "how much is free was not learned: {error}");
                None
            }
        }
    }

    fn no_space(&self, datastore: &Datastore, needed: u64, free: u64) -> Error {
        let (needed, free) = (units::Bytes(needed), units::Bytes(free));
        Error::NoSpace { host: self.name().to_owned(), datastore: datastore.name.clone(), needed, free, most: false }
    }

    async fn free_space(&self, datastore: &Datastore) -> Result<Option<u64>, Error> {
        let query = super::property::Query::object(&datastore.moref, "Datastore", &["summary.freeSpace"]);
        let objects = self.link.retrieve(&query).await?;
        Ok(objects.iter().find_map(|object| object.number("summary.freeSpace")))
    }

    pub(super) fn refused(&self, status: u16, file: &str) -> Error {
        match status {
            429 | 503 => Error::Busy { host: self.name().to_owned(), status },
            status => Error::Transfer { host: self.name().to_owned(), file: file.to_owned(), status },
        }
    }
}

/// Whether a download may simply go on.
fn again(error: &Error) -> bool {
    matches!(error.root(), Error::Lost { .. } | Error::Timeout { .. } | Error::Unreachable { .. } | Error::Busy { .. })
}

/// An error of this machine, not of the host.
pub(super) fn local(error: &dyn std::fmt::Display) -> Error {
    Error::Local { reason: error.to_string() }
}

fn percent(done: u64, total: u64) -> Option<u8> {
    u8::try_from(done.saturating_mul(100).checked_div(total)?.min(100)).ok()
}
