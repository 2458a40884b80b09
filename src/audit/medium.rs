//! What a log asks of the operating system when it writes: the steps between which a machine can stop.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use time::OffsetDateTime;

/// The steps. Tests stop at each of them.
pub(super) trait Medium: Send {
    /// Writes the bytes at the file's end.
    fn append(&mut self, file: &File, bytes: &[u8]) -> io::Result<()>;
    /// Returns when what was appended is on the disk.
    fn sync(&mut self, file: &File) -> io::Result<()>;
    /// Cuts the file off at a length.
    fn cut(&mut self, file: &File, length: u64) -> io::Result<()>;
    /// Makes a new, empty file for appending, in place of any that is there.
    fn create(&mut self, path: &Path) -> io::Result<File>;
    /// Gives a file a second name.
    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file over another.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    /// Returns when the names in a folder are on the disk.
    fn sync_folder(&mut self, folder: &Path) -> io::Result<()>;
    fn now(&self) -> OffsetDateTime;
}

/// The machine that ceso runs on.
pub(super) struct Machine;

impl Medium for Machine {
    fn append(&mut self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn create(&mut self, path: &Path) -> io::Result<File> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
    }

    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}
