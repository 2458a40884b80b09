//! A store with locks: what cannot go yet is passed over and said, everything else goes on, and a later prune deletes it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::altered::{Alter, Altered};
use super::pruning::{assert_clean, forget, make_older, prune};
use super::*;
use crate::backup::doom::Dooms;
use crate::backup::target::listed;
use crate::backup::{Error, PruneOptions};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A folder that keeps packs and index files: all of them while it is shut, or those younger than the lock that it says it writes with.
struct Locking {
    inner: FolderTarget,
    shut: AtomicBool,
    time: Option<Duration>,
}

impl Locking {
    fn over(path: &Path, time: Option<Duration>) -> Arc<Altered<Self>> {
        Arc::new(Altered(Self { inner: FolderTarget::new(path), shut: AtomicBool::new(time.is_none()), time }))
    }

    fn keeps(&self, name: &str) -> Result<bool> {
        let folder = name.split('/').next().unwrap();
        if !["data", "index"].contains(&folder) {
            return Ok(false);
        }
        let Some(file) = listed(&self.inner, folder)?.into_iter().find(|file| file.name == name) else {
            return Ok(false);
        };
        let young = |time| self.inner.now().map(|now| now.duration_since(file.written).is_ok_and(|age| age < time));
        Ok(self.shut.load(Ordering::SeqCst) || self.time.map(young).transpose()?.unwrap_or(false))
    }
}

impl Alter for Locking {
    fn inner(&self) -> &FolderTarget {
        &self.inner
    }

    fn delete(&self, names: &[String]) -> Result<()> {
        let (mut kept, mut others) = (Vec::new(), Vec::new());
        for name in names {
            if self.keeps(name)? { kept.push(name.clone()) } else { others.push(name.clone()) }
        }
        self.inner.delete(&others)?;
        match kept.first() {
            None => Ok(()),
            Some(file) => Err(Error::Locked { place: self.inner.place(), file: file.clone(), count: kept.len() }),
        }
    }

    fn lock_time(&self) -> Option<Duration> {
        self.time
    }
}

fn disk(seed: u8) -> TestDisk {
    TestDisk::new(8 * CHUNK as u64, (0..8).map(|n| (n, n as u8 * 2 + seed)))
}

fn packs(repository: &Repository) -> usize {
    repository.packs().unwrap().len()
}

#[test]
fn a_prune_passes_over_what_is_locked_and_a_later_one_deletes_it() {
    for form in [Form::Plain, Form::Encrypted] {
        let (_folder, path) = place();
        let target = Locking::over(&path, None);
        let repository = init(target.clone(), form).unwrap();
        let gone = back_up(&repository, &disk(2)).unwrap().id;
        let kept = back_up(&repository, &disk(100)).unwrap().id;
        let before = packs(&repository);
        forget(&repository, gone);
        for _ in 0..3 {
            let report = prune(&repository).unwrap();
            assert!(report.locked > 0 && report.deleted == 0, "{report:?}");
            assert_eq!(packs(&repository), before);
            assert!(!Dooms::read(repository.target()).unwrap().all_done());
            assert_clean(&repository);
        }
        // Nothing relies on a pack that someone may delete at any time.
        let again = back_up(&repository, &disk(2)).unwrap();
        assert!(again.added > 0);
        target.0.shut.store(false, Ordering::SeqCst);
        let report = prune(&repository).unwrap();
        assert!(report.locked == 0 && report.deleted > 0, "{report:?}");
        assert!(Dooms::read(repository.target()).unwrap().all_done());
        assert_clean(&repository);
        assert_eq!(content(&repository, kept).unwrap(), bytes_of(&disk(100)));
        assert_eq!(content(&repository, again.id).unwrap(), bytes_of(&disk(2)));
        // Nothing is left of it.
        assert!(prune(&repository).unwrap().deleted == 0);
    }
}

