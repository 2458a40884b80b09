//! The second copy of `config`: without that file nothing of a repository can be read, so it is there twice.
//!
//! The copy is written after `config` and is never asked where `config` can be read. Whoever replaces one of the two has made sure of the other before.

use super::error::{Error, Result};
use super::format::{CONFIG, LARGEST_CONFIG, config_of, is_lost};
use super::target::Target;

/// `config` once more, byte for byte.
pub(super) const CONFIG_COPY: &str = "config-copy";

/// How one of the two files compares with the config that the repository was opened with.
pub(super) enum Held {
    Same,
    Missing,
    /// It has other bytes, and what is wrong with them.
    Other(String),
}

/// Looks at one of the two files.
pub(super) fn held(target: &dyn Target, file: &str, bytes: &[u8]) -> Result<Held> {
    match target.get_all(file, LARGEST_CONFIG) {
        Ok(found) if found == bytes => Ok(Held::Same),
        Ok(found) => Ok(Held::Other(match config_of(target, file, &found) {
            Err(Error::Damaged { what, .. }) => what,
            _ => "it is not the one that the repository was opened with".to_owned(),
        })),
        Err(error) if error.is_missing() => Ok(Held::Missing),
        Err(Error::Damaged { what, .. }) => Ok(Held::Other(what)),
        Err(error) if is_lost(&error) => Ok(Held::Other(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Writes of the two files what is missing, as every command that writes does: repositories were made without the copy once.
pub(super) fn fill(target: &dyn Target, bytes: &[u8]) -> Result<()> {
    for file in [CONFIG_COPY, CONFIG] {
        match held(target, file, bytes)? {
            Held::Same => {}
            Held::Missing => write(target, file, bytes)?,
            Held::Other(what) => tracing::warn!("{}: {file}: {what}: repair the repository", target.place()),
        }
    }
    Ok(())
}

/// Makes the two files what they should be. Returns those that it wrote. What a lock keeps stays, and a check names it.
pub(super) fn mend(target: &dyn Target, bytes: &[u8]) -> Result<Vec<String>> {
    let mut written = Vec::new();
    // The copy first: where `config` is replaced, the copy is whole. Where the copy is, `config` is, or neither was.
    for file in [CONFIG_COPY, CONFIG] {
        match held(target, file, bytes)? {
            Held::Same => continue,
            Held::Missing => {}
            Held::Other(_) => match target.delete(&[file.to_owned()]) {
                Err(Error::Locked { .. }) => continue,
                other => other?,
            },
        }
        write(target, file, bytes)?;
        written.push(file.to_owned());
    }
    Ok(written)
}

/// Writes one of the two files, and reads it back.
pub(super) fn write(target: &dyn Target, file: &str, bytes: &[u8]) -> Result<()> {
    target.put(file, bytes)?;
    match held(target, file, bytes)? {
        Held::Same => Ok(()),
        Held::Missing => Err(Error::Missing(file.to_owned())),
        Held::Other(what) => Err(Error::damaged(file, what)),
    }
}
