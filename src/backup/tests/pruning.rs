//! Prunes delete what nothing needs, and never more, whoever else is at work.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::backup::target::listed;
use crate::backup::{Depth, Error, Keep, PruneOptions};

fn at_once() -> PruneOptions {
    PruneOptions { unused: 0.0, at_once: true, ..PruneOptions::default() }
}

pub fn prune(repository: &Repository) -> Result<crate::backup::PruneReport> {
    repository.prune(&repository.prune_plan(&at_once())?)
}

pub fn forget(repository: &Repository, id: Id) {
    repository.target().delete(&[format!("manifests/{id}")]).unwrap();
}

pub fn assert_clean(repository: &Repository) {
    let report = repository.check(Depth::ReadData).unwrap();
    assert!(report.is_clean() && report.hurt.is_empty(), "{report:?}");
}

fn stored(repository: &Repository) -> u64 {
    listed(repository.target(), "data").unwrap().iter().map(|file| file.size).sum()
}

#[test]
fn a_prune_keeps_what_is_needed_and_deletes_the_rest() {
    for form in [Form::Plain, Form::Encrypted] {
        let (_folder, path) = place();
        let repository = init(Arc::new(FolderTarget::new(&path)), form).unwrap();
        let old = TestDisk::new(20 * CHUNK as u64, (0..20).map(|n| (n, n as u8 * 2 + 2)));
        let new = TestDisk::new(
            20 * CHUNK as u64,
            (0..20).map(|n| (n, if n % 3 == 0 { n as u8 * 2 + 2 } else { 60 + n as u8 * 2 })),
        );
        let first = back_up(&repository, &old).unwrap().id;
        let second = back_up(&repository, &new).unwrap().id;
        let before = stored(&repository);
        // Nothing is unneeded yet.
        assert!(repository.prune_plan(&at_once()).unwrap().delete.is_empty());
        forget(&repository, first);
        let plan = repository.prune_plan(&at_once()).unwrap();
        assert_eq!(plan, repository.prune_plan(&at_once()).unwrap());
        let report = repository.prune(&plan).unwrap();
        assert_eq!(report.deleted, plan.delete.len() as u64);
        assert_clean(&repository);
        assert_eq!(content(&repository, second).unwrap(), bytes_of(&new));
        assert!(stored(&repository) < 20 * CHUNK as u64 + (16 << 10) && stored(&repository) < before);
        assert!(repository.prune_plan(&at_once()).unwrap().delete.is_empty());
        forget(&repository, second);
        prune(&repository).unwrap();
        assert_eq!(stored(&repository), 0);
        assert!(listed(repository.target(), "index").unwrap().is_empty());
        assert_clean(&repository);
        assert_eq!(content(&repository, back_up(&repository, &old).unwrap().id).unwrap(), bytes_of(&old));
    }
}

