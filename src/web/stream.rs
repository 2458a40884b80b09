//! The content of a file behind a URL: front to back through a short queue, or in small windows anywhere. Never whole.
//!
//! What breaks off is taken up again where it broke off, if the server gives parts and the file is still the same; else it is an error.
//! The time that counts is the time in which nothing comes though something could: a reader that is slow itself makes no server slow.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::client::{Limits, Piece, last_reason};
use super::error::Error;
use super::file::File;
use crate::units::{self, Span};

/// How many pieces wait between the socket and the reader.
const QUEUE: usize = 8;
/// How much a window shows at once.
const WINDOW: u64 = 64 << 10;
/// Progress after which what breaks off again is another trouble, and not the same.
const PROGRESS: u64 = 8 << 20;

/// Content front to back.
pub struct Stream {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
    ended: bool,
}

impl Stream {
    pub(super) fn begin(file: Arc<File>, from: u64, length: Option<u64>) -> Self {
        let (queue, pieces) = mpsc::channel(QUEUE);
        let pump = Pump { file: file.clone(), at: from, from, end: length.map(|length| from.saturating_add(length)) };
        let task = tokio::spawn(async move {
            let last = match pump.run(&queue).await {
                // An empty piece is the end: without it the stream was cut off.
                Ok(()) => Ok(Bytes::new()),
                Err(error) => Err(io::Error::other(error)),
            };
            // Who reads may have gone.
            drop(queue.send(last).await);
        });
        file.runs(task.abort_handle());
        Self { pieces, rest: Bytes::new(), ended: false }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.ended && !buffer.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) if piece.is_empty() => self.ended = true,
                Some(piece) => self.rest = piece?,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "reading it was ended")),
            }
        }
        let count = self.rest.len().min(buffer.len());
        if let Some(buffer) = buffer.get_mut(..count) {
            self.rest.copy_to_slice(buffer);
        }
        Ok(count)
    }
}

/// What fills a stream.
struct Pump {
    file: Arc<File>,
    from: u64,
    at: u64,
    end: Option<u64>,
}

impl Pump {
    async fn run(mut self, queue: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), Error> {
        let (most, first) = self.file.web.limits.tries;
        let (mut tries, mut counted) = (0, self.at);
        loop {
            let error = match self.attempt(queue).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if self.at - counted >= PROGRESS {
                (tries, counted) = (0, self.at);
            }
            let can_go_on = self.at == 0 || self.file.has_ranges();
            if !error.is_passing() || !can_go_on || tries >= most {
                self.file.failed(&error);
                return Err(error);
            }
            tracing::info!("a transfer is taken up again: {error}");
            tokio::time::sleep(first * (1 << tries.min(5))).await;
            tries += 1;
        }
    }

    async fn attempt(&mut self, queue: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), Error> {
        if self.end.is_some_and(|end| self.at >= end) {
            return Ok(());
        }
        let to = self.end.filter(|_| self.file.has_ranges() && self.from > 0).map(|end| end - 1);
        let mut response = self.file.part(Piece { from: self.at, to }).await?;
        let mut patience = Patience::new(self.file.web.limits);
        let name = || self.file.address.name();
        // All that there is, or all that is wanted of it.
        let end = self.end.or(self.file.length());
        loop {
            let mut piece = match patience.wait(response.chunk()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) if end.is_some_and(|end| self.at < end) => {
                    return Err(Error::Lost {
                        name: name(),
                        at: units::Bytes(self.at),
                        reason: "it was cut off".to_owned(),
                    });
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => {
                    return Err(Error::Lost { name: name(), at: units::Bytes(self.at), reason: last_reason(&error) });
                }
                Err((came, within)) => {
                    return Err(Error::Slow { name: name(), came: units::Bytes(came), within: Span(within) });
                }
            };
            if let Some(end) = end
                && self.at + piece.len() as u64 > end
            {
                if self.end.is_none() {
                    return Err(Error::Answer { name: name(), reason: "more comes than the server said".to_owned() });
                }
                piece.truncate(usize::try_from(end - self.at).unwrap_or(usize::MAX));
            }
            self.at += piece.len() as u64;
            // Nobody reads any more.
            if !piece.is_empty() && queue.send(Ok(piece)).await.is_err() {
                return Ok(());
            }
            if self.end.is_some_and(|end| self.at >= end) {
                return Ok(());
            }
        }
    }
}

