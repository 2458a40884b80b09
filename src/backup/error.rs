//! What can go wrong in a repository, and how each is told at the door.
//!
//! A damaged file is always named by its name in the repository, so that a person can look at it.

use std::io;

use super::room::Lack;
use crate::error::Fault;
use crate::vmdk;

/// Why an operation on a repository did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{file}: is damaged: {what}")]
    Damaged { file: String, what: String },
    #[error("{0}: is not there")]
    Missing(String),
    #[error("{0}: exists with other content")]
    Exists(String),
    #[error("{place}: cannot {doing}: {source}")]
    Io { place: String, doing: &'static str, source: io::Error },
    /// Where a disk is restored to, not in the repository.
    #[error("{place}: {why}")]
    NoRoom { place: String, why: Lack },
    #[error("{place}: {count} files are locked against deletion, such as {file}")]
    Locked { place: String, file: String, count: usize },
    #[error("{0}: is not a repository")]
    NotARepository(String),
    #[error(
        "{place}: holds files of a repository, such as {file}, but its file `config` is gone, and there is no whole copy of it"
    )]
    NoConfig { place: String, file: String },
    #[error("{0}: is a repository already")]
    AlreadyARepository(String),
    #[error("{place}: is of a newer kind: {what}")]
    Newer { place: String, what: String },
    #[error("{0}")]
    Key(String),
    #[error("{file}: is encrypted with the master key {key}, which this key file does not hold")]
    UnknownMaster { file: String, key: String },
    #[error("the repository lacks {what}")]
    Lost { what: String },
    #[error("a prune has deleted what this backup needed: {0}")]
    Raced(String),
    #[error("prunes moved things each time that {0} looked")]
    Moving(String),
    #[error("{0}")]
    Option(String),
    #[error("{place}: cannot be read: {source}")]
    Source { place: String, source: io::Error },
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Vmdk(#[from] vmdk::Error),
    #[error("the work was stopped before its end; what was safe before is as it was")]
    Stopped,
}

/// What an operation on a repository gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(super) fn damaged(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), what: what.into() }
    }

    /// Wraps an error of the operating system: "PLACE: cannot DOING: …".
    pub(super) fn io(place: impl Into<String>, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { place: place.into(), doing, source }
    }

    /// Whether the file that was asked for does not exist.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }

    /// Whether this says that bytes of the repository are not what they were, or are gone.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing(_) | Self::Lost { .. } | Self::UnknownMaster { .. })
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let full = matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull);
        let (kind, hint, retry) = match &error {
            Error::Damaged { .. } | Error::Lost { .. } => (
                "backup.damaged",
                "check the repository with --read-data, then repair it; other backups may be whole",
                false,
            ),
            Error::Missing(_) => ("backup.missing", "list the backups; check the repository", false),
            Error::Exists(_) => {
                ("backup.exists", "nothing was overwritten: choose another name, or look what is there", false)
            }
            Error::AlreadyARepository(_) => {
                ("backup.exists", "open it with the key that it has; nothing was changed", false)
            }
            Error::NoConfig { .. } => (
                "backup.no_config",
                "bring `config` or `config-copy` back from a copy of this place: it is small, never changes, and its keys open nothing without it; nothing was changed",
                false,
            ),
            Error::NoRoom { .. } => (
                "backup.no_room",
                "make room where the disk is restored to, or restore it to another place; the repository is whole",
                false,
            ),
            Error::Io { .. } if full => {
                ("backup.full", "make room in the repository's place and run it again: nothing is lost", true)
            }
            Error::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => (
                "backup.denied",
                "look at the keys or the account that the place is reached with, and at its rights",
                false,
            ),
            Error::Locked { .. } => ("backup.locked", "they go when their lock has ended: run it again then", false),
            Error::Io { source, .. } => {
                ("backup.target", "see whether the place can be reached and written", may_pass(source))
            }
            Error::NotARepository(_) => ("backup.not_a_repository", "initialise it first, or look at the path", false),
            Error::Newer { .. } => ("backup.newer", "use the ceso that made it, or a newer one", false),
            Error::UnknownMaster { .. } => (
                "backup.key",
                "open it with the newest key; if this is the newest, the file is damaged: check the repository",
                false,
            ),
            Error::Key(_) => ("backup.key", "give the passphrase or key file that the repository was made with", false),
            Error::Raced(_) => ("backup.raced", "run the backup again", true),
            Error::Moving(_) => ("backup.moving", "run it again when they have ended", true),
            Error::Option(_) => ("backup.option", "see the command's --help", false),
            Error::Vmdk(error) => error.told(),
            Error::Source { source, .. } => vmdk_inside(source)
                .map_or(("backup.source", "see whether the disk can be read", may_pass(source)), vmdk::Error::told),
            Error::Stopped => ("backup.stopped", "run it again when there is time", true),
            Error::Refused(_) => (
                "backup.refused",
                "say --yes where it is meant; --dry-run shows what a forget or a prune would do",
                false,
            ),
        };
        let fault = Fault::new(kind, message).hint(hint).cause(error);
        if retry { fault.retry() } else { fault }
    }
}

/// Whether an error of the operating system may be another at the next try.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    !matches!(
        error.kind(),
        InvalidInput | IsADirectory | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem
    )
}

/// The error of a virtual disk's file that came through the interface of files.
fn vmdk_inside(error: &io::Error) -> Option<&vmdk::Error> {
    error.get_ref()?.downcast_ref()
}