pub fn make_older(path: &Path, folder: &str, age: Duration) {
    for entry in std::fs::read_dir(path.join(folder)).unwrap() {
        let file = std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
}

#[test]
fn marked_packs_wait_for_the_grace_period_and_for_older_leases() {
    let (_folder, path) = place();
    let hour = Duration::from_secs(3600);
    let grace = InitOptions { grace: 24 * hour, ..init_options(Form::Plain) };
    let repository = Repository::init(Arc::new(FolderTarget::new(&path)), &grace, None).unwrap();
    let disk = TestDisk::new(4 * CHUNK as u64, (0..4).map(|n| (n, n as u8 * 2 + 2)));
    let first = back_up(&repository, &disk).unwrap().id;
    forget(&repository, first);
    let before = stored(&repository);
    let usual = PruneOptions::default();
    let plan = repository.prune_plan(&usual).unwrap();
    assert!(!plan.mark.is_empty() && plan.delete.is_empty());
    repository.prune(&plan).unwrap();
    assert_eq!(stored(&repository), before);
    make_older(&path, "marks", 23 * hour);
    let plan = repository.prune_plan(&usual).unwrap();
    assert!(plan.mark.is_empty() && plan.delete.is_empty() && plan.waiting.len() == 2, "{plan:?}");
    make_older(&path, "marks", 25 * hour);
    // A backup that began before the mark by the lease's own account still runs.
    let lease = crate::backup::lease::tests_lease(repository.target(), 26 * hour);
    assert!(repository.prune_plan(&usual).unwrap().delete.is_empty());
    lease.end().unwrap();
    // A backup of meanwhile needs some of it: that pack is spared without being copied.
    let kept = TestDisk::new(4 * CHUNK as u64, (0..4).map(|n| (n, n as u8 * 2 + 2)));
    let second = back_up(&repository, &kept).unwrap();
    assert_eq!(second.added, 0);
    let report = repository.prune(&repository.prune_plan(&usual).unwrap()).unwrap();
    assert_eq!((report.deleted, report.copied_bytes), (0, 0));
    assert!(listed(repository.target(), "marks").unwrap().is_empty());
    forget(&repository, second.id);
    repository.prune(&repository.prune_plan(&usual).unwrap()).unwrap();
    make_older(&path, "marks", 25 * hour);
    repository.prune(&repository.prune_plan(&usual).unwrap()).unwrap();
    assert_eq!(stored(&repository), 0);
}

#[test]
fn a_backup_whose_packs_are_pruned_beneath_it_copies_or_says_so() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let disk = TestDisk::new(8 * CHUNK as u64, (0..8).map(|n| (n, n as u8 * 2 + 2)));
    let first = back_up(&repository, &disk).unwrap().id;
    // The running backup has found all its chunks known when they are pruned away.
    let mut session = repository.begin(options()).unwrap();
    session.disk("disk-0", &disk, None).unwrap();
    forget(&repository, first);
    assert!(prune(&open(&path, Form::Encrypted)).unwrap().deleted > 0);
    let ended = session.finish();
    assert!(matches!(ended, Err(Error::Raced(_))), "{ended:?}");
    assert!(repository.backups().unwrap().is_empty());
    assert!(listed(repository.target(), "claims").unwrap().is_empty());
    let again = back_up(&repository, &disk).unwrap().id;
    assert_eq!(content(&repository, again).unwrap(), bytes_of(&disk));
    // One that is pruned while a doom is only announced can still copy.
    let mut session = repository.begin(options()).unwrap();
    session.disk("disk-0", &disk, None).unwrap();
    let packs: Vec<Id> = repository.packs().unwrap().into_keys().collect();
    crate::backup::doom::announce(repository.target(), packs.clone(), 0).unwrap();
    let copied = session.finish().unwrap().id;
    forget(&repository, again);
    prune(&repository).unwrap();
    assert!(repository.packs().unwrap().keys().all(|pack| !packs.contains(pack)));
    assert_eq!(content(&repository, copied).unwrap(), bytes_of(&disk));
    assert_clean(&repository);
}

#[test]
fn a_claim_whose_writer_died_is_finished_or_dropped() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let disk = TestDisk::new(8 * CHUNK as u64, (0..8).map(|n| (n, n as u8 * 2 + 2)));
    let id = back_up(&repository, &disk).unwrap().id;
    std::fs::rename(path.join(format!("manifests/{id}")), path.join(format!("claims/{id}"))).unwrap();
    assert!(repository.backups().unwrap().is_empty());
    // It is needed, though it is not visible.
    let plan = repository.prune_plan(&PruneOptions::default()).unwrap();
    assert!(plan.delete.is_empty() && plan.mark.is_empty());
    assert!(repository.prune(&plan).unwrap().finished.is_empty());
    assert_eq!(prune(&repository).unwrap().finished, [id]);
    assert_eq!(content(&repository, id).unwrap(), bytes_of(&disk));
    std::fs::rename(path.join(format!("manifests/{id}")), path.join(format!("claims/{id}"))).unwrap();
    for file in listed(repository.target(), "data").unwrap() {
        std::fs::remove_file(path.join(file.name)).unwrap();
    }
    assert_eq!(prune(&repository).unwrap().dropped, [id]);
    assert_clean(&repository);
}

