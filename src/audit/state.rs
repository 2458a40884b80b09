//! What a look at the end of a log tells: its newest record and its newest checkpoint. Nothing is verified but the lines that are read.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Serialize;

use super::error::Error;
use super::tail::{self, Tail};

/// The state of a log, as its file shows it.
#[derive(Debug, Clone, Serialize)]
pub struct State {
    /// The size of the file that is written to now.
    pub bytes: u64,
    /// The number of the newest record.
    pub sequence: Option<u64>,
    /// The head of the chain.
    pub head: Option<String>,
    /// When the newest record was written.
    pub newest: Option<String>,
    /// The number of the newest signed checkpoint, where one is near the end.
    pub checkpoint: Option<u64>,
    /// When it was made.
    pub signed: Option<String>,
    /// Bytes of a line that was not finished; the next writer sets them aside.
    pub torn: u64,
}

impl State {
    /// Looks at the end of the file; `None` where there is no log yet.
    ///
    /// Faults: those of a file that cannot be read, is no file, or whose last lines do not verify.
    pub fn of(file: &Path) -> Result<Option<Self>, Error> {
        let unreadable = |error: std::io::Error| Error::unreadable(file, error);
        let opened = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file) {
            Ok(opened) => opened,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let about = opened.metadata().map_err(unreadable)?;
        if !about.is_file() {
            return Err(unreadable(std::io::Error::other("it is no file")));
        }
        let tail = tail::read(&opened, file, &Tail::default(), about.len())?;
        let last = tail.last.as_ref();
        Ok(Some(Self {
            bytes: about.len(),
            sequence: last.map(|last| last.receipt.seq),
            head: last.map(|last| last.receipt.head.to_string()),
            newest: last.map(|last| last.ts.clone()),
            checkpoint: tail.checkpoint.as_ref().map(|(seq, _)| *seq),
            signed: tail.checkpoint.map(|(_, ts)| ts),
            torn: tail.torn,
        }))
    }
}
