//! Where a repository is: the text that a person writes for it, and the target that it opens.
//!
//! It reads no settings and no environment: keys, endpoints and limits are handed in as [`Access`]. A text never holds a secret.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::error::{Error, Result};
use super::target::{FolderTarget, S3Target, Target};

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine, or of an NFS mount.
    Folder(PathBuf),
    /// A bucket of an S3 server, and what all names in it begin with (without slashes at its ends; may be empty).
    Bucket { name: String, prefix: String },
}

/// What a bucket is reached with. A folder needs none of it.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The server: `https://HOST[:PORT]`; Amazon's for the region where none is given.
    pub endpoint: Option<String>,
    /// Default: `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket's name stands in the path. Default: where an endpoint is given, or where the name holds a dot.
    pub path_style: Option<bool>,
    /// Whether an endpoint of another machine may be spoken to without TLS.
    pub plain_http: bool,
    /// Authorities in PEM that the server's certificate may be signed by, in place of the system's.
    pub ca: Option<Vec<u8>>,
    /// Without keys nothing can be opened.
    pub keys: Option<Keys>,
    /// How long what is written is locked against deletion.
    pub lock: Option<Lock>,
    /// The most requests in a second.
    pub requests_per_second: Option<u32>,
    /// The most bytes in a second, both ways together.
    pub bytes_per_second: Option<u64>,
    /// The folder of this machine in which packs are collected. Default: the system's for temporary files.
    pub spool: Option<PathBuf>,
}

/// The keys of a bucket. Debug shows none.
#[derive(Debug, Clone)]
pub struct Keys {
    pub id: SecretString,
    pub secret: SecretString,
    pub token: Option<SecretString>,
}

/// A lock against deletion, counted from the writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    pub mode: LockMode,
    pub time: Duration,
}

/// Who may delete before the lock ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// An account with a right of its own.
    Governance,
    /// Nobody.
    Compliance,
}

impl FromStr for Place {
    type Err = Error;

    /// Reads `/srv/folder`, `folder/below` or `s3://BUCKET/PREFIX`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::Option(format!("this is no place of a repository: {what}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.is_empty() || text.contains('\0') {
                return Err(wrong("the folder has no name"));
            }
            return Ok(Self::Folder(PathBuf::from(text)));
        };
        if scheme != "s3" {
            return Err(wrong("write a folder, or s3://BUCKET/PREFIX"));
        }
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let fits = (3..=63).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'))
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.ends_with(|c: char| c.is_ascii_alphanumeric())
            && !name.contains("..");
        if !fits {
            // What stands there may be a key before an "@": it is not repeated.
            return Err(wrong("a bucket's name has 3 to 63 small letters, digits, \".\", \"-\" or \"_\""));
        }
        let prefix = prefix.trim_end_matches('/');
        // No character that a server, a signature or a proxy could write in two ways.
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
        let sound = |part: &str| !part.is_empty() && part != "." && part != ".." && part.bytes().all(plain);
        if !prefix.is_empty() && (prefix.len() > 500 || !prefix.split('/').all(sound)) {
            return Err(wrong(
                "a prefix in a bucket has letters, digits, \".\", \"-\", \"_\" and single slashes between them",
            ));
        }
        Ok(Self::Bucket { name: name.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Bucket { name, prefix } if prefix.is_empty() => write!(f, "s3://{name}"),
            Self::Bucket { name, prefix } => write!(f, "s3://{name}/{prefix}"),
        }
    }
}

impl Place {
    /// Opens the target there. Nothing is read or written yet.
    ///
    /// Errors: `Option` where what is handed in does not fit: no keys, an endpoint that is none or without TLS.
    pub fn open(&self, access: &Access) -> Result<Arc<dyn Target>> {
        match self {
            Self::Folder(path) => Ok(Arc::new(FolderTarget::new(path))),
            Self::Bucket { name, prefix } => Ok(Arc::new(S3Target::new(name, prefix, access)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_as_they_are_written() {
        for text in ["/srv/backup", "a/b", ".", "s3://bucket", "s3://my.bucket-1/pre/fix_1.x"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        assert_eq!("s3://bucket/".parse::<Place>().unwrap(), "s3://bucket".parse().unwrap());
        assert_eq!("s3://bucket/a//".parse::<Place>().unwrap().to_string(), "s3://bucket/a");
    }

    #[test]
    fn what_could_mean_another_place_is_refused() {
        for text in [
            "",
            "a\0b",
            "s3://",
            "s3:///prefix",
            "s3://ab",
            "s3://Bucket/x",
            "s3://KEY:secret-text@bucket/x",
            "s3://bucket/a//b",
            "s3://bucket//a",
            "s3://bucket/../x",
            "s3://bucket/./x",
            "s3://bucket/a b",
            "s3://bucket/a%2fb",
            "s3://bucket/a?x",
            "s3://bucket/a#x",
            "s3://bucket/ä",
            "s3://buc..ket",
            "s3://-bucket",
            "s3://bucket\n/x",
            "http://bucket/x",
            "file:///srv",
        ] {
            let error = text.parse::<Place>().unwrap_err();
            assert!(matches!(error, Error::Option(_)), "{text:?}");
            assert!(!error.to_string().contains("secret-text"));
        }
    }
}
