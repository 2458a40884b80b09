//! A folder of this machine or of an NFS mount as a target.
//!
//! A file is written under `temporary/`, synced, linked to its name and its folder synced. `link` never replaces, also on NFS, where a
//! repeated request may answer that the name exists although it was this one that made it: `nfs` says what is done about that.
//!
//! Below the root there are only files and folders. A link would lead to what is not the repository's, to be listed, written and deleted
//! there; a pipe would be waited for without an end. Either is an error that names it, and nothing is done beyond.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::{Listed, Spool, Target, checked, nfs};
use crate::backup::error::{Error, Result};

const TEMPORARY: &str = "temporary";

/// What interrupted writes have left is removed after this time.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 60 * 60);

/// A call to the file system that changes something; tests stop before any of them.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "only tests look into a step")]
pub enum Step<'a> {
    Folder(&'a Path),
    Create(&'a Path),
    Write(&'a Path),
    Sync(&'a Path),
    Link(&'a Path, &'a Path),
    Unlink(&'a Path),
    SyncFolder(&'a Path),
}

/// Is asked before each step.
pub trait Steps: Send + Sync {
    fn before(&self, step: Step<'_>) -> io::Result<()>;

    /// Is asked after a step that took place: an error stands for an answer that was lost.
    fn after(&self, _: Step<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Is asked before a file or folder is opened for reading.
    fn reading(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Lets every step pass.
pub(super) struct Free;

impl Steps for Free {
    fn before(&self, _: Step<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// A folder that holds a repository's files.
pub struct FolderTarget {
    root: PathBuf,
    steps: Arc<dyn Steps>,
    /// Which folder of which file system the root was when it was first seen.
    seen: OnceLock<(u64, u64)>,
}

impl FolderTarget {
    /// A target over a folder, which is made with the first file.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), steps: Arc::new(Free), seen: OnceLock::new() }
    }

    #[cfg(test)]
    pub(in crate::backup) fn with_steps(root: impl Into<PathBuf>, steps: Arc<dyn Steps>) -> Self {
        Self { root: root.into(), steps, seen: OnceLock::new() }
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        checked(name).map(|name| self.root.join(name))
    }

    fn fail(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        Error::io(path.display().to_string(), doing)
    }

    /// Makes sure that the root is what it was when it was first seen.
    ///
    /// A file system that was unmounted leaves an empty folder in its place: nothing in it must be taken for "nothing is needed", and what
    /// would be written there would be lost to whoever mounts it again.
    fn same_place(&self) -> Result<()> {
        let gone = |source| Err(Self::fail(&self.root, "find the folder that was there before")(source));
        let found = match fs::metadata(&self.root) {
            Ok(metadata) => (metadata.dev(), metadata.ino()),
            // It was not made yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.seen.get().is_none() => return Ok(()),
            Err(error) => return gone(error),
        };
        if *self.seen.get_or_init(|| found) == found {
            return Ok(());
        }
        gone(io::Error::other("another one is in its place: was it unmounted?"))
    }

    /// Says that a file is missing where the folder is that should have it.
    fn missing(&self, error: Error) -> Error {
        match (error.is_missing(), self.same_place()) {
            (true, Err(gone)) => gone,
            _ => error,
        }
    }

    /// Refuses a way that leads through a link somewhere below the root.
    fn within(&self, folder: &Path) -> Result<()> {
        for part in folder.ancestors().take_while(|part| *part != self.root && part.starts_with(&self.root)) {
            match nfs::again_if_stale(|| fs::symlink_metadata(part)) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return Err(Self::fail(part, "go on")(no_folder())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Self::fail(part, "find")(error)),
            }
        }
        Ok(())
    }

    /// Makes a folder and those above it, each durably, down from the first that exists.
    fn make_folder(&self, folder: &Path) -> Result<()> {
        self.within(folder)?;
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent() {
            if folder != self.root {
                self.make_folder(parent)?;
            } else {
                fs::create_dir_all(parent).map_err(Self::fail(parent, "make the folder"))?;
            }
        }
        self.steps.before(Step::Folder(folder)).map_err(Self::fail(folder, "make the folder"))?;
        match fs::create_dir(folder).and_then(|()| self.steps.after(Step::Folder(folder))) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Self::fail(folder, "make the folder")(error));
            }
            _ => {}
        }
        folder.parent().map_or(Ok(()), |parent| self.sync_folder(parent))
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        // An empty parent is that of a relative name: the working folder.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        match self.steps.before(Step::SyncFolder(folder)).and_then(|()| File::open(folder)?.sync_all()) {
            Err(error) if nfs::cannot_sync_folders(&error) => Ok(()),
            other => other.map_err(Self::fail(folder, "sync the folder")),
        }
    }

    /// Links a synced file to its name, which must not exist. Returns whether it did not.
    fn link(&self, spool: &Spool, to: &Path) -> Result<bool> {
        let from = spool.path.as_path();
        let step = Step::Link(from, to);
        let named = match self.steps.before(step).and_then(|()| fs::hard_link(from, to)) {
            Err(error) if without_links(&error) => rename_new(from, to),
            other => other,
        };
        match named.and_then(|()| self.steps.after(step)) {
            Ok(()) => Ok(true),
            // The answer may be that to a repeated request.
            Err(_) if nfs::leads_to(to, &spool.file) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Self::fail(to, "create")(error)),
        }
    }

    fn open(&self, path: &Path, name: &str) -> Result<File> {
        self.within(path.parent().unwrap_or(&self.root))?;
        let open = || nfs::again_if_stale(|| self.steps.reading(path).and_then(|()| open_file(path)));
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.parent().into_iter().for_each(nfs::refresh);
                open()
            }
            other => other,
        };
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Missing(name.to_owned())),
            other => other.map_err(Self::fail(path, "open")),
        }
    }
}

