//! The two ends of a file: its first record, and what stands at its end. However long a file is, this is all that opening it reads.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::error::Error;
use super::key::PublicKey;
use super::line::{Line, Receipt, Signed};
use super::own::{self, Header};

/// How much of a file's end is looked at first.
const WINDOW: u64 = 64 << 10;

/// The longest line that is written or read, in bytes.
pub(super) const LONGEST: usize = 1 << 20;

/// The last whole line.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub receipt: Receipt,
    pub ts: String,
    pub signed: bool,
    /// Whether the file is full and the log goes on in another.
    pub rotated: bool,
}

/// A file up to its last whole line.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    /// Where the last whole line ends.
    pub end: u64,
    /// `None` where there is no whole line.
    pub last: Option<Last>,
    /// How many bytes of a broken line follow.
    pub torn: u64,
    /// The newest signed record of those that were read, and its time.
    pub checkpoint: Option<(u64, String)>,
    /// How many changes stand behind it, of the lines that were read.
    pub unsigned: u64,
}

/// A file's first record.
#[derive(Debug, Clone)]
pub(super) struct First {
    pub header: Header,
    pub seq: u64,
    signed: Option<Signed>,
}

impl First {
    pub(super) fn new(header: Header, seq: u64) -> Self {
        Self { header, seq, signed: None }
    }

    /// Whether it was signed by that key.
    pub(super) fn is_of(&self, key: PublicKey) -> bool {
        self.header.key == key.to_string()
            && self.signed.as_ref().is_some_and(|signed| key.verifies(&signed.message, &signed.signature))
    }
}

/// Reads the file's first record; `None` where there is no whole line.
pub(super) fn first(file: &File, path: &Path) -> Result<Option<First>, Error> {
    let mut bytes = vec![0; 8 << 10];
    let read = file.read_at(&mut bytes, 0).map_err(|error| Error::unreadable(path, error))?;
    bytes.truncate(read);
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        // A line that was torn at once is begun anew; anything longer is not ours.
        return if read < 8 << 10 { Ok(None) } else { Err(Error::format(path, "it does not begin as a log does")) };
    };
    let text = bytes.get(..end).unwrap_or_default();
    let line = Line::parts(text).map_err(|_| Error::format(path, "its first line is no record of a log"))?;
    let header = Header::read(&line).map_err(|reason| Error::format(path, reason))?;
    Line::read(text).map_err(|flaw| Error::damaged(path, 0, flaw.to_string()))?;
    Ok(Some(First { header, seq: line.seq, signed: line.signature() }))
}

/// Reads what stands behind the `known` tail, of a file that is `length` bytes long. All whole lines that are read must verify and
/// follow from each other.
pub(super) fn read(file: &File, path: &Path, known: &Tail, length: u64) -> Result<Tail, Error> {
    if length < known.end {
        return Err(Error::damaged(path, length, "it is shorter than it was: lines are missing at its end".to_owned()));
    }
    let mut window = WINDOW;
    let (from, bytes) = loop {
        let from = length.saturating_sub(window).max(known.end);
        let mut bytes = vec![0; usize::try_from(length - from).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, from).map_err(|error| Error::unreadable(path, error))?;
        if from == known.end || bytes.iter().filter(|byte| **byte == b'\n').count() > 1 {
            break (from, bytes);
        }
        if window > 4 * LONGEST as u64 {
            return Err(Error::damaged(path, from, "there is no line feed as far as a line can be long".to_owned()));
        }
        window *= 2;
    };
    let line_feed = |byte: &u8| *byte == b'\n';
    let whole = bytes.iter().rposition(line_feed).map_or(0, |at| at + 1);
    let first = if from == known.end { 0 } else { bytes.iter().position(line_feed).map_or(0, |at| at + 1) };
    let mut last = if from == known.end { known.last.clone() } else { None };
    let (mut checkpoint, mut unsigned) = (known.checkpoint.clone(), known.unsigned);
    let mut at = from + first as u64;
    for text in bytes.get(first..whole).unwrap_or_default().split_inclusive(line_feed) {
        let line = Line::read(text.strip_suffix(b"\n").unwrap_or(text))
            .map_err(|flaw| Error::damaged(path, at, flaw.to_string()))?;
        if last.as_ref().is_some_and(|last| (last.receipt.seq + 1, last.receipt.head) != (line.seq, line.prev)) {
            return Err(Error::damaged(path, at, "it does not follow from the line before it".to_owned()));
        }
        if line.signature().is_some() {
            (checkpoint, unsigned) = (Some((line.seq, line.ts.to_owned())), 0);
        } else if own::is_change(&line) {
            unsigned += 1;
        }
        last = Some(Last {
            receipt: Receipt { seq: line.seq, head: line.hash },
            ts: line.ts.to_owned(),
            signed: line.signature().is_some(),
            rotated: own::is_rotated(&line),
        });
        at += text.len() as u64;
    }
    let end = from + whole as u64;
    Ok(Tail { end, last, torn: length - end, checkpoint, unsigned })
}
