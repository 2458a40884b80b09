//! Whatever is changed in a log is found, and the first line that is wrong is named.

use std::path::Path;

use super::super::key::Key;
use super::super::line::{self, Hash, Line};
use super::super::own::Body;
use super::super::{Event, Kind, Options, Pin, Verify};
use super::{Dice, Place, body, disk};
use crate::units::Bytes;

const MUTATIONS: usize = 10_000;
const EVERY: u64 = 10;

/// A log of several files, in memory: names and lines, each line with its line feed.
#[derive(Clone, PartialEq)]
struct Text(Vec<(String, Vec<Vec<u8>>)>);

impl Text {
    fn read(folder: &Path) -> Self {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".json"))
            .collect();
        // "audit-…" sorts before "audit.json".
        names.sort();
        let lines = |name: &String| {
            let bytes = std::fs::read(folder.join(name)).unwrap();
            bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
        };
        Self(names.iter().map(|name| (name.clone(), lines(name))).collect())
    }

    fn write(&self, folder: &Path, before: &Self) {
        for (name, _) in &before.0 {
            if !self.0.iter().any(|(own, _)| own == name) {
                std::fs::remove_file(folder.join(name)).unwrap();
            }
        }
        for (name, lines) in &self.0 {
            if !before.0.iter().any(|(other, old)| other == name && old == lines) {
                std::fs::write(folder.join(name), lines.concat()).unwrap();
            }
        }
    }

    /// The lines as they stand in the files: a change may have made two of one, or one of two.
    fn split_again(&mut self) {
        for (_, lines) in &mut self.0 {
            *lines = lines.concat().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        }
    }

    /// The first line that is not what it was: its file's name and its number from 1. Where lines are missing at a file's end it is the
    /// next file's first line; `None` where they are missing at the end of the log.
    fn first_change(&self, original: &Self) -> Option<(String, u64)> {
        for (file, (name, lines)) in original.0.iter().enumerate() {
            let Some((_, now)) = self.0.iter().find(|(other, _)| other == name) else {
                let next = original.0.get(file + 1)?;
                return Some((next.0.clone(), 1));
            };
            if let Some(at) = (0..lines.len().max(now.len())).find(|at| lines.get(*at) != now.get(*at)) {
                if at < now.len() {
                    return Some((name.clone(), at as u64 + 1));
                }
                return original.0.get(file + 1).map(|(name, _)| (name.clone(), 1));
            }
        }
        None
    }

    fn line(&self, dice: &mut Dice) -> (usize, usize) {
        let file = dice.below(self.0.len());
        (file, dice.below(self.0[file].1.len()))
    }
}

fn fixture() -> (Place, Text, Vec<Pin>) {
    let place = Place::new();
    let options = Options { rotate_at: Bytes(5000), checkpoint_every: EVERY, ..place.options() };
    let mut disk = disk(&options);
    let mut receipts = Vec::new();
    for number in 0..34 {
        let event = Event {
            operation: Some("vm.power_on".into()),
            objects: vec![format!("web-{number}")],
            call: Some(number),
            ..Event::of_run(if number % 3 == 0 { Kind::Intent } else { Kind::Read }, "r1")
        };
        receipts.extend(disk.append(&[body(event)]).unwrap());
    }
    disk.checkpoint().unwrap();
    let text = Text::read(place.0.path());
    assert!(
        text.0.len() >= 3 && text.0.iter().all(|(_, lines)| lines.len() > 3),
        "{:?}",
        text.0.iter().map(|(name, lines)| (name, lines.len())).collect::<Vec<_>>()
    );
    let last = disk.receipt().unwrap();
    (place, text, vec![last.to_string()[..20].parse().unwrap()])
}

/// One change of a log.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Flip,
    Delete,
    Insert,
    Duplicate,
    Swap,
    SwapBetweenFiles,
    SwapFiles,
    RemoveFile,
    CutAtLine,
    CutInLine,
    RemoveCheckpoint,
    Rehash,
    RehashToTheEnd,
    Garbage,
}

