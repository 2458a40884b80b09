//! Files over HTTP between a host's datastore and this machine: streamed, taken up again where they broke off.
//!
//! A file is never held in memory: pieces go through a short queue between the socket and a thread that reads or writes. It is summed on
//! the way only where somebody wants the sum: that takes longer than the encryption.
//! Specification: a host's `/folder`; RFC 9110, Range.

mod download;
mod state;
mod upload;

use std::io::{self, Read, Write};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::units::Span;

use super::error::Error;
use super::file_path::FilePath;
use super::host::Host;
use super::object::Datastore;
use super::transport::last_reason;

/// What went over the wire, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    pub bytes: u64,
    /// Where it was wanted.
    pub sha256: Option<[u8; 32]>,
    /// How often it was taken up again.
    pub resumed: u32,
}

/// What is uploaded: so many bytes, read anew for each attempt.
pub struct Content<'a> {
    pub length: u64,
    pub open: &'a (dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync),
    pub sum: Sum,
}

/// What is wanted of the SHA-256 of what is carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sum {
    /// It is not summed.
    #[default]
    No,
    Told,
    /// It is this one, or the transfer has failed.
    Is([u8; 32]),
}

impl Sum {
    /// The beginning of a sum, where one is wanted.
    pub fn begun(self) -> Option<Sha256> {
        (self != Self::No).then(Sha256::new)
    }

    /// Holds what was carried against what was wanted. Errors: `local.sum`.
    pub(super) fn check(self, file: &str, done: Transferred) -> Result<Transferred, Error> {
        match self {
            Self::Is(wanted) if done.sha256 != Some(wanted) => {
                let sum = done.sha256.map(hex::encode).unwrap_or_default();
                Err(Error::Sum { file: file.to_owned(), wanted: hex::encode(wanted), sum })
            }
            _ => Ok(done),
        }
    }
}

pub use state::FileState;

/// Where what is streamed goes, once.
pub type Sink = Box<dyn Write + Send>;

/// Where a download goes; one that is taken up again goes on in the same, or begins anew in it.
pub trait Landing: Write + Send {
    /// Throws away all that was written.
    fn begin_anew(&mut self) -> io::Result<()>;
}

impl Landing for io::Sink {
    fn begin_anew(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Landing for Vec<u8> {
    fn begin_anew(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }
}

/// The part of a download that this machine has already, from the beginning.
#[derive(Clone, Default)]
pub struct Had {
    pub bytes: u64,
    /// What is wanted of the sum of the whole.
    pub wanted: Sum,
    /// The sum of what is here, where one is wanted.
    pub sum: Option<Sha256>,
    /// The file that it is the part of, as it was looked at.
    pub of: Option<FileState>,
}

impl Host {
    /// How long a file is; `None` where there is none.
    pub(super) async fn length_of(&self, datastore: &Datastore, path: &FilePath) -> Result<Option<u64>, Error> {
        let at = self.link.folder(&datastore.name, path.as_str());
        let response = self.link.fetch(reqwest::Method::HEAD, &at, None).await?;
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

    /// The next piece of a body, `None` at its end; whoever sends it and falls silent is not waited for for ever.
    pub(super) async fn next_piece(&self, response: &mut reqwest::Response) -> Result<Option<Bytes>, Error> {
        let (host, patience) = (|| self.name().to_owned(), self.link.options.timeouts.request);
        match tokio::time::timeout(patience, response.chunk()).await {
            Ok(Ok(piece)) => {
                self.link.count_received(piece.as_ref().map_or(0, Bytes::len));
                Ok(piece)
            }
            Ok(Err(error)) => Err(Error::Lost { host: host(), reason: last_reason(&error) }),
            Err(_) => Err(Error::Timeout { host: host(), after: Span(patience) }),
        }
    }

    pub(super) fn refused(&self, status: u16, file: &str) -> Error {
        match status {
            429 | 503 => Error::Busy { host: self.name().to_owned(), status },
            status => Error::Transfer { host: self.name().to_owned(), file: file.to_owned(), status },
        }
    }
}

/// An error of this machine, not of the host.
pub(super) fn local(error: &dyn std::fmt::Display) -> Error {
    Error::Local { reason: error.to_string() }
}

fn percent(done: u64, total: u64) -> Option<u8> {
    u8::try_from(done.saturating_mul(100).checked_div(total)?.min(100)).ok()
}
