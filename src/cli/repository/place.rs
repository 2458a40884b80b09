//! Which repository a person means, and the file that opens it: what is typed on a command line, and known to that command only.
//!
//! Scripts name repositories of the configuration alone.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use secrecy::{SecretSlice, SecretString};
use zeroize::Zeroize;

use crate::config::Config;
use crate::config::files::{self, Guard};
use crate::door::repository::Stored;
use crate::error::Fault;
use crate::{ops, redact};

/// The largest passphrase or key file.
const LARGEST: usize = 1 << 20;

/// A repository that was typed: a name of the configuration, a folder or `s3://BUCKET/PREFIX`.
#[derive(Debug, Clone)]
pub struct Typed {
    /// What tables and records call it.
    pub name: String,
    text: String,
    key: Option<Key>,
}

/// The file that opens it.
#[derive(Debug, Clone)]
enum Key {
    Passphrase(PathBuf),
    Bytes(PathBuf),
}

/// The flags that name the file which opens a repository.
pub fn with_secret(command: Command) -> Command {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
    };
    command
        .arg(
            file("passphrase-file", "A file whose first line is the repository's passphrase")
                .conflicts_with("key-file"),
        )
        .arg(file("key-file", "A file whose bytes, all of them, open the repository"))
}

/// Reads which repository the argument `argument` means. Faults: those of [`ops::place::locate`].
pub fn typed(matches: &ArgMatches, argument: &str, config: &Config) -> Result<Typed, Fault> {
    let text = matches.get_one::<String>(argument).cloned().unwrap_or_default();
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let key = path("key-file").map(Key::Bytes).or_else(|| path("passphrase-file").map(Key::Passphrase));
    Ok(Typed { name: ops::place::name_of(config, &text)?, text, key })
}

impl Typed {
    /// Where it is kept, and what opens it: what is typed goes before what the configuration says.
    pub fn stored(&self, config: &Config) -> Result<Stored, Fault> {
        let given = match &self.key {
            Some(Key::Bytes(file)) => Some(read(file)?.into()),
            Some(Key::Passphrase(file)) => Some(passphrase(read(file)?, &file.display().to_string())?),
            None => None,
        };
        ops::place::locate(config, &self.text, given)
    }
}

/// A file that a person names by hand may be readable by others: that is the person's to know.
fn read(file: &Path) -> Result<Vec<u8>, Fault> {
    let place = file.display();
    match files::read(file, LARGEST, Guard::Any)? {
        None => Err(Fault::new("backup.key", format!("{place}: there is no such file"))
            .hint("name the file that holds the passphrase or key")),
        Some(bytes) if bytes.is_empty() => {
            Err(Fault::new("backup.key", format!("{place}: is empty")).hint("an empty key would open for anybody"))
        }
        Some(bytes) => Ok(bytes),
    }
}

/// The first line of a file, which is made known as a secret.
fn passphrase(mut bytes: Vec<u8>, place: &str) -> Result<SecretSlice<u8>, Fault> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    bytes.zeroize();
    if line.is_empty() {
        return Err(Fault::new("backup.key", format!("{place}: its first line is empty"))
            .hint("write the passphrase into the first line"));
    }
    if let Ok(text) = std::str::from_utf8(&line) {
        redact::know(&SecretString::from(text), "passphrase of a repository");
    }
    Ok(line.into())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_passphrase_is_the_first_line_and_never_empty() {
        let line = |bytes: &[u8]| passphrase(bytes.to_vec(), "file").map(|line| line.expose_secret().to_vec());
        assert_eq!(line(b"open sesame\r\nnot this").unwrap(), b"open sesame");
        assert_eq!(line(b"correct horse").unwrap(), b"correct horse");
        for empty in [&b""[..], b"\n", b"\r\nsecond"] {
            assert_eq!(line(empty).unwrap_err().kind(), "backup.key");
        }
    }
}
