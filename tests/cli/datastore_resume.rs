//! `ceso datastore download --resume`: what an earlier download has left is gone on with only where the file is still the same.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ceso::sim::{Options, read_fault};

use crate::support::{Done, Machine, Sim};

/// About how much comes before the download is cut off, and of how much.
const CAME: usize = 3_000_000;
const WHOLE: usize = 5_000_000;

const FROM: &str = "[datastore1] a.iso";
const ANEW: &str = "begins anew";

/// A host with a file, and a machine that has got the first part of it.
struct Half {
    machine: Machine,
    host: Sim,
    state: tempfile::TempDir,
}

impl Half {
    fn new(options: Options) -> Self {
        let state = tempfile::tempdir().unwrap();
        let host = Sim::start(Options { state: Some(state.path().to_owned()), ..options });
        let half = Self { machine: Machine::new(), host, state };
        half.put(&content(1), 3600);
        half
    }

    /// Has the download break off for good.
    fn cut(self) -> Self {
        self.fault(&format!("GET folder:cut={CAME}:1"));
        self.fault("GET folder:500:1");
        let failed = self.download(&[]).failed(4, "esxi.file_refused");
        assert!(failed.err.contains("--resume"), "{failed:?}");
        let came = fs::read(self.part()).unwrap();
        assert!(came.len() > 2 << 20 && content(1).starts_with(&came), "{}", came.len());
        self
    }

    fn fault(&self, rule: &str) {
        self.host.server.fault(read_fault(rule).unwrap()).unwrap();
    }

    /// Writes the file on the datastore itself, as of so many seconds ago.
    fn put(&self, content: &[u8], age: u64) {
        self.put_at(content, SystemTime::now() - Duration::from_secs(age));
    }

    fn put_at(&self, content: &[u8], modified: SystemTime) {
        let path = self.state.path().join("datastore1/a.iso");
        fs::write(&path, content).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
    }

    fn part(&self) -> PathBuf {
        self.machine.project().join("a.iso.part")
    }

    fn origin(&self) -> PathBuf {
        self.machine.project().join("a.iso.part.from")
    }

    fn download(&self, more: &[&str]) -> Done {
        self.machine.on(&self.host, &[&["datastore", "download", FROM, "a.iso"], more].concat())
    }

    /// Goes on; what has come is that content, and nothing else is left.
    #[track_caller]
    fn resumed(&self, whole: &[u8]) -> Done {
        let done = self.download(&["--resume"]).ok();
        assert!(fs::read(self.machine.project().join("a.iso")).unwrap() == whole, "{done:?}");
        assert!(!self.part().exists() && !self.origin().exists());
        done
    }
}

/// Two contents differ in their first bytes alone: a look at the end of a part does not show it.
fn content(first: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..WHOLE).map(|at| (at / 251) as u8).collect();
    bytes[..1000].fill(first);
    bytes
}

fn dated() -> Options {
    Options { dates: true, ..Options::default() }
}

#[test]
fn a_file_that_is_still_the_same_is_gone_on_with_behind_what_came() {
    for options in [Options::default(), dated(), Options { ranges: false, ..dated() }] {
        let ranges = options.ranges;
        let half = Half::new(options).cut();
        // What is there already shows in the whole, where it was not fetched again.
        let mut part = fs::read(half.part()).unwrap();
        part[..4].copy_from_slice(b"mark");
        fs::write(half.part(), &part).unwrap();
        let mut whole = content(1);
        if ranges {
            whole[..4].copy_from_slice(b"mark");
        }
        let done = half.resumed(&whole);
        assert!(!done.err.contains(ANEW), "{done:?}");
    }
}

#[test]
fn a_file_of_the_same_length_that_was_changed_is_fetched_anew() {
    for options in [Options::default(), dated()] {
        let half = Half::new(options).cut();
        half.put(&content(2), 1800);
        let done = half.resumed(&content(2));
        assert!(done.err.contains(ANEW) && done.err.contains("has been changed"), "{done:?}");
    }
}

#[test]
fn a_file_of_another_length_is_fetched_anew() {
    for length in [CAME - 7, CAME, WHOLE + 7] {
        let half = Half::new(Options::default()).cut();
        let mut other = content(1);
        other.resize(length, 9);
        half.put(&other, 3600);
        assert!(half.resumed(&other).err.contains(ANEW), "{length}");
    }
}

#[test]
fn a_part_of_which_nothing_is_known_is_thrown_away_with_a_word() {
    for broken in [None, Some(""), Some("{"), Some("{\"host\":\"env\",\"file\":\"[datastore1] a.iso\"}"), Some("null")]
    {
        let half = Half::new(Options::default()).cut();
        match broken {
            None => fs::remove_file(half.origin()).unwrap(),
            Some(text) => fs::write(half.origin(), text).unwrap(),
        }
        let done = half.resumed(&content(1));
        assert!(done.err.contains(ANEW) && done.err.contains("not written down"), "{broken:?}: {done:?}");
    }
}

#[test]
fn a_host_that_does_not_show_that_the_file_is_the_same_has_it_fetched_anew() {
    // Neither the file nor the browser says when it was changed.
    let half = Half::new(Options::default()).cut();
    half.fault("SearchDatastore_Task:NoPermission");
    let done = half.resumed(&content(1));
    assert!(done.err.contains(ANEW) && done.err.contains("cannot be known"), "{done:?}");
    // It was not changed a while before the download began: it may have been changed again in that very second.
    let half = Half::new(dated());
    half.put_at(&content(1), SystemTime::now() + Duration::from_secs(60));
    let half = half.cut();
    let done = half.resumed(&content(1));
    assert!(done.err.contains(ANEW) && done.err.contains("cannot be known"), "{done:?}");
}

#[test]
fn a_part_of_another_file_is_neither_gone_on_with_nor_thrown_away() {
    let half = Half::new(Options::default()).cut();
    fs::copy(half.state.path().join("datastore1/a.iso"), half.state.path().join("datastore1/b.iso")).unwrap();
    let other = ["datastore", "download", "[datastore1] b.iso", "a.iso", "--resume"];
    let refused = half.machine.on(&half.host, &other).failed(1, "local.other_part");
    assert!(refused.err.contains("[datastore1] a.iso"), "{refused:?}");
    assert!(content(1).starts_with(&fs::read(half.part()).unwrap()));
    half.resumed(&content(1));
}

#[test]
fn a_download_that_never_began_leaves_nothing() {
    let half = Half::new(Options::default());
    half.fault("GET folder:500:1");
    half.download(&[]).failed(4, "esxi.file_refused");
    half.machine
        .on(&half.host, &["datastore", "download", "[datastore1] none", "a.iso"])
        .failed(4, "esxi.file_not_found");
    assert_eq!(fs::read_dir(half.machine.project()).unwrap().count(), 0);
    // With nothing to go on with, it begins without a word.
    assert!(!half.resumed(&content(1)).err.contains(ANEW));
}