const CHANGES: [Change; 14] = [
    Change::Flip,
    Change::Delete,
    Change::Insert,
    Change::Duplicate,
    Change::Swap,
    Change::SwapBetweenFiles,
    Change::SwapFiles,
    Change::RemoveFile,
    Change::CutAtLine,
    Change::CutInLine,
    Change::RemoveCheckpoint,
    Change::Rehash,
    Change::RehashToTheEnd,
    Change::Garbage,
];

fn is_signed(line: &[u8]) -> bool {
    Line::read(line.strip_suffix(b"\n").unwrap()).unwrap().signature().is_some()
}

/// What somebody without the key makes of a line: another text with a hash that fits.
fn rehashed(line: &[u8], prev: Option<Hash>, stranger: &Key, change: bool) -> (Vec<u8>, Hash) {
    let text = line.strip_suffix(b"\n").unwrap();
    let line = Line::read(text).unwrap();
    let mut event = String::from_utf8(line.event.to_vec()).unwrap();
    if change {
        event = event.replace("web-", "wxb-").replace("signature\":\"", "signature\":\"\u{0}").replace('\u{0}', "");
        if event.as_bytes() == line.event {
            // A record of the log's own: another digit in its signature.
            let at = event.len() - 3;
            let other = if &event[at..=at] == "0" { "1" } else { "0" };
            event.replace_range(at..=at, other);
        }
    }
    let boot = std::str::from_utf8(&text[9..45]).unwrap();
    let mut out = Vec::new();
    let body = Body::Plain(event.into_bytes());
    let hash = line::write(&mut out, stranger, boot, &body, &prev.unwrap_or(line.prev), line.seq, line.ts);
    (out, hash)
}

/// Applies the change; where the first bad line must be, if another than the first changed one.
fn apply(change: Change, text: &mut Text, dice: &mut Dice, stranger: &Key) -> Option<(String, u64)> {
    let (file, at) = text.line(dice);
    let (other, there) = text.line(dice);
    let name = text.0[file].0.clone();
    match change {
        Change::Flip => {
            let line = &mut text.0[file].1[at];
            let byte = dice.below(line.len());
            line[byte] ^= 1 << dice.below(8);
        }
        Change::Delete => drop(text.0[file].1.remove(at)),
        Change::Insert => {
            let line = text.0[other].1[there].clone();
            text.0[file].1.insert(at, line);
        }
        Change::Duplicate => {
            let line = text.0[file].1[at].clone();
            text.0[file].1.insert(at + 1, line);
        }
        Change::Swap => {
            let with = dice.below(text.0[file].1.len());
            text.0[file].1.swap(at, with);
        }
        Change::SwapBetweenFiles => {
            let (one, two) = (text.0[file].1[at].clone(), text.0[other].1[there].clone());
            text.0[file].1[at] = two;
            text.0[other].1[there] = one;
        }
        Change::SwapFiles => {
            let lines = text.0[file].1.clone();
            text.0[file].1 = std::mem::replace(&mut text.0[other].1, lines);
        }
        Change::RemoveFile => drop(text.0.remove(file)),
        Change::CutAtLine => {
            // Only the newest file can be cut without another file telling.
            let file = if dice.below(2) == 0 { text.0.len() - 1 } else { file };
            let keep = 1 + dice.below(text.0[file].1.len() - 1);
            text.0[file].1.truncate(keep);
        }
        Change::CutInLine => {
            let keep = dice.below(text.0[file].1[at].len());
            text.0[file].1.truncate(at + 1);
            text.0[file].1[at].truncate(keep);
        }
        Change::RemoveCheckpoint => {
            let signed: Vec<usize> = (0..text.0[file].1.len()).filter(|at| is_signed(&text.0[file].1[*at])).collect();
            text.0[file].1.remove(signed[dice.below(signed.len())]);
        }
        Change::Rehash => {
            let line = &mut text.0[file].1[at];
            let signed = is_signed(line);
            *line = rehashed(line, None, stranger, true).0;
            if !signed {
                // By itself the line is a record: the one behind it tells.
                return Some(match text.0[file].1.get(at + 1) {
                    Some(_) => (name, at as u64 + 2),
                    None => (text.0[file + 1].0.clone(), 1),
                });
            }
        }
        Change::RehashToTheEnd => {
            let mut prev = None;
            let mut found = None;
            for file in file..text.0.len() {
                let name = text.0[file].0.clone();
                for (number, line) in text.0[file].1.iter_mut().enumerate().skip(if prev.is_none() { at } else { 0 }) {
                    if is_signed(line) && found.is_none() {
                        found = Some((name.clone(), number as u64 + 1));
                    }
                    let (new, hash) = rehashed(line, prev, stranger, prev.is_none());
                    *line = new;
                    prev = Some(hash);
                }
            }
            return found;
        }
        Change::Garbage => {
            let line = (0..dice.below(300)).map(|_| dice.next() as u8).chain([b'\n']).collect();
            text.0[file].1.insert(at, line);
        }
    }
    None
}

