//! Reads streamOptimized disks front to back, as a lease of a host sends them or an OVA holds them.

use std::fs::File;
use std::io::Read;
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
