//! Keys: added, listed, removed and rotated, by several at once, and none is lost.

use super::power::copy_folder;
use super::pruning::assert_clean;
use super::*;
use crate::backup::Error;
use crate::backup::lease;
use crate::backup::target::listed;

fn open_as(path: &Path, text: &str) -> Result<Repository> {
    Repository::open(Arc::new(FolderTarget::new(path)), Some(&secret(text)), None)
}

#[test]
fn a_list_of_keys_says_which_is_in_use() {
    let (_folder, path) = place();
    let first = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let second = first.add_key(&secret("second"), CHEAP, "of the other admin").unwrap();
    let keys = open_as(&path, "second").unwrap().keys().unwrap();
    assert_eq!(keys.len(), 2);
    let used: Vec<_> = keys.iter().filter(|key| key.in_use).map(|key| (key.id, key.label.as_str())).collect();
    assert_eq!(used, [(second, "of the other admin")]);
    assert!(keys.iter().all(|key| !key.made.is_empty()));
    assert_eq!(first.key_of(&second.to_string()[..8]).unwrap(), second);
    assert!(first.key_of("").is_err() && first.key_of(&second.to_string()[..7]).is_err());
    assert!(first.add_key(&secret(""), CHEAP, "").is_err());
}

#[test]
fn neither_the_last_key_nor_the_one_in_use_goes_by_accident() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let own = repository.key().unwrap();
    assert!(matches!(repository.remove_key(own, true), Err(Error::Key(_))));
    let other = repository.add_key(&secret("other"), CHEAP, "").unwrap();
    assert!(matches!(repository.remove_key(own, false), Err(Error::Refused(_))));
    assert!(matches!(repository.remove_key(Id::of(b"none"), true), Err(Error::Missing(_))));
    // A key that cannot be read is no other key.
    let place = path.join(format!("keys/{other}"));
    let whole = std::fs::read(&place).unwrap();
    std::fs::write(&place, b"{}").unwrap();
    assert!(matches!(repository.remove_key(own, true), Err(Error::Key(_))));
    std::fs::write(&place, whole).unwrap();
    repository.remove_key(own, true).unwrap();
    assert!(open_as(&path, "passphrase").is_err());
    open_as(&path, "other").unwrap();
    // Who opened with a key that is gone adds none: a rotation may have shut that one out.
    assert!(matches!(repository.add_key(&secret("late"), CHEAP, ""), Err(Error::Key(_))));
    assert!(listed(repository.target(), "locks").unwrap().is_empty());
}

#[test]
fn two_rotations_at_once_are_made_one_after_the_other_or_refused() {
    for round in 0..8 {
        let (_folder, path) = place();
        let first = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
        let disk = TestDisk::new(CHUNK as u64 * 2, [(0, 2), (1, 4)]);
        let id = back_up(&first, &disk).unwrap().id;
        let secrets = ["one", "two", "three"];
        let path = &path;
        let ended: Vec<Result<Option<Id>>> = std::thread::scope(|scope| {
            let rotations: Vec<_> = secrets
                .iter()
                .map(|text| {
                    scope.spawn(move || -> Result<Option<Id>> {
                        let mut repository = open_as(path, "passphrase")?;
                        repository.rotate_key(&secret(text), CHEAP, text, true)?;
                        // What is written with the new key must be readable ever after.
                        Ok(Some(back_up(&repository, &TestDisk::new(CHUNK as u64, [(0, 6)]))?.id))
                    })
                })
                .collect();
            rotations.into_iter().map(|rotation| rotation.join().unwrap()).collect()
        });
        let won: Vec<_> = secrets.iter().zip(&ended).filter(|(_, ended)| ended.is_ok()).collect();
        assert_eq!(won.len(), 1, "round {round}: {ended:?}");
        for error in ended.iter().filter_map(|ended| ended.as_ref().err()) {
            assert!(matches!(error, Error::Refused(_) | Error::Key(_)), "{error}");
        }
        let repository = open_as(path, won[0].0).unwrap();
        assert_eq!(repository.keys().unwrap().len(), 1);
        assert_clean(&repository);
        content(&repository, id).unwrap();
        content(&repository, won[0].1.as_ref().unwrap().unwrap()).unwrap();
    }
}

#[test]
fn no_master_key_goes_with_the_last_file_that_holds_it() {
    // Two rotations that did not see each other, as where one slept for an hour before its last step.
    let (_folder, path) = place();
    let (_other_folder, other) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    copy_folder(&path, &other);
    open_as(&path, "passphrase").unwrap().rotate_key(&secret("one"), CHEAP, "", true).unwrap();
    open_as(&other, "passphrase").unwrap().rotate_key(&secret("two"), CHEAP, "", true).unwrap();
    copy_folder(&other.join("keys"), &path.join("keys"));
    let (one, two) = (open_as(&path, "one").unwrap(), open_as(&path, "two").unwrap());
    back_up(&one, &TestDisk::new(CHUNK as u64, [(0, 6)])).unwrap();
    let mut rotated = open_as(&path, "one").unwrap();
    let refused = rotated.rotate_key(&secret("three"), CHEAP, "", true);
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    assert!(matches!(two.remove_key(one.key().unwrap(), false), Err(Error::Refused(_))));
    assert_eq!(repository.keys().unwrap().len(), 2);
    // Knowingly it can be done.
    one.remove_key(two.key().unwrap(), true).unwrap();
    rotated.rotate_key(&secret("three"), CHEAP, "", true).unwrap();
    assert_clean(&open_as(&path, "three").unwrap());
}

