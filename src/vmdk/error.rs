//! What can be wrong with a virtual disk's file, and how it is told at the door.

use std::io;

use crate::error::Fault;

/// Why a virtual disk cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("at byte {at}: {field}: {what}")]
    Damaged { at: u64, field: &'static str, what: String },
    #[error("line {line} of the descriptor: {what}")]
    Descriptor { line: usize, what: String },
    #[error("{0}")]
    Unsupported(String),
    /// A file that holds a disk in another program's form.
    #[error("it is a disk in the form {0}, not raw and not VMDK")]
    Foreign(&'static str),
    /// What is opened is a folder, a pipe, a socket or a device of characters.
    #[error("is {0}, and no disk")]
    NoDisk(&'static str),
    #[error("{0}")]
    Option(String),
    #[error("cannot {doing}: {source}")]
    Io { doing: &'static str, source: io::Error },
    /// The source of a disk that is written failed; its error is kept as it is.
    #[error("{0}")]
    Source(io::Error),
    #[error("{place}: {error}")]
    At { place: String, error: Box<Error> },
}

/// What reading and writing of virtual disks gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(super) fn damaged(at: u64, field: &'static str, what: impl Into<String>) -> Self {
        Self::Damaged { at, field, what: what.into() }
    }

    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// Says in which file it happened.
    pub(super) fn within(self, place: impl Into<String>) -> Self {
        match self {
            Self::At { .. } => self,
            error => Self::At { place: place.into(), error: Box::new(error) },
        }
    }

    /// Whether the bytes of the file contradict each other or the format.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::At { error, .. } => error.is_damage(),
            error => matches!(error, Self::Damaged { .. } | Self::Descriptor { .. }),
        }
    }

    /// The kind and the hint of its fault, and whether a second try may succeed.
    pub(crate) fn told(&self) -> (&'static str, &'static str, bool) {
        match self {
            Self::Damaged { .. } | Self::Descriptor { .. } => {
                ("vmdk.damaged", "the file is cut, damaged or no such disk: make it anew from where it came", false)
            }
            Self::Unsupported(_) => {
                ("vmdk.unsupported", "convert it first: qemu-img convert -O vmdk -o subformat=streamOptimized", false)
            }
            Self::Option(_) => ("vmdk.option", "see the command's --help", false),
            Self::NoDisk(_) => ("vmdk.no_disk", "a disk is a file or a block device: give its path", false),
            Self::Foreign(_) => (
                "vmdk.unsupported",
                "convert it first, with qemu-img convert, or back its bytes up as they are with --format raw",
                false,
            ),
            Self::Io { source, .. } | Self::Source(source) => {
                use io::ErrorKind::{NotFound, PermissionDenied};
                let stays = matches!(source.kind(), NotFound | PermissionDenied);
                ("vmdk.io", "see whether the file can be read and written", !stays)
            }
            Self::At { error, .. } => error.told(),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let (kind, hint, retry) = error.told();
        let fault = Fault::new(kind, error.to_string()).hint(hint).cause(error);
        if retry { fault.retry() } else { fault }
    }
}

/// Lets a disk's errors pass through the interfaces of files; `io::Error::downcast` gives them back.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}
