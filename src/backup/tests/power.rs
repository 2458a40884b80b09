//! The power goes off before each step of a backup, a prune, a rotation, an initialisation: what was reported before is still there.

use super::pruning::{assert_clean, forget, prune};
use super::*;
use crate::backup::target::faults::{Fault, Faulty, Power};
use crate::backup::{Depth, Error};

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Runs `job` on copies of a repository with power for 0, 1, 2… steps until it ends well, and `after` on what each left: with what was
/// not synced, or without it. Returns how many steps the whole job has.
fn at_every_step<T>(
    base: Option<&Path>,
    undone: bool,
    job: &dyn Fn(Arc<dyn Target>) -> Result<T>,
    after: &dyn Fn(&Path, Option<T>),
) -> u64 {
    for steps in 0.. {
        let (_folder, path) = place();
        if let Some(base) = base {
            copy_folder(base, &path);
        }
        let power = Power::for_steps(steps);
        let done = job(power.target(&path));
        if undone {
            power.undo_unsynced();
        }
        match done {
            Ok(value) => after(&path, Some(value)),
            Err(Error::Io { .. }) => after(&path, None),
            Err(error) => panic!("step {steps}: {error}"),
        }
        if power.steps() < steps {
            return power.steps();
        }
    }
    unreachable!()
}

/// Backs up with packs so small that each has few chunks: those of odd seeds compress to some dozen bytes.
fn back_up(repository: &Repository, disk: &TestDisk) -> Result<Summary> {
    let mut session = repository.begin(small())?;
    session.disk("disk-0", disk, None)?;
    session.finish()
}

fn small() -> BackupOptions {
    BackupOptions { pack_size: 220, threads: 1, ..options() }
}

/// Each form of repository with one of the two outcomes of a power cut.
const FORMS: [(Form, bool); 2] = [(Form::Plain, false), (Form::Encrypted, true)];

fn disks() -> [TestDisk; 3] {
    let disk = |seeds: [u8; 6]| {
        TestDisk::new(6 * CHUNK as u64, seeds.into_iter().enumerate().map(|(n, seed)| (n as u64, seed)))
    };
    [disk([2, 9, 11, 13, 3, 5]), disk([2, 9, 15, 17, 3, 7]), disk([2, 19, 21, 17, 1, 7])]
}

#[test]
fn a_backup_that_is_stopped_anywhere_loses_nothing_and_is_taken_up() {
    for (form, undone) in FORMS {
        let (_folder, base) = place();
        let [first_disk, second_disk, _] = disks();
        let first = back_up(&init(Arc::new(FolderTarget::new(&base)), form).unwrap(), &first_disk).unwrap().id;
        let steps = at_every_step(
            Some(&base),
            undone,
            &|target| {
                let repository = open_with(target, form)?;
                let mut session = repository.begin(small())?;
                session.disk("disk-0", &second_disk, None)?;
                session.finish()
            },
            &|path, reported| {
                let repository = open(path, form);
                assert_clean(&repository);
                assert_eq!(content(&repository, first).unwrap(), bytes_of(&first_disk));
                for (id, _) in repository.backups().unwrap() {
                    let expected = if id == first { &first_disk } else { &second_disk };
                    assert_eq!(content(&repository, id).unwrap(), bytes_of(expected));
                }
                if let Some(summary) = reported {
                    assert_eq!(content(&repository, summary.id).unwrap(), bytes_of(&second_disk));
                }
                let again = back_up(&repository, &second_disk).unwrap();
                assert_eq!(content(&repository, again.id).unwrap(), bytes_of(&second_disk));
                repository.unlock(true).unwrap();
                prune(&repository).unwrap();
                assert_clean(&repository);
                assert_eq!(content(&repository, again.id).unwrap(), bytes_of(&second_disk));
                assert!(listed_names(&repository, "claims").is_empty());
            },
        );
        assert!(steps > 40, "{steps} steps");
    }
}

fn listed_names(repository: &Repository, folder: &str) -> Vec<String> {
    crate::backup::target::listed(repository.target(), folder).unwrap().into_iter().map(|file| file.name).collect()
}

