//! What a disk is read from: bytes of a known size, with holes where it knows of them.

use std::io;
use std::ops::Range;

/// A disk to be read, by several threads at once.
pub trait Source: Sync {
    /// The size in bytes.
    fn size(&self) -> u64;

    /// Fills `bytes` from the byte `at`; the range lies within the size.
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// The first range at or behind `at` that may hold something but zeros; none where only zeros follow.
    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        Ok((at < self.size()).then(|| at..self.size()))
    }
}

/// Whether bytes are zeros, by comparing memory with memory.
pub(super) fn all_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4 << 10] = [0; 4 << 10];
    bytes.chunks(ZEROS.len()).all(|part| ZEROS.starts_with(part))
}
