//! Appliances as files: OVF packages and OVA archives, read without trust and written whole.
//!
//! ```text
//! descriptor   what an .ovf says of its files, disks, networks and machine
//! manifest     the sums of an .mf, read, compared, written
//! archive      an .ova as its members, front to back or as an index: names, places, lengths
//! writer       an .ova whose members' lengths are known only at the end
//! ```
//!
//! Everything is checked before a host hears of it: an archive holds plain files with plain names, each once; each file that the
//! descriptor names is there, as long as it says and with the sum that the manifest says. The room knows bytes only: no host, no script.
//! Specification: DMTF DSP0243 (OVF 1.1 and 2.0); POSIX ustar.

mod archive;
mod descriptor;
mod manifest;
mod writer;

pub use archive::{Member, Walk, index};
pub use descriptor::{DiskPart, FilePart, Package};
pub use manifest::{Algorithm, Manifest, Summed, Summing, summed};
pub use writer::{Open, Writer};

use crate::error::Fault;

/// The largest descriptor and the largest manifest: text of a few KiB.
pub const LARGEST_TEXT: u64 = 4 << 20;

/// Why an appliance is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it is no appliance: {0}")]
    Form(String),
    #[error("{name}: {what}")]
    Member { name: String, what: String },
    #[error("the descriptor: {0}")]
    Descriptor(String),
    #[error("the manifest: {0}")]
    Manifest(String),
    #[error("cannot {doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
}

impl Error {
    fn member(name: &str, what: impl Into<String>) -> Self {
        Self::Member { name: shown(name), what: what.into() }
    }

    fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// The stable dotted kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Form(_) | Self::Member { .. } | Self::Descriptor(_) => "ova.invalid",
            Self::Manifest(_) => "ova.sum",
            Self::Io { .. } => "ova.io",
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let hint = match &error {
            Error::Manifest(_) => "the file was damaged or changed on its way: get it again from where it came",
            Error::Io { .. } => "look at the file and its disk on this machine",
            _ => "have it made anew, such as with ceso vm export or ovftool",
        };
        Fault::new(error.kind(), error.to_string()).hint(hint).cause(error)
    }
}

/// A name of somebody else's, fit to be told.
fn shown(name: &str) -> String {
    crate::redact::one_line(&name.chars().take(80).collect::<String>()).into_owned()
}

/// Whether a name is a plain file's: no folders, nothing that cannot be seen.
pub fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 200
        && !name.starts_with('.')
        && !name.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|'])
        && name.trim() == name
        && !name.chars().any(|c| c.is_control() || crate::redact::is_hidden(c))
}