#[test]
fn a_prune_that_is_stopped_anywhere_loses_nothing_and_is_taken_up() {
    for (form, undone) in FORMS {
        let (_folder, base) = place();
        let repository = init(Arc::new(FolderTarget::new(&base)), form).unwrap();
        let disks = disks();
        let ids = disks.each_ref().map(|disk| back_up(&repository, disk).unwrap().id);
        forget(&repository, ids[0]);
        let whole = |repository: &Repository| {
            assert_clean(repository);
            for n in [1, 2] {
                assert_eq!(content(repository, ids[n]).unwrap(), bytes_of(&disks[n]));
            }
        };
        let steps = at_every_step(Some(&base), undone, &|target| prune(&open_with(target, form)?), &|path, _| {
            whole(&open(path, form));
            // A backup between the two.
            let between = back_up(&open(path, form), &disks[0]).unwrap().id;
            let repository = open(path, form);
            repository.unlock(true).unwrap();
            prune(&repository).unwrap();
            whole(&repository);
            assert_eq!(content(&repository, between).unwrap(), bytes_of(&disks[0]));
            let dooms = listed_names(&repository, "dooms");
            assert!(dooms.len() <= 2, "{dooms:?}");
        });
        assert!(steps > 40, "{steps} steps");
    }
}

#[test]
fn a_rotation_that_is_stopped_anywhere_leaves_a_key_that_opens() {
    let (_folder, base) = place();
    let [disk, ..] = disks();
    let mut repository = init(Arc::new(FolderTarget::new(&base)), Form::Encrypted).unwrap();
    let id = back_up(&repository, &disk).unwrap().id;
    repository.add_key(&secret("other"), CHEAP, "").unwrap();
    repository.rotate_key(&secret("passphrase"), CHEAP, "", true).unwrap();
    repository.add_key(&secret("another"), CHEAP, "").unwrap();
    // Whichever of the two that say what it is was lost before.
    for lost in ["config-copy", "config"] {
        std::fs::remove_file(base.join(lost)).unwrap();
        rotated_at_every_step(&base, id, &disk);
        std::fs::copy(base.join(if lost == "config" { "config-copy" } else { "config" }), base.join(lost)).unwrap();
    }
}

fn rotated_at_every_step(base: &Path, id: Id, disk: &TestDisk) {
    let steps = at_every_step(
        Some(base),
        true,
        &|target| open_with(target, Form::Encrypted)?.rotate_key(&secret("new"), CHEAP, "", true),
        &|path, rotated| {
            let open_as = |text: &str| Repository::open(Arc::new(FolderTarget::new(path)), Some(&secret(text)), None);
            let opened: Vec<Repository> =
                ["passphrase", "new"].into_iter().filter_map(|text| open_as(text).ok()).collect();
            assert!(!opened.is_empty() && (rotated.is_none() || opened.len() == 1));
            assert!(rotated.is_none() || configs(path).iter().all(Option::is_some));
            for repository in &opened {
                spare_is_all_that_is_missed(repository);
                assert_eq!(content(repository, id).unwrap(), bytes_of(disk));
            }
        },
    );
    assert!(steps >= 8, "{steps} steps");
}

/// The bytes of `config` and of its copy.
fn configs(path: &Path) -> [Option<Vec<u8>>; 2] {
    ["config", "config-copy"].map(|file| std::fs::read(path.join(file)).ok())
}

/// A repository that is clean but for a file that says what it is, and has the other.
fn spare_is_all_that_is_missed(repository: &Repository) {
    let report = repository.check(Depth::ReadData).unwrap();
    let others = report.problems.iter().filter(|problem| !problem.file.starts_with("config"));
    assert!(others.count() == 0 && report.hurt.is_empty(), "{report:?}");
}

