//! A machine that stops at any moment leaves a log that goes on: nothing that was synced is lost, and what is there verifies.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use time::OffsetDateTime;

use super::super::disk::Disk;
use super::super::line::Receipt;
use super::super::medium::{Machine, Medium};
use super::super::{Event, Kind, Log, Options, Sync};
use super::{Place, body, disk, note, verify};
use crate::units::Bytes;

/// A machine that stops after so many steps: a byte is one, and before and after anything else there is one.
struct Stopping {
    left: Arc<Mutex<u64>>,
}

impl Stopping {
    fn step(&self, steps: u64) -> Result<(), u64> {
        let mut left = self.left.lock().unwrap();
        if *left >= steps {
            *left -= steps;
            return Ok(());
        }
        Err(std::mem::take(&mut *left))
    }

    fn act<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.step(1).map_err(|_| stopped())?;
        let result = act()?;
        self.step(1).map_err(|_| stopped())?;
        Ok(result)
    }
}

fn stopped() -> io::Error {
    io::Error::other("the machine has stopped")
}

impl Medium for Stopping {
    fn append(&mut self, file: &File, bytes: &[u8]) -> io::Result<()> {
        match self.step(bytes.len() as u64) {
            Ok(()) => Machine.append(file, bytes),
            Err(left) => {
                Machine.append(file, &bytes[..left as usize])?;
                Err(stopped())
            }
        }
    }

    fn sync(&mut self, _: &File) -> io::Result<()> {
        self.act(|| Ok(()))
    }

    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        self.act(|| Machine.cut(file, length))
    }

    fn create(&mut self, path: &Path) -> io::Result<File> {
        self.act(|| Machine.create(path))
    }

    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(|| Machine.link(from, to))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(|| Machine.rename(from, to))
    }

    fn sync_folder(&mut self, _: &Path) -> io::Result<()> {
        self.act(|| Ok(()))
    }

    fn now(&self) -> OffsetDateTime {
        Machine.now()
    }
}

/// Writes some events, each synced; the receipts of those that were synced, and whether the machine came to the end.
fn life(options: &Options, steps: u64) -> (Vec<Receipt>, bool) {
    let left = Arc::new(Mutex::new(steps));
    let mut synced = Vec::new();
    let Ok(mut disk) = Disk::open(options, Box::new(Stopping { left })) else { return (synced, false) };
    for number in 0..4 {
        let event = Event { objects: vec![format!("vm-{number}")], ..Event::new(Kind::Intent) };
        let Ok(receipts) = disk.append(&[body(event), body(note("n"))]) else { return (synced, false) };
        if disk.sync().is_err() {
            return (synced, false);
        }
        synced.extend(receipts);
    }
    (synced, true)
}

#[test]
fn a_machine_that_stops_at_any_step_loses_nothing_that_was_synced() {
    // One key for all: making one takes longer than all the rest.
    let key = Place::new();
    drop(disk(&key.options()));
    let mut done = false;
    let mut steps = 0;
    while !done {
        let place = Place::new();
        for extension in ["key", "pub"] {
            let (from, to) = (key.file().with_extension(extension), place.file().with_extension(extension));
            std::fs::copy(from, to).unwrap();
        }
        // Small enough that the file is set aside once in each life.
        let options = Options { rotate_at: Bytes(2500), checkpoint_every: 5, ..place.options() };
        let (synced, end) = life(&options, steps);
        done = end;
        let mut next = Disk::open(&options, Box::new(Machine)).unwrap_or_else(|error| panic!("{steps}: {error}"));
        next.append(&[body(note("after"))]).unwrap();
        next.checkpoint().unwrap();
        let report = verify(&place);
        assert!(report.verified && report.torn == 0, "{steps}: {report:?}");
        let text: String = report.files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        for receipt in synced {
            let line = text.lines().nth(receipt.seq as usize - 1).unwrap();
            assert!(line.contains(&format!("\"hash\":\"{}\"", receipt.head)), "{steps}: {receipt}");
        }
        // The first lines byte by byte, then with steps that meet every place in a line sooner or later.
        steps += if steps < 700 { 1 } else { 7 };
    }
    assert!(steps > 3000, "the file was written in {steps} steps");
}

