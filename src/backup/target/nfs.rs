//! What is different where a folder is mounted over NFS, and what a target does about it.
//!
//! The client repeats a request whose answer was lost. So a `link`, `mkdir` or `unlink` that took place may answer that the name exists,
//! or that it does not: whether the name leads to the very file that was to be named is what counts, not the answer. A handle may be
//! stale (ESTALE) where another client replaced what it led to: the name is looked up anew. What a client knows of a folder may be half
//! a minute old: before a folder is listed, and before a name is believed to be missing, the server is asked, for the order of names is
//! what keeps a prune and a writer apart. A file that is deleted while it is open stays as `.nfs…`, which no list shows.

use std::fs::File;
use std::io;
use std::path::Path;

/// How often a stale handle is looked up anew.
const LOOKUPS: u32 = 4;

/// Does something again where a handle was stale.
pub(super) fn again_if_stale<T>(mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..LOOKUPS {
        match act() {
            Err(error) if is_stale(&error) => {}
            other => return other,
        }
    }
    act()
}

pub(super) fn is_stale(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ESTALE)
}

/// Makes the client ask the server what a folder holds now, instead of what it knew.
///
/// Where that is not possible the folder is as fresh as its mount makes it; a folder that is gone is told by what comes next.
pub(super) fn refresh(folder: &Path) {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
        let _told_by_what_comes_next = statx(CWD, folder, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = folder;
}

/// Whether a name leads to this open file.
pub(super) fn leads_to(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(named), Ok(open)) = (again_if_stale(|| std::fs::symlink_metadata(path)), file.metadata()) else {
        return false;
    };
    named.dev() == open.dev() && named.ino() == open.ino()
}

/// Whether a file system says that it cannot sync a folder. Then its own order of writes is all that there is.
pub(super) fn cannot_sync_folders(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::super::{FolderTarget, Step, Steps, Target, listed};
    use super::*;
    use crate::backup::error::Error;

    /// A mount on which every answer to a change is lost, and the repeated request gets this error; and on which the first reads are stale.
    struct Mount {
        errors: Mutex<Vec<i32>>,
        stale: AtomicU32,
        creates: AtomicU32,
        links_rename: bool,
    }

    impl Mount {
        fn new(error: i32) -> Arc<Self> {
            Arc::new(Self {
                errors: Mutex::new(vec![error]),
                stale: AtomicU32::new(0),
                creates: AtomicU32::new(0),
                links_rename: false,
            })
        }
    }

    impl Steps for Mount {
        fn before(&self, step: Step<'_>) -> io::Result<()> {
            match step {
                Step::Link(..) if self.links_rename => Err(io::Error::from_raw_os_error(libc::EPERM)),
                _ => Ok(()),
            }
        }

        fn after(&self, step: Step<'_>) -> io::Result<()> {
            let error = self.errors.lock().unwrap().first().copied();
            let repeated = match step {
                // Each answers as the server does to a request that it has carried out before.
                Step::Folder(_) => Some(libc::EEXIST),
                // Not each time: a file that could never be made is an error.
                Step::Create(_) => {
                    self.creates.fetch_add(1, Ordering::SeqCst).is_multiple_of(2).then_some(libc::EEXIST)
                }
                Step::Unlink(_) => Some(libc::ENOENT),
                Step::Link(..) => error,
                _ => None,
            };
            repeated.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
        }

        fn reading(&self, _: &Path) -> io::Result<()> {
            let stale = self.stale.load(Ordering::SeqCst);
            if stale > 0 {
                self.stale.store(stale - 1, Ordering::SeqCst);
                return Err(io::Error::from_raw_os_error(libc::ESTALE));
            }
            Ok(())
        }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("repository");
        (folder, path)
    }

    #[test]
    fn a_name_that_was_made_counts_whatever_the_repeated_request_is_told() {
        for error in [libc::EEXIST, libc::ENOENT, libc::ESTALE, libc::EIO] {
            let (_folder, path) = place();
            let target = FolderTarget::with_steps(&path, Mount::new(error));
            target.put("data/00/aa", b"bytes").unwrap();
            assert_eq!(target.get_all("data/00/aa", 9).unwrap(), b"bytes");
            // Another file of that name stays what it is.
            assert!(matches!(target.put("data/00/aa", b"other"), Err(Error::Exists(_))));
            target.put("data/00/aa", b"bytes").unwrap();
            target.delete(&["data/00/aa".to_owned()]).unwrap();
            assert!(target.get_all("data/00/aa", 9).unwrap_err().is_missing());
        }
    }

    #[test]
    fn the_same_holds_where_names_are_made_by_renaming() {
        for error in [libc::EEXIST, libc::ENOENT] {
            let (_folder, path) = place();
            let mount = Mount {
                errors: Mutex::new(vec![error]),
                stale: AtomicU32::new(0),
                creates: AtomicU32::new(0),
                links_rename: true,
            };
            let target = FolderTarget::with_steps(&path, Arc::new(mount));
            target.put("config", b"bytes").unwrap();
            assert_eq!(target.get_all("config", 9).unwrap(), b"bytes");
        }
    }

    #[test]
    fn an_error_without_a_name_is_an_error() {
        struct Refusing;
        impl Steps for Refusing {
            fn before(&self, step: Step<'_>) -> io::Result<()> {
                match step {
                    Step::Link(..) => Err(io::Error::from_raw_os_error(libc::ESTALE)),
                    _ => Ok(()),
                }
            }
        }
        let (_folder, path) = place();
        let target = FolderTarget::with_steps(&path, Arc::new(Refusing));
        assert!(matches!(target.put("config", b"bytes"), Err(Error::Io { .. })));
        assert!(target.get_all("config", 9).unwrap_err().is_missing());
    }

    #[test]
    fn stale_handles_are_looked_up_anew() {
        let (_folder, path) = place();
        FolderTarget::new(&path).put("index/a", b"bytes").unwrap();
        let mount = Mount::new(libc::EEXIST);
        let target = FolderTarget::with_steps(&path, Arc::clone(&mount) as Arc<dyn Steps>);
        for stale in 0..LOOKUPS {
            mount.stale.store(stale, Ordering::SeqCst);
            assert_eq!(target.get_all("index/a", 9).unwrap(), b"bytes");
            mount.stale.store(stale, Ordering::SeqCst);
            assert_eq!(target.get("index/a", 1..3).unwrap(), b"yt");
            mount.stale.store(stale, Ordering::SeqCst);
            assert_eq!(listed(&target, "index").unwrap().len(), 1);
        }
        mount.stale.store(u32::MAX, Ordering::SeqCst);
        assert!(matches!(target.get_all("index/a", 9), Err(Error::Io { .. })), "a mount that stays stale is an error");
    }
}
