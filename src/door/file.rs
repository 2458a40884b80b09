//! Files of this machine in a run: a person names one as a parameter, a script holds a handle, and the parent reads or writes it.
//!
//! A script can neither name a file nor look into one. A file to be read is opened when it is named, so that what is sent is what was
//! named. A file to be made must not be there: it is filled as a part beside (see `part`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bind::Binder;
use super::object::{Object, Target, kind};
use super::part::Part;
use crate::error::Fault;
use crate::units::Bytes;
use crate::wire::Value;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    /// To be made: nothing is there yet.
    Write,
}

impl Access {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// A file of this machine that a person named for this run.
#[derive(Debug)]
pub struct LocalFile {
    path: PathBuf,
    /// For reading: the file, and how long it was.
    opened: Option<(Arc<File>, u64)>,
}

impl LocalFile {
    /// Opens a file to be read, or makes sure that one can be made. Faults: `local.file`.
    pub fn open(path: &Path, access: Access) -> Result<Self, Fault> {
        let place = path.display();
        match access {
            Access::Read => {
                let mut options = OpenOptions::new();
                options.read(true);
                // A pipe that nobody writes to must not be waited for.
                #[cfg(unix)]
                std::os::unix::fs::OpenOptionsExt::custom_flags(
                    &mut options,
                    libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY,
                );
                let file = options.open(path).map_err(|error| wrong(path, "cannot be opened", &error))?;
                let metadata = file.metadata().map_err(|error| wrong(path, "cannot be read", &error))?;
                if !metadata.is_file() {
                    return Err(Fault::new("local.file", format!("{place} is not an ordinary file"))
                        .hint("name a file with content of its own"));
                }
                Ok(Self { path: path.to_owned(), opened: Some((Arc::new(file), metadata.len())) })
            }
            Access::Write => {
                let folder = folder(path);
                if path.file_name().is_none() || !folder.is_dir() {
                    return Err(Fault::new("local.file", format!("{place}: there is no folder {}", folder.display()))
                        .hint("make it first"));
                }
                check_free(path)?;
                Ok(Self { path: path.to_owned(), opened: None })
            }
        }
    }

    /// Its name, without the folders.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn access(&self) -> Access {
        if self.opened.is_some() { Access::Read } else { Access::Write }
    }

    /// How long a file to be read is.
    pub fn length(&self) -> u64 {
        self.opened.as_ref().map(|(_, length)| *length).unwrap_or_default()
    }

    /// Reads it from its beginning, whatever else reads it.
    pub fn reader(&self) -> io::Result<Reader> {
        match &self.opened {
            Some((file, _)) => Ok(Reader { file: file.clone(), at: 0 }),
            None => Err(io::Error::other("the file was named to be written")),
        }
    }

    /// Another file to be read, of that name in the same folder. Faults: `local.file`.
    pub fn beside(&self, name: &str) -> Result<Self, Fault> {
        let plain = Path::new(name).file_name().is_some_and(|plain| plain == name) && name != "..";
        if !plain || name.contains(['/', '\\', '\0']) {
            return Err(Fault::new("local.file", format!("{name:?} is not the name of a file beside {}", self.name()))
                .hint("all files of an appliance lie in one folder"));
        }
        Self::open(&folder(&self.path).join(name), Access::Read)
    }

    /// Begins to fill a file that is to be made: in its part, anew, or behind what is in it already where `resume` says so.
    ///
    /// Faults: `local.file_exists` where the file is there, or a part that is not to be resumed.
    pub fn begin(&self, resume: bool) -> Result<Part, Fault> {
        check_free(&self.path)?;
        let part = self.part_path();
        let failed = |error: io::Error| wrong(&part, "cannot be written", &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let opened = match resume {
            true => options.create(true).truncate(false).open(&part),
            false => options.create_new(true).open(&part),
        };
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let message = format!("{}: an earlier download came so far", part.display());
                return Err(Fault::new("local.file_exists", message)
                    .hint("go on with it (resume), or remove it to begin anew")
                    .cause(error));
            }
            opened => opened.map_err(failed)?,
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(Fault::new("local.file", format!("{} is not an ordinary file", part.display())));
        }
        let target = self.path.clone();
        Part::of(target, part.clone(), file).map_err(failed)
    }

    fn part_path(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        self.path.with_file_name(name)
    }
}