#[test]
fn a_line_that_is_cut_at_any_byte_is_told_from_a_changed_one_and_cut_off() {
    let place = Place::new();
    let mut first = disk(&place.options());
    for number in 0..6 {
        first.append(&[body(note(&number.to_string()))]).unwrap();
    }
    let whole = std::fs::read(place.file()).unwrap();
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').map(|at| at + 1).collect();
    for cut in (ends[2]..whole.len()).rev() {
        std::fs::write(place.file(), &whole[..cut]).unwrap();
        let lines = ends.iter().filter(|end| **end <= cut).count();
        let torn = cut - ends[lines - 1];
        let report = verify(&place);
        assert!(report.verified, "{cut}: {report:?}");
        assert_eq!((report.torn as usize, report.records as usize), (torn, lines), "{cut}");
        let mut next = disk(&place.options());
        next.append(&[body(note("after"))]).unwrap();
        let report = verify(&place);
        assert!(report.verified && report.torn == 0, "{cut}: {report:?}");
        let recovered = place.text().contains(&format!("{{\"bytes\":{torn},\"kind\":\"recovered\"}}"));
        assert_eq!(recovered, torn > 0, "{cut}");
    }
}

/// A disk that takes so many bytes and no more.
struct Full(Arc<Mutex<usize>>);

impl Medium for Full {
    fn append(&mut self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let mut room = self.0.lock().unwrap();
        let fits = bytes.len().min(*room);
        *room -= fits;
        Machine.append(file, &bytes[..fits])?;
        if fits < bytes.len() { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(()) }
    }

    fn sync(&mut self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        Machine.cut(file, length)
    }

    fn create(&mut self, path: &Path) -> io::Result<File> {
        Machine.create(path)
    }

    fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        Machine.link(from, to)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        Machine.rename(from, to)
    }

    fn sync_folder(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn now(&self) -> OffsetDateTime {
        Machine.now()
    }
}

#[test]
fn a_full_disk_is_an_error_that_leaves_no_half_line_and_ends_when_there_is_room() {
    let place = Place::new();
    let room = Arc::new(Mutex::new(2000));
    let log = Log::open_on(place.options(), Box::new(Full(room.clone()))).unwrap();
    let mut written = 0;
    let error = loop {
        match log.write_blocking(note("fills the disk"), Sync::Now) {
            Ok(receipt) => written = receipt.unwrap().seq,
            Err(error) => break error,
        }
    };
    let fault = crate::error::Fault::from(error.clone());
    assert!(fault.is("audit.unwritable") && fault.hint_text().is_some(), "{fault:?}");
    assert_eq!(verify(&place).newest.unwrap().seq, written);
    assert!(place.text().ends_with('\n'));
    // Nobody waits for this one, so the next one is told, and the log counts what it could not write.
    assert!(log.failure().is_some() && log.write_blocking(note("lost"), Sync::Grouped).is_err());
    super::eventually(|| log.write_blocking(note("lost"), Sync::Now).is_err());
    *room.lock().unwrap() = 1 << 20;
    let receipt = log.write_blocking(note("there is room"), Sync::Now).unwrap().unwrap();
    assert!(log.failure().is_none() && receipt.seq > written);
    log.close().unwrap();
    assert!(place.text().contains("{\"kind\":\"lost\",\"records\":1}"), "{}", place.text());
    assert!(verify(&place).verified);
}

#[test]
fn a_sync_that_fails_refuses_all_that_comes_after() {
    struct NoSync(bool);
    impl Medium for NoSync {
        fn append(&mut self, file: &File, bytes: &[u8]) -> io::Result<()> {
            Machine.append(file, bytes)
        }
        fn sync(&mut self, file: &File) -> io::Result<()> {
            // The first is that of the log's beginning.
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            Machine.sync(file)
        }
        fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
            Machine.cut(file, length)
        }
        fn create(&mut self, path: &Path) -> io::Result<File> {
            Machine.create(path)
        }
        fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
            Machine.link(from, to)
        }
        fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
            Machine.rename(from, to)
        }
        fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
            Machine.sync_folder(folder)
        }
        fn now(&self) -> OffsetDateTime {
            Machine.now()
        }
    }
    let place = Place::new();
    let log = Log::open_on(place.options(), Box::new(NoSync(false))).unwrap();
    for _ in 0..3 {
        assert_eq!(log.write_blocking(note("x"), Sync::Now).unwrap_err().kind(), "audit.unwritable");
    }
    assert!(log.close().is_err());
}
