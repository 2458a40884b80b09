//! Reads records in their order, from any number on, over all files of a log. Finds its place without reading what comes before.
//!
//! It looks for lines and their parts, and checks no hash: that is what verification is for.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::line::{Hash, Line, Receipt};
use super::series;
use super::tail::{self, LONGEST, Tail};

/// Records of a log from one number on, one after the other.
pub struct Reader {
    files: VecDeque<PathBuf>,
    open: Option<(PathBuf, BufReader<File>)>,
    from: u64,
    line: Vec<u8>,
    broken: u64,
}

/// One record as it stands in its line.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub seq: u64,
    pub hash: Hash,
    pub ts: &'a str,
    /// The JSON of the event.
    pub event: &'a [u8],
    /// The whole line, without its line feed.
    pub line: &'a [u8],
    /// Whether it is signed: a checkpoint, the first or the last record of a file, or the last one of a write that somebody waited for.
    pub signed: bool,
}

impl Reader {
    /// The records from that number on, up to the end that the log has when it is reached.
    ///
    /// Errors: [`Error::Unreadable`], also where there is no log; [`Error::Untrusted`].
    pub fn since(log: &Path, from: u64) -> Result<Self, Error> {
        let aside = series::set_aside(log).map_err(|error| Error::unopened(log, &error))?;
        // The file before the first one that begins behind the record is the one that it stands in.
        let later = aside.iter().position(|(first, _)| *first > from).unwrap_or(aside.len());
        let mut files: VecDeque<PathBuf> =
            aside.into_iter().skip(later.saturating_sub(1)).map(|(_, path)| path).collect();
        files.push_back(log.to_owned());
        Ok(Self { files, open: None, from, line: Vec::new(), broken: 0 })
    }

    /// The last `count` records.
    pub fn last(log: &Path, count: u64) -> Result<Self, Error> {
        let newest = newest(log)?.map_or(0, |newest| newest.seq);
        Self::since(log, (newest + 1).saturating_sub(count))
    }

    /// The next record; `None` at the end, where a line that is not whole yet is left.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, Error> {
        loop {
            if self.open.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some((path, reader)) = &mut self.open else { return Ok(None) };
            self.line.clear();
            let read = std::io::Read::take(reader, 2 * LONGEST as u64).read_until(b'\n', &mut self.line);
            read.map_err(|error| Error::unreadable(path, error))?;
            if self.line.pop_if(|byte| *byte == b'\n').is_none() {
                if self.line.len() >= 2 * LONGEST {
                    self.broken += 1;
                    continue;
                }
                self.open = None;
                continue;
            }
            match Line::parts(&self.line) {
                Ok(line) if line.seq >= self.from => break,
                Ok(_) => {}
                Err(_) => self.broken += 1,
            }
        }
        // Again: what is given out may not be borrowed while the loop goes on.
        Ok(Line::parts(&self.line).ok().map(|line| Entry {
            seq: line.seq,
            hash: line.hash,
            ts: line.ts,
            event: line.event,
            line: &self.line,
            signed: line.signature().is_some(),
        }))
    }

    /// How many lines so far were no records.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    fn open_next(&mut self) -> Result<bool, Error> {
        let Some(path) = self.files.pop_front() else { return Ok(false) };
        let unreadable = |error| Error::unreadable(&path, error);
        let mut file = open(&path)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let at = find(&file, length, self.from).map_err(unreadable)?;
        file.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        self.open = Some((path, BufReader::with_capacity(128 << 10, file)));
        Ok(true)
    }
}

/// The newest record of a log, out of its last lines; `None` where it holds none.
///
/// Errors: [`Error::Unreadable`], [`Error::Untrusted`], [`Error::Damaged`] where its end does not verify.
pub fn newest(log: &Path) -> Result<Option<Receipt>, Error> {
    let file = open(log)?;
    let length = file.metadata().map_err(|error| Error::unreadable(log, error))?.len();
    Ok(tail::read(&file, log, &Tail::default(), length)?.last.map(|last| last.receipt))
}

fn open(path: &Path) -> Result<File, Error> {
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = opened.map_err(|error| Error::unopened(path, &error))?;
    if !file.metadata().map_err(|error| Error::unreadable(path, error))?.is_file() {
        return Err(Error::untrusted(path, "it is no ordinary file"));
    }
    Ok(file)
}

/// Where to begin reading so that the record is not missed: numbers grow with the place in a file, so halving finds it.
fn find(file: &File, length: u64, seq: u64) -> std::io::Result<u64> {
    const NEAR: u64 = 256 << 10;
    let (mut low, mut high) = (0, length);
    let mut bytes = Vec::new();
    while high - low > NEAR {
        let middle = low + (high - low) / 2;
        bytes.resize(usize::try_from((high - middle).min(NEAR / 2)).unwrap_or(0), 0);
        let read = file.read_at(&mut bytes, middle)?;
        let window = bytes.get(..read).unwrap_or_default();
        // The first whole line behind the middle tells on which side the record is.
        let mut lines = window.split_inclusive(|byte| *byte == b'\n');
        let skipped = lines.next().map_or(0, <[u8]>::len);
        match lines.next().and_then(|line| line.strip_suffix(b"\n")).and_then(|line| Line::parts(line).ok()) {
            Some(line) if line.seq <= seq => low = middle + skipped as u64,
            Some(_) => high = middle,
            // A broken or a very long line: what is left is read from its beginning.
            None => break,
        }
    }
    Ok(low)
}
