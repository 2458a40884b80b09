//! A place that fills up, goes away or cannot be written: a clear error, and the next run cleans up.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::power::copy_folder;
use super::pruning::{assert_clean, forget, prune};
use super::*;
use crate::backup::target::{Step, Steps, listed};
use crate::backup::{CopyOptions, Error};
use crate::error::Fault;

/// A folder whose Nth step fails with an error, and all after it until it is well again.
struct Failing {
    left: AtomicU64,
    well: AtomicBool,
    error: io::ErrorKind,
    steps: AtomicU64,
}

impl Failing {
    fn after(steps: u64, error: io::ErrorKind) -> Arc<Self> {
        let (left, well, steps) = (AtomicU64::new(steps), AtomicBool::new(false), AtomicU64::new(0));
        Arc::new(Self { left, well, error, steps })
    }
}

impl Steps for Failing {
    fn before(&self, step: Step<'_>) -> io::Result<()> {
        // A full disk still deletes, and a file system that was made read-only does not.
        if matches!(step, Step::Unlink(_)) && self.error == io::ErrorKind::StorageFull {
            return Ok(());
        }
        self.steps.fetch_add(1, Ordering::SeqCst);
        let spent = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err();
        if spent && !self.well.load(Ordering::SeqCst) { Err(io::Error::from(self.error)) } else { Ok(()) }
    }
}

fn disks() -> [TestDisk; 2] {
    let disk = |seeds: [u8; 4]| {
        TestDisk::new(4 * CHUNK as u64, seeds.into_iter().enumerate().map(|(n, seed)| (n as u64, seed)))
    };
    [disk([9, 11, 13, 3]), disk([9, 15, 17, 3])]
}

fn back_up_small(repository: &Repository, disk: &TestDisk) -> Result<Summary> {
    let mut session = repository.begin(BackupOptions { pack_size: 220, threads: 1, ..options() })?;
    session.disk("disk-0", disk, None)?;
    session.finish()
}

type Job = fn(Arc<dyn Target>, &Repository) -> Result<()>;

/// What is done while the place is in trouble; the other repository is the source of copies.
const JOBS: [(&str, Job); 4] = [
    ("backup", |target, _| back_up_small(&open_with(target, Form::Encrypted)?, &disks()[1]).map(drop)),
    ("prune", |target, _| prune(&open_with(target, Form::Encrypted)?).map(drop)),
    ("rotation", |target, _| {
        open_with(target, Form::Encrypted)?.rotate_key(&secret("passphrase"), CHEAP, "", true).map(drop)
    }),
    ("copy", |target, from| {
        let to = open_with(target, Form::Encrypted)?;
        let options = CopyOptions { pack_size: 220, threads: 1 };
        from.copy(&to, &from.copy_plan(&to, &|_, _| true)?, &options, &|_| {}).map(drop)
    }),
];

#[test]
fn a_place_that_is_full_or_read_only_from_any_step_on_says_so_and_loses_nothing() {
    let (_folder, base) = place();
    let (_other_folder, other) = place();
    let from = init(Arc::new(FolderTarget::new(&other)), Form::Encrypted).unwrap();
    back_up_small(&from, &disks()[0]).unwrap();
    let repository = init(Arc::new(FolderTarget::new(&base)), Form::Encrypted).unwrap();
    let gone = back_up_small(&repository, &disks()[1]).unwrap().id;
    let kept = back_up_small(&repository, &disks()[0]).unwrap().id;
    forget(&repository, gone);
    for (error, kind) in
        [(io::ErrorKind::StorageFull, "backup.full"), (io::ErrorKind::ReadOnlyFilesystem, "backup.target")]
    {
        for (name, job) in JOBS {
            // Every step of one of them, and a few of the other.
            let stride = if error == io::ErrorKind::StorageFull { 1 } else { 5 };
            for at in (0..).step_by(stride) {
                let (_folder, path) = place();
                copy_folder(&base, &path);
                let steps = Failing::after(at, error);
                let target: Arc<dyn Target> =
                    Arc::new(FolderTarget::with_steps(&path, Arc::clone(&steps) as Arc<dyn Steps>));
                let done = job(target.clone(), &from);
                let when = format!("{name}, {error} from step {at} on");
                if let Err(error) = &done {
                    assert!(matches!(error, Error::Io { .. }), "{when}: {error}");
                }
                let told = done.map_err(|error| Fault::from(error).kind().to_owned());
                assert!(told.as_ref().err().is_none_or(|told| told == kind), "{when}: {told:?}");
                let repository = open(&path, Form::Encrypted);
                assert_clean(&repository);
                assert_eq!(content(&repository, kept).unwrap(), bytes_of(&disks()[0]), "{when}");
                // Well again, the same process goes on, and nothing is left of the trouble.
                steps.well.store(true, Ordering::SeqCst);
                let repository = open_with(target, Form::Encrypted).unwrap();
                let again = back_up_small(&repository, &disks()[1]).unwrap().id;
                repository.unlock(true).unwrap();
                prune(&repository).unwrap();
                assert_eq!(content(&repository, again).unwrap(), bytes_of(&disks()[1]), "{when}");
                assert!(listed(repository.target(), "claims").unwrap().is_empty(), "{when}");
                if told.is_ok() && steps.steps.load(Ordering::SeqCst) > at {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_folder_that_goes_away_in_the_middle_is_missed_and_not_taken_for_an_empty_one() {
    let (folder, path) = place();
    let target: Arc<dyn Target> = Arc::new(FolderTarget::new(&path));
    let repository = init(target.clone(), Form::Plain).unwrap();
    let id = back_up_small(&repository, &disks()[0]).unwrap().id;
    let mut session = repository.begin(options()).unwrap();
    session.disk("disk-0", &disks()[1], None).unwrap();
    let plan = repository
        .prune_plan(&crate::backup::PruneOptions {
            unused: 0.0,
            at_once: true,
            ..crate::backup::PruneOptions::default()
        })
        .unwrap();
    // As an unmounted file system leaves its mount point: empty.
    let away = folder.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    std::fs::create_dir(&path).unwrap();
    for gone in [false, true] {
        if gone {
            std::fs::remove_dir_all(&path).unwrap();
        }
        let message = |error: Error| {
            let fault = Fault::from(error);
            assert_eq!(fault.kind(), "backup.target", "{fault:?}");
            fault.to_string()
        };
        assert!(message(repository.backups().unwrap_err()).contains(&path.display().to_string()));
        message(repository.check(Default::default()).unwrap_err());
        message(repository.prune_plan(&Default::default()).unwrap_err());
        assert!(repository.prune(&plan).is_err());
        assert!(repository.repair(false).is_err());
        assert!(repository.stats().is_err());
        assert!(matches!(open_with(Arc::new(FolderTarget::new(&path)), Form::Plain), Err(Error::NotARepository(_))));
    }
    assert!(session.finish().is_err());
    drop(std::fs::remove_dir_all(&path));
    std::fs::rename(&away, &path).unwrap();
    assert_clean(&repository);
    assert_eq!(content(&repository, id).unwrap(), bytes_of(&disks()[0]));
    let again = back_up_small(&repository, &disks()[1]).unwrap().id;
    assert_eq!(content(&repository, again).unwrap(), bytes_of(&disks()[1]));
}
