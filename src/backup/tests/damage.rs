//! Every kind of file, every kind of byte: a check names what is damaged, and nothing wrong is ever given out.

use super::pruning::assert_clean;
use super::*;
use crate::backup::target::listed;
use crate::backup::{Depth, Error, PruneOptions};

const FOLDERS: [&str; 9] = ["data", "index", "manifests", "keys", "claims", "marks", "dooms", "leases", "locks"];

/// A repository that has every kind of file, and the disks of its backups.
fn every_kind(path: &Path, form: Form) -> Vec<(Id, TestDisk)> {
    let repository = init(Arc::new(FolderTarget::new(path)), form).unwrap();
    let disks: Vec<TestDisk> = [[2u8, 3, 5], [2, 7, 1], [9, 11, 13]]
        .iter()
        .map(|seeds| TestDisk::new(3 * CHUNK as u64 - 99, seeds.iter().enumerate().map(|(n, seed)| (n as u64, *seed))))
        .collect();
    let made: Vec<(Id, TestDisk)> =
        disks.iter().map(|disk| (back_up(&repository, disk).unwrap().id, disk.clone())).collect();
    std::fs::create_dir_all(path.join("claims")).unwrap();
    let third = made[2].0;
    std::fs::rename(path.join(format!("manifests/{third}")), path.join(format!("claims/{third}"))).unwrap();
    crate::backup::mark::put(repository.target(), vec![third]).unwrap();
    let number = crate::backup::doom::announce(repository.target(), vec![third], 0).unwrap();
    crate::backup::doom::done(repository.target(), &[number]).unwrap();
    crate::backup::doom::announce(repository.target(), vec![third], 0).unwrap();
    // Two of each that comes in several, so that they can be exchanged.
    crate::backup::mark::put(repository.target(), vec![made[0].0]).unwrap();
    std::mem::forget([(); 2].map(|()| crate::backup::lease::Lease::take(repository.target(), "backup").unwrap()));
    let info = crate::backup::lease::list(repository.target()).unwrap().remove(0).info;
    repository.target().put("locks/keys", &crate::backup::format::with_hash(&info).unwrap()).unwrap();
    if form == Form::Encrypted {
        repository.target().delete(&["locks/keys".to_owned()]).unwrap();
        repository.add_key(&secret("another"), CHEAP, "").unwrap();
        repository.target().put("locks/keys", &crate::backup::format::with_hash(&info).unwrap()).unwrap();
    }
    made[..2].to_vec()
}

fn files(path: &Path) -> Vec<String> {
    let target = FolderTarget::new(path);
    let in_folders = FOLDERS.iter().flat_map(|folder| listed(&target, folder).unwrap()).map(|file| file.name);
    in_folders.chain(["config", "config-copy"].map(str::to_owned)).collect()
}

/// Checks a repository of which one file is damaged: it is named, and no backup is read with a wrong byte.
fn is_named(path: &Path, form: Form, file: &str, how: &str, made: &[(Id, TestDisk)], depth: Depth) {
    let opened = open_with(Arc::new(FolderTarget::new(path)), form);
    let repository = match opened {
        Ok(repository) => repository,
        Err(error) => {
            assert!(file.starts_with("keys/"), "{file} {how}: {error}");
            assert!(
                error.to_string().contains(file.split('/').next().unwrap()) || matches!(error, Error::Key(_)),
                "{error}"
            );
            return;
        }
    };
    let report = repository.check(depth).unwrap();
    assert!(report.problems.iter().any(|problem| problem.file == file), "{file} {how}: {:?}", report.problems);
    for (id, disk) in made {
        let read = content(&repository, *id);
        match &read {
            Ok(bytes) => assert!(*bytes == bytes_of(disk), "{file} {how}: a wrong byte"),
            Err(error) => assert!(error.is_damage(), "{error}"),
        }
        // What cannot be read is said to be hurt. An index that is damaged hurts until it is repaired.
        let listed_damaged = report.problems.iter().any(|problem| problem.file == format!("manifests/{id}"));
        assert!(
            read.is_ok() || report.hurt.contains(id) || listed_damaged || file.starts_with("index/"),
            "{file} {how}"
        );
    }
}

