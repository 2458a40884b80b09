//! The file in which a session outlives the command that opened it.
//!
//! It holds a session cookie, which is as good as a password for half an hour: mode 0600, written whole and renamed, read only when it
//! belongs to this user and to nobody else. A file that is damaged, foreign or open to others is no session, and is replaced.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::content::ServiceContent;
use super::error::Error;
use super::version;

/// The newest form of the file. A file of another form is foreign.
const FORMAT: u32 = 2;

/// The most that is read of a session file, in bytes.
const LIMIT: u64 = 64 << 10;

/// All that a warm start needs so that its first request can be the one that matters.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    pub format: u32,
    pub url: String,
    pub trust: String,
    pub username: String,
    /// The datacenter that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacenter: Option<String>,
    pub version: String,
    pub cookie: String,
    pub content: ServiceContent,
}

impl Kept {
    pub(super) const FORMAT: u32 = FORMAT;
}

/// Where a kept session lies, and what it must match to be used.
#[derive(Clone)]
pub(super) struct SessionFile {
    pub path: PathBuf,
    pub url: String,
    pub trust: String,
    pub username: Option<String>,
    pub datacenter: Option<String>,
}

impl SessionFile {
    /// Reads the kept session. `Ok(None)`: there is none. `Err`: there is one that must not be used, and why.
    pub(super) fn read(&self) -> Result<Option<Kept>, String> {
        let file = match open_private(&self.path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(None),
            Err(reason) => return Err(reason),
        };
        let mut text = String::new();
        match file.take(LIMIT + 1).read_to_string(&mut text) {
            Ok(read) if read as u64 > LIMIT => return Err("it is too large".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        // The parser's message could quote the file, and the file holds a cookie.
        let kept: Kept = serde_json::from_str(&text).map_err(|_| "it is damaged or of another version".to_owned())?;
        if kept.format != FORMAT || !version::is_known(&kept.version) {
            return Err("it was written by another version of ceso".to_owned());
        }
        if kept.url != self.url {
            return Err("it belongs to another address".to_owned());
        }
        if kept.trust != self.trust {
            return Err("the host's trust has changed since".to_owned());
        }
        if self.username.as_ref().is_some_and(|username| *username != kept.username) {
            return Err("it belongs to another user".to_owned());
        }
        if kept.datacenter != self.datacenter {
            return Err("it is about another datacenter".to_owned());
        }
        if kept.content.is_vcenter() && kept.content.datacenter.is_none() {
            return Err("it does not say which datacenter it is about".to_owned());
        }
        if kept.cookie.is_empty() || kept.cookie.chars().any(|c| !c.is_ascii_graphic() || c == ';') {
            return Err("it is damaged".to_owned());
        }
        Ok(Some(kept))
    }

    /// Writes the session, whole or not at all.
    pub(super) fn write(&self, kept: &Kept) -> Result<(), Error> {
        let failed = |error: &dyn std::fmt::Display| Error::SessionFile {
            path: self.path.display().to_string(),
            reason: error.to_string(),
        };
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_private_folder(folder).map_err(|error| failed(&error))?;
        let text = serde_json::to_string(kept).map_err(|error| failed(&error))?;
        // A named temporary file is made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
        file.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
        file.persist(&self.path).map_err(|error| failed(&error.error))?;
        Ok(())
    }

    /// Notes that the session was used just now: the file's time of change is that of the last contact.
    pub(super) fn touch(&self) -> std::io::Result<()> {
        match open_private(&self.path) {
            Ok(Some(file)) => file.set_modified(std::time::SystemTime::now()),
            Ok(None) => Ok(()),
            Err(reason) => Err(std::io::Error::other(reason)),
        }
    }

    /// Removes the file; a file that is not there is as good.
    pub(super) fn remove(&self) -> Result<(), Error> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::SessionFile { path: self.path.display().to_string(), reason: error.to_string() })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(unix)]
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}

#[cfg(unix)]
fn open_private(path: &Path) -> Result<Option<std::fs::File>, String> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = match std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a plain file".to_owned());
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user of this machine".to_owned());
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(format!("others may read it (mode {:04o}; it must be 0600)", metadata.mode() & 0o7777));
    }
    Ok(Some(file))
}

#[cfg(not(unix))]
fn open_private(path: &Path) -> Result<Option<std::fs::File>, String> {
    match std::fs::File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &tempfile::TempDir) -> SessionFile {
        SessionFile {
            path: folder.path().join("deep/er/session.json"),
            url: "https://h/sdk".into(),
            trust: "system".into(),
            username: None,
            datacenter: None,
        }
    }

    fn kept() -> Kept {
        Kept {
            format: FORMAT,
            url: "https://h/sdk".into(),
            trust: "system".into(),
            username: "root".into(),
            datacenter: None,
            version: "8.0.3.0".into(),
            cookie: "\"abc\"".into(),
            content: ServiceContent::default(),
        }
    }

    #[test]
    fn a_session_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder);
        assert!(matches!(place.read(), Ok(None)));
        place.write(&kept()).unwrap();
        place.write(&kept()).unwrap();
        assert!(place.read().unwrap().unwrap() == kept());
        place.remove().unwrap();
        place.remove().unwrap();
        assert!(matches!(place.read(), Ok(None)));
    }

    #[cfg(unix)]
    #[test]
    fn a_session_that_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder);
        place.write(&kept()).unwrap();
        assert_eq!(std::fs::metadata(&place.path).unwrap().permissions().mode() & 0o7777, 0o600);
        std::fs::set_permissions(&place.path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(place.read().err().unwrap().contains("0640"));
        std::fs::remove_file(&place.path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &place.path).unwrap();
        assert!(place.read().is_err());
    }

    #[test]
    fn a_damaged_or_foreign_session_is_not_used_and_never_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder);
        let good = kept();
        place.write(&good).unwrap();
        let text = std::fs::read_to_string(&place.path).unwrap();
        for wrong in [
            "",
            "{}",
            "\u{1}\u{2}",
            &text[..text.len() / 2],
            &text.replace("\\\"abc\\\"", "secret\\r\\nX: y"),
            &text.replace("8.0.3.0", "4.0"),
            &text.replace("https://h/sdk", "https://evil/sdk"),
            &text.replace("\"system\"", "\"AB:CD\""),
            &text.replace("\"format\":2", "\"format\":3"),
            &"[".repeat(100_000),
        ] {
            std::fs::write(&place.path, wrong).unwrap();
            let reason = place.read().err().unwrap_or_else(|| panic!("{wrong}"));
            assert!(!reason.contains("abc") && !reason.contains("secret"), "{reason}");
        }
        place.write(&good).unwrap();
        let other = SessionFile { datacenter: Some("DC1".into()), ..place.clone() };
        assert!(other.read().err().unwrap().contains("another datacenter"));
        let other = SessionFile { username: Some("admin".into()), ..place.clone() };
        assert!(other.read().is_err());
    }
}
