//! What goes wrong with an audit log, and what to do about it.

use std::path::{Path, PathBuf};

use crate::error::Fault;

/// Why the log could not be opened, written or read. Kept by value: one failure is told to everybody who waited for the same write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file or its folder cannot be written: permissions, no space, a failed sync.
    #[error("the audit log {} cannot be written: {reason}", file.display())]
    Unwritable { file: PathBuf, reason: String },
    /// The file is nothing that may be trusted: a link, a pipe, a folder, another user's, open to others.
    #[error("the audit log {} is not used: {reason}", file.display())]
    Untrusted { file: PathBuf, reason: String },
    /// What stands in the file is not the log that was written.
    #[error("the audit log {} is damaged: the line at byte {offset}: {reason}", file.display())]
    Damaged { file: PathBuf, offset: u64, reason: String },
    /// The file is another program's, or a newer ceso's.
    #[error("{} is no audit log that this ceso can go on with: {reason}", file.display())]
    Format { file: PathBuf, reason: String },
    /// The key that signs, or the one that checks, cannot be used.
    #[error("the audit log's key {} cannot be used: {reason}", file.display())]
    Key { file: PathBuf, reason: String },
    /// The file cannot be read.
    #[error("the audit log {} cannot be read: {reason}", file.display())]
    Unreadable { file: PathBuf, reason: String },
    /// There is no log.
    #[error("there is no audit log {}", file.display())]
    Missing { file: PathBuf },
    /// The log was closed before the event came.
    #[error("the audit log {} is closed already", file.display())]
    Closed { file: PathBuf },
}

impl Error {
    pub(super) fn unwritable(file: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Unwritable { file: file.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn untrusted(file: &Path, reason: impl Into<String>) -> Self {
        Self::Untrusted { file: file.to_owned(), reason: reason.into() }
    }

    /// The log's file could not be opened for reading.
    pub(super) fn unopened(file: &Path, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::Missing { file: file.to_owned() },
            _ => Self::unreadable(file, error),
        }
    }

    pub(super) fn unreadable(file: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Unreadable { file: file.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn damaged(file: &Path, offset: u64, reason: String) -> Self {
        Self::Damaged { file: file.to_owned(), offset, reason }
    }

    pub(super) fn format(file: &Path, reason: impl Into<String>) -> Self {
        Self::Format { file: file.to_owned(), reason: reason.into() }
    }

    pub(super) fn key(file: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Key { file: file.to_owned(), reason: reason.to_string() }
    }

    /// The kind of the fault that this becomes.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unwritable { .. } => "audit.unwritable",
            Self::Untrusted { .. } => "audit.untrusted_file",
            Self::Damaged { .. } => "audit.damaged",
            Self::Format { .. } => "audit.format",
            Self::Key { .. } => "audit.key",
            Self::Unreadable { .. } => "audit.unreadable",
            Self::Missing { .. } => "audit.missing",
            Self::Closed { .. } => "audit.closed",
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Unwritable { .. } => {
                "free space or correct the permissions, or name another file as security.audit_log; without the log nothing is changed"
                    .to_owned()
            }
            Self::Untrusted { file, .. } => format!(
                "the log is an ordinary file of your own that nobody else may write (`chmod 600 {}`); security.audit_log names it",
                file.display()
            ),
            Self::Damaged { .. } => {
                "`ceso audit verify` says what is wrong; `ceso audit set-aside` moves the log away, unchanged, and begins a new one"
                    .to_owned()
            }
            Self::Format { .. } => "move the file away, or name another one as security.audit_log".to_owned(),
            Self::Key { .. } => {
                "put the key back (mode 0600); where it is lost, `ceso audit set-aside` moves the log away and begins a new one with a new key"
                    .to_owned()
            }
            Self::Unreadable { .. } => "correct the permissions of the file".to_owned(),
            Self::Missing { .. } => {
                "nothing was recorded in it yet, or security.audit_log names another file".to_owned()
            }
            Self::Closed { .. } => "this is a defect of ceso: please report it".to_owned(),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::new(error.kind(), error.to_string()).hint(error.hint()).cause(error)
    }
}
