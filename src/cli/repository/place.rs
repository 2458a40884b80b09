//! Which repository a person means, and the file that opens it: what is typed on a command line, and known to that command only.
//!
//! Scripts name repositories of the configuration alone.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::config::Config;
use crate::door::repository::Stored;
use crate::error::Fault;
use crate::ops::{self, place::SecretFile};

/// A repository that was typed: a name of the configuration, a folder or `s3://BUCKET/PREFIX`.
#[derive(Debug, Clone)]
pub struct Typed {
    /// What tables and records call it.
    pub name: String,
    text: String,
    key: Option<SecretFile>,
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

/// The flags that name the file with another secret: of `purpose`, with names that begin so.
pub fn with_other_secret(command: Command, prefix: &'static str, of: &'static str) -> Command {
    let file = |name: String, help: String| {
        Arg::new(name.clone()).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
    };
    let (passphrase, key) = (format!("{prefix}-passphrase-file"), format!("{prefix}-key-file"));
    command
        .arg(file(passphrase, format!("A file whose first line is the passphrase of {of}")).conflicts_with(key.clone()))
        .arg(file(key, format!("A file whose bytes, all of them, are the key of {of}")))
}

/// Reads which repository the argument `argument` means. Faults: those of [`ops::place::locate`].
pub fn typed(matches: &ArgMatches, argument: &str, config: &Config) -> Result<Typed, Fault> {
    opened_by(matches, argument, ("passphrase-file", "key-file"), config)
}

/// Reads which second repository the argument `argument` means, and what opens it by the flags of [`with_other_secret`].
pub fn other(matches: &ArgMatches, argument: &str, prefix: &str, config: &Config) -> Result<Typed, Fault> {
    let (passphrase, key) = (format!("{prefix}-passphrase-file"), format!("{prefix}-key-file"));
    opened_by(matches, argument, (&passphrase, &key), config)
}

fn opened_by(matches: &ArgMatches, argument: &str, flags: (&str, &str), config: &Config) -> Result<Typed, Fault> {
    let text = matches.get_one::<String>(argument).cloned().unwrap_or_default();
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    let key = path(flags.1).map(SecretFile::Bytes).or_else(|| path(flags.0).map(SecretFile::Passphrase));
    Ok(Typed { name: ops::place::name_of(config, &text)?, text, key })
}

impl Typed {
    /// Where it is kept, and what opens it: what is typed goes before what the configuration says.
    pub fn stored(&self, config: &Config) -> Result<Stored, Fault> {
        let given = self.key.as_ref().map(SecretFile::read).transpose()?;
        ops::place::locate(config, &self.text, given)
    }
}