#[test]
fn a_config_that_is_brought_back_and_stopped_anywhere_is_there_once_at_least() {
    type Loss = fn(&Path);
    let losses: [Loss; 4] = [
        |path| std::fs::remove_file(path.join("config-copy")).unwrap(),
        |path| std::fs::remove_file(path.join("config")).unwrap(),
        |path| std::fs::write(path.join("config"), b"nonsense").unwrap(),
        |path| std::fs::write(path.join("config-copy"), b"nonsense").unwrap(),
    ];
    for (form, undone) in FORMS {
        let (_folder, base) = place();
        let [disk, other, _] = disks();
        let id = back_up(&init(Arc::new(FolderTarget::new(&base)), form).unwrap(), &disk).unwrap().id;
        let whole = configs(&base);
        assert!(whole[0].is_some() && whole[0] == whole[1]);
        for lose in losses {
            let (_folder, lossy) = place();
            copy_folder(&base, &lossy);
            lose(&lossy);
            let still = |path: &Path| {
                let repository = open(path, form);
                spare_is_all_that_is_missed(&repository);
                assert_eq!(content(&repository, id).unwrap(), bytes_of(&disk));
                repository
            };
            at_every_step(Some(&lossy), undone, &|target| open_with(target, form)?.repair(false), &|path, repaired| {
                assert!(repaired.is_none_or(|report| report.restored.len() == 1 && configs(path) == whole));
                still(path).repair(false).unwrap();
                assert_eq!(configs(path), whole);
                assert_clean(&open(path, form));
            });
            // Whoever writes brings back what is gone.
            if configs(&lossy).iter().all(Option::is_some) || form == Form::Plain {
                continue;
            }
            at_every_step(Some(&lossy), undone, &|target| back_up(&open_with(target, form)?, &other), &|path, made| {
                assert!(made.is_none() || configs(path).iter().all(Option::is_some));
                back_up(&still(path), &other).unwrap();
            });
        }
    }
}

#[test]
fn an_initialisation_that_is_stopped_anywhere_can_be_made_again() {
    for (form, undone) in FORMS {
        at_every_step(None, undone, &|target| init(target, form).map(drop), &|path, done| {
            let target = || -> Arc<dyn Target> { Arc::new(FolderTarget::new(path)) };
            let repository = match open_with(target(), form) {
                Err(Error::NotARepository(_)) if done.is_none() => init(target(), form),
                other => other,
            };
            let id = back_up(&repository.unwrap(), &disks()[0]).unwrap().id;
            let [config, copy] = configs(path);
            assert!(config.is_some() && config == copy);
            assert_eq!(content(&open(path, form), id).unwrap(), bytes_of(&disks()[0]));
        });
    }
}

#[test]
fn a_call_that_fails_or_whose_answer_is_lost_loses_nothing() {
    let (_folder, base) = place();
    let [first_disk, second_disk, _] = disks();
    let first = back_up(&init(Arc::new(FolderTarget::new(&base)), Form::Encrypted).unwrap(), &first_disk).unwrap().id;
    for fault in [Fault::Refused, Fault::LostAnswer, Fault::Full] {
        for at in 0.. {
            let (_folder, path) = place();
            copy_folder(&base, &path);
            let target = Arc::new(Faulty::new(Arc::new(FolderTarget::new(&path)), fault, at, u64::MAX));
            let made = open_with(target.clone(), Form::Encrypted).and_then(|repository| {
                forget(&open(&path, Form::Encrypted), first);
                let made = back_up(&repository, &second_disk)?;
                prune(&repository)?;
                Ok(made)
            });
            let repository = open(&path, Form::Encrypted);
            assert_clean(&repository);
            for (id, _) in repository.backups().unwrap() {
                assert_eq!(content(&repository, id).unwrap(), bytes_of(&second_disk));
            }
            let full = |error: &Error| matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull);
            assert!(made.as_ref().map_or_else(|error| full(error) == (fault == Fault::Full), |_| true));
            repository.unlock(true).unwrap();
            let again = back_up(&repository, &second_disk).unwrap().id;
            prune(&repository).unwrap();
            assert_eq!(content(&repository, again).unwrap(), bytes_of(&second_disk));
            if target.calls() <= at {
                break;
            }
        }
    }
}

#[test]
fn a_short_read_is_an_error_and_never_a_wrong_byte() {
    let (_folder, path) = place();
    let [disk, ..] = disks();
    for form in [Form::Plain, Form::Encrypted] {
        let path = path.join(format!("{form:?}").to_lowercase());
        let id = back_up(&init(Arc::new(FolderTarget::new(&path)), form).unwrap(), &disk).unwrap().id;
        for at in 0.. {
            let target = Arc::new(Faulty::new(Arc::new(FolderTarget::new(&path)), Fault::Refused, u64::MAX, at));
            let read = open_with(target.clone(), form).and_then(|repository| content(&repository, id));
            if target.reads() <= at {
                assert_eq!(read.unwrap(), bytes_of(&disk));
                break;
            }
            if let Ok(bytes) = read {
                assert_eq!(bytes, bytes_of(&disk));
            }
        }
        let report = open(&path, form).check(Depth::ReadData).unwrap();
        assert!(report.is_clean());
    }
}
