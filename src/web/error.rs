//! The errors of this room. None of them repeats a URL's query, or what a server says in its own words.

use std::sync::Arc;

use crate::error::Fault;
use crate::units::{Bytes, Span};

/// Why something at a URL was not fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("the URL is not used: {reason}")]
    Url { reason: String },
    /// A rule of whoever fetches refused; it passes as it came.
    #[error(transparent)]
    Denied(Arc<Fault>),
    #[error("{name} cannot be reached: {reason}")]
    Unreachable { name: String, reason: String },
    #[error("the certificate of {name} is not trusted: {reason}")]
    Certificate { name: String, reason: String },
    #[error("{name} broke off after {at}: {reason}")]
    Lost { name: String, at: Bytes, reason: String },
    #[error("{name} is too slow: {came} came within {within} of waiting")]
    Slow { name: String, came: Bytes, within: Span },
    #[error("{name} was refused (HTTP {status})")]
    Status { name: String, status: u16 },
    #[error("{name}: {reason}")]
    Answer { name: String, reason: String },
    #[error("{name} has changed since its first byte came")]
    Changed { name: String },
    #[error("no certificates are trusted: {reason}")]
    Trust { reason: String },
}

impl Error {
    pub(super) fn url(reason: impl Into<String>) -> Self {
        Self::Url { reason: reason.into() }
    }

    /// The stable dotted kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Url { .. } => "usage.url",
            Self::Denied(_) => "door.denied",
            Self::Unreachable { .. } => "web.unreachable",
            Self::Certificate { .. } => "web.certificate",
            Self::Lost { .. } => "web.connection_lost",
            Self::Slow { .. } => "web.too_slow",
            Self::Status { status: 404 | 410, .. } => "web.not_found",
            Self::Status { .. } => "web.refused",
            Self::Answer { .. } => "web.bad_answer",
            Self::Changed { .. } => "web.changed",
            Self::Trust { .. } => "web.trust",
        }
    }

    /// Whether there is nothing of that name; some servers say so by refusing it.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Status { status: 403 | 404 | 410, .. })
    }

    /// Whether the same may simply be asked for again.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Slow { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
            _ => false,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::Url { .. } => "such as https://images.example.com/debian-12.ova",
            Self::Denied(_) => "",
            Self::Unreachable { .. } => "check the URL, the network, and that the server is up",
            Self::Certificate { .. } => {
                "have the server's authority trusted by this machine's system, or get the file by other means and import it from here"
            }
            Self::Lost { .. } => {
                "try again; a server that cannot go on in the middle (no Range) begins anew each time: get the file first, then import it from here"
            }
            Self::Slow { .. } => "try again later, or get the file first and import it from here",
            Self::Status { .. } => {
                "look whether the URL is right, and whether the server asks who you are: it is told nothing"
            }
            Self::Answer { .. } => "look what stands behind the URL, and between here and it",
            Self::Changed { .. } => "try again: somebody has put another file in its place",
            Self::Trust { .. } => {
                "install the system's certificates (ca-certificates), or name them with SSL_CERT_FILE"
            }
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let error = match error {
            Error::Denied(fault) => match Arc::try_unwrap(fault) {
                Ok(fault) => return fault,
                Err(shared) => return same(&shared),
            },
            other => other,
        };
        let fault = Fault::new(error.kind(), error.to_string()).hint(error.hint());
        let fault = if error.is_passing() { fault.retry() } else { fault };
        fault.cause(error)
    }
}

/// A refusal once more: who is refused twice is told twice.
pub(super) fn same(fault: &Fault) -> Fault {
    let same = Fault::new(fault.kind().to_owned(), fault.message());
    match fault.hint_text() {
        Some(hint) => same.hint(hint),
        None => same,
    }
}