/// Opens a file and nothing else, and waits for no other end of a pipe.
fn open_file(path: &Path) -> io::Result<File> {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(no_file()),
        other => other?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

fn no_file() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "it is a link, a pipe or a device, and a repository has only files and folders",
    )
}

fn no_folder() -> io::Error {
    io::Error::new(
        io::ErrorKind::NotADirectory,
        "it is a link, or no folder, and a repository has only files and folders",
    )
}

/// Whether the file system says that it has no hard links.
fn without_links(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::EMLINK))
}

#[cfg(target_os = "linux")]
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this file system has no hard links"))
}

/// Whether two files have the same bytes.
fn same(one: &Path, other: &Path) -> io::Result<bool> {
    let (mut one, mut other) = (open_file(one)?, open_file(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = one.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        other.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

impl Target for FolderTarget {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn whereabouts(&self) -> String {
        let path = self.root.canonicalize().or_else(|_| std::path::absolute(&self.root));
        path.unwrap_or_else(|_| self.root.clone()).display().to_string()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        checked(name)?;
        let mut spool = self.spool()?;
        spool.write(bytes)?;
        self.put_spool(name, spool)
    }

    fn spool(&self) -> Result<Spool> {
        self.same_place()?;
        let folder = self.root.join(TEMPORARY);
        self.make_folder(&folder)?;
        for _ in 0..3 {
            let path = folder.join(Uuid::new_v4().to_string());
            let step = Step::Create(&path);
            let made =
                self.steps.before(step).and_then(|()| OpenOptions::new().write(true).create_new(true).open(&path));
            match made.and_then(|file| self.steps.after(step).map(|()| file)) {
                // Nobody else has that name: the answer is that to a repeated request. `tidy` finds what was made.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => {
                    let file = other.map_err(Self::fail(&path, "create"))?;
                    return Ok(Spool { file, path, size: 0, begun: 0, steps: Arc::clone(&self.steps) });
                }
            }
        }
        Err(Self::fail(&folder, "create a file in")(io::Error::from(io::ErrorKind::AlreadyExists)))
    }

    fn put_spool(&self, name: &str, spool: Spool) -> Result<()> {
        let path = self.path(name)?;
        let folder = path.parent().unwrap_or(&self.root);
        self.same_place()?;
        self.make_folder(folder)?;
        self.steps
            .before(Step::Sync(&spool.path))
            .and_then(|()| spool.file.sync_all())
            .map_err(Self::fail(&spool.path, "sync"))?;
        if !self.link(&spool, &path)? && !same(&spool.path, &path).map_err(Self::fail(&path, "read"))? {
            return Err(Error::Exists(name.to_owned()));
        }
        // Also where another has linked the name: whether that one has synced the folder is not known.
        self.sync_folder(folder)
    }

    fn get(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.get_into(name, range, &mut bytes)?;
        Ok(bytes)
    }

    fn get_into(&self, name: &str, range: Range<u64>, bytes: &mut Vec<u8>) -> Result<()> {
        let path = self.path(name)?;
        let file = self.open(&path, name).map_err(|error| self.missing(error))?;
        let size = file.metadata().map_err(Self::fail(&path, "read"))?.len();
        if range.end > size || range.start > range.end {
            let what = format!("it ends at byte {size}, before {}", range.end);
            return Err(Error::damaged(name, what));
        }
        bytes.resize(usize::try_from(range.end - range.start).unwrap_or(usize::MAX), 0);
        file.read_exact_at(bytes, range.start).map_err(Self::fail(&path, "read"))
    }

    /// A file system reads ahead by itself: larger requests take memory and no less time.
    fn at_once(&self) -> u64 {
        1 << 20
    }

    fn get_all(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let path = self.path(name)?;
        let mut bytes = Vec::new();
        let file = self.open(&path, name).map_err(|error| self.missing(error))?;
        self.same_place()?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Self::fail(&path, "read"))?;
        if bytes.len() as u64 > limit {
            return Err(Error::damaged(name, format!("it is longer than {limit} bytes")));
        }
        Ok(bytes)
    }

    fn list(&self, folder: &str, each: &mut dyn FnMut(Listed) -> Result<()>) -> Result<()> {
        let path = self.path(folder)?;
        self.within(&path)?;
        nfs::refresh(&path);
        let entries = match nfs::again_if_stale(|| self.steps.reading(&path).and_then(|()| fs::read_dir(&path))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.same_place(),
            other => other.map_err(Self::fail(&path, "list"))?,
        };
        for entry in entries {
            let entry = entry.map_err(Self::fail(&path, "list"))?;
            // What was not written by a target cannot be named by one.
            let Some(name) = entry.file_name().to_str().map(|name| format!("{folder}/{name}")) else { continue };
            if checked(&name).is_err() {
                continue;
            }
            let metadata = match nfs::again_if_stale(|| entry.metadata()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(Self::fail(&path, "list"))?,
            };
            if metadata.is_dir() {
                self.list(&name, each)?;
            } else if !metadata.is_file() {
                // To pass it over would be to say that it is not there.
                return Err(Self::fail(&entry.path(), "list")(no_file()));
            } else {
                let written = metadata.modified().map_err(Self::fail(&path, "list"))?;
                each(Listed { name, size: metadata.len(), written })?;
            }
        }
        self.same_place()
    }

    fn delete(&self, names: &[String]) -> Result<()> {
        self.same_place()?;
        let mut folders = std::collections::BTreeSet::new();
        for name in names {
            let path = self.path(name)?;
            self.within(path.parent().unwrap_or(&self.root))?;
            let step = Step::Unlink(&path);
            let gone = self.steps.before(step).and_then(|()| nfs::again_if_stale(|| fs::remove_file(&path)));
            let gone = gone.and_then(|()| self.steps.after(step));
            match gone {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(Self::fail(&path, "delete"))?,
            }
            folders.extend(path.parent().map(Path::to_path_buf));
        }
        folders.iter().filter(|folder| folder.is_dir()).try_for_each(|folder| self.sync_folder(folder))
    }

    fn now(&self) -> Result<SystemTime> {
        let mut spool = self.spool()?;
        // An empty file may keep the time that the client sent; written bytes get that of the server.
        spool.write(b"now")?;
        spool.file.flush().and_then(|()| spool.file.sync_all()).map_err(Self::fail(&spool.path, "sync"))?;
        nfs::refresh(&spool.path);
        let metadata = fs::metadata(&spool.path).map_err(Self::fail(&spool.path, "read"))?;
        metadata.modified().map_err(Self::fail(&spool.path, "read"))
    }

    fn tidy(&self) -> Result<u64> {
        let now = self.now()?;
        let mut old = Vec::new();
        self.list(TEMPORARY, &mut |listed| {
            // Another's file is another's, wherever it lies.
            let ours = listed.name.rsplit('/').next().is_some_and(|name| Uuid::parse_str(name).is_ok());
            if ours && now.duration_since(listed.written).is_ok_and(|age| age > LEFT_BEHIND) {
                old.push(listed.name);
            }
            Ok(())
        })?;
        self.delete(&old)?;
        Ok(old.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_every_promise() {
        let places = tempfile::tempdir().unwrap();
        super::super::suite::every_promise(&|| {
            Arc::new(FolderTarget::new(places.path().join(Uuid::new_v4().to_string()).join("repository")))
        });
    }

    #[test]
    fn no_link_leads_out_of_the_folder() {
        let (place, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(outside.path().join("sub")).unwrap();
        let theirs = [outside.path().join("photo"), outside.path().join("sub").join("notes")];
        let old = SystemTime::now() - 2 * LEFT_BEHIND;
        for file in &theirs {
            fs::write(file, b"theirs").unwrap();
            File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
        }
        for folder in ["temporary", "index", "data", "data/00"] {
            let root = place.path().join(folder.replace('/', "-"));
            let link = root.join(folder);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(outside.path(), &link).unwrap();
            let target = FolderTarget::new(&root);
            assert!(target.tidy().is_err() || folder != "temporary");
            assert!(super::super::listed(&target, folder).is_err(), "{folder}");
            assert!(target.put(&format!("{folder}/aa"), b"x").is_err(), "{folder}");
            assert!(target.get_all(&format!("{folder}/photo"), 10).is_err(), "{folder}");
            assert!(target.delete(&[format!("{folder}/photo")]).is_err(), "{folder}");
            assert!(theirs.iter().all(|file| file.exists()), "{folder}");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2, "{folder}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let place = tempfile::tempdir().unwrap();
        let target = FolderTarget::new(place.path());
        target.put("index/a", b"x").unwrap();
        std::os::unix::fs::symlink("a", place.path().join("index/b")).unwrap();
        assert!(target.get_all("index/b", 10).is_err());
        assert!(super::super::listed(&target, "index").is_err());
        fs::remove_file(place.path().join("index/b")).unwrap();
        let pipe = place.path().join("index/c");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(target.get_all("index/c", 10).is_err() && target.get("index/c", 0..1).is_err());
        assert!(super::super::listed(&target, "index").is_err());
        assert!(target.put("index/c", b"y").is_err());
    }

    #[test]
    fn only_what_a_target_left_is_tidied() {
        let place = tempfile::tempdir().unwrap();
        let target = FolderTarget::new(place.path());
        target.put("index/a", b"x").unwrap();
        let folder = place.path().join(TEMPORARY);
        let (ours, theirs) = (folder.join(Uuid::new_v4().to_string()), folder.join("photo"));
        for file in [&ours, &theirs] {
            fs::write(file, b"").unwrap();
            let old = SystemTime::now() - 2 * LEFT_BEHIND;
            File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
        }
        assert_eq!(target.tidy().unwrap(), 1);
        assert!(theirs.exists() && !ours.exists());
    }

    #[test]
    fn what_others_left_in_the_folder_is_not_listed() {
        let place = tempfile::tempdir().unwrap();
        let target = FolderTarget::new(place.path());
        target.put("index/a", b"x").unwrap();
        for stray in [".nfs000012", "Thumbs.db", "lost+found"] {
            fs::write(place.path().join("index").join(stray), b"").unwrap();
        }
        assert_eq!(super::super::listed(&target, "index").unwrap().len(), 1);
    }
}
