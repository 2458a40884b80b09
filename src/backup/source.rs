//! What a backup reads: bytes of a known size, with holes where it knows of them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::{Error, Result};

pub use crate::vmdk::Source;

/// A file or block device of this machine.
pub struct FileSource {
    file: File,
    size: u64,
    holes: bool,
}

impl FileSource {
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source| Error::Source { place: path.display().to_string(), source };
        let mut file = File::open(path).map_err(failed)?;
        let regular = file.metadata().map_err(failed)?.is_file();
        // The length of a block device is where its end is.
        let size = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { file, size, holes: regular && cfg!(target_os = "linux") })
    }
}

impl Source for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, at)
    }

    #[cfg(target_os = "linux")]
    fn next_data(&self, at: u64) -> io::Result<Option<Range<u64>>> {
        use rustix::fs::{SeekFrom, seek};
        if at >= self.size {
            return Ok(None);
        }
        if !self.holes {
            return Ok(Some(at..self.size));
        }
        let data = match seek(&self.file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            // The file system knows no holes.
            Err(rustix::io::Errno::INVAL) => return Ok(Some(at..self.size)),
            Err(error) => return Err(error.into()),
        };
        let hole = seek(&self.file, SeekFrom::Hole(data))?;
        Ok((data < self.size).then(|| data..hole.clamp(data + 1, self.size)))
    }
}
