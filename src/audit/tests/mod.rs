//! The audit log, held against what it promises.

mod writing;

use std::path::PathBuf;

use super::{Event, Kind, Options};

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
