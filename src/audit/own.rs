//! The records that the log writes about itself. Their fields stand in the order of the alphabet, as those of an event do.

use serde::{Deserialize, Serialize};

use super::canonical;
use super::key::PublicKey;
use super::line::Line;

/// The version of the layout that is written here, and the newest that is read.
pub(super) const FORMAT: u32 = 1;

/// The kinds of the log's own records.
pub const KINDS: [&str; 8] = ["begun", "continued", "rotated", "checkpoint", "recovered", "lost", "clock", "unsigned"];

/// What stands in a line: an event, or a record that is signed when its line is written.
pub(super) enum Body {
    Plain(Vec<u8>),
    /// Ends with `"signature":""}`.
    Signed(Vec<u8>),
}

impl Body {
    /// The same record with a signature as its last member; no event has a member that comes later in the alphabet.
    pub(super) fn signed(self) -> Self {
        match self {
            Self::Plain(mut bytes) if bytes.ends_with(b"}") => {
                bytes.truncate(bytes.len() - 1);
                bytes.extend_from_slice(b",\"signature\":\"\"}");
                Self::Signed(bytes)
            }
            other => other,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) | Self::Signed(bytes) => bytes,
        }
    }
}

/// The first record of each file. Signed, so that nobody can change how often checkpoints must come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    pub checkpoint_every: u64,
    /// The name of the file before this one, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    pub format: u32,
    pub key: String,
    /// `begun`, or `continued` where there is a file before.
    pub kind: String,
    pub log: String,
    pub signature: String,
}

impl Header {
    pub(super) fn begun(checkpoint_every: u64, key: PublicKey) -> Self {
        Self {
            checkpoint_every,
            file: None,
            format: FORMAT,
            key: key.to_string(),
            kind: "begun".to_owned(),
            log: uuid::Uuid::new_v4().to_string(),
            signature: String::new(),
        }
    }

    /// The header of the file that follows one with this header.
    pub(super) fn next(&self, checkpoint_every: u64, file: String) -> Self {
        Self {
            checkpoint_every,
            file: Some(file),
            kind: "continued".to_owned(),
            signature: String::new(),
            ..self.clone()
        }
    }

    pub(super) fn body(&self) -> Result<Body, String> {
        canonical::of(self).map(Body::Signed)
    }

    /// Reads the header out of a file's first record; the error says what it is instead.
    pub(super) fn read(line: &Line<'_>) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let wrong = |_| "its first record is not one that a log begins with".to_owned();
        let format: Format = serde_json::from_slice(line.event).map_err(wrong)?;
        if format.format > FORMAT {
            return Err(format!(
                "it is of format {}, and this ceso knows formats up to {FORMAT}: it was written by a newer one",
                format.format
            ));
        }
        let header: Self = serde_json::from_slice(line.event).map_err(wrong)?;
        let kind = if header.file.is_some() { "continued" } else { "begun" };
        if header.kind != kind || header.checkpoint_every < 2 {
            return Err("its first record is not one that a log begins with".to_owned());
        }
        Ok(header)
    }
}

#[derive(Serialize)]
struct Mark {
    kind: &'static str,
    signature: &'static str,
}

/// A signature over all that stands before it.
pub(super) fn checkpoint() -> Result<Body, String> {
    canonical::of(&Mark { kind: "checkpoint", signature: "" }).map(Body::Signed)
}

/// The last record of a file that is full.
pub(super) fn rotated() -> Result<Body, String> {
    canonical::of(&Mark { kind: "rotated", signature: "" }).map(Body::Signed)
}

/// Whether a record is the last of a file that is full.
pub(super) fn is_rotated(line: &Line<'_>) -> bool {
    line.event.starts_with(b"{\"kind\":\"rotated\",\"signature\":")
}

/// A writer has cut off what a crash had left of a line.
pub(super) fn recovered(bytes: u64) -> Result<Body, String> {
    #[derive(Serialize)]
    struct Recovered {
        bytes: u64,
        kind: &'static str,
    }
    canonical::of(&Recovered { bytes, kind: "recovered" }).map(Body::Plain)
}

/// Changes were found at the log's end that no signature covers.
pub(super) fn unsigned(records: u64) -> Result<Body, String> {
    #[derive(Serialize)]
    struct Unsigned {
        kind: &'static str,
        records: u64,
        signature: &'static str,
    }
    canonical::of(&Unsigned { kind: "unsigned", records, signature: "" }).map(Body::Signed)
}

/// Whether a record says that changes without a signature were found before it.
pub(super) fn is_unsigned(line: &Line<'_>) -> bool {
    line.event.starts_with(b"{\"kind\":\"unsigned\",\"records\":")
}

/// Whether a record is of a kind that is signed when it is written, alone or with those that are written with it.
pub(super) fn is_change(line: &Line<'_>) -> bool {
    #[derive(Deserialize)]
    struct Of<'a> {
        kind: &'a str,
    }
    serde_json::from_slice::<Of<'_>>(line.event)
        .is_ok_and(|event| matches!(event.kind, "intent" | "outcome" | "run_end" | "note"))
}

/// Events that nobody waited for could not be written.
pub(super) fn lost(records: u64) -> Result<Body, String> {
    #[derive(Serialize)]
    struct Lost {
        kind: &'static str,
        records: u64,
    }
    canonical::of(&Lost { kind: "lost", records }).map(Body::Plain)
}

/// The clock shows an earlier time than the record before: the order is that of the numbers.
pub(super) fn clock(before: &str) -> Result<Body, String> {
    #[derive(Serialize)]
    struct Clock<'a> {
        before: &'a str,
        kind: &'static str,
    }
    canonical::of(&Clock { before, kind: "clock" }).map(Body::Plain)
}
