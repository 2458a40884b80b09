//! The worker's end of the pipe: frames out, frames in, waiting with an eye on the clock.
//!
//! Reads and writes with read(2), write(2) and poll(2) alone, because the jail knows no other calls.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::wire::{self, FrameError, MAX_FRAME, ToWorker};

/// The largest frame that a parent sends.
const LARGEST: usize = 4 * MAX_FRAME;

pub(super) struct Pipe {
    stream: File,
    buffer: Vec<u8>,
    /// How much of `buffer` has been taken already.
    taken: usize,
}

/// What waiting for a frame came to.
pub(super) enum Arrival {
    Frame(Box<ToWorker>),
    /// The time was over before a frame came.
    Late,
    /// A signal came.
    Signal,
}

impl Pipe {
    pub(super) fn new(stream: OwnedFd) -> std::io::Result<Self> {
        // Neither side may wait for the other to read while the other waits for the same.
        rustix::io::ioctl_fionbio(&stream, true)?;
        Ok(Self { stream: File::from(stream), buffer: Vec::new(), taken: 0 })
    }

    /// Sends one frame, unless it is larger than a parent would take. What comes in meanwhile is kept.
    pub(super) fn send(&mut self, frame: &impl Serialize) -> Result<(), FrameError> {
        let bytes = wire::encode_frame(frame, MAX_FRAME)?;
        self.send_bytes(&bytes)
    }

    pub(super) fn send_bytes(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.wait(PollFlags::IN | PollFlags::OUT, None)? == Waited::Readable {
                        self.fill()?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next frame, if it comes before `until`; without a time, however long that takes.
    pub(super) fn receive(&mut self, until: Option<Instant>) -> Result<Arrival, FrameError> {
        loop {
            if let Some((frame, size)) = wire::decode_frame(self.rest(), LARGEST)? {
                self.taken += size;
                return Ok(Arrival::Frame(Box::new(frame)));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match self.wait(PollFlags::IN, left)? {
                Waited::Readable | Waited::Writable => self.fill()?,
                Waited::Late => return Ok(Arrival::Late),
                Waited::Signal => return Ok(Arrival::Signal),
            }
        }
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    fn wait(&self, what: PollFlags, left: Option<Duration>) -> Result<Waited, FrameError> {
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut descriptors = [PollFd::from_borrowed_fd(self.stream.as_fd(), what)];
        let count = poll(&mut descriptors, timeout.as_ref());
        let [descriptor] = &descriptors;
        match count {
            Ok(0) => Ok(Waited::Late),
            Ok(_) if descriptor.revents() == PollFlags::OUT => Ok(Waited::Writable),
            // Also where the other side is gone: reading tells.
            Ok(_) => Ok(Waited::Readable),
            Err(rustix::io::Errno::INTR) => Ok(Waited::Signal),
            Err(error) => Err(FrameError::Io(error.into())),
        }
    }

    fn fill(&mut self) -> Result<(), FrameError> {
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            // One large answer must not keep its memory for the rest of the run.
            self.buffer.shrink_to(1 << 16);
        } else if self.taken > 0 {
            self.buffer.drain(..self.taken);
        }
        self.taken = 0;
        let mut chunk = [0; 1 << 14];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(FrameError::Closed),
            Ok(count) => {
                self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => Ok(()),
            Err(error) => Err(FrameError::Io(error)),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Waited {
    Readable,
    Writable,
    Late,
    Signal,
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::units::Span;
    use crate::wire::{FromWorker, read_frame, write_frame};

    #[test]
    fn both_sides_may_send_much_at_once() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let text = "x".repeat(4 << 20);
        let expected = text.clone();
        let parent = std::thread::spawn(move || {
            // Writes everything before it reads anything, as a parent may that answers on its reading thread.
            let frame =
                ToWorker::Chunk { name: "chunk".to_owned(), source: expected.clone(), time: Span(Duration::ZERO) };
            write_frame(&mut ours, &frame).unwrap();
            assert_eq!(read_frame::<FromWorker>(&mut ours, MAX_FRAME).unwrap(), FromWorker::Print { text: expected });
        });
        let mut pipe = Pipe::new(theirs.into()).unwrap();
        pipe.send(&FromWorker::Print { text: text.clone() }).unwrap();
        match pipe.receive(None).unwrap() {
            Arrival::Frame(frame) => assert_eq!(
                *frame,
                ToWorker::Chunk { name: "chunk".to_owned(), source: text, time: Span(Duration::ZERO) }
            ),
            _ => panic!("no frame"),
        }
        parent.join().unwrap();
        assert!(pipe.receive(None).is_err());
    }
}