/// A reader with a place of its own in a file that others read too.
#[derive(Debug)]
pub struct Reader {
    file: Arc<File>,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = read_at(&self.file, buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let length = || self.file.metadata().map(|metadata| metadata.len());
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => length()?.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, at)
}

#[cfg(not(unix))]
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut file = file;
    file.seek(SeekFrom::Start(at))?;
    file.read(buffer)
}

pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn check_free(path: &Path) -> Result<(), Fault> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(wrong(path, "cannot be made", &error)),
        Ok(_) => Err(exists(path)),
    }
}

pub(super) fn exists(path: &Path) -> Fault {
    Fault::new("local.file_exists", format!("{} exists already", path.display()))
        .hint("nothing is overwritten: choose another name, or remove it after a look at it")
}

pub(super) fn wrong(path: &Path, what: &str, error: &io::Error) -> Fault {
    Fault::new("local.file", format!("{} {what}: {error}", path.display()))
        .hint("look at the file, its folder and its disk on this machine")
}

impl super::Door {
    /// Opens the file that a person named for a parameter, and gives its handle.
    ///
    /// Faults: `local.file`, `local.file_exists`.
    pub fn file_parameter(&self, path: &str, access: Access) -> Result<Value, Fault> {
        let file = Arc::new(LocalFile::open(Path::new(path), access)?);
        let size = file.opened.as_ref().map(|(_, length)| Bytes(*length).to_string());
        let fields = vec![
            ("access".to_owned(), Value::Text(access.name().to_owned())),
            ("size".to_owned(), size.map_or(Value::Nil, Value::Text)),
        ];
        let name = file.name();
        Ok(self.objects.give::<kind::File>(Object::File(file), &name, fields).into_value())
    }
}

impl Binder<'_> {
    /// The file of this machine behind a handle, which must have been named for that.
    pub fn file(&self, target: &Target<kind::File>, access: Access) -> Result<Arc<LocalFile>, Fault> {
        let file = match self.object(target.id) {
            Some(Object::File(file)) => file,
            _ => return Err(Fault::new("usage.handle", format!("handle {} is not a file of this run", target.id))),
        };
        if file.access() == access {
            return Ok(file);
        }
        let (has, wanted) = (file.access().name(), access.name());
        Err(Fault::new("usage.file", format!("{:?} was named to {has}, and this would {wanted} it", file.name()))
            .hint(format!("declare the parameter with access = \"{wanted}\"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, content: &[u8]) {
        std::fs::write(path, content).unwrap();
    }

    #[test]
    fn what_is_no_file_is_refused_and_nothing_beside_leads_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let open = |path: &Path, access| LocalFile::open(path, access).map(drop).unwrap_err().kind().to_owned();
        assert_eq!(open(folder.path(), Access::Read), "local.file");
        assert_eq!(open(Path::new("/dev/null"), Access::Read), "local.file");
        assert_eq!(open(&folder.path().join("none"), Access::Read), "local.file");
        assert_eq!(open(&folder.path().join("none/x"), Access::Write), "local.file");
        assert_eq!(open(Path::new("/"), Access::Write), "local.file");
        let ovf = folder.path().join("a.ovf");
        write(&ovf, b"x");
        write(&folder.path().join("a.vmdk"), b"y");
        let ovf = LocalFile::open(&ovf, Access::Read).unwrap();
        assert_eq!(ovf.beside("a.vmdk").unwrap().length(), 1);
        for name in ["../a.vmdk", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "a.vmdk/"] {
            assert!(ovf.beside(name).is_err(), "{name:?}");
        }
    }
}
