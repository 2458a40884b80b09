//! The log in pieces of about a mebibyte: read by one thread, checked by several, joined in their order by one more.
//!
//! A line states the hash of the line before it, so a piece is checked by itself; only its first line waits for the piece before.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::{Part, Pin, Problem};
use crate::audit::error::Error;
use crate::audit::key::PublicKey;
use crate::audit::line::{Hash, Line, Receipt, Signed};
use crate::audit::own::{self, Header};
use crate::audit::tail::LONGEST;

const PIECE: usize = 1 << 20;

/// Which signatures are checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signatures {
    Newest,
    All,
}

/// What was found up to the end, or up to the first problem.
#[derive(Default)]
pub(super) struct End {
    pub problem: Option<Problem>,
    pub log: Option<String>,
    pub records: u64,
    pub bytes: u64,
    pub first: Option<u64>,
    pub newest: Option<Receipt>,
    pub begins: Option<String>,
    pub ends: Option<String>,
    pub signed: Option<u64>,
    pub torn: u64,
    pub clock_set_back: u64,
    /// How many changes stand behind the newest signature.
    pub unsigned_changes: u64,
    /// How often a writer found changes that no signature covered.
    pub found_unsigned: u64,
}

/// A line that is wrong, in its file.
pub(super) struct Faulty {
    pub file: PathBuf,
    pub line: u64,
    pub seq: Option<u64>,
    pub offset: u64,
    pub what: String,
}

/// A piece of a file.
struct Piece {
    part: usize,
    offset: u64,
    /// Whether it is the file's first.
    first: bool,
    /// Every how many records one must be signed; `None` where the file's first record does not say.
    every: Option<u64>,
    bytes: Vec<u8>,
    /// Whether the bytes are what stands behind the file's last line feed.
    rest: bool,
}

/// What a piece is by itself.
#[derive(Default)]
struct Checked {
    part: usize,
    offset: u64,
    first: bool,
    rest: bool,
    length: u64,
    lines: u64,
    header: Option<Result<Header, String>>,
    /// The first line's number and the hash that it follows.
    joins: Option<(u64, Hash)>,
    begins: String,
    newest: Option<Receipt>,
    ends: String,
    signed: Option<At<Signed>>,
    clock_set_back: u64,
    found_unsigned: u64,
    wrong: Option<At<String>>,
}

/// Something about a line of a piece.
struct At<T> {
    /// The line's number in its piece, from 0.
    line: u64,
    seq: Option<u64>,
    offset: u64,
    it: T,
}

