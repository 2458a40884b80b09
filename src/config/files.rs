//! Files of the configuration on disk: read with a bound, written whole or not at all.
//!
//! A file is opened without following what could block (a pipe, a device) and refused when another user could have written it.
//! What holds secrets or hosts is written with mode 0600 under a temporary name in the same folder, synced, and renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::error::Fault;

/// Who may have written or read a file for it to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Anybody: the administrator's file, or one that was named on purpose.
    Any,
    /// Owned by this user or by root, and not writable by everybody.
    Owned,
    /// Owned by this user or by root, and not readable or writable by anybody else (mode 0600 or tighter).
    Secret,
}

/// Reads a regular file of at most `limit` bytes; `None` where there is none.
///
/// Faults: `config.unreadable`, `config.too_large`, `config.untrusted_file`.
pub fn read(path: &Path, limit: usize, guard: Guard) -> Result<Option<Vec<u8>>, Fault> {
    let place = path.display();
    let unreadable = |error: io::Error| {
        Fault::new("config.unreadable", format!("{place} could not be read: {error}"))
            .hint("correct the file's permissions, or move it away")
            .cause(error)
    };
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY);
    }
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error)),
    };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Fault::new("config.unreadable", format!("{place} is not a regular file"))
            .hint("a configuration file is an ordinary file"));
    }
    guarded(&metadata, path, guard)?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > limit {
        return Err(Fault::new(
            "config.too_large",
            format!("{place} is larger than {}", crate::units::Bytes(limit as u64)),
        )
        .hint("is this the right file?"));
    }
    Ok(Some(bytes))
}

#[cfg(unix)]
fn guarded(metadata: &fs::Metadata, path: &Path, guard: Guard) -> Result<(), Fault> {
    use std::os::unix::fs::MetadataExt as _;
    let place = path.display();
    let refuse = |what: String, hint: String| Err(Fault::new("config.untrusted_file", what).hint(hint));
    if guard == Guard::Any {
        return Ok(());
    }
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me && metadata.uid() != 0 {
        return refuse(
            format!("{place} belongs to another user (uid {}), so it is not used", metadata.uid()),
            format!(
                "if you trust it, take it over with `chown $(id -u) {place}`; a project's file may also be named with CESO_PROJECT"
            ),
        );
    }
    let mode = metadata.mode() & 0o777;
    if guard == Guard::Secret && mode & 0o077 != 0 {
        return refuse(
            format!("{place} holds a secret, but others can read it (mode {mode:04o})"),
            format!("`chmod 600 {place}`"),
        );
    }
    if mode & 0o002 != 0 {
        return refuse(
            format!("{place} can be written by everybody (mode {mode:04o}), so it is not used"),
            format!("`chmod o-w {place}`"),
        );
    }
    Ok(())
}

#[cfg(not(unix))]
fn guarded(_: &fs::Metadata, _: &Path, _: Guard) -> Result<(), Fault> {
    Ok(())
}

/// Writes a file that only this user can read, whole or not at all. Its folder is made (mode 0700) where it is missing.
///
/// Faults: `config.unwritable`.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), Fault> {
    let unwritable = |error: io::Error| unwritable(path, error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_private_folder(folder)?;
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder).map_err(unwritable)?;
    file.write_all(content).map_err(unwritable)?;
    file.as_file().sync_all().map_err(unwritable)?;
    file.persist(path).map_err(|error| unwritable(error.error))?;
    #[cfg(unix)]
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritable)?;
    Ok(())
}

/// Takes a file away from everybody but this user.
pub fn make_private(path: &Path) -> Result<(), Fault> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(|error| unwritable(path, error))?;
    }
    Ok(())
}

/// Makes a folder that only this user can enter, and those above it.
pub fn make_private_folder(folder: &Path) -> Result<(), Fault> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(folder).map_err(|error| unwritable(folder, error))
}

/// Removes a file; whether there was one.
pub fn remove(path: &Path) -> Result<bool, Fault> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(unwritable(path, error)),
    }
}

/// Holds a lock on `path` (made where it is missing) until the returned file is dropped: two commands change a file one after
/// the other.
pub fn lock(path: &Path) -> Result<File, Fault> {
    if let Some(folder) = path.parent() {
        make_private_folder(folder)?;
    }
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(path).map_err(|error| unwritable(path, error))?;
    file.lock().map_err(|error| unwritable(path, error))?;
    Ok(file)
}

fn unwritable(path: &Path, error: io::Error) -> Fault {
    Fault::new("config.unwritable", format!("{} could not be written: {error}", path.display()))
        .hint("correct the folder's permissions or free space, or choose another folder with CESO_HOME")
        .cause(error)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_private_file_is_written_whole_with_mode_0600() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/deep/secret");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(folder.path().join("new")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        fs::write(&path, "x").unwrap();
        for (mode, fits) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o666, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path, 10, Guard::Secret).is_ok(), fits, "{mode:o}");
        }
    }

    #[test]
    fn a_pipe_a_folder_and_a_device_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let status = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(status.success());
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            assert_eq!(read(path, 10, Guard::Any).unwrap_err().kind(), "config.unreadable", "{}", path.display());
        }
        assert!(read(&folder.path().join("none"), 10, Guard::Secret).unwrap().is_none());
    }
}
