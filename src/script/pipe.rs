//! The worker's end of the pipe: frames out, frames in, waiting with an eye on the clock.
//!
//! Reads and writes with read(2), write(2) and poll(2) alone, because the jail knows no other calls.

use std::fs::File;
use std::io::{Read, Write};
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
    pub(super) fn new(stream: OwnedFd) -> Self {
        Self { stream: File::from(stream), buffer: Vec::new(), taken: 0 }
    }

    /// Sends one frame, unless it is larger than a parent would take.
    pub(super) fn send(&mut self, frame: &impl Serialize) -> Result<(), FrameError> {
        let bytes = wire::encode_frame(frame, MAX_FRAME)?;
        Ok(self.stream.write_all(&bytes)?)
    }

    #[cfg(debug_assertions)]
    pub(super) fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next frame, if it comes before `until`; without a time, however long that takes.
    pub(super) fn receive(&mut self, until: Option<Instant>) -> Result<Arrival, FrameError> {
        loop {
            if let Some((frame, size)) = wire::decode_frame(self.rest(), LARGEST)? {
                self.taken += size;
                return Ok(Arrival::Frame(Box::new(frame)));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match self.wait(left)? {
                Waited::Ready => self.fill()?,
                Waited::Late => return Ok(Arrival::Late),
                Waited::Signal => return Ok(Arrival::Signal),
            }
        }
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    fn wait(&self, left: Option<Duration>) -> Result<Waited, FrameError> {
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut descriptors = [PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::IN)];
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(0) => Ok(Waited::Late),
            Ok(_) => Ok(Waited::Ready),
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
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(FrameError::Io(error)),
        }
    }
}

enum Waited {
    Ready,
    Late,
    Signal,
}