#[test]
fn a_repair_with_an_older_key_drops_nothing_of_a_newer_one() {
    for replayed in [true, false] {
        let (_folder, path) = place();
        let (_before_folder, before) = place();
        let mut repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
        let old = back_up(&repository, &TestDisk::new(CHUNK as u64, [(0, 4)])).unwrap().id;
        copy_folder(&path, &before);
        let new = repository.rotate_key(&secret("new"), CHEAP, "", false).unwrap().id;
        let disk = TestDisk::new(CHUNK as u64 * 2, [(0, 6), (1, 8)]);
        let id = back_up(&repository, &disk).unwrap().id;
        // An old key file came back: beside the new one, or in its place.
        copy_folder(&before.join("keys"), &path.join("keys"));
        let kept = std::fs::read(path.join(format!("keys/{new}"))).unwrap();
        if !replayed {
            std::fs::remove_file(path.join(format!("keys/{new}"))).unwrap();
        }
        let older = open_as(&path, "passphrase").unwrap();
        for read_data in [true, false] {
            let refused = older.repair(read_data);
            assert!(matches!(refused, Err(Error::Key(_) | Error::UnknownMaster { .. })), "{refused:?}");
        }
        std::fs::write(path.join(format!("keys/{new}")), kept).unwrap();
        let newest = open_as(&path, "new").unwrap();
        assert_clean(&newest);
        assert_eq!(content(&newest, id).unwrap(), bytes_of(&disk));
        content(&newest, old).unwrap();
    }
}

#[test]
fn an_interrupted_rotation_under_the_same_passphrase_reads_both_keys() {
    let (_folder, path) = place();
    let (_before_folder, before) = place();
    let mut repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    copy_folder(&path, &before);
    let same = secret("passphrase");
    let new = repository.rotate_key(&same, CHEAP, "", false).unwrap().id;
    // The old key file was not deleted.
    copy_folder(&before.join("keys"), &path.join("keys"));
    let disk = TestDisk::new(CHUNK as u64, [(0, 6)]);
    let id = back_up(&repository, &disk).unwrap().id;
    for _ in 0..2 {
        let opened = open_as(&path, "passphrase").unwrap();
        assert_eq!(opened.key(), Some(new));
        assert_eq!(content(&opened, id).unwrap(), bytes_of(&disk));
        // Also where the store's times say that the old one is newer.
        let file = std::fs::File::options().write(true).open(path.join(format!("keys/{new}"))).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600)).unwrap();
    }
}

#[test]
fn a_turn_ends_with_its_process_and_with_its_time() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let target = repository.target();
    let held = lease::in_turn(target, "keys", |_| {
        assert!(listed(target, "locks").unwrap().len() == 1);
        assert_clean(&repository);
        repository.add_key(&secret("other"), CHEAP, "").map(drop)
    });
    assert!(matches!(held, Err(Error::Refused(_))), "{held:?}");
    assert!(listed(target, "locks").unwrap().is_empty());
    // A process of this machine that is gone; one of another machine; a file that says nothing.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let gone = child.id();
    child.wait().unwrap();
    let info = |host: &str, process| {
        let host = if host.is_empty() {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            host.to_owned()
        };
        let info = lease::LeaseInfo { uuid: "u".to_owned(), work: "keys".to_owned(), host, process, began_ms: 0 };
        crate::backup::format::with_hash(&info).unwrap()
    };
    for (lock, passes) in [(info("", gone), true), (info("elsewhere", gone), false), (b"nonsense".to_vec(), true)] {
        target.put("locks/keys", &lock).unwrap();
        assert_eq!(repository.add_key(&secret("other"), CHEAP, "").is_ok(), passes);
        if !passes {
            assert!(repository.unlock(false).unwrap().is_empty());
            let lock = std::fs::File::options().write(true).open(path.join("locks/keys")).unwrap();
            lock.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600)).unwrap();
            repository.add_key(&secret("other"), CHEAP, "").unwrap();
            target.put("locks/keys", &info("elsewhere", gone)).unwrap();
            assert_eq!(repository.unlock(true).unwrap().len(), 1);
        }
        assert!(listed(target, "locks").unwrap().is_empty());
    }
}

#[test]
fn who_lost_the_turn_deletes_no_key() {
    let (_folder, path) = place();
    let repository = init(Arc::new(FolderTarget::new(&path)), Form::Encrypted).unwrap();
    let target = repository.target();
    let held = lease::in_turn(target, "keys", |turn| {
        turn.holds()?;
        // Another took this for dead, and has the turn now; or has even given it back.
        target.delete(&["locks/keys".to_owned()])?;
        assert!(matches!(turn.holds(), Err(Error::Refused(_))));
        let info = lease::LeaseInfo {
            uuid: "u".to_owned(),
            work: "keys".to_owned(),
            host: "elsewhere".to_owned(),
            process: 1,
            began_ms: 0,
        };
        target.put("locks/keys", &crate::backup::format::with_hash(&info)?)?;
        turn.holds()
    });
    assert!(matches!(held, Err(Error::Refused(_))), "{held:?}");
    assert_eq!(listed(target, "locks").unwrap().len(), 1, "the turn is the other's");
}
