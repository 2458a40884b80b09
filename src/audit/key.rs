//! The key pair beside the log: `audit.key` (mode 0600) signs its checkpoints, `audit.pub` checks them.
//!
//! Both files hold 64 hex digits and a line feed. They are made at the first use. The secret half never leaves this room: it is in no
//! error, and its type prints nothing of it.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::Error;
use super::line;

/// What every signed text begins with, so that it is the signature of nothing else.
const DOMAIN: &[u8] = b"ceso audit checkpoint 1\0";

/// The key that signs.
pub(super) struct Key(SigningKey);

/// The key that checks. Shown in hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&line::hex(self.0.as_bytes())).unwrap_or_default())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PublicKey {
    /// The file of the public key beside a log: `audit.pub` for `audit.json`.
    pub fn beside(log: &Path) -> PathBuf {
        log.with_extension("pub")
    }

    /// Reads a public key's file.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let bytes = read(file).map_err(|error| Error::key(file, error))?;
        let bytes = bytes.ok_or_else(|| Error::key(file, "it is missing"))?;
        let key = hex_line(&bytes).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
        key.map(Self).ok_or_else(|| Error::key(file, "it holds no public key (64 hex digits)"))
    }

    /// A short name for people to compare: the first 16 digits of the key's SHA-256.
    pub fn fingerprint(&self) -> String {
        let hash: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
        line::Hash(hash).to_string().chars().take(16).collect()
    }

    pub(super) fn verifies(&self, message: &[u8; 32], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(&text(message), &Signature::from_bytes(signature)).is_ok()
    }
}

impl Key {
    /// Reads the key beside a log. Where there is none it is made, unless the log is there already (`begun`): what was signed by a key
    /// that is gone must not be gone on with under another.
    ///
    /// The caller holds the lock on the log, so nobody else makes one meanwhile.
    pub(super) fn beside(log: &Path, begun: bool) -> Result<Self, Error> {
        let (secret, public) = (log.with_extension("key"), PublicKey::beside(log));
        let key = match read(&secret).map_err(|error| Error::key(&secret, error))? {
            Some(bytes) => {
                guarded(&secret)?;
                let seed = hex_line(&bytes).map(Zeroizing::new);
                Self(SigningKey::from_bytes(
                    &*seed.ok_or_else(|| Error::key(&secret, "it holds no key (64 hex digits)"))?,
                ))
            }
            None if begun => return Err(Error::key(&secret, "it is missing, and the log was begun with it")),
            None => {
                let mut seed = Zeroizing::new([0; 32]);
                std::fs::File::open("/dev/urandom")
                    .and_then(|mut random| random.read_exact(&mut *seed))
                    .map_err(|error| Error::key(&secret, format!("there are no random numbers: {error}")))?;
                let digits = Zeroizing::new(line::hex(&seed));
                make(&secret, 0o600, &*digits)?;
                Self(SigningKey::from_bytes(&seed))
            }
        };
        let own = key.public();
        if !public.exists() {
            make(&public, 0o644, own.to_string().as_bytes())?;
        } else if PublicKey::read(&public)? != own {
            return Err(Error::key(&public, format!("it is not the public half of {}", secret.display())));
        }
        Ok(key)
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(super) fn sign(&self, message: &[u8; 32]) -> [u8; 64] {
        self.0.sign(&text(message)).to_bytes()
    }
}

fn text(message: &[u8; 32]) -> Vec<u8> {
    [DOMAIN, message].concat()
}

fn hex_line(bytes: &[u8]) -> Option<[u8; 32]> {
    line::unhex(bytes.strip_suffix(b"\n").unwrap_or(bytes))
}

fn read(file: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    let opened = match OpenOptions::new().read(true).custom_flags(flags).open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !opened.metadata()?.is_file() {
        return Err(io::Error::other("it is no ordinary file"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(128));
    opened.take(100).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn guarded(file: &Path) -> Result<(), Error> {
    let metadata = std::fs::symlink_metadata(file).map_err(|error| Error::key(file, error))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::key(file, format!("it belongs to another user (uid {})", metadata.uid())));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Error::key(file, format!("others can read it (mode {:04o})", metadata.mode() & 0o7777)));
    }
    Ok(())
}

/// Makes a file that is not there, whole or not at all.
fn make(file: &Path, mode: u32, digits: &[u8]) -> Result<(), Error> {
    let failed = |error: io::Error| Error::unwritable(file, error);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    new.write_all(digits).and_then(|()| new.write_all(b"\n")).map_err(failed)?;
    new.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    new.as_file().sync_all().map_err(failed)?;
    new.persist_noclobber(file).map_err(|error| failed(error.error))?;
    Ok(())
}
