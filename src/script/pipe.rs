//! The worker's end of the pipe: frames out, frames in, waiting with an eye on the clock.
//!
//! Reads and writes with read(2), write(2) and poll(2) alone, because the jail knows no other calls.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::clock;
use crate::wire::{self, Eager, FrameError, MAX_FRAME, ToWorker};

/// The largest frame that a parent sends.
const LARGEST: usize = 4 * MAX_FRAME;

/// Room for that much is made before each read.
const CHUNK: usize = 1 << 16;

pub(super) struct Pipe {
    stream: File,
    buffer: Vec<u8>,
    /// How much of `buffer` has been taken already.
    taken: usize,
    eager: Eager,
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
        Ok(Self { stream: File::from(stream), buffer: Vec::new(), taken: 0, eager: Eager::default() })
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
            // A signal that comes while no call to the kernel is waiting interrupts none.
            let signalled = clock::signalled();
            let found = self.look()?;
            if !signalled && clock::signalled() {
                return Ok(Arrival::Signal);
            }
            if found {
                continue;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match self.wait(PollFlags::IN, left)? {
                Waited::Readable | Waited::Writable => {
                    self.fill()?;
                }
                Waited::Late => return Ok(Arrival::Late),
                Waited::Signal => return Ok(Arrival::Signal),
            }
        }
    }

    fn look(&mut self) -> Result<bool, FrameError> {
        let mut eager = self.eager;
        let found = eager.look(|| self.fill());
        self.eager = eager;
        found
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
            Err(Errno::INTR) => Ok(Waited::Signal),
            Err(error) => Err(FrameError::Io(error.into())),
        }
    }

    /// Takes what is there; says whether there was anything.
    fn fill(&mut self) -> Result<bool, FrameError> {
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            // One large answer must not keep its memory for the rest of the run.
            self.buffer.shrink_to(CHUNK);
        } else if self.taken > 0 {
            self.buffer.drain(..self.taken);
        }
        self.taken = 0;
        self.buffer.reserve(CHUNK);
        match rustix::io::read(&self.stream, spare_capacity(&mut self.buffer)) {
            Ok(0) => Err(FrameError::Closed),
            Ok(_) => Ok(true),
            Err(Errno::INTR | Errno::AGAIN) => Ok(false),
            Err(error) => Err(FrameError::Io(error.into())),
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