/// How long a server may let wait.
struct Patience {
    limits: Limits,
    waited: Duration,
    came: u64,
}

impl Patience {
    fn new(limits: Limits) -> Self {
        Self { limits, waited: Duration::ZERO, came: 0 }
    }

    /// Waits for a piece. Errors: how much came in how much time of waiting, where that is too little.
    async fn wait<E>(
        &mut self,
        piece: impl Future<Output = Result<Option<Bytes>, E>>,
    ) -> Result<Result<Option<Bytes>, E>, (u64, Duration)> {
        let began = Instant::now();
        let piece = tokio::time::timeout(self.limits.stall, piece).await.map_err(|_| (0, self.limits.stall))?;
        self.waited += began.elapsed();
        self.came += piece.as_ref().ok().and_then(Option::as_ref).map_or(0, |piece| piece.len() as u64);
        let (window, least) = self.limits.window;
        if self.waited >= window {
            let (came, waited) = (std::mem::take(&mut self.came), std::mem::take(&mut self.waited));
            if came < least.0 && matches!(piece, Ok(Some(_))) {
                return Err((came, waited));
            }
        }
        Ok(piece)
    }
}

/// Small parts of a file, anywhere.
pub struct Window {
    file: Arc<File>,
    runtime: tokio::runtime::Handle,
    at: u64,
    held: Bytes,
    held_at: u64,
}

impl Window {
    pub(super) fn new(file: Arc<File>) -> Self {
        Self { file, runtime: tokio::runtime::Handle::current(), at: 0, held: Bytes::new(), held_at: 0 }
    }

    async fn fetch(file: &File, from: u64, to: u64) -> Result<Bytes, Error> {
        let (most, first) = file.web.limits.tries;
        let mut tries = 0;
        loop {
            match Self::fetch_once(file, from, to).await {
                Err(error) if error.is_passing() && tries < most => {
                    tokio::time::sleep(first * (1 << tries.min(5))).await
                }
                done => return done,
            }
            tries += 1;
        }
    }

    async fn fetch_once(file: &File, from: u64, to: u64) -> Result<Bytes, Error> {
        let mut response = file.part(Piece { from, to: Some(to) }).await?;
        let wanted = to - from + 1;
        let mut held = bytes::BytesMut::new();
        let name = || file.address.name();
        let mut patience = Patience::new(file.web.limits);
        while (held.len() as u64) < wanted {
            match patience.wait(response.chunk()).await {
                Ok(Ok(Some(piece))) => held.extend_from_slice(&piece),
                Ok(Ok(None)) => {
                    return Err(Error::Lost {
                        name: name(),
                        at: units::Bytes(from),
                        reason: "it was cut off".to_owned(),
                    });
                }
                Ok(Err(error)) => {
                    return Err(Error::Lost { name: name(), at: units::Bytes(from), reason: last_reason(&error) });
                }
                Err((came, within)) => {
                    return Err(Error::Slow { name: name(), came: units::Bytes(came), within: Span(within) });
                }
            }
        }
        if held.len() as u64 > wanted {
            return Err(Error::Answer { name: name(), reason: "more comes than the server said".to_owned() });
        }
        Ok(held.freeze())
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.length().unwrap_or_default();
        if self.at >= length || buffer.is_empty() {
            return Ok(0);
        }
        let held = self.held_at..self.held_at + self.held.len() as u64;
        if !held.contains(&self.at) {
            let to = self.at.saturating_add(WINDOW).min(length) - 1;
            let fetched = self.runtime.block_on(Self::fetch(&self.file, self.at, to));
            self.held = fetched.map_err(|error| {
                self.file.failed(&error);
                io::Error::other(error)
            })?;
            self.held_at = self.at;
        }
        let from = usize::try_from(self.at - self.held_at).unwrap_or(usize::MAX);
        let held = self.held.get(from..).unwrap_or_default();
        let count = held.len().min(buffer.len());
        if let (Some(buffer), Some(held)) = (buffer.get_mut(..count), held.get(..count)) {
            buffer.copy_from_slice(held);
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.length().unwrap_or_default().checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