/// Checks the files.
pub(super) fn run(
    parts: &[Part],
    pins: &[Pin],
    key: PublicKey,
    signatures: Signatures,
    partial: bool,
    threads: usize,
) -> Result<End, Error> {
    let stop = AtomicBool::new(false);
    let (give, jobs) = sync_channel::<(usize, Piece)>(threads * 2);
    let (tell, told) = sync_channel::<(usize, Checked)>(threads * 2);
    let jobs = Mutex::new(jobs);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read(parts, give, &stop));
        for _ in 0..threads {
            let tell = tell.clone();
            let (jobs, stop) = (&jobs, &stop);
            scope.spawn(move || {
                loop {
                    let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((number, piece)) = next else { return };
                    // After a problem nobody needs the rest, but the reader must not wait for room.
                    if stop.load(Ordering::Relaxed) {
                        continue;
                    }
                    let checked = check(&piece, pins, (signatures == Signatures::All).then_some(key));
                    if tell.send((number, checked)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        let end = Joiner { parts, key, partial, end: End::default(), line: 0, newest_signed: None }.run(told, &stop);
        match reader.join() {
            Ok(Ok(())) => Ok(end),
            Ok(Err(error)) => Err(error),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Reads the files in pieces that end with a line feed.
fn read(parts: &[Part], give: SyncSender<(usize, Piece)>, stop: &AtomicBool) -> Result<(), Error> {
    let mut number = 0;
    for (part, Part { path, file, length, .. }) in parts.iter().enumerate() {
        let (mut at, mut offset, mut first) = (0, 0, true);
        let mut every = None;
        let mut carried: Vec<u8> = Vec::new();
        while at < *length {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let size = usize::try_from(*length - at).unwrap_or(PIECE).min(PIECE);
            let mut bytes = std::mem::take(&mut carried);
            let kept = bytes.len();
            bytes.resize(kept + size, 0);
            let fresh = bytes.get_mut(kept..).unwrap_or_default();
            file.read_exact_at(fresh, at).map_err(|error| Error::unreadable(path, error))?;
            at += size as u64;
            let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(feed) => feed + 1,
                // No line is so long: the first check of it fails, and that is all that is wanted of the file.
                None if bytes.len() > 2 * LONGEST => bytes.len(),
                None => {
                    carried = bytes;
                    continue;
                }
            };
            carried = bytes.split_off(whole);
            if first {
                every = bytes.split(|byte| *byte == b'\n').next().and_then(|line| {
                    let line = Line::parts(line).ok()?;
                    Header::read(&line).ok().map(|header| header.checkpoint_every)
                });
            }
            let piece = Piece { part, offset, first, every, bytes, rest: false };
            if give.send((number, piece)).is_err() {
                return Ok(());
            }
            (number, first) = (number + 1, false);
            offset += whole as u64;
        }
        if !carried.is_empty() || first {
            let piece = Piece { part, offset, first, every, bytes: carried, rest: true };
            if give.send((number, piece)).is_err() {
                return Ok(());
            }
            number += 1;
        }
    }
    Ok(())
}

/// Checks a piece by itself, up to the first line that is wrong.
fn check(piece: &Piece, pins: &[Pin], key: Option<PublicKey>) -> Checked {
    let mut checked = Checked {
        part: piece.part,
        offset: piece.offset,
        first: piece.first,
        rest: piece.rest,
        length: piece.bytes.len() as u64,
        ..Checked::default()
    };
    if piece.rest {
        return checked;
    }
    let mut offset = piece.offset;
    let mut before: Option<(Receipt, &str)> = None;
    for (number, text) in piece.bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let wrong = |seq: Option<u64>, what: String| Some(At { line: number as u64, seq, offset, it: what });
        let line = match Line::read(text) {
            Ok(line) => line,
            Err(flaw) => {
                checked.wrong = wrong(Line::parts(text).ok().map(|line| line.seq), flaw.to_string());
                break;
            }
        };
        if number == 0 {
            checked.joins = Some((line.seq, line.prev));
            checked.begins = line.ts.to_owned();
            if piece.first {
                checked.header = Some(Header::read(&line));
            }
        }
        let receipt = Receipt { seq: line.seq, head: line.hash };
        if let Some(what) = before.and_then(|(before, _)| follows(&before, line.seq, &line.prev)) {
            checked.wrong = wrong(Some(line.seq), what);
            break;
        }
        let signed = line.signature();
        if let Some(what) = unsigned(&line, signed.as_ref(), piece.every, number == 0 && piece.first, key) {
            checked.wrong = wrong(Some(line.seq), what);
            break;
        }
        if let Some(pin) = pins.iter().find(|pin| pin.seq == line.seq && !pin.holds(&line.hash)) {
            let what = format!(
                "its hash is {}, but it was {pin}: the log was written anew, up to here or from before",
                line.hash
            );
            checked.wrong = wrong(Some(line.seq), what);
            break;
        }
        checked.found_unsigned += u64::from(own::is_unsigned(&line));
        checked.clock_set_back += u64::from(before.is_some_and(|(_, ts)| line.ts < ts));
        if let Some(signed) = signed {
            checked.signed = Some(At { line: number as u64, seq: Some(line.seq), offset, it: signed });
        }
        before = Some((receipt, line.ts));
        checked.lines += 1;
        offset += text.len() as u64 + 1;
    }
    if let Some((newest, ts)) = before {
        checked.newest = Some(newest);
        checked.ends = ts.to_owned();
    }
    checked
}

/// What is wrong with a line's place behind another, if anything.
fn follows(before: &Receipt, seq: u64, prev: &Hash) -> Option<String> {
    if seq != before.seq + 1 {
        return Some(format!("record {seq} stands behind record {}", before.seq));
    }
    (*prev != before.head).then(|| {
        "it does not follow from the line before it: one of the two, or what stood between them, was changed".to_owned()
    })
}

/// What is wrong with a line's signature, if anything.
fn unsigned(
    line: &Line<'_>,
    signed: Option<&Signed>,
    every: Option<u64>,
    first: bool,
    key: Option<PublicKey>,
) -> Option<String> {
    match signed {
        None if first => Some("the first record of a file must be signed, and is not".to_owned()),
        None if every.is_some_and(|every| line.seq.is_multiple_of(every)) => {
            Some("a checkpoint must stand here, and does not".to_owned())
        }
        Some(signed) if key.is_some_and(|key| !key.verifies(&signed.message, &signed.signature)) => {
            Some(FORGED.to_owned())
        }
        _ => None,
    }
}

const FORGED: &str =
    "its signature is not this key's: it, or a line since the signature before, was written by somebody else";

/// Puts the pieces together.
struct Joiner<'a> {
    parts: &'a [Part],
    key: PublicKey,
    partial: bool,
    end: End,
    /// How many lines of the current file are behind.
    line: u64,
    newest_signed: Option<(Faulty, Signed)>,
}

impl Joiner<'_> {
    fn run(mut self, told: Receiver<(usize, Checked)>, stop: &AtomicBool) -> End {
        let mut early = BTreeMap::new();
        let mut next = 0;
        'pieces: while let Ok((number, checked)) = told.recv() {
            early.insert(number, checked);
            while let Some(checked) = early.remove(&next) {
                next += 1;
                self.end.problem = self.join(checked);
                if self.end.problem.is_some() {
                    stop.store(true, Ordering::Relaxed);
                    break 'pieces;
                }
            }
        }
        drop(told);
        if self.end.problem.is_none()
            && let Some((faulty, signed)) = self.newest_signed.take()
        {
            if self.key.verifies(&signed.message, &signed.signature) {
                self.end.unsigned_changes = self.changes_behind(&faulty);
            } else {
                self.end.problem = Some(faulty.into());
            }
        }
        self.end
    }

    /// How many changes stand behind a signed record, which is the newest: the lines were checked, and are looked into once more.
    fn changes_behind(&self, signed: &Faulty) -> u64 {
        let Some(part) = self.parts.last().filter(|part| part.path == signed.file) else { return 0 };
        let length = usize::try_from(part.length.saturating_sub(signed.offset)).unwrap_or(0);
        let mut bytes = vec![0; length];
        if part.file.read_exact_at(&mut bytes, signed.offset).is_err() {
            return 0;
        }
        let lines = bytes.split(|byte| *byte == b'\n').skip(1);
        lines.filter_map(|line| Line::parts(line).ok()).filter(own::is_change).count() as u64
    }

    /// Joins a piece to those before it; the first thing that is wrong.
    fn join(&mut self, piece: Checked) -> Option<Problem> {
        let part = self.parts.get(piece.part)?;
        if piece.first {
            self.line = 0;
        }
        if piece.rest {
            return self.rest(&piece, part);
        }
        let faulty =
            |line: u64, seq, offset, what| Problem::from(Faulty { file: part.path.clone(), line, seq, offset, what });
        if let Some((seq, prev)) = piece.joins {
            let what = match &piece.header {
                Some(header) => self.joins_file(header, seq, &prev, part),
                None => self.end.newest.as_ref().and_then(|before| follows(before, seq, &prev)),
            };
            if let Some(what) = what {
                return Some(faulty(self.line + 1, Some(seq), piece.offset, what));
            }
            self.end.clock_set_back += u64::from(self.end.ends.as_ref().is_some_and(|before| piece.begins < *before));
            if self.end.first.is_none() {
                (self.end.first, self.end.begins) = (Some(seq), Some(piece.begins));
            }
        }
        if let Some(At { line, seq, offset, it: signed }) = piece.signed {
            self.end.signed = seq;
            let forged =
                Faulty { file: part.path.clone(), line: self.line + line + 1, seq, offset, what: FORGED.to_owned() };
            self.newest_signed = Some((forged, signed));
        }
        if let Some(newest) = piece.newest {
            (self.end.newest, self.end.ends) = (Some(newest), Some(piece.ends));
        }
        self.end.records += piece.lines;
        self.end.clock_set_back += piece.clock_set_back;
        self.end.found_unsigned += piece.found_unsigned;
        if let Some(At { line, seq, offset, it: what }) = piece.wrong {
            return Some(faulty(self.line + line + 1, seq, offset, what));
        }
        self.line += piece.lines;
        self.end.bytes += piece.length;
        None
    }

    /// What stands behind a file's last line feed, or a file that is empty.
    fn rest(&mut self, piece: &Checked, part: &Part) -> Option<Problem> {
        // The log that is written is the one file without a number in its name, and the last one.
        if part.named.is_none() {
            self.end.torn = piece.length;
            return None;
        }
        Some(Problem::from(Faulty {
            file: part.path.clone(),
            line: self.line + 1,
            seq: None,
            offset: piece.offset,
            what: "the file ends within a line, and it is not the newest one".to_owned(),
        }))
    }

    /// What is wrong with a file's first line, if anything.
    fn joins_file(&mut self, header: &Result<Header, String>, seq: u64, prev: &Hash, part: &Part) -> Option<String> {
        let header = match header {
            Ok(header) => header,
            Err(what) => return Some(what.clone()),
        };
        if header.key != self.key.to_string() {
            return Some("the log was begun with another key than the one that it is verified with".to_owned());
        }
        let own = part.path.file_name().unwrap_or_default().to_string_lossy();
        if part.named.is_some_and(|named| named != seq) {
            return Some(format!(
                "{own} holds another file: by its name it begins with record {}",
                part.named.unwrap_or(0)
            ));
        }
        let is_here =
            |name: &String| self.parts.iter().any(|part| part.path.file_name().is_some_and(|file| *file == **name));
        let missing = header.file.as_ref().filter(|name| !is_here(name));
        let found = match (&self.end.newest, missing) {
            (None, None) if header.file.is_some() => {
                Some("it is not the log's first file, and stands first".to_owned())
            }
            (None, None) => (seq != 1 || *prev != Hash::default())
                .then(|| "a log begins with record 1, and this one does not".to_owned()),
            (None, Some(_)) if self.partial => None,
            (None | Some(_), Some(name)) => Some(format!("the file before it, {name}, is missing")),
            (Some(_), None) if header.file.is_none() => Some("a log begins here, in the middle of another".to_owned()),
            (Some(before), None) => follows(before, seq, prev),
        };
        if found.is_none() {
            if self.end.log.as_ref().is_some_and(|log| *log != header.log) {
                return Some("it is of another log".to_owned());
            }
            self.end.log = Some(header.log.clone());
        }
        found
    }
}