#[test]
fn what_a_target_locked_itself_is_not_announced_until_its_time_has_come() {
    let (_folder, path) = place();
    let repository = init(Locking::over(&path, Some(24 * HOUR)), Form::Encrypted).unwrap();
    let gone = back_up(&repository, &disk(2)).unwrap().id;
    // It shares half of its chunks with the other: what it needs of their packs is copied when these go.
    let mut half = disk(100);
    half.chunks.extend(disk(2).chunks.into_iter().take(4));
    let kept = back_up(&repository, &half).unwrap().id;
    forget(&repository, gone);
    let plan = repository.prune_plan(&PruneOptions { unused: 0.0, at_once: true, ..PruneOptions::default() }).unwrap();
    assert!(plan.delete.is_empty() && plan.mark.is_empty() && !plan.locked.is_empty(), "{plan:?}");
    let report = repository.prune(&plan).unwrap();
    assert_eq!((report.locked, report.deleted), (plan.locked.len() as u64, 0));
    assert!(Dooms::read(repository.target()).unwrap().numbers.is_empty());
    // A writer may rely on it all the while.
    assert_eq!(back_up(&repository, &half).unwrap().added, 0);
    // The packs may go, and the index files that name them may not.
    for pair in std::fs::read_dir(path.join("data")).unwrap() {
        make_older(&path, &format!("data/{}", pair.unwrap().file_name().to_string_lossy()), 25 * HOUR);
    }
    let index = listed(repository.target(), "index").unwrap();
    let report = prune(&repository).unwrap();
    assert!(report.locked == 0 && report.deleted > 0, "{report:?}");
    assert!(Dooms::read(repository.target()).unwrap().all_done());
    let after = listed(repository.target(), "index").unwrap();
    assert!(index.iter().all(|file| after.contains(file)));
    for _ in 0..2 {
        prune(&repository).unwrap();
        assert_eq!(listed(repository.target(), "index").unwrap().len(), after.len(), "no more with each prune");
    }
    for repository in
        [open_with(Locking::over(&path, Some(24 * HOUR)), Form::Encrypted).unwrap(), open(&path, Form::Encrypted)]
    {
        assert_clean(&repository);
        assert_eq!(content(&repository, kept).unwrap(), bytes_of(&half));
    }
    // With the next packs that go.
    let short = back_up(&repository, &disk(200)).unwrap().id;
    forget(&repository, short);
    make_older(&path, "index", 25 * HOUR);
    for pair in std::fs::read_dir(path.join("data")).unwrap() {
        make_older(&path, &format!("data/{}", pair.unwrap().file_name().to_string_lossy()), 25 * HOUR);
    }
    assert!(prune(&repository).unwrap().deleted > 0);
    let last = listed(repository.target(), "index").unwrap();
    assert!(index.iter().any(|file| !last.contains(file)), "what names packs that are gone is replaced");
    assert_clean(&repository);
    assert_eq!(content(&repository, kept).unwrap(), bytes_of(&half));
}

#[test]
fn a_repair_passes_over_what_is_locked() {
    let (_folder, path) = place();
    let target = Locking::over(&path, None);
    let repository = init(target.clone(), Form::Encrypted).unwrap();
    let id = back_up(&repository, &disk(2)).unwrap().id;
    let pack = repository.packs().unwrap().into_keys().min().unwrap();
    let file = path.join(crate::backup::pack::name(pack));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40] ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
    let report = repository.repair(true).unwrap();
    assert_eq!((report.locked, report.dropped), (1, vec![pack]));
    assert!(report.hurt.contains(&id));
    assert!(!Dooms::read(repository.target()).unwrap().all_done());
    // The next backup brings the lost chunk back, and does not rely on what is damaged.
    let again = back_up(&repository, &disk(2)).unwrap();
    assert!(again.added > 0);
    assert_eq!(content(&repository, again.id).unwrap(), bytes_of(&disk(2)));
    target.0.shut.store(false, Ordering::SeqCst);
    prune(&repository).unwrap();
    assert!(!repository.packs().unwrap().contains_key(&pack));
    assert_clean(&repository);
}