#[test]
fn every_damage_is_named_and_never_read() {
    for form in [Form::Plain, Form::Encrypted] {
        let (_folder, path) = place();
        let made = every_kind(&path, form);
        assert_clean(&open(&path, form));
        let mut kinds = std::collections::BTreeSet::new();
        for file in files(&path) {
            kinds.insert(file.split('/').next().unwrap().to_owned());
            let place = path.join(&file);
            let whole = std::fs::read(&place).unwrap();
            let length = whole.len();
            // Every part of a pack: header, blobs, table, trailer; and of any other file some bytes of every region.
            let mut places: Vec<usize> = (0..5).map(|n| n * (length - 1) / 4).collect();
            places.extend([
                8,
                17,
                31,
                32,
                40,
                73,
                length.saturating_sub(49),
                length.saturating_sub(12),
                length.saturating_sub(90),
            ]);
            for at in places.into_iter().filter(|at| *at < length) {
                let mut flipped = whole.clone();
                flipped[at] ^= if at % 2 == 0 { 1 } else { 0x80 };
                std::fs::write(&place, &flipped).unwrap();
                is_named(&path, form, &file, &format!("flipped at {at} of {length}"), &made, Depth::ReadData);
            }
            for cut in [0, 1, length / 2, length - 1] {
                std::fs::write(&place, &whole[..cut]).unwrap();
                is_named(&path, form, &file, &format!("cut to {cut}"), &made, Depth::ReadData);
            }
            let mut longer = whole.clone();
            longer.push(0);
            std::fs::write(&place, &longer).unwrap();
            is_named(&path, form, &file, "longer", &made, Depth::ReadData);
            let mut swapped = whole.clone();
            let (one, other) = (length / 5, length * 4 / 5);
            swapped.swap(one, other);
            if swapped != whole {
                std::fs::write(&place, &swapped).unwrap();
                is_named(&path, form, &file, "with two bytes exchanged", &made, Depth::ReadData);
            }
            std::fs::write(&place, &whole).unwrap();
        }
        assert_eq!(kinds.len(), if form == Form::Plain { 10 } else { 11 }, "{kinds:?}");
        assert_clean(&open(&path, form));
    }
}

#[test]
fn files_that_were_swapped_are_named() {
    for form in [Form::Plain, Form::Encrypted] {
        let (_folder, path) = place();
        let made = every_kind(&path, form);
        for folder in FOLDERS {
            let names: Vec<String> =
                listed(&FolderTarget::new(&path), folder).unwrap().into_iter().map(|file| file.name).collect();
            for pair in names.windows(2) {
                let swap = || {
                    let aside = path.join("aside");
                    std::fs::rename(path.join(&pair[0]), &aside).unwrap();
                    std::fs::rename(path.join(&pair[1]), path.join(&pair[0])).unwrap();
                    std::fs::rename(&aside, path.join(&pair[1])).unwrap();
                };
                swap();
                is_named(&path, form, &pair[0], "swapped", &made, Depth::ReadData);
                is_named(&path, form, &pair[1], "swapped", &made, Depth::ReadData);
                swap();
            }
        }
        assert_clean(&open(&path, form));
    }
}

#[test]
fn a_file_that_was_removed_is_missed_or_was_of_no_use() {
    for form in [Form::Plain, Form::Encrypted] {
        let (_folder, path) = place();
        let made = every_kind(&path, form);
        for file in files(&path) {
            let place = path.join(&file);
            let whole = std::fs::read(&place).unwrap();
            std::fs::remove_file(&place).unwrap();
            match file.split('/').next().unwrap() {
                "data" | "config" => is_named(&path, form, &file, "removed", &made, Depth::ReadData),
                // Blobs that no index names are not found: their backups are said to be hurt, until a repair.
                "index" => {
                    let report = open(&path, form).check(Depth::ReadData).unwrap();
                    for (id, disk) in &made {
                        let read = content(&open(&path, form), *id);
                        assert!(read.map_or(report.hurt.contains(id), |bytes| bytes == bytes_of(disk)), "{file}");
                    }
                }
                // A backup without its manifest is none; the others are whole. What is advisory is not missed.
                _ => {
                    if let Ok(repository) = open_with(Arc::new(FolderTarget::new(&path)), form) {
                        assert_clean(&repository);
                        let left = repository.backups().unwrap();
                        for (id, disk) in made.iter().filter(|(id, _)| left.iter().any(|(there, _)| there == id)) {
                            assert_eq!(content(&repository, *id).unwrap(), bytes_of(disk));
                        }
                    } else {
                        assert!(file.starts_with("keys/"), "{file}");
                    }
                }
            }
            std::fs::write(&place, &whole).unwrap();
        }
        assert_clean(&open(&path, form));
    }
}

