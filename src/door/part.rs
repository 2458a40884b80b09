//! A file of this machine under way: filled as `NAME.part`, synced, and renamed without ever replacing another.
//!
//! What came stays where that fails, so that it can be taken up again. Where it is from is kept beside it, as `NAME.part.from`: written
//! before the first byte, so that a part is never gone on with by what is not known to be the same.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use super::file::{exists, folder, wrong};
use crate::error::Fault;
use crate::esxi;

/// How much of a part is fetched again and compared, before a download goes on behind it.
const OVERLAP: u64 = 1 << 20;
/// The longest origin that is read.
const LONGEST_ORIGIN: u64 = 64 << 10;

/// A file under way.
#[derive(Debug)]
pub struct Part {
    target: PathBuf,
    path: PathBuf,
    file: File,
    /// Where what comes begins; what is there behind it is compared with what comes.
    from: u64,
    expected: Vec<u8>,
}

impl Part {
    /// What is in a part's file is there already, but for an overlap.
    pub(super) fn of(target: PathBuf, path: PathBuf, mut file: File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let from = length.saturating_sub(OVERLAP);
        let mut expected = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        (&file).take(OVERLAP).read_to_end(&mut expected)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Self { target, path, file, from, expected })
    }

    /// What was written down of where its content is from; nothing where that is lost or cannot be read.
    pub fn origin(&self) -> Option<String> {
        let path = self.origin_path();
        // A pipe would be waited for.
        std::fs::symlink_metadata(&path).ok().filter(|metadata| metadata.is_file())?;
        let mut text = String::new();
        File::open(path).ok()?.take(LONGEST_ORIGIN).read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// Writes down where its content is from, before any of it comes. Faults: `local.file`.
    pub fn keep_origin(&self, text: &str) -> Result<(), Fault> {
        let path = self.origin_path();
        let kept = || {
            // Another's link is never followed: what lies there goes, and a new file is made.
            gone(&path)?;
            let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            File::open(folder(&path))?.sync_all()
        };
        kept().map_err(|error| wrong(&path, "cannot be written", &error))
    }

    /// Throws away what is in it. What is written down of it must not be taken for that of what comes next. Faults: `local.file`.
    pub fn begin_anew(&mut self) -> Result<(), Fault> {
        let origin = self.origin_path();
        gone(&origin).map_err(|error| wrong(&origin, "cannot be removed", &error))?;
        let emptied = self.file.set_len(0).and_then(|()| self.file.sync_all());
        emptied.map_err(|error| wrong(&self.path, "cannot be emptied", &error))?;
        (self.from, self.expected) = (0, Vec::new());
        Ok(())
    }

    fn origin_path(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".from");
        self.path.with_file_name(name)
    }

    /// How much of it is taken as it is: what was there, but for an overlap.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// Reads what is taken as it is, for its sum.
    pub fn taken(&self) -> io::Result<impl Read + use<>> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file.take(self.from))
    }

    /// What takes the content from [`from`](Self::from) on.
    pub fn writer(&self) -> io::Result<Overlapping> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(self.from))?;
        Ok(Overlapping { file, expected: self.expected.clone(), at: self.from, handed: self.from })
    }

    /// The file itself, for what is not written front to back.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives the file its name. Faults: `local.file_exists` where one has come there meanwhile; the part stays.
    pub fn finish(self) -> Result<(), Fault> {
        let failed = |error: io::Error| wrong(&self.path, "cannot be finished", &error);
        self.file.sync_all().map_err(failed)?;
        match rename_new(&self.path, &self.target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&self.target)),
            Err(error) => Err(failed(error)),
            Ok(()) => {
                File::open(folder(&self.target)).and_then(|folder| folder.sync_all()).map_err(failed)?;
                let origin = self.origin_path();
                gone(&origin).map_err(|error| wrong(&origin, "cannot be removed", &error))
            }
        }
    }

    /// Takes the part away: what is in it is of no use.
    pub fn discard(self) -> Result<(), Fault> {
        std::fs::remove_file(&self.path).map_err(|error| wrong(&self.path, "cannot be removed", &error))?;
        let origin = self.origin_path();
        gone(&origin).map_err(|error| wrong(&origin, "cannot be removed", &error))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How much is in it; 0 where that cannot be said.
    pub fn length(&self) -> u64 {
        self.file.metadata().map(|metadata| metadata.len()).unwrap_or_default()
    }
}

/// So many bytes are handed to the disk while more come: the sync at the end then waits for little.
const HANDED: u64 = 8 << 20;

/// Compares what comes with what was there, then writes.
#[derive(Debug)]
pub struct Overlapping {
    file: File,
    expected: Vec<u8>,
    /// The place that is written next, and the place up to which all is on its way to the disk.
    at: u64,
    handed: u64,
}

impl Overlapping {
    /// Lets the kernel begin to write what has come since the last time. Only a wish: what counts is the sync at the end.
    fn hand_over(&mut self) {
        if let Some(length) = self.at.checked_sub(self.handed).filter(|length| *length >= HANDED).and_then(NonZero::new)
        {
            if let Err(error) = rustix::fs::fadvise(&self.file, self.handed, Some(length), rustix::fs::Advice::DontNeed)
            {
                tracing::debug!("a file's pages cannot be handed to the disk early: {error}");
            }
            self.handed = self.at;
        }
    }
}

