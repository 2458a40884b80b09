//! A file behind a URL: what the server says of it at first is what it must go on to be.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Response;
use reqwest::header::{CONTENT_RANGE, ETAG, LAST_MODIFIED};
use tokio::task::AbortHandle;

use super::address::Address;
use super::client::{Piece, Web};
use super::error::Error;
use super::stream::{Stream, Window};

/// A file that was asked for once.
pub struct File {
    pub(super) web: Arc<Web>,
    pub(super) address: Address,
    said: Said,
    went: Vec<Address>,
    ranges: bool,
    /// Why the last reading of it ended early.
    failure: Mutex<Option<Error>>,
    running: Mutex<Vec<AbortHandle>>,
}

/// What an answer says of the file that it is, or is a part of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    length: Option<u64>,
    /// A tag that is the same only for the same bytes.
    tag: Option<String>,
    modified: Option<String>,
}

/// The part that an answer says it is.
struct Part {
    first: u64,
    last: u64,
    total: Option<u64>,
}

impl Part {
    fn of(response: &Response) -> Option<Self> {
        let text = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let number = |text: &str| text.trim().parse().ok();
        Some(Self { first: number(first)?, last: number(last)?, total: number(total) })
    }
}

impl Said {
    fn of(response: &Response, length: Option<u64>) -> Self {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // A weak tag says that two files mean the same, and not that they are.
        Self { length, tag: header(ETAG).filter(|tag| tag.starts_with('"')), modified: header(LAST_MODIFIED) }
    }
}

impl File {
    /// Asks what lies at a URL: how long it is, and whether it can be read from any place on.
    ///
    /// Errors: a rule's refusal; `web.not_found`, `web.refused`, `web.unreachable`, `web.certificate`, `web.bad_answer`.
    pub async fn open(web: Arc<Web>, address: Address) -> Result<Self, Error> {
        // The first byte alone: a URL that is signed for GET answers to nothing else.
        let (response, went) = web.ask(&address, Some(Piece { from: 0, to: Some(0) }), None).await?;
        let wrong = |reason: &str| Error::Answer { name: address.name(), reason: reason.to_owned() };
        let (said, ranges) = match response.status().as_u16() {
            206 => match Part::of(&response) {
                Some(Part { first: 0, last: 0, total }) => (Said::of(&response, total), total.is_some()),
                _ => return Err(wrong("another part came than was asked for")),
            },
            416 => (Said::of(&response, Some(0)), false),
            _ => (Said::of(&response, response.content_length()), false),
        };
        let (failure, running) = (Mutex::default(), Mutex::default());
        Ok(Self { web, address, said, went, ranges, failure, running })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where it was looked for before it was found: the URLs that redirects led to.
    pub fn went(&self) -> &[Address] {
        &self.went
    }

    /// How long it is, where the server says so.
    pub fn length(&self) -> Option<u64> {
        self.said.length
    }

    /// Whether the server gives it from any place on.
    pub fn has_ranges(&self) -> bool {
        self.ranges
    }

    /// Reads it front to back, from a byte on; `length` bytes, or to its end. From another byte than the first the server must have
    /// ranges. Begin it inside of the runtime, read it outside.
    pub fn stream(self: &Arc<Self>, from: u64, length: Option<u64>) -> Stream {
        Stream::begin(self.clone(), from, length)
    }

    /// Reads small parts of it anywhere. The server must have ranges. Read it outside of the runtime.
    pub fn window(self: &Arc<Self>) -> Window {
        Window::new(self.clone())
    }

    /// Why reading it ended early, where it did; told once.
    pub fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends all reading of it.
    pub fn stop(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|task| task.abort());
    }

    pub(super) fn failed(&self, error: &Error) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
    }

    pub(super) fn runs(&self, task: AbortHandle) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|task| !task.is_finished());
        running.push(task);
    }

    /// Asks for a part of it; the answer is that part of that file, or an error.
    pub(super) async fn part(&self, piece: Piece) -> Result<Response, Error> {
        let whole = piece.from == 0 && piece.to.is_none();
        let asked = (!whole).then_some(piece);
        let (response, _) = self.web.ask(&self.address, asked, self.said.tag.as_deref()).await?;
        let wrong = |reason: &str| Err(Error::Answer { name: self.address.name(), reason: reason.to_owned() });
        let status = response.status().as_u16();
        let length = match (status, whole) {
            (200, true) => response.content_length(),
            (206, true) => return wrong("a part came where all was asked for"),
            (206, false) => match Part::of(&response) {
                Some(part) if part.first == piece.from && piece.to.is_none_or(|to| part.last == to) => part.total,
                _ => return wrong("another part came than was asked for"),
            },
            // With If-Range the whole file is what comes where it is another one by now.
            (200, false) if self.ranges => return Err(Error::Changed { name: self.address.name() }),
            (416, _) => return Err(Error::Changed { name: self.address.name() }),
            _ => return wrong("the server does not give parts of it"),
        };
        let now = Said::of(&response, length);
        let other = |known: &Option<String>, now: &Option<String>| known.is_some() && now.is_some() && known != now;
        let longer = now.length.is_some() && self.said.length.is_some() && now.length != self.said.length;
        if longer || other(&self.said.tag, &now.tag) || other(&self.said.modified, &now.modified) {
            return Err(Error::Changed { name: self.address.name() });
        }
        Ok(response)
    }
}
