//! What bounds a server's answers: their length, how slow they may be, and how long a list may go on.
//!
//! It judges nothing of what an answer says. A server that is broken or means harm must hold up no call for ever and fill no memory.

use std::collections::HashSet;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpErrorKind, HttpResponseBody};
use tokio::time::{Instant, Sleep};

/// The longest answer to a list or a deletion: a thousand names of a kilobyte, and what is said of each.
pub const LONGEST_LIST: u64 = 8 << 20;
/// The most of an error's text that is read.
pub const LONGEST_ERROR: u64 = 64 << 10;
/// The most files of a folder: packs of 64 MiB are 256 TiB then.
const MOST_FILES: u64 = 1 << 22;
/// So many pages of a list may follow each other that bring nothing.
const EMPTY_PAGES: u32 = 100;

/// How slow bytes may come or go.
#[derive(Debug, Clone, Copy)]
pub struct Slowest {
    /// From when on this counts.
    pub after: Duration,
    /// The least bytes in a second.
    pub floor: u64,
}

impl Default for Slowest {
    fn default() -> Self {
        Self { after: Duration::from_secs(30), floor: 8 << 10 }
    }
}

impl Slowest {
    /// Whether so many bytes in such a time are too few: nobody would wait for the rest.
    pub fn is_passed(self, bytes: u64, waited: Duration) -> bool {
        waited >= self.after && (bytes as f64) < waited.as_secs_f64() * self.floor as f64
    }

    pub fn told(self) -> io::Error {
        let message = format!("it trickles: less than {} bytes in a second", self.floor);
        io::Error::new(io::ErrorKind::TimedOut, message)
    }
}

/// The body of an answer, which ends in an error where it is too long or too slow.
pub struct Bounded {
    inner: HttpResponseBody,
    slowest: Slowest,
    most: u64,
    /// What is longer ends there, in place of an error.
    cut: bool,
    came: u64,
    /// For how long bytes were waited for, and since when they are now. A reader that takes its time counts for nothing.
    waited: Duration,
    since: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

impl Bounded {
    /// A body of at most so many bytes; `cut` has it end there.
    pub fn new(inner: HttpResponseBody, slowest: Slowest, most: u64, cut: bool) -> Self {
        let alarm = Box::pin(tokio::time::sleep(slowest.after));
        Self { inner, slowest, most, cut, came: 0, waited: Duration::ZERO, since: None, alarm }
    }

    fn is_slow(&self) -> bool {
        let waiting = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        self.slowest.is_passed(self.came, self.waited + waiting)
    }
}

fn ended(error: io::Error) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
    let kind = if error.kind() == io::ErrorKind::TimedOut { HttpErrorKind::Timeout } else { HttpErrorKind::Decode };
    Poll::Ready(Some(Err(HttpError::new(kind, error))))
}

impl Body for Bounded {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.cut && self.came >= self.most {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(since) = self.since.take() {
                    self.waited += since.elapsed();
                }
                self.came = self.came.saturating_add(frame.data_ref().map_or(0, |bytes| bytes.len() as u64));
                if self.came > self.most && !self.cut {
                    return ended(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("the answer is longer than {} bytes", self.most),
                    ));
                }
                if self.is_slow() { ended(self.slowest.told()) } else { Poll::Ready(Some(Ok(frame))) }
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => {
                self.since.get_or_insert_with(Instant::now);
                let after = self.slowest.after;
                while self.alarm.as_mut().poll(context).is_ready() {
                    if self.is_slow() {
                        return ended(self.slowest.told());
                    }
                    self.alarm.as_mut().reset(Instant::now() + after);
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    /// What a server says is no reason to take memory.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// A list under way: whether it goes on as a list that ends does.
#[derive(Default)]
pub struct Progress {
    last: String,
    files: u64,
    empty: u32,
    tokens: HashSet<[u8; 32]>,
}

impl Progress {
    /// Counts a key of the server, whatever it is.
    pub fn counted(&mut self) -> Result<(), String> {
        self.files += 1;
        if self.files > MOST_FILES { Err(format!("the list has more than {MOST_FILES} names")) } else { Ok(()) }
    }

    /// Takes the next name: S3 gives them in the order of their bytes, so none comes twice.
    pub fn next(&mut self, name: &str) -> Result<(), String> {
        if name <= self.last.as_str() {
            return Err("the server gives names out of their order, or twice".to_owned());
        }
        name.clone_into(&mut self.last);
        self.empty = 0;
        Ok(())
    }

    /// Takes the token of the next page.
    pub fn page(&mut self, token: &str) -> Result<(), String> {
        use sha2::Digest as _;
        self.empty += 1;
        let new = self.tokens.insert(sha2::Sha256::digest(token).into());
        if !new || self.empty > EMPTY_PAGES {
            Err("the server gives the same pages for ever".to_owned())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slow_is_so_by_its_average_and_not_at_once() {
        let slowest = Slowest { after: Duration::from_secs(30), floor: 1000 };
        assert!(!slowest.is_passed(0, Duration::from_secs(29)));
        assert!(slowest.is_passed(29_999, Duration::from_secs(30)));
        assert!(!slowest.is_passed(30_000, Duration::from_secs(30)));
        assert!(
            slowest.is_passed(u64::MAX / 2, Duration::MAX)
                && !slowest.is_passed(u64::MAX, Duration::from_secs(1 << 30))
        );
    }

    #[test]
    fn a_list_goes_on_only_where_its_names_do() {
        let mut progress = Progress::default();
        progress.next("data/00/aa").unwrap();
        progress.page("1").unwrap();
        progress.next("data/00/ab").unwrap();
        assert!(progress.next("data/00/ab").is_err() && progress.next("data/00/a").is_err());
        assert!(progress.page("1").is_err());
        let mut endless = Progress::default();
        assert!((0..200).any(|page: u32| endless.page(&page.to_string()).is_err()), "pages without a name");
        let mut endless = Progress { files: MOST_FILES, ..Progress::default() };
        assert!(endless.counted().is_err());
    }
}