impl esxi::Landing for Overlapping {
    fn begin_anew(&mut self) -> io::Result<()> {
        self.expected.clear();
        self.file.seek(SeekFrom::Start(0))?;
        (self.at, self.handed) = (0, 0);
        self.file.set_len(0)
    }
}

impl Write for Overlapping {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let count = self.expected.len().min(piece.len());
        if count == 0 {
            let written = self.file.write(piece)?;
            self.at += written as u64;
            self.hand_over();
            return Ok(written);
        }
        if self.expected.get(..count) != piece.get(..count) {
            return Err(io::Error::other("the part on this machine is of another file: remove it and begin anew"));
        }
        self.expected.drain(..count);
        self.file.seek(SeekFrom::Current(i64::try_from(count).map_err(io::Error::other)?))?;
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        // What was there and did not come again is no part of the file.
        if !self.expected.is_empty() {
            let at = self.file.stream_position()?;
            self.file.set_len(at)?;
        }
        self.file.flush()
    }
}

/// Renames to where nothing is.
#[cfg(target_os = "linux")]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot do it so may still make a second name for the file.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => link_new(from, to),
        done => Ok(done?),
    }
}

#[cfg(not(target_os = "linux"))]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    link_new(from, to)
}

fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)
}

/// Removes a file; one that is not there is gone already.
fn gone(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::{Access, LocalFile};
    use super::*;
    use crate::esxi::Landing as _;

    fn write(path: &Path, content: &[u8]) {
        std::fs::write(path, content).unwrap();
    }

    #[test]
    fn a_file_is_made_whole_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.iso");
        let file = LocalFile::open(&path, Access::Write).unwrap();
        let part = file.begin(false).unwrap();
        part.writer().unwrap().write_all(b"content").unwrap();
        assert!(!path.exists());
        assert_eq!(file.begin(false).unwrap_err().kind(), "local.file_exists", "a part is there");
        part.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"content");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(LocalFile::open(&path, Access::Write).unwrap_err().kind(), "local.file_exists");
        // One that comes there meanwhile stays, and so does the part.
        let other = folder.path().join("b");
        let part = LocalFile::open(&other, Access::Write).unwrap().begin(false).unwrap();
        write(&other, b"theirs");
        assert_eq!(part.finish().unwrap_err().kind(), "local.file_exists");
        assert_eq!(std::fs::read(&other).unwrap(), b"theirs");
        assert!(folder.path().join("b.part").exists());
    }

    #[test]
    fn a_part_is_gone_on_with_only_where_it_is_of_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..3 << 20).map(|n: u32| (n >> 9) as u8).collect();
        let (path, part_path) = (folder.path().join("a"), folder.path().join("a.part"));
        write(&part_path, &content[..2 << 20]);
        let file = LocalFile::open(&path, Access::Write).unwrap();
        let part = file.begin(true).unwrap();
        assert_eq!(part.from(), 1 << 20);
        let mut writer = part.writer().unwrap();
        writer.write_all(&content[1 << 20..]).unwrap();
        writer.flush().unwrap();
        part.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == content);
        let (path, part_path) = (folder.path().join("b"), folder.path().join("b.part"));
        write(&part_path, b"another file");
        let part = LocalFile::open(&path, Access::Write).unwrap().begin(true).unwrap();
        assert!(part.writer().unwrap().write_all(&content).is_err());
    }

    #[test]
    fn where_a_part_is_from_is_kept_beside_it_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, origin) = (folder.path().join("a"), folder.path().join("a.part.from"));
        let file = LocalFile::open(&path, Access::Write).unwrap();
        let part = file.begin(false).unwrap();
        assert_eq!(part.origin(), None);
        // A link that lies there leads nowhere.
        let other = folder.path().join("other");
        write(&other, b"kept");
        std::os::unix::fs::symlink(&other, &origin).unwrap();
        part.keep_origin("one").unwrap();
        part.keep_origin("two").unwrap();
        assert_eq!((part.origin().as_deref(), std::fs::read(&other).unwrap()), (Some("two"), b"kept".to_vec()));
        part.writer().unwrap().write_all(b"content").unwrap();
        drop(part);
        let mut part = file.begin(true).unwrap();
        assert_eq!((part.length(), part.origin().as_deref()), (7, Some("two")));
        // What is thrown away leaves nothing that could be taken for what comes next.
        part.begin_anew().unwrap();
        assert_eq!((part.length(), part.from(), part.origin()), (0, 0, None));
        part.keep_origin("three").unwrap();
        let mut writer = part.writer().unwrap();
        writer.write_all(b"half of it").unwrap();
        writer.begin_anew().unwrap();
        writer.write_all(b"whole").unwrap();
        writer.flush().unwrap();
        part.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert!(!origin.exists());
        let part = LocalFile::open(&folder.path().join("b"), Access::Write).unwrap().begin(false).unwrap();
        part.keep_origin("four").unwrap();
        part.discard().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a and other");
    }
}