#[test]
fn missing_files_and_cut_packs_are_named_without_reading_data() {
    let (_folder, path) = place();
    let made = every_kind(&path, Form::Plain);
    for file in listed(&FolderTarget::new(&path), "data").unwrap() {
        let place = path.join(&file.name);
        let whole = std::fs::read(&place).unwrap();
        std::fs::write(&place, &whole[..whole.len() - 1]).unwrap();
        is_named(&path, Form::Plain, &file.name, "cut", &made, Depth::Structure);
        std::fs::remove_file(&place).unwrap();
        let report = open(&path, Form::Plain).check(Depth::Structure).unwrap();
        // The pack of the claim alone is missed by the claim.
        assert!(report.problems.iter().any(|problem| problem.file == file.name), "{:?}", report.problems);
        std::fs::write(&place, &whole).unwrap();
    }
    assert_clean(&open(&path, Form::Plain));
}

#[test]
fn the_parts_of_a_subset_read_every_pack_once() {
    let (_folder, path) = place();
    every_kind(&path, Form::Plain);
    let repository = open(&path, Form::Plain);
    let all = repository.check(Depth::ReadData).unwrap().read;
    let parts: u64 = (1..=3).map(|part| repository.check(Depth::Subset { part, of: 3 }).unwrap().read).sum();
    assert_eq!(parts, all);
    assert!(matches!(repository.check(Depth::Subset { part: 0, of: 3 }), Err(Error::Option(_))));
    assert!(matches!(repository.check(Depth::Subset { part: 4, of: 3 }), Err(Error::Option(_))));
}

#[test]
fn a_repair_makes_the_index_anew_and_saves_what_can_be_read() {
    for form in [Form::Plain, Form::Encrypted] {
        let (_folder, path) = place();
        let repository = init(Arc::new(FolderTarget::new(&path)), form).unwrap();
        let disks: Vec<TestDisk> = [[2u8, 4, 6], [8, 10, 12]]
            .iter()
            .map(|seeds| TestDisk::new(3 * CHUNK as u64, seeds.iter().enumerate().map(|(n, seed)| (n as u64, *seed))))
            .collect();
        let ids: Vec<Id> = disks.iter().map(|disk| back_up(&repository, disk).unwrap().id).collect();
        // All index files gone, and one that is nonsense.
        for file in listed(repository.target(), "index").unwrap() {
            std::fs::remove_file(path.join(file.name)).unwrap();
        }
        std::fs::write(path.join("index").join(Id::of(b"").to_string()), b"nonsense").unwrap();
        let repository = open(&path, form);
        assert!(matches!(back_up(&repository, &disks[0]), Err(Error::Damaged { .. })));
        let report = repository.repair(false).unwrap();
        assert!(report.indexed >= 2 && report.hurt.is_empty() && report.left.is_empty(), "{report:?}");
        assert_clean(&repository);
        // A byte of the first chunk of the second backup.
        let file = listed(repository.target(), "data").unwrap().into_iter().map(|file| file.name).find(|name| {
            let id = crate::backup::pack::id_of(name).unwrap();
            let seen = repository.sealer.id(crate::backup::blob::Kind::Chunk, &bytes_of(&disks[1])[..CHUNK]);
            repository.known().unwrap().find(&seen).unwrap().unwrap().pack == id
        });
        let place = path.join(file.unwrap());
        let mut bytes = std::fs::read(&place).unwrap();
        let first = crate::backup::pack::HEADER + 100;
        bytes[first] ^= 1;
        std::fs::write(&place, bytes).unwrap();
        let report = repository.repair(true).unwrap();
        assert_eq!((report.dropped.len(), report.lost, report.left.len()), (1, 1, 1), "{report:?}");
        assert!(report.saved >= 2);
        assert_eq!(report.hurt.iter().copied().collect::<Vec<_>>(), [ids[1]]);
        assert_eq!(content(&repository, ids[0]).unwrap(), bytes_of(&disks[0]));
        assert!(content(&repository, ids[1]).unwrap_err().is_damage());
        // The disk still has the chunk: the next backup brings it back, also to the one that was hurt.
        let again = back_up(&repository, &disks[1]).unwrap().id;
        assert_clean(&repository);
        assert_eq!(content(&repository, ids[1]).unwrap(), bytes_of(&disks[1]));
        assert_eq!(content(&repository, again).unwrap(), bytes_of(&disks[1]));
    }
}

