//! Holds a log against itself: every line, every link, every file of the series; its signatures; the pins that were kept elsewhere.
//!
//! Reads the log once, in pieces, on all cores; what it needs of memory does not grow with the log. It writes nothing.
//!
//! What it cannot see: that lines are missing behind the newest one that a pin or a witness knows of. A log that was cut there, or
//! that was written anew from there by somebody who has the key, is a log.

mod pieces;
mod pin;

use std::fs::File;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::pieces::{End, Faulty, Signatures};
use super::error::Error;
use super::key::PublicKey;
use super::line::Receipt;
use super::series;

pub use self::pin::Pin;

/// What is to be verified, and against what.
#[derive(Debug, Clone)]
pub struct Verify {
    /// The log, or a file of it that was set aside: then that file and those before it.
    pub file: PathBuf,
    /// Receipts that were kept elsewhere.
    pub pins: Vec<Pin>,
    /// The public key; without it, the one beside the log.
    pub key: Option<PathBuf>,
    /// Whether the log may begin with a file that went on from an older one which is not there.
    pub partial: bool,
    /// How many threads read; without it, as many as there are cores.
    pub threads: Option<usize>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether all that was checked is as it must be.
    pub verified: bool,
    pub problem: Option<Problem>,
    /// The files, the oldest first.
    pub files: Vec<PathBuf>,
    /// The log's id.
    pub log: Option<String>,
    /// How many records verify, up to the end or the problem.
    pub records: u64,
    pub bytes: u64,
    pub first: Option<u64>,
    /// The newest record: its number and the head of the chain.
    #[serde(serialize_with = "receipt")]
    pub newest: Option<Receipt>,
    /// The time of the first record, and of the newest.
    pub begins: Option<String>,
    pub ends: Option<String>,
    /// The number of the newest signed record: all up to it is as its key's owner wrote it.
    pub signed: Option<u64>,
    /// How many records follow it, chained but not signed.
    pub unsigned: u64,
    /// How many of those are changes. Changes are signed as they are written: a crash in the middle of a write leaves some, and so does
    /// whoever writes without the key.
    pub unsigned_changes: u64,
    /// How often a writer found such changes before its own.
    pub found_unsigned: u64,
    /// The short name of the key.
    pub key: String,
    /// How many bytes of a line that was never finished stand at the end: what a crash leaves, and what the next writer cuts off.
    pub torn: u64,
    /// How often the clock was set back.
    pub clock_set_back: u64,
    /// The pins that hold.
    pub pins: Vec<String>,
    #[serde(skip)]
    pub took: Duration,
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub file: PathBuf,
    /// The number of the line in its file, from 1; `None` where it is about the file.
    pub line: Option<u64>,
    /// The number of the record, where the line has one that can be read.
    pub seq: Option<u64>,
    /// Where the line begins in its file, in bytes.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Problem {
    fn of_file(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, seq: None, offset: None, what: what.into() }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let (Some(line), Some(offset)) = (self.line, self.offset) {
            write!(f, ", line {line}")?;
            if let Some(seq) = self.seq {
                write!(f, " (record {seq})")?;
            }
            write!(f, ", byte {offset}")?;
        }
        write!(f, ": {}", self.what)
    }
}

fn receipt<S: serde::Serializer>(receipt: &Option<Receipt>, serializer: S) -> Result<S::Ok, S::Error> {
    match receipt {
        Some(receipt) => serializer.collect_str(receipt),
        None => serializer.serialize_none(),
    }
}

