//! The cache is no part of the repository: whatever happens to it, answers are right, or there are none.

use std::path::PathBuf;

use proptest::prelude::*;

use super::pruning::{assert_clean, forget, prune};
use super::*;

fn open_in(path: &Path, cache: &Path) -> Repository {
    Repository::open(Arc::new(FolderTarget::new(path)), None, Some(cache.to_path_buf())).unwrap()
}

fn disk(seed: u8) -> TestDisk {
    TestDisk::new(4 * CHUNK as u64, (0..4).map(|n| (n, seed.wrapping_mul(8) + n as u8 * 2 + 2)))
}

/// A repository of several backups, with a cache that knows them.
fn made(count: u8) -> (tempfile::TempDir, PathBuf, PathBuf, Vec<(Id, TestDisk)>) {
    let (folder, path) = place();
    let cache = folder.path().join("cache");
    init(Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
    let made = (0..count).map(|n| (back_up(&open_in(&path, &cache), &disk(n)).unwrap().id, disk(n))).collect();
    (folder, path, cache, made)
}

fn all_there(path: &Path, cache: &Path, made: &[(Id, TestDisk)]) {
    let repository = open_in(path, cache);
    for (id, disk) in made {
        assert_eq!(content(&repository, *id).unwrap(), bytes_of(disk));
        assert_eq!(back_up(&repository, disk).unwrap().added, 0);
    }
}

fn runs(cache: &Path) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(cache).unwrap().next().unwrap().unwrap().path();
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_damaged_cache_is_made_anew_and_never_believed() {
    let (_folder, path, cache, made) = made(3);
    for at in [0usize, 1, 2, 3, 5, 8, 13] {
        for run in runs(&cache) {
            let mut bytes = std::fs::read(&run).unwrap();
            let length = bytes.len();
            bytes[at * (length - 1) / 13] ^= 1 << (at % 8);
            std::fs::write(&run, bytes).unwrap();
        }
        all_there(&path, &cache, &made);
    }
    for run in runs(&cache) {
        let bytes = std::fs::read(&run).unwrap();
        std::fs::write(&run, &bytes[..bytes.len() / 2]).unwrap();
    }
    all_there(&path, &cache, &made);
    for run in runs(&cache) {
        std::fs::write(&run, b"").unwrap();
    }
    all_there(&path, &cache, &made);
    // A folder where a run should be.
    for run in runs(&cache) {
        std::fs::remove_file(&run).unwrap();
        std::fs::create_dir(&run).unwrap();
    }
    all_there(&path, &cache, &made);
}

#[test]
fn a_cache_that_goes_while_it_is_open_is_missed_by_nobody() {
    let (_folder, path, cache, made) = made(3);
    let repository = open_in(&path, &cache);
    let mut session = repository.begin(options()).unwrap();
    std::fs::remove_dir_all(&cache).unwrap();
    session.disk("disk-0", &disk(9), None).unwrap();
    // Where a file is in its place, nothing can be made there.
    std::fs::write(&cache, b"").unwrap();
    let id = session.finish().unwrap().id;
    assert_eq!(content(&repository, id).unwrap(), bytes_of(&disk(9)));
    assert_eq!(content(&repository, made[0].0).unwrap(), bytes_of(&made[0].1));
    all_there(&path, &cache, &made);
    all_there(&path, Path::new("/proc/no-such-folder"), &made);
}

#[test]
fn a_cache_of_another_repository_answers_nothing() {
    let (_folder, path, cache, made) = made(3);
    let (_other_folder, other_path, other_cache, other_made) = self::made(2);
    let folder = |cache: &Path| std::fs::read_dir(cache).unwrap().next().unwrap().unwrap().path();
    for run in runs(&other_cache) {
        std::fs::copy(&run, folder(&cache).join(run.file_name().unwrap())).unwrap();
    }
    all_there(&path, &cache, &made);
    all_there(&other_path, &other_cache, &other_made);
    // A config cannot name a folder elsewhere.
    let config = std::fs::read_to_string(path.join("config")).unwrap();
    let id = open_in(&path, &cache).config().id.clone();
    for hostile in ["../../../etc", "", "/tmp", "a/b"] {
        let mut text = config.lines().next().unwrap().replace(&id, hostile) + "\n";
        text += &format!("{}\n", Id::of(text.as_bytes()));
        std::fs::write(path.join("config"), &text).unwrap();
        assert_eq!(open_in(&path, &cache).config().id, id, "its copy is whole");
        std::fs::write(path.join("config-copy"), text).unwrap();
        let opened = Repository::open(Arc::new(FolderTarget::new(&path)), None, Some(cache.clone()));
        assert!(matches!(opened, Err(crate::backup::Error::Damaged { .. })));
        std::fs::write(path.join("config-copy"), &config).unwrap();
    }
}

#[test]
fn a_cache_that_is_older_than_a_prune_relies_on_nothing_that_went() {
    let (folder, path, cache, made) = made(3);
    let stale = folder.path().join("stale");
    super::power::copy_folder(&cache, &stale);
    let repository = open_in(&path, &cache);
    forget(&repository, made[0].0);
    assert!(prune(&repository).unwrap().deleted > 0);
    // By the old cache, all of the first disk is known.
    let again = open_in(&path, &stale);
    let summary = back_up(&again, &made[0].1).unwrap();
    assert!(summary.added > 0);
    assert_eq!(content(&again, summary.id).unwrap(), bytes_of(&made[0].1));
    all_there(&path, &stale, &made[1..]);
    assert_clean(&open_in(&path, &stale));
}

#[test]
fn processes_that_share_a_cache_do_not_disturb_each_other() {
    let (_folder, path, cache, _) = made(1);
    let (path, cache) = (&path, &cache);
    let made: Vec<(Id, TestDisk)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u8)
            .map(|writer| {
                scope.spawn(move || {
                    (0..6u8)
                        .map(|round| {
                            let disk = disk(writer * 6 + round);
                            let repository = open_in(path, cache);
                            let id = back_up(&repository, &disk).unwrap().id;
                            if round == 3 && writer == 0 {
                                drop(std::fs::remove_dir_all(cache));
                            }
                            (id, disk)
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    all_there(path, cache, &made);
    assert!(runs(cache).len() <= 10);
}

#[test]
fn what_a_session_adds_is_merged_while_it_runs() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Plain).unwrap();
    let known = repository.known().unwrap();
    let entry = |n: u32| crate::backup::pack::Entry {
        flags: crate::backup::blob::Flags(0),
        id: Id::of(&n.to_le_bytes()),
        offset: 32,
        stored: 9,
        raw: 9,
    };
    for n in 0..60u32 {
        let entries = (0..50).map(|m| entry(n * 50 + m)).collect();
        let pack = crate::backup::pack::Pack { id: Id::of(&[n as u8]), size: 1000, entries };
        known.landed(&pack);
        known.absorb(Id::of(&[n as u8, 1]), &[pack]).unwrap();
        assert!(known.runs() <= 9);
    }
    for n in 0..3000 {
        assert_eq!(known.find(&entry(n).id).unwrap().unwrap().pack, Id::of(&[(n / 50) as u8]));
        assert!(!known.take_on(&entry(n).id).unwrap());
    }
    assert!(known.take_on(&Id::of(b"new")).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn no_byte_of_a_cache_can_be_wrong_and_matter(at in 0.0f64..1.0, bit in 0u8..8, cut: bool) {
        let (_folder, path, cache, made) = made(2);
        for run in runs(&cache) {
            let mut bytes = std::fs::read(&run).unwrap();
            let place = (bytes.len() as f64 * at) as usize;
            if cut { bytes.truncate(place) } else { bytes[place] ^= 1 << bit }
            std::fs::write(&run, bytes).unwrap();
        }
        all_there(&path, &cache, &made);
    }
}