#[test]
fn a_repository_that_lost_its_config_is_not_made_anew_over_its_backups() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let again = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted);
    assert!(matches!(again, Err(Error::AlreadyARepository(_))));
    let id = back_up(&repository, &TestDisk::new(CHUNK as u64, [(0, 6)])).unwrap().id;
    let config = std::fs::read(path.join("config")).unwrap();
    std::fs::remove_file(path.join("config")).unwrap();
    let again = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted);
    assert!(matches!(again, Err(Error::AlreadyARepository(_))), "its copy says so");
    std::fs::remove_file(path.join("config-copy")).unwrap();
    assert!(matches!(init(Arc::new(FolderTarget::new(&path)), Form::Encrypted), Err(Error::NoConfig { .. })));
    let opened = open_with(Arc::new(FolderTarget::new(&path)), Form::Encrypted);
    assert!(matches!(opened, Err(Error::NoConfig { .. })));
    std::fs::write(path.join("config"), config).unwrap();
    content(&open(&path, Form::Encrypted), id).unwrap();
}

#[test]
fn one_damaged_manifest_hides_no_other_backup_and_can_be_forgotten() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let disks = [TestDisk::new(CHUNK as u64, [(0, 2)]), TestDisk::new(CHUNK as u64, [(0, 6)])];
    let ids: Vec<Id> = disks.iter().map(|disk| back_up(&repository, disk).unwrap().id).collect();
    std::fs::write(path.join(format!("manifests/{}", ids[0])), b"nonsense").unwrap();
    let (readable, damaged) = repository.backups_and_damaged().unwrap();
    assert_eq!(readable.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[1..]);
    assert_eq!(damaged.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ids[..1]);
    // What is needed is not known: nothing is deleted.
    assert!(repository.backups().is_err() && repository.prune_plan(&PruneOptions::default()).is_err());
    assert!(matches!(repository.forget_plan_of(&["00112233".to_owned()]), Err(Error::Missing(_))));
    let plan = repository.forget_plan_of(&[ids[0].to_string()[..8].to_owned()]).unwrap();
    assert_eq!(plan.removed().map(|gone| gone.id).collect::<Vec<_>>(), ids[..1]);
    assert_eq!(repository.forget(&plan, false).unwrap(), 1);
    assert_clean(&repository);
    repository.prune_plan(&PruneOptions::default()).unwrap();
    // The last good one of its group is said twice.
    let plan = repository.forget_plan_of(&[ids[1].to_string()]).unwrap();
    assert!(matches!(repository.forget(&plan, false), Err(Error::Refused(_))));
    assert_eq!(repository.forget(&plan, true).unwrap(), 1);
}

#[test]
fn stats_add_up() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
    let chunk = CHUNK as u64;
    back_up(&repository, &TestDisk::new(10 * chunk, [(0, 2), (1, 2), (2, 3), (5, 0)])).unwrap();
    back_up(&repository, &TestDisk::new(10 * chunk, [(0, 2), (1, 4)])).unwrap();
    let stats = repository.stats().unwrap();
    assert_eq!((stats.backups, stats.logical), (2, 20 * chunk));
    assert_eq!((stats.zero, stats.unique, stats.duplicate), (15 * chunk, 3 * chunk, 2 * chunk));
    assert!(stats.compressed > 2 * chunk && stats.compressed < 2 * chunk + 1000 && stats.stored > stats.compressed);
}
