//! What a disk is read from: bytes of a known size, with holes where it knows of them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

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

/// A file or block device of this machine.
pub struct FileSource {
    file: File,
    size: u64,
}

impl FileSource {
    /// Opens it; its size is what it has now.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        // The length of a block device is where its end is.
        let size = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        Ok(Self { file, size })
    }
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        data_in(&self.file, at..self.size)
    }
}

/// The first part of a range of a file that is no hole; all of it where the file system, or the device, knows no holes.
#[cfg(target_os = "linux")]
pub fn data_in(file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    if range.is_empty() {
        return Ok(None);
    }
    let data = match seek(file, SeekFrom::Data(range.start)) {
        Ok(data) => data,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL) => return Ok(Some(range)),
        Err(error) => return Err(error.into()),
    };
    let hole = seek(file, SeekFrom::Hole(data))?;
    Ok((data < range.end).then(|| data..hole.clamp(data + 1, range.end)))
}

#[cfg(not(target_os = "linux"))]
pub fn data_in(_: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    Ok((!range.is_empty()).then_some(range))
}

/// Whether bytes are zeros, by comparing memory with memory.
pub(super) fn all_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4 << 10] = [0; 4 << 10];
    bytes.chunks(ZEROS.len()).all(|part| ZEROS.starts_with(part))
}