#[test]
fn four_writers_and_a_prune_at_once_lose_nothing() {
    let (_folder, path) = place();
    init(Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
    let stop = AtomicBool::new(false);
    let (path, stop) = (&path, &stop);
    let reported = std::thread::scope(|scope| {
        let pruner = scope.spawn(move || {
            let mut rounds = 0;
            while !stop.load(Ordering::SeqCst) || rounds < 3 {
                // Something always goes, and a grace period is never kept.
                let repository = open(path, Form::Plain);
                prune(&repository).unwrap();
                rounds += 1;
            }
        });
        let writers: Vec<_> = (0..4u8)
            .map(|writer| {
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for round in 0..6u8 {
                        let seed = |n: u64| ((n as u8).wrapping_mul(2).wrapping_add(round % 3 * 8 + writer)).max(1);
                        let disk = TestDisk::new(8 * CHUNK as u64, (0..8).map(|n| (n, seed(n))));
                        let repository = open(path, Form::Plain);
                        match back_up(&repository, &disk) {
                            Ok(summary) if round % 2 == 0 => kept.push((summary.id, disk)),
                            Ok(summary) => forget(&repository, summary.id),
                            Err(Error::Raced(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    kept
                })
            })
            .collect();
        let reported: Vec<_> = writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
        stop.store(true, Ordering::SeqCst);
        pruner.join().unwrap();
        reported
    });
    let repository = open(path, Form::Plain);
    assert_clean(&repository);
    let visible: HashSet<Id> = repository.backups().unwrap().into_iter().map(|(id, _)| id).collect();
    for (id, disk) in reported {
        assert!(visible.contains(&id));
        assert!(content(&repository, id).unwrap() == bytes_of(&disk));
    }
}

#[test]
fn a_forget_is_its_plan_and_a_large_one_is_refused() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
    let disk = TestDisk::new(CHUNK as u64, [(0, 3)]);
    for _ in 0..4 {
        back_up(&repository, &disk).unwrap();
    }
    assert!(matches!(repository.forget_plan(&Keep::default()), Err(Error::Option(_))));
    let plan = repository.forget_plan(&Keep { last: 1, ..Keep::default() }).unwrap();
    assert!(matches!(repository.forget(&plan, false), Err(Error::Refused(_))));
    assert_eq!(repository.backups().unwrap().len(), 4);
    assert_eq!(repository.forget(&plan, true).unwrap(), 3);
    let left = repository.backups().unwrap();
    let kept: Vec<Id> = plan.decisions.iter().filter(|d| !d.kept_for.is_empty()).map(|d| d.id).collect();
    assert_eq!(left.iter().map(|(id, _)| *id).collect::<Vec<_>>(), kept);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_backups_forgets_and_prunes_keeps_what_is_not_forgotten(
        steps in prop::collection::vec((0u8..4, prop::collection::btree_map(0u64..6, 1u8..14, 0..6)), 1..12),
    ) {
        let (_folder, path) = place();
        let repository = init(Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
        let mut alive: Vec<(Id, TestDisk)> = Vec::new();
        for (what, chunks) in steps {
            match what {
                0 | 1 => {
                    let disk = TestDisk::new(6 * CHUNK as u64, chunks);
                    alive.push((back_up(&repository, &disk).unwrap().id, disk));
                }
                2 if !alive.is_empty() => forget(&repository, alive.remove(0).0),
                _ => drop(prune(&repository).unwrap()),
            }
        }
        let report = repository.check(Depth::ReadData).unwrap();
        prop_assert!(report.is_clean(), "{:?}", report);
        for (id, disk) in &alive {
            prop_assert!(content(&repository, *id).unwrap() == bytes_of(disk));
        }
    }
}
