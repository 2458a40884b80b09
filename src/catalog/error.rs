//! What can go wrong with the catalog, and how each is told at the door.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Fault;
use crate::units::Span;

/// Why the catalog was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{place}: is in use by {holder}; after {} it was waited for no longer", Span(*.waited))]
    Busy { place: String, holder: String, waited: Duration },
    #[error("{place}: is damaged: {what}{}", told(.aside))]
    Damaged { place: String, what: String, aside: Option<PathBuf> },
    #[error("{place}: is of format {format}, and this ceso knows none above {}", super::tables::FORMAT)]
    Newer { place: String, format: u64 },
    #[error("{place}: cannot {doing}: {source}")]
    Io { place: String, doing: &'static str, source: io::Error },
    #[error("{0:?} is no cursor of this list")]
    Cursor(String),
}

/// What an operation on the catalog gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn told(aside: &Option<PathBuf>) -> String {
    aside.as_ref().map_or_else(String::new, |path| format!("; it was set aside as {}", path.display()))
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let full = matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull);
        let (kind, hint, retry) = match &error {
            Error::Busy { .. } => ("catalog.busy", "wait for that process, or end it if it hangs", true),
            Error::Damaged { aside: Some(_), .. } => {
                ("catalog.damaged", "ceso catalog rebuild makes it anew from the repositories", true)
            }
            Error::Damaged { .. } => (
                "catalog.damaged",
                "move it away, then ceso catalog rebuild makes it anew from the repositories",
                false,
            ),
            Error::Newer { .. } => ("catalog.newer", "use the ceso that wrote it, or a newer one", false),
            Error::Io { .. } if full => ("catalog.full", "make room: no backup is lost by it", true),
            Error::Io { .. } => ("catalog.io", "mind the permissions of the file and of its folder", false),
            Error::Cursor(_) => ("catalog.cursor", "give the cursor that the page before came with, or none", false),
        };
        let fault = Fault::new(kind, message).hint(hint).cause(error);
        if retry { fault.retry() } else { fault }
    }
}