#[test]
fn ten_thousand_changes_are_all_found_and_the_first_bad_line_is_named() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || change_many(thread as u64, MUTATIONS.div_ceil(threads)));
        }
    });
}

fn change_many(seed: u64, count: usize) {
    let (place, original, pins) = fixture();
    let folder = place.0.path();
    let stranger = {
        let place = Place::new();
        Key::beside(&place.file(), false).unwrap()
    };
    let verify = Verify { pins, threads: Some(1), ..Verify::new(place.file()) };
    let report = verify.run().unwrap();
    assert!(report.verified && report.unsigned == 0 && report.torn == 0, "{report:?}");
    let mut dice = Dice(seed);
    let mut before = original.clone();
    let mut made = 0;
    while made < count {
        let change = CHANGES[made % CHANGES.len()];
        let mut text = original.clone();
        let elsewhere = apply(change, &mut text, &mut dice, &stranger);
        text.split_again();
        if text == original {
            continue;
        }
        made += 1;
        let gone = text.0.len() < original.0.len();
        text.write(folder, &before);
        let report = verify.run().unwrap();
        let problem = report.problem.as_ref().unwrap_or_else(|| panic!("not found: {change:?}, {report:?}"));
        let file = problem.file.file_name().unwrap().to_str().unwrap().to_owned();
        let expected = elsewhere.or_else(|| text.first_change(&original));
        match expected {
            // What is missing or torn at the end of the log is what the pin tells.
            None => assert!(problem.line.is_none() && file == "audit.json", "{change:?}: {problem:?}"),
            Some((name, line)) => {
                let torn = report.torn > 0 && problem.line.is_none();
                let named = (file.clone(), problem.line) == (name.clone(), Some(line));
                assert!(torn || named, "{change:?}: {problem:?}, and it should be {name}, line {line}");
                if torn {
                    // The line that was changed is the last, and lost its line feed.
                    assert!(
                        name == "audit.json" && line as usize == text.0.last().unwrap().1.len(),
                        "{change:?}: {report:?}"
                    );
                }
                if gone && problem.line.is_some() {
                    assert!(problem.what.contains("missing"), "{problem:?}");
                }
            }
        }
        if let (Some(offset), Some(line)) = (problem.offset, problem.line) {
            let lines = &text.0.iter().find(|(name, _)| *name == file).unwrap().1;
            assert_eq!(offset as usize, lines[..line as usize - 1].iter().map(Vec::len).sum::<usize>());
        }
        before = text;
    }
    original.write(folder, &before);
    assert!(verify.run().unwrap().verified);
}

#[test]
fn another_public_key_is_found() {
    let (place, _, _) = fixture();
    let other = Place::new();
    disk(&other.options());
    let public = place.file().with_extension("pub");
    let own = std::fs::read(&public).unwrap();
    std::fs::copy(other.file().with_extension("pub"), &public).unwrap();
    let problem = super::verify(&place).problem.unwrap();
    assert!(problem.line == Some(1) && problem.what.contains("another key"), "{problem}");
    std::fs::write(place.0.path().join("mine.pub"), own).unwrap();
    let with = Verify { key: Some(place.0.path().join("mine.pub")), ..Verify::new(place.file()) };
    assert!(with.run().unwrap().verified);
    for wrong in [&b""[..], b"zz", b"\xff\xff", &[b'0'; 200]] {
        std::fs::write(&public, wrong).unwrap();
        assert_eq!(Verify::new(place.file()).run().unwrap_err().kind(), "audit.key");
    }
}
