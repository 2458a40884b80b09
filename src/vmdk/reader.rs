//! Reads streamOptimized disks front to back, as a lease of a host sends them or an OVA holds them; or passes over them, to see that they are
//! whole.

use std::fs::File;
use std::io::{BufRead, Read};
use std::os::unix::fs::FileExt;

use super::SECTOR;
use super::deflate::Inflater;
use super::descriptor::Descriptor;
use super::error::{Error, Result};
use super::source::all_zero;
use super::walk::{Input, Walk};

/// A disk that comes as a stream.
pub struct StreamReader<R> {
    walk: Walk<Front<R>>,
    inflater: Inflater,
    packed: Vec<u8>,
}

struct Front<R>(R);

impl<R: Read> Input for Front<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let mut got = 0;
        while let Some(rest) = bytes.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match self.0.read(rest) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read the disk")(error)),
            }
        }
        Ok(got)
    }

    fn pass(&mut self, bytes: u64) -> Result<u64> {
        std::io::copy(&mut self.0.by_ref().take(bytes), &mut std::io::sink()).map_err(Error::io("read the disk"))
    }
}

/// A stream that is passed over where it is not read.
struct Passing<R>(R);

impl<R: BufRead> Passing<R> {
    /// The next bytes that are there, at most so many; none at the end.
    fn next(&mut self, most: usize) -> Result<&[u8]> {
        // The loop ends with an answer: the borrow of it is taken anew behind.
        while let Err(error) = self.0.fill_buf() {
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(Error::io("read the disk")(error));
            }
        }
        let there = self.0.fill_buf().map_err(Error::io("read the disk"))?;
        Ok(there.get(..most).unwrap_or(there))
    }
}

impl<R: BufRead> Input for Passing<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let mut got = 0;
        while let Some(rest) = bytes.get_mut(got..).filter(|rest| !rest.is_empty()) {
            let next = self.next(rest.len())?;
            let count = next.len();
            if count == 0 {
                break;
            }
            if let Some(to) = rest.get_mut(..count) {
                to.copy_from_slice(next);
            }
            self.0.consume(count);
            got += count;
        }
        Ok(got)
    }

    fn pass(&mut self, bytes: u64) -> Result<u64> {
        let mut passed = 0;
        while passed < bytes {
            let count = self.next(usize::try_from(bytes - passed).unwrap_or(usize::MAX))?.len();
            if count == 0 {
                break;
            }
            self.0.consume(count);
            passed += count as u64;
        }
        Ok(passed)
    }
}

/// Passes over a stream, and sees that it is a whole one: header, markers, tables, footer and end; the grains are not unpacked. `capacity` is
/// asked whether a disk of that many bytes is wanted, as soon as the header has come; what it says against it is the error.
///
/// Errors: as those of [`StreamReader`].
pub fn check_stream(from: impl BufRead, capacity: impl FnOnce(u64) -> Result<()>) -> Result<()> {
    let mut walk = Walk::begin(Passing(from))?;
    capacity(walk.header.capacity * SECTOR)?;
    while let Some(found) = walk.next()? {
        walk.skip(&found)?;
    }
    Ok(())
}

impl<R: Read> StreamReader<R> {
    /// Reads header and descriptor. The stream is read in small pieces: give it a buffer (`BufReader`).
    ///
    /// Errors: `Damaged` with the byte and the field; `Unsupported` where it is no streamOptimized disk.
    pub fn new(from: R) -> Result<Self> {
        let walk = Walk::begin(Front(from))?;
        Ok(Self { walk, inflater: Inflater::new(), packed: Vec::new() })
    }

    /// The size of the disk in bytes.
    pub fn capacity(&self) -> u64 {
        self.walk.header.capacity * SECTOR
    }

    /// The descriptor, where the stream has one.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.walk.descriptor.as_ref()
    }

    /// How many bytes of the stream are read.
    pub fn position(&self) -> u64 {
        self.walk.at()
    }

    /// Puts the next grain's bytes into `bytes` and returns its place on the disk in bytes; none at the end of the stream.
    ///
    /// Grains come in any order, each at most once. What none covers is zeros. Only the `None` says that the stream is whole.
    pub fn next_grain(&mut self, bytes: &mut Vec<u8>) -> Result<Option<u64>> {
        let Some(found) = self.walk.next()? else { return Ok(None) };
        self.walk.rest(&found, &mut self.packed)?;
        let least = self.walk.header.bytes_of(found.grain);
        bytes.resize(self.walk.header.grain_bytes(), 0);
        self.inflater.inflate(found.at, &self.packed, bytes, least)?;
        bytes.truncate(least);
        Ok(Some(found.grain * self.walk.header.grain * SECTOR))
    }

    /// Writes the whole disk into an empty file: sparse, of the disk's size. After an error the file's content means nothing.
    pub fn write_to(&mut self, file: &File) -> Result<()> {
        file.set_len(self.capacity()).map_err(Error::io("write the disk's file"))?;
        let mut bytes = Vec::new();
        while let Some(at) = self.next_grain(&mut bytes)? {
            if !all_zero(&bytes) {
                file.write_all_at(&bytes, at).map_err(Error::io("write the disk's file"))?;
            }
        }
        Ok(())
    }
}