impl Verify {
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), pins: Vec::new(), key: None, partial: false, threads: None }
    }

    /// Verifies the log. A damaged log is no error: the report names the first thing that is wrong.
    ///
    /// Errors: [`Error::Unreadable`] where there is no log or it cannot be read, [`Error::Key`] where there is no public key.
    pub fn run(&self) -> Result<Report, Error> {
        let begun = Instant::now();
        let (log, upto) = match series::log_of(&self.file) {
            Some((log, first)) => (log, Some(first)),
            None => (self.file.clone(), None),
        };
        if !self.file.exists() && upto.is_some() {
            return Err(Error::Missing { file: self.file.clone() });
        }
        let (files, missing) = files(&log, upto)?;
        let key = match &self.key {
            Some(file) => PublicKey::read(file)?,
            None => PublicKey::read(&PublicKey::beside(&log))?,
        };
        let threads =
            self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let check = |signatures| pieces::run(&files, &self.pins, key, signatures, self.partial, threads);
        // A signature is over all that stands before it, so the newest one speaks for all. Only where something is wrong are the others
        // looked at, to find the first line that is.
        let mut end = check(Signatures::Newest)?;
        if end.problem.is_some() {
            let all = check(Signatures::All)?;
            // The log may have been mended meanwhile by nobody: what was wrong is wrong.
            end = if all.problem.is_some() { all } else { end };
        }
        end.problem = end.problem.or(missing);
        Ok(self.report(end, files, key, begun.elapsed()))
    }

    fn report(&self, end: End, files: Vec<Part>, key: PublicKey, took: Duration) -> Report {
        let mut problem = end.problem;
        if problem.is_none() && end.records == 0 {
            problem = files.last().map(|part| Problem::of_file(&part.path, "it holds no whole record"));
        }
        if problem.is_none() {
            problem = self.unseen_pin(&end.newest, end.first, &files);
        }
        let newest = end.newest.map(|newest| newest.seq);
        Report {
            verified: problem.is_none(),
            problem,
            log: end.log,
            records: end.records,
            bytes: end.bytes,
            first: end.first,
            newest: end.newest,
            begins: end.begins,
            ends: end.ends,
            signed: end.signed,
            unsigned: newest
                .zip(end.signed.or(end.first.map(|first| first - 1)))
                .map_or(0, |(newest, signed)| newest - signed),
            unsigned_changes: end.unsigned_changes,
            found_unsigned: end.found_unsigned,
            key: key.fingerprint(),
            torn: end.torn,
            clock_set_back: end.clock_set_back,
            pins: self.pins.iter().map(ToString::to_string).collect(),
            files: files.into_iter().map(|part| part.path).collect(),
            took,
        }
    }

    /// A pin of a record that is not in the log.
    fn unseen_pin(&self, newest: &Option<Receipt>, first: Option<u64>, files: &[Part]) -> Option<Problem> {
        let newest = newest.map_or(0, |newest| newest.seq);
        let beyond = self.pins.iter().find(|pin| pin.seq > newest || first.is_none_or(|first| pin.seq < first))?;
        let file = &files.last()?.path;
        Some(Problem::of_file(
            file,
            if beyond.seq > newest {
                format!(
                    "the log ends with record {newest}, but there was a record {}: lines are missing at its end",
                    beyond.seq
                )
            } else {
                format!("record {} stands in an older file, which is not here", beyond.seq)
            },
        ))
    }
}

/// Turns what was found into the numbers and the problem of a report.
impl From<Faulty> for Problem {
    fn from(faulty: Faulty) -> Self {
        Self {
            file: faulty.file,
            line: Some(faulty.line),
            seq: faulty.seq,
            offset: Some(faulty.offset),
            what: faulty.what,
        }
    }
}

/// One file of the series.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    /// The number that its name says its first record has.
    named: Option<u64>,
}

/// The files of a log, the oldest first, as long as they are now; and what is wrong where the newest is missing.
fn files(log: &Path, upto: Option<u64>) -> Result<(Vec<Part>, Option<Problem>), Error> {
    let aside = match series::set_aside(log) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::unreadable(log, error)),
        aside => aside.unwrap_or_default(),
    };
    let mut paths: Vec<(Option<u64>, PathBuf)> = aside
        .into_iter()
        .filter(|(first, _)| upto.is_none_or(|upto| *first <= upto))
        .map(|(first, path)| (Some(first), path))
        .collect();
    if upto.is_none() {
        paths.push((None, log.to_owned()));
    }
    let mut parts: Vec<Part> = Vec::with_capacity(paths.len());
    let mut seen = None;
    for (named, path) in paths {
        let unreadable = |error| Error::unreadable(&path, error);
        let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !parts.is_empty() => {
                let what = "it is missing: the log went on in it from the files that were set aside";
                return Ok((parts, Some(Problem::of_file(&path, what))));
            }
            file => file.map_err(|error| Error::unopened(&path, &error))?,
        };
        // A writer holds this lock while it writes: what is seen under it is whole lines, or what a crash left.
        file.lock_shared().map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        file.unlock().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Error::untrusted(&path, "it is no ordinary file"));
        }
        let id = (metadata.dev(), metadata.ino());
        // Between its two names: a file that is just being set aside.
        if seen.replace(id) == Some(id) {
            continue;
        }
        parts.push(Part { path, file, length: metadata.len(), named });
    }
    Ok((parts, None))
}
