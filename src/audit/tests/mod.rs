//! The audit log, held against what it promises.

mod canonical;
mod crashes;
mod files;
mod mutations;
mod witnesses;
mod writing;

use std::path::PathBuf;

use super::disk::Disk;
use super::medium::Machine;
use super::own::Body;
use super::{Event, Kind, Options, Report, Verify};

/// A log's place in a folder of the test's own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("audit.json")
    }

    fn options(&self) -> Options {
        Options::new(self.file())
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }
}

fn note(text: &str) -> Event {
    Event { message: Some(text.to_owned()), ..Event::of_run(Kind::Note, "run-1") }
}

/// Opens a log without its thread.
fn disk(options: &Options) -> Disk {
    Disk::open(options, Box::new(Machine)).unwrap()
}

fn body(event: Event) -> Body {
    Body::Plain(event.into_body().unwrap())
}

fn verify(place: &Place) -> Report {
    Verify { threads: Some(1), ..Verify::new(place.file()) }.run().unwrap()
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below a limit.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[track_caller]
fn eventually(mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it never came");
}
