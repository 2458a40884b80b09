//! Grains made small and whole again: zlib streams of exactly one grain each.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::error::{Error, Result};

/// Compresses grain after grain.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub fn new(level: u32) -> Self {
        Self(Compress::new(Compression::new(level), true))
    }

    /// Appends the zlib stream of `grain` to `to`.
    pub fn append(&mut self, grain: &[u8], to: &mut Vec<u8>) -> Result<()> {
        self.0.reset();
        loop {
            to.reserve(grain.len() / 4 + 1024);
            let taken = usize::try_from(self.0.total_in()).unwrap_or(usize::MAX);
            let rest = grain.get(taken..).unwrap_or_default();
            match self.0.compress_vec(rest, to, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(Error::Option(format!("a grain could not be compressed: {error}"))),
            }
        }
    }
}

/// Inflates grain after grain.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Fills `to` from a grain's zlib stream, which begins at the byte `at` of the file. At least `least` bytes must come out, and not more than `to` holds.
    pub fn inflate(&mut self, at: u64, packed: &[u8], to: &mut [u8], least: usize) -> Result<()> {
        self.0.reset(true);
        let status = self.0.decompress(packed, to, FlushDecompress::Finish);
        let damaged = |what: String| Err(Error::damaged(at, "grain", what));
        let (taken, out) = (self.0.total_in(), usize::try_from(self.0.total_out()).unwrap_or(usize::MAX));
        match status {
            Ok(Status::StreamEnd) if taken != packed.len() as u64 => {
                damaged(format!("its zlib stream ends after {taken} of {} bytes", packed.len()))
            }
            Ok(Status::StreamEnd) if out < least => damaged(format!("it inflates to {out} bytes, not to {least}")),
            Ok(Status::StreamEnd) => Ok(()),
            Ok(_) if out == to.len() => damaged(format!("it does not end with the {out} bytes of a grain")),
            Ok(_) => damaged(format!("its zlib stream is cut: {} bytes gave {out}", packed.len())),
            Err(error) => damaged(format!("its zlib stream is damaged: {error}")),
        }
    }
}
